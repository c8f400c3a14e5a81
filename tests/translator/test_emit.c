/*
 * Every emit function over all register combinations: what Zydis and Capstone make of the bytes is
 * what was asked for (SDM vol. 2, ch. 2).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <Zydis/Zydis.h>
#include <capstone/capstone.h>

#include "translator/emit.h"

enum { EXEC = 0x40000000, ROOM = 32 };

enum want_kind { WANT_REG, WANT_MEM, WANT_IMM };

struct want_operand {
    enum want_kind kind;
    const char *reg;          /* WANT_REG */
    const char *base, *index; /* WANT_MEM; NULL: none */
    bool gs;
    unsigned scale; /* factor */
    int64_t value;  /* displacement or immediate */
};

struct want {
    const char *mnemonic;
    unsigned count;
    struct want_operand operand[3];
};

struct rig {
    ZydisDecoder zydis;
    csh capstone;
    cs_insn *insn;
    uint8_t bytes[ROOM];
    struct emit e;
};

static const char *const names64[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                      "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
static const char *const names32[] = {"eax", "ecx", "edx",  "ebx",  "esp",  "ebp",  "esi",  "edi",
                                      "r8d", "r9d", "r10d", "r11d", "r12d", "r13d", "r14d", "r15d"};
static const char *const names16[] = {"ax",  "cx",  "dx",   "bx",   "sp",   "bp",   "si",   "di",
                                      "r8w", "r9w", "r10w", "r11w", "r12w", "r13w", "r14w", "r15w"};

static const int32_t displacements[] = {0,   1,    8,          -1,        127,      -128,
                                        128, -129, 0x12345678, INT32_MAX, INT32_MIN};

static const char *name_of(int w, unsigned reg)
{
    return w ? names64[reg] : names32[reg];
}

static struct want_operand want_reg(const char *name)
{
    return (struct want_operand){.kind = WANT_REG, .reg = name};
}

static struct want_operand want_imm(int64_t value)
{
    return (struct want_operand){.kind = WANT_IMM, .value = value};
}

static struct want_operand want_mem(unsigned base, unsigned index, unsigned scale, int32_t disp)
{
    return (struct want_operand){.kind = WANT_MEM,
                                 .base = base == H_NONE ? NULL : names64[base],
                                 .index = index == H_NONE ? NULL : names64[index],
                                 .scale = 1u << scale,
                                 .value = disp};
}

static struct want_operand want_gs(unsigned index, int32_t disp)
{
    struct want_operand operand = want_mem(index, H_NONE, 0, disp);
    operand.gs = true;
    return operand;
}

static int rig_setup(void **state)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    if (!rig ||
        !ZYAN_SUCCESS(
            ZydisDecoderInit(&rig->zydis, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)) ||
        cs_open(CS_ARCH_X86, CS_MODE_64, &rig->capstone) != CS_ERR_OK)
        return -1;
    cs_option(rig->capstone, CS_OPT_DETAIL, CS_OPT_ON);
    rig->insn = cs_malloc(rig->capstone);
    *state = rig;
    return 0;
}

static int rig_teardown(void **state)
{
    struct rig *rig = *state;
    cs_free(rig->insn, 1);
    bool closed = cs_close(&rig->capstone) == CS_ERR_OK;
    free(rig);
    return closed ? 0 : -1;
}

static struct emit *begin(struct rig *rig)
{
    memset(rig->bytes, 0xcc, sizeof(rig->bytes));
    rig->e = (struct emit){.buffer = rig->bytes, .size = ROOM, .exec = EXEC};
    return &rig->e;
}

