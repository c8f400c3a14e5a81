/*
 * Entry of the multiboot test kernels and their headers. -DVERSION=1 or 2; -DADDRESSES: the header
 * says where things go; -DVIDEO: asks for 800 x 600 x 32; -DBAD: the checksum is wrong.
 */
#ifndef BAD
#define BAD 0
#endif

    .section .header, "a"
    .balign 8
header:
#if VERSION == 1
#ifdef ADDRESSES
#define KLUDGE 0x10000
#else
#define KLUDGE 0
#endif
#ifdef VIDEO
#define FLAGS (7 | KLUDGE)
#else
#define FLAGS (3 | KLUDGE)
#endif
    .long 0x1badb002, FLAGS, -(0x1badb002 + FLAGS) + BAD
#ifdef ADDRESSES
    .long header, image_start, image_end, bss_end, start
#else
    .long 0, 0, 0, 0, 0
#endif
    .long 0, 800, 600, 32
#else
    .long 0xe85250d6, 0, header_end - header
    .long -(0xe85250d6 + (header_end - header)) + BAD
    .balign 8
    .word 1, 0 /* command line, loader, modules, memory, map, sections and RSDP must be there */
    .long 8 + 7 * 4, 1, 2, 3, 4, 6, 9, 14
#ifdef ADDRESSES
    .balign 8
    .word 2, 0
    .long 24, header, image_start, image_end, bss_end
    .balign 8
    .word 3, 0
    .long 12, start
#endif
#ifdef VIDEO
    .balign 8
    .word 5, 1
    .long 20, 800, 600, 32
#endif
    .balign 8
    .word 6, 0
    .long 8
    .word 0x7777, 1 /* nobody knows it, and it is optional */
    .long 8
    .word 0, 0
    .long 8
header_end:
#endif

    .text
    .globl start
start:
    movl %eax, entry_eax
    movl %ebx, entry_ebx
    movl $stack_end, %esp
    pushfl
    popl entry_flags
    movl %cr0, %eax
    movl %eax, entry_cr0
    pushl $2
    popfl
    cld
    call test_main
1:  hlt
    jmp 1b

    .data /* not .bss, which a test looks at */
    .globl entry_eax, entry_ebx, entry_flags, entry_cr0
entry_eax: .long -1
entry_ebx: .long -1
entry_flags: .long -1
entry_cr0: .long -1
    .balign 16
    .fill 4096
stack_end:

    .section .note.GNU-stack, "", @progbits
