/* MODES 32 64 CPUS 486 pentium3. Control and debug registers: bits, pairs of bits, who may. */
#include "matrix.h"

enum {
    TO_CR = 0x22,
    FROM_CR = 0x20,
    TO_DR = 0x23,
    FROM_DR = 0x21,
    CR0_PE = 1,
    CR0_TS = 8,
    CR0_LOW = 0xe, /* MP EM TS */
    CR0_ET = 0x10,
    CR0_NW = 1 << 29,
    CR0_CD = 1 << 30,
    CR0_KNOWN = 0x6005003f, /* and PG */
    CR4_TSD = 4,
    CR4_DE = 8,
    CR4_PAE = 0x20,
    CR4_UMIP = 0x800,
    CR4_SMEP_SMAP = 0x300000,
    DR6_FIXED = 0xffff0ff0u,
    DR6_FREE = 0xe00f,
    DR6_BD = 1 << 13,
    DR7_FIXED = 0x400,
    DR7_FREE = 0xffff23ffu,
    DR7_GD = 1 << 13,
    WORD_BITS = 8 * sizeof(uintptr_t),
    APIC_TPR = 0xfee00080u
};
#define CR0_PG  0x80000000u
#define NOWHERE 0x3f000000u /* nothing executes or accesses this */

static bool has_extensions(void)
{
    return cr4_bits() & CR4_DE;
}

/* AX to the register, or the register to BX; mod is ignored. */
static unsigned place_mov(unsigned opcode, unsigned number, unsigned mod)
{
    unsigned rm = opcode == FROM_CR || opcode == FROM_DR ? 3 : 0;
    uint8_t bytes[] = {0x44, 0x0f, (uint8_t)opcode, (uint8_t)(mod << 6 | (number & 7) << 3 | rm)};

    return probe_place(bytes + (number < 8), 3 + (number >= 8));
}

static void run(unsigned bits, unsigned cpl, unsigned place, uintptr_t ax, struct visit_state *in,
                struct visit_end *end)
{
    *in = probe_state(bits, cpl, place);
    in->ax = ax;
    visit(in, end);
}

/* --- which registers there are, and for whom --- */

static bool exists(unsigned opcode, unsigned number)
{
    if (opcode == TO_DR || opcode == FROM_DR)
        return number < 8;
    return number == 0 || (number >= 2 && number <= 4) || number == 8;
}

static void run_number(unsigned bits, unsigned opcode, unsigned number)
{
    bool debug = opcode == TO_DR || opcode == FROM_DR, alias = debug && (number & 14) == 4;
    static const uintptr_t harmless[] = {0, 0, 0, 0, 0, 0, DR6_FIXED, DR7_FIXED};
    uintptr_t value = debug         ? harmless[number & 7]
                      : number == 0 ? read_cr0()
                      : number == 3 ? read_cr3()
                      : number == 4 ? read_cr4()
                                    : 0;
    struct visit_state in;
    struct visit_end end;

    if (debug && number == 4)
        value = DR6_FIXED;
    if (debug && number == 5)
        value = DR7_FIXED;
    for (unsigned mod = 0; mod < 4; mod++) {
        unsigned place = place_mov(opcode, number, mod);

        for (unsigned cpl = 0; cpl < 4; cpl++) {
            for (unsigned extensions = 0; extensions < 2; extensions++) {
                if (extensions && ((alias && cpl) || !has_extensions()))
                    continue; /* #UD and #GP: no order is given */
                matrix_case("MOV of a system register", bits << 8 | opcode, number, mod, cpl);
                cr4_set(CR4_DE, extensions);
                if (!debug && number == 4)
                    value = read_cr4();
                run(bits, cpl, place, value, &in, &end);
                cr4_set(CR4_DE, false);
                if (!exists(opcode, number) || (alias && extensions))
                    expect_fault(&in, &end, UD, 0);
                else if (cpl)
                    expect_fault(&in, &end, GP, 0);
                else
                    expect_done(&end);
            }
        }
    }
}

/* --- CR0 --- */

static bool cr0_refused(unsigned bits, uint64_t value)
{
    return (bits == 64 && value >> 32) || ((value & CR0_PG) && !(value & CR0_PE)) ||
           ((value & CR0_NW) && !(value & CR0_CD)) || (bits == 64 && !(value & CR0_PG));
}

