/* The translating engine on small guest programs; expected values follow from the programs
 * themselves. */
#include "guest.h"

#include <string.h>

GUEST_CODE(loop32, 32,
           "mov $0, %eax\n mov $1000, %ecx\n 1: add %ecx, %eax\n dec %ecx\n jnz 1b\n hlt");

static void test_loop(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 32);
    guest_exec(&g, loop32);
    assert_int_equal(g.state.gpr[X86_RAX], 500500);
    guest_destroy(&g);
}

GUEST_CODE(calls64, 64,
           "mov $20, %edi\n call 1f\n hlt\n"
           "1: cmp $2, %edi\n jb 2f\n push %rbx\n push %rdi\n dec %edi\n call 1b\n mov %rax, %rbx\n"
           "pop %rdi\n sub $2, %edi\n call 1b\n add %rbx, %rax\n pop %rbx\n ret\n"
           "2: mov %edi, %eax\n ret");

static void test_recursion(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 64);
    guest_exec(&g, calls64);
    assert_int_equal(g.state.gpr[X86_RAX], 6765);
    assert_int_equal(g.state.gpr[X86_RSP], STACK);
    guest_destroy(&g);
}

GUEST_CODE(registers64, 64,
           "mov $0x1111111111111111, %r9\n mov $0x2222222222222222, %r10\n"
           "mov $0x100000, %r11\n mov %r9, (%r11)\n mov %r10, 8(%r11)\n lea (%r9,%r10), %r12\n"
           "mov $8, %r9d\n mov (%r11,%r9), %r13\n xchg %r10, %r11\n mov (%r10), %r14\n"
           "movb $0x5a, %ah\n mov %r10, %rsi\n mov %ah, 16(%rsi)\n movzbl 16(%r10), %r15d\n"
           "push %r9\n pop %rbx\n push 8(%r10)\n pop 24(%r10)\n mov 24(%r10), %rsi\n"
           "mov %rsp, %rdi\n bts %r9, 32(%r10)\n mov 32(%r10), %rdx\n andn %r10, %r9, %r8\n hlt");

static void test_memory_registers(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 64);
    guest_exec(&g, registers64);
    const uint64_t *r = g.state.gpr;
    assert_true(r[X86_R12] == 0x3333333333333333);
    assert_true(r[X86_R13] == 0x2222222222222222);
    assert_true(r[X86_R14] == 0x1111111111111111);
    assert_true(r[X86_R11] == 0x2222222222222222);
    assert_int_equal(r[X86_R15], 0x5a);
    assert_int_equal(r[X86_RBX], 8);
    assert_true(r[X86_RSI] == 0x2222222222222222);
    assert_int_equal(r[X86_RDI], STACK);
    assert_int_equal(r[X86_RDX], 256);
    assert_int_equal(r[X86_R8], DATA & ~8);
    guest_destroy(&g);
}

GUEST_CODE(
    flags32, 32,
    /* carry must survive loads, stores and pushes between producer and consumer */
    "mov $0x100000, %esi\n stc\n mov %eax, (%esi)\n push %eax\n mov (%esi), %ebx\n pop %ecx\n"
    "adc $0, %edx\n mov $0x7fffffff, %eax\n add $1, %eax\n mov %eax, 4(%esi)\n"
    "seto 8(%esi)\n mov 8(%esi), %edi\n pushf\n pop %ebp\n hlt");

static void test_flags_survive_memory(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 32);
    g.state.gpr[X86_RDX] = 5;
    guest_exec(&g, flags32);
    assert_int_equal(g.state.gpr[X86_RDX], 6);
    assert_int_equal(g.state.gpr[X86_RDI], 1);
    assert_int_equal(g.state.gpr[X86_RBP] & 0x8d5, 0x894); /* OF SF AF PF */
    guest_destroy(&g);
}

GUEST_CODE(
    real16, 16,
    "mov $0x2000, %ax\n mov %ax, %ds\n mov %ax, %es\n mov $0xfffe, %si\n"
    "movw $0x1234, (%si)\n mov $0x20, %cx\n mov $0x100, %di\n cld\n mov $0xab, %al\n rep stosb\n"
    "mov $3, %cx\n xor %bx, %bx\n 1: inc %bx\n loop 1b\n call 2f\n mov (%si), %dx\n hlt\n"
    "2: push %cs\n call 3f\n ret\n 3: mov $77, %bp\n lret");

static void test_real_mode(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 16);
    guest_exec(&g, real16);
    assert_int_equal(g.state.gpr[X86_RBX] & 0xffff, 3);
    assert_int_equal(g.state.gpr[X86_RBP] & 0xffff, 77);
    assert_int_equal(g.state.gpr[X86_RDX] & 0xffff, 0x1234);
    assert_int_equal(g.ram[0x20100], 0xab);
    assert_int_equal(g.ram[0x2011f], 0xab);
    assert_int_equal(g.ram[0x20120], 0);
    assert_int_equal(g.ram[0x2fffe], 0x34);
    guest_destroy(&g);
}

