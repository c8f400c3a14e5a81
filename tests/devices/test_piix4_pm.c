/* 82371AB data sheet 290562 chapter 7; ACPI 1.0b section 4.7. */
#include "board_fixture.h"
#include "devices/piix4_pm.h"

enum { PM = 0x600, SMB = 0x700 };

struct rig {
    struct board board;
    struct pci_bus bus;
    struct piix4_pm pm;
    bool sci;
    unsigned power_off;
};

static void set_sci(void *ctx, unsigned pin, bool level)
{
    assert_int_equal(pin, 9);
    ((struct rig *)ctx)->sci = level;
}

static void on_power_off(void *ctx)
{
    ((struct rig *)ctx)->power_off++;
}

static void enable_io(struct rig *rig)
{
    config_write(&rig->board, 1, 3, 0x40, PM | 1, 4);
    config_write(&rig->board, 1, 3, 0x80, 1, 1);
}

static int setup(void **state)
{
    static struct rig rig;
    struct vd_error err;
    memset(&rig, 0, sizeof(rig));
    board_create(&rig.board, 1 << 20);
    struct pci_bus_config config = {.as = rig.board.as};
    struct piix4_pm_config pm = {.sci = {.set = set_sci, .ctx = &rig, .pin = 9},
                                 .timers = &rig.board.timers,
                                 .ctx = &rig,
                                 .power_off = on_power_off};
    assert_int_equal(pci_bus_init(&rig.bus, &config, &err), 0);
    assert_int_equal(piix4_pm_init(&rig.pm, &rig.bus, 1, 3, &pm, &err), 0);
    *state = &rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    piix4_pm_destroy(&rig->pm);
    pci_bus_destroy(&rig->bus);
    board_destroy(&rig->board);
    return 0;
}

static void test_configuration(void **state)
{
    struct rig *rig = *state;
    struct board *board = &rig->board;
    assert_int_equal(config_read(board, 1, 3, 0x00, 4), 0x71138086);
    assert_int_equal(config_read(board, 1, 3, 0x0a, 2), 0x0680);
    assert_int_equal(config_read(board, 1, 3, 0x40, 4), 1);
    assert_int_equal(config_read(board, 1, 3, 0x5b, 1) & 2, 2); /* SMM: set up already */
    config_write(board, 1, 3, 0x40, 0xffffffff, 4);
    assert_int_equal(config_read(board, 1, 3, 0x40, 4), 0xffc1);
    config_write(board, 1, 3, 0x90, 0xffffffff, 4);
    assert_int_equal(config_read(board, 1, 3, 0x90, 4), 0xfff1);
}

static void test_pm_base(void **state)
{
    struct rig *rig = *state;
    struct board *board = &rig->board;
    config_write(board, 1, 3, 0x40, PM | 1, 4);
    assert_int_equal(in16(board, PM + 4), 0xffff); /* PMIOSE is clear */
    config_write(board, 1, 3, 0x80, 1, 1);
    assert_int_equal(in16(board, PM + 4), 0);
    config_write(board, 1, 3, 0x40, 0xb001, 4);
    assert_int_equal(in16(board, PM + 4), 0xffff);
    assert_int_equal(in16(board, 0xb004), 0);
    pci_bus_reset(&rig->bus);
    assert_int_equal(in16(board, 0xb004), 0xffff);
}

static void test_timer_rate_and_width(void **state)
{
    struct rig *rig = *state;
    struct board *board = &rig->board;
    enable_io(rig);
    assert_int_equal(in32(board, PM + 8), 0);
    board_set_time(board, 1000000000);
    assert_int_equal(in32(board, PM + 8), 3579545);
    assert_int_equal(in16(board, PM + 8), 3579545 & 0xffff);
    assert_int_equal(in8(board, PM + 10), 3579545 >> 16);
    board_set_time(board, 5000000000); /* 17897725 = 2^24 + 1120509 */
    assert_int_equal(in32(board, PM + 8), 1120509);
    out32(board, PM + 8, 0); /* read-only */
    assert_int_equal(in32(board, PM + 8), 1120509);
}

static void test_timer_overflow(void **state)
{
    struct rig *rig = *state;
    struct board *board = &rig->board;
    enable_io(rig);
    /* Bit 23 changes every 2^23 / 3.579545 MHz = 2.3434 s. */
    board_set_time(board, 2343000000u);
    assert_int_equal(in16(board, PM) & 1, 0);
    board_set_time(board, 2344000000u);
    assert_int_equal(in16(board, PM) & 1, 1);
    out16(board, PM, 1);
    assert_int_equal(in16(board, PM) & 1, 0);
    out16(board, PM + 4, 1); /* SCI_EN */
    out16(board, PM + 2, 1); /* TMROF_EN */
    assert_false(rig->sci);
    board_run_until(board, 4686000000u);
    assert_false(rig->sci);
    board_run_until(board, 4687000000u);
    assert_true(rig->sci);
    out16(board, PM, 1);
    assert_false(rig->sci);
    board_run_until(board, 7031000000u);
    assert_true(rig->sci);
}

