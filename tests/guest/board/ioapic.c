/*
 * The I/O APIC, its lines driven by the test device (82093AA data sheet; Intel SDM vol. 3, 11.8):
 * registers, edges and levels, masks, remote IRR, trigger mode register.
 */
#include "board.h"

enum { LINE = 14, OTHER_LINE = 15, HIGH_LINE = 20, LEVEL = 1 << 15, MASKED = 1 << 16 };
enum { REMOTE_IRR = 1 << 14 };

static volatile unsigned hits[256];
static volatile unsigned first_vector, drop_at;
static volatile bool tmr_seen, mask_in_handler, pulse_in_handler;

static void set_line(unsigned line, uint8_t level)
{
    out8((uint16_t)(0x2000 + line), level);
}

static void route(unsigned line, uint32_t low)
{
    ioapic_write(0x10 + 2 * line, low);
    ioapic_write(0x11 + 2 * line, 0);
}

/* Lowers the line at its drop_at-th interrupt. */
static void handler(const struct frame *frame)
{
    unsigned vector = (unsigned)frame->vector;
    if (!first_vector)
        first_vector = vector;
    hits[vector]++;
    tmr_seen = apic_bit(APIC_TMR, vector);
    if (pulse_in_handler) {
        set_line(LINE, 0);
        set_line(LINE, 1);
    }
    if (hits[vector] == drop_at)
        set_line(LINE, 0);
    if (mask_in_handler)
        ioapic_write(0x10 + 2 * LINE, ioapic_read(0x10 + 2 * LINE) | MASKED);
    apic_write(APIC_EOI, 0);
}

static void expect_vector(unsigned vector, unsigned drop)
{
    handlers[vector] = handler;
    hits[vector] = first_vector = 0;
    drop_at = drop;
    mask_in_handler = pulse_in_handler = tmr_seen = false;
}

static void registers(void)
{
    uint32_t version = ioapic_read(1), id = ioapic_read(0);
    CHECK((version >> 16 & 0xff) == 23, version);
    CHECK((version & 0xff) >= 0x11, version);
    ioapic_write(1, ~version);
    CHECK(ioapic_read(1) == version, ioapic_read(1));
    ioapic_write(0, ~id);
    CHECK((ioapic_read(0) ^ id) == 0x0f000000, ioapic_read(0));
    ioapic_write(0, 0x0f000000);
    CHECK(ioapic_read(2) == 0x0f000000, ioapic_read(2));
    ioapic_write(2, 0);
    CHECK(ioapic_read(2) == 0x0f000000, ioapic_read(2));
    ioapic_write(0, id);
    ioapic_write(0x10 + 2 * LINE, 0xffffffff);
    CHECK(ioapic_read(0x10 + 2 * LINE) == 0x1afff, ioapic_read(0x10 + 2 * LINE));
    ioapic_write(0x11 + 2 * LINE, 0xffffffff);
    CHECK(ioapic_read(0x11 + 2 * LINE) == 0xff000000, ioapic_read(0x11 + 2 * LINE));
}

static void edges(void)
{
    expect_vector(0x76, 0);
    route(LINE, 0x76);
    set_line(LINE, 1);
    CHECK(hits[0x76] == 1, hits[0x76]); /* before the instruction behind OUT */
    set_line(LINE, 1);
    CHECK(hits[0x76] == 1, hits[0x76]);
    set_line(LINE, 0);
    CHECK(hits[0x76] == 1 && !tmr_seen, hits[0x76]);

    ioapic_write(0x10 + 2 * LINE, MASKED | 0x76); /* an edge on a masked pin is lost */
    set_line(LINE, 1);
    set_line(LINE, 0);
    ioapic_write(0x10 + 2 * LINE, 0x76);
    CHECK(hits[0x76] == 1, hits[0x76]);
    set_line(LINE, 1);
    CHECK(hits[0x76] == 2, hits[0x76]);
    set_line(LINE, 0);

    expect_vector(0x78, 0);
    expect_vector(0x66, 0);
    route(LINE, 0x78);
    route(OTHER_LINE, 0x66);
    __asm__ volatile("cli");
    set_line(OTHER_LINE, 1);
    set_line(OTHER_LINE, 0);
    set_line(LINE, 1);
    set_line(LINE, 0);
    __asm__ volatile("sti; nop; nop");
    CHECK(first_vector == 0x78 && hits[0x78] == 1 && hits[0x66] == 1, first_vector);
    route(OTHER_LINE, MASKED);

    expect_vector(0x67, 0); /* above the ISA interrupts */
    route(HIGH_LINE, 0x67);
    set_line(HIGH_LINE, 1);
    set_line(HIGH_LINE, 0);
    CHECK(hits[0x67] == 1, hits[0x67]);
    route(HIGH_LINE, MASKED);
}

