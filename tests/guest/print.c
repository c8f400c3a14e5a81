#include "print.h"

#include <stdarg.h>
#include <stdint.h>

static void print_text(const char *text)
{
    while (*text)
        print_char(*text++);
}

static void print_hex(uint64_t value)
{
    int shift = 60;

    while (shift > 0 && !(value >> shift))
        shift -= 4;
    for (; shift >= 0; shift -= 4)
        print_char("0123456789abcdef"[value >> shift & 15]);
}

static void print_decimal(uint32_t value)
{
    if (value >= 10)
        print_decimal(value / 10);
    print_char((char)('0' + value % 10));
}

void print(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    for (; *format; format++) {
        if (*format != '%') {
            print_char(*format);
        } else if (*++format == 's') {
            print_text(va_arg(arguments, const char *));
        } else if (*format == 'u') {
            print_decimal(va_arg(arguments, unsigned));
        } else if (*format == 'x') {
            print_hex(va_arg(arguments, unsigned));
        } else { /* llx */
            format += 2;
            print_hex(va_arg(arguments, unsigned long long));
        }
    }
    va_end(arguments);
}
