#include <cpuid.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "cpu/cpu.h"

static struct x86_cpu *make_cpu(struct x86_cpu *cpu, const char *model)
{
    struct vd_error err;

    memset(cpu, 0, sizeof(*cpu));
    if (cpuid_model_init(&cpu->cpuid, model, &err) < 0)
        fail_msg("%s", err.text);
    x86_reset(cpu);
    return cpu;
}

static uint32_t max_leaf(const struct x86_cpu *cpu)
{
    return cpuid_query(cpu, 0, 0).eax;
}

static void names(void **state)
{
    static const char *const expected[] = {"486",       "pentium3",  "x86-64-v1",
                                           "x86-64-v2", "x86-64-v3", "max"};
    struct cpuid_model model;
    struct vd_error err;
    size_t i;

    (void)state;
    for (i = 0; cpuid_model_name(i); i++)
        assert_string_equal(cpuid_model_name(i), expected[i]);
    assert_int_equal(i, sizeof(expected) / sizeof(expected[0]));
    assert_int_equal(cpuid_model_init(&model, "pentium9", &err), -1);
    assert_non_null(strstr(err.text, "pentium9"));
    for (i = 0; cpuid_model_name(i); i++)
        assert_non_null(strstr(err.text, cpuid_model_name(i)));
    assert_int_equal(cpuid_model_init(&model, "486", NULL), 0);
    assert_int_equal(cpuid_model_init(&model, NULL, &err), 0);
    assert_true(cpuid_has(&model, FEAT_LM));
}

/* The last 486 with write-back cache (SDM vol. 2A, CPUID, and Intel application note 485). */
static void model_486(void **state)
{
    static struct x86_cpu cpu;

    (void)state;
    make_cpu(&cpu, "486");
    assert_int_equal(max_leaf(&cpu), 1);
    assert_int_equal(cpuid_query(&cpu, 1, 0).eax, 0x490);
    assert_int_equal(cpuid_query(&cpu, 1, 0).edx, 3); /* FPU, VME */
    assert_int_equal(cpuid_query(&cpu, 1, 0).ecx, 0);
    /* out of range: the data of the highest basic leaf */
    assert_int_equal(cpuid_query(&cpu, 0x80000000, 0).eax, 0x490);
    assert_int_equal(cpuid_query(&cpu, 7, 0).edx, 3);
}

static void model_pentium3(void **state)
{
    static struct x86_cpu cpu;

    (void)state;
    make_cpu(&cpu, "pentium3");
    assert_int_equal(max_leaf(&cpu), 2);
    assert_int_equal(cpuid_query(&cpu, 1, 0).eax, 0x686);
    assert_int_equal(cpuid_query(&cpu, 1, 0).ebx & 0xff, 2);
    /* 0387FBFF less the serial number (18) and with the APIC disabled by its base register unknown
     */
    assert_int_equal(cpuid_query(&cpu, 1, 0).edx, 0x0383fbff);
    assert_int_equal(cpuid_query(&cpu, 2, 0).eax & 0xff, 1);
}

static void leaf_words(const char *name, uint32_t *ecx1, uint32_t *edx1, uint32_t *ebx7,
                       uint32_t *ecx81)
{
    static struct x86_cpu cpu;

    make_cpu(&cpu, name);
    *ecx1 = cpuid_query(&cpu, 1, 0).ecx;
    *edx1 = cpuid_query(&cpu, 1, 0).edx;
    *ebx7 = cpuid_query(&cpu, 7, 0).ebx;
    *ecx81 = cpuid_query(&cpu, 0x80000001, 0).ecx;
}

