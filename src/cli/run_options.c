#include "cli/run_options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/commands.h"

enum option_id {
    OPT_MEMORY = 1,
    OPT_CPU,
    OPT_ENGINE,
    OPT_EXACT_FLAGS,
    OPT_BIOS,
    OPT_VGABIOS,
    OPT_KERNEL,
    OPT_INITRD,
    OPT_APPEND,
    OPT_SERIAL,
    OPT_DEBUGCON,
    OPT_DEBUGCON_PORT,
    OPT_POST_CODES,
    OPT_DISPLAY,
    OPT_NOGRAPHIC,
    OPT_SCREENSHOT,
    OPT_DEBUG_EXIT,
    OPT_TEST_DEVICE,
    OPT_DEVICE,
    OPT_NO_REBOOT,
    OPT_TIME_LIMIT,
    OPT_TRACE,
    OPT_STATS,
    OPT_LOG,
    OPT_HELP,
};

enum { DEBUG_EXIT_PORT_MAX = 0xfffc }; /* it has four ports */

static const struct option_spec specs[] = {
    {"m", "SIZE", OPT_MEMORY, "Machine", "memory: 256M, 1G, or 4096 (MiB); default 128M"},
    {"memory", "SIZE", OPT_MEMORY, NULL, "the same"},
    {"cpu", "MODEL", OPT_CPU, NULL, "processor model; '?' lists them"},
    {"engine", "ENGINE", OPT_ENGINE, NULL, "bt: the translator; auto: the best one here (default)"},
    {"exact-flags", NULL, OPT_EXACT_FLAGS, NULL,
     "no flag is ever stale in what an exception pushes, not even\none that nothing reads "
     "(slower)"},
    {"bios", "FILE", OPT_BIOS, NULL, "PC firmware instead of the installed SeaBIOS"},
    {"vgabios", "FILE", OPT_VGABIOS, NULL, "VGA firmware instead of the installed one, or 'none'"},
    {"kernel", "FILE", OPT_KERNEL, "A kernel without a boot loader",
     "Linux (bzImage), or a multiboot 1 or 2 kernel"},
    {"initrd", "FILE", OPT_INITRD, NULL,
     "initial RAM disk; for multiboot: modules,\n'FILE [ARGUMENTS],...'"},
    {"append", "STRING", OPT_APPEND, NULL, "kernel command line"},
    {"serial", "DEVICE", OPT_SERIAL, "Screen and serial ports",
     "COM1, given again COM2: stdio, file:PATH or none.\n"
     "On a terminal, Ctrl-A x quits and Ctrl-A h shows help"},
    {"debugcon", "DEVICE", OPT_DEBUGCON, NULL, "firmware's debug port 402h"},
    {"post-codes", "DEVICE", OPT_POST_CODES, NULL,
     "what is written to ports 80h and 190h, a line each"},
    {"debugcon-port", "PORT", OPT_DEBUGCON_PORT, NULL,
     "the same elsewhere, e.g. 0x190 to see a test suite's codes"},
    {"display", "KIND", OPT_DISPLAY, NULL,
     "text: the text screen on this terminal; none.\n"
     "Default: text if there is no --serial, else none"},
    {"nographic", NULL, OPT_NOGRAPHIC, NULL, "--display none, and --serial stdio unless given"},
    {"screenshot", "FILE.png", OPT_SCREENSHOT, NULL, "write the screen when the run ends"},
    {"no-reboot", NULL, OPT_NO_REBOOT, "How the run ends", "end when the guest resets the machine"},
    {"time-limit", "SECONDS", OPT_TIME_LIMIT, NULL, "end after that much time, exit code 124"},
    {"isa-debug-exit", "=PORT", OPT_DEBUG_EXIT, "For test kernels",
     "port 0xf4 or PORT: writing N ends with exit code 2N+1.\n"
     "Without PORT it brings --test-device along"},
    {"device", "isa-debug-exit,iobase=PORT", OPT_DEVICE, NULL,
     "the same alone, as QEMU has it; or pc-testdev"},
    {"test-device", NULL, OPT_TEST_DEVICE, NULL,
     "a register at port 0xe0, interrupt lines at 0x2000\n"
     "and memory at 0xff000000 to drive"},
    {"trace", "LIST", OPT_TRACE, "Looking inside", "any of blocks,exits,callouts,int"},
    {"stats", "=json", OPT_STATS, NULL, "print the engine's statistics to stderr at the end"},
    {"log", "LEVEL", OPT_LOG, NULL, "error, warn (default), info or debug"},
    {"help", NULL, OPT_HELP, NULL, "this text"},
    {"h", NULL, OPT_HELP, NULL, NULL},
    {NULL, NULL, 0, NULL, NULL},
};

