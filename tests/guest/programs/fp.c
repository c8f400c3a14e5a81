/*
 * Floating-point arithmetic whose output must be the same on the bare processor and in a guest:
 * every result is printed as bits. Sections are named on the command line:
 *
 *   sse2   scalar and packed SSE/SSE2, rounding modes, exception flags, denormals, NaNs
 *   avx2   256-bit integer and floating point, FMA, gathers, permutes ("not offered" without CPUID)
 *   x87    extended precision, precision and rounding control, status word, tags, BCD
 *   trans  x87 transcendental instructions
 *   mmx    64-bit integer vectors
 *   switch several processes at once keep all of these registers across context switches
 */
#include <cpuid.h>
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const double doubles[] = {0.0,     -0.0,   1.0,      -1.0,     0.1,     1e308,      -1e308,
                                 1e-308,  5e-324, 3.5,      -2.5,     1e17,    0x1p52,     0x1p63,
                                 0x1p-30, 1e-160, 12345.67, -0.99999, 6.25e22, 0x1.8p-1022};
enum { DOUBLES = sizeof(doubles) / sizeof(doubles[0]) };

static uint64_t double_bits(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, 8);
    return bits;
}

static double special(int which)
{
    static const uint64_t bits[] = {0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000001,
                                    0x7ff0000000000001, 0xfff800000000beef, 0x000fffffffffffff};
    double value;

    memcpy(&value, &bits[which % 6], 8);
    return value;
}

static double operand(unsigned i)
{
    return i < DOUBLES ? doubles[i] : special((int)(i - DOUBLES));
}

static void print_vector(const char *name, const void *data, size_t size)
{
    const uint8_t *bytes = data;

    printf("%s ", name);
    for (size_t i = size; i-- > 0;)
        printf("%02x", bytes[i]);
    printf("\n");
}

static uint64_t hash(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 29);
}

/* ---- SSE2 ---- */

static void sse2_operations(unsigned rounding)
{
    for (unsigned i = 0; i < DOUBLES + 6; i++) {
        uint64_t h = 0;
        unsigned flags = 0;

        for (unsigned j = 0; j < DOUBLES + 6; j++) {
            volatile double a = operand(i), b = operand(j);
            __m128d va = _mm_set_pd(a, b), vb = _mm_set_pd(b, a), r;
            __m128 fa = _mm_cvtpd_ps(va), fb = _mm_cvtpd_ps(vb);

            _mm_setcsr(0x1f80 | rounding << 13);
            h = hash(h, double_bits(a + b));
            h = hash(h, double_bits(a - b));
            h = hash(h, double_bits(a * b));
            h = hash(h, double_bits(a / b));
            r = _mm_min_pd(va, vb);
            r = _mm_add_pd(r, _mm_max_pd(vb, va));
            h = hash(h, double_bits(_mm_cvtsd_f64(r)));
            r = _mm_sqrt_pd(va);
            h = hash(h, double_bits(_mm_cvtsd_f64(r)));
            fa = _mm_div_ps(_mm_mul_ps(fa, fb), _mm_add_ps(fa, _mm_set1_ps(3)));
            h = hash(h, (uint32_t)_mm_cvtsi128_si32(_mm_castps_si128(fa)));
            h = hash(h, (uint32_t)_mm_cvtsd_si32(va) ^ (uint64_t)_mm_cvttsd_si32(vb) << 32);
            h = hash(h, (uint32_t)_mm_comilt_sd(va, vb) | (uint32_t)_mm_ucomieq_sd(va, vb) << 1);
            r = _mm_cmpnle_pd(va, vb);
            h = hash(h, (uint32_t)_mm_movemask_pd(r));
            flags |= _mm_getcsr() & 0x3f;
            h = hash(h, _mm_getcsr());
        }
        printf("sse2 rc=%u row=%u %016llx flags=%02x\n", rounding, i, (unsigned long long)h, flags);
    }
    _mm_setcsr(0x1f80);
}

static void sse2_flush(void)
{
    volatile double tiny = 0x1p-1040;
    volatile double two = 0.5;

    _mm_setcsr(0x1f80);
    printf("sse2 denormal kept %016llx\n", (unsigned long long)double_bits(tiny * two));
    _mm_setcsr(0x9f80); /* FTZ */
    printf("sse2 flushed %016llx\n", (unsigned long long)double_bits(tiny * two));
    _mm_setcsr(0x1f80 | 0x40); /* DAZ */
    printf("sse2 denormals are zero %016llx\n", (unsigned long long)double_bits(tiny * two));
    _mm_setcsr(0x1f80);
}

