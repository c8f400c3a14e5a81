/* MODES 32 64. Interrupt, trap and call gates: their own rights, their targets, the inner stacks.
 */
#include "matrix.h"

enum { WORD = sizeof(uintptr_t), VECTOR = 0x40, LOW_JUMP = LOW_CODE + 0x100, EXT = 1, IDT_BIT = 2 };

/* The ways an event comes up. */
struct source {
    const char *name;
    uint8_t bytes[2], count;
    uint8_t vector;
    bool software; /* the gate's DPL counts */
    bool fault;    /* pushes the instruction's own pc */
    bool legacy_only;
};

static const struct source sources[] = {
    {"INT n", {0xcd, VECTOR}, 2, VECTOR, true, false, false},
    {"INT3", {0xcc}, 1, BP, true, false, false},
    {"INTO", {0xce}, 1, OF, true, false, true},
    {"INT1", {0xf1}, 1, DB, false, false, false},
    {"UD2", {0x0f, 0x0b}, 2, UD, false, true, false},
};

static bool long_mode(void)
{
    return MODE == 64;
}

static uint32_t external(const struct source *source)
{
    return source->software ? 0 : EXT;
}

static struct visit_state source_state(const struct source *source, unsigned bits, unsigned cpl,
                                       unsigned place)
{
    struct visit_state in = probe_state(bits, cpl, place);

    if (source->vector == OF)
        in.flags |= 0x800;
    in.flags |= FLAG_NT | FLAG_IF;
    return in;
}

/* The values that an interrupt gate pushed at at: pc, CS, flags, and SP and SS. */
static void check_frame(uintptr_t at, unsigned size, const struct visit_state *in,
                        const struct source *source, bool outer)
{
    uintptr_t mask = size == 2 ? 0xffff : ~(uintptr_t)0;
    uintptr_t flags = in->flags | (source->fault ? FLAG_RF : 0);

    check("pushed pc", load(at, size), (in->ip + (source->fault ? 0 : source->count)) & mask);
    check("pushed CS", load(at + size, size) & 0xffff, in->cs);
    check("pushed flags", load(at + 2 * size, size), flags & mask);
    if (outer) {
        check("pushed SP", load(at + 3 * size, size), in->sp & mask);
        check("pushed SS", load(at + 4 * size, size) & 0xffff, in->ss);
    }
}

/* --- the gate's own type, DPL and P --- */

static bool gate_type_works(unsigned type)
{
    if (type == SYS_INT || type == SYS_TRAP)
        return true;
    return !long_mode() && (type == SYS_INT16 || type == SYS_TRAP16);
}

static void run_gate(const struct source *source, unsigned bits, unsigned place, unsigned i)
{
    unsigned type = i >> 5 & 31, dpl = i >> 3 & 3, present = i >> 2 & 1, cpl = i & 3;
    uint32_t error = source->vector * 8u | IDT_BIT | external(source);
    struct visit_state in = source_state(source, bits, cpl, place);
    bool is16 = !(type & 8);
    struct visit_end end;
    uintptr_t inner;

    if (type == SYS_TASK_GATE && !long_mode())
        return;
    matrix_case(source->name, bits << 4 | cpl, type, dpl, present);
    idt_set(source->vector,
            gate_make(KERNEL_CODE, is16 ? LOW_JUMP : landing(1), type, dpl, present, 0));
    visit(&in, &end);
    idt_restore(source->vector, 0);
    if (!gate_type_works(type) || (source->software && dpl < cpl)) {
        expect_fault(&in, &end, GP, error);
    } else if (!present) {
        expect_fault(&in, &end, NP, error);
    } else {
        check("landing", end.vector, LANDING + 1);
        inner = cpl ? stack_top(0) : in.sp;
        check("inner stack", end.regs.sp,
              inner - (cpl || long_mode() ? 5 : 3) * (is16 ? 2u : WORD));
        check_frame(end.regs.sp, is16 ? 2 : WORD, &in, source, cpl || long_mode());
        check("IF", (end.regs.flags & FLAG_IF) != 0, type & 1);
        check("NT", end.regs.flags & FLAG_NT, 0);
    }
}

