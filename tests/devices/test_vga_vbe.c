/* The Bochs VBE interface, and the device on a PCI bus. */
#include "test_vga_rig.h"

#include "devices/vga_pci.h"

static void vbe(struct rig *rig, uint16_t index, uint16_t value)
{
    as_pio_write(rig->as, 0x1ce, index, 2);
    as_pio_write(rig->as, 0x1cf, value, 2);
}

static uint16_t vbe_read(struct rig *rig, uint16_t index)
{
    as_pio_write(rig->as, 0x1ce, index, 2);
    return (uint16_t)as_pio_read(rig->as, 0x1cf, 2);
}

static void vbe_mode(struct rig *rig, uint16_t width, uint16_t height, uint16_t bpp)
{
    set_mode(rig, &mode_13); /* for the DAC, as a VGA BIOS leaves it */
    vbe(rig, 4, 0);
    vbe(rig, 1, width);
    vbe(rig, 2, height);
    vbe(rig, 3, bpp);
    vbe(rig, 4, 0x41);
}

static void test_identification(void **state)
{
    struct rig *rig = *state;
    assert_int_equal(vbe_read(rig, 0), 0xb0c5);
    vbe(rig, 0, 0xb0c0);
    assert_int_equal(vbe_read(rig, 0), 0xb0c0);
    vbe(rig, 0, 0x1234);
    assert_int_equal(vbe_read(rig, 0), 0xb0c0);
    vbe(rig, 0, 0xb0c5);
    assert_int_equal(vbe_read(rig, 0), 0xb0c5);
    assert_int_equal(vbe_read(rig, 10), 256); /* 64 KiB units: 16 MiB */
    vbe(rig, 4, 0x02);                        /* capabilities */
    assert_true(vbe_read(rig, 1) >= 1920);
    assert_true(vbe_read(rig, 2) >= 1200);
    assert_int_equal(vbe_read(rig, 3), 32);
    vbe(rig, 4, 0);
    assert_int_equal(vbe_read(rig, 1), 0);
    assert_int_equal(as_pio_read(rig->as, 0x1d0, 2), 0); /* the aligned data port: index 1 */
}

static void test_geometry(void **state)
{
    struct rig *rig = *state;
    vbe_mode(rig, 1024, 768, 32);
    assert_int_equal(vbe_read(rig, 6), 1024);
    assert_int_equal(vbe_read(rig, 7), (1 << 24) / 4096);
    vbe(rig, 6, 2048);
    assert_int_equal(vbe_read(rig, 6), 2048);
    assert_int_equal(vbe_read(rig, 7), (1 << 24) / 8192);
    vbe(rig, 8, 5000); /* the picture stays inside memory */
    assert_int_equal(vbe_read(rig, 8), 1024);
    vbe(rig, 9, 60000);
    assert_int_equal(vbe_read(rig, 9), 2048 - 768);
    vbe(rig, 1, 640); /* fixed while enabled */
    assert_int_equal(vbe_read(rig, 1), 1024);
    vbe_mode(rig, 60000, 60000, 32);
    assert_true((uint32_t)vbe_read(rig, 1) * vbe_read(rig, 2) * 4 <= 1 << 24);
    vbe_mode(rig, 0, 0, 7);
    assert_true(vbe_read(rig, 1) > 0 && vbe_read(rig, 2) > 0);
    vga_refresh(rig->vga, &rig->surface, NULL);
}

