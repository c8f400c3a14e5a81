/*
 * The 101/102-key PS/2 keyboard (IBM PS/2 hardware interface technical reference, "Keyboard"): scan
 * code sets 1, 2 and 3, typematic repeat, all commands. It talks to a controller (i8042).
 */
#ifndef VD_DEVICES_PS2_KEYBOARD_H
#define VD_DEVICES_PS2_KEYBOARD_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/ps2_queue.h"
#include "sched/timer.h"

/*
 * Key codes are the make codes of scan code set 1 (01h..7Fh); keys with the prefix E0h have
 * PS2_KEY_EXTENDED set.
 */
enum {
    PS2_KEY_EXTENDED = 0x100,
    PS2_KEY_PRINT_SCREEN = 0x137,
    PS2_KEY_PAUSE = 0x146,
};

struct ps2_keyboard_config {
    struct timer_queue *timers;
    struct vclock *clock;
    void (*ready)(void *ctx); /* a byte is waiting for ps2_keyboard_take */
    void *ctx;
};

struct ps2_keyboard {
    struct ps2_keyboard_config config;
    struct ps2_queue replies; /* to commands: sent before scan codes */
    struct ps2_queue keys;
    uint8_t last_sent;     /* for the command Resend */
    uint8_t command;       /* whose parameter is awaited, 0: none */
    uint8_t scanning;      /* keys are reported */
    uint8_t set;           /* scan code set 1, 2 or 3 */
    uint8_t leds;          /* bits 2..0: Caps, Num, Scroll Lock */
    uint8_t typematic;     /* as set by command F3h */
    uint8_t overrun;       /* the overrun code is in the queue already */
    uint8_t key_type[256]; /* set 3: by scan code, bit 0 repeats, bit 1 has a break code */
    uint8_t down[64];      /* keys that are held, by key code */
    uint16_t repeating;    /* key code, 0: none */
    struct timer repeat;
};

void ps2_keyboard_init(struct ps2_keyboard *keyboard, const struct ps2_keyboard_config *config);
/* Power-on, the self test over and its completion code taken by the firmware. */
void ps2_keyboard_reset(struct ps2_keyboard *keyboard);

/* From and to the controller. */
void ps2_keyboard_write(struct ps2_keyboard *keyboard, uint8_t byte);
bool ps2_keyboard_has_data(const struct ps2_keyboard *keyboard);
bool ps2_keyboard_take(struct ps2_keyboard *keyboard, uint8_t *byte);

/*
 * A key goes down or up. Repeated "down" is ignored: the keyboard repeats on its own. False: the
 * buffer was full and the key is lost (the guest gets the overrun code).
 */
bool ps2_keyboard_key(struct ps2_keyboard *keyboard, unsigned code, bool down);

#endif
