/* Against the IBM PS/2 hardware interface technical reference (controller, keyboard, mouse). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "devices/i8042.h"

static struct vclock vclock;
static struct timer_queue timers;
static struct i8042 kbc;
static bool irq[16], a20;
static unsigned edges[16], resets;

static const uint64_t MS = 1000000;

static void on_irq(void *ctx, unsigned pin, bool level)
{
    (void)ctx;
    if (level && !irq[pin])
        edges[pin]++;
    irq[pin] = level;
}

static void on_a20(void *ctx, bool enabled)
{
    (void)ctx;
    a20 = enabled;
}

static void on_reset(void *ctx)
{
    (void)ctx;
    resets++;
}

static void run_for(uint64_t ns)
{
    uint64_t end = vclock.paused_ns + ns;
    while (timer_queue_next(&timers) <= end) {
        if (timer_queue_next(&timers) > vclock.paused_ns)
            vclock.paused_ns = timer_queue_next(&timers);
        timer_queue_run(&timers);
    }
    vclock.paused_ns = end;
}

static void data(uint8_t value)
{
    i8042_data_ops.write(&kbc, 0, value, 1);
}

static void command(uint8_t value)
{
    i8042_command_ops.write(&kbc, 0, value, 1);
}

static uint8_t status(void)
{
    return (uint8_t)i8042_command_ops.read(&kbc, 0, 1);
}

static uint8_t read_data(void)
{
    return (uint8_t)i8042_data_ops.read(&kbc, 0, 1);
}

/* The next byte, waiting for it; source 1: keyboard, 2: mouse. -1: none within 5 ms. */
static int next(int *source)
{
    for (int i = 0; i < 50 && !(status() & 1); i++)
        run_for(MS / 10);
    if (!(status() & 1))
        return -1;
    if (source)
        *source = status() & 0x20 ? 2 : 1;
    return read_data();
}

static void expect_from(int source, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        int from = 0, byte = next(&from);
        assert_int_equal(byte, bytes[i]);
        assert_int_equal(from, source);
    }
    assert_int_equal(next(NULL), -1);
}

#define expect_keyboard(...)                                                                       \
    expect_from(1, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))
#define expect_mouse(...)                                                                          \
    expect_from(2, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))
#define expect_nothing() assert_int_equal(next(NULL), -1)

static void keyboard(uint8_t byte)
{
    data(byte);
    expect_keyboard(0xfa);
}

static void mouse(uint8_t byte)
{
    command(0xd4);
    data(byte);
    expect_mouse(0xfa);
}

static void set_ccb(uint8_t value)
{
    command(0x60);
    data(value);
}

static void key(unsigned code)
{
    assert_true(i8042_key(&kbc, code, true));
    assert_true(i8042_key(&kbc, code, false));
}

static int setup(void **state)
{
    (void)state;
    memset(&vclock, 0, sizeof(vclock));
    vclock.paused = 1;
    timer_queue_init(&timers, &vclock);
    struct i8042_config config = {.keyboard_irq = {.set = on_irq, .pin = 1},
                                  .mouse_irq = {.set = on_irq, .pin = 12},
                                  .timers = &timers,
                                  .clock = &vclock,
                                  .set_a20 = on_a20,
                                  .reset_cpu = on_reset};
    memset(irq, 0, sizeof(irq));
    memset(edges, 0, sizeof(edges));
    resets = 0;
    a20 = true;
    i8042_init(&kbc, &config);
    set_ccb(0x47); /* both interfaces and interrupts, translation */
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    timer_queue_free(&timers);
    return 0;
}

