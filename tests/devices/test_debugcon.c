#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "devices/debugcon.h"

static char text[16];
static size_t length;

static void on_output(void *ctx, const uint8_t *data, size_t size)
{
    (void)ctx;
    for (size_t i = 0; i < size && length < sizeof(text); i++)
        text[length++] = (char)data[i];
}

static void prints_and_identifies(void **state)
{
    (void)state;
    struct vd_error err;
    struct chardev *chardev;
    struct debugcon debugcon;
    assert_int_equal(chardev_open_callback(&chardev, on_output, NULL, &err), 0);
    debugcon_init(&debugcon, chardev);
    assert_int_equal(debugcon_ops.read(&debugcon, 0, 1), 0xe9);
    debugcon_ops.write(&debugcon, 0, 'o', 1);
    debugcon_ops.write(&debugcon, 0, 'k', 1);
    assert_int_equal(length, 2);
    assert_memory_equal(text, "ok", 2);
    chardev_close(chardev);
}

static void works_unconnected(void **state)
{
    (void)state;
    struct debugcon debugcon;
    debugcon_init(&debugcon, NULL);
    debugcon_ops.write(&debugcon, 0, 'x', 1);
    assert_int_equal(debugcon_ops.read(&debugcon, 0, 1), 0xe9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prints_and_identifies),
        cmocka_unit_test(works_unconnected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
