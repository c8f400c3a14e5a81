/*
 * Drives a virtual machine through a pseudo terminal: waits for text, types, checks how it ended.
 *
 *   guest_expect [-t SECONDS] [-l LOG] [-k] SCRIPT -- COMMAND [ARGUMENT...]
 *
 *   -t  limit for the whole run (default 120)
 *   -l  everything the command printed goes there
 *   -k  fail when the output holds a complaint of a Linux kernel (warning, oops, lockup...)
 *
 * SCRIPT has one order per line; '#' starts a comment line; \n \r \t \\ \xNN are understood.
 *
 *   wait TEXT              until TEXT appears behind what the previous wait consumed
 *   send TEXT              types it
 *   sleep MILLISECONDS
 *   mark                   remembers the time at which the previous wait was satisfied
 *   elapsed MIN MAX        the time between the mark and the last wait, in milliseconds
 *   idle MILLISECONDS MAX  waits; the command may use MAX percent of one processor meanwhile
 *   compare FROM|TO|FILE   the lines between the lines that hold FROM and TO equal FILE's
 *   allow TEXT             -k ignores lines that hold TEXT
 *   reject TEXT            fails when TEXT appears anywhere in the output
 *   exit CODE              the command must end by itself with CODE
 *
 * Exit status: 0 all orders met, 1 not (with the reason and the end of the output), 2 usage.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { MAX_WORDS = 32 };

struct session {
    pid_t child;
    int master;        /* -1 after the command has closed its side */
    int status;        /* of waitpid, when ended */
    bool ended;        /* reaped */
    bool check_kernel; /* -k */
    FILE *log;
    char *output; /* everything so far, NUL-terminated */
    size_t length, capacity;
    size_t consumed;  /* end of what the previous wait matched */
    double deadline;  /* seconds, CLOCK_MONOTONIC */
    double satisfied; /* when the last wait was met */
    double marked;
    const char *allow[MAX_WORDS];
    unsigned allow_count;
    const char *reject[MAX_WORDS];
    unsigned reject_count;
};

static double now_seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

__attribute__((format(printf, 2, 3))) static bool report(const struct session *s,
                                                         const char *format, ...)
{
    va_list args;
    size_t start = s->length;
    int lines = 0;

    fprintf(stderr, "guest_expect: ");
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    while (start > 0 && lines < 25)
        if (s->output[--start] == '\n')
            lines++;
    fprintf(stderr, "\n---- end of the output ----\n%s\n----\n", s->output + start);
    return false;
}

static void append_output(struct session *s, const char *data, size_t size)
{
    if (s->length + size + 1 > s->capacity) {
        s->capacity = (s->length + size + 1) * 2;
        s->output = realloc(s->output, s->capacity);
        if (!s->output) {
            fprintf(stderr, "guest_expect: out of memory\n");
            exit(1);
        }
    }
    /* A NUL would hide the rest from strstr. */
    for (size_t i = 0; i < size; i++)
        s->output[s->length++] = data[i] ? data[i] : ' ';
    s->output[s->length] = 0;
    if (s->log) {
        fwrite(data, 1, size, s->log);
        fflush(s->log);
    }
}

/* Reads what is there, waiting at most the given time; false when the command closed its side. */
static bool read_output(struct session *s, int milliseconds)
{
    struct pollfd p = {.fd = s->master, .events = POLLIN};
    char buffer[4096];

    if (s->master < 0)
        return false;
    if (poll(&p, 1, milliseconds) <= 0)
        return true;
    ssize_t n = read(s->master, buffer, sizeof(buffer));

    if (n > 0) {
        append_output(s, buffer, (size_t)n);
        return true;
    }
    if (n < 0 && errno == EINTR)
        return true;
    close(s->master);
    s->master = -1;
    return false;
}

static bool order_wait(struct session *s, const char *text)
{
    for (;;) {
        const char *hit = strstr(s->output + s->consumed, text);

        if (hit) {
            s->consumed = (size_t)(hit - s->output) + strlen(text);
            s->satisfied = now_seconds();
            return true;
        }
        if (now_seconds() > s->deadline)
            return report(s, "time limit reached while waiting for '%s'", text);
        if (!read_output(s, 100) && !strstr(s->output + s->consumed, text))
            return report(s, "the command ended before printing '%s'", text);
    }
}

static bool order_send(struct session *s, const char *text)
{
    size_t left = strlen(text);

    while (left > 0) {
        ssize_t n = s->master < 0 ? -1 : write(s->master, text, left);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return report(s, "the command no longer reads its terminal");
        text += n;
        left -= (size_t)n;
    }
    return true;
}

static bool order_sleep(struct session *s, const char *text)
{
    double end = now_seconds() + strtod(text, NULL) / 1000;

    while (now_seconds() < end && read_output(s, 20)) {
    }
    return true;
}

