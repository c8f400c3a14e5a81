/* PCI Local Bus Specification 2.3, chapter 6 and 3.2.2.3.2. */
#include "board_fixture.h"
#include "devices/pci.h"

enum { SLOT = 3 };

struct card {
    struct pci_device pci;
    uint8_t last_write;
    unsigned resets;
    unsigned moved_index;
    uint64_t moved_base;
};

struct rig {
    struct board board;
    struct pci_bus bus;
    struct card card;
    bool pirq[4];
    uint8_t reset_port;
    uint8_t *ram;
    uint8_t rom[4096];
};

static void set_pirq(void *ctx, unsigned pin, bool level)
{
    ((struct rig *)ctx)->pirq[pin] = level;
}

static uint64_t card_read(void *ctx, uint64_t offset, unsigned size)
{
    (void)ctx;
    (void)size;
    return 0xa0 + offset;
}

static void card_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    (void)offset;
    (void)size;
    ((struct card *)ctx)->last_write = (uint8_t)value;
}

static const struct io_ops card_ops = {
    .read = card_read, .write = card_write, .min_size = 1, .max_size = 1};

static void card_moved(void *ctx, unsigned index, uint64_t base)
{
    struct card *card = ctx;
    card->moved_index = index;
    card->moved_base = base;
}

static void card_reset(void *ctx)
{
    ((struct card *)ctx)->resets++;
}

static void init_card(struct rig *rig)
{
    static const struct pci_identity identity = {.vendor = 0x1234,
                                                 .device = 0x5678,
                                                 .subsystem_vendor = 0xabcd,
                                                 .subsystem = 0xef01,
                                                 .class_code = 0x030000,
                                                 .revision = 7,
                                                 .interrupt_pin = 2};
    static const struct pci_device_ops ops = {.bar_moved = card_moved, .reset = card_reset};
    struct card *card = &rig->card;
    struct vd_error err;
    pci_device_init(&card->pci, "card", &identity, &ops, card);
    struct pci_bar io = {.kind = PCI_BAR_IO, .size = 32, .ops = &card_ops, .ctx = card};
    struct pci_bar mmio = {.kind = PCI_BAR_MMIO, .size = 0x2000, .ops = &card_ops, .ctx = card};
    struct pci_bar ram = {.kind = PCI_BAR_RAM,
                          .is_64bit = true,
                          .prefetchable = true,
                          .size = 0x10000,
                          .host = rig->ram};
    struct pci_bar rom = {.kind = PCI_BAR_ROM, .size = 4096, .host = rig->rom};
    pci_device_set_bar(&card->pci, 0, &io);
    pci_device_set_bar(&card->pci, 1, &mmio);
    pci_device_set_bar(&card->pci, 2, &ram);
    pci_device_set_bar(&card->pci, PCI_ROM_BAR, &rom);
    assert_int_equal(pci_device_add(&rig->bus, &card->pci, SLOT, 0, &err), 0);
}

static uint8_t reset_port_read(void *ctx)
{
    return ((struct rig *)ctx)->reset_port;
}

static void reset_port_write(void *ctx, uint8_t value)
{
    ((struct rig *)ctx)->reset_port = value;
}

static int setup(void **state)
{
    static struct rig rig;
    struct vd_error err;
    memset(&rig, 0, sizeof(rig));
    board_create(&rig.board, 32 << 20);
    struct pci_bus_config config = {.as = rig.board.as,
                                    .memory = {0x80000000, 0xfec00000},
                                    .memory64 = {0x200000000, 0x300000000},
                                    .pirq = {.set = set_pirq, .ctx = &rig}};
    assert_int_equal(pci_bus_init(&rig.bus, &config, &err), 0);
    struct pci_reset_port port = {.ctx = &rig, .read = reset_port_read, .write = reset_port_write};
    pci_bus_set_reset_port(&rig.bus, &port);
    rig.ram = aligned_alloc(4096, 0x10000);
    memset(rig.ram, 0, 0x10000);
    memset(rig.rom, 0x5a, sizeof(rig.rom));
    init_card(&rig);
    *state = &rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    pci_bus_destroy(&rig->bus);
    board_destroy(&rig->board);
    free(rig->ram);
    return 0;
}

