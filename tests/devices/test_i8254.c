/* Against the Intel 8254 data sheet (231164): the timing of each mode in ticks of CLK. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "devices/i8254.h"

static struct vclock vclock;
static struct timer_queue timers;
static struct i8254 pit;
static bool irq_level;
static unsigned edges;
static uint64_t edge_ns[64];

static void on_irq(void *ctx, unsigned pin, bool level)
{
    (void)ctx;
    (void)pin;
    if (level && !irq_level) {
        if (edges < 64)
            edge_ns[edges] = vclock.paused_ns;
        edges++;
    }
    irq_level = level;
}

/* 14.31818 MHz / 12 */
static uint64_t ns_at(uint64_t tick)
{
    return (tick * 264000 + 314) / 315;
}

static uint64_t tick;

static void jump_ns(uint64_t ns) /* the host did not let timers run in between */
{
    vclock.paused_ns = ns;
    timer_queue_run(&timers);
}

static void run_to_ns(uint64_t ns)
{
    while (timer_queue_next(&timers) <= ns)
        jump_ns(timer_queue_next(&timers));
    jump_ns(ns);
}

static void advance(uint64_t ticks)
{
    tick += ticks;
    run_to_ns(ns_at(tick));
}

static void out(unsigned port, uint8_t value)
{
    if (port == 0x61)
        i8254_port61_ops.write(&pit, 0, value, 1);
    else
        i8254_ops.write(&pit, port - 0x40, value, 1);
}

static uint8_t in(unsigned port)
{
    if (port == 0x61)
        return (uint8_t)i8254_port61_ops.read(&pit, 0, 1);
    return (uint8_t)i8254_ops.read(&pit, port - 0x40, 1);
}

static void gate(bool level)
{
    out(0x61, level);
}

static bool out2(void)
{
    assert_int_equal(i8254_out(&pit, 2), in(0x61) >> 5 & 1);
    return i8254_out(&pit, 2);
}

static unsigned count2(void) /* by the latch command */
{
    out(0x43, 0x80);
    unsigned low = in(0x42);
    return low | (unsigned)in(0x42) << 8;
}

static void load2(unsigned control, unsigned count)
{
    out(0x43, (uint8_t)(0x80 | control));
    out(0x42, (uint8_t)count);
    out(0x42, (uint8_t)(count >> 8));
}

static int setup(void **state)
{
    (void)state;
    memset(&vclock, 0, sizeof(vclock));
    vclock.tsc_hz = 1000000000;
    vclock.mult = 1;
    vclock.paused = 1;
    timer_queue_init(&timers, &vclock);
    struct i8254_config config = {.irq = {.set = on_irq}, .timers = &timers, .clock = &vclock};
    i8254_init(&pit, &config);
    tick = 0;
    advance(1000);
    edges = 0;
    irq_level = false;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    timer_queue_free(&timers);
    return 0;
}

static void mode0_interrupt_on_terminal_count(void **state)
{
    (void)state;
    gate(true);
    load2(0x30, 4);
    assert_false(out2());
    advance(1); /* the CLK that loads */
    assert_int_equal(count2(), 4);
    advance(3);
    assert_int_equal(count2(), 1);
    assert_false(out2());
    advance(1); /* N + 1 after the write */
    assert_int_equal(count2(), 0);
    assert_true(out2());
    advance(1);
    assert_int_equal(count2(), 0xffff);
    assert_true(out2());
    /* a new count starts over; its first byte stops the count and lowers OUT */
    out(0x42, 3);
    assert_false(out2());
    advance(10);
    assert_int_equal(count2(), 0xffff);
    out(0x42, 0);
    advance(1);
    assert_int_equal(count2(), 3);
    gate(false);
    advance(50);
    assert_int_equal(count2(), 3);
    gate(true);
    advance(2);
    assert_false(out2());
    advance(1);
    assert_true(out2());
}

static void mode0_count_written_with_gate_low(void **state)
{
    (void)state;
    gate(false);
    load2(0x30, 5);
    advance(20);
    assert_int_equal(count2(), 5);
    gate(true);
    advance(4);
    assert_false(out2());
    advance(1); /* N after GATE, not N + 1 */
    assert_true(out2());
}

static void mode1_one_shot(void **state)
{
    (void)state;
    gate(false);
    load2(0x32, 3);
    assert_true(out2());
    advance(10);
    assert_true(out2());
    gate(true);
    assert_true(out2());
    advance(1);
    assert_false(out2());
    assert_int_equal(count2(), 3);
    gate(false); /* only the edge matters */
    advance(2);
    assert_false(out2());
    gate(true); /* retrigger */
    advance(1);
    assert_int_equal(count2(), 3);
    advance(2);
    assert_false(out2());
    out(0x42, 5); /* does not disturb the current pulse */
    out(0x42, 0);
    advance(1);
    assert_true(out2());
    gate(false);
    gate(true);
    advance(1);
    assert_int_equal(count2(), 5);
    advance(4);
    assert_false(out2());
    advance(1);
    assert_true(out2());
}

