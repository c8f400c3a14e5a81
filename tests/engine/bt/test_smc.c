/*
 * Code that changes: whoever writes, however near, what runs next is what memory says
 * (SDM vol. 3, 8.1.3 and 11.6).
 */
#include "engine/bt/bt.h"
#include "tables.h"

#include <string.h>

/* --- one store, many writers: the instruction behind it is made anew --- */

/*
 * Three passes; each writes into the immediate of T and runs it at once. T's EAX must be what its
 * bytes say then. EBP = T + 1; EDX, EDI and ECX are the writer's (ECX changes with every pass).
 */
#define WRITER_CODE(writer, gap)                                                                   \
    "movl $3, 0x100000\n"                                                                          \
    "8: mov $9f - 6b + 0x10001, %ebp\n mov 0x100000, %ecx\n"                                       \
    "imul $0x01234567, %ecx, %ecx\n mov %ebp, %edi\n" writer "\n" gap                              \
    "\n 9: mov $0x11111111, %eax\n .byte 0x3e, 0x8d, 0x74, 0x26, 0\n" /* 5 bytes of room */        \
    "cmp %eax, (%ebp)\n je 1f\n incl 0x100004\n 1: cmp $0x11111111, %eax\n jne 1f\n"               \
    "incl 0x100008\n 1: mov $0x80000, %esp\n decl 0x100000\n jnz 8b\n hlt\n"

#define WRITERS                                                                                    \
    W(mov, "mov %ecx, (%ebp)")                                                                     \
    W(mov_byte, "mov %cl, 2(%ebp)")                                                                \
    W(mov_high, "mov %ch, 3(%ebp)")                                                                \
    W(mov_word, "mov %cx, 1(%ebp)")                                                                \
    W(mov_immediate, "movl $0x22222222, (%ebp)")                                                   \
    W(modify, "add %ecx, (%ebp)")                                                                  \
    W(increment, "incl (%ebp)")                                                                    \
    W(shift, "shll (%ebp)")                                                                        \
    W(bit, "btsl $1, (%ebp)")                                                                      \
    W(bit_string, "mov $29, %edx\n sub $16, %ebp\n add $128, %edx\n bts %edx, (%ebp)\n"            \
                  "lea 16(%ebp), %ebp")                                                            \
    W(set, "cmp %ecx, %ecx\n setz 2(%ebp)")                                                        \
    W(exchange, "xchg %ecx, (%ebp)")                                                               \
    W(exchange_add, "lock xadd %ecx, (%ebp)")                                                      \
    W(compare, "mov (%ebp), %eax\n lock cmpxchg %ecx, (%ebp)")                                     \
    W(compare8, "mov (%ebp), %eax\n mov 4(%ebp), %edx\n mov %ecx, %ebx\n mov %edx, %ecx\n"         \
                "lock cmpxchg8b (%ebp)")                                                           \
    W(push, "lea 4(%ebp), %esp\n push %ecx")                                                       \
    W(push_immediate, "lea 4(%ebp), %esp\n push $0x33333333")                                      \
    W(push_memory, "mov %ecx, 0x100010\n lea 4(%ebp), %esp\n push 0x100010")                       \
    W(pushes, "lea 8(%ebp), %esp\n push 4(%ebp)\n push %ecx")                                      \
    W(push_flags, "lea 4(%ebp), %esp\n pushf")                                                     \
    W(pop_memory, "mov %ecx, 0x100010\n mov $0x100010, %esp\n pop (%ebp)")                         \
    W(call, "lea 4(%ebp), %esp\n call 1f\n 1:")                                                    \
    W(call_indirect, "lea 4(%ebp), %esp\n mov $1f - 6b + 0x10000, %edx\n call *%edx\n 1:")         \
    W(stos, "mov %ecx, %eax\n cld\n stosl")                                                        \
    W(rep_stos, "mov %cl, %al\n mov $4, %ecx\n cld\n rep stosb")                                   \
    W(rep_stos_down, "mov %cl, %al\n mov $4, %ecx\n add $3, %edi\n std\n rep stosb\n cld")         \
    W(rep_movs, "mov %ecx, 0x100010\n mov $0x100010, %esi\n mov $4, %ecx\n cld\n rep movsb")       \
    W(x87, "mov %ecx, 0x100010\n fninit\n fildl 0x100010\n fistpl (%ebp)")                         \
    W(x87_control, "fninit\n fnstcw (%ebp)")                                                       \
    W(vector, "movd %ecx, %xmm1\n movd %xmm1, (%ebp)")                                             \
    W(vector_quad, "movd %ecx, %xmm1\n movd 4(%ebp), %xmm2\n punpckldq %xmm2, %xmm1\n"             \
                   "movq %xmm1, (%ebp)")                                                           \
    W(vector_avx, "vmovd %ecx, %xmm1\n vmovss %xmm1, (%ebp)")                                      \
    W(mmx, "movd %ecx, %mm0\n movd %mm0, (%ebp)\n emms")                                           \
    W(status, "stmxcsr (%ebp)")                                                                    \
    W(selector, "mov %ds, (%ebp)")                                                                 \
    W(port, "mov %ecx, %eax\n mov %ebp, 0x100014\n out %eax, $5")                                  \
    W(port_later, "mov %ecx, %eax\n mov %ebp, 0x100014\n out %eax, $5\n push %eax\n pop %edx")

