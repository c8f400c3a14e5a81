/*
 * The clocks and how they stand to each other: APIC timer in its three modes and across mode
 * changes (Intel SDM vol. 3, 11.5.4), IA32_TSC and IA32_TSC_ADJUST (18.17.3), RDTSCP and RDPID,
 * the 8254, the ACPI timer and the real-time clock. Nothing here depends on how fast the host is.
 */
#include "board.h"

enum { VECTOR = 0xee, PERIODIC = 1 << 17, DEADLINE = 1 << 18, MASKED = 1 << 16 };
static const uint32_t short_count = 100000;
static const uint32_t long_count = 4000000000u; /* seconds */

static volatile unsigned hits;

static void count_hit(const struct frame *frame)
{
    (void)frame;
    hits++;
    apic_write(APIC_EOI, 0);
}

static uint32_t current(void)
{
    return apic_read(APIC_CURRENT_COUNT);
}

static void one_shot(void)
{
    handlers[VECTOR] = count_hit;
    hits = 0;
    apic_write(APIC_LVT_TIMER, VECTOR);
    apic_write(APIC_DIVIDE, 0xb); /* by 1 */
    CHECK(apic_read(APIC_DIVIDE) == 0xb, apic_read(APIC_DIVIDE));
    __asm__ volatile("sti");
    uint64_t start = rdtsc();
    apic_write(APIC_INITIAL_COUNT, 0x10000);
    while (!hits)
        __asm__ volatile("pause");
    CHECK(rdtsc() - start >= 0x10000, rdtsc() - start); /* the TSC is no slower than the bus */
    CHECK(current() == 0 && apic_read(APIC_INITIAL_COUNT) == 0x10000, current());
    for (start = rdtsc(); rdtsc() - start < 1000000;)
        ;
    CHECK(hits == 1, hits);
    __asm__ volatile("cli");
}

/* A new mode neither restarts the counter nor moves it; a stopped one stays stopped. */
static void mode_changes(void)
{
    apic_write(APIC_LVT_TIMER, MASKED | VECTOR);
    apic_write(APIC_INITIAL_COUNT, long_count);
    while (current() > long_count - short_count)
        __asm__ volatile("pause");
    apic_write(APIC_LVT_TIMER, MASKED | PERIODIC | VECTOR);
    CHECK(current() <= long_count - short_count && current() != 0, current());
    CHECK(apic_read(APIC_INITIAL_COUNT) == long_count, apic_read(APIC_INITIAL_COUNT));
    apic_write(APIC_LVT_TIMER, MASKED | VECTOR);
    CHECK(current() <= long_count - short_count && current() != 0, current());

    apic_write(APIC_LVT_TIMER, MASKED | PERIODIC | VECTOR);
    apic_write(APIC_INITIAL_COUNT, short_count);
    for (unsigned wraps = 0; wraps < 5;) {
        uint32_t before = current();
        wraps += current() > before;
    }
    apic_write(APIC_LVT_TIMER, MASKED | VECTOR);
    for (uint32_t before = short_count, now; before; before = now) {
        now = current();
        CHECK(now <= before, now);
    }
    CHECK(apic_read(APIC_INITIAL_COUNT) == short_count, apic_read(APIC_INITIAL_COUNT));
    apic_write(APIC_LVT_TIMER, MASKED | PERIODIC | VECTOR);
    for (unsigned i = 0; i < 1000; i++)
        CHECK(current() == 0, current());
    apic_write(APIC_INITIAL_COUNT, 0);
    apic_write(APIC_LVT_TIMER, MASKED | VECTOR);
}

static void periodic(void)
{
    hits = 0;
    apic_write(APIC_LVT_TIMER, PERIODIC | VECTOR);
    __asm__ volatile("sti");
    apic_write(APIC_INITIAL_COUNT, 100000);
    while (hits < 5)
        __asm__ volatile("hlt");
    apic_write(APIC_INITIAL_COUNT, 0);
    unsigned seen = hits;
    CHECK(current() == 0, current());
    uint64_t start = rdtsc();
    while (rdtsc() - start < 1000000)
        ;
    CHECK(hits == seen, hits);
    __asm__ volatile("cli");
}

