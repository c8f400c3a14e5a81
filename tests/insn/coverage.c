#include "coverage.h"

#include <Zydis/Zydis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "compare.h"

enum { MNEMONICS = ZYDIS_MNEMONIC_MAX_VALUE + 1 };

int coverage_init(struct coverage *coverage, const struct form_table *forms)
{
    coverage->forms = forms;
    coverage->rows = calloc(MNEMONICS, sizeof(*coverage->rows));
    return coverage->rows ? 0 : -1;
}

void coverage_free(struct coverage *coverage)
{
    free(coverage->rows);
}

void coverage_add(struct coverage *coverage, const struct insn_case *c,
                  const struct insn_result *native, unsigned differences)
{
    unsigned count = c->count, last = CASE_INSNS;
    if (native->outcome == OUTCOME_EXCEPTION) {
        last = case_insn_at(c, native->out.rip);
        count = last + 1;
    }
    for (unsigned i = 0; i < count; i++) {
        struct coverage_row *row = &coverage->rows[c->mnemonic[i]];
        if (i == last)
            row->faulted++;
        else
            row->completed++;
        if (differences & DIFF_UNDEFINED)
            row->undefined++;
    }
}

/* Offered mnemonics appear once for each group they have forms in. */
static bool first_of_mnemonic(const struct form_table *t, unsigned i)
{
    for (unsigned k = 0; k < i; k++) {
        if (t->mnemonics[k].mnemonic == t->mnemonics[i].mnemonic)
            return false;
    }
    return true;
}

void coverage_print(const struct coverage *coverage, bool full)
{
    const struct form_table *t = coverage->forms;
    unsigned offered = 0, executed = 0, excluded = 0;
    for (unsigned i = 0; i < t->mnemonic_count; i++) {
        const struct form_mnemonic *m = &t->mnemonics[i];
        const struct coverage_row *row = &coverage->rows[m->mnemonic];
        const char *name = ZydisMnemonicGetString((ZydisMnemonic)m->mnemonic);
        if (!first_of_mnemonic(t, i))
            continue;
        if (m->excluded) {
            excluded++;
            if (full)
                printf("  %-16s not compared: %s\n", name, m->excluded);
            continue;
        }
        offered++;
        executed += row->completed || row->faulted;
        if (full)
            printf("  %-16s %9llu completed %9llu faulted%s\n", name,
                   (unsigned long long)row->completed, (unsigned long long)row->faulted,
                   row->completed                 ? ""
                   : m->group == GROUP_PRIVILEGED ? ""
                                                  : "  NEVER COMPLETED");
        else if (!row->completed && !row->faulted)
            printf("  %s was not executed\n", name);
        if (full && row->undefined)
            printf("  %-16s %9llu sequences differ in undefined flags\n", name,
                   (unsigned long long)row->undefined);
    }
    printf("  %u of %u mnemonics executed; %u more are not comparable\n", executed, offered,
           excluded);
}

uint16_t coverage_mnemonic(const char *name)
{
    for (unsigned i = 1; i < MNEMONICS; i++) {
        if (strcasecmp(ZydisMnemonicGetString((ZydisMnemonic)i), name) == 0)
            return (uint16_t)i;
    }
    return 0;
}
