#include "machine/multiboot_image.h"

#include <elf.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine/le_bytes.h"

enum { /* Multiboot 1 header: offsets and flags */
       MB1_FLAGS = 4,
       MB1_CHECKSUM = 8,
       MB1_SIZE = 12,
       MB1_HEADER_ADDR = 12,
       MB1_LOAD_ADDR = 16,
       MB1_LOAD_END = 20,
       MB1_BSS_END = 24,
       MB1_ENTRY = 28,
       MB1_MODE_TYPE = 32,
       MB1_WIDTH = 36,
       MB1_HEIGHT = 40,
       MB1_DEPTH = 44,
       MB1_SIZE_ADDRESSES = 32,
       MB1_SIZE_VIDEO = 48,
       MB1_PAGE_ALIGN = 1 << 0,
       MB1_MEMORY_INFO = 1 << 1,
       MB1_VIDEO_MODE = 1 << 2,
       MB1_ADDRESSES = 1 << 16,
       MB1_REQUIRED = 0xffff, /* what is here and not known must be refused */
};
enum { /* Multiboot 2 header and its tags */
       MB2_ARCHITECTURE = 4,
       MB2_LENGTH = 8,
       MB2_CHECKSUM = 12,
       MB2_SIZE = 16,
       MB2_I386 = 0,
       TAG_END = 0,
       TAG_INFORMATION_REQUEST = 1,
       TAG_ADDRESS = 2,
       TAG_ENTRY = 3,
       TAG_CONSOLE = 4,
       TAG_FRAMEBUFFER = 5,
       TAG_MODULE_ALIGN = 6,
       TAG_EFI_BOOT_SERVICES = 7,
       TAG_EFI_ENTRY_I386 = 8,
       TAG_EFI_ENTRY_AMD64 = 9,
       TAG_RELOCATABLE = 10,
       TAG_OPTIONAL = 1,
};

/* The header's addresses (a.out kludge, address and entry tags). */
struct addresses {
    bool given, entry_given;
    uint32_t header, load, load_end, bss_end, entry;
};

struct reader { /* the start of the file, and what has been understood */
    struct multiboot_image *image;
    const struct host_file *file;
    uint8_t *start;
    size_t size;
    struct addresses addresses;
};

/* --- the header --- */

static bool is_header(const uint8_t *start, size_t size, size_t at, unsigned version)
{
    const uint8_t *header = start + at;
    if (version == 1)
        return at + MB1_SIZE <= MULTIBOOT_SEARCH && size - at >= MB1_SIZE &&
               get32(header) == MULTIBOOT_HEADER_MAGIC &&
               get32(header) + get32(header + MB1_FLAGS) + get32(header + MB1_CHECKSUM) == 0;
    return at % 8 == 0 && size - at >= MB2_SIZE && get32(header) == MULTIBOOT2_HEADER_MAGIC &&
           get32(header) + get32(header + MB2_ARCHITECTURE) + get32(header + MB2_LENGTH) +
                   get32(header + MB2_CHECKSUM) ==
               0;
}

bool multiboot_find(const uint8_t *start, size_t size, unsigned *version, uint32_t *offset)
{
    if (size > MULTIBOOT2_SEARCH)
        size = MULTIBOOT2_SEARCH;
    /* A kernel may have both; the newer one tells more. */
    for (unsigned v = 2; v >= 1; v--) {
        for (size_t at = 0; at + MB1_SIZE <= size; at += 4) {
            if (is_header(start, size, at, v)) {
                *version = v;
                *offset = (uint32_t)at;
                return true;
            }
        }
    }
    return false;
}

bool multiboot_is_damaged(const uint8_t *start, size_t size)
{
    for (size_t at = 0; at + 4 <= size && at + 4 <= MULTIBOOT2_SEARCH; at += 4) {
        uint32_t word = get32(start + at);
        if ((word == MULTIBOOT_HEADER_MAGIC && at < MULTIBOOT_SEARCH) ||
            word == MULTIBOOT2_HEADER_MAGIC)
            return true;
    }
    return false;
}

