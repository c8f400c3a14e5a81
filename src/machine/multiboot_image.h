/*
 * Multiboot kernel images: header and segments (Multiboot Specification 0.6.96, chapter 3.1;
 * Multiboot2 Specification 2.0, chapter 3.1). Images are ELF executables, 32 or 64-bit, or have
 * their load addresses in the header ("a.out kludge", address tag).
 */
#ifndef VD_MACHINE_MULTIBOOT_IMAGE_H
#define VD_MACHINE_MULTIBOOT_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "machine/host_file.h"

enum {
    MULTIBOOT_HEADER_MAGIC = 0x1badb002,
    MULTIBOOT2_HEADER_MAGIC = 0xe85250d6,
    MULTIBOOT_SEARCH = 8192,   /* a header lies completely in the first so many bytes, ... */
    MULTIBOOT2_SEARCH = 32768, /* ... and one of version 2 in these */
    MULTIBOOT_SEGMENTS_MAX = 32,
    MULTIBOOT_SECTIONS_MAX = 256,
};

struct multiboot_segment { /* file_size bytes from the file at offset, then zeros */
    uint64_t offset;
    uint32_t address, file_size, size;
};

struct multiboot_sections { /* ELF section headers, as they are in the file */
    uint64_t offset;
    uint32_t count, entry_size, names; /* names: index of the string table */
    bool elf64;
};

struct multiboot_image {
    unsigned version; /* 1 or 2 */
    uint32_t header_offset;
    uint32_t entry; /* physical */
    struct multiboot_segment segments[MULTIBOOT_SEGMENTS_MAX];
    unsigned segment_count;
    struct multiboot_sections sections; /* count 0: none */
    bool relocatable;                   /* says so; it is loaded where it was linked all the same */
    bool wants_mode;                    /* graphics; 0: no preference */
    uint32_t width, height, depth;
};

/*
 * Finds the header in the first size bytes of a file (MULTIBOOT2_SEARCH, or the whole file). False:
 * there is none with a right checksum.
 */
bool multiboot_find(const uint8_t *start, size_t size, unsigned *version, uint32_t *offset);
/* Whether there is one whose checksum is wrong. */
bool multiboot_is_damaged(const uint8_t *start, size_t size);

/*
 * Reads header and segments of a file in which multiboot_find found one. -1: the header asks for
 * what we do not have or is inconsistent, no executable for x86, segments outside of the file.
 */
int multiboot_image_read(struct multiboot_image *image, const struct host_file *file,
                         struct vd_error *err);

/* The end of the highest segment. */
uint64_t multiboot_image_end(const struct multiboot_image *image);

#endif
