/*
 * ELF headers are read field by field into the 64-bit structures, so that one path serves both
 * classes and nothing is trusted: every offset and count is checked against the file.
 */
#include <elf.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "prescan/scan_image.h"

struct elf {
    struct scan_image *image;
    Elf64_Ehdr header;
    int is64;
    unsigned bits;
    uint64_t section_count;
    uint64_t code_bytes; /* in all segments so far */
};

static int fail(const struct elf *elf, struct vd_error *err, const char *reason)
{
    return error_set(err, "%s: damaged ELF file: %s", elf->image->path, reason);
}

/* [offset, offset + count * size) lies in the file. */
static int in_file(const struct elf *elf, uint64_t offset, uint64_t count, uint64_t size)
{
    uint64_t file_size = elf->image->file_size;

    return offset <= file_size && (size == 0 || count <= (file_size - offset) / size);
}

static const void *at(const struct elf *elf, uint64_t offset)
{
    return elf->image->file + offset;
}

static int read_header(struct elf *elf, struct vd_error *err)
{
    const struct scan_image *image = elf->image;
    const uint8_t *ident = image->file;

    if (image->file_size < sizeof(Elf32_Ehdr))
        return fail(elf, err, "the header is cut off");
    if (ident[EI_CLASS] != ELFCLASS32 && ident[EI_CLASS] != ELFCLASS64)
        return fail(elf, err, "neither 32 nor 64 bits");
    if (ident[EI_DATA] != ELFDATA2LSB)
        return error_set(err, "%s: big-endian ELF file, not x86", image->path);
    elf->is64 = ident[EI_CLASS] == ELFCLASS64;
    if (elf->is64) {
        if (image->file_size < sizeof(elf->header))
            return fail(elf, err, "the header is cut off");
        memcpy(&elf->header, image->file, sizeof(elf->header));
    } else {
        Elf32_Ehdr h;
        memcpy(&h, image->file, sizeof(h));
        elf->header.e_type = h.e_type;
        elf->header.e_machine = h.e_machine;
        elf->header.e_entry = h.e_entry;
        elf->header.e_phoff = h.e_phoff;
        elf->header.e_shoff = h.e_shoff;
        elf->header.e_phentsize = h.e_phentsize;
        elf->header.e_phnum = h.e_phnum;
        elf->header.e_shentsize = h.e_shentsize;
        elf->header.e_shnum = h.e_shnum;
        elf->header.e_shstrndx = h.e_shstrndx;
    }
    if (elf->header.e_machine == EM_X86_64)
        elf->bits = 64;
    else if (elf->header.e_machine == EM_386)
        elf->bits = 32;
    else
        return error_set(err, "%s: ELF file for machine %u, not x86", image->path,
                         elf->header.e_machine);
    return 0;
}

static void read_section(const struct elf *elf, uint64_t index, Elf64_Shdr *section)
{
    uint64_t offset = elf->header.e_shoff + index * elf->header.e_shentsize;
    Elf32_Shdr s;

    if (elf->is64) {
        memcpy(section, at(elf, offset), sizeof(*section));
        return;
    }
    memcpy(&s, at(elf, offset), sizeof(s));
    memset(section, 0, sizeof(*section));
    section->sh_name = s.sh_name;
    section->sh_type = s.sh_type;
    section->sh_flags = s.sh_flags;
    section->sh_addr = s.sh_addr;
    section->sh_offset = s.sh_offset;
    section->sh_size = s.sh_size;
    section->sh_link = s.sh_link;
    section->sh_entsize = s.sh_entsize;
}

static void read_program_header(const struct elf *elf, uint64_t index, Elf64_Phdr *program)
{
    uint64_t offset = elf->header.e_phoff + index * elf->header.e_phentsize;
    Elf32_Phdr p;

    if (elf->is64) {
        memcpy(program, at(elf, offset), sizeof(*program));
        return;
    }
    memcpy(&p, at(elf, offset), sizeof(p));
    memset(program, 0, sizeof(*program));
    program->p_type = p.p_type;
    program->p_flags = p.p_flags;
    program->p_offset = p.p_offset;
    program->p_vaddr = p.p_vaddr;
    program->p_paddr = p.p_paddr;
    program->p_filesz = p.p_filesz;
}

