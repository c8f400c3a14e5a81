/*
 * Delivery of interrupts and exceptions through the IVT or the IDT (SDM vol. 3 ch. 6; vol. 2, INT
 * n), and the instructions that raise them. Nothing is written before all checks are done.
 */
#include "engine/bt/transfer/descriptor.h"
#include "engine/bt/transfer/event.h"
#include "engine/bt/transfer/frame.h"
#include "engine/bt/transfer/task.h"
#include "engine/bt/transfer/transfer.h"

enum { ERROR_EXT = 1, ERROR_IDT = 2 };

/* What delivery clears in RFLAGS besides IF. */
enum { FLAGS_CLEARED = X86_TF | X86_NT | X86_RF | X86_VM };

/* Errors in gates name the IDT entry. */
static int fault_gate(struct x86_cpu *cpu, enum x86_vector vector, const struct event *event)
{
    return x86_raise_error(cpu, vector, event->vector * 8u + ERROR_IDT);
}

static void enter_handler(struct x86_cpu *cpu, bool clear_if)
{
    uint32_t before = cpu->sflags;

    cpu->sflags &= ~(uint32_t)FLAGS_CLEARED;
    if ((before ^ cpu->sflags) & (X86_TF | X86_VM))
        cpu->dirty |= X86_DIRTY_MODE;
    if (clear_if)
        cpu->iflag = 0;
    cpu->shadow = 0;
}

/* --- through the interrupt vector table of the 8086 (real mode, and CR4.VME redirection) --- */

static int deliver_real(struct x86_cpu *cpu, const struct event *event)
{
    const uint64_t items[] = {event->rflags, cpu->seg[X86_CS].selector, event->return_rip};
    struct frame_stack stack = frame_current(cpu);
    uint32_t offset = event->vector * 4u;
    uint64_t target;

    if (offset + 3 > cpu->idtr.limit)
        return x86_raise(cpu, X86_GP);
    if (system_read(cpu, cpu->idtr.base + offset, 4, &target) < 0)
        return -1;
    if (code_check_rip_real(cpu, target & 0xffff) < 0 || frame_push(cpu, &stack, items, 3, 2) < 0)
        return -1;
    frame_commit(cpu, &stack);
    segment_fill_real(&cpu->seg[X86_CS], (uint16_t)(target >> 16));
    cpu->rip = target & 0xffff;
    cpu->iflag = 0;
    cpu->shadow = 0;
    cpu->sflags &= ~(uint32_t)(X86_TF | X86_AC_FLAG | X86_RF);
    return 0;
}

/* Method 5 and 6 of SDM vol. 3, table 21-2: the 8086 program handles its own INT n. */
static int deliver_redirected(struct x86_cpu *cpu, const struct event *event)
{
    bool iopl3 = (cpu->sflags & X86_IOPL) == X86_IOPL;
    struct frame_stack stack = frame_current(cpu);
    uint32_t flags = event->rflags;
    uint64_t items[3], target;

    if (!iopl3) {
        flags = (flags | X86_IOPL) & ~(uint32_t)X86_IF;
        flags |= flags & X86_VIF ? X86_IF : 0;
    }
    items[0] = flags;
    items[1] = cpu->seg[X86_CS].selector;
    items[2] = event->return_rip;
    /* The table is at linear address 0 of the task, and user memory as everything else there. */
    target = 0;
    if (memory_read(cpu, event->vector * 4u, &target, 4, MMU_USER) < 0)
        return -1;
    if (frame_push(cpu, &stack, items, 3, 2) < 0)
        return -1;
    frame_commit(cpu, &stack);
    segment_fill_vm86(&cpu->seg[X86_CS], (uint16_t)(target >> 16));
    cpu->rip = target & 0xffff;
    if (iopl3)
        cpu->iflag = 0;
    else
        cpu->sflags &= ~(uint32_t)X86_VIF;
    cpu->sflags &= ~(uint32_t)(X86_TF | X86_RF); /* NT stays, as in real mode */
    cpu->shadow = 0;
    return 0;
}

