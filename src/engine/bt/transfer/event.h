/* Delivery of one event, with what the public event_deliver() cannot say. Private to this folder.
 */
#ifndef VD_ENGINE_BT_EVENT_H
#define VD_ENGINE_BT_EVENT_H

#include "engine/bt/ops.h"

struct event {
    enum event_kind kind;
    uint8_t vector;
    bool int_n; /* the instruction INT n: sensitive to IOPL in virtual-8086 mode */
    bool has_error;
    uint32_t error;
    uint32_t rflags; /* the image to push (RF decided) */
    uint64_t return_rip;
};

/* As event_deliver(): 0, or -1 with cpu->fault. */
int event_enter(struct x86_cpu *cpu, const struct event *event);

/* #DB is delivered: DR6 gets its bits and those that MOV SS held back, DR7.GD goes. */
void debug_report(struct x86_cpu *cpu, uint64_t dr6);

/*
 * EFLAGS was loaded with VIF and VIP both set where they have a meaning: 0, or -1 with the #GP(0)
 * of the next instruction, by which the monitor delivers the interrupt it announced (SDM vol. 3,
 * 20.3.2). For what loads all of EFLAGS: IRET and task switches.
 */
int event_check_virtual(struct x86_cpu *cpu);

#endif
