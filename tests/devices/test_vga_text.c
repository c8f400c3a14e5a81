/* Text modes: characters, attributes, cursor, blinking, fonts, scrolling, split screen. */
#include "test_vga_rig.h"

static const double frame_ns = 449 * 900 * 1e9 / 28322000.0;

static void load_glyph(struct rig *rig, unsigned font, unsigned character, const uint8_t rows[16])
{
    uint8_t *vram = vga_vram(rig->vga, NULL);
    for (unsigned i = 0; i < 16; i++)
        vram[(font + character * 32 + i) * 4 + 2] = rows[i];
}

static const uint8_t stripes[16] = {0x81, 0x42, 0x24, 0x18, 0xff, 0x00, 0x01, 0x80,
                                    0xaa, 0x55, 0xf0, 0x0f, 0x33, 0xcc, 0x11, 0x88};

static void put_char(struct rig *rig, unsigned column, unsigned row, uint8_t character,
                     uint8_t attribute)
{
    poke(rig, 0xb8000 + (row * 80 + column) * 2, character);
    poke(rig, 0xb8001 + (row * 80 + column) * 2, attribute);
}

static void text_setup(struct rig *rig)
{
    set_mode(rig, &mode_3);
    out_index(rig, 0x3d4, 0x0a, 0x20); /* cursor off */
    load_glyph(rig, 0, 'A', stripes);
    load_glyph(rig, 0, 0xc4, stripes);
}

/* The mode 3 palette: attribute 6 is brown (14h), 8..15 are 38h..3Fh. */
static uint32_t colour(unsigned attribute)
{
    return dac_rgb(attribute == 6 ? 0x14 : attribute < 8 ? attribute : attribute + 0x30);
}

static void test_glyphs(void **state)
{
    struct rig *rig = *state;
    text_setup(rig);
    put_char(rig, 0, 0, 'A', 0x1e);
    put_char(rig, 79, 24, 0xc4, 0x46);
    draw(rig, 720, 400);
    for (unsigned y = 0; y < 16; y++) {
        for (unsigned x = 0; x < 8; x++) {
            bool on = stripes[y] >> (7 - x) & 1;
            assert_int_equal(pixel(rig, x, y), colour(on ? 14 : 1));
            assert_int_equal(pixel(rig, 711 + x, 384 + y), colour(on ? 6 : 4));
        }
        assert_int_equal(pixel(rig, 8, y), colour(1)); /* the ninth dot is background */
        /* and for C0-DF repeats the eighth */
        assert_int_equal(pixel(rig, 719, 384 + y), colour(stripes[y] & 1 ? 6 : 4));
    }
    out_attr(rig, 0x10, 0x08); /* line graphics enable off */
    draw(rig, 720, 400);
    assert_int_equal(pixel(rig, 719, 388), colour(4));
}

static void test_eight_dots_and_doubling(void **state)
{
    struct rig *rig = *state;
    text_setup(rig);
    put_char(rig, 1, 0, 'A', 0x07);
    out_index(rig, 0x3c4, 1, 0x01);
    out_attr(rig, 0x13, 0);
    draw(rig, 640, 400);
    assert_int_equal(pixel(rig, 8, 0), colour(7));
    assert_int_equal(pixel(rig, 9, 0), colour(0));
    assert_int_equal(pixel(rig, 15, 0), colour(7));
    out_index(rig, 0x3c4, 1, 0x09); /* dot clock halved: 40-column modes */
    out_index(rig, 0x3d4, 0x11, 0x0e);
    out_index(rig, 0x3d4, 0x01, 39);
    draw(rig, 640, 400);
    assert_int_equal(pixel(rig, 16, 0), colour(7));
    assert_int_equal(pixel(rig, 17, 0), colour(7));
    assert_int_equal(pixel(rig, 18, 0), colour(0));
    assert_int_equal(pixel(rig, 31, 0), colour(7));
}

