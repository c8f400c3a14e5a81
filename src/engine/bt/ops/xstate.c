#include "engine/bt/ops/xstate.h"

uint64_t xstate_in_use(const struct x86_cpu *cpu)
{
    return xs_get64(cpu->xsave + XS_HEADER) & XC_ALL;
}

void xstate_set_in_use(struct x86_cpu *cpu, uint64_t components)
{
    xs_put64(cpu->xsave + XS_HEADER, xstate_in_use(cpu) | components);
}

static void write_initial(struct x86_cpu *cpu, uint64_t component)
{
    uint8_t *image = cpu->xsave;

    switch (component) {
    case XC_X87:
        xs_zero(image, XS_MXCSR);
        xs_zero(image + XS_ST, XS_XMM - XS_ST);
        xs_put16(image + XS_FCW, FCW_INIT);
        break;
    case XC_SSE:
        xs_zero(image + XS_XMM, 16 * 16);
        break;
    default:
        xs_zero(image + XS_YMM_HIGH, 16 * 16);
        break;
    }
}

void xstate_init(struct x86_cpu *cpu, uint64_t component)
{
    write_initial(cpu, component);
    xs_put64(cpu->xsave + XS_HEADER, xstate_in_use(cpu) & ~component);
}

void xstate_park(struct x86_cpu *cpu)
{
    uint64_t in_use;

    bt_park_vectors(cpu);
    in_use = xstate_in_use(cpu);
    for (uint64_t component = XC_X87; component <= XC_AVX; component <<= 1) {
        if (!(in_use & component))
            write_initial(cpu, component);
    }
}

void xstate_set_top(struct x86_cpu *cpu, unsigned top)
{
    enum { TOP_SHIFT = 11, TOP_MASK = 7 << TOP_SHIFT };
    unsigned fsw = xs_get16(cpu->xsave + XS_FSW);
    unsigned moved = (top - (fsw >> TOP_SHIFT)) & 7;
    uint8_t old[8 * 16];

    xs_put16(cpu->xsave + XS_FSW, (fsw & ~(unsigned)TOP_MASK) | top << TOP_SHIFT);
    if (!moved)
        return;
    xs_copy(old, cpu->xsave + XS_ST, sizeof(old));
    for (unsigned i = 0; i < 8; i++)
        xs_copy(cpu->xsave + XS_ST + 16 * i, old + 16 * ((i + moved) & 7), 16);
}

void xstate_settle_x87(struct x86_cpu *cpu)
{
    enum { FCW_WRITABLE = 0x1f3f, FCW_FIXED = 0x40, EXCEPTIONS = 0x3f, FSW_B = 1 << 15 };
    uint8_t *image = cpu->xsave;
    unsigned fcw = (xs_get16(image + XS_FCW) & FCW_WRITABLE) | FCW_FIXED;
    unsigned fsw = xs_get16(image + XS_FSW) & ~(unsigned)(FSW_ES | FSW_B);

    if (fsw & ~fcw & EXCEPTIONS)
        fsw |= FSW_ES | FSW_B;
    xs_put16(image + XS_FCW, fcw);
    xs_put16(image + XS_FSW, fsw);
    image[XS_FTW + 1] = 0;
    for (unsigned i = 0; i < 8; i++)
        xs_zero(image + XS_ST + 16 * i + 10, 6);
}

void xstate_set_pointers(struct x86_cpu *cpu, const struct x87_pointers *pointers)
{
    cpu->x87_pointers = *pointers;
    xs_put16(cpu->xsave + XS_FOP, 0);
    xs_put64(cpu->xsave + XS_FIP, XS_HELD);
    xs_put64(cpu->xsave + XS_FDP, XS_HELD);
    xstate_set_in_use(cpu, XC_X87);
}

void xstate_store_pointers(const struct x86_cpu *cpu, uint8_t *area, bool wide)
{
    const struct x87_pointers *p = &cpu->x87_pointers;

    xs_put16(area + XS_FOP, 0);
    xs_zero(area + XS_FIP, XS_MXCSR - XS_FIP);
    if (!(xs_get16(cpu->xsave + XS_FSW) & FSW_ES))
        return;
    xs_put16(area + XS_FOP, p->fop);
    xs_put64(area + XS_FIP, wide ? p->fip : (uint32_t)p->fip | (uint64_t)p->fcs << 32);
    xs_put64(area + XS_FDP, wide ? p->fdp : (uint32_t)p->fdp | (uint64_t)p->fds << 32);
}

