/* Encodings that raise #UD, and instructions over 15 bytes, which raise #GP(0). */
#include "common.S"

test_main:
    FAULT(6, 0, ud2)
    FAULT(6, 0, .byte 0x0f, 0xb9, 0xc0)   /* UD1 */
    FAULT(6, 0, .byte 0xf0, 0x90)               /* LOCK NOP */
    FAULT(6, 0, .byte 0xf0, 0x01, 0xc8)   /* LOCK ADD to a register */
    FAULT(6, 0, .byte 0xf0, 0x39, 0x00)   /* LOCK CMP */
    FAULT(6, 0, .byte 0x8e, 0xc8)               /* MOV to CS */
    FAULT(6, 0, .byte 0x8d, 0xc0)               /* LEA of a register */
    FAULT(6, 0, .byte 0x0f, 0x20, 0xc8)   /* MOV from CR1 */
    FAULT(6, 0, .byte 0xfe, 0xf8)               /* group 4 /7 */
    FAULT(6, 0, .byte 0xff, 0xff)               /* group 5 /7 */
    FAULT(6, 0, .byte 0x0f, 0xc7, 0xc8)   /* CMPXCHG8B of a register */
    FAULT(6, 0, .byte 0x0f, 0x0b)
    FAULT(13, 0, .byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90)
#if MODE == 16
    FAULT(6, 0, .byte 0x63, 0xc0)               /* ARPL */
    FAULT(6, 0, .byte 0x0f, 0x00, 0xc0)   /* SLDT */
    FAULT(6, 0, .byte 0x0f, 0x00, 0xd8)   /* LTR */
    FAULT(6, 0, .byte 0x0f, 0x02, 0xc0)   /* LAR */
    FAULT(6, 0, .byte 0xc4, 0xc0)               /* LES of a register */
#elif MODE == 32
    FAULT(6, 0, .byte 0x62, 0xc0, 0x90, 0x90) /* BOUND of a register */
#else
    FAULT(6, 0, .byte 0x06)                           /* PUSH ES */
    FAULT(6, 0, .byte 0x27)                           /* DAA */
    FAULT(6, 0, .byte 0x37)                           /* AAA */
    FAULT(6, 0, .byte 0x60)                           /* PUSHA */
    FAULT(6, 0, .byte 0x82, 0xc0, 0x00)
    FAULT(6, 0, .byte 0x9a, 0, 0, 0, 0, 0, 0)         /* CALL ptr16:32 */
    FAULT(6, 0, .byte 0xce)                           /* INTO */
    FAULT(6, 0, .byte 0xd4, 0x0a)               /* AAM */
#endif
#if MODE != 64
    /* CR4.OSFXSR is clear here: SSE does not exist for the operating system. */
    FAULT(6, 0, xorps %xmm0, %xmm0)
    /* CR0.EM: the x87 is not there (#NM), MMX not either (#UD). */
    movl %cr0, %eax
    orl $4, %eax
    movl %eax, %cr0
    FAULT(7, 0, fninit)
    FAULT(6, 0, paddd %mm0, %mm0)
#else
    movq %cr4, %rax
    andl $~0x200, %eax
    movq %rax, %cr4
    FAULT(6, 0, xorps %xmm0, %xmm0)
#endif
    /* CR0.TS: #NM. */
#if MODE == 64
    movq %cr0, %rax
    orl $8, %eax
    movq %rax, %cr0
#else
    movl %cr0, %eax
    andl $~4, %eax
    orl $8, %eax
    movl %eax, %cr0
#endif
    FAULT(7, 0, fninit)
    clts
    fninit
    FAULT(6, 0, .byte 0xf0, 0x0f, 0xa2) /* LOCK CPUID; QEMU's TCG lets it pass */
    PASS
