/* Linux boot protocol (Documentation/arch/x86/boot.rst): accepted and refused images, placement. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
// clang-format on

#include "machine/linux_loader.h"
#include "support/little_endian.h"
#include "support/scratch.h"

enum { SETUP_SIZE = 5 * 512, IMAGE_SIZE = SETUP_SIZE + 0x8000, RAM_END = 64 << 20 };

struct rig {
    struct scratch scratch;
    char kernel[SCRATCH_PATH], initrd[SCRATCH_PATH];
    uint8_t image[IMAGE_SIZE];
    struct vd_error err;
};

/* A bzImage of protocol 2.15 as a present-day kernel has it. */
static void make_image(uint8_t *image)
{
    for (unsigned i = 0; i < IMAGE_SIZE; i++)
        image[i] = (uint8_t)(i * 13 + i / 256);
    image[0x1f1] = 4;
    put(image + 0x1f4, (IMAGE_SIZE - SETUP_SIZE) / 16, 4);
    put(image + 0x1fa, 0xffff, 2);
    put(image + 0x1fe, 0xaa55, 2);
    memcpy(image + 0x202, "HdrS", 4);
    put(image + 0x206, 0x20f, 2);
    image[0x210] = 0;
    image[0x211] = 1;
    put(image + 0x214, 0x100000, 4);
    put(image + 0x218, 0, 8);
    put(image + 0x228, 0, 4);
    put(image + 0x22c, 0x7fffffff, 4);
    put(image + 0x230, 0x200000, 4);
    image[0x234] = 1;
    put(image + 0x238, 2047, 4);
    put(image + 0x258, 0x1000000, 8);
    put(image + 0x260, 0x1000000, 4); /* 16 MiB from 16 MiB on */
}

static int setup(void **state)
{
    static struct rig rig;
    memset(&rig, 0, sizeof(rig));
    if (scratch_open(&rig.scratch) < 0)
        return -1;
    scratch_path(&rig.scratch, "kernel", rig.kernel);
    scratch_path(&rig.scratch, "initrd", rig.initrd);
    make_image(rig.image);
    *state = &rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    return scratch_close(&rig->scratch);
}

static int parse(struct rig *rig, uint64_t size, struct linux_header *header)
{
    rig->err.text[0] = 0;
    return linux_parse_header(rig->image, size, "k", header, &rig->err);
}

static void refuse(struct rig *rig, uint64_t size, const char *reason)
{
    struct linux_header header;
    assert_int_equal(parse(rig, size, &header), -1);
    if (!strstr(rig->err.text, reason))
        fail_msg("'%s' does not say '%s'", rig->err.text, reason);
    assert_null(strchr(rig->err.text, '\n'));
    make_image(rig->image);
}

static void test_header(void **state)
{
    struct rig *rig = *state;
    struct linux_header header;
    assert_int_equal(parse(rig, IMAGE_SIZE, &header), 0);
    assert_int_equal(header.version, 0x20f);
    assert_int_equal(header.setup_size, SETUP_SIZE);
    assert_int_equal(header.initrd_addr_max, 0x7fffffff);
    assert_int_equal(header.cmdline_max, 2047);
    assert_int_equal(header.memory_end, 0x2000000);
    rig->image[0x1f1] = 0; /* means 4 */
    assert_int_equal(parse(rig, IMAGE_SIZE, &header), 0);
    assert_int_equal(header.setup_size, SETUP_SIZE);
}

static void test_old_protocols(void **state)
{
    struct rig *rig = *state;
    struct linux_header header;
    put(rig->image + 0x206, 0x202, 2);
    put(rig->image + 0x1f6, 0x1234, 2); /* not part of the size before 2.04 */
    assert_int_equal(parse(rig, IMAGE_SIZE, &header), 0);
    assert_int_equal(header.initrd_addr_max, 0x37ffffff);
    assert_int_equal(header.cmdline_max, 255);
    assert_int_equal(header.memory_end, 0x100000 + IMAGE_SIZE - SETUP_SIZE);
}

