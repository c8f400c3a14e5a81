/*
 * libvedette: puts back ends, machine and engine together. The only file that names all engines.
 *
 * Order matters. Everything is checked and built before the first terminal or file is touched;
 * back ends are closed before the machine is destroyed, because their threads call into devices.
 */
#include "vedette/vedette.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "cpu/cpuid.h"
#include "display/text_sink.h"
#include "hostio/terminal.h"
#include "machine/machine.h"
#include "prescan/scan.h"

_Static_assert((int)VD_SERIAL_COUNT == (int)MACHINE_SERIAL_COUNT, "one board");
_Static_assert((int)VD_TRACE_BLOCKS == (int)TRACE_BLOCKS && (int)VD_TRACE_EXITS == TRACE_EXITS &&
                   (int)VD_TRACE_CALLOUTS == TRACE_CALLOUTS && (int)VD_TRACE_INT == TRACE_INT,
               "the same bits");

/* Character devices in the order in which vd_vm holds them. */
enum { DEBUGCON = VD_SERIAL_COUNT, POST_CARD, CHARDEV_COUNT };

struct vd_vm {
    struct chardev *chardevs[CHARDEV_COUNT];
    struct display *display;
    struct machine *machine;
    void (*quit)(void *ctx);
    void *quit_ctx;
};

static enum vd_result fail(enum vd_result result, const struct vd_error *from,
                           struct vd_error_text *error)
{
    if (error)
        memcpy(error->text, from->text, sizeof(error->text));
    return result;
}
_Static_assert(sizeof(((struct vd_error *)0)->text) == sizeof(((struct vd_error_text *)0)->text),
               "texts are copied whole");

/* --- names --- */

const char *vd_cpu_model(size_t index)
{
    return cpuid_model_name(index);
}

const char *vd_engine(size_t index)
{
    static const char *const names[] = {"auto", "bt"};
    return index < sizeof(names) / sizeof(names[0]) ? names[index] : NULL;
}

static const struct engine_ops *find_engine(const char *name)
{
    if (!name || !strcmp(name, "auto") || !strcmp(name, "bt"))
        return &engine_bt;
    return NULL;
}

void vd_log_level(int level)
{
    log_set_level(level < LOG_ERROR   ? LOG_ERROR
                  : level > LOG_DEBUG ? LOG_DEBUG
                                      : (enum log_level)level);
}

/* --- configuration --- */

static const uint64_t max_ram_size = 1ull << 40;

void vd_config_init(struct vd_config *config)
{
    memset(config, 0, sizeof(*config));
    config->ram_size = 128ull << 20;
    config->debugcon_port = 0x402;
}

static bool is_cpu_model(const char *name)
{
    for (size_t i = 0; cpuid_model_name(i); i++)
        if (!strcmp(cpuid_model_name(i), name))
            return true;
    return false;
}

static const char *chardev_spec(const struct vd_config *config, unsigned index)
{
    if (index == POST_CARD)
        return config->post_codes;
    return index == DEBUGCON ? config->debugcon : config->serial[index];
}

/* The terminal has one keyboard and one screen. */
static int check_terminal(const struct vd_config *config, bool text_display, struct vd_error *err)
{
    unsigned users = 0;
    for (unsigned i = 0; i < CHARDEV_COUNT; i++) {
        const char *spec = chardev_spec(config, i);
        users += spec && !strcmp(spec, "stdio");
    }
    if (users > 1)
        return error_set(
            err, "'stdio' can be used once, by a serial port, the debug console or for POST codes");
    if (users && text_display && isatty(STDOUT_FILENO))
        return error_set(err, "the text display and 'stdio' cannot share one terminal");
    return 0;
}

