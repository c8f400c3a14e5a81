/* The test's memory in the child that runs tests natively. */
#ifndef VD_TESTS_INSN_NATIVE_MEMORY_H
#define VD_TESTS_INSN_NATIVE_MEMORY_H

#include "insn_case.h"

struct native_memory {
    uint8_t *alias;            /* always writable: code, data, stack */
    uint8_t rights[ALL_PAGES]; /* enum page_rights, as they are now */
};

/* Maps everything; ends the process if it cannot. */
void native_memory_map(struct native_memory *m);
/* Gives the pages the rights that the test wants. */
void native_memory_protect(struct native_memory *m, const struct insn_case *c);

#endif