static int check_tables(struct elf *elf, struct vd_error *err)
{
    Elf64_Ehdr *h = &elf->header;
    uint64_t section_size = elf->is64 ? sizeof(Elf64_Shdr) : sizeof(Elf32_Shdr);
    uint64_t program_size = elf->is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);

    if (h->e_phnum && h->e_phoff) {
        if (h->e_phentsize < program_size)
            return fail(elf, err, "program headers have the wrong size");
        if (!in_file(elf, h->e_phoff, h->e_phnum, h->e_phentsize))
            return fail(elf, err, "program headers lie outside the file");
    } else {
        h->e_phnum = 0;
    }
    elf->section_count = 0;
    if (!h->e_shoff)
        return 0;
    if (h->e_shentsize < section_size)
        return fail(elf, err, "section headers have the wrong size");
    elf->section_count = h->e_shnum;
    if (!in_file(elf, h->e_shoff, elf->section_count ? elf->section_count : 1, h->e_shentsize))
        return fail(elf, err, "section headers lie outside the file");
    if (h->e_shnum == 0) { /* more than fit 16 bits: the first header holds the count */
        Elf64_Shdr first;
        read_section(elf, 0, &first);
        elf->section_count = first.sh_size;
        if (!in_file(elf, h->e_shoff, elf->section_count, h->e_shentsize))
            return fail(elf, err, "section headers lie outside the file");
    }
    return 0;
}

static void section_name(const struct elf *elf, const Elf64_Shdr *section, char *name, size_t size)
{
    Elf64_Shdr strings;
    uint64_t length = 0;

    snprintf(name, size, "section at %#" PRIx64, (uint64_t)section->sh_offset);
    if (elf->header.e_shstrndx >= elf->section_count)
        return;
    read_section(elf, elf->header.e_shstrndx, &strings);
    if (!in_file(elf, strings.sh_offset, strings.sh_size, 1) || section->sh_name >= strings.sh_size)
        return;
    const char *text = at(elf, strings.sh_offset + section->sh_name);
    while (length + 1 < size && section->sh_name + length < strings.sh_size && text[length] > ' ' &&
           text[length] < 127) {
        name[length] = text[length];
        length++;
    }
    name[length] = 0;
}

static int add_code(struct elf *elf, const char *name, uint64_t address, uint64_t offset,
                    uint64_t size, struct vd_error *err)
{
    if (!in_file(elf, offset, size, 1))
        return error_set(err, "%s: damaged ELF file: %s lies outside the file", elf->image->path,
                         name);
    elf->code_bytes += size;
    if (elf->code_bytes > elf->image->file_size)
        return fail(elf, err, "code sections overlap");
    return scan_image_add_segment(elf->image, name, elf->bits, address, offset, size, err);
}

static int is_code(const Elf64_Shdr *section)
{
    return section->sh_type == SHT_PROGBITS && (section->sh_flags & SHF_EXECINSTR) &&
           section->sh_size > 0;
}

/* Relocatable files have no addresses: the offset in the file serves. */
static uint64_t section_address(const struct elf *elf, const Elf64_Shdr *section)
{
    return elf->header.e_type == ET_REL ? section->sh_offset : section->sh_addr;
}

static int add_sections(struct elf *elf, struct vd_error *err)
{
    for (uint64_t i = 0; i < elf->section_count; i++) {
        Elf64_Shdr section;
        char name[40];
        read_section(elf, i, &section);
        if (!is_code(&section))
            continue;
        section_name(elf, &section, name, sizeof(name));
        if (add_code(elf, name, section_address(elf, &section), section.sh_offset, section.sh_size,
                     err) != 0)
            return -1;
    }
    return 0;
}

