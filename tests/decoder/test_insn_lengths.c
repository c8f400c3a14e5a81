/*
 * Instruction lengths of whole binaries, Zydis (insn_decode) against Capstone. Every kind of
 * disagreement is listed with its reason in known_disagreements.txt; an unlisted one fails.
 *
 * Binaries: the Debian kernels in ${VEDETTE_GUESTS} (vmlinux unpacked from bzImage with xz), and
 * the host's libc and gdb if they are there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <capstone/capstone.h>
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "decoder/insn.h"
#include "support/scratch.h"

/* --- the list --- */

struct known {
    unsigned bits;
    char
        mnemonic[24]; /* of insn_mnemonic_name, "invalid" where only Capstone accepts it; * = any */
    char pattern[48]; /* hex of the first bytes after prefixes; * at the end */
    unsigned long hits;
};

struct compare {
    struct known known[64];
    size_t known_count;
    unsigned long compared, disagreements, unlisted;
};

static void load_known(struct compare *compare)
{
    FILE *file = fopen(KNOWN_DISAGREEMENTS, "r");
    char line[256];

    assert_non_null(file);
    while (fgets(line, sizeof(line), file)) {
        struct known *known = &compare->known[compare->known_count];
        if (line[0] == '#' || line[0] == '\n')
            continue;
        assert_true(compare->known_count < sizeof(compare->known) / sizeof(compare->known[0]));
        if (sscanf(line, "%u %23s %47s", &known->bits, known->mnemonic, known->pattern) != 3)
            fail_msg("bad line: %s", line);
        compare->known_count++;
    }
    fclose(file);
}

static int is_legacy_prefix(uint8_t byte)
{
    return byte == 0xf0 || byte == 0xf2 || byte == 0xf3 || byte == 0x66 || byte == 0x67 ||
           byte == 0x26 || byte == 0x2e || byte == 0x36 || byte == 0x3e || byte == 0x64 ||
           byte == 0x65;
}

static int matches(const struct known *known, unsigned bits, const char *mnemonic, const char *hex)
{
    size_t length = strlen(known->pattern);
    int open = length > 0 && known->pattern[length - 1] == '*';

    if (known->bits != bits || (strcmp(known->mnemonic, "*") && strcmp(known->mnemonic, mnemonic)))
        return 0;
    return open ? !strncmp(known->pattern, hex, length - 1) : !strcmp(known->pattern, hex);
}

static void disagree(struct compare *compare, const struct insn *insn, enum insn_status status,
                     const uint8_t *bytes, size_t ours, const cs_insn *theirs, unsigned bits)
{
    const char *mnemonic = status == INSN_OK ? insn_mnemonic_name(insn) : "invalid";
    char hex[2 * 15 + 1] = "", all[3 * 15 + 1] = "";
    size_t at = 0;

    compare->disagreements++;
    for (size_t i = 0; i < 15; i++)
        sprintf(all + 3 * i, "%02x ", bytes[i]);
    while (at < 14 && (is_legacy_prefix(bytes[at]) || (bits == 64 && (bytes[at] & 0xf0) == 0x40)))
        at++;
    for (size_t i = at; i < 15; i++)
        sprintf(hex + 2 * (i - at), "%02x", bytes[i]);
    for (size_t i = 0; i < compare->known_count; i++)
        if (matches(&compare->known[i], bits, mnemonic, hex)) {
            compare->known[i].hits++;
            return;
        }
    if (compare->unlisted++ < 30)
        fprintf(stderr, "unlisted: %u-bit %s: %s %zu, Capstone %s %d\n", bits, all, mnemonic, ours,
                theirs ? theirs->mnemonic : "invalid", theirs ? theirs->size : 0);
}

static void compare_text(struct compare *compare, const uint8_t *text, size_t size, unsigned bits)
{
    csh handle;
    cs_mode mode = bits == 64 ? CS_MODE_64 : bits == 32 ? CS_MODE_32 : CS_MODE_16;
    cs_insn *theirs;

    assert_int_equal(cs_open(CS_ARCH_X86, mode, &handle), CS_ERR_OK);
    theirs = cs_malloc(handle);
    assert_non_null(theirs);
    for (size_t at = 0; at + 15 <= size;) {
        struct insn insn;
        const uint8_t *code = text + at;
        size_t left = 15;
        uint64_t address = 0x1000;
        enum insn_status status = insn_decode(&insn, text + at, 15, bits);
        bool valid = cs_disasm_iter(handle, &code, &left, &address, theirs);
        size_t ours = status == INSN_OK ? insn.len : 0;
        compare->compared++;
        if (ours != (valid ? theirs->size : 0u))
            disagree(compare, &insn, status, text + at, ours, valid ? theirs : NULL, bits);
        at += status == INSN_OK ? insn.len : 1;
    }
    cs_free(theirs, 1);
    cs_close(&handle);
}

/* --- files --- */

