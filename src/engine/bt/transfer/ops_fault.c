/* Delivery of cpu->fault with the double-fault rules (SDM vol. 3, 6.15, tables 6-4 and 6-5). */
#include "engine/bt/transfer/event.h"

enum fault_class { CLASS_BENIGN, CLASS_CONTRIBUTORY, CLASS_PAGE, CLASS_DOUBLE };

enum { DR6_B0_B3 = 0xf, DR7_GD = 1 << 13 };

static enum fault_class classify(const struct x86_fault *fault)
{
    switch (fault->vector) {
    case X86_DE:
    case X86_TS:
    case X86_NP:
    case X86_SS_FAULT:
    case X86_GP:
        return CLASS_CONTRIBUTORY;
    case X86_PF:
        return CLASS_PAGE;
    case X86_DF:
        return CLASS_DOUBLE;
    default:
        return CLASS_BENIGN;
    }
}

void debug_report(struct x86_cpu *cpu, uint64_t dr6)
{
    cpu->dr[6] = (cpu->dr[6] & ~(uint64_t)DR6_B0_B3) | dr6 | cpu->mmu->held_hits;
    cpu->mmu->held_hits = 0;
    cpu->dr[7] &= ~(uint64_t)DR7_GD;
}

int event_check_virtual(struct x86_cpu *cpu)
{
    const uint32_t both = X86_VIF | X86_VIP;
    uint64_t enable = x86_vm86(cpu) ? X86_CR4_VME : X86_CR4_PVI;

    if ((cpu->sflags & both) != both || (cpu->sflags & X86_IOPL) == X86_IOPL || cpu->cpl != 3 ||
        !(cpu->cr4 & enable))
        return 0;
    x86_raise_error(cpu, X86_GP, 0);
    cpu->fault.delivered = true;
    return -1;
}

/* Registers that describe the fault change as soon as it is recognised. */
static void commit_registers(struct x86_cpu *cpu, const struct x86_fault *fault)
{
    if (fault->vector == X86_PF)
        cpu->cr2 = fault->cr2;
    if (fault->vector == X86_DB)
        debug_report(cpu, fault->dr6);
}

/*
 * RF in the pushed image keeps an instruction breakpoint from being hit again on return: set for
 * faults, except the one that reports such a breakpoint. For traps it stays as it is, which is set
 * between the iterations of a string instruction (SDM vol. 3, 17.3.1.1).
 */
static bool sets_rf(const struct x86_fault *fault)
{
    if (fault->trap || fault->vector == X86_DF || fault->vector == X86_MC)
        return false;
    return fault->vector != X86_DB || !(fault->dr6 & DR6_B0_B3);
}

static int deliver_once(struct x86_cpu *cpu, const struct x86_fault *fault)
{
    uint32_t rflags = (uint32_t)x86_get_rflags(cpu);
    bool software = fault->trap && (fault->vector == X86_BP || fault->vector == X86_OF);
    struct event event = {
        .kind = software ? EVENT_SOFTWARE : EVENT_EXCEPTION,
        .vector = fault->vector,
        .has_error = fault->has_error,
        .error = fault->error,
        .rflags = rflags | (sets_rf(fault) ? (uint32_t)X86_RF : 0),
        .return_rip = cpu->rip,
    };

    commit_registers(cpu, fault);
    return event_enter(cpu, &event);
}

int fault_deliver(struct x86_cpu *cpu)
{
    struct x86_fault first = cpu->fault;

    while (deliver_once(cpu, &first) < 0) {
        enum fault_class before = cpu->fault.delivered ? CLASS_BENIGN : classify(&first);
        enum fault_class after = classify(&cpu->fault);

        if (before == CLASS_DOUBLE && after != CLASS_BENIGN) {
            if (after == CLASS_PAGE)
                cpu->cr2 = cpu->fault.cr2;
            cpu->shutdown = 1;
            return -1;
        }
        if ((before == CLASS_CONTRIBUTORY && after == CLASS_CONTRIBUTORY) ||
            (before == CLASS_PAGE && after != CLASS_BENIGN)) {
            if (after == CLASS_PAGE)
                cpu->cr2 = cpu->fault.cr2;
            cpu->fault = (struct x86_fault){.vector = X86_DF, .has_error = true};
        }
        /*
         * A handler at CPL 3 on a stack that is misaligned itself: processors never come out of
         * this. The instruction faults again when it is run again, but interrupts get through.
         */
        if (first.vector == X86_AC && cpu->fault.vector == X86_AC)
            return -1;
        first = cpu->fault;
    }
    return 0;
}
