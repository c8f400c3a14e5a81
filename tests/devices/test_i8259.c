/* Against the Intel 8259A data sheet (231468). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "devices/i8259.h"

static struct i8259_pair pic;
static bool intr;
static unsigned intr_changes;

static void on_intr(void *ctx, unsigned pin, bool level)
{
    (void)ctx;
    (void)pin;
    assert_true(level != intr);
    intr = level;
    intr_changes++;
}

static void out(unsigned port, uint8_t value)
{
    const struct io_ops *ops = port < 0x22   ? &i8259_master_ops
                               : port < 0xa2 ? &i8259_slave_ops
                                             : &i8259_elcr_ops;
    ops->write(&pic, port & 1, value, 1);
}

static uint8_t in(unsigned port)
{
    const struct io_ops *ops = port < 0x22   ? &i8259_master_ops
                               : port < 0xa2 ? &i8259_slave_ops
                                             : &i8259_elcr_ops;
    return (uint8_t)ops->read(&pic, port & 1, 1);
}

static void irq(unsigned pin, bool level)
{
    i8259_set_irq(&pic, pin, level);
}

static void program(uint8_t icw4_master, uint8_t icw4_slave)
{
    out(0x20, 0x11);
    out(0x21, 0x08);
    out(0x21, 0x04);
    out(0x21, icw4_master);
    out(0xa0, 0x11);
    out(0xa1, 0x70);
    out(0xa1, 0x02);
    out(0xa1, icw4_slave);
    out(0x21, 0);
    out(0xa1, 0);
}

static void start(bool ignore_ltim)
{
    struct i8259_config config = {.intr = {.set = on_intr}, .ignore_ltim = ignore_ltim};
    intr = false;
    i8259_init(&pic, &config);
}

static int setup(void **state)
{
    (void)state;
    start(true);
    program(0x01, 0x01);
    return 0;
}

static uint8_t irr(void)
{
    out(0x20, 0x0a);
    return in(0x20);
}

static uint8_t isr(void)
{
    out(0x20, 0x0b);
    return in(0x20);
}

static void eoi(void)
{
    out(0x20, 0x20);
}

static void fully_nested(void **state)
{
    (void)state;
    irq(4, true);
    assert_true(intr);
    assert_true(i8259_output(&pic));
    assert_int_equal(irr(), 0x10);
    assert_int_equal(i8259_ack(&pic), 0x0c);
    assert_false(intr);
    assert_int_equal(isr(), 0x10);
    assert_int_equal(irr(), 0x00);
    irq(6, true); /* lower: waits */
    assert_false(intr);
    irq(1, true); /* higher: nests */
    assert_true(intr);
    assert_int_equal(i8259_ack(&pic), 0x09);
    assert_int_equal(isr(), 0x12);
    eoi(); /* the highest in service: 1 */
    assert_int_equal(isr(), 0x10);
    assert_false(intr);
    eoi();
    assert_int_equal(isr(), 0);
    assert_true(intr);
    assert_int_equal(i8259_ack(&pic), 0x0e);
}

static void edge_needs_a_new_edge(void **state)
{
    (void)state;
    irq(3, true);
    assert_int_equal(i8259_ack(&pic), 0x0b);
    eoi();
    assert_false(intr); /* still high, no second interrupt */
    irq(3, true);
    assert_false(intr);
    irq(3, false);
    irq(3, true);
    assert_true(intr);
    irq(3, false); /* withdrawn before the acknowledge: default IR7 */
    assert_false(intr);
    assert_int_equal(i8259_ack(&pic), 0x0f);
    assert_int_equal(isr(), 0);
}

static void mask_register(void **state)
{
    (void)state;
    out(0x21, 0x18);
    assert_int_equal(in(0x21), 0x18);
    irq(3, true);
    assert_false(intr);
    assert_int_equal(irr(), 0x08); /* masking does not hide the request */
    out(0x21, 0x10);
    assert_true(intr);
    out(0x21, 0x08);
    assert_false(intr);
}

static void cascade(void **state)
{
    (void)state;
    irq(12, true);
    assert_true(intr);
    assert_int_equal(irr(), 0x04);
    assert_int_equal(i8259_ack(&pic), 0x74);
    assert_int_equal(isr(), 0x04);
    out(0xa0, 0x0b);
    assert_int_equal(in(0xa0), 0x10);
    /* a higher slave request is locked out by the master's level 2 in service */
    irq(9, true);
    assert_false(intr);
    irq(5, true);
    irq(0, true);
    assert_true(intr);
    assert_int_equal(i8259_ack(&pic), 0x08);
    eoi();
    out(0xa0, 0x20);
    eoi();
    assert_int_equal(i8259_ack(&pic), 0x71); /* 9 before 5: level 2 is higher than 5 */
    out(0xa0, 0x20);
    eoi();
    assert_int_equal(i8259_ack(&pic), 0x0d);
}

