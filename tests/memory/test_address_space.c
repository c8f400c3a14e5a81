/* Layout: what is visible where, by priority; PAM (82441FX data sheet, 3.2.18), A20, ROMs. */
#include "fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

static uint64_t no_read(void *ctx, uint64_t offset, unsigned size)
{
    (void)ctx, (void)offset, (void)size;
    return 0x5a;
}

static void no_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    (void)ctx, (void)offset, (void)value, (void)size;
}

static const struct io_ops ops = {no_read, no_write, 1, 8};

static uint8_t read8(struct address_space *as, uint64_t gpa)
{
    uint8_t value = 0;
    as_read(as, gpa, &value, 1);
    return value;
}

static void write8(struct address_space *as, uint64_t gpa, uint8_t value)
{
    as_write(as, gpa, &value, 1);
}

static void test_create(void **state)
{
    (void)state;
    struct vd_error err;
    struct address_space *as;
    static const struct {
        uint64_t size, low;
    } bad[] = {{0, 3072ULL * MIB},
               {MIB / 2, 3072ULL * MIB},
               {MIB + 4096, 3072ULL * MIB},
               {MIB, 0},
               {MIB, 8192ULL * MIB}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        err.text[0] = 0;
        assert_int_equal(as_create(&as, bad[i].size, bad[i].low, &err), -1);
        assert_true(err.text[0] != 0);
        assert_null(as);
    }
    assert_int_equal(as_create(&as, 4 * MIB, 0xC0000000, &err), 0);
    assert_int_equal(as_ram_size(as), 4 * MIB);
    assert_int_equal(as_low_end(as), 4 * MIB);
    assert_int_equal(as_page_count(as), 1024);
    /* sealed: nobody who is handed the descriptor can pull the memory away */
    int seals = fcntl(as_ram_fd(as), F_GET_SEALS);
    assert_int_equal(seals & (F_SEAL_SHRINK | F_SEAL_GROW), F_SEAL_SHRINK | F_SEAL_GROW);
    /* the descriptor shows the same bytes */
    uint8_t *view = mmap(NULL, 4096, PROT_READ, MAP_SHARED, as_ram_fd(as), 4096 * 5);
    assert_ptr_not_equal(view, MAP_FAILED);
    write8(as, 4096 * 5 + 7, 0x42);
    assert_int_equal(view[7], 0x42);
    munmap(view, 4096);
    as_destroy(as);
    as_destroy(NULL);
}

static void test_split_ram(void **state)
{
    (void)state;
    struct vd_error err;
    struct address_space *as;
    assert_int_equal(as_create(&as, 16 * MIB, 8 * MIB, &err), 0);
    assert_int_equal(as_low_end(as), 8 * MIB);
    struct as_page low = as_lookup(as, 8 * MIB - 1), hole = as_lookup(as, 8 * MIB);
    struct as_page high = as_lookup(as, 1ULL << 32), end = as_lookup(as, (1ULL << 32) + 8 * MIB);
    assert_int_equal(low.kind, AS_RAM);
    assert_int_equal(low.page, 2047);
    assert_int_equal(hole.kind, AS_UNMAPPED);
    assert_null(hole.read);
    assert_null(hole.write);
    assert_int_equal(hole.page, -1);
    assert_int_equal(high.page, 2048);
    assert_ptr_equal(high.read, as_page_host(as, 2048));
    assert_int_equal(end.kind, AS_UNMAPPED);
    assert_int_equal(as_lookup(as, ~0ULL).kind, AS_UNMAPPED);
    /* unclaimed: all ones, dropped; over the end of RAM the access is split */
    uint32_t value = 0x11223344;
    as_write(as, 8 * MIB - 2, &value, 4);
    value = 0;
    as_read(as, 8 * MIB - 2, &value, 4);
    assert_int_equal(value, 0xffff3344);
    as_destroy(as);
}

