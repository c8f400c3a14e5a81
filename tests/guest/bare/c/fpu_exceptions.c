/*
 * MODES 32 64. Unmasked floating-point exceptions: of the x87 at the next instruction that waits,
 * as #MF or as IRQ 13; of SSE and AVX at once, as #XM or #UD (SDM vol. 1, 8.6, 8.7, 11.5, 12.8).
 */
#include "guest.h"

static uint32_t cases;
static __attribute__((aligned(4096))) uint8_t operand[4096 + 64];
static __attribute__((aligned(64))) uint8_t code[64];
static bool has_avx;

enum { X87_IE = 1, X87_DE = 2, X87_ZE = 4, X87_OE = 8, X87_UE = 16, X87_PE = 32, FSW_ES = 0x80 };

struct row {
    const char *name;
    uint8_t flags, length, code[12];
};
#define ROW(flags, name, ...)                                                                      \
    {                                                                                              \
        name, flags, sizeof((const uint8_t[]){__VA_ARGS__}),                                       \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }

/* Where AX points: control words, then numbers. */
enum {
    AT_FCW = 0,
    AT_MEMORY = 8,
    AT_MXCSR = 12,
    AT_DENORMAL = 32,
    AT_HUGE = 40,
    AT_TINY = 56,
    AT_THREE = 72,
    AT_IMAGE = 512,
    PAGE_END = 4096
};

/* Each leaves the exception pending if it is not masked. */
static const struct row causes[] = {
    ROW(X87_IE, "0 / 0", 0xd9, 0xee, 0xd9, 0xee, 0xde, 0xf9),
    ROW(X87_IE, "stack underflow", 0xdd, 0xd8),
    ROW(X87_DE, "denormal", 0xdd, 0x40, AT_DENORMAL),
    ROW(X87_ZE, "1 / 0", 0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9),
    ROW(X87_OE, "overflow", 0xdb, 0x68, AT_HUGE, 0xdc, 0xc0),
    ROW(X87_UE, "underflow", 0xdb, 0x68, AT_TINY, 0xdc, 0xc8),
    ROW(X87_PE, "1 / 3", 0xd9, 0xe8, 0xdd, 0x40, AT_THREE, 0xde, 0xf9),
    ROW(X87_OE, "store of an overflow", 0xdb, 0x68, AT_HUGE, 0xd9, 0x58, AT_MEMORY),
    ROW(X87_IE, "store of no integer", 0xdb, 0x68, AT_HUGE, 0xdb, 0x58, AT_MEMORY),
};
enum { CAUSES = sizeof(causes) / sizeof(causes[0]) };

