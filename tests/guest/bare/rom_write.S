/* Writes to ROM are lost; code goes on from the unchanged bytes. */
#include "common.S"

test_main:
#if MODE == 16
    movw $(ROM_BASE >> 4), %ax
    movw %ax, %fs
#define HERE(symbol) %fs:OFS(symbol)
#else
#define HERE(symbol) symbol
#endif
    movl $200, %ecx
1:  movl $0xffffffff, HERE(constant)
    incl HERE(constant)
    xorb $0xff, HERE(victim)
    movb $0xcc, HERE(behind) /* the very next instruction stays a NOP */
behind:
    nop
    EXPECT(0x12345678, HERE(constant))
    call victim
    EXPECT(77, %eax)
    decl %ecx
    jnz 1b
    lock
    addl $5, HERE(constant)
    movl $9, %eax
    xchgl %eax, HERE(constant)
    EXPECT(0x12345678, %eax)
    EXPECT(0x12345678, HERE(constant))
#if MODE != 16
    /* A string store over the image, and over the page border to it. */
    movl $0xeffc0, %edi
    movl $32, %ecx
    xorl %eax, %eax
    rep stosl
    EXPECT(0xf0040, %edi)
    EXPECT(0x12345678, constant)
    movl framework_start, %eax
    EXPECT(0x3166fcfa, %eax) /* CLI, CLD, XOR */
#endif
    PASS

    .balign 16
victim:
    movl $77, %eax
    ret
constant:
    .long 0x12345678
