/* Intel SDM vol. 3 chapter 11. */
#include "board_fixture.h"
#include "devices/local_apic.h"

enum { BASE = 0xfee00000, TIMER_HZ = 100000000 /* 10 ns a tick */ };

struct cpu {
    struct local_apic apic;
    unsigned interrupts, nmis, inits;
    int startup;
};

struct rig {
    struct board board;
    struct apic_bus bus;
    struct cpu cpu[3];
    unsigned current, pic_acks;
    int eoi; /* last broadcast, -1: none */
};

static struct rig rig;

static void on_interrupt(void *ctx)
{
    ((struct cpu *)ctx)->interrupts++;
}
static void on_nmi(void *ctx)
{
    ((struct cpu *)ctx)->nmis++;
}
static void on_init(void *ctx)
{
    ((struct cpu *)ctx)->inits++;
}
static void on_startup(void *ctx, uint8_t vector)
{
    ((struct cpu *)ctx)->startup = vector;
}
static int pic_ack(void *ctx)
{
    (void)ctx;
    rig.pic_acks++;
    return 0x08;
}
static unsigned current_cpu(void *ctx)
{
    (void)ctx;
    return rig.current;
}
static void on_eoi(void *ctx, uint8_t vector)
{
    (void)ctx;
    rig.eoi = vector;
}

