#include "devices/i8259.h"

#include <string.h>

enum { MASTER, SLAVE };
enum { CASCADE = 2, NO_LEVEL = 8 };
enum {
    ICW1_IC4 = 1 << 0,  /* ICW4 follows */
    ICW1_SNGL = 1 << 1, /* no cascade, no ICW3 */
    ICW1_ADI = 1 << 2,  /* MCS-80: call address interval 4 */
    ICW1_LTIM = 1 << 3, /* level triggered */
    ICW1_INIT = 1 << 4,
    ICW4_UPM = 1 << 0, /* 8086 mode */
    ICW4_AEOI = 1 << 1,
    ICW4_SFNM = 1 << 4, /* special fully nested mode */
    OCW2_EOI = 1 << 5,
    OCW2_SL = 1 << 6,
    OCW2_R = 1 << 7,
    OCW3_RIS = 1 << 0,
    OCW3_RR = 1 << 1,
    OCW3_P = 1 << 2,
    OCW3 = 1 << 3,
    OCW3_SMM = 1 << 5,
    OCW3_ESMM = 1 << 6,
};
/* PIIX3: IRQ 0, 1, 2 and 8, 13 are edge-triggered for ever. */
static const uint8_t elcr_writable[2] = {0xf8, 0xde};

static uint8_t bit(unsigned level)
{
    return (uint8_t)(1u << level);
}

static uint8_t level_inputs(const struct i8259_pair *pair, const struct i8259_chip *chip)
{
    if (!pair->config.ignore_ltim && (chip->icw1 & ICW1_LTIM))
        return 0xff;
    return chip->elcr;
}

static uint8_t request_register(const struct i8259_pair *pair, const struct i8259_chip *chip)
{
    return chip->lines & (level_inputs(pair, chip) | chip->latch);
}

/* The level of the set bit with the highest priority, NO_LEVEL if none. */
static unsigned highest(const struct i8259_chip *chip, uint8_t set)
{
    for (unsigned i = 1; i <= 8; i++) {
        unsigned level = (chip->lowest + i) & 7;
        if (set & bit(level))
            return level;
    }
    return NO_LEVEL;
}

/* 0: highest. NO_LEVEL sorts behind all levels. */
static unsigned priority(const struct i8259_chip *chip, unsigned level)
{
    return level == NO_LEVEL ? 8 : (level - chip->lowest - 1) & 7;
}

static bool cascaded(const struct i8259_chip *chip)
{
    return !(chip->icw1 & ICW1_SNGL);
}

/* The request that INT stands for, NO_LEVEL if INT is low. */
static unsigned pending_level(const struct i8259_pair *pair, unsigned which)
{
    const struct i8259_chip *chip = &pair->chip[which];
    unsigned level = highest(chip, request_register(pair, chip) & (uint8_t)~chip->imr);
    if (level == NO_LEVEL)
        return NO_LEVEL;
    /* In special mask mode a masked level in service inhibits nobody. */
    uint8_t inhibiting = chip->special_mask ? chip->isr & (uint8_t)~chip->imr : chip->isr;
    /* In special fully nested mode a slave in service may interrupt again by a higher request. */
    if (which == MASTER && (chip->icw4 & ICW4_SFNM) && cascaded(chip) && level == CASCADE &&
        (chip->icw3 & bit(CASCADE)))
        inhibiting &= (uint8_t)~bit(CASCADE);
    unsigned in_service = highest(chip, inhibiting);
    return priority(chip, level) < priority(chip, in_service) ? level : NO_LEVEL;
}

static void set_input(struct i8259_chip *chip, unsigned level, bool high)
{
    if (!high) {
        chip->lines &= (uint8_t)~bit(level);
        chip->latch &= (uint8_t)~bit(level);
    } else if (!(chip->lines & bit(level))) {
        chip->lines |= bit(level);
        chip->latch |= bit(level);
    }
}

