/*
 * MODES 32 64. Every combination of permission bits at every level with every kind of access,
 * CR0.WP and EFER.NXE, against the rules of SDM vol. 3, 4.6 to 4.8: outcome, error code, CR2, data,
 * accessed and dirty flags.
 */
#include "paging.h"

/* What a level's entry is: 0-7 present with bits of these; then not present, or a reserved bit. */
enum { STATE_W = 1, STATE_U = 2, STATE_NX = 4, STATE_ABSENT = 8, STATE_RESERVED, STATES };

enum { READS = 1, WRITES = 2, FETCHES = 4, USER = 8, IMPLICIT = 16, NEVER_FAULTS = 32 };
struct access {
    const char *name;
    const uint8_t *stub;
    bool at_cpl3;
    unsigned kind;
};

#define RANGE(high, low) ((~0ULL >> (63 - (high))) & (~0ULL << (low)))

/* Offsets in the frame. */
enum { AT_READ = 0x10, AT_WRITE = 0x20, AT_CODE = 0x30, AT_DESCRIPTORS = 0x40 };

struct setup {
    const struct layout *layout;
    uint64_t entry[LEVELS];
    unsigned state[LEVELS];
    bool wp, nxe, pse;
};

static uint32_t cases;

/* --- the manual's rules --- */

/* Bits that must be 0 in a present entry, for this processor's address width. */
static uint64_t reserved_bits(const struct setup *s, unsigned level)
{
    const struct layout *layout = s->layout;
    bool last = level + 1 == layout->levels, large = last && layout->large;
    unsigned shift = layout->shift[level], width = physical_bits();
    if (!layout->pae) {
        if (!large)
            return 0;
        /* table 4-4: bit 21, and what PSE-36 would use above the address width */
        unsigned top = width > 40 ? 40 : width;
        return RANGE(21, 21) | (top < 40 ? RANGE(21, top - 19) : 0);
    }
    bool long_mode = layout->shift[0] == 39;
    uint64_t bits = RANGE(long_mode ? 51 : 62, width);
    if (large)
        bits |= RANGE(shift - 1, 13);
    if (shift == 39)
        bits |= PT_PS;
    if (!s->nxe)
        bits |= PT_NX;
    return bits;
}

/* Bits without a meaning, which change nothing. */
static uint64_t ignored_bits(const struct setup *s, unsigned level)
{
    const struct layout *layout = s->layout;
    bool last = level + 1 == layout->levels;
    uint64_t bits = RANGE(11, 9);
    if (last) /* PAT */
        bits |= layout->large ? 1 << 12 : PT_PS;
    if (last)
        bits |= PT_G; /* CR4.PGE is clear */
    if (layout->shift[0] == 39)
        bits |= RANGE(58, 52);
    if (!layout->pae && !last && !s->pse)
        bits |= PT_PS;
    return bits | 0x18; /* PWT, PCD */
}

struct outcome {
    bool faults;
    unsigned error;
    unsigned used; /* levels whose entries take part */
};

/* 4.7: error code; 4.6.1: rights. One access that reads, writes or fetches. */
static struct outcome expected(const struct setup *s, unsigned kind)
{
    struct outcome out = {true, 0, 0};
    bool user = (kind & USER) && !(kind & IMPLICIT), all_user = true, all_writable = true;
    bool no_execute = false;
    if (kind & WRITES)
        out.error |= PF_W;
    if (user)
        out.error |= PF_U;
    if ((kind & FETCHES) && s->nxe && s->layout->pae)
        out.error |= PF_I;
    for (unsigned level = 0; level < s->layout->levels; level++) {
        uint64_t entry = s->entry[level];
        if (!(entry & PT_P))
            return out;
        if (entry & reserved_bits(s, level)) {
            out.error |= PF_P | PF_RSVD;
            return out;
        }
        all_user = all_user && (entry & PT_U);
        all_writable = all_writable && (entry & PT_W);
        no_execute = no_execute || (entry & PT_NX);
        out.used = level + 1;
    }
    out.error |= PF_P;
    if (user && !all_user)
        return out;
    if ((kind & WRITES) && !all_writable && (user || s->wp))
        return out;
    if ((kind & FETCHES) && no_execute)
        return out;
    out.faults = false;
    return out;
}

/* --- one case --- */

static void complain(const struct setup *s, const struct access *a, const char *what, uint64_t got,
                     uint64_t wanted)
{
    print("%s%s%s%s", s->layout->name, s->wp ? " WP" : "", s->nxe ? " NXE" : "",
          s->pse ? " PSE" : "");
    for (unsigned level = 0; level < s->layout->levels; level++) {
        print(" %llx", (unsigned long long)s->entry[level]);
    }
    print("%s%s: %s %llx instead of %llx\n", a->at_cpl3 ? ", ring 3 " : ", ring 0 ", a->name, what,
          (unsigned long long)got, (unsigned long long)wanted);
    guest_fail(__LINE__, cases);
}

