#include "engine/bt/ops/ops_common.h"
#include "engine/bt/ops/ops_list.h"
#include "engine/bt/ops/xstate.h"

/*
 * The x87 environment in its 16- and 32-bit memory formats (SDM vol. 1, 8.1.10, figures 8-9 to
 * 8-12). Between these and the FXSAVE image the tag word differs (two bits per physical register
 * against one), and where the pointers are.
 */

enum {
    ENV16 = 14,
    ENV32 = 28,
    REGISTERS = 80, /* eight of ten bytes */
    FSW_B = 1 << 15,
    FSW_EXCEPTIONS = 0x3f,
    TAG_VALID = 0,
    TAG_ZERO = 1,
    TAG_SPECIAL = 2,
    TAG_EMPTY = 3,
};

/* The operand-size attribute chooses the format; REX.W only makes 66 have no effect. */
static unsigned environment_size(const struct insn *insn)
{
    bool prefix = (insn->prefixes & PREFIX_OPSIZE) && !(insn->rex & 8);

    return prefix == (insn->mode != 16) ? ENV16 : ENV32;
}

static unsigned top_of(unsigned fsw)
{
    return fsw >> 11 & 7;
}

static unsigned register_tag(const uint8_t *st)
{
    uint64_t significand = xs_get64(st);
    unsigned exponent = xs_get16(st + 8) & 0x7fff;

    if (exponent == 0)
        return significand == 0 ? TAG_ZERO : TAG_SPECIAL;
    if (exponent == 0x7fff || !(significand >> 63))
        return TAG_SPECIAL;
    return TAG_VALID;
}

/* The full tag word; image holds ST(i), tags are of physical registers. */
static unsigned full_tags(const uint8_t *image)
{
    unsigned top = top_of(xs_get16(image + XS_FSW)), tags = 0;

    for (unsigned reg = 0; reg < 8; reg++) {
        unsigned st = (reg - top) & 7;
        unsigned tag = TAG_EMPTY;

        if (image[XS_FTW] >> reg & 1)
            tag = register_tag(image + XS_ST + 16 * st);
        tags |= tag << (2 * reg);
    }
    return tags;
}

static unsigned abridged_tags(unsigned tags)
{
    unsigned abridged = 0;

    for (unsigned reg = 0; reg < 8; reg++) {
        if ((tags >> (2 * reg) & 3) != TAG_EMPTY)
            abridged |= 1u << reg;
    }
    return abridged;
}

/* Real and virtual-8086 mode pack the opcode behind the instruction pointer. */
static bool real_format(const struct x86_cpu *cpu)
{
    return x86_real_mode(cpu) || x86_vm86(cpu);
}

/* What real and virtual-8086 mode store in place of a selector and an offset. */
static uint32_t real_linear(uint16_t selector, uint64_t offset)
{
    return ((uint32_t)selector << 4) + (uint32_t)offset;
}

static void store_pointers16(const struct x86_cpu *cpu, uint8_t *env)
{
    const struct x87_pointers *p = &cpu->x87_pointers;
    uint32_t fip = real_linear(p->fcs, p->fip), fdp = real_linear(p->fds, p->fdp);

    if (real_format(cpu)) {
        xs_put16(env + 6, fip & 0xffff);
        xs_put16(env + 8, (fip >> 4 & 0xf000) | p->fop);
        xs_put16(env + 10, fdp & 0xffff);
        xs_put16(env + 12, fdp >> 4 & 0xf000);
        return;
    }
    xs_put16(env + 6, p->fip & 0xffff);
    xs_put16(env + 8, p->fcs);
    xs_put16(env + 10, p->fdp & 0xffff);
    xs_put16(env + 12, p->fds);
}

