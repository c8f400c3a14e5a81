/* MODES 32 64. Every instruction that takes a selector, with every descriptor, RPL and CPL. */
#include "matrix.h"

enum { ES, CS, SS, DS, FS, GS }; /* in the order of the encoding */

enum kind { LOAD_DATA, LOAD_SS, LAR, LSL, VERR, VERW, JUMP, CALL, RETURN, INTERRUPT_RETURN };

enum { IN_16 = 1, IN_32 = 2, IN_64 = 4, EVERYWHERE = 7, LEGACY = 3 };

enum operand { IN_ACCUMULATOR, ON_STACK, FAR_POINTER };

struct operation {
    const char *name;
    uint8_t bytes[4], count;
    enum kind kind;
    enum operand operand;
    unsigned reg;
    unsigned where; /* code sizes that know it */
};

static const struct operation operations[] = {
    {"MOV ES", {0x8e, 0xc0}, 2, LOAD_DATA, IN_ACCUMULATOR, ES, EVERYWHERE},
    {"MOV SS", {0x8e, 0xd0}, 2, LOAD_SS, IN_ACCUMULATOR, SS, EVERYWHERE},
    {"MOV DS", {0x8e, 0xd8}, 2, LOAD_DATA, IN_ACCUMULATOR, DS, EVERYWHERE},
    {"MOV FS", {0x8e, 0xe0}, 2, LOAD_DATA, IN_ACCUMULATOR, FS, EVERYWHERE},
    {"MOV GS", {0x8e, 0xe8}, 2, LOAD_DATA, IN_ACCUMULATOR, GS, EVERYWHERE},
    {"POP ES", {0x07}, 1, LOAD_DATA, ON_STACK, ES, LEGACY},
    {"POP SS", {0x17}, 1, LOAD_SS, ON_STACK, SS, LEGACY},
    {"POP DS", {0x1f}, 1, LOAD_DATA, ON_STACK, DS, LEGACY},
    {"POP FS", {0x0f, 0xa1}, 2, LOAD_DATA, ON_STACK, FS, EVERYWHERE},
    {"POP GS", {0x0f, 0xa9}, 2, LOAD_DATA, ON_STACK, GS, EVERYWHERE},
    {"LES", {0xc4, 0x03}, 2, LOAD_DATA, FAR_POINTER, ES, LEGACY},
    {"LSS", {0x0f, 0xb2, 0x03}, 3, LOAD_SS, FAR_POINTER, SS, EVERYWHERE},
    {"LDS", {0xc5, 0x03}, 2, LOAD_DATA, FAR_POINTER, DS, LEGACY},
    {"LFS", {0x0f, 0xb4, 0x03}, 3, LOAD_DATA, FAR_POINTER, FS, EVERYWHERE},
    {"LGS", {0x0f, 0xb5, 0x03}, 3, LOAD_DATA, FAR_POINTER, GS, EVERYWHERE},
    {"LAR", {0x0f, 0x02, 0xc8}, 3, LAR, IN_ACCUMULATOR, 0, EVERYWHERE},
    {"LSL", {0x0f, 0x03, 0xc8}, 3, LSL, IN_ACCUMULATOR, 0, EVERYWHERE},
    {"VERR", {0x0f, 0x00, 0xe0}, 3, VERR, IN_ACCUMULATOR, 0, EVERYWHERE},
    {"VERW", {0x0f, 0x00, 0xe8}, 3, VERW, IN_ACCUMULATOR, 0, EVERYWHERE},
    {"JMP far", {0xff, 0x2b}, 2, JUMP, FAR_POINTER, CS, EVERYWHERE},
    {"CALL far", {0xff, 0x1b}, 2, CALL, FAR_POINTER, CS, EVERYWHERE},
    {"RETF", {0xcb}, 1, RETURN, ON_STACK, CS, EVERYWHERE},
    {"IRET", {0xcf}, 1, INTERRUPT_RETURN, ON_STACK, CS, LEGACY},
    {"IRETQ", {0x48, 0xcf}, 2, INTERRUPT_RETURN, ON_STACK, CS, IN_64},
};