static void mode2_rate_generator(void **state)
{
    (void)state;
    gate(true);
    load2(0x34, 4);
    advance(1);
    for (int period = 0; period < 3; period++) {
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(count2(), 4 - i);
            assert_int_equal(out2(), i != 3);
            advance(1);
        }
    }
    out(0x42, 6); /* used from the next period on */
    out(0x42, 0);
    advance(3);
    assert_int_equal(count2(), 1);
    advance(1);
    assert_int_equal(count2(), 6);
    advance(5);
    assert_false(out2());
    gate(false);
    assert_true(out2()); /* at once */
    advance(7);
    assert_true(out2());
    gate(true);
    advance(1);
    assert_int_equal(count2(), 6);
}

static void mode3_square_wave(void **state)
{
    (void)state;
    gate(true);
    load2(0x36, 6);
    advance(1);
    static const uint8_t even[] = {6, 4, 2, 6, 4, 2};
    for (unsigned i = 0; i < 12; i++) {
        assert_int_equal(out2(), i % 6 < 3);
        assert_int_equal(count2(), even[i % 6]);
        advance(1);
    }
    load2(0x36, 5);
    advance(1);
    static const uint8_t odd[] = {4, 2, 0, 4, 2};
    for (unsigned i = 0; i < 15; i++) {
        assert_int_equal(out2(), i % 5 < 3);
        assert_int_equal(count2(), odd[i % 5]);
        advance(1);
    }
    /* a new count is used after the current half cycle */
    load2(0x36, 8);
    advance(2);
    out(0x42, 4);
    out(0x42, 0);
    advance(2);
    assert_true(out2());
    advance(1); /* 4 high ticks are over */
    assert_false(out2());
    advance(2);
    assert_true(out2());
    advance(2);
    assert_false(out2());
    gate(false);
    assert_true(out2());
    gate(true);
    advance(1);
    assert_true(out2());
    advance(2);
    assert_false(out2());
    uint32_t period;
    assert_false(i8254_speaker(&pit, &period));
    out(0x61, 3);
    assert_true(i8254_speaker(&pit, &period));
    assert_int_equal(period, 4);
}

static void mode4_software_strobe(void **state)
{
    (void)state;
    gate(true);
    load2(0x38, 3);
    advance(3);
    assert_true(out2());
    advance(1);
    assert_false(out2());
    assert_int_equal(count2(), 0);
    advance(1);
    assert_true(out2());
    assert_int_equal(count2(), 0xffff);
    out(0x42, 2);
    out(0x42, 0);
    advance(2);
    gate(false);
    advance(9);
    assert_true(out2());
    gate(true);
    advance(1);
    assert_false(out2());
    advance(1);
    assert_true(out2());
}

static void mode5_hardware_strobe(void **state)
{
    (void)state;
    gate(false);
    load2(0x3a, 3);
    advance(20);
    assert_true(out2());
    gate(true);
    advance(3);
    assert_true(out2());
    gate(false);
    advance(1);
    assert_false(out2());
    advance(1);
    assert_true(out2());
}

static void bcd_counting(void **state)
{
    (void)state;
    gate(true);
    load2(0x31, 0x1000);
    advance(2);
    assert_int_equal(count2(), 0x0999);
    load2(0x31, 0); /* 10000 */
    advance(1);
    assert_int_equal(count2(), 0x0000);
    advance(1);
    assert_int_equal(count2(), 0x9999);
    advance(9998);
    assert_false(out2());
    advance(1);
    assert_true(out2());
    advance(1);
    assert_int_equal(count2(), 0x9999);
}

static void count_of_zero_is_the_largest(void **state)
{
    (void)state;
    gate(true);
    load2(0x34, 0);
    advance(1);
    assert_int_equal(count2(), 0);
    advance(1);
    assert_int_equal(count2(), 0xffff);
    advance(65535);
    assert_int_equal(count2(), 0);
}

static void access_modes(void **state)
{
    (void)state;
    gate(true);
    out(0x43, 0x94); /* LSB only */
    out(0x42, 0x12);
    advance(1);
    assert_int_equal(in(0x42), 0x12);
    assert_int_equal(in(0x42), 0x12);
    out(0x43, 0xa4); /* MSB only: the LSB is 0 */
    out(0x42, 0x12);
    advance(1);
    assert_int_equal(in(0x42), 0x12);
    advance(1);
    assert_int_equal(in(0x42), 0x11);
    out(0x43, 0xb4); /* both: live reading shows a moving count */
    out(0x42, 0x00);
    out(0x42, 0x02);
    advance(1);
    assert_int_equal(in(0x42), 0x00);
    advance(1);
    assert_int_equal(in(0x42), 0x01);
    assert_int_equal(in(0x42), 0xff);
    assert_int_equal(in(0x43), 0xff);
}

