/*
 * Framework of the bare-metal tests. A test is one .S file that includes this one and is assembled
 * for one or more modes (-DMODE=16, 32 or 64) into a 64 KiB image that takes the place of the
 * BIOS. After reset the framework fills memory, tables and segments for that mode and jumps to
 * test_main in ring 0 with interrupts off.
 *
 *   FAULT(vector, error, instruction)   the instruction must raise exactly that exception, with
 *                                       the saved pc on itself
 *   TRAP(vector, instruction)           same, with the saved pc behind it
 *   FAULT_AT(vector, error, label, instruction)
 *   EXPECT(immediate, operand)          32-bit compare
 *   EXPECT_FLAGS(immediate)             arithmetic flags and DF (mask 0xcd5)
 *   PASS                                ends the test
 *   FAILURE                             ends it as failed
 *
 * FAULT and TRAP keep all registers but SS (flat afterwards), not the flags. An exception that nobody expected fails the
 * test and is reported with vector, error code and pc. Exit code of the runner: 33 passed, 35
 * failed (isa-debug-exit with 0x10, 0x11).
 *
 * Memory: 0x500 what the last exception left (SEEN_*), 0x2000 IDT, 0x3000 GDT, 0x3800 TSS, 0x6000
 * stack end, 0x10000 page tables, 0x20000 to 0x7ffff free for the test.
 */
#define ROM_BASE 0xf0000
#ifndef OFS /* offset in the image */
#define OFS(symbol) ((symbol) - ROM_BASE)
#endif

#define SEEN_VECTOR 0x500
#define SEEN_ERROR  0x504
#define SEEN_IP     0x508
#define SEEN_CS     0x50c
#define SEEN_FLAGS  0x510
#define SEEN_SP     0x514
#define SEEN_CR2    0x518
#define RESUME      0x520 /* where the handler continues; 0: nobody expects an exception */
#define SAVED_SP    0x528
#define KEPT_AX     0x52c
#define VALUE       0x530
#define SCRATCH     0x540 /* 64 bytes for the test */

#define IDT         0x2000
#define GDT         0x3000
#define TSS         0x3800
#define STACK       0x6000
#define TABLES      0x10000 /* four pages: 4-level: PML4 PDPT PD PT; 32-bit: PD PT */
#define AREA        0x20000

/* Selectors */
#define CODE32      0x08
#define DATA32      0x10
#define CODE64      0x18
#define CODE16      0x20
#define DATA16      0x28
#define USER_CODE32 0x33
#define USER_DATA32 0x3b
#define USER_CODE64 0x43
#define TASK        0x48 /* two slots */
#define SMALL       0x58 /* base AREA, limit 0xfff */
#define DOWN        0x60 /* base AREA, expand-down, offsets 0x1000 to 0xffffffff */
#define READ_ONLY   0x68
#define ABSENT      0x70
#define EXECUTE     0x78 /* execute-only */
#define SMALL_STACK 0x80 /* base AREA, limit 0xff, writable */
#define GATE        0x88 /* two slots, for the test */
#define SPARE       0x98 /* for the test */
#define GDT_SIZE    0xa8

#if MODE == 16
#define IP(symbol) OFS(symbol)
#define PTR(name)  name
#elif MODE == 32
#define IP(symbol) (symbol)
#define PTR(name)  e##name
#else
#define IP(symbol) (symbol)
#define PTR(name)  r##name
#endif

#define FAULT(vector, error, ...)           FAULT_ __LINE__, (vector), (error), __VA_ARGS__
#define FAULT_AT(vector, error, label, ...) FAULT_AT_ __LINE__, (vector), (error), (label), __VA_ARGS__
#define TRAP(vector, ...)                   TRAP_ __LINE__, (vector), __VA_ARGS__
#define EXPECT(immediate, ...)              EXPECT_ __LINE__, (immediate), __VA_ARGS__
#define EXPECT_FLAGS(immediate)             EXPECT_FLAGS_ __LINE__, (immediate)
#define FAILURE                             FAILURE_ __LINE__
#define PASS                                jmp framework_pass

    .macro FAILURE_ line
    movl $\line, %ebx
    jmp framework_fail
    .endm

    .macro EXPECT_ line:req, immediate:req, operand:vararg
    cmpl $(\immediate), \operand
    je .Lequal\@
    movl \operand, %eax
    movl %eax, VALUE
    FAILURE_ \line
