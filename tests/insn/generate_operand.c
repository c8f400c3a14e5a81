#include "generate_private.h"

#include <string.h>

enum { DS = 3 };

static void put(struct memory_choice *m, uint64_t value, unsigned size)
{
    memcpy(m->bytes + m->size, &value, size);
    m->size += size;
}

static void put_modrm(struct memory_choice *m, unsigned mod, unsigned reg, unsigned rm)
{
    m->size = 0;
    put(m, mod << 6 | (reg & 7) << 3 | (rm & 7), 1);
}

static int64_t displacement(struct gen *g, bool aligned, bool *wide)
{
    struct random *r = &g->r;
    unsigned dice = random_below(r, 100);
    *wide = dice >= 75;
    int64_t disp =
        *wide ? (int64_t)random_below(r, 3000) - 1500 : (int64_t)random_below(r, 256) - 128;
    if (dice < 15)
        disp = 0;
    return aligned ? disp & ~31ll : disp;
}

/* Any register of the role; the number of registers is 8 if low. -1: none. */
static int register_with(struct gen *g, enum role role, bool low)
{
    unsigned registers = g->c->mode == 64 && !low ? 16 : 8;
    unsigned start = random_below(&g->r, registers);
    for (unsigned i = 0; i < registers; i++) {
        unsigned number = (start + i) % registers;
        if (g->role[number] == role)
            return (int)number;
    }
    return -1;
}

/* [base + index * scale + disp]; the caller adds REX or VEX bits from the numbers. */
static void based(struct gen *g, struct memory_choice *m, unsigned reg, unsigned base, int index,
                  bool aligned)
{
    bool wide, sib = index >= 0 || (base & 7) == 4;
    int64_t disp = displacement(g, aligned, &wide);
    bool none = disp == 0 && (base & 7) != 5;
    put_modrm(m, none ? 0 : wide ? 2 : 1, reg, sib ? 4 : base);
    m->rex_b = base >= 8;
    m->rex_x = index >= 8;
    if (sib)
        put(m,
            random_below(&g->r, 4) << 6 | ((unsigned)(index < 0 ? 4 : index) & 7) << 3 | (base & 7),
            1);
    if (!none)
        put(m, (uint64_t)disp, wide ? 4 : 1);
}

static void absolute(struct gen *g, struct memory_choice *m, unsigned reg, unsigned addrsize,
                     uint64_t offset)
{
    if (addrsize == 2) {
        put_modrm(m, 0, reg, 6);
        put(m, offset, 2);
    } else if (g->c->mode == 64) {
        put_modrm(m, 0, reg, 4);
        put(m, 0x25, 1);
        put(m, offset, 4);
    } else {
        put_modrm(m, 0, reg, 5);
        put(m, offset, 4);
    }
}

void absolute_memory(struct gen *g, struct memory_choice *m, unsigned reg, unsigned data_offset)
{
    m->rip_disp = 0;
    m->rex_b = m->rex_x = false;
    m->data_offset = data_offset;
    absolute(g, m, reg, g->c->mode == 16 ? 2 : 4, segment_offset(g, DS, LINEAR_DATA + data_offset));
}

static void choose_16(struct gen *g, struct memory_choice *m, unsigned reg, bool aligned)
{
    static const int8_t first[8] = {3, 3, 5, 5, 6, 7, 5, 3};
    static const int8_t second[8] = {6, 7, 6, 7, -1, -1, -1, -1};
    bool wide;
    unsigned rm = random_below(&g->r, 8);
    for (unsigned tries = 0; tries < 12; tries++, rm = random_below(&g->r, 8)) {
        bool pointer = g->role[first[rm]] >= ROLE_POINTER;
        bool other = second[rm] < 0 || g->role[second[rm]] == ROLE_SMALL;
        bool swapped = second[rm] >= 0 && g->role[first[rm]] == ROLE_SMALL &&
                       g->role[second[rm]] >= ROLE_POINTER;
        if ((pointer && other) || swapped)
            break;
    }
    int64_t disp = displacement(g, aligned, &wide);
    put_modrm(m, wide ? 2 : 1, reg, rm);
    put(m, (uint64_t)disp, wide ? 2 : 1);
}

static void choose_random(struct gen *g, struct memory_choice *m, unsigned reg)
{
    uint64_t raw = random_u64(&g->r);
    put_modrm(m, (raw & 3) % 3, reg, raw >> 8 & 7);
    put(m, raw >> 16 & 0xff, 1);
    put(m, raw & 1 ? raw >> 32 : (uint64_t)((int64_t)raw >> 58), 4);
}

void choose_memory(struct gen *g, struct memory_choice *m, unsigned reg, unsigned addrsize,
                   bool vsib, bool aligned, bool override)
{
    struct random *r = &g->r;
    unsigned dice = random_below(r, 100);
    m->rip_disp = 0;
    m->rex_b = m->rex_x = false;
    if (addrsize == 2) {
        if (dice < 10)
            absolute(g, m, reg, 2,
                     segment_offset(g, DS, LINEAR_DATA) + random_below(r, DATA_WRITABLE));
        else
            choose_16(g, m, reg, aligned);
        return;
    }
    int pointer = register_with(g, ROLE_POINTER, false);
    int stack = g->c->mode == 64 || random_percent(r, 70) ? 4 : 5;
    if (override && g->c->mode == 64 && random_percent(r, 70)) {
        absolute(g, m, reg, 8, random_below(r, 64)); /* behind the base in FS or GS */
    } else if (vsib) {
        based(g, m, reg, pointer < 0 ? 4u : (unsigned)pointer, random_percent(r, 60) ? 5 : 6,
              aligned);
    } else if (dice < 50 && pointer >= 0) {
        based(g, m, reg, (unsigned)pointer, -1, aligned);
    } else if (dice < 68 && pointer >= 0) {
        int index = register_with(g, ROLE_SMALL, false);
        based(g, m, reg, (unsigned)pointer, index == 4 ? -1 : index, aligned);
    } else if (dice < 78) {
        uint64_t at = LINEAR_DATA + random_below(r, DATA_WRITABLE);
        absolute(g, m, reg, addrsize, segment_offset(g, DS, aligned ? at & ~31ull : at));
        if (g->c->mode == 64 && random_percent(r, 70)) {
            put_modrm(m, 0, reg, 5);
            put(m, 0, 4);
            m->rip_disp = 1;
            m->target = at + (g->c->high ? LINEAR_HIGH : 0);
        }
    } else if (dice < 96 || g->g->no_faults) {
        based(g, m, reg, random_percent(r, 30) ? 5 : (unsigned)stack, -1, aligned);
    } else {
        choose_random(g, m, reg);
    }
}