static void counter_latch(void **state)
{
    (void)state;
    gate(true);
    load2(0x34, 0x1000);
    advance(1);
    out(0x43, 0x80);
    advance(5);
    out(0x43, 0x80); /* ignored while latched */
    advance(5);
    assert_int_equal(in(0x42), 0x00);
    assert_int_equal(in(0x42), 0x10);
    assert_int_equal(count2(), 0x1000 - 10);
}

static void read_back(void **state)
{
    (void)state;
    gate(true);
    out(0x43, 0xb6);
    out(0x43, 0xe8); /* status of channel 2: no count yet */
    assert_int_equal(in(0x42), 0x80 | 0x40 | 0x36);
    out(0x42, 0x10);
    out(0x42, 0x00);
    out(0x43, 0xe8);
    assert_int_equal(in(0x42), 0x80 | 0x40 | 0x36); /* null count until loaded */
    advance(1);
    out(0x43, 0xe8);
    assert_int_equal(in(0x42), 0x80 | 0x36);
    advance(8);
    out(0x43, 0xc8); /* status and count: the status comes first */
    advance(1);
    assert_int_equal(in(0x42), 0x36);
    assert_int_equal(in(0x42), 0x10);
    assert_int_equal(in(0x42), 0x00);
    out(0x43, 0xd8); /* count only, several times: the first one holds */
    advance(1);
    out(0x43, 0xd8);
    assert_int_equal(in(0x42), 0x0e);
    assert_int_equal(in(0x42), 0x00);
    out(0x43, 0x70); /* mode 0 on channel 1: both statuses at once */
    out(0x43, 0xec);
    assert_int_equal(in(0x41), 0x40 | 0x30);
    assert_int_equal(in(0x42) & 0x3f, 0x36);
}

static void port61(void **state)
{
    (void)state;
    out(0x61, 0xff);
    assert_int_equal(in(0x61) & 0xcf, 0x0f);
    unsigned toggles = 0, last = in(0x61) & 0x10;
    for (int i = 0; i < 1800; i++) {
        advance(1);
        if ((in(0x61) & 0x10) != last)
            toggles++;
        last = in(0x61) & 0x10;
    }
    assert_int_equal(toggles, 100); /* every 15.09 us */
}

static void channel0(unsigned control, unsigned count)
{
    out(0x43, (uint8_t)control);
    out(0x40, (uint8_t)count);
    out(0x40, (uint8_t)(count >> 8));
}

static void irq0_periodic(void **state)
{
    (void)state;
    for (unsigned control = 0x34; control <= 0x36; control += 2) {
        channel0(control, 11932);
        edges = 0;
        uint64_t start = tick;
        advance(1 + 11932 * 10);
        assert_int_equal(edges, 10);
        for (unsigned i = 0; i < 10; i++)
            assert_in_range(edge_ns[i], ns_at(start + 1 + 11932 * (i + 1)),
                            ns_at(start + 1 + 11932 * (i + 1)) + 1);
    }
    advance(1);
    channel0(0x34, 1000);
    edges = 0;
    advance(500);
    out(0x40, 0xd0); /* 2000 from the next period on */
    out(0x40, 0x07);
    advance(501);
    assert_int_equal(edges, 1);
    advance(1999);
    assert_int_equal(edges, 1);
    advance(1);
    assert_int_equal(edges, 2);
    advance(2000);
    assert_int_equal(edges, 3);
}

static void irq0_one_shot(void **state)
{
    (void)state;
    channel0(0x30, 1000);
    assert_false(irq_level);
    edges = 0;
    advance(1000);
    assert_int_equal(edges, 0);
    advance(1);
    assert_int_equal(edges, 1);
    assert_true(irq_level);
    advance(200000); /* wraps without a further edge */
    assert_int_equal(edges, 1);
    out(0x40, 0);
    assert_false(irq_level);
    out(0x40, 1);
    advance(257);
    assert_int_equal(edges, 2);
    channel0(0x38, 300); /* mode 4: OUT rises after the strobe */
    edges = 0;
    advance(301);
    assert_int_equal(edges, 0);
    advance(1);
    assert_int_equal(edges, 1);
    out(0x43, 0x34); /* no count: no ticks */
    edges = 0;
    advance(1000000);
    assert_int_equal(edges, 0);
}

