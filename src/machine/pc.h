/* The board's inside, shared by pc_i440fx.c, pc_cmos.c and machine.c. */
#ifndef VD_MACHINE_PC_H
#define VD_MACHINE_PC_H

#include "cpu/cpu.h"
#include "devices/debugcon.h"
#include "devices/fw_cfg.h"
#include "devices/i440fx.h"
#include "devices/i8042.h"
#include "devices/i8237.h"
#include "devices/i8254.h"
#include "devices/i8259.h"
#include "devices/ioapic.h"
#include "devices/isa_debug_exit.h"
#include "devices/local_apic.h"
#include "devices/mc146818.h"
#include "devices/pci.h"
#include "devices/piix3.h"
#include "devices/piix4_pm.h"
#include "devices/port92.h"
#include "devices/post_card.h"
#include "devices/test_device.h"
#include "devices/uart16550.h"
#include "devices/vga.h"
#include "devices/vga_pci.h"
#include "machine/kernel_boot.h"
#include "machine/machine.h"
#include "sched/clock.h"
#include "sched/timer.h"

/* What the board asks of the machine; all called with the machine lock held. */
struct pc_host {
    void *ctx;
    void (*interrupt)(void *ctx);        /* INTR of the processor rose */
    void (*nmi)(void *ctx);              /* edge on NMI */
    void (*reset)(void *ctx, bool hard); /* whole machine, or INIT of the processor */
    void (*power_off)(void *ctx);
    void (*debug_exit)(void *ctx, uint32_t code);
};

struct pc {
    struct pc_host host;
    struct address_space *as;
    struct vclock clock;
    struct timer_queue timers;
    struct cpuid_model cpuid;

    struct apic_bus apic_bus;
    struct local_apic apic;
    struct ioapic ioapic;
    struct i8259_pair pic;
    struct i8254 pit;
    struct mc146818 rtc;
    struct i8042 kbc;
    struct port92 port92;
    struct i8237 dma;
    struct uart16550 serial[MACHINE_SERIAL_COUNT];
    struct debugcon debugcon;
    struct post_card post_card;
    struct isa_debug_exit debug_exit;
    struct test_device *test_device; /* NULL: absent */
    struct fw_cfg fw_cfg;

    struct pci_bus pci;
    struct i440fx i440fx;
    struct piix3 piix3;
    struct piix4_pm pm;
    struct vga *vga;
    struct vga_pci vga_pci;

    struct kernel_boot kernel_boot;

    /* Levels of the ISA IRQs: an ISA device's, a PCI interrupt's steered there, a test kernel's. */
    uint16_t isa_levels, pirq_levels, test_levels;
    bool ferr, ignne; /* the processor's pins; the vCPU thread's only */
};

/* The address behind the last byte of so many bytes of RAM. */
uint64_t pc_memory_end(uint64_t ram_size);
/* Builds the board and leaves it in reset state. On failure pc_destroy cleans up what exists. */
int pc_init(struct pc *pc, const struct machine_config *config, const struct pc_host *host,
            struct vd_error *err);
void pc_destroy(struct pc *pc);
/* Resets every device; RAM stays. Machine lock held, processor not running. */
void pc_reset(struct pc *pc);
/* Fills the processor's view of the board. */
void pc_platform(struct pc *pc, struct x86_platform *platform);

/* CMOS contents that firmware reads: memory sizes, equipment, boot order (pc_cmos.c). */
void pc_fill_cmos(struct mc146818 *rtc, const struct address_space *as, unsigned cpu_count);

#endif
