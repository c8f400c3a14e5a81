/* MODES 32. Task switches: through TSS descriptors and task gates, with every kind of bad state. */
#include "matrix.h"

enum {
    VECTOR = 0x40,
    EXT = 1,
    IDT_BIT = 2,
    OTHER_TSS = TASKS_AT,
    OTHER = FREE,     /* its descriptor */
    STATE = FREE + 8, /* a descriptor that its state names */
    TASK_STACK = STACKS_AT + 0x7000,
    BUSY = SYS_TSS_BUSY & ~SYS_TSS
};

enum tss { /* fields of the 32-bit TSS */
           TSS_LINK = 0,
           TSS_ESP0 = 4,
           TSS_SS0 = 8,
           TSS_CR3 = 28,
           TSS_EIP = 32,
           TSS_EFLAGS = 36,
           TSS_EAX = 40,
           TSS_ESP = 56,
           TSS_ES = 72,
           TSS_CS = 76,
           TSS_SS = 80,
           TSS_DS = 84,
           TSS_FS = 88,
           TSS_GS = 92,
           TSS_LDT = 96,
           TSS_TRAP = 100
};

enum means { BY_JMP, BY_CALL, BY_INT, BY_UD, MEANS };

static const struct {
    const char *name;
    uint8_t bytes[2], vector;
    uint32_t external;
} means[] = {
    [BY_JMP] = {"JMP", {0xff, 0x2b}, 0, 0},
    [BY_CALL] = {"CALL", {0xff, 0x1b}, 0, 0},
    [BY_INT] = {"INT n", {0xcd, VECTOR}, VECTOR, 0},
    [BY_UD] = {"exception", {0x0f, 0x0b}, UD, EXT},
};

static void field(enum tss offset, uint32_t value)
{
    store(OTHER_TSS + offset, 4, value);
}

static void write_tss32(void)
{
    for (unsigned i = 0; i < 104; i += 4)
        field((enum tss)i, 0);
    field(TSS_ESP0, stack_top(0));
    field(TSS_SS0, LEVEL_DATA);
    field(TSS_CR3, 0x10000); /* the tables of matrix_begin() */
    field(TSS_EIP, LOW_CODE);
    field(TSS_EFLAGS, 2);
    field(TSS_EAX, 0x12345678);
    field(TSS_ESP, TASK_STACK);
    for (unsigned i = TSS_ES; i <= TSS_GS; i += 4)
        field((enum tss)i, LEVEL_DATA);
    field(TSS_CS, KERNEL_CODE);
    field(TSS_LDT, TEST_LDT);
}

static void write_tss16(void)
{
    static const uint16_t words[22] = {
        [1] = 0x9000,      [2] = LEVEL_DATA,  [7] = LOW_CODE,    [8] = 2,
        [9] = 0x5678,      [13] = 0x9800,     [17] = LEVEL_DATA, [18] = KERNEL_CODE,
        [19] = LEVEL_DATA, [20] = LEVEL_DATA, [21] = TEST_LDT};

    for (unsigned i = 0; i < 22; i++)
        store(OTHER_TSS + 2 * i, 2, words[i]);
}

/* Back in the task that matrix_begin() made, whatever happened. */
static void come_home(void)
{
    __asm__ volatile("clts");
    tss_load(SYS_TSS, 103);
    ldt_load(LDT_LIMIT);
}

static void write_other(unsigned type, unsigned dpl, bool present)
{
    *descriptor_slot(OTHER) = descriptor_make(OTHER_TSS, 103, type, dpl, present, 0);
}

static unsigned type_of(unsigned selector)
{
    return *descriptor_slot(selector) >> 40 & 0x1f;
}

static struct visit_state start_state(unsigned cpl, unsigned place, unsigned selector)
{
    struct visit_state in = probe_state(32, cpl, place);

    in.bx = DATA_AT;
    store(DATA_AT, 4, 0xdead);
    store(DATA_AT + 4, 2, selector);
    return in;
}

/* --- what leads to a task --- */

