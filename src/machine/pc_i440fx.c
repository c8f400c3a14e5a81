/*
 * The board: 440FX host bridge, PIIX3 ISA bridge, PIIX4 power management, standard VGA.
 *
 *   PCI 00:00.0  i440fx      00:01.0  piix3      00:01.3  piix4 pm      00:02.0  vga
 *
 * RAM below 4 GiB ends at C0000000h at the latest; the PCI memory window follows, up to the I/O
 * APIC at FEC00000h; the BIOS ends at 4 GiB. PCI interrupts are steered to ISA IRQs by PIIX3 and so
 * reach the 8259s and the I/O APIC pins of the same numbers. IRQ 0 is on I/O APIC pin 2, the 8259s'
 * INTR on pin 0 and on LINT0 of the bootstrap processor.
 */
#include "machine/pc.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "machine/acpi_tables.h"
#include "machine/firmware.h"

enum { SLOT_ISA = 1, SLOT_VGA = 2, FUNCTION_PM = 3 };
enum {
    IRQ_TIMER = 0,
    IRQ_KEYBOARD = 1,
    IRQ_CASCADE = 2,
    IRQ_RTC = 8,
    IRQ_MOUSE = 12,
    IRQ_FPU = 13,
    ISA_IRQ_COUNT = 16
};
enum { IOAPIC_PIN_INTR = 0, IOAPIC_PIN_TIMER = 2, IOAPIC_ID = 0 };
enum { VRAM_SIZE = 16 << 20, CPU_COUNT = 1 };
enum { FW_CFG_PORT = 0x510 };
static const uint64_t low_ram_max = 0xc0000000, pci_hole_min = 0x80000000, four_gib = 1ull << 32;
static const uint64_t apic_timer_hz = 1000000000;

/* --- interrupts --- */

static void apply_irq(struct pc *pc, unsigned irq)
{
    bool level = (pc->isa_levels | pc->pirq_levels | pc->test_levels) >> irq & 1;
    i8259_set_irq(&pc->pic, irq, level);
    if (irq != IRQ_CASCADE)
        ioapic_set_pin(&pc->ioapic, irq == IRQ_TIMER ? IOAPIC_PIN_TIMER : irq, level);
}

static void set_level(uint16_t *levels, unsigned irq, bool level)
{
    *levels = (uint16_t)(level ? *levels | 1u << irq : *levels & ~(1u << irq));
}

static void set_isa_irq(void *ctx, unsigned irq, bool level)
{
    struct pc *pc = ctx;
    set_level(&pc->isa_levels, irq, level);
    apply_irq(pc, irq);
}

static void set_steered_irq(void *ctx, unsigned irq, bool level)
{
    struct pc *pc = ctx;
    set_level(&pc->pirq_levels, irq, level);
    apply_irq(pc, irq);
}

/* Lines above the ISA IRQs lead to the I/O APIC only; the cascade leads nowhere. */
static void set_test_line(void *ctx, unsigned line, bool level)
{
    struct pc *pc = ctx;
    if (line >= ISA_IRQ_COUNT) {
        ioapic_set_pin(&pc->ioapic, line, level);
    } else if (line != IRQ_CASCADE) {
        set_level(&pc->test_levels, line, level);
        apply_irq(pc, line);
    }
}

static void set_intr(void *ctx, unsigned pin, bool level)
{
    struct pc *pc = ctx;
    (void)pin;
    local_apic_set_lint(&pc->apic, 0, level);
    ioapic_set_pin(&pc->ioapic, IOAPIC_PIN_INTR, level);
}

static struct irq_line isa_irq(struct pc *pc, unsigned irq)
{
    return (struct irq_line){.set = set_isa_irq, .ctx = pc, .pin = irq};
}

static bool timer_edge_waits(void *ctx)
{
    const struct pc *pc = ctx;
    return i8259_edge_waits(&pc->pic, IRQ_TIMER) ||
           ioapic_edge_waits(&pc->ioapic, IOAPIC_PIN_TIMER);
}

static int pic_ack(void *ctx)
{
    struct pc *pc = ctx;
    return i8259_ack(&pc->pic);
}

