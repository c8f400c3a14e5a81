/*
 * The local APIC as the processor meets it (Intel SDM vol. 3, chapter 11): registers, base MSR,
 * interrupts and NMIs to itself, priorities, errors, and that an interrupt which an instruction
 * causes comes before the next instruction when it can.
 */
#include "board.h"

enum { SELF = 1 << 18, ASSERT = 1 << 14, NMI = 4 << 8, ALL = 2 << 18, OTHERS = 3 << 18 };
enum { ENABLE = 1 << 11, EXTD = 1 << 10, BSP = 1 << 8, NEW_BASE = 0xfed40000 };

static volatile unsigned hits[256];
static volatile unsigned first_vector, nmi_depth;

static void count(const struct frame *frame)
{
    if (!first_vector)
        first_vector = (unsigned)frame->vector;
    hits[frame->vector]++;
    apic_write(APIC_EOI, 0);
}

static void expect_vector(unsigned vector)
{
    handlers[vector] = count;
    hits[vector] = first_vector = 0;
}

static void registers(void)
{
    uint32_t id = apic_read(APIC_ID);
    CHECK(id >> 24 == cpuid(1, 0).ebx >> 24, id);
    CHECK((apic_read(APIC_VERSION) & 0xf0) == 0x10, apic_read(APIC_VERSION));
    CHECK((apic_read(APIC_VERSION) >> 16 & 0xff) >= 3, apic_read(APIC_VERSION));
    apic_write(APIC_VERSION, 0);
    CHECK((apic_read(APIC_VERSION) & 0xf0) == 0x10, apic_read(APIC_VERSION));
    apic_write(APIC_ICR_HIGH, 0xffffffff);
    CHECK(apic_read(APIC_ICR_HIGH) == 0xff000000, apic_read(APIC_ICR_HIGH));
    apic_write(APIC_LVT_LINT0, 0xffffffff);
    CHECK(apic_read(APIC_LVT_LINT0) == 0x1a7ff, apic_read(APIC_LVT_LINT0));
    apic_write(APIC_LVT_ERROR, 0x100ff);
    CHECK(apic_read(APIC_LVT_ERROR) == 0x100ff, apic_read(APIC_LVT_ERROR));
    for (unsigned i = 0; i < 8; i++) {
        CHECK(apic_read(APIC_ISR + 16 * i) == 0, i);
        CHECK(apic_read(APIC_IRR + 16 * i) == 0, i);
    }
}

static void base_msr(void)
{
    uint64_t base = rdmsr(MSR_APIC_BASE);
    uint32_t version = apic_read(APIC_VERSION);
    unsigned phys_bits = cpuid(0x80000008, 0).eax & 0xff;
    CHECK(base == (LAPIC | ENABLE | BSP), base);
    CHECK(!(cpuid(1, 0).ecx >> 21 & 1), cpuid(1, 0).ecx); /* no x2APIC, so: */
    CHECK(wrmsr_faults(MSR_APIC_BASE, base | EXTD) == GP, fault_vector);
    CHECK(wrmsr_faults(MSR_APIC_BASE, EXTD) == GP, fault_vector);
    CHECK(wrmsr_faults(MSR_APIC_BASE, base | 1) == GP, fault_vector);
    CHECK(wrmsr_faults(MSR_APIC_BASE, base | 1ull << phys_bits) == GP, fault_vector);
    CHECK(rdmsr_faults(0x802) == GP, fault_vector);
    CHECK(wrmsr_faults(0x83f, 0x40) == GP, fault_vector);
    CHECK(rdmsr(MSR_APIC_BASE) == base, rdmsr(MSR_APIC_BASE));

    apic_write(APIC_ID, 5u << 24);
    wrmsr(MSR_APIC_BASE, base & ~(uint64_t)ENABLE);
    CHECK(!(cpuid(1, 0).edx >> 9 & 1), cpuid(1, 0).edx);
    for (uint32_t at = LAPIC; at < LAPIC + 0x1000; at++)
        *(volatile uint8_t *)(uintptr_t)at = 0xff;
    CHECK(apic_read(APIC_VERSION) == 0xffffffff, apic_read(APIC_VERSION));
    CHECK(apic_read(APIC_TPR) == 0xffffffff, apic_read(APIC_TPR));

    wrmsr(MSR_APIC_BASE, NEW_BASE | ENABLE | BSP);
    CHECK(read32(NEW_BASE + APIC_VERSION) == version, read32(NEW_BASE + APIC_VERSION));
    CHECK(apic_read(APIC_VERSION) == 0xffffffff, apic_read(APIC_VERSION));
    wrmsr(MSR_APIC_BASE, base);
    CHECK(apic_read(APIC_VERSION) == version, apic_read(APIC_VERSION));
    CHECK(apic_read(APIC_SVR) == 0xff, apic_read(APIC_SVR)); /* as after a reset */
    CHECK(apic_read(APIC_TPR) == 0, apic_read(APIC_TPR));
    CHECK(apic_read(APIC_ID) >> 24 == cpuid(1, 0).ebx >> 24, apic_read(APIC_ID));
    CHECK(cpuid(1, 0).edx >> 9 & 1, cpuid(1, 0).edx);
    apic_write(APIC_SVR, 0x1ff);
}

