/*
 * Every instruction form of one code size that the decoder knows, found by trying all opcodes:
 * what the generator chooses from, and what the coverage table is about.
 */
#ifndef VD_TESTS_INSN_FORMS_H
#define VD_TESTS_INSN_FORMS_H

#include "cpu/cpuid.h"
#include "decoder/insn.h"

enum form_group { /* the generator weighs these against each other */
                  GROUP_ALU,
                  GROUP_INTEGER, /* the other instructions on general registers */
                  GROUP_STACK,
                  GROUP_BRANCH,
                  GROUP_STRING,
                  GROUP_X87,
                  GROUP_VECTOR,
                  GROUP_OTHER,
                  GROUP_PRIVILEGED, /* #GP at CPL 3 */
                  GROUP_COUNT,
                  GROUP_EXCLUDED = GROUP_COUNT, /* offered, but the host cannot be compared with */
};

struct form {
    uint16_t mnemonic; /* ZydisMnemonic */
    uint8_t encoding;  /* ENC_LEGACY or ENC_VEX */
    uint8_t map, opcode, mandatory;
    uint8_t vex_w, vex_l;
    bool has_modrm, memory, vsib, fixed_rm;
    uint8_t reg, rm;    /* raw, of ModRM */
    uint16_t undefined; /* arithmetic flags that it leaves undefined */
};

struct form_mnemonic {
    uint16_t mnemonic;
    uint8_t group;
    uint32_t first, count; /* slice of forms */
    const char *name;
    const char *excluded; /* why, GROUP_EXCLUDED only */
};

struct form_table {
    unsigned mode;
    struct form *forms;
    uint32_t count;
    struct form_mnemonic *mnemonics; /* by group */
    unsigned mnemonic_count;
    unsigned group_first[GROUP_COUNT + 2]; /* slices of mnemonics */
};

int form_table_init(struct form_table *table, unsigned mode, const struct cpuid_model *model);
void form_table_free(struct form_table *table);

/* The group of a decoded instruction; -1: not offered. reason: set for GROUP_EXCLUDED. */
int form_group(const struct insn *insn, const struct cpuid_model *model, const char **reason);

/* Arithmetic flags that an instruction leaves undefined. */
unsigned form_undefined_flags(const uint8_t *bytes, unsigned size, unsigned mode);

#endif