#define W(name, writer)                                                                            \
    GUEST_CODE(writer_##name##_0, 32, "6:\n" WRITER_CODE(writer, ""));                             \
    GUEST_CODE(writer_##name##_1, 32, "6:\n" WRITER_CODE(writer, "nop\n lea 1(%edx), %edx\n"));    \
    GUEST_CODE(writer_##name##_2, 32, "6:\n" WRITER_CODE(writer, "jmp 1f\n .balign 64\n 1:"));     \
    GUEST_CODE(writer_##name##_3, 32, "6:\n" WRITER_CODE(writer, "test %edx, %edx\n jz 1f\n 1:"));
WRITERS
#undef W

struct writer {
    const char *name;
    unsigned gap;
    const uint8_t *code, *end;
};

static const struct writer writers[] = {
#define W(name, writer)                                                                            \
    {#name, 0, writer_##name##_0, writer_##name##_0_end},                                          \
        {#name, 1, writer_##name##_1, writer_##name##_1_end},                                      \
        {#name, 2, writer_##name##_2, writer_##name##_2_end},                                      \
        {#name, 3, writer_##name##_3, writer_##name##_3_end},
    WRITERS
#undef W
};

/* A device that writes a word where the guest says: port 5, address at DATA + 14H. */
static void write_memory(struct guest *g, uint16_t port, uint64_t value)
{
    if (port != 5)
        return;
    uint32_t word = (uint32_t)value;
    as_write(g->as, guest_read32(g, DATA + 0x14), &word, sizeof(word));
}

static void test_writers(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof(writers) / sizeof(writers[0]); i++) {
        struct guest g;
        guest_create(&g, 32);
        g.on_port = write_memory;
        guest_place(&g, writers[i].code, writers[i].end);
        enum vcpu_exit exit = guest_run(&g);
        uint32_t stale = guest_read32(&g, DATA + 4), unchanged = guest_read32(&g, DATA + 8);
        if (exit != VCPU_EXIT_HALT || stale || unchanged)
            fail_msg("%s, gap %u: exit %u at %#x, %u stale, %u unchanged", writers[i].name,
                     writers[i].gap, exit, (uint32_t)g.state.rip, stale, unchanged);
        guest_destroy(&g);
    }
}

/* --- distances --- */

/* An instruction that doubles its own immediate. */
GUEST_CODE(own32, 32,
           "6: mov $6, %ecx\n 1: addb $1, 1b + 6 - 6b + 0x10000\n"
           "mov 1b - 6b + 0x10000, %al\n dec %ecx\n jnz 2f\n hlt\n"
           "2: movb 1b - 6b + 0x10006, %al\n jmp 1b");

static void test_same_instruction(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 32);
    guest_place(&g, own32, own32_end);
    g.ram[CODE + 5 + 6] = 1; /* the immediate of ADDB */
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    assert_int_equal(g.ram[CODE + 5 + 6], 64);
    guest_destroy(&g);
}

/* Writes behind itself: the start of the loop, the block before, another page, the return point. */
GUEST_CODE(backward32, 32,
           "6: mov $50, %ecx\n xor %ebx, %ebx\n 1: mov $0, %eax\n add %eax, %ebx\n jmp 2f\n"
           "2: mov $0, %edx\n add %edx, %ebx\n call 5f\n 3: mov $0, %esi\n add %esi, %ebx\n"
           "call 6b + 0xfff\n add %eax, %ebx\n"
           "mov %ecx, 1b - 6b + 0x10001\n mov %ecx, 2b - 6b + 0x10001\n mov %ecx, 0x11000\n"
           "dec %ecx\n jnz 1b\n hlt\n"
           "5: mov %ecx, 3b - 6b + 0x10001\n ret");

static void test_backward(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 32);
    static const uint8_t page[] = {0xb8, 0, 0, 0, 0, 0xc3}; /* at 10FFF: MOV EAX crosses in */
    as_write(g.as, 0x10fff, page, sizeof(page));
    guest_place(&g, backward32, backward32_end);
    /* The call leads to 10FFF. */
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    uint32_t expected = 0;
    for (uint32_t c = 50; c; c--) /* three see the pass before, one its own */
        expected += (c == 50 ? 0 : 3 * (c + 1)) + c;
    assert_int_equal(g.state.gpr[X86_RBX], expected);
    guest_destroy(&g);
}

/* --- through another linear address --- */

enum { DIRECTORY = 0x200000, TABLE_LOW = 0x201000, TABLE_ALIAS = 0x202000 };

static void make_alias(struct guest *g)
{
    for (uint32_t i = 0; i < 1024; i++) {
        guest_write32(g, TABLE_LOW + 4 * i, i << 12 | 7);
        guest_write32(g, TABLE_ALIAS + 4 * i, i << 12 | 7);
    }
    guest_write32(g, DIRECTORY, TABLE_LOW | 7);
    guest_write32(g, DIRECTORY + 4, TABLE_ALIAS | 7);
    g->state.cr3 = DIRECTORY;
    g->state.cr0 |= X86_CR0_PG;
}

/* The routine at 12000 is called there and at 412000, and written through both. */
GUEST_CODE(alias32, 32,
           "mov $100, %ecx\n xor %ebx, %ebx\n mov $0x12000, %esi\n mov $0x412000, %edi\n"
           "1: mov %ecx, 1(%esi)\n call *%esi\n imul $3, %ebx\n add %eax, %ebx\n call *%edi\n"
           "imul $3, %ebx\n add %eax, %ebx\n xchg %esi, %edi\n push %edi\n"
           "testb $2, %cl\n jz 2f\n pop %edi\n push %edi\n 2: pop %edx\n dec %ecx\n jnz 1b\n hlt");
GUEST_CODE(routine, 32, "mov $0, %eax\n ret");

static void test_alias(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 32);
    make_alias(&g);
    as_write(g.as, 0x12000, routine, (size_t)(routine_end - routine));
    guest_place(&g, alias32, alias32_end);
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    uint32_t expected = 0;
    for (uint32_t c = 100; c; c--)
        expected = (expected * 3 + c) * 3 + c;
    assert_int_equal(g.state.gpr[X86_RBX], expected);
    guest_destroy(&g);
}

/* The program writes to itself through the alias: next instruction, same block. */
GUEST_CODE(alias_next32, 32,
           "6: mov $100, %ecx\n xor %ebx, %ebx\n"
           "1: mov %ecx, 2f - 6b + 0x410001\n 2: mov $0, %eax\n imul $3, %ebx\n add %eax, %ebx\n"
           "mov $0x412345, %eax\n push %eax\n pop %eax\n dec %ecx\n jnz 1b\n hlt");

static void test_alias_next(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 32);
    make_alias(&g);
    guest_place(&g, alias_next32, alias_next32_end);
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    uint32_t expected = 0;
    for (uint32_t c = 100; c; c--)
        expected = expected * 3 + c;
    assert_int_equal(g.state.gpr[X86_RBX], expected);
    guest_destroy(&g);
}

/* --- instructions that cross a page --- */

/* 11FFD: MOV EAX, imm32; RET, in two pages; each half is written, by the program or by a device. */
GUEST_CODE(
    crossing32, 32,
    "mov $100, %ecx\n xor %ebx, %ebx\n"
    "1: mov %cl, 0x11ffe\n call crossing32 + 0x1ffd\n"
    "imul $3, %ebx\n add %eax, %ebx\n mov %cl, 0x12001\n call crossing32 + 0x1ffd\n"
    "imul $3, %ebx\n add %eax, %ebx\n movl $0x12000, 0x100014\n mov %ecx, %eax\n"
    "mov 0x12000, %edx\n mov %cl, %dl\n mov %edx, %eax\n out %eax, $5\n"
    "mov $0x11ffd, %eax\n call *%eax\n imul $3, %ebx\n add %eax, %ebx\n dec %ecx\n jnz 1b\n hlt");

static void test_crossing_code(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 32);
    g.on_port = write_memory;
    as_write(g.as, 0x11ffd, routine, (size_t)(routine_end - routine));
    guest_place(&g, crossing32, crossing32_end);
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    uint32_t expected = 0, word = 0;
    for (uint32_t c = 100; c; c--) {
        word = (word & ~0xffu) | (c & 0xff);
        expected = expected * 3 + word;
        word = (word & 0x00ffffff) | c << 24;
        expected = expected * 3 + word;
        word = (word & ~0xff0000u) | (c & 0xff) << 16;
        expected = expected * 3 + word;
    }
    assert_int_equal(g.state.gpr[X86_RBX], expected);
    guest_destroy(&g);
}

/* 11FFD: JMP rel32, alone on the second page with its upper half: to 31002 or 41002. */
GUEST_CODE(crossing_jump32, 32,
           "mov $100, %ecx\n xor %ebx, %ebx\n"
           "1: mov %cl, %al\n and $1, %al\n inc %al\n mov %al, 0x12000\n"
           "call crossing_jump32 + 0x1ffd\n imul $3, %ebx\n add %eax, %ebx\n dec %ecx\n jnz 1b\n"
           "hlt");

static void test_crossing_jump(void **state)
{
    (void)state;
    static const uint8_t jump[] = {0xe9, 0x00, 0xf0, 0x00, 0x00};
    static const uint8_t one[] = {0xb8, 1, 0, 0, 0, 0xc3}, two[] = {0xb8, 2, 0, 0, 0, 0xc3};
    struct guest g;
    guest_create(&g, 32);
    as_write(g.as, 0x11ffd, jump, sizeof(jump));
    as_write(g.as, 0x12002 + 0x1f000, one, sizeof(one));
    as_write(g.as, 0x12002 + 0x2f000, two, sizeof(two));
    guest_place(&g, crossing_jump32, crossing_jump32_end);
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    uint32_t expected = 0;
    for (uint32_t c = 100; c; c--)
        expected = expected * 3 + (c & 1) + 1;
    assert_int_equal(g.state.gpr[X86_RBX], expected);
    guest_destroy(&g);
}

/* --- what is assumed about the code behind a block --- */

/*
 * At 1 and 3 CF is live or dead depending on what is at 2 and 4: XOR EAX, EAX (31 C0) or
 * SBB EAX, EAX (19 C0). The load in between would lose dead flags.
 */
GUEST_CODE(peek32, 32,
           "6: mov $100, %ecx\n xor %ebx, %ebx\n mov $0x100000, %esi\n"
           "1: mov $0x19, %dl\n test $1, %cl\n jz 5f\n mov $0x31, %dl\n"
           "5: mov %dl, 2f - 6b + 0x10000\n test $2, %cl\n jz 5f\n mov %dl, 4f - 6b + 0x10000\n"
           "5: stc\n mov (%esi), %edx\n jmp 2f\n .balign 32\n 2: xor %eax, %eax\n"
           "imul $3, %ebx\n sub %eax, %ebx\n"
           "3: cmp $200, %ecx\n mov (%esi), %edx\n push %edx\n pop %edx\n jns 4f\n jmp 7f\n"
           "7: jmp 4f\n .balign 32\n 4: xor %eax, %eax\n imul $3, %ebx\n sub %eax, %ebx\n"
           "dec %ecx\n jnz 1b\n hlt");

static void test_assumed_flags(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 32);
    guest_place(&g, peek32, peek32_end);
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    uint32_t expected = 0;
    bool second_reads = false;
    for (uint32_t c = 100; c; c--) {
        bool first_reads = !(c & 1);
        if (c & 2)
            second_reads = first_reads;
        expected = expected * 3 + first_reads;
        expected = expected * 3 + second_reads;
    }
    assert_int_equal(g.state.gpr[X86_RBX], expected);
    guest_destroy(&g);
}

/* --- pages that are code and something else --- */

/* Code on the page of its stack, a call stack around it. */
GUEST_CODE(
    on_stack32, 32,
    "mov $1000, %ecx\n xor %ebx, %ebx\n mov $2f - on_stack32 + 0x10000 - 0x40, %esp\n jmp 2f\n"
    ".balign 128\n 2: push %ecx\n push $5\n pop %edx\n call 3f\n add (%esp), %ebx\n"
    "pop %edx\n dec %ecx\n jnz 2b\n hlt\n"
    "3: push %ebp\n mov %esp, %ebp\n push %edx\n addl $1, -4(%ebp)\n add -4(%ebp), %ebx\n"
    "leave\n ret");

static void test_code_on_stack(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 32);
    guest_place(&g, on_stack32, on_stack32_end);
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    assert_int_equal(g.state.gpr[X86_RBX], 500500 + 6 * 1000);
    guest_destroy(&g);
}

