/* EXIT 3. An exception without an IDT is a triple fault, in every mode. */
#include "common.S"

test_main:
    movl $0, SCRATCH
    movl $0, SCRATCH + 4
    movl $0, SCRATCH + 8
#if MODE == 64
    lidt SCRATCH
#else
    lidtl SCRATCH
#endif
    ud2
    FAILURE
