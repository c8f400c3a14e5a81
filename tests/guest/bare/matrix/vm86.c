/* MODES 32. Virtual-8086 mode: sensitive instructions, CR4.VME, redirected INT n, gates, I/O. */
#include "matrix.h"

enum {
    VECTOR = 0x40,
    CR4_VME = 1,
    SEGMENT_BASE = 16,
    CODE_SEGMENT = CODE_AT / SEGMENT_BASE,
    STACK_SEGMENT = STACKS_AT / SEGMENT_BASE,
    TABLE = VECTOR * 4, /* the 8086 program's own vector */
    IO_BASE = 0x88,     /* the redirection bitmap is in the 32 bytes below */
    TSS_LIMIT = IO_BASE + 0x2000,
    ALWAYS = 0x4dd5, /* CF PF AF ZF SF TF DF OF NT */
    KNOWN =
        ALWAYS | FLAG_IF | FLAG_IOPL | FLAG_RF | FLAG_VM | FLAG_AC | FLAG_VIF | FLAG_VIP | FLAG_ID
};

enum action { CLI, STI, PUSHF, PUSHFD, POPF, POPFD, IRET, IRETD, INT_N };

static const struct {
    const char *name;
    uint8_t bytes[2], count, size;
} actions[] = {
    [CLI] = {"CLI", {0xfa}, 1, 0},
    [STI] = {"STI", {0xfb}, 1, 0},
    [PUSHF] = {"PUSHF", {0x9c}, 1, 2},
    [PUSHFD] = {"PUSHFD", {0x66, 0x9c}, 2, 4},
    [POPF] = {"POPF", {0x9d}, 1, 2},
    [POPFD] = {"POPFD", {0x66, 0x9d}, 2, 4},
    [IRET] = {"IRET", {0xcf}, 1, 2},
    [IRETD] = {"IRETD", {0x66, 0xcf}, 2, 4},
    [INT_N] = {"INT n", {0xcd, VECTOR}, 2, 2},
};

/* CX to DI keep what probe_state() gave them. */
static struct visit_state vm86_state(unsigned place, uintptr_t flags)
{
    struct visit_state in = probe_state(16, 3, place);

    in.cs = CODE_SEGMENT;
    in.ip = place;
    in.ss = STACK_SEGMENT;
    in.sp = 0x8f00;
    in.ds = DATA_AT / SEGMENT_BASE;
    in.es = 0x1111;
    in.fs = 0x2222;
    in.gs = 0x3333;
    in.flags = flags | FLAG_VM | 2;
    return in;
}

/* Out of the mode: the segments are on the stack, and null in the handler. */
static void expect_left(const struct visit_state *in, const struct visit_end *end,
                        unsigned error_words)
{
    const uintptr_t *saved = end->frame + error_words + 5;

    check("saved SS", end->ss, in->ss);
    check("saved ES", saved[0] & 0xffff, in->es);
    check("saved DS", saved[1] & 0xffff, in->ds);
    check("saved FS", saved[2] & 0xffff, in->fs);
    check("saved GS", saved[3] & 0xffff, in->gs);
    check("DS", end->regs.ds, 0);
    check("ES", end->regs.es, 0);
    check("FS", end->regs.fs, 0);
    check("GS", end->regs.gs, 0);
    check("frame", (uintptr_t)end->frame, stack_top(0) - (9 + error_words) * 4);
    check("VM in the handler", end->regs.flags & FLAG_VM, 0);
    check("saved SP", end->sp, in->sp);
    check("saved CS", end->cs, in->cs);
    check("saved pc", end->ip, in->ip);
    check("saved flags", end->flags, in->flags);
    check("AX", end->regs.ax, in->ax);
}

static void expect_vm86_fault(struct visit_state *in, const struct visit_end *end, unsigned vector,
                              uint32_t error)
{
    check("vector", end->vector, vector);
    check("error code", end->error, error);
    in->flags |= FLAG_RF;
    expect_left(in, end, vector >= TS);
}

/* --- instructions that depend on IOPL --- */

struct trial {
    enum action action;
    bool vme, redirect;
    uintptr_t flags, image; /* image: what POPF and IRET find */
};

enum result { FAULTS, CONTINUES, LEAVES, REDIRECTED };

static bool iopl3(const struct trial *t)
{
    return (t->flags & FLAG_IOPL) == FLAG_IOPL;
}

