#include "devices/i8237.h"

#include <string.h>

enum {
    REG_COMMAND = 8, /* read: status */
    REG_REQUEST,
    REG_SINGLE_MASK,
    REG_MODE,
    REG_CLEAR_FLIP_FLOP,
    REG_MASTER_CLEAR, /* read: temporary register */
    REG_CLEAR_MASK,
    REG_ALL_MASK,
};
enum {
    COMMAND_DISABLE = 1 << 2,
    MODE_TYPE = 3 << 2,
    MODE_WRITE = 1 << 2, /* from the device into memory */
    MODE_READ = 2 << 2,
    MODE_ILLEGAL = 3 << 2,
    MODE_AUTO = 1 << 4,
    MODE_DOWN = 1 << 5,
    MODE_CASCADE = 3 << 6,
    SET_BIT = 1 << 2, /* in single-bit writes to request and mask */
};
/* Offset of each channel's page register from port 80h. */
static const uint8_t page_of[8] = {7, 3, 1, 2, 15, 11, 9, 10};

static void master_clear(struct i8237_controller *ctl)
{
    ctl->command = 0;
    ctl->request = 0;
    ctl->reached = 0;
    ctl->flip_flop = 0;
    ctl->mask = 0x0f;
}

static uint8_t half(struct i8237_controller *ctl, uint16_t value)
{
    ctl->flip_flop ^= 1;
    return (uint8_t)(ctl->flip_flop ? value : value >> 8);
}

static uint8_t read_register(struct i8237_controller *ctl, unsigned reg)
{
    uint8_t value;
    if (reg < REG_COMMAND) {
        const struct i8237_channel *ch = &ctl->channel[reg / 2];
        return half(ctl, reg & 1 ? ch->count : ch->address);
    }
    switch (reg) {
    case REG_COMMAND:
        value = (uint8_t)(ctl->reached | (ctl->dreq | ctl->request) << 4);
        ctl->reached = 0;
        return value;
    case REG_MASTER_CLEAR:
        return 0; /* the temporary register is only used between memories */
    case REG_ALL_MASK:
        return ctl->mask;
    default:
        return 0xff;
    }
}

static void write_half(struct i8237_controller *ctl, uint16_t *base, uint16_t *current,
                       uint8_t value)
{
    if (ctl->flip_flop)
        *base = (uint16_t)((*base & 0x00ff) | value << 8);
    else
        *base = (uint16_t)((*base & 0xff00) | value);
    *current = *base;
    ctl->flip_flop ^= 1;
}

static void write_bit(uint8_t *reg, uint8_t value)
{
    uint8_t bit = (uint8_t)(1u << (value & 3));
    *reg = value & SET_BIT ? *reg | bit : (uint8_t)(*reg & ~bit);
}

static void write_register(struct i8237_controller *ctl, unsigned reg, uint8_t value)
{
    if (reg < REG_COMMAND) {
        struct i8237_channel *ch = &ctl->channel[reg / 2];
        if (reg & 1)
            write_half(ctl, &ch->base_count, &ch->count, value);
        else
            write_half(ctl, &ch->base_address, &ch->address, value);
        return;
    }
    switch (reg) {
    case REG_COMMAND:
        ctl->command = value;
        break;
    case REG_REQUEST:
        write_bit(&ctl->request, value);
        break;
    case REG_SINGLE_MASK:
        write_bit(&ctl->mask, value);
        break;
    case REG_MODE:
        ctl->channel[value & 3].mode = value & 0xfc;
        break;
    case REG_CLEAR_FLIP_FLOP:
        ctl->flip_flop = 0;
        break;
    case REG_MASTER_CLEAR:
        master_clear(ctl);
        break;
    case REG_CLEAR_MASK:
        ctl->mask = 0;
        break;
    default:
        ctl->mask = value & 0x0f;
        break;
    }
}

static uint64_t physical(const struct i8237 *dma, unsigned channel, uint16_t address)
{
    uint64_t page = dma->page[page_of[channel]];
    if (channel < 4)
        return page << 16 | address;
    return (page & 0xfe) << 16 | (uint64_t)address << 1; /* A16 comes from the controller */
}

