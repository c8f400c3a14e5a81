/* Against the NS16550A data sheet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "devices/uart16550.h"

static struct vclock vclock;
static struct timer_queue timers;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct chardev *chardev;
static struct uart16550 uart;
static char sent[256];
static size_t sent_size;
static bool irq;
static unsigned edges;

static void on_irq(void *ctx, unsigned pin, bool level)
{
    (void)ctx;
    (void)pin;
    if (level && !irq)
        edges++;
    irq = level;
}

static void on_output(void *ctx, const uint8_t *data, size_t size)
{
    (void)ctx;
    for (size_t i = 0; i < size && sent_size < sizeof(sent); i++)
        sent[sent_size++] = (char)data[i];
}

static void out(unsigned reg, uint8_t value)
{
    uart16550_ops.write(&uart, reg, value, 1);
}

static uint8_t in(unsigned reg)
{
    return (uint8_t)uart16550_ops.read(&uart, reg, 1);
}

static void run_for(uint64_t ns)
{
    vclock.paused_ns += ns;
    timer_queue_run(&timers);
}

static size_t host_sends(const char *text)
{
    return chardev_inject(chardev, (const uint8_t *)text, strlen(text));
}

static int setup(void **state)
{
    struct vd_error err;
    (void)state;
    memset(&vclock, 0, sizeof(vclock));
    vclock.paused = 1;
    timer_queue_init(&timers, &vclock);
    assert_int_equal(chardev_open_callback(&chardev, on_output, NULL, &err), 0);
    struct uart16550_config config = {.irq = {.set = on_irq},
                                      .timers = &timers,
                                      .clock = &vclock,
                                      .chardev = chardev,
                                      .lock = &lock};
    irq = false;
    edges = 0;
    sent_size = 0;
    uart16550_init(&uart, &config);
    out(4, 0x0b); /* DTR, RTS, OUT2 */
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    chardev_close(chardev);
    timer_queue_free(&timers);
    return 0;
}

static void reset_values(void **state)
{
    (void)state;
    uart16550_reset(&uart);
    assert_int_equal(in(1), 0x00);
    assert_int_equal(in(2), 0x01);
    assert_int_equal(in(3), 0x00);
    assert_int_equal(in(4), 0x00);
    assert_int_equal(in(5), 0x60);
    assert_int_equal(in(6), 0xb0);
}

static void registers(void **state)
{
    (void)state;
    out(1, 0xff);
    assert_int_equal(in(1), 0x0f);
    out(1, 0);
    out(3, 0x83);
    out(0, 0x34);
    out(1, 0x12);
    assert_int_equal(in(0), 0x34);
    assert_int_equal(in(1), 0x12);
    out(3, 0x03);
    assert_int_equal(in(1), 0x00);
    assert_int_equal(in(3), 0x03);
    out(4, 0xff);
    assert_int_equal(in(4), 0x1f);
    out(7, 0xa5);
    assert_int_equal(in(7), 0xa5);
    assert_int_equal(sent_size, 0);
    out(2, 0xc1);
    assert_int_equal(in(2), 0xc1);
    out(2, 0x00);
    assert_int_equal(in(2), 0x01);
}

static void transmits(void **state)
{
    (void)state;
    out(3, 0x03);
    out(0, 'H');
    out(0, 'i');
    assert_memory_equal(sent, "Hi", 2);
    assert_int_equal(in(5) & 0x60, 0x60);
    out(3, 0x02); /* 7 bits */
    out(0, 0xc1);
    assert_int_equal(sent[2], 'A');
    out(3, 0x43); /* break: the line is held, the byte is not seen */
    out(0, 'x');
    assert_int_equal(sent_size, 3);
}

static void transmitter_interrupt(void **state)
{
    (void)state;
    out(1, 0x02); /* THR is empty: at once */
    assert_true(irq);
    assert_int_equal(in(2), 0x02);
    assert_false(irq); /* reading IIR takes it back */
    assert_int_equal(in(2), 0x01);
    out(0, 'a');
    assert_true(irq); /* empty again */
    unsigned before = edges;
    out(0, 'b'); /* withdrawn and requested anew */
    assert_int_equal(edges, before + 1);
    assert_int_equal(in(2), 0x02);
    out(1, 0x00);
    out(1, 0x02);
    assert_true(irq);
    out(1, 0x00);
    assert_false(irq);
}

