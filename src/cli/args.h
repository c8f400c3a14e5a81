/*
 * Command line parsing: long options with one or two dashes ("--kernel", as QEMU's users type it
 * "-kernel"), values after "=" or as the next word, and suggestions for misspelt words.
 */
#ifndef VD_CLI_ARGS_H
#define VD_CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { /* exit codes of the program */
       EXIT_CODE_OK = 0,
       EXIT_CODE_USAGE = 1,
       EXIT_CODE_HOST = 2,
       EXIT_CODE_TRIPLE_FAULT = 3,
       EXIT_CODE_TIME_LIMIT = 124, /* as timeout(1) */
};

struct option_spec {
    const char *name; /* without dashes; one letter: a short option; NULL: end of the table */
    const char
        *value; /* name of the value in the help; NULL: takes none; "=X": optional, after = */
    int id;
    const char *group; /* heading in the help; NULL: same as the line before */
    const char *help;  /* NULL: not shown (an alias) */
};

struct args {
    int argc;
    char **argv;
    int next;
    const struct option_spec *specs;
    const char *option; /* as typed, for messages */
    const char *value;  /* of the option, or the positional argument; NULL: none given */
};

enum { ARGS_END = 0, ARGS_POSITIONAL = -1, ARGS_ERROR = -2 };

/* argv[0] is skipped. */
void args_init(struct args *args, int argc, char **argv, const struct option_spec *specs);
/* The id of the next option, or one of the above; errors have been printed. */
int args_next(struct args *args);

/* Prints "vedette: ..." to stderr and returns EXIT_CODE_USAGE. */
int usage_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The word of a NULL-terminated list that is most like the given one, or NULL if none is. */
const char *suggest(const char *word, const char *const *list);
/* Prints that value is not one of list for the option, with a suggestion; EXIT_CODE_USAGE. */
int unknown_value(const char *option, const char *value, const char *const *list);

/* Decimal or 0x hexadecimal, the whole text. */
bool parse_number(const char *text, uint64_t *value);
/* Bytes: a number with K, M, G or T behind it (also "MiB", "MB"); bare numbers are MiB. */
bool parse_memory_size(const char *text, uint64_t *bytes);

/* Prints the options of a table, grouped. */
void print_options(const struct option_spec *specs);
/* EXIT_CODE_OK, or EXIT_CODE_HOST with a message when standard output could not be written. */
int finish_output(void);

#endif
