/*
 * Interrupts, NMI and exceptions as a kernel with a local APIC sees them: which is delivered first,
 * what the shadow of STI holds back, when NMI is blocked and unblocked, and faults that come up
 * while another event is delivered (SDM vol. 3, 6.7 to 6.9, 6.14 and 10.8).
 */
#include "machine64.h"

enum {
    APIC_EOI = 0xb0,
    APIC_TPR = 0x80,
    APIC_SPURIOUS = 0xf0,
    APIC_ICR = 0x300,
    APIC_ICR_HIGH = 0x310
};
enum { SELF = 0x40000, SEND_NMI = 0x4400, LOW_VECTOR = 0x40, HIGH_VECTOR = 0x51, DOUBLE_IST = 1 };

static volatile unsigned order[16], happened;
static volatile uint64_t pcs[16];

static volatile uint32_t *apic(unsigned offset)
{
    return (volatile uint32_t *)(uintptr_t)(0xfee00000 + offset);
}

static void note(const struct frame *frame)
{
    if (happened < 16) {
        order[happened] = (unsigned)frame->vector;
        pcs[happened] = frame->rip;
    }
    happened++;
}

static void on_interrupt(struct frame *frame)
{
    note(frame);
    *apic(APIC_EOI) = 0;
}

static void send_self(unsigned vector)
{
    *apic(APIC_ICR_HIGH) = 0;
    *apic(APIC_ICR) = SELF | vector;
}

static void send_nmi(void)
{
    *apic(APIC_ICR_HIGH) = *apic(0x20) & 0xff000000; /* physical: this one */
    *apic(APIC_ICR) = SEND_NMI;
}

static void test_priorities(void)
{
    happened = 0;
    send_self(LOW_VECTOR);
    send_self(HIGH_VECTOR);
    CHECK(happened == 0, happened);
    __asm__ volatile("sti\n nop\n cli" : : : "memory");
    CHECK(happened == 2 && order[0] == HIGH_VECTOR && order[1] == LOW_VECTOR, order[0]);

    /* The instruction behind STI comes first: INT n, and STI; CLI lets nothing in. */
    extern uint8_t behind_int[];
    happened = 0;
    send_self(LOW_VECTOR);
    __asm__ volatile("sti\n cli\n" : : : "memory");
    CHECK(happened == 0, happened);
    __asm__ volatile("sti\n int $0x51\n .globl behind_int\nbehind_int: cli" : : : "memory");
    CHECK(happened == 2 && order[0] == HIGH_VECTOR && order[1] == LOW_VECTOR, happened);
    CHECK(pcs[1] == (uint64_t)behind_int, pcs[1]);

    /* The task priority, in the APIC and in CR8. */
    for (unsigned i = 0; i < 2; i++) {
        happened = 0;
        if (i)
            __asm__ volatile("movq %0, %%cr8" : : "r"(4ull));
        else
            *apic(APIC_TPR) = 4 << 4;
        send_self(LOW_VECTOR);
        send_self(HIGH_VECTOR);
        __asm__ volatile("sti\n nop" : : : "memory");
        CHECK(happened == 1 && order[0] == HIGH_VECTOR, order[0]);
        if (i)
            __asm__ volatile("movq %0, %%cr8" : : "r"(0ull));
        else
            *apic(APIC_TPR) = 0;
        __asm__ volatile("nop\n cli" : : : "memory");
        CHECK(happened == 2 && order[1] == LOW_VECTOR, happened);
    }
    uint64_t cr8;
    *apic(APIC_TPR) = 0x75;
    __asm__ volatile("movq %%cr8, %0" : "=r"(cr8));
    CHECK(cr8 == 7, cr8);
    *apic(APIC_TPR) = 0;
    CHECK(TRY("movq %0, %%cr8", : "r"(16ull)) == GP, seen.vector);
}

static void on_second_nmi(struct frame *frame)
{
    note(frame);
}

static unsigned happened_in_handler;
static void on_nmi(struct frame *frame)
{
    note(frame);
    handlers[NMI] = on_second_nmi;
    send_nmi();
    send_nmi(); /* one is remembered, a second is not */
    happened_in_handler = happened;
}

/* An IRET to the next instruction within the handler ends the blocking as the last one would. */
static void on_nmi_early(struct frame *frame)
{
    extern uint8_t behind_iret[];
    note(frame);
    handlers[NMI] = on_second_nmi;
    send_nmi();
    happened_in_handler = happened;
    __asm__ volatile("movq %%rsp, %%rax\n pushq $0x10\n pushq %%rax\n pushfq\n pushq $8\n"
                     "pushq $behind_iret\n iretq\n .globl behind_iret\nbehind_iret: nop"
                     :
                     :
                     : "rax", "memory");
    CHECK(happened == 2 && pcs[1] == (uint64_t)behind_iret, happened);
}

/* An exception within the handler returns by IRET, too. */
static void on_nmi_trapping(struct frame *frame)
{
    note(frame);
    handlers[NMI] = on_second_nmi;
    send_nmi();
    happened_in_handler = happened;
    __asm__ volatile("int3");
    CHECK(happened == 3 && order[1] == BP && order[2] == NMI, happened);
}