static int setup(void **state)
{
    (void)state;
    struct vd_error err;
    memset(&rig, 0, sizeof(rig));
    rig.eoi = -1;
    board_create(&rig.board, 1 << 20);
    struct apic_bus_config config = {.as = rig.board.as,
                                     .timers = &rig.board.timers,
                                     .timer_hz = TIMER_HZ,
                                     .phys_bits = 40,
                                     .current_cpu = current_cpu,
                                     .eoi = on_eoi};
    apic_bus_init(&rig.bus, &config);
    for (unsigned i = 0; i < 3; i++) {
        struct local_apic_config cpu = {.id = (uint8_t)i,
                                        .bootstrap = i == 0,
                                        .ctx = &rig.cpu[i],
                                        .interrupt = on_interrupt,
                                        .nmi = on_nmi,
                                        .init = on_init,
                                        .startup = on_startup,
                                        .pic_ack = pic_ack};
        rig.cpu[i].startup = -1;
        assert_int_equal(local_apic_init(&rig.cpu[i].apic, &rig.bus, &cpu, &err), 0);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    apic_bus_destroy(&rig.bus);
    board_destroy(&rig.board);
    return 0;
}

static uint32_t rd(unsigned offset)
{
    return mem_read32(&rig.board, BASE + offset);
}
static void wr(unsigned offset, uint32_t value)
{
    mem_write32(&rig.board, BASE + offset, value);
}
static void enable_all(void)
{
    for (rig.current = 0; rig.current < 3; rig.current++)
        wr(0xf0, 0x1ff);
    rig.current = 0;
}
static bool pending(unsigned cpu)
{
    return local_apic_intr_pending(&rig.cpu[cpu].apic);
}
static int ack(unsigned cpu)
{
    return local_apic_intr_ack(&rig.cpu[cpu].apic);
}
static bool send(uint8_t destination, bool logical, enum apic_delivery delivery, uint8_t vector,
                 bool level)
{
    struct apic_message message = {destination, logical, delivery, vector, level};
    return apic_bus_send(&rig.bus, &message);
}

static void test_reset_state(void **state)
{
    (void)state;
    assert_int_equal(local_apic_base_read(&rig.cpu[0].apic), BASE | 0x900);
    assert_int_equal(local_apic_base_read(&rig.cpu[1].apic), BASE | 0x800);
    for (rig.current = 0; rig.current < 3; rig.current++) {
        assert_int_equal(rd(0x20), rig.current << 24);
        assert_int_equal(rd(0x30), 0x00050014);
        assert_int_equal(rd(0xe0), 0xffffffff);
        assert_int_equal(rd(0xf0), 0xff);
        assert_int_equal(rd(0x80) | rd(0xa0) | rd(0xd0) | rd(0x280) | rd(0x300) | rd(0x310), 0);
        assert_int_equal(rd(0x320) & rd(0x330) & rd(0x340) & rd(0x360) & rd(0x370), 0x10000);
        assert_int_equal(rd(0x350), rig.current ? 0x10000 : 0x700); /* virtual wire */
        assert_int_equal(rd(0x380) | rd(0x390) | rd(0x3e0), 0);
        for (unsigned i = 0; i < 8; i++)
            assert_int_equal(rd(0x100 + 16 * i) | rd(0x180 + 16 * i) | rd(0x200 + 16 * i), 0);
    }
}

static void test_fixed_interrupt_life_cycle(void **state)
{
    (void)state;
    assert_true(send(0, false, APIC_FIXED, 0x41, false));
    assert_false(pending(0)); /* software-disabled: dropped */
    enable_all();
    assert_false(pending(0));
    assert_true(send(0, false, APIC_FIXED, 0x41, false));
    assert_true(pending(0));
    assert_false(pending(1));
    assert_int_equal(rig.cpu[0].interrupts, 1);
    assert_int_equal(rd(0x220), 1 << 1); /* IRR: vector 41h */
    assert_int_equal(ack(0), 0x41);
    assert_int_equal(rd(0x220), 0);
    assert_int_equal(rd(0x120), 1 << 1); /* ISR */
    assert_int_equal(rd(0xa0), 0x40);    /* PPR */
    assert_false(pending(0));
    assert_int_equal(ack(0), -1);
    wr(0xb0, 0);
    assert_int_equal(rd(0x120), 0);
    assert_int_equal(rig.eoi, -1); /* edge: nobody is told */
    assert_false(send(9, false, APIC_FIXED, 0x41, false));
}

static void test_priorities(void **state)
{
    (void)state;
    enable_all();
    send(0, false, APIC_FIXED, 0x52, false);
    assert_int_equal(ack(0), 0x52);
    send(0, false, APIC_FIXED, 0x5f, false); /* same class: waits */
    assert_false(pending(0));
    send(0, false, APIC_FIXED, 0x61, false); /* higher class: nests */
    assert_true(pending(0));
    assert_int_equal(ack(0), 0x61);
    wr(0xb0, 0);
    assert_false(pending(0));
    wr(0xb0, 0); /* 52h done */
    assert_int_equal(ack(0), 0x5f);
    wr(0xb0, 0);
    /* Task priority. */
    wr(0x80, 0x60);
    send(0, false, APIC_FIXED, 0x6f, false);
    assert_false(pending(0));
    assert_int_equal(rd(0xa0), 0x60);
    assert_int_equal(local_apic_tpr_read(&rig.cpu[0].apic), 6);
    local_apic_tpr_write(&rig.cpu[0].apic, 5);
    assert_int_equal(rd(0x80), 0x50);
    assert_true(pending(0));
    assert_int_equal(ack(0), 0x6f);
}

static void test_level_eoi_is_broadcast(void **state)
{
    (void)state;
    enable_all();
    send(0, false, APIC_FIXED, 0x93, true);
    assert_int_equal(rd(0x1c0), 1 << 19); /* TMR */
    assert_int_equal(ack(0), 0x93);
    wr(0xb0, 0);
    assert_int_equal(rig.eoi, 0x93);
    rig.eoi = -1;
    send(0, false, APIC_FIXED, 0x93, false);
    assert_int_equal(rd(0x1c0), 0);
    assert_int_equal(ack(0), 0x93);
    wr(0xb0, 0);
    assert_int_equal(rig.eoi, -1);
}

static void test_logical_destinations(void **state)
{
    (void)state;
    enable_all();
    for (rig.current = 0; rig.current < 3; rig.current++)
        wr(0xd0, 1u << (24 + rig.current));
    assert_true(send(0x06, true, APIC_FIXED, 0x40, false)); /* flat: 1 and 2 */
    assert_false(pending(0));
    assert_int_equal(ack(1), 0x40);
    assert_int_equal(ack(2), 0x40);
    for (rig.current = 0; rig.current < 3; rig.current++) {
        wr(0xb0, 0);
        wr(0xe0, 0x0fffffff); /* cluster model */
        wr(0xd0, rig.current == 2 ? 0x21000000 : 0x11000000u << rig.current % 2);
    }
    /* LDR: 11h, 22h, 21h */
    assert_true(send(0x21, true, APIC_FIXED, 0x40, false));
    assert_false(pending(0));
    assert_false(pending(1));
    assert_true(pending(2));
    assert_true(send(0xf2, true, APIC_FIXED, 0x50, false)); /* any cluster */
    assert_false(pending(0));
    assert_int_equal(ack(1), 0x50);
    assert_true(send(0xff, true, APIC_FIXED, 0x70, false));
    assert_int_equal(ack(0), 0x70);
    assert_int_equal(ack(1), 0x70);
    assert_int_equal(ack(2), 0x70);
}

static void test_lowest_priority(void **state)
{
    (void)state;
    enable_all();
    rig.current = 0;
    wr(0x80, 0x20);
    rig.current = 2;
    wr(0x80, 0x10);
    for (unsigned i = 0; i < 2; i++) {
        assert_true(send(0xff, false, APIC_LOWEST_PRIORITY, 0x90, false));
        assert_int_equal(ack(1), 0x90); /* TPR 0 */
        assert_false(pending(0) || pending(2));
        rig.current = 1;
        wr(0xb0, 0);
    }
    wr(0x80, 0x30);
    assert_true(send(0xff, false, APIC_LOWEST_PRIORITY, 0x90, false));
    assert_int_equal(ack(2), 0x90);
}

static void test_ipis(void **state)
{
    (void)state;
    enable_all();
    wr(0x310, 1u << 24);
    wr(0x300, 0x00004055); /* fixed, physical, to 1 */
    assert_int_equal(ack(1), 0x55);
    assert_int_equal(rd(0x300), 0x4055); /* delivery status idle */
    wr(0x300, 0x00044066);               /* self */
    assert_int_equal(ack(0), 0x66);
    wr(0x300, 0x00084077); /* all including self */
    assert_true(pending(0) && pending(2));
    assert_int_equal(ack(0), 0x77);
    assert_int_equal(ack(2), 0x77);
    wr(0x300, 0x000c4400); /* NMI to the others */
    assert_int_equal(rig.cpu[0].nmis, 0);
    assert_int_equal(rig.cpu[1].nmis + rig.cpu[2].nmis, 2);
    wr(0x300, 0x000c4500); /* INIT, then SIPI, as firmware does */
    assert_int_equal(rig.cpu[0].inits, 0);
    assert_int_equal(rig.cpu[1].inits + rig.cpu[2].inits, 2);
    wr(0x300, 0x000c8500); /* INIT level de-assert: nothing */
    assert_int_equal(rig.cpu[1].inits, 1);
    wr(0x300, 0x000c4610);
    assert_int_equal(rig.cpu[0].startup, -1);
    assert_int_equal(rig.cpu[1].startup, 0x10);
    assert_int_equal(rig.cpu[2].startup, 0x10);
    rig.current = 1;
    assert_int_equal(rd(0xf0), 0xff); /* INIT reset the APIC, but not its ID */
    assert_int_equal(rd(0x20), 1u << 24);
}

static void test_errors(void **state)
{
    (void)state;
    enable_all();
    wr(0x370, 0x3f);
    wr(0x300, 0x00044005);          /* vector 5 */
    assert_int_equal(rd(0x280), 0); /* not before a write latches it */
    wr(0x280, 0);
    assert_int_equal(rd(0x280), 1 << 5);
    assert_int_equal(ack(0), 0x3f);
    wr(0xb0, 0);
    wr(0x280, 0);
    assert_int_equal(rd(0x280), 0);
    send(0, false, APIC_FIXED, 3, false);
    wr(0x280, 0);
    assert_int_equal(rd(0x280), 1 << 6);
    rd(0x3f0);
    wr(0x280, 0);
    assert_int_equal(rd(0x280), 1 << 7);
    wr(0x370, 0x05); /* an illegal vector in the error entry itself */
    send(0, false, APIC_FIXED, 3, false);
}

static void test_extint_through_lint0(void **state)
{
    (void)state;
    struct local_apic *apic = &rig.cpu[0].apic;
    local_apic_set_lint(apic, 0, true); /* virtual wire out of reset */
    assert_true(pending(0));
    assert_int_equal(ack(0), 0x08);
    assert_int_equal(rig.pic_acks, 1);
    assert_true(pending(0)); /* the 8259 still asserts */
    local_apic_set_lint(apic, 0, false);
    assert_false(pending(0));
    enable_all();
    wr(0x350, 0x10700);
    local_apic_set_lint(apic, 0, true);
    assert_false(pending(0)); /* masked */
    wr(0x350, 0x8700);
    assert_true(pending(0));
    wr(0xf0, 0xff); /* software disable masks the LVT */
    assert_false(pending(0));
    assert_int_equal(rd(0x350), 0x18700);
    wr(0x350, 0x8700); /* and it cannot be unmasked until enabled */
    assert_int_equal(rd(0x350), 0x18700);
    /* Hardware disable: LINT0 is INTR, LINT1 is NMI. */
    assert_int_equal(local_apic_base_write(apic, BASE | 0x100), 0);
    assert_true(pending(0));
    local_apic_set_lint(apic, 1, true);
    assert_int_equal(rig.cpu[0].nmis, 1);
}

static void test_lint1_nmi_and_level_lint0(void **state)
{
    (void)state;
    struct local_apic *apic = &rig.cpu[0].apic;
    enable_all();
    wr(0x360, 0x400);
    local_apic_set_lint(apic, 1, true);
    local_apic_set_lint(apic, 1, true);
    assert_int_equal(rig.cpu[0].nmis, 1);
    local_apic_set_lint(apic, 1, false);
    local_apic_set_lint(apic, 1, true);
    assert_int_equal(rig.cpu[0].nmis, 2);

    wr(0x350, 0x8000 | 0x44); /* fixed, level */
    local_apic_set_lint(apic, 0, true);
    assert_int_equal(ack(0), 0x44);
    assert_int_equal(rd(0x350), 0xc044); /* remote IRR */
    assert_false(pending(0));
    wr(0xb0, 0);
    assert_true(pending(0)); /* still asserted: again */
    assert_int_equal(ack(0), 0x44);
    local_apic_set_lint(apic, 0, false);
    wr(0xb0, 0);
    assert_false(pending(0));
    assert_int_equal(rd(0x350), 0x8044);
}

/* What LINT1 does is its LVT entry's choice: NMI per rising edge, unless masked. */
static void test_lint1_delivery(void **state)
{
    (void)state;
    static const struct {
        uint32_t lvt;
        unsigned nmis;
        int vector;
    } cases[] = {{0x400, 1, -1},   {0x431, 1, -1},   {0x10400, 0, -1},
                 {0x31, 0, 0x31},  {0x10031, 0, -1}, {0x500, 0, -1},
                 {0x8400, 1, -1} /* NMI is an edge whatever the trigger bit says */};
    struct local_apic *apic = &rig.cpu[0].apic;
    enable_all();
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        wr(0x360, cases[i].lvt);
        rig.cpu[0].nmis = 0;
        local_apic_set_lint(apic, 1, true);
        assert_int_equal(rig.cpu[0].nmis, cases[i].nmis);
        assert_int_equal(rig.cpu[0].inits, cases[i].lvt == 0x500);
        assert_int_equal(ack(0), cases[i].vector);
        local_apic_set_lint(apic, 1, false);
        assert_int_equal(rig.cpu[0].nmis, cases[i].nmis);
        wr(0xb0, 0);
        rig.cpu[0].inits = 0;
        wr(0xf0, 0x1ff); /* INIT has disabled it */
    }
}

