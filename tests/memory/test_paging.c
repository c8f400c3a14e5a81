/*
 * Page walks against the rules of SDM vol. 3 ch. 4, written down here as tables and prose order:
 * every combination of permission bits at every level, reserved bits, accessed and dirty flags.
 */
#include "fixture.h"

enum { P = 1, W = 2, U = 4, PWT = 8, PCD = 16, A = 32, D = 64, PS = 128, G = 256 };
#define NX (1ULL << 63)

/* --- one description of paging per mode, from the format tables 4-4 .. 4-20 --- */

struct level {
    unsigned shift;    /* lowest linear address bit that selects the entry */
    uint64_t reserved; /* with MAXPHYADDR 40; NX apart */
    uint64_t ignored;  /* bits that software may use */
};

struct mode {
    const char *name;
    bool pae, lma;
    uint64_t cr4;
    unsigned entry_size, levels, page_shift, index_bits;
    struct level level[4]; /* topmost first; the last one maps the page */
};

#define RANGE(high, low) ((~0ULL >> (63 - (high))) & (~0ULL << (low)))

static const struct mode modes[] = {
    {"32-bit, 4 KiB",
     false,
     false,
     X86_CR4_PSE,
     4,
     2,
     12,
     10,
     {{22, 0, D | RANGE(11, 8)}, {12, 0, PS | RANGE(11, 9)}}},
    {"32-bit, 4 MiB",
     false,
     false,
     X86_CR4_PSE,
     4,
     1,
     22,
     10,
     {{22, 1 << 21, RANGE(11, 9) | 1 << 12}}},
    {"PAE, 4 KiB",
     true,
     false,
     0,
     8,
     2,
     12,
     9,
     {{21, RANGE(62, 40), D | RANGE(11, 8)}, {12, RANGE(62, 40), PS | RANGE(11, 9)}}},
    {"PAE, 2 MiB",
     true,
     false,
     0,
     8,
     1,
     21,
     9,
     {{21, RANGE(62, 40) | RANGE(20, 13), RANGE(11, 9) | 1 << 12}}},
    {"4-level, 4 KiB",
     true,
     true,
     0,
     8,
     4,
     12,
     9,
     {{39, RANGE(51, 40) | PS, D | RANGE(11, 8) | RANGE(62, 52)},
      {30, RANGE(51, 40), D | RANGE(11, 8) | RANGE(62, 52)},
      {21, RANGE(51, 40), D | RANGE(11, 8) | RANGE(62, 52)},
      {12, RANGE(51, 40), PS | RANGE(11, 9) | RANGE(62, 52)}}},
    {"4-level, 2 MiB",
     true,
     true,
     0,
     8,
     3,
     21,
     9,
     {{39, RANGE(51, 40) | PS, D | RANGE(11, 8) | RANGE(62, 52)},
      {30, RANGE(51, 40), D | RANGE(11, 8) | RANGE(62, 52)},
      {21, RANGE(51, 40) | RANGE(20, 13), RANGE(11, 9) | RANGE(62, 52) | 1 << 12}}},
    {"4-level, 1 GiB",
     true,
     true,
     0,
     8,
     2,
     30,
     9,
     {{39, RANGE(51, 40) | PS, D | RANGE(11, 8) | RANGE(62, 52)},
      {30, RANGE(51, 40) | RANGE(29, 13), RANGE(11, 9) | RANGE(62, 52) | 1 << 12}}},
};
enum { MODES = sizeof(modes) / sizeof(modes[0]) };

struct attributes { /* of one level */
    bool present, writable, user, nx, reserved;
};

struct setup {
    const struct mode *mode;
    struct attributes at[4];
    bool wp, nxe, smep, smap, ac, cpl3;
    unsigned access;
    uint64_t linear, frame;
    uint64_t gpa[4], entry[4]; /* where the entries are, and what they were set to */
};

/* --- the oracle --- */

