#include "forms.h"

#include <Zydis/Zydis.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FORMS = 200000 };

/* Callouts that behave the same in every process at CPL 3. */
static int callout_group(const struct insn *insn, const char **reason)
{
    switch ((enum insn_op)insn->op) {
    case OP_PUSHF:
    case OP_POPF:
    case OP_PUSHA:
    case OP_POPA:
    case OP_ENTER:
    case OP_PUSH_SEG:
        return GROUP_STACK;
    case OP_BOUND:
    case OP_AAA:
    case OP_AAS:
    case OP_AAM:
    case OP_AAD:
    case OP_DAA:
    case OP_DAS:
    case OP_SALC:
    case OP_INT3:
    case OP_INTO:
    case OP_ARPL:
    case OP_UD:
    case OP_MOV_FROM_SEG:
        return GROUP_OTHER;
    case OP_RDFSGSBASE:
    case OP_WRFSGSBASE:
        return GROUP_INTEGER;
    case OP_FXSAVE:
    case OP_FXRSTOR:
    case OP_XSAVE:
    case OP_XRSTOR:
    case OP_MASKMOV:
    case OP_VMASKMOV:
    case OP_GATHER:
        return GROUP_VECTOR;
    case OP_FNSAVE:
    case OP_FRSTOR:
    case OP_FNSTENV:
    case OP_FLDENV:
        return GROUP_X87;
    case OP_HLT:
    case OP_CLI:
    case OP_STI:
    case OP_IN:
    case OP_OUT:
    case OP_INS:
    case OP_OUTS:
    case OP_LGDT:
    case OP_LIDT:
    case OP_LLDT:
    case OP_LTR:
    case OP_LMSW:
    case OP_CLTS:
    case OP_MOV_FROM_CR:
    case OP_MOV_TO_CR:
    case OP_MOV_FROM_DR:
    case OP_MOV_TO_DR:
    case OP_INVLPG:
    case OP_WBINVD:
    case OP_RDMSR:
    case OP_WRMSR:
    case OP_SWAPGS:
    case OP_XSETBV:
        return GROUP_PRIVILEGED;
    case OP_MOV_TO_SEG:
    case OP_POP_SEG:
    case OP_LOAD_FAR_POINTER:
    case OP_JMP_FAR:
    case OP_CALL_FAR:
    case OP_RET_FAR:
    case OP_IRET:
    case OP_LAR:
    case OP_LSL:
    case OP_VERR:
    case OP_VERW:
        *reason = "depends on the host system's descriptor tables";
        return GROUP_EXCLUDED;
    case OP_INT_N:
    case OP_SYSCALL:
    case OP_SYSENTER:
        *reason = "calls the host system";
        return GROUP_EXCLUDED;
    case OP_SGDT:
    case OP_SIDT:
    case OP_SLDT:
    case OP_STR:
    case OP_SMSW:
        *reason = "reads host state, or is emulated by the host system (UMIP)";
        return GROUP_EXCLUDED;
    case OP_RDTSC:
    case OP_RDTSCP:
    case OP_RDPMC:
    case OP_RDPID:
    case OP_CPUID:
    case OP_XGETBV:
        *reason = "reads host state";
        return GROUP_EXCLUDED;
    default:
        *reason = "privileged, and not a plain #GP on every host";
        return GROUP_EXCLUDED;
    }
}

static bool is_vector(const struct insn *insn)
{
    return insn->fpu_state == FPU_SSE || insn->fpu_state == FPU_AVX || insn->fpu_state == FPU_MMX ||
           insn->fpu_state == FPU_FXSAVE;
}

