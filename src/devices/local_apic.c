#include "devices/local_apic.h"

#include <string.h>

#include "devices/local_apic_private.h"

enum { /* register offsets (SDM table 11-1) */
       REG_ID = 0x020,
       REG_VERSION = 0x030,
       REG_TPR = 0x080,
       REG_APR = 0x090,
       REG_PPR = 0x0a0,
       REG_EOI = 0x0b0,
       REG_RRD = 0x0c0,
       REG_LDR = 0x0d0,
       REG_DFR = 0x0e0,
       REG_SVR = 0x0f0,
       REG_ISR = 0x100,
       REG_TMR = 0x180,
       REG_IRR = 0x200,
       REG_ESR = 0x280,
       REG_ICR_LOW = 0x300,
       REG_ICR_HIGH = 0x310,
       REG_LVT = 0x320,
       REG_INITIAL_COUNT = 0x380,
       REG_CURRENT_COUNT = 0x390,
       REG_DIVIDE = 0x3e0,
};
enum {
    VERSION = 0x14 | (APIC_LVT_COUNT - 1) << 16,
    SVR_WRITABLE = 0x3ff,   /* vector, enable, focus checking */
    ICR_WRITABLE = 0xccfff, /* all but delivery status and reserved bits */
};
static const uint64_t default_base = 0xfee00000;

static const uint32_t lvt_writable[APIC_LVT_COUNT] = {
    [LVT_TIMER] = LVT_VECTOR | LVT_MASKED | LVT_TIMER_MODE,
    [LVT_THERMAL] = LVT_VECTOR | LVT_DELIVERY | LVT_MASKED,
    [LVT_PERFORMANCE] = LVT_VECTOR | LVT_DELIVERY | LVT_MASKED,
    [LVT_LINT0] = LVT_VECTOR | LVT_DELIVERY | LVT_POLARITY | LVT_LEVEL | LVT_MASKED,
    [LVT_LINT1] = LVT_VECTOR | LVT_DELIVERY | LVT_POLARITY | LVT_LEVEL | LVT_MASKED,
    [LVT_ERROR] = LVT_VECTOR | LVT_MASKED,
};

/* --- 256-bit registers --- */

static void set_bit(uint32_t *bits, unsigned vector)
{
    bits[vector / 32] |= 1u << (vector % 32);
}

static void clear_bit(uint32_t *bits, unsigned vector)
{
    bits[vector / 32] &= ~(1u << (vector % 32));
}

static bool test_bit(const uint32_t *bits, unsigned vector)
{
    return bits[vector / 32] >> (vector % 32) & 1;
}

static int highest_bit(const uint32_t *bits) /* -1: none */
{
    for (int i = 7; i >= 0; i--) {
        if (bits[i])
            return i * 32 + 31 - __builtin_clz(bits[i]);
    }
    return -1;
}

/* --- priorities and INTR --- */

uint32_t apic_processor_priority(const struct local_apic *apic)
{
    int in_service = highest_bit(apic->isr);
    uint32_t class = in_service < 0 ? 0 : (uint32_t)in_service & 0xf0;
    return (apic->tpr & 0xf0) >= class ? apic->tpr : class;
}

static uint32_t arbitration_priority(const struct local_apic *apic)
{
    int requested = highest_bit(apic->irr), in_service = highest_bit(apic->isr);
    uint32_t tpr = apic->tpr & 0xf0;
    uint32_t irrv = requested < 0 ? 0 : (uint32_t)requested & 0xf0;
    uint32_t isrv = in_service < 0 ? 0 : (uint32_t)in_service & 0xf0;
    if (tpr >= irrv && tpr > isrv)
        return apic->tpr;
    uint32_t both = tpr & isrv;
    return both > irrv ? both : irrv;
}

/* The vector that would be dispensed now, -1: none. */
static int deliverable_vector(const struct local_apic *apic)
{
    if (!apic_hardware_enabled(apic) || !apic_software_enabled(apic))
        return -1;
    int vector = highest_bit(apic->irr);
    if (vector < 0 || ((uint32_t)vector & 0xf0) <= (apic_processor_priority(apic) & 0xf0))
        return -1;
    return vector;
}

static enum apic_delivery lvt_delivery(const struct local_apic *apic, unsigned lvt)
{
    return (enum apic_delivery)((apic->lvt[lvt] & LVT_DELIVERY) >> LVT_DELIVERY_SHIFT);
}