/* --- protected mode --- */

/* The code segment of an interrupt or trap gate; cpl is the handler's level. */
static int read_handler_code(struct x86_cpu *cpu, uint16_t selector, struct descriptor *code,
                             unsigned *cpl)
{
    unsigned dpl;

    if (selector_null(selector))
        return x86_raise_error(cpu, X86_GP, 0);
    if (descriptor_read(cpu, selector, X86_GP, code) < 0)
        return -1;
    dpl = descriptor_dpl(code);
    if (!descriptor_is_code(code) || dpl > cpu->cpl)
        return x86_raise_error(cpu, X86_GP, selector_error(selector));
    if (!descriptor_present(code))
        return x86_raise_error(cpu, X86_NP, selector_error(selector));
    *cpl = descriptor_is_conforming(code) ? cpu->cpl : dpl;
    return 0;
}

static int deliver_task_gate(struct x86_cpu *cpu, const struct event *event, uint64_t gate)
{
    struct task_switch request = {
        .reason = TASK_EVENT,
        .has_error = event->has_error,
        .error = event->error,
        .rflags = event->rflags,
        .return_rip = event->return_rip,
    };
    struct descriptor tss;

    if (task_read_tss(cpu, (uint16_t)(gate >> 16), TASK_EVENT, &tss) < 0)
        return -1;
    return task_switch(cpu, &tss, &request);
}

/* Out of virtual-8086 mode the data segments are saved too and become null. */
static unsigned push_vm86_segments(const struct x86_cpu *cpu, uint64_t *items)
{
    static const uint8_t order[] = {X86_GS, X86_FS, X86_DS, X86_ES};

    for (unsigned i = 0; i < sizeof(order); i++)
        items[i] = cpu->seg[order[i]].selector;
    return sizeof(order);
}

static void clear_vm86_segments(struct x86_cpu *cpu)
{
    static const uint8_t data[] = {X86_ES, X86_DS, X86_FS, X86_GS};

    for (unsigned i = 0; i < sizeof(data); i++)
        segment_fill_null(&cpu->seg[data[i]], 0);
}

/* Interrupt and trap gates of 16 and 32 bits outside long mode. */
static int deliver_legacy_gate(struct x86_cpu *cpu, const struct event *event, uint64_t gate,
                               unsigned type)
{
    unsigned size = type & TYPE_TSS_32 ? 4 : 2, cpl, count = 0;
    uint64_t offset = (gate & 0xffff) | (size == 4 ? (gate >> 48) << 16 : 0);
    uint16_t selector = (uint16_t)(gate >> 16), ss_selector;
    bool from_vm86 = x86_vm86(cpu);
    uint64_t items[10], sp;
    struct frame_stack stack;
    struct x86_segment ss;
    struct descriptor code;
    bool inner;

    if (read_handler_code(cpu, selector, &code, &cpl) < 0)
        return -1;
    if (from_vm86 && cpl != 0)
        return x86_raise_error(cpu, X86_GP, selector_error(selector));
    inner = cpl < cpu->cpl;
    if (inner) {
        if (tss_read_stack(cpu, cpl, &ss_selector, &sp) < 0 ||
            tss_fill_ss(cpu, ss_selector, cpl, &ss) < 0)
            return -1;
        stack = frame_inner(&ss, sp, cpl, false);
        if (from_vm86)
            count = push_vm86_segments(cpu, items);
        items[count++] = cpu->seg[X86_SS].selector;
        items[count++] = cpu->gpr[X86_RSP];
    } else {
        stack = frame_current(cpu);
    }
    items[count++] = event->rflags;
    items[count++] = cpu->seg[X86_CS].selector;
    items[count++] = event->return_rip;
    if (event->has_error)
        items[count++] = event->error;
    if (code_check_rip(cpu, &code, offset) < 0 || descriptor_set_accessed(cpu, &code) < 0 ||
        frame_push(cpu, &stack, items, count, size) < 0)
        return -1;

    if (inner)
        cpu->seg[X86_SS] = ss;
    if (from_vm86)
        clear_vm86_segments(cpu);
    frame_commit(cpu, &stack);
    enter_handler(cpu, !(type & 1));
    segment_fill_code(cpu, &code, cpl);
    cpu->rip = offset;
    return 0;
}

