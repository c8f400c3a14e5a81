/*
 * MODES 16 32 64. CPUS 486. What a handler finds out about the x87 instruction that failed: FIP, FCS, FOP, FDP, FDS, without
 * a report, behind #MF and behind IRQ 13; in real mode, 16, 32 and 64-bit code (SDM vol. 1, 8.1.8, 8.1.10).
 */
#include "common.S"

    .set fcw, 0x7000
    .set zero, 0x7010
    .set status, 0x7020
    .set env, 0x7100
    .set crossing, 0x7ffe

#define SLAVE  0x18
#define IRQ_13 (SLAVE + 5)
#define BASE   0x6000 /* of FS */

#if MODE == 64
#define WORD(name) r##name
#else
#define WORD(name) e##name
#endif

#if MODE == 16
#define CS_HERE 0
#define DS_HERE 0
#define FS_HERE 0
#define DIRECT  0x036
#define BASED   0x037
#define LOADED  0x37a5
#elif MODE == 32
#define CS_HERE CODE32
#define DS_HERE DATA32
#define FS_HERE GATE
#define DIRECT  0x035
#define BASED   0x033
#define LOADED  0x7a51234
#else
#define CS_HERE CODE64
#define DS_HERE DATA32
#define FS_HERE DATA32
#define DIRECT  0x034
#define BASED   0x033
#define LOADED  0x7a51234
#endif

    .macro fdivs_based
    fdivs (%PTR(bx))
    .endm
    .macro fdivs_override
    fdivs %fs:zero - BASE
    .endm

    /* The 32-bit environment; real mode has linear addresses in two parts each. */
    .macro POINTERS line, cs, ip, fop, fdp, fds
    fnstenvl env
#if MODE == 16
    movzwl env + 12, %eax
    EXPECT_ \line, \ip, %eax
    movl env + 16, %eax
    EXPECT_ \line, (ROM_BASE >> 4 | \fop), %eax
    movzwl env + 20, %eax
    EXPECT_ \line, \fdp, %eax
    movl env + 24, %eax
    EXPECT_ \line, 0, %eax
#else
    movl env + 12, %eax
    EXPECT_ \line, \ip, %eax
    movl env + 16, %eax
    EXPECT_ \line, (\fop << 16 | \cs), %eax
    movl env + 20, %eax
    EXPECT_ \line, \fdp, %eax
    movzwl env + 24, %eax
    EXPECT_ \line, \fds, %eax
#endif
    .endm

    .macro DIVIDE before, instruction, at
    fninit
    fldcw fcw
    fld1
    \before
\at:
    \instruction
    .endm

    .macro NUMERIC_ERROR on
    mov %cr0, %WORD(ax)
    andb $0xdf, %al
    orb $0x20 * \on, %al
    mov %WORD(ax), %cr0
    .endm

    /* Without a report, behind #MF, behind IRQ 13, and in an image. */
    .macro CASE line, fop, fdp, fds, before, instruction, between
    NUMERIC_ERROR 1
    DIVIDE "\before", "\instruction", .Lquiet\@
    \between
    POINTERS \line, CS_HERE, IP(.Lquiet\@), \fop, \fdp, \fds
    DIVIDE "\before", "\instruction", .Lfault\@
    \between
    FAULT_ \line, 16, 0, fwait
    POINTERS \line, CS_HERE, IP(.Lfault\@), \fop, \fdp, \fds
    NUMERIC_ERROR 0
    DIVIDE "\before", "\instruction", .Lirq\@
    \between
    sti
    FAULT_ \line, IRQ_13, 0, fld1
    outb %al, $0xf0
    POINTERS \line, CS_HERE, IP(.Lirq\@), \fop, \fdp, \fds
    fnclex
    movb $0x20, %al
    outb %al, $0xa0
    outb %al, $0x20
    .endm
#define CHECK(fop, fdp, fds, ...) CASE __LINE__, fop, fdp, fds, __VA_ARGS__

    .macro OUT port, value
    movb $\value, %al
    outb %al, $\port
    .endm

test_main:
    movw $0x37b, fcw /* division by zero is not masked */
    movl $0, zero
    movl $0, crossing
    OUT 0x20, 0x11
    OUT 0xa0, 0x11
    OUT 0x21, 0x10
    OUT 0xa1, SLAVE
    OUT 0x21, 4
    OUT 0xa1, 2
    OUT 0x21, 1
    OUT 0xa1, 1
    OUT 0x21, 0xfb
    OUT 0xa1, 0xdf