static void spurious_on_the_slave(void **state)
{
    (void)state;
    irq(14, true);
    assert_true(intr);
    /* the slave's request vanishes but its output was sampled: IR2 stays only by another request */
    irq(15, true);
    irq(14, false);
    assert_int_equal(i8259_ack(&pic), 0x77);
    out(0xa0, 0x20);
    eoi();
    irq(15, false);
    assert_int_equal(i8259_ack(&pic), 0x0f); /* nothing at all: the master's level 7 */
    assert_int_equal(isr(), 0);
}

static void slave_identity(void **state)
{
    (void)state;
    out(0xa0, 0x11);
    out(0xa1, 0x70);
    out(0xa1, 0x05); /* listens to cascade code 5, the master sends 2 */
    out(0xa1, 0x01);
    irq(8, true);
    assert_true(intr);
    assert_int_equal(i8259_ack(&pic), 0xff);
}

static void special_fully_nested(void **state)
{
    (void)state;
    program(0x11, 0x01);
    irq(12, true);
    assert_int_equal(i8259_ack(&pic), 0x74);
    irq(14, true); /* lower on the slave: the slave itself holds it back */
    assert_false(intr);
    irq(9, true);
    assert_true(intr);
    assert_int_equal(i8259_ack(&pic), 0x71);
    irq(2, true); /* not an input */
    assert_false(intr);
}

static void specific_eoi_and_rotation(void **state)
{
    (void)state;
    irq(5, true);
    i8259_ack(&pic);
    irq(3, true);
    i8259_ack(&pic);
    assert_int_equal(isr(), 0x28);
    out(0x20, 0x65); /* specific EOI 5 */
    assert_int_equal(isr(), 0x08);
    out(0x20, 0xa0); /* rotate on non-specific EOI: 3 becomes lowest */
    assert_int_equal(isr(), 0);
    for (unsigned i = 0; i < 8; i++)
        if (i != 2) {
            irq(i, false);
            irq(i, true);
        }
    static const uint8_t order[] = {4, 5, 6, 7, 0, 1, 3};
    for (unsigned i = 0; i < sizeof(order); i++) {
        assert_int_equal(i8259_ack(&pic), 0x08 + order[i]);
        out(0x20, (uint8_t)(0x60 | order[i]));
    }
    assert_false(intr);
    out(0x20, 0xc5); /* set priority: 5 lowest, 6 highest */
    irq(7, false);
    irq(7, true);
    irq(6, false);
    irq(6, true);
    assert_int_equal(i8259_ack(&pic), 0x0e);
    out(0x20, 0xe6); /* rotate on specific EOI: 7 highest */
    irq(0, false);
    irq(0, true);
    assert_int_equal(i8259_ack(&pic), 0x0f);
}

static void automatic_eoi(void **state)
{
    (void)state;
    program(0x03, 0x01);
    irq(1, true);
    irq(4, true);
    assert_int_equal(i8259_ack(&pic), 0x09);
    assert_int_equal(isr(), 0);
    assert_true(intr);
    assert_int_equal(i8259_ack(&pic), 0x0c);
    out(0x20, 0x80); /* rotate in automatic EOI mode */
    irq(4, false);
    irq(4, true);
    assert_int_equal(i8259_ack(&pic), 0x0c);
    for (unsigned i = 3; i < 6; i++) {
        irq(i, false);
        irq(i, true);
    }
    assert_int_equal(i8259_ack(&pic), 0x0d); /* 4 is lowest now */
    assert_int_equal(i8259_ack(&pic), 0x0b);
    assert_int_equal(i8259_ack(&pic), 0x0c);
    out(0x20, 0x00); /* and off again */
    irq(3, false);
    irq(3, true);
    i8259_ack(&pic);
    irq(4, false);
    irq(4, true);
    irq(6, true);
    /* 4 was the last to rotate to the bottom */
    assert_int_equal(i8259_ack(&pic), 0x0e);
}

static void slave_automatic_eoi_makes_new_edges(void **state)
{
    (void)state;
    program(0x01, 0x03);
    irq(8, true);
    irq(9, true);
    assert_int_equal(i8259_ack(&pic), 0x70);
    eoi();
    assert_true(intr);
    assert_int_equal(i8259_ack(&pic), 0x71);
    eoi();
    assert_false(intr);
}

static void special_mask(void **state)
{
    (void)state;
    irq(4, true);
    i8259_ack(&pic);
    irq(6, true);
    assert_false(intr);
    out(0x21, 0x10);
    assert_false(intr);
    out(0x20, 0x68); /* ESMM = SMM = 1 */
    assert_true(intr);
    assert_int_equal(i8259_ack(&pic), 0x0e);
    eoi(); /* clears 6; 4 is masked and stays */
    assert_int_equal(isr(), 0x10);
    eoi();
    assert_int_equal(isr(), 0x10);
    out(0x20, 0x28); /* ESMM = 0: no change */
    irq(7, true);
    assert_true(intr);
    out(0x20, 0x48); /* reset special mask */
    assert_false(intr);
}

static void poll_command(void **state)
{
    (void)state;
    out(0x20, 0x0c);
    assert_int_equal(in(0x20) & 0x80, 0);
    irq(3, true);
    out(0x20, 0x0c);
    assert_int_equal(in(0x20), 0x83);
    assert_false(intr);
    assert_int_equal(isr(), 0x08);
    eoi();
    irq(11, true);
    out(0x20, 0x0c);
    assert_int_equal(in(0x21), 0x82); /* any read is the poll */
    out(0xa0, 0x0c);
    assert_int_equal(in(0xa0), 0x83);
    assert_int_equal(in(0xa1), 0x00); /* the mask again */
}