static void sse2_integers(void)
{
    __m128i a = _mm_set_epi32(0x12345678, -5, 0x7fffffff, (int)0x80000001);
    __m128i b = _mm_set_epi32(-1, 0x01020304, 0x00ff00ff, 3);

    for (int i = 0; i < 64; i++) {
        __m128i c = _mm_add_epi32(_mm_mul_epu32(a, b), _mm_madd_epi16(a, b));

        c = _mm_xor_si128(c, _mm_packs_epi32(_mm_subs_epi16(a, b), _mm_avg_epu8(a, b)));
        c = _mm_add_epi64(c, _mm_sad_epu8(a, b));
        c = _mm_xor_si128(c, _mm_shuffle_epi32(_mm_mulhi_epi16(a, b), 0x1b));
        c = _mm_or_si128(_mm_slli_epi64(c, 3), _mm_srli_epi64(c, 61));
        b = _mm_unpacklo_epi8(a, _mm_cmpgt_epi16(a, b));
        a = c;
    }
    print_vector("sse2 integers", &a, 16);
    print_vector("sse2 integers", &b, 16);
}

static void section_sse2(void)
{
    for (unsigned rounding = 0; rounding < 4; rounding++)
        sse2_operations(rounding);
    sse2_flush();
    sse2_integers();
}

/* ---- AVX2 ---- */

__attribute__((target("avx2,fma"))) static void avx2_body(void)
{
    int32_t table[256];
    __m256d d = _mm256_set_pd(1.1, -2.2, 3.3, 1e10);
    __m256 f = _mm256_set_ps(1, 2, 3, 4, 5, 6, 7, 8);
    __m256i v = _mm256_set_epi32(1, -2, 3, -4, 5, -6, 7, -8);

    for (int i = 0; i < 256; i++)
        table[i] = i * i * 7919 - 12345;
    for (int i = 0; i < 200; i++) {
        __m256i index = _mm256_and_si256(v, _mm256_set1_epi32(255));

        v = _mm256_add_epi32(v, _mm256_i32gather_epi32(table, index, 4));
        v = _mm256_xor_si256(v, _mm256_sllv_epi32(v, _mm256_set_epi32(1, 2, 3, 4, 5, 6, 7, 33)));
        v = _mm256_permutevar8x32_epi32(v, _mm256_set_epi32(3, 0, 7, 1, 6, 2, 5, 4));
        v = _mm256_blendv_epi8(v, _mm256_mullo_epi32(v, v), _mm256_cmpgt_epi32(v, index));
        v = _mm256_shuffle_epi8(v, _mm256_set1_epi32(0x02030001));
        d = _mm256_fmadd_pd(d, _mm256_set1_pd(0.73), _mm256_permute4x64_pd(d, 0x39));
        d = _mm256_div_pd(d, _mm256_set1_pd(1.75));
        f = _mm256_fnmsub_ps(f, _mm256_set1_ps(0.5f), _mm256_permute2f128_ps(f, f, 1));
        f = _mm256_hadd_ps(f, _mm256_round_ps(f, _MM_FROUND_TO_NEAREST_INT));
        f = _mm256_div_ps(f, _mm256_set1_ps(3.1f));
    }
    print_vector("avx2 v", &v, 32);
    print_vector("avx2 d", &d, 32);
    print_vector("avx2 f", &f, 32);
    _mm256_zeroupper();
}

static void section_avx2(void)
{
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        avx2_body();
    else
        printf("avx2 not offered\n");
}

/* ---- x87 ---- */

static void print_x87(const char *name, long double value)
{
    unsigned short status;
    uint8_t image[10];

    __asm__ volatile("fnstsw %0" : "=m"(status));
    memcpy(image, &value, 10);
    printf("%s ", name);
    for (int i = 9; i >= 0; i--)
        printf("%02x", image[i]);
    printf(" status=%04x\n", status & 0x47ff);
    __asm__ volatile("fnclex");
}

