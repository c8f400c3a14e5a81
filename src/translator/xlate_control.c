/*
 * Control transfers. Exits with a known target are linked to the target's code: directly when
 * target and block share a page, else through a cell, which is reset when any address translation
 * changes. A target in the last bytes of a page may be an instruction that crosses into the next
 * page: it gets a cell, too.
 */
#include "base/bytes.h"
#include "translator/xlate_internal.h"

enum { PAGE = 4096, MAX_INSN = 15 };

static bool needs_cell(const struct xlate *x, uint64_t target)
{
    uint64_t base = x->in->cs_base;
    uint64_t first = x->start + base, last = first + x->bytes - 1;
    uint64_t to = target + base;
    return first / PAGE != to / PAGE || first / PAGE != last / PAGE || to % PAGE > PAGE - MAX_INSN;
}

static unsigned exit_new(struct xlate *x, uint64_t target)
{
    if (x->out->exit_count == XLATE_MAX_EXITS) {
        x->failed = true;
        return 0;
    }
    unsigned number = x->out->exit_count++;
    x->out->exits[number] = (struct xlate_exit){.target = target,
                                                .cell = needs_cell(x, target),
                                                .poll = target <= x->branch_ip || x->sti_seen};
    return number;
}

/* jmp/call [rip + cell]: reg selects the operation in opcode FF. */
static void emit_cell(struct xlate *x, unsigned exit_number, unsigned reg)
{
    struct emit *e = &x->e;
    uint64_t cell = x->in->alloc->cell(x->in->alloc->ctx, exit_number);
    if (!cell)
        x->failed = true;
    emit8(e, 0xff);
    emit8(e, reg << 3 | 5);
    x->out->exits[exit_number].site = e->pos;
    emit32(e, (uint32_t)(cell - (e->exec + e->pos + 4)));
}

void emit_cell_jump(struct xlate *x, unsigned exit_number)
{
    emit_cell(x, exit_number, 4);
}

/* To the exit's code, once that is linked. */
static void emit_exit_jump(struct xlate *x, unsigned number)
{
    if (x->out->exits[number].cell)
        emit_cell_jump(x, number);
    else
        x->out->exits[number].site = emit_jmp_later(&x->e);
}

static void emit_done(struct xlate *x, uint64_t target)
{
    emit_mov_imm(&x->e, H_R10, target);
    emit_jmp(&x->e, x->env->stub_done);
}

static bool leaves_always(const struct xlate *x)
{
    return x->mode->single || x->mode->bounce;
}

static void settle_for_exit(struct xlate *x)
{
    if (x->parked)
        flags_unpark(x, false);
}

void emit_exit(struct xlate *x, uint64_t target)
{
    settle_for_exit(x);
    if (leaves_always(x)) {
        emit_done(x, target);
        return;
    }
    emit_exit_jump(x, exit_new(x, target));
}

static uint64_t branch_target(const struct xlate *x)
{
    const struct insn *insn = x->insn;
    unsigned size = x->mode->bits == 64 ? 8 : insn->opsize;
    return (x->ip + insn->len + (uint64_t)insn->imm) & bytes_mask(size);
}

/* ip behind the current instruction. Only branches cut it to 16 bits: code runs into the limit. */
static uint64_t next_ip(const struct xlate *x)
{
    return (x->ip + x->insn->len) & bytes_mask(x->mode->bits == 64 ? 8 : 4);
}

void emit_exit_variant(struct xlate *x)
{
    unsigned number = exit_new(x, x->ip);
    x->out->exits[number].no_windows = true;
    x->out->exits[number].poll = false;
    emit_exit_jump(x, number);
}

void xlate_jump(struct xlate *x)
{
    emit_exit(x, branch_target(x));
}

/* Conditional exit: flags are native. */
static void emit_exit_if(struct xlate *x, unsigned cc, uint64_t target)
{
    struct emit *e = &x->e;
    if (leaves_always(x)) {
        uint32_t over = emit_jcc_later(e, cc ^ 1);
        emit_done(x, target);
        emit_patch(e, over, e->pos);
        return;
    }
    unsigned number = exit_new(x, target);
    uint32_t site = emit_jcc_later(e, cc);
    if (x->out->exits[number].cell)
        cold_add(x, COLD_CELL_JUMP, site)->value = number;
    else
        x->out->exits[number].site = site;
}

void xlate_jcc(struct xlate *x, bool last)
{
    settle_for_exit(x);
    emit_exit_if(x, x->insn->cond, branch_target(x));
    if (last)
        emit_exit(x, next_ip(x));
}

/* jrcxz, or jecxz with size 4; returns the position of the rel8. */
static uint32_t emit_jcxz(struct xlate *x, unsigned size)
{
    struct emit *e = &x->e;
    if (size == 4)
        emit8(e, 0x67);
    emit8(e, 0xe3);
    emit8(e, 0);
    return e->pos - 1;
}