static void controller_commands(void **state)
{
    (void)state;
    expect_nothing();
    command(0x20);
    assert_int_equal(status() & 0x3d, 0x1d); /* OBF, system, command, not locked */
    expect_keyboard(0x47);
    set_ccb(0xff);
    command(0x20);
    expect_keyboard(0x77); /* bits 3 and 7 are reserved */
    set_ccb(0x47);
    assert_int_equal(status() & 0x08, 0); /* the last write was data */
    command(0x75);
    data(0xa5);
    command(0x35);
    expect_keyboard(0xa5);
    command(0xaa);
    expect_keyboard(0x55);
    command(0xab);
    expect_keyboard(0x00);
    command(0xa9);
    expect_keyboard(0x00);
    command(0xa4);
    expect_keyboard(0xf1);
    command(0xa5);
    data('p');
    data(0);
    data(0xee);
    expect_keyboard(0xee); /* the password is over: this went to the keyboard */
    command(0xad);
    command(0xa7);
    command(0x20);
    expect_keyboard(0x77);
    command(0xae);
    command(0xa8);
    command(0x20);
    expect_keyboard(0x47);
    command(0xc0);
    assert_true(next(NULL) & 0x80);
    command(0xe0);
    assert_true(next(NULL) >= 0);
}

static void output_port(void **state)
{
    (void)state;
    command(0xd0);
    assert_int_equal(next(NULL) & 0x03, 0x03);
    command(0xd1);
    data(0xdd);
    assert_false(a20);
    command(0xd0);
    assert_int_equal(next(NULL) & 0x03, 0x01);
    command(0xd1);
    data(0xdf);
    assert_true(a20);
    command(0xdd);
    assert_false(a20);
    command(0xdf);
    assert_true(a20);
    assert_int_equal(resets, 0);
    command(0xfe);
    assert_int_equal(resets, 1);
    command(0xff);
    command(0xf1);
    assert_int_equal(resets, 1);
    command(0xd1);
    data(0xde);
    assert_int_equal(resets, 2);
    command(0xd2);
    data(0x42);
    command(0xd0); /* has to wait for the buffer */
    assert_int_equal(next(NULL), 0x42);
    assert_int_equal(next(NULL) & 0x30, 0x10);
}

static void loop_commands(void **state)
{
    (void)state;
    command(0xd2);
    data(0x9c);
    assert_true(irq[1]);
    assert_false(irq[12]);
    expect_keyboard(0x9c); /* not translated */
    command(0xd3);
    data(0xa5);
    assert_true(irq[12]);
    assert_false(irq[1]);
    expect_mouse(0xa5);
    assert_false(irq[12]);
}

static void interrupts_and_the_output_buffer(void **state)
{
    (void)state;
    i8042_key(&kbc, 0x1e, true);
    i8042_key(&kbc, 0x1e, false);
    assert_int_equal(status() & 1, 0); /* still on the line */
    run_for(MS);
    assert_true(irq[1]);
    assert_int_equal(edges[1], 1); /* the second byte waits for the first to be read */
    assert_int_equal(read_data(), 0x1e);
    assert_false(irq[1]);
    assert_int_equal(status() & 1, 0);
    assert_int_equal(read_data(), 0x1e); /* the same byte again */
    run_for(MS);
    assert_int_equal(edges[1], 2);
    assert_int_equal(read_data(), 0x9e);
    set_ccb(0x46); /* no keyboard interrupt */
    key(0x1e);
    run_for(MS);
    assert_false(irq[1]);
    set_ccb(0x47);
    assert_true(irq[1]);
    expect_keyboard(0x1e, 0x9e);
    command(0xad); /* clock held: the keyboard keeps its bytes */
    key(0x1f);
    expect_nothing();
    command(0xae);
    expect_keyboard(0x1f, 0x9f);
}

