/* Breakpoints on execution, data and ports: what hits, when it is reported, and with which RF. */
#include "common.S"
#include "trace.inc"

#define AT0(rw, length) 0x401 + (rw << 16) + (length << 18)
#define AT1(rw, length) 0x404 + (rw << 20) + (length << 22)
#define BOTH(rw, length) 0x405 + (rw << 16) + (length << 18) + (rw << 20) + (length << 22)
#define SI  POINTER_SI
#define DI  POINTER_DI
#if MODE == 16
#define SUPPRESSED CODE + 2
#define NEXT CODE + 3
#else
#define SUPPRESSED CODE + 4 /* PUSH and POP with a 66 prefix */
#define NEXT CODE + 5
#endif
#define END_OF_PAGE 0x8fff /* data here, too */

test_main:
    call trace_start
    /* The handler of INT 5 is part of the row, 40h bytes behind its start. */
#if MODE == 16
    movl $CODE + 0x40, 5 * 4
#else
    movl $5, %eax
    movl $CODE + 0x40, %edx
    call trace_set_gate
#endif
    READ_SYSTEM cr4
    orl $8, %eax /* DE: the rows for ports are at the end */
    WRITE_SYSTEM cr4
    movl $IP(rows), ROW_AT
    call trace_rows
    PASS

    .balign 4
rows:
    /* --- execution --- */
    ROW TRACE_RESUME, AT0(0, 0), CODE
8:  nop
9:  WANT HIT(1, 0), END
    ROW TRACE_RESUME, 0x402, CODE /* G0 */
8:  nop
9:  WANT HIT(1, 0), END
    ROW 0, 0x400, CODE /* neither */
8:  nop
9:  WANT END
    ROW 0, 0x700, CODE /* GE and LE alone */
8:  nop
9:  WANT END
    ROW TRACE_RESUME, 0x405, CODE, CODE
8:  nop
9:  WANT HIT(3, 0), END
    /* DR0 and DR1 are compared even if off, but not reported as hit by us. */
    ROW TRACE_RESUME, AT1(0, 0), CODE + 1, CODE
8:  nop
    nop
9:  WANT HIT(2, 0), END
    /* The second byte of an instruction. */
    ROW 0, AT0(0, 0), CODE + 1
8:  movb $1, %al
9:  WANT END
    /* A prefix belongs to it. */
    ROW TRACE_RESUME, AT0(0, 0), CODE
8:  lock incl (%PTR(si))
9:  WANT HIT(1, 0), END
    /* RF in the image of IRET lets one instruction pass. */
    ROW TRACE_RF, AT0(0, 0), CODE
8:  nop
9:  WANT END
    ROW TRACE_RF | TRACE_RESUME, AT0(0, 0), CODE + 1
8:  nop
    nop
9:  WANT HIT(1, 1), END
    ROW TRACE_RF | TRACE_RESUME, AT0(0, 0), CODE
8:  loop 8b
9:  WANT HIT(1, 0), HIT(1, 0), END
    ROW TRACE_RF | TRACE_RESUME, BOTH(0, 0), CODE, CODE + 2
8:  jmp 1f
1:  nop
9:  WANT HIT(2, 2), END
    ROW TRACE_RESUME, AT0(0, 0), CODE
8:  loop 8b
9:  WANT HIT(1, 0), HIT(1, 0), HIT(1, 0), END
    /* A repeated instruction is hit once. */
    ROW TRACE_RESUME, AT0(0, 0), CODE
8:  rep stosb
9:  WANT HIT(1, 0), END
    ROW TRACE_RESUME | TRACE_TF, AT0(0, 0), CODE
8:  rep stosb
#if MODE == 16 /* where the image of the trap has no place for RF */
9:  WANT HIT(1, 0), STEP(0), HIT(1, 0), STEP(0), HIT(1, 0), STEP(9b - 8b), END
#else
9:  WANT HIT(1, 0), STEP(0) + RF, STEP(0) + RF, STEP(9b - 8b), END
#endif
    /* Single step comes before the breakpoint of the next instruction. */
    ROW TRACE_RESUME | TRACE_TF, AT0(0, 0), CODE + 1
8:  nop
    nop
9:  WANT STEP(1), HIT(1, 1), STEP(2), END
    /* Before a fault of the same instruction; before INT n, which pushes RF clear. */
    ROW TRACE_RESUME, AT0(0, 0), CODE
