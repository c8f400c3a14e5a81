#include "devices/vga_pci.h"

#include <stdlib.h>
#include <string.h>

enum { ROM_MIN = 2048, ROM_MAX = 256 * 1024, MMIO_SIZE = 4096 };

static void bar_moved(void *ctx, unsigned index, uint64_t base)
{
    struct vga_pci *device = ctx;
    if (index == 0)
        vga_set_lfb(device->vga, base != 0);
}

static void reset(void *ctx)
{
    struct vga_pci *device = ctx;
    vga_reset(device->vga);
}

static const struct pci_device_ops pci_ops = {.bar_moved = bar_moved, .reset = reset};

static int set_rom(struct vga_pci *device, const void *rom, size_t rom_size, struct vd_error *err)
{
    size_t size = ROM_MIN;
    if (rom_size > ROM_MAX)
        return error_set(err, "the VGA BIOS is larger than %d KiB", ROM_MAX / 1024);
    while (size < rom_size)
        size *= 2;
    device->rom = aligned_alloc(4096, size < 4096 ? 4096 : size);
    if (!device->rom)
        return error_set(err, "vga: out of memory");
    memset(device->rom, 0xff, size);
    memcpy(device->rom, rom, rom_size);
    const struct pci_bar bar = {
        .kind = PCI_BAR_ROM, .size = size, .host = device->rom, .name = "vga-rom"};
    pci_device_set_bar(&device->pci, PCI_ROM_BAR, &bar);
    return 0;
}

int vga_pci_init(struct vga_pci *device, struct vga *vga, struct pci_bus *bus, unsigned slot,
                 const void *rom, size_t rom_size, struct vd_error *err)
{
    const struct pci_identity identity = {.vendor = 0x1234,
                                          .device = 0x1111,
                                          .subsystem_vendor = 0x1af4,
                                          .subsystem = 0x1100,
                                          .class_code = 0x030000,
                                          .revision = 2};
    uint32_t vram_size;
    uint8_t *vram = vga_vram(vga, &vram_size);
    const struct pci_bar frame_buffer = {.kind = PCI_BAR_RAM,
                                         .prefetchable = true,
                                         .size = vram_size,
                                         .host = vram,
                                         .name = "vga-lfb"};
    const struct pci_bar registers = {.kind = PCI_BAR_MMIO,
                                      .size = MMIO_SIZE,
                                      .ops = &vga_mmio_ops,
                                      .ctx = vga,
                                      .name = "vga-mmio"};
    memset(device, 0, sizeof(*device));
    device->vga = vga;
    pci_device_init(&device->pci, "vga", &identity, &pci_ops, device);
    pci_device_set_bar(&device->pci, 0, &frame_buffer);
    pci_device_set_bar(&device->pci, 2, &registers);
    if (rom && set_rom(device, rom, rom_size, err) < 0)
        return -1;
    if (pci_device_add(bus, &device->pci, slot, 0, err) < 0) {
        vga_pci_free(device);
        return -1;
    }
    return 0;
}

void vga_pci_free(struct vga_pci *device)
{
    free(device->rom);
    device->rom = NULL;
}