static void update(struct i8259_pair *pair)
{
    set_input(&pair->chip[MASTER], CASCADE, pending_level(pair, SLAVE) != NO_LEVEL);
    uint8_t intr = pending_level(pair, MASTER) != NO_LEVEL;
    if (intr != pair->intr) {
        pair->intr = intr;
        irq_line_set(&pair->config.intr, intr);
    }
}

/* What the first INTA (or a poll) does to a request. */
static void take(struct i8259_chip *chip, unsigned level)
{
    chip->latch &= (uint8_t)~bit(level);
    if (!(chip->icw4 & ICW4_AEOI))
        chip->isr |= bit(level);
    else if (chip->rotate_on_aeoi)
        chip->lowest = (uint8_t)level;
}

static uint8_t vector_of(const struct i8259_chip *chip, unsigned level)
{
    if (chip->icw4 & ICW4_UPM)
        return (uint8_t)((chip->icw2 & 0xf8) | level);
    /* MCS-80: the low byte of the call address, which an x86 processor takes for a vector. */
    if (chip->icw1 & ICW1_ADI)
        return (uint8_t)((chip->icw1 & 0xe0) | level << 2);
    return (uint8_t)((chip->icw1 & 0xc0) | level << 3);
}

static uint8_t ack_slave(struct i8259_pair *pair)
{
    struct i8259_chip *slave = &pair->chip[SLAVE];
    if ((slave->icw3 & 7) != CASCADE)
        return 0xff;
    unsigned level = pending_level(pair, SLAVE);
    if (level == NO_LEVEL)
        return vector_of(slave, 7);
    take(slave, level);
    /* INT drops during the acknowledge, so that a further request makes a new edge at IR2. */
    set_input(&pair->chip[MASTER], CASCADE, false);
    return vector_of(slave, level);
}

uint8_t i8259_ack(struct i8259_pair *pair)
{
    struct i8259_chip *master = &pair->chip[MASTER];
    unsigned level = pending_level(pair, MASTER);
    if (level == NO_LEVEL)
        return vector_of(master, 7);
    uint8_t vector = vector_of(master, level);
    take(master, level);
    if (level == CASCADE && cascaded(master) && (master->icw3 & bit(CASCADE)))
        vector = ack_slave(pair);
    update(pair);
    return vector;
}

bool i8259_edge_waits(const struct i8259_pair *pair, unsigned pin)
{
    const struct i8259_chip *chip = &pair->chip[pin >> 3 & 1];
    return chip->latch & ~chip->imr & bit(pin & 7);
}

bool i8259_output(const struct i8259_pair *pair)
{
    return pair->intr;
}

void i8259_set_irq(void *ctx, unsigned pin, bool level)
{
    struct i8259_pair *pair = ctx;
    if (pin > 15 || pin == CASCADE)
        return;
    set_input(&pair->chip[pin / 8], pin & 7, level);
    update(pair);
}

static uint8_t poll(struct i8259_pair *pair, unsigned which)
{
    struct i8259_chip *chip = &pair->chip[which];
    chip->poll = 0;
    unsigned level = pending_level(pair, which);
    if (level == NO_LEVEL)
        return 0;
    take(chip, level);
    if (which == SLAVE)
        set_input(&pair->chip[MASTER], CASCADE, false);
    update(pair);
    return (uint8_t)(0x80 | level);
}

static uint8_t read_chip(struct i8259_pair *pair, unsigned which, uint64_t offset)
{
    const struct i8259_chip *chip = &pair->chip[which];
    if (chip->poll)
        return poll(pair, which);
    if (offset & 1)
        return chip->imr;
    return chip->read_isr ? chip->isr : request_register(pair, chip);
}

static void write_icw1(struct i8259_chip *chip, uint8_t value)
{
    chip->icw1 = value;
    chip->latch = 0; /* an input that is high now must fall and rise again */
    chip->imr = 0;
    chip->isr = 0;
    chip->lowest = 7;
    chip->icw3 = 7;
    chip->special_mask = 0;
    chip->read_isr = 0;
    chip->poll = 0;
    chip->rotate_on_aeoi = 0;
    chip->icw4 = 0; /* stays if IC4 = 0 */
    chip->expect = 2;
}