static void test_refused_images(void **state)
{
    struct rig *rig = *state;
    refuse(rig, 0, "not a Linux kernel");
    refuse(rig, 511, "not a Linux kernel");
    refuse(rig, 512, "not a Linux kernel");
    rig->image[0x1fe] = 0;
    refuse(rig, IMAGE_SIZE, "no boot signature");
    rig->image[0x202] = 'h';
    refuse(rig, IMAGE_SIZE, "no setup header");
    put(rig->image + 0x206, 0x201, 2);
    refuse(rig, IMAGE_SIZE, "too old");
    rig->image[0x211] = 0;
    refuse(rig, IMAGE_SIZE, "zImage");
    rig->image[0x1f1] = 255;
    refuse(rig, IMAGE_SIZE, "too large");
    refuse(rig, SETUP_SIZE, "truncated");
    refuse(rig, IMAGE_SIZE - 16, "truncated");
    refuse(rig, 0x230, "truncated");
    put(rig->image + 0x1f4, 0xffffffff, 4);
    refuse(rig, IMAGE_SIZE, "truncated");
    put(rig->image + 0x1f4, 1, 4);
    refuse(rig, 1ull << 40, "larger than 4 GiB");
}

static int boot_open(struct rig *rig, struct linux_boot *boot, bool initrd, const char *cmdline,
                     uint64_t ram_end)
{
    struct linux_boot_config config = {.kernel = rig->kernel,
                                       .initrd = initrd ? rig->initrd : NULL,
                                       .cmdline = cmdline,
                                       .ram_end = ram_end};
    rig->err.text[0] = 0;
    return linux_boot_open(boot, &config, &rig->err);
}

static void test_patched_setup(void **state)
{
    struct rig *rig = *state;
    struct linux_boot boot;
    static uint8_t initrd[10000];
    scratch_write(rig->kernel, rig->image, IMAGE_SIZE);
    scratch_write(rig->initrd, initrd, sizeof(initrd));
    assert_int_equal(boot_open(rig, &boot, true, "a=b vga=0x318 c", RAM_END), 0);
    const uint8_t *s = boot.setup;
    assert_int_equal(s[0x210], 0xff);
    assert_int_equal(s[0x211], 0x81);
    assert_int_equal(get(s + 0x1fa, 2), 0x318);
    assert_int_equal(get(s + 0x218, 4), boot.initrd_addr);
    assert_int_equal(get(s + 0x21c, 4), 10000);
    assert_int_equal(get(s + 0x228, 4), 0x20000);
    assert_int_equal(get(s + 0x224, 2), 0xfe00);
    assert_int_equal(boot.kernel_size, IMAGE_SIZE - SETUP_SIZE);
    assert_int_equal(boot.initrd_addr & 0xfff, 0);
    assert_true(boot.initrd_addr + 10000ull <= RAM_END - 0x100000);
    assert_true(boot.initrd_addr > RAM_END - 0x100000 - 10000 - 4096);
    linux_boot_close(&boot);
}

static void test_video_modes(void **state)
{
    struct rig *rig = *state;
    static const struct {
        const char *cmdline;
        uint16_t mode;
    } cases[] = {
        {"vga=normal", 0xffff}, {"x vga=ask", 0xfffd}, {"vga=ext y", 0xfffe}, {"vga=791", 791},
        {"vga=0x317", 0x317},   {"novga=7", 0xffff},   {"vga=junk", 0xffff},  {"vga=70000", 0xffff},
        {"vga=7x", 0xffff},     {"xvga=1 vga=2", 2},   {"vga=", 0xffff},      {NULL, 0xffff},
    };
    scratch_write(rig->kernel, rig->image, IMAGE_SIZE);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct linux_boot boot;
        assert_int_equal(boot_open(rig, &boot, false, cases[i].cmdline, RAM_END), 0);
        assert_int_equal(get(boot.setup + 0x1fa, 2), cases[i].mode);
        linux_boot_close(&boot);
    }
}

