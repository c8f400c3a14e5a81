/* The runner with an engine that spins, halts or fails on demand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sched/runner.h"

enum fake_guest { GUEST_SPINS, GUEST_HALTS, GUEST_SHUTS_DOWN, GUEST_FAILS };

struct vcpu {
    _Atomic int guest; /* enum fake_guest */
    _Atomic bool kicked, intr;
    _Atomic unsigned runs, interrupts;
    _Atomic bool inside;
    void (*port_write)(void *ctx); /* called once inside vcpu_run, as a device would be */
    void *port_ctx;
};

static enum vcpu_exit fake_run_inside(struct vcpu *vcpu, struct vd_error *err)
{
    for (;;) {
        if (vcpu->port_write) {
            void (*port_write)(void *) = vcpu->port_write;
            vcpu->port_write = NULL;
            port_write(vcpu->port_ctx);
        }
        if (atomic_exchange(&vcpu->intr, false))
            atomic_fetch_add(&vcpu->interrupts, 1);
        if (atomic_exchange(&vcpu->kicked, false))
            return VCPU_EXIT_KICK;
        switch (atomic_load(&vcpu->guest)) {
        case GUEST_HALTS:
            return VCPU_EXIT_HALT;
        case GUEST_SHUTS_DOWN:
            return VCPU_EXIT_SHUTDOWN;
        case GUEST_FAILS:
            error_set(err, "no such thing");
            return VCPU_EXIT_ERROR;
        default:
            break;
        }
    }
}

static enum vcpu_exit fake_run(struct vcpu *vcpu, struct vd_error *err)
{
    atomic_fetch_add(&vcpu->runs, 1);
    atomic_store(&vcpu->inside, true);
    enum vcpu_exit reason = fake_run_inside(vcpu, err);
    atomic_store(&vcpu->inside, false);
    return reason;
}

static void fake_kick(struct vcpu *vcpu)
{
    atomic_store(&vcpu->kicked, true);
}

static void fake_interrupt(struct vcpu *vcpu)
{
    atomic_store(&vcpu->intr, true);
}

static const struct engine_ops fake_engine = {
    .name = "fake", .vcpu_run = fake_run, .vcpu_kick = fake_kick, .vcpu_interrupt = fake_interrupt};

enum { SAMPLES = 400 };

struct vm {
    struct vcpu vcpu;
    pthread_mutex_t lock;
    struct vclock clock;
    struct timer_queue timers;
    struct runner *runner;
    struct timer tick;
    uint64_t period;
    unsigned ticks;
    uint64_t late[SAMPLES];
    _Atomic int64_t thread_cpu_ns; /* of the vCPU's thread, sampled by the tick */
    _Atomic unsigned services, stops;
    _Atomic int last_reason;
    bool keep_running;
    struct vd_error error;
    clockid_t cpu_clock;
    _Atomic bool cpu_clock_known;
};

static void sleep_ms(long ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
        ;
}

static void on_tick(void *ctx, uint64_t now_ns)
{
    struct vm *vm = ctx;
    if (vm->ticks < SAMPLES)
        vm->late[vm->ticks] = now_ns - vm->tick.deadline;
    vm->ticks++;
    if (vm->period)
        timer_set(&vm->tick, vclock_now(&vm->clock) + vm->period);
    if (vm->runner)
        runner_interrupt(vm->runner);
}

static void on_service(void *ctx)
{
    struct vm *vm = ctx;
    assert_false(atomic_load(&vm->vcpu.inside));
    pthread_getcpuclockid(pthread_self(), &vm->cpu_clock);
    atomic_store(&vm->cpu_clock_known, true);
    atomic_fetch_add(&vm->services, 1);
}

static bool on_stopped(void *ctx, enum vcpu_exit reason, const struct vd_error *err)
{
    struct vm *vm = ctx;
    vm->error = *err;
    atomic_store(&vm->last_reason, (int)reason);
    atomic_fetch_add(&vm->stops, 1);
    atomic_store(&vm->vcpu.guest, GUEST_HALTS);
    return vm->keep_running;
}

static void vm_prepare(struct vm *vm, enum fake_guest guest, bool paused)
{
    struct vd_error err;
    memset(vm, 0, sizeof(*vm));
    atomic_store(&vm->vcpu.guest, (int)guest);
    pthread_mutex_init(&vm->lock, NULL);
    vclock_init(&vm->clock);
    timer_queue_init(&vm->timers, &vm->clock);
    timer_init(&vm->tick, &vm->timers, on_tick, vm);
    struct runner_config config = {.ops = &fake_engine,
                                   .vcpu = &vm->vcpu,
                                   .lock = &vm->lock,
                                   .timers = &vm->timers,
                                   .clock = &vm->clock,
                                   .ctx = vm,
                                   .service = on_service,
                                   .stopped = on_stopped,
                                   .paused = paused};
    assert_int_equal(runner_start(&vm->runner, &config, &err), 0);
}

