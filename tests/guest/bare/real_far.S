/* MODES 16. CPUS 486. Real mode with 32-bit operands: far calls and pointers, interrupts through a moved
   table, table registers, an odd stack pointer, XLAT and offsets that wrap. */
#include "common.S"

#define HERE (ROM_BASE >> 4)
#define MOVED 0x8000 /* interrupt table; address of the stack segment below as well */

    /* CALL FAR in the ways it is encoded: size of the return address, then the call. */
    .macro FAR_CALL size, target, call:vararg
    movl $0xffffffff, STACK - 4
    movl $0xffffffff, STACK - 8
    movl $\target, %ecx
    clc
    \call
.Lreturned\@:
    jc .Lgood\@
    FAILURE
.Lgood\@:
    EXPECT(STACK, %esp)
    .if \size == 8
    EXPECT(OFS(.Lreturned\@), STACK - 8)
    movzwl STACK - 4, %eax /* above the selector: zeros on AMD, untouched on Intel */
    EXPECT(HERE, %eax)
    .else
    EXPECT((HERE << 16) + OFS(.Lreturned\@), STACK - 4)
    .endif
    .endm

    .macro LOAD_POINTER segment, load32, load16
    movl $0x89abcdef, SCRATCH
    movl $0x5a5a2345, SCRATCH + 4
    movl $-1, %ebx
    movl %esp, %ecx
    \load32 SCRATCH, %ebx
    movl %\segment, %edx
    xorl %eax, %eax
    movw %ax, %ds
    EXPECT(0x89abcdef, %ebx)
    EXPECT(0x2345, %edx)
    movl $-1, %ebx
    \load16 SCRATCH, %bx
    movl %\segment, %edx
    xorl %eax, %eax
    movw %ax, %ds
    EXPECT(0xffffcdef, %ebx)
    EXPECT(0x89ab, %edx)
    .endm

    .macro TABLE_REGISTER load32, load16, store32, store16
    movw $0x1234, SCRATCH
    movl $0x89abcdef, SCRATCH + 2
    \load32 SCRATCH
    movl $-1, SCRATCH + 16
    movl $-1, SCRATCH + 20
    \store32 SCRATCH + 16
    EXPECT(0xcdef1234, SCRATCH + 16)
    EXPECT(0xffff89ab, SCRATCH + 20)
    /* The 16-bit store writes all 32 bits of the base since the 386... */
    movl $-1, SCRATCH + 16
    movl $-1, SCRATCH + 20
    \store16 SCRATCH + 16
    EXPECT(0xcdef1234, SCRATCH + 16)
    EXPECT(0xffff89ab, SCRATCH + 20)
    /* ... the 16-bit load takes 24. */
    \load16 SCRATCH
    \store32 SCRATCH + 16
    EXPECT(0xcdef1234, SCRATCH + 16)
    EXPECT(0xffff00ab, SCRATCH + 20)
    .endm

test_main:
    FAR_CALL 4, far16, lcallw $HERE, $OFS(far16)
    FAR_CALL 8, far32, lcalll $HERE, $OFS(far32)
    movl $(HERE << 16) + OFS(far16), SCRATCH
    FAR_CALL 4, far16, lcallw *SCRATCH
    movl $OFS(far32), SCRATCH
    movl $0xcccc0000 | HERE, SCRATCH + 4
    FAR_CALL 8, far32, lcalll *SCRATCH
    /* RET FAR of 32 bits with a word count of its own; the upper half of the selector is ignored. */
    pushl $0x11111111
    pushl $0xdead0000 | HERE
    pushl $OFS(1f)
    lretl $4
