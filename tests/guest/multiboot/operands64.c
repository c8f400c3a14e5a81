/*
 * Operands in the memory of a device: every instruction below does there what it does in RAM, also
 * where the operand lies over two pages. The device is that of --test-device, mapped twice side by
 * side, so that the second page repeats the first.
 */
#include "machine64.h"

#define DEVICE  0xff000000ull
#define VIRTUAL 0xffff800000000000ull

static uint64_t table_3[512] __attribute__((aligned(4096)));
static uint64_t table_2[512] __attribute__((aligned(4096)));
static uint64_t table_1[512] __attribute__((aligned(4096)));
static uint8_t plain[4096] __attribute__((aligned(4096)));

struct state {
    uint64_t rax, rcx, rdx, rbx, rsi, rdi, r8, flags;
    uint64_t xmm0[2], xmm1[2];
};

/* Each operation: RDI is the address of 64 bytes, RSI of 64 bytes of RAM. */
#define OPERATIONS(X)                                                                              \
    X("movq %r8, (%rdi)\n movq (%rdi), %rax")                                                      \
    X("movb %ah, 3(%rdi)\n movzbl 3(%rdi), %ecx\n movsbq 2(%rdi), %rdx\n movslq (%rdi), %rbx")     \
    X("movw $0x1234, 1(%rdi)\n movl $-2, 8(%rdi)\n movq $-3, 17(%rdi)")                            \
    X("orl %eax, (%rdi)\n addq %r8, 8(%rdi)\n adcw %cx, 16(%rdi)\n sbbb %dl, 19(%rdi)")            \
    X("subl $26, (%rdi)\n andq $0x70, 8(%rdi)\n xorb $0xf7, 16(%rdi)\n cmpq %r8, 24(%rdi)")        \
    X("testl $0xf000, (%rdi)\n setc 4(%rdi)\n setnz 5(%rdi)\n sete 6(%rdi)")                       \
    X("incq (%rdi)\n decw 8(%rdi)\n negl 12(%rdi)\n notb 16(%rdi)")                                \
    X("lock incl (%rdi)\n lock decb 4(%rdi)\n lock negq 8(%rdi)\n lock notw 16(%rdi)")             \
    X("xchgq %r8, (%rdi)\n xchgb %al, 8(%rdi)\n xchgw %cx, 10(%rdi)\n xchgl %edx, 12(%rdi)")       \
    X("xaddq %r8, (%rdi)\n lock xaddb %al, 8(%rdi)\n xaddw %cx, 10(%rdi)\n xaddl %edx, 12(%rdi)")  \
    X("cmpxchgq %r8, (%rdi)\n movl 8(%rdi), %eax\n lock cmpxchgl %ecx, 8(%rdi)")                   \
    X("cmpxchg8b (%rdi)\n lock cmpxchg8b (%rdi)")                                                  \
    X("andl $255, %ecx\n btcl $33, (%rdi)\n btsq %rcx, (%rdi)\n btrw $3, 12(%rdi)\n btl $5, "      \
      "(%rdi)")                                                                                    \
    X("movl $-1, %ecx\n movl $66, %edx\n btcl %ecx, 16(%rdi)\n lock btsl %edx, (%rdi)")            \
    X("bsfq (%rdi), %rax\n bsrl 8(%rdi), %ecx\n bsfw 12(%rdi), %dx")                               \
    X("imulw (%rdi), %ax\n imull 4(%rdi), %ecx\n imulq $311, 8(%rdi), %rdx\n"                      \
      "imulw $5, 16(%rdi), %bx\n cmpl %eax, %eax")                                                 \
    X("mulb (%rdi)\n movl $3, %edx\n mull 4(%rdi)\n imulq 8(%rdi)\n cmpl %eax, %eax")              \
    X("xorl %edx, %edx\n movl $9, %eax\n orq $64, 8(%rdi)\n divq 8(%rdi)\n cmpl %eax, %eax")       \
    X("shldl $3, %eax, (%rdi)\n shrdq $5, %r8, 8(%rdi)\n cmpl %eax, %eax")                         \
    X("movb $7, %cl\n shldw %cl, %ax, (%rdi)\n shrdl %cl, %edx, 8(%rdi)\n cmpl %eax, %eax")        \
    X("rolb $1, (%rdi)\n rorq $9, 8(%rdi)\n rclw $1, 16(%rdi)\n sarl $1, 20(%rdi)\n"               \
      "shlq $1, 24(%rdi)\n shrb $1, 32(%rdi)\n cmpl %eax, %eax")                                   \
    X("cmpl %eax, %eax\n cmovnel (%rdi), %eax\n cmovew 4(%rdi), %cx")                              \
    X("pushq (%rdi)\n popq 8(%rdi)\n pushw 16(%rdi)\n popw 24(%rdi)")                              \
    X("movq %rdi, %rbx\n movq %rsp, %rcx\n leaq 48(%rdi), %rsp\n pushq %r8\n pushq $-7\n"          \
      "pushfq\n popq %rdx\n popq %rdx\n movq %rcx, %rsp\n xorl %ecx, %ecx\n movl $0, %ebx\n"       \
      "movl $0, 24(%rdi)")                                                                         \
    X("movq %rbp, %rbx\n movq %rsp, %rcx\n leaq 48(%rdi), %rsp\n movl $77, %ebp\n"                 \
      "enter $8, $0\n movq $5, (%rsp)\n leave\n movq %rbp, %rax\n movq %rbx, %rbp\n"               \
      "movq %rcx, %rsp\n xorl %ecx, %ecx\n xorl %ebx, %ebx")                                       \
    X("movl $16, %ecx\n rep movsb\n movsq\n movsw\n std\n movsb\n cld")                            \
    X("xchgq %rsi, %rdi\n movl $5, %ecx\n rep movsl\n lodsq\n lodsb")                              \
    X("movl $3, %ecx\n rep stosq\n stosb\n movl $2, %ecx\n rep stosw")                             \
    X("movb 9(%rdi), %al\n movl $40, %ecx\n repne scasb")                                          \
    X("movq (%rdi), %rax\n movl $4, %ecx\n repe scasq")                                            \
    X("movq (%rdi), %rax\n movq %rax, (%rsi)\n movl $4, %ecx\n repe cmpsl")                        \
    X("movl $60, %ecx\n repe cmpsb")                                                               \
    X("movl $0xe0, %edx\n movl $0x9977, %eax\n outw %ax, %dx\n movl $3, %ecx\n rep insb\n insl")   \
    X("movq %rdi, %rsi\n movl $0xe0, %edx\n movl $3, %ecx\n rep outsb\n outsl\n inl %dx, %eax")    \
    X("movdqu (%rsi), %xmm0\n movdqu %xmm0, 1(%rdi)\n movdqu 3(%rdi), %xmm1")                      \
    X("movq %r8, %xmm0\n movq %xmm0, 8(%rdi)\n movlps (%rdi), %xmm1\n movhps %xmm1, 9(%rdi)")      \
    X("movups (%rdi), %xmm0\n movupd %xmm0, 17(%rdi)\n movss (%rdi), %xmm1\n movsd 1(%rdi), "      \
      "%xmm0")                                                                                     \
    X("movd %eax, %xmm0\n movd %xmm0, 3(%rdi)\n pextrw $1, %xmm0, %ecx\n pinsrw $2, 5(%rdi), "     \
      "%xmm1")                                                                                     \
    X("movnti %r8, (%rdi)\n movnti %eax, 9(%rdi)")                                                 \
    X("fninit\n fildl (%rdi)\n fistpll 8(%rdi)\n fnstcw 24(%rdi)\n fldcw 24(%rdi)\n fnstsw %ax")   \
    X("fninit\n fld1\n fstpt 2(%rdi)\n fldt 2(%rdi)\n fstpl 16(%rdi)\n faddl 16(%rdi)\n fninit")   \
    X("stmxcsr (%rdi)\n ldmxcsr (%rdi)")                                                           \
    X("movq (%rdi), %mm0\n paddb (%rdi), %mm0\n movq %mm0, 9(%rdi)\n emms")                        \
    X("smsw (%rdi)\n str 2(%rdi)\n sldt 4(%rdi)\n sgdt 6(%rdi)\n sidt 17(%rdi)")                   \
    X("sgdt 3(%rdi)\n lgdt 3(%rdi)\n sidt 15(%rdi)\n lidt 15(%rdi)\n movw %ax, 26(%rdi)")          \
    X("movw $0x30, 5(%rdi)\n verr 5(%rdi)\n larl 5(%rdi), %eax\n lsll 5(%rdi), %ecx")              \
    X("movw $0, 2(%rdi)\n lldt 2(%rdi)\n movw %ds, 4(%rdi)\n movw 4(%rdi), %es\n movw %es, %ax")   \
    X("movq $9f, (%rdi)\n movw %cs, 8(%rdi)\n rex.w ljmp *(%rdi)\n ud2\n 9: movl $0, (%rdi)")      \
    X("movq $9f, (%rdi)\n jmp *(%rdi)\n ud2\n 9: movq $8f, (%rdi)\n call *(%rdi)\n jmp 7f\n"       \
      "8: ret\n 7: movl $0, (%rdi)")