static void test_depths(void **state)
{
    struct rig *rig = *state;
    static const struct {
        uint16_t bpp;
        uint8_t bytes[4];
        uint32_t colour;
    } depths[] = {
        {15, {0x1f, 0x7c}, 0xff00ff},       {15, {0xe0, 0x01}, 0x007b00},
        {16, {0x00, 0xf8}, 0xff0000},       {16, {0xe0, 0x03}, 0x007d00},
        {24, {0x56, 0x34, 0x12}, 0x123456}, {32, {0xbc, 0x9a, 0x78, 0xff}, 0x789abc},
    };
    uint8_t *vram = vga_vram(rig->vga, NULL);
    for (size_t i = 0; i < sizeof(depths) / sizeof(depths[0]); i++) {
        vbe_mode(rig, 800, 600, depths[i].bpp);
        size_t size = (depths[i].bpp + 7u) / 8;
        assert_int_equal(vram[0], 0); /* cleared by the mode set */
        memcpy(vram + size * (800 * 599 + 799), depths[i].bytes, size);
        memcpy(vram, depths[i].bytes, size);
        draw(rig, 800, 600);
        assert_int_equal(pixel(rig, 0, 0), depths[i].colour);
        assert_int_equal(pixel(rig, 799, 599), depths[i].colour);
        assert_int_equal(pixel(rig, 1, 0), 0);
    }
    vbe_mode(rig, 640, 480, 8);
    vram[640 * 2 + 3] = 0x5b;
    draw(rig, 640, 480);
    assert_int_equal(pixel(rig, 3, 2), dac_rgb(0x5b));
    vbe_mode(rig, 800, 600, 4); /* planar: dword a holds the four planes of byte a */
    memcpy(vram + (100 * 1 + 2) * 4, "\x80\x00\x80\x01", 4);
    draw(rig, 800, 600);
    assert_int_equal(pixel(rig, 16, 1), dac_rgb(5));
    assert_int_equal(pixel(rig, 23, 1), dac_rgb(8));
}

static void test_no_clear_and_pan(void **state)
{
    struct rig *rig = *state;
    uint8_t *vram = vga_vram(rig->vga, NULL);
    vbe_mode(rig, 640, 480, 32);
    memcpy(vram + 4 * (100 * 1280 + 7), "\x01\x02\x03", 3);
    vbe(rig, 4, 0);
    vbe(rig, 4, 0xc1); /* enable, keep memory */
    vbe(rig, 6, 1280);
    vbe(rig, 8, 7);
    vbe(rig, 9, 100);
    draw(rig, 640, 480);
    assert_int_equal(pixel(rig, 0, 0), 0x030201);
    /* A guest that writes through the frame buffer leaves no trace: refresh has to look. */
    vga_set_lfb(rig->vga, true);
    draw(rig, 640, 480);
    surface_clear_dirty(&rig->surface);
    memcpy(vram + 4 * (101 * 1280 + 7), "\x0a\x0b\x0c", 3);
    draw(rig, 640, 480);
    assert_int_equal(pixel(rig, 0, 1), 0x0c0b0a);
    assert_int_equal(rig->surface.dirty_count, 1);
    assert_int_equal(rig->surface.dirty[0].y, 1);
    assert_int_equal(rig->surface.dirty[0].height, 1);
}

static void test_banks(void **state)
{
    struct rig *rig = *state;
    uint8_t *vram = vga_vram(rig->vga, NULL);
    vbe_mode(rig, 1024, 768, 32);
    vbe(rig, 5, 3);
    assert_int_equal(vbe_read(rig, 5), 3);
    poke(rig, 0xa0123, 0x77);
    assert_int_equal(vram[0x30123], 0x77);
    uint32_t wide = 0x12345678;
    as_write(rig->as, 0xafffc, &wide, 4);
    assert_memory_equal(vram + 0x3fffc, "\x78\x56\x34\x12", 4);
    vbe(rig, 5, 255);
    poke(rig, 0xaffff, 0x99);
    assert_int_equal(vram[(1 << 24) - 1], 0x99);
    assert_int_equal(peek(rig, 0xb0000), 0xff);
    poke(rig, 0xb0000, 1);
    vbe(rig, 5, 256); /* wraps inside memory */
    assert_int_equal(vbe_read(rig, 5), 0);
}

static void test_8bit_dac(void **state)
{
    struct rig *rig = *state;
    vbe_mode(rig, 640, 480, 8);
    set_dac(rig, 1, 0xff, 0x3f, 0x01); /* 6 bits each */
    vbe(rig, 4, 0x61);
    out(rig, 0x3c7, 1);
    assert_int_equal(in(rig, 0x3c9), 0xfc);
    set_dac(rig, 2, 0xff, 0x80, 0x01);
    vga_vram(rig->vga, NULL)[0] = 2;
    draw(rig, 640, 480);
    assert_int_equal(pixel(rig, 0, 0), 0xff8001);
}

