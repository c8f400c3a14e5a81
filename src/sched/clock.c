#include "sched/clock.h"

#include <cpuid.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

enum { CALIBRATION_NS = 10 * 1000 * 1000, PAIR_TRIES = 16 };
static const uint64_t NS_PER_SECOND = 1000000000;

static uint64_t monotonic_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_SECOND + (uint64_t)ts.tv_nsec;
}

/* LFENCE keeps RDTSC from running ahead of earlier loads, or time could step back between threads.
 */
static uint64_t host_tsc(void)
{
    uint32_t low, high;
    __asm__ volatile("lfence\n\trdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

static bool tsc_invariant(void)
{
    unsigned eax, ebx, ecx, edx;
    if (!__get_cpuid(0x80000000, &eax, &ebx, &ecx, &edx) || eax < 0x80000007)
        return false;
    return __get_cpuid(0x80000007, &eax, &ebx, &ecx, &edx) && (edx & (1u << 8));
}

/* The same instant on both clocks: of several tries, the one that was disturbed least. */
static void read_pair(uint64_t *tsc, uint64_t *ns)
{
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < PAIR_TRIES; i++) {
        uint64_t before = host_tsc();
        uint64_t mono = monotonic_ns();
        uint64_t after = host_tsc();
        if (after - before < best) {
            best = after - before;
            *tsc = before + (after - before) / 2;
            *ns = mono;
        }
    }
}

static uint64_t measure_tsc_hz(void)
{
    uint64_t tsc0 = 0, ns0 = 0, tsc1 = 0, ns1 = 0;
    read_pair(&tsc0, &ns0);
    struct timespec wait = {.tv_nsec = CALIBRATION_NS};
    nanosleep(&wait, NULL);
    read_pair(&tsc1, &ns1);
    if (tsc1 <= tsc0 || ns1 <= ns0)
        return 0;
    return clock_muldiv(tsc1 - tsc0, NS_PER_SECOND, ns1 - ns0);
}

void vclock_init(struct vclock *clock)
{
    memset(clock, 0, sizeof(*clock));
    uint64_t hz = tsc_invariant() ? measure_tsc_hz() : 0;
    /* Below 100 MHz mult would not fit; no such host exists, the monotonic clock serves it. */
    if (hz >= 100000000) {
        clock->uses_tsc = 1;
        clock->tsc_hz = hz;
        clock->shift = 56;
        clock->mult = (uint64_t)(((unsigned __int128)NS_PER_SECOND << 56) / hz);
        read_pair(&clock->base_tsc, &clock->base_mono_ns);
    } else {
        clock->tsc_hz = NS_PER_SECOND;
        clock->mult = 1;
        clock->base_mono_ns = monotonic_ns();
    }
}

uint64_t vclock_tsc(const struct vclock *clock)
{
    if (clock->paused)
        return clock->paused_tsc;
    uint64_t now = clock->uses_tsc ? host_tsc() : monotonic_ns();
    uint64_t base = clock->uses_tsc ? clock->base_tsc : clock->base_mono_ns;
    return now > base ? now - base : 0;
}

static uint64_t ticks_to_ns(const struct vclock *clock, uint64_t ticks)
{
    return (uint64_t)((unsigned __int128)ticks * clock->mult >> clock->shift);
}

uint64_t vclock_now(const struct vclock *clock)
{
    return clock->paused ? clock->paused_ns : ticks_to_ns(clock, vclock_tsc(clock));
}

void vclock_pause(struct vclock *clock)
{
    if (clock->paused)
        return;
    clock->paused_tsc = vclock_tsc(clock);
    clock->paused_ns = ticks_to_ns(clock, clock->paused_tsc);
    clock->paused = 1;
}

void vclock_resume(struct vclock *clock)
{
    if (!clock->paused)
        return;
    if (clock->uses_tsc)
        clock->base_tsc = host_tsc() - clock->paused_tsc;
    clock->base_mono_ns = monotonic_ns() - clock->paused_ns;
    clock->paused = 0;
}

/*
 * From the distance to now, not from the creation time: the calibration error and the slewing of
 * CLOCK_MONOTONIC then only act on the distance and never accumulate.
 */
uint64_t vclock_to_monotonic(const struct vclock *clock, uint64_t virtual_ns)
{
    uint64_t now = vclock_now(clock);
    uint64_t mono = monotonic_ns();
    if (virtual_ns <= now)
        return mono - (now - virtual_ns < mono ? now - virtual_ns : mono);
    return virtual_ns - now > UINT64_MAX - mono ? UINT64_MAX : mono + (virtual_ns - now);
}