static void test_initrd_limit(void **state)
{
    struct rig *rig = *state;
    struct linux_boot boot;
    static uint8_t initrd[0x10000];
    scratch_write(rig->initrd, initrd, sizeof(initrd));
    put(rig->image + 0x22c, 0x2ffffff, 4); /* below 48 MiB */
    scratch_write(rig->kernel, rig->image, IMAGE_SIZE);
    assert_int_equal(boot_open(rig, &boot, true, "", RAM_END), 0);
    assert_int_equal(boot.initrd_addr, 0x3000000 - 0x10000);
    linux_boot_close(&boot);
}

static void expect_error(struct rig *rig, bool initrd, const char *cmdline, uint64_t ram_end,
                         const char *reason)
{
    struct linux_boot boot;
    assert_int_equal(boot_open(rig, &boot, initrd, cmdline, ram_end), -1);
    if (!strstr(rig->err.text, reason))
        fail_msg("'%s' does not say '%s'", rig->err.text, reason);
}

static void test_open_errors(void **state)
{
    struct rig *rig = *state;
    char cmdline[2100];
    expect_error(rig, false, "", RAM_END, "kernel: No such file");
    scratch_write(rig->kernel, rig->image, IMAGE_SIZE);
    expect_error(rig, true, "", RAM_END, "initrd: No such file");
    scratch_write(rig->initrd, "", 0);
    expect_error(rig, true, "", RAM_END, "empty");
    memset(cmdline, 'x', sizeof(cmdline));
    cmdline[2048] = 0;
    expect_error(rig, false, cmdline, RAM_END, "2048 characters");
    cmdline[2047] = 0;
    struct linux_boot boot;
    assert_int_equal(boot_open(rig, &boot, false, cmdline, RAM_END), 0);
    linux_boot_close(&boot);
    expect_error(rig, false, "", 31 << 20, "needs");
    /* 20 MiB of initrd on top of a kernel that needs 32 of 48 MiB */
    scratch_write(rig->initrd, "x", 1);
    assert_int_equal(truncate(rig->initrd, 20 << 20), 0);
    expect_error(rig, true, "", 48 << 20, "do not fit");
    struct linux_boot_config directory = {.kernel = rig->scratch.dir, .ram_end = RAM_END};
    assert_int_equal(linux_boot_open(&boot, &directory, &rig->err), -1);
    assert_non_null(strstr(rig->err.text, "not a regular file"));
}

static int read_source(const struct fw_cfg_item *item, uint64_t offset, void *buffer, uint32_t size)
{
    return item->source.read(item->source.ctx, offset, buffer, size);
}

