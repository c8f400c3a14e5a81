/*
 * Interrupts, NMI, HLT and interrupt shadows on the engine (SDM vol. 3, ch. 6): a guest that is
 * interrupted computes what it computes undisturbed, and nothing is taken early, late or twice.
 */
#include "tables.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { VECTOR = 0x40 };

/* --- interrupts from another thread at random moments --- */

/*
 * A checksum whose every step depends on flags, on DF and on vector state. ESI/RSI: iterations.
 * The handler destroys all flags and vector registers but what IRET and FXRSTOR bring back.
 */
#define CHECKSUM_32                                                                                \
    "fninit\n cld\n xor %ebx, %ebx\n mov $1, %ecx\n fld1\n fldz\n"                                 \
    "1: add %ecx, %ebx\n mov %ebx, 0x100000\n adc $0, %ebx\n push %ebx\n rcl $3, %ebx\n"           \
    "inc %ecx\n mov %ecx, 0x100004\n pop %edx\n jc 2f\n xor %edx, %ebx\n"                          \
    "2: sbb %eax, %eax\n lea (%ebx,%eax), %ebx\n cmp %ebx, %edx\n mov 0x100000, %edx\n"            \
    "seta 0x100008\n movzbl 0x100008, %eax\n add %eax, %ebx\n std\n mov $0x100004, %edi\n"         \
    "push %eax\n mov $5, %eax\n stosl\n pop %eax\n sub $0x100000, %edi\n add %edi, %ebx\n"         \
    "cld\n fadd %st(1)\n cvtsi2ss %ecx, %xmm3\n addss %xmm3, %xmm4\n call 3f\n"                    \
    "dec %esi\n jnz 1b\n fistpl 0x100010\n add 0x100010, %ebx\n movss %xmm4, 0x100010\n"           \
    "add 0x100010, %ebx\n cli\n hlt\n"                                                             \
    "3: stc\n push %ebp\n mov %esp, %ebp\n rcr $1, %ebx\n leave\n adc $7, %ebx\n ret\n"

GUEST_CODE(checksum32, 32, CHECKSUM_32);
GUEST_CODE(handler32, 32,
           "push %eax\n push %ebp\n mov %esp, %ebp\n sub $528, %esp\n and $-16, %esp\n"
           "fxsave (%esp)\n fninit\n fldpi\n xorps %xmm3, %xmm3\n movaps %xmm3, %xmm4\n"
           "in $3, %al\n incl 0x100100\n fxrstor (%esp)\n mov $0x7fffffff, %eax\n add %eax, %eax\n"
           "std\n mov %ebp, %esp\n pop %ebp\n pop %eax\n iret");

#define CHECKSUM_64                                                                                \
    "fninit\n cld\n xor %ebx, %ebx\n mov $1, %r9d\n mov $0x100000, %r10\n fld1\n fldz\n"           \
    "1: add %r9, %rbx\n mov %rbx, (%r10)\n adc $0, %rbx\n push %rbx\n rcl $3, %rbx\n"              \
    "inc %r9\n mov %r9, 8(%r10)\n pop %rdx\n jc 2f\n xor %rdx, %rbx\n"                             \
    "2: sbb %r8, %r8\n lea (%rbx,%r8), %rbx\n cmp %rbx, %rdx\n mov (%r10), %r11\n"                 \
    "seta 16(%r10)\n movzbl 16(%r10), %eax\n add %rax, %rbx\n xor %r11, %rbx\n"                    \
    "std\n lea 8(%r10), %rdi\n mov $5, %eax\n stosq\n sub %r10, %rdi\n add %rdi, %rbx\n"           \
    "cld\n fadd %st(1)\n vcvtsi2ss %r9, %xmm3, %xmm3\n vaddss %xmm3, %xmm14, %xmm14\n call 3f\n"   \
    "dec %rsi\n jnz 1b\n fistpll 24(%r10)\n add 24(%r10), %rbx\n movss %xmm14, 24(%r10)\n"         \
    "add 24(%r10), %rbx\n cli\n hlt\n"                                                             \
    "3: stc\n push %rbp\n mov %rsp, %rbp\n rcr $1, %rbx\n leave\n adc $7, %rbx\n ret\n"

