#include "session.h"

#include <signal.h>
#include <string.h>
#include <sys/time.h>

/* For the signal handler, which gets no argument: the guest that runs, and how often it was asked.
 */
static struct {
    struct guest_side *volatile guest;
    volatile unsigned tests, seen;
} watched;

static void on_alarm(int number)
{
    (void)number;
    if (watched.guest && watched.seen == watched.tests)
        guest_side_kick(watched.guest);
    watched.seen = watched.tests;
}

static void start_watchdog(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = on_alarm;
    action.sa_flags = SA_ONSTACK | SA_RESTART; /* translated code has no stack to spare */
    sigaction(SIGALRM, &action, NULL);
    struct itimerval timer = {.it_interval = {.tv_usec = 250000}, .it_value = {.tv_usec = 250000}};
    setitimer(ITIMER_REAL, &timer, NULL);
}

static bool guest_only(void *ctx, uint64_t linear)
{
    struct session *s = ctx;
    return guest_side_owns(s->guest, linear);
}

int session_start(struct session *s, unsigned mode, const struct cpuid_model *model,
                  bool exact_flags)
{
    s->generator.model = model;
    s->generator.forms = &s->forms;
    if (form_table_init(&s->forms, mode, model) < 0)
        return -1;
    s->native = native_start(generate_case, &s->generator);
    s->guest = guest_side_create(mode, model, exact_flags);
    s->rules =
        (struct compare_rules){.guest_only = guest_only, .ctx = s, .exact_flags = exact_flags};
    start_watchdog();
    return s->native && s->guest ? 0 : -1;
}

void session_stop(struct session *s)
{
    struct itimerval timer = {.it_value = {0}};
    setitimer(ITIMER_REAL, &timer, NULL);
    if (s->native)
        native_stop(s->native);
    if (s->guest)
        guest_side_destroy(s->guest);
    form_table_free(&s->forms);
}

unsigned session_compare(struct session *s, const struct insn_case *c,
                         const struct insn_result *native)
{
    watched.tests++;
    watched.guest = s->guest;
    guest_side_run(s->guest, c, &s->guest_result);
    watched.guest = NULL;
    return compare_results(c, native, &s->guest_result, &s->rules);
}

unsigned session_run(struct session *s, unsigned slot, const struct insn_case *c,
                     const struct insn_result **native)
{
    struct batch *batch = native_batch(s->native, slot);
    if (c != &batch->cases[0])
        batch->cases[0] = *c;
    native_replay(s->native, slot, 1);
    batch = native_wait(s->native, slot);
    *native = NULL;
    if (!batch)
        return DIFF_OUTCOME;
    *native = &batch->results[0];
    return session_compare(s, &batch->cases[0], &batch->results[0]);
}