static bool extint_pending(const struct local_apic *apic)
{
    if (!apic_hardware_enabled(apic))
        return apic->lint_level[0];
    for (unsigned pin = 0; pin < 2; pin++) {
        unsigned lvt = LVT_LINT0 + pin;
        if (apic->lint_level[pin] && !(apic->lvt[lvt] & LVT_MASKED) &&
            lvt_delivery(apic, lvt) == APIC_EXTINT)
            return true;
    }
    return apic->extint_message;
}

static void update_intr(struct local_apic *apic)
{
    bool level = extint_pending(apic) || deliverable_vector(apic) >= 0;
    bool before = atomic_exchange(&apic->intr, level);
    if (level && !before && apic->config.interrupt)
        apic->config.interrupt(apic->config.ctx);
}

bool apic_requested(const struct local_apic *apic, uint8_t vector)
{
    return test_bit(apic->irr, vector);
}

bool local_apic_intr_pending(void *ctx)
{
    struct local_apic *apic = ctx;
    return atomic_load_explicit(&apic->intr, memory_order_acquire);
}

int local_apic_intr_ack(void *ctx)
{
    struct local_apic *apic = ctx;
    int vector = -1;
    if (extint_pending(apic)) {
        apic->extint_message = false;
        vector = apic->config.pic_ack ? apic->config.pic_ack(apic->config.ctx) : -1;
    } else {
        vector = deliverable_vector(apic);
        if (vector >= 0) {
            clear_bit(apic->irr, (unsigned)vector);
            set_bit(apic->isr, (unsigned)vector);
            apic_timer_acknowledged(apic);
        }
    }
    /* What is still pending must be announced again: the processor took only one. */
    atomic_store(&apic->intr, false);
    update_intr(apic);
    return vector;
}

static void end_of_interrupt(struct local_apic *apic)
{
    int vector = highest_bit(apic->isr);
    if (vector < 0)
        return;
    clear_bit(apic->isr, (unsigned)vector);
    if (test_bit(apic->tmr, (unsigned)vector)) {
        for (unsigned pin = 0; pin < 2; pin++) {
            uint32_t *lvt = &apic->lvt[LVT_LINT0 + pin];
            if ((*lvt & LVT_REMOTE_IRR) && (*lvt & LVT_VECTOR) == (uint32_t)vector) {
                *lvt &= ~(uint32_t)LVT_REMOTE_IRR;
                local_apic_set_lint(apic, pin, apic->lint_level[pin]);
            }
        }
        if (apic->bus->config.eoi)
            apic->bus->config.eoi(apic->bus->config.ctx, (uint8_t)vector);
    }
    update_intr(apic);
}

/* --- accepting interrupts --- */

void apic_error(struct local_apic *apic, uint32_t bit)
{
    apic->esr_pending |= bit;
    uint32_t lvt = apic->lvt[LVT_ERROR];
    /* An illegal vector in the error entry itself must not come back here. */
    if (!(lvt & LVT_MASKED) && (lvt & LVT_VECTOR) >= 16)
        apic_accept(apic, APIC_FIXED, lvt & LVT_VECTOR, false);
}

static void accept_fixed(struct local_apic *apic, uint8_t vector, bool level)
{
    if (!apic_software_enabled(apic))
        return;
    if (vector < 16) {
        apic_error(apic, ESR_RECEIVED_ILLEGAL_VECTOR);
        return;
    }
    set_bit(apic->irr, vector);
    if (level)
        set_bit(apic->tmr, vector);
    else
        clear_bit(apic->tmr, vector);
    update_intr(apic);
}

static void init_reset(struct local_apic *apic)
{
    apic->tpr = apic->ldr = 0;
    apic->dfr = UINT32_MAX;
    apic->svr = 0xff;
    memset(apic->irr, 0, sizeof(apic->irr));
    memset(apic->isr, 0, sizeof(apic->isr));
    memset(apic->tmr, 0, sizeof(apic->tmr));
    apic->esr = apic->esr_pending = 0;
    apic->icr_low = apic->icr_high = 0;
    for (unsigned i = 0; i < APIC_LVT_COUNT; i++)
        apic->lvt[i] = LVT_MASKED;
    if (apic->config.bootstrap) /* virtual wire mode, as firmware leaves it */
        apic->lvt[LVT_LINT0] = APIC_EXTINT << LVT_DELIVERY_SHIFT;
    apic->extint_message = false;
    apic_timer_reset(apic);
}

