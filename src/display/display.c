#include "display/display.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "display/png_file.h"

enum { MAX_SINKS = 4, REFRESH_NS = 1000000000 / 30 };

struct display {
    pthread_mutex_t mutex;
    pthread_cond_t stop_wanted;
    struct display_source source;
    struct surface surface;
    struct text_screen *text;
    struct display_sink sinks[MAX_SINKS];
    unsigned sink_count;
    pthread_t thread;
    bool running, stopping;
};

int display_create(struct display **result, struct vd_error *err)
{
    struct display *display = calloc(1, sizeof(*display));
    struct text_screen *text = calloc(1, sizeof(*text));
    pthread_condattr_t attr;
    if (!display || !text) {
        free(display);
        free(text);
        return error_set(err, "out of memory for the display");
    }
    display->text = text;
    surface_init(&display->surface);
    pthread_mutex_init(&display->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&display->stop_wanted, &attr);
    pthread_condattr_destroy(&attr);
    *result = display;
    return 0;
}

void display_destroy(struct display *display)
{
    if (!display)
        return;
    display_stop(display);
    for (unsigned i = 0; i < display->sink_count; i++)
        display->sinks[i].destroy(display->sinks[i].ctx);
    pthread_cond_destroy(&display->stop_wanted);
    pthread_mutex_destroy(&display->mutex);
    surface_free(&display->surface);
    free(display->text);
    free(display);
}

void display_set_source(struct display *display, const struct display_source *source)
{
    pthread_mutex_lock(&display->mutex);
    display->source = *source;
    pthread_mutex_unlock(&display->mutex);
}

int display_add_sink(struct display *display, const struct display_sink *sink, struct vd_error *err)
{
    if (display->sink_count == MAX_SINKS) {
        sink->destroy(sink->ctx);
        return error_set(err, "too many displays");
    }
    display->sinks[display->sink_count++] = *sink;
    return 0;
}

/* With the mutex held. */
static void refresh(struct display *display, struct surface *surface, struct text_screen *text)
{
    const struct display_source *source = &display->source;
    if (!source->refresh)
        return;
    if (source->lock)
        pthread_mutex_lock(source->lock);
    source->refresh(source->ctx, surface, text);
    if (source->lock)
        pthread_mutex_unlock(source->lock);
}

static void update_sinks(struct display *display)
{
    bool want_surface = false, want_text = false;
    for (unsigned i = 0; i < display->sink_count; i++) {
        want_surface |= display->sinks[i].wants_surface;
        want_text |= display->sinks[i].wants_text;
    }
    refresh(display, want_surface ? &display->surface : NULL, want_text ? display->text : NULL);
    for (unsigned i = 0; i < display->sink_count; i++) {
        const struct display_sink *sink = &display->sinks[i];
        sink->update(sink->ctx, sink->wants_surface ? &display->surface : NULL,
                     sink->wants_text ? display->text : NULL);
    }
    if (want_surface)
        surface_clear_dirty(&display->surface);
}

static void *display_thread(void *arg)
{
    struct display *display = arg;
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    pthread_mutex_lock(&display->mutex);
    while (!display->stopping) {
        next.tv_nsec += REFRESH_NS;
        if (next.tv_nsec >= 1000000000) {
            next.tv_nsec -= 1000000000;
            next.tv_sec++;
        }
        update_sinks(display);
        while (!display->stopping)
            if (pthread_cond_timedwait(&display->stop_wanted, &display->mutex, &next))
                break;
        /* After a long pause of the host start a new rhythm instead of catching up. */
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec > next.tv_sec + 1)
            next = now;
    }
    update_sinks(display);
    pthread_mutex_unlock(&display->mutex);
    return NULL;
}

int display_start(struct display *display, struct vd_error *err)
{
    sigset_t all, old;
    if (!display->sink_count || display->running)
        return 0;
    display->stopping = false;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int status = pthread_create(&display->thread, NULL, display_thread, display);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (status)
        return error_set(err, "cannot start a thread for the display: %s", strerror(status));
    display->running = true;
    return 0;
}

void display_stop(struct display *display)
{
    if (!display->running)
        return;
    pthread_mutex_lock(&display->mutex);
    display->stopping = true;
    pthread_cond_signal(&display->stop_wanted);
    pthread_mutex_unlock(&display->mutex);
    pthread_join(display->thread, NULL);
    display->running = false;
}

int display_screenshot(struct display *display, const char *path, struct vd_error *err)
{
    pthread_mutex_lock(&display->mutex);
    refresh(display, &display->surface, NULL);
    int status = png_file_write(path, &display->surface, err);
    pthread_mutex_unlock(&display->mutex);
    return status;
}

size_t display_text(struct display *display, char *text, size_t size)
{
    pthread_mutex_lock(&display->mutex);
    refresh(display, NULL, display->text);
    size_t length = text_screen_to_utf8(display->text, text, size);
    pthread_mutex_unlock(&display->mutex);
    return length;
}
