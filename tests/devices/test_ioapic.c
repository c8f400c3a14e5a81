/* 82093AA data sheet 290566, with a local APIC at the other end of the bus. */
#include "board_fixture.h"
#include "devices/ioapic.h"

enum { BASE = 0xfec00000 };

struct rig {
    struct board board;
    struct apic_bus bus;
    struct local_apic apic;
    struct ioapic ioapic;
    unsigned nmis;
};

static struct rig rig;

static void on_nmi(void *ctx)
{
    (void)ctx;
    rig.nmis++;
}
static int pic_ack(void *ctx)
{
    (void)ctx;
    return 0x22;
}

static int setup(void **state)
{
    (void)state;
    struct vd_error err;
    memset(&rig, 0, sizeof(rig));
    board_create(&rig.board, 1 << 20);
    struct apic_bus_config config = {.as = rig.board.as,
                                     .timers = &rig.board.timers,
                                     .timer_hz = 1000000000,
                                     .phys_bits = 40,
                                     .ctx = &rig.ioapic,
                                     .eoi = ioapic_end_of_interrupt};
    apic_bus_init(&rig.bus, &config);
    struct local_apic_config cpu = {.bootstrap = true, .nmi = on_nmi, .pic_ack = pic_ack};
    assert_int_equal(local_apic_init(&rig.apic, &rig.bus, &cpu, &err), 0);
    assert_int_equal(ioapic_init(&rig.ioapic, &rig.bus, BASE, 0, &err), 0);
    local_apic_write(&rig.apic, 0xf0, 0x1ff);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ioapic_destroy(&rig.ioapic);
    apic_bus_destroy(&rig.bus);
    board_destroy(&rig.board);
    return 0;
}

static uint32_t rd(unsigned reg)
{
    mem_write32(&rig.board, BASE, reg);
    return mem_read32(&rig.board, BASE + 0x10);
}
static void wr(unsigned reg, uint32_t value)
{
    mem_write32(&rig.board, BASE, reg);
    mem_write32(&rig.board, BASE + 0x10, value);
}
static int take(void)
{
    return local_apic_intr_pending(&rig.apic) ? local_apic_intr_ack(&rig.apic) : -1;
}
static void eoi(void)
{
    local_apic_write(&rig.apic, 0xb0, 0);
}
static void set(unsigned pin, bool level)
{
    ioapic_set_pin(&rig.ioapic, pin, level);
}

static void test_registers(void **state)
{
    (void)state;
    assert_int_equal(rd(1), 0x00170020);
    assert_int_equal(rd(0), 0);
    wr(0, 0xffffffff);
    assert_int_equal(rd(0), 0x0f000000);
    assert_int_equal(rd(2), 0x0f000000);
    wr(1, 0);
    assert_int_equal(rd(1), 0x00170020);
    for (unsigned pin = 0; pin < 24; pin++) {
        assert_int_equal(rd(0x10 + 2 * pin), 0x10000);
        wr(0x10 + 2 * pin, 0xffffffff);
        wr(0x11 + 2 * pin, 0xffffffff);
        assert_int_equal(rd(0x10 + 2 * pin), 0x1afff); /* status and remote IRR are read-only */
        assert_int_equal(rd(0x11 + 2 * pin), 0xff000000);
    }
    assert_int_equal(rd(0x40), 0);
    wr(0xff, 1);
    mem_write32(&rig.board, BASE, 0x123);
    assert_int_equal(mem_read32(&rig.board, BASE), 0x23);
    ioapic_reset(&rig.ioapic);
    assert_int_equal(rd(0x10), 0x10000);
    set(24, true); /* no such pin */
}

static void test_edge(void **state)
{
    (void)state;
    wr(0x10 + 2 * 4, 0x34);
    set(4, true);
    assert_int_equal(take(), 0x34);
    eoi();
    assert_int_equal(take(), -1); /* still high: no new edge */
    set(4, true);
    assert_int_equal(take(), -1);
    set(4, false);
    set(4, true);
    assert_int_equal(take(), 0x34);
    assert_int_equal(rd(0x10 + 2 * 4), 0x34); /* edge entries have no remote IRR */
    eoi();
    wr(0x10 + 2 * 4, 0x10034); /* edges on a masked pin are lost */
    set(4, false);
    set(4, true);
    wr(0x10 + 2 * 4, 0x34);
    assert_int_equal(take(), -1);
}

