/*
 * two_debians FOLDER KERNEL INITRD KERNEL INITRD: boots two guests side by side, each in a thread
 * of this process and with its serial port in a file of FOLDER. Both must run their programs and
 * power off. A client of the public interface only.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vedette/vedette.h"

enum { LIMIT_SECONDS = 200 };

struct guest {
    const char *name, *kernel, *initrd;
    char spec[300]; /* "file:PATH" */
    struct vd_vm *vm;
    pthread_t thread;
    enum vd_result result;
    struct vd_outcome outcome;
    struct vd_error_text error;
    double start, end; /* seconds */
};

static double now_seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static bool create(struct guest *guest)
{
    struct vd_config config;
    vd_config_init(&config);
    config.ram_size = 256 << 20;
    config.kernel = guest->kernel;
    config.initrd = guest->initrd;
    config.append = "console=ttyS0 vedette.run=smoke,fp_switch,signals";
    config.serial[0] = guest->spec;
    config.no_reboot = 1;
    if (vd_vm_create(&guest->vm, &config, &guest->error) == VD_OK)
        return true;
    printf("%s: %s\n", guest->name, guest->error.text);
    return false;
}

static void *run(void *arg)
{
    struct guest *guest = arg;
    guest->start = now_seconds();
    guest->result = vd_vm_run(guest->vm, &guest->outcome, &guest->error);
    guest->end = now_seconds();
    return NULL;
}

static void join(struct guest *guest, double limit)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    double left = limit - now_seconds();
    ts.tv_sec += left > 0 ? (time_t)left : 0;
    if (pthread_timedjoin_np(guest->thread, NULL, &ts) == 0)
        return;
    printf("%s: stopped after %d s\n", guest->name, LIMIT_SECONDS);
    vd_vm_stop(guest->vm);
    pthread_join(guest->thread, NULL);
}

/* The serial output has these texts in this order, and none of those. */
static bool check_output(const struct guest *guest)
{
    static const char *const wanted[] = {"VEDETTE begin smoke",
                                         "VEDETTE end smoke 0",
                                         "VEDETTE begin fp_switch",
                                         "VEDETTE end fp_switch 0",
                                         "VEDETTE begin signals",
                                         "VEDETTE end signals 0",
                                         "VEDETTE off",
                                         "reboot: Power down"};
    static const char *const unwanted[] = {
        "WARNING:",     "BUG:",        "Oops",        "Call Trace",
        "Kernel panic", "segfault at", "soft lockup", "general protection"};
    enum { SIZE = 1 << 20 };
    FILE *file = fopen(guest->spec + 5, "r");
    char *text = calloc(1, SIZE + 1);
    bool good = file && text;
    if (good) {
        size_t size = fread(text, 1, SIZE, file);
        for (size_t i = 0; i < size; i++)
            text[i] = text[i] ? text[i] : ' ';
        const char *at = text;
        for (size_t i = 0; good && i < sizeof(wanted) / sizeof(wanted[0]); i++) {
            const char *hit = strstr(at, wanted[i]);
            good = hit != NULL;
            at = hit ? hit : at;
            if (!hit)
                printf("%s: no '%s' in:\n%s\n", guest->name, wanted[i], text);
        }
        for (size_t i = 0; i < sizeof(unwanted) / sizeof(unwanted[0]); i++) {
            if (strstr(text, unwanted[i])) {
                printf("%s: the kernel complains: %s\n", guest->name, strstr(text, unwanted[i]));
                good = false;
            }
        }
    }
    free(text);
    if (file)
        fclose(file);
    return good;
}

static bool check(const struct guest *guest)
{
    printf("%s: ran %.1f s, result %d, outcome %d %s\n", guest->name, guest->end - guest->start,
           guest->result, guest->outcome.kind, guest->outcome.text);
    if (guest->result != VD_OK) {
        printf("%s: %s\n", guest->name, guest->error.text);
        return false;
    }
    return guest->outcome.kind == VD_POWERED_OFF && check_output(guest);
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: two_debians FOLDER KERNEL INITRD KERNEL INITRD\n");
        return 2;
    }
    struct guest guests[2] = {{.name = "first", .kernel = argv[2], .initrd = argv[3]},
                              {.name = "second", .kernel = argv[4], .initrd = argv[5]}};
    bool good = true;
    double limit = now_seconds() + LIMIT_SECONDS;
    for (int i = 0; i < 2; i++) {
        snprintf(guests[i].spec, sizeof(guests[i].spec), "file:%s/%s", argv[1], guests[i].name);
        if (!create(&guests[i]))
            return 1;
    }
    for (int i = 0; i < 2; i++) {
        if (pthread_create(&guests[i].thread, NULL, run, &guests[i]) != 0)
            return 1;
    }
    for (int i = 0; i < 2; i++)
        join(&guests[i], limit);
    for (int i = 0; i < 2; i++) {
        vd_vm_destroy(guests[i].vm); /* the file is complete then */
        good = check(&guests[i]) && good;
    }
    if (guests[0].end < guests[1].start || guests[1].end < guests[0].start) {
        printf("they did not run at the same time\n");
        good = false;
    }
    return good ? 0 : 1;
}
