/* Masked moves and gathers: against the host, then with elements that must not be touched. */
#include "fixture.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/bt/ops/xstate.h"

typedef uint8_t image_bytes[4096] __attribute__((aligned(64)));

/* Loads the whole image, runs the instruction with RDI = RBX = memory, takes the image again. */
#define ON_HOST(image, memory, text)                                                               \
    do {                                                                                           \
        uint8_t *at_ = (memory);                                                                   \
        __asm__ volatile("mov $7, %%eax\n\t"                                                       \
                         "xrstor64 (%[img])\n\t" text "\n\t"                                       \
                         "xsave64 (%[img])\n\t"                                                    \
                         "fninit\n\tvzeroupper"                                                    \
                         : "+D"(at_)                                                               \
                         : [img] "r"(image), "b"(memory), "d"(0)                                   \
                         : "memory", "cc", "rax", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5",  \
                           "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13",     \
                           "xmm14", "xmm15");                                                      \
    } while (0)

static void random_image(uint8_t *image)
{
    memset(image, 0, sizeof(image_bytes));
    image[0] = 0x7f;
    image[1] = 0x03;
    image[3] = (uint8_t)(rand() & 0x38); /* TOP */
    image[4] = (uint8_t)rand();
    image[24] = 0x80;
    image[25] = 0x1f;
    for (unsigned i = 0; i < 8; i++) {
        for (unsigned b = 0; b < 10; b++)
            image[32 + 16 * i + b] = (uint8_t)rand();
    }
    for (unsigned i = 0; i < 256; i++) {
        image[160 + i] = (uint8_t)rand();
        image[576 + i] = (uint8_t)rand();
    }
    image[512] = 7;
}

static void seed_random(void)
{
    const char *text = getenv("SEED");
    unsigned seed = text ? (unsigned)strtoul(text, NULL, 0) : (unsigned)time(NULL);

    print_message("SEED=%u\n", seed);
    srand(seed);
}

static void expect_same(struct guest *g, const uint8_t *image, const uint8_t *memory)
{
    image_bytes mine;

    as_read(g->as, AT_DATA, mine, 1024);
    assert_memory_equal(mine, memory, 1024);
    assert_memory_equal(g->cpu.xsave, image, 5);
    for (unsigned i = 0; i < 8; i++)
        assert_memory_equal(g->cpu.xsave + 32 + 16 * i, image + 32 + 16 * i, 10);
    assert_memory_equal(g->cpu.xsave + 160, image + 160, 256);
    assert_memory_equal(g->cpu.xsave + 576, image + 576, 256);
}

/* One instruction on random registers and memory, here and on the host. */
#define LIKE_THE_HOST(g, prepare, text, ...)                                                       \
    for (unsigned round_ = 0; round_ < 200; round_++) {                                            \
        image_bytes image, memory;                                                                 \
        random_image(image);                                                                       \
        prepare;                                                                                   \
        for (unsigned i_ = 0; i_ < sizeof(memory); i_++)                                           \
            memory[i_] = (uint8_t)rand();                                                          \
        memcpy((g)->cpu.xsave, image, XS_SIZE);                                                    \
        as_write((g)->as, AT_DATA, memory, 1024);                                                  \
        (g)->cpu.gpr[X86_RBX] = (g)->cpu.gpr[X86_RDI] = AT_DATA;                                   \
        ON_HOST(image, memory, text);                                                              \
        RUNS(g, __VA_ARGS__);                                                                      \
        expect_same(g, image, memory);                                                             \
    }
#define NOTHING (void)0

static void byte_masks(void **state)
{
    struct guest *g = *state;

    seed_random();
    LIKE_THE_HOST(g, NOTHING, "maskmovdqu %%xmm9, %%xmm2", 0x66, 0x41, 0x0f, 0xf7, 0xd1)
    LIKE_THE_HOST(g, NOTHING, "vmaskmovdqu %%xmm9, %%xmm2", 0xc4, 0xc1, 0x79, 0xf7, 0xd1)
    LIKE_THE_HOST(g, NOTHING, "maskmovq %%mm3, %%mm5", 0x0f, 0xf7, 0xeb)
}

static void element_masks(void **state)
{
    struct guest *g = *state;

    seed_random();
    LIKE_THE_HOST(g, NOTHING, "vmaskmovps 32(%%rbx), %%ymm1, %%ymm10", 0xc4, 0x62, 0x75, 0x2c, 0x53,
                  0x20)
    LIKE_THE_HOST(g, NOTHING, "vmaskmovps (%%rbx), %%xmm1, %%xmm2", 0xc4, 0xe2, 0x71, 0x2c, 0x13)
    LIKE_THE_HOST(g, NOTHING, "vmaskmovpd (%%rbx), %%ymm1, %%ymm2", 0xc4, 0xe2, 0x75, 0x2d, 0x13)
    LIKE_THE_HOST(g, NOTHING, "vmaskmovps %%ymm2, %%ymm1, (%%rbx)", 0xc4, 0xe2, 0x75, 0x2e, 0x13)
    LIKE_THE_HOST(g, NOTHING, "vmaskmovpd %%xmm2, %%xmm1, (%%rbx)", 0xc4, 0xe2, 0x71, 0x2f, 0x13)
    if (!__builtin_cpu_supports("avx2"))
        return;
    LIKE_THE_HOST(g, NOTHING, "vpmaskmovd (%%rbx), %%ymm1, %%ymm2", 0xc4, 0xe2, 0x75, 0x8c, 0x13)
    LIKE_THE_HOST(g, NOTHING, "vpmaskmovq (%%rbx), %%xmm1, %%xmm2", 0xc4, 0xe2, 0xf1, 0x8c, 0x13)
    LIKE_THE_HOST(g, NOTHING, "vpmaskmovd %%xmm2, %%xmm1, (%%rbx)", 0xc4, 0xe2, 0x71, 0x8e, 0x13)
    LIKE_THE_HOST(g, NOTHING, "vpmaskmovq %%ymm2, %%ymm1, (%%rbx)", 0xc4, 0xe2, 0xf5, 0x8e, 0x13)
}

/* Indices of register reg between -8 and 7. */
static void small_indices(uint8_t *image, unsigned reg, unsigned size)
{
    for (unsigned half = 0; half < 2; half++) {
        uint8_t *at = image + (half ? 576 : 160) + 16 * reg;

        for (unsigned i = 0; i < 16; i += size) {
            int64_t index = rand() % 16 - 8;

            memcpy(at + i, &index, size);
        }
    }
}

static void gathers(void **state)
{
    struct guest *g = *state;

    if (!__builtin_cpu_supports("avx2"))
        skip();
    seed_random();
    LIKE_THE_HOST(g, small_indices(image, 3, 4), "vpgatherdd %%ymm1, 64(%%rbx,%%ymm3,4), %%ymm2",
                  0xc4, 0xe2, 0x75, 0x90, 0x54, 0x9b, 0x40)
    LIKE_THE_HOST(g, small_indices(image, 3, 4), "vpgatherdd %%xmm1, 64(%%rbx,%%xmm3,8), %%xmm2",
                  0xc4, 0xe2, 0x71, 0x90, 0x54, 0xdb, 0x40)
    LIKE_THE_HOST(g, small_indices(image, 12, 4), "vpgatherdq %%ymm1, 64(%%rbx,%%xmm12,8), %%ymm9",
                  0xc4, 0x22, 0xf5, 0x90, 0x4c, 0xe3, 0x40)
    LIKE_THE_HOST(g, small_indices(image, 3, 8), "vpgatherqd %%xmm1, 64(%%rbx,%%ymm3,2), %%xmm2",
                  0xc4, 0xe2, 0x75, 0x91, 0x54, 0x5b, 0x40)
    LIKE_THE_HOST(g, small_indices(image, 3, 8), "vpgatherqd %%xmm1, 64(%%rbx,%%xmm3,2), %%xmm2",
                  0xc4, 0xe2, 0x71, 0x91, 0x54, 0x5b, 0x40)
    LIKE_THE_HOST(g, small_indices(image, 3, 8), "vgatherqpd %%ymm1, 64(%%rbx,%%ymm3,1), %%ymm2",
                  0xc4, 0xe2, 0xf5, 0x93, 0x54, 0x1b, 0x40)
    LIKE_THE_HOST(g, small_indices(image, 3, 4), "vgatherdps %%ymm1, 64(%%rbx,%%ymm3,1), %%ymm2",
                  0xc4, 0xe2, 0x75, 0x92, 0x54, 0x1b, 0x40)
}

static void set_vector(struct guest *g, unsigned reg, const uint32_t *dwords)
{
    memcpy(g->cpu.xsave + 160 + 16 * reg, dwords, 16);
    memcpy(g->cpu.xsave + 576 + 16 * reg, dwords + 4, 16);
    g->cpu.xsave[512] = 7;
}

static uint32_t dword(const struct guest *g, unsigned reg, unsigned i)
{
    uint32_t value;

    memcpy(&value, g->cpu.xsave + (i < 4 ? 160 + 4 * i : 576 + 4 * (i - 4)) + 16 * reg, 4);
    return value;
}

/* A fault leaves the elements before it loaded and their masks clear; a second try goes on. */
static void gather_fault(void **state)
{
    static const uint32_t mask[8] = {0x80000000, 0, 0xffffffff, 0x80000000, 0, 0, 0, 0x80000000};
    static const uint32_t index[8] = {0, 0x7fffffff, 4, 0x1000, 0x1000, 0, 0, 8};
    static const uint32_t old[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct guest *g = *state;
    uint64_t pte = AT_PT64 + ((AT_DATA + 0x1000) >> 12) * 8;

    put(g, AT_DATA, 4, 0xa0);
    put(g, AT_DATA + 4, 4, 0xa2);
    put(g, AT_DATA + 8, 4, 0xa7);
    put(g, AT_DATA + 0x1000, 4, 0xa3);
    set_vector(g, 1, mask);
    set_vector(g, 2, old);
    set_vector(g, 3, index);
    unmap_page(g, AT_DATA + 0x1000);
    g->cpu.gpr[X86_RBX] = AT_DATA;
    g->may_progress = true;
    expect_fault(g, RUN(g, 0xc4, 0xe2, 0x75, 0x90, 0x14, 0x1b), X86_PF, 0);
    assert_int_equal(g->cpu.fault.cr2, AT_DATA + 0x1000);
    assert_int_equal(dword(g, 2, 0), 0xa0);
    assert_int_equal(dword(g, 2, 1), 2);
    assert_int_equal(dword(g, 2, 2), 0xa2);
    assert_int_equal(dword(g, 2, 3), 4);
    assert_int_equal(dword(g, 2, 7), 8);
    assert_int_equal(dword(g, 1, 0) | dword(g, 1, 1) | dword(g, 1, 2), 0);
    assert_int_equal(dword(g, 1, 3), 0x80000000);
    assert_int_equal(dword(g, 1, 7), 0x80000000);
    put(g, pte, 8, get(g, pte, 8) | 1);
    RUNS(g, 0xc4, 0xe2, 0x75, 0x90, 0x14, 0x1b);
    assert_int_equal(dword(g, 2, 3), 0xa3);
    assert_int_equal(dword(g, 2, 7), 0xa7);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(dword(g, 1, i), 0);
}

static void gather_needs_three_registers(void **state)
{
    struct guest *g = *state;
    struct insn insn = {.op = OP_GATHER,
                        .feature = FEAT_AVX2,
                        .mode = 64,
                        .len = 6,
                        .bytes = {0xc4, 0xe2, 0x75, 0x90, 0x14, 0x1b},
                        .opcode = 0x90,
                        .addrsize = 8,
                        .has_sib = 1,
                        .sib = 0x1b,
                        .mem = {.present = 1, .base = X86_RBX, .index = GPR_NONE, .seg = X86_DS}};
    static const uint8_t same[][2] = {{1, 1}, {3, 1}, {2, 3}}; /* target, mask; index is 3 */

    set_feature(g, FEAT_AVX2, true);
    for (unsigned i = 0; i < 3; i++) {
        insn.reg = same[i][0];
        insn.vex_vvvv = same[i][1];
        expect_fault(g, op_function(OP_GATHER)(&g->cpu, &insn), X86_UD, -1);
    }
}

static void masked_elements_cannot_fault(void **state)
{
    static const uint32_t low[8] = {0x80000000, 0x80000000, 0x80000000, 0x80000000};
    static const uint32_t all[8] = {0x80000000, 0x80000000, 0x80000000, 0x80000000, 0x80000000};
    static const uint32_t data[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct guest *g = *state;

    unmap_page(g, AT_DATA + 0x1000);
    put(g, AT_DATA + 0xff0, 8, 0);
    g->cpu.gpr[X86_RBX] = AT_DATA + 0xff0;
    set_vector(g, 1, low);
    set_vector(g, 2, data);
    RUNS(g, 0xc4, 0xe2, 0x75, 0x2e, 0x13); /* vmaskmovps [rbx], ymm1, ymm2 */
    assert_int_equal(get(g, AT_DATA + 0xffc, 4), 4);
    RUNS(g, 0xc4, 0xe2, 0x75, 0x2c, 0x13);
    assert_int_equal(dword(g, 2, 3), 4);
    assert_int_equal(dword(g, 2, 4), 0);
    set_vector(g, 1, all);
    set_vector(g, 2, data);
    put(g, AT_DATA + 0xff0, 8, 0);
    expect_fault(g, RUN(g, 0xc4, 0xe2, 0x75, 0x2e, 0x13), X86_PF, 2);
    assert_int_equal(get(g, AT_DATA + 0xff0, 8), 0); /* nothing was stored */
    expect_fault(g, RUN(g, 0xc4, 0xe2, 0x75, 0x2c, 0x13), X86_PF, 0);
    assert_int_equal(dword(g, 2, 0), 1);

    /* MASKMOVDQU xmm2, xmm1 checks them all (SDM vol. 2: it may). */
    g->cpu.gpr[X86_RDI] = AT_DATA + 0xff0;
    set_vector(g, 1, (const uint32_t[8]){0x80, 0x80});
    RUNS(g, 0x66, 0x0f, 0xf7, 0xd1);
    g->cpu.gpr[X86_RDI] = AT_DATA + 0xff1;
    expect_fault(g, RUN(g, 0x66, 0x0f, 0xf7, 0xd1), X86_PF, 2);

    /* MASKMOVQ left the x87 state alone; it is that of MMX before the operand is looked at. */
    xstate_park(&g->cpu);
    g->cpu.xsave[XS_FTW] = 0;
    g->cpu.gpr[X86_RDI] = AT_DATA + 0xffc;
    g->may_progress = true;
    expect_fault(g, RUN(g, 0x0f, 0xf7, 0xd1), X86_PF, 2);
    assert_int_equal(g->cpu.xsave[XS_FTW], 0xff);
}

static void availability(void **state)
{
    struct guest *g = *state;

    g->cpu.gpr[X86_RBX] = g->cpu.gpr[X86_RDI] = AT_DATA;
    g->cpu.cr0 |= X86_CR0_TS;
    FAULTS(g, X86_NM, -1, 0xc4, 0xe2, 0x75, 0x2c, 0x13);
    FAULTS(g, X86_NM, -1, 0x66, 0x0f, 0xf7, 0xd1);
    FAULTS(g, X86_NM, -1, 0x0f, 0xf7, 0xeb);
    FAULTS(g, X86_NM, -1, 0xc4, 0xe2, 0x75, 0x90, 0x14, 0x1b);
    g->cpu.cr0 ^= X86_CR0_TS | X86_CR0_EM;
    FAULTS_UD(g, 0x66, 0x0f, 0xf7, 0xd1);
    FAULTS_UD(g, 0x0f, 0xf7, 0xeb);
    g->cpu.cr0 &= ~(uint64_t)X86_CR0_EM;
    g->cpu.xcr0 = 3;
    FAULTS_UD(g, 0xc4, 0xe2, 0x75, 0x2c, 0x13);
    FAULTS_UD(g, 0xc4, 0xe2, 0x75, 0x90, 0x14, 0x1b);
    g->cpu.cr4 &= ~(uint64_t)X86_CR4_OSFXSR;
    FAULTS_UD(g, 0x66, 0x0f, 0xf7, 0xd1);
}

int main(void)
{
#define LONG(test) cmocka_unit_test_setup_teardown(test, setup_long, teardown)
    const struct CMUnitTest tests[] = {
        LONG(byte_masks),
        LONG(element_masks),
        LONG(gathers),
        LONG(gather_fault),
        LONG(gather_needs_three_registers),
        LONG(masked_elements_cannot_fault),
        LONG(availability),
    };

    if (!__builtin_cpu_supports("avx2"))
        return 77; /* nothing to compare with */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