/* The bits that the x86-64 psABI requires of each level. */
static void psabi_levels(void **state)
{
    const uint32_t v1_edx =
        1u << 0 | 1u << 8 | 1u << 15 | 1u << 23 | 1u << 24 | 1u << 25 | 1u << 26;
    const uint32_t v2_ecx = 1u << 0 | 1u << 9 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 23;
    const uint32_t v3_ecx = 1u << 12 | 1u << 22 | 1u << 28 | 1u << 29;
    const uint32_t v3_ebx7 = 1u << 3 | 1u << 5 | 1u << 8;
    uint32_t ecx1, edx1, ebx7, ecx81;

    (void)state;
    leaf_words("x86-64-v1", &ecx1, &edx1, &ebx7, &ecx81);
    assert_int_equal(edx1 & v1_edx, v1_edx);
    assert_int_equal(ecx1 & (v2_ecx | v3_ecx), 0);
    leaf_words("x86-64-v2", &ecx1, &edx1, &ebx7, &ecx81);
    assert_int_equal(ecx1 & v2_ecx, v2_ecx);
    assert_int_equal(ecx81 & 1, 1); /* LAHF in 64-bit mode */
    assert_int_equal(ecx1 & v3_ecx, 0);
    if (!__builtin_cpu_supports("avx2"))
        skip();
    leaf_words("x86-64-v3", &ecx1, &edx1, &ebx7, &ecx81);
    assert_int_equal(ecx1 & (v2_ecx | v3_ecx), v2_ecx | v3_ecx);
    assert_int_equal(ebx7 & v3_ebx7, v3_ebx7);
    assert_int_equal(ecx81 & (1 << 5), 1 << 5); /* LZCNT */
}

/* Nothing is offered that this machine does not carry, on whatever host. */
static void never_offered(void **state)
{
    const uint32_t ecx1 = 1u << 3 | 1u << 5 | 1u << 17 | 1u << 21; /* MONITOR VMX PCID x2APIC */
    const uint32_t ebx7 = 1u << 4 | 1u << 10 | 1u << 11 | 1u << 14 | 1u << 16 | 1u << 17 |
                          1u << 20 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 |
                          1u << 31; /* HLE INVPCID RTM MPX AVX-512 SMAP ... */
    const uint32_t ecx7 = 1u << 1 | 1u << 3 | 1u << 7 | 1u << 16;   /* PKU CET LA57 */
    const uint32_t ecx81 = 1u << 2 | 1u << 6 | 1u << 11 | 1u << 16; /* SVM SSE4A XOP FMA4 */
    static struct x86_cpu cpu;

    (void)state;
    for (size_t i = 0; cpuid_model_name(i); i++) {
        struct cpuid_model model;

        if (cpuid_model_init(&model, cpuid_model_name(i), NULL) < 0)
            continue; /* the host is older than the model */
        make_cpu(&cpu, cpuid_model_name(i));
        if (cpu.cpuid.max_leaf < 7)
            continue;
        assert_int_equal(cpuid_query(&cpu, 1, 0).ecx & ecx1, 0);
        assert_int_equal(cpuid_query(&cpu, 7, 0).ebx & ebx7, 0);
        assert_int_equal(cpuid_query(&cpu, 7, 0).ecx & ecx7, 0);
        assert_int_equal(cpuid_query(&cpu, 7, 1).eax, 0);
        assert_int_equal(cpuid_query(&cpu, 0x80000001, 0).ecx & ecx81, 0);
        assert_false(cpuid_has(&cpu.cpuid, FEAT_NEVER));
    }
    for (unsigned feature = 0; feature < FEAT_COUNT; feature++) {
        if (!cpuid_supported((enum x86_feature)feature))
            assert_false(cpuid_has(&cpu.cpuid, (enum x86_feature)feature));
    }
}

/* "max" offers no unprivileged instruction that the host lacks. */
static void max_is_limited_by_the_host(void **state)
{
    /* the bits that the machine provides itself */
    const uint32_t own_ecx1 = 1u << 24 | 1u << 31, own_edx1 = 0x0780f6fe | 1u << 28;
    const uint32_t own_ebx7 = 1u << 0 | 1u << 1, own_ecx7 = 1u << 22;
    static struct x86_cpu cpu;
    uint32_t a = 0, b = 0, c = 0, d = 0;
    struct cpuid_regs r;

    (void)state;
    make_cpu(&cpu, "max");
    assert_int_equal(__get_cpuid_count(1, 0, &a, &b, &c, &d), 1);
    r = cpuid_query(&cpu, 1, 0);
    assert_int_equal(r.ecx & ~c & ~own_ecx1, 0);
    assert_int_equal(r.edx & ~d & ~own_edx1, 0);
    assert_int_equal(__get_cpuid_count(7, 0, &a, &b, &c, &d), 1);
    r = cpuid_query(&cpu, 7, 0);
    assert_int_equal(r.ebx & ~b & ~own_ebx7, 0);
    assert_int_equal(r.ecx & ~c & ~own_ecx7, 0);
    if (__builtin_cpu_supports("avx2"))
        assert_true(cpuid_has(&cpu.cpuid, FEAT_AVX2));
}

