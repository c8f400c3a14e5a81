#include "guest.h"

#include <string.h>

static bool intr_pending(void *ctx)
{
    return ((struct guest *)ctx)->vector >= 0;
}

static int intr_ack(void *ctx)
{
    struct guest *g = ctx;
    int vector = g->vector;
    g->acknowledged++;
    g->vector = -1;
    return vector;
}

static uint64_t read_port(void *ctx, uint16_t port, unsigned size)
{
    struct guest *g = ctx;
    (void)size;
    return port < 16 ? g->ports[port] : UINT64_MAX;
}

static void write_port(void *ctx, uint16_t port, uint64_t value, unsigned size)
{
    struct guest *g = ctx;
    (void)size;
    if (port < 16)
        g->ports[port] = value;
    if (g->on_port)
        g->on_port(g, port, value);
}

static void set_ferr(void *ctx, bool level)
{
    struct guest *g = ctx;
    g->ferr |= level;
    if (level)
        engine_bt.vcpu_kick(g->vcpu);
}

static uint64_t read_tsc(void *ctx)
{
    (void)ctx;
    return __builtin_ia32_rdtsc();
}

static void set_segment(struct x86_segment *seg, uint16_t selector, uint32_t attr)
{
    *seg = (struct x86_segment){.selector = selector, .attr = attr, .limit = UINT32_MAX};
    segment_update_bounds(seg);
}

static void enter_protected(struct x86_cpu *cpu, unsigned bits)
{
    uint32_t code = 0x9b | X86_AR_G | (bits == 64 ? (uint32_t)X86_AR_L : (uint32_t)X86_AR_DB);
    cpu->cr0 |= X86_CR0_PE;
    set_segment(&cpu->seg[X86_CS], 8, code);
    for (unsigned i = 0; i < 6; i++) {
        if (i != X86_CS)
            set_segment(&cpu->seg[i], 16, 0x93 | X86_AR_DB | X86_AR_G);
    }
}

static void make_page_tables(struct guest *g)
{
    /* PML4 at 2 MiB, PDPT and PD behind it; two 2 MiB pages. */
    uint64_t *table = (uint64_t *)(void *)(g->ram + 0x200000);
    table[0] = 0x201000 | 7;
    table[512] = 0x202000 | 7;
    table[1024] = 0x000000 | 0x87;
    table[1025] = 0x200000 | 0x87;
    g->state.cr3 = 0x200000;
    g->state.cr4 |= X86_CR4_PAE;
    g->state.efer |= X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE;
    g->state.cr0 |= X86_CR0_PG;
}

void guest_create(struct guest *g, unsigned bits)
{
    struct vd_error err;
    memset(g, 0, sizeof(*g));
    g->vector = -1;
    assert_int_equal(as_create(&g->as, GUEST_RAM, 0xc0000000, &err), 0);
    struct engine_config config = {
        .as = g->as,
        .platform = {.ctx = g,
                     .intr_pending = intr_pending,
                     .intr_ack = intr_ack,
                     .pio_read = read_port,
                     .pio_write = write_port,
                     .tsc_read = read_tsc,
                     .ferr_set = set_ferr},
    };
    assert_int_equal(cpuid_model_init(&config.cpuid, NULL, &err), 0);
    assert_int_equal(engine_bt.vcpu_create(&g->vcpu, &config, &err), 0);
    engine_bt.vcpu_get_state(g->vcpu, &g->state);
    g->ram = as_lookup(g->as, 0).read;
    if (bits == 16) {
        for (unsigned i = 0; i < 6; i++)
            segment_load_real(&g->state.seg[i], 0);
        segment_load_real(&g->state.seg[X86_CS], CODE >> 4);
    } else {
        enter_protected(&g->state, bits);
        if (bits == 64)
            make_page_tables(g);
        g->state.cr4 |= X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE;
        g->state.xcr0 = 7;
    }
    g->state.gpr[X86_RSP] = bits == 16 ? 0x8000 : STACK;
    g->state.rip = bits == 16 ? 0 : CODE;
}

void guest_destroy(struct guest *g)
{
    engine_bt.vcpu_destroy(g->vcpu);
    as_destroy(g->as);
}

void guest_place(struct guest *g, const uint8_t *code, const uint8_t *end)
{
    as_write(g->as, CODE, code, (size_t)(end - code));
    g->state.rip = g->state.cr0 & X86_CR0_PE ? CODE : 0;
}

enum vcpu_exit guest_run(struct guest *g)
{
    struct vd_error err;
    g->state.halted = 0;
    assert_int_equal(engine_bt.vcpu_set_state(g->vcpu, &g->state, &err), 0);
    enum vcpu_exit exit = engine_bt.vcpu_run(g->vcpu, &err);
    engine_bt.vcpu_get_state(g->vcpu, &g->state);
    return exit;
}
