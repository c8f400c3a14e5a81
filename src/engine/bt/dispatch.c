/*
 * The dispatcher: enters translated code and does what it asks for when it comes back. Also the C
 * functions that stubs call. Everything here may run with guest vector state in host registers.
 */
#include "engine/bt/bt.h"
#include "engine/bt/ops/xstate.h"

#include <immintrin.h>
#include <stdio.h>

enum { NO_EXIT = UINT32_MAX };

static uint64_t ip_mask(const struct vcpu *vcpu)
{
    return vcpu->mode.bits == 64 ? UINT64_MAX : UINT32_MAX;
}

/* Where a write goes that is in a page with translated code, but not to the code. */
static uint8_t *beside_code(struct vcpu *vcpu, uint64_t linear, unsigned size, unsigned access)
{
    uint64_t page;
    uint8_t *host = mmu_find_traced(&vcpu->cpu, linear, size, access, &page);
    if (!host || block_cache_covers(&vcpu->cache, page, (unsigned)linear & 4095, size))
        return NULL;
    as_mark_dirty(vcpu->mmu.as, page);
    vcpu->stats.writes_beside_code++;
    return host;
}

uint64_t bt_access(struct vcpu *vcpu, uint64_t linear, uint32_t descriptor, uint64_t host_pc)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    unsigned size = descriptor & ACCESS_SIZE_MASK;
    unsigned access = mmu_cpl_access(cpu) | (descriptor & ACCESS_WRITE ? (unsigned)MMU_WRITE : 0);
    vcpu->stats.tlb_misses++;
    bool window = descriptor & ACCESS_WINDOW;
    vcpu->exit_pc = window ? 0 : host_pc;
    vcpu->exit_reason = BT_EXIT_SLOW;
    if (vcpu->mode.bits == 64 && !(mmu_canonical(linear) && mmu_canonical(linear + size - 1)))
        return window ? ACCESS_NO_WINDOW : 0;
    if (vcpu->mode.bits != 64 && (uint32_t)linear + (uint64_t)size > 0x100000000ull)
        return window ? ACCESS_NO_WINDOW : 0; /* beyond the limit of a flat segment */
    if (vcpu->alignment && !window && (linear & (mmu_natural_alignment(size) - 1)))
        return 0; /* #AC comes before what the page walk may raise or change */
    /* A window's access may never come; #GP for misalignment and #MF come before this one. */
    if (window || (size >= 16 && (linear & (size - 1))) || bt_x87_pending(vcpu))
        access |= MMU_AHEAD;
    uint8_t *host = descriptor & ACCESS_WRITE ? beside_code(vcpu, linear, size, access) : NULL;
    if (host) {
        vcpu->exit_pc = 0;
        return (uint64_t)(uintptr_t)host;
    }
    switch (mmu_fill(cpu, linear, size, access, &host)) {
    case MMU_DIRECT:
        vcpu->exit_pc = 0;
        return (uint64_t)(uintptr_t)host;
    case MMU_INDIRECT:
        return window ? ACCESS_NO_WINDOW : 0;
    case MMU_FAULT: /* not ahead */
        break;
    }
    vcpu->exit_reason = BT_EXIT_GUEST_FAULT;
    return 0;
}

static void trace_op(struct vcpu *vcpu, const struct insn *insn)
{
    bt_park_vectors(&vcpu->cpu);
    fprintf(stderr, "callout %04x:%016llx %s\n", vcpu->cpu.seg[X86_CS].selector,
            (unsigned long long)vcpu->cpu.rip, op_name((enum insn_op)insn->op));
}

/* As one store: the stubs load both as one, which would have to wait for a store of half of it. */
static void set_rare_flags(struct vcpu *vcpu)
{
    _Static_assert(offsetof(struct vcpu, alignment) == offsetof(struct vcpu, direction) + 1,
                   "order");
    unsigned direction = (vcpu->cpu.aflags & X86_DF_FLAG) != 0;
    vcpu->rare_flags = (uint16_t)(direction | (unsigned)vcpu->alignment << 8);
}

/* What comes between two iterations of a string instruction saves RF set (SDM vol. 3, 17.3.1.1). */
static void between_iterations(struct x86_cpu *cpu)
{
    cpu->sflags |= X86_RF;
}