static void store_pointers32(const struct x86_cpu *cpu, uint8_t *env)
{
    const struct x87_pointers *p = &cpu->x87_pointers;
    uint32_t fip = real_linear(p->fcs, p->fip), fdp = real_linear(p->fds, p->fdp);

    if (real_format(cpu)) {
        xs_put32(env + 12, 0xffff0000 | (fip & 0xffff));
        xs_put32(env + 16, (fip >> 4 & 0x0ffff000) | p->fop);
        xs_put32(env + 20, 0xffff0000 | (fdp & 0xffff));
        xs_put32(env + 24, fdp >> 4 & 0x0ffff000);
        return;
    }
    xs_put32(env + 12, (uint32_t)p->fip);
    xs_put32(env + 16, (uint32_t)p->fop << 16 | p->fcs);
    xs_put32(env + 20, (uint32_t)p->fdp);
    xs_put32(env + 24, 0xffff0000 | p->fds);
}

static void load_pointers(struct x86_cpu *cpu, unsigned size, const uint8_t *env)
{
    struct x87_pointers p = {0};

    if (size == ENV16) {
        unsigned high_ip = xs_get16(env + 8), high_dp = xs_get16(env + 12);

        p.fip = xs_get16(env + 6);
        p.fdp = xs_get16(env + 10);
        if (real_format(cpu)) {
            p.fip |= (high_ip & 0xf000) << 4;
            p.fdp |= (high_dp & 0xf000) << 4;
            p.fop = high_ip & 0x7ff;
        } else {
            p.fcs = (uint16_t)high_ip;
            p.fds = (uint16_t)high_dp;
        }
    } else if (real_format(cpu)) {
        p.fip = xs_get16(env + 12) | (xs_get32(env + 16) & 0x0ffff000) << 4;
        p.fdp = xs_get16(env + 20) | (xs_get32(env + 24) & 0x0ffff000) << 4;
        p.fop = xs_get16(env + 16) & 0x7ff;
    } else {
        p.fip = xs_get32(env + 12);
        p.fdp = xs_get32(env + 20);
        p.fcs = xs_get16(env + 16);
        p.fds = xs_get16(env + 24);
        p.fop = xs_get16(env + 18) & 0x7ff;
    }
    xstate_set_pointers(cpu, &p);
}

static void store_environment(const struct x86_cpu *cpu, const struct insn *insn, uint8_t *env)
{
    const uint8_t *image = cpu->xsave;
    unsigned fcw = xs_get16(image + XS_FCW), fsw = xs_get16(image + XS_FSW);
    unsigned tags = full_tags(image);

    if (environment_size(insn) == ENV16) {
        xs_put16(env, fcw);
        xs_put16(env + 2, fsw);
        xs_put16(env + 4, tags);
        store_pointers16(cpu, env);
        return;
    }
    xs_put32(env, 0xffff0000 | fcw); /* reserved halves read as ones */
    xs_put32(env + 4, 0xffff0000 | fsw);
    xs_put32(env + 8, 0xffff0000 | tags);
    store_pointers32(cpu, env);
}

/*
 * Control, status and tag word; the summary bits follow from the exceptions that are not masked.
 * The physical registers keep their contents while TOP changes.
 */
static void load_environment(struct x86_cpu *cpu, const struct insn *insn, const uint8_t *env)
{
    unsigned step = environment_size(insn) == ENV16 ? 2 : 4;
    unsigned fcw = xs_get16(env), fsw = xs_get16(env + step), tags = xs_get16(env + 2 * step);
    uint8_t *image = cpu->xsave;

    fsw &= ~(unsigned)(FSW_ES | FSW_B);
    if (fsw & ~fcw & FSW_EXCEPTIONS)
        fsw |= FSW_ES | FSW_B;
    xstate_set_top(cpu, top_of(fsw));
    xs_put16(image + XS_FCW, (fcw & 0x1f3f) | 0x40);
    xs_put16(image + XS_FSW, fsw);
    xs_put16(image + XS_FTW, abridged_tags(tags));
    load_pointers(cpu, environment_size(insn), env);
}

