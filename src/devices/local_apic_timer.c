/*
 * The APIC timer (SDM 11.5.4): one-shot, periodic, TSC deadline; counted from the virtual clock.
 *
 * Whatever handles one event reads the clock once: between two readings the counter may reach zero,
 * which then would be past for one half of the work and still to come for the other.
 */
#include "devices/local_apic_private.h"

enum { NS_PER_SECOND = 1000000000 };
/* A guest that asks for more interrupts than the machine can take must not starve itself. */
enum { MIN_PERIOD_NS = 20000 };
/* Interrupts that are owed come at this many times the timer's rate. */
enum { CATCH_UP = 32 };

static unsigned timer_mode(const struct local_apic *apic)
{
    return (apic->lvt[LVT_TIMER] & LVT_TIMER_MODE) >> LVT_TIMER_MODE_SHIFT;
}

static const struct vclock *timer_clock(const struct local_apic *apic)
{
    return apic->bus->config.timers->clock;
}

/* Divide configuration bits 3, 1:0: 000b is 2, 110b is 128, 111b is 1. */
static uint64_t divisor(const struct local_apic *apic)
{
    unsigned code = (apic->divide >> 1 & 4) | (apic->divide & 3);
    return code == 7 ? 1 : 2ull << code;
}

static uint64_t now_ns(const struct local_apic *apic)
{
    return vclock_now(timer_clock(apic));
}

static uint64_t ticks_of_ns(const struct local_apic *apic, uint64_t ns)
{
    return clock_muldiv(ns, apic->bus->config.timer_hz, NS_PER_SECOND * divisor(apic));
}

/* The first ns at which so many ticks have passed. */
static uint64_t ns_of_ticks(const struct local_apic *apic, uint64_t ticks)
{
    uint64_t ns = clock_muldiv(ticks * divisor(apic), NS_PER_SECOND, apic->bus->config.timer_hz);
    return ticks_of_ns(apic, ns) < ticks ? ns + 1 : ns;
}

static uint64_t elapsed_ticks(const struct local_apic *apic, uint64_t now)
{
    return ticks_of_ns(apic, now - apic->start_ns);
}

static uint32_t count_in_mode(const struct local_apic *apic, unsigned mode, uint64_t now)
{
    if (apic->first_count == 0 || mode >= TIMER_TSC_DEADLINE)
        return 0;
    uint64_t ticks = elapsed_ticks(apic, now);
    if (ticks < apic->first_count)
        return apic->first_count - (uint32_t)ticks;
    if (mode == TIMER_ONE_SHOT || apic->initial_count == 0)
        return 0;
    return apic->initial_count - (uint32_t)((ticks - apic->first_count) % apic->initial_count);
}

uint32_t apic_timer_current(const struct local_apic *apic)
{
    return count_in_mode(apic, timer_mode(apic), now_ns(apic));
}

/* Ticks after start_ns at which the counter reaches zero next; 0: never. */
static uint64_t next_zero(const struct local_apic *apic, uint64_t now)
{
    uint64_t ticks = elapsed_ticks(apic, now);
    if (apic->first_count == 0 || ticks < apic->first_count)
        return apic->first_count;
    if (timer_mode(apic) == TIMER_ONE_SHOT || apic->initial_count == 0)
        return 0;
    uint64_t periods = (ticks - apic->first_count) / apic->initial_count + 1;
    return apic->first_count + periods * apic->initial_count;
}

static void arm_deadline(struct local_apic *apic)
{
    const struct vclock *clock = timer_clock(apic);
    uint64_t now = now_ns(apic), tsc = vclock_tsc(clock), wait = 0;
    if (apic->tsc_deadline > tsc) {
        unsigned __int128 ns =
            (unsigned __int128)(apic->tsc_deadline - tsc) * NS_PER_SECOND / clock->tsc_hz + 1;
        wait = ns > INT64_MAX ? INT64_MAX : (uint64_t)ns;
    }
    timer_set(&apic->timer, now + wait);
}

static void arm_zero(struct local_apic *apic, uint64_t not_before)
{
    uint64_t deadline = apic->start_ns + ns_of_ticks(apic, apic->zero);
    timer_set(&apic->timer, deadline < not_before ? not_before : deadline);
}

/*
 * For the state that software has just written, nothing is owed any more. A masked timer counts on,
 * but then nobody needs the host's timer.
 */
static void arm(struct local_apic *apic, uint64_t now)
{
    timer_cancel(&apic->timer);
    apic->held = false;
    if (apic->lvt[LVT_TIMER] & LVT_MASKED)
        return;
    unsigned mode = timer_mode(apic);
    if (mode == TIMER_TSC_DEADLINE && apic->tsc_deadline) {
        if (apic->tsc_deadline > vclock_tsc(timer_clock(apic)))
            arm_deadline(apic);
        else
            apic_timer_expired(apic, now);
    }
    if (mode >= TIMER_TSC_DEADLINE)
        return;
    apic->zero = next_zero(apic, now);
    if (apic->zero)
        arm_zero(apic, 0);
}

/* Rates too fast to be reached anyway are not made up for. */
static bool keeps_count(const struct local_apic *apic)
{
    return ns_of_ticks(apic, apic->initial_count) >= 4 * MIN_PERIOD_NS;
}