uint32_t bt_callout(struct vcpu *vcpu, const struct xlate_site *site)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    const struct insn *insn = &site->insn;
    cpu->rip = site->ip;
    vcpu->stats.callouts[insn->op]++;
    if (vcpu->config.trace & TRACE_CALLOUTS)
        trace_op(vcpu, insn);
    enum op_result result = op_function((enum insn_op)insn->op)(cpu, insn);
    set_rare_flags(vcpu);
    switch (result) {
    case OP_NEXT:
        /* An interrupt that the operation caused comes before the next instruction. */
        if (!cpu->dirty && !cpu->shadow && !cpu->exit_request && !vcpu->stale &&
            !vcpu->code_changed && !vcpu->mmu.debug_hits)
            return BT_CONTINUE;
        cpu->rip = (cpu->rip + insn->len) & ip_mask(vcpu);
        return BT_EXIT_CALLOUT;
    case OP_REPEAT:
        between_iterations(cpu);
        return BT_EXIT_CALLOUT;
    case OP_RETRY:
        vcpu->mmu.debug_hits = 0; /* the next attempt finds them again */
        return BT_EXIT_EVENT;
    case OP_JUMP:
        return BT_EXIT_CALLOUT;
    case OP_HALT:
        cpu->rip = (cpu->rip + insn->len) & ip_mask(vcpu);
        return BT_EXIT_HALT;
    case OP_FAULT:
        break;
    }
    return BT_EXIT_GUEST_FAULT;
}

enum bt_exit bt_enter(struct vcpu *vcpu, const uint8_t *host)
{
    vcpu->enter_target = (uint64_t)(uintptr_t)host;
    set_rare_flags(vcpu);
    vcpu->stats.enters++;
    uint32_t (*enter)(void) = (uint32_t(*)(void))(uintptr_t)vcpu->stub_enter;
    enum bt_exit reason = (enum bt_exit)enter();
    vcpu->stats.exits[reason]++;
    if (vcpu->config.trace & TRACE_EXITS)
        bt_trace_exit(vcpu, reason);
    if (vcpu->exit_pc) { /* an access or bounce stub: find the guest instruction */
        bt_locate(vcpu, vcpu->exit_pc - 1);
        vcpu->exit_pc = 0;
    }
    return reason;
}

/* Delivers cpu.fault; false: shutdown. */
static bool deliver_fault(struct vcpu *vcpu)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    vcpu->stats.faults[cpu->fault.vector & 31]++;
    if (vcpu->config.trace & TRACE_INT) {
        bt_park_vectors(cpu);
        fprintf(stderr, "fault %u error %#x at %04x:%016llx cr2 %#llx\n", cpu->fault.vector,
                cpu->fault.error, cpu->seg[X86_CS].selector, (unsigned long long)cpu->rip,
                (unsigned long long)cpu->fault.cr2);
    }
    if (bt_x87_pending(vcpu)) /* finds its pointers, by what registers hold before the delivery */
        bt_park_vectors(cpu);
    vcpu->mmu.debug_hits = 0; /* of an instruction that did not complete */
    cpu->shadow = X86_SHADOW_NONE;
    cpu->halted = 0; /* the trap behind HLT */
    return fault_deliver(cpu) == 0 || !cpu->shutdown;
}

static void deliver_event(struct vcpu *vcpu, enum event_kind kind, uint8_t vector)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    vcpu->stats.interrupts++;
    cpu->halted = 0;
    if (vcpu->config.trace & TRACE_INT) {
        bt_park_vectors(cpu);
        fprintf(stderr, "interrupt %#x at %04x:%016llx\n", vector, cpu->seg[X86_CS].selector,
                (unsigned long long)cpu->rip);
    }
    if (event_deliver(cpu, kind, vector, false, 0, cpu->rip) < 0)
        deliver_fault(vcpu);
}

/* Interrupts, NMI, kicks. False: vcpu_run returns. */
static bool handle_events(struct vcpu *vcpu)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    cpu->exit_async = 0;
    cpu->exit_window = 0;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (vcpu->kicked) {
        vcpu->kicked = 0;
        cpu->exit_async = 1; /* look again at the next run */
        return false;
    }
    if (cpu->nmi_pending && !cpu->nmi_blocked && !cpu->shadow) {
        cpu->nmi_pending = 0;
        deliver_event(vcpu, EVENT_NMI, X86_NMI);
    }
    const struct x86_platform *platform = &cpu->platform;
    bt_park_vectors(cpu);
    bool pending = platform->intr_pending(platform->ctx);
    if (pending && cpu->iflag && !cpu->shadow) {
        int vector = platform->intr_ack(platform->ctx);
        if (vector >= 0)
            deliver_event(vcpu, EVENT_EXTERNAL, (uint8_t)vector);
        pending = platform->intr_pending(platform->ctx);
    }
    cpu->intr_wanted = pending;
    return true;
}

