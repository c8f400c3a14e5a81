/* The table is complete and unambiguous, and the layout fields describe the bytes they came from.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <Zydis/Zydis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpuid.h"
#include "decoder/insn.h"
#include "decoder/insn_table.h"

static void test_rows_are_unambiguous(void **state)
{
    size_t count;
    const struct insn_row *rows = insn_rows(&count);
    uint8_t seen[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {0};

    (void)state;
    for (size_t i = 0; i < count; i++) {
        int first = i == 0 || rows[i].mnemonic != rows[i - 1].mnemonic;
        if (first && seen[rows[i].mnemonic])
            fail_msg("rows of %s are not together", rows[i].text);
        seen[rows[i].mnemonic] = 1;
        /* Nothing may stand behind a row that matches everything, and no condition twice. */
        for (size_t k = i + 1; k < count && rows[k].mnemonic == rows[i].mnemonic; k++)
            if (rows[i].match == 0 || rows[i].match == rows[k].match)
                fail_msg("%s hides %s", rows[i].text, rows[k].text);
        assert_non_null(rows[i].text);
        assert_true(rows[i].op < OP_COUNT);
        assert_true(rows[i].feature == INSN_BY_SET || rows[i].feature < FEAT_COUNT);
        /* A callout has an op, anything else but strings, CLI and STI has none. */
        int wants_op = rows[i].kind == KIND_CALLOUT || rows[i].kind == KIND_STRING ||
                       rows[i].kind == KIND_CLI || rows[i].kind == KIND_STI;
        if (wants_op != (rows[i].op != OP_NONE))
            fail_msg("%s: kind and op do not go together", rows[i].text);
    }
}

static void test_every_isa_set_has_a_rule(void **state)
{
    (void)state;
    for (unsigned set = 1; set <= ZYDIS_ISA_SET_MAX_VALUE; set++)
        if (!insn_set_rule((uint8_t)set)->known)
            fail_msg("no rule for ISA set %s", ZydisISASetGetString((ZydisISASet)set));
}

static void test_every_op_has_an_instruction(void **state)
{
    size_t count;
    const struct insn_row *rows = insn_rows(&count);

    (void)state;
    for (unsigned op = 1; op < OP_COUNT; op++) {
        int found = op == OP_FPU_UNAVAILABLE; /* not an instruction but a state of the CPU */
        for (size_t i = 0; i < count && !found; i++)
            found = rows[i].op == op;
        if (!found)
            fail_msg("op %u has no row", op);
    }
}

/* --- every opcode --- */

struct sweep {
    unsigned bits;
    uint8_t *row_seen;
    const struct insn_row *rows;
    size_t row_count;
    unsigned long decoded, failures;
};

static size_t prefix_bytes(const struct insn *insn)
{
    size_t n = 0;
    for (; n < insn->len; n++) {
        uint8_t b = insn->bytes[n];
        int legacy = b == 0xf0 || b == 0xf2 || b == 0xf3 || b == 0x66 || b == 0x67 || b == 0x26 ||
                     b == 0x2e || b == 0x36 || b == 0x3e || b == 0x64 || b == 0x65;
        int rex = insn->mode == 64 && (b & 0xf0) == 0x40;
        if (!legacy && !rex)
            break;
    }
    return n;
}

/* prefixes + opcode + ModRM + SIB + displacement + immediates is the whole instruction */
static int layout_adds_up(const struct insn *insn)
{
    size_t n = prefix_bytes(insn);

    switch (insn->encoding) {
    case ENC_LEGACY:
        n += insn->map == 0 ? 1 : insn->map == 1 ? 2 : 3;
        if (insn->bytes[n - 1] != insn->opcode)
            return 0;
        break;
    case ENC_VEX:
        n += insn->bytes[n] == 0xc5 ? 3 : 4;
        break;
    case ENC_XOP:
        n += 4;
        break;
    case ENC_EVEX:
        n += 5;
        break;
    case ENC_3DNOW:
        n += 3; /* 0F 0F and the opcode behind everything */
        break;
    }
    if (insn->imm_size &&
        n + (size_t)insn->has_modrm + insn->has_sib + insn->disp_size != insn->imm_off)
        return 0;
    n += (size_t)insn->has_modrm + insn->has_sib + insn->disp_size + insn->imm_size;
    return n == insn->len;
}

static void complain(struct sweep *sweep, const struct insn *insn, const char *what)
{
    if (sweep->failures++ > 20)
        return;
    fprintf(stderr, "%u-bit ", sweep->bits);
    for (unsigned i = 0; i < insn->len; i++)
        fprintf(stderr, "%02x ", insn->bytes[i]);
    fprintf(stderr, "(%s): %s\n", insn_mnemonic_name(insn), what);
}

