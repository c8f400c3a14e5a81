/* MODES 32. CPUS 486. A system of segments with bases, as a ROM sets it up: code based at the ROM in rings
   0 and 3 and conforming, stacks and data with limits, data in the LDT, paging, a kernel stack that ring 3
   cannot reach, gates of both sizes. */
#include "common.S"

#define TABLE   AREA /* our GDT, the framework's entries first */
#define OUR_TSS (AREA + 0x400)
#define OUR_LDT (AREA + 0x800)

#define C_BASE 0x98
#define C_USER 0xa0
#define C_CONF 0xa8
#define S_BASE 0xb0 /* base 60000h, limit 1ffffh */
#define S_USER 0xb8
#define LDT    0xc0
#define GATE32 0xc8
#define GATE16 0xd0
#define OUR_TR 0xd8
#define SIZE   0xe0

#define D16    0x04 /* base 30000h, byte limit fffffh, B clear */
#define D32    0x0c /* base 40000h, the same with B set */

#define TOP      0x1f000 /* ESP of ring 0, a free place in flat segments, too */
#define USER_TOP 0x7ff0
#define HIGH     0xe0000000 /* all pages again, for the supervisor */

#define USER_ESP (0x60000 + TOP - 8) /* on the stack of ring 0 */

    .macro DESCRIPTOR selector, base, low, high
    movl $((\base & 0xffff) << 16) | \low, TABLE + \selector
    movl $\high | (\base >> 16), TABLE + \selector + 4
    .endm

    .macro INTERRUPT vector, selector, offset, type, high
    movl $(\selector << 16) + \offset, IDT + \vector * 8
    movl $\high | \type, IDT + \vector * 8 + 4
    .endm

    .macro USER label
    pushl $S_USER | 3
    pushl $USER_TOP
    pushl $2
    pushl $C_USER | 3
    pushl $OFS(\label)
    iretl
    .endm

    /* In ring 3: fails with an unexpected exception here. */
    .macro MUST immediate, operand:vararg
    cmpl $\immediate, \operand
    je .Lmust\@
    hlt
.Lmust\@:
    .endm

    /* From ring 0: the instruction must fault in ring 3. Everything is as before afterwards. */
#define USER_FAULT(...) USER_FAULT_ __LINE__, __VA_ARGS__
    .macro USER_FAULT_ line, vector, error, instruction:vararg
    movl $.Lresume\@, RESUME
    movl $TOP, SAVED_SP
    USER .Luser\@
.Luser\@:
    movw $D16 | 3, %ax
.Lat\@:
    \instruction
    hlt
.Lresume\@: /* flat */
    movw $DATA32, %ax
    movw %ax, %ds
    movl $0, RESUME
    EXPECT_ \line, \vector, SEEN_VECTOR
    EXPECT_ \line, \error, SEEN_ERROR
    EXPECT_ \line, OFS(.Lat\@), SEEN_IP
    EXPECT_ \line, (C_USER | 3), SEEN_CS
    EXPECT_ \line, USER_TOP, USER_ESP
    ljmp $C_BASE, $OFS(.Lback\@)
.Lback\@:
    lssl %cs:OFS(kernel_stack), %esp
    .endm

test_main:
    movl $GDT, %esi
    movl $TABLE, %edi
    movl $C_BASE / 4, %ecx
    rep movsl
    DESCRIPTOR C_BASE, ROM_BASE, 0xffff, 0x00409b00
    DESCRIPTOR C_USER, ROM_BASE, 0xffff, 0x0040fb00
    DESCRIPTOR C_CONF, ROM_BASE, 0xffff, 0x00409f00
    DESCRIPTOR S_BASE, 0x60000, 0xffff, 0x00419300
    DESCRIPTOR S_USER, 0x60000, 0xffff, 0x0041f300
    DESCRIPTOR LDT, OUR_LDT, 0xf, 0x00008200
    DESCRIPTOR OUR_TR, OUR_TSS, 0x67, 0x00008900
    movl $(C_BASE << 16) + OFS(gate32), TABLE + GATE32
    movl $0x0000ec0a, TABLE + GATE32 + 4 /* ten double words */
    movl $(C_BASE << 16) + OFS(gate16), TABLE + GATE16
    movl $0xffffe40a, TABLE + GATE16 + 4 /* ten words; the upper half is not the offset's */
    movl $0x0000ffff, OUR_LDT
    movl $0x000f9203, OUR_LDT + 4
    movl $0x0000ffff, OUR_LDT + 8
    movl $0x004f9204, OUR_LDT + 12
    INTERRUPT 0x1a, C_BASE, OFS(int_kernel), 0xee00, 0
    INTERRUPT 0x1b, C_BASE, OFS(int_kernel16), 0xe600, 0xffff0000
    INTERRUPT 0x1c, C_CONF, OFS(int_conforming), 0xee00, 0
    INTERRUPT 0x1d, C_USER, OFS(int_user), 0xee00, 0
    INTERRUPT 0x1e, C_BASE, OFS(int_back), 0xee00, 0
    INTERRUPT 0x1f, C_BASE, OFS(int_kernel), 0x8e00, 0
    movl $TOP, OUR_TSS + 4
    movl $S_BASE, OUR_TSS + 8
    movw $0x68, OUR_TSS + 0x66
    movl $TABLES + 0x1007, TABLES
    movl $TABLES + 0x2003, TABLES + (HIGH >> 20)
    movl $TABLES + 0x1000, %edi
    movl $7, %eax