static void run_gates(const struct source *source, unsigned bits)
{
    unsigned place = probe_place(source->bytes, source->count);

    for (unsigned i = 0; i < 32 * 4 * 2 * 4; i++)
        run_gate(source, bits, place, i);
}

/* --- the code segment behind it --- */

struct target {
    unsigned selector, type, dpl, flags;
    bool found, present;
};

/* The level that the handler runs at; false: the exception is vector, error without EXT. */
static bool target_level(const struct target *t, unsigned cpl, unsigned *level, unsigned *vector)
{
    *vector = GP;
    if (!t->found || !is_code(t->type) || t->dpl > cpl)
        return false;
    if (long_mode() && (t->flags & 6) != 2)
        return false;
    *vector = NP;
    *level = is_conforming(t->type) ? cpl : t->dpl;
    return t->present;
}

static void run_target(const struct source *source, unsigned bits, unsigned place, unsigned cpl,
                       const struct target *t)
{
    struct visit_state in = source_state(source, bits, cpl, place);
    unsigned level, vector;
    struct visit_end end;
    uintptr_t inner;
    bool outer;

    matrix_case("target of an interrupt gate", bits << 4 | cpl, t->selector,
                t->type << 8 | t->dpl << 4 | t->present, t->flags << 8 | source->vector);
    idt_set(source->vector, gate_make(t->selector, LOW_CODE, SYS_TRAP, 3, true, 0));
    visit(&in, &end);
    idt_restore(source->vector, 0);
    if (!target_level(t, cpl, &level, &vector)) {
        /* Which comes first, absent or not of 64 bits, is not specified. */
        if (vector == GP && end.vector == NP && is_code(t->type) && t->dpl <= cpl && !t->present)
            vector = NP;
        expect_fault(&in, &end, vector, (t->selector & 0xfffc) | external(source));
        return;
    }
    expect_done(&end);
    outer = level < cpl;
    inner = outer ? stack_top(level) : in.sp;
    inner -= (outer || long_mode() ? 5 : 3) * WORD;
    check("pc", end.ip, LOW_CODE + 2);
    check("CS", end.cs, (t->selector & ~3u) | level);
    check("inner stack", end.sp, inner);
    check_frame(inner, WORD, &in, source, outer || long_mode());
    check("accessed", *descriptor_slot(t->selector) >> 40 & 1, 1);
    if (outer)
        check("inner SS", end.ss, long_mode() ? level : ((LEVEL_DATA + 0x20 * level) | level));
}

static void run_targets(const struct source *source, unsigned bits, unsigned flags)
{
    static const uint16_t absent[] = {0, 1, 2, 3, 0xffff, 0xfff8, GDT_LIMIT + 1};
    unsigned place = probe_place(source->bytes, source->count);
    struct target t = {.flags = flags, .found = true};

    for (unsigned i = 0; i < 32 * 4 * 2 * 16; i++) {
        t.type = i >> 7 & 31;
        t.dpl = i >> 5 & 3;
        t.present = i >> 4 & 1;
        t.selector = TESTED | (t.dpl & 1) << 2 | (i & 3); /* the RPL does not matter */
        *descriptor_slot(t.selector) =
            descriptor_make(0, 0xfffff, t.type, t.dpl, t.present, t.flags);
        run_target(source, bits, place, i >> 2 & 3, &t);
    }
    t.found = false;
    for (unsigned i = 0; i < sizeof(absent) / 2 * 4; i++) {
        t.selector = absent[i / 4];
        run_target(source, bits, place, i & 3, &t);
    }
}

/* --- call gates --- */

struct far_use {
    const char *name;
    uint8_t modrm;
    bool call;
};

