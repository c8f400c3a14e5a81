/* String instructions: direction, overlap, counts, address sizes, page borders, compare and scan. */
#include "common.S"

#define SOURCE 0x8000
#define TARGET 0x9000

test_main:
    /* A pattern: byte n of SOURCE is n. */
    movl $SOURCE, %edi
    movl $256, %ecx
    xorl %eax, %eax
1:  stosb
    incl %eax
    loop 1b
    EXPECT(0x03020100, SOURCE)
    EXPECT(SOURCE + 256, %edi)

    /* Forward in all sizes. */
    movl $SOURCE, %esi
    movl $TARGET, %edi
    movl $7, %ecx
    rep movsb
    movl $3, %ecx
    rep movsw
    movl $5, %ecx
    rep movsl
    EXPECT(SOURCE + 33, %esi)
    EXPECT(TARGET + 33, %edi)
    EXPECT(0, %ecx)
    EXPECT(0x201f1e1d, TARGET + 29)
    /* Count zero does nothing. */
    rep movsl
    EXPECT(SOURCE + 33, %esi)

    /* Backward. */
    std
    movl $SOURCE + 31, %esi
    movl $TARGET + 0x131, %edi
    movl $32, %ecx
    rep movsb
    cld
    EXPECT(SOURCE - 1, %esi)
    EXPECT(0x1f1e1d1c, TARGET + 0x12e)

    /* Overlap by one byte repeats the first one. */
    movl $TARGET, %esi
    movl $TARGET + 1, %edi
    movb $0x5a, TARGET
    movl $100, %ecx
    rep movsb
    EXPECT(0x5a5a5a5a, TARGET + 97)

    /* Over page borders. */
    movl $SOURCE, %esi
    movl $0xafc3, %edi
    movl $64, %ecx
    rep movsl
    EXPECT(0x3f3e3d3c, 0xafff)
    movl $0xafc3, %esi
    movl $0xbfe1, %edi
    movl $256, %ecx
    rep movsb
    EXPECT(0x201f1e1d, 0xbffe)

    /* Compare: stops behind the first difference, flags from that pair. */
    movl $SOURCE, %esi
    movl $0xbfe1, %edi
    movl $300, %ecx
    movb $0xee, 0xbfe1 + 100
    repe cmpsb
    EXPECT_FLAGS(0x11) /* 64h - EEh = 76h: CF and AF */
    EXPECT(199, %ecx)
    EXPECT(SOURCE + 101, %esi)
    /* Scan. */
    movl $SOURCE, %edi
    movl $256, %ecx
    movb $0x80, %al
    repne scasb
    EXPECT(SOURCE + 0x81, %edi)
    EXPECT(127, %ecx)
    movl $SOURCE, %edi
    movl $16, %ecx
    movl $0xdeadbeef, %eax
    repne scasl
    EXPECT(0, %ecx)
    /* Load, with a flag check: string moves do not touch flags. */
    movl $SOURCE + 16, %esi
    stc
    lodsl
    movl %eax, %ebx
    jnc 9f
    EXPECT(0x13121110, %ebx)

    /* REP STOS in the other address size. */
#if MODE == 64
    movabsq $0x1234500000000000 + TARGET, %rdi
    movabsq $0x700000002, %rcx
    movl $0x77777777, %eax
    addr32 rep stosl
    movq %rdi, %rax
    shrq $32, %rax
    EXPECT(0, %eax) /* the upper half is gone */
    EXPECT(TARGET + 8, %edi)
    EXPECT(0, %ecx)
#elif MODE == 32
    movl $0x50000 + TARGET, %edi
    movl $0x70002, %ecx
    movl $0x77777777, %eax
    addr16 rep stosl
    EXPECT(0x50000 + TARGET + 8, %edi)
    EXPECT(0x70000, %ecx)
    movl $0x5fffe, %edi /* DI wraps from FFFEh */
    movl $2, %ecx
    addr16 rep stosw
    EXPECT(0x50002, %edi)
#else
    movl $TARGET, %edi
    movl $2, %ecx
    movl $0x77777777, %eax
    addr32 rep stosl
    EXPECT(TARGET + 8, %edi)
    movl $0x5fffe, %edi
    movl $2, %ecx
    rep stosw
    EXPECT(0x50002, %edi)
#endif
    EXPECT(0x77777777, TARGET + 4)
    /* Port strings: the debug console reads as E9h or as nothing, but DI moves. */
    movl $TARGET, %edi
    movl $4, %ecx
    movw $0x80, %dx
    rep insb
    EXPECT(TARGET + 4, %edi)
    movl $TARGET, %esi
    movl $4, %ecx
    rep outsb
    EXPECT(TARGET + 4, %esi)
    PASS
9:  FAILURE