/*
 * Linux's list of processors that do not speculate (arch/x86/kernel/cpu/common.c): GenuineIntel,
 * family 6, models 1CH 26H 27H 35H 36H. IA32_ARCH_CAPABILITIES is announced, IBRS and the like
 * (leaf 7 EDX 26, 27, 31) are not.
 */
static void identity_without_mitigations(void **state)
{
    static struct x86_cpu cpu;
    struct cpuid_regs r;
    uint32_t model;

    (void)state;
    make_cpu(&cpu, NULL);
    r = cpuid_query(&cpu, 0, 0);
    assert_memory_equal(&r.ebx, "Genu", 4);
    assert_memory_equal(&r.edx, "ineI", 4);
    assert_memory_equal(&r.ecx, "ntel", 4);
    r = cpuid_query(&cpu, 1, 0);
    assert_int_equal(r.eax >> 8 & 0xf, 6);
    assert_int_equal(r.eax >> 20 & 0xff, 0);
    model = (r.eax >> 4 & 0xf) | (r.eax >> 12 & 0xf0);
    assert_true(model == 0x1c || model == 0x26 || model == 0x27 || model == 0x35 || model == 0x36);
    r = cpuid_query(&cpu, 7, 0);
    assert_true(r.edx & 1u << 29);
    assert_int_equal(r.edx & (1u << 26 | 1u << 27 | 1u << 31), 0);
}

static void brand_string(void **state)
{
    static struct x86_cpu cpu;
    char brand[49] = "";

    (void)state;
    make_cpu(&cpu, "max");
    assert_true(cpuid_query(&cpu, 0x80000000, 0).eax >= 0x80000008);
    for (uint32_t i = 0; i < 3; i++) {
        struct cpuid_regs r = cpuid_query(&cpu, 0x80000002 + i, 0);

        memcpy(brand + 16 * i, &r.eax, 4);
        memcpy(brand + 16 * i + 4, &r.ebx, 4);
        memcpy(brand + 16 * i + 8, &r.ecx, 4);
        memcpy(brand + 16 * i + 12, &r.edx, 4);
    }
    assert_string_equal(brand, cpu.cpuid.brand);
    assert_true(strlen(brand) > 0);
}

static void dynamic_bits(void **state)
{
    static struct x86_cpu cpu;

    (void)state;
    make_cpu(&cpu, "max");
    assert_int_equal(cpuid_query(&cpu, 1, 0).ecx & 1u << 27, 0);
    cpu.cr4 |= X86_CR4_OSXSAVE;
    assert_int_equal(cpuid_query(&cpu, 1, 0).ecx & 1u << 27, 1u << 27);
    /* SYSCALL shows in 64-bit mode only (SDM vol. 2A, leaf 80000001H) */
    assert_int_equal(cpuid_query(&cpu, 0x80000001, 0).edx & 1u << 11, 0);
    cpu.efer |= X86_EFER_LMA;
    cpu.seg[X86_CS].attr |= X86_AR_L;
    assert_int_equal(cpuid_query(&cpu, 0x80000001, 0).edx & 1u << 11, 1u << 11);
    /* IA32_MISC_ENABLE: limit CPUID, XD disable */
    assert_true(cpuid_query(&cpu, 0x80000001, 0).edx & 1u << 20);
    cpu.misc_enable |= 1ull << 34 | 1ull << 22;
    assert_false(cpuid_query(&cpu, 0x80000001, 0).edx & 1u << 20);
    assert_int_equal(max_leaf(&cpu), 3);
}

static uint64_t apic_off(void *ctx)
{
    (void)ctx;
    return 0xfee00100;
}

