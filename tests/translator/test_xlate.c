/*
 * The translator on a table of guest code: what its output must never be, and how much of it there
 * is. golden.txt has the numbers, so that a change in code quality shows in review; to write it
 * anew, run with VEDETTE_GOLDEN=update in the environment. VEDETTE_SHOW=text prints the host code
 * of all rows whose assembly contains the text.
 */
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct row {
    const char *mode_name, *text;
    enum rig_mode mode;
    bool live;
};

enum { DEAD, LIVE };

static const struct row rows[] = {
#define ROW(mode, flags, text) {#mode, text, mode, flags},
#include "rows.def"
#undef ROW
};
enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

#define CODE_R16 "16"
#define CODE_P16 "16"
#define CODE_F32 "32"
#define CODE_S32 "32"
#define CODE_K64 "64"
#define CODE_L64 "64"

/* Start and end of each row's machine code. */
extern const uint8_t *const row_code[][2];
__asm__(".pushsection .data.rel.ro,\"aw\"\n.balign 8\nrow_code:\n.popsection\n"
        ".pushsection .rodata\n"
#define ROW(mode, flags, text)                                                                     \
    ".code" CODE_##mode                                                                            \
        "\n771:\n" text                                                                            \
        "\n772:\n.code64\n.pushsection .data.rel.ro,\"aw\"\n.quad 771b, 772b\n.popsection\n"
#include "rows.def"
#undef ROW
        ".popsection\n");

enum variant { NORMAL, SINGLE, BOUNCE, NO_WINDOWS, VARIANTS };

static void scan_row(struct rig *rig, unsigned i, bool live, enum variant variant)
{
    rig->text = rows[i].text;
    rig_scan(rig, rows[i].mode, row_code[i][0], (size_t)(row_code[i][1] - row_code[i][0]), live);
    rig->mode.single = variant == SINGLE;
    rig->mode.bounce = variant == BOUNCE;
    rig->mode.no_windows = variant == NO_WINDOWS;
    if (variant == SINGLE || variant == BOUNCE)
        rig->region.blocks[0].count = 1;
}

/* The engine bounces copies with a memory operand only. */
static bool variant_possible(const struct rig *rig, enum variant variant)
{
    const struct insn *insn = &rig->region.insns[rig->region.blocks[0].first];
    return variant != BOUNCE || (insn->kind == KIND_COPY && insn->mem.present && insn->mem.access);
}

static void translate_row(struct rig *rig, unsigned i)
{
    memset(rig->buffer, 0xcc, sizeof(rig->buffer));
    if (rig_translate(rig, XLATE_MAX_CODE) != 0)
        fail_msg("not translated: %s", rows[i].text);
    rig_decode(rig);
}

/* Calls check for every row, with flags live and dead, in every variant. */
static void for_each(void **state, void (*check)(struct rig *rig))
{
    struct rig *rig = *state;
    for (unsigned n = 0; n < ROWS * 2 * VARIANTS; n++) {
        unsigned i = n / (2 * VARIANTS);
        enum variant variant = (enum variant)(n / 2 % VARIANTS);
        scan_row(rig, i, n & 1, variant);
        if (!variant_possible(rig, variant))
            continue;
        translate_row(rig, i);
        check(rig);
    }
    rig->text = NULL;
}

/* --- (a) golden numbers --- */

static bool shown(const char *text)
{
    const char *wanted = getenv("VEDETTE_SHOW");
    return wanted && strstr(text, wanted);
}

static void print_row(struct rig *rig, unsigned i, char *line, size_t size)
{
    unsigned insns, bytes;
    scan_row(rig, i, rows[i].live, NORMAL);
    translate_row(rig, i);
    rig_hot_path(rig, &insns, &bytes);
    snprintf(line, size, "%s %s %2u -> %3u insns %4u bytes, with cold code %3u %5u  %s\n",
             rows[i].mode_name, rows[i].live ? "live" : "dead", rig->region.blocks[0].count, insns,
             bytes, rig->host_count, rig->result.size, rows[i].text);
    if (shown(rows[i].text)) {
        fputs(line, stderr);
        rig_print(rig);
    }
}