/* Error code of the page fault, or -1: allowed. */
static int64_t expected_error(const struct setup *s)
{
    const struct mode *mode = s->mode;
    bool write = s->access & MMU_WRITE, fetch = s->access & MMU_EXEC, user = s->access & MMU_USER;
    uint32_t base = (write ? 2 : 0) | (user ? 4 : 0);
    /* 4.7: the I/D flag exists if SMEP is set, or PAE and NXE are */
    if (fetch && (s->smep || (mode->pae && s->nxe)))
        base |= 16;
    bool all_user = true, all_writable = true, any_nx = false;
    for (unsigned i = 0; i < mode->levels; i++) {
        const struct attributes *a = &s->at[i];
        if (!a->present)
            return base;
        bool nx_set = a->nx && mode->entry_size == 8;
        if ((a->reserved && mode->level[i].reserved) || (nx_set && !s->nxe))
            return base | 1 | 8;
        all_user = all_user && a->user;
        all_writable = all_writable && a->writable;
        any_nx = any_nx || nx_set;
    }
    /* 4.6.1, in the order of the text */
    bool user_address = all_user, allowed;
    bool implicit = !user && s->cpl3;
    if (!user && !write && !fetch) {
        allowed = !user_address || !s->smap || (s->ac && !implicit);
    } else if (!user && write) {
        if (!user_address)
            allowed = s->wp ? all_writable : true;
        else if (!s->smap)
            allowed = s->wp ? all_writable : true;
        else
            allowed = s->ac && !implicit && (s->wp ? all_writable : true);
    } else if (!user && fetch) {
        if (!user_address)
            allowed = !s->nxe || !any_nx;
        else
            allowed = !s->smep && (!s->nxe || !any_nx);
    } else if (!write && !fetch) {
        allowed = user_address;
    } else if (write) {
        allowed = user_address && all_writable;
    } else {
        allowed = user_address && (!s->nxe || !any_nx);
    }
    return allowed ? -1 : (int64_t)(base | 1);
}

/* --- building the tables --- */

static uint64_t one_bit_of(struct random *r, uint64_t mask)
{
    uint64_t bit;
    do
        bit = 1ULL << random_below(r, 64);
    while (!(mask & bit));
    return bit;
}

static void build(struct machine *m, struct setup *s, struct random *r)
{
    const struct mode *mode = s->mode;
    uint64_t frame_mask = RANGE(39, 0) & ~((1ULL << mode->page_shift) - 1);
    if (!mode->pae && mode->page_shift == 12)
        frame_mask &= RANGE(31, 0);
    s->frame = random_next(r) & frame_mask;
    s->linear = random_next(r);
    if (mode->lma)
        s->linear = (uint64_t)((int64_t)(s->linear << 16) >> 16);
    else
        s->linear = (uint32_t)s->linear;
    uint64_t table = 0x200000;
    if (mode->pae && !mode->lma)
        m->cpu.pdpte[s->linear >> 30] = table | P;
    else
        m->cpu.cr3 = table | (random_next(r) & (PWT | PCD));
    for (unsigned i = 0; i < mode->levels; i++) {
        const struct level *level = &mode->level[i];
        const struct attributes *a = &s->at[i];
        bool last = i == mode->levels - 1;
        uint64_t entry = (a->present ? P : 0) | (a->writable ? W : 0) | (a->user ? U : 0);
        entry |= random_next(r) & (PWT | PCD | A | level->ignored);
        if (a->nx && mode->entry_size == 8)
            entry |= NX;
        if (a->reserved && level->reserved)
            entry |= one_bit_of(r, level->reserved);
        uint64_t next = table + 0x1000;
        if (last) {
            entry |= random_next(r) & (D | G);
            if (mode->page_shift > 12)
                entry |= PS;
            if (mode->page_shift == 22) /* PSE-36: address bits 39:32 in bits 20:13 */
                entry |= (s->frame & RANGE(31, 22)) | ((s->frame >> 32) & 0xff) << 13;
            else
                entry |= s->frame;
        } else {
            entry |= next;
        }
        uint64_t index = (s->linear >> level->shift) & ((1u << mode->index_bits) - 1);
        s->gpa[i] = table + index * mode->entry_size;
        s->entry[i] = entry;
        memcpy(m->ram + s->gpa[i], &entry, mode->entry_size);
        table = next;
    }
}

