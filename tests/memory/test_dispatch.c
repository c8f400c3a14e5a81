/* What devices see of memory and port accesses: offsets, sizes, order, nesting. */
#include "fixture.h"

#include <errno.h>
#include <pthread.h>

enum { LOG_SIZE = 16 };

struct device {
    struct {
        bool write;
        uint64_t offset, value;
        unsigned size;
    } log[LOG_SIZE];
    unsigned count;
    struct address_space *as;
    struct io_region *unmap; /* removed by the next write */
    uint64_t dma;            /* where each write also writes to, if not 0 */
    unsigned depth, max_depth;
};

/* Register n holds the byte n + 10h in each byte: reads show which lanes were asked for. */
static uint64_t device_read(void *ctx, uint64_t offset, unsigned size)
{
    struct device *d = ctx;
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)(uint8_t)(offset + i + 0x10) << (8 * i);
    assert_true(d->count < LOG_SIZE);
    d->log[d->count].write = false;
    d->log[d->count].offset = offset;
    d->log[d->count++].size = size;
    return value;
}

static void device_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct device *d = ctx;
    assert_true(d->count < LOG_SIZE);
    d->log[d->count].write = true;
    d->log[d->count].offset = offset;
    d->log[d->count].value = value;
    d->log[d->count++].size = size;
    if (++d->depth > d->max_depth)
        d->max_depth = d->depth;
    if (d->unmap) {
        as_unmap(d->as, d->unmap);
        d->unmap = NULL;
    }
    if (d->dma)
        as_write(d->as, d->dma, &value, size);
    d->depth--;
}

static void expect(const struct device *d, unsigned i, bool write, uint64_t offset, unsigned size,
                   uint64_t value)
{
    assert_true(i < d->count);
    assert_int_equal(d->log[i].write, write);
    assert_int_equal(d->log[i].offset, offset);
    assert_int_equal(d->log[i].size, size);
    if (write)
        assert_int_equal(d->log[i].value, value);
}

static struct io_ops sizes(unsigned min, unsigned max)
{
    return (struct io_ops){device_read, device_write, min, max};
}

static void test_mmio_sizes(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    struct vd_error err;
    struct device d = {.as = m->as};
    struct io_ops any = sizes(1, 8), dword = sizes(4, 4), byte = sizes(1, 1);
    uint64_t v = 0;
    assert_non_null(as_map_mmio(m->as, 0xf0000000, 0x100, &any, &d, "any", &err));
    assert_non_null(as_map_mmio(m->as, 0xf0001000, 0x100, &dword, &d, "dword", &err));
    assert_non_null(as_map_mmio(m->as, 0xf0002000, 0x100, &byte, &d, "byte", &err));
    for (unsigned size = 1; size <= 8; size *= 2) { /* as they are */
        d.count = 0;
        v = 0;
        as_read(m->as, 0xf0000008, &v, size);
        assert_int_equal(d.count, 1);
        expect(&d, 0, false, 8, size, 0);
        assert_int_equal(v, 0x1f1e1d1c1b1a1918ULL & (~0ULL >> (64 - 8 * size)));
    }
    d.count = 0; /* too large: split, low part first */
    v = 0x8877665544332211ULL;
    as_write(m->as, 0xf0001010, &v, 8);
    assert_int_equal(d.count, 2);
    expect(&d, 0, true, 0x10, 4, 0x44332211);
    expect(&d, 1, true, 0x14, 4, 0x88776655);
    d.count = 0;
    v = 0;
    as_read(m->as, 0xf0002004, &v, 4);
    assert_int_equal(d.count, 4);
    expect(&d, 3, false, 7, 1, 0);
    assert_int_equal(v, 0x17161514);
    d.count = 0; /* too small: widened, aligned down */
    v = 0;
    as_read(m->as, 0xf0001012, &v, 2);
    assert_int_equal(d.count, 1);
    expect(&d, 0, false, 0x10, 4, 0);
    assert_int_equal(v, 0x2322);
    d.count = 0;
    as_write(m->as, 0xf0001011, "\xaa", 1);
    expect(&d, 0, true, 0x10, 4, 0xaa00);
    d.count = 0; /* unaligned: aligned parts */
    v = 0x44332211;
    as_write(m->as, 0xf0000003, &v, 4);
    assert_int_equal(d.count, 3);
    expect(&d, 0, true, 3, 1, 0x11);
    expect(&d, 1, true, 4, 2, 0x3322);
    expect(&d, 2, true, 6, 1, 0x44);
    machine_free(m);
}

