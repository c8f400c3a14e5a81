/*
 * MODES 32 64. The memory images of FXSAVE and the XSAVE family byte by byte, what they leave
 * alone, which headers XRSTOR refuses, XCR0, CPUID leaf 0Dh (SDM vol. 1, 10.5 and 13.2 to 13.11).
 */
#include "paging.h"

enum { X87 = 1, SSE = 2, AVX = 4, XSAVE_ALL = 7 };
enum {
    AT_MXCSR = 24,
    AT_MASK = 28,
    AT_ST = 32,
    AT_XMM = 160,
    AT_SOFTWARE = 464,
    AT_XSTATE_BV = 512,
    AT_XCOMP_BV = 520,
    AT_RESERVED = 528,
    AT_YMM = 576,
    AREA_SIZE = 832,
    ROOM = 1024
};
#ifdef __x86_64__
enum { VECTORS = 16 };
#else
enum { VECTORS = 8 };
#endif
enum form { FORM_XSAVE, FORM_XSAVEOPT, FORM_XSAVEC, FORMS };

static uint32_t cases;
static bool has_avx, has_xsaveopt, has_xsavec;
static __attribute__((aligned(64))) uint8_t state[ROOM], saved[ROOM], loaded[ROOM];

/* The operand is at BX: EAX and EDX are the mask. */
static const uint8_t code_fxsave[] = {0x0f, 0xae, 0x01, 0x0f, 0x0b}, /* at CX */
    code_fxrstor[] = {0x0f, 0xae, 0x09, 0x0f, 0x0b}, code_xrstor[] = {0x0f, 0xae, 0x29, 0x0f, 0x0b},
                     code_xsave[FORMS][5] = {{0x0f, 0xae, 0x21, 0x0f, 0x0b},
                                             {0x0f, 0xae, 0x31, 0x0f, 0x0b},
                                             {0x0f, 0xc7, 0x21, 0x0f, 0x0b}},
                     code_xgetbv[] = {0x0f, 0x01, 0xd0, 0x0f, 0x0b};

static void fill(uint8_t *image, uint8_t value)
{
    for (unsigned i = 0; i < ROOM; i++)
        image[i] = value;
}

static void copy(uint8_t *to, const uint8_t *from, unsigned size)
{
    while (size--)
        *to++ = *from++;
}

static void put32(uint8_t *at, uint32_t value)
{
    *(volatile uint32_t *)at = value;
}

static uint32_t get32(const uint8_t *at)
{
    return *(const volatile uint32_t *)at;
}

static void set_xcr0(uint32_t value)
{
    __asm__ volatile("xsetbv" : : "a"(value), "d"(0), "c"(0));
}

/* --- states: components with contents, or as they are after initialisation --- */

static void make_state(uint8_t *image, unsigned used, unsigned seed)
{
    fill(image, 0);
    put32(image, 0x37f);
    put32(image + AT_MXCSR, 0x1f80);
    if (used & X87) {
        put32(image, 0x18000b7f + (3 << 27 & seed << 27)); /* FSW: TOP 3 or above */
        image[4] = 0xe7;
        for (unsigned i = 0; i < 8 * 16; i++) {
            if (i % 16 < 10)
                image[AT_ST + i] = (uint8_t)(i * 13 + seed) | (i % 16 == 7 ? 0x80 : 0);
        }
    }
    for (unsigned i = 0; used & SSE && i < VECTORS * 16; i++)
        image[AT_XMM + i] = (uint8_t)(i * 7 + seed + 1);
    for (unsigned i = 0; used & AVX && i < VECTORS * 16; i++)
        image[AT_YMM + i] = (uint8_t)(i * 5 + seed + 3);
    put32(image + AT_XSTATE_BV, used);
}

/* All of the registers by the standard form of XRSTOR; XCR0 is 7 (3 without AVX). */
static void load_state(const uint8_t *image)
{
    __asm__ volatile("xrstor (%0)" : : "r"(image), "a"(-1), "d"(-1) : "memory");
}

/* And what they are, in the same form, by instructions that know one register each. */
static void look_at_state(uint8_t *image)
{
    fill(image, 0);
    __asm__ volatile("fxsave (%0)" : : "r"(image) : "memory");
    put32(image + AT_MASK, 0);
    if (!has_avx)
        return;
#define HIGH(n) "vextractf128 $1, %%ymm" #n ", " #n "*16(%0)\n\t"
    __asm__ volatile(HIGH(0) HIGH(1) HIGH(2) HIGH(3) HIGH(4) HIGH(5) HIGH(6) HIGH(7)
                     :
                     : "r"(image + AT_YMM)
                     : "memory");
#ifdef __x86_64__
    __asm__ volatile(HIGH(8) HIGH(9) HIGH(10) HIGH(11) HIGH(12) HIGH(13) HIGH(14) HIGH(15)
                     :
                     : "r"(image + AT_YMM)
                     : "memory");
#endif
}