static void levels(void)
{
    expect_vector(0x77, 1);
    route(LINE, LEVEL | 0x77);
    set_line(LINE, 1);
    CHECK(hits[0x77] == 1 && tmr_seen, hits[0x77]);
    CHECK(!(ioapic_read(0x10 + 2 * LINE) & REMOTE_IRR), ioapic_read(0x10 + 2 * LINE));

    expect_vector(0x77, 3); /* still asserted at EOI: again */
    set_line(LINE, 1);
    CHECK(hits[0x77] == 3, hits[0x77]);

    expect_vector(0x77, 1); /* down and up while in service is one interrupt */
    pulse_in_handler = true;
    set_line(LINE, 1);
    CHECK(hits[0x77] == 1, hits[0x77]);

    expect_vector(0x77, 1); /* two in turn */
    set_line(LINE, 1);
    drop_at = 2;
    set_line(LINE, 1);
    CHECK(hits[0x77] == 2, hits[0x77]);

    __asm__ volatile("cli"); /* remote IRR from acceptance to EOI, whatever becomes of the line */
    expect_vector(0x77, 0);
    set_line(LINE, 1);
    CHECK(ioapic_read(0x10 + 2 * LINE) & REMOTE_IRR, ioapic_read(0x10 + 2 * LINE));
    set_line(LINE, 0);
    CHECK(ioapic_read(0x10 + 2 * LINE) & REMOTE_IRR, ioapic_read(0x10 + 2 * LINE));
    __asm__ volatile("sti; nop");
    CHECK(hits[0x77] == 1, hits[0x77]);
    CHECK(!(ioapic_read(0x10 + 2 * LINE) & REMOTE_IRR), ioapic_read(0x10 + 2 * LINE));
}

static void masked_levels(void)
{
    expect_vector(0x82, 1);
    route(LINE, MASKED | LEVEL | 0x82);
    set_line(LINE, 1);
    CHECK(hits[0x82] == 0, hits[0x82]);
    ioapic_write(0x10 + 2 * LINE, LEVEL | 0x82); /* the line waits behind the mask */
    CHECK(hits[0x82] == 1, hits[0x82]);

    expect_vector(0x82, 0);
    mask_in_handler = true;
    set_line(LINE, 1);
    CHECK(hits[0x82] == 1, hits[0x82]);
    ioapic_write(0x10 + 2 * LINE, LEVEL | 0x82);
    CHECK(hits[0x82] == 2, hits[0x82]);
    set_line(LINE, 0);
    ioapic_write(0x10 + 2 * LINE, LEVEL | 0x82);
    CHECK(hits[0x82] == 2, hits[0x82]);
}

/* The trigger mode bit of a vector is that of its last interrupt, not of its entry now. */
static void trigger_mode_register(void)
{
    expect_vector(0x79, 1);
    route(LINE, LEVEL | 0x79);
    CHECK(!apic_bit(APIC_TMR, 0x79), 0);
    set_line(LINE, 1);
    CHECK(tmr_seen && apic_bit(APIC_TMR, 0x79), tmr_seen);
    expect_vector(0x79, 1);
    route(LINE, 0x79);
    CHECK(apic_bit(APIC_TMR, 0x79), 0);
    set_line(LINE, 1);
    CHECK(!tmr_seen && !apic_bit(APIC_TMR, 0x79), tmr_seen);
}

/* An entry changed while its interrupt is in service, in the upper half only. */
static void redirect(const struct frame *frame)
{
    hits[frame->vector]++;
    set_line(LINE, 0);
    ioapic_write(0x11 + 2 * LINE, 1u << 24);
    apic_write(APIC_EOI, 0);
}

static void changed_in_service(void)
{
    hits[0x84] = 0;
    handlers[0x84] = redirect;
    route(LINE, LEVEL | 0x84);
    set_line(LINE, 1);
    CHECK(hits[0x84] == 1, hits[0x84]);
    CHECK(!(ioapic_read(0x10 + 2 * LINE) & REMOTE_IRR), ioapic_read(0x10 + 2 * LINE));
    set_line(LINE, 1); /* nobody has that ID: not accepted, not lost */
    CHECK(!(ioapic_read(0x10 + 2 * LINE) & REMOTE_IRR), ioapic_read(0x10 + 2 * LINE));
    set_line(LINE, 0);
}

void test_main(void)
{
    board_use_apic();
    registers();
    route(LINE, MASKED);
    __asm__ volatile("sti");
    edges();
    levels();
    masked_levels();
    trigger_mode_register();
    changed_in_service();
    board_end();
}