static void test_mmio_neighbours(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    struct vd_error err;
    struct device a = {.as = m->as}, b = {.as = m->as};
    struct io_ops any = sizes(1, 8);
    /* two small ranges in one page of RAM: the rest of the page stays RAM */
    assert_non_null(as_map_mmio(m->as, 0x300100, 4, &any, &a, "a", &err));
    assert_non_null(as_map_mmio(m->as, 0x300104, 2, &any, &b, "b", &err));
    memset(m->ram + 0x300000, 0x77, 0x1000);
    uint8_t bytes[16];
    as_read(m->as, 0x3000fc, bytes, 16);
    assert_memory_equal(bytes, "\x77\x77\x77\x77\x10\x11\x12\x13\x10\x11\x77\x77\x77\x77\x77\x77",
                        16);
    assert_int_equal(a.count, 1);
    assert_int_equal(b.count, 1);
    as_page_flags(m->as)[0x300] = RAM_PAGE_CODE;
    as_write(m->as, 0x3000fe, "abcdefghijkl", 12);
    assert_memory_equal(m->ram + 0x3000fe, "ab\x77\x77\x77\x77\x77\x77ijkl", 12);
    expect(&a, 1, true, 0, 4, 0x66656463);
    expect(&b, 1, true, 0, 2, 0x6867);
    assert_int_equal(m->traced.count, 2);
    assert_int_equal(m->traced.offset, 0x106);
    assert_int_equal(m->traced.size, 4);
    /* a range over several pages: offsets go on */
    struct device c = {.as = m->as};
    assert_non_null(as_map_mmio(m->as, 0x400800, 0x2000, &any, &c, "c", &err));
    uint64_t v;
    as_read(m->as, 0x401ffc, &v, 8);
    expect(&c, 0, false, 0x17fc, 4, 0);
    expect(&c, 1, false, 0x1800, 4, 0);
    machine_free(m);
}

static void test_ports(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    struct vd_error err;
    struct device a = {.as = m->as}, b = {.as = m->as}, w = {.as = m->as};
    struct io_ops byte = sizes(1, 1), any = sizes(1, 4), word = sizes(2, 2);
    assert_int_equal(as_pio_read(m->as, 0x300, 1), 0xff);
    assert_int_equal(as_pio_read(m->as, 0x300, 2), 0xffff);
    assert_int_equal(as_pio_read(m->as, 0x300, 4), 0xffffffff);
    as_pio_write(m->as, 0x300, 0, 4);
    struct io_region *ra = as_map_pio(m->as, 0x300, 3, &byte, &a, "a", &err);
    struct io_region *rb = as_map_pio(m->as, 0x303, 8, &any, &b, "b", &err);
    assert_non_null(ra);
    assert_non_null(rb);
    assert_null(as_map_pio(m->as, 0x302, 1, &byte, &a, "overlap", &err));
    assert_int_equal(as_pio_read(m->as, 0x301, 1), 0x11);
    expect(&a, 0, false, 1, 1, 0);
    a.count = b.count = 0; /* a word register is not split, even at an odd port */
    assert_int_equal(as_pio_read(m->as, 0x306, 2), 0x1413);
    expect(&b, 0, false, 3, 2, 0);
    a.count = b.count = 0; /* over both: each gets its part */
    as_pio_write(m->as, 0x301, 0x44332211, 4);
    assert_int_equal(a.count, 2);
    assert_int_equal(b.count, 1);
    expect(&a, 0, true, 1, 1, 0x11);
    expect(&a, 1, true, 2, 1, 0x22);
    expect(&b, 0, true, 0, 2, 0x4433);
    a.count = b.count = 0; /* over the end of the last range */
    assert_int_equal(as_pio_read(m->as, 0x309, 4), 0xffff1716);
    /* word registers at 1CEH and 1CFH, as the Bochs VBE interface has them */
    assert_non_null(as_map_pio(m->as, 0x1ce, 2, &word, &w, "vbe", &err));
    as_pio_write(m->as, 0x1ce, 5, 2);
    as_pio_write(m->as, 0x1cf, 0xb0c4, 2);
    expect(&w, 0, true, 0, 2, 5);
    expect(&w, 1, true, 1, 2, 0xb0c4);
    as_unmap(m->as, ra);
    assert_int_equal(as_pio_read(m->as, 0x301, 1), 0xff);
    assert_non_null(as_map_pio(m->as, 0x302, 1, &byte, &a, "again", &err));
    /* the last port: there is nothing behind it */
    assert_non_null(as_map_pio(m->as, 0xffff, 1, &any, &a, "last", &err));
    assert_int_equal(as_pio_read(m->as, 0xffff, 4), 0xffffff10);
    machine_free(m);
}

