/*
 * MODES 32 64. Which instructions CR0.EM, TS and MP, CR4.OSFXSR and OSXSAVE and XCR0 forbid, and
 * with which exception (SDM vol. 3, tables 2-2, 13-1 and 23; vol. 1, 13.7 to 13.12): every
 * combination.
 */
#include "guest.h"

enum kind { PLAIN, X87, WAITING, MMX, SSE, SSE_MMX, AVX, FXSAVE, XSAVE, XGETBV, XSETBV };

struct row {
    const char *name;
    uint8_t kind, cpuid; /* bit of CPUID.1:ECX that it needs, 0: none */
    uint8_t code[14];    /* the operand is at AX */
};
#define ROW(kind, cpuid, name, ...)                                                                \
    {                                                                                              \
        name, kind, cpuid,                                                                         \
        {                                                                                          \
            __VA_ARGS__, 0x0f, 0x0b                                                                \
        }                                                                                          \
    }

enum { SSSE3 = 9, FMA = 12, SSE41 = 19, AES = 25, XSAVE_BIT = 26, AVX_BIT = 28, F16C = 29 };

/* In the image, where they run: each ends in UD2. */
static const struct row rows[] = {
    ROW(X87, 0, "FLD1", 0xd9, 0xe8),
    ROW(X87, 0, "FADD m32", 0xd8, 0x00),
    ROW(X87, 0, "FADD ST", 0xdc, 0xc1),
    ROW(X87, 0, "FILD", 0xdf, 0x28),
    ROW(X87, 0, "FISTTP", 0xdb, 0x08),
    ROW(X87, 0, "FSTP m80", 0xdb, 0x38),
    ROW(X87, 0, "FCOMI", 0xdb, 0xf1),
    ROW(X87, 0, "FCMOVB", 0xda, 0xc1),
    ROW(X87, 0, "FNSTSW AX", 0xdf, 0xe0),
    ROW(X87, 0, "FNSTSW m", 0xdd, 0x38),
    ROW(X87, 0, "FNSTCW", 0xd9, 0x38),
    ROW(X87, 0, "FLDCW", 0xd9, 0x28),
    ROW(X87, 0, "FNINIT", 0xdb, 0xe3),
    ROW(X87, 0, "FNCLEX", 0xdb, 0xe2),
    ROW(X87, 0, "FNENI", 0xdb, 0xe0),
    ROW(X87, 0, "FNOP", 0xd9, 0xd0),
    ROW(X87, 0, "FFREE", 0xdd, 0xc0),
    ROW(X87, 0, "FNSTENV", 0xd9, 0x30),
    ROW(X87, 0, "FLDENV", 0xd9, 0x20),
    ROW(X87, 0, "FNSAVE", 0xdd, 0x30),
    ROW(X87, 0, "FRSTOR", 0xdd, 0x20),
    ROW(WAITING, 0, "FWAIT", 0x9b),
    ROW(MMX, 0, "EMMS", 0x0f, 0x77),
    ROW(MMX, 0, "PADDB mm", 0x0f, 0xfc, 0xc1),
    ROW(MMX, 0, "MOVQ mm, m", 0x0f, 0x6f, 0x00),
    ROW(MMX, 0, "MOVQ m, mm", 0x0f, 0x7f, 0x00),
    ROW(MMX, 0, "MOVD", 0x0f, 0x7e, 0xc1),
    ROW(MMX, 0, "PAVGB mm", 0x0f, 0xe0, 0xc1),
    ROW(MMX, 0, "PSHUFW", 0x0f, 0x70, 0xc1, 0x1b),
    ROW(MMX, 0, "PINSRW mm", 0x0f, 0xc4, 0xc1, 0x01),
    ROW(MMX, 0, "PMOVMSKB mm", 0x0f, 0xd7, 0xc9),
    ROW(MMX, 0, "MOVNTQ", 0x0f, 0xe7, 0x00),
    ROW(MMX, SSSE3, "PSHUFB mm", 0x0f, 0x38, 0x00, 0xc1),
    ROW(SSE_MMX, 0, "CVTPI2PS m", 0x0f, 0x2a, 0x00),
    ROW(SSE_MMX, 0, "CVTPI2PS mm", 0x0f, 0x2a, 0xc1),
    ROW(SSE_MMX, 0, "CVTPS2PI", 0x0f, 0x2d, 0xc1),
    ROW(SSE_MMX, 0, "CVTTPD2PI", 0x66, 0x0f, 0x2c, 0xc1),
    ROW(SSE_MMX, 0, "MOVDQ2Q", 0xf2, 0x0f, 0xd6, 0xc1),
    ROW(SSE_MMX, 0, "MOVQ2DQ", 0xf3, 0x0f, 0xd6, 0xc1),
    ROW(SSE, 0, "XORPS", 0x0f, 0x57, 0xc1),
    ROW(SSE, 0, "MOVAPS m", 0x0f, 0x28, 0x00),
    ROW(SSE, 0, "MOVUPS to m", 0x0f, 0x11, 0x00),
    ROW(SSE, 0, "ADDPD", 0x66, 0x0f, 0x58, 0xc1),
    ROW(SSE, 0, "CVTSI2SD", 0xf2, 0x0f, 0x2a, 0xc1),
    ROW(SSE, 0, "CVTTSS2SI", 0xf3, 0x0f, 0x2c, 0xc8),
    ROW(SSE, 0, "UCOMISS", 0x0f, 0x2e, 0xc1),
    ROW(SSE, 0, "PADDB xmm", 0x66, 0x0f, 0xfc, 0xc1),
    ROW(SSE, 0, "MOVD xmm", 0x66, 0x0f, 0x6e, 0xc1),
    ROW(SSE, 0, "LDMXCSR", 0x0f, 0xae, 0x10),
    ROW(SSE, 0, "STMXCSR", 0x0f, 0xae, 0x18),
    ROW(SSE, 0, "MOVNTDQ", 0x66, 0x0f, 0xe7, 0x00),
    ROW(SSE, 0, "PMOVMSKB xmm", 0x66, 0x0f, 0xd7, 0xc9),
    ROW(SSE, SSSE3, "PSHUFB xmm", 0x66, 0x0f, 0x38, 0x00, 0xc1),
    ROW(SSE, SSE41, "PTEST", 0x66, 0x0f, 0x38, 0x17, 0xc1),
    ROW(SSE, AES, "AESENC", 0x66, 0x0f, 0x38, 0xdc, 0xc1),
    ROW(AVX, AVX_BIT, "VXORPS", 0xc5, 0xf0, 0x57, 0xc1),
    ROW(AVX, AVX_BIT, "VADDPD ymm", 0xc5, 0xf5, 0x58, 0xc1),
    ROW(AVX, AVX_BIT, "VMOVUPS m", 0xc5, 0xfc, 0x10, 0x00),
    ROW(AVX, AVX_BIT, "VZEROUPPER", 0xc5, 0xf8, 0x77),
    ROW(AVX, AVX_BIT, "VLDMXCSR", 0xc5, 0xf8, 0xae, 0x10),
    ROW(AVX, AVX_BIT, "VSTMXCSR", 0xc5, 0xf8, 0xae, 0x18),
    ROW(AVX, AVX_BIT, "VMASKMOVPS", 0xc4, 0xe2, 0x71, 0x2c, 0x00),
    ROW(AVX, F16C, "VCVTPH2PS", 0xc4, 0xe2, 0x79, 0x13, 0xc1),
    ROW(AVX, FMA, "VFMADD213PS", 0xc4, 0xe2, 0x71, 0xa8, 0xc1),
    ROW(FXSAVE, 0, "FXSAVE", 0x0f, 0xae, 0x00),
    ROW(FXSAVE, 0, "FXRSTOR", 0x0f, 0xae, 0x08),
    ROW(XSAVE, XSAVE_BIT, "XSAVE", 0x0f, 0xae, 0x20),
    ROW(XSAVE, XSAVE_BIT, "XRSTOR", 0x0f, 0xae, 0x28),
    ROW(XGETBV, XSAVE_BIT, "XGETBV", 0x0f, 0x01, 0xd0),
    ROW(XSETBV, XSAVE_BIT, "XSETBV", 0x0f, 0x01, 0xd1),
#ifdef __x86_64__
    ROW(FXSAVE, 0, "FXSAVE64", 0x48, 0x0f, 0xae, 0x00),
    ROW(FXSAVE, 0, "FXRSTOR64", 0x48, 0x0f, 0xae, 0x08),
    ROW(XSAVE, XSAVE_BIT, "XSAVE64", 0x48, 0x0f, 0xae, 0x20),
    ROW(XSAVE, XSAVE_BIT, "XRSTOR64", 0x48, 0x0f, 0xae, 0x28),
#endif
    ROW(PLAIN, 0, "PREFETCHNTA", 0x0f, 0x18, 0x00),
    ROW(PLAIN, 0, "PREFETCHT2", 0x0f, 0x18, 0x18),
    ROW(PLAIN, 0, "MOVNTI", 0x0f, 0xc3, 0x08),
    ROW(PLAIN, 0, "SFENCE", 0x0f, 0xae, 0xf8),
    ROW(PLAIN, 0, "LFENCE", 0x0f, 0xae, 0xe8),
    ROW(PLAIN, 0, "MFENCE", 0x0f, 0xae, 0xf0),
    ROW(PLAIN, 0, "CLFLUSH", 0x0f, 0xae, 0x38),
    ROW(PLAIN, 0, "PAUSE", 0xf3, 0x90),
    ROW(PLAIN, 20, "CRC32", 0xf2, 0x0f, 0x38, 0xf1, 0xc9),
    ROW(PLAIN, 23, "POPCNT", 0xf3, 0x0f, 0xb8, 0xc9),
};
enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

