#include "translator/xlate_internal.h"

enum { MAX_INSN = 15 };
_Static_assert(XLATE_MAX_INSNS *MAX_INSN <= XLATE_IP, "guest ip offsets fit into the map");

void map_mark(struct xlate *x)
{
    struct xlate_result *out = x->out;
    unsigned ip =
        (unsigned)(x->ip - x->start) | (x->parked ? (unsigned)XLATE_PARKED : 0) | x->borrowed;
    if (out->map_count) {
        const struct xlate_map *last = &out->map[out->map_count - 1];
        if (last->ip == ip)
            return;
        if (last->host == x->e.pos)
            out->map_count--;
    }
    if (out->map_count == XLATE_MAX_MAP) {
        x->failed = true;
        return;
    }
    out->map[out->map_count++] = (struct xlate_map){.host = (uint16_t)x->e.pos, .ip = (uint16_t)ip};
}

struct cold *cold_add(struct xlate *x, enum cold_kind kind, uint32_t site)
{
    if (x->cold_count == COLD_MAX) {
        x->failed = true;
        return &x->cold[0];
    }
    struct cold *cold = &x->cold[x->cold_count++];
    *cold = (struct cold){.kind = (uint8_t)kind,
                          .parked = x->parked,
                          .site = site,
                          .ip = (uint16_t)(x->ip - x->start)};
    return cold;
}

struct cold *cold_unless_rcx_zero(struct xlate *x, enum cold_kind kind)
{
    emit8(&x->e, 0xe3); /* jrcxz */
    emit8(&x->e, 5);    /* over the jump */
    return cold_add(x, kind, emit_jmp_later(&x->e));
}

void emit_count(struct xlate *x, int32_t counter)
{
    emit_load_gs(&x->e, W64, H_R9, counter);
    emit_lea(&x->e, W64, H_R9, H_R9, H_NONE, 0, 1);
    emit_store_gs(&x->e, W64, counter, H_R9);
}

void flags_park(struct xlate *x)
{
    struct emit *e = &x->e;
    emit_mov(e, W64, H_R9, H_RAX);
    emit8(e, 0x9f);                         /* lahf */
    emit_reg_reg(e, W32, 0x0f90, 0, H_RAX); /* seto al */
    emit_reg_gs(e, 0x66, W32, 0x89, H_RAX, x->env->flags_park);
    emit_mov(e, W64, H_RAX, H_R9);
    x->parked = true;
    map_mark(x);
}

void flags_unpark(struct xlate *x, bool keep_r9)
{
    struct emit *e = &x->e;
    if (keep_r9)
        emit_store_gs(e, W64, x->env->spill[1], H_RAX);
    else
        emit_mov(e, W64, H_R9, H_RAX);
    emit_reg_gs(e, 0, W32, 0x0fb7, H_RAX, x->env->flags_park); /* movzx eax, word */
    emit8(e, 0x04); /* add al, 7fh: overflows exactly if al was 1 */
    emit8(e, 0x7f);
    emit8(e, 0x9e); /* sahf */
    if (keep_r9)
        emit_load_gs(e, W64, H_RAX, x->env->spill[1]);
    else
        emit_mov(e, W64, H_RAX, H_R9);
    x->parked = false;
    map_mark(x);
}

void flags_clobber(struct xlate *x)
{
    if (x->live_now && !x->parked)
        flags_park(x);
}

/* With exact flags, what may fault reads them all: the handler sees them. */
static uint16_t read_by_fault(const struct xlate *x, const struct insn *insn)
{
    bool divides = insn->map == 0 && (insn->opcode & 0xfe) == 0xf6 && (insn->modrm >> 3 & 6) == 6;
    bool faults = insn->mem.access || insn->kind == KIND_PUSH || insn->kind == KIND_POP ||
                  insn->kind == KIND_LEAVE || insn->kind == KIND_XLAT ||
                  insn->class == INSN_CONTROL || divides || insn->fpu_state != FPU_NONE;
    return x->mode->exact_flags && faults ? (uint16_t)ARITH_FLAGS : 0;
}

/* Flags that matter once the operand of the instruction has been checked; it may still fault by
 * itself. */