static volatile uint32_t *frame_word(unsigned offset)
{
    return (volatile uint32_t *)(frames + offset);
}

static void fill_frame(void)
{
    *frame_word(AT_READ) = 0x11223344;
    *frame_word(AT_WRITE) = 0x55667700;
    *frame_word(AT_CODE) = 0x00000b0f; /* UD2 */
    for (unsigned i = 0; i < 2; i++) { /* data of ring 3, accessed and not */
        *frame_word(AT_DESCRIPTORS + 8 * i) = 0x0000ffff;
        *frame_word(AT_DESCRIPTORS + 8 * i + 4) = i ? 0x00cff200 : 0x00cff300;
    }
}

/*
 * After a walk to the end every entry is accessed, and the last one dirty if it wrote. A walk that
 * faults may have marked entries above the last one that took part (4.8).
 */
static void check_flags(const struct setup *s, const struct access *a, const struct outcome *out,
                        bool read_part)
{
    unsigned last = s->layout->levels - 1;
    for (unsigned level = 0; level <= last; level++) {
        uint64_t entry = entry_get(s->layout, level, 0), must = 0, may = 0;
        if (!out->faults)
            must = PT_A | (level == last && (a->kind & WRITES) ? PT_D : 0);
        else if (level < out->used && (level < last || read_part))
            may = PT_A;
        if (a->kind & NEVER_FAULTS) {
            may |= level < out->used ? must : 0;
            must = 0;
        }
        uint64_t set = entry ^ s->entry[level];
        if ((set & must) != must || (set & ~(must | may)))
            complain(s, a, "entry", entry, s->entry[level] | must);
    }
}

static void check_data(const struct setup *s, const struct access *a, bool faulted, uintptr_t ax)
{
    bool changes = a->stub == stub_write || a->stub == stub_modify;
    uint32_t written = 0x55667700 | (!faulted && changes ? 0x42 : 0);
    if (!faulted && a->stub == stub_read && (ax & 0xff) != 0x44)
        complain(s, a, "read", ax & 0xff, 0x44);
    if (*frame_word(AT_WRITE) != written)
        complain(s, a, "memory", *frame_word(AT_WRITE), written);
    bool marked = !faulted && (a->kind & IMPLICIT) && (a->kind & WRITES);
    if (*frame_word(AT_DESCRIPTORS + 12) != 0x00cff200 + (marked ? 0x100 : 0))
        complain(s, a, "descriptor", *frame_word(AT_DESCRIPTORS + 12), 0x00cff200);
    *frame_word(AT_WRITE) = 0x55667700;
    *frame_word(AT_DESCRIPTORS + 12) = 0x00cff200;
}

static void run_case(const struct setup *s, const struct access *a)
{
    uintptr_t page = layout_target(s->layout), at = page + AT_READ, ax;
    if (a->kind & WRITES)
        at = page + AT_WRITE;
    if (a->kind & FETCHES)
        at = page + AT_CODE;
    struct guest_call call = {(uint32_t)(uintptr_t)a->stub, a->at_cpl3, at, 0x42, at};
    if (a->kind & IMPLICIT) { /* a selector of the LDT, which is at AT_DESCRIPTORS */
        at = page + AT_DESCRIPTORS + (a->kind & WRITES ? 8 : 0);
        call.ax = a->kind & WRITES ? 15 : 7;
    }
    for (unsigned level = 0; level < s->layout->levels; level++)
        entry_set(s->layout, level, 0, s->entry[level]);
    flush();
    guest_enter(&call);
    ax = call.ax;
    cases++;

    unsigned kind = a->kind | (a->at_cpl3 ? USER : 0);
    struct outcome out = expected(s, kind);
    bool read_part = false;
    if ((kind & IMPLICIT) && (kind & WRITES)) { /* the descriptor is read first */
        struct outcome read = expected(s, (kind & ~WRITES) | READS);
        read_part = !read.faults;
        if (read.faults)
            out = read;
    }
    bool completed = SEEN.vector == VECTOR_UD && SEEN.ip != call.code;
    bool faults = out.faults && !(kind & NEVER_FAULTS);
    if (completed == faults)
        complain(s, a, "vector", SEEN.vector, faults ? VECTOR_PF : VECTOR_UD);
    if (faults) {
        if (SEEN.vector != VECTOR_PF)
            complain(s, a, "vector", SEEN.vector, VECTOR_PF);
        if (SEEN.error != out.error)
            complain(s, a, "error code", SEEN.error, out.error);
        /* which byte of a descriptor the processor marks is its own business */
        if (read_part ? read_cr2() - at > 7 : read_cr2() != at)
            complain(s, a, "CR2", read_cr2(), at);
        uint32_t ip = kind & FETCHES ? (uint32_t)at : call.code;
        if (SEEN.ip != ip)
            complain(s, a, "pc", SEEN.ip, ip);
    }
    check_flags(s, a, &out, read_part);
    check_data(s, a, faults, ax);
}