static void run_cr0(unsigned bits, unsigned place, uintptr_t old, uintptr_t value)
{
    bool refused = cr0_refused(bits, value);
    struct visit_state in;
    struct visit_end end;

    if (!refused && ((old ^ value) & (CR0_PG | CR0_PE)))
        return; /* would leave the mode */
    matrix_case("CR0", bits, (uint32_t)value, (uint32_t)((uint64_t)value >> 32), 0);
    run(bits, 0, place, value, &in, &end);
    uintptr_t now = read_cr0();
    write_cr0(old);
    if (refused) {
        expect_fault(&in, &end, GP, 0);
        check("CR0", now, old);
    } else {
        expect_done(&end);
        check("CR0", now, (value & (CR0_KNOWN | CR0_PG)) | CR0_ET);
    }
}

static void run_all_cr0(unsigned bits)
{
    static const uint8_t flags[] = {0, 1, 2, 3, 4, 5, 6, 16, 18, 28, 29, 30, 31};
    unsigned place = place_mov(TO_CR, 0, 3), width = bits == 64 ? 64 : 32;
    uintptr_t old = read_cr0();

    for (unsigned i = 0; i < width; i++) {
        for (unsigned k = i; k < width; k++)
            run_cr0(bits, place, old, old ^ ((uintptr_t)1 << i | (uintptr_t)1 << k));
    }
    for (unsigned set = 0; set < 1u << sizeof(flags); set++) {
        uintptr_t value = 0;

        for (unsigned i = 0; i < sizeof(flags); i++)
            value |= (uintptr_t)(set >> i & 1) << flags[i];
        run_cr0(bits, place, old, value);
    }
}

/* --- CR2, CR3, CR4 --- */

static void run_cr4(unsigned bits, unsigned place, uintptr_t known, uintptr_t value)
{
    uintptr_t old = read_cr4();
    bool refused = (value & ~known) || (MODE == 64 && !(value & CR4_PAE));
    struct visit_state in;
    struct visit_end end;

    if (!refused && MODE == 32 && (value & CR4_PAE))
        return; /* other page tables */
    if (!refused && (value & CR4_SMEP_SMAP))
        return; /* every page is a user's */
    matrix_case("CR4", bits, (uint32_t)value, (uint32_t)((uint64_t)value >> 32), 0);
    run(bits, 0, place, value, &in, &end);
    uintptr_t now = read_cr4();
    write_cr4(old);
    if (refused) {
        expect_fault(&in, &end, GP, 0);
        check("CR4", now, old);
    } else {
        expect_done(&end);
        check("CR4", now, value);
    }
}

static void run_all_cr4(unsigned bits)
{
    uintptr_t old = read_cr4(), known = (uintptr_t)cr4_bits();
    unsigned place = place_mov(TO_CR, 4, 3), width = bits == 64 ? 64 : 32;

    for (unsigned i = 0; i < width; i++) {
        for (unsigned k = i; k < width; k++)
            run_cr4(bits, place, known, old ^ ((uintptr_t)1 << i | (uintptr_t)1 << k));
    }
    run_cr4(bits, place, known, known & ~(uintptr_t)CR4_SMEP_SMAP);
    run_cr4(bits, place, known, 0);
}

static void run_cr2_cr3(unsigned bits)
{
    unsigned to_cr2 = place_mov(TO_CR, 2, 3), to_cr3 = place_mov(TO_CR, 3, 3);
    unsigned from_cr2 = place_mov(FROM_CR, 2, 3);
    uintptr_t cr3 = read_cr3();
    struct visit_state in;
    struct visit_end end;
    uint32_t width = 32;

    if (MODE == 64)
        width = cpuid(0x80000008, 0).eax;
    width &= 0xff;
    for (unsigned i = 0; i < (bits == 64 ? 64 : 32); i++) {
        matrix_case("CR2", bits, i, 0, 0);
        run(bits, 0, to_cr2, (uintptr_t)1 << i, &in, &end);
        expect_done(&end);
        check("CR2", read_cr2(), (uintptr_t)1 << i);
        write_cr2(~(uintptr_t)0);
        run(bits, 0, from_cr2, 0, &in, &end);
        check("CR2 in BX", end.regs.bx, bits == 64 ? ~(uintptr_t)0 : 0xffffffff);
        if (i >= 12 && i < width)
            continue; /* other page tables */
        matrix_case("CR3", bits, i, 0, 0);
        run(bits, 0, to_cr3, cr3 | (uintptr_t)1 << i, &in, &end);
        uintptr_t now = read_cr3();
        write_cr3(cr3);
        if (i >= width)
            expect_fault(&in, &end, GP, 0);
        else
            expect_done(&end);
        check("CR3", now & ~(uintptr_t)0xfe7, cr3 | (i == 3 || i == 4 ? (uintptr_t)1 << i : 0));
    }
}

