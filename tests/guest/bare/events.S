/* When interrupts and NMIs are recognised: shadows, IF, TF, string instructions, NMI blocking. */
#include "common.S"
#include "trace.inc"

#define ICR      APIC + 0x300
#define TO_SELF  0x4401e /* fixed, vector 30 */
#define NMI_SELF 0x44400

#if MODE == 64
#define IRET iretq
#define PUSH_FRAME(flags, at) movq %rsp, %rax; pushq $DATA32; pushq %rax; pushq $flags; pushq $CODE64; \
                              pushq $CODE + (at)
#define BAD_FRAME  pushq $0; pushq $0; pushq $2; pushq $0; pushq $0
#elif MODE == 32
#define IRET iretl
#define PUSH_FRAME(flags, at) pushl $flags; pushl $CODE32; pushl $CODE + (at)
#define BAD_FRAME  pushl $2; pushl $0; pushl $0
#else
#define IRET iretw
#define PUSH_FRAME(flags, at) pushw $flags; pushw $0; pushw $CODE + (at)
#endif

/* Where SEND's second and third instruction and its end are. */
#if MODE == 16
#define SEND_1 6
#define SEND_2 12
#define SEND_3 17
#elif MODE == 32
#define SEND_1 5
#define SEND_2 10
#define SEND_3 12
#else
#define SEND_1 5
#define SEND_2 10
#define SEND_3 12
#endif
/* Makes the interrupt pending. The APIC is this processor's own: it is there at once. */
    .macro SEND message
    movl $ICR, %ebx
    movl $\message, %eax
#if MODE == 16
    movl %eax, %fs:(%ebx)
#else
    movl %eax, (%PTR(bx))
#endif
    .endm
/* Rows whose handlers are their own note what happens in which order. */
    .macro MARK number
    shll $4, (%PTR(si))
    orl $\number, (%PTR(si))
    .endm
    .macro ORDER value
    cmpl $\value, (%PTR(si))
    je 9f
    ud2
    .endm
    .macro HANDLER_AT offset
    .fill \offset - (. - 8b), 1, 0xf4
    .endm

test_main:
    call trace_start
    movl $IP(rows), ROW_AT
    call trace_rows
    /* Handlers of NMI, #GP and #DB 40h, 80h and C0h bytes behind the start of the row. */
#if MODE == 16
    movl $CODE + 0x40, 2 * 4
    movl $CODE + 0x80, 13 * 4
    movl $CODE + 0xc0, 1 * 4
#else
    movl $2, %eax
    movl $CODE + 0x40, %edx
    call trace_set_gate
    movl $13, %eax
    movl $CODE + 0x80, %edx
    call trace_set_gate
    movl $1, %eax
    movl $CODE + 0xc0, %edx
    call trace_set_gate
#endif
    movl $IP(own_rows), ROW_AT
    call trace_rows
    PASS

    .balign 4
rows:
    /* STI inhibits until the next instruction is done, whatever that is. */
    ROW 0
8:  SEND TO_SELF
    sti
    nop
1:  nop
9:  WANT INTERRUPT(1b - 8b), END
    ROW 0
8:  SEND TO_SELF
    sti
    jmp 1f
    ud2
1:  nop
9:  WANT INTERRUPT(1b - 8b), END
    ROW 0
8:  SEND TO_SELF
    sti
    call 1f
    ud2
1:  nop
9:  WANT INTERRUPT(1b - 8b), END
    ROW 0
8:  SEND TO_SELF
    sti
    movl (%PTR(si)), %eax
1:  nop
9:  WANT INTERRUPT(1b - 8b), END
    ROW 0
8:  SEND TO_SELF
    sti
    cpuid
1:  nop
9:  WANT INTERRUPT(1b - 8b), END
    ROW 0
8:  SEND TO_SELF
    sti
    sti
1:  nop
9:  WANT INTERRUPT(1b - 8b), END
    ROW 0
8:  SEND TO_SELF
    sti
    hlt
1:  nop
9:  WANT INTERRUPT(1b - 8b), END
    /* A pair that opens no window at all. */
    ROW 0
8:  SEND TO_SELF
    sti
    cli
    nop
    sti
    nop
1:  nop
9:  WANT INTERRUPT(1b - 8b), END
    ROW 0
8:  SEND TO_SELF
    pushw $2
    sti
    popfw
    nop
    sti
    nop
1:  nop
9:  WANT INTERRUPT(1b - 8b), END
    /* Taken inside of a software interrupt's handler never. */
    ROW 0
8:  SEND TO_SELF
    sti
    int $30
1:  nop
9:  WANT INTERRUPT(1b - 8b), INTERRUPT(1b - 8b), END
    /* POPF and IRET have no shadow. */
    ROW 0
8:  SEND TO_SELF
    pushw $0x202
    popfw
1:  nop
9:  WANT INTERRUPT(1b - 8b), END
    ROW 0
8:  SEND TO_SELF
    PUSH_FRAME(0x202, 1f - 8b)
    IRET
    ud2
1:  nop
9:  WANT INTERRUPT(1b - 8b), END
    ROW 0
8:  SEND TO_SELF
    pushw $0x202
    popfw
1:  cli
    nop
9:  WANT INTERRUPT(1b - 8b), END
    /* IF already set: at once. */
    ROW TRACE_IF
8:  SEND TO_SELF
1:  nop
    cli
9:  WANT INTERRUPT(1b - 8b), END
    ROW TRACE_IF
8:  SEND TO_SELF
1:  SEND TO_SELF
2:  nop
9:  WANT INTERRUPT(1b - 8b), INTERRUPT(2b - 8b), END
    /* The trap of the instruction before comes first. */
    ROW TRACE_IF | TRACE_TF