GUEST_CODE(smc32, 32,
           "mov $0x10000, %esi\n mov $10, %ecx\n xor %ebx, %ebx\n"
           "1: movl $0, %eax\n add %eax, %ebx\n incl 1b+1-smc32(%esi)\n dec %ecx\n jnz 1b\n hlt");

static void test_self_modifying(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 32);
    guest_exec(&g, smc32);
    assert_int_equal(g.state.gpr[X86_RBX], 45);
    guest_destroy(&g);
}

GUEST_CODE(
    crossing32, 32,
    "mov $0x100ffe, %esi\n movl $0x11223344, (%esi)\n mov (%esi), %eax\n addl $1, (%esi)\n"
    "mov (%esi), %ebx\n mov $0x101002, %esp\n push %ebx\n pop %edx\n movups %xmm0, -8(%esi)\n hlt");

static void test_page_crossing(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 32);
    guest_exec(&g, crossing32);
    assert_int_equal(g.state.gpr[X86_RAX], 0x11223344);
    assert_int_equal(g.state.gpr[X86_RBX], 0x11223345);
    assert_int_equal(g.state.gpr[X86_RDX], 0x11223345);
    guest_destroy(&g);
}

GUEST_CODE(vector64, 64,
           "mov $0x100000, %esi\n movl $0x40490fdb, (%rsi)\n vbroadcastss (%rsi), %ymm1\n"
           "vaddps %ymm1, %ymm1, %ymm2\n vmovups %ymm2, 32(%rsi)\n in $3, %al\n"
           "vmovups %ymm1, 64(%rsi)\n fninit\n fldpi\n fld1\n faddp\n fstps 96(%rsi)\n hlt");

static void test_vector_state(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 64);
    guest_exec(&g, vector64);
    float f[8];
    memcpy(f, g.ram + DATA + 32, sizeof(f));
    assert_true(f[7] > 6.283f && f[7] < 6.284f);
    memcpy(f, g.ram + DATA + 64, sizeof(f));
    assert_true(f[7] > 3.141f && f[7] < 3.142f);
    memcpy(f, g.ram + DATA + 96, sizeof(f));
    assert_true(f[0] > 4.141f && f[0] < 4.142f);
    guest_destroy(&g);
}

GUEST_CODE(ports32, 32, "mov $0xa5, %al\n out %al, $7\n xor %eax, %eax\n in $7, %al\n hlt");

static void test_ports(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 32);
    guest_exec(&g, ports32);
    assert_int_equal(g.state.gpr[X86_RAX], 0xa5);
    guest_destroy(&g);
}

GUEST_CODE(divide32, 32, "xor %ecx, %ecx\n div %ecx\n hlt");

static void test_shutdown(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 32); /* no IDT: the fault becomes a triple fault */
    g.state.idtr.limit = 0;
    guest_place(&g, divide32, divide32_end);
    assert_int_equal(guest_run(&g), VCPU_EXIT_SHUTDOWN);
    assert_int_equal(g.state.rip, CODE + 2);
    guest_destroy(&g);
}

GUEST_CODE(ferr32, 32,
           "mov $0x100000, %esi\n fninit\n movw $0x37b, (%esi)\n fldcw (%esi)\n fld1\n fldz\n"
           "fdivrp\n nop\n fwait\n hlt");

/* With CR0.NE clear an unmasked x87 exception raises FERR#, and the waiting instruction waits. */
static void test_ferr(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 32);
    g.state.cr0 &= ~(uint64_t)X86_CR0_NE;
    guest_place(&g, ferr32, ferr32_end);
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICK);
    assert_true(g.ferr);
    assert_int_equal(g.state.rip, CODE + (uint64_t)(ferr32_end - ferr32) - 2);
    guest_destroy(&g);
}

#define PENDING_STEP                                                                               \
    "mov $0x100000, %esi\n fninit\n movw $0x37b, (%esi)\n fldcw (%esi)\n fld1\n fldz\n"            \
    "fdivrp\n push $0x102\n popf\n"
GUEST_CODE(ferr_step_fwait, 32, PENDING_STEP "fwait\n hlt");
GUEST_CODE(ferr_step_fldenv, 32, PENDING_STEP "fldenv (%esi)\n hlt");
GUEST_CODE(ferr_step_frstor, 32, PENDING_STEP "frstor (%esi)\n hlt");
GUEST_CODE(ferr_step_maskmovq, 32, PENDING_STEP "maskmovq %mm0, %mm1\n hlt");

/* There is no trap behind an instruction that waits; here #DB would be a triple fault. */
static void test_waiting_is_no_step(void **state)
{
    (void)state;
    static const struct {
        const uint8_t *code, *end;
        unsigned length;
    } rows[] = {{ferr_step_fwait, ferr_step_fwait_end, 1},
                {ferr_step_fldenv, ferr_step_fldenv_end, 2},
                {ferr_step_frstor, ferr_step_frstor_end, 2},
                {ferr_step_maskmovq, ferr_step_maskmovq_end, 3}};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct guest g;
        guest_create(&g, 32);
        g.state.cr0 &= ~(uint64_t)X86_CR0_NE;
        guest_place(&g, rows[i].code, rows[i].end);
        assert_int_equal(guest_run(&g), VCPU_EXIT_KICK);
        assert_true(g.ferr);
        assert_int_equal(g.state.rip,
                         CODE + (uint64_t)(rows[i].end - rows[i].code) - 1 - rows[i].length);
        assert_false(g.state.sflags & X86_RF);
        guest_destroy(&g);
    }
}