/* --- CR8 --- */

static void run_cr8(void)
{
    unsigned to = place_mov(TO_CR, 8, 3), from = place_mov(FROM_CR, 8, 3);
    struct visit_state in;
    struct visit_end end;

    /* A 2 MiB page for the APIC, as 64-bit mode needs. */
    store(0x11018, 8, 0x14007);
    store(0x14000 + 0x1f7 * 8, 8, 0xfee00087);
    for (unsigned i = 0; i < 16; i++) {
        matrix_case("CR8", i, 0, 0, 0);
        run(64, 0, to, i, &in, &end);
        expect_done(&end);
        check("TPR", load(APIC_TPR, 4), i << 4);
        store(APIC_TPR, 4, i << 4 | 9);
        run(64, 0, from, 0, &in, &end);
        check("CR8", end.regs.bx, i);
        check("TPR", load(APIC_TPR, 4), i << 4 | 9);
    }
    for (unsigned i = 4; i < 64; i++) {
        matrix_case("reserved bit of CR8", i, 0, 0, 0);
        run(64, 0, to, (uintptr_t)1 << i, &in, &end);
        expect_fault(&in, &end, GP, 0);
        check("TPR", load(APIC_TPR, 4), 0xf9);
    }
    store(APIC_TPR, 4, 0);
}

/* --- debug registers --- */

static void (*const set_address[])(uintptr_t) = {write_dr0, write_dr1, write_dr2, write_dr3};
static uintptr_t (*const get_address[])(void) = {read_dr0, read_dr1, read_dr2, read_dr3};

static void run_addresses(unsigned bits)
{
    struct visit_state in;
    struct visit_end end;

    for (unsigned n = 0; n < 4; n++) {
        unsigned to = place_mov(TO_DR, n, 3), from = place_mov(FROM_DR, n, 3);

        for (unsigned i = 0; i < (bits == 64 ? 64 : 32); i++) {
            uintptr_t value = (uintptr_t)1 << i;

            matrix_case("breakpoint address", bits, n, i, 0);
            set_address[n](~(uintptr_t)0);
            run(bits, 0, to, value, &in, &end);
            expect_done(&end);
            check("register", get_address[n](), value);
            set_address[n](~value);
            run(bits, 0, from, 0, &in, &end);
            check("BX", end.regs.bx, bits == 64 ? ~value : (uint32_t)~value);
        }
        set_address[n](NOWHERE);
    }
}

/* DR6 and DR7, or their aliases: what is fixed, what is reserved. GD is tested elsewhere. */
static void run_status(unsigned bits, unsigned number)
{
    unsigned to = place_mov(TO_DR, number, 3), width = bits == 64 ? 64 : 32;
    bool control = number & 1;
    struct visit_state in;
    struct visit_end end;

    for (unsigned i = 0; i < width; i++) {
        for (unsigned k = i; k < width; k++) {
            uint64_t value = 1ull << i | 1ull << k;

            if (control && (value & DR7_GD))
                continue;
            for (unsigned inverted = 0; inverted < (control ? 1u : 2u); inverted++) {
                matrix_case("DR6, DR7", bits << 4 | number, i, k, inverted);
                if (inverted)
                    value ^= 0xffffffff;
                write_dr6(0);
                run(bits, 0, to, (uintptr_t)value, &in, &end);
                uintptr_t now = control ? read_dr7() : read_dr6();
                write_dr7(0);
                if (value >> 32) {
                    expect_fault(&in, &end, GP, 0);
                    check("register", now, control ? DR7_FIXED : DR6_FIXED);
                } else {
                    expect_done(&end);
                    check("register", now,
                          control ? (value & DR7_FREE) | DR7_FIXED
                                  : (value & DR6_FREE) | DR6_FIXED);
                }
            }
        }
    }
}

