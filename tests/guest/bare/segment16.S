/* MODES 16. Segment limits of real mode: 64 KiB, #GP for data and fetches, #SS for the stack. */
#include "common.S"

test_main:
    movw $0xffff, %bx
    FAULT(13, 0, movw (%bx), %ax)
    FAULT(13, 0, movw %ax, (%bx))
    FAULT(13, 0, movl -2(%bx), %eax)
    movb (%bx), %al /* the last byte itself is fine */
    movw -1(%bx), %ax
    movl $0x10000, %esi
    FAULT(13, 0, addr32 movb (%esi), %al)
    FAULT(13, 0, addr32 movb $1, %es:(%esi))
    movw %sp, %dx
    movw $0xffff, %bp
    FAULT(12, 0, movw (%bp), %ax)
    /* A string instruction stops at the limit with its registers at the failing element. */
    movw $0xfffa, %di
    movw $0x2000, %ax
    movw %ax, %es
    movw $10, %cx
    movw %di, %si
    FAULT(13, 0, rep stosl)
    EXPECT(9, %ecx)
    movzwl %di, %eax
    EXPECT(0xfffe, %eax)
    /* A fetch over the end of the segment. */
    movw $0x3000, %ax
    movw %ax, %es
    movb $0xb8, %es:0xfffe /* MOV AX, imm16 with one byte of its immediate */
    movl $OFS(1f), RESUME
    movl %esp, SAVED_SP
    ljmp $0x3000, $0xfffe
1:  movl $0, RESUME
    EXPECT(13, SEEN_VECTOR)
    EXPECT(0xfffe, SEEN_IP)
    EXPECT(0x3000, SEEN_CS)
    PASS