static void deadline(void)
{
    CHECK(cpuid(1, 0).ecx >> 24 & 1, cpuid(1, 0).ecx);
    hits = 0;
    wrmsr(MSR_TSC_DEADLINE, rdtsc()); /* ignored in the other modes */
    CHECK(rdmsr(MSR_TSC_DEADLINE) == 0, rdmsr(MSR_TSC_DEADLINE));
    apic_write(APIC_LVT_TIMER, DEADLINE | VECTOR);
    __asm__ volatile("sti");
    wrmsr(MSR_TSC_DEADLINE, rdmsr(MSR_TSC)); /* passed already: at once */
    CHECK(hits == 1, hits);
    CHECK(rdmsr(MSR_TSC_DEADLINE) == 0, rdmsr(MSR_TSC_DEADLINE));
    uint64_t at = rdtsc() + 1000000;
    wrmsr(MSR_TSC_DEADLINE, at);
    while (hits == 1)
        __asm__ volatile("pause");
    CHECK(rdtsc() >= at, rdtsc() - at);
    CHECK(rdmsr(MSR_TSC_DEADLINE) == 0, rdmsr(MSR_TSC_DEADLINE));
    wrmsr(MSR_TSC_DEADLINE, rdtsc() + (1ull << 40));
    CHECK(rdmsr(MSR_TSC_DEADLINE) != 0, 0);
    wrmsr(MSR_TSC_DEADLINE, 0);
    CHECK(rdmsr(MSR_TSC_DEADLINE) == 0 && hits == 2, hits);
    __asm__ volatile("cli");
    apic_write(APIC_LVT_TIMER, MASKED | VECTOR);
}

static void time_stamp_counter(void)
{
    const uint64_t far = 100000000000;
    CHECK(cpuid(7, 0).ebx >> 1 & 1, cpuid(7, 0).ebx);
    CHECK(rdmsr(MSR_TSC_ADJUST) == 0, rdmsr(MSR_TSC_ADJUST));
    uint64_t before = rdtsc();
    wrmsr(MSR_TSC_ADJUST, far);
    CHECK(rdtsc() - before >= far, rdtsc() - before);
    CHECK(rdmsr(MSR_TSC_ADJUST) == far, rdmsr(MSR_TSC_ADJUST));
    wrmsr(MSR_TSC_ADJUST, 0);
    CHECK(rdmsr(MSR_TSC_ADJUST) == 0, rdmsr(MSR_TSC_ADJUST));
    before = rdtsc();
    wrmsr(MSR_TSC, far);
    uint64_t after = rdtsc(), adjust = rdmsr(MSR_TSC_ADJUST);
    CHECK(after >= far && before <= far - adjust, adjust);
    wrmsr(MSR_TSC, 0);
    CHECK(rdtsc() < far, rdtsc());
    wrmsr(MSR_TSC_ADJUST, 0);
}

static void processor_number(void)
{
    for (uint32_t aux = 0; aux < 0x300; aux += 0x77) {
        uint32_t low, high, got;
        wrmsr(0xc0000103, aux);
        __asm__ volatile("rdtscp" : "=a"(low), "=d"(high), "=c"(got));
        CHECK(got == aux, got);
        if (cpuid(7, 0).ecx >> 22 & 1) {
            __asm__ volatile(".byte 0xf3, 0x0f, 0xc7, 0xf8" : "=a"(got)); /* RDPID EAX */
            CHECK(got == aux, got);
        }
    }
    CHECK(wrmsr_faults(0xc0000103, 1ull << 32) == GP, fault_vector);
}

/* Counter 2 of the 8254 in mode 0, its output on port 61h: 11932 ticks are 10 ms. */
static void interval_timer(void)
{
    out8(0x61, (uint8_t)((in8(0x61) & ~2) | 1));
    out8(0x43, 0xb0);
    out8(0x42, 11932 & 0xff);
    uint64_t start = rdtsc();
    uint32_t pm_port = 0x608, pm_start = in32((uint16_t)pm_port);
    out8(0x42, 11932 >> 8);
    while (!(in8(0x61) & 0x20))
        __asm__ volatile("pause");
    uint64_t tsc = rdtsc() - start;
    CHECK(tsc >= 1000000, tsc); /* 10 ms at no less than 100 MHz */
    uint32_t pm = (in32((uint16_t)pm_port) - pm_start) & 0xffffff;
    CHECK(pm >= 35700, pm); /* of 3579545 Hz */
}

static void real_time_clock(void)
{
    out8(0x70, 0x0a);
    while (!(in8(0x71) & 0x80)) /* an update comes within a second */
        __asm__ volatile("pause");
    while (in8(0x71) & 0x80)
        __asm__ volatile("pause");
    out8(0x70, 0x0c);
    in8(0x71);
    CHECK(in8(0x71) == 0, in8(0x71)); /* reading clears the flags */
}

void test_main(void)
{
    board_use_apic();
    one_shot();
    mode_changes();
    periodic();
    deadline();
    time_stamp_counter();
    processor_number();
    interval_timer();
    real_time_clock();
    board_end();
}
