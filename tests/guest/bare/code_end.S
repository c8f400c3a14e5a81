/* MODES 16 32. 16-bit code that reaches the end of its segment: IP counts on to 10000h, where the
   next fetch is beyond the limit; only branches cut their target to 16 bits. */
#include "common.S"

#if MODE == 16
#define JUMP(offset) ljmp $0, $(offset)
#define BEYOND 0 /* what an image of 16 bits shows of 10000h */
#else
#define JUMP(offset) ljmpl $CODE16, $(offset)
#define BEYOND 0x10000
#endif

/* ENDS_ start, vector, ip, bytes...: the bytes at the start, up to the end of the segment. */
#define ENDS(...) ENDS_ __LINE__, __VA_ARGS__
    .macro ENDS_ line:req, start:req, vector:req, pc:req, bytes:vararg
    .set at, \start
    .irp byte, \bytes
    movb $\byte, at
    .set at, at + 1
    .endr
    movl $IP(.Lresume\@), RESUME
    movl %esp, SAVED_SP
    movl $1, %ecx
    movl $SCRATCH, %edi
    cmpl %ecx, %ecx
    JUMP(\start)
.Lresume\@:
    movl $0, RESUME
    EXPECT_ \line, \vector, SEEN_VECTOR
    EXPECT_ \line, \pc, SEEN_IP
    .endm

test_main:
    movl $0xf4f4f4f4, 0
    ENDS(0xffff, 13, BEYOND, 0x90)
    ENDS(0xfffe, 13, BEYOND, 0x89, 0xc0)       /* MOV EAX, EAX */
    ENDS(0xfffe, 13, BEYOND, 0x75, 0x10)       /* JNZ, not taken */
    ENDS(0xfffe, 13, BEYOND, 0xe3, 0x10)       /* JCXZ, not taken */
    ENDS(0xfffe, 13, BEYOND, 0xf3, 0xaa)       /* REP STOSB */
    ENDS(0xfffe, 13, BEYOND, 0x0f, 0xa2)       /* CPUID */
    ENDS(0xfffe, 13, BEYOND, 0x0f, 0x06)       /* CLTS */
    ENDS(0xfffc, 13, BEYOND, 0x66, 0x90, 0x66, 0x90)
    ENDS(0xffff, 3, BEYOND, 0xcc)              /* INT3 is complete */
    ENDS(0xfffe, 4, BEYOND, 0xcd, 0x04)        /* INT 4 */
    ENDS(0xffff, 13, 0xffff, 0xb0)             /* an instruction that goes on behind the end */
    ENDS(0xfffe, 13, 0xfffe, 0x0f, 0xba)
    ENDS(0xfffe, 6, 0xfffe, 0x0f, 0x0b)        /* UD2 is there as a whole */
    /* Branches wrap. */
    movb $0xcc, 0x0800
    ENDS(0xfffd, 3, 0x0801, 0xe9, 0x00, 0x08)
    ENDS(0xfffd, 3, 0x0801, 0xe8, 0x00, 0x08)  /* CALL, whose return address is 0 in 16 bits */
    PASS
