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

/* void guest_enter(struct guest_call *call): see guest.h for the fields. */
#define CALL_CODE 0
#define CALL_USER 4
#define CALL(i)   8 + (i) * WORD /* AX CX DX BX BP SI DI SP */
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
    movl CALL_USER(%rdi), %esi
    movl CALL_CODE(%rdi), %eax
    movl $USER_STACK, %ecx
    cmpq $0, CALL(7)(%rdi)
    cmovneq CALL(7)(%rdi), %rcx
    testl %esi, %esi
    je 1f
    pushq $USER_DATA32
    pushq %rcx
    pushq $2
    pushq $USER_CODE
    jmp 2f
1:  movq %rsp, %rcx /* the stack stays */
    pushq $0
    pushq %rcx
    pushq $2
    pushq $CODE64
2:  pushq %rax
    movq CALL(0)(%rdi), %rax
    movq CALL(1)(%rdi), %rcx
    movq CALL(2)(%rdi), %rdx
    movq CALL(3)(%rdi), %rbx
    movq CALL(4)(%rdi), %rbp
    movq CALL(5)(%rdi), %rsi
    movq CALL(6)(%rdi), %rdi
    iretq
.Lback:
    pushq %rdi
    movq 8(%rsp), %rdi
    movq %rax, CALL(0)(%rdi)
    movq %rcx, CALL(1)(%rdi)
    movq %rdx, CALL(2)(%rdi)
    movq %rbx, CALL(3)(%rdi)
    movq %rbp, CALL(4)(%rdi)
    movq %rsi, CALL(5)(%rdi)
    popq CALL(6)(%rdi)
    movl $0, RESUME
    popq %rdi
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
#else
    pushl %ebx
    pushl %ebp
    pushl %esi
    pushl %edi
    movl 20(%esp), %edi
    ARM_ .Lback
    movl CALL_CODE(%edi), %eax
    movl $USER_STACK, %ecx
    cmpl $0, CALL(7)(%edi)
    cmovnel CALL(7)(%edi), %ecx
    cmpl $0, CALL_USER(%edi)
    je 1f
    pushl $USER_DATA32
    pushl %ecx
    pushl $2
    pushl $USER_CODE
    jmp 2f
1:  pushl $2
    pushl $CODE32
2:  pushl %eax
    movl CALL(0)(%edi), %eax
    movl CALL(1)(%edi), %ecx
    movl CALL(2)(%edi), %edx
    movl CALL(3)(%edi), %ebx
    movl CALL(4)(%edi), %ebp
    movl CALL(5)(%edi), %esi
    movl CALL(6)(%edi), %edi
    iretl
.Lback:
    pushl %edi
    movl 24(%esp), %edi
    movl %eax, CALL(0)(%edi)
    movl %ecx, CALL(1)(%edi)
    movl %edx, CALL(2)(%edi)
    movl %ebx, CALL(3)(%edi)
    movl %ebp, CALL(4)(%edi)
    movl %esi, CALL(5)(%edi)
    popl CALL(6)(%edi)
    movl $0, RESUME
    popl %edi
    popl %esi
    popl %ebp
    popl %ebx
#endif
    cld
    ret

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