static void compare(unsigned line, const uint8_t *got, const uint8_t *wanted, unsigned from,
                    unsigned to, unsigned variant)
{
    for (unsigned i = from; i < to; i++) {
        if (got[i] == wanted[i])
            continue;
        print("variant %x, byte %u: %x instead of %x\n", variant, i, got[i], wanted[i]);
        guest_fail(line, i);
    }
}
#define COMPARE(got, wanted, from, to, variant) compare(__LINE__, got, wanted, from, to, variant)

/* --- FXSAVE --- */

/* The mask of MXCSR is the same before and after the first vector instruction. */
static void test_mxcsr_mask_after_reset(void)
{
    __asm__ volatile("fxsave %0" : "=m"(saved));
    uint32_t mask = get32(saved + AT_MASK);
    __asm__ volatile("xorps %%xmm0, %%xmm0; fxsave %0" : "=m"(saved));
    EXPECT_THAT(get32(saved + AT_MASK) == mask, mask);
    cases++;
}

/* Only what it is documented to write changes; pointers are 0 and never addresses of the host. */
static void test_fxsave(void)
{
    uint32_t mask;
    for (unsigned used = 0; used < 8; used++) {
        make_state(state, used & (has_avx ? 7 : 3), used * 17);
        load_state(state);
        fill(saved, 0xcc);
        __asm__ volatile("fxsave %0" : "=m"(saved));
        mask = get32(saved + AT_MASK);
        put32(state + AT_MASK, mask);
        EXPECT_THAT((mask & 0xffbf) == 0xffbf, mask);
        COMPARE(saved, state, 0, AT_XMM + 16 * VECTORS, used);
        fill(loaded, 0xcc);
        COMPARE(saved, loaded, AT_SOFTWARE, ROOM, used);
        if (VECTORS == 8)
            COMPARE(saved, loaded, AT_XMM + 16 * VECTORS, ROOM, used);
        cases++;
    }
    /* MXCSR bits that do not exist, and addresses off 16 bytes: #GP(0), nothing loaded. */
    make_state(state, 3, 5);
    load_state(state);
    make_state(saved, 3, 99);
    for (unsigned bit = 16; bit < 32; bit++) {
        if (mask >> bit & 1)
            continue;
        put32(saved + AT_MXCSR, 1u << bit);
        EXPECT_THAT(guest_try(code_fxrstor, bit & 1, 0, (uintptr_t)saved, 0) == VECTOR_GP, bit);
        cases++;
    }
    put32(saved + AT_MXCSR, 0x1f80);
    for (unsigned at = 1; at < 16; at++) {
        EXPECT_THAT(guest_try(code_fxsave, at & 1, 0, (uintptr_t)saved + at, 0) == VECTOR_GP, at);
        EXPECT_THAT(guest_try(code_fxrstor, at & 1, 0, (uintptr_t)saved + at, 0) == VECTOR_GP, at);
        cases += 2;
    }
    look_at_state(loaded);
    COMPARE(loaded, state, 0, AT_XMM + 16 * VECTORS, 0);
}

/* --- XSAVE, XSAVEOPT, XSAVEC --- */