static void test_blink(void **state)
{
    struct rig *rig = *state;
    text_setup(rig);
    put_char(rig, 0, 0, 'A', 0x9f);
    draw(rig, 720, 400);
    assert_int_equal(pixel(rig, 0, 4), colour(15));
    assert_int_equal(pixel(rig, 8, 4), colour(1)); /* bit 7 is not intensity */
    rig->clock.paused_ns = (uint64_t)(16.5 * frame_ns);
    draw(rig, 720, 400);
    assert_int_equal(pixel(rig, 0, 4), colour(1));
    rig->clock.paused_ns = (uint64_t)(32.5 * frame_ns);
    draw(rig, 720, 400);
    assert_int_equal(pixel(rig, 0, 4), colour(15));
    out_attr(rig, 0x10, 0x04); /* blinking off: 16 backgrounds */
    rig->clock.paused_ns = (uint64_t)(16.5 * frame_ns);
    draw(rig, 720, 400);
    assert_int_equal(pixel(rig, 0, 4), colour(15));
    assert_int_equal(pixel(rig, 8, 4), colour(9));
}

static void test_cursor(void **state)
{
    struct rig *rig = *state;
    text_setup(rig);
    out_index(rig, 0x3d4, 0x0a, 0x0d);
    out_index(rig, 0x3d4, 0x0b, 0x0e);
    out_index(rig, 0x3d4, 0x0e, 0x00);
    out_index(rig, 0x3d4, 0x0f, 82); /* row 1, column 2 */
    put_char(rig, 2, 1, ' ', 0x07);
    draw(rig, 720, 400);
    for (unsigned x = 18; x < 27; x++) {
        assert_int_equal(pixel(rig, x, 16 + 12), colour(0));
        assert_int_equal(pixel(rig, x, 16 + 13), colour(7));
        assert_int_equal(pixel(rig, x, 16 + 14), colour(7));
        assert_int_equal(pixel(rig, x, 16 + 15), colour(0));
    }
    assert_int_equal(pixel(rig, 17, 29), colour(0));
    assert_int_equal(pixel(rig, 27, 29), colour(0));
    rig->clock.paused_ns = (uint64_t)(8.5 * frame_ns); /* off for 8 frames */
    draw(rig, 720, 400);
    assert_int_equal(pixel(rig, 20, 29), colour(0));
    rig->clock.paused_ns = (uint64_t)(16.5 * frame_ns);
    draw(rig, 720, 400);
    assert_int_equal(pixel(rig, 20, 29), colour(7));
    out_index(rig, 0x3d4, 0x0b, 0x2e); /* skew: one character to the right */
    put_char(rig, 3, 1, ' ', 0x02);
    draw(rig, 720, 400);
    assert_int_equal(pixel(rig, 20, 29), colour(0));
    assert_int_equal(pixel(rig, 28, 29), colour(2));
    out_index(rig, 0x3d4, 0x0b, 0x0c); /* end before start: nothing */
    draw(rig, 720, 400);
    assert_int_equal(pixel(rig, 20, 29), colour(0));
}

static void test_underline(void **state)
{
    struct rig *rig = *state;
    text_setup(rig);
    out_index(rig, 0x3d4, 0x14, 0x0c);
    put_char(rig, 0, 0, ' ', 0x01);
    put_char(rig, 1, 0, ' ', 0x09);
    put_char(rig, 2, 0, ' ', 0x11); /* background is not 000 */
    draw(rig, 720, 400);
    assert_int_equal(pixel(rig, 0, 12), colour(1));
    assert_int_equal(pixel(rig, 8, 12), colour(1));
    assert_int_equal(pixel(rig, 0, 11), colour(0));
    assert_int_equal(pixel(rig, 9, 12), colour(9));
    static struct text_screen text;
    vga_refresh(rig->vga, NULL, &text);
    assert_int_equal(text.cells[0][0].flags, TEXT_UNDERLINE);
    assert_int_equal(text.cells[0][2].flags, 0);
}

/* Attribute bit 3 chooses between two of eight fonts. */
static void test_two_fonts(void **state)
{
    struct rig *rig = *state;
    static const struct {
        uint8_t select;
        unsigned a, b;
    } maps[] = {{0x00, 0x0000, 0x0000}, {0x04, 0x4000, 0x0000}, {0x02, 0x0000, 0x8000},
                {0x0f, 0xc000, 0xc000}, {0x20, 0x2000, 0x0000}, {0x10, 0x0000, 0x2000},
                {0x2d, 0xe000, 0x4000}, {0x13, 0x0000, 0xe000}};
    text_setup(rig);
    for (unsigned font = 0; font < 8; font++) { /* font n has n in the top bits of row 0 */
        uint8_t rows[16] = {(uint8_t)(font << 5)};
        load_glyph(rig, font * 0x2000, 'B', rows);
    }
    put_char(rig, 0, 0, 'B', 0x0f);
    put_char(rig, 1, 0, 'B', 0x07);
    for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]); i++) {
        unsigned a = 0, b = 0;
        out_index(rig, 0x3c4, 3, maps[i].select);
        draw(rig, 720, 400);
        for (unsigned x = 0; x < 3; x++) {
            a = a << 1 | (pixel(rig, x, 0) == colour(15));
            b = b << 1 | (pixel(rig, 9 + x, 0) == colour(7));
        }
        assert_int_equal(a * 0x2000, maps[i].a);
        assert_int_equal(b * 0x2000, maps[i].b);
    }
}

