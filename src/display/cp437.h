/* Code page 437, the character set of the PC's display adapters. */
#ifndef VD_DISPLAY_CP437_H
#define VD_DISPLAY_CP437_H

#include <stdint.h>

/* The Unicode character that looks like the glyph; blanks (00h, FFh) give a space. */
uint32_t cp437_to_unicode(uint8_t character);

#endif
