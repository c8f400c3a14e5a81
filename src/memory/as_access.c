/*
 * Lookup and access. Runs with guest vector state live in host registers until
 * listener.enter_device was called: nothing here may call into libc but for the lock.
 */
#include "memory/as_private.h"

#include "base/bytes.h"

/* --- lookup --- */

/* The last range that starts at or below address. */
static size_t search(const uint64_t *starts, size_t count, uint64_t address)
{
    size_t low = 0;
    while (count > 1) {
        size_t half = count / 2;
        low += starts[low + half] <= address ? half : 0;
        count -= half;
    }
    return low;
}

/* Copies the range of pages that address is in; an unmapped one-page range in a gap. */
static void find_range(const struct address_space *as, uint64_t address, struct as_range *found)
{
    unsigned sequence;
    do {
        sequence = __atomic_load_n(&as->layout_sequence, __ATOMIC_ACQUIRE);
        const struct as_layout *layout = __atomic_load_n(&as->layout, __ATOMIC_ACQUIRE);
        size_t count = layout->count < layout->capacity ? layout->count : layout->capacity;
        const struct as_range *range = &layout->ranges[layout->main];
        if (address - range->start >= range->end - range->start)
            range = &layout->ranges[search(layout->starts, count, address)];
        *found = *range;
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
    } while ((sequence & 1) || sequence != __atomic_load_n(&as->layout_sequence, __ATOMIC_RELAXED));
    if (address - found->start >= found->end - found->start) {
        found->start = address & ~(uint64_t)(RAM_PAGE_SIZE - 1);
        found->end = found->start + RAM_PAGE_SIZE;
        found->read = found->write = NULL;
        found->page = found->write_page = -1;
        found->kind = AS_UNMAPPED;
    }
}

/* The page behind address, also where device registers lie above it. */
static struct as_page page_behind(const struct as_range *range, uint64_t address)
{
    uint64_t number = (address - range->start) / RAM_PAGE_SIZE;
    struct as_page page;
    page.read = range->read ? range->read + number * RAM_PAGE_SIZE : NULL;
    page.write = range->write ? range->write + number * RAM_PAGE_SIZE : NULL;
    page.page = range->read ? range->page + (int64_t)number : -1;
    page.write_page = range->write ? range->write_page + (int64_t)number : -1;
    page.kind = range->kind;
    return page;
}

static uint64_t apply_a20(const struct address_space *as, uint64_t gpa)
{
    return gpa & __atomic_load_n(&as->a20_mask, __ATOMIC_RELAXED);
}

struct as_page as_lookup(const struct address_space *as, uint64_t gpa)
{
    struct as_range range;
    gpa = apply_a20(as, gpa);
    find_range(as, gpa, &range);
    if (range.kind == AS_MMIO)
        return (struct as_page){.page = -1, .write_page = -1, .kind = AS_MMIO};
    return page_behind(&range, gpa);
}

/* --- devices --- */

/*
 * Takes the lock and lets the engine park vector state, once for nested accesses. False: nested too
 * deeply (a device that the guest programmed to DMA into registers); the access must not happen.
 */
static bool enter(struct address_space *as)
{
    pthread_mutex_lock(&as->lock);
    if (as->depth == 0 && as->listener.enter_device)
        as->listener.enter_device(as->listener.ctx);
    return as->depth < DISPATCH_DEPTH;
}

static void leave(struct address_space *as)
{
    pthread_mutex_unlock(&as->lock);
}

/*
 * A device whose function is already running is not entered again: its code does not expect its own
 * registers to change in the middle, and on a bus it could not be target of its own cycle either.
 */
static bool is_running(const struct address_space *as, const struct io_region *region)
{
    for (unsigned i = 0; i < as->depth; i++)
        if (as->active[i].region == region || (region->ctx && as->active[i].ctx == region->ctx))
            return true;
    return false;
}

