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

void session_watchdog(bool on)
{
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = on_alarm;
    action.sa_flags = SA_ONSTACK | SA_RESTART; /* translated code has no stack to spare */
    sigaction(SIGALRM, &action, NULL);
    unsigned tick = on ? 250000 : 0;
    struct itimerval timer = {.it_interval = {.tv_usec = tick}, .it_value = {.tv_usec = tick}};
    setitimer(ITIMER_REAL, &timer, NULL);
}

void session_run_guest(struct guest_side *guest, const struct insn_case *c, struct insn_result *r)
{
    watched.tests++;
    watched.guest = guest;
    guest_side_run(guest, c, r);
    watched.guest = NULL;
}

static bool guest_only(void *ctx, uint64_t linear)
{
    struct session *s = ctx;
    return guest_side_owns(s->guest, linear);
}

int session_start(struct session *s, unsigned mode, const struct cpuid_model *model,
                  bool exact_flags)
{
    /* Callouts that the host cannot run in 64-bit mode (AAA, DAA, ...) leave AMD's flags. */
    bool amd = __builtin_cpu_is("amd");
    s->generator.reads_undefined = amd;
    s->generator.model = model;
    s->generator.exact_flags = exact_flags;
    s->generator.forms = &s->forms;
    if (form_table_init(&s->forms, mode, model) < 0)
        return -1;
    s->native = native_start(generate_case, &s->generator);
    if (mode != 64)
        s->guests[0] = guest_side_create(mode, false, model, exact_flags);
    s->guests[1] = guest_side_create(mode, true, model, exact_flags);
    memory_template(s->template);
    s->rules = (struct compare_rules){.guest_only = guest_only,
                                      .ctx = s,
                                      .exact_flags = exact_flags,
                                      .undefined_flags = amd,
                                      .template = s->template};
    session_watchdog(true);
    return s->native && s->guests[1] && (mode == 64 || s->guests[0]) ? 0 : -1;
}

void session_stop(struct session *s)
{
    session_watchdog(false);
    if (s->native)
        native_stop(s->native);
    for (unsigned i = 0; i < 2; i++) {
        if (s->guests[i])
            guest_side_destroy(s->guests[i]);
    }
    form_table_free(&s->forms);
}

unsigned session_compare(struct session *s, const struct insn_case *c,
                         const struct insn_result *native)
{
    s->guest = s->guests[c->mode == 64 || c->compatibility];
    session_run_guest(s->guest, c, &s->guest_result);
    return compare_results(c, native, &s->guest_result, &s->rules);
}

/* The outcomes of a slot's first count tests; false: the native side died. */
static bool replay(struct session *s, unsigned slot, unsigned count)
{
    native_replay(s->native, slot, count);
    return native_wait(s->native, slot) != NULL;
}

unsigned session_verify_accesses(struct session *s, unsigned slot,
                                 const struct access_claim *claims, unsigned count)
{
    _Static_assert(BATCH >= (unsigned)ACCESS_TESTS_MAX, "room for one claim");
    struct batch *batch = native_batch(s->native, slot);
    for (unsigned done = 0; done < count;) {
        unsigned first = done, tests = 0, at = 0;
        for (; done < count && tests + ACCESS_TESTS_MAX <= BATCH; done++)
            tests += access_tests(&claims[done], &batch->cases[tests]);
        if (!replay(s, slot, tests))
            return first;
        for (unsigned i = first; i < done; i++) {
            if (!access_holds(&claims[i], &batch->results[at]))
                return i;
            at += access_test_count(&claims[i]);
        }
    }
    return count;
}

unsigned session_run(struct session *s, unsigned slot, const struct insn_case *c,
                     const struct insn_result **native)
{
    struct batch *batch = native_batch(s->native, slot);
    struct access_claim claim;
    *native = NULL;
    batch->cases[0] = *c;
    if (!replay(s, slot, 1))
        return DIFF_OUTCOME;
    s->native_result = batch->results[0];
    *native = &s->native_result;
    unsigned differences = session_compare(s, c, *native);
    if (!access_claim_make(&claim, c, *native, &s->guest_result) ||
        (differences & ~(unsigned)DIFF_UNDEFINED))
        return differences;
    return session_verify_accesses(s, slot, &claim, 1) ? differences : differences | DIFF_ACCESSED;
}
