/* `vedette scan`: formats, numbers, and what it says to damaged files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <elf.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "prescan/scan.h"
#include "support/scratch.h"

struct file {
    struct scratch scratch;
    char path[SCRATCH_PATH];
    uint8_t bytes[8192];
    size_t size;
};

static int open_file(void **state)
{
    struct file *file = calloc(1, sizeof(*file));

    if (!file || scratch_open(&file->scratch) < 0)
        return -1;
    scratch_path(&file->scratch, "file", file->path);
    *state = file;
    return 0;
}

static int close_file(void **state)
{
    struct file *file = *state;
    int result = scratch_close(&file->scratch);

    free(file);
    return result;
}

/* Scans; returns the report (to be freed), or NULL with the error. */
static char *scan(const struct file *file, const struct scan_options *options, struct vd_error *err)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    int status;

    assert_non_null(out);
    scratch_write(file->path, file->bytes, file->size);
    memset(err, 0, sizeof(*err));
    status = scan_file(file->path, options, out, err);
    fclose(out);
    if (status != 0) {
        assert_int_equal(size, 0); /* nothing half-done */
        assert_non_null(strstr(err->text, file->path));
        assert_null(strchr(err->text, '\n'));
        free(text);
        return NULL;
    }
    return text;
}

static struct json_object *scan_json(const struct file *file, struct scan_options options)
{
    struct vd_error err;
    options.json = true;
    options.no_progress = true;
    char *text = scan(file, &options, &err);
    if (!text)
        fail_msg("%s", err.text);
    struct json_object *root = json_tokener_parse(text);
    assert_non_null(root);
    free(text);
    return root;
}

static int64_t number(struct json_object *root, const char *key, const char *inner)
{
    struct json_object *value;

    assert_true(json_object_object_get_ex(root, key, &value));
    if (inner && !json_object_object_get_ex(value, inner, &value))
        return 0;
    return json_object_get_int64(value);
}

static void expect_sensitive(struct json_object *root, size_t index, const char *address,
                             const char *text)
{
    struct json_object *list, *item, *value;

    assert_true(json_object_object_get_ex(root, "sensitive", &list));
    item = json_object_array_get_idx(list, index);
    assert_non_null(item);
    json_object_object_get_ex(item, "address", &value);
    assert_string_equal(json_object_get_string(value), address);
    json_object_object_get_ex(item, "text", &value);
    assert_string_equal(json_object_get_string(value), text);
}

/* xor eax,eax; cmp eax,ebx; jz +2; cli; hlt; ret; and 3 bytes that nobody reaches */
static const uint8_t program[] = {0x31, 0xc0, 0x39, 0xd8, 0x74, 0x02,
                                  0xfa, 0xf4, 0xc3, 0x90, 0x90, 0x90};

static void check_program(struct json_object *root, const char *cli, const char *hlt)
{
    assert_int_equal(number(root, "instructions", NULL), 6);
    assert_int_equal(number(root, "bytes", NULL), 9);
    assert_int_equal(number(root, "classes", "identity"), 2);
    assert_int_equal(number(root, "classes", "control"), 2);
    assert_int_equal(number(root, "classes", "callout"), 2);
    assert_int_equal(number(root, "classes", "memory"), 0);
    assert_int_equal(number(root, "blocks", NULL), 3);
    assert_int_equal(number(root, "block_ends", "branch"), 1);
    assert_int_equal(number(root, "block_ends", "callout") + number(root, "block_ends", "limit"),
                     1);
    assert_int_equal(number(root, "block_ends", "return"), 1);
    assert_int_equal(number(root, "sensitive_counts", "CLI"), 1);
    assert_int_equal(number(root, "sensitive_counts", "HLT"), 1);
    expect_sensitive(root, 0, cli, "cli");
    expect_sensitive(root, 1, hlt, "hlt");
}

static void test_flat(void **state)
{
    struct file *file = *state;
    struct scan_options options = {.bits = 32, .has_base = true, .base = 0x100000};

    memcpy(file->bytes, program, sizeof(program));
    file->size = sizeof(program);
    struct json_object *root = scan_json(file, options);
    check_program(root, "0x100006", "0x100007");
    struct json_object *segments;
    json_object_object_get_ex(root, "segments", &segments);
    assert_int_equal(json_object_array_length(segments), 1);
    assert_int_equal(number(json_object_array_get_idx(segments, 0), "not_reached", NULL), 3);
    assert_int_equal(number(json_object_array_get_idx(segments, 0), "not_reached_ranges", NULL), 1);
    json_object_put(root);

    options.has_entry = true;
    options.entry = 0x100008;
    root = scan_json(file, options);
    assert_int_equal(number(root, "instructions", NULL), 1);
    json_object_put(root);
}