static int is_power_of_two_size(unsigned size)
{
    return size == 1 || size == 2 || size == 4 || size == 8;
}

static void check_fields(struct sweep *sweep, const struct insn *insn)
{
    int callout = insn->kind == KIND_CALLOUT || insn->kind == KIND_CLI || insn->kind == KIND_STI;

    if (!layout_adds_up(insn))
        complain(sweep, insn, "layout does not add up");
    if (!is_power_of_two_size(insn->opsize) || !is_power_of_two_size(insn->addrsize))
        complain(sweep, insn, "size");
    if ((insn->class == INSN_CALLOUT) != callout)
        complain(sweep, insn, "class");
    if (insn->kind == KIND_CALLOUT && insn->op == OP_NONE)
        complain(sweep, insn, "callout without op");
    if (insn->feature == FEAT_NEVER && insn->op != OP_UD)
        complain(sweep, insn, "FEAT_NEVER but not the #UD callout");
    if (insn->kind == KIND_COPY && insn->mem.present && insn->mem.vsib)
        complain(sweep, insn, "vector index in a copied instruction");
    if (insn->mem.present && insn->kind != KIND_NOP && insn->kind != KIND_CALLOUT &&
        (insn->mem.access != 0) != (insn->mem.size != 0))
        complain(sweep, insn, "memory size and access");
    if (insn->mode != 64 && ((insn->gpr_read | insn->gpr_written) & 0xff00))
        complain(sweep, insn, "register that is not there");
    if ((insn->flags_written & insn->flags_maybe) ||
        ((insn->flags_read | insn->flags_written | insn->flags_maybe) & ~0xcd5))
        complain(sweep, insn, "flag sets");
    if ((insn->gpr_fields & FIELD_HIGH8) && insn->rex)
        complain(sweep, insn, "high byte register with REX");
}

/* The 66 prefix changes the operand size of exactly those that say so. */
static void check_opsize(struct sweep *sweep, const struct insn *insn)
{
    uint8_t bytes[16] = {0x66};
    struct insn other;

    if (insn->encoding != ENC_LEGACY || insn->class == INSN_CALLOUT || insn->kind == KIND_NOP ||
        insn->prefixes & (PREFIX_OPSIZE | PREFIX_LOCK) || insn->rex & 8 ||
        (insn->gpr_fields == 0 && !insn->mem.present && insn->imm_size == 0))
        return; /* where no operand depends on the size it cannot show */
    memcpy(bytes + 1, insn->bytes, insn->len);
    if (insn_decode(&other, bytes, sizeof(bytes), sweep->bits) != INSN_OK ||
        other.mnemonic != insn->mnemonic)
        return; /* 66 selects another instruction */
    int changed = other.opsize != insn->opsize;
    if (insn->opsize_effective && !changed)
        complain(sweep, insn, "opsize_effective, but 66 changes nothing");
    /* Zydis gives an operand width to instructions that have no such operand. */
    int shown = other.imm_size != insn->imm_size || other.mem.size != insn->mem.size ||
                other.gpr_read != insn->gpr_read;
    if (!insn->opsize_effective && changed && shown)
        complain(sweep, insn, "66 acts, but not opsize_effective");
}

static void try_bytes(struct sweep *sweep, const uint8_t *bytes, size_t size)
{
    struct insn insn;

    if (insn_decode(&insn, bytes, size, sweep->bits) != INSN_OK)
        return;
    sweep->decoded++;
    check_fields(sweep, &insn);
    check_opsize(sweep, &insn);
    for (size_t i = 0; i < sweep->row_count; i++) {
        const struct insn_row *row = &sweep->rows[i];
        if (row->mnemonic == insn.mnemonic && !sweep->row_seen[i] &&
            (row->op == insn.op || insn.feature == FEAT_NEVER) &&
            (row->kind == insn.kind || insn.feature == FEAT_NEVER))
            sweep->row_seen[i] = 1;
    }
}

static void sweep_legacy(struct sweep *sweep)
{
    static const uint8_t prefixes[6][2] = {{0}, {0x66}, {0xf2}, {0xf3}, {0x66, 0xf2}, {0x66, 0xf3}};
    static const size_t prefix_len[6] = {0, 1, 1, 1, 2, 2};

    for (unsigned p = 0; p < 6; p++)
        for (unsigned rex = 0; rex < (sweep->bits == 64 ? 2u : 1u); rex++)
            for (unsigned map = 0; map < 4; map++)
                for (unsigned op = 0; op < 256; op++)
                    for (unsigned modrm = 0; modrm < 256; modrm++) {
                        uint8_t bytes[20] = {0};
                        size_t n = prefix_len[p];
                        memcpy(bytes, prefixes[p], n);
                        if (rex)
                            bytes[n++] = 0x48;
                        if (map)
                            bytes[n++] = 0x0f;
                        if (map >= 2)
                            bytes[n++] = map == 2 ? 0x38 : 0x3a;
                        bytes[n++] = (uint8_t)op;
                        bytes[n++] = (uint8_t)modrm;
                        try_bytes(sweep, bytes, sizeof(bytes));
                    }
}

