/* MODES 32. Task switches: JMP and CALL to a TSS, IRET back, a task gate, busy bits, TS and NT. */
#include "common.S"

#define OTHER_TSS 0x3900
#define OTHER     GATE /* its descriptor */
#define TASK_GATE SPARE

test_main:
    movl $(OTHER_TSS << 16) | 103, GDT + OTHER
    movl $0x00008900, GDT + OTHER + 4
    movl $OTHER << 16, GDT + TASK_GATE
    movl $0x00008500, GDT + TASK_GATE + 4

    movl $other_task, OTHER_TSS + 32
    movl $2, OTHER_TSS + 36
    movl $0x1111, OTHER_TSS + 40     /* EAX */
    movl $0x2222, OTHER_TSS + 52     /* EBX */
    movl $STACK - 0x400, OTHER_TSS + 56
    movl $DATA32, OTHER_TSS + 72     /* ES, CS, SS, DS, FS, GS */
    movl $CODE32, OTHER_TSS + 76
    movl $DATA32, OTHER_TSS + 80
    movl $DATA32, OTHER_TSS + 84
    movl $DATA32, OTHER_TSS + 88
    movl $0, OTHER_TSS + 92
    clts

    /* CALL nests: the other task sees NT and our selector as its link, IRET comes back. */
    movl $0x7777, %ebx
    movl $0x8888, %edi
    lcall $OTHER, $0xdeadbeef
    EXPECT(0x7777, %ebx)
    EXPECT(0x8888, %edi)
    EXPECT(STACK, %esp)
    str %ax
    movzwl %ax, %eax
    EXPECT(TASK, %eax)
    /* Ours is busy again, the other one is not. */
    movl GDT + OTHER + 4, %eax
    andl $0x200, %eax
    EXPECT(0, %eax)
    movl GDT + TASK + 4, %eax
    andl $0x200, %eax
    EXPECT(0x200, %eax)
    /* A switch sets CR0.TS. */
    movl %cr0, %eax
    andl $8, %eax
    EXPECT(8, %eax)
    clts

    /* A second time, through a task gate: the other task goes on behind its IRET. */
    lcall $TASK_GATE, $0
    EXPECT(2, SCRATCH)
    /* A busy TSS: #GP(selector). */
    orl $0x200, GDT + OTHER + 4
    FAULT(13, OTHER, lcall $OTHER, $0)
    andl $~0x200, GDT + OTHER + 4
    /* An absent one: #NP(selector). */
    andl $~0x8000, GDT + OTHER + 4
    FAULT(11, OTHER, ljmp $OTHER, $0)
    orl $0x8000, GDT + OTHER + 4
    /* Too short: #TS(selector). */
    movw $0x66, GDT + OTHER
    FAULT(10, OTHER, ljmp $OTHER, $0)
    movw $0x67, GDT + OTHER
    PASS

other_task:
    EXPECT(0x1111, %eax)
    EXPECT(0x2222, %ebx)
    movw OTHER_TSS, %cx /* link */
    movzwl %cx, %ecx
    EXPECT(TASK, %ecx)
    pushfl
    popl %ecx
    andl $0x4000, %ecx /* NT */
    EXPECT(0x4000, %ecx)
    movw %gs, %cx
    testw %cx, %cx
    jne 9f
    incl SCRATCH
    iretl
    incl SCRATCH
    iretl
9:  FAILURE
