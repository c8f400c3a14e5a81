#include "devices/i8254.h"

#include <string.h>

enum {
    CONTROL = 3, /* offset of the control word register */
    RW_LATCH = 0,
    RW_LSB = 1,
    RW_MSB = 2,
    RW_BOTH = 3,
    REFRESH_TICKS = 18, /* 15 us */
    PORT61_GATE2 = 1 << 0,
    PORT61_SPEAKER = 1 << 1,
    PORT61_WRITABLE = 0x0f,
    PORT61_REFRESH = 1 << 4,
    PORT61_OUT2 = 1 << 5,
};
static const uint64_t NEVER = UINT64_MAX;
/* Edges closer than this cannot be told apart by an interrupt handler. */
static const uint64_t MIN_EDGE_NS = 5000;
static const uint64_t MAX_BEHIND_TICKS = 1193182; /* one second */

/* The input clock is 315/264 MHz (a third of the colour carrier), 105 ticks in 88000 ns. */
static uint64_t ticks_of_ns(uint64_t ns)
{
    return clock_muldiv(ns, 105, 88000);
}

static uint64_t ns_of_tick(uint64_t tick) /* the first ns at which the tick has come */
{
    return clock_muldiv(tick, 88000, 105) + (tick % 105 != 0);
}

static uint64_t now_tick(const struct i8254 *pit)
{
    return ticks_of_ns(vclock_now(pit->config.clock));
}

static unsigned rw_of(const struct i8254_channel *ch)
{
    return ch->control >> 4 & 3;
}

static bool bcd(const struct i8254_channel *ch)
{
    return ch->control & 1;
}

static uint32_t modulus(const struct i8254_channel *ch)
{
    return bcd(ch) ? 10000 : 0x10000;
}

static uint32_t from_bcd(uint32_t value)
{
    return (value >> 12) * 1000 + (value >> 8 & 15) * 100 + (value >> 4 & 15) * 10 + (value & 15);
}

static uint32_t to_bcd(uint32_t value)
{
    return value / 1000 % 10 << 12 | value / 100 % 10 << 8 | value / 10 % 10 << 4 | value % 10;
}

static bool periodic(const struct i8254_channel *ch)
{
    return ch->mode == 2 || ch->mode == 3;
}

static bool triggered_by_gate(const struct i8254_channel *ch)
{
    return ch->mode == 1 || ch->mode == 5;
}

static uint64_t elapsed(const struct i8254_channel *ch, uint64_t tick)
{
    return ch->frozen ? ch->frozen_for : tick - ch->load_tick;
}

/* Mode 3: length of the half of the period in which OUT is high or low. */
static uint32_t half(const struct i8254_channel *ch, bool high)
{
    return high ? (ch->count + 1) / 2 : ch->count / 2;
}

/* Mode 3: OUT after e ticks, and how far into that half. */
static bool square_wave(const struct i8254_channel *ch, uint64_t e, uint32_t *position)
{
    uint32_t rest = (uint32_t)(e % ch->count);
    bool out = ch->phase;
    if (rest >= half(ch, out)) {
        rest -= half(ch, out);
        out = !out;
    }
    *position = rest;
    return out;
}

/* The first tick after `tick` at which a new count goes into the running counter (modes 2, 3). */
static uint64_t next_boundary(const struct i8254_channel *ch, uint64_t tick)
{
    uint64_t e = elapsed(ch, tick);
    if (ch->mode == 2)
        return tick + (ch->count - e % ch->count);
    uint32_t position;
    bool out = square_wave(ch, e, &position);
    return tick + (half(ch, out) - position);
}

static void load(struct i8254_channel *ch)
{
    uint32_t position;
    uint8_t phase = 1;
    /* At the end of a half cycle the wave goes on with the other half; a trigger starts it high. */
    if (ch->mode == 3 && ch->loaded && !ch->frozen)
        phase = square_wave(ch, ch->load_at - ch->load_tick, &position);
    ch->count = ch->reload;
    ch->load_tick = ch->load_at;
    ch->load_at = NEVER;
    ch->phase = phase;
    ch->loaded = 1;
    ch->null_count = 0;
    ch->frozen_for = 0;
    ch->frozen = !ch->gate && !triggered_by_gate(ch);
}

static void sync(struct i8254_channel *ch, uint64_t tick)
{
    if (ch->load_at <= tick)
        load(ch);
}