static void test_legacy_hole_and_pam(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    struct vd_error err;
    uint8_t image[0x20000];
    for (size_t i = 0; i < sizeof(image); i++)
        image[i] = (uint8_t)(i >> 12 | 0x80);
    assert_int_equal(as_lookup(m->as, 0x9ffff).kind, AS_RAM);
    for (uint32_t gpa = 0xA0000; gpa < 0x100000; gpa += 0x1000)
        assert_int_equal(as_lookup(m->as, gpa).kind, AS_UNMAPPED);
    assert_int_equal(as_lookup(m->as, 0x100000).kind, AS_RAM);
    assert_int_equal(as_add_rom(m->as, 0xfffe0000, 0x20000, image, sizeof(image), &err), 0);
    assert_int_equal(as_add_rom_alias(m->as, 0xf0000, 0x10000, 0xfffe0000, &err), 0);

    struct as_page rom = as_lookup(m->as, 0xf3000), top = as_lookup(m->as, 0xffff3000);
    assert_int_equal(rom.kind, AS_ROM);
    assert_ptr_equal(rom.read, top.read);
    assert_int_equal(rom.page, top.page);
    assert_int_equal(rom.page, RAM_SIZE / 4096 + 0x13);
    assert_ptr_equal(as_page_host(m->as, (uint64_t)rom.page), rom.read);
    assert_null(rom.write);
    assert_int_equal(rom.write_page, -1);
    write8(m->as, 0xf3000, 0);
    assert_int_equal(read8(m->as, 0xf3000), 0x93);

    /* read ROM, write RAM: how firmware copies itself */
    unsigned changes = m->layout_changes;
    as_set_pam(m->as, 0xf0000, 0x10000, false, true);
    assert_int_equal(m->layout_changes, changes + 1);
    as_set_pam(m->as, 0xf0000, 0x10000, false, true);
    assert_int_equal(m->layout_changes, changes + 1);
    struct as_page split = as_lookup(m->as, 0xf3000);
    assert_int_equal(split.page, rom.page);
    assert_int_equal(split.write_page, 0xf3);
    write8(m->as, 0xf3000, 0x17);
    assert_int_equal(read8(m->as, 0xf3000), 0x93);
    /* read RAM, writes dropped */
    as_set_pam(m->as, 0xf0000, 0x10000, true, false);
    assert_int_equal(read8(m->as, 0xf3000), 0x17);
    write8(m->as, 0xf3000, 0x18);
    assert_int_equal(read8(m->as, 0xf3000), 0x17);
    assert_int_equal(as_lookup(m->as, 0xf3000).kind, AS_RAM);
    /* one 16 KiB segment without ROM: write-only RAM, then both */
    as_set_pam(m->as, 0xcc000, 0x4000, false, true);
    write8(m->as, 0xcc000, 0x21);
    assert_int_equal(read8(m->as, 0xcc000), 0xff);
    as_set_pam(m->as, 0xcc000, 0x4000, true, true);
    assert_int_equal(read8(m->as, 0xcc000), 0x21);
    assert_int_equal(as_lookup(m->as, 0xcbfff).kind, AS_UNMAPPED);
    assert_int_equal(as_lookup(m->as, 0xcffff).kind, AS_RAM);
    assert_int_equal(as_lookup(m->as, 0xd0000).kind, AS_UNMAPPED);
    /* a device above selected RAM wins */
    struct io_region *r = as_map_mmio(m->as, 0xcd000, 0x1000, &ops, NULL, "board", &err);
    assert_non_null(r);
    assert_int_equal(read8(m->as, 0xcd000), 0x5a);
    as_unmap(m->as, r);
    assert_int_equal(as_lookup(m->as, 0xcd000).kind, AS_RAM);
    machine_free(m);
}

