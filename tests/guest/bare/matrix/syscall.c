/* MODES 32 64. SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS, the bases of FS and GS. */
#include "matrix.h"

enum {
    EFER = 0xc0000080,
    STAR = 0xc0000081,
    LSTAR = 0xc0000082,
    FMASK = 0xc0000084,
    FS_BASE = 0xc0000100,
    GS_BASE = 0xc0000101,
    KERNEL_GS_BASE = 0xc0000102,
    SYSENTER_CS = 0x174,
    SYSENTER_ESP = 0x175,
    SYSENTER_EIP = 0x176,
    EFER_SCE = 1,
    CR4_FSGSBASE = 0x10000,
    LOW_NOP = LOW_CODE + 0x200,
    KNOWN = 0x3f7fd5,        /* all flags but bit 1 */
    SYSRET_FLAGS = 0x3c7fd7, /* all but RF and VM */
    SETTABLE = 0x3c7ed5      /* what a visit can begin with, without TF */
};

static const uint16_t selectors[] = {0x08, 0x0b, 0x10, 0x12, 0x101, 0x7ff8, 0xffe8, 0xfff8};

enum { SELECTORS = sizeof(selectors) / sizeof(selectors[0]) };

static uintptr_t pattern(unsigned i) /* 0 to 43: one flag, and all but one */
{
    return i < 22 ? 1u << i & KNOWN : KNOWN & ~(1u << (i - 22));
}

static void star_set(unsigned system, unsigned user)
{
    wrmsr(STAR, (uint64_t)user << 48 | (uint64_t)system << 32);
}

/* --- SYSCALL and SYSRET in 64-bit mode --- */

static void run_syscall(unsigned place, unsigned cpl, unsigned cs, uintptr_t flags, uintptr_t mask)
{
    struct visit_state in = probe_state(64, cpl, place);
    struct visit_end end;

    matrix_case("SYSCALL", cpl, cs, (uint32_t)flags, (uint32_t)mask);
    in.flags = flags;
    star_set(cs, 0);
    wrmsr(FMASK, mask);
    visit(&in, &end);
    check("vector", end.vector, LANDING + 2);
    check("CS", end.regs.cs, cs & 0xfffc);
    check("SS", end.regs.ss, (cs + 8) & 0xffff);
    check("RCX", end.regs.cx, in.ip + 2);
    check("R11", end.regs.r11, flags & ~(uintptr_t)FLAG_RF);
    check("flags", end.regs.flags, (flags & ~mask & ~(uintptr_t)FLAG_RF) | 2);
    check("RSP", end.regs.sp, in.sp);
}

static void run_syscalls(void)
{
    static const uint8_t bytes[] = {0x0f, 0x05};
    unsigned place = probe_place(bytes, 2);

    wrmsr(LSTAR, landing(2));
    for (unsigned cpl = 0; cpl < 4; cpl++) {
        for (unsigned i = 0; i < SELECTORS; i++)
            run_syscall(place, cpl, selectors[i], 2, 0);
        for (unsigned i = 0; i < 44; i++) {
            run_syscall(place, cpl, 8, (pattern(i) & SETTABLE) | 2, 0);
            run_syscall(place, cpl, 8, SETTABLE | 2, pattern(i));
        }
    }
}

static void run_sysret(unsigned place, bool to64, unsigned base, uintptr_t r11, uintptr_t rcx)
{
    struct visit_state in = probe_state(64, 0, place);
    uintptr_t flags = (r11 & SYSRET_FLAGS) | 2;
    struct visit_end end;

    matrix_case("SYSRET", to64, base, (uint32_t)r11, (uint32_t)(rcx >> 16));
    in.cx = rcx;
    in.r11 = r11;
    star_set(8, base);
    visit(&in, &end);
    if (to64 && rcx != LOW_NOP) {
        expect_fault(&in, &end, GP, 0);
        return;
    }
    check("vector", end.vector, flags & FLAG_TF ? DB : VECTOR_DONE);
    check("pc", end.ip, LOW_NOP + (flags & FLAG_TF ? 0 : 3)); /* unlike IRET, a trap at once */
    check("CS", end.cs, ((base + (to64 ? 16 : 0)) | 3) & 0xffff);
    check("SS", end.ss, ((base + 8) | 3) & 0xffff);
    check("flags", end.flags, flags);
    check("RSP", end.sp, in.sp);
    check("RCX", end.regs.cx, in.cx);
}

