/* Row lookup of insn_table.def. Private to src/decoder/ (and its completeness test). */
#ifndef VD_DECODER_INSN_TABLE_H
#define VD_DECODER_INSN_TABLE_H

#include <stddef.h>
#include <stdint.h>

enum { INSN_BY_SET = 0xff };

struct insn_row {
    uint32_t match;    /* condition of the row, see insn_table.c */
    uint16_t mnemonic; /* ZydisMnemonic */
    uint16_t op;       /* enum insn_op */
    uint8_t kind;      /* enum insn_kind */
    uint8_t feature;   /* enum x86_feature or INSN_BY_SET */
    uint8_t fpu;       /* enum insn_fpu or INSN_BY_SET */
    const char *text;  /* SDM notation */
};

struct insn_set_rule {
    uint8_t known; /* the ISA set has a SET row */
    uint8_t feature, fpu;
};

/* What a match condition may look at. */
struct insn_key {
    uint16_t mnemonic;
    uint8_t isa_set; /* ZydisISASet */
    uint8_t map, opcode, digit;
    uint8_t bits; /* 16, 32, 64 */
};

/* The row of the instruction, or NULL: its ISA set decides alone. */
const struct insn_row *insn_row_find(const struct insn_key *key);
const struct insn_set_rule *insn_set_rule(uint8_t isa_set);

/* All rows, in file order; for tests. */
const struct insn_row *insn_rows(size_t *count);

#endif
