/* Single step: the trap behind every class of instruction, and what sets, clears and delays it. */
#include "common.S"
#include "trace.inc"

#if MODE == 64
#define IRET iretq
#define PUSH_FRAME(flags, at) pushq $DATA32; pushq $ROW_STACK; pushq $flags; pushq $CODE64; \
                              pushq $CODE + (at)
#elif MODE == 32
#define IRET iretl
#define PUSH_FRAME(flags, at) pushl $flags; pushl $CODE32; pushl $CODE + (at)
#else
#define IRET iretw
#define PUSH_FRAME(flags, at) pushw $flags; pushw $0; pushw $CODE + (at)
#endif

test_main:
    call trace_start
    movl $IP(rows), ROW_AT
    call trace_rows
    PASS

    .balign 4
rows:
    ROW 0
8:  nop
9:  WANT END
    ROW TRACE_TF
8:  nop
1:  movl %eax, (%PTR(si))
2:  addl $1, (%PTR(si))
3:  pushw %ax
4:  popw %dx
5:  lock incl (%PTR(si))
6:  xchgl %eax, (%PTR(si))
7:  fninit
9:  WANT STEP(1b - 8b), STEP(2b - 8b), STEP(3b - 8b), STEP(4b - 8b), STEP(5b - 8b), STEP(6b - 8b), STEP(7b - 8b), STEP(9b - 8b), END
    /* Branches: the pc is the target's. */
    ROW TRACE_TF
8:  jmp 1f
    ud2
1:  testl %eax, %eax
2:  jz 3f
    ud2
3:  jnz 4f
4:  call 5f
6:  jmp 9f
5:  ret
9:  WANT STEP(1b - 8b), STEP(2b - 8b), STEP(3b - 8b), STEP(4b - 8b), STEP(5b - 8b), STEP(6b - 8b), STEP(9b - 8b), END
    ROW TRACE_TF
8:  movl $CODE + 1f - 8b, %eax
2:  jmp *%PTR(ax)
    ud2
1:  movl $CODE + 3f - 8b, (%PTR(si))
4:  movl $0, 4(%PTR(si))
6:  jmp *(%PTR(si))
    ud2
3:  nop
9:  WANT STEP(2b - 8b), STEP(1b - 8b), STEP(4b - 8b), STEP(6b - 8b), STEP(3b - 8b), STEP(9b - 8b), END
    ROW TRACE_TF
8:  loop 8b
9:  WANT STEP(0), STEP(0), STEP(9b - 8b), END
    ROW TRACE_TF
8:  stosb
1:  lodsb
2:  movsb
3:  cmpsb
4:  scasb
9:  WANT STEP(1b - 8b), STEP(2b - 8b), STEP(3b - 8b), STEP(4b - 8b), STEP(9b - 8b), END
    /* A count of zero: one trap. */
    ROW TRACE_TF
8:  xorl %ecx, %ecx
1:  rep stosb
9:  WANT STEP(1b - 8b), STEP(9b - 8b), END
    /* The last iteration of REPE that a difference ends. */
    ROW TRACE_TF
8:  movb $1, (%PTR(di))
1:  repe scasb
9:  WANT STEP(1b - 8b), STEP(9b - 8b), END
    /* POPF that clears TF is still trapped; POPF that sets it is not. */
    ROW TRACE_TF
8:  pushw $2
1:  popfw
2:  nop
9:  WANT STEP(1b - 8b), STEP(2b - 8b), END
    ROW 0
8:  pushw $0x102
    popfw
1:  nop
2:  nop
9:  WANT STEP(2b - 8b), STEP(9b - 8b), END
    /* PUSHF shows TF. */
    ROW TRACE_TF
8:  pushfw
1:  popw %ax
2:  testb $1, %ah
3:  jnz 4f
    ud2
4:  nop
9:  WANT STEP(1b - 8b), STEP(2b - 8b), STEP(3b - 8b), STEP(4b - 8b), STEP(9b - 8b), END
    /* IRET in the same way. */
    ROW 0
8:  PUSH_FRAME(0x102, 1f - 8b)
    IRET
    ud2
1:  nop
2:  nop
9:  WANT STEP(2b - 8b), STEP(9b - 8b), END
    ROW 0
8:  PUSH_FRAME(2, 1f - 8b)
    pushw $0x102
    popfw
    IRET
    ud2
1:  nop
9:  WANT STEP(1b - 8b), END
    /* Software interrupts clear TF: no trap behind them. INTO without overflow is an instruction. */
    ROW TRACE_TF
8:  int $4
9:  WANT ENDS(4, 2)
    ROW TRACE_TF
8:  int3
9:  WANT ENDS(3, 1)
#if MODE != 64
    ROW TRACE_TF
8:  into
9:  WANT STEP(1), END
    ROW TRACE_TF
8:  movb $0x7f, %al
1:  incb %al
2:  into
9:  WANT STEP(1b - 8b), STEP(2b - 8b), ENDS(4, 9b - 8b)
#endif
    /* A fault: nothing but the fault, whose image has TF (and RF). */
    ROW TRACE_TF