#define EMIT(code)                                                                                 \
    "771: " code "\n ret\n .pushsection .rodata.operations\n .quad 771b\n .popsection\n"
__asm__(
    ".text\n .pushsection .rodata.operations\n .balign 8\n operations:\n .popsection\n" OPERATIONS(
        EMIT) ".pushsection .rodata.operations\n operations_end:\n .popsection");
extern const uint64_t operations[], operations_end[];

/* Runs one with the registers of *state and stores them there. */
void execute(uint64_t operation, struct state *state);
__asm__("execute: pushq %rbx\n pushq %rbp\n pushq %r12\n pushq %r13\n movq %rdi, %r13\n"
        "movq %rsi, %r12\n movq (%r12), %rax\n movq 8(%r12), %rcx\n movq 16(%r12), %rdx\n"
        "movq 24(%r12), %rbx\n movq 32(%r12), %rsi\n movq 40(%r12), %rdi\n movq 48(%r12), %r8\n"
        "movups 64(%r12), %xmm0\n movups 80(%r12), %xmm1\n pushq 56(%r12)\n popfq\n"
        "call *%r13\n pushfq\n popq 56(%r12)\n movq %rax, (%r12)\n movq %rcx, 8(%r12)\n"
        "movq %rdx, 16(%r12)\n movq %rbx, 24(%r12)\n movq %rsi, 32(%r12)\n movq %rdi, 40(%r12)\n"
        "movq %r8, 48(%r12)\n movups %xmm0, 64(%r12)\n movups %xmm1, 80(%r12)\n cld\n"
        "popq %r13\n popq %r12\n popq %rbp\n popq %rbx\n ret");

