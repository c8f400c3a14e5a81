/* Far JMP and CALL: code segments, call gates, task gates and task-state segments (SDM vol. 2). */
#include "engine/bt/transfer/descriptor.h"
#include "engine/bt/transfer/frame.h"
#include "engine/bt/transfer/task.h"
#include "engine/bt/transfer/transfer.h"

enum { OPCODE_CALL_DIRECT = 0x9a, OPCODE_JMP_DIRECT = 0xea };

struct far_pointer {
    uint16_t selector;
    uint64_t offset;
};

struct call_gate {
    uint16_t selector; /* of the target code segment */
    uint64_t offset;
    unsigned item_size;  /* 2, 4 or 8: what is pushed through it */
    unsigned parameters; /* items to copy to an inner stack */
};

static int far_operand(struct x86_cpu *cpu, const struct insn *insn, struct far_pointer *target)
{
    uint8_t memory[10];
    const uint8_t *pointer = insn->bytes + insn->len - insn->opsize - 2;

    *target = (struct far_pointer){0};
    if (insn->opcode != OPCODE_CALL_DIRECT && insn->opcode != OPCODE_JMP_DIRECT) {
        if (!insn->mem.present)
            return x86_raise(cpu, X86_UD);
        if (seg_read_parts(cpu, (enum x86_segreg)insn->mem.seg, op_offset(cpu, insn), memory,
                           insn->opsize + 2u, far_pointer_alignment(insn->opsize)) < 0)
            return -1;
        pointer = memory;
    }
    target->offset = bytes_load(pointer, insn->opsize);
    target->selector = (uint16_t)bytes_load(pointer + insn->opsize, 2);
    return 0;
}

static uint64_t next_rip(const struct x86_cpu *cpu, const struct insn *insn)
{
    uint64_t rip = cpu->rip + insn->len;

    return x86_code64(cpu) ? rip : (uint32_t)rip;
}

/* A code segment named directly: the transfer cannot change the privilege level. */
static int check_direct_code(struct x86_cpu *cpu, const struct descriptor *d)
{
    uint32_t error = selector_error(d->selector);
    unsigned dpl = descriptor_dpl(d);

    if (x86_long_mode(cpu) && descriptor_is_l_and_d(d))
        return x86_raise_error(cpu, X86_GP, error);
    if (descriptor_is_conforming(d)) {
        if (dpl > cpu->cpl)
            return x86_raise_error(cpu, X86_GP, error);
    } else if ((d->selector & 3u) > cpu->cpl || dpl != cpu->cpl) {
        return x86_raise_error(cpu, X86_GP, error);
    }
    if (!descriptor_present(d))
        return x86_raise_error(cpu, X86_NP, error);
    return 0;
}

/* What JMP and CALL check of a gate or TSS descriptor before they use it. */
static int check_system_access(struct x86_cpu *cpu, const struct descriptor *d)
{
    if (descriptor_dpl(d) < cpu->cpl || descriptor_dpl(d) < (d->selector & 3u))
        return x86_raise_error(cpu, X86_GP, selector_error(d->selector));
    return 0;
}

static int read_call_gate(struct x86_cpu *cpu, struct descriptor *d, struct call_gate *gate)
{
    if (check_system_access(cpu, d) < 0)
        return -1;
    if (!descriptor_present(d))
        return x86_raise_error(cpu, X86_NP, selector_error(d->selector));
    if (descriptor_read_high(cpu, X86_GP, d) < 0)
        return -1;
    gate->selector = (uint16_t)(d->low >> 16);
    gate->offset = (d->low & 0xffff);
    gate->item_size = 2;
    gate->parameters = (unsigned)(d->low >> 32) & 31;
    if (descriptor_type(d) == TYPE_CALL_GATE32) {
        gate->offset |= (d->low >> 48) << 16;
        gate->item_size = 4;
    }
    if (x86_long_mode(cpu)) {
        gate->offset |= (d->high & 0xffffffff) << 32;
        gate->item_size = 8;
    }
    return 0;
}

/* The code segment behind a call gate; to_inner: CALL may lower the privilege level, JMP not. */
static int read_gate_code(struct x86_cpu *cpu, const struct call_gate *gate, bool to_inner,
                          struct descriptor *code)
{
    uint32_t error = selector_error(gate->selector);
    unsigned dpl;

    if (selector_null(gate->selector))
        return x86_raise_error(cpu, X86_GP, 0);
    if (descriptor_read(cpu, gate->selector, X86_GP, code) < 0)
        return -1;
    dpl = descriptor_dpl(code);
    if (!descriptor_is_code(code) || dpl > cpu->cpl)
        return x86_raise_error(cpu, X86_GP, error);
    if (!to_inner && !descriptor_is_conforming(code) && dpl != cpu->cpl)
        return x86_raise_error(cpu, X86_GP, error);
    if (x86_long_mode(cpu) && !descriptor_is_code64(code))
        return x86_raise_error(cpu, X86_GP, error);
    if (!descriptor_present(code))
        return x86_raise_error(cpu, X86_NP, error);
    return 0;
}

