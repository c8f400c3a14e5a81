/*
 * Side-by-side measurements: two runners that take the command line of `vedette run`, started in
 * turn on the same images, so that drift of the host hits both alike.
 *
 *   bench boot    -n ROUNDS -o DIRECTORY -a NAME=RUNNER -b NAME=RUNNER GUEST...
 *   bench compute -n ROUNDS -o DIRECTORY -a NAME=RUNNER -b NAME=RUNNER GUEST...
 *
 * GUEST is LABEL,KERNEL,INITRD[,NATIVE]: NATIVE is the compute program that also runs here. Writes
 * DIRECTORY/boot.{txt,json,svg} or compute.{txt,json,svg} and prints the text.
 */
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "chart.h"

enum { MAX_GUESTS = 8, MAX_ROUNDS = 64, MAX_ROWS = 64, SIDES = 3 };
enum { SIDE_NATIVE, SIDE_A, SIDE_B };

struct guest {
    char label[64], kernel[512], initrd[512], native[512];
};

struct bench {
    const char *name[SIDES], *runner[SIDES];
    const char *directory;
    int rounds;
    struct guest guests[MAX_GUESTS];
    int guest_count;
};

struct row {
    char name[64];
    char checksum[32];
    double samples[SIDES][MAX_ROUNDS];
    int count[SIDES];
};

static double now_seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double minimum(const double *samples, int count)
{
    double best = INFINITY;

    for (int i = 0; i < count; i++)
        best = samples[i] < best ? samples[i] : best;
    return best;
}

static double median(const double *samples, int count)
{
    double sorted[MAX_ROUNDS];

    if (count == 0)
        return NAN;
    memcpy(sorted, samples, (size_t)count * sizeof(*sorted));
    qsort(sorted, (size_t)count, sizeof(*sorted), compare_doubles);
    return count & 1 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

/*
 * Runs a command with its output in a buffer (freed by the caller). marker_time: when the marker
 * was complete; total: when it ended. NULL when it failed, ran too long or never printed it.
 */
static char *run_command(char *const *command, const char *marker, double limit,
                         double *marker_time, double *total)
{
    int ends[2], status;
    size_t length = 0, capacity = 1 << 20;
    char *output = malloc(capacity + 1);
    double start = now_seconds();
    bool seen = false, late = false;

    if (!output || pipe(ends) != 0)
        return NULL;
    pid_t pid = fork();

    if (pid == 0) {
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        if (!freopen("/dev/null", "r", stdin))
            _exit(127);
        execv(command[0], command);
        _exit(127);
    }
    close(ends[1]);
    for (;;) {
        struct pollfd p = {.fd = ends[0], .events = POLLIN};
        double left = start + limit - now_seconds();

        late = left <= 0;
        if (late || poll(&p, 1, (int)(left * 1000) + 1) < 0)
            break;
        if (!p.revents)
            continue;
        ssize_t n = length < capacity ? read(ends[0], output + length, capacity - length) : 0;

        if (n <= 0)
            break;
        length += (size_t)n;
        output[length] = 0;
        if (!seen && strstr(output, marker)) {
            seen = true;
            *marker_time = now_seconds() - start;
        }
    }
    if (late)
        kill(pid, SIGKILL);
    close(ends[0]);
    waitpid(pid, &status, 0);
    *total = now_seconds() - start;
    if (seen && !late && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return output;
    output[length] = 0;
    fprintf(stderr, "bench: %s %s\n%s\n", command[0],
            late ? "ran too long" : "failed or never printed its marker",
            length > 2000 ? output + length - 2000 : output);
    free(output);
    return NULL;
}

static char *run_guest(const struct bench *b, int side, const struct guest *g, const char *task,
                       const char *marker, double *marker_time, double *total)
{
    char append[256];
    const char *command[] = {b->runner[side], "run",      "--kernel", g->kernel, "--initrd",
                             g->initrd,       "--append", append,     "-m",      "512M",
                             "--cpu",         "max",      "--serial", "stdio",   "--display",
                             "none",          NULL};
    char *arguments[sizeof(command) / sizeof(command[0])];

    snprintf(append, sizeof(append), "console=ttyS0 vedette.run=%s", task);
    memcpy(arguments, command, sizeof(arguments));
    return run_command(arguments, marker, 400, marker_time, total);
}

static void print_both(FILE *file, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfprintf(file, format, args);
    va_end(args);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    fflush(stdout);
}

static FILE *open_result(const struct bench *b, const char *name, const char *suffix)
{
    char path[1024];

    snprintf(path, sizeof(path), "%s/%s.%s", b->directory, name, suffix);
    FILE *file = fopen(path, "w");

    if (!file) {
        fprintf(stderr, "bench: %s: %s\n", path, strerror(errno));
        exit(1);
    }
    return file;
}

static void print_host(FILE *text)
{
    char line[256], model[256] = "unknown processor";
    time_t now = time(NULL);
    FILE *file = fopen("/proc/cpuinfo", "r");

    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "model name : %255[^\n]", model) == 1)
            break;
    if (file)
        fclose(file);
    strftime(line, sizeof(line), "%Y-%m-%d", gmtime(&now));
    print_both(text, "%s, %ld CPUs, %s\n", model, sysconf(_SC_NPROCESSORS_ONLN), line);
}