static void test_edge_waits(void **state)
{
    (void)state;
    static const uint32_t entries[] = {0x34, 0x134, 0x834}; /* fixed, lowest priority, logical */
    local_apic_write(&rig.apic, 0xd0, 0x01000000);
    for (unsigned i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
        wr(0x11 + 2 * 4, entries[i] & 0x800 ? 0x01000000 : 0);
        wr(0x10 + 2 * 4, entries[i]);
        assert_false(ioapic_edge_waits(&rig.ioapic, 4));
        set(4, true);
        assert_true(ioapic_edge_waits(&rig.ioapic, 4));
        wr(0x10 + 2 * 4, 0x10000 | entries[i]);
        assert_false(ioapic_edge_waits(&rig.ioapic, 4));
        wr(0x10 + 2 * 4, entries[i]);
        assert_int_equal(take(), 0x34);
        assert_false(ioapic_edge_waits(&rig.ioapic, 4)); /* IRR is free again */
        eoi();
        set(4, false);
    }
    wr(0x10 + 2 * 4, 0x8034);
    set(4, true);
    assert_false(ioapic_edge_waits(&rig.ioapic, 4)); /* no edge */
}

static void test_level(void **state)
{
    (void)state;
    unsigned reg = 0x10 + 2 * 10;
    wr(reg, 0x8051);
    set(10, true);
    assert_int_equal(rd(reg), 0xc051);
    assert_int_equal(take(), 0x51);
    set(10, false);
    set(10, true); /* no second message before EOI */
    assert_int_equal(take(), -1);
    eoi();
    assert_int_equal(take(), 0x51); /* still asserted: again */
    set(10, false);
    assert_int_equal(rd(reg), 0xc051);
    eoi();
    assert_int_equal(rd(reg), 0x8051);
    assert_int_equal(take(), -1);

    wr(reg, 0x18051); /* masked while asserted, then unmasked */
    set(10, true);
    assert_int_equal(take(), -1);
    wr(reg, 0x8051);
    assert_int_equal(take(), 0x51);
    /* Linux clears a stuck remote IRR by edge mode and back. */
    wr(reg, 0x10051);
    assert_int_equal(rd(reg), 0x10051);
    set(10, false);
    eoi();
    assert_int_equal(take(), -1);
}

static void test_eoi_register(void **state)
{
    (void)state;
    unsigned reg = 0x10 + 2 * 11;
    wr(reg, 0x8061);
    set(11, true);
    assert_int_equal(rd(reg), 0xc061);
    set(11, false);
    mem_write32(&rig.board, BASE + 0x40, 0x60); /* another vector */
    assert_int_equal(rd(reg), 0xc061);
    mem_write32(&rig.board, BASE + 0x40, 0x61);
    assert_int_equal(rd(reg), 0x8061);
}

static void test_delivery_modes(void **state)
{
    (void)state;
    wr(0x10, 0x700); /* ExtINT on pin 0: the vector comes from the 8259s */
    set(0, true);
    assert_int_equal(take(), 0x22);
    wr(0x12, 0x400);
    set(1, true);
    assert_int_equal(rig.nmis, 1);
    wr(0x14, 0x141); /* lowest priority */
    wr(0x15, 0xff000000);
    set(2, true);
    assert_int_equal(take(), 0x41);
    eoi();
    local_apic_write(&rig.apic, 0xd0, 0x04000000);
    wr(0x16, 0x842); /* logical */
    wr(0x17, 0x03000000);
    set(3, true);
    assert_int_equal(take(), -1);
    wr(0x17, 0x06000000);
    set(3, false);
    set(3, true);
    assert_int_equal(take(), 0x42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_registers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_edge, setup, teardown),
        cmocka_unit_test_setup_teardown(test_edge_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_level, setup, teardown),
        cmocka_unit_test_setup_teardown(test_eoi_register, setup, teardown),
        cmocka_unit_test_setup_teardown(test_delivery_modes, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