/* A counter beside the code that counts: the code must not be made anew each time. */
GUEST_CODE(hot_page32, 32,
           "6: mov $50000, %ecx\n 1: incl 2f - 6b + 0x10000\n mov 2f - 6b + 0x10000, %eax\n"
           "add %eax, 2f - 6b + 0x10004\n adcl $0, 2f - 6b + 0x10008\n loop 1b\n hlt\n .balign 64\n"
           "2: .long 0, 0, 0");

static void test_hot_page(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 32);
    guest_place(&g, hot_page32, hot_page32_end);
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    uint64_t words = CODE + (uint64_t)(hot_page32_end - hot_page32) - 12;
    assert_int_equal(guest_read32(&g, words), 50000);
    assert_true(guest_read64(&g, words + 4) == 50000ull * 50001 / 2);
    guest_destroy(&g);
}

/* A place that is data first, then code, then both in turn with a counter beside it. */
GUEST_CODE(becomes_code32, 32,
           "6: mov $2f - 6b + 0x10000, %esi\n mov $1000, %ecx\n xor %ebx, %ebx\n"
           "1: incl (%esi)\n incl 4(%esi)\n incl 64(%esi)\n loop 1b\n"
           "movl $0xb8, (%esi)\n movl $0xc300, 4(%esi)\n mov $1000, %ecx\n" /* MOV EAX; RET */
           "1: mov %ecx, 1(%esi)\n call *%esi\n add %eax, %ebx\n incl 64(%esi)\n incl 8(%esi)\n"
           "call *%esi\n add %eax, %ebx\n loop 1b\n hlt\n .balign 64\n 2: .fill 17, 4, 0");