static enum op_result operand(struct x86_cpu *cpu, const struct insn *insn, unsigned size,
                              bool write, uint64_t *linear)
{
    if (!insn->mem.present)
        return op_raise(cpu, X86_UD);
    if (fpu_check(cpu, FPU_X87) < 0)
        return OP_FAULT;
    if (!write) { /* the loads wait for the exceptions of earlier instructions, the stores do not */
        xstate_park(cpu);
        if (xs_get16(cpu->xsave + XS_FSW) & FSW_ES)
            return x87_error(cpu);
    }
    if (seg_linear(cpu, (enum x86_segreg)insn->mem.seg, op_offset(cpu, insn), size, write, linear) <
            0 ||
        mmu_check_alignment(cpu, *linear, environment_size(insn) == ENV16 ? 2 : 4) < 0)
        return OP_FAULT;
    return OP_NEXT;
}

enum op_result op_fnstenv(struct x86_cpu *cpu, const struct insn *insn)
{
    unsigned size = environment_size(insn);
    uint8_t env[ENV32];
    uint64_t linear;

    if (operand(cpu, insn, size, true, &linear) != OP_NEXT)
        return OP_FAULT;
    bt_park_x87_pointers(cpu);
    xstate_park(cpu);
    store_environment(cpu, insn, env);
    if (mmu_write(cpu, linear, env, size, mmu_cpl_access(cpu) | MMU_WRITE) < 0)
        return OP_FAULT;
    /* All exceptions are masked afterwards, so none is pending any more. */
    xs_put16(cpu->xsave + XS_FCW, xs_get16(cpu->xsave + XS_FCW) | FSW_EXCEPTIONS);
    xs_put16(cpu->xsave + XS_FSW, xs_get16(cpu->xsave + XS_FSW) & ~(unsigned)(FSW_ES | FSW_B));
    xstate_set_in_use(cpu, XC_X87);
    return OP_NEXT;
}

enum op_result op_fldenv(struct x86_cpu *cpu, const struct insn *insn)
{
    unsigned size = environment_size(insn);
    uint8_t env[ENV32];
    uint64_t linear;

    enum op_result result = operand(cpu, insn, size, false, &linear);
    if (result != OP_NEXT)
        return result;
    if (mmu_read(cpu, linear, env, size, mmu_cpl_access(cpu)) < 0)
        return OP_FAULT;
    xstate_park(cpu);
    load_environment(cpu, insn, env);
    return OP_NEXT;
}

/* As FNINIT: the data registers become empty, but keep what is in them. */
static void initialize(struct x86_cpu *cpu)
{
    xstate_set_top(cpu, 0);
    xs_zero(cpu->xsave, XS_MXCSR);
    xs_put16(cpu->xsave + XS_FCW, FCW_INIT);
    xstate_set_in_use(cpu, XC_X87);
}

enum op_result op_fnsave(struct x86_cpu *cpu, const struct insn *insn)
{
    unsigned size = environment_size(insn);
    uint8_t area[ENV32 + REGISTERS];
    uint64_t linear;

    if (operand(cpu, insn, size + REGISTERS, true, &linear) != OP_NEXT)
        return OP_FAULT;
    bt_park_x87_pointers(cpu);
    xstate_park(cpu);
    store_environment(cpu, insn, area);
    for (unsigned i = 0; i < 8; i++)
        xs_copy(area + size + 10 * i, cpu->xsave + XS_ST + 16 * i, 10);
    if (mmu_write(cpu, linear, area, size + REGISTERS, mmu_cpl_access(cpu) | MMU_WRITE) < 0)
        return OP_FAULT;
    initialize(cpu);
    return OP_NEXT;
}

enum op_result op_frstor(struct x86_cpu *cpu, const struct insn *insn)
{
    unsigned size = environment_size(insn);
    uint8_t area[ENV32 + REGISTERS];
    uint64_t linear;

    enum op_result result = operand(cpu, insn, size + REGISTERS, false, &linear);
    if (result != OP_NEXT)
        return result;
    if (mmu_read(cpu, linear, area, size + REGISTERS, mmu_cpl_access(cpu)) < 0)
        return OP_FAULT;
    xstate_park(cpu);
    load_environment(cpu, insn, area);
    for (unsigned i = 0; i < 8; i++) {
        uint8_t *st = cpu->xsave + XS_ST + 16 * i;

        xs_zero(st, 16);
        xs_copy(st, area + size + 10 * i, 10);
    }
    return OP_NEXT;
}
