/* MODES 16. CPUS 486 pentium3. What start-up code finds out about the processor: the reset state, flags
   that can be toggled, CR0, and which encodings exist. */
#include "common.S"

#define FAMILY SCRATCH

    .macro WITH_FAMILY_BELOW family, label
    cmpl $\family, FAMILY
    jae \label
    .endm

test_main:
    movl %edx, SCRATCH + 4 /* as after reset */
    movl $1, %eax
    cpuid
    cmpl %eax, SCRATCH + 4
    je 1f
    FAILURE
1:  shrl $8, %eax
    andl $15, %eax
    movl %eax, FAMILY
    movl %cr0, %eax
    EXPECT(0x60000010, %eax)
    movl %cr2, %eax
    EXPECT(0, %eax)
    movl %cr3, %eax
    EXPECT(0, %eax)
    movl %cr4, %eax
    EXPECT(0, %eax)
    movl %dr6, %eax
    EXPECT(0xffff0ff0, %eax)
    movl %dr7, %eax
    EXPECT(0x400, %eax)
    sidtl SCRATCH + 8
    movzwl SCRATCH + 8, %eax
    EXPECT(0xffff, %eax)
    EXPECT(0, SCRATCH + 10)
    sgdtl SCRATCH + 8
    movzwl SCRATCH + 8, %eax
    EXPECT(0xffff, %eax)
    EXPECT(0, SCRATCH + 10)

    /* An 8086 has bits 15 to 12 set in FLAGS, a 286 clear; later ones have NT and IOPL here. */
    pushw $0xf002
    popfw
    pushfw
    popw %ax
    movzwl %ax, %eax
    EXPECT(0x7002, %eax)
    pushw $2
    popfw
    pushfw
    popw %ax
    movzwl %ax, %eax
    EXPECT(2, %eax)
    /* All of EFLAGS but TF and IF: AC since the 486, ID with CPUID; RF, VM, VIF and VIP stay clear. */
    pushl $0xfffffcff
    popfl
    pushfl
    popl %eax
    cld
    EXPECT(0x00247cd7, %eax)
    pushl $2
    popfl
    pushfl
    popl %eax
    EXPECT(2, %eax)
    /* SAHF leaves OF alone and LAHF shows bit 1. */
    movb $0xff, %ah
    sahf
    movb $0, %ah
    lahf
    movzbl %ah, %eax
    EXPECT(0xd7, %eax)

    /* 32-bit forms of SMSW and MOV from a segment register: CR0, and zeros above the selector. */
    movl $-1, %eax
    smswl %eax
    EXPECT(0x60000010, %eax)
    movl $-1, %eax
    movl %cs, %eax
    EXPECT(0xf000, %eax)
    movl $0xabcdffff, %eax
    movw %cs, %ax
    EXPECT(0xabcdf000, %eax)
    /* The memory forms write a word whatever the operand size is. */
    movl $-1, SCRATCH + 8
    .byte 0x66
    movw %cs, SCRATCH + 8
    EXPECT(0xfffff000, SCRATCH + 8)
    movl $-1, SCRATCH + 8
    .byte 0x66
    smsww SCRATCH + 8
    EXPECT(0xffff0010, SCRATCH + 8)

    /* Group members that old assemblers never emit, but every processor has. */
    movl $0x8181, %eax
    .byte 0xc0, 0xf0, 0x01 /* SHL AL, 1 as /6 */
    EXPECT(0x8102, %eax)
    .byte 0xd1, 0xf0 /* SHL AX, 1 as /6 */
    EXPECT(0x0204, %eax)
    .byte 0x82, 0xc0, 0x7f /* ADD AL, imm8 */
    EXPECT(0x0283, %eax)
    stc
    .byte 0xd6 /* SALC */
    EXPECT(0x02ff, %eax)
    clc
    .byte 0xd6
    EXPECT(0x0200, %eax)
    movl $0x0063, %eax
    .byte 0xd4, 0x10 /* AAM by 16 */
    EXPECT(0x0603, %eax)
    .byte 0xd5, 0x10 /* AAD by 16 */
    EXPECT(0x0063, %eax)

    /* What came and went before the 486, and what came after it. */
    FAULT(6, 0, .byte 0x0f, 0x05)       /* SYSCALL, LOADALL of the 286 */
    FAULT(6, 0, .byte 0x0f, 0x07)       /* SYSRET, LOADALL of the 386 */
    FAULT(6, 0, .byte 0x0f, 0x24, 0xf0) /* MOV from TR6 */
    FAULT(6, 0, .byte 0x0f, 0x26, 0xf0)
    FAULT(6, 0, .byte 0x0f, 0xa6, 0xc0) /* XBTS, CMPXCHG of the first 486 */
    FAULT(6, 0, .byte 0x0f, 0xa7, 0xc0)
    FAULT(6, 0, .byte 0xc5, 0xf8, 0x77) /* VEX in real mode: LDS of a register */
    xorl %eax, %eax
    cpuid
    cmpl $2, %eax
    ja controls
    FAULT(6, 0, .byte 0x0f, 0x38, 0xf0, 0x07) /* MOVBE */
    FAULT(6, 0, .byte 0xf3, 0x0f, 0xb8, 0xc0) /* POPCNT */
    FAULT(6, 0, .byte 0x0f, 0x01, 0xf9)       /* RDTSCP */
    FAULT(6, 0, .byte 0x0f, 0x01, 0xd0)       /* XGETBV */
    FAULT(6, 0, .byte 0x0f, 0x0d, 0x07)       /* PREFETCH */
    /* REP in front of BSF and BSR is ignored before TZCNT and LZCNT. */
    movl $0x00f0, %ecx
    rep bsf %cx, %ax
    movzwl %ax, %eax
    EXPECT(4, %eax)
    rep bsr %cx, %ax
    movzwl %ax, %eax
    EXPECT(7, %eax)
    WITH_FAMILY_BELOW 5, pentium
    FAULT(6, 0, rdtsc)
    FAULT(6, 0, rdmsr)
    FAULT(6, 0, wrmsr)
    FAULT(6, 0, cmpxchg8b SCRATCH)
    FAULT(6, 0, cmovzw %ax, %ax)
    FAULT(6, 0, .byte 0x0f, 0x1f, 0xc0) /* NOP r/m */
    FAULT(6, 0, fcomi %st, %st)
    FAULT(6, 0, emms)
    FAULT(6, 0, .byte 0x0f, 0x33)       /* RDPMC */
    FAULT(6, 0, .byte 0x0f, 0x34)       /* SYSENTER */
    FAULT(6, 0, .byte 0x0f, 0xae, 0x07) /* FXSAVE */
    FAULT(6, 0, .byte 0x0f, 0x18, 0x07) /* PREFETCHNTA */
    FAULT(6, 0, .byte 0x0f, 0xae, 0xf8) /* SFENCE */
    jmp controls
