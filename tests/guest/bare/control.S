/* Control transfers: near and far calls, returns that nobody predicted, loops, frames. */
#include "common.S"

#if MODE == 64
#define WORD 8
#else
#define WORD 4
#endif

test_main:
    /* Deep recursion and back. */
    movl $600, %ecx
    xorl %ebx, %ebx
    call recurse
    EXPECT(601, %ebx)
    EXPECT(STACK, %esp)

    /* A return to an address that was changed on the stack. */
    movl $100, %edx
1:  call change_return
    FAILURE
changed_return:
    decl %edx
    jnz 1b

    /* A return without a call: PUSH, RET. */
    movl $100, %edx
1:  push $IP(3f)
    ret
    FAILURE
3:  decl %edx
    jnz 1b
    EXPECT(STACK, %esp)

    /* Calls that never return: the stack pointer is simply reset. */
    movl $1000, %edx
1:  movl $STACK, %esp
    call 2f
    FAILURE
2:  decl %edx
    jnz 1b
    movl $STACK, %esp

    /* Returns in another order than the calls (two stacks). */
    movl $STACK, %ebx
    movl $STACK - 0x800, %ecx
    movl $50, %edx
1:  call other_stack /* swaps the stacks before it returns */
    decl %edx
    jnz 1b
    movl $STACK, %esp

    /* RET n takes arguments off. */
    pushl_ax
    pushl_ax
    call take_two
    EXPECT(STACK, %esp)

    /* Indirect calls through a register and through memory, to changing targets. */
    movl $200, %edx
    xorl %ebx, %ebx
1:  movl $IP(add_one), %eax
    testb $3, %dl
    jnz 2f
    movl $IP(add_ten), %eax
2:  call *%PTR(ax)
    movl %eax, SCRATCH
    movl $0, SCRATCH + 4
    call *SCRATCH
    decl %edx
    jnz 1b
    EXPECT(2 * (150 + 10 * 50), %ebx)

    /* CALL with an operand that contains ESP uses the value before the push. */
    pushl_ax
#if MODE == 64
    movq $add_one, (%rsp)
    xorl %ebx, %ebx
    call *(%rsp)
#elif MODE == 32
    movl $add_one, (%esp)
    xorl %ebx, %ebx
    call *(%esp)
#else
    movl $IP(add_one), (%esp)
    xorl %ebx, %ebx
    callw *(%esp)
#endif
    EXPECT(1, %ebx)
    popl_ax
    EXPECT(STACK, %esp)

    /* Far call and far return. */
#if MODE == 16
    lcall $(ROM_BASE >> 4), $OFS(far_routine)
    EXPECT(5, %ebx)
    lcall $((ROM_BASE >> 4) - 0x10), $OFS(far_routine) + 0x100 /* another base, same place */
    EXPECT(9, %ebx)
#elif MODE == 32
    lcall $CODE32, $far_routine
    EXPECT(5, %ebx)
#else
    movl $far_routine, SCRATCH
    movw $CODE64, SCRATCH + 4
    lcall *SCRATCH
    EXPECT(5, %ebx)
#endif
    EXPECT(STACK, %esp)

    /* IRET as a jump that loads flags. */
#if MODE == 16
    pushfw
    orw $0x8c1, (%esp)
    pushw %cs
    pushw $OFS(5f)
    iretw
#elif MODE == 32
    pushfl
    orl $0x8c1, (%esp)
    pushl %cs
    pushl $5f
    iretl
#else
    movq %rsp, %rax
    pushq $0
    pushq %rax
    pushfq
    orl $0x8c1, (%rsp)
    pushq $CODE64
    pushq $5f
    iretq
#endif
    FAILURE
5:  EXPECT_FLAGS(0x8c5)
    EXPECT(STACK, %esp)

    /* LOOP and JCXZ. */
    movl $10, %ecx
    xorl %ebx, %ebx
1:  incl %ebx
    loop 1b
    EXPECT(10, %ebx)
    jecxz 6f
    FAILURE
6:  movl $5, %ecx
1:  cmpl $12, %ebx
    je 7f
    incl %ebx
7:  loopne 1b
    EXPECT(2, %ecx)

    /* ENTER, LEAVE, PUSHA, POPA, PUSH of the stack pointer. */
    movl $0x1234, %ebp
    enter $16, $0
    leave
    EXPECT(STACK, %esp)
#if MODE == 64
    pushq %rsp
    popq %rax
    EXPECT(STACK, %eax)
    movq $-5, %rax
    pushq $-5
    cmpq %rax, (%rsp)
    popq %rbx
    jne 9f
#else
    pushl %esp
    popl %eax
    EXPECT(STACK, %eax)
    movl $0x11, %ebx
    movl $0x22, %edi
    pushal
    EXPECT(STACK, 12(%esp))
    xorl %ebx, %ebx
    xorl %edi, %edi
    popal
    EXPECT(0x11, %ebx)
    EXPECT(0x22, %edi)
    pushl $0xfffffffb
    popl %ebx
    EXPECT(-5, %ebx)
#endif
    pushw $0x7788
    popw %bx
    EXPECT(STACK, %esp)
    PASS
9:  FAILURE

recurse:
    incl %ebx
    jecxz 1f
    decl %ecx
    call recurse
1:  ret

change_return:
#if MODE == 16
    movw $OFS(changed_return), (%esp)
#elif MODE == 32
    movl $changed_return, (%esp)
#else
    movq $changed_return, (%rsp)
#endif
    ret

other_stack:
#if MODE == 16
    movw (%esp), %ax
    movw %ax, %ds:-2(%ecx)
#elif MODE == 32
    movl (%esp), %eax
    movl %eax, -4(%ecx)
#else
    movq (%rsp), %rax
    movq %rax, -8(%rcx)
#endif
    xchgl %ebx, %ecx
#if MODE == 16
    leal -2(%ebx), %esp
#elif MODE == 32
    leal -4(%ebx), %esp
#else
    leal -8(%rbx), %esp
#endif
    ret

take_two:
    ret $2 * WORD

add_one:
    addl $1, %ebx
    ret
add_ten:
    addl $10, %ebx
    ret
far_routine:
    addl $4, %ebx
#if MODE == 16
    lretw
#else
    lretl
#endif
