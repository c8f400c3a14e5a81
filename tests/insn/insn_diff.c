/*
 * insn-diff: random instruction sequences on the host CPU and in the guest, compared.
 *
 * A test is made from its seed alone, so "--mode M --seed N --count 1" repeats one.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "absent.h"
#include "base/error.h"
#include "coverage.h"
#include "session.h"

struct options {
    bool mode[3]; /* 16, 32, 64 */
    uint64_t seed, count;
    double seconds;
    bool seeded, verbose, coverage, no_faults, plain, exact_flags, absent;
    unsigned max_failures;
    const char *only, *model;
};

static const unsigned modes[3] = {16, 32, 64};

struct totals {
    uint64_t tests, exceptions, failures, undefined, timeouts, verified, modified;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A test that differed, with what was seen then. */
struct failure {
    struct insn_case c;
    struct insn_result native, guest;
    unsigned differences;
};

/* Returns false if it is no failure after all. */
static bool handle_failure(struct session *s, unsigned slot, struct failure *f,
                           const struct options *o)
{
    const struct insn_result *native = NULL;
    struct insn_case c = f->c;
    /* The end marker is not the same on both sides; nothing else may depend on it. */
    bool alone = session_run(s, slot, &c, &native) & ~(unsigned)DIFF_UNDEFINED;
    c.exact_end = true;
    if (alone && native && !(session_run(s, slot, &c, &native) & ~(unsigned)DIFF_UNDEFINED))
        return false;
    minimise_case(s, slot, &c);
    unsigned differences = session_run(s, slot, &c, &native);
    if (!native)
        printf("the native side died of seed %llu\n", (unsigned long long)c.seed);
    bool again = native && (differences & ~(unsigned)DIFF_UNDEFINED);
    if (!again || o->verbose)
        report_case(&f->c, &f->native, &f->guest, f->differences);
    if (!again)
        printf("  does not happen again alone: it depends on what ran before\n");
    else
        report_case(&c, native, &s->guest_result, differences);
    if (s->guest_result.outcome == OUTCOME_LOST)
        printf("  guest: %s\n", guest_side_error(s->guest));
    printf("\n");
    fflush(stdout);
    return true;
}

enum { CLAIMS = 12 }; /* verified with one replay, mostly */

/* Every fourth batch: asking the native side costs time on both. */
static bool verifies(const struct insn_case *c)
{
    return c->seed / BATCH % 4 == 0;
}

/* Returns whether a claim failed, and which test it is about. */
static bool wrong_claim(struct session *s, unsigned slot, const struct access_claim *claims,
                        unsigned count, struct failure *f)
{
    unsigned wrong = session_verify_accesses(s, slot, claims, count);
    const struct insn_result *native;
    if (wrong == count)
        return false;
    f->c = claims[wrong].c;
    f->differences = session_run(s, slot, &f->c, &native);
    f->native = s->native_result;
    f->guest = s->guest_result;
    return true;
}

static void run_batch(struct session *s, unsigned slot, unsigned count, const struct options *o,
                      struct coverage *coverage, struct totals *t)
{
    struct batch *batch = native_wait(s->native, slot);
    if (!batch) {
        batch = native_batch(s->native, slot);
        printf("the native side died of seed %llu\n",
               (unsigned long long)batch->cases[batch->current].seed);
        t->failures++;
        return;
    }
    struct failure *failed = calloc(BATCH + 1, sizeof(*failed));
    struct access_claim claims[CLAIMS];
    unsigned failures = 0, claimed = 0;
    for (unsigned i = 0; i < count; i++) {
        const struct insn_case *c = &batch->cases[i];
        const struct insn_result *native = &batch->results[i];
        unsigned differences = session_compare(s, c, native);
        t->tests++;
        t->exceptions += native->outcome == OUTCOME_EXCEPTION;
        t->modified += c->self_modifying && memcmp(native->code, c->code, c->code_size);
        t->timeouts += native->outcome == OUTCOME_TIMEOUT;
        coverage_add(coverage, c, native, differences);
        if (differences == DIFF_UNDEFINED)
            t->undefined++;
        else if (differences && failed)
            failed[failures++] = (struct failure){*c, *native, s->guest_result, differences};
        else if (verifies(c) && claimed < CLAIMS)
            claimed += access_claim_make(&claims[claimed], c, native, &s->guest_result);
    }
    t->verified += claimed;
    if (failed && wrong_claim(s, slot, claims, claimed, &failed[failures]))
        failures++;
    for (unsigned i = 0; i < failures; i++) {
        if (t->failures >= o->max_failures || handle_failure(s, slot, &failed[i], o))
            t->failures++;
    }
    free(failed);
}

static void run_tests(struct session *s, const struct options *o, uint64_t seed,
                      struct coverage *coverage, struct totals *t)
{
    double end = now() + o->seconds;
    uint64_t submitted = 0;
    unsigned pending[NATIVE_SLOTS] = {0}, slot = 0;
    for (;;) {
        if (pending[slot])
            run_batch(s, slot, pending[slot], o, coverage, t);
        pending[slot] = 0;
        bool more = submitted < o->count && (o->seconds <= 0 || now() < end);
        if (more && t->failures < o->max_failures) {
            uint64_t left = o->count - submitted;
            pending[slot] = left > BATCH ? (unsigned)BATCH : (unsigned)left;
            native_submit(s->native, slot, seed + submitted, pending[slot]);
            submitted += pending[slot];
        }
        slot = (slot + 1) % NATIVE_SLOTS;
        bool idle = true;
        for (unsigned i = 0; i < NATIVE_SLOTS; i++)
            idle &= pending[i] == 0;
        if (idle)
            return;
    }
}

static int run_absent(const struct options *o, unsigned mode)
{
    struct absent_options options = {.mode = mode,
                                     .seed = o->seed & 0xffffffff,
                                     .model = o->model,
                                     .max_failures = o->max_failures,
                                     .verbose = o->verbose};
    return absent_run(&options);
}

static int run_mode(const struct options *o, unsigned mode, const struct cpuid_model *model)
{
    struct session s;
    struct totals t = {0};
    struct coverage coverage;
    memset(&s, 0, sizeof(s));
    s.generator.no_faults = o->no_faults;
    s.generator.plain_memory = o->plain;
    double start = now();
    if (o->only)
        s.generator.only = coverage_mnemonic(o->only);
    if (session_start(&s, mode, model, o->exact_flags) < 0 ||
        coverage_init(&coverage, &s.forms) < 0) {
        session_stop(&s);
        return -1;
    }
    double made = now();
    run_tests(&s, o, o->seed, &coverage, &t);
    double seconds = now() - made;
    printf(
        "%u-bit: %llu sequences from seed %llu, %.0f per second (set-up %.1f s), %.1f %% with an "
        "exception, %llu time-outs, %llu with page bits verified, %llu changed their code, %llu "
        "differ in undefined flags "
        "only, %llu failures\n",
        mode, (unsigned long long)t.tests, (unsigned long long)o->seed,
        (double)t.tests / (seconds > 0 ? seconds : 1), made - start,
        100 * (double)t.exceptions / (double)(t.tests ? t.tests : 1),
        (unsigned long long)t.timeouts, (unsigned long long)t.verified,
        (unsigned long long)t.modified, (unsigned long long)t.undefined,
        (unsigned long long)t.failures);
    coverage_print(&coverage, o->coverage);
    coverage_free(&coverage);
    session_stop(&s);
    return t.failures ? 1 : 0;
}

static void usage(void)
{
    puts("insn-diff: compares instructions in the guest with the host CPU\n"
         "  --mode 16|32|64|all   code size (default: all)\n"
         "  --seed N              first seed (default: random, printed)\n"
         "  --count N             number of sequences per mode (default: 100000)\n"
         "  --seconds N           stop after this time per mode (then without --count no other "
         "limit)\n"
         "  --cpu MODEL           CPU model of the guest\n"
         "  --only MNEMONIC       every sequence contains this instruction (Zydis' name)\n"
         "  --no-faults           prefer addresses that are valid\n"
         "  --exact-flags         the guest keeps dead flags, too; they are compared at faults\n"
         "  --plain-memory        RAM behind all guest pages (no MMIO, no traced pages)\n"
         "  --absent              every opcode on every CPU model: #UD where the model lacks it\n"
         "  --failures N          stop after so many (default: 5)\n"
         "  --coverage            print the table of mnemonics\n"
         "  --verbose             print failing tests before they are minimised, too");
}

static int parse(struct options *o, int argc, char **argv)
{
    static const struct option list[] = {
        {"mode", 1, 0, 'm'},     {"seed", 1, 0, 's'},         {"count", 1, 0, 'c'},
        {"seconds", 1, 0, 't'},  {"no-faults", 0, 0, 'n'},    {"verbose", 0, 0, 'v'},
        {"coverage", 0, 0, 'C'}, {"plain-memory", 0, 0, 'p'}, {"exact-flags", 0, 0, 'x'},
        {"absent", 0, 0, 'a'},   {"failures", 1, 0, 'f'},     {"only", 1, 0, 'o'},
        {"cpu", 1, 0, 'u'},      {"help", 0, 0, 'h'},         {0, 0, 0, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "", list, NULL)) != -1) {
        switch (option) {
        case 'm':
            for (unsigned i = 0; i < 3; i++)
                o->mode[i] |= strcmp(optarg, "all") == 0 || (unsigned)atoi(optarg) == modes[i];
            break;
        case 's':
            o->seed = strtoull(optarg, NULL, 0);
            o->seeded = true;
            break;
        case 'c':
            o->count = strtoull(optarg, NULL, 0);
            break;
        case 't':
            o->seconds = atof(optarg);
            break;
        case 'n':
            o->no_faults = true;
            break;
        case 'p':
            o->plain = true;
            break;
        case 'a':
            o->absent = true;
            break;
        case 'x':
            o->exact_flags = true;
            break;
        case 'v':
            o->verbose = true;
            break;
        case 'C':
            o->coverage = true;
            break;
        case 'f':
            o->max_failures = (unsigned)atoi(optarg);
            break;
        case 'o':
            o->only = optarg;
            break;
        case 'u':
            o->model = optarg;
            break;
        default:
            usage();
            return option == 'h' ? 0 : -1;
        }
    }
    return optind < argc ? -1 : 1;
}

int main(int argc, char **argv)
{
    struct options o = {.max_failures = 5};
    struct cpuid_model model;
    struct vd_error error;
    int parsed = parse(&o, argc, argv);
    if (parsed <= 0)
        return parsed < 0 ? 2 : 0;
    if (!o.mode[0] && !o.mode[1] && !o.mode[2])
        o.mode[0] = o.mode[1] = o.mode[2] = true;
    if (!o.count)
        o.count = o.seconds > 0 ? UINT64_MAX : 100000;
    if (!o.seeded)
        o.seed = (uint64_t)time(NULL) << 20;
    if (cpuid_model_init(&model, o.model, &error) < 0) {
        fprintf(stderr, "insn-diff: %s\n", error.text);
        return 2;
    }
    int failed = 0;
    for (unsigned i = 3; i-- > 0;) {
        int result = !o.mode[i] ? 0
                     : o.absent ? run_absent(&o, modes[i])
                                : run_mode(&o, modes[i], &model);
        if (result < 0)
            return 77;
        failed |= result != 0;
    }
    return failed;
}
