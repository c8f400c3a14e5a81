/*
 * Guest bytes -> struct insn: everything prescan, translator and callouts need to know about one
 * instruction. Pure: no CPU state, no memory, no globals. Zydis decodes; the row of the instruction
 * table (insn_table.def, SDM notation) decides class, kind and callout.
 */
#ifndef VD_DECODER_INSN_H
#define VD_DECODER_INSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "decoder/insn_op.h"

enum insn_class {
    INSN_IDENTITY, /* copied, register fields renamed at most */
    INSN_MEMORY,   /* copied with its memory operand rewritten (incl. push/pop/string) */
    INSN_CONTROL,  /* near control transfer */
    INSN_CALLOUT,  /* privileged or sensitive, or dropped by 64-bit mode: C semantics */
};

/* How the translator lowers it. */
enum insn_kind {
    KIND_COPY, /* GPR fields renamed; explicit ModRM/moffs memory operand (if any) rewritten */
    KIND_NOP,  /* architectural no-op here (NOP, prefetch, CLDEMOTE, ENDBR, PAUSE is KIND_COPY) */
    KIND_PUSH, /* PUSH r / imm / m (not segment registers) */
    KIND_POP,  /* POP r / m */
    KIND_LEAVE,
    KIND_CALL_REL,
    KIND_CALL_IND,
    KIND_JMP_REL,
    KIND_JMP_IND,
    KIND_RET,    /* near only */
    KIND_JCC,    /* cond is set */
    KIND_LOOP,   /* LOOP LOOPE LOOPNE JCXZ JECXZ JRCXZ */
    KIND_STRING, /* MOVS STOS LODS SCAS CMPS, with or without REP (opcode tells which) */
    KIND_XLAT,
    KIND_CLI,
    KIND_STI,
    KIND_CALLOUT, /* op names the C function */
};

enum insn_encoding { ENC_LEGACY, ENC_VEX, ENC_EVEX, ENC_XOP, ENC_3DNOW };

enum { /* insn.prefixes: present in the bytes, whether or not they have an effect */
       PREFIX_LOCK = 1 << 0,
       PREFIX_REPNE = 1 << 1 /* F2 */,
       PREFIX_REP = 1 << 2 /* F3 */,
       PREFIX_OPSIZE = 1 << 3 /* 66 */,
       PREFIX_ADDRSIZE = 1 << 4 /* 67 */,
       PREFIX_SEG = 1 << 5,
       PREFIX_REX = 1 << 6,
};

enum {                       /* insn.gpr_fields: which encoded fields name a general register */
       FIELD_REG = 1 << 0,   /* ModRM.reg */
       FIELD_RM = 1 << 1,    /* ModRM.rm with mod = 3 */
       FIELD_OPC = 1 << 2,   /* low three opcode bits */
       FIELD_VVVV = 1 << 3,  /* VEX.vvvv */
       FIELD_HIGH8 = 1 << 4, /* at least one of them is AH, CH, DH or BH */
};

enum { GPR_NONE = 0xff };

enum { MEM_READ = 1, MEM_WRITE = 2 };

struct insn_mem { /* the explicit memory operand (ModRM or moffs) */
    uint8_t present;
    uint8_t base,
        index;      /* guest register number, GPR_NONE: none. VSIB index: GPR_NONE and vsib set */
    uint8_t scale;  /* log2: 0..3 */
    uint8_t seg;    /* enum x86_segreg order: ES CS SS DS FS GS, default or override applied. Also
                       set (present = 0) for implicit operands that take an override: strings, XLAT */
    uint8_t access; /* MEM_READ | MEM_WRITE; 0: address only (LEA, NOP, INVLPG, ...) */
    uint8_t rip_relative; /* disp is relative to the end of the instruction */
    uint8_t vsib;         /* index is a vector register */
    uint16_t size;        /* bytes accessed; 0 for address-only */
    int64_t disp;         /* sign-extended; moffs: the absolute offset */
};

/* Flag sets use RFLAGS bit positions (CF 0, PF 2, AF 4, ZF 6, SF 7, DF 10, OF 11). */
struct insn {
    uint8_t bytes[15];
    uint8_t len;

    uint16_t mnemonic; /* ZydisMnemonic */
    uint8_t class;     /* enum insn_class */
    uint8_t kind;      /* enum insn_kind */
    uint16_t op;       /* enum insn_op (insn_op.h) */
    uint8_t
        feature; /* enum x86_feature number (cpu/cpuid.h) that must be offered; 0: always there */
    uint8_t fpu_state; /* enum insn_fpu: which CR0/CR4 availability rules apply */

