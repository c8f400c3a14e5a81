/* Instructions that C has no name for, in the programs that run without an operating system. */
#ifndef VD_TESTS_GUEST_X86_H
#define VD_TESTS_GUEST_X86_H

#include <stdint.h>

static inline void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}
static inline void out16(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}
static inline void out32(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}
static inline uint8_t in8(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}
static inline uint16_t in16(uint16_t port)
{
    uint16_t value;
    __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}
static inline uint32_t in32(uint16_t port)
{
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

#define X86_REGISTER(name)                                                                         \
    static inline uintptr_t read_##name(void)                                                      \
    {                                                                                              \
        uintptr_t value;                                                                           \
        __asm__ volatile("mov %%" #name ", %0" : "=r"(value) : : "memory");                        \
        return value;                                                                              \
    }                                                                                              \
    static inline void write_##name(uintptr_t value)                                               \
    {                                                                                              \
        __asm__ volatile("mov %0, %%" #name : : "r"(value) : "memory");                            \
    }
X86_REGISTER(cr0)
X86_REGISTER(cr2)
X86_REGISTER(cr3)
X86_REGISTER(cr4)
X86_REGISTER(dr0)
X86_REGISTER(dr1)
X86_REGISTER(dr2)
X86_REGISTER(dr3)
X86_REGISTER(dr6)
X86_REGISTER(dr7)
#undef X86_REGISTER

static inline void invlpg(uintptr_t linear)
{
    __asm__ volatile("invlpg (%0)" : : "r"(linear) : "memory");
}

static inline uint64_t rdtsc(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}
static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
    return (uint64_t)high << 32 | low;
}
static inline void wrmsr(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr"
                     :
                     : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
                     : "memory");
}

struct cpuid {
    uint32_t eax, ebx, ecx, edx;
};
static inline struct cpuid cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid r;
    __asm__ volatile("cpuid"
                     : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
                     : "a"(leaf), "c"(subleaf));
    return r;
}
/* EAX, EBX, ECX or EDX (reg 0 to 3) of a leaf; 0 where the processor has no such leaf. */
static inline uint32_t cpuid_register(uint32_t leaf, unsigned reg)
{
    uint32_t last = cpuid(leaf & 0x80000000u, 0).eax;
    if (last < leaf || (last ^ leaf) & 0x80000000u)
        return 0;
    struct cpuid r = cpuid(leaf, 0);
    const uint32_t regs[] = {r.eax, r.ebx, r.ecx, r.edx};
    return regs[reg];
}
static inline uint32_t cpuid_bit(uint32_t leaf, unsigned reg, unsigned bit)
{
    return cpuid_register(leaf, reg) >> bit & 1;
}

/* Bits of CR4 that this processor has; CET, protection keys, UINTR and others it never has. */
static inline uint64_t cr4_bits(void)
{
    enum { EBX = 1, ECX, EDX };
    static const struct {
        uint8_t bit, leaf, reg, feature;
    } rows[] = {{0, 1, EDX, 1},  {1, 1, EDX, 1},   {2, 1, EDX, 4},   {3, 1, EDX, 2},
                {4, 1, EDX, 3},  {5, 1, EDX, 6},   {6, 1, EDX, 7},   {7, 1, EDX, 13},
                {8, 1, EDX, 15}, {9, 1, EDX, 24},  {10, 1, EDX, 25}, {11, 7, ECX, 2},
                {16, 7, EBX, 0}, {17, 1, ECX, 17}, {18, 1, ECX, 26}, {20, 7, EBX, 7},
                {21, 7, EBX, 20}};
    uint64_t bits = 0;

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        bits |= (uint64_t)cpuid_bit(rows[i].leaf, rows[i].reg, rows[i].feature) << rows[i].bit;
    return bits;
}

#endif