/* One combination, and what has to happen. */
struct trial {
    const struct operation *op;
    unsigned bits, cpl, place;
    unsigned selector, type, dpl;
    bool found, present; /* found: the table has a descriptor there */
    unsigned flags;
};

struct verdict {
    unsigned vector; /* VECTOR_DONE: none */
    uint32_t error;
    bool zf; /* LAR to VERW */
};

static struct verdict fault(unsigned vector, uint32_t error)
{
    return (struct verdict){.vector = vector, .error = error};
}

static bool long_mode(void)
{
    return MODE == 64;
}

static struct verdict judge_data(const struct trial *t)
{
    unsigned rpl = t->selector & 3;
    uint32_t error = t->selector & 0xfffc;

    if (error == 0)
        return fault(VECTOR_DONE, 0);
    if (!t->found || !is_readable(t->type))
        return fault(GP, error);
    if (!is_conforming(t->type) && (rpl > t->dpl || t->cpl > t->dpl))
        return fault(GP, error);
    return fault(t->present ? VECTOR_DONE : NP, t->present ? 0 : error);
}

static struct verdict judge_ss(const struct trial *t)
{
    unsigned rpl = t->selector & 3;
    uint32_t error = t->selector & 0xfffc;

    if (error == 0)
        return fault(t->bits == 64 && t->cpl < 3 && rpl == t->cpl ? VECTOR_DONE : GP, 0);
    if (!t->found || rpl != t->cpl || t->dpl != t->cpl || !is_writable_data(t->type))
        return fault(GP, error);
    return fault(t->present ? VECTOR_DONE : SS_FAULT, t->present ? 0 : error);
}

/* Bits of the system types that LAR and LSL know (SDM vol. 2, tables of LAR and LSL). */
static bool inspectable(const struct trial *t)
{
    unsigned lar = long_mode() ? 0x1a04 : 0x1a3e, lsl = long_mode() ? 0x0a04 : 0x0a0e;

    if (t->type & S_BIT)
        return true;
    return ((t->op->kind == LAR ? lar : lsl) >> t->type) & 1;
}

static struct verdict judge_inspection(const struct trial *t)
{
    unsigned rpl = t->selector & 3;
    struct verdict v = fault(VECTOR_DONE, 0);

    if (!t->found || (!is_conforming(t->type) && (rpl > t->dpl || t->cpl > t->dpl)))
        return v;
    if (t->op->kind == VERR)
        v.zf = is_readable(t->type);
    else if (t->op->kind == VERW)
        v.zf = is_writable_data(t->type);
    else
        v.zf = inspectable(t);
    return v;
}

static struct verdict judge_code(const struct trial *t)
{
    unsigned rpl = t->selector & 3;
    uint32_t error = t->selector & 0xfffc;
    bool jump = t->op->kind == JUMP || t->op->kind == CALL;

    if (!t->found || !is_code(t->type))
        return fault(GP, error);
    if (long_mode() && (t->flags & 6) == 6) /* both L and D */
        return fault(GP, error);
    if (jump && is_conforming(t->type) && t->dpl > t->cpl)
        return fault(GP, error);
    if (jump && !is_conforming(t->type) && (rpl > t->cpl || t->dpl != t->cpl))
        return fault(GP, error);
    if (!jump && (rpl < t->cpl || (is_conforming(t->type) ? t->dpl > rpl : t->dpl != rpl)))
        return fault(GP, error);
    return fault(t->present ? VECTOR_DONE : NP, t->present ? 0 : error);
}

static struct verdict judge(const struct trial *t)
{
    switch (t->op->kind) {
    case LOAD_DATA:
        return judge_data(t);
    case LOAD_SS:
        return judge_ss(t);
    case LAR:
    case LSL:
    case VERR:
    case VERW:
        return judge_inspection(t);
    default:
        return judge_code(t);
    }
}