pentium:
    rdtsc
    xorl %eax, %eax
    xorl %edx, %edx
    movl $0x11, SCRATCH + 8
    movl $0x22, SCRATCH + 12
    cmpxchg8b SCRATCH + 8
    EXPECT(0x11, %eax)
    EXPECT(0x22, %edx)
    emms
    sfence
    .byte 0x0f, 0x1f, 0xc0
    .byte 0x0f, 0x18, 0x07
    FAULT(6, 0, .byte 0x0f, 0xae, 0xe8) /* LFENCE, SSE2 */

controls:
    /* CR0: ET reads as one, reserved bits as zeros. */
    movl %cr0, %ebx
    movl $0x60000000, %eax
    movl %eax, %cr0
    movl %cr0, %eax
    EXPECT(0x60000010, %eax)
    movl $0x6005002e, %eax
    movl %eax, %cr0
    movl %cr0, %eax
    EXPECT(0x6005003e, %eax)
    movl %ebx, %cr0
    /* From here on QEMU's TCG differs. */
    movb $4, %al
    .byte 0xf6, 0xc8, 0x04 /* TEST AL, 4 as /1 */
    jz 9f
    TRAP(1, .byte 0xf1) /* INT1 */
    movl $0x7ffaff50, %eax
    movl %eax, %cr0
    movl %cr0, %eax
    movl %ebx, %cr0
    EXPECT(0x60000010, %eax)
    PASS
9:  FAILURE
