/* MODES 32. Virtual-8086 mode: entry by IRET, segments as in real mode, sensitive instructions, the
   way out through an exception with all segment registers on the stack. */
#include "common.S"

#define VM_CODE 0x8000 /* linear, segment 0x800 */

    /* Runs the bytes at VM_CODE in vm86 mode with IOPL 0 (or 3). */
    .macro ENTER_VM86 iopl
    pushl $0x4444 /* GS */
    pushl $0x3333 /* FS */
    pushl $0x2000 /* DS */
    pushl $0x1000 /* ES */
    pushl $0x0900 /* SS */
    pushl $0x0100 /* ESP */
    pushl $0x20202 | (\iopl << 12)
    pushl $VM_CODE >> 4
    pushl $0
    iretl
    .endm

#define VM86_FAULT(iopl, vector, error, pc, code) \
    VM86_FAULT_ __LINE__, (iopl), (vector), (error), (pc), (code)
    .macro VM86_FAULT_ line:req, iopl:req, vector:req, error:req, pc:req, code:req
    movl $\code, VM_CODE
    movl $0xf4f4f4f4, VM_CODE + 4
    movl $.Lresume\@, RESUME
    movl $STACK, SAVED_SP
    ENTER_VM86 \iopl
.Lresume\@:
    movw $DATA32, %ax
    movw %ax, %ds
    movw %ax, %es
    movl $STACK, %esp
    SEEN_ \line, \vector, \error, \pc
    EXPECT_ \line, VM_CODE >> 4, SEEN_CS
    .endm

test_main:
    cli
    /* HLT, CLI, PUSHF, INT, IRET, IN with IOPL 0: all #GP(0) at the instruction. */
    VM86_FAULT(0, 13, 0, 0, 0xf4)
    VM86_FAULT(0, 13, 0, 0, 0xfa)
    VM86_FAULT(0, 13, 0, 0, 0x9c)
    VM86_FAULT(0, 13, 0, 0, 0x10cd)
    VM86_FAULT(0, 13, 0, 0, 0xcf)
    VM86_FAULT(3, 13, 0, 0, 0x60e4)   /* IN: by the bitmap, whatever IOPL is */
    VM86_FAULT(3, 13, 0, 0, 0xc0200f) /* MOV from CR0 */
    VM86_FAULT(0, 6, 0, 0, 0xc063)    /* ARPL */
    /* With IOPL 3, PUSHF and CLI run; the HLT behind them faults. */
    VM86_FAULT(3, 13, 0, 2, 0xf4fa9c)
    movzwl 0x90fe, %eax
    EXPECT(0x3202, %eax)
    /* The stack of ring 0 got all segment registers. */
    EXPECT(0x4444, STACK - 4)
    EXPECT(0x3333, STACK - 8)
    EXPECT(0x2000, STACK - 12)
    EXPECT(0x1000, STACK - 16)
    EXPECT(0x0900, STACK - 20)
    EXPECT(0x00fe, STACK - 24)
    /* Addresses as in real mode: MOV [BX], DS; HLT with BX = 40h. */
    movl $0x40, %ebx
    VM86_FAULT(0, 13, 0, 2, 0xf41f8c)
    movzwl 0x20040, %eax
    EXPECT(0x2000, %eax)
    /* Offsets over 64 KiB fault: MOV AX, [FFFFh]. */
    VM86_FAULT(0, 13, 0, 0, 0xffffa1)
    PASS