/* size is a power of two. The region may be gone after each call of the device. */
static uint64_t device_read(struct address_space *as, const struct io_region *region,
                            uint64_t offset, unsigned size)
{
    const struct io_ops ops = region->ops;
    void *ctx = region->ctx;
    uint64_t value = 0;
    if (!ops.read || is_running(as, region))
        return bytes_mask(size);
    as->active[as->depth].region = region;
    as->active[as->depth++].ctx = ctx;
    if (size < ops.min_size) {
        unsigned lane = (unsigned)(offset & (ops.min_size - 1));
        value = ops.read(ctx, offset - lane, ops.min_size) >> (8 * lane);
    } else {
        unsigned step = size < ops.max_size ? size : ops.max_size;
        for (unsigned done = 0; done < size; done += step)
            value |= (ops.read(ctx, offset + done, step) & bytes_mask(step)) << (8 * done);
    }
    as->depth--;
    return value & bytes_mask(size);
}

static void device_write(struct address_space *as, const struct io_region *region, uint64_t offset,
                         uint64_t value, unsigned size)
{
    const struct io_ops ops = region->ops;
    void *ctx = region->ctx;
    if (!ops.write || is_running(as, region))
        return;
    as->active[as->depth].region = region;
    as->active[as->depth++].ctx = ctx;
    value &= bytes_mask(size);
    if (size < ops.min_size) {
        unsigned lane = (unsigned)(offset & (ops.min_size - 1));
        ops.write(ctx, offset - lane, value << (8 * lane), ops.min_size);
    } else {
        unsigned step = size < ops.max_size ? size : ops.max_size;
        for (unsigned done = 0; done < size; done += step)
            ops.write(ctx, offset + done, (value >> (8 * done)) & bytes_mask(step), step);
    }
    as->depth--;
}

/* The largest naturally aligned power of two up to 8 bytes at offset that is at most size. */
static unsigned aligned_piece(uint64_t offset, uint64_t size)
{
    unsigned piece = 8;
    while (piece > size || (offset & (piece - 1)))
        piece >>= 1;
    return piece;
}

/* The region at gpa, or NULL; *rest is how far this answer holds. Needs the lock. */
static const struct io_region *find_mmio(const struct address_space *as, uint64_t gpa,
                                         uint64_t *rest)
{
    size_t low = 0, high = as->mmio.count; /* first region that starts above gpa */
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct io_region *r = as->mmio.items[middle];
        if (r->start <= gpa)
            low = middle + 1;
        else
            high = middle;
    }
    if (low) {
        const struct io_region *r = as->mmio.items[low - 1];
        *rest = r->start + r->size - gpa;
        if (gpa - r->start < r->size)
            return r;
    }
    *rest = RAM_PAGE_SIZE;
    if (low < as->mmio.count)
        *rest = ((const struct io_region *)as->mmio.items[low])->start - gpa;
    return NULL;
}

/* --- memory --- */

void as_mark_dirty(struct address_space *as, uint64_t page)
{
    uint8_t *flags = &as->page_flags[page];
    if (!(*flags & RAM_PAGE_DIRTY))
        __atomic_fetch_or(flags, (uint8_t)RAM_PAGE_DIRTY, __ATOMIC_RELEASE);
}

static void ram_write(struct address_space *as, const struct as_page *page, unsigned offset,
                      const void *from, size_t size)
{
    if (!page->write)
        return;
    uint8_t *flags = &as->page_flags[page->write_page];
    if ((*flags & (RAM_PAGE_CODE | RAM_PAGE_TABLE)) && as->listener.traced_write)
        as->listener.traced_write(as->listener.ctx, (uint64_t)page->write_page, offset,
                                  (unsigned)size);
    bytes_copy(page->write + offset, from, size);
    as_mark_dirty(as, (uint64_t)page->write_page);
}

void as_report_write(struct address_space *as, uint64_t page, unsigned offset, unsigned size)
{
    uint8_t *flags = &as->page_flags[page];
    if ((*flags & (RAM_PAGE_CODE | RAM_PAGE_TABLE)) && as->listener.traced_write)
        as->listener.traced_write(as->listener.ctx, page, offset, size);
    as_mark_dirty(as, page);
}

static void ram_read(const struct as_page *page, unsigned offset, void *to, size_t size)
{
    if (page->read)
        bytes_copy(to, page->read + offset, size);
    else
        bytes_fill(to, 0xff, size);
}

