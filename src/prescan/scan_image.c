#include "prescan/scan_image.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { BOOT_SECTOR = 512 };
static const uint64_t max_file_size = 1ull << 30;

/* --- segments and seeds --- */

int scan_image_add_segment(struct scan_image *image, const char *name, unsigned bits,
                           uint64_t address, uint64_t offset, uint64_t size, struct vd_error *err)
{
    uint64_t last = bits == 16 ? 0xffff : bits == 32 ? 0xffffffff : UINT64_MAX;

    if (offset > image->file_size || size > image->file_size - offset)
        return error_set(err, "%s: %s lies outside the file", image->path, name);
    if (size == 0)
        return error_set(err, "%s: %s is empty", image->path, name);
    if (address > last || size - 1 > last - address)
        return error_set(
            err, "%s: %s (%" PRIu64 " bytes at %#" PRIx64 ") does not fit the %u-bit address space",
            image->path, name, size, address, bits);
    if (image->segment_count == image->segment_capacity) {
        size_t capacity = image->segment_capacity ? image->segment_capacity * 2 : 8;
        struct scan_segment *segments =
            realloc(image->segments, capacity * sizeof(*image->segments));
        if (!segments)
            return error_set(err, "%s: out of memory", image->path);
        image->segments = segments;
        image->segment_capacity = capacity;
    }
    struct scan_segment *segment = &image->segments[image->segment_count];
    memset(segment, 0, sizeof(*segment));
    snprintf(segment->name, sizeof(segment->name), "%s", name);
    segment->bits = bits;
    segment->address = address;
    segment->bytes = image->file + offset;
    segment->size = size;
    image->segment_count++;
    image->sorted = 0;
    return 0;
}

static int compare_segments(const void *left, const void *right)
{
    const struct scan_segment *a = left, *b = right;

    if (a->bits != b->bits)
        return a->bits < b->bits ? -1 : 1;
    return a->address < b->address ? -1 : a->address > b->address;
}

int scan_image_find(struct scan_image *image, uint64_t address, unsigned bits)
{
    size_t low = 0, high = image->segment_count;

    if (!image->sorted && image->segment_count)
        qsort(image->segments, image->segment_count, sizeof(*image->segments), compare_segments);
    image->sorted = 1;
    while (low < high) { /* the last one that starts at or before address */
        size_t middle = low + (high - low) / 2;
        const struct scan_segment *segment = &image->segments[middle];
        if (segment->bits < bits || (segment->bits == bits && segment->address <= address))
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return -1;
    const struct scan_segment *segment = &image->segments[low - 1];
    return segment->bits == bits && address - segment->address < segment->size ? (int)low - 1 : -1;
}

int scan_image_add_seed(struct scan_image *image, uint64_t address, unsigned bits,
                        struct vd_error *err)
{
    if (scan_image_find(image, address, bits) < 0)
        return 0;
    if (image->seed_count == image->seed_capacity) {
        size_t capacity = image->seed_capacity ? image->seed_capacity * 2 : 64;
        struct scan_seed *seeds = realloc(image->seeds, capacity * sizeof(*image->seeds));
        if (!seeds)
            return error_set(err, "%s: out of memory", image->path);
        image->seeds = seeds;
        image->seed_capacity = capacity;
    }
    image->seeds[image->seed_count].address = address;
    image->seeds[image->seed_count++].bits = bits;
    return 0;
}

/* --- bzImage (Linux: Documentation/arch/x86/boot.rst) --- */

static uint32_t get_le(const struct scan_image *image, uint64_t offset, unsigned size)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < size; i++)
        if (offset + i < image->file_size)
            value |= (uint32_t)image->file[offset + i] << (8 * i);
    return value;
}

static int is_boot_sector(const struct scan_image *image)
{
    return image->file_size >= BOOT_SECTOR && get_le(image, 0x1fe, 2) == 0xaa55;
}

static int is_bzimage(const struct scan_image *image)
{
    return is_boot_sector(image) && image->file_size > 0x264 &&
           !memcmp(image->file + 0x202, "HdrS", 4);
}

/* The protected-mode part without the compressed kernel in its middle. */
static int add_protected_part(struct scan_image *image, unsigned bits, uint64_t entry,
                              uint64_t start, uint64_t payload, uint64_t payload_end,
                              struct vd_error *err)
{
    const uint64_t load = 0x100000;
    char name[48];

    if (payload > start) {
        snprintf(name, sizeof(name), "protected-mode head (%u-bit)", bits);
        if (scan_image_add_segment(image, name, bits, load, start, payload - start, err) != 0)
            return -1;
    }
    if (payload_end < image->file_size) {
        snprintf(name, sizeof(name), "decompressor (%u-bit)", bits);
        if (scan_image_add_segment(image, name, bits, load + (payload_end - start), payload_end,
                                   image->file_size - payload_end, err) != 0)
            return -1;
    }
    return scan_image_add_seed(image, load + entry, bits, err);
}