8:  nop
1:  ud2
9:  WANT STEP(1b - 8b), FAULTS(6, 1b - 8b)
    ROW TRACE_TF
8:  movl $0, (%PTR(si))
1:  divb (%PTR(si))
9:  WANT STEP(1b - 8b), FAULTS(0, 1b - 8b)
    /* MOV SS and POP SS put the trap off until the next instruction is done, STI does not. */
    ROW TRACE_TF
8:  movw %ss, %ax
1:  movw %ax, %ss
    nop
2:  nop
9:  WANT STEP(1b - 8b), STEP(2b - 8b), STEP(9b - 8b), END
#if MODE != 64
    ROW TRACE_TF
8:  pushw %ss
1:  popw %ss
    nop
2:  nop
9:  WANT STEP(1b - 8b), STEP(2b - 8b), STEP(9b - 8b), END
    ROW TRACE_TF
8:  pushl %ss
1:  popl %ss
    pushfw
2:  popw %ax
9:  WANT STEP(1b - 8b), STEP(2b - 8b), STEP(9b - 8b), END
#endif
    ROW TRACE_TF
8:  movw %ss, (%PTR(si))
1:  movl %esp, %eax
2:  lssw -2(%PTR(si)), %dx
3:  nop
9:  WANT STEP(1b - 8b), STEP(2b - 8b), STEP(3b - 8b), STEP(9b - 8b), END
    ROW TRACE_TF
8:  sti
1:  cli
9:  WANT STEP(1b - 8b), STEP(9b - 8b), END
    /* MOV SS, then an interrupt: the trap of MOV SS is lost, as TF is clear when it could come. */
    ROW TRACE_TF
8:  movw %ss, %ax
1:  movw %ax, %ss
    int $4
9:  WANT STEP(1b - 8b), ENDS(4, 9b - 8b)
    /* HLT completes: the trap ends the halt. */
    ROW TRACE_TF
8:  hlt
1:  nop
9:  WANT STEP(1b - 8b), STEP(9b - 8b), END
    /* Privileged and serialising ones. */
    ROW TRACE_TF
8:  cpuid
1:  movl $0x277, %ecx
2:  rdmsr
3:  wrmsr
4:  clts
5:  smsw %ax
6:  lmsw %ax
7:  wbinvd
9:  WANT STEP(1b - 8b), STEP(2b - 8b), STEP(3b - 8b), STEP(4b - 8b), STEP(5b - 8b), STEP(6b - 8b), STEP(7b - 8b), STEP(9b - 8b), END
    ROW TRACE_TF
8:  READ_SYSTEM cr0
1:  WRITE_SYSTEM cr0
2:  READ_SYSTEM cr3
3:  WRITE_SYSTEM cr3
4:  READ_SYSTEM cr4
5:  WRITE_SYSTEM cr4
6:  READ_SYSTEM dr6
7:  WRITE_SYSTEM dr1
9:  WANT STEP(1b - 8b), STEP(2b - 8b), STEP(3b - 8b), STEP(4b - 8b), STEP(5b - 8b), STEP(6b - 8b), STEP(7b - 8b), STEP(9b - 8b), END
    ROW TRACE_TF
8:  inb $0x80, %al
1:  outb %al, $0x80
2:  movw %ds, %ax
3:  movw %ax, %ds
4:  movw %ax, %es
5:  sgdt (%PTR(si))
6:  lgdt (%PTR(si))
7:  invlpg (%PTR(si))
9:  WANT STEP(1b - 8b), STEP(2b - 8b), STEP(3b - 8b), STEP(4b - 8b), STEP(5b - 8b), STEP(6b - 8b), STEP(7b - 8b), STEP(9b - 8b), END
    ROW TRACE_TF
8:  pushfw
1:  orb $1, %al
2:  enter $8, $0
3:  leave
4:  popfw
5:  rdtsc
6:  cwtl
7:  movzbl (%PTR(si)), %eax
9:  WANT STEP(1b - 8b), STEP(2b - 8b), STEP(3b - 8b), STEP(4b - 8b), STEP(5b - 8b), STEP(6b - 8b), STEP(7b - 8b), STEP(9b - 8b), END
#if MODE == 16
    ROW TRACE_TF
8:  ljmp $0, $CODE + 1f - 8b
    ud2
1:  lcall $0, $CODE + 2f - 8b
3:  jmp 9f
2:  lret
9:  WANT STEP(1b - 8b), STEP(2b - 8b), STEP(3b - 8b), STEP(9b - 8b), END
#else
    ROW TRACE_TF
8:  movl $CODE + 1f - 8b, (%PTR(si))
2:  movw %cs, 4(%PTR(si))
3:  ljmpl *(%PTR(si))
    ud2
1:  addl $4f - 1b, (%PTR(si))
5:  lcalll *(%PTR(si))
6:  jmp 9f
4:  lretl
9:  WANT STEP(2b - 8b), STEP(3b - 8b), STEP(1b - 8b), STEP(5b - 8b), STEP(4b - 8b), STEP(6b - 8b), STEP(9b - 8b), END
#endif
    END_ROWS