static void test_start_pan_and_preset(void **state)
{
    struct rig *rig = *state;
    text_setup(rig);
    put_char(rig, 1, 1, 'A', 0x07);
    out_index(rig, 0x3d4, 0x0d, 81); /* start address: that character comes first */
    draw(rig, 720, 400);
    assert_int_equal(pixel(rig, 0, 0), colour(7));
    assert_int_equal(pixel(rig, 1, 1), colour(7));
    out_attr(rig, 0x13, 0x00); /* 9-dot characters: 0 shifts by one dot, 8 by none */
    draw(rig, 720, 400);
    assert_int_equal(pixel(rig, 0, 1), colour(7));
    out_attr(rig, 0x13, 0x06);
    draw(rig, 720, 400);
    assert_int_equal(pixel(rig, 0, 0), colour(7)); /* dot 7 of the glyph */
    out_attr(rig, 0x13, 0x08);
    out_index(rig, 0x3d4, 0x08, 0x04); /* preset row scan: starts at line 4 of the row */
    draw(rig, 720, 400);
    for (unsigned x = 0; x < 8; x++)
        assert_int_equal(pixel(rig, x, 0), colour(7));
    out_index(rig, 0x3d4, 0x0d, 80);
    out_index(rig, 0x3d4, 0x08, 0x20); /* byte panning: one character */
    draw(rig, 720, 400);
    assert_int_equal(pixel(rig, 0, 0), colour(7));
}

static void test_split_screen(void **state)
{
    struct rig *rig = *state;
    text_setup(rig);
    put_char(rig, 0, 0, 'A', 0x02);
    put_char(rig, 0, 50, 'A', 0x04);
    out_index(rig, 0x3d4, 0x0c, (50 * 80) >> 8);
    out_index(rig, 0x3d4, 0x0d, (50 * 80) & 0xff);
    out_index(rig, 0x3d4, 0x11, 0x0e);
    out_index(rig, 0x3d4, 0x07, 0x0f); /* line compare 99: bit 8 clear */
    out_index(rig, 0x3d4, 0x09, 0x0f); /* bit 9 clear */
    out_index(rig, 0x3d4, 0x18, 99);
    out_attr(rig, 0x13, 0x00); /* shifts by one dot */
    draw(rig, 720, 400);
    assert_int_equal(pixel(rig, 0, 1), colour(4));
    assert_int_equal(pixel(rig, 0, 99), colour(0));
    assert_int_equal(pixel(rig, 0, 101), colour(2));
    out_attr(rig, 0x10, 0x2c); /* panning compatibility: the lower part stays */
    draw(rig, 720, 400);
    assert_int_equal(pixel(rig, 0, 1), colour(4));
    assert_int_equal(pixel(rig, 0, 100), colour(2));
    assert_int_equal(pixel(rig, 1, 101), colour(2));
}

static void test_blank(void **state)
{
    struct rig *rig = *state;
    text_setup(rig);
    put_char(rig, 0, 0, 'A', 0x77);
    draw(rig, 720, 400);
    assert_int_equal(pixel(rig, 0, 0), colour(7));
    out_index(rig, 0x3c4, 1, 0x20);
    draw(rig, 720, 400);
    assert_int_equal(pixel(rig, 0, 0), 0);
    out_index(rig, 0x3c4, 1, 0x00);
    draw(rig, 720, 400);
    assert_int_equal(pixel(rig, 0, 0), colour(7));
    in(rig, 0x3da);
    out(rig, 0x3c0, 0x00); /* palette address source off */
    draw(rig, 720, 400);
    assert_int_equal(pixel(rig, 0, 0), 0);
}