static uint32_t rd(struct rig *rig, unsigned offset, unsigned size)
{
    return config_read(&rig->board, SLOT, 0, offset, size);
}

static void wr(struct rig *rig, unsigned offset, uint32_t value, unsigned size)
{
    config_write(&rig->board, SLOT, 0, offset, value, size);
}

static void test_header(void **state)
{
    struct rig *rig = *state;
    assert_int_equal(rd(rig, 0x00, 4), 0x56781234);
    assert_int_equal(rd(rig, 0x02, 2), 0x5678);
    assert_int_equal(rd(rig, 0x01, 1), 0x12);
    assert_int_equal(rd(rig, 0x08, 4), 0x03000007);
    assert_int_equal(rd(rig, 0x2c, 4), 0xef01abcd);
    assert_int_equal(rd(rig, 0x3d, 1), 2);
    wr(rig, 0x00, 0, 4); /* identification is read-only */
    wr(rig, 0x08, 0, 4);
    assert_int_equal(rd(rig, 0x00, 4), 0x56781234);
    assert_int_equal(rd(rig, 0x08, 4), 0x03000007);
    wr(rig, 0x3c, 0xff, 4);
    assert_int_equal(rd(rig, 0x3c, 4), 0x2ff);
    wr(rig, 0x04, 0xffff, 2); /* reserved command bits stay 0 */
    assert_int_equal(rd(rig, 0x04, 2), 0x0547);
}

static void test_absent_functions_read_ones(void **state)
{
    struct rig *rig = *state;
    struct board *board = &rig->board;
    assert_int_equal(config_read(board, SLOT, 1, 0, 4), 0xffffffff);
    assert_int_equal(config_read(board, 9, 0, 0, 2), 0xffff);
    config_write(board, 9, 0, 4, 7, 2);
    out32(board, 0xcf8, 0x80010000 | SLOT << 11); /* bus 1 does not exist */
    assert_int_equal(in32(board, 0xcfc), 0xffffffff);
    out32(board, 0xcf8, SLOT << 11); /* enable bit clear */
    assert_int_equal(in32(board, 0xcfc), 0xffffffff);
}

static void test_config_address_wants_dwords(void **state)
{
    struct rig *rig = *state;
    struct board *board = &rig->board;
    out32(board, 0xcf8, 0x80001803);
    assert_int_equal(in32(board, 0xcf8), 0x80001800);
    out8(board, 0xcf8, 0x12);
    out16(board, 0xcf8, 0x1234);
    out8(board, 0xcf9, 0x06);
    assert_int_equal(in32(board, 0xcf8), 0x80001800);
    assert_int_equal(rig->reset_port, 0x06);
    assert_int_equal(in8(board, 0xcf9), 0x06);
}

static void test_bar_sizing(void **state)
{
    struct rig *rig = *state;
    for (unsigned offset = 0x10; offset <= 0x30; offset += 4)
        wr(rig, offset, 0xffffffff, 4);
    assert_int_equal(rd(rig, 0x10, 4), 0xffffffe1); /* I/O, 32 */
    assert_int_equal(rd(rig, 0x14, 4), 0xffffe000); /* memory, 8 KiB */
    assert_int_equal(rd(rig, 0x18, 4), 0xffff000c); /* 64-bit prefetchable, 64 KiB */
    assert_int_equal(rd(rig, 0x1c, 4), 0xffffffff);
    assert_int_equal(rd(rig, 0x20, 4), 0);
    assert_int_equal(rd(rig, 0x24, 4), 0);
    assert_int_equal(rd(rig, 0x30, 4), 0xfffff001);
    wr(rig, 0x04, 3, 2); /* sizing patterns are decoded nowhere */
    assert_int_equal(in8(&rig->board, 0xffe0), 0xff);
    for (unsigned i = 0; i <= PCI_ROM_BAR; i++)
        assert_null(rig->card.pci.bars[i].region);
}

