#include "display/text_screen.h"

#include <string.h>

size_t text_utf8(uint32_t character, char *bytes)
{
    if (character < 0x80) {
        bytes[0] = (char)character;
        return 1;
    }
    if (character < 0x800) {
        bytes[0] = (char)(0xc0 | character >> 6);
        bytes[1] = (char)(0x80 | (character & 0x3f));
        return 2;
    }
    bytes[0] = (char)(0xe0 | character >> 12);
    bytes[1] = (char)(0x80 | (character >> 6 & 0x3f));
    bytes[2] = (char)(0x80 | (character & 0x3f));
    return 3;
}

size_t text_screen_to_utf8(const struct text_screen *screen, char *text, size_t size)
{
    size_t length = 0;
    if (!size)
        return 0;
    for (unsigned row = 0; screen->active && row < screen->rows; row++) {
        const struct text_cell *cells = screen->cells[row];
        char line[TEXT_MAX_COLUMNS * 3 + 1];
        size_t used = 0, end = 0;
        for (unsigned column = 0; column < screen->columns; column++) {
            used += text_utf8(cells[column].character, line + used);
            if (cells[column].character != ' ')
                end = used;
        }
        line[end++] = '\n';
        if (length + end >= size)
            break;
        memcpy(text + length, line, end);
        length += end;
    }
    text[length] = 0;
    return length;
}
