/* Random tests: a seed becomes an instruction sequence and the state it starts in. */
#ifndef VD_TESTS_INSN_GENERATE_H
#define VD_TESTS_INSN_GENERATE_H

#include "forms.h"
#include "insn_case.h"

struct generator {
    const struct form_table *forms;
    const struct cpuid_model *model;
    bool no_faults;       /* keep addresses valid where that is easy */
    bool exact_flags;     /* the guest keeps dead flags, too */
    bool plain_memory;    /* the guest has RAM everywhere */
    bool reads_undefined; /* instructions may read flags that are undefined by the manuals */
    uint16_t only;        /* ZydisMnemonic that every sequence contains, 0: none */
};

/* A native_generate_fn; ctx is struct generator. */
void generate_case(void *ctx, struct insn_case *c, uint64_t seed);

#endif
