/*
 * The PS/2 mouse (IBM PS/2 hardware interface technical reference, "Auxiliary device"), with the
 * wheel and five-button extensions of the IntelliMouse. It talks to a controller (i8042).
 */
#ifndef VD_DEVICES_PS2_MOUSE_H
#define VD_DEVICES_PS2_MOUSE_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/ps2_queue.h"
#include "sched/timer.h"

enum {
    PS2_BUTTON_LEFT = 1 << 0,
    PS2_BUTTON_RIGHT = 1 << 1,
    PS2_BUTTON_MIDDLE = 1 << 2,
    PS2_BUTTON_4 = 1 << 3,
    PS2_BUTTON_5 = 1 << 4,
};

struct ps2_mouse_config {
    struct timer_queue *timers;
    struct vclock *clock;
    void (*ready)(void *ctx); /* a byte is waiting for ps2_mouse_take */
    void *ctx;
};

struct ps2_mouse {
    struct ps2_mouse_config config;
    struct ps2_queue replies; /* to commands: sent before movement */
    struct ps2_queue packets;
    uint8_t last_sent;
    uint8_t command;      /* whose parameter is awaited, 0: none */
    uint8_t wrap, remote; /* modes; neither: stream mode */
    uint8_t reporting;    /* stream mode: packets are sent */
    uint8_t scaling21;    /* scaling 2:1 */
    uint8_t resolution;   /* 0..3: 1, 2, 4, 8 counts per mm; reported, counts are not scaled */
    uint8_t rate;         /* samples per second */
    uint8_t id;           /* 0, with wheel 3, with five buttons 4 */
    uint8_t knock[2];     /* the two sample rates set before the last */
    uint8_t errors;       /* invalid bytes in a row */
    uint8_t buttons;      /* PS2_BUTTON_* now */
    uint8_t sent_buttons; /* ... in the last packet */
    int32_t dx, dy, dz;   /* movement not reported yet; dy and dz grow downwards */
    struct timer sample;  /* armed: the last packet is less than a sample period old */
};

void ps2_mouse_init(struct ps2_mouse *mouse, const struct ps2_mouse_config *config);
/* Power-on, the self test over and its completion code taken by the firmware. */
void ps2_mouse_reset(struct ps2_mouse *mouse);

/* From and to the controller. */
void ps2_mouse_write(struct ps2_mouse *mouse, uint8_t byte);
bool ps2_mouse_has_data(const struct ps2_mouse *mouse);
bool ps2_mouse_take(struct ps2_mouse *mouse, uint8_t *byte);

/* Moves right by dx, down by dy, turns the wheel towards the user by dz; buttons are as given now.
 */
void ps2_mouse_move(struct ps2_mouse *mouse, int dx, int dy, int dz, unsigned buttons);

#endif
