/* MODES 32 64. Single step over SYSENTER, SYSEXIT and IRET to every level; what stays in DR6. */
#include "matrix.h"

enum {
    DR6_BD = 1 << 13,
    DR6_BS = 1 << 14,
    DR6_BT = 1 << 15,
    SYSENTER_CS = 0x174,
    SYSENTER_ESP,
    SYSENTER_EIP,
    SYSTEM_CS = 0x08, /* flat segments where SYSENTER and SYSEXIT expect them */
    AT_NOP = 0x20,
    WORD = sizeof(uintptr_t)
};
#define DR6_FIXED 0xffff0ff0u

static void expect_step(const struct visit_end *end, uintptr_t ip, unsigned cs, bool tf)
{
    check("vector", end->vector, DB);
    check("pc", end->ip, ip);
    check("CS", end->cs, cs);
    check("TF", end->flags & FLAG_TF, tf ? FLAG_TF : 0);
    check("DR6", read_dr6(), DR6_FIXED | DR6_BS);
}

/* SYSENTER clears IF and leaves TF: the trap comes in the system's first instruction. */
static void run_sysenter(void)
{
    static const uint8_t sysenter[] = {0x0f, 0x34};
    unsigned place = probe_place(sysenter, 2);

    for (unsigned i = 0; i < 16; i++) {
        unsigned cpl = i & 3;
        bool tf = i >> 2 & 1, enabled = i >> 3 & 1;
        struct visit_state in = probe_state(MODE, cpl, place);
        struct visit_end end;

        matrix_case("SYSENTER", cpl, tf, enabled, 0);
        in.flags |= (tf ? FLAG_TF : 0) | (enabled ? FLAG_IF : 0);
        write_dr6(0);
        visit(&in, &end);
        if (tf) {
            expect_step(&end, LOW_CODE, SYSTEM_CS, true);
        } else {
            expect_done(&end);
            check("pc", end.ip, LOW_CODE + 2);
            check("DR6", read_dr6(), DR6_FIXED);
        }
        check("IF", end.flags & FLAG_IF, 0);
        check("SP", end.sp, stack_top(0) - 0x400);
    }
}

static void run_sysexit(bool wide)
{
    static const uint8_t sysexit[] = {0x48, 0x0f, 0x35};
    unsigned place = probe_place(sysexit + !wide, 2u + wide);
    unsigned cs = (SYSTEM_CS + (wide ? 32 : 16)) | 3;

    for (unsigned tf = 0; tf < 2; tf++) {
        struct visit_state in = probe_state(MODE, 0, place);
        struct visit_end end;

        matrix_case("SYSEXIT", wide, tf, 0, 0);
        in.flags |= tf ? FLAG_TF : 0;
        in.cx = stack_top(7) - 0x100;
        in.dx = LOW_CODE;
        write_dr6(0);
        visit(&in, &end);
        if (tf) {
            expect_step(&end, LOW_CODE, cs, true);
        } else {
            expect_done(&end);
            check("CS", end.cs, cs);
        }
        check("SP", end.sp, in.cx);
    }
}

/* TF at its beginning decides about the trap behind IRET, TF in the image about the next one. */
static void run_iret(unsigned place, unsigned i)
{
    unsigned target = i & 3, cs = (MODE == 64 ? LEVEL_CODE64 : LEVEL_CODE32) + 0x20 * target;
    bool before = i >> 2 & 1, after = i >> 3 & 1;
    struct visit_state in = probe_state(MODE, 0, place);
    struct visit_end end;

    cs |= target;
    matrix_case("IRET", target, before, after, 0);
    in.flags |= before ? FLAG_TF : 0;
    store(in.sp, WORD, LOW_CODE + AT_NOP);
    store(in.sp + WORD, WORD, cs);
    store(in.sp + 2 * WORD, WORD, 2 | (after ? FLAG_TF : 0));
    store(in.sp + 3 * WORD, WORD, stack_top(target + 4) - 0x40);
    store(in.sp + 4 * WORD, WORD, (LEVEL_DATA + 0x20 * target) | target);
    write_dr6(0);
    visit(&in, &end);
    if (before) {
        expect_step(&end, LOW_CODE + AT_NOP, cs, after);
    } else if (after) {
        expect_step(&end, LOW_CODE + AT_NOP + 1, cs, true);
    } else {
        expect_done(&end);
        check("DR6", read_dr6(), DR6_FIXED);
    }
}

/* BD, BS and BT are cleared by nobody but software. */
static void run_status(void)
{
    static const uint8_t nop[] = {0x90}, int1[] = {0xf1};
    unsigned places[] = {probe_place(nop, 1), probe_place(int1, 1)};

    for (unsigned i = 0; i < 2 * 2 * 8; i++) {
        bool is_int1 = i & 1, tf = i >> 1 & 1;
        uintptr_t old = (uintptr_t)(i >> 2) << 13;
        struct visit_state in = probe_state(MODE, 0, places[is_int1]);
        struct visit_end end;

        matrix_case("DR6 before", (uint32_t)old, tf, is_int1, 0);
        in.flags |= tf ? FLAG_TF : 0;
        write_dr6(old);
        visit(&in, &end);
        check("vector", end.vector, tf || is_int1 ? DB : VECTOR_DONE);
        /* INT1 enters its handler with TF clear: no step behind it. */
        check("DR6", read_dr6(), DR6_FIXED | old | (tf && !is_int1 ? DR6_BS : 0));
        write_dr6(0);
    }
}

/* DEBUGCTL.BTF does nothing, reads 0, and TF keeps stepping over each instruction. */
static void run_branch_step(void)
{
    enum { DEBUGCTL = 0x1d9, BTF = 2 };
    static const uint8_t nop[] = {0x90};
    struct visit_state in = probe_state(MODE, 0, probe_place(nop, 1));
    struct visit_end end;

    matrix_case("DEBUGCTL.BTF", 0, 0, 0, 0);
    wrmsr(DEBUGCTL, BTF);
    check("DEBUGCTL", (uintptr_t)rdmsr(DEBUGCTL), 0);
    in.flags |= FLAG_TF;
    write_dr6(0);
    visit(&in, &end);
    expect_step(&end, in.ip + 1, (unsigned)in.cs, true);
}

void matrix_main(void)
{
    static const uint8_t iret[] = {0x48, 0xcf};
    unsigned iret_at;

    matrix_begin("single step");
    store(LOW_CODE + AT_NOP, 1, 0x90);
    store(LOW_CODE + AT_NOP + 1, 2, 0xcd | VECTOR_DONE << 8);
    wrmsr(SYSENTER_CS, SYSTEM_CS);
    wrmsr(SYSENTER_ESP, stack_top(0) - 0x400);
    wrmsr(SYSENTER_EIP, LOW_CODE);
    run_sysenter();
    for (unsigned wide = 0; wide < MODE / 32; wide++)
        run_sysexit(wide);
    iret_at = MODE == 64 ? probe_place(iret, 2) : probe_place(iret + 1, 1);
    for (unsigned i = 0; i < 16; i++)
        run_iret(iret_at, i);
    run_status();
    run_branch_step();
    matrix_end();
}
