/* Interrupt messages between APICs, inter-processor interrupts, and the register pages. */
#include <string.h>

#include "base/log.h"
#include "devices/local_apic_private.h"

enum { SHORTHAND_NONE, SHORTHAND_SELF, SHORTHAND_ALL, SHORTHAND_OTHERS };
enum { ICR_LOGICAL = 1 << 11, ICR_ASSERT = 1 << 14, ICR_LEVEL = 1 << 15 };
enum { BROADCAST = 0xff, PAGE_SIZE = 0x1000 };

void apic_bus_init(struct apic_bus *bus, const struct apic_bus_config *config)
{
    memset(bus, 0, sizeof(*bus));
    bus->config = *config;
}

void apic_bus_destroy(struct apic_bus *bus)
{
    for (unsigned i = 0; i < APIC_MAX_CPUS; i++) {
        if (bus->pages[i].region)
            as_unmap(bus->config.as, bus->pages[i].region);
    }
    for (unsigned i = 0; i < bus->count; i++)
        timer_cancel(&bus->apics[i]->timer);
    memset(bus, 0, sizeof(*bus));
}

/* --- destinations (SDM 11.6.2) --- */

static bool matches_logical(const struct local_apic *apic, uint8_t destination)
{
    uint8_t own = (uint8_t)(apic->ldr >> 24);
    if (apic->dfr >> 28 == 0xf) /* flat model */
        return own & destination;
    uint8_t cluster = destination >> 4;
    return (cluster == 0xf || cluster == own >> 4) && (own & destination & 0xf);
}

static bool is_destination(const struct local_apic *apic, const struct apic_message *message)
{
    if (!apic_hardware_enabled(apic))
        return false;
    if (message->destination == BROADCAST)
        return true;
    return message->logical ? matches_logical(apic, message->destination)
                            : apic->id >> 24 == message->destination;
}

/* The focus is not modelled; among equal priorities the processors take turns. */
static struct local_apic *find_lowest_priority(struct apic_bus *bus,
                                               const struct apic_message *message)
{
    struct local_apic *winner = NULL;
    unsigned winner_index = 0;
    for (unsigned n = 1; n <= bus->count; n++) {
        unsigned index = (bus->last_lowest + n) % bus->count;
        struct local_apic *apic = bus->apics[index];
        if (!is_destination(apic, message) || !apic_software_enabled(apic))
            continue;
        if (!winner || apic_processor_priority(apic) < apic_processor_priority(winner)) {
            winner = apic;
            winner_index = index;
        }
    }
    if (winner)
        bus->last_lowest = winner_index;
    return winner;
}

bool apic_bus_send(struct apic_bus *bus, const struct apic_message *message)
{
    if (message->delivery == APIC_LOWEST_PRIORITY) {
        struct local_apic *apic = find_lowest_priority(bus, message);
        if (apic)
            apic_accept(apic, APIC_FIXED, message->vector, message->level);
        return apic != NULL;
    }
    bool accepted = false;
    for (unsigned i = 0; i < bus->count; i++) {
        if (is_destination(bus->apics[i], message)) {
            apic_accept(bus->apics[i], message->delivery, message->vector, message->level);
            accepted = true;
        }
    }
    return accepted;
}

bool apic_bus_requested(const struct apic_bus *bus, const struct apic_message *message)
{
    for (unsigned i = 0; i < bus->count; i++) {
        if (is_destination(bus->apics[i], message) &&
            apic_requested(bus->apics[i], message->vector))
            return true;
    }
    return false;
}

/* --- inter-processor interrupts (SDM 11.6.1) --- */

