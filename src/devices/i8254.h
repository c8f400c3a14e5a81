/*
 * Programmable interval timer (Intel 8254 data sheet 231164) and port 61h, which gates channel 2
 * and shows its output (PIIX3 data sheet, NMI status and control register).
 *
 * Nothing counts: every register is computed from the virtual time when it is read. Only the rising
 * edges of channel 0's output need a timer. Its line drops right before it rises again instead of
 * in mid-period, which an edge-triggered input cannot tell and which halves the number of timers.
 */
#ifndef VD_DEVICES_I8254_H
#define VD_DEVICES_I8254_H

#include <stdbool.h>
#include <stdint.h>

#include "base/irq_line.h"
#include "memory/address_space.h"
#include "sched/timer.h"

struct i8254_config {
    struct irq_line irq; /* OUT of channel 0 */
    /*
     * The edge before has not been taken yet, the next one would be lost: it is held back then, for
     * up to a second. On hardware only a processor with interrupts disabled lets that happen; here
     * the host may not have run it. i8254_edge_taken ends the wait; without it, the question comes
     * again after a period. NULL: edges are never held back.
     */
    bool (*edge_waits)(void *ctx);
    void *ctx; /* of edge_waits */
    struct timer_queue *timers;
    struct vclock *clock;
};

struct i8254_channel {
    uint8_t control; /* RW, mode and BCD as written (bits 5..0) */
    uint8_t mode;    /* 0..5 */
    uint8_t gate;
    uint8_t null_count; /* a count was written but not loaded yet */
    uint8_t have_count; /* a count was written since the control word */
    uint8_t write_msb;  /* RW = 3: the next byte written is the MSB */
    uint8_t read_msb;   /* RW = 3: the next byte read is the MSB */
    uint8_t low_byte;   /* RW = 3: the LSB waiting for its MSB */
    uint8_t count_latched, status_latched;
    uint8_t latched_status;
    uint8_t loaded; /* the counting element holds a count since the control word */
    uint8_t phase;  /* mode 3: OUT at load_tick */
    uint8_t frozen; /* GATE is low in modes 0, 2, 3, 4; or mode 0 waits for the MSB */
    uint16_t latched_count;
    uint32_t reload;     /* count register, 1..10000h (1..10000 in BCD) */
    uint32_t count;      /* what the counting element was loaded with */
    uint64_t load_tick;  /* ... and when */
    uint64_t frozen_for; /* ticks counted when it was frozen */
    uint64_t load_at;    /* when reload goes into the counting element, UINT64_MAX: not planned */
};

struct i8254 {
    struct i8254_config config;
    struct i8254_channel channel[3];
    struct timer edge;  /* the next rising edge of channel 0 */
    uint64_t edge_tick; /* the edge that is to be delivered next; behind time while catching up */
    bool held;          /* it waits for the one before */
    uint8_t port61;     /* bits 3..0 */
};

void i8254_init(struct i8254 *pit, const struct i8254_config *config);
void i8254_reset(struct i8254 *pit);
/* The processor has taken an interrupt, maybe the one of the edge that waited (edge_waits). */
void i8254_edge_taken(struct i8254 *pit);

/* The level of a channel's OUT now, and its GATE input (channels 0 and 1 are wired high). */
bool i8254_out(struct i8254 *pit, unsigned channel);
void i8254_set_gate(struct i8254 *pit, unsigned channel, bool level);
/*
 * For the speaker: true if channel 2 drives it with a square wave, whose period in ticks of
 * 1193181.8 Hz goes to *period.
 */
bool i8254_speaker(struct i8254 *pit, uint32_t *period);

/* ctx of both is the struct i8254. Ports 40h-43h and 61h. */
extern const struct io_ops i8254_ops, i8254_port61_ops;

#endif
