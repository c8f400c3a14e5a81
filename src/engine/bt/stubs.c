/*
 * Entry and exit stubs, emitted once per vCPU at the start of its code cache.
 *
 * The C stack pointer saved at entry is 16-byte aligned, so stubs may call C functions right after
 * loading it.
 */
#include "engine/bt/bt.h"
#include "translator/emit.h"

#include <sys/mman.h>

#define VCPU(field) ((int32_t)offsetof(struct vcpu, field))

static const uint8_t saved_gprs[] = {H_RAX, H_RCX, H_RDX, H_RBX, H_RBP, H_RSI,
                                     H_RDI, H_R12, H_R13, H_R14, H_R15};
static const uint8_t callee_saved[] = {H_RBX, H_RBP, H_R12, H_R13, H_R14, H_R15};

static int32_t gpr(unsigned reg)
{
    return (int32_t)(offsetof(struct vcpu, cpu.gpr) + reg * sizeof(uint64_t));
}

static void save_gprs(struct emit *e)
{
    for (unsigned i = 0; i < sizeof(saved_gprs); i++)
        emit_store_gs(e, W64, gpr(saved_gprs[i]), saved_gprs[i]);
    emit_store_gs(e, W64, gpr(X86_RSP), H_R11);
}

static void load_gprs(struct emit *e)
{
    for (unsigned i = 0; i < sizeof(saved_gprs); i++)
        emit_load_gs(e, W64, saved_gprs[i], gpr(saved_gprs[i]));
    emit_load_gs(e, W64, H_R11, gpr(X86_RSP));
}

enum { SHL = 4, SHR = 5, SAR = 7 };

static void shift_imm(struct emit *e, int w, unsigned ext, unsigned reg, unsigned count)
{
    emit_reg_reg(e, w, 0xc1, ext, reg);
    emit8(e, count);
}

static void push(struct emit *e, unsigned reg)
{
    emit_rex(e, W32, H_NONE, H_NONE, reg);
    emit8(e, 0x50 | (reg & 7));
}

static void pop(struct emit *e, unsigned reg)
{
    emit_rex(e, W32, H_NONE, H_NONE, reg);
    emit8(e, 0x58 | (reg & 7));
}

/* C code runs with neither DF nor alignment checks. Clobbers flags. */
static void clear_for_c(struct emit *e)
{
    emit8(e, 0xfc);                                   /* cld */
    emit_reg_gs(e, 0, W32, 0x80, 7, VCPU(alignment)); /* cmp byte, 0 */
    emit8(e, 0);
    emit8(e, 0x74);
    emit8(e, 3);
    emit8(e, 0x6a); /* push 2; popfq */
    emit8(e, 2);
    emit8(e, 0x9d);
}

/* aflags = host flags; DF and AC cleared for C. Destroys RAX (saved before). */
static void save_flags(struct emit *e)
{
    emit8(e, 0x9c); /* pushfq */
    pop(e, H_RAX);
    emit_alu_imm32(e, W32, 4, H_RAX, X86_NATIVE_FLAGS);
    emit_store_gs(e, W32, VCPU(cpu.aflags), H_RAX);
    clear_for_c(e);
}

/* DF = direction, AC = alignment; they are clear before. Clobbers flags. */
static void load_rare_flags(struct emit *e)
{
    enum { PUSH_AND_POP = 6 };
    emit_reg_gs(e, 0x66, W32, 0x83, 7, VCPU(rare_flags)); /* cmp word, 0 */
    emit8(e, 0);
    emit8(e, 0x74);
    uint32_t none = e->pos;
    emit8(e, 0);
    emit_reg_gs(e, 0, W32, 0x80, 7, VCPU(alignment));
    emit8(e, 0);
    emit8(e, 0x74);
    emit8(e, PUSH_AND_POP);
    emit8(e, 0x68); /* push imm32; popfq */
    emit32(e, X86_AC_FLAG | 2);
    emit8(e, 0x9d);
    emit_reg_gs(e, 0, W32, 0x80, 7, VCPU(direction));
    emit8(e, 0);
    emit8(e, 0x74);
    emit8(e, 1);
    emit8(e, 0xfd); /* std */
    emit_patch8(e, none, e->pos);
}