GUEST_CODE(checksum64, 64, CHECKSUM_64);
GUEST_CODE(handler64, 64,
           "push %rax\n push %r10\n push %rbp\n mov %rsp, %rbp\n sub $528, %rsp\n and $-16, %rsp\n"
           "fxsave64 (%rsp)\n fninit\n fldpi\n xorps %xmm3, %xmm3\n movaps %xmm3, %xmm14\n"
           "in $3, %al\n mov $0x100100, %r10\n incl (%r10)\n fxrstor64 (%rsp)\n"
           "mov $0x7fffffff, %eax\n add %eax, %eax\n std\n mov %rbp, %rsp\n pop %rbp\n pop %r10\n"
           "pop %rax\n iretq");

#define CHECKSUM_16                                                                                \
    "cld\n xor %bx, %bx\n mov $1, %cx\n mov $0x3000, %ax\n mov %ax, %ds\n mov %ax, %es\n"          \
    "1: add %cx, %bx\n mov %bx, 0\n adc $0, %bx\n push %bx\n rcl $3, %bx\n inc %cx\n"              \
    "mov %cx, 4\n pop %dx\n jc 2f\n xor %dx, %bx\n2: sbb %ax, %ax\n add %ax, %bx\n cmp %bx, %dx\n" \
    "mov 0, %dx\n seta 8\n add 8, %bl\n std\n mov $4, %di\n mov $5, %ax\n stosw\n add %di, %bx\n"  \
    "cld\n call 3f\n dec %esi\n jnz 1b\n cli\n hlt\n"                                              \
    "3: stc\n push %bp\n mov %sp, %bp\n rcr $1, %bx\n leave\n adc $7, %bx\n ret\n"

GUEST_CODE(checksum16, 16, CHECKSUM_16);
GUEST_CODE(handler16, 16,
           "push %ax\n push %ds\n mov $0x3000, %ax\n mov %ax, %ds\n incl 0x100\n pop %ds\n"
           "in $3, %al\n mov $0x7fff, %ax\n add %ax, %ax\n std\n pop %ax\n iret");

struct shooter {
    struct guest *g;
    volatile bool stop;
    unsigned seed;
};

static void *shoot(void *arg)
{
    struct shooter *shooter = arg;
    struct guest *g = shooter->g;
    while (!shooter->stop) {
        for (unsigned n = (unsigned)rand_r(&shooter->seed) % 3000; n; n--)
            __builtin_ia32_pause();
        if (g->vector >= 0)
            continue; /* not taken yet */
        g->vector = VECTOR;
        engine_bt.vcpu_interrupt(g->vcpu);
    }
    return NULL;
}

enum { HANDLER = 0x14000, ITERATIONS = 300000 };

struct checksum {
    unsigned bits;
    const uint8_t *code, *end, *handler, *handler_end;
};

/* The guest's checksum; *handled: interrupts that its handler has seen. */
static uint64_t checksum_run(const struct checksum *test, bool disturbed, unsigned *handled)
{
    struct guest g;
    unsigned bits = test->bits;
    guest_create(&g, bits);
    guest_make_tables(&g, bits);
    as_write(g.as, HANDLER, test->handler, (size_t)(test->handler_end - test->handler));
    guest_set_gate(&g, bits, VECTOR, bits == 16 ? HANDLER - CODE : HANDLER, 0);
    guest_place(&g, test->code, test->end);
    g.state.gpr[X86_RSI] = ITERATIONS;
    g.state.iflag = 1;
    struct shooter shooter = {.g = &g, .seed = *handled};
    pthread_t thread;
    if (disturbed)
        assert_int_equal(pthread_create(&thread, NULL, shoot, &shooter), 0);
    enum vcpu_exit exit = guest_run(&g);
    shooter.stop = true;
    if (disturbed)
        pthread_join(thread, NULL);
    assert_int_equal(exit, VCPU_EXIT_HALT);
    unsigned seen = guest_read32(&g, (bits == 16 ? 0x30000 : DATA) + 0x100);
    assert_int_equal(seen, g.acknowledged);
    *handled += seen;
    uint64_t sum = g.state.gpr[X86_RBX];
    guest_destroy(&g);
    return sum;
}

