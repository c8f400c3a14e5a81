/* Control register writes with all their consequences; shared by MOV CRn, LMSW and CLTS. */
#ifndef VD_ENGINE_BT_OPS_CONTROL_H
#define VD_ENGINE_BT_OPS_CONTROL_H

#include "cpu/cpu.h"

/*
 * Each writes the register as MOV CRn does at CPL 0 (SDM vol. 3, 2.5 and 4.1.2): 0, or -1 with
 * #GP(0) recorded and nothing changed. They flush translations and mark the CPU dirty as needed.
 */
int control_write_cr0(struct x86_cpu *cpu, uint64_t value);
int control_write_cr3(struct x86_cpu *cpu, uint64_t value);
int control_write_cr4(struct x86_cpu *cpu, uint64_t value);
/* WRMSR IA32_EFER. */
int control_write_efer(struct x86_cpu *cpu, uint64_t value);

#endif