/* Typed keys in all sets: "a", right Ctrl, Home, F7, keypad minus. */
static void scan_code_sets(void **state)
{
    (void)state;
    key(0x1e);
    key(0x11d);
    key(0x147);
    expect_keyboard(0x1e, 0x9e, 0xe0, 0x1d, 0xe0, 0x9d, 0xe0, 0x47, 0xe0, 0xc7);
    key(0x41);
    key(0x4a);
    expect_keyboard(0x41, 0xc1, 0x4a, 0xca);
    set_ccb(0x07); /* no translation */
    key(0x1e);
    expect_keyboard(0x1c, 0xf0, 0x1c);
    key(0x11d);
    expect_keyboard(0xe0, 0x14, 0xe0, 0xf0, 0x14);
    key(0x147);
    expect_keyboard(0xe0, 0x6c, 0xe0, 0xf0, 0x6c);
    key(0x41);
    expect_keyboard(0x83, 0xf0, 0x83);
    key(0x4a);
    expect_keyboard(0x7b, 0xf0, 0x7b);
    keyboard(0xf0);
    keyboard(0x01);
    keyboard(0xf0);
    data(0x00);
    expect_keyboard(0xfa, 0x01);
    key(0x1e);
    expect_keyboard(0x1e, 0x9e);
    key(0x147);
    expect_keyboard(0xe0, 0x47, 0xe0, 0xc7);
    keyboard(0xf0);
    keyboard(0x03);
    key(0x1e); /* a typematic key has no break code */
    expect_keyboard(0x1c);
    key(0x2a); /* make/break */
    expect_keyboard(0x12, 0xf0, 0x12);
    key(0x147);
    expect_keyboard(0x6e);
    key(0x146);
    expect_keyboard(0x62);
    keyboard(0xf8); /* all keys make/break */
    key(0x1e);
    expect_keyboard(0x1c, 0xf0, 0x1c);
    keyboard(0xfd); /* key type make */
    keyboard(0x1c);
    keyboard(0x12);
    keyboard(0xf4); /* a command ends the list */
    key(0x1e);
    key(0x2a);
    expect_keyboard(0x1c, 0x12);
    keyboard(0xf0);
    data(0x04);
    expect_keyboard(0xfe);
}

/* Every key of set 1 comes out of the controller's translation as it went in. */
static void translation_round_trip(void **state)
{
    (void)state;
    for (unsigned code = 1; code < 0x80; code++) {
        if (code == 0x55) /* set 2: 60h, unused */
            continue;
        key(code);
        expect_keyboard((uint8_t)code, (uint8_t)(code | 0x80));
    }
    for (unsigned code = 0x101; code < 0x180; code++) {
        if (code == PS2_KEY_PAUSE || code == PS2_KEY_PRINT_SCREEN)
            continue;
        key(code);
        expect_keyboard(0xe0, (uint8_t)code, 0xe0, (uint8_t)(code | 0x80));
    }
}

static void special_keys(void **state)
{
    (void)state;
    key(PS2_KEY_PAUSE);
    expect_keyboard(0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5);
    key(PS2_KEY_PRINT_SCREEN);
    expect_keyboard(0xe0, 0x2a, 0xe0, 0x37, 0xe0, 0xb7, 0xe0, 0xaa);
    i8042_key(&kbc, 0x1d, true);
    expect_keyboard(0x1d);
    key(PS2_KEY_PAUSE);
    expect_keyboard(0xe0, 0x46, 0xe0, 0xc6);
    key(PS2_KEY_PRINT_SCREEN);
    expect_keyboard(0xe0, 0x37, 0xe0, 0xb7);
    i8042_key(&kbc, 0x1d, false);
    expect_keyboard(0x9d);
    i8042_key(&kbc, 0x38, true);
    expect_keyboard(0x38);
    key(PS2_KEY_PRINT_SCREEN);
    expect_keyboard(0x54, 0xd4);
    i8042_key(&kbc, 0x38, false);
    expect_keyboard(0xb8);

    keyboard(0xed); /* Num Lock on */
    keyboard(0x02);
    key(0x14b); /* left arrow */
    expect_keyboard(0xe0, 0x2a, 0xe0, 0x4b, 0xe0, 0xcb, 0xe0, 0xaa);
    keyboard(0xed);
    keyboard(0x00);
    i8042_key(&kbc, 0x2a, true);
    expect_keyboard(0x2a);
    key(0x14b);
    expect_keyboard(0xe0, 0xaa, 0xe0, 0x4b, 0xe0, 0xcb, 0xe0, 0x2a);
    key(0x135); /* keypad slash */
    expect_keyboard(0xe0, 0xaa, 0xe0, 0x35, 0xe0, 0xb5, 0xe0, 0x2a);
    i8042_key(&kbc, 0x2a, false);
    expect_keyboard(0xaa);
}

