#include "devices/piix4_pm.h"

#include <string.h>

#include "base/log.h"

/* Configuration space (data sheet 7.1). */
enum {
    CFG_PMBASE = 0x40,
    CFG_CNTA = 0x44,
    CFG_DEVACTB = 0x58,
    CFG_DEVRESA = 0x5c,
    CFG_PMREGMISC = 0x80,
    CFG_SMBBA = 0x90,
    CFG_SMBHSTCFG = 0xd2,
};
/* I/O space at PMBASE (data sheet 7.2). */
enum {
    PM_STS = 0x00,
    PM_EN = 0x02,
    PM_CNTRL = 0x04,
    PM_TMR = 0x08,
    PM_GPSTS = 0x0c,
    PM_GPEN = 0x0e,
    PM_PCNTRL = 0x10,
    PM_GLBSTS = 0x18,
    PM_DEVSTS = 0x1c,
    PM_GLBEN = 0x20,
    PM_GLBCTL = 0x28,
    PM_DEVCTL = 0x2c,
    PM_GPIREG = 0x30,
    PM_GPOREG = 0x34,
    PM_SIZE = 0x40,
};
enum {
    STS_TIMER = 1 << 0,
    STS_BUS_MASTER = 1 << 4,
    STS_GLOBAL = 1 << 5,
    STS_POWER_BUTTON = 1 << 8,
    STS_RTC = 1 << 10,
    STS_RESUME = 1 << 15,
    STS_ALL = STS_TIMER | STS_BUS_MASTER | STS_GLOBAL | STS_POWER_BUTTON | STS_RTC | STS_RESUME,
    EN_ALL = STS_TIMER | STS_GLOBAL | STS_POWER_BUTTON | STS_RTC,
};
enum {
    CNTRL_SCI_EN = 1 << 0,
    CNTRL_BRLD_EN_BM = 1 << 1,
    CNTRL_GBL_RLS = 1 << 2,
    CNTRL_SUS_TYP_SHIFT = 10,
    CNTRL_SUS_TYP = 7 << CNTRL_SUS_TYP_SHIFT,
    CNTRL_SUS_EN = 1 << 13,
};
enum {
    GPE_ALL_STATUS = 0x0f03, /* THRM, USB, RI, LID, GPI, BATLOW */
    GPE_ALL_ENABLE = 0x0f03,
    GLB_STATUS = 0x0df7,
    TIMER_MASK = 0xffffff,
    TIMER_HALF = 0x800000,
};
/* SMBus host at SMBBA (data sheet 7.3). */
enum {
    SMB_HSTSTS = 0x0,
    SMB_SLVSTS = 0x1,
    SMB_HSTCNT = 0x2,
    SMB_SHDWCMD = 0x9,
    SMB_SLVDAT = 0xc,
    SMB_SIZE = 0x10,
    HSTSTS_DEV_ERR = 1 << 2,
    HSTSTS_FAILED = 1 << 4,
    HSTCNT_KILL = 1 << 1,
    HSTCNT_START = 1 << 6,
};

/* --- SCI and PM timer --- */

static uint64_t timer_ticks(const struct piix4_pm *pm)
{
    return clock_muldiv(vclock_now(pm->config.timers->clock), PIIX4_PM_TIMER_HZ, 1000000000);
}

uint32_t piix4_pm_timer_value(const struct piix4_pm *pm)
{
    return (uint32_t)timer_ticks(pm) & TIMER_MASK;
}

/* TMROF_STS is set whenever bit 23 changes; found out when somebody looks or the timer fires. */
static void latch_overflow(struct piix4_pm *pm)
{
    uint64_t ticks = timer_ticks(pm);
    if (ticks < pm->overflow_at)
        return;
    pm->pm1_status |= STS_TIMER;
    pm->overflow_at = (ticks | (TIMER_HALF - 1)) + 1;
}

static void update_sci(struct piix4_pm *pm)
{
    latch_overflow(pm);
    bool event = (pm->pm1_status & pm->pm1_enable & EN_ALL) || (pm->gpe_status & pm->gpe_enable);
    irq_line_set(&pm->config.sci, (pm->pm1_control & CNTRL_SCI_EN) && event);

    /* A host timer only while its result can be seen without a read. */
    if ((pm->pm1_enable & STS_TIMER) && !(pm->pm1_status & STS_TIMER)) {
        uint64_t ns = clock_muldiv(pm->overflow_at, 1000000000, PIIX4_PM_TIMER_HZ) + 1;
        timer_set(&pm->overflow, ns);
    } else {
        timer_cancel(&pm->overflow);
    }
}

static void overflow_expired(void *ctx, uint64_t now_ns)
{
    (void)now_ns;
    update_sci(ctx);
}