static void expect_switched(enum means by, const struct visit_state *in,
                            const struct visit_end *end, bool is32)
{
    bool nests = by != BY_JMP;
    uintptr_t saved = in->ip + (by == BY_UD ? 0 : 2);

    expect_done(end);
    check("pc", end->ip, LOW_CODE + 2);
    check("CS", end->cs, KERNEL_CODE);
    check("SP", end->sp, is32 ? TASK_STACK : 0x9800);
    check("AX", end->regs.ax & 0xffff, 0x5678);
    check("NT", (end->flags & FLAG_NT) != 0, nests);
    check("saved pc", load(TSS_AT + TSS_EIP, 4), saved);
    check("saved CS", load(TSS_AT + TSS_CS, 4) & 0xffff, in->cs);
    check("saved SP", load(TSS_AT + TSS_ESP, 4), in->sp);
    check("saved flags", load(TSS_AT + TSS_EFLAGS, 4), in->flags | (by == BY_UD ? FLAG_RF : 0));
    check("busy", type_of(OTHER), is32 ? SYS_TSS_BUSY : SYS_TSS16_BUSY);
    check("old one busy", type_of(TEST_TSS), nests ? SYS_TSS_BUSY : SYS_TSS);
    if (nests)
        check("link", load(OTHER_TSS + TSS_LINK, 2), TEST_TSS);
}

/* JMP and CALL to a TSS descriptor: type, DPL, P, RPL and CPL. */
static void run_descriptors(enum means by, unsigned place)
{
    static const uint8_t types[] = {SYS_TSS16, SYS_TSS16_BUSY, SYS_TSS, SYS_TSS_BUSY};

    for (unsigned i = 0; i < 4 * 4 * 2 * 16; i++) {
        unsigned type = types[i >> 7], dpl = i >> 5 & 3, present = i >> 4 & 1;
        unsigned cpl = i >> 2 & 3, rpl = i & 3;
        struct visit_state in = start_state(cpl, place, OTHER | rpl);
        struct visit_end end;

        matrix_case(means[by].name, cpl, OTHER | rpl, type, dpl << 4 | present);
        write_tss32();
        if (!(type & 8))
            write_tss16();
        write_other(type, dpl, present);
        visit(&in, &end);
        if (dpl < cpl || dpl < rpl || (type & BUSY))
            expect_fault(&in, &end, GP, OTHER);
        else if (!present)
            expect_fault(&in, &end, NP, OTHER);
        else
            expect_switched(by, &in, &end, type & 8);
        come_home();
    }
}

/* Through a task gate, where only the gate's DPL counts; the selector in it has to be global. */
static void run_gates(enum means by, unsigned place)
{
    static const uint16_t named[] = {OTHER, OTHER | 3, OTHER | 4, 0, 0xfff8, KERNEL_DATA, TEST_LDT};
    uint32_t external = means[by].external;
    bool event = by >= BY_INT;

    for (unsigned i = 0; i < 7 * 4 * 2 * 4 * 3; i++) {
        unsigned dpl = i & 3, gate_present = i >> 2 & 1, cpl = i >> 3 & 3, state = i / 32 % 3;
        unsigned selector = named[i / 96];
        uint32_t gate_error = event ? means[by].vector * 8u | IDT_BIT | external : TESTED;
        uint64_t gate = gate_make(selector, 0xbeef, SYS_TASK_GATE, dpl, gate_present, 0);
        struct visit_state in = start_state(cpl, place, TESTED | cpl);
        struct visit_end end;

        matrix_case("task gate", by << 4 | cpl, selector, dpl << 4 | gate_present, state);
        write_tss32();
        write_other(state == 1 ? SYS_TSS_BUSY : SYS_TSS, 0, state != 2);
        if (event)
            idt_set(means[by].vector, gate);
        else
            *descriptor_slot(TESTED) = gate;
        visit(&in, &end);
        idt_restore(VECTOR, 0);
        idt_restore(UD, 0);
        if (by != BY_UD && dpl < cpl)
            expect_fault(&in, &end, GP, gate_error);
        else if (!gate_present)
            expect_fault(&in, &end, NP, gate_error);
        else if ((selector & 0xfffc) != OTHER || state == 1)
            expect_fault(&in, &end, GP, (selector & 0xfffc) | external);
        else if (state == 2)
            expect_fault(&in, &end, NP, OTHER | external);
        else
            expect_switched(by, &in, &end, true);
        come_home();
    }
}

