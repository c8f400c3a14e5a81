/*
 * The PC's two DMA controllers (Intel 8237A data sheet) and their page registers (ports 80h-8Fh).
 * Channels 0-3 move bytes within a 64 KiB page, 5-7 move words within 128 KiB.
 *
 * The device drives a transfer: it calls i8237_transfer when it has or wants data. As in PIIX chip
 * sets there are no memory-to-memory transfers; channel 4 only cascades.
 */
#ifndef VD_DEVICES_I8237_H
#define VD_DEVICES_I8237_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memory/address_space.h"

struct i8237_channel {
    uint16_t base_address, base_count;
    uint16_t address, count; /* current; count is the number of transfers minus one */
    uint8_t mode;            /* mode register, bits 7..2 */
};

struct i8237_controller {
    struct i8237_channel channel[4];
    uint8_t command;
    uint8_t mask;      /* bit n: channel n is masked */
    uint8_t request;   /* software requests */
    uint8_t dreq;      /* levels of the DREQ lines */
    uint8_t reached;   /* terminal counts since the status was read */
    uint8_t flip_flop; /* 1: the high byte is next */
};

struct i8237 {
    struct address_space *as;
    struct i8237_controller controller[2];
    uint8_t page[16]; /* ports 80h-8Fh; those that belong to no channel just store */
};

void i8237_init(struct i8237 *dma, struct address_space *as);
void i8237_reset(struct i8237 *dma);

/* The DREQ line of channel 0..7, for the status register. */
void i8237_set_dreq(struct i8237 *dma, unsigned channel, bool level);
/*
 * Moves up to size bytes (channels 5-7: rounded down to words) between buffer and memory, in the
 * direction the guest has programmed: "write" takes from buffer, "read" fills it, "verify" does
 * neither. Returns the bytes moved: fewer at the terminal count (then *tc is set), none if the
 * channel is masked, in cascade mode or its controller is disabled.
 */
size_t i8237_transfer(struct i8237 *dma, unsigned channel, void *buffer, size_t size, bool *tc);

/* ctx of all is the struct i8237. Ports 00h-0Fh, C0h-DFh and 80h-8Fh. */
extern const struct io_ops i8237_low_ops, i8237_high_ops, i8237_page_ops;

#endif
