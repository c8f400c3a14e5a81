/*
 * The slow path: one instruction whose operand cannot be reached directly (MMIO, traced page, page
 * crossing, watchpoint, segment bounds). Copies run natively on a bounce buffer; the few that move
 * data between two places have their C semantics here.
 */
#include "engine/bt/bt.h"

#include "base/bytes.h"

static enum op_result run_bounce(struct vcpu *vcpu, unsigned offset)
{
    uint64_t rip = vcpu->cpu.rip;
    uint32_t block = bt_bounce_block(vcpu, offset);
    if (block == BLOCK_NONE)
        return OP_FAULT;
    vcpu->stats.bounces++;
    switch (bt_enter(vcpu, block_body(&vcpu->cache, block))) {
    case BT_EXIT_DONE:
        vcpu->cpu.rip = rip; /* the caller adds the length */
        return OP_NEXT;
    case BT_EXIT_HOST_FAULT:
        switch (bt_host_fault(vcpu)) {
        case 0:
            return OP_FAULT;
        case 1:
            return OP_RETRY;
        default:
            return OP_HALT;
        }
    default:
        return OP_FAULT;
    }
}

static uint64_t operand_offset(const struct x86_cpu *cpu, const struct insn *insn)
{
    uint64_t offset = op_offset(cpu, insn);
    if (!insn_is_bit_string(insn))
        return offset;
    uint64_t value = op_get_gpr(cpu, insn, insn->reg, insn->opsize);
    int64_t bit = insn->opsize == 8   ? (int64_t)value
                  : insn->opsize == 4 ? (int32_t)value
                                      : (int16_t)value;
    unsigned log_size = insn->opsize == 8 ? 3 : insn->opsize == 4 ? 2 : 1;
    offset += (uint64_t)((bit >> (log_size + 3)) * (1 << log_size));
    return insn->addrsize == 8 ? offset : insn->addrsize == 4 ? (uint32_t)offset : (uint16_t)offset;
}

/* MOVAPS, MOVDQA, the non-temporal moves and their VEX forms. */
static bool is_aligned_move(const struct insn *insn)
{
    bool packed = insn->encoding == ENC_LEGACY ? insn->mandatory == 0x66 : insn->vex_pp == 1;
    if (insn->map == 2)
        return insn->opcode == 0x2a;
    return insn->map == 1 && ((insn->opcode & 0xfe) == 0x28 || insn->opcode == 0x2b ||
                              insn->opcode == 0xe7 || ((insn->opcode & 0xef) == 0x6f && packed));
}

/* MXCSR.MM of AMD's processors: SSE operands need no alignment (APM vol. 1, 4.2.2). */
static bool misalignment_allowed(const struct vcpu *vcpu)
{
    enum { MXCSR = 24, MM = 1 << 17 };
    uint32_t mxcsr;
    if (vcpu->vectors_parked)
        bytes_copy(&mxcsr, vcpu->cpu.xsave + MXCSR, sizeof(mxcsr));
    else
        __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    return mxcsr & MM;
}

/* Vector operands that must be aligned: those of SSE but the "unaligned" moves, few of AVX. */
static bool demands_alignment(const struct vcpu *vcpu, const struct insn *insn)
{
    if (insn->map == 1 && insn->opcode == 0xc7)
        return insn->mem.size == 16; /* CMPXCHG16B */
    if (insn->fpu_state != FPU_SSE && insn->fpu_state != FPU_AVX)
        return false;
    if (is_aligned_move(insn))
        return true;
    bool string_compare = insn->map == 3 && (insn->opcode & 0xfc) == 0x60;
    bool movu = insn->map == 1 && ((insn->opcode & 0xfe) == 0x10 || insn->opcode == 0xf0 ||
                                   ((insn->opcode & 0xef) == 0x6f && insn->mandatory == 0xf3));
    bool sha = (insn->map == 2 && insn->opcode >= 0xc8 && insn->opcode <= 0xcd) ||
               (insn->map == 3 && insn->opcode == 0xcc); /* of Intel, not of AMD */
    return insn->encoding == ENC_LEGACY && insn->mem.size >= 16 && !string_compare && !movu &&
           !sha && !misalignment_allowed(vcpu);
}

