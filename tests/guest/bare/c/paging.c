#include "paging.h"

#define TABLES 0x10000 /* of ../common.S: PML4 */

__attribute__((aligned(PAGE))) uint8_t frames[2 * PAGE];
static __attribute__((aligned(PAGE))) uint8_t tables[LEVELS][PAGE];

#ifdef __x86_64__
const struct layout layouts[LAYOUTS] = {
    {"4-level, 4 KiB", true, false, 4, {39, 30, 21, 12}, 0x0000708040605000},
    {"4-level, 2 MiB", true, true, 3, {39, 30, 21}, 0xffff908040600000},
    {"4-level, 1 GiB", true, true, 2, {39, 30}, 0x00007ff080000000},
};
#else
static __attribute__((aligned(PAGE))) uint32_t identity32[PAGE / 4];
static __attribute__((aligned(PAGE))) uint64_t identity_pae[2][PAGE / 8]; /* directory, table */
static __attribute__((aligned(PAGE))) uint64_t pdpt[4];
const struct layout layouts[LAYOUTS] = {
    {"32-bit, 4 KiB", false, false, 2, {22, 12}, 0x40605000},
    {"32-bit, 4 MiB", false, true, 1, {22}, 0x90400000},
    {"PAE, 4 KiB", true, false, 2, {21, 12}, 0x40605000},
    {"PAE, 2 MiB", true, true, 1, {21}, 0xc0600000},
};
#endif

uintptr_t layout_target(const struct layout *layout)
{
    return layout->base + (layout->large ? (uintptr_t)frames : 0);
}

void *entry_address(const struct layout *layout, unsigned level, unsigned n)
{
    unsigned size = layout->pae ? 8 : 4;
    unsigned index = (unsigned)(layout->base >> layout->shift[level]) % (PAGE / size) + n;
#ifdef __x86_64__
    uint8_t *table = level == 0 ? (uint8_t *)TABLES : tables[level];
#else
    uint8_t *table = tables[level];
#endif
    return table + (uintptr_t)index * size;
}

uint64_t entry_get(const struct layout *layout, unsigned level, unsigned n)
{
    void *at = entry_address(layout, level, n);
    return layout->pae ? *(volatile uint64_t *)at : *(volatile uint32_t *)at;
}

void entry_set(const struct layout *layout, unsigned level, unsigned n, uint64_t value)
{
    void *at = entry_address(layout, level, n);
    if (layout->pae)
        *(volatile uint64_t *)at = value;
    else
        *(volatile uint32_t *)at = (uint32_t)value;
}

uint64_t entry_frame(const struct layout *layout, unsigned level, unsigned n)
{
    if (level + 1 < layout->levels)
        return (uintptr_t)tables[level + 1];
    if (layout->large)
        return PT_PS | (uint64_t)n << layout->shift[level];
    return (uintptr_t)frames + n * PAGE;
}

void layout_map(const struct layout *layout)
{
    for (unsigned level = 0; level < layout->levels; level++)
        entry_set(layout, level, 0, entry_frame(layout, level, 0) | PT_ALL);
    if (!layout->large)
        entry_set(layout, layout->levels - 1, 1,
                  entry_frame(layout, layout->levels - 1, 1) | PT_ALL);
    flush();
}

void flush(void)
{
    write_cr3(read_cr3());
}

unsigned physical_bits(void)
{
    if (cpuid(0x80000000, 0).eax < 0x80000008)
        return 36;
    return cpuid(0x80000008, 0).eax & 0xff;
}

#ifdef __x86_64__
void layout_enter(const struct layout *layout, bool pse)
{
    (void)pse;
    write_cr4(read_cr4() & ~(uintptr_t)CR4_PGE);
    layout_map(layout);
}
#else
static void identity_map(const struct layout *layout)
{
    if (!layout->pae) {
        for (unsigned i = 0; i < PAGE / 4; i++)
            identity32[i] = i * PAGE | PT_ALL;
        *(uint32_t *)tables[0] = (uintptr_t)identity32 | PT_ALL;
        return;
    }
    for (unsigned i = 0; i < PAGE / 8; i++)
        identity_pae[1][i] = i * PAGE | PT_ALL;
    identity_pae[0][0] = (uintptr_t)identity_pae[1] | PT_ALL;
    pdpt[0] = (uintptr_t)identity_pae[0] | PT_P;
    pdpt[layout->base >> 30] = (uintptr_t)tables[0] | PT_P;
}

void layout_enter(const struct layout *layout, bool pse)
{
    write_cr0(read_cr0() & ~CR0_PG);
    identity_map(layout);
    uint32_t cr4 = read_cr4() & ~(uint32_t)(CR4_PAE | CR4_PSE | CR4_PGE);
    write_cr4(cr4 | (layout->pae ? CR4_PAE : 0) | (pse ? CR4_PSE : 0));
    write_cr3(layout->pae ? (uintptr_t)pdpt : (uintptr_t)tables[0]);
    layout_map(layout);
    write_cr0(read_cr0() | CR0_PG | CR0_WP);
}
#endif