enum { BYTES = 64 };
struct result {
    struct state state;
    uint8_t memory[BYTES], source[BYTES];
};

static uint64_t random_state;
static uint64_t next_random(void)
{
    random_state = random_state * 6364136223846793005 + 1442695040888963407;
    return random_state >> 20 ^ random_state << 33;
}

static void run(uint64_t operation, uint64_t address, uint64_t seed, struct result *result)
{
    static uint8_t source[BYTES];
    volatile uint8_t *memory = (volatile uint8_t *)address;
    random_state = seed;
    for (unsigned i = 0; i < BYTES; i++) {
        memory[i] = (uint8_t)next_random();
        source[i] = (uint8_t)next_random();
    }
    struct state *state = &result->state;
    *state = (struct state){next_random(),
                            next_random(),
                            next_random(),
                            next_random(),
                            (uint64_t)source,
                            address,
                            next_random(),
                            2 | (next_random() & 0x8d5),
                            {next_random(), next_random()},
                            {next_random(), next_random()}};
    execute(operation, state);
    state->rsi -= state->rsi - (uint64_t)source < BYTES ? (uint64_t)source : address;
    state->rdi -= state->rdi - (uint64_t)source < BYTES ? (uint64_t)source : address;
    for (unsigned i = 0; i < BYTES; i++) {
        result->memory[i] = memory[i];
        result->source[i] = source[i];
    }
}