static void checksum_test(const struct checksum *test)
{
    unsigned handled = 0;
    time_t start = time(NULL);
    uint64_t expected = checksum_run(test, false, &handled);
    assert_int_equal(handled, 0);
    while (handled < 100 || (handled < 3000 && time(NULL) - start < 5))
        assert_true(checksum_run(test, true, &handled) == expected);
    print_message("%u bits: %u interrupts\n", test->bits, handled);
}

#define CHECKSUM(bits)                                                                             \
    {                                                                                              \
        bits, checksum##bits, checksum##bits##_end, handler##bits, handler##bits##_end             \
    }

static void test_random_interrupts(void **state)
{
    (void)state;
    static const struct checksum tests[] = {CHECKSUM(16), CHECKSUM(32), CHECKSUM(64)};
    for (unsigned i = 0; i < 3; i++)
        checksum_test(&tests[i]);
}

/* --- when an interrupt is taken --- */

struct shadow_case {
    const char *name;
    const uint8_t *code, *end, *handler;
    uint32_t ecx; /* at which the interrupt has to come */
};

/* Counts in ECX; the handler notes ECX, counts interrupts and returns with IF clear. */
#define SHADOW_CODE(name, ...)                                                                     \
    extern const uint8_t name##_handler[];                                                         \
    GUEST_CODE(name, 32,                                                                           \
               "xor %ecx, %ecx\n" __VA_ARGS__ "\n hlt\n .balign 16\n" #name                        \
               "_handler: mov %ecx, 0x100000\n"                                                    \
               "incl 0x100004\n andb $0xfd, 9(%esp)\n iret\n")

SHADOW_CODE(sti_plain, "sti\n inc %ecx\n inc %ecx\n inc %ecx\n jmp 1f\n 1:");
SHADOW_CODE(sti_twice, "sti\n sti\n inc %ecx\n inc %ecx\n jmp 1f\n 1:");
SHADOW_CODE(sti_cli, "sti\n cli\n inc %ecx\n jmp 1f\n1: inc %ecx\n sti\n inc %ecx\n inc %ecx");
SHADOW_CODE(sti_nop_cli, "1: inc %ecx\n sti\n nop\n cli\n cmp $1000, %ecx\n jne 1b");
SHADOW_CODE(sti_push, "sti\n push %eax\n inc %ecx\n pop %eax\n inc %ecx\n jmp 1f\n 1:");
SHADOW_CODE(sti_callout, "sti\n in $3, %al\n inc %ecx\n jmp 1f\n 1: inc %ecx");
SHADOW_CODE(sti_branch, "sti\n jmp 1f\n .balign 64\n 1: inc %ecx\n inc %ecx");
SHADOW_CODE(sti_mov_ss, "mov %ss, %eax\n sti\n mov %eax, %ss\n inc %ecx\n inc %ecx\n inc %ecx");
SHADOW_CODE(sti_pop_ss, "push %ss\n sti\n pop %ss\n inc %ecx\n inc %ecx\n inc %ecx");
SHADOW_CODE(popf_plain, "pushf\n orl $0x200, (%esp)\n popf\n inc %ecx\n inc %ecx");
SHADOW_CODE(iret_plain, "pushf\n orl $0x200, (%esp)\n push %cs\n push $0x10000 + 1f - iret_plain\n"
                        "iret\n inc %ecx\n 1: inc %ecx\n inc %ecx");
SHADOW_CODE(sti_hlt, "mov $7, %ecx\n sti\n hlt\n inc %ecx");

static void shadow_run(const struct shadow_case *test)
{
    struct guest g;
    guest_create(&g, 32);
    guest_make_tables(&g, 32);
    guest_place(&g, test->code, test->end);
    GUEST_GATE(&g, 32, VECTOR, test->code, test->handler);
    g.vector = VECTOR;
    g.state.exit_async = 1;
    enum vcpu_exit exit = guest_run(&g);
    if (exit != VCPU_EXIT_HALT || guest_read32(&g, DATA + 4) != 1 ||
        guest_read32(&g, DATA) != test->ecx)
        fail_msg("%s: exit %u, %u interrupts, at ECX = %#x", test->name, exit,
                 guest_read32(&g, DATA + 4), guest_read32(&g, DATA));
    guest_destroy(&g);
}