static void raise_interrupt(void *ctx)
{
    struct pc *pc = ctx;
    pc->host.interrupt(pc->host.ctx);
}

static void raise_nmi(void *ctx)
{
    struct pc *pc = ctx;
    pc->host.nmi(pc->host.ctx);
}

/* --- resets, A20, FERR# --- */

static void reset_cpu(void *ctx)
{
    struct pc *pc = ctx;
    pc->host.reset(pc->host.ctx, false);
}

/* The INIT# pin, which resets the local APIC along with the processor. */
static void pull_init(void *ctx)
{
    struct pc *pc = ctx;
    local_apic_signal_init(&pc->apic);
}

static void reset_by_pci(void *ctx, bool hard)
{
    struct pc *pc = ctx;
    if (hard)
        pc->host.reset(pc->host.ctx, true);
    else
        pull_init(pc);
}

static void power_off(void *ctx)
{
    struct pc *pc = ctx;
    pc->host.power_off(pc->host.ctx);
}

static void debug_exit(void *ctx, uint32_t code)
{
    struct pc *pc = ctx;
    pc->host.debug_exit(pc->host.ctx, code);
}

/* Keyboard controller and port 92h: the last one to change its gate wins. */
static void set_a20(void *ctx, bool enabled)
{
    struct pc *pc = ctx;
    as_set_a20(pc->as, enabled);
}

/*
 * Port F0h clears the coprocessor error interrupt and, while FERR# is asserted, asserts IGNNE#
 * until FERR# is negated (PIIX3 data sheet, 2.5.6).
 */
static uint64_t coprocessor_read(void *ctx, uint64_t offset, unsigned size)
{
    (void)ctx;
    (void)offset;
    (void)size;
    return 0xff;
}

static void coprocessor_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct pc *pc = ctx;
    (void)value;
    (void)size;
    if (offset != 0)
        return;
    set_isa_irq(pc, IRQ_FPU, false);
    pc->ignne = pc->ferr;
}

static const struct io_ops coprocessor_ops = {
    .read = coprocessor_read, .write = coprocessor_write, .min_size = 1, .max_size = 1};

/* --- wiring --- */

uint64_t pc_memory_end(uint64_t ram_size)
{
    return ram_size > low_ram_max ? four_gib + ram_size - low_ram_max : ram_size;
}

static int create_memory(struct pc *pc, const struct machine_config *config, struct vd_error *err)
{
    if (cpuid_model_init(&pc->cpuid, config->cpu_model, err) < 0)
        return -1;
    vclock_init(&pc->clock);
    vclock_pause(&pc->clock);
    timer_queue_init(&pc->timers, &pc->clock);
    pc->cpuid.tsc_hz = pc->clock.tsc_hz;
    pc->cpuid.apic_hz = apic_timer_hz;
    pc->cpuid.cpu_count = CPU_COUNT;
    if (as_create(&pc->as, config->ram_size, low_ram_max, err) < 0)
        return -1;
    return firmware_map_bios(pc->as, config->firmware, err);
}

static uint64_t low_ram_end(const struct pc *pc)
{
    uint64_t ram = as_ram_size(pc->as);
    return ram < low_ram_max ? ram : low_ram_max;
}

/* The windows SeaBIOS assumes: from 2 or 3 GiB, above RAM, to the I/O APIC. */
static uint64_t pci_hole_start(const struct pc *pc)
{
    return low_ram_end(pc) <= pci_hole_min ? pci_hole_min : low_ram_max;
}

static int add_apics(struct pc *pc, struct vd_error *err)
{
    bool absent = !cpuid_has(&pc->cpuid, FEAT_APIC);
    struct apic_bus_config bus = {.as = pc->as,
                                  .timers = &pc->timers,
                                  .timer_hz = apic_timer_hz,
                                  .phys_bits = pc->cpuid.phys_bits,
                                  .ctx = &pc->ioapic,
                                  .eoi = ioapic_end_of_interrupt};
    struct local_apic_config cpu = {.bootstrap = true,
                                    .absent = absent,
                                    .ctx = pc,
                                    .interrupt = raise_interrupt,
                                    .nmi = raise_nmi,
                                    .init = reset_cpu,
                                    .pic_ack = pic_ack};
    apic_bus_init(&pc->apic_bus, &bus);
    if (local_apic_init(&pc->apic, &pc->apic_bus, &cpu, err) < 0)
        return -1;
    return ioapic_init(&pc->ioapic, &pc->apic_bus, IOAPIC_DEFAULT_BASE, IOAPIC_ID, err);
}