/* --- running one --- */

static unsigned operand_size(const struct trial *t)
{
    if (t->bits == 64 && t->op->operand == ON_STACK && t->op->kind != RETURN)
        return 8;
    return t->bits == 16 ? 2 : 4;
}

/* The stack of the level that a return goes to. */
static uintptr_t outer_sp(unsigned level, unsigned size)
{
    return size == 2 ? 0x4000 + level : STACKS_AT + 0x1000 * (level + 5) - 0x200;
}

static void write_frame(const struct trial *t, uintptr_t sp)
{
    unsigned size = operand_size(t), rpl = t->selector & 3;
    const uintptr_t far[] = {LOW_CODE, t->selector, outer_sp(rpl, size),
                             (LEVEL_DATA + 0x20 * rpl) | rpl};
    const uintptr_t interrupt[] = {LOW_CODE, t->selector, 2, outer_sp(rpl, size),
                                   (LEVEL_DATA + 0x20 * rpl) | rpl};
    const uintptr_t *items = t->op->kind == RETURN ? far : interrupt;

    for (unsigned i = 0; i < (t->op->kind == RETURN ? 4 : 5); i++)
        store(sp + i * size, size, items[i]);
}

static struct visit_state prepare(const struct trial *t)
{
    struct visit_state in = probe_state(t->bits, t->cpl, t->place);

    in.ax = 0x0a0a0000 | t->selector;
    in.bx = DATA_AT;
    if (t->op->operand == FAR_POINTER) {
        store(DATA_AT, operand_size(t), LOW_CODE);
        store(DATA_AT + operand_size(t), 2, t->selector);
    } else if (t->op->kind == RETURN || t->op->kind == INTERRUPT_RETURN) {
        write_frame(t, in.sp);
    } else {
        store(in.sp, operand_size(t), t->selector);
    }
    return in;
}

static void expect_segments(const struct visit_state *in, const struct visit_end *end)
{
    check("DS", end->regs.ds, in->ds);
    check("ES", end->regs.es, in->es);
    check("FS", end->regs.fs, in->fs);
    check("GS", end->regs.gs, in->gs);
    check("SS", end->ss, in->ss);
    check("CS", end->cs, in->cs);
    check("stack pointer", end->sp, in->sp);
    check("AX", end->regs.ax, in->ax);
    check("CX", end->regs.cx, in->cx);
}

static void expect_loaded(const struct trial *t, struct visit_state *in,
                          const struct visit_end *end)
{
    uintptr_t *const registers[] = {&in->es, &in->cs, &in->ss, &in->ds, &in->fs, &in->gs};

    *registers[t->op->reg] = t->selector;
    if (t->op->operand == ON_STACK)
        in->sp += operand_size(t);
    if (t->op->operand == FAR_POINTER)
        in->ax = operand_size(t) == 2 ? (in->ax & ~(uintptr_t)0xffff) | LOW_CODE : LOW_CODE;
    expect_segments(in, end);
}

static void expect_inspected(const struct trial *t, struct visit_state *in,
                             const struct visit_end *end, bool zf)
{
    uint64_t d = *descriptor_slot(t->selector);
    uintptr_t value = (uintptr_t)(d >> 32) & 0xf0ff00, got = end->regs.cx & ~(uintptr_t)0xf0000;

    check("ZF", (end->flags & FLAG_ZF) != 0, zf);
    if (t->op->kind == LSL) {
        value = (uintptr_t)((d & 0xffff) | ((d >> 32) & 0xf0000));
        value = d >> 55 & 1 ? (value << 12 & 0xffffffff) | 0xfff : value;
        got = end->regs.cx;
    }
    if (t->bits == 16) {
        value = (value & 0xffff) | (in->cx & 0xffff0000);
        got = end->regs.cx;
    }
    if (zf && (t->op->kind == LAR || t->op->kind == LSL)) {
        check("result", got, value);
        in->cx = end->regs.cx;
    }
    expect_segments(in, end);
}

