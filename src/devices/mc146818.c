#include "devices/mc146818.h"

#include <string.h>

enum {
    SECONDS,
    SECONDS_ALARM,
    MINUTES,
    MINUTES_ALARM,
    HOURS,
    HOURS_ALARM,
    WEEKDAY,
    DAY,
    MONTH,
    YEAR,
    REG_A,
    REG_B,
    REG_C,
    REG_D,
    RAM_START,
};
enum {
    A_UIP = 1 << 7,
    A_DV = 7 << 4,
    A_DV_32768 = 2 << 4,
    A_RS = 15,
    B_SET = 1 << 7,
    B_PIE = 1 << 6,
    B_AIE = 1 << 5,
    B_UIE = 1 << 4,
    B_SQWE = 1 << 3,
    B_BINARY = 1 << 2,
    B_24H = 1 << 1,
    C_IRQF = 1 << 7,
    C_PF = 1 << 6,
    C_AF = 1 << 5,
    C_UF = 1 << 4,
    D_VRT = 1 << 7,
    HOUR_PM = 1 << 7,
    ALARM_ANY = 0xc0, /* both bits set: matches always */
    NMI_MASK = 1 << 7,
};
static const int64_t SECOND = 1000000000;
static const int64_t HALF_SECOND = 500000000;
/* UIP rises 244 us before the update cycle, which takes 1984 us (32768 Hz time base). */
static const int64_t UIP_NS = 244000 + 1984000;
static const uint64_t CRYSTAL_HZ = 32768;
static const int64_t DAY_SECONDS = 86400;
static const uint64_t MIN_PERIOD_GAP_NS = 20000;

struct calendar {
    int64_t days; /* since 1970-01-01 */
    int second_of_day;
};

static int64_t virtual_now(const struct mc146818 *rtc)
{
    return (int64_t)vclock_now(rtc->config.clock);
}

static bool divider_runs(const struct mc146818 *rtc)
{
    return (rtc->ram[REG_A] & A_DV) <= A_DV_32768; /* 11x: reset; 011..101: for factory tests */
}

static bool updating(const struct mc146818 *rtc)
{
    return divider_runs(rtc) && !(rtc->ram[REG_B] & B_SET);
}

static unsigned decode(const struct mc146818 *rtc, uint8_t value)
{
    return rtc->ram[REG_B] & B_BINARY ? value : (value >> 4) * 10u + (value & 15);
}

static uint8_t encode(const struct mc146818 *rtc, unsigned value)
{
    return (uint8_t)(rtc->ram[REG_B] & B_BINARY ? value : (value / 10 << 4 | value % 10));
}

static unsigned decode_hour(const struct mc146818 *rtc, uint8_t value)
{
    if (rtc->ram[REG_B] & B_24H)
        return decode(rtc, value);
    return decode(rtc, value & 0x7f) % 12 + (value & HOUR_PM ? 12 : 0);
}

static uint8_t encode_hour(const struct mc146818 *rtc, unsigned hour)
{
    if (rtc->ram[REG_B] & B_24H)
        return encode(rtc, hour);
    return (uint8_t)(encode(rtc, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0));
}

/* Days since 1970-01-01 of a Gregorian date; years are counted from March for the leap day. */
static int64_t days_of_date(int year, int month, int day)
{
    int y = month > 2 ? year : year - 1;
    int m = month > 2 ? month - 3 : month + 9;
    return 365ll * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}