/* An NMI may have been waiting for the IRET of another, or for the end of a shadow. */
static bool event_due(const struct x86_cpu *cpu)
{
    return cpu->exit_request || cpu->halted || (cpu->intr_wanted && cpu->iflag) ||
           (cpu->nmi_pending && !cpu->nmi_blocked);
}

/* Bits of DR6 for enabled instruction breakpoints at the current instruction, 0: none. */
static uint64_t breakpoint_hit(const struct x86_cpu *cpu)
{
    uint64_t dr7 = cpu->dr[7], hit = 0;
    if ((cpu->sflags & X86_RF) || cpu->shadow == X86_SHADOW_MOV_SS)
        return 0;
    uint64_t linear = x86_code64(cpu) ? cpu->rip : (uint32_t)(cpu->seg[X86_CS].base + cpu->rip);
    for (unsigned i = 0; i < 4; i++) {
        bool enabled = dr7 >> (2 * i) & 3, execute = !(dr7 >> (16 + 4 * i) & 3);
        if (enabled && execute && cpu->dr[i] == linear)
            hit |= 1ull << i;
    }
    return hit;
}

static bool breakpoints_armed(const struct x86_cpu *cpu)
{
    if (!(cpu->dr[7] & 0xff))
        return false;
    for (unsigned i = 0; i < 4; i++) {
        if ((cpu->dr[7] >> (2 * i) & 3) && !(cpu->dr[7] >> (16 + 4 * i) & 3))
            return true;
    }
    return false;
}

static int raise_debug(struct x86_cpu *cpu, uint64_t dr6, bool trap)
{
    x86_raise(cpu, X86_DB);
    cpu->fault.dr6 = dr6;
    cpu->fault.trap = trap;
    return -1;
}

/* A slow step; false: shutdown or host error. */
static bool finish_slow(struct vcpu *vcpu, bool *completed)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    const struct insn *insn = NULL;
    vcpu->stats.slow_steps++;
    enum op_result result = bt_slow_step(vcpu, &insn);
    switch (result) {
    case OP_NEXT:
        cpu->rip = (cpu->rip + insn->len) & ip_mask(vcpu);
        *completed = true;
        return true;
    case OP_JUMP:
        *completed = true;
        return true;
    case OP_HALT:
        if (vcpu->host_error[0]) /* a host failure during the bounce */
            return false;
        cpu->rip = (cpu->rip + insn->len) & ip_mask(vcpu);
        *completed = true;
        return true;
    case OP_REPEAT:
        between_iterations(cpu);
        *completed = true;
        return true;
    case OP_RETRY:
        vcpu->mmu.debug_hits = 0;
        return true;
    case OP_FAULT:
        break;
    }
    return deliver_fault(vcpu);
}

/* What happened in translated code. completed: at least one instruction retired last. */
static bool handle_exit(struct vcpu *vcpu, enum bt_exit reason, uint32_t *link, bool *completed)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    *completed = false;
    switch (reason) {
    case BT_EXIT_LINK:
        *link = (uint32_t)vcpu->exit_arg;
        cpu->rip = vcpu->cache.exits[*link].target;
        return true;
    case BT_EXIT_LOOKUP:
        vcpu->stats.jump_misses++;
        return true;
    case BT_EXIT_EVENT:
    case BT_CONTINUE:
        return true;
    case BT_EXIT_DONE:
    case BT_EXIT_CALLOUT:
    case BT_EXIT_HALT:
        *completed = true;
        return true;
    case BT_EXIT_GUEST_FAULT:
        return deliver_fault(vcpu);
    case BT_EXIT_SLOW:
        return finish_slow(vcpu, completed);
    case BT_EXIT_HOST_FAULT:
        switch (bt_host_fault(vcpu)) {
        case 0:
            return deliver_fault(vcpu);
        case 1:
            return true;
        default:
            return false;
        }
    }
    return true;
}

/*
 * #DB behind a completed instruction (SDM vol. 3, 17.3.1): single step, data and port breakpoints;
 * MOV SS drops the first and holds back the others (6.8.3). False: shutdown.
 */
