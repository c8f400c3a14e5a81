#include "machine/linux_loader.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "machine/boot_rom.h"
#include "machine/le_bytes.h"

/* linuxboot.S */
extern const uint8_t linuxboot_rom[], linuxboot_rom_end[];

enum { /* setup header */
       HDR_SETUP_SECTS = 0x1f1,
       HDR_SYSSIZE = 0x1f4,
       HDR_VID_MODE = 0x1fa,
       HDR_BOOT_FLAG = 0x1fe,
       HDR_MAGIC = 0x202,
       HDR_VERSION = 0x206,
       HDR_TYPE_OF_LOADER = 0x210,
       HDR_LOADFLAGS = 0x211,
       HDR_RAMDISK_IMAGE = 0x218,
       HDR_RAMDISK_SIZE = 0x21c,
       HDR_HEAP_END_PTR = 0x224,
       HDR_CMD_LINE_PTR = 0x228,
       HDR_INITRD_ADDR_MAX = 0x22c,
       HDR_KERNEL_ALIGNMENT = 0x230,
       HDR_RELOCATABLE = 0x234,
       HDR_CMDLINE_SIZE = 0x238,
       HDR_PREF_ADDRESS = 0x258,
       HDR_INIT_SIZE = 0x260,
       HDR_MINIMUM = 0x22c, /* the header of protocol 2.02 ends here */
};
enum {
    LOADED_HIGH = 1 << 0,
    CAN_USE_HEAP = 1 << 7,
    LOADER_UNDEFINED = 0xff,
    VERSION_MIN = 0x202,
    HEAP_END = LINUX_CMDLINE_ADDR - LINUX_SETUP_ADDR - 0x200,
    PAGE = 4096,
};
/* The firmware keeps tables at the top of memory; an initrd must stay below them. */
enum { FIRMWARE_RESERVE = 0x100000, FIRMWARE_RESERVE_SMALL = 0x40000, SMALL_RAM = 0x2000000 };

/* --- the image --- */

/* Where the kernel ends while it decompresses itself (boot.rst, "init_size"). */
static uint64_t runtime_end(const uint8_t *data)
{
    uint64_t start = get32(data + HDR_PREF_ADDRESS) | (uint64_t)get32(data + HDR_PREF_ADDRESS + 4)
                                                          << 32;
    uint64_t alignment = get32(data + HDR_KERNEL_ALIGNMENT);
    if (data[HDR_RELOCATABLE] && alignment && !(alignment & (alignment - 1))) {
        uint64_t loaded = (LINUX_KERNEL_ADDR + alignment - 1) & ~(alignment - 1);
        start = start > loaded ? start : loaded;
    }
    if (start > UINT32_MAX)
        return UINT64_MAX;
    return start + get32(data + HDR_INIT_SIZE);
}

int linux_parse_header(const uint8_t *data, uint64_t file_size, const char *name,
                       struct linux_header *header, struct vd_error *err)
{
    memset(header, 0, sizeof(*header));
    if (file_size < 0x200 || get16(data + HDR_BOOT_FLAG) != 0xaa55)
        return error_set(err, "kernel %s: not a Linux kernel (no boot signature)", name);
    if (file_size < HDR_MINIMUM || memcmp(data + HDR_MAGIC, "HdrS", 4))
        return error_set(err, "kernel %s: not a Linux kernel (no setup header)", name);
    header->version = get16(data + HDR_VERSION);
    if (header->version < VERSION_MIN)
        return error_set(err, "kernel %s: boot protocol %u.%02u is too old, need 2.02", name,
                         header->version >> 8, header->version & 0xff);
    if (!(data[HDR_LOADFLAGS] & LOADED_HIGH))
        return error_set(err, "kernel %s: a zImage, only bzImage is supported", name);

    unsigned sectors = data[HDR_SETUP_SECTS] ? data[HDR_SETUP_SECTS] : 4;
    header->setup_size = (sectors + 1) * 512;
    if (header->setup_size > LINUX_SETUP_MAX)
        return error_set(err, "kernel %s: setup code of %u bytes is too large", name,
                         header->setup_size);
    /* The size is in paragraphs, rounded up; before 2.04 its upper half meant something else. */
    uint64_t paragraphs = get32(data + HDR_SYSSIZE);
    if (header->version < 0x204)
        paragraphs &= 0xffff;
    if (file_size <= header->setup_size || file_size - header->setup_size + 15 < paragraphs * 16)
        return error_set(err, "kernel %s: truncated, %llu bytes of %llu", name,
                         (unsigned long long)file_size,
                         (unsigned long long)(header->setup_size + paragraphs * 16));
    if (file_size - header->setup_size > UINT32_MAX - LINUX_KERNEL_ADDR)
        return error_set(err, "kernel %s: larger than 4 GiB", name);