static bool same(const struct result *a, const struct result *b)
{
    const uint8_t *x = (const uint8_t *)a, *y = (const uint8_t *)b;
    for (unsigned i = 0; i < sizeof(*a); i++) {
        if (x[i] != y[i])
            return false;
    }
    return true;
}

static struct result in_ram, in_device;

static void map_device(void)
{
    table_1[0] = table_1[1] = DEVICE | 3;
    table_2[0] = (uint64_t)table_1 | 3;
    table_3[0] = (uint64_t)table_2 | 3;
    root[(VIRTUAL >> 39) & 511] = (uint64_t)table_3 | 3;
}

static bool device_works(void)
{
    volatile uint32_t *first = (uint32_t *)DEVICE;
    *first = 0x12345678;
    bool good = *first == 0x12345678;
    *first = 0;
    return good && *first == 0;
}

/* A movement of 16 aligned bytes needs them aligned there, too. */
static void test_alignment(void)
{
    uint64_t at = VIRTUAL + 64;
    CHECK(TRY("movaps %%xmm0, (%0)\n movapd (%0), %%xmm0", : "r"(at)) == NO_FAULT, seen.vector);
    CHECK(TRY("movaps %%xmm0, (%0)", : "r"(at + 8)) == GP && seen.error == 0, seen.vector);
    bool has16 = cpuid(1, 0).ecx >> 13 & 1;
    CHECK(TRY("lock cmpxchg16b (%0)",
              : "r"(at)
              : "rax", "rdx") == (has16 ? NO_FAULT : UD),
          seen.vector);
    CHECK(TRY("cmpxchg16b (%0)", : "r"(at + 8) : "rax", "rdx") == (has16 ? GP : UD), seen.vector);
    CHECK(TRY("divl (%0)",
              : "r"(at + 128)
              : "rax", "rdx") == DE &&
              (seen.rflags & RF),
          seen.vector);
}

/* The page behind a device is absent: nothing of the operand is written. */
static void test_fault_behind(void)
{
    volatile uint8_t *last = (volatile uint8_t *)VIRTUAL + 0xfff;
    uint64_t at = VIRTUAL + 0xffc, count = 9, to = at;
    *last = 0x55;
    table_1[1] = 0;
    invlpg(VIRTUAL + 0x1000);
    CHECK(TRY("movups %%xmm0, (%0)", : "r"(at)) == PF, seen.vector);
    CHECK(seen.error == 2 && read_cr2() == VIRTUAL + 0x1000, read_cr2());
    CHECK(TRY("addq $1, (%0)", : "r"(at)) == PF, seen.vector);
    CHECK(*last == 0x55, *last);
    CHECK(TRY("rep stosb", "+D"(to), "+c"(count) : "a"(7)) == PF, seen.vector);
    CHECK(to == VIRTUAL + 0x1000 && count == 5 && *last == 7, count);
}

void test_main(void)
{
    if (!device_works()) {
        print("no test device\n");
        return;
    }
    map_device();
    for (unsigned i = 0; operations + i < operations_end; i++) {
        unsigned bad = 0;
        for (unsigned offset = 0; offset < BYTES; offset++) {
            uint64_t seed = i * 1000 + offset;
            run(operations[i], (uint64_t)plain + 0x400 + offset, seed, &in_ram);
            run(operations[i], VIRTUAL + 0x400 + offset, seed, &in_device);
            bad += !same(&in_ram, &in_device);
            run(operations[i], VIRTUAL + 0xfc0 + offset, seed, &in_device);
            bad += !same(&in_ram, &in_device);
        }
        check(bad == 0, "operation", i);
    }
    test_alignment();
    test_fault_behind();
}