void apic_send_ipi(struct local_apic *apic)
{
    uint32_t icr = apic->icr_low;
    struct apic_message message = {
        .destination = (uint8_t)(apic->icr_high >> 24),
        .logical = icr & ICR_LOGICAL,
        .delivery = (enum apic_delivery)(icr >> 8 & 7),
        .vector = (uint8_t)icr,
        .level = false, /* IPIs are edge-triggered whatever the trigger mode bit says */
    };
    bool fixed = message.delivery == APIC_FIXED || message.delivery == APIC_LOWEST_PRIORITY;
    if (fixed && message.vector < 16) {
        apic_error(apic, ESR_SEND_ILLEGAL_VECTOR);
        return;
    }
    /* INIT level de-assert only synchronised arbitration IDs, which no longer exist. */
    if (message.delivery == APIC_INIT && (icr & ICR_LEVEL) && !(icr & ICR_ASSERT))
        return;
    if (message.delivery == 3 || message.delivery == APIC_EXTINT)
        return; /* reserved in the ICR */

    struct apic_bus *bus = apic->bus;
    unsigned shorthand = icr >> 18 & 3;
    if (shorthand == SHORTHAND_NONE) {
        apic_bus_send(bus, &message);
        return;
    }
    for (unsigned i = 0; i < bus->count; i++) {
        struct local_apic *target = bus->apics[i];
        bool self = target == apic;
        if ((shorthand == SHORTHAND_SELF && !self) || (shorthand == SHORTHAND_OTHERS && self))
            continue;
        if (apic_hardware_enabled(target))
            apic_accept(target, fixed ? APIC_FIXED : message.delivery, message.vector, false);
    }
}

/* --- register pages --- */

static struct local_apic *current_apic(const struct apic_page *page)
{
    const struct apic_bus *bus = page->bus;
    unsigned index = bus->config.current_cpu ? bus->config.current_cpu(bus->config.ctx) : 0;
    if (index >= bus->count)
        return NULL;
    struct local_apic *apic = bus->apics[index];
    bool here =
        apic_hardware_enabled(apic) && (apic->base_msr & ~(uint64_t)(PAGE_SIZE - 1)) == page->base;
    return here ? apic : NULL;
}

static uint64_t page_read(void *ctx, uint64_t offset, unsigned size)
{
    struct local_apic *apic = current_apic(ctx);
    (void)size;
    return apic ? local_apic_read(apic, (unsigned)offset) : UINT32_MAX;
}

static void page_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct local_apic *apic = current_apic(ctx);
    (void)size;
    if (apic)
        local_apic_write(apic, (unsigned)offset, (uint32_t)value);
}

static const struct io_ops page_ops = {
    .read = page_read, .write = page_write, .min_size = 4, .max_size = 4};

static bool page_wanted(const struct apic_bus *bus, unsigned index)
{
    uint64_t mask = ~(uint64_t)(PAGE_SIZE - 1);
    const struct local_apic *apic = bus->apics[index];
    if (!apic_hardware_enabled(apic))
        return false;
    for (unsigned i = 0; i < index; i++) {
        const struct local_apic *other = bus->apics[i];
        if (apic_hardware_enabled(other) && !((other->base_msr ^ apic->base_msr) & mask))
            return false;
    }
    return true;
}

static void map_page(struct apic_bus *bus, struct apic_page *page, uint64_t base)
{
    struct vd_error err;
    page->bus = bus;
    page->base = base;
    page->region =
        as_map_mmio(bus->config.as, base, PAGE_SIZE, &page_ops, page, "local-apic", &err);
    if (!page->region)
        log_warn("local APIC not decoded: %s", err.text);
}

void apic_bus_update_pages(struct apic_bus *bus)
{
    uint64_t wanted[APIC_MAX_CPUS]; /* 0: none */
    for (unsigned i = 0; i < bus->count; i++)
        wanted[i] = page_wanted(bus, i) ? bus->apics[i]->base_msr & ~(uint64_t)(PAGE_SIZE - 1) : 0;
    /* Pages may change hands: first let go, then take. */
    for (unsigned i = 0; i < bus->count; i++) {
        struct apic_page *page = &bus->pages[i];
        if (page->region && page->base != wanted[i]) {
            as_unmap(bus->config.as, page->region);
            page->region = NULL;
        }
    }
    for (unsigned i = 0; i < bus->count; i++) {
        if (wanted[i] && !bus->pages[i].region)
            map_page(bus, &bus->pages[i], wanted[i]);
    }
}
