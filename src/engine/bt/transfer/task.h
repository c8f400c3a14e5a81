/* Hardware task switching (SDM vol. 3 ch. 7). Private to engine/bt/transfer/. */
#ifndef VD_ENGINE_BT_TASK_H
#define VD_ENGINE_BT_TASK_H

#include "engine/bt/transfer/descriptor.h"

enum task_reason {
    TASK_JMP,
    TASK_CALL,
    TASK_IRET,
    TASK_EVENT, /* interrupt or exception through a task gate */
};

struct task_switch {
    enum task_reason reason;
    bool has_error; /* push error on the new task's stack */
    uint32_t error;
    uint32_t rflags;     /* saved in the old TSS */
    uint64_t return_rip; /* saved in the old TSS */
};

/*
 * Reads the TSS descriptor of selector and checks it: in the GDT and available (TASK_IRET: busy),
 * else #GP(selector) (TASK_IRET: #TS); present, else #NP(selector).
 */
int task_read_tss(struct x86_cpu *cpu, uint16_t selector, enum task_reason reason,
                  struct descriptor *tss);
/*
 * Switches to the task of a checked descriptor. 0: the new task's state is loaded, rip included.
 * -1: cpu->fault; before the commit point nothing changed, behind it the fault belongs to the new
 * task (also the #DB of a TSS with T set).
 */
int task_switch(struct x86_cpu *cpu, const struct descriptor *tss,
                const struct task_switch *request);

#endif