/* Through a TSS descriptor or a task gate; not in long mode. */
static int transfer_to_task(struct x86_cpu *cpu, const struct insn *insn,
                            const struct descriptor *d, enum task_reason reason)
{
    struct task_switch request = {
        .reason = reason,
        .rflags = (uint32_t)x86_get_rflags(cpu),
        .return_rip = next_rip(cpu, insn),
    };
    uint16_t selector = d->selector;
    struct descriptor tss;

    if (check_system_access(cpu, d) < 0)
        return -1;
    if (descriptor_type(d) == TYPE_TASK_GATE) {
        if (!descriptor_present(d))
            return x86_raise_error(cpu, X86_NP, selector_error(selector));
        selector = (uint16_t)(d->low >> 16);
    }
    if (task_read_tss(cpu, selector, reason, &tss) < 0)
        return -1;
    return task_switch(cpu, &tss, &request);
}

static bool is_task_type(const struct x86_cpu *cpu, unsigned type)
{
    return !x86_long_mode(cpu) &&
           (type == TYPE_TASK_GATE || type == TYPE_TSS16 || type == TYPE_TSS16_BUSY ||
            type == TYPE_TSS32 || type == TYPE_TSS32_BUSY);
}

static bool is_call_gate_type(const struct x86_cpu *cpu, unsigned type)
{
    return type == TYPE_CALL_GATE32 || (type == TYPE_CALL_GATE16 && !x86_long_mode(cpu));
}

/* --- JMP --- */

static int jmp_commit(struct x86_cpu *cpu, const struct descriptor *code, uint64_t offset)
{
    if (code_check_rip(cpu, code, offset) < 0 || descriptor_set_accessed(cpu, code) < 0)
        return -1;
    segment_fill_code(cpu, code, cpu->cpl);
    cpu->rip = offset;
    return 0;
}

static int jmp_through_gate(struct x86_cpu *cpu, struct descriptor *d)
{
    struct descriptor code;
    struct call_gate gate;

    if (read_call_gate(cpu, d, &gate) < 0 || read_gate_code(cpu, &gate, false, &code) < 0)
        return -1;
    return jmp_commit(cpu, &code, gate.offset);
}

static int jmp_real(struct x86_cpu *cpu, const struct far_pointer *target)
{
    if (code_check_rip_real(cpu, target->offset) < 0)
        return -1;
    segment_fill_8086(cpu, X86_CS, target->selector);
    cpu->rip = target->offset;
    return 0;
}

/* --- CALL --- */

/* CS and IP pushed on the current stack, then code:offset at the same level. */
static int call_same_level(struct x86_cpu *cpu, const struct insn *insn,
                           const struct descriptor *code, uint64_t offset, unsigned size)
{
    const uint64_t items[] = {cpu->seg[X86_CS].selector, next_rip(cpu, insn)};
    struct frame_stack stack = frame_current(cpu);

    if (code_check_rip(cpu, code, offset) < 0 || descriptor_set_accessed(cpu, code) < 0)
        return -1;
    /* A gate out of compatibility mode pushes with the address size of 64-bit mode. */
    if (size == 8 && x86_long_mode(cpu) && !stack.flat64 && descriptor_is_code64(code)) {
        stack.flat64 = true;
        stack.mask = ~0ull;
        stack.sp = cpu->gpr[X86_RSP];
    }
    if (frame_push(cpu, &stack, items, 2, size) < 0)
        return -1;
    frame_commit(cpu, &stack);
    segment_fill_code(cpu, code, cpu->cpl);
    cpu->rip = offset;
    return 0;
}

/* Long mode: the stack comes from RSP0-2 with a null SS, nothing is copied. */
static int call_inner_long(struct x86_cpu *cpu, const struct insn *insn,
                           const struct descriptor *code, const struct call_gate *gate)
{
    unsigned cpl = descriptor_dpl(code);
    const uint64_t items[] = {cpu->seg[X86_SS].selector, cpu->gpr[X86_RSP],
                              cpu->seg[X86_CS].selector, next_rip(cpu, insn)};
    struct frame_stack stack;
    struct x86_segment ss;
    uint64_t rsp;

    if (tss_read_rsp(cpu, cpl, 0, &rsp) < 0)
        return -1;
    segment_fill_null(&ss, (uint16_t)cpl);
    ss.attr |= cpl << X86_AR_DPL_SHIFT;
    stack = frame_inner(&ss, rsp, cpl, true);
    if (code_check_rip(cpu, code, gate->offset) < 0 || descriptor_set_accessed(cpu, code) < 0 ||
        frame_push(cpu, &stack, items, 4, 8) < 0)
        return -1;
    cpu->seg[X86_SS] = ss;
    frame_commit(cpu, &stack);
    segment_fill_code(cpu, code, cpl);
    cpu->rip = gate->offset;
    return 0;
}

