/*
 * The keyboard controller (Intel 8042 as programmed in the IBM PS/2: hardware interface technical
 * reference, "Keyboard and auxiliary device controller") with a keyboard and a mouse plugged in.
 *
 * Bytes of the devices arrive one by one with the delay of their serial line: software that reads
 * port 60h twice for one interrupt gets the same byte twice, as on hardware.
 */
#ifndef VD_DEVICES_I8042_H
#define VD_DEVICES_I8042_H

#include <stdbool.h>
#include <stdint.h>

#include "base/irq_line.h"
#include "devices/ps2_keyboard.h"
#include "devices/ps2_mouse.h"
#include "memory/address_space.h"
#include "sched/timer.h"

struct i8042_config {
    struct irq_line keyboard_irq, mouse_irq; /* IRQ 1 and 12 */
    struct timer_queue *timers;
    struct vclock *clock;
    void *ctx;
    void (*set_a20)(void *ctx, bool enabled); /* output port bit 1; may be NULL */
    void (*reset_cpu)(void *ctx);             /* output port bit 0 went low; may be NULL */
};

struct i8042 {
    struct i8042_config config;
    struct ps2_keyboard keyboard;
    struct ps2_mouse mouse;
    uint8_t ram[32];          /* byte 0: the command byte */
    uint8_t output;           /* output buffer (read at 60h) */
    uint8_t output_full;      /* status bit 0 */
    uint8_t output_aux;       /* status bit 5: the byte comes from the mouse */
    uint8_t last_was_command; /* status bit 3 */
    uint8_t command;          /* whose data byte is awaited, 0: none */
    uint8_t output_port;      /* reset, A20 */
    uint8_t break_prefix;     /* translation: F0h was received */
    uint8_t aux_turn;         /* both devices have data: the mouse is next */
    struct ps2_queue replies; /* of the controller itself */
    struct timer transfer;    /* a byte is on its way from a device */
};

void i8042_init(struct i8042 *kbc, const struct i8042_config *config);
void i8042_reset(struct i8042 *kbc);

/* Input from the user; see ps2_keyboard.h and ps2_mouse.h. */
bool i8042_key(struct i8042 *kbc, unsigned code, bool down);
void i8042_mouse(struct i8042 *kbc, int dx, int dy, int dz, unsigned buttons);

/* ctx of both is the struct i8042. Port 60h and port 64h, one port each. */
extern const struct io_ops i8042_data_ops, i8042_command_ops;

#endif