static bool debug_trap(struct vcpu *vcpu, bool step)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    uint64_t dr6 = vcpu->mmu.held_hits | vcpu->mmu.debug_hits;
    vcpu->mmu.held_hits = 0;
    vcpu->mmu.debug_hits = 0;
    if (cpu->shadow == X86_SHADOW_MOV_SS) {
        vcpu->mmu.held_hits = (unsigned)dr6;
        return true;
    }
    dr6 |= step ? X86_DR6_BS : 0;
    if (!dr6)
        return true;
    if (cpu->dirty) {
        cpu->dirty = 0;
        bt_update_mode(vcpu);
    }
    raise_debug(cpu, dr6, true);
    return deliver_fault(vcpu);
}

/*
 * Instructions that enter a handler or system call with TF clear have no step behind them; TF is
 * looked at when they are done.
 */
static uint64_t stepless_callouts(const struct vcpu *vcpu)
{
    const uint64_t *callouts = vcpu->stats.callouts;
    return callouts[OP_INT_N] + callouts[OP_INT3] + callouts[OP_INT1] + callouts[OP_INTO] +
           callouts[OP_SYSCALL] + callouts[OP_SYSRET];
}

struct single { /* how one instruction ended */
    enum bt_exit reason;
    const uint8_t *host; /* its block */
    bool completed;
};

/* FERR# follows the exceptions that are pending, and takes IGNNE# along (SDM vol. 1, D.2). */
static void follow_ferr(struct vcpu *vcpu)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    if (bt_x87_pending(vcpu))
        return;
    cpu->ferr = 0;
    cpu->ignne = X86_IGNNE_OFF;
    bt_park_vectors(cpu);
    if (cpu->platform.ferr_set)
        cpu->platform.ferr_set(cpu->platform.ctx, false);
}

/* Runs the current instruction, which may wait. False: shutdown or host error. */
static bool run_once(struct vcpu *vcpu, struct single *single)
{
    uint32_t link = NO_EXIT, block = bt_block(vcpu, BT_SINGLE);
    single->completed = false;
    single->reason = BT_EXIT_GUEST_FAULT;
    if (block == BLOCK_NONE)
        return deliver_fault(vcpu);
    single->host = block_body(&vcpu->cache, block);
    single->reason = bt_enter(vcpu, single->host);
    return handle_exit(vcpu, single->reason, &link, &single->completed);
}

/* Runs it with IGNNE# asserted: what it does not see is there again behind it. */
static bool run_ignoring(struct vcpu *vcpu, struct single *single)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    const uint64_t *callouts = vcpu->stats.callouts;
    if (!run_once(vcpu, single))
        return false;
    if (cpu->ignne != X86_IGNNE_MET)
        return true;
    cpu->ignne = X86_IGNNE_ON;
    uint64_t loads = callouts[OP_FLDENV] + callouts[OP_FRSTOR];
    unsigned exceptions = x87_hide_exceptions(cpu);
    bool alive = run_once(vcpu, single);
    bool loaded = single->completed && loads != callouts[OP_FLDENV] + callouts[OP_FRSTOR];
    if (!loaded) /* a status word of its own */
        x87_show_exceptions(cpu, exceptions);
    return alive;
}

/* One instruction with single-step, breakpoints, an interrupt shadow or IGNNE# in force. */
static bool run_single(struct vcpu *vcpu)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    bool tf = cpu->sflags & X86_TF;
    uint64_t hit = breakpoint_hit(cpu);
    vcpu->stats.single_steps++;
    if (hit) {
        raise_debug(cpu, hit, false);
        return deliver_fault(vcpu);
    }
    cpu->shadow = X86_SHADOW_NONE;
    cpu->sflags &=
        ~(uint32_t)X86_RF; /* before the instruction, which may be an IRET that sets it */
    uint64_t stepless = stepless_callouts(vcpu);
    struct single single;
    if (cpu->ignne)
        follow_ferr(vcpu);
    if (!(cpu->ignne ? run_ignoring(vcpu, &single) : run_once(vcpu, &single)))
        return false;
    if (!single.completed) /* what MOV SS held back comes at the entry of the handler */
        return !vcpu->mmu.held_hits || debug_trap(vcpu, false);
    uint64_t next = cpu->rip;
    if (single.reason == BT_EXIT_DONE) {
        x86_raise_error(cpu, X86_GP, 0);
        bt_undo_branch(vcpu, (uint64_t)(uintptr_t)single.host);
        if (cpu->rip != next) /* the fault is the branch's: nothing to trap behind */
            return deliver_fault(vcpu);
    }
    bool still = cpu->sflags & X86_TF; /* INTO may have done nothing */
    return debug_trap(vcpu, tf && (still || stepless == stepless_callouts(vcpu)));
}

