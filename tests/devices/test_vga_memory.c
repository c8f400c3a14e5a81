/* The CPU's window: maps, planes, latches, read and write modes. */
#include "test_vga_rig.h"

static void planar(struct rig *rig)
{
    set_mode(rig, &mode_12);
}

/* One plane byte at an address, whatever the write mode. */
static uint8_t plane_byte(struct rig *rig, unsigned plane, unsigned address)
{
    return vga_vram(rig->vga, NULL)[address * 4 + plane];
}

static void set_planes(struct rig *rig, unsigned address, uint32_t value)
{
    memcpy(vga_vram(rig->vga, NULL) + address * 4, &value, 4);
}

static uint32_t get_planes(struct rig *rig, unsigned address)
{
    uint32_t value;
    memcpy(&value, vga_vram(rig->vga, NULL) + address * 4, 4);
    return value;
}

static void test_memory_maps(void **state)
{
    struct rig *rig = *state;
    static const struct {
        uint8_t map;
        uint32_t start, end;
    } maps[] = {{0x01, 0xa0000, 0xc0000},
                {0x05, 0xa0000, 0xb0000},
                {0x09, 0xb0000, 0xb8000},
                {0x0d, 0xb8000, 0xc0000}};
    planar(rig);
    memset(vga_vram(rig->vga, NULL), 0x55, 1 << 18);
    for (size_t i = 0; i < 4; i++) {
        out_index(rig, 0x3ce, 6, maps[i].map);
        for (uint32_t at = 0xa0000; at < 0xc0000; at += 0x4000)
            assert_int_equal(peek(rig, at), at >= maps[i].start && at < maps[i].end ? 0x55 : 0xff);
    }
    out(rig, 0x3c2, 0x61); /* RAM disabled */
    assert_int_equal(peek(rig, 0xb8000), 0xff);
}

static void test_map_mask_and_read_map(void **state)
{
    struct rig *rig = *state;
    planar(rig);
    for (uint8_t plane = 0; plane < 4; plane++) {
        out_index(rig, 0x3c4, 2, (uint8_t)(1 << plane));
        poke(rig, 0xa1234, (uint8_t)(0x10 + plane));
    }
    for (uint8_t plane = 0; plane < 4; plane++) {
        out_index(rig, 0x3ce, 4, plane);
        assert_int_equal(peek(rig, 0xa1234), 0x10 + plane);
        assert_int_equal(plane_byte(rig, plane, 0x1234), 0x10 + plane);
    }
}

/* Write mode 0: rotate, set/reset, logical function, bit mask, in this order. */
static void test_write_mode_0(void **state)
{
    struct rig *rig = *state;
    planar(rig);
    set_planes(rig, 7, 0xa5a5a5a5);
    out_index(rig, 0x3ce, 3, 0x03); /* rotate right by 3 */
    poke(rig, 0xa0007, 0x01);
    assert_int_equal(get_planes(rig, 7), 0x20202020);

    static const struct {
        uint8_t function;
        uint32_t expected;
    } functions[] = {
        {0x00, 0x0f0f0f0f}, {0x08, 0x05050505}, {0x10, 0xafafafaf}, {0x18, 0xaaaaaaaa}};
    for (size_t i = 0; i < 4; i++) {
        set_planes(rig, 7, 0xa5a5a5a5);
        out_index(rig, 0x3ce, 3, functions[i].function);
        peek(rig, 0xa0007);
        poke(rig, 0xa0007, 0x0f);
        assert_int_equal(get_planes(rig, 7), functions[i].expected);
    }

    out_index(rig, 0x3ce, 3, 0x00);
    out_index(rig, 0x3ce, 0, 0x05); /* set/reset: planes 0 and 2 ones, 1 and 3 zeros */
    out_index(rig, 0x3ce, 1, 0x03); /* enabled for planes 0 and 1 */
    set_planes(rig, 7, 0);
    poke(rig, 0xa0007, 0x3c);
    assert_int_equal(get_planes(rig, 7), 0x3c3c00ff);

    out_index(rig, 0x3ce, 1, 0x00);
    out_index(rig, 0x3ce, 8, 0xf0); /* low nibble comes from the latches, not from memory */
    set_planes(rig, 7, 0x11111111);
    set_planes(rig, 8, 0x0c0a0906);
    peek(rig, 0xa0008);
    poke(rig, 0xa0007, 0xff);
    assert_int_equal(get_planes(rig, 7), 0xfcfaf9f6);
}

static void test_write_mode_1(void **state)
{
    struct rig *rig = *state;
    planar(rig);
    set_planes(rig, 0x100, 0x44332211);
    out_index(rig, 0x3ce, 5, 0x01);
    out_index(rig, 0x3ce, 8, 0x00); /* the bit mask does not matter */
    peek(rig, 0xa0100);
    poke(rig, 0xa0200, 0xff);
    assert_int_equal(get_planes(rig, 0x200), 0x44332211);
    out_index(rig, 0x3c4, 2, 0x02); /* the map mask does */
    poke(rig, 0xa0201, 0xff);
    assert_int_equal(get_planes(rig, 0x201), 0x00002200);
}

static void test_write_mode_2(void **state)
{
    struct rig *rig = *state;
    planar(rig);
    out_index(rig, 0x3ce, 5, 0x02);
    out_index(rig, 0x3ce, 8, 0x18);
    set_planes(rig, 3, 0xffffffff);
    peek(rig, 0xa0003);
    poke(rig, 0xa0003, 0xf9); /* colour 9; bits 4-7 are ignored */
    assert_int_equal(get_planes(rig, 3), 0xffe7e7ff);
    out_index(rig, 0x3ce, 3, 0x18); /* XOR with the latches */
    peek(rig, 0xa0003);
    poke(rig, 0xa0003, 0x0f);
    assert_int_equal(get_planes(rig, 3), 0xe7ffffe7);
}