enum { WAITS = 1, CLEARS = 2, AVX = 4 };
static const struct row followers[] = {
    ROW(WAITS, "FWAIT", 0x9b),
    ROW(WAITS, "FLD1", 0xd9, 0xe8),
    ROW(WAITS, "FNOP", 0xd9, 0xd0),
    ROW(WAITS, "FCOMI", 0xdb, 0xf1),
    ROW(WAITS, "FXCH", 0xd9, 0xc9),
    ROW(WAITS, "FFREE", 0xdd, 0xc0),
    ROW(WAITS, "FINCSTP", 0xd9, 0xf7),
    ROW(WAITS, "FADD m32", 0xd8, 0x40, AT_THREE),
    ROW(WAITS, "FST m64", 0xdd, 0x50, AT_MEMORY),
    ROW(WAITS, "FLDCW", 0xd9, 0x28),
    ROW(WAITS, "FLDENV", 0xd9, 0xa0, 0x00, 0x02, 0x00, 0x00),
    ROW(WAITS, "FRSTOR", 0xdd, 0xa0, 0x00, 0x02, 0x00, 0x00),
    ROW(WAITS, "FADD over two pages", 0xd8, 0x80, 0xfe, 0x0f, 0x00, 0x00),
    ROW(WAITS, "MOVQ over two pages", 0x0f, 0x6f, 0x80, 0xfc, 0x0f, 0x00, 0x00),
    ROW(WAITS, "MASKMOVQ", 0x0f, 0xf7, 0xc1), /* at 0, with an empty mask */
    ROW(WAITS, "EMMS", 0x0f, 0x77),
    ROW(WAITS, "PADDB mm", 0x0f, 0xfc, 0xc1),
    ROW(WAITS, "MOVQ mm, m", 0x0f, 0x6f, 0x40, AT_THREE),
    ROW(WAITS, "CVTPI2PS mm", 0x0f, 0x2a, 0xc1),
    ROW(WAITS, "MOVQ2DQ", 0xf3, 0x0f, 0xd6, 0xc1),
    ROW(WAITS, "MOVDQ2Q", 0xf2, 0x0f, 0xd6, 0xc1),
    ROW(CLEARS, "FNINIT", 0xdb, 0xe3),
    ROW(CLEARS, "FNCLEX", 0xdb, 0xe2),
    ROW(CLEARS, "FNSTENV", 0xd9, 0xb0, 0x00, 0x02, 0x00, 0x00),
    ROW(CLEARS, "FNSAVE", 0xdd, 0xb0, 0x00, 0x02, 0x00, 0x00),
    ROW(CLEARS, "FXRSTOR", 0x0f, 0xae, 0x88, 0x00, 0x02, 0x00, 0x00),
    ROW(0, "FNSTSW AX", 0xdf, 0xe0, 0x89, 0xd0), /* MOV EAX, EDX */
    ROW(0, "FNSTSW m", 0xdd, 0x78, AT_MEMORY),
    ROW(0, "FNSTCW", 0xd9, 0x78, AT_MEMORY),
    ROW(0, "FNENI", 0xdb, 0xe0),
    ROW(0, "FNSETPM", 0xdb, 0xe4),
    ROW(0, "FXSAVE", 0x0f, 0xae, 0x80, 0x00, 0x02, 0x00, 0x00),
    ROW(0, "XORPS", 0x0f, 0x57, 0xc1),
    ROW(0, "STMXCSR", 0x0f, 0xae, 0x58, AT_MEMORY),
    ROW(AVX, "VADDPS", 0xc5, 0xf4, 0x58, 0xc1),
    ROW(AVX, "VZEROUPPER", 0xc5, 0xf8, 0x77),
    ROW(0, "NOP", 0x90),
};
enum { FOLLOWERS = sizeof(followers) / sizeof(followers[0]) };

static unsigned append(unsigned at, const struct row *row)
{
    for (unsigned i = 0; i < row->length; i++)
        code[at++] = row->code[i];
    return at;
}

static void put(unsigned at, uint32_t low, uint32_t high, uint16_t exponent)
{
    *(volatile uint32_t *)(operand + at) = low;
    *(volatile uint32_t *)(operand + at + 4) = high;
    *(volatile uint16_t *)(operand + at + 8) = exponent;
}

static void prepare_operands(unsigned masks)
{
    put(AT_FCW, 0x340 | masks, 0, 0);
    put(AT_MEMORY, 0xcccccccc, 0xcccccccc, 0);
    put(AT_THREE, 0, 0x40080000, 0);
    put(AT_TINY, 0, 0x80000000, 0x0001);
    put(AT_HUGE, 0, 0x80000000, 0x7ffe);
    put(AT_DENORMAL, 1, 0, 0);
    *(volatile uint32_t *)(operand + AT_DENORMAL + 8) = 0;
    put(AT_HUGE, 0, 0x80000000, 0x7ffe);
    for (unsigned i = AT_IMAGE; i < 1024; i += 4)
        *(volatile uint32_t *)(operand + i) = 0;
    operand[AT_IMAGE] = 0x7f;
    operand[AT_IMAGE + 1] = 0x03;
    operand[AT_IMAGE + 25] = 0x1f;
    operand[AT_IMAGE + 24] = 0x80;
}

static uint16_t status_word(void)
{
    uint16_t value;
    __asm__ volatile("fnstsw %0" : "=a"(value));
    return value;
}

__attribute__((noreturn)) static void complain(const struct row *cause, const struct row *follower,
                                               const char *what, uint32_t value)
{
    print("%s, %s: %s %x\n", cause->name, follower->name, what, value);
    guest_fail(__LINE__, value);
}

