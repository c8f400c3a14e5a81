/* A small random number generator (splitmix64): one seed makes one test. */
#ifndef VD_TESTS_INSN_RANDOM_H
#define VD_TESTS_INSN_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct random {
    uint64_t state;
};

static inline uint64_t random_u64(struct random *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

/* 0 .. bound-1 */
static inline unsigned random_below(struct random *r, unsigned bound)
{
    return (unsigned)((random_u64(r) >> 32) * bound >> 32);
}

static inline bool random_percent(struct random *r, unsigned percent)
{
    return random_below(r, 100) < percent;
}

#endif