/* An access to one page that has device registers in it. */
static void mmio_access(struct address_space *as, uint64_t gpa, uint8_t *in, const uint8_t *out,
                        size_t size)
{
    bool allowed = enter(as);
    while (size) {
        uint64_t rest;
        const struct io_region *region = find_mmio(as, gpa, &rest);
        size_t n = size < rest ? size : (size_t)rest;
        if (region) {
            uint64_t offset = gpa - region->start, value = ~0ULL;
            n = aligned_piece(offset, n);
            if (out) {
                bytes_copy(&value, out, n);
                if (allowed)
                    device_write(as, region, offset, value, (unsigned)n);
            } else {
                if (allowed)
                    value = device_read(as, region, offset, (unsigned)n);
                bytes_copy(in, &value, n);
            }
        } else {
            struct as_range range;
            find_range(as, gpa, &range);
            struct as_page page = page_behind(&range, gpa);
            unsigned offset = (unsigned)(gpa & (RAM_PAGE_SIZE - 1));
            if (out)
                ram_write(as, &page, offset, out, n);
            else
                ram_read(&page, offset, in, n);
        }
        gpa += n;
        size -= n;
        if (out)
            out += n;
        else
            in += n;
    }
    leave(as);
}

static size_t page_part(uint64_t gpa, size_t size)
{
    size_t rest = RAM_PAGE_SIZE - (size_t)(gpa & (RAM_PAGE_SIZE - 1));
    return size < rest ? size : rest;
}

void as_read(struct address_space *as, uint64_t gpa, void *buffer, size_t size)
{
    uint8_t *to = buffer;
    while (size) {
        size_t n = page_part(gpa, size);
        struct as_page page = as_lookup(as, gpa);
        if (page.kind == AS_MMIO)
            mmio_access(as, apply_a20(as, gpa), to, NULL, n);
        else
            ram_read(&page, (unsigned)(gpa & (RAM_PAGE_SIZE - 1)), to, n);
        gpa += n;
        to += n;
        size -= n;
    }
}

void as_write(struct address_space *as, uint64_t gpa, const void *buffer, size_t size)
{
    const uint8_t *from = buffer;
    while (size) {
        size_t n = page_part(gpa, size);
        struct as_page page = as_lookup(as, gpa);
        if (page.kind == AS_MMIO)
            mmio_access(as, apply_a20(as, gpa), NULL, from, n);
        else
            ram_write(as, &page, (unsigned)(gpa & (RAM_PAGE_SIZE - 1)), from, n);
        gpa += n;
        from += n;
        size -= n;
    }
}

/* --- ports --- */

static const struct io_region *find_port(const struct address_space *as, uint32_t port)
{
    unsigned index = port < PIO_PORTS ? as->pio_index[port] : 0;
    return index ? as->pio.items[index - 1] : NULL;
}

/*
 * The part of an access of size bytes at port that goes to one place. A word register decodes the
 * whole word by its first port: it is not cut at the end of its range if nothing else is there.
 */
static unsigned port_piece(const struct address_space *as, uint32_t port, unsigned size,
                           const struct io_region *region)
{
    unsigned same = 1;
    while (same < size) {
        const struct io_region *other = find_port(as, port + same);
        if (other != region && (other || !region || same >= region->ops.min_size))
            break;
        same++;
    }
    while (same & (same - 1)) /* 3 ports: 2, then 1 */
        same &= same - 1;
    return same;
}

uint64_t as_pio_read(struct address_space *as, uint16_t port, unsigned size)
{
    uint64_t value = 0;
    bool allowed = enter(as);
    for (unsigned done = 0; done < size;) {
        uint32_t at = (uint32_t)port + done;
        const struct io_region *region = find_port(as, at);
        unsigned n = port_piece(as, at, size - done, region);
        uint64_t piece = bytes_mask(n);
        if (region && allowed)
            piece = device_read(as, region, at - region->start, n);
        value |= piece << (8 * done);
        done += n;
    }
    leave(as);
    return value;
}

void as_pio_write(struct address_space *as, uint16_t port, uint64_t value, unsigned size)
{
    bool allowed = enter(as);
    for (unsigned done = 0; done < size;) {
        uint32_t at = (uint32_t)port + done;
        const struct io_region *region = find_port(as, at);
        unsigned n = port_piece(as, at, size - done, region);
        if (region && allowed)
            device_write(as, region, at - region->start, value >> (8 * done), n);
        done += n;
    }
    leave(as);
}