static void x87_arithmetic(unsigned short control)
{
    char name[32];

    for (unsigned i = 0; i < DOUBLES; i++) {
        volatile long double a = (long double)doubles[i] * 1.000000000001L;
        volatile long double b = doubles[(i * 7 + 3) % DOUBLES], r;

        __asm__ volatile("fninit\n\tfldcw %0" : : "m"(control));
        snprintf(name, sizeof(name), "x87 cw=%04x row=%u", control, i);
        __asm__ volatile("fldt %1; fldt %2; faddp; fstpt %0" : "=m"(r) : "m"(a), "m"(b));
        print_x87(name, r);
        __asm__ volatile("fldt %1; fldt %2; fmulp; fstpt %0" : "=m"(r) : "m"(a), "m"(b));
        print_x87(name, r);
        __asm__ volatile("fldt %1; fldt %2; fdivrp; fstpt %0" : "=m"(r) : "m"(a), "m"(b));
        print_x87(name, r);
        __asm__ volatile("fldt %1; fabs; fsqrt; frndint; fstpt %0" : "=m"(r) : "m"(a));
        print_x87(name, r);
        __asm__ volatile("fldt %2; fldt %1; fprem; fstp %%st(1); fstpt %0"
                         : "=m"(r)
                         : "m"(a), "m"(b));
        print_x87(name, r);
    }
    __asm__ volatile("fninit");
}

static void x87_conversions(void)
{
    volatile long double value = -123456789.6L, mantissa, exponent;
    volatile double d;
    volatile float f;
    volatile int64_t i64;
    volatile int32_t i32;
    volatile int16_t i16;
    uint8_t bcd[10];

    __asm__ volatile("fldt %5; fstl %0; fsts %1; fistl %2; fld %%st(0); fistpll %3; fbstp %4"
                     : "=m"(d), "=m"(f), "=m"(i32), "=m"(i64), "=m"(bcd)
                     : "m"(value));
    printf("x87 d=%016llx f=%a i32=%d i64=%lld\n", (unsigned long long)double_bits(d), (double)f,
           i32, (long long)i64);
    print_vector("x87 bcd", bcd, 10);
    __asm__ volatile("fldt %1; fistps %0" : "=m"(i16) : "m"(value));
    printf("x87 i16=%d\n", i16);
    print_x87("x87 overflowed integer", 0);
    __asm__ volatile("fldt %2; fxtract; fstpt %0; fstpt %1"
                     : "=m"(mantissa), "=m"(exponent)
                     : "m"(value));
    print_x87("x87 mantissa", mantissa);
    print_x87("x87 exponent", exponent);
}

static void x87_stack(void)
{
    struct {
        uint16_t control, r0, status, r1, tag, r2;
        uint32_t rest[4];
    } environment;
    volatile long double r;

    __asm__ volatile("fninit; fstpt %0" : "=m"(r)); /* underflow */
    print_x87("x87 underflow", r);
    __asm__ volatile("fninit; fld1; fldz; fldpi; fldl2e; fldln2; fldl2t; fldlg2; fld1; fldz\n\t"
                     "fstpt %0"
                     : "=m"(r)); /* overflow */
    print_x87("x87 overflow", r);
    __asm__ volatile("fninit; fldz; fld1; fldpi; ffree %%st(1); fnstenv %0" : "=m"(environment));
    printf("x87 control=%04x status=%04x tag=%04x\n", environment.control, environment.status,
           environment.tag);
    __asm__ volatile("fninit");
    for (int i = 0; i < 6; i++) {
        volatile double value = special(i);
        uint16_t status;

        __asm__ volatile("fldl %1; fxam; fnstsw %0; fstp %%st(0)" : "=m"(status) : "m"(value));
        printf("x87 fxam %d %04x\n", i, status & 0x4700);
        __asm__ volatile("fnclex; fldl %1; fldz; fucompp; fnstsw %0" : "=m"(status) : "m"(value));
        printf("x87 fucom %d %04x\n", i, status & 0x45ff);
    }
    __asm__ volatile("fninit");
}

static void section_x87(void)
{
    static const unsigned short controls[] = {0x037f, 0x027f, 0x007f, 0x077f, 0x0b7f, 0x0f7f};

    for (unsigned i = 0; i < sizeof(controls) / sizeof(controls[0]); i++)
        x87_arithmetic(controls[i]);
    x87_conversions();
    x87_stack();
}

