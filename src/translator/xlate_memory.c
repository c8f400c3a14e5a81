/*
 * Tier-1 memory operands: offset -> linear (segment bounds) -> host (soft TLB), all in R10 with R9
 * as helper.
 *
 * The lowering is this one interface; a second tier replaces emit_linear + emit_tlb and nothing
 * else.
 */
#include "translator/xlate_internal.h"

unsigned guest_load(struct xlate *x, unsigned guest, unsigned scratch)
{
    unsigned host = host_of(guest);
    if (host != H_NONE)
        return host;
    emit_load_gs(&x->e, W64, scratch, gpr_offset(guest));
    return scratch;
}

void guest_store(struct xlate *x, unsigned guest, unsigned size, unsigned src)
{
    struct emit *e = &x->e;
    unsigned host = host_of(guest);
    if (host == H_NONE) {
        if (size == 2)
            emit_reg_gs(e, 0x66, W32, 0x89, src, gpr_offset(guest));
        else
            emit_store_gs(e, W64, gpr_offset(guest), src);
        return;
    }
    if (size == 2)
        emit8(e, 0x66);
    emit_mov(e, size == 8 ? W64 : W32, host, src);
}

static void emit_truncate(struct xlate *x, unsigned size)
{
    if (size == 2)
        emit_reg_reg(&x->e, W32, 0x0fb7, H_R10, H_R10);
    else if (size == 4)
        emit_mov(&x->e, W32, H_R10, H_R10);
}

void emit_offset(struct xlate *x, const struct insn_mem *mem)
{
    struct emit *e = &x->e;
    unsigned size = x->insn->addrsize;
    uint64_t mask = size == 8 ? UINT64_MAX : size == 4 ? UINT32_MAX : UINT16_MAX;
    if (mem->rip_relative) {
        emit_mov_imm(e, H_R10, (x->ip + x->insn->len + (uint64_t)mem->disp) & mask);
        return;
    }
    if (mem->base == GPR_NONE && mem->index == GPR_NONE) {
        emit_mov_imm(e, H_R10, (uint64_t)mem->disp & mask);
        return;
    }
    int32_t disp = (int32_t)mem->disp;
    if (mem->base == X86_RSP)
        disp += x->sp_adjust;
    unsigned base = mem->base == GPR_NONE ? (unsigned)H_NONE : guest_load(x, mem->base, H_R10);
    unsigned index = mem->index == GPR_NONE ? (unsigned)H_NONE : guest_load(x, mem->index, H_R9);
    emit_lea(e, size == 8 ? W64 : W32, H_R10, base, index, mem->scale, disp);
    if (size == 2)
        emit_truncate(x, 2);
}

void emit_linear(struct xlate *x, unsigned seg, unsigned size, bool write)
{
    struct emit *e = &x->e;
    int32_t base = seg_offset(seg, offsetof(struct x86_segment, base));
    if (x->mode->bits == 64) {
        if (seg == X86_FS || seg == X86_GS) {
            emit_load_gs(e, W64, H_R9, base);
            emit_lea(e, W64, H_R10, H_R10, H_R9, 0, 0);
        }
        return;
    }
    if ((x->mode->flat & (1u << seg)) && !(write && seg == X86_CS))
        return; /* a code segment is flat for reads only */
    size_t end =
        write ? offsetof(struct x86_segment, write_end) : offsetof(struct x86_segment, read_end);
    flags_clobber(x);
    emit_lea(e, W64, H_R9, H_R10, H_NONE, 0, (int32_t)size);
    emit_reg_gs(e, 0, W64, 0x3b, H_R9, seg_offset(seg, end));
    cold_add(x, COLD_BOUNCE, emit_jcc_later(e, CC_A));
    emit_load_gs(e, W64, H_R9, base);
    emit_lea(e, W32, H_R10, H_R10, H_R9, 0, 0);
}

/* R9 = offset of the TLB entry of the linear address in R10. */
void emit_tlb_index(struct xlate *x)
{
    const struct xlate_env *env = x->env;
    emit_rorx(&x->e, W32, H_R9, H_R10, 12 - env->tlb_entry_shift);
    emit_alu_imm32(&x->e, W32, 4, H_R9, ((1u << env->tlb_bits) - 1) << env->tlb_entry_shift);
}

/*
 * The chain from address to access is what costs; with R8 free, the comparison is not part of it.
 * While R8 holds the delta of a stack window, the difference goes through R10 itself.
 */
void emit_tlb(struct xlate *x, unsigned size, bool write)
{
    struct emit *e = &x->e;
    const struct xlate_env *env = x->env;
    bool user = is_user(x), in_window = window_active(x);
    int32_t tag = write ? env->tlb_write_tag[user] : env->tlb_read_tag[user];
    unsigned difference = in_window ? H_R10 : H_R8;
    flags_clobber(x);
    emit_tlb_index(x);
    if (!in_window)
        emit_mov(e, W64, H_R8, H_R10);
    emit_reg_gs_index(e, W64, 0x2b, difference, H_R9, tag);
    emit_alu_imm32(e, W64, 7, difference, 4096 - size);
    struct cold *cold = cold_add(x, COLD_ACCESS, emit_jcc_later(e, CC_A));
    if (in_window)
        emit_reg_gs_index(e, W64, 0x03, H_R10, H_R9, env->tlb_host[user]);
    else
        emit_reg_gs_index(e, W64, 0x03, H_R10, H_R9, env->tlb_addend[user]);
    cold->back = e->pos;
    cold->value = size | (write ? (unsigned)ACCESS_WRITE : 0);
    cold->tag = in_window ? tag : 0;
    x->base = H_R10;
    x->index = H_NONE;
    x->disp = 0;
}

