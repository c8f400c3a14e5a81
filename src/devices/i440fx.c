#include "devices/i440fx.h"

#include <string.h>

enum {
    PMC_NBXCFG = 0x50, /* PMC configuration, PMCCFG */
    PMC_DETURBO = 0x52,
    PMC_DBC = 0x53,
    PMC_AXC = 0x54,
    PMC_DRT = 0x55,
    PMC_DRAMC = 0x57,
    PMC_DRAMT = 0x58,
    PMC_PAM0 = 0x59,
    PMC_PAM6 = 0x5f,
    PMC_DRB0 = 0x60,
    PMC_FDHC = 0x68,
    PMC_MTT = 0x70,
    PMC_CLT = 0x71,
    PMC_SMRAM = 0x72,
    PMC_ERRCMD = 0x90,
    PMC_ERRSTS = 0x91,
};
enum { SMRAM_LOCK = 1 << 4, SMRAM_CLOSED = 1 << 5, SMRAM_OPEN = 1 << 6, SMRAM_ENABLE = 1 << 3 };
enum { PAM_READ = 1 << 0, PAM_WRITE = 1 << 1 };

static void apply_segment(struct i440fx *bridge, uint32_t gpa, uint32_t size, unsigned attributes)
{
    as_set_pam(bridge->as, gpa, size, attributes & PAM_READ, attributes & PAM_WRITE);
}

/* Data sheet 3.2.18: PAM0[7:4] is F0000h, then two 16 KiB segments a register from C0000h up. */
static void apply_pam(struct i440fx *bridge, unsigned reg)
{
    unsigned value = bridge->pci.config[reg];
    if (reg == PMC_PAM0) {
        apply_segment(bridge, 0xf0000, 0x10000, value >> 4);
        return;
    }
    uint32_t gpa = 0xc0000 + (reg - PMC_PAM0 - 1) * 0x8000u;
    apply_segment(bridge, gpa, 0x4000, value & 15);
    apply_segment(bridge, gpa + 0x4000, 0x4000, value >> 4);
}

/* D_LCK set: D_OPEN is cleared and every bit but C_BASE_SEG becomes read-only until reset. */
static void smram_written(struct pci_device *pci)
{
    if (!(pci->config[PMC_SMRAM] & SMRAM_LOCK))
        return;
    pci->config[PMC_SMRAM] = (uint8_t)(pci->config[PMC_SMRAM] & ~SMRAM_OPEN);
    pci->writable[PMC_SMRAM] = 0;
}

static void config_written(void *ctx, unsigned offset, unsigned size)
{
    struct i440fx *bridge = ctx;
    for (unsigned reg = offset; reg < offset + size; reg++) {
        if (reg >= PMC_PAM0 && reg <= PMC_PAM6)
            apply_pam(bridge, reg);
        else if (reg == PMC_SMRAM)
            smram_written(&bridge->pci);
    }
}

static void set_masks(struct pci_device *pci)
{
    /* The bridge always masters and decodes memory: only parity and SERR# enable are writable. */
    pci->writable[PCI_COMMAND] = PCI_COMMAND_PARITY;
    pci->writable[PCI_COMMAND + 1] = PCI_COMMAND_SERR >> 8;
    pci->writable[PCI_INTERRUPT_LINE] = 0;
    pci->writable[0x0c] = 0;
    pci->writable[PMC_NBXCFG] = 0xfa;
    pci->writable[PMC_NBXCFG + 1] = 0x7f;
    pci->writable[PMC_DETURBO] = 0xff;
    pci->writable[PMC_DBC] = 0xff;
    pci->writable[PMC_AXC] = 0x80;
    pci->writable[PMC_DRT] = 0xff;
    pci->writable[PMC_DRT + 1] = 0xff;
    pci->writable[PMC_DRAMC] = 0xf7;
    pci->writable[PMC_DRAMT] = 0xff;
    pci->writable[PMC_PAM0] = 0xf0;
    memset(&pci->writable[PMC_PAM0 + 1], 0xff, PMC_PAM6 - PMC_PAM0);
    memset(&pci->writable[PMC_DRB0], 0xff, 8);
    pci->writable[PMC_FDHC] = 0xc0;
    pci->writable[PMC_MTT] = 0xf8;
    pci->writable[PMC_CLT] = 0xff;
    pci->writable[PMC_SMRAM] = SMRAM_OPEN | SMRAM_CLOSED | SMRAM_LOCK | SMRAM_ENABLE;
    pci->writable[PMC_ERRCMD] = 0x9f;
    pci->clear_on_write[PMC_ERRSTS] = 0x11;
}

/* Row boundaries count 8 MiB units, so the eight rows cover 2040 MiB at most. */
static void set_row_boundaries(struct i440fx *bridge)
{
    uint64_t units = as_ram_size(bridge->as) >> 23;
    for (unsigned row = 0; row < 8; row++) {
        uint64_t end = (uint64_t)(row + 1) * 32;
        uint64_t boundary = units < end ? units : end;
        bridge->pci.config[PMC_DRB0 + row] = (uint8_t)(boundary > 0xff ? 0xff : boundary);
    }
}

static void reset(void *ctx)
{
    struct i440fx *bridge = ctx;
    set_masks(&bridge->pci);
    for (unsigned reg = PMC_PAM0; reg <= PMC_PAM6; reg++)
        apply_pam(bridge, reg);
}

int i440fx_init(struct i440fx *bridge, struct pci_bus *bus, struct vd_error *err)
{
    static const struct pci_device_ops ops = {.config_written = config_written, .reset = reset};
    static const struct pci_identity identity = {
        .vendor = 0x8086,
        .device = 0x1237,
        .revision = 2,
        .class_code = 0x060000,
        /* How SeaBIOS recognises a machine that has fw_cfg. */
        .subsystem_vendor = 0x1af4,
        .subsystem = 0x1100,
    };
    memset(bridge, 0, sizeof(*bridge));
    bridge->as = bus->config.as;
    struct pci_device *pci = &bridge->pci;
    pci_device_init(pci, "i440fx", &identity, &ops, bridge);
    set_masks(pci);
    pci_config_set16(pci, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    pci_config_set16(pci, PCI_STATUS, 0x0280); /* fast back-to-back, medium DEVSEL# */
    pci->config[PMC_DRAMC] = 0x01;
    pci->config[PMC_DRAMT] = 0x10;
    pci->config[PMC_MTT] = 0x20;
    pci->config[PMC_CLT] = 0x10;
    pci->config[PMC_SMRAM] = 0x02; /* C_BASE_SEG: A0000h-BFFFFh */
    set_row_boundaries(bridge);
    if (pci_device_add(bus, pci, 0, 0, err) < 0)
        return -1;
    reset(bridge);
    return 0;
}