void local_apic_signal_init(void *ctx)
{
    struct local_apic *apic = ctx;
    init_reset(apic);
    update_intr(apic);
    if (apic->config.init)
        apic->config.init(apic->config.ctx);
}

void apic_accept(struct local_apic *apic, enum apic_delivery delivery, uint8_t vector, bool level)
{
    switch (delivery) {
    case APIC_FIXED:
    case APIC_LOWEST_PRIORITY:
        accept_fixed(apic, vector, level);
        break;
    case APIC_NMI:
        if (apic->config.nmi)
            apic->config.nmi(apic->config.ctx);
        break;
    case APIC_INIT:
        local_apic_signal_init(apic);
        break;
    case APIC_STARTUP:
        if (apic->config.startup)
            apic->config.startup(apic->config.ctx, vector);
        break;
    case APIC_EXTINT:
        apic->extint_message = true;
        update_intr(apic);
        break;
    case APIC_SMI: /* there is no system management mode */
    default:
        break;
    }
}

/* A pin with a level-triggered fixed LVT entry requests again until its remote IRR is set. */
void local_apic_set_lint(void *ctx, unsigned pin, bool level)
{
    struct local_apic *apic = ctx;
    bool rising = level && !apic->lint_level[pin];
    apic->lint_level[pin] = level;
    if (!apic_hardware_enabled(apic)) {
        if (pin == 1 && rising)
            apic_accept(apic, APIC_NMI, 0, false);
        update_intr(apic);
        return;
    }
    uint32_t *lvt = &apic->lvt[LVT_LINT0 + pin];
    enum apic_delivery delivery = lvt_delivery(apic, LVT_LINT0 + pin);
    bool masked = *lvt & LVT_MASKED;
    if (delivery == APIC_FIXED && (*lvt & LVT_LEVEL) && pin == 0) {
        if (level && !masked && !(*lvt & LVT_REMOTE_IRR)) {
            *lvt |= LVT_REMOTE_IRR;
            apic_accept(apic, APIC_FIXED, *lvt & LVT_VECTOR, true);
        }
    } else if (delivery != APIC_EXTINT && rising && !masked) {
        apic_accept(apic, delivery, *lvt & LVT_VECTOR, false);
    }
    update_intr(apic);
}

/* --- registers --- */

static void write_lvt(struct local_apic *apic, unsigned index, uint32_t value)
{
    uint32_t old = apic->lvt[index];
    uint32_t lvt = value & lvt_writable[index];
    if (!apic_software_enabled(apic))
        lvt |= LVT_MASKED;
    if (lvt & LVT_LEVEL)
        lvt |= old & LVT_REMOTE_IRR;
    apic->lvt[index] = lvt;
    if (index == LVT_TIMER)
        apic_timer_lvt_written(apic, old);
    else if (index == LVT_LINT0 || index == LVT_LINT1)
        local_apic_set_lint(apic, index - LVT_LINT0, apic->lint_level[index - LVT_LINT0]);
}

static void write_svr(struct local_apic *apic, uint32_t value)
{
    if (apic_software_enabled(apic) && !(value & SVR_ENABLE)) {
        for (unsigned i = 0; i < APIC_LVT_COUNT; i++)
            write_lvt(apic, i, apic->lvt[i] | LVT_MASKED); /* SDM 11.4.7.2 */
    }
    apic->svr = value & SVR_WRITABLE;
    update_intr(apic);
}

uint32_t local_apic_read(struct local_apic *apic, unsigned offset)
{
    switch (offset) {
    case REG_ID:
        return apic->id;
    case REG_VERSION:
        return VERSION;
    case REG_TPR:
        return apic->tpr;
    case REG_APR:
        return arbitration_priority(apic);
    case REG_PPR:
        return apic_processor_priority(apic);
    case REG_EOI:
    case REG_RRD:
        return 0;
    case REG_LDR:
        return apic->ldr;
    case REG_DFR:
        return apic->dfr;
    case REG_SVR:
        return apic->svr;
    case REG_ESR:
        return apic->esr;
    case REG_ICR_LOW:
        return apic->icr_low;
    case REG_ICR_HIGH:
        return apic->icr_high;
    case REG_INITIAL_COUNT:
        return apic->initial_count;
    case REG_CURRENT_COUNT:
        return apic_timer_current(apic);
    case REG_DIVIDE:
        return apic->divide;
    default:
        break;
    }
    unsigned index = offset >> 4 & 7;
    if (!(offset & 15)) {
        if (offset >= REG_ISR && offset < REG_TMR)
            return apic->isr[index];
        if (offset >= REG_TMR && offset < REG_IRR)
            return apic->tmr[index];
        if (offset >= REG_IRR && offset < REG_ESR)
            return apic->irr[index];
        if (offset >= REG_LVT && offset < REG_INITIAL_COUNT)
            return apic->lvt[(offset - REG_LVT) >> 4];
        apic_error(apic, ESR_ILLEGAL_REGISTER);
    }
    return 0;
}

