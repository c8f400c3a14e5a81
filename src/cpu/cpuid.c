#include "cpu/cpuid.h"
#include "cpu/cpu.h"
#include "cpu/cpuid_bits.h"

enum {
    LEAF_HYPERVISOR = 0x40000000,
    LEAF_HYPERVISOR_MAX = 0x40000010,
    XSAVE_AVX_OFFSET = 576,
    XSAVE_AVX_SIZE = 256,
    XCR0_AVX = 1 << 2,
    /* IA32_MISC_ENABLE bits that CPUID follows (SDM vol. 4, 1A0H) */
    MISC_LIMIT_CPUID = 1 << 22,
    LINEAR_BITS = 48,
};
#define MISC_XD_DISABLE (1ull << 34)
#define LEAF_EXTENDED   0x80000000u

static const char hypervisor_signature[13] = "VedetteVedet";

uint32_t cpuid_signature(const struct cpuid_model *model)
{
    uint32_t family = model->family < 0xf ? model->family : 0xf;
    uint32_t extended = model->family - family;

    return (model->stepping & 0xf) | (model->model & 0xf) << 4 | family << 8 |
           (model->model >> 4 & 0xf) << 16 | (extended & 0xff) << 20;
}

bool cpuid_supported(enum x86_feature feature)
{
    return cpuid_bits[feature].carried != CARRIED_NO;
}

static uint32_t feature_word(const struct cpuid_model *model, enum cpuid_word word)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < FEAT_COUNT; i++) {
        if (cpuid_bits[i].word == word && cpuid_has(model, (enum x86_feature)i))
            value |= 1u << cpuid_bits[i].bit;
    }
    return value;
}

static uint32_t four_chars(const char *text)
{
    return (uint32_t)(uint8_t)text[0] | (uint32_t)(uint8_t)text[1] << 8 |
           (uint32_t)(uint8_t)text[2] << 16 | (uint32_t)(uint8_t)text[3] << 24;
}

static uint32_t ceil_log2(uint32_t value)
{
    uint32_t bits = 0;

    while (bits < 31 && (1u << bits) < value)
        bits++;
    return bits;
}

static uint32_t cpu_count(const struct cpuid_model *model)
{
    return model->cpu_count ? model->cpu_count : 1;
}

static struct cpuid_regs leaf_vendor(const struct cpuid_model *model, uint32_t max)
{
    return (struct cpuid_regs){
        .eax = max,
        .ebx = four_chars(model->vendor),
        .edx = four_chars(model->vendor + 4),
        .ecx = four_chars(model->vendor + 8),
    };
}

static struct cpuid_regs leaf_features(const struct x86_cpu *cpu)
{
    const struct cpuid_model *model = &cpu->cpuid;
    uint32_t count = cpu_count(model);
    struct cpuid_regs r = {
        .eax = cpuid_signature(model),
        .ecx = feature_word(model, WORD_1_ECX),
        .edx = feature_word(model, WORD_1_EDX),
    };

    if (cpuid_has(model, FEAT_APIC)) {
        r.ebx = (model->apic_id & 0xff) << 24;
        if (cpu->platform.apic_base_read &&
            !(cpu->platform.apic_base_read(cpu->platform.ctx) >> 11 & 1))
            r.edx &= ~(1u << cpuid_bits[FEAT_APIC].bit);
    }
    if (count > 1) {
        r.ebx |= (count < 255 ? 1u << ceil_log2(count) : 255) << 16;
        r.edx |= 1u << 28; /* HTT: more than one APIC id in the package */
    }
    if (cpuid_has(model, FEAT_CLFSH))
        r.ebx |= 64 / 8 << 8;
    if (model->family == 6 && !model->brand[0])
        r.ebx |= 2; /* brand index: Pentium III */
    if (cpu->cr4 & X86_CR4_OSXSAVE)
        r.ecx |= 1u << 27;
    return r;
}

/* Cache and TLB descriptor bytes (SDM vol. 2A, CPUID, table of leaf 2). */
static struct cpuid_regs leaf_descriptors(const struct cpuid_model *model)
{
    if (model->max_leaf < 4) /* 16+16 KiB L1, 256 KiB L2, the TLBs of a P6 */
        return (struct cpuid_regs){.eax = 0x03020101, .edx = 0x0c040882};
    /* FFH: caches are in leaf 4; F0H: 64-byte prefetch; the rest are TLBs */
    return (struct cpuid_regs){.eax = 0x76036301, .ebx = 0x00f0b5ff, .edx = 0x00c30000};
}

static struct cpuid_regs leaf_caches(const struct cpuid_model *model, uint32_t subleaf)
{
    /* type: 1 data, 2 instruction, 3 unified */
    static const struct {
        uint32_t type, level, ways, sets, shared;
    } caches[] = {{1, 1, 8, 64, 0},      /* 32 KiB */
                  {2, 1, 8, 64, 0},      /* 32 KiB */
                  {3, 2, 8, 2048, 0},    /* 1 MiB */
                  {3, 3, 16, 16384, 1}}; /* 16 MiB */
    uint32_t cores = (1u << ceil_log2(cpu_count(model))) - 1;

