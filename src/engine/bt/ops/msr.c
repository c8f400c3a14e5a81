#include "engine/bt/ops/msr.h"

#include <stddef.h>

#include "engine/bt/ops.h"
#include "engine/bt/ops/control.h"
#include "engine/bt/ops/ops_common.h"

/*
 * One row per register or range. A row is a plain field of struct x86_cpu (with a rule for the
 * values that may be written), a constant, or a pair of functions.
 */
struct msr_row {
    uint32_t first, count;
    uint8_t feature; /* enum x86_feature that brings it */
    uint8_t kind;    /* enum msr_kind */
    uint8_t rule;    /* enum msr_rule, for MSR_FIELD */
    uint16_t field;  /* offset in struct x86_cpu of the first register's uint64_t */
    uint64_t value;  /* MSR_CONSTANT, MSR_READ_ONLY */
    int (*read)(struct x86_cpu *cpu, uint32_t index, uint64_t *value);
    int (*write)(struct x86_cpu *cpu, uint32_t index, uint64_t value);
};

enum msr_kind {
    MSR_FIELD,     /* read and written as a field */
    MSR_CONSTANT,  /* reads value, ignores writes */
    MSR_READ_ONLY, /* reads value, #GP on write */
    MSR_FUNCTION,  /* read and write; NULL: #GP */
};

enum msr_rule {
    RULE_ANY,
    RULE_32,         /* bits 63:32 reserved */
    RULE_CANONICAL,  /* a linear address */
    RULE_PAT,        /* eight memory types, UC- allowed */
    RULE_TYPES,      /* eight memory types (fixed-range MTRR) */
    RULE_MTRR_VAR,   /* PHYSBASE (even) or PHYSMASK (odd) */
    RULE_MTRR_DEF,   /* IA32_MTRR_DEF_TYPE */
    RULE_MCG_STATUS, /* RIPV EIPV MCIP */
};

enum {
    MC_BANKS = 10,
    MTRR_VAR_COUNT = 8,
    BUS_MHZ = 100, /* the ratio of PLATFORM_INFO and PERF_STATUS counts these */
    /*
     * IA32_MISC_ENABLE bits that software may change: fast strings, TM, EIST, MONITOR, CPUID limit,
     * xTPR, XD
     */
    MISC_ENABLE_LOW = 1 << 0 | 1 << 3 | 1 << 16 | 1 << 18 | 1 << 22 | 1 << 23,
    /* IA32_ARCH_CAPABILITIES */
    CAP_RDCL_NO = 1 << 0,
    CAP_SKIP_L1DFL_VMENTRY = 1 << 3,
    CAP_SSB_NO = 1 << 4,
    CAP_MDS_NO = 1 << 5,
    CAP_PSCHANGE_MC_NO = 1 << 6,
    CAP_TAA_NO = 1 << 8,
    CAP_SBDR_SSDP_NO = 1 << 13,
    CAP_FBSDP_NO = 1 << 14,
    CAP_PSDP_NO = 1 << 15,
    CAP_BHI_NO = 1 << 20,
    CAP_PBRSB_NO = 1 << 24,
    CAP_GDS_NO = 1 << 26,
    CAP_RFDS_NO = 1 << 27,
};
#define MISC_ENABLE_XD  (1ull << 34)
#define CAP_ITS_NO      (1ull << 62)
#define MICROCODE_LEVEL (1ull << 32) /* revision in bits 63:32 */

static int general_protection(struct x86_cpu *cpu)
{
    return x86_raise_error(cpu, X86_GP, 0);
}

/* --- time --- */

static int read_tsc(struct x86_cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)index;
    *value = op_guest_tsc(cpu);
    return 0;
}

static int deadline(struct x86_cpu *cpu, bool write, uint64_t *value)
{
    if (!cpu->platform.tsc_deadline)
        return -1;
    bt_park_vectors(cpu);
    return cpu->platform.tsc_deadline(cpu->platform.ctx, write, value);
}

/* The board's deadline is in units of its own counter; 0 means disarmed in both. */
static int read_deadline(struct x86_cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)index;
    if (deadline(cpu, false, value) < 0)
        return general_protection(cpu);
    if (*value)
        *value += cpu->tsc_offset;
    return 0;
}