static const struct far_use far_uses[] = {{"JMP to a gate", 0x2b, false},
                                          {"CALL to a gate", 0x1b, true}};

/* Three bytes in every code size: [EBX] needs an address size prefix in 16-bit code. */
static unsigned far_place(const struct far_use *use, unsigned bits)
{
    const uint8_t bytes[] = {bits == 16 ? 0x67 : 0x3e, 0xff, use->modrm};

    return probe_place(bytes, sizeof(bytes));
}

static struct visit_state far_state(unsigned bits, unsigned cpl, unsigned place, unsigned selector)
{
    struct visit_state in = probe_state(bits, cpl, place);

    in.bx = DATA_AT;
    store(DATA_AT, bits == 16 ? 2 : 4, 0xdead); /* the offset does not matter */
    store(DATA_AT + (bits == 16 ? 2 : 4), 2, selector);
    return in;
}

static unsigned level_code(unsigned level)
{
    return (long_mode() ? LEVEL_CODE64 : LEVEL_CODE32) + 0x20 * level;
}

static void gate_write(unsigned selector, uint64_t gate)
{
    uint64_t *slot = descriptor_slot(selector);

    slot[0] = gate;
    slot[1] = 0;
}

static bool is_call_gate(unsigned type)
{
    return type == SYS_CALL || (type == SYS_CALL16 && !long_mode());
}

static void run_call_gate_rights(const struct far_use *use, unsigned bits)
{
    unsigned place = far_place(use, bits);

    for (unsigned i = 0; i < 2 * 4 * 2 * 16; i++) {
        unsigned type = i >> 7 ? SYS_CALL : SYS_CALL16, dpl = i >> 5 & 3, present = i >> 4 & 1;
        unsigned cpl = i >> 2 & 3, rpl = i & 3, selector = TESTED | (dpl & 1) << 2 | rpl;
        struct visit_state in = far_state(bits, cpl, place, selector);
        unsigned size = long_mode() ? 8 : type == SYS_CALL ? 4 : 2;
        struct visit_end end;

        matrix_case(use->name, bits << 4 | cpl, selector, type, dpl << 4 | present);
        gate_write(selector, gate_make(level_code(cpl), LOW_CODE, type, dpl, present, 0));
        visit(&in, &end);
        if (!is_call_gate(type) || dpl < cpl || dpl < rpl) {
            expect_fault(&in, &end, GP, selector & 0xfffc);
        } else if (!present) {
            expect_fault(&in, &end, NP, selector & 0xfffc);
        } else {
            expect_done(&end);
            check("pc", end.ip, LOW_CODE + 2);
            check("CS", end.cs, level_code(cpl) | cpl);
            check("stack pointer", end.sp, in.sp - (use->call ? 2 * size : 0));
        }
    }
}

/* Pushed by a call gate at at: pc, CS, parameters, SP, SS. */
static void check_call_frame(uintptr_t at, unsigned size, const struct visit_state *in,
                             unsigned parameters, bool outer)
{
    uintptr_t mask = size == 2 ? 0xffff : ~(uintptr_t)0;

    check("pushed pc", load(at, size), (in->ip + 3) & mask);
    check("pushed CS", load(at + size, size) & 0xffff, in->cs);
    if (!outer)
        return;
    for (unsigned i = 0; i < parameters; i++)
        check("parameter", load(at + (2 + i) * size, size), load(in->sp + i * size, size));
    at += (2 + parameters) * size;
    check("pushed SP", load(at, size), in->sp & mask);
    check("pushed SS", load(at + size, size) & 0xffff, in->ss);
}

