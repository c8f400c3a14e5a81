/* Where things are in the memory of the matrix tests; shared by C and assembly. */
#ifndef VD_MATRIX_LAYOUT_H
#define VD_MATRIX_LAYOUT_H

/* struct visit_state, as indices of words. */
#define IN_IP    0
#define IN_CS    1
#define IN_FLAGS 2
#define IN_SP    3
#define IN_SS    4
#define IN_DS    5
#define IN_ES    6
#define IN_FS    7
#define IN_GS    8
#define IN_AX    9
#define IN_CX    10
#define IN_DX    11
#define IN_BX    12
#define IN_BP    13
#define IN_SI    14
#define IN_DI    15
#define IN_R11   16

#define LANDINGS 16

#define VISIT_IN    0x7000
#define VISIT_OUT   0x7100
#define VISIT_SAVED 0x7200

#define LOW_CODE  0x8000 /* one page below 64 KiB, for targets with 16-bit offsets */
#define GDT_AT    0x20000
#define LDT_AT    0x22000
#define IDT_AT    0x24000 /* two pages */
#define TSS_AT    0x26000 /* three pages: the I/O bitmap is behind it */
#define TASKS_AT  0x29000 /* more task-state segments */
#define STACKS_AT 0x30000 /* level n: up to STACKS_AT + 0x1000 * (n + 1) */
#define DATA_AT   0x38000
#define HOLE_AT   0x3c000 /* a page for tests of absent and protected pages */
#define CODE_AT   0x50000 /* probes; also the base of 16-bit code segments */

#endif