static int add_program_segments(struct elf *elf, struct vd_error *err)
{
    for (uint64_t i = 0; i < elf->header.e_phnum; i++) {
        Elf64_Phdr program;
        char name[40];
        read_program_header(elf, i, &program);
        if (program.p_type != PT_LOAD || !(program.p_flags & PF_X) || program.p_filesz == 0)
            continue;
        snprintf(name, sizeof(name), "segment %" PRIu64, i);
        if (add_code(elf, name, program.p_vaddr, program.p_offset, program.p_filesz, err) != 0)
            return -1;
    }
    return 0;
}

/* Kernels give the physical address of their entry. */
static uint64_t virtual_entry(const struct elf *elf)
{
    uint64_t entry = elf->header.e_entry;

    if (scan_image_find(elf->image, entry, elf->bits) >= 0)
        return entry;
    for (uint64_t i = 0; i < elf->header.e_phnum; i++) {
        Elf64_Phdr program;
        read_program_header(elf, i, &program);
        if (program.p_type == PT_LOAD && entry >= program.p_paddr &&
            entry - program.p_paddr < program.p_filesz)
            return program.p_vaddr + (entry - program.p_paddr);
    }
    return entry;
}

static int add_symbols(struct elf *elf, const Elf64_Shdr *table, struct vd_error *err)
{
    uint64_t size = elf->is64 ? sizeof(Elf64_Sym) : sizeof(Elf32_Sym);

    if (!in_file(elf, table->sh_offset, table->sh_size, 1))
        return fail(elf, err, "the symbol table lies outside the file");
    for (uint64_t i = 0; i < table->sh_size / size; i++) {
        uint64_t value;
        unsigned type, index;
        if (elf->is64) {
            Elf64_Sym symbol;
            memcpy(&symbol, at(elf, table->sh_offset + i * size), sizeof(symbol));
            type = ELF64_ST_TYPE(symbol.st_info);
            index = symbol.st_shndx;
            value = symbol.st_value;
        } else {
            Elf32_Sym symbol;
            memcpy(&symbol, at(elf, table->sh_offset + i * size), sizeof(symbol));
            type = ELF32_ST_TYPE(symbol.st_info);
            index = symbol.st_shndx;
            value = symbol.st_value;
        }
        if (type != STT_FUNC || index == SHN_UNDEF || index >= elf->section_count)
            continue;
        Elf64_Shdr section;
        read_section(elf, index, &section);
        if (!is_code(&section))
            continue;
        if (elf->header.e_type == ET_REL)
            value += section.sh_offset;
        if (scan_image_add_seed(elf->image, value, elf->bits, err) != 0)
            return -1;
    }
    return 0;
}

static int add_seeds(struct elf *elf, struct vd_error *err)
{
    struct scan_image *image = elf->image;

    if (elf->header.e_type != ET_REL && elf->header.e_entry &&
        scan_image_add_seed(image, virtual_entry(elf), elf->bits, err) != 0)
        return -1;
    for (uint64_t i = 0; i < elf->section_count; i++) {
        Elf64_Shdr section;
        read_section(elf, i, &section);
        if ((section.sh_type == SHT_SYMTAB || section.sh_type == SHT_DYNSYM) &&
            add_symbols(elf, &section, err) != 0)
            return -1;
        /* Code sections begin with an instruction. */
        if (is_code(&section) &&
            scan_image_add_seed(image, section_address(elf, &section), elf->bits, err) != 0)
            return -1;
    }
    return 0;
}

int scan_elf_load(struct scan_image *image, struct vd_error *err)
{
    static const char *const types[] = {"file", "relocatable file", "executable", "shared object",
                                        "core file"};
    struct elf elf = {.image = image};

    if (read_header(&elf, err) != 0 || check_tables(&elf, err) != 0)
        return -1;
    snprintf(image->description, sizeof(image->description), "ELF %u-bit %s", elf.bits,
             types[elf.header.e_type <= ET_CORE ? elf.header.e_type : 0]);
    if (add_sections(&elf, err) != 0)
        return -1;
    if (image->segment_count == 0 && add_program_segments(&elf, err) != 0)
        return -1;
    if (image->segment_count == 0)
        return error_set(err, "%s: ELF file without code", image->path);
    return add_seeds(&elf, err);
}
