/* MODES 32 64. IRET, RETF and POPF: flags, stacks and segments that come back or must not. */
#include "matrix.h"

enum { LOW_NOP = LOW_CODE + 0x200 };

enum form { IRET, RETF, POPF };

/* A return of one operand size out of code of one size. */
struct way {
    enum form form;
    unsigned bits, size, place;
};

struct jump {
    const struct way *way;
    unsigned cpl, to; /* levels */
    unsigned release; /* RETF n */
};

static bool long_mode(void)
{
    return MODE == 64;
}

static const char *way_name(const struct way *way)
{
    static const char *const names[][3] = {
        {"16-bit IRET", "16-bit RETF", "16-bit POPF"},
        {"32-bit IRET", "32-bit RETF", "32-bit POPF"},
        {"64-bit IRET", "64-bit RETF", "64-bit POPF"},
    };

    return names[way->size / 4][way->form];
}

static unsigned level_code(unsigned bits, unsigned level)
{
    static const uint16_t code[] = {LEVEL_CODE16, LEVEL_CODE32, LEVEL_CODE64};

    return (code[bits / 32] + 0x20 * level) | level;
}

static unsigned level_data(unsigned level)
{
    return (LEVEL_DATA + 0x20 * level) | level;
}

static void way_place(struct way *way, enum form form, unsigned bits, unsigned size,
                      unsigned release)
{
    static const uint8_t opcodes[] = {0xcf, 0xcb, 0x9d};
    uint8_t bytes[4];
    unsigned count = 0, natural = bits == 16 ? 2 : bits == 64 && form == POPF ? 8 : 4;

    if (size != natural)
        bytes[count++] = size == 8 ? 0x48 : 0x66;
    bytes[count++] = opcodes[form];
    if (form == POPF)
        bytes[count++] = 0x90; /* TF works on the instruction behind */
    if (release) {
        bytes[count - 1] = 0xca;
        bytes[count++] = (uint8_t)release;
        bytes[count++] = (uint8_t)(release >> 8);
    }
    *way = (struct way){form, bits, size, probe_place(bytes, count)};
}

/* Where returns lead to: a NOP, so that RF and TF have something to work on, and INT 255. */
static uintptr_t destination(const struct way *way)
{
    static const uint8_t nop[] = {0x90};
    static unsigned place;

    if (way->bits != 16)
        return LOW_NOP;
    if (!place)
        place = probe_place(nop, 1);
    return place;
}

static bool pops_stack(const struct jump *j)
{
    return j->to > j->cpl || (j->way->form == IRET && j->way->bits == 64);
}

static uintptr_t outer_sp(const struct jump *j)
{
    return 0x4321 + 0x100 * j->to;
}

/* What a return pops. */
struct frame {
    uintptr_t ip, cs, flags, sp, ss;
};

static struct frame frame_make(const struct jump *j)
{
    return (struct frame){destination(j->way), level_code(j->way->bits, j->to), 2, outer_sp(j),
                          level_data(j->to)};
}

static void frame_write(const struct jump *j, uintptr_t at, const struct frame *frame)
{
    unsigned size = j->way->size;

    store(at, size, frame->ip);
    store(at + size, size, frame->cs);
    at += 2 * size;
    if (j->way->form == IRET) {
        store(at, size, frame->flags);
        at += size;
    }
    at += j->release;
    store(at, size, frame->sp);
    store(at + size, size, frame->ss);
}

static uintptr_t sp_behind(const struct jump *j, const struct visit_state *in)
{
    unsigned items = j->way->form == IRET ? 3 : 2;

    if (pops_stack(j))
        return outer_sp(j) + j->release;
    return in->sp + items * j->way->size + j->release;
}

/* --- flags --- */

enum {
    ALWAYS = 0x4dd5, /* CF PF AF ZF SF TF DF OF NT */
    KNOWN =
        ALWAYS | FLAG_IF | FLAG_IOPL | FLAG_RF | FLAG_VM | FLAG_AC | FLAG_VIF | FLAG_VIP | FLAG_ID
};

static uintptr_t flags_after(const struct way *way, unsigned cpl, uintptr_t old, uintptr_t image)
{
    uintptr_t mask = ALWAYS | FLAG_AC | FLAG_ID;

    if (cpl <= (old & FLAG_IOPL) >> 12)
        mask |= FLAG_IF;
    if (cpl == 0)
        mask |= FLAG_IOPL | (way->form == IRET ? FLAG_VIF | FLAG_VIP : 0);
    if (way->size == 2)
        mask &= 0xffff;
    return (old & ~mask) | (image & mask);
}