/* FLDCW, the cause, [STI,] the follower, FWAIT, UD2. Returns where the follower is. */
static unsigned compose(const struct row *cause, const struct row *follower, bool sti,
                        unsigned *end)
{
    static const struct row fwait = ROW(0, "", 0x9b, 0xfa, 0x0f, 0x0b); /* CLI in front of UD2 */
    static const struct row start = ROW(0, "", 0xdb, 0xe3, 0xd9, 0x28);
    unsigned at = append(append(0, &start), cause);
    if (sti)
        code[at++] = 0xfb;
    unsigned here = at;
    *end = append(append(at, follower), &fwait) - 4;
    if (!sti) { /* FWAIT, UD2: CLI is not for ring 3 */
        code[*end + 1] = 0x0f;
        code[*end + 2] = 0x0b;
    }
    return here;
}

static void run_x87(const struct row *cause, const struct row *follower, bool masked, bool user)
{
    unsigned end, here = compose(cause, follower, false, &end);
    prepare_operands(masked ? 0x3f : 0x3f & ~cause->flags);
    struct guest_call call = {(uint32_t)(uintptr_t)code, user, (uintptr_t)operand, 0,
                              (uintptr_t)operand};
    guest_enter(&call);
    uint16_t status = status_word();
    __asm__ volatile("fninit");
    cases++;
    bool raised = !masked && !(follower->flags & CLEARS);
    uint32_t at = call.code + (raised && (follower->flags & WAITS) ? here : raised ? end : end + 1);
    if (SEEN.vector != (raised ? VECTOR_MF : VECTOR_UD))
        complain(cause, follower, "exception", SEEN.vector);
    if (SEEN.ip != at)
        complain(cause, follower, "pc", SEEN.ip - call.code);
    if (!raised)
        return;
    if (!(status & cause->flags) || !(status & FSW_ES))
        complain(cause, follower, "status", status);
    bool stored = cause->code[3] == 0xd9 || cause->code[3] == 0xdb;
    if (cause->length == 6 && stored && (follower->flags & WAITS) &&
        *(volatile uint32_t *)(operand + AT_MEMORY) != 0xcccccccc)
        complain(cause, follower, "stored", *(volatile uint32_t *)(operand + AT_MEMORY));
}

/* --- CR0.NE clear: FERR# to IRQ 13 --- */

enum { VECTOR_MASTER = 0x18, VECTOR_SLAVE = 0x10, IRQ_13 = VECTOR_SLAVE + 5 };

static void pic_setup(void)
{
    out8(0x20, 0x11);
    out8(0x21, VECTOR_MASTER);
    out8(0x21, 4);
    out8(0x21, 1);
    out8(0xa0, 0x11);
    out8(0xa1, VECTOR_SLAVE);
    out8(0xa1, 2);
    out8(0xa1, 1);
    out8(0x21, 0xfb);
    out8(0xa1, 0xdf);
}

static uint8_t slave_requests(void)
{
    out8(0xa0, 0x0a);
    return in8(0xa0);
}

static __attribute__((aligned(16))) uint8_t before[512], ignored[512], reference[512];

static uint16_t half(const uint8_t *image, unsigned at)
{
    return (uint16_t)(image[at] | image[at + 1] << 8);
}

/* Only the follower, in ring 0 with interrupts off. */
static void run_alone(const struct row *cause, const struct row *follower)
{
    static const struct row ud2 = ROW(0, "", 0x0f, 0x0b);
    append(append(0, follower), &ud2);
    put(AT_MEMORY, 0xcccccccc, 0xcccccccc, 0);
    struct guest_call call = {(uint32_t)(uintptr_t)code, 0, (uintptr_t)operand, 0,
                              (uintptr_t)operand};
    guest_enter(&call);
    if (SEEN.vector != VECTOR_UD || SEEN.ip != call.code + follower->length)
        complain(cause, follower, "exception although ignored", SEEN.vector);
}

/*
 * Port F0h written while FERR# is asserted asserts IGNNE#: what would wait goes on, as if nothing
 * were pending, and what is pending stays until something clears it.
 */
