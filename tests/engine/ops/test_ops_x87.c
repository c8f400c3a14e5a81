/*
 * FXSAVE, XSAVE and the x87 environment, compared with the host processor: the same register image
 * is loaded there, the instruction executed, and memory and registers compared. Instruction and
 * data pointers are left out where they would be those of the host's instructions.
 */
#include "fixture.h"

#include <cpuid.h>
#include <string.h>

#include "engine/bt/ops/xstate.h"

typedef uint8_t image_bytes[4096] __attribute__((aligned(64)));

enum { INIT_FCW = 0x37f };

/* Loads image, runs the instruction with RBX = memory and EDX:EAX = mask, takes the image again. */
#define ON_HOST(image, memory, mask, text)                                                         \
    do {                                                                                           \
        uint64_t eax_ = 7;                                                                         \
        __asm__ volatile("xrstor64 (%[img])\n\t"                                                   \
                         "mov %[m], %%eax\n\t" text "\n\t"                                         \
                         "mov $7, %%eax\n\t"                                                       \
                         "xsave64 (%[img])\n\t"                                                    \
                         "fninit\n\tvzeroupper"                                                    \
                         : "+a"(eax_)                                                              \
                         : [img] "r"(image), "b"(memory), "d"(0), [m] "r"((uint32_t)(mask))        \
                         : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", \
                           "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",    \
                           "xmm15");                                                               \
        __asm__ volatile("ldmxcsr %0" : : "m"(*(const uint32_t *)&(const uint32_t){0x1f80}));      \
    } while (0)

static void initial_image(uint8_t *image)
{
    memset(image, 0, sizeof(image_bytes));
    image[0] = INIT_FCW & 0xff;
    image[1] = INIT_FCW >> 8;
    image[24] = 0x80;
    image[25] = 0x1f;
}

/* A few values of every class on the x87 stack, TOP at 3, vectors filled with a pattern. */
static void busy_image(uint8_t *image)
{
    static const uint64_t infinity = 0x7ff0000000000000;

    initial_image(image);
    for (unsigned i = 0; i < 256; i++) {
        image[160 + i] = (uint8_t)(i * 7 + 1);
        image[576 + i] = (uint8_t)(i * 11 + 3);
    }
    image[512] = 7;
    ON_HOST(image, &infinity, 7,
            "fldpi; fldz; fldl (%%rbx); fld1; fchs; fldln2\n\t"
            "fstp %%st(3)");
}

static void set_image(struct guest *g, const uint8_t *image)
{
    memcpy(g->cpu.xsave, image, XS_SIZE);
    g->cpu.gpr[X86_RBX] = AT_DATA;
}

static void clear_pointers(uint8_t *image)
{
    memset(image + 6, 0, 18); /* FOP, FIP, FDP */
}

/* The registers, without pointers and without what the host leaves in reserved bytes. */
static void expect_registers(const struct guest *g, const uint8_t *image)
{
    const uint8_t *mine = g->cpu.xsave;

    assert_memory_equal(mine, image, 5); /* FCW, FSW, tags */
    for (unsigned i = 0; i < 8; i++)
        assert_memory_equal(mine + 32 + 16 * i, image + 32 + 16 * i, 10);
    assert_memory_equal(mine + 24, image + 24, 4);
    assert_memory_equal(mine + 160, image + 160, 256);
}

static void guest_memory_is(struct guest *g, const uint8_t *expected, size_t size)
{
    image_bytes mine;

    as_read(g->as, AT_DATA, mine, size);
    assert_memory_equal(mine, expected, size);
}

static void fill_both(struct guest *g, uint8_t *memory, uint8_t value)
{
    memset(memory, value, sizeof(image_bytes));
    as_write(g->as, AT_DATA, memory, 1024);
}

/* --- environment --- */

static void environment_32(uint8_t *env)
{
    memset(env + 12, 0, 14);
}

static void fnstenv_like_the_host(void **state)
{
    struct guest *g = *state;
    image_bytes image, memory;

    busy_image(image);
    image[0] &= 0xc0; /* unmasked: FNSTENV masks them */
    set_image(g, image);
    fill_both(g, memory, 0xcc);
    ON_HOST(image, memory, 7, "fnstenv (%%rbx)");
    environment_32(memory);
    RUNS(g, 0xd9, 0x33);
    guest_memory_is(g, memory, 64);
    expect_registers(g, image);

    busy_image(image);
    set_image(g, image);
    fill_both(g, memory, 0xcc);
    ON_HOST(image, memory, 7, ".byte 0x66; fnstenv (%%rbx)");
    memset(memory + 6, 0, 8);
    RUNS(g, 0x66, 0xd9, 0x33);
    guest_memory_is(g, memory, 64);
}

static void fnsave_like_the_host(void **state)
{
    struct guest *g = *state;
    image_bytes image, memory;

    busy_image(image);
    set_image(g, image);
    fill_both(g, memory, 0xcc);
    ON_HOST(image, memory, 7, "fnsave (%%rbx)");
    environment_32(memory);
    RUNS(g, 0xdd, 0x33);
    guest_memory_is(g, memory, 128);
    assert_int_equal(xs_get16(g->cpu.xsave), INIT_FCW);
    assert_int_equal(xs_get16(g->cpu.xsave + 2), 0);
    assert_int_equal(g->cpu.xsave[4], 0); /* all empty */

    busy_image(image);
    set_image(g, image);
    fill_both(g, memory, 0xcc);
    ON_HOST(image, memory, 7, ".byte 0x66; fnsave (%%rbx)");
    memset(memory + 6, 0, 8);
    RUNS(g, 0x66, 0xdd, 0x33);
    guest_memory_is(g, memory, 128);
}

/* Every combination of masks and exceptions: ES and B follow from them. */
static void fldenv_like_the_host(void **state)
{
    struct guest *g = *state;
    image_bytes image, memory;

    for (unsigned fcw = 0; fcw < 0x10000; fcw += 0x1f3) {
        for (unsigned fsw = 0; fsw < 0x10000; fsw += 0x5a9) {
            busy_image(image);
            set_image(g, image);
            memset(memory, 0, sizeof(memory));
            xs_put32(memory, 0xdead0000 | fcw);
            xs_put32(memory + 4, 0xbeef0000 | fsw);
            xs_put32(memory + 8, (fcw * 31 + fsw) & 0xffff);
            as_write(g->as, AT_DATA, memory, 128);
            ON_HOST(image, memory, 7, "fldenv (%%rbx)");
            RUNS(g, 0xd9, 0x23);
            if (memcmp(g->cpu.xsave, image, 5))
                fail_msg("FCW %04x FSW %04x: %04x %04x %02x instead of %04x %04x %02x", fcw, fsw,
                         xs_get16(g->cpu.xsave), xs_get16(g->cpu.xsave + 2), g->cpu.xsave[4],
                         xs_get16(image), xs_get16(image + 2), image[4]);
        }
    }
    expect_registers(g, image); /* contents stay */
}

static void frstor_like_the_host(void **state)
{
    struct guest *g = *state;
    image_bytes image, memory, saved;

    busy_image(image);
    memset(saved, 0, sizeof(saved));
    ON_HOST(image, saved, 7, "fnsave (%%rbx)");
    for (unsigned form = 0; form < 2; form++) {
        initial_image(image);
        set_image(g, image);
        memset(memory, 0, sizeof(memory));
        if (form == 0) {
            memcpy(memory, saved, 108);
            as_write(g->as, AT_DATA, memory, 128);
            ON_HOST(image, memory, 7, "frstor (%%rbx)");
            RUNS(g, 0xdd, 0x23);
        } else {
            for (unsigned i = 0; i < 3; i++)
                memcpy(memory + 2 * i, saved + 4 * i, 2);
            memcpy(memory + 14, saved + 28, 80);
            as_write(g->as, AT_DATA, memory, 128);
            ON_HOST(image, memory, 7, ".byte 0x66; frstor (%%rbx)");
            RUNS(g, 0x66, 0xdd, 0x23);
        }
        expect_registers(g, image);
        assert_int_equal(g->cpu.xsave[512] & 1, 1);
    }
}

/* What FLDENV takes from the test's operand, in the mode it is in, FNSTENV gives back. */
static void expect_round_trip(struct guest *g, uint32_t address, unsigned size, const uint8_t *env,
                              const struct x87_pointers *pointers)
{
    uint8_t stored[28];

    as_write(g->as, address, env, size);
    g->cpu.x87_pointers = (struct x87_pointers){0};
    if (size == 14 && g->cpu.sflags & X86_VM)
        RUNS(g, 0xd9, 0x27);
    else if (size == 28 && !(g->cpu.sflags & X86_VM))
        RUNS(g, 0xd9, 0x23);
    else if (size == 14)
        RUNS(g, 0x66, 0xd9, 0x23);
    else
        RUNS(g, 0x66, 0xd9, 0x27);
    assert_memory_equal(&g->cpu.x87_pointers, pointers, sizeof(*pointers));
    put(g, address + size - 4, 4, 0xcccccccc);
    if (size == 14 && g->cpu.sflags & X86_VM)
        RUNS(g, 0xd9, 0x37);
    else if (size == 28 && !(g->cpu.sflags & X86_VM))
        RUNS(g, 0xd9, 0x33);
    else if (size == 14)
        RUNS(g, 0x66, 0xd9, 0x33);
    else
        RUNS(g, 0x66, 0xd9, 0x37);
    as_read(g->as, address, stored, size);
    assert_memory_equal(stored, env, size);
}

/* SDM vol. 1, figures 8-9 to 8-12: real mode has linear addresses and the opcode in both sizes. */
static void environment_formats(void **state)
{
    struct guest *g = *state;
    uint8_t env[28];

    g->cpu.gpr[X86_RBX] = AT_DATA;
    memset(env, 0xff, sizeof(env));
    xs_put16(env, 0x37f);
    xs_put16(env + 4, 0);
    xs_put32(env + 12, 0x12345678);
    xs_put32(env + 16, 0x5a59abc);
    xs_put32(env + 20, 0x87654321);
    xs_put16(env + 24, 0xfedc);
    expect_round_trip(
        g, AT_DATA, 28, env,
        &(struct x87_pointers){
            .fip = 0x12345678, .fcs = 0x9abc, .fop = 0x5a5, .fdp = 0x87654321, .fds = 0xfedc});
    xs_put32(env + 2, 0xffff0000); /* status and tags */
    xs_put32(env + 6, 0x9abc5678);
    xs_put32(env + 10, 0xfedc4321);
    expect_round_trip(
        g, AT_DATA, 14, env,
        &(struct x87_pointers){.fip = 0x5678, .fcs = 0x9abc, .fdp = 0x4321, .fds = 0xfedc});
    enter_vm86(g, 3);
    g->cpu.gpr[X86_RBX] = 0x100;
    xs_put32(env + 6, 0xf5a55678);
    xs_put32(env + 10, 0xe0004321);
    expect_round_trip(g, 0x100, 14, env,
                      &(struct x87_pointers){.fip = 0xf5678, .fdp = 0xe4321, .fop = 0x5a5});
    memset(env, 0xff, sizeof(env));
    xs_put16(env, 0x37f);
    xs_put16(env + 4, 0);
    xs_put16(env + 12, 0x5678);
    xs_put32(env + 16, 0x12345a5);
    xs_put16(env + 20, 0x4321);
    xs_put32(env + 24, 0x8765000);
    expect_round_trip(g, 0x100, 28, env,
                      &(struct x87_pointers){.fip = 0x12345678, .fdp = 0x87654321, .fop = 0x5a5});
}

/* Selectors and offsets become linear addresses, FFFF:FFFF the highest of them. */
static void real_formats_add_selector_and_offset(void **state)
{
    struct guest *g = *state;
    const struct x87_pointers pointers = {
        .fip = 0x1234, .fcs = 0xf000, .fdp = 0xffff, .fds = 0xffff, .fop = 0x7ff};

    enter_vm86(g, 3);
    g->cpu.gpr[X86_RBX] = 0x100;
    g->cpu.x87_pointers = pointers;
    RUNS(g, 0xd9, 0x37);
    assert_int_equal(get(g, 0x106, 4), 0xf7ff1234);
    assert_int_equal(get(g, 0x10a, 4), 0x0000ffef);
    RUNS(g, 0x66, 0xd9, 0x37);
    assert_int_equal(get(g, 0x10c, 2), 0x1234);
    assert_int_equal(get(g, 0x110, 4), 0xf7ff);
    assert_int_equal(get(g, 0x114, 2), 0xffef);
    assert_int_equal(get(g, 0x118, 4), 0x10000);
}

static void x87_faults(void **state)
{
    struct guest *g = *state;
    static const uint8_t codes[][2] = {{0xd9, 0x33}, {0xd9, 0x23}, {0xdd, 0x33}, {0xdd, 0x23}};

    enable_paging32(g);
    unmap_page(g, AT_DATA + 0x1000);
    for (unsigned i = 0; i < 4; i++) {
        bool store = i % 2 == 0;

        g->cpu.gpr[X86_RBX] = AT_DATA + 0x1000 - 24;
        expect_fault(g, execute(g, codes[i], 2), X86_PF, store ? 2 : 0);
        assert_int_equal(g->cpu.fault.cr2, AT_DATA + 0x1000);
        g->cpu.gpr[X86_RBX] = AT_DATA;
        g->cpu.cr0 |= X86_CR0_TS;
        FAULTS(g, X86_NM, -1, codes[i][0], codes[i][1]);
        g->cpu.cr0 ^= X86_CR0_TS | X86_CR0_EM;
        FAULTS(g, X86_NM, -1, codes[i][0], codes[i][1]);
        g->cpu.cr0 &= ~(uint64_t)X86_CR0_EM;
    }
    g->cpu.seg[X86_DS].limit = AT_DATA + 106;
    segment_update_bounds(&g->cpu.seg[X86_DS]);
    FAULTS_GP(g, 0xdd, 0x33);
    RUNS(g, 0x66, 0xdd, 0x33); /* 94 bytes fit */
}

/* --- FXSAVE --- */

static void fxsave_like_the_host(void **state)
{
    struct guest *g = *state;
    image_bytes image, memory;

    busy_image(image);
    set_image(g, image);
    fill_both(g, memory, 0xcc);
    ON_HOST(image, memory, 7, "fxsave64 (%%rbx)");
    clear_pointers(memory);
    RUNS(g, 0x48, 0x0f, 0xae, 0x03);
    put(g, AT_DATA + 6, 2, 0);
    guest_memory_is(g, memory, 416);
    expect_registers(g, image);
}

static void fxsave_outside_64_bit_mode(void **state)
{
    struct guest *g = *state;
    image_bytes image;

    busy_image(image);
    set_image(g, image);
    put(g, AT_DATA + 288, 8, 0xcccccccccccccccc);
    RUNS(g, 0x0f, 0xae, 0x03);
    assert_int_equal(get(g, AT_DATA + 160 + 112, 1), image[160 + 112]); /* XMM7 */
    assert_true(get(g, AT_DATA + 288, 8) == 0xcccccccccccccccc);        /* XMM8: not stored */
    put(g, AT_DATA + 160, 1, 0x99);
    put(g, AT_DATA + 288, 1, 0x99);
    RUNS(g, 0x0f, 0xae, 0x0b);
    assert_int_equal(g->cpu.xsave[160], 0x99);
    assert_int_equal(g->cpu.xsave[288], image[288]);
}

static void fxrstor_like_the_host(void **state)
{
    struct guest *g = *state;
    image_bytes image, memory;

    busy_image(image);
    memset(memory, 0, sizeof(memory));
    ON_HOST(image, memory, 7, "fxsave64 (%%rbx)");
    for (unsigned i = 160; i < 416; i++)
        memory[i] = (uint8_t)(memory[i] + i);
    memory[25] = 0x3f;
    initial_image(image);
    set_image(g, image);
    as_write(g->as, AT_DATA, memory, 512);
    ON_HOST(image, memory, 7, "fxrstor64 (%%rbx)");
    RUNS(g, 0x48, 0x0f, 0xae, 0x0b);
    expect_registers(g, image);
    assert_int_equal(g->cpu.xsave[512] & 3, 3);
}

/* While an exception is pending: as the host gives back what it loaded, and 0 otherwise. */
static void pointers_in_images_like_the_host(void **state)
{
    struct guest *g = *state;
    image_bytes image, memory, loaded;

    for (unsigned variant = 0; variant < 4; variant++) {
        bool wide = variant & 1, pending = variant & 2;

        initial_image(image);
        memset(loaded, 0, sizeof(loaded));
        ON_HOST(image, loaded, 7, "fxsave64 (%%rbx)");
        loaded[0] = 0x7b; /* division by zero is not masked, and happened */
        loaded[2] = pending ? 4 : 0;
        xs_put16(loaded + 6, 0xfd5a);
        xs_put64(loaded + 8, 0x12345678abcd);
        xs_put64(loaded + 16, 0x87654321fedc);
        initial_image(image);
        memset(memory, 0, sizeof(memory));
        memcpy(memory, loaded, 512);
        if (wide)
            ON_HOST(image, memory, 7, "fxrstor64 (%%rbx); fxsave64 (%%rbx)");
        else
            ON_HOST(image, memory, 7, "fxrstor (%%rbx); fxsave (%%rbx)");
        if (!pending)
            clear_pointers(memory); /* others store them always */
        initial_image(image);
        set_image(g, image);
        as_write(g->as, AT_DATA, loaded, 512);
        if (wide) {
            RUNS(g, 0x48, 0x0f, 0xae, 0x0b);
            assert_true(g->cpu.x87_pointers.fip == 0x12345678abcd);
            RUNS(g, 0x48, 0x0f, 0xae, 0x03);
        } else {
            RUNS(g, 0x0f, 0xae, 0x0b);
            assert_int_equal(g->cpu.x87_pointers.fcs, 0x1234);
            RUNS(g, 0x0f, 0xae, 0x03);
        }
        guest_memory_is(g, memory, 24);
        assert_int_equal(g->cpu.x87_pointers.fop, 0x55a);
    }
}

static void fxsave_faults(void **state)
{
    struct guest *g = *state;

    g->cpu.gpr[X86_RBX] = AT_DATA + 8;
    FAULTS_GP(g, 0x0f, 0xae, 0x03);
    FAULTS_GP(g, 0x0f, 0xae, 0x0b);
    g->cpu.gpr[X86_RBX] = AT_DATA;
    put(g, AT_DATA + 24, 4, 0x10000); /* reserved in MXCSR */
    FAULTS_GP(g, 0x0f, 0xae, 0x0b);
    put(g, AT_DATA + 24, 4, 0x1f80);
    RUNS(g, 0x0f, 0xae, 0x0b);
    g->cpu.cr0 |= X86_CR0_TS;
    FAULTS(g, X86_NM, -1, 0x0f, 0xae, 0x03);
    g->cpu.cr0 ^= X86_CR0_TS | X86_CR0_EM;
    FAULTS(g, X86_NM, -1, 0x0f, 0xae, 0x0b);
    g->cpu.cr0 &= ~(uint64_t)X86_CR0_EM;
    g->cpu.gpr[X86_RBX] = 1ull << 60;
    FAULTS_GP(g, 0x0f, 0xae, 0x03);
    g->cpu.gpr[X86_RBX] = AT_DATA - 16;
    unmap_page(g, AT_DATA);
    expect_fault(g, RUN(g, 0x0f, 0xae, 0x03), X86_PF, 2);
    assert_int_equal(g->cpu.fault.cr2, AT_DATA + 495); /* was the first absent byte */
    expect_fault(g, RUN(g, 0x0f, 0xae, 0x0b), X86_PF, 0);
    set_feature(g, FEAT_FXSR, false);
    FAULTS_UD(g, 0x0f, 0xae, 0x03);
}

/* --- XSAVE --- */

/* CPUID leaf 0DH, subleaf 1, EAX: 0 XSAVEOPT, 1 XSAVEC */
static bool host_has_form(unsigned bit)
{
    unsigned a = 0, b, c, d;

    return __get_cpuid_count(0xd, 1, &a, &b, &c, &d) && (a >> bit & 1);
}

static bool guest_memory_equals(struct guest *g, const uint8_t *expected, size_t size)
{
    image_bytes mine;

    as_read(g->as, AT_DATA, mine, size);
    return memcmp(mine, expected, size) == 0;
}

enum { ATTEMPTS = 20 };

/*
 * Runs one form on the host and here for all masks and all combinations of components in use. A
 * processor may track components as in use that are in their initial state (SDM vol. 1, 13.6), and
 * the host's interrupts make it forget or begin to: what differs is tried again.
 */
#define XSAVE_FORM(g, text, ...)                                                                   \
    for (unsigned in_use = 0; in_use < 8; in_use++) {                                              \
        for (unsigned mask = 0; mask < 8; mask++) {                                                \
            bool alike = false;                                                                    \
            for (unsigned attempt = 1; !alike; attempt++) {                                        \
                image_bytes image, memory;                                                         \
                busy_image(image);                                                                 \
                image[512] = (uint8_t)in_use;                                                      \
                ON_HOST(image, memory, 7, "nop"); /* fills in what is initial */                   \
                set_image(g, image);                                                               \
                fill_both(g, memory, 0xcc);                                                        \
                memset(memory + 512, 0, 64);                                                       \
                memory[512] = 5;                                                                   \
                as_write((g)->as, AT_DATA, memory, 1024);                                          \
                ON_HOST(image, memory, mask, text);                                                \
                if (mask & 1 && memory[6] != 0xcc)                                                 \
                    clear_pointers(memory);                                                        \
                (g)->cpu.gpr[X86_RAX] = 0xfffffff8 | mask;                                         \
                (g)->cpu.gpr[X86_RDX] = 0xffffffff;                                                \
                RUNS(g, __VA_ARGS__);                                                              \
                if (get(g, AT_DATA + 6, 1) != 0xcc)                                                \
                    put(g, AT_DATA + 6, 2, 0);                                                     \
                alike = guest_memory_equals(g, memory, 1000);                                      \
                if (attempt == ATTEMPTS)                                                           \
                    guest_memory_is(g, memory, 1000);                                              \
            }                                                                                      \
        }                                                                                          \
    }

static void xsave_like_the_host(void **state)
{
    struct guest *g = *state;

    if (!cpuid_has(&g->cpu.cpuid, FEAT_AVX))
        skip();
    XSAVE_FORM(g, "xsave64 (%%rbx)", 0x48, 0x0f, 0xae, 0x23)
}

static void xsaveopt_like_the_host(void **state)
{
    struct guest *g = *state;

    if (!host_has_form(0) || !cpuid_has(&g->cpu.cpuid, FEAT_AVX))
        skip();
    XSAVE_FORM(g, "xsaveopt64 (%%rbx)", 0x48, 0x0f, 0xae, 0x33)
}

static void xsavec_like_the_host(void **state)
{
    struct guest *g = *state;

    if (!host_has_form(1) || !cpuid_has(&g->cpu.cpuid, FEAT_AVX))
        skip();
    XSAVE_FORM(g, "xsavec64 (%%rbx)", 0x48, 0x0f, 0xc7, 0x23)
}

static void xrstor_like_the_host(void **state)
{
    struct guest *g = *state;

    if (!cpuid_has(&g->cpu.cpuid, FEAT_AVX))
        skip();
    for (unsigned compact = 0; compact < 2; compact++) {
        if (compact && !host_has_form(1))
            break;
        for (unsigned bits = 0; bits < 64; bits++) {
            unsigned mask = bits & 7, xstate_bv = bits >> 3;
            image_bytes image, memory;

            busy_image(image);
            memset(memory, 0, sizeof(memory));
            memcpy(memory, image, XS_SIZE);
            clear_pointers(memory);
            for (unsigned i = 160; i < 416; i++)
                memory[i] ^= 0xff;
            for (unsigned i = 576; i < 832; i++)
                memory[i] ^= 0xff;
            memory[0] = 0x7b; /* FCW */
            memory[25] = 0x3f;
            memset(memory + 512, 0, 64);
            memory[512] = (uint8_t)xstate_bv;
            if (compact) {
                memory[520] = 7;
                memory[527] = 0x80;
            }
            as_write(g->as, AT_DATA, memory, 1024);
            set_image(g, image);
            ON_HOST(image, memory, mask, "xrstor64 (%%rbx)");
            g->cpu.gpr[X86_RAX] = mask;
            g->cpu.gpr[X86_RDX] = 0;
            RUNS(g, 0x48, 0x0f, 0xae, 0x2b);
            xstate_park(&g->cpu); /* fills in initial components */
            expect_registers(g, image);
            assert_memory_equal(g->cpu.xsave + 576, image + 576, 256);
            /* an initial component may be reported either way, a restored one is in use */
            assert_int_equal(g->cpu.xsave[512] & mask & xstate_bv, mask & xstate_bv);
        }
    }
}

static void xrstor_header_rules(void **state)
{
    static const struct {
        uint8_t offset, value;
    } bad[] = {
        {0, 8},    /* XSTATE_BV: not in XCR0 */
        {7, 0x80}, /* XSTATE_BV bit 63 */
        {8, 1},    /* XCOMP_BV without bit 63 */
        {16, 1},   /* reserved bytes of the standard format */
        {23, 0x40},
    };
    struct guest *g = *state;

    if (!cpuid_has(&g->cpu.cpuid, FEAT_XSAVEC))
        skip();
    g->cpu.gpr[X86_RBX] = AT_DATA;
    g->cpu.gpr[X86_RAX] = 7;
    g->cpu.gpr[X86_RDX] = 0;
    put(g, AT_DATA + 24, 4, 0x1f80);
    RUNS(g, 0x0f, 0xae, 0x2b);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        put(g, AT_DATA + 512 + bad[i].offset, 1, bad[i].value);
        FAULTS_GP(g, 0x0f, 0xae, 0x2b);
        put(g, AT_DATA + 512 + bad[i].offset, 1, 0);
    }
    put(g, AT_DATA + 512 + 24, 1, 1); /* bytes 63:24 matter in the compacted format only */
    RUNS(g, 0x0f, 0xae, 0x2b);
    put(g, AT_DATA + 520, 8, 1ull << 63 | 7);
    FAULTS_GP(g, 0x0f, 0xae, 0x2b);
    put(g, AT_DATA + 512 + 24, 1, 0);
    RUNS(g, 0x0f, 0xae, 0x2b);
    put(g, AT_DATA + 520, 8, 1ull << 63 | 3);
    put(g, AT_DATA + 512, 1, 4); /* XSTATE_BV not in XCOMP_BV */
    FAULTS_GP(g, 0x0f, 0xae, 0x2b);
    put(g, AT_DATA + 512, 1, 0);
    put(g, AT_DATA + 520, 8, 1ull << 63 | 0xf);
    FAULTS_GP(g, 0x0f, 0xae, 0x2b);
    put(g, AT_DATA + 520, 8, 0);
    put(g, AT_DATA + 24, 4, 0x10000); /* MXCSR, loaded whatever XSTATE_BV says */
    FAULTS_GP(g, 0x0f, 0xae, 0x2b);
    g->cpu.gpr[X86_RAX] = 1;
    RUNS(g, 0x0f, 0xae, 0x2b);
    set_feature(g, FEAT_XSAVEC, false);
    put(g, AT_DATA + 520, 8, 1ull << 63 | 7);
    FAULTS_GP(g, 0x0f, 0xae, 0x2b);
}

static void xsave_faults(void **state)
{
    static const uint8_t codes[][3] = {
        {0x0f, 0xae, 0x23}, {0x0f, 0xae, 0x2b}, {0x0f, 0xc7, 0x23}, {0x0f, 0xae, 0x33}};
    struct guest *g = *state;

    if (!cpuid_has(&g->cpu.cpuid, FEAT_AVX))
        skip();
    g->cpu.gpr[X86_RAX] = 7;
    g->cpu.gpr[X86_RDX] = 0;
    for (unsigned i = 0; i < 4; i++) {
        g->cpu.gpr[X86_RBX] = AT_DATA + 32;
        FAULTS_GP(g, codes[i][0], codes[i][1], codes[i][2]);
        g->cpu.gpr[X86_RBX] = AT_DATA;
        g->cpu.cr0 |= X86_CR0_TS;
        FAULTS(g, X86_NM, -1, codes[i][0], codes[i][1], codes[i][2]);
        g->cpu.cr0 &= ~(uint64_t)X86_CR0_TS;
        g->cpu.cr4 &= ~(uint64_t)X86_CR4_OSXSAVE;
        FAULTS_UD(g, codes[i][0], codes[i][1], codes[i][2]);
        g->cpu.cr4 |= X86_CR4_OSXSAVE;
        g->cpu.gpr[X86_RBX] = AT_DATA + 0x1000 - 576;
        unmap_page(g, AT_DATA + 0x1000);
        expect_fault(g, execute(g, codes[i], 3), X86_PF, i == 1 ? 0 : 2);
        g->cpu.gpr[X86_RAX] = 3; /* without AVX it ends in front of the hole */
        RUNS(g, codes[i][0], codes[i][1], codes[i][2]);
        g->cpu.gpr[X86_RAX] = 7;
    }
}

static void fpu_availability(void **state)
{
    struct guest *g = *state;
    struct insn insn = {.op = OP_FPU_UNAVAILABLE};
    static const struct {
        uint8_t state;
        uint64_t cr0, cr4, xcr0;
        int vector; /* -1: available */
    } rows[] = {
        {FPU_X87, X86_CR0_EM, 0, 3, X86_NM},
        {FPU_X87, X86_CR0_TS, 0, 3, X86_NM},
        {FPU_X87, X86_CR0_MP, 0, 3, -1},
        {FPU_WAIT, X86_CR0_TS, 0, 3, -1},
        {FPU_WAIT, X86_CR0_MP | X86_CR0_TS, 0, 3, X86_NM},
        {FPU_WAIT, X86_CR0_EM, 0, 3, -1},
        {FPU_MMX, X86_CR0_EM | X86_CR0_TS, 0, 3, X86_UD},
        {FPU_MMX, X86_CR0_TS, 0, 3, X86_NM},
        {FPU_MMX, 0, 0, 3, -1},
        {FPU_SSE, 0, 0, 3, X86_UD},
        {FPU_SSE, X86_CR0_EM, X86_CR4_OSFXSR, 3, X86_UD},
        {FPU_SSE, X86_CR0_TS, X86_CR4_OSFXSR, 3, X86_NM},
        {FPU_SSE, 0, X86_CR4_OSFXSR, 3, -1},
        {FPU_AVX, 0, X86_CR4_OSFXSR, 7, X86_UD},
        {FPU_AVX, 0, X86_CR4_OSXSAVE, 3, X86_UD},
        {FPU_AVX, X86_CR0_TS, X86_CR4_OSXSAVE, 7, X86_NM},
        {FPU_AVX, X86_CR0_TS, X86_CR4_OSXSAVE, 3, X86_UD},
        {FPU_AVX, X86_CR0_EM, X86_CR4_OSXSAVE, 7, -1},
        {FPU_FXSAVE, X86_CR0_EM, 0, 3, X86_NM},
        {FPU_FXSAVE, X86_CR0_TS, 0, 3, X86_NM},
        {FPU_FXSAVE, 0, 0, 3, -1},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        enum op_result result;

        g->cpu.cr0 = X86_CR0_PE | rows[i].cr0;
        g->cpu.cr4 = rows[i].cr4;
        g->cpu.xcr0 = rows[i].xcr0;
        g->cpu.dirty = 0;
        insn.fpu_state = rows[i].state;
        result = op_function(OP_FPU_UNAVAILABLE)(&g->cpu, &insn);
        if (rows[i].vector >= 0) {
            expect_fault(g, result, (unsigned)rows[i].vector, -1);
        } else { /* stale: looked up again */
            assert_int_equal(result, OP_JUMP);
            assert_true(g->cpu.dirty & X86_DIRTY_MODE);
        }
    }
}

int main(void)
{
#define PROTECTED(test) cmocka_unit_test_setup_teardown(test, setup_protected, teardown)
#define LONG(test)      cmocka_unit_test_setup_teardown(test, setup_long, teardown)
    const struct CMUnitTest tests[] = {
        LONG(fnstenv_like_the_host),
        LONG(fnsave_like_the_host),
        LONG(fldenv_like_the_host),
        LONG(frstor_like_the_host),
        PROTECTED(environment_formats),
        PROTECTED(real_formats_add_selector_and_offset),
        PROTECTED(x87_faults),
        LONG(fxsave_like_the_host),
        PROTECTED(fxsave_outside_64_bit_mode),
        LONG(fxrstor_like_the_host),
        LONG(fxsave_faults),
        LONG(pointers_in_images_like_the_host),
        LONG(xsave_like_the_host),
        LONG(xsaveopt_like_the_host),
        LONG(xsavec_like_the_host),
        LONG(xrstor_like_the_host),
        LONG(xrstor_header_rules),
        LONG(xsave_faults),
        PROTECTED(fpu_availability),
    };

    if (!__builtin_cpu_supports("avx"))
        return 77; /* the image needs XSAVE with AVX */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