static int check_config(const struct vd_config *config, struct vd_error *err)
{
    const char *display = config->display ? config->display : "none";
    bool text_display = !strcmp(display, "text");
    if (!config->ram_size || config->ram_size % (1 << 20) || config->ram_size > max_ram_size)
        return error_set(err, "memory of %llu bytes is not possible (1 MiB to 1 TiB, whole MiB)",
                         (unsigned long long)config->ram_size);
    if (!find_engine(config->engine))
        return error_set(err, "unknown engine '%s' (known: auto, bt)", config->engine);
    if (!text_display && strcmp(display, "none") != 0)
        return error_set(err, "unknown display '%s' (known: text, none)", display);
    if (config->initrd && !config->kernel)
        return error_set(err, "initrd '%s' needs a kernel", config->initrd);
    if (config->append && !config->kernel)
        return error_set(err, "a kernel command line needs a kernel");
    if (config->cpu && !is_cpu_model(config->cpu)) {
        struct cpuid_model model;
        return cpuid_model_init(&model, config->cpu, err); /* its text lists the known ones */
    }
    if (config->debug_exit_port > 0xfffc)
        return error_set(err, "isa-debug-exit at port %xh: the last possible one is FFFCh",
                         config->debug_exit_port);
    if (machine_check_memory(config->ram_size, config->cpu, err) < 0)
        return -1;
    return check_terminal(config, text_display, err);
}

/* Only names, not whether files can be opened. */
static int check_specs(const struct vd_config *config, struct vd_error *err)
{
    for (unsigned i = 0; i < CHARDEV_COUNT; i++) {
        const char *spec = chardev_spec(config, i);
        struct chardev *probe;
        if (!spec || (!strncmp(spec, "file:", 5) && spec[5]))
            continue;
        if (chardev_prepare(&probe, spec, NULL, NULL, err) < 0)
            return -1;
        chardev_close(probe);
    }
    return 0;
}

/* --- building --- */

static void set_patient(struct vd_vm *vm, bool patient)
{
    for (unsigned i = 0; i < CHARDEV_COUNT; i++)
        if (vm->chardevs[i])
            chardev_set_patient(vm->chardevs[i], patient);
}

static void on_quit(void *ctx)
{
    struct vd_vm *vm = ctx;
    vd_vm_stop(vm);
    if (vm->quit)
        vm->quit(vm->quit_ctx);
}

static int prepare_back_ends(struct vd_vm *vm, const struct vd_config *config, struct vd_error *err)
{
    for (unsigned i = 0; i < CHARDEV_COUNT; i++) {
        const char *spec = chardev_spec(config, i);
        if (spec && chardev_prepare(&vm->chardevs[i], spec, on_quit, vm, err) < 0)
            return -1;
    }
    if (display_create(&vm->display, err) < 0)
        return -1;
    if (config->display && !strcmp(config->display, "text")) {
        struct display_sink sink;
        if (text_sink_create(&sink, STDOUT_FILENO, err) < 0)
            return -1;
        return display_add_sink(vm->display, &sink, err);
    }
    return 0;
}

static int create_machine(struct vd_vm *vm, const struct vd_config *config, struct vd_error *err)
{
    struct machine_config machine = {
        .ram_size = config->ram_size,
        .cpu_model = config->cpu,
        .firmware = config->firmware,
        .vga_bios = config->vgabios,
        .kernel = config->kernel,
        .initrd = config->initrd,
        .append = config->append,
        .debugcon = vm->chardevs[DEBUGCON],
        .debugcon_port = config->debugcon_port,
        .post_card = vm->chardevs[POST_CARD],
        .debug_exit_port = config->debug_exit_port,
        .test_device = config->test_device != 0,
        .no_reboot = config->no_reboot != 0,
        .display = vm->display,
        .engine = find_engine(config->engine),
        .trace = config->trace,
        .code_cache_size = (size_t)config->code_cache_size,
        .count_events = config->count_events != 0,
        .exact_flags = config->exact_flags != 0,
    };
    for (unsigned i = 0; i < VD_SERIAL_COUNT; i++)
        machine.serial[i] = vm->chardevs[i];
    return machine_create(&vm->machine, &machine, err);
}

static int start_back_ends(struct vd_vm *vm, struct vd_error *err)
{
    for (unsigned i = 0; i < CHARDEV_COUNT; i++)
        if (vm->chardevs[i] && chardev_start(vm->chardevs[i], err) < 0)
            return -1;
    return 0;
}

