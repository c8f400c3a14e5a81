/* Pictures as PNG files. */
#ifndef VD_DISPLAY_PNG_FILE_H
#define VD_DISPLAY_PNG_FILE_H

#include "base/error.h"
#include "display/surface.h"

/* Writes (replaces) path as 8-bit RGB. -1 with err: empty surface, or the file cannot be written;
 * then no regular file is left behind. */
int png_file_write(const char *path, const struct surface *surface, struct vd_error *err);

#endif
