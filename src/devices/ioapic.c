#include "devices/ioapic.h"

#include <string.h>

enum { PAGE_SIZE = 0x1000 };
enum { MMIO_SELECT = 0x00, MMIO_WINDOW = 0x10, MMIO_EOI = 0x40 };
enum { REG_ID = 0x00, REG_VERSION = 0x01, REG_ARBITRATION = 0x02, REG_REDIRECTION = 0x10 };
enum { VERSION = 0x20 | (IOAPIC_PIN_COUNT - 1) << 16 };
enum { /* redirection entry */
       ENTRY_DELIVERY_SHIFT = 8,
       ENTRY_LOGICAL = 1 << 11,
       ENTRY_REMOTE_IRR = 1 << 14,
       ENTRY_LEVEL = 1 << 15,
       ENTRY_MASKED = 1 << 16,
       ENTRY_DESTINATION_SHIFT = 56,
};
static const uint64_t entry_writable = 0xff0000000001afffull;

static struct apic_message message_of(uint64_t entry)
{
    return (struct apic_message){
        .destination = (uint8_t)(entry >> ENTRY_DESTINATION_SHIFT),
        .logical = entry & ENTRY_LOGICAL,
        .delivery = (enum apic_delivery)(entry >> ENTRY_DELIVERY_SHIFT & 7),
        .vector = (uint8_t)entry,
        .level = entry & ENTRY_LEVEL,
    };
}

/* NMI, INIT and ExtINT are edges whatever the trigger mode says, and have no EOI. */
static bool is_acknowledged(const struct apic_message *message)
{
    return message->delivery == APIC_FIXED || message->delivery == APIC_LOWEST_PRIORITY;
}

/*
 * Sends the pin's interrupt if its entry and state ask for it. Edges are never held back: on a
 * masked pin they are lost (data sheet 3.2.4, interrupt mask).
 */
static void service(struct ioapic *ioapic, unsigned pin)
{
    uint64_t *entry = &ioapic->entries[pin];
    if (*entry & ENTRY_MASKED)
        return;
    struct apic_message message = message_of(*entry);
    if (message.level && is_acknowledged(&message)) {
        if ((*entry & ENTRY_REMOTE_IRR) || !(ioapic->levels >> pin & 1))
            return;
        if (apic_bus_send(ioapic->bus, &message))
            *entry |= ENTRY_REMOTE_IRR;
        return;
    }
    message.level = false;
    apic_bus_send(ioapic->bus, &message);
}

void ioapic_set_pin(void *ctx, unsigned pin, bool level)
{
    struct ioapic *ioapic = ctx;
    if (pin >= IOAPIC_PIN_COUNT)
        return;
    uint32_t bit = 1u << pin;
    bool rising = level && !(ioapic->levels & bit);
    ioapic->levels = level ? ioapic->levels | bit : ioapic->levels & ~bit;
    if (rising)
        service(ioapic, pin);
}

bool ioapic_edge_waits(const struct ioapic *ioapic, unsigned pin)
{
    uint64_t entry = ioapic->entries[pin];
    if (entry & (ENTRY_MASKED | ENTRY_LEVEL))
        return false;
    struct apic_message message = message_of(entry);
    return is_acknowledged(&message) && apic_bus_requested(ioapic->bus, &message);
}

void ioapic_end_of_interrupt(void *ctx, uint8_t vector)
{
    struct ioapic *ioapic = ctx;
    for (unsigned pin = 0; pin < IOAPIC_PIN_COUNT; pin++) {
        uint64_t *entry = &ioapic->entries[pin];
        if (!(*entry & ENTRY_REMOTE_IRR) || (uint8_t)*entry != vector)
            continue;
        *entry &= ~(uint64_t)ENTRY_REMOTE_IRR;
        service(ioapic, pin); /* still asserted: again */
    }
}

static void write_entry(struct ioapic *ioapic, unsigned reg, uint32_t value)
{
    unsigned pin = (reg - REG_REDIRECTION) / 2, shift = reg & 1 ? 32 : 0;
    uint64_t mask = entry_writable & (0xffffffffull << shift);
    uint64_t *entry = &ioapic->entries[pin];
    *entry = (*entry & ~mask) | ((uint64_t)value << shift & mask);
    /* Software clears a stuck remote IRR by a round trip through edge mode. */
    if (!(*entry & ENTRY_LEVEL))
        *entry &= ~(uint64_t)ENTRY_REMOTE_IRR;
    else if (ioapic->levels >> pin & 1)
        service(ioapic, pin);
}

static uint32_t read_register(const struct ioapic *ioapic)
{
    unsigned reg = ioapic->select;
    if (reg == REG_ID || reg == REG_ARBITRATION)
        return ioapic->id_register;
    if (reg == REG_VERSION)
        return VERSION;
    if (reg >= REG_REDIRECTION && reg < REG_REDIRECTION + 2 * IOAPIC_PIN_COUNT)
        return (uint32_t)(ioapic->entries[(reg - REG_REDIRECTION) / 2] >> (reg & 1 ? 32 : 0));
    return 0;
}

static void write_register(struct ioapic *ioapic, uint32_t value)
{
    unsigned reg = ioapic->select;
    if (reg == REG_ID)
        ioapic->id_register = value & 0x0f000000;
    else if (reg >= REG_REDIRECTION && reg < REG_REDIRECTION + 2 * IOAPIC_PIN_COUNT)
        write_entry(ioapic, reg, value);
}

static uint64_t mmio_read(void *ctx, uint64_t offset, unsigned size)
{
    struct ioapic *ioapic = ctx;
    (void)size;
    if (offset == MMIO_SELECT)
        return ioapic->select;
    return offset == MMIO_WINDOW ? read_register(ioapic) : 0;
}

static void mmio_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct ioapic *ioapic = ctx;
    (void)size;
    if (offset == MMIO_SELECT)
        ioapic->select = (uint8_t)value;
    else if (offset == MMIO_WINDOW)
        write_register(ioapic, (uint32_t)value);
    else if (offset == MMIO_EOI)
        ioapic_end_of_interrupt(ioapic, (uint8_t)value);
}

static const struct io_ops mmio_ops = {
    .read = mmio_read, .write = mmio_write, .min_size = 4, .max_size = 4};

void ioapic_reset(struct ioapic *ioapic)
{
    ioapic->select = 0;
    ioapic->id_register = (uint32_t)ioapic->id << 24;
    for (unsigned pin = 0; pin < IOAPIC_PIN_COUNT; pin++)
        ioapic->entries[pin] = ENTRY_MASKED;
}

int ioapic_init(struct ioapic *ioapic, struct apic_bus *bus, uint64_t base, uint8_t id,
                struct vd_error *err)
{
    memset(ioapic, 0, sizeof(*ioapic));
    ioapic->bus = bus;
    ioapic->id = id;
    ioapic_reset(ioapic);
    ioapic->region = as_map_mmio(bus->config.as, base, PAGE_SIZE, &mmio_ops, ioapic, "ioapic", err);
    return ioapic->region ? 0 : -1;
}

void ioapic_destroy(struct ioapic *ioapic)
{
    if (ioapic->region)
        as_unmap(ioapic->bus->config.as, ioapic->region);
    memset(ioapic, 0, sizeof(*ioapic));
}