static uint16_t live_behind_access(const struct xlate *x)
{
    uint16_t after = x->live[x->number + 1];
    return (uint16_t)((after & ~x->insn->flags_written) | x->insn->flags_read |
                      read_by_fault(x, x->insn)) &
           ARITH_FLAGS;
}

void flags_settle(struct xlate *x)
{
    const struct insn *insn = x->insn;
    if (!x->parked || !((insn->flags_read | insn->flags_written | insn->flags_maybe) & ARITH_FLAGS))
        return;
    if (live_behind_access(x))
        flags_unpark(x, false);
    x->parked = false;
    map_mark(x);
}

void emit_callout(struct xlate *x, const struct insn *insn, enum insn_op op)
{
    if (x->parked)
        flags_unpark(x, false);
    struct xlate_site *site = x->in->alloc->site(x->in->alloc->ctx);
    if (!site) {
        x->failed = true;
        return;
    }
    site->insn = *insn;
    site->insn.op = (uint16_t)op;
    site->ip = x->ip;
    x->vectors_live = false; /* C may park them */
    emit_mov_imm(&x->e, H_R9, (uint64_t)(uintptr_t)site);
    emit_call(&x->e, x->env->stub_callout);
}

/* The C function that must run instead of a copy, OP_NONE: none. */
static enum insn_op callout_of(const struct xlate *x, const struct insn *insn, bool last)
{
    const struct xlate_mode *mode = x->mode;
    bool bit_scan = insn->map == 1 && (insn->opcode & 0xfe) == 0xbc; /* falls back to BSF/BSR */
    if (insn->feature && !bit_scan && !cpuid_has(x->env->cpuid, (enum x86_feature)insn->feature))
        return OP_UD;
    unsigned fpu = mode->fpu;
    if (insn->encoding == ENC_VEX && !(fpu & XLATE_VEX))
        return OP_UD; /* also those on general registers (SDM vol. 2, 2.6 exception type 13) */
    bool unavailable = false;
    switch ((enum insn_fpu)insn->fpu_state) {
    case FPU_NONE:
        break;
    case FPU_X87:
    case FPU_FXSAVE:
    case FPU_MMX:
        unavailable = fpu & (XLATE_EM | XLATE_TS);
        break;
    case FPU_WAIT:
        unavailable = (fpu & XLATE_TS) && (fpu & XLATE_MP);
        break;
    case FPU_SSE:
        unavailable = (fpu & (XLATE_EM | XLATE_TS)) || !(fpu & XLATE_OSFXSR);
        break;
    case FPU_AVX:
        unavailable = (fpu & XLATE_TS) || !(fpu & XLATE_AVX);
        break;
    }
    if (unavailable)
        return OP_FPU_UNAVAILABLE;
    switch ((enum insn_kind)insn->kind) {
    case KIND_CALLOUT:
    case KIND_STRING:
        return insn->op == OP_NONE ? OP_UD : (enum insn_op)insn->op;
    case KIND_CLI:
        return mode->iopl_ok ? OP_NONE : OP_CLI;
    case KIND_STI: /* in line only if the next instruction of the block is its shadow */
        return mode->iopl_ok && !last && !mode->single ? OP_NONE : OP_STI;
    default:
        return OP_NONE;
    }
}

bool insn_needs_callout(const struct xlate *x, const struct insn *insn, bool last)
{
    return callout_of(x, insn, last) != OP_NONE;
}

/* Collects the instructions; returns false if they are too many. */
static bool collect(struct xlate *x)
{
    const struct xlate_input *in = x->in;
    x->count = 0;
    x->bytes = 0;
    x->start = in->blocks[0]->ip;
    for (unsigned b = 0; b < in->block_count; b++) {
        const struct prescan_block *block = in->blocks[b];
        if (block->count > XLATE_MAX_INSNS - x->count)
            return false;
        for (unsigned i = 0; i < block->count; i++)
            x->list[x->count++] = &in->region->insns[block->first + i];
        x->bytes += block->bytes;
    }
    return x->count != 0;
}

/* Arithmetic flags that the taken successor of a block reads. */
static uint16_t live_if_taken(const struct xlate *x, const struct prescan_block *block)
{
    return block->taken >= 0 ? x->in->region->blocks[block->taken].flags_live_in
                             : (uint16_t)ARITH_FLAGS;
}