static bool same_name(const char *a, const char *b)
{
    return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

/* --- Zydis --- */

static const char *zydis_name(ZydisRegister reg)
{
    return reg == ZYDIS_REGISTER_NONE ? NULL : ZydisRegisterGetString(reg);
}

static bool zydis_operand_ok(const struct want_operand *want, const ZydisDecodedOperand *got)
{
    switch (want->kind) {
    case WANT_REG:
        return got->type == ZYDIS_OPERAND_TYPE_REGISTER &&
               same_name(want->reg, zydis_name(got->reg.value));
    case WANT_IMM:
        return got->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && got->imm.value.s == want->value;
    case WANT_MEM:
        return got->type == ZYDIS_OPERAND_TYPE_MEMORY &&
               same_name(want->base, zydis_name(got->mem.base)) &&
               same_name(want->index, zydis_name(got->mem.index)) &&
               (!want->index || got->mem.scale == want->scale) &&
               got->mem.disp.value == want->value &&
               (got->mem.segment == ZYDIS_REGISTER_GS) == want->gs;
    }
    return false;
}

static void zydis_check(struct rig *rig, const struct want *want)
{
    ZydisDecodedInstruction insn;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&rig->zydis, rig->bytes, rig->e.pos, &insn, operands)))
        fail_msg("Zydis does not know the %s", want->mnemonic);
    assert_int_equal(insn.length, rig->e.pos);
    assert_string_equal(ZydisMnemonicGetString(insn.mnemonic), want->mnemonic);
    assert_int_equal(insn.operand_count_visible, want->count);
    for (unsigned i = 0; i < want->count; i++) {
        if (!zydis_operand_ok(&want->operand[i], &operands[i]))
            fail_msg("Zydis: %s, operand %u", want->mnemonic, i);
    }
}

/* --- Capstone --- */

static const char *capstone_name(const struct rig *rig, unsigned reg)
{
    bool none = reg == X86_REG_INVALID || reg == X86_REG_RIZ || reg == X86_REG_EIZ;
    return none ? NULL : cs_reg_name(rig->capstone, reg);
}

static bool capstone_operand_ok(const struct rig *rig, const struct want_operand *want,
                                const cs_x86_op *got)
{
    switch (want->kind) {
    case WANT_REG:
        return got->type == X86_OP_REG && same_name(want->reg, capstone_name(rig, got->reg));
    case WANT_IMM:
        /* Zydis sign-extends the operand of MOV r32, imm32, Capstone does not. */
        return got->type == X86_OP_IMM &&
               (got->imm == want->value ||
                (got->size == 4 && (uint32_t)got->imm == (uint32_t)want->value));
    case WANT_MEM:
        return got->type == X86_OP_MEM &&
               same_name(want->base, capstone_name(rig, (unsigned)got->mem.base)) &&
               same_name(want->index, capstone_name(rig, (unsigned)got->mem.index)) &&
               (!want->index || got->mem.scale == (int)want->scale) &&
               got->mem.disp == want->value && (got->mem.segment == X86_REG_GS) == want->gs;
    }
    return false;
}

static void capstone_check(struct rig *rig, const struct want *want)
{
    const uint8_t *bytes = rig->bytes;
    size_t size = rig->e.pos;
    uint64_t address = EXEC;
    if (!cs_disasm_iter(rig->capstone, &bytes, &size, &address, rig->insn))
        fail_msg("Capstone does not know the %s", want->mnemonic);
    assert_int_equal(size, 0);
    if (strcmp(want->mnemonic, "mov") != 0 || strcmp(rig->insn->mnemonic, "movabs") != 0)
        assert_string_equal(rig->insn->mnemonic, want->mnemonic);
    const cs_x86 *x86 = &rig->insn->detail->x86;
    assert_int_equal(x86->op_count, want->count);
    for (unsigned i = 0; i < want->count; i++) {
        if (!capstone_operand_ok(rig, &want->operand[i], &x86->operands[i]))
            fail_msg("Capstone: %s %s, operand %u", rig->insn->mnemonic, rig->insn->op_str, i);
    }
}

static void check(struct rig *rig, const struct want *want)
{
    assert_false(rig->e.overflow);
    for (unsigned i = rig->e.pos; i < ROOM; i++)
        assert_int_equal(rig->bytes[i], 0xcc);
    zydis_check(rig, want);
    capstone_check(rig, want);
}

static void check2(struct rig *rig, const char *mnemonic, struct want_operand first,
                   struct want_operand second)
{
    struct want want = {.mnemonic = mnemonic, .count = 2, .operand = {first, second}};
    check(rig, &want);
}

/* --- tests --- */

static void test_reg_reg(void **state)
{
    static const struct {
        const char *mnemonic;
        unsigned opcode;
        bool rm_first;
    } operations[] = {{"mov", 0x8b, false}, {"mov", 0x89, true},  {"sub", 0x2b, false},
                      {"cmp", 0x3b, false}, {"test", 0x85, true}, {"imul", 0x0faf, false},
                      {"bt", 0x0fa3, true}};
    for (unsigned i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
        for (unsigned n = 0; n < 2 * 16 * 16; n++) {
            int w = n & 1;
            unsigned reg = n >> 1 & 15, rm = n >> 5;
            emit_reg_reg(begin(*state), w, operations[i].opcode, reg, rm);
            struct want_operand a = want_reg(name_of(w, reg)), b = want_reg(name_of(w, rm));
            check2(*state, operations[i].mnemonic, operations[i].rm_first ? b : a,
                   operations[i].rm_first ? a : b);
        }
    }
}

