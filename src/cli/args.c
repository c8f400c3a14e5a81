#include "cli/args.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_WORD = 40, HELP_COLUMN = 28, MAX_NAMES = 64 };

int usage_error(const char *format, ...)
{
    va_list args;
    fputs("vedette: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return EXIT_CODE_USAGE;
}

/* --- suggestions --- */

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned least = a < b ? a : b;
    return least < c ? least : c;
}

/* Insertions, deletions, substitutions, and swaps of neighbours. */
static unsigned edit_distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    unsigned rows[3][MAX_WORD + 1];
    if (n > MAX_WORD || m > MAX_WORD)
        return MAX_WORD;
    for (size_t j = 0; j <= m; j++)
        rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= n; i++) {
        unsigned *row = rows[i % 3], *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            row[j] = min3(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                above2[j - 2] + 1 < row[j])
                row[j] = above2[j - 2] + 1;
        }
    }
    return rows[n % 3][m];
}

const char *suggest(const char *word, const char *const *list)
{
    const char *best = NULL;
    size_t length = strlen(word);
    unsigned best_distance = length < 3 ? 2 : length < 6 ? 3 : 4; /* must be less than that */
    for (size_t i = 0; list[i]; i++) {
        unsigned distance = edit_distance(word, list[i]);
        /* An abbreviation is as good as one typing error. */
        if (distance > 1 && length >= 2 && strncmp(word, list[i], length) == 0)
            distance = 1;
        if (distance < best_distance) {
            best = list[i];
            best_distance = distance;
        }
    }
    return best;
}

int unknown_value(const char *option, const char *value, const char *const *list)
{
    const char *like = suggest(value, list);
    if (like)
        return usage_error("unknown value '%s' for '%s', did you mean '%s'?", value, option, like);
    char known[512] = "";
    size_t used = 0;
    for (size_t i = 0; list[i] && used < sizeof(known) - 1; i++) {
        int length = snprintf(known + used, sizeof(known) - used, "%s%s", i ? ", " : "", list[i]);
        used += length > 0 ? (size_t)length : 0;
    }
    return usage_error("unknown value '%s' for '%s' (known: %s)", value, option, known);
}

/* --- options --- */

void args_init(struct args *args, int argc, char **argv, const struct option_spec *specs)
{
    *args = (struct args){.argc = argc, .argv = argv, .next = 1, .specs = specs};
}

static int unknown_option(const struct args *args, const char *name)
{
    const char *names[MAX_NAMES + 1];
    size_t count = 0;
    for (const struct option_spec *spec = args->specs; spec->name && count < MAX_NAMES; spec++)
        if (spec->help && spec->name[1]) /* nobody means -m by -x */
            names[count++] = spec->name;
    names[count] = NULL;
    const char *like = suggest(name, names);
    if (like)
        usage_error("unknown option '%s', did you mean '--%s'?", args->option, like);
    else
        usage_error("unknown option '%s' (see --help)", args->option);
    return ARGS_ERROR;
}

static const struct option_spec *find_spec(const struct option_spec *specs, const char *name,
                                           size_t length)
{
    for (; specs->name; specs++)
        if (strlen(specs->name) == length && strncmp(specs->name, name, length) == 0)
            return specs;
    return NULL;
}

static int take_value(struct args *args, const struct option_spec *spec, const char *attached)
{
    bool optional = spec->value && spec->value[0] == '=';
    args->value = attached;
    if (!spec->value && attached) {
        usage_error("option '%s' takes no value", args->option);
        return ARGS_ERROR;
    }
    if (spec->value && !optional && !attached) {
        if (args->next >= args->argc) {
            usage_error("option '%s' needs a value (%s)", args->option, spec->value);
            return ARGS_ERROR;
        }
        args->value = args->argv[args->next++];
    }
    return spec->id;
}

int args_next(struct args *args)
{
    if (args->next >= args->argc)
        return ARGS_END;
    char *word = args->argv[args->next++];
    args->option = word;
    args->value = word;
    if (word[0] != '-' || !word[1])
        return ARGS_POSITIONAL;
    const char *name = word + (word[1] == '-' ? 2 : 1);
    const char *equals = strchr(name, '=');
    size_t length = equals ? (size_t)(equals - name) : strlen(name);
    const struct option_spec *spec = find_spec(args->specs, name, length);
    if (!spec) {
        char bare[MAX_WORD + 1];
        snprintf(bare, sizeof(bare), "%.*s", (int)(length < MAX_WORD ? length : MAX_WORD), name);
        return unknown_option(args, bare);
    }
    return take_value(args, spec, equals ? equals + 1 : NULL);
}

/* --- numbers --- */

bool parse_number(const char *text, uint64_t *value)
{
    char *end;
    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    *value = strtoull(text, &end, hex ? 16 : 10);
    return !errno && !*end && end != text;
}

bool parse_memory_size(const char *text, uint64_t *bytes)
{
    static const struct {
        char letter;
        unsigned shift;
    } units[] = {{'K', 10}, {'M', 20}, {'G', 30}, {'T', 40}};
    char *end;
    unsigned shift = 20;
    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (errno)
        return false;
    if (*end) {
        size_t i = 0;
        while (i < 4 && (*end & ~0x20) != units[i].letter)
            i++;
        if (i == 4)
            return false;
        shift = units[i].shift;
        end++;
        if (*end && strcasecmp(end, "b") != 0 && strcasecmp(end, "ib") != 0)
            return false;
    }
    if (value > UINT64_MAX >> shift)
        return false;
    *bytes = value << shift;
    return true;
}

/* --- help --- */

static void print_option(const struct option_spec *spec)
{
    char left[64];
    const char *dashes = strlen(spec->name) == 1 ? "-" : "--";
    if (!spec->value)
        snprintf(left, sizeof(left), "  %s%s", dashes, spec->name);
    else if (spec->value[0] == '=')
        snprintf(left, sizeof(left), "  %s%s[%s]", dashes, spec->name, spec->value);
    else
        snprintf(left, sizeof(left), "  %s%s %s", dashes, spec->name, spec->value);
    printf("%-*s", HELP_COLUMN, left);
    if (strlen(left) >= HELP_COLUMN)
        printf("\n%*s", HELP_COLUMN, "");
    for (const char *c = spec->help; *c; c++) {
        putchar(*c);
        if (*c == '\n')
            printf("%*s", HELP_COLUMN, "");
    }
    putchar('\n');
}

void print_options(const struct option_spec *specs)
{
    for (; specs->name; specs++) {
        if (!specs->help)
            continue;
        if (specs->group)
            printf("\n%s:\n", specs->group);
        print_option(specs);
    }
}

int finish_output(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return EXIT_CODE_OK;
    fprintf(stderr, "vedette: cannot write to standard output: %s\n", strerror(errno));
    return EXIT_CODE_HOST;
}