void local_apic_write(struct local_apic *apic, unsigned offset, uint32_t value)
{
    switch (offset) {
    case REG_ID:
        apic->id = value & 0xff000000;
        break;
    case REG_TPR:
        apic->tpr = value & 0xff;
        update_intr(apic);
        break;
    case REG_EOI:
        end_of_interrupt(apic);
        break;
    case REG_LDR:
        apic->ldr = value & 0xff000000;
        break;
    case REG_DFR:
        apic->dfr = value | 0x0fffffff;
        break;
    case REG_SVR:
        write_svr(apic, value);
        break;
    case REG_ESR:
        apic->esr = apic->esr_pending;
        apic->esr_pending = 0;
        break;
    case REG_ICR_LOW:
        apic->icr_low = value & ICR_WRITABLE;
        apic_send_ipi(apic);
        break;
    case REG_ICR_HIGH:
        apic->icr_high = value & 0xff000000;
        break;
    case REG_INITIAL_COUNT:
        apic_timer_set_initial(apic, value);
        break;
    case REG_DIVIDE:
        apic_timer_set_divide(apic, value);
        break;
    default:
        if (offset >= REG_LVT && offset < REG_INITIAL_COUNT && !(offset & 15))
            write_lvt(apic, (offset - REG_LVT) >> 4, value);
        else if (!(offset & 15) && (offset < REG_VERSION || offset >= 0x400))
            apic_error(apic, ESR_ILLEGAL_REGISTER);
        break;
    }
}

/* --- what the processor sees beside the registers --- */

uint64_t local_apic_base_read(void *ctx)
{
    const struct local_apic *apic = ctx;
    return apic->base_msr;
}

int local_apic_base_write(void *ctx, uint64_t value)
{
    struct local_apic *apic = ctx;
    uint64_t address = (1ull << apic->bus->config.phys_bits) - 0x1000;
    if (apic->config.absent || (value & ~(address | APIC_BASE_BSP | APIC_BASE_ENABLE)))
        return -1;
    bool disabled = apic_hardware_enabled(apic) && !(value & APIC_BASE_ENABLE);
    apic->base_msr = value;
    if (disabled) { /* SDM 11.4.3: back to the state of power-up */
        init_reset(apic);
        apic->id = (uint32_t)apic->config.id << 24;
    }
    apic_bus_update_pages(apic->bus);
    update_intr(apic);
    return 0;
}

uint64_t local_apic_tpr_read(void *ctx)
{
    const struct local_apic *apic = ctx;
    return apic->tpr >> 4;
}

void local_apic_tpr_write(void *ctx, uint64_t value)
{
    struct local_apic *apic = ctx;
    apic->tpr = (uint32_t)(value & 15) << 4;
    update_intr(apic);
}

void local_apic_reset(struct local_apic *apic)
{
    const struct local_apic_config *config = &apic->config;
    init_reset(apic);
    apic->id = (uint32_t)config->id << 24;
    apic->base_msr = default_base | (config->bootstrap ? (uint64_t)APIC_BASE_BSP : 0) |
                     (config->absent ? 0 : (uint64_t)APIC_BASE_ENABLE);
    apic_bus_update_pages(apic->bus);
    update_intr(apic);
}

int local_apic_init(struct local_apic *apic, struct apic_bus *bus,
                    const struct local_apic_config *config, struct vd_error *err)
{
    if (bus->count == APIC_MAX_CPUS)
        return error_set(err, "more than %d processors", APIC_MAX_CPUS);
    memset(apic, 0, sizeof(*apic));
    apic->bus = bus;
    apic->config = *config;
    timer_init(&apic->timer, bus->config.timers, apic_timer_expired, apic);
    bus->apics[bus->count++] = apic;
    local_apic_reset(apic);
    return 0;
}
