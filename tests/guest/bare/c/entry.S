/*
 * Entry of the bare-metal tests in C (guest.h): ../common.S prepares the mode, this file the stack,
 * zeroed variables and the way into ring 3 and back.
 */
/* A constant for the assembler: 32-bit objects have no room for ROM_BASE in a 16-bit field. */
#define OFS(symbol) ((symbol) - image_start)
    .section .text, "ax"
image_start:
#include "../common.S"

#define C_STACK    0x80000 /* not STACK, on which exceptions of ring 3 arrive */
#define USER_STACK 0x7000

#if MODE == 64
#define WORD      8
#define USER_CODE USER_CODE64
#else
#define WORD      4
#define USER_CODE USER_CODE32
#endif

test_main:
    movl $C_STACK, %esp
#if MODE == 32
    /* These survive the way to ring 3. */
    movw $USER_DATA32, %ax
    movw %ax, %ds
    movw %ax, %es
#endif
    movl $AREA, %edi
    movl $(C_STACK - AREA) / 4, %ecx
    xorl %eax, %eax
    rep stosl
    call guest_main
    PASS

/* void guest_enter(struct guest_call *call) */
    .globl guest_enter
guest_enter:
#if MODE == 64
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushq %rdi
    ARM_ .Lback
    movl (%rdi), %ebx
    movl 4(%rdi), %ebp
    movq 16(%rdi), %rcx
    movq 24(%rdi), %rdx
    movq 8(%rdi), %rax
    testl %ebp, %ebp
    jne 1f
    jmp *%rbx
1:  pushq $USER_DATA32
    pushq $USER_STACK
    pushq $2
    pushq $USER_CODE
    pushq %rbx
    iretq
.Lback:
    movl $0, RESUME
    popq %rdi
    movq %rax, 8(%rdi)
    movq %rcx, 16(%rdi)
    movq %rdx, 24(%rdi)
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    cld
    ret
#else
    pushl %ebx
    pushl %ebp
    pushl %esi
    pushl %edi
    movl 20(%esp), %edi
    ARM_ .Lback
    movl (%edi), %ebx
    movl 4(%edi), %ebp
    movl 12(%edi), %ecx
    movl 16(%edi), %edx
    movl 8(%edi), %eax
    testl %ebp, %ebp
    jne 1f
    jmp *%ebx
1:  pushl $USER_DATA32
    pushl $USER_STACK
    pushl $2
    pushl $USER_CODE
    pushl %ebx
    iretl
.Lback:
    movl $0, RESUME
    movl 20(%esp), %edi
    movl %eax, 8(%edi)
    movl %ecx, 12(%edi)
    movl %edx, 16(%edi)
    popl %edi
    popl %esi
    popl %ebp
    popl %ebx
    cld
    ret
#endif

/* void guest_fail(unsigned line, uint32_t value) */
    .globl guest_fail
guest_fail:
#if MODE == 64
    movl %edi, %ebx
    movl %esi, VALUE
#else
    movl 4(%esp), %ebx
    movl 8(%esp), %eax
    movl %eax, VALUE
#endif
    jmp framework_fail

/* Single accesses for guest_enter: the address in AX, what is written in CL. */
    .macro STUB name, instruction:vararg
    .globl \name
\name:
    \instruction
    ud2
    .endm

    STUB stub_read, movb (%PTR(ax)), %al
    STUB stub_write, movb %cl, (%PTR(ax))
    STUB stub_modify, addb %cl, (%PTR(ax))
    STUB stub_exchange, lock cmpxchgb %cl, (%PTR(dx)) /* compares with AL, which differs */
    STUB stub_fetch, jmp *%PTR(ax)
    STUB stub_segment, movw %ax, %fs /* reads a descriptor, a supervisor access at any CPL */
    STUB stub_prefetch, prefetcht0 (%PTR(ax))
    STUB stub_read4, movl (%PTR(ax)), %eax
    STUB stub_write4, movl %ecx, (%PTR(ax))
    STUB stub_modify4, addl %ecx, (%PTR(ax))
    STUB stub_cr0, mov %PTR(ax), %cr0
    STUB stub_cr3, mov %PTR(ax), %cr3
    STUB stub_cr4, mov %PTR(ax), %cr4
    STUB stub_wrmsr, wrmsr
    STUB stub_xsetbv, xsetbv

    .section .note.GNU-stack, "", @progbits