static void test_timer_one_shot(void **state)
{
    (void)state;
    struct board *board = &rig.board;
    enable_all();
    wr(0x3e0, 0x3); /* divide by 16 */
    wr(0x320, 0x31);
    wr(0x380, 1000); /* 1000 * 16 * 10 ns = 160 us */
    assert_int_equal(rd(0x390), 1000);
    board_run_until(board, 80000);
    assert_int_equal(rd(0x390), 500);
    assert_false(pending(0));
    board_run_until(board, 159999);
    assert_int_equal(rd(0x390), 1);
    assert_false(pending(0));
    board_run_until(board, 160001);
    assert_int_equal(rd(0x390), 0);
    assert_int_equal(ack(0), 0x31);
    wr(0xb0, 0);
    board_run_until(board, 1000000);
    assert_false(pending(0));
    wr(0x380, 1000); /* stopped by writing 0 */
    wr(0x380, 0);
    board_run_until(board, 2000000);
    assert_false(pending(0));
}

static void test_timer_divisors(void **state)
{
    (void)state;
    static const unsigned codes[8] = {0, 1, 2, 3, 8, 9, 10, 11};
    static const unsigned divisors[8] = {2, 4, 8, 16, 32, 64, 128, 1};
    enable_all();
    for (unsigned i = 0; i < 8; i++) {
        wr(0x3e0, codes[i]);
        wr(0x380, 1000000);
        uint64_t start = rig.board.clock.paused_ns;
        board_run_until(&rig.board, start + 12800); /* 1280 ticks */
        assert_int_equal(1000000 - rd(0x390), 1280 / divisors[i]);
    }
}