#if MODE == 16
    movw $(BASE >> 4), %ax
    movw %ax, %fs
#elif MODE == 32
    movl $(BASE << 16) | 0x1fff, GDT + GATE
    movl $0x00409300, GDT + GATE + 4
    movw $GATE, %ax
    movw %ax, %fs
#else
    movl $0xc0000100, %ecx
    movl $BASE, %eax
    xorl %edx, %edx
    wrmsr
#endif

    /* CPUID tells of no processor that has FDP with exceptions only, or no FCS and FDS. */
    xorl %eax, %eax
    cpuid
    cmpl $7, %eax
    jb 1f
    movl $7, %eax
    xorl %ecx, %ecx
    cpuid
    andl $0x2040, %ebx
    EXPECT(0, %ebx)
1:
    CHECK(DIRECT, zero, DS_HERE, "", "fdivs zero", "")
    CHECK(DIRECT, zero, DS_HERE, "", "fdivs zero", "fnstsw status; fnstcw status; fnstsw %ax")
    CHECK(DIRECT, zero, DS_HERE, "fadds crossing", "fdivs zero", "jmp 9f; 9:")
    CHECK(DIRECT, crossing, DS_HERE, "", "fdivs crossing", "")
    CHECK(DIRECT, crossing, DS_HERE, "", "fdivs crossing", "fnstcw crossing - 16")
    CHECK(0x6f9, zero, DS_HERE, "flds zero", "fdivrp", "")
    CHECK(0x6f9, crossing, DS_HERE, "flds crossing", "fdivrp", "movl zero, %eax")
    CHECK(0x6f9, 0, 0, "fldz", "fdivrp", "")
    CHECK(BASED, zero, DS_HERE, "movl $zero, %ebx", "fdivs_based", "xorl %ebx, %ebx")
    CHECK(DIRECT, zero, DS_HERE, "", ".byte 0x66; fdivs zero", "")
#if MODE == 16
    CHECK(DIRECT, zero, 0, "", "fdivs_override", "")
#else
    CHECK(DIRECT, (zero - BASE), FS_HERE, "", "fdivs_override", "")
#endif

    /* Instructions of MMX wait, too, and leave the pointers as they are. */
    movl $1, %eax
    cpuid
    testl $1 << 23, %edx
    je 1f
    NUMERIC_ERROR 1
    DIVIDE "", "fdivs zero", .Lmmx
    FAULT(16, 0, paddb %mm0, %mm0)
    fnclex
    emms
    POINTERS __LINE__, CS_HERE, IP(.Lmmx), DIRECT, zero, DS_HERE
1:
    /* What is loaded comes back, and FNINIT clears it. */
    movl $0x37f, env
    movl $0, env + 4
    movl $0xffff, env + 8
    movl $0x1234, env + 12
    movl $LOADED, env + 16
    movl $0x5678, env + 20
    movl $0, env + 24
    fldenvl env
    movl $0, env + 16
    fnstenvl env
    EXPECT(LOADED, env + 16)
    movzwl env + 12, %eax
    EXPECT(0x1234, %eax)
    movzwl env + 20, %eax
    EXPECT(0x5678, %eax)
    fninit
    fnstenvl env
    movl env + 16, %eax
    EXPECT(0, %eax)

#if MODE == 32
    /* 16-bit protected code with segments that have a base; the handler is 32-bit code. */
    movl $((ROM_BASE << 16) & 0xffff0000) | 0xffff, GDT + SPARE
    movl $0x00009b00 | (ROM_BASE >> 16), GDT + SPARE + 4
    NUMERIC_ERROR 1
    movl %esp, SAVED_SP
    movl $after_16, RESUME
    ljmp $SPARE, $OFS(code_16)
    .code16
code_16:
    movw $GATE, %ax
    movw %ax, %ds
    fninit
    fldcw fcw - BASE
    fld1
fails_16:
    fdivs zero - BASE
    fnstenvs env - BASE
    fldcw fcw - BASE
    fwait
    .code32
after_16:
    movl $0, RESUME
    movw $DATA32, %ax
    movw %ax, %ds
    EXPECT(16, SEEN_VECTOR)
    movzwl env + 6, %eax
    EXPECT(OFS(fails_16), %eax)
    EXPECT((zero - BASE) << 16 | SPARE, env + 8)
    movzwl env + 12, %eax
    EXPECT(GATE, %eax)
    POINTERS __LINE__, SPARE, OFS(fails_16), 0x036, (zero - BASE), GATE
    fnclex
#endif
    PASS