static void vm_start(struct vm *vm, enum fake_guest guest)
{
    vm_prepare(vm, guest, false);
}

static void vm_tick(struct vm *vm, uint64_t after_ns, uint64_t period)
{
    pthread_mutex_lock(&vm->lock);
    vm->period = period;
    timer_set(&vm->tick, vclock_now(&vm->clock) + after_ns);
    pthread_mutex_unlock(&vm->lock);
}

static unsigned vm_ticks(struct vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    unsigned ticks = vm->ticks;
    pthread_mutex_unlock(&vm->lock);
    return ticks;
}

static void vm_end(struct vm *vm)
{
    runner_stop(vm->runner);
    runner_join(vm->runner);
    timer_queue_free(&vm->timers);
    pthread_mutex_destroy(&vm->lock);
}

static void wait_for(_Atomic unsigned *value, unsigned at_least)
{
    for (int i = 0; i < 5000 && atomic_load(value) < at_least; i++)
        sleep_ms(1);
    assert_true(atomic_load(value) >= at_least);
}

static void wait_for_ticks(struct vm *vm, unsigned at_least)
{
    for (int i = 0; i < 10000 && vm_ticks(vm) < at_least; i++)
        sleep_ms(1);
    assert_true(vm_ticks(vm) >= at_least);
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Returns the lower quartile: the tests share the machine with other work. */
static uint64_t report_latency(struct vm *vm, const char *what)
{
    qsort(vm->late, SAMPLES, sizeof(vm->late[0]), compare_u64);
    printf("%s: late by min %.1f, quartile %.1f, median %.1f, 95%% %.1f us\n", what,
           (double)vm->late[0] / 1e3, (double)vm->late[SAMPLES / 4] / 1e3,
           (double)vm->late[SAMPLES / 2] / 1e3, (double)vm->late[SAMPLES * 95 / 100] / 1e3);
    return vm->late[SAMPLES / 4];
}

static void timer_interrupts_running_guest(void **state)
{
    (void)state;
    static struct vm vm;
    vm_start(&vm, GUEST_SPINS);
    vm_tick(&vm, 1000000, 500000);
    wait_for_ticks(&vm, SAMPLES);
    vm_end(&vm);
    /* 14 us on an idle host; what the rest of the machine adds is not ours to judge */
    assert_true(report_latency(&vm, "running") < 200000);
    assert_true(vm.late[0] < 50000);
}

static void timer_interrupts_halted_guest(void **state)
{
    (void)state;
    static struct vm vm;
    vm_start(&vm, GUEST_HALTS);
    vm_tick(&vm, 1000000, 500000);
    wait_for_ticks(&vm, SAMPLES);
    vm_end(&vm);
    assert_true(report_latency(&vm, "halted") < 500000);
    assert_true(atomic_load(&vm.vcpu.interrupts) > SAMPLES / 2);
}

static int64_t cpu_ns(struct vm *vm)
{
    struct timespec ts;
    assert_int_equal(clock_gettime(vm->cpu_clock, &ts), 0);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void halted_guest_uses_no_cpu(void **state)
{
    (void)state;
    static struct vm vm;
    vm_start(&vm, GUEST_HALTS);
    runner_request_service(vm.runner); /* learns the thread's clock */
    wait_for(&vm.services, 1);
    vm_tick(&vm, 1000000, 10000000); /* 100 Hz, as an idle kernel */
    sleep_ms(20);
    int64_t before = cpu_ns(&vm);
    unsigned runs = atomic_load(&vm.vcpu.runs), ticks = vm_ticks(&vm);
    sleep_ms(200);
    int64_t used = cpu_ns(&vm) - before;
    runs = atomic_load(&vm.vcpu.runs) - runs;
    ticks = vm_ticks(&vm) - ticks;
    vm_end(&vm);
    printf("halted for 200 ms: %.2f ms of CPU, %u ticks, %u runs\n", (double)used / 1e6, ticks,
           runs);
    assert_true(used < 200000000 / 50);
    assert_true(ticks >= 5);
    assert_true(runs <= 3 * ticks + 5);
}

static void kick_and_interrupt_end_a_halt(void **state)
{
    (void)state;
    static struct vm vm;
    vm_start(&vm, GUEST_HALTS);
    for (unsigned i = 0; i < 300; i++) {
        unsigned runs = atomic_load(&vm.vcpu.runs);
        if (i % 2)
            runner_wake(vm.runner);
        else
            runner_interrupt(vm.runner);
        wait_for(&vm.vcpu.runs, runs + 1);
        if (i % 3 == 0)
            sleep_ms(1);
    }
    wait_for(&vm.vcpu.interrupts, 100);
    vm_end(&vm);
}

/* A device in a port write arms a timer: the deadline must hold although nobody left vcpu_run. */
static void arm_tick(void *ctx)
{
    struct vm *vm = ctx;
    pthread_mutex_lock(&vm->lock);
    timer_set(&vm->tick, vclock_now(&vm->clock) + 2000000);
    pthread_mutex_unlock(&vm->lock);
}

static void timer_armed_inside_the_run(void **state)
{
    (void)state;
    static struct vm vm;
    vm_start(&vm, GUEST_HALTS);
    wait_for(&vm.vcpu.runs, 1);
    runner_pause(vm.runner);
    vm.vcpu.port_ctx = &vm;
    vm.vcpu.port_write = arm_tick;
    atomic_store(&vm.vcpu.guest, GUEST_SPINS);
    runner_resume(vm.runner);
    wait_for_ticks(&vm, 1);
    vm_end(&vm);
}

static void pause_keeps_the_vcpu_out(void **state)
{
    (void)state;
    static struct vm vm;
    vm_start(&vm, GUEST_SPINS);
    vm_tick(&vm, 100000, 300000);
    for (int i = 0; i < 100; i++) {
        runner_pause(vm.runner);
        assert_false(atomic_load(&vm.vcpu.inside));
        unsigned runs = atomic_load(&vm.vcpu.runs);
        if (i % 10 == 0) {
            vclock_pause(&vm.clock);
            runner_wake(vm.runner);
            sleep_ms(2);
            assert_int_equal(atomic_load(&vm.vcpu.runs), runs);
            vclock_resume(&vm.clock);
        }
        runner_resume(vm.runner);
        wait_for(&vm.vcpu.runs, runs + 1);
    }
    unsigned ticks = vm_ticks(&vm);
    wait_for_ticks(&vm, ticks + 3); /* still alive after all the pauses */
    runner_pause(vm.runner);
    vm_end(&vm); /* a paused runner can be stopped */
}

static void starts_paused(void **state)
{
    (void)state;
    static struct vm vm;
    vm_prepare(&vm, GUEST_HALTS, true);
    runner_wake(vm.runner);
    sleep_ms(20);
    assert_int_equal(atomic_load(&vm.vcpu.runs), 0);
    runner_resume(vm.runner);
    wait_for(&vm.vcpu.runs, 1);
    vm_end(&vm);
    vm_prepare(&vm, GUEST_SPINS, true);
    vm_end(&vm);
    assert_int_equal(atomic_load(&vm.vcpu.runs), 0);
}

static void reports_shutdown_and_errors(void **state)
{
    (void)state;
    static struct vm vm;
    vm_start(&vm, GUEST_HALTS);
    vm.keep_running = true;
    atomic_store(&vm.vcpu.guest, GUEST_SHUTS_DOWN);
    runner_wake(vm.runner);
    wait_for(&vm.stops, 1);
    assert_int_equal(atomic_load(&vm.last_reason), VCPU_EXIT_SHUTDOWN);
    unsigned runs = atomic_load(&vm.vcpu.runs);
    runner_wake(vm.runner);
    wait_for(&vm.vcpu.runs, runs + 1);

    vm.keep_running = false;
    atomic_store(&vm.vcpu.guest, GUEST_FAILS);
    runner_wake(vm.runner);
    wait_for(&vm.stops, 2);
    assert_int_equal(atomic_load(&vm.last_reason), VCPU_EXIT_ERROR);
    assert_string_equal(vm.error.text, "no such thing");
    runner_pause(vm.runner); /* must not wait for a thread that has ended */
    vm_end(&vm);
}

static void stop_from_inside(void *ctx)
{
    struct vm *vm = ctx;
    runner_stop(vm->runner);
}

static void stops_from_its_own_thread(void **state)
{
    (void)state;
    static struct vm vm;
    vm_start(&vm, GUEST_HALTS);
    wait_for(&vm.vcpu.runs, 1);
    runner_pause(vm.runner);
    vm.vcpu.port_ctx = &vm;
    vm.vcpu.port_write = stop_from_inside;
    atomic_store(&vm.vcpu.guest, GUEST_SPINS);
    runner_resume(vm.runner);
    vm_end(&vm);
}

static void two_machines_in_one_process(void **state)
{
    (void)state;
    static struct vm a, b;
    vm_start(&a, GUEST_SPINS);
    vm_start(&b, GUEST_HALTS);
    vm_tick(&a, 1000000, 2000000);
    vm_tick(&b, 1000000, 3000000);
    wait_for_ticks(&a, 20);
    wait_for_ticks(&b, 20);
    vm_end(&a);
    unsigned ticks = vm_ticks(&b);
    wait_for_ticks(&b, ticks + 5);
    vm_end(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timer_interrupts_running_guest),
        cmocka_unit_test(timer_interrupts_halted_guest),
        cmocka_unit_test(halted_guest_uses_no_cpu),
        cmocka_unit_test(kick_and_interrupt_end_a_halt),
        cmocka_unit_test(timer_armed_inside_the_run),
        cmocka_unit_test(pause_keeps_the_vcpu_out),
        cmocka_unit_test(starts_paused),
        cmocka_unit_test(reports_shutdown_and_errors),
        cmocka_unit_test(stops_from_its_own_thread),
        cmocka_unit_test(two_machines_in_one_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
