/*
 * The guest-physical address space and the I/O port space: RAM (one memfd), ROM, PAM shadowing,
 * A20, memory-mapped and port devices. Devices see offsets, never addresses.
 *
 * Locking: dispatch to a device takes the machine lock (as->lock) around the device's function;
 * timers and host back ends take the same lock. RAM access takes no lock.
 */
#ifndef VD_MEMORY_ADDRESS_SPACE_H
#define VD_MEMORY_ADDRESS_SPACE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/*
 * A device's registers. The bus splits larger and widens smaller accesses to [min_size, max_size]:
 * lowest offset first; a widened read is aligned down and cut out, a widened write carries zeros in
 * the other byte lanes. Memory accesses are naturally aligned, port accesses come as the guest made
 * them. NULL functions: reads give all ones, writes are dropped. A device is not entered again
 * while one of its functions runs (DMA into its own registers): all ones, dropped.
 */
struct io_ops {
    uint64_t (*read)(void *ctx, uint64_t offset, unsigned size);
    void (*write)(void *ctx, uint64_t offset, uint64_t value, unsigned size);
    unsigned min_size, max_size; /* 1, 2, 4 or 8 */
};

struct address_space;
struct io_region; /* handle of one mapped range */

enum { RAM_PAGE_SIZE = 4096 };
enum ram_page_flags {                          /* one byte per page of RAM or ROM backing */
                      RAM_PAGE_CODE = 1 << 0,  /* holds translated code: writes go through as_write
                                                  and are reported */
                      RAM_PAGE_TABLE = 1 << 1, /* traced guest page table */
                      RAM_PAGE_DIRTY = 1 << 2, /* written since the dirty log was cleared (which
                                                  needs a TLB flush, as setting the others) */
};

/* Tells the engine about things it must not miss. All may be NULL. Called on any thread that
 * writes. */
struct as_listener {
    void *ctx;
    /* The layout changed (PAM, A20, BAR, ...): every cached translation and pointer is void. */
    void (*layout_changed)(void *ctx);
    /* [page * 4096 + offset, + size) of backing memory with RAM_PAGE_CODE/TABLE is about to be
     * written. */
    void (*traced_write)(void *ctx, uint64_t page, unsigned offset, unsigned size);
    /*
     * A device function is about to run on the calling thread: park vector state if this is a vCPU.
     * Called with the lock held, not again for accesses that a device function makes.
     */
    void (*enter_device)(void *ctx);
};

/*
 * Creates the space with ram_size bytes of RAM (multiple of 1 MiB, at least 1 MiB), mapped at 0 up
 * to low_end (at most 0xC0000000..0xE0000000, given by the board) and the rest from 4 GiB on. No
 * RAM is visible in 0xA0000-0xFFFFF until pam_set. Host memory is a sealed memfd, reserved lazily.
 * -1: no memory.
 */
int as_create(struct address_space **as, uint64_t ram_size, uint64_t low_end, struct vd_error *err);
void as_destroy(struct address_space *as);
/*
 * Makes it the one listener; NULL: nobody. Returns whether one with the same ctx was the listener
 * already: if not, writes may have happened that it was not told of.
 */
bool as_set_listener(struct address_space *as, const struct as_listener *listener);
/* Ends what as_set_listener began, unless another listener took its place meanwhile. */
void as_clear_listener(struct address_space *as, const void *ctx);
pthread_mutex_t *as_lock(struct address_space *as);

uint64_t as_ram_size(const struct address_space *as);
uint64_t as_low_end(const struct address_space *as);
int as_ram_fd(const struct address_space *as);

/*
 * Adds read-only memory of size bytes (multiple of 4096) with a copy of data (shorter data is
 * padded with FFh) at gpa. It shadows nothing: see the priority rule at as_lookup.
 */
int as_add_rom(struct address_space *as, uint64_t gpa, uint64_t size, const void *data,
               size_t data_size, struct vd_error *err);
