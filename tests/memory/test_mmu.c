/* The soft TLB: what may enter it, what must leave it, and accesses through it. */
#include "fixture.h"

enum { P = 1, W = 2, U = 4, A = 32, D = 64, PS = 128, G = 256 };
enum { DIRECTORY = 0x200000, TABLE = 0x201000 }; /* of 32-bit paging */

/* The test that translated code makes (mmu.h). */
static bool hits(const struct machine *m, unsigned side, uint64_t linear, unsigned size, bool write)
{
    const struct tlb_entry *e = &m->mmu.tlb[side][(linear >> 12) & TLB_MASK];
    return linear - (write ? e->write_tag : e->read_tag) <= 4096 - size;
}

static uint8_t *host_of(const struct machine *m, unsigned side, uint64_t linear)
{
    const struct tlb_entry *e = &m->mmu.tlb[side][(linear >> 12) & TLB_MASK];
    return (uint8_t *)(uintptr_t)e->host + (linear - e->read_tag);
}

static bool exec_cached(const struct machine *m, unsigned side, uint64_t linear)
{
    return linear - m->mmu.exec[side][(linear >> 12) & TLB_MASK].tag < 4096;
}

static void paging_32(struct machine *m)
{
    m->cpu.cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_WP;
    m->cpu.cr4 = X86_CR4_PSE | X86_CR4_PGE;
    m->cpu.cr3 = DIRECTORY;
    poke32(m, DIRECTORY, TABLE | P | W | U);
}

static void map(struct machine *m, unsigned page, uint32_t pte)
{
    poke32(m, TABLE + 4 * page, pte);
}

static enum mmu_fill fill(struct machine *m, uint64_t linear, unsigned size, unsigned access)
{
    uint8_t *host = NULL;
    enum mmu_fill result = mmu_fill(&m->cpu, linear, size, access, &host);
    if (result == MMU_DIRECT) {
        assert_true(hits(m, access & MMU_USER ? 1 : 0, linear, size, access & MMU_WRITE));
        assert_ptr_equal(host_of(m, access & MMU_USER ? 1 : 0, linear), host);
    }
    return result;
}

static void test_empty(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    /* an invalid tag never matches, not even for the first entry or at the ends of the space */
    static const uint64_t places[] = {0,          0xfff,      0x1000,     0x400000,  0x3ff000,
                                      0xfffff000, 0xffffffff, ~0ULL - 15, 1ULL << 47};
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned side = 0; side < 2; side++) {
            for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
                assert_false(hits(m, side, places[i], 1, false));
                assert_false(hits(m, side, places[i], 1, true));
            }
            for (uint64_t page = 0; page < TLB_SIZE; page++)
                assert_false(hits(m, side, page << 12, 1, false));
        }
        for (uint64_t page = 0; page < TLB_SIZE; page++)
            assert_int_equal(fill(m, (page + TLB_SIZE) << 12, 4, MMU_WRITE), MMU_DIRECT);
        mmu_flush_all(&m->cpu);
    }
    machine_free(m);
}

static void test_write_tag_needs_dirty(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    uint8_t *flags = as_page_flags(m->as);
    paging_32(m);
    map(m, 5, 0x300000 | P | W);
    assert_int_equal(fill(m, 0x5010, 4, MMU_READ), MMU_DIRECT);
    assert_true(hits(m, 0, 0x5ffc, 4, false));
    assert_false(hits(m, 0, 0x5ffd, 4, false)); /* crosses */
    assert_false(hits(m, 0, 0x5010, 4, true));
    assert_false(hits(m, 1, 0x5010, 4, false));
    assert_int_equal(peek(m, TABLE + 20, 4), 0x300000 | P | W | A);
    assert_int_equal(flags[0x300] & RAM_PAGE_DIRTY, 0);
    assert_int_equal(fill(m, 0x5010, 4, MMU_WRITE), MMU_DIRECT);
    assert_int_equal(peek(m, TABLE + 20, 4), 0x300000 | P | W | A | D);
    assert_true(flags[0x300] & RAM_PAGE_DIRTY);
    /* D set already: a read is enough */
    mmu_flush_all(&m->cpu);
    assert_int_equal(fill(m, 0x5010, 4, MMU_READ), MMU_DIRECT);
    assert_true(hits(m, 0, 0x5010, 4, true));
    /* but not if that made the page dirty in the log though nobody writes */
    mmu_flush_all(&m->cpu);
    flags[0x300] = 0;
    assert_int_equal(fill(m, 0x5010, 4, MMU_READ), MMU_DIRECT);
    assert_false(hits(m, 0, 0x5010, 4, true));
    assert_int_equal(flags[0x300], 0);
    /* dirty in the log but not in the page table: the guest must see its first write */
    flags[0x300] = RAM_PAGE_DIRTY;
    map(m, 5, 0x300000 | P | W);
    mmu_flush_all(&m->cpu);
    assert_int_equal(fill(m, 0x5010, 4, MMU_READ), MMU_DIRECT);
    assert_false(hits(m, 0, 0x5010, 4, true));
    assert_int_equal(peek(m, TABLE + 20, 4), 0x300000 | P | W | A);
    machine_free(m);
}

