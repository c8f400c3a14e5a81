/*
 * Far RET and IRET (SDM vol. 2): real and virtual-8086 mode, the same and an outer privilege level,
 * back to virtual-8086 mode, to the previous task, and IRETQ.
 */
#include "engine/bt/transfer/descriptor.h"
#include "engine/bt/transfer/event.h"
#include "engine/bt/transfer/frame.h"
#include "engine/bt/transfer/task.h"
#include "engine/bt/transfer/transfer.h"

enum {
    OPCODE_RETF_IMM = 0xca,
    IRET_FLAGS = X86_ARITH_FLAGS | X86_DF_FLAG | X86_TF | X86_NT | X86_RF | X86_AC_FLAG | X86_ID,
    RFLAGS_KNOWN = IRET_FLAGS | X86_IF | X86_IOPL | X86_VM | X86_VIF | X86_VIP,
};

struct far_return {
    struct descriptor cs, ss;
    uint64_t rip, rsp;
    uint16_t ss_selector;
    unsigned cpl; /* after the return */
};

static int fault_gp(struct x86_cpu *cpu, uint16_t selector)
{
    return x86_raise_error(cpu, X86_GP, selector_error(selector));
}

/* Reads and checks the code segment returned to; fills ret->cs and ret->cpl. */
static int check_return_code(struct x86_cpu *cpu, uint16_t selector, struct far_return *ret)
{
    struct descriptor *cs = &ret->cs;
    unsigned rpl = selector & 3;

    if (selector_null(selector))
        return fault_gp(cpu, 0);
    if (descriptor_read(cpu, selector, X86_GP, cs) < 0)
        return -1;
    if (!descriptor_is_code(cs) || rpl < cpu->cpl ||
        (x86_long_mode(cpu) && descriptor_is_l_and_d(cs)) ||
        (descriptor_is_conforming(cs) ? descriptor_dpl(cs) > rpl : descriptor_dpl(cs) != rpl))
        return fault_gp(cpu, selector);
    if (!descriptor_present(cs))
        return x86_raise_error(cpu, X86_NP, selector_error(selector));
    ret->cpl = rpl;
    return 0;
}

static bool returns_to_64(const struct x86_cpu *cpu, const struct far_return *ret)
{
    return x86_long_mode(cpu) && descriptor_is_code64(&ret->cs);
}

/* Reads and checks the stack segment that goes with it. */
static int check_return_stack(struct x86_cpu *cpu, struct far_return *ret)
{
    uint16_t selector = ret->ss_selector;

    if (selector_null(selector)) {
        if (!returns_to_64(cpu, ret) || ret->cpl == 3 || (selector & 3) != ret->cpl)
            return fault_gp(cpu, 0);
        return 0;
    }
    if (descriptor_read(cpu, selector, X86_GP, &ret->ss) < 0)
        return -1;
    if ((selector & 3u) != ret->cpl || !descriptor_is_writable_data(&ret->ss) ||
        descriptor_dpl(&ret->ss) != ret->cpl)
        return fault_gp(cpu, selector);
    if (!descriptor_present(&ret->ss))
        return x86_raise_error(cpu, X86_SS_FAULT, selector_error(selector));
    return descriptor_set_accessed(cpu, &ret->ss);
}

/* SS:RSP of a checked return; to an outer level the inner data segments go away. */
static void commit_return_stack(struct x86_cpu *cpu, const struct far_return *ret, uint64_t rsp)
{
    struct x86_segment *ss = &cpu->seg[X86_SS];

    if (selector_null(ret->ss_selector)) {
        segment_fill_null(ss, ret->ss_selector);
        ss->attr |= ret->cpl << X86_AR_DPL_SHIFT;
    } else {
        segment_fill(ss, &ret->ss, ret->ss_selector);
    }
    /* A 16-bit stack receives SP only: the upper bits of the inner ESP show through. */
    if (returns_to_64(cpu, ret))
        cpu->gpr[X86_RSP] = rsp;
    else if (ss->attr & X86_AR_DB)
        cpu->gpr[X86_RSP] = (uint32_t)rsp;
    else
        cpu->gpr[X86_RSP] = (cpu->gpr[X86_RSP] & ~0xffffull) | (rsp & 0xffff);
    if (ret->cpl > cpu->cpl)
        segments_hide_inner(cpu, ret->cpl);
}

/* --- RETF --- */

