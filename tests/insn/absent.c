/*
 * What to expect comes from the host CPU (#UD there is #UD in the guest) and, for what the host has
 * and a model lacks, from needs.h. Where both have an instruction, all results are compared.
 */
#include "absent.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "cpu/cpu.h"
#include "cpu/cpuid_bits.h"
#include "encodings.h"
#include "generate_private.h"
#include "needs.h"
#include "session.h"

enum { MODELS = 8 + FEAT_COUNT, INDEX_BITS = 20, UNDEFINED_OPCODE = 6 };

struct model {
    char name[32];
    bool partial; /* "max" without one feature */
    struct cpuid_model cpuid;
    struct guest_side *guest;
    unsigned run[4], failures; /* by enum expectation */
};

struct absent {
    const struct absent_options *options;
    struct encoding_list list;
    uint8_t *needs;    /* enum x86_feature, of each encoding */
    bool *native_runs; /* each encoding */
    struct generator generator;
    struct form_table forms; /* only its mode is used */
    struct native *native;
    struct model models[MODELS];
    unsigned model_count;
    struct guest_side *guest; /* the one that ran last */
    struct compare_rules rules;
    struct insn_result result, expected;
    uint8_t template[MEMORY_BYTES];
};

/* --- one test --- */

struct code {
    uint8_t b[40];
    unsigned size;
};

static void put(struct code *code, unsigned byte)
{
    code->b[code->size++] = (uint8_t)byte;
}

/* Prefixes, and everything up to ModRM. rex_w and rex_r: of VEX and the like, too. */
static void put_opcode(struct code *code, const struct encoding *e, struct random *r, bool wide,
                       bool native)
{
    static const uint8_t before[] = {0xf0, 0x66, 0xf3, 0xf2};
    for (unsigned i = 0; i < 4; i++) {
        if (e->prefixes >> i & 1) /* without F3 it is what TZCNT and LZCNT fall back to */
            put(code, e->fallback && native && before[i] == 0xf3 ? 0x3eu : before[i]);
    }
    unsigned rex = (e->prefixes & BEFORE_REX_W ? 8u : 0) | (e->prefixes & BEFORE_REX_R ? 4u : 0);
    if (rex)
        put(code, 0x40 | rex);
    unsigned vvvv = random_percent(r, 60) ? 15 : random_below(r, 16);
    if (!wide)
        vvvv |= 8;
    switch ((enum encoding_space)e->space) {
    case SPACE_LEGACY:
        if (e->map)
            put(code, 0x0f);
        if (e->map >= 2)
            put(code, e->map == 2 ? 0x38 : 0x3a);
        break;
    case SPACE_VEX:
        if (e->map == 1 && !e->w && random_percent(r, 50)) {
            put(code, 0xc5);
            put(code, 0x80u | vvvv << 3 | (unsigned)e->l << 2 | e->pp);
            break;
        }
        put(code, 0xc4);
        put(code, 0xe0u | e->map);
        put(code, (unsigned)e->w << 7 | vvvv << 3 | (unsigned)e->l << 2 | e->pp);
        break;
    case SPACE_EVEX:
        put(code, 0x62);
        put(code, 0xf0u | e->map);
        put(code, (unsigned)e->w << 7 | vvvv << 3 | 4 | e->pp);
        put(code, (random_below(r, 2) << 7) | (unsigned)e->l << 5 | 8 | random_below(r, 2));
        break;
    case SPACE_XOP:
        put(code, 0x8f);
        put(code, 0xe0u | e->map);
        put(code, (unsigned)e->w << 7 | vvvv << 3 | (unsigned)e->l << 2 | e->pp);
        break;
    }
    put(code, e->opcode);
}

static void put_operand(struct code *code, const struct encoding *e, struct gen *g)
{
    struct memory_choice m;
    if (!e->memory) {
        put(code, 0xc0u | (unsigned)e->reg << 3 | e->rm);
    } else {
        unsigned at = DATA_SAVE + 64 * random_below(&g->r, 64);
        bool anywhere = !e->fallback && random_percent(&g->r, 30);
        do {
            choose_memory(g, &m, e->reg, g->c->mode / 8u, false, true, false);
        } while (anywhere && (m.rex_b || m.rex_x || m.rip_disp));
        if (!anywhere)
            absolute_memory(g, &m, e->reg, at);
        memcpy(code->b + code->size, m.bytes, m.size);
        code->size += m.size;
    }
    if (e->map == 1 && e->opcode == 0x0f && e->space == SPACE_LEGACY)
        put(code, e->suffix);
    uint64_t imm = random_u64(&g->r);
    memcpy(code->b + code->size, &imm, sizeof(imm));
    code->size += 8;
}

