/*
 * Single-stepping, instruction breakpoints and data watchpoints (SDM vol. 3, ch. 17): every class
 * of instruction traps with the pc of the next one, and being watched changes nothing else.
 */
#include "tables.h"

#include <string.h>

enum {
    VECTOR_END = 0x41, /* ends a program */
    VECTOR_INT = 0x42,
    MMIO = 0xd0000000,
    LOG = 0x108000, /* count, then the pcs that #DB pushed, then at LOG_DR6 the values of DR6 */
    LOG_DR6 = 0x10a000,
    LOG_MAX = 1000,
    DR6_BS = 1 << 14,
};

/*
 * S insn: an instruction, and its address into the list of steps. R label: one more step there.
 * U insn: an instruction that no trap precedes (behind MOV SS and INT n).
 */
__asm__(".macro S insn:vararg\n 771: \\insn\n .pushsection .rodata.steps\n .long 771b - 66b\n"
        ".popsection\n .endm\n"
        ".macro R label\n .pushsection .rodata.steps\n .long \\label - 66b\n .popsection\n"
        ".endm\n"
        ".macro U insn:vararg\n \\insn\n .endm\n");

#define STEP_PROGRAM(name, bits, ...)                                                              \
    extern const uint32_t name##_steps[], name##_steps_end[];                                      \
    extern const uint8_t name##_debug[], name##_exit[], name##_int[];                              \
    GUEST_CODE(name, bits,                                                                         \
               "66:\n.pushsection .rodata.steps\n" #name "_steps:\n.popsection\n" __VA_ARGS__      \
               "\n.pushsection .rodata.steps\n" #name "_steps_end:\n.popsection\n")

#define HANDLERS_32(name)                                                                          \
#name "_debug: push %eax\n push %edx\n mov 0x108000, %edx\n mov 8(%esp), %eax\n"               \
          "cmp $1000, %edx\n jae 9f\n mov %eax, 0x108004(,%edx,4)\n mov %dr6, %eax\n"              \
          "mov %eax, 0x10a000(,%edx,4)\n 9: incl 0x108000\n mov $0xffff0ff0, %eax\n"               \
          "mov %eax, %dr6\n pop %edx\n pop %eax\n iret\n" #name                                    \
          "_int: incl 0x100100\n iret\n" #name "_exit: cli\n hlt\n jmp .-1\n"

STEP_PROGRAM(
    step32, 32,
    /* moves, ALU, stack */
    "S mov $5, %eax\n S add $1, %eax\n S mov %eax, 0x100000\n S incl 0x100000\n S push %eax\n"
    "S pop %ebx\n S push 0x100000\n S pop 0x100004\n S push $77\n S popw %dx\n S popw %dx\n"
    "S mov %ah, 0x100008\n S lea 4(%esp), %edx\n S xchg %eax, 0x10000c\n S lock xadd %eax, "
    "0x10000c\n"
    "S bts %edx, 0x100010\n S movzbl 0x100000, %ecx\n S mov 0x100ffe, %eax\n S mov %eax, 0x101ffd\n"
    "S mov %eax, 0xd0000000\n S mov 0xd0000000, %ebp\n S addl $3, 0xd0000000\n S push 0xd0000000\n"
    "S pop 0xd0000000\n S shl $3, %ebx\n S cmc\n S std\n S cld\n S lahf\n S sahf\n S nop\n S "
    "pause\n"
    "S cwtl\n S mov $7, %esi\n S imul %esi\n S div %esi\n S .byte 0x2e, 0xd7\n"
    /* control */
    "S jmp 1f\n ud2\n 1: S test %eax, %eax\n S jz 2f\n S jnz 2f\n ud2\n 2: S mov $3, %ecx\n"
    "3: S dec %edx\n 4: S loop 3b\n R 3b\n R 4b\n R 3b\n R 4b\n S jecxz 5f\n ud2\n"
    "5: S call 30f\n R 30f\n R 31f\n R 32f\n S nop\n S mov $0x10000 + 30f - step32, %ebx\n"
    "S call *%ebx\n R 30f\n R 31f\n R 32f\n S push %cs\n S push $0x10000 + 33f - step32\n S lret\n "
    "ud2\n"
    "33: S mov %ebx, 0x100020\n S call *0x100020\n R 30f\n R 31f\n R 32f\n S enter $16, $1\n S "
    "leave\n"
    "S push $1\n S call 34f\n R 34f\n S nop\n"
    /* strings */
    "S mov $0x100000, %esi\n S mov $0x100040, %edi\n S mov $3, %ecx\n 6: S rep movsb\n R 6b\n R "
    "6b\n"
    "S movsl\n S lodsw\n S stosb\n S mov $2, %ecx\n 7: S rep stosl\n R 7b\n S mov $0, %ecx\n"
    "S rep stosl\n S mov $0x100040, %edi\n S mov $4, %ecx\n S mov 0x100041, %al\n 8: S repne "
    "scasb\n"
    "R 8b\n S cmpsb\n"
    /* callouts */
    "S mov $0, %eax\n S cpuid\n S in $3, %al\n S out %al, $4\n S pushf\n S popf\n S pushf\n"
    "S orl $1, (%esp)\n S popf\n S pusha\n S popa\n S aaa\n S daa\n S bound %eax, 0x100200\n"
    "S sti\n S cli\n S mov %ds, %eax\n S mov %eax, %ds\n S push %es\n S pop %es\n S mov %ss, %eax\n"
    "S mov %eax, %ss\n U mov $1, %ecx\n S push %ss\n S pop %ss\n U mov $2, %ecx\n S les 0x100208, "
    "%edi\n"
    "S mov %cr0, %eax\n S mov %eax, %cr0\n S mov %cr3, %eax\n S mov %eax, %cr3\n S invlpg "
    "0x100000\n"
    "S sgdt 0x100210\n S lgdt 0x100210\n S str %eax\n S smsw %ax\n S lmsw %ax\n S clts\n S wbinvd\n"
    "S mov $0x277, %ecx\n S rdmsr\n S wrmsr\n S mov %dr7, %eax\n S mov %eax, %dr7\n S int $0x42\n"
    "U nop\n S into\n S ljmp $8, $0x10000 + 10f - step32\n ud2\n 10: S lcall $8, $0x10000 + 35f - "
    "step32\n"
    "R 35f\n S nop\n"
    /* x87 and vectors */
    "S fninit\n S fld1\n S fstpl 0x100030\n S fldl 0x100030\n S fistpl 0x100ffe\n S fwait\n"
    "S movups 0x100000, %xmm1\n S addps %xmm1, %xmm1\n S movups %xmm1, 0x100050\n"
    "S movups %xmm1, 0x100ff8\n S vpaddd 0x100000, %ymm1, %ymm2\n S vzeroupper\n S movd %xmm1, "
    "%eax\n"
    "S stmxcsr 0x100060\n S ldmxcsr 0x100060\n S emms\n"
    /* the flag itself: the trap of POPF that clears TF still comes */
    "S pushf\n S andl $~0x100, (%esp)\n S popf\n S nop\n nop\n nop\n pushf\n orl $0x100, (%esp)\n "
    "popf\n"
    "nop\n S nop\n S int $0x41\n"
    "30: nop\n 31: inc %ecx\n 32: ret\n 34: ret $4\n 35: lret\n" HANDLERS_32(step32));

STEP_PROGRAM(
    step64, 64,
    "S mov $0x100000, %r9\n S mov %r9, 8(%r9)\n S lea 8(%r9), %r10\n S add %r9, %r10\n S xchg %r8, "
    "%r11\n"
    "S mov %r8, %gs:0x100010\n S mov %rax, 40f(%rip)\n S push %r10\n S pop %r8\n S push %rsp\n S "
    "pop %rsp\n"
    "S mov %r11b, 0x18(%r9)\n S cmpxchg16b 0x20(%r9)\n S movslq 8(%r9), %rdi\n S bswap %r10\n"
    "S jrcxz 1f\n 1: S lea 30f(%rip), %r11\n S call *%r11\n R 30f\n R 31f\n S call 30f\n R 30f\n R "
    "31f\n"
    "S mov %r11, (%r9)\n S call *(%r9)\n R 30f\n R 31f\n S lea 32f(%rip), %rax\n S jmp *%rax\n "
    "ud2\n"
    "32: S mov %cs, %eax\n S push %rax\n S lea 33f(%rip), %rax\n S push %rax\n S lretq\n ud2\n 33: "
    "S nop\n"
    "S mov $0x100040, %edi\n S mov $0x100000, %esi\n S mov $3, %ecx\n 6: S rep movsq\n R 6b\n R "
    "6b\n S stosb\n"
    "S swapgs\n S swapgs\n S rdfsbase %rax\n S wrfsbase %rax\n S mov %cr3, %rax\n S mov %rax, "
    "%cr3\n"
    "S invlpg (%r9)\n S mov $0xc0000080, %ecx\n S rdmsr\n S wrmsr\n S mov %cr8, %rax\n S pushfq\n "
    "S popfq\n"
    "S mov %ss, %eax\n S mov %eax, %ss\n U nop\n S int $0x42\n U nop\n S vmovdqu (%r9), %ymm9\n"
    "S vpaddd 16(%r9), %ymm9, %ymm10\n S vmovdqu %ymm10, 0xff0(%r9)\n S fninit\n S fld1\n S fstpl "
    "0x80(%r9)\n"
    "S andn %r9, %r10, %r11\n S mulx %r9, %r10, %r11\n S mov 0xffd(%r9), %r10\n S mov %r10, "
    "0xffb(%r9)\n"
    "S int $0x41\n"
    "30: inc %r10d\n 31: ret\n 40: .quad 0\n"
    "step64_debug: push %rax\n push %rdx\n mov 0x108000, %edx\n mov 16(%rsp), %eax\n cmp $1000, "
    "%edx\n"
    "jae 9f\n mov %eax, 0x108004(,%rdx,4)\n mov %dr6, %rax\n mov %eax, 0x10a000(,%rdx,4)\n"
    "9: incl 0x108000\n mov $0xffff0ff0, %eax\n mov %rax, %dr6\n pop %rdx\n pop %rax\n iretq\n"
    "step64_int: incl 0x100100\n iretq\n step64_exit: cli\n hlt\n jmp .-1\n");

STEP_PROGRAM(
    step16, 16,
    "S mov $0x3000, %ax\n S mov %ax, %ds\n S mov %ax, %es\n S movw $0x1234, 0\n S push %ax\n S pop "
    "%bx\n"
    "S call 30f\n R 30f\n R 31f\n S mov $3, %cx\n 3: S dec %dx\n 4: S loop 3b\n R 3b\n R 4b\n R "
    "3b\n R 4b\n"
    "S jcxz 5f\n ud2\n 5: S xor %di, %di\n S mov $2, %cx\n 6: S rep stosw\n R 6b\n S pushf\n S "
    "popf\n"
    "S mov %ss, %ax\n S mov %ax, %ss\n U nop\n S push %ss\n S pop %ss\n U nop\n S sti\n S cli\n"
    "S int $0x42\n U nop\n S lcall $0x1000, $32f - step16\n R 32f\n S ljmp $0x1000, $7f - step16\n "
    "ud2\n"
    "7: S movl $5, %eax\n S movl 0xfffc, %eax\n S enter $4, $0\n S leave\n S in $3, %al\n S "
    "pusha\n S popa\n"
    "S movl %cr0, %eax\n S movl %eax, %cr0\n S jmp *%cs:8f - step16\n 8: .word 9f - step16\n"
    "9: S int $0x41\n"
    "30: nop\n 31: ret\n 32: lret\n"
    "step16_debug: push %ds\n push %eax\n push %dx\n push %bx\n mov %sp, %bx\n mov $0x4000, %ax\n"
    "mov %ax, %ds\n mov 0, %dx\n xor %eax, %eax\n mov %ss:10(%bx), %ax\n mov %dx, %bx\n shl $2, "
    "%bx\n"
    "mov %eax, 4(%bx)\n incl 0\n mov %dr6, %eax\n mov %eax, 0x2000(%bx)\n mov $0xffff0ff0, %eax\n"
    "mov %eax, %dr6\n pop %bx\n pop %dx\n pop %eax\n pop %ds\n iret\n"
    "step16_int: push %ds\n push $0x3000\n pop %ds\n incw 0x100\n pop %ds\n iret\n"
    "step16_exit: cli\n hlt\n jmp .-1\n");

struct step_test {
    unsigned bits;
    const uint8_t *code, *end, *debug, *exit, *interrupt;
    const uint32_t *steps, *steps_end;
};

static uint64_t mmio_read(void *ctx, uint64_t offset, unsigned size)
{
    (void)offset;
    (void)size;
    return *(uint64_t *)ctx;
}

static void mmio_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    (void)offset;
    (void)size;
    *(uint64_t *)ctx = value;
}

