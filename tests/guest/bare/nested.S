/* MODES 32 64. Faults during the delivery of faults: contributory pairs make #DF with error 0. */
#include "common.S"

#if MODE == 64
#define GATE_SIZE 16
#else
#define GATE_SIZE 8
#endif

test_main:
    /* The gate of #GP is absent: #NP while delivering a contributory exception. */
    andb $0x7f, IDT + 13 * GATE_SIZE + 5
    movw $0xfff8, %bx
    FAULT(8, 0, movw %bx, %es)
    orb $0x80, IDT + 13 * GATE_SIZE + 5
    FAULT(13, 0xfff8, movw %bx, %es)
    /* A benign exception with an absent gate: #NP(vector * 8 + IDT). */
    andb $0x7f, IDT + 6 * GATE_SIZE + 5
    FAULT(11, 6 * 8 + 2 + 1, ud2)
    orb $0x80, IDT + 6 * GATE_SIZE + 5
    /* A software interrupt through an absent gate: no EXT bit. */
    andb $0x7f, IDT + 3 * GATE_SIZE + 5
    FAULT(11, 3 * 8 + 2, int3)
    orb $0x80, IDT + 3 * GATE_SIZE + 5
    /* Beyond the IDT's limit: #GP(vector * 8 + IDT). */
    FAULT(13, 0x80 * 8 + 2, int $0x80)
    /* A gate that leads to a data segment. */
    movw $DATA32, IDT + 6 * GATE_SIZE + 2
    FAULT(13, DATA32 + 1, ud2)
    PASS