static void run_sysrets(void)
{
    static const uint64_t noncanonical[] = {1ull << 47, 0xffff7fffffffffff, 1ull << 63};
    static const uint8_t bytes[] = {0x48, 0x0f, 0x07};
    unsigned place[] = {probe_place(bytes + 1, 2), probe_place(bytes, 3)};

    for (unsigned to64 = 0; to64 < 2; to64++) {
        for (unsigned i = 0; i < SELECTORS; i++)
            run_sysret(place[to64], to64, selectors[i], 2, LOW_NOP);
        for (unsigned i = 0; i < 44; i++)
            run_sysret(place[to64], to64, 0x100, pattern(i), LOW_NOP);
        /* Only EIP counts on the way to 32-bit code; RIP has to be canonical. */
        for (unsigned i = 0; i < 3; i++) {
            uint64_t rcx = to64 ? noncanonical[i] : (noncanonical[i] & ~0xffffffffull) | LOW_NOP;

            run_sysret(place[to64], to64, 0x100, 2, (uintptr_t)rcx);
        }
    }
}

/* Without EFER.SCE, and outside 64-bit mode (as the vendor in CPUID has it): undefined. */
static void run_undefined(void)
{
    static const uint8_t syscall[] = {0x0f, 0x05}, sysret[] = {0x0f, 0x07};
    unsigned place[] = {probe_place(syscall, 2), probe_place(sysret, 2)};
    struct visit_state in;
    struct visit_end end;

    for (unsigned i = 0; i < 2 * 2 * 4 * 3; i++) {
        unsigned bits = 16u << i / 16, cpl = i >> 2 & 3, sce = i >> 1 & 1;

        if (bits > MODE || (bits == 64 && sce))
            continue;
        matrix_case(i & 1 ? "SYSRET" : "SYSCALL", bits, cpl, sce, 0);
        wrmsr(EFER, (rdmsr(EFER) & ~(uint64_t)EFER_SCE) | (sce ? EFER_SCE : 0));
        in = probe_state(bits, cpl, place[i & 1]);
        visit(&in, &end);
        expect_fault(&in, &end, UD, 0);
    }
    wrmsr(EFER, rdmsr(EFER) | EFER_SCE);
}

/* --- SYSENTER and SYSEXIT --- */

static void run_sysenter(unsigned bits, unsigned place, unsigned cpl, unsigned cs, uintptr_t flags)
{
    struct visit_state in = probe_state(bits, cpl, place);
    struct visit_end end;

    matrix_case("SYSENTER", bits << 4 | cpl, cs, (uint32_t)flags, 0);
    in.flags = flags;
    if (flags & FLAG_VM) {
        in.cs = CODE_AT / 16;
        in.ss = STACKS_AT / 16;
        in.sp = 0x1000;
    }
    wrmsr(SYSENTER_CS, cs);
    visit(&in, &end);
    if ((cs & 0xfffc) == 0) {
        check("vector", end.vector, GP);
        check("error code", end.error, 0);
        check("pc", end.ip, in.ip);
        return;
    }
    check("vector", end.vector, LANDING + 3);
    check("CS", end.regs.cs, cs & 0xfffc);
    check("SS", end.regs.ss, ((cs & 0xfffc) + 8) & 0xffff);
    check("ESP", end.regs.sp, stack_top(0));
    check("flags", end.regs.flags, flags & ~(uintptr_t)(FLAG_IF | FLAG_VM | FLAG_RF));
    check("CX", end.regs.cx, in.cx);
    check("DX", end.regs.dx, in.dx);
}