static void step_create(struct guest *g, const struct step_test *test, uint64_t *mmio)
{
    static const struct io_ops ops = {
        .read = mmio_read, .write = mmio_write, .min_size = 1, .max_size = 4};
    struct vd_error err;
    guest_create(g, test->bits);
    guest_make_tables(g, test->bits);
    g->state.cr4 |= X86_CR4_FSGSBASE;
    assert_non_null(as_map_mmio(g->as, MMIO, 4096, &ops, mmio, "register", &err));
    GUEST_GATE(g, test->bits, X86_DB, test->code, test->debug);
    GUEST_GATE(g, test->bits, VECTOR_END, test->code, test->exit);
    GUEST_GATE(g, test->bits, VECTOR_INT, test->code, test->interrupt);
    guest_write32(g, DATA + 0x200, 0);
    guest_write32(g, DATA + 0x204, 0x7fffffff);
    guest_write32(g, DATA + 0x208, 5);
    guest_write32(g, DATA + 0x20c, KERNEL_DS);
    guest_place(g, test->code, test->end);
}

static void check_steps(struct guest *g, const struct step_test *test)
{
    uint64_t log = test->bits == 16 ? 0x40000 : LOG;
    uint32_t base = test->bits == 16 ? 0 : CODE, count = guest_read32(g, log);
    uint32_t expected = (uint32_t)(test->steps_end - test->steps) - 1;
    for (uint32_t i = 0; i < expected && i < count; i++) {
        uint32_t pc = guest_read32(g, log + 4 + 4 * i) - base;
        if (pc != test->steps[i + 1])
            fail_msg("%u bits, step %u: %#x instead of %#x", test->bits, i, pc, test->steps[i + 1]);
        uint64_t dr6 = log + (LOG_DR6 - LOG) + 4 * i;
        assert_int_equal(guest_read32(g, dr6) & 0xe00f, DR6_BS);
    }
    assert_int_equal(count, expected);
}