    if (subleaf >= sizeof(caches) / sizeof(caches[0]))
        return (struct cpuid_regs){0};
    return (struct cpuid_regs){
        .eax = caches[subleaf].type | caches[subleaf].level << 5 | 1u << 8 |
               (caches[subleaf].shared ? cores & 0xfff : 0) << 14 | (cores & 0x3f) << 26,
        .ebx = (64 - 1) | (caches[subleaf].ways - 1) << 22,
        .ecx = caches[subleaf].sets - 1,
    };
}

static struct cpuid_regs leaf_topology(const struct cpuid_model *model, uint32_t subleaf)
{
    struct cpuid_regs r = {.ecx = subleaf & 0xff, .edx = model->apic_id};

    if (subleaf == 0) { /* threads of a core */
        r.ebx = 1;
        r.ecx |= 1 << 8;
    } else if (subleaf == 1) { /* cores of the package */
        r.eax = ceil_log2(cpu_count(model));
        r.ebx = cpu_count(model);
        r.ecx |= 2 << 8;
    }
    return r;
}

static struct cpuid_regs leaf_xsave(const struct x86_cpu *cpu, uint32_t subleaf)
{
    const struct cpuid_model *model = &cpu->cpuid;
    bool avx = cpuid_has(model, FEAT_AVX);
    uint32_t enabled = XSAVE_AVX_OFFSET + (cpu->xcr0 & XCR0_AVX ? XSAVE_AVX_SIZE : 0);

    if (!cpuid_has(model, FEAT_XSAVE))
        return (struct cpuid_regs){0};
    switch (subleaf) {
    case 0:
        return (struct cpuid_regs){
            .eax = avx ? 7 : 3,
            .ebx = enabled,
            .ecx = XSAVE_AVX_OFFSET + (avx ? XSAVE_AVX_SIZE : 0),
        };
    case 1:
        return (struct cpuid_regs){
            .eax = feature_word(model, WORD_D1_EAX),
            .ebx = cpuid_has(model, FEAT_XSAVEC) ? enabled : 0,
        };
    case 2:
        if (avx)
            return (struct cpuid_regs){.eax = XSAVE_AVX_SIZE, .ebx = XSAVE_AVX_OFFSET};
        break;
    default:
        break;
    }
    return (struct cpuid_regs){0};
}

struct ratio {
    uint64_t numerator, denominator;
};

/* The distance of r from value / unit, times r.denominator * unit. */
static uint64_t ratio_distance(struct ratio r, uint64_t value, uint64_t unit)
{
    uint64_t product = r.numerator * unit, exact = value * r.denominator;

    return product > exact ? product - exact : exact - product;
}

/* The nearest to value / unit with a denominator up to max >= 1, by continued fractions. */
static struct ratio nearest_ratio(uint64_t value, uint64_t unit, uint64_t max)
{
    struct ratio before = {0, 1}, last = {1, 0};
    uint64_t dividend = value, divisor = unit;

    while (divisor) {
        uint64_t term = dividend / divisor, rest = dividend % divisor;
        uint64_t fits = last.denominator ? (max - before.denominator) / last.denominator : term;
        uint64_t factor = term < fits ? term : fits;
        struct ratio next = {factor * last.numerator + before.numerator,
                             factor * last.denominator + before.denominator};

        if (term > fits) /* between the last two: not necessarily nearer than the last */
            return ratio_distance(next, value, unit) * last.denominator <
                           ratio_distance(last, value, unit) * next.denominator
                       ? next
                       : last;
        before = last;
        last = next;
        dividend = divisor;
        divisor = rest;
    }
    return last;
}

/*
 * TSC frequency = crystal * EBX / EAX. The crystal must be the clock of the local APIC timer,
 * because Linux derives that from it, and crystal in kHz times EBX must fit 32 bits, because Linux
 * multiplies so. Among the ratios allowed the nearest is off by less than a kilohertz.
 */
static struct cpuid_regs leaf_tsc(const struct cpuid_model *model)
{
    uint64_t crystal = model->apic_hz / 1000, tsc = model->tsc_hz / 1000;
    struct cpuid_regs r = {.ecx = (uint32_t)model->apic_hz};

    if (!crystal || !tsc || model->apic_hz > UINT32_MAX)
        return (struct cpuid_regs){0};
    if (tsc <= UINT32_MAX - crystal) {
        struct ratio best = nearest_ratio(tsc, crystal, (UINT32_MAX - crystal) / tsc);

        r.eax = (uint32_t)best.denominator;
        r.ebx = (uint32_t)best.numerator;
    }
    return r;
}