static bool misaligned(const struct vcpu *vcpu, const struct insn *insn, uint64_t offset)
{
    const struct x86_cpu *cpu = &vcpu->cpu;
    unsigned size = insn->mem.size;
    bool based = !x86_code64(cpu) || insn->mem.seg >= X86_FS;
    uint64_t linear = offset + (based ? cpu->seg[insn->mem.seg].base : 0);
    return size >= 16 && (linear & (size - 1)) && demands_alignment(vcpu, insn);
}

bool bt_x87_pending(const struct vcpu *vcpu)
{
    enum { FSW = 2, FSW_ES = 1 << 7 };
    uint16_t status;
    if (vcpu->vectors_parked)
        return vcpu->cpu.xsave[FSW] & FSW_ES;
    __asm__ volatile("fnstsw %0" : "=a"(status));
    return status & FSW_ES;
}

static bool waits_for_x87(const struct insn *insn)
{
    bool to_mmx = insn->fpu_state == FPU_SSE && insn->encoding == ENC_LEGACY && insn->map == 1 &&
                  (insn->opcode & 0xfe) == 0x2c && insn->mandatory < 0xf2; /* CVT(T)Px2PI */
    return insn->fpu_state == FPU_X87 || insn->fpu_state == FPU_MMX || to_mmx;
}

/*
 * The x87 instruction that just ran has stored nothing, because of an unmasked exception (SDM vol.
 * 1, 8.5); that of precision alone comes behind the store. No exception was pending before it.
 */
static bool x87_stored_nothing(const struct vcpu *vcpu)
{
    enum { FSW = 2, BEFORE_STORE = 0x1f };
    uint16_t control, status;
    if (vcpu->vectors_parked) {
        bytes_copy(&control, vcpu->cpu.xsave, sizeof(control));
        bytes_copy(&status, vcpu->cpu.xsave + FSW, sizeof(status));
    } else {
        __asm__ volatile("fnstcw %0" : "=m"(control));
        __asm__ volatile("fnstsw %0" : "=a"(status));
    }
    return status & ~control & BEFORE_STORE;
}

static enum op_result slow_copy(struct vcpu *vcpu, const struct insn *insn)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    unsigned size = insn->mem.size, user = mmu_cpl_access(cpu);
    bool write = insn->mem.access & MEM_WRITE;
    uint64_t offset = operand_offset(cpu, insn), linear;
    enum op_result result = OP_NEXT;
    bool pending = waits_for_x87(insn) && bt_x87_pending(vcpu);
    if (pending)
        result = run_bounce(vcpu, 0);
    if (result != OP_NEXT)
        return result; /* #MF or FERR#; the few that do not wait (FNSTSW, FNSTCW) may run twice */
    if (misaligned(vcpu, insn, offset)) { /* before any other fault of the operand */
        x86_raise_error(cpu, X86_GP, 0);
        return OP_FAULT;
    }
    if (seg_linear(cpu, (enum x86_segreg)insn->mem.seg, offset, size, write, &linear) < 0 ||
        mmu_check_alignment(cpu, linear, mmu_natural_alignment(size)) < 0)
        return OP_FAULT;
    if (write && mmu_probe(cpu, linear, size, user | MMU_WRITE) < 0)
        return OP_FAULT;
    /*
     * Vector instructions may demand alignment: the buffer has the operand's. What is smaller is
     * aligned in the buffer: no check by the host comes behind the one above.
     */
    unsigned at = size >= 16 ? (unsigned)linear & 63 : 0;
    if ((insn->mem.access & MEM_READ) && mmu_read(cpu, linear, vcpu->bounce + at, size, user) < 0)
        return OP_FAULT;
    result = run_bounce(vcpu, at);
    bt_x87_bounced(vcpu, insn, offset);
    if (insn->fpu_state == FPU_X87 && !pending && x87_stored_nothing(vcpu))
        write = false;
    if (result == OP_NEXT && write && mmu_write(cpu, linear, vcpu->bounce + at, size, user) < 0)
        return OP_FAULT;
    return result;
}

static unsigned register_operand(const struct insn *insn)
{
    return insn->gpr_fields & FIELD_OPC ? (insn->opcode & 7u) | (insn->rex & 1 ? 8u : 0) : insn->rm;
}

