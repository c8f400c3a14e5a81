#include <stdio.h>

#include "cli/args.h"
#include "cli/commands.h"
#include "cli/run_options.h"
#include "cli/watch.h"

static int report(enum vd_result result, const struct vd_error_text *error)
{
    fprintf(stderr, "vedette: %s\n", error->text);
    return result == VD_ERROR_USAGE ? EXIT_CODE_USAGE : EXIT_CODE_HOST;
}

static int outcome_code(const struct vd_outcome *outcome)
{
    switch (outcome->kind) {
    case VD_TRIPLE_FAULT:
        return EXIT_CODE_TRIPLE_FAULT;
    case VD_DEBUG_EXIT:
        return (int)(outcome->value & 0xff);
    default:
        return EXIT_CODE_OK;
    }
}

/* What is left to do while the machine still exists: pictures and numbers. */
static int finish_run(struct vd_vm *vm, const struct run_options *options, int code)
{
    struct vd_error_text error;
    if (options->screenshot) {
        enum vd_result result = vd_vm_screenshot(vm, options->screenshot, &error);
        if (result != VD_OK) {
            int failed = report(result, &error);
            code = code ? code : failed;
        }
    }
    if (options->stats != RUN_STATS_NONE) {
        vd_vm_stats(vm, stderr, options->stats == RUN_STATS_JSON);
        fflush(stderr);
    }
    return code;
}

static int run_vm(struct vd_vm *vm, const struct run_options *options)
{
    struct vd_error_text error;
    struct vd_outcome outcome = {.kind = VD_STOPPED};
    struct watch watch;
    if (watch_start(&watch, vm, options->time_limit) < 0)
        return EXIT_CODE_HOST;
    enum vd_result result = vd_vm_run(vm, &outcome, &error);
    watch_end(&watch);
    int code = result == VD_OK ? outcome_code(&outcome) : EXIT_CODE_HOST;
    if (result == VD_OK && outcome.kind == VD_STOPPED && atomic_load(&watch.timed_out))
        code = EXIT_CODE_TIME_LIMIT;
    code = finish_run(vm, options, code);
    vd_vm_destroy(vm); /* the terminal is as it was: now messages are readable */
    if (result != VD_OK)
        report(result, &error);
    else if (code == EXIT_CODE_TIME_LIMIT)
        fprintf(stderr, "vedette: time limit of %g seconds reached\n", options->time_limit);
    else if (outcome.kind == VD_TRIPLE_FAULT)
        fprintf(stderr, "vedette: %s\n", outcome.text[0] ? outcome.text : "triple fault");
    return code;
}

int command_run(int argc, char **argv)
{
    struct run_options options;
    struct vd_error_text error;
    struct vd_vm *vm;
    switch (run_options_parse(&options, argc, argv)) {
    case RUN_PARSE_DONE:
        return EXIT_CODE_OK;
    case RUN_PARSE_USAGE:
        return EXIT_CODE_USAGE;
    case RUN_PARSE_HOST:
        return EXIT_CODE_HOST;
    case RUN_PARSE_GO:
        break;
    }
    vd_log_level(options.log_level);
    watch_block_signals();
    enum vd_result result = vd_vm_create(&vm, &options.config, &error);
    if (result != VD_OK)
        return report(result, &error);
    return run_vm(vm, &options);
}
