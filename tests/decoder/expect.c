#include "expect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpuid.h"

static const char *const gpr_names[16] = {"ax", "cx", "dx",  "bx",  "sp",  "bp",  "si",  "di",
                                          "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"};
static const char *const seg_names[6] = {"es", "cs", "ss", "ds", "fs", "gs"};
static const char *const kind_names[] = {
    "COPY", "NOP", "PUSH", "POP",    "LEAVE", "CALL_REL", "CALL_IND", "JMP_REL", "JMP_IND",
    "RET",  "JCC", "LOOP", "STRING", "XLAT",  "CLI",      "STI",      "CALLOUT"};
static const char *const fpu_names[] = {"NONE", "X87", "WAIT", "MMX", "SSE", "AVX", "FXSAVE"};
static const char *const enc_names[] = {"legacy", "vex", "evex", "xop", "3dnow"};

static const struct {
    const char *name;
    unsigned feature;
} features[] = {{"BASE", FEAT_BASE},
                {"486", FEAT_486},
                {"FPU", FEAT_FPU},
                {"TSC", FEAT_TSC},
                {"MSR", FEAT_MSR},
                {"CX8", FEAT_CX8},
                {"SEP", FEAT_SEP},
                {"CMOV", FEAT_CMOV},
                {"CLFSH", FEAT_CLFSH},
                {"MMX", FEAT_MMX},
                {"FXSR", FEAT_FXSR},
                {"SSE", FEAT_SSE},
                {"SSE2", FEAT_SSE2},
                {"SSE3", FEAT_SSE3},
                {"PCLMULQDQ", FEAT_PCLMULQDQ},
                {"SSSE3", FEAT_SSSE3},
                {"FMA", FEAT_FMA},
                {"CX16", FEAT_CX16},
                {"SSE41", FEAT_SSE41},
                {"SSE42", FEAT_SSE42},
                {"MOVBE", FEAT_MOVBE},
                {"POPCNT", FEAT_POPCNT},
                {"AES", FEAT_AES},
                {"XSAVE", FEAT_XSAVE},
                {"AVX", FEAT_AVX},
                {"F16C", FEAT_F16C},
                {"RDRAND", FEAT_RDRAND},
                {"FSGSBASE", FEAT_FSGSBASE},
                {"BMI1", FEAT_BMI1},
                {"AVX2", FEAT_AVX2},
                {"BMI2", FEAT_BMI2},
                {"INVPCID", FEAT_INVPCID},
                {"RDSEED", FEAT_RDSEED},
                {"ADX", FEAT_ADX},
                {"SMAP", FEAT_SMAP},
                {"CLFLUSHOPT", FEAT_CLFLUSHOPT},
                {"CLWB", FEAT_CLWB},
                {"SHA", FEAT_SHA},
                {"RDPID", FEAT_RDPID},
                {"GFNI", FEAT_GFNI},
                {"VAES", FEAT_VAES},
                {"VPCLMULQDQ", FEAT_VPCLMULQDQ},
                {"XSAVEOPT", FEAT_XSAVEOPT},
                {"XSAVEC", FEAT_XSAVEC},
                {"SYSCALL", FEAT_SYSCALL},
                {"RDTSCP", FEAT_RDTSCP},
                {"LAHF64", FEAT_LAHF64},
                {"LZCNT", FEAT_LZCNT},
                {"LM", FEAT_LM}};

static const char *feature_text(unsigned feature)
{
    for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++)
        if (features[i].feature == feature)
            return features[i].name;
    return "?";
}

static const char *op_text(unsigned op)
{
    static const char *const names[] = {
#define NAME(name, text) #name,
        INSN_OPS(NAME)
#undef NAME
    };
    return op < OP_COUNT ? names[op] : "?";
}

static void append(char *text, size_t size, const char *word)
{
    size_t used = strlen(text);
    snprintf(text + used, size - used, "%s%s", used ? "," : "", word);
}

static void gpr_text(char *text, size_t size, unsigned set)
{
    text[0] = 0;
    for (unsigned i = 0; i < 16; i++)
        if (set & 1u << i)
            append(text, size, gpr_names[i]);
    if (!set)
        snprintf(text, size, "-");
}

static void letters_text(char *text, unsigned set, const char *letters, const uint8_t *bits)
{
    size_t n = 0;
    for (size_t i = 0; letters[i]; i++)
        if (set & 1u << bits[i])
            text[n++] = letters[i];
    if (!n)
        text[n++] = '-';
    text[n] = 0;
}

static void flag_text(char *text, unsigned set)
{
    static const uint8_t bits[] = {0, 2, 4, 6, 7, 10, 11};
    letters_text(text, set, "CPAZSDO", bits);
}