static void test_timer_periodic(void **state)
{
    (void)state;
    struct board *board = &rig.board;
    enable_all();
    wr(0x3e0, 0xb);
    wr(0x320, 0x20031);
    wr(0x380, 10000); /* 100 us */
    for (unsigned n = 1; n <= 50; n++) {
        board_run_until(board, n * 100000 - 1);
        assert_false(pending(0));
        board_run_until(board, n * 100000 + 1);
        assert_int_equal(ack(0), 0x31);
        wr(0xb0, 0);
    }
    wr(0x320, 0x30031); /* masked: counts on without interrupts */
    board_run_until(board, 50 * 100000 + 150000);
    assert_false(pending(0));
    assert_in_range(rd(0x390), 4999, 5001);
    wr(0x320, 0x20031);
    board_run_until(board, 50 * 100000 + 200001);
    assert_true(pending(0));
    wr(0x380, 1); /* absurdly short: the machine must survive it */
    board_run_until(board, 50 * 100000 + 1000000);
}

/*
 * A count of 1 ns has run out before the write that starts it is over, as a longer one has when the
 * host stops the processor in the middle. Its interrupt comes.
 */
static void test_count_that_runs_out_while_it_is_written(void **state)
{
    (void)state;
    enable_all();
    vclock_init(&rig.board.clock);
    wr(0x3e0, 0xb);
    wr(0x320, 0x31);
    for (unsigned i = 0; i < 1000; i++) {
        wr(0x380, 1 + i % 200);
        if (i % 3 == 0)
            wr(0x320, 0x31); /* as it is */
        while (!pending(0)) {
            assert_true(timer_armed(&rig.cpu[0].apic.timer));
            timer_queue_run(&rig.board.timers);
        }
        assert_int_equal(ack(0), 0x31);
        wr(0xb0, 0);
    }
}