static void keyboard_commands(void **state)
{
    (void)state;
    data(0xff);
    expect_keyboard(0xfa, 0xaa);
    data(0xee);
    expect_keyboard(0xee);
    data(0xf2);
    expect_keyboard(0xfa, 0xab, 0x41); /* 83h, translated */
    data(0xfe);
    expect_keyboard(0x41);
    data(0xef);
    expect_keyboard(0xfe);
    data(0x05);
    expect_keyboard(0xfe);
    keyboard(0xf5);
    key(0x1e);
    expect_nothing();
    keyboard(0xf4);
    key(0x1e);
    expect_keyboard(0x1e, 0x9e);
    keyboard(0xed);
    keyboard(0xf4); /* a command instead of the parameter */
    assert_int_equal(kbc.keyboard.leds, 0);
    keyboard(0xed);
    keyboard(0x05);
    assert_int_equal(kbc.keyboard.leds, 5);
}

static void keys_wait_for_the_parameter(void **state)
{
    (void)state;
    keyboard(0xed);
    key(0x1e);
    expect_nothing();
    data(0x05);
    expect_keyboard(0xfa, 0x1e, 0x9e);
}

static void typematic_repeat(void **state)
{
    (void)state;
    i8042_key(&kbc, 0x1e, true);
    i8042_key(&kbc, 0x1e, true); /* the host's own repetition is ignored */
    expect_keyboard(0x1e);
    edges[1] = 0;
    run_for(490 * MS);
    assert_int_equal(edges[1], 0);
    run_for(10 * MS);
    assert_int_equal(edges[1], 1);
    read_data();
    unsigned repeats = 0;
    for (int i = 0; i < 1000; i++) {
        run_for(MS);
        if (status() & 1) {
            assert_int_equal(read_data(), 0x1e);
            repeats++;
        }
    }
    assert_in_range(repeats, 10, 11); /* 10.9 per second */
    i8042_key(&kbc, 0x30, true);      /* the last key repeats */
    expect_keyboard(0x30);
    run_for(600 * MS);
    assert_int_equal(next(NULL), 0x30);
    i8042_key(&kbc, 0x30, false);
    while (next(NULL) >= 0)
        ;
    run_for(1000 * MS);
    expect_nothing();
    keyboard(0xf3);
    keyboard(0x00); /* 250 ms, 30 per second */
    i8042_key(&kbc, 0x39, true);
    expect_keyboard(0x39);
    repeats = 0;
    for (int i = 0; i < 1250; i++) {
        run_for(MS);
        if (status() & 1) {
            read_data();
            repeats++;
        }
    }
    assert_in_range(repeats, 29, 31);
}

static void keyboard_overrun(void **state)
{
    (void)state;
    set_ccb(0x07);
    keyboard(0xf0);
    keyboard(0x01);
    unsigned accepted = 0;
    for (unsigned i = 0; i < 40; i++)
        accepted += i8042_key(&kbc, 0x02 + i % 8, i / 8 % 2 == 0);
    assert_in_range(accepted, 14, 16);
    int last = -1, byte;
    unsigned bytes = 0;
    while ((byte = next(NULL)) >= 0) {
        last = byte;
        bytes++;
    }
    assert_int_equal(bytes, accepted + 1);
    assert_int_equal(last, 0xff); /* set 1: FFh; 00h in the others */
    i8042_key(&kbc, 0x1e, true);
    expect_keyboard(0x1e);
}

