/* MODES 32 64. Exceptions during the delivery of others: SDM vol. 3, tables 6-4 and 6-5. */
#include "matrix.h"

enum { VECTOR = 0x40, EXT = 1, IDT_BIT = 2, ABSENT = TESTED2 };

enum class { BENIGN, CONTRIBUTORY, PAGE };

static const struct first {
    const char *name;
    uint8_t bytes[3], count, vector;
    enum class class;
    bool software;
} firsts[] = {
    {"INT n", {0xcd, VECTOR}, 2, VECTOR, BENIGN, true},
    {"INT3", {0xcc}, 1, BP, BENIGN, true},
    {"INT1", {0xf1}, 1, DB, BENIGN, false},
    {"#UD", {0x0f, 0x0b}, 2, UD, BENIGN, false},
    {"#DE", {0xf6, 0xf1}, 2, DE, CONTRIBUTORY, false},       /* DIV CL */
    {"#NP", {0x8e, 0xc0}, 2, NP, CONTRIBUTORY, false},       /* MOV ES, AX */
    {"#SS", {0x8e, 0xd2}, 2, SS_FAULT, CONTRIBUTORY, false}, /* MOV SS, DX */
    {"#GP", {0xf4}, 1, GP, CONTRIBUTORY, false},             /* HLT */
    {"#PF", {0x67, 0x8a, 0x06}, 3, PF, PAGE, false},         /* MOV AL, [ESI] */
};

/* What is wrong with the way to the handler. */
enum flaw { GATE_ABSENT, GATE_TYPE, CODE_ABSENT, STACK_BAD, STACK_ABSENT, STACK_PAGE, FLAWS };

struct fault {
    unsigned vector;
    uint32_t error;
};

static bool long_mode(void)
{
    return MODE == 64;
}

static void handlers_restore(void)
{
    for (unsigned vector = 0; vector < 32; vector++)
        idt_restore(vector, 0);
    tss_set_stack(1, (LEVEL_DATA + 0x20) | 1, stack_top(1));
    page_set(HOLE_AT, 7);
}

/* Breaks the way of a vector to a handler at level 1; the fault that comes of it. */
static struct fault handler_break(unsigned vector, enum flaw flaw, uint32_t external)
{
    unsigned code = (long_mode() ? LEVEL_CODE64 : LEVEL_CODE32) + 0x20;
    unsigned type = flaw == GATE_TYPE ? SYS_LDT : SYS_TRAP;

    idt_set(vector, gate_make(flaw == CODE_ABSENT ? ABSENT + 8 : code, LOW_CODE, type, 3,
                              flaw != GATE_ABSENT, 0));
    switch (flaw) {
    case GATE_ABSENT:
        return (struct fault){NP, vector * 8 | IDT_BIT | external};
    case GATE_TYPE:
        return (struct fault){GP, vector * 8 | IDT_BIT | external};
    case CODE_ABSENT:
        return (struct fault){NP, (ABSENT + 8) | external};
    case STACK_BAD:
        tss_set_stack(1, 0, long_mode() ? ~(uintptr_t)0 >> 1 : 0);
        return (struct fault){long_mode() ? SS_FAULT : TS, external};
    case STACK_ABSENT:
        tss_set_stack(1, ABSENT | 1, long_mode() ? ~(uintptr_t)0 >> 1 : stack_top(1));
        return (struct fault){SS_FAULT, (long_mode() ? 0 : ABSENT) | external};
    default:
        tss_set_stack(1, (LEVEL_DATA + 0x20) | 1, HOLE_AT + 0x1000);
        page_set(HOLE_AT, 1);
        return (struct fault){PF, 3};
    }
}

static bool doubles(enum class first, unsigned second)
{
    if (first == PAGE)
        return true;
    return first == CONTRIBUTORY && second != PF;
}

static struct visit_state first_state(unsigned bits, unsigned cpl, unsigned place)
{
    struct visit_state in = probe_state(bits, cpl, place);

    in.cx = 0;
    in.ax = ABSENT + 0x10;
    in.dx = (ABSENT + 0x18 + 8 * cpl) | cpl;
    in.si = HOLE_AT + 0x2000;
    return in;
}

/* The first exception's handler is out of reach, and with chain the second's too. */
static void run_pair(const struct first *first, unsigned bits, unsigned cpl, unsigned place,
                     enum flaw flaw, bool chain)
{
    uint32_t external = first->software ? 0 : EXT;
    struct visit_state in = first_state(bits, cpl, place);
    struct fault wanted;
    struct visit_end end;

    matrix_case(first->name, bits << 4 | cpl, first->vector, flaw, chain);
    wanted = handler_break(first->vector, flaw, external);
    if (doubles(first->class, wanted.vector)) {
        wanted = (struct fault){DF, 0};
    } else if (chain) { /* the second is contributory or a page fault, and so is the third */
        handler_break(wanted.vector, flaw == STACK_PAGE ? GATE_TYPE : GATE_ABSENT, EXT);
        wanted = (struct fault){DF, 0};
    }
    visit(&in, &end);
    handlers_restore();
    if (wanted.vector == DF)
        in.flags &= ~(uintptr_t)FLAG_RF;
    check("vector", end.vector, wanted.vector);
    check("error code", end.error, wanted.error);
    check("pc", end.ip, in.ip);
    check("CS", end.cs, in.cs);
    check("SP", end.sp, in.sp);
    check("SS", end.ss, in.ss);
    check("stack of level 0", end.regs.sp, stack_top(0) - 6 * sizeof(uintptr_t));
}

void matrix_main(void)
{
    matrix_begin("double faults");
    *descriptor_slot(ABSENT) = descriptor_make(0, 0xfffff, TYPE_DATA, 1, false, FLAGS_32);
    *descriptor_slot(ABSENT + 8) =
        descriptor_make(0, 0xfffff, TYPE_CODE, 1, false, long_mode() ? FLAGS_CODE64 : FLAGS_32);
    *descriptor_slot(ABSENT + 0x10) = descriptor_make(0, 0xfffff, TYPE_DATA, 3, false, FLAGS_32);
    for (unsigned cpl = 0; cpl < 4; cpl++)
        *descriptor_slot(ABSENT + 0x18 + 8 * cpl) =
            descriptor_make(0, 0xfffff, TYPE_DATA, cpl, false, FLAGS_32);
    page_set(HOLE_AT + 0x2000, 0);
    for (unsigned bits = 16; bits <= MODE; bits *= 2) {
        for (unsigned i = 0; i < sizeof(firsts) / sizeof(firsts[0]); i++) {
            struct first first = firsts[i];
            unsigned place;

            if (bits != 16 && first.vector == PF) {
                first.bytes[0] = 0x3e; /* instead of the address size prefix */
            }
            place = probe_place(first.bytes, first.count);
            for (unsigned k = 0; k < FLAWS * 4; k++)
                run_pair(&first, bits, 2 + (k & 1), place, (enum flaw)(k / 4), k >> 1 & 1);
        }
    }
    matrix_end();
}
