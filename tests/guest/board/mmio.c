/*
 * Instructions whose operands are device memory (the test device's), against the same instructions
 * on RAM: results, flags and every byte of memory must agree, also when the operand crosses a page
 * or a port has the other side of the transfer.
 */
#include "board.h"

#ifdef __x86_64__
#define R(name) "%%r" name
#else
#define R(name) "%%e" name
#endif

enum { SIZE = 128, OPERAND = 40 };
#define DEVICE 0xff008000u

struct outcome {
    unsigned long a, b, c, d, si, di, flags;
};
typedef void operation(uint8_t *operand, struct outcome *io);

static uint8_t ram[3 * 4096] __attribute__((aligned(4096)));

/* rdi or edi: the operand; a, b, c, d, si as in *io. */
#define OPERATION(name, ...)                                                                       \
    static void name(uint8_t *operand, struct outcome *io)                                         \
    {                                                                                              \
        unsigned long di = (unsigned long)operand;                                                 \
        __asm__ volatile("cld\n\tcmpl %%esp, %%esp\n\t" __VA_ARGS__                                \
                         "\n\tpushf\n\tpop %[flags]\n\tcld"                                        \
                         : "+a"(io->a), "+b"(io->b), "+c"(io->c), "+d"(io->d), "+S"(io->si),       \
                           "+D"(di), [flags] "=m"(io->flags)                                       \
                         :                                                                         \
                         : "memory", "cc");                                                        \
        io->di = di - (unsigned long)operand;                                                      \
    }

OPERATION(add8, "addb %%al, (" R("di") ")")
OPERATION(adc16, "stc\n\tadcw %%ax, (" R("di") ")")
OPERATION(sub32, "subl %%eax, (" R("di") ")")
OPERATION(cmp_load, "cmpl (" R("di") "), %%eax")
OPERATION(test_imm, "testl $0x5a5a5a5a, (" R("di") ")")
OPERATION(not32, "notl (" R("di") ")")
OPERATION(neg8, "negb (" R("di") ")")
OPERATION(inc16, "incw (" R("di") ")")
OPERATION(shl_cl, "movb $3, %%cl\n\tshll %%cl, (" R("di") ")")
OPERATION(rcr_one, "stc\n\trcrl $1, (" R("di") ")")
OPERATION(shld, "shldl $5, %%eax, (" R("di") ")")
OPERATION(imul, "imull (" R("di") "), %%eax\n\ttestl %%eax, %%eax")
OPERATION(mul8, "mulb (" R("di") ")\n\ttestl %%eax, %%eax")
OPERATION(div32, "xorl %%edx, %%edx\n\tdivl (" R("di") ")\n\ttestl %%eax, %%eax")
OPERATION(lock_xadd, "lock xaddl %%eax, (" R("di") ")")
OPERATION(xchg, "xchgl %%eax, (" R("di") ")")
OPERATION(cmpxchg_no, "lock cmpxchgl %%ebx, (" R("di") ")")
OPERATION(cmpxchg_yes, "movl (" R("di") "), %%eax\n\tlock cmpxchgl %%ebx, (" R("di") ")")
OPERATION(cmpxchg8b, "movl (" R("di") "), %%eax\n\tmovl 4(" R("di") "), %%edx\n\t"
                                                                    "lock cmpxchg8b (" R("di") ")")
OPERATION(bts_far, "movl $37, %%eax\n\tlock btsl %%eax, (" R("di") ")\n\tadcl $0, %%ebx")
OPERATION(btc_imm, "btcl $9, (" R("di") ")\n\tadcl $0, %%ebx")
OPERATION(bsf, "bsfl (" R("di") "), %%eax\n\ttestl %%eax, %%eax")
OPERATION(movzx, "movzbl (" R("di") "), %%eax\n\tmovswl 2(" R("di") "), %%ebx")
OPERATION(bswap_store, "bswapl %%eax\n\tmovl %%eax, (" R("di") ")")
OPERATION(set_store, "stc\n\tsetc (" R("di") ")\n\tsetnz 1(" R("di") ")")
OPERATION(cmov, "testl %%eax, %%eax\n\tcmovnzl (" R("di") "), %%ebx")
OPERATION(push_pop, "push (" R("di") ")\n\tpop 8(" R("di") ")")
OPERATION(push_there, "mov " R("sp") ", " R("si") "\n\tmov " R("di") ", " R(
                          "sp") "\n\t"
                                "push " R("ax") "\n\tpush $0x1234\n\tpop " R(
                                    "bx") "\n\t"
                                          "mov " R("si") ", " R(
                                              "sp") "\n\txor %%esi, %%esi\n\ttestl %%ebx, %%ebx")
OPERATION(call_there, "lea 1f, " R("ax") "\n\tmov " R("ax") ", (" R("di") ")\n\tcall *(" R(
                          "di") ")\n\tjmp 2f\n1:\tmovl $77, %%ebx\n\tret\n2:\txor %%eax, %%eax\n\t"
                                "mov " R("ax") ", (" R("di") ")")
OPERATION(sse_store,
          "movd %%eax, %%xmm0\n\tpshufd $0, %%xmm0, %%xmm0\n\tmovdqu %%xmm0, (" R(
              "di") ")\n\tmovaps -8(" R("di") "), %%xmm1\n\tpaddd %%xmm1, %%xmm0\n\t"
                                              "movaps %%xmm0, 8(" R("di") ")\n\tmovd %%xmm0, %%ebx")