static int add_pci(struct pc *pc, const struct machine_config *config, struct vd_error *err)
{
    uint64_t top =
        as_ram_size(pc->as) > low_ram_max ? four_gib + as_ram_size(pc->as) - low_ram_max : four_gib;
    uint64_t end = 1ull << pc->cpuid.phys_bits;
    struct pci_bus_config bus = {.as = pc->as,
                                 .memory = {low_ram_end(pc), IOAPIC_DEFAULT_BASE},
                                 .memory64 = {top, end > top ? end : top},
                                 .pirq = {.set = piix3_set_pirq, .ctx = &pc->piix3}};
    struct piix3_config isa = {
        .irq = {.set = set_steered_irq, .ctx = pc}, .ctx = pc, .reset = reset_by_pci};
    struct piix4_pm_config pm = {
        .sci = isa_irq(pc, ACPI_SCI_IRQ), .timers = &pc->timers, .ctx = pc, .power_off = power_off};
    struct vga_config vga = {.as = pc->as, .clock = &pc->clock, .vram_size = VRAM_SIZE};
    uint8_t *rom;
    size_t rom_size;

    if (pci_bus_init(&pc->pci, &bus, err) < 0 || i440fx_init(&pc->i440fx, &pc->pci, err) < 0 ||
        piix3_init(&pc->piix3, &pc->pci, SLOT_ISA, &isa, err) < 0 ||
        piix4_pm_init(&pc->pm, &pc->pci, SLOT_ISA, FUNCTION_PM, &pm, err) < 0 ||
        vga_create(&pc->vga, &vga, err) < 0 ||
        firmware_load_vga_bios(config->vga_bios, &rom, &rom_size, err) < 0)
        return -1;
    int rc = vga_pci_init(&pc->vga_pci, pc->vga, &pc->pci, SLOT_VGA, rom, rom_size, err);
    free(rom);
    return rc;
}

static void init_isa_devices(struct pc *pc, const struct machine_config *config)
{
    struct i8259_config pic = {.intr = {.set = set_intr, .ctx = pc}, .ignore_ltim = true};
    struct i8254_config pit = {.irq = isa_irq(pc, IRQ_TIMER),
                               .edge_waits = timer_edge_waits,
                               .ctx = pc,
                               .timers = &pc->timers,
                               .clock = &pc->clock};
    struct mc146818_config rtc = {.irq = isa_irq(pc, IRQ_RTC),
                                  .timers = &pc->timers,
                                  .clock = &pc->clock,
                                  .start_time = (int64_t)time(NULL)};
    struct i8042_config kbc = {.keyboard_irq = isa_irq(pc, IRQ_KEYBOARD),
                               .mouse_irq = isa_irq(pc, IRQ_MOUSE),
                               .timers = &pc->timers,
                               .clock = &pc->clock,
                               .ctx = pc,
                               .set_a20 = set_a20,
                               .reset_cpu = pull_init};
    struct port92_config port92 = {.ctx = pc, .set_a20 = set_a20, .reset_cpu = pull_init};
    static const unsigned serial_irqs[MACHINE_SERIAL_COUNT] = {4, 3};

    i8259_init(&pc->pic, &pic);
    i8254_init(&pc->pit, &pit);
    mc146818_init(&pc->rtc, &rtc);
    pc_fill_cmos(&pc->rtc, pc->as, CPU_COUNT);
    i8042_init(&pc->kbc, &kbc);
    port92_init(&pc->port92, &port92);
    i8237_init(&pc->dma, pc->as);
    for (unsigned i = 0; i < MACHINE_SERIAL_COUNT; i++) {
        struct uart16550_config serial = {.irq = isa_irq(pc, serial_irqs[i]),
                                          .timers = &pc->timers,
                                          .clock = &pc->clock,
                                          .chardev = config->serial[i],
                                          .lock = as_lock(pc->as)};
        uart16550_init(&pc->serial[i], &serial);
    }
    debugcon_init(&pc->debugcon, config->debugcon);
    post_card_init(&pc->post_card, config->post_card, &i8237_page_ops, &pc->dma);
    isa_debug_exit_init(&pc->debug_exit, debug_exit, pc);
}