8:  ud2
9:  WANT HIT(1, 0), FAULTS(6, 0)
    ROW TRACE_RESUME, AT0(0, 0), CODE
8:  int $4
9:  WANT HIT(1, 0), ENDS(4, 2)
    ROW TRACE_RESUME, AT0(0, 0), CODE
8:
9:  WANT HIT(1, 0), END
    /* Behind MOV SS and POP SS it is suppressed. */
    ROW TRACE_RESUME, BOTH(0, 0), (CODE + 2), (CODE + 3)
8:  movw %dx, %ss
    nop
    nop
9:  WANT HIT(2, 3), END
#if MODE != 64
    ROW TRACE_RESUME, BOTH(0, 0), (NEXT), (SUPPRESSED)
8:  pushw %ss
    popw %ss
    nop
    nop
9:  WANT HIT(1, 9b - 8b - 1), END
#endif
    /* Not behind STI. */
    ROW TRACE_RESUME, BOTH(0, 0), (CODE + 1), (CODE + 2)
8:  sti
    cli
    nop
9:  WANT HIT(1, 1), HIT(2, 2), END

    /* --- data --- */
    ROW 0, AT0(1, 3), SI
8:  movl %eax, (%PTR(si))
9:  WANT HIT(1, 9b - 8b), END
    ROW 0, AT0(1, 3), SI
8:  movl (%PTR(si)), %eax
    cmpl $0, (%PTR(si))
    testb $1, 2(%PTR(si))
    btl $1, (%PTR(si))
9:  WANT END
    ROW 0, AT0(3, 3), SI
8:  movl (%PTR(si)), %eax
1:  cmpb $0, 3(%PTR(si))
2:  movw %ax, 2(%PTR(si))
9:  WANT HIT(1, 1b - 8b), HIT(1, 2b - 8b), HIT(1, 9b - 8b), END
    ROW 0, AT0(1, 3), SI
8:  addl $0, (%PTR(si))
1:  notw 1(%PTR(si))
2:  xchgb %al, 3(%PTR(si))
3:  lock xaddl %eax, (%PTR(si))
4:  btsl $0, (%PTR(si))
5:  setc (%PTR(si))
9:  WANT HIT(1, 1b - 8b), HIT(1, 2b - 8b), HIT(1, 3b - 8b), HIT(1, 4b - 8b), HIT(1, 5b - 8b), HIT(1, 9b - 8b), END
    /* CMPXCHG writes, whatever it finds. */
    ROW 0, AT0(1, 3), SI
8:  movl $7, %eax
    cmpxchgl %edx, (%PTR(si))
1:  xorl %eax, %eax
    cmpxchgl %edx, (%PTR(si))
9:  WANT HIT(1, 1b - 8b), HIT(1, 9b - 8b), END
    /* Lengths, and addresses whose low bits do not count. */
    ROW 0, BOTH(1, 0), SI, SI + 2
8:  movb %al, 1(%PTR(si))
    movb %al, 3(%PTR(si))
    movb %al, (%PTR(si))
1:  movb %al, 2(%PTR(si))
2:  movl %eax, (%PTR(si))
9:  WANT HIT(1, 1b - 8b), HIT(2, 2b - 8b), HIT(3, 9b - 8b), END
    ROW 0, AT0(1, 1), SI + 1
8:  movb %al, (%PTR(si))
1:  movb %al, 1(%PTR(si))
2:  movb %al, 2(%PTR(si))
    movb %al, -1(%PTR(si))
9:  WANT HIT(1, 1b - 8b), HIT(1, 2b - 8b), END
    ROW 0, AT0(1, 3), SI + 3
8:  movb %al, (%PTR(si))
1:  movb %al, 3(%PTR(si))
2:  movb %al, 4(%PTR(si))
    movl %eax, -4(%PTR(si))
    movl %eax, 4(%PTR(si))
    movl %eax, -3(%PTR(si))
9:  WANT HIT(1, 1b - 8b), HIT(1, 2b - 8b), HIT(1, 9b - 8b), END
#if MODE == 64
    ROW 0, AT0(1, 2), SI + 5
8:  movb %al, (%rsi)
1:  movb %al, 7(%rsi)
2:  movb %al, 8(%rsi)
    movb %al, -1(%rsi)
    movq %rax, 7(%rsi)
