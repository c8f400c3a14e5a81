/*
 * The PC's two cascaded interrupt controllers (Intel 8259A data sheet 231468; edge/level control
 * registers: 82371SB PIIX3 data sheet, 4D0h/4D1h). The slave's INT drives the master's IR2.
 */
#ifndef VD_DEVICES_I8259_H
#define VD_DEVICES_I8259_H

#include <stdbool.h>
#include <stdint.h>

#include "base/irq_line.h"
#include "memory/address_space.h"

struct i8259_chip {
    uint8_t lines;        /* input levels */
    uint8_t latch;        /* edge sense: rose since the last acknowledge and is still high */
    uint8_t imr, isr;     /* mask and in-service registers; IRR follows from lines and latch */
    uint8_t elcr;         /* 1: level-triggered input */
    uint8_t icw1, icw2;   /* as written */
    uint8_t icw3, icw4;   /* master: mask of slaves; slave: its identity */
    uint8_t expect;       /* next initialisation word: 0 (none), 2, 3 or 4 */
    uint8_t lowest;       /* level with the lowest priority */
    uint8_t read_isr;     /* OCW3: A0 = 0 reads ISR instead of IRR */
    uint8_t poll;         /* the next read is a poll */
    uint8_t special_mask; /* special mask mode */
    uint8_t rotate_on_aeoi;
};

struct i8259_config {
    struct irq_line intr; /* INTR of the processor */
    bool ignore_ltim;     /* PIIX3: ELCR alone decides about level triggering, ICW1.LTIM does not */
};

struct i8259_pair {
    struct i8259_config config;
    struct i8259_chip chip[2]; /* master, slave */
    uint8_t intr;              /* level last given to config.intr */
};

void i8259_init(struct i8259_pair *pair, const struct i8259_config *config);
/* Power-on: everything masked and uninitialised; the levels of the inputs stay. */
void i8259_reset(struct i8259_pair *pair);

/* An input changes; ctx is the struct i8259_pair, pin 0..15 (2 is the cascade: ignored). */
void i8259_set_irq(void *ctx, unsigned pin, bool level);
/* An edge of this input waits for its acknowledge and is not masked: another one would be lost. */
bool i8259_edge_waits(const struct i8259_pair *pair, unsigned pin);
/* The level of INTR. */
bool i8259_output(const struct i8259_pair *pair);
/*
 * INTA cycles: the vector, with the effects on IRR and ISR. Without a request the default level 7
 * is given and ISR stays (spurious interrupt). FFh if no slave answers the master's cascade.
 */
uint8_t i8259_ack(struct i8259_pair *pair);

/* ctx of all is the struct i8259_pair. Ports 20h-21h, A0h-A1h and 4D0h-4D1h. */
extern const struct io_ops i8259_master_ops, i8259_slave_ops, i8259_elcr_ops;

#endif
