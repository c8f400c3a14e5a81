#include "display/png_file.h"

#include <errno.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static uint8_t *to_rgb(const struct surface *surface)
{
    uint8_t *rgb = malloc((size_t)surface->width * surface->height * 3);
    uint8_t *out = rgb;
    if (!rgb)
        return NULL;
    for (unsigned y = 0; y < surface->height; y++) {
        const uint32_t *row = surface_row(surface, y);
        for (unsigned x = 0; x < surface->width; x++) {
            *out++ = (uint8_t)(row[x] >> 16);
            *out++ = (uint8_t)(row[x] >> 8);
            *out++ = (uint8_t)row[x];
        }
    }
    return rgb;
}

static int write_stream(const char *path, FILE *file, const struct surface *surface,
                        struct vd_error *err)
{
    /* libpng's simplified interface reports errors by return value instead of longjmp. */
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = surface->width,
                       .height = surface->height,
                       .format = PNG_FORMAT_RGB};
    uint8_t *rgb = to_rgb(surface);
    if (!rgb)
        return error_set(err, "cannot write '%s': out of memory", path);
    int ok = png_image_write_to_stdio(&image, file, 0, rgb, 0, NULL);
    free(rgb);
    if (!ok)
        return error_set(err, "cannot write '%s': %s", path, image.message);
    return 0;
}

int png_file_write(const char *path, const struct surface *surface, struct vd_error *err)
{
    if (!surface->width || !surface->height)
        return error_set(err, "cannot write '%s': there is no picture", path);
    struct stat st;
    FILE *file = fopen(path, "wbe");
    if (!file)
        return error_set(err, "cannot write '%s': %s", path, strerror(errno));
    int status = write_stream(path, file, surface, err);
    if (fclose(file) && !status)
        status = error_set(err, "cannot write '%s': %s", path, strerror(errno));
    /* Not a device the caller named on purpose. */
    if (status && stat(path, &st) == 0 && S_ISREG(st.st_mode))
        unlink(path);
    return status;
}