static int call_inner_legacy(struct x86_cpu *cpu, const struct insn *insn,
                             const struct descriptor *code, const struct call_gate *gate)
{
    unsigned cpl = descriptor_dpl(code), count = 0;
    struct frame_stack outer = frame_current(cpu), stack;
    uint64_t items[FRAME_MAX_ITEMS], parameters[32], sp;
    struct x86_segment ss;
    uint16_t selector;

    if (tss_read_stack(cpu, cpl, &selector, &sp) < 0 || tss_fill_ss(cpu, selector, cpl, &ss) < 0)
        return -1;
    stack = frame_inner(&ss, sp, cpl, false);
    items[count++] = cpu->seg[X86_SS].selector;
    items[count++] = cpu->gpr[X86_RSP];
    if (gate->parameters &&
        frame_pop(cpu, &outer, parameters, gate->parameters, gate->item_size) < 0)
        return -1;
    for (unsigned i = gate->parameters; i > 0; i--)
        items[count++] = parameters[i - 1];
    items[count++] = cpu->seg[X86_CS].selector;
    items[count++] = next_rip(cpu, insn);
    if (code_check_rip(cpu, code, gate->offset) < 0 || descriptor_set_accessed(cpu, code) < 0 ||
        frame_push(cpu, &stack, items, count, gate->item_size) < 0)
        return -1;
    cpu->seg[X86_SS] = ss;
    frame_commit(cpu, &stack);
    segment_fill_code(cpu, code, cpl);
    cpu->rip = gate->offset;
    return 0;
}

static int call_through_gate(struct x86_cpu *cpu, const struct insn *insn, struct descriptor *d)
{
    struct descriptor code;
    struct call_gate gate;

    if (read_call_gate(cpu, d, &gate) < 0 || read_gate_code(cpu, &gate, true, &code) < 0)
        return -1;
    if (descriptor_is_conforming(&code) || descriptor_dpl(&code) == cpu->cpl)
        return call_same_level(cpu, insn, &code, gate.offset, gate.item_size);
    return x86_long_mode(cpu) ? call_inner_long(cpu, insn, &code, &gate)
                              : call_inner_legacy(cpu, insn, &code, &gate);
}

static int call_real(struct x86_cpu *cpu, const struct insn *insn, const struct far_pointer *target)
{
    const uint64_t items[] = {cpu->seg[X86_CS].selector, next_rip(cpu, insn)};
    struct frame_stack stack = frame_current(cpu);

    if (code_check_rip_real(cpu, target->offset) < 0 ||
        frame_push(cpu, &stack, items, 2, insn->opsize) < 0)
        return -1;
    frame_commit(cpu, &stack);
    segment_fill_8086(cpu, X86_CS, target->selector);
    cpu->rip = target->offset;
    return 0;
}

/* --- both --- */

static int transfer_protected(struct x86_cpu *cpu, const struct insn *insn,
                              const struct far_pointer *target, bool call)
{
    struct descriptor d;

    if (selector_null(target->selector))
        return x86_raise_error(cpu, X86_GP, 0);
    if (descriptor_read(cpu, target->selector, X86_GP, &d) < 0)
        return -1;
    if (descriptor_is_code(&d)) {
        if (check_direct_code(cpu, &d) < 0)
            return -1;
        return call ? call_same_level(cpu, insn, &d, target->offset, insn->opsize)
                    : jmp_commit(cpu, &d, target->offset);
    }
    if (descriptor_is_system(&d) && is_task_type(cpu, descriptor_type(&d)))
        return transfer_to_task(cpu, insn, &d, call ? TASK_CALL : TASK_JMP);
    if (!descriptor_is_system(&d) || !is_call_gate_type(cpu, descriptor_type(&d)))
        return x86_raise_error(cpu, X86_GP, selector_error(target->selector));
    return call ? call_through_gate(cpu, insn, &d) : jmp_through_gate(cpu, &d);
}

static enum op_result transfer_far(struct x86_cpu *cpu, const struct insn *insn, bool call)
{
    uint32_t before = mode_fingerprint(cpu);
    struct far_pointer target;
    int result;

    if (far_operand(cpu, insn, &target) < 0)
        return OP_FAULT;
    if (x86_protected_mode(cpu))
        result = transfer_protected(cpu, insn, &target, call);
    else
        result = call ? call_real(cpu, insn, &target) : jmp_real(cpu, &target);
    mode_note_change(cpu, before);
    return result < 0 ? OP_FAULT : OP_JUMP;
}

enum op_result op_jmp_far(struct x86_cpu *cpu, const struct insn *insn)
{
    return transfer_far(cpu, insn, false);
}

enum op_result op_call_far(struct x86_cpu *cpu, const struct insn *insn)
{
    return transfer_far(cpu, insn, true);
}