/* ---- boot ---- */

/* Two rows per guest: time to user space, and to the end of the process. */
static int bench_boot(const struct bench *b)
{
    static struct row rows[MAX_ROWS];
    FILE *text = open_result(b, "boot", "txt"), *json = open_result(b, "boot", "json");

    for (int round = 0; round < b->rounds; round++)
        for (int i = 0; i < b->guest_count; i++)
            for (int turn = 0; turn < 2; turn++) {
                int side = (turn + round) & 1 ? SIDE_B : SIDE_A;
                struct row *up = &rows[2 * i], *off = &rows[2 * i + 1];
                double marker, total;
                char *output = run_guest(b, side, &b->guests[i], "none", "VEDETTE begin none",
                                         &marker, &total);

                if (!output)
                    return 1;
                free(output);
                up->samples[side][up->count[side]++] = marker;
                off->samples[side][off->count[side]++] = total;
                fprintf(stderr, "round %d %s %s: %.3f s to the shell, %.3f s in all\n", round + 1,
                        b->guests[i].label, b->name[side], marker, total);
            }
    print_host(text);
    print_both(text,
               "Boot: start of the process to the first line of /init, and to the end of the\n"
               "process after an ACPI power-off; %d rounds, interleaved; seconds.\n\n"
               "%-26s %22s %22s %8s\n%-26s %11s%11s %11s%11s\n",
               b->rounds, "", b->name[SIDE_A], b->name[SIDE_B], "ratio", "", "min", "median", "min",
               "median");
    fprintf(json, "{\"rounds\": %d, \"unit\": \"s\", \"rows\": [", b->rounds);
    struct chart chart = {.title = "Boot to shell, seconds (median)",
                          .series = {b->name[SIDE_A], b->name[SIDE_B]},
                          .series_count = 2};

    for (int i = 0; i < 2 * b->guest_count; i++) {
        struct row *r = &rows[i];
        double ma = median(r->samples[SIDE_A], r->count[SIDE_A]);
        double mb = median(r->samples[SIDE_B], r->count[SIDE_B]);

        snprintf(r->name, sizeof(r->name), "%.40s %s", b->guests[i / 2].label,
                 i & 1 ? "power-off" : "shell");
        print_both(text, "%-26s %11.3f%11.3f %11.3f%11.3f %8.2f\n", r->name,
                   minimum(r->samples[SIDE_A], b->rounds), ma,
                   minimum(r->samples[SIDE_B], b->rounds), mb, ma / mb);
        fprintf(json, "%s\n  {\"name\": \"%s\", \"%s\": %.4f, \"%s\": %.4f, \"ratio\": %.4f}",
                i ? "," : "", r->name, b->name[SIDE_A], ma, b->name[SIDE_B], mb, ma / mb);
        chart_add(&chart, r->name, (const double[]){ma, mb});
    }
    fprintf(json, "\n]}\n");
    print_both(text, "\nratio: median of %s / median of %s; below 1 the first one is faster.\n",
               b->name[SIDE_A], b->name[SIDE_B]);
    FILE *svg = open_result(b, "boot", "svg");

    chart_write(&chart, svg);
    fclose(svg);
    fclose(json);
    fclose(text);
    return 0;
}

/* ---- compute ---- */

static bool add_sample(struct row *rows, int *count, int side, const char *line)
{
    char name[64], checksum[32];
    double value;
    int i;

    if (sscanf(line, "compute %63s %lf ns %31s", name, &value, checksum) != 3)
        return true;
    for (i = 0; i < *count && strcmp(rows[i].name, name) != 0; i++) {
    }
    if (i == MAX_ROWS)
        return false;
    if (i == *count) {
        (*count)++;
        strcpy(rows[i].name, name);
        strcpy(rows[i].checksum, checksum);
    }
    if (strcmp(rows[i].checksum, checksum) != 0) {
        fprintf(stderr, "bench: %s gives %s instead of %s\n", name, checksum, rows[i].checksum);
        return false;
    }
    if (rows[i].count[side] < MAX_ROUNDS)
        rows[i].samples[side][rows[i].count[side]++] = value;
    return true;
}

static bool run_compute(const struct bench *b, int side, const struct guest *g, struct row *rows,
                        int *count)
{
    double marker, total;
    char *native[] = {(char *)g->native, (char *)"0.3", NULL};
    char *output = side == SIDE_NATIVE
                       ? run_command(native, "compute touch", 300, &marker, &total)
                       : run_guest(b, side, g, "compute", "VEDETTE end compute 0", &marker, &total);
    bool good = output != NULL;

    for (char *line = output ? strtok(output, "\r\n") : NULL; line && good;
         line = strtok(NULL, "\r\n"))
        good = add_sample(rows, count, side, line);
    free(output);
    fprintf(stderr, "%s %s: %.1f s\n", g->label, b->name[side], total);
    return good;
}