.Lequal\@:
    .endm

    .macro EXPECT_FLAGS_ line:req, immediate:req
#if MODE == 64
    pushfq
    popq %rax
#else
    pushfl
    popl %eax
#endif
    andl $0xcd5, %eax
    cld
    cmpl $(\immediate), %eax
    je .Lflags\@
    movl %eax, VALUE
    FAILURE_ \line
.Lflags\@:
    .endm

    .macro ARM_ at
    movl $IP(\at), RESUME
    movl %esp, SAVED_SP
    .endm

    .macro SEEN_ line:req, vector:req, error:req, pc:req
    movl $0, RESUME
    EXPECT_ \line, \vector, SEEN_VECTOR
#if MODE != 16
    EXPECT_ \line, \error, SEEN_ERROR
#endif
    EXPECT_ \line, IP(\pc), SEEN_IP
    .endm

    .macro FAULT_ line:req, vector:req, error:req, instruction:vararg
    ARM_ .Lresume\@
.Lat\@: \instruction
    FAILURE_ \line
.Lresume\@:
    pushl_ax
    SEEN_ \line, \vector, \error, .Lat\@
    popl_ax
    .endm

    .macro FAULT_AT_ line:req, vector:req, error:req, label:req, instruction:vararg
    ARM_ .Lresume\@
    \instruction
    FAILURE_ \line
.Lresume\@:
    pushl_ax
    SEEN_ \line, \vector, \error, \label
    popl_ax
    .endm

    .macro TRAP_ line:req, vector:req, instruction:vararg
    ARM_ .Lresume\@
    \instruction
.Lbehind\@:
    FAILURE_ \line
.Lresume\@:
    pushl_ax
    SEEN_ \line, \vector, 0, .Lbehind\@
    popl_ax
    .endm

    .macro pushl_ax
#if MODE == 64
    pushq %rax
#else
    pushl %eax
#endif
    .endm

    .macro popl_ax
#if MODE == 64
    popq %rax
#else
    popl %eax
#endif
    .endm

    .section .text, "ax"
    .globl framework_start
    .code16
framework_start:
    cli
    cld
    xorl %eax, %eax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $STACK, %esp
    /* Memory below the test's area starts as zeros. */
    movw $0x500, %di
    movw $((0x6000 - 0x500) / 4), %cx
    rep stosl
#if MODE == 16
    /* Interrupt vectors 0 to 31; every stub is 4 bytes long. */
    xorw %di, %di
    movl $((ROM_BASE >> 4) << 16) + OFS(framework_stubs), %eax
    movw $32, %cx
1:  stosl
    addl $4, %eax
    loop 1b
    jmp test_main
#else
    movw $(ROM_BASE >> 4), %ax
    movw %ax, %ds
    movw $OFS(framework_gdt), %si
    movw $GDT, %di
    movw $(GDT_SIZE / 4), %cx
    rep movsl
    xorw %ax, %ax
    movw %ax, %ds
    cs lgdtl OFS(framework_gdtr)
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $CODE32, $framework_32

    .code32
framework_32:
    movw $DATA32, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw %ax, %fs
    movw %ax, %gs
    movl $framework_stubs, %edx
    movl $IDT, %edi
    movl $32, %ecx
1:  movzwl %dx, %eax
#if MODE == 64
    orl $(CODE64 << 16), %eax
#else
    orl $(CODE32 << 16), %eax
#endif
    stosl
    movl %edx, %eax
    movw $0x8e00, %ax
    stosl
#if MODE == 64
    xorl %eax, %eax
    stosl
    stosl
#endif
    addl $16, %edx
    loop 1b
    lidt framework_idtr
    movl $STACK, TSS + 4 /* ESP0, or the low half of RSP0 at 4 in both layouts */
    movl $DATA32, TSS + 8
#if MODE == 64
    movl $0, TSS + 8
#endif
    movw $104, TSS + 102 /* no I/O bitmap */
#if MODE == 64
    /* Identity: 4 KiB pages for the first 2 MiB, 2 MiB pages to 1 GiB. */
    movl $TABLES, %edi
    xorl %eax, %eax
    movl $0x1000, %ecx
    rep stosl
    movl $TABLES + 0x1007, TABLES
    movl $TABLES + 0x2007, TABLES + 0x1000
    movl $0x87, %eax
    movl $TABLES + 0x2000, %edi