/* Nobody runs the processor for a while: no interrupt of the last second is lost. */
static void test_periodic_timer_catches_up(void **state)
{
    (void)state;
    struct board *board = &rig.board;
    enable_all();
    wr(0x3e0, 0xb);
    wr(0x320, 0x20031);
    wr(0x380, 400000); /* 4 ms */
    board_run_until(board, 4000001);
    assert_int_equal(ack(0), 0x31);
    wr(0xb0, 0);
    board->clock.paused_ns = 42000000; /* the host was busy: 9 more are due */
    unsigned taken = 0;
    for (uint64_t ns = 42000000; ns < 43999000; ns += 1000) {
        board_run_until(board, ns);
        if (!pending(0))
            continue;
        assert_int_equal(ack(0), 0x31);
        wr(0xb0, 0);
        taken++;
    }
    assert_int_equal(taken, 9);
    /* Nor while the processor has interrupts off, and a masked interrupt needs no host timer. */
    board_run_until(board, 84000001);
    assert_true(pending(0));
    assert_false(timer_armed(&rig.cpu[0].apic.timer));
    for (taken = 0; pending(0); taken++) {
        assert_int_equal(ack(0), 0x31);
        board_run_until(board, board->clock.paused_ns + 125001); /* a 32nd of the period */
        wr(0xb0, 0);
    }
    assert_int_equal(taken, 11);
    /* What is more than a second old is forgotten. */
    board_run_until(board, 8400000000);
    for (taken = 0; pending(0); taken++) {
        assert_int_equal(ack(0), 0x31);
        wr(0xb0, 0);
        board_run_until(board, board->clock.paused_ns + 125001);
    }
    assert_in_range(taken, 2, 3);
    /* A newly started timer owes nothing. */
    board_run_until(board, board->clock.paused_ns + 40000000);
    wr(0x380, 400000);
    assert_int_equal(ack(0), 0x31);
    wr(0xb0, 0);
    board_run_until(board, board->clock.paused_ns + 3999999);
    assert_false(pending(0));
}