static void test_xsave_form(enum form form, unsigned xcr0, unsigned used, unsigned mask, bool user)
{
    unsigned requested = xcr0 & mask, variant = form | xcr0 << 4 | used << 8 | mask << 12;
    make_state(state, used, variant);
    load_state(state);
    fill(saved, 0xcc);
    set_xcr0(xcr0);
    unsigned vector = guest_try(code_xsave[form], user, mask, (uintptr_t)saved, 0xffffff00);
    set_xcr0(has_avx ? 7 : 3);
    EXPECT_THAT(!vector, variant);
    cases++;
    uint32_t bv = get32(saved + AT_XSTATE_BV), kept = form == FORM_XSAVEC ? 0 : 0xcccccccc;
    /* a component in its initial state may count as in use */
    EXPECT_THAT((bv & ~requested) == (kept & ~requested), bv);
    EXPECT_THAT((bv & requested & used) == (used & requested), bv);
    EXPECT_THAT(get32(saved + AT_XSTATE_BV + 4) == kept, variant);
    if (form == FORM_XSAVEC) {
        EXPECT_THAT(get32(saved + AT_XCOMP_BV) == requested, get32(saved + AT_XCOMP_BV));
        EXPECT_THAT(get32(saved + AT_XCOMP_BV + 4) == 0x80000000, variant);
    }
    /* What must be in memory: the first form writes initial components, too. */
    unsigned written = form == FORM_XSAVE ? requested : requested & bv;
    fill(loaded, 0xcc);
    if (written & X87) {
        copy(loaded, state, AT_MXCSR);
        copy(loaded + AT_ST, state + AT_ST, AT_XMM - AT_ST);
    }
    if (form == FORM_XSAVEC ? written & SSE : requested & (SSE | AVX)) {
        copy(loaded + AT_MXCSR, state + AT_MXCSR, 4);
        copy(loaded + AT_MASK, saved + AT_MASK, 4);
    }
    if (written & SSE)
        copy(loaded + AT_XMM, state + AT_XMM, 16 * VECTORS);
    if (written & AVX)
        copy(loaded + AT_YMM, state + AT_YMM, 16 * VECTORS);
    COMPARE(saved, loaded, 0, AT_XSTATE_BV, variant);
    COMPARE(saved, loaded, form == FORM_XSAVEC ? AT_RESERVED : AT_XCOMP_BV, ROOM, variant);
}

static void test_xsave(void)
{
    for (unsigned i = 0; i < FORMS * 8 * 8 * 8 * 2; i++) {
        enum form form = i % FORMS;
        unsigned xcr0 = i / FORMS % 8, used = i / FORMS / 8 % 8, mask = i / FORMS / 64 % 8;
        if ((xcr0 != 1 && xcr0 != 3 && xcr0 != 7) || ((xcr0 | used) & AVX && !has_avx))
            continue;
        if ((form == FORM_XSAVEOPT && !has_xsaveopt) || (form == FORM_XSAVEC && !has_xsavec))
            continue;
        test_xsave_form(form, xcr0, used, mask, i / FORMS / 512);
    }
}

/* --- XRSTOR --- */

/* Every requested component is loaded or initialised by XSTATE_BV, the others keep their values. */
static void test_xrstor_mask(unsigned old, unsigned bv, unsigned mask, bool compact)
{
    unsigned all = has_avx ? 7 : 3, variant = old | bv << 4 | mask << 8 | compact << 12;
    make_state(state, old, 40);
    put32(state + AT_MXCSR, 0x1fa1);
    load_state(state);
    make_state(saved, XSAVE_ALL, 3);
    put32(saved + AT_MXCSR, 0x9f82);
    put32(saved + AT_XSTATE_BV, bv);
    if (compact) {
        put32(saved + AT_XCOMP_BV, all);
        put32(saved + AT_XCOMP_BV + 4, 0x80000000);
    }
    EXPECT_THAT(!guest_try(code_xrstor, variant & 1, mask, (uintptr_t)saved, 0xff), variant);
    cases++;
    mask &= all;
    uint8_t *const wanted = state;
    static uint8_t initial[ROOM];
    make_state(initial, 0, 0);
    const uint8_t *from = bv & X87 ? saved : initial;
    if (mask & X87) {
        copy(wanted, from, AT_MXCSR);
        copy(wanted + AT_ST, from + AT_ST, AT_XMM - AT_ST);
    }
    if (mask & SSE)
        copy(wanted + AT_XMM, (bv & SSE ? saved : initial) + AT_XMM, 16 * VECTORS);
    if (mask & AVX)
        copy(wanted + AT_YMM, (bv & AVX ? saved : initial) + AT_YMM, 16 * VECTORS);
    if (!compact && mask & (SSE | AVX)) /* whatever XSTATE_BV says */
        put32(wanted + AT_MXCSR, 0x9f82);
    else if (compact && mask & SSE)
        put32(wanted + AT_MXCSR, bv & SSE ? 0x9f82 : 0x1f80);
    look_at_state(loaded);
    COMPARE(loaded, wanted, 0, AT_XMM + 16 * VECTORS, variant);
    COMPARE(loaded, wanted, AT_YMM, AT_YMM + 16 * VECTORS, variant);
}

static void refused(unsigned line, const uint8_t *stub, uintptr_t at, unsigned mask)
{
    if (guest_try(stub, cases & 1, mask, at, 0) != VECTOR_GP || SEEN.error != 0)
        guest_fail(line, (uint32_t)at);
    cases++;
}
#define REFUSED(stub, at, mask) refused(__LINE__, stub, at, mask)

