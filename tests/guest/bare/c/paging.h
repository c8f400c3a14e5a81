/*
 * Page tables for the bare-metal tests: low memory is mapped to itself for everyone, and one linear
 * address outside of it goes through tables that the test writes entry by entry.
 */
#ifndef PAGING_H
#define PAGING_H

#include "guest.h"

enum { PT_P = 1, PT_W = 2, PT_U = 4, PT_A = 0x20, PT_D = 0x40, PT_PS = 0x80, PT_G = 0x100 };
#define PT_NX  (1ULL << 63)
#define PT_ALL (PT_P | PT_W | PT_U)
enum { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16 };
enum { PAGE = 4096, LEVELS = 4 };

struct layout { /* one way to map the address */
    const char *name;
    bool pae, large; /* 8-byte entries; the last entry maps a large page */
    unsigned levels; /* topmost first, the last one maps the page */
    unsigned shift[LEVELS];
    uintptr_t base; /* start of the linear region that the test's tables map */
};

enum { LAYOUTS_32 = 4, LAYOUTS_64 = 3 };
#ifdef __x86_64__
enum { LAYOUTS = LAYOUTS_64 };
#else
enum { LAYOUTS = LAYOUTS_32 };
#endif
extern const struct layout layouts[LAYOUTS];

/* Two adjacent pages of RAM, which the test's address maps to. */
extern uint8_t frames[2 * PAGE];

/* The linear address that reaches frames[0]; with large pages as part of the page at 0. */
uintptr_t layout_target(const struct layout *layout);
/* Entry n places behind the one that the walk for the target meets at a level. */
uint64_t entry_get(const struct layout *layout, unsigned level, unsigned n);
void entry_set(const struct layout *layout, unsigned level, unsigned n, uint64_t value);
/* An entry's address part and PS. */
uint64_t entry_frame(const struct layout *layout, unsigned level, unsigned n);
/* Where it is in memory. */
void *entry_address(const struct layout *layout, unsigned level, unsigned n);

/* Switches to paging with this layout; CR4.PSE as given where it matters, CR4.PGE clear. */
void layout_enter(const struct layout *layout, bool pse);
/* All entries for both frames present, writable, user. */
void layout_map(const struct layout *layout);
void flush(void);
unsigned physical_bits(void);

#endif