1:  movl %eax, (%edi)
    addl $8, %edi
    addl $0x200000, %eax
    cmpl $0x40000087, %eax
    jne 1b
    movl $TABLES + 0x3007, TABLES + 0x2000
    movl $7, %eax
    movl $TABLES + 0x3000, %edi
1:  movl %eax, (%edi)
    addl $8, %edi
    addl $0x1000, %eax
    cmpl $0x200007, %eax
    jne 1b
    movl %cr4, %eax
    orl $0x620, %eax /* PAE, OSFXSR, OSXMMEXCPT */
    movl %eax, %cr4
    movl $TABLES, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x901, %eax /* SCE, LME, NXE */
    wrmsr
    movl %cr0, %eax
    orl $0x80010000, %eax /* PG, WP */
    movl %eax, %cr0
    ljmp $CODE64, $framework_64
    .code64
framework_64:
    movl $STACK, %esp
    movw $TASK, %ax
    ltr %ax
    xorl %eax, %eax
    jmp test_main
#else
    movw $TASK, %ax
    ltr %ax
    jmp test_main
#endif
#endif

/* Exception entry: vector, [error], pc... are brought to SEEN_*, then RESUME. */
#if MODE == 16
    .balign 4
framework_stubs:
    .set vector, 0
    .rept 32
    .byte 0x6a /* push imm8 */
    .byte vector
    .byte 0xeb /* jmp rel8 to the hop that follows the table */
    .byte framework_hop - . - 1
    .set vector, vector + 1
    .endr
framework_hop:
    jmp framework_exception
framework_exception:
    pushl %eax
    pushw %bp
    pushw %ds
    movw %sp, %bp
    xorw %ax, %ax
    movw %ax, %ds
    movzwl 8(%bp), %eax
    movl %eax, SEEN_VECTOR
    movzwl 10(%bp), %eax
    movl %eax, SEEN_IP
    movzwl 12(%bp), %eax
    movl %eax, SEEN_CS
    movzwl 14(%bp), %eax
    movl %eax, SEEN_FLAGS
    leal 16(%bp), %eax
    movl %eax, SEEN_SP
    cmpl $0, RESUME
    je framework_unexpected
    popw %ds
    popw %bp
    popl %eax
    movw %cs:framework_zero - ROM_BASE, %ss
    movl %ss:SAVED_SP, %esp
    jmp *%ss:RESUME
framework_zero:
    .word 0
#elif MODE == 32
    .balign 16
framework_stubs:
    .set vector, 0
    .rept 32
    .if vector == 8 || vector == 10 || vector == 11 || vector == 12 || vector == 13 || \
        vector == 14 || vector == 17
    .byte 0x90, 0x90
    .else
    .byte 0x6a, 0x00
    .endif
    .byte 0x6a
    .byte vector
    jmp framework_exception
    .balign 16
    .set vector, vector + 1
    .endr
framework_exception:
    pushl %eax
    pushl %ds
    movw $DATA32, %ax
    movw %ax, %ds
    movl %ss:4(%esp), %eax
    movl %eax, KEPT_AX
    movl %ss:8(%esp), %eax
    movl %eax, SEEN_VECTOR
    movl %ss:12(%esp), %eax
    movl %eax, SEEN_ERROR
    movl %ss:16(%esp), %eax
    movl %eax, SEEN_IP
    movl %ss:20(%esp), %eax
    movl %eax, SEEN_CS
    movl %ss:24(%esp), %eax
    movl %eax, SEEN_FLAGS
    leal 28(%esp), %eax
    movl %eax, SEEN_SP
    movl %cr2, %eax
    movl %eax, SEEN_CR2
    cmpl $0, RESUME
    je framework_unexpected
    popl %ds
    movw $DATA32, %ax
    movw %ax, %ss
    movl %cs:SAVED_SP, %esp
    movl %cs:KEPT_AX, %eax
    jmp *%cs:RESUME
#else
    .balign 16
framework_stubs:
    .set vector, 0
    .rept 32
    .if vector == 8 || vector == 10 || vector == 11 || vector == 12 || vector == 13 || \
        vector == 14 || vector == 17
    .byte 0x90, 0x90
    .else
    .byte 0x6a, 0x00
    .endif
    .byte 0x6a
    .byte vector
    jmp framework_exception
    .balign 16
    .set vector, vector + 1
    .endr