static void run_flags(const struct jump *j, uintptr_t old, uintptr_t image)
{
    struct visit_state in = probe_state(j->way->bits, j->cpl, j->way->place);
    struct frame frame = frame_make(j);
    uintptr_t wanted = flags_after(j->way, j->cpl, old, image);
    struct visit_end end;

    matrix_case(way_name(j->way), j->way->bits, j->cpl << 4 | j->to, (uint32_t)old,
                (uint32_t)image);
    in.flags = old;
    if (j->way->form == POPF) {
        store(in.sp, j->way->size, image);
    } else {
        frame.flags = image;
        frame_write(j, in.sp, &frame);
    }
    visit(&in, &end);
    check("vector", end.vector, wanted & FLAG_TF ? DB : VECTOR_DONE);
    check("flags", end.flags, wanted);
    if (j->way->form == IRET) {
        check("CS", end.cs, frame.cs);
        check("stack pointer", end.sp, sp_behind(j, &in));
    }
}

static bool enters_vm86(const struct jump *j, uintptr_t image)
{
    return j->way->form == IRET && j->way->size == 4 && !long_mode() && j->cpl == 0 &&
           (image & FLAG_VM);
}

static void run_all_flags(const struct way *way)
{
    for (unsigned i = 0; i < 4 * 4 * 4 * 2 * 44; i++) {
        struct jump j = {way, i & 3, i >> 2 & 3, 0};
        uintptr_t old = 2 | (i >> 4 & 3) << 12 | (i >> 6 & 1 ? 0xed5 | FLAG_AC | FLAG_ID : 0);
        unsigned pattern = i >> 7;
        uintptr_t image = pattern < 22 ? 1u << pattern : KNOWN & ~(1u << (pattern - 22));

        image = (image & KNOWN) | 2;
        old &= ~(uintptr_t)FLAG_NT;
        if (j.to < j.cpl || (way->form == POPF && j.to != j.cpl))
            continue;
        if (enters_vm86(&j, image))
            image &= ~(uintptr_t)FLAG_VM;
        run_flags(&j, old, image);
    }
    /* Reserved bits stay as they are. */
    for (unsigned cpl = 0; cpl < 4; cpl++) {
        struct jump j = {way, cpl, cpl, 0};
        uintptr_t all = ~(uintptr_t)0 & ~(uintptr_t)(FLAG_VM | FLAG_TF);
        uintptr_t image = sizeof(all) == 8 && way->size < 8 ? all & 0xffffffff : all;

        run_flags(&j, 2, image);
        run_flags(&j, 2, 0);
    }
}

/* --- stacks --- */

static void run_return(const struct jump *j, const struct frame *frame, unsigned vector,
                       uint32_t error)
{
    struct visit_state in = probe_state(j->way->bits, j->cpl, j->way->place);
    struct visit_end end;

    frame_write(j, in.sp, frame);
    visit(&in, &end);
    if (vector != VECTOR_DONE) {
        expect_fault(&in, &end, vector, error);
        return;
    }
    expect_done(&end);
    check("CS", end.cs, frame->cs);
    check("SS", end.ss, pops_stack(j) ? frame->ss : in.ss);
    check("stack pointer", end.sp, sp_behind(j, &in));
}

/* The stack segment that a return to an outer level names. */
static void run_stack_segments(const struct way *way)
{
    static const uint16_t absent[] = {0xfff8, 0xffff, GDT_LIMIT + 1, GDT_LIMIT + 4};

    for (unsigned i = 0; i < 32 * 4 * 2 * 16; i++) {
        unsigned type = i >> 7 & 31, dpl = i >> 5 & 3, present = i >> 4 & 1, rpl = i & 3;
        struct jump j = {way, 0, i >> 2 & 3, 0};
        struct frame frame = frame_make(&j);
        uint32_t error = TESTED | (type & 1) << 2;

        j.cpl = j.to ? (i & 1 ? j.to - 1 : 0) : 0;
        if (!pops_stack(&j))
            continue;
        matrix_case(way_name(way), way->bits << 8 | j.cpl << 4 | j.to, error | rpl, type,
                    dpl << 4 | present);
        *descriptor_slot(error) = descriptor_make(0, 0xfffff, type, dpl, present, FLAGS_32);
        frame.ss = error | rpl;
        if (rpl != j.to || dpl != j.to || !is_writable_data(type))
            run_return(&j, &frame, GP, error);
        else if (!present)
            run_return(&j, &frame, SS_FAULT, error);
        else
            run_return(&j, &frame, VECTOR_DONE, 0);
    }
    for (unsigned i = 0; i < sizeof(absent) / 2; i++) {
        struct jump j = {way, 0, 3, 0};
        struct frame frame = frame_make(&j);

        matrix_case("no stack segment", way->bits, absent[i], 0, 0);
        frame.ss = absent[i] | 3;
        run_return(&j, &frame, GP, absent[i] & 0xfffc);
    }
}