static void run_steps(const struct step_test *test)
{
    struct guest g[2];
    uint64_t mmio[2] = {0, 0};
    for (unsigned i = 0; i < 2; i++) {
        step_create(&g[i], test, &mmio[i]);
        g[i].state.sflags |= i ? (uint32_t)X86_TF : 0;
        enum vcpu_exit exit = guest_run(&g[i]);
        if (exit != VCPU_EXIT_HALT)
            fail_msg("%u bits: exit %u at %#llx", test->bits, exit,
                     (unsigned long long)g[i].state.rip);
    }
    check_steps(&g[1], test);
    for (unsigned r = 0; r < 16; r++)
        assert_true(g[0].state.gpr[r] == g[1].state.gpr[r]);
    assert_int_equal(mmio[0], mmio[1]);
    assert_memory_equal(g[0].ram + DATA + (test->bits == 16 ? 0x30000 - DATA : 0),
                        g[1].ram + DATA + (test->bits == 16 ? 0x30000 - DATA : 0), 0x3000);
    guest_destroy(&g[0]);
    guest_destroy(&g[1]);
}

#define STEP_TEST(bits)                                                                            \
    {                                                                                              \
        bits, step##bits, step##bits##_end, step##bits##_debug, step##bits##_exit,                 \
            step##bits##_int, step##bits##_steps, step##bits##_steps_end                           \
    }

