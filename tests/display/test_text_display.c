/* Code page 437, text screens, and the terminal sink on a pseudo-terminal and a pipe. */
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "display/cp437.h"
#include "display/text_screen.h"
#include "display/text_sink.h"

static void test_cp437(void **state)
{
    (void)state;
    assert_int_equal(cp437_to_unicode('A'), 'A');
    assert_int_equal(cp437_to_unicode(0x00), ' ');
    assert_int_equal(cp437_to_unicode(0x01), 0x263a); /* white smiling face */
    assert_int_equal(cp437_to_unicode(0x7f), 0x2302); /* house */
    assert_int_equal(cp437_to_unicode(0x81), 0x00fc); /* u with diaeresis */
    assert_int_equal(cp437_to_unicode(0xb3), 0x2502); /* box drawings light vertical */
    assert_int_equal(cp437_to_unicode(0xdb), 0x2588); /* full block */
    assert_int_equal(cp437_to_unicode(0xe1), 0x00df); /* sharp s */
    assert_int_equal(cp437_to_unicode(0xff), ' ');
}

static void fill(struct text_screen *screen, unsigned columns, unsigned rows)
{
    memset(screen, 0, sizeof(*screen));
    screen->active = true;
    screen->columns = columns;
    screen->rows = rows;
    for (unsigned row = 0; row < rows; row++)
        for (unsigned column = 0; column < columns; column++)
            screen->cells[row][column] = (struct text_cell){' ', 7, 0, 0};
}

static void write_at(struct text_screen *screen, unsigned row, unsigned column, const char *text)
{
    for (; *text; text++)
        screen->cells[row][column++].character = (uint8_t)*text;
}

static void test_utf8(void **state)
{
    (void)state;
    static struct text_screen screen;
    char text[64];
    fill(&screen, 10, 3);
    write_at(&screen, 0, 0, "a b");
    screen.cells[1][1].character = 0xfc;
    screen.cells[1][2].character = 0x2588;
    size_t length = text_screen_to_utf8(&screen, text, sizeof(text));
    assert_string_equal(text, "a b\n \xc3\xbc\xe2\x96\x88\n\n");
    assert_int_equal(length, strlen(text));
    assert_int_equal(text_screen_to_utf8(&screen, text, 5), 4); /* whole lines only */
    assert_string_equal(text, "a b\n");
    assert_int_equal(text_screen_to_utf8(&screen, text, 4), 0);
    screen.active = false;
    assert_int_equal(text_screen_to_utf8(&screen, text, sizeof(text)), 0);
}

static void test_pipe_gets_last_screen(void **state)
{
    (void)state;
    static struct text_screen screen;
    struct display_sink sink;
    int fds[2];
    char text[256];
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(text_sink_create(&sink, fds[1], NULL), 0);
    assert_true(sink.wants_text);
    assert_false(sink.wants_surface);
    fill(&screen, 20, 2);
    write_at(&screen, 0, 0, "first");
    sink.update(sink.ctx, NULL, &screen);
    write_at(&screen, 0, 0, "final");
    sink.update(sink.ctx, NULL, &screen);
    sink.destroy(sink.ctx);
    ssize_t size = read(fds[0], text, sizeof(text));
    assert_int_equal(size, 7);
    assert_memory_equal(text, "final\n\n", 7);
    close(fds[0]);
    close(fds[1]);
}

static const char *drain(int fd, char *text, size_t size)
{
    ssize_t count = read(fd, text, size - 1);
    text[count > 0 ? count : 0] = 0;
    return text;
}

static void test_terminal_gets_changes(void **state)
{
    (void)state;
    static struct text_screen screen;
    struct display_sink sink;
    struct winsize size = {.ws_col = 15, .ws_row = 4};
    char text[4096];
    int master, slave;
    assert_int_equal(openpty(&master, &slave, NULL, NULL, &size), 0);
    struct termios raw;
    assert_int_equal(tcgetattr(slave, &raw), 0);
    cfmakeraw(&raw);
    assert_int_equal(tcsetattr(slave, TCSANOW, &raw), 0);
    assert_int_equal(text_sink_create(&sink, slave, NULL), 0);
    fill(&screen, 20, 5);
    write_at(&screen, 1, 2, "hello, world, this is clipped");
    screen.cursor_visible = true;
    screen.cursor_column = 3;
    screen.cursor_row = 2;
    sink.update(sink.ctx, NULL, &screen);
    drain(master, text, sizeof(text));
    assert_non_null(strstr(text, "\x1b[2J"));
    assert_non_null(strstr(text, "hello, world,"));
    assert_null(strstr(text, "clipped"));
    assert_non_null(strstr(text, "\x1b[3;4H\x1b[?25h"));

    /* One cell: position, colours (CGA light red on blue), character, cursor back. */
    screen.cells[1][2] = (struct text_cell){'H', 12, 1, 0};
    sink.update(sink.ctx, NULL, &screen);
    assert_string_equal(drain(master, text, sizeof(text)),
                        "\x1b[2;3H\x1b[0;91;44mH\x1b[3;4H\x1b[?25h");
    screen.cursor_visible = false;
    sink.update(sink.ctx, NULL, &screen);
    assert_string_equal(drain(master, text, sizeof(text)), "\x1b[?25l");

    screen.active = false;
    screen.width = 640;
    screen.height = 480;
    sink.update(sink.ctx, NULL, &screen);
    assert_non_null(strstr(drain(master, text, sizeof(text)), "640 x 480"));
    sink.destroy(sink.ctx);
    assert_non_null(strstr(drain(master, text, sizeof(text)), "\x1b[?25h"));
    close(master);
    close(slave);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cp437),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_pipe_gets_last_screen),
        cmocka_unit_test(test_terminal_gets_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