/* A TSS one byte too short, in both sizes: before anything has changed. */
static void run_limits(enum means by, unsigned place)
{
    for (unsigned i = 0; i < 2 * 4; i++) {
        bool is32 = i & 1;
        unsigned least = is32 ? 103 : 43, limit = least - 2 + i / 2;
        struct visit_state in = start_state(0, place, OTHER);
        struct visit_end end;

        matrix_case("limit of the new TSS", by, limit, is32, 0);
        write_tss32();
        if (!is32)
            write_tss16();
        *descriptor_slot(OTHER) =
            descriptor_make(OTHER_TSS, limit, is32 ? SYS_TSS : SYS_TSS16, 0, true, 0);
        visit(&in, &end);
        if (limit < least)
            expect_fault(&in, &end, TS, OTHER);
        else
            expect_switched(by, &in, &end, is32);
        come_home();
    }
}

/* --- the new task's own state --- */

/* A fault of the new task: at its EIP, with its registers. */
static void run_state(enum means by, unsigned place, const char *name, unsigned selector,
                      unsigned vector, uint32_t error)
{
    struct visit_state in = start_state(0, place, OTHER);
    struct visit_end end;
    unsigned cpl;

    matrix_case(name, by, selector, type_of(STATE), vector);
    write_other(SYS_TSS, 0, true);
    if (by == BY_UD)
        idt_set(UD, gate_make(OTHER, 0, SYS_TASK_GATE, 0, true, 0));
    visit(&in, &end);
    idt_restore(UD, 0);
    if (vector == VECTOR_DONE) {
        expect_done(&end);
    } else {
        check("vector", end.vector, vector);
        check("error code", end.error, error | (by == BY_UD && vector != DB ? EXT : 0));
        check("pc", end.ip, load(OTHER_TSS + TSS_EIP, 4));
        check("CS", end.cs, load(OTHER_TSS + TSS_CS, 2));
        check("AX", end.regs.ax, 0x12345678);
    }
    cpl = end.cs & 3;
    check("busy", type_of(OTHER), SYS_TSS_BUSY);
    check("level", cpl, load(OTHER_TSS + TSS_CS, 2) & 3);
    come_home();
}

static void state_descriptor(unsigned type, unsigned dpl, bool present)
{
    *descriptor_slot(STATE) =
        descriptor_make(0, 0xfffff, type, dpl, present, type & 4 && !(type & 8) ? 0 : FLAGS_32);
}

/* Data segments, loaded at the level of the new CS: 0 or 3. */
static void run_data_states(enum means by, unsigned place)
{
    static const uint8_t registers[] = {TSS_ES, TSS_DS, TSS_FS, TSS_GS};

    for (unsigned i = 0; i < 32 * 4 * 2 * 4 * 2; i++) {
        unsigned type = i >> 6 & 31, dpl = i >> 4 & 3, present = i >> 3 & 1, rpl = i >> 1 & 3;
        unsigned cpl = i & 1 ? 3 : 0, selector = STATE | rpl;

        write_tss32();
        state_descriptor(type, dpl, present);
        if (cpl) {
            field(TSS_CS, (LEVEL_CODE32 + 0x60) | 3);
            field(TSS_SS, (LEVEL_DATA + 0x60) | 3);
            for (unsigned k = 0; k < 4; k++)
                field((enum tss)registers[k], (LEVEL_DATA + 0x60) | 3);
        }
        field((enum tss)registers[(type + dpl) % 4], selector);
        if (!is_readable(type) || (!is_conforming(type) && (dpl < cpl || dpl < rpl)))
            run_state(by, place, "data segment of a task", selector, TS, STATE);
        else if (!present)
            run_state(by, place, "data segment of a task", selector, NP, STATE);
        else
            run_state(by, place, "data segment of a task", selector, VECTOR_DONE, 0);
    }
}

static void run_code_states(enum means by, unsigned place)
{
    for (unsigned i = 0; i < 32 * 4 * 2 * 4; i++) {
        unsigned type = i >> 5 & 31, dpl = i >> 3 & 3, present = i >> 2 & 1, rpl = i & 3;
        bool level_fits = is_conforming(type) ? dpl <= rpl : dpl == rpl;

        write_tss32();
        state_descriptor(type, dpl, present);
        field(TSS_CS, STATE | rpl);
        field(TSS_SS, (LEVEL_DATA + 0x20 * rpl) | rpl);
        for (unsigned k = TSS_ES; k <= TSS_GS; k += 4) {
            if (k != TSS_CS && k != TSS_SS)
                field((enum tss)k, (LEVEL_DATA + 0x60) | 3);
        }
        if (!is_code(type) || !level_fits)
            run_state(by, place, "code segment of a task", STATE | rpl, TS, STATE);
        else if (!present)
            run_state(by, place, "code segment of a task", STATE | rpl, NP, STATE);
        else
            run_state(by, place, "code segment of a task", STATE | rpl, VECTOR_DONE, 0);
    }
}