static void test_host_address_back_to_linear(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    uint64_t linear = 0;
    paging_32(m);
    map(m, 5, 0x300000 | P | W | U);
    map(m, 9, 0x300000 | P | W | U); /* the same memory */
    assert_int_equal(fill(m, 0x5000, 4, MMU_READ), MMU_DIRECT);
    uint64_t host = (uint64_t)(uintptr_t)host_of(m, 0, 0x5123);
    /* Guesses are right or wrong, whatever the TLB knows. */
    assert_true(mmu_find_host(&m->cpu, host, UINT64_MAX, MMU_USER, 0x9123, &linear));
    assert_true(linear == 0x9123);
    assert_false(mmu_find_host(&m->cpu, host, UINT64_MAX, MMU_USER, 0x9124, &linear));
    assert_false(mmu_find_host(&m->cpu, host, UINT64_MAX, MMU_USER, 0x8123, &linear));
    /* The TLB of the same privilege knows. */
    assert_true(mmu_find_host(&m->cpu, host, UINT64_MAX, 0, 0, &linear));
    assert_true(linear == 0x5123);
    assert_true(mmu_find_host(&m->cpu, (uint32_t)host, UINT32_MAX, 0, 0, &linear));
    assert_true(linear == 0x5123);
    assert_false(mmu_find_host(&m->cpu, host ^ 1ull << 40, UINT64_MAX, 0, 0, &linear));
    assert_false(mmu_find_host(&m->cpu, host + 4096, UINT64_MAX, 0, 0, &linear));
    assert_false(mmu_find_host(&m->cpu, 0, UINT64_MAX, 0, 0, &linear));
    mmu_flush_all(&m->cpu);
    assert_false(mmu_find_host(&m->cpu, host, UINT64_MAX, 0, 0, &linear));
    machine_free(m);
}

static void test_privilege_and_wp(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    paging_32(m);
    m->cpu.cpl = 3;
    map(m, 1, 0x301000 | P | U | D); /* read-only for the user */
    map(m, 2, 0x302000 | P | W | D); /* supervisor's */
    as_page_flags(m->as)[0x301] = as_page_flags(m->as)[0x302] = RAM_PAGE_DIRTY;
    assert_int_equal(fill(m, 0x1000, 1, MMU_USER), MMU_DIRECT);
    assert_false(hits(m, 1, 0x1000, 1, true));
    assert_int_equal(fill(m, 0x1000, 1, MMU_USER | MMU_WRITE), MMU_FAULT);
    assert_int_equal(m->cpu.fault.error, 7);
    assert_int_equal(fill(m, 0x2000, 1, MMU_USER), MMU_FAULT);
    assert_int_equal(m->cpu.fault.error, 5);
    assert_int_equal(fill(m, 0x2000, 1, MMU_READ), MMU_DIRECT); /* implicit supervisor access */
    assert_true(hits(m, 0, 0x2000, 1, true));
    assert_false(hits(m, 1, 0x2000, 1, false));
    m->cpu.cpl = 0;
    assert_int_equal(fill(m, 0x1000, 1, MMU_READ), MMU_DIRECT);
    assert_false(hits(m, 0, 0x1000, 1, true));
    assert_int_equal(fill(m, 0x1000, 1, MMU_WRITE), MMU_FAULT);
    assert_int_equal(m->cpu.fault.error, 3);
    /* CR0.WP clear: the supervisor may, the user still may not */
    m->cpu.cr0 &= ~(uint64_t)X86_CR0_WP;
    mmu_flush_all(&m->cpu);
    assert_int_equal(fill(m, 0x1000, 1, MMU_READ), MMU_DIRECT);
    assert_true(hits(m, 0, 0x1000, 1, true));
    assert_int_equal(fill(m, 0x1000, 1, MMU_USER), MMU_DIRECT);
    assert_false(hits(m, 1, 0x1000, 1, true));
    machine_free(m);
}

static void test_smap_stays_out(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    uint32_t v = 0;
    paging_32(m);
    m->cpu.cr4 |= X86_CR4_SMAP;
    map(m, 1, 0x301000 | P | W | U);
    poke32(m, 0x301000, 0x12345678);
    assert_int_equal(fill(m, 0x1000, 4, MMU_READ), MMU_FAULT);
    m->cpu.sflags |= X86_AC_FLAG;
    assert_int_equal(fill(m, 0x1000, 4, MMU_READ), MMU_INDIRECT);
    assert_int_equal(mmu_read(&m->cpu, 0x1000, &v, 4, 0), 0);
    assert_int_equal(v, 0x12345678);
    m->cpu.sflags &= ~(uint32_t)X86_AC_FLAG; /* takes effect without any flush */
    assert_int_equal(mmu_read(&m->cpu, 0x1000, &v, 4, 0), -1);
    assert_int_equal(fill(m, 0x1000, 4, MMU_USER | MMU_WRITE), MMU_DIRECT);
    machine_free(m);
}

static uint64_t device_read(void *ctx, uint64_t offset, unsigned size)
{
    uint64_t *log = ctx;
    log[0]++;
    log[1] = offset;
    log[2] = size;
    return 0x8877665544332211ULL;
}

static void device_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    uint64_t *log = ctx;
    log[0]++;
    log[1] = offset;
    log[2] = size;
    log[3] = value;
}