void piix4_pm_power_button(struct piix4_pm *pm)
{
    pm->pm1_status |= STS_POWER_BUTTON;
    update_sci(pm);
}

static void write_control(struct piix4_pm *pm, uint16_t value)
{
    pm->pm1_control = value & (CNTRL_SCI_EN | CNTRL_BRLD_EN_BM | CNTRL_SUS_TYP);
    if (value & CNTRL_GBL_RLS)
        pm->global_status |= 1 << 0; /* BIOS_STS: the OS released the global lock */
    if (value & CNTRL_SUS_EN) {
        unsigned type = (unsigned)value >> CNTRL_SUS_TYP_SHIFT & 7;
        if (type != PIIX4_SUS_TYP_SOFT_OFF)
            log_info("piix4: suspend type %u is not supported, ignored", type);
        else if (pm->config.power_off)
            pm->config.power_off(pm->config.ctx);
    }
    update_sci(pm);
}

/* --- power management I/O --- */

static uint16_t read_register(struct piix4_pm *pm, unsigned offset)
{
    switch (offset) {
    case PM_STS:
        latch_overflow(pm);
        return pm->pm1_status;
    case PM_EN:
        return pm->pm1_enable;
    case PM_CNTRL:
        return pm->pm1_control;
    case PM_GPSTS:
        return pm->gpe_status;
    case PM_GPEN:
        return pm->gpe_enable;
    case PM_PCNTRL:
        return (uint16_t)pm->processor_control;
    case PM_PCNTRL + 2:
        return (uint16_t)(pm->processor_control >> 16);
    case PM_GLBSTS:
        return pm->global_status;
    case PM_DEVSTS:
        return (uint16_t)pm->device_status;
    case PM_DEVSTS + 2:
        return (uint16_t)(pm->device_status >> 16);
    case PM_GLBEN:
        return pm->global_enable;
    case PM_GLBCTL:
        return (uint16_t)pm->global_control;
    case PM_GLBCTL + 2:
        return (uint16_t)(pm->global_control >> 16);
    case PM_DEVCTL:
        return (uint16_t)pm->device_control;
    case PM_DEVCTL + 2:
        return (uint16_t)(pm->device_control >> 16);
    case PM_GPIREG:
    case PM_GPIREG + 2:
        return 0xffff; /* inputs pulled up */
    case PM_GPOREG:
        return (uint16_t)pm->gpo;
    case PM_GPOREG + 2:
        return (uint16_t)(pm->gpo >> 16);
    default:
        return 0;
    }
}

static void set_half(uint32_t *reg, unsigned half, uint16_t value)
{
    unsigned shift = half ? 16 : 0;
    *reg = (*reg & ~(0xffffu << shift)) | (uint32_t)value << shift;
}

static void write_register(struct piix4_pm *pm, unsigned offset, uint16_t value)
{
    switch (offset) {
    case PM_STS:
        latch_overflow(pm);
        pm->pm1_status = (uint16_t)(pm->pm1_status & ~(value & STS_ALL));
        break;
    case PM_EN:
        pm->pm1_enable = value & EN_ALL;
        break;
    case PM_CNTRL:
        write_control(pm, value);
        return;
    case PM_GPSTS:
        pm->gpe_status = (uint16_t)(pm->gpe_status & ~(value & GPE_ALL_STATUS));
        break;
    case PM_GPEN:
        pm->gpe_enable = value & GPE_ALL_ENABLE;
        break;
    case PM_PCNTRL:
    case PM_PCNTRL + 2:
        set_half(&pm->processor_control, offset & 2, value);
        break;
    case PM_GLBSTS:
        pm->global_status = (uint16_t)(pm->global_status & ~(value & GLB_STATUS));
        break;
    case PM_DEVSTS:
    case PM_DEVSTS + 2:
        pm->device_status &= ~((uint32_t)value << (offset & 2 ? 16 : 0));
        break;
    case PM_GLBEN:
        pm->global_enable = value;
        break;
    case PM_GLBCTL:
    case PM_GLBCTL + 2:
        set_half(&pm->global_control, offset & 2, value);
        if (offset == PM_GLBCTL && (value & 1 << 1)) { /* BIOS_RLS raises GBL_STS for the OS */
            pm->global_control &= ~(1u << 1);
            pm->pm1_status |= STS_GLOBAL;
        }
        break;
    case PM_DEVCTL:
    case PM_DEVCTL + 2:
        set_half(&pm->device_control, offset & 2, value);
        break;
    case PM_GPOREG:
    case PM_GPOREG + 2:
        set_half(&pm->gpo, offset & 2, value);
        break;
    default:
        return;
    }
    update_sci(pm);
}

static uint32_t read_dword(struct piix4_pm *pm, unsigned offset)
{
    if (offset == PM_TMR) /* one sample for all four bytes */
        return piix4_pm_timer_value(pm);
    return (uint32_t)read_register(pm, offset) | (uint32_t)read_register(pm, offset + 2) << 16;
}