static void expect_transferred(const struct trial *t, struct visit_state *in,
                               const struct visit_end *end)
{
    unsigned size = operand_size(t), rpl = t->selector & 3;
    uintptr_t behind = in->ip + t->op->count + (t->bits == 16 && t->op->operand == FAR_POINTER);
    uintptr_t old_cs = in->cs;

    check("pc", end->ip, LOW_CODE + 2);
    in->cs = t->selector;
    if (t->op->kind == JUMP || t->op->kind == CALL)
        in->cs = (t->selector & ~3u) | t->cpl;
    if (t->op->kind == CALL) {
        in->sp -= 2 * size;
        check("pushed pc", load(in->sp, size), behind);
        check("pushed CS", load(in->sp + size, size) & 0xffff, old_cs);
    } else if (t->op->kind == RETURN || t->op->kind == INTERRUPT_RETURN) {
        in->sp += size * (t->op->kind == RETURN ? 2 : 3);
        if (rpl > t->cpl || (t->bits == 64 && t->op->kind == INTERRUPT_RETURN)) {
            in->sp = outer_sp(rpl, size);
            in->ss = (LEVEL_DATA + 0x20 * rpl) | rpl;
        }
    }
    expect_segments(in, end);
}

/* Descriptor bits that change with success: accessed, except for instructions that only look. */
static uint64_t accessed(const struct trial *t)
{
    bool looks = t->op->kind >= LAR && t->op->kind <= VERW;

    return looks || (t->selector & 0xfffc) == 0 ? 0 : 1ull << 40;
}

static void run(const struct trial *t)
{
    uint64_t before = *descriptor_slot(t->selector);
    struct verdict wanted = judge(t);
    struct visit_state in = prepare(t);
    struct visit_end end;

    matrix_case(t->op->name, t->bits * 0x10 + t->cpl, t->selector,
                t->type << 8 | t->dpl << 4 | t->present, t->flags);
    visit(&in, &end);
    if (wanted.vector != VECTOR_DONE) {
        expect_fault(&in, &end, wanted.vector, wanted.error);
        check("descriptor", *descriptor_slot(t->selector) == before, 1);
        return;
    }
    expect_done(&end);
    check("descriptor", *descriptor_slot(t->selector) == (before | accessed(t)), 1);
    if (t->op->kind == LOAD_DATA || t->op->kind == LOAD_SS)
        expect_loaded(t, &in, &end);
    else if (t->op->kind >= LAR && t->op->kind <= VERW)
        expect_inspected(t, &in, &end, wanted.zf);
    else
        expect_transferred(t, &in, &end);
}

/* --- the matrices --- */

/* Gates and task-state segments have their own matrices for JMP and CALL. */
static bool transfers_elsewhere(const struct trial *t)
{
    unsigned types = long_mode() ? 1u << SYS_CALL : 0x1a3a;

    return (t->op->kind == JUMP || t->op->kind == CALL) && t->type < S_BIT &&
           ((types >> t->type) & 1);
}

static void write_descriptor(const struct trial *t)
{
    bool down = (t->type & (S_BIT | CODE_BIT | CONFORMING_BIT)) == (S_BIT | CONFORMING_BIT);

    *descriptor_slot(t->selector) = descriptor_make(0, down ? 0x7ff : 0xfffff, t->type, t->dpl,
                                                    t->present, down ? 4 : t->flags);
}

/* Every type, DPL and P; in the GDT with even RPL differences, in the LDT with the others. */
static void run_descriptors(struct trial *t)
{
    for (unsigned i = 0; i < 32 * 4 * 2 * 16; i++) {
        unsigned rpl = i & 3;

        t->type = i >> 7 & 31;
        t->dpl = i >> 5 & 3;
        t->present = i >> 4 & 1;
        t->cpl = i >> 2 & 3;
        t->selector = TESTED | ((rpl ^ t->cpl ^ t->type) & 1) << 2 | rpl;
        if (transfers_elsewhere(t))
            continue;
        write_descriptor(t);
        run(t);
    }
}

