/*
 * The assembly half of the matrix tests: the way into any privilege level with any registers, and
 * the way back through an exception, an interrupt or a gate. See matrix.h.
 */
#define OFS(symbol) ((symbol) - framework_start) /* which is at ROM_BASE; no relocation */
#include "../common.S"
#include "layout.h"

#if MODE == 64
#define WORD 8
#else
#define WORD 4
#endif
#define IN(index)  VISIT_IN + WORD * (index)
#define OUT(index) VISIT_OUT + WORD * (index)

test_main:
    cld
    call matrix_main
    jmp framework_pass

    .globl report_failure
report_failure:
    movb $0x11, %al
    jmp framework_exit

#if MODE == 32
/* void visit_enter(void): VISIT_IN is loaded; comes back with VISIT_OUT filled. */
    .globl visit_enter
visit_enter:
    pushal
    movl %esp, VISIT_SAVED
    testl $0x20000, IN(IN_FLAGS)
    jnz .Lto_vm86
    movw IN(IN_ES), %es
    movw IN(IN_FS), %fs
    movw IN(IN_GS), %gs
    testb $3, IN(IN_CS)
    jz .Lsame_level
    pushl IN(IN_SS)
    pushl IN(IN_SP)
    jmp .Lpush_rest
.Lto_vm86:
    pushl IN(IN_GS)
    pushl IN(IN_FS)
    pushl IN(IN_DS)
    pushl IN(IN_ES)
    pushl IN(IN_SS)
    pushl IN(IN_SP)
    jmp .Lpush_rest
.Lsame_level:
    lssl IN(IN_SP), %esp /* the selector lies behind the pointer */
.Lpush_rest:
    pushl IN(IN_FLAGS)
    pushl IN(IN_CS)
    pushl IN(IN_IP)
    movl IN(IN_AX), %eax
    movl IN(IN_CX), %ecx
    movl IN(IN_DX), %edx
    movl IN(IN_BX), %ebx
    movl IN(IN_BP), %ebp
    movl IN(IN_SI), %esi
    movl IN(IN_DI), %edi
    testl $0x20000, IN(IN_FLAGS)
    jnz 1f
    movw IN(IN_DS), %ds
1:  iretl

/* Every way back: the vector on top of what the processor pushed. */
visit_exit:
    pushl %eax
    pushl %ds
    movw $DATA32, %ax
    movw %ax, %ds
    movl %ecx, OUT(IN_CX)
    movl %edx, OUT(IN_DX)
    movl %ebx, OUT(IN_BX)
    movl %ebp, OUT(IN_BP)
    movl %esi, OUT(IN_SI)
    movl %edi, OUT(IN_DI)
    movl %ss:0(%esp), %eax
    movzwl %ax, %eax
    movl %eax, OUT(IN_DS)
    movl %ss:4(%esp), %eax
    movl %eax, OUT(IN_AX)
    movl %ss:8(%esp), %eax
    movl %eax, OUT(IN_IP)
    leal 12(%esp), %eax
    movl %eax, OUT(IN_SP)
    movw %es, OUT(IN_ES)
    movw %fs, OUT(IN_FS)
    movw %gs, OUT(IN_GS)
    movw %ss, OUT(IN_SS)
    movw %cs, OUT(IN_CS)
    pushfl
    popl OUT(IN_FLAGS)
    movw $DATA32, %ax
    movw %ax, %ss
    movw %ax, %es
    movw %ax, %fs
    movw %ax, %gs
    movl VISIT_SAVED, %esp
    pushl $2
    popfl
    popal
    ret
#else
    .globl visit_enter
visit_enter:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, VISIT_SAVED
    movw IN(IN_DS), %ds
    movw IN(IN_ES), %es
    movw IN(IN_FS), %fs
    movw IN(IN_GS), %gs
    pushq IN(IN_SS)
    pushq IN(IN_SP)
    pushq IN(IN_FLAGS)
    pushq IN(IN_CS)
    pushq IN(IN_IP)
    movq IN(IN_AX), %rax
    movq IN(IN_CX), %rcx
    movq IN(IN_DX), %rdx
    movq IN(IN_BX), %rbx
    movq IN(IN_BP), %rbp
    movq IN(IN_SI), %rsi
    movq IN(IN_DI), %rdi
    movq IN(IN_R11), %r11
    iretq

visit_exit:
    movq %rax, OUT(IN_AX)
    movq %rcx, OUT(IN_CX)
    movq %rdx, OUT(IN_DX)
    movq %rbx, OUT(IN_BX)
    movq %rbp, OUT(IN_BP)
    movq %rsi, OUT(IN_SI)
    movq %rdi, OUT(IN_DI)
    movq %r11, OUT(IN_R11)
    movl (%rsp), %eax
    movq %rax, OUT(IN_IP)
    leaq 8(%rsp), %rax
    movq %rax, OUT(IN_SP)
    pushfq
    popq OUT(IN_FLAGS)
    movw %ds, OUT(IN_DS)
    movw %es, OUT(IN_ES)
    movw %fs, OUT(IN_FS)
    movw %gs, OUT(IN_GS)
    movw %ss, OUT(IN_SS)
    movw %cs, OUT(IN_CS)
    movw $DATA32, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movq VISIT_SAVED, %rsp
    pushq $2
    popfq
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret
#endif

/* 256 vectors, and behind them the landings of gates and calls: numbers 256 and up. */
    .balign 16
    .globl visit_stubs
visit_stubs:
    .set vector, 0
    .rept 256 + LANDINGS
    push $vector
    jmp visit_exit
    .balign 16
    .set vector, vector + 1
    .endr
