/* 82441FX data sheet 290549: identification, PAM registers, SMRAM lock. */
#include "board_fixture.h"
#include "devices/i440fx.h"

struct rig {
    struct board board;
    struct pci_bus bus;
    struct i440fx bridge;
};

static uint8_t rom[0x40000];

static int setup(void **state)
{
    static struct rig rig;
    struct vd_error err;
    memset(&rig, 0, sizeof(rig));
    board_create(&rig.board, 32 << 20);
    memset(rom, 0xbb, sizeof(rom));
    assert_int_equal(as_add_rom(rig.board.as, 0xfffc0000, sizeof(rom), rom, sizeof(rom), &err), 0);
    assert_int_equal(as_add_rom_alias(rig.board.as, 0xe0000, 0x20000, 0xfffc0000, &err), 0);
    struct pci_bus_config config = {.as = rig.board.as, .memory = {0x80000000, 0xfec00000}};
    assert_int_equal(pci_bus_init(&rig.bus, &config, &err), 0);
    assert_int_equal(i440fx_init(&rig.bridge, &rig.bus, &err), 0);
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
    assert_int_equal(config_read(&rig->board, 0, 0, 0x00, 4), 0x12378086);
    assert_int_equal(config_read(&rig->board, 0, 0, 0x0a, 2), 0x0600);
    assert_int_equal(config_read(&rig->board, 0, 0, 0x0e, 1), 0);
    config_write(&rig->board, 0, 0, 0x04, 0, 2);
    assert_int_equal(config_read(&rig->board, 0, 0, 0x04, 2) & 6, 6); /* hardwired */
    assert_int_equal(config_read(&rig->board, 0, 0, 0x3d, 1), 0);
}

static void test_row_boundaries(void **state)
{
    struct rig *rig = *state;
    for (unsigned row = 0; row < 8; row++)
        assert_int_equal(config_read(&rig->board, 0, 0, 0x60 + row, 1), 4); /* 32 MiB */
}

/* Each segment alone: {register, nibble shift, first address, size}. */
static void test_pam_segments(void **state)
{
    struct rig *rig = *state;
    struct board *board = &rig->board;
    static const struct {
        unsigned reg, shift;
        uint32_t gpa, size;
    } segments[] = {
        {0x59, 4, 0xf0000, 0x10000}, {0x5a, 0, 0xc0000, 0x4000}, {0x5a, 4, 0xc4000, 0x4000},
        {0x5b, 0, 0xc8000, 0x4000},  {0x5b, 4, 0xcc000, 0x4000}, {0x5c, 0, 0xd0000, 0x4000},
        {0x5c, 4, 0xd4000, 0x4000},  {0x5d, 0, 0xd8000, 0x4000}, {0x5d, 4, 0xdc000, 0x4000},
        {0x5e, 0, 0xe0000, 0x4000},  {0x5e, 4, 0xe4000, 0x4000}, {0x5f, 0, 0xe8000, 0x4000},
        {0x5f, 4, 0xec000, 0x4000},
    };
    for (size_t i = 0; i < sizeof(segments) / sizeof(segments[0]); i++) {
        uint32_t first = segments[i].gpa, last = first + segments[i].size - 4;
        uint32_t bus = first >= 0xe0000 ? 0xbbbbbbbb : 0xffffffff; /* ROM or nothing */
        unsigned reg = segments[i].reg, shift = segments[i].shift;
        assert_int_equal(mem_read32(board, first), bus);
        mem_write32(board, first, 0x11111111); /* to the bus: lost */
        config_write(board, 0, 0, reg, 2u << shift, 1);
        assert_int_equal(mem_read32(board, first), bus); /* write only: reads from the bus */
        mem_write32(board, first, 0x22222222);
        mem_write32(board, last, 0x33333333);
        config_write(board, 0, 0, reg, 1u << shift, 1); /* read only: shadowed ROM */
        assert_int_equal(mem_read32(board, first), 0x22222222);
        assert_int_equal(mem_read32(board, last), 0x33333333);
        mem_write32(board, first, 0x44444444);
        assert_int_equal(mem_read32(board, first), 0x22222222);
        config_write(board, 0, 0, reg, 3u << shift, 1);
        mem_write32(board, first, 0x55555555);
        assert_int_equal(mem_read32(board, first), 0x55555555);
        config_write(board, 0, 0, reg, 0, 1);
        assert_int_equal(mem_read32(board, first), bus);
    }
}

static void test_pam_as_dword_and_reset(void **state)
{
    struct rig *rig = *state;
    struct board *board = &rig->board;
    config_write(board, 0, 0, 0x58, 0x33333310, 4); /* PAM0 low nibble is reserved */
    assert_int_equal(config_read(board, 0, 0, 0x58, 4), 0x33333010);
    mem_write32(board, 0xf0000, 1);
    assert_int_equal(mem_read32(board, 0xf0000), 1);
    mem_write32(board, 0xc0000, 2);
    assert_int_equal(mem_read32(board, 0xc0000), 2);
    pci_bus_reset(&rig->bus);
    assert_int_equal(config_read(board, 0, 0, 0x59, 1), 0);
    assert_int_equal(mem_read32(board, 0xf0000), 0xbbbbbbbb);
    assert_int_equal(mem_read32(board, 0xc0000), 0xffffffff);
}

static void test_smram_lock(void **state)
{
    struct rig *rig = *state;
    struct board *board = &rig->board;
    assert_int_equal(config_read(board, 0, 0, 0x72, 1), 0x02);
    config_write(board, 0, 0, 0x72, 0x4a, 1);
    assert_int_equal(config_read(board, 0, 0, 0x72, 1), 0x4a);
    config_write(board, 0, 0, 0x72, 0x5a, 1); /* D_LCK closes D_OPEN for good */
    assert_int_equal(config_read(board, 0, 0, 0x72, 1), 0x1a);
    config_write(board, 0, 0, 0x72, 0x40, 1);
    assert_int_equal(config_read(board, 0, 0, 0x72, 1), 0x1a);
    pci_bus_reset(&rig->bus);
    config_write(board, 0, 0, 0x72, 0x42, 1);
    assert_int_equal(config_read(board, 0, 0, 0x72, 1), 0x42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_identity, setup, teardown),
        cmocka_unit_test_setup_teardown(test_row_boundaries, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pam_segments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pam_as_dword_and_reset, setup, teardown),
        cmocka_unit_test_setup_teardown(test_smram_lock, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