static void test_palette_path(void **state)
{
    struct rig *rig = *state;
    text_setup(rig);
    put_char(rig, 0, 0, 'A', 0x77);
    out_attr(rig, 7, 0x2a);
    draw(rig, 720, 400);
    assert_int_equal(pixel(rig, 0, 0), dac_rgb(0x2a));
    out_attr(rig, 0x14, 0x0d); /* colour select: bits 7-6 = 3, bits 5-4 = 1 if enabled */
    draw(rig, 720, 400);
    assert_int_equal(pixel(rig, 0, 0), dac_rgb(0xea));
    out_attr(rig, 0x10, 0x8c);
    draw(rig, 720, 400);
    assert_int_equal(pixel(rig, 0, 0), dac_rgb(0xda));
    out(rig, 0x3c6, 0x0f);
    draw(rig, 720, 400);
    assert_int_equal(pixel(rig, 0, 0), dac_rgb(0x0a));
    out(rig, 0x3c6, 0xff);
    out_attr(rig, 0x12, 0x03); /* plane enable: 7 becomes 3 */
    draw(rig, 720, 400);
    assert_int_equal(pixel(rig, 0, 0), dac_rgb(0xd3));
}

static void test_only_changes_are_dirty(void **state)
{
    struct rig *rig = *state;
    text_setup(rig);
    draw(rig, 720, 400);
    surface_clear_dirty(&rig->surface);
    draw(rig, 720, 400);
    assert_int_equal(rig->surface.dirty_count, 0);
    put_char(rig, 3, 2, 'A', 0x07);
    draw(rig, 720, 400);
    assert_true(rig->surface.dirty_count >= 1);
    for (unsigned i = 0; i < rig->surface.dirty_count; i++) {
        assert_in_range(rig->surface.dirty[i].y, 32, 47);
        assert_true(rig->surface.dirty[i].y + rig->surface.dirty[i].height <= 48);
    }
}

static void test_snapshot(void **state)
{
    struct rig *rig = *state;
    char text[8192];
    assert_int_equal(vga_text_snapshot(rig->vga, text, sizeof(text)), 0);
    text_setup(rig);
    for (unsigned i = 0; i < 80 * 25; i++)
        put_char(rig, i % 80, i / 80, ' ', 7);
    for (unsigned i = 0; i < 5; i++)
        put_char(rig, i, 0, (uint8_t) "Hello"[i], 0x07);
    put_char(rig, 0, 24, 0xcd, 0x07); /* box drawings double horizontal */
    size_t length = vga_text_snapshot(rig->vga, text, sizeof(text));
    assert_int_equal(length, strlen(text));
    assert_int_equal(strncmp(text, "Hello\n\n", 7), 0);
    assert_string_equal(text + length - 5, "\n\xe2\x95\x90\n");
    set_mode(rig, &mode_12);
    assert_int_equal(vga_text_snapshot(rig->vga, text, sizeof(text)), 0);
}

static void test_text_screen(void **state)
{
    struct rig *rig = *state;
    static struct text_screen text;
    text_setup(rig);
    out_index(rig, 0x3d4, 0x0a, 0x0d);
    out_index(rig, 0x3d4, 0x0e, (24 * 80 + 79) >> 8);
    out_index(rig, 0x3d4, 0x0f, (24 * 80 + 79) & 0xff);
    put_char(rig, 5, 6, 'q', 0x9e);
    vga_refresh(rig->vga, NULL, &text);
    assert_true(text.active);
    assert_int_equal(text.columns, 80);
    assert_int_equal(text.rows, 25);
    assert_true(text.cursor_visible);
    assert_int_equal(text.cursor_column, 79);
    assert_int_equal(text.cursor_row, 24);
    assert_int_equal(text.cells[6][5].character, 'q');
    assert_int_equal(text.cells[6][5].foreground, 14);
    assert_int_equal(text.cells[6][5].background, 1);
    assert_int_equal(text.cells[6][5].flags, TEXT_BLINK);
    out_index(rig, 0x3d4, 0x09, 0x47); /* 8 lines per row: 80 x 50 */
    vga_refresh(rig->vga, NULL, &text);
    assert_int_equal(text.rows, 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        rig_test(test_glyphs),
        rig_test(test_eight_dots_and_doubling),
        rig_test(test_blink),
        rig_test(test_cursor),
        rig_test(test_underline),
        rig_test(test_two_fonts),
        rig_test(test_start_pan_and_preset),
        rig_test(test_split_screen),
        rig_test(test_blank),
        rig_test(test_palette_path),
        rig_test(test_only_changes_are_dirty),
        rig_test(test_snapshot),
        rig_test(test_text_screen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
