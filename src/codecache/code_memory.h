/*
 * Executable memory, mapped twice from one memfd: a writable view and an executable view (W^X).
 * Allocation only moves forward; everything is released at once by code_memory_reset.
 */
#ifndef VD_CODECACHE_CODE_MEMORY_H
#define VD_CODECACHE_CODE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct code_memory {
    uint8_t *write; /* writable view */
    uint8_t *exec;  /* executable view of the same bytes */
    size_t size;
    size_t fixed;    /* bytes at the start that survive a reset (entry and exit stubs) */
    size_t used;     /* bytes handed out and committed, fixed part included */
    size_t reserved; /* bytes of the open reservation, 0: none */
    /* Indirect jump cells: data next to the code, so that code reaches them RIP-relative. */
    uint64_t *cells;
    uint32_t cell_count, cell_capacity;
};

/* Maps size bytes of code and cell_capacity cells within 2 GiB of each other. -1: no memory. */
int code_memory_init(struct code_memory *memory, size_t size, uint32_t cell_capacity,
                     struct vd_error *err);
void code_memory_free(struct code_memory *memory);

/* Opens a reservation of up to size bytes; returns its offset, or SIZE_MAX when it does not fit. */
size_t code_memory_reserve(struct code_memory *memory, size_t size);
/* Keeps the first size bytes of the reservation (16-byte aligned), or none with size 0 (abort). */
void code_memory_commit(struct code_memory *memory, size_t size);
/* Declares everything committed so far as fixed. */
void code_memory_fix(struct code_memory *memory);
/* Frees all but the fixed part. No thread may be executing in it. */
void code_memory_reset(struct code_memory *memory);

/* Allocates one cell; UINT32_MAX: none left. */
uint32_t code_memory_cell(struct code_memory *memory);

static inline bool code_memory_contains(const struct code_memory *memory, const void *exec)
{
    return (uintptr_t)exec - (uintptr_t)memory->exec < memory->size;
}

#endif