/* A new mode neither restarts nor moves the count, and does not wake a timer that has stopped. */
static void test_timer_mode_change(void **state)
{
    (void)state;
    struct board *board = &rig.board;
    enable_all();
    wr(0x3e0, 0xb);
    wr(0x320, 0x31);
    wr(0x380, 1000); /* 10 us */
    board_run_until(board, 6000);
    wr(0x320, 0x20031);
    assert_int_equal(rd(0x390), 400);
    board_run_until(board, 10001);
    assert_int_equal(ack(0), 0x31);
    wr(0xb0, 0);
    board_run_until(board, 17000); /* 300 left of the second period */
    assert_int_equal(rd(0x390), 300);
    wr(0x320, 0x31);
    assert_int_equal(rd(0x390), 300);
    board_run_until(board, 19999);
    assert_false(pending(0));
    board_run_until(board, 20001);
    assert_int_equal(ack(0), 0x31);
    wr(0xb0, 0);
    assert_int_equal(rd(0x390), 0);
    assert_int_equal(rd(0x380), 1000);
    wr(0x320, 0x20031);
    assert_int_equal(rd(0x390), 0);
    board_run_until(board, 100000);
    assert_int_equal(rd(0x390), 0);
    assert_false(pending(0));
}

/* A count that ran out has interrupted, though the host's timer was late and software came first.
 */
static void test_timer_written_when_due(void **state)
{
    (void)state;
    static const struct {
        uint32_t reg, value;
    } writes[] = {{0x320, 0x10031}, {0x320, 0x32}, {0x320, 0x20032}, {0x320, 0x40032},
                  {0x380, 0},       {0x380, 5000}, {0x3e0, 0x0}};
    enable_all();
    for (unsigned i = 0; i < 2 * sizeof(writes) / sizeof(writes[0]); i++) {
        wr(0x3e0, 0xb);
        wr(0x320, i & 1 ? 0x20031 : 0x31); /* periodic, one-shot */
        wr(0x380, 1000);                   /* 10 us */
        rig.board.clock.paused_ns += 10001;
        assert_false(pending(0)); /* nobody ran the timers yet */
        wr(writes[i / 2].reg, writes[i / 2].value);
        assert_int_equal(ack(0), 0x31);
        wr(0xb0, 0);
        board_run_until(&rig.board, rig.board.clock.paused_ns + 1);
        assert_false(pending(0)); /* once */
        wr(0x320, 0x31);
        wr(0x380, 0);
    }
}