static void test_power_button(void **state)
{
    struct rig *rig = *state;
    struct board *board = &rig->board;
    enable_io(rig);
    out16(board, PM + 2, 0x0100);
    piix4_pm_power_button(&rig->pm);
    assert_int_equal(in16(board, PM), 0x0100);
    assert_false(rig->sci); /* legacy mode: no SCI */
    out8(board, 0xb2, PIIX4_ACPI_ENABLE);
    assert_int_equal(in16(board, PM + 4) & 1, 1);
    assert_int_equal(in8(board, 0xb2), 0xf1);
    assert_true(rig->sci);
    out8(board, PM, 0xff); /* the other byte of the status register */
    assert_true(rig->sci);
    out8(board, PM + 1, 0x01);
    assert_false(rig->sci);
    assert_int_equal(in16(board, PM), 0);
    out8(board, 0xb2, PIIX4_ACPI_DISABLE);
    assert_int_equal(in16(board, PM + 4) & 1, 0);
    out8(board, 0xb3, 0x5a);
    assert_int_equal(in8(board, 0xb3), 0x5a);
}

static void test_register_masks(void **state)
{
    struct rig *rig = *state;
    struct board *board = &rig->board;
    enable_io(rig);
    out16(board, PM + 2, 0xffff);
    assert_int_equal(in16(board, PM + 2), 0x0521);
    out16(board, PM + 4, 0xdbff); /* SUS_EN clear; SUS_EN and GBL_RLS never read back */
    assert_int_equal(in16(board, PM + 4) & 0x2004, 0);
    assert_int_equal(in16(board, PM + 4) & 3, 3);
    out16(board, PM + 4, 0);
    out32(board, PM + 0xc, 0xffffffff); /* GPSTS and GPEN together */
    assert_int_equal(in16(board, PM + 0xc), 0);
    assert_int_equal(in16(board, PM + 0xe), 0x0f03);
    for (unsigned port = PM; port < PM + 0x40; port++) { /* any access of any size is harmless */
        if (port >= PM + 4 && port < PM + 6)
            continue;
        out8(board, (uint16_t)port, 0xff);
        if (port < PM + 0x3c)
            (void)in32(board, (uint16_t)port);
    }
}

static void test_soft_off(void **state)
{
    struct rig *rig = *state;
    struct board *board = &rig->board;
    enable_io(rig);
    out16(board, PM + 4, 0x0001);
    assert_int_equal(rig->power_off, 0);
    out16(board, PM + 4, 0x2001 | 5 << 10); /* another sleep type */
    assert_int_equal(rig->power_off, 0);
    out16(board, PM + 4, 0x2001);
    assert_int_equal(rig->power_off, 1);
    out8(board, PM + 5, 0x20);
    assert_int_equal(rig->power_off, 2);
}

static void test_empty_smbus(void **state)
{
    struct rig *rig = *state;
    struct board *board = &rig->board;
    config_write(board, 1, 3, 0x90, SMB | 1, 4);
    config_write(board, 1, 3, 0xd2, 0x09, 1);
    assert_int_equal(in8(board, SMB), 0xff);
    config_write(board, 1, 3, 0x04, 1, 2);
    assert_int_equal(in8(board, SMB), 0);
    out8(board, SMB + 4, 0xa1);
    out8(board, SMB + 2, 0x48); /* START, byte data */
    assert_int_equal(in8(board, SMB), 0x04);
    assert_int_equal(in8(board, SMB + 2), 0x08);
    out8(board, SMB, 0x04);
    assert_int_equal(in8(board, SMB), 0);
}

static void test_reset(void **state)
{
    struct rig *rig = *state;
    struct board *board = &rig->board;
    enable_io(rig);
    out16(board, PM + 4, 1);
    out16(board, PM + 2, 0x100);
    piix4_pm_power_button(&rig->pm);
    assert_true(rig->sci);
    pci_bus_reset(&rig->bus);
    assert_false(rig->sci);
    enable_io(rig);
    assert_int_equal(in16(board, PM), 0);
    assert_int_equal(in16(board, PM + 2), 0);
    assert_int_equal(in16(board, PM + 4), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_configuration, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pm_base, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer_rate_and_width, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer_overflow, setup, teardown),
        cmocka_unit_test_setup_teardown(test_power_button, setup, teardown),
        cmocka_unit_test_setup_teardown(test_register_masks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_soft_off, setup, teardown),
        cmocka_unit_test_setup_teardown(test_empty_smbus, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
