/* MODES 32 64. Code behind two mappings, and mappings that change under running code. */
#include "common.S"

/* Virtual pages 0x40000 and 0x41000 are the ones that are remapped; frames 0x50000, 0x51000. */
#if MODE == 64
#define FETCH 0x10 /* error code of a missing page at a fetch, with execute-disable in force */
#define PTE(address) TABLES + 0x3000 + (address) / 0x1000 * 8
#else
#define FETCH 0
#define PTE(address) TABLES + 0x1000 + (address) / 0x1000 * 4
#endif

    .macro RELOAD_CR3
#if MODE == 64
    movq %cr3, %rax
    movq %rax, %cr3
#else
    movl %cr3, %eax
    movl %eax, %cr3
#endif
    .endm

/* CALL_VALUE address, value: the function there must return value in AL. */
    .macro CALL_VALUE_ line, address, value
    movl $\address, %ebp
    call *%PTR(bp)
    movzbl %al, %eax
    EXPECT_ \line, \value, %eax
    .endm
#define CALL_VALUE(address, value) CALL_VALUE_ __LINE__, (address), (value)

test_main:
#if MODE == 32
    movl $TABLES, %edi
    xorl %eax, %eax
    movl $0x800, %ecx
    rep stosl
    movl $TABLES + 0x1007, TABLES
    movl $TABLES + 0x1000, %edi
    movl $7, %eax
1:  stosl
    addl $0x1000, %eax
    cmpl $0x400007, %eax
    jne 1b
    movl $TABLES, %eax
    movl %eax, %cr3
    movl %cr0, %eax
    orl $0x80010000, %eax
    movl %eax, %cr0
#endif
    movl $0xc311b0, 0x50000 /* MOV AL, 11h; RET */
    movl $0xc322b0, 0x51000

    /* Two views of one frame: written through one, run through the other. */
    movl $0x50007, PTE(0x40000)
    invlpg 0x40000
    movl $40, %edx
1:  movb %dl, 0x50001
    movl $0x40000, %ebp
    call *%PTR(bp)
    cmpb %dl, %al
    je 2f
    FAILURE
2:  addb $0x40, 0x40001
    movl $0x50000, %ebp
    call *%PTR(bp)
    subb $0x40, %al
    cmpb %dl, %al
    je 2f
    FAILURE
2:  decl %edx
    jnz 1b
    movb $0x11, 0x50001

    /* Another frame at the same address, made known by INVLPG or by CR3. */
    movl $20, %edx
1:  movl $0x51007, PTE(0x40000)
    invlpg 0x40000
    CALL_VALUE(0x40000, 0x22)
    movl $0x50007, PTE(0x40000)
    RELOAD_CR3
    CALL_VALUE(0x40000, 0x11)
    decl %edx
    jnz 1b

    /* A direct jump from one page to the next, whose frame changes: chains must not outlive it. */
    movb $0xe9, 0x50ff0 /* JMP rel32 to the next page's start */
    movl $0x41000 - 0x40ff5, 0x50ff1
    movl $0x51007, PTE(0x41000)
    invlpg 0x41000
    CALL_VALUE(0x40ff0, 0x22)
    movl $0xc333b0, 0x52000
    movl $0x52007, PTE(0x41000)
    invlpg 0x41000
    CALL_VALUE(0x40ff0, 0x33)
    movl $0x51007, PTE(0x41000)
    RELOAD_CR3
    CALL_VALUE(0x40ff0, 0x22)

    /* An instruction over two pages whose second frame changes. */
    movb $0xb0, 0x50fff
    movl $0xc344, 0x51000
    CALL_VALUE(0x40fff, 0x44)
    movl $0xc355, 0x52000
    movl $0x52007, PTE(0x41000)
    invlpg 0x41000
    CALL_VALUE(0x40fff, 0x55)

    /* The frame becomes unreachable: the fetch faults, with the address of the missing part. */
    movl $0, PTE(0x41000)
    invlpg 0x41000
    movl $0x40fff, %ebp
    FAULT_AT(14, FETCH, 0x40fff, jmp *%PTR(bp))
    EXPECT(0x41000, SEEN_CR2)
    movl $0, PTE(0x40000)
    invlpg 0x40000
    movl $0x40000, %ebp
    FAULT_AT(14, FETCH, 0x40000, jmp *%PTR(bp))
    EXPECT(0x40000, SEEN_CR2)

    /* Data: error codes, CR2 at the first byte that cannot be reached, accessed and dirty bits. */
    FAULT(14, 0, movl 0x40010, %eax)
    EXPECT(0x40010, SEEN_CR2)
    FAULT(14, 2, movl %eax, 0x3fffe)
    EXPECT(0x40000, SEEN_CR2)
    movl $0x50005, PTE(0x40000)
    invlpg 0x40000
    movl 0x40010, %eax
    movl PTE(0x40000), %eax
    andl $0xfff, %eax
    EXPECT(0x25, %eax) /* accessed */
    FAULT(14, 3, movl %eax, 0x40010)
    movl $0x50007, PTE(0x40000)
    invlpg 0x40000
    movl %eax, 0x40010
    movl PTE(0x40000), %eax
    andl $0xfff, %eax
    EXPECT(0x67, %eax) /* accessed and dirty */
    /* Protection that grows needs no flush to be noticed after the fault. */
    movl $0, PTE(0x41000)
    invlpg 0x41000
    FAULT(14, 0, movl 0x41000, %eax)
    movl $0x51007, PTE(0x41000)
    movl $0x1234, 0x41020
    EXPECT(0x1234, 0x51020)
    /* A string that runs into a missing page keeps its count. */
    movl $0, PTE(0x41000)
    invlpg 0x41000
    movl $0x40ff0, %edi
    movl $100, %ecx
    xorl %eax, %eax
    FAULT(14, 2, rep stosb)
    EXPECT(84, %ecx)
    EXPECT(0x41000, %edi)
    EXPECT(0x41000, SEEN_CR2)
#if MODE == 64
    movl $0x51007, PTE(0x41000)
    movl $0x80000000, PTE(0x41000) + 4 /* execute-disable */
    movl $0x41000, %ebp
    FAULT_AT(14, 0x11, 0x41000, jmp *%rbp)
    movl 0x41000, %eax
    /* Not canonical: #GP(0) for data, #SS(0) for the stack, #GP(0) at the target of a jump. */
    movabsq $0x0000800000000000, %rbx
    FAULT(13, 0, movl (%rbx), %eax)
    movq %rbx, %rbp
    FAULT(12, 0, movl (%rbp), %eax)
    FAULT(13, 0, jmp *%rbx)
    FAULT(13, 0, call *%rbx)
    EXPECT(STACK, %esp)
#endif
    /* Read-modify-write asks for the page as a writer (QEMU's TCG reads first). */
    movl $0, PTE(0x40000)
    invlpg 0x40000
    FAULT(14, 2, incl 0x40020)
#if MODE == 64
    /* A reserved bit: the error code says "present" as well (TCG: only "reserved"). */
    movl $0x51007, PTE(0x41000)
    movl $0x00080000, PTE(0x41000) + 4 /* a physical address bit that is reserved */
    invlpg 0x41000
    FAULT(14, 9, movl 0x41000, %eax)
#endif
    PASS