static void test_nmi(void)
{
    extern uint8_t behind_ss_nmi[];
    happened = 0;
    handlers[NMI] = on_nmi;
    send_nmi();
    CHECK(happened_in_handler == 1, happened_in_handler);
    CHECK(happened == 2, happened);
    check(pcs[1] == pcs[0], "the second NMI at the pc that the first returned to", pcs[1]);
    happened = 0;
    handlers[NMI] = on_nmi_early;
    send_nmi();
    CHECK(happened_in_handler == 1 && happened == 2, happened);
    happened = 0;
    handlers[NMI] = on_nmi_trapping;
    handlers[BP] = on_second_nmi;
    send_nmi();
    CHECK(happened_in_handler == 1 && happened == 3, happened);
    handlers[BP] = 0;
    /* Neither IF nor STI's shadow matters; MOV SS's does. */
    happened = 0;
    handlers[NMI] = on_second_nmi;
    __asm__ volatile("movl %%ss, %%eax\n movl %%eax, %%ss\n movl %1, (%0)\n"
                     ".globl behind_ss_nmi\nbehind_ss_nmi: nop"
                     :
                     : "r"(apic(APIC_ICR)), "r"(SEND_NMI)
                     : "rax", "memory");
    CHECK(happened == 1 && pcs[0] == (uint64_t)behind_ss_nmi, pcs[0]);
}

/* Faults while an event is delivered: the descriptor of the handler, the stack, the table. */
static volatile uint64_t seen_error;
static void on_absent(struct frame *frame)
{
    note(frame);
    seen_error = frame->error;
    ((uint16_t *)idt)[HIGH_VECTOR * 8 + 1] = KERNEL_CODE;
}

static uint8_t other_stack[4096] __attribute__((aligned(16)));
static void on_double_fault(struct frame *frame)
{
    note(frame);
    seen_error = frame->error;
    frame->rsp = frame->rbx;
    frame->rip = frame->rsi;
}

static void test_nested_faults(void)
{
    handlers[NP] = on_absent;
    for (unsigned external = 0; external < 2; external++) {
        ((uint16_t *)idt)[HIGH_VECTOR * 8 + 1] = ABSENT_CODE;
        happened = 0;
        if (external) {
            send_self(HIGH_VECTOR);
            __asm__ volatile("sti\n nop\n cli" : : : "memory");
            *apic(APIC_EOI) = 0;
        } else {
            __asm__ volatile("int $0x51" : : : "memory");
        }
        CHECK(order[0] == NP, order[0]);
        CHECK(seen_error == (ABSENT_CODE | external), seen_error);
        CHECK(happened == (external ? 1u : 2u), happened);
    }
    handlers[NP] = 0;
    /* INT n through a gate of ring 0 from ring 3, and one that is no gate. */
    uint8_t *attributes = (uint8_t *)idt + 16 * HIGH_VECTOR + 5;
    *attributes = 0xe0;
    CHECK(TRY("int $0x51") == GP && seen.error == 8 * HIGH_VECTOR + 2, seen.error);
    *attributes = 0x0e;
    CHECK(TRY("int $0x51") == NP && seen.error == 8 * HIGH_VECTOR + 2, seen.error);
    *attributes = 0x8e;
    /* A stack that cannot be pushed to: the page fault cannot be either. */
    *(uint64_t *)(tss + 36) = (uint64_t)other_stack + sizeof(other_stack);
    ((uint8_t *)idt)[16 * DF + 4] = DOUBLE_IST;
    handlers[DF] = on_double_fault;
    static const uint64_t bad_stacks[] = {1ull << 40, 1ull << 47 | 0x1000};
    for (unsigned i = 0; i < 2; i++) {
        happened = 0;
        seen_error = 1;
        __asm__ volatile("movq %%rsp, %%rbx\n movq $1f, %%rsi\n movq %0, %%rsp\n ud2\n 1:"
                         :
                         : "r"(bad_stacks[i])
                         : "rbx", "rsi", "memory");
        CHECK(happened == 1 && order[0] == DF && seen_error == 0, order[0]);
    }
    handlers[DF] = 0;
    /* With the handler of #PF on a stack of its own, the #PF of the push of INT n comes through. */
    ((uint8_t *)idt)[16 * PF + 4] = DOUBLE_IST;
    handlers[PF] = on_double_fault;
    happened = 0;
    __asm__ volatile("movq %%rsp, %%rbx\n movq $1f, %%rsi\n movq %0, %%rsp\n int $0x51\n 1:"
                     :
                     : "r"(bad_stacks[0])
                     : "rbx", "rsi", "memory");
    CHECK(happened == 1 && order[0] == PF && seen_error == 2, seen_error);
    CHECK(read_cr2() == bad_stacks[0] - 8, read_cr2());
    handlers[PF] = 0;
    ((uint8_t *)idt)[16 * PF + 4] = 0;
}

void test_main(void)
{
    *apic(APIC_SPURIOUS) = 0x1ff;
    handlers[LOW_VECTOR] = handlers[HIGH_VECTOR] = on_interrupt;
    test_priorities();
    test_nmi();
    test_nested_faults();
}