static const struct step_test step_tests[] = {STEP_TEST(16), STEP_TEST(32), STEP_TEST(64)};

static void test_single_step_16(void **state)
{
    (void)state;
    run_steps(&step_tests[0]);
}

static void test_single_step_32(void **state)
{
    (void)state;
    run_steps(&step_tests[1]);
}

static void test_single_step_64(void **state)
{
    (void)state;
    run_steps(&step_tests[2]);
}

/* HLT completes, so its trap comes at once and nobody sleeps. */
extern const uint8_t halt_step_debug[];
GUEST_CODE(halt_step, 32,
           "nop\n hlt\n inc %ebx\n cli\n hlt\n jmp .-1\n"
           "halt_step_debug: incl 0x100000\n mov (%esp), %eax\n mov %eax, 0x100004\n"
           "cmp $0x10002, %eax\n jne 1f\n andb $0xfe, 9(%esp)\n 1: iret\n");

static void test_step_over_halt(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 32);
    guest_make_tables(&g, 32);
    GUEST_GATE(&g, 32, X86_DB, halt_step, halt_step_debug);
    guest_place(&g, halt_step, halt_step_end);
    g.state.sflags |= X86_TF;
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    assert_int_equal(guest_read32(&g, DATA), 2);
    assert_int_equal(guest_read32(&g, DATA + 4), CODE + 2);
    assert_int_equal(g.state.gpr[X86_RBX], 1);
    guest_destroy(&g);
}

