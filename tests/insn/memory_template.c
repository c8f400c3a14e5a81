/* What every test finds in memory, and the descriptors it may use. */
#include "insn_case.h"

#include <string.h>

#include "values.h"

const struct segment_row segment_rows[SEGI_COUNT] = {
    [SEGI_CODE32_FLAT] = {.limit = UINT32_MAX, .code = true, .big = true},
    [SEGI_CODE32] = {.base = LINEAR_CODE, .limit = CODE_BYTES - 1, .code = true, .big = true},
    [SEGI_CODE16] = {.base = LINEAR_CODE, .limit = 0xffff, .code = true},
    [SEGI_FLAT] = {.limit = UINT32_MAX, .big = true},
    [SEGI_DATA] = {.base = LINEAR_DATA, .limit = DATA_BYTES - 1, .big = true},
    [SEGI_DATA_MIDDLE] = {.base = LINEAR_DATA - 0x8000, .limit = 0xffff, .big = true},
    [SEGI_DATA16] = {.base = LINEAR_DATA, .limit = 0xffff},
    [SEGI_DATA16_END] = {.base = LINEAR_DATA + DATA_WRITABLE - 0x10000, .limit = 0xffff},
    [SEGI_STACK16] = {.base = LINEAR_STACK, .limit = STACK_BYTES - 1},
    [SEGI_STACK16_END] = {.base = LINEAR_STACK + STACK_BYTES - 0x10000, .limit = 0xffff},
    [SEGI_STACK32] = {.base = LINEAR_STACK, .limit = STACK_BYTES - 1, .big = true},
    [SEGI_EXPAND_DOWN] = {.base = LINEAR_DATA - 0x2000,
                          .limit = 0x1fff,
                          .big = true,
                          .expand_down = true},
    [SEGI_READ_ONLY] = {.base = LINEAR_DATA,
                        .limit = DATA_BYTES - 1,
                        .big = true,
                        .read_only = true},
    [SEGI_CODE_ALIAS] = {.base = LINEAR_CODE, .limit = CODE_BYTES - 1},
};

uint64_t value_interesting(struct random *r)
{
    static const uint64_t doubles[] = {0,
                                       0x8000000000000000,
                                       0x3ff0000000000000,
                                       0xbff0000000000000,
                                       0x7ff0000000000000,
                                       0xfff0000000000000,
                                       0x7ff8000000000000,
                                       0x7ff0000000000001,
                                       0x0000000000000001,
                                       0x000fffffffffffff,
                                       0x0010000000000000,
                                       0x7fefffffffffffff,
                                       0x4330000000000000,
                                       0x43e0000000000000,
                                       0xc3e0000000000000,
                                       0x41dfffffffc00000};
    static const uint32_t singles[] = {0,          0x80000000, 0x3f800000, 0xbf800000,
                                       0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001,
                                       0x00000001, 0x007fffff, 0x00800000, 0x7f7fffff,
                                       0x4b000000, 0x4f000000, 0xcf000000, 0x5f000000};
    uint64_t raw = random_u64(r);
    switch (random_below(r, 5)) {
    case 0:
        return doubles[raw & 15];
    case 1:
        return (uint64_t)singles[raw >> 4 & 15] << 32 | singles[raw & 15];
    case 2:
        return (uint64_t)((int64_t)raw >> (raw & 63));
    case 3: /* a moderate double */
        return (raw & 0x800fffffffffffff) | (0x3f0 + (raw >> 52 & 0x1f)) << 52;
    default:
        return raw;
    }
}

static void put16(uint8_t *p, unsigned value)
{
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
}

/* XSAVE and FNSAVE images that load without a fault. */
static void valid_images(uint8_t *data)
{
    uint8_t *fx = data + DATA_FXSAVE;
    put16(fx, 0x37f);
    put16(fx + 2, 3 << 11); /* TOP */
    put16(fx + 4, 0xb5);
    memset(fx + 6, 0, 18);
    put16(fx + 24, 0x1f80);
    put16(fx + 26, 0);
    for (unsigned i = 0; i < 8; i++)
        memset(fx + 32 + 16 * i + 10, 0, 6);
    memset(fx + 512, 0, 64);
    fx[512] = 5; /* x87 and AVX; SSE initial */
    uint8_t *save = data + DATA_FNSAVE;
    memset(save, 0, 28);
    put16(save, 0x27f);
    put16(save + 4, 5 << 11);
    put16(save + 8, 0x4e4d);
    save = data + DATA_FNSAVE16;
    memset(save, 0, 14);
    put16(save, 0xf7f);
    put16(save + 2, 2 << 11);
    put16(save + 4, 0x139c);
    for (unsigned i = 0; i < 16; i++) {
        uint8_t *mxcsr = data + DATA_MXCSR + 4 * i;
        put16(mxcsr, 0x1f80 | (i & 3) << 13 | (i & 4 ? 0x8000u : 0) | (i & 8 ? 0x40u : 0));
        put16(mxcsr + 2, 0);
        put16(data + DATA_FCW + 4 * i, 0x7f | (i & 3) << 10 | (i >> 2 & 3) << 8);
        put16(data + DATA_FCW + 4 * i + 2, 0x37f);
    }
}

void memory_template(uint8_t memory[MEMORY_BYTES])
{
    struct random r = {.state = 0x5eed};
    for (size_t i = 0; i < MEMORY_BYTES; i += 8) {
        uint64_t value = value_interesting(&r);
        memcpy(memory + i, &value, sizeof(value));
    }
    valid_images(memory);
}