static void test_golden(void **state)
{
    const char *mode = getenv("VEDETTE_GOLDEN");
    bool update = mode && strcmp(mode, "update") == 0;
    FILE *file = fopen(GOLDEN_FILE, update ? "w" : "r");
    assert_non_null(file);
    unsigned differences = 0;
    for (unsigned i = 0; i < ROWS; i++) {
        char line[256], golden[256];
        print_row(*state, i, line, sizeof(line));
        if (update) {
            fputs(line, file);
            continue;
        }
        if (!fgets(golden, sizeof(golden), file))
            golden[0] = 0;
        if (strcmp(line, golden) != 0) {
            fprintf(stderr, "- %s+ %s", golden[0] ? golden : "\n", line);
            differences++;
        }
    }
    fclose(file);
    ((struct rig *)*state)->text = NULL;
    if (differences)
        fail_msg("%u rows differ; VEDETTE_GOLDEN=update accepts them", differences);
}

/* --- (b) everything decodes, branches and cells lead somewhere --- */

static void check_branch(struct rig *rig, const struct rig_insn *host)
{
    uint64_t target;
    const ZydisDecodedOperand *operand = &host->operands[0];
    assert_true(ZYAN_SUCCESS(
        ZydisCalcAbsoluteAddress(&host->insn, operand, rig_exec + host->offset, &target)));
    bool inside = target - rig_exec < rig->result.size;
    if (inside ? rig_at(rig, (uint32_t)(target - rig_exec)) < 0 : !rig_is_stub(rig, target))
        fail_msg("branch at %u leads nowhere", host->offset);
}

static void check_branches(struct rig *rig)
{
    for (unsigned i = 0; i < rig->host_count; i++) {
        const struct rig_insn *host = &rig->host[i];
        for (unsigned k = 0; k < host->insn.operand_count; k++) {
            const ZydisDecodedOperand *operand = &host->operands[k];
            if (operand->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && operand->imm.is_relative)
                check_branch(rig, host);
            if (operand->type != ZYDIS_OPERAND_TYPE_MEMORY ||
                operand->mem.base != ZYDIS_REGISTER_RIP)
                continue;
            uint64_t address =
                rig_exec + host->offset + host->insn.length + (uint64_t)operand->mem.disp.value;
            assert_true(rig_is_cell(rig, address));
        }
    }
}

static void test_branches(void **state)
{
    for_each(state, check_branches);
}

/* Exits: the site is the displacement of a branch, the stub asks for exactly this exit. */
static void check_exits(struct rig *rig)
{
    for (unsigned i = 0; i < rig->result.exit_count; i++) {
        const struct xlate_exit *out = &rig->result.exits[i];
        unsigned k = 0;
        while (k < rig->host_count &&
               rig->host[k].offset + rig->host[k].insn.length != out->site + 4)
            k++;
        assert_true(k < rig->host_count);
        const struct rig_insn *host = &rig->host[k];
        if (out->cell) {
            assert_int_equal(host->operands[0].type, ZYDIS_OPERAND_TYPE_MEMORY);
            assert_int_equal(host->operands[0].mem.base, ZYDIS_REGISTER_RIP);
        } else {
            assert_true(host->operands[0].imm.is_relative);
            assert_int_equal(host->operands[0].imm.value.s,
                             (int64_t)out->stub - (int64_t)(out->site + 4));
        }
        int stub = rig_at(rig, out->stub);
        assert_true(stub >= 0);
        assert_int_equal(rig->host[stub].operands[0].reg.value, ZYDIS_REGISTER_R9D);
        assert_int_equal(rig->host[stub].operands[1].imm.value.u, rig->alloc.first_exit + i);
    }
    if (rig->mode.single || rig->mode.bounce)
        assert_int_equal(rig->result.exit_count, 0);
}

static void test_exits(void **state)
{
    for_each(state, check_exits);
}

/* --- (c) the map --- */

static bool emits_code(const struct rig *rig, const struct insn *insn)
{
    (void)rig;
    return insn->kind != KIND_NOP;
}