static void move(struct i8237 *dma, unsigned type, uint64_t gpa, uint8_t *buffer, size_t size)
{
    if (type == MODE_WRITE)
        as_write(dma->as, gpa, buffer, size);
    else if (type == MODE_READ)
        as_read(dma->as, gpa, buffer, size);
}

static void terminal_count(struct i8237_controller *ctl, unsigned index)
{
    struct i8237_channel *ch = &ctl->channel[index];
    uint8_t bit = (uint8_t)(1u << index);
    ctl->reached |= bit;
    ctl->request &= (uint8_t)~bit;
    if (ch->mode & MODE_AUTO) {
        ch->address = ch->base_address;
        ch->count = ch->base_count;
    } else {
        ctl->mask |= bit;
    }
}

size_t i8237_transfer(struct i8237 *dma, unsigned channel, void *buffer, size_t size, bool *tc)
{
    *tc = false;
    if (channel > 7 || channel == 4)
        return 0;
    struct i8237_controller *ctl = &dma->controller[channel / 4];
    struct i8237_channel *ch = &ctl->channel[channel & 3];
    unsigned type = ch->mode & MODE_TYPE;
    if ((ctl->command & COMMAND_DISABLE) || (ctl->mask & 1u << (channel & 3)) ||
        (ch->mode & MODE_CASCADE) == MODE_CASCADE || type == MODE_ILLEGAL)
        return 0;
    size_t unit = channel < 4 ? 1 : 2;
    uint8_t *bytes = buffer;
    size_t units = size / unit, left = units;
    while (left && !*tc) {
        size_t run = ch->count + 1u < left ? ch->count + 1u : left;
        /* The address wraps inside the page; downwards unit by unit. */
        if (ch->mode & MODE_DOWN)
            run = 1;
        else if (run > 0x10000u - ch->address)
            run = 0x10000u - ch->address;
        move(dma, type, physical(dma, channel, ch->address), bytes, run * unit);
        bytes += run * unit;
        left -= run;
        ch->address = (uint16_t)(ch->mode & MODE_DOWN ? ch->address - 1u : ch->address + run);
        *tc = run == ch->count + 1u;
        ch->count = (uint16_t)(ch->count - run);
    }
    if (*tc)
        terminal_count(ctl, channel & 3);
    return (units - left) * unit;
}

void i8237_set_dreq(struct i8237 *dma, unsigned channel, bool level)
{
    if (channel > 7)
        return;
    uint8_t bit = (uint8_t)(1u << (channel & 3));
    uint8_t *dreq = &dma->controller[channel / 4].dreq;
    *dreq = level ? *dreq | bit : (uint8_t)(*dreq & ~bit);
}

static uint64_t low_read(void *ctx, uint64_t offset, unsigned size)
{
    struct i8237 *dma = ctx;
    (void)size;
    return read_register(&dma->controller[0], offset & 15);
}

static void low_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct i8237 *dma = ctx;
    (void)size;
    write_register(&dma->controller[0], offset & 15, (uint8_t)value);
}

/* The second controller decodes only even ports; the odd ones are the same. */
static uint64_t high_read(void *ctx, uint64_t offset, unsigned size)
{
    struct i8237 *dma = ctx;
    (void)size;
    return read_register(&dma->controller[1], offset >> 1 & 15);
}

static void high_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct i8237 *dma = ctx;
    (void)size;
    write_register(&dma->controller[1], offset >> 1 & 15, (uint8_t)value);
}

static uint64_t page_read(void *ctx, uint64_t offset, unsigned size)
{
    const struct i8237 *dma = ctx;
    (void)size;
    return dma->page[offset & 15];
}

static void page_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct i8237 *dma = ctx;
    (void)size;
    dma->page[offset & 15] = (uint8_t)value;
}

void i8237_init(struct i8237 *dma, struct address_space *as)
{
    memset(dma, 0, sizeof(*dma));
    dma->as = as;
    i8237_reset(dma);
}

void i8237_reset(struct i8237 *dma)
{
    for (unsigned i = 0; i < 2; i++)
        master_clear(&dma->controller[i]);
}

const struct io_ops i8237_low_ops = {low_read, low_write, 1, 1};
const struct io_ops i8237_high_ops = {high_read, high_write, 1, 1};
const struct io_ops i8237_page_ops = {page_read, page_write, 1, 1};
