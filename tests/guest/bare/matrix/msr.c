/* MODES 32 64 CPUS pentium3. Model-specific registers: each bit, pairs of bits, absent ones. */
#include "matrix.h"

enum kind {
    ANY,       /* keeps what is written */
    LOW_HALF,  /* so, in bits 31:0; nothing is said of the others */
    BITS,      /* keeps the bits of the mask, the others are reserved */
    SOME,      /* keeps the bits of the mask, the others stay */
    ADDRESS,   /* a linear address, canonical */
    TYPES,     /* eight memory types */
    PAT,       /* and UC- */
    MTRR_BASE, /* even numbers a base, odd ones a mask */
    MTRR_DEFAULT,
    BANK, /* of machine checks: CTL, STATUS, ADDR, MISC */
    APIC_BASE,
    EFER,
    READ_ONLY,
    STAYS, /* writes are ignored */
    CLOCK  /* does not stand still */
};

enum feature {
    TSC,
    APIC,
    MCE,
    SEP,
    MTRR,
    MCA,
    CMOV,
    PAT_,
    LM,
    NX,
    ADJUST,
    CAPABILITIES,
    DEADLINE,
    AUX
};

static const struct {
    uint32_t leaf;
    uint8_t reg, bit;
} features[] = {
    [TSC] = {1, 3, 4},          [APIC] = {1, 3, 9},          [MCE] = {1, 3, 7},
    [SEP] = {1, 3, 11},         [MTRR] = {1, 3, 12},         [MCA] = {1, 3, 14},
    [CMOV] = {1, 3, 15},        [PAT_] = {1, 3, 16},         [LM] = {0x80000001, 3, 29},
    [NX] = {0x80000001, 3, 20}, [ADJUST] = {7, 1, 1},        [CAPABILITIES] = {7, 3, 29},
    [DEADLINE] = {1, 2, 24},    [AUX] = {0x80000001, 3, 27},
};

static const struct row {
    uint32_t first, last;
    uint8_t feature, kind;
    uint64_t mask;
} rows[] = {
    {0x0, 0x1, MCE, STAYS, 0},
    {0x10, 0x10, TSC, CLOCK, 0},
    {0x17, 0x17, CMOV, READ_ONLY, 0},
    {0x1b, 0x1b, APIC, APIC_BASE, 0},
    {0x2a, 0x2a, CMOV, STAYS, 0},
    {0x34, 0x35, LM, READ_ONLY, 0},
    {0x3a, 0x3a, LM, READ_ONLY, 0}, /* locked */
    {0x3b, 0x3b, ADJUST, ANY, 0},
    {0x79, 0x79, CMOV, STAYS, 0},
    {0x8b, 0x8b, CMOV, STAYS, 0},
    {0xc1, 0xc2, CMOV, STAYS, 0},
    {0xcd, 0xcd, LM, READ_ONLY, 0},
    {0xce, 0xce, LM, STAYS, 0},
    {0xe2, 0xe2, LM, STAYS, 0},
    {0xfe, 0xfe, MTRR, READ_ONLY, 0},
    {0x10a, 0x10a, CAPABILITIES, READ_ONLY, 0},
    {0x119, 0x119, CMOV, STAYS, 0},
    {0x11e, 0x11e, CMOV, STAYS, 0},
    {0x174, 0x174, SEP, LOW_HALF, 0},
    {0x175, 0x176, SEP, ADDRESS, 0},
    {0x179, 0x179, MCA, READ_ONLY, 0},
    {0x17a, 0x17a, MCA, BITS, 7},
    {0x186, 0x187, CMOV, STAYS, 0},
    {0x198, 0x198, LM, READ_ONLY, 0},
    {0x199, 0x19c, LM, STAYS, 0},
    {0x1a0, 0x1a0, CMOV, SOME, 0xc50009},
    {0x1a2, 0x1a2, LM, STAYS, 0},
    {0x1d9, 0x1d9, CMOV, STAYS, 0},
    {0x1db, 0x1de, CMOV, STAYS, 0},
    {0x1fc, 0x1fc, LM, STAYS, 0},
    {0x200, 0x20f, MTRR, MTRR_BASE, 0},
    {0x250, 0x250, MTRR, TYPES, 0},
    {0x258, 0x259, MTRR, TYPES, 0},
    {0x268, 0x26f, MTRR, TYPES, 0},
    {0x277, 0x277, PAT_, PAT, 0},
    {0x2ff, 0x2ff, MTRR, MTRR_DEFAULT, 0},
    {0x400, 0x427, MCA, BANK, 0},
    {0x6e0, 0x6e0, DEADLINE, STAYS, 0}, /* the timer is in another mode */
    {0xc0000080, 0xc0000080, NX, EFER, 0},
    {0xc0000081, 0xc0000081, LM, ANY, 0},
    {0xc0000082, 0xc0000083, LM, ADDRESS, 0},
    {0xc0000084, 0xc0000084, LM, BITS, 0xffffffff},
    {0xc0000100, 0xc0000102, LM, ADDRESS, 0},
    {0xc0000103, 0xc0000103, AUX, BITS, 0xffffffff},
};
enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

