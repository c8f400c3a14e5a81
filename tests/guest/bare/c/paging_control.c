/*
 * MODES 32 64. Control registers of paging: values and transitions that raise #GP(0), when PDPTEs
 * are read, address widths (SDM vol. 3, 2.5, 4.1.2, 4.4.1), canonical addresses.
 */
#include "paging.h"

static uint32_t cases;

enum reg { CR0, CR3, CR4, EFER };

static uint64_t read_register(enum reg reg)
{
    return reg == CR0   ? read_cr0()
           : reg == CR3 ? read_cr3()
           : reg == CR4 ? read_cr4()
                        : rdmsr(MSR_EFER);
}

/* 0 or the vector. */
static unsigned write_register(enum reg reg, uint64_t value, bool user)
{
    if (reg == EFER)
        return guest_try(stub_wrmsr, user, (uint32_t)value, MSR_EFER, (uint32_t)(value >> 32));
    return guest_try(reg == CR0   ? stub_cr0
                     : reg == CR3 ? stub_cr3
                                  : stub_cr4,
                     user, (uintptr_t)value, 0, 0);
}

/* The value is refused and the register stays. */
static void refused(unsigned line, enum reg reg, uint64_t value)
{
    uint64_t before = read_register(reg);
    if (write_register(reg, value, false) != VECTOR_GP || SEEN.error != 0)
        guest_fail(line, (uint32_t)value);
    if (read_register(reg) != before)
        guest_fail(line, (uint32_t)read_register(reg));
    cases++;
}
#define REFUSED(reg, value) refused(__LINE__, reg, value)

static void accepted(unsigned line, enum reg reg, uint64_t value)
{
    if (write_register(reg, value, false))
        guest_fail(line, (uint32_t)value);
    if (read_register(reg) != value)
        guest_fail(line, (uint32_t)read_register(reg));
    cases++;
}
#define ACCEPTED(reg, value) accepted(__LINE__, reg, value)

/* Reserved bits, one at a time, and ring 3. */
static void test_reserved(void)
{
    uint64_t bits = cr4_bits(), cr4 = read_cr4(), efer = rdmsr(MSR_EFER);
    for (unsigned i = 0; i < 8 * sizeof(uintptr_t); i++) {
        if (!(bits >> i & 1))
            REFUSED(CR4, cr4 | 1ULL << i);
    }
    const uint64_t efer_bits = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    for (unsigned i = 0; i < 64; i++) {
        bool optional = i >= 12 && i <= 15; /* AMD's SVME, LMSLE, FFXSR, TCE */
        if (!(efer_bits >> i & 1) && !optional)
            REFUSED(EFER, efer | 1ULL << i);
    }
    for (enum reg reg = CR0; reg <= EFER; reg++) {
        EXPECT_THAT(write_register(reg, read_register(reg), true) == VECTOR_GP, reg);
        EXPECT_THAT(SEEN.error == 0, SEEN.error);
        cases++;
    }
    uint64_t cr0 = read_cr0();
    REFUSED(CR0, (cr0 | CR0_PG) & ~(uint64_t)CR0_PE);
    REFUSED(CR0, (cr0 | CR0_NW) & ~(uint64_t)CR0_CD);
    REFUSED(EFER, rdmsr(MSR_EFER) ^ EFER_LME); /* paging is on */
}

/* Reads 32 bits at a linear address: false if that faults as absent. */
static bool peek(uintptr_t at, uint32_t *value)
{
    struct guest_call call = {(uint32_t)(uintptr_t)stub_read4, 0, at, 0, 0};
    guest_enter(&call);
    *value = (uint32_t)call.ax;
    if (SEEN.vector == VECTOR_UD)
        return true;
    EXPECT_THAT(SEEN.vector == VECTOR_PF && SEEN.error == 0, SEEN.error);
    EXPECT_THAT(read_cr2() == at, read_cr2());
    return false;
}

