/* Accesses of every size at every place, above all over page borders. */
#include "common.S"

#define BORDER 0x9000

test_main:
    /* Every start within the 16 bytes before a border, in three sizes. */
    movl $BORDER - 16, %ebx
1:  movl $0x44332211, (%PTR(bx))
    cmpb $0x11, (%PTR(bx))
    jne 9f
    cmpb $0x44, 3(%PTR(bx))
    jne 9f
    addl $0x01010101, (%PTR(bx))
    movl (%PTR(bx)), %eax
    EXPECT(0x45342312, %eax)
    movw $0xbeef, (%PTR(bx))
    movzwl (%PTR(bx)), %eax
    EXPECT(0xbeef, %eax)
    lock
    incl (%PTR(bx))
    xchgl %eax, (%PTR(bx))
    xchgl %eax, (%PTR(bx))
    movl (%PTR(bx)), %eax
    EXPECT(0x4534bef0, %eax)
    fninit
    fildl (%PTR(bx))
    fistpll (%PTR(bx))
    EXPECT(0x4534bef0, (%PTR(bx)))
    EXPECT(0, 4(%PTR(bx)))
    fld1
    fstpt (%PTR(bx))
    EXPECT(0x80000000, 4(%PTR(bx)))
    movzwl 8(%PTR(bx)), %eax
    EXPECT(0x3fff, %eax)
    fldt (%PTR(bx))
    fistpl (%PTR(bx))
    EXPECT(1, (%PTR(bx)))
    incl %ebx
    cmpl $BORDER, %ebx
    jbe 1b

    /* The stack over a border, in odd positions too. */
    movl $BORDER + 2, %esp
    pushl_ax
    popl_ax
    call 2f
    FAILURE
2:  movl $BORDER + 5, %esp
#if MODE == 64
    pushq $0x12345678
    popq %rax
#else
    pushl $0x12345678
    popl %eax
#endif
    EXPECT(0x12345678, %eax)
    EXPECT(BORDER + 5, %esp)
    call 3f
    jmp 4f
3:  ret
4:  EXPECT(BORDER + 5, %esp)
    movl $STACK, %esp

#if MODE != 64
    movl %cr4, %eax
    orl $0x600, %eax
    movl %eax, %cr4
#endif
    movl $BORDER - 15, %ebx
    movl $0x01020304, SCRATCH
    movl $0x05060708, SCRATCH + 12
5:  movups SCRATCH, %xmm3
    movups %xmm3, (%PTR(bx))
    xorps %xmm3, %xmm3
    movdqu (%PTR(bx)), %xmm4
    movups %xmm4, SCRATCH + 16
    EXPECT(0x01020304, SCRATCH + 16)
    EXPECT(0x05060708, SCRATCH + 28)
    movq %xmm4, (%PTR(bx))
    movhps (%PTR(bx)), %xmm3
    movups %xmm3, SCRATCH + 16
    EXPECT(0x01020304, SCRATCH + 24)
    incl %ebx
    cmpl $BORDER + 1, %ebx
    jbe 5b
    /* Aligned forms insist. */
    movl $BORDER + 8, %ebx
    FAULT(13, 0, movaps (%PTR(bx)), %xmm0)
    FAULT(13, 0, movaps %xmm0, (%PTR(bx)))
    FAULT(13, 0, paddd (%PTR(bx)), %xmm0)
    movl $BORDER - 64, %ebx
    fxsave (%PTR(bx))
    fninit
    fxrstor (%PTR(bx))
    FAULT(13, 0, fxsave 8(%PTR(bx)))
    PASS
9:  FAILURE