static void test_pages_that_stay_out(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    struct vd_error err;
    uint64_t log[4] = {0}, v = 0;
    struct io_ops ops = {device_read, device_write, 1, 8};
    paging_32(m);
    assert_non_null(as_map_mmio(m->as, 0xf0000000, 0x1000, &ops, log, "d", &err));
    assert_int_equal(as_add_rom(m->as, 0xfffff000, 0x1000, "rom", 3, &err), 0);
    map(m, 1, 0xf0000000 | P | W | U);
    map(m, 2, 0xfffff000 | P | W | U);
    map(m, 3, 0x303000 | P | W | U);
    map(m, 4, 0x80000000 | P | W | U);
    /* MMIO: neither; sizes arrive as they are */
    assert_int_equal(fill(m, 0x1000, 4, MMU_READ), MMU_INDIRECT);
    assert_int_equal(fill(m, 0x1000, 4, MMU_WRITE), MMU_INDIRECT);
    assert_false(hits(m, 0, 0x1000, 4, false));
    assert_int_equal(log[0], 0);
    for (unsigned size = 1; size <= 8; size *= 2) {
        log[0] = v = 0;
        assert_int_equal(mmu_read(&m->cpu, 0x1040, &v, size, MMU_USER), 0);
        assert_int_equal(log[0], 1);
        assert_int_equal(log[1], 0x40);
        assert_int_equal(log[2], size);
        assert_int_equal(v, 0x8877665544332211ULL & (~0ULL >> (64 - 8 * size)));
        log[0] = 0;
        assert_int_equal(mmu_write(&m->cpu, 0x1048, &v, size, MMU_USER), 0);
        assert_int_equal(log[0], 1);
        assert_int_equal(log[2], size);
        assert_int_equal(log[3], v);
    }
    /* ROM: read only */
    assert_int_equal(fill(m, 0x2000, 4, MMU_WRITE), MMU_INDIRECT);
    assert_true(hits(m, 0, 0x2000, 4, false));
    assert_false(hits(m, 0, 0x2000, 4, true));
    assert_int_equal(mmu_write(&m->cpu, 0x2000, "XYZ", 3, 0), 0);
    assert_int_equal(mmu_read(&m->cpu, 0x2000, &v, 1, 0), 0);
    assert_int_equal((uint8_t)v, 'r');
    /* nothing there */
    assert_int_equal(fill(m, 0x4000, 4, MMU_READ), MMU_INDIRECT);
    assert_int_equal(mmu_write(&m->cpu, 0x4000, "XYZ", 3, 0), 0);
    assert_int_equal(mmu_read(&m->cpu, 0x4000, &v, 8, 0), 0);
    assert_true(v == ~0ULL);
    /* traced: read only, writes are reported before they happen */
    for (unsigned kind = RAM_PAGE_CODE; kind <= RAM_PAGE_TABLE; kind *= 2) {
        as_page_flags(m->as)[0x303] = (uint8_t)kind;
        mmu_flush_all(&m->cpu);
        m->traced.count = 0;
        m->ram[0x303008] = 0x11;
        assert_int_equal(fill(m, 0x3000, 4, MMU_WRITE), MMU_INDIRECT);
        assert_true(hits(m, 0, 0x3000, 4, false));
        assert_false(hits(m, 0, 0x3000, 4, true));
        assert_int_equal(mmu_write(&m->cpu, 0x3008, "\x22\x33", 2, 0), 0);
        assert_int_equal(m->traced.count, 1);
        assert_int_equal(m->traced.page, 0x303);
        assert_int_equal(m->traced.offset, 8);
        assert_int_equal(m->traced.size, 2);
        assert_int_equal(m->traced.before, 0x11);
        assert_int_equal(m->ram[0x303009], 0x33);
    }
    machine_free(m);
}

static void test_pam_split_page(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    struct vd_error err;
    uint8_t v = 0;
    assert_int_equal(as_add_rom(m->as, 0xf0000, 0x10000, "R", 1, &err), 0);
    as_set_pam(m->as, 0xf0000, 0x10000, false, true);
    assert_int_equal(fill(m, 0xf0000, 1, MMU_READ), MMU_DIRECT);
    assert_int_equal(fill(m, 0xf0000, 1, MMU_WRITE), MMU_INDIRECT);
    assert_int_equal(mmu_write(&m->cpu, 0xf0000, "W", 1, 0), 0);
    assert_int_equal(mmu_read(&m->cpu, 0xf0000, &v, 1, 0), 0);
    assert_int_equal(v, 'R');
    assert_int_equal(m->ram[0xf0000], 'W');
    machine_free(m);
}

static void test_watchpoints(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    struct x86_cpu *cpu = &m->cpu;
    static const struct {
        unsigned control; /* LEN << 2 | R/W */
        bool watched;
    } kinds[] = {{0, false}, {1, true}, {2, false}, {3, true}, {13, true}};
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned k = 0; k < 5; k++) {
            for (unsigned global = 0; global < 2; global++) {
                cpu->dr[7] = 0x400 | 1ULL << (2 * i + global);
                cpu->dr[7] |= (uint64_t)kinds[k].control << (16 + 4 * i);
                cpu->dr[i] = 0x5ffc;
                mmu_flush_all(cpu);
                bool watched = kinds[k].watched;
                assert_int_equal(fill(m, 0x5000, 4, MMU_READ), watched ? MMU_INDIRECT : MMU_DIRECT);
                assert_int_equal(fill(m, 0x5000, 4, MMU_WRITE),
                                 watched ? MMU_INDIRECT : MMU_DIRECT);
                assert_int_equal(hits(m, 0, 0x5000, 4, false), !watched);
                assert_int_equal(fill(m, 0x6000, 4, MMU_WRITE), MMU_DIRECT);
                assert_int_equal(fill(m, 0x4000, 4, MMU_WRITE), MMU_DIRECT);
                cpu->dr[i] = 0;
            }
        }
    }
    /* off, but with address and length still there */
    cpu->dr[0] = 0x5000;
    cpu->dr[7] = 0x400 | 0xfULL << 16;
    mmu_flush_all(cpu);
    assert_int_equal(fill(m, 0x5000, 4, MMU_WRITE), MMU_DIRECT);
    /* which ones are hit (17.2.5): the address is rounded down to the length */
    cpu->dr[0] = 0x1003;
    cpu->dr[1] = 0x1008;
    cpu->dr[2] = 0x100f;
    cpu->dr[3] = 0x2000;
    cpu->dr[7] = 0xff | 0xdULL << 16 | 3ULL << 20 | 0xbULL << 24 | 7ULL << 28;
    assert_int_equal(mmu_watch_hits(cpu, 0x1000, 1, true), 1);
    assert_int_equal(mmu_watch_hits(cpu, 0x1000, 1, false), 0); /* writes only */
    assert_int_equal(mmu_watch_hits(cpu, 0x1004, 4, true), 0);
    assert_int_equal(mmu_watch_hits(cpu, 0x1008, 1, false), 2 | 4);
    assert_int_equal(mmu_watch_hits(cpu, 0x1009, 1, false), 4);
    assert_int_equal(mmu_watch_hits(cpu, 0x0ff0, 0x100, true), 7);
    assert_int_equal(mmu_watch_hits(cpu, 0x1fff, 1, true), 0);
    assert_int_equal(mmu_watch_hits(cpu, 0x1fff, 2, true), 8);
    assert_int_equal(mmu_watch_hits(cpu, 0x2001, 1, false), 8);
    assert_int_equal(mmu_watch_hits(cpu, 0x2002, 1, true), 0);
    machine_free(m);
}