/* Large pages elsewhere in RAM, found again through another mapping. */
static void test_large_frames(const struct layout *layout)
{
    enum { FRAME = 0x2000000 };
    unsigned last = layout->levels - 1;
    if (!layout->large || layout->shift[last] == 30)
        return;
    for (unsigned i = 0; i < 4; i++) {
        uint64_t frame = FRAME + ((uint64_t)i << layout->shift[last]);
        for (unsigned k = 0; k < 2; k++) {
            entry_set(layout, last, k, frame | PT_ALL | PT_PS);
            invlpg(layout->base + ((uintptr_t)k << layout->shift[last]));
        }
        uintptr_t second = layout->base + ((uintptr_t)1 << layout->shift[last]);
        for (uintptr_t at = 0x10; at < 1u << layout->shift[last]; at += 0x5f000) {
            *(volatile uint32_t *)(layout->base + at) = (uint32_t)(at * 3 + i);
            EXPECT_THAT(*(volatile uint32_t *)(second + at) == (uint32_t)(at * 3 + i), at);
            cases++;
        }
    }
    for (unsigned i = 0; i < 4; i++) { /* four different ones, after all */
        entry_set(layout, last, 0, (FRAME + ((uint64_t)i << layout->shift[last])) | PT_ALL | PT_PS);
        invlpg(layout->base);
        EXPECT_THAT(*(volatile uint32_t *)(layout->base + 0x10) == 0x30 + i, i);
    }
    layout_map(layout);
}

/* An address above RAM reads as ones: bits 32 and up of a frame count. */
static void test_high_frames(const struct layout *layout)
{
    unsigned last = layout->levels - 1, width = physical_bits();
    for (unsigned bit = 32; bit < width; bit++) {
        uint64_t entry = entry_frame(layout, last, 0) | PT_ALL;
        if (layout->pae)
            entry |= 1ULL << bit;
        else if (layout->large && bit < 40) /* PSE-36 */
            entry |= 1u << (bit - 19);
        else
            continue;
        *(volatile uint32_t *)frames = 0x1234;
        entry_set(layout, last, 0, entry);
        flush();
        uint32_t value;
        EXPECT_THAT(peek(layout_target(layout), &value), bit);
        EXPECT_THAT(value == 0xffffffff, bit);
        cases++;
    }
    layout_map(layout);
}

#ifdef __x86_64__

/* A linear address that is not canonical: #GP(0) before any page fault, whatever is accessed. */
static void test_canonical(void)
{
    static const uint8_t *const stubs[] = {stub_read4, stub_write4, stub_modify4,
                                           stub_read,  stub_write,  stub_fetch};
    static const uintptr_t addresses[] = {0x0000800000000000, 0xffff7fffffffffff,
                                          0xffff000000000000, 0x0001000000000000,
                                          0x8000000000000000, 0x7fffffffffffffff};
    for (unsigned i = 0; i < 6 * 6 * 2; i++) {
        const uint8_t *stub = stubs[i % 6];
        EXPECT_THAT(guest_try(stub, i >= 36, addresses[i / 6 % 6], 0, 0) == VECTOR_GP, i);
        EXPECT_THAT(SEEN.error == 0, SEEN.error);
        EXPECT_THAT(SEEN.ip == (uint32_t)(uintptr_t)stub, SEEN.ip);
        cases++;
    }
    /* Over the boundary: the page in front of it is absent, and it does not matter. */
    for (unsigned i = 0; i < 3 * 2; i++) {
        EXPECT_THAT(guest_try(stubs[i % 3], i >= 3, 0x00007ffffffffffe, 0, 0) == VECTOR_GP, i);
        cases++;
    }
    invlpg(0x0000800000000000); /* does nothing */
}

