/* Values that find mistakes, shared by initial memory and registers. */
#ifndef VD_TESTS_INSN_VALUES_H
#define VD_TESTS_INSN_VALUES_H

#include "random.h"

/* Eight bytes: integers of all sizes, floating-point numbers of all kinds. */
uint64_t value_interesting(struct random *r);

#endif