static void enter_mode(struct machine *m, const struct setup *s)
{
    struct x86_cpu *cpu = &m->cpu;
    cpu->cr0 = X86_CR0_PE | X86_CR0_PG | (s->wp ? (uint64_t)X86_CR0_WP : 0);
    cpu->cr4 = s->mode->cr4 | (s->mode->pae ? (uint64_t)X86_CR4_PAE : 0) |
               (s->smep ? (uint64_t)X86_CR4_SMEP : 0) | (s->smap ? (uint64_t)X86_CR4_SMAP : 0);
    cpu->efer = (s->mode->lma ? (uint64_t)X86_EFER_LMA | X86_EFER_LME : 0) |
                (s->nxe ? (uint64_t)X86_EFER_NXE : 0);
    cpu->sflags = s->ac ? X86_AC_FLAG : 0;
    cpu->cpl = s->cpl3 ? 3 : 0;
    mmu_flush_all(cpu);
}

static void report(const struct setup *s, int64_t expected)
{
    print_message(
        "%s: linear %llx access %u wp%d nxe%d smep%d smap%d ac%d cpl3 %d, expected %lld\n",
        s->mode->name, (unsigned long long)s->linear, s->access, s->wp, s->nxe, s->smep, s->smap,
        s->ac, s->cpl3, (long long)expected);
    for (unsigned i = 0; i < s->mode->levels; i++)
        print_message("  entry %u: %016llx\n", i, (unsigned long long)s->entry[i]);
}

static void check_case(struct machine *m, struct setup *s, struct random *r)
{
    build(m, s, r);
    enter_mode(m, s);
    int64_t expected = expected_error(s);
    uint64_t gpa = 0;
    memset(&m->cpu.fault, 0, sizeof(m->cpu.fault));
    int result = mmu_translate(&m->cpu, s->linear, s->access, &gpa);
    bool good;
    if (expected < 0) {
        uint64_t offset = s->linear & ((1ULL << s->mode->page_shift) - 1);
        good = result == 0 && gpa == (s->frame | offset);
    } else {
        good = result == -1 && m->cpu.fault.vector == X86_PF && m->cpu.fault.has_error &&
               m->cpu.fault.error == expected && m->cpu.fault.cr2 == s->linear;
    }
    /* 4.8: A at each level used, D in the entry that maps the page; a fault leaves no trace */
    for (unsigned i = 0; i < s->mode->levels; i++) {
        uint64_t wanted = s->entry[i];
        if (expected < 0) {
            wanted |= A;
            if (i == s->mode->levels - 1 && (s->access & MMU_WRITE))
                wanted |= D;
        }
        good = good && peek(m, s->gpa[i], s->mode->entry_size) == wanted;
    }
    if (!good) {
        report(s, expected);
        fail_msg("result %d, fault %u error %x cr2 %llx gpa %llx", result, m->cpu.fault.vector,
                 m->cpu.fault.error, (unsigned long long)m->cpu.fault.cr2, (unsigned long long)gpa);
    }
}

static const unsigned accesses[] = {
    MMU_READ, MMU_WRITE, MMU_EXEC, MMU_USER | MMU_READ, MMU_USER | MMU_WRITE, MMU_USER | MMU_EXEC,
};

static struct attributes attributes_of(unsigned bits)
{
    return (struct attributes){bits & 1, bits & 2, bits & 4, bits & 8, bits & 16};
}

static void set_controls(struct setup *s, unsigned bits)
{
    s->wp = bits & 1;
    s->nxe = bits & 2;
    s->smep = bits & 4;
    s->smap = bits & 8;
    s->ac = bits & 16;
    s->cpl3 = bits & 32;
}