/* Null: only into 64-bit code of levels 0 to 2, with the level as RPL. */
static void run_null_stacks(const struct way *way)
{
    for (unsigned i = 0; i < 2 * 4 * 4 * 4; i++) {
        struct jump j = {way, i & 3, i >> 2 & 3, 0};
        unsigned to_bits = i >> 6 ? way->bits : 32;
        struct frame frame = frame_make(&j);
        bool works = to_bits == 64 && j.to < 3 && (i >> 4 & 3) == j.to;

        if (j.to < j.cpl || !pops_stack(&j) || (way->bits == 16 && to_bits != 16))
            continue;
        matrix_case("null SS", way->bits << 8 | to_bits, j.cpl << 4 | j.to, i >> 4 & 3, way->form);
        frame.cs = level_code(to_bits, j.to);
        frame.ss = i >> 4 & 3;
        run_return(&j, &frame, works ? VECTOR_DONE : GP, 0);
    }
}

static void run_null_codes(const struct way *way)
{
    for (unsigned i = 0; i < 4 * 4; i++) {
        struct jump j = {way, i & 3, i >> 2, 0};
        struct frame frame = frame_make(&j);

        matrix_case("null CS", way->bits, j.cpl, j.to, way->form);
        frame.cs = j.to;
        run_return(&j, &frame, GP, 0);
    }
}

/* The target must lie in its segment, or be canonical. */
static void run_targets(const struct way *way)
{
    static const uint32_t outside[] = {0x10000, 0x80000000, 0xffffffff};
    static const uint64_t noncanonical[] = {1ull << 47, 0xffff7fffffffffff, 1ull << 63};

    for (unsigned i = 0; i < 3 * 16; i++) {
        struct jump j = {way, i & 3, i >> 2 & 3, 0};
        struct frame frame = frame_make(&j);

        if (j.to < j.cpl || way->size == 2)
            continue;
        matrix_case("target outside", way->bits, j.cpl << 4 | j.to, way->size, i >> 4);
        if (way->bits == 16)
            frame.ip = outside[i >> 4];
        else if (way->size == 8)
            frame.ip = (uintptr_t)noncanonical[i >> 4];
        else
            continue;
        run_return(&j, &frame, GP, 0);
    }
}

/* The frame straddles two pages, one of which is absent. */
static void run_pages(const struct way *way)
{
    unsigned items = way->form == IRET ? 5 : 4;

    for (unsigned i = 0; i < 16 * 2 * items; i++) {
        struct jump j = {way, i & 3, i >> 2 & 3, 0};
        unsigned first = i / 32, upper = i >> 4 & 1;
        struct visit_state in = probe_state(way->bits, j.cpl, way->place);
        struct frame frame = frame_make(&j);
        struct visit_end end;

        if (first == 0 || j.to <= j.cpl) /* all on one page, or not all popped */
            continue;
        if (j.cpl == 0 && !upper) /* no stack for the exception */
            continue;
        matrix_case("frame on two pages", way->bits << 4 | way->size, j.cpl << 4 | j.to, first,
                    upper);
        in.sp = HOLE_AT + 0x1000 - first * way->size;
        frame_write(&j, in.sp, &frame);
        page_set(upper ? HOLE_AT + 0x1000 : HOLE_AT, 0);
        visit(&in, &end);
        page_set(HOLE_AT, 7);
        page_set(HOLE_AT + 0x1000, 7);
        expect_fault(&in, &end, PF, j.cpl == 3 ? 4 : 0);
        check("CR2", read_cr2() >> 12, (HOLE_AT >> 12) + upper);
    }
}

/* --- data segments of inner levels --- */