/* No descriptor at all: null, beyond the limit of either table. */
static void run_absent(struct trial *t)
{
    static const uint16_t selectors[] = {0,      GDT_LIMIT + 1,       0xfff8,
                                         0xfffc, (LDT_LIMIT + 1) | 4, 0x8000};

    t->found = false;
    t->type = t->dpl = 0;
    t->present = false;
    for (unsigned i = 0; i < sizeof(selectors) / 2 * 16; i++) {
        t->cpl = i >> 2 & 3;
        t->selector = selectors[i >> 4] | (i & 3);
        run(t);
    }
    t->found = true;
}

/* The last byte of the descriptor is just inside or just outside the LDT. */
static void run_limits(struct trial *t)
{
    t->type = TYPE_DATA;
    t->present = true;
    t->cpl = t->dpl = 3;
    t->selector = TESTED | 7;
    write_descriptor(t);
    for (unsigned limit = TESTED; limit < TESTED + 9; limit++) {
        ldt_load(limit);
        t->found = limit >= TESTED + 7;
        run(t);
    }
    /* No LDT. */
    __asm__ volatile("lldt %w0" : : "r"(0) : "memory");
    t->found = false;
    run(t);
    t->found = true;
    ldt_load(LDT_LIMIT);
}

/* Descriptors are read and marked by the system, whatever the CPL; only marking writes. */
static void run_paging(struct trial *t)
{
    bool marks = accessed(t) != 0;
    struct visit_state in;
    struct visit_end end;

    t->type = t->op->kind >= JUMP ? TYPE_CODE : TYPE_DATA;
    t->present = true;
    for (unsigned cpl = 0; cpl < 4; cpl++) {
        t->cpl = t->dpl = cpl;
        t->selector = TESTED | 4 | cpl;
        write_descriptor(t);
        in = prepare(t);
        matrix_case("descriptor in an absent page", t->bits, cpl, t->op - operations, 0);
        page_set(LDT_AT, 0);
        visit(&in, &end);
        page_set(LDT_AT, 7);
        expect_fault(&in, &end, PF, 0);
        check("CR2", read_cr2() & ~(uintptr_t)7, LDT_AT + TESTED);

        matrix_case("descriptor in a read-only page", t->bits, cpl, t->op - operations, 0);
        page_set(LDT_AT, 1);
        visit(&in, &end);
        page_set(LDT_AT, 7);
        if (marks) {
            expect_fault(&in, &end, PF, 3);
            check("CR2", read_cr2() & ~(uintptr_t)7, LDT_AT + TESTED);
        } else {
            expect_done(&end);
        }
        /* Marked already: a page of the supervisor that may only be read is enough. */
        *descriptor_slot(t->selector) |= 1ull << 40;
        page_set(LDT_AT, 1);
        run(t);
        page_set(LDT_AT, 7);
    }
}

static void run_operation(const struct operation *op, unsigned bits)
{
    struct trial t = {.op = op, .bits = bits, .found = true, .flags = FLAGS_32};
    uint8_t code[5] = {0x67};
    unsigned prefix = bits == 16 && op->operand == FAR_POINTER;

    for (unsigned i = 0; i < op->count; i++)
        code[prefix + i] = op->bytes[i];
    t.place = probe_place(code, prefix + op->count);
    run_descriptors(&t);
    run_absent(&t);
    if (op->kind < JUMP)
        run_limits(&t);
    run_paging(&t);
    if (long_mode() && op->kind >= JUMP) {
        t.flags = FLAGS_CODE64;
        run_descriptors(&t);
        t.flags = FLAGS_CODE64 | 4;
        run_descriptors(&t);
    }
}

void matrix_main(void)
{
    matrix_begin("segment loads and far transfers");
    for (unsigned bits = 16; bits <= MODE; bits *= 2) {
        for (unsigned i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
            if (operations[i].where & (bits / 16))
                run_operation(&operations[i], bits);
        }
    }
    matrix_end();
}