static void test_global_pages(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    paging_32(m);
    map(m, 0, 0x300000 | P | W | G);
    map(m, 1, 0x301000 | P | W);
    for (unsigned i = 0; i < 2; i++) {
        uint64_t gpa;
        assert_int_equal(fill(m, i << 12, 4, MMU_WRITE), MMU_DIRECT);
        assert_int_equal(mmu_translate(&m->cpu, i << 12, MMU_EXEC, &gpa), 0);
    }
    unsigned flushes = m->flushes;
    mmu_flush_nonglobal(&m->cpu);
    assert_int_equal(m->flushes, flushes + 1);
    assert_true(hits(m, 0, 0, 4, false));
    assert_true(hits(m, 0, 0, 4, true));
    assert_true(exec_cached(m, 0, 0));
    assert_false(hits(m, 0, 0x1000, 4, false));
    assert_false(hits(m, 0, 0x1000, 4, true));
    assert_false(exec_cached(m, 0, 0x1000));
    /* a flush of one page takes global ones as well */
    mmu_flush_page(&m->cpu, 0x123);
    assert_int_equal(m->flushes, flushes + 2);
    assert_false(hits(m, 0, 0, 4, false));
    assert_false(exec_cached(m, 0, 0));
    assert_int_equal(fill(m, 0, 4, MMU_WRITE), MMU_DIRECT);
    mmu_flush_all(&m->cpu);
    assert_int_equal(m->flushes, flushes + 3);
    assert_false(hits(m, 0, 0, 4, false));
    /* without CR4.PGE the bit means nothing */
    m->cpu.cr4 &= ~(uint64_t)X86_CR4_PGE;
    assert_int_equal(fill(m, 0, 4, MMU_WRITE), MMU_DIRECT);
    mmu_flush_nonglobal(&m->cpu);
    assert_false(hits(m, 0, 0, 4, false));
    assert_true(m->mmu.stats.flushes >= 4);
    /* an entry that was global is replaced by one that is not */
    m->cpu.cr4 |= X86_CR4_PGE;
    poke32(m, DIRECTORY + 4, 0x202000 | P | W);
    poke32(m, 0x202000, 0x305000 | P | W); /* linear 400000H: the same entry as 0 */
    assert_int_equal(fill(m, 0, 4, MMU_WRITE), MMU_DIRECT);
    assert_int_equal(fill(m, 0x400000, 4, MMU_WRITE), MMU_DIRECT);
    mmu_flush_nonglobal(&m->cpu);
    assert_false(hits(m, 0, 0x400000, 4, false));
    machine_free(m);
}