void xlate_loop(struct xlate *x)
{
    const struct insn *insn = x->insn;
    struct emit *e = &x->e;
    unsigned size = insn->addrsize;
    bool is_jcxz = insn->opcode == 0xe3;
    settle_for_exit(x);
    if (!is_jcxz && size == 2) {
        emit_lea(e, W32, H_R9, H_RCX, H_NONE, 0, -1);
        guest_store(x, X86_RCX, 2, H_R9);
    } else if (!is_jcxz) {
        emit_lea(e, size == 8 ? W64 : W32, H_RCX, H_RCX, H_NONE, 0, -1);
    }
    if (size == 2) { /* no JCXZ in 64-bit mode: test a zero-extended copy */
        emit_mov(e, W64, H_R10, H_RCX);
        emit_reg_reg(e, W32, 0x0fb7, H_RCX, H_RCX);
    }
    uint32_t zero = emit_jcxz(x, size == 4 ? 4 : 8);
    if (size == 2)
        emit_mov(e, W64, H_RCX, H_R10);
    uint32_t skip = 0;
    if (insn->opcode == 0xe0 || insn->opcode == 0xe1) { /* LOOPNE, LOOPE */
        skip = emit_jcc_later(e, insn->opcode == 0xe0 ? CC_E : CC_NE);
    }
    emit_exit(x, is_jcxz ? next_ip(x) : branch_target(x));
    emit_patch8(e, zero, e->pos);
    if (size == 2)
        emit_mov(e, W64, H_RCX, H_R10);
    if (skip)
        emit_patch(e, skip, e->pos);
    emit_exit(x, is_jcxz ? branch_target(x) : next_ip(x));
}

/* spill[0] = target of an indirect branch. */
static void load_target(struct xlate *x)
{
    const struct insn *insn = x->insn;
    struct emit *e = &x->e;
    unsigned size = insn->opsize;
    if (insn->mem.present) {
        emit_operand(x, false);
        emit_load_operand(x, size, H_R10);
    } else {
        unsigned src = guest_load(x, insn->rm, H_R10);
        emit_reg_reg(e, size == 8 ? W64 : W32, size == 2 ? 0x0fb7 : 0x8b, H_R10, src);
    }
}

/* Tells the dispatcher which branch it was, should the target be no place to go. */
static void note_branch(struct xlate *x)
{
    struct emit *e = &x->e;
    map_mark(x);
    emit_store_gs_imm32(e, x->env->branch, (uint32_t)(e->exec + e->pos));
}

static void emit_indirect(struct xlate *x)
{
    note_branch(x);
    emit_jmp(&x->e, leaves_always(x) ? x->env->stub_done : x->env->stub_indirect[is_user(x)]);
}

void xlate_jump_indirect(struct xlate *x)
{
    load_target(x);
    settle_for_exit(x); /* R10 is taken, R9 is free */
    emit_indirect(x);
}

/* Stores the return address on the guest stack, whose operand is addressed. */
static void store_return(struct xlate *x, uint64_t ip)
{
    unsigned size = x->insn->opsize;
    if (size != 8 || (uint64_t)(int64_t)(int32_t)ip == ip) {
        emit_store_operand_imm(x, size, (uint32_t)ip);
    } else {
        emit_mov_imm(&x->e, H_R9, ip);
        emit_store_operand(x, size, H_R9);
    }
    emit_sp_add(x, -(int)size);
}

/*
 * The negated guest return address onto the host stack, below the host return address to come: a
 * return adds instead of comparing, which leaves flags alone.
 */
static void push_pair(struct xlate *x, uint64_t ip)
{
    struct emit *e = &x->e;
    uint64_t negated = 0 - ip;
    if (x->insn->opsize != 8 || (uint64_t)(int64_t)(int32_t)negated == negated) {
        emit8(e, 0x68);
        emit32(e, (uint32_t)negated);
    } else {
        emit_mov_imm(e, H_R9, negated);
        emit8(e, 0x41);
        emit8(e, 0x51); /* push r9 */
    }
}

/*
 * The register with the host address of the target in spill[0]. A target that no CALL may go to is
 * in no cache: only a miss has to ask for it, and nothing is on the stack yet.
 */
