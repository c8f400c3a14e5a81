/* MODES 32 64. NMI: IRET to every level and mode lets a waiting one in; it ends HLT with IF clear.
 */
#include "matrix.h"

enum {
    NMI = 2,
    MODE_VM86 = 8, /* a width of code that is none */
    NMI_TO_SELF = 0x44400,
    LVT_NMI = 0x400,
    LVT_MASKED = 0x10000,
    WAKE_TRIES = 40,
    PIN_TRIES = 10000000
};
#define APIC_SVR   0xfee000f0u
#define APIC_ICR   0xfee00300u
#define APIC_LINT0 0xfee00350u

static void map_apic(void)
{
    if (MODE == 64) {
        store(0x11018, 8, 0x14007);
        store(0x14000 + 0x1f7 * 8, 4, 0xfee00087);
    } else {
        store(0x10000 + 0x3fb * 4, 4, 0x14007);
        store(0x14000 + 0x200 * 4, 4, 0xfee00007);
    }
    store(APIC_SVR, 4, 0x1ff);
}

/* --- waiting for IRET --- */

static struct visit_state target(unsigned bits, unsigned cpl, unsigned place)
{
    struct visit_state in = probe_state(bits == MODE_VM86 ? 16 : bits, cpl, place);

    if (bits == MODE_VM86) {
        in.cs = CODE_AT >> 4;
        in.ss = STACKS_AT >> 4;
        in.sp = 0x8f00;
        in.flags |= FLAG_VM;
        in.ds = in.es = in.fs = in.gs = DATA_AT >> 4;
    }
    return in;
}

/*
 * The handler of the first NMI does not return but goes on in the test, where a second one waits
 * until the next visit's IRET. It comes in front of the first instruction there.
 */
static void run_blocked(unsigned send, unsigned place, unsigned bits, unsigned i)
{
    unsigned cpl = bits == MODE_VM86 ? 3 : i & 3, waiting = i >> 4 & 3;
    struct visit_state in = probe_state(MODE, 0, send);
    struct visit_end end;

    matrix_case("IRET with NMI waiting", bits, cpl, i, 0);
    in.ax = NMI_TO_SELF;
    in.bx = APIC_ICR;
    visit(&in, &end);
    check("vector", end.vector, NMI);
    check("pc", end.ip, in.ip + 2);
    for (unsigned k = 0; k < waiting; k++) /* more than one count as one */
        store(APIC_ICR, 4, NMI_TO_SELF);
    in = target(bits, cpl, place);
    in.flags |= (i >> 2 & 1 ? FLAG_IF : 0) | (i >> 3 & 1 ? FLAG_TF : 0);
    visit(&in, &end);
    check("pc", end.ip, waiting ? in.ip : in.ip + (i >> 3 & 1 ? 1 : 3));
    check("vector", end.vector, waiting ? (unsigned)NMI : i >> 3 & 1 ? (unsigned)DB : VECTOR_DONE);
    check("CS", end.cs, in.cs);
    check("flags", end.flags, in.flags);
    check("SP", end.sp, in.sp);
    /* And no other: this visit's IRET would let it in. */
    in = target(bits, cpl, place);
    in.flags |= bits == MODE_VM86 ? FLAG_IOPL : 0;
    visit(&in, &end);
    expect_done(&end);
}

static void run_all_blocked(void)
{
    static const uint8_t mov32[] = {0x89, 0x03}, nop[] = {0x90};
    unsigned send = probe_place(mov32, 2), place = probe_place(nop, 1);

    for (unsigned bits = MODE == 64 ? 16 : MODE_VM86; bits <= MODE; bits *= 2) {
        for (unsigned i = 0; i < 48; i++) {
            if (bits == MODE_VM86 && (i & 3 || !(i >> 4 || i >> 3 & 1)))
                continue; /* INT 255 would not get through */
            run_blocked(send, place, bits, i);
        }
    }
}

/* --- a pin --- */

/* The 8259A passes the timer on to LINT0, which makes an NMI of each edge. */
static void pin_on(void)
{
    static const uint8_t words[] = {0x20, 4, 1, 0xfe};

    out8(0x20, 0x11);
    for (unsigned i = 0; i < sizeof(words); i++)
        out8(0x21, words[i]);
    store(APIC_LINT0, 4, LVT_NMI);
}

static void pin_off(void)
{
    store(APIC_LINT0, 4, LVT_MASKED);
    out8(0x21, 0xff);
}

static void pin_acknowledge(void)
{
    out8(0x20, 0x0c); /* poll */
    in8(0x20);
    out8(0x20, 0x20);
}

static void start_timer(uint16_t count)
{
    out8(0x43, 0x30);
    out8(0x40, (uint8_t)count);
    out8(0x40, (uint8_t)(count >> 8));
}

/* An edge at the pin while NMIs are blocked: it comes behind the IRET. */
static void run_pin_blocked(void)
{
    static const uint8_t mov32[] = {0x89, 0x03}, nop[] = {0x90};
    unsigned send = probe_place(mov32, 2), place = probe_place(nop, 1), requests = 0;
    struct visit_state in = probe_state(MODE, 0, send);
    struct visit_end end;

    matrix_case("NMI by a pin, blocked", 0, 0, 0, 0);
    in.ax = NMI_TO_SELF;
    in.bx = APIC_ICR;
    visit(&in, &end);
    check("vector", end.vector, NMI);
    pin_on();
    start_timer(100);
    for (unsigned i = 0; i < PIN_TRIES && !requests; i++) {
        out8(0x20, 0x0a); /* the next read: IRR */
        requests = in8(0x20) & 1;
    }
    check("timer's request", requests, 1);
    for (unsigned i = 0; i < 2; i++) { /* the second time nothing is left */
        in = probe_state(MODE, 0, place);
        visit(&in, &end);
        check("vector", end.vector, i ? VECTOR_DONE : (unsigned)NMI);
        check("pc", end.ip, in.ip + (i ? 3 : 0));
    }
    pin_acknowledge();
    pin_off();
}

/* --- HLT --- */

static void run_halted(void)
{
    static const uint8_t hlt[] = {0xf4};
    unsigned place = probe_place(hlt, 1), halted = 0;

    pin_on();
    for (unsigned i = 0; i < WAKE_TRIES && !halted; i++) {
        struct visit_state in = probe_state(MODE, 0, place);
        struct visit_end end;

        matrix_case("NMI in HLT", i, 0, 0, 0);
        start_timer((uint16_t)(1000 + i * 1500));
        visit(&in, &end);
        check("vector", end.vector, NMI);
        check("flags", end.flags, in.flags);
        halted = end.ip == in.ip + 1;
        if (!halted) /* it was faster */
            check("pc", end.ip, in.ip);
        pin_acknowledge();
    }
    pin_off();
    check("woken from HLT", halted, 1);
}

void matrix_main(void)
{
    matrix_begin("NMI");
    map_apic();
    run_all_blocked();
    run_pin_blocked();
    run_halted();
    matrix_end();
}
