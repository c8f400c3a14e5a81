/* Shared by local_apic.c (registers), local_apic_timer.c and apic_bus.c only. */
#ifndef VD_DEVICES_LOCAL_APIC_PRIVATE_H
#define VD_DEVICES_LOCAL_APIC_PRIVATE_H

#include "devices/local_apic.h"

enum { LVT_TIMER, LVT_THERMAL, LVT_PERFORMANCE, LVT_LINT0, LVT_LINT1, LVT_ERROR };
enum {
    LVT_VECTOR = 0xff,
    LVT_DELIVERY_SHIFT = 8,
    LVT_DELIVERY = 7 << LVT_DELIVERY_SHIFT,
    LVT_POLARITY = 1 << 13,
    LVT_REMOTE_IRR = 1 << 14,
    LVT_LEVEL = 1 << 15,
    LVT_MASKED = 1 << 16,
    LVT_TIMER_MODE_SHIFT = 17,
    LVT_TIMER_MODE = 3 << LVT_TIMER_MODE_SHIFT,
};
enum { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_TSC_DEADLINE };
enum { APIC_BASE_BSP = 1 << 8, APIC_BASE_EXTD = 1 << 10, APIC_BASE_ENABLE = 1 << 11 };
enum { SVR_ENABLE = 1 << 8 };
enum { /* ESR */
       ESR_SEND_ILLEGAL_VECTOR = 1 << 5,
       ESR_RECEIVED_ILLEGAL_VECTOR = 1 << 6,
       ESR_ILLEGAL_REGISTER = 1 << 7,
};

static inline bool apic_hardware_enabled(const struct local_apic *apic)
{
    return apic->base_msr & APIC_BASE_ENABLE;
}
static inline bool apic_software_enabled(const struct local_apic *apic)
{
    return apic->svr & SVR_ENABLE;
}

/* An interrupt message or local event reached this APIC. */
void apic_accept(struct local_apic *apic, enum apic_delivery delivery, uint8_t vector, bool level);
/* IRR: the vector has been requested and not been dispensed yet. */
bool apic_requested(const struct local_apic *apic, uint8_t vector);
/* Latches an error (ESR_*) and raises the error LVT. */
void apic_error(struct local_apic *apic, uint32_t bit);
/* Processor priority (SDM 11.8.3.1), 0..255. */
uint32_t apic_processor_priority(const struct local_apic *apic);
/* Maps the registers where the enabled APICs want them. */
void apic_bus_update_pages(struct apic_bus *bus);
/* Executes a write to the low half of the ICR. */
void apic_send_ipi(struct local_apic *apic);

void apic_timer_reset(struct local_apic *apic);
uint32_t apic_timer_current(const struct local_apic *apic);
void apic_timer_set_initial(struct local_apic *apic, uint32_t count);
void apic_timer_set_divide(struct local_apic *apic, uint32_t value);
/* The timer's LVT changed from old. */
void apic_timer_lvt_written(struct local_apic *apic, uint32_t old);
void apic_timer_expired(void *apic, uint64_t now);
/* A request was dispensed, maybe the one that a held back interrupt of the timer waits for. */
void apic_timer_acknowledged(struct local_apic *apic);

#endif
