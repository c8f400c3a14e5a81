/*
 * R8 to R11 live in memory while translated code runs, but for instructions in a row that use them:
 * one chain of those, here and in the guest, from many values.
 */
#include "guest.h"

#include <string.h>

enum { RUNS = 2000, ARITHMETIC_FLAGS = 0x8d5 }; /* all of them are defined at the end */

/* Pairs in every order and size; what comes between them must not be taken for a pair. */
#define CHAIN                                                                                      \
    "add %r8, %r9\n sub %r9, %r8\n xor %r8, %r9\n mov %r9, %r10\n add %r10, %r8\n"                 \
    "mov %ax, %r8w\n add %r8, %rax\n inc %r9b\n add %r9d, %eax\n mov %r10d, %r10d\n"               \
    "add %r10, %rcx\n xchg %r8, %r9\n xchg %r9, %r10\n add %r10, %r9\n add %r8, %r10\n"            \
    "bswap %r11\n xor %r11, %r8\n lea (%r8, %r11), %r9\n lea 8(%r9, %r9), %r8\n"                   \
    "add $1, %r10\n cmovc %r10, %r11\n adc %r11, %r10\n sbb %r10, %r11\n"                          \
    "cmp %r8, %r9\n setb %r8b\n movzbl %r8b, %r9d\n imul %r9, %r8\n imul $7, %r8, %r11\n"          \
    "mov %r11, -8(%rsp)\n add %r11, -8(%rsp)\n mov -8(%rsp), %r11\n add %r11, %r10\n"              \
    "push %r10\n pop %r8\n add %r8, %r11\n movsbq %r11b, %r11\n sub %r11, %r9\n"                   \
    "xadd %r9, %r10\n xadd %r10, %r8\n cmpxchg %r8, %r9\n cmpxchg %r9, %r9\n"                      \
    "shl %cl, %r8\n shrd $5, %r8, %r9\n rol $9, %r9\n mulx %r9, %r8, %r10\n"                       \
    "andn %r8, %r10, %r9\n shlx %r9, %r10, %r11\n add %r11, %r10\n xor %r10, %rdx\n"               \
    "mov $12345, %r8d\n add %r8, %r9\n mov %r9, %rbx\n mov %rbx, %r9\n add %r9, %r11\n"            \
    "mov %ah, %bl\n add %r11, %rbx\n movq %r11, %xmm0\n add %r11, %rsi\n movq %xmm0, %r8\n"        \
    "mov %r8d, %r9d\n shl $3, %r9d\n mov %ecx, %eax\n sub %r9d, %eax\n movzwl %ax, %r8d\n"         \
    "imul %rdx, %rcx\n shr %cl, %rcx\n adc %r8, %r9\n cld\n add %r9, %r8\n"                        \
    "mov %rdi, %rsi\n add %r9, %r8\n lea (%rax, %rcx), %rdx\n sub %r8, %r9\n"                      \
    "add %r8, %rdi\n nop\n add %rdi, %r8\n jmp 1f\n 1: add %r8, %r9\n test %r9, %r9\n jz 2f\n"     \
    "add %r9, %r10\n 2: add %r10, %r11\n cmp %r11, %r10\n"

GUEST_CODE(chain, 64, CHAIN "hlt");

/* The same here: general registers but RSP and RBP are loaded and stored in the order of gpr[]. */
uint64_t chain_here(uint64_t *gpr); /* returns RFLAGS */
__asm__(".pushsection .text\n chain_here:\n push %rbx\n push %rbp\n mov %rdi, %rbp\n"
        "mov (%rbp), %rax\n mov 8(%rbp), %rcx\n mov 16(%rbp), %rdx\n mov 24(%rbp), %rbx\n"
        "mov 48(%rbp), %rsi\n mov 56(%rbp), %rdi\n mov 64(%rbp), %r8\n mov 72(%rbp), %r9\n"
        "mov 80(%rbp), %r10\n mov 88(%rbp), %r11\n" CHAIN
        "mov %rax, (%rbp)\n mov %rcx, 8(%rbp)\n mov %rdx, 16(%rbp)\n mov %rbx, 24(%rbp)\n"
        "mov %rsi, 48(%rbp)\n mov %rdi, 56(%rbp)\n mov %r8, 64(%rbp)\n mov %r9, 72(%rbp)\n"
        "mov %r10, 80(%rbp)\n mov %r11, 88(%rbp)\n pushf\n pop %rax\n pop %rbp\n pop %rbx\n ret\n"
        ".popsection");

static void set_registers(uint64_t *gpr, uint64_t *seed)
{
    for (unsigned i = 0; i < 12; i++) {
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        if (i != X86_RSP && i != X86_RBP)
            gpr[i] = *seed >> (*seed >> 58);
    }
}

static void test_chain(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 64);
    uint64_t seed = 1;
    for (unsigned run = 0; run < RUNS; run++) {
        uint64_t gpr[16];
        set_registers(g.state.gpr, &seed);
        memcpy(gpr, g.state.gpr, sizeof(gpr));
        uint64_t flags = chain_here(gpr);
        guest_exec(&g, chain);
        for (unsigned i = 0; i < 12; i++) {
            if (g.state.gpr[i] != gpr[i])
                fail_msg("run %u: register %u is %#llx, should be %#llx", run, i,
                         (unsigned long long)g.state.gpr[i], (unsigned long long)gpr[i]);
        }
        assert_int_equal(g.state.aflags & ARITHMETIC_FLAGS, flags & ARITHMETIC_FLAGS);
    }
    guest_destroy(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_chain)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
