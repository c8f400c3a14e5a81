/* MODES 32. CPUS 486. Switches between a 32-bit and a 16-bit task by JMP, CALL, INT and IRET, with NT clear
   and set: busy bits, back links, NT in EFLAGS and in the images, TS, and a task in virtual-8086 mode. */
#include "common.S"

#define OTHER     GATE       /* a 16-bit TSS */
#define CODE_ROM  (GATE + 8) /* 32-bit code with base ROM_BASE, for a task that has only IP */
#define TASK_GATE SPARE
#define THIRD     (SPARE + 8) /* a 32-bit TSS for virtual-8086 mode */

#define OTHER_TSS 0x3a00
#define THIRD_TSS 0x3b00
#define UNLINKED  0xdead
#define VM_CODE   0x8000

#define NT 0x4000

    .macro PREPARE own_nt, own_image_nt, other_nt
    movw $UNLINKED, TSS
    movw $UNLINKED, OTHER_TSS
    andl $~NT, TSS + 36
    orl $NT * \own_image_nt, TSS + 36
    andw $~NT, OTHER_TSS + 16
    orw $NT * \other_nt, OTHER_TSS + 16
    SET_NT \own_nt
    clts
    .endm

    .macro SET_NT value
    pushl $2 | NT * \value
    popfl
    .endm

#define STATE(...) STATE_ __LINE__, __VA_ARGS__
    /* All that a switch changes: the selector that is busy, links, NT in EFLAGS and both images. */
    .macro STATE_ line, own_busy, other_busy, own_link, other_link, nt, own_nt, other_nt
    pushfl
    popl %ecx
    andl $NT, %ecx
    EXPECT_ \line, (NT * \nt), %ecx
    movl GDT + TASK + 4, %ecx
    andl $0x200, %ecx
    EXPECT_ \line, (0x200 * \own_busy), %ecx
    movl GDT + OTHER + 4, %ecx
    andl $0x200, %ecx
    EXPECT_ \line, (0x200 * \other_busy), %ecx
    movzwl TSS, %ecx
    EXPECT_ \line, \own_link, %ecx
    movzwl OTHER_TSS, %ecx
    EXPECT_ \line, \other_link, %ecx
    movl TSS + 36, %ecx
    andl $NT, %ecx
    EXPECT_ \line, (NT * \own_nt), %ecx
    movzwl OTHER_TSS + 16, %ecx
    andl $NT, %ecx
    EXPECT_ \line, (NT * \other_nt), %ecx
    movl %cr0, %ecx
    andl $8, %ecx
    EXPECT_ \line, 8, %ecx
    clts
    .endm

