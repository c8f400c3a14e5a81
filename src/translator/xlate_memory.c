/*
 * Memory operands: offset -> linear (segment bounds) -> host (soft TLB), all in R10 with R9 as
 * helper.
 */
#include "base/bytes.h"
#include "translator/xlate_internal.h"

void emit_load_guest(struct xlate *x, unsigned guest, unsigned dst)
{
    struct emit *e = &x->e;
    unsigned src = H_NONE;
    if (e->pos == x->scratch_pos)
        src = x->scratch[0] == guest ? H_R9 : x->scratch[1] == guest ? H_R10 : H_NONE;
    if (src == H_NONE)
        emit_load_gs(e, W64, dst, gpr_offset(guest));
    else if (src != dst)
        emit_mov(e, W64, dst, src);
}

unsigned guest_load(struct xlate *x, unsigned guest, unsigned scratch)
{
    unsigned host = host_of(guest);
    if (host != H_NONE)
        return host;
    emit_load_guest(x, guest, scratch);
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
    uint64_t mask = bytes_mask(size);
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

static int32_t tlb_tag(const struct xlate *x, bool write)
{
    return write ? x->env->tlb_write_tag[is_user(x)] : x->env->tlb_read_tag[is_user(x)];
}

static uint32_t access_descriptor(unsigned size, bool write)
{
    return size | (write ? (unsigned)ACCESS_WRITE : 0);
}

/*
 * The chain from address to access is what costs; with R8 free, the comparison is not part of it.
 * While R8 holds the delta of a stack window, the difference goes through R10 itself.
 */
struct cold *emit_tlb_lookup(struct xlate *x, enum cold_kind kind, unsigned size, bool write,
                             bool r8_free)
{
    struct emit *e = &x->e;
    const struct xlate_env *env = x->env;
    int32_t tag = tlb_tag(x, write);
    unsigned difference = r8_free ? H_R8 : H_R10;
    emit_rorx(e, W32, H_R9, H_R10, 12 - env->tlb_entry_shift);
    emit_alu_imm32(e, W32, 4, H_R9, ((1u << env->tlb_bits) - 1) << env->tlb_entry_shift);
    if (r8_free)
        emit_mov(e, W64, H_R8, H_R10);
    emit_reg_gs_index(e, W64, 0x2b, difference, H_R9, tag);
    emit_alu_imm32(e, W64, 7, difference, 4096 - size);
    struct cold *cold = cold_add(x, kind, emit_jcc_later(e, CC_A));
    emit_reg_gs_index(e, W64, 0x03, H_R10, H_R9,
                      r8_free ? env->tlb_addend[is_user(x)] : env->tlb_host[is_user(x)]);
    cold->back = e->pos;
    cold->value = access_descriptor(size, write);
    cold->tag = r8_free ? 0 : tag;
    return cold;
}

void emit_call_access(struct xlate *x, const struct cold *cold)
{
    bool write = cold->value & ACCESS_WRITE;
    emit_mov_imm(&x->e, H_R9, cold->value);
    emit_call(&x->e, x->env->stub_access[is_user(x)][write]);
}

void emit_tlb(struct xlate *x, unsigned size, bool write)
{
    flags_clobber(x);
    emit_tlb_lookup(x, COLD_ACCESS, size, write, !window_active(x));
    set_operand(x, H_R10, H_NONE, 0);
}

/* The operand's linear address if it is known now. */
static bool constant_address(const struct xlate *x, const struct insn_mem *mem, uint64_t *linear)
{
    bool base = x->mode->bits == 64 ? mem->seg == X86_FS || mem->seg == X86_GS
                                    : !(x->mode->flat & (1u << mem->seg)) || mem->seg == X86_CS;
    if (base || (!mem->rip_relative && (mem->base != GPR_NONE || mem->index != GPR_NONE)))
        return false;
    uint64_t offset = (uint64_t)mem->disp + (mem->rip_relative ? x->ip + x->insn->len : 0);
    *linear = offset & bytes_mask(x->insn->addrsize);
    return (*linear & 4095) + mem->size <= 4096;
}

/* Page and TLB entry are constants: one compare, no address arithmetic. */
static void emit_constant(struct xlate *x, uint64_t linear, unsigned size, bool write)
{
    struct emit *e = &x->e;
    const struct xlate_env *env = x->env;
    int32_t entry = (int32_t)((linear >> 12 & ((1u << env->tlb_bits) - 1)) << env->tlb_entry_shift);
    flags_clobber(x);
    emit_mov_imm(e, H_R10, linear & ~4095ull);
    emit_reg_gs(e, 0, W64, 0x3b, H_R10, tlb_tag(x, write) + entry);
    struct cold *cold = cold_add(x, COLD_CONSTANT, emit_jcc_later(e, CC_NE));
    emit_load_gs(e, W64, H_R10, env->tlb_host[is_user(x)] + entry);
    cold->back = e->pos;
    cold->value = access_descriptor(size, write);
    cold->linear = linear;
    set_operand(x, H_R10, H_NONE, (int32_t)(linear & 4095));
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

void emit_store_operand(struct xlate *x, unsigned size, unsigned src)
{
    if (size == 2)
        emit8(&x->e, 0x66);
    emit_reg_mem(&x->e, size == 8 ? W64 : W32, 0x89, src, x->base, x->index, 0, x->disp);
}

void emit_store_operand_imm(struct xlate *x, unsigned size, uint32_t value)
{
    if (size == 2)
        emit8(&x->e, 0x66);
    emit_reg_mem(&x->e, size == 8 ? W64 : W32, 0xc7, 0, x->base, x->index, 0, x->disp);
    if (size == 2)
        emit16(&x->e, (uint16_t)value);
    else
        emit32(&x->e, value);
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