/* Backwards over all blocks; a side exit adds what its target reads. */
static void find_live_flags(struct xlate *x)
{
    const struct xlate_input *in = x->in;
    unsigned n = x->count;
    const struct prescan_block *last = in->blocks[in->block_count - 1];
    bool unknown = x->mode->single || x->mode->exact_flags;
    uint16_t live = unknown ? (uint16_t)ARITH_FLAGS : last->flags_live_out;
    live &= ARITH_FLAGS;
    x->live[n] = live;
    for (unsigned b = in->block_count; b-- > 0;) {
        if (b + 1 < in->block_count && in->blocks[b]->end == END_BRANCH)
            live |= unknown ? (uint16_t)ARITH_FLAGS : live_if_taken(x, in->blocks[b]) & ARITH_FLAGS;
        for (unsigned i = in->blocks[b]->count; i-- > 0;) {
            const struct insn *insn = x->list[--n];
            if (callout_of(x, insn, n + 1 == x->count) != OP_NONE)
                live = ARITH_FLAGS;
            else
                live = (uint16_t)((live & ~insn->flags_written) | insn->flags_read |
                                  read_by_fault(x, insn)) &
                       ARITH_FLAGS;
            x->live[n] = live;
        }
    }
}

static void emit_poll(struct xlate *x)
{
    struct emit *e = &x->e;
    int32_t request = (int32_t)offsetof(struct x86_cpu, exit_request);
    if (!x->live_now && !x->mode->exact_flags) {
        emit_cmp_gs_imm8(e, request, 0);
        cold_add(x, COLD_EVENT, emit_jcc_later(e, CC_NE));
        return;
    }
    /* Flags are live: test with JRCXZ, which touches none. */
    emit_mov(e, W64, H_R9, H_RCX);
    emit_load_gs(e, W32, H_RCX, request);
    cold_unless_rcx_zero(x, COLD_EVENT_RCX);
    emit_mov(e, W64, H_RCX, H_R9);
}

static void xlate_sti(struct xlate *x)
{
    struct emit *e = &x->e;
    emit_store_gs_imm8(e, (int32_t)offsetof(struct x86_cpu, iflag), 1);
    emit_reg_gs(e, 0, W32, 0x0fb6, H_R9, (int32_t)offsetof(struct x86_cpu, intr_wanted));
    emit_reg_gs(e, 0, W32, 0x88, H_R9, (int32_t)offsetof(struct x86_cpu, exit_window));
    x->sti_seen = true;
}

/* Translates one instruction; returns true if it ended the block's control flow itself. */
static bool xlate_insn(struct xlate *x, bool last)
{
    enum insn_op op = callout_of(x, x->insn, last);
    if (op != OP_NONE) {
        emit_callout(x, x->insn, op);
        return false;
    }
    switch ((enum insn_kind)x->insn->kind) {
    case KIND_COPY:
        if (x->insn->mem.present && !x->insn->mem.access)
            xlate_lea(x);
        else
            xlate_copy(x);
        return false;
    case KIND_NOP:
        return false;
    case KIND_PUSH:
        xlate_push(x);
        return false;
    case KIND_POP:
        xlate_pop(x);
        return false;
    case KIND_LEAVE:
        xlate_leave(x);
        return false;
    case KIND_XLAT:
        xlate_xlat(x);
        return false;
    case KIND_CLI:
        emit_store_gs_imm8(&x->e, (int32_t)offsetof(struct x86_cpu, iflag), 0);
        return false;
    case KIND_STI:
        xlate_sti(x);
        return false;
    case KIND_CALL_REL:
    case KIND_CALL_IND:
        xlate_call(x);
        return true;
    case KIND_JMP_REL:
        xlate_jump(x);
        return true;
    case KIND_JMP_IND:
        xlate_jump_indirect(x);
        return true;
    case KIND_RET:
        xlate_return(x);
        return true;
    case KIND_JCC:
        xlate_jcc(x, last);
        return last;
    case KIND_LOOP:
        xlate_loop(x);
        return true;
    case KIND_STRING:
    case KIND_CALLOUT:
        break; /* handled above */
    }
    return false;
}

