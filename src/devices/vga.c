#include "devices/vga.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "devices/vga_state.h"

void vga_reset(struct vga *vga)
{
    vga->misc = 0;
    vga->feature_control = 0;
    vga->subsystem = 1;
    vga->seq_index = vga->crtc_index = vga->gc_index = vga->attr_index = 0;
    memset(vga->seq, 0, sizeof(vga->seq));
    memset(vga->crtc, 0, sizeof(vga->crtc));
    memset(vga->gc, 0, sizeof(vga->gc));
    memset(vga->attr, 0, sizeof(vga->attr));
    memset(vga->dac, 0, sizeof(vga->dac));
    vga->attr_data = false;
    vga->dac_read_index = vga->dac_write_index = vga->dac_component = 0;
    vga->dac_reading = false;
    vga->pel_mask = 0xff;
    vga->latch = 0;
    vga->retrace_cleared = 0;
    vga_vbe_reset(vga);
    vga_update_window(vga);
    vga_touch(vga);
}

static int map_ports(struct vga *vga, struct vd_error *err)
{
    struct address_space *as = vga->config.as;
    vga->ports = as_map_pio(as, 0x3b0, 0x30, &vga_port_ops, vga, "vga", err);
    if (!vga->ports)
        return -1;
    vga->vbe_ports = as_map_pio(as, 0x1ce, 4, &vga_vbe_port_ops, vga, "vga-vbe", err);
    if (!vga->vbe_ports)
        return -1;
    vga->window =
        as_map_mmio(as, VGA_WINDOW_BASE, VGA_WINDOW_SIZE, &vga_window_ops, vga, "vga-window", err);
    return vga->window ? 0 : -1;
}

int vga_create(struct vga **result, const struct vga_config *config, struct vd_error *err)
{
    uint32_t size = config->vram_size;
    if (size < 1u << 18 || size > 1u << 24 || (size & (size - 1)))
        return error_set(err, "vga: video memory of %u bytes is not possible", size);
    struct vga *vga = calloc(1, sizeof(*vga));
    if (!vga)
        return error_set(err, "vga: out of memory");
    vga->config = *config;
    void *vram = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (vram == MAP_FAILED) {
        free(vga);
        return error_set(err, "vga: out of memory for %u bytes of video memory", size);
    }
    vga->vram = vram;
    vga_reset(vga);
    if (map_ports(vga, err) < 0) {
        vga_destroy(vga);
        return -1;
    }
    *result = vga;
    return 0;
}

void vga_destroy(struct vga *vga)
{
    if (!vga)
        return;
    if (vga->window)
        as_unmap(vga->config.as, vga->window);
    if (vga->vbe_ports)
        as_unmap(vga->config.as, vga->vbe_ports);
    if (vga->ports)
        as_unmap(vga->config.as, vga->ports);
    munmap(vga->vram, vga->config.vram_size);
    free(vga);
}

uint8_t *vga_vram(struct vga *vga, uint32_t *size)
{
    if (size)
        *size = vga->config.vram_size;
    return vga->vram;
}

void vga_set_lfb(struct vga *vga, bool mapped)
{
    vga->lfb_mapped = mapped;
    vga_touch(vga);
}

static void source_refresh(void *ctx, struct surface *surface, struct text_screen *text)
{
    vga_refresh(ctx, surface, text);
}

void vga_display_source(struct vga *vga, struct display_source *source)
{
    *source = (struct display_source){
        .ctx = vga, .lock = as_lock(vga->config.as), .refresh = source_refresh};
}

size_t vga_text_snapshot(struct vga *vga, char *text, size_t size)
{
    struct text_screen *screen = calloc(1, sizeof(*screen));
    size_t length = 0;
    if (screen) {
        bool changed = vga->text_changed;
        vga->text_changed = true;
        vga_refresh(vga, NULL, screen);
        vga->text_changed = changed; /* the display's own copy is not this one */
        length = text_screen_to_utf8(screen, text, size);
    } else if (size) {
        text[0] = 0;
    }
    free(screen);
    return length;
}
