#include "translator/emit.h"

#include <assert.h>

void emit_rex(struct emit *e, int w, unsigned reg, unsigned index, unsigned base)
{
    unsigned rex = 0x40;
    if (w)
        rex |= 8;
    if (reg != H_NONE && reg >= 8)
        rex |= 4;
    if (index != H_NONE && index >= 8)
        rex |= 2;
    if (base != H_NONE && base >= 8)
        rex |= 1;
    if (rex != 0x40)
        emit8(e, rex);
}

static void emit_opcode(struct emit *e, unsigned opcode)
{
    if (opcode > 0xff)
        emit8(e, opcode >> 8);
    emit8(e, opcode & 0xff);
}

void emit_reg_reg(struct emit *e, int w, unsigned opcode, unsigned reg, unsigned rm)
{
    emit_rex(e, w, reg, H_NONE, rm);
    emit_opcode(e, opcode);
    emit8(e, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

void emit_modrm_mem(struct emit *e, unsigned reg, unsigned base, unsigned index, unsigned scale,
                    int32_t disp)
{
    unsigned r = (reg & 7) << 3;
    if (base == H_NONE) { /* [index*scale + disp32] or [disp32] */
        emit8(e, r | 4);
        emit8(e, scale << 6 | (index == H_NONE ? 4u : index & 7) << 3 | 5);
        emit32(e, (uint32_t)disp);
        return;
    }
    unsigned mod = disp == 0 && (base & 7) != 5 ? 0 : disp >= -128 && disp <= 127 ? 1 : 2;
    if (index != H_NONE || (base & 7) == 4) {
        assert(index != H_RSP);
        emit8(e, mod << 6 | r | 4);
        emit8(e, scale << 6 | (index == H_NONE ? 4u : index & 7) << 3 | (base & 7));
    } else {
        emit8(e, mod << 6 | r | (base & 7));
    }
    if (mod == 1)
        emit8(e, (uint8_t)disp);
    else if (mod == 2)
        emit32(e, (uint32_t)disp);
}

void emit_reg_mem(struct emit *e, int w, unsigned opcode, unsigned reg, unsigned base,
                  unsigned index, unsigned scale, int32_t disp)
{
    emit_rex(e, w, reg, index, base);
    emit_opcode(e, opcode);
    emit_modrm_mem(e, reg, base, index, scale, disp);
}

void emit_reg_gs(struct emit *e, unsigned prefix, int w, unsigned opcode, unsigned reg,
                 int32_t disp)
{
    emit8(e, 0x65);
    if (prefix)
        emit8(e, prefix);
    emit_reg_mem(e, w, opcode, reg, H_NONE, H_NONE, 0, disp);
}

void emit_reg_gs_index(struct emit *e, int w, unsigned opcode, unsigned reg, unsigned index,
                       int32_t disp)
{
    emit8(e, 0x65);
    emit_rex(e, w, reg, H_NONE, index);
    emit_opcode(e, opcode);
    assert((index & 7) != 4);
    emit8(e, 0x80 | (reg & 7) << 3 | (index & 7));
    emit32(e, (uint32_t)disp);
}

void emit_mov_imm(struct emit *e, unsigned dst, uint64_t value)
{
    if (value <= UINT32_MAX) {
        emit_rex(e, W32, H_NONE, H_NONE, dst);
        emit8(e, 0xb8 | (dst & 7));
        emit32(e, (uint32_t)value);
    } else if ((uint64_t)(int64_t)(int32_t)value == value) {
        emit_rex(e, W64, H_NONE, H_NONE, dst);
        emit8(e, 0xc7);
        emit8(e, 0xc0 | (dst & 7));
        emit32(e, (uint32_t)value);
    } else {
        emit_rex(e, W64, H_NONE, H_NONE, dst);
        emit8(e, 0xb8 | (dst & 7));
        emit64(e, value);
    }
}

void emit_store_gs_imm8(struct emit *e, int32_t disp, uint8_t value)
{
    emit_reg_gs(e, 0, W32, 0xc6, 0, disp);
    emit8(e, value);
}

void emit_store_gs_imm32(struct emit *e, int32_t disp, uint32_t value)
{
    emit_reg_gs(e, 0, W32, 0xc7, 0, disp);
    emit32(e, value);
}

void emit_cmp_gs_imm8(struct emit *e, int32_t disp, int8_t value)
{
    emit_reg_gs(e, 0, W32, 0x83, 7, disp);
    emit8(e, (uint8_t)value);
}

void emit_alu_imm32(struct emit *e, int w, unsigned ext, unsigned reg, uint32_t value)
{
    emit_reg_reg(e, w, 0x81, ext, reg);
    emit32(e, value);
}

void emit_rorx(struct emit *e, int w, unsigned dst, unsigned src, unsigned count)
{
    emit8(e, 0xc4);
    emit8(e, (dst < 8 ? 0x80u : 0) | 0x40 | (src < 8 ? 0x20u : 0) | 3);
    emit8(e, (w ? 0x80u : 0) | 0x7b); /* vvvv = 1111, L = 0, pp = F2 */
    emit8(e, 0xf0);
    emit8(e, 0xc0 | (dst & 7) << 3 | (src & 7));
    emit8(e, count);
}

enum { PP_SHLX = 1, PP_SHRX = 3 }; /* VEX.pp */

static void emit_shift_x(struct emit *e, unsigned pp, unsigned dst, unsigned src, unsigned count)
{
    emit8(e, 0xc4);
    emit8(e, (dst < 8 ? 0x80u : 0) | 0x40 | (src < 8 ? 0x20u : 0) | 2);
    emit8(e, 0x80 | (~count & 15) << 3 | pp); /* W = 1 */
    emit8(e, 0xf7);
    emit8(e, 0xc0 | (dst & 7) << 3 | (src & 7));
}

void emit_shlx(struct emit *e, unsigned dst, unsigned src, unsigned count)
{
    emit_shift_x(e, PP_SHLX, dst, src, count);
}

void emit_shrx(struct emit *e, unsigned dst, unsigned src, unsigned count)
{
    emit_shift_x(e, PP_SHRX, dst, src, count);
}

static uint32_t emit_rel32(struct emit *e, uint64_t target)
{
    uint32_t site = e->pos;
    emit32(e, (uint32_t)(target - (e->exec + site + 4)));
    return site;
}

uint32_t emit_jmp(struct emit *e, uint64_t target)
{
    emit8(e, 0xe9);
    return emit_rel32(e, target);
}

uint32_t emit_call(struct emit *e, uint64_t target)
{
    emit8(e, 0xe8);
    return emit_rel32(e, target);
}

uint32_t emit_jcc(struct emit *e, unsigned cc, uint64_t target)
{
    emit8(e, 0x0f);
    emit8(e, 0x80 | cc);
    return emit_rel32(e, target);
}

void emit_patch(struct emit *e, uint32_t site, uint32_t target)
{
    if (e->overflow)
        return;
    uint32_t rel = target - (site + 4);
    memcpy(e->buffer + site, &rel, sizeof(rel));
}

void emit_patch8(struct emit *e, uint32_t site, uint32_t target)
{
    if (e->overflow)
        return;
    uint32_t rel = target - (site + 1);
    assert(rel <= 127);
    e->buffer[site] = (uint8_t)rel;
}