    header->initrd_addr_max =
        header->version >= 0x203 ? get32(data + HDR_INITRD_ADDR_MAX) : 0x37ffffff;
    header->cmdline_max = header->version >= 0x206 ? get32(data + HDR_CMDLINE_SIZE) : 255;
    uint64_t end = LINUX_KERNEL_ADDR + file_size - header->setup_size;
    if (header->version >= 0x20a && runtime_end(data) > end)
        end = runtime_end(data);
    header->memory_end = end > UINT32_MAX ? UINT32_MAX : (uint32_t)end;
    return 0;
}

static int open_kernel(struct linux_boot *boot, const struct linux_boot_config *config,
                       struct vd_error *err)
{
    uint8_t start[LINUX_HEADER_SIZE] = {0};
    if (host_file_open(&boot->kernel, config->kernel, "kernel", err) < 0)
        return -1;
    uint64_t size = boot->kernel.size;
    size_t wanted = size < sizeof(start) ? (size_t)size : sizeof(start);
    if (host_file_read(&boot->kernel, 0, start, wanted, err) < 0 ||
        linux_parse_header(start, size, config->kernel, &boot->header, err) < 0)
        return -1;
    if (boot->header.memory_end > config->ram_end)
        return error_set(err, "kernel %s: needs %u MiB of memory, the machine has %llu",
                         config->kernel, (boot->header.memory_end >> 20) + 1,
                         (unsigned long long)config->ram_end >> 20);
    boot->kernel_size = (uint32_t)(size - boot->header.setup_size);
    boot->setup = malloc(boot->header.setup_size);
    if (!boot->setup)
        return error_set(err, "kernel %s: no memory", config->kernel);
    return host_file_read(&boot->kernel, 0, boot->setup, boot->header.setup_size, err);
}

/* As high as the kernel and the firmware allow: the kernel unpacks itself from below. */
static int place_initrd(struct linux_boot *boot, const struct linux_boot_config *config,
                        struct vd_error *err)
{
    uint64_t reserve = config->ram_end < SMALL_RAM ? FIRMWARE_RESERVE_SMALL : FIRMWARE_RESERVE;
    uint64_t top = config->ram_end > reserve ? config->ram_end - reserve : 0;
    uint64_t limit = (uint64_t)boot->header.initrd_addr_max + 1;
    if (top > limit)
        top = limit;
    uint64_t size = boot->initrd.size;
    uint64_t bottom = boot->header.memory_end;
    if (size == 0)
        return error_set(err, "initrd %s: empty file", config->initrd);
    if (top < size || ((top - size) & ~(uint64_t)(PAGE - 1)) < bottom)
        return error_set(err, "initrd %s: %llu MiB do not fit between the kernel and %llu MiB",
                         config->initrd, (unsigned long long)(size + 0xfffff) >> 20,
                         (unsigned long long)top >> 20);
    boot->initrd_size = (uint32_t)size;
    boot->initrd_addr = (uint32_t)((top - size) & ~(uint64_t)(PAGE - 1));
    return 0;
}

/* "vga=" is the boot loader's to interpret (boot.rst, "Special Command Line Options"). */
static uint16_t video_mode(const char *cmdline, uint16_t otherwise)
{
    static const struct {
        const char *name;
        uint16_t mode;
    } names[] = {{"normal", 0xffff}, {"ext", 0xfffe}, {"ask", 0xfffd}};
    const char *at = cmdline;
    while ((at = strstr(at, "vga="))) {
        if (at == cmdline || at[-1] == ' ')
            break;
        at += 4;
    }
    if (!at)
        return otherwise;
    at += 4;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t length = strlen(names[i].name);
        if (!strncmp(at, names[i].name, length) && (at[length] == ' ' || !at[length]))
            return names[i].mode;
    }
    char *end;
    unsigned long mode = strtoul(at, &end, 0);
    return end != at && (*end == ' ' || !*end) && mode <= 0xffff ? (uint16_t)mode : otherwise;
}