static void test_shadows(void **state)
{
    (void)state;
#define CASE(name, ecx)                                                                            \
    {                                                                                              \
#name, name, name##_end, name##_handler, ecx                                               \
    }
    static const struct shadow_case cases[] = {
        CASE(sti_twice, 0),  CASE(sti_cli, 3),     CASE(sti_nop_cli, 1), CASE(sti_plain, 1),
        CASE(sti_push, 0),   CASE(sti_callout, 0), CASE(sti_branch, 0),  CASE(sti_mov_ss, 1),
        CASE(sti_pop_ss, 1), CASE(popf_plain, 0),  CASE(iret_plain, 0),  CASE(sti_hlt, 7),
    };
#undef CASE
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        shadow_run(&cases[i]);
    }
}

/* --- interrupts that an instruction causes --- */

SHADOW_CODE(out_then_cli, "sti\n nop\n inc %ecx\n out %al, $1\n cli\n inc %ecx");
SHADOW_CODE(outs_then_cli, "sti\n nop\n inc %ecx\n cld\n mov $0x100010, %esi\n mov $1, %edx\n"
                           "outsb\n cli\n inc %ecx");
SHADOW_CODE(sti_out_cli, "inc %ecx\n sti\n out %al, $1\n cli\n inc %ecx");

static void request_interrupt(struct guest *g, uint16_t port, uint64_t value)
{
    (void)value;
    if (port == 1) {
        g->vector = VECTOR;
        engine_bt.vcpu_interrupt(g->vcpu);
    }
}

/* A device that answers OUT with an interrupt is heard before the next instruction. */
static void test_interrupt_before_next_instruction(void **state)
{
    (void)state;
    static const struct shadow_case cases[] = {
        {"out_then_cli", out_then_cli, out_then_cli_end, out_then_cli_handler, 1},
        {"outs_then_cli", outs_then_cli, outs_then_cli_end, outs_then_cli_handler, 1},
        {"sti_out_cli", sti_out_cli, sti_out_cli_end, sti_out_cli_handler, 1},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct guest g;
        guest_create(&g, 32);
        guest_make_tables(&g, 32);
        guest_place(&g, cases[i].code, cases[i].end);
        GUEST_GATE(&g, 32, VECTOR, cases[i].code, cases[i].handler);
        g.on_port = request_interrupt;
        assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
        if (guest_read32(&g, DATA + 4) != 1 || guest_read32(&g, DATA) != cases[i].ecx)
            fail_msg("%s: %u interrupts, at ECX = %u", cases[i].name, guest_read32(&g, DATA + 4),
                     guest_read32(&g, DATA));
        guest_destroy(&g);
    }
}

/* --- HLT --- */

extern const uint8_t halt32_handler[];
GUEST_CODE(
    halt32, 32,
    "mov $3, %ecx\n 1: hlt\n dec %ecx\n jnz 1b\n mov $77, %ebx\n cli\n hlt\n inc %ebx\n hlt\n"
    "halt32_handler: incl 0x100000\n iret");

static void wake(struct guest *g)
{
    g->vector = VECTOR;
    engine_bt.vcpu_interrupt(g->vcpu);
}

/* Runs on without loading state. */
static enum vcpu_exit go_on(struct guest *g)
{
    struct vd_error err;
    enum vcpu_exit exit = engine_bt.vcpu_run(g->vcpu, &err);
    engine_bt.vcpu_get_state(g->vcpu, &g->state);
    return exit;
}

