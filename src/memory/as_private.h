/*
 * Inside of struct address_space, shared by address_space.c (who is mapped where), as_layout.c (the
 * flattened page-granular view) and as_access.c (lookup and dispatch).
 *
 * Concurrency: everything is changed under as->lock. Lookups run without it, on any thread: the
 * layout is read under a sequence counter (odd: being replaced), and a layout that became too small
 * is retired, not freed, because a reader may still be inside; sizes double, so that is bounded.
 */
#ifndef VD_MEMORY_AS_PRIVATE_H
#define VD_MEMORY_AS_PRIVATE_H

#include "memory/address_space.h"

enum io_kind { IO_MMIO, IO_DEVICE_RAM, IO_PIO };

struct io_region {
    enum io_kind kind;
    uint64_t start, size; /* bytes or ports */
    struct io_ops ops;    /* MMIO, PIO */
    void *ctx;
    uint8_t *host;   /* device RAM */
    unsigned number; /* PIO: its slot */
    char name[32];
};

struct as_rom {
    uint64_t start, size;
    uint8_t *host;
    int64_t page;     /* backing page number of the first page */
    bool alias;       /* host memory belongs to another one */
    size_t host_size; /* of the whole mapping, when not an alias */
};

/* Contiguous backing pages in contiguous host memory. Number 0 is the RAM. */
struct as_extent {
    uint8_t *host;
    uint64_t page, count;
};

/* A range of pages of one nature. Gaps between ranges are unmapped. */
struct as_range {
    uint64_t start, end;
    uint8_t *read, *write; /* host address of `start`; behind MMIO: what the registers leave over */
    int64_t page, write_page;
    enum as_kind kind; /* AS_MMIO: registers somewhere in every page */
};

struct as_layout {
    size_t capacity, count;
    size_t main;      /* the largest range of RAM: most lookups end there */
    uint64_t *starts; /* copy of ranges[].start, dense for the search */
    struct as_range *ranges;
    struct as_layout *retired; /* the next one to free at the end */
};

/* Growing array of pointers. */
struct as_list {
    void **items;
    size_t count, capacity;
};

enum {
    PAM_BASE = 0xC0000,
    PAM_UNIT = 0x4000,
    PAM_UNITS = 16,
    PAM_READ_RAM = 1,
    PAM_WRITE_RAM = 2,
    PIO_PORTS = 65536,
    DISPATCH_DEPTH = 8, /* device functions nested through DMA to registers */
};

struct address_space {
    pthread_mutex_t lock;
    struct as_listener listener;
    uint64_t a20_mask;
    unsigned layout_sequence;
    struct as_layout *layout;
    uint8_t *page_flags;
    uint64_t page_count, page_limit; /* in use; room in page_flags */

    int ram_fd;
    uint8_t *ram;
    uint64_t ram_size, low_end; /* low_end: end of the RAM below 4 GiB */

    struct as_rom *roms;
    size_t rom_count;
    struct as_extent *extents;
    size_t extent_count;
    struct as_list mmio; /* struct io_region, sorted by start, disjoint */
    struct as_list device_ram;
    struct as_list pio;     /* by number; NULL: free */
    uint16_t *pio_index;    /* port -> number + 1; 0: unclaimed */
    struct as_layout *next; /* where a layout is built */
    uint64_t *bounds;
    uint8_t pam[PAM_UNITS];

    unsigned depth; /* of device functions running under the lock */
    struct {
        const struct io_region *region;
        const void *ctx;
    } active[DISPATCH_DEPTH];
};

/* Makes room in the layout for one more ROM or region. -1: no memory. */
int layout_reserve(struct address_space *as, struct vd_error *err);
/* Rebuilds the layout and tells the listener. Needs the lock. */
void layout_rebuild(struct address_space *as);
void layout_free(struct as_layout *layout);

#endif