OPERATION(x87, "fninit\n\tfildl (" R("di") ")\n\tfistpll 8(" R("di") ")\n\tfnstcw (" R("di") ")")
OPERATION(stos, "movl $7, %%ecx\n\trep stosl")
OPERATION(stos_down, "movl $5, %%ecx\n\tstd\n\trep stosw")
OPERATION(scas, "movl $20, %%ecx\n\trepne scasb")
OPERATION(movs_over, "movl $9, %%ecx\n\tlea -3(" R("di") "), " R("si") "\n\trep movsb\n\t"
                                                                       "sub " R("di") ", " R("si"))
OPERATION(cmps, "movl $9, %%ecx\n\tlea -5(" R("di") "), " R("si") "\n\trepe cmpsb\n\t"
                                                                  "lahf\n\tsub " R("di") ", " R(
                                                                      "si") "\n\tsahf")
OPERATION(lods, "mov " R("di") ", " R("si") "\n\tmovl $3, %%ecx\n\trep lodsl\n\t"
                                            "sub " R("di") ", " R("si") "\n\ttestl %%eax, %%eax")
OPERATION(smsw, "smsw (" R("di") ")\n\tlmsw (" R("di") ")\n\ttestl %%eax, %%eax")
OPERATION(tables,
          "sidt (" R("di") ")\n\tlidt (" R("di") ")\n\tstr 20(" R("di") ")\n\t"
                                                                        "testl %%eax, %%eax")
OPERATION(outs, "mov " R("di") ", " R("si") "\n\tmovl $0xe0, %%edx\n\tmovl $5, %%ecx\n\t"
                                            "rep outsl\n\tinl %%dx, %%eax\n\tsub " R("di") ", " R(
                                                "si") "\n\ttestl %%eax, %%eax")
OPERATION(ins, "movl $0xe0, %%edx\n\toutl %%eax, %%dx\n\tmovl $4, %%ecx\n\trep insl\n\tinsw\n\t"
               "insb\n\ttestl %%eax, %%eax")

static const struct {
    const char *name;
    operation *run;
} operations[] = {
#define ROW(name)                                                                                  \
    {                                                                                              \
#name, name                                                                                \
    }
    ROW(add8),    ROW(adc16),      ROW(sub32),       ROW(cmp_load),    ROW(test_imm),
    ROW(not32),   ROW(neg8),       ROW(inc16),       ROW(shl_cl),      ROW(rcr_one),
    ROW(shld),    ROW(imul),       ROW(mul8),        ROW(div32),       ROW(lock_xadd),
    ROW(xchg),    ROW(cmpxchg_no), ROW(cmpxchg_yes), ROW(cmpxchg8b),   ROW(bts_far),
    ROW(btc_imm), ROW(bsf),        ROW(movzx),       ROW(bswap_store), ROW(set_store),
    ROW(cmov),    ROW(push_pop),   ROW(push_there),  ROW(call_there),  ROW(sse_store),
    ROW(x87),     ROW(stos),       ROW(stos_down),   ROW(scas),        ROW(movs_over),
    ROW(cmps),    ROW(lods),       ROW(outs),        ROW(ins),         ROW(smsw),
    ROW(tables),
#undef ROW
};

static struct outcome run(operation *operation, uint8_t *memory)
{
    struct outcome io = {.a = 0x89abcdef, .b = 0x1020304, .c = 0x55, .d = 0x33};
    for (unsigned i = 0; i < SIZE; i++)
        ((volatile uint8_t *)memory)[i] = (uint8_t)(i * 37 + 11);
    operation(memory + OPERAND, &io);
    return io;
}

/* The first byte in which two areas differ, SIZE: none. */
static unsigned difference(const uint8_t *a, const uint8_t *b)
{
    unsigned i = 0;
    while (i < SIZE && ((const volatile uint8_t *)a)[i] == ((const volatile uint8_t *)b)[i])
        i++;
    return i;
}

/* Both areas begin so many bytes into a page. */
static void compare(unsigned index, unsigned offset)
{
    enum { ARITHMETIC = 0x8d5 };
    const char *name = operations[index].name;
    uint8_t *memory = (uint8_t *)(uintptr_t)(DEVICE + offset);
    struct outcome wanted = run(operations[index].run, ram + offset);
    struct outcome got = run(operations[index].run, memory);
    unsigned at = difference(ram + offset, memory);
    board_check(at == SIZE, name, at, __LINE__);
    board_check(got.a == wanted.a && got.b == wanted.b && got.c == wanted.c, name, got.a, __LINE__);
    board_check(got.d == wanted.d && got.si == wanted.si && got.di == wanted.di, name, got.di,
                __LINE__);
    board_check(!((got.flags ^ wanted.flags) & ARITHMETIC), name, got.flags, __LINE__);
}

void test_main(void)
{
    unsigned long cr4;
    __asm__ volatile("mov %%cr4, %0\n\tor $0x600, %0\n\tmov %0, %%cr4" : "=&r"(cr4)); /* OSFXSR */
    for (unsigned i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
        compare(i, 0);
        compare(i, 4096 - OPERAND - 8);     /* 16 bytes and strings cross */
        if (operations[i].run != sse_store) /* MOVAPS */
            compare(i, 4096 - OPERAND - 1);
        compare(i, 0); /* translated long ago */
    }
    board_end();
}
