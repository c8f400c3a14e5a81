/*
 * MODES 32 64. Code that is written to just before it runs: every way to write, every distance
 * between the writer and what it changes, in 16, 32 and 64-bit code at CPL 0 and 3 and in real
 * mode, through mappings of all kinds. What runs is what memory says (SDM vol. 3, 8.1.3 and 11.6):
 * the target loads a constant into EBP, which has to be the one that its bytes hold afterwards.
 */
#include "paging.h"

enum {
    CONSTANTS = 0x7400, /* what writers copy from; low, since 16-bit string instructions do */
    COUNTER = 0x7600,   /* of the loops in the code under test */
    FAR_POINTER = 0x7610,
    SCRATCH_AT = 0x7700, /* where EAX points when zeros run as ADD [EAX], AL */
    CODE_FIRST = 0x8000,
    WRITER_AT = 0x9100,
    TARGET_AT = 0x9400,
    PAGE_END = 0xa000,
    CODE_END = 0xf000,
    ALIAS = 0x40000000, /* + address: 4 KiB pages */
    LARGE = 0x40400000, /* + address: a page of 2 or 4 MiB */
    HEAD = 16,          /* bytes of the target's instruction and of NOPs behind it */
    TAIL = 24,
    CONSTANT_BYTES = 128,
    ROUNDS = 4
};

enum { FLAG_STACK = 1, FLAG_STRING = 2, FLAG_AVX = 4, FLAG_PROTECTED = 8 };

struct writer {
    const char *name;
    const uint8_t *code[3], *end[3]; /* 16, 32 and 64-bit code; NULL: not there */
    unsigned size;                   /* copied from CONSTANTS to the target; 0: into its constant */
    unsigned before, align, flags;   /* written ahead of the target as well */
};

/*
 * In: EDI the target, or its constant, ESI a copy of what has to be there, EAX a new constant.
 * EBX keeps ESP of those with FLAG_STACK.
 */
#define COPY_ST                                                                                    \
    "fninit\n fldt 70(%esi)\n fldt 60(%esi)\n fldt 50(%esi)\n fldt 40(%esi)\n fldt 30(%esi)\n"     \
    "fldt 20(%esi)\n fldt 10(%esi)\n fldt (%esi)\n"
#define COPY_XMM                                                                                   \
    "fninit\n movups (%esi), %xmm0\n movups 16(%esi), %xmm1\n movups 32(%esi), %xmm2\n"            \
    "movups 48(%esi), %xmm3\n movups 64(%esi), %xmm4\n movups 80(%esi), %xmm5\n"                   \
    "movups 96(%esi), %xmm6\n movups 112(%esi), %xmm7\n"
#define STACK_AT(distance) "movl %esp, %ebx\n leal " #distance "(%edi), %esp\n"

