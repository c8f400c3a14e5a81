/*
 * Multiboot kernels (Multiboot Specification 0.6.96, Multiboot2 Specification 2.0): accepted and
 * refused images, placement, what the boot ROM reads, the information for the kernel.
 */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
// clang-format on

#include "machine/boot_rom.h"
#include "machine/kernel_boot.h"
#include "support/little_endian.h"
#include "support/scratch.h"

enum { MIB = 1 << 20, RAM_END = 64 * MIB, IMAGE_SIZE = 0x9000, HEADER = 0x1000 };

struct rig {
    struct scratch scratch;
    char kernel[SCRATCH_PATH], module[SCRATCH_PATH];
    uint8_t image[IMAGE_SIZE];
    struct multiboot_boot boot;
    struct vd_error err;
};

static void put_header1(uint8_t *at, uint32_t flags)
{
    put(at, 0x1badb002, 4);
    put(at + 4, flags, 4);
    put(at + 8, 0u - 0x1badb002 - flags, 4);
}

static void put_header2(uint8_t *at, uint32_t architecture, uint32_t length)
{
    put(at, 0xe85250d6, 4);
    put(at + 4, architecture, 4);
    put(at + 8, length, 4);
    put(at + 12, 0u - 0xe85250d6 - architecture - length, 4);
}

static void put_tag(uint8_t *at, unsigned type, unsigned flags, uint32_t size)
{
    put(at, type, 2);
    put(at + 2, flags, 2);
    put(at + 4, size, 4);
}

/* 4000h bytes of the file at 2 MiB, seen at C0200000h, and 1000h bytes of zeros behind. */
static void make_elf32(uint8_t *image)
{
    Elf32_Ehdr elf = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, EV_CURRENT},
                      .e_type = ET_EXEC,
                      .e_machine = EM_386,
                      .e_entry = 0xc0200123,
                      .e_phoff = sizeof(elf),
                      .e_phentsize = sizeof(Elf32_Phdr),
                      .e_phnum = 2};
    Elf32_Phdr segments[2] = {{.p_type = PT_NOTE, .p_offset = 0xffffffff, .p_filesz = 1000},
                              {.p_type = PT_LOAD,
                               .p_offset = 0x1000,
                               .p_vaddr = 0xc0200000,
                               .p_paddr = 0x200000,
                               .p_filesz = 0x4000,
                               .p_memsz = 0x5000}};
    for (unsigned i = 0; i < IMAGE_SIZE; i++)
        image[i] = (uint8_t)(i * 13 + i / 256);
    memcpy(image, &elf, sizeof(elf));
    memcpy(image + sizeof(elf), segments, sizeof(segments));
    put_header1(image + HEADER, 3);
}

static int setup(void **state)
{
    static struct rig rig;
    memset(&rig, 0, sizeof(rig));
    if (scratch_open(&rig.scratch) < 0)
        return -1;
    scratch_path(&rig.scratch, "kernel", rig.kernel);
    scratch_path(&rig.scratch, "module", rig.module);
    make_elf32(rig.image);
    *state = &rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    return scratch_close(&rig->scratch);
}

static int open_with(struct rig *rig, size_t size, const char *modules, uint64_t ram_end)
{
    struct kernel_boot boot = {0};
    struct kernel_config config = {
        .kernel = rig->kernel, .initrd = modules, .cmdline = "quiet", .ram_end = ram_end};
    rig->err.text[0] = 0;
    scratch_write(rig->kernel, rig->image, size);
    int rc = kernel_boot_open(&boot, &config, &rig->err);
    if (rc == 0)
        assert_int_equal(boot.kind, KERNEL_MULTIBOOT);
    rig->boot = boot.multiboot;
    return rc;
}

/* The image must be refused with the reason, and is made good again. */
static void refuse_with(struct rig *rig, size_t size, const char *modules, uint64_t ram_end,
                        const char *reason)
{
    assert_int_equal(open_with(rig, size, modules, ram_end), -1);
    if (!strstr(rig->err.text, reason))
        fail_msg("'%s' does not say '%s'", rig->err.text, reason);
    assert_null(strchr(rig->err.text, '\n'));
    make_elf32(rig->image);
}