static void run_call_target(const struct far_use *use, unsigned bits, unsigned place, unsigned cpl,
                            const struct target *t)
{
    struct visit_state in = far_state(bits, cpl, place, TESTED2 | cpl);
    unsigned level = cpl, vector;
    struct visit_end end;
    bool works = target_level(t, cpl, &level, &vector);
    uintptr_t at;

    matrix_case(use->name, bits << 4 | cpl, t->selector, t->type << 8 | t->dpl << 4 | t->present,
                t->flags);
    gate_write(TESTED2, gate_make(t->selector, LOW_CODE, SYS_CALL, 3, true, 0));
    visit(&in, &end);
    if (!use->call && (works || vector == NP) && level != cpl) { /* JMP stays at its level */
        works = false;
        vector = GP;
    }
    if (!works) {
        expect_fault(&in, &end, vector, t->selector & 0xfffc);
        return;
    }
    expect_done(&end);
    check("CS", end.cs, (t->selector & ~3u) | level);
    at = (level < cpl ? stack_top(level) : in.sp) - (level < cpl ? 4 : 2) * WORD;
    check("stack pointer", end.sp, use->call ? at : in.sp);
    if (use->call)
        check_call_frame(at, WORD, &in, 0, level < cpl);
}

static void run_call_targets(const struct far_use *use, unsigned bits, unsigned flags)
{
    static const uint16_t absent[] = {0, 3, 0xffff, 0xfff8, GDT_LIMIT + 1};
    unsigned place = far_place(use, bits);
    struct target t = {.flags = flags, .found = true};

    for (unsigned i = 0; i < 32 * 4 * 2 * 4; i++) {
        t.type = i >> 5 & 31;
        t.dpl = i >> 3 & 3;
        t.present = i >> 2 & 1;
        t.selector = TESTED | (t.type & 1) << 2 | (t.dpl ^ 3);
        *descriptor_slot(t.selector) =
            descriptor_make(0, 0xfffff, t.type, t.dpl, t.present, t.flags);
        run_call_target(use, bits, place, i & 3, &t);
    }
    t.found = false;
    for (unsigned i = 0; i < sizeof(absent) / 2 * 4; i++) {
        t.selector = absent[i / 4];
        run_call_target(use, bits, place, i & 3, &t);
    }
}

/* 0 to 31 parameters through gates of both sizes, to each inner level; in long mode none. */
static void run_parameters(unsigned bits)
{
    unsigned place = far_place(&far_uses[1], bits);
    struct visit_end end;

    for (unsigned i = 0; i < 2 * 3 * 32; i++) {
        unsigned size = long_mode() ? 8 : i & 1 ? 4 : 2, level = (i >> 1) % 3, count = i / 6;
        unsigned copied = long_mode() ? 0 : count;
        struct visit_state in = far_state(bits, 3, place, TESTED | 3);
        uintptr_t at = stack_top(level) - (4 + copied) * size;

        matrix_case("parameters of a call gate", bits, size, level, count);
        for (unsigned k = 0; k < 32; k++)
            store(in.sp + 4 * k, 4, 0x9e3779b9u * (k + i + 1));
        gate_write(TESTED, gate_make(level_code(level), LOW_CODE, size == 2 ? SYS_CALL16 : SYS_CALL,
                                     3, true, count));
        visit(&in, &end);
        expect_done(&end);
        check("CS", end.cs, level_code(level) | level);
        check("inner stack", end.sp, at);
        check_call_frame(at, size, &in, copied, true);
    }
}

/* --- the inner stack --- */

/* From cpl to a lower level by INT n or by CALL; what the entry of the TSS is worth decides. */
struct entry {
    const char *name;
    bool call;
    unsigned cpl, level, bits, place;
    unsigned words; /* pushed */
    uint32_t external;
};

static void enter_inner(const struct entry *e, struct visit_state *in, struct visit_end *end)
{
    uint64_t gate =
        gate_make(level_code(e->level), LOW_CODE, e->call ? SYS_CALL : SYS_TRAP, 3, true, 0);

    *in = far_state(e->bits, e->cpl, e->place, TESTED2 | e->cpl);
    if (e->call)
        gate_write(TESTED2, gate);
    else
        idt_set(e->external ? UD : VECTOR, gate);
    visit(in, end);
    idt_restore(VECTOR, 0);
    idt_restore(UD, 0);
}