8:  SEND TO_SELF
1:  nop
9:  WANT STEP(SEND_1), STEP(SEND_2), STEP(1b - 8b), INTERRUPT(1b - 8b), STEP(9b - 8b), END
    /* The trap behind STI is not held back, and what returns from it has no shadow. */
    ROW TRACE_TF
8:  SEND TO_SELF
1:  sti
2:  nop
3:  nop
9:  WANT STEP(SEND_1), STEP(SEND_2), STEP(1b - 8b), STEP(2b - 8b), INTERRUPT(2b - 8b), STEP(3b - 8b), STEP(9b - 8b), END
    /* An interrupt before an instruction breakpoint. */
    ROW TRACE_IF | TRACE_RESUME, 0x401, CODE + SEND_3
8:  SEND TO_SELF
1:  nop
9:  WANT INTERRUPT(1b - 8b), HIT(1, 1b - 8b), END
    /* RF of an IRET is saved by the interrupt that comes before the instruction it is for. */
#if MODE != 16
    ROW 0, 0x401, CODE + 0x40
8:  SEND TO_SELF
    PUSH_FRAME(0x10202, 0x40)
    IRET
    HANDLER_AT 0x40
    nop
9:  WANT INTERRUPT(0x40) + RF, END
    /* Between the iterations of a string instruction: RF in the image. */
    ROW TRACE_IF
8:  movl $ICR, %edi
    movl $TO_SELF, %eax
    movl $2, %ecx
1:  rep stosl
2:  nop
9:  WANT INTERRUPT(1b - 8b) + RF, END
    ROW TRACE_IF
8:  movl $ICR, %edi
    movl $TO_SELF, %eax
    movl $1, %ecx
1:  rep stosl
2:  nop
9:  WANT INTERRUPT(2b - 8b), END
    ROW TRACE_IF | TRACE_RESUME, 0x401, CODE + 15
8:  movl $ICR, %edi
    movl $TO_SELF, %eax
    movl $2, %ecx
1:  rep stosl
2:  nop
9:  WANT HIT(1, 15), INTERRUPT(1b - 8b) + RF, END
    ROW 0
8:  movl $ICR, %edi
    movl $NMI_SELF, %eax
    movl $2, %ecx
1:  rep stosl
2:  nop
9:  WANT NMI(1b - 8b) + RF, END
#endif
    /* NMI: IF and its shadow do not matter. */
    ROW 0
8:  SEND NMI_SELF
1:  nop
9:  WANT NMI(1b - 8b), END
    END_ROWS
own_rows:
    /* A second NMI waits for the IRET of the first; a third is lost. */
    ROW 0
8:  SEND NMI_SELF
    ORDER 0x123123
    HANDLER_AT 0x40
    MARK 1
    cmpb $1, (%PTR(si))
    jne 1f
    SEND NMI_SELF
    SEND NMI_SELF
1:  MARK 2
    cmpb $0x12, (%PTR(si))
    jne 2f
    MARK 3
2:  IRET
9:  WANT END
    /* So does one that an interrupt handler's IRET would let in: any IRET ends the blocking. */
    ROW 0
8:  SEND NMI_SELF
    ORDER 0x1412
    HANDLER_AT 0x40
    MARK 1
    cmpb $1, (%PTR(si))
    jne 1f
    SEND NMI_SELF
    MARK 4
    PUSH_FRAME(2, 3f - 8b)
    IRET
1:  MARK 2
    IRET
3:  IRET
9:  WANT END
    /* POPF and a far return do not end it. */
    ROW 0
8:  SEND NMI_SELF
    ORDER 0x156156
    HANDLER_AT 0x40
    MARK 1
    cmpb $1, (%PTR(si))
    jne 1f
    SEND NMI_SELF
    pushw $2
    popfw
    sti
    nop
    cli
1:  MARK 5
    cmpb $0x15, (%PTR(si))
    jne 2f
    MARK 6
2:  IRET
9:  WANT END
    /* Waiting when the handler halts: IRET is what it takes; an interrupt's will do. */
    ROW 0
8:  SEND NMI_SELF
    ORDER 0x17182
    HANDLER_AT 0x40
    MARK 1
    cmpb $1, (%PTR(si))
    jne 1f
    SEND NMI_SELF
    SEND TO_SELF
    MARK 7
    sti
    hlt
4:  cli
    MARK 2
    IRET
1:  MARK 8
    IRET
9:  WANT INTERRUPT(4b - 8b), END
#if MODE != 16
    /* IRET that faults has ended the blocking: NMI comes before the handler of the fault. */
    ROW 0
8:  SEND NMI_SELF
    ud2
    HANDLER_AT 0x40
    MARK 1
    cmpb $1, (%PTR(si))
    jne 1f
    SEND NMI_SELF
    BAD_FRAME
    IRET
1:  MARK 9
    IRET
    HANDLER_AT 0x80
    MARK 10
    ORDER 0x119a
9:  WANT END
#endif
    /* The trap of the instruction that sent it is delivered, then NMI before the trap's handler. */
    ROW 0
8:  movl $ICR, %ebx
    movl $NMI_SELF, %eax
    pushw $0x102
    popfw
#if MODE == 16
    movl %eax, %fs:(%ebx)
#else
    movl %eax, (%PTR(bx))
#endif
    ud2
    HANDLER_AT 0x40
    MARK 2
    IRET
    HANDLER_AT 0xc0
    MARK 1
    ORDER 0x21
9:  WANT END
    END_ROWS
