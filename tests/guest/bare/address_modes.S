/* MODES 32. Every ModRM and SIB byte that names memory, with 32- and 16-bit addresses: LEA, written anew
   before each turn into code that has just run, against the sum of its parts. */
#include "common.S"

#define CODE    0x8000
#define DISP8   0x80
#define DISP32  0x87654300
#define RESULT  (SCRATCH + 8)
#define KEPT_SP (SCRATCH + 12)

test_main:
    xorl %ebx, %ebx /* BL: ModRM, BH: SIB */
next:
    movl $CODE, %edi
    cld
    movb $0x8d, %al
    stosb
    movb %bl, %al
    stosb
    xorl %edx, %edx /* the address */
    movl %ebx, %esi
    andl $7, %esi
    cmpl $4, %esi
    jne 1f
    /* SIB: index and scale; the base takes the place of r/m */
    movb %bh, %al
    stosb
    movzbl %bh, %esi
    shrl $3, %esi
    andl $7, %esi
    cmpl $4, %esi
    je 2f
    movl registers(, %esi, 4), %edx
    movb %bh, %cl
    shrb $6, %cl
    shll %cl, %edx
2:  movzbl %bh, %esi
    andl $7, %esi
1:  /* the base register, unless it is the displacement's code 5 with mod 0 */
    cmpl $5, %esi
    jne 3f
    testb $0xc0, %bl
    je long_displacement
3:  addl registers(, %esi, 4), %edx
    testb $0xc0, %bl
    je complete
    js long_displacement
    movb $DISP8, %al
    stosb
    addl $DISP8 - 0x100, %edx
    jmp complete
long_displacement:
    movl $DISP32, %eax
    stosl
    addl $DISP32, %edx
complete:
    call run
    cmpl %edx, RESULT
    je 4f
    movl %ebx, VALUE
    FAILURE
4:  movl %ebx, %eax
    andl $7, %eax
    cmpl $4, %eax
    jne 5f
    incb %bh
    jne next
5:  incb %bl
    cmpb $0xc0, %bl
    jne next

    /* 16-bit addresses wrap, and LEA clears the upper half of its register. */
    xorl %ebx, %ebx
next16:
    movl $CODE, %edi
    movw $0x8d67, %ax
    stosw
    movb %bl, %al
    stosb
    movl %ebx, %esi
    andl $7, %esi
    movzbl bases16(%esi), %ecx
    movl registers(, %ecx, 4), %edx
    cmpl $3, %esi
    ja 1f
    movzbl indices16(%esi), %ecx
    addl registers(, %ecx, 4), %edx
1:  testb $0xc0, %bl
    jne 2f
    cmpl $6, %esi
    jne 4f
    xorl %edx, %edx
    jmp 3f
2:  js 3f
    movb $DISP8, %al
    stosb
    addl $DISP8 - 0x100, %edx
    jmp 4f
3:  movw $DISP32 >> 16, %ax
    stosw
    addl $DISP32 >> 16, %edx
4:  movzwl %dx, %edx
    call run
    cmpl %edx, RESULT
    je 5f
    movl %ebx, VALUE
    FAILURE
5:  incb %bl
    cmpb $0xc0, %bl
    jne next16
    PASS

/* Runs the LEA at CODE, EDI behind it, on the registers of the table, and leaves its register in RESULT. */
run:
    movb $0x89, %al
    stosb
    movb %bl, %al
    andb $0x38, %al
    orb $5, %al
    stosb
    movl $RESULT, %eax
    stosl
    movw $0x25ff, %ax /* JMP to what finish holds */
    stosw
    movl $finish, %eax
    stosl
    pushal
    movl %esp, KEPT_SP
    .set i, 0
    .irp name, eax, ecx, edx, ebx, esp, ebp, esi, edi
    movl registers + 4 * i, %\name
    .set i, i + 1
    .endr
    jmp CODE
ran:
    movl KEPT_SP, %esp
    popal
    ret

registers: /* no two sums are equal */
    .long 0x10000001, 0x10000004, 0x10000010, 0x10000040, 0x10000100, 0x10000400, 0x10001000, 0x1000c000
finish:
    .long ran
bases16: /* BX BX BP BP SI DI BP BX */
    .byte 3, 3, 5, 5, 6, 7, 5, 3
indices16: /* SI DI SI DI */
    .byte 6, 7, 6, 7