static void test_text_report(void **state)
{
    struct file *file = *state;
    struct scan_options options = {.bits = 64};
    struct vd_error err;

    memcpy(file->bytes, program, sizeof(program));
    file->size = sizeof(program);
    char *text = scan(file, &options, &err);
    assert_non_null(text);
    assert_non_null(strstr(text, "3 blocks, 6 instructions, 9 of 12 bytes (75.0 %)"));
    assert_non_null(strstr(text, "sensitive instructions: 2"));
    assert_non_null(strstr(text, "0x6  cli\n"));
    assert_non_null(strstr(text, "3 bytes not reached in 1 range, the largest 3 at 0x9"));
    free(text);
}

static void test_boot_sector(void **state)
{
    struct file *file = *state;
    struct scan_options options = {.format = SCAN_AUTO};

    /* jmp 7c20; 7c20: mov ds,ax; int 13h; jmp $ */
    memset(file->bytes, 0, 512);
    memcpy(file->bytes, "\xeb\x1e", 2);
    memcpy(file->bytes + 0x20, "\x8e\xd8\xcd\x13\xeb\xfe", 6);
    memcpy(file->bytes + 510, "\x55\xaa", 2);
    file->size = 1024;
    struct json_object *root = scan_json(file, options);
    assert_int_equal(number(root, "instructions", NULL), 4);
    assert_int_equal(number(root, "bytes", NULL), 8);
    expect_sensitive(root, 0, "0x7c20", "mov ds, ax");
    expect_sensitive(root, 1, "0x7c22", "int 0x13");
    json_object_put(root);
}

static void test_bzimage(void **state)
{
    struct file *file = *state;
    struct scan_options options = {.format = SCAN_AUTO};
    uint8_t *b = file->bytes;

    memset(b, 0, sizeof(file->bytes));
    b[0x1f1] = 1; /* one setup sector behind the first */
    memcpy(b + 0x1fe, "\x55\xaa\xeb\x66HdrS\x0f\x02", 10);
    /* 0268: push ds; push 0270; retf; 0270: hlt; jmp $ */
    memcpy(b + 0x268, "\x1e\x68\x70\x02\xcb", 5);
    memcpy(b + 0x270, "\xf4\xeb\xfd", 3);
    b[0x236] = 1; /* XLF_KERNEL_64 */
    b[0x249] = 4; /* payload at 400H, 100H bytes */
    b[0x24d] = 1;
    memcpy(b + 1024, "\xfa\xc3", 2);                 /* 32-bit entry: cli; ret */
    memcpy(b + 1024 + 0x200, "\x0f\x22\xd8\xc3", 4); /* 64-bit entry: mov cr3, rax; ret */
    file->size = 1024 + 0x600;
    struct json_object *root = scan_json(file, options);
    struct json_object *segments;
    json_object_object_get_ex(root, "segments", &segments);
    assert_int_equal(json_object_array_length(segments), 5); /* setup, head and tail twice */
    assert_int_equal(number(root, "entries", NULL), 3);
    expect_sensitive(root, 0, "0x268", "push ds");
    expect_sensitive(root, 1, "0x26c", "retf");
    expect_sensitive(root, 2, "0x270", "hlt");
    expect_sensitive(root, 3, "0x100000", "cli");
    expect_sensitive(root, 4, "0x100200", "mov cr3, rax");
    json_object_put(root);

    struct vd_error err;
    file->size = 1024 + 0x480; /* inside the payload */
    assert_null(scan(file, &options, &err));
    assert_non_null(strstr(err.text, "cut off"));
    file->size = 1000;
    assert_null(scan(file, &options, &err));
    assert_non_null(strstr(err.text, "cut off"));
}

/* --- ELF --- */

enum { CODE_AT = 0x200, TABLE_AT = 0x300, SYMBOLS_AT = 0x600, NAMES_AT = 0x700 };