static int map_isa_ports(struct pc *pc, const struct machine_config *config, struct vd_error *err)
{
    bool post_card = config->post_card != NULL;
    const struct {
        uint16_t port, count;
        const struct io_ops *ops;
        void *ctx;
        const char *name;
        bool absent;
    } ranges[] = {
        {0x00, 16, &i8237_low_ops, &pc->dma, "dma", false},
        {0x20, 2, &i8259_master_ops, &pc->pic, "pic", false},
        {0x40, 4, &i8254_ops, &pc->pit, "pit", false},
        {0x60, 1, &i8042_data_ops, &pc->kbc, "keyboard", false},
        {0x61, 1, &i8254_port61_ops, &pc->pit, "port61", false},
        {0x64, 1, &i8042_command_ops, &pc->kbc, "keyboard", false},
        {0x70, 2, &mc146818_ops, &pc->rtc, "rtc", false},
        {0x80, 16, &i8237_page_ops, &pc->dma, "dma-page", post_card},
        {0x80, 16, &post_card_80_ops, &pc->post_card, "dma-page", !post_card},
        {0x92, 1, &port92_ops, &pc->port92, "port92", false},
        {0xa0, 2, &i8259_slave_ops, &pc->pic, "pic", false},
        {0xc0, 32, &i8237_high_ops, &pc->dma, "dma", false},
        {0xf0, 2, &coprocessor_ops, pc, "coprocessor", false},
        {0x2f8, 8, &uart16550_ops, &pc->serial[1], "serial", false},
        {0x3f8, 8, &uart16550_ops, &pc->serial[0], "serial", false},
        {0x4d0, 2, &i8259_elcr_ops, &pc->pic, "elcr", false},
        {POST_CARD_PORT, 1, &post_card_190_ops, &pc->post_card, "post-card", !post_card},
        {config->debugcon_port, 1, &debugcon_ops, &pc->debugcon, "debugcon", !config->debugcon},
        {config->debug_exit_port, 4, &isa_debug_exit_ops, &pc->debug_exit, "isa-debug-exit",
         !config->debug_exit_port},
    };
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        if (!ranges[i].absent && !as_map_pio(pc->as, ranges[i].port, ranges[i].count, ranges[i].ops,
                                             ranges[i].ctx, ranges[i].name, err))
            return -1;
    }
    return 0;
}

static int add_test_device(struct pc *pc, struct vd_error *err)
{
    struct irq_line lines = {.set = set_test_line, .ctx = pc};
    pc->test_device = malloc(sizeof(*pc->test_device));
    if (!pc->test_device)
        return error_set(err, "no memory for the test device");
    return test_device_init(pc->test_device, pc->as, lines, err);
}

/* {u64 address, u64 length, u32 type} of the RAM, as INT 15h E820h counts it. */
static int add_e820(struct pc *pc, struct vd_error *err)
{
    enum { ENTRY_SIZE = 20, TYPE_RAM = 1 };
    uint64_t low = low_ram_end(pc), high = as_ram_size(pc->as) - low;
    const uint64_t ranges[2][2] = {{0, low}, {four_gib, high}};
    uint8_t table[2 * ENTRY_SIZE] = {0};
    unsigned count = high ? 2 : 1;
    for (unsigned i = 0; i < count; i++) {
        for (unsigned byte = 0; byte < 8; byte++) {
            table[i * ENTRY_SIZE + byte] = (uint8_t)(ranges[i][0] >> (8 * byte));
            table[i * ENTRY_SIZE + 8 + byte] = (uint8_t)(ranges[i][1] >> (8 * byte));
        }
        table[i * ENTRY_SIZE + 16] = TYPE_RAM;
    }
    return fw_cfg_add_file(&pc->fw_cfg, "etc/e820", table, count * ENTRY_SIZE, err);
}

