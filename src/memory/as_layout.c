/*
 * The flattened layout: every source of memory resolved by priority into disjoint page ranges, so
 * that a lookup is one binary search. Rebuilt on each change (PAM, BARs); a few dozen ranges.
 */
#include "memory/as_private.h"

#include <stdlib.h>
#include <string.h>

static const uint64_t GIB4 = 1ULL << 32;

static uint64_t page_down(uint64_t address)
{
    return address & ~(uint64_t)(RAM_PAGE_SIZE - 1);
}

static uint64_t page_up(uint64_t address)
{
    return page_down(address + RAM_PAGE_SIZE - 1);
}

void layout_free(struct as_layout *layout)
{
    while (layout) {
        struct as_layout *retired = layout->retired;
        free(layout->starts);
        free(layout->ranges);
        free(layout);
        layout = retired;
    }
}

static struct as_layout *layout_new(size_t capacity)
{
    struct as_layout *layout = calloc(1, sizeof(*layout));
    if (!layout)
        return NULL;
    layout->capacity = capacity;
    layout->starts = calloc(capacity, sizeof(*layout->starts));
    layout->ranges = calloc(capacity, sizeof(*layout->ranges));
    if (!layout->starts || !layout->ranges) {
        layout_free(layout);
        return NULL;
    }
    return layout;
}

/* Every source contributes two bounds; a range starts at a bound or, in device RAM, at an extent.
 */
static size_t bounds_needed(const struct address_space *as)
{
    return 2 * (as->rom_count + as->mmio.count + as->device_ram.count) +
           (as->device_ram.count + 1) * (as->extent_count + 2) + PAM_UNITS + 8;
}

int layout_reserve(struct address_space *as, struct vd_error *err)
{
    /* the caller may add one source, and its pages may fall into several extents */
    size_t needed = bounds_needed(as) + 4;
    if (as->layout && as->layout->capacity >= needed)
        return 0;
    struct as_layout *layout = layout_new(2 * needed);
    struct as_layout *next = layout_new(2 * needed);
    uint64_t *bounds = calloc(2 * needed, sizeof(*bounds));
    if (!layout || !next || !bounds) {
        if (layout)
            layout_free(layout);
        if (next)
            layout_free(next);
        free(bounds);
        return error_set(err, "no memory for the address space layout");
    }
    if (as->layout) {
        layout->count = as->layout->count;
        layout->main = as->layout->main;
        memcpy(layout->starts, as->layout->starts, layout->count * sizeof(*layout->starts));
        memcpy(layout->ranges, as->layout->ranges, layout->count * sizeof(*layout->ranges));
        layout->retired = as->layout;
    }
    __atomic_store_n(&as->layout, layout, __ATOMIC_RELEASE);
    if (as->next)
        layout_free(as->next);
    as->next = next;
    free(as->bounds);
    as->bounds = bounds;
    return 0;
}