/* POPF and IRET: SDM vol. 2, their tables; 16 bits and VME for IOPL < 3. */
static enum result judge_load(const struct trial *t, uintptr_t *flags)
{
    unsigned size = actions[t->action].size;
    uintptr_t mask = ALWAYS | FLAG_IF | FLAG_AC | FLAG_ID;

    if (iopl3(t)) {
        mask &= size == 2 ? 0xffff : ~(uintptr_t)0;
        *flags = (t->flags & ~mask) | (t->image & mask);
        return CONTINUES;
    }
    if (!t->vme || size != 2 || (t->image & FLAG_TF) ||
        ((t->image & FLAG_IF) && (t->flags & FLAG_VIP)))
        return FAULTS;
    *flags = (t->flags & ~(uintptr_t)(ALWAYS | FLAG_VIF)) | (t->image & ALWAYS);
    *flags |= t->image & FLAG_IF ? FLAG_VIF : 0;
    return CONTINUES;
}

static enum result judge(const struct trial *t, uintptr_t *flags)
{
    bool allowed = iopl3(t) || t->vme;
    uintptr_t flag = iopl3(t) ? FLAG_IF : FLAG_VIF;

    *flags = t->flags;
    switch (t->action) {
    case CLI:
        *flags &= ~flag;
        return allowed ? CONTINUES : FAULTS;
    case STI:
        *flags |= flag;
        return allowed && (iopl3(t) || !(t->flags & FLAG_VIP)) ? CONTINUES : FAULTS;
    case PUSHF:
        return allowed ? CONTINUES : FAULTS;
    case PUSHFD:
        return iopl3(t) ? CONTINUES : FAULTS;
    case INT_N:
        if (!t->vme || !t->redirect)
            return iopl3(t) ? LEAVES : FAULTS;
        *flags &= ~(flag | FLAG_TF);
        return REDIRECTED;
    default:
        return judge_load(t, flags);
    }
}

/* What PUSHF and a redirected INT n store. */
static uintptr_t flags_image(const struct trial *t)
{
    uintptr_t image = (t->flags & ~(uintptr_t)(FLAG_RF | FLAG_VM)) | 2;

    if (actions[t->action].size == 4)
        return image;
    if (!iopl3(t)) {
        image = (image & ~(uintptr_t)FLAG_IF) | FLAG_IOPL;
        image |= t->flags & FLAG_VIF ? FLAG_IF : 0;
    }
    return image & 0xffff;
}

static uintptr_t stack_linear(const struct visit_state *in)
{
    return STACKS_AT + in->sp;
}

static void prepare_stack(const struct trial *t, struct visit_state *in, unsigned target)
{
    unsigned size = actions[t->action].size;
    uintptr_t at = stack_linear(in);

    if (t->action == POPF || t->action == POPFD)
        store(at, size, t->image);
    if (t->action != IRET && t->action != IRETD)
        return;
    store(at, size, target);
    store(at + size, size, CODE_SEGMENT);
    store(at + 2 * size, size, t->image);
}

/* Brings in to where the code has to be when it goes on. */
static void expect_continued(const struct trial *t, struct visit_state *in, unsigned target)
{
    unsigned size = actions[t->action].size;

    in->ip += actions[t->action].count + 1u;
    if (t->action == PUSHF || t->action == PUSHFD) {
        in->sp -= size;
        check("image", load(stack_linear(in), size), flags_image(t));
    } else if (t->action == POPF || t->action == POPFD) {
        in->sp += size;
    } else if (t->action == IRET || t->action == IRETD) {
        in->sp += 3 * size;
        in->ip = target + 1;
    }
}

static void expect_redirected(const struct trial *t, struct visit_state *in, unsigned target)
{
    uintptr_t at;

    in->sp -= 6;
    at = stack_linear(in);
    check("pushed IP", load(at, 2), in->ip + 2);
    check("pushed CS", load(at + 2, 2), CODE_SEGMENT);
    check("pushed flags", load(at + 4, 2), flags_image(t));
    in->ip = target + 1;
}