static void test_rom_errors_and_padding(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    struct vd_error err;
    assert_int_equal(as_add_rom(m->as, 0xfff00000, 0x3000, "abc", 3, &err), 0);
    assert_int_equal(read8(m->as, 0xfff00002), 'c');
    assert_int_equal(read8(m->as, 0xfff00003), 0xff);
    assert_int_equal(read8(m->as, 0xfff02fff), 0xff);
    assert_int_equal(as_add_rom(m->as, 0xfff02000, 0x1000, "", 0, &err), -1);
    assert_int_equal(as_add_rom(m->as, 0xffe00000, 0x1000, "", 0x1001, &err), -1);
    assert_int_equal(as_add_rom(m->as, 0xffe00800, 0x1000, "", 0, &err), -1);
    assert_int_equal(as_add_rom(m->as, 0xffe00000, 0, "", 0, &err), -1);
    assert_int_equal(as_add_rom_alias(m->as, 0xf0000, 0x4000, 0xfff00000, &err), -1);
    assert_int_equal(as_add_rom_alias(m->as, 0xf0000, 0x1000, 0xffd00000, &err), -1);
    /* a ROM hides RAM */
    assert_int_equal(as_add_rom(m->as, 0x200000, 0x1000, "xyz", 3, &err), 0);
    assert_int_equal(read8(m->as, 0x200001), 'y');
    write8(m->as, 0x200001, 0);
    assert_int_equal(m->ram[0x200001], 0);
    assert_int_equal(read8(m->as, 0x200001), 'y');
    machine_free(m);
}

static void test_a20(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    unsigned changes = m->layout_changes;
    m->ram[0x500] = 1;
    m->ram[0x100500] = 2;
    m->ram[0x300500] = 3;
    m->ram[0x200500] = 4;
    assert_true(as_a20(m->as));
    as_set_a20(m->as, true);
    assert_int_equal(m->layout_changes, changes);
    as_set_a20(m->as, false);
    assert_int_equal(m->layout_changes, changes + 1);
    assert_false(as_a20(m->as));
    assert_int_equal(read8(m->as, 0x100500), 1);
    assert_int_equal(read8(m->as, 0x300500), 4);
    assert_int_equal(as_lookup(m->as, 0x100000).page, 0);
    /* from FFFFF on, the next byte is at 0 */
    uint8_t pair[2] = {9, 9};
    m->ram[0] = 0x66;
    as_read(m->as, 0xfffff, pair, 2);
    assert_int_equal(pair[0], 0xff);
    assert_int_equal(pair[1], 0x66);
    as_set_a20(m->as, true);
    assert_int_equal(read8(m->as, 0x100500), 2);
    machine_free(m);
}

static void test_device_ram(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    struct vd_error err;
    uint8_t *host = NULL;
    assert_int_equal(posix_memalign((void **)&host, 4096, 0x10000), 0);
    memset(host, 0, 0x10000);
    uint64_t pages = as_page_count(m->as);
    /* a small window first, the whole memory later: one number per host page */
    struct io_region *window = as_map_device_ram(m->as, 0xa0000, 0x2000, host + 0x4000, "w", &err);
    struct io_region *all = as_map_device_ram(m->as, 0xe0000000, 0x10000, host, "fb", &err);
    assert_non_null(window);
    assert_non_null(all);
    assert_int_equal(as_page_count(m->as), pages + 16);
    for (uint64_t i = 0; i < 16; i++) {
        struct as_page p = as_lookup(m->as, 0xe0000000 + i * 4096 + 5);
        assert_int_equal(p.kind, AS_RAM);
        assert_ptr_equal(p.read, host + i * 4096);
        assert_ptr_equal(p.write, p.read);
        assert_ptr_equal(as_page_host(m->as, (uint64_t)p.page), p.read);
        assert_int_equal(p.page, p.write_page);
    }
    assert_int_equal(as_lookup(m->as, 0xa1000).page, as_lookup(m->as, 0xe0005000).page);
    write8(m->as, 0xa1003, 0x77);
    assert_int_equal(host[0x5003], 0x77);
    assert_true(as_page_flags(m->as)[as_lookup(m->as, 0xe0005000).page] & RAM_PAGE_DIRTY);
    assert_false(as_page_flags(m->as)[as_lookup(m->as, 0xe0006000).page] & RAM_PAGE_DIRTY);
    /* moved elsewhere: same numbers */
    int64_t number = as_lookup(m->as, 0xe0005000).page;
    as_unmap(m->as, all);
    assert_int_equal(as_lookup(m->as, 0xe0005000).kind, AS_UNMAPPED);
    all = as_map_device_ram(m->as, 0xd0000000, 0x10000, host, "fb", &err);
    assert_int_equal(as_lookup(m->as, 0xd0005000).page, number);
    assert_int_equal(as_page_count(m->as), pages + 16);
    /* errors */
    assert_null(as_map_device_ram(m->as, 0xd0008000, 0x1000, host, "fb2", &err));
    assert_null(as_map_device_ram(m->as, 0xd0100000, 0x1000, host + 1, "odd", &err));
    assert_null(as_map_device_ram(m->as, 0xd0100010, 0x1000, host, "odd", &err));
    assert_null(as_map_device_ram(m->as, 0xd0100000, 0x800, host, "odd", &err));
    /* registers above device memory */
    assert_non_null(as_map_mmio(m->as, 0xd0001000, 0x10, &ops, NULL, "regs", &err));
    assert_int_equal(as_lookup(m->as, 0xd0001000).kind, AS_MMIO);
    assert_int_equal(read8(m->as, 0xd000100f), 0x5a);
    host[0x1010] = 0x31;
    assert_int_equal(read8(m->as, 0xd0001010), 0x31);
    machine_free(m);
    free(host);
}

