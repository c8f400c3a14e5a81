#include "engine/bt/ops/ops_common.h"
#include "engine/bt/ops/ops_list.h"
#include "engine/bt/ops/xstate.h"

/*
 * Moves under a mask. Elements whose mask bit is clear are not accessed and cannot fault; the
 * others are all checked before the first one moves. Alignment is checked for MASKMOVQ and
 * MASKMOVDQU only, in units of 8 bytes whatever the mask, as on the host.
 */

struct masked_move {
    struct x86_cpu *cpu;
    enum x86_segreg seg;
    uint64_t offset, offset_mask;
    unsigned element, count; /* bytes of an element, number of elements */
    uint32_t selected;       /* bit per element */
};

static bool selected(const struct masked_move *move, unsigned i)
{
    return move->selected >> i & 1;
}

static uint64_t element_offset(const struct masked_move *move, unsigned i)
{
    return (move->offset + i * move->element) & move->offset_mask;
}

static int masked_write(const struct masked_move *move, const uint8_t *from)
{
    struct x86_cpu *cpu = move->cpu;
    uint64_t linear;

    for (unsigned i = 0; i < move->count; i++) {
        if (!selected(move, i))
            continue;
        if (seg_linear(cpu, move->seg, element_offset(move, i), move->element, true, &linear) < 0 ||
            mmu_probe(cpu, linear, move->element, mmu_cpl_access(cpu) | MMU_WRITE) < 0)
            return -1;
    }
    for (unsigned i = 0; i < move->count; i++) {
        if (selected(move, i) && seg_write_parts(cpu, move->seg, element_offset(move, i),
                                                 from + i * move->element, move->element, 1) < 0)
            return -1;
    }
    return 0;
}

/* Elements that are not selected read as 0. */
static int masked_read(const struct masked_move *move, uint8_t *to)
{
    xs_zero(to, (size_t)move->count * move->element);
    for (unsigned i = 0; i < move->count; i++) {
        if (selected(move, i) && seg_read_parts(move->cpu, move->seg, element_offset(move, i),
                                                to + i * move->element, move->element, 1) < 0)
            return -1;
    }
    return 0;
}

/* The mask is the top bit of each element. */
static uint32_t mask_bits(const uint8_t *mask, unsigned element, unsigned count)
{
    uint32_t bits = 0;

    for (unsigned i = 0; i < count; i++) {
        if (mask[(i + 1) * element - 1] & 0x80)
            bits |= 1u << i;
    }
    return bits;
}

/* Every MMX instruction sets TOP to 0 and all tags to valid. */
static void enter_mmx(struct x86_cpu *cpu)
{
    xstate_set_top(cpu, 0);
    cpu->xsave[XS_FTW] = 0xff;
    xstate_set_in_use(cpu, XC_X87);
}

/* MM registers are the physical x87 registers; the image holds ST(i). */
static const uint8_t *mmx_register(const struct x86_cpu *cpu, unsigned reg)
{
    unsigned top = xs_get16(cpu->xsave + XS_FSW) >> 11 & 7;

    return cpu->xsave + XS_ST + 16 * ((reg - top) & 7);
}

enum op_result op_maskmov(struct x86_cpu *cpu, const struct insn *insn)
{
    bool mmx = insn->encoding == ENC_LEGACY && insn->mandatory != 0x66;
    struct masked_move move = {.cpu = cpu, .element = 1, .count = mmx ? 8 : 16};
    const uint8_t *data, *mask;
    uint64_t linear;

    if (!op_exists(cpu, insn))
        return op_raise(cpu, X86_UD);
    if (fpu_check(cpu, mmx ? FPU_MMX : insn->encoding == ENC_LEGACY ? FPU_SSE : FPU_AVX) < 0)
        return OP_FAULT;
    xstate_park(cpu);
    if (mmx && (cpu->xsave[XS_FSW] & FSW_ES))
        return x87_error(cpu);
    if (mmx) {
        enter_mmx(cpu); /* also if the operand faults, as AMD's processors do */
        data = mmx_register(cpu, insn->reg & 7);
        mask = mmx_register(cpu, insn->rm & 7);
    } else {
        data = xstate_xmm(cpu, insn->reg);
        mask = xstate_xmm(cpu, insn->rm);
    }
    move.seg = (enum x86_segreg)insn->mem.seg;
    move.offset_mask = bytes_mask(insn->addrsize);
    move.offset = cpu->gpr[X86_RDI];
    move.selected = mask_bits(mask, 1, move.count);
    /* Unlike the AVX ones these check all bytes (which the SDM leaves to the processor). */
    for (unsigned i = 0; i < move.count; i += 8) {
        if (seg_linear(cpu, move.seg, element_offset(&move, i), 8, true, &linear) < 0 ||
            mmu_check_alignment(cpu, linear, 8) < 0 ||
            mmu_probe(cpu, linear, 8, mmu_cpl_access(cpu) | MMU_WRITE) < 0)
            return OP_FAULT;
    }
    return masked_write(&move, data) < 0 ? OP_FAULT : OP_NEXT;
}

/* VMASKMOVPS/PD 2C-2F, VPMASKMOVD/Q 8C 8E; mask in VEX.vvvv. */
enum op_result op_vmaskmov(struct x86_cpu *cpu, const struct insn *insn)
{
    bool integer = insn->opcode & 0x80;
    bool store = integer ? insn->opcode == 0x8e : (insn->opcode & 2) != 0;
    unsigned element = (integer ? insn->vex_w : insn->opcode & 1) ? 8 : 4;
    unsigned bytes = insn->vex_l ? 32 : 16;
    struct masked_move move = {.cpu = cpu, .element = element, .count = bytes / element};
    uint8_t data[32], mask[32];

    if (!op_exists(cpu, insn) || !insn->mem.present)
        return op_raise(cpu, X86_UD);
    if (fpu_check(cpu, FPU_AVX) < 0)
        return OP_FAULT;
    xstate_park(cpu);
    xs_copy(mask, xstate_xmm(cpu, insn->vex_vvvv), 16);
    xs_copy(mask + 16, xstate_ymm_high(cpu, insn->vex_vvvv), 16);
    move.seg = (enum x86_segreg)insn->mem.seg;
    move.offset_mask = bytes_mask(insn->addrsize);
    move.offset = op_offset(cpu, insn);
    move.selected = mask_bits(mask, element, move.count);
    if (store) {
        xs_copy(data, xstate_xmm(cpu, insn->reg), 16);
        xs_copy(data + 16, xstate_ymm_high(cpu, insn->reg), 16);
        return masked_write(&move, data) < 0 ? OP_FAULT : OP_NEXT;
    }
    xs_zero(data, sizeof(data)); /* a 128-bit load clears the upper half */
    if (masked_read(&move, data) < 0)
        return OP_FAULT;
    xs_copy(xstate_xmm(cpu, insn->reg), data, 16);
    xs_copy(xstate_ymm_high(cpu, insn->reg), data + 16, 16);
    xstate_set_in_use(cpu, XC_SSE | XC_AVX);
    return OP_NEXT;
}