/* The operand's linear address if it is known now. */
static bool constant_address(const struct xlate *x, const struct insn_mem *mem, uint64_t *linear)
{
    bool base = x->mode->bits == 64 ? mem->seg == X86_FS || mem->seg == X86_GS
                                    : !(x->mode->flat & (1u << mem->seg)) || mem->seg == X86_CS;
    if (base || (!mem->rip_relative && (mem->base != GPR_NONE || mem->index != GPR_NONE)))
        return false;
    unsigned size = x->insn->addrsize;
    uint64_t offset = (uint64_t)mem->disp + (mem->rip_relative ? x->ip + x->insn->len : 0);
    *linear = size == 8 ? offset : size == 4 ? (uint32_t)offset : (uint16_t)offset;
    return (*linear & 4095) + mem->size <= 4096;
}

/* Page and TLB entry are constants: one compare, no address arithmetic. */
static void emit_constant(struct xlate *x, uint64_t linear, unsigned size, bool write)
{
    struct emit *e = &x->e;
    const struct xlate_env *env = x->env;
    bool user = is_user(x);
    int32_t entry = (int32_t)((linear >> 12 & ((1u << env->tlb_bits) - 1)) << env->tlb_entry_shift);
    int32_t tag = write ? env->tlb_write_tag[user] : env->tlb_read_tag[user];
    flags_clobber(x);
    emit_mov_imm(e, H_R10, linear & ~4095ull);
    emit_reg_gs(e, 0, W64, 0x3b, H_R10, tag + entry);
    struct cold *cold = cold_add(x, COLD_CONSTANT, emit_jcc_later(e, CC_NE));
    emit_load_gs(e, W64, H_R10, env->tlb_host[user] + entry);
    cold->back = e->pos;
    cold->value = size | (write ? (unsigned)ACCESS_WRITE : 0);
    cold->linear = linear;
    x->base = H_R10;
    x->index = H_NONE;
    x->disp = (int32_t)(linear & 4095);
}

static void emit_bit_string_offset(struct xlate *x)
{
    const struct insn *insn = x->insn;
    struct emit *e = &x->e;
    unsigned log_size = insn->opsize == 8 ? 3 : insn->opsize == 4 ? 2 : 1;
    flags_clobber(x);
    unsigned bit = guest_load(x, insn->reg, H_R9);
    if (insn->opsize == 8)
        emit_mov(e, W64, H_R9, bit);
    else if (insn->opsize == 4)
        emit_reg_reg(e, W64, 0x63, H_R9, bit); /* movsxd */
    else
        emit_reg_reg(e, W64, 0x0fbf, H_R9, bit); /* movsx r64, r16 */
    emit_reg_reg(e, W64, 0xc1, 7, H_R9);         /* sar: index of the operand-sized unit */
    emit8(e, log_size + 3);
    emit_lea(e, W64, H_R10, H_R10, H_R9, log_size, 0);
    emit_truncate(x, insn->addrsize);
}

void emit_operand(struct xlate *x, bool write)
{
    const struct insn_mem *mem = &x->insn->mem;
    if (window_covers(x, mem->base, mem->index, (int)mem->disp + x->sp_adjust))
        return;
    uint64_t linear;
    if (!insn_is_bit_string(x->insn) && constant_address(x, mem, &linear)) {
        emit_constant(x, linear, mem->size, write);
        return;
    }
    emit_offset(x, mem);
    if (insn_is_bit_string(x->insn))
        emit_bit_string_offset(x);
    emit_linear(x, mem->seg, mem->size, write);
    emit_tlb(x, mem->size, write);
}

void emit_stack(struct xlate *x, int displacement, unsigned size, bool write)
{
    struct emit *e = &x->e;
    unsigned bits = x->mode->stack_bits;
    if (window_covers(x, X86_RSP, GPR_NONE, displacement))
        return;
    emit_lea(e, bits == 64 ? W64 : W32, H_R10, H_R11, H_NONE, 0, displacement);
    if (bits == 16)
        emit_truncate(x, 2);
    emit_linear(x, X86_SS, size, write);
    emit_tlb(x, size, write);
}

void emit_load_operand(struct xlate *x, unsigned size, unsigned dst)
{
    emit_reg_mem(&x->e, size == 8 ? W64 : W32, size == 2 ? 0x0fb7 : 0x8b, dst, x->base, x->index, 0,
                 x->disp);
}

void emit_sp_add(struct xlate *x, int delta)
{
    struct emit *e = &x->e;
    if (x->mode->stack_bits == 16) {
        emit_lea(e, W32, H_R9, H_R11, H_NONE, 0, delta);
        guest_store(x, X86_RSP, 2, H_R9);
    } else {
        emit_lea(e, x->mode->stack_bits == 64 ? W64 : W32, H_R11, H_R11, H_NONE, 0, delta);
    }
}