/* As the guest gets it; native: as the host does, which must not run some. */
static void make_case(struct absent *a, struct insn_case *c, uint64_t seed, bool native)
{
    const struct encoding *e = &a->list.rows[seed & ((1u << INDEX_BITS) - 1)];
    struct gen g = {.r = {.state = seed}, .g = &a->generator, .c = c};
    struct code code = {.size = 0};
    struct insn insn;
    g.r.state = random_u64(&g.r);
    memset(c, 0, sizeof(*c));
    c->seed = seed;
    c->mode = (uint8_t)a->list.mode;
    generate_state(&g);
    c->compatibility = false;
    c->code_start = 64;
    c->in.rip = LINEAR_CODE + c->code_start + (c->high ? LINEAR_HIGH : 0);
    if (c->mode != 64)
        c->in.rip = (uint32_t)(c->in.rip - segment_rows[c->segment[X86_CS]].base);
    put_opcode(&code, e, &g.r, c->mode == 64, native);
    put_operand(&code, e, &g);
    if (native && !a->native_runs[e - a->list.rows])
        memcpy(code.b, "\x0f\x0b", 2);
    unsigned size = code.size < 15 ? code.size : 15;
    if (insn_decode(&insn, code.b, size, c->mode) == INSN_OK)
        size = insn.len;
    memcpy(c->code, code.b, size);
    c->code_size = c->offset[1] = (uint16_t)size;
    c->mnemonic[0] = insn.mnemonic;
    c->count = 1;
}

static void generate(void *ctx, struct insn_case *c, uint64_t seed)
{
    make_case(ctx, c, seed, true);
}

/* --- what came out --- */

static bool is_undefined(const struct insn_case *c, const struct insn_result *r)
{
    return r->outcome == OUTCOME_EXCEPTION && r->vector == UNDEFINED_OPCODE &&
           ((r->out.rip ^ c->in.rip) & (c->mode == 64 ? UINT64_MAX : UINT32_MAX)) == 0;
}

/* Nothing but #UD: no register, no memory, no page touched but the code's. */
static bool is_clean(struct absent *a, const struct insn_case *c)
{
    struct insn_result *x = &a->expected;
    x->out = c->in;
    x->out.rflags |= X86_RF;
    memcpy(x->memory, a->template, MEMORY_BYTES);
    x->outcome = OUTCOME_EXCEPTION;
    x->vector = UNDEFINED_OPCODE;
    x->error = x->cr2 = 0;
    memcpy(x->code, c->code, sizeof(x->code));
    unsigned data = (1u << MEMORY_PAGES) - 1;
    return is_undefined(c, &a->result) && !compare_results(c, x, &a->result, &a->rules) &&
           !((a->result.accessed | a->result.dirty) & data);
}

/* #UD on AMD's processors, not on Intel's and in the guest; see known_differences.txt. */
static bool host_differs(const struct encoding *e, unsigned mode)
{
    if (e->space == SPACE_LEGACY && e->map == 1 && e->opcode == 0x0d)
        return !e->memory;
    return e->space == SPACE_VEX && e->map == 3 && mode != 64 && e->w &&
           (e->opcode == 0x16 || e->opcode == 0x22);
}

/* Results that depend on more than the test: components and pointers in images. */
static bool saves_images(const struct encoding *e)
{
    return e->space == SPACE_LEGACY && e->memory &&
           ((e->map == 1 && (e->opcode == 0xae || e->opcode == 0xc7)) ||
            (e->map == 0 && (e->opcode == 0xd9 || e->opcode == 0xdd) && e->reg >= 4));
}

static bool comparable(const struct encoding *e, const struct insn_case *c,
                       const struct cpuid_model *model)
{
    struct insn insn;
    const char *reason;
    if (saves_images(e) || insn_decode(&insn, c->code, c->code_size, c->mode) != INSN_OK)
        return false;
    int group = form_group(&insn, model, &reason);
    /* Branches lead to what is around the test, which is not the same. */
    return group >= 0 && group != GROUP_EXCLUDED && insn.class != INSN_CONTROL;
}

static void complain(struct absent *a, struct model *m, const struct insn_case *c,
                     const struct insn_result *native, const char *what)
{
    char text[128];
    if (m->failures++ >= a->options->max_failures)
        return;
    printf("%u-bit, %s: %s:", c->mode, m->name, what);
    for (unsigned i = 0; i < c->code_size; i++)
        printf(" %02x", c->code[i]);
    printf("  %s", insn_format(text, sizeof(text), c->code, c->code_size, c->in.rip, c->mode));
    if (a->result.outcome == OUTCOME_EXCEPTION)
        printf("  (exception %u", a->result.vector);
    else
        printf("  (outcome %u", a->result.outcome);
    printf(", seed %llu)\n", (unsigned long long)(c->seed >> INDEX_BITS));
    if (a->options->verbose)
        report_case(c, native, &a->result, DIFF_MEMORY | DIFF_X87);
    fflush(stdout);
}