static void test_decoding_follows_command_and_bars(void **state)
{
    struct rig *rig = *state;
    struct board *board = &rig->board;
    wr(rig, 0x10, 0xc000, 4);
    wr(rig, 0x14, 0x90000000, 4);
    assert_int_equal(in8(board, 0xc001), 0xff); /* decoding is off */
    wr(rig, 0x04, PCI_COMMAND_IO, 2);
    assert_int_equal(in8(board, 0xc001), 0xa1);
    assert_int_equal(mem_read32(board, 0x90000000), 0xffffffff);
    wr(rig, 0x04, PCI_COMMAND_IO | PCI_COMMAND_MEMORY, 2);
    assert_int_equal(mem_read32(board, 0x90000000), 0xa3a2a1a0);
    out8(board, 0xc000, 0x42);
    assert_int_equal(rig->card.last_write, 0x42);

    wr(rig, 0x12, 0, 2); /* a BAR moves byte by byte, too */
    wr(rig, 0x11, 0xd0, 1);
    assert_int_equal(in8(board, 0xc001), 0xff);
    assert_int_equal(in8(board, 0xd001), 0xa1);
    wr(rig, 0x04, PCI_COMMAND_MEMORY, 2);
    assert_int_equal(in8(board, 0xd001), 0xff);
}

static void test_device_ram_and_rom(void **state)
{
    struct rig *rig = *state;
    struct board *board = &rig->board;
    wr(rig, 0x18, 0x80010000, 4);
    wr(rig, 0x30, 0xa0000000, 4);
    wr(rig, 0x04, PCI_COMMAND_MEMORY, 2);
    assert_int_equal(rig->card.moved_index, 2);
    assert_int_equal(rig->card.moved_base, 0x80010000);
    mem_write32(board, 0x80010004, 0x11223344);
    assert_memory_equal(rig->ram + 4, "\x44\x33\x22\x11", 4);
    assert_int_equal(mem_read32(board, 0xa0000000), 0xffffffff); /* ROM not enabled */
    wr(rig, 0x30, 0xa0000001, 4);
    assert_int_equal(mem_read32(board, 0xa0000ffc), 0x5a5a5a5a);
    mem_write32(board, 0xa0000000, 0);
    assert_int_equal(mem_read32(board, 0xa0000000), 0x5a5a5a5a);

    wr(rig, 0x1c, 2, 4); /* to 2_8001_0000h, inside the window above 4 GiB */
    assert_int_equal(mem_read32(board, 0x80010004), 0xffffffff);
    assert_int_equal(mem_read32(board, 0x280010004), 0x11223344);
}

static void test_bars_cannot_hide_other_things(void **state)
{
    struct rig *rig = *state;
    struct board *board = &rig->board;
    mem_write32(board, 0x100000, 0xcafebabe);
    wr(rig, 0x14, 0x00100000, 4); /* over RAM */
    wr(rig, 0x04, 3, 2);
    assert_int_equal(mem_read32(board, 0x100000), 0xcafebabe);
    wr(rig, 0x14, 0xfebff000 & ~0x1fffu, 4);
    assert_int_equal(mem_read32(board, 0xfebfe000), 0xa3a2a1a0);
    wr(rig, 0x14, 0xfec00000, 4); /* outside the window */
    assert_null(rig->card.pci.bars[1].region);
    wr(rig, 0x10, 0xcc0, 4);
    assert_int_equal(in8(board, 0xcc1), 0xa1);
    wr(rig, 0x10, 0xce0, 4); /* would cover the configuration ports */
    assert_null(rig->card.pci.bars[0].region);
    assert_int_equal(rd(rig, 0x00, 4), 0x56781234);
    wr(rig, 0x10, 0x10000, 4); /* beyond 64 KiB */
    assert_null(rig->card.pci.bars[0].region);
    wr(rig, 0x10, 0, 4);
    assert_null(rig->card.pci.bars[0].region);
    /* Overlapping a claimed range: no answer, and it works again elsewhere. */
    struct vd_error err;
    struct io_region *other = as_map_pio(board->as, 0x1000, 8, &card_ops, rig, "other", &err);
    assert_non_null(other);
    wr(rig, 0x10, 0x1000, 4);
    assert_null(rig->card.pci.bars[0].region);
    wr(rig, 0x10, 0x1020, 4);
    assert_non_null(rig->card.pci.bars[0].region);
}

