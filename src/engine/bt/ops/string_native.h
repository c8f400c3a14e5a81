/*
 * String instructions executed by the host's own: the order of the element accesses, overlaps and
 * flags come out as on hardware. n is at least 1; pointers are to the first element, and down goes
 * to lower addresses. Flags are returned in RFLAGS positions (CF PF AF ZF SF OF).
 */
#ifndef VD_ENGINE_BT_OPS_STRING_NATIVE_H
#define VD_ENGINE_BT_OPS_STRING_NATIVE_H

#include <stdbool.h>
#include <stdint.h>

void native_movs(unsigned size, bool down, uint8_t *to, const uint8_t *from, uint64_t n);
void native_stos(unsigned size, bool down, uint8_t *to, uint64_t value, uint64_t n);
/* Both return how many elements were compared; the last one decided *flags. */
uint64_t native_scas(unsigned size, bool down, bool while_equal, const uint8_t *at, uint64_t value,
                     uint64_t n, uint32_t *flags);
uint64_t native_cmps(unsigned size, bool down, bool while_equal, const uint8_t *first,
                     const uint8_t *second, uint64_t n, uint32_t *flags);
/* Flags of CMP a, b. */
uint32_t native_compare(unsigned size, uint64_t a, uint64_t b);

#endif