static void patch_setup(struct linux_boot *boot)
{
    uint8_t *setup = boot->setup;
    put16(setup + HDR_VID_MODE, video_mode(boot->cmdline, get16(setup + HDR_VID_MODE)));
    setup[HDR_TYPE_OF_LOADER] = LOADER_UNDEFINED;
    setup[HDR_LOADFLAGS] |= CAN_USE_HEAP;
    put16(setup + HDR_HEAP_END_PTR, HEAP_END);
    put32(setup + HDR_CMD_LINE_PTR, LINUX_CMDLINE_ADDR);
    put32(setup + HDR_RAMDISK_IMAGE, boot->initrd_addr);
    put32(setup + HDR_RAMDISK_SIZE, boot->initrd_size);
}

int linux_boot_open(struct linux_boot *boot, const struct linux_boot_config *config,
                    struct vd_error *err)
{
    memset(boot, 0, sizeof(*boot));
    boot->kernel.fd = boot->initrd.fd = -1;
    const char *cmdline = config->cmdline ? config->cmdline : "";
    if (open_kernel(boot, config, err) < 0)
        goto fail;
    if (strlen(cmdline) > boot->header.cmdline_max) {
        error_set(err, "kernel command line: %zu characters, %s takes %u", strlen(cmdline),
                  config->kernel, boot->header.cmdline_max);
        goto fail;
    }
    boot->cmdline = strdup(cmdline);
    if (!boot->cmdline) {
        error_set(err, "kernel command line: no memory");
        goto fail;
    }
    if (config->initrd && (host_file_open(&boot->initrd, config->initrd, "initrd", err) < 0 ||
                           place_initrd(boot, config, err) < 0))
        goto fail;
    patch_setup(boot);
    return 0;
fail:
    linux_boot_close(boot);
    return -1;
}

void linux_boot_close(struct linux_boot *boot)
{
    host_file_close(&boot->kernel);
    host_file_close(&boot->initrd);
    free(boot->setup);
    free(boot->cmdline);
    boot->setup = NULL;
    boot->cmdline = NULL;
}

/* --- towards the guest --- */

static int read_logged(const struct host_file *file, uint64_t offset, void *buffer, uint32_t size)
{
    struct vd_error err;
    if (host_file_read(file, offset, buffer, size, &err) == 0)
        return 0;
    log_error("%s", err.text);
    return -1;
}

static int read_kernel(void *ctx, uint64_t offset, void *buffer, uint32_t size)
{
    const struct linux_boot *boot = ctx;
    return read_logged(&boot->kernel, boot->header.setup_size + offset, buffer, size);
}

static int read_initrd(void *ctx, uint64_t offset, void *buffer, uint32_t size)
{
    const struct linux_boot *boot = ctx;
    return read_logged(&boot->initrd, offset, buffer, size);
}

uint8_t *linux_boot_rom(uint32_t *size)
{
    return boot_rom_make(linuxboot_rom, linuxboot_rom_end, size);
}

int linux_boot_add(struct linux_boot *boot, struct fw_cfg *fw, struct vd_error *err)
{
    struct fw_cfg_source kernel = {.ctx = boot, .read = read_kernel};
    struct fw_cfg_source initrd = {.ctx = boot, .read = read_initrd};
    uint32_t cmdline_size = (uint32_t)strlen(boot->cmdline) + 1;
    const struct {
        unsigned key;
        uint32_t value;
    } numbers[] = {
        {FW_CFG_KERNEL_ADDR, LINUX_KERNEL_ADDR},   {FW_CFG_KERNEL_SIZE, boot->kernel_size},
        {FW_CFG_INITRD_ADDR, boot->initrd_addr},   {FW_CFG_INITRD_SIZE, boot->initrd_size},
        {FW_CFG_CMDLINE_ADDR, LINUX_CMDLINE_ADDR}, {FW_CFG_CMDLINE_SIZE, cmdline_size},
        {FW_CFG_SETUP_ADDR, LINUX_SETUP_ADDR},     {FW_CFG_SETUP_SIZE, boot->header.setup_size},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (fw_cfg_add_u32(fw, numbers[i].key, numbers[i].value, err) < 0)
            return -1;
    }
    if (fw_cfg_add_source(fw, FW_CFG_KERNEL_DATA, &kernel, boot->kernel_size, err) < 0 ||
        fw_cfg_add_borrowed(fw, FW_CFG_SETUP_DATA, boot->setup, boot->header.setup_size, err) < 0 ||
        fw_cfg_add_borrowed(fw, FW_CFG_CMDLINE_DATA, boot->cmdline, cmdline_size, err) < 0)
        return -1;
    if (boot->initrd_size &&
        fw_cfg_add_source(fw, FW_CFG_INITRD_DATA, &initrd, boot->initrd_size, err) < 0)
        return -1;
    return boot_rom_add(fw, "linuxboot.bin", linuxboot_rom, linuxboot_rom_end, err);
}