static void run_sysenters(unsigned bits)
{
    static const uint8_t bytes[] = {0x0f, 0x34};
    unsigned place = probe_place(bytes, 2);

    wrmsr(SYSENTER_EIP, landing(3));
    wrmsr(SYSENTER_ESP, stack_top(0));
    for (unsigned cpl = 0; cpl < 4; cpl++) {
        for (unsigned cs = 0; cs < 4; cs++)
            run_sysenter(bits, place, cpl, cs, 2);
        for (unsigned i = 0; i < SELECTORS; i++)
            run_sysenter(bits, place, cpl, selectors[i], 2);
        for (unsigned i = 0; i < 44; i++)
            run_sysenter(bits, place, cpl, 8, (pattern(i) & SETTABLE) | 2);
    }
    for (unsigned iopl = 0; iopl < 4 && bits == 16 && MODE == 32; iopl++) {
        run_sysenter(bits, place, 3, 8, FLAG_VM | FLAG_IF | iopl << 12 | 2);
        run_sysenter(bits, place, 3, 0, FLAG_VM | FLAG_IF | iopl << 12 | 2);
    }
}

static void run_sysexit(unsigned bits, unsigned place, bool to64, unsigned cpl, unsigned cs,
                        uintptr_t flags)
{
    struct visit_state in = probe_state(bits, cpl, place);
    unsigned user = (cs + (to64 ? 32 : 16)) | 3;
    struct visit_end end;

    matrix_case("SYSEXIT", bits << 4 | cpl, cs, (uint32_t)flags, to64);
    in.flags = flags;
    in.dx = LOW_NOP;
    in.cx = STACKS_AT + 0x4321;
    wrmsr(SYSENTER_CS, cs);
    visit(&in, &end);
    if (cpl > 0 || (cs & 0xfffc) == 0) {
        expect_fault(&in, &end, GP, 0);
        return;
    }
    expect_done(&end);
    check("pc", end.ip, LOW_NOP + 3);
    check("CS", end.cs, user & 0xffff);
    check("SS", end.ss, (user + 8) & 0xffff);
    check("SP", end.sp, in.cx);
    check("flags", end.flags, flags);
}

static void run_sysexit_canonical(unsigned place)
{
    static const uint64_t noncanonical[] = {1ull << 47, 0xffff7fffffffffff, 1ull << 63};
    struct visit_end end;

    wrmsr(SYSENTER_CS, 0x100);
    for (unsigned i = 0; i < 6; i++) {
        struct visit_state in = probe_state(64, 0, place);

        matrix_case("SYSEXIT to what is not canonical", i, 0, 0, 0);
        in.dx = i < 3 ? (uintptr_t)noncanonical[i] : LOW_NOP;
        in.cx = i < 3 ? STACKS_AT : (uintptr_t)noncanonical[i - 3];
        visit(&in, &end);
        expect_fault(&in, &end, GP, 0);
    }
}

static void run_sysexits(unsigned bits)
{
    static const uint8_t bytes[] = {0x48, 0x0f, 0x35};

    for (unsigned to64 = 0; to64 <= bits / 64; to64++) {
        unsigned place = to64 ? probe_place(bytes, 3) : probe_place(bytes + 1, 2);

        for (unsigned cpl = 0; cpl < 4; cpl++) {
            for (unsigned cs = 0; cs < 4; cs++)
                run_sysexit(bits, place, to64, cpl, cs, 2);
            for (unsigned i = 0; i < SELECTORS; i++)
                run_sysexit(bits, place, to64, cpl, selectors[i], 2);
            for (unsigned i = 0; i < 44; i++)
                run_sysexit(bits, place, to64, cpl, 0x100, (pattern(i) & SETTABLE) | 2);
        }
        if (to64)
            run_sysexit_canonical(place);
    }
}

/* --- SWAPGS, and the bases of FS and GS in 64-bit mode --- */

static void run_swapgs(void)
{
    static const uint8_t bytes[] = {0x0f, 0x01, 0xf8};
    unsigned place = probe_place(bytes, 3);
    struct visit_state in;
    struct visit_end end;

    for (unsigned bits = 16; bits <= MODE; bits *= 2) {
        for (unsigned cpl = 0; cpl < 4; cpl++) {
            matrix_case("SWAPGS", bits, cpl, 0, 0);
            in = probe_state(bits, cpl, place);
            if (MODE == 64)
                wrmsr(KERNEL_GS_BASE, 0xffff800012345678);
            visit(&in, &end);
            if (bits < 64) {
                expect_fault(&in, &end, UD, 0);
            } else if (cpl > 0) {
                expect_fault(&in, &end, GP, 0);
            } else {
                expect_done(&end);
                check("GS base", (uintptr_t)rdmsr(GS_BASE), (uintptr_t)0xffff800012345678);
                check("other base", (uintptr_t)rdmsr(KERNEL_GS_BASE), 0);
            }
        }
    }
}