static void apic_and_topology(void **state)
{
    static struct x86_cpu cpu;
    struct cpuid_regs r;

    (void)state;
    make_cpu(&cpu, "max");
    cpu.cpuid.cpu_count = 6;
    cpu.cpuid.apic_id = 5;
    r = cpuid_query(&cpu, 1, 0);
    assert_int_equal(r.ebx >> 24, 5);
    assert_int_equal(r.ebx >> 16 & 0xff, 8); /* addressable ids */
    assert_int_equal(r.ebx >> 8 & 0xff, 8);  /* CLFLUSH: 64 bytes */
    assert_true(r.edx & 1u << 28);
    assert_true(r.edx & 1u << 9);
    r = cpuid_query(&cpu, 4, 0);
    assert_int_equal(r.eax >> 26, 7);
    r = cpuid_query(&cpu, 0xb, 0);
    assert_int_equal(r.eax, 0);
    assert_int_equal(r.ebx, 1);
    assert_int_equal(r.ecx, 0x100);
    assert_int_equal(r.edx, 5);
    r = cpuid_query(&cpu, 0xb, 1);
    assert_int_equal(r.eax, 3);
    assert_int_equal(r.ebx, 6);
    assert_int_equal(r.ecx, 0x201);
    r = cpuid_query(&cpu, 0xb, 2);
    assert_int_equal(r.ebx, 0);
    assert_int_equal(r.ecx, 2);
    assert_int_equal(r.edx, 5);
    cpu.platform.apic_base_read = apic_off;
    assert_false(cpuid_query(&cpu, 1, 0).edx & 1u << 9);
}

static void cache_sizes(void **state)
{
    static struct x86_cpu cpu;
    static const uint32_t kib[] = {32, 32, 1024, 16384};

    (void)state;
    make_cpu(&cpu, "max");
    for (uint32_t i = 0; i < 4; i++) {
        struct cpuid_regs r = cpuid_query(&cpu, 4, i);
        uint64_t size = (uint64_t)((r.ebx >> 22) + 1) * ((r.ebx >> 12 & 0x3ff) + 1) *
                        ((r.ebx & 0xfff) + 1) * (r.ecx + 1);

        assert_int_equal(size, kib[i] * 1024);
    }
    assert_int_equal(cpuid_query(&cpu, 4, 4).eax & 0x1f, 0);
    assert_int_equal(cpuid_query(&cpu, 0x80000006, 0).ecx >> 16, 1024);
    /* leaf 2 refers to leaf 4 */
    assert_int_equal(cpuid_query(&cpu, 2, 0).ebx & 0xff, 0xff);
}

static void xsave_leaves(void **state)
{
    static struct x86_cpu cpu;
    struct cpuid_regs r;

    (void)state;
    make_cpu(&cpu, "max");
    if (!cpuid_has(&cpu.cpuid, FEAT_AVX))
        skip();
    r = cpuid_query(&cpu, 0xd, 0);
    assert_int_equal(r.eax, 7);
    assert_int_equal(r.ebx, 576);
    assert_int_equal(r.ecx, 832);
    cpu.xcr0 = 7;
    assert_int_equal(cpuid_query(&cpu, 0xd, 0).ebx, 832);
    r = cpuid_query(&cpu, 0xd, 2);
    assert_int_equal(r.eax, 256);
    assert_int_equal(r.ebx, 576);
    assert_int_equal(cpuid_query(&cpu, 0xd, 1).eax & 8, 0); /* no XSAVES */
    assert_int_equal(cpuid_query(&cpu, 0xd, 5).eax, 0);
    make_cpu(&cpu, "x86-64-v2");
    assert_int_equal(cpuid_query(&cpu, 0xd, 0).eax, 0);
}

/* Linux: crystal kHz * numerator / denominator in 32 bits; the crystal is the APIC timer's clock.
 */
static void frequencies(void **state)
{
    static const uint64_t tsc[] = {2596142000, 1000000000, 3700000000, 2400000000, 799999000};
    static const uint64_t apic[] = {1000000000, 25000000, 100000000, 1000000};
    static struct x86_cpu cpu;
    struct cpuid_regs r;

    (void)state;
    make_cpu(&cpu, "max");
    assert_int_equal(cpuid_query(&cpu, 0x15, 0).eax, 0);
    assert_int_equal(cpuid_query(&cpu, 0x15, 0).ecx, 0);
    for (size_t i = 0; i < sizeof(tsc) / sizeof(tsc[0]); i++) {
        for (size_t j = 0; j < sizeof(apic) / sizeof(apic[0]); j++) {
            uint32_t khz;

            cpu.cpuid.tsc_hz = tsc[i];
            cpu.cpuid.apic_hz = apic[j];
            r = cpuid_query(&cpu, 0x15, 0);
            assert_int_equal(r.ecx, apic[j]);
            assert_true(r.eax > 0);
            assert_true((uint64_t)(r.ecx / 1000) * r.ebx <= UINT32_MAX);
            khz = r.ecx / 1000 * r.ebx / r.eax;
            assert_in_range(khz, tsc[i] / 1000 - 1 - tsc[i] / 1000 / 1000000,
                            tsc[i] / 1000 + 1 + tsc[i] / 1000 / 1000000);
            r = cpuid_query(&cpu, 0x40000010, 0);
            assert_int_equal(r.eax, tsc[i] / 1000);
            assert_int_equal(r.ebx, apic[j] / 1000);
        }
    }
    cpu.cpuid.tsc_hz = 2596142000;
    assert_int_equal(cpuid_query(&cpu, 0x16, 0).eax, 2596);
    assert_true(cpuid_query(&cpu, 0x80000007, 0).edx & 1u << 8);
}