static void test_control(void)
{
    uint64_t cr0 = read_cr0(), cr3 = read_cr3(), cr4 = read_cr4();
    for (unsigned bit = 32; bit < 64; bit++)
        REFUSED(CR0, cr0 | 1ULL << bit);
    for (unsigned bit = physical_bits(); bit < 63; bit++)
        REFUSED(CR3, cr3 | 1ULL << bit);
    REFUSED(CR3, cr3 | 1ULL << 63); /* without PCIDs */
    REFUSED(CR4, cr4 & ~(uint64_t)CR4_PAE);
    REFUSED(CR0, cr0 & ~(uint64_t)CR0_PG); /* in 64-bit code */
    REFUSED(CR0, cr0 & ~(uint64_t)(CR0_PG | CR0_PE));
    /* Bits 3 and 4 of CR3 are kept. */
    ACCEPTED(CR3, cr3 | 0x18);
    ACCEPTED(CR3, cr3);
    ACCEPTED(CR4, cr4 ^ CR4_PSE);
    ACCEPTED(CR4, cr4);
    test_canonical();
}

#else

static __attribute__((aligned(32))) uint64_t pdptes[4];

/* What makes the processor read the PDPTEs of pdptes again; false: it does not. */
enum trigger { BY_CR3, BY_PG, BY_CD, BY_PGE, BY_PSE, TRIGGERS, BY_TS = TRIGGERS, BY_DE, BY_INVLPG };

/* The register write, 0 or the vector. */
static unsigned pull(enum trigger trigger)
{
    switch (trigger) {
    case BY_CR3:
        return write_register(CR3, (uintptr_t)pdptes, false);
    case BY_PG:
        write_cr0(read_cr0() & ~CR0_PG);
        return write_register(CR0, read_cr0() | CR0_PG, false);
    case BY_CD:
        return write_register(CR0, read_cr0() ^ CR0_CD, false);
    case BY_PGE:
        return write_register(CR4, read_cr4() ^ CR4_PGE, false);
    case BY_PSE:
        return write_register(CR4, read_cr4() ^ CR4_PSE, false);
    case BY_TS:
        return write_register(CR0, read_cr0() ^ CR0_TS, false);
    case BY_DE:
        return write_register(CR4, read_cr4() ^ 8, false);
    default:
        invlpg(layouts[2].base);
        return 0;
    }
}

static void copy_pdptes(const uint64_t *from)
{
    for (unsigned i = 0; i < 4; i++)
        pdptes[i] = from[i];
}

/* Reserved bits, checked for present entries when they are loaded, and only then. */
static void test_pdptes_reserved(const uint64_t *good)
{
    uint32_t value;
    for (unsigned i = 0; i < TRIGGERS * 4 * 64; i++) {
        enum trigger trigger = i / 256;
        unsigned entry = i / 64 % 4, bit = i % 64, width = physical_bits();
        bool reserved = bit == 1 || bit == 2 || (bit >= 5 && bit <= 8) || bit >= width;
        copy_pdptes(good);
        EXPECT_THAT(!pull(BY_CR3), i);
        uintptr_t cr0 = read_cr0(), cr4 = read_cr4();
        /* A present entry of the ones that nobody uses, unless it is used. */
        pdptes[entry] |= PT_P;
        if (!reserved)
            continue;
        pdptes[entry] |= 1ULL << bit;
        unsigned vector = pull(trigger);
        EXPECT_THAT(vector == VECTOR_GP && SEEN.error == 0, i);
        EXPECT_THAT(read_cr4() == cr4, read_cr4());
        EXPECT_THAT(read_cr0() == (trigger == BY_PG ? cr0 & ~CR0_PG : cr0), read_cr0());
        if (trigger == BY_PG) {
            copy_pdptes(good);
            write_cr0(cr0);
        }
        EXPECT_THAT(peek(layouts[2].base, &value), i); /* the old ones are still in force */
        /* Not present: no bit matters. */
        if (!(good[entry] & PT_P)) {
            pdptes[entry] &= ~(uint64_t)PT_P;
            EXPECT_THAT(!pull(trigger), i);
        }
        cases++;
    }
    copy_pdptes(good);
    write_cr0(read_cr0() & ~CR0_CD);
    EXPECT_THAT(!pull(BY_CR3), 0);
}