/* INVLPG anywhere in a large page drops everything that was cut out of it, and nothing else. */
static void test_flush_page_in_large_page(void **state)
{
    (void)state;
    static const unsigned shifts[] = {21, 22, 30};
    for (unsigned n = 0; n < 3; n++) {
        for (unsigned global = 0; global < 2; global++) {
            struct machine *m = machine_new();
            unsigned shift = shifts[n];
            uint64_t base = 1ULL << 30, size = 1ULL << shift, gpa;
            uint32_t g = global ? G : 0;
            paging_32(m);
            if (shift == 22) {
                poke32(m, DIRECTORY + 4 * (1 << 8), 0 | PS | P | W | g);
                poke32(m, DIRECTORY + 4 * (1 << 8 | 1), 0 | PS | P | W | g);
                poke32(m, DIRECTORY, TABLE | P | W);
                map(m, 17, 0x303000 | P | W | g);
            } else {
                m->cpu.cr4 |= X86_CR4_PAE;
                m->cpu.efer = X86_EFER_LMA | X86_EFER_LME;
                poke64(m, DIRECTORY, 0x210000 | P | W);
                poke64(m, 0x210000, 0x211000 | P | W);
                poke64(m, 0x211000, 0x212000 | P | W);
                poke64(m, 0x212000 + 8 * 17, 0x303000 | P | W | g);
                poke64(m, 0x210000 + 8, shift == 30 ? 0 | PS | P | W | g : 0x213000 | P | W);
                poke64(m, 0x210000 + 16, 0 | PS | P | W | g);
                poke64(m, 0x213000, 0 | PS | P | W | g);
                poke64(m, 0x213000 + 8, 0 | PS | P | W | g);
            }
            /* all over the page, the neighbour, and a small page */
            for (unsigned i = 0; i < 8; i++) {
                assert_int_equal(fill(m, base + i * 0x3000, 4, MMU_WRITE), MMU_DIRECT);
                assert_int_equal(mmu_translate(&m->cpu, base + i * 0x5000, MMU_EXEC, &gpa), 0);
            }
            assert_int_equal(fill(m, base + 0x1ff000, 4, MMU_USER | MMU_READ), MMU_FAULT);
            assert_int_equal(fill(m, base + size + 0x100000, 4, MMU_WRITE), MMU_DIRECT);
            /* not the TLB entry of any address used above */
            assert_int_equal(fill(m, 0x11000, 4, MMU_WRITE), MMU_DIRECT);
            /* at an address that was never used */
            mmu_flush_page(&m->cpu, base + size - 0x1000);
            for (unsigned i = 0; i < 8; i++) {
                assert_false(hits(m, 0, base + i * 0x3000, 4, false));
                assert_false(hits(m, 0, base + i * 0x3000, 4, true));
                assert_false(exec_cached(m, 0, base + i * 0x5000));
            }
            assert_true(hits(m, 0, base + size + 0x100000, 4, true));
            assert_true(hits(m, 0, 0x11000, 4, true));
            /* after a CR3 load nothing is remembered but global pages */
            assert_int_equal(fill(m, base + 0x7000, 4, MMU_WRITE), MMU_DIRECT);
            mmu_flush_nonglobal(&m->cpu);
            assert_int_equal(hits(m, 0, base + 0x7000, 4, false), global);
            mmu_flush_page(&m->cpu, base + size / 2);
            assert_false(hits(m, 0, base + 0x7000, 4, false));
            machine_free(m);
        }
    }
}

static void test_write_protect(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    paging_32(m);
    for (unsigned i = 0; i < 4; i++)
        map(m, i, (i == 3 ? 0x304000 : 0x300000) | P | W | U);
    for (unsigned i = 0; i < 4; i++)
        for (unsigned user = 0; user < 2; user++)
            assert_int_equal(fill(m, i << 12, 4, MMU_WRITE | (user ? MMU_USER : 0)), MMU_DIRECT);
    as_page_flags(m->as)[0x300] |= RAM_PAGE_CODE;
    mmu_write_protect(&m->cpu, as_page_host(m->as, 0x300));
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned user = 0; user < 2; user++) {
            assert_true(hits(m, user, i << 12, 4, false));
            assert_int_equal(hits(m, user, i << 12, 4, true), i == 3);
        }
    }
    assert_int_equal(mmu_write(&m->cpu, 0x1000, "x", 1, 0), 0);
    assert_int_equal(m->traced.count, 1);
    /* also of entries that survived a CR3 load */
    map(m, 4, 0x305000 | P | W | G);
    assert_int_equal(fill(m, 0x4000, 4, MMU_WRITE), MMU_DIRECT);
    mmu_flush_nonglobal(&m->cpu);
    mmu_write_protect(&m->cpu, as_page_host(m->as, 0x305));
    assert_true(hits(m, 0, 0x4000, 4, false));
    assert_false(hits(m, 0, 0x4000, 4, true));
    machine_free(m);
}

/* Who knows which bytes are code may write the others, where nothing else forbids it. */
static void test_traced_pages(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    uint8_t *flags = as_page_flags(m->as);
    uint64_t page = 0;
    paging_32(m);
    map(m, 5, 0x300000 | P | W | U | D);
    map(m, 6, 0x300000 | P | U | D);
    map(m, 7, 0x300000 | P | W | U);
    flags[0x300] = RAM_PAGE_CODE;
    assert_null(mmu_find_traced(&m->cpu, 0x5010, 4, MMU_WRITE, &page)); /* not known yet */
    for (unsigned i = 5; i <= 7; i++)
        assert_int_equal(fill(m, i << 12, 4, 0), MMU_DIRECT);
    assert_ptr_equal(mmu_find_traced(&m->cpu, 0x5ffc, 4, MMU_WRITE, &page),
                     as_page_host(m->as, 0x300) + 0xffc);
    assert_true(page == 0x300);
    assert_null(mmu_find_traced(&m->cpu, 0x5ffd, 4, MMU_WRITE, &page));            /* crosses */
    assert_null(mmu_find_traced(&m->cpu, 0x5010, 4, MMU_WRITE | MMU_USER, &page)); /* not known */
    assert_null(mmu_find_traced(&m->cpu, 0x6010, 4, MMU_WRITE, &page));            /* read-only */
    assert_null(mmu_find_traced(&m->cpu, 0x7010, 4, MMU_WRITE, &page)); /* not dirty yet */
    flags[0x300] = RAM_PAGE_CODE | RAM_PAGE_TABLE;
    assert_null(mmu_find_traced(&m->cpu, 0x5010, 4, MMU_WRITE, &page));
    /* without code the page gets its write tag */
    flags[0x300] = 0;
    assert_null(mmu_find_traced(&m->cpu, 0x5010, 4, MMU_WRITE, &page));
    assert_int_equal(fill(m, 0x5010, 4, MMU_WRITE), MMU_DIRECT);
    /* and loses it when there is some again; the next fill finds out why */
    flags[0x300] |= RAM_PAGE_CODE;
    mmu_write_protect(&m->cpu, as_page_host(m->as, 0x300));
    assert_null(mmu_find_traced(&m->cpu, 0x5010, 4, MMU_WRITE, &page));
    assert_int_equal(fill(m, 0x5010, 4, MMU_WRITE), MMU_INDIRECT);
    assert_non_null(mmu_find_traced(&m->cpu, 0x5010, 4, MMU_WRITE, &page));
    machine_free(m);
}

