/*
 * Copies: the guest instruction re-encoded with renamed registers and a rewritten memory operand;
 * and the stack instructions that are moves in disguise.
 */
#include "translator/xlate_internal.h"

enum { TEMPS = 4 };

/* Host registers of one re-encoded instruction. */
struct copy {
    unsigned reg, rm, opc, vvvv; /* host numbers of the encoded fields */
    bool memory;                 /* the instruction has a memory operand */
    bool no_rex;                 /* AH..BH are named */
    struct {
        uint8_t guest, host, borrowed;
    } temp[TEMPS];
    unsigned temp_count;
    uint16_t busy;           /* host registers that may not be borrowed */
    unsigned first_borrowed; /* index in borrowable[] */
    unsigned borrowed;
};

static const uint8_t borrowable[] = {H_RBX, H_RSI, H_RDI, H_RDX, H_RCX, H_RAX};

/*
 * What the map says of a copy that may fault. With a memory operand one borrowed register is the
 * most that is needed: two renamed operands have R9 for one of them, and instructions without REX
 * can name none.
 */
static unsigned borrowed_bits(const struct copy *c)
{
    return c->memory && c->borrowed ? (c->first_borrowed + 1u) * (XLATE_IP + 1) : 0;
}

bool xlate_map_borrowed(const struct xlate_map *map, unsigned *reg)
{
    unsigned number = (map->ip & XLATE_BORROWED) / (XLATE_IP + 1);
    if (number)
        *reg = borrowable[number - 1];
    return number != 0;
}

/* A low host register that the instruction does not touch; its value is spilled. */
static unsigned borrow(struct xlate *x, struct copy *c)
{
    for (unsigned i = 0; i < sizeof(borrowable); i++) {
        unsigned host = borrowable[i];
        if (c->busy & 1u << host)
            continue;
        if (c->borrowed == 2)
            break;
        c->busy |= (uint16_t)(1u << host);
        if (!c->borrowed)
            c->first_borrowed = i;
        emit_store_gs(&x->e, W64, x->env->spill[c->borrowed++], host);
        return host;
    }
    x->failed = true;
    return H_RBX;
}

/* Host register that stands for a guest register while the instruction runs. */
static unsigned assign(struct xlate *x, struct copy *c, unsigned guest)
{
    unsigned host = host_of(guest);
    if (host != H_NONE && !(c->no_rex && host >= 8))
        return host;
    for (unsigned i = 0; i < c->temp_count; i++) {
        if (c->temp[i].guest == guest)
            return c->temp[i].host;
    }
    bool borrowed = false;
    if (!c->no_rex && !(c->busy & 1u << H_R9)) {
        host = H_R9;
    } else if (!c->no_rex && !(c->busy & 1u << H_R10)) {
        host = H_R10;
    } else {
        host = borrow(x, c);
        borrowed = true;
    }
    c->busy |= (uint16_t)(1u << host);
    if (c->temp_count == TEMPS) {
        x->failed = true;
        return host;
    }
    c->temp[c->temp_count].guest = (uint8_t)guest;
    c->temp[c->temp_count].host = (uint8_t)host;
    c->temp[c->temp_count++].borrowed = borrowed;
    if (guest == X86_RSP)
        emit_mov(&x->e, W64, host, H_R11);
    else if (x->insn->gpr_read & 1u << guest)
        emit_load_guest(x, guest, host);
    return host;
}

/* True if ModRM.reg of a high-byte instruction is itself a byte register. */
static bool reg_is_byte(const struct insn *insn)
{
    if (insn->map == 1 && (insn->opcode == 0xb6 || insn->opcode == 0xbe))
        return false;                                 /* MOVZX, MOVSX r, r/m8 */
    return !(insn->map == 2 && insn->opcode == 0xf0); /* CRC32 r, r/m8 */
}

/* The register that the low bits of the opcode name. */
static unsigned opcode_register(const struct insn *insn)
{
    return (insn->opcode & 7) | (insn->rex & 1 ? 8u : 0);
}

static unsigned assign_field(struct xlate *x, struct copy *c, unsigned number, bool byte)
{
    if (c->no_rex && byte)
        return number; /* AL..BH keep their encoding */
    return assign(x, c, number);
}

