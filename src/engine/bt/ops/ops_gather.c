#include "engine/bt/ops/ops_common.h"
#include "engine/bt/ops/ops_list.h"
#include "engine/bt/ops/xstate.h"

/*
 * VGATHER and VPGATHER (SDM vol. 2): opcodes 90 and 92 have dword indices, 91 and 93 qword indices;
 * VEX.W selects qword elements. An element that was loaded clears its mask, so that a fault leaves
 * an instruction that can simply be run again. Alignment is never checked, as on the host.
 */
struct gather {
    unsigned target, mask, index; /* vector registers */
    unsigned element, index_size; /* bytes */
    unsigned count;
    uint8_t target_bytes[32], mask_bytes[32], index_bytes[32];
};

/* The index register: SIB.index, extended by the inverted VEX.X. */
static unsigned index_register(const struct insn *insn)
{
    unsigned index = insn->sib >> 3 & 7;

    if (insn->mode != 64)
        return index;
    for (unsigned i = 0; i + 1 < insn->len; i++) {
        if (insn->bytes[i] == 0xc4)
            return insn->bytes[i + 1] & 0x40 ? index : index | 8;
        if (insn->bytes[i] == 0xc5)
            break;
    }
    return index;
}

static void load_register(struct x86_cpu *cpu, unsigned reg, uint8_t *bytes)
{
    xs_copy(bytes, xstate_xmm(cpu, reg), 16);
    xs_copy(bytes + 16, xstate_ymm_high(cpu, reg), 16);
}

static void store_register(struct x86_cpu *cpu, unsigned reg, const uint8_t *bytes)
{
    xs_copy(xstate_xmm(cpu, reg), bytes, 16);
    xs_copy(xstate_ymm_high(cpu, reg), bytes + 16, 16);
}

static void gather_begin(struct gather *g, struct x86_cpu *cpu, const struct insn *insn)
{
    unsigned vector = insn->vex_l ? 32 : 16;

    g->target = insn->reg & 15;
    g->mask = insn->vex_vvvv & 15;
    g->index = index_register(insn);
    g->element = insn->vex_w ? 8 : 4;
    g->index_size = insn->opcode & 1 ? 8 : 4;
    g->count = vector / (g->element > g->index_size ? g->element : g->index_size);
    load_register(cpu, g->target, g->target_bytes);
    load_register(cpu, g->mask, g->mask_bytes);
    load_register(cpu, g->index, g->index_bytes);
}

static uint64_t gather_offset(const struct gather *g, const struct x86_cpu *cpu,
                              const struct insn *insn, unsigned i)
{
    const uint8_t *at = g->index_bytes + i * g->index_size;
    int64_t index = g->index_size == 8 ? (int64_t)xs_get64(at) : (int32_t)xs_get32(at);
    uint64_t offset = (uint64_t)insn->mem.disp + ((uint64_t)index << (insn->sib >> 6));

    if (insn->mem.base != GPR_NONE)
        offset += cpu->gpr[insn->mem.base & 15];
    return offset & bytes_mask(insn->addrsize);
}

/*
 * Loads the elements in order; returns false with the fault recorded where one cannot be loaded.
 * Registers change in the elements that are done, and elsewhere only when all are.
 */
static bool gather_elements(struct gather *g, struct x86_cpu *cpu, const struct insn *insn)
{
    enum x86_segreg seg = (enum x86_segreg)insn->mem.seg;

    for (unsigned i = 0; i < g->count; i++) {
        uint8_t *mask = g->mask_bytes + i * g->element;

        if ((mask[g->element - 1] & 0x80) &&
            seg_read_parts(cpu, seg, gather_offset(g, cpu, insn, i),
                           g->target_bytes + i * g->element, g->element, 1) < 0)
            return false;
        xs_zero(mask, g->element);
    }
    xs_zero(g->mask_bytes, 32);
    xs_zero(g->target_bytes + g->count * g->element, 32 - g->count * g->element);
    return true;
}

enum op_result op_gather(struct x86_cpu *cpu, const struct insn *insn)
{
    struct gather g;
    bool complete;

    if (!op_exists(cpu, insn) || !insn->mem.present || !insn->has_sib)
        return op_raise(cpu, X86_UD);
    if (fpu_check(cpu, FPU_AVX) < 0)
        return OP_FAULT;
    xstate_park(cpu);
    gather_begin(&g, cpu, insn);
    if (g.target == g.mask || g.target == g.index || g.mask == g.index)
        return op_raise(cpu, X86_UD);
    complete = gather_elements(&g, cpu, insn);
    store_register(cpu, g.target, g.target_bytes);
    store_register(cpu, g.mask, g.mask_bytes);
    xstate_set_in_use(cpu, XC_SSE | XC_AVX);
    return complete ? OP_NEXT : OP_FAULT;
}