/* One and two levels: everything. */
static void test_matrix(void **state)
{
    (void)state;
    struct random r = random_new("matrix");
    struct machine *m = machine_new();
    unsigned long cases = 0;
    for (unsigned mode = 0; mode < MODES; mode++) {
        if (modes[mode].levels > 2)
            continue;
        unsigned combinations = 1u << (5 * modes[mode].levels);
        for (unsigned c = 0; c < combinations; c++) {
            for (unsigned controls = 0; controls < 64; controls++) {
                struct setup s = {.mode = &modes[mode], .access = accesses[(c + controls) % 6]};
                for (unsigned i = 0; i < modes[mode].levels; i++)
                    s.at[i] = attributes_of(c >> (5 * i));
                set_controls(&s, controls);
                /* all six accesses where the walk succeeds, else one of them */
                bool present = s.at[0].present && (modes[mode].levels == 1 || s.at[1].present);
                for (unsigned a = 0; a < (present ? 6 : 1); a++, cases++) {
                    if (present)
                        s.access = accesses[a];
                    check_case(m, &s, &r);
                }
            }
        }
    }
    print_message("%lu cases\n", cases);
    machine_free(m);
}

/* Deeper ones: each level alone in every way, then random combinations. */
static void test_deep_levels(void **state)
{
    (void)state;
    struct random r = random_new("deep levels");
    struct machine *m = machine_new();
    for (unsigned mode = 0; mode < MODES; mode++) {
        if (modes[mode].levels <= 2)
            continue;
        for (unsigned level = 0; level < modes[mode].levels; level++) {
            for (unsigned c = 0; c < 32 * 64 * 6; c++) {
                struct setup s = {.mode = &modes[mode], .access = accesses[c % 6]};
                for (unsigned i = 0; i < modes[mode].levels; i++)
                    s.at[i] = attributes_of(7);
                s.at[level] = attributes_of(c / 6 % 32);
                set_controls(&s, c / 6 / 32);
                check_case(m, &s, &r);
            }
        }
        for (unsigned n = 0; n < 100000; n++) {
            struct setup s = {.mode = &modes[mode], .access = accesses[random_below(&r, 6)]};
            for (unsigned i = 0; i < modes[mode].levels; i++) {
                s.at[i] = attributes_of((unsigned)random_below(&r, 32) | 1);
                s.at[i].present = random_below(&r, 10) != 0;
                s.at[i].reserved = random_below(&r, 10) == 0;
                s.at[i].nx = random_below(&r, 4) == 0;
            }
            set_controls(&s, (unsigned)random_below(&r, 64));
            check_case(m, &s, &r);
        }
    }
    machine_free(m);
}

/* --- particular rules --- */

static void paging_32(struct machine *m)
{
    m->cpu.cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_WP;
    m->cpu.cr4 = 0;
    m->cpu.efer = 0;
    m->cpu.cr3 = 0x200000;
}

static void paging_4level(struct machine *m)
{
    m->cpu.cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_WP;
    m->cpu.cr4 = X86_CR4_PAE;
    m->cpu.efer = X86_EFER_LMA | X86_EFER_LME;
    m->cpu.cr3 = 0x200000;
}

static void expect_fault(struct machine *m, uint64_t linear, unsigned access, uint32_t error)
{
    uint64_t gpa;
    assert_int_equal(mmu_translate(&m->cpu, linear, access, &gpa), -1);
    assert_int_equal(m->cpu.fault.vector, X86_PF);
    assert_int_equal(m->cpu.fault.error, error);
    assert_int_equal(m->cpu.fault.cr2, linear);
}

static void expect_gpa(struct machine *m, uint64_t linear, unsigned access, uint64_t expected)
{
    uint64_t gpa = 0;
    assert_int_equal(mmu_translate(&m->cpu, linear, access, &gpa), 0);
    assert_int_equal(gpa, expected);
}

static void test_no_paging(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    m->cpu.cr0 = X86_CR0_PE;
    m->cpu.cr4 = X86_CR4_SMEP | X86_CR4_SMAP;
    for (unsigned i = 0; i < 6; i++)
        expect_gpa(m, 0x12345678, accesses[i], 0x12345678);
    machine_free(m);
}