/* Host flags = aflags. Destroys RAX and RCX. */
static void load_flags(struct emit *e)
{
    load_rare_flags(e);
    emit_load_gs(e, W32, H_RAX, VCPU(cpu.aflags));
    emit_mov(e, W32, H_RCX, H_RAX);
    shift_imm(e, W32, SHR, H_RCX, 11); /* OF to bit 0 */
    emit_alu_imm32(e, W32, 4, H_RCX, 1);
    emit8(e, 0x88); /* mov ah, al */
    emit8(e, 0xc4);
    emit_reg_reg(e, W32, 0x8a, H_RAX, H_RCX); /* mov al, cl */
    emit8(e, 0x04);                           /* add al, 7fh */
    emit8(e, 0x7f);
    emit8(e, 0x9e); /* sahf */
}

static void to_c_stack(struct emit *e)
{
    emit_store_gs(e, W64, VCPU(host_rsp), H_RSP);
    emit_load_gs(e, W64, H_RSP, VCPU(c_rsp));
}

static void call_c(struct emit *e, uint64_t function)
{
    emit_mov_imm(e, H_RAX, function);
    emit8(e, 0xff);
    emit8(e, 0xd0); /* call rax */
}

/* Back to the C caller of the entry stub with the reason in EAX; the C stack is current. */
static void leave(struct emit *e)
{
    emit_lea(e, W64, H_RSP, H_RSP, H_NONE, 0, 8);
    for (unsigned i = sizeof(callee_saved); i-- > 0;)
        pop(e, callee_saved[i]);
    emit8(e, 0xc3);
}

static uint64_t here(const struct emit *e)
{
    return e->exec + e->pos;
}

static uint64_t stub_enter(struct emit *e)
{
    uint64_t start = here(e);
    for (unsigned i = 0; i < sizeof(callee_saved); i++)
        push(e, callee_saved[i]);
    emit_lea(e, W64, H_RSP, H_RSP, H_NONE, 0, -8);
    emit_store_gs(e, W64, VCPU(c_rsp), H_RSP);
    emit_load_gs(e, W64, H_RSP, VCPU(host_rsp));
    load_flags(e);
    load_gprs(e);
    emit_reg_gs(e, 0, W32, 0xff, 4, VCPU(enter_target)); /* jmp gs:[] */
    return start;
}

/* jmp here with r9d = reason: saves everything and leaves. */
static uint64_t stub_exit(struct emit *e)
{
    uint64_t start = here(e);
    save_gprs(e);
    save_flags(e);
    to_c_stack(e);
    emit_mov(e, W32, H_RAX, H_R9);
    leave(e);
    return start;
}

static uint64_t stub_exit_reason(struct emit *e, enum bt_exit reason, uint64_t exit, int32_t save,
                                 unsigned reg)
{
    uint64_t start = here(e);
    if (reg != H_NONE)
        emit_store_gs(e, W64, save, reg);
    emit_mov_imm(e, H_R9, reason);
    emit_jmp(e, exit);
    return start;
}

static const uint8_t victim_scratch[] = {H_RAX, H_RCX, H_RDX};

static void load_victim_scratch(struct emit *e)
{
    for (unsigned i = 0; i < sizeof(victim_scratch); i++)
        emit_load_gs(e, W64, victim_scratch[i], gpr(victim_scratch[i]));
}

/*
 * The head of stub_access: returns if a victim of the TLB has the page. Every sixteenth time C
 * gets to know, to give a page that is still in use its first place back.
 */