static void test_map_errors(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    struct vd_error err;
    struct io_region *a = as_map_mmio(m->as, 0xf0000000, 0x1000, &ops, NULL, "first", &err);
    assert_non_null(a);
    assert_null(as_map_mmio(m->as, 0xf0000fff, 1, &ops, NULL, "second", &err));
    assert_non_null(strstr(err.text, "second"));
    assert_non_null(strstr(err.text, "first"));
    assert_null(as_map_mmio(m->as, 0xefffffff, 2, &ops, NULL, "x", &err));
    assert_null(as_map_mmio(m->as, 0xf0000000, 0, &ops, NULL, "x", &err));
    assert_null(as_map_mmio(m->as, ~0ULL - 10, 100, &ops, NULL, "x", &err));
    struct io_ops wrong = ops;
    wrong.max_size = 3;
    assert_null(as_map_mmio(m->as, 0xf1000000, 0x1000, &wrong, NULL, "x", &err));
    wrong.min_size = 8, wrong.max_size = 4;
    assert_null(as_map_mmio(m->as, 0xf1000000, 0x1000, &wrong, NULL, "x", &err));
    assert_non_null(as_map_mmio(m->as, 0xf0001000, 1, &ops, NULL, "next", &err));
    as_unmap(m->as, a);
    as_unmap(m->as, NULL);
    assert_non_null(as_map_mmio(m->as, 0xf0000000, 0x1000, &ops, NULL, "again", &err));
    assert_null(as_map_pio(m->as, 0x100, 0, &ops, NULL, "x", &err));
    assert_null(as_map_pio(m->as, 0xffff, 2, &ops, NULL, "x", &err));
    assert_non_null(as_map_pio(m->as, 0xffff, 1, &ops, NULL, "last", &err));
    assert_null(as_map_pio(m->as, 0xfff0, 16, &ops, NULL, "x", &err));
    machine_free(m);
}