void help_run(void)
{
    puts("usage: vedette run [OPTION]...\n"
         "\n"
         "Runs a PC. Long options may also be written with one dash, as in QEMU; values follow\n"
         "as the next word or after '='.");
    print_options(specs);
    puts("\n"
         "Exit codes: 0 the guest powered off or the user quit; 1 wrong usage; 2 the host failed;\n"
         "3 triple fault; 124 time limit; 2N+1 from isa-debug-exit.");
}

/* --- single options --- */

/* "-cpu ?" and "-cpu help" list, as in QEMU. */
static bool wants_list(const char *value)
{
    return !strcmp(value, "?") || !strcmp(value, "help");
}

static enum run_parse list_names(const char *(*name)(size_t index))
{
    for (size_t i = 0; name(i); i++)
        puts(name(i));
    return finish_output() ? RUN_PARSE_HOST : RUN_PARSE_DONE;
}

static enum run_parse check_name(const char *option, const char *value,
                                 const char *(*name)(size_t index))
{
    const char *names[32] = {NULL};
    for (size_t i = 0; i < 31 && (names[i] = name(i)); i++)
        if (!strcmp(names[i], value))
            return RUN_PARSE_GO;
    unknown_value(option, value, names);
    return RUN_PARSE_USAGE;
}

static enum run_parse set_memory(struct run_options *options, const struct args *args)
{
    uint64_t bytes;
    if (!parse_memory_size(args->value, &bytes)) {
        usage_error("'%s' is not a memory size (256M, 1G, 4096 for MiB)", args->value);
        return RUN_PARSE_USAGE;
    }
    if (!bytes || bytes % (1 << 20) || bytes > 1ull << 40) {
        usage_error("memory size %s is not possible (1M to 1T, whole MiB)", args->value);
        return RUN_PARSE_USAGE;
    }
    options->config.ram_size = bytes;
    return RUN_PARSE_GO;
}

static enum run_parse set_serial(struct run_options *options, const char *value)
{
    for (unsigned i = 0; i < VD_SERIAL_COUNT; i++) {
        if (!options->config.serial[i]) {
            options->config.serial[i] = value;
            return RUN_PARSE_GO;
        }
    }
    usage_error("there are %d serial ports", VD_SERIAL_COUNT);
    return RUN_PARSE_USAGE;
}

static enum run_parse set_trace(struct run_options *options, const struct args *args)
{
    static const char *const names[] = {"blocks", "exits", "callouts", "int", NULL};
    static const unsigned bits[] = {VD_TRACE_BLOCKS, VD_TRACE_EXITS, VD_TRACE_CALLOUTS,
                                    VD_TRACE_INT};
    const char *at = args->value;
    for (;;) {
        char word[32];
        size_t length = strcspn(at, ","), i = 0;
        snprintf(word, sizeof(word), "%.*s", (int)(length < 31 ? length : 31), at);
        while (names[i] && strcmp(names[i], word) != 0)
            i++;
        if (!names[i]) {
            unknown_value(args->option, word, names);
            return RUN_PARSE_USAGE;
        }
        options->config.trace |= bits[i];
        if (!at[length])
            return RUN_PARSE_GO;
        at += length + 1;
    }
}

static enum run_parse set_log(struct run_options *options, const struct args *args)
{
    static const char *const names[] = {"error", "warn", "info", "debug", NULL};
    for (int i = 0; names[i]; i++) {
        if (!strcmp(names[i], args->value)) {
            options->log_level = i;
            return RUN_PARSE_GO;
        }
    }
    unknown_value(args->option, args->value, names);
    return RUN_PARSE_USAGE;
}

static enum run_parse set_stats(struct run_options *options, const struct args *args)
{
    options->config.count_events = 1;
    static const char *const names[] = {"json", "text", NULL};
    if (!args->value || !strcmp(args->value, "text")) {
        options->stats = RUN_STATS_TEXT;
    } else if (!strcmp(args->value, "json")) {
        options->stats = RUN_STATS_JSON;
    } else {
        unknown_value("--stats", args->value, names);
        return RUN_PARSE_USAGE;
    }
    return RUN_PARSE_GO;
}

