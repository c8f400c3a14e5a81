#include "devices/pci.h"

#include <assert.h>
#include <string.h>

#include "base/log.h"

enum { CONFIG_ENABLE_SHIFT = 31 };

void pci_config_set16(struct pci_device *dev, unsigned offset, uint16_t value)
{
    dev->config[offset] = (uint8_t)value;
    dev->config[offset + 1] = (uint8_t)(value >> 8);
}

void pci_config_set32(struct pci_device *dev, unsigned offset, uint32_t value)
{
    pci_config_set16(dev, offset, (uint16_t)value);
    pci_config_set16(dev, offset + 2, (uint16_t)(value >> 16));
}

static uint32_t get32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

static void put32(uint8_t *bytes, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
}

/* --- base address registers --- */

static unsigned bar_offset(unsigned index)
{
    return index == PCI_ROM_BAR ? PCI_ROM_ADDRESS : PCI_BAR0 + 4 * index;
}

static bool window_holds(const struct pci_window *window, uint64_t base, uint64_t size)
{
    return base >= window->start && base < window->end && size <= window->end - base;
}

/* Where the guest wants the BAR to answer; 0: nowhere. */
static uint64_t bar_wanted_base(const struct pci_device *dev, unsigned index)
{
    const struct pci_bar *bar = &dev->bars[index];
    unsigned command = pci_config_get16(dev, PCI_COMMAND);
    uint32_t low = get32(&dev->config[bar_offset(index)]);
    uint64_t base = low & ~(uint32_t)(bar->size - 1);

    if (bar->kind == PCI_BAR_IO) {
        /* All address bits set is the sizing pattern, not a place. */
        bool sizing = base == (uint32_t) - (uint32_t)bar->size;
        bool inside = base + bar->size <= 0x10000;
        return (command & PCI_COMMAND_IO) && inside && !sizing ? base : 0;
    }
    if (!(command & PCI_COMMAND_MEMORY))
        return 0;
    if (bar->kind == PCI_BAR_ROM && !(low & 1))
        return 0;
    if (bar->is_64bit)
        base =
            ((uint64_t)get32(&dev->config[bar_offset(index) + 4]) << 32 | low) & ~(bar->size - 1);
    const struct pci_bus_config *config = &dev->bus->config;
    if (!window_holds(&config->memory, base, bar->size) &&
        !window_holds(&config->memory64, base, bar->size))
        return 0;
    return base;
}

static struct io_region *bar_map(struct pci_device *dev, const struct pci_bar *bar, uint64_t base)
{
    struct address_space *as = dev->bus->config.as;
    struct vd_error err = {""};
    struct io_region *region = NULL;

    switch (bar->kind) {
    case PCI_BAR_IO:
        region = as_map_pio(as, (uint16_t)base, (uint32_t)bar->size, bar->ops, bar->ctx, bar->name,
                            &err);
        break;
    case PCI_BAR_MMIO:
    case PCI_BAR_ROM:
        region = as_map_mmio(as, base, bar->size, bar->ops, bar->ctx, bar->name, &err);
        break;
    case PCI_BAR_RAM:
        region = as_map_device_ram(as, base, bar->size, bar->host, bar->name, &err);
        break;
    case PCI_BAR_NONE:
        break;
    }
    if (!region)
        log_debug("pci %02x.%x: %s not decoded at %#llx: %s", dev->devfn >> 3, dev->devfn & 7,
                  bar->name, (unsigned long long)base, err.text);
    return region;
}

static void bar_update(struct pci_device *dev, unsigned index)
{
    struct pci_bar *bar = &dev->bars[index];
    if (bar->kind == PCI_BAR_NONE || !dev->bus)
        return;
    uint64_t wanted = bar_wanted_base(dev, index);
    if (wanted == bar->base && (bar->region || !wanted))
        return;
    uint64_t before = bar->base;
    if (bar->region)
        as_unmap(dev->bus->config.as, bar->region);
    bar->region = wanted ? bar_map(dev, bar, wanted) : NULL;
    bar->base = bar->region ? wanted : 0;
    if (bar->base != before && dev->ops && dev->ops->bar_moved)
        dev->ops->bar_moved(dev->ctx, index, bar->base);
}

static void bars_update(struct pci_device *dev)
{
    for (unsigned i = 0; i <= PCI_ROM_BAR; i++)
        bar_update(dev, i);
}

static uint64_t rom_read(void *ctx, uint64_t offset, unsigned size)
{
    const struct pci_bar *bar = ctx;
    uint64_t value = 0;
    if (offset + size <= bar->size)
        memcpy(&value, bar->host + offset, size);
    return value;
}

static void rom_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    (void)ctx;
    (void)offset;
    (void)value;
    (void)size;
}

static const struct io_ops rom_ops = {
    .read = rom_read, .write = rom_write, .min_size = 1, .max_size = 8};