struct setup {
    bool em, ts, mp, osfxsr, osxsave;
    unsigned xcr0;
};

static __attribute__((aligned(64))) uint8_t operand[1024];
static uint32_t cases;

/* 0, or the exception. */
static unsigned expected(const struct setup *s, enum kind kind, bool user)
{
    switch (kind) {
    case PLAIN:
        return 0;
    case X87:
    case FXSAVE:
        return s->em || s->ts ? VECTOR_NM : 0;
    case WAITING:
        return s->mp && s->ts ? VECTOR_NM : 0;
    case MMX:
        return s->em ? VECTOR_UD : s->ts ? VECTOR_NM : 0;
    case SSE:
    case SSE_MMX:
        return s->em || !s->osfxsr ? VECTOR_UD : s->ts ? VECTOR_NM : 0;
    case AVX:
        return !s->osxsave || (s->xcr0 & 6) != 6 ? VECTOR_UD : s->ts ? VECTOR_NM : 0;
    case XSAVE:
        return !s->osxsave ? VECTOR_UD : s->ts ? VECTOR_NM : 0;
    case XGETBV:
        return !s->osxsave ? VECTOR_UD : 0;
    default:
        return !s->osxsave ? VECTOR_UD : user ? VECTOR_GP : 0;
    }
}