__attribute__((format(printf, 3, 4))) static int
refuse(const struct reader *reader, struct vd_error *err, const char *format, ...)
{
    char reason[256];
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof(reason), format, args);
    va_end(args);
    return error_set(err, "kernel %s: %s", reader->file->path, reason);
}

static int read_header1(struct reader *reader, struct vd_error *err)
{
    struct multiboot_image *image = reader->image;
    const uint8_t *header = reader->start + image->header_offset;
    size_t left = reader->size - image->header_offset;
    uint32_t flags = get32(header + MB1_FLAGS);
    uint32_t unknown =
        flags & MB1_REQUIRED & ~(uint32_t)(MB1_PAGE_ALIGN | MB1_MEMORY_INFO | MB1_VIDEO_MODE);
    if (unknown)
        return refuse(reader, err, "its multiboot header requires unknown features (flags %#x)",
                      flags);
    if (((flags & MB1_ADDRESSES) && left < MB1_SIZE_ADDRESSES) ||
        ((flags & MB1_VIDEO_MODE) && left < MB1_SIZE_VIDEO))
        return refuse(reader, err, "its multiboot header is truncated");
    if (flags & MB1_ADDRESSES)
        reader->addresses = (struct addresses){.given = true,
                                               .entry_given = true,
                                               .header = get32(header + MB1_HEADER_ADDR),
                                               .load = get32(header + MB1_LOAD_ADDR),
                                               .load_end = get32(header + MB1_LOAD_END),
                                               .bss_end = get32(header + MB1_BSS_END),
                                               .entry = get32(header + MB1_ENTRY)};
    if ((flags & MB1_VIDEO_MODE) && get32(header + MB1_MODE_TYPE) == 0) {
        image->wants_mode = true;
        image->width = get32(header + MB1_WIDTH);
        image->height = get32(header + MB1_HEIGHT);
        image->depth = get32(header + MB1_DEPTH);
    }
    return 0;
}

/* Information that a kernel may insist on. */
static int check_request(const struct reader *reader, const uint8_t *tag, uint32_t size,
                         struct vd_error *err)
{
    /* Command line, loader, modules, memory, map, frame buffer, sections, both RSDPs, base; VBE. */
    static const uint32_t known = 1u << 1 | 1u << 2 | 1u << 3 | 1u << 4 | 1u << 6 | 1u << 7 |
                                  1u << 8 | 1u << 9 | 1u << 14 | 1u << 15 | 1u << 21;
    for (uint32_t at = 8; at + 4 <= size; at += 4) {
        uint32_t type = get32(tag + at);
        if (type > 31 || !(known >> type & 1))
            return refuse(reader, err, "requires multiboot2 information of type %u", type);
    }
    return 0;
}

