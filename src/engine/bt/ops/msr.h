/*
 * Model-specific registers (SDM vol. 4, table 2-2 and the tables of the P6 and Atom families).
 * Those that are not here do not exist: RDMSR and WRMSR raise #GP(0).
 */
#ifndef VD_ENGINE_BT_OPS_MSR_H
#define VD_ENGINE_BT_OPS_MSR_H

#include <stdint.h>

#include "cpu/cpu.h"

/* What RDMSR and WRMSR do at CPL 0: 0, or -1 with #GP(0) recorded and nothing changed. */
int msr_read(struct x86_cpu *cpu, uint32_t index, uint64_t *value);
int msr_write(struct x86_cpu *cpu, uint32_t index, uint64_t value);

#endif
