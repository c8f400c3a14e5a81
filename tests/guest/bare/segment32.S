/* MODES 32. Segment limits, types and loads of protected mode with their error codes. */
#include "common.S"

test_main:
    movw $SMALL, %ax
    movw %ax, %ds
    movw %ax, %fs
    movl $0x11223344, %fs:0xffc
    EXPECT(0x11223344, %fs:0xffc)
    movw $DATA32, %ax
    movw %ax, %ds
    EXPECT(0x11223344, AREA + 0xffc)
    FAULT(13, 0, movl %fs:0xffd, %eax)
    FAULT(13, 0, movl %eax, %fs:0xffd)
    FAULT(13, 0, movb %fs:0x1000, %al)
    FAULT(13, 0, movb %fs:0xffffffff, %al)
    FAULT(13, 0, incl %fs:0x2000)
    movb %fs:0xfff, %al
    /* Expand-down: valid above the limit only. */
    movw $DOWN, %ax
    movw %ax, %gs
    movl $5, %gs:0x1000
    EXPECT(5, AREA + 0x1000)
    FAULT(13, 0, movb %gs:0xfff, %al)
    FAULT(13, 0, movl %gs:0xffc, %eax)
    /* Read-only, null, execute-only, absent. */
    movw $READ_ONLY, %ax
    movw %ax, %es
    movl %es:AREA, %eax
    FAULT(13, 0, movl %eax, %es:AREA)
    xorw %ax, %ax
    movw %ax, %es
    FAULT(13, 0, movl %es:AREA, %eax)
    FAULT(13, 0, movw %ax, %ss)
    movw $EXECUTE, %bx
    FAULT(13, EXECUTE, movw %bx, %es)
    movw $ABSENT, %bx
    FAULT(11, ABSENT, movw %bx, %es)
    FAULT(12, ABSENT, movw %bx, %ss)
    movw $0xfff8, %bx
    FAULT(13, 0xfff8, movw %bx, %es)
    movw $0xfff7, %bx
    FAULT(13, 0xfff4, movw %bx, %fs) /* LDT, which is null */
    movw $USER_DATA32, %bx
    FAULT(13, USER_DATA32 & ~3, movw %bx, %ss)
    movw $TASK, %bx
    FAULT(13, TASK, movw %bx, %ds)
    EXPECT(0x11223344, %fs:0xffc) /* still the old one after failed loads of others */
    FAULT(13, 0, movl %eax, %cs:AREA)
    FAULT(13, DATA32, ljmp $DATA32, $0)
    FAULT(13, 0, ljmp $0, $0)
    FAULT(13, 0x1018, ljmp $CODE64 + 0x1000, $0) /* beyond the table */
    /* Stack segment limit: #SS(0), and ESP stays. The handler needs a stack, so a task gate is the
       only way out in general; here the pushed frame still fits below the limit. */
    movw $SMALL_STACK, %ax
    movw %ax, %ss
    movl $0x80, %esp
    FAULT(12, 0, movl 0x7e(%esp), %eax)
    movw $SMALL_STACK, %ax
    movw %ax, %ss
    movl $0x80, %esp
    pushl $0x55
    EXPECT(0x55, AREA + 0x7c)
    FAULT(12, 0, movl $1, 0x1000(%esp))
    EXPECT(0x7c, %esp)
    movw $DATA32, %ax
    movw %ax, %ss
    movl $STACK, %esp
    /* A jump beyond the code segment's limit faults at the jump, with its pc. */
    movw $SPARE, %bx
    movl $(AREA << 16) | 0x00ff, GDT + SPARE
    movl $0x00409b00 | (AREA >> 16), GDT + SPARE + 4
    movl $0x00ffffe9, AREA + 0x10 /* JMP to beyond */
    movl $0xf4f4f400, AREA + 0x14
    FAULT_AT(13, 0, 0x10, ljmp $SPARE, $0x10)
    EXPECT(SPARE, SEEN_CS)
    movl $0x00ffffe8, AREA + 0x20 /* CALL: nothing is pushed */
    movl $0xf4f4f400, AREA + 0x24
    movl $0x00ffff68, AREA + 0x30 /* PUSH 0000FFFFh; RET: nothing is popped */
    movl $0xf4f4c300, AREA + 0x34
    FAULT_AT(13, 0, 0x20, ljmp $SPARE, $0x20)
    FAULT_AT(13, 0, 0x35, ljmp $SPARE, $0x30)
    FAULT(13, 0, ljmp $SPARE, $0x100)
    PASS