static bool has(enum feature feature)
{
    return cpuid_bit(features[feature].leaf, features[feature].reg, features[feature].bit);
}

static unsigned physical_bits(void)
{
    uint32_t bits = cpuid_register(0x80000008, 0) & 0xff;

    return bits ? bits : 36;
}

static unsigned read_at, write_at;

static bool type_valid(unsigned type, bool pat)
{
    return type < 8 && type != 2 && type != 3 && (type != 7 || pat);
}

static bool types_valid(uint64_t value, bool pat)
{
    for (unsigned i = 0; i < 64; i += 8) {
        if (!type_valid(value >> i & 0xff, pat))
            return false;
    }
    return true;
}

/* 48 bits; on the processors without long mode only the lower half means anything. */
static bool canonical(uint64_t value)
{
    return (uint64_t)((int64_t)(value << 16) >> 16) == value;
}

static bool valid(const struct row *row, uint32_t index, uint64_t value, uint64_t old)
{
    uint64_t beyond = ~0ull << physical_bits();

    switch ((enum kind)row->kind) {
    case BITS:
        return !(value & ~row->mask);
    case ADDRESS:
        return canonical(value);
    case TYPES:
    case PAT:
        return types_valid(value, row->kind == PAT);
    case MTRR_BASE:
        return !(value & (beyond | (index & 1 ? 0x7ff : 0xf00))) &&
               (index & 1 || type_valid(value & 0xff, false));
    case MTRR_DEFAULT:
        return !(value & ~0xcffull) && type_valid(value & 0xff, false);
    case BANK:
        return index % 4 == 0 ? !value || !~value : index % 4 != 1 || !value;
    case APIC_BASE: /* x2APIC, bit 10, is not there */
        return !(value & (beyond | 0x6ff));
    case EFER: /* paging is on */
        return !(value & ~(has(LM) ? 0xd01ull : 0x800ull)) && !((value ^ old) & 0x100);
    case READ_ONLY:
        return false;
    default:
        return true;
    }
}

static uint64_t result(const struct row *row, uint64_t value, uint64_t old)
{
    uint64_t mask = row->mask;

    if (row->kind == STAYS)
        return old;
    if (row->kind != SOME)
        return value;
    mask |= has(NX) ? 1ull << 34 : 0;
    return (value & mask) | (old & ~mask);
}

static bool untested(const struct row *row, uint64_t changed)
{
    return (row->kind == LOW_HALF && changed >> 32) || (row->kind == EFER && changed & 0x400) ||
           (row->kind == APIC_BASE && changed & 0x200900 /* I/O APIC's place, enable, BSP */) ||
           (row->kind == ADDRESS && changed >> 32 && !has(LM));
}

/* The bases of FS and GS, which the way back loads. */
static bool lost(uint32_t index)
{
    return MODE == 32 && (index == 0xc0000100 || index == 0xc0000101);
}

/* RCX, RAX and RDX with upper halves that do not matter. */
static struct visit_state state(unsigned cpl, unsigned place, uint32_t index, uint64_t value)
{
    const uintptr_t upper = MODE == 64 ? (uintptr_t)0xdeadbeef00000000 : 0;
    struct visit_state in = probe_state(MODE, cpl, place);

    in.cx = upper | index;
    in.ax = upper | (uint32_t)value;
    in.dx = upper | (uint32_t)(value >> 32);
    return in;
}