static int read_tag(struct reader *reader, const uint8_t *tag, uint32_t size, struct vd_error *err)
{
    static const uint8_t sizes[] = {[TAG_ADDRESS] = 24,
                                    [TAG_ENTRY] = 12,
                                    [TAG_CONSOLE] = 12,
                                    [TAG_FRAMEBUFFER] = 20,
                                    [TAG_RELOCATABLE] = 24};
    struct multiboot_image *image = reader->image;
    unsigned type = get16(tag);
    bool optional = get16(tag + 2) & TAG_OPTIONAL;
    if (type < sizeof(sizes) && size < sizes[type])
        return refuse(reader, err, "multiboot2 header tag %u has only %u bytes", type, size);
    switch (type) {
    case TAG_INFORMATION_REQUEST:
        return optional ? 0 : check_request(reader, tag, size, err);
    case TAG_ADDRESS:
        reader->addresses.given = true;
        reader->addresses.header = get32(tag + 8);
        reader->addresses.load = get32(tag + 12);
        reader->addresses.load_end = get32(tag + 16);
        reader->addresses.bss_end = get32(tag + 20);
        return 0;
    case TAG_ENTRY:
        reader->addresses.entry_given = true;
        reader->addresses.entry = get32(tag + 8);
        return 0;
    case TAG_FRAMEBUFFER:
        image->wants_mode = true;
        image->width = get32(tag + 8);
        image->height = get32(tag + 12);
        image->depth = get32(tag + 16);
        return 0;
    case TAG_RELOCATABLE:
        image->relocatable = true;
        return 0;
    case TAG_CONSOLE:
    case TAG_MODULE_ALIGN:
    case TAG_EFI_BOOT_SERVICES: /* of EFI machines only */
    case TAG_EFI_ENTRY_I386:
    case TAG_EFI_ENTRY_AMD64:
        return 0;
    default:
        return optional ? 0 : refuse(reader, err, "requires unknown multiboot2 tag %u", type);
    }
}

static int read_header2(struct reader *reader, struct vd_error *err)
{
    uint32_t offset = reader->image->header_offset;
    const uint8_t *header = reader->start + offset;
    uint32_t length = get32(header + MB2_LENGTH);
    if (get32(header + MB2_ARCHITECTURE) != MB2_I386)
        return refuse(reader, err, "its multiboot2 header is for architecture %u, not i386",
                      get32(header + MB2_ARCHITECTURE));
    if (length > reader->size - offset)
        return refuse(reader, err, "its multiboot2 header is truncated");
    for (uint32_t at = MB2_SIZE; at + 8 <= length;) {
        uint32_t size = get32(header + at + 4);
        if (get16(header + at) == TAG_END)
            return 0;
        if (size < 8 || size > length - at)
            return refuse(reader, err, "multiboot2 header tag %u at byte %u has a wrong size",
                          get16(header + at), offset + at);
        if (read_tag(reader, header + at, size, err) < 0)
            return -1;
        at += (size + 7) & ~7u;
    }
    return refuse(reader, err, "its multiboot2 header has no end tag");
}

/* --- segments --- */

static int add_segment(struct reader *reader, const struct multiboot_segment *segment,
                       uint64_t address, uint64_t size, struct vd_error *err)
{
    struct multiboot_image *image = reader->image;
    if (size == 0)
        return 0;
    if (image->segment_count == MULTIBOOT_SEGMENTS_MAX)
        return refuse(reader, err, "more than %u segments", MULTIBOOT_SEGMENTS_MAX);
    if (address + size > 1ull << 32 || address + size < address)
        return refuse(reader, err, "a segment at %#llx is not below 4 GiB",
                      (unsigned long long)address);
    if (segment->offset > reader->file->size ||
        segment->file_size > reader->file->size - segment->offset)
        return refuse(reader, err, "truncated, %llu bytes of %llu",
                      (unsigned long long)reader->file->size,
                      (unsigned long long)(segment->offset + segment->file_size));
    image->segments[image->segment_count] = *segment;
    image->segments[image->segment_count].address = (uint32_t)address;
    image->segments[image->segment_count++].size = (uint32_t)size;
    return 0;
}