static enum op_result slow_push(struct x86_cpu *cpu, const struct insn *insn)
{
    uint64_t value = (uint64_t)insn->imm;
    if (insn->mem.present || (insn->gpr_fields & FIELD_RM)) {
        if (op_read_rm(cpu, insn, insn->opsize, &value) < 0)
            return OP_FAULT;
    } else if (insn->gpr_fields & FIELD_OPC) {
        value = op_get_gpr(cpu, insn, register_operand(insn), insn->opsize);
    }
    struct op_stack stack;
    op_stack_begin(&stack, cpu);
    if (op_push(&stack, insn->opsize, value) < 0)
        return OP_FAULT;
    op_stack_commit(&stack);
    return OP_NEXT;
}

static enum op_result slow_pop(struct x86_cpu *cpu, const struct insn *insn)
{
    struct op_stack stack;
    uint64_t value;
    op_stack_begin(&stack, cpu);
    if (op_pop(&stack, insn->opsize, &value) < 0)
        return OP_FAULT;
    if (!insn->mem.present) {
        op_stack_commit(&stack);
        op_set_gpr(cpu, insn, register_operand(insn), insn->opsize, value);
        return OP_NEXT;
    }
    /* The address of POP m is computed with the incremented stack pointer. */
    uint64_t old = cpu->gpr[X86_RSP];
    op_stack_commit(&stack);
    if (op_write_rm(cpu, insn, insn->opsize, value) < 0) {
        cpu->gpr[X86_RSP] = old;
        return OP_FAULT;
    }
    return OP_NEXT;
}

static enum op_result slow_leave(struct x86_cpu *cpu, const struct insn *insn)
{
    struct op_stack stack;
    uint64_t value;
    op_stack_begin(&stack, cpu);
    stack.sp = cpu->gpr[X86_RBP];
    if (op_pop(&stack, insn->opsize, &value) < 0)
        return OP_FAULT;
    op_stack_commit(&stack);
    op_set_gpr(cpu, insn, X86_RBP, insn->opsize, value);
    return OP_NEXT;
}

static uint64_t truncate_ip(uint64_t ip, unsigned size)
{
    return size == 8 ? ip : size == 4 ? (uint32_t)ip : (uint16_t)ip;
}

static bool valid_target(const struct vcpu *vcpu, uint64_t ip)
{
    return vcpu->mode.bits == 64 ? mmu_canonical(ip) : ip <= vcpu->cpu.seg[X86_CS].limit;
}

static int probe_push(struct x86_cpu *cpu, unsigned size)
{
    uint64_t sp = truncate_ip(cpu->gpr[X86_RSP] - size, x86_stack_bits(cpu) / 8), linear;
    if (seg_linear(cpu, X86_SS, sp, size, true, &linear) < 0 ||
        mmu_check_alignment(cpu, linear, size) < 0)
        return -1;
    return mmu_probe(cpu, linear, size, mmu_cpl_access(cpu) | MMU_WRITE);
}

static enum op_result slow_branch(struct vcpu *vcpu, const struct insn *insn)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    bool call = insn->kind == KIND_CALL_REL || insn->kind == KIND_CALL_IND;
    uint64_t target, next = cpu->rip + insn->len;
    unsigned size = vcpu->mode.bits == 64 ? 8 : insn->opsize;
    if (insn->kind == KIND_CALL_REL)
        target = next + (uint64_t)insn->imm;
    else if (op_read_rm(cpu, insn, size, &target) < 0)
        return OP_FAULT;
    target = truncate_ip(target, size);
    struct op_stack stack;
    op_stack_begin(&stack, cpu);
    if (call && probe_push(cpu, size) < 0) /* the stack is checked before the target */
        return OP_FAULT;
    if (!valid_target(vcpu, target)) {
        x86_raise_error(cpu, X86_GP, 0);
        return OP_FAULT;
    }
    if (call && op_push(&stack, size, truncate_ip(next, size)) < 0)
        return OP_FAULT;
    if (call)
        op_stack_commit(&stack);
    cpu->rip = target;
    return OP_JUMP;
}

static enum op_result slow_return(struct vcpu *vcpu, const struct insn *insn)
{
    struct op_stack stack;
    uint64_t target;
    op_stack_begin(&stack, &vcpu->cpu);
    if (op_pop(&stack, insn->opsize, &target) < 0)
        return OP_FAULT;
    target = truncate_ip(target, insn->opsize);
    if (!valid_target(vcpu, target)) {
        x86_raise_error(&vcpu->cpu, X86_GP, 0);
        return OP_FAULT;
    }
    if (insn->imm_size)
        stack.sp += (uint16_t)insn->imm;
    op_stack_commit(&stack);
    vcpu->cpu.rip = target;
    return OP_JUMP;
}

