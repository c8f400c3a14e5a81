/* MODES 32. Every stack operation with 16- and 32-bit operands on 16- and 32-bit stacks: which part of
   ESP moves, what is written, and what ENTER and LEAVE do with (E)BP. */
#include "common.S"

#define STACK16 GATE       /* base AREA, limit 0xfffff, B clear */
#define STACK32 (GATE + 8) /* the same with B set */
#define START   0x20000    /* ESP before each case: SP is 0 */
#define TOP16   0x30000    /* linear address above the first item on STACK16 and on STACK32 */
#define TOP32   0x40000
#define FRAME   0x1f000    /* EBP before ENTER and LEAVE */
#define FRAME_HIGH 0x10000

#define READ_ONLY_PAGE 0x50000

    /* Operations on one register. top: the linear address above the first item; left: ESP there, as
       the stack size counts it. */
    .macro PUSH_REGISTER long, word, top, left
    movl $START, %esp
    movl $0xdeadbeef, \top - 4
    movl $0x12345678, %\long
    pushl %\long
    EXPECT(0x12345678, \top - 4)
    EXPECT(\left - 4, %esp)
    movl $0x87654321, \top - 4
    popl %\long
    EXPECT(0x87654321, %\long)
    EXPECT(START, %esp)
    movl $0xdeadbeef, \top - 4
    pushw %\word
    EXPECT(0x4321beef, \top - 4)
    EXPECT(\left - 2, %esp)
    movw $0xcafe, \top - 2
    popw %\word
    EXPECT(0x8765cafe, %\long)
    EXPECT(START, %esp)
    .endm

    .macro PUSH_STACK_POINTER top, left
    movl $START, %esp
    pushl %esp
    EXPECT(START, \top - 4)
    EXPECT(\left - 4, %esp)
    movl $0x7654fffc, \top - 4
    popl %esp
    EXPECT(0x7654fffc, %esp)
    movl $START, %esp
    movw $0xbeef, \top - 2
    pushw %sp
    EXPECT(\left - 2, %esp)
    cmpw $START & 0xffff, \top - 2
    je 1f
    FAILURE
1:  movw $0x8000, \top - 2
    popw %sp
    EXPECT(START | 0x8000, %esp)
    .endm

    .macro PUSH_SEGMENT name, selector, top, left
    movl $START, %esp
    movl $0xdeadbeef, \top - 8
    pushl %\name
    cmpw $\selector, \top - 4
    je 1f
    FAILURE