static void test_data_becomes_code(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 32);
    guest_place(&g, becomes_code32, becomes_code32_end);
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    assert_int_equal(g.state.gpr[X86_RBX], 1000 * 1001);
    uint64_t place = CODE + (uint64_t)(becomes_code32_end - becomes_code32) - 17 * 4;
    assert_int_equal(guest_read32(&g, place + 64), 2000);
    assert_int_equal(guest_read32(&g, place + 8), 1000);
    assert_in_range(g.vcpu->stats.writes_beside_code, 4000, 5100);
    guest_destroy(&g);
}

/* --- code made by copying --- */

/* Two routines are copied to the same place in turn and called directly and through a register. */
GUEST_CODE(copies32, 32,
           "mov $400, %edx\n xor %ebx, %ebx\n"
           "1: mov $0x14000, %esi\n test $1, %dl\n jz 2f\n mov $0x14100, %esi\n"
           "2: mov $0x12f80, %edi\n mov $0x100, %ecx\n cld\n test $2, %dl\n jz 3f\n std\n"
           "lea 0xff(%esi), %esi\n lea 0xff(%edi), %edi\n"
           "3: rep movsb\n cld\n call copies32 + 0x2f80\n imul $3, %ebx\n add %eax, %ebx\n"
           "mov $0x12f80, %esi\n call *%esi\n imul $3, %ebx\n add %eax, %ebx\n"
           "test $15, %dl\n jnz 4f\n mov $0x12f80, %edi\n mov $0x40, %ecx\n mov $0xc340c340, %eax\n"
           "rep stosl\n xor %eax, %eax\n call *%esi\n add %eax, %ebx\n"
           "4: dec %edx\n jnz 1b\n hlt");
