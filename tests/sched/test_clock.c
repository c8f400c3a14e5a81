#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "sched/clock.h"

static uint64_t monotonic_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void sleep_ms(long ms)
{
    struct timespec ts = {.tv_nsec = ms * 1000000};
    nanosleep(&ts, NULL);
}

static void never_goes_back(void **state)
{
    (void)state;
    struct vclock clock;
    vclock_init(&clock);
    uint64_t now = 0, tsc = 0;
    for (int i = 0; i < 200000; i++) {
        if (i % 50000 == 25000) {
            vclock_pause(&clock);
            vclock_resume(&clock);
        }
        uint64_t next = vclock_now(&clock), next_tsc = vclock_tsc(&clock);
        assert_true(next >= now);
        assert_true(next_tsc >= tsc);
        now = next;
        tsc = next_tsc;
    }
}

static void follows_the_host(void **state)
{
    (void)state;
    struct vclock clock;
    vclock_init(&clock);
    uint64_t host = monotonic_ns(), virt = vclock_now(&clock), ticks = vclock_tsc(&clock);
    sleep_ms(100);
    uint64_t host_delta = monotonic_ns() - host;
    uint64_t virt_delta = vclock_now(&clock) - virt;
    uint64_t tick_ns = clock_muldiv(vclock_tsc(&clock) - ticks, 1000000000, clock.tsc_hz);
    /* the reads are not simultaneous: allow for being scheduled out between them */
    assert_in_range(virt_delta, host_delta - host_delta / 20, host_delta + host_delta / 20);
    assert_in_range(tick_ns, host_delta - host_delta / 20, host_delta + host_delta / 20);
}

static void stands_still_while_paused(void **state)
{
    (void)state;
    struct vclock clock;
    vclock_init(&clock);
    sleep_ms(2);
    vclock_pause(&clock);
    uint64_t now = vclock_now(&clock), tsc = vclock_tsc(&clock);
    assert_true(now >= 2000000);
    sleep_ms(50);
    assert_int_equal(vclock_now(&clock), now);
    assert_int_equal(vclock_tsc(&clock), tsc);
    vclock_resume(&clock);
    assert_true(vclock_now(&clock) >= now);
    assert_true(vclock_tsc(&clock) >= tsc);
    assert_true(vclock_now(&clock) - now < 40000000);
}

static void converts_deadlines(void **state)
{
    (void)state;
    struct vclock clock;
    vclock_init(&clock);
    uint64_t before = monotonic_ns();
    uint64_t mono = vclock_to_monotonic(&clock, vclock_now(&clock) + 5000000);
    uint64_t after = monotonic_ns();
    assert_true(mono >= before + 4990000);
    assert_true(mono <= after + 5000000);
    assert_true(vclock_to_monotonic(&clock, 0) <= monotonic_ns());
    assert_int_equal(vclock_to_monotonic(&clock, UINT64_MAX), UINT64_MAX);
}

static void multiplies_without_overflow(void **state)
{
    (void)state;
    assert_int_equal(clock_muldiv(UINT64_MAX, 1193182, 1193182), UINT64_MAX);
    assert_int_equal(clock_muldiv(1000000000, 1193182, 1000000000), 1193182);
    assert_int_equal(clock_muldiv(7, 1, 2), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_goes_back),
        cmocka_unit_test(follows_the_host),
        cmocka_unit_test(stands_still_while_paused),
        cmocka_unit_test(converts_deadlines),
        cmocka_unit_test(multiplies_without_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