static void run_sensitive(const struct trial *t, unsigned place, unsigned target)
{
    struct visit_state in = vm86_state(place, t->flags);
    enum result wanted;
    struct visit_end end;

    matrix_case(actions[t->action].name, t->vme << 4 | t->redirect, (uint32_t)t->flags,
                (uint32_t)t->image, 0);
    cr4_set(CR4_VME, t->vme);
    prepare_stack(t, &in, target);
    visit(&in, &end);
    /* Both at the beginning of an instruction: an interrupt of the virtual machine is due. */
    if (t->vme && !iopl3(t) && (t->flags & FLAG_VIF) && (t->flags & FLAG_VIP)) {
        expect_vm86_fault(&in, &end, GP, 0);
        return;
    }
    wanted = judge(t, &in.flags);
    in.flags |= FLAG_VM | 2;
    if (wanted == FAULTS) {
        in.flags = t->flags | FLAG_VM | 2;
        expect_vm86_fault(&in, &end, GP, 0);
        return;
    }
    check("vector", end.vector, wanted == LEAVES ? LANDING : VECTOR_DONE);
    if (wanted == LEAVES)
        in.ip += actions[t->action].count;
    else if (wanted == REDIRECTED)
        expect_redirected(t, &in, target);
    else
        expect_continued(t, &in, target);
    if (in.flags & FLAG_TF)
        return;
    expect_left(&in, &end, 0);
}

/* INT1 gets out whatever IOPL is. */
static unsigned place_exit(void)
{
    static const uint8_t int1[] = {0xf1};

    return probe_place(int1, 1);
}

static void run_action(enum action action)
{
    uint8_t bytes[4];
    unsigned place, count = actions[action].count, target = place_exit();

    for (unsigned i = 0; i < count; i++)
        bytes[i] = actions[action].bytes[i];
    bytes[count] = 0xf1;
    place = probe_place(bytes, count + 1);
    store(TABLE, 2, target);
    store(TABLE + 2, 2, CODE_SEGMENT);
    idt_set(VECTOR, gate_make(KERNEL_CODE, landing(0), SYS_INT, 3, true, 0));
    for (unsigned i = 0; i < 2 * 2 * 4 * 8 * 44; i++) {
        unsigned pattern = i >> 7, old = i >> 4 & 7;
        uintptr_t image = pattern < 22 ? 1u << pattern : KNOWN & ~(1u << (pattern - 22));
        struct trial t = {
            .action = action,
            .vme = i & 1,
            .redirect = i >> 1 & 1,
            .flags = (i >> 2 & 3) << 12 | (old & 1 ? FLAG_VIF : 0) | (old & 2 ? FLAG_VIP : 0) |
                     (old & 4 ? 0xcd5 | FLAG_IF | FLAG_NT | FLAG_AC | FLAG_ID : 0),
            .image = (image & KNOWN & ~(uintptr_t)FLAG_TF) | 2,
        };

        if (action < POPF || action == INT_N) {
            if (pattern > 0)
                break;
        } else if (pattern == 8) {
            t.image |= FLAG_TF; /* the trap then comes after the next instruction */
        }
        if ((t.image & FLAG_TF) && iopl3(&t))
            continue;
        store(TSS_AT + IO_BASE - 32 + VECTOR / 8, 2, t.redirect ? 0 : 0xffff);
        run_sensitive(&t, place, target);
    }
    idt_restore(VECTOR, 0);
    cr4_set(CR4_VME, false);
}

/* --- gates out of the mode --- */

struct source {
    const char *name;
    uint8_t bytes[2], count, vector;
    bool software, fault;
};

static const struct source sources[] = {
    {"INT n", {0xcd, VECTOR}, 2, VECTOR, true, false},
    {"INT3", {0xcc}, 1, BP, true, false},
    {"INTO", {0xce}, 1, OF, true, false},
    {"INT1", {0xf1}, 1, DB, false, false},
    {"UD2", {0x0f, 0x0b}, 2, UD, false, true},
};

