/* An interrupt line as a value: a device is handed one and only ever sets its level. */
#ifndef VD_BASE_IRQ_LINE_H
#define VD_BASE_IRQ_LINE_H

#include <stdbool.h>
#include <stddef.h>

struct irq_line {
    void (*set)(void *ctx, unsigned pin, bool level); /* NULL: not connected */
    void *ctx;
    unsigned pin;
};

static inline void irq_line_set(const struct irq_line *line, bool level)
{
    if (line->set)
        line->set(line->ctx, line->pin, level);
}

#endif