static void section_trans(void)
{
    for (int i = -8; i <= 8; i++) {
        volatile long double a = i * 0.37L, small = i * 0.1L, r;
        volatile long double positive = 0.01L + (i + 8) * 1.7L;

        __asm__ volatile("fldt %1; fsin; fstpt %0" : "=m"(r) : "m"(a));
        print_x87("trans sin", r);
        __asm__ volatile("fldt %1; fcos; fstpt %0" : "=m"(r) : "m"(a));
        print_x87("trans cos", r);
        __asm__ volatile("fldt %1; fptan; fstp %%st(0); fstpt %0" : "=m"(r) : "m"(a));
        print_x87("trans tan", r);
        __asm__ volatile("fldt %1; fld1; fpatan; fstpt %0" : "=m"(r) : "m"(a));
        print_x87("trans atan", r);
        __asm__ volatile("fldt %1; f2xm1; fstpt %0" : "=m"(r) : "m"(small));
        print_x87("trans f2xm1", r);
        __asm__ volatile("fldt %1; fldt %2; fyl2x; fstpt %0" : "=m"(r) : "m"(a), "m"(positive));
        print_x87("trans fyl2x", r);
        __asm__ volatile("fld1; fldt %1; fyl2xp1; fstpt %0" : "=m"(r) : "m"(small));
        print_x87("trans fyl2xp1", r);
    }
}

static void section_mmx(void)
{
    __m64 a = _mm_set_pi32(0x12345678, -77), b = _mm_set_pi16(1, -2, 300, 32767);

    for (int i = 0; i < 50; i++) {
        __m64 c = _mm_adds_pi16(_mm_mullo_pi16(a, b), _mm_mulhi_pi16(a, b));

        c = _mm_xor_si64(c, _mm_packs_pi32(a, b));
        b = _mm_unpacklo_pi8(a, _mm_cmpgt_pi8(a, b));
        a = _mm_or_si64(_mm_slli_si64(c, 7), _mm_srli_si64(c, 57));
    }
    uint64_t bits[2];

    memcpy(&bits[0], &a, 8);
    memcpy(&bits[1], &b, 8);
    _mm_empty();
    printf("mmx %016llx %016llx\n", (unsigned long long)bits[0], (unsigned long long)bits[1]);
}

/* ---- context switches ---- */

/* Keeps values in x87 and vector registers over the whole loop; 0 when all survived. */
static int keep_registers(unsigned seed, long loops)
{
    volatile double x87 = seed * 1.5;
    double x87_after;
    __m128i in = _mm_set_epi32((int)seed, (int)seed * 3, (int)seed * 5, (int)seed * 7), out;
    unsigned mxcsr = 0x1f80 | (seed & 3) << 13, mxcsr_after;

    _mm_setcsr(mxcsr);
    __asm__ volatile("fninit; fldl %3; fldpi\n\t"
                     "movdqa %4, %%xmm6\n"
                     "1: sub $1, %1\n\t"
                     "jnz 1b\n\t"
                     "movdqa %%xmm6, %2\n\t"
                     "fstp %%st(0); fstpl %0"
                     : "=m"(x87_after), "+r"(loops), "=m"(out)
                     : "m"(x87), "m"(in)
                     : "xmm6", "cc");
    mxcsr_after = _mm_getcsr() & ~0x3fu;
    _mm_setcsr(0x1f80);
    return x87_after != x87 || mxcsr_after != mxcsr || memcmp(&in, &out, 16) != 0;
}

__attribute__((target("avx"))) static int keep_ymm(int seed, long loops)
{
    __m256i in = _mm256_set1_epi32(seed * 0x01010101), out;

    __asm__ volatile("vmovdqu %2, %%ymm5\n"
                     "1: sub $1, %0\n\t"
                     "jnz 1b\n\t"
                     "vmovdqu %%ymm5, %1"
                     : "+r"(loops), "=m"(out)
                     : "m"(in)
                     : "xmm5", "cc");
    return memcmp(&in, &out, 32) != 0;
}

static int switch_child(unsigned seed)
{
    struct timespec start, now;
    int bad = 0;

    __builtin_cpu_init();
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        bad |= keep_registers(seed, 3000000);
        if (__builtin_cpu_supports("avx"))
            bad |= keep_ymm((int)seed, 3000000);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - start.tv_sec < 2);
    return bad;
}

static void section_switch(void)
{
    int lost = 0, status;

    fflush(stdout);
    for (unsigned i = 1; i <= 4; i++)
        if (fork() == 0)
            _exit(switch_child(i));
    while (wait(&status) > 0)
        lost += status != 0;
    printf("switch lost=%d\n", lost);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } sections[] = {{"sse2", section_sse2},   {"avx2", section_avx2}, {"x87", section_x87},
                    {"trans", section_trans}, {"mmx", section_mmx},   {"switch", section_switch}};

    for (int i = 1; i < argc; i++)
        for (size_t j = 0; j < sizeof(sections) / sizeof(sections[0]); j++)
            if (strcmp(argv[i], sections[j].name) == 0)
                sections[j].run();
    return 0;
}