static void find_victim(struct emit *e, const struct xlate_env *env, unsigned user, bool write)
{
    enum { XOR = 0x33, NEG = 3, PROMOTE = 15 };
    int32_t victims = TLB_SIZE << env->tlb_entry_shift;
    int32_t tag = victims + (write ? env->tlb_write_tag[user] : env->tlb_read_tag[user]);
    for (unsigned i = 0; i < sizeof(victim_scratch); i++)
        emit_store_gs(e, W64, gpr(victim_scratch[i]), victim_scratch[i]);
    emit_mov(e, W64, H_RAX, H_R10); /* rax = the entry's offset: tlb_victim_index() */
    shift_imm(e, W64, SHR, H_RAX, 12);
    emit_mov(e, W64, H_RCX, H_RAX);
    shift_imm(e, W64, SHR, H_RCX, TLB_VICTIM_BITS);
    emit_reg_reg(e, W32, XOR, H_RAX, H_RCX);
    emit_alu_imm32(e, W32, 4, H_RAX, TLB_VICTIMS - 1);
    shift_imm(e, W32, SHL, H_RAX, env->tlb_entry_shift);
    emit_mov(e, W32, H_RDX, H_R9); /* rdx = the last offset that fits into the page */
    emit_alu_imm32(e, W32, 4, H_RDX, ACCESS_SIZE_MASK);
    emit_reg_reg(e, W32, 0xf7, NEG, H_RDX);
    emit_alu_imm32(e, W32, 0, H_RDX, 4096);
    emit_mov(e, W64, H_RCX, H_R10);
    emit_reg_gs_index(e, W64, 0x2b, H_RCX, H_RAX, tag);
    emit_reg_reg(e, W64, 0x3b, H_RCX, H_RDX);
    uint32_t miss = emit_jcc_later(e, CC_A);
    emit_reg_gs(e, 0, W64, 0xff, 0, VCPU(stats.tlb_victim_hits)); /* inc */
    emit_reg_gs(e, 0, W32, 0xf6, 0, VCPU(stats.tlb_victim_hits)); /* test byte */
    emit8(e, PROMOTE);
    uint32_t promote = emit_jcc_later(e, CC_E);
    emit_reg_gs_index(e, W64, 0x03, H_RCX, H_RAX, victims + env->tlb_host[user]);
    emit_mov(e, W64, H_R10, H_RCX);
    load_victim_scratch(e);
    emit8(e, 0xc3);
    emit_patch(e, miss, e->pos);
    emit_patch(e, promote, e->pos);
    load_victim_scratch(e);
}

/* call: r10 = linear, r9d = descriptor -> r10 = host address. Flags are dead or parked. */
static uint64_t stub_access(struct emit *e, const struct xlate_env *env, unsigned user, bool write)
{
    uint64_t start = here(e);
    find_victim(e, env, user, write);
    save_gprs(e);
    emit_store_gs(e, W64, VCPU(window_delta), H_R8);
    clear_for_c(e);
    emit_load_gs(e, W64, H_RDI, VCPU(self));
    emit_mov(e, W64, H_RSI, H_R10);
    emit_mov(e, W32, H_RDX, H_R9);
    emit_reg_mem(e, W64, 0x8b, H_RCX, H_RSP, H_NONE, 0, 0);
    to_c_stack(e);
    call_c(e, (uint64_t)(uintptr_t)bt_access);
    emit_reg_reg(e, W64, 0x85, H_RAX, H_RAX);
    uint32_t failed = emit_jcc_later(e, CC_E);
    emit_mov(e, W64, H_R10, H_RAX);
    emit_load_gs(e, W64, H_RSP, VCPU(host_rsp));
    load_rare_flags(e);
    load_gprs(e);
    emit_load_gs(e, W64, H_R8, VCPU(window_delta));
    emit8(e, 0xc3);
    emit_patch(e, failed, e->pos);
    emit_reg_gs(e, 0, W64, 0x83, 0, VCPU(host_rsp)); /* drop the return address */
    emit8(e, 8);
    emit_load_gs(e, W32, H_RAX, VCPU(exit_reason));
    leave(e);
    return start;
}