static void receives_without_fifo(void **state)
{
    (void)state;
    out(1, 0x01);
    assert_int_equal(host_sends("abc"), 1);
    assert_true(irq);
    assert_int_equal(in(2), 0x04);
    assert_int_equal(in(5), 0x61);
    assert_int_equal(in(0), 'a');
    assert_false(irq);
    assert_int_equal(in(5), 0x60);
}

static void fifo_trigger_levels(void **state)
{
    (void)state;
    static const unsigned levels[] = {1, 4, 8, 14};
    for (unsigned i = 0; i < 4; i++) {
        out(2, (uint8_t)(0x07 | i << 6));
        out(1, 0x01);
        for (unsigned n = 1; n <= 16; n++) {
            assert_int_equal(host_sends("x"), 1);
            assert_int_equal(irq, n >= levels[i]);
        }
        assert_int_equal(host_sends("x"), 0); /* full: the host waits */
        assert_int_equal(in(2), 0xc4);
        for (unsigned n = 16; n > 0; n--) {
            assert_int_equal(irq, n >= levels[i]);
            assert_int_equal(in(5) & 1, 1);
            in(0);
        }
        assert_int_equal(in(5) & 0x9f, 0);
    }
}

static void character_timeout(void **state)
{
    (void)state;
    out(3, 0x80);
    out(0, 12); /* 9600 */
    out(1, 0);
    out(3, 0x03); /* 10 bits per character: 4 characters in 4.167 ms */
    out(2, 0xc1);
    out(1, 0x01);
    host_sends("ab");
    run_for(4160000);
    assert_false(irq);
    run_for(10000);
    assert_true(irq);
    assert_int_equal(in(2), 0xcc);
    assert_int_equal(in(2), 0xcc); /* not cleared by reading IIR */
    assert_int_equal(in(0), 'a');
    assert_false(irq); /* cleared, and the clock starts over */
    run_for(4000000);
    host_sends("c");
    run_for(4000000);
    assert_false(irq);
    run_for(200000);
    assert_true(irq);
    in(0);
    in(0);
    run_for(100000000);
    assert_false(irq);
}

static void interrupt_priorities(void **state)
{
    (void)state;
    out(2, 0x01);
    out(1, 0x0f);
    uart16550_set_modem(&uart, 0xa0); /* CTS drops */
    host_sends("a");
    uart16550_receive_break(&uart);
    assert_int_equal(in(2) & 0x0f, 0x04); /* the break is not at the top yet */
    assert_int_equal(in(5), 0x60 | 0x01 | 0x80);
    assert_int_equal(in(0), 'a');
    assert_int_equal(in(2) & 0x0f, 0x06);
    assert_int_equal(in(5), 0x60 | 0x01 | 0x10 | 0x80);
    assert_int_equal(in(2) & 0x0f, 0x04); /* LSR was read */
    assert_int_equal(in(5), 0x60 | 0x01);
    assert_int_equal(in(0), 0);
    assert_int_equal(in(2) & 0x0f, 0x02);
    assert_int_equal(in(2) & 0x0f, 0x00); /* the transmitter's was cleared by reading */
    assert_int_equal(in(6), 0xa1);
    assert_int_equal(in(2) & 0x0f, 0x01);
    assert_false(irq);
}

static void modem_status(void **state)
{
    (void)state;
    assert_int_equal(in(6), 0xb0);
    uart16550_set_modem(&uart, 0x70); /* RI comes, DCD goes */
    assert_int_equal(in(6), 0x78);    /* ringing itself is no delta */
    assert_int_equal(in(6), 0x70);
    uart16550_set_modem(&uart, 0x30);
    assert_int_equal(in(6), 0x34); /* trailing edge of RI */
    uart16550_set_modem(&uart, 0x00);
    uart16550_set_modem(&uart, 0x30);
    assert_int_equal(in(6), 0x33); /* deltas are remembered */
}

