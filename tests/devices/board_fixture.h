/* What most device tests need: an address space, a virtual clock that the test sets, port access.
 */
#ifndef VD_TESTS_DEVICES_BOARD_FIXTURE_H
#define VD_TESTS_DEVICES_BOARD_FIXTURE_H

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
// clang-format on

#include "memory/address_space.h"
#include "sched/timer.h"

struct board {
    struct address_space *as;
    struct vclock clock;
    struct timer_queue timers;
};

static inline void board_set_time(struct board *board, uint64_t ns)
{
    board->clock.paused = 1;
    board->clock.paused_ns = ns;
    board->clock.paused_tsc = ns; /* a TSC of 1 GHz */
}

static inline void board_run_until(struct board *board, uint64_t ns)
{
    uint64_t next;
    while ((next = timer_queue_next(&board->timers)) <= ns) {
        if (next > board->clock.paused_ns)
            board_set_time(board, next);
        timer_queue_run(&board->timers);
    }
    board_set_time(board, ns);
}

static inline void board_create(struct board *board, uint64_t ram_size)
{
    struct vd_error err = {""};
    memset(board, 0, sizeof(*board));
    if (as_create(&board->as, ram_size, 0xc0000000, &err) < 0)
        fail_msg("%s", err.text);
    board->clock.tsc_hz = 1000000000;
    board_set_time(board, 0);
    timer_queue_init(&board->timers, &board->clock);
}

static inline void board_destroy(struct board *board)
{
    timer_queue_free(&board->timers);
    as_destroy(board->as);
}

static inline void out8(struct board *board, uint16_t port, uint8_t value)
{
    as_pio_write(board->as, port, value, 1);
}
static inline void out16(struct board *board, uint16_t port, uint16_t value)
{
    as_pio_write(board->as, port, value, 2);
}
static inline void out32(struct board *board, uint16_t port, uint32_t value)
{
    as_pio_write(board->as, port, value, 4);
}
static inline uint8_t in8(struct board *board, uint16_t port)
{
    return (uint8_t)as_pio_read(board->as, port, 1);
}
static inline uint16_t in16(struct board *board, uint16_t port)
{
    return (uint16_t)as_pio_read(board->as, port, 2);
}
static inline uint32_t in32(struct board *board, uint16_t port)
{
    return (uint32_t)as_pio_read(board->as, port, 4);
}
static inline uint32_t mem_read32(struct board *board, uint64_t gpa)
{
    uint32_t value;
    as_read(board->as, gpa, &value, sizeof(value));
    return value;
}
static inline void mem_write32(struct board *board, uint64_t gpa, uint32_t value)
{
    as_write(board->as, gpa, &value, sizeof(value));
}

/* Configuration mechanism 1, as a driver does it. */
static inline uint32_t config_read(struct board *board, unsigned slot, unsigned function,
                                   unsigned offset, unsigned size)
{
    out32(board, 0xcf8, 0x80000000u | slot << 11 | function << 8 | (offset & 0xfc));
    return (uint32_t)as_pio_read(board->as, (uint16_t)(0xcfc + (offset & 3)), size);
}
static inline void config_write(struct board *board, unsigned slot, unsigned function,
                                unsigned offset, uint32_t value, unsigned size)
{
    out32(board, 0xcf8, 0x80000000u | slot << 11 | function << 8 | (offset & 0xfc));
    as_pio_write(board->as, (uint16_t)(0xcfc + (offset & 3)), value, size);
}

#endif