static void test_traced_write(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    uint8_t *flags = as_page_flags(m->as), data[5000];
    memset(data, 0xee, sizeof(data));
    m->ram[0x201ff0] = 0x33;
    flags[0x201] = RAM_PAGE_CODE;
    as_write(m->as, 0x201ff0, data, 8);
    assert_int_equal(m->traced.count, 1);
    assert_int_equal(m->traced.page, 0x201);
    assert_int_equal(m->traced.offset, 0xff0);
    assert_int_equal(m->traced.size, 8);
    assert_int_equal(m->traced.before, 0x33); /* reported before the bytes change */
    assert_int_equal(m->ram[0x201ff0], 0xee);
    assert_int_equal(flags[0x201], RAM_PAGE_CODE | RAM_PAGE_DIRTY);
    /* a long write reports only the part in the traced page */
    flags[0x204] = RAM_PAGE_TABLE;
    as_write(m->as, 0x203800, data, 5000);
    assert_int_equal(m->traced.count, 2);
    assert_int_equal(m->traced.page, 0x204);
    assert_int_equal(m->traced.offset, 0);
    assert_int_equal(m->traced.size, 5000 - 0x800);
    assert_int_equal(flags[0x203], RAM_PAGE_DIRTY);
    assert_int_equal(flags[0x205], 0);
    as_read(m->as, 0x201ff0, data, 8);
    as_write(m->as, 0x206000, data, 8);
    assert_int_equal(m->traced.count, 2);
    /* updates that bypass as_write */
    as_report_write(m->as, 0x204, 8, 8);
    assert_int_equal(m->traced.count, 3);
    as_report_write(m->as, 0x207, 8, 8);
    assert_int_equal(m->traced.count, 3);
    assert_int_equal(flags[0x207], RAM_PAGE_DIRTY);
    machine_free(m);
}

/* The priority rule of as_lookup, address by address, against random layouts. */
struct source {
    uint64_t start, size;
    uint8_t *host;
    struct io_region *region;
};

static void test_random_layout(void **state)
{
    (void)state;
    struct random r = random_new("layout");
    struct machine *m = machine_new();
    struct vd_error err;
    uint8_t *host = NULL;
    assert_int_equal(posix_memalign((void **)&host, 4096, 0x40000), 0);
    struct source mmio[8] = {{0}}, device[4] = {{0}}, rom[3] = {{0}};
    uint8_t pam[16] = {0};
    for (unsigned i = 0; i < 3; i++) {
        rom[i].start = 0xc0000 + 0x18000 * i;
        rom[i].size = 0x4000 + 0x1000 * random_below(&r, 16);
        assert_int_equal(as_add_rom(m->as, rom[i].start, rom[i].size, "", 0, &err), 0);
        rom[i].host = as_page_host(m->as, as_page_count(m->as) - rom[i].size / 4096);
    }
    for (unsigned round = 0; round < 400; round++) {
        struct source *s =
            random_next(&r) & 1 << 20 ? &mmio[random_below(&r, 8)] : &device[random_below(&r, 4)];
        bool is_mmio = s >= mmio && s < mmio + 8;
        unsigned unit = (unsigned)random_below(&r, 16);
        if (s->region) {
            as_unmap(m->as, s->region);
            s->region = NULL;
        } else if (is_mmio) {
            s->start = 0x90000 + random_below(&r, 0x80000);
            if (random_next(&r) & 1 << 9)
                s->start &= ~0xfffULL;
            s->size = 1 + random_below(&r, 0x6000);
            s->region = as_map_mmio(m->as, s->start, s->size, &ops, NULL, "r", &err);
        } else {
            s->start = 0x90000 + 4096 * random_below(&r, 0x80);
            s->size = 4096 * (1 + random_below(&r, 0x20));
            s->host = host + 4096 * random_below(&r, 0x20);
            s->region = as_map_device_ram(m->as, s->start, s->size, s->host, "d", &err);
        }
        pam[unit] = (uint8_t)random_below(&r, 4);
        as_set_pam(m->as, 0xc0000 + unit * 0x4000, 0x4000, pam[unit] & 1, pam[unit] & 2);

        for (uint64_t gpa = 0x8f000; gpa < 0x118000; gpa += 0x1000) {
            uint8_t *read = NULL, *write = NULL;
            if (gpa < 0xa0000 || gpa >= 0x100000)
                read = write = m->ram + gpa;
            for (unsigned i = 0; i < 3; i++)
                if (gpa >= rom[i].start && gpa < rom[i].start + rom[i].size)
                    read = rom[i].host + (gpa - rom[i].start), write = NULL;
            if (gpa >= 0xc0000 && gpa < 0x100000) {
                unsigned p = pam[(gpa - 0xc0000) / 0x4000];
                if (p & 1)
                    read = m->ram + gpa;
                if (p & 2)
                    write = m->ram + gpa;
            }
            for (unsigned i = 0; i < 4; i++)
                if (device[i].region && gpa >= device[i].start &&
                    gpa < device[i].start + device[i].size)
                    read = write = device[i].host + (gpa - device[i].start);
            bool registers = false;
            for (unsigned i = 0; i < 8; i++)
                if (mmio[i].region && gpa + 4095 >= mmio[i].start &&
                    gpa < mmio[i].start + mmio[i].size)
                    registers = true;
            struct as_page page = as_lookup(m->as, gpa + random_below(&r, 4096));
            assert_int_equal(page.kind == AS_MMIO, registers);
            assert_ptr_equal(page.read, registers ? NULL : read);
            assert_ptr_equal(page.write, registers ? NULL : write);
            assert_int_equal(page.page >= 0, page.read != NULL);
            assert_int_equal(page.write_page >= 0, page.write != NULL);
            if (page.read)
                assert_ptr_equal(as_page_host(m->as, (uint64_t)page.page), page.read);
            if (page.write)
                assert_ptr_equal(as_page_host(m->as, (uint64_t)page.write_page), page.write);
        }
    }
    machine_free(m);
    free(host);
}