GUEST_CODE(copied_one, 32, ".rept 120\n nop\n .endr\n jmp 1f\n nop\n 1: mov $1, %eax\n ret");
GUEST_CODE(copied_two, 32,
           ".rept 60\n .byte 0x66, 0x90\n .endr\n nop\n mov $2, %eax\n mov $2, %ah\n ret");

static void test_copies(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 32);
    as_write(g.as, 0x14000, copied_one, (size_t)(copied_one_end - copied_one));
    as_write(g.as, 0x14100, copied_two, (size_t)(copied_two_end - copied_two));
    guest_place(&g, copies32, copies32_end);
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    uint32_t expected = 0;
    for (uint32_t d = 400; d; d--) {
        uint32_t value = d & 1 ? 0x202 : 1;
        expected = (expected * 3 + value) * 3 + value;
        expected += (d & 15) == 0;
    }
    assert_int_equal(g.state.gpr[X86_RBX], expected);
    guest_destroy(&g);
}

/* --- an instruction that takes the slow path --- */

/* ADD and SUB to a device register in turn; two forms of the address. */
GUEST_CODE(slow32, 32,
           "6: mov $40, %ecx\n mov $0xd0000000, %esi\n mov $3, %edx\n"
           "1: xorb $0x28, 2f - 6b + 0x10000\n 2: add %edx, (%esi)\n"
           "xorb $0x04, 3f - 6b + 0x10002\n 3: .byte 0x89, 0x56, 0 /* mov %edx, 0(%esi) */\n mov "
           "(%esi), %eax\n"
           "add %edx, %eax\n mov %eax, %edx\n dec %ecx\n jnz 1b\n hlt");

