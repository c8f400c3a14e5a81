/* Division faults: #DE points at the instruction and leaves every register alone. */
#include "common.S"

test_main:
    movl $5, %eax
    movl $7, %edx
    xorl %ecx, %ecx
    FAULT(0, 0, divl %ecx)
    FAULT(0, 0, idivl %ecx)
    EXPECT(5, %eax)
    EXPECT(7, %edx)
    movl $7, %ecx /* quotient needs 33 bits */
    FAULT(0, 0, divl %ecx)
    FAULT(0, 0, divw %cx)
    movw $0x700, %ax
    FAULT(0, 0, divb %cl)
    movl $0x80000000, %eax
    cltd
    movl $-1, %ecx
    FAULT(0, 0, idivl %ecx)
    EXPECT(0x80000000, %eax)
    movl $0, SCRATCH
    FAULT(0, 0, divl SCRATCH)
#if MODE != 64
    movb $1, %al
    FAULT(0, 0, aam $0)
#else
    movabsq $0x8000000000000000, %rax
    cqto
    movq $-1, %rcx
    FAULT(0, 0, idivq %rcx)
#endif
    movl $100, %eax /* and one that works */
    xorl %edx, %edx
    movl $7, %ecx
    divl %ecx
    EXPECT(14, %eax)
    EXPECT(2, %edx)
    PASS