static void run_ignored(const struct row *cause, const struct row *follower)
{
    enum { FCW = 0, FSW = 2, FTW = 4, ST = 32, ST_END = 160, EXCEPTIONS = 0x3f, SUMMARY = 0x8080 };
    bool loads = follower->code[0] >= 0xd9 && follower->code[1] == 0xa0; /* FLDENV, FRSTOR */
    __asm__ volatile("fxsave %0" : "=m"(before));
    run_alone(cause, follower);
    uint32_t stored = *(volatile uint32_t *)(operand + AT_MEMORY);
    __asm__ volatile("fxsave %0\n fnclex" : "=m"(ignored));
    uint16_t pending = half(before, FSW) & EXCEPTIONS;
    before[FSW] &= (uint8_t) ~(EXCEPTIONS | SUMMARY);
    before[FSW + 1] &= 0x7f;
    __asm__ volatile("fxrstor %0" : : "m"(before));
    run_alone(cause, follower);
    __asm__ volatile("fxsave %0\n fnclex" : "=m"(reference));
    uint16_t wanted = half(reference, FSW) & ~SUMMARY;
    if (!loads)
        wanted |= pending;
    if (wanted & EXCEPTIONS & ~half(reference, FCW))
        wanted |= SUMMARY;
    if (half(ignored, FSW) != wanted)
        complain(cause, follower, "status when ignored", half(ignored, FSW));
    if (half(ignored, FCW) != half(reference, FCW) || ignored[FTW] != reference[FTW])
        complain(cause, follower, "control and tags when ignored", ignored[FTW]);
    for (unsigned i = ST; i < ST_END; i++) {
        if (ignored[i] != reference[i])
            complain(cause, follower, "registers when ignored", i);
    }
    if ((follower->flags & WAITS) && stored != *(volatile uint32_t *)(operand + AT_MEMORY))
        complain(cause, follower, "stored when ignored", stored);
    cases++;
}

static void run_irq13(const struct row *cause, const struct row *follower)
{
    unsigned end, here = compose(cause, follower, true, &end);
    prepare_operands(0x3f & ~cause->flags);
    struct guest_call call = {(uint32_t)(uintptr_t)code, 0, (uintptr_t)operand, 0,
                              (uintptr_t)operand};
    guest_enter(&call);
    bool interrupted = SEEN.vector == IRQ_13;
    cases++;
    if (follower->flags & CLEARS) { /* FERR# may have gone out before */
        if (SEEN.vector != VECTOR_UD && SEEN.vector != IRQ_13)
            complain(cause, follower, "exception", SEEN.vector);
    } else {
        uint32_t last = call.code + (follower->flags & WAITS ? here : end);
        if (SEEN.vector != IRQ_13)
            complain(cause, follower, "exception instead of IRQ 13", SEEN.vector);
        if (SEEN.ip < call.code + here - 1 || SEEN.ip > last)
            complain(cause, follower, "pc", SEEN.ip - call.code);
        if (!(status_word() & FSW_ES))
            complain(cause, follower, "status", status_word());
    }
    /* What a handler does: after F0h the line is down, after FNCLEX nothing is pending. */
    out8(0xf0, 0);
    if (!(follower->flags & CLEARS))
        run_ignored(cause, follower);
    __asm__ volatile("fnclex");
    if (slave_requests() & 0x20)
        complain(cause, follower, "requests", slave_requests());
    if (interrupted) {
        out8(0xa0, 0x20);
        out8(0x20, 0x20);
    }
    __asm__ volatile("sti; nop; fwait; nop; cli"); /* an interrupt here would be unexpected */
    __asm__ volatile("fninit");
}

/* --- SSE and AVX --- */

struct vector_cause {
    uint8_t flag, opcode;
    uint32_t a, b; /* operands, single precision */
};
static const struct vector_cause vector_causes[] = {
    {X87_IE, 0x51, 0, 0xbf800000},          /* SQRT of -1 */
    {X87_IE, 0x5c, 0x7f800000, 0x7f800000}, /* infinity - infinity */
    {X87_IE, 0x58, 0x3f800000, 0x7fa00000}, /* SNaN */
    {X87_IE, 0x2f, 0x3f800000, 0x7fc00000}, /* COMISS with a QNaN */
    {X87_DE, 0x58, 0x3f800000, 0x00000001}, {X87_ZE, 0x5e, 0x3f800000, 0},
    {X87_OE, 0x59, 0x7f7fffff, 0x7f7fffff}, {X87_UE, 0x59, 0x00800000, 0x00800000},
    {X87_PE, 0x5e, 0x3f800000, 0x40400000},
};
static const struct row vector_forms[] = {
    ROW(0, "packed", 0x0f, 0, 0xc1),          ROW(0, "scalar", 0xf3, 0x0f, 0, 0xc1),
    ROW(0, "memory", 0x0f, 0, 0x40, 32),      ROW(AVX, "VEX.128", 0xc5, 0xf8, 0, 0xc1),
    ROW(AVX, "VEX.256", 0xc5, 0xfc, 0, 0xc1), ROW(AVX, "VEX memory", 0xc5, 0xfc, 0, 0x40, 32),
};