1:  movl %eax, (%edi)
    movl %eax, 0x1000(%edi)
    addl $4, %edi
    addl $0x1000, %eax
    cmpl $0x200007, %eax
    jne 1b
    lgdtl our_gdtr
    movw $LDT, %ax
    lldt %ax
    movw $OUR_TR, %ax
    ltr %ax
    /* ARPL needs no write access as long as it has nothing to write. */
    movw $READ_ONLY, %ax
    movw %ax, %es
    movw $0xfff3, SCRATCH
    movl $2, %ebx
    xorl %eax, %eax
    arpl %bx, %es:SCRATCH
    jz bad
    movw $0xfff0, SCRATCH
    FAULT(13, 0, arpl %bx, %es:SCRATCH)
    arpl %bx, SCRATCH
    jnz bad
    movzwl SCRATCH, %eax
    EXPECT(0xfff2, %eax)
    movl $TABLES, %eax
    movl %eax, %cr3
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    ljmp $C_BASE, $OFS(based)

based:
    lssl %cs:OFS(kernel_stack), %esp
    /* Strings between segments of the LDT, with 16-bit addresses that wrap and 32-bit ones that do not. */
    movw $D16, %ax
    movw %ax, %es
    movl $0x1ff80, %edi
    movl $0x40, %ecx
    movl $0x89abcdef, %eax
    addr16 rep stosl
    cmpl $0x10080, %edi
    jne bad
    movw $D16, %ax
    movw %ax, %ds
    movw $D32, %ax
    movw %ax, %es
    movl $0xff80, %esi
    movl $0x1ff80, %edi
    movl $0x20, %ecx
    rep movsl
    cmpl $0x10000, %esi
    jne bad
    cmpl $0x20000, %edi
    jne bad
    movl $0x10000, %esi
    movl $0x20, %ecx
    addr16 rep movsl /* DI is 0 again */
    cmpl $0x10080, %esi
    jne bad
    cmpl $0x20080, %edi
    jne bad
    movl $0x7c, %edi
    movl $0x20, %ecx
    std
    movl $0x89abcdef, %eax
    repe scasl
    cld
    jne bad
    cmpl $-4, %edi
    jne bad
    cmpl $0x89abcdef, %es:0x1fffc
    jne bad
    cmpl $0, %es:0xfffc
    jne bad
    movw $DATA32, %ax
    movw %ax, %ds
    movw %ax, %es
    /* Far calls and jumps within the based segment. */
    lcalll $C_BASE, $OFS(far32)
    lcallw $C_BASE, $OFS(far16)
    EXPECT(TOP, %esp)
    calll *%cs:near_target - ROM_BASE
    EXPECT(TOP, %esp)

    USER_FAULT(13, 0, cli)
    USER_FAULT(13, 0, hlt)
    USER_FAULT(13, 0, inb $0x64, %al)
    USER_FAULT(13, (0x1f * 8 + 2), int $0x1f)
    USER_FAULT(13, C_BASE, ljmp $C_BASE | 3, $0)
    USER_FAULT(13, C_BASE, lcall $C_BASE | 3, $0)
    USER_FAULT(13, D16, movw %ax, %ds) /* DPL 0 */
    USER_FAULT(13, 0, movl %ds:0, %eax)
    USER_FAULT(12, 0, movl %ss:0x1fffd, %eax)
    USER_FAULT(13, 0, movl %cs:0xfffd, %eax)
    USER_FAULT(13, 0, movl %eax, %cs:0)
    /* From ring 0 no gate leads outwards. */
    movl $1f, RESUME
    movl $TOP, SAVED_SP
2:  int $0x1d
1:  movl $0, RESUME
    EXPECT(13, SEEN_VECTOR)
    EXPECT(C_USER, SEEN_ERROR)
    EXPECT(OFS(2b), SEEN_IP)
    ljmp $C_BASE, $OFS(1f)
