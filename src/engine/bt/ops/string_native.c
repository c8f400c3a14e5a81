#include "engine/bt/ops/string_native.h"

/* AX as LAHF; SETO AL leaves it -> RFLAGS bits. */
static uint32_t flags_of_ax(uint64_t ax)
{
    return (uint32_t)(ax >> 8 & 0xd5) | (uint32_t)(ax & 1) << 11;
}

static void movs_up(unsigned size, uint8_t *to, const uint8_t *from, uint64_t n)
{
    switch (size) {
    case 1:
        __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n)::"memory");
        break;
    case 2:
        __asm__ volatile("rep movsw" : "+D"(to), "+S"(from), "+c"(n)::"memory");
        break;
    case 4:
        __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(n)::"memory");
        break;
    default:
        __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(n)::"memory");
        break;
    }
}

static void movs_down(unsigned size, uint8_t *to, const uint8_t *from, uint64_t n)
{
    switch (size) {
    case 1:
        __asm__ volatile("std; rep movsb; cld" : "+D"(to), "+S"(from), "+c"(n)::"memory", "cc");
        break;
    case 2:
        __asm__ volatile("std; rep movsw; cld" : "+D"(to), "+S"(from), "+c"(n)::"memory", "cc");
        break;
    case 4:
        __asm__ volatile("std; rep movsl; cld" : "+D"(to), "+S"(from), "+c"(n)::"memory", "cc");
        break;
    default:
        __asm__ volatile("std; rep movsq; cld" : "+D"(to), "+S"(from), "+c"(n)::"memory", "cc");
        break;
    }
}

void native_movs(unsigned size, bool down, uint8_t *to, const uint8_t *from, uint64_t n)
{
    if (down)
        movs_down(size, to, from, n);
    else
        movs_up(size, to, from, n);
}

void native_stos(unsigned size, bool down, uint8_t *to, uint64_t value, uint64_t n)
{
    if (down) /* all elements are equal, so the order does not show */
        to -= (n - 1) * size;
    switch (size) {
    case 1:
        __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(value) : "memory");
        break;
    case 2:
        __asm__ volatile("rep stosw" : "+D"(to), "+c"(n) : "a"(value) : "memory");
        break;
    case 4:
        __asm__ volatile("rep stosl" : "+D"(to), "+c"(n) : "a"(value) : "memory");
        break;
    default:
        __asm__ volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(value) : "memory");
        break;
    }
}

/* The direction is set inside; CLD leaves the arithmetic flags alone. */
#define SCAS_ASM(prefix, insn)                                                                     \
    __asm__ volatile("testb %b[down], %b[down]; jz 1f; std; 1: " prefix " " insn                   \
                     "; cld; lahf; seto %%al"                                                      \
                     : "+D"(at), "+c"(left), "+a"(value)                                           \
                     : [down] "d"(direction)                                                       \
                     : "memory", "cc")
#define CMPS_ASM(prefix, insn)                                                                     \
    __asm__ volatile("testb %b[down], %b[down]; jz 1f; std; 1: " prefix " " insn                   \
                     "; cld; lahf; seto %%al"                                                      \
                     : "+S"(first), "+D"(second), "+c"(left), "=&a"(ax)                            \
                     : [down] "d"(direction)                                                       \
                     : "memory", "cc")

uint64_t native_scas(unsigned size, bool down, bool while_equal, const uint8_t *at, uint64_t value,
                     uint64_t n, uint32_t *flags)
{
    uint64_t left = n, direction = down;

    switch (size | (while_equal ? 16u : 0)) {
    case 1:
        SCAS_ASM("repne", "scasb");
        break;
    case 2:
        SCAS_ASM("repne", "scasw");
        break;
    case 4:
        SCAS_ASM("repne", "scasl");
        break;
    case 8:
        SCAS_ASM("repne", "scasq");
        break;
    case 16 | 1:
        SCAS_ASM("repe", "scasb");
        break;
    case 16 | 2:
        SCAS_ASM("repe", "scasw");
        break;
    case 16 | 4:
        SCAS_ASM("repe", "scasl");
        break;
    default:
        SCAS_ASM("repe", "scasq");
        break;
    }
    *flags = flags_of_ax(value);
    return n - left;
}

uint64_t native_cmps(unsigned size, bool down, bool while_equal, const uint8_t *first,
                     const uint8_t *second, uint64_t n, uint32_t *flags)
{
    uint64_t left = n, direction = down, ax;

    switch (size | (while_equal ? 16u : 0)) {
    case 1:
        CMPS_ASM("repne", "cmpsb");
        break;
    case 2:
        CMPS_ASM("repne", "cmpsw");
        break;
    case 4:
        CMPS_ASM("repne", "cmpsl");
        break;
    case 8:
        CMPS_ASM("repne", "cmpsq");
        break;
    case 16 | 1:
        CMPS_ASM("repe", "cmpsb");
        break;
    case 16 | 2:
        CMPS_ASM("repe", "cmpsw");
        break;
    case 16 | 4:
        CMPS_ASM("repe", "cmpsl");
        break;
    default:
        CMPS_ASM("repe", "cmpsq");
        break;
    }
    *flags = flags_of_ax(ax);
    return n - left;
}

uint32_t native_compare(unsigned size, uint64_t a, uint64_t b)
{
    switch (size) {
    case 1:
        __asm__ volatile("cmpb %b[b], %b[a]; lahf; seto %%al" : [a] "+a"(a) : [b] "r"(b) : "cc");
        break;
    case 2:
        __asm__ volatile("cmpw %w[b], %w[a]; lahf; seto %%al" : [a] "+a"(a) : [b] "r"(b) : "cc");
        break;
    case 4:
        __asm__ volatile("cmpl %k[b], %k[a]; lahf; seto %%al" : [a] "+a"(a) : [b] "r"(b) : "cc");
        break;
    default:
        __asm__ volatile("cmpq %q[b], %q[a]; lahf; seto %%al" : [a] "+a"(a) : [b] "r"(b) : "cc");
        break;
    }
    return flags_of_ax(a);
}