static int deliver_protected(struct x86_cpu *cpu, const struct event *event)
{
    uint32_t at = event->vector * 8u;
    bool software = event->kind == EVENT_SOFTWARE;
    struct descriptor gate = {0};
    unsigned type;

    if (at + 7 > cpu->idtr.limit)
        return fault_gate(cpu, X86_GP, event);
    if (system_read(cpu, cpu->idtr.base + at, 8, &gate.low) < 0)
        return -1;
    type = descriptor_type(&gate);
    if (!descriptor_is_system(&gate) ||
        (type != TYPE_TASK_GATE && (type & ~(unsigned)TYPE_TSS_32) != TYPE_INT_GATE16 &&
         (type & ~(unsigned)TYPE_TSS_32) != TYPE_TRAP_GATE16))
        return fault_gate(cpu, X86_GP, event);
    if (software && descriptor_dpl(&gate) < cpu->cpl)
        return fault_gate(cpu, X86_GP, event);
    if (!descriptor_present(&gate))
        return fault_gate(cpu, X86_NP, event);
    if (type == TYPE_TASK_GATE)
        return deliver_task_gate(cpu, event, gate.low);
    return deliver_legacy_gate(cpu, event, gate.low, type);
}

/* INT n in virtual-8086 mode: IOPL, and where the task wants to handle it. */
static int deliver_vm86_int(struct x86_cpu *cpu, const struct event *event)
{
    if (cpu->cr4 & X86_CR4_VME) {
        int redirected = tss_redirects_int(cpu, event->vector);

        if (redirected < 0)
            return -1;
        if (redirected)
            return deliver_redirected(cpu, event);
    }
    if ((cpu->sflags & X86_IOPL) != X86_IOPL)
        return x86_raise_error(cpu, X86_GP, 0);
    return deliver_protected(cpu, event);
}

/* --- long mode --- */

static int deliver_long(struct x86_cpu *cpu, const struct event *event)
{
    uint32_t at = event->vector * 16u;
    uint64_t offset, rsp = cpu->gpr[X86_RSP], items[6];
    struct descriptor gate = {0}, code;
    unsigned cpl, ist, type, count = 5;
    struct frame_stack stack;
    struct x86_segment ss;

    if (at + 15 > cpu->idtr.limit)
        return fault_gate(cpu, X86_GP, event);
    if (system_read(cpu, cpu->idtr.base + at, 8, &gate.low) < 0 ||
        system_read(cpu, cpu->idtr.base + at + 8, 8, &gate.high) < 0)
        return -1;
    type = descriptor_type(&gate);
    if (!descriptor_is_system(&gate) || (type & ~1u) != TYPE_INT_GATE32)
        return fault_gate(cpu, X86_GP, event);
    if (event->kind == EVENT_SOFTWARE && descriptor_dpl(&gate) < cpu->cpl)
        return fault_gate(cpu, X86_GP, event);
    if (!descriptor_present(&gate))
        return fault_gate(cpu, X86_NP, event);
    if (read_handler_code(cpu, (uint16_t)(gate.low >> 16), &code, &cpl) < 0)
        return -1;
    if (!descriptor_is_code64(&code))
        return x86_raise_error(cpu, X86_GP, selector_error(code.selector));
    ist = (unsigned)(gate.low >> 32) & 7;
    if ((ist || cpl < cpu->cpl) && tss_read_rsp(cpu, cpl, ist, &rsp) < 0)
        return -1;

    segment_fill_null(&ss, (uint16_t)cpl);
    ss.attr |= cpl << X86_AR_DPL_SHIFT;
    stack = frame_inner(&ss, rsp & ~15ull, cpl, true);
    items[0] = cpu->seg[X86_SS].selector;
    items[1] = cpu->gpr[X86_RSP];
    items[2] = event->rflags;
    items[3] = cpu->seg[X86_CS].selector;
    items[4] = event->return_rip;
    if (event->has_error)
        items[count++] = event->error;
    offset = (gate.low & 0xffff) | (gate.low >> 48) << 16 | gate.high << 32;
    if (code_check_rip(cpu, &code, offset) < 0 || descriptor_set_accessed(cpu, &code) < 0 ||
        frame_push(cpu, &stack, items, count, 8) < 0)
        return -1;

    if (cpl < cpu->cpl)
        cpu->seg[X86_SS] = ss;
    cpu->gpr[X86_RSP] = stack.sp;
    enter_handler(cpu, !(type & 1));
    segment_fill_code(cpu, &code, cpl);
    cpu->rip = offset;
    return 0;
}

