/* MODES 32 64. Alignment checks: CR0.AM, EFLAGS.AC and CPL 3; what is checked and what is not. */
#include "common.S"

#if MODE == 64
#define GATE_SIZE 16
#define USER_CODE USER_CODE64
#else
#define GATE_SIZE 8
#define USER_CODE USER_CODE32
#endif
#define USER_STACK 0x7000
#define BORDER 0x9000 /* of two pages */
#define AC 0x40000
#define AM 0x40000

    .set user_stack, USER_STACK

    /* Continues at a label in ring 3 with these flags. The way back is an exception or INT 4. */
    .macro ENTER_USER label, flags
    movl $USER_DATA32, %eax
#if MODE == 64
    pushq %rax
    pushq $user_stack
    pushq $\flags
    pushq $USER_CODE
    pushq $\label
    iretq
#else
    movw %ax, %ds
    movw %ax, %es
    pushl %eax
    pushl $user_stack
    pushl $\flags
    pushl $USER_CODE
    pushl $\label
    iretl
#endif
    .endm

    /* Runs an instruction in ring 3 and comes back to ring 0, where SEEN_* tell what happened. */
    .macro RUN_USER flags:req, instruction:vararg
    movl $.Lresume\@, RESUME
    movl $STACK, SAVED_SP
    ENTER_USER .Lat\@, \flags
.Lat\@: \instruction
    int $4
.Lresume\@:
    movl $STACK, %esp
#if MODE == 32
    movw $DATA32, %ax
    movw %ax, %ds
    movw %ax, %es
#endif
    movl $0, RESUME
    movl $.Lat\@, VALUE
    .endm

#define CHECKED(...) CHECKED_ __LINE__, __VA_ARGS__
    .macro CHECKED_ line:req, instruction:vararg
    RUN_USER 2 | AC, \instruction
    EXPECT_ \line, 17, SEEN_VECTOR
    EXPECT_ \line, 0, SEEN_ERROR
    movl VALUE, %ecx
    cmpl %ecx, SEEN_IP
    jne .Lwrong\@
    testl $AC, SEEN_FLAGS
    jnz .Lright\@
.Lwrong\@:
    FAILURE_ \line
.Lright\@:
    RUN_USER 2, \instruction
    cmpl $17, SEEN_VECTOR
    je .Lwrong\@
    .endm

#define UNCHECKED(...) UNCHECKED_ __LINE__, 2 | AC, __VA_ARGS__
    .macro UNCHECKED_ line:req, flags:req, instruction:vararg
    RUN_USER \flags, \instruction
    EXPECT_ \line, 4, SEEN_VECTOR
    .endm

test_main:
    orb $0x60, IDT + 4 * GATE_SIZE + 5 /* INT 4 from ring 3 */
    mov %cr4, %PTR(ax)
    orl $0x600, %eax
    mov %PTR(ax), %cr4
    mov %cr0, %PTR(ax)
    orl $AM, %eax
    mov %PTR(ax), %cr0

    UNCHECKED(movb SCRATCH + 1, %al)
    CHECKED(movw SCRATCH + 1, %ax)
    UNCHECKED(movw SCRATCH + 2, %ax)
    CHECKED(movl SCRATCH + 2, %eax)
    UNCHECKED(movl SCRATCH + 4, %eax)
    CHECKED(movl %eax, SCRATCH + 3)
    CHECKED(lock incl SCRATCH + 1)
    CHECKED(xchgl %eax, SCRATCH + 1)
    CHECKED(cmpxchg8b SCRATCH + 4)
    UNCHECKED(cmpxchg8b SCRATCH + 8)
#if MODE == 64
    CHECKED(movq SCRATCH + 4, %rax)
    UNCHECKED(movq SCRATCH + 8, %rax)
    RUN_USER 2 | AC, cmpxchg16b SCRATCH + 8
    EXPECT(13, SEEN_VECTOR)
#else
    CHECKED(boundl %eax, SCRATCH + 2)
    CHECKED(lesl SCRATCH + 2, %eax)
    CHECKED(lesw SCRATCH + 1, %ax)
    UNCHECKED(lesw SCRATCH + 2, %ax)
#endif
    CHECKED(movw SCRATCH + 1, %fs)
    /* Over the border of two pages. */
    CHECKED(movl BORDER - 2, %eax)
    CHECKED(movl %eax, BORDER - 1)

    /* The stack. */
    .set user_stack, USER_STACK - 1
    CHECKED(pushw %ax)
    .set user_stack, USER_STACK - 2
    UNCHECKED(pushw %ax)
    CHECKED(pop %PTR(ax))
    CHECKED(call . + 5)
    RUN_USER 2 | AC, ret
    EXPECT(17, SEEN_VECTOR)
    CHECKED(push %fs)
    CHECKED(enter $0, $0)
    .set user_stack, USER_STACK
    CHECKED(enter $1, $0)

    /* Strings: nothing happens before the first element, nothing is checked for none. */
    movl $SCRATCH + 2, %esi
    movl $SCRATCH + 9, %edi
    movl $3, %ecx
    RUN_USER 2 | AC, rep movsl
    EXPECT(17, SEEN_VECTOR)
    EXPECT(3, %ecx)
    EXPECT(SCRATCH + 2, %esi)
    EXPECT(SCRATCH + 9, %edi)
    CHECKED(stosw)
    xorl %ecx, %ecx
    movl $SCRATCH + 1, %edi
    UNCHECKED(rep stosl)

    /* Floating point and vectors: some operands demand alignment in another way. */
    fninit
    CHECKED(flds SCRATCH + 2)
    CHECKED(fldl SCRATCH + 4)
    CHECKED(fldt SCRATCH + 4)
    UNCHECKED(fldt SCRATCH + 8)
    CHECKED(fnstcw SCRATCH + 1)
    CHECKED(fnstenv SCRATCH + 2)
    UNCHECKED(fnstenv SCRATCH + 4)
    CHECKED(movss SCRATCH + 2, %xmm0)
    CHECKED(movsd SCRATCH + 4, %xmm0)
    CHECKED(movups SCRATCH + 4, %xmm0)
    UNCHECKED(movups SCRATCH + 16, %xmm0)
    RUN_USER 2 | AC, movaps SCRATCH + 4, %xmm0
    EXPECT(13, SEEN_VECTOR)

    /* Ring 0 is not checked, and INT leaves EFLAGS.AC alone. */
    RUN_USER 2 | AC, nop
    pushf
    pop %PTR(ax)
    andl $AC, %eax
    EXPECT(AC, %eax)
    movl SCRATCH + 1, %eax
    pushw %ax
    push %PTR(ax)
    pop %PTR(ax)
    popw %ax

    /* POPF turns the checks on and off where it stands. */
    RUN_USER 2, jmp turn_on_and_off
    EXPECT(17, SEEN_VECTOR)
    EXPECT(turned_on, SEEN_IP)
    jmp 2f
turn_on_and_off:
    movl $3, %ecx
1:  movl SCRATCH + 1, %eax
    pushf
    orl $AC, (%PTR(sp))
    popf
    movl SCRATCH + 4, %eax
    pushf
    andl $~AC, (%PTR(sp))
    popf
    loop 1b
    pushf
    orl $AC, (%PTR(sp))
    popf
turned_on:
    movl SCRATCH + 1, %eax
    ud2
2:
    mov %cr0, %PTR(ax)
    andl $~AM, %eax
    mov %PTR(ax), %cr0
    UNCHECKED(movl SCRATCH + 1, %eax)
    PASS
