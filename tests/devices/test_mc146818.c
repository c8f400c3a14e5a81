/* Against the Motorola MC146818A data sheet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "devices/mc146818.h"

static struct vclock vclock;
static struct timer_queue timers;
static struct mc146818 rtc;
static bool irq, nmi_masked;
static unsigned edges;

static void on_irq(void *ctx, unsigned pin, bool level)
{
    (void)ctx;
    (void)pin;
    if (level && !irq)
        edges++;
    irq = level;
}

static void on_nmi_mask(void *ctx, unsigned pin, bool level)
{
    (void)ctx;
    (void)pin;
    nmi_masked = level;
}

static void out(unsigned reg, uint8_t value)
{
    mc146818_ops.write(&rtc, 0, reg, 1);
    mc146818_ops.write(&rtc, 1, value, 1);
}

static uint8_t in(unsigned reg)
{
    mc146818_ops.write(&rtc, 0, reg, 1);
    return (uint8_t)mc146818_ops.read(&rtc, 1, 1);
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

#define BCD(x) ((unsigned)(x) / 10 << 4 | (unsigned)(x) % 10)

static const uint64_t S = 1000000000, MS = 1000000, US = 1000;

static void start(int64_t time)
{
    struct mc146818_config config = {.irq = {.set = on_irq},
                                     .nmi_mask = {.set = on_nmi_mask},
                                     .timers = &timers,
                                     .clock = &vclock,
                                     .start_time = time};
    mc146818_init(&rtc, &config);
}

static int setup(void **state)
{
    (void)state;
    memset(&vclock, 0, sizeof(vclock));
    vclock.paused = 1;
    timer_queue_init(&timers, &vclock);
    irq = nmi_masked = false;
    edges = 0;
    start(951868799); /* 2000-02-29 23:59:59, a Tuesday */
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    timer_queue_free(&timers);
    return 0;
}

static void assert_time(unsigned century, unsigned year, unsigned month, unsigned day,
                        unsigned weekday, unsigned hour, unsigned minute, unsigned second)
{
    assert_int_equal(in(0x32), century);
    assert_int_equal(in(9), year);
    assert_int_equal(in(8), month);
    assert_int_equal(in(7), day);
    assert_int_equal(in(6), weekday);
    assert_int_equal(in(4), hour);
    assert_int_equal(in(2), minute);
    assert_int_equal(in(0), second);
}

static void keeps_time(void **state)
{
    (void)state;
    assert_time(0x20, 0x00, 0x02, 0x29, 3, 0x23, 0x59, 0x59);
    run_for(S - 1);
    assert_time(0x20, 0x00, 0x02, 0x29, 3, 0x23, 0x59, 0x59);
    run_for(1);
    assert_time(0x20, 0x00, 0x03, 0x01, 4, 0x00, 0x00, 0x00);
    run_for(30 * S);
    assert_int_equal(in(0), 0x30);
    run_for(366 * 86400ull * S); /* to 2001-03-02 */
    assert_time(0x20, 0x01, 0x03, 0x02, 6, 0x00, 0x00, 0x30);
}

static void rolls_over_the_century(void **state)
{
    (void)state;
    start(946684799); /* 1999-12-31 23:59:59 */
    assert_time(0x19, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x59);
    run_for(S);
    assert_time(0x20, 0x00, 0x01, 0x01, 7, 0x00, 0x00, 0x00);
    start(-1);
    assert_time(0x19, 0x69, 0x12, 0x31, 4, 0x23, 0x59, 0x59);
}

/* Every second of a few random days against the C library. */
static void agrees_with_the_c_library(void **state)
{
    (void)state;
    unsigned seed = (unsigned)time(NULL);
    printf("seed %u\n", seed);
    srand(seed);
    for (int i = 0; i < 2000; i++) {
        time_t t = (time_t)((unsigned)rand() % 4000000000u),
               step = (time_t)((unsigned)rand() % 40000000u);
        vclock.paused_ns = 0;
        start((int64_t)t);
        out(0x0b, 0x02);
        run_for((uint64_t)step * S);
        t += step;
        struct tm tm;
        gmtime_r(&t, &tm);
        unsigned year = 1900 + (unsigned)tm.tm_year;

        assert_time(BCD(year / 100), BCD(year % 100), BCD(tm.tm_mon + 1), BCD(tm.tm_mday),
                    (unsigned)tm.tm_wday + 1, BCD(tm.tm_hour), BCD(tm.tm_min), BCD(tm.tm_sec));
    }
}

