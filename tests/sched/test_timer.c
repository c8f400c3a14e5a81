#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "sched/timer.h"

enum { TIMERS = 300 };

struct fixture {
    struct vclock clock;
    struct timer_queue queue;
    struct timer timers[TIMERS];
    uint64_t last_deadline;
    unsigned fired, rearms;
};

struct item {
    struct fixture *fixture;
    struct timer timer;
    uint64_t period;
};

static void setup(struct fixture *f)
{
    vclock_init(&f->clock);
    vclock_pause(&f->clock); /* time moves only by hand */
    timer_queue_init(&f->queue, &f->clock);
    f->last_deadline = 0;
    f->fired = f->rearms = 0;
}

static void in_order(void *ctx, uint64_t now_ns)
{
    struct item *item = ctx;
    assert_true(item->timer.deadline <= now_ns);
    assert_true(item->timer.deadline >= item->fixture->last_deadline);
    assert_false(timer_armed(&item->timer));
    item->fixture->last_deadline = item->timer.deadline;
    item->fixture->fired++;
}

static void runs_in_order_of_deadline(void **state)
{
    (void)state;
    static struct item items[TIMERS];
    struct fixture f;
    unsigned seed = (unsigned)time(NULL);
    printf("seed %u\n", seed);
    srand(seed);
    setup(&f);
    for (int i = 0; i < TIMERS; i++) {
        items[i].fixture = &f;
        timer_init(&items[i].timer, &f.queue, in_order, &items[i]);
    }
    uint64_t base = 1000000;
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 2 * TIMERS; i++) {
            struct timer *timer = &items[rand() % TIMERS].timer;
            if (rand() % 4 == 0) {
                timer_cancel(timer);
                assert_false(timer_armed(timer));
            } else {
                timer_set(timer, base + (uint64_t)(rand() % 1000));
                assert_true(timer_armed(timer));
            }
        }
        uint64_t cut = base + (uint64_t)(rand() % 1000);
        unsigned due = 0;
        uint64_t rest = UINT64_MAX;
        for (int i = 0; i < TIMERS; i++) {
            if (!timer_armed(&items[i].timer))
                continue;
            if (items[i].timer.deadline <= cut)
                due++;
            else if (items[i].timer.deadline < rest)
                rest = items[i].timer.deadline;
        }
        f.fired = 0;
        f.last_deadline = 0;
        f.clock.paused_ns = cut;
        assert_int_equal(timer_queue_run(&f.queue), rest);
        assert_int_equal(timer_queue_next(&f.queue), rest);
        assert_int_equal(f.fired, due);
        base += 1000;
    }
    timer_queue_free(&f.queue);
}

static void periodic(void *ctx, uint64_t now_ns)
{
    struct item *item = ctx;
    (void)now_ns;
    item->fixture->fired++;
    timer_set(&item->timer, item->timer.deadline + item->period);
}

static void catches_up_within_one_run(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    struct item item = {.fixture = &f, .period = 10};
    timer_init(&item.timer, &f.queue, periodic, &item);
    timer_set(&item.timer, 10);
    f.clock.paused_ns = 105;
    assert_int_equal(timer_queue_run(&f.queue), 110);
    assert_int_equal(f.fired, 10);
    timer_queue_free(&f.queue);
}

static void gives_way_to_the_guest(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    struct item item = {.fixture = &f, .period = 0};
    timer_init(&item.timer, &f.queue, periodic, &item);
    timer_set(&item.timer, 10);
    f.clock.paused_ns = 100;
    assert_int_equal(timer_queue_run(&f.queue), 10); /* returns although it is due for ever */
    assert_true(f.fired > 0);
    timer_queue_free(&f.queue);
}

static void count_rearm(void *ctx)
{
    struct fixture *f = ctx;
    f->rearms++;
}

static void reports_earlier_deadlines_only(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    f.queue.rearm = count_rearm;
    f.queue.rearm_ctx = &f;
    struct item a = {.fixture = &f, .period = 50}, b = {.fixture = &f, .period = 50};
    timer_init(&a.timer, &f.queue, periodic, &a);
    timer_init(&b.timer, &f.queue, periodic, &b);
    timer_set(&a.timer, 1000);
    assert_int_equal(f.rearms, 1);
    timer_set(&b.timer, 2000);
    assert_int_equal(f.rearms, 1);
    timer_set(&b.timer, 500);
    assert_int_equal(f.rearms, 2);
    timer_set(&b.timer, 3000);
    timer_cancel(&b.timer);
    assert_int_equal(f.rearms, 2);
    f.clock.paused_ns = 1000;
    timer_queue_run(&f.queue); /* re-arms inside: the caller of run knows the result */
    assert_int_equal(f.rearms, 2);
    timer_cancel(&a.timer);
    timer_cancel(&a.timer);
    assert_int_equal(timer_queue_next(&f.queue), UINT64_MAX);
    timer_queue_free(&f.queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_in_order_of_deadline),
        cmocka_unit_test(catches_up_within_one_run),
        cmocka_unit_test(gives_way_to_the_guest),
        cmocka_unit_test(reports_earlier_deadlines_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
