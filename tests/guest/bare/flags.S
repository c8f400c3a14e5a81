/* Arithmetic flags and DF survive memory accesses, stack operations, moves and transfers. */
#include "common.S"

#define AREA_LOW 0x8000

    .macro SET_FLAGS value
#if MODE == 64
    pushq $\value
    popfq
#else
    pushl $\value
    popfl
#endif
    .endm

/* All that must keep flags, over several pages and with every kind of address. */
    .macro NEUTRAL
    movl AREA_LOW, %eax
    movl %eax, AREA_LOW + 0x1ffe
    movb %al, AREA_LOW + 0x3fff
    movl $1, AREA_LOW + 0x5000
    movzbl AREA_LOW + 1, %edx
    movsbl AREA_LOW + 2, %edx
    pushl_ax
    popl_ax
    leal 5(%eax, %edx, 4), %ecx
    notl AREA_LOW + 0x6000
    xchgl %eax, AREA_LOW + 0x7000
    movl $AREA_LOW, %ebx
    movl 8(%PTR(bx)), %eax
    bswapl %eax
    call 8f
    jmp 7f
8:  ret
7:  cmovel AREA_LOW, %eax
    setc AREA_LOW + 0x10
    nop
    jecxz 7f
7:  movl $1, %ecx
    loop 7f
7:
    .endm


test_main:
    .irp value, 0x002, 0x003, 0x006, 0x012, 0x042, 0x082, 0x802, 0x8d7, 0x0c3, 0x817, 0x402, 0xcd7
    SET_FLAGS \value
    NEUTRAL
    EXPECT_FLAGS(\value & ~2)
    .endr

    /* INC and DEC keep CF; NOT keeps all; rotates change CF and OF only. */
    stc
    incl AREA_LOW
    jnc 9f
    decl AREA_LOW + 0x100
    jnc 9f
    movl $0x7fffffff, AREA_LOW
    clc
    incl AREA_LOW
    EXPECT_FLAGS(0x894) /* OF SF AF PF */
    SET_FLAGS 0x0d6
    movl $0x80000000, AREA_LOW
    roll $1, AREA_LOW
    EXPECT_FLAGS(0x8d5) /* CF 1, OF = CF xor new top bit = 1; others kept */
    /* A shift by zero changes nothing. */
    SET_FLAGS 0x8d7
    movb $0, %cl
    shll %cl, AREA_LOW
    EXPECT_FLAGS(0x8d5)
    /* A long carry chain through memory, page after page. */
    movl $0xffffffff, AREA_LOW
    movl $0xffffffff, AREA_LOW + 0x1000
    movl $0xffffffff, AREA_LOW + 0x2000
    movl $0, AREA_LOW + 0x3000
    addl $1, AREA_LOW
    adcl $0, AREA_LOW + 0x1000
    adcl $0, AREA_LOW + 0x2000
    adcl $0, AREA_LOW + 0x3000
    EXPECT(1, AREA_LOW + 0x3000)
    EXPECT(0, AREA_LOW + 0x1000)
    subl $1, AREA_LOW
    sbbl $0, AREA_LOW + 0x1000
    sbbl $0, AREA_LOW + 0x2000
    sbbl $0, AREA_LOW + 0x3000
    EXPECT(0, AREA_LOW + 0x3000)
    EXPECT(0xffffffff, AREA_LOW + 0x2000)
    /* BT with a register index reaches far beyond its operand. */
    movl $0, AREA_LOW
    movl $8 * 0x1000 + 3, %eax
    movl $8, AREA_LOW + 0x1000
    btl %eax, AREA_LOW
    jnc 9f
    btrl %eax, AREA_LOW
    EXPECT(0, AREA_LOW + 0x1000)
    movl $-32, %eax
    btsl %eax, AREA_LOW + 0x1004
    EXPECT(1, AREA_LOW + 0x1000)
    /* CMPXCHG, XADD, CMPXCHG8B. */
    movl $5, AREA_LOW
    movl $5, %eax
    movl $9, %ecx
    lock
    cmpxchgl %ecx, AREA_LOW
    jne 9f
    EXPECT(9, AREA_LOW)
    movl $5, %eax
    cmpxchgl %ecx, AREA_LOW
    je 9f
    EXPECT(9, %eax)
    movl $3, %ecx
    lock
    xaddl %ecx, AREA_LOW
    EXPECT(12, AREA_LOW)
    EXPECT(9, %ecx)
    movl $1, AREA_LOW + 0xffc
    movl $2, AREA_LOW + 0x1000
    movl $1, %eax
    movl $2, %edx
    movl $3, %ebx
    movl $4, %ecx
    cmpxchg8b AREA_LOW + 0xffc /* over a page border */
    jne 9f
    EXPECT(3, AREA_LOW + 0xffc)
    EXPECT(4, AREA_LOW + 0x1000)
    /* LAHF and SAHF, POPF of bits that nobody may set. */
    movb $0xff, %ah
    sahf
    lahf
    movzbl %ah, %eax
    EXPECT(0xd7, %eax)
    PASS
9:  FAILURE
