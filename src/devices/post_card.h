/*
 * POST card: shows the progress codes that firmware and processor tests write to port 80h or 190h,
 * a line for each: the port and the code in hexadecimal ("080 1f").
 */
#ifndef VD_DEVICES_POST_CARD_H
#define VD_DEVICES_POST_CARD_H

#include "hostio/chardev.h"
#include "memory/address_space.h"

enum { POST_CARD_PORT = 0x190 };

struct post_card {
    struct chardev *chardev;
    const struct io_ops *behind; /* what else is at ports 80h to 8Fh: the DMA page registers */
    void *behind_ctx;
};

void post_card_init(struct post_card *card, struct chardev *chardev, const struct io_ops *behind,
                    void *behind_ctx);

extern const struct io_ops post_card_80_ops;  /* ctx: struct post_card; 16 ports from 80h */
extern const struct io_ops post_card_190_ops; /* ctx: struct post_card; 1 port, reads FFh */

#endif