/* Three pages that share a place in the TLB; the one that was used last has it. */
enum { RIVALS = 3, RIVAL_PAGE = 5 };

static uint64_t rival(unsigned i)
{
    return (uint64_t)i << 22 | RIVAL_PAGE << 12;
}

static struct machine *machine_with_rivals(uint32_t bits)
{
    struct machine *m = machine_new();
    paging_32(m);
    for (unsigned i = 0; i < RIVALS; i++) {
        uint32_t table = TABLE + 0x1000 * i;
        poke32(m, DIRECTORY + 4 * i, table | P | W | U);
        poke32(m, table + 4 * RIVAL_PAGE, (0x300000 + 0x1000 * i) | bits | P | W);
    }
    for (unsigned i = 0; i < RIVALS; i++)
        assert_int_equal(fill(m, rival(i), 4, MMU_WRITE), MMU_DIRECT);
    return m;
}

/* Whether an access comes without a page walk. */
static bool is_known(struct machine *m, unsigned i, unsigned access)
{
    uint64_t walks = m->mmu.stats.walks;
    enum mmu_fill result = fill(m, rival(i) + 0x10, 4, access);
    bool right = result == MMU_DIRECT && host_of(m, 0, rival(i)) == as_page_host(m->as, 0x300 + i);
    return right && m->mmu.stats.walks == walks;
}

static void test_victims_are_found(void **state)
{
    (void)state;
    struct machine *m = machine_with_rivals(0);
    for (unsigned i = 0; i < 4 * RIVALS; i++)
        assert_true(is_known(m, i * i % RIVALS, i & 1 ? MMU_WRITE : 0));
    /* an access that the page does not hold in full is no hit; nor is the other privilege */
    uint8_t *host;
    assert_int_equal(mmu_fill(&m->cpu, rival(0) + 0xffd, 4, 0, &host), MMU_FAULT);
    assert_int_equal(mmu_fill(&m->cpu, rival(1) - 1, 2, 0, &host), MMU_FAULT);
    assert_int_equal(mmu_fill(&m->cpu, rival(0), 4, MMU_USER, &host), MMU_FAULT);
    machine_free(m);
}

static void test_victims_are_flushed(void **state)
{
    (void)state;
    struct machine *m = machine_with_rivals(0);
    mmu_flush_page(&m->cpu, rival(0) + 0x123);
    assert_true(is_known(m, 1, 0));
    assert_true(is_known(m, 2, 0));
    assert_false(is_known(m, 0, 0));
    mmu_flush_nonglobal(&m->cpu);
    for (unsigned i = 0; i < RIVALS; i++)
        assert_false(is_known(m, i, 0));
    mmu_flush_all(&m->cpu);
    for (unsigned i = 0; i < RIVALS; i++)
        assert_false(is_known(m, i, 0));
    machine_free(m);

    m = machine_with_rivals(G);
    mmu_flush_nonglobal(&m->cpu);
    for (unsigned i = 0; i < RIVALS; i++)
        assert_true(is_known(m, i, 0));
    mmu_flush_all(&m->cpu);
    for (unsigned i = 0; i < RIVALS; i++)
        assert_false(is_known(m, i, 0));
    machine_free(m);
}

/* INVLPG anywhere in a large page drops what was cut out of it, wherever that is by now. */
static void test_victims_of_large_pages_are_flushed(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    paging_32(m);
    for (unsigned i = 0; i < RIVALS; i++)
        poke32(m, DIRECTORY + 4 * i, (uint32_t)i << 22 | PS | P | W);
    for (unsigned i = 0; i < RIVALS; i++)
        assert_int_equal(fill(m, rival(i), 4, MMU_WRITE), MMU_DIRECT);
    mmu_flush_page(&m->cpu, 0x3ff000);
    uint64_t walks = m->mmu.stats.walks;
    assert_int_equal(fill(m, rival(1), 4, 0), MMU_DIRECT);
    assert_true(m->mmu.stats.walks == walks);
    assert_int_equal(fill(m, rival(0), 4, 0), MMU_DIRECT);
    assert_true(m->mmu.stats.walks == walks + 1);
    machine_free(m);
}

static void test_victims_are_write_protected(void **state)
{
    (void)state;
    struct machine *m = machine_with_rivals(0);
    as_page_flags(m->as)[0x300] |= RAM_PAGE_CODE;
    mmu_write_protect(&m->cpu, as_page_host(m->as, 0x300));
    assert_int_equal(fill(m, rival(0), 4, MMU_WRITE), MMU_INDIRECT);
    assert_true(is_known(m, 1, MMU_WRITE));
    assert_true(is_known(m, 2, MMU_WRITE));
    assert_true(is_known(m, 0, 0));
    machine_free(m);
}