/* The interrupt that is due when software disables the APIC has been requested already. */
static void test_timer_due_at_software_disable(void **state)
{
    (void)state;
    enable_all();
    wr(0x3e0, 0xb);
    wr(0x320, 0x31);
    wr(0x380, 1000); /* 10 us */
    rig.board.clock.paused_ns += 10001;
    wr(0xf0, 0xff);
    assert_false(pending(0));
    assert_int_equal(rd(0x320), 0x10031);
    assert_int_equal(rd(0x210), 1u << 0x11); /* held in IRR (SDM 11.4.7.2) */
    wr(0xf0, 0x1ff);
    assert_int_equal(ack(0), 0x31);
}

static void test_tsc_deadline(void **state)
{
    (void)state;
    struct board *board = &rig.board;
    struct local_apic *apic = &rig.cpu[0].apic;
    uint64_t value = 5000;
    enable_all();
    assert_int_equal(local_apic_tsc_deadline(apic, true, &value), 0); /* other mode: ignored */
    assert_int_equal(local_apic_tsc_deadline(apic, false, &value), 0);
    assert_int_equal(value, 0);
    wr(0x320, 0x40031);
    value = 7000;
    assert_int_equal(local_apic_tsc_deadline(apic, true, &value), 0);
    value = 0;
    assert_int_equal(local_apic_tsc_deadline(apic, false, &value), 0);
    assert_int_equal(value, 7000);
    wr(0x380, 10); /* ignored in this mode */
    board_run_until(board, 6999);
    assert_false(pending(0));
    board_run_until(board, 7001);
    assert_int_equal(ack(0), 0x31);
    wr(0xb0, 0);
    assert_int_equal(local_apic_tsc_deadline(apic, false, &value), 0);
    assert_int_equal(value, 0); /* disarmed by firing */
    value = 100;                /* in the past: at once */
    local_apic_tsc_deadline(apic, true, &value);
    assert_int_equal(ack(0), 0x31);
    wr(0xb0, 0);
    value = 20000;
    local_apic_tsc_deadline(apic, true, &value);
    value = 0; /* 0 disarms */
    local_apic_tsc_deadline(apic, true, &value);
    board_run_until(board, 30000);
    assert_false(pending(0));
    value = UINT64_MAX;
    local_apic_tsc_deadline(apic, true, &value);
    wr(0x320, 0x31); /* leaving the mode disarms */
    value = 1;
    local_apic_tsc_deadline(apic, false, &value);
    assert_int_equal(value, 0);
}

/* A deadline that has passed has interrupted before software sets another one, or none. */
static void test_tsc_deadline_written_when_due(void **state)
{
    (void)state;
    struct board *board = &rig.board;
    struct local_apic *apic = &rig.cpu[0].apic;
    static const uint64_t next[] = {0, 5000, UINT64_MAX / 2};
    enable_all();
    wr(0x320, 0x40031);
    for (unsigned i = 0; i < 3; i++) {
        uint64_t start = board->clock.paused_ns, value = start + 7000;
        local_apic_tsc_deadline(apic, true, &value);
        board_set_time(board, start + 7001);
        assert_false(pending(0)); /* nobody ran the timers yet */
        value = next[i] == 5000 ? board->clock.paused_ns + 5000 : next[i];
        local_apic_tsc_deadline(apic, true, &value);
        assert_int_equal(ack(0), 0x31);
        wr(0xb0, 0);
        board_run_until(board, start + 7001 + 4999);
        assert_false(pending(0)); /* once */
        board_run_until(board, start + 7001 + 5001);
        assert_int_equal(ack(0), next[i] == 5000 ? 0x31 : -1);
        wr(0xb0, 0);
        value = 0;
        local_apic_tsc_deadline(apic, true, &value);
    }
}

