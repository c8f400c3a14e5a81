/*
 * MODES 32 64. x87, MMX, SSE and AVX state survives everything that does not name it, in all
 * combinations of components in use and in their initial state; lazy switching by CR0.TS.
 */
#include "guest.h"

#ifdef __x86_64__
enum { VECTORS = 16 };
#else
enum { VECTORS = 8 };
#endif

static uint32_t cases;
static bool has_avx;
static __attribute__((aligned(64))) uint8_t area[1024];
static __attribute__((aligned(4096))) uint8_t memory[3 * 4096];

enum x87_use { X87_INITIAL, X87_FULL, X87_THREE, X87_MMX, X87_USES };

struct state { /* as registers show it */
    uint32_t ymm[VECTORS][8];
    uint16_t fcw, fsw, tags;
    uint32_t mxcsr;
    uint8_t st[8][10]; /* what FSTP finds, or MM registers */
};

/* --- loading and looking, without an instruction that saves state as a whole --- */

/* Does X(n) for every vector register; the pointer to struct state is in AX. */
#define LOW_VECTORS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#ifdef __x86_64__
#define ALL_VECTORS(X) LOW_VECTORS(X) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#else
#define ALL_VECTORS(X) LOW_VECTORS(X)
#endif
#define LOAD_YMM(n)  "vmovups " #n "*32(%0), %%ymm" #n "\n\t"
#define STORE_YMM(n) "vmovups %%ymm" #n ", " #n "*32(%0)\n\t"
#define LOAD_XMM(n)  "movups " #n "*32(%0), %%xmm" #n "\n\t"
#define STORE_XMM(n) "movups %%xmm" #n ", " #n "*32(%0)\n\t"
#define LOAD_MM(n)   "movq " #n "*10(%0), %%mm" #n "\n\t"
#define STORE_MM(n)  "movq %%mm" #n ", " #n "*10(%0)\n\t"

static void load_state(const struct state *s, enum x87_use use, bool upper)
{
    if (has_avx)
        __asm__ volatile(ALL_VECTORS(LOAD_YMM) : : "r"(s->ymm) : "memory");
    else
        __asm__ volatile(ALL_VECTORS(LOAD_XMM) : : "r"(s->ymm) : "memory");
    if (has_avx && !upper)
        __asm__ volatile("vzeroupper");
    __asm__ volatile("ldmxcsr %0; fninit" : : "m"(s->mxcsr));
    if (use == X87_MMX)
        __asm__ volatile(LOW_VECTORS(LOAD_MM) : : "r"(s->st) : "memory");
    for (unsigned i = use == X87_FULL ? 8 : use == X87_THREE ? 3 : 0; i--;)
        __asm__ volatile("fldt %0" : : "m"(s->st[i]) : "memory");
    __asm__ volatile("fldcw %0" : : "m"(s->fcw));
}

static void look_at_state(struct state *s, enum x87_use use)
{
    if (has_avx)
        __asm__ volatile(ALL_VECTORS(STORE_YMM) : : "r"(s->ymm) : "memory");
    else
        __asm__ volatile(ALL_VECTORS(STORE_XMM) : : "r"(s->ymm) : "memory");
    __asm__ volatile("stmxcsr %0; fnstcw %1; fnstsw %2"
                     : "=m"(s->mxcsr), "=m"(s->fcw), "=m"(s->fsw));
    if (use == X87_MMX) {
        __asm__ volatile(LOW_VECTORS(STORE_MM) : : "r"(s->st) : "memory");
        return;
    }
    for (unsigned i = 0; i < 8; i++)
        __asm__ volatile("fstpt %0" : "=m"(s->st[i]) : : "memory");
    __asm__ volatile("fnclex");
}