void pci_device_set_bar(struct pci_device *dev, unsigned index, const struct pci_bar *description)
{
    assert(index <= PCI_ROM_BAR);
    assert((index == PCI_ROM_BAR) == (description->kind == PCI_BAR_ROM));
    assert(description->size && !(description->size & (description->size - 1)));
    assert(!description->is_64bit || index + 1 < PCI_BAR_COUNT);

    struct pci_bar *bar = &dev->bars[index];
    *bar = *description;
    bar->region = NULL;
    bar->base = 0;
    if (!bar->name)
        bar->name = dev->name;
    if (bar->kind == PCI_BAR_ROM) {
        bar->ops = &rom_ops;
        bar->ctx = bar;
    }
    unsigned offset = bar_offset(index);
    uint64_t mask = ~(bar->size - 1);
    uint32_t type = 0;
    if (bar->kind == PCI_BAR_IO)
        type = 1;
    else if (bar->kind == PCI_BAR_ROM)
        mask |= 1; /* the enable bit */
    else
        type = (bar->is_64bit ? 4u : 0) | (bar->prefetchable ? 8u : 0);
    put32(&dev->config[offset], type);
    put32(&dev->writable[offset], (uint32_t)mask);
    if (bar->is_64bit)
        put32(&dev->writable[offset + 4], (uint32_t)(mask >> 32));
}

/* --- configuration space --- */

void pci_device_init(struct pci_device *dev, const char *name, const struct pci_identity *identity,
                     const struct pci_device_ops *ops, void *ctx)
{
    memset(dev, 0, sizeof(*dev));
    dev->name = name;
    dev->ops = ops;
    dev->ctx = ctx;
    pci_config_set16(dev, PCI_VENDOR_ID, identity->vendor);
    pci_config_set16(dev, PCI_DEVICE_ID, identity->device);
    dev->config[PCI_REVISION] = identity->revision;
    dev->config[PCI_CLASS_PROG] = (uint8_t)identity->class_code;
    pci_config_set16(dev, PCI_CLASS, (uint16_t)(identity->class_code >> 8));
    dev->config[PCI_HEADER_TYPE] = identity->multifunction ? 0x80 : 0;
    pci_config_set16(dev, PCI_SUBSYSTEM_VENDOR, identity->subsystem_vendor);
    pci_config_set16(dev, PCI_SUBSYSTEM, identity->subsystem);
    dev->config[PCI_INTERRUPT_PIN] = identity->interrupt_pin;

    unsigned command = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
                       PCI_COMMAND_PARITY | PCI_COMMAND_SERR | PCI_COMMAND_INTX_OFF;
    dev->writable[PCI_COMMAND] = (uint8_t)command;
    dev->writable[PCI_COMMAND + 1] = (uint8_t)(command >> 8);
    /* Detected/signalled errors and aborts (bits 15..11 and 8); nothing here raises them. */
    dev->clear_on_write[PCI_STATUS + 1] = 0xf9;
    dev->writable[0x0c] = 0xff; /* cache line size */
    dev->writable[0x0d] = 0xf8; /* latency timer */
    dev->writable[PCI_INTERRUPT_LINE] = 0xff;
}

int pci_device_add(struct pci_bus *bus, struct pci_device *dev, unsigned slot, unsigned function,
                   struct vd_error *err)
{
    uint8_t devfn = (uint8_t)(slot << 3 | function);
    if (bus->devices[devfn])
        return error_set(err, "PCI slot %u function %u: taken by %s, wanted by %s", slot, function,
                         bus->devices[devfn]->name, dev->name);
    dev->bus = bus;
    dev->devfn = devfn;
    memcpy(dev->reset_config, dev->config, PCI_CONFIG_SIZE);
    bus->devices[devfn] = dev;
    return 0;
}

uint32_t pci_bus_config_read(struct pci_bus *bus, uint8_t devfn, unsigned offset, unsigned size)
{
    struct pci_device *dev = bus->devices[devfn];
    uint32_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (uint32_t)(dev ? dev->config[(offset + i) & 0xff] : 0xff) << (8 * i);
    return value;
}

static void intx_update(struct pci_device *dev);

void pci_bus_config_write(struct pci_bus *bus, uint8_t devfn, unsigned offset, uint32_t value,
                          unsigned size)
{
    struct pci_device *dev = bus->devices[devfn];
    if (!dev)
        return;
    for (unsigned i = 0; i < size; i++) {
        unsigned at = (offset + i) & 0xff;
        uint8_t byte = (uint8_t)(value >> (8 * i));
        uint8_t mask = dev->writable[at];
        dev->config[at] = (uint8_t)((dev->config[at] & ~mask) | (byte & mask));
        dev->config[at] = (uint8_t)(dev->config[at] & ~(byte & dev->clear_on_write[at]));
    }
    if (offset < PCI_INTERRUPT_LINE)
        bars_update(dev);
    if (offset < PCI_STATUS + 2)
        intx_update(dev);
    if (dev->ops && dev->ops->config_written)
        dev->ops->config_written(dev->ctx, offset, size);
}

/* --- interrupts --- */

static void pirq_change(struct pci_bus *bus, unsigned pirq, bool level)
{
    unsigned before = bus->pirq_count[pirq];
    bus->pirq_count[pirq] = level ? before + 1 : before - 1;
    if (!before != !bus->pirq_count[pirq] && bus->config.pirq.set)
        bus->config.pirq.set(bus->config.pirq.ctx, pirq, level);
}