static bool leap(int year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static void date_of_days(int64_t days, int *year, int *month, int *day)
{
    int y = 1970;
    while (days < 0)
        days += leap(--y) ? 366 : 365;
    for (; days >= (leap(y) ? 366 : 365); y++)
        days -= leap(y) ? 366 : 365;
    int m = 1;
    while (m < 12 && days >= days_of_date(y, m + 1, 1) - days_of_date(y, m, 1)) {
        days -= days_of_date(y, m + 1, 1) - days_of_date(y, m, 1);
        m++;
    }
    *year = y;
    *month = m;
    *day = (int)days + 1;
}

static unsigned century(const struct mc146818 *rtc)
{
    unsigned value = decode(rtc, rtc->ram[MC146818_CENTURY]);
    return value >= 19 && value <= 99 ? value : 20;
}

/* Out-of-range values, which a guest may have written, count as the nearest date they make. */
static struct calendar get_time(const struct mc146818 *rtc)
{
    unsigned year = century(rtc) * 100 + decode(rtc, rtc->ram[YEAR]) % 100;
    unsigned month = decode(rtc, rtc->ram[MONTH]);
    unsigned day = decode(rtc, rtc->ram[DAY]);
    month = month < 1 ? 1 : month > 12 ? 12 : month;
    day = day < 1 ? 1 : day > 31 ? 31 : day;
    unsigned seconds = decode_hour(rtc, rtc->ram[HOURS]) % 24 * 3600 +
                       decode(rtc, rtc->ram[MINUTES]) % 60 * 60 +
                       decode(rtc, rtc->ram[SECONDS]) % 60;
    return (struct calendar){.days = days_of_date((int)year, (int)month, (int)day),
                             .second_of_day = (int)seconds};
}

static void set_time_of_day(struct mc146818 *rtc, int second_of_day)
{
    rtc->ram[HOURS] = encode_hour(rtc, (unsigned)second_of_day / 3600);
    rtc->ram[MINUTES] = encode(rtc, (unsigned)second_of_day / 60 % 60);
    rtc->ram[SECONDS] = encode(rtc, (unsigned)second_of_day % 60);
}

static void set_date(struct mc146818 *rtc, int64_t days)
{
    int year, month, day;
    date_of_days(days, &year, &month, &day);
    rtc->ram[DAY] = encode(rtc, (unsigned)day);
    rtc->ram[MONTH] = encode(rtc, (unsigned)month);
    rtc->ram[YEAR] = encode(rtc, (unsigned)year % 100);
    rtc->ram[MC146818_CENTURY] = encode(rtc, (unsigned)year / 100 % 100);
}

/* The day of the week is a counter of its own: 1..7, set by software. */
static void advance_weekday(struct mc146818 *rtc, int64_t days)
{
    int64_t weekday = rtc->ram[WEEKDAY] & 7;
    rtc->ram[WEEKDAY] = (uint8_t)((weekday + 6 + days % 7) % 7 + 1);
}

static bool field_matches(uint8_t alarm, uint8_t value)
{
    return (alarm & ALARM_ANY) == ALARM_ANY || alarm == value;
}

static bool alarm_matches(const struct mc146818 *rtc, int second_of_day)
{
    const uint8_t *ram = rtc->ram;
    return field_matches(ram[SECONDS_ALARM], encode(rtc, (unsigned)second_of_day % 60)) &&
           field_matches(ram[MINUTES_ALARM], encode(rtc, (unsigned)second_of_day / 60 % 60)) &&
           field_matches(ram[HOURS_ALARM], encode_hour(rtc, (unsigned)second_of_day / 3600));
}

/* Counts the seconds that have begun since the last look; sets UF and AF as they would be. */
static void advance_seconds(struct mc146818 *rtc, int64_t now)
{
    int64_t seconds = now > rtc->second_start ? (now - rtc->second_start) / SECOND : 0;
    if (seconds == 0)
        return;
    rtc->second_start += seconds * SECOND;
    if (!updating(rtc))
        return;
    struct calendar time = get_time(rtc);
    rtc->ram[REG_C] |= C_UF;
    int64_t checks = seconds < DAY_SECONDS ? seconds : DAY_SECONDS;
    for (int64_t i = 1; i <= checks && !(rtc->ram[REG_C] & C_AF); i++)
        if (alarm_matches(rtc, (int)((time.second_of_day + i) % DAY_SECONDS)))
            rtc->ram[REG_C] |= C_AF;
    int64_t second = time.second_of_day + seconds;
    set_time_of_day(rtc, (int)(second % DAY_SECONDS));
    if (second >= DAY_SECONDS) {
        set_date(rtc, time.days + second / DAY_SECONDS);
        advance_weekday(rtc, second / DAY_SECONDS);
    }
}

/* Ticks of the crystal between two periodic interrupts (data sheet, table 5), 0: none. */
static uint64_t period_ticks(const struct mc146818 *rtc)
{
    unsigned rate = rtc->ram[REG_A] & A_RS;
    if (rate == 0 || !divider_runs(rtc))
        return 0;
    return rate < 3 ? 64ull << rate : 1ull << (rate - 1);
}

static uint64_t periods_until(const struct mc146818 *rtc, int64_t now)
{
    uint64_t ticks = period_ticks(rtc);
    if (ticks == 0 || now < rtc->divider_start)
        return 0;
    return clock_muldiv((uint64_t)(now - rtc->divider_start), CRYSTAL_HZ, (uint64_t)SECOND) / ticks;
}

static uint64_t time_of_period(const struct mc146818 *rtc, uint64_t number)
{
    uint64_t ticks = number * period_ticks(rtc);
    return (uint64_t)rtc->divider_start + clock_muldiv(ticks, (uint64_t)SECOND, CRYSTAL_HZ) + 1;
}

static void update_irq(struct mc146818 *rtc)
{
    uint8_t *c = &rtc->ram[REG_C];
    uint8_t level = (*c & rtc->ram[REG_B] & (C_PF | C_AF | C_UF)) != 0;
    *c = (uint8_t)((*c & ~C_IRQF) | (level ? C_IRQF : 0));
    if (level != rtc->irq) {
        rtc->irq = level;
        irq_line_set(&rtc->config.irq, level);
    }
}

/* Brings registers and flags up to date. With PIE the timer alone sets PF, tick by tick. */
static void refresh(struct mc146818 *rtc, int64_t now)
{
    advance_seconds(rtc, now);
    if (!(rtc->ram[REG_B] & B_PIE)) {
        uint64_t periods = periods_until(rtc, now);
        if (periods > rtc->periods_seen)
            rtc->ram[REG_C] |= C_PF;
        rtc->periods_seen = periods;
    }
    update_irq(rtc);
}

static void arm_update(struct mc146818 *rtc)
{
    if (updating(rtc) && (rtc->ram[REG_B] & (B_UIE | B_AIE)))
        timer_set(&rtc->update, (uint64_t)(rtc->second_start + SECOND));
    else
        timer_cancel(&rtc->update);
}

static void arm_periodic(struct mc146818 *rtc, uint64_t now)
{
    uint64_t ticks = period_ticks(rtc);
    if (!(rtc->ram[REG_B] & B_PIE) || ticks == 0) {
        timer_cancel(&rtc->periodic);
        return;
    }
    /* When late, at most at twice the rate, so that the handler can read register C in between. */
    uint64_t gap = clock_muldiv(ticks, (uint64_t)HALF_SECOND, CRYSTAL_HZ);
    uint64_t soonest = now + (gap > MIN_PERIOD_GAP_NS ? gap : MIN_PERIOD_GAP_NS);
    uint64_t deadline = time_of_period(rtc, rtc->next_period);
    timer_set(&rtc->periodic, deadline > soonest ? deadline : soonest);
}

static void restart_periodic(struct mc146818 *rtc, int64_t now)
{
    rtc->periods_seen = periods_until(rtc, now);
    rtc->next_period = rtc->periods_seen + 1;
    if ((rtc->ram[REG_B] & B_PIE) && period_ticks(rtc))
        timer_set(&rtc->periodic, time_of_period(rtc, rtc->next_period));
    else
        timer_cancel(&rtc->periodic);
}

static void update_expired(void *ctx, uint64_t now_ns)
{
    struct mc146818 *rtc = ctx;
    refresh(rtc, (int64_t)now_ns);
    arm_update(rtc);
}

static void periodic_expired(void *ctx, uint64_t now_ns)
{
    struct mc146818 *rtc = ctx;
    uint64_t periods = periods_until(rtc, (int64_t)now_ns);
    uint64_t one_second = CRYSTAL_HZ / (period_ticks(rtc) ? period_ticks(rtc) : 1);
    rtc->ram[REG_C] |= C_PF;
    update_irq(rtc);
    rtc->next_period++;
    /* The host kept us from running for long: what is more than a second old is forgotten. */
    if (periods > rtc->next_period + one_second)
        rtc->next_period = periods + 1;
    arm_periodic(rtc, now_ns);
}

static void write_a(struct mc146818 *rtc, uint8_t value, int64_t now)
{
    uint8_t before = rtc->ram[REG_A];
    bool ran = divider_runs(rtc);
    rtc->ram[REG_A] = value & (uint8_t)~A_UIP;
    if (!ran && divider_runs(rtc)) {
        /* The first update comes half a second after the divider is released. */
        rtc->divider_start = now;
        rtc->second_start = now - HALF_SECOND;
    }
    if (((before ^ value) & (A_RS | A_DV)) != 0)
        restart_periodic(rtc, now);
    arm_update(rtc);
}

static void write_b(struct mc146818 *rtc, uint8_t value, int64_t now)
{
    uint8_t before = rtc->ram[REG_B];
    if (value & B_SET)
        value &= (uint8_t)~B_UIE;
    rtc->ram[REG_B] = value;
    if ((before ^ value) & B_PIE)
        restart_periodic(rtc, now);
    arm_update(rtc);
    update_irq(rtc);
}

static uint8_t read_register(struct mc146818 *rtc, unsigned index)
{
    int64_t now = virtual_now(rtc);
    uint8_t value;
    if (index < RAM_START || index == MC146818_CENTURY)
        refresh(rtc, now);
    value = rtc->ram[index];
    switch (index) {
    case REG_A:
        if (updating(rtc) && now - rtc->second_start >= SECOND - UIP_NS)
            value |= A_UIP;
        return value;
    case REG_C:
        rtc->ram[REG_C] = 0;
        update_irq(rtc);
        return value;
    case REG_D:
        return D_VRT;
    default:
        return value;
    }
}

static void write_register(struct mc146818 *rtc, unsigned index, uint8_t value)
{
    int64_t now = virtual_now(rtc);
    refresh(rtc, now);
    switch (index) {
    case REG_A:
        write_a(rtc, value, now);
        break;
    case REG_B:
        write_b(rtc, value, now);
        break;
    case REG_C:
    case REG_D:
        break;
    default:
        rtc->ram[index] = value;
        break;
    }
}

static uint64_t rtc_read(void *ctx, uint64_t offset, unsigned size)
{
    struct mc146818 *rtc = ctx;
    (void)size;
    if (!(offset & 1))
        return 0xff; /* the index port is write-only */
    return read_register(rtc, rtc->index & 0x7f);
}

static void rtc_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct mc146818 *rtc = ctx;
    (void)size;
    if (offset & 1) {
        write_register(rtc, rtc->index & 0x7f, (uint8_t)value);
        return;
    }
    uint8_t before = rtc->index;
    rtc->index = (uint8_t)value;
    if ((before ^ rtc->index) & NMI_MASK)
        irq_line_set(&rtc->config.nmi_mask, rtc->index & NMI_MASK);
}