static void test_nested(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    struct vd_error err;
    struct io_ops any = sizes(1, 8);
    struct device chain[12] = {{.count = 0}};
    for (unsigned i = 0; i < 12; i++) {
        chain[i].as = m->as;
        chain[i].dma = 0xf0000000 + 0x1000ULL * (i + 1);
        assert_non_null(
            as_map_mmio(m->as, 0xf0000000 + 0x1000ULL * i, 0x1000, &any, &chain[i], "d", &err));
    }
    /* into RAM, and into another device: the usual thing (a message-signalled interrupt) */
    chain[0].dma = 0x500000;
    as_write(m->as, 0xf0000000, "\x5c", 1);
    assert_int_equal(m->ram[0x500000], 0x5c);
    chain[2].dma = 0;
    as_write(m->as, 0xf0001000, "\x5d", 1);
    assert_int_equal(chain[2].count, 1);
    /* into its own registers: not entered again */
    chain[3].dma = 0xf0003000;
    as_write(m->as, 0xf0003010, "\x5e", 1);
    assert_int_equal(chain[3].count, 1);
    assert_int_equal(chain[3].max_depth, 1);
    /* in a circle: ends when it comes back */
    chain[4].dma = 0xf0005000;
    chain[5].dma = 0xf0004000;
    as_write(m->as, 0xf0004000, "\x5f", 1);
    assert_int_equal(chain[4].count, 1);
    assert_int_equal(chain[5].count, 1);
    /* a long chain ends somewhere, and the machine works on */
    for (unsigned i = 0; i < 12; i++) {
        chain[i].count = 0;
        chain[i].dma = 0xf0000000 + 0x1000ULL * (i + 1);
    }
    as_write(m->as, 0xf0000000, "\x60", 1);
    assert_int_equal(chain[0].count, 1);
    assert_int_equal(chain[11].count, 0);
    chain[11].dma = 0;
    as_write(m->as, 0xf000b000, "\x61", 1);
    assert_int_equal(chain[11].count, 1);
    machine_free(m);
}

static void test_unmap_inside(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    struct vd_error err;
    struct io_ops byte = sizes(1, 1);
    struct device d = {.as = m->as};
    d.unmap = as_map_mmio(m->as, 0xf0000000, 0x1000, &byte, &d, "d", &err);
    assert_non_null(d.unmap);
    as_write(m->as, 0xf0000000, "\1\2\3\4", 4); /* one device access that is split */
    assert_int_equal(d.count, 4);
    assert_int_equal(as_lookup(m->as, 0xf0000000).kind, AS_UNMAPPED);
    d.count = 0;
    d.unmap = as_map_mmio(m->as, 0xf0000000, 0x1000, &byte, &d, "d", &err);
    as_write(m->as, 0xf0000000, "\1\2\3\4\5\6\7\10\11\12", 10);
    assert_int_equal(d.count, 8); /* gone when the second piece arrives */
    machine_free(m);
}

struct entered {
    struct address_space *as;
    unsigned count;
    uint64_t inner;
};

static void count_enter(void *ctx)
{
    ((struct entered *)ctx)->count++;
}

static uint64_t read_other(void *ctx, uint64_t offset, unsigned size)
{
    struct entered *e = ctx;
    (void)offset, (void)size;
    assert_int_equal(e->count, 1); /* parked before the device runs */
    return as_pio_read(e->as, 0x81, 1);
}

static uint64_t read_five(void *ctx, uint64_t offset, unsigned size)
{
    (void)ctx, (void)offset, (void)size;
    return 5;
}

static void *try_lock(void *arg)
{
    return (void *)(intptr_t)pthread_mutex_trylock(arg);
}

static uint64_t read_locked(void *ctx, uint64_t offset, unsigned size)
{
    pthread_t thread;
    void *result = NULL;
    (void)offset, (void)size;
    assert_int_equal(pthread_create(&thread, NULL, try_lock, as_lock(ctx)), 0);
    pthread_join(thread, &result);
    return (intptr_t)result == EBUSY;
}

static void test_enter_device_and_lock(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    struct vd_error err;
    struct entered e = {.as = m->as};
    struct as_listener listener = {.ctx = &e, .enter_device = count_enter};
    as_set_listener(m->as, &listener);
    struct io_ops outer = {read_other, NULL, 1, 1}, inner = {read_five, NULL, 1, 1};
    struct io_ops locked = {read_locked, NULL, 1, 1};
    assert_non_null(as_map_pio(m->as, 0x80, 1, &outer, &e, "outer", &err));
    assert_non_null(as_map_pio(m->as, 0x81, 1, &inner, NULL, "inner", &err));
    assert_non_null(as_map_mmio(m->as, 0xf0000000, 1, &locked, m->as, "locked", &err));
    assert_int_equal(as_pio_read(m->as, 0x80, 1), 5);
    assert_int_equal(e.count, 1);    /* once, not for the nested access */
    as_pio_write(m->as, 0x80, 1, 1); /* no write function: dropped */
    uint8_t v = 0;
    as_read(m->as, 0xf0000000, &v, 1);
    assert_int_equal(v, 1); /* another thread found the lock taken */
    assert_int_equal(pthread_mutex_trylock(as_lock(m->as)), 0);
    pthread_mutex_unlock(as_lock(m->as));
    unsigned before = e.count;
    as_read(m->as, 0x1000, &v, 1); /* RAM: no device */
    assert_int_equal(e.count, before);
    machine_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mmio_sizes),   cmocka_unit_test(test_mmio_neighbours),
        cmocka_unit_test(test_ports),        cmocka_unit_test(test_nested),
        cmocka_unit_test(test_unmap_inside), cmocka_unit_test(test_enter_device_and_lock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
