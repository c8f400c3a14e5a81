/*
 * CPUID policy: what the guest's processor offers. A model is a set of features (enum x86_feature)
 * and identification; the leaves are computed from it. Instructions whose feature is absent raise
 * #UD.
 */
#ifndef VD_CPU_CPUID_H
#define VD_CPU_CPUID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vd_error;

/* Features in CPUID's own names (SDM vol. 2A, CPUID). FEAT_BASE is always there. */
enum x86_feature {
    FEAT_BASE,
    FEAT_486 /* CMPXCHG XADD BSWAP INVLPG WBINVD, CPUID itself */,
    FEAT_FPU,
    FEAT_VME,
    FEAT_DE,
    FEAT_PSE,
    FEAT_TSC,
    FEAT_MSR,
    FEAT_PAE,
    FEAT_MCE,
    FEAT_CX8,
    FEAT_APIC,
    FEAT_SEP,
    FEAT_MTRR,
    FEAT_PGE,
    FEAT_MCA,
    FEAT_CMOV,
    FEAT_PAT,
    FEAT_PSE36,
    FEAT_CLFSH,
    FEAT_MMX,
    FEAT_FXSR,
    FEAT_SSE,
    FEAT_SSE2,
    FEAT_SSE3,
    FEAT_PCLMULQDQ,
    FEAT_SSSE3,
    FEAT_FMA,
    FEAT_CX16,
    FEAT_PCID,
    FEAT_SSE41,
    FEAT_SSE42,
    FEAT_X2APIC,
    FEAT_MOVBE,
    FEAT_POPCNT,
    FEAT_TSC_DEADLINE,
    FEAT_AES,
    FEAT_XSAVE,
    FEAT_AVX,
    FEAT_F16C,
    FEAT_RDRAND,
    FEAT_HYPERVISOR,
    FEAT_FSGSBASE,
    FEAT_TSC_ADJUST,
    FEAT_BMI1,
    FEAT_AVX2,
    FEAT_SMEP,
    FEAT_BMI2,
    FEAT_ERMS,
    FEAT_INVPCID,
    FEAT_RDSEED,
    FEAT_ADX,
    FEAT_SMAP,
    FEAT_CLFLUSHOPT,
    FEAT_CLWB,
    FEAT_SHA,
    FEAT_UMIP,
    FEAT_RDPID,
    FEAT_FSRM,
    FEAT_GFNI,
    FEAT_VAES,
    FEAT_VPCLMULQDQ,
    FEAT_ARCH_CAPABILITIES,
    FEAT_XSAVEOPT,
    FEAT_XSAVEC,
    FEAT_XGETBV1,
    FEAT_SYSCALL,
    FEAT_NX,
    FEAT_PDPE1GB,
    FEAT_RDTSCP,
    FEAT_LM,
    FEAT_LAHF64,
    FEAT_LZCNT,
    FEAT_PREFETCHW,
    FEAT_CR8LEGACY,
    FEAT_INVTSC,
    FEAT_NEVER, /* AVX-512, AMX, XOP, 3DNow!, TSX, VMX, SVM, ...: decoded, never offered */
    FEAT_COUNT
};
_Static_assert(FEAT_COUNT <= 128, "feature set is two words");

struct cpuid_model {
    uint64_t features[2]; /* bit set of enum x86_feature */
    char vendor[13];      /* 12 characters and NUL */
    char brand[49];
    uint32_t family, model, stepping;
    uint32_t max_leaf, max_extended_leaf;
    uint64_t tsc_hz;  /* reported through 15H/16H and the hypervisor leaves; 0: unknown */
    uint64_t apic_hz; /* APIC timer input clock */
    uint32_t apic_id, cpu_count;
    uint32_t phys_bits; /* physical address width */
};

static inline bool cpuid_has(const struct cpuid_model *model, enum x86_feature feature)
{
    return (model->features[feature / 64] >> (feature % 64)) & 1;
}

/* True if the machine carries the feature at all, on this host or another. */
bool cpuid_supported(enum x86_feature feature);

/*
 * Fills model by name ("486", "pentium3", "x86-64-v1", "x86-64-v2", "x86-64-v3", "max"; NULL: the
 * default). Limits it to what the host CPU can execute. Frequencies stay 0 (unknown), apic_id 0 and
 * cpu_count 1: the board sets them. Returns 0, or -1 with err: unknown name (the text lists the
 * known ones), or the host lacks a feature that the model requires.
 */
int cpuid_model_init(struct cpuid_model *model, const char *name, struct vd_error *err);
/* Names, in order, NULL at the end of the list. */
const char *cpuid_model_name(size_t index);

/* Family, model and stepping as in CPUID.1.EAX; also EDX after RESET. */
uint32_t cpuid_signature(const struct cpuid_model *model);

struct x86_cpu;
struct cpuid_regs {
    uint32_t eax, ebx, ecx, edx;
};
/* CPUID as the guest sees it now (OSXSAVE, XSAVE size and APIC enable depend on cpu's state). */
struct cpuid_regs cpuid_query(const struct x86_cpu *cpu, uint32_t leaf, uint32_t subleaf);

#endif
