/*
 * Raw mode of the controlling terminal. The terminal belongs to the process, so at most one raw
 * session exists at a time; it survives SIGTSTP/SIGCONT and is undone by fatal signals.
 */
#ifndef VD_HOSTIO_TERMINAL_H
#define VD_HOSTIO_TERMINAL_H

#include <stdbool.h>

/*
 * Puts the terminal fd into raw mode (no echo, no line editing, no signal keys; output processing
 * stays on) and installs handlers, each only where the disposition is still the default. In a
 * background process group the switch waits for SIGCONT. -1: not a terminal, or a session exists.
 */
int terminal_raw_enter(int fd);
/* Restores the settings and dispositions found at enter. */
void terminal_raw_leave(void);
/*
 * Installs the handlers of the signals that crashes raise, where the disposition is the default,
 * for good. To be called before handlers that pass on what is not theirs come on top, which
 * terminal_raw_enter would otherwise find in its place.
 */
void terminal_guard_crashes(void);
/*
 * For handlers of fatal signals that were installed over ours: makes the terminal usable before the
 * process dies. Async-signal-safe; does nothing without a session.
 */
void terminal_rescue(void);
/* Whether reads from fd now would be refused because the process is in the background. */
bool terminal_in_background(int fd);

#endif
