/*
 * Boot option ROM: loads a multiboot kernel that the machine left in fw_cfg and enters it in the
 * state that the Multiboot Specification demands (0.6.96, 3.2; Multiboot2 2.0, 3.3).
 *
 * Only the firmware knows the memory map and the video modes; the ROM leaves its answers at fixed
 * places, where the machine finds them when it fills in the information for the kernel. The item
 * KERNEL_DATA is a list of {u32 address, u32 size} with the contents behind each; the last one has
 * size 0, the entry point as its address, and EAX and EBX behind it. Before the list come
 * {u16 width, height, depth, 0} of the video mode that the kernel wants, or zeros.
 */
#include "machine/boot_rom.inc"

#define KERNEL_DATA 0x11        /* fw_cfg key */

#define RECORD     VARIABLES            /* address, size */
#define WANTED     (VARIABLES + 0x08)   /* width, height, depth */
#define GDT_REGISTER (VARIABLES + 0x10)
#define FAR_POINTER  (VARIABLES + 0x18)

/* Known to multiboot_loader.c */
#define MAP_COUNT    0x1000     /* u32, then u32 of zero */
#define MAP          0x1008     /* entries as INT 15h E820h has them, 24 bytes each */
#define MAP_MAX      128
#define MAP_ENTRY    24
#define VBE_MODE     0x1004     /* u16: 0 if no mode was set */
#define VBE_CONTROL  0x2000     /* 512 bytes of INT 10h 4F00h */
#define VBE_INFO     0x2200     /* 256 bytes of 4F01h */

#define SMAP 0x534d4150
#define CODE 0x08
#define DATA 0x10

        ROM_HEADER multiboot_rom, "Multiboot kernel"
message_loading:
        .asciz  "Loading multiboot kernel...\r\n"

        .balign 8
gdt:
        .quad   0
        .quad   0x00cf9b000000ffff
        .quad   0x00cf93000000ffff
gdt_end:

boot:
        ROM_START message_loading
        movl    $0, VBE_MODE
        movl    $8, %ecx
        movl    $WANTED, %edi
        movw    $KERNEL_DATA, %ax
        call    read_item
        cmpw    $0, WANTED
        je      1f
        call    set_video_mode
1:      call    collect_map
        cli

next_record:
        movl    $8, %ecx
        movl    $RECORD, %edi
        call    read_next
        movl    RECORD + 4, %ecx
        jecxz   enter
        movl    RECORD, %edi
        call    read_next
        jmp     next_record

enter:
        movl    RECORD, %esi            /* entry point */
        movl    $8, %ecx
        movl    $RECORD, %edi
        call    read_next
        xorl    %ebp, %ebp              /* linear address of the ROM */
        movw    %cs, %bp
        shll    $4, %ebp
        leal    OFFSET(gdt)(%ebp), %eax
        movw    $(gdt_end - gdt - 1), GDT_REGISTER
        movl    %eax, GDT_REGISTER + 2
        leal    OFFSET(protected)(%ebp), %eax
        movl    %eax, FAR_POINTER
        movw    $CODE, FAR_POINTER + 4
        lgdtl   GDT_REGISTER
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        ljmpl   *FAR_POINTER

        .code32
protected:
        movl    $DATA, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %fs
        movl    %eax, %gs
        movl    %eax, %ss
        movl    $STACK_TOP, %esp
        movl    RECORD, %eax
        movl    RECORD + 4, %ebx
        xorl    %ecx, %ecx
        xorl    %edx, %edx
        xorl    %edi, %edi
        xorl    %ebp, %ebp
        jmp     *%esi
        .code16

/* INT 15h E820h until it has no more. */
collect_map:
        movl    $0, MAP_COUNT
        xorl    %ebx, %ebx
        movw    $MAP, %di
1:      movl    $0xe820, %eax
        movl    $MAP_ENTRY, %ecx
        movl    $SMAP, %edx
        int     $0x15
        jc      2f
        cmpl    $SMAP, %eax
        jne     2f
        incw    MAP_COUNT
        addw    $MAP_ENTRY, %di
        cmpw    $MAP_MAX, MAP_COUNT
        je      2f
        testl   %ebx, %ebx
        jnz     1b
2:      ret

/* The first graphics mode with a linear frame buffer that is as wanted; else text mode stays. */
set_video_mode:
        movw    $VBE_CONTROL, %di
        movl    $0x32454256, (%di)      /* "VBE2" */
        movw    $0x4f00, %ax
        int     $0x10
        cmpw    $0x004f, %ax
        jne     3f
        lfsw    VBE_CONTROL + 14, %si   /* the list of modes */
1:      movw    %fs:(%si), %cx
        addw    $2, %si
        cmpw    $0xffff, %cx
        je      3f
        movw    $VBE_INFO, %di
        movw    $0x4f01, %ax
        pushw   %cx
        pushw   %si
        int     $0x10
        popw    %si
        popw    %cx
        cmpw    $0x004f, %ax
        jne     1b
        movb    VBE_INFO, %al           /* supported, graphics, linear frame buffer */
        andb    $0x91, %al
        cmpb    $0x91, %al
        jne     1b
        cmpb    $6, VBE_INFO + 27       /* direct color */
        jne     1b
        movw    VBE_INFO + 18, %ax
        cmpw    WANTED, %ax
        jne     1b
        movw    VBE_INFO + 20, %ax
        cmpw    WANTED + 2, %ax
        jne     1b
        movzbw  VBE_INFO + 25, %ax
        cmpw    WANTED + 4, %ax
        jne     1b
        movw    %cx, %bx
        orw     $0x4000, %bx
        movw    $0x4f02, %ax
        pushw   %cx
        int     $0x10
        popw    %cx
        cmpw    $0x004f, %ax
        jne     3f
        movw    %cx, VBE_MODE
3:      ret

        ROM_ROUTINES
        ROM_END multiboot_rom_end
