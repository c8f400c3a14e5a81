/*
 * The guest's x87, MMX, SSE and AVX registers in struct x86_cpu.xsave: standard (non-compacted)
 * XSAVE format, SDM vol. 1, 10.5.1 and 13.4.
 */
#ifndef VD_ENGINE_BT_OPS_XSTATE_H
#define VD_ENGINE_BT_OPS_XSTATE_H

#include <stddef.h>
#include <stdint.h>

#include "engine/bt/ops.h"

enum { /* offsets */
       XS_FCW = 0,
       XS_FSW = 2,
       XS_FTW = 4, /* abridged: bit set = register not empty */
       XS_FOP = 6,
       XS_FIP = 8,
       XS_FDP = 16,
       XS_MXCSR = 24,
       XS_MXCSR_MASK = 28,
       XS_ST = 32, /* ST0-ST7, 16 bytes each */
       XS_XMM = 160,
       XS_LEGACY_END = 416,
       XS_LEGACY_SIZE = 512,
       XS_HEADER = 512, /* XSTATE_BV, XCOMP_BV, 48 reserved bytes */
       XS_HEADER_SIZE = 64,
       XS_YMM_HIGH = 576,
       XS_SIZE = 832,
};

enum { /* state components */
       XC_X87 = 1 << 0,
       XC_SSE = 1 << 1,
       XC_AVX = 1 << 2,
       XC_ALL = 7,
};

/*
 * FIP and FDP of the image, and of the host's registers behind it, while the guest's pointers are
 * in cpu->x87_pointers. No translated instruction and no operand is at this address.
 */
enum { XS_HELD = 1 };
enum { MXCSR_INIT = 0x1f80, FCW_INIT = 0x37f };
enum { FSW_ES = 1 << 7 }; /* an unmasked x87 exception is pending */

/*
 * Copies and clears without the C library, whose versions use vector registers. Word by word: the
 * start of REP MOVSB costs more than these few hundred bytes do.
 */
static inline void xs_copy(uint8_t *to, const uint8_t *from, size_t n)
{
    for (; n >= 8; n -= 8, to += 8, from += 8)
        __builtin_memcpy(to, from, 8);
    for (; n; n--)
        *to++ = *from++;
}
static inline void xs_zero(uint8_t *to, size_t n)
{
    const uint64_t zero = 0;

    for (; n >= 8; n -= 8, to += 8)
        __builtin_memcpy(to, &zero, 8);
    for (; n; n--)
        *to++ = 0;
}

static inline uint16_t xs_get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t xs_get32(const uint8_t *p)
{
    return xs_get16(p) | (uint32_t)xs_get16(p + 2) << 16;
}
static inline uint64_t xs_get64(const uint8_t *p)
{
    return xs_get32(p) | (uint64_t)xs_get32(p + 4) << 32;
}
static inline void xs_put16(uint8_t *p, unsigned value)
{
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
}
static inline void xs_put32(uint8_t *p, uint32_t value)
{
    xs_put16(p, value & 0xffff);
    xs_put16(p + 2, value >> 16);
}
static inline void xs_put64(uint8_t *p, uint64_t value)
{
    xs_put32(p, (uint32_t)value);
    xs_put32(p + 4, (uint32_t)(value >> 32));
}

/*
 * Parks the host registers and fills in components that are in their initial state, so that the
 * image can be read as it is. Every operation that looks at the image starts with it.
 */
void xstate_park(struct x86_cpu *cpu);
/* XINUSE of a parked image: components that differ (or may differ) from their initial state. */
uint64_t xstate_in_use(const struct x86_cpu *cpu);
/* Tells that components were changed in the image. */
void xstate_set_in_use(struct x86_cpu *cpu, uint64_t components);
/* Puts one component into its initial state. MXCSR belongs to none. */
void xstate_init(struct x86_cpu *cpu, uint64_t component);

/*
 * Sets TOP. The image holds ST(i), so the contents move in it for the physical registers to keep
 * theirs.
 */
void xstate_set_top(struct x86_cpu *cpu, unsigned top);

/* Vector registers that instructions can name now: 16 in 64-bit mode, else 8. */
static inline unsigned xstate_register_count(const struct x86_cpu *cpu)
{
    return x86_code64(cpu) ? 16 : 8;
}
/* After x87 state came from memory: what registers do not hold, and the summary of exceptions. */
void xstate_settle_x87(struct x86_cpu *cpu);

/* Bits of MXCSR that exist. */
uint32_t xstate_mxcsr_mask(const struct x86_cpu *cpu);

/* The halves of a vector register. */
static inline uint8_t *xstate_xmm(struct x86_cpu *cpu, unsigned reg)
{
    return cpu->xsave + XS_XMM + 16 * (reg & 15);
}
static inline uint8_t *xstate_ymm_high(struct x86_cpu *cpu, unsigned reg)
{
    return cpu->xsave + XS_YMM_HIGH + 16 * (reg & 15);
}

/* FXSAVE64 and its like: pointers of 64 bits without selectors. */
static inline bool xstate_wide(const struct insn *insn)
{
    return insn->rex & 8;
}
/* Sets the pointers, in place of those in the image. */
void xstate_set_pointers(struct x86_cpu *cpu, const struct x87_pointers *pointers);
/*
 * The pointers in FXSAVE format; the image is parked. Stored as AMD's processors do: zeros unless
 * an exception is pending (APM vol. 2, 11.4.4).
 */
void xstate_store_pointers(const struct x86_cpu *cpu, uint8_t *area, bool wide);
void xstate_load_pointers(struct x86_cpu *cpu, const uint8_t *area, bool wide);

/*
 * Applies the availability rules of insn->fpu_state (CR0.EM, MP, TS, CR4.OSFXSR, OSXSAVE, XCR0; SDM
 * vol. 3, 2.5 and table 2-2): 0, or -1 with #NM or #UD recorded.
 */
int fpu_check(struct x86_cpu *cpu, enum insn_fpu state);

/*
 * An instruction waits while an unmasked x87 exception is pending (SDM vol. 1, 8.7): #MF, or with
 * CR0.NE clear FERR#, which raises IRQ 13, and the instruction is tried again. With IGNNE# asserted
 * it is only noted (enum x86_ignne).
 */
enum op_result x87_error(struct x86_cpu *cpu);
/* Takes the exceptions out of the status word, so that nothing waits for them; returns them. */
unsigned x87_hide_exceptions(struct x86_cpu *cpu);
/* Brings them back and computes the summary bits anew. */
void x87_show_exceptions(struct x86_cpu *cpu, unsigned exceptions);

#endif