static void mouse_commands(void **state)
{
    (void)state;
    command(0xd4);
    data(0xff);
    expect_mouse(0xfa, 0xaa, 0x00);
    assert_true(edges[12] >= 3);
    assert_false(irq[12]);
    command(0xd4);
    data(0xf2);
    expect_mouse(0xfa, 0x00);
    command(0xd4);
    data(0xe9);
    expect_mouse(0xfa, 0x00, 0x02, 100);
    mouse(0xe8);
    mouse(0x03);
    mouse(0xf3);
    mouse(40);
    mouse(0xe7);
    mouse(0xf4);
    command(0xd4);
    data(0xe9);
    expect_mouse(0xfa, 0x30, 0x03, 40);
    mouse(0xf6);
    command(0xd4);
    data(0xe9);
    expect_mouse(0xfa, 0x00, 0x02, 100);
    command(0xd4);
    data(0x12);
    expect_mouse(0xfe);
    command(0xd4);
    data(0x12); /* the second invalid byte in a row */
    expect_mouse(0xfc);
    mouse(0xf3);
    command(0xd4);
    data(77);
    expect_mouse(0xfe);
    mouse(80); /* sent again, correctly */
    mouse(0xee);
    command(0xd4);
    data(0xf4);
    expect_mouse(0xf4); /* wrap mode echoes */
    mouse(0xec);
    mouse(0xf4);
}

static void mouse_stream(void **state)
{
    (void)state;
    i8042_mouse(&kbc, 5, 5, 0, 0);
    expect_nothing(); /* not enabled */
    mouse(0xf4);
    i8042_mouse(&kbc, 10, 3, 0, 0); /* down the screen is negative Y */
    expect_mouse(0x28, 10, 0xfd);
    i8042_mouse(&kbc, -1, -2, 0, PS2_BUTTON_LEFT | PS2_BUTTON_MIDDLE);
    run_for(10 * MS);
    expect_mouse(0x1d, 0xff, 2);
    i8042_mouse(&kbc, 0, 0, 0, PS2_BUTTON_RIGHT);
    run_for(10 * MS);
    expect_mouse(0x0a, 0, 0);
    i8042_mouse(&kbc, 300, 0, 0, 0); /* more than a packet holds: the rest follows */
    run_for(10 * MS);
    expect_mouse(0x08, 255, 0, 0x08, 45, 0);
    i8042_mouse(&kbc, 0, 0, 1, 0); /* no wheel */
    run_for(20 * MS);
    expect_nothing();
    mouse(0xe7);
    i8042_mouse(&kbc, 3, -5, 0, 0); /* 2:1: 3 -> 3, 5 -> 9 */
    run_for(10 * MS);
    expect_mouse(0x08, 3, 9);
    i8042_mouse(&kbc, 10, 0, 0, 0);
    run_for(10 * MS);
    expect_mouse(0x08, 20, 0);
    mouse(0xe6);
    mouse(0xf5);
    i8042_mouse(&kbc, 3, -5, 0, 1);
    expect_nothing();
}

static void mouse_sample_rate(void **state)
{
    (void)state;
    mouse(0xf3);
    mouse(20);
    mouse(0xf4);
    run_for(100 * MS);
    unsigned bytes = 0;
    for (int i = 0; i < 1000; i++) {
        i8042_mouse(&kbc, 1, 0, 0, 0);
        run_for(MS);
        while (status() & 1) {
            read_data();
            bytes++;
        }
    }
    assert_in_range(bytes, 3 * 19, 3 * 21);
}

static void quick_click_is_not_lost(void **state)
{
    (void)state;
    mouse(0xf4);
    i8042_mouse(&kbc, 1, 0, 0, 0);
    i8042_mouse(&kbc, 0, 0, 0, 1);
    i8042_mouse(&kbc, 0, 0, 0, 0);
    expect_from(2, (const uint8_t[]){0x08, 1, 0, 0x09, 0, 0}, 6);
    run_for(20 * MS);
    expect_mouse(0x08, 0, 0);
}

static void mouse_remote_mode(void **state)
{
    (void)state;
    mouse(0xf0);
    i8042_mouse(&kbc, 7, 0, 0, 1);
    run_for(20 * MS);
    expect_nothing();
    command(0xd4);
    data(0xeb);
    expect_mouse(0xfa, 0x09, 7, 0);
    command(0xd4);
    data(0xeb);
    expect_mouse(0xfa, 0x09, 0, 0);
    command(0xd4);
    data(0xe9);
    expect_mouse(0xfa, 0x44, 0x02, 100);
    mouse(0xea);
}