static unsigned emit_find_target(struct xlate *x)
{
    struct emit *e = &x->e;
    const struct xlate_env *env = x->env;
    unsigned code = x->base == H_R10 ? H_R8 : H_R10; /* R8: the window, if any, ends here */
    emit_store_gs(e, W64, env->spill[1], H_RCX);
    emit_load_gs(e, W64, code, env->spill[0]);
    emit_mov_imm(e, H_RCX, 64 - env->jump_bits);
    emit_shlx(e, H_R9, code, H_RCX);
    emit_mov_imm(e, H_RCX, 64 - env->jump_bits - env->jump_entry_shift);
    emit_shrx(e, H_R9, H_R9, H_RCX);
    emit_reg_gs_index(e, W64, 0x8b, H_RCX, H_R9, env->jump_ip[is_user(x)]);
    emit_lea(e, W64, H_RCX, H_RCX, code, 0, 0);
    uint32_t hit = emit_jcxz(x, 8);
    struct cold *cold = cold_add(x, COLD_TARGET, emit_jmp_later(e));
    emit_patch8(e, hit, e->pos);
    emit_load_gs(e, W64, H_RCX, env->spill[1]);
    emit_reg_gs_index(e, W64, 0x8b, code, H_R9, env->jump_host[is_user(x)]);
    cold->back = e->pos;
    cold->value = code;
    return code;
}

void emit_cold_target(struct xlate *x, const struct cold *cold)
{
    struct emit *e = &x->e;
    bool park = !x->parked; /* flags are live behind a CALL to who knows where */
    emit_load_gs(e, W64, H_RCX, x->env->spill[1]);
    if (park)
        flags_park(x);
    emit_call(e, x->env->stub_check_target[x->mode->bits == 64]);
    if (park)
        flags_unpark(x, false);
    emit_mov_imm(e, cold->value, x->env->stub_missed_call);
    emit_patch(e, emit_jmp_later(e), cold->back);
}

/* Whether execution may go on at ip. */
static bool is_valid_ip(const struct xlate *x, uint64_t ip)
{
    if (x->mode->bits == 64)
        return (uint64_t)((int64_t)(ip << 16) >> 16) == ip;
    return ip <= x->in->cs_limit;
}

static void call_direct(struct xlate *x, uint64_t next)
{
    struct emit *e = &x->e;
    emit_stack(x, -(int)x->insn->opsize, x->insn->opsize, true);
    store_return(x, next);
    settle_for_exit(x);
    push_pair(x, next);
    unsigned number = exit_new(x, branch_target(x));
    if (x->out->exits[number].cell)
        emit_cell(x, number, 2);
    else
        x->out->exits[number].site = emit_call(e, e->exec);
}

static void call_indirect(struct xlate *x, uint64_t next)
{
    struct emit *e = &x->e;
    load_target(x);
    emit_store_gs(e, W64, x->env->spill[0], H_R10);
    emit_stack(x, -(int)x->insn->opsize, x->insn->opsize, true);
    unsigned code = emit_find_target(x);
    store_return(x, next);
    settle_for_exit(x);
    push_pair(x, next);
    emit_rex(e, W32, H_NONE, H_NONE, code);
    emit8(e, 0xff);
    emit8(e, 0xd0 | (code & 7));
}

/*
 * C executes a CALL that faults, which must leave the stack as it is, and one that no RET may
 * return from: its return address must not be predicted, since nobody would check it.
 */
void xlate_call(struct xlate *x)
{
    struct emit *e = &x->e;
    bool direct = x->insn->kind == KIND_CALL_REL;
    uint64_t next = next_ip(x) & bytes_mask(x->insn->opsize); /* as RET will find it */
    if (leaves_always(x) || !is_valid_ip(x, next) ||
        (direct && !is_valid_ip(x, branch_target(x)))) {
        flags_clobber(x); /* parks them if they are live */
        emit_call(e, x->env->stub_bounce);
        emit8(e, 0x90); /* the return address, which is never used, stays inside the block */
        return;
    }
    if (direct)
        call_direct(x, next);
    else
        call_indirect(x, next);
    emit_lea(e, W64, H_RSP, H_RSP, H_NONE, 0, 8); /* drop the guest half of the pair */
    emit_exit(x, next);
}

void xlate_return(struct xlate *x)
{
    const struct insn *insn = x->insn;
    struct emit *e = &x->e;
    unsigned size = insn->opsize;
    emit_stack(x, 0, size, false);
    emit_load_operand(x, size, H_R10);
    emit_sp_add(x, (int)size + (insn->imm_size ? (int)(uint16_t)insn->imm : 0));
    settle_for_exit(x);
    if (leaves_always(x)) {
        emit_indirect(x);
        return;
    }
    /* Zero if the address is the predicted one; JRCXZ and LEA touch no flags. */
    emit_mov(e, W64, H_R9, H_RCX);
    emit_reg_mem(e, W64, 0x8b, H_RCX, H_RSP, H_NONE, 0, 8);
    emit_lea(e, size == 8 ? W64 : W32, H_RCX, H_RCX, H_R10, 0, 0);
    uint32_t hit = emit_jcxz(x, 8);
    emit_mov(e, W64, H_RCX, H_R9);
    note_branch(x);
    emit_jmp(e, x->env->stub_return_miss[is_user(x)]);
    emit_patch8(e, hit, e->pos);
    emit_mov(e, W64, H_RCX, H_R9);
    if (x->mode->count)
        emit_count(x, x->env->return_hits);
    emit8(e, 0xc3);
}