static void test_write_mode_3(void **state)
{
    struct rig *rig = *state;
    planar(rig);
    out_index(rig, 0x3ce, 5, 0x03);
    out_index(rig, 0x3ce, 0, 0x06);
    out_index(rig, 0x3ce, 8, 0x3f);
    set_planes(rig, 3, 0xf0f0f0f0);
    peek(rig, 0xa0003);
    poke(rig, 0xa0003, 0xcc); /* mask 0C; set/reset without being enabled */
    assert_int_equal(get_planes(rig, 3), 0xf0fcfcf0);
    out_index(rig, 0x3ce, 3, 0x02); /* the data is rotated first: CC becomes 33 */
    set_planes(rig, 3, 0xf0f0f0f0);
    peek(rig, 0xa0003);
    poke(rig, 0xa0003, 0xcc);
    assert_int_equal(get_planes(rig, 3), 0xc0f3f3c0);
}

static void test_read_mode_1(void **state)
{
    struct rig *rig = *state;
    planar(rig);
    set_planes(rig, 5, 0x00ff0ff0); /* plane 0 F0, 1 0F, 2 FF, 3 00 */
    out_index(rig, 0x3ce, 5, 0x08);
    out_index(rig, 0x3ce, 7, 0x0f);
    out_index(rig, 0x3ce, 2, 0x05); /* pixels of colour 5: the left four */
    assert_int_equal(peek(rig, 0xa0005), 0xf0);
    out_index(rig, 0x3ce, 2, 0x06);
    assert_int_equal(peek(rig, 0xa0005), 0x0f);
    out_index(rig, 0x3ce, 2, 0x0e); /* plane 3 differs */
    assert_int_equal(peek(rig, 0xa0005), 0x00);
    out_index(rig, 0x3ce, 7, 0x04); /* only plane 2 matters */
    assert_int_equal(peek(rig, 0xa0005), 0xff);
    out_index(rig, 0x3ce, 7, 0x00);
    assert_int_equal(peek(rig, 0xa0005), 0xff);
}

static void test_odd_even(void **state)
{
    struct rig *rig = *state;
    set_mode(rig, &mode_3);
    as_write(rig->as, 0xb8000,
             "A\x1f"
             "B\x2e",
             4);
    assert_int_equal(plane_byte(rig, 0, 0), 'A');
    assert_int_equal(plane_byte(rig, 1, 0), 0x1f);
    assert_int_equal(plane_byte(rig, 0, 2), 'B');
    assert_int_equal(plane_byte(rig, 1, 2), 0x2e);
    assert_int_equal(get_planes(rig, 1), 0);
    uint8_t bytes[4];
    as_read(rig->as, 0xb8000, bytes, 4);
    assert_memory_equal(bytes,
                        "A\x1f"
                        "B\x2e",
                        4);
}

static void test_chain_4(void **state)
{
    struct rig *rig = *state;
    set_mode(rig, &mode_13);
    for (unsigned i = 0; i < 8; i++)
        poke(rig, 0xa0000 + i, (uint8_t)(0x30 + i));
    assert_int_equal(get_planes(rig, 0), 0x33323130);
    assert_int_equal(get_planes(rig, 4), 0x37363534); /* IBM: plane address is A15-A2 with 00 */
    assert_int_equal(get_planes(rig, 1), 0);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(peek(rig, 0xa0000 + i), 0x30 + i);
    out_index(rig, 0x3c4, 2, 0x05); /* the map mask still applies */
    poke(rig, 0xa0001, 0xee);
    poke(rig, 0xa0002, 0xdd);
    assert_int_equal(get_planes(rig, 0), 0x33dd3130);
    poke(rig, 0xaffff, 1);
    assert_int_equal(peek(rig, 0xa0000), 0x30);
}

/* The font trick: flat access to plane 2, then back to text. */
static void test_font_load(void **state)
{
    struct rig *rig = *state;
    set_mode(rig, &mode_3);
    out_index(rig, 0x3c4, 2, 0x04);
    out_index(rig, 0x3c4, 4, 0x06);
    out_index(rig, 0x3ce, 4, 0x02);
    out_index(rig, 0x3ce, 5, 0x00);
    out_index(rig, 0x3ce, 6, 0x04);
    for (unsigned i = 0; i < 16; i++)
        poke(rig, 0xa0000 + 'A' * 32 + i, (uint8_t)(i + 1));
    for (unsigned i = 0; i < 16; i++) {
        assert_int_equal(peek(rig, 0xa0000 + 'A' * 32 + i), i + 1);
        assert_int_equal(get_planes(rig, 'A' * 32 + i), (i + 1) << 16);
    }
}

/* Wide accesses do what the same bytes one by one do. */
static void test_access_sizes(void **state)
{
    struct rig *rig = *state;
    planar(rig);
    const uint64_t data = 0x8877665544332211;
    as_write(rig->as, 0xa0fff, &data, 8);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(plane_byte(rig, 3, 0xfff + i), 0x11 * (i + 1));
    uint64_t back;
    as_read(rig->as, 0xa0fff, &back, 8);
    assert_int_equal(back, data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        rig_test(test_memory_maps),  rig_test(test_map_mask_and_read_map),
        rig_test(test_write_mode_0), rig_test(test_write_mode_1),
        rig_test(test_write_mode_2), rig_test(test_write_mode_3),
        rig_test(test_read_mode_1),  rig_test(test_odd_even),
        rig_test(test_chain_4),      rig_test(test_font_load),
        rig_test(test_access_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