static void rates(uint8_t a, uint8_t b, uint8_t c)
{
    const uint8_t list[3] = {a, b, c};
    for (int i = 0; i < 3; i++) {
        mouse(0xf3);
        mouse(list[i]);
    }
}

static void wheel_and_five_buttons(void **state)
{
    (void)state;
    rates(200, 100, 80);
    command(0xd4);
    data(0xf2);
    expect_mouse(0xfa, 0x03);
    mouse(0xf4);
    i8042_mouse(&kbc, 1, 0, -1, 0);
    run_for(20 * MS);
    expect_mouse(0x08, 1, 0, 0xff);
    rates(200, 200, 80);
    command(0xd4);
    data(0xf2);
    expect_mouse(0xfa, 0x04);
    i8042_mouse(&kbc, 0, 0, -2, PS2_BUTTON_5);
    run_for(20 * MS);
    expect_mouse(0x08, 0, 0, 0x2e);
    command(0xd4);
    data(0xff);
    expect_mouse(0xfa, 0xaa, 0x00);
}

static void both_devices_share_the_buffer(void **state)
{
    (void)state;
    mouse(0xf4);
    i8042_mouse(&kbc, 1, 1, 0, 0);
    key(0x1e);
    unsigned from_keyboard = 0, from_mouse = 0;
    int source, byte, last = 0;
    while ((byte = next(&source)) >= 0) {
        if (from_keyboard < 2) /* in turns while both have something */
            assert_true(source != last);
        last = source;
        if (source == 1)
            assert_int_equal(byte, from_keyboard++ ? 0x9e : 0x1e);
        else
            from_mouse++;
    }
    assert_int_equal(from_keyboard, 2);
    assert_int_equal(from_mouse, 3);
    command(0xa7);
    i8042_mouse(&kbc, 1, 1, 0, 0);
    run_for(20 * MS);
    expect_nothing();
    command(0xa8);
    expect_mouse(0x28, 1, 0xff);
}

static void survives_garbage(void **state)
{
    (void)state;
    unsigned seed = (unsigned)time(NULL);
    printf("seed %u\n", seed);
    srand(seed);
    for (int i = 0; i < 300000; i++) {
        switch (rand() % 8) {
        case 0:
            data((uint8_t)rand());
            break;
        case 1:
            command((uint8_t)rand());
            break;
        case 2:
            command(0xd4);
            data((uint8_t)(0xe0 + rand() % 32));
            break;
        case 3:
            i8042_key(&kbc, (unsigned)rand() % 1024, rand() & 1);
            break;
        case 4:
            i8042_mouse(&kbc, rand(), -rand(), rand() % 10 - 5, (unsigned)rand());
            break;
        case 5:
            run_for((uint64_t)rand() % MS);
            break;
        default:
            status();
            read_data();
        }
    }
    i8042_reset(&kbc);
    set_ccb(0x47);
    key(0x1f); /* may be held down: at least the release must come */
    int byte = next(NULL);
    assert_true(byte == 0x1f || byte == 0x9f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(controller_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(output_port, setup, teardown),
        cmocka_unit_test_setup_teardown(loop_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(interrupts_and_the_output_buffer, setup, teardown),
        cmocka_unit_test_setup_teardown(scan_code_sets, setup, teardown),
        cmocka_unit_test_setup_teardown(translation_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(special_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(keyboard_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(keys_wait_for_the_parameter, setup, teardown),
        cmocka_unit_test_setup_teardown(typematic_repeat, setup, teardown),
        cmocka_unit_test_setup_teardown(keyboard_overrun, setup, teardown),
        cmocka_unit_test_setup_teardown(mouse_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(mouse_stream, setup, teardown),
        cmocka_unit_test_setup_teardown(mouse_sample_rate, setup, teardown),
        cmocka_unit_test_setup_teardown(quick_click_is_not_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(mouse_remote_mode, setup, teardown),
        cmocka_unit_test_setup_teardown(wheel_and_five_buttons, setup, teardown),
        cmocka_unit_test_setup_teardown(both_devices_share_the_buffer, setup, teardown),
        cmocka_unit_test_setup_teardown(survives_garbage, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