static void test_reg_reg_widening(void **state)
{
    for (unsigned n = 0; n < 16 * 16; n++) {
        unsigned dst = n & 15, src = n >> 4;
        emit_reg_reg(begin(*state), W32, 0x0fb7, dst, src);
        check2(*state, "movzx", want_reg(names32[dst]), want_reg(names16[src]));
        emit_reg_reg(begin(*state), W64, 0x63, dst, src);
        check2(*state, "movsxd", want_reg(names64[dst]), want_reg(names32[src]));
        emit_mov(begin(*state), W64, dst, src);
        check2(*state, "mov", want_reg(names64[dst]), want_reg(names64[src]));
        emit_mov(begin(*state), W32, dst, src);
        check2(*state, "mov", want_reg(names32[dst]), want_reg(names32[src]));
    }
}

static void check_mem(struct rig *rig, unsigned reg, unsigned base, unsigned index, unsigned scale,
                      int32_t disp)
{
    struct want_operand memory = want_mem(base, index, scale, disp);
    emit_reg_mem(begin(rig), W64, 0x8b, reg, base, index, scale, disp);
    check2(rig, "mov", want_reg(names64[reg]), memory);
    emit_reg_mem(begin(rig), W32, 0x89, reg, base, index, scale, disp);
    check2(rig, "mov", memory, want_reg(names32[reg]));
    emit_lea(begin(rig), W64, reg, base, index, scale, disp);
    check2(rig, "lea", want_reg(names64[reg]), memory);
}

static void test_reg_mem(void **state)
{
    for (unsigned base = 0; base <= 16; base++) {
        for (unsigned index = 0; index <= 16; index++) {
            if (index == H_RSP)
                continue; /* cannot be encoded */
            for (unsigned n = 0; n < sizeof(displacements) / sizeof(displacements[0]); n++) {
                unsigned scale = index == 16 ? 0 : (index + n) & 3;
                check_mem(*state, (base * 7 + index * 3 + n) & 15,
                          base == 16 ? (unsigned)H_NONE : base,
                          index == 16 ? (unsigned)H_NONE : index, scale, displacements[n]);
            }
        }
    }
    for (unsigned n = 0; n < 16 * 16 * 4; n++)
        check_mem(*state, n & 15, n >> 4 & 15, H_R9, n >> 8, 0);
}

/* A short displacement is used where it fits: [base + disp8] and [base]. */
static void test_reg_mem_size(void **state)
{
    struct rig *rig = *state;
    emit_reg_mem(begin(rig), W64, 0x8b, H_RAX, H_RBX, H_NONE, 0, 0);
    assert_int_equal(rig->e.pos, 3);
    emit_reg_mem(begin(rig), W64, 0x8b, H_RAX, H_R13, H_NONE, 0, 0);
    assert_int_equal(rig->e.pos, 4);
    emit_reg_mem(begin(rig), W64, 0x8b, H_RAX, H_RBX, H_NONE, 0, -128);
    assert_int_equal(rig->e.pos, 4);
    emit_reg_mem(begin(rig), W32, 0x8b, H_RAX, H_RBX, H_NONE, 0, 128);
    assert_int_equal(rig->e.pos, 6);
}

static void test_gs(void **state)
{
    for (unsigned n = 0; n < sizeof(displacements) / sizeof(displacements[0]); n++) {
        int32_t disp = displacements[n];
        struct want_operand memory = want_gs(H_NONE, disp);
        for (unsigned reg = 0; reg < 16; reg++) {
            emit_load_gs(begin(*state), W64, reg, disp);
            check2(*state, "mov", want_reg(names64[reg]), memory);
            emit_load_gs(begin(*state), W32, reg, disp);
            check2(*state, "mov", want_reg(names32[reg]), memory);
            emit_store_gs(begin(*state), W64, disp, reg);
            check2(*state, "mov", memory, want_reg(names64[reg]));
            emit_store_gs(begin(*state), W32, disp, reg);
            check2(*state, "mov", memory, want_reg(names32[reg]));
            emit_reg_gs(begin(*state), 0x66, W32, 0x89, reg, disp);
            check2(*state, "mov", memory, want_reg(names16[reg]));
            for (unsigned index = 0; index < 16; index++) {
                if ((index & 7) == 4)
                    continue; /* needs a SIB byte; never used */
                emit_reg_gs_index(begin(*state), W64, 0x2b, reg, index, disp);
                check2(*state, "sub", want_reg(names64[reg]), want_gs(index, disp));
                emit_reg_gs_index(begin(*state), W32, 0x03, reg, index, disp);
                check2(*state, "add", want_reg(names32[reg]), want_gs(index, disp));
            }
        }
    }
}