static void check_map(struct rig *rig)
{
    const struct xlate_result *result = &rig->result;
    const struct prescan_block *block = &rig->region.blocks[0];
    assert_true(result->map_count > 0);
    assert_true(result->map[0].host <= result->body);
    for (unsigned i = 1; i < result->map_count; i++)
        assert_true(result->map[i].host > result->map[i - 1].host);
    for (unsigned i = 0; i < result->map_count; i++)
        assert_true(rig_at(rig, result->map[i].host) >= 0 || result->map[i].host == result->size);
    unsigned found = 0, ip = 0;
    for (unsigned k = 0; k < block->count; k++) {
        const struct insn *insn = &rig->region.insns[block->first + k];
        bool present = false;
        for (unsigned i = 0; i < result->map_count; i++)
            present |= (result->map[i].ip & XLATE_IP) == ip;
        if (emits_code(rig, insn) && !present)
            fail_msg("instruction %u is not in the map", k);
        for (unsigned i = 0; i < result->map_count; i++)
            found += (result->map[i].ip & XLATE_IP) == ip;
        ip += insn->len;
    }
    /* No entry names anything but the start of an instruction (or the block's end). */
    for (unsigned i = 0; i < result->map_count; i++)
        found += (result->map[i].ip & XLATE_IP) == ip;
    assert_int_equal(found, result->map_count);
}

static void test_map(void **state)
{
    for_each(state, check_map);
}

/* --- (d) host state that translated code must leave alone --- */

static bool names_rsp(ZydisRegister reg)
{
    return ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg) == ZYDIS_REGISTER_RSP;
}

/* The pair stack: PUSH of the guest half, CALL, RET, and LEA RSP, [RSP + 8]. */
static bool pair_idiom(const struct rig_insn *host)
{
    switch (host->insn.mnemonic) {
    case ZYDIS_MNEMONIC_CALL:
    case ZYDIS_MNEMONIC_RET:
        return true;
    case ZYDIS_MNEMONIC_PUSH:
        return host->operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE ||
               (host->operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
                host->operands[0].reg.value == ZYDIS_REGISTER_R9);
    case ZYDIS_MNEMONIC_LEA:
        return host->operands[1].mem.base == ZYDIS_REGISTER_RSP &&
               host->operands[1].mem.index == ZYDIS_REGISTER_NONE &&
               host->operands[1].mem.disp.value == 8;
    default:
        return false;
    }
}

static bool forbidden(ZydisMnemonic mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFQ:
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFQ:
    case ZYDIS_MNEMONIC_POP:
    case ZYDIS_MNEMONIC_LEAVE:
    case ZYDIS_MNEMONIC_ENTER:
    case ZYDIS_MNEMONIC_SYSCALL:
    case ZYDIS_MNEMONIC_SYSENTER:
    case ZYDIS_MNEMONIC_INT:
    case ZYDIS_MNEMONIC_INT3:
    case ZYDIS_MNEMONIC_IRETQ:
    case ZYDIS_MNEMONIC_CPUID:
    case ZYDIS_MNEMONIC_SGDT:
    case ZYDIS_MNEMONIC_SIDT:
    case ZYDIS_MNEMONIC_STI:
    case ZYDIS_MNEMONIC_CLI:
    case ZYDIS_MNEMONIC_IN:
    case ZYDIS_MNEMONIC_OUT:
    case ZYDIS_MNEMONIC_WRFSBASE:
    case ZYDIS_MNEMONIC_WRGSBASE:
    case ZYDIS_MNEMONIC_SWAPGS:
        return true;
    default:
        return false;
    }
}