static int retf_real(struct x86_cpu *cpu, unsigned size, unsigned release)
{
    struct frame_stack stack = frame_current(cpu);
    uint64_t items[2];

    if (frame_pop(cpu, &stack, items, 2, size) < 0 || code_check_rip_real(cpu, items[0]) < 0)
        return -1;
    segment_fill_8086(cpu, X86_CS, (uint16_t)items[1]);
    stack.sp = (stack.sp + release) & stack.mask;
    frame_commit(cpu, &stack);
    cpu->rip = items[0];
    return 0;
}

static int retf_protected(struct x86_cpu *cpu, unsigned size, unsigned release)
{
    struct frame_stack stack = frame_current(cpu);
    struct far_return ret;
    uint64_t items[2];

    if (frame_pop(cpu, &stack, items, 2, size) < 0)
        return -1;
    if (check_return_code(cpu, (uint16_t)items[1], &ret) < 0)
        return -1;
    ret.rip = items[0];
    stack.sp = (stack.sp + release) & stack.mask;
    if (ret.cpl == cpu->cpl) {
        if (code_check_rip(cpu, &ret.cs, ret.rip) < 0 || descriptor_set_accessed(cpu, &ret.cs) < 0)
            return -1;
        frame_commit(cpu, &stack);
    } else {
        if (frame_pop(cpu, &stack, items, 2, size) < 0)
            return -1;
        ret.rsp = items[0];
        ret.ss_selector = (uint16_t)items[1];
        if (check_return_stack(cpu, &ret) < 0 || code_check_rip(cpu, &ret.cs, ret.rip) < 0 ||
            descriptor_set_accessed(cpu, &ret.cs) < 0)
            return -1;
        commit_return_stack(cpu, &ret, ret.rsp + release);
    }
    segment_fill_code(cpu, &ret.cs, ret.cpl);
    cpu->rip = ret.rip;
    return 0;
}

enum op_result op_ret_far(struct x86_cpu *cpu, const struct insn *insn)
{
    uint32_t before = mode_fingerprint(cpu);
    unsigned release = 0;
    int result;

    if (insn->opcode == OPCODE_RETF_IMM)
        release = (unsigned)bytes_load(insn->bytes + insn->len - 2, 2);
    if (x86_protected_mode(cpu))
        result = retf_protected(cpu, insn->opsize, release);
    else
        result = retf_real(cpu, insn->opsize, release);
    mode_note_change(cpu, before);
    return result < 0 ? OP_FAULT : OP_JUMP;
}

/* --- IRET --- */

/* Loads the flags in mask from image; VM changes only in iret_to_vm86. */
static void iret_set_flags(struct x86_cpu *cpu, uint64_t image, uint32_t mask, unsigned size)
{
    uint32_t old = (uint32_t)x86_get_rflags(cpu);

    if (size == 2)
        mask &= 0xffff;
    x86_set_rflags(cpu, (old & ~mask) | ((uint32_t)image & mask));
}

static int iret_real(struct x86_cpu *cpu, unsigned size)
{
    struct frame_stack stack = frame_current(cpu);
    uint64_t items[3];

    if (frame_pop(cpu, &stack, items, 3, size) < 0 || code_check_rip_real(cpu, items[0]) < 0)
        return -1;
    segment_fill_real(&cpu->seg[X86_CS], (uint16_t)items[1]);
    frame_commit(cpu, &stack);
    iret_set_flags(cpu, items[2], IRET_FLAGS | X86_IF | X86_IOPL, size);
    cpu->rip = items[0];
    return 0;
}

static int iret_vm86(struct x86_cpu *cpu, unsigned size)
{
    bool iopl3 = (cpu->sflags & X86_IOPL) == X86_IOPL;
    struct frame_stack stack = frame_current(cpu);
    uint32_t mask = IRET_FLAGS | X86_IF;
    uint64_t items[3];

    /* With IOPL < 3 only the 16-bit form is left, and only with the virtual-mode extensions. */
    if (!iopl3 && (!(cpu->cr4 & X86_CR4_VME) || size != 2))
        return fault_gp(cpu, 0);
    if (frame_pop(cpu, &stack, items, 3, size) < 0)
        return -1;
    if (!iopl3) {
        if ((items[2] & X86_TF) || ((items[2] & X86_IF) && (cpu->sflags & X86_VIP)))
            return fault_gp(cpu, 0);
        mask &= ~(uint32_t)X86_IF;
    }
    if (code_check_rip_real(cpu, items[0]) < 0)
        return -1;
    segment_fill_vm86(&cpu->seg[X86_CS], (uint16_t)items[1]);
    frame_commit(cpu, &stack);
    iret_set_flags(cpu, items[2], mask, size);
    if (!iopl3)
        cpu->sflags = items[2] & X86_IF ? cpu->sflags | X86_VIF : cpu->sflags & ~(uint32_t)X86_VIF;
    cpu->rip = items[0];
    return 0;
}