1:  EXPECT(STACK, %esp)
    /* A 32-bit near call pushes EIP, a 16-bit one IP. */
    calll near32
    EXPECT(STACK, %esp)
    callw near16
    EXPECT(STACK, %esp)
    movl $OFS(near32), %ebx
    calll *%ebx
    movw $OFS(near16), %bx
    callw *%bx
    EXPECT(STACK, %esp)

    LOAD_POINTER es, lesl, lesw
    LOAD_POINTER fs, lfsl, lfsw
    LOAD_POINTER gs, lgsl, lgsw
    LOAD_POINTER ds, ldsl, ldsw

    TABLE_REGISTER lgdtl, lgdtw, sgdtl, sgdtw
    TABLE_REGISTER lidtl, lidtw, sidtl, sidtw
    /* The interrupt table elsewhere, with 14 vectors. */
    movl $MOVED, %edi
    xorw %ax, %ax
    movw %ax, %es
    xorw %si, %si
    movw $32, %cx
    rep movsl
    movw $14 * 4 - 1, SCRATCH
    movl $MOVED, SCRATCH + 2
    lidtl SCRATCH
    movl $(HERE << 16) + OFS(interrupt), MOVED + 10 * 4
    pushl $0xcd7 | 0x3200 /* with IF and IOPL */
    popfl
    int $10
    pushfl
    cli
    cld
    popl %eax
    andl $0x7fff, %eax
    EXPECT(0x3ed7, %eax)
    EXPECT(0xcd7 | 0x3000, SCRATCH + 32) /* IF was off in the handler */
    EXPECT(0xcd7 | 0x3200, SCRATCH + 36) /* the pushed FLAGS */
    EXPECT(STACK - 6, SCRATCH + 40)
    pushl $2
    popfl
    FAULT(13, 0, int $14) /* beyond the limit, at the instruction */
    /* IRET with 32-bit operands pops three double words, and AC with them. */
    pushl $0x000408d7
    pushl $0xdead0000 | HERE
    pushl $OFS(1f)
    iretl
1:  pushfl
    popl %eax
    EXPECT(0x000408d7, %eax)
    EXPECT(STACK, %esp)
    pushl $2
    popfl
    movw $0x3ff, SCRATCH
    movl $0, SCRATCH + 2
    lidtw SCRATCH

    /* An exception with an odd SP that starts at the top of its segment. */
    movw $MOVED >> 4, %ax
    movw %ax, %ss
    movl $0xffff, %esp
    FAULT(6, 0, ud2)
    movl $STACK, %esp
    movzwl SEEN_SP, %eax
    EXPECT(0xffff, %eax)
    movw $(MOVED + 0xffff - 6) >> 4, %ax /* the pushed IP */
    movw %ax, %fs
    movzwl %fs:(MOVED + 0xffff - 6) & 15, %eax
    subl SEEN_IP, %eax
    EXPECT(0, %eax)

    /* XLAT and string elements: offsets wrap at 64 KiB, the upper halves stay. */
    movw $0x2000, %ax
    movw %ax, %ds
    movw $0x3000, %ax
    movw %ax, %es
    movb $0x5a, 0x0010
    movl $0x7777fff0, %ebx
    movb $0x20, %al
    xlatb
    xorw %cx, %cx
    movw %cx, %ds
    movzbl %al, %eax
    EXPECT(0x5a, %eax)
    movw $0x2000, %ax
    movw %ax, %ds
    movl $0x11223344, 0xfffc
    movl $0x1fffc, %esi
    movl $0x2fffc, %edi
    movsl
    movl %es:0xfffc, %eax
    xorw %cx, %cx
    movw %cx, %ds
    EXPECT(0x11223344, %eax)
    EXPECT(0x10000, %esi)
    EXPECT(0x20000, %edi)
    std
    stosw
    stosb
    cld
    EXPECT(0x2fffd, %edi)
    /* MUL shows what DIV undoes. */
    movl $0x44332211, %eax
    movl $0x88776655, %ecx
    mull %ecx
    divl %ecx
    EXPECT(0x44332211, %eax)
    EXPECT(0, %edx)
    PASS

far16:
    EXPECT(STACK - 4, %esp)
    stc
    lretw
far32:
    EXPECT(STACK - 8, %esp)
    stc
    lretl
near16:
    EXPECT(STACK - 2, %esp)
    retw
near32:
    EXPECT(STACK - 4, %esp)
    retl
interrupt:
    pushfl
    popl SCRATCH + 32
    cld
    movl %esp, SCRATCH + 40
    movw %sp, %bp
    movzwl %ss:4(%bp), %eax
    movl %eax, SCRATCH + 36
    iretw
