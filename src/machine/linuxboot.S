/*
 * Boot option ROM: loads a Linux kernel that the machine left in fw_cfg and enters its real-mode
 * setup code (Linux Documentation/arch/x86/boot.rst, "Running the kernel").
 *
 * A Plug and Play expansion header makes it a boot device (BEV). The firmware copies the ROM below
 * 1 MiB and write-protects it, so all variables are in the boot sector area at 7C00h, with the
 * stack below. The image's addresses, sizes and contents come from fw_cfg, see linux_loader.c.
 *
 * The machine computes both checksums (the image's goes into its last byte). All references are
 * relative to the start of the image: it needs no linking and runs in any segment.
 */

        .section .rodata, "a"
        .global linuxboot_rom, linuxboot_rom_end
        .balign 16
        .code16

#define OFFSET(label) (label - linuxboot_rom)

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

#define DMA_PORT_HIGH 0x514
#define DMA_PORT_LOW  0x518
#define DMA_ERROR     1
#define DMA_READ      2
#define DMA_SELECT    8

/* Variables, addressed with DS = 0. */
#define STACK_TOP   0x7c00
#define DESCRIPTOR  0x7c00
#define DESC_CTRL   (DESCRIPTOR + 0)
#define DESC_LENGTH (DESCRIPTOR + 4)
#define DESC_HIGH   (DESCRIPTOR + 8)
#define DESC_LOW    (DESCRIPTOR + 12)
#define VALUE       0x7c10

linuxboot_rom:
        .byte   0x55, 0xaa
        .byte   (linuxboot_rom_end - linuxboot_rom + 511) / 512
        jmp     init
        .org    linuxboot_rom + 0x18
        .word   0                       /* no PCI data structure */
        .word   OFFSET(pnp_header)
        .balign 16
pnp_header:                             /* Plug and Play BIOS Specification 1.0A, 3.2 */
        .ascii  "$PnP"
        .byte   1                       /* structure revision */
        .byte   2                       /* length in 16-byte units */
        .word   0                       /* no further header */
        .byte   0
        .byte   0                       /* checksum, by the machine */
        .long   0                       /* device identifier */
        .word   OFFSET(manufacturer)
        .word   OFFSET(product)
        .byte   0, 0, 0                 /* device type */
        .byte   0x14                    /* initial program load device, read cacheable */
        .word   0                       /* boot connection vector */
        .word   0                       /* disconnect vector */
        .word   OFFSET(boot)            /* bootstrap entry vector */
        .word   0
        .word   0                       /* static resource information vector */

manufacturer:
        .asciz  "Vedette"
product:
        .asciz  "Linux kernel"
message_loading:
        .asciz  "Loading Linux kernel...\r\n"
message_failed:
        .asciz  "The kernel could not be read.\r\n"

        .balign 4
/* Address, size and contents of each part; the setup code comes last, it is entered next. */
parts:
        .word   CMDLINE_ADDR, CMDLINE_SIZE, CMDLINE_DATA
        .word   KERNEL_ADDR, KERNEL_SIZE, KERNEL_DATA
        .word   INITRD_ADDR, INITRD_SIZE, INITRD_DATA
        .word   SETUP_ADDR, SETUP_SIZE, SETUP_DATA
parts_end:

/* Initialization: nothing to set up. AX bits 5:4 = 10b: an IPL device is attached. */
init:
        movw    $0x20, %ax
        lretw

boot:
        cli
        cld
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %ss
        movw    $STACK_TOP, %sp
        sti
        movw    $OFFSET(message_loading), %si
        call    print
        cli
        inb     $0x92, %al              /* everything above 1 MiB needs A20 */
        orb     $2, %al
        andb    $0xfe, %al
        outb    %al, $0x92

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

/* ECX bytes of item AX to physical address EDI. Does not return on failure. Destroys EAX, EDX. */
read_item:
        shll    $16, %eax
        movw    $(DMA_SELECT | DMA_READ), %ax
        call    swap
        movl    %eax, DESC_CTRL
        movl    %ecx, %eax
        call    swap
        movl    %eax, DESC_LENGTH
        movl    %edi, %eax
        call    swap
        movl    %eax, DESC_LOW
        xorl    %eax, %eax
        movl    %eax, DESC_HIGH
        movw    $DMA_PORT_HIGH, %dx
        outl    %eax, %dx
        movl    $DESCRIPTOR, %eax
        call    swap
        movw    $DMA_PORT_LOW, %dx
        outl    %eax, %dx
1:      movl    DESC_CTRL, %eax         /* 0 when done */
        call    swap
        testl   $DMA_ERROR, %eax
        jnz     failed
        testl   %eax, %eax
        jnz     1b
        ret

/* Byte order of EAX, on an 80386, too. */
swap:
        xchgb   %al, %ah
        roll    $16, %eax
        xchgb   %al, %ah
        ret

failed:
        sti
        movw    $OFFSET(message_failed), %si
        call    print
        int     $0x18                   /* the firmware's next boot device */
1:      hlt
        jmp     1b

/* The string at CS:SI, on the console. */
print:
        pushw   %bx
1:      movb    %cs:(%si), %al
        incw    %si
        testb   %al, %al
        jz      2f
        movb    $0x0e, %ah
        movw    $7, %bx
        pushw   %si
        int     $0x10
        popw    %si
        jmp     1b
2:      popw    %bx
        ret

        .byte   0                       /* room for the checksum */
        .balign 512
linuxboot_rom_end:

        .section .note.GNU-stack, "", @progbits