static void run_stack_states(enum means by, unsigned place)
{
    for (unsigned i = 0; i < 32 * 4 * 2 * 4; i++) {
        unsigned type = i >> 5 & 31, dpl = i >> 3 & 3, present = i >> 2 & 1, rpl = i & 3;
        unsigned cpl = 3;

        write_tss32();
        state_descriptor(type, dpl, present);
        field(TSS_CS, (LEVEL_CODE32 + 0x20 * cpl) | cpl);
        for (unsigned k = TSS_ES; k <= TSS_GS; k += 4) {
            if (k != TSS_CS)
                field((enum tss)k, (LEVEL_DATA + 0x60) | 3);
        }
        field(TSS_SS, STATE | rpl);
        if (rpl != cpl || dpl != cpl || !is_writable_data(type))
            run_state(by, place, "stack segment of a task", STATE | rpl, TS, STATE);
        else if (!present)
            run_state(by, place, "stack segment of a task", STATE | rpl, SS_FAULT, STATE);
        else
            run_state(by, place, "stack segment of a task", STATE | rpl, VECTOR_DONE, 0);
    }
}

static void run_ldt_states(enum means by, unsigned place)
{
    for (unsigned i = 0; i < 32 * 4 * 2 * 4; i++) {
        unsigned type = i >> 5 & 31, dpl = i >> 3 & 3, present = i >> 2 & 1, rpl = i & 3;

        write_tss32();
        state_descriptor(type, dpl, present);
        field(TSS_LDT, STATE | rpl);
        if (type != SYS_LDT || !present)
            run_state(by, place, "LDT of a task", STATE | rpl, TS, STATE);
        else
            run_state(by, place, "LDT of a task", STATE | rpl, VECTOR_DONE, 0);
    }
}

/* Null, local and absent selectors in each field, and an EIP outside the segment. */
static void run_odd_states(enum means by, unsigned place)
{
    static const uint8_t fields[] = {TSS_LDT, TSS_CS, TSS_SS, TSS_ES, TSS_DS, TSS_FS, TSS_GS};
    static const uint16_t bad[] = {0xfff8, 0xfffc};

    for (unsigned i = 0; i < 7; i++) {
        bool may_be_null = fields[i] != TSS_CS && fields[i] != TSS_SS;

        write_tss32();
        field((enum tss)fields[i], 0);
        run_state(by, place, "null selector in a TSS", i, may_be_null ? VECTOR_DONE : TS, 0);
        for (unsigned k = 0; k < 2; k++) {
            write_tss32();
            field((enum tss)fields[i], bad[k]);
            run_state(by, place, "selector outside in a TSS", bad[k], TS, bad[k]);
        }
    }
    write_tss32();
    field(TSS_LDT, TEST_LDT | 4);
    run_state(by, place, "LDT in the LDT", 0, TS, TEST_LDT | 4);
    write_tss32();
    *descriptor_slot(STATE) = descriptor_make(0, LOW_CODE - 1, TYPE_CODE, 0, true, 4);
    field(TSS_CS, STATE);
    run_state(by, place, "EIP outside", 0, GP, 0);
    write_tss32();
    field(TSS_TRAP, 1);
    run_state(by, place, "T flag", 0, DB, 0);
}

/* --- IRET with NT --- */

