/*
 * MODES 32 64. Translations that change: what a processor may still remember and what it must see
 * (SDM vol. 3, 4.10), accesses over two pages, tables that map themselves.
 */
#include "paging.h"

static uint32_t cases;

#define EXPECT_SEEN(wanted_error, wanted_cr2)                                                      \
    do {                                                                                           \
        EXPECT_THAT(SEEN.vector == VECTOR_PF, SEEN.vector);                                        \
        EXPECT_THAT(SEEN.error == (wanted_error), SEEN.error);                                     \
        EXPECT_THAT(read_cr2() == (wanted_cr2), read_cr2());                                       \
    } while (0)

/* --- ways to take rights from an entry --- */

enum change { TAKE_P, TAKE_W, TAKE_U, GIVE_NX, GIVE_RESERVED, CHANGES };
enum access { READ, WRITE, FETCH, ACCESSES };

static const uint8_t *stub_of(enum access access)
{
    return access == READ ? stub_read : access == WRITE ? stub_write : stub_fetch;
}

/* Offset in the frame; there is UD2 everywhere but where data is written. */
static unsigned offset_of(enum access access)
{
    return access == WRITE ? 0x800 : 0x100;
}

static bool change_exists(const struct layout *layout, enum change change)
{
    return layout->pae || change < GIVE_NX;
}

static uint64_t changed(enum change change, uint64_t entry)
{
    switch (change) {
    case TAKE_P:
        return entry & ~(uint64_t)PT_P;
    case TAKE_W:
        return entry & ~(uint64_t)PT_W;
    case TAKE_U:
        return entry & ~(uint64_t)PT_U;
    case GIVE_NX:
        return entry | PT_NX;
    default:
        return entry | 1ULL << 51;
    }
}

/* Error code of an access of ring 3 after the change, or 0 if it is still allowed. */
static unsigned error_of(const struct layout *layout, enum change change, enum access access)
{
    unsigned error = PF_U | (access == WRITE ? PF_W : 0);
    if (access == FETCH && layout->pae) /* NXE is set */
        error |= PF_I;
    switch (change) {
    case TAKE_P:
        return error;
    case TAKE_W:
        return access == WRITE ? error | PF_P : 0;
    case TAKE_U:
        return error | PF_P;
    case GIVE_NX:
        return access == FETCH ? error | PF_P : 0;
    default:
        return error | PF_P | PF_RSVD;
    }
}

static void fill_frames(void)
{
    for (unsigned i = 0; i < 2 * PAGE; i += 2)
        *(volatile uint16_t *)(frames + i) = 0x0b0f; /* UD2 */
}

static unsigned try_access(const struct layout *layout, enum access access, bool user)
{
    return guest_try(stub_of(access), user, layout_target(layout) + offset_of(access), 0x42, 0);
}

/* --- ways to make a change known --- */

enum invalidation { BY_INVLPG, BY_INVLPG_ELSEWHERE, BY_CR3, BY_PGE, BY_PG, INVALIDATIONS };

/* False if there is no such way here. */
static bool invalidate(const struct layout *layout, enum invalidation how)
{
    unsigned shift = layout->shift[layout->levels - 1];
    switch (how) {
    case BY_INVLPG:
        invlpg(layout_target(layout));
        return true;
    case BY_INVLPG_ELSEWHERE: /* any address in the page will do */
        invlpg(layout->base + ((uintptr_t)1 << shift) - 1);
        return true;
    case BY_CR3:
        flush();
        return true;
    case BY_PGE:
        write_cr4(read_cr4() ^ CR4_PGE);
        write_cr4(read_cr4() ^ CR4_PGE);
        return true;
    default:
        if (sizeof(uintptr_t) == 8)
            return false;
        write_cr0(read_cr0() & ~(uintptr_t)CR0_PG);
        write_cr0(read_cr0() | CR0_PG);
        return true;
    }
}