static void test_pse(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    struct x86_cpu *cpu = &m->cpu;
    paging_32(m);
    /* CR4.PSE clear: the PS bit of a PDE is ignored */
    poke32(m, 0x200000 + 4 * 3, 0x00201000 | PS | P | W);
    poke32(m, 0x201000 + 4 * 5, 0x00345000 | P | W);
    expect_gpa(m, 3 << 22 | 5 << 12 | 0x67, MMU_READ, 0x345067);
    /* set: a 4 MiB page; MAXPHYADDR 36 has four more address bits in 16:13 */
    cpu->cr4 = X86_CR4_PSE;
    cpu->cpuid.phys_bits = 36;
    poke32(m, 0x200000 + 4 * 3, 0x80000000 | 0xf << 13 | PS | P | W);
    expect_gpa(m, 3 << 22 | 0x123456, MMU_READ, 0xf80123456);
    for (unsigned bit = 17; bit <= 21; bit++) {
        poke32(m, 0x200000 + 4 * 3, 0x80000000 | 1u << bit | PS | P | W);
        expect_fault(m, 3 << 22, MMU_READ, 1 | 8);
    }
    /* a wider processor has no more than 40 bits here */
    cpu->cpuid.phys_bits = 41;
    poke32(m, 0x200000 + 4 * 3, 0x80000000 | 0xff << 13 | PS | P | W);
    expect_gpa(m, 3 << 22, MMU_READ, 0xff80000000);
    poke32(m, 0x200000 + 4 * 3, 0x80000000 | 1 << 21 | PS | P | W);
    expect_fault(m, 3 << 22, MMU_READ, 1 | 8);
    /* without PSE-36 bits 21:13 are reserved, bit 12 is PAT */
    cpu->cpuid.features[FEAT_PSE36 / 64] &= ~(1ULL << (FEAT_PSE36 % 64));
    for (unsigned bit = 12; bit <= 21; bit++) {
        poke32(m, 0x200000 + 4 * 3, 0x80000000 | 1u << bit | PS | P | W);
        if (bit == 12)
            expect_gpa(m, 3 << 22, MMU_READ, 0x80000000);
        else
            expect_fault(m, 3 << 22, MMU_READ, 1 | 8);
    }
    machine_free(m);
}

static void test_1gib_pages_need_the_feature(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    paging_4level(m);
    poke64(m, 0x200000, 0x201000 | P | W);
    poke64(m, 0x201000 + 8, 0x40000000 | PS | P | W);
    expect_gpa(m, 0x40000000 | 0x1234567, MMU_READ, 0x41234567);
    m->cpu.cpuid.features[FEAT_PDPE1GB / 64] &= ~(1ULL << (FEAT_PDPE1GB % 64));
    expect_fault(m, 0x40000000, MMU_READ, 1 | 8);
    machine_free(m);
}

static void test_32bit_ignores_nxe(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    paging_32(m);
    m->cpu.efer = X86_EFER_NXE;
    expect_fault(m, 0x1000, MMU_EXEC, 0); /* no I/D flag without PAE */
    m->cpu.cr4 = X86_CR4_SMEP;
    expect_fault(m, 0x1000, MMU_EXEC, 16);
    machine_free(m);
}

