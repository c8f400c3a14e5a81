/* Self-modifying code as on a processor: the next fetch sees the new bytes, wherever they are. */
#include "common.S"

#define TURNS 50
#define CODE  0x8000

#if MODE == 16
/* The copy runs in segment 0, so that offsets and addresses agree; the way back is a far return. */
#define CALL_AT(address) lcall $0, $(address)
#define RETURN           lret
#define RETURN_BYTE      0xcb
#else
#define CALL_AT(address) movl $(address), %ebp; call *%PTR(bp)
#define RETURN           ret
#define RETURN_BYTE      0xc3
#endif
/* Where a byte of a copied routine is now. */
#define COPIED(routine, symbol) (CODE + (symbol) - (routine))

    .macro COPY_CODE from:req, to:req
    movl $(\to - \from), %ecx
    movl $CODE, %edi
#if MODE == 16
    movw $OFS(\from), %si
    rep movsb %cs:(%si), %es:(%di)
#else
    movl $\from, %esi
    rep movsb
#endif
    .endm

test_main:
    /* The instruction behind the store, in the same block. */
    COPY_CODE next_start, next_end
    movl $TURNS, %edx
1:  movl %edx, %ebx
    CALL_AT(CODE)
    cmpb %dl, %al
    je 2f
    FAILURE
2:  decl %edx
    jnz 1b

    /* A loop whose body changes itself on every turn. */
    COPY_CODE self_start, self_end
    movl $TURNS, %ecx
    xorl %ebx, %ebx
    CALL_AT(CODE)
    EXPECT(TURNS * 3, %ebx)

    /* A store that covers the instruction that makes it: this one has been fetched already. */
    COPY_CODE over_start, over_end
    xorl %ebx, %ebx
    CALL_AT(CODE)
    EXPECT(1, %ebx)
    EXPECT(0x90909090, CODE)

    /* A routine that is called, changed as a whole, and called again. */
    COPY_CODE body_start, body_end
    movl $TURNS, %edx
1:  movl $0x9090d0f7, COPIED(body_start, body_patched) /* NOT AX or EAX */
    movl $5, %eax
    CALL_AT(CODE)
    cmpb $0xfa, %al
    je 2f
    FAILURE
2:  movl $0x9090d8f7, COPIED(body_start, body_patched) /* NEG */
    movl $5, %eax
    CALL_AT(CODE)
    cmpb $0xfb, %al
    je 3f
    FAILURE
3:  decl %edx
    jnz 1b

    /* REP STOSB over the code right behind it. */
    COPY_CODE string_start, string_end
    movl $COPIED(string_start, string_filled), %edi
    movl $8, %ecx
    xorl %ebx, %ebx
    CALL_AT(CODE)
    EXPECT(0, %ebx)

    /* Data on the same page as code, changing all the time. */
    COPY_CODE body_start, body_end
    movl $2000, %edx
1:  movl %edx, CODE + 0x200
    CALL_AT(CODE)
    cmpl CODE + 0x200, %edx
    je 2f
    FAILURE
2:  decl %edx
    jnz 1b

    /* MOV AL, imm8 across a page border, its halves changed in turn. */
    movl $TURNS, %edx
    movb $RETURN_BYTE, CODE + 0x1001
1:  movb $0xb0, CODE + 0xfff
    movb %dl, CODE + 0x1000
    CALL_AT(CODE + 0xfff)
    cmpb %dl, %al
    je 2f
    FAILURE
2:  movb $0xb4, CODE + 0xfff /* MOV AH */
    CALL_AT(CODE + 0xfff)
    cmpb %dl, %ah
    je 3f
    FAILURE
3:  decl %edx
    jnz 1b

    /* Written with one wide store, with a string move, with a push and with an exchange. */
    movl $(RETURN_BYTE << 16) | 0x11b0, CODE
    CALL_AT(CODE)
    cmpb $0x11, %al
    jne 9f
    movl $(RETURN_BYTE << 16) | 0x22b0, SCRATCH
    movl $SCRATCH, %esi
    movl $CODE, %edi
    movsl
    CALL_AT(CODE)
    cmpb $0x22, %al
    jne 9f
    movl %esp, %ecx
    movl $CODE + 8, %esp
#if MODE == 64
    pushq $(RETURN_BYTE << 16) | 0x33b0
#else
    pushl $0
    pushl $(RETURN_BYTE << 16) | 0x33b0
#endif
    movl %ecx, %esp
    CALL_AT(CODE)
    cmpb $0x33, %al
    jne 9f
    movl $(RETURN_BYTE << 16) | 0x44b0, %ecx
    xchgl %ecx, CODE
    CALL_AT(CODE)
    cmpb $0x44, %al
    jne 9f
    lock
    addb $1, CODE + 1
    CALL_AT(CODE)
    cmpb $0x45, %al
    jne 9f
    PASS
9:  FAILURE

/* Stores BL into the immediate of the instruction that follows. */
next_start:
    movb %bl, COPIED(next_start, next_behind) - 1
    movb $0, %al
next_behind:
    RETURN
next_end:

/* Each turn adds the immediate, which goes 1, 5, 1, 5...: 3 per turn on average. */
self_start:
    addl $1, %ebx
self_behind:
    xorb $4, COPIED(self_start, self_behind) - 1
    decl %ecx
    jnz self_start
    RETURN
self_end:

over_start:
    movl $0x90909090, COPIED(over_start, over_start)
    incl %ebx
    RETURN
over_end:

body_start:
    nop
body_patched:
    .fill 16, 1, 0x90
    RETURN
body_end:

string_start:
    movb $0x90, %al
    rep stosb
string_filled:
    incl %ebx
    incl %ebx
    .fill 8, 1, 0x90
    RETURN
string_end:
