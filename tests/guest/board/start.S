/*
 * Entry of the board test kernels: a multiboot 1 header, flat segments, 256 interrupt gates, and
 * with -DMODE=64 long mode with the first 4 GiB mapped by 2 MiB pages. Calls test_main.
 */
#if MODE == 64
#define R(name) %r##name
#define CODE    0x18
#define WORD    8
#else
#define R(name) %e##name
#define CODE    0x08
#define WORD    4
#endif

    .section .header, "a"
    .balign 4
    .long 0x1badb002, 0, -0x1badb002

    .text
    .code32
    .globl start
start:
    movl %ebx, multiboot_info
    movl $stack_end, %esp
    lgdt gdt_pointer
    ljmp $0x08, $1f
1:  movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
#if MODE == 64
    movl $page_directories, %edi
    movl $0x87, %eax /* large, user, writable, present */
2:  movl %eax, (%edi)
    movl $0, 4(%edi)
    addl $8, %edi
    addl $0x200000, %eax
    jnc 2b
    movl $page_directories + 7, %eax
    movl $pointers, %edi
    movl $4, %ecx
3:  movl %eax, (%edi)
    addl $0x1000, %eax
    addl $8, %edi
    decl %ecx
    jnz 3b
    movl $pointers + 7, level4
    movl $level4, %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl $0x20, %eax
    movl %eax, %cr4
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    ljmp $CODE, $4f
    .code64
4:
#endif
    /* Gates to the stubs, 16 bytes each. */
    movl $idt, %edi
    movl $stubs, %eax
    movl $256, %ecx
5:  movw %ax, (R(di))
    movw $CODE, 2(R(di))
    movl %eax, 4(R(di))
    movw $0x8e00, 4(R(di))
    addl $(2 * WORD), %edi
    addl $16, %eax
    decl %ecx
    jnz 5b
    lidt idt_pointer
    call test_main
6:  hlt
    jmp 6b

    .balign 16
stubs:
    vector = 0
    .rept 256
    .balign 16
    .if vector != 8 && (vector < 10 || vector > 14) && vector != 17 && vector != 21
    push $0
    .endif
    push $vector
    jmp common
    vector = vector + 1
    .endr

common:
#if MODE == 64
    push %rax
    push %rcx
    push %rdx
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    mov %rsp, %rdi
    add $(9 * 8), %rdi
    cld
    call on_interrupt
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rdi
    pop %rsi
    pop %rdx
    pop %rcx
    pop %rax
    add $16, %rsp
    iretq
#else
    pushal
    lea 32(%esp), %eax
    push %eax
    cld
    call on_interrupt
    add $4, %esp
    popal
    add $8, %esp
    iretl
#endif

    .code32
/*
 * bool across_reset(void (*how)(void)): calls how, which resets the processor, and returns true
 * when the firmware has jumped to the code that was copied to 0:1000h.
 */
#if MODE == 32
    .globl across_reset, resume_code, resume_code_end
across_reset:
    pushal
    movl %esp, saved_sp
    call *36(%esp)
1:  hlt
    jmp 1b
resumed:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    movl saved_sp, %esp
    lidt idt_pointer
    popal
    movl $1, %eax
    ret

    .code16
resume_code: /* copied to 0:1000h */
    cli
    lgdtl %cs:0x1000 + real_gdt_pointer - resume_code
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $8, $resumed
real_gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
resume_code_end:
    .code32
#endif

    .data
    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
    .quad 0x00af9b000000ffff
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt, 0
idt_pointer:
    .word 256 * 2 * WORD - 1
    .long idt, 0
    .globl multiboot_info
multiboot_info:
    .long 0
saved_sp:
    .long 0

    .bss
    .balign 4096
#if MODE == 64
level4:
    .skip 4096
pointers:
    .skip 4096
page_directories:
    .skip 4 * 4096
#endif
idt:
    .skip 256 * 2 * WORD
    .balign 16
    .skip 16384
stack_end:

    .section .note.GNU-stack, "", @progbits