static struct cpuid_regs leaf_frequency(const struct cpuid_model *model)
{
    uint32_t mhz = (uint32_t)(model->tsc_hz / 1000000);

    return (struct cpuid_regs){.eax = mhz, .ebx = mhz, .ecx = mhz ? 100 : 0};
}

static struct cpuid_regs leaf_basic(const struct x86_cpu *cpu, uint32_t leaf, uint32_t subleaf)
{
    const struct cpuid_model *model = &cpu->cpuid;

    switch (leaf) {
    case 1:
        return leaf_features(cpu);
    case 2:
        return leaf_descriptors(model);
    case 4:
        return leaf_caches(model, subleaf);
    case 6: /* ARAT: the APIC timer never stops */
        return (struct cpuid_regs){.eax = cpuid_has(model, FEAT_APIC) ? 1 << 2 : 0};
    case 7:
        if (subleaf == 0)
            return (struct cpuid_regs){
                .ebx = feature_word(model, WORD_7_EBX),
                .ecx = feature_word(model, WORD_7_ECX),
                .edx = feature_word(model, WORD_7_EDX),
            };
        break;
    case 0xb:
        return leaf_topology(model, subleaf);
    case 0xd:
        return leaf_xsave(cpu, subleaf);
    case 0x15:
        return leaf_tsc(model);
    case 0x16:
        return leaf_frequency(model);
    default:
        break;
    }
    return (struct cpuid_regs){0};
}

static struct cpuid_regs leaf_hypervisor(const struct cpuid_model *model, uint32_t leaf)
{
    if (leaf == LEAF_HYPERVISOR)
        return (struct cpuid_regs){
            .eax = LEAF_HYPERVISOR_MAX,
            .ebx = four_chars(hypervisor_signature),
            .ecx = four_chars(hypervisor_signature + 4),
            .edx = four_chars(hypervisor_signature + 8),
        };
    if (leaf == LEAF_HYPERVISOR_MAX)
        return (struct cpuid_regs){
            .eax = (uint32_t)(model->tsc_hz / 1000),
            .ebx = (uint32_t)(model->apic_hz / 1000),
        };
    return (struct cpuid_regs){0};
}

static struct cpuid_regs leaf_extended(const struct x86_cpu *cpu, uint32_t leaf)
{
    const struct cpuid_model *model = &cpu->cpuid;
    struct cpuid_regs r = {0};

    switch (leaf) {
    case LEAF_EXTENDED:
        return (struct cpuid_regs){.eax = model->max_extended_leaf};
    case LEAF_EXTENDED + 1:
        r.ecx = feature_word(model, WORD_80000001_ECX);
        r.edx = feature_word(model, WORD_80000001_EDX);
        /* This vendor's processors show SYSCALL only to 64-bit code, the only one that has it. */
        if (!x86_code64(cpu))
            r.edx &= ~(1u << cpuid_bits[FEAT_SYSCALL].bit);
        if (cpu->misc_enable & MISC_XD_DISABLE)
            r.edx &= ~(1u << cpuid_bits[FEAT_NX].bit);
        break;
    case LEAF_EXTENDED + 2:
    case LEAF_EXTENDED + 3:
    case LEAF_EXTENDED + 4: {
        const char *text = model->brand + 16 * (leaf - LEAF_EXTENDED - 2);

        r = (struct cpuid_regs){four_chars(text), four_chars(text + 4), four_chars(text + 8),
                                four_chars(text + 12)};
        break;
    }
    case LEAF_EXTENDED + 6: /* L2: 1 MiB, 8-way, 64-byte lines */
        r.ecx = 1024u << 16 | 6 << 12 | 64;
        break;
    case LEAF_EXTENDED + 7:
        r.edx = feature_word(model, WORD_80000007_EDX);
        break;
    case LEAF_EXTENDED + 8:
        r.eax = model->phys_bits | (cpuid_has(model, FEAT_LM) ? LINEAR_BITS : 32u) << 8;
        break;
    default:
        break;
    }
    return r;
}

struct cpuid_regs cpuid_query(const struct x86_cpu *cpu, uint32_t leaf, uint32_t subleaf)
{
    const struct cpuid_model *model = &cpu->cpuid;
    uint32_t max = model->max_leaf;

    if ((cpu->misc_enable & MISC_LIMIT_CPUID) && max > 3)
        max = 3;
    if (leaf == 0)
        return leaf_vendor(model, max);
    if (leaf >> 16 == LEAF_HYPERVISOR >> 16 && cpuid_has(model, FEAT_HYPERVISOR))
        return leaf_hypervisor(model, leaf);
    if (leaf >= LEAF_EXTENDED && leaf <= model->max_extended_leaf)
        return leaf_extended(cpu, leaf);
    /* Out of range: what the highest basic leaf answers (SDM vol. 2A, CPUID). */
    return leaf_basic(cpu, leaf <= max ? leaf : max, subleaf);
}