static void test_base_msr(void **state)
{
    (void)state;
    struct local_apic *apic = &rig.cpu[0].apic;
    assert_int_equal(local_apic_base_write(apic, BASE | 0xd00), -1); /* x2APIC */
    assert_int_equal(local_apic_base_write(apic, BASE | 0x901), -1);
    assert_int_equal(local_apic_base_write(apic, 1ull << 40 | BASE | 0x900), -1);
    assert_int_equal(local_apic_base_write(apic, 0xfe000900 | 0), 0);
    assert_int_equal(mem_read32(&rig.board, 0xfe000030), 0x50014);
    assert_int_equal(rd(0x30), 0xffffffff); /* nothing of CPU 0 here any more */
    rig.current = 1;
    assert_int_equal(rd(0x30), 0x50014); /* but CPU 1's is */
    rig.current = 0;
    assert_int_equal(local_apic_base_write(apic, BASE | 0x900), 0);
    assert_int_equal(rd(0x30), 0x50014);
    wr(0x20, 9u << 24); /* switched off and on: as after power-up, the ID too */
    wr(0x80, 0x20);
    assert_int_equal(local_apic_base_write(apic, BASE | 0x100), 0);
    assert_int_equal(local_apic_base_write(apic, BASE | 0x900), 0);
    assert_int_equal(rd(0x20), 0);
    assert_int_equal(rd(0x80), 0);
    assert_int_equal(rd(0xf0), 0xff);
}

static void test_init_pin(void **state)
{
    (void)state;
    enable_all();
    wr(0x20, 9u << 24);
    wr(0x320, 0x31);
    wr(0x350, 0x10000);
    wr(0x300, 0x40041 | 1 << 14);
    assert_true(pending(0));
    local_apic_signal_init(&rig.cpu[0].apic);
    assert_int_equal(rig.cpu[0].inits, 1);
    assert_false(pending(0));
    assert_int_equal(rd(0xf0), 0xff);
    assert_int_equal(rd(0x320), 0x10000);
    assert_int_equal(rd(0x350), 0x700); /* as after power-up */
    assert_int_equal(rd(0x20), 9u << 24);
}

static void test_absent_apic(void **state)
{
    (void)state;
    struct local_apic_config config = {
        .id = 7, .absent = true, .ctx = &rig.cpu[0], .pic_ack = pic_ack};
    static struct local_apic apic;
    struct vd_error err;
    assert_int_equal(local_apic_init(&apic, &rig.bus, &config, &err), 0);
    assert_int_equal(local_apic_base_write(&apic, BASE | 0x800), -1);
    assert_false(send(7, false, APIC_FIXED, 0x40, false));
    local_apic_set_lint(&apic, 0, true);
    assert_true(local_apic_intr_pending(&apic));
    assert_int_equal(local_apic_intr_ack(&apic), 0x08);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reset_state, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fixed_interrupt_life_cycle, setup, teardown),
        cmocka_unit_test_setup_teardown(test_priorities, setup, teardown),
        cmocka_unit_test_setup_teardown(test_level_eoi_is_broadcast, setup, teardown),
        cmocka_unit_test_setup_teardown(test_logical_destinations, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lowest_priority, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ipis, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_extint_through_lint0, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lint1_nmi_and_level_lint0, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lint1_delivery, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer_one_shot, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer_divisors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_count_that_runs_out_while_it_is_written, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_timer_periodic, setup, teardown),
        cmocka_unit_test_setup_teardown(test_periodic_timer_catches_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer_due_at_software_disable, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer_mode_change, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer_written_when_due, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tsc_deadline, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tsc_deadline_written_when_due, setup, teardown),
        cmocka_unit_test_setup_teardown(test_base_msr, setup, teardown),
        cmocka_unit_test_setup_teardown(test_init_pin, setup, teardown),
        cmocka_unit_test_setup_teardown(test_absent_apic, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