uint8_t mc146818_get(const struct mc146818 *rtc, unsigned index)
{
    return rtc->ram[index & 0x7f];
}

void mc146818_set(struct mc146818 *rtc, unsigned index, uint8_t value)
{
    if (index >= RAM_START && index < sizeof(rtc->ram))
        rtc->ram[index] = value;
}

void mc146818_init(struct mc146818 *rtc, const struct mc146818_config *config)
{
    memset(rtc, 0, sizeof(*rtc));
    rtc->config = *config;
    timer_init(&rtc->update, config->timers, update_expired, rtc);
    timer_init(&rtc->periodic, config->timers, periodic_expired, rtc);
    rtc->ram[REG_A] = A_DV_32768 | 6; /* 1024 Hz, as PC firmware sets it */
    rtc->ram[REG_B] = B_24H;
    rtc->ram[REG_D] = D_VRT;
    rtc->second_start = rtc->divider_start = virtual_now(rtc);
    int64_t days = config->start_time / DAY_SECONDS;
    int64_t second = config->start_time % DAY_SECONDS;
    if (second < 0) {
        second += DAY_SECONDS;
        days--;
    }
    set_date(rtc, days);
    set_time_of_day(rtc, (int)second);
    rtc->ram[WEEKDAY] = 5; /* 1970-01-01 was a Thursday, Sunday is 1 */
    advance_weekday(rtc, days < 0 ? days % 7 + 7 : days);
}

void mc146818_reset(struct mc146818 *rtc)
{
    refresh(rtc, virtual_now(rtc));
    rtc->ram[REG_B] &= (uint8_t) ~(B_PIE | B_AIE | B_UIE | B_SQWE);
    rtc->ram[REG_C] = 0;
    timer_cancel(&rtc->update);
    timer_cancel(&rtc->periodic);
    rtc->periods_seen = periods_until(rtc, virtual_now(rtc));
    update_irq(rtc);
    rtc->index = 0;
    irq_line_set(&rtc->config.nmi_mask, false);
}

const struct io_ops mc146818_ops = {rtc_read, rtc_write, 1, 1};
