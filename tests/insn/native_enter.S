/*
 * Into a test and out of it with every register set and captured. native_context has the layout of
 * struct native_context in native.c.
 */
#include "native_layout.h"

    .text
    .intel_syntax noprefix
    .hidden native_context

#define CTX(field) [rip + native_context + NC_##field]
#define GPR(n) [rip + native_context + NC_GPR + 8 * n]

/* void native_enter(void): returns after the test ended, however that was */
    .globl native_enter
    .type native_enter, @function
native_enter:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov CTX(HOST_RSP), rsp
    rdfsbase rax
    mov CTX(HOST_FS), rax
    mov eax, ss
    mov CTX(HOST_SS), eax

    /* The code was written through another mapping: IRET serialises. */
    mov rcx, rsp
    push rax
    push rcx
    pushfq
    mov eax, cs
    push rax
    lea rax, 1f[rip]
    push rax
    iretq
1:
    mov eax, 7
    xor edx, edx
    xrstor64 CTX(XSAVE)
    cmp dword ptr CTX(MODE), 64
    je 2f
    mov ax, CTX(SEL_ES)
    mov es, ax
    mov ax, CTX(SEL_DS)
    mov ds, ax
    mov ax, CTX(SEL_FS)
    mov fs, ax
    mov ax, CTX(SEL_GS)
    mov gs, ax
    lea rax, 4f[rip]
    jmp 3f
2:
    mov rax, CTX(FS_BASE)
    wrfsbase rax
    mov rax, CTX(GS_BASE)
    wrgsbase rax
    lea rax, 5f[rip]
3:
    mov CTX(TAIL), rax
    push qword ptr CTX(RFLAGS)
    popfq
    mov rax, GPR(0)
    mov rcx, GPR(1)
    mov rdx, GPR(2)
    mov rbx, GPR(3)
    mov rbp, GPR(5)
    mov rsi, GPR(6)
    mov rdi, GPR(7)
    mov r8, GPR(8)
    mov r9, GPR(9)
    mov r10, GPR(10)
    mov r11, GPR(11)
    mov r12, GPR(12)
    mov r13, GPR(13)
    mov r14, GPR(14)
    mov r15, GPR(15)
    jmp qword ptr CTX(TAIL)
4:
    mov ss, CTX(SEL_SS)
    mov rsp, GPR(4)
    .byte 0xff, 0x2d /* jmp far m16:32 [rip + ...] */
    .long native_context + NC_TARGET - . - 4
5:
    mov rsp, GPR(4)
    jmp qword ptr CTX(TARGET)

/* The end marker of a test jumps here, in 64-bit mode. */
    .globl native_leave
native_leave:
    mov GPR(4), rsp
    lea rsp, [rip + native_context + NC_STACK_END]
    pushfq
    pop qword ptr CTX(RFLAGS)
    mov GPR(0), rax
    mov GPR(1), rcx
    mov GPR(2), rdx
    mov GPR(3), rbx
    mov GPR(5), rbp
    mov GPR(6), rsi
    mov GPR(7), rdi
    mov GPR(8), r8
    mov GPR(9), r9
    mov GPR(10), r10
    mov GPR(11), r11
    mov GPR(12), r12
    mov GPR(13), r13
    mov GPR(14), r14
    mov GPR(15), r15
    push 0x202
    popfq
    mov eax, 7
    xor edx, edx
    xsave64 CTX(XSAVE)
    fninit
    vzeroupper
    ldmxcsr CTX(HOST_MXCSR)
    rdfsbase rax
    mov CTX(FS_BASE), rax
    rdgsbase rax
    mov CTX(GS_BASE), rax

/* The same from a signal handler, which has saved the state: jump here with the host's FS base. */
    .globl native_abort
native_abort:
    push 0x202 /* the handler inherits NT and AC */
    popfq
    cmp dword ptr CTX(MODE), 64
    je 6f
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    mov eax, CTX(HOST_SS)
    mov ss, eax
6:
    mov rax, CTX(HOST_FS)
    wrfsbase rax
    mov rsp, CTX(HOST_RSP)
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
    .size native_enter, . - native_enter
    .section .note.GNU-stack, "", @progbits
