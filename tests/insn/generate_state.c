#include "generate_private.h"

#include <string.h>

enum { ES, CS, SS, DS, FS, GS };

uint64_t segment_offset(const struct gen *g, unsigned seg, uint64_t linear)
{
    if (g->c->mode == 64)
        return linear;
    return (uint32_t)(linear - segment_rows[g->c->segment[seg]].base);
}

static uint8_t pick(struct gen *g, const uint8_t *list, unsigned count)
{
    return list[random_below(&g->r, count)];
}

static void choose_segments(struct gen *g)
{
    static const uint8_t data32[] = {SEGI_FLAT, SEGI_FLAT,        SEGI_FLAT,
                                     SEGI_DATA, SEGI_DATA_MIDDLE, SEGI_EXPAND_DOWN};
    static const uint8_t data16[] = {SEGI_DATA16, SEGI_DATA16, SEGI_DATA16_END, SEGI_DATA_MIDDLE};
    static const uint8_t stack32[] = {SEGI_FLAT, SEGI_FLAT, SEGI_FLAT, SEGI_STACK32, SEGI_STACK16};
    static const uint8_t stack16[] = {SEGI_STACK16, SEGI_STACK16, SEGI_STACK16_END, SEGI_STACK32};
    uint8_t *seg = g->c->segment;
    if (g->c->mode == 32) {
        bool flat = random_percent(&g->r, 50);
        seg[CS] = flat || random_percent(&g->r, 50) ? SEGI_CODE32_FLAT : SEGI_CODE32;
        seg[DS] = flat ? (uint8_t)SEGI_FLAT : pick(g, data32, 6);
        seg[ES] = flat || random_percent(&g->r, 50) ? seg[DS] : pick(g, data32, 6);
        seg[SS] = flat ? (uint8_t)SEGI_FLAT : pick(g, stack32, 5);
        seg[FS] = random_percent(&g->r, 50) ? seg[DS] : pick(g, data32, 6);
        seg[GS] = random_percent(&g->r, 30) ? (uint8_t)SEGI_READ_ONLY : seg[DS];
    } else {
        seg[CS] = SEGI_CODE16;
        seg[DS] = pick(g, data16, 4);
        seg[ES] = random_percent(&g->r, 50) ? seg[DS] : pick(g, data16, 4);
        seg[SS] = pick(g, stack16, 4);
        seg[FS] = random_percent(&g->r, 50) ? seg[DS] : pick(g, data16, 4);
        seg[GS] = random_percent(&g->r, 30) ? (uint8_t)SEGI_READ_ONLY : seg[DS];
    }
}

static void choose_roles(struct gen *g)
{
    unsigned registers = g->c->mode == 64 ? 16 : 8;
    memset(g->role, ROLE_RANDOM, sizeof(g->role));
    for (unsigned i = 0; i < registers; i++) {
        unsigned dice = random_below(&g->r, 100);
        g->role[i] = dice < 25 ? ROLE_POINTER : dice < 45 ? ROLE_SMALL : ROLE_RANDOM;
    }
    if (g->c->mode == 16) { /* what 16-bit addresses are made of */
        g->role[3] = ROLE_POINTER;
        g->role[6] = random_percent(&g->r, 50) ? ROLE_SMALL : ROLE_POINTER;
        g->role[7] = random_percent(&g->r, 50) ? ROLE_SMALL : ROLE_POINTER;
    }
    if (random_percent(&g->r, 70)) /* one that lives in memory while translated */
        g->role[g->c->mode == 64 ? 8 + random_below(&g->r, 4) : 3] = ROLE_POINTER;
    g->role[4] = ROLE_STACK;
    g->role[5] = random_percent(&g->r, 70) ? ROLE_STACK : ROLE_RANDOM;
    g->strings = random_percent(&g->r, 15);
    if (g->strings) {
        g->role[6] = g->role[7] = ROLE_POINTER;
        g->role[1] = ROLE_SMALL;
    }
    g->keep = 0;
    for (unsigned i = 0; i < 16; i++)
        g->keep |= (uint16_t)((g->role[i] >= ROLE_POINTER) << i);
}

static uint64_t small_value(struct random *r)
{
    switch (random_below(r, 4)) {
    case 0:
        return random_below(r, 8) * 16;
    case 1:
        return (uint64_t) - (int64_t)random_below(r, 64);
    default:
        return random_below(r, 100);
    }
}