static void test_halt(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 32);
    guest_make_tables(&g, 32);
    GUEST_GATE(&g, 32, VECTOR, halt32, halt32_handler);
    GUEST_GATE(&g, 32, X86_NMI, halt32, halt32_handler);
    guest_place(&g, halt32, halt32_end);
    g.state.iflag = 1;
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    for (unsigned i = 1; i <= 3; i++) {
        assert_int_equal(g.state.halted, 1);
        assert_int_equal(g.state.gpr[X86_RCX], 4 - i);
        assert_int_equal(go_on(&g), VCPU_EXIT_HALT); /* a spurious wake-up changes nothing */
        assert_int_equal(g.state.gpr[X86_RCX], 4 - i);
        wake(&g);
        assert_int_equal(go_on(&g), VCPU_EXIT_HALT);
        assert_int_equal(guest_read32(&g, DATA), i);
    }
    /* Halted with IF clear: an interrupt does not wake, an NMI does. */
    assert_int_equal(g.state.gpr[X86_RBX], 77);
    wake(&g);
    assert_int_equal(go_on(&g), VCPU_EXIT_HALT);
    assert_int_equal(g.state.gpr[X86_RBX], 77);
    assert_int_equal(guest_read32(&g, DATA), 3);
    engine_bt.vcpu_nmi(g.vcpu);
    assert_int_equal(go_on(&g), VCPU_EXIT_HALT);
    assert_int_equal(g.state.gpr[X86_RBX], 78);
    assert_int_equal(guest_read32(&g, DATA), 4);
    guest_destroy(&g);
}

/* --- NMI --- */

/* The handler asks for another NMI (port 1), which must wait for its IRET. */
extern const uint8_t nmi32_handler[];
GUEST_CODE(nmi32, 32,
           "mov $0x10, %eax\n mov %eax, %ss\n inc %ecx\n inc %ecx\n out %al, $1\n inc %ecx\n"
           "jmp 1f\n 1: inc %ecx\n hlt\n jmp .-1\n"
           "nmi32_handler: mov 0x100000, %eax\n mov %ecx, 0x100010(,%eax,4)\n incl 0x100000\n"
           "cmpl $4, 0x100000\n jae 2f\n out %al, $1\n mov $100000, %eax\n 3: dec %eax\n jnz 3b\n"
           "incl 0x100004\n mov 0x100000, %eax\n cmp 0x100004, %eax\n je 2f\n movl $1, 0x100008\n"
           "2: iret");

static void request_nmi(struct guest *g, uint16_t port, uint64_t value)
{
    (void)value;
    if (port == 1)
        engine_bt.vcpu_nmi(g->vcpu);
}

static void test_nmi(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 32);
    guest_make_tables(&g, 32);
    GUEST_GATE(&g, 32, X86_NMI, nmi32, nmi32_handler);
    guest_place(&g, nmi32, nmi32_end);
    g.on_port = request_nmi;
    g.state.gpr[X86_RCX] = 0;
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    assert_int_equal(guest_read32(&g, DATA), 4);     /* one asked for by the program, three by it */
    assert_int_equal(guest_read32(&g, DATA + 8), 0); /* none came nested */
    assert_int_equal(guest_read32(&g, DATA + 16), 2);
    for (unsigned i = 1; i < 4; i++) /* back to back: nothing runs in between */
        assert_in_range(guest_read32(&g, DATA + 16 + 4 * i), guest_read32(&g, DATA + 16),
                        guest_read32(&g, DATA + 16) + 1);
    guest_destroy(&g);
}

/* An NMI that arrives in the shadow of MOV SS comes one instruction later, not never. */
extern const uint8_t nmi_shadow32_handler[];
GUEST_CODE(nmi_shadow32, 32,
           "inc %ecx\n inc %ecx\n mov $100000, %eax\n 1: dec %eax\n jnz 1b\n cli\n hlt\n jmp .\n"
           "nmi_shadow32_handler: mov %ecx, 0x100000\n incl 0x100004\n iret");

static void test_nmi_in_shadow(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 32);
    guest_make_tables(&g, 32);
    GUEST_GATE(&g, 32, X86_NMI, nmi_shadow32, nmi_shadow32_handler);
    guest_place(&g, nmi_shadow32, nmi_shadow32_end);
    g.state.gpr[X86_RCX] = 0;
    g.state.shadow = X86_SHADOW_MOV_SS;
    g.state.nmi_pending = 1;
    g.state.exit_async = 1;
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    assert_int_equal(guest_read32(&g, DATA + 4), 1);
    assert_int_equal(guest_read32(&g, DATA), 1);
    guest_destroy(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_interrupts),
        cmocka_unit_test(test_shadows),
        cmocka_unit_test(test_interrupt_before_next_instruction),
        cmocka_unit_test(test_halt),
        cmocka_unit_test(test_nmi),
        cmocka_unit_test(test_nmi_in_shadow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