static int load_bzimage(struct scan_image *image, struct vd_error *err)
{
    uint32_t version = get_le(image, 0x206, 2);
    uint32_t sectors = get_le(image, 0x1f1, 1);
    uint64_t start = ((uint64_t)(sectors ? sectors : 4) + 1) * BOOT_SECTOR;
    uint64_t payload = image->file_size, payload_end = image->file_size;

    if (start >= image->file_size)
        return error_set(err,
                         "%s: bzImage is cut off: %" PRIu64 " bytes, the setup alone has %" PRIu64,
                         image->path, image->file_size, start);
    snprintf(image->description, sizeof(image->description), "bzImage, boot protocol %u.%02u",
             version >> 8, version & 0xff);
    if (scan_image_add_segment(image, "real-mode setup", 16, 0, 0, start, err) != 0 ||
        scan_image_add_seed(image, 0x200, 16, err) != 0)
        return -1;
    if (version >= 0x208 && get_le(image, 0x24c, 4) != 0) {
        payload = start + get_le(image, 0x248, 4);
        payload_end = payload + get_le(image, 0x24c, 4);
        if (payload_end > image->file_size)
            return error_set(err,
                             "%s: bzImage is cut off: the compressed kernel ends at %" PRIu64
                             ", the file at %" PRIu64,
                             image->path, payload_end, image->file_size);
    }
    if (add_protected_part(image, 32, 0, start, payload, payload_end, err) != 0)
        return -1;
    if (version >= 0x20c && (get_le(image, 0x236, 2) & 1)) /* XLF_KERNEL_64: entry at 200H */
        return add_protected_part(image, 64, 0x200, start, payload, payload_end, err);
    return 0;
}

/* --- flat --- */

static int load_flat(struct scan_image *image, const struct scan_options *options,
                     struct vd_error *err)
{
    int boot = options->bits == 0;
    unsigned bits = boot ? 16 : options->bits;
    uint64_t base = options->has_base ? options->base : boot ? 0x7c00 : 0;

    if (bits != 16 && bits != 32 && bits != 64)
        return error_set(err, "%s: code size must be 16, 32 or 64, not %u", image->path, bits);
    if (boot && !is_boot_sector(image))
        return error_set(err,
                         "%s: neither ELF nor bzImage nor a boot sector; to scan it as flat "
                         "binary, give the code size",
                         image->path);
    snprintf(image->description, sizeof(image->description), "%s, %u-bit at %#" PRIx64,
             boot ? "boot sector" : "flat binary", bits, base);
    if (scan_image_add_segment(image, boot ? "boot sector" : "flat binary", bits, base, 0,
                               boot ? BOOT_SECTOR : image->file_size, err) != 0)
        return -1;
    return options->has_entry ? 0 : scan_image_add_seed(image, base, bits, err);
}

/* --- files --- */

static int read_file(struct scan_image *image, struct vd_error *err)
{
    FILE *file = fopen(image->path, "rb");
    struct stat status;
    size_t got;

    if (!file)
        return error_set(err, "%s: %s", image->path, strerror(errno));
    if (fstat(fileno(file), &status) != 0) {
        error_set(err, "%s: %s", image->path, strerror(errno));
        goto fail;
    }
    if (!S_ISREG(status.st_mode)) {
        error_set(err, "%s: not a regular file", image->path);
        goto fail;
    }
    image->file_size = (uint64_t)status.st_size;
    if (image->file_size == 0 || image->file_size > max_file_size) {
        error_set(err, "%s: %s", image->path,
                  image->file_size ? "larger than 1 GiB" : "the file is empty");
        goto fail;
    }
    image->file = malloc(image->file_size);
    if (!image->file) {
        error_set(err, "%s: out of memory", image->path);
        goto fail;
    }
    got = fread(image->file, 1, image->file_size, file);
    if (got != image->file_size) {
        error_set(err, "%s: %s", image->path, ferror(file) ? strerror(errno) : "file got shorter");
        goto fail;
    }
    fclose(file);
    return 0;
fail:
    fclose(file);
    return -1;
}

static int load_format(struct scan_image *image, const struct scan_options *options,
                       struct vd_error *err)
{
    int is_elf = image->file_size >= 4 && !memcmp(image->file, "\177ELF", 4);

    switch (options->format) {
    case SCAN_FLAT:
        return load_flat(image, options, err);
    case SCAN_ELF:
        if (!is_elf)
            return error_set(err, "%s: not an ELF file", image->path);
        return scan_elf_load(image, err);
    case SCAN_BZIMAGE:
        if (!is_bzimage(image))
            return error_set(err, "%s: not a bzImage", image->path);
        return load_bzimage(image, err);
    case SCAN_AUTO:
        break;
    }
    if (options->bits)
        return load_flat(image, options, err);
    if (is_elf)
        return scan_elf_load(image, err);
    if (is_bzimage(image))
        return load_bzimage(image, err);
    return load_flat(image, options, err);
}

static int add_entry_option(struct scan_image *image, uint64_t entry, struct vd_error *err)
{
    static const unsigned sizes[] = {64, 32, 16};

    for (unsigned i = 0; i < 3; i++)
        if (scan_image_find(image, entry, sizes[i]) >= 0)
            return scan_image_add_seed(image, entry, sizes[i], err);
    return error_set(err, "%s: entry %#" PRIx64 " lies outside the code", image->path, entry);
}

int scan_image_load(struct scan_image *image, const char *path, const struct scan_options *options,
                    struct vd_error *err)
{
    memset(image, 0, sizeof(*image));
    image->path = path;
    if (read_file(image, err) != 0 || load_format(image, options, err) != 0)
        goto fail;
    if (options->has_entry && add_entry_option(image, options->entry, err) != 0)
        goto fail;
    for (size_t i = 0; i < image->segment_count; i++) {
        image->segments[i].marks = calloc(image->segments[i].size, 1);
        if (!image->segments[i].marks) {
            error_set(err, "%s: out of memory", path);
            goto fail;
        }
    }
    return 0;
fail:
    scan_image_free(image);
    return -1;
}

void scan_image_free(struct scan_image *image)
{
    for (size_t i = 0; i < image->segment_count; i++)
        free(image->segments[i].marks);
    free(image->segments);
    free(image->seeds);
    free(image->file);
    memset(image, 0, sizeof(*image));
}
