/*
 * Real-time clock and CMOS RAM (Motorola MC146818A data sheet), ports 70h-71h.
 *
 * The registers hold what was last written or counted; they are brought up to date when somebody
 * looks. Timers run only for interrupts that are enabled.
 */
#ifndef VD_DEVICES_MC146818_H
#define VD_DEVICES_MC146818_H

#include <stdbool.h>
#include <stdint.h>

#include "base/irq_line.h"
#include "memory/address_space.h"
#include "sched/timer.h"

struct mc146818_config {
    struct irq_line irq;
    struct irq_line nmi_mask; /* high: NMI is masked (port 70h bit 7) */
    struct timer_queue *timers;
    struct vclock *clock;
    /* Seconds since 1970 to show at virtual time now, as calendar time (UTC or local). */
    int64_t start_time;
};

enum { MC146818_CENTURY = 0x32 }; /* counted along with the year, as PC firmware expects */

struct mc146818 {
    struct mc146818_config config;
    uint8_t ram[128]; /* registers 0..13 included */
    uint8_t index;    /* port 70h as written */
    uint8_t irq;      /* level last given to config.irq */
    /* Virtual time at which the current second began; signed: half a second before the start. */
    int64_t second_start;
    int64_t divider_start; /* virtual time at which the divider chain was zero */
    uint64_t periods_seen; /* periodic ticks since then that PF knows of */
    uint64_t next_period;  /* number of the periodic interrupt that is to be delivered next */
    struct timer update;   /* for UIE and AIE */
    struct timer periodic; /* for PIE */
};

void mc146818_init(struct mc146818 *rtc, const struct mc146818_config *config);
/* The RESET pin: interrupts off; the time and the RAM stay. */
void mc146818_reset(struct mc146818 *rtc);

/* For the board: raw CMOS contents (memory size, boot order, ...). index 0Eh..7Fh. */
uint8_t mc146818_get(const struct mc146818 *rtc, unsigned index);
void mc146818_set(struct mc146818 *rtc, unsigned index, uint8_t value);

extern const struct io_ops mc146818_ops; /* ctx: struct mc146818; 2 ports */

#endif
