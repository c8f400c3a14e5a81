#include <Zydis/Zydis.h>

#include <string.h>

#include "base/bytes.h"
#include "cpu/cpuid.h"
#include "decoder/insn.h"
#include "decoder/insn_effects.h"
#include "decoder/insn_table.h"

enum { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS };

/* Everything known before the opcode, from the raw bytes. */
struct prefix_scan {
    uint8_t prefixes; /* PREFIX_* */
    uint8_t rex;      /* effective REX byte or 0 */
    uint8_t segment;  /* effective override, 0xff: none */
    uint8_t length;   /* bytes before the opcode (or VEX/EVEX/XOP) */
};

/* Legacy prefixes, then at most one REX that counts only directly before the opcode. */
static void scan_prefixes(struct prefix_scan *scan, const uint8_t *bytes, size_t size,
                          unsigned bits)
{
    size_t i;

    memset(scan, 0, sizeof(*scan));
    scan->segment = 0xff;
    for (i = 0; i < size; i++) {
        uint8_t byte = bytes[i];
        uint8_t segment = 0xff;
        switch (byte) {
        case 0xf0:
            scan->prefixes |= PREFIX_LOCK;
            break;
        case 0xf2:
            scan->prefixes |= PREFIX_REPNE;
            break;
        case 0xf3:
            scan->prefixes |= PREFIX_REP;
            break;
        case 0x66:
            scan->prefixes |= PREFIX_OPSIZE;
            break;
        case 0x67:
            scan->prefixes |= PREFIX_ADDRSIZE;
            break;
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e:
            segment = (uint8_t)((byte - 0x26) >> 3);
            break;
        case 0x64:
        case 0x65:
            segment = (uint8_t)(byte - 0x60);
            break;
        default:
            if (bits == 64 && (byte & 0xf0) == 0x40) {
                scan->rex = byte;
                continue;
            }
            goto done;
        }
        scan->rex = 0;
        if (segment != 0xff) {
            scan->prefixes |= PREFIX_SEG;
            /* In 64-bit mode ES, CS, SS and DS overrides are null prefixes (SDM vol. 1, 3.3.7.1).
             */
            if (bits != 64 || segment >= SEG_FS)
                scan->segment = segment;
        }
    }
done:
    if (scan->rex)
        scan->prefixes |= PREFIX_REX;
    scan->length = (uint8_t)i;
}

/*
 * Opcodes whose operand size follows the 66 prefix ("v" and "z" operands of the SDM's opcode maps,
 * and branches, where it selects the size of IP). One row per high nibble.
 */
static const char opsize_map0[16][17] = {
    "0101011101010110", "0101011101010111", "0101010001010100", "0101010001010100",
    "1111111111111111", "1111111111111111", "1111000011110101", "1111111111111111",
    "0101010101011101", "1111111111101100", "0101010101010101", "0000000011111111",
    "0111110111110001", "0101000000000000", "1111010111110101", "0000000100000001",
};
static const char opsize_map1[16][17] = {
    "1111000000000000", "0000000011111111", "0000000000000000", "0000000000000000",
    "1111111111111111", "0000000000000000", "0000000000000000", "0000000000000000",
    "1111111111111111", "0000000000000000", "1101110011011101", "0111111111111111",
    "0100000011111111", "0000000000000000", "0000000000000000", "0000000000000000",
};

static uint8_t opsize_follows_66(const struct insn *insn)
{
    unsigned high = insn->opcode >> 4, low = insn->opcode & 15;

    if (insn->encoding != ENC_LEGACY)
        return 0;
    if (insn->mode == 64 && insn->class == INSN_CONTROL)
        return 0; /* near branches are 64-bit whatever the prefix says; see decode_size() */
    switch (insn->map) {
    case 0:
        if (insn->op == OP_FNSAVE || insn->op == OP_FRSTOR || insn->op == OP_FNSTENV ||
            insn->op == OP_FLDENV)
            return 1;
        return opsize_map0[high][low] == '1';
    case 1:
        if (insn->opcode == 0xc7) /* RDRAND, RDSEED; but not CMPXCHG8B, RDPID */
            return insn->modrm >= 0xf0 && insn->mandatory == 0;
        return opsize_map1[high][low] == '1';
    case 2: /* MOVBE, CRC32 r, r/m16/32/64 */
        return insn->opcode == 0xf1 || (insn->opcode == 0xf0 && insn->mandatory == 0);
    default:
        return 0;
    }
}

