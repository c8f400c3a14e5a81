/* Numbers of 1 to 8 bytes in images and tables, at any address. */
#ifndef VD_TESTS_SUPPORT_LITTLE_ENDIAN_H
#define VD_TESTS_SUPPORT_LITTLE_ENDIAN_H

#include <stdint.h>

static inline void put(uint8_t *at, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static inline uint64_t get(const uint8_t *at, unsigned size)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

#endif