/* W(name, code, size, before, align, flags): in all modes; L: not in 64-bit code; Q: only there. */
#define WRITERS                                                                                    \
    W(mov1, "movb %al, 1(%edi)", 0, 0, 1, 0)                                                       \
    W(mov2, "movw %ax, 1(%edi)", 0, 0, 1, 0)                                                       \
    W(mov4, "movl %eax, (%edi)", 0, 0, 1, 0)                                                       \
    W(mov_immediate, "movl $0x5a5a5a5a, (%edi)", 0, 0, 1, 0)                                       \
    W(mov_selector, "movw %ds, (%edi)", 0, 0, 1, 0)                                                \
    W(add, "addl %eax, (%edi)", 0, 0, 1, 0)                                                        \
    W(lock_add, "lock addl %eax, (%edi)", 0, 0, 1, 0)                                              \
    W(neg, "negl (%edi)", 0, 0, 1, 0)                                                              \
    W(rol, "roll $3, (%edi)", 0, 0, 1, 0)                                                          \
    W(rcr, "rcrl $3, (%edi)", 0, 0, 1, 0)                                                          \
    W(not, "notl (%edi)", 0, 0, 1, 0)                                                              \
    W(lock_sbb, "lock sbbl %eax, (%edi)", 0, 0, 1, 0)                                              \
    W(lock_bts, "lock btsl $9, (%edi)", 0, 0, 1, 0)                                                \
    W(dec, "decb 3(%edi)", 0, 0, 1, 0)                                                             \
    W(movbe, "movbe %eax, (%edi)", 0, 0, 1, 0)                                                     \
    L(arpl, "arpl %ax, (%edi)", 0, 0, 1, FLAG_PROTECTED)                                           \
    W(fisttpl, "fninit\n fildl (%esi)\n fisttpl (%edi)", 0, 0, 1, 0)                               \
    W(extractps, "movups (%esi), %xmm3\n extractps $0, %xmm3, (%edi)", 0, 0, 1, 0)                 \
    W(pextrb, "movups (%esi), %xmm3\n pextrb $2, %xmm3, 2(%edi)", 0, 0, 1, 0)                      \
    W(movhps, "movhps (%esi), %xmm2\n movhps %xmm2, (%edi)", 8, 0, 1, 0)                           \
    W(xsaveopt, COPY_XMM "movl $3, %eax\n xorl %edx, %edx\n xsaveopt -160(%edi)", 128, 160, 64, 0) \
    W(shld, "shldl $5, %eax, (%edi)", 0, 0, 1, 0)                                                  \
    W(btc, "btcl $7, (%edi)", 0, 0, 1, 0)                                                          \
    W(bit_string, "movl $35, %ecx\n subl $4, %edi\n btcl %ecx, (%edi)", 0, 0, 1, 0)                \
    W(setc, "bt $0, %eax\n setc 2(%edi)", 0, 0, 1, 0)                                              \
    W(xchg, "xchgl %eax, (%edi)", 0, 0, 1, 0)                                                      \
    W(xadd, "lock xaddl %eax, (%edi)", 0, 0, 1, 0)                                                 \
    W(cmpxchg, "movl %eax, %ecx\n movl (%edi), %eax\n lock cmpxchgl %ecx, (%edi)", 0, 0, 1, 0)     \
    W(cmpxchg_fails,                                                                               \
      "movl (%edi), %ecx\n movl %ecx, %eax\n incl %eax\n"                                          \
      "lock cmpxchgl %ecx, (%edi)",                                                                \
      0, 0, 1, 0)                                                                                  \
    W(cmpxchg8b,                                                                                   \
      "movl (%edi), %eax\n movl 4(%edi), %edx\n movl (%esi), %ebx\n"                               \
      "movl 4(%esi), %ecx\n lock cmpxchg8b (%edi)",                                                \
      8, 0, 1, 0)                                                                                  \
    W(stosb, "stosb", 0, 0, 1, FLAG_STRING)                                                        \
    W(stosl, "stosl", 0, 0, 1, FLAG_STRING)                                                        \
    W(rep_stosb, "movl $4, %ecx\n rep stosb", 0, 0, 1, FLAG_STRING)                                \
    W(rep_stosb_down, "movl $4, %ecx\n addl $3, %edi\n std\n rep stosb\n cld", 0, 0, 1,            \
      FLAG_STRING)                                                                                 \
    W(movsl, "movsl", 0, 0, 1, FLAG_STRING)                                                        \
    W(rep_movsb, "movl $128, %ecx\n rep movsb", 128, 0, 1, FLAG_STRING)                            \
    W(rep_movsl, "movl $8, %ecx\n rep movsl", 32, 0, 1, FLAG_STRING)                               \
    W(rep_movsb_down, "movl $48, %ecx\n addl $47, %edi\n addl $47, %esi\n std\n rep movsb\n cld",  \
      48, 0, 1, FLAG_STRING)                                                                       \
    W(rep_movsl_down, "movl $8, %ecx\n addl $28, %edi\n addl $28, %esi\n std\n rep movsl\n cld",   \
      32, 0, 1, FLAG_STRING)                                                                       \
    W(push2, STACK_AT(2) "pushw %ax", 0, 0, 1, FLAG_STACK)                                         \
    W(push2_memory, STACK_AT(2) "pushw (%esi)", 0, 0, 1, FLAG_STACK)                               \
    W(push2_flags, STACK_AT(2) "pushfw", 0, 0, 1, FLAG_STACK)                                      \
    W(push2_selector, STACK_AT(2) "pushw %fs", 0, 0, 1, FLAG_STACK)                                \
    W(enter2, "movl %eax, %ebp\n" STACK_AT(2) "enterw $0, $0", 0, 0, 1, FLAG_STACK)                \
    W(pop2_memory, "movl %esp, %ebx\n movl %esi, %esp\n popw (%edi)", 0, 0, 1, FLAG_STACK)         \
    L(push4, STACK_AT(4) "pushl %eax", 0, 0, 1, FLAG_STACK)                                        \
    L(push4_pair, STACK_AT(8) "pushl 4(%esi)\n pushl (%esi)", 8, 0, 1, FLAG_STACK)                 \
    L(pusha,                                                                                       \
      "movl %esp, %ecx\n" STACK_AT(                                                                \
          32) "movl %ecx, COUNTER + 4\n"                                                           \
              "movl 28(%esi), %eax\n movl 24(%esi), %ecx\n movl 20(%esi), %edx\n"                  \
              "movl 16(%esi), %ebx\n movl 8(%esi), %ebp\n movl (%esi), %edi\n"                     \
              "movl 4(%esi), %esi\n pushal\n movl COUNTER + 4, %ebx",                              \
      12, 0, 1, FLAG_STACK)                                                                        \
    L(call, STACK_AT(4) "call 1f\n 1:", 0, 0, 1, FLAG_STACK)                                       \
    L(sidt, "sidtl (%edi)\n movl $SCRATCH_AT, %eax", 0, 0, 1, 0)                                   \
    L(sgdt, "sgdtl (%edi)\n movl $SCRATCH_AT, %eax", 0, 0, 1, 0)                                   \
    Q(mov8, "movq (%rsi), %rax\n movq %rax, (%rdi)", 8, 0, 1, 0)                                   \
    Q(push8, "movq %rsp, %rbx\n leaq 8(%rdi), %rsp\n pushq (%rsi)", 8, 0, 1, FLAG_STACK)           \
    Q(call8, "movq %rsp, %rbx\n leaq 8(%rdi), %rsp\n call 1f\n 1: movl $SCRATCH_AT, %eax", 0, 0,   \
      1, FLAG_STACK)                                                                               \
    Q(sidt8, "sidt (%rdi)\n movl $SCRATCH_AT, %eax", 0, 0, 1, 0)                                   \
    Q(cmpxchg16b,                                                                                  \
      "movq (%rdi), %rax\n movq 8(%rdi), %rdx\n movq (%rsi), %rbx\n"                               \
      "movq 8(%rsi), %rcx\n lock cmpxchg16b (%rdi)",                                               \
      16, 0, 16, 0)                                                                                \
    Q(movnti8, "movq (%rsi), %rax\n movnti %rax, (%rdi)", 8, 0, 1, 0)                              \
    Q(rep_stosq, "movq (%rsi), %rax\n movl $1, %ecx\n rep stosq", 8, 0, 1, FLAG_STRING)            \
    W(smsw, "smsw (%edi)", 0, 0, 1, 0)                                                             \
    W(sldt, "sldt (%edi)", 0, 0, 1, FLAG_PROTECTED)                                                \
    W(fnstcw, "fninit\n fnstcw (%edi)", 0, 0, 1, 0)                                                \
    W(fnstsw, "fninit\n fnstsw (%edi)", 0, 0, 1, 0)                                                \
    W(fistpl, "fninit\n fildl (%esi)\n fistpl (%edi)", 0, 0, 1, 0)                                 \
    W(fistpq, "fninit\n fildll (%esi)\n fistpll (%edi)", 8, 0, 1, 0)                               \
    W(fstl, "fninit\n fldl (%esi)\n fstl (%edi)", 8, 0, 1, 0)                                      \
    W(fstpt, "fninit\n fldt (%esi)\n fstpt (%edi)", 10, 0, 1, 0)                                   \
    W(fnsave, COPY_ST ".if BITS == 16\n fnsave -14(%edi)\n .else\n fnsave -28(%edi)\n .endif", 80, \
      28, 1, 0)                                                                                    \
    W(fxsave, COPY_XMM "fxsave -160(%edi)", 128, 160, 16, 0)                                       \
    W(xsave, COPY_XMM "movl $3, %eax\n xorl %edx, %edx\n xsave -160(%edi)", 128, 160, 64, 0)       \
    W(stmxcsr, "stmxcsr (%edi)", 0, 0, 1, 0)                                                       \
    W(movq_mmx, "movq (%esi), %mm0\n movq %mm0, (%edi)\n emms", 8, 0, 1, 0)                        \
    W(movntq, "movq (%esi), %mm0\n movntq %mm0, (%edi)\n emms", 8, 0, 1, 0)                        \
    W(movd, "movd %eax, %xmm1\n movd %xmm1, (%edi)", 0, 0, 1, 0)                                   \
    W(movss, "movss (%esi), %xmm1\n movss %xmm1, (%edi)", 0, 0, 1, 0)                              \
    W(movlps, "movlps (%esi), %xmm2\n movlps %xmm2, (%edi)", 8, 0, 1, 0)                           \
    W(movups, "movups (%esi), %xmm3\n movups %xmm3, (%edi)", 16, 0, 1, 0)                          \
    W(movaps, "movups (%esi), %xmm3\n movaps %xmm3, (%edi)", 16, 0, 16, 0)                         \
    W(movntdq, "movups (%esi), %xmm3\n movntdq %xmm3, (%edi)", 16, 0, 16, 0)                       \
    W(movnti, "movnti %eax, (%edi)", 0, 0, 1, 0)                                                   \
    W(pextrd, "movups (%esi), %xmm3\n pextrd $0, %xmm3, (%edi)", 0, 0, 1, 0)                       \
    W(maskmovdqu, "movups (%esi), %xmm0\n pcmpeqd %xmm1, %xmm1\n maskmovdqu %xmm1, %xmm0", 16, 0,  \
      1, FLAG_STRING)                                                                              \
    W(vmovdqu, "vmovdqu (%esi), %ymm4\n vmovdqu %ymm4, (%edi)", 32, 0, 1, FLAG_AVX)                \
    W(vmovaps, "vmovups (%esi), %ymm4\n vmovaps %ymm4, (%edi)", 32, 0, 32, FLAG_AVX)               \
    W(vmaskmov,                                                                                    \
      "vmovups (%esi), %ymm4\n vpcmpeqd %xmm5, %xmm5, %xmm5\n"                                     \
      "vmaskmovps %ymm4, %ymm5, (%edi)",                                                           \
      16, 0, 1, FLAG_AVX)                                                                          \
    W(vextract, "vmovups (%esi), %ymm4\n vextractf128 $0, %ymm4, (%edi)", 16, 0, 1, FLAG_AVX)