static void set_xcr0(unsigned value)
{
    write_cr4(read_cr4() | CR4_OSXSAVE);
    __asm__ volatile("xsetbv" : : "a"(value), "d"(0), "c"(0));
}

static void apply(const struct setup *s)
{
    uintptr_t cr4 = read_cr4() & ~(uintptr_t)(CR4_OSFXSR | CR4_OSXSAVE);
    uintptr_t cr0 = read_cr0() & ~(uintptr_t)(CR0_EM | CR0_TS | CR0_MP);
    if (cpuid(1, 0).ecx & 1 << XSAVE_BIT)
        set_xcr0(s->xcr0);
    write_cr4(cr4 | (s->osfxsr ? CR4_OSFXSR : 0) | (s->osxsave ? CR4_OSXSAVE : 0));
    write_cr0(cr0 | CR0_NE | (s->em ? CR0_EM : 0) | (s->ts ? CR0_TS : 0) | (s->mp ? CR0_MP : 0));
}

/* Control words with everything masked, registers that hold zeros. */
static void reset_state(void)
{
    static const uint32_t mxcsr = 0x1f80;
    uintptr_t cr0 = read_cr0(), cr4 = read_cr4();
    write_cr0(cr0 & ~(uintptr_t)(CR0_EM | CR0_TS));
    write_cr4(cr4 | CR4_OSFXSR);
    __asm__ volatile("fninit; ldmxcsr %0" : : "m"(mxcsr));
    write_cr4(cr4);
    write_cr0(cr0);
    for (unsigned i = 0; i < sizeof(operand); i += 4)
        *(volatile uint32_t *)(operand + i) = 0;
    operand[24] = 0x80; /* MXCSR of FXRSTOR and XRSTOR */
    operand[25] = 0x1f;
    operand[1] = 0x1f; /* LDMXCSR and, as its low byte is 0, FLDCW */
}