/* Addresses from the header: the file is one block of memory around it. */
static int take_addresses(struct reader *reader, struct vd_error *err)
{
    const struct addresses *a = &reader->addresses;
    uint32_t header_offset = reader->image->header_offset, load = a->load;
    uint64_t offset;
    if (reader->image->version == 2 && load == UINT32_MAX) { /* from the beginning of the file */
        load = a->header - header_offset;
        offset = 0;
    } else {
        offset = header_offset - (uint64_t)(a->header - load);
    }
    if (load > a->header || offset > header_offset)
        return refuse(reader, err, "its header says that it lies outside of what is loaded");
    uint64_t left = reader->file->size - offset;
    uint64_t size = a->load_end ? (uint64_t)a->load_end - load : left;
    if ((a->load_end && a->load_end < load) || (a->bss_end && a->bss_end < load + size))
        return refuse(reader, err, "the load addresses in its header are not in order");
    if (size > left)
        return refuse(reader, err, "truncated, %llu bytes of %llu",
                      (unsigned long long)reader->file->size, (unsigned long long)(offset + size));
    if (size > UINT32_MAX)
        return refuse(reader, err, "larger than 4 GiB");
    if (!a->entry_given)
        return refuse(reader, err, "its header gives load addresses, but no entry point");
    struct multiboot_segment segment = {.offset = offset, .file_size = (uint32_t)size};
    reader->image->entry = a->entry;
    return add_segment(reader, &segment, load, a->bss_end ? (uint64_t)a->bss_end - load : size,
                       err);
}

/* Both ELF classes, in the wider form. */
static void widen_header(const uint8_t *data, bool elf64, Elf64_Ehdr *header)
{
    if (elf64) {
        memcpy(header, data, sizeof(*header));
        return;
    }
    Elf32_Ehdr narrow;
    memcpy(&narrow, data, sizeof(narrow));
    *header = (Elf64_Ehdr){.e_type = narrow.e_type,
                           .e_machine = narrow.e_machine,
                           .e_entry = narrow.e_entry,
                           .e_phoff = narrow.e_phoff,
                           .e_shoff = narrow.e_shoff,
                           .e_phentsize = narrow.e_phentsize,
                           .e_phnum = narrow.e_phnum,
                           .e_shentsize = narrow.e_shentsize,
                           .e_shnum = narrow.e_shnum,
                           .e_shstrndx = narrow.e_shstrndx};
}

static int read_program_header(const struct reader *reader, const Elf64_Ehdr *elf, bool elf64,
                               unsigned index, Elf64_Phdr *header, struct vd_error *err)
{
    Elf32_Phdr narrow;
    uint64_t offset = elf->e_phoff + (uint64_t)index * elf->e_phentsize;
    if (elf64)
        return host_file_read(reader->file, offset, header, sizeof(*header), err);
    if (host_file_read(reader->file, offset, &narrow, sizeof(narrow), err) < 0)
        return -1;
    *header = (Elf64_Phdr){.p_type = narrow.p_type,
                           .p_offset = narrow.p_offset,
                           .p_vaddr = narrow.p_vaddr,
                           .p_paddr = narrow.p_paddr,
                           .p_filesz = narrow.p_filesz,
                           .p_memsz = narrow.p_memsz};
    return 0;
}

/* The entry point is a virtual address: the kernel is entered where its segment was loaded. */
static int take_segments(struct reader *reader, const Elf64_Ehdr *elf, bool elf64,
                         struct vd_error *err)
{
    uint64_t entry = elf->e_entry;
    for (unsigned i = 0; i < elf->e_phnum; i++) {
        Elf64_Phdr header;
        if (read_program_header(reader, elf, elf64, i, &header, err) < 0)
            return -1;
        if (header.p_type != PT_LOAD)
            continue;
        if (header.p_filesz > header.p_memsz || header.p_filesz > UINT32_MAX)
            return refuse(reader, err, "segment %u is larger in the file than in memory", i);
        struct multiboot_segment segment = {.offset = header.p_offset,
                                            .file_size = (uint32_t)header.p_filesz};
        if (add_segment(reader, &segment, header.p_paddr, header.p_memsz, err) < 0)
            return -1;
        if (elf->e_entry - header.p_vaddr < header.p_memsz)
            entry = elf->e_entry - header.p_vaddr + header.p_paddr;
    }
    if (reader->addresses.entry_given)
        entry = reader->addresses.entry;
    if (reader->image->segment_count == 0)
        return refuse(reader, err, "an ELF file without anything to load");
    if (entry > UINT32_MAX)
        return refuse(reader, err, "its entry point %#llx is not below 4 GiB",
                      (unsigned long long)entry);
    reader->image->entry = (uint32_t)entry;
    return 0;
}