enum vd_result vd_vm_create(struct vd_vm **result, const struct vd_config *config,
                            struct vd_error_text *error)
{
    struct vd_error err = {.text = ""};
    if (check_config(config, &err) < 0 || check_specs(config, &err) < 0)
        return fail(VD_ERROR_USAGE, &err, error);
    terminal_guard_crashes(); /* below the engine's handlers, which pass on what is not theirs */
    struct vd_vm *vm = calloc(1, sizeof(*vm));
    if (!vm) {
        error_set(&err, "out of memory");
        return fail(VD_ERROR_HOST, &err, error);
    }
    vm->quit = config->quit;
    vm->quit_ctx = config->quit_ctx;
    if (prepare_back_ends(vm, config, &err) < 0 || create_machine(vm, config, &err) < 0 ||
        start_back_ends(vm, &err) < 0) {
        vd_vm_destroy(vm);
        return fail(VD_ERROR_HOST, &err, error);
    }
    *result = vm;
    return VD_OK;
}

void vd_vm_destroy(struct vd_vm *vm)
{
    if (!vm)
        return;
    if (vm->display)
        display_stop(vm->display);
    for (unsigned i = 0; i < CHARDEV_COUNT; i++)
        chardev_close(vm->chardevs[i]);
    /* After the serial output, for those who read both from one file. */
    display_destroy(vm->display);
    machine_destroy(vm->machine);
    free(vm);
}

/* --- running --- */

static void translate_outcome(const struct machine_result *from, struct vd_outcome *outcome)
{
    static const enum vd_outcome_kind kinds[] = {
        [MACHINE_POWERED_OFF] = VD_POWERED_OFF, [MACHINE_STOPPED] = VD_STOPPED,
        [MACHINE_REBOOT] = VD_REBOOT,           [MACHINE_TRIPLE_FAULT] = VD_TRIPLE_FAULT,
        [MACHINE_DEBUG_EXIT] = VD_DEBUG_EXIT,
    };
    outcome->kind = kinds[from->end];
    outcome->value = from->value;
    memcpy(outcome->text, from->text, sizeof(outcome->text));
    _Static_assert(sizeof(outcome->text) == sizeof(from->text), "texts are copied whole");
}

enum vd_result vd_vm_run(struct vd_vm *vm, struct vd_outcome *outcome, struct vd_error_text *error)
{
    struct vd_error err = {.text = ""};
    struct machine_result result;
    if (display_start(vm->display, &err) < 0 || machine_run(vm->machine, &result, &err) < 0)
        return fail(VD_ERROR_HOST, &err, error);
    display_stop(vm->display); /* with the final picture shown */
    set_patient(vm, true);
    translate_outcome(&result, outcome);
    return VD_OK;
}

void vd_vm_stop(struct vd_vm *vm)
{
    /* The processor may be waiting, machine lock held, for a reader that never reads. */
    set_patient(vm, false);
    machine_stop(vm->machine);
}

void vd_vm_reset(struct vd_vm *vm)
{
    machine_reset(vm->machine);
}

enum vd_result vd_vm_screenshot(struct vd_vm *vm, const char *path, struct vd_error_text *error)
{
    struct vd_error err = {.text = ""};
    if (display_screenshot(vm->display, path, &err) < 0)
        return fail(VD_ERROR_HOST, &err, error);
    return VD_OK;
}

size_t vd_vm_screen_text(struct vd_vm *vm, char *text, size_t size)
{
    return display_text(vm->display, text, size);
}

void vd_vm_stats(struct vd_vm *vm, FILE *out, int json)
{
    machine_stats(vm->machine, out, json != 0);
}

/* --- scan --- */

void vd_scan_options_init(struct vd_scan_options *options)
{
    memset(options, 0, sizeof(*options));
}

enum vd_result vd_scan(const char *path, const struct vd_scan_options *options, FILE *out,
                       struct vd_error_text *error)
{
    struct vd_error err = {.text = ""};
    const struct scan_options scan = {
        .format = SCAN_AUTO,
        .bits = options->bits,
        .has_base = options->has_base != 0,
        .base = options->base,
        .has_entry = options->has_entry != 0,
        .entry = options->entry,
        .json = options->json != 0,
        .no_progress = true,
    };
    if (options->bits && options->bits != 16 && options->bits != 32 && options->bits != 64) {
        error_set(&err, "code size must be 16, 32 or 64, not %u", options->bits);
        return fail(VD_ERROR_USAGE, &err, error);
    }
    if (scan_file(path, &scan, out, &err) < 0)
        return fail(VD_ERROR_HOST, &err, error);
    return VD_OK;
}
