/* The firmware configuration interface: ports, file directory, DMA descriptor. */
#include "board_fixture.h"
#include "devices/fw_cfg.h"

struct rig {
    struct board board;
    struct fw_cfg fw;
};

static int setup(void **state)
{
    static struct rig rig;
    struct vd_error err;
    board_create(&rig.board, 4 << 20);
    assert_int_equal(fw_cfg_init(&rig.fw, rig.board.as, 0x510, &err), 0);
    *state = &rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    fw_cfg_destroy(&rig->fw);
    board_destroy(&rig->board);
    return 0;
}

static void read_item(struct rig *rig, uint16_t key, void *buffer, size_t size)
{
    out16(&rig->board, 0x510, key);
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)buffer)[i] = in8(&rig->board, 0x511);
}

static uint32_t be32(const uint8_t *b)
{
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* Runs a DMA with the descriptor at descriptor; returns the control word afterwards. */
static uint32_t dma(struct rig *rig, uint64_t descriptor, uint32_t control, uint32_t length,
                    uint64_t address)
{
    uint32_t words[4] = {__builtin_bswap32(control), __builtin_bswap32(length),
                         __builtin_bswap32((uint32_t)(address >> 32)),
                         __builtin_bswap32((uint32_t)address)};
    as_write(rig->board.as, descriptor, words, sizeof(words));
    if (descriptor >> 32)
        out32(&rig->board, 0x514, __builtin_bswap32((uint32_t)(descriptor >> 32)));
    out32(&rig->board, 0x518, __builtin_bswap32((uint32_t)descriptor));
    return __builtin_bswap32(mem_read32(&rig->board, descriptor));
}

static void test_signature_and_id(void **state)
{
    struct rig *rig = *state;
    uint8_t bytes[6];
    read_item(rig, 0, bytes, 6);
    assert_memory_equal(bytes, "QEMU\0\0", 6); /* zeros past the end */
    read_item(rig, 1, bytes, 4);
    assert_memory_equal(bytes, "\x03\0\0\0", 4); /* traditional and DMA */
    assert_int_equal(in32(&rig->board, 0x514), 0x554d4551);
    assert_int_equal(in32(&rig->board, 0x518), 0x47464320);
}

static void test_numbers_are_little_endian(void **state)
{
    struct rig *rig = *state;
    uint8_t bytes[4];
    assert_int_equal(fw_cfg_add_u32(&rig->fw, FW_CFG_KERNEL_SIZE, 0x12345678, NULL), 0);
    assert_int_equal(fw_cfg_add_u16(&rig->fw, FW_CFG_NB_CPUS, 0x0102, NULL), 0);
    read_item(rig, FW_CFG_KERNEL_SIZE, bytes, 4);
    assert_memory_equal(bytes, "\x78\x56\x34\x12", 4);
    read_item(rig, FW_CFG_NB_CPUS, bytes, 4);
    assert_memory_equal(bytes, "\x02\x01\0\0", 4);
    /* Replacing keeps one item. */
    assert_int_equal(fw_cfg_add_u16(&rig->fw, FW_CFG_NB_CPUS, 7, NULL), 0);
    read_item(rig, FW_CFG_NB_CPUS, bytes, 2);
    assert_memory_equal(bytes, "\x07\0", 2);
}

static void test_absent_item_reads_zero(void **state)
{
    struct rig *rig = *state;
    uint8_t bytes[8];
    read_item(rig, FW_CFG_NUMA, bytes, 8);
    assert_memory_equal(bytes, "\0\0\0\0\0\0\0\0", 8);
    read_item(rig, 0xffff, bytes, 8);
    assert_memory_equal(bytes, "\0\0\0\0\0\0\0\0", 8);
}

static void test_selecting_rewinds(void **state)
{
    struct rig *rig = *state;
    uint8_t bytes[2];
    read_item(rig, 0, bytes, 2);
    read_item(rig, 0, bytes, 2);
    assert_memory_equal(bytes, "QE", 2);
    assert_int_equal(in8(&rig->board, 0x511), 'M');
    out8(&rig->board, 0x511, 'x'); /* writes to the data port do nothing */
    assert_int_equal(in8(&rig->board, 0x511), 'U');
}

static void test_file_directory(void **state)
{
    struct rig *rig = *state;
    static const char *const names[] = {"etc/e820", "bootorder", "genroms/linuxboot.bin",
                                        "etc/acpi/rsdp"};
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(fw_cfg_add_file(&rig->fw, names[i], names[i], 5 + i, NULL), 0);
    assert_int_equal(fw_cfg_add_file(&rig->fw, "bootorder", "new text", 8, NULL), 0);
    uint8_t directory[4 + 4 * 64], content[16];
    read_item(rig, FW_CFG_FILE_DIR, directory, sizeof(directory));
    assert_int_equal(be32(directory), 4);
    const char *last = "";
    for (unsigned i = 0; i < 4; i++) {
        const uint8_t *entry = directory + 4 + 64 * i;
        const char *name = (const char *)entry + 8;
        uint16_t key = (uint16_t)(be32(entry + 4) >> 16);
        assert_true(strcmp(last, name) < 0);
        assert_true(key >= FW_CFG_FILE_FIRST);
        assert_int_equal(be32(entry + 4) & 0xffff, 0);
        uint32_t size = be32(entry);
        memset(content, 0xee, sizeof(content));
        read_item(rig, key, content, size);
        assert_memory_equal(content, strcmp(name, "bootorder") ? name : "new text", size);
        last = name;
    }
    char long_name[57];
    memset(long_name, 'a', 56);
    long_name[56] = 0;
    assert_int_equal(fw_cfg_add_file(&rig->fw, long_name, "", 0, NULL), -1);
    long_name[55] = 0;
    assert_int_equal(fw_cfg_add_file(&rig->fw, long_name, "", 0, NULL), 0);
    assert_int_equal(fw_cfg_add_file(&rig->fw, "", "", 0, NULL), -1);
}

static void test_dma_read(void **state)
{
    struct rig *rig = *state;
    static const char text[] = "0123456789";
    char got[16];
    assert_int_equal(fw_cfg_add_file(&rig->fw, "f", text, 10, NULL), 0);
    uint32_t select = (uint32_t)FW_CFG_FILE_FIRST << 16 | FW_CFG_DMA_SELECT;
    assert_int_equal(dma(rig, 0x1000, select | FW_CFG_DMA_READ, 4, 0x2000), 0);
    assert_int_equal(dma(rig, 0x1000, FW_CFG_DMA_READ, 3, 0x2004), 0);
    assert_int_equal(dma(rig, 0x1000, FW_CFG_DMA_SKIP, 1, 0), 0);
    memset(got, 0xee, sizeof(got));
    as_write(rig->board.as, 0x2007, got, 8);
    assert_int_equal(dma(rig, 0x1000, FW_CFG_DMA_READ, 6, 0x2007), 0); /* 2 left, then zeros */
    as_read(rig->board.as, 0x2000, got, 16);
    assert_memory_equal(got, "012345689\0\0\0\0\xee\xee", 15);
    /* The data port goes on where DMA stopped. */
    assert_int_equal(dma(rig, 0x1000, select, 0, 0), 0);
    assert_int_equal(dma(rig, 0x1000, FW_CFG_DMA_SKIP, 9, 0), 0);
    assert_int_equal(in8(&rig->board, 0x511), '9');
    assert_int_equal(in8(&rig->board, 0x511), 0);
}

static void test_dma_write_is_refused(void **state)
{
    struct rig *rig = *state;
    mem_write32(&rig->board, 0x2000, 0x31313131);
    assert_int_equal(dma(rig, 0x1000, FW_CFG_DMA_SELECT | FW_CFG_DMA_WRITE, 4, 0x2000),
                     FW_CFG_DMA_ERROR);
    uint8_t bytes[4];
    read_item(rig, 0, bytes, 4);
    assert_memory_equal(bytes, "QEMU", 4);
}

static void test_guest_garbage(void **state)
{
    struct rig *rig = *state;
    /* Descriptors nowhere, in a hole, at the end of RAM; lengths and addresses that wrap. */
    out32(&rig->board, 0x518, 0xffffffff);
    out32(&rig->board, 0x514, 0xffffffff);
    out32(&rig->board, 0x518, 0xffffffff);
    dma(rig, 0xa0000, FW_CFG_DMA_READ, 16, 0x1000);
    dma(rig, (4 << 20) - 8, FW_CFG_DMA_READ, 16, 0x1000);
    dma(rig, 0x1000, FW_CFG_DMA_SELECT | FW_CFG_DMA_READ, 0x300000, UINT64_MAX - 7);
    dma(rig, 0x1000, FW_CFG_DMA_SELECT | FW_CFG_DMA_SKIP, UINT32_MAX, 0);
    dma(rig, 0x1000, FW_CFG_DMA_SKIP, UINT32_MAX, 0);
    assert_int_equal(in8(&rig->board, 0x511), 0);
    /* A transfer over its own descriptor: the result is still written. */
    assert_int_equal(dma(rig, 0x1000, FW_CFG_DMA_SELECT | FW_CFG_DMA_READ, 16, 0x1000), 0);
    assert_int_equal(dma(rig, 0x1000, 0xffffffe0, 4, 0x2000), 0); /* reserved bits only */
    /* Odd sizes at the DMA ports start nothing. */
    mem_write32(&rig->board, 0, 0xffffffff);
    out8(&rig->board, 0x518, 0);
    out16(&rig->board, 0x518, 0);
    assert_int_equal(mem_read32(&rig->board, 0), 0xffffffff);
}

static int read_pattern(void *ctx, uint64_t offset, void *buffer, uint32_t size)
{
    const uint64_t *fail_at = ctx;
    for (uint32_t i = 0; i < size; i++)
        ((uint8_t *)buffer)[i] = (uint8_t)((offset + i) * 7 + (offset + i) / 256);
    return offset <= *fail_at && *fail_at < offset + size ? -1 : 0;
}

static void test_sources(void **state)
{
    struct rig *rig = *state;
    uint64_t fail_at = UINT64_MAX;
    struct fw_cfg_source source = {.ctx = &fail_at, .read = read_pattern};
    uint8_t got[300], want[300];
    assert_int_equal(fw_cfg_add_source(&rig->fw, FW_CFG_INITRD_DATA, &source, 200000, NULL), 0);
    uint32_t select = (uint32_t)FW_CFG_INITRD_DATA << 16 | FW_CFG_DMA_SELECT;
    assert_int_equal(dma(rig, 0x1000, select | FW_CFG_DMA_READ, 200100, 0x100001), 0);
    for (uint32_t at = 0; at < 200000; at += 12345) {
        as_read(rig->board.as, 0x100001 + at, got, 300);
        read_pattern(&fail_at, at, want, 300);
        assert_memory_equal(got, want, at + 300 <= 200000 ? 300 : 200000 - at);
    }
    read_item(rig, FW_CFG_INITRD_DATA, got, 5);
    read_pattern(&fail_at, 0, want, 5);
    assert_memory_equal(got, want, 5);
    fail_at = 150000; /* the host cannot read it: zeros and an error, never old memory */
    assert_int_equal(dma(rig, 0x1000, select | FW_CFG_DMA_READ, 200000, 0x100001),
                     FW_CFG_DMA_ERROR);
    assert_int_equal(mem_read32(&rig->board, 0x100001 + 150000), 0);
}

static void test_borrowed_data_and_reset(void **state)
{
    struct rig *rig = *state;
    static const uint8_t data[3] = {1, 2, 3};
    uint8_t bytes[4];
    assert_int_equal(fw_cfg_add_borrowed(&rig->fw, FW_CFG_KERNEL_DATA, data, 3, NULL), 0);
    assert_ptr_equal(fw_cfg_find(&rig->fw, FW_CFG_KERNEL_DATA)->data, data);
    read_item(rig, FW_CFG_KERNEL_DATA, bytes, 4);
    assert_memory_equal(bytes, "\1\2\3\0", 4);
    fw_cfg_reset(&rig->fw);
    assert_int_equal(in8(&rig->board, 0x511), 'Q');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_signature_and_id, setup, teardown),
        cmocka_unit_test_setup_teardown(test_numbers_are_little_endian, setup, teardown),
        cmocka_unit_test_setup_teardown(test_absent_item_reads_zero, setup, teardown),
        cmocka_unit_test_setup_teardown(test_selecting_rewinds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_file_directory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dma_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dma_write_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_guest_garbage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sources, setup, teardown),
        cmocka_unit_test_setup_teardown(test_borrowed_data_and_reset, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