static void run_links(void)
{
    static const uint8_t iret[] = {0xcf};
    unsigned place = probe_place(iret, 1);

    for (unsigned i = 0; i < (32 + 3) * 2 * 4; i++) {
        static const uint16_t outside[] = {0, OTHER | 4, 0xfff8};
        unsigned type = i / 8, present = i >> 2 & 1, cpl = i & 3;
        unsigned link = type < 32 ? OTHER : outside[type - 32];
        struct visit_state in = start_state(cpl, place, 0);
        struct visit_end end;

        type = type < 32 ? type : SYS_TSS_BUSY;
        matrix_case("IRET to a task", cpl, link, type, present);
        write_tss32();
        if (type == SYS_TSS16_BUSY)
            write_tss16();
        write_other(type, 0, present);
        store(TSS_AT + TSS_LINK, 2, link);
        in.flags |= FLAG_NT;
        visit(&in, &end);
        if (link != OTHER || (type != SYS_TSS_BUSY && type != SYS_TSS16_BUSY)) {
            expect_fault(&in, &end, TS, link & 0xfffc);
        } else if (!present) {
            expect_fault(&in, &end, NP, link & 0xfffc);
        } else {
            expect_done(&end);
            check("pc", end.ip, LOW_CODE + 2);
            check("NT", end.flags & FLAG_NT, 0);
            check("saved flags", load(TSS_AT + TSS_EFLAGS, 4), 2);
            check("busy", type_of(OTHER), type);
            check("old one", type_of(TEST_TSS), SYS_TSS);
        }
        come_home();
    }
}

/* --- VIF and VIP of the new task --- */

enum { AT_DIVIDE = 0x10, CR4_VME = 1, CR4_PVI = 2 };

static const struct {
    const char *name;
    uint8_t bytes[2], vector, bx;
    bool nests;
} ways[] = {
    {"JMP", {0xff, 0x2b}, 0, 0, false}, {"CALL", {0xff, 0x1b}, 0, 0, true},
    {"IRET", {0xcf}, 0, 0, false},      {"INT n", {0xcd, VECTOR}, VECTOR, 0, true},
    {"#UD", {0x0f, 0x0b}, UD, 0, true}, {"#NP", {0x8e, 0xdb}, NP, 0x70, true},
    {"#PF", {0x8a, 0x03}, PF, 1, true},
};

enum new_level { NEW_VM86, NEW_LEVEL_3, NEW_LEVEL_0, NEW_LEVELS };

static void write_virtual_task(enum new_level level, uint32_t flags, bool trap)
{
    write_tss32();
    field(TSS_EFLAGS, flags);
    field(TSS_TRAP, trap);
    field(TSS_EIP, LOW_CODE + AT_DIVIDE);
    if (level == NEW_VM86) {
        field(TSS_EIP, AT_DIVIDE);
        field(TSS_CS, LOW_CODE >> 4);
        field(TSS_ESP, 0x100);
    }
    for (unsigned i = TSS_ES; i <= TSS_GS && level == NEW_LEVEL_3; i += 4)
        field((enum tss)i, ((i == TSS_CS ? LEVEL_CODE32 : LEVEL_DATA) + 0x60) | 3);
}

/*
 * #GP(0) in front of the new task's first instruction, behind the trap of the TSS. It is not part
 * of the delivery of what led there: no double fault, no EXT. Without it comes the division error.
 */
static void run_virtual_flags(unsigned way, unsigned place, unsigned i)
{
    enum new_level level = (enum new_level)(i % NEW_LEVELS);
    unsigned cr4 = i / NEW_LEVELS & 3, iopl = i / NEW_LEVELS >> 4 & 3;
    bool vif = i / NEW_LEVELS >> 2 & 1, vip = i / NEW_LEVELS >> 3 & 1;
    bool trap = i / NEW_LEVELS >> 6 & 1;
    uint32_t flags = 2 | iopl << 12 | (vif ? FLAG_VIF : 0) | (vip ? FLAG_VIP : 0) |
                     (level == NEW_VM86 ? FLAG_VM : 0);
    bool counts = level == NEW_VM86 ? cr4 & CR4_VME : level == NEW_LEVEL_3 && (cr4 & CR4_PVI);
    struct visit_state in = start_state(0, place, OTHER);
    struct visit_end end;

    matrix_case(ways[way].name, level, flags, cr4, trap);
    write_virtual_task(level, flags, trap);
    write_other(ways[way].bytes[0] == 0xcf ? SYS_TSS_BUSY : SYS_TSS, 0, true);
    in.flags |= ways[way].bytes[0] == 0xcf ? FLAG_NT : 0;
    if (ways[way].bx)
        in.bx = ways[way].bx == 1 ? HOLE_AT : ways[way].bx;
    store(TSS_AT + TSS_LINK, 2, OTHER);
    if (ways[way].vector)
        idt_set(ways[way].vector, gate_make(OTHER, 0, SYS_TASK_GATE, 0, true, 0));
    cr4_set(cr4, true);
    visit(&in, &end);
    cr4_set(CR4_VME | CR4_PVI, false);
    if (ways[way].vector)
        idt_restore(ways[way].vector, 0);
    bool faults = vif && vip && iopl < 3 && counts;
    check("vector", end.vector, trap ? DB : faults ? GP : DE);
    check("error code", end.error, 0);
    check("pc", end.ip, load(OTHER_TSS + TSS_EIP, 4));
    check("CS", end.cs, load(OTHER_TSS + TSS_CS, 2));
    check("flags", end.flags, flags | (ways[way].nests ? FLAG_NT : 0) | (trap ? 0 : FLAG_RF));
    come_home();
}