/* Gates with every DPL to conforming and other code of every level: only level 0 is a way out. */
static void run_gates(const struct source *source)
{
    unsigned place = probe_place(source->bytes, source->count);
    uint32_t external = !source->software;

    for (unsigned i = 0; i < 2 * 4 * 4 * 4 * 4; i++) {
        unsigned gate_dpl = i & 3, dpl = i >> 2 & 3, iopl = i >> 4 & 3, kind = i >> 6 & 3;
        unsigned conforming = kind & 1 ? CONFORMING_BIT : 0, is16 = kind >> 1;
        uintptr_t flags = iopl << 12 | 0x800 | (i >> 8 ? FLAG_NT | FLAG_IF : 0);
        struct visit_state in = vm86_state(place, flags);
        struct visit_end end;

        matrix_case(source->name, gate_dpl, dpl, iopl, kind);
        *descriptor_slot(TESTED) =
            descriptor_make(0, 0xfffff, TYPE_CODE | conforming, dpl, true, FLAGS_32);
        idt_set(source->vector, gate_make(TESTED, is16 ? LOW_CODE + 0x100 : landing(0),
                                          is16 ? SYS_TRAP16 : SYS_INT, gate_dpl, true, 0));
        visit(&in, &end);
        idt_restore(source->vector, 0);
        if (source->vector == VECTOR && iopl < 3) {
            expect_vm86_fault(&in, &end, GP, 0);
        } else if (source->software && gate_dpl < 3) {
            expect_vm86_fault(&in, &end, GP, source->vector * 8u + 2);
        } else if (conforming || dpl > 0) {
            expect_vm86_fault(&in, &end, GP, TESTED | external);
        } else {
            check("vector", end.vector, LANDING);
            in.ip += source->fault ? 0 : source->count;
            in.flags |= source->fault ? FLAG_RF : 0;
            if (!is16) {
                expect_left(&in, &end, 0);
                check("IF", end.regs.flags & FLAG_IF, 0);
                check("NT", end.regs.flags & FLAG_NT, 0);
                continue;
            }
            check("stack", end.regs.sp, stack_top(0) - 9 * 2);
            check("IP", load(end.regs.sp, 2), in.ip);
            check("flags", load(end.regs.sp + 4, 2), in.flags & 0xffff);
            check("GS", load(end.regs.sp + 16, 2), in.gs);
        }
    }
}

/* --- I/O: by the bitmap, whatever IOPL is --- */

static void run_io(void)
{
    static const uint8_t opcodes[] = {0xec, 0xee, 0x6c, 0x6e}; /* IN, OUT, INS, OUTS */
    struct visit_end end;

    for (unsigned i = 0; i < 4 * 3; i++) {
        unsigned size = 1u << i / 4;
        const uint8_t bytes[] = {size == 4 ? 0x66 : 0x3e, opcodes[i & 3] | (size > 1), 0xf1};
        unsigned place = probe_place(bytes, sizeof(bytes));

        for (unsigned k = 0; k < 4 * 8 * 12; k++) {
            unsigned iopl = k & 3, port = 0x300 + (k >> 2 & 7), denied = 0x300 + k / 32;
            struct visit_state in = vm86_state(place, iopl << 12);

            matrix_case("I/O", bytes[1], port, denied, iopl);
            in.dx = port;
            in.si = in.di = 0x100;
            in.es = in.ds;
            for (unsigned byte = 0; byte < 3; byte++)
                store(TSS_AT + IO_BASE + 0x60 + byte, 1, 0);
            store(TSS_AT + IO_BASE + denied / 8, 1, 1u << denied % 8);
            visit(&in, &end);
            if (denied >= port && denied < port + size)
                expect_vm86_fault(&in, &end, GP, 0);
            else
                check("vector", end.vector, VECTOR_DONE);
        }
    }
}

/* --- CPL 0's way in --- */

static void run_entry_limits(void)
{
    unsigned place = place_exit();
    struct visit_state in;
    struct visit_end end;

    for (unsigned bit = 16; bit < 32; bit++) {
        matrix_case("IRET with an EIP over 64 KiB", bit, 0, 0, 0);
        in = vm86_state(place | 1u << bit, 0);
        in.ip = place | 1u << bit;
        visit(&in, &end);
        check("vector", end.vector, GP);
        check("error code", end.error, 0);
        check("CS", end.cs, KERNEL_CODE);
    }
}

/* --- system instructions: at CPL 3, whatever IOPL is --- */

