/* MODES 16 32. A watchpoint hit by MOV SS: the trap waits until the next instruction is done. */
#include "common.S"

    .macro SET_DR register, value
    movl $\value, %eax
    movl %eax, %\register
    .endm
test_main:
    /* MOV SS holds traps back until the instruction behind the next. */
    SET_DR dr1, 0x8010
    movw %ss, 0x8010
    SET_DR dr7, 0x00700408 /* 2 bytes, read or write */
    movl $9, %ebx
    movl $IP(5f), RESUME
    movl %esp, SAVED_SP
    movw 0x8010, %ss
    incl %ebx
behind_ss:
    nop
    FAILURE
5:  movl $0, RESUME
    EXPECT(IP(behind_ss), SEEN_IP)
    EXPECT(10, %ebx)
    PASS