3:  movq %rax, -7(%rsi)
9:  WANT HIT(1, 1b - 8b), HIT(1, 2b - 8b), HIT(1, 3b - 8b), HIT(1, 9b - 8b), END
    ROW 0, AT0(3, 3), SI + 12
8:  movups (%rsi), %xmm0
1:  movups %xmm0, (%rsi)
2:  movlps %xmm0, (%rsi)
    fxsave -0x100(%rsi)
9:  WANT HIT(1, 1b - 8b), HIT(1, 2b - 8b), HIT(1, 9b - 8b), END
#endif
    /* Across pages: either half, and both as two breakpoints. */
    ROW 0, AT0(1, 0), END_OF_PAGE
8:  movl %eax, END_OF_PAGE - 1
1:  movl %eax, END_OF_PAGE + 1
9:  WANT HIT(1, 1b - 8b), END
    ROW 0, BOTH(1, 0), END_OF_PAGE + 1, END_OF_PAGE
8:  movw %ax, END_OF_PAGE
1:  incw END_OF_PAGE
2:  movb %al, END_OF_PAGE + 1
9:  WANT HIT(3, 1b - 8b), HIT(3, 2b - 8b), HIT(1, 9b - 8b), END
    /* One disabled, one enabled; the one that only watches writes. */
    ROW 0, 0x00dd0404, SI, SI
8:  movl %eax, (%PTR(si))
9:  WANT HIT(2, 9b - 8b), END
    ROW 0, 0x00df0405, SI, SI
8:  movl (%PTR(si)), %eax
1:  movl %eax, (%PTR(si))
9:  WANT HIT(1, 1b - 8b), HIT(3, 9b - 8b), END
    /* Execution of watched bytes is no access; nor is LEA, a prefetch, INVLPG or a long NOP. */
    ROW 0, AT0(3, 3), CODE
8:  nop
    nop
    leal (%PTR(si)), %eax
9:  WANT END
    ROW 0, AT0(3, 3), SI
8:  leal (%PTR(si)), %eax
    nopw (%PTR(si))
    invlpg (%PTR(si))
9:  WANT END
    /* The stack. */
    ROW 0, AT0(1, 0), (ROW_STACK - 2)
8:  pushw %ax
1:  nop
9:  WANT HIT(1, 1b - 8b), END
    ROW 0, AT0(1, 0), (ROW_STACK - 2)
8:  call 1f
    nop
1:  nop
9:  WANT HIT(1, 1b - 8b), END
    ROW 0, AT0(1, 0), (ROW_STACK - 2)
8:  pushfw
1:  nop
9:  WANT HIT(1, 1b - 8b), END
    ROW 0, AT0(1, 0), (ROW_STACK - 2)
8:  enterw $4, $0
1:  nop
9:  WANT HIT(1, 1b - 8b), END
#if MODE != 64
    ROW 0, AT0(1, 0), (ROW_STACK - 10)
8:  pushaw
1:  nop
9:  WANT HIT(1, 1b - 8b), END
#endif
    /* Strings: behind the iteration. */
    ROW 0, AT0(1, 0), DI + 1
8:  rep stosb
9:  WANT HIT(1, 0) + RF, END
    ROW 0, AT0(1, 3), DI
8:  rep stosb
9:  WANT HIT(1, 0) + RF, HIT(1, 0) + RF, HIT(1, 9b - 8b), END
    ROW 0, BOTH(3, 1), (SI + 2), (DI + 4)
8:  rep movsw
9:  WANT HIT(1, 0) + RF, HIT(2, 9b - 8b), END
    ROW 0, AT0(1, 0), SI + 1
8:  rep movsb
    repe cmpsb
    rep lodsb
9:  WANT END
    ROW 0, AT0(3, 0), SI + 2
8:  rep lodsb
1:  lodsb
9:  WANT HIT(1, 1b - 8b), END
    ROW 0, BOTH(3, 0), (SI + 1), (DI + 1)
8:  repe cmpsb
9:  WANT HIT(3, 0) + RF, END
    ROW 0, AT0(3, 0), DI + 1
8:  repe scasb
9:  WANT HIT(1, 0) + RF, END
    /* Together with single step: one trap. */
    ROW TRACE_TF, AT0(1, 3), SI
8:  movl %eax, (%PTR(si))
1:  nop
9:  WANT HIT_STEP(1, 1b - 8b), STEP(9b - 8b), END
    ROW TRACE_TF, AT0(1, 0), DI + 1
