/* MODES 16. Segment limits of 4 GiB kept from protected mode ("big real mode"), and back. */
#include "common.S"

test_main:
    inb $0x92, %al /* A20 open */
    orb $2, %al
    andb $0xfe, %al
    outb %al, $0x92
    cs lgdtl OFS(gdtr)
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    jmp 1f
1:  movw $8, %bx
    movw %bx, %ds
    movw %bx, %es
    andb $0xfe, %al
    movl %eax, %cr0
    jmp 1f
1:  xorw %ax, %ax
    movw %ax, %ds /* new base, old limit */
    movw $0x1000, %ax
    movw %ax, %es

    movl $0x120000, %ebx
    movl $0xcafe1234, %eax
    addr32 movl %eax, (%ebx)
    addr32 incl (%ebx)
    addr32 movl (%ebx), %ecx
    EXPECT(0xcafe1235, %ecx)
    addr32 movl %es:-0x10000(%ebx), %ecx
    EXPECT(0xcafe1235, %ecx)
    /* A block copied above 1 MiB, as boot loaders do. */
    movl $0x8000, %esi
    movl $0x01020304, (%esi)
    movl $0x200000, %edi
    xorw %ax, %ax
    movw %ax, %es
    movl $1000, %ecx
    addr32 rep movsl
    EXPECT(0x200000 + 4000, %edi)
    addr32 movl -4000(%edi), %ecx
    EXPECT(0x01020304, %ecx)
    /* The stack segment kept its 64 KiB. */
    movl $0x20000, %ebp
    FAULT(12, 0, addr32 movl (%ebp), %eax)
    PASS

gdtr:
    .word 15
    .long ROM_BASE + OFS(gdt)
    .balign 8
gdt:
    .quad 0
    .quad 0x008f93000000ffff /* data, 4 GiB, 16 bit */