/* TZCNT and LZCNT. */
static bool falls_back(const struct encoding *e)
{
    return e->space == SPACE_LEGACY && e->map == 1 && (e->opcode & 0xfe) == 0xbc &&
           encoding_mandatory(e) == 2;
}

enum expectation { NOT_RUN, LACKED, UNDEFINED, AS_HOST };

/* native: NULL if it was not to be run there. */
static enum expectation expect(const struct absent *a, const struct model *m,
                               const struct encoding *e, const struct insn_case *c,
                               const struct insn_result *native)
{
    bool lacked = !cpuid_has(&m->cpuid, (enum x86_feature)a->needs[e - a->list.rows]);
    if (e->fallback != (lacked && falls_back(e)))
        return NOT_RUN; /* the same bytes are there as the other */
    if (e->fallback)
        return AS_HOST;
    bool only_here = lacked && a->needs[e - a->list.rows] != FEAT_NEVER;
    if (m->partial && !only_here)
        return NOT_RUN;
    bool undefined = native && is_undefined(c, native) && !host_differs(e, c->mode);
    /* Four neighbours are the same to the engine. */
    bool turn = (c->seed + (uint64_t)(m - a->models)) % 4 == 0;
    if ((lacked || undefined) && e->space != SPACE_LEGACY && !turn)
        return NOT_RUN;
    if (lacked)
        return LACKED;
    if (undefined)
        return UNDEFINED;
    if (native)
        return AS_HOST;
    return e->prefixes & BEFORE_LOCK ? LACKED : NOT_RUN;
}

static void run_model(struct absent *a, struct model *m, const struct encoding *e,
                      const struct insn_case *c, const struct insn_result *native)
{
    enum expectation expected = expect(a, m, e, c, native);
    if (expected == NOT_RUN)
        return;
    a->guest = m->guest;
    session_run_guest(m->guest, c, &a->result);
    m->run[expected]++;
    if (expected != AS_HOST) {
        if (!is_clean(a, c))
            complain(a, m, c, &a->expected,
                     expected == LACKED ? "not just #UD, which it lacks"
                                        : "not just #UD, as on the host");
        return;
    }
    if (host_differs(e, c->mode))
        return;
    if (is_undefined(c, &a->result)) {
        complain(a, m, c, native, "#UD");
    } else if (e->fallback || comparable(e, c, &m->cpuid)) {
        unsigned same = DIFF_UNDEFINED | (e->fallback ? (unsigned)DIFF_CODE : 0);
        if (compare_results(c, native, &a->result, &a->rules) & ~same)
            complain(a, m, c, native, "not as on the host");
    }
}

static void run_batch(struct absent *a, unsigned slot, unsigned count)
{
    struct batch *batch = native_wait(a->native, slot);
    struct insn_case c;
    if (!batch) {
        printf("the native side died\n");
        a->models[0].failures++;
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        uint64_t seed = batch->cases[i].seed;
        const struct encoding *e = &a->list.rows[seed & ((1u << INDEX_BITS) - 1)];
        bool natively = a->native_runs[e - a->list.rows];
        make_case(a, &c, seed, false);
        for (unsigned m = 0; m < a->model_count; m++)
            run_model(a, &a->models[m], e, &c, natively ? &batch->results[i] : NULL);
    }
}

/* --- all of them --- */

static bool guest_only(void *ctx, uint64_t linear)
{
    struct absent *a = ctx;
    return guest_side_owns(a->guest, linear);
}

static int classify(struct absent *a)
{
    unsigned mode = a->options->mode;
    if (encoding_list_init(&a->list, mode) < 0)
        return -1;
    a->needs = calloc(a->list.count, sizeof(*a->needs));
    a->native_runs = calloc(a->list.count, sizeof(*a->native_runs));
    if (!a->needs || !a->native_runs)
        return -1;
    for (uint32_t i = 0; i < a->list.count; i++) {
        const struct encoding *e = &a->list.rows[i];
        a->needs[i] = (uint8_t)needs_of(e, mode);
        a->native_runs[i] = cpuid_supported((enum x86_feature)a->needs[i]) && !needs_guest(e, mode);
    }
    return 0;
}