8:  rep stosb
9:  WANT STEP(0) + RF, HIT_STEP(1, 0) + RF, STEP(9b - 8b), END
    /* MOV SS puts it off, and it is not lost. */
    ROW 0, AT0(3, 1), SI
8:  movw %dx, (%PTR(si))
1:  movw (%PTR(si)), %ss
    nop
2:  nop
9:  WANT HIT(1, 1b - 8b), HIT(1, 2b - 8b), END
    ROW TRACE_TF, AT0(3, 1), SI
8:  movw %dx, (%PTR(si))
1:  movw (%PTR(si)), %ss
    nop
2:  nop
9:  WANT HIT_STEP(1, 1b - 8b), HIT_STEP(1, 2b - 8b), STEP(9b - 8b), END
    /* Until the handler of INT n is reached. */
    ROW 0, AT0(3, 1), SI
8:  movw %dx, (%PTR(si))
1:  movw (%PTR(si)), %ss
    int $5
    ud2
    .fill 0x40 - (. - 8b), 1, 0x90
9:  WANT HIT(1, 1b - 8b), HIT(1, 0x40), END
    /* A fault of the instruction leaves its hits out. */
    ROW 0, AT0(3, 3), SI
8:  movl $0, %eax
1:  divb (%PTR(si))
9:  WANT FAULTS(0, 1b - 8b)
    /* --- implicit accesses --- */
    ROW 0, AT0(1, 0), (ROW_STACK - 1)
8:  int $5
    ud2
    .fill 0x40 - (. - 8b), 1, 0x90
9:  WANT HIT(1, 0x40), END
#if MODE != 16
    ROW 0, AT0(3, 3), GDT + READ_ONLY + 4
8:  movl $READ_ONLY, %eax
    movw %dx, %fs
    movw %ax, %fs
9:  WANT HIT(1, 9b - 8b), END
#endif
    /* --- ports --- */
    ROW 0, AT0(2, 0), 0x80
8:  inb $0x80, %al
1:  outb %al, $0x80
2:  inb $0x81, %al
    outb %al, $0x7f
9:  WANT HIT(1, 1b - 8b), HIT(1, 2b - 8b), END
    ROW 0, BOTH(2, 1), 0x81, 0xe2
8:  inb $0x81, %al
1:  outw %ax, $0xe2
2:  inl $0xe0, %eax
3:  inw $0xe0, %ax
    inb $0x82, %al
9:  WANT HIT(1, 1b - 8b), HIT(2, 2b - 8b), HIT(2, 3b - 8b), END
    ROW 0, AT0(2, 3), 0x83
8:  movl $0x82, %edx
    inb %dx, %al
1:  inb $0x84, %al
9:  WANT HIT(1, 1b - 8b), END
    ROW 0, AT0(2, 0), 0x80
8:  movl $0x80, %edx
    rep outsb
9:  WANT HIT(1, 5 + (MODE / 16 & 1)) + RF, HIT(1, 5 + (MODE / 16 & 1)) + RF, HIT(1, 9b - 8b), END
    ROW TRACE_TF, AT0(2, 0), 0x80
8:  inb $0x80, %al
1:  nop
9:  WANT HIT_STEP(1, 1b - 8b), STEP(9b - 8b), END
    /* Memory at that address is something else. */
    ROW 0, AT0(2, 0), SI
8:  movb %al, (%PTR(si))
9:  WANT END
    /* --- DR7.GD --- */
    ROW 0, 0x2400
8:  READ_SYSTEM dr0
9:  WANT ACCESS(0) + RF, END
    ROW 0, 0x2400
8:  READ_SYSTEM dr3
9:  WANT ACCESS(0) + RF, END
    ROW 0, 0x2400
8:  READ_SYSTEM dr6
9:  WANT ACCESS(0) + RF, END
    ROW 0, 0x2400
8:  READ_SYSTEM dr7
9:  WANT ACCESS(0) + RF, END
    ROW 0, 0x2400
8:  nop
    WRITE_SYSTEM dr1
    WRITE_SYSTEM dr2
9:  WANT ACCESS(1) + RF, END
    ROW 0, 0x2400
8:  WRITE_SYSTEM dr6
9:  WANT ACCESS(0) + RF, END
    ROW TRACE_RESUME, AT0(0, 0) + 0x2000, CODE
8:  WRITE_SYSTEM dr2
9:  WANT HIT(1, 0), END
    END_ROWS
