#include <cpuid.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cpu/cpuid.h"
#include "cpu/cpuid_bits.h"

struct identity {
    uint32_t family, model, stepping;
    uint32_t max_leaf, max_extended_leaf;
    uint32_t phys_bits;
};

/*
 * Who we say we are. An operating system decides by vendor, family and model which speculation
 * attacks to defend against, and each defence costs a translator far more than the processor it was
 * written for: page-table isolation is two CR3 loads per system call, a retpoline makes a
 * mispredicted return of every indirect call, and filling the return buffer leaves 32 calls
 * unmatched at each context switch. What they defend, the hardware's checks of guest page tables
 * and the guest's own branch predictor entries, does not exist in a translated guest.
 *
 * Almost every part of the last twenty years gets at least one of them, but for the in-order Intel
 * Atoms: Linux lists family 6 models 1CH, 26H, 27H, 35H and 36H as not speculating at all and sets
 * no bug flag. Of these, 36H (Cedar Trail, a 64-bit desktop part) is the one that user programs do
 * not tune for: glibc and GCC know 1CH and 26H by name, but judge 36H by its feature bits.
 * IA32_ARCH_CAPABILITIES (RDCL_NO and all other "_NO" bits) says the same to systems without such a
 * list.
 *
 * Being Intel also has two effects that are wanted: Linux reads the TSC and APIC frequency from
 * leaf 15H on no other vendor, and 32-bit programs on a 64-bit kernel use SYSENTER.
 */
static const struct identity atom = {
    .family = 6,
    .model = 0x36,
    .stepping = 1,
    .max_leaf = 0x16,
    .max_extended_leaf = 0x80000008,
    .phys_bits = 40,
};
/* The write-back enhanced DX4, the last one: it has CPUID and VME, no TSC. */
static const struct identity dx4 = {.family = 4, .model = 9, .max_leaf = 1, .phys_bits = 32};
static const struct identity coppermine = {
    .family = 6, .model = 8, .stepping = 6, .max_leaf = 2, .phys_bits = 36};

#define LIST_END FEAT_COUNT

/*
 * Levels, each on top of those before it. The last three are those of the x86-64 psABI; the first
 * of them also has what every such processor has, and the emulated clock and timer features, which
 * cost nothing and which systems run badly without.
 */
static const uint8_t features_486[] = {FEAT_BASE, FEAT_486, FEAT_FPU, FEAT_VME, LIST_END};

static const uint8_t features_pentium3[] = {FEAT_DE,  FEAT_PSE,  FEAT_TSC,  FEAT_MSR, FEAT_PAE,
                                            FEAT_MCE, FEAT_CX8,  FEAT_APIC, FEAT_SEP, FEAT_MTRR,
                                            FEAT_PGE, FEAT_MCA,  FEAT_CMOV, FEAT_PAT, FEAT_PSE36,
                                            FEAT_MMX, FEAT_FXSR, FEAT_SSE,  LIST_END};

static const uint8_t features_v1[] = {FEAT_CLFSH,
                                      FEAT_SSE2,
                                      FEAT_SYSCALL,
                                      FEAT_NX,
                                      FEAT_LM,
                                      FEAT_RDTSCP,
                                      FEAT_INVTSC,
                                      FEAT_TSC_ADJUST,
                                      FEAT_TSC_DEADLINE,
                                      FEAT_HYPERVISOR,
                                      FEAT_ARCH_CAPABILITIES,
                                      LIST_END};

static const uint8_t features_v2[] = {FEAT_SSE3,   FEAT_SSSE3, FEAT_SSE41,  FEAT_SSE42,
                                      FEAT_POPCNT, FEAT_CX16,  FEAT_LAHF64, LIST_END};

static const uint8_t features_v3[] = {FEAT_XSAVE, FEAT_AVX, FEAT_AVX2,  FEAT_BMI1,  FEAT_BMI2,
                                      FEAT_F16C,  FEAT_FMA, FEAT_LZCNT, FEAT_MOVBE, LIST_END};

enum level { LEVEL_486, LEVEL_PENTIUM3, LEVEL_V1, LEVEL_V2, LEVEL_V3 };
static const uint8_t *const level_features[] = {
    [LEVEL_486] = features_486, [LEVEL_PENTIUM3] = features_pentium3,
    [LEVEL_V1] = features_v1,   [LEVEL_V2] = features_v2,
    [LEVEL_V3] = features_v3,
};

struct model_row {
    const char *name;
    const char *brand; /* empty: none, the processor is older than the brand string */
    enum level level;
    const struct identity *identity;
    bool all; /* and everything else that the machine carries and the host has */
};

static const struct model_row models[] = {
    {"486", "", LEVEL_486, &dx4, false},
    {"pentium3", "", LEVEL_PENTIUM3, &coppermine, false},
    {"x86-64-v1", "Vedette virtual processor (x86-64-v1)", LEVEL_V1, &atom, false},
    {"x86-64-v2", "Vedette virtual processor (x86-64-v2)", LEVEL_V2, &atom, false},
    {"x86-64-v3", "Vedette virtual processor (x86-64-v3)", LEVEL_V3, &atom, false},
    {"max", "Vedette virtual processor", LEVEL_V1, &atom, true},
};
enum { MODEL_COUNT = sizeof(models) / sizeof(models[0]) };
static const char default_model[] = "max";