static void check_memory_operand(const struct rig_insn *host, const ZydisDecodedOperand *operand)
{
    if (operand->mem.segment == ZYDIS_REGISTER_FS) /* the host's thread pointer */
        fail_msg("offset %u addresses through FS", host->offset);
    if (operand->mem.type != ZYDIS_MEMOP_TYPE_MEM ||
        operand->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN)
        return;
    if (operand->mem.segment == ZYDIS_REGISTER_GS) /* guest state: an offset, or one register */
        return;
    if (names_rsp(operand->mem.base) && (operand->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
        fail_msg("offset %u writes the host stack", host->offset);
    if (operand->mem.base == ZYDIS_REGISTER_NONE)
        fail_msg("offset %u has an absolute operand", host->offset);
}

static void check_host_state(struct rig *rig)
{
    for (unsigned i = 0; i < rig->host_count; i++) {
        const struct rig_insn *host = &rig->host[i];
        if ((host->insn.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED) || forbidden(host->insn.mnemonic))
            fail_msg("offset %u: %s", host->offset, ZydisMnemonicGetString(host->insn.mnemonic));
        for (unsigned k = 0; k < host->insn.operand_count; k++) {
            const ZydisDecodedOperand *operand = &host->operands[k];
            if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY)
                check_memory_operand(host, operand);
            if (operand->type != ZYDIS_OPERAND_TYPE_REGISTER ||
                !(operand->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
                continue;
            ZydisRegisterClass class = ZydisRegisterGetClass(operand->reg.value);
            if (class == ZYDIS_REGCLASS_SEGMENT || class == ZYDIS_REGCLASS_CONTROL ||
                class == ZYDIS_REGCLASS_DEBUG)
                fail_msg("offset %u writes a system register", host->offset);
            if (names_rsp(operand->reg.value) && !pair_idiom(host))
                fail_msg("offset %u writes RSP", host->offset);
        }
    }
}

static void test_host_state(void **state)
{
    for_each(state, check_host_state);
}

/* --- (e) running out of room --- */

static void check_overflow(struct rig *rig)
{
    uint32_t needed = rig->result.size;
    uint8_t code[XLATE_MAX_CODE];
    memcpy(code, rig->buffer, needed);
    assert_int_equal(rig->buffer[needed], 0xcc);
    for (uint32_t size = 0; size < needed; size++) {
        memset(rig->buffer, 0xcc, needed + 32);
        if (rig_translate(rig, size) != -1)
            fail_msg("%u bytes are enough for %u", size, needed);
        for (uint32_t k = size; k < needed + 32; k++)
            assert_int_equal(rig->buffer[k], 0xcc);
    }
    assert_int_equal(rig_translate(rig, needed), 0);
    assert_int_equal(rig->result.size, needed);
    assert_memory_equal(rig->buffer, code, needed);
    assert_int_equal(rig->buffer[needed], 0xcc);
}

static void test_overflow(void **state)
{
    for_each(state, check_overflow);
}

static void check_exhaustion(struct rig *rig)
{
    unsigned sites = rig->sites_used, cells = rig->cells_used;
    for (rig->sites_max = 0; rig->sites_max < sites; rig->sites_max++)
        assert_int_equal(rig_translate(rig, XLATE_MAX_CODE), -1);
    rig->sites_max = RIG_SITES;
    for (rig->cells_max = 0; rig->cells_max < cells; rig->cells_max++)
        assert_int_equal(rig_translate(rig, XLATE_MAX_CODE), -1);
    rig->cells_max = RIG_CELLS;
    assert_int_equal(rig_translate(rig, XLATE_MAX_CODE), 0);
}

static void test_exhaustion(void **state)
{
    for_each(state, check_exhaustion);
}

/* The longest block that prescan may ask for, of the instruction that needs the most host code. */
static void test_long_blocks(void **state)
{
    struct rig *rig = *state;
    for (unsigned i = 0; i < ROWS; i++) {
        uint8_t code[15 * 48];
        size_t size = 0;
        scan_row(rig, i, true, NORMAL);
        if (rig->region.blocks[0].count != 1 ||
            prescan_ends_block(&rig->region.insns[rig->region.blocks[0].first]))
            continue;
        size_t one = (size_t)(row_code[i][1] - row_code[i][0]);
        for (unsigned k = 0; k < 48; k++, size += one)
            memcpy(code + size, row_code[i][0], one);
        rig_scan(rig, rows[i].mode, code, size, true);
        assert_in_range(rig->region.blocks[0].count, 2, XLATE_MAX_INSNS);
        if (rig_translate(rig, XLATE_MAX_CODE) != 0)
            fail_msg("a block of 32 fails: %s", rows[i].text);
        rig_decode(rig);
        check_branches(rig);
        check_exits(rig);
        check_map(rig);
        check_host_state(rig);
    }
    rig->text = NULL;
}

/* Says which row a failed test was at. */
static int name_row(void **state)
{
    const struct rig *rig = *state;
    if (rig->text)
        fprintf(stderr, "at: %s\n", rig->text);
    return 0;
}

static int setup(void **state)
{
    struct rig *rig = malloc(sizeof(*rig));
    if (!rig)
        return -1;
    rig_create(rig);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    rig_destroy(*state);
    free(*state);
    return 0;
}

int main(void)
{
#define ROW_TEST(test) cmocka_unit_test_teardown(test, name_row)
    const struct CMUnitTest tests[] = {
        ROW_TEST(test_golden),     ROW_TEST(test_branches),    ROW_TEST(test_exits),
        ROW_TEST(test_map),        ROW_TEST(test_host_state),  ROW_TEST(test_overflow),
        ROW_TEST(test_exhaustion), ROW_TEST(test_long_blocks),
    };
#undef ROW_TEST
    return cmocka_run_group_tests(tests, setup, teardown);
}
