/*
 * Serial port (National Semiconductor NS16550A data sheet; PC wiring: OUT2 gates the interrupt).
 *
 * Bytes leave at once, so THR and the transmit FIFO are always empty; the transmitter interrupt
 * follows the data sheet all the same. Received bytes come from a character back end that waits
 * while the FIFO is full, so the host never overruns the guest.
 */
#ifndef VD_DEVICES_UART16550_H
#define VD_DEVICES_UART16550_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/irq_line.h"
#include "hostio/chardev.h"
#include "memory/address_space.h"
#include "sched/timer.h"

enum { UART16550_FIFO_SIZE = 16 };

struct uart16550_config {
    struct irq_line irq;
    struct timer_queue *timers;
    struct vclock *clock;
    struct chardev *chardev; /* NULL: nothing is plugged in (no modem lines either) */
    pthread_mutex_t *lock;   /* the machine lock, for the back end */
};

struct uart16550 {
    struct uart16550_config config;
    bool lcr_written; /* since the reset */
    uint8_t ier, lcr, mcr, scr;
    uint8_t fcr;          /* enable, DMA mode and trigger bits */
    uint8_t errors;       /* LSR bits 4..1 as seen by the processor */
    uint8_t msr;          /* line levels (7..4) and deltas (3..0) */
    uint8_t lines;        /* what the modem drives, MSR bits 7..4 */
    uint8_t thre_pending; /* the transmitter interrupt, until IIR is read or THR written */
    uint8_t timed_out;    /* character timeout */
    uint8_t irq;          /* level last given to config.irq */
    uint16_t divisor;
    uint8_t rx_data[UART16550_FIFO_SIZE];
    uint8_t rx_errors[UART16550_FIFO_SIZE]; /* LSR bits 4..2 of each byte */
    uint8_t rx_head, rx_count;
    struct timer timeout;
};

/* Connects to the back end. */
void uart16550_init(struct uart16550 *uart, const struct uart16550_config *config);
void uart16550_reset(struct uart16550 *uart);

/* The other side sends a break condition. */
void uart16550_receive_break(struct uart16550 *uart);
/* The modem changes its lines: CTS, DSR, RI, DCD in MSR bits 4, 5, 6, 7. */
void uart16550_set_modem(struct uart16550 *uart, uint8_t lines);

extern const struct io_ops uart16550_ops; /* ctx: struct uart16550; 8 ports */

#endif