test_main:
    movl $(OTHER_TSS << 16) | 43, GDT + OTHER
    movl $0x00008100, GDT + OTHER + 4
    movl $((ROM_BASE << 16) & 0xffff0000) | 0xffff, GDT + CODE_ROM
    movl $0x00409b00 | (ROM_BASE >> 16), GDT + CODE_ROM + 4
    movl $(OTHER << 16) | 0xffff, GDT + TASK_GATE
    movl $0xffff8500, GDT + TASK_GATE + 4 /* the offset plays no part */
    movl $(THIRD_TSS << 16) | 103, GDT + THIRD
    movl $0x00008900, GDT + THIRD + 4
    movl $OTHER << 16, IDT + 30 * 8
    movl $0x8500, IDT + 30 * 8 + 4
    movl $0xa5a5a5a5, %eax
    movl $OTHER_TSS, %edi
    movl $12, %ecx
    rep stosl
    movw $OFS(other_task), OTHER_TSS + 14
    movw $2, OTHER_TSS + 16
    movw $0x1111, OTHER_TSS + 18 /* AX */
    movw $0x4444, OTHER_TSS + 24 /* BX */
    movw $STACK - 0x400, OTHER_TSS + 26
    movw $DATA32, OTHER_TSS + 34 /* ES, CS, SS, DS, LDT */
    movw $CODE_ROM, OTHER_TSS + 36
    movw $DATA32, OTHER_TSS + 38
    movw $DATA32, OTHER_TSS + 40
    movw $0, OTHER_TSS + 42

    movl $0x12345678, %ebx
    movw $DATA32, %ax
    movw %ax, %fs
    PREPARE 0, 1, 0
    lcall $OTHER, $0xdeadbeef
    STATE(1, 0, UNLINKED, TASK, 0, 0, 0)
    EXPECT(0x12345678, %ebx)
    EXPECT(STACK, %esp)
    movl %fs, %eax
    EXPECT(DATA32, %eax)
    /* What the 16-bit task saved: words at their places, and nothing else. */
    EXPECT(0xbbbbaaaa, OTHER_TSS + 18)
    EXPECT(0xa5a5a5a5, OTHER_TSS + 4)
    EXPECT(0xa5a5a5a5, OTHER_TSS + 44)
    PREPARE 1, 0, 0
    lcall $TASK_GATE, $0
    STATE(1, 0, UNLINKED, TASK, 1, 1, 0)
    PREPARE 0, 0, 1
    int $30
    STATE(1, 0, UNLINKED, TASK, 0, 0, 0)
    /* JMP leaves links and NT alone. */
    PREPARE 1, 0, 0
    ljmp $OTHER, $0
    STATE(1, 0, UNLINKED, UNLINKED, 1, 1, 0)
    PREPARE 0, 1, 1
    ljmp $TASK_GATE, $0
    STATE(1, 0, UNLINKED, UNLINKED, 0, 0, 1)
    /* The other direction: the 16-bit task calls this one. */
    PREPARE 0, 0, 0
    ljmp $OTHER, $0
    STATE(1, 1, OTHER, UNLINKED, 1, 0, 0)
    iretl
    STATE(1, 1, OTHER, UNLINKED, 1, 0, 1)
    iretl
    STATE(1, 0, OTHER, UNLINKED, 0, 0, 0)

    /* A task in virtual-8086 mode, and a task gate out of it. */
    movl $VM_CODE, %edi
    movl $code86, %esi
    movl $code86_end - code86, %ecx
    rep movsb
    movl $TASK << 16, IDT + 31 * 8
    movl $0x0000e500, IDT + 31 * 8 + 4
    movl %cr3, %eax
    movl %eax, THIRD_TSS + 28
    movl $0, THIRD_TSS + 32
    movl $0x23002, THIRD_TSS + 36 /* VM, IOPL 3 */
    movl $0x100, THIRD_TSS + 56
    movl $0x2010, THIRD_TSS + 72 /* ES, CS, SS, DS, FS, GS */
    movl $VM_CODE >> 4, THIRD_TSS + 76
    movl $0x900, THIRD_TSS + 80
    movl $0x3040, THIRD_TSS + 84
    movl $0x5060, THIRD_TSS + 88
    movl $0x7080, THIRD_TSS + 92
    movl $0, THIRD_TSS + 96
    movw $TASK, THIRD_TSS
    SET_NT 0
    /* IRET to the task: it is busy then, and this one is not. */
    orl $0x200, GDT + THIRD + 4
    movw $THIRD, TSS
    SET_NT 1
    iretl
    /* INT nested this task: its link and NT say so. */
    movzwl TSS, %eax
    EXPECT(THIRD, %eax)
    pushfl
    popl %eax
    andl $0x27000, %eax
    EXPECT(NT, %eax)
    movzwl 0x30400, %eax
    EXPECT(0x3040, %eax)
    movzwl 0x30402, %eax
    EXPECT(0x5060, %eax)
    movzwl 0x30404, %eax
    EXPECT(0x3002, %eax) /* PUSHF shows IOPL, VM is above it */
    movl THIRD_TSS + 36, %eax
    EXPECT(0x23002, %eax)
    EXPECT(code86_end - code86, THIRD_TSS + 32)
    PASS

other_task:
    andl $0xffff, %eax /* the upper half is not part of a 16-bit TSS */
    andl $0xffff, %ebx
    EXPECT(0x1111, %eax)
    EXPECT(0x4444, %ebx)
    movl %fs, %eax
    EXPECT(0, %eax)
    STATE(1, 1, UNLINKED, TASK, 1, 0, 0)
    movl $0xaaaaaaaa, %eax
    movl $0xbbbbbbbb, %ecx
    iretl
    STATE(1, 1, UNLINKED, TASK, 1, 1, 0)
    iretl
    STATE(1, 1, UNLINKED, TASK, 1, 0, 1)
    iretl
    STATE(0, 1, UNLINKED, UNLINKED, 0, 1, 0)
    ljmp $TASK, $0
    STATE(0, 1, UNLINKED, UNLINKED, 1, 0, 1)
    ljmp $TASK, $0
    STATE(0, 1, UNLINKED, UNLINKED, 0, 0, 0)
    lcall $TASK, $0
    STATE(0, 1, OTHER, UNLINKED, 0, 0, 0)
    SET_NT 1
    lcall $TASK, $0
    STATE(0, 1, OTHER, UNLINKED, 1, 0, 1)
    SET_NT 0
    ljmp $TASK, $0

    .code16
code86:
    movw %ds, 0
    movw %fs, 2
    pushfw
    popw 4
    int $31
code86_end:
    .code32