/* --- operands in a device's memory behind FERR# --- */

enum { DEVICE = 0xd0000000 };

struct accesses {
    unsigned reads, writes;
};

static uint64_t count_read(void *ctx, uint64_t offset, unsigned size)
{
    (void)offset;
    (void)size;
    ((struct accesses *)ctx)->reads++;
    return 0x40000000; /* 2.0 */
}

static void count_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    (void)offset;
    (void)value;
    (void)size;
    ((struct accesses *)ctx)->writes++;
}

#define PENDING_DEVICE(insn)                                                                       \
    "mov $0x100000, %esi\n mov $0xd0000000, %edi\n fninit\n movw $0x37b, (%esi)\n"                 \
    "fldcw (%esi)\n fld1\n fldz\n fdivrp\n 1: " insn "\n fnclex\n hlt"
GUEST_CODE(device_fadd, 32, PENDING_DEVICE("fadds (%edi)"));
GUEST_CODE(device_fild, 32, PENDING_DEVICE("fildl (%edi)"));
GUEST_CODE(device_fst, 32, PENDING_DEVICE("fsts (%edi)"));
GUEST_CODE(device_fldcw, 32, PENDING_DEVICE("fldcw (%edi)"));
GUEST_CODE(device_movq, 32, PENDING_DEVICE("movq (%edi), %mm1"));
GUEST_CODE(device_movq_to, 32, PENDING_DEVICE("movq %mm1, (%edi)"));
GUEST_CODE(device_paddb, 32, PENDING_DEVICE("paddb (%edi), %mm1"));
GUEST_CODE(device_cvttps2pi, 32, PENDING_DEVICE("cvttps2pi (%edi), %mm1"));
GUEST_CODE(device_fnstcw, 32, PENDING_DEVICE("fnstcw (%edi)"));

/* The device is accessed when the instruction runs, not when it waits: with IGNNE#, once. */
static void test_waiting_accesses_no_device(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const uint8_t *code, *end;
        unsigned length, reads, writes;
        bool waits;
    } rows[] = {
#define ROW(name, length, reads, writes, waits)                                                    \
    {#name, name, name##_end, length, reads, writes, waits}
        ROW(device_fadd, 2, 1, 0, true),    ROW(device_fild, 2, 1, 0, true),
        ROW(device_fst, 2, 0, 1, true),     ROW(device_fldcw, 2, 1, 0, true),
        ROW(device_movq, 3, 2, 0, true),    ROW(device_movq_to, 3, 0, 2, true),
        ROW(device_paddb, 3, 2, 0, true),   ROW(device_cvttps2pi, 3, 2, 0, true),
        ROW(device_fnstcw, 2, 0, 1, false),
#undef ROW
    };
    static const struct io_ops ops = {
        .read = count_read, .write = count_write, .min_size = 1, .max_size = 4};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct guest g;
        struct vd_error err;
        struct accesses seen = {0, 0};
        guest_create(&g, 32);
        assert_non_null(as_map_mmio(g.as, DEVICE, 4096, &ops, &seen, "counter", &err));
        g.state.cr0 &= ~(uint64_t)X86_CR0_NE;
        guest_place(&g, rows[i].code, rows[i].end);
        uint64_t at = CODE + (uint64_t)(rows[i].end - rows[i].code) - 3 - rows[i].length;
        if (rows[i].waits) {
            assert_int_equal(guest_run(&g), VCPU_EXIT_KICK);
            if (!g.ferr || g.state.rip != at || seen.reads || seen.writes)
                fail_msg("%s: FERR# %d, pc %#llx, %u reads, %u writes", rows[i].name, g.ferr,
                         (unsigned long long)g.state.rip, seen.reads, seen.writes);
            g.state.ignne = X86_IGNNE_ON;
        }
        assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
        if (g.ferr != rows[i].waits || seen.reads != rows[i].reads || seen.writes != rows[i].writes)
            fail_msg("%s, at last: FERR# %d, %u reads, %u writes", rows[i].name, g.ferr, seen.reads,
                     seen.writes);
        guest_destroy(&g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loop),
        cmocka_unit_test(test_recursion),
        cmocka_unit_test(test_memory_registers),
        cmocka_unit_test(test_flags_survive_memory),
        cmocka_unit_test(test_real_mode),
        cmocka_unit_test(test_self_modifying),
        cmocka_unit_test(test_page_crossing),
        cmocka_unit_test(test_vector_state),
        cmocka_unit_test(test_ports),
        cmocka_unit_test(test_ferr),
        cmocka_unit_test(test_waiting_is_no_step),
        cmocka_unit_test(test_waiting_accesses_no_device),
        cmocka_unit_test(test_shutdown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