static void test_back_to_vga(void **state)
{
    struct rig *rig = *state;
    vbe_mode(rig, 1024, 768, 16);
    draw(rig, 1024, 768);
    vbe(rig, 4, 0);
    set_mode(rig, &mode_3);
    draw(rig, 720, 400);
}

static void test_mmio_registers(void **state)
{
    struct rig *rig = *state;
    struct vd_error err;
    assert_non_null(
        as_map_mmio(rig->as, 0xf0000000, 4096, &vga_mmio_ops, rig->vga, "registers", &err));
    uint16_t value;
    as_read(rig->as, 0xf0000500, &value, 2);
    assert_int_equal(value, 0xb0c5);
    value = 3;
    as_write(rig->as, 0xf000050a, &value, 2); /* bank */
    assert_int_equal(vbe_read(rig, 5), 3);
    poke(rig, 0xf0000402, 0x67); /* port 3C2 */
    assert_int_equal(in(rig, 0x3cc), 0x67);
    assert_int_equal(peek(rig, 0xf000040c), 0x67);
    value = 0x550e;
    as_write(rig->as, 0xf0000404, &value, 2); /* 3C4, 3C5 */
    assert_int_equal(in(rig, 0x3c4), 0x0e & 7);
    as_write(rig->as, 0xf0000000, &value, 2); /* nothing there */
    assert_int_equal(peek(rig, 0xf0000fff), 0xff);
}

static void test_pci(void **state)
{
    struct rig *rig = *state;
    struct pci_bus bus;
    struct vga_pci device;
    struct vd_error err;
    const struct pci_bus_config config = {.as = rig->as, .memory = {0xe0000000, 0xfec00000}};
    static const uint8_t rom[3000] = {0x55, 0xaa, 6};
    assert_int_equal(pci_bus_init(&bus, &config, &err), 0);
    assert_int_equal(vga_pci_init(&device, rig->vga, &bus, 2, rom, sizeof(rom), &err), 0);
    const uint8_t devfn = 2 << 3;
    assert_int_equal(pci_bus_config_read(&bus, devfn, 0, 4), 0x11111234);
    assert_int_equal(pci_bus_config_read(&bus, devfn, 8, 4) >> 8, 0x030000);
    pci_bus_config_write(&bus, devfn, 0x10, 0xffffffff, 4);
    assert_int_equal(pci_bus_config_read(&bus, devfn, 0x10, 4), 0xff000008);
    pci_bus_config_write(&bus, devfn, 0x10, 0xfd000000, 4);
    pci_bus_config_write(&bus, devfn, 0x18, 0xfebf0000, 4);
    pci_bus_config_write(&bus, devfn, 0x30, 0xfebe0001, 4);
    pci_bus_config_write(&bus, devfn, 0x04, 0x0003, 2);
    uint32_t pixel_bytes = 0x00112233;
    vbe_mode(rig, 1024, 768, 32);
    as_write(rig->as, 0xfd000000 + 4 * (1024 * 5 + 9), &pixel_bytes, 4);
    draw(rig, 1024, 768);
    assert_int_equal(pixel(rig, 9, 5), 0x112233);
    assert_int_equal(peek(rig, 0xfebf0500), 0xc5);
    assert_int_equal(peek(rig, 0xfebe0001), 0xaa);
    assert_int_equal(peek(rig, 0xfebe0000 + 4095), 0xff);
    pci_bus_reset(&bus);
    assert_int_equal(vbe_read(rig, 4), 0);
    pci_bus_destroy(&bus);
    vga_pci_free(&device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        rig_test(test_identification),   rig_test(test_geometry),       rig_test(test_depths),
        rig_test(test_no_clear_and_pan), rig_test(test_banks),          rig_test(test_8bit_dac),
        rig_test(test_back_to_vga),      rig_test(test_mmio_registers), rig_test(test_pci),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