/* Rights that are taken at any level are gone after an invalidation, whatever was used before. */
static void test_downgrades(const struct layout *layout)
{
    for (unsigned i = 0; i < layout->levels * CHANGES * ACCESSES * 8 * INVALIDATIONS; i++) {
        unsigned level = i % layout->levels, left = i / layout->levels;
        enum change change = left % CHANGES;
        enum access access = (left /= CHANGES) % ACCESSES;
        unsigned warm = (left /= ACCESSES) % 8; /* which accesses came before */
        enum invalidation how = left / 8;
        if (!change_exists(layout, change))
            continue;
        layout_map(layout);
        for (unsigned k = 0; k < ACCESSES; k++) {
            if (warm & 1u << k)
                EXPECT_THAT(!try_access(layout, k, true), SEEN.vector);
        }
        entry_set(layout, level, 0, changed(change, entry_get(layout, level, 0)));
        if (!invalidate(layout, how))
            continue;
        cases++;
        unsigned error = error_of(layout, change, access);
        unsigned vector = try_access(layout, access, true);
        EXPECT_THAT(vector == (error ? VECTOR_PF : 0), i);
        if (error)
            EXPECT_SEEN(error, layout_target(layout) + offset_of(access));
    }
}

/*
 * Rights that are given need no invalidation: an access through what is remembered may fault once,
 * with the error code of the old rights; it never does where nothing can be remembered.
 */
static void test_upgrades(const struct layout *layout)
{
    for (unsigned i = 0; i < layout->levels * CHANGES * ACCESSES * 2; i++) {
        unsigned level = i % layout->levels, left = i / layout->levels;
        enum change change = left % CHANGES;
        enum access access = (left /= CHANGES) % ACCESSES;
        bool faults_before = left / ACCESSES;
        if (!change_exists(layout, change))
            continue;
        layout_map(layout);
        uint64_t good = entry_get(layout, level, 0);
        entry_set(layout, level, 0, changed(change, good));
        flush();
        for (unsigned k = 0; k < ACCESSES; k++) { /* remember what can be */
            if (!error_of(layout, change, k) || faults_before)
                (void)try_access(layout, k, true);
            (void)try_access(layout, READ, false);
        }
        entry_set(layout, level, 0, good | (entry_get(layout, level, 0) & (PT_A | PT_D)));
        cases++;
        unsigned error = error_of(layout, change, access);
        if (try_access(layout, access, true)) {
            EXPECT_THAT(error && (error & PF_P) && !(error & PF_RSVD), i);
            EXPECT_SEEN(error, layout_target(layout) + offset_of(access));
            EXPECT_THAT(!try_access(layout, access, true), i);
        }
        unsigned last = layout->levels - 1;
        uint64_t entry = entry_get(layout, last, 0), flags = PT_A | (access == WRITE ? PT_D : 0);
        EXPECT_THAT((entry & flags) == flags, entry);
    }
}

/* What one privilege level may do is not remembered for the other. */
static void test_privilege(const struct layout *layout)
{
    unsigned last = layout->levels - 1;
    uintptr_t at = layout_target(layout) + offset_of(WRITE);
    for (unsigned round = 0; round < 3; round++) {
        layout_map(layout);
        uint64_t good = entry_get(layout, last, 0);
        /* Writable for the supervisor because of CR0.WP only. */
        entry_set(layout, last, 0, good & ~(uint64_t)PT_W);
        write_cr0(read_cr0() & ~(uintptr_t)CR0_WP);
        flush();
        EXPECT_THAT(!guest_try(stub_write, false, at, 1, 0), SEEN.vector);
        EXPECT_THAT(entry_get(layout, last, 0) & PT_D, round);
        EXPECT_THAT(guest_try(stub_write, true, at, 1, 0) == VECTOR_PF, SEEN.vector);
        EXPECT_SEEN(PF_P | PF_W | PF_U, at);
        write_cr0(read_cr0() | CR0_WP); /* needs no invalidation */
        EXPECT_THAT(guest_try(stub_write, false, at, 1, 0) == VECTOR_PF, SEEN.vector);
        EXPECT_SEEN(PF_P | PF_W, at);
        /* Of the supervisor alone. */
        entry_set(layout, last, 0, good & ~(uint64_t)PT_U);
        flush();
        for (unsigned k = 0; k < ACCESSES; k++) {
            EXPECT_THAT(!try_access(layout, k, false), SEEN.vector);
            EXPECT_THAT(try_access(layout, k, true) == VECTOR_PF, SEEN.vector);
            EXPECT_SEEN(error_of(layout, TAKE_U, k), layout_target(layout) + offset_of(k));
        }
        cases += 9;
    }
}