static bool out_level(const struct i8254_channel *ch, uint64_t tick)
{
    uint32_t position;
    if (ch->mode == 0)
        return ch->loaded && ch->load_at == NEVER && !ch->write_msb &&
               elapsed(ch, tick) >= ch->count;
    if (!ch->loaded)
        return true;
    uint64_t e = elapsed(ch, tick);
    switch (ch->mode) {
    case 1:
        return e >= ch->count;
    case 2:
        return !ch->gate || ch->count == 1 || e % ch->count != ch->count - 1;
    case 3:
        return !ch->gate || ch->count == 1 || square_wave(ch, e, &position);
    default:
        return e != ch->count;
    }
}

static uint16_t count_value(const struct i8254_channel *ch, uint64_t tick)
{
    uint32_t value;
    if (!ch->loaded) {
        value = ch->reload;
    } else {
        uint64_t e = elapsed(ch, tick);
        uint32_t position;
        switch (ch->mode) {
        case 2:
            value = ch->count - (uint32_t)(e % ch->count);
            break;
        case 3:
            square_wave(ch, e, &position);
            value = (ch->count & ~1u) - 2 * position;
            break;
        default:
            value = ch->count + modulus(ch) - (uint32_t)(e % modulus(ch));
            break;
        }
    }
    value %= modulus(ch);
    return (uint16_t)(bcd(ch) ? to_bcd(value) : value);
}

/* The next rising edge of OUT after `tick`, without regard to a planned load. */
static uint64_t next_rise_unchanged(const struct i8254_channel *ch, uint64_t tick)
{
    if (!ch->loaded || ch->frozen)
        return NEVER;
    if (tick < ch->load_tick) /* catching up with edges from before the load */
        tick = ch->load_tick;
    uint64_t e = elapsed(ch, tick);
    uint32_t position;
    switch (ch->mode) {
    case 0:
    case 1:
        return e < ch->count ? ch->load_tick + ch->count : NEVER;
    case 2:
        return ch->count == 1 ? NEVER : next_boundary(ch, tick);
    case 3:
        if (ch->count == 1)
            return NEVER;
        if (square_wave(ch, e, &position))
            return tick + (half(ch, true) - position) + half(ch, false);
        return tick + (half(ch, false) - position);
    default:
        return e <= ch->count ? ch->load_tick + ch->count + 1 : NEVER;
    }
}

static uint64_t next_rise(const struct i8254_channel *ch, uint64_t tick)
{
    uint64_t rise = next_rise_unchanged(ch, tick);
    if (ch->load_at == NEVER)
        return rise;
    if (rise <= ch->load_at && periodic(ch))
        return rise;
    struct i8254_channel after = *ch;
    load(&after);
    return next_rise_unchanged(&after, after.load_tick);
}

static uint64_t period_ticks(const struct i8254_channel *ch)
{
    return periodic(ch) && ch->loaded ? ch->count : 0;
}

static void arm_edge(struct i8254 *pit, uint64_t now_ns)
{
    const struct i8254_channel *ch = &pit->channel[0];
    pit->held = false;
    if (pit->edge_tick == NEVER) {
        timer_cancel(&pit->edge);
        return;
    }
    uint64_t deadline = ns_of_tick(pit->edge_tick);
    /*
     * When late, faster, but the handler has to run between two edges: at most at twice the rate,
     * or at 32 times if it is known to keep up (a busy host runs the guest for few milliseconds at
     * a time, in which it has to make up for many).
     */
    uint64_t soonest = now_ns + ns_of_tick(period_ticks(ch)) / (pit->config.edge_waits ? 32 : 2);
    if (soonest < now_ns + MIN_EDGE_NS)
        soonest = now_ns + MIN_EDGE_NS;
    timer_set(&pit->edge, deadline > soonest ? deadline : soonest);
}

static void plan_edges(struct i8254 *pit, uint64_t tick)
{
    pit->edge_tick = next_rise(&pit->channel[0], tick);
    arm_edge(pit, vclock_now(pit->config.clock));
}