static void test_gs_immediate(void **state)
{
    for (unsigned n = 0; n < sizeof(displacements) / sizeof(displacements[0]); n++) {
        int32_t disp = displacements[n];
        struct want_operand memory = want_gs(H_NONE, disp);
        emit_store_gs_imm8(begin(*state), disp, 1);
        check2(*state, "mov", memory, want_imm(1));
        emit_store_gs_imm32(begin(*state), disp, 0x12345678);
        check2(*state, "mov", memory, want_imm(0x12345678));
        emit_cmp_gs_imm8(begin(*state), disp, 0);
        check2(*state, "cmp", memory, want_imm(0));
        emit_cmp_gs_imm8(begin(*state), disp, 127);
        check2(*state, "cmp", memory, want_imm(127));
    }
}

static void test_mov_imm(void **state)
{
    static const struct {
        uint64_t value;
        unsigned size; /* with a low register */
    } values[] = {{0, 5},
                  {1, 5},
                  {0x7fffffff, 5},
                  {0x80000000, 5},
                  {0xffffffff, 5},
                  {0x100000000, 10},
                  {0xffffffff80000000, 7},
                  {0xffffffffffffffff, 7},
                  {0xffffffff7fffffff, 10},
                  {0x123456789abcdef0, 10},
                  {0x8000000000000000, 10}};
    struct rig *rig = *state;
    for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        for (unsigned reg = 0; reg < 16; reg++) {
            uint64_t value = values[i].value;
            emit_mov_imm(begin(rig), reg, value);
            assert_true(rig->e.pos <= values[i].size + 1);
            if (reg < 8)
                assert_int_equal(rig->e.pos, values[i].size);
            bool narrow = value <= UINT32_MAX; /* MOV r32, imm32 zero-extends */
            ZydisDecodedInstruction insn;
            ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
            assert_true(ZYAN_SUCCESS(
                ZydisDecoderDecodeFull(&rig->zydis, rig->bytes, rig->e.pos, &insn, operands)));
            assert_int_equal(insn.length, rig->e.pos);
            uint64_t got = operands[1].imm.value.u;
            assert_true((narrow ? (uint32_t)got : got) == value);
            check2(rig, "mov", want_reg(narrow ? names32[reg] : names64[reg]),
                   want_imm(operands[1].imm.value.s));
        }
    }
}

static void test_alu_imm32(void **state)
{
    static const char *const mnemonics[] = {"add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"};
    static const uint32_t values[] = {0, 1, 0x7fffffff, 0x12345678};
    for (unsigned n = 0; n < 8 * 16 * 2 * 4; n++) {
        unsigned ext = n & 7, reg = n >> 3 & 15;
        int w = n >> 7 & 1;
        uint32_t value = values[n >> 8];
        emit_alu_imm32(begin(*state), w, ext, reg, value);
        check2(*state, mnemonics[ext], want_reg(name_of(w, reg)), want_imm(value));
    }
}

static void test_rorx(void **state)
{
    for (unsigned n = 0; n < 16 * 16 * 2; n++) {
        unsigned dst = n & 15, src = n >> 4 & 15, count = (n * 5) & 31;
        int w = n >= 256;
        emit_rorx(begin(*state), w, dst, src, count);
        struct want want = {
            .mnemonic = "rorx",
            .count = 3,
            .operand = {want_reg(name_of(w, dst)), want_reg(name_of(w, src)), want_imm(count)}};
        check(*state, &want);
    }
}

static void test_shift_by_register(void **state)
{
    for (unsigned n = 0; n < 16 * 16 * 2; n++) {
        unsigned dst = n & 15, src = n >> 4 & 15, count = (n * 5 + n / 16) & 15;
        bool right = n >= 256;
        (right ? emit_shrx : emit_shlx)(begin(*state), dst, src, count);
        struct want want = {.mnemonic = right ? "shrx" : "shlx",
                            .count = 3,
                            .operand = {want_reg(name_of(W64, dst)), want_reg(name_of(W64, src)),
                                        want_reg(name_of(W64, count))}};
        check(*state, &want);
    }
}