static int write_deadline(struct x86_cpu *cpu, uint32_t index, uint64_t value)
{
    (void)index;
    if (value) {
        value -= cpu->tsc_offset;
        if (!value)
            value = 1; /* long past either way */
    }
    return deadline(cpu, true, &value) < 0 ? general_protection(cpu) : 0;
}

/* Moves the guest's counter; an armed deadline stays at the same value of that counter. */
static void shift_tsc(struct x86_cpu *cpu, uint64_t delta)
{
    uint64_t armed = 0;

    if (!delta)
        return;
    if (cpuid_has(&cpu->cpuid, FEAT_TSC_DEADLINE) && deadline(cpu, false, &armed) == 0 && armed) {
        armed -= delta;
        deadline(cpu, true, &armed);
    }
    cpu->tsc_offset += delta;
    cpu->tsc_adjust += delta;
}

static int write_tsc(struct x86_cpu *cpu, uint32_t index, uint64_t value)
{
    (void)index;
    shift_tsc(cpu, value - op_guest_tsc(cpu));
    return 0;
}

static int read_tsc_adjust(struct x86_cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)index;
    *value = cpu->tsc_adjust;
    return 0;
}

static int write_tsc_adjust(struct x86_cpu *cpu, uint32_t index, uint64_t value)
{
    (void)index;
    shift_tsc(cpu, value - cpu->tsc_adjust);
    return 0;
}

static uint64_t bus_ratio(const struct x86_cpu *cpu)
{
    uint64_t ratio = cpu->cpuid.tsc_hz / (BUS_MHZ * 1000000u);

    return ratio ? ratio & 0xff : 1;
}

static int read_platform_info(struct x86_cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)index;
    *value = bus_ratio(cpu) << 8 | bus_ratio(cpu) << 40; /* highest and lowest ratio */
    return 0;
}

static int read_perf_status(struct x86_cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)index;
    *value = bus_ratio(cpu) << 8;
    return 0;
}

static int write_ignored(struct x86_cpu *cpu, uint32_t index, uint64_t value)
{
    (void)cpu;
    (void)index;
    (void)value;
    return 0;
}

/* --- processor control --- */

static int read_apic_base(struct x86_cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)index;
    if (!cpu->platform.apic_base_read)
        return general_protection(cpu);
    bt_park_vectors(cpu);
    *value = cpu->platform.apic_base_read(cpu->platform.ctx);
    return 0;
}

static int write_apic_base(struct x86_cpu *cpu, uint32_t index, uint64_t value)
{
    (void)index;
    if (!cpu->platform.apic_base_write || value >> cpu->cpuid.phys_bits)
        return general_protection(cpu);
    bt_park_vectors(cpu);
    return cpu->platform.apic_base_write(cpu->platform.ctx, value) < 0 ? general_protection(cpu)
                                                                       : 0;
}

static int read_efer(struct x86_cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)index;
    if (!cpuid_has(&cpu->cpuid, FEAT_NX) && !cpuid_has(&cpu->cpuid, FEAT_SYSCALL))
        return general_protection(cpu);
    *value = cpu->efer;
    return 0;
}

static int write_efer(struct x86_cpu *cpu, uint32_t index, uint64_t value)
{
    (void)index;
    if (!cpuid_has(&cpu->cpuid, FEAT_NX) && !cpuid_has(&cpu->cpuid, FEAT_SYSCALL))
        return general_protection(cpu);
    return control_write_efer(cpu, value);
}

static int read_misc_enable(struct x86_cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)index;
    *value = cpu->misc_enable;
    return 0;
}

/* The bits of what is not there stay as they are, as on processors without it. */
static int write_misc_enable(struct x86_cpu *cpu, uint32_t index, uint64_t value)
{
    uint64_t writable = MISC_ENABLE_LOW;

    (void)index;
    if (cpuid_has(&cpu->cpuid, FEAT_NX))
        writable |= MISC_ENABLE_XD;
    cpu->misc_enable = (cpu->misc_enable & ~writable) | (value & writable);
    return 0;
}

static int read_segment_base(struct x86_cpu *cpu, uint32_t index, uint64_t *value)
{
    *value = cpu->seg[index & 1 ? X86_GS : X86_FS].base;
    return 0;
}