static void make_elf64(struct file *file, uint16_t type, uint64_t address)
{
    Elf64_Ehdr *h = (void *)file->bytes;
    Elf64_Shdr *s = (void *)(file->bytes + TABLE_AT);
    Elf64_Sym *symbol = (void *)(file->bytes + SYMBOLS_AT);
    static const char names[] = "\0.text\0.shstrtab\0.symtab";

    memset(file->bytes, 0, sizeof(file->bytes));
    memcpy(h->e_ident, ELFMAG "\2\1\1", 7);
    h->e_type = type;
    h->e_machine = EM_X86_64;
    h->e_version = 1;
    h->e_entry = address;
    h->e_shoff = TABLE_AT;
    h->e_ehsize = sizeof(*h);
    h->e_shentsize = sizeof(*s);
    h->e_shnum = 4;
    h->e_shstrndx = 2;
    memcpy(file->bytes + CODE_AT, program, sizeof(program));
    memcpy(file->bytes + CODE_AT + 9, "\x0f\x0b\xc3", 3); /* a function: ud2 */
    s[1] = (Elf64_Shdr){.sh_name = 1,
                        .sh_type = SHT_PROGBITS,
                        .sh_flags = SHF_ALLOC | SHF_EXECINSTR,
                        .sh_addr = address,
                        .sh_offset = CODE_AT,
                        .sh_size = sizeof(program)};
    s[2] = (Elf64_Shdr){
        .sh_name = 7, .sh_type = SHT_STRTAB, .sh_offset = NAMES_AT, .sh_size = sizeof(names)};
    s[3] = (Elf64_Shdr){.sh_name = 17,
                        .sh_type = SHT_SYMTAB,
                        .sh_offset = SYMBOLS_AT,
                        .sh_size = 2 * sizeof(*symbol),
                        .sh_entsize = sizeof(*symbol)};
    symbol[1].st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC);
    symbol[1].st_shndx = 1;
    symbol[1].st_value = (type == ET_REL ? 0 : address) + 9;
    memcpy(file->bytes + NAMES_AT, names, sizeof(names));
    file->size = 0x800;
}

static void make_elf32(struct file *file)
{
    Elf32_Ehdr *h = (void *)file->bytes;
    Elf32_Phdr *p = (void *)(file->bytes + 0x100);

    memset(file->bytes, 0, sizeof(file->bytes));
    memcpy(h->e_ident, ELFMAG "\1\1\1", 7);
    h->e_type = ET_EXEC;
    h->e_machine = EM_386;
    h->e_entry = 0x1000; /* physical, as in a kernel */
    h->e_phoff = 0x100;
    h->e_phentsize = sizeof(*p);
    h->e_phnum = 1;
    *p = (Elf32_Phdr){.p_type = PT_LOAD,
                      .p_offset = CODE_AT,
                      .p_vaddr = 0xc0001000,
                      .p_paddr = 0x1000,
                      .p_filesz = sizeof(program),
                      .p_memsz = sizeof(program),
                      .p_flags = PF_X | PF_R};
    memcpy(file->bytes + CODE_AT, program, sizeof(program));
    file->size = 0x400;
}

static void test_elf(void **state)
{
    struct file *file = *state;
    struct scan_options options = {.format = SCAN_AUTO};

    make_elf64(file, ET_EXEC, 0xffffffff81000000);
    struct json_object *root = scan_json(file, options);
    assert_int_equal(number(root, "instructions", NULL), 7);
    expect_sensitive(root, 0, "0xffffffff81000006", "cli");
    expect_sensitive(root, 2, "0xffffffff81000009", "ud2"); /* through the symbol */
    json_object_put(root);

    make_elf64(file, ET_REL, 0);
    root = scan_json(file, options);
    assert_int_equal(number(root, "instructions", NULL), 7);
    expect_sensitive(root, 2, "0x209", "ud2");
    json_object_put(root);

    make_elf32(file);
    root = scan_json(file, options);
    check_program(root, "0xc0001006", "0xc0001007");
    json_object_put(root);
}