/* call: leaves with exit_pc = return address. Flags are dead or parked. */
static uint64_t stub_bounce(struct emit *e)
{
    uint64_t start = here(e);
    pop(e, H_R9);
    emit_store_gs(e, W64, VCPU(exit_pc), H_R9);
    save_gprs(e);
    clear_for_c(e);
    to_c_stack(e);
    emit_mov_imm(e, H_RAX, BT_EXIT_SLOW);
    leave(e);
    return start;
}

static uint64_t stub_callout(struct emit *e)
{
    uint64_t start = here(e);
    save_gprs(e);
    save_flags(e);
    emit_load_gs(e, W64, H_RDI, VCPU(self));
    emit_mov(e, W64, H_RSI, H_R9);
    to_c_stack(e);
    call_c(e, (uint64_t)(uintptr_t)bt_callout);
    emit_reg_reg(e, W32, 0x85, H_RAX, H_RAX);
    uint32_t out = emit_jcc_later(e, CC_NE);
    emit_load_gs(e, W64, H_RSP, VCPU(host_rsp));
    load_flags(e);
    load_gprs(e);
    emit8(e, 0xc3);
    emit_patch(e, out, e->pos);
    emit_reg_gs(e, 0, W64, 0x83, 0, VCPU(host_rsp));
    emit8(e, 8);
    leave(e);
    return start;
}

enum { JUMP_ENTRY_SHIFT = 4 };
_Static_assert(sizeof(struct jump_entry) == 1 << JUMP_ENTRY_SHIFT, "shifted index");

/* Offset of a field of the jump cache's first entry. */
static int32_t jump_table(unsigned user, size_t field)
{
    return (int32_t)(offsetof(struct vcpu, jump) + user * sizeof(struct jump_entry) * JUMP_SIZE +
                     field);
}

/*
 * call with spill[0] = target of a CALL that the jump cache does not have: returns if it is an
 * address to go to, else C executes the instruction. Flags are parked.
 */
static uint64_t stub_check_target(struct emit *e, bool canonical, uint64_t bounce)
{
    uint64_t start = here(e);
    if (canonical) { /* bits 63:47 are all 0 or all 1 */
        emit_load_gs(e, W64, H_R9, VCPU(spill));
        shift_imm(e, W64, SAR, H_R9, 47);
        emit_lea(e, W64, H_R9, H_R9, H_NONE, 0, 1);
        emit_alu_imm32(e, W64, 7, H_R9, 1);
    } else {
        emit_load_gs(e, W32, H_R9, VCPU(cpu.seg[X86_CS].limit));
        emit_reg_gs(e, 0, W64, 0x39, H_R9, VCPU(spill)); /* cmp target, r9 */
    }
    emit_jcc(e, CC_A, bounce);
    emit8(e, 0xc3);
    return start;
}

/* Where a CALL goes whose target, in spill[0], the jump cache does not have. */
static uint64_t stub_missed_call(struct emit *e, uint64_t lookup_exit)
{
    uint64_t start = here(e);
    emit_load_gs(e, W64, H_R10, VCPU(spill));
    emit_jmp(e, lookup_exit);
    return start;
}