1:  EXPECT(\left - 4, %esp)
    pushw %\name
    EXPECT((\selector << 16) | 0xbeef, \top - 8)
    EXPECT(\left - 6, %esp)
    .endm

    .macro POP_SEGMENT name, top, left
    movl $START, %esp
    pushl $0xabcd0000 | READ_ONLY /* the upper half is ignored */
    popl %\name
    EXPECT(START, %esp)
    movl %\name, %ebx
    EXPECT(READ_ONLY, %ebx)
    pushw $DATA32
    popw %\name
    EXPECT(START, %esp)
    movl %\name, %ebx
    EXPECT(DATA32, %ebx)
    .endm

    .macro PUSH_MEMORY top, left
    movl $START, %esp
    movl $0x11223344, SCRATCH
    pushl SCRATCH
    EXPECT(0x11223344, \top - 4)
    movl $0, SCRATCH
    popl SCRATCH
    EXPECT(0x11223344, SCRATCH)
    EXPECT(START, %esp)
    movl $0xdeadbeef, \top - 4
    pushw SCRATCH
    EXPECT(0x3344beef, \top - 4)
    EXPECT(\left - 2, %esp)
    movl $0, SCRATCH
    popw SCRATCH
    EXPECT(0x3344, SCRATCH)
    EXPECT(START, %esp)
    /* immediates: sign extended to the operand size */
    pushl $-2
    EXPECT(0xfffffffe, \top - 4)
    pushw $-3
    EXPECT(\left - 6, %esp)
    movzwl \top - 6, %ebx
    EXPECT(0xfffd, %ebx)
    .byte 0x66, 0x68, 0x34, 0x12 /* PUSH imm16 */
    movl \top - 8, %ebx
    EXPECT(0xfffd1234, %ebx)
    EXPECT(\left - 8, %esp)
    .endm

    .macro PUSH_ALL top, left
    movl $START, %esp
    movl $0x11110001, %eax
    movl $0x22220002, %ecx
    movl $0x33330003, %edx
    movl $0x44440004, %ebx
    movl $0x55550005, %ebp
    movl $0x66660006, %esi
    movl $0x77770007, %edi
    pushal
    EXPECT(\left - 32, %esp)
    EXPECT(0x11110001, \top - 4)
    EXPECT(0x22220002, \top - 8)
    EXPECT(0x33330003, \top - 12)
    EXPECT(0x44440004, \top - 16)
    EXPECT(START, \top - 20)
    EXPECT(0x55550005, \top - 24)
    EXPECT(0x66660006, \top - 28)
    EXPECT(0x77770007, \top - 32)
    notl \top - 4
    notl \top - 20 /* not loaded by POPA */
    notl \top - 32
    popal
    EXPECT(START, %esp)
    EXPECT(~0x11110001, %eax)
    EXPECT(0x22220002, %ecx)
    EXPECT(~0x77770007, %edi)
    pushaw
    EXPECT(\left - 16, %esp)
    EXPECT(0xfffe0002, \top - 4)
    EXPECT(0x00030004, \top - 8)
    EXPECT(0x00000005, \top - 12)
    EXPECT(0x0006fff8, \top - 16)
    movl $0x12349876, \top - 4
    movl $0x54325678, \top - 16
    popaw
    EXPECT(START, %esp)
    EXPECT(0xeeee1234, %eax)
    EXPECT(0x22229876, %ecx)
    EXPECT(0x44440004, %ebx)
    EXPECT(0x88885678, %edi)
    EXPECT(0x66665432, %esi)
    .endm

    .macro PUSH_FLAGS top, left
    movl $START, %esp
    pushl $0x40cd7 /* AC and all arithmetic flags with DF */
    popfl
    pushfl
    cld
    EXPECT(0x40cd7, \top - 4)
    EXPECT(\left - 4, %esp)
    popfl
    pushw $0
    popfw /* AC stays */
    pushfl
    EXPECT(0x40002, \top - 4)
    popfl
    movl $0xdeadbeef, \top - 4
    pushfw
    EXPECT(\left - 2, %esp)
    EXPECT(0x0002beef, \top - 4)
    popfw
    EXPECT(START, %esp)
    pushl $2
    popfl
    EXPECT(START, %esp)
    .endm

    /* ENTER allocate, level with operands of size bytes. */
    .macro ENTER_CASE size, level, allocate, top, left
    .set deep, \level & 31
    .if \size == 4
    .set mask, 0xffffffff
    .set frame, \left - 4
    .else
    .set mask, 0xffff
    .set frame, (FRAME & 0xffff0000) | ((\left - 2) & 0xffff)
    .endif
    .set i, 1
    .rept 31 /* the display of the caller, where EBP or BP points to on this stack */
    .if \size == 4
    movl $0x1000 + i, \top - START + FRAME - \size * i
    .else
    movw $0x1000 + i, \top - START + FRAME - \size * i
    .endif
    .set i, i + 1
    .endr
    movl $START, %esp
    movl $FRAME, %ebp
    .if \size == 2
    .byte 0x66
    .endif
    .byte 0xc8
    .word \allocate
    .byte \level
    EXPECT(\left - \size * (1 + deep) - \allocate, %esp)
    EXPECT(frame, %ebp)
    LOAD_ITEM \size, \top - \size
    EXPECT(FRAME & mask, %ebx)
    .set i, 1
    .rept 30
    .if i < deep
    LOAD_ITEM \size, \top - \size * (1 + i)
    EXPECT(0x1000 + i, %ebx)
    .endif
    .set i, i + 1
    .endr
    .if deep
    LOAD_ITEM \size, \top - \size * (1 + deep)
    EXPECT((\left - \size) & mask, %ebx)
    .endif
    .endm

    .macro LOAD_ITEM size, at:vararg
    .if \size == 4
    movl \at, %ebx
    .else
    movzwl \at, %ebx
    .endif
    .endm

    /* LEAVE: the part of ESP that the stack size names, then a POP of the operand size. */
    .macro LEAVE_CASES top, upper
    movl $0x89abcdef, \top - START + FRAME
    movl $0x76540000, %esp
    movl $FRAME, %ebp
    leavel
    EXPECT(0x89abcdef, %ebp)
    EXPECT(\upper | (FRAME & 0xffff) + 4, %esp)
    movl $0x76540000, %esp
    movl $FRAME, %ebp
    leavew
    EXPECT((FRAME & 0xffff0000) | 0xcdef, %ebp)
    EXPECT(\upper | (FRAME & 0xffff) + 2, %esp)
    .endm

    .macro ALL_CASES selector, top, left
    movw $\selector, %ax
    movw %ax, %ss
    PUSH_REGISTER eax, ax, \top, \left
    PUSH_REGISTER ecx, cx, \top, \left
    PUSH_REGISTER edx, dx, \top, \left
    PUSH_REGISTER ebx, bx, \top, \left
    PUSH_REGISTER ebp, bp, \top, \left
    PUSH_REGISTER esi, si, \top, \left
    PUSH_REGISTER edi, di, \top, \left
    PUSH_STACK_POINTER \top, \left
    PUSH_SEGMENT cs, CODE32, \top, \left
    PUSH_SEGMENT ss, \selector, \top, \left
    PUSH_SEGMENT ds, DATA32, \top, \left
    PUSH_SEGMENT gs, DATA32, \top, \left
    POP_SEGMENT es, \top, \left
    POP_SEGMENT fs, \top, \left
    POP_SEGMENT gs, \top, \left
    PUSH_MEMORY \top, \left
    PUSH_ALL \top, \left
    PUSH_FLAGS \top, \left
    .endm

    .macro ALL_FRAMES selector, size, top, left
    movw $\selector, %ax
    movw %ax, %ss
    .irp level, 0, 1, 2, 4, 31, 36
    ENTER_CASE \size, \level, 3, \top, \left
    ENTER_CASE \size, \level, 0x100, \top, \left
    .endr
    .endm

