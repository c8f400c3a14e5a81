/* LOCK before every opcode of the one-byte, 0F, 0F 38 and 0F 3A maps, with register and memory
   operands: #UD but for the instructions that may be locked. And the limit of 15 bytes. */
#include "common.S"

#define CODE     0x8000
#define DATA     0x9000
#define OPCODE   SCRATCH       /* map in bits 9:8, opcode in 7:0 */
#define MODRM    (SCRATCH + 4) /* with mod 00 or 11 */
#define EXPECTED (SCRATCH + 8)

#if MODE == 16
#define JUMP_CODE ljmp $0, $CODE
#define RM_BX 7
#else
#define JUMP_CODE movl $CODE, %eax; jmp *%PTR(ax)
#define RM_BX 3
#endif

test_main:
    movl $0, OPCODE
next_opcode:
    call is_prefix
    jc 3f
    movl $RM_BX, MODRM
1:  movl $6, EXPECTED
    call is_lockable
    jnc 2f
    movl $30, EXPECTED
2:  call assemble
    call run
    movl OPCODE, %eax
    shll $8, %eax
    movb MODRM, %al
    movl %eax, VALUE
    movl EXPECTED, %eax
    cmpl %eax, SEEN_VECTOR
    jne failed
    addl $8, MODRM /* reg, then mod 11 */
    cmpl $0x40 + RM_BX, MODRM
    jne 4f
    movl $0xc0 + RM_BX, MODRM
4:  cmpl $0x100, MODRM
    jb 1b
3:  incl OPCODE
    cmpl $0x400, OPCODE
    jne next_opcode

    /* 14 prefixes and a NOP are an instruction, 15 are too many; LOCK counts, and REX. */
    movl $14, %edx
    movb $0x66, %al
    movl $30, EXPECTED
    call prefixed
    movl $15, %edx
    movl $13, EXPECTED
    call prefixed
    movl $14, %edx
    movb $0x3e, %al
    movl $30, EXPECTED
    call prefixed
    movl $15, %edx
    movl $13, EXPECTED
    call prefixed
    movl $200, %edx
    call prefixed
    movl $14, %edx
    movb $0xf0, %al /* LOCK NOP */
    movl $6, EXPECTED
    call prefixed
    movl $15, %edx
    movl $13, EXPECTED
    call prefixed
#if MODE == 64
    movl $14, %edx
    movb $0x48, %al
    movl $30, EXPECTED
    call prefixed
    movl $15, %edx
    movl $13, EXPECTED
    call prefixed
#endif
    PASS

/* EDX prefixes AL and a NOP. */
prefixed:
    movb %al, OPCODE
    movl $CODE, %edi
    movl %edx, %ecx
    rep stosb
    movl $0x1ecd90, (%PTR(di))
    call run
    movl %edx, VALUE
    movl EXPECTED, %eax
    cmpl %eax, SEEN_VECTOR
    jne failed
    movb OPCODE, %al
    ret
failed:
    FAILURE

/* LOCK, the opcode, ModRM, what may be displacement and immediates, INT 30. */
assemble:
    movl $CODE, %edi
    movb $0xf0, %al
    stosb
    movl OPCODE, %edx
    testb %dh, %dh
    jz 1f
    movb $0x0f, %al
    stosb
    cmpb $1, %dh
    je 1f
    movb $0x38, %al
    cmpb $2, %dh
    je 2f
    movb $0x3a, %al
2:  stosb
1:  movb %dl, %al
    stosb
    movb MODRM, %al
    stosb
    movl $0x90909090, %eax
    stosl
    stosl
    movl $0x1ecd, (%PTR(di))
    ret

run:
    movl $STACK - 0x200, DATA /* may become the stack pointer */
    movl $0, DATA + 4
    movl $IP(came), RESUME
    movl %edx, SCRATCH + 12
    movl %esp, SAVED_SP
    movl $DATA, %ebx
    xorl %esi, %esi
    xorl %edi, %edi
    xorl %ebp, %ebp
    xorl %eax, %eax
    movl $1, %ecx
    JUMP_CODE
came:
    movl $0, RESUME
    cld
    movl SCRATCH + 12, %edx
    ret

/* CF: the byte is a prefix, or leads to another map. */
is_prefix:
    movl OPCODE, %eax
    movl $IP(prefixes), %esi
1:
#if MODE == 16
    movw %cs:(%si), %dx
#else
    movw (%PTR(si)), %dx
#endif
    addl $2, %esi
    cmpw $0xffff, %dx
    je 2f
    cmpw %ax, %dx
    jne 1b
    stc
    ret
2:
#if MODE == 64
    andl $~0xf, %eax
    cmpl $0x40, %eax
    jne 3f
    stc
    ret
3:
#endif
    clc
    ret

/* CF: the instruction may be locked (SDM vol. 2, LOCK): memory as destination. */
is_lockable:
    movl OPCODE, %eax
    movl MODRM, %ecx
    cmpb $0xc0, %cl
    jae 9f
    shrb $3, %cl
    movb $1, %ch
    shlb %cl, %ch /* the reg field as a bit */
    cmpl $0x38, %eax /* ADD OR ADC SBB AND SUB XOR with a memory destination */
    jae 1f
    testb $6, %al
    jz 8f
    jmp 9f
1:  movl $IP(lockable), %esi
2:
#if MODE == 16
    movl %cs:(%si), %edx
#else
    movl (%PTR(si)), %edx
#endif
    addl $4, %esi
    cmpl $-1, %edx
    je 9f
    cmpw %ax, %dx
    jne 2b
    shrl $16, %edx
    testb %ch, %dl
    jz 9f
8:  stc
    ret
9:  clc
    ret

    .balign 4
lockable: /* opcode, reg fields */
    .word 0x80, 0x7f, 0x81, 0x7f, 0x83, 0x7f, 0x86, 0xff, 0x87, 0xff
#if MODE != 64
    .word 0x82, 0x7f
#endif
    .word 0xf6, 0x0c, 0xf7, 0x0c, 0xfe, 0x03, 0xff, 0x03
    .word 0x1ab, 0xff, 0x1b3, 0xff, 0x1bb, 0xff, 0x1ba, 0xe0
    .word 0x1b0, 0xff, 0x1b1, 0xff, 0x1c0, 0xff, 0x1c1, 0xff, 0x1c7, 0x02
    .word 0xffff, 0xffff
prefixes:
    .word 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x0f
    .word 0x138, 0x13a, 0xffff