static int write_segment_base(struct x86_cpu *cpu, uint32_t index, uint64_t value)
{
    if (!mmu_canonical(value))
        return general_protection(cpu);
    cpu->seg[index & 1 ? X86_GS : X86_FS].base = value;
    return 0;
}

static int read_tsc_aux(struct x86_cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)index;
    if (!cpuid_has(&cpu->cpuid, FEAT_RDTSCP) && !cpuid_has(&cpu->cpuid, FEAT_RDPID))
        return general_protection(cpu);
    *value = cpu->tsc_aux;
    return 0;
}

static int write_tsc_aux(struct x86_cpu *cpu, uint32_t index, uint64_t value)
{
    uint64_t unused;

    if (value >> 32)
        return general_protection(cpu);
    if (read_tsc_aux(cpu, index, &unused) < 0)
        return -1;
    cpu->tsc_aux = value;
    return 0;
}

static int read_thread_count(struct x86_cpu *cpu, uint32_t index, uint64_t *value)
{
    uint64_t count = cpu->cpuid.cpu_count ? cpu->cpuid.cpu_count & 0xffff : 1;

    (void)index;
    *value = count << 16 | count;
    return 0;
}

static int read_arch_capabilities(struct x86_cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)cpu;
    (void)index;
    *value = CAP_RDCL_NO | CAP_SKIP_L1DFL_VMENTRY | CAP_SSB_NO | CAP_MDS_NO | CAP_PSCHANGE_MC_NO |
             CAP_TAA_NO | CAP_SBDR_SSDP_NO | CAP_FBSDP_NO | CAP_PSDP_NO | CAP_BHI_NO |
             CAP_PBRSB_NO | CAP_GDS_NO | CAP_RFDS_NO | CAP_ITS_NO;
    return 0;
}

/* --- machine check --- */

/* CTL, STATUS, ADDR or MISC of a bank; NULL: STATUS, which is 0 as no error is ever logged. */
static uint64_t *mc_register(struct x86_cpu *cpu, uint32_t index)
{
    uint32_t offset = index - 0x400;
    uint64_t *const registers[4] = {cpu->mc_ctl, NULL, cpu->mc_addr, cpu->mc_misc};
    uint64_t *array = registers[offset % 4];

    return array ? &array[offset / 4] : NULL;
}

static int read_mc_bank(struct x86_cpu *cpu, uint32_t index, uint64_t *value)
{
    const uint64_t *reg = mc_register(cpu, index);

    *value = reg ? *reg : 0;
    return 0;
}

/*
 * STATUS can only be cleared, and CTL takes all errors or none (SDM vol. 3, 16.3.2, P6 family).
 * ADDR and MISC keep what is written, as AMD's do: software that replays an error needs it.
 */
static int write_mc_bank(struct x86_cpu *cpu, uint32_t index, uint64_t value)
{
    uint64_t *reg = mc_register(cpu, index);
    bool control = index % 4 == 0;

    if ((!reg && value) || (control && value && value != UINT64_MAX))
        return general_protection(cpu);
    if (reg)
        *reg = value;
    return 0;
}

/* --- plain fields --- */

static bool memory_type_valid(uint64_t type, bool pat)
{
    return type == 0 || type == 1 || type == 4 || type == 5 || type == 6 || (pat && type == 7);
}

static bool eight_types_valid(uint64_t value, bool pat)
{
    for (unsigned i = 0; i < 8; i++) {
        if (!memory_type_valid(value >> (8 * i) & 0xff, pat))
            return false;
    }
    return true;
}

static bool mtrr_var_valid(const struct x86_cpu *cpu, uint32_t index, uint64_t value)
{
    if (value >> cpu->cpuid.phys_bits)
        return false;
    if (index & 1) /* PHYSMASK: bit 11 valid, 10:0 reserved */
        return !(value & 0x7ff);
    return !(value & 0xf00) && memory_type_valid(value & 0xff, false);
}