/* --- frames, large pages, global pages --- */

static void set_code(unsigned page, uint8_t value)
{
    volatile uint8_t *code = frames + page * PAGE + 0x100; /* MOV AL, value; UD2 */
    code[0] = 0xb0;
    code[1] = value;
    code[2] = 0x0f;
    code[3] = 0x0b;
}

static unsigned run_code(uintptr_t at)
{
    struct guest_call call = {(uint32_t)(uintptr_t)stub_fetch, true, at, 0, 0};
    guest_enter(&call);
    EXPECT_THAT(SEEN.vector == VECTOR_UD, SEEN.vector);
    return call.ax & 0xff;
}

/* Another frame is seen after an invalidation; a global one survives CR3 at most. */
static void test_frames(const struct layout *layout)
{
    if (layout->large)
        return;
    unsigned last = layout->levels - 1;
    uintptr_t at = layout_target(layout);
    set_code(0, 1);
    set_code(1, 2);
    for (unsigned i = 0; i < 2 * INVALIDATIONS; i++) {
        bool global = i % 2;
        enum invalidation how = i / 2;
        layout_map(layout);
        write_cr4(read_cr4() | CR4_PGE);
        uint64_t entries[2];
        for (unsigned n = 0; n < 2; n++)
            entries[n] = entry_get(layout, last, n) | (global ? PT_G : 0);
        entry_set(layout, last, 0, entries[0]);
        invlpg(at);
        for (unsigned round = 1; round < 9; round++) {
            unsigned now = round % 2, old = 1 - now;
            EXPECT_THAT(run_code(at + 0x100) == old + 1, i);
            EXPECT_THAT(*(volatile uint8_t *)(at + 0x101) == old + 1, i);
            entry_set(layout, last, 0, entries[now]);
            if (!invalidate(layout, how))
                break;
            if (global && how == BY_CR3) {
                unsigned code = run_code(at + 0x100), data = *(volatile uint8_t *)(at + 0x101);
                EXPECT_THAT((code == 1 || code == 2) && (data == 1 || data == 2), code);
                invlpg(at);
            }
            EXPECT_THAT(run_code(at + 0x100) == now + 1, i);
            EXPECT_THAT(*(volatile uint8_t *)(at + 0x101) == now + 1, i);
            cases++;
        }
        write_cr4(read_cr4() & ~(uintptr_t)CR4_PGE);
        flush();
    }
    fill_frames();
}

/* INVLPG of any address in a large page drops all of it, also if it is global. */
static void test_large_pages(const struct layout *layout)
{
    if (!layout->large)
        return;
    unsigned last = layout->levels - 1;
    uintptr_t size = (uintptr_t)1 << layout->shift[last];
    for (unsigned i = 0; i < 16; i++) {
        layout_map(layout);
        write_cr4(read_cr4() | CR4_PGE);
        uint64_t good = entry_get(layout, last, 0) | (i & 1 ? PT_G : 0);
        entry_set(layout, last, 0, good);
        invlpg(layout->base);
        for (uintptr_t at = 0x20000; at < 0x70000; at += 0x3000)
            EXPECT_THAT(!guest_try(stub_read, at & 0x1000, layout->base + at, 0, 0), at);
        entry_set(layout, last, 0, good & ~(uint64_t)PT_P);
        invlpg(layout->base + (i * 0x12345678u & (size - 1)));
        for (uintptr_t at = 0x20000; at < 0x70000; at += 0x3000) {
            EXPECT_THAT(guest_try(stub_read, at & 0x1000, layout->base + at, 0, 0) == VECTOR_PF,
                        at);
            EXPECT_SEEN(at & 0x1000 ? PF_U : 0u, layout->base + at);
            cases++;
        }
        write_cr4(read_cr4() & ~(uintptr_t)CR4_PGE);
    }
}