static void test_exec_cache(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    uint64_t gpa = 0, walks;
    paging_32(m);
    map(m, 7, 0x307000 | P);
    assert_int_equal(mmu_translate(&m->cpu, 0x7123, MMU_EXEC, &gpa), 0);
    walks = m->mmu.stats.walks;
    assert_int_equal(mmu_translate(&m->cpu, 0x7fff, MMU_EXEC, &gpa), 0);
    assert_int_equal(gpa, 0x307fff);
    assert_int_equal(m->mmu.stats.walks, walks);
    assert_int_equal(mmu_translate(&m->cpu, 0x7fff, MMU_EXEC | MMU_USER, &gpa), -1);
    assert_int_equal(m->cpu.fault.error, 5);
    /* fetches do not open the page for data that was never checked */
    assert_false(hits(m, 0, 0x7000, 1, false));
    uint8_t v;
    m->ram[0x307010] = 0x90;
    assert_int_equal(mmu_read(&m->cpu, 0x7010, &v, 1, MMU_EXEC), 0);
    assert_int_equal(v, 0x90);
    machine_free(m);
}

static void test_page_crossing(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    uint8_t data[64], back[64];
    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i + 1);
    paging_32(m);
    map(m, 1, 0x305000 | P | W);
    map(m, 2, 0x302000 | P | W);
    map(m, 3, 0x303000 | P);
    for (unsigned round = 0; round < 2; round++) { /* cold and warm */
        for (unsigned size = 2; size <= 64; size++) {
            uint64_t linear = 0x2000 - size / 2;
            memset(m->ram + 0x302000, 0, 4096);
            memset(m->ram + 0x305000, 0, 4096);
            assert_int_equal(fill(m, linear, size, MMU_WRITE), MMU_INDIRECT);
            assert_int_equal(mmu_write(&m->cpu, linear, data, size, 0), 0);
            assert_memory_equal(m->ram + 0x306000 - size / 2, data, size / 2);
            assert_memory_equal(m->ram + 0x302000, data + size / 2, size - size / 2);
            memset(back, 0, sizeof(back));
            assert_int_equal(mmu_read(&m->cpu, linear, back, size, 0), 0);
            assert_memory_equal(back, data, size);
            assert_int_equal(mmu_probe(&m->cpu, linear, size, MMU_WRITE), 0);
        }
    }
    /* the second page refuses: nothing is written, CR2 is its first byte */
    memset(m->ram + 0x302000, 0xcc, 4096);
    assert_int_equal(mmu_write(&m->cpu, 0x2ffe, data, 4, 0), -1);
    assert_int_equal(m->cpu.fault.error, 3);
    assert_int_equal(m->cpu.fault.cr2, 0x3000);
    assert_int_equal(m->ram[0x302ffe], 0xcc);
    assert_int_equal(fill(m, 0x2ffe, 4, MMU_WRITE), MMU_FAULT);
    assert_int_equal(m->cpu.fault.cr2, 0x3000);
    assert_int_equal(mmu_probe(&m->cpu, 0x2ffe, 4, MMU_WRITE), -1);
    assert_int_equal(fill(m, 0x2ffe, 4, MMU_READ), MMU_INDIRECT);
    /* the first page refuses */
    assert_int_equal(mmu_write(&m->cpu, 0x3fff, data, 2, 0), -1);
    assert_int_equal(m->cpu.fault.cr2, 0x3fff);
    assert_int_equal(mmu_read(&m->cpu, 0x3fff, back, 2, 0), -1);
    assert_int_equal(m->cpu.fault.cr2, 0x4000);
    assert_int_equal(m->cpu.fault.error, 0);
    /* a whole page at once */
    uint8_t *page = malloc(4096);
    memset(page, 0x5a, 4096);
    assert_int_equal(mmu_write(&m->cpu, 0x1800, page, 4096, 0), 0);
    assert_memory_equal(m->ram + 0x302000, page, 0x800);
    assert_memory_equal(m->ram + 0x305800, page, 0x800);
    free(page);
    machine_free(m);
}

static void test_wrap(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    uint8_t bytes[4];
    paging_32(m);
    poke32(m, DIRECTORY + 4 * 1023, 0x202000 | P | W);
    poke32(m, 0x202000 + 4 * 1023, 0x310000 | P | W);
    map(m, 0, 0x311000 | P | W);
    /* outside 64-bit mode the byte behind FFFFFFFFH is at 0 */
    assert_int_equal(mmu_write(&m->cpu, 0xfffffffe, "abcd", 4, 0), 0);
    assert_memory_equal(m->ram + 0x310ffe, "ab", 2);
    assert_memory_equal(m->ram + 0x311000, "cd", 2);
    assert_int_equal(mmu_read(&m->cpu, 0xfffffffe, bytes, 4, 0), 0);
    assert_memory_equal(bytes, "abcd", 4);
    /* system accesses of compatibility mode use 64-bit addresses */
    m->cpu.cr4 |= X86_CR4_PAE;
    m->cpu.efer = X86_EFER_LMA | X86_EFER_LME;
    m->cpu.cr3 = 0x220000;
    poke64(m, 0x220000 + 8 * 256, 0x221000 | P | W);
    poke64(m, 0x221000, 0x222000 | P | W);
    poke64(m, 0x222000, 0x223000 | P | W);
    poke64(m, 0x223000, 0x310000 | P | W);
    poke64(m, 0x223008, 0x312000 | P | W);
    mmu_flush_all(&m->cpu);
    assert_int_equal(mmu_write(&m->cpu, 0xffff800000000ffe, "efgh", 4, 0), 0);
    assert_memory_equal(m->ram + 0x312000, "gh", 2);
    /* its data accesses wrap at 4 GiB */
    poke64(m, 0x220000, 0x221000 | P | W);
    poke64(m, 0x221000 + 8 * 3, 0x224000 | P | W);
    poke64(m, 0x224000 + 8 * 511, 0x225000 | P | W);
    poke64(m, 0x225000 + 8 * 511, 0x313000 | P | W);
    assert_int_equal(mmu_write(&m->cpu, 0xfffffffe, "ijkl", 4, 0), 0);
    assert_memory_equal(m->ram + 0x313ffe, "ij", 2);
    assert_memory_equal(m->ram + 0x310000, "kl", 2);
    /* those of 64-bit mode do not */
    m->cpu.seg[X86_CS].attr |= X86_AR_L;
    assert_int_equal(mmu_write(&m->cpu, 0xfffffffe, "mnop", 4, 0), -1);
    assert_int_equal(m->cpu.fault.cr2, 0x100000000);
    machine_free(m);
}