static uint64_t read_in_probe(uint32_t index)
{
    struct visit_state in = state(0, read_at, index, ~0ull);
    struct visit_end end;

    visit(&in, &end);
    expect_done(&end);
    check("upper half of RAX", (uint64_t)end.regs.ax >> 32, 0);
    check("upper half of RDX", (uint64_t)end.regs.dx >> 32, 0);
    check("CX", end.regs.cx, in.cx);
    return (uint64_t)(uint32_t)end.regs.dx << 32 | (uint32_t)end.regs.ax;
}

static void check_value(const char *what, uint64_t got, uint64_t wanted)
{
    check(what, (uint32_t)got, (uint32_t)wanted);
    check(what, (uint32_t)(got >> 32), (uint32_t)(wanted >> 32));
}

static void run_value(const struct row *row, uint32_t index, uint64_t old, uint64_t value)
{
    struct visit_state in = state(0, write_at, index, value);
    struct visit_end end;

    if (untested(row, old ^ value))
        return;
    matrix_case("WRMSR", index, (uint32_t)value, (uint32_t)(value >> 32), 0);
    visit(&in, &end);
    uint64_t now = rdmsr(index);
    if (valid(row, index, value, old)) {
        if (row->kind != STAYS)
            wrmsr(index, old);
        expect_done(&end);
        if (row->kind != CLOCK && !lost(index))
            check_value("value", now, result(row, value, old));
    } else {
        expect_fault(&in, &end, GP, 0);
        if (row->kind != CLOCK)
            check_value("old value", now, old);
    }
}

static void run_register(const struct row *row, uint32_t index)
{
    struct visit_state in;
    struct visit_end end;

    matrix_case("RDMSR", index, 0, 0, 0);
    uint64_t old = read_in_probe(index);
    for (unsigned i = 0; i < 64; i++) {
        for (unsigned k = i; k < 64; k++)
            run_value(row, index, old, old ^ (1ull << i | 1ull << k));
    }
    run_value(row, index, old, row->kind == EFER || row->kind == APIC_BASE ? old : 0);
    run_value(row, index, old, row->kind == EFER || row->kind == APIC_BASE ? old : ~0ull);
    for (unsigned cpl = 1; cpl < 4; cpl++) {
        matrix_case("MSR access", index, cpl, 0, 0);
        in = state(cpl, read_at, index, 0);
        visit(&in, &end);
        expect_fault(&in, &end, GP, 0);
        in = state(cpl, write_at, index, old);
        visit(&in, &end);
        expect_fault(&in, &end, GP, 0);
    }
}

static const struct row *find(uint32_t index)
{
    for (unsigned i = 0; i < ROWS; i++) {
        if (index >= rows[i].first && index <= rows[i].last)
            return has((enum feature)rows[i].feature) ? &rows[i] : NULL;
    }
    return NULL;
}

/* What is not in the table does not exist. */
static void run_range(uint32_t first, uint32_t count)
{
    struct visit_state in;
    struct visit_end end;

    for (uint32_t i = 0; i < count; i++) {
        const struct row *row = find(first + i);

        if (row) {
            run_register(row, first + i);
            continue;
        }
        matrix_case("absent", first + i, 0, 0, 0);
        in = state(0, read_at, first + i, 0);
        visit(&in, &end);
        expect_fault(&in, &end, GP, 0);
        in = state(0, write_at, first + i, 0);
        visit(&in, &end);
        expect_fault(&in, &end, GP, 0);
    }
}

void matrix_main(void)
{
    static const uint8_t rdmsr[] = {0x0f, 0x32}, wrmsr[] = {0x0f, 0x30};
    static const uint32_t ranges[][2] = {
        {0, 0x2000},         {0x40000000, 0x200}, {0x4b564d00, 0x20},  {0x80000000, 0x100},
        {0xc0000000, 0x400}, {0xc0010000, 0x400}, {0xc0011000, 0x100}, {0xffffff00, 0x100}};

    matrix_begin("model-specific registers");
    read_at = probe_place(rdmsr, 2);
    write_at = probe_place(wrmsr, 2);
    for (unsigned i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
        run_range(ranges[i][0], ranges[i][1]);
    matrix_end();
}