static void assign_fields(struct xlate *x, struct copy *c)
{
    const struct insn *insn = x->insn;
    c->reg = insn->reg;
    c->rm = insn->rm;
    c->vvvv = insn->vex_vvvv;
    c->opc = opcode_register(insn);
    if (insn->gpr_fields & FIELD_REG)
        c->reg = assign_field(x, c, insn->reg, reg_is_byte(insn));
    if (insn->gpr_fields & FIELD_RM)
        c->rm = assign_field(x, c, insn->rm, true);
    if (insn->gpr_fields & FIELD_OPC)
        c->opc = assign_field(x, c, c->opc, true);
    if (insn->gpr_fields & FIELD_VVVV)
        c->vvvv = assign(x, c, insn->vex_vvvv);
}

/* The next instruction need not wait for the stores of this one. */
static void note_scratch(struct xlate *x, const struct copy *c)
{
    x->scratch_pos = x->e.pos;
    x->scratch[0] = x->scratch[1] = GPR_NONE;
    for (unsigned i = 0; i < c->temp_count; i++) {
        unsigned host = c->temp[i].host;
        if (c->temp[i].guest != X86_RSP && (host == H_R9 || host == H_R10))
            x->scratch[host - H_R9] = c->temp[i].guest;
    }
}

static void release(struct xlate *x, const struct copy *c)
{
    struct emit *e = &x->e;
    for (unsigned i = 0; i < c->temp_count; i++) {
        unsigned guest = c->temp[i].guest;
        if (!(x->insn->gpr_written & 1u << guest))
            continue;
        if (guest == X86_RSP)
            emit_mov(e, W64, H_R11, c->temp[i].host);
        else
            emit_store_gs(e, W64, gpr_offset(guest), c->temp[i].host);
    }
    /* Spill slots were taken in order of borrowing: the address first, then temporaries. */
    unsigned slot = 0;
    if (c->memory && c->no_rex && !x->mode->bounce)
        emit_load_gs(e, W64, x->base, x->env->spill[slot++]);
    for (unsigned i = 0; i < c->temp_count; i++) {
        if (c->temp[i].borrowed)
            emit_load_gs(e, W64, c->temp[i].host, x->env->spill[slot++]);
    }
    note_scratch(x, c);
}

/* Outside 64-bit mode VEX.W is ignored by what else would use 64-bit general registers. */
static bool vex_w_ignored(const struct insn *insn)
{
    if (insn->gpr_fields)
        return true;
    if (insn->map == 1)
        return insn->opcode == 0x2a || insn->opcode == 0x2c || insn->opcode == 0x2d ||
               insn->opcode == 0x6e || insn->opcode == 0x7e;
    bool compare = (insn->opcode & 0xfe) == 0x60; /* VPCMPESTRM, VPCMPESTRI: EAX and EDX */
    return insn->map == 3 && (insn->opcode == 0x16 || insn->opcode == 0x22 || compare);
}

static bool needs_rex(unsigned host)
{
    return host != H_NONE && host >= 8;
}