static bool rule_allows(const struct x86_cpu *cpu, enum msr_rule rule, uint32_t index,
                        uint64_t value)
{
    switch (rule) {
    case RULE_ANY:
        return true;
    case RULE_32:
        return !(value >> 32);
    case RULE_CANONICAL:
        return mmu_canonical(value);
    case RULE_PAT:
        return eight_types_valid(value, true);
    case RULE_TYPES:
        return eight_types_valid(value, false);
    case RULE_MTRR_VAR:
        return mtrr_var_valid(cpu, index, value);
    case RULE_MTRR_DEF:
        return !(value & ~0xcffull) && memory_type_valid(value & 0xff, false);
    case RULE_MCG_STATUS:
        return !(value & ~7ull);
    }
    return false;
}

#define ROW(first_, count_, feature_, kind_)                                                       \
    .first = (first_), .count = (count_), .feature = FEAT_##feature_, .kind = MSR_##kind_
#define CONSTANT(first, count, feature, value_)                                                    \
    {                                                                                              \
        ROW(first, count, feature, CONSTANT), .value = (value_)                                    \
    }
#define READ_ONLY(first, count, feature, value_)                                                   \
    {                                                                                              \
        ROW(first, count, feature, READ_ONLY), .value = (value_)                                   \
    }
#define FIELD(first, count, feature, rule_, name)                                                  \
    {                                                                                              \
        ROW(first, count, feature, FIELD), .rule = RULE_##rule_,                                   \
                                           .field = offsetof(struct x86_cpu, name)                 \
    }
#define FUNCTION(first, count, feature, read_, write_)                                             \
    {                                                                                              \
        ROW(first, count, feature, FUNCTION), .read = (read_), .write = (write_)                   \
    }

static const struct msr_row rows[] = {
    CONSTANT(0x0, 2, MCE, 0), /* P5_MC_ADDR, P5_MC_TYPE */
    FUNCTION(0x10, 1, TSC, read_tsc, write_tsc),
    READ_ONLY(0x17, 1, CMOV, 0), /* PLATFORM_ID */
    FUNCTION(0x1b, 1, APIC, read_apic_base, write_apic_base),
    CONSTANT(0x2a, 1, CMOV, 0), /* EBL_CR_POWERON */
    READ_ONLY(0x34, 1, LM, 0),  /* SMI_COUNT */
    FUNCTION(0x35, 1, LM, read_thread_count, NULL),
    READ_ONLY(0x3a, 1, LM, 1), /* FEATURE_CONTROL: locked with nothing enabled */
    FUNCTION(0x3b, 1, TSC_ADJUST, read_tsc_adjust, write_tsc_adjust),
    CONSTANT(0x79, 1, CMOV, 0), /* BIOS_UPDT_TRIG: an update is accepted and changes nothing */
    CONSTANT(0x8b, 1, CMOV, MICROCODE_LEVEL),
    CONSTANT(0xc1, 2, CMOV, 0), /* PERFCTR0, 1: there, but they do not count */
    READ_ONLY(0xcd, 1, LM, 5),  /* FSB_FREQ: 101B, 100 MHz */
    FUNCTION(0xce, 1, LM, read_platform_info, write_ignored),
    CONSTANT(0xe2, 1, LM, 1 << 15), /* PKG_CST_CONFIG_CONTROL: locked */
    /* MTRRCAP: write combining, fixed ranges */
    READ_ONLY(0xfe, 1, MTRR, 1 << 10 | 1 << 8 | MTRR_VAR_COUNT),
    FUNCTION(0x10a, 1, ARCH_CAPABILITIES, read_arch_capabilities, NULL),
    CONSTANT(0x119, 1, CMOV, 0), /* BBL_CR_CTL */
    /* BBL_CR_CTL3: a 256 KiB L2 cache, configured and enabled (read by systems of the P6 time) */
    CONSTANT(0x11e, 1, CMOV, 1 << 13 | 1 << 8 | 1),
    FIELD(0x174, 1, SEP, ANY, sysenter_cs),
    FIELD(0x175, 1, SEP, CANONICAL, sysenter_esp),
    FIELD(0x176, 1, SEP, CANONICAL, sysenter_eip),
    READ_ONLY(0x179, 1, MCA, MC_BANKS),
    FIELD(0x17a, 1, MCA, MCG_STATUS, mcg_status),
    CONSTANT(0x186, 2, CMOV, 0), /* PERFEVTSEL0, 1 */
    FUNCTION(0x198, 1, LM, read_perf_status, NULL),
    CONSTANT(0x199, 4, LM, 0), /* PERF_CTL, CLOCK_MODULATION, THERM_INTERRUPT, THERM_STATUS */
    FUNCTION(0x1a0, 1, CMOV, read_misc_enable, write_misc_enable),
    CONSTANT(0x1a2, 1, LM, 100 << 16), /* TEMPERATURE_TARGET: 100 degrees */
    CONSTANT(0x1d9, 1, CMOV, 0),       /* DEBUGCTL */
    CONSTANT(0x1db, 4, CMOV, 0),       /* LASTBRANCHFROMIP ... LASTINTTOIP: nothing is recorded */
    CONSTANT(0x1fc, 1, LM, 0),         /* POWER_CTL */
    FIELD(0x200, 2 * MTRR_VAR_COUNT, MTRR, MTRR_VAR, mtrr_var),
    FIELD(0x250, 1, MTRR, TYPES, mtrr_fix),    /* 64 KiB each */
    FIELD(0x258, 2, MTRR, TYPES, mtrr_fix[1]), /* 16 KiB */
    FIELD(0x268, 8, MTRR, TYPES, mtrr_fix[3]), /* 4 KiB */
    FIELD(0x277, 1, PAT, PAT, pat),
    FIELD(0x2ff, 1, MTRR, MTRR_DEF, mtrr_def_type),
    FUNCTION(0x400, 4 * MC_BANKS, MCA, read_mc_bank, write_mc_bank),
    FUNCTION(0x6e0, 1, TSC_DEADLINE, read_deadline, write_deadline),

    FUNCTION(0xc0000080, 1, BASE, read_efer, write_efer),
    FIELD(0xc0000081, 1, SYSCALL, ANY, star),
    FIELD(0xc0000082, 2, LM, CANONICAL, lstar), /* and CSTAR */
    FIELD(0xc0000084, 1, SYSCALL, 32, fmask),
    FUNCTION(0xc0000100, 2, LM, read_segment_base, write_segment_base),
    FIELD(0xc0000102, 1, LM, CANONICAL, kernel_gs_base),
    FUNCTION(0xc0000103, 1, BASE, read_tsc_aux, write_tsc_aux),
};