static uint8_t *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = NULL;
    long length;

    if (!file)
        return NULL;
    if (fseek(file, 0, SEEK_END) == 0 && (length = ftell(file)) > 0 &&
        (data = malloc((size_t)length)) != NULL) {
        rewind(file);
        *size = fread(data, 1, (size_t)length, file);
    }
    fclose(file);
    return data;
}

static int find_text64(const uint8_t *elf, size_t size, size_t *offset, size_t *length)
{
    const Elf64_Ehdr *header = (const void *)elf;

    for (unsigned i = 0; i < header->e_shnum; i++) {
        const Elf64_Shdr *sections = (const void *)(elf + header->e_shoff);
        const char *names = (const char *)elf + sections[header->e_shstrndx].sh_offset;
        if (strcmp(names + sections[i].sh_name, ".text"))
            continue;
        *offset = sections[i].sh_offset;
        *length = sections[i].sh_size;
        return *offset + *length <= size;
    }
    return 0;
}

static int find_text32(const uint8_t *elf, size_t size, size_t *offset, size_t *length)
{
    const Elf32_Ehdr *header = (const void *)elf;

    for (unsigned i = 0; i < header->e_shnum; i++) {
        const Elf32_Shdr *sections = (const void *)(elf + header->e_shoff);
        const char *names = (const char *)elf + sections[header->e_shstrndx].sh_offset;
        if (strcmp(names + sections[i].sh_name, ".text"))
            continue;
        *offset = sections[i].sh_offset;
        *length = sections[i].sh_size;
        return *offset + *length <= size;
    }
    return 0;
}

/* Returns 1 if the file is there. */
static int compare_elf(struct compare *compare, const char *path, const char *what)
{
    size_t size = 0, offset = 0, length = 0;
    uint8_t *elf = read_file(path, &size);
    unsigned bits;
    unsigned long before = compare->compared, known_before = compare->disagreements;

    if (!elf)
        return 0;
    assert_true(size > sizeof(Elf64_Ehdr) && !memcmp(elf, ELFMAG, SELFMAG));
    bits = elf[EI_CLASS] == ELFCLASS64 ? 64 : 32;
    assert_true(bits == 64 ? find_text64(elf, size, &offset, &length)
                           : find_text32(elf, size, &offset, &length));
    compare_text(compare, elf + offset, length, bits);
    print_message("%s: %u-bit, %lu instructions, %lu disagreements\n", what, bits,
                  compare->compared - before, compare->disagreements - known_before);
    free(elf);
    return 1;
}

/* The payload of a bzImage (Linux boot protocol 2.08: offset at 248H, length at 24CH), XZ only. */
static int compare_bzimage(struct compare *compare, const char *path)
{
    struct scratch scratch;
    char packed[SCRATCH_PATH], unpacked[SCRATCH_PATH], command[3 * SCRATCH_PATH];
    size_t size = 0;
    uint8_t *image = read_file(path, &size);
    uint32_t offset, length;
    int found = 0;

    if (!image)
        return 0;
    assert_true(size > 0x300);
    memcpy(&offset, image + 0x248, 4);
    memcpy(&length, image + 0x24c, 4);
    offset += (image[0x1f1] + 1u) * 512;
    assert_true((uint64_t)offset + length <= size);
    /* the real-mode setup, from its entry at 200H on; a part of it is text, decoded all the same */
    compare_text(compare, image + 0x268, (image[0x1f1] + 1u) * 512 - 0x268, 16);
    assert_int_equal(scratch_open(&scratch), 0);
    scratch_path(&scratch, "packed", packed);
    scratch_path(&scratch, "unpacked", unpacked);
    scratch_write(packed, image + offset, length);
    free(image);
    snprintf(command, sizeof(command), "xz -dc --single-stream < %s > %s 2>/dev/null", packed,
             unpacked);
    if (system(command) == 0 && access(unpacked, R_OK) == 0)
        found = compare_elf(compare, unpacked, path);
    assert_int_equal(scratch_close(&scratch), 0);
    return found;
}

static void test_lengths(void **state)
{
    static const char *const kernels[] = {"vmlinuz-amd64", "vmlinuz-686"};
    const char *guests = getenv("VEDETTE_GUESTS");
    struct compare compare = {0};
    int binaries = 0;

    (void)state;
    load_known(&compare);
    for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
        char path[512];
        snprintf(path, sizeof(path), "%s/%s", guests ? guests : GUESTS_DIR, kernels[i]);
        binaries += compare_bzimage(&compare, path);
    }
    binaries += compare_elf(&compare, "/lib/x86_64-linux-gnu/libc.so.6", "libc");
    if (binaries < 2)
        binaries += compare_elf(&compare, "/usr/bin/gdb", "gdb");
    if (binaries == 0)
        skip();
    for (size_t i = 0; i < compare.known_count; i++)
        print_message("%8lu times: %u %s %s\n", compare.known[i].hits, compare.known[i].bits,
                      compare.known[i].mnemonic, compare.known[i].pattern);
    assert_int_equal(compare.unlisted, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lengths)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