/* Flags that software clears are set again after an invalidation at the latest. */
static void test_accessed_dirty(const struct layout *layout)
{
    unsigned last = layout->levels - 1;
    for (unsigned i = 0; i < 2u * INVALIDATIONS; i++) {
        bool write = i % 2;
        layout_map(layout);
        EXPECT_THAT(!try_access(layout, WRITE, true), i);
        for (unsigned level = 0; level <= last; level++)
            entry_set(layout, level, 0, entry_get(layout, level, 0) & ~(uint64_t)(PT_A | PT_D));
        if (!invalidate(layout, i / 2))
            continue;
        cases++;
        EXPECT_THAT(!try_access(layout, write ? WRITE : READ, true), i);
        for (unsigned level = 0; level <= last; level++) {
            uint64_t flags = PT_A | (level == last && write ? PT_D : 0);
            uint64_t entry = entry_get(layout, level, 0);
            EXPECT_THAT((entry & (PT_A | PT_D)) == flags, entry);
        }
        /* A page that was only read gets dirty by the first write, without any invalidation. */
        EXPECT_THAT(!try_access(layout, WRITE, true), i);
        EXPECT_THAT(entry_get(layout, last, 0) & PT_D, i);
    }
}

/* --- two pages --- */

/*
 * Four bytes over the boundary with an entry of one page, or of both, spoiled: the fault is at the
 * first byte that cannot be accessed, and nothing was written.
 */
static void test_crossing(const struct layout *layout)
{
    if (layout->large)
        return;
    const uint8_t *const stubs[] = {stub_read4, stub_write4, stub_modify4};
    unsigned last = layout->levels - 1;
    uintptr_t boundary = layout_target(layout) + PAGE;
    volatile uint32_t *middle = (volatile uint32_t *)(frames + PAGE - 2);
    for (unsigned i = 0; i < 3 * 3 * 3 * 2 * 2; i++) {
        unsigned part = 1 + i % 3, kind = i / 3 % 3, before = 1 + i / 9 % 3;
        bool user = i / 27 % 2, absent = i / 54;
        bool write = kind > 0;
        layout_map(layout);
        for (unsigned n = 0; n < 2; n++) {
            if (part & 1u << n)
                entry_set(layout, last, n,
                          entry_get(layout, last, n) & ~(uint64_t)(absent ? PT_P : PT_W));
        }
        flush();
        *middle = 0x11112222;
        struct guest_call call = {(uint32_t)(uintptr_t)stubs[kind], user, boundary - before,
                                  0x01010101, 0};
        guest_enter(&call);
        cases++;
        if (!absent && !write) {
            EXPECT_THAT(SEEN.vector == VECTOR_UD, i);
            continue;
        }
        unsigned error = (write ? PF_W : 0) | (user ? PF_U : 0) | (absent ? 0 : PF_P);
        EXPECT_SEEN(error, part & 1 ? boundary - before : boundary);
        EXPECT_THAT(*middle == 0x11112222, i);
        EXPECT_THAT(!(entry_get(layout, last, 1) & PT_D), i);
        EXPECT_THAT(!(entry_get(layout, last, part & 1 ? 0 : 1) & PT_A), i);
    }
    *middle = 0x0b0f0b0f;
}