#ifdef __x86_64__
static void task_priority_register(void)
{
    uint64_t value;
    __asm__ volatile("movq %0, %%cr8" : : "r"(0xful));
    CHECK(apic_read(APIC_TPR) == 0xf0, apic_read(APIC_TPR));
    apic_write(APIC_TPR, 0x35);
    __asm__ volatile("movq %%cr8, %0" : "=r"(value));
    CHECK(value == 3, value);
    CHECK(apic_read(APIC_PPR) == 0x35, apic_read(APIC_PPR));
    fault_vector = NO_FAULT;
    __asm__ volatile(TRY("movq %0, %%cr8") : : "r"(0x10ul));
    CHECK(fault_vector == GP, fault_vector);
    uint64_t base = rdmsr(MSR_APIC_BASE);
    wrmsr(MSR_APIC_BASE, base & ~(uint64_t)ENABLE); /* CR8 stays when the registers go */
    __asm__ volatile("movq %0, %%cr8\n\tmovq %%cr8, %0" : "=r"(value) : "0"(0xful));
    CHECK(value == 0xf, value);
    __asm__ volatile("movq %0, %%cr8" : : "r"(0ul));
    wrmsr(MSR_APIC_BASE, base);
    apic_write(APIC_SVR, 0x1ff);
}
#endif

/* STI, a write to the ICR, CLI: the interrupt must have come before CLI. */
static void interrupt_comes_at_once(void)
{
    expect_vector(0x61);
    apic_write(APIC_ICR_HIGH, 0);
    __asm__ volatile("sti; nop; movl %0, (%1); cli"
                     :
                     : "r"(SELF | ASSERT | 0x61), "r"((uintptr_t)(LAPIC + APIC_ICR))
                     : "memory");
    CHECK(hits[0x61] == 1, hits[0x61]);
    apic_write(APIC_ICR, ASSERT | 0x61); /* physical destination 0 */
    CHECK(apic_bit(APIC_IRR, 0x61), 0);
    __asm__ volatile("sti; nop; cli");
    CHECK(hits[0x61] == 2, hits[0x61]);
    apic_write(APIC_ICR_HIGH, 0xff000000); /* broadcast */
    apic_write(APIC_ICR, ASSERT | 0x61);
    __asm__ volatile("sti; nop; cli");
    CHECK(hits[0x61] == 3, hits[0x61]);
    apic_write(APIC_ICR, ALL | ASSERT | 0x61);
    __asm__ volatile("sti; nop; cli");
    CHECK(hits[0x61] == 4, hits[0x61]);
    apic_write(APIC_ICR, OTHERS | ASSERT | 0x61); /* there are none */
    apic_write(APIC_ICR_HIGH, 7u << 24);
    apic_write(APIC_ICR, ASSERT | 0x61); /* nor has one the ID 7 */
    apic_write(APIC_ICR, ASSERT | 6 << 8 | 8);
    CHECK(!(apic_read(APIC_ICR) & 1 << 12), apic_read(APIC_ICR)); /* sent all the same */
    apic_write(APIC_ICR, OTHERS | ASSERT | 5 << 8);               /* INIT, STARTUP */
    apic_write(APIC_ICR, OTHERS | 6 << 8 | 8);
    __asm__ volatile("sti; nop; cli");
    CHECK(hits[0x61] == 4, hits[0x61]);
}

/* Whatever opens the way for a pending interrupt: it is taken once, and not later than that. */
static void pending_interrupt(void)
{
    expect_vector(0x62);
    for (unsigned i = 1; i <= 1000; i++) {
        apic_write(APIC_ICR, SELF | ASSERT | 0x62);
        __asm__ volatile("sti; hlt; cli");
        CHECK(hits[0x62] == i, hits[0x62]);
        if (hits[0x62] != i)
            return;
    }
#ifdef __x86_64__
    hits[0x62] = 0;
    for (unsigned i = 1; i <= 1000; i++) {
        unsigned masked, taken;
        __asm__ volatile("movq %0, %%cr8; sti" : : "r"(0xful) : "memory");
        apic_write(APIC_ICR, SELF | ASSERT | 0x62);
        masked = hits[0x62];
        __asm__ volatile("movq %0, %%cr8" : : "r"(0ul) : "memory");
        taken = hits[0x62];
        __asm__ volatile("cli");
        CHECK(masked == i - 1 && taken == i, taken);
        if (taken != i)
            return;
    }
#endif
}