static void test_xrstor_headers(void)
{
    unsigned all = has_avx ? 7 : 3;
    make_state(state, all, 77);
    load_state(state);
    const uintptr_t at = (uintptr_t)saved;
    for (unsigned bit = 0; bit < 64; bit++) { /* XSTATE_BV has more than XCR0 */
        make_state(saved, 0, 1);
        saved[AT_XSTATE_BV + bit / 8] = (uint8_t)(1 << bit % 8);
        if (bit > 2)
            REFUSED(code_xrstor, at, all);
    }
    for (unsigned bit = 0; bit < 128; bit++) { /* standard form: XCOMP_BV and 8 more bytes are 0 */
        make_state(saved, all, 1);
        saved[AT_XCOMP_BV + bit / 8] = (uint8_t)(1 << bit % 8);
        if (bit != 63)
            REFUSED(code_xrstor, at, all);
    }
    for (unsigned i = 0; has_xsavec && i < 64 + 48 * 8; i++) {
        make_state(saved, all & ~(i < 64 ? 0 : 1u), 1);
        put32(saved + AT_XCOMP_BV, all);
        put32(saved + AT_XCOMP_BV + 4, 0x80000000);
        if (i < 63 && i > 2) /* compacted form: XCOMP_BV has more than XCR0 */
            saved[AT_XCOMP_BV + i / 8] |= (uint8_t)(1 << i % 8);
        else if (i < 3) /* XSTATE_BV has more than XCOMP_BV */
            put32(saved + AT_XCOMP_BV, all & ~(1u << i));
        else if (i >= 64)
            saved[AT_RESERVED + (i - 64) / 8] = (uint8_t)(1 << i % 8);
        if (i != 63 && (all >> i & 1 || i > 2))
            REFUSED(code_xrstor, at, all);
    }
    make_state(saved, all, 1);
    put32(saved + AT_MXCSR, 0x80000000);
    REFUSED(code_xrstor, at, SSE);
    REFUSED(code_xrstor, at, SSE | X87);
    for (unsigned i = 1; i < 64; i++) {
        REFUSED(code_xrstor, at + i, all);
        for (unsigned form = 0; form < FORMS; form++) {
            if ((form == FORM_XSAVEOPT && !has_xsaveopt) || (form == FORM_XSAVEC && !has_xsavec))
                continue;
            REFUSED(code_xsave[form], at + i, all);
        }
    }
    look_at_state(loaded); /* none of them changed a register */
    COMPARE(loaded, state, 0, AT_XMM + 16 * VECTORS, 0);
}

/* Areas that end with a page: components behind it that are not requested are not touched. */
static void test_area_end(void)
{
    const struct layout *layout = &layouts[0];
    unsigned last = layout->levels - 1;
    layout_enter(layout, true);
    uintptr_t at = layout_target(layout) + PAGE - AT_YMM;
    for (unsigned i = 0; i < 8 * 4; i++) {
        unsigned mask = i % 8, kind = i / 8;
        if ((kind == FORM_XSAVEOPT && !has_xsaveopt) || (kind == FORM_XSAVEC && !has_xsavec))
            continue;
        layout_map(layout);
        make_state(frames + PAGE - AT_YMM, has_avx ? 7 : 3, i);
        load_state(frames + PAGE - AT_YMM);
        entry_set(layout, last, 1, 0);
        flush();
        const uint8_t *stub = kind == FORMS ? code_xrstor : code_xsave[kind];
        unsigned vector = guest_try(stub, i & 1, mask, at, 0);
        bool faults = mask & AVX && has_avx;
        EXPECT_THAT(vector == (faults ? VECTOR_PF : 0), i);
        if (faults) {
            EXPECT_THAT(read_cr2() == at + AT_YMM, read_cr2());
            EXPECT_THAT(SEEN.error == ((kind == FORMS ? 0 : PF_W) | (i & 1 ? PF_U : 0u)),
                        SEEN.error);
        }
        cases++;
    }
    layout_map(layout);
}

/* --- XCR0 and CPUID --- */