static void choose_registers(struct gen *g)
{
    struct random *r = &g->r;
    struct insn_state *in = &g->c->in;
    for (unsigned i = 0; i < 16; i++) {
        unsigned seg = i == 7 && g->strings ? ES : DS;
        uint64_t value = 0;
        switch ((enum role)g->role[i]) {
        case ROLE_POINTER:
            value = segment_offset(g, seg, data_pointer(g));
            break;
        case ROLE_STACK:
            value = segment_offset(g, SS, stack_pointer(g));
            break;
        case ROLE_SMALL:
            value = small_value(r);
            break;
        case ROLE_RANDOM:
            value = value_interesting(r);
            break;
        }
        if (g->c->mode == 16 && random_percent(r, 50))
            value = (value & 0xffff) | (random_u64(r) & 0xffff0000);
        in->gpr[i] = g->c->mode == 64 ? value : (uint32_t)value;
        if (g->c->mode != 64 && i >= 8)
            in->gpr[i] = 0;
    }
    if (g->strings && random_percent(r, 90))
        in->gpr[1] = random_below(r, random_percent(r, 80) ? 24 : 700);
    in->fs_base = in->gs_base = 0;
    if (g->c->mode == 64) {
        in->fs_base = random_percent(r, 90) ? data_pointer(g) : 0;
        in->gs_base = random_percent(r, 90) ? data_pointer(g) : 0;
    }
    uint64_t flags = random_u64(r);
    in->rflags = 0x202 | (flags & 0x8d5);
    if (random_percent(r, 15))
        in->rflags |= 0x400; /* DF */
    if (random_percent(r, 10))
        in->rflags |= flags & 0x204000; /* NT, ID */
    if (random_percent(r, 8))
        in->rflags |= 0x40000; /* AC */
}

static void put16(uint8_t *p, unsigned value)
{
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
}

static void choose_x87(struct gen *g)
{
    struct random *r = &g->r;
    uint8_t *xsave = g->c->in.xsave;
    unsigned control = 0x37f, status = random_below(r, 8) << 11, tags = 0xff;
    if (random_percent(r, 30))
        control = 0x7f | random_below(r, 4) << 8 | random_below(r, 4) << 10;
    if (random_percent(r, 8) && !g->g->no_faults)
        control &= ~random_below(r, 64);
    if (random_percent(r, 15))
        status |= random_u64(r) & 0x477f;
    if (status & ~control & 0x3f)
        status |= 0x8080;
    if (random_percent(r, 40))
        tags = random_percent(r, 60) ? random_below(r, 256) : 0;
    put16(xsave, control);
    put16(xsave + 2, status);
    xsave[4] = (uint8_t)tags;
    for (unsigned i = 0; i < 8; i++) {
        uint64_t significand = value_interesting(r);
        unsigned exponent = (unsigned)random_u64(r) & 0xffff;
        unsigned dice = random_below(r, 10);
        if (dice < 5)
            exponent = 0x3ff0 + random_below(r, 64) + (exponent & 0x8000);
        else if (dice < 6)
            exponent |= 0x7fff;
        else if (dice < 7)
            exponent &= 0x8000;
        if (exponent & 0x7fff && dice < 9)
            significand |= 1ull << 63;
        if (dice == 7)
            significand = (uint64_t)1 << 63, exponent |= 0x7fff;
        memcpy(xsave + 32 + 16 * i, &significand, 8);
        put16(xsave + 32 + 16 * i + 8, exponent);
    }
}

static void choose_vectors(struct gen *g)
{
    struct random *r = &g->r;
    uint8_t *xsave = g->c->in.xsave;
    uint32_t mxcsr = 0x1f80;
    if (random_percent(r, 30))
        mxcsr |= (uint32_t)random_u64(r) & 0xe040;
    if (random_percent(r, 8) && !g->g->no_faults)
        mxcsr &= ~((uint32_t)random_u64(r) & 0x1f80);
    if (random_percent(r, 10))
        mxcsr |= (uint32_t)random_u64(r) & 0x3f;
    memcpy(xsave + 24, &mxcsr, 4);
    unsigned registers = g->c->mode == 64 ? 16 : 8;
    for (unsigned i = 0; i < registers; i++) {
        for (unsigned half = 0; half < 4; half++) {
            uint64_t value = value_interesting(r);
            if (i == 5) /* indices for gathers: doublewords, quadwords */
                value = (uint64_t)random_below(r, 64) << 32 | (uint32_t)(64 - random_below(r, 128));
            else if (i == 6)
                value = random_below(r, 200);
            memcpy(xsave + (half < 2 ? 160 : 576 - 16) + 16 * i + 8 * half, &value, 8);
        }
    }
    xsave[512] = 7;
}

void generate_state(struct gen *g)
{
    struct insn_case *c = g->c;
    memset(&c->in, 0, sizeof(c->in));
    c->high = c->mode == 64 && random_percent(&g->r, 30);
    if (c->mode != 64)
        choose_segments(g);
    choose_roles(g);
    choose_pages(g);
    begin_modifying(g);
    choose_registers(g);
    choose_x87(g);
    choose_vectors(g);
    choose_code_start(g);
    uint64_t linear = LINEAR_CODE + c->code_start + (c->high ? LINEAR_HIGH : 0);
    c->in.rip = segment_offset(g, CS, linear);
}
