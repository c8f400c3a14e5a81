/*
 * Virtual time of one VM. One source: the host TSC where it is invariant (calibrated against
 * CLOCK_MONOTONIC at creation), else CLOCK_MONOTONIC. TSC, PIT, APIC timer, PM timer and RTC all
 * derive from it, so they agree.
 */
#ifndef VD_SCHED_CLOCK_H
#define VD_SCHED_CLOCK_H

#include <stdint.h>

struct vclock {
    uint64_t tsc_hz;      /* frequency of vclock_tsc */
    uint64_t base_tsc;    /* host TSC at virtual time 0 */
    uint64_t mult, shift; /* ns = ticks * mult >> shift (128-bit product) */
    uint64_t paused_ns;   /* virtual time while paused */
    uint64_t paused_tsc;  /* vclock_tsc while paused */
    uint64_t base_mono_ns;
    uint8_t uses_tsc, paused;
};

/* Starts at 0, running. Takes about 10 ms where the TSC has to be measured. */
void vclock_init(struct vclock *clock);
uint64_t vclock_now(const struct vclock *clock); /* ns since creation, without paused time */
uint64_t vclock_tsc(const struct vclock *clock); /* guest TSC ticks at tsc_hz; monotonic */
/* Pausing stops both counters; they go on from the same values. Only while no vCPU runs. */
void vclock_pause(struct vclock *clock);
void vclock_resume(struct vclock *clock);
/* Converts a virtual deadline to CLOCK_MONOTONIC ns, for host sleeps. */
uint64_t vclock_to_monotonic(const struct vclock *clock, uint64_t virtual_ns);

/* value * mul / div with a 128-bit product, rounding down; for device counters derived from ns. */
static inline uint64_t clock_muldiv(uint64_t value, uint64_t mul, uint64_t div)
{
    return (uint64_t)((unsigned __int128)value * mul / div);
}

#endif
