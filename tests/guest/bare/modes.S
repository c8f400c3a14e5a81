/* MODES 16. Real mode to protected, to paged, to long, to compatibility, and all the way back. */
#include "common.S"

#define BOTH 0x8000 /* counts the stations */

test_main:
    movl $0, BOTH
    cs lgdtl OFS(gdtr)
    movl $20, SCRATCH
round:
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $0x08, $in_protected
    .code32
in_protected:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    incl BOTH
    /* 16-bit protected mode in between. */
    ljmp $0x20, $OFS(in_protected_16)
    .code16
in_protected_16:
    incl BOTH
    pushl $0x11223344
    popl %ebx
    ljmpl $0x08, $build_tables
    .code32
build_tables:
    cmpl $0x11223344, %ebx
    jne fail_32
    movl $TABLES, %edi
    xorl %eax, %eax
    movl $0xc00, %ecx
    rep stosl
    movl $TABLES + 0x1003, TABLES
    movl $TABLES + 0x2003, TABLES + 0x1000
    movl $0x83, TABLES + 0x2000
    /* 32-bit paging with a 4 MiB page first. */
    movl $0x83, TABLES + 0x3000
    movl $TABLES + 0x3000, %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl $0x10, %eax
    movl %eax, %cr4
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    incl BOTH
    andl $0x7fffffff, %eax
    movl %eax, %cr0
    /* PAE paging: the PDPT is the second level of the long-mode tables. */
    movl %cr4, %eax
    xorl $0x30, %eax
    movl %eax, %cr4
    movl $TABLES + 0x2001, TABLES + 0x1000
    movl $TABLES + 0x1000, %eax
    movl %eax, %cr3
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    incl BOTH
    andl $0x7fffffff, %eax
    movl %eax, %cr0
    /* Long mode. */
    movl $TABLES + 0x2003, TABLES + 0x1000
    movl $TABLES, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    incl BOTH /* compatibility mode now */
    rdmsr
    testl $0x400, %eax
    je fail_32
    ljmp $0x18, $in_long
    .code64
in_long:
    incl BOTH
    movabsq $0x1122334455667788, %r15
    movq %r15, %r8
    shrq $32, %r8
    cmpl $0x11223344, %r8d
    jne fail_64
    /* Back to compatibility mode, with a 16-bit stop, and out. */
    movl $0x80000000, %esp
    movl $STACK, %esp
    pushq $0x08
    pushq $back_32
    lretq
    .code32
back_32:
    incl BOTH
    movl %cr0, %eax
    andl $0x7fffffff, %eax
    movl %eax, %cr0
    movl $0xc0000080, %ecx
    rdmsr
    andl $~0x100, %eax
    wrmsr
    movl %cr4, %eax
    andl $~0x30, %eax
    movl %eax, %cr4
    ljmp $0x20, $OFS(leave)
    .code16
leave:
    movw $0x28, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl %cr0, %eax
    andb $0xfe, %al
    movl %eax, %cr0
    ljmp $(ROM_BASE >> 4), $OFS(in_real)
in_real:
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $STACK, %esp
    incl BOTH
    decl SCRATCH
    jnz round
    EXPECT(20 * 8, BOTH)
    FAULT(6, 0, ud2) /* the vectors of real mode work again */
    PASS

    .code32
fail_32:
    ud2
    .code64
fail_64:
    ud2

    .code16
gdtr:
    .word gdt_end - gdt - 1
    .long ROM_BASE + OFS(gdt)
    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
    .quad 0x00af9b000000ffff
    .quad 0x00009b0f0000ffff /* code, 16 bit, base F0000h */
    .quad 0x000093000000ffff
gdt_end:
