/* A file as code segments and addresses to start from. Private to src/prescan/. */
#ifndef VD_PRESCAN_SCAN_IMAGE_H
#define VD_PRESCAN_SCAN_IMAGE_H

#include <stddef.h>

#include "prescan/scan.h"

struct scan_segment {
    char name[48];
    unsigned bits;
    uint64_t address;
    const uint8_t *bytes; /* inside scan_image.file */
    uint64_t size;
    uint8_t *marks; /* one per byte, MARK_*; made by the walk */
};

struct scan_seed {
    uint64_t address;
    unsigned bits;
};

struct scan_image {
    uint8_t *file;
    uint64_t file_size;
    const char *path; /* for messages */
    char description[96];
    struct scan_segment *segments;
    size_t segment_count, segment_capacity;
    int sorted; /* by code size and address; scan_image_find needs it */
    struct scan_seed *seeds;
    size_t seed_count, seed_capacity;
};

int scan_image_load(struct scan_image *image, const char *path, const struct scan_options *options,
                    struct vd_error *err);
void scan_image_free(struct scan_image *image);

/* Index of the segment of this code size that holds address, or -1. May reorder the segments. */
int scan_image_find(struct scan_image *image, uint64_t address, unsigned bits);

/*
 * Adds the bytes [offset, offset + size) of the file as code. Returns 0, or -1 with err if they do
 * not exist or do not fit the address space.
 */
int scan_image_add_segment(struct scan_image *image, const char *name, unsigned bits,
                           uint64_t address, uint64_t offset, uint64_t size, struct vd_error *err);
/* Addresses outside every segment of the code size are ignored. Returns 0 or -1 with err. */
int scan_image_add_seed(struct scan_image *image, uint64_t address, unsigned bits,
                        struct vd_error *err);

/* scan_elf.c */
int scan_elf_load(struct scan_image *image, struct vd_error *err);

#endif