/* jmp with r10 = guest ip: goes to its code through the jump cache. Touches no flags. */
static uint64_t stub_indirect(struct emit *e, unsigned user, uint64_t lookup_exit,
                              uint64_t *return_miss)
{
    uint64_t start = here(e);
    uint32_t entry = e->pos;
    emit_mov_imm(e, H_R9, 64 - JUMP_BITS);
    emit_shlx(e, H_R8, H_R10, H_R9);
    emit_mov_imm(e, H_R9, 64 - JUMP_BITS - JUMP_ENTRY_SHIFT);
    emit_shrx(e, H_R8, H_R8, H_R9);
    emit_mov(e, W64, H_R9, H_RCX);
    emit_reg_gs_index(e, W64, 0x8b, H_RCX, H_R8,
                      jump_table(user, offsetof(struct jump_entry, negated_ip)));
    emit_lea(e, W64, H_RCX, H_RCX, H_R10, 0, 0);
    emit8(e, 0xe3); /* jrcxz */
    emit8(e, 0);
    uint32_t hit = e->pos - 1;
    emit_mov(e, W64, H_RCX, H_R9);
    emit_jmp(e, lookup_exit);
    emit_patch8(e, hit, e->pos);
    emit_mov(e, W64, H_RCX, H_R9);
    emit_reg_gs_index(e, W32, 0xff, 4, H_R8, jump_table(user, offsetof(struct jump_entry, host)));

    /* A return whose prediction failed: like the CPU's own predictor, drop one pair. */
    *return_miss = here(e);
    emit_mov(e, W64, H_R9, H_RAX);
    emit8(e, 0x9f);                         /* lahf */
    emit_reg_reg(e, W32, 0x0f90, 0, H_RAX); /* seto al */
    emit_reg_gs(e, 0, W64, 0x3b, H_RSP, VCPU(stack_top));
    emit8(e, 0x73); /* jae: only the sentinel is left */
    emit8(e, 5);
    emit_reg_mem(e, W64, 0x8d, H_RSP, H_RSP, H_NONE, 0, 16);
    emit_reg_gs(e, 0, W64, 0xff, 0, VCPU(return_misses));
    emit8(e, 0x04); /* add al, 7fh */
    emit8(e, 0x7f);
    emit8(e, 0x9e); /* sahf */
    emit_mov(e, W64, H_RAX, H_R9);
    emit_patch(e, emit_jmp_later(e), entry);
    return start;
}

/* call: brings parked vector state back. Changes no register and no flag otherwise. */
static uint64_t stub_vectors(struct emit *e)
{
    uint64_t start = here(e);
    emit_store_gs(e, W64, VCPU(spill), H_RAX);
    emit_store_gs(e, W64, VCPU(spill) + 8, H_RDX);
    emit_mov_imm(e, H_RAX, BT_XSTATE_CARRIED);
    emit_mov_imm(e, H_RDX, 0);
    emit_reg_gs(e, 0, W64, 0x0fae, 5, VCPU(cpu.xsave)); /* xrstor64 */
    emit_store_gs_imm8(e, VCPU(vectors_parked), 0);
    emit_load_gs(e, W64, H_RAX, VCPU(spill));
    emit_load_gs(e, W64, H_RDX, VCPU(spill) + 8);
    emit8(e, 0xc3);
    return start;
}

/* Where the sentinel pair "returns" to: r10 is still the target. */
static uint64_t stub_sentinel(struct emit *e, uint64_t lookup_exit)
{
    uint64_t start = here(e);
    emit_lea(e, W64, H_RSP, H_RSP, H_NONE, 0, -8);
    emit_jmp(e, lookup_exit);
    return start;
}

static int stack_init(struct vcpu *vcpu, uint64_t sentinel, struct vd_error *err)
{
    uint8_t *stack = mmap(NULL, BT_GUARD_SIZE + BT_STACK_SIZE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED || mprotect(stack, BT_GUARD_SIZE, PROT_NONE) < 0)
        return error_set(err, "translator: cannot map the return stack");
    vcpu->stack = stack;
    uint64_t *top = (uint64_t *)(void *)(stack + BT_GUARD_SIZE + BT_STACK_SIZE - 64);
    top[0] = sentinel;
    /* The return address that it matches must be valid in every mode: nobody notes the branch. */
    top[1] = 0;
    vcpu->stack_top = (uint64_t)(uintptr_t)top;
    bt_stack_reset(vcpu);
    return 0;
}

void bt_stack_reset(struct vcpu *vcpu)
{
    vcpu->host_rsp = vcpu->stack_top;
}