/* A selector replaces all 64 bits of the base: with the descriptor's 32, or null's 0. */
static void run_base_loads(void)
{
    static const uint16_t loaded[] = {0, 1, 2, 3, TESTED | 3, TESTED | 7};
    static const uint8_t bytes[] = {0x8e, 0xe0, 0x8e, 0xe9};
    unsigned place[] = {probe_place(bytes, 2), probe_place(bytes + 2, 2)};

    for (unsigned i = 0; i < 2 * 3 * 6 * 4; i++) {
        unsigned gs = i & 1, bits = 16u << i / 2 % 3, cpl = i / 36, selector = loaded[i / 6 % 6];
        struct visit_state in = probe_state(bits, cpl, place[gs]);
        struct visit_end end;

        matrix_case(gs ? "base of GS" : "base of FS", bits, cpl, selector, 0);
        *descriptor_slot(TESTED) = *descriptor_slot(TESTED | 4) =
            descriptor_make(0x9abcdef0, 0xff, TYPE_DATA, 3, true, 0);
        if (gs)
            in.cx = selector;
        else
            in.ax = selector;
        visit(&in, &end);
        expect_done(&end);
        check("selector", gs ? end.regs.gs : end.regs.fs, selector);
        check("base", (uintptr_t)rdmsr(gs ? GS_BASE : FS_BASE), selector > 3 ? 0x9abcdef0 : 0);
    }
}

/* RDFSBASE to WRGSBASE with either operand size, and what forbids them. */
static void run_base_instructions(void)
{
    static const uint64_t values[] = {0, 0x7fffffffffff, 0xffff800000000000, 1ull << 47,
                                      0xffff7fffffffffff};

    for (unsigned i = 0; i < 4 * 2 * 2 * 4 * 5; i++) {
        unsigned form = i & 3, wide = i >> 2 & 1, enabled = i >> 3 & 1, cpl = i >> 4 & 3;
        bool gs = form & 1, writes = form >> 1;
        uintptr_t value = (uintptr_t)values[i >> 6], wanted = wide ? value : (uint32_t)value;
        const uint8_t bytes[] = {0xf3, wide ? 0x48 : 0x40, 0x0f, 0xae, 0xc0 | form << 3};
        struct visit_state in = probe_state(64, cpl, 0);
        uint32_t msr = gs ? GS_BASE : FS_BASE;
        struct visit_end end;

        in.ip = CODE_AT + probe_place(bytes, sizeof(bytes));
        matrix_case("RDFSBASE to WRGSBASE", form, wide, enabled, cpl);
        cr4_set(CR4_FSGSBASE, enabled);
        in.ax = value;
        visit(&in, &end);
        if (!enabled) {
            expect_fault(&in, &end, UD, 0);
        } else if (writes && wide && i >> 6 >= 3) {
            expect_fault(&in, &end, GP, 0);
        } else {
            expect_done(&end);
            if (writes)
                check("base", (uintptr_t)rdmsr(msr), wanted);
            else
                check("AX", end.regs.ax, 0); /* the base of the flat segment */
        }
    }
    cr4_set(CR4_FSGSBASE, false);
}

void matrix_main(void)
{
    matrix_begin("system calls");
    store(LOW_NOP, 4, 0x90 | 0xcd << 8 | VECTOR_DONE << 16);
    for (unsigned bits = 16; bits <= MODE; bits *= 2) {
        run_sysenters(bits);
        run_sysexits(bits);
    }
    run_undefined();
    run_swapgs();
    if (MODE == 64) {
        run_syscalls();
        run_sysrets();
        run_base_loads();
        run_base_instructions();
    }
    matrix_end();
}