static void run_row(const struct setup *s, const struct row *row, bool user)
{
    struct guest_call call = {(uint32_t)(uintptr_t)row->code, user, (uintptr_t)operand, 0, 0};
    if (row->kind == XSETBV)
        call.ax = s->xcr0;
    reset_state();
    if (row->kind == X87) { /* FLDCW and FLDENV: all masked */
        operand[0] = 0x7f;
        operand[1] = 0x03;
    }
    guest_enter(&call);
    bool done = SEEN.vector == VECTOR_UD && SEEN.ip != call.code;
    unsigned vector = done ? 0 : SEEN.vector, wanted = expected(s, row->kind, user);
    cases++;
    if (vector == wanted && (done || SEEN.ip == call.code))
        return;
    print("%s%s%s%s%s%s%s XCR0 %x, exception %u instead of %u\n", row->name,
          user ? " in ring 3:" : ":", s->em ? " EM" : "", s->ts ? " TS" : "", s->mp ? " MP" : "",
          s->osfxsr ? " OSFXSR" : "", s->osxsave ? " OSXSAVE" : "", s->xcr0, vector, wanted);
    guest_fail(__LINE__, cases);
}

#ifdef __x86_64__
/* These exceptions come before those of the operand: here an address that is not canonical. */
static void run_priority(const struct setup *s, const struct row *row)
{
    unsigned wanted = expected(s, row->kind, false);
    struct guest_call call = {(uint32_t)(uintptr_t)row->code, 0, 1ULL << 60, 0, 0};
    if (!wanted || row->kind == XSETBV)
        return;
    guest_enter(&call);
    if (SEEN.vector != wanted || SEEN.ip != call.code) {
        print("%s", row->name);
        guest_fail(__LINE__, wanted);
    }
    cases++;
}
#endif

void guest_main(void)
{
    static const uint8_t xcr0[] = {1, 3, 7};
    uint32_t features = cpuid(1, 0).ecx;
    for (unsigned i = 0; i < 32 * 3; i++) {
        struct setup s = {i & 1, i >> 1 & 1, i >> 2 & 1, i >> 3 & 1, i >> 4 & 1, xcr0[i >> 5]};
        if ((s.xcr0 & 4) && !(features & 1 << AVX_BIT))
            continue;
        if (s.osxsave && !(features & 1 << XSAVE_BIT))
            continue;
        apply(&s);
        for (unsigned k = 0; k < ROWS; k++) {
            const struct row *row = &rows[k];
            if (row->cpuid && !(features & 1u << row->cpuid))
                continue;
            run_row(&s, row, false);
            run_row(&s, row, true);
#ifdef __x86_64__
            run_priority(&s, row);
#endif
        }
    }
    print("%u cases\n", cases);
}