static void run_all_virtual_flags(void)
{
    store(LOW_CODE + AT_DIVIDE, 2, 0x00d4); /* AAM by zero: #DE */
    page_set(HOLE_AT, 0);
    for (unsigned way = 0; way < sizeof(ways) / sizeof(ways[0]); way++) {
        unsigned place = probe_place(ways[way].bytes, ways[way].bytes[0] == 0xcf ? 1 : 2);

        for (unsigned i = 0; i < NEW_LEVELS * 128; i++)
            run_virtual_flags(way, place, i);
    }
    page_set(HOLE_AT, 7);
}

/*
 * The T flag's trap together with TF: in front of the new task's first instruction, which is where
 * it returns to (SDM vol. 3, 17.3.1.5), ahead of a step over what switched (6.9). Whether DR6.BS is
 * set, too, when the old task had TF is left open; the new task's TF has not stepped yet.
 */
static void run_traps(void)
{
    enum { DR6_BITS = 0xe00f, BS = 1 << 14, BT = 1 << 15 };

    page_set(HOLE_AT, 0);
    for (unsigned i = 0; i < 8 * sizeof(ways) / sizeof(ways[0]); i++) {
        unsigned way = i / 8, size = ways[way].bytes[0] == 0xcf ? 1 : 2;
        bool t = i & 1, old_tf = i >> 1 & 1, new_tf = i >> 2 & 1;
        struct visit_state in = start_state(0, probe_place(ways[way].bytes, size), OTHER);
        struct visit_end end;

        matrix_case("T and TF", way, t, old_tf, new_tf);
        write_virtual_task(NEW_LEVEL_0, 2 | (new_tf ? FLAG_TF : 0), t);
        field(TSS_EIP, LOW_CODE);
        write_other(size == 1 ? SYS_TSS_BUSY : SYS_TSS, 0, true);
        in.flags |= (size == 1 ? FLAG_NT : 0) | (old_tf ? FLAG_TF : 0);
        if (ways[way].bx)
            in.bx = ways[way].bx == 1 ? HOLE_AT : ways[way].bx;
        store(TSS_AT + TSS_LINK, 2, OTHER);
        if (ways[way].vector)
            idt_set(ways[way].vector, gate_make(OTHER, 0, SYS_TASK_GATE, 0, true, 0));
        write_dr6(0);
        visit(&in, &end);
        if (ways[way].vector)
            idt_restore(ways[way].vector, 0);
        if (t) {
            check("vector", end.vector, DB);
            check("pc", end.ip, LOW_CODE);
            check("TF", end.flags & FLAG_TF, new_tf ? FLAG_TF : 0);
            check("DR6", read_dr6() & DR6_BITS & ~(old_tf ? (uintptr_t)BS : 0), BT);
        } else if (!old_tf) {
            expect_done(&end);
            check("DR6", read_dr6() & DR6_BITS, 0);
        }
        come_home();
    }
    page_set(HOLE_AT, 7);
}

void matrix_main(void)
{
    unsigned place[MEANS];

    matrix_begin("task switches");
    for (unsigned by = BY_JMP; by < MEANS; by++)
        place[by] = probe_place(means[by].bytes, 2);
    for (unsigned by = BY_JMP; by < MEANS; by++) {
        run_gates((enum means)by, place[by]);
        if (by < BY_INT) {
            run_descriptors((enum means)by, place[by]);
            run_limits((enum means)by, place[by]);
        }
        if (by == BY_JMP || by == BY_UD) {
            run_data_states((enum means)by, place[by]);
            run_code_states((enum means)by, place[by]);
            run_stack_states((enum means)by, place[by]);
            run_ldt_states((enum means)by, place[by]);
            run_odd_states((enum means)by, place[by]);
        }
    }
    run_links();
    run_all_virtual_flags();
    run_traps();
    matrix_end();
}