/* --- instruction breakpoints --- */

/*
 * Two breakpoints in a loop, one never reached, one not enabled. The handler sets RF in
 * the image, which these faults push clear (17.3.1.1).
 */
extern const uint8_t break32_debug[], break32_one[], break32_two[], break32_never[];
GUEST_CODE(
    break32, 32,
    "mov %eax, %dr7\n mov $100, %ecx\n"
    "1: nop\n break32_one: inc %ebx\n nop\n break32_two: add %ebx, %edx\n dec %ecx\n jnz 1b\n"
    "xor %eax, %eax\n mov %eax, %dr7\n mov $50, %ecx\n jmp 2f\n break32_never: hlt\n"
    "2: cmp $50, %ecx\n jne 3f\n 3: mov $3, %edi\n hlt\n"
    "break32_debug: push %eax\n mov %dr6, %eax\n and $15, %eax\n incl 0x100000(,%eax,4)\n"
    "mov 4(%esp), %eax\n mov %eax, 0x100080\n testb $1, 14(%esp)\n setnz %al\n"
    "or %al, 0x100084\n orb $1, 14(%esp)\n xor %eax, %eax\n mov %eax, %dr6\n pop %eax\n iret");

static void test_breakpoints(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 32);
    guest_make_tables(&g, 32);
    GUEST_GATE(&g, 32, X86_DB, break32, break32_debug);
    guest_place(&g, break32, break32_end);
    g.state.dr[0] = CODE + (uint64_t)(break32_one - break32);
    g.state.dr[1] = CODE + (uint64_t)(break32_two - break32);
    g.state.dr[2] = CODE + (uint64_t)(break32_never - break32);
    g.state.dr[3] = g.state.dr[1] + 2; /* DEC ECX, not enabled */
    g.state.gpr[X86_RAX] = 0x1 | 0x8 | 0x10;
    g.state.gpr[X86_RBX] = g.state.gpr[X86_RDX] = 0;
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    assert_int_equal(guest_read32(&g, DATA + 4 * 1), 100);
    assert_int_equal(guest_read32(&g, DATA + 4 * 2), 100);
    for (unsigned i = 0; i < 16; i++) {
        if (i != 1 && i != 2)
            assert_int_equal(guest_read32(&g, DATA + 4 * i) & ~8u, 0);
    }
    assert_int_equal(guest_read32(&g, DATA + 0x80), g.state.dr[1]);
    assert_int_equal(guest_read32(&g, DATA + 0x84), 0); /* RF in the image */
    assert_int_equal(g.state.gpr[X86_RBX], 100);
    assert_int_equal(g.state.gpr[X86_RDX], 5050);
    guest_destroy(&g);
}

/* --- data watchpoints --- */

enum { WATCHED = DATA + 0x800 };

struct watch_case {
    const char *text;
    const uint8_t *code, *end;
    unsigned rw, length; /* fields of DR7: 1 write, 3 read or write; 0, 1, 3: 1, 2, 4 bytes */
    uint32_t offset;     /* of the watched bytes from WATCHED */
    uint32_t hits;       /* with one hit, it is behind the first instruction */
    unsigned first;      /* length of that instruction */
    bool step;           /* with TF: one #DB reports both */
};

/* At CPL 3, so that what exceptions push is not on the watched stack. */
extern const uint8_t watch_exit[];
GUEST_CODE(watch_handler, 32,
           "push %eax\n mov %dr6, %eax\n mov %eax, 0x100004\n mov 4(%esp), %eax\n"
           "mov %eax, 0x100008\n incl 0x100000\n xor %eax, %eax\n mov %eax, %dr6\n"
           "andb $0xfe, 13(%esp)\n pop %eax\n iret\n watch_exit: cli\n hlt\n jmp .-1");