static void sweep_vex(struct sweep *sweep)
{
    static const uint8_t modrms[] = {0x00, 0x01, 0x04, 0x0c, 0x08, 0x10, 0x18, 0x20,
                                     0x28, 0x30, 0x38, 0x45, 0x84, 0xc0, 0xc1, 0xc8,
                                     0xd0, 0xd8, 0xe0, 0xe8, 0xf0, 0xf8};

    for (unsigned escape = 0; escape < 2; escape++)
        for (unsigned map = 1; map < 11; map++)
            for (unsigned wlpp = 0; wlpp < 16; wlpp++)
                for (unsigned v = 0; v < 2; v++)
                    for (unsigned op = 0; op < 256; op++)
                        for (size_t m = 0; m < sizeof(modrms); m++) {
                            uint8_t bytes[20] = {0};
                            bytes[0] = escape ? 0x8f : 0xc4;
                            bytes[1] = (uint8_t)(0xe0 | map);
                            bytes[2] = (uint8_t)((wlpp & 8) << 4 | (v ? 0x78 : 0x68) | (wlpp & 7));
                            bytes[3] = (uint8_t)op;
                            bytes[4] = modrms[m];
                            bytes[5] = 0x10; /* SIB: a gather needs three different registers */
                            try_bytes(sweep, bytes, sizeof(bytes));
                        }
}

static void sweep_evex(struct sweep *sweep)
{
    unsigned seed = 20240611;

    for (unsigned i = 0; i < 400000; i++) {
        uint8_t bytes[20];
        for (size_t k = 0; k < sizeof(bytes); k++)
            bytes[k] = (uint8_t)(rand_r(&seed) >> 8);
        bytes[0] = 0x62;
        try_bytes(sweep, bytes, sizeof(bytes));
    }
}

static void test_every_opcode(void **state)
{
    static const unsigned modes[] = {16, 32, 64};
    struct sweep sweep = {0};

    (void)state;
    sweep.rows = insn_rows(&sweep.row_count);
    sweep.row_seen = calloc(sweep.row_count, 1);
    assert_non_null(sweep.row_seen);
    for (size_t m = 0; m < 3; m++) {
        sweep.bits = modes[m];
        sweep_legacy(&sweep);
        sweep_vex(&sweep);
        sweep_evex(&sweep);
    }
    for (size_t i = 0; i < sweep.row_count; i++)
        if (!sweep.row_seen[i]) {
            fprintf(stderr, "no encoding reaches the row %s\n", sweep.rows[i].text);
            sweep.failures++;
        }
    free(sweep.row_seen);
    print_message("%lu encodings\n", sweep.decoded);
    assert_true(sweep.decoded > 500000);
    assert_int_equal(sweep.failures, 0);
}

/* Random bytes: never beyond 15, never beyond what was given, and truncation never changes it. */
static void test_random_bytes(void **state)
{
    unsigned seed = 4711;
    const char *from_env = getenv("VEDETTE_SEED");

    (void)state;
    if (from_env)
        seed = (unsigned)strtoul(from_env, NULL, 0);
    print_message("seed %u\n", seed);
    for (unsigned i = 0; i < 200000; i++) {
        uint8_t bytes[15];
        struct insn insn, cut;
        unsigned bits = 16u << (i % 3);
        for (size_t k = 0; k < sizeof(bytes); k++)
            bytes[k] = (uint8_t)(rand_r(&seed) >> 8);
        enum insn_status status = insn_decode(&insn, bytes, sizeof(bytes), bits);
        if (status == INSN_NEED_MORE)
            fail_msg("15 bytes are always enough");
        assert_in_range(insn.len, 1, 15);
        if (status != INSN_OK)
            continue;
        for (size_t size = 0; size < insn.len; size++)
            assert_int_equal(insn_decode(&cut, bytes, size, bits), INSN_NEED_MORE);
        assert_int_equal(insn_decode(&cut, bytes, insn.len, bits), INSN_OK);
        assert_memory_equal(&cut, &insn, sizeof(insn));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_are_unambiguous),
        cmocka_unit_test(test_every_isa_set_has_a_rule),
        cmocka_unit_test(test_every_op_has_an_instruction),
        cmocka_unit_test(test_every_opcode),
        cmocka_unit_test(test_random_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