/* --- all cases --- */

static uint64_t nth_bit(uint64_t mask, unsigned n)
{
    unsigned count = 0;
    for (uint64_t left = mask; left; left &= left - 1)
        count++;
    for (n %= count; n; n--)
        mask &= mask - 1;
    return mask & -mask;
}

/* False if the layout has no such state. The rest of the entry varies with a running number. */
static bool make_entry(struct setup *s, unsigned level, unsigned state, uint32_t number)
{
    uint64_t reserved = reserved_bits(s, level), entry = entry_frame(s->layout, level, 0);
    uint64_t rights[] = {0, PT_W, PT_U, PT_W | PT_U};
    if (number & 1)
        entry |= ignored_bits(s, level);
    s->state[level] = state;
    if (state < STATE_ABSENT) {
        if ((state & STATE_NX) && !s->layout->pae)
            return false;
        entry |= PT_P | rights[state & 3] | (state & STATE_NX ? PT_NX : 0);
    } else if (state == STATE_ABSENT) {
        /* everything else means nothing then */
        entry |= rights[number % 4] | (number % 8 > 3 ? reserved : 0);
    } else {
        if (!reserved)
            return false;
        entry |= PT_P | rights[number % 4] | nth_bit(reserved, number / 4);
    }
    s->entry[level] = entry;
    return true;
}

static void run_layout(const struct layout *layout, bool wp, bool nxe, bool pse)
{
    const struct access accesses[] = {
        {"read", stub_read, false, READS},
        {"read", stub_read, true, READS},
        {"write", stub_write, false, WRITES},
        {"write", stub_write, true, WRITES},
        {"modify", stub_modify, false, WRITES},
        {"modify", stub_modify, true, WRITES},
        {"compare and exchange", stub_exchange, true, WRITES},
        {"fetch", stub_fetch, false, FETCHES},
        {"fetch", stub_fetch, true, FETCHES},
        {"descriptor", stub_segment, false, READS | IMPLICIT},
        {"descriptor", stub_segment, true, READS | IMPLICIT},
        {"new descriptor", stub_segment, true, WRITES | IMPLICIT},
        {"prefetch", stub_prefetch, true, READS | NEVER_FAULTS},
    };
    enum { ACCESSES = sizeof(accesses) / sizeof(accesses[0]) };
    struct setup s = {.layout = layout, .wp = wp, .nxe = nxe, .pse = pse};
    unsigned combinations = 1;
    uint32_t number = 0;
    for (unsigned level = 0; level < layout->levels; level++)
        combinations *= STATES;
    for (unsigned i = 0; i < combinations; i++) {
        bool exists = true;
        unsigned left = i;
        for (unsigned level = 0; level < layout->levels; level++, left /= STATES)
            exists = exists && make_entry(&s, level, left % STATES, number + level);
        for (unsigned k = 0; exists && k < ACCESSES; k++)
            run_case(&s, &accesses[k]);
        number = number * 5 + 0x1234567;
    }
}

/* LDTR with its table in the page under test. */
static void load_ldt(uintptr_t base)
{
    enum { SELECTOR = 0x88, GDT = 0x3000 };
    volatile uint32_t *descriptor = (volatile uint32_t *)(GDT + SELECTOR);
    descriptor[0] = (uint32_t)(base << 16) | 15;
    descriptor[1] = (uint32_t)(base >> 24 & 0xff) << 24 | 0x8200 | (uint32_t)(base >> 16 & 0xff);
#ifdef __x86_64__
    descriptor[2] = (uint32_t)(base >> 32);
    descriptor[3] = 0;
#endif
    __asm__ volatile("lldt %w0" : : "r"(SELECTOR) : "memory");
}

void guest_main(void)
{
    for (unsigned i = 0; i < LAYOUTS; i++) {
        const struct layout *layout = &layouts[i];
        uint32_t before = cases;
        fill_frame();
        for (unsigned v = 0; v < 8; v++) {
            bool wp = v & 1, nxe = v & 2, pse = v & 4;
            /* PSE matters to 32-bit paging only, which needs it for large pages */
            if (layout->pae ? pse : layout->large && !pse)
                continue;
            layout_enter(layout, pse);
            load_ldt(layout_target(layout) + AT_DESCRIPTORS);
            uint64_t efer = rdmsr(MSR_EFER) & ~(uint64_t)EFER_NXE;
            wrmsr(MSR_EFER, efer | (nxe ? EFER_NXE : 0));
            write_cr0((read_cr0() & ~(uintptr_t)CR0_WP) | (wp ? CR0_WP : 0));
            run_layout(layout, wp, nxe, pse);
        }
        layout_map(layout);
        print("%s: %u cases\n", layout->name, cases - before);
    }
}
