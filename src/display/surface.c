#include "display/surface.h"

#include <stdlib.h>
#include <string.h>

void surface_init(struct surface *surface)
{
    memset(surface, 0, sizeof(*surface));
}

void surface_free(struct surface *surface)
{
    free(surface->pixels);
    surface_init(surface);
}

int surface_resize(struct surface *surface, unsigned width, unsigned height)
{
    if (width == surface->width && height == surface->height)
        return 0;
    if (!width || !height || width > SURFACE_MAX_WIDTH || height > SURFACE_MAX_HEIGHT)
        return -1;
    size_t count = (size_t)width * height;
    if (count > surface->capacity) {
        uint32_t *pixels = malloc(count * sizeof(*pixels));
        if (!pixels)
            return -1;
        free(surface->pixels);
        surface->pixels = pixels;
        surface->capacity = count;
    }
    memset(surface->pixels, 0, count * sizeof(*surface->pixels));
    surface->width = width;
    surface->height = height;
    surface->stride = width;
    surface->generation++;
    surface->dirty_count = 0;
    surface_mark_dirty(surface, 0, 0, width, height);
    return 0;
}

static struct rect rect_union(struct rect a, struct rect b)
{
    unsigned x = a.x < b.x ? a.x : b.x;
    unsigned y = a.y < b.y ? a.y : b.y;
    unsigned right = a.x + a.width > b.x + b.width ? a.x + a.width : b.x + b.width;
    unsigned bottom = a.y + a.height > b.y + b.height ? a.y + a.height : b.y + b.height;
    return (struct rect){x, y, right - x, bottom - y};
}

void surface_mark_dirty(struct surface *surface, unsigned x, unsigned y, unsigned width,
                        unsigned height)
{
    if (x >= surface->width || y >= surface->height || !width || !height)
        return;
    if (width > surface->width - x)
        width = surface->width - x;
    if (height > surface->height - y)
        height = surface->height - y;
    struct rect rect = {x, y, width, height};
    if (surface->dirty_count) {
        /* Devices report row by row: grow the last rectangle downwards. */
        struct rect *last = &surface->dirty[surface->dirty_count - 1];
        if (last->x == x && last->width == width && y >= last->y && y <= last->y + last->height) {
            *last = rect_union(*last, rect);
            return;
        }
    }
    if (surface->dirty_count < SURFACE_MAX_DIRTY) {
        surface->dirty[surface->dirty_count++] = rect;
        return;
    }
    for (unsigned i = 0; i < surface->dirty_count; i++)
        rect = rect_union(rect, surface->dirty[i]);
    surface->dirty[0] = rect;
    surface->dirty_count = 1;
}

void surface_clear_dirty(struct surface *surface)
{
    surface->dirty_count = 0;
}