static uint64_t read_register(void *ctx, uint64_t offset, unsigned size)
{
    (void)size;
    return ((uint32_t *)ctx)[offset / 4 & 1];
}

static void write_register(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    (void)size;
    ((uint32_t *)ctx)[offset / 4 & 1] = (uint32_t)value;
}

static void test_slow_code(void **state)
{
    (void)state;
    static const struct io_ops ops = {
        .read = read_register, .write = write_register, .min_size = 4, .max_size = 4};
    struct guest g;
    struct vd_error err;
    uint32_t registers[2] = {0, 0};
    guest_create(&g, 32);
    assert_non_null(as_map_mmio(g.as, 0xd0000000, 4096, &ops, registers, "registers", &err));
    guest_place(&g, slow32, slow32_end);
    as_write(g.as, CODE + (uint64_t)(slow32_end - slow32), "\xf4", 1);
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    uint32_t expected[2] = {0, 0}, edx = 3;
    for (unsigned i = 0; i < 40; i++) {
        expected[0] += i % 2 ? edx : 0 - edx;
        expected[i % 2 ? 0 : 1] = edx;
        edx += expected[0];
    }
    assert_int_equal(registers[0], expected[0]);
    assert_int_equal(registers[1], expected[1]);
    assert_int_equal(g.state.gpr[X86_RDX], edx);
    guest_destroy(&g);
}

/* --- code in the memory of a device --- */

/* MOV EAX, imm32; RET at D0000000: direct and indirect calls must fetch it anew each time. */
GUEST_CODE(device32, 32,
           "mov $40, %ecx\n xor %ebx, %ebx\n mov $0xd0000000, %esi\n"
           "1: mov %ecx, 1(%esi)\n call device32 - 0x30010000\n imul $3, %ebx\n add %eax, %ebx\n"
           "incl 1(%esi)\n call *%esi\n imul $3, %ebx\n add %eax, %ebx\n dec %ecx\n jnz 1b\n hlt");

static uint64_t read_device(void *ctx, uint64_t offset, unsigned size)
{
    uint64_t value = 0;
    memcpy(&value, (uint8_t *)ctx + offset, size);
    return value;
}

static void write_device(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    memcpy((uint8_t *)ctx + offset, &value, size);
}

static void test_code_in_device_memory(void **state)
{
    (void)state;
    static const struct io_ops ops = {
        .read = read_device, .write = write_device, .min_size = 1, .max_size = 8};
    uint8_t memory[4096] = {0xb8, 0, 0, 0, 0, 0xc3};
    struct guest g;
    struct vd_error err;
    guest_create(&g, 32);
    assert_non_null(as_map_mmio(g.as, 0xd0000000, 4096, &ops, memory, "memory", &err));
    guest_place(&g, device32, device32_end);
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    uint32_t expected = 0;
    for (uint32_t c = 40; c; c--)
        expected = (expected * 3 + c) * 3 + c + 1;
    assert_int_equal(g.state.gpr[X86_RBX], expected);
    guest_destroy(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writers),           cmocka_unit_test(test_same_instruction),
        cmocka_unit_test(test_backward),          cmocka_unit_test(test_alias),
        cmocka_unit_test(test_alias_next),        cmocka_unit_test(test_crossing_code),
        cmocka_unit_test(test_crossing_jump),     cmocka_unit_test(test_assumed_flags),
        cmocka_unit_test(test_code_on_stack),     cmocka_unit_test(test_hot_page),
        cmocka_unit_test(test_data_becomes_code), cmocka_unit_test(test_copies),
        cmocka_unit_test(test_slow_code),         cmocka_unit_test(test_code_in_device_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