#define WATCH_CODES                                                                                \
    WATCH(store, "mov %eax, 0x100800", 1, 3, 0, 1, 5, false)                                       \
    WATCH(store_modrm, "mov %ebx, 0x100800", 1, 3, 0, 1, 6, false)                                 \
    WATCH(store_below, "mov %ebx, 0x1007fc", 1, 3, 0, 0, 0, false)                                 \
    WATCH(store_above, "mov %ebx, 0x100804", 1, 3, 0, 0, 0, false)                                 \
    WATCH(store_partly, "mov %ebx, 0x1007fd", 1, 0, 0, 1, 6, false)                                \
    WATCH(load_write_only, "mov 0x100800, %ebx", 1, 3, 0, 0, 0, false)                             \
    WATCH(load, "mov 0x100800, %ebx", 3, 3, 0, 1, 6, false)                                        \
    WATCH(load_byte, "movzbl 0x100801, %ebx", 3, 0, 1, 1, 7, false)                                \
    WATCH(load_other_byte, "movzbl 0x100802, %ebx", 3, 0, 1, 0, 0, false)                          \
    WATCH(modify, "addl $1, 0x100800", 1, 3, 0, 1, 7, false)                                       \
    WATCH(test_only, "cmpl $1, 0x100800", 1, 3, 0, 0, 0, false)                                    \
    WATCH(push, "push %ebx", 1, 3, 0xfc, 1, 1, false)                                              \
    WATCH(push_memory, "push 0x100800", 3, 3, 0, 1, 6, false)                                      \
    WATCH(pop, "pop %ebx", 3, 3, 0x100, 1, 1, false)                                               \
    WATCH(pop_memory, "pop 0x100800", 1, 3, 0, 1, 6, false)                                        \
    WATCH(leave, "leave", 3, 3, 0x200, 1, 1, false)                                                \
    WATCH(vector, "movups %xmm0, 0x1007f8", 1, 3, 0, 1, 7, false)                                  \
    WATCH(x87, "fstpl 0x100800", 1, 3, 4, 1, 6, false)                                             \
    WATCH(crossing, "mov %ebx, 0x100ffe", 1, 1, 0x800, 1, 6, false)                                \
    WATCH(bits, "btsl %ecx, 0x100000", 1, 0, 3, 1, 7, false)                                       \
    WATCH(string, "stosl", 1, 3, 0, 1, 1, false)                                                   \
    WATCH(exchange, "lock xaddl %ebx, 0x100800", 1, 3, 0, 1, 8, false)                             \
    WATCH(pusha, "pusha", 1, 3, 0xf0, 1, 1, false)                                                 \
    WATCH(store_step, "mov %ebx, 0x100800", 1, 3, 0, 1, 6, true)                                   \
    WATCH(string_step, "stosl", 1, 3, 0, 1, 1, true)

