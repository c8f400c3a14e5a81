/* Bytes that a PS/2 device has for the host. */
#ifndef VD_DEVICES_PS2_QUEUE_H
#define VD_DEVICES_PS2_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

enum { PS2_QUEUE_SIZE = 16 }; /* the keyboard's buffer (IBM technical reference) */

struct ps2_queue {
    uint8_t data[PS2_QUEUE_SIZE];
    uint8_t head, count;
};

static inline unsigned ps2_queue_room(const struct ps2_queue *queue)
{
    return PS2_QUEUE_SIZE - queue->count;
}

/* Drops the byte if there is no room. */
static inline void ps2_queue_put(struct ps2_queue *queue, uint8_t byte)
{
    if (queue->count < PS2_QUEUE_SIZE)
        queue->data[(queue->head + queue->count++) % PS2_QUEUE_SIZE] = byte;
}

static inline bool ps2_queue_take(struct ps2_queue *queue, uint8_t *byte)
{
    if (!queue->count)
        return false;
    *byte = queue->data[queue->head];
    queue->head = (uint8_t)((queue->head + 1) % PS2_QUEUE_SIZE);
    queue->count--;
    return true;
}

static inline void ps2_queue_clear(struct ps2_queue *queue)
{
    queue->head = queue->count = 0;
}

#endif
