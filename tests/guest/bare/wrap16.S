/* MODES 16. 16-bit addresses, stack pointer and jumps wrap at 64 KiB; the A20 gate at 1 MiB. */
#include "common.S"

test_main:
    movw $0x2000, %ax
    movw %ax, %ds
    movl $0x12345678, 0x100
    movw $0xff00, %bx
    movw $0x0200, %si
    movl (%bx, %si), %eax
    movw $0x8100, %bx
    movl -0x8000(%bx), %ecx
    movl $0xffff0100, %edx /* upper half plays no part */
    movl %edx, %edi
    movl (%di), %edx
    xorw %bx, %bx
    movw %bx, %ds
    EXPECT(0x12345678, %eax)
    EXPECT(0x12345678, %ecx)
    EXPECT(0x12345678, %edx)
    movl $0x5000ff00, %ebx
    leaw 0x200(%bx), %ax
    movzwl %ax, %eax
    EXPECT(0x100, %eax)

    /* PUSH at SP 0 wraps to FFFEh; the upper half of ESP stays. */
    movw $0x3000, %ax
    movw %ax, %ss
    movl $0xabcd0000, %esp
    pushw $0x1122
    movl %esp, %ecx
    popw %dx
    movl %esp, %edi
    movw %bx, %ax
    xorw %ax, %ax
    movw %ax, %ss
    movl $STACK, %esp
    EXPECT(0xabcdfffe, %ecx)
    EXPECT(0xabcd0000, %edi)
    movzwl %dx, %edx
    EXPECT(0x1122, %edx)
    movw $0x3fff, %ax
    movw %ax, %ds
    movzwl 0xe, %eax
    movw %bx, %cx
    xorw %cx, %cx
    movw %cx, %ds
    EXPECT(0x1122, %eax)

    /* A near jump forward from the end of the segment lands at its start. */
    movw $0x4000, %ax
    movw %ax, %es
    movl $0x90907feb, %es:0xff80 /* JMP +7Fh: FF82h + 7Fh = 10001h */
    movb $0x90, %es:1
    movb $0xea, %es:2 /* JMP FAR back */
    movw $OFS(1f), %es:3
    movw $(ROM_BASE >> 4), %es:5
    ljmp $0x4000, $0xff80
1:

    /* FFFF:0010 is 100000h with A20 open and 0 with A20 closed (port 92h bit 1). */
    movw $0xffff, %ax
    movw %ax, %fs
    inb $0x92, %al
    orb $2, %al
    andb $0xfe, %al
    outb %al, $0x92
    movl $0x11111111, 0x600
    movl $0x22222222, %fs:0x610
    EXPECT(0x11111111, 0x600)
    EXPECT(0x22222222, %fs:0x610)
    inb $0x92, %al
    andb $0xfc, %al
    outb %al, $0x92
    EXPECT(0x11111111, %fs:0x610)
    movl $0x33333333, %fs:0x610
    EXPECT(0x33333333, 0x600)
    inb $0x92, %al
    orb $2, %al
    andb $0xfe, %al
    outb %al, $0x92
    EXPECT(0x22222222, %fs:0x610)
    EXPECT(0x33333333, 0x600)
    PASS