static int compare_bounds(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static size_t collect_bounds(const struct address_space *as, uint64_t *bounds)
{
    size_t n = 0;
    bounds[n++] = 0;
    bounds[n++] = as->low_end;
    if (as->ram_size > as->low_end) {
        bounds[n++] = GIB4;
        bounds[n++] = GIB4 + as->ram_size - as->low_end;
    }
    bounds[n++] = 0xA0000;
    for (uint64_t i = 0; i <= PAM_UNITS; i++)
        bounds[n++] = PAM_BASE + i * PAM_UNIT;
    for (size_t i = 0; i < as->rom_count; i++) {
        bounds[n++] = as->roms[i].start;
        bounds[n++] = as->roms[i].start + as->roms[i].size;
    }
    for (size_t i = 0; i < as->mmio.count; i++) {
        const struct io_region *r = as->mmio.items[i];
        bounds[n++] = page_down(r->start);
        bounds[n++] = page_up(r->start + r->size);
    }
    for (size_t i = 0; i < as->device_ram.count; i++) {
        const struct io_region *r = as->device_ram.items[i];
        bounds[n++] = r->start;
        bounds[n++] = r->start + r->size;
    }
    qsort(bounds, n, sizeof(*bounds), compare_bounds);
    size_t unique = 1;
    for (size_t i = 1; i < n; i++)
        if (bounds[i] != bounds[unique - 1])
            bounds[unique++] = bounds[i];
    return unique;
}

static const struct as_rom *find_rom(const struct address_space *as, uint64_t address)
{
    for (size_t i = 0; i < as->rom_count; i++)
        if (address - as->roms[i].start < as->roms[i].size)
            return &as->roms[i];
    return NULL;
}

static const struct io_region *find_device_ram(const struct address_space *as, uint64_t address)
{
    for (size_t i = 0; i < as->device_ram.count; i++) {
        const struct io_region *r = as->device_ram.items[i];
        if (address - r->start < r->size)
            return r;
    }
    return NULL;
}

static bool has_mmio(const struct address_space *as, uint64_t page)
{
    for (size_t i = 0; i < as->mmio.count; i++) {
        const struct io_region *r = as->mmio.items[i];
        if (page + RAM_PAGE_SIZE > r->start && page < r->start + r->size)
            return true;
    }
    return false;
}

static const struct as_extent *find_extent(const struct address_space *as, const uint8_t *host)
{
    for (size_t i = 0; i < as->extent_count; i++) {
        const struct as_extent *e = &as->extents[i];
        if ((uintptr_t)host - (uintptr_t)e->host < e->count * RAM_PAGE_SIZE)
            return e;
    }
    return NULL;
}

static int64_t ram_offset(const struct address_space *as, uint64_t address)
{
    if (address < as->low_end)
        return (int64_t)address;
    if (address >= GIB4 && address - GIB4 < as->ram_size - as->low_end)
        return (int64_t)(address - GIB4 + as->low_end);
    return -1;
}

static void use_ram(const struct address_space *as, uint64_t address, bool read, bool write,
                    struct as_range *range)
{
    int64_t offset = ram_offset(as, address);
    if (offset < 0)
        return;
    if (read) {
        range->kind = AS_RAM;
        range->read = as->ram + offset;
        range->page = offset / RAM_PAGE_SIZE;
    }
    if (write) {
        range->write = as->ram + offset;
        range->write_page = offset / RAM_PAGE_SIZE;
    }
}

/* What is behind [range->start, range->end)? May shorten the range (device RAM in several extents).
 */
static void resolve(const struct address_space *as, struct as_range *range)
{
    uint64_t address = range->start;
    range->read = range->write = NULL;
    range->page = range->write_page = -1;
    range->kind = AS_UNMAPPED;
    const struct io_region *device = find_device_ram(as, address);
    if (device) {
        uint8_t *host = device->host + (address - device->start);
        const struct as_extent *e = find_extent(as, host);
        uint64_t skip = (uint64_t)(host - e->host);
        uint64_t rest = e->count * RAM_PAGE_SIZE - skip;
        if (range->end - address > rest)
            range->end = address + rest;
        range->kind = AS_RAM;
        range->read = range->write = host;
        range->page = range->write_page = (int64_t)(e->page + skip / RAM_PAGE_SIZE);
    } else {
        const struct as_rom *rom = find_rom(as, address);
        bool legacy = address >= 0xA0000 && address < 0x100000;
        unsigned pam = legacy && address >= PAM_BASE ? as->pam[(address - PAM_BASE) / PAM_UNIT] : 0;
        if (rom && !(pam & PAM_READ_RAM)) {
            uint64_t offset = address - rom->start;
            range->kind = AS_ROM;
            range->read = rom->host + offset;
            range->page = rom->page + (int64_t)(offset / RAM_PAGE_SIZE);
        }
        if (legacy)
            use_ram(as, address, pam & PAM_READ_RAM, pam & PAM_WRITE_RAM, range);
        else if (!rom)
            use_ram(as, address, true, true, range);
    }
    if (has_mmio(as, address))
        range->kind = AS_MMIO;
}

static bool continues(const struct as_range *a, const struct as_range *b)
{
    uint64_t size = a->end - a->start, pages = size / RAM_PAGE_SIZE;
    return a->end == b->start && a->kind == b->kind && b->read == (a->read ? a->read + size : 0) &&
           b->write == (a->write ? a->write + size : 0) &&
           b->page == (a->page < 0 ? -1 : a->page + (int64_t)pages) &&
           b->write_page == (a->write_page < 0 ? -1 : a->write_page + (int64_t)pages);
}

static void append(struct as_layout *layout, const struct as_range *range)
{
    if (range->kind == AS_UNMAPPED && !range->write)
        return;
    struct as_range *last = layout->count ? &layout->ranges[layout->count - 1] : NULL;
    if (last && continues(last, range)) {
        last->end = range->end;
        return;
    }
    layout->starts[layout->count] = range->start;
    layout->ranges[layout->count++] = *range;
}

static size_t main_range(const struct as_layout *layout)
{
    size_t best = 0;
    for (size_t i = 1; i < layout->count; i++) {
        const struct as_range *r = &layout->ranges[i], *b = &layout->ranges[best];
        if (r->kind == AS_RAM && r->end - r->start > b->end - b->start)
            best = i;
    }
    return best;
}

void layout_rebuild(struct address_space *as)
{
    struct as_layout *next = as->next;
    next->count = 0;
    size_t bounds = collect_bounds(as, as->bounds);
    for (size_t i = 0; i + 1 < bounds; i++) {
        struct as_range range;
        for (uint64_t at = as->bounds[i]; at < as->bounds[i + 1]; at = range.end) {
            range.start = at;
            range.end = as->bounds[i + 1];
            resolve(as, &range);
            append(next, &range);
        }
    }
    struct as_layout *layout = as->layout;
    __atomic_store_n(&as->layout_sequence, as->layout_sequence + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    memcpy(layout->starts, next->starts, next->count * sizeof(*next->starts));
    memcpy(layout->ranges, next->ranges, next->count * sizeof(*next->ranges));
    layout->count = next->count;
    layout->main = main_range(next);
    __atomic_store_n(&as->layout_sequence, as->layout_sequence + 1, __ATOMIC_RELEASE);
    if (as->listener.layout_changed)
        as->listener.layout_changed(as->listener.ctx);
}
