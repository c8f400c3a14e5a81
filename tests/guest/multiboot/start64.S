/*
 * Entry of the 64-bit multiboot test programs: a multiboot 1 header without requests, the way into
 * 64-bit mode, exception entries, and a call of a function in ring 3.
 */
#include "machine64.h"

    .section .header, "a"
    .balign 4
    .long 0x1badb002, 0, -0x1badb002

    .text
    .code32
    .globl start
start:
    cli
    cld
    movl %ebx, boot_information
    movl $stack_end, %esp
    lgdt gdt_pointer
    /* Identity for 4 GiB in 2 MiB pages, which everybody may use. */
    movl $0x87, %eax
    movl $directories, %edi
1:  movl %eax, (%edi)
    addl $8, %edi
    addl $0x200000, %eax
    jnc 1b
    movl $directories + 7, %eax
    movl $pointers, %edi
2:  movl %eax, (%edi)
    addl $8, %edi
    addl $0x1000, %eax
    cmpl $directories + 0x4000, %eax
    jb 2b
    movl $pointers + 7, root
    movl %cr4, %eax
    orl $0x620, %eax /* PAE, OSFXSR, OSXMMEXCPT */
    movl %eax, %cr4
    movl $root, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x901, %eax /* SCE, LME, NXE */
    wrmsr
    movl %cr0, %eax
    orl $0x80010001, %eax /* PG, WP, PE */
    movl %eax, %cr0
    ljmp $KERNEL_CODE, $1f
    .code64
1:  movw $KERNEL_DATA, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw %ax, %fs
    movw %ax, %gs
    leaq entries(%rip), %rdx
    leaq idt(%rip), %rdi
    movl $256, %ecx
2:  movl %edx, %eax
    movzwl %ax, %eax
    orl $KERNEL_CODE << 16, %eax
    movl %eax, (%rdi)
    movl %edx, %eax
    movw $0x8e00, %ax
    movl %eax, 4(%rdi)
    addq $16, %rdi
    addq $16, %rdx
    loop 2b
    orb $0x60, idt + 16 * USER_RETURN + 5
    lidt idt_pointer
    leaq stack_end(%rip), %rax
    movq %rax, tss + 4
    movw $104, tss + 102
    leaq tss(%rip), %rax
    movw %ax, gdt + TASK + 2
    shrl $16, %eax
    movb %al, gdt + TASK + 4
    movb %ah, gdt + TASK + 7
    movw $TASK, %ax
    ltr %ax
    xorl %ebp, %ebp
    movb $0xff, %al         /* the firmware left the timer's interrupt unmasked, at vector 8 */
    outb %al, $0x21
    outb %al, $0xa1
    call test_main
    call finish
1:  hlt
    jmp 1b

/* Every vector: error code (or 0), vector, registers; struct frame in machine64.h. */
    .balign 16
    .globl entries
entries:
    .set vector, 0
    .rept 256
    .balign 16
    .if vector != 8 && vector != 10 && vector != 11 && vector != 12 && vector != 13 && \
        vector != 14 && vector != 17
    pushq $0
    .endif
    pushq $vector
    jmp 1f
    .set vector, vector + 1
    .endr
1:  cld
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rbx
    pushq %rbp
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, %rdi
    movq %rsp, %rbp
    andq $-16, %rsp
    call dispatch
    movq %rbp, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rbp
    popq %rbx
    popq %rdx
    popq %rcx
    popq %rax
    addq $16, %rsp
    .globl handler_return
handler_return:
    iretq

/* void run_in_user(void (*function)(void)): in ring 3 with IOPL 3, the flags else as they are. */
    .globl run_in_user
run_in_user:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq tss + 4, %rax
    pushq %rax
    movq %rsp, user_return
    movq %rsp, tss + 4 /* what happens in ring 3 does not use the caller's stack */
    pushq $USER_DATA
    leaq user_stack_end(%rip), %rax
    pushq %rax
    pushfq
    orq $0x3000, (%rsp)
    pushq $USER_CODE
    leaq 1f(%rip), %rax
    pushq %rax
    iretq
1:  call *%rdi
    int $USER_RETURN
    .globl user_entry
user_entry:
    movq user_return, %rsp
    popq %rax
    movq %rax, tss + 4
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    pushq $0x2
    popfq
    ret

    .data
    .balign 8
    .globl gdt, gdt_pointer
gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cffb000000ffff, 0x00cff3000000ffff
    .quad 0x00affb000000ffff, 0x0000890000000067, 0, 0x00cf9b000000ffff, 0x00af1b000000ffff, 0, 0, 0
gdt_pointer:
    .word . - gdt - 1
    .quad gdt
idt_pointer:
    .word 16 * 256 - 1
    .quad idt
    .globl boot_information, user_return
boot_information: .quad 0
user_return: .quad 0

    .bss
    .balign 4096
    .globl root, pointers, directories, idt, tss, stack_end
root: .skip 4096
pointers: .skip 4096
directories: .skip 4 * 4096
idt: .skip 4096
tss: .skip 128
    .skip 16384
stack_end:
    .skip 8192
user_stack_end:
    .skip 16
    .section .note.GNU-stack, "", @progbits
