/* MODES 16. The x87 in real mode: its images in memory, IRQ 13 as DOS programs know it, #MF. */
#include "common.S"

#define ENV   0x8000
#define COUNT SCRATCH /* interrupts */
#define AT    SCRATCH + 4
#define FCW   SCRATCH + 8

test_main:
    movl $ENV, %edi
    movl $0xcccccccc, %eax
    movl $64, %ecx
    rep stosl
    /* R7 valid, R6 zero, R5 infinite, the others empty. */
    fninit
    fld1
    fldz
    movl $0, SCRATCH + 16
    movl $0x80000000, SCRATCH + 20
    movw $0x7fff, SCRATCH + 24
    fldt SCRATCH + 16

    fnstenvs ENV
    EXPECT(0x2800037f, ENV) /* status and control */
    movzwl ENV + 4, %eax
    EXPECT(0x1bff, %eax) /* tags */
    movzwl ENV + 8, %eax
    andl $0x0800, %eax
    EXPECT(0, %eax)
    movzwl ENV + 12, %eax
    andl $0x0fff, %eax
    EXPECT(0, %eax)
    EXPECT(0xcccccccc, ENV + 14)

    fnstenvl ENV + 32
    movzwl ENV + 32, %eax
    EXPECT(0x37f, %eax)
    movzwl ENV + 36, %eax
    EXPECT(0x2800, %eax)
    movzwl ENV + 40, %eax
    EXPECT(0x1bff, %eax)
    movl ENV + 48, %eax
    andl $0xf0000800, %eax
    EXPECT(0, %eax)
    movl ENV + 56, %eax
    andl $0xf0000fff, %eax
    EXPECT(0, %eax)
    EXPECT(0xcccccccc, ENV + 60)

    /* Other tags and TOP by FLDENV in both forms; contents stay. */
    movw $0x3fff, ENV + 4
    movw $0x3800, ENV + 2
    fldenvs ENV
    fnstsw %ax
    movzwl %ax, %eax
    EXPECT(0x3800, %eax)
    fists SCRATCH + 16
    movzwl SCRATCH + 16, %eax
    EXPECT(1, %eax)
    fldenvl ENV + 32
    fnstsw %ax
    movzwl %ax, %eax
    EXPECT(0x2800, %eax)

    /* The whole state and back, in both forms; FNSAVE initialises. */
    fnsaves ENV
    EXPECT(0x2800037f, ENV)
    EXPECT(0x80000000, ENV + 14 + 4) /* infinity first */
    EXPECT(0xcccccccc, ENV + 94)
    fnstenvs ENV + 128
    EXPECT(0x0000037f, ENV + 128)
    movzwl ENV + 132, %eax
    EXPECT(0xffff, %eax)
    frstors ENV
    fnsavel ENV + 128
    EXPECT(0x80000000, ENV + 128 + 28 + 4)
    frstorl ENV + 128
    fstpt SCRATCH + 16
    movzwl SCRATCH + 24, %eax
    EXPECT(0x7fff, %eax)
    fistps SCRATCH + 16
    movzwl SCRATCH + 16, %eax
    EXPECT(0, %eax)
    fistps SCRATCH + 16
    movzwl SCRATCH + 16, %eax
    EXPECT(1, %eax)
    fnstsw %ax
    movzwl %ax, %eax
    EXPECT(0, %eax)

    /* #MF with CR0.NE set, at the next instruction that waits. */
    movl %cr0, %eax
    orb $0x20, %al
    movl %eax, %cr0
    movw $0x37b, FCW /* division by zero */
    fldcw FCW
    fld1
    fldz
    fdivrp
    fnstsw %ax
    FAULT(16, 0, fwait)
    FAULT(16, 0, fld1)
    FAULT(16, 0, fldcw FCW)
    FAULT(16, 0, frstors ENV)
    fnclex
    fwait

    /* IRQ 13 with CR0.NE clear: the handler returns to the instruction that waits. */
    movl %cr0, %eax
    andb $0xdf, %al
    movl %eax, %cr0
    movw $OFS(irq13), 0x75 * 4
    movw $ROM_BASE >> 4, 0x75 * 4 + 2
    movb $0x11, %al
    outb %al, $0x20
    outb %al, $0xa0
    movb $0x08, %al
    outb %al, $0x21
    movb $0x70, %al
    outb %al, $0xa1
    movb $4, %al
    outb %al, $0x21
    movb $2, %al
    outb %al, $0xa1
    movb $1, %al
    outb %al, $0x21
    outb %al, $0xa1
    movb $0xfb, %al
    outb %al, $0x21
    movb $0xdf, %al
    outb %al, $0xa1
    movl $0, COUNT
    movl $20, %ecx
    sti
1:  fninit
    fldcw FCW
    fld1
    fldz
    fdivrp
2:  fwait
    decl %ecx
    jnz 1b
    EXPECT(20, COUNT)
    /* FLDENV waits, too, and loads after the handler's return. */
    fld1
    fldz
    fdivrp
    fldenvs ENV
    EXPECT(21, COUNT)
    fnstsw %ax
    movzwl %ax, %eax
    EXPECT(0x2800, %eax)
    cli
    PASS

irq13:
    pushw %ax
    incl COUNT
    xorb %al, %al
    outb %al, $0xf0
    fnclex
    movb $0x20, %al
    outb %al, $0xa0
    outb %al, $0x20
    popw %ax
    iretw