/* Changes in memory are not seen before something loads them. */
static void test_pdptes_cached(const uint64_t *good)
{
    uint32_t value;
    unsigned index = layouts[2].base >> 30;
    for (enum trigger trigger = 0; trigger <= BY_INVLPG; trigger++) {
        copy_pdptes(good);
        EXPECT_THAT(!pull(BY_CR3), trigger);
        EXPECT_THAT(peek(layouts[2].base, &value), trigger);
        pdptes[index] = 0;
        EXPECT_THAT(peek(layouts[2].base, &value), trigger);
        EXPECT_THAT(peek(layouts[2].base + PAGE, &value), trigger);
        EXPECT_THAT(!pull(trigger), trigger);
        bool found = peek(layouts[2].base, &value);
        if (trigger != BY_CD) /* reads them, but invalidates nothing */
            EXPECT_THAT(found == (trigger >= TRIGGERS), trigger);
        cases++;
        copy_pdptes(good);
        write_cr0(read_cr0() & ~(CR0_CD | CR0_TS));
    }
    /* Another table is used at once, and the fourth entry is the fourth GiB. */
    copy_pdptes(good);
    pdptes[2] = good[index];
    EXPECT_THAT(!pull(BY_CR3), 0);
    *(volatile uint32_t *)frames = 0x778899;
    EXPECT_THAT(peek((layouts[2].base & 0x3fffffff) | 0x80000000, &value) && value == 0x778899,
                value);
    pdptes[2] = 0;
    EXPECT_THAT(!pull(BY_CR3), 0);
    EXPECT_THAT(!peek((layouts[2].base & 0x3fffffff) | 0x80000000, &value), 0);
    cases += 2;
}

static __attribute__((aligned(PAGE))) uint64_t long_tables[3][PAGE / 8];

/* Into compatibility mode and back; no exceptions there, whose gates would be 64-bit ones. */
static void test_long_mode(void)
{
    uintptr_t cr0, cr4 = read_cr4(), cr3 = read_cr3();
    REFUSED(EFER, rdmsr(MSR_EFER) | EFER_LME); /* paging is on */
    write_cr0(read_cr0() & ~CR0_PG);
    cr0 = read_cr0();
    ACCEPTED(EFER, rdmsr(MSR_EFER) | EFER_LME);
    write_cr4(cr4 & ~(uintptr_t)CR4_PAE);
    REFUSED(CR0, cr0 | CR0_PG); /* LME without PAE */
    write_cr4(cr4 | CR4_PAE);
    for (unsigned i = 0; i < 512; i++)
        long_tables[2][i] = (uint64_t)i << 21 | PT_ALL | PT_PS;
    long_tables[1][0] = (uintptr_t)long_tables[2] | PT_ALL;
    long_tables[0][0] = (uintptr_t)long_tables[1] | PT_ALL;
    write_cr3((uintptr_t)long_tables[0]);
    for (unsigned i = 0; i < 3; i++) {
        write_cr0(cr0 | CR0_PG);
        uint64_t inside = rdmsr(MSR_EFER);
        write_cr0(cr0);
        EXPECT_THAT(inside & EFER_LMA, inside);
        EXPECT_THAT(!(rdmsr(MSR_EFER) & EFER_LMA), i);
        cases++;
    }
    ACCEPTED(EFER, rdmsr(MSR_EFER) & ~(uint64_t)EFER_LME);
    write_cr3(cr3);
    write_cr4(cr4);
    write_cr0(cr0 | CR0_PG);
}

static void test_control(void)
{
    uint64_t good[4];
    layout_enter(&layouts[2], true);
    const uint64_t *table = (const uint64_t *)(read_cr3() & ~31u);
    for (unsigned i = 0; i < 4; i++)
        good[i] = table[i];
    uintptr_t cr3 = read_cr3();
    test_pdptes_reserved(good);
    test_pdptes_cached(good);
    write_cr3(cr3);
    test_long_mode();
}

#endif

void guest_main(void)
{
    write_cr0(read_cr0() & ~(uintptr_t)(CR0_CD | CR0_NW));
    for (unsigned i = 0; i < LAYOUTS; i++) {
        layout_enter(&layouts[i], true);
        test_reserved();
        test_large_frames(&layouts[i]);
        test_high_frames(&layouts[i]);
    }
    test_control();
    print("%u cases\n", cases);
}