static enum run_parse set_debug_exit(struct run_options *options, const char *value)
{
    uint64_t port = VD_DEBUG_EXIT_PORT;
    if (value && (!parse_number(value, &port) || !port || port > DEBUG_EXIT_PORT_MAX)) {
        usage_error("'%s' is not a port for isa-debug-exit (1 to 0x%x)", value,
                    DEBUG_EXIT_PORT_MAX);
        return RUN_PARSE_USAGE;
    }
    options->config.debug_exit_port = (uint16_t)port;
    return RUN_PARSE_GO;
}

static enum run_parse set_debugcon_port(struct run_options *options, const char *value)
{
    uint64_t port;
    if (!parse_number(value, &port) || !port || port > UINT16_MAX) {
        usage_error("'%s' is not a port for the debug console (1 to 0xffff)", value);
        return RUN_PARSE_USAGE;
    }
    options->config.debugcon_port = (uint16_t)port;
    return RUN_PARSE_GO;
}

/* "isa-debug-exit[,iobase=PORT][,iosize=N]" with QEMU's defaults, or "pc-testdev". */
static enum run_parse set_device(struct run_options *options, const struct args *args)
{
    static const char *const devices[] = {"isa-debug-exit", "pc-testdev", NULL};
    static const char *const properties[] = {"iobase", "iosize", NULL};
    char text[128], *rest = text;
    const char *base = "0x501";
    if (snprintf(text, sizeof(text), "%s", args->value) >= (int)sizeof(text)) {
        usage_error("the value of '%s' is too long", args->option);
        return RUN_PARSE_USAGE;
    }
    const char *name = strsep(&rest, ",");
    if (!strcmp(name, devices[1])) {
        if (rest) {
            usage_error("'%s' has no property, '%s' is too much", name, rest);
            return RUN_PARSE_USAGE;
        }
        options->config.test_device = 1;
        return RUN_PARSE_GO;
    }
    if (strcmp(name, devices[0]) != 0) {
        unknown_value(args->option, name, devices);
        return RUN_PARSE_USAGE;
    }
    for (char *property; (property = strsep(&rest, ","));) {
        uint64_t size;
        char *value = property + strcspn(property, "=");
        if (*value)
            *value++ = 0;
        if (!strcmp(property, "iobase")) {
            base = value;
        } else if (strcmp(property, "iosize") != 0) {
            unknown_value(args->option, property, properties);
            return RUN_PARSE_USAGE;
        } else if (!parse_number(value, &size) || !size || size > 4) {
            usage_error("'%s' is not a size for isa-debug-exit (1 to 4 ports)", value);
            return RUN_PARSE_USAGE;
        }
    }
    return set_debug_exit(options, base);
}

static enum run_parse set_time_limit(struct run_options *options, const char *value)
{
    char *end;
    double seconds = strtod(value, &end);
    if (end == value || *end || !(seconds > 0 && seconds < 1e9)) {
        usage_error("'%s' is not a time limit in seconds", value);
        return RUN_PARSE_USAGE;
    }
    options->time_limit = seconds;
    return RUN_PARSE_GO;
}

static enum run_parse set_display(struct run_options *options, const struct args *args)
{
    static const char *const names[] = {"text", "none", NULL};
    for (size_t i = 0; names[i]; i++) {
        if (!strcmp(names[i], args->value)) {
            options->config.display = args->value;
            return RUN_PARSE_GO;
        }
    }
    unknown_value(args->option, args->value, names);
    return RUN_PARSE_USAGE;
}

static enum run_parse set_flag(struct run_options *options, int id, bool *nographic)
{
    switch (id) {
    case OPT_NOGRAPHIC:
        *nographic = true;
        return RUN_PARSE_GO;
    case OPT_NO_REBOOT:
        options->config.no_reboot = 1;
        return RUN_PARSE_GO;
    case OPT_EXACT_FLAGS:
        options->config.exact_flags = 1;
        return RUN_PARSE_GO;
    case OPT_TEST_DEVICE:
        options->config.test_device = 1;
        return RUN_PARSE_GO;
    default:
        help_run();
        return finish_output() ? RUN_PARSE_HOST : RUN_PARSE_DONE;
    }
}

