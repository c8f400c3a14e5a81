/*
 * A kernel that checks what a multiboot loader owes it (Multiboot Specification 0.6.96, chapters
 * 3.2 and 3.3; Multiboot2 Specification 2.0, chapters 3.3 and 3.6), prints PASS or the first
 * failure on COM1 and ends through isa-debug-exit with 10h or 11h.
 *
 * It expects the arguments "mem=64 check" (MiB of RAM) and one module whose contents are the bytes
 * i * 7 + i / 256 and whose arguments end in "first module".
 */
#include <stdint.h>

#ifndef VIDEO
#define VIDEO 0
#endif
#ifndef HAS_SECTIONS
#define HAS_SECTIONS 0
#endif

enum { MODULE_SIZE = 300000, MEMORY = 64 << 20 };

extern uint32_t entry_eax, entry_ebx, entry_flags, entry_cr0;
extern uint8_t image_start[], bss_end[];
void test_main(void);

#ifndef ADDRESSES
/* Its own segment below 1 MiB, where the information for us might lie. */
__attribute__((section(".low"))) uint8_t low[5000] = {1, 2, 3, [4999] = 4};
#endif

static uint8_t zeros[100000]; /* .bss */

static inline void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t in8(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void print(const char *text)
{
    for (; *text; text++) {
        while (!(in8(0x3fd) & 0x20))
            ;
        out8(0x3f8, (uint8_t)*text);
    }
}

static void print_number(uint32_t value)
{
    char text[9];
    for (int i = 0; i < 8; i++)
        text[i] = "0123456789abcdef"[value >> (28 - 4 * i) & 15];
    text[8] = 0;
    print(text);
}

__attribute__((noreturn)) static void end(int passed)
{
    out8(0xf4, passed ? 0x10 : 0x11);
    for (;;)
        __asm__ volatile("cli; hlt");
}

static void check(int good, const char *what, uint32_t value)
{
    if (good)
        return;
    print("FAIL ");
    print(what);
    print(" ");
    print_number(value);
    print("\n");
    end(0);
}
#define CHECK(condition, value) check((condition) != 0, #condition, (uint32_t)(value))

static uint32_t get(uint32_t address)
{
    return *(const volatile uint32_t *)address;
}

static int ends_with(const char *text, const char *tail)
{
    const char *a = text, *b = tail;
    while (*a)
        a++;
    while (*b)
        b++;
    while (b > tail && a > text) {
        if (*--a != *--b)
            return 0;
    }
    return b == tail;
}

/* What the processor does first after a reset, at the end of the address space. */
#define RESET_VECTOR(segment)                                                                      \
    ({                                                                                             \
        uint32_t value_;                                                                           \
        __asm__ volatile("movl %%" segment ":0xfffffff0, %0" : "=r"(value_));                      \
        value_;                                                                                    \
    })

static void check_state(void)
{
    CHECK((entry_flags & 0x20200) == 0, entry_flags); /* VM, IF */
    CHECK((entry_cr0 & 0x80000001) == 1, entry_cr0);  /* PG, PE */
    /* Segments begin at 0 and end at 4 GiB. */
    CHECK(get(0xfffffff0) == RESET_VECTOR("cs"), RESET_VECTOR("cs"));
    CHECK(get(0xfffffff0) == RESET_VECTOR("es"), RESET_VECTOR("es"));
    CHECK(get(0xfffffff0) == RESET_VECTOR("fs"), RESET_VECTOR("fs"));
    CHECK(get(0xfffffff0) == RESET_VECTOR("gs"), RESET_VECTOR("gs"));
    CHECK(get(0xfffffff0) == RESET_VECTOR("ss"), RESET_VECTOR("ss"));
    CHECK((get(0xfffffff0) & 0xff) == 0xea, get(0xfffffff0)); /* a far jump */
    volatile uint32_t *low_word = (volatile uint32_t *)0x600, low_kept = *low_word;
    volatile uint32_t *high_word = (volatile uint32_t *)0x100600, high_kept = *high_word;
    *high_word = 0x12345678;
    *low_word = 0x87654321;
    CHECK(*high_word == 0x12345678, *high_word); /* A20 */
    *low_word = low_kept;
    *high_word = high_kept; /* of a module */
    for (uint32_t i = 0; i < sizeof(zeros); i++)
        CHECK(((volatile uint8_t *)zeros)[i] == 0, i);
#ifndef ADDRESSES
    CHECK(low[0] == 1 && low[2] == 3 && low[3] == 0 && low[4999] == 4, low);
#endif
}

static void check_module(uint32_t start, uint32_t module_end, const char *arguments)
{
    CHECK(module_end - start == MODULE_SIZE, module_end - start);
    CHECK(start % 4096 == 0, start);
    CHECK(start >= (uint32_t)bss_end, start);
    for (uint32_t i = 0; i < MODULE_SIZE; i++)
        CHECK(*(const uint8_t *)(start + i) == (uint8_t)(i * 7 + i / 256), i);
    CHECK(ends_with(arguments, "first module"), arguments);
}

/* One entry each; at the end the sums. */
static uint64_t ram_below_1m, ram_above_1m;
static int kernel_is_ram;

static void check_map_entry(uint64_t address, uint64_t size, uint32_t type)
{
    if (type != 1)
        return;
    if (address < 0x100000)
        ram_below_1m += size;
    else
        ram_above_1m += size;
    kernel_is_ram |= address <= (uint32_t)image_start && address + size > (uint32_t)bss_end;
}

static void check_memory(uint32_t lower, uint32_t upper)
{
    CHECK(ram_below_1m >= 0x90000 && ram_below_1m <= 0xa0000, ram_below_1m);
    CHECK(ram_above_1m <= MEMORY - 0x100000 && ram_above_1m >= MEMORY - 0x200000, ram_above_1m);
    CHECK(kernel_is_ram, 0);
    CHECK(lower >= 576 && lower <= 640, lower);
    CHECK(upper <= MEMORY / 1024 - 1024 && upper >= MEMORY / 1024 - 2048, upper);
}

static void check_framebuffer(uint32_t at)
{
    uint32_t width = get(at + 12), height = get(at + 16);
    uint8_t depth = *(uint8_t *)(at + 20), type = *(uint8_t *)(at + 21);
    if (!VIDEO) {
        CHECK(type == 2 && width == 80 && height == 25 && get(at) == 0xb8000, type);
        return;
    }
    CHECK(type == 1 && depth == 32 && width == 800 && height == 600, type);
    CHECK(get(at + 8) >= 3200, get(at + 8));
    volatile uint32_t *pixels = (volatile uint32_t *)get(at);
    pixels[0] = 0xff0000;
    CHECK(pixels[0] == 0xff0000, pixels[0]);
}

/* The name table of the sections holds ".text". */
static void check_sections(uint32_t count, uint32_t entry_size, uint32_t headers, uint32_t names)
{
    CHECK(names < count, names);
    uint32_t table = get(headers + names * entry_size + (entry_size == 64 ? 16 : 12));
    CHECK(table >= (uint32_t)image_start, table);
    for (uint32_t i = 1; i < count; i++) {
        if (ends_with((const char *)table + get(headers + i * entry_size), ".text"))
            return;
    }
    CHECK(!"a section .text", count);
}

#if VERSION == 1
static void check_information(uint32_t info)
{
    uint32_t flags = get(info);
    CHECK(entry_eax == 0x2badb002, entry_eax);
    CHECK((flags & 0x4d) == 0x4d, flags);
    CHECK(ends_with((const char *)get(info + 16), " mem=64 check"), get(info + 16));
    CHECK(get(info + 20) == 1, get(info + 20));
    uint32_t module = get(info + 24);
    check_module(get(module), get(module + 4), (const char *)get(module + 8));
    uint32_t at = get(info + 48), map_end = at + get(info + 44);
    for (; at < map_end; at += get(at) + 4)
        check_map_entry(get(at + 4) | (uint64_t)get(at + 8) << 32,
                        get(at + 12) | (uint64_t)get(at + 16) << 32, get(at + 20));
    check_memory(get(info + 4), get(info + 8));
    CHECK((flags & 0x200) && *(const char *)get(info + 64), flags);
    if (VIDEO) {
        CHECK(flags & 0x800, flags);
        CHECK(get(get(info + 72)) == 0x41534556, get(info + 72)); /* "VESA" */
    }
    CHECK(flags & 0x1000, flags);
    check_framebuffer(info + 88);
    if (HAS_SECTIONS) {
        CHECK(flags & 0x20, flags);
        check_sections(get(info + 28), get(info + 32), get(info + 36), get(info + 40));
    }
}
#else
static void check_tag(uint32_t type, uint32_t tag)
{
    switch (type) {
    case 1:
        CHECK(ends_with((const char *)tag + 8, " mem=64 check"), tag);
        break;
    case 2:
        CHECK(*(const char *)tag + 8, tag);
        break;
    case 3:
        check_module(get(tag + 8), get(tag + 12), (const char *)tag + 16);
        break;
    case 6:
        CHECK(get(tag + 8) == 24 && get(tag + 12) == 0, get(tag + 8));
        for (uint32_t at = tag + 16; at < tag + get(tag + 4); at += get(tag + 8))
            check_map_entry(get(at) | (uint64_t)get(at + 4) << 32,
                            get(at + 8) | (uint64_t)get(at + 12) << 32, get(at + 16));
        break;
    case 7:
        CHECK(get(tag + 16) == 0x41534556, get(tag + 16));
        break;
    case 8:
        check_framebuffer(tag + 8);
        break;
    case 9:
        check_sections(get(tag + 8), get(tag + 12), tag + 20, get(tag + 16));
        break;
    case 14:
        CHECK(get(tag + 8) == 0x20445352 && get(tag + 12) == 0x20525450, tag); /* "RSD PTR " */
        break;
    default:
        break;
    }
}

static void check_information(uint32_t info)
{
    uint32_t seen = 0, memory = 0;
    CHECK(entry_eax == 0x36d76289, entry_eax);
    CHECK(info % 8 == 0, info);
    uint32_t info_end = info + get(info), tag = info + 8;
    for (; get(tag) != 0; tag += (get(tag + 4) + 7) & ~7u) {
        CHECK(tag + 8 < info_end, tag);
        CHECK(get(tag) == 3 || !(seen >> get(tag) & 1), get(tag));
        check_tag(get(tag), tag);
        seen |= 1u << get(tag);
        memory = get(tag) == 4 ? tag : memory;
    }
    CHECK(get(tag + 4) == 8 && tag + 8 == info_end, tag);
    CHECK((seen & 0x415e) == 0x415e, seen);
    CHECK(!VIDEO || (seen & 0x80), seen);
    CHECK(!HAS_SECTIONS || (seen & 0x200), seen);
    check_memory(get(memory + 8), get(memory + 12));
}
#endif

void test_main(void)
{
    out8(0x3fb, 3); /* 8 bits */
    check_state();
    check_information(entry_ebx);
    print("PASS\n");
    end(1);
}