static unsigned stack_selector(unsigned level)
{
    return (LEVEL_DATA + 0x20 * level) | level;
}

static void run_stack_descriptors(const struct entry *e)
{
    struct visit_state in;
    struct visit_end end;

    for (unsigned i = 0; i < 32 * 4 * 2 * 4; i++) {
        unsigned type = i >> 5 & 31, dpl = i >> 3 & 3, present = i >> 2 & 1;
        unsigned selector = TESTED | (type & 1) << 2 | (i & 3);
        bool down = type & CONFORMING_BIT;

        matrix_case(e->name, e->cpl << 4 | e->level, selector, type, dpl << 4 | present);
        *descriptor_slot(selector) =
            descriptor_make(0, down ? 0xfff : 0xfffff, type, dpl, present, down ? 4 : FLAGS_32);
        tss_set_stack(e->level, selector, stack_top(e->level));
        enter_inner(e, &in, &end);
        if ((selector & 3) != e->level || dpl != e->level || !is_writable_data(type)) {
            expect_fault(&in, &end, TS, (selector & 0xfffc) | e->external);
        } else if (!present) {
            expect_fault(&in, &end, SS_FAULT, (selector & 0xfffc) | e->external);
        } else {
            expect_done(&end);
            check("inner SS", end.ss, selector);
            check("inner stack", end.sp, stack_top(e->level) - e->words * WORD);
            check("accessed", *descriptor_slot(selector) >> 40 & 1, 1);
        }
    }
}

static void run_stack_absent(const struct entry *e)
{
    static const uint16_t absent[] = {0, 1, 2, 3, 0xffff, 0xfffd, GDT_LIMIT + 2};
    struct visit_state in;
    struct visit_end end;

    for (unsigned i = 0; i < sizeof(absent) / 2; i++) {
        matrix_case(e->name, e->cpl << 4 | e->level, absent[i], 0, 0);
        tss_set_stack(e->level, absent[i], stack_top(e->level));
        enter_inner(e, &in, &end);
        expect_fault(&in, &end, TS, (absent[i] & 0xfffc) | e->external);
    }
}

/* The frame has to fit, byte for byte. */
static void run_stack_room(const struct entry *e)
{
    unsigned selector = TESTED | e->level, need = e->words * WORD;
    struct visit_state in;
    struct visit_end end;

    for (unsigned sp = 0; sp < 0x110; sp++) {
        bool fits = sp >= need && sp <= 0x100;

        matrix_case("room for the frame", e->cpl << 4 | e->level, sp, e->call, e->external);
        *descriptor_slot(selector) =
            descriptor_make(DATA_AT + 0x100, 0xff, TYPE_DATA, e->level, true, 4);
        tss_set_stack(e->level, selector, sp);
        enter_inner(e, &in, &end);
        if (fits) {
            expect_done(&end);
            check("inner stack", end.sp, sp - need);
        } else {
            expect_fault(&in, &end, SS_FAULT, (selector & 0xfffc) | e->external);
        }
    }
}

/* The stack's entry has to lie within the TSS. */
static void run_tss_limits(const struct entry *e)
{
    unsigned first = long_mode() ? 4 : 4 + 8, last = first + 8 * e->level + 7;
    struct visit_state in;
    struct visit_end end;

    last = long_mode() ? 4 + 8 * e->level + 7 : 4 + 8 * e->level + 5;
    for (unsigned limit = last - 4; limit <= last + 2; limit++) {
        matrix_case("limit of the TSS", e->cpl << 4 | e->level, limit, e->call, e->external);
        tss_load(SYS_TSS, limit);
        enter_inner(e, &in, &end);
        if (limit < last)
            expect_fault(&in, &end, TS, TEST_TSS | e->external);
        else
            expect_done(&end);
    }
    tss_load(SYS_TSS, 103);
}