__asm__(".set COUNTER, 0x7600\n .set SCRATCH_AT, 0x7700");
#ifdef __x86_64__
#define NATIVE      "64"
#define ONLY64(...) __VA_ARGS__
#else
#define NATIVE "32"
#define ONLY64(...)
#endif
#define PIECE(name, bits, code)                                                                    \
    __asm__(".pushsection .rodata\n .set BITS, " #bits "\n .code" #bits "\n writer_" #name #bits   \
            ":\n" code "\n writer_" #name #bits "_end:\n .code" NATIVE "\n .popsection");          \
    extern const uint8_t writer_##name##bits[], writer_##name##bits##_end[];
#define L(name, code, size, before, align, flags) PIECE(name, 16, code) PIECE(name, 32, code)
#define Q(name, code, size, before, align, flags) ONLY64(PIECE(name, 64, code))
#define W(name, code, size, before, align, flags)                                                  \
    L(name, code, size, before, align, flags) Q(name, code, size, before, align, flags)
WRITERS
#undef L
#undef Q
#undef W

#define L(name, code, size, before, align, flags)                                                  \
    {#name,                                                                                        \
     {writer_##name##16, writer_##name##32},                                                       \
     {writer_##name##16_end, writer_##name##32_end},                                               \
     size,                                                                                         \
     before,                                                                                       \
     align,                                                                                        \
     flags},
#define Q(name, code, size, before, align, flags)                                                  \
    ONLY64({#name,                                                                                 \
            {0, 0, writer_##name##64},                                                             \
            {0, 0, writer_##name##64_end},                                                         \
            size,                                                                                  \
            before,                                                                                \
            align,                                                                                 \
            flags}, )
#define W(name, code, size, before, align, flags)                                                  \
    {#name,                                                                                        \
     {writer_##name##16, writer_##name##32, ONLY64(writer_##name##64)},                            \
     {writer_##name##16_end, writer_##name##32_end, ONLY64(writer_##name##64_end)},                \
     size,                                                                                         \
     before,                                                                                       \
     align,                                                                                        \
     flags},
static const struct writer writers[] = {WRITERS};
enum { WRITER_COUNT = sizeof(writers) / sizeof(writers[0]) };

/* --- the program around a writer --- */

enum distance {
    NEXT,
    SAME_BLOCK,
    BRANCH_TAKEN,
    BRANCH_NOT_TAKEN,
    PREVIOUS, /* a block that ran before and is jumped back to */
    FALL,     /* a loop that is fallen into */
    OTHER_PAGE,
    FALL_PAGE,  /* first of the following page */
    CROSSING_1, /* over two pages, with this many bytes on the first */
    CROSSING_2,
    CROSSING_3,
    CROSSING_4,
    RETURNED_TO, /* the writer is called, the target is where it returns */
    CALLED,
    JUMP_INDIRECT,
    PUSHED_RETURN,
    INTERRUPT_RETURN,
    DISTANCES
};

static struct program {
    const struct writer *writer;
    enum distance distance;
    unsigned bits, cpl;
    bool real;           /* mode, and RETF instead of UD2 at the end */
    uint32_t run, write; /* added to addresses that run or are written */
    uint32_t at;         /* where the next byte goes */
    uint32_t target, start, end;
    uint8_t tail[TAIL];
} program;

static uint32_t cases, random_state;
static uint32_t edit; /* added to addresses that the test itself writes to */

static volatile uint8_t *editable(uint32_t address)
{
    return (volatile uint8_t *)(uintptr_t)(address + edit);
}

static uint32_t random32(void)
{
    random_state = random_state * 1664525 + 1013904223;
    return random_state ^ random_state >> 15;
}

static void emit(uint8_t byte)
{
    *editable(program.at++) = byte;
}

static void emit_bytes(const uint8_t *from, const uint8_t *end)
{
    while (from != end)
        emit(*from++);
}

static void emit32(uint32_t value)
{
    for (unsigned i = 0; i < 4; i++)
        emit((uint8_t)(value >> 8 * i));
}

/* Displacement of a near branch as its last part. */
static void emit_relative(uint32_t to)
{
    if (program.bits == 16) {
        uint32_t displacement = to - (program.at + 2);
        emit((uint8_t)displacement);
        emit((uint8_t)(displacement >> 8));
    } else {
        emit32(to - (program.at + 4));
    }
}

static void emit_end(void)
{
    program.end = program.at;
    emit(program.real ? 0xcb : 0x0f); /* RETF or UD2 */
    emit(0x0b);
}

static void emit_jump(uint32_t to)
{
    emit(0xe9);
    emit_relative(to);
}

static void emit_jcc(unsigned condition, uint32_t to)
{
    emit(0x0f);
    emit((uint8_t)(0x80 | condition));
    emit_relative(to);
}

static void emit_count_down(void) /* SUBB $1, COUNTER */
{
    emit(0x80);
    if (program.bits == 64) {
        emit(0x2c);
        emit(0x25);
    } else {
        emit(program.bits == 32 ? 0x2d : 0x2e);
    }
    emit(COUNTER & 0xff);
    emit(COUNTER >> 8);
    if (program.bits != 16) {
        emit(0);
        emit(0);
    }
    emit(1);
}

static void emit_writer(void)
{
    const struct writer *w = program.writer;
    emit_bytes(w->code[program.bits / 32], w->end[program.bits / 32]);
    /* An exception at CPL 3 needs no stack of this program, one at CPL 0 does. */
    if (!(w->flags & FLAG_STACK) || (program.distance == NEXT && program.cpl))
        return;
    if (program.bits != 32)
        emit(program.bits == 16 ? 0x66 : 0x48);
    emit(0x89); /* MOV ESP, EBX */
    emit(0xdc);
}

static unsigned writer_length(void)
{
    program.at = WRITER_AT;
    emit_writer();
    return program.at - WRITER_AT;
}

static unsigned constant_offset(void)
{
    return program.bits == 16 ? 2 : 1;
}

/* A constant for EBP; but for 64-bit code a jump over the four bytes that PUSHA cannot choose. */
static void make_head(uint8_t *to, uint32_t constant)
{
    unsigned i = 0;
    if (program.bits == 16)
        to[i++] = 0x66;
    to[i++] = 0xbd;
    for (unsigned n = 0; n < 4; n++)
        to[i++] = (uint8_t)(constant >> 8 * n);
    while (i < HEAD)
        to[i++] = 0x90;
    if (program.bits == 64)
        return;
    to[10] = 0xeb;
    to[11] = HEAD - 12;
}

static void make_constants(uint32_t constant)
{
    uint8_t *to = (uint8_t *)CONSTANTS;
    make_head(to, constant);
    for (unsigned i = HEAD; i < CONSTANT_BYTES; i++)
        to[i] = i - HEAD < TAIL ? program.tail[i - HEAD] : 0x90;
}

/* The target as it is before the writer runs; only where it differs, which is faster. */
static void make_target(uint32_t constant)
{
    uint8_t head[HEAD];
    volatile uint8_t *target = editable(program.target);
    make_head(head, constant);
    for (unsigned i = 0; i < HEAD; i++) {
        if (target[i] != head[i])
            target[i] = head[i];
    }
}

/* What comes behind the target's head: it is emitted there and kept, since wide writers cover it.
 */
static void make_tail(uint32_t loop)
{
    volatile uint8_t *tail = editable(program.target + HEAD);
    for (unsigned i = 0; i < TAIL; i++)
        tail[i] = 0x90;
    program.at = program.target + HEAD;
    program.end = program.at;
    if (program.distance == PREVIOUS) {
        emit_jump(loop);
    } else {
        if (program.distance == FALL) {
            emit_count_down();
            emit_jcc(5, program.target);
        }
        emit_end();
    }
    for (unsigned i = 0; i < TAIL; i++)
        program.tail[i] = tail[i];
}

/* Before the target itself: by register, by RET, by IRET. */
static void emit_indirect(void)
{
    if (program.bits == 16)
        emit(0x66);
    emit(0xba); /* MOV EDX, target */
    emit32(program.target + program.run);
    switch (program.distance) {
    case JUMP_INDIRECT:
        emit(0xff);
        emit(0xe2);
        return;
    case PUSHED_RETURN:
        emit(0x52);
        emit(0xc3);
        return;
    default:
        break;
    }
    if (program.bits == 64) {
        static const uint8_t frame[] = {0x8c, 0xd1, 0x51, 0x54, 0x9c, 0x8c,
                                        0xc9, 0x51, 0x52, 0x48, 0xcf};
        emit_bytes(frame, frame + sizeof(frame)); /* SS RSP RFLAGS CS RIP, IRETQ */
    } else {
        static const uint8_t frame[] = {0x9c, 0x0e, 0x52, 0xcf}; /* EFLAGS CS EIP, IRET */
        emit_bytes(frame, frame + sizeof(frame));
    }
}

static void place_target(void)
{
    const struct writer *w = program.writer;
    uint32_t target = TARGET_AT + w->before;
    if (program.distance == OTHER_PAGE)
        target = PAGE_END + 0x400 + w->before;
    else if (program.distance == FALL_PAGE)
        target = PAGE_END;
    else if (program.distance >= CROSSING_1 && program.distance <= CROSSING_4)
        target = PAGE_END - (program.distance - CROSSING_1 + 1);
    program.target = target;
}

/* The writer ends where the target, or what jumps over what is written ahead of it, begins. */
static void emit_adjacent(void)
{
    static const uint8_t same_block[] = {0x90, 0x85, 0xd2, 0x90}; /* NOP; TEST EDX, EDX; NOP */
    unsigned length = writer_length(), glue = 0, jump = program.bits == 16 ? 3 : 5;
    if (program.distance == SAME_BLOCK)
        glue = sizeof(same_block);
    else if (program.distance == BRANCH_NOT_TAKEN)
        glue = 1 + 1 + jump;
    if (program.writer->before)
        glue += jump;
    program.at = program.start = program.target - program.writer->before - glue - length;
    emit_writer();
    if (program.distance == SAME_BLOCK) {
        emit_bytes(same_block, same_block + sizeof(same_block));
    } else if (program.distance == BRANCH_NOT_TAKEN) {
        emit(0xf8); /* CLC */
        emit_jcc(2, program.target + 0x200);
    }
    if (program.writer->before)
        emit_jump(program.target);
}

static void emit_apart(void)
{
    program.at = program.start = WRITER_AT;
    switch (program.distance) {
    case PREVIOUS: /* the second time the counter is zero */
        emit_jump(program.target);
        make_tail(program.at);
        program.at = WRITER_AT + (program.bits == 16 ? 3 : 5);
        emit_count_down();
        emit_jcc(5, program.at + 2 + 2 + (program.bits == 16 ? 2 : 4));
        emit_end();
        emit_writer();
        emit_jump(program.target);
        return;
    case BRANCH_TAKEN:
        emit_writer();
        emit(0xf9); /* STC */
        emit_jcc(2, program.target);
        return;
    case CALLED:
        emit_writer();
        if (program.real)
            emit(0x0e); /* PUSH CS, for RETF */
        emit(0xe8);
        emit_relative(program.target);
        emit(0xcb);
        return;
    case RETURNED_TO: {
        unsigned call = program.bits == 16 ? 3 : 5;
        emit_writer();
        emit(0xc3);
        program.at = program.start =
            program.target - program.writer->before - call - (program.writer->before ? call : 0);
        emit(0xe8);
        emit_relative(WRITER_AT);
        if (program.writer->before)
            emit_jump(program.target);
        return;
    }
    case JUMP_INDIRECT:
    case PUSHED_RETURN:
    case INTERRUPT_RETURN:
        emit_writer();
        emit_indirect();
        return;
    default:
        emit_writer();
        emit_jump(program.target);
    }
}

static bool is_adjacent(enum distance distance)
{
    return distance <= SAME_BLOCK || distance == BRANCH_NOT_TAKEN || distance == FALL ||
           distance == FALL_PAGE;
}

static void make_program(void)
{
    place_target();
    make_tail(0);
    if (is_adjacent(program.distance))
        emit_adjacent();
    else
        emit_apart();
    make_target(random32());
}

static bool program_exists(void)
{
    const struct writer *w = program.writer;
    bool crossing = program.distance >= CROSSING_1 && program.distance <= CROSSING_4;
    if (!w->code[program.bits / 32])
        return false;
    if (program.bits == 16 && (program.run || (program.write && (w->flags & FLAG_STRING))))
        return false;
    if (crossing && w->align > 1)
        return false;
    return program.distance != FALL_PAGE || !w->before;
}

/* --- real mode --- */

#ifdef __x86_64__
static void real_enter(struct guest_call *call)
{
    (void)call;
}
#else
/* Copied to REAL_AT: to real mode, a far call through FAR_POINTER with registers, and back. */
__asm__(".set REAL_AT, 0x7800\n .set REAL_REGISTERS, 0x7640\n"
        ".pushsection .rodata\n real_begin:\n pushal\n sidt REAL_REGISTERS + 32\n"
        "movl %esp, REAL_REGISTERS + 16\n lidt REAL_AT + (4f - real_begin)\n"
        "movw $0x28, %ax\n movw %ax, %ds\n movw %ax, %es\n movw %ax, %ss\n"
        "ljmp $0x20, $REAL_AT + (1f - real_begin)\n"
        ".code16\n 1: movl %cr0, %eax\n andl $~1, %eax\n movl %eax, %cr0\n"
        "ljmp $0, $REAL_AT + (2f - real_begin)\n"
        "2: xorw %ax, %ax\n movw %ax, %ds\n movw %ax, %es\n movw %ax, %ss\n"
        "movl $0x7300, %esp\n movl REAL_REGISTERS, %eax\n movl REAL_REGISTERS + 4, %esi\n"
        "movl REAL_REGISTERS + 8, %edi\n lcall *0x7610\n movl %ebp, REAL_REGISTERS + 12\n"
        "movl %cr0, %eax\n orl $1, %eax\n movl %eax, %cr0\n"
        "ljmpl $0x08, $REAL_AT + (3f - real_begin)\n"
        ".code32\n 3: movw $0x3b, %ax\n movw %ax, %ds\n movw %ax, %es\n movw $0x10, %ax\n"
        "movw %ax, %ss\n movl REAL_REGISTERS + 16, %esp\n lidt REAL_REGISTERS + 32\n"
        "popal\n ret\n 4: .word 0x3ff\n .long 0\n real_end:\n .popsection");
extern const uint8_t real_begin[], real_end[];

static void real_enter(struct guest_call *call)
{
    enum { REAL_AT = 0x7800, REAL_REGISTERS = 0x7640 };
    volatile uint32_t *registers = (volatile uint32_t *)REAL_REGISTERS;
    volatile uint8_t *copy = (volatile uint8_t *)REAL_AT;
    for (unsigned i = 0; i < (unsigned)(real_end - real_begin); i++) {
        if (copy[i] != real_begin[i])
            copy[i] = real_begin[i];
    }
    *(volatile uint32_t *)FAR_POINTER = program.start;
    registers[0] = call->ax;
    registers[1] = call->si;
    registers[2] = call->di;
    __asm__ volatile("call *%0" : : "r"(REAL_AT) : "memory", "cc");
    call->bp = registers[3];
}
#endif

/* --- runs --- */

/* From the native mode of the image into the program's. */
static uint32_t make_entry(void)
{
    static const uint16_t code[2][3] = {{0x20, 0x08, 0x18}, {0x9b, 0x33, 0x43}};
    uint32_t entry = program.at = CODE_FIRST;
    if (MODE == 64 && program.bits != 64) {
        static const uint8_t load[] = {0x8e, 0xd9, 0x8e, 0xc1}; /* MOV DS, CX; MOV ES, CX */
        emit(0xb9);
        emit32(program.cpl ? 0x3b : 0x10);
        emit_bytes(load, load + sizeof(load));
        emit(0x8e); /* MOV SS, CX */
        emit(0xd1);
    }
    *(volatile uint32_t *)(uintptr_t)FAR_POINTER = program.start + program.run;
    *(volatile uint16_t *)(uintptr_t)(FAR_POINTER + 4) = code[program.cpl / 3][program.bits / 32];
    emit(0xff); /* JMP FAR */
    if (MODE == 64) {
        emit(0x2c);
        emit(0x25);
    } else {
        emit(0x2d);
    }
    emit32(FAR_POINTER);
    return entry;
}

static void fail_case(const char *what, unsigned line, uint32_t value)
{
    print("%s: %s distance %u bits %u%s%u run %x write %x\n", what, program.writer->name,
          program.distance, program.bits, program.real ? " real mode" : " cpl ", program.cpl,
          program.run, program.write);
    guest_fail(line, value);
}
#define CHECK(what, condition, value)                                                              \
    ((condition) ? (void)0 : fail_case(what, __LINE__, (uint32_t)(value)))

/* One run; the odd ones find a constant that somebody else has just stored, some write what is
 * there. */
static void run_once(uint32_t entry, unsigned round)
{
    volatile uint8_t *target = editable(program.target);
    volatile uint32_t *constant = (volatile uint32_t *)(target + constant_offset());
    const struct writer *w = program.writer;
    uint32_t value = random32();
    if (w->size == 0) /* what follows the constant may have been covered */
        make_target(*constant);
    if (round & 1)
        *constant = random32();
    if (round == 2)
        value = *constant;
    make_constants(value);
    *(volatile uint8_t *)(uintptr_t)COUNTER = 2;
    uint32_t offset = w->size ? 0 : constant_offset();
    struct guest_call call = {.code = entry,
                              .user = program.cpl != 0,
                              .ax = value,
                              .si = CONSTANTS + offset,
                              .di = program.target + program.write + offset};
    if (program.real) {
        real_enter(&call);
    } else {
        guest_enter(&call);
        CHECK("vector", SEEN.vector == VECTOR_UD, SEEN.vector);
        CHECK("end", SEEN.ip == program.end + program.run, SEEN.ip);
    }
    CHECK("constant", (uint32_t)call.bp == *constant, call.bp);
    const uint8_t *wanted = (const uint8_t *)CONSTANTS;
    for (unsigned i = 0; i < w->size; i++)
        CHECK("written", target[i] == wanted[i], i);
    cases++;
}

static void run_program(const struct program *wanted)
{
    program = *wanted;
    if (!program_exists())
        return;
    make_program();
    uint32_t entry = make_entry();
    for (unsigned round = 0; round < ROUNDS; round++)
        run_once(entry, round);
}

static void run_all(uint32_t run, uint32_t write, bool avx)
{
    for (unsigned w = 0; w < WRITER_COUNT; w++)
        for (unsigned distance = 0; distance < DISTANCES; distance++)
            for (unsigned bits = 16; bits <= MODE; bits *= 2)
                for (unsigned cpl = 0; cpl <= 3; cpl += 3)
                    if (avx || !(writers[w].flags & FLAG_AVX))
                        run_program(&(struct program){.writer = &writers[w],
                                                      .distance = (enum distance)distance,
                                                      .bits = bits,
                                                      .cpl = cpl,
                                                      .run = run,
                                                      .write = write});
}

static void run_real(void)
{
    for (unsigned w = 0; w < WRITER_COUNT; w++)
        for (unsigned distance = 0; distance < DISTANCES; distance++)
            if (!(writers[w].flags & (FLAG_AVX | FLAG_PROTECTED)))
                run_program(&(struct program){.writer = &writers[w],
                                              .distance = (enum distance)distance,
                                              .bits = 16,
                                              .real = true});
}

/* --- mappings --- */

static __attribute__((aligned(PAGE))) uintptr_t directory[PAGE / sizeof(uintptr_t)],
    table[PAGE / sizeof(uintptr_t)];
enum { ENTRIES = PAGE / sizeof(uintptr_t) };
#ifdef __x86_64__
#define IDENTITY ((volatile uintptr_t *)0x13000) /* ../common.S has made it */
#else
static __attribute__((aligned(PAGE))) uint32_t identity[ENTRIES];
#define IDENTITY ((volatile uintptr_t *)identity)
#endif

static void identity_rights(unsigned rights)
{
    for (uint32_t at = CODE_FIRST; at < CODE_END; at += PAGE)
        IDENTITY[at / PAGE] = at | rights;
    flush();
}

static void alias_rights(unsigned rights)
{
    for (unsigned i = 0; i < ENTRIES; i++)
        table[i] = i * (uintptr_t)PAGE | rights;
    flush();
}

static void make_mappings(void)
{
    unsigned large = LARGE - ALIAS;
#ifdef __x86_64__
    directory[0] = (uintptr_t)table | PT_ALL;
    directory[large >> 21] = PT_PS | PT_ALL;
    *(volatile uintptr_t *)0x11008 = (uintptr_t)directory | PT_ALL; /* the second GiB */
#else
    directory[0] = (uintptr_t)identity | PT_ALL;
    directory[ALIAS >> 22] = (uintptr_t)table | PT_ALL;
    directory[(ALIAS + large) >> 22] = PT_PS | PT_ALL;
    for (unsigned i = 0; i < ENTRIES; i++)
        identity[i] = i * PAGE | PT_ALL;
    write_cr4(read_cr4() | CR4_PSE);
    write_cr3((uintptr_t)directory);
    write_cr0(read_cr0() | CR0_PG | CR0_WP);
#endif
    alias_rights(PT_ALL);
}

static bool vectors_on(void)
{
    uint32_t components = 3;
    bool avx = cpuid(1, 0).ecx & 1u << 28;
    write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE);
    if (avx)
        components = 7;
    __asm__ volatile("xsetbv" : : "a"(components), "d"(0), "c"(0));
    return avx;
}

static void user_code16(void)
{
    struct {
        uint16_t limit;
        uintptr_t base;
    } __attribute__((packed)) gdtr;
    __asm__ volatile("sgdt %0" : "=m"(gdtr));
    *(volatile uint64_t *)(gdtr.base + 0x98) = 0x0000fb000000ffff;
}

void guest_main(void)
{
    bool avx = vectors_on();
    random_state = 20240607;
    user_code16();
    if (MODE == 32) { /* without paging */
        run_all(0, 0, avx);
        run_real();
    }
    make_mappings();
    run_all(0, 0, avx);
    run_all(0, ALIAS, avx);
    run_all(ALIAS, 0, avx);
    run_all(ALIAS, LARGE, avx);
    identity_rights(PT_P | PT_U); /* read-only where it runs */
    edit = ALIAS;
    run_all(0, LARGE, avx);
    edit = 0;
    identity_rights(PT_ALL);
    print("%u cases\n", cases);
}
