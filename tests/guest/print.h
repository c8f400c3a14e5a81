/* Text from the programs that run without an operating system. */
#ifndef VD_TESTS_GUEST_PRINT_H
#define VD_TESTS_GUEST_PRINT_H

/* %s, %u, %x and %llx, without width or flags. */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Where it goes; each kind of program has its own. */
void print_char(char c);

#endif