/*
 * The pin is driven while the device asserts it and Interrupt Disable is clear. What is driven now
 * must be known to keep the shared lines' counts right.
 */
static void intx_update(struct pci_device *dev)
{
    unsigned pin = dev->config[PCI_INTERRUPT_PIN];
    if (!dev->bus || pin < 1 || pin > 4)
        return;
    uint8_t status = dev->config[PCI_STATUS];
    dev->config[PCI_STATUS] =
        (uint8_t)(dev->intx ? status | PCI_STATUS_INTX : status & ~PCI_STATUS_INTX);
    bool wanted = dev->intx && !(pci_config_get16(dev, PCI_COMMAND) & PCI_COMMAND_INTX_OFF);
    if (wanted == dev->intx_driven)
        return;
    dev->intx_driven = wanted;
    pirq_change(dev->bus, pci_pirq_of(dev->devfn >> 3, pin), wanted);
}

void pci_device_set_irq(struct pci_device *dev, bool level)
{
    dev->intx = level;
    intx_update(dev);
}

/* --- bus mastering --- */

bool pci_dma_read(struct pci_device *dev, uint64_t gpa, void *buffer, size_t size)
{
    if (!(pci_config_get16(dev, PCI_COMMAND) & PCI_COMMAND_MASTER))
        return false;
    as_read(dev->bus->config.as, gpa, buffer, size);
    return true;
}

bool pci_dma_write(struct pci_device *dev, uint64_t gpa, const void *buffer, size_t size)
{
    if (!(pci_config_get16(dev, PCI_COMMAND) & PCI_COMMAND_MASTER))
        return false;
    as_write(dev->bus->config.as, gpa, buffer, size);
    return true;
}

/* --- configuration mechanism 1 --- */

static uint64_t mechanism_read(void *ctx, uint64_t offset, unsigned size)
{
    struct pci_bus *bus = ctx;
    uint32_t ones = size == 4 ? UINT32_MAX : (1u << (8 * size)) - 1;
    if (offset < 4) {
        /* Only a full dword reaches CONFIG_ADDRESS; the rest goes on to the ISA bridge. */
        if (offset == 0 && size == 4)
            return bus->address;
        if (offset == 1 && size == 1 && bus->reset_port.read)
            return bus->reset_port.read(bus->reset_port.ctx);
        return ones;
    }
    bool enabled = bus->address >> CONFIG_ENABLE_SHIFT;
    if (!enabled || (bus->address & 0xff0000)) /* there is no bus but 0 */
        return ones;
    unsigned reg = (bus->address & 0xfc) + (unsigned)(offset & 3);
    return pci_bus_config_read(bus, (uint8_t)(bus->address >> 8), reg, size);
}

static void mechanism_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct pci_bus *bus = ctx;
    if (offset < 4) {
        if (offset == 0 && size == 4)
            bus->address = (uint32_t)value & 0x80fffffc;
        else if (offset == 1 && size == 1 && bus->reset_port.write)
            bus->reset_port.write(bus->reset_port.ctx, (uint8_t)value);
        return;
    }
    bool enabled = bus->address >> CONFIG_ENABLE_SHIFT;
    if (!enabled || (bus->address & 0xff0000))
        return;
    unsigned reg = (bus->address & 0xfc) + (unsigned)(offset & 3);
    pci_bus_config_write(bus, (uint8_t)(bus->address >> 8), reg, (uint32_t)value, size);
}

static const struct io_ops mechanism_ops = {
    .read = mechanism_read, .write = mechanism_write, .min_size = 1, .max_size = 4};

int pci_bus_init(struct pci_bus *bus, const struct pci_bus_config *config, struct vd_error *err)
{
    memset(bus, 0, sizeof(*bus));
    bus->config = *config;
    bus->ports = as_map_pio(config->as, 0xcf8, 8, &mechanism_ops, bus, "pci-config", err);
    return bus->ports ? 0 : -1;
}

void pci_bus_set_reset_port(struct pci_bus *bus, const struct pci_reset_port *port)
{
    bus->reset_port = *port;
}

void pci_bus_reset(struct pci_bus *bus)
{
    bus->address = 0;
    for (unsigned i = 0; i < 256; i++) {
        struct pci_device *dev = bus->devices[i];
        if (!dev)
            continue;
        memcpy(dev->config, dev->reset_config, PCI_CONFIG_SIZE);
        pci_device_set_irq(dev, false);
        bars_update(dev);
        if (dev->ops && dev->ops->reset)
            dev->ops->reset(dev->ctx);
    }
}

void pci_bus_destroy(struct pci_bus *bus)
{
    for (unsigned i = 0; i < 256; i++) {
        struct pci_device *dev = bus->devices[i];
        for (unsigned bar = 0; dev && bar <= PCI_ROM_BAR; bar++) {
            if (dev->bars[bar].region)
                as_unmap(bus->config.as, dev->bars[bar].region);
            dev->bars[bar].region = NULL;
        }
    }
    if (bus->ports)
        as_unmap(bus->config.as, bus->ports);
    memset(bus, 0, sizeof(*bus));
}
