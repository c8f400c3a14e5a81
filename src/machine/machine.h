/*
 * A virtual PC: the board (pc_i440fx.c), one virtual processor of a given engine, and the thread
 * that runs it.
 *
 * Back ends (character devices, display) are the caller's: they are opened before machine_create
 * and, because their threads call into devices, closed before machine_destroy.
 */
#ifndef VD_MACHINE_MACHINE_H
#define VD_MACHINE_MACHINE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "display/display.h"
#include "engine/engine.h"
#include "hostio/chardev.h"

enum { MACHINE_SERIAL_COUNT = 2 };

struct machine_config {
    uint64_t ram_size;                            /* bytes, a multiple of 1 MiB */
    const char *cpu_model;                        /* see cpuid_model_init; NULL: the default */
    const char *firmware;                         /* BIOS image; NULL: the installed SeaBIOS */
    const char *vga_bios;                         /* NULL: the installed one, if any; "none" */
    const char *kernel;                           /* to boot directly, see kernel_boot.h; or NULL */
    const char *initrd, *append;                  /* need kernel; may be NULL */
    struct chardev *serial[MACHINE_SERIAL_COUNT]; /* COM1, COM2; NULL: nothing plugged in */
    struct chardev *debugcon;                     /* NULL: no such device */
    uint16_t debugcon_port;                       /* not 0 if there is one */
    struct chardev *post_card;                    /* NULL: no such device */
    uint16_t debug_exit_port; /* four ports from here on end the run; 0: no such device */
    bool test_device;         /* see devices/test_device.h */
    bool no_reboot;           /* a reset that the guest asks for ends the run */
    struct display *display;  /* gets the VGA as its source; may be NULL */
    const struct engine_ops *engine;
    unsigned trace;         /* enum trace_flags */
    size_t code_cache_size; /* bytes, 0: the engine's default */
    bool count_events;      /* see struct engine_config */
    bool exact_flags;       /* see struct engine_config */
};

enum machine_end {
    MACHINE_POWERED_OFF,
    MACHINE_STOPPED, /* machine_stop */
    MACHINE_REBOOT,  /* the guest reset the machine and no_reboot is set */
    MACHINE_TRIPLE_FAULT,
    MACHINE_DEBUG_EXIT,
};

struct machine_result {
    enum machine_end end;
    uint32_t value; /* MACHINE_DEBUG_EXIT: the exit code */
    char text[256]; /* MACHINE_TRIPLE_FAULT: where; else empty */
};

struct machine;

/* Whether a machine with that processor (NULL: the default) can have so many bytes of RAM. -1: no.
 */
int machine_check_memory(uint64_t ram_size, const char *cpu_model, struct vd_error *err);
/*
 * Builds the machine in its power-on state. Strings and config are not needed afterwards. -1 with
 * err: a wrong configuration or file, or the host lacks memory; nothing is left behind.
 */
int machine_create(struct machine **machine, const struct machine_config *config,
                   struct vd_error *err);
void machine_destroy(struct machine *machine); /* NULL is fine */

/*
 * Runs until one of the ends; virtual time passes only meanwhile. -1: host failure. May be called
 * again; after POWERED_OFF, REBOOT and TRIPLE_FAULT the guest needs machine_reset first. One thread
 * at a time.
 */
int machine_run(struct machine *machine, struct machine_result *result, struct vd_error *err);
/* Ends the run soon, or the next one at once. Any thread, without the machine lock. */
void machine_stop(struct machine *machine);
/* The reset button. Any thread. */
void machine_reset(struct machine *machine);
/* The power button, short: an ACPI event. Any thread. */
void machine_power_button(struct machine *machine);
/* Input of the PS/2 keyboard and mouse; see i8042.h for codes. False: the keyboard's buffer is
 * full. */
bool machine_key(struct machine *machine, unsigned code, bool down);
void machine_mouse(struct machine *machine, int dx, int dy, int dz, unsigned buttons);

/* Engine statistics, as lines or one JSON object. Not while it runs. */
void machine_stats(struct machine *machine, FILE *out, bool json);
/* The address space, for debuggers and tests. */
struct address_space *machine_address_space(struct machine *machine);

#endif