_Static_assert(offsetof(struct x86_cpu, cstar) == offsetof(struct x86_cpu, lstar) + 8,
               "LSTAR and CSTAR are one row");
_Static_assert(MC_BANKS <= sizeof(((struct x86_cpu *)0)->mc_ctl) / 8, "a control per bank");

static const struct msr_row *find_row(const struct x86_cpu *cpu, uint32_t index)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct msr_row *row = &rows[i];

        if (index - row->first < row->count)
            return cpuid_has(&cpu->cpuid, (enum x86_feature)row->feature) ? row : NULL;
    }
    return NULL;
}

static uint64_t *row_field(struct x86_cpu *cpu, const struct msr_row *row, uint32_t index)
{
    return (uint64_t *)(void *)((uint8_t *)cpu + row->field) + (index - row->first);
}

int msr_read(struct x86_cpu *cpu, uint32_t index, uint64_t *value)
{
    const struct msr_row *row = find_row(cpu, index);

    if (!row)
        return general_protection(cpu);
    switch (row->kind) {
    case MSR_FIELD:
        *value = *row_field(cpu, row, index);
        return 0;
    case MSR_FUNCTION:
        return row->read ? row->read(cpu, index, value) : general_protection(cpu);
    default:
        *value = row->value;
        return 0;
    }
}

int msr_write(struct x86_cpu *cpu, uint32_t index, uint64_t value)
{
    const struct msr_row *row = find_row(cpu, index);

    if (!row)
        return general_protection(cpu);
    switch (row->kind) {
    case MSR_FIELD:
        if (!rule_allows(cpu, (enum msr_rule)row->rule, index, value))
            return general_protection(cpu);
        *row_field(cpu, row, index) = value;
        return 0;
    case MSR_FUNCTION:
        return row->write ? row->write(cpu, index, value) : general_protection(cpu);
    case MSR_CONSTANT:
        return 0;
    default:
        return general_protection(cpu);
    }
}
