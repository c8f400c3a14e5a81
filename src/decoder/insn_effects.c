#include "decoder/insn_effects.h"

enum {
    FLAG_CF = 1 << 0,
    FLAG_PF = 1 << 2,
    FLAG_AF = 1 << 4,
    FLAG_ZF = 1 << 6,
    FLAG_SF = 1 << 7,
    FLAG_OF = 1 << 11,
    NATIVE_FLAGS = 0xcd5, /* CF PF AF ZF SF DF OF: the others are virtual, callouts keep them */
};

int gpr_number(ZydisRegister reg)
{
    if (reg >= ZYDIS_REGISTER_RAX && reg <= ZYDIS_REGISTER_R15)
        return (int)(reg - ZYDIS_REGISTER_RAX);
    if (reg >= ZYDIS_REGISTER_EAX && reg <= ZYDIS_REGISTER_R15D)
        return (int)(reg - ZYDIS_REGISTER_EAX);
    if (reg >= ZYDIS_REGISTER_AX && reg <= ZYDIS_REGISTER_R15W)
        return (int)(reg - ZYDIS_REGISTER_AX);
    if (reg >= ZYDIS_REGISTER_AL && reg <= ZYDIS_REGISTER_BL)
        return (int)(reg - ZYDIS_REGISTER_AL);
    if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
        return (int)(reg - ZYDIS_REGISTER_AH);
    if (reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_R15B)
        return (int)(reg - ZYDIS_REGISTER_SPL) + 4;
    return -1;
}

static unsigned field_of_encoding(ZydisOperandEncoding encoding)
{
    switch (encoding) {
    case ZYDIS_OPERAND_ENCODING_MODRM_REG:
        return FIELD_REG;
    case ZYDIS_OPERAND_ENCODING_MODRM_RM:
        return FIELD_RM;
    case ZYDIS_OPERAND_ENCODING_OPCODE:
        return FIELD_OPC;
    case ZYDIS_OPERAND_ENCODING_NDSNDD:
        return FIELD_VVVV;
    default:
        return 0;
    }
}

static void add_register(struct insn *insn, const ZydisDecodedOperand *operand)
{
    int number = gpr_number(operand->reg.value);
    if (number < 0)
        return;

    unsigned field = field_of_encoding(operand->encoding);
    insn->gpr_fields |= (uint8_t)field;
    if (field && operand->reg.value >= ZYDIS_REGISTER_AH && operand->reg.value <= ZYDIS_REGISTER_BH)
        insn->gpr_fields |= FIELD_HIGH8;

    uint16_t bit = (uint16_t)(1u << number);
    unsigned actions = operand->actions;
    if (actions & ZYDIS_OPERAND_ACTION_MASK_READ)
        insn->gpr_read |= bit;
    if (actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) {
        insn->gpr_written |= bit;
        /* A conditional or partial write keeps (part of) the old value. */
        if (!(actions & ZYDIS_OPERAND_ACTION_WRITE) || operand->size < 32)
            insn->gpr_read |= bit;
    }
}

static void add_address_register(struct insn *insn, ZydisRegister reg)
{
    int number = gpr_number(reg);
    if (number >= 0)
        insn->gpr_read |= (uint16_t)(1u << number);
}

/* Zydis lists pointers and counts of the repeated forms only in part. */
static void add_string_registers(struct insn *insn)
{
    enum { RCX = 1 << 1, RSI = 1 << 6, RDI = 1 << 7 };
    unsigned pointers = 0;

    switch (insn->op) {
    case OP_MOVS:
    case OP_CMPS:
        pointers = RSI | RDI;
        break;
    case OP_LODS:
    case OP_OUTS:
        pointers = RSI;
        break;
    case OP_STOS:
    case OP_SCAS:
    case OP_INS:
        pointers = RDI;
        break;
    default:
        return;
    }
    if (insn->prefixes & (PREFIX_REP | PREFIX_REPNE))
        pointers |= RCX;
    insn->gpr_read |= (uint16_t)pointers;
    insn->gpr_written |= (uint16_t)pointers;
}

/*
 * Shifts and rotates by an immediate: nothing changes for a masked count of 0; RCL and RCR of 8 and
 * 16 bits also rotate by the count modulo 9 or 17, where 0 leaves CF as it was (SDM vol. 2,
 * "RCL/RCR/ROL/ROR").
 */