static void tss16_set_stack(unsigned level)
{
    store(TSS_AT + 2 + 4 * level, 2, 0x9000 + 0x400 * level);
    store(TSS_AT + 4 + 4 * level, 2, stack_selector(level));
}

static void run_tss16(const struct entry *e)
{
    unsigned last = 2 + 4 * e->level + 3;
    struct visit_state in;
    struct visit_end end;

    for (unsigned level = 0; level < 3; level++)
        tss16_set_stack(level);
    for (unsigned limit = last - 3; limit <= last + 1; limit++) {
        matrix_case("limit of a 16-bit TSS", e->cpl << 4 | e->level, limit, e->call, e->external);
        tss_load(SYS_TSS16, limit);
        enter_inner(e, &in, &end);
        if (limit < last) {
            expect_fault(&in, &end, TS, TEST_TSS | e->external);
        } else {
            expect_done(&end);
            check("inner stack", end.sp, 0x9000 + 0x400 * e->level - e->words * WORD);
            check("inner SS", end.ss, stack_selector(e->level));
        }
    }
    tss_load(SYS_TSS, 103);
}

/* A page of the inner stack that is absent or read-only: nothing has changed yet. */
static void run_stack_pages(const struct entry *e)
{
    static const uint8_t bits[] = {0, 1, 5, 3};
    struct visit_state in;
    struct visit_end end;

    for (unsigned i = 0; i < sizeof(bits); i++) {
        matrix_case("page of the inner stack", e->cpl << 4 | e->level, bits[i], e->call, 0);
        tss_set_stack(e->level, stack_selector(e->level), HOLE_AT + 8); /* the frame straddles */
        page_set(HOLE_AT - 0x1000, bits[i]);
        enter_inner(e, &in, &end);
        page_set(HOLE_AT - 0x1000, 7);
        if (bits[i] & 2) {
            expect_done(&end);
            continue;
        }
        expect_fault(&in, &end, PF, bits[i] ? 3 : 2);
        check("CR2", read_cr2() >> 12, (HOLE_AT >> 12) - 1);
    }
}

static void run_noncanonical_rsp(const struct entry *e)
{
    struct visit_state in;
    struct visit_end end;

    matrix_case("RSP that is not canonical", e->cpl, e->level, e->call, e->external);
    tss_set_stack(e->level, 0, (uintptr_t)0x8000000000001000 >> (sizeof(uintptr_t) == 4));
    enter_inner(e, &in, &end);
    expect_fault(&in, &end, SS_FAULT, e->external);
}

static void run_entry(const struct entry *e)
{
    if (long_mode()) {
        run_noncanonical_rsp(e);
    } else {
        run_stack_descriptors(e);
        run_stack_absent(e);
        run_stack_room(e);
        run_tss16(e);
    }
    for (unsigned level = 0; level < 3; level++)
        tss_set_stack(level, stack_selector(level), stack_top(level));
    run_tss_limits(e);
    run_stack_pages(e);
    tss_set_stack(e->level, stack_selector(e->level), stack_top(e->level));
}

/* Levels 1 and 2: level 0 has to keep a stack for the exceptions. */
static void run_inner_stacks(unsigned bits)
{
    static const uint8_t levels[][2] = {{3, 1}, {3, 2}, {2, 1}};
    unsigned int_n = probe_place(sources[0].bytes, 2), ud = probe_place(sources[4].bytes, 2);
    unsigned call = far_place(&far_uses[1], bits);

    for (unsigned i = 0; i < 3; i++) {
        struct entry e = {"stack for INT n", false, levels[i][0], levels[i][1], bits, int_n, 5, 0};

        run_entry(&e);
        e.name = "stack for an exception";
        e.place = ud;
        e.external = EXT;
        run_entry(&e);
        e.name = "stack for CALL";
        e.place = call;
        e.external = 0;
        e.call = true;
        e.words = 4;
        run_entry(&e);
    }
}