static void test_xcr0(void)
{
    unsigned supported = has_avx ? 7 : 3;
    EXPECT_THAT((cpuid(13, 0).eax & 7) == supported, cpuid(13, 0).eax);
    for (unsigned i = 0; i < 64; i++) {
        unsigned low = i & 7, register_number = i >> 3 & 1, high = i >> 4 & 1;
        bool user = i >> 5;
        bool valid = (low & X87) && !(low & ~supported) && !((low & AVX) && !(low & SSE));
        valid = valid && !register_number && !high && !user;
        unsigned vector = guest_try(stub_xsetbv, user, low, register_number, high);
        EXPECT_THAT(vector == (valid ? 0 : VECTOR_GP), i);
        cases++;
        if (!valid)
            continue;
        struct guest_call call = {(uint32_t)(uintptr_t)code_xgetbv, 1, 0, 0, 1};
        guest_enter(&call);
        EXPECT_THAT(call.ax == low && call.dx == 0, call.ax);
        /* The size of the area follows XCR0, the greatest one does not. */
        struct cpuid now = cpuid(13, 0);
        EXPECT_THAT(now.ebx == (low & AVX ? AREA_SIZE : AT_YMM), now.ebx);
        EXPECT_THAT(now.ecx == (has_avx ? AREA_SIZE : AT_YMM), now.ecx);
        if (has_xsavec)
            EXPECT_THAT(cpuid(13, 1).ebx == now.ebx, cpuid(13, 1).ebx);
    }
    for (unsigned bit = 3; bit < 32; bit++) {
        if (!(cpuid(13, 0).eax >> bit & 1))
            EXPECT_THAT(guest_try(stub_xsetbv, false, 1u << bit | 1, 0, 0) == VECTOR_GP, bit);
        cases++;
    }
    EXPECT_THAT(guest_try(code_xgetbv, true, 0, 2, 0) == VECTOR_GP, 0);
    set_xcr0(supported);
    if (has_avx) {
        struct cpuid avx = cpuid(13, 2);
        EXPECT_THAT(avx.eax == 256 && avx.ebx == AT_YMM && !avx.ecx, avx.eax);
    }
    EXPECT_THAT(cpuid(1, 0).ecx & 1 << 27, 0); /* OSXSAVE */
    write_cr4(read_cr4() & ~(uintptr_t)CR4_OSXSAVE);
    EXPECT_THAT(!(cpuid(1, 0).ecx & 1 << 27), 0);
    write_cr4(read_cr4() | CR4_OSXSAVE);
}

/* XGETBV of register 1: components that are not in their initial state, MXCSR included. */
static void test_components_in_use(void)
{
    if (!(cpuid(13, 1).eax & 4)) {
        EXPECT_THAT(guest_try(code_xgetbv, true, 0, 1, 0) == VECTOR_GP, SEEN.vector);
        return;
    }
    for (unsigned i = 0; i < 16; i++) {
        unsigned used = i & (has_avx ? 7 : 3);
        bool mxcsr = i & 8;
        make_state(state, used, i);
        put32(state + AT_MXCSR, mxcsr ? 0x9f80 : 0x1f80);
        load_state(state);
        struct guest_call call = {(uint32_t)(uintptr_t)code_xgetbv, 1, 0, 1, 1};
        guest_enter(&call);
        EXPECT_THAT(call.dx == 0 && !(call.ax & ~(uintptr_t)(has_avx ? 7 : 3)), call.ax);
        used |= mxcsr ? SSE : 0;
        EXPECT_THAT((call.ax & used) == used, call.ax);
        cases++;
    }
}

void guest_main(void)
{
    write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT);
    write_cr0((read_cr0() & ~(uintptr_t)(CR0_EM | CR0_TS)) | CR0_NE | CR0_MP);
    test_mxcsr_mask_after_reset();
    if (!(cpuid(1, 0).ecx >> 26 & 1)) {
        print("no XSAVE\n");
        return;
    }
    write_cr4(read_cr4() | CR4_OSXSAVE);
    has_avx = cpuid(1, 0).ecx >> 28 & 1;
    has_xsaveopt = cpuid(13, 1).eax & 1;
    has_xsavec = cpuid(13, 1).eax >> 1 & 1;
    test_xcr0();
    test_fxsave();
    test_xsave();
    for (unsigned i = 0; i < 8 * 8 * 8 * 2; i++) {
        unsigned old = i % 8, bv = i / 8 % 8, mask = i / 64 % 8;
        bool compact = i / 512;
        if (((old | bv) & AVX && !has_avx) || (compact && !has_xsavec))
            continue;
        test_xrstor_mask(old, bv, mask, compact);
    }
    test_xrstor_headers();
    test_components_in_use();
    test_area_end();
    print("%u cases\n", cases);
}
