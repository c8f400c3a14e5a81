/*
 * Translated code and pages that share a place in the soft TLB: victims are found, and are what the
 * page tables say.
 */
#include "engine/bt/bt.h"
#include "tables.h"

enum {
    DIRECTORY = 0x200000,
    TABLES = 0x201000, /* one for each region of 4 MiB */
    RIVALS = 3,        /* regions; page 256 of each, and the one behind it */
    PAGE_NUMBER = 256,
    FRAMES = 0x300000, /* of region i: 2 * i, and far from it for the second page */
    NEXT_FRAMES = FRAMES + 0x7000,
    OTHER_FRAME = 0x310000,
    ROUNDS = 1000,
    PRESENT_WRITE = 3,
};

static void make_paging(struct guest *g)
{
    for (uint32_t i = 0; i < RIVALS; i++) {
        uint32_t table = TABLES + 0x1000 * i;
        guest_write32(g, DIRECTORY + 4 * i, table | PRESENT_WRITE);
        for (uint32_t page = 0; page < 1024 && i == 0; page++)
            guest_write32(g, table + 4 * page, page << 12 | PRESENT_WRITE);
        guest_write32(g, table + 4 * PAGE_NUMBER, (FRAMES + 0x2000 * i) | PRESENT_WRITE);
        guest_write32(g, table + 4 * PAGE_NUMBER + 4, (NEXT_FRAMES + 0x1000 * i) | PRESENT_WRITE);
    }
    g->state.cr3 = DIRECTORY;
    g->state.cr0 |= X86_CR0_PG | X86_CR0_WP;
}

/*
 * ESI points to the first rival. Adds up what it reads, by address in a register, by constant
 * address, across the page's end and by a stack window, and writes through two of them.
 */
GUEST_CODE(
    rivals, 32,
    "mov $0x100000, %esi\n mov $1000, %ecx\n xor %ebx, %ebx\n"
    "1: mov (%esi), %eax\n add 0x400000(%esi), %eax\n add 0x800000(%esi), %eax\n"
    "add 0x500008, %eax\n add 0x900008, %eax\n add 0x100008, %eax\n"
    "add 0xffe(%esi), %eax\n add 0x400ffd(%esi), %eax\n add 0x800fff(%esi), %eax\n"
    "incl 0x400020(%esi)\n incl 0x800024(%esi)\n"
    "mov %esp, %ebp\n lea 0x800100(%esi), %esp\n push %ecx\n push %eax\n pop %edx\n pop %edi\n"
    "mov %ebp, %esp\n add %edx, %ebx\n add %edi, %ebx\n dec %ecx\n jnz 1b\n hlt");

/* Another frame for the second rival in every round, while it is a victim. */
GUEST_CODE(remapped, 32,
           "mov $0x100000, %esi\n mov $1000, %ecx\n xor %ebx, %ebx\n"
           "1: add 0x400000(%esi), %ebx\n add (%esi), %ebx\n add 0x800000(%esi), %ebx\n"
           "xorl $0x12000, 0x202400\n invlpg 0x400000(%esi)\n"
           "dec %ecx\n jnz 1b\n hlt");

static uint32_t *word(struct guest *g, uint32_t gpa)
{
    return (uint32_t *)(void *)(g->ram + gpa);
}

static void create(struct guest *g)
{
    guest_create(g, 32);
    make_paging(g);
    for (uint32_t i = 0; i < 10 * 1024; i++)
        *word(g, FRAMES + 4 * i) = i * 0x9e3779b1u;
    *word(g, OTHER_FRAME) = 0x1234567;
}

/* 4 bytes from a place on that many bytes before the end of a rival's page */
static uint32_t crossing(const struct guest *g, uint32_t rival, uint32_t before)
{
    uint32_t value = 0;
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t gpa = i < before ? FRAMES + 0x2000 * rival + 0x1000 - before + i
                                  : NEXT_FRAMES + 0x1000 * rival + i - before;
        value |= (uint32_t)g->ram[gpa] << 8 * i;
    }
    return value;
}

static void test_rivals(void **state)
{
    (void)state;
    struct guest g;
    create(&g);
    uint32_t sum = 0, expected = 0;
    for (uint32_t i = 0; i < RIVALS; i++) {
        static const uint32_t before[RIVALS] = {2, 3, 1};
        uint32_t frame = FRAMES + 0x2000 * i;
        sum += *word(&g, frame) + *word(&g, frame + 8) + crossing(&g, i, before[i]);
    }
    for (uint32_t i = 1; i <= ROUNDS; i++)
        expected += sum + i;
    uint32_t first = *word(&g, FRAMES + 0x2020), second = *word(&g, FRAMES + 0x4024);
    guest_exec(&g, rivals);
    assert_int_equal((uint32_t)g.state.gpr[X86_RBX], expected);
    assert_int_equal(*word(&g, FRAMES + 0x2020), first + ROUNDS);
    assert_int_equal(*word(&g, FRAMES + 0x4024), second + ROUNDS);
    assert_in_range(g.vcpu->stats.tlb_victim_hits, ROUNDS, UINT64_MAX);
    guest_destroy(&g);
}

static void test_remapped_rivals(void **state)
{
    (void)state;
    struct guest g;
    create(&g);
    uint32_t expected = 0;
    for (uint32_t i = 0; i < ROUNDS; i++)
        expected += *word(&g, FRAMES) + *word(&g, FRAMES + 0x4000) +
                    *word(&g, i & 1 ? OTHER_FRAME : FRAMES + 0x2000);
    guest_exec(&g, remapped);
    assert_int_equal((uint32_t)g.state.gpr[X86_RBX], expected);
    guest_destroy(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rivals),
        cmocka_unit_test(test_remapped_rivals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