static bool order_elapsed(struct session *s, const char *text)
{
    char *rest;
    double min = strtod(text, &rest), max = strtod(rest, NULL);
    double took = (s->satisfied - s->marked) * 1000;

    printf("guest_expect: %.1f ms on the host (allowed %.0f to %.0f)\n", took, min, max);
    if (took < min || took > max)
        return report(s, "%.1f ms passed on the host, expected %.0f to %.0f", took, min, max);
    return true;
}

static double cpu_seconds(const struct session *s)
{
    clockid_t clock;
    struct timespec ts = {0, 0};

    if (clock_getcpuclockid(s->child, &clock) == 0)
        clock_gettime(clock, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static bool order_idle(struct session *s, const char *text)
{
    char *rest;
    double seconds = strtod(text, &rest) / 1000, max = strtod(rest, NULL);
    double used = cpu_seconds(s), end = now_seconds() + seconds;

    while (now_seconds() < end && read_output(s, 20)) {
    }
    if (s->master < 0 || cpu_seconds(s) == 0)
        return report(s, "the command ended while it should have idled");
    used = (cpu_seconds(s) - used) / seconds * 100;
    printf("guest_expect: %.2f %% of a processor used in %.0f s (allowed %.0f)\n", used, seconds,
           max);
    if (used > max)
        return report(s, "%.1f %% of a processor used while idle, allowed %.0f", used, max);
    return true;
}

static bool reap(struct session *s, double limit)
{
    while (!s->ended) {
        pid_t pid = waitpid(s->child, &s->status, WNOHANG);

        if (pid == s->child)
            s->ended = true;
        else if (now_seconds() > limit)
            return false;
        else if (s->master >= 0)
            read_output(s, 20);
        else
            usleep(5000);
    }
    while (read_output(s, 0) && s->master >= 0) {
        struct pollfd p = {.fd = s->master, .events = POLLIN};

        if (poll(&p, 1, 0) <= 0)
            break;
    }
    return true;
}

static bool order_exit(struct session *s, const char *text)
{
    int code = atoi(text);

    if (!reap(s, s->deadline))
        return report(s, "time limit reached while waiting for the command to end");
    if (WIFSIGNALED(s->status))
        return report(s, "the command was killed by signal %d", WTERMSIG(s->status));
    if (WEXITSTATUS(s->status) != code)
        return report(s, "exit code %d, expected %d", WEXITSTATUS(s->status), code);
    return true;
}

/* Copies one line without its end (and without the CR that a terminal adds); NULL at the end. */
static const char *take_line(const char *from, char *line, size_t size)
{
    size_t n = 0;

    if (!*from)
        return NULL;
    while (*from && *from != '\n') {
        if (*from != '\r' && n + 1 < size)
            line[n++] = *from;
        from++;
    }
    line[n] = 0;
    return *from ? from + 1 : from;
}

static bool order_compare(struct session *s, char *text)
{
    char line[1024], wanted[1024];
    char *to = strchr(text, '|'), *name = to ? strchr(to + 1, '|') : NULL;

    if (!name)
        return report(s, "compare needs FROM|TO|FILE");
    *to++ = 0;
    *name++ = 0;
    FILE *file = fopen(name, "r");
    const char *at = strstr(s->output, text);

    if (!file)
        return report(s, "%s: %s", name, strerror(errno));
    if (at)
        at = take_line(at, line, sizeof(line));
    unsigned count = 0;
    bool same = at != NULL;

    while (same && (at = take_line(at, line, sizeof(line))) && !strstr(line, to)) {
        if (line[0] == '[') /* a kernel message in between */
            continue;
        count++;
        if (!fgets(wanted, sizeof(wanted), file))
            wanted[0] = 0;
        wanted[strcspn(wanted, "\r\n")] = 0;
        if (strcmp(line, wanted) != 0) {
            report(s, "line %u differs\n  here:   %s\n  wanted: %s", count, line, wanted);
            same = false;
        }
    }
    if (same && (!at || fgets(wanted, sizeof(wanted), file)))
        same = report(s, "output ends after %u lines, %s has more", count, name);
    if (same && count == 0)
        same = report(s, "nothing to compare with %s", name);
    fclose(file);
    if (same)
        printf("guest_expect: %u lines equal %s\n", count, name);
    return same;
}

static bool check_kernel_log(const struct session *s)
{
    static const char *const complaints[] = {
        "WARNING:",
        "BUG:",
        "Oops",
        "Call Trace",
        "unchecked MSR",
        "general protection fault",
        "invalid opcode",
        "Kernel panic",
        "segfault at",
        "rcu: INFO",
        "soft lockup",
        "blocked for more than",
        "nobody cared",
        "double fault",
        "timekeeping watch",
        "Unable to handle",
        "[Firmware Bug]",
        "trap divide error",
        "unexpected IRQ",
        "bad: scheduling",
        "NMI watchdog: BUG",
        "stack-protector",
    };
    char line[1024];

    for (const char *at = s->output; (at = take_line(at, line, sizeof(line)));) {
        bool allowed = false;

        for (unsigned i = 0; i < s->allow_count; i++)
            allowed |= strstr(line, s->allow[i]) != NULL;
        for (size_t i = 0; !allowed && i < sizeof(complaints) / sizeof(complaints[0]); i++)
            if (strstr(line, complaints[i]))
                return report(s, "the kernel complains: %s", line);
    }
    return true;
}

static void unescape(char *text)
{
    char *out = text;

    while (*text) {
        if (*text != '\\' || !text[1]) {
            *out++ = *text++;
            continue;
        }
        text++;
        char hex[3] = {0};

        switch (*text++) {
        case 'n':
            *out++ = '\n';
            break;
        case 'r':
            *out++ = '\r';
            break;
        case 't':
            *out++ = '\t';
            break;
        case 'x':
            for (int i = 0; i < 2 && *text; i++)
                hex[i] = *text++;
            *out++ = (char)strtoul(hex, NULL, 16);
            break;
        default:
            *out++ = text[-1];
        }
    }
    *out = 0;
}

static bool run_order(struct session *s, char *line)
{
    char *argument = line + strcspn(line, " ");

    if (*argument)
        *argument++ = 0;
    unescape(argument);
    if (!strcmp(line, "wait"))
        return order_wait(s, argument);
    if (!strcmp(line, "send"))
        return order_send(s, argument);
    if (!strcmp(line, "sleep"))
        return order_sleep(s, argument);
    if (!strcmp(line, "elapsed"))
        return order_elapsed(s, argument);
    if (!strcmp(line, "idle"))
        return order_idle(s, argument);
    if (!strcmp(line, "compare"))
        return order_compare(s, argument);
    if (!strcmp(line, "exit"))
        return order_exit(s, argument);
    if (!strcmp(line, "mark")) {
        s->marked = s->satisfied;
        return true;
    }
    if (!strcmp(line, "allow") && s->allow_count < MAX_WORDS) {
        s->allow[s->allow_count++] = strdup(argument);
        return true;
    }
    if (!strcmp(line, "reject") && s->reject_count < MAX_WORDS) {
        s->reject[s->reject_count++] = strdup(argument);
        return true;
    }
    return report(s, "unknown order '%s'", line);
}

static bool run_script(struct session *s, FILE *script)
{
    char line[1024];

    while (fgets(line, sizeof(line), script)) {
        line[strcspn(line, "\r\n")] = 0;
        if (line[0] && line[0] != '#' && !run_order(s, line))
            return false;
    }
    for (unsigned i = 0; i < s->reject_count; i++)
        if (strstr(s->output, s->reject[i]))
            return report(s, "the output holds '%s'", s->reject[i]);
    return !s->check_kernel || check_kernel_log(s);
}

static bool start_command(struct session *s, char **command)
{
    struct winsize size = {.ws_row = 25, .ws_col = 200};

    s->child = forkpty(&s->master, NULL, NULL, &size);
    if (s->child < 0) {
        fprintf(stderr, "guest_expect: no pseudo terminal: %s\n", strerror(errno));
        return false;
    }
    if (s->child == 0) {
        execvp(command[0], command);
        fprintf(stderr, "guest_expect: %s: %s\n", command[0], strerror(errno));
        _exit(127);
    }
    fcntl(s->master, F_SETFD, FD_CLOEXEC);
    return true;
}

static void stop_command(struct session *s)
{
    if (!s->ended) {
        kill(s->child, SIGTERM);
        if (!reap(s, now_seconds() + 2)) {
            kill(s->child, SIGKILL);
            reap(s, now_seconds() + 2);
        }
    }
    if (s->master >= 0)
        close(s->master);
}

int main(int argc, char **argv)
{
    struct session s = {.master = -1};
    double limit = 120;
    int option;

    while ((option = getopt(argc, argv, "+t:l:k")) != -1) {
        if (option == 't')
            limit = strtod(optarg, NULL);
        else if (option == 'l')
            s.log = fopen(optarg, "w");
        else if (option == 'k')
            s.check_kernel = true;
        else
            return 2;
    }
    if (argc - optind < 2) {
        fprintf(stderr, "usage: guest_expect [-t SECONDS] [-l LOG] [-k] SCRIPT -- COMMAND...\n");
        return 2;
    }
    FILE *script = fopen(argv[optind], "r");

    if (!script) {
        fprintf(stderr, "guest_expect: %s: %s\n", argv[optind], strerror(errno));
        return 2;
    }
    char **command = argv + optind + 1;

    if (!strcmp(command[0], "--"))
        command++;
    append_output(&s, "", 0);
    s.deadline = now_seconds() + limit;
    if (!command[0] || !start_command(&s, command))
        return 2;
    bool good = run_script(&s, script);

    stop_command(&s);
    fclose(script);
    if (s.log)
        fclose(s.log);
    free(s.output);
    return good ? 0 : 1;
}
