/* Which of the offered instructions were executed, and where undefined flags differed. */
#ifndef VD_TESTS_INSN_COVERAGE_H
#define VD_TESTS_INSN_COVERAGE_H

#include "forms.h"
#include "insn_case.h"

struct coverage_row {
    uint64_t completed, faulted, undefined;
};

struct coverage {
    const struct form_table *forms;
    struct coverage_row *rows; /* by ZydisMnemonic */
};

int coverage_init(struct coverage *coverage, const struct form_table *forms);
void coverage_free(struct coverage *coverage);
void coverage_add(struct coverage *coverage, const struct insn_case *c,
                  const struct insn_result *native, unsigned differences);
/* The summary; with full, a line for each mnemonic. */
void coverage_print(const struct coverage *coverage, bool full);
/* ZydisMnemonic of a name, 0: none. */
uint16_t coverage_mnemonic(const char *name);

#endif
