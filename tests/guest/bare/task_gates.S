/* MODES 32. Task gates in the IDT: exceptions, INT n, interrupts, NMI, with paging; a vm86 task. */
#include "common.S"

#define OTHER_TSS 0x3900
#define OTHER     GATE /* its descriptor */
#define VM86_TSS  0x3a00
#define COUNT     SCRATCH
#define ERROR     (SCRATCH + 4)
#define ADDRESS   (SCRATCH + 8)
#define DIVISOR   (SCRATCH + 12)
#define APIC      0xfee00000

    /* vector goes to the other task, which starts (again) at entry. */
    .macro TASK_GATE_ vector, entry
    movl $OTHER << 16, IDT + 8 * \vector
    movl $0x8500, IDT + 8 * \vector + 4
    movl $\entry, OTHER_TSS + 32
    movl $STACK - 0x400, OTHER_TSS + 56
    movl $0, COUNT
    .endm

test_main:
    movl $(OTHER_TSS << 16) | 103, GDT + OTHER
    movl $0x00008900, GDT + OTHER + 4
    movl $2, OTHER_TSS + 36
    movl $DATA32, OTHER_TSS + 72     /* ES, CS, SS, DS */
    movl $CODE32, OTHER_TSS + 76
    movl $DATA32, OTHER_TSS + 80
    movl $DATA32, OTHER_TSS + 84
    movl $TABLES, OTHER_TSS + 28
    movl $TABLES, TSS + 28           /* a switch does not save CR3 */
    /* 4 MiB pages: the first, the second absent, that of the APIC. */
    movl $0x87, TABLES
    movl $0, TABLES + 4
    movl $0xfec00097, TABLES + 4 * 1019
    movl %cr4, %eax
    orl $0x10, %eax
    movl %eax, %cr4
    movl $TABLES, %eax
    movl %eax, %cr3
    movl %cr0, %eax
    orl $0x80010000, %eax
    movl %eax, %cr0

    /* INT3, INT 0, INTO. */
    TASK_GATE_ 3, count_task
    int3
    EXPECT(1, COUNT)
    TASK_GATE_ 0, count_task
    int $0
    EXPECT(1, COUNT)
    TASK_GATE_ 4, count_task
    movb $127, %al
    addb $1, %al
    into
    EXPECT(1, COUNT)
    EXPECT(TASK, OTHER_TSS)          /* the link */

    /* #DE: the instruction runs again; RF is set in the image of a fault. */
    TASK_GATE_ 0, divisor_task
    movl $0, DIVISOR
    xorl %edx, %edx
    movl $1500, %eax
at_division:
    divl DIVISOR
    EXPECT(150, %eax)
    EXPECT(1, COUNT)
    EXPECT(at_division, ADDRESS)
    EXPECT(0x10000, ERROR)

    /* #PF: the error code is on the other task's stack. */
    TASK_GATE_ 14, page_task
    movl $0x12345678, 0x400abc
    EXPECT(1, COUNT)
    EXPECT(2, ERROR)
    EXPECT(0x400abc, ADDRESS)
    EXPECT(0x12345678, 0x400abc)

    /* #GP: the task steps over the instruction in the saved image. */
    TASK_GATE_ 13, skip_task
    movl $0x1234, %eax
    movw %ax, %es
    EXPECT(1, COUNT)
    EXPECT(0x1234, ERROR)

    /* An interrupt, and an NMI during whose task a second one waits for its IRET. */
    movl $0x1ff, APIC + 0xf0
    movl $0, APIC + 0x310
    TASK_GATE_ 31, interrupt_task
    sti
    movl $0x4001f, APIC + 0x300
    nop
    cli
    EXPECT(1, COUNT)
    TASK_GATE_ 2, nmi_task
    movl APIC + 0x20, %eax
    andl $0xff000000, %eax
    movl %eax, APIC + 0x310
    movl $0x4400, APIC + 0x300
behind_nmi:
    nop
    EXPECT(2, COUNT)
    EXPECT(1, ERROR)                 /* the count at the end of the first */
    EXPECT(behind_nmi, ADDRESS)

    /* IRET with NT to a virtual-8086 task, whose #UD goes to the other task, which jumps back. */
    TASK_GATE_ 6, jump_task
    movw $0x0b0f, AREA + 4           /* UD2 */
    movl $TABLES, VM86_TSS + 28
    movl $4, VM86_TSS + 32
    movl $0x20002, VM86_TSS + 36
    movl $AREA >> 4, VM86_TSS + 76
    movl $0x1234, VM86_TSS + 84
    movl $(VM86_TSS << 16) | 103, GDT + SPARE
    movl $0x00008b00, GDT + SPARE + 4
    movw $SPARE, TSS
    pushfl
    orl $0x4000, (%esp)
    popfl
    iret
    EXPECT(1, COUNT)
    EXPECT(4, VM86_TSS + 32)
    EXPECT(AREA >> 4, VM86_TSS + 76)
    EXPECT(0x1234, VM86_TSS + 84)
    EXPECT(SPARE, OTHER_TSS)
    movl VM86_TSS + 36, %eax
    andl $0x30000, %eax
    EXPECT(0x30000, %eax)            /* VM and, it was a fault, RF */
    pushfl
    popl %eax
    andl $0x4000, %eax
    EXPECT(0, %eax)                  /* IRET cleared NT in the image of this task */

    /* A task in ring 3 whose code segment is conforming: CPL is the RPL of CS. */
    movl $0x0000ffff, GDT + SPARE
    movl $0x00cf9f00, GDT + SPARE + 4
    andl $~0x200, GDT + OTHER + 4
    movl $user_task, OTHER_TSS + 32
    movl $0x3002, OTHER_TSS + 36
    movl $SPARE | 3, OTHER_TSS + 76
    movl $USER_DATA32, OTHER_TSS + 72
    movl $USER_DATA32, OTHER_TSS + 80
    movl $USER_DATA32, OTHER_TSS + 84
    movl $STACK - 0x400, OTHER_TSS + 56
    movl $0, COUNT
    lcall $OTHER, $0xf4f4f4f4
    EXPECT(1, COUNT)
    EXPECT(SPARE | 3, ADDRESS)
    PASS

count_task:
    incl COUNT
    iret
    jmp count_task

divisor_task:
    incl COUNT
    movl $10, DIVISOR
    movl TSS + 32, %eax
    movl %eax, ADDRESS
    movl TSS + 36, %eax
    andl $0x10000, %eax
    movl %eax, ERROR
    iret

page_task:
    incl COUNT
    popl ERROR
    movl %cr2, %eax
    movl %eax, ADDRESS
    movl $0x400087, TABLES + 4
    iret

skip_task:
    incl COUNT
    popl ERROR
    addl $2, TSS + 32
    iret

interrupt_task:
    incl COUNT
    movl $0, APIC + 0xb0
    iret

nmi_task:
    incl COUNT
    cmpl $2, COUNT
    je 1f
    movl $0x4400, APIC + 0x300
    nop
    movl COUNT, %eax
    movl %eax, ERROR
    movl TSS + 32, %eax
    movl %eax, ADDRESS
1:  iret
    jmp nmi_task

jump_task:
    incl COUNT
    ljmp $TASK, $0

user_task:
    incl COUNT
    movl %cs, %eax
    movl %eax, ADDRESS
    iret