int form_group(const struct insn *insn, const struct cpuid_model *model, const char **reason)
{
    *reason = NULL;
    if (insn->feature == FEAT_NEVER || !cpuid_has(model, (enum x86_feature)insn->feature))
        return -1;
    switch ((enum insn_kind)insn->kind) {
    case KIND_PUSH:
    case KIND_POP:
    case KIND_LEAVE:
        return GROUP_STACK;
    case KIND_CALL_REL:
    case KIND_CALL_IND:
    case KIND_JMP_REL:
    case KIND_JMP_IND:
    case KIND_RET:
    case KIND_JCC:
    case KIND_LOOP:
        return GROUP_BRANCH;
    case KIND_STRING:
        return GROUP_STRING;
    case KIND_CLI:
    case KIND_STI:
    case KIND_CALLOUT:
        return callout_group(insn, reason);
    case KIND_COPY:
    case KIND_NOP:
    case KIND_XLAT:
        break;
    }
    if (insn->mnemonic == ZYDIS_MNEMONIC_RDRAND || insn->mnemonic == ZYDIS_MNEMONIC_RDSEED) {
        *reason = "random by purpose";
        return GROUP_EXCLUDED;
    }
    if (insn->map == 1 && insn->opcode == 0x0d && !insn->mem.present) {
        *reason = "0F 0D with a register is a NOP on Intel processors only";
        return GROUP_EXCLUDED;
    }
    if (insn->mode != 64 && insn->encoding == ENC_VEX && insn->map == 3 && insn->vex_w &&
        (insn->opcode == 0x16 || insn->opcode == 0x22)) {
        *reason = "VEX.W outside 64-bit mode is ignored by Intel, undefined for AMD processors";
        return GROUP_EXCLUDED;
    }
    if (is_vector(insn))
        return GROUP_VECTOR;
    if (insn->fpu_state == FPU_X87 || insn->fpu_state == FPU_WAIT)
        return GROUP_X87;
    return insn->map == 0 ? GROUP_ALU : GROUP_INTEGER;
}

unsigned form_undefined_flags(const uint8_t *bytes, unsigned size, unsigned mode)
{
    ZydisDecoder decoder;
    ZydisDecodedInstruction insn;
    ZydisDecoderInit(&decoder,
                     mode == 64   ? ZYDIS_MACHINE_MODE_LONG_64
                     : mode == 32 ? ZYDIS_MACHINE_MODE_LEGACY_32
                                  : ZYDIS_MACHINE_MODE_LEGACY_16,
                     mode == 64   ? ZYDIS_STACK_WIDTH_64
                     : mode == 32 ? ZYDIS_STACK_WIDTH_32
                                  : ZYDIS_STACK_WIDTH_16);
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, NULL, bytes, size, &insn)) ||
        !insn.cpu_flags)
        return 0;
    return insn.cpu_flags->undefined & 0x8d5;
}

/* --- enumeration --- */

struct builder {
    const struct cpuid_model *model;
    unsigned mode;
    struct form *forms;
    uint8_t *groups;
    uint32_t count;
    const char *reasons[ZYDIS_MNEMONIC_MAX_VALUE + 1];
    const char *names[ZYDIS_MNEMONIC_MAX_VALUE + 1];
};

static unsigned encode(const struct form *f, unsigned mode, uint8_t *b)
{
    unsigned n = 0;
    if (f->encoding == ENC_VEX) {
        static const uint8_t pp[256] = {[0x66] = 1, [0xf3] = 2, [0xf2] = 3};
        b[n++] = 0xc4;
        b[n++] = (uint8_t)(0xe0 | f->map);
        b[n++] = (uint8_t)(f->vex_w << 7 | 0x78 | f->vex_l << 2 | pp[f->mandatory]);
    } else {
        if (f->mandatory)
            b[n++] = f->mandatory;
        if (f->map)
            b[n++] = 0x0f;
        if (f->map >= 2)
            b[n++] = f->map == 2 ? 0x38 : 0x3a;
    }
    b[n++] = f->opcode;
    b[n++] = (uint8_t)((f->memory ? 0x80 : 0xc0) | f->reg << 3 | f->rm);
    if (f->memory && f->vsib)
        b[n++] = 0x23;
    (void)mode;
    memset(b + n, 0, 15 - n);
    return 15;
}

/* Adds the form if it is one; returns false if ModRM is not part of it. */
static bool try_form(struct builder *b, struct form f)
{
    uint8_t bytes[15];
    struct insn insn;
    f.rm = f.memory ? (f.vsib ? 4 : b->mode == 16 ? 7 : 3) : f.rm;
    unsigned size = encode(&f, b->mode, bytes);
    if (insn_decode(&insn, bytes, size, b->mode) != INSN_OK || insn.encoding != f.encoding ||
        insn.opcode != f.opcode || insn.map != f.map || b->count == MAX_FORMS)
        return true;
    if (f.mandatory && f.encoding == ENC_LEGACY && insn.mandatory != f.mandatory)
        return insn.has_modrm;
    if (f.vsib && !insn.mem.vsib)
        return true;
    const char *reason;
    int group = form_group(&insn, b->model, &reason);
    if (group < 0)
        return insn.has_modrm;
    f.mnemonic = insn.mnemonic;
    f.has_modrm = insn.has_modrm;
    f.undefined = (uint16_t)form_undefined_flags(bytes, size, b->mode);
    b->groups[b->count] = (uint8_t)group;
    b->forms[b->count++] = f;
    b->names[insn.mnemonic] = insn_mnemonic_name(&insn);
    if (reason)
        b->reasons[insn.mnemonic] = reason;
    return insn.has_modrm;
}