static uint64_t pm_read(void *ctx, uint64_t offset, unsigned size)
{
    struct piix4_pm *pm = ctx;
    unsigned base = (unsigned)offset & ~3u, byte = (unsigned)offset & 3;
    uint64_t value = read_dword(pm, base);
    if (byte + size > 4)
        value |= (uint64_t)read_dword(pm, base + 4) << 32;
    return (uint32_t)(value >> (8 * byte)) & (UINT32_MAX >> (32 - 8 * size));
}

/* Bits that writing 1 clears must not be written back when only the other byte is meant. */
static bool clears_on_write(unsigned offset)
{
    return offset == PM_STS || offset == PM_GPSTS || offset == PM_GLBSTS ||
           (offset & ~2u) == PM_DEVSTS;
}

static void pm_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct piix4_pm *pm = ctx;
    if (size == 4) {
        pm_write(ctx, offset, value & 0xffff, 2);
        pm_write(ctx, (offset + 2) % PM_SIZE, value >> 16 & 0xffff, 2);
    } else if (size == 2 && !(offset & 1)) {
        write_register(pm, (unsigned)offset, (uint16_t)value);
    } else if (size == 1) {
        unsigned reg = (unsigned)offset & ~1u, shift = 8 * ((unsigned)offset & 1);
        unsigned old = clears_on_write(reg) ? 0 : read_register(pm, reg);
        unsigned merged = (old & ~(0xffu << shift)) | ((unsigned)value & 0xff) << shift;
        write_register(pm, reg, (uint16_t)merged);
    } else { /* a word at an odd address */
        pm_write(ctx, offset, value & 0xff, 1);
        pm_write(ctx, (offset + 1) % PM_SIZE, value >> 8 & 0xff, 1);
    }
}

static const struct io_ops pm_ops = {
    .read = pm_read, .write = pm_write, .min_size = 1, .max_size = 4};

/* --- SMBus host --- */

static uint64_t smb_read(void *ctx, uint64_t offset, unsigned size)
{
    struct piix4_pm *pm = ctx;
    (void)size;
    return pm->smb[offset];
}

static void smb_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct piix4_pm *pm = ctx;
    uint8_t byte = (uint8_t)value;
    (void)size;
    switch (offset) {
    case SMB_HSTSTS:
        pm->smb[SMB_HSTSTS] &= (uint8_t) ~(byte & 0x1e);
        break;
    case SMB_SLVSTS:
        pm->smb[SMB_SLVSTS] &= (uint8_t) ~(byte & 0x3c);
        break;
    case SMB_HSTCNT:
        pm->smb[SMB_HSTCNT] = byte & 0x1d;
        if (byte & HSTCNT_KILL)
            pm->smb[SMB_HSTSTS] |= HSTSTS_FAILED;
        else if (byte & HSTCNT_START)
            pm->smb[SMB_HSTSTS] |= HSTSTS_DEV_ERR; /* no slave acknowledges */
        break;
    case SMB_SHDWCMD:
    case SMB_SLVDAT:
    case SMB_SLVDAT + 1:
    case 0xe:
    case 0xf:
        break; /* read-only or reserved */
    default:
        pm->smb[offset] = byte;
    }
}

static const struct io_ops smb_ops = {
    .read = smb_read, .write = smb_write, .min_size = 1, .max_size = 1};

/* --- APM ports --- */

static uint64_t apm_read(void *ctx, uint64_t offset, unsigned size)
{
    struct piix4_pm *pm = ctx;
    (void)size;
    return offset ? pm->apm_status : pm->apm_command;
}

static void apm_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct piix4_pm *pm = ctx;
    (void)size;
    if (offset) {
        pm->apm_status = (uint8_t)value;
        return;
    }
    pm->apm_command = (uint8_t)value;
    if (pm->apm_command == PIIX4_ACPI_ENABLE)
        pm->pm1_control |= CNTRL_SCI_EN;
    else if (pm->apm_command == PIIX4_ACPI_DISABLE)
        pm->pm1_control &= (uint16_t)~CNTRL_SCI_EN;
    update_sci(pm);
}

static const struct io_ops apm_ops = {
    .read = apm_read, .write = apm_write, .min_size = 1, .max_size = 1};

/* --- configuration space --- */

static void move_region(struct piix4_pm *pm, struct io_region **region, uint16_t *base,
                        uint16_t wanted, uint32_t size, const struct io_ops *ops, const char *name)
{
    struct address_space *as = pm->pci.bus->config.as;
    if (wanted == *base && (*region || !wanted))
        return;
    if (*region)
        as_unmap(as, *region);
    struct vd_error err;
    *region = wanted ? as_map_pio(as, wanted, size, ops, pm, name, &err) : NULL;
    *base = *region ? wanted : 0;
    if (wanted && !*region)
        log_debug("piix4: %s not decoded at %#x: %s", name, wanted, err.text);
}

