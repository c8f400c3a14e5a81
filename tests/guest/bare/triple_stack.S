/* MODES 32 64. EXIT 3. The stack of the handlers is gone: #PF, #DF, shutdown. */
#include "common.S"

test_main:
#if MODE == 32
    movw $SMALL_STACK, %ax
    movw %ax, %ss
    movl $0x2000, %esp
#else
    movabsq $0x4000000000, %rsp
#endif
    ud2
    FAILURE
