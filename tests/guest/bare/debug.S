/* Single step, breakpoints and watchpoints: #DB as fault or trap, with DR6 and the right pc. */
#include "common.S"

    .macro GET_DR6
#if MODE == 64
    movq %dr6, %rax
#else
    movl %dr6, %eax
#endif
    andl $0xe00f, %eax
    .endm
    .macro CLEAR_DR6
    movl $0xffff0ff0, %eax
#if MODE == 64
    movq %rax, %dr6
#else
    movl %eax, %dr6
#endif
    .endm
    .macro SET_DR register, value
    movl $\value, %eax
#if MODE == 64
    movq %rax, %\register
#else
    movl %eax, %\register
#endif
    .endm
    .macro SET_TF
#if MODE == 64
    pushfq
    orl $0x100, (%rsp)
    popfq
#else
    pushfl
    orl $0x100, (%esp)
    popfl
#endif
    .endm

test_main:
    CLEAR_DR6
    /* TF set by POPF: the instruction after it runs, then the trap. */
    movl $5, %ebx
    movl $IP(1f), RESUME
    movl %esp, SAVED_SP
    SET_TF
    incl %ebx
after_step:
    incl %ebx
    FAILURE
1:  movl $0, RESUME
    EXPECT(1, SEEN_VECTOR)
    EXPECT(IP(after_step), SEEN_IP)
    EXPECT(6, %ebx)
    GET_DR6
    EXPECT(0x4000, %eax)
    CLEAR_DR6

    /* A step over a taken branch, and over a string instruction (one element per trap). */
    movl $IP(2f), RESUME
    movl %esp, SAVED_SP
    SET_TF
    jmp branch_target
    nop
branch_target:
    FAILURE
2:  movl $0, RESUME
    EXPECT(IP(branch_target), SEEN_IP)
    movl $0x8000, %edi
    movl $4, %ecx
    movl $IP(3f), RESUME
    movl %esp, SAVED_SP
    SET_TF
at_string:
    rep stosb
    FAILURE
3:  movl $0, RESUME
    EXPECT(IP(at_string), SEEN_IP)
    EXPECT(3, %ecx)
    CLEAR_DR6

    /* INT3 is a trap, DR6 stays. */
    TRAP(3, int3)
    GET_DR6
    EXPECT(0, %eax)

    /* An instruction breakpoint is a fault; RF lets it pass afterwards. */
    SET_DR dr0, break_here
    SET_DR dr7, 0x402
    movl $7, %ebx
    movl $IP(4f), RESUME
    movl %esp, SAVED_SP
    jmp break_here
    nop
break_here:
    incl %ebx
    FAILURE
4:  movl $0, RESUME
    EXPECT(1, SEEN_VECTOR)
    EXPECT(IP(break_here), SEEN_IP)
    EXPECT(7, %ebx)
    GET_DR6
    EXPECT(1, %eax)
    CLEAR_DR6
    SET_DR dr7, 0x400

    /* A write watchpoint of 4 bytes is a trap; reads pass. */
    SET_DR dr1, 0x8000
    SET_DR dr7, 0x00d00408
    movl 0x8000, %eax
    movl $1, 0x8004
    movl $1, 0x7ffc
    TRAP(1, movl $0x1234, 0x8000)
    EXPECT(0x1234, 0x8000)
    GET_DR6
    EXPECT(2, %eax)
    CLEAR_DR6
    TRAP(1, movb $1, 0x8003)
    TRAP(1, incl 0x8002)
    /* Read and write. */
    SET_DR dr7, 0x00f00408
    TRAP(1, movl 0x8000, %ebx)
    TRAP(1, cmpb $0, 0x8001)
    SET_DR dr7, 0x400
    movl $5, 0x8000
    CLEAR_DR6

    /* Without CR4.DE, DR4 and DR5 mean DR6 and DR7; with it they do not exist. GD guards all. */
    movl $0x400, %ebx
    .byte 0x0f, 0x21, 0xe8 /* MOV EAX, DR5 */
    EXPECT(0x400, %eax)
#if MODE == 64
    movq %cr4, %rax
    orl $8, %eax
    movq %rax, %cr4
#else
    movl %cr4, %eax
    orl $8, %eax
    movl %eax, %cr4
#endif
    FAULT(6, 0, .byte 0x0f, 0x21, 0xe8)
    SET_DR dr7, 0x2400
#if MODE == 64
    FAULT(1, 0, movq %dr0, %rax)
#else
    FAULT(1, 0, movl %dr0, %eax)
#endif
    GET_DR6
    EXPECT(0x2000, %eax)
    CLEAR_DR6
    TRAP(1, .byte 0xf1) /* INT1, which TCG does not know */
    GET_DR6
    EXPECT(0, %eax)
    PASS