static void run_vector(const struct vector_cause *cause, const struct row *form, unsigned variant)
{
    bool user = variant & 1, masked = variant & 2, xmmexcpt = variant & 4;
    bool compare = cause->opcode == 0x2f; /* exists only so */
    if (compare && (form->code[0] == 0xf3 || form->code[1] == 0xfc))
        return;
    /* LDMXCSR; MOVUPS XMM0, [AX + 64]; MOVUPS XMM1, [AX + 32]; the instruction; UD2 */
    static const struct row start =
        ROW(0, "", 0x0f, 0xae, 0x50, AT_MXCSR, 0x0f, 0x10, 0x40, 64, 0x0f, 0x10, 0x48, 32);
    static const struct row ud2 = ROW(0, "", 0x0f, 0x0b);
    unsigned here = append(0, &start), end = append(here, form);
    append(end, &ud2);
    for (unsigned i = here; i < end; i++) {
        if (code[i] == 0) {
            code[i] = cause->opcode;
            break;
        }
    }
    volatile uint32_t *words = (volatile uint32_t *)operand;
    for (unsigned i = 0; i < 8; i++) {
        words[8 + i] = cause->b;
        words[16 + i] = cause->a;
        words[24 + i] = 0;
    }
    if (!compare && form->code[1] == 0xfc && form->code[3] == 0x40) /* memory: upper half, too */
        words[16] = cause->a;
    words[AT_MXCSR / 4] = 0x1f80 & ~(masked ? 0 : (uint32_t)cause->flag << 7);
    write_cr4((read_cr4() & ~(uintptr_t)CR4_OSXMMEXCPT) | (xmmexcpt ? CR4_OSXMMEXCPT : 0));
    struct guest_call call = {(uint32_t)(uintptr_t)code, user, (uintptr_t)operand, 0, 0};
    guest_enter(&call);
    uint32_t mxcsr;
    __asm__ volatile("stmxcsr %0; movups %%xmm0, %1" : "=m"(mxcsr), "=m"(operand[96]));
    cases++;
    unsigned wanted = masked || !xmmexcpt ? VECTOR_UD : VECTOR_XM;
    bool good = SEEN.vector == wanted && SEEN.ip - call.code == (masked ? end : here);
    good = good && (mxcsr & cause->flag);
    if (!masked) /* the destination stays */
        good = good && words[24] == cause->a && words[27] == cause->a;
    if (good)
        return;
    print("%s, opcode %x, variant %x, MXCSR %x\n", form->name, cause->opcode, variant, mxcsr);
    guest_fail(__LINE__, words[24]);
}

/* MXCSR with flags set and unmasked raises nothing by itself; reserved bits do. */
static void test_mxcsr(void)
{
    struct guest_call call = {(uint32_t)(uintptr_t)code, 0, (uintptr_t)operand, 0, 0};
    static const struct row load = ROW(0, "", 0x0f, 0xae, 0x10, 0x0f, 0x58, 0xc1, 0x0f, 0x0b);
    append(0, &load); /* LDMXCSR; ADDPS; UD2 */
    __asm__ volatile("xorps %xmm0, %xmm0; xorps %xmm1, %xmm1");
    __asm__ volatile("fxsave %0" : "=m"(operand[AT_IMAGE]));
    uint32_t mask = *(volatile uint32_t *)(operand + AT_IMAGE + 28);
    EXPECT_THAT((mask & 0xff80) == 0xff80, mask);
    for (unsigned bit = 0; bit < 32; bit++) {
        *(volatile uint32_t *)operand = 0x1f80 ^ 1u << bit;
        guest_enter(&call);
        bool reserved = !(mask >> bit & 1);
        EXPECT_THAT(SEEN.vector == (reserved ? VECTOR_GP : VECTOR_UD), bit);
        EXPECT_THAT(SEEN.ip - call.code == (reserved ? 0u : 6u), bit);
        cases++;
    }
    *(volatile uint32_t *)operand = 0x3f; /* all flags, nothing masked */
    guest_enter(&call);
    EXPECT_THAT(SEEN.vector == VECTOR_UD && SEEN.ip - call.code == 6, SEEN.vector);
}