static void run_hidden(const struct way *way)
{
    uintptr_t wanted, selector;
    struct visit_end end;

    for (unsigned i = 0; i < 16 * 4 * 16; i++) {
        struct jump j = {way, i & 3, i >> 2 & 3, 0};
        unsigned dpl = i >> 4 & 3, type = S_BIT | i >> 6, in_ldt = dpl & 1;
        struct visit_state in = probe_state(way->bits, j.cpl, way->place);
        struct frame frame = frame_make(&j);

        if (j.to <= j.cpl || !is_readable(type) || (dpl < j.cpl && !is_conforming(type)))
            continue;
        matrix_case("data segments of inner levels", way->bits << 8 | j.cpl << 4 | j.to, type, dpl,
                    way->form);
        selector = TESTED | in_ldt << 2;
        *descriptor_slot((unsigned)selector) =
            descriptor_make(0, 0xfffff, type, dpl, true, FLAGS_32);
        wanted = is_conforming(type) || dpl >= j.to ? selector : 0;
        in.ds = in.es = in.fs = in.gs = selector;
        frame_write(&j, in.sp, &frame);
        visit(&in, &end);
        expect_done(&end);
        check("DS", end.regs.ds, wanted);
        check("ES", end.regs.es, wanted);
        check("FS", end.regs.fs, wanted);
        check("GS", end.regs.gs, wanted);
    }
}

static void run_null_data(const struct way *way)
{
    uintptr_t wanted;
    struct visit_end end;

    for (unsigned i = 0; i < 4 * 4 * 4; i++) {
        struct jump j = {way, i & 3, i >> 2 & 3, 0};
        unsigned selector = i >> 4;
        struct visit_state in = probe_state(way->bits, j.cpl, way->place);
        struct frame frame = frame_make(&j);

        if (j.to < j.cpl)
            continue;
        matrix_case("null data segments", way->bits << 8 | j.cpl << 4 | j.to, selector, 0,
                    way->form);
        /* The way to an inner level ran through an IRET that took the RPL away already. */
        wanted = j.to == 0 ? selector : 0;
        in.ds = in.es = in.fs = in.gs = selector;
        frame_write(&j, in.sp, &frame);
        visit(&in, &end);
        expect_done(&end);
        check("DS", end.regs.ds, wanted);
        check("ES", end.regs.es, wanted);
        check("FS", end.regs.fs, wanted);
        check("GS", end.regs.gs, wanted);
    }
}

static void run_released(unsigned bits, unsigned size)
{
    static const uint16_t releases[] = {2, 4, 8, 0x30, 0x80};
    struct way way;

    for (unsigned r = 0; r < sizeof(releases) / 2; r++) {
        way_place(&way, RETF, bits, size, releases[r]);
        for (unsigned i = 0; i < 16; i++) {
            struct jump j = {&way, i & 3, i >> 2, releases[r]};
            struct frame frame = frame_make(&j);

            if (j.to < j.cpl)
                continue;
            matrix_case("RETF n", bits << 4 | size, j.cpl << 4 | j.to, releases[r], 0);
            run_return(&j, &frame, VECTOR_DONE, 0);
        }
    }
}

static void run_nested_flag(unsigned bits)
{
    struct visit_state in;
    struct visit_end end;
    struct way way;

    if (!long_mode())
        return;
    way_place(&way, IRET, bits, 4, 0);
    for (unsigned cpl = 0; cpl < 4; cpl++) {
        matrix_case("IRET with NT in long mode", bits, cpl, 0, 0);
        in = probe_state(bits, cpl, way.place);
        in.flags |= FLAG_NT;
        visit(&in, &end);
        expect_fault(&in, &end, GP, 0);
    }
}

static void run_way(const struct way *way)
{
    if (way->form != RETF)
        run_all_flags(way);
    if (way->form == POPF)
        return;
    run_stack_segments(way);
    run_null_stacks(way);
    run_null_codes(way);
    run_targets(way);
    run_pages(way);
    run_hidden(way);
    run_null_data(way);
}

void matrix_main(void)
{
    matrix_begin("returns and flags");
    store(LOW_NOP, 4, 0x90 | 0xcd << 8 | VECTOR_DONE << 16);
    for (unsigned bits = 16; bits <= MODE; bits *= 2) {
        for (unsigned size = 2; size <= bits / 8 || size == 4; size *= 2) {
            for (unsigned form = IRET; form <= POPF; form++) {
                struct way way;

                if (form == POPF && bits == 64 && size == 4)
                    continue; /* not encodable */
                way_place(&way, (enum form)form, bits, size, 0);
                run_way(&way);
            }
            run_released(bits, size);
        }
        run_nested_flag(bits);
    }
    matrix_end();
}