static void binary_and_12_hours(void **state)
{
    (void)state;
    out(0x0b, 0x80 | 0x06); /* SET, binary, 24 h */
    out(0, 58);
    out(2, 59);
    out(4, 23);
    out(7, 31);
    out(8, 12);
    out(9, 24);
    out(0x32, 20);
    out(0x0b, 0x06);
    run_for(S);
    assert_int_equal(in(0), 59);
    run_for(S);
    assert_int_equal(in(4), 0);
    assert_int_equal(in(7), 1);
    assert_int_equal(in(8), 1);
    assert_int_equal(in(9), 25);
    static const struct {
        uint8_t before, after;
    } bcd[] = {{0x12, 0x01}, {0x11, 0x92}, {0x92, 0x81}, {0x91, 0x12}, {0x09, 0x10}};
    for (unsigned i = 0; i < 5; i++) {
        out(0x0b, 0x80);
        out(0, 0x59);
        out(2, 0x59);
        out(4, bcd[i].before);
        out(7, 0x15);
        out(8, 0x06);
        out(0x0b, 0x00);
        run_for(S);
        assert_int_equal(in(4), bcd[i].after);
        assert_int_equal(in(7), i == 3 ? 0x16 : 0x15); /* 11 PM -> midnight */
        assert_int_equal(in(2), 0);
    }
}

static void set_stops_the_update(void **state)
{
    (void)state;
    out(0x0b, 0x12);
    assert_int_equal(in(0x0b), 0x12);
    out(0x0b, 0x92);
    assert_int_equal(in(0x0b), 0x82); /* SET clears UIE */
    run_for(10 * S + 999 * MS);
    assert_int_equal(in(0), 0x59);
    assert_int_equal(in(0x0a) & 0x80, 0);
    assert_int_equal(in(0x0c) & 0x10, 0);
    out(0x0b, 0x02);
    run_for(1 * MS); /* the second's boundary did not move */
    assert_int_equal(in(0), 0x00);
}

static void update_in_progress(void **state)
{
    (void)state;
    assert_int_equal(in(0x0a), 0x26);
    run_for(S - 2229 * US);
    assert_int_equal(in(0x0a), 0x26);
    run_for(2 * US);
    assert_int_equal(in(0x0a), 0xa6);
    run_for(2226 * US);
    assert_int_equal(in(0x0a), 0xa6);
    assert_int_equal(in(0), 0x59);
    run_for(1 * US);
    assert_int_equal(in(0x0a), 0x26);
    assert_int_equal(in(0), 0x00);
    out(0x0a, 0xff);
    assert_int_equal(in(0x0a), 0x7f); /* UIP is read-only */
}

static void divider_reset(void **state)
{
    (void)state;
    run_for(300 * MS);
    out(0x0a, 0x66);
    run_for(5 * S);
    assert_int_equal(in(0), 0x59);
    out(0x0a, 0x26);
    run_for(499 * MS);
    assert_int_equal(in(0), 0x59);
    run_for(1 * MS);
    assert_int_equal(in(0), 0x00);
    run_for(1 * S);
    assert_int_equal(in(0), 0x01);
}

static void update_ended_interrupt(void **state)
{
    (void)state;
    run_for(2 * S);
    assert_false(irq);
    assert_int_equal(in(0x0c) & 0x90, 0x10); /* the flag comes without the enable, IRQF does not */
    assert_int_equal(in(0x0c), 0x00);
    out(0x0b, 0x12);
    run_for(S - 1);
    assert_false(irq);
    run_for(1);
    assert_true(irq);
    assert_int_equal(in(0x0c) & 0x90, 0x90);
    assert_false(irq);
    edges = 0;
    for (int i = 0; i < 20; i++) {
        run_for(S / 2);
        in(0x0c);
    }
    assert_int_equal(edges, 10);
    run_for(S);
    assert_true(irq);
    out(0x0b, 0x02); /* disabling lowers the line, the flag stays */
    assert_false(irq);
    out(0x0b, 0x12);
    assert_true(irq);
}

static void alarm_interrupt(void **state)
{
    (void)state;
    out(0x0b, 0x22);
    out(1, 0x05);
    out(3, 0x01);
    out(5, 0x00);
    run_for(65 * S); /* 00:01:04 */
    assert_false(irq);
    run_for(S);
    assert_true(irq);
    assert_int_equal(in(0x0c) & 0xa0, 0xa0);
    run_for(86399 * S);
    assert_false(irq);
    run_for(S);
    assert_true(irq);
    in(0x0c);
    out(3, 0xff); /* every hour and minute */
    out(5, 0xc0);
    edges = 0;
    for (int i = 0; i < 180; i++) {
        run_for(S);
        in(0x0c);
    }
    assert_int_equal(edges, 3);
    out(0x0b, 0x02);
    in(0x0c);
    run_for(60 * S);
    assert_int_equal(in(0x0c) & 0xa0, 0x20); /* found without a timer too */
}

