/*
 * Who is mapped where: RAM, ROMs, device memory, device registers, ports, PAM and A20.
 */
#include "memory/address_space.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory/as_private.h"

static const uint64_t MIB = 1ULL << 20;
static const uint64_t PHYSICAL_END = 1ULL << 52; /* what page tables can address */
static const uint64_t EXTRA_PAGES = 1ULL << 20;  /* ROMs and device RAM: 4 GiB at most */

static void as_enter(struct address_space *as)
{
    pthread_mutex_lock(&as->lock);
}

static void as_leave(struct address_space *as)
{
    pthread_mutex_unlock(&as->lock);
}

/* --- small containers --- */

static int list_reserve(struct as_list *list, struct vd_error *err)
{
    if (list->count < list->capacity)
        return 0;
    size_t capacity = list->capacity ? 2 * list->capacity : 16;
    void **items = realloc(list->items, capacity * sizeof(*items));
    if (!items)
        return error_set(err, "no memory for a device range");
    list->items = items;
    list->capacity = capacity;
    return 0;
}

static void list_insert(struct as_list *list, size_t at, void *item)
{
    memmove(list->items + at + 1, list->items + at, (list->count - at) * sizeof(*list->items));
    list->items[at] = item;
    list->count++;
}

static void list_remove(struct as_list *list, const void *item)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i] != item)
            continue;
        list->count--;
        memmove(list->items + i, list->items + i + 1, (list->count - i) * sizeof(*list->items));
        return;
    }
}

static void list_free(struct as_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
}

/* --- backing pages --- */

static int extent_add(struct address_space *as, uint8_t *host, uint64_t pages, struct vd_error *err)
{
    if (as->page_count + pages > as->page_limit)
        return error_set(err, "more than %llu MiB of ROM and device memory",
                         (unsigned long long)(EXTRA_PAGES * RAM_PAGE_SIZE / MIB));
    struct as_extent *extents = realloc(as->extents, (as->extent_count + 1) * sizeof(*as->extents));
    if (!extents)
        return error_set(err, "no memory for a memory range");
    as->extents = extents;
    extents[as->extent_count++] =
        (struct as_extent){.host = host, .page = as->page_count, .count = pages};
    as->page_count += pages;
    return 0;
}

/*
 * Gives numbers to the pages of [host, host + size) that have none yet. The same host page keeps
 * its number wherever it is mapped, so that its flags are seen through every alias.
 */
static int extent_cover(struct address_space *as, uint8_t *host, uint64_t size,
                        struct vd_error *err)
{
    while (size) {
        uint64_t step = size;
        bool known = false;
        for (size_t i = 0; i < as->extent_count && !known; i++) {
            const struct as_extent *e = &as->extents[i];
            uint64_t bytes = e->count * RAM_PAGE_SIZE;
            if ((uintptr_t)host - (uintptr_t)e->host < bytes) {
                known = true;
                step = bytes - ((uintptr_t)host - (uintptr_t)e->host);
            } else if ((uintptr_t)e->host - (uintptr_t)host < step) {
                step = (uintptr_t)e->host - (uintptr_t)host;
            }
        }
        if (step > size)
            step = size;
        if (!known && extent_add(as, host, step / RAM_PAGE_SIZE, err) < 0)
            return -1;
        host += step;
        size -= step;
    }
    return 0;
}

uint8_t *as_page_flags(struct address_space *as)
{
    return as->page_flags;
}

uint64_t as_page_count(const struct address_space *as)
{
    return as->page_count;
}

uint8_t *as_page_host(struct address_space *as, uint64_t page)
{
    for (size_t i = 0; i < as->extent_count; i++) {
        const struct as_extent *e = &as->extents[i];
        if (page - e->page < e->count)
            return e->host + (page - e->page) * RAM_PAGE_SIZE;
    }
    return NULL;
}

/* --- creation --- */

