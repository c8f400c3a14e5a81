#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "devices/port92.h"

struct board {
    bool a20;
    unsigned a20_calls, resets;
};

static void on_a20(void *ctx, bool enabled)
{
    struct board *board = ctx;
    board->a20 = enabled;
    board->a20_calls++;
}

static void on_reset(void *ctx)
{
    struct board *board = ctx;
    board->resets++;
}

static void gates_a20_and_resets(void **state)
{
    (void)state;
    struct board board = {0};
    struct port92_config config = {.ctx = &board, .set_a20 = on_a20, .reset_cpu = on_reset};
    struct port92 port;
    port92_init(&port, &config);
    assert_int_equal(port92_ops.read(&port, 0, 1), 0);
    port92_ops.write(&port, 0, 0x02, 1);
    assert_true(board.a20);
    assert_int_equal(port92_ops.read(&port, 0, 1), 2);
    port92_ops.write(&port, 0, 0xfe, 1);
    assert_int_equal(board.a20_calls, 1);
    assert_int_equal(board.resets, 0);
    port92_ops.write(&port, 0, 0x01, 1);
    assert_false(board.a20);
    assert_int_equal(board.resets, 1);
    port92_ops.write(&port, 0, 0x01, 1); /* only the edge counts */
    assert_int_equal(board.resets, 1);
    port92_reset(&port);
    assert_int_equal(port92_ops.read(&port, 0, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(gates_a20_and_resets)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