static void refuse(struct rig *rig, const char *reason)
{
    refuse_with(rig, IMAGE_SIZE, NULL, RAM_END, reason);
}

static void accept(struct rig *rig)
{
    if (open_with(rig, IMAGE_SIZE, NULL, RAM_END) < 0)
        fail_msg("%s", rig->err.text);
}

static void test_elf(void **state)
{
    struct rig *rig = *state;
    accept(rig);
    const struct multiboot_image *image = &rig->boot.image;
    assert_int_equal(image->version, 1);
    assert_int_equal(image->entry, 0x200123); /* e_entry is virtual */
    assert_int_equal(image->segment_count, 1);
    assert_int_equal(image->segments[0].address, 0x200000);
    assert_int_equal(image->segments[0].offset, 0x1000);
    assert_int_equal(image->segments[0].file_size, 0x4000);
    assert_int_equal(image->segments[0].size, 0x5000);
    assert_false(image->wants_mode);
    multiboot_boot_close(&rig->boot);
}

static void test_search_limits(void **state)
{
    struct rig *rig = *state;
    static const struct {
        uint32_t offset;
        unsigned version;
        bool good;
    } cases[] = {
        {0x5c0, 1, true},     {0x5c4, 1, true},   {0x5c6, 1, false}, {8192 - 12, 1, true},
        {8192 - 8, 1, false}, {8192, 1, false},   {0x5c0, 2, true},  {0x5c4, 2, false},
        {0x7fe0, 2, true},    {0x8000, 2, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t *at = rig->image + cases[i].offset;
        make_elf32(rig->image);
        memset(rig->image + HEADER, 0, 12);
        if (cases[i].version == 1) {
            put_header1(at, 0);
        } else {
            put_header2(at, 0, 24);
            put_tag(at + 16, 0, 0, 8);
        }
        int rc = open_with(rig, IMAGE_SIZE, NULL, RAM_END);
        if (rc != (cases[i].good ? 0 : -1))
            fail_msg("version %u at %#x: %s", cases[i].version, cases[i].offset, rig->err.text);
        if (rc == 0) {
            assert_int_equal(rig->boot.image.version, cases[i].version);
            assert_int_equal(rig->boot.image.header_offset, cases[i].offset);
            multiboot_boot_close(&rig->boot);
        }
    }
}

static void test_refused_images(void **state)
{
    struct rig *rig = *state;
    refuse_with(rig, 0, NULL, RAM_END, "empty file");
    refuse_with(rig, 11, NULL, RAM_END, "neither a Linux bzImage nor a multiboot kernel");
    memset(rig->image + HEADER, 0, 4);
    refuse(rig, "neither a Linux bzImage nor a multiboot kernel");
    rig->image[HEADER + 8]++;
    refuse(rig, "wrong checksum");
    put_header1(rig->image + HEADER, 3 | 1 << 3);
    refuse(rig, "unknown features");
    put_header1(rig->image + HEADER, 3 | 1u << 31); /* not required: ignored */
    accept(rig);
    multiboot_boot_close(&rig->boot);
    make_elf32(rig->image);
    rig->image[0] = 0;
    refuse(rig, "neither an ELF file nor load addresses");
    put(rig->image + 18, EM_ARM, 2);
    refuse(rig, "not an x86 executable");
    put(rig->image + 16, ET_REL, 2);
    refuse(rig, "not an x86 executable");
    put(rig->image + 42, 20, 2);
    refuse(rig, "program headers");
    put(rig->image + 44, 0, 2);
    refuse(rig, "without anything to load");
    put(rig->image + 44, 50000, 2);
    refuse(rig, "");
    refuse_with(rig, 0x4fff, NULL, RAM_END, "truncated");
    uint8_t *segment = rig->image + sizeof(Elf32_Ehdr) + sizeof(Elf32_Phdr);
    put(segment + 16, 0x5001, 4); /* p_filesz */
    refuse(rig, "larger in the file");
    put(segment + 20, 0xfff00000, 4); /* p_memsz */
    refuse(rig, "not below 4 GiB");
    put(segment + 20, 70 * MIB, 4);
    refuse(rig, "needs memory up to");
    put(segment + 12, 0x9e000, 4); /* p_paddr */
    refuse(rig, "no free memory");
    put(segment + 12, 0x2000, 4);
    refuse(rig, "no free memory");
    put(segment + 12, 0xfff000, 4);
    accept(rig);
    multiboot_boot_close(&rig->boot);
    make_elf32(rig->image);
    refuse_with(rig, IMAGE_SIZE, NULL, 2 * MIB, "needs memory up to");
}

static void test_addresses_in_the_header(void **state)
{
    struct rig *rig = *state;
    uint8_t *header = rig->image + HEADER;
    static const struct {
        uint32_t header, load, load_end, bss_end;
        const char *reason; /* NULL: good */
        uint32_t offset, file_size, size;
    } cases[] = {
        {0x101000, 0x100000, 0x104000, 0x108000, NULL, 0, 0x4000, 0x8000},
        {0x101000, 0x100800, 0x104000, 0, NULL, 0x800, 0x3800, 0x3800},
        {0x101000, 0x101000, 0, 0, NULL, HEADER, IMAGE_SIZE - HEADER, IMAGE_SIZE - HEADER},
        {0x102000, 0x100000, 0, 0, "outside of what is loaded", 0, 0, 0},
        {0x101000, 0x102000, 0, 0, "outside of what is loaded", 0, 0, 0},
        {0x101000, 0x100000, 0xf0000, 0, "not in order", 0, 0, 0},
        {0x101000, 0x100000, 0x104000, 0x103fff, "not in order", 0, 0, 0},
        {0x101000, 0x100000, 0x109001, 0, "truncated", 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        rig->image[0] = 0; /* no ELF file */
        put_header1(header, 3 | 1 << 16);
        put(header + 12, cases[i].header, 4);
        put(header + 16, cases[i].load, 4);
        put(header + 20, cases[i].load_end, 4);
        put(header + 24, cases[i].bss_end, 4);
        put(header + 28, 0x100abc, 4);
        if (cases[i].reason) {
            refuse(rig, cases[i].reason);
            continue;
        }
        accept(rig);
        const struct multiboot_segment *segment = &rig->boot.image.segments[0];
        assert_int_equal(rig->boot.image.entry, 0x100abc);
        assert_int_equal(segment->address, cases[i].load);
        assert_int_equal(segment->offset, cases[i].offset);
        assert_int_equal(segment->file_size, cases[i].file_size);
        assert_int_equal(segment->size, cases[i].size);
        multiboot_boot_close(&rig->boot);
    }
}

static void test_version2_tags(void **state)
{
    struct rig *rig = *state;
    static const struct {
        unsigned type, flags;
        uint32_t size, word; /* the first one of the contents */
        const char *reason;
    } cases[] = {
        {1, 0, 12, 6, NULL},         {1, 0, 12, 12, "information of type 12"},
        {1, 1, 12, 12, NULL},        {4, 0, 12, 3, NULL},
        {5, 0, 20, 800, NULL},       {5, 0, 16, 800, "only 16 bytes"},
        {6, 0, 8, 0, NULL},          {7, 0, 8, 0, NULL},
        {10, 0, 24, 0x100000, NULL}, {11, 0, 8, 0, "unknown multiboot2 tag 11"},
        {11, 1, 8, 0, NULL},         {6, 0, 7, 0, "wrong size"},
        {6, 0, 0, 0, "wrong size"},  {6, 0, 0xfffffff8, 0, "wrong size"},
        {3, 0, 12, 0x200777, NULL},  {2, 0, 24, 0x100000, "no entry point"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t *at = rig->image + HEADER;
        memset(at, 0, 64);
        put_header2(at, 0, 48);
        put_tag(at + 16, cases[i].type, cases[i].flags, cases[i].size);
        put(at + 24, cases[i].word, 4);
        if (cases[i].type == 2)
            put(at + 28, 0x100000, 4);
        put_tag(at + 40, 0, 0, 8);
        if (cases[i].reason) {
            refuse(rig, cases[i].reason);
            continue;
        }
        accept(rig);
        const struct multiboot_image *image = &rig->boot.image;
        assert_int_equal(image->wants_mode, cases[i].type == 5);
        assert_int_equal(image->relocatable, cases[i].type == 10);
        assert_int_equal(image->entry, cases[i].type == 3 ? 0x200777 : 0x200123);
        multiboot_boot_close(&rig->boot);
        make_elf32(rig->image);
    }
    put_header2(rig->image + HEADER, 4, 24);
    refuse(rig, "architecture 4");
    put_header2(rig->image + HEADER, 0, 0x10000);
    refuse(rig, "header is truncated");
    put_header2(rig->image + HEADER, 0, 16);
    refuse(rig, "no end tag");
}

static void test_modules(void **state)
{
    struct rig *rig = *state;
    char list[20 * SCRATCH_PATH], odd[SCRATCH_PATH + 2];
    static uint8_t bytes[5000];
    scratch_write(rig->module, bytes, sizeof(bytes));
    snprintf(odd, sizeof(odd), "%s,x", rig->module);
    scratch_write(odd, bytes, 10);
    snprintf(list, sizeof(list), "%s,%s,,x with arguments,%s a", rig->module, rig->module,
             rig->module);
    assert_int_equal(open_with(rig, IMAGE_SIZE, list, RAM_END), 0);
    const struct multiboot_boot *boot = &rig->boot;
    assert_int_equal(boot->info.module_count, 3);
    assert_int_equal(boot->modules[0].address, 0x205000); /* behind the kernel's zeros */
    assert_int_equal(boot->modules[0].size, 5000);
    assert_int_equal(boot->modules[1].address, 0x207000);
    assert_int_equal(boot->modules[1].size, 10);
    assert_int_equal(boot->modules[2].address, 0x208000);
    assert_string_equal(boot->modules[0].arguments, rig->module);
    snprintf(list, sizeof(list), "%s with arguments", odd);
    assert_string_equal(boot->modules[1].arguments, list);
    multiboot_boot_close(&rig->boot);
    refuse_with(rig, IMAGE_SIZE, "/nonexistent/module a", RAM_END, "/nonexistent/module: No such");
    refuse_with(rig, IMAGE_SIZE, rig->scratch.dir, RAM_END, "not a regular file");
    assert_int_equal(truncate(rig->module, 63 * MIB), 0);
    refuse_with(rig, IMAGE_SIZE, rig->module, RAM_END, "do not fit");
    list[0] = 0;
    assert_int_equal(truncate(rig->module, 1), 0);
    for (unsigned i = 0; i < 17; i++)
        snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s,", rig->module);
    refuse_with(rig, IMAGE_SIZE, list, RAM_END, "more than 16 modules");
}

/* --- what the ROM reads --- */

static const uint8_t *stream_bytes(struct rig *rig, struct fw_cfg *fw, uint32_t *size)
{
    static uint8_t all[256 * 1024], parts[256 * 1024];
    const struct fw_cfg_item *item = fw_cfg_find(fw, FW_CFG_KERNEL_DATA);
    assert_non_null(item);
    assert_true(item->size <= sizeof(all));
    assert_int_equal(item->source.read(item->source.ctx, 0, all, item->size), 0);
    for (uint32_t at = 0, part = 1; at < item->size; at += part, part = part * 7 % 1009) {
        uint32_t left = item->size - at < part ? item->size - at : part;
        assert_int_equal(item->source.read(item->source.ctx, at, parts + at, left), 0);
    }
    assert_memory_equal(all, parts, item->size);
    *size = item->size;
    (void)rig;
    return all;
}

/* What the firmware tells the ROM: 640 KiB, a hole, 62 MiB, and an entry that wraps around. */
static void put_firmware_answers(struct address_space *as)
{
    static const uint64_t map[][3] = {{0, 0x9fc00, 1},
                                      {0xf0000, 0x10000, 2},
                                      {0x100000, 62 * MIB, 1},
                                      {0xfffffffffffff000, 0x2000, 1},
                                      {0x3f00000, 0x100000, 3}};
    uint8_t entry[24] = {0}, count[8] = {5};
    as_write(as, 0x1000, count, sizeof(count));
    for (unsigned i = 0; i < 5; i++) {
        put(entry, map[i][0], 8);
        put(entry + 8, map[i][1], 8);
        put(entry + 16, map[i][2], 4);
        as_write(as, 0x1008 + i * 24, entry, sizeof(entry));
    }
    static const uint8_t text_mode[3] = {3, 80, 0}, rows = 24;
    as_write(as, 0x449, text_mode, sizeof(text_mode));
    as_write(as, 0x484, &rows, 1);
}

static void check_information1(const uint8_t *info, uint32_t address, const char *kernel)
{
    char cmdline[SCRATCH_PATH + 8];
    assert_int_equal(get(info, 4), 0x1 | 0x4 | 0x8 | 0x40 | 0x200 | 0x1000);
    assert_int_equal(get(info + 4, 4), 639);
    assert_int_equal(get(info + 8, 4), 62 * 1024);
    snprintf(cmdline, sizeof(cmdline), "%s quiet", kernel);
    assert_string_equal((const char *)info + (get(info + 16, 4) - address), cmdline);
    assert_int_equal(get(info + 20, 4), 1);
    const uint8_t *module = info + (get(info + 24, 4) - address);
    assert_int_equal(get(module, 4), 0x205000);
    assert_int_equal(get(module + 4, 4), 0x205000 + 5);
    assert_int_equal(get(info + 44, 4), 4 * 24); /* the fifth entry makes no sense */
    const uint8_t *map = info + (get(info + 48, 4) - address);
    assert_int_equal(get(map + 2 * 24, 4), 20);
    assert_int_equal(get(map + 2 * 24 + 4, 8), 0x100000);
    assert_int_equal(get(map + 2 * 24 + 12, 8), 62 * MIB);
    assert_int_equal(get(map + 2 * 24 + 20, 4), 1);
    assert_int_equal(get(info + 88, 8), 0xb8000);
    assert_int_equal(info[109], 2);
}

static void test_stream(void **state)
{
    struct rig *rig = *state;
    struct address_space *as;
    struct fw_cfg fw;
    uint32_t size;
    scratch_write(rig->module, "hello", 5);
    assert_int_equal(open_with(rig, IMAGE_SIZE, rig->module, RAM_END), 0);
    assert_int_equal(as_create(&as, 2 * MIB, 0xc0000000, &rig->err), 0);
    assert_int_equal(fw_cfg_init(&fw, as, 0x510, &rig->err), 0);
    put_firmware_answers(as);
    assert_int_equal(multiboot_boot_add(&rig->boot, &fw, as, &rig->err), 0);
    const uint8_t *at = stream_bytes(rig, &fw, &size), *end = at + size;
    assert_int_equal(get(at, 8), 0); /* no video mode wanted */
    at += 8;
    assert_int_equal(get(at, 4), 0x200000);
    assert_int_equal(get(at + 4, 4), 0x5000);
    assert_memory_equal(at + 8, rig->image + 0x1000, 0x4000);
    for (unsigned i = 0x4000; i < 0x5000; i++)
        assert_int_equal(at[8 + i], 0);
    at += 8 + 0x5000;
    assert_int_equal(get(at, 4), 0x205000);
    assert_int_equal(get(at + 4, 4), 5);
    assert_memory_equal(at + 8, "hello", 5);
    at += 8 + 5;
    uint32_t info = (uint32_t)get(at, 4), info_size = (uint32_t)get(at + 4, 4);
    assert_int_equal(info, 0x10000);
    check_information1(at + 8, info, rig->kernel);
    at += 8 + info_size;
    assert_int_equal(get(at, 4), 0x200123);
    assert_int_equal(get(at + 4, 4), 0);
    assert_int_equal(get(at + 8, 4), 0x2badb002);
    assert_int_equal(get(at + 12, 4), info);
    assert_ptr_equal(at + 16, end);
    assert_string_equal((const char *)fw_cfg_find_file(&fw, "bootorder")->data,
                        "/rom@genroms/multiboot.bin\n");
    assert_int_equal(fw_cfg_find_file(&fw, "genroms/multiboot.bin")->size % 512, 0);
    /* The file shrinks under our feet. */
    const struct fw_cfg_item *item = fw_cfg_find(&fw, FW_CFG_KERNEL_DATA);
    uint8_t bytes[64];
    assert_int_equal(truncate(rig->kernel, 0x1020), 0);
    assert_int_equal(item->source.read(item->source.ctx, 16, bytes, 32), 0);
    assert_int_equal(item->source.read(item->source.ctx, 16, bytes, 33), -1);
    fw_cfg_destroy(&fw);
    multiboot_boot_close(&rig->boot);
    as_destroy(as);
}

/* The information finds a place beside low segments, or behind everything. */
static void test_information_place(void **state)
{
    struct rig *rig = *state;
    uint8_t *segment = rig->image + sizeof(Elf32_Ehdr) + sizeof(Elf32_Phdr);
    put(segment + 12, 0x10000, 4); /* p_paddr */
    accept(rig);
    assert_int_equal(rig->boot.info_address, 0x15000);
    multiboot_boot_close(&rig->boot);
    put(segment + 20, 0x6f800, 4); /* p_memsz */
    accept(rig);
    assert_int_equal(rig->boot.info_address, 0x100000);
    multiboot_boot_close(&rig->boot);
    refuse_with(rig, IMAGE_SIZE, NULL, MIB, "no memory left");
}

static void test_random_images(void **state)
{
    struct rig *rig = *state;
    unsigned seed = (unsigned)time(NULL), good = 0;
    print_message("seed %u\n", seed);
    srand(seed);
    for (unsigned n = 0; n < 3000; n++) {
        make_elf32(rig->image);
        if (n % 2) {
            memset(rig->image + HEADER, 0, 256);
            put_header2(rig->image + HEADER, 0, 16 + (uint32_t)rand() % 200);
            for (unsigned at = 16, i = 0; i < 6; i++, at += 24)
                put_tag(rig->image + HEADER + at, (unsigned)rand() % 12, (unsigned)rand() % 2,
                        (uint32_t)rand() % 30);
        } else {
            put_header1(rig->image + HEADER, 3u | (uint32_t)(rand() % 2) << 16);
        }
        for (unsigned i = 0; i < 3; i++)
            rig->image[rand() % 140] = (uint8_t)rand();
        size_t size = n % 5 ? IMAGE_SIZE : (size_t)rand() % IMAGE_SIZE;
        if (open_with(rig, size, NULL, RAM_END) == 0) {
            good++;
            assert_true(rig->boot.image.segment_count > 0);
            assert_true(multiboot_image_end(&rig->boot.image) <= RAM_END);
            multiboot_boot_close(&rig->boot);
        } else {
            assert_true(strlen(rig->err.text) > 0);
        }
    }
    print_message("%u of 3000 accepted\n", good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_elf, setup, teardown),
        cmocka_unit_test_setup_teardown(test_search_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused_images, setup, teardown),
        cmocka_unit_test_setup_teardown(test_addresses_in_the_header, setup, teardown),
        cmocka_unit_test_setup_teardown(test_version2_tags, setup, teardown),
        cmocka_unit_test_setup_teardown(test_modules, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stream, setup, teardown),
        cmocka_unit_test_setup_teardown(test_information_place, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random_images, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
