/*
 * Every opcode slot of one code size, whether or not there is an instruction in it: the legacy maps
 * with each prefix that can select another instruction, and the VEX, EVEX, XOP and 3DNow! spaces.
 */
#ifndef VD_TESTS_INSN_ENCODINGS_H
#define VD_TESTS_INSN_ENCODINGS_H

#include <stdbool.h>
#include <stdint.h>

enum encoding_space { SPACE_LEGACY, SPACE_VEX, SPACE_EVEX, SPACE_XOP };

enum { /* encoding.prefixes, in the order in which they are written */
       BEFORE_LOCK = 1 << 0,
       BEFORE_66 = 1 << 1,
       BEFORE_F3 = 1 << 2,
       BEFORE_F2 = 1 << 3,
       BEFORE_REX_W = 1 << 4, /* 64-bit mode only, like the next one */
       BEFORE_REX_R = 1 << 5,
};

struct encoding {
    uint8_t space, map, opcode; /* 3DNow!: map 1, opcode 0F */
    uint8_t prefixes;
    uint8_t pp, l, w; /* VEX, EVEX and XOP */
    bool memory;
    uint8_t reg, rm; /* of ModRM */
    uint8_t suffix;  /* 3DNow! */
    /* An older instruction that processors without this one execute; see encoding_fallback(). */
    bool fallback;
};

struct encoding_list {
    unsigned mode;
    struct encoding *rows;
    uint32_t count;
};

/* -1: no memory. */
int encoding_list_init(struct encoding_list *list, unsigned mode);
void encoding_list_free(struct encoding_list *list);

/* 0: none, 1: 66, 2: F3, 3: F2. What selects the opcode, of VEX.pp or of the prefixes. */
unsigned encoding_mandatory(const struct encoding *e);

#endif