/* Who was the listener before and still is has missed nothing; another one's place stays its own.
 */
static void test_listener_change(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    struct machine other = {.as = m->as};
    struct as_listener first = {.ctx = m, .traced_write = machine_traced};
    struct as_listener second = {.ctx = &other, .traced_write = machine_traced};
    as_page_flags(m->as)[0x201] |= RAM_PAGE_CODE;
    assert_true(as_set_listener(m->as, &first));
    assert_false(as_set_listener(m->as, &second));
    as_write(m->as, 0x201000, "a", 1);
    assert_int_equal(m->traced.count, 0);
    assert_int_equal(other.traced.count, 1);
    assert_false(as_set_listener(m->as, &first));
    as_clear_listener(m->as, &other);
    as_write(m->as, 0x201000, "b", 1);
    assert_int_equal(m->traced.count, 1);
    as_clear_listener(m->as, m);
    as_write(m->as, 0x201000, "c", 1);
    assert_int_equal(m->traced.count, 1);
    assert_false(as_set_listener(m->as, &first));
    machine_free(m);
}

/* Lookups take no lock: they see the layout before or after a change, nothing in between. */
struct toggler {
    struct address_space *as;
    int stop;
};

static void *toggle(void *arg)
{
    struct toggler *t = arg;
    for (bool on = true; !__atomic_load_n(&t->stop, __ATOMIC_RELAXED); on = !on)
        as_set_pam(t->as, 0xc0000, 0x40000, on, on);
    return NULL;
}

static void test_concurrent_lookup(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    struct toggler t = {m->as, 0};
    pthread_t thread;
    as_set_listener(m->as, NULL);
    assert_int_equal(pthread_create(&thread, NULL, toggle, &t), 0);
    unsigned mapped = 0, unmapped = 0, wrong = 0;
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        for (unsigned i = 0; i < 1000; i++) {
            struct as_page p = as_lookup(m->as, 0xd8000), q = as_lookup(m->as, 0x300000);
            if (p.read == m->ram + 0xd8000 && p.write == p.read && p.page == 0xd8)
                mapped++;
            else if (!p.read && !p.write && p.page == -1)
                unmapped++;
            else
                wrong++;
            wrong += q.read != m->ram + 0x300000;
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 < 200);
    __atomic_store_n(&t.stop, 1, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    assert_int_equal(wrong, 0);
    assert_true(mapped > 0);
    assert_true(unmapped > 0);
    machine_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create),
        cmocka_unit_test(test_split_ram),
        cmocka_unit_test(test_legacy_hole_and_pam),
        cmocka_unit_test(test_rom_errors_and_padding),
        cmocka_unit_test(test_a20),
        cmocka_unit_test(test_device_ram),
        cmocka_unit_test(test_map_errors),
        cmocka_unit_test(test_traced_write),
        cmocka_unit_test(test_listener_change),
        cmocka_unit_test(test_random_layout),
        cmocka_unit_test(test_concurrent_lookup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