static const struct {
    const char *name;
    uint8_t vector, count, bytes[4];
} system_instructions[] = {
    {"MOV to CR0", GP, 3, {0x0f, 0x22, 0xc0}},
    {"MOV to CR3", GP, 3, {0x0f, 0x22, 0xd8}},
    {"MOV to CR4", GP, 3, {0x0f, 0x22, 0xe0}},
    {"MOV from CR0", GP, 3, {0x0f, 0x20, 0xc0}},
    {"MOV from CR2", GP, 3, {0x0f, 0x20, 0xd0}},
    {"MOV from CR4", GP, 3, {0x0f, 0x20, 0xe0}},
    {"MOV from CR1", UD, 3, {0x0f, 0x20, 0xc8}},
    {"MOV to DR0", GP, 3, {0x0f, 0x23, 0xc0}},
    {"MOV to DR7", GP, 3, {0x0f, 0x23, 0xf8}},
    {"MOV from DR6", GP, 3, {0x0f, 0x21, 0xf0}},
    {"LMSW", GP, 3, {0x0f, 0x01, 0xf0}},
    {"SMSW", VECTOR_DONE, 3, {0x0f, 0x01, 0xe3}},
    {"CLTS", GP, 2, {0x0f, 0x06}},
    {"INVD", GP, 2, {0x0f, 0x08}},
    {"WBINVD", GP, 2, {0x0f, 0x09}},
    {"INVLPG", GP, 3, {0x0f, 0x01, 0x3f}},
    {"HLT", GP, 1, {0xf4}},
    {"RDMSR", GP, 2, {0x0f, 0x32}},
    {"WRMSR", GP, 2, {0x0f, 0x30}},
    {"RDTSC", GP, 2, {0x0f, 0x31}}, /* with CR4.TSD */
    {"RDPMC", GP, 2, {0x0f, 0x33}},
    {"SYSEXIT", GP, 2, {0x0f, 0x35}},
    {"LGDT", GP, 3, {0x0f, 0x01, 0x17}},
    {"LIDT", GP, 3, {0x0f, 0x01, 0x1f}},
    {"SGDT", VECTOR_DONE, 3, {0x0f, 0x01, 0x07}},
    {"SIDT", VECTOR_DONE, 3, {0x0f, 0x01, 0x0f}},
    {"LLDT", UD, 3, {0x0f, 0x00, 0xd0}},
    {"LTR", UD, 3, {0x0f, 0x00, 0xd8}},
    {"SLDT", UD, 3, {0x0f, 0x00, 0xc0}},
    {"STR", UD, 3, {0x0f, 0x00, 0xc8}},
    {"VERR", UD, 3, {0x0f, 0x00, 0xe0}},
    {"VERW", UD, 3, {0x0f, 0x00, 0xe8}},
    {"LAR", UD, 3, {0x0f, 0x02, 0xc0}},
    {"LSL", UD, 3, {0x0f, 0x03, 0xc0}},
    {"ARPL", UD, 2, {0x63, 0xc0}},
};

static void run_system_instructions(void)
{
    enum { CR4_TSD = 4 };

    cr4_set(CR4_TSD, true);
    for (unsigned i = 0; i < sizeof(system_instructions) / sizeof(system_instructions[0]); i++) {
        unsigned vector = system_instructions[i].vector;
        unsigned place = probe_place(system_instructions[i].bytes, system_instructions[i].count);

        for (unsigned iopl = 0; iopl < 4; iopl++) {
            struct visit_state in = vm86_state(place, iopl << 12);
            struct visit_end end;

            if (vector == VECTOR_DONE && iopl != 3)
                continue; /* INT 255 would not get through */
            matrix_case(system_instructions[i].name, iopl, 0, 0, 0);
            in.bx = in.di = 0;
            visit(&in, &end);
            if (vector == VECTOR_DONE)
                expect_done(&end);
            else
                expect_vm86_fault(&in, &end, vector, 0);
        }
    }
    cr4_set(CR4_TSD, false);
}

void matrix_main(void)
{
    matrix_begin("virtual-8086 mode");
    store(TSS_AT + 102, 2, IO_BASE);
    store(LOW_CODE + 0x100, 2, 0xe9 << 8 | 0x90);
    store(LOW_CODE + 0x102, 4, (uint32_t)(landing(0) - (LOW_CODE + 0x106)));
    for (unsigned i = 0; i < 0x2001; i++)
        *(volatile uint8_t *)(uintptr_t)(TSS_AT + IO_BASE + i) = 0xff;
    tss_load(SYS_TSS, TSS_LIMIT);
    for (unsigned i = 0; i < sizeof(sources) / sizeof(sources[0]); i++)
        run_gates(&sources[i]);
    run_entry_limits();
    idt_set(DB, gate_make(KERNEL_CODE, (uintptr_t)landing(0) + (VECTOR_DONE - LANDING) * 16,
                          SYS_INT, 0, true, 0));
    run_io();
    for (unsigned action = CLI; action <= INT_N; action++)
        run_action((enum action)action);
    run_system_instructions();
    matrix_end();
}