/* Data sheet, "Operation control word 2": R, SL, EOI. */
static void write_ocw2(struct i8259_chip *chip, uint8_t value)
{
    unsigned level = value & 7;
    if (!(value & OCW2_EOI)) {
        if ((value & (OCW2_R | OCW2_SL)) == (OCW2_R | OCW2_SL))
            chip->lowest = (uint8_t)level;
        else if (!(value & OCW2_SL))
            chip->rotate_on_aeoi = (value & OCW2_R) != 0;
        return;
    }
    if (!(value & OCW2_SL)) {
        /* In special mask mode a masked level is not cleared by a non-specific EOI. */
        level = highest(chip, chip->special_mask ? chip->isr & (uint8_t)~chip->imr : chip->isr);
        if (level == NO_LEVEL)
            return;
    }
    chip->isr &= (uint8_t)~bit(level);
    if (value & OCW2_R)
        chip->lowest = (uint8_t)level;
}

static void write_ocw3(struct i8259_chip *chip, uint8_t value)
{
    if (value & OCW3_ESMM)
        chip->special_mask = (value & OCW3_SMM) != 0;
    if (value & OCW3_RR)
        chip->read_isr = value & OCW3_RIS;
    if (value & OCW3_P)
        chip->poll = 1;
}

static void write_data(struct i8259_chip *chip, uint8_t value)
{
    switch (chip->expect) {
    case 2:
        chip->icw2 = value;
        chip->expect = cascaded(chip) ? 3 : chip->icw1 & ICW1_IC4 ? 4 : 0;
        break;
    case 3:
        chip->icw3 = value;
        chip->expect = chip->icw1 & ICW1_IC4 ? 4 : 0;
        break;
    case 4:
        chip->icw4 = value;
        chip->expect = 0;
        break;
    default:
        chip->imr = value;
        break;
    }
}

static void write_chip(struct i8259_pair *pair, unsigned which, uint64_t offset, uint8_t value)
{
    struct i8259_chip *chip = &pair->chip[which];
    if (offset & 1)
        write_data(chip, value);
    else if (value & ICW1_INIT)
        write_icw1(chip, value);
    else if (value & OCW3)
        write_ocw3(chip, value);
    else
        write_ocw2(chip, value);
    update(pair);
}

void i8259_init(struct i8259_pair *pair, const struct i8259_config *config)
{
    memset(pair, 0, sizeof(*pair));
    pair->config = *config;
    i8259_reset(pair);
}

void i8259_reset(struct i8259_pair *pair)
{
    for (unsigned which = MASTER; which <= SLAVE; which++) {
        uint8_t lines = pair->chip[which].lines;
        pair->chip[which] = (struct i8259_chip){.lines = lines, .imr = 0xff, .lowest = 7};
    }
    update(pair);
}

static uint64_t master_read(void *ctx, uint64_t offset, unsigned size)
{
    (void)size;
    return read_chip(ctx, MASTER, offset);
}

static void master_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    (void)size;
    write_chip(ctx, MASTER, offset, (uint8_t)value);
}

static uint64_t slave_read(void *ctx, uint64_t offset, unsigned size)
{
    (void)size;
    return read_chip(ctx, SLAVE, offset);
}

static void slave_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    (void)size;
    write_chip(ctx, SLAVE, offset, (uint8_t)value);
}

static uint64_t elcr_read(void *ctx, uint64_t offset, unsigned size)
{
    const struct i8259_pair *pair = ctx;
    (void)size;
    return pair->chip[offset & 1].elcr;
}

static void elcr_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct i8259_pair *pair = ctx;
    (void)size;
    pair->chip[offset & 1].elcr = (uint8_t)value & elcr_writable[offset & 1];
    update(pair);
}

const struct io_ops i8259_master_ops = {master_read, master_write, 1, 1};
const struct io_ops i8259_slave_ops = {slave_read, slave_write, 1, 1};
const struct io_ops i8259_elcr_ops = {elcr_read, elcr_write, 1, 1};
