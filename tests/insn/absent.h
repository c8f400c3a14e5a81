/*
 * Every opcode slot on every processor model: what the model does not offer, and what is no
 * instruction at all, raises #UD and does nothing else; what it offers does not.
 */
#ifndef VD_TESTS_INSN_ABSENT_H
#define VD_TESTS_INSN_ABSENT_H

#include <stdbool.h>
#include <stdint.h>

struct absent_options {
    unsigned mode;
    uint64_t seed;     /* of the operands */
    const char *model; /* NULL: all that have this mode */
    unsigned max_failures;
    bool verbose;
};

/* Number of failures; -1: a side cannot be made. */
int absent_run(const struct absent_options *options);

#endif
