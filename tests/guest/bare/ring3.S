/* MODES 32 64. Ring 3 and back: gates, SYSCALL, SYSENTER, privilege checks, page protection. */
#include "common.S"

#if MODE == 64
#define GATE_SIZE 16
#define USER_CODE USER_CODE64
#define PTE(address) TABLES + 0x3000 + (address) / 0x1000 * 8
#else
#define GATE_SIZE 8
#define USER_CODE USER_CODE32
#endif
#define USER_STACK 0x7000
#define GDT_SELECTOR (SCRATCH + 16) /* holds DATA32 */

    /* Runs the code at a label in ring 3. It comes back through an exception or INT 30. */
    .macro ENTER_USER label
#if MODE == 64
    pushq $USER_DATA32
    pushq $USER_STACK
    pushq $2
    pushq $USER_CODE
    pushq $\label
    iretq
#else
    /* The return would empty data segment registers that ring 3 may not use. */
    movw $USER_DATA32, %ax
    movw %ax, %ds
    movw %ax, %es
    pushl $USER_DATA32
    pushl $USER_STACK
    pushl $2
    pushl $USER_CODE
    pushl $\label
    iretl
#endif
    .endm

/* The instruction faults in ring 3; the resumed code runs in ring 0 again. */
#define USER_FAULT(vector, error, ...) USER_FAULT_ __LINE__, (vector), (error), __VA_ARGS__
    .macro USER_FAULT_ line:req, vector:req, error:req, instruction:vararg
    ARM_ .Lresume\@
    ENTER_USER .Lat\@
.Lat\@: \instruction
    ud2
.Lresume\@:
    movl $STACK, %esp
#if MODE == 32
    movw $DATA32, %ax
    movw %ax, %ds
    movw %ax, %es
#endif
    SEEN_ \line, \vector, \error, .Lat\@
    EXPECT_ \line, USER_CODE, SEEN_CS
    .endm

test_main:
    movw $DATA32, GDT_SELECTOR
    USER_FAULT(13, 0, hlt)
    USER_FAULT(13, 0, cli)
    USER_FAULT(13, 0, sti)
    USER_FAULT(13, 0, inb $0x60, %al)
    USER_FAULT(13, 0, outb %al, %dx)
    USER_FAULT(13, 0, invd)
    USER_FAULT(13, 0, lgdt SCRATCH)
    USER_FAULT(13, 0, clts)
    USER_FAULT(13, 0, .byte 0x0f, 0x20, 0xc0) /* MOV from CR0 */
    USER_FAULT(13, 0, .byte 0x0f, 0x23, 0xf8) /* MOV to DR7 */
    USER_FAULT(13, 0, rdmsr)
    USER_FAULT(13, 0, ltr %ax)
    USER_FAULT(6, 0, ud2)
    USER_FAULT(0, 0, divb SCRATCH + 8)
    USER_FAULT(13, DATA32, movw GDT_SELECTOR, %ds)
#if MODE == 32
    /* A data segment of ring 0 does not survive the way to ring 3. */
    movw $USER_DATA32, %ax
    movw %ax, %fs
    movw $DATA32, %ax
    movw %ax, %gs
    USER_FAULT(13, 0, movl %gs:SCRATCH, %eax)
    movw %gs, %ax
    movzwl %ax, %eax
    EXPECT(0, %eax)
    movw %fs, %ax
    movzwl %ax, %eax
    EXPECT(USER_DATA32, %eax)
    USER_FAULT(13, CODE32, ljmp $CODE32, $0)
#endif

    /* INT through a gate with DPL 3, with arguments and results in registers. */
    orb $0x60, IDT + 4 * GATE_SIZE + 5
    movl $.Lresume_int, RESUME
    movl $STACK, SAVED_SP
    ENTER_USER user_int
user_int:
    movl $0x55, %ebx
    int $4
behind_int:
    ud2
.Lresume_int:
#if MODE == 32
    movw $DATA32, %ax
    movw %ax, %ds
    movw %ax, %es
#endif
    movl $STACK, %esp
    movl $0, RESUME
    EXPECT(4, SEEN_VECTOR)
    EXPECT(behind_int, SEEN_IP)
    EXPECT(USER_CODE, SEEN_CS)
    EXPECT(0x55, %ebx)

#if MODE == 32
    /* SYSENTER (in long mode it depends on the vendor). */
    movl $0x174, %ecx
    movl $CODE32, %eax
    xorl %edx, %edx
    wrmsr
    incl %ecx
    movl $STACK, %eax
    wrmsr
    incl %ecx
    movl $after_sysenter, %eax
    wrmsr
    ENTER_USER user_sysenter
user_sysenter:
    movl $0x77, %ebx
    sysenter
    ud2
after_sysenter:
    EXPECT(0x77, %ebx)
    EXPECT(STACK, %esp)
    movw %cs, %ax
    movzwl %ax, %eax
    EXPECT(CODE32, %eax)
#else
    /* SYSCALL and SYSRET, many times. */
    movl $0xc0000081, %ecx
    xorl %eax, %eax
    movl $CODE64 | (USER_CODE32 << 16), %edx
    wrmsr
    incl %ecx
    movl $after_syscall, %eax
    xorl %edx, %edx
    wrmsr
    addl $2, %ecx
    movl $0x700, %eax
    wrmsr
    movl $1000, %ebx
    movl $user_syscall, %ecx
    movl $0x202, %r11d
    xorl %r12d, %r12d
    sysretq
user_syscall:
    syscall
after_return:
    decl %ebx
    jnz user_syscall
    movl $1, %r12d
    syscall
    ud2
after_syscall:
    testl %r12d, %r12d
    jnz .Lsyscalls_done
    EXPECT(after_return, %ecx)
    movl %r11d, %edx
    andl $0x200, %edx
    EXPECT(0x200, %edx)
    sysretq
.Lsyscalls_done:
    EXPECT(0, %ebx)

    /* Pages that belong to the supervisor. */
    movl $0x50003, PTE(0x50000)
    invlpg 0x50000
    USER_FAULT(14, 5, movl 0x50004, %eax)
    EXPECT(0x50004, SEEN_CR2)
    USER_FAULT(14, 7, movl %eax, 0x50004)
    movl %eax, 0x50004 /* fine here */
#endif
    /* Gates that ring 3 may not use, or that are not there (TCG's error codes are wrong in 64-bit
       mode). */
    USER_FAULT(13, 0x20 * 8 + 2, int $0x20)
    USER_FAULT(13, 3 * 8 + 2, int3) /* gate with DPL 0 */
    PASS