static void check_branch(struct rig *rig, const char *mnemonic, uint64_t target, uint32_t site)
{
    ZydisDecodedInstruction insn;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    assert_true(
        ZYAN_SUCCESS(ZydisDecoderDecodeFull(&rig->zydis, rig->bytes, rig->e.pos, &insn, operands)));
    assert_int_equal(insn.length, rig->e.pos);
    assert_int_equal(site, insn.length - 4);
    assert_string_equal(ZydisMnemonicGetString(insn.mnemonic), mnemonic);
    uint64_t got;
    assert_true(ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(&insn, &operands[0], EXEC, &got)));
    assert_true(got == target);
    struct want want = {.mnemonic = NULL, .count = 1, .operand = {want_imm((int64_t)target)}};
    const uint8_t *bytes = rig->bytes;
    size_t size = rig->e.pos;
    uint64_t address = EXEC;
    assert_true(cs_disasm_iter(rig->capstone, &bytes, &size, &address, rig->insn));
    assert_true(capstone_operand_ok(rig, &want.operand[0], &rig->insn->detail->x86.operands[0]));
}

static void test_branches(void **state)
{
    static const char *const conditions[] = {"jo", "jno", "jb", "jnb", "jz", "jnz", "jbe", "jnbe",
                                             "js", "jns", "jp", "jnp", "jl", "jnl", "jle", "jnle"};
    static const uint64_t targets[] = {EXEC, EXEC + 5, EXEC + 0x7fff0000ull, EXEC - 0x3fff0000};
    struct rig *rig = *state;
    for (unsigned i = 0; i < 4; i++) {
        uint32_t site = emit_jmp(begin(rig), targets[i]);
        check_branch(rig, "jmp", targets[i], site);
        site = emit_call(begin(rig), targets[i]);
        check_branch(rig, "call", targets[i], site);
        for (unsigned cc = 0; cc < 16; cc++) {
            site = emit_jcc(begin(rig), cc, targets[i]);
            check_branch(rig, conditions[cc], targets[i], site);
        }
    }
}

static void test_patch(void **state)
{
    struct rig *rig = *state;
    struct emit *e = begin(rig);
    uint32_t site = emit_jcc_later(e, CC_NE);
    emit_patch(e, site, 20);
    check_branch(rig, "jnz", EXEC + 20, site);
    e = begin(rig);
    site = emit_jmp_later(e);
    emit_patch(e, site, 0);
    check_branch(rig, "jmp", EXEC, site);
    e = begin(rig);
    emit8(e, 0xe3); /* jrcxz */
    emit8(e, 0);
    emit_patch8(e, 1, 2 + 127);
    assert_int_equal(rig->bytes[1], 127);
    emit_patch8(e, 1, 2);
    assert_int_equal(rig->bytes[1], 0);
}

/* Whatever does not fit is dropped, nothing is written past the end, and it is remembered. */
static void test_overflow(void **state)
{
    struct rig *rig = *state;
    for (uint32_t size = 0; size < 10; size++) {
        struct emit *e = begin(rig);
        e->size = size;
        emit_mov_imm(e, H_RAX, 0x123456789abcdef0);
        assert_true(e->overflow);
        assert_true(e->pos <= size);
        for (unsigned i = size; i < ROOM; i++)
            assert_int_equal(rig->bytes[i], 0xcc);
        emit_patch(e, 28, 0);
        emit_patch8(e, 28, 29);
        for (unsigned i = size; i < ROOM; i++)
            assert_int_equal(rig->bytes[i], 0xcc);
    }
    struct emit *e = begin(rig);
    e->size = 10;
    emit_mov_imm(e, H_RAX, 0x123456789abcdef0);
    assert_false(e->overflow);
    assert_int_equal(e->pos, 10);
    emit8(e, 0x90);
    assert_true(e->overflow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reg_reg),  cmocka_unit_test(test_reg_reg_widening),
        cmocka_unit_test(test_reg_mem),  cmocka_unit_test(test_reg_mem_size),
        cmocka_unit_test(test_gs),       cmocka_unit_test(test_gs_immediate),
        cmocka_unit_test(test_mov_imm),  cmocka_unit_test(test_alu_imm32),
        cmocka_unit_test(test_rorx),     cmocka_unit_test(test_shift_by_register),
        cmocka_unit_test(test_branches), cmocka_unit_test(test_patch),
        cmocka_unit_test(test_overflow),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