static uint64_t soonest(const struct local_apic *apic, uint64_t now)
{
    uint64_t gap = ns_of_ticks(apic, apic->initial_count) / CATCH_UP;
    return now + (gap < MIN_PERIOD_NS ? MIN_PERIOD_NS : gap);
}

static void deliver_periodic(struct local_apic *apic, uint64_t now)
{
    uint8_t vector = apic->lvt[LVT_TIMER] & LVT_VECTOR;
    if (keeps_count(apic) && apic_requested(apic, vector)) {
        apic->held = true;
        return;
    }
    apic_accept(apic, APIC_FIXED, vector, false);
    uint64_t behind = ns_of_ticks(apic, elapsed_ticks(apic, now) - apic->zero);
    if (keeps_count(apic) && behind < NS_PER_SECOND)
        apic->zero += apic->initial_count;
    else
        apic->zero = next_zero(apic, now);
    arm_zero(apic, soonest(apic, now));
}

void apic_timer_acknowledged(struct local_apic *apic)
{
    if (!apic->held || apic_requested(apic, apic->lvt[LVT_TIMER] & LVT_VECTOR))
        return;
    apic->held = false;
    arm_zero(apic, soonest(apic, now_ns(apic)));
}

void apic_timer_expired(void *ctx, uint64_t now)
{
    struct local_apic *apic = ctx;
    unsigned mode = timer_mode(apic);
    if (mode == TIMER_TSC_DEADLINE) {
        if (apic->tsc_deadline > vclock_tsc(timer_clock(apic))) {
            arm_deadline(apic);
            return;
        }
        apic->tsc_deadline = 0;
    }
    if (mode == TIMER_PERIODIC)
        deliver_periodic(apic, now);
    else
        apic_accept(apic, APIC_FIXED, apic->lvt[LVT_TIMER] & LVT_VECTOR, false);
}

/*
 * What has run out has interrupted: it is delivered in the old mode before software's write changes
 * or stops the timer, although the host's timer may come later.
 */
static void deliver_due(struct local_apic *apic, uint32_t lvt, uint64_t now)
{
    if (!timer_armed(&apic->timer) || apic->timer.deadline > now)
        return;
    timer_cancel(&apic->timer);
    if ((lvt & LVT_TIMER_MODE) >> LVT_TIMER_MODE_SHIFT == TIMER_TSC_DEADLINE)
        apic->tsc_deadline = 0;
    apic_accept(apic, APIC_FIXED, lvt & LVT_VECTOR, false);
}

void apic_timer_set_initial(struct local_apic *apic, uint32_t count)
{
    if (timer_mode(apic) >= TIMER_TSC_DEADLINE)
        return;
    uint64_t now = now_ns(apic);
    deliver_due(apic, apic->lvt[LVT_TIMER], now);
    apic->initial_count = apic->first_count = count;
    apic->start_ns = now;
    arm(apic, now);
}

void apic_timer_set_divide(struct local_apic *apic, uint32_t value)
{
    uint64_t now = now_ns(apic);
    deliver_due(apic, apic->lvt[LVT_TIMER], now);
    /* The count goes on from where it is, at the new rate. */
    apic->first_count = count_in_mode(apic, timer_mode(apic), now);
    apic->start_ns = now;
    apic->divide = value & 0xb;
    arm(apic, now);
}

void apic_timer_lvt_written(struct local_apic *apic, uint32_t old)
{
    uint32_t changed = (old ^ apic->lvt[LVT_TIMER]) & LVT_TIMER_MODE;
    unsigned old_mode = (old & LVT_TIMER_MODE) >> LVT_TIMER_MODE_SHIFT;
    uint64_t now = now_ns(apic);
    deliver_due(apic, old, now);
    /* The count goes on from where the old mode had brought it. */
    if (changed) {
        apic->first_count = count_in_mode(apic, old_mode, now);
        apic->start_ns = now;
    }
    /* Entering or leaving TSC-deadline mode disarms the timer (SDM 11.5.4.1). */
    if (changed & (2u << LVT_TIMER_MODE_SHIFT)) {
        apic->initial_count = apic->first_count = 0;
        apic->tsc_deadline = 0;
    }
    arm(apic, now);
}

void apic_timer_reset(struct local_apic *apic)
{
    timer_cancel(&apic->timer);
    apic->initial_count = apic->first_count = apic->divide = 0;
    apic->start_ns = 0;
    apic->held = false;
    apic->tsc_deadline = 0;
}

int local_apic_tsc_deadline(void *ctx, bool write, uint64_t *value)
{
    struct local_apic *apic = ctx;
    bool active = apic_hardware_enabled(apic) && timer_mode(apic) == TIMER_TSC_DEADLINE;
    if (!write) {
        bool passed = apic->tsc_deadline <= vclock_tsc(timer_clock(apic));
        /* While it is unmasked the interrupt comes first, then the register reads 0. */
        if (passed && !timer_armed(&apic->timer))
            apic->tsc_deadline = 0;
        *value = active ? apic->tsc_deadline : 0;
    } else if (active) {
        uint64_t now = now_ns(apic);
        deliver_due(apic, apic->lvt[LVT_TIMER], now);
        apic->tsc_deadline = *value;
        arm(apic, now);
    }
    return 0;
}
