/* What a text mode shows, as characters: for terminals, tests and screen readers. */
#ifndef VD_DISPLAY_TEXT_SCREEN_H
#define VD_DISPLAY_TEXT_SCREEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TEXT_MAX_COLUMNS = 256, TEXT_MAX_ROWS = 128 };

enum text_flags { TEXT_BLINK = 1, TEXT_UNDERLINE = 2 };

struct text_cell {
    uint16_t character;             /* Unicode, basic multilingual plane */
    uint8_t foreground, background; /* 0..15 in the order of the CGA: blue is 1, red is 4 */
    uint8_t flags;                  /* enum text_flags */
};

struct text_screen {
    bool active; /* false: a graphics mode of width x height pixels, or nothing, is shown */
    unsigned width, height;
    unsigned columns, rows;
    bool cursor_visible; /* whatever the phase of its blinking */
    unsigned cursor_column, cursor_row;
    struct text_cell cells[TEXT_MAX_ROWS][TEXT_MAX_COLUMNS];
};

/* Encodes one character as UTF-8; returns 1..3 bytes. */
size_t text_utf8(uint32_t character, char *bytes);
/*
 * Writes the rows as UTF-8 lines without trailing blanks, a newline after each, NUL at the end.
 * Stops before size bytes are exceeded. Returns the length without the NUL.
 */
size_t text_screen_to_utf8(const struct text_screen *screen, char *text, size_t size);

#endif
