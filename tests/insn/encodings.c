#include "encodings.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_ENCODINGS = 120000 };

/* VEX, EVEX or XOP in place of LDS, LES, BOUND and POP. */
static bool is_escape(const struct encoding *e)
{
    if (e->space != SPACE_LEGACY || e->map)
        return false;
    if (e->opcode == 0x8f)
        return e->reg & 3;
    return !e->memory && (e->opcode == 0x62 || e->opcode == 0xc4 || e->opcode == 0xc5);
}

static void add(struct encoding_list *list, struct encoding e)
{
    if (!is_escape(&e) && list->count < MAX_ENCODINGS)
        list->rows[list->count++] = e;
}

/* Every ModRM.reg (or a varying one), with memory and with register operands. */
static void add_modrm(struct encoding_list *list, struct encoding e, bool every_reg, bool every_rm)
{
    for (unsigned i = 0; i < (every_reg ? 8u : 1u); i++) {
        e.reg = (uint8_t)(every_reg ? i : e.opcode * 5u + e.prefixes);
        e.reg &= 7;
        e.memory = true;
        add(list, e);
        e.memory = false;
        for (unsigned rm = 0; rm < (every_rm ? 8u : 1u); rm++) {
            e.rm = (uint8_t)(every_rm ? rm : (e.opcode * 3u + e.reg) & 7);
            add(list, e);
        }
    }
}

/* Opcodes where ModRM.reg selects the instruction. */
static bool is_group(unsigned map, unsigned opcode)
{
    static const uint8_t map0[] = {0x80, 0x81, 0x82, 0x83, 0x8c, 0x8e, 0x8f, 0xc0, 0xc1, 0xc4,
                                   0xc5, 0xc6, 0xc7, 0xd0, 0xd1, 0xd2, 0xd3, 0xd8, 0xd9, 0xda,
                                   0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xf6, 0xf7, 0xfe, 0xff};
    static const uint8_t map1[] = {0x00, 0x01, 0x0d, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d,
                                   0x1e, 0x1f, 0x20, 0x21, 0x22, 0x23, 0x24, 0x26, 0x71,
                                   0x72, 0x73, 0x78, 0xae, 0xb9, 0xba, 0xc7, 0xff};
    if (map == 0)
        return memchr(map0, (int)opcode, sizeof(map0)) != NULL;
    return map == 1 && memchr(map1, (int)opcode, sizeof(map1)) != NULL;
}

static bool is_prefix(unsigned mode, unsigned opcode)
{
    static const uint8_t prefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65,
                                       0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x0f};
    static const uint8_t escapes[] = {0x62, 0xc4, 0xc5}; /* 64-bit mode: always EVEX and VEX */
    return memchr(prefixes, (int)opcode, sizeof(prefixes)) ||
           (mode == 64 && ((opcode & 0xf0) == 0x40 || memchr(escapes, (int)opcode, 3)));
}

static void add_legacy(struct encoding_list *list)
{
    static const uint8_t prefixes[] = {0,
                                       BEFORE_66,
                                       BEFORE_F3,
                                       BEFORE_F2,
                                       BEFORE_66 | BEFORE_F2,
                                       BEFORE_66 | BEFORE_F3,
                                       BEFORE_LOCK,
                                       BEFORE_LOCK | BEFORE_F3,
                                       BEFORE_LOCK | BEFORE_F2,
                                       BEFORE_REX_W,
                                       BEFORE_REX_R,
                                       BEFORE_LOCK | BEFORE_REX_W,
                                       BEFORE_F3 | BEFORE_REX_W};
    for (unsigned map = 0; map < 4; map++) {
        for (unsigned opcode = 0; opcode < 256; opcode++) {
            if ((map == 0 && is_prefix(list->mode, opcode)) ||
                (map == 1 && (opcode == 0x0f || opcode == 0x38 || opcode == 0x3a)))
                continue;
            bool x87 = map == 0 && (opcode & 0xf8) == 0xd8;
            bool every_rm = map == 1 && (opcode == 0x01 || opcode == 0xae);
            unsigned count = list->mode != 64 ? 9 : 13;
            for (unsigned p = 0; p < (x87 ? 1 : count); p++)
                add_modrm(list,
                          (struct encoding){.map = (uint8_t)map,
                                            .opcode = (uint8_t)opcode,
                                            .prefixes = prefixes[p]},
                          is_group(map, opcode), x87 || every_rm);
        }
    }
    for (unsigned suffix = 0; suffix < 256; suffix++)
        add_modrm(
            list,
            (struct encoding){.map = 1, .opcode = 0x0f, .suffix = (uint8_t)suffix, .prefixes = 0},
            false, false);
}