static int add_model(struct absent *a, const struct cpuid_model *cpuid, const char *name)
{
    struct model *m = &a->models[a->model_count];
    unsigned mode = a->options->mode;
    if (a->model_count == MODELS || (mode == 64 && !cpuid_has(cpuid, FEAT_LM)))
        return 0;
    m->cpuid = *cpuid;
    snprintf(m->name, sizeof(m->name), "%s", name);
    m->guest = guest_side_create(mode, mode == 64, &m->cpuid, true);
    a->model_count += m->guest != NULL;
    return m->guest ? 0 : -1;
}

/* One for each feature that an instruction belongs to, so that none hides behind another. */
static int add_partial_models(struct absent *a)
{
    bool used[FEAT_COUNT] = {false};
    struct cpuid_model all, partial;
    struct vd_error error;
    char name[32];
    if (cpuid_model_init(&all, "max", &error) < 0)
        return -1;
    for (uint32_t i = 0; i < a->list.count; i++)
        used[a->needs[i]] = true;
    used[FEAT_BASE] = used[FEAT_FPU] = false; /* x87 instructions without x87 do not raise #UD */
    for (unsigned feature = 0; feature < FEAT_COUNT; feature++) {
        if (!used[feature] || !cpuid_has(&all, (enum x86_feature)feature))
            continue;
        partial = all;
        partial.features[feature / 64] &= ~(1ull << feature % 64);
        snprintf(name, sizeof(name), "max-%s", cpuid_bits[feature].name);
        a->models[a->model_count].partial = true;
        if (add_model(a, &partial, name) < 0)
            return -1;
    }
    return 0;
}

static int start(struct absent *a)
{
    const char *name, *only = a->options->model;
    struct cpuid_model cpuid;
    struct vd_error error;
    a->generator = (struct generator){.forms = &a->forms};
    a->forms.mode = a->options->mode;
    memory_template(a->template);
    a->rules = (struct compare_rules){.guest_only = guest_only,
                                      .ctx = a,
                                      .exact_flags = true,
                                      .undefined_flags = __builtin_cpu_is("amd"),
                                      .template = a->template};
    if (classify(a) < 0)
        return -1;
    a->native = native_start(generate, a);
    for (size_t i = 0; (name = cpuid_model_name(i)); i++) {
        if ((!only || strcmp(only, name) == 0) && cpuid_model_init(&cpuid, name, &error) == 0 &&
            add_model(a, &cpuid, name) < 0)
            return -1;
    }
    if (!only && add_partial_models(a) < 0)
        return -1;
    return a->native && a->model_count ? 0 : -1;
}

static void stop(struct absent *a)
{
    session_watchdog(false);
    if (a->native)
        native_stop(a->native);
    for (unsigned i = 0; i < a->model_count; i++)
        guest_side_destroy(a->models[i].guest);
    encoding_list_free(&a->list);
    free(a->needs);
    free(a->native_runs);
}

static void run_all(struct absent *a)
{
    unsigned pending[NATIVE_SLOTS] = {0}, submitted = 0, slot = 0;
    do {
        if (pending[slot])
            run_batch(a, slot, pending[slot]);
        unsigned left = a->list.count - submitted;
        pending[slot] = left < BATCH ? left : (unsigned)BATCH;
        if (pending[slot])
            native_submit(a->native, slot, a->options->seed << INDEX_BITS | submitted,
                          pending[slot]);
        submitted += pending[slot];
        slot = (slot + 1) % NATIVE_SLOTS;
    } while (pending[0] || pending[1]);
}

/* Returns the number of failures. */
static int report(const struct absent *a)
{
    unsigned partial = 0, lacked = 0, failures = 0;
    printf("%u-bit: %u encodings, operands from seed %llu\n", a->options->mode, a->list.count,
           (unsigned long long)a->options->seed);
    for (unsigned i = 0; i < a->model_count; i++) {
        const struct model *m = &a->models[i];
        failures += m->failures;
        if (m->partial) {
            partial++;
            lacked += m->run[LACKED];
            continue;
        }
        printf("  %-9s lacks %u, %u are undefined on the host, %u compared with it\n", m->name,
               m->run[LACKED], m->run[UNDEFINED], m->run[AS_HOST]);
    }
    printf("  %u models without one feature lack %u\n  %u failures\n", partial, lacked, failures);
    return (int)failures;
}

int absent_run(const struct absent_options *options)
{
    struct absent *a = calloc(1, sizeof(*a));
    int failures = -1;
    if (!a)
        return -1;
    a->options = options;
    if (start(a) == 0) {
        session_watchdog(true);
        run_all(a);
        failures = 0;
    }
    if (failures == 0)
        failures = report(a);
    stop(a);
    free(a);
    return failures;
}