/*
 * Zydis follows Intel: in 64-bit mode a 66 prefix on a near branch is ignored (AMD would truncate
 * RIP to 16 bits), so operand_width is 64 there and the displacement keeps its 32 bits.
 */
static uint8_t decode_size(const struct insn *insn, const ZydisDecodedInstruction *zydis)
{
    unsigned bytes = zydis->operand_width / 8u;

    if ((insn->op == OP_INS || insn->op == OP_OUTS) && bytes > 4)
        return 4; /* REX.W does nothing for port I/O */
    if (insn->kind == KIND_XLAT)
        return 1;
    return (uint8_t)(bytes > 8 ? 8 : bytes ? bytes : 1);
}

static uint8_t decode_mandatory(const ZydisDecodedInstruction *zydis)
{
    uint8_t mandatory = 0;

    if (zydis->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
        return 0;
    /* Zydis also calls the REP of a string instruction mandatory. */
    if (zydis->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT)
        return zydis->mnemonic == ZYDIS_MNEMONIC_PAUSE ? 0xf3 : 0;
    for (unsigned i = 0; i < zydis->raw.prefix_count; i++)
        if (zydis->raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY)
            mandatory = zydis->raw.prefixes[i].value;
    return mandatory;
}

static uint8_t encoding_of(ZydisInstructionEncoding encoding)
{
    switch (encoding) {
    case ZYDIS_INSTRUCTION_ENCODING_VEX:
        return ENC_VEX;
    case ZYDIS_INSTRUCTION_ENCODING_EVEX:
    case ZYDIS_INSTRUCTION_ENCODING_MVEX:
        return ENC_EVEX;
    case ZYDIS_INSTRUCTION_ENCODING_XOP:
        return ENC_XOP;
    case ZYDIS_INSTRUCTION_ENCODING_3DNOW:
        return ENC_3DNOW;
    default:
        return ENC_LEGACY;
    }
}

/* VEX, XOP and EVEX fields from the bytes; returns the REX-like R (4), X (2) and B (1) bits. */
static unsigned decode_vex(struct insn *insn, const struct prefix_scan *scan)
{
    const uint8_t *p = insn->bytes + scan->length;
    unsigned rxb = 0;
    uint8_t last;

    if (p[0] == 0xc5) {
        last = p[1];
        rxb = (p[1] & 0x80) ? 0 : 4;
    } else {
        rxb = ((unsigned)p[1] >> 5 & 7) ^ 7;
        last = p[2];
        insn->vex_w = p[2] >> 7;
    }
    insn->vex_pp = last & 3;
    insn->vex_vvvv = (uint8_t)((~last >> 3) & 15);
    insn->vex_l =
        insn->encoding == ENC_EVEX ? (uint8_t)((p[3] >> 5) & 3) : (uint8_t)((last >> 2) & 1);
    if (insn->mode != 64) { /* only eight registers: the extension bits mean nothing */
        insn->vex_vvvv &= 7;
        rxb = 0;
    }
    return rxb;
}

static void decode_layout(struct insn *insn, const struct prefix_scan *scan,
                          const ZydisDecodedInstruction *zydis)
{
    unsigned rxb = scan->rex & 7u;

    insn->prefixes = scan->prefixes;
    insn->rex = scan->rex;
    insn->mandatory = decode_mandatory(zydis);
    insn->encoding = encoding_of(zydis->encoding);
    insn->map = (uint8_t)zydis->opcode_map;
    insn->opcode = zydis->opcode;
    insn->addrsize = (uint8_t)(zydis->address_width / 8u);
    if (insn->encoding != ENC_LEGACY && insn->encoding != ENC_3DNOW)
        rxb = decode_vex(insn, scan);
    if (zydis->attributes & ZYDIS_ATTRIB_HAS_MODRM) {
        insn->has_modrm = 1;
        insn->modrm = insn->bytes[zydis->raw.modrm.offset];
        insn->reg = (uint8_t)(((insn->modrm >> 3) & 7) | (rxb & 4) << 1);
        insn->rm = (uint8_t)((insn->modrm & 7) | (rxb & 1) << 3);
    }
    if (zydis->attributes & ZYDIS_ATTRIB_HAS_SIB) {
        insn->has_sib = 1;
        insn->sib = insn->bytes[zydis->raw.sib.offset];
    }
    insn->disp_size = zydis->raw.disp.size / 8;
    if (zydis->raw.imm[0].size) {
        insn->imm_off = zydis->raw.imm[0].offset;
        insn->imm_size = (uint8_t)((zydis->raw.imm[0].size + zydis->raw.imm[1].size) / 8);
        insn->imm = zydis->raw.imm[0].is_signed ? zydis->raw.imm[0].value.s
                                                : (int64_t)zydis->raw.imm[0].value.u;
    }
}

static void decode_memory(struct insn *insn, const struct prefix_scan *scan,
                          const ZydisDecodedInstruction *zydis, const ZydisDecodedOperand *operands)
{
    struct insn_mem *mem = &insn->mem;
    const ZydisDecodedOperand *operand = NULL;
    int base, index;

    mem->base = mem->index = GPR_NONE;
    mem->seg = scan->segment != 0xff ? scan->segment : SEG_DS;
    for (unsigned i = 0; i < zydis->operand_count && !operand; i++)
        if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            operands[i].encoding != ZYDIS_OPERAND_ENCODING_NONE)
            operand = &operands[i];
    if (!operand)
        return;

    mem->present = 1;
    base = gpr_number(operand->mem.base);
    index = gpr_number(operand->mem.index);
    if (base >= 0)
        mem->base = (uint8_t)base;
    if (index >= 0)
        mem->index = (uint8_t)index;
    else if (operand->mem.index != ZYDIS_REGISTER_NONE)
        mem->vsib = 1;
    mem->scale = (uint8_t)(operand->mem.scale > 1 ? __builtin_ctz(operand->mem.scale) : 0);
    mem->rip_relative =
        operand->mem.base == ZYDIS_REGISTER_RIP || operand->mem.base == ZYDIS_REGISTER_EIP;
    if (scan->segment == 0xff && (base == 4 || base == 5))
        mem->seg = SEG_SS;
    mem->disp = operand->mem.disp.value;
    if (!insn->has_modrm) /* moffs: an offset, not a displacement */
        mem->disp &= (int64_t)bytes_mask(insn->disp_size);

    if (operand->mem.type == ZYDIS_MEMOP_TYPE_AGEN || insn->kind == KIND_NOP)
        return;
    mem->size = operand->size / 8;
    if (operand->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
        mem->access |= MEM_READ;
    if (operand->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
        mem->access |= MEM_WRITE;
    switch (zydis->mnemonic) {
    case ZYDIS_MNEMONIC_CLFLUSH: /* checked like a one-byte load (SDM vol. 2) */
    case ZYDIS_MNEMONIC_CLFLUSHOPT:
    case ZYDIS_MNEMONIC_CLWB:
        mem->size = 1;
        mem->access = MEM_READ;
        break;
    case ZYDIS_MNEMONIC_INVLPG:
        mem->size = 0;
        mem->access = 0;
        break;
    default:
        break;
    }
}

/* The row of the table, or the rule of the ISA set. */
static void classify(struct insn *insn, const ZydisDecodedInstruction *zydis)
{
    struct insn_key key = {
        .mnemonic = (uint16_t)zydis->mnemonic,
        .isa_set = (uint8_t)zydis->meta.isa_set,
        .map = (uint8_t)zydis->opcode_map,
        .opcode = zydis->opcode,
        .digit = zydis->raw.modrm.reg,
        .bits = insn->mode,
    };
    const struct insn_row *row = insn_row_find(&key);
    const struct insn_set_rule *rule = insn_set_rule(key.isa_set);

    insn->mnemonic = key.mnemonic;
    insn->feature = rule->known ? rule->feature : FEAT_NEVER;
    insn->fpu_state = rule->fpu;
    insn->kind = KIND_COPY;
    insn->op = OP_NONE;
    if (row) {
        insn->kind = row->kind;
        insn->op = row->op;
        if (row->feature != INSN_BY_SET)
            insn->feature = row->feature;
        if (row->fpu != INSN_BY_SET)
            insn->fpu_state = row->fpu;
    }
    if (insn->feature == FEAT_NEVER) {
        insn->kind = KIND_CALLOUT;
        insn->op = OP_UD;
        insn->fpu_state = FPU_NONE;
    }
}

static uint8_t class_of_kind(const struct insn *insn)
{
    switch ((enum insn_kind)insn->kind) {
    case KIND_COPY:
        return insn->mem.present && insn->mem.access ? INSN_MEMORY : INSN_IDENTITY;
    case KIND_NOP:
        return INSN_IDENTITY;
    case KIND_PUSH:
    case KIND_POP:
    case KIND_LEAVE:
    case KIND_STRING:
    case KIND_XLAT:
        return INSN_MEMORY;
    case KIND_CALL_REL:
    case KIND_CALL_IND:
    case KIND_JMP_REL:
    case KIND_JMP_IND:
    case KIND_RET:
    case KIND_JCC:
    case KIND_LOOP:
        return INSN_CONTROL;
    case KIND_CLI:
    case KIND_STI:
    case KIND_CALLOUT:
        break;
    }
    return INSN_CALLOUT;
}

static uint8_t condition_of(const struct insn *insn)
{
    if (insn->encoding != ENC_LEGACY)
        return 0;
    if (insn->map == 0 && (insn->opcode & 0xf0) == 0x70)
        return insn->opcode & 15;
    if (insn->map == 1 && ((insn->opcode & 0xf0) == 0x40 || (insn->opcode & 0xf0) == 0x80 ||
                           (insn->opcode & 0xf0) == 0x90))
        return insn->opcode & 15;
    return 0;
}

/* An instruction that raises #UD; len covers prefixes and opcode as far as they are there. */
static enum insn_status fill_undefined(struct insn *insn, const struct prefix_scan *scan,
                                       const uint8_t *bytes, size_t available)
{
    size_t len = scan->length;

    if (len < available && bytes[len++] == 0x0f && len < available) {
        uint8_t second = bytes[len++];
        if ((second == 0x38 || second == 0x3a) && len < available)
            len++;
    }
    if (len > 14)
        len = 14; /* 15 is reserved for INSN_TOO_LONG */
    if (len == 0)
        len = 1;
    insn->len = (uint8_t)len;
    memcpy(insn->bytes, bytes, len);
    insn->prefixes = scan->prefixes;
    insn->class = INSN_CALLOUT;
    insn->kind = KIND_CALLOUT;
    insn->op = OP_UD;
    return INSN_INVALID;
}

static enum insn_status fill_failure(struct insn *insn, ZyanStatus status,
                                     const struct prefix_scan *scan, const uint8_t *bytes,
                                     size_t available)
{
    if (status == ZYDIS_STATUS_NO_MORE_DATA)
        return INSN_NEED_MORE;
    fill_undefined(insn, scan, bytes, available);
    if (status != ZYDIS_STATUS_INSTRUCTION_TOO_LONG)
        return INSN_INVALID;
    insn->len = sizeof(insn->bytes);
    memcpy(insn->bytes, bytes, insn->len);
    return INSN_TOO_LONG;
}

static void init_decoder(ZydisDecoder *decoder, unsigned bits)
{
    ZydisMachineMode mode = ZYDIS_MACHINE_MODE_LEGACY_16;
    ZydisStackWidth width = ZYDIS_STACK_WIDTH_16;

    if (bits == 64) {
        mode = ZYDIS_MACHINE_MODE_LONG_64;
        width = ZYDIS_STACK_WIDTH_64;
    } else if (bits == 32) {
        mode = ZYDIS_MACHINE_MODE_LEGACY_32;
        width = ZYDIS_STACK_WIDTH_32;
    }
    ZydisDecoderInit(decoder, mode, width);
    /* Without MPX, 0F 1A and 0F 1B are hint NOPs and F2 does nothing on branches. */
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
}

/*
 * F3 REX.B 90 exchanges R8 and rAX, as 90 with REX.B does without F3; Zydis calls it PAUSE. Found
 * by running it.
 */
static void correct_pause(struct insn *insn)
{
    if (insn->mnemonic != ZYDIS_MNEMONIC_PAUSE || !(insn->rex & 1))
        return;
    insn->mnemonic = ZYDIS_MNEMONIC_XCHG;
    insn->mandatory = 0;
    insn->opsize = insn->rex & 8 ? 8 : insn->prefixes & PREFIX_OPSIZE ? 2 : 4;
    insn->gpr_fields = FIELD_OPC;
    insn->gpr_read = insn->gpr_written = 1u << 8 | 1u << 0;
}

/*
 * SIB.base 5 with ModRM.mod 0 is a displacement without base, also with REX.B or VEX.B: Zydis 4.0
 * takes R13D where addresses have 32 bits.
 */
static void correct_base(const ZydisDecodedInstruction *zydis, ZydisDecodedOperand *operands)
{
    bool no_base = (zydis->attributes & ZYDIS_ATTRIB_HAS_SIB) && zydis->raw.modrm.mod == 0 &&
                   zydis->raw.sib.base == 5;
    for (unsigned i = 0; i < zydis->operand_count && no_base; i++) {
        if (operands[i].type != ZYDIS_OPERAND_TYPE_MEMORY ||
            operands[i].encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM)
            continue;
        operands[i].mem.base = ZYDIS_REGISTER_NONE;
        operands[i].mem.disp.value = zydis->raw.disp.value;
    }
}

enum insn_status insn_decode(struct insn *insn, const uint8_t *bytes, size_t available,
                             unsigned bits)
{
    ZydisDecoder decoder;
    ZydisDecodedInstruction zydis;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    struct prefix_scan scan;
    ZyanStatus status;

    memset(insn, 0, sizeof(*insn));
    insn->mode = (uint8_t)bits;
    insn->mem.base = insn->mem.index = GPR_NONE;
    insn->mem.seg = SEG_DS;
    scan_prefixes(&scan, bytes, available < 15 ? available : 15, bits);
    init_decoder(&decoder, bits);
    status = ZydisDecoderDecodeFull(&decoder, bytes, available, &zydis, operands);
    if (!ZYAN_SUCCESS(status))
        return fill_failure(insn, status, &scan, bytes, available);

    correct_base(&zydis, operands);
    insn->len = zydis.length;
    memcpy(insn->bytes, bytes, zydis.length);
    classify(insn, &zydis);
    decode_layout(insn, &scan, &zydis);
    insn->opsize = decode_size(insn, &zydis);
    decode_memory(insn, &scan, &zydis, operands);
    insn->class = class_of_kind(insn);
    insn->opsize_effective = opsize_follows_66(insn);
    insn->cond = condition_of(insn);
    insn_fill_effects(insn, &zydis, operands);
    correct_pause(insn);
    return INSN_OK;
}