static void try_modrm(struct builder *b, struct form f)
{
    bool every_rm = f.encoding == ENC_LEGACY &&
                    ((f.map == 0 && (f.opcode & 0xf8) == 0xd8) || (f.map == 1 && f.opcode == 0x01));
    for (unsigned reg = 0; reg < 8; reg++) {
        f.reg = (uint8_t)reg;
        f.memory = true;
        f.fixed_rm = f.vsib = false;
        if (!try_form(b, f))
            return;
        if (f.encoding == ENC_VEX) {
            f.vsib = true;
            try_form(b, f);
            f.vsib = false;
        }
        f.memory = false;
        f.fixed_rm = every_rm;
        for (unsigned rm = 0; rm < (every_rm ? 8u : 1u); rm++) {
            f.rm = (uint8_t)rm;
            try_form(b, f);
        }
    }
}

static void enumerate(struct builder *b)
{
    static const uint8_t mandatory[] = {0, 0x66, 0xf3, 0xf2};
    for (unsigned map = 0; map < 4; map++) {
        for (unsigned opcode = 0; opcode < 256; opcode++) {
            for (unsigned p = 0; p < 4; p++) {
                struct form f = {.encoding = ENC_LEGACY,
                                 .map = (uint8_t)map,
                                 .opcode = (uint8_t)opcode,
                                 .mandatory = mandatory[p]};
                try_modrm(b, f);
                f.encoding = ENC_VEX;
                for (unsigned wl = 0; map && wl < 4; wl++) {
                    f.vex_w = wl & 1;
                    f.vex_l = (uint8_t)(wl >> 1);
                    try_modrm(b, f);
                }
            }
        }
    }
}

/* Groups are contiguous in the result, and within them mnemonics. */
static void sort_forms(struct form_table *t, const struct builder *b)
{
    enum { MNEMONICS = ZYDIS_MNEMONIC_MAX_VALUE + 1 };
    uint32_t written = 0;
    for (unsigned group = 0; group <= GROUP_COUNT; group++) {
        uint32_t counts[MNEMONICS] = {0}, at[MNEMONICS];
        t->group_first[group] = t->mnemonic_count;
        for (uint32_t i = 0; i < b->count; i++)
            counts[b->forms[i].mnemonic] += b->groups[i] == group;
        for (unsigned m = 0; m < MNEMONICS; m++) {
            at[m] = written;
            if (!counts[m])
                continue;
            t->mnemonics[t->mnemonic_count++] =
                (struct form_mnemonic){.mnemonic = (uint16_t)m,
                                       .group = (uint8_t)group,
                                       .first = written,
                                       .count = counts[m],
                                       .name = b->names[m],
                                       .excluded = group == GROUP_EXCLUDED ? b->reasons[m] : NULL};
            written += counts[m];
        }
        for (uint32_t i = 0; i < b->count; i++) {
            if (b->groups[i] == group)
                t->forms[at[b->forms[i].mnemonic]++] = b->forms[i];
        }
    }
    t->group_first[GROUP_COUNT + 1] = t->mnemonic_count;
    t->count = written;
}

int form_table_init(struct form_table *t, unsigned mode, const struct cpuid_model *model)
{
    struct builder *b = calloc(1, sizeof(*b));
    memset(t, 0, sizeof(*t));
    t->mode = mode;
    t->forms = calloc(MAX_FORMS, sizeof(*t->forms));
    t->mnemonics = calloc((ZYDIS_MNEMONIC_MAX_VALUE + 1) * 2u, sizeof(*t->mnemonics));
    if (b) {
        b->model = model;
        b->mode = mode;
        b->forms = calloc(MAX_FORMS, sizeof(*b->forms));
        b->groups = calloc(MAX_FORMS, 1);
    }
    bool fine = b && t->forms && t->mnemonics && b->forms && b->groups;
    if (fine) {
        enumerate(b);
        sort_forms(t, b);
    }
    if (b) {
        free(b->forms);
        free(b->groups);
    }
    free(b);
    if (fine)
        return 0;
    form_table_free(t);
    return -1;
}

void form_table_free(struct form_table *t)
{
    free(t->forms);
    free(t->mnemonics);
}
