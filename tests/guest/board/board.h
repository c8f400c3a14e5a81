/*
 * What the board test kernels share: reports on COM1, interrupt handlers, expected exceptions, and
 * access to ports, model-specific registers and both APICs. A kernel defines test_main; it reports
 * with CHECK, goes on after a failure, and ends with board_end.
 */
#ifndef VD_TESTS_GUEST_BOARD_H
#define VD_TESTS_GUEST_BOARD_H

#include <stdbool.h>
#include <stdint.h>

#include "../x86.h"

struct frame { /* what the interrupt stubs leave above the saved registers */
    unsigned long vector, error, ip, cs, flags;
};

enum { NO_FAULT = -1, UD = 6, GP = 13 };
enum { LAPIC = 0xfee00000u, IOAPIC = 0xfec00000u };
enum { /* local APIC registers */
       APIC_ID = 0x20,
       APIC_VERSION = 0x30,
       APIC_TPR = 0x80,
       APIC_PPR = 0xa0,
       APIC_EOI = 0xb0,
       APIC_SVR = 0xf0,
       APIC_ISR = 0x100,
       APIC_TMR = 0x180,
       APIC_IRR = 0x200,
       APIC_ESR = 0x280,
       APIC_ICR = 0x300,
       APIC_ICR_HIGH = 0x310,
       APIC_LVT_TIMER = 0x320,
       APIC_LVT_LINT0 = 0x350,
       APIC_LVT_ERROR = 0x370,
       APIC_INITIAL_COUNT = 0x380,
       APIC_CURRENT_COUNT = 0x390,
       APIC_DIVIDE = 0x3e0,
};
enum { MSR_APIC_BASE = 0x1b, MSR_TSC = 0x10, MSR_TSC_ADJUST = 0x3b, MSR_TSC_DEADLINE = 0x6e0 };

extern uint32_t multiboot_info;
/* Called with the frame of the interrupt; NULL: an interrupt or exception nobody expects. */
extern void (*handlers[256])(const struct frame *frame);
/* Of the last exception that a *_faults function met. */
extern volatile unsigned long fault_resume;
extern volatile int fault_vector;

void test_main(void);
void board_check(bool good, const char *what, uint64_t value, int line);
__attribute__((noreturn)) void board_end(void);
/* Both 8259s masked, the local APIC on with spurious vector FFh. */
void board_use_apic(void);

/* Goes on after a failure, so that one run shows them all. */
#define CHECK(condition, value) board_check(condition, #condition, (uint64_t)(value), __LINE__)

static inline uint32_t read32(uint32_t address)
{
    return *(const volatile uint32_t *)(uintptr_t)address;
}
static inline void write32(uint32_t address, uint32_t value)
{
    *(volatile uint32_t *)(uintptr_t)address = value;
}

#ifdef __x86_64__
#define TRY(instruction) "movq $1f, fault_resume\n\t" instruction "\n1:\tmovq $0, fault_resume"
#else
#define TRY(instruction) "movl $1f, fault_resume\n\t" instruction "\n1:\tmovl $0, fault_resume"
#endif

/* The exception that WRMSR or RDMSR raises, or NO_FAULT. */
static inline int wrmsr_faults(uint32_t index, uint64_t value)
{
    fault_vector = NO_FAULT;
    __asm__ volatile(TRY("wrmsr")
                     :
                     : "a"((uint32_t)value), "d"((uint32_t)(value >> 32)), "c"(index)
                     : "memory");
    return fault_vector;
}
static inline int rdmsr_faults(uint32_t index)
{
    uint32_t low, high;
    fault_vector = NO_FAULT;
    __asm__ volatile(TRY("rdmsr") : "=a"(low), "=d"(high) : "c"(index) : "memory");
    return fault_vector;
}

static inline uint32_t apic_read(uint32_t reg)
{
    return read32(LAPIC + reg);
}
static inline void apic_write(uint32_t reg, uint32_t value)
{
    write32(LAPIC + reg, value);
}
static inline bool apic_bit(uint32_t reg, unsigned vector)
{
    return apic_read(reg + vector / 32 * 16) >> vector % 32 & 1;
}
static inline uint32_t ioapic_read(uint32_t reg)
{
    write32(IOAPIC, reg);
    return read32(IOAPIC + 0x10);
}
static inline void ioapic_write(uint32_t reg, uint32_t value)
{
    write32(IOAPIC, reg);
    write32(IOAPIC + 0x10, value);
}

#endif
