#include "display/text_sink.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { OUTPUT_SIZE = 16384, LONGEST_CELL = 64 };

struct text_sink {
    int fd;
    bool terminal;
    bool drawn;             /* shown holds what the terminal shows */
    unsigned columns, rows; /* visible part: the smaller of screen and terminal */
    struct text_cell pen;   /* attributes in force */
    bool pen_known;
    struct text_screen shown, plain;
    char out[OUTPUT_SIZE];
    size_t used;
};

static void flush(struct text_sink *sink)
{
    const char *bytes = sink->out;
    while (sink->used) {
        ssize_t done = write(sink->fd, bytes, sink->used);
        if (done > 0) {
            bytes += done;
            sink->used -= (size_t)done;
        } else if (done < 0 && errno == EAGAIN) {
            struct pollfd pollfd = {.fd = sink->fd, .events = POLLOUT};
            poll(&pollfd, 1, 1000);
        } else if (done == 0 || errno != EINTR) {
            sink->used = 0; /* nobody can see it any more */
        }
    }
}

static void put(struct text_sink *sink, const char *bytes, size_t size)
{
    if (sink->used + size > OUTPUT_SIZE)
        flush(sink);
    memcpy(sink->out + sink->used, bytes, size);
    sink->used += size;
}

__attribute__((format(printf, 2, 3))) static void put_format(struct text_sink *sink,
                                                             const char *format, ...)
{
    char text[LONGEST_CELL];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    put(sink, text, (size_t)length);
}

/* The CGA counts blue-green-red, ECMA-48 red-green-blue. */
static unsigned ansi_colour(unsigned cga)
{
    return (cga & 2) | (cga & 1) << 2 | (cga >> 2 & 1);
}

static void put_pen(struct text_sink *sink, const struct text_cell *cell)
{
    if (sink->pen_known && sink->pen.foreground == cell->foreground &&
        sink->pen.background == cell->background && sink->pen.flags == cell->flags)
        return;
    put_format(sink, "\x1b[0;%u;%u%s%sm",
               (cell->foreground & 8 ? 90 : 30) + ansi_colour(cell->foreground),
               (cell->background & 8 ? 100 : 40) + ansi_colour(cell->background),
               cell->flags & TEXT_BLINK ? ";5" : "", cell->flags & TEXT_UNDERLINE ? ";4" : "");
    sink->pen = *cell;
    sink->pen_known = true;
}

static bool cell_equal(const struct text_cell *a, const struct text_cell *b)
{
    return a->character == b->character && a->foreground == b->foreground &&
           a->background == b->background && a->flags == b->flags;
}

static void draw_row(struct text_sink *sink, const struct text_screen *screen, unsigned row)
{
    unsigned at = UINT32_MAX; /* column of the terminal's cursor, if it is in this row */
    for (unsigned column = 0; column < sink->columns; column++) {
        const struct text_cell *cell = &screen->cells[row][column];
        char bytes[4];
        if (sink->drawn && cell_equal(cell, &sink->shown.cells[row][column]))
            continue;
        if (at != column)
            put_format(sink, "\x1b[%u;%uH", row + 1, column + 1);
        put_pen(sink, cell);
        put(sink, bytes, text_utf8(cell->character, bytes));
        at = column + 1;
    }
}

static void draw_cursor(struct text_sink *sink, const struct text_screen *screen, bool moved)
{
    bool visible = screen->active && screen->cursor_visible &&
                   screen->cursor_column < sink->columns && screen->cursor_row < sink->rows;
    if (visible && moved)
        put_format(sink, "\x1b[%u;%uH\x1b[?25h", screen->cursor_row + 1, screen->cursor_column + 1);
    else if (moved)
        put_format(sink, "\x1b[?25l");
}

static void start_over(struct text_sink *sink, const struct text_screen *screen)
{
    struct winsize size;
    sink->columns = screen->columns;
    sink->rows = screen->rows;
    if (ioctl(sink->fd, TIOCGWINSZ, &size) == 0 && size.ws_col && size.ws_row) {
        if (sink->columns > size.ws_col)
            sink->columns = size.ws_col;
        if (sink->rows > size.ws_row)
            sink->rows = size.ws_row;
    }
    sink->drawn = false;
    sink->pen_known = false;
    put_format(sink, "\x1b[0m\x1b[2J\x1b[H");
    if (!screen->active && screen->width)
        put_format(sink, "[graphics, %u x %u]", screen->width, screen->height);
}

static void sink_update(void *ctx, const struct surface *surface, const struct text_screen *screen)
{
    struct text_sink *sink = ctx;
    const struct text_screen *shown = &sink->shown;
    (void)surface;
    if (!sink->terminal) {
        if (screen->active)
            sink->plain = *screen;
        return;
    }
    bool same = sink->drawn && shown->active == screen->active &&
                shown->columns == screen->columns && shown->rows == screen->rows &&
                shown->width == screen->width && shown->height == screen->height;
    if (!same)
        start_over(sink, screen);
    size_t before = sink->used;
    for (unsigned row = 0; screen->active && row < sink->rows; row++)
        draw_row(sink, screen, row);
    draw_cursor(sink, screen,
                !same || sink->used != before || shown->cursor_visible != screen->cursor_visible ||
                    shown->cursor_column != screen->cursor_column ||
                    shown->cursor_row != screen->cursor_row);
    sink->shown = *screen;
    sink->drawn = true;
    flush(sink);
}

static void write_plain(struct text_sink *sink)
{
    size_t size = (size_t)TEXT_MAX_ROWS * (TEXT_MAX_COLUMNS * 3 + 1) + 1;
    char *text = malloc(size);
    if (!text)
        return;
    size_t length = text_screen_to_utf8(&sink->plain, text, size);
    for (size_t i = 0; i < length; i += OUTPUT_SIZE) {
        put(sink, text + i, length - i < OUTPUT_SIZE ? length - i : OUTPUT_SIZE);
        flush(sink);
    }
    free(text);
}

static void sink_destroy(void *ctx)
{
    struct text_sink *sink = ctx;
    if (!sink->terminal)
        write_plain(sink);
    else if (sink->drawn)
        put_format(sink, "\x1b[0m\x1b[?25h\x1b[%u;1H\r\n", sink->rows ? sink->rows : 1);
    flush(sink);
    free(sink);
}

int text_sink_create(struct display_sink *result, int fd, struct vd_error *err)
{
    struct text_sink *sink = calloc(1, sizeof(*sink));
    if (!sink)
        return error_set(err, "out of memory for the text display");
    sink->fd = fd;
    sink->terminal = isatty(fd);
    *result = (struct display_sink){
        .ctx = sink, .wants_text = true, .update = sink_update, .destroy = sink_destroy};
    return 0;
}