1:  lssl %cs:OFS(kernel_stack), %esp
    USER in_user

in_user:
    movl %ds, %eax
    MUST 0, %eax
    movl %es, %eax
    MUST 0, %eax
    movl %fs, %eax
    MUST 0, %eax
    movl %cs, %eax
    MUST (C_USER | 3), %eax
    int $0x1a
after_1a:
    int $0x1b
after_1b:
    int $0x1c
    int $0x1d
    MUST USER_TOP, %esp
    .irp value, 0x11110001, 0x22220002, 0x33330003, 0x44440004, 0x55550005
    pushl $\value
    pushl $~\value
    .endr
    lcall $GATE32 | 3, $0xdeadbeef
after_gate32:
    MUST USER_TOP, %esp
    .irp value, 0x1111, 0x2222, 0x3333, 0x4444, 0x5555
    pushw $\value
    pushw $~\value
    .endr
    lcall $GATE16 | 3, $0
after_gate16:
    MUST USER_TOP, %esp
    int $0x1e

int_back: /* once more, to a kernel stack on pages of the supervisor */
    movw $DATA32, %ax
    movw %ax, %ds
    cmpl $DATA32, OUR_TSS + 8
    je 1f
    lssl %cs:OFS(kernel_stack), %esp
    movl $DATA32, OUR_TSS + 8
    movl $HIGH + TOP, OUR_TSS + 4
    movl $0, TOP - 4
    USER 2f
2:  int $0x1e
1:  EXPECT(HIGH + TOP - 20, %esp)
    EXPECT(S_USER | 3, TOP - 4)
    EXPECT(USER_TOP, TOP - 8)
    EXPECT(C_USER | 3, TOP - 16)
    PASS

int_kernel:
    movw $DATA32, %ax
    movw %ax, %ds
    EXPECT(TOP - 20, %esp)
    movl %ss, %eax
    EXPECT(S_BASE, %eax)
    movl %cs, %eax
    EXPECT(C_BASE, %eax)
    EXPECT(OFS(after_1a), 0(%esp))
    EXPECT(C_USER | 3, 4(%esp))
    EXPECT(USER_TOP, 12(%esp))
    EXPECT(S_USER | 3, 16(%esp))
    iretl
int_kernel16:
    movw $DATA32, %ax
    movw %ax, %ds
    EXPECT(TOP - 10, %esp)
    EXPECT(((C_USER | 3) << 16) + OFS(after_1b), 0(%esp))
    EXPECT(((S_USER | 3) << 16) | USER_TOP, 6(%esp))
    iretw
int_conforming:
    movl %cs, %eax
    MUST (C_CONF | 3), %eax
    MUST (USER_TOP - 12), %esp
    MUST (C_USER | 3), 4(%esp)
    iretl
int_user:
    movl %cs, %eax
    MUST (C_USER | 3), %eax
    MUST (USER_TOP - 12), %esp
    iretl

gate32:
    movw $DATA32, %ax
    movw %ax, %ds
    EXPECT(TOP - 56, %esp)
    EXPECT(OFS(after_gate32), 0(%esp))
    EXPECT(C_USER | 3, 4(%esp))
    EXPECT(~0x55550005, 8(%esp))
    EXPECT(0x55550005, 12(%esp))
    EXPECT(0x33330003, 28(%esp))
    EXPECT(0x11110001, 44(%esp))
    EXPECT(USER_TOP - 40, 48(%esp))
    EXPECT(S_USER | 3, 52(%esp))
    lretl $40
gate16:
    movw $DATA32, %ax
    movw %ax, %ds
    EXPECT(TOP - 28, %esp)
    EXPECT(((C_USER | 3) << 16) + OFS(after_gate16), 0(%esp))
    EXPECT((0x5555 << 16) | (~0x5555 & 0xffff), 4(%esp))
    EXPECT((0x1111 << 16) | (~0x1111 & 0xffff), 20(%esp))
    EXPECT(((S_USER | 3) << 16) | (USER_TOP - 20), 24(%esp))
    lretw $20

far32:
    EXPECT(TOP - 8, %esp)
    lretl
far16:
    EXPECT(TOP - 4, %esp)
    lretw
near32:
    EXPECT(TOP - 4, %esp)
    retl
bad:
    movw $DATA32, %ax
    movw %ax, %ds
    FAILURE

kernel_stack:
    .long TOP
    .word S_BASE
near_target:
    .long OFS(near32)
our_gdtr:
    .word SIZE - 1
    .long TABLE