/* An instruction over the boundary: the fetch of its second part faults, with its own address. */
static void test_fetch_crossing(const struct layout *layout)
{
    if (layout->large)
        return;
    static const uint8_t code[] = {0xb8, 1, 2, 3, 4, 0x0f, 0x0b}; /* MOV EAX, imm32; UD2 */
    unsigned last = layout->levels - 1;
    uintptr_t boundary = layout_target(layout) + PAGE;
    for (unsigned i = 0; i < 4 * 2 * 2 * 2; i++) {
        unsigned before = 1 + i % 4;
        bool user = i / 4 % 2, spoiled = i / 8 % 2, warm = i / 16;
        layout_map(layout);
        for (unsigned k = 0; k < sizeof(code); k++)
            frames[PAGE - before + k] = code[k];
        struct guest_call call = {(uint32_t)(uintptr_t)stub_fetch, user, boundary - before, 0, 0};
        if (warm) {
            guest_enter(&call);
            EXPECT_THAT(SEEN.vector == VECTOR_UD && call.ax == 0x04030201, call.ax);
            call.ax = boundary - before;
        }
        if (spoiled) {
            entry_set(layout, last, 1, entry_get(layout, last, 1) & ~(uint64_t)PT_P);
            invlpg(boundary);
        }
        guest_enter(&call);
        cases++;
        if (spoiled) {
            EXPECT_SEEN((user ? PF_U : 0u) | (layout->pae ? PF_I : 0u), boundary);
            EXPECT_THAT(SEEN.ip == (uint32_t)(boundary - before), SEEN.ip);
        } else {
            EXPECT_THAT(SEEN.vector == VECTOR_UD && call.ax == 0x04030201, call.ax);
        }
    }
    fill_frames();
}

/* --- tables that map themselves --- */

static uint64_t read_as(const struct layout *layout, uintptr_t at)
{
    return layout->pae ? *(volatile uint64_t *)at : *(volatile uint32_t *)at;
}

/* An entry of the topmost table that points to the table: used at all levels at once. */
static void test_recursive(const struct layout *layout)
{
    if (layout->large)
        return;
    enum { SLOT = 0x1f0 };
    unsigned size = layout->pae ? 8 : 4, levels = layout->levels;
    uintptr_t root = (uintptr_t)entry_address(layout, 0, 0) & ~(uintptr_t)(PAGE - 1);
    void *entry = (void *)(root + SLOT * size);
    uintptr_t linear = 0;
    for (unsigned level = 0; level < levels; level++)
        linear |= (uintptr_t)SLOT << layout->shift[level];
    if (layout->shift[0] == 39)
        linear |= (uintptr_t)0xffff << (layout->shift[0] + 9);
    else if (layout->pae)
        linear |= layout->base & 0xc0000000;
    uintptr_t own = linear + SLOT * size; /* the entry through itself */
    for (unsigned user = 0; user < 2; user++) {
        uint64_t value = root | PT_P | PT_W | (user ? PT_U : 0);
        layout_map(layout);
        __builtin_memcpy(entry, &value, size);
        flush();
        EXPECT_THAT(!guest_try(stub_read, user, own, 0, 0), SEEN.vector);
        EXPECT_THAT((read_as(layout, (uintptr_t)entry) & 0x67) == (value & 7) + PT_A, user);
        EXPECT_THAT(read_as(layout, own) == (value | PT_A), user);
        /* Another entry of the table, through it. */
        unsigned index = ((uintptr_t)entry_address(layout, 0, 0) - root) / size;
        uintptr_t other = linear + index * size;
        EXPECT_THAT(read_as(layout, other) == entry_get(layout, 0, 0), user);
        EXPECT_THAT(!guest_try(stub_write, user, own + 1, root >> 8 & 0xff, 0), SEEN.vector);
        EXPECT_THAT(((read_as(layout, own) ^ value) & 0xff) == (PT_A | PT_D), user);
        /* A write that makes the mapping itself read-only: seen after INVLPG. */
        EXPECT_THAT(!guest_try(stub_write, user, own, 5 | PT_A, 0), SEEN.vector);
        invlpg(own);
        EXPECT_THAT(guest_try(stub_write, user, own, 7, 0) == VECTOR_PF, SEEN.vector);
        EXPECT_SEEN(PF_P | PF_W | (user ? PF_U : 0u), own);
        EXPECT_THAT((read_as(layout, (uintptr_t)entry) & 0xff) == (5 | PT_A), user);
        /* The target unmapped and mapped through the recursive mapping. */
        value |= PT_A;
        __builtin_memcpy(entry, &value, size);
        invlpg(own);
        EXPECT_THAT(!try_access(layout, READ, true), user);
        EXPECT_THAT(!guest_try(stub_write, user, other, 0, 0), SEEN.vector);
        flush();
        EXPECT_THAT(try_access(layout, READ, true) == VECTOR_PF, user);
        EXPECT_THAT(!guest_try(stub_write, user, other, 7, 0), SEEN.vector);
        EXPECT_THAT(!try_access(layout, READ, true), user);
        cases += 10;
    }
    uint64_t none = 0;
    __builtin_memcpy(entry, &none, size);
    flush();
}

