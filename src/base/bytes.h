/*
 * Numbers of 1 to 8 bytes at any alignment, and moving bytes without vector registers. Code that
 * runs while guest x87/SSE/AVX state is live in host registers must not call memcpy and friends:
 * libc implements them with vector moves.
 */
#ifndef VD_BASE_BYTES_H
#define VD_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Unaligned accesses that may alias anything. */
struct bytes_u16 {
    uint16_t v;
} __attribute__((packed, may_alias));
struct bytes_u32 {
    uint32_t v;
} __attribute__((packed, may_alias));
struct bytes_u64 {
    uint64_t v;
} __attribute__((packed, may_alias));

/*
 * Copies n bytes between buffers that do not overlap. Sizes 1, 2, 4 and 8 are one load and one
 * store, so that a naturally aligned guest access stays indivisible.
 */
static inline void bytes_copy(void *to, const void *from, size_t n)
{
    uint8_t *d = (uint8_t *)to;
    const uint8_t *s = (const uint8_t *)from;
    if (n == 8) {
        ((struct bytes_u64 *)d)->v = ((const struct bytes_u64 *)s)->v;
    } else if (n == 4) {
        ((struct bytes_u32 *)d)->v = ((const struct bytes_u32 *)s)->v;
    } else if (n == 1) {
        *d = *s;
    } else if (n == 2) {
        ((struct bytes_u16 *)d)->v = ((const struct bytes_u16 *)s)->v;
    } else if (n > 8 && n <= 16) { /* two overlapping moves */
        uint64_t first = ((const struct bytes_u64 *)s)->v;
        uint64_t last = ((const struct bytes_u64 *)(s + n - 8))->v;
        ((struct bytes_u64 *)d)->v = first;
        ((struct bytes_u64 *)(d + n - 8))->v = last;
    } else {
        __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
    }
}

/* Mask of a number of n bytes, 1 to 8. */
static inline uint64_t bytes_mask(unsigned n)
{
    return n >= 8 ? UINT64_MAX : (1ull << (8 * n)) - 1;
}

/* The little-endian number of 2, 4 or 8 bytes at p. */
static inline uint64_t bytes_load(const void *p, unsigned n)
{
    if (n == 8)
        return ((const struct bytes_u64 *)p)->v;
    return n == 4 ? ((const struct bytes_u32 *)p)->v : ((const struct bytes_u16 *)p)->v;
}

static inline void bytes_store(void *p, unsigned n, uint64_t value)
{
    if (n == 8)
        ((struct bytes_u64 *)p)->v = value;
    else if (n == 4)
        ((struct bytes_u32 *)p)->v = (uint32_t)value;
    else
        ((struct bytes_u16 *)p)->v = (uint16_t)value;
}

/* Sets n bytes to value. */
static inline void bytes_fill(void *to, uint8_t value, size_t n)
{
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(value) : "memory");
}

static inline void bytes_zero(void *to, size_t n)
{
    bytes_fill(to, 0, n);
}

static inline bool bytes_equal(const void *a, const void *b, size_t n)
{
    const uint8_t *p = (const uint8_t *)a, *q = (const uint8_t *)b;
    for (; n >= 8; n -= 8, p += 8, q += 8)
        if (((const struct bytes_u64 *)p)->v != ((const struct bytes_u64 *)q)->v)
            return false;
    for (; n; n--, p++, q++)
        if (*p != *q)
            return false;
    return true;
}

#endif
