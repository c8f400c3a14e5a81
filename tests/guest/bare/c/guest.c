#include "guest.h"

unsigned guest_try(const uint8_t *stub, bool user, uintptr_t ax, uintptr_t cx, uintptr_t dx)
{
    struct guest_call call = {(uint32_t)(uintptr_t)stub, user, ax, cx, dx};
    guest_enter(&call);
    /* behind the instruction is UD2 */
    bool done = SEEN.vector == VECTOR_UD && SEEN.ip != call.code;
    return done ? 0 : SEEN.vector;
}

void print(const char *text)
{
    for (; *text; text++)
        out8(0x402, (uint8_t)*text);
}

void print_hex(uint64_t value)
{
    int digit = 60;
    while (digit > 0 && !(value >> digit))
        digit -= 4;
    for (; digit >= 0; digit -= 4)
        out8(0x402, (uint8_t) "0123456789abcdef"[value >> digit & 15]);
}

void print_decimal(uint32_t value)
{
    char digits[10];
    unsigned count = 0;
    do
        digits[count++] = (char)('0' + value % 10);
    while (value /= 10);
    while (count)
        out8(0x402, (uint8_t)digits[--count]);
}