/* Symbols are a help for debugging: what is odd about them is no reason to refuse a kernel. */
static void take_sections(struct reader *reader, const Elf64_Ehdr *elf, bool elf64)
{
    size_t entry_size = elf64 ? sizeof(Elf64_Shdr) : sizeof(Elf32_Shdr);
    if (elf->e_shentsize != entry_size || elf->e_shnum > MULTIBOOT_SECTIONS_MAX ||
        elf->e_shoff > reader->file->size ||
        elf->e_shnum * entry_size > reader->file->size - elf->e_shoff)
        return;
    reader->image->sections = (struct multiboot_sections){.offset = elf->e_shoff,
                                                          .count = elf->e_shnum,
                                                          .entry_size = (uint32_t)entry_size,
                                                          .names = elf->e_shstrndx,
                                                          .elf64 = elf64};
}

static int take_elf(struct reader *reader, struct vd_error *err)
{
    const uint8_t *start = reader->start;
    Elf64_Ehdr elf;
    if (reader->size < sizeof(Elf32_Ehdr) || memcmp(start, ELFMAG, SELFMAG) != 0)
        return refuse(reader, err, "neither an ELF file nor load addresses in the header");
    bool elf64 = start[EI_CLASS] == ELFCLASS64;
    if ((!elf64 && start[EI_CLASS] != ELFCLASS32) || start[EI_DATA] != ELFDATA2LSB ||
        (elf64 && reader->size < sizeof(elf)))
        return refuse(reader, err, "not an ELF file for x86");
    widen_header(start, elf64, &elf);
    if (elf.e_machine != (elf64 ? EM_X86_64 : EM_386) ||
        (elf.e_type != ET_EXEC && elf.e_type != ET_DYN))
        return refuse(reader, err, "not an x86 executable (ELF machine %u, type %u)", elf.e_machine,
                      elf.e_type);
    if (elf.e_phentsize != (elf64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)) && elf.e_phnum)
        return refuse(reader, err, "ELF program headers of %u bytes", elf.e_phentsize);
    if (take_segments(reader, &elf, elf64, err) < 0)
        return -1;
    take_sections(reader, &elf, elf64);
    return 0;
}

/* --- the whole --- */

static int read_image(struct reader *reader, struct vd_error *err)
{
    struct multiboot_image *image = reader->image;
    if (host_file_read(reader->file, 0, reader->start, reader->size, err) < 0)
        return -1;
    if (!multiboot_find(reader->start, reader->size, &image->version, &image->header_offset))
        return refuse(reader, err, "no multiboot header");
    int rc = image->version == 1 ? read_header1(reader, err) : read_header2(reader, err);
    if (rc < 0)
        return -1;
    return reader->addresses.given ? take_addresses(reader, err) : take_elf(reader, err);
}

int multiboot_image_read(struct multiboot_image *image, const struct host_file *file,
                         struct vd_error *err)
{
    struct reader reader = {.image = image, .file = file};
    memset(image, 0, sizeof(*image));
    reader.size = file->size < MULTIBOOT2_SEARCH ? (size_t)file->size : MULTIBOOT2_SEARCH;
    reader.start = malloc(MULTIBOOT2_SEARCH);
    if (!reader.start)
        return error_set(err, "kernel %s: no memory", file->path);
    int rc = read_image(&reader, err);
    free(reader.start);
    return rc;
}

uint64_t multiboot_image_end(const struct multiboot_image *image)
{
    uint64_t end = 0;
    for (unsigned i = 0; i < image->segment_count; i++) {
        uint64_t segment_end = (uint64_t)image->segments[i].address + image->segments[i].size;
        end = segment_end > end ? segment_end : end;
    }
    return end;
}