static enum run_parse set_option(struct run_options *options, int id, const struct args *args,
                                 bool *nographic)
{
    struct vd_config *config = &options->config;
    switch (id) {
    case OPT_MEMORY:
        return set_memory(options, args);
    case OPT_CPU:
        config->cpu = args->value;
        return wants_list(args->value) ? list_names(vd_cpu_model)
                                       : check_name(args->option, args->value, vd_cpu_model);
    case OPT_ENGINE:
        config->engine = args->value;
        return wants_list(args->value) ? list_names(vd_engine)
                                       : check_name(args->option, args->value, vd_engine);
    case OPT_BIOS:
        config->firmware = args->value;
        return RUN_PARSE_GO;
    case OPT_VGABIOS:
        config->vgabios = args->value;
        return RUN_PARSE_GO;
    case OPT_KERNEL:
        config->kernel = args->value;
        return RUN_PARSE_GO;
    case OPT_INITRD:
        config->initrd = args->value;
        return RUN_PARSE_GO;
    case OPT_APPEND:
        config->append = args->value;
        return RUN_PARSE_GO;
    case OPT_SERIAL:
        return set_serial(options, args->value);
    case OPT_DEBUGCON:
        config->debugcon = args->value;
        return RUN_PARSE_GO;
    case OPT_POST_CODES:
        config->post_codes = args->value;
        return RUN_PARSE_GO;
    case OPT_DEBUGCON_PORT:
        return set_debugcon_port(options, args->value);
    case OPT_DISPLAY:
        return set_display(options, args);
    case OPT_SCREENSHOT:
        options->screenshot = args->value;
        return RUN_PARSE_GO;
    case OPT_TIME_LIMIT:
        return set_time_limit(options, args->value);
    case OPT_TRACE:
        return set_trace(options, args);
    case OPT_STATS:
        return set_stats(options, args);
    case OPT_LOG:
        return set_log(options, args);
    case OPT_DEBUG_EXIT:
        if (!args->value)
            config->test_device = 1;
        return set_debug_exit(options, args->value);
    case OPT_DEVICE:
        return set_device(options, args);
    default:
        return set_flag(options, id, nographic);
    }
}

/* --- the whole --- */

/* A picture that cannot be written should be known before an hour of running, not after. */
static enum run_parse check_screenshot(const char *path)
{
    struct stat st;
    char folder[4096];
    int status = 0;
    if (stat(path, &st) == 0) {
        if (S_ISDIR(st.st_mode)) {
            errno = EISDIR;
            status = -1;
        } else {
            status = access(path, W_OK);
        }
    } else {
        const char *slash = strrchr(path, '/');
        int length = slash ? (int)(slash - path) + 1 : 0;
        snprintf(folder, sizeof(folder), "%.*s", length < 4095 ? length : 4095, path);
        status = access(length ? folder : ".", W_OK | X_OK);
    }
    if (status == 0 && *path)
        return RUN_PARSE_GO;
    usage_error("cannot write the screenshot '%s': %s", path, strerror(*path ? errno : ENOENT));
    return RUN_PARSE_USAGE;
}

static void set_defaults(struct run_options *options, bool nographic)
{
    struct vd_config *config = &options->config;
    if (nographic) {
        config->display = "none";
        if (!config->serial[0])
            config->serial[0] = "stdio";
    }
    if (!config->display)
        config->display = config->serial[0] ? "none" : "text";
}

static enum run_parse check_combination(const struct run_options *options)
{
    const struct vd_config *config = &options->config;
    if (config->initrd && !config->kernel) {
        usage_error("--initrd needs --kernel");
        return RUN_PARSE_USAGE;
    }
    if (config->append && !config->kernel) {
        usage_error("--append needs --kernel");
        return RUN_PARSE_USAGE;
    }
    if (!config->kernel && !config->firmware) {
        usage_error("nothing to start: name a kernel (--kernel) or a firmware image (--bios)");
        return RUN_PARSE_USAGE;
    }
    return options->screenshot ? check_screenshot(options->screenshot) : RUN_PARSE_GO;
}

enum run_parse run_options_parse(struct run_options *options, int argc, char **argv)
{
    struct args args;
    bool nographic = false;
    int id;
    memset(options, 0, sizeof(*options));
    vd_config_init(&options->config);
    options->log_level = 1;
    args_init(&args, argc, argv, specs);
    while ((id = args_next(&args)) != ARGS_END) {
        if (id == ARGS_ERROR)
            return RUN_PARSE_USAGE;
        if (id == ARGS_POSITIONAL) {
            usage_error("unexpected argument '%s' (see 'vedette run --help')", args.value);
            return RUN_PARSE_USAGE;
        }
        enum run_parse status = set_option(options, id, &args, &nographic);
        if (status != RUN_PARSE_GO)
            return status;
    }
    set_defaults(options, nographic);
    return check_combination(options);
}