/*
 * Makes the tail of an earlier ROM (its last size bytes) visible again at gpa (the BIOS below 1
 * MiB).
 */
int as_add_rom_alias(struct address_space *as, uint64_t gpa, uint64_t size, uint64_t rom_gpa,
                     struct vd_error *err);

/* Maps/unmaps device registers; as_map_* return NULL with err when ranges of equal kind overlap. */
struct io_region *as_map_mmio(struct address_space *as, uint64_t gpa, uint64_t size,
                              const struct io_ops *ops, void *ctx, const char *name,
                              struct vd_error *err);
/*
 * Device memory that the guest may access directly (linear frame buffer): page-aligned host memory
 * owned by the device.
 */
struct io_region *as_map_device_ram(struct address_space *as, uint64_t gpa, uint64_t size,
                                    void *host, const char *name, struct vd_error *err);
struct io_region *as_map_pio(struct address_space *as, uint16_t port, uint32_t count,
                             const struct io_ops *ops, void *ctx, const char *name,
                             struct vd_error *err);
void as_unmap(struct address_space *as, struct io_region *region);

/*
 * i440FX PAM (data sheet 3.2.18): for the 16 KiB (64 KiB at F0000) segment at gpa in
 * 0xC0000-0xFFFFF, reads come from RAM if read_ram else from ROM/bus; writes go to RAM if write_ram
 * else are dropped to the bus.
 */
void as_set_pam(struct address_space *as, uint32_t gpa, uint32_t size, bool read_ram,
                bool write_ram);
/* A20 gate: when disabled, bit 20 of every physical address is forced to 0. */
void as_set_a20(struct address_space *as, bool enabled);
bool as_a20(const struct address_space *as);

enum as_kind { AS_RAM, AS_ROM, AS_MMIO, AS_UNMAPPED };
struct as_page { /* what is behind one physical page */
    uint8_t *
        read; /* host address of the page for reads, NULL: dispatch (MMIO) or all ones (unmapped) */
    uint8_t *write;     /* host address for writes, NULL: dispatch, or dropped (ROM, unmapped) */
    int64_t page;       /* backing page number of `read` for ram_page_flags; -1: none */
    int64_t write_page; /* the same for `write` (PAM may split them) */
    enum as_kind kind;  /* what reads come from; AS_MMIO: registers somewhere in the page */
};
/*
 * Looks up the page that contains gpa (A20 applied). Priority: MMIO and device RAM over
 * PAM-selected RAM over ROM over RAM over nothing.
 */
struct as_page as_lookup(const struct address_space *as, uint64_t gpa);

/* Page flags of backing memory (RAM first, then ROMs). Setting CODE/TABLE also needs a TLB flush
 * (mmu.h). */
uint8_t *as_page_flags(struct address_space *as); /* array, indexed by backing page number */
uint64_t as_page_count(const struct address_space *as);
uint8_t *as_page_host(struct address_space *as, uint64_t page);

/* Physical accesses of any size and alignment, by CPU slow paths and by device DMA; report traced
 * writes. */
void as_read(struct address_space *as, uint64_t gpa, void *buffer, size_t size);
void as_write(struct address_space *as, uint64_t gpa, const void *buffer, size_t size);

/*
 * To be called before size bytes at offset of a backing page change other than through as_write (an
 * atomic update through as_page_host): reports traced writes and marks the page dirty.
 */
void as_report_write(struct address_space *as, uint64_t page, unsigned offset, unsigned size);

/*
 * Notes in the dirty log that a backing page is written. Comes after the bytes, or before a write
 * that the clearing of the flag takes permission from (mmu.h): who clears it misses nothing.
 */
void as_mark_dirty(struct address_space *as, uint64_t page);

/* Ports: size 1, 2 or 4; unclaimed reads give all ones. */
uint64_t as_pio_read(struct address_space *as, uint16_t port, unsigned size);
void as_pio_write(struct address_space *as, uint16_t port, uint64_t value, unsigned size);

#endif