static void irq0_catches_up(void **state)
{
    (void)state;
    channel0(0x34, 1193); /* 1 kHz */
    edges = 0;
    uint64_t start = tick;
    advance(1 + 1193 * 5 + 10);
    assert_int_equal(edges, 5);
    tick = start + 1 + 1193 * 45 + 600;
    jump_ns(ns_at(tick)); /* 40 ms without running timers */
    assert_int_equal(edges, 6);
    advance(100);
    assert_int_equal(edges, 6); /* no storm: the handler needs time */
    advance(1193 * 100 - 100);
    assert_int_equal(edges, 145); /* all delivered in the end */
    /* an hour later */
    edges = 0;
    tick += 3600ull * 1193182;
    jump_ns(ns_at(tick));
    assert_int_equal(edges, 1);
    advance(1193 * 2000);
    assert_in_range(edges, 2000, 2002); /* the hour is forgotten */
}

static bool taken;

static bool edge_waits(void *ctx)
{
    (void)ctx;
    return !taken;
}

/* No edge is lost while the one before waits for its acknowledge, up to a second of them. */
static void irq0_waits_for_its_acknowledge(void **state)
{
    (void)state;
    pit.config.edge_waits = edge_waits;
    channel0(0x34, 1193); /* 1 kHz */
    edges = 0;
    taken = true;
    advance(1 + 1193 * 5 + 10);
    assert_int_equal(edges, 5);
    taken = false; /* the processor gets no time for 40 ms */
    advance(1193 * 40);
    assert_int_equal(edges, 5);
    taken = true;
    i8254_edge_taken(&pit);
    advance(1193 * 5); /* made up for soon: 40 edges at 32 times the rate */
    assert_in_range(edges, 49, 50);
    advance(1193 * 100);
    assert_in_range(edges, 149, 150);
    taken = false;
    edges = 0;
    advance(1193 * 3000); /* more than a second is forgotten */
    taken = true;
    advance(1193 * 100);                /* noticed within a period without being told */
    assert_in_range(edges, 1098, 1102); /* those of the last second, and the new ones */
    pit.config.edge_waits = NULL;
}

static void fastest_rate_leaves_time_for_the_guest(void **state)
{
    (void)state;
    channel0(0x34, 2);
    edges = 0;
    advance(11932); /* 10 ms */
    assert_true(edges > 500);
    assert_true(edges <= 2001);
    channel0(0x34, 1); /* illegal: no edges */
    edges = 0;
    advance(11932);
    assert_int_equal(edges, 0);
}

static void survives_garbage(void **state)
{
    (void)state;
    unsigned seed = (unsigned)time(NULL);
    printf("seed %u\n", seed);
    srand(seed);
    static const unsigned ports[] = {0x40, 0x41, 0x42, 0x43, 0x61};
    for (int i = 0; i < 200000; i++) {
        unsigned port = ports[rand() % 5];
        if (rand() % 2)
            out(port, (uint8_t)rand());
        else
            in(port);
        if (rand() % 4 == 0)
            i8254_set_gate(&pit, (unsigned)rand() % 5, rand() & 1);
        if (rand() % 2) {
            tick += (uint64_t)(rand() % (rand() % 16 ? 30 : 100000));
            jump_ns(ns_at(tick));
        }
        uint32_t period;
        i8254_speaker(&pit, &period);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(mode0_interrupt_on_terminal_count, setup, teardown),
        cmocka_unit_test_setup_teardown(mode0_count_written_with_gate_low, setup, teardown),
        cmocka_unit_test_setup_teardown(mode1_one_shot, setup, teardown),
        cmocka_unit_test_setup_teardown(mode2_rate_generator, setup, teardown),
        cmocka_unit_test_setup_teardown(mode3_square_wave, setup, teardown),
        cmocka_unit_test_setup_teardown(mode4_software_strobe, setup, teardown),
        cmocka_unit_test_setup_teardown(mode5_hardware_strobe, setup, teardown),
        cmocka_unit_test_setup_teardown(bcd_counting, setup, teardown),
        cmocka_unit_test_setup_teardown(count_of_zero_is_the_largest, setup, teardown),
        cmocka_unit_test_setup_teardown(access_modes, setup, teardown),
        cmocka_unit_test_setup_teardown(counter_latch, setup, teardown),
        cmocka_unit_test_setup_teardown(read_back, setup, teardown),
        cmocka_unit_test_setup_teardown(port61, setup, teardown),
        cmocka_unit_test_setup_teardown(irq0_periodic, setup, teardown),
        cmocka_unit_test_setup_teardown(irq0_one_shot, setup, teardown),
        cmocka_unit_test_setup_teardown(irq0_catches_up, setup, teardown),
        cmocka_unit_test_setup_teardown(irq0_waits_for_its_acknowledge, setup, teardown),
        cmocka_unit_test_setup_teardown(fastest_rate_leaves_time_for_the_guest, setup, teardown),
        cmocka_unit_test_setup_teardown(survives_garbage, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