#define WATCH(name, text, rw, length, offset, hits, first, step)                                   \
    GUEST_CODE(watch_##name, 32, text "\n nop\n nop\n int $0x41");
WATCH_CODES
#undef WATCH

static const struct watch_case watch_cases[] = {
#define WATCH(name, text, rw, length, offset, hits, first, step)                                   \
    {text, watch_##name, watch_##name##_end, rw, length, offset, hits, first, step},
    WATCH_CODES
#undef WATCH
};

static void watch_run(const struct watch_case *test)
{
    struct guest g;
    guest_create(&g, 32);
    guest_make_tables(&g, 32);
    as_write(g.as, CODE + 0x1000, watch_handler, (size_t)(watch_handler_end - watch_handler));
    guest_set_gate(&g, 32, X86_DB, CODE + 0x1000, 0);
    guest_set_gate(&g, 32, VECTOR_END, CODE + 0x1000 + (uint64_t)(watch_exit - watch_handler), 3);
    guest_place(&g, test->code, test->end);
    guest_enter_user(&g, 32);
    g.state.gpr[X86_RSP] = WATCHED + 0x100;
    g.state.gpr[X86_RBP] = WATCHED + 0x200;
    g.state.gpr[X86_RDI] = WATCHED;
    g.state.gpr[X86_RCX] = (WATCHED - DATA) * 8 + 24;
    g.state.dr[2] = WATCHED + test->offset;
    g.state.dr[7] = 0x20 | (uint64_t)test->rw << 24 | (uint64_t)test->length << 26;
    g.state.sflags |= test->step ? (uint32_t)X86_TF : 0;
    enum vcpu_exit exit = guest_run(&g);
    uint32_t dr6 = 4 | (test->step ? (uint32_t)DR6_BS : 0);
    if (exit != VCPU_EXIT_HALT || guest_read32(&g, DATA) != test->hits)
        fail_msg("%s: exit %u, %u hits", test->text, exit, guest_read32(&g, DATA));
    if (test->hits && ((guest_read32(&g, DATA + 4) & 0xe00f) != dr6 ||
                       guest_read32(&g, DATA + 8) != CODE + test->first))
        fail_msg("%s: DR6 = %#x at %#x", test->text, guest_read32(&g, DATA + 4),
                 guest_read32(&g, DATA + 8));
    guest_destroy(&g);
}

static void test_watchpoints(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof(watch_cases) / sizeof(watch_cases[0]); i++)
        watch_run(&watch_cases[i]);
}

/* --- watchpoints in repeated instructions --- */

/* The trap comes behind the iteration that hit, also in a handler that wants to see how far it is.
 */
GUEST_CODE(string_debug32, 32, "pop %ebx\n hlt");
GUEST_CODE(string_debug64, 64, "pop %rbx\n hlt");

enum { STRING_COUNT = 3000, STRING_FROM = DATA, STRING_TO = DATA + 0x10000 };

#define STRING_CODES                                                                               \
    STRING(stosb, "rep stosb", 1, 1, STRING_TO)                                                    \
    STRING(stosw, "rep stosw", 2, 1, STRING_TO)                                                    \
    STRING(stosl, "rep stosl", 4, 1, STRING_TO)                                                    \
    STRING(movsb, "rep movsb", 1, 1, STRING_TO)                                                    \
    STRING(movsb_from, "rep movsb", 1, 3, STRING_FROM)                                             \
    STRING(movsl, "rep movsl", 4, 1, STRING_TO)                                                    \
    STRING(lodsw, "rep lodsw", 2, 3, STRING_FROM)                                                  \
    STRING(cmpsb, "repe cmpsb", 1, 3, STRING_TO)                                                   \
    STRING(cmpsl_from, "repe cmpsl", 4, 3, STRING_FROM)                                            \
    STRING(scasb, "repe scasb", 1, 3, STRING_TO)

#define STRING(name, text, size, rw, at)                                                           \
    GUEST_CODE(string_##name##32, 32, text "\n ud2");                                              \
    GUEST_CODE(string_##name##64, 64, text "\n ud2");
STRING_CODES
#undef STRING

struct string_case {
    const char *text;
    const uint8_t *code[2], *end[2]; /* for 32 and 64 bits */
    unsigned size, rw;
    uint32_t watched; /* the operand that is */
};

static const struct string_case string_cases[] = {
#define STRING(name, text, size, rw, at)                                                           \
    {text,                                                                                         \
     {string_##name##32, string_##name##64},                                                       \
     {string_##name##32_end, string_##name##64_end},                                               \
     size,                                                                                         \
     rw,                                                                                           \
     at},
    STRING_CODES
#undef STRING
};

/* Element number hit, counted in the direction of DF, is watched. */
static void string_run(const struct string_case *test, unsigned bits, bool down, uint32_t hit)
{
    struct guest g;
    bool is64 = bits == 64;
    int32_t step = down ? -(int32_t)test->size : (int32_t)test->size;
    uint32_t first = down ? (STRING_COUNT - 1) * test->size : 0;
    uint32_t done = (hit + 1) * (uint32_t)step,
             insn = (uint32_t)(test->end[is64] - test->code[is64]) - 2;
    bool has_si =
        strstr(test->text, "movs") || strstr(test->text, "lods") || strstr(test->text, "cmps");
    bool has_di = !strstr(test->text, "lods");
    guest_create(&g, bits);
    guest_make_tables(&g, bits);
    as_write(g.as, CODE + 0x1000, is64 ? string_debug64 : string_debug32, 2);
    guest_set_gate(&g, bits, X86_DB, CODE + 0x1000, 0);
    guest_place(&g, test->code[is64], test->end[is64]);
    g.state.gpr[X86_RAX] = 0;
    g.state.gpr[X86_RCX] = STRING_COUNT;
    g.state.gpr[X86_RSI] = STRING_FROM + first;
    g.state.gpr[X86_RDI] = STRING_TO + first;
    g.state.aflags |= down ? (uint32_t)X86_DF_FLAG : 0;
    g.state.dr[1] = test->watched + first + hit * (uint32_t)step;
    g.state.dr[7] = 0x4 | (uint64_t)test->rw << 20 | (uint64_t)(test->size - 1) << 22;
    enum vcpu_exit exit = guest_run(&g);
    uint32_t ip = CODE + (hit + 1 == STRING_COUNT ? insn : 0);
    if (exit != VCPU_EXIT_HALT || g.state.gpr[X86_RCX] != STRING_COUNT - 1 - hit ||
        g.state.gpr[X86_RSI] != STRING_FROM + first + (has_si ? done : 0) ||
        g.state.gpr[X86_RDI] != STRING_TO + first + (has_di ? done : 0) ||
        g.state.gpr[X86_RBX] != ip || (g.state.dr[6] & 0xe00f) != 2)
        fail_msg("%s, %u bits, %s, element %u: exit %u, count %llu, SI %#llx, DI %#llx, pc %#llx",
                 test->text, bits, down ? "down" : "up", hit, exit,
                 (unsigned long long)g.state.gpr[X86_RCX], (unsigned long long)g.state.gpr[X86_RSI],
                 (unsigned long long)g.state.gpr[X86_RDI],
                 (unsigned long long)g.state.gpr[X86_RBX]);
    guest_destroy(&g);
}

static void test_watchpoint_ends_iteration(void **state)
{
    (void)state;
    static const uint32_t hits[] = {0, 1, 1700, STRING_COUNT - 2, STRING_COUNT - 1};
    for (unsigned i = 0; i < sizeof(string_cases) / sizeof(string_cases[0]); i++) {
        for (unsigned n = 0; n < 4 * sizeof(hits) / sizeof(hits[0]); n++)
            string_run(&string_cases[i], n & 1 ? 64 : 32, n & 2, hits[n / 4]);
    }
}

/* --- RF that IRET loads --- */

/* DR7 is loaded from EAX; #DB ends with its pc in EDX. */
#define RF_PROGRAM(name, ...)                                                                      \
    extern const uint8_t name##_stop[], name##_debug[], name##_int[];                              \
    GUEST_CODE(name, 32,                                                                           \
               __VA_ARGS__ "\n" #name "_debug: pop %edx\n hlt\n" #name                             \
                           "_int: mov %eax, %dr7\n or %esi, 8(%esp)\n iret")

/* Nothing is armed yet: it ends with MOV DR7, and the instruction behind that is hit. */
RF_PROGRAM(rf_unarmed, "pushf\n orl $0x10000, (%esp)\n push %cs\n"
                       "push $0x10000 + 1f - rf_unarmed\n iret\n ud2\n"
                       "1: mov %eax, %dr7\n rf_unarmed_stop: inc %ebx\n ud2");
/* The handler of INT n arms a breakpoint where it returns to: with RF that is passed once. */
RF_PROGRAM(rf_armed, "int $0x42\n rf_armed_stop: inc %ebx\n jmp rf_armed_stop");

static void rf_run(const uint8_t *code, const uint8_t *end, const uint8_t *stop,
                   const uint8_t *debug, const uint8_t *interrupt, uint32_t rf, uint64_t passed)
{
    struct guest g;
    guest_create(&g, 32);
    guest_make_tables(&g, 32);
    GUEST_GATE(&g, 32, X86_DB, code, debug);
    GUEST_GATE(&g, 32, VECTOR_INT, code, interrupt);
    guest_place(&g, code, end);
    g.state.dr[0] = CODE + (uint64_t)(stop - code);
    g.state.gpr[X86_RAX] = 1;
    g.state.gpr[X86_RBX] = g.state.gpr[X86_RDX] = 0;
    g.state.gpr[X86_RSI] = rf;
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    assert_int_equal(g.state.gpr[X86_RDX], g.state.dr[0]);
    assert_int_equal(g.state.dr[6] & 0xe00f, 1);
    assert_int_equal(g.state.gpr[X86_RBX], passed);
    guest_destroy(&g);
}

static void test_rf_lasts_for_one_instruction(void **state)
{
    (void)state;
    rf_run(rf_unarmed, rf_unarmed_end, rf_unarmed_stop, rf_unarmed_debug, rf_unarmed_int, 0, 0);
    rf_run(rf_armed, rf_armed_end, rf_armed_stop, rf_armed_debug, rf_armed_int, 0, 0);
    rf_run(rf_armed, rf_armed_end, rf_armed_stop, rf_armed_debug, rf_armed_int, X86_RF, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_single_step_16),
        cmocka_unit_test(test_single_step_32),
        cmocka_unit_test(test_single_step_64),
        cmocka_unit_test(test_step_over_halt),
        cmocka_unit_test(test_breakpoints),
        cmocka_unit_test(test_watchpoints),
        cmocka_unit_test(test_watchpoint_ends_iteration),
        cmocka_unit_test(test_rf_lasts_for_one_instruction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