static void add_vex(struct encoding_list *list)
{
    for (unsigned map = 0; map < 32; map++) {
        for (unsigned i = 0; i < 256u * 8; i++) {
            struct encoding e = {.space = SPACE_VEX,
                                 .map = (uint8_t)map,
                                 .opcode = (uint8_t)(i >> 3),
                                 .pp = i & 3,
                                 .l = i >> 2 & 1};
            if ((map == 0 || map > 3) && i % 61)
                continue;
            bool group = (map == 1 && (e.opcode == 0xae || (e.opcode & 0xfc) == 0x70)) ||
                         (map == 2 && e.opcode == 0xf3);
            for (unsigned w = 0; w < 2; w++) {
                e.w = (uint8_t)w;
                add_modrm(list, e, group, false);
            }
            if (map == 0 || map > 3 || i % 7)
                continue;
            static const uint8_t before[] = {BEFORE_LOCK, BEFORE_66, BEFORE_F3, BEFORE_F2,
                                             BEFORE_REX_W};
            e.prefixes = before[i / 7 % (list->mode == 64 ? 5 : 4)];
            add_modrm(list, e, false, false);
        }
    }
}

/* Spaces that no model offers: few are enough. */
static void add_others(struct encoding_list *list)
{
    for (unsigned map = 0; map < 8; map++) {
        for (unsigned opcode = 0; opcode < 256; opcode++)
            add_modrm(list,
                      (struct encoding){.space = SPACE_EVEX,
                                        .map = (uint8_t)map,
                                        .opcode = (uint8_t)opcode,
                                        .pp = (opcode ^ opcode >> 2 ^ map) & 3,
                                        .l = (uint8_t)((opcode * 3u + map) % 3),
                                        .w = opcode >> 3 & 1},
                      false, false);
    }
    for (unsigned map = 8; map < 12; map++) {
        for (unsigned opcode = 0; opcode < 256; opcode++)
            add_modrm(list,
                      (struct encoding){.space = SPACE_XOP,
                                        .map = (uint8_t)map,
                                        .opcode = (uint8_t)opcode,
                                        .l = opcode & 1,
                                        .w = opcode >> 1 & 1},
                      false, false);
    }
}

/* TZCNT and LZCNT are BSF and BSR on a processor that does not know them (SDM vol. 2). */
static void add_fallbacks(struct encoding_list *list)
{
    for (unsigned i = 0; i < 64; i++)
        add_modrm(
            list,
            (struct encoding){.map = 1,
                              .opcode = (uint8_t)(0xbc | (i & 1)),
                              .prefixes = (uint8_t)(BEFORE_F3 | (i & 2 ? BEFORE_66 : 0) |
                                                    (i & 4 && list->mode == 64 ? BEFORE_REX_W : 0)),
                              .fallback = true},
            true, false);
}

int encoding_list_init(struct encoding_list *list, unsigned mode)
{
    list->mode = mode;
    list->count = 0;
    list->rows = calloc(MAX_ENCODINGS, sizeof(*list->rows));
    if (!list->rows)
        return -1;
    add_legacy(list);
    add_vex(list);
    add_others(list);
    add_fallbacks(list);
    return 0;
}

void encoding_list_free(struct encoding_list *list)
{
    free(list->rows);
}

unsigned encoding_mandatory(const struct encoding *e)
{
    if (e->space != SPACE_LEGACY)
        return e->pp;
    return e->prefixes & BEFORE_F2 ? 3 : e->prefixes & BEFORE_F3 ? 2 : !!(e->prefixes & BEFORE_66);
}