static void level_triggered(void **state)
{
    (void)state;
    out(0x4d0, 0xff);
    out(0x4d1, 0xff);
    assert_int_equal(in(0x4d0), 0xf8);
    assert_int_equal(in(0x4d1), 0xde);
    irq(5, true);
    assert_int_equal(i8259_ack(&pic), 0x0d);
    assert_int_equal(irr(), 0x20); /* follows the input */
    eoi();
    assert_true(intr);
    assert_int_equal(i8259_ack(&pic), 0x0d);
    irq(5, false);
    eoi();
    assert_false(intr);
    irq(11, true);
    assert_int_equal(i8259_ack(&pic), 0x73);
    out(0xa0, 0x20);
    eoi();
    assert_true(intr);
    assert_int_equal(i8259_ack(&pic), 0x73);
}

static void level_mode_of_icw1(void **state)
{
    (void)state;
    start(false);
    out(0x20, 0x1b); /* LTIM, single, ICW4 */
    out(0x21, 0x40);
    out(0x21, 0x01);
    irq(2, true); /* even in single mode the board has IR2 wired to the slave */
    assert_false(intr);
    irq(0, true);
    assert_int_equal(i8259_ack(&pic), 0x40);
    eoi();
    assert_true(intr);
}

static void initialisation(void **state)
{
    (void)state;
    irq(4, true);
    i8259_ack(&pic);
    out(0x21, 0xff);
    out(0x20, 0xc2);
    out(0x20, 0x68);
    irq(1, true);
    out(0x20, 0x11);
    assert_int_equal(in(0x21), 0); /* IMR cleared */
    assert_int_equal(in(0x20), 0); /* IRR selected; edges forgotten */
    out(0x21, 0x20);
    out(0x21, 0x04);
    out(0x21, 0x01);
    assert_int_equal(isr(), 0);
    assert_false(intr);
    irq(7, true);
    irq(0, true);
    assert_int_equal(i8259_ack(&pic), 0x20); /* IR0 highest again */
    irq(1, false);
    irq(1, true);
    assert_false(intr); /* special mask mode is off */
    eoi();
    assert_int_equal(i8259_ack(&pic), 0x21);
}

static void mcs80_vectors(void **state)
{
    (void)state;
    out(0x20, 0x16 | 0xa0); /* interval 4, single, no ICW4 */
    out(0x21, 0x12);
    out(0x21, 0x00); /* OCW1 */
    irq(5, true);
    assert_int_equal(i8259_ack(&pic), 0xa0 | 5 << 2);
    eoi();
    out(0x20, 0x12 | 0xc0); /* interval 8 */
    out(0x21, 0x12);
    irq(6, true);
    assert_int_equal(i8259_ack(&pic), 0xc0 | 6 << 3);
}

static void reset_keeps_inputs_quiet(void **state)
{
    (void)state;
    irq(1, true);
    assert_true(intr);
    i8259_reset(&pic);
    assert_false(intr);
    program(1, 1);
    assert_false(intr);
    irq(1, false);
    irq(1, true);
    assert_true(intr);
}

static void survives_garbage(void **state)
{
    (void)state;
    unsigned seed = (unsigned)time(NULL);
    printf("seed %u\n", seed);
    srand(seed);
    static const unsigned ports[] = {0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1};
    for (int i = 0; i < 300000; i++) {
        unsigned port = ports[rand() % 6];
        switch (rand() % 4) {
        case 0:
            out(port, (uint8_t)rand());
            break;
        case 1:
            in(port);
            break;
        case 2:
            irq((unsigned)rand() % 20, rand() & 1);
            break;
        default:
            i8259_ack(&pic);
        }
        assert_true(intr == i8259_output(&pic));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(fully_nested, setup),
        cmocka_unit_test_setup(edge_needs_a_new_edge, setup),
        cmocka_unit_test_setup(mask_register, setup),
        cmocka_unit_test_setup(cascade, setup),
        cmocka_unit_test_setup(spurious_on_the_slave, setup),
        cmocka_unit_test_setup(slave_identity, setup),
        cmocka_unit_test_setup(special_fully_nested, setup),
        cmocka_unit_test_setup(specific_eoi_and_rotation, setup),
        cmocka_unit_test_setup(automatic_eoi, setup),
        cmocka_unit_test_setup(slave_automatic_eoi_makes_new_edges, setup),
        cmocka_unit_test_setup(special_mask, setup),
        cmocka_unit_test_setup(poll_command, setup),
        cmocka_unit_test_setup(level_triggered, setup),
        cmocka_unit_test_setup(level_mode_of_icw1, setup),
        cmocka_unit_test_setup(initialisation, setup),
        cmocka_unit_test_setup(mcs80_vectors, setup),
        cmocka_unit_test_setup(reset_keeps_inputs_quiet, setup),
        cmocka_unit_test_setup(survives_garbage, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