/* --- entry points --- */

/* Faults that name a selector or the stack tell that the program did not cause them. */
static void mark_external(struct x86_fault *fault, const struct event *event)
{
    if (event->kind == EVENT_SOFTWARE || fault->delivered)
        return;
    if (fault->has_error && fault->vector >= X86_TS && fault->vector <= X86_GP)
        fault->error |= ERROR_EXT;
}

int event_enter(struct x86_cpu *cpu, const struct event *event)
{
    uint32_t before = mode_fingerprint(cpu);
    int result;

    if (event->kind == EVENT_NMI)
        cpu->nmi_blocked = 1;
    if (x86_long_mode(cpu))
        result = deliver_long(cpu, event);
    else if (x86_real_mode(cpu))
        result = deliver_real(cpu, event);
    else if (event->int_n && x86_vm86(cpu))
        result = deliver_vm86_int(cpu, event);
    else
        result = deliver_protected(cpu, event);
    if (result < 0)
        mark_external(&cpu->fault, event);
    mode_note_change(cpu, before);
    return result;
}

int event_deliver(struct x86_cpu *cpu, enum event_kind kind, uint8_t vector, bool has_error,
                  uint32_t error, uint64_t return_rip)
{
    struct event event = {
        .kind = kind,
        .vector = vector,
        .has_error = has_error,
        .error = error,
        .rflags = (uint32_t)x86_get_rflags(cpu),
        .return_rip = return_rip,
    };

    return event_enter(cpu, &event);
}

static enum op_result software_interrupt(struct x86_cpu *cpu, const struct insn *insn,
                                         enum event_kind kind, uint8_t vector, bool int_n)
{
    uint64_t rip = cpu->rip + insn->len;
    struct event event = {
        .kind = kind,
        .vector = vector,
        .int_n = int_n,
        .rflags = (uint32_t)x86_get_rflags(cpu) & ~(uint32_t)X86_RF,
        .return_rip = x86_code64(cpu) ? rip : (uint32_t)rip,
    };

    return event_enter(cpu, &event) < 0 ? OP_FAULT : OP_JUMP;
}

enum op_result op_int_n(struct x86_cpu *cpu, const struct insn *insn)
{
    return software_interrupt(cpu, insn, EVENT_SOFTWARE, insn->bytes[insn->len - 1], true);
}

enum op_result op_int3(struct x86_cpu *cpu, const struct insn *insn)
{
    return software_interrupt(cpu, insn, EVENT_SOFTWARE, X86_BP, false);
}

enum op_result op_int1(struct x86_cpu *cpu, const struct insn *insn)
{
    enum op_result result = software_interrupt(cpu, insn, EVENT_PRIV_SOFTWARE, X86_DB, false);

    if (result != OP_FAULT)
        debug_report(cpu, 0);
    return result;
}

enum op_result op_into(struct x86_cpu *cpu, const struct insn *insn)
{
    if (x86_code64(cpu)) {
        x86_raise(cpu, X86_UD);
        return OP_FAULT;
    }
    if (!(cpu->aflags & X86_OF_FLAG))
        return OP_NEXT;
    return software_interrupt(cpu, insn, EVENT_SOFTWARE, X86_OF, false);
}