framework_exception:
    pushq %rax
    movl 8(%rsp), %eax
    movl %eax, SEEN_VECTOR
    movl 16(%rsp), %eax
    movl %eax, SEEN_ERROR
    movl 24(%rsp), %eax
    movl %eax, SEEN_IP
    movl 32(%rsp), %eax
    movl %eax, SEEN_CS
    movl 40(%rsp), %eax
    movl %eax, SEEN_FLAGS
    movl 48(%rsp), %eax
    movl %eax, SEEN_SP
    movq %cr2, %rax
    movl %eax, SEEN_CR2
    cmpl $0, RESUME
    je framework_unexpected
    popq %rax
    movl SAVED_SP, %esp
    jmp *RESUME
#endif

framework_unexpected:
    movl SEEN_IP, %eax
    movl %eax, VALUE
    movl SEEN_VECTOR, %ebx
    orl $0x100000, %ebx
    jmp framework_fail

/* In: EBX line number. Prints "FAIL line X value X vector X error X pc X", all hexadecimal. */
framework_fail:
#if MODE == 32
    movw $DATA32, %ax
    movw %ax, %ss
    movw %ax, %ds
#elif MODE == 16
    xorw %ax, %ax
    movw %ax, %ss
    movw %ax, %ds
#endif
    movl $STACK, %esp
    cld
    movl $IP(framework_text_fail), %esi
    call framework_print
    movl %ebx, %eax
    call framework_print_hex
    movl $VALUE, %edi
    call framework_print_field
    movl $SEEN_VECTOR, %edi
    call framework_print_field
    movl $SEEN_ERROR, %edi
    call framework_print_field
    movl $SEEN_IP, %edi
    call framework_print_field
    movb $0x11, %al
    jmp framework_exit

    .globl framework_pass
framework_pass:
    movl $IP(framework_text_pass), %esi
    call framework_print
    movb $0x10, %al
framework_exit:
    outb %al, $0xf4
1:  hlt
    jmp 1b

/* In: ESI text in the image. */
framework_print:
    movw $0x402, %dx
#if MODE == 16
1:  movb %cs:(%si), %al
    incw %si
#else
1:  movb (%PTR(si)), %al
    incl %esi
#endif
    testb %al, %al
    je 2f
    outb %al, %dx
    jmp 1b
2:  ret

framework_print_field:
    movb $0x20, %al
    movw $0x402, %dx
    outb %al, %dx
    movl (%PTR(di)), %eax
framework_print_hex:
    movw $0x402, %dx
    movl %eax, %ecx
    movl $8, %ebp
1:  roll $4, %ecx
    movb %cl, %al
    andb $15, %al
    addb $0x30, %al
    cmpb $0x3a, %al
    jb 2f
    addb $0x27, %al
2:  outb %al, %dx
    decl %ebp
    jne 1b
    ret

framework_text_pass:
    .asciz "PASS\n"
framework_text_fail:
    .asciz "FAIL (line value vector error pc) "

#if MODE != 16
    .balign 8
framework_gdtr:
    .word GDT_SIZE - 1
    .long GDT
framework_idtr:
#if MODE == 64
    .word 32 * 16 - 1
#else
    .word 32 * 8 - 1
#endif
    .long IDT, 0

    .balign 8
framework_gdt: /* all accessed bits set, in the order of the selectors above */
    .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
    .quad 0x00af9b000000ffff
    .quad 0x00009b000000ffff
    .quad 0x000093000000ffff
    .quad 0x00cffb000000ffff
    .quad 0x00cff3000000ffff
    .quad 0x00affb000000ffff
    .quad 0x0000890000000067 | (TSS << 16)
    .quad 0
    .quad 0x0040930000000fff | (AREA << 16)
    .quad 0x00c0970000000000 | (AREA << 16)
    .quad 0x00cf91000000ffff
    .quad 0x00cf13000000ffff
    .quad 0x00cf99000000ffff
    .quad 0x00409300000000ff | (AREA << 16)
    .quad 0, 0, 0, 0
#endif

    .section .reset, "ax"
    .code16
    ljmp $(ROM_BASE >> 4), $OFS(framework_start)

    .section .text, "ax"
#if MODE == 16
    .code16
#elif MODE == 32
    .code32
#else
    .code64
#endif