static void edge_expired(void *ctx, uint64_t now_ns)
{
    struct i8254 *pit = ctx;
    struct i8254_channel *ch = &pit->channel[0];
    uint64_t tick = ticks_of_ns(now_ns), edge = pit->edge_tick;
    if (tick < edge) { /* cannot happen but for rounding */
        arm_edge(pit, now_ns);
        return;
    }
    uint64_t behind = tick - edge;
    bool slow = period_ticks(ch) >= ticks_of_ns(4 * MIN_EDGE_NS);
    if (slow && behind <= MAX_BEHIND_TICKS && pit->config.edge_waits &&
        pit->config.edge_waits(pit->config.ctx)) {
        pit->held = true;
        timer_set(&pit->edge, now_ns + ns_of_tick(period_ticks(ch)));
        return;
    }
    irq_line_set(&pit->config.irq, false);
    irq_line_set(&pit->config.irq, true);
    /* The host may have kept us from running: deliver what is owed, but no more than a second. */
    sync(ch, edge);
    if (behind > MAX_BEHIND_TICKS || !slow) {
        sync(ch, tick);
        edge = tick;
    }
    pit->edge_tick = next_rise(ch, edge);
    arm_edge(pit, now_ns);
}

void i8254_edge_taken(struct i8254 *pit)
{
    if (pit->held && !pit->config.edge_waits(pit->config.ctx))
        arm_edge(pit, vclock_now(pit->config.clock));
}

static void freeze(struct i8254_channel *ch, uint64_t tick)
{
    if (!ch->frozen) {
        ch->frozen_for = ch->loaded && tick > ch->load_tick ? tick - ch->load_tick : 0;
        ch->frozen = 1;
    }
}

static void thaw(struct i8254_channel *ch, uint64_t tick)
{
    if (ch->frozen) {
        ch->load_tick = tick - ch->frozen_for;
        ch->frozen = 0;
    }
}

void i8254_set_gate(struct i8254 *pit, unsigned channel, bool level)
{
    if (channel > 2)
        return;
    struct i8254_channel *ch = &pit->channel[channel];
    uint64_t tick = now_tick(pit);
    sync(ch, tick);
    bool rising = level && !ch->gate;
    ch->gate = level;
    if (triggered_by_gate(ch)) {
        if (rising && ch->have_count)
            ch->load_at = tick + 1;
    } else if (!level) {
        freeze(ch, tick);
    } else if (rising && periodic(ch)) {
        /* stays frozen until the next clock loads it */
        if (ch->have_count)
            ch->load_at = tick + 1;
        else
            thaw(ch, tick);
    } else if (rising && !ch->write_msb) {
        thaw(ch, tick);
    }
    if (channel == 0)
        plan_edges(pit, tick);
}

static void latch_count(struct i8254_channel *ch, uint64_t tick)
{
    if (ch->count_latched)
        return;
    ch->latched_count = count_value(ch, tick);
    ch->count_latched = 1;
}

static void latch_status(struct i8254_channel *ch, uint64_t tick)
{
    if (ch->status_latched)
        return;
    ch->latched_status =
        (uint8_t)((out_level(ch, tick) ? 0x80 : 0) | (ch->null_count ? 0x40 : 0) | ch->control);
    ch->status_latched = 1;
}

static void write_control(struct i8254 *pit, uint8_t value, uint64_t tick)
{
    unsigned select = value >> 6;
    if (select == 3) { /* read-back command */
        for (unsigned i = 0; i < 3; i++) {
            if (!(value & 2u << i))
                continue;
            if (!(value & 0x20))
                latch_count(&pit->channel[i], tick);
            if (!(value & 0x10))
                latch_status(&pit->channel[i], tick);
        }
        return;
    }
    struct i8254_channel *ch = &pit->channel[select];
    if ((value >> 4 & 3) == RW_LATCH) {
        latch_count(ch, tick);
        return;
    }
    unsigned mode = value >> 1 & 7;
    *ch = (struct i8254_channel){.control = value & 0x3f,
                                 .mode = (uint8_t)(mode > 5 ? mode - 4 : mode),
                                 .gate = ch->gate,
                                 .null_count = 1,
                                 .reload = ch->reload,
                                 .load_at = NEVER};
    ch->frozen = !ch->gate && !triggered_by_gate(ch);
    if (select == 0) {
        irq_line_set(&pit->config.irq, ch->mode != 0);
        plan_edges(pit, tick);
    }
}

/* A complete count went into the count register. */
static void count_written(struct i8254_channel *ch, uint32_t value, uint64_t tick)
{
    if (bcd(ch))
        value = from_bcd(value);
    ch->reload = value % modulus(ch) ? value % modulus(ch) : modulus(ch);
    ch->have_count = 1;
    ch->null_count = 1;
    if (triggered_by_gate(ch))
        return;
    if (periodic(ch) && ch->loaded)
        ch->load_at = ch->frozen ? NEVER : next_boundary(ch, tick);
    else
        ch->load_at = tick + 1;
}

