#include "decoder/insn_table.h"

#include <Zydis/Zydis.h>

#include "cpu/cpuid.h"
#include "decoder/insn.h"

/* Match conditions: kind in the top byte, operands below. */
enum {
    MATCH_ANY = 0u << 24,
    MATCH_OPCODE = 1u << 24,
    MATCH_DIGIT = 2u << 24,
    MATCH_SET = 3u << 24,
    MATCH_64BIT = 4u << 24,
    MATCH_TYPE = 0x7fu << 24,
};

#define ANY                         MATCH_ANY
#define OPC(map, opcode)            (MATCH_OPCODE | (map) << 8 | (opcode))
#define OPC_DIGIT(map, opcode, reg) (MATCH_DIGIT | (reg) << 16 | (map) << 8 | (opcode))
#define IN_SET(set)                 (MATCH_SET | ZYDIS_ISA_SET_##set)
#define IN_64BIT                    MATCH_64BIT

#define FEAT_BY_SET INSN_BY_SET
#define FPU_BY_SET  INSN_BY_SET

#define ROW_NAME_(line) ROW_AT_##line
#define ROW_NAME(line)  ROW_NAME_(line)

enum row_index {
#define INSN(mnemonic, ...) ROW_##mnemonic,
#define FORM(...)           ROW_NAME(__LINE__),
#define SET(...)
#include "decoder/insn_table.def"
#undef INSN
#undef FORM
#undef SET
    ROW_COUNT
};

static const struct insn_row rows[] = {
#define INSN(mnemonic_, match_, text_, kind_, op_, feature_, fpu_)                                 \
    {.match = match_,                                                                              \
     .mnemonic = ZYDIS_MNEMONIC_##mnemonic_,                                                       \
     .op = OP_##op_,                                                                               \
     .kind = KIND_##kind_,                                                                         \
     .feature = FEAT_##feature_,                                                                   \
     .fpu = FPU_##fpu_,                                                                            \
     .text = text_},
#define FORM INSN
#define SET(...)
#include "decoder/insn_table.def"
#undef INSN
#undef FORM
#undef SET
};

/* Mnemonic -> its first row + 1; 0: none. */
static const uint16_t first_row[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
#define INSN(mnemonic, ...) [ZYDIS_MNEMONIC_##mnemonic] = ROW_##mnemonic + 1,
#define FORM(...)
#define SET(...)
#include "decoder/insn_table.def"
#undef INSN
#undef FORM
#undef SET
};

static const struct insn_set_rule set_rules[ZYDIS_ISA_SET_MAX_VALUE + 1] = {
#define INSN(...)
#define FORM(...)
#define SET(set, feature_, fpu_) [ZYDIS_ISA_SET_##set] = {1, FEAT_##feature_, FPU_##fpu_},
#include "decoder/insn_table.def"
#undef INSN
#undef FORM
#undef SET
};

static int row_matches(const struct insn_row *row, const struct insn_key *key)
{
    switch (row->match & MATCH_TYPE) {
    case MATCH_OPCODE:
        return (row->match & 0xffff) == (uint32_t)(key->map << 8 | key->opcode);
    case MATCH_DIGIT:
        return (row->match & 0xffffff) ==
               (uint32_t)(key->digit << 16 | key->map << 8 | key->opcode);
    case MATCH_SET:
        return (row->match & 0xff) == key->isa_set;
    case MATCH_64BIT:
        return key->bits == 64;
    default:
        return 1;
    }
}

const struct insn_row *insn_row_find(const struct insn_key *key)
{
    if (key->mnemonic > ZYDIS_MNEMONIC_MAX_VALUE || !first_row[key->mnemonic])
        return NULL;
    for (unsigned i = first_row[key->mnemonic] - 1u;
         i < ROW_COUNT && rows[i].mnemonic == key->mnemonic; i++)
        if (row_matches(&rows[i], key))
            return &rows[i];
    return NULL;
}

const struct insn_set_rule *insn_set_rule(uint8_t isa_set)
{
    return &set_rules[isa_set <= ZYDIS_ISA_SET_MAX_VALUE ? isa_set : 0];
}

const struct insn_row *insn_rows(size_t *count)
{
    *count = ROW_COUNT;
    return rows;
}