static void refine_shift_flags(struct insn *insn, const ZydisDecodedInstruction *zydis)
{
    unsigned count;

    switch (zydis->mnemonic) {
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
        break;
    default:
        return;
    }
    if (insn->imm_size == 0)
        return; /* by 1, or by CL: Zydis reports the latter as a conditional write */

    count = (unsigned)insn->imm & (insn->opsize == 8 ? 0x3f : 0x1f);
    if (count == 0) {
        insn->flags_written = 0;
        insn->flags_maybe = 0;
        if (zydis->mnemonic == ZYDIS_MNEMONIC_RCL || zydis->mnemonic == ZYDIS_MNEMONIC_RCR)
            insn->flags_read = 0;
        return;
    }
    if (zydis->mnemonic == ZYDIS_MNEMONIC_RCL || zydis->mnemonic == ZYDIS_MNEMONIC_RCR) {
        if ((insn->opsize == 1 && count % 9 == 0) || (insn->opsize == 2 && count % 17 == 0)) {
            insn->flags_maybe |= insn->flags_written;
            insn->flags_written = 0;
        }
    }
}

/*
 * Flags that the manuals leave undefined and that some processors (AMD's Zen) leave as they were:
 * what the instruction makes of them depends on what they are before.
 */
static uint16_t flags_perhaps_kept(ZydisMnemonic mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_MUL:
    case ZYDIS_MNEMONIC_IMUL:
        return FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF;
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:
        return FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF;
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_LZCNT:
    case ZYDIS_MNEMONIC_TZCNT:
        return FLAG_PF | FLAG_AF | FLAG_SF | FLAG_OF;
    default:
        return 0;
    }
}

static void fill_flags(struct insn *insn, const ZydisDecodedInstruction *zydis,
                       const ZydisDecodedOperand *operands)
{
    const ZydisAccessedFlags *flags = zydis->cpu_flags;
    int certain = 1;

    if (!flags)
        return;
    for (unsigned i = 0; i < zydis->operand_count; i++) {
        if (operands[i].type != ZYDIS_OPERAND_TYPE_REGISTER ||
            operands[i].reg.value < ZYDIS_REGISTER_FLAGS ||
            operands[i].reg.value > ZYDIS_REGISTER_RFLAGS)
            continue;
        if ((operands[i].actions & ZYDIS_OPERAND_ACTION_CONDWRITE) &&
            !(operands[i].actions & ZYDIS_OPERAND_ACTION_WRITE))
            certain = 0;
    }
    insn->flags_read = (uint16_t)(flags->tested & NATIVE_FLAGS);
    uint16_t written =
        (uint16_t)((flags->modified | flags->set_0 | flags->set_1 | flags->undefined) &
                   NATIVE_FLAGS);
    if (certain)
        insn->flags_written = written;
    else
        insn->flags_maybe = written;
    uint16_t kept = flags_perhaps_kept(zydis->mnemonic) & insn->flags_written;
    insn->flags_written &= (uint16_t)~kept;
    insn->flags_maybe |= kept;
    refine_shift_flags(insn, zydis);
}

void insn_fill_effects(struct insn *insn, const ZydisDecodedInstruction *zydis,
                       const ZydisDecodedOperand *operands)
{
    for (unsigned i = 0; i < zydis->operand_count; i++) {
        const ZydisDecodedOperand *operand = &operands[i];
        if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER) {
            add_register(insn, operand);
        } else if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY) {
            add_address_register(insn, operand->mem.base);
            add_address_register(insn, operand->mem.index);
        }
    }
    fill_flags(insn, zydis, operands);
    add_string_registers(insn);

    switch (zydis->mnemonic) {
    case ZYDIS_MNEMONIC_BSF:
    case ZYDIS_MNEMONIC_BSR:
        /* A zero source leaves the destination alone (AMD APM vol. 3; Intel CPUs do the same). */
        insn->gpr_read |= insn->gpr_written;
        break;
    default:
        break;
    }
    if (insn->kind == KIND_NOP) { /* hints name operands that they never touch */
        insn->gpr_read = insn->gpr_written = 0;
        insn->flags_read = insn->flags_written = insn->flags_maybe = 0;
    }
    if (insn->mode != 64) { /* Zydis lists RCX and R11 for SYSCALL in every mode */
        insn->gpr_read &= 0xff;
        insn->gpr_written &= 0xff;
    }
}