static void test_errors(void **state)
{
    struct file *file = *state;
    struct scan_options options = {.format = SCAN_AUTO};
    struct vd_error err;

    file->size = 0;
    assert_null(scan(file, &options, &err));
    assert_non_null(strstr(err.text, "empty"));
    memset(file->bytes, 'x', 600);
    file->size = 600;
    assert_null(scan(file, &options, &err));
    assert_non_null(strstr(err.text, "give the code size"));
    options.bits = 20;
    assert_null(scan(file, &options, &err));
    options.bits = 16;
    options.has_base = true;
    options.base = 0xfff0;
    assert_null(scan(file, &options, &err));
    assert_non_null(strstr(err.text, "does not fit"));
    options = (struct scan_options){.format = SCAN_ELF};
    assert_null(scan(file, &options, &err));
    options.format = SCAN_BZIMAGE;
    assert_null(scan(file, &options, &err));
    options = (struct scan_options){.bits = 32, .has_entry = true, .entry = 0x1000};
    assert_null(scan(file, &options, &err));
    assert_non_null(strstr(err.text, "outside the code"));

    options = (struct scan_options){.format = SCAN_AUTO};
    make_elf64(file, ET_EXEC, 0x400000);
    ((Elf64_Ehdr *)(void *)file->bytes)->e_machine = EM_AARCH64;
    assert_null(scan(file, &options, &err));
    assert_non_null(strstr(err.text, "not x86"));
    make_elf64(file, ET_EXEC, 0x400000);
    ((Elf64_Shdr *)(void *)(file->bytes + TABLE_AT))[1].sh_flags = 0;
    assert_null(scan(file, &options, &err));
    assert_non_null(strstr(err.text, "without code"));
    make_elf64(file, ET_EXEC, 0x400000);
    ((Elf64_Shdr *)(void *)(file->bytes + TABLE_AT))[1].sh_size = 1ull << 62;
    assert_null(scan(file, &options, &err));
    assert_non_null(strstr(err.text, "outside the file"));

    assert_int_equal(scan_file("/nonexistent/file", &options, stdout, &err), -1);
    assert_string_equal(err.text, "/nonexistent/file: No such file or directory");
    assert_int_equal(scan_file("/tmp", &options, stdout, &err), -1);
    assert_string_equal(err.text, "/tmp: not a regular file");
}

/* Truncated at every length, and with random bytes in the headers: an error or a report, no more.
 */
static void test_damage(void **state)
{
    struct file *file = *state;
    struct scan_options options = {.format = SCAN_AUTO, .no_progress = true};
    struct vd_error err;
    unsigned seed = 17, reports = 0;
    const char *from_env = getenv("VEDETTE_SEED");

    if (from_env)
        seed = (unsigned)strtoul(from_env, NULL, 0);
    print_message("seed %u\n", seed);
    for (unsigned kind = 0; kind < 3; kind++) {
        for (size_t size = 1; size < 0x800; size += 1 + size / 16) {
            kind == 0   ? make_elf64(file, ET_EXEC, 0x400000)
            : kind == 1 ? make_elf64(file, ET_REL, 0)
                        : make_elf32(file);
            file->size = size;
            char *text = scan(file, &options, &err);
            reports += text != NULL;
            free(text);
        }
        for (unsigned n = 0; n < 1500; n++) {
            kind == 0   ? make_elf64(file, ET_EXEC, 0x400000)
            : kind == 1 ? make_elf64(file, ET_REL, 0)
                        : make_elf32(file);
            for (unsigned m = 0; m < 1 + n % 4; m++) {
                static const unsigned areas[] = {4, 0x100, TABLE_AT + 64, SYMBOLS_AT};
                static const unsigned sizes[] = {60, 32, 192, 48};
                unsigned area = (unsigned)rand_r(&seed) % 4;
                size_t at = areas[area] + (unsigned)rand_r(&seed) % sizes[area];
                file->bytes[at] = (uint8_t)(rand_r(&seed) % 3 ? rand_r(&seed) >> 3 : 0xff);
            }
            char *text = scan(file, &options, &err);
            reports += text != NULL;
            free(text);
        }
    }
    print_message("%u reports\n", reports);
    assert_true(reports > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_flat, open_file, close_file),
        cmocka_unit_test_setup_teardown(test_text_report, open_file, close_file),
        cmocka_unit_test_setup_teardown(test_boot_sector, open_file, close_file),
        cmocka_unit_test_setup_teardown(test_bzimage, open_file, close_file),
        cmocka_unit_test_setup_teardown(test_elf, open_file, close_file),
        cmocka_unit_test_setup_teardown(test_errors, open_file, close_file),
        cmocka_unit_test_setup_teardown(test_damage, open_file, close_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