static void test_pdptes(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    struct x86_cpu *cpu = &m->cpu;
    cpu->cr0 = X86_CR0_PE | X86_CR0_PG;
    cpu->cr4 = X86_CR4_PAE;
    /* 32-byte aligned table below 4 GiB; bits 4:3 (PWT, PCD) and 11:9 are free */
    uint64_t table = 0x200020;
    for (unsigned i = 0; i < 4; i++)
        poke64(m, table + 8 * i, (0x300000 + 0x1000 * i) | P | PWT | PCD | 0xe00);
    assert_int_equal(mmu_load_pdptes(cpu, 0xabc00000000 | table | PWT | PCD), 0);
    poke64(m, 0x302000 + 8 * 7, 0x400000 | P | W);
    poke64(m, 0x400000 + 8 * 9, 0x123000 | P | W);
    expect_gpa(m, 2ULL << 30 | 7 << 21 | 9 << 12 | 0x10, MMU_WRITE, 0x123010);
    /* the registers are what counts, not memory; PDPTEs have no accessed flag */
    assert_int_equal(peek(m, table + 16, 8) & A, 0);
    poke64(m, table + 16, 0);
    expect_gpa(m, 2ULL << 30 | 7 << 21 | 9 << 12, MMU_READ, 0x123000);
    assert_int_equal(mmu_load_pdptes(cpu, table), 0);
    expect_fault(m, 2ULL << 30 | 7 << 21 | 9 << 12, MMU_READ | MMU_USER, 4);
    /* reserved bits of a present PDPTE: #GP(0), and the old ones stay */
    uint64_t good = cpu->pdpte[3];
    for (unsigned bit = 1; bit < 64; bit++) {
        bool reserved = bit == 1 || bit == 2 || (bit >= 5 && bit <= 8) || bit >= 40;
        poke64(m, table + 24, 0x303000 | P | 1ULL << bit);
        memset(&cpu->fault, 0, sizeof(cpu->fault));
        assert_int_equal(mmu_load_pdptes(cpu, table), reserved ? -1 : 0);
        if (reserved) {
            assert_int_equal(cpu->fault.vector, X86_GP);
            assert_true(cpu->fault.has_error);
            assert_int_equal(cpu->fault.error, 0);
        }
        poke64(m, table + 24, 1ULL << bit); /* not present: everything goes */
        assert_int_equal(mmu_load_pdptes(cpu, table), 0);
        poke64(m, table + 24, good);
        assert_int_equal(mmu_load_pdptes(cpu, table), 0);
        assert_int_equal(cpu->pdpte[3], good);
        poke64(m, table + 24, 0x303000 | P | 1ULL << bit);
        if (reserved) {
            assert_int_equal(mmu_load_pdptes(cpu, table), -1);
            assert_int_equal(cpu->pdpte[3], good);
        }
    }
    machine_free(m);
}

static void test_accessed_and_dirty(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    uint8_t *flags = as_page_flags(m->as);
    paging_4level(m);
    for (unsigned i = 0; i < 3; i++)
        poke64(m, 0x200000 + 0x1000 * i, (0x201000 + 0x1000 * i) | P | W | U);
    poke64(m, 0x203000, 0x5000 | P | U);
    /* a traced table is reported before it changes, with its exact place */
    flags[0x203] = RAM_PAGE_TABLE;
    expect_gpa(m, 0x10, MMU_READ, 0x5010);
    assert_int_equal(m->traced.count, 1);
    assert_int_equal(m->traced.page, 0x203);
    assert_int_equal(m->traced.offset, 0);
    assert_int_equal(m->traced.size, 8);
    assert_int_equal(m->traced.before & A, 0);
    assert_true(flags[0x200] & RAM_PAGE_DIRTY);
    assert_true(flags[0x203] & RAM_PAGE_DIRTY);
    /* nothing left to set: nothing written */
    expect_gpa(m, 0x10, MMU_READ, 0x5010);
    assert_int_equal(m->traced.count, 1);
    assert_int_equal(peek(m, 0x203000, 8), 0x5000 | P | U | A);
    /* a refused write sets no dirty flag, a granted one does */
    expect_fault(m, 0x10, MMU_WRITE, 1 | 2);
    assert_int_equal(peek(m, 0x203000, 8), 0x5000 | P | U | A);
    m->cpu.cr0 &= ~(uint64_t)X86_CR0_WP;
    expect_gpa(m, 0x10, MMU_WRITE, 0x5010);
    assert_int_equal(peek(m, 0x203000, 8), 0x5000 | P | U | A | D);
    assert_int_equal(m->traced.count, 2);
    machine_free(m);
}