static void update_mappings(struct piix4_pm *pm)
{
    const struct pci_device *pci = &pm->pci;
    bool pm_enabled = pci->config[CFG_PMREGMISC] & 1;
    bool smb_enabled = pci->config[CFG_SMBHSTCFG] & 1 && pci->config[PCI_COMMAND] & PCI_COMMAND_IO;
    uint16_t pm_base = pci_config_get16(pci, CFG_PMBASE) & 0xffc0;
    uint16_t smb_base = pci_config_get16(pci, CFG_SMBBA) & 0xfff0;
    move_region(pm, &pm->pm_region, &pm->pm_base, pm_enabled ? pm_base : 0, PM_SIZE, &pm_ops,
                "piix4-pm");
    move_region(pm, &pm->smb_region, &pm->smb_base, smb_enabled ? smb_base : 0, SMB_SIZE, &smb_ops,
                "piix4-smbus");
}

static void config_written(void *ctx, unsigned offset, unsigned size)
{
    (void)offset;
    (void)size;
    update_mappings(ctx);
}

static void reset(void *ctx)
{
    struct piix4_pm *pm = ctx;
    pm->apm_command = pm->apm_status = 0;
    pm->pm1_status = pm->pm1_enable = pm->pm1_control = 0;
    pm->gpe_status = pm->gpe_enable = pm->global_status = pm->global_enable = 0;
    pm->processor_control = pm->device_status = pm->global_control = pm->device_control = 0;
    pm->gpo = 0x7fffbfff; /* data sheet 7.2.19 */
    memset(pm->smb, 0, sizeof(pm->smb));
    pm->overflow_at = (timer_ticks(pm) | (TIMER_HALF - 1)) + 1;
    update_mappings(pm);
    update_sci(pm);
}

static void set_registers(struct pci_device *pci)
{
    pci->writable[PCI_COMMAND] = PCI_COMMAND_IO | PCI_COMMAND_MASTER;
    pci->writable[PCI_COMMAND + 1] = 0;
    pci_config_set16(pci, PCI_STATUS, 0x0280);
    pci_config_set32(pci, CFG_PMBASE, 1); /* hardwired: I/O space */
    pci_config_set32(pci, CFG_SMBBA, 1);
    pci->writable[CFG_PMBASE] = 0xc0;
    pci->writable[CFG_PMBASE + 1] = 0xff;
    pci->writable[CFG_SMBBA] = 0xf0;
    pci->writable[CFG_SMBBA + 1] = 0xff;
    /* Count, GPI and device resource/activity registers: plain storage for the BIOS. */
    memset(&pci->writable[CFG_CNTA], 0xff, CFG_DEVRESA + 0x24 - CFG_CNTA);
    pci->config[CFG_DEVACTB + 3] = 1 << 1; /* APMC_EN, see piix4_pm.h */
    pci->writable[CFG_PMREGMISC] = 1;
    pci->writable[CFG_SMBHSTCFG] = 0x0f;
    memset(&pci->writable[0xd3], 0xff, 3);
}

int piix4_pm_init(struct piix4_pm *pm, struct pci_bus *bus, unsigned slot, unsigned function,
                  const struct piix4_pm_config *config, struct vd_error *err)
{
    static const struct pci_device_ops ops = {.config_written = config_written, .reset = reset};
    static const struct pci_identity identity = {.vendor = 0x8086,
                                                 .device = 0x7113,
                                                 .revision = 3,
                                                 .class_code = 0x068000,
                                                 .interrupt_pin = 1};
    memset(pm, 0, sizeof(*pm));
    pm->config = *config;
    timer_init(&pm->overflow, config->timers, overflow_expired, pm);
    pci_device_init(&pm->pci, "piix4-pm", &identity, &ops, pm);
    set_registers(&pm->pci);
    if (pci_device_add(bus, &pm->pci, slot, function, err) < 0)
        return -1;
    pm->apm_region = as_map_pio(bus->config.as, 0xb2, 2, &apm_ops, pm, "apm", err);
    if (!pm->apm_region)
        return -1;
    reset(pm);
    return 0;
}

void piix4_pm_destroy(struct piix4_pm *pm)
{
    if (!pm->pci.bus)
        return;
    struct address_space *as = pm->pci.bus->config.as;
    struct io_region *regions[] = {pm->pm_region, pm->smb_region, pm->apm_region};
    for (unsigned i = 0; i < 3; i++) {
        if (regions[i])
            as_unmap(as, regions[i]);
    }
    timer_cancel(&pm->overflow);
    memset(pm, 0, sizeof(*pm));
}