void xstate_load_pointers(struct x86_cpu *cpu, const uint8_t *area, bool wide)
{
    struct x87_pointers p = {
        .fip = wide ? xs_get64(area + XS_FIP) : xs_get32(area + XS_FIP),
        .fdp = wide ? xs_get64(area + XS_FDP) : xs_get32(area + XS_FDP),
        .fcs = wide ? 0 : xs_get16(area + XS_FIP + 4),
        .fds = wide ? 0 : xs_get16(area + XS_FDP + 4),
        .fop = xs_get16(area + XS_FOP) & 0x7ff,
    };

    xstate_set_pointers(cpu, &p);
}

uint32_t xstate_mxcsr_mask(const struct x86_cpu *cpu)
{
    uint8_t host[XS_LEGACY_SIZE] __attribute__((aligned(16)));
    uint32_t mask = xs_get32(cpu->xsave + XS_MXCSR_MASK);

    if (!mask) { /* the image never was in host registers */
        __asm__ volatile("fxsave64 %0" : "=m"(host));
        mask = xs_get32(host + XS_MXCSR_MASK);
    }
    return mask ? mask : 0xffbf; /* SDM vol. 1, 11.6.6 */
}

int fpu_check(struct x86_cpu *cpu, enum insn_fpu state)
{
    const uint64_t avx = XC_SSE | XC_AVX;
    bool em = cpu->cr0 & X86_CR0_EM, ts = cpu->cr0 & X86_CR0_TS;

    switch (state) {
    case FPU_NONE:
        return 0;
    case FPU_X87:
    case FPU_FXSAVE:
        return em || ts ? x86_raise(cpu, X86_NM) : 0;
    case FPU_WAIT:
        return ts && (cpu->cr0 & X86_CR0_MP) ? x86_raise(cpu, X86_NM) : 0;
    case FPU_MMX:
        if (em)
            return x86_raise(cpu, X86_UD);
        break;
    case FPU_SSE:
        if (em || !(cpu->cr4 & X86_CR4_OSFXSR))
            return x86_raise(cpu, X86_UD);
        break;
    case FPU_AVX:
        if (!(cpu->cr4 & X86_CR4_OSXSAVE) || (cpu->xcr0 & avx) != avx)
            return x86_raise(cpu, X86_UD);
        if (x86_real_mode(cpu) || x86_vm86(cpu))
            return x86_raise(cpu, X86_UD);
        break;
    }
    return ts ? x86_raise(cpu, X86_NM) : 0;
}

enum op_result x87_error(struct x86_cpu *cpu)
{
    if (cpu->cr0 & X86_CR0_NE) {
        x86_raise(cpu, X86_MF);
        return OP_FAULT;
    }
    if (cpu->ignne) {
        cpu->ignne = X86_IGNNE_MET;
        return OP_RETRY;
    }
    cpu->ferr = 1;
    if (cpu->platform.ferr_set)
        cpu->platform.ferr_set(cpu->platform.ctx, true);
    return OP_RETRY;
}

enum { FSW_EXCEPTIONS = 0x3f, FSW_SUMMARY = 0x8080 /* ES and B */ };

unsigned x87_hide_exceptions(struct x86_cpu *cpu)
{
    unsigned fsw;

    xstate_park(cpu);
    fsw = xs_get16(cpu->xsave + XS_FSW);
    xs_put16(cpu->xsave + XS_FSW, fsw & ~(unsigned)(FSW_EXCEPTIONS | FSW_SUMMARY));
    return fsw & FSW_EXCEPTIONS;
}

void x87_show_exceptions(struct x86_cpu *cpu, unsigned exceptions)
{
    unsigned fsw, masks;

    bt_park_x87_pointers(cpu);
    xstate_park(cpu);
    fsw = (xs_get16(cpu->xsave + XS_FSW) & ~(unsigned)FSW_SUMMARY) | exceptions;
    masks = xs_get16(cpu->xsave + XS_FCW);
    if (fsw & ~masks & FSW_EXCEPTIONS)
        fsw |= FSW_SUMMARY;
    xs_put16(cpu->xsave + XS_FSW, fsw);
    xstate_set_in_use(cpu, XC_X87);
}