static uint32_t next_random(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

/* use, upper halves, low halves: what differs from the initial state. */
static void make_state(struct state *s, enum x87_use use, bool upper, bool low, uint32_t seed)
{
    uint8_t *bytes = (uint8_t *)s;
    for (unsigned i = 0; i < sizeof(*s); i++)
        bytes[i] = 0;
    for (unsigned i = 0; i < VECTORS; i++) {
        for (unsigned k = 0; k < 8; k++) {
            if (k < 4 ? low : upper && has_avx)
                s->ymm[i][k] = next_random(&seed);
        }
    }
    s->mxcsr = seed & 1 ? 0x1f80 : 0x9fc0 | (seed & 0x603f); /* FTZ, DAZ, rounding, flags */
    s->fcw = use == X87_INITIAL ? 0x37f : 0x7f | (uint16_t)(seed >> 8 & 0xf00);
    unsigned used = use == X87_FULL || use == X87_MMX ? 8 : use == X87_THREE ? 3 : 0;
    s->fsw = use == X87_FULL || used == 0 ? 0 : use == X87_THREE ? 5 << 11 : 0;
    for (unsigned i = 0; i < 8; i++) {
        for (unsigned k = 0; k < 8; k++)
            s->st[i][k] = (uint8_t)next_random(&seed);
        s->st[i][7] |= 0x80; /* normal numbers */
        s->st[i][8] = (uint8_t)next_random(&seed);
        s->st[i][9] = (uint8_t)next_random(&seed) & 0xbf;
        if (use == X87_MMX || i < used)
            continue;
        for (unsigned k = 0; k < 8; k++) /* what FSTP of an empty register gives */
            s->st[i][k] = k == 7 ? 0xc0 : 0;
        s->st[i][8] = s->st[i][9] = 0xff;
    }
}

/* --- what must not matter --- */

static const uint8_t code_interrupt[] = {0xfb, 0xf4, 0x0f, 0x0b}; /* STI; HLT; UD2 */
static const uint8_t code_int3[] = {0xcc, 0x0f, 0x0b};
static const uint8_t code_hlt[] = {0xf4, 0x0f, 0x0b};

static void do_cpuid(void)
{
    (void)cpuid(0, 0);
    (void)cpuid(13, 0);
}

static void do_ports(void)
{
    out8(0x80, in8(0x61));
}

static void do_msr(void)
{
    wrmsr(0x174, rdmsr(0x174));
    (void)rdmsr(0x1b);
}

static void do_task_switched(void)
{
    write_cr0(read_cr0() | CR0_TS);
    (void)cpuid(0, 0);
    __asm__ volatile("clts");
}

static void do_emulation(void)
{
    write_cr0(read_cr0() | CR0_EM);
    do_ports();
    write_cr0(read_cr0() & ~(uintptr_t)CR0_EM);
}

static void do_osfxsr(void)
{
    write_cr4(read_cr4() ^ CR4_OSFXSR);
    do_ports();
    write_cr4(read_cr4() ^ CR4_OSFXSR);
}

static void set_xcr0(uint32_t value)
{
    __asm__ volatile("xsetbv" : : "a"(value), "d"(0), "c"(0));
}

static void do_osxsave(void)
{
    if (!has_avx)
        return;
    write_cr4(read_cr4() & ~(uintptr_t)CR4_OSXSAVE);
    do_ports();
    write_cr4(read_cr4() | CR4_OSXSAVE);
}

static void do_xcr0(void)
{
    if (!has_avx)
        return;
    set_xcr0(1);
    do_ports();
    set_xcr0(3);
    do_ports();
    set_xcr0(7);
}

static void do_exceptions(void)
{
    struct guest_call call = {(uint32_t)(uintptr_t)code_int3, 0, 0, 0, 0};
    guest_enter(&call);
    EXPECT_THAT(SEEN.vector == 3, SEEN.vector);
    EXPECT_THAT(guest_try(code_hlt, true, 0, 0, 0) == VECTOR_GP, SEEN.vector);
#ifdef __x86_64__
    EXPECT_THAT(guest_try(stub_read, true, 1ULL << 40, 0, 0) == VECTOR_PF, SEEN.vector);
    EXPECT_THAT(guest_try(stub_write, false, 1ULL << 62, 0, 0) == VECTOR_GP, SEEN.vector);
#endif
}

static void do_ring3(void)
{
    EXPECT_THAT(!guest_try(stub_read, true, (uintptr_t)memory, 0, 0), SEEN.vector);
}

static void do_timer(void)
{
    struct guest_call call = {(uint32_t)(uintptr_t)code_interrupt, 0, 0, 0, 0};
    out8(0x43, 0x30); /* counter 0, mode 0 */
    out8(0x40, 0x20);
    out8(0x40, 0);
    out8(0x21, 0xfe);
    guest_enter(&call);
    EXPECT_THAT(SEEN.vector == 0x18, SEEN.vector);
    out8(0x21, 0xff);
    out8(0x20, 0x20);
}

static void do_device_memory(void)
{
    volatile uint32_t *vga = (volatile uint32_t *)0xb8000;
    vga[1] = vga[2] + 1;
    vga[3] += 5;
}

static void do_page_crossing(void)
{
    volatile uint32_t *word = (volatile uint32_t *)(memory + 4094);
    *word += 3;
    __asm__ volatile("lock addl $1, %0" : "+m"(*(volatile uint32_t *)(memory + 8190)));
}

static void do_strings(void)
{
    uintptr_t count = 4200;
    void *to = memory, *from = memory + 4000;
    __asm__ volatile("rep movsb" : "+c"(count), "+D"(to), "+S"(from) : : "memory");
    count = 70;
    from = memory + 4050;
    __asm__ volatile("rep outsb" : "+c"(count), "+S"(from) : "d"(0x80) : "memory");
    count = 3;
    __asm__ volatile("repe cmpsb" : "+c"(count), "+D"(to), "+S"(from) : : "memory", "cc");
}

static void do_new_code(void)
{
    struct guest_call call = {(uint32_t)(uintptr_t)memory, 0, 0, 0, 0};
    for (unsigned i = 0; i < 3; i++) { /* MOV AL, i; UD2 */
        *(volatile uint32_t *)memory = 0x0b0f00b0 | i << 8;
        guest_enter(&call);
        EXPECT_THAT((call.ax & 0xff) == i, call.ax);
    }
}

static void do_invalidations(void)
{
    invlpg((uintptr_t)memory);
    write_cr3(read_cr3());
    __asm__ volatile("wbinvd");
    write_cr4(read_cr4() ^ CR4_PGE);
    write_cr4(read_cr4() ^ CR4_PGE);
}

static void do_segments(void)
{
    struct {
        uint16_t limit;
        uintptr_t base;
    } __attribute__((packed)) table;
    __asm__ volatile("sgdt %0; lgdt %0; sidt %0; lidt %0" : "+m"(table));
    __asm__ volatile("pushf; popf; movw %w0, %%fs; movw %w0, %%gs" : : "r"(0));
}

static void do_fxsave(void)
{
    __asm__ volatile("fxsave %0; fxrstor %0" : "+m"(area));
}

static void do_environment(void)
{
    __asm__ volatile("fnstenv %0; fldenv %0" : "+m"(area));
}

static void do_fnsave(void)
{
    __asm__ volatile("fnsave %0; frstor %0" : "+m"(area));
}

static void do_xsave(void)
{
    if (!has_avx)
        return;
    __asm__ volatile("xsave %0; vzeroall; fninit; xrstor %0" : "+m"(area) : "a"(-1), "d"(-1));
}

static void do_xsave_parts(void)
{
    for (unsigned i = 0; has_avx && i < 8; i++) {
        for (unsigned k = 512; k < 576; k++)
            area[k] = 0;
        __asm__ volatile("xsave %0; xrstor %0" : "+m"(area) : "a"(i), "d"(0));
    }
}

static const struct {
    const char *name;
    void (*run)(void);
} actions[] = {
    {"CPUID", do_cpuid},
    {"ports", do_ports},
    {"MSRs", do_msr},
    {"CR0.TS", do_task_switched},
    {"CR0.EM", do_emulation},
    {"CR4.OSFXSR", do_osfxsr},
    {"CR4.OSXSAVE", do_osxsave},
    {"XCR0", do_xcr0},
    {"exceptions", do_exceptions},
    {"ring 3", do_ring3},
    {"timer", do_timer},
    {"device memory", do_device_memory},
    {"page crossing", do_page_crossing},
    {"strings", do_strings},
    {"new code", do_new_code},
    {"invalidations", do_invalidations},
    {"segments", do_segments},
    {"FXSAVE", do_fxsave},
    {"FNSTENV", do_environment},
    {"FNSAVE", do_fnsave},
    {"XSAVE", do_xsave},
    {"XSAVE in parts", do_xsave_parts},
};
enum { ACTIONS = sizeof(actions) / sizeof(actions[0]) };

static void run_case(unsigned first, unsigned second, unsigned variant)
{
    static struct state before, after;
    enum x87_use use = variant % X87_USES;
    bool upper = variant / X87_USES % 2, low = variant / X87_USES / 2 % 2;
    make_state(&before, use, upper, low, cases * 77777 + 12345);
    after = before;
    load_state(&before, use, upper);
    actions[first].run();
    actions[second].run();
    look_at_state(&after, use);
    cases++;
    const uint8_t *a = (const uint8_t *)&before, *b = (const uint8_t *)&after;
    for (unsigned i = 0; i < sizeof(before); i++) {
        if (a[i] == b[i])
            continue;
        print("%s, %s, variant %x: byte %u of the state is %x instead of %x\n", actions[first].name,
              actions[second].name, variant, i, b[i], a[i]);
        guest_fail(__LINE__, cases);
    }
}

/* --- lazy switching --- */

enum { TASKS = 3, STEPS = 40 };
static __attribute__((aligned(64))) uint8_t images[TASKS][512];

/* A task's step adds 1 to ST and 2 to the low double of XMM1; UD2 ends it. */
static const uint8_t step_x87[] = {0xd9, 0xe8, 0xde, 0xc1, 0x0f, 0x0b}; /* FLD1; FADDP */
static const uint8_t step_sse[] = {0x66, 0x0f, 0xd4, 0xca, 0x0f, 0x0b}; /* PADDQ XMM1, XMM2 */
static const uint8_t step_both[] = {0x90, 0x66, 0x0f, 0xd4, 0xca, 0x9b,
                                    0xd9, 0xe8, 0xde, 0xc1, 0x0f, 0x0b};

/* The owner of the registers changes at #NM only, and the instruction that met it is restarted. */
static void test_lazy_switching(void)
{
    const uint8_t *const steps[] = {step_x87, step_sse, step_both};
    static const uint64_t two[2] = {2, 2};
    unsigned owner = 0, switches = 0, wanted[TASKS][2];
    for (unsigned task = 0; task < TASKS; task++) {
        wanted[task][0] = wanted[task][1] = task * 1000;
        __asm__ volatile("fninit; fildl %1; movd %1, %%xmm1; movups %2, %%xmm2; fxsave %0"
                         : "=m"(images[task])
                         : "m"(wanted[task][0]), "m"(two));
    }
    __asm__ volatile("fxrstor %0" : : "m"(images[0]));
    for (unsigned i = 0; i < TASKS * STEPS; i++) {
        unsigned task = i * 7 / 5 % TASKS, kind = i % 3;
        struct guest_call call = {(uint32_t)(uintptr_t)steps[kind], i & 1, 0, 0, 0};
        if (task != owner)
            write_cr0(read_cr0() | CR0_TS);
        guest_enter(&call);
        if (task != owner) {
            EXPECT_THAT(SEEN.vector == VECTOR_NM, SEEN.vector);
            __asm__ volatile("clts; fxsave %0; fxrstor %1"
                             : "=m"(images[owner])
                             : "m"(images[task]));
            owner = task;
            switches++;
            call.code = SEEN.ip; /* restarted */
            guest_enter(&call);
        }
        EXPECT_THAT(SEEN.vector == VECTOR_UD, SEEN.vector);
        wanted[task][0] += kind != 1;
        wanted[task][1] += kind != 0 ? 2 : 0;
        cases++;
    }
    EXPECT_THAT(switches > TASKS * STEPS / 2, switches);
    __asm__ volatile("fxsave %0" : "=m"(images[owner]));
    for (unsigned task = 0; task < TASKS; task++) {
        uint32_t x87, sse;
        __asm__ volatile("fxrstor %2; fistpl %0; movd %%xmm1, %1"
                         : "=m"(x87), "=m"(sse)
                         : "m"(images[task]));
        EXPECT_THAT(x87 == wanted[task][0], x87);
        EXPECT_THAT(sse == wanted[task][1], sse);
    }
}

static void pic_setup(void)
{
    out8(0x20, 0x11);
    out8(0x21, 0x18);
    out8(0x21, 4);
    out8(0x21, 1);
    out8(0x21, 0xff);
}

void guest_main(void)
{
    write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT);
    write_cr0((read_cr0() & ~(uintptr_t)(CR0_EM | CR0_TS)) | CR0_NE | CR0_MP);
    has_avx = cpuid(1, 0).ecx >> 28 & 1;
    if (has_avx) {
        write_cr4(read_cr4() | CR4_OSXSAVE);
        set_xcr0(7);
    }
    pic_setup();
    for (unsigned i = 0; i < ACTIONS * ACTIONS; i++) {
        for (unsigned v = 0; v < X87_USES * 4; v++)
            run_case(i % ACTIONS, i / ACTIONS, v);
    }
    test_lazy_switching();
    print("%u cases\n", cases);
}
