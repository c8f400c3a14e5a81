/*
 * One screen: a device that fills it (the source) and any number of consumers (sinks).
 *
 * A device knows nothing of sinks and a sink nothing of devices; both see struct surface and struct
 * text_screen. With at least one sink a thread asks the source for changes 30 times a second and
 * passes them on; without sinks nothing runs until somebody asks for a screenshot.
 *
 * A new sink (a window, VNC) is one file that fills struct display_sink.
 *
 * Locks: the display's own mutex is taken before the machine lock. Never call these functions with
 * the machine lock held.
 */
#ifndef VD_DISPLAY_DISPLAY_H
#define VD_DISPLAY_DISPLAY_H

#include <pthread.h>
#include <stdbool.h>

#include "base/error.h"
#include "display/surface.h"
#include "display/text_screen.h"

struct display;

struct display_source {
    void *ctx;
    pthread_mutex_t *lock; /* the machine lock, taken around refresh */
    /*
     * Brings both up to date and marks what changed in the surface; either may be NULL when nobody
     * wants it.
     */
    void (*refresh)(void *ctx, struct surface *surface, struct text_screen *text);
};

struct display_sink {
    void *ctx;
    bool wants_surface, wants_text;
    /*
     * On the display's thread, after a refresh; the surface's dirty rectangles are those since the
     * last update. What the sink did not want is NULL.
     */
    void (*update)(void *ctx, const struct surface *surface, const struct text_screen *text);
    void (*destroy)(void *ctx); /* the last update has been made */
};

int display_create(struct display **display, struct vd_error *err);
/* Stops, destroys the sinks. */
void display_destroy(struct display *display);
void display_set_source(struct display *display, const struct display_source *source);
/* Copies sink and owns its ctx from now on, also on failure. Before display_start. */
int display_add_sink(struct display *display, const struct display_sink *sink,
                     struct vd_error *err);
/* Starts the thread if there are sinks. */
int display_start(struct display *display, struct vd_error *err);
/* Ends the thread after a last refresh, so that sinks have the final picture. */
void display_stop(struct display *display);
/* Refreshes and writes the picture as PNG. Any thread. */
int display_screenshot(struct display *display, const char *path, struct vd_error *err);
/* Refreshes and gives the text screen as text_screen_to_utf8 does; 0 in a graphics mode. */
size_t display_text(struct display *display, char *text, size_t size);

#endif