static void test_debug_translation(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    uint64_t gpa = 0, walks = m->mmu.stats.walks;
    paging_32(m);
    poke32(m, 0x200000, 0x201000 | P);
    poke32(m, 0x201004, 0x7000 | P);
    assert_int_equal(mmu_translate_debug(&m->cpu, 0x1abc, &gpa), 0);
    assert_int_equal(gpa, 0x7abc);
    assert_int_equal(mmu_translate_debug(&m->cpu, 0x2abc, &gpa), -1);
    assert_int_equal(peek(m, 0x200000, 4), 0x201000 | P);
    assert_int_equal(peek(m, 0x201004, 4), 0x7000 | P);
    assert_int_equal(m->cpu.fault.vector, 0);
    assert_int_equal(m->mmu.stats.walks, walks);
    machine_free(m);
}

static uint64_t table_read(void *ctx, uint64_t offset, unsigned size)
{
    (void)offset, (void)size;
    ++*(unsigned *)ctx;
    return 0x6000 | P | W;
}

static void table_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    (void)offset, (void)size;
    assert_true(value & A);
    *(unsigned *)ctx += 100;
}

static void test_tables_outside_ram(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    struct vd_error err;
    /* nothing there: all ones. 4-level: reserved bits. */
    paging_4level(m);
    m->cpu.cr3 = 0x80000000;
    expect_fault(m, 0x1234, MMU_READ | MMU_USER, 1 | 4 | 8);
    /* 32-bit without PSE: both entries point to FFFFF000H and allow everything */
    paging_32(m);
    m->cpu.cr3 = 0x80000000;
    expect_gpa(m, 0x1234, MMU_WRITE | MMU_USER, 0xfffff234);
    /* with PSE bit 21 of the 4 MiB entry is reserved */
    m->cpu.cr4 = X86_CR4_PSE;
    expect_fault(m, 0x1234, MMU_READ, 1 | 8);
    /* in ROM: works, the flags cannot be set */
    uint8_t rom[4096] = {0};
    uint32_t entry = 0x00400000 | PS | P | W;
    memcpy(rom + 4, &entry, 4);
    assert_int_equal(as_add_rom(m->as, 0xfff00000, 4096, rom, sizeof(rom), &err), 0);
    m->cpu.cr3 = 0xfff00000;
    expect_gpa(m, 0x400010, MMU_WRITE, 0x400010);
    expect_gpa(m, 0x400010, MMU_READ, 0x400010);
    /* in device registers: read and written like memory, but not by the debugger */
    unsigned calls = 0;
    struct io_ops ops = {table_read, table_write, 4, 4};
    assert_non_null(as_map_mmio(m->as, 0xe0000000, 4096, &ops, &calls, "table", &err));
    paging_32(m);
    poke32(m, 0x200000, 0xe0000000 | P | W);
    uint64_t gpa;
    assert_int_equal(mmu_translate_debug(&m->cpu, 0x1234, &gpa), -1);
    assert_int_equal(calls, 0);
    expect_gpa(m, 0x1234, MMU_READ, 0x6234);
    assert_int_equal(calls, 101);
    machine_free(m);
}

static void test_pae_addresses_are_32_bit(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    paging_4level(m);
    m->cpu.efer = X86_EFER_NXE;
    m->cpu.cr4 = X86_CR4_PAE; /* LMA clear: PAE paging, upper half of the address unused */
    m->cpu.pdpte[1] = 0x201000 | P;
    poke64(m, 0x201000, 0x600000 | PS | P | W | NX);
    expect_gpa(m, 0xffffffff40000010, MMU_READ, 0x600010);
    expect_fault(m, 0x40000010, MMU_EXEC, 1 | 16);
    machine_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matrix),
        cmocka_unit_test(test_deep_levels),
        cmocka_unit_test(test_no_paging),
        cmocka_unit_test(test_pse),
        cmocka_unit_test(test_1gib_pages_need_the_feature),
        cmocka_unit_test(test_32bit_ignores_nxe),
        cmocka_unit_test(test_pdptes),
        cmocka_unit_test(test_accessed_and_dirty),
        cmocka_unit_test(test_debug_translation),
        cmocka_unit_test(test_tables_outside_ram),
        cmocka_unit_test(test_pae_addresses_are_32_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