static int add_fw_cfg(struct pc *pc, const struct machine_config *config, struct vd_error *err)
{
    struct fw_cfg *fw = &pc->fw_cfg;
    uint64_t ram = as_ram_size(pc->as);
    uint8_t yes = 1;
    struct acpi_config acpi = {.cpu_count = CPU_COUNT,
                               .has_apic = cpuid_has(&pc->cpuid, FEAT_APIC),
                               .pci_start = (uint32_t)pci_hole_start(pc),
                               .pci_end = IOAPIC_DEFAULT_BASE - 1,
                               .pm_base = ACPI_PM_BASE,
                               .smb_base = ACPI_SMB_BASE,
                               .serial_ports = MACHINE_SERIAL_COUNT};
    if (fw_cfg_init(fw, pc->as, FW_CFG_PORT, err) < 0 ||
        fw_cfg_add(fw, FW_CFG_RAM_SIZE, &ram, sizeof(ram), err) < 0 ||
        fw_cfg_add_u16(fw, FW_CFG_NB_CPUS, CPU_COUNT, err) < 0 ||
        fw_cfg_add_u16(fw, FW_CFG_MAX_CPUS, CPU_COUNT, err) < 0 ||
        fw_cfg_add_u16(fw, FW_CFG_NOGRAPHIC, 0, err) < 0 ||
        fw_cfg_add_u16(fw, FW_CFG_BOOT_MENU, 0, err) < 0 ||
        fw_cfg_add(fw, FW_CFG_IRQ0_OVERRIDE, &yes, sizeof(yes), err) < 0 || add_e820(pc, err) < 0 ||
        acpi_tables_add(fw, &acpi, err) < 0)
        return -1;
    if (!config->kernel)
        return 0;
    struct kernel_config boot = {.kernel = config->kernel,
                                 .initrd = config->initrd,
                                 .cmdline = config->append,
                                 .ram_end = low_ram_end(pc)};
    if (kernel_boot_open(&pc->kernel_boot, &boot, err) < 0)
        return -1;
    return kernel_boot_add(&pc->kernel_boot, fw, pc->as, err);
}

int pc_init(struct pc *pc, const struct machine_config *config, const struct pc_host *host,
            struct vd_error *err)
{
    memset(pc, 0, sizeof(*pc));
    pc->host = *host;
    if (create_memory(pc, config, err) < 0)
        return -1;
    /* Interrupt lines lead from device to controller to processor: build from the far end. */
    if (add_apics(pc, err) < 0)
        return -1;
    init_isa_devices(pc, config);
    if (map_isa_ports(pc, config, err) < 0 || add_pci(pc, config, err) < 0 ||
        add_fw_cfg(pc, config, err) < 0 || (config->test_device && add_test_device(pc, err) < 0))
        return -1;
    pthread_mutex_lock(as_lock(pc->as));
    pc_reset(pc);
    pthread_mutex_unlock(as_lock(pc->as));
    if (config->display) {
        struct display_source source;
        vga_display_source(pc->vga, &source);
        source.lock = as_lock(pc->as);
        display_set_source(config->display, &source);
    }
    return 0;
}

void pc_reset(struct pc *pc)
{
    /* Devices first, so that the lines they let go of find their controllers; then those. */
    pci_bus_reset(&pc->pci);
    i8254_reset(&pc->pit);
    mc146818_reset(&pc->rtc);
    i8042_reset(&pc->kbc);
    port92_reset(&pc->port92);
    i8237_reset(&pc->dma);
    for (unsigned i = 0; i < MACHINE_SERIAL_COUNT; i++)
        uart16550_reset(&pc->serial[i]);
    set_isa_irq(pc, IRQ_FPU, false);
    pc->ferr = pc->ignne = false;
    if (pc->test_device)
        test_device_reset(pc->test_device);
    fw_cfg_reset(&pc->fw_cfg);
    i8259_reset(&pc->pic);
    ioapic_reset(&pc->ioapic);
    local_apic_reset(&pc->apic);
    as_set_a20(pc->as, true); /* the reset vector must be reachable */
}