/* The distance of crystal * numerator / denominator from tsc, times denominator. */
static uint64_t ratio_error(uint64_t tsc, uint64_t crystal, uint64_t numerator,
                            uint64_t denominator)
{
    uint64_t product = crystal * numerator, exact = tsc * denominator;

    return product > exact ? product - exact : exact - product;
}

/* Against a search over all denominators that Linux's 32 bits leave room for. */
static void crystal_ratio_is_the_nearest(void **state)
{
    static const uint64_t apic[] = {1000000, 24000, 100000, 16667, 3};
    static struct x86_cpu cpu;

    (void)state;
    make_cpu(&cpu, "max");
    for (uint64_t i = 0; i < 500; i++) {
        uint64_t crystal = apic[i % (sizeof(apic) / sizeof(apic[0]))];
        uint64_t tsc = 400000 + i * 7919 % 4600000, allowed = (UINT32_MAX - crystal) / tsc;
        struct cpuid_regs r;

        cpu.cpuid.tsc_hz = tsc * 1000;
        cpu.cpuid.apic_hz = crystal * 1000;
        r = cpuid_query(&cpu, 0x15, 0);
        assert_in_range(r.eax, 1, allowed);
        assert_true(crystal * r.ebx <= UINT32_MAX);
        for (uint64_t d = 1; d <= allowed; d++) {
            uint64_t nearest = (tsc * d + crystal / 2) / crystal;

            assert_true(ratio_error(tsc, crystal, r.ebx, r.eax) * d <=
                        ratio_error(tsc, crystal, nearest, d) * r.eax);
        }
    }
}

static void hypervisor_leaves(void **state)
{
    static struct x86_cpu cpu;
    struct cpuid_regs r;

    (void)state;
    make_cpu(&cpu, "max");
    assert_true(cpuid_query(&cpu, 1, 0).ecx & 1u << 31);
    r = cpuid_query(&cpu, 0x40000000, 0);
    assert_int_equal(r.eax, 0x40000010);
    assert_memory_equal(&r.ebx, "Vede", 4);
    assert_memory_equal(&r.ecx, "tteV", 4);
    assert_memory_equal(&r.edx, "edet", 4);
    assert_int_equal(cpuid_query(&cpu, 0x40000001, 0).eax, 0);
    make_cpu(&cpu, "pentium3");
    assert_int_equal(cpuid_query(&cpu, 1, 0).ecx, 0);
}

static void address_widths(void **state)
{
    static struct x86_cpu cpu;

    (void)state;
    make_cpu(&cpu, "max");
    assert_int_equal(cpuid_query(&cpu, 0x80000008, 0).eax & 0xff, cpu.cpuid.phys_bits);
    assert_int_equal(cpuid_query(&cpu, 0x80000008, 0).eax >> 8 & 0xff, 48);
    assert_in_range(cpu.cpuid.phys_bits, 36, 52);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(model_486),
        cmocka_unit_test(model_pentium3),
        cmocka_unit_test(psabi_levels),
        cmocka_unit_test(never_offered),
        cmocka_unit_test(max_is_limited_by_the_host),
        cmocka_unit_test(identity_without_mitigations),
        cmocka_unit_test(brand_string),
        cmocka_unit_test(dynamic_bits),
        cmocka_unit_test(apic_and_topology),
        cmocka_unit_test(cache_sizes),
        cmocka_unit_test(xsave_leaves),
        cmocka_unit_test(frequencies),
        cmocka_unit_test(crystal_ratio_is_the_nearest),
        cmocka_unit_test(hypervisor_leaves),
        cmocka_unit_test(address_widths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