static void test_interrupt_pin_routing(void **state)
{
    struct rig *rig = *state;
    struct pci_device *pci = &rig->card.pci;
    unsigned line = (SLOT - 1 + 1) & 3; /* INTB# of slot 3 */
    pci_device_set_irq(pci, true);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(rig->pirq[i], i == line);
    assert_true(rd(rig, 0x06, 2) & PCI_STATUS_INTX);
    wr(rig, 0x04, PCI_COMMAND_INTX_OFF, 2);
    assert_false(rig->pirq[line]);
    assert_true(rd(rig, 0x06, 2) & PCI_STATUS_INTX); /* status shows it all the same */
    wr(rig, 0x04, 0, 2);
    assert_true(rig->pirq[line]);
    pci_device_set_irq(pci, false);
    assert_false(rig->pirq[line]);
    assert_false(rd(rig, 0x06, 2) & PCI_STATUS_INTX);
}

static void test_shared_interrupt_line(void **state)
{
    struct rig *rig = *state;
    static struct pci_device second;
    static const struct pci_identity identity = {.vendor = 1, .device = 2, .interrupt_pin = 2};
    struct vd_error err;
    pci_device_init(&second, "second", &identity, NULL, NULL);
    assert_int_equal(pci_device_add(&rig->bus, &second, SLOT, 0, &err), -1);
    assert_int_equal(pci_device_add(&rig->bus, &second, SLOT + 4, 0, &err), 0);
    unsigned line = pci_pirq_of(SLOT, 2);
    pci_device_set_irq(&second, true);
    pci_device_set_irq(&rig->card.pci, true);
    pci_device_set_irq(&second, false);
    assert_true(rig->pirq[line]);
    pci_device_set_irq(&rig->card.pci, false);
    assert_false(rig->pirq[line]);
}

static void test_bus_master_enable(void **state)
{
    struct rig *rig = *state;
    uint32_t value = 0x12345678;
    assert_false(pci_dma_write(&rig->card.pci, 0x2000, &value, 4));
    assert_int_equal(mem_read32(&rig->board, 0x2000), 0);
    wr(rig, 0x04, PCI_COMMAND_MASTER, 2);
    assert_true(pci_dma_write(&rig->card.pci, 0x2000, &value, 4));
    value = 0;
    assert_true(pci_dma_read(&rig->card.pci, 0x2000, &value, 4));
    assert_int_equal(value, 0x12345678);
}

static void test_reset(void **state)
{
    struct rig *rig = *state;
    wr(rig, 0x10, 0xc000, 4);
    wr(rig, 0x04, 7, 2);
    wr(rig, 0x3c, 11, 1);
    pci_device_set_irq(&rig->card.pci, true);
    pci_bus_reset(&rig->bus);
    assert_int_equal(rig->card.resets, 1);
    assert_int_equal(in8(&rig->board, 0xc001), 0xff);
    assert_int_equal(in32(&rig->board, 0xcf8), 0);
    assert_int_equal(rd(rig, 0x04, 2), 0);
    assert_int_equal(rd(rig, 0x10, 4), 1);
    assert_int_equal(rd(rig, 0x3c, 1), 0);
    assert_false(rig->pirq[pci_pirq_of(SLOT, 2)]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_header, setup, teardown),
        cmocka_unit_test_setup_teardown(test_absent_functions_read_ones, setup, teardown),
        cmocka_unit_test_setup_teardown(test_config_address_wants_dwords, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bar_sizing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_decoding_follows_command_and_bars, setup, teardown),
        cmocka_unit_test_setup_teardown(test_device_ram_and_rom, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bars_cannot_hide_other_things, setup, teardown),
        cmocka_unit_test_setup_teardown(test_interrupt_pin_routing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shared_interrupt_line, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bus_master_enable, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
