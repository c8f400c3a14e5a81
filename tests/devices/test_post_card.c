#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "devices/i8237.h"
#include "devices/post_card.h"

struct shown {
    char text[64];
    size_t length;
};

static void on_output(void *ctx, const uint8_t *data, size_t size)
{
    struct shown *shown = ctx;
    for (size_t i = 0; i < size && shown->length < sizeof(shown->text); i++)
        shown->text[shown->length++] = (char)data[i];
}

/* Both ports are shown in order; the DMA page registers at 80h to 8Fh work as without the card. */
static void shows_codes(void **state)
{
    (void)state;
    struct vd_error err;
    struct chardev *chardev;
    struct shown shown = {.length = 0};
    struct i8237 dma;
    struct post_card card;
    i8237_init(&dma, NULL);
    assert_int_equal(chardev_open_callback(&chardev, on_output, &shown, &err), 0);
    post_card_init(&card, chardev, &i8237_page_ops, &dma);
    post_card_80_ops.write(&card, 0, 0x1f, 1);
    post_card_190_ops.write(&card, 0, 0xff, 1);
    post_card_80_ops.write(&card, 3, 0x12, 1); /* the page of channel 1 */
    post_card_80_ops.write(&card, 0, 0x01, 1);
    assert_int_equal(shown.length, 21);
    assert_memory_equal(shown.text, "080 1f\n190 ff\n080 01\n", 21);
    assert_int_equal(post_card_80_ops.read(&card, 0, 1), 0x01);
    assert_int_equal(post_card_80_ops.read(&card, 3, 1), 0x12);
    assert_int_equal(i8237_page_ops.read(&dma, 3, 1), 0x12);
    assert_int_equal(post_card_190_ops.read(&card, 0, 1), 0xff);
    chardev_close(chardev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(shows_codes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
