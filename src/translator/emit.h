/*
 * Host code emission: bytes into a buffer that the caller gives. The final executable address of
 * the buffer is known, so rel32 to fixed stubs can be written at once. Running out of space sets
 * overflow and drops bytes; the caller checks once at the end.
 *
 * Guest state is addressed through the gs base (gs:[disp32]).
 */
#ifndef VD_TRANSLATOR_EMIT_H
#define VD_TRANSLATOR_EMIT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum host_reg { /* numbers as in the instruction encoding */
                H_RAX,
                H_RCX,
                H_RDX,
                H_RBX,
                H_RSP,
                H_RBP,
                H_RSI,
                H_RDI,
                H_R8,
                H_R9,
                H_R10,
                H_R11,
                H_R12,
                H_R13,
                H_R14,
                H_R15,
                H_NONE = 0xff
};

enum host_cond {
    CC_O,
    CC_NO,
    CC_B,
    CC_AE,
    CC_E,
    CC_NE,
    CC_BE,
    CC_A,
    CC_S,
    CC_NS,
    CC_P,
    CC_NP,
    CC_L,
    CC_GE,
    CC_LE,
    CC_G
};

enum { W32 = 0, W64 = 1 }; /* operand width: REX.W */

struct emit {
    uint8_t *buffer; /* writable */
    uint32_t pos, size;
    uint64_t exec; /* executable address of buffer[0] */
    bool overflow;
};

static inline void emit8(struct emit *e, unsigned byte)
{
    if (e->pos < e->size)
        e->buffer[e->pos++] = (uint8_t)byte;
    else
        e->overflow = true;
}

static inline void emit_bytes(struct emit *e, const void *bytes, uint32_t count)
{
    if (e->size - e->pos >= count) {
        memcpy(e->buffer + e->pos, bytes, count);
        e->pos += count;
    } else {
        e->overflow = true;
    }
}

static inline void emit16(struct emit *e, uint16_t value)
{
    emit_bytes(e, &value, sizeof(value));
}
static inline void emit32(struct emit *e, uint32_t value)
{
    emit_bytes(e, &value, sizeof(value));
}
static inline void emit64(struct emit *e, uint64_t value)
{
    emit_bytes(e, &value, sizeof(value));
}

/* [opcode] with ModRM register form. opcode may be 1 byte, or 0F xx as 0x0Fxx. */
void emit_reg_reg(struct emit *e, int w, unsigned opcode, unsigned reg, unsigned rm);
/* ModRM memory form [base + index*2^scale + disp]; base/index may be H_NONE. */
void emit_reg_mem(struct emit *e, int w, unsigned opcode, unsigned reg, unsigned base,
                  unsigned index, unsigned scale, int32_t disp);
/* reg op gs:[disp], with an optional legacy prefix (0: none, 0x66). */
void emit_reg_gs(struct emit *e, unsigned prefix, int w, unsigned opcode, unsigned reg,
                 int32_t disp);
/* reg op gs:[index + disp]. */
void emit_reg_gs_index(struct emit *e, int w, unsigned opcode, unsigned reg, unsigned index,
                       int32_t disp);
/* The ModRM, SIB and displacement bytes of a memory form, without prefixes and opcode. */
void emit_modrm_mem(struct emit *e, unsigned reg, unsigned base, unsigned index, unsigned scale,
                    int32_t disp);
/* REX byte if any bit is needed (reg/index/base are full numbers or H_NONE). */
void emit_rex(struct emit *e, int w, unsigned reg, unsigned index, unsigned base);

static inline void emit_mov(struct emit *e, int w, unsigned dst, unsigned src)
{
    emit_reg_reg(e, w, 0x8b, dst, src);
}
static inline void emit_load_gs(struct emit *e, int w, unsigned dst, int32_t disp)
{
    emit_reg_gs(e, 0, w, 0x8b, dst, disp);
}
static inline void emit_store_gs(struct emit *e, int w, int32_t disp, unsigned src)
{
    emit_reg_gs(e, 0, w, 0x89, src, disp);
}
static inline void emit_lea(struct emit *e, int w, unsigned dst, unsigned base, unsigned index,
                            unsigned scale, int32_t disp)
{
    emit_reg_mem(e, w, 0x8d, dst, base, index, scale, disp);
}
/* Shortest flag-neutral load of a constant. */
void emit_mov_imm(struct emit *e, unsigned dst, uint64_t value);
/* mov byte gs:[disp], imm8 / mov dword gs:[disp], imm32 */
void emit_store_gs_imm8(struct emit *e, int32_t disp, uint8_t value);
void emit_store_gs_imm32(struct emit *e, int32_t disp, uint32_t value);
/* cmp dword gs:[disp], imm8 */
void emit_cmp_gs_imm8(struct emit *e, int32_t disp, int8_t value);
/* 81 /ext: and, cmp, ... reg, imm32 */
void emit_alu_imm32(struct emit *e, int w, unsigned ext, unsigned reg, uint32_t value);
/* rorx dst, src, count (BMI2, flag-neutral) */
void emit_rorx(struct emit *e, int w, unsigned dst, unsigned src, unsigned count);
/* shlx/shrx dst, src, count: 64 bits, the count is a register (BMI2, flag-neutral) */
void emit_shlx(struct emit *e, unsigned dst, unsigned src, unsigned count);
void emit_shrx(struct emit *e, unsigned dst, unsigned src, unsigned count);

/* jmp/call/jcc rel32 to an executable address; returns the position of the rel32. */
uint32_t emit_jmp(struct emit *e, uint64_t target);
uint32_t emit_call(struct emit *e, uint64_t target);
uint32_t emit_jcc(struct emit *e, unsigned cc, uint64_t target);
/* The same to a place that is not known yet: patch later with emit_patch. */
static inline uint32_t emit_jcc_later(struct emit *e, unsigned cc)
{
    return emit_jcc(e, cc, e->exec);
}
static inline uint32_t emit_jmp_later(struct emit *e)
{
    return emit_jmp(e, e->exec);
}
/* Makes the rel32 at position site lead to position target of the same buffer. */
void emit_patch(struct emit *e, uint32_t site, uint32_t target);
/* Patches a rel8 at position site. */
void emit_patch8(struct emit *e, uint32_t site, uint32_t target);

#endif