void pc_destroy(struct pc *pc)
{
    if (pc->as) {
        fw_cfg_destroy(&pc->fw_cfg);
        piix4_pm_destroy(&pc->pm);
        if (pc->pci.ports)
            pci_bus_destroy(&pc->pci);
        vga_pci_free(&pc->vga_pci);
        if (pc->vga)
            vga_destroy(pc->vga);
        ioapic_destroy(&pc->ioapic);
        apic_bus_destroy(&pc->apic_bus);
        as_destroy(pc->as);
    }
    free(pc->test_device);
    kernel_boot_close(&pc->kernel_boot);
    timer_queue_free(&pc->timers);
    memset(pc, 0, sizeof(*pc));
}

/* --- the processor's view --- */

static uint64_t platform_pio_read(void *ctx, uint16_t port, unsigned size)
{
    return as_pio_read(((struct pc *)ctx)->as, port, size);
}

static void platform_pio_write(void *ctx, uint16_t port, uint64_t value, unsigned size)
{
    as_pio_write(((struct pc *)ctx)->as, port, value, size);
}

static bool platform_intr_pending(void *ctx)
{
    return local_apic_intr_pending(&((struct pc *)ctx)->apic);
}

static int platform_intr_ack(void *ctx)
{
    struct pc *pc = ctx;
    pthread_mutex_lock(as_lock(pc->as));
    int vector = local_apic_intr_ack(&pc->apic);
    i8254_edge_taken(&pc->pit);
    pthread_mutex_unlock(as_lock(pc->as));
    return vector;
}

static uint64_t platform_apic_base_read(void *ctx)
{
    return local_apic_base_read(&((struct pc *)ctx)->apic);
}

static int platform_apic_base_write(void *ctx, uint64_t value)
{
    struct pc *pc = ctx;
    pthread_mutex_lock(as_lock(pc->as));
    int rc = local_apic_base_write(&pc->apic, value);
    pthread_mutex_unlock(as_lock(pc->as));
    return rc;
}

static uint64_t platform_tpr_read(void *ctx)
{
    return local_apic_tpr_read(&((struct pc *)ctx)->apic);
}

static void platform_tpr_write(void *ctx, uint64_t value)
{
    struct pc *pc = ctx;
    pthread_mutex_lock(as_lock(pc->as));
    local_apic_tpr_write(&pc->apic, value);
    pthread_mutex_unlock(as_lock(pc->as));
}

static uint64_t platform_tsc_read(void *ctx)
{
    return vclock_tsc(&((struct pc *)ctx)->clock);
}

static int platform_tsc_deadline(void *ctx, bool write, uint64_t *value)
{
    struct pc *pc = ctx;
    pthread_mutex_lock(as_lock(pc->as));
    int rc = local_apic_tsc_deadline(&pc->apic, write, value);
    pthread_mutex_unlock(as_lock(pc->as));
    return rc;
}

static void platform_ferr_set(void *ctx, bool level)
{
    struct pc *pc = ctx;
    pthread_mutex_lock(as_lock(pc->as));
    pc->ferr = level;
    pc->ignne = false;
    if (level) /* stays until port F0h is written */
        set_isa_irq(pc, IRQ_FPU, true);
    pthread_mutex_unlock(as_lock(pc->as));
}

static bool platform_ignne(void *ctx)
{
    return ((struct pc *)ctx)->ignne;
}

void pc_platform(struct pc *pc, struct x86_platform *platform)
{
    *platform = (struct x86_platform){.ctx = pc,
                                      .pio_read = platform_pio_read,
                                      .pio_write = platform_pio_write,
                                      .intr_pending = platform_intr_pending,
                                      .intr_ack = platform_intr_ack,
                                      .apic_base_read = platform_apic_base_read,
                                      .apic_base_write = platform_apic_base_write,
                                      .tpr_read = platform_tpr_read,
                                      .tpr_write = platform_tpr_write,
                                      .tsc_read = platform_tsc_read,
                                      .tsc_deadline = platform_tsc_deadline,
                                      .ferr_set = platform_ferr_set,
                                      .ignne = platform_ignne};
}