static void emit_cold(struct xlate *x, const struct cold *cold)
{
    struct emit *e = &x->e;
    const struct xlate_env *env = x->env;
    emit_patch(e, cold->site, e->pos);
    x->ip = x->start + cold->ip;
    x->parked = cold->parked;
    map_mark(x);
    switch ((enum cold_kind)cold->kind) {
    case COLD_ACCESS:
        if (cold->tag)
            emit_reg_gs_index(e, W64, 0x03, H_R10, H_R9, cold->tag); /* linear address again */
        emit_call_access(x, cold);
        emit_patch(e, emit_jmp_later(e), cold->back);
        break;
    case COLD_CONSTANT:
        emit_mov_imm(e, H_R10, cold->linear);
        emit_call_access(x, cold);
        emit_lea(e, W64, H_R10, H_R10, H_NONE, 0, -(int32_t)(cold->linear & 4095));
        emit_patch(e, emit_jmp_later(e), cold->back);
        break;
    case COLD_BOUNCE:
        emit_call(e, env->stub_bounce);
        emit8(e, 0x90); /* the return address, which is never used, stays inside the block */
        break;
    case COLD_EVENT_RCX:
        emit_mov(e, W64, H_RCX, H_R9);
        /* fall through */
    case COLD_EVENT:
        emit_mov_imm(e, H_R10, x->start);
        emit_jmp(e, env->stub_event);
        break;
    case COLD_CELL_JUMP:
        emit_cell_jump(x, cold->value);
        break;
    case COLD_VECTORS:
        emit_call(e, env->stub_vectors);
        emit_patch(e, emit_jmp_later(e), cold->back);
        break;
    case COLD_WINDOW:
        emit_cold_window(x, cold);
        break;
    case COLD_TARGET:
        emit_cold_target(x, cold);
        break;
    }
}

static void emit_exit_stubs(struct xlate *x)
{
    for (unsigned i = 0; i < x->out->exit_count; i++) {
        struct xlate_exit *out = &x->out->exits[i];
        out->stub = x->e.pos;
        if (!out->cell)
            emit_patch(&x->e, out->site, out->stub);
        emit_mov_imm(&x->e, H_R9, x->in->alloc->first_exit + i);
        emit_jmp(&x->e, x->env->stub_link);
    }
}

/* Hot code of all instructions; returns true if the last one ended the flow itself. */
static bool xlate_all(struct xlate *x)
{
    bool ended = false;
    for (unsigned i = 0; i < x->count; i++) {
        x->insn = x->list[i];
        x->number = i;
        x->live_now = x->live[i];
        if (!x->live_now)
            x->parked = false;
        map_mark(x);
        if (!window_active(x))
            window_open(x);
        x->branch_ip = x->ip;
        ended = xlate_insn(x, i + 1 == x->count);
        x->ip += x->insn->len;
        if (x->mode->bits != 64)
            x->ip &= UINT32_MAX;
    }
    return ended;
}

int xlate_block(struct xlate_result *result, const struct xlate_input *input, uint8_t *buffer,
                uint32_t size, uint64_t exec)
{
    struct xlate x;
    x.in = input;
    x.env = input->env;
    x.mode = input->mode;
    x.out = result;
    x.e = (struct emit){.buffer = buffer, .size = size, .exec = exec};
    x.parked = x.vectors_live = x.failed = x.sti_seen = false;
    x.sp_adjust = 0;
    x.borrowed = 0;
    x.scratch_pos = UINT32_MAX;
    x.window_end = x.windows = 0;
    x.cold_count = 0;
    result->exit_count = 0;
    result->map_count = 0;
    if (!collect(&x))
        return -1;

    find_live_flags(&x);
    x.insn = x.list[0];
    x.ip = x.start;
    x.number = 0;
    x.live_now = x.live[0];
    if (!x.mode->single && !x.mode->bounce)
        emit_poll(&x);
    result->body = x.e.pos;
    if (x.mode->count)
        emit_count(&x, x.env->block_count);
    bool ended = xlate_all(&x);
    if (!ended) {
        x.live_now = x.live[x.count];
        emit_exit(&x, x.ip);
    }
    for (unsigned i = 0; i < x.cold_count; i++)
        emit_cold(&x, &x.cold[i]);
    emit_exit_stubs(&x);
    result->size = x.e.pos;
    return x.failed || x.e.overflow ? -1 : 0;
}