static int iret_task(struct x86_cpu *cpu, const struct insn *insn)
{
    struct task_switch request = {
        .reason = TASK_IRET,
        .rflags = (uint32_t)x86_get_rflags(cpu),
        .return_rip = (uint32_t)(cpu->rip + insn->len),
    };
    struct descriptor tss;
    uint64_t link;

    if (system_read(cpu, cpu->seg[X86_TR].base, 2, &link) < 0)
        return -1;
    if (task_read_tss(cpu, (uint16_t)link, TASK_IRET, &tss) < 0)
        return -1;
    return task_switch(cpu, &tss, &request);
}

/* CPL 0 returns to virtual-8086 mode: six more items, no descriptors. */
static int iret_to_vm86(struct x86_cpu *cpu, struct frame_stack *stack, const uint64_t *first)
{
    static const uint8_t order[] = {X86_ES, X86_DS, X86_FS, X86_GS};
    uint64_t items[6]; /* ESP SS ES DS FS GS */

    if (frame_pop(cpu, stack, items, 6, 4) < 0)
        return -1;
    if (first[0] > 0xffff)
        return fault_gp(cpu, 0);
    x86_set_rflags(cpu, first[2] & RFLAGS_KNOWN);
    segment_fill_vm86(&cpu->seg[X86_CS], (uint16_t)first[1]);
    segment_fill_vm86(&cpu->seg[X86_SS], (uint16_t)items[1]);
    for (unsigned i = 0; i < sizeof(order); i++)
        segment_fill_vm86(&cpu->seg[order[i]], (uint16_t)items[2 + i]);
    cpu->gpr[X86_RSP] = items[0];
    cpu->rip = first[0];
    cpu->cpl = 3;
    return 0;
}

static int iret_protected(struct x86_cpu *cpu, unsigned size)
{
    struct frame_stack stack = frame_current(cpu);
    unsigned iopl = (cpu->sflags & X86_IOPL) >> X86_IOPL_SHIFT;
    uint32_t mask = IRET_FLAGS;
    bool from64 = stack.flat64;
    struct far_return ret;
    uint64_t items[5];

    if (frame_pop(cpu, &stack, items, from64 ? 5 : 3, size) < 0)
        return -1;
    if (size == 4 && (items[2] & X86_VM) && cpu->cpl == 0 && !x86_long_mode(cpu))
        return iret_to_vm86(cpu, &stack, items);
    if (check_return_code(cpu, (uint16_t)items[1], &ret) < 0)
        return -1;
    ret.rip = items[0];
    if (from64 || ret.cpl > cpu->cpl) {
        if (!from64 && frame_pop(cpu, &stack, items + 3, 2, size) < 0)
            return -1;
        ret.rsp = items[3];
        ret.ss_selector = (uint16_t)items[4];
        if (check_return_stack(cpu, &ret) < 0)
            return -1;
    }
    if (code_check_rip(cpu, &ret.cs, ret.rip) < 0 || descriptor_set_accessed(cpu, &ret.cs) < 0)
        return -1;

    if (cpu->cpl <= iopl)
        mask |= X86_IF;
    if (cpu->cpl == 0)
        mask |= X86_IOPL | X86_VIF | X86_VIP;
    iret_set_flags(cpu, items[2], mask, size);
    if (from64 || ret.cpl > cpu->cpl)
        commit_return_stack(cpu, &ret, ret.rsp);
    else
        frame_commit(cpu, &stack);
    segment_fill_code(cpu, &ret.cs, ret.cpl);
    cpu->rip = ret.rip;
    return 0;
}

enum op_result op_iret(struct x86_cpu *cpu, const struct insn *insn)
{
    uint32_t before = mode_fingerprint(cpu);
    int result;

    cpu->nmi_blocked = 0; /* even if it faults (SDM vol. 3, 6.7.1) */
    if (x86_real_mode(cpu)) {
        result = iret_real(cpu, insn->opsize);
    } else if (x86_vm86(cpu)) {
        result = iret_vm86(cpu, insn->opsize);
    } else if (cpu->sflags & X86_NT) {
        /* A fault here may be the new task's: it has noted its mode change itself. */
        result = x86_long_mode(cpu) ? fault_gp(cpu, 0) : iret_task(cpu, insn);
    } else {
        result = iret_protected(cpu, insn->opsize);
    }
    if (result < 0)
        return OP_FAULT;
    mode_note_change(cpu, before);
    return event_check_virtual(cpu) < 0 ? OP_FAULT : OP_JUMP;
}
