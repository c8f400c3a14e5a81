#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "devices/isa_debug_exit.h"

static void on_exit_request(void *ctx, uint32_t code)
{
    *(uint32_t *)ctx = code;
}

static void passes_the_code(void **state)
{
    (void)state;
    uint32_t code = 0;
    struct isa_debug_exit device;
    isa_debug_exit_init(&device, on_exit_request, &code);
    isa_debug_exit_ops.write(&device, 0, 0, 1);
    assert_int_equal(code, 1);
    isa_debug_exit_ops.write(&device, 0, 0x10, 4);
    assert_int_equal(code, 0x21);
    isa_debug_exit_init(&device, NULL, NULL);
    isa_debug_exit_ops.write(&device, 0, 3, 4);
    isa_debug_exit_ops.read(&device, 0, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(passes_the_code)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