static volatile bool isr_seen, irr_seen;

static void look(const struct frame *frame)
{
    isr_seen = apic_bit(APIC_ISR, (unsigned)frame->vector);
    irr_seen = apic_bit(APIC_IRR, (unsigned)frame->vector);
    CHECK(apic_read(APIC_PPR) == (frame->vector & 0xf0), apic_read(APIC_PPR));
    CHECK(!apic_bit(APIC_TMR, (unsigned)frame->vector), frame->vector);
    count(frame);
}

static void priorities(void)
{
    expect_vector(0x41);
    expect_vector(0x52);
    apic_write(APIC_ICR, SELF | ASSERT | 0x41);
    apic_write(APIC_ICR, SELF | ASSERT | 0x52);
    __asm__ volatile("sti; nop; nop; cli");
    CHECK(first_vector == 0x52 && hits[0x41] == 1 && hits[0x52] == 1, first_vector);

    apic_write(APIC_TPR, 0x4f);
    expect_vector(0x41);
    expect_vector(0x52);
    __asm__ volatile("sti");
    apic_write(APIC_ICR, SELF | ASSERT | 0x41);
    apic_write(APIC_ICR, SELF | ASSERT | 0x52);
    CHECK(hits[0x41] == 0 && hits[0x52] == 1, hits[0x41]);
    apic_write(APIC_TPR, 0x30);
    CHECK(hits[0x41] == 1, hits[0x41]);
    __asm__ volatile("cli");
    apic_write(APIC_TPR, 0);

    expect_vector(0x73);
    handlers[0x73] = look;
    apic_write(APIC_ICR, SELF | ASSERT | 0x73);
    __asm__ volatile("sti; nop; cli");
    CHECK(isr_seen && !irr_seen && !apic_bit(APIC_ISR, 0x73), isr_seen);

    /* Two of a kind before the first is taken are one. */
    expect_vector(0x41);
    apic_write(APIC_ICR, SELF | ASSERT | 0x41);
    apic_write(APIC_ICR, SELF | ASSERT | 0x41);
    __asm__ volatile("sti; nop; nop; cli");
    CHECK(hits[0x41] == 1, hits[0x41]);

    apic_write(APIC_SVR, 0xff); /* software-disabled: nothing is accepted, entries are masked */
    apic_write(APIC_ICR, SELF | ASSERT | 0x41);
    CHECK(!apic_bit(APIC_IRR, 0x41), 0);
    apic_write(APIC_LVT_TIMER, 0x41);
    CHECK(apic_read(APIC_LVT_TIMER) == 0x10041, apic_read(APIC_LVT_TIMER));
    apic_write(APIC_SVR, 0x1ff);
}

static void errors(void)
{
    expect_vector(0x45);
    apic_write(APIC_LVT_ERROR, 0x45);
    apic_write(APIC_ESR, 0);
    apic_write(APIC_ICR, SELF | ASSERT | 0x0f);
    __asm__ volatile("sti; nop; cli");
    CHECK(hits[0x45] == 1, hits[0x45]);
    apic_write(APIC_ESR, 0);
    CHECK(apic_read(APIC_ESR) & 0x20, apic_read(APIC_ESR));
    apic_write(APIC_ESR, 0);
    CHECK(apic_read(APIC_ESR) == 0, apic_read(APIC_ESR));
    apic_write(APIC_LVT_ERROR, 0x10045);
}

/* Ten NMIs during the first are one more after its IRET. */
static void nmi(const struct frame *frame)
{
    (void)frame;
    CHECK(nmi_depth == 0, nmi_depth);
    nmi_depth++;
    if (++hits[2] == 1) {
        for (unsigned i = 0; i < 10; i++)
            apic_write(APIC_ICR, NMI | ASSERT);
    }
    nmi_depth--;
}

static void nmis(void)
{
    handlers[2] = nmi;
    apic_write(APIC_ICR_HIGH, 0);
    for (unsigned i = 0; i < 2000; i++) {
        hits[2] = 0;
        apic_write(APIC_ICR, NMI | ASSERT);
        CHECK(hits[2] == 2, hits[2]);
        if (hits[2] != 2)
            break;
    }
}

void test_main(void)
{
    board_use_apic();
    registers();
    base_msr();
#ifdef __x86_64__
    task_priority_register();
#endif
    interrupt_comes_at_once();
    pending_interrupt();
    priorities();
    errors();
    nmis();
    board_end();
}