/* MXCSR.MM, where it exists, lets SSE operands be unaligned, but not those of MOVAPS. */
static void test_misaligned_mask(void)
{
    enum { OK, ALIGNED, ALWAYS };
    static const struct row moves[] = {
        ROW(ALIGNED, "ADDPS", 0x0f, 0x58, 0x40),      ROW(ALIGNED, "PADDB", 0x66, 0x0f, 0xfc, 0x40),
        ROW(ALWAYS, "MOVAPS", 0x0f, 0x28, 0x40),      ROW(ALWAYS, "MOVDQA", 0x66, 0x0f, 0x6f, 0x40),
        ROW(ALWAYS, "MOVAPS to m", 0x0f, 0x29, 0x40), ROW(OK, "MOVUPS", 0x0f, 0x10, 0x40),
        ROW(ALWAYS, "MOVNTPS", 0x0f, 0x2b, 0x40),     ROW(OK, "MOVDQU", 0xf3, 0x0f, 0x6f, 0x40),
    };
    static const struct row load = ROW(0, "", 0x0f, 0xae, 0x50, AT_MXCSR);
    static const struct row ud2 = ROW(0, "", 4, 0x0f, 0x0b); /* displacement in front */
    uint32_t mask = *(volatile uint32_t *)(operand + AT_IMAGE + 28);
    for (unsigned i = 0; i < sizeof(moves) / sizeof(moves[0]) * 4; i++) {
        const struct row *move = &moves[i / 4];
        bool allowed = i & 1, crossing = i & 2;
        if (allowed && !(mask & 1 << 17))
            continue;
        append(append(append(0, &load), move), &ud2);
        uint8_t *base = operand + (crossing ? PAGE_END - 16 : 0);
        *(volatile uint32_t *)(base + AT_MXCSR) = 0x1f80 | (allowed ? 1 << 17 : 0);
        unsigned at = append(append(0, &load), move);
        code[at] = crossing ? 12 : 4; /* behind MXCSR's place, unaligned */
        struct guest_call call = {(uint32_t)(uintptr_t)code, i & 1, (uintptr_t)base, 0, 0};
        guest_enter(&call);
        bool faults = move->flags == ALWAYS || (move->flags == ALIGNED && !allowed);
        EXPECT_THAT(SEEN.vector == (faults ? VECTOR_GP : VECTOR_UD), i);
        EXPECT_THAT(SEEN.ip - call.code == (faults ? load.length : at + 1u), i);
        cases++;
    }
}

static bool available(const struct row *row)
{
    return has_avx || !(row->flags & AVX);
}

void guest_main(void)
{
    write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT);
    write_cr0((read_cr0() & ~(uintptr_t)(CR0_EM | CR0_TS)) | CR0_NE | CR0_MP);
    has_avx = cpuid(1, 0).ecx >> 28 & 1;
    if (has_avx) {
        write_cr4(read_cr4() | CR4_OSXSAVE);
        __asm__ volatile("xsetbv" : : "a"(7), "d"(0), "c"(0));
    }
    for (unsigned i = 0; i < CAUSES; i++) {
        for (unsigned k = 0; k < FOLLOWERS; k++) {
            for (unsigned v = 0; v < 4 && available(&followers[k]); v++)
                run_x87(&causes[i], &followers[k], v & 1, v & 2);
        }
    }
    for (unsigned i = 0; i < sizeof(vector_causes) / sizeof(vector_causes[0]); i++) {
        for (unsigned k = 0; k < sizeof(vector_forms) / sizeof(vector_forms[0]); k++) {
            for (unsigned v = 0; v < 8 && available(&vector_forms[k]); v++)
                run_vector(&vector_causes[i], &vector_forms[k], v);
        }
    }
    test_mxcsr();
    test_misaligned_mask();
    pic_setup();
    write_cr0(read_cr0() & ~(uintptr_t)CR0_NE);
    for (unsigned i = 0; i < CAUSES; i++) {
        for (unsigned k = 0; k < FOLLOWERS; k++) {
            if (available(&followers[k]))
                run_irq13(&causes[i], &followers[k]);
        }
    }
    print("%u cases\n", cases);
}