static void test_fw_cfg_contents(void **state)
{
    struct rig *rig = *state;
    struct address_space *as;
    struct fw_cfg fw;
    struct linux_boot boot;
    uint8_t data[64];
    assert_int_equal(as_create(&as, 1 << 20, 0xc0000000, &rig->err), 0);
    assert_int_equal(fw_cfg_init(&fw, as, 0x510, &rig->err), 0);
    scratch_write(rig->kernel, rig->image, IMAGE_SIZE);
    scratch_write(rig->initrd, "initrd!", 7);
    assert_int_equal(boot_open(rig, &boot, true, "quiet", RAM_END), 0);
    assert_int_equal(linux_boot_add(&boot, &fw, &rig->err), 0);
    static const struct {
        unsigned key;
        uint32_t value;
    } numbers[] = {{FW_CFG_KERNEL_ADDR, 0x100000}, {FW_CFG_KERNEL_SIZE, IMAGE_SIZE - SETUP_SIZE},
                   {FW_CFG_CMDLINE_ADDR, 0x20000}, {FW_CFG_CMDLINE_SIZE, 6},
                   {FW_CFG_SETUP_ADDR, 0x10000},   {FW_CFG_SETUP_SIZE, SETUP_SIZE},
                   {FW_CFG_INITRD_SIZE, 7}};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        const struct fw_cfg_item *item = fw_cfg_find(&fw, numbers[i].key);
        assert_non_null(item);
        assert_int_equal(item->size, 4);
        assert_int_equal(get(item->data, 4), numbers[i].value);
    }
    assert_memory_equal(fw_cfg_find(&fw, FW_CFG_CMDLINE_DATA)->data, "quiet", 6);
    const struct fw_cfg_item *kernel = fw_cfg_find(&fw, FW_CFG_KERNEL_DATA);
    assert_int_equal(read_source(kernel, 100, data, 64), 0);
    assert_memory_equal(data, rig->image + SETUP_SIZE + 100, 64);
    const struct fw_cfg_item *initrd = fw_cfg_find(&fw, FW_CFG_INITRD_DATA);
    assert_int_equal(read_source(initrd, 0, data, 7), 0);
    assert_memory_equal(data, "initrd!", 7);
    assert_string_equal((const char *)fw_cfg_find_file(&fw, "bootorder")->data,
                        "/rom@genroms/linuxboot.bin\n");
    assert_non_null(fw_cfg_find_file(&fw, "genroms/linuxboot.bin"));
    /* The file shrinks under our feet. */
    assert_int_equal(truncate(rig->kernel, SETUP_SIZE + 10), 0);
    assert_int_equal(read_source(kernel, 0, data, 64), -1);
    fw_cfg_destroy(&fw);
    linux_boot_close(&boot);
    as_destroy(as);
}

/* BIOS Boot Specification 1.01 and Plug and Play BIOS Specification 1.0A, 3.2. */
static void test_boot_rom(void **state)
{
    (void)state;
    uint32_t size;
    uint8_t *rom = linux_boot_rom(&size);
    assert_non_null(rom);
    assert_int_equal(size % 512, 0);
    assert_int_equal(get(rom, 2), 0xaa55);
    assert_int_equal(rom[2] * 512, size);
    uint8_t sum = 0;
    for (uint32_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + rom[i]);
    assert_int_equal(sum, 0);
    const uint8_t *pnp = rom + get(rom + 0x1a, 2);
    assert_memory_equal(pnp, "$PnP", 4);
    assert_int_equal(pnp[5], 2);
    for (unsigned i = 0; i < 32; i++)
        sum = (uint8_t)(sum + pnp[i]);
    assert_int_equal(sum, 0);
    assert_in_range(get(pnp + 0x1a, 2), 0x40, size - 1); /* BEV */
    assert_string_equal((const char *)rom + get(pnp + 0x10, 2), "Linux kernel");
    free(rom);
}

static void test_random_headers(void **state)
{
    struct rig *rig = *state;
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    srand(seed);
    for (unsigned n = 0; n < 20000; n++) {
        struct linux_header header;
        make_image(rig->image);
        for (unsigned i = 0; i < 6; i++)
            rig->image[0x1f1 + rand() % 0x77] = (uint8_t)rand();
        uint64_t size = (uint64_t)rand() % (IMAGE_SIZE + 1);
        if (parse(rig, size, &header) == 0) {
            assert_true(header.setup_size < size);
            assert_true(header.setup_size >= 1024 && header.setup_size <= LINUX_SETUP_MAX);
            assert_true(header.memory_end >= 0x100000);
        } else {
            assert_true(strlen(rig->err.text) > 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_header, setup, teardown),
        cmocka_unit_test_setup_teardown(test_old_protocols, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused_images, setup, teardown),
        cmocka_unit_test_setup_teardown(test_patched_setup, setup, teardown),
        cmocka_unit_test_setup_teardown(test_video_modes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_initrd_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_open_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fw_cfg_contents, setup, teardown),
        cmocka_unit_test_setup_teardown(test_boot_rom, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random_headers, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
