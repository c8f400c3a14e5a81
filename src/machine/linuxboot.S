/*
 * Boot option ROM: loads a Linux kernel that the machine left in fw_cfg and enters its real-mode
 * setup code (Linux Documentation/arch/x86/boot.rst, "Running the kernel"). The image's addresses,
 * sizes and contents come from fw_cfg, see linux_loader.c.
 */
#include "machine/boot_rom.inc"

/* fw_cfg keys, see devices/fw_cfg.h */
#define KERNEL_ADDR  0x07
#define KERNEL_SIZE  0x08
#define INITRD_ADDR  0x0a
#define INITRD_SIZE  0x0b
#define KERNEL_DATA  0x11
#define INITRD_DATA  0x12
#define CMDLINE_ADDR 0x13
#define CMDLINE_SIZE 0x14
#define CMDLINE_DATA 0x15
#define SETUP_ADDR   0x16
#define SETUP_SIZE   0x17
#define SETUP_DATA   0x18

#define VALUE VARIABLES

        ROM_HEADER linuxboot_rom, "Linux kernel"
message_loading:
        .asciz  "Loading Linux kernel...\r\n"

        .balign 4
/* Address, size and contents of each part; the setup code comes last, it is entered next. */
parts:
        .word   CMDLINE_ADDR, CMDLINE_SIZE, CMDLINE_DATA
        .word   KERNEL_ADDR, KERNEL_SIZE, KERNEL_DATA
        .word   INITRD_ADDR, INITRD_SIZE, INITRD_DATA
        .word   SETUP_ADDR, SETUP_SIZE, SETUP_DATA
parts_end:

boot:
        ROM_START message_loading
        cli
        movw    $OFFSET(parts), %bx
next_part:
        movw    %cs:(%bx), %ax
        call    read_value
        movl    %eax, %edi
        movw    %cs:2(%bx), %ax
        call    read_value
        movl    %eax, %ecx
        jecxz   part_done
        movw    %cs:4(%bx), %ax
        call    read_item
part_done:
        addw    $6, %bx
        cmpw    $OFFSET(parts_end), %bx
        jne     next_part

        /*
         * Enter at setup + 200h with all segments at the setup code. The command line follows it
         * in memory; the stack is right below that (or at the end of the segment).
         */
        movw    $CMDLINE_ADDR, %ax
        call    read_value
        movl    %eax, %ecx
        movw    $SETUP_ADDR, %ax
        call    read_value
        subl    %eax, %ecx
        subl    $16, %ecx
        shrl    $4, %eax
        cli
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %fs
        movw    %ax, %gs
        movw    %ax, %ss
        movw    %cx, %sp
        addw    $0x20, %ax
        pushw   %ax
        pushw   $0
        lretw

/* The 32-bit number in item AX, in EAX. */
read_value:
        pushl   %ecx
        pushl   %edi
        movl    $4, %ecx
        movl    $VALUE, %edi
        call    read_item
        movl    VALUE, %eax
        popl    %edi
        popl    %ecx
        ret

        ROM_ROUTINES
        ROM_END linuxboot_rom_end