static enum vcpu_exit stop_reason(struct vcpu *vcpu, struct vd_error *err)
{
    bt_park_vectors(&vcpu->cpu);
    if (vcpu->cpu.shutdown)
        return VCPU_EXIT_SHUTDOWN;
    error_set(err, "%s", vcpu->host_error);
    return VCPU_EXIT_ERROR;
}

/* Host address of the branch that left translated code, 0: it was none. */
static uint64_t leaving_branch(const struct vcpu *vcpu, enum bt_exit reason)
{
    const struct block_cache *cache = &vcpu->cache;
    uint64_t base = (uint64_t)(uintptr_t)cache->memory.exec;
    if (reason == BT_EXIT_LINK)
        return base + cache->exits[vcpu->exit_arg].site;
    return reason == BT_EXIT_LOOKUP ? base + (uint32_t)(vcpu->branch - (uint32_t)base) : 0;
}

static enum vcpu_exit dispatch(struct vcpu *vcpu, struct vd_error *err)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    uint32_t link = NO_EXIT;
    uint64_t resets = 0, branch = 0;
    bool indirect = false;
    for (;;) {
        vcpu->code_changed = false;
        if (vcpu->stale)
            bt_forget_addresses(vcpu);
        if (event_due(cpu)) {
            if (!handle_events(vcpu))
                return VCPU_EXIT_KICK;
            if (cpu->shutdown)
                return stop_reason(vcpu, err);
            if (cpu->halted)
                return VCPU_EXIT_HALT;
            link = NO_EXIT;
            branch = 0;
            indirect = false;
        }
        /* Delivering an event accesses memory, too. */
        if (vcpu->mmu.debug_hits && !debug_trap(vcpu, false))
            return stop_reason(vcpu, err);
        if (cpu->dirty) {
            cpu->dirty = 0;
            bt_update_mode(vcpu);
            link = NO_EXIT;
            indirect = false;
        }
        if (cpu->shadow || (cpu->sflags & X86_TF) || cpu->ignne || breakpoints_armed(cpu)) {
            link = NO_EXIT;
            branch = 0;
            indirect = false;
            if (!run_single(vcpu))
                return stop_reason(vcpu, err);
            continue;
        }
        enum bt_variant variant =
            link == NO_EXIT ? BT_NORMAL : (enum bt_variant)vcpu->cache.exits[link].variant;
        uint32_t block = bt_block(vcpu, variant);
        if (block == BLOCK_NONE) {
            link = NO_EXIT;
            if (branch)
                bt_undo_branch(vcpu, branch);
            branch = 0;
            if (!deliver_fault(vcpu))
                return stop_reason(vcpu, err);
            continue;
        }
        bool traced = bt_target_is_traced(vcpu, block);
        if (traced && link != NO_EXIT && resets == vcpu->cache.stats.resets && !vcpu->stale)
            block_cache_link(&vcpu->cache, link, block, bt_target_is_global(vcpu, block));
        else if (traced && indirect)
            bt_jump_add(vcpu, cpu->rip, block, bt_target_is_global(vcpu, block));
        link = NO_EXIT;
        resets = vcpu->cache.stats.resets;
        cpu->sflags &= ~(uint32_t)X86_RF; /* lasts for one instruction */
        enum bt_exit reason = bt_enter(vcpu, block_body(&vcpu->cache, block));
        indirect = reason == BT_EXIT_LOOKUP;
        branch = leaving_branch(vcpu, reason);
        bool completed;
        if (!handle_exit(vcpu, reason, &link, &completed) ||
            (completed && vcpu->mmu.debug_hits && !debug_trap(vcpu, false)))
            return stop_reason(vcpu, err);
    }
}

enum vcpu_exit bt_run(struct vcpu *vcpu, struct vd_error *err)
{
    uint64_t saved = _readgsbase_u64();
    _writegsbase_u64((uint64_t)(uintptr_t)vcpu);
    enum vcpu_exit exit = dispatch(vcpu, err);
    bt_park_vectors(&vcpu->cpu);
    _writegsbase_u64(saved);
    return exit;
}
