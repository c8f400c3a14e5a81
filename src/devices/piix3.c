#include "devices/piix3.h"

#include <string.h>

enum {
    ISA_IORT = 0x4c,
    ISA_XBCS = 0x4e,
    ISA_PIRQRC = 0x60,
    ISA_TOM = 0x69,
    ISA_MSTAT = 0x6a,
    ISA_MBIRQ0 = 0x70,
    ISA_MBDMA0 = 0x76,
    ISA_PCSC = 0x78,
    ISA_APICBASE = 0x80,
    ISA_DLC = 0x82,
    ISA_SMICNTL = 0xa0,
    ISA_SMIEN = 0xa2,
    ISA_SEE = 0xa4,
    ISA_FTMR = 0xa8,
    ISA_CTLTMR = 0xac,
    ISA_CTHTMR = 0xae,
};
enum { PIRQRC_DISABLED = 0x80, PIRQRC_IRQ = 0x0f };
enum { RCR_HARD = 1 << 1, RCR_RESET = 1 << 2 };

/* IRQs 0, 1, 2, 8 and 13 are reserved in PIRQRC (data sheet 2.2.10). */
static const uint16_t routable_irqs = 0xdef8;

static void update_irqs(struct piix3 *bridge)
{
    uint16_t levels = 0;
    for (unsigned i = 0; i < PCI_PIRQ_COUNT; i++) {
        uint8_t route = bridge->pci.config[ISA_PIRQRC + i];
        if (bridge->pirq[i] && !(route & PIRQRC_DISABLED))
            levels = (uint16_t)(levels | (1u << (route & PIRQRC_IRQ)));
    }
    levels &= routable_irqs;
    uint16_t changed = levels ^ bridge->irq_levels;
    bridge->irq_levels = levels;
    for (unsigned irq = 0; irq < 16; irq++) {
        if ((changed >> irq & 1) && bridge->config.irq.set)
            bridge->config.irq.set(bridge->config.irq.ctx, irq, levels >> irq & 1);
    }
}

void piix3_set_pirq(void *ctx, unsigned pirq, bool level)
{
    struct piix3 *bridge = ctx;
    bridge->pirq[pirq] = level;
    update_irqs(bridge);
}

static uint8_t reset_control_read(void *ctx)
{
    struct piix3 *bridge = ctx;
    return bridge->reset_control;
}

static void reset_control_write(void *ctx, uint8_t value)
{
    struct piix3 *bridge = ctx;
    bool rising = (value & RCR_RESET) && !(bridge->reset_control & RCR_RESET);
    bridge->reset_control = value & (RCR_HARD | RCR_RESET);
    if (rising && bridge->config.reset)
        bridge->config.reset(bridge->config.ctx, value & RCR_HARD);
}

static void config_written(void *ctx, unsigned offset, unsigned size)
{
    struct piix3 *bridge = ctx;
    if (offset < ISA_PIRQRC + PCI_PIRQ_COUNT && offset + size > ISA_PIRQRC)
        update_irqs(bridge);
}

static void reset(void *ctx)
{
    struct piix3 *bridge = ctx;
    bridge->reset_control = 0;
    update_irqs(bridge);
}

static void set_registers(struct pci_device *pci)
{
    /* Memory, I/O and bus master enables read as 1 (data sheet 2.2.3). */
    pci_config_set16(pci, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    pci->writable[PCI_COMMAND] = 0;
    pci->writable[PCI_COMMAND + 1] = PCI_COMMAND_SERR >> 8;
    pci_config_set16(pci, PCI_STATUS, 0x0200); /* medium DEVSEL# */
    pci->writable[0x0c] = 0;
    pci->writable[0x0d] = 0;
    pci->writable[PCI_INTERRUPT_LINE] = 0;

    static const struct {
        uint8_t offset, value, writable;
    } registers[] = {
        {ISA_IORT, 0x4d, 0x7f},       {ISA_XBCS, 0x03, 0xff},       {ISA_XBCS + 1, 0x00, 0x03},
        {ISA_PIRQRC, 0x80, 0x8f},     {ISA_PIRQRC + 1, 0x80, 0x8f}, {ISA_PIRQRC + 2, 0x80, 0x8f},
        {ISA_PIRQRC + 3, 0x80, 0x8f}, {ISA_TOM, 0x02, 0xfa},        {ISA_MSTAT, 0x00, 0x00},
        {ISA_MBIRQ0, 0x80, 0xef},     {ISA_MBIRQ0 + 1, 0x80, 0xef}, {ISA_MBDMA0, 0x0c, 0x8f},
        {ISA_MBDMA0 + 1, 0x0c, 0x8f}, {ISA_PCSC, 0x02, 0xff},       {ISA_PCSC + 1, 0x00, 0xff},
        {ISA_APICBASE, 0x00, 0x7f},   {ISA_DLC, 0x00, 0x0f},        {ISA_SMICNTL, 0x08, 0x1f},
        {ISA_SMIEN, 0x00, 0xff},      {ISA_SMIEN + 1, 0x00, 0x01},  {ISA_SEE, 0x00, 0xff},
        {ISA_SEE + 1, 0x00, 0xff},    {ISA_SEE + 2, 0x00, 0xff},    {ISA_SEE + 3, 0x00, 0xe0},
        {ISA_FTMR, 0x0f, 0xff},       {ISA_CTLTMR, 0x00, 0xff},     {ISA_CTHTMR, 0x00, 0xff},
    };
    for (size_t i = 0; i < sizeof(registers) / sizeof(registers[0]); i++) {
        pci->config[registers[i].offset] = registers[i].value;
        pci->writable[registers[i].offset] = registers[i].writable;
    }
}

int piix3_init(struct piix3 *bridge, struct pci_bus *bus, unsigned slot,
               const struct piix3_config *config, struct vd_error *err)
{
    static const struct pci_device_ops ops = {.config_written = config_written, .reset = reset};
    static const struct pci_identity identity = {
        .vendor = 0x8086, .device = 0x7000, .class_code = 0x060100, .multifunction = true};
    memset(bridge, 0, sizeof(*bridge));
    bridge->config = *config;
    pci_device_init(&bridge->pci, "piix3", &identity, &ops, bridge);
    set_registers(&bridge->pci);
    if (pci_device_add(bus, &bridge->pci, slot, 0, err) < 0)
        return -1;
    struct pci_reset_port port = {
        .ctx = bridge, .read = reset_control_read, .write = reset_control_write};
    pci_bus_set_reset_port(bus, &port);
    return 0;
}
