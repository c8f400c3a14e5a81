#include <stdio.h>
#include <string.h>

#include "cli/args.h"
#include "cli/commands.h"
#include "vedette/vedette.h"

enum option_id { OPT_JSON = 1, OPT_BITS, OPT_BASE, OPT_ENTRY, OPT_HELP };

static const struct option_spec specs[] = {
    {"bits", "N", OPT_BITS, "Options", "16, 32 or 64: code size of a file without a format"},
    {"base", "ADDRESS", OPT_BASE, NULL, "where such a file's first byte lies; default 0"},
    {"entry", "ADDRESS", OPT_ENTRY, NULL,
     "start there, too (without a format: instead of the base)"},
    {"json", NULL, OPT_JSON, NULL, "one JSON object instead of text"},
    {"help", NULL, OPT_HELP, NULL, "this text"},
    {"h", NULL, OPT_HELP, NULL, NULL},
    {NULL, NULL, 0, NULL, NULL},
};

void help_scan(void)
{
    puts(
        "usage: vedette scan FILE [OPTION]...\n"
        "\n"
        "Decodes the code of a file (ELF, bzImage, boot sector, flat) as the translator would and\n"
        "reports what it is made of: blocks, how instructions are translated, what stops the "
        "scan.");
    print_options(specs);
}

static int set_option(struct vd_scan_options *options, int id, const struct args *args)
{
    uint64_t number = 0;
    if ((id == OPT_BITS || id == OPT_BASE || id == OPT_ENTRY) &&
        !parse_number(args->value, &number))
        return usage_error("'%s' is not a number (option '%s')", args->value, args->option);
    switch (id) {
    case OPT_BITS:
        if (number != 16 && number != 32 && number != 64)
            return usage_error("code size must be 16, 32 or 64, not %s", args->value);
        options->bits = (unsigned)number;
        return EXIT_CODE_OK;
    case OPT_BASE:
        options->base = number;
        options->has_base = 1;
        return EXIT_CODE_OK;
    case OPT_ENTRY:
        options->entry = number;
        options->has_entry = 1;
        return EXIT_CODE_OK;
    default:
        options->json = 1;
        return EXIT_CODE_OK;
    }
}

int command_scan(int argc, char **argv)
{
    struct vd_scan_options options;
    struct vd_error_text error;
    struct args args;
    const char *path = NULL;
    int id;
    vd_scan_options_init(&options);
    args_init(&args, argc, argv, specs);
    while ((id = args_next(&args)) != ARGS_END) {
        if (id == ARGS_ERROR)
            return EXIT_CODE_USAGE;
        if (id == OPT_HELP) {
            help_scan();
            return finish_output();
        }
        if (id == ARGS_POSITIONAL && path)
            return usage_error("scan takes one file, '%s' is one too many", args.value);
        if (id == ARGS_POSITIONAL)
            path = args.value;
        else if (set_option(&options, id, &args) != EXIT_CODE_OK)
            return EXIT_CODE_USAGE;
    }
    if (!path)
        return usage_error("scan needs a file (see 'vedette scan --help')");
    enum vd_result result = vd_scan(path, &options, stdout, &error);
    if (result != VD_OK) {
        fprintf(stderr, "vedette: %s\n", error.text);
        return result == VD_ERROR_USAGE ? EXIT_CODE_USAGE : EXIT_CODE_HOST;
    }
    return finish_output();
}
