/*
 * A conventional PCI bus (PCI Local Bus Specification 2.3) behind a host bridge with configuration
 * mechanism 1 (ports CF8-CFF, section 3.2.2.3.2).
 *
 * A device embeds struct pci_device, describes its identity and base address registers, and lets
 * the core keep the configuration space: writable masks, BAR sizing, and mapping the BARs into the
 * address space whenever the command register or a BAR changes. A BAR is decoded only where the
 * host bridge forwards to the bus (the windows of struct pci_bus_config); elsewhere, and where it
 * would collide with another range, the device simply does not answer, as on hardware.
 *
 * All functions are called with the machine lock held.
 */
#ifndef VD_DEVICES_PCI_H
#define VD_DEVICES_PCI_H

#include <stdbool.h>
#include <stdint.h>

#include "base/irq_line.h"
#include "memory/address_space.h"

enum { PCI_CONFIG_SIZE = 256, PCI_BAR_COUNT = 6, PCI_ROM_BAR = 6, PCI_PIRQ_COUNT = 4 };

/* Type 00h configuration header (PCI 2.3, 6.1). */
enum {
    PCI_VENDOR_ID = 0x00,
    PCI_DEVICE_ID = 0x02,
    PCI_COMMAND = 0x04,
    PCI_STATUS = 0x06,
    PCI_REVISION = 0x08,
    PCI_CLASS_PROG = 0x09,
    PCI_CLASS = 0x0a,
    PCI_HEADER_TYPE = 0x0e,
    PCI_BAR0 = 0x10,
    PCI_SUBSYSTEM_VENDOR = 0x2c,
    PCI_SUBSYSTEM = 0x2e,
    PCI_ROM_ADDRESS = 0x30,
    PCI_INTERRUPT_LINE = 0x3c,
    PCI_INTERRUPT_PIN = 0x3d,
};
enum {
    PCI_COMMAND_IO = 1 << 0,
    PCI_COMMAND_MEMORY = 1 << 1,
    PCI_COMMAND_MASTER = 1 << 2,
    PCI_COMMAND_PARITY = 1 << 6,
    PCI_COMMAND_SERR = 1 << 8,
    PCI_COMMAND_INTX_OFF = 1 << 10,
    PCI_STATUS_INTX = 1 << 3,
};

enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MMIO, PCI_BAR_RAM, PCI_BAR_ROM };

struct pci_bar {
    enum pci_bar_kind kind;
    bool is_64bit;     /* memory kinds; the next BAR holds the upper half */
    bool prefetchable; /* memory kinds */
    uint64_t size;     /* power of two; I/O 4..256, memory at least 16, ROM at least 2 KiB */
    const struct io_ops *ops;
    void *ctx;
    uint8_t *host; /* PCI_BAR_RAM: page-aligned memory of the device; PCI_BAR_ROM: size bytes */
    const char *name;
    /* The mapping in force, for a device that wants to know where its memory is; base 0: none. */
    struct io_region *region;
    uint64_t base;
};

struct pci_bus;

struct pci_device_ops { /* all may be NULL */
    /*
     * Configuration bytes [offset, offset + size) were written (size 1..4, masks already applied).
     */
    void (*config_written)(void *ctx, unsigned offset, unsigned size);
    /* A BAR (index) was mapped at base or unmapped (base 0). */
    void (*bar_moved)(void *ctx, unsigned index, uint64_t base);
    /* RST#: the configuration space is at its reset values already. */
    void (*reset)(void *ctx);
};

struct pci_device {
    struct pci_bus *bus;
    const struct pci_device_ops *ops;
    void *ctx;
    const char *name;
    uint8_t devfn; /* device << 3 | function */
    uint8_t config[PCI_CONFIG_SIZE];
    uint8_t writable[PCI_CONFIG_SIZE];       /* mask of read-write bits */
    uint8_t clear_on_write[PCI_CONFIG_SIZE]; /* mask of bits that writing 1 clears */
    uint8_t reset_config[PCI_CONFIG_SIZE];
    struct pci_bar bars[PCI_BAR_COUNT + 1];
    bool intx;        /* the device requests an interrupt */
    bool intx_driven; /* and its pin is driven (Interrupt Disable is clear) */
};