static void periodic_rates(void **state)
{
    (void)state;
    static const unsigned rates[16] = {0,   256, 128, 8192, 4096, 2048, 1024, 512,
                                       256, 128, 64,  32,   16,   8,    4,    2};
    for (unsigned rate = 0; rate < 16; rate++) {
        out(0x0b, 0x02);
        out(0x0a, (uint8_t)(0x20 | rate));
        out(0x0b, 0x42);
        in(0x0c);
        edges = 0;
        uint64_t end = vclock.paused_ns + 2 * S;
        while (vclock.paused_ns < end) {
            run_for(50 * US);
            if (irq)
                assert_int_equal(in(0x0c) & 0xc0, 0xc0);
        }
        assert_in_range(edges, rates[rate] * 2 - (rate ? 1 : 0), rates[rate] * 2 + 1);
    }
    /* polled */
    out(0x0b, 0x02);
    out(0x0a, 0x2f);
    in(0x0c);
    unsigned seen = 0;
    for (int i = 0; i < 400; i++) {
        run_for(10 * MS);
        seen += (in(0x0c) & 0x40) != 0;
    }
    assert_in_range(seen, 8, 9);
    assert_false(irq);
}

static void periodic_catches_up(void **state)
{
    (void)state;
    out(0x0a, 0x26);
    out(0x0b, 0x42); /* 1024 Hz */
    edges = 0;
    vclock.paused_ns += 100 * MS; /* no timer ran */
    timer_queue_run(&timers);
    assert_int_equal(edges, 1);
    in(0x0c);
    for (int i = 0; i < 20000; i++) {
        run_for(10 * US);
        if (irq)
            in(0x0c);
    }
    assert_in_range(edges, 306, 308); /* 300 ms in all */
    edges = 0;
    vclock.paused_ns += 3600 * S;
    timer_queue_run(&timers);
    in(0x0c);
    for (int i = 0; i < 20000; i++) {
        run_for(100 * US);
        if (irq)
            in(0x0c);
    }
    assert_in_range(edges, 2048, 2050); /* the hour is forgotten */
}

static void ram_and_ports(void **state)
{
    (void)state;
    for (unsigned i = 0x0e; i < 0x80; i++)
        if (i != 0x32)
            out(i, (uint8_t)(i ^ 0x5a));
    for (unsigned i = 0x0e; i < 0x80; i++)
        if (i != 0x32)
            assert_int_equal(in(i), i ^ 0x5a);
    mc146818_set(&rtc, 0x38, 0x12);
    assert_int_equal(in(0x38), 0x12);
    assert_int_equal(mc146818_get(&rtc, 0x0e), 0x0e ^ 0x5a);
    mc146818_set(&rtc, 1000, 1);
    assert_int_equal(in(0x0d), 0x80);
    out(0x0d, 0);
    assert_int_equal(in(0x0d), 0x80);
    assert_int_equal(mc146818_ops.read(&rtc, 0, 1), 0xff);
    mc146818_ops.write(&rtc, 0, 0x8f, 1);
    assert_true(nmi_masked);
    assert_int_equal(mc146818_ops.read(&rtc, 1, 1), 0x0f ^ 0x5a);
    mc146818_ops.write(&rtc, 0, 0x0f, 1);
    assert_false(nmi_masked);
}

static void reset_pin(void **state)
{
    (void)state;
    out(0x40, 0x77);
    out(0x0b, 0x7e);
    run_for(2 * S);
    assert_true(irq);
    mc146818_reset(&rtc);
    assert_false(irq);
    assert_int_equal(in(0x0c), 0);
    assert_int_equal(in(0x0b), 0x06);
    assert_int_equal(in(0x40), 0x77);
    assert_int_equal(in(0x0a), 0x26);
}

static void survives_garbage(void **state)
{
    (void)state;
    unsigned seed = (unsigned)time(NULL);
    printf("seed %u\n", seed);
    srand(seed);
    for (int i = 0; i < 100000; i++) {
        unsigned reg = rand() % 4 ? (unsigned)rand() % 14 : (unsigned)rand() % 256;
        if (rand() % 2)
            out(reg, (uint8_t)rand());
        else
            in(reg);
        if (rand() % 4 == 0)
            run_for((uint64_t)rand() % (10 * MS));
        if (rand() % 64 == 0) {
            vclock.paused_ns += (uint64_t)rand() * 1000;
            timer_queue_run(&timers);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(keeps_time, setup, teardown),
        cmocka_unit_test_setup_teardown(rolls_over_the_century, setup, teardown),
        cmocka_unit_test_setup_teardown(agrees_with_the_c_library, setup, teardown),
        cmocka_unit_test_setup_teardown(binary_and_12_hours, setup, teardown),
        cmocka_unit_test_setup_teardown(set_stops_the_update, setup, teardown),
        cmocka_unit_test_setup_teardown(update_in_progress, setup, teardown),
        cmocka_unit_test_setup_teardown(divider_reset, setup, teardown),
        cmocka_unit_test_setup_teardown(update_ended_interrupt, setup, teardown),
        cmocka_unit_test_setup_teardown(alarm_interrupt, setup, teardown),
        cmocka_unit_test_setup_teardown(periodic_rates, setup, teardown),
        cmocka_unit_test_setup_teardown(periodic_catches_up, setup, teardown),
        cmocka_unit_test_setup_teardown(ram_and_ports, setup, teardown),
        cmocka_unit_test_setup_teardown(reset_pin, setup, teardown),
        cmocka_unit_test_setup_teardown(survives_garbage, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