/* A feature is useless, and misread by guests, without the one that it builds on. */
static const struct {
    uint8_t feature, needs;
} dependencies[] = {
    {FEAT_SSE, FEAT_FXSR},       {FEAT_SSE2, FEAT_SSE},        {FEAT_SSE3, FEAT_SSE2},
    {FEAT_SSSE3, FEAT_SSE3},     {FEAT_SSE41, FEAT_SSSE3},     {FEAT_SSE42, FEAT_SSE41},
    {FEAT_PCLMULQDQ, FEAT_SSE2}, {FEAT_AES, FEAT_SSE2},        {FEAT_SHA, FEAT_SSSE3},
    {FEAT_GFNI, FEAT_SSE2},      {FEAT_AVX, FEAT_XSAVE},       {FEAT_XSAVEOPT, FEAT_XSAVE},
    {FEAT_XSAVEC, FEAT_XSAVE},   {FEAT_XGETBV1, FEAT_XSAVE},   {FEAT_FMA, FEAT_AVX},
    {FEAT_F16C, FEAT_AVX},       {FEAT_AVX2, FEAT_AVX},        {FEAT_VAES, FEAT_AVX2},
    {FEAT_VAES, FEAT_AES},       {FEAT_VPCLMULQDQ, FEAT_AVX2}, {FEAT_VPCLMULQDQ, FEAT_PCLMULQDQ},
    {FEAT_FSRM, FEAT_ERMS},
};

static void set_feature(uint64_t features[2], unsigned feature, bool on)
{
    uint64_t bit = 1ull << (feature % 64);

    if (on)
        features[feature / 64] |= bit;
    else
        features[feature / 64] &= ~bit;
}

static bool get_feature(const uint64_t features[2], unsigned feature)
{
    return features[feature / 64] >> (feature % 64) & 1;
}

static void host_words(uint32_t words[WORD_COUNT])
{
    uint32_t a, b, c, d;

    memset(words, 0, WORD_COUNT * sizeof(words[0]));
    if (__get_cpuid_count(1, 0, &a, &b, &c, &d)) {
        words[WORD_1_ECX] = c;
        words[WORD_1_EDX] = d;
    }
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        words[WORD_7_EBX] = b;
        words[WORD_7_ECX] = c;
        words[WORD_7_EDX] = d;
    }
    if (__get_cpuid_count(0xd, 1, &a, &b, &c, &d))
        words[WORD_D1_EAX] = a;
    if (__get_cpuid_count(0x80000001, 0, &a, &b, &c, &d)) {
        words[WORD_80000001_ECX] = c;
        words[WORD_80000001_EDX] = d;
    }
    if (__get_cpuid_count(0x80000007, 0, &a, &b, &c, &d))
        words[WORD_80000007_EDX] = d;
}

/* The host's XCR0, 0 if its system does not use XSAVE. */
static uint64_t host_xcr0(uint32_t leaf1_ecx)
{
    uint32_t low, high;

    if (!(leaf1_ecx >> 27 & 1))
        return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/* Everything that the machine carries on this host. */
static void available_features(uint64_t features[2])
{
    uint32_t words[WORD_COUNT];
    uint64_t xcr0;

    host_words(words);
    xcr0 = host_xcr0(words[WORD_1_ECX]);
    features[0] = features[1] = 0;
    for (unsigned i = 0; i < FEAT_COUNT; i++) {
        const struct cpuid_bit *row = &cpuid_bits[i];

        if (row->carried == CARRIED_EMULATED)
            set_feature(features, i, true);
        else if (row->carried == CARRIED_NATIVE && row->word < WORD_COUNT)
            set_feature(features, i, words[row->word] >> row->bit & 1);
    }
    if ((xcr0 & 3) != 3)
        set_feature(features, FEAT_XSAVE, false);
    if ((xcr0 & 7) != 7)
        set_feature(features, FEAT_AVX, false);
    for (size_t i = 0; i < sizeof(dependencies) / sizeof(dependencies[0]); i++) {
        if (!get_feature(features, dependencies[i].needs))
            set_feature(features, dependencies[i].feature, false);
    }
}

static const struct model_row *find_model(const char *name, struct vd_error *err)
{
    char known[128] = "";

    if (!name)
        name = default_model;
    for (size_t i = 0; i < MODEL_COUNT; i++) {
        if (strcmp(models[i].name, name) == 0)
            return &models[i];
        snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s", i ? ", " : "",
                 models[i].name);
    }
    error_set(err, "unknown CPU model '%s'; known are: %s", name, known);
    return NULL;
}

static int require_features(const struct model_row *row, const uint64_t available[2],
                            uint64_t features[2], struct vd_error *err)
{
    for (unsigned level = 0; level <= row->level; level++) {
        for (const uint8_t *f = level_features[level]; *f != LIST_END; f++) {
            if (!get_feature(available, *f))
                return error_set(err, "CPU model '%s' needs %s, which this host does not have",
                                 row->name, cpuid_bits[*f].name);
            set_feature(features, *f, true);
        }
    }
    return 0;
}

int cpuid_model_init(struct cpuid_model *model, const char *name, struct vd_error *err)
{
    const struct model_row *row = find_model(name, err);
    const struct identity *identity;
    uint64_t available[2], features[2] = {0, 0};

    if (!row)
        return -1;
    available_features(available);
    if (require_features(row, available, features, err) < 0)
        return -1;
    if (row->all) {
        features[0] |= available[0];
        features[1] |= available[1];
    }
    identity = row->identity;
    memset(model, 0, sizeof(*model));
    model->features[0] = features[0];
    model->features[1] = features[1];
    snprintf(model->vendor, sizeof(model->vendor), "GenuineIntel");
    snprintf(model->brand, sizeof(model->brand), "%s", row->brand);
    model->family = identity->family;
    model->model = identity->model;
    model->stepping = identity->stepping;
    model->max_leaf = identity->max_leaf;
    model->max_extended_leaf = identity->max_extended_leaf;
    model->phys_bits = identity->phys_bits;
    model->cpu_count = 1;
    return 0;
}

const char *cpuid_model_name(size_t index)
{
    return index < MODEL_COUNT ? models[index].name : NULL;
}