static void mem_text(char *text, size_t size, const struct insn_mem *mem)
{
    if (!mem->present) {
        snprintf(text, size, "no");
        return;
    }
    if (mem->rip_relative)
        snprintf(text, size, "rip");
    else
        snprintf(text, size, "%s", mem->base == GPR_NONE ? "-" : gpr_names[mem->base & 15]);
    if (mem->index != GPR_NONE) {
        size_t used = strlen(text);
        snprintf(text + used, size - used, "+%s", gpr_names[mem->index & 15]);
        used = strlen(text);
        if (mem->scale)
            snprintf(text + used, size - used, "*%u", 1u << mem->scale);
    }
}

/* Text of a symbolic key; returns 0 if key is a number. */
static int actual_text(const struct insn *insn, const char *key, char *text, size_t size)
{
    static const uint8_t field_bits[] = {0, 1, 2, 3, 4};
    static const uint8_t access_bits[] = {0, 1};

    if (!strcmp(key, "class"))
        snprintf(text, size, "%s", insn_class_name(insn->class));
    else if (!strcmp(key, "kind"))
        snprintf(text, size, "%s", kind_names[insn->kind]);
    else if (!strcmp(key, "op"))
        snprintf(text, size, "%s", op_text(insn->op));
    else if (!strcmp(key, "feat"))
        snprintf(text, size, "%s", feature_text(insn->feature));
    else if (!strcmp(key, "fpu"))
        snprintf(text, size, "%s", fpu_names[insn->fpu_state]);
    else if (!strcmp(key, "enc"))
        snprintf(text, size, "%s", enc_names[insn->encoding]);
    else if (!strcmp(key, "fields"))
        letters_text(text, insn->gpr_fields, "rmovh", field_bits);
    else if (!strcmp(key, "gr"))
        gpr_text(text, size, insn->gpr_read);
    else if (!strcmp(key, "gw"))
        gpr_text(text, size, insn->gpr_written);
    else if (!strcmp(key, "fr"))
        flag_text(text, insn->flags_read);
    else if (!strcmp(key, "fw"))
        flag_text(text, insn->flags_written);
    else if (!strcmp(key, "fm"))
        flag_text(text, insn->flags_maybe);
    else if (!strcmp(key, "mem"))
        mem_text(text, size, &insn->mem);
    else if (!strcmp(key, "seg"))
        snprintf(text, size, "%s", seg_names[insn->mem.seg]);
    else if (!strcmp(key, "acc"))
        letters_text(text, insn->mem.access, "rw", access_bits);
    else
        return 0;
    return 1;
}

static int actual_number(const struct insn *insn, const char *key, long long *value)
{
    const struct {
        const char *key;
        long long value;
    } numbers[] = {
        {"len", insn->len},
        {"os", insn->opsize},
        {"as", insn->addrsize},
        {"cc", insn->cond},
        {"map", insn->map},
        {"opc", insn->opcode},
        {"rm", insn->rm},
        {"reg", insn->reg},
        {"dispsize", insn->disp_size},
        {"disp", insn->mem.disp},
        {"imm", insn->imm},
        {"immsize", insn->imm_size},
        {"immoff", insn->imm_off},
        {"sib", insn->sib},
        {"modrm", insn->modrm},
        {"rex", insn->rex},
        {"eff", insn->opsize_effective},
        {"mand", insn->mandatory},
        {"size", insn->mem.size},
        {"vsib", insn->mem.vsib},
        {"w", insn->vex_w},
        {"l", insn->vex_l},
        {"pp", insn->vex_pp},
        {"v", insn->vex_vvvv},
        {"pfx", insn->prefixes},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (!strcmp(numbers[i].key, key)) {
            *value = numbers[i].value;
            return 1;
        }
    return 0;
}

static int check_one(const struct insn *insn, const char *key, const char *expected)
{
    char actual[128];
    long long number;

    if (actual_text(insn, key, actual, sizeof(actual))) {
        if (!strcmp(actual, expected))
            return 0;
    } else if (actual_number(insn, key, &number)) {
        if (number == strtoll(expected, NULL, 0))
            return 0;
        snprintf(actual, sizeof(actual), "%lld (%#llx)", number, (unsigned long long)number);
    } else {
        snprintf(actual, sizeof(actual), "(no such key)");
    }
    fprintf(stderr, "  %s: expected %s, got %s\n", key, expected, actual);
    return -1;
}

int expect_insn(const struct insn *insn, const char *expectation)
{
    char copy[512];
    char *state = NULL;
    int result = 0;

    snprintf(copy, sizeof(copy), "%s", expectation);
    for (char *word = strtok_r(copy, " ", &state); word; word = strtok_r(NULL, " ", &state)) {
        char *value = strchr(word, '=');
        if (!value) {
            fprintf(stderr, "  bad expectation %s\n", word);
            return -1;
        }
        *value++ = 0;
        if (check_one(insn, word, value) != 0)
            result = -1;
    }
    return result;
}

size_t expect_bytes(const char *hex, uint8_t *bytes, size_t size)
{
    size_t n = 0;

    for (; *hex; hex++) {
        if (*hex == ' ')
            continue;
        char digits[3] = {hex[0], hex[1], 0};
        if (n < size)
            bytes[n++] = (uint8_t)strtoul(digits, NULL, 16);
        hex++;
    }
    return n;
}