/* --- the interrupt stack table --- */

static void ist_set(unsigned ist, uint64_t rsp)
{
    store(TSS_AT + 36 + 8 * (ist - 1), 4, (uint32_t)rsp);
    store(TSS_AT + 40 + 8 * (ist - 1), 4, (uint32_t)(rsp >> 32));
}

/* Taken whatever the level is; aligned to 16 bytes; SS becomes null with the level only. */
static void run_ist(const struct source *source, unsigned bits)
{
    unsigned place = probe_place(source->bytes, source->count);
    struct visit_end end;

    for (unsigned i = 0; i < 4 * 8 * 16; i++) {
        unsigned cpl = i & 3, ist = i >> 2 & 7, low = i >> 5;
        struct visit_state in = source_state(source, bits, cpl, place);
        uintptr_t top = ist ? DATA_AT + 0x200 * ist : cpl ? stack_top(0) : in.sp & ~(uintptr_t)15;

        matrix_case("interrupt stack table", bits << 4 | cpl, ist, low, source->vector);
        for (unsigned k = 1; k < 8; k++)
            ist_set(k, k == ist ? DATA_AT + 0x200 * ist + low : 1ull << 63);
        in.sp += low;
        idt_set(source->vector, gate_make(KERNEL_CODE, landing(1), SYS_INT, 3, true, ist));
        visit(&in, &end);
        check("landing", end.vector, LANDING + 1);
        check("stack", end.regs.sp, top - 5 * WORD);
        check("SS", end.regs.ss, cpl ? 0 : in.ss);
        check_frame(end.regs.sp, WORD, &in, source, true);
    }
    for (unsigned ist = 1; ist < 8; ist++) {
        struct visit_state in = source_state(source, bits, 3, place);
        unsigned last = 36 + 8 * ist - 1;

        idt_set(source->vector, gate_make(KERNEL_CODE, landing(1), SYS_INT, 3, true, ist));
        matrix_case("stack of the table that is not canonical", bits, ist, 0, source->vector);
        ist_set(ist, 1ull << 47);
        visit(&in, &end);
        expect_fault(&in, &end, SS_FAULT, external(source));
        ist_set(ist, DATA_AT + 0x200 * ist);
        for (unsigned limit = last - 1; limit <= last; limit++) {
            matrix_case("limit of the TSS", bits, ist, limit, source->vector);
            tss_load(SYS_TSS, limit);
            visit(&in, &end);
            if (limit < last)
                expect_fault(&in, &end, TS, TEST_TSS | external(source));
            else
                check("landing", end.vector, LANDING + 1);
        }
        tss_load(SYS_TSS, 103);
    }
    idt_restore(source->vector, 0);
}

/* --- --- */

static void low_jump(void)
{
    store(LOW_JUMP, 2, 0xe9 << 8 | 0x90);
    store(LOW_JUMP + 2, 4, (uint32_t)(landing(1) - (LOW_JUMP + 6)));
}

void matrix_main(void)
{
    matrix_begin("gates");
    low_jump();
    for (unsigned bits = 16; bits <= MODE; bits *= 2) {
        for (unsigned i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
            if (!sources[i].legacy_only || bits < 64)
                run_gates(&sources[i], bits);
        }
        for (unsigned flags = 0; flags < 16; flags += 2) {
            if (!long_mode() && flags != FLAGS_32)
                continue;
            run_targets(&sources[0], bits, flags);
            run_targets(&sources[4], bits, flags);
            run_call_targets(&far_uses[0], bits, flags);
            run_call_targets(&far_uses[1], bits, flags);
        }
        run_call_gate_rights(&far_uses[0], bits);
        run_call_gate_rights(&far_uses[1], bits);
        run_parameters(bits);
        run_inner_stacks(bits);
        if (long_mode()) {
            run_ist(&sources[0], bits);
            run_ist(&sources[4], bits);
        }
    }
    matrix_end();
}