/* The last table as a page of its own: marking entries needs no right to write them. */
static void test_table_page(const struct layout *layout)
{
    if (layout->large)
        return;
    unsigned last = layout->levels - 1, size = layout->pae ? 8 : 4;
    uint64_t table = (uintptr_t)entry_address(layout, last, 0) & ~(uintptr_t)(PAGE - 1);
    uintptr_t page = layout_target(layout) + PAGE; /* maps the table, read-only */
    uintptr_t at = page + ((uintptr_t)entry_address(layout, last, 0) - (uintptr_t)table);
    for (unsigned warm = 0; warm < 2; warm++) {
        layout_map(layout);
        entry_set(layout, last, 1, table | PT_P | PT_U);
        flush();
        if (warm)
            EXPECT_THAT(!(read_as(layout, at) & PT_A), warm);
        EXPECT_THAT(!try_access(layout, READ, true), warm);
        EXPECT_THAT((read_as(layout, at) & (PT_A | PT_D)) == PT_A, warm);
        EXPECT_THAT(!try_access(layout, WRITE, true), warm);
        EXPECT_THAT(read_as(layout, at) & PT_D, warm);
        EXPECT_THAT((read_as(layout, at + size) & (PT_A | PT_D)) == PT_A, warm);
        EXPECT_THAT(guest_try(stub_write, false, at, 0, 0) == VECTOR_PF, SEEN.vector);
        EXPECT_SEEN(PF_P | PF_W, at);
        /* Written through the page by the supervisor under WP = 0: as good as any write. */
        write_cr0(read_cr0() & ~(uintptr_t)CR0_WP);
        EXPECT_THAT(!guest_try(stub_write, false, at, 0, 0), SEEN.vector);
        write_cr0(read_cr0() | CR0_WP);
        invlpg(layout_target(layout));
        EXPECT_THAT(try_access(layout, READ, true) == VECTOR_PF, SEEN.vector);
        cases += 6;
    }
}

void guest_main(void)
{
    fill_frames();
    for (unsigned i = 0; i < LAYOUTS; i++) {
        const struct layout *layout = &layouts[i];
        uint32_t before = cases;
        layout_enter(layout, true);
        wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
        test_downgrades(layout);
        test_upgrades(layout);
        test_privilege(layout);
        test_frames(layout);
        test_large_pages(layout);
        test_accessed_dirty(layout);
        test_crossing(layout);
        test_fetch_crossing(layout);
        test_recursive(layout);
        test_table_page(layout);
        layout_map(layout);
        print("%s: %u cases\n", layout->name, cases - before);
    }
}
