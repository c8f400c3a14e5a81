#include "devices/post_card.h"

#include <stdio.h>

void post_card_init(struct post_card *card, struct chardev *chardev, const struct io_ops *behind,
                    void *behind_ctx)
{
    *card = (struct post_card){chardev, behind, behind_ctx};
}

static void show(struct post_card *card, unsigned port, unsigned code)
{
    char line[16];
    int length = snprintf(line, sizeof(line), "%03x %02x\n", port, code & 0xff);
    chardev_write(card->chardev, (const uint8_t *)line, (size_t)length);
}

static uint64_t read_80(void *ctx, uint64_t offset, unsigned size)
{
    struct post_card *card = ctx;
    return card->behind->read(card->behind_ctx, offset, size);
}

static void write_80(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct post_card *card = ctx;
    if (offset == 0)
        show(card, 0x80, (unsigned)value);
    card->behind->write(card->behind_ctx, offset, value, size);
}

static uint64_t read_190(void *ctx, uint64_t offset, unsigned size)
{
    (void)ctx;
    (void)offset;
    (void)size;
    return 0xff;
}

static void write_190(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    (void)offset;
    (void)size;
    show(ctx, POST_CARD_PORT, (unsigned)value);
}

const struct io_ops post_card_80_ops = {read_80, write_80, 1, 1};
const struct io_ops post_card_190_ops = {read_190, write_190, 1, 1};