struct pci_window { /* [start, end); empty: start == end */
    uint64_t start, end;
};

struct pci_bus_config {
    struct address_space *as;
    struct pci_window memory;   /* forwarded below 4 GiB */
    struct pci_window memory64; /* forwarded above 4 GiB */
    struct irq_line pirq;       /* set(ctx, 0..3, level): PIRQA#..PIRQD# towards the router */
};

/* What shares the CF8h-CFBh range with CONFIG_ADDRESS: byte accesses to CF9h. */
struct pci_reset_port {
    void *ctx;
    uint8_t (*read)(void *ctx);
    void (*write)(void *ctx, uint8_t value);
};

struct pci_bus {
    struct pci_bus_config config;
    struct pci_reset_port reset_port;
    struct io_region *ports;
    struct pci_device *devices[256];     /* by devfn */
    uint32_t address;                    /* CONFIG_ADDRESS */
    unsigned pirq_count[PCI_PIRQ_COUNT]; /* devices that assert each line */
};

/* Claims ports CF8h-CFFh. -1: they are taken. */
int pci_bus_init(struct pci_bus *bus, const struct pci_bus_config *config, struct vd_error *err);
void pci_bus_set_reset_port(struct pci_bus *bus, const struct pci_reset_port *port);
/* RST#: every device back to its reset configuration, BARs unmapped. */
void pci_bus_reset(struct pci_bus *bus);
/* Unmaps everything; the devices stay the caller's. */
void pci_bus_destroy(struct pci_bus *bus);

struct pci_identity {
    uint16_t vendor, device, subsystem_vendor, subsystem;
    uint32_t class_code; /* base class << 16 | sub-class << 8 | programming interface */
    uint8_t revision;
    uint8_t interrupt_pin; /* 0: none, 1: INTA#, .. 4: INTD# */
    bool multifunction;
};

/* Fills the header and its masks; ops may be NULL. The device can still change config and masks. */
void pci_device_init(struct pci_device *dev, const char *name, const struct pci_identity *identity,
                     const struct pci_device_ops *ops, void *ctx);
/* Declares a BAR (index 0..5, or PCI_ROM_BAR); before pci_device_add. The description is copied. */
void pci_device_set_bar(struct pci_device *dev, unsigned index, const struct pci_bar *bar);
/* Puts the device on the bus; its present configuration becomes the reset values. -1: slot taken.
 */
int pci_device_add(struct pci_bus *bus, struct pci_device *dev, unsigned slot, unsigned function,
                   struct vd_error *err);

/* Drives the interrupt pin (level-triggered, shared). Honours Interrupt Disable (PCI 2.3, 6.2.2).
 */
void pci_device_set_irq(struct pci_device *dev, bool level);
/* Bus-master access to memory. False, and nothing transferred, while Bus Master Enable is clear. */
bool pci_dma_read(struct pci_device *dev, uint64_t gpa, void *buffer, size_t size);
bool pci_dma_write(struct pci_device *dev, uint64_t gpa, const void *buffer, size_t size);

static inline uint16_t pci_config_get16(const struct pci_device *dev, unsigned offset)
{
    return (uint16_t)(dev->config[offset] | dev->config[offset + 1] << 8);
}
void pci_config_set16(struct pci_device *dev, unsigned offset, uint16_t value);
void pci_config_set32(struct pci_device *dev, unsigned offset, uint32_t value);

/*
 * Configuration accesses as a bus cycle makes them; size 1, 2 or 4, not crossing a dword. Reads of
 * an absent function give all ones.
 */
uint32_t pci_bus_config_read(struct pci_bus *bus, uint8_t devfn, unsigned offset, unsigned size);
void pci_bus_config_write(struct pci_bus *bus, uint8_t devfn, unsigned offset, uint32_t value,
                          unsigned size);

/* The line (0..3 = PIRQA..D) that pin (1..4) of a slot is wired to on PIIX boards. */
static inline unsigned pci_pirq_of(unsigned slot, unsigned pin)
{
    return (pin - 1 + slot - 1) & 3;
}

#endif