/* DR7.GD: #DB in front of each access, with GD clear in the handler. */
static void run_detection(unsigned bits, unsigned opcode)
{
    struct visit_state in;
    struct visit_end end;

    for (unsigned i = 0; i < 8 * 4 * 2; i++) {
        unsigned number = i & 7, cpl = i >> 3 & 3, place = place_mov(opcode, number, 3);
        bool extensions = i >> 5, alias = (number & 6) == 4;

        if (extensions && ((alias && cpl) || !has_extensions()))
            continue;
        matrix_case("DR7.GD", bits << 8 | opcode, number, cpl, extensions);
        cr4_set(CR4_DE, extensions);
        write_dr6(0);
        write_dr7(DR7_GD | 0x300);
        run(bits, cpl, place, number >= 6 ? 0 : NOWHERE, &in, &end);
        bool detected = !cpl && !(alias && extensions);
        if (!detected) { /* GD is still set: its own #DB clears it */
            struct visit_state probe;
            struct visit_end hit;

            run(bits, 0, place_mov(FROM_DR, 7, 3), 0, &probe, &hit);
            check("vector", hit.vector, DB);
        }
        cr4_set(CR4_DE, false);
        if (detected)
            expect_fault(&in, &end, DB, 0);
        else
            expect_fault(&in, &end, cpl ? GP : UD, 0);
        check("DR6", read_dr6(), DR6_FIXED | DR6_BD);
        check("DR7", read_dr7(), DR7_FIXED | 0x300);
        write_dr7(0);
    }
}

/* --- LMSW, SMSW, CLTS, RDTSC --- */

static void run_status_word(unsigned bits, bool memory)
{
    uint8_t bytes[] = {0x0f, 0x01, memory ? 0x33 : 0xf0}; /* LMSW [BX], LMSW AX */
    uint8_t bytes16[] = {0x67, 0x0f, 0x01, bytes[2]};
    unsigned place = bits == 16 ? probe_place(bytes16, 4) : probe_place(bytes, 3);
    uintptr_t base = read_cr0() & ~(uintptr_t)CR0_LOW;
    struct visit_state in;
    struct visit_end end;

    for (unsigned i = 0; i < 16 * 8 * 4 * 2; i++) {
        unsigned value = i & 15, old = (i >> 4 & 7) << 1, cpl = i >> 7 & 3;
        uint32_t operand = value | (i >> 9 ? 0xabcdfff0 : 0);

        matrix_case("LMSW", bits << 4 | memory, operand, old, cpl);
        write_cr0(base | old);
        in = probe_state(bits, cpl, place);
        in.ax = operand;
        in.bx = DATA_AT;
        store(DATA_AT, 4, operand);
        visit(&in, &end);
        uintptr_t now = read_cr0();
        write_cr0(base);
        if (cpl)
            expect_fault(&in, &end, GP, 0);
        else
            expect_done(&end);
        check("CR0", now, base | (cpl ? old : value & CR0_LOW));
    }
}

static void run_store_word(unsigned bits)
{
    static const uint8_t forms[][4] = {
        {0x0f, 0x01, 0xe0}, {0x66, 0x0f, 0x01, 0xe0}, {0x48, 0x0f, 0x01, 0xe0}};
    const uintptr_t pattern = (uintptr_t)0x1122334455667788;
    uintptr_t cr0 = read_cr0();
    struct visit_state in;
    struct visit_end end;

    for (unsigned form = 0; form < (bits == 64 ? 3 : 2); form++) {
        unsigned place = probe_place(forms[form], form ? 4 : 3);
        bool is16 = bits == 16 ? form == 0 : form == 1;

        for (unsigned cpl = 0; cpl < 4; cpl++) {
            matrix_case("SMSW", bits, form, cpl, 0);
            run(bits, cpl, place, bits == 64 ? pattern : (uint32_t)pattern, &in, &end);
            expect_done(&end);
            check("AX", end.regs.ax,
                  is16 ? ((bits == 64 ? pattern : (uint32_t)pattern) & ~(uintptr_t)0xffff) |
                             (cr0 & 0xffff)
                       : cr0);
        }
    }
}