    uint8_t mode;     /* 16, 32, 64: code size it was decoded for */
    uint8_t opsize;   /* operand size in bytes: 1, 2, 4, 8 (stack operations: of the stack item) */
    uint8_t addrsize; /* address size in bytes: 2, 4, 8 */
    uint8_t cond;     /* Jcc/SETcc/CMOVcc: low opcode nibble */

    /* encoding layout, for re-emission */
    uint8_t prefixes;  /* PREFIX_* */
    uint8_t mandatory; /* 0, 0x66, 0xF2 or 0xF3: prefix that selects the opcode */
    uint8_t
        opsize_effective; /* the 66 prefix acts (or, absent, would act) as operand-size override */
    uint8_t encoding;     /* enum insn_encoding */
    uint8_t rex;          /* raw REX byte or 0 */
    uint8_t map;          /* 0: one-byte, 1: 0F, 2: 0F38, 3: 0F3A (same numbers for VEX.mmmmm) */
    uint8_t opcode;
    uint8_t has_modrm, modrm; /* raw byte */
    uint8_t has_sib, sib;
    uint8_t disp_size;         /* bytes: 0, 1, 2, 4, 8 */
    uint8_t imm_off, imm_size; /* all immediate bytes together (ENTER: 3); offset in bytes[] */
    uint8_t vex_w, vex_l, vex_pp, vex_vvvv; /* decoded (not inverted) */

    uint8_t gpr_fields; /* FIELD_* */
    uint8_t reg, rm;    /* ModRM.reg / ModRM.rm with REX extension (raw numbers) */
    uint16_t gpr_read,
        gpr_written;        /* bit per guest register, explicit and implicit, incl. addressing */
    uint16_t flags_read;    /* flags whose input value matters */
    uint16_t flags_written; /* flags certainly replaced: set, cleared or undefined */
    uint16_t flags_maybe;   /* flags that may be replaced (shift by CL, REP, conditional; undefined
                               ones that some processors keep) */

    struct insn_mem mem;
    int64_t imm; /* first immediate, sign-extended as the operation uses it; branch: displacement */
};

enum insn_fpu { /* SDM vol. 3 table 2-2 and 13.1: what makes it #NM or #UD */
                FPU_NONE,
                FPU_X87,    /* EM or TS -> #NM */
                FPU_WAIT,   /* FWAIT: MP and TS -> #NM */
                FPU_MMX,    /* EM -> #UD, TS -> #NM */
                FPU_SSE,    /* EM or !OSFXSR -> #UD, TS -> #NM */
                FPU_AVX,    /* !OSXSAVE or XCR0[2:1] != 3 -> #UD, TS -> #NM */
                FPU_FXSAVE, /* FXSAVE/FXRSTOR: EM or TS -> #NM */
};

enum insn_status {
    INSN_OK,
    INSN_NEED_MORE, /* the bytes end inside the instruction */
    INSN_INVALID,   /* #UD: no such instruction */
    INSN_TOO_LONG,  /* #GP(0): more than 15 bytes */
};

/*
 * Decodes the instruction at bytes[0..available) for code size bits (16, 32 or 64).
 * INSN_INVALID also fills len with the bytes known to belong to it (1 to 14) and kind/op with the
 * #UD callout, so that callers may treat it as an instruction that faults. INSN_TOO_LONG does the
 * same with len 15; as mnemonic is 0 then, len tells the callout which of the two faults is due.
 * Instructions that no model offers (FEAT_NEVER) are INSN_OK with the #UD callout.
 */
enum insn_status insn_decode(struct insn *insn, const uint8_t *bytes, size_t available,
                             unsigned bits);

/*
 * BT, BTS, BTR, BTC with a register bit offset: their memory operand reaches beyond mem.size, to
 * the unit that holds the bit (SDM vol. 2, BT).
 */
static inline bool insn_is_bit_string(const struct insn *insn)
{
    return insn->mem.present && insn->map == 1 && insn->encoding == ENC_LEGACY &&
           (insn->opcode == 0xa3 || insn->opcode == 0xab || insn->opcode == 0xb3 ||
            insn->opcode == 0xbb);
}

/* Writes disassembly (Intel syntax, Capstone) of one instruction at address pc; returns text. */
const char *insn_format(char *text, size_t size, const uint8_t *bytes, size_t len, uint64_t pc,
                        unsigned bits);
/*
 * Mnemonic in SDM notation where the table has a row for the instruction, else Zydis' lower-case
 * name; and names of the enumerations, for logs and `vedette scan`.
 */
const char *insn_mnemonic_name(const struct insn *insn);
const char *insn_class_name(enum insn_class class);

#endif
