/* Where each feature shows in CPUID, and what stands behind it here. */
#ifndef VD_CPU_CPUID_BITS_H
#define VD_CPU_CPUID_BITS_H

#include <stdint.h>

#include "cpu/cpuid.h"

enum cpuid_word { /* a feature word: leaf (subleaf) and register */
                  WORD_1_ECX,
                  WORD_1_EDX,
                  WORD_7_EBX,
                  WORD_7_ECX,
                  WORD_7_EDX,
                  WORD_D1_EAX,
                  WORD_80000001_ECX,
                  WORD_80000001_EDX,
                  WORD_80000007_EDX,
                  WORD_COUNT,
                  WORD_NONE /* no bit of its own */
};

enum cpuid_carried {
    CARRIED_NO,       /* known, but this machine does not carry it */
    CARRIED_EMULATED, /* C semantics: whatever the host is */
    CARRIED_NATIVE,   /* guest instructions run on the host as they are: if the host has it */
};

struct cpuid_bit {
    const char *name; /* as in the SDM */
    uint8_t word;     /* enum cpuid_word */
    uint8_t bit;
    uint8_t carried; /* enum cpuid_carried: the one place that says what the machine carries */
};

/* One row per feature from FEAT_BASE to FEAT_NEVER, in the order of the enumeration. */
extern const struct cpuid_bit cpuid_bits[FEAT_COUNT];

#endif
