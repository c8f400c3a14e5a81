/* MODES 64. CPUS x86-64-v3. CR4.SMEP and CR4.UMIP: what the supervisor forbids itself and its programs. A
   processor that does not offer them refuses the bits. */
#include "common.S"

#define PTE(address) TABLES + 0x3000 + (address) / 0x1000 * 8
#define USER_STACK 0x7000
#define USER_PAGE  0x50000
#define KERNEL_PAGE 0x51000
#define CR4_UMIP   (1 << 11)
#define CR4_SMEP   (1 << 20)

    /* The instruction in ring 3 must end with the vector; those that work meet UD2. */
    .macro IN_RING_3 line:req, vector:req, instruction:vararg
    ARM_ .Lresume\@
    pushq $USER_DATA32
    pushq $USER_STACK
    pushq $2
    pushq $USER_CODE64
    pushq $.Lat\@
    iretq
.Lat\@: \instruction
.Lbehind\@: ud2
.Lresume\@:
    movl $STACK, %esp
    .if \vector == 6
    SEEN_ \line, 6, 0, .Lbehind\@
    .else
    SEEN_ \line, \vector, 0, .Lat\@
    .endif
    .endm

    .macro STORES vector:req
    IN_RING_3 __LINE__, \vector, sgdt SCRATCH
    IN_RING_3 __LINE__, \vector, sidt SCRATCH
    IN_RING_3 __LINE__, \vector, sldt %eax
    IN_RING_3 __LINE__, \vector, sldtw SCRATCH
    IN_RING_3 __LINE__, \vector, str %eax
    IN_RING_3 __LINE__, \vector, strw SCRATCH
    IN_RING_3 __LINE__, \vector, smsw %eax
    IN_RING_3 __LINE__, \vector, smsww SCRATCH
    .endm

    .macro SET_CR4 bit
    movq %cr4, %rax
    orl $\bit, %eax
    movq %rax, %cr4
    .endm
    .macro CLEAR_CR4 bit
    movq %cr4, %rax
    andl $~\bit, %eax
    movq %rax, %cr4
    .endm

    /* The call arrives, or faults at its target as a fetch of a present page. */
    .macro CALLS address:req
    movl $\address, %ebx
    call *%rbx
    .endm
    .macro CALL_FAULTS line:req, address:req
    ARM_ .Lresume\@
    movl $\address, %ebx
    call *%rbx
    FAILURE_ \line
.Lresume\@:
    movl $STACK, %esp
    movl $0, RESUME
    EXPECT_ \line, 14, SEEN_VECTOR
    EXPECT_ \line, 0x11, SEEN_ERROR
    EXPECT_ \line, \address, SEEN_IP
    EXPECT_ \line, \address, SEEN_CR2
    .endm

test_main:
    xorl %ecx, %ecx
    movl $7, %eax
    cpuid
    movl %ebx, %ebp
    testl $1 << 2, %ecx
    jz no_umip
    STORES 6
    SET_CR4 CR4_UMIP
    STORES 13
    sgdt SCRATCH    /* ring 0 is free to */
    str %eax
    smsw %eax
    CLEAR_CR4 CR4_UMIP
    STORES 6
    jmp smep
no_umip:
    movq %cr4, %rax
    orl $CR4_UMIP, %eax
    FAULT(13, 0, movq %rax, %cr4)

smep:
    testl $1 << 7, %ebp
    jz no_smep
    /* Everything is the supervisor's but one page. */
    movl $PTE(0), %edi
    movl $512, %ecx
1:  andl $~4, (%rdi)
    addl $8, %edi
    decl %ecx
    jnz 1b
    orl $4, PTE(USER_PAGE)
    movq %cr3, %rax
    movq %rax, %cr3
    movb $0xc3, USER_PAGE
    movb $0xc3, KERNEL_PAGE
    CALLS USER_PAGE
    CALLS KERNEL_PAGE
    SET_CR4 CR4_SMEP
    CALL_FAULTS __LINE__, USER_PAGE
    CALL_FAULTS __LINE__, USER_PAGE + 0x800
    CALLS KERNEL_PAGE
    movl USER_PAGE, %eax    /* data may be anybody's */
    movl %eax, USER_PAGE + 4
    andl $~4, PTE(USER_PAGE)
    invlpg USER_PAGE
    CALLS USER_PAGE
    orl $4, PTE(USER_PAGE)
    invlpg USER_PAGE
    CALL_FAULTS __LINE__, USER_PAGE
    andl $~4, TABLES + 0x2000   /* any level makes it the supervisor's */
    movq %cr3, %rax
    movq %rax, %cr3
    CALLS USER_PAGE
    orl $4, TABLES + 0x2000
    movq %cr3, %rax
    movq %rax, %cr3
    CALL_FAULTS __LINE__, USER_PAGE
    /* Code that runs into the user's page. */
    movl $0x90909090, USER_PAGE - 4
    ARM_ 2f
    movl $USER_PAGE - 4, %ebx
    jmp *%rbx
2:  movl $0, RESUME
    EXPECT(14, SEEN_VECTOR)
    EXPECT(USER_PAGE, SEEN_IP)
    CLEAR_CR4 CR4_SMEP
    CALLS USER_PAGE
    PASS
no_smep:
    movq %cr4, %rax
    orl $CR4_SMEP, %eax
    FAULT(13, 0, movq %rax, %cr4)
    PASS
