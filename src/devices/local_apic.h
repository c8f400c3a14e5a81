/*
 * Local APICs (Intel SDM vol. 3 chapter 11, "APIC"; xAPIC mode) and the bus that joins them with
 * each other and with the I/O APIC.
 *
 * One struct local_apic a processor, one struct apic_bus a machine. The registers appear at the
 * address in IA32_APIC_BASE, to each processor its own; apic_bus_config.current_cpu tells which
 * processor makes the access. The functions named local_apic_* with a void pointer first fit into
 * struct x86_platform and struct irq_line.
 *
 * Everything is called with the machine lock held, except local_apic_intr_pending.
 *
 * No interrupt of the periodic timer is lost because the host did not run the processor: as long as
 * the request before waits in IRR the next one is held back, and those owed follow faster, those of
 * the last second at most.
 *
 * Deviation: out of RESET the bootstrap processor's LINT0 is unmasked ExtINT (the virtual wire mode
 * of the MultiProcessor Specification 3.6.2.2, normally set by firmware), so that firmware which
 * knows nothing of APICs gets its 8259 interrupts.
 */
#ifndef VD_DEVICES_LOCAL_APIC_H
#define VD_DEVICES_LOCAL_APIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "memory/address_space.h"
#include "sched/timer.h"

enum { APIC_MAX_CPUS = 32, APIC_LVT_COUNT = 6 };

/* Delivery modes of interrupt messages (SDM table 11-1; I/O APIC redirection entries). */
enum apic_delivery {
    APIC_FIXED = 0,
    APIC_LOWEST_PRIORITY = 1,
    APIC_SMI = 2,
    APIC_NMI = 4,
    APIC_INIT = 5,
    APIC_STARTUP = 6,
    APIC_EXTINT = 7,
};

struct apic_message {
    uint8_t destination;
    bool logical; /* destination mode */
    enum apic_delivery delivery;
    uint8_t vector;
    bool level; /* trigger mode */
};

struct local_apic;

struct apic_page { /* one page of registers in the address space */
    struct apic_bus *bus;
    struct io_region *region;
    uint64_t base;
};

struct apic_bus_config {
    struct address_space *as;
    struct timer_queue *timers;
    uint64_t timer_hz; /* input clock of the APIC timers, before the divider */
    unsigned phys_bits;
    void *ctx;
    unsigned (*current_cpu)(void *ctx);     /* index of the processor; NULL: always 0 */
    void (*eoi)(void *ctx, uint8_t vector); /* EOI of a level-triggered interrupt; may be NULL */
};

struct apic_bus {
    struct apic_bus_config config;
    struct local_apic *apics[APIC_MAX_CPUS];
    unsigned count;
    unsigned last_lowest; /* who won the last lowest-priority arbitration */
    struct apic_page pages[APIC_MAX_CPUS];
};

struct local_apic_config {
    uint8_t id;     /* initial APIC ID */
    bool bootstrap; /* the bootstrap processor */
    bool absent;    /* the processor has no APIC: INTR and NMI are plain pins */
    void *ctx;
    void (*interrupt)(void *ctx); /* INTR may have become pending */
    void (*nmi)(void *ctx);
    void (*init)(void *ctx);                    /* INIT message; NULL: ignored */
    void (*startup)(void *ctx, uint8_t vector); /* SIPI; NULL: ignored */
    int (*pic_ack)(void *ctx);                  /* INTA cycle at the 8259s: vector */
};

struct local_apic {
    struct apic_bus *bus;
    struct local_apic_config config;
    uint64_t base_msr; /* IA32_APIC_BASE */
    uint32_t id, tpr, ldr, dfr, svr;
    uint32_t irr[8], isr[8], tmr[8];
    uint32_t esr, esr_pending;
    uint32_t icr_low, icr_high;
    uint32_t lvt[APIC_LVT_COUNT]; /* timer, thermal, performance, LINT0, LINT1, error */
    bool lint_level[2];
    bool extint_message; /* an ExtINT message waits for INTA */
    uint32_t initial_count, divide;
    uint32_t first_count; /* what was left to count at start_ns */
    uint64_t start_ns;
    uint64_t zero;         /* the zero to be delivered next, in ticks after start_ns; see below */
    bool held;             /* ... when the request before has been dispensed */
    uint64_t tsc_deadline; /* 0: disarmed */
    struct timer timer;
    atomic_bool intr; /* level of the processor's INTR input */
};

void apic_bus_init(struct apic_bus *bus, const struct apic_bus_config *config);
/* Unmaps the registers; the APICs stay the caller's. */
void apic_bus_destroy(struct apic_bus *bus);
/* Puts a message on the bus. False: no local APIC accepted it. */
bool apic_bus_send(struct apic_bus *bus, const struct apic_message *message);
/* A destination of the (fixed or lowest priority) message still has its vector in IRR. */
bool apic_bus_requested(const struct apic_bus *bus, const struct apic_message *message);

/* Adds a processor's APIC to the bus, in reset state. -1: the bus is full. */
int local_apic_init(struct local_apic *apic, struct apic_bus *bus,
                    const struct local_apic_config *config, struct vd_error *err);
void local_apic_reset(struct local_apic *apic); /* RESET; INIT comes through the message */

/* INTR is asserted. Any thread, no lock. */
bool local_apic_intr_pending(void *apic);
/* INTA cycle: the vector, now in service; -1: nothing is pending any more. */
int local_apic_intr_ack(void *apic);
uint64_t local_apic_base_read(void *apic);
/* -1: #GP (reserved bits, x2APIC mode). */
int local_apic_base_write(void *apic, uint64_t value);
/* CR8: bits 7:4 of the task priority register. */
uint64_t local_apic_tpr_read(void *apic);
void local_apic_tpr_write(void *apic, uint64_t value);
/* IA32_TSC_DEADLINE, in ticks of vclock_tsc (the caller takes off the guest's TSC offset). 0. */
int local_apic_tsc_deadline(void *apic, bool write, uint64_t *value);
/*
 * INIT#, as the message INIT does it: registers as after a reset but for the ID and the base MSR
 * (SDM 11.4.7.3), then config.init.
 */
void local_apic_signal_init(void *apic);
/* LINT0 (pin 0: INTR of the 8259s) and LINT1 (pin 1: NMI), active high. */
void local_apic_set_lint(void *apic, unsigned pin, bool level);

/* Register access at an offset into the page, as the processor that owns the APIC makes it. */
uint32_t local_apic_read(struct local_apic *apic, unsigned offset);
void local_apic_write(struct local_apic *apic, unsigned offset, uint32_t value);

#endif