static void write_count(struct i8254 *pit, unsigned index, uint8_t value, uint64_t tick)
{
    struct i8254_channel *ch = &pit->channel[index];
    switch (rw_of(ch)) {
    case RW_LSB:
        count_written(ch, value, tick);
        break;
    case RW_MSB:
        count_written(ch, (uint32_t)value << 8, tick);
        break;
    case RW_BOTH:
        if (ch->write_msb) {
            ch->write_msb = 0;
            count_written(ch, (uint32_t)value << 8 | ch->low_byte, tick);
        } else {
            ch->low_byte = value;
            ch->write_msb = 1;
            if (ch->mode == 0) { /* the first byte stops the count */
                freeze(ch, tick);
                ch->load_at = NEVER;
            }
        }
        break;
    default: /* no control word yet */
        return;
    }
    if (index == 0) {
        if (ch->mode == 0)
            irq_line_set(&pit->config.irq, false);
        plan_edges(pit, tick);
    }
}

static uint8_t read_count(struct i8254_channel *ch, uint64_t tick)
{
    if (ch->status_latched) {
        ch->status_latched = 0;
        return ch->latched_status;
    }
    uint16_t value = ch->count_latched ? ch->latched_count : count_value(ch, tick);
    bool msb = rw_of(ch) == RW_MSB;
    if (rw_of(ch) == RW_BOTH) {
        msb = ch->read_msb;
        ch->read_msb = !msb;
    }
    if (msb || rw_of(ch) != RW_BOTH)
        ch->count_latched = 0;
    return (uint8_t)(msb ? value >> 8 : value);
}

static uint64_t pit_read(void *ctx, uint64_t offset, unsigned size)
{
    struct i8254 *pit = ctx;
    (void)size;
    offset &= 3;
    if (offset == CONTROL)
        return 0xff; /* write-only: the bus floats */
    uint64_t tick = now_tick(pit);
    sync(&pit->channel[offset], tick);
    return read_count(&pit->channel[offset], tick);
}

static void pit_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct i8254 *pit = ctx;
    uint64_t tick = now_tick(pit);
    (void)size;
    for (unsigned i = 0; i < 3; i++)
        sync(&pit->channel[i], tick);
    if ((offset & 3) == CONTROL)
        write_control(pit, (uint8_t)value, tick);
    else
        write_count(pit, (unsigned)offset & 3, (uint8_t)value, tick);
}

static uint64_t port61_read(void *ctx, uint64_t offset, unsigned size)
{
    struct i8254 *pit = ctx;
    (void)offset;
    (void)size;
    uint64_t value = pit->port61;
    if (now_tick(pit) / REFRESH_TICKS & 1)
        value |= PORT61_REFRESH;
    if (i8254_out(pit, 2))
        value |= PORT61_OUT2;
    return value;
}

static void port61_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct i8254 *pit = ctx;
    (void)offset;
    (void)size;
    pit->port61 = value & PORT61_WRITABLE;
    i8254_set_gate(pit, 2, value & PORT61_GATE2);
}

bool i8254_out(struct i8254 *pit, unsigned channel)
{
    uint64_t tick = now_tick(pit);
    struct i8254_channel *ch = &pit->channel[channel % 3];
    sync(ch, tick);
    return out_level(ch, tick);
}

bool i8254_speaker(struct i8254 *pit, uint32_t *period)
{
    struct i8254_channel *ch = &pit->channel[2];
    sync(ch, now_tick(pit));
    *period = ch->count;
    return (pit->port61 & PORT61_SPEAKER) && ch->gate && ch->mode == 3 && ch->loaded &&
           ch->count > 1;
}

void i8254_init(struct i8254 *pit, const struct i8254_config *config)
{
    memset(pit, 0, sizeof(*pit));
    pit->config = *config;
    timer_init(&pit->edge, config->timers, edge_expired, pit);
    i8254_reset(pit);
}

void i8254_reset(struct i8254 *pit)
{
    /* The chip has no reset input and comes up undefined: unprogrammed, OUT low, not counting. */
    for (unsigned i = 0; i < 3; i++)
        pit->channel[i] = (struct i8254_channel){
            .gate = i != 2, .reload = 0x10000, .load_at = NEVER, .frozen = i == 2};
    pit->edge_tick = NEVER;
    pit->held = false;
    timer_cancel(&pit->edge);
    pit->port61 = 0;
    irq_line_set(&pit->config.irq, false);
}

const struct io_ops i8254_ops = {pit_read, pit_write, 1, 1};
const struct io_ops i8254_port61_ops = {port61_read, port61_write, 1, 1};
