/*
 * clock SECONDS: sleeps that long and prints a line at both ends for the driver to time. In
 * between, every clock of the guest must have moved by the same amount (within 0.5 %): the
 * monotonic clock, the calendar, the RTC (whole seconds), the TSC against itself, and the timer
 * interrupts of /proc/interrupts must have been counted.
 */
#include <fcntl.h>
#include <linux/rtc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static double read_clock(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static double read_rtc(void)
{
    struct rtc_time rtc;
    struct tm tm = {0};
    int fd = open("/dev/rtc0", O_RDONLY);

    if (fd < 0)
        return -1;
    if (ioctl(fd, RTC_RD_TIME, &rtc) != 0) {
        close(fd);
        return -1;
    }
    close(fd);
    tm.tm_sec = rtc.tm_sec;
    tm.tm_min = rtc.tm_min;
    tm.tm_hour = rtc.tm_hour;
    tm.tm_mday = rtc.tm_mday;
    tm.tm_mon = rtc.tm_mon;
    tm.tm_year = rtc.tm_year;
    return (double)timegm(&tm);
}

/* All interrupts of the timer lines: "0:" (PIT) and "LOC:" (local APIC). */
static unsigned long long timer_interrupts(void)
{
    char line[1024];
    unsigned long long sum = 0, count;
    FILE *file = fopen("/proc/interrupts", "r");

    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, " 0: %llu", &count) == 1 || sscanf(line, " LOC: %llu", &count) == 1)
            sum += count;
    if (file)
        fclose(file);
    return sum;
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 5;
    double mono, real, rtc;
    unsigned long long interrupts;

    rtc = read_rtc();
    while (rtc >= 0 && read_rtc() == rtc) {
    }
    rtc = read_rtc();
    interrupts = timer_interrupts();
    mono = read_clock(CLOCK_MONOTONIC);
    real = read_clock(CLOCK_REALTIME);
    printf("clock start\n");
    fflush(stdout);
    /* Half asleep, half busy: both ways of letting time pass. */
    usleep((useconds_t)(seconds * 500000));
    while (read_clock(CLOCK_MONOTONIC) - mono < seconds) {
    }
    printf("clock stop\n");
    real = read_clock(CLOCK_REALTIME) - real;
    mono = read_clock(CLOCK_MONOTONIC) - mono;
    interrupts = timer_interrupts() - interrupts;
    double rtc_before = rtc;

    rtc = rtc >= 0 ? read_rtc() - rtc : -1;
    printf("clock monotonic %.6f calendar %.6f rtc %.0f interrupts %llu\n", mono, real, rtc,
           interrupts);
    if (real < mono * 0.995 || real > mono * 1.005) {
        printf("clock: the calendar disagrees\n");
        return 1;
    }
    if (rtc_before >= 0 && (rtc < mono - 1.1 || rtc > mono + 1.1)) {
        printf("clock: the RTC disagrees\n");
        return 1;
    }
    /* A busy half at the slowest tick that Debian configures (100 Hz) and one wake-up. */
    if ((double)interrupts < seconds * 0.5 * 80) {
        printf("clock: too few timer interrupts\n");
        return 1;
    }
    return 0;
}
