/* 82371SB data sheet 290550: PIRQ route control and the reset control register. */
#include "board_fixture.h"
#include "devices/piix3.h"

struct rig {
    struct board board;
    struct pci_bus bus;
    struct piix3 bridge;
    uint16_t irqs;
    unsigned hard, soft;
};

static void set_irq(void *ctx, unsigned pin, bool level)
{
    struct rig *rig = ctx;
    rig->irqs = (uint16_t)(level ? rig->irqs | 1u << pin : rig->irqs & ~(1u << pin));
}

static void on_reset(void *ctx, bool hard)
{
    struct rig *rig = ctx;
    if (hard)
        rig->hard++;
    else
        rig->soft++;
}

static int setup(void **state)
{
    static struct rig rig;
    struct vd_error err;
    memset(&rig, 0, sizeof(rig));
    board_create(&rig.board, 1 << 20);
    struct pci_bus_config config = {.as = rig.board.as,
                                    .pirq = {.set = piix3_set_pirq, .ctx = &rig.bridge}};
    struct piix3_config bridge = {
        .irq = {.set = set_irq, .ctx = &rig}, .ctx = &rig, .reset = on_reset};
    assert_int_equal(pci_bus_init(&rig.bus, &config, &err), 0);
    assert_int_equal(piix3_init(&rig.bridge, &rig.bus, 1, &bridge, &err), 0);
    *state = &rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    pci_bus_destroy(&rig->bus);
    board_destroy(&rig->board);
    return 0;
}

static void test_identity(void **state)
{
    struct rig *rig = *state;
    assert_int_equal(config_read(&rig->board, 1, 0, 0x00, 4), 0x70008086);
    assert_int_equal(config_read(&rig->board, 1, 0, 0x0a, 2), 0x0601);
    assert_int_equal(config_read(&rig->board, 1, 0, 0x0e, 1), 0x80);
    assert_int_equal(config_read(&rig->board, 1, 0, 0x04, 2), 0x0007);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(config_read(&rig->board, 1, 0, 0x60 + i, 1), 0x80);
}

static void test_pirq_routing(void **state)
{
    struct rig *rig = *state;
    struct board *board = &rig->board;
    piix3_set_pirq(&rig->bridge, 0, true);
    assert_int_equal(rig->irqs, 0); /* routing is disabled out of reset */
    config_write(board, 1, 0, 0x60, 0x0b0a, 2);
    assert_int_equal(rig->irqs, 1 << 10);
    piix3_set_pirq(&rig->bridge, 1, true);
    assert_int_equal(rig->irqs, 1 << 10 | 1 << 11);
    config_write(board, 1, 0, 0x60, 0x0b, 1); /* both on IRQ 11: shared */
    assert_int_equal(rig->irqs, 1 << 11);
    piix3_set_pirq(&rig->bridge, 0, false);
    assert_int_equal(rig->irqs, 1 << 11);
    piix3_set_pirq(&rig->bridge, 1, false);
    assert_int_equal(rig->irqs, 0);
}

static void test_reserved_irqs(void **state)
{
    struct rig *rig = *state;
    piix3_set_pirq(&rig->bridge, 2, true);
    for (unsigned irq = 0; irq < 16; irq++) {
        bool reserved = irq < 3 || irq == 8 || irq == 13;
        config_write(&rig->board, 1, 0, 0x62, irq, 1);
        assert_int_equal(rig->irqs, reserved ? 0 : 1 << irq);
        config_write(&rig->board, 1, 0, 0x62, irq | 0x80, 1);
        assert_int_equal(rig->irqs, 0);
    }
}

static void test_reset_control(void **state)
{
    struct rig *rig = *state;
    struct board *board = &rig->board;
    assert_int_equal(in8(board, 0xcf9), 0);
    out8(board, 0xcf9, 0x02);
    assert_int_equal(rig->hard + rig->soft, 0);
    out8(board, 0xcf9, 0x06);
    assert_int_equal(rig->hard, 1);
    out8(board, 0xcf9, 0x06); /* no rising edge of bit 2 */
    assert_int_equal(rig->hard, 1);
    out8(board, 0xcf9, 0x00);
    out8(board, 0xcf9, 0x04);
    assert_int_equal(rig->hard, 1);
    assert_int_equal(rig->soft, 1);
    pci_bus_reset(&rig->bus);
    assert_int_equal(in8(board, 0xcf9), 0);
}

static void test_reset_drops_interrupts(void **state)
{
    struct rig *rig = *state;
    config_write(&rig->board, 1, 0, 0x63, 5, 1);
    piix3_set_pirq(&rig->bridge, 3, true);
    assert_int_equal(rig->irqs, 1 << 5);
    pci_bus_reset(&rig->bus);
    assert_int_equal(rig->irqs, 0);
    assert_int_equal(config_read(&rig->board, 1, 0, 0x63, 1), 0x80);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_identity, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pirq_routing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reserved_irqs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset_control, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset_drops_interrupts, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