static int map_ram(struct address_space *as, struct vd_error *err)
{
    as->ram_fd = memfd_create("vedette-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (as->ram_fd < 0)
        return error_set(err, "memfd_create: %s", strerror(errno));
    if (ftruncate(as->ram_fd, (off_t)as->ram_size) < 0)
        return error_set(err, "cannot reserve %llu MiB of guest memory: %s",
                         (unsigned long long)(as->ram_size / MIB), strerror(errno));
    if (fcntl(as->ram_fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return error_set(err, "cannot seal guest memory: %s", strerror(errno));
    void *ram =
        mmap(NULL, as->ram_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, as->ram_fd, 0);
    if (ram == MAP_FAILED)
        return error_set(err, "cannot map %llu MiB of guest memory: %s",
                         (unsigned long long)(as->ram_size / MIB), strerror(errno));
    as->ram = ram;
    return 0;
}

static int map_tables(struct address_space *as, struct vd_error *err)
{
    /* at its full size from the start: the array must not move while other threads use it */
    as->page_limit = as->ram_size / RAM_PAGE_SIZE + EXTRA_PAGES;
    void *flags = mmap(NULL, as->page_limit, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (flags == MAP_FAILED)
        return error_set(err, "no memory for page flags: %s", strerror(errno));
    as->page_flags = flags;
    as->pio_index = calloc(PIO_PORTS, sizeof(*as->pio_index));
    if (!as->pio_index)
        return error_set(err, "no memory for the port table");
    if (extent_add(as, as->ram, as->ram_size / RAM_PAGE_SIZE, err) < 0)
        return -1;
    return layout_reserve(as, err);
}

static int init_lock(pthread_mutex_t *lock, struct vd_error *err)
{
    pthread_mutexattr_t attr;
    int error = pthread_mutexattr_init(&attr);
    if (error)
        return error_set(err, "pthread_mutexattr_init: %s", strerror(error));
    /* device code may DMA into, or access ports of, another device */
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    error = pthread_mutex_init(lock, &attr);
    pthread_mutexattr_destroy(&attr);
    return error ? error_set(err, "pthread_mutex_init: %s", strerror(error)) : 0;
}

int as_create(struct address_space **result, uint64_t ram_size, uint64_t low_end,
              struct vd_error *err)
{
    *result = NULL;
    if (ram_size < MIB || ram_size % MIB || ram_size > PHYSICAL_END / 2)
        return error_set(err, "guest memory must be a multiple of 1 MiB, not %llu bytes",
                         (unsigned long long)ram_size);
    if (low_end < MIB || low_end % MIB || low_end > 1ULL << 32)
        return error_set(err, "guest memory below 4 GiB cannot end at %#llx",
                         (unsigned long long)low_end);
    struct address_space *as = calloc(1, sizeof(*as));
    if (!as)
        return error_set(err, "no memory for the address space");
    if (init_lock(&as->lock, err) < 0) {
        free(as);
        return -1;
    }
    as->ram_fd = -1;
    as->ram_size = ram_size;
    as->low_end = ram_size < low_end ? ram_size : low_end;
    as->a20_mask = ~0ULL;
    if (map_ram(as, err) < 0 || map_tables(as, err) < 0) {
        as_destroy(as);
        return -1;
    }
    layout_rebuild(as);
    *result = as;
    return 0;
}

void as_destroy(struct address_space *as)
{
    if (!as)
        return;
    for (size_t i = 0; i < as->rom_count; i++)
        if (!as->roms[i].alias)
            munmap(as->roms[i].host, as->roms[i].host_size);
    if (as->ram)
        munmap(as->ram, as->ram_size);
    if (as->page_flags)
        munmap(as->page_flags, as->page_limit);
    if (as->ram_fd >= 0)
        close(as->ram_fd);
    list_free(&as->mmio);
    list_free(&as->device_ram);
    list_free(&as->pio);
    if (as->layout)
        layout_free(as->layout);
    if (as->next)
        layout_free(as->next);
    free(as->bounds);
    free(as->roms);
    free(as->extents);
    free(as->pio_index);
    pthread_mutex_destroy(&as->lock);
    free(as);
}

bool as_set_listener(struct address_space *as, const struct as_listener *listener)
{
    as_enter(as);
    bool same = listener && listener->ctx == as->listener.ctx;
    as->listener = listener ? *listener : (struct as_listener){0};
    as_leave(as);
    return same;
}

void as_clear_listener(struct address_space *as, const void *ctx)
{
    as_enter(as);
    if (as->listener.ctx == ctx)
        as->listener = (struct as_listener){0};
    as_leave(as);
}

pthread_mutex_t *as_lock(struct address_space *as)
{
    return &as->lock;
}

uint64_t as_ram_size(const struct address_space *as)
{
    return as->ram_size;
}

uint64_t as_low_end(const struct address_space *as)
{
    return as->low_end;
}

int as_ram_fd(const struct address_space *as)
{
    return as->ram_fd;
}

/* --- ROM --- */

static int check_range(uint64_t gpa, uint64_t size, uint64_t alignment, const char *name,
                       struct vd_error *err)
{
    if (!size || gpa % alignment || size % alignment || gpa >= PHYSICAL_END ||
        size > PHYSICAL_END - gpa)
        return error_set(err, "%s: bad physical range %#llx, size %#llx", name,
                         (unsigned long long)gpa, (unsigned long long)size);
    return 0;
}

static int insert_rom(struct address_space *as, const struct as_rom *rom, struct vd_error *err)
{
    for (size_t i = 0; i < as->rom_count; i++)
        if (rom->start < as->roms[i].start + as->roms[i].size &&
            as->roms[i].start < rom->start + rom->size)
            return error_set(err, "ROM at %#llx overlaps the ROM at %#llx",
                             (unsigned long long)rom->start, (unsigned long long)as->roms[i].start);
    struct as_rom *roms = realloc(as->roms, (as->rom_count + 1) * sizeof(*roms));
    if (!roms)
        return error_set(err, "no memory for a ROM");
    as->roms = roms;
    if (layout_reserve(as, err) < 0)
        return -1;
    struct as_rom added = *rom;
    if (!rom->alias) {
        added.page = (int64_t)as->page_count;
        if (extent_add(as, rom->host, rom->size / RAM_PAGE_SIZE, err) < 0)
            return -1;
    }
    roms[as->rom_count++] = added;
    layout_rebuild(as);
    return 0;
}

int as_add_rom(struct address_space *as, uint64_t gpa, uint64_t size, const void *data,
               size_t data_size, struct vd_error *err)
{
    if (check_range(gpa, size, RAM_PAGE_SIZE, "ROM", err) < 0)
        return -1;
    if (data_size > size)
        return error_set(err, "ROM at %#llx: %zu bytes do not fit into %llu",
                         (unsigned long long)gpa, data_size, (unsigned long long)size);
    void *host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (host == MAP_FAILED)
        return error_set(err, "no memory for a ROM of %llu bytes", (unsigned long long)size);
    memset(host, 0xff, size);
    if (data_size)
        memcpy(host, data, data_size);
    struct as_rom rom = {.start = gpa, .size = size, .host = host, .host_size = size};
    as_enter(as);
    int result = insert_rom(as, &rom, err);
    as_leave(as);
    if (result < 0)
        munmap(host, size);
    return result;
}

int as_add_rom_alias(struct address_space *as, uint64_t gpa, uint64_t size, uint64_t rom_gpa,
                     struct vd_error *err)
{
    if (check_range(gpa, size, RAM_PAGE_SIZE, "ROM alias", err) < 0)
        return -1;
    int result = -1;
    as_enter(as);
    const struct as_rom *rom = NULL;
    for (size_t i = 0; i < as->rom_count && !rom; i++)
        if (as->roms[i].start == rom_gpa)
            rom = &as->roms[i];
    if (!rom || size > rom->size) {
        error_set(err, "no ROM of at least %llu bytes at %#llx", (unsigned long long)size,
                  (unsigned long long)rom_gpa);
    } else {
        uint64_t skip = rom->size - size;
        struct as_rom alias = {.start = gpa,
                               .size = size,
                               .host = rom->host + skip,
                               .page = rom->page + (int64_t)(skip / RAM_PAGE_SIZE),
                               .alias = true};
        result = insert_rom(as, &alias, err);
    }
    as_leave(as);
    return result;
}

/* --- devices --- */

static bool valid_size(unsigned size)
{
    return size == 1 || size == 2 || size == 4 || size == 8;
}

static struct io_region *region_new(enum io_kind kind, uint64_t start, uint64_t size,
                                    const struct io_ops *ops, void *ctx, const char *name,
                                    struct vd_error *err)
{
    if (ops && (!valid_size(ops->min_size) || !valid_size(ops->max_size) ||
                ops->min_size > ops->max_size)) {
        error_set(err, "%s: access sizes %u to %u", name, ops->min_size, ops->max_size);
        return NULL;
    }
    struct io_region *region = calloc(1, sizeof(*region));
    if (!region) {
        error_set(err, "%s: no memory for a device range", name);
        return NULL;
    }
    region->kind = kind;
    region->start = start;
    region->size = size;
    region->ctx = ctx;
    if (ops)
        region->ops = *ops;
    strncpy(region->name, name, sizeof(region->name) - 1);
    return region;
}

/* Puts region into its sorted list unless it overlaps a neighbour. */
static int insert_sorted(struct as_list *list, struct io_region *region, struct vd_error *err)
{
    size_t at = 0;
    while (at < list->count && ((struct io_region *)list->items[at])->start < region->start)
        at++;
    const struct io_region *before = at ? list->items[at - 1] : NULL;
    const struct io_region *after = at < list->count ? list->items[at] : NULL;
    const struct io_region *other = NULL;
    if (before && before->start + before->size > region->start)
        other = before;
    else if (after && region->start + region->size > after->start)
        other = after;
    if (other)
        return error_set(err, "%s at %#llx overlaps %s at %#llx", region->name,
                         (unsigned long long)region->start, other->name,
                         (unsigned long long)other->start);
    if (list_reserve(list, err) < 0)
        return -1;
    list_insert(list, at, region);
    return 0;
}

static struct io_region *map_memory(struct address_space *as, struct as_list *list,
                                    struct io_region *region, struct vd_error *err)
{
    if (!region)
        return NULL;
    as_enter(as);
    bool done = (!region->host || extent_cover(as, region->host, region->size, err) == 0) &&
                layout_reserve(as, err) == 0 && insert_sorted(list, region, err) == 0;
    if (done)
        layout_rebuild(as);
    as_leave(as);
    if (done)
        return region;
    free(region);
    return NULL;
}

struct io_region *as_map_mmio(struct address_space *as, uint64_t gpa, uint64_t size,
                              const struct io_ops *ops, void *ctx, const char *name,
                              struct vd_error *err)
{
    if (check_range(gpa, size, 1, name, err) < 0)
        return NULL;
    return map_memory(as, &as->mmio, region_new(IO_MMIO, gpa, size, ops, ctx, name, err), err);
}

struct io_region *as_map_device_ram(struct address_space *as, uint64_t gpa, uint64_t size,
                                    void *host, const char *name, struct vd_error *err)
{
    if (check_range(gpa, size, RAM_PAGE_SIZE, name, err) < 0)
        return NULL;
    if (!host || (uintptr_t)host % RAM_PAGE_SIZE) {
        error_set(err, "%s: device memory is not page-aligned", name);
        return NULL;
    }
    struct io_region *region = region_new(IO_DEVICE_RAM, gpa, size, NULL, NULL, name, err);
    if (region)
        region->host = host;
    return map_memory(as, &as->device_ram, region, err);
}

static int claim_ports(struct address_space *as, struct io_region *region, struct vd_error *err)
{
    for (uint64_t i = 0; i < region->size; i++) {
        unsigned index = as->pio_index[region->start + i];
        if (index)
            return error_set(err, "%s at port %#llx overlaps %s", region->name,
                             (unsigned long long)region->start,
                             ((struct io_region *)as->pio.items[index - 1])->name);
    }
    size_t number = 0;
    while (number < as->pio.count && as->pio.items[number])
        number++;
    if (number == as->pio.count) {
        if (number >= UINT16_MAX || list_reserve(&as->pio, err) < 0)
            return error_set(err, "%s: too many port ranges", region->name);
        as->pio.count++;
    }
    as->pio.items[number] = region;
    region->number = (unsigned)number;
    for (uint64_t i = 0; i < region->size; i++)
        as->pio_index[region->start + i] = (uint16_t)(number + 1);
    return 0;
}

struct io_region *as_map_pio(struct address_space *as, uint16_t port, uint32_t count,
                             const struct io_ops *ops, void *ctx, const char *name,
                             struct vd_error *err)
{
    if (!count || count > PIO_PORTS - (uint32_t)port) {
        error_set(err, "%s: bad port range %#x, %u ports", name, port, count);
        return NULL;
    }
    struct io_region *region = region_new(IO_PIO, port, count, ops, ctx, name, err);
    if (!region)
        return NULL;
    as_enter(as);
    int result = claim_ports(as, region, err);
    as_leave(as);
    if (result == 0)
        return region;
    free(region);
    return NULL;
}

void as_unmap(struct address_space *as, struct io_region *region)
{
    if (!region)
        return;
    as_enter(as);
    if (region->kind == IO_PIO) {
        for (uint64_t i = 0; i < region->size; i++)
            as->pio_index[region->start + i] = 0;
        as->pio.items[region->number] = NULL;
    } else {
        list_remove(region->kind == IO_MMIO ? &as->mmio : &as->device_ram, region);
        layout_rebuild(as);
    }
    as_leave(as);
    free(region);
}

/* --- chipset controls --- */

void as_set_pam(struct address_space *as, uint32_t gpa, uint32_t size, bool read_ram,
                bool write_ram)
{
    uint8_t value = (uint8_t)((read_ram ? PAM_READ_RAM : 0) | (write_ram ? PAM_WRITE_RAM : 0));
    bool changed = false;
    as_enter(as);
    for (uint32_t at = 0; at < size; at += PAM_UNIT) {
        uint32_t unit = (gpa + at - PAM_BASE) / PAM_UNIT;
        if (gpa + at < PAM_BASE || unit >= PAM_UNITS || as->pam[unit] == value)
            continue;
        as->pam[unit] = value;
        changed = true;
    }
    if (changed)
        layout_rebuild(as);
    as_leave(as);
}

void as_set_a20(struct address_space *as, bool enabled)
{
    uint64_t mask = enabled ? ~0ULL : ~(1ULL << 20);
    as_enter(as);
    if (as->a20_mask != mask) {
        __atomic_store_n(&as->a20_mask, mask, __ATOMIC_RELEASE);
        if (as->listener.layout_changed)
            as->listener.layout_changed(as->listener.ctx);
    }
    as_leave(as);
}

bool as_a20(const struct address_space *as)
{
    return __atomic_load_n(&as->a20_mask, __ATOMIC_ACQUIRE) == ~0ULL;
}