/* CR4.UMIP: what shows system state is privileged, in every form. */
static void run_user_prevention(unsigned bits)
{
    static const uint8_t forms[][4] = {
        {0x67, 0x0f, 0x01, 0x03}, {0x67, 0x0f, 0x01, 0x0b}, {0x67, 0x0f, 0x01, 0x23}, /* memory */
        {0x67, 0x0f, 0x00, 0x03}, {0x67, 0x0f, 0x00, 0x0b}, {0x67, 0x0f, 0x01, 0xe0},
        {0x67, 0x0f, 0x00, 0xc0}, {0x67, 0x0f, 0x00, 0xc8}};
    struct visit_state in;
    struct visit_end end;

    for (unsigned i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        unsigned skip = bits != 16; /* the prefix makes it [EBX] there */
        unsigned place = probe_place(forms[i] + skip, 4 - skip);

        for (unsigned k = 0; k < 8; k++) {
            bool on = k >> 2;

            if (on && !(cr4_bits() & CR4_UMIP))
                continue;
            matrix_case("UMIP", bits, i, k & 3, on);
            if (on)
                cr4_set(CR4_UMIP, true);
            in = probe_state(bits, k & 3, place);
            in.bx = DATA_AT;
            store(DATA_AT, 4, 0x5a5a5a5a);
            visit(&in, &end);
            if (on)
                cr4_set(CR4_UMIP, false);
            if (on && (k & 3)) {
                expect_fault(&in, &end, GP, 0);
                check("memory", load(DATA_AT, 4), 0x5a5a5a5a);
            } else {
                expect_done(&end);
                check("stored", i < 5 && load(DATA_AT, 4) == 0x5a5a5a5a, false);
            }
        }
    }
}

static void run_clts_rdtsc(unsigned bits)
{
    static const uint8_t clts[] = {0x0f, 0x06}, rdtsc[] = {0x0f, 0x31}, rdtscp[] = {0x0f, 1, 0xf9};
    unsigned clts_at = probe_place(clts, 2), rdtsc_at = probe_place(rdtsc, 2);
    unsigned rdtscp_at = probe_place(rdtscp, 3);
    bool has_rdtscp = cpuid_bit(0x80000001, 3, 27);
    uintptr_t cr0 = read_cr0();
    struct visit_state in;
    struct visit_end end;

    for (unsigned i = 0; i < 8; i++) {
        unsigned cpl = i & 3;
        bool on = i >> 2;

        matrix_case("CLTS", bits, cpl, on, 0);
        write_cr0(cr0 | (on ? CR0_TS : 0));
        run(bits, cpl, clts_at, 0, &in, &end);
        uintptr_t now = read_cr0();
        write_cr0(cr0);
        if (cpl)
            expect_fault(&in, &end, GP, 0);
        else
            expect_done(&end);
        check("CR0", now, cr0 | (cpl && on ? CR0_TS : 0));
        if (!(cr4_bits() & CR4_TSD))
            continue;
        for (unsigned k = 0; k < 2; k++) {
            matrix_case("RDTSC, RDTSCP", bits, cpl, on, k);
            cr4_set(CR4_TSD, on);
            run(bits, cpl, k ? rdtscp_at : rdtsc_at, 0, &in, &end);
            cr4_set(CR4_TSD, false);
            if (k && !has_rdtscp)
                expect_fault(&in, &end, UD, 0);
            else if (cpl && on)
                expect_fault(&in, &end, GP, 0);
            else
                expect_done(&end);
        }
    }
}

void matrix_main(void)
{
    static const uint8_t opcodes[] = {TO_CR, FROM_CR, TO_DR, FROM_DR};

    matrix_begin("control and debug registers");
    write_cr0(read_cr0() & ~(uintptr_t)(CR0_NW | CR0_CD | CR0_LOW));
    for (unsigned i = 0; i < 4; i++)
        set_address[i](NOWHERE);
    for (unsigned bits = 16; bits <= MODE; bits *= 2) {
        for (unsigned i = 0; i < 4; i++) {
            for (unsigned number = 0; number < (bits == 64 ? 16 : 8); number++)
                run_number(bits, opcodes[i], number);
        }
        run_all_cr0(bits);
        run_all_cr4(bits);
        run_cr2_cr3(bits);
        run_addresses(bits);
        for (unsigned number = 4; number < 8; number++)
            run_status(bits, number);
        run_detection(bits, TO_DR);
        run_detection(bits, FROM_DR);
        run_status_word(bits, false);
        run_status_word(bits, true);
        run_store_word(bits);
        run_user_prevention(bits);
        run_clts_rdtsc(bits);
    }
    if (MODE == 64)
        run_cr8();
    matrix_end();
}