static enum op_result slow_xlat(struct x86_cpu *cpu, const struct insn *insn)
{
    uint64_t offset = cpu->gpr[X86_RBX] + (uint8_t)cpu->gpr[X86_RAX];
    uint8_t value;
    if (seg_read(cpu, (enum x86_segreg)insn->mem.seg, truncate_ip(offset, insn->addrsize), &value,
                 1) < 0)
        return OP_FAULT;
    cpu->gpr[X86_RAX] = (cpu->gpr[X86_RAX] & ~0xffull) | value;
    return OP_NEXT;
}

/* The instruction at rip; decoded again only if its bytes changed. */
static const struct insn *current_insn(struct vcpu *vcpu)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    uint8_t bytes[15];
    unsigned count = bt_fetch(vcpu, bytes, sizeof(bytes));
    if (!count)
        return NULL;
    struct slow_insn *slot = &vcpu->slow[(cpu->rip ^ cpu->rip >> 8) % INSN_CACHE_SIZE];
    uint64_t tag = cpu->rip << 8 | vcpu->mode.bits | 1;
    if (slot->tag == tag && slot->insn.len <= count &&
        bytes_equal(slot->insn.bytes, bytes, slot->insn.len))
        return &slot->insn;
    bt_park_x87_pointers(cpu);
    slot->tag = 0;
    switch (insn_decode(&slot->insn, bytes, count, vcpu->mode.bits)) {
    case INSN_OK:
    case INSN_INVALID:
        slot->tag = tag;
        return &slot->insn;
    case INSN_NEED_MORE:
    case INSN_TOO_LONG:
        break;
    }
    x86_raise_error(cpu, X86_GP, 0);
    return NULL;
}

void bt_undo_branch(struct vcpu *vcpu, uint64_t host_pc)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    uint64_t target = cpu->rip;
    if (valid_target(vcpu, target))
        return;
    struct x86_fault fault = cpu->fault;
    bt_park_vectors(cpu);
    const struct insn *insn = bt_locate(vcpu, host_pc) ? current_insn(vcpu) : NULL;
    cpu->fault = fault;
    if (!insn || target == truncate_ip(cpu->rip + insn->len, vcpu->mode.bits == 64 ? 8 : 4)) {
        cpu->rip = target; /* no branch: execution ran off the end */
        return;
    }
    unsigned popped = 0; /* a CALL has looked at its target before it pushes */
    if (insn->kind == KIND_RET)
        popped = insn->opsize + (insn->imm_size ? (unsigned)(uint16_t)insn->imm : 0);
    else if (insn->kind == KIND_LOOP && insn->opcode != 0xe3)
        op_set_gpr(cpu, insn, X86_RCX, insn->addrsize,
                   op_get_gpr(cpu, insn, X86_RCX, insn->addrsize) + 1);
    op_set_gpr(cpu, insn, X86_RSP, vcpu->mode.stack_bits / 8, cpu->gpr[X86_RSP] - popped);
}

enum op_result bt_slow_step(struct vcpu *vcpu, const struct insn **executed)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    const struct insn *insn = current_insn(vcpu);
    *executed = insn;
    if (!insn)
        return OP_FAULT;
    switch ((enum insn_kind)insn->kind) {
    case KIND_COPY:
        return slow_copy(vcpu, insn);
    case KIND_PUSH:
        return slow_push(cpu, insn);
    case KIND_POP:
        return slow_pop(cpu, insn);
    case KIND_LEAVE:
        return slow_leave(cpu, insn);
    case KIND_CALL_REL:
    case KIND_CALL_IND:
    case KIND_JMP_IND:
        return slow_branch(vcpu, insn);
    case KIND_RET:
        return slow_return(vcpu, insn);
    case KIND_XLAT:
        return slow_xlat(cpu, insn);
    case KIND_STRING:
    case KIND_CALLOUT:
    case KIND_CLI:
    case KIND_STI:
        return op_function((enum insn_op)insn->op)(cpu, insn);
    case KIND_NOP:
    case KIND_JMP_REL:
    case KIND_JCC:
    case KIND_LOOP:
        break; /* have no operand that could bring them here: the code changed under us, run it anew
                */
    }
    return OP_RETRY;
}