static void env_init(struct vcpu *vcpu)
{
    struct xlate_env *env = &vcpu->env;
    for (unsigned user = 0; user < 2; user++) {
        int32_t tlb = (int32_t)(offsetof(struct vcpu, mmu) + offsetof(struct mmu, tlb) +
                                user * sizeof(vcpu->mmu.tlb[0]));
        env->tlb_read_tag[user] = tlb + (int32_t)offsetof(struct tlb_entry, read_tag);
        env->tlb_write_tag[user] = tlb + (int32_t)offsetof(struct tlb_entry, write_tag);
        env->tlb_addend[user] = tlb + (int32_t)offsetof(struct tlb_entry, addend);
        env->tlb_host[user] = tlb + (int32_t)offsetof(struct tlb_entry, host);
        env->jump_ip[user] = jump_table(user, offsetof(struct jump_entry, negated_ip));
        env->jump_host[user] = jump_table(user, offsetof(struct jump_entry, host));
    }
    env->jump_bits = JUMP_BITS;
    env->jump_entry_shift = JUMP_ENTRY_SHIFT;
    _Static_assert(sizeof(struct tlb_entry) == 32, "the index is shifted by 5");
    env->tlb_entry_shift = 5;
    env->tlb_bits = TLB_BITS;
    env->flags_park = VCPU(flags_park);
    env->spill[0] = VCPU(spill);
    env->spill[1] = VCPU(spill) + 8;
    env->direction = VCPU(direction);
    env->bounce = VCPU(bounce);
    env->branch = VCPU(branch);
    env->vectors_parked = VCPU(vectors_parked);
    env->return_hits = VCPU(return_hits);
    env->block_count = VCPU(block_count);
    env->cpuid = &vcpu->cpu.cpuid;
}

int bt_stubs_init(struct vcpu *vcpu, struct vd_error *err)
{
    struct code_memory *memory = &vcpu->cache.memory;
    size_t size = 4096;
    size_t offset = code_memory_reserve(memory, size);
    struct emit e = {.buffer = memory->write + offset,
                     .size = (uint32_t)size,
                     .exec = (uint64_t)(uintptr_t)(memory->exec + offset)};
    struct xlate_env *env = &vcpu->env;
    env_init(vcpu);
    vcpu->stub_enter = stub_enter(&e);
    uint64_t exit = stub_exit(&e);
    uint64_t lookup = stub_exit_reason(&e, BT_EXIT_LOOKUP, exit, VCPU(cpu.rip), H_R10);
    env->stub_event = stub_exit_reason(&e, BT_EXIT_EVENT, exit, VCPU(cpu.rip), H_R10);
    env->stub_done = stub_exit_reason(&e, BT_EXIT_DONE, exit, VCPU(cpu.rip), H_R10);
    env->stub_link = stub_exit_reason(&e, BT_EXIT_LINK, exit, VCPU(exit_arg), H_R9);
    vcpu->stub_fault = stub_exit_reason(&e, BT_EXIT_HOST_FAULT, exit, 0, H_NONE);
    for (unsigned i = 0; i < 4; i++)
        env->stub_access[i >> 1][i & 1] = stub_access(&e, env, i >> 1, i & 1);
    env->stub_bounce = stub_bounce(&e);
    env->stub_callout = stub_callout(&e);
    env->stub_vectors = stub_vectors(&e);
    for (unsigned canonical = 0; canonical < 2; canonical++)
        env->stub_check_target[canonical] = stub_check_target(&e, canonical, env->stub_bounce);
    env->stub_missed_call = stub_missed_call(&e, lookup);
    for (unsigned user = 0; user < 2; user++)
        env->stub_indirect[user] = stub_indirect(&e, user, lookup, &env->stub_return_miss[user]);
    uint64_t sentinel = stub_sentinel(&e, lookup);
    if (e.overflow)
        return error_set(err, "translator: stubs do not fit");
    code_memory_commit(memory, e.pos);
    code_memory_fix(memory);
    return stack_init(vcpu, sentinel, err);
}