/* Random mappings in 4 MiB and 4 KiB pages, with the flushes that the manual demands of software.
 */
enum { REGIONS = 6, SMALL = 1024 };

struct model {
    struct {
        bool large, global;
        uint32_t frame;        /* of the 4 MiB page */
        uint32_t small[SMALL]; /* frame of each 4 KiB page */
    } region[REGIONS];
};

static uint64_t model_gpa(const struct model *model, uint64_t linear)
{
    unsigned region = (unsigned)(linear >> 22), page = (linear >> 12) & 1023;
    if (model->region[region].large)
        return model->region[region].frame | (linear & 0x3fffff);
    return model->region[region].small[page] | (linear & 0xfff);
}

static void write_tables(struct machine *m, const struct model *model, unsigned region)
{
    uint32_t g = model->region[region].global ? G : 0;
    uint32_t table = 0x1c00000 + 0x1000 * region;
    for (unsigned i = 0; i < SMALL; i++)
        poke32(m, table + 4 * i, model->region[region].small[i] | g | P | W | U);
    poke32(m, DIRECTORY + 4 * region,
           model->region[region].large ? model->region[region].frame | g | PS | P | W | U
                                       : table | P | W | U);
}

static void test_random_mappings(void **state)
{
    (void)state;
    struct random r = random_new("mappings");
    struct machine *m = machine_new();
    struct model *model = calloc(1, sizeof(*model));
    paging_32(m);
    for (unsigned i = 0; i < REGIONS; i++) {
        for (unsigned p = 0; p < SMALL; p++)
            model->region[i].small[p] = 0x400000 + 0x1000 * (uint32_t)random_below(&r, 0x1000);
        model->region[i].frame = 0x400000 * (1 + (uint32_t)random_below(&r, 4));
        write_tables(m, model, i);
    }
    for (unsigned step = 0; step < 300000; step++) {
        uint64_t linear = random_below(&r, (uint64_t)REGIONS << 22);
        unsigned region = (unsigned)(linear >> 22);
        unsigned action = (unsigned)random_below(&r, 400);
        unsigned user = random_next(&r) & 1 << 13 ? MMU_USER : 0;
        if (action == 0) { /* small <-> large: both sizes may be cached, flush as 4.10.4 says */
            model->region[region].large = !model->region[region].large;
            model->region[region].frame = 0x400000 * (1 + (uint32_t)random_below(&r, 4));
            write_tables(m, model, region);
            if (!model->region[region].large)
                mmu_flush_page(&m->cpu, linear); /* one INVLPG for a large page */
            else if (model->region[region].global)
                mmu_flush_all(&m->cpu);
            else
                mmu_flush_nonglobal(&m->cpu);
        } else if (action == 1) {
            model->region[region].global = !model->region[region].global;
            write_tables(m, model, region);
            mmu_flush_all(&m->cpu);
        } else if (action < 20) { /* another frame */
            if (model->region[region].large)
                model->region[region].frame = 0x400000 * (1 + (uint32_t)random_below(&r, 4));
            else
                model->region[region].small[(linear >> 12) & 1023] =
                    0x400000 + 0x1000 * (uint32_t)random_below(&r, 0x1000);
            write_tables(m, model, region);
            mmu_flush_page(&m->cpu, linear);
        } else if (action == 20) {
            mmu_flush_nonglobal(&m->cpu);
        } else {
            uint32_t value = (uint32_t)random_next(&r), back = 0;
            linear &= ~3ULL;
            assert_int_equal(mmu_write(&m->cpu, linear, &value, 4, user), 0);
            assert_int_equal(peek(m, model_gpa(model, linear), 4), value);
            linear = (linear ^ (random_next(&r) & 0x3ff000)) & ~3ULL;
            assert_int_equal(mmu_read(&m->cpu, linear, &back, 4, user), 0);
            assert_int_equal(back, peek(m, model_gpa(model, linear), 4));
        }
    }
    free(model);
    machine_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_write_tag_needs_dirty),
        cmocka_unit_test(test_host_address_back_to_linear),
        cmocka_unit_test(test_privilege_and_wp),
        cmocka_unit_test(test_smap_stays_out),
        cmocka_unit_test(test_pages_that_stay_out),
        cmocka_unit_test(test_pam_split_page),
        cmocka_unit_test(test_watchpoints),
        cmocka_unit_test(test_global_pages),
        cmocka_unit_test(test_flush_page_in_large_page),
        cmocka_unit_test(test_write_protect),
        cmocka_unit_test(test_traced_pages),
        cmocka_unit_test(test_victims_are_found),
        cmocka_unit_test(test_victims_are_flushed),
        cmocka_unit_test(test_victims_of_large_pages_are_flushed),
        cmocka_unit_test(test_victims_are_write_protected),
        cmocka_unit_test(test_exec_cache),
        cmocka_unit_test(test_page_crossing),
        cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_random_mappings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