static bool compute_guest(const struct bench *b, const struct guest *g, FILE *text, FILE *json,
                          struct chart *chart)
{
    static struct row rows[MAX_ROWS];
    double log_sum[SIDES] = {0};
    int count = 0;

    memset(rows, 0, sizeof(rows));
    for (int round = 0; round < b->rounds; round++)
        for (int turn = 0; turn < SIDES; turn++)
            if (!run_compute(b, (turn + round) % SIDES, g, rows, &count))
                return false;
    print_both(text, "\n%s\n%-12s %16s %10s %10s %14s\n", g->label, "", "native ns",
               b->name[SIDE_A], b->name[SIDE_B], "first/second");
    for (int i = 0; i < count; i++) {
        double m[SIDES];

        for (int side = 0; side < SIDES; side++) {
            m[side] = median(rows[i].samples[side], rows[i].count[side]);
            log_sum[side] += log(m[side]);
        }
        print_both(text, "%-12s %16.1f %10.2f %10.2f %14.2f\n", rows[i].name, m[SIDE_NATIVE],
                   m[SIDE_A] / m[SIDE_NATIVE], m[SIDE_B] / m[SIDE_NATIVE], m[SIDE_A] / m[SIDE_B]);
        fprintf(json,
                "%s\n  {\"guest\": \"%s\", \"name\": \"%s\", \"native_ns\": %.2f, \"%s_ns\": %.2f, "
                "\"%s_ns\": %.2f}",
                chart->row_count ? "," : "", g->label, rows[i].name, m[SIDE_NATIVE],
                b->name[SIDE_A], m[SIDE_A], b->name[SIDE_B], m[SIDE_B]);
        char name[128];

        snprintf(name, sizeof(name), "%.40s %.40s", g->label, rows[i].name);
        chart_add(chart, name,
                  (const double[]){m[SIDE_A] / m[SIDE_NATIVE], m[SIDE_B] / m[SIDE_NATIVE]});
    }
    double mean[SIDES];

    for (int side = 0; side < SIDES; side++)
        mean[side] = exp((log_sum[side] - log_sum[SIDE_NATIVE]) / (count ? count : 1));
    print_both(text, "%-12s %16s %10.2f %10.2f %14.2f\n", "geom. mean", "", mean[SIDE_A],
               mean[SIDE_B], mean[SIDE_A] / mean[SIDE_B]);
    return count > 0;
}

static int bench_compute(const struct bench *b)
{
    FILE *text = open_result(b, "compute", "txt"), *json = open_result(b, "compute", "json");
    struct chart chart = {.title =
                              "Compute loops in the guest, time relative to native (log scale)",
                          .series = {b->name[SIDE_A], b->name[SIDE_B]},
                          .series_count = 2,
                          .logarithmic = true};
    bool good = true;

    print_host(text);
    print_both(text,
               "Compute: time per iteration in the guest divided by the same binary's time on the\n"
               "host (native = 1); medians of %d rounds, interleaved.\n",
               b->rounds);
    fprintf(json, "{\"rounds\": %d, \"rows\": [", b->rounds);
    for (int i = 0; i < b->guest_count && good; i++)
        good = compute_guest(b, &b->guests[i], text, json, &chart);
    fprintf(json, "\n]}\n");
    FILE *svg = open_result(b, "compute", "svg");

    chart_write(&chart, svg);
    fclose(svg);
    fclose(json);
    fclose(text);
    return good ? 0 : 1;
}

static bool parse_side(struct bench *b, int side, char *value)
{
    char *equals = strchr(value, '=');

    if (!equals)
        return false;
    *equals = 0;
    b->name[side] = value;
    b->runner[side] = equals + 1;
    return true;
}

int main(int argc, char **argv)
{
    struct bench b = {.name = {"native"}, .directory = ".", .rounds = 5};
    bool good = argc > 2;
    int option;

    optind = 2;
    while (good && (option = getopt(argc, argv, "n:o:a:b:")) != -1) {
        if (option == 'n')
            b.rounds = atoi(optarg);
        else if (option == 'o')
            b.directory = optarg;
        else if (option == 'a')
            good = parse_side(&b, SIDE_A, optarg);
        else
            good = option == 'b' && parse_side(&b, SIDE_B, optarg);
    }
    for (; good && optind < argc && b.guest_count < MAX_GUESTS; optind++) {
        struct guest *g = &b.guests[b.guest_count++];

        good = sscanf(argv[optind], "%63[^,],%511[^,],%511[^,],%511[^,]", g->label, g->kernel,
                      g->initrd, g->native) >= 3;
    }
    if (!good || !b.runner[SIDE_A] || !b.runner[SIDE_B] || !b.guest_count || b.rounds < 1 ||
        b.rounds > MAX_ROUNDS) {
        fprintf(stderr, "usage: bench boot|compute [-n ROUNDS] [-o DIRECTORY] -a NAME=RUNNER "
                        "-b NAME=RUNNER LABEL,KERNEL,INITRD[,NATIVE]...\n");
        return 2;
    }
    return strcmp(argv[1], "boot") == 0 ? bench_boot(&b) : bench_compute(&b);
}