test_main:
    movl $(AREA << 16) | 0xffff, GDT + STACK16
    movl $0x000f9300 | (AREA >> 16), GDT + STACK16 + 4
    movl $(AREA << 16) | 0xffff, GDT + STACK32
    movl $0x004f9300 | (AREA >> 16), GDT + STACK32 + 4
    ALL_CASES STACK16, TOP16, 0x30000
    ALL_FRAMES STACK16, 2, TOP16, 0x30000
    LEAVE_CASES TOP16, 0x76540000
    ALL_CASES STACK32, TOP32, 0x20000
    ALL_FRAMES STACK32, 2, TOP32, 0x20000
    ALL_FRAMES STACK32, 4, TOP32, 0x20000
    LEAVE_CASES TOP32, FRAME_HIGH
    movw $DATA32, %ax
    movw %ax, %ss
    movl $STACK, %esp

    /* ENTER checks the place of its final ESP before it changes anything: the limit... */
    movw $SMALL_STACK, %ax
    movw %ax, %ss
    movl $0x80, %esp
    movl $0x1234, %ebp
    FAULT(12, 0, enter $0x90, $0)
    EXPECT(0x1234, %ebp)
    EXPECT(0x80, SEEN_SP)
    /* ... and the page, for writing, although nothing is written there. */
    movl $TABLES + 0x1007, TABLES
    movl $7, %eax
    movl $TABLES + 0x1000, %edi
1:  stosl
    addl $0x1000, %eax
    cmpl $0x400007, %eax
    jne 1b
    andl $~2, TABLES + 0x1000 + (READ_ONLY_PAGE >> 10)
    movl $TABLES, %eax
    movl %eax, %cr3
    movl %cr0, %eax
    orl $0x80010000, %eax /* PG, WP */
    movl %eax, %cr0
    movl $READ_ONLY_PAGE + 0x1100, %esp
    FAULT(14, 3, enter $0x110, $0)
    EXPECT(0x1234, %ebp)
    EXPECT(READ_ONLY_PAGE + 0x1100, SEEN_SP)
    shrl $12, SEEN_CR2
    EXPECT(READ_ONLY_PAGE >> 12, SEEN_CR2)
    movl $READ_ONLY_PAGE + 0x1100, %esp
    enter $0xfc, $0
    EXPECT(READ_ONLY_PAGE + 0x1000, %esp)
    movl %cr0, %eax
    andl $0x7fffffff, %eax
    movl %eax, %cr0
    /* With 32-bit operands EBP gets all of ESP, also on a 16-bit stack. QEMU's TCG changes BP only. */
    ALL_FRAMES STACK16, 4, TOP16, 0x30000
    movw $DATA32, %ax
    movw %ax, %ss
    movl $STACK, %esp
    PASS