static void loopback(void **state)
{
    (void)state;
    in(6);
    out(4, 0x10);
    assert_int_equal(in(6) & 0xf0, 0x00);
    static const struct {
        uint8_t mcr, msr;
    } pairs[] = {{0x01, 0x20}, {0x02, 0x10}, {0x04, 0x40}, {0x08, 0x80}};
    for (unsigned i = 0; i < 4; i++) {
        out(4, 0x10 | pairs[i].mcr);
        assert_int_equal(in(6) & 0xf0, pairs[i].msr);
    }
    out(4, 0x1b);
    in(6);
    out(3, 0x03);
    out(2, 0x07);
    out(1, 0x01);
    for (unsigned i = 0; i < 16; i++)
        out(0, (uint8_t)i);
    assert_int_equal(sent_size, 0);
    assert_int_equal(host_sends("x"), 0);
    assert_int_equal(in(2), 0xc4);
    assert_false(irq); /* OUT2 is inactive in loopback */
    assert_int_equal(in(5), 0x61);
    out(0, 99); /* overrun: the FIFO keeps its contents */
    assert_int_equal(in(5), 0x63);
    assert_int_equal(in(5), 0x61);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(in(0), i);
    out(3, 0x43);
    assert_int_equal(in(5), 0xf1);
    assert_int_equal(in(0), 0);
    out(2, 0x00); /* without FIFO an overrun loses the older byte */
    out(3, 0x03);
    out(0, 1);
    out(0, 2);
    assert_int_equal(in(5), 0x63);
    assert_int_equal(in(0), 2);
}

static void fifo_control(void **state)
{
    (void)state;
    out(2, 0x01);
    host_sends("abcd");
    out(2, 0x03); /* reset the receive FIFO */
    assert_int_equal(in(5), 0x60);
    host_sends("abcd");
    out(2, 0x00); /* switching over clears */
    assert_int_equal(in(5), 0x60);
    out(2, 0xc6); /* without bit 0 nothing is programmed */
    assert_int_equal(in(2), 0x01);
}

static void out2_gates_the_interrupt(void **state)
{
    (void)state;
    out(1, 0x01);
    out(4, 0x03);
    host_sends("a");
    assert_false(irq);
    assert_int_equal(in(2), 0x04);
    out(4, 0x0b);
    assert_true(irq);
}

static void survives_garbage(void **state)
{
    (void)state;
    unsigned seed = (unsigned)time(NULL);
    printf("seed %u\n", seed);
    srand(seed);
    for (int i = 0; i < 200000; i++) {
        unsigned reg = (unsigned)rand() % 9;
        if (rand() % 2)
            out(reg, (uint8_t)rand());
        else
            in(reg);
        if (rand() % 8 == 0)
            host_sends("hello");
        if (rand() % 16 == 0)
            uart16550_receive_break(&uart);
        if (rand() % 8 == 0)
            uart16550_set_modem(&uart, (uint8_t)rand());
        if (rand() % 4 == 0)
            run_for((uint64_t)rand() % 1000000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reset_values, setup, teardown),
        cmocka_unit_test_setup_teardown(registers, setup, teardown),
        cmocka_unit_test_setup_teardown(transmits, setup, teardown),
        cmocka_unit_test_setup_teardown(transmitter_interrupt, setup, teardown),
        cmocka_unit_test_setup_teardown(receives_without_fifo, setup, teardown),
        cmocka_unit_test_setup_teardown(fifo_trigger_levels, setup, teardown),
        cmocka_unit_test_setup_teardown(character_timeout, setup, teardown),
        cmocka_unit_test_setup_teardown(interrupt_priorities, setup, teardown),
        cmocka_unit_test_setup_teardown(modem_status, setup, teardown),
        cmocka_unit_test_setup_teardown(loopback, setup, teardown),
        cmocka_unit_test_setup_teardown(fifo_control, setup, teardown),
        cmocka_unit_test_setup_teardown(out2_gates_the_interrupt, setup, teardown),
        cmocka_unit_test_setup_teardown(survives_garbage, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