/* ModRM and what follows it. */
static void emit_modrm(struct xlate *x, const struct copy *c, unsigned reg, unsigned rm)
{
    if (c->memory)
        emit_operand_modrm(x, reg);
    else
        emit8(&x->e, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

static void emit_vex(struct xlate *x, const struct copy *c)
{
    const struct insn *insn = x->insn;
    struct emit *e = &x->e;
    bool base = needs_rex(c->memory ? x->base : c->rm);
    bool index = c->memory && needs_rex(x->index);
    unsigned w = insn->vex_w;
    if (insn->mode != 64 && vex_w_ignored(insn))
        w = 0;
    emit8(e, 0xc4);
    emit8(e, (c->reg < 8 ? 0x80u : 0) | (index ? 0 : 0x40u) | (base ? 0 : 0x20u) | insn->map);
    emit8(e, (w ? 0x80u : 0) | (~c->vvvv & 15) << 3 | (insn->vex_l ? 4u : 0) | insn->vex_pp);
    emit8(e, insn->opcode);
    if (insn->has_modrm) /* all but VZEROUPPER and VZEROALL */
        emit_modrm(x, c, c->reg, c->rm);
}

/* Opcode that 64-bit mode gives another meaning, replaced; returns the ModRM.reg to use. */
static unsigned replaced_opcode(const struct insn *insn, const struct copy *c, unsigned *opcode)
{
    *opcode = insn->opcode;
    if (insn->map != 0)
        return c->reg;
    if (insn->mode != 64 && insn->opcode >= 0x40 && insn->opcode <= 0x4f) { /* INC, DEC r */
        *opcode = 0xff;
        return insn->opcode < 0x48 ? 0 : 1;
    }
    if (insn->opcode >= 0xa0 && insn->opcode <= 0xa3) { /* MOV with offset: accumulator */
        static const uint8_t general[] = {0x8a, 0x8b, 0x88, 0x89};
        *opcode = general[insn->opcode - 0xa0];
        return H_RAX;
    }
    if (insn->opcode == 0x82) /* alias of 80 */
        *opcode = 0x80;
    return c->reg;
}

static void emit_legacy(struct xlate *x, const struct copy *c)
{
    const struct insn *insn = x->insn;
    struct emit *e = &x->e;
    unsigned opcode;
    unsigned reg = replaced_opcode(insn, c, &opcode);
    bool inc_dec = opcode == 0xff && insn->opcode != 0xff;
    bool modrm = insn->has_modrm || inc_dec || c->memory;
    bool opc_field = (insn->gpr_fields & FIELD_OPC) && !inc_dec;
    bool drop_mandatory = insn->mandatory == 0xf3 && insn->map == 1 &&
                          (insn->opcode & 0xfe) == 0xbc && insn->feature &&
                          !cpuid_has(x->env->cpuid, (enum x86_feature)insn->feature);
    if (insn->prefixes & PREFIX_LOCK)
        emit8(e, 0xf0);
    if (insn->opsize_effective && insn->opsize == 2 && insn->mandatory != 0x66)
        emit8(e, 0x66);
    if (insn->mandatory && !drop_mandatory)
        emit8(e, insn->mandatory);
    unsigned rex = insn->rex ? 0x40 | (insn->rex & 8u) : 0;
    if (modrm && !inc_dec && reg >= 8)
        rex |= 0x44;
    if (c->memory && needs_rex(x->index))
        rex |= 0x42;
    unsigned b = c->memory ? x->base : inc_dec || opc_field ? c->opc : insn->has_modrm ? c->rm : 0;
    if (needs_rex(b))
        rex |= 0x41;
    if (rex)
        emit8(e, rex);
    if (insn->map >= 1)
        emit8(e, 0x0f);
    if (insn->map >= 2)
        emit8(e, insn->map == 2 ? 0x38 : 0x3a);
    emit8(e, opc_field ? (opcode & ~7u) | (c->opc & 7) : opcode);
    if (modrm)
        emit_modrm(x, c, reg, b);
}

/* VBLENDVPS, VBLENDVPD, VPBLENDVB */
static bool names_register_by_imm(const struct insn *insn)
{
    return insn->encoding == ENC_VEX && insn->map == 3 && insn->opcode >= 0x4a &&
           insn->opcode <= 0x4c;
}

static void emit_body(struct xlate *x, const struct copy *c)
{
    const struct insn *insn = x->insn;
    struct emit *e = &x->e;
    if (c->memory && x->mode->bounce)
        emit8(e, 0x65);
    if (insn->encoding == ENC_LEGACY)
        emit_legacy(x, c);
    else
        emit_vex(x, c);
    bool moffs = insn->map == 0 && insn->opcode >= 0xa0 && insn->opcode <= 0xa3;
    if (insn->mode != 64 && names_register_by_imm(insn))
        emit8(e, insn->bytes[insn->imm_off] & 0x7f); /* bit 7 would select registers 8-15 */
    else if (insn->imm_size && !moffs)
        emit_bytes(e, insn->bytes + insn->imm_off, insn->imm_size);
}

/* BTx m, r: the address already names the unit, so the register operand is reduced to a bit in it.
 */
static void reduce_bit_offset(struct xlate *x, struct copy *c)
{
    struct emit *e = &x->e;
    const struct insn *insn = x->insn;
    flags_clobber(x);
    unsigned bit = guest_load(x, insn->reg, H_R9);
    emit_mov(e, W64, H_R9, bit);
    emit_alu_imm32(e, W32, 4, H_R9, insn->opsize * 8u - 1);
    if (x->parked)
        flags_unpark(x, true);
    c->reg = H_R9;
    c->rm = insn->rm;
}

static void copy_direction(struct xlate *x)
{
    const struct insn *insn = x->insn;
    if (insn->map == 0 && (insn->opcode == 0xfc || insn->opcode == 0xfd)) /* CLD, STD */
        emit_store_gs_imm8(&x->e, x->env->direction, insn->opcode & 1);
}

/* Makes sure that vector state is in host registers. Flags and R9, R10 may be destroyed where they
 * are dead. */
static void require_vectors(struct xlate *x)
{
    struct emit *e = &x->e;
    if (x->vectors_live)
        return;
    x->vectors_live = true;
    struct cold *cold;
    if (!x->live_now || x->parked) {
        emit_reg_gs(e, 0, W32, 0x80, 7, x->env->vectors_parked); /* cmp byte, 0 */
        emit8(e, 0);
        cold = cold_add(x, COLD_VECTORS, emit_jcc_later(e, CC_NE));
        cold->back = e->pos;
        return;
    }
    /* Flags are live: test with JRCXZ. */
    emit_mov(e, W64, H_R9, H_RCX);
    emit_reg_gs(e, 0, W32, 0x0fb6, H_RCX, x->env->vectors_parked);
    cold = cold_unless_rcx_zero(x, COLD_VECTORS);
    cold->back = e->pos;
    emit_mov(e, W64, H_RCX, H_R9);
}

void xlate_copy(struct xlate *x)
{
    const struct insn *insn = x->insn;
    struct copy c = {.memory = insn->mem.present,
                     .no_rex = (insn->gpr_fields & FIELD_HIGH8) != 0,
                     .busy = (uint16_t)((insn->gpr_read | insn->gpr_written) & 0xff)};
    c.busy |= 1u << H_RSP | 1u << H_RBP;
    if (insn->fpu_state != FPU_NONE)
        require_vectors(x);
    bool write = (insn->mem.access & MEM_WRITE) != 0;
    if (c.memory && x->mode->bounce) {
        set_operand(x, H_NONE, H_NONE, x->env->bounce + x->in->bounce_offset);
    } else if (c.memory) {
        emit_operand(x, write);
        c.busy |= 1u << H_R10;
    }
    if (insn_is_bit_string(insn)) {
        reduce_bit_offset(x, &c);
        emit_body(x, &c);
        return;
    }
    flags_settle(x);
    if (c.memory && c.no_rex && !x->mode->bounce) {
        unsigned low = borrow(x, &c);
        emit_lea(&x->e, W64, low, x->base, x->index, 0, x->disp);
        set_operand(x, low, H_NONE, 0);
    }
    assign_fields(x, &c);
    bool keeps_scratch = !c.memory && !c.temp_count && !c.borrowed && x->e.pos == x->scratch_pos;
    x->borrowed = borrowed_bits(&c);
    map_mark(x);
    emit_body(x, &c);
    if (keeps_scratch)
        x->scratch_pos = x->e.pos;
    copy_direction(x);
    if (c.temp_count || c.borrowed)
        release(x, &c);
    if (x->borrowed) {
        x->borrowed = 0;
        map_mark(x);
    }
}

void xlate_lea(struct xlate *x)
{
    const struct insn *insn = x->insn;
    const struct insn_mem *mem = &insn->mem;
    struct emit *e = &x->e;
    unsigned dst = host_of(insn->reg);
    bool simple = dst != H_NONE && !mem->rip_relative && insn->opsize != 2 &&
                  (insn->addrsize == 8 || (insn->addrsize == 4 && insn->opsize == 4)) &&
                  (mem->base != GPR_NONE || mem->index != GPR_NONE) &&
                  (mem->base == GPR_NONE || host_of(mem->base) != H_NONE) &&
                  (mem->index == GPR_NONE || host_of(mem->index) != H_NONE);
    if (simple) {
        emit_lea(e, insn->opsize == 8 ? W64 : W32, dst,
                 mem->base == GPR_NONE ? (unsigned)H_NONE : host_of(mem->base),
                 mem->index == GPR_NONE ? (unsigned)H_NONE : host_of(mem->index), mem->scale,
                 (int32_t)mem->disp);
        return;
    }
    emit_offset(x, mem);
    if (insn->opsize == 4 && dst == H_NONE)
        emit_mov(e, W32, H_R10, H_R10);
    guest_store(x, insn->reg, insn->opsize, H_R10);
}

void xlate_push(struct xlate *x)
{
    const struct insn *insn = x->insn;
    struct emit *e = &x->e;
    unsigned size = insn->opsize;
    if (insn->mem.present) {
        emit_operand(x, false);
        emit_load_operand(x, size, H_R9);
        emit_store_gs(e, W64, x->env->spill[0], H_R9);
    }
    emit_stack(x, -(int)size, size, true);
    if (insn->mem.present) {
        emit_load_gs(e, W64, H_R9, x->env->spill[0]);
        emit_store_operand(x, size, H_R9);
    } else if (insn->gpr_fields & (FIELD_OPC | FIELD_RM)) {
        unsigned guest = insn->gpr_fields & FIELD_OPC ? opcode_register(insn) : insn->rm;
        emit_store_operand(x, size, guest_load(x, guest, H_R9));
    } else {
        emit_store_operand_imm(x, size, (uint32_t)insn->imm);
    }
    emit_sp_add(x, -(int)size);
}

void xlate_pop(struct xlate *x)
{
    const struct insn *insn = x->insn;
    struct emit *e = &x->e;
    unsigned size = insn->opsize;
    emit_stack(x, 0, size, false);
    if (!insn->mem.present) {
        unsigned guest = insn->gpr_fields & FIELD_OPC ? opcode_register(insn) : insn->rm;
        unsigned dst = host_of(guest);
        if (dst != H_NONE && guest != X86_RSP && size != 2) {
            emit_load_operand(x, size, dst);
            emit_sp_add(x, (int)size);
            return;
        }
        emit_load_operand(x, size, H_R10);
        emit_sp_add(x, (int)size); /* POP SP: the popped value wins */
        guest_store(x, guest, size, H_R10);
        return;
    }
    emit_load_operand(x, size, H_R9);
    emit_store_gs(e, W64, x->env->spill[0], H_R9);
    x->sp_adjust = (int)size; /* the address is computed with the incremented SP */
    emit_operand(x, true);
    x->sp_adjust = 0;
    emit_load_gs(e, W64, H_R9, x->env->spill[0]);
    emit_store_operand(x, size, H_R9);
    emit_sp_add(x, (int)size);
}

void xlate_leave(struct xlate *x)
{
    struct emit *e = &x->e;
    unsigned size = x->insn->opsize;
    unsigned bits = x->mode->stack_bits;
    if (bits == 16)
        emit_reg_reg(e, W32, 0x0fb7, H_R10, H_RBP);
    else
        emit_mov(e, bits == 64 ? W64 : W32, H_R10, H_RBP);
    emit_linear(x, X86_SS, size, false);
    emit_tlb(x, size, false);
    emit_load_operand(x, size, H_R10);
    if (bits == 16) {
        emit_lea(e, W32, H_R9, H_RBP, H_NONE, 0, (int)size);
        guest_store(x, X86_RSP, 2, H_R9);
    } else {
        emit_lea(e, bits == 64 ? W64 : W32, H_R11, H_RBP, H_NONE, 0, (int)size);
    }
    guest_store(x, X86_RBP, size, H_R10);
}

void xlate_xlat(struct xlate *x)
{
    struct emit *e = &x->e;
    unsigned size = x->insn->addrsize;
    emit_reg_reg(e, W32, 0x0fb6, H_R9, H_RAX);
    emit_lea(e, size == 8 ? W64 : W32, H_R10, H_RBX, H_R9, 0, 0);
    if (size == 2)
        emit_reg_reg(e, W32, 0x0fb7, H_R10, H_R10);
    emit_linear(x, x->insn->mem.seg, 1, false);
    emit_tlb(x, 1, false);
    emit_reg_mem(e, W32, 0x8a, H_RAX, x->base, x->index, 0, x->disp);
}
