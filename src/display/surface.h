/* A picture in host memory, with the parts that changed since its consumers last looked. */
#ifndef VD_DISPLAY_SURFACE_H
#define VD_DISPLAY_SURFACE_H

#include <stddef.h>
#include <stdint.h>

enum { SURFACE_MAX_DIRTY = 16, SURFACE_MAX_WIDTH = 8192, SURFACE_MAX_HEIGHT = 8192 };

struct rect {
    unsigned x, y, width, height;
};

struct surface {
    uint32_t *pixels; /* XRGB: red in bits 16-23; bits 24-31 are not defined */
    unsigned width, height;
    size_t stride;        /* pixels from one row to the next */
    size_t capacity;      /* pixels allocated */
    uint64_t generation;  /* counts changes of size */
    unsigned dirty_count; /* rectangles may overlap */
    struct rect dirty[SURFACE_MAX_DIRTY];
};

void surface_init(struct surface *surface);
void surface_free(struct surface *surface);
/* Black picture of the new size, all dirty; nothing happens if the size is the same. -1: no memory
 * or too large, the surface is unchanged. */
int surface_resize(struct surface *surface, unsigned width, unsigned height);
void surface_mark_dirty(struct surface *surface, unsigned x, unsigned y, unsigned width,
                        unsigned height);
void surface_clear_dirty(struct surface *surface);

static inline uint32_t *surface_row(const struct surface *surface, unsigned y)
{
    return surface->pixels + surface->stride * y;
}

#endif
