/* The translating engine behind struct engine_ops. */
#include "engine/bt/bt.h"

#include <errno.h>
#include <immintrin.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { DEFAULT_CODE_SIZE = 32 << 20, BYTES_PER_SITE = 256, BYTES_PER_MAP = 24 };

static void *reserve(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void release(void *p, size_t size)
{
    if (p)
        munmap(p, size);
}

static void vcpu_destroy(struct vcpu *vcpu)
{
    if (!vcpu)
        return;
    as_clear_listener(vcpu->config.as, vcpu);
    block_cache_free(&vcpu->cache);
    prescan_region_free(&vcpu->region);
    release(vcpu->sites, vcpu->site_capacity * sizeof(*vcpu->sites));
    release(vcpu->maps, vcpu->map_capacity * sizeof(*vcpu->maps));
    release(vcpu->stack, BT_GUARD_SIZE + BT_STACK_SIZE);
    munmap(vcpu, sizeof(*vcpu));
}

static void addresses_flushed(void *ctx, enum mmu_flush kind, uint64_t linear)
{
    struct vcpu *vcpu = ctx;
    enum bt_stale stale = kind == MMU_FLUSH_NONGLOBAL ? BT_STALE_LOCAL : BT_STALE_ALL;
    /* Most flushed pages hold data only. */
    if (kind == MMU_FLUSH_PAGE && !bt_may_hold_code(vcpu, linear))
        return;
    if (vcpu->stale < stale)
        vcpu->stale = stale;
}

static void layout_changed(void *ctx)
{
    mmu_flush_all(&((struct vcpu *)ctx)->cpu);
}

static void enter_device(void *ctx)
{
    struct vcpu *vcpu = ctx;
    if (_readgsbase_u64() == (uint64_t)(uintptr_t)vcpu) /* not a device's own thread */
        bt_park_vectors(&vcpu->cpu);
}

static void cpu_init(struct vcpu *vcpu, const struct engine_config *config)
{
    vcpu->self = vcpu;
    vcpu->vectors_parked = 1;
    vcpu->mode.count = config->count_events;
    vcpu->mode.exact_flags = config->exact_flags;
    vcpu->config = *config;
    vcpu->cpu.platform = config->platform;
    vcpu->cpu.cpuid = config->cpuid;
    vcpu->cpu.mmu = &vcpu->mmu;
    mmu_init(&vcpu->mmu, config->as);
    vcpu->mmu.flushed = addresses_flushed;
    vcpu->mmu.flushed_ctx = vcpu;
}

static void start_over(struct vcpu *vcpu)
{
    vcpu->cpu.dirty = X86_DIRTY_MODE | X86_DIRTY_ADDRESS;
    vcpu->mode_key = UINT64_MAX;
    mmu_flush_all(&vcpu->cpu);
    vcpu->stale = BT_STALE_ALL;
    bt_forget_addresses(vcpu);
    bt_update_mode(vcpu);
    vcpu->cpu.exit_async = 1; /* a kick may have been noted in the state that was replaced */
}

/*
 * Writes are reported to one listener. Where another had its place since, nobody told this one of
 * them, and the flags of traced pages are the other's: nothing translated before can be trusted.
 */
static void attach(struct vcpu *vcpu)
{
    struct as_listener listener = {
        .ctx = vcpu,
        .layout_changed = layout_changed,
        .traced_write = bt_code_written,
        .enter_device = enter_device,
    };
    if (as_set_listener(vcpu->config.as, &listener))
        return;
    bt_drop_code(vcpu);
    mmu_flush_all(&vcpu->cpu);
}

static int vcpu_create(struct vcpu **out, const struct engine_config *config, struct vd_error *err)
{
    struct vcpu *vcpu = reserve(sizeof(*vcpu)); /* page-aligned and zero */
    if (!vcpu)
        return error_set(err, "no memory for a virtual CPU");
    cpu_init(vcpu, config);
    size_t code_size = config->code_cache_size ? config->code_cache_size : DEFAULT_CODE_SIZE;
    vcpu->site_capacity = (uint32_t)(code_size / BYTES_PER_SITE);
    vcpu->map_capacity = (uint32_t)(code_size / BYTES_PER_MAP);
    vcpu->sites = reserve(vcpu->site_capacity * sizeof(*vcpu->sites));
    vcpu->maps = reserve(vcpu->map_capacity * sizeof(*vcpu->maps));
    if (!vcpu->sites || !vcpu->maps) {
        error_set(err, "no memory for the code cache tables");
        goto fail;
    }
    if (block_cache_init(&vcpu->cache, code_size, err) < 0 || bt_stubs_init(vcpu, err) < 0 ||
        bt_signals_install(err) < 0)
        goto fail;
    attach(vcpu);
    x86_reset(&vcpu->cpu);
    start_over(vcpu);
    *out = vcpu;
    return 0;
fail:
    vcpu_destroy(vcpu);
    return -1;
}

/* Translated code runs on its own stack: signals need another. */
static int signal_stack(struct vd_error *err)
{
    stack_t stack;
    if (sigaltstack(NULL, &stack) == 0 && !(stack.ss_flags & SS_DISABLE))
        return 0;
    enum { SIZE = 64 * 1024 };
    memset(&stack, 0, sizeof(stack));
    stack.ss_sp = reserve(SIZE); /* kept until the thread ends */
    stack.ss_size = SIZE;
    if (!stack.ss_sp || sigaltstack(&stack, NULL) < 0)
        return error_set(err, "cannot set up a signal stack: %s", strerror(errno));
    return 0;
}

static enum vcpu_exit vcpu_run(struct vcpu *vcpu, struct vd_error *err)
{
    if (signal_stack(err) < 0)
        return VCPU_EXIT_ERROR;
    attach(vcpu);
    return bt_run(vcpu, err);
}

static void vcpu_kick(struct vcpu *vcpu)
{
    vcpu->kicked = 1;
    vcpu->cpu.exit_async = 1;
}

static void vcpu_interrupt(struct vcpu *vcpu)
{
    vcpu->cpu.exit_async = 1;
}

static void vcpu_nmi(struct vcpu *vcpu)
{
    vcpu->cpu.nmi_pending = 1;
    vcpu->cpu.exit_async = 1;
}

static void vcpu_reset(struct vcpu *vcpu)
{
    x86_reset(&vcpu->cpu);
    start_over(vcpu);
}

static void vcpu_init(struct vcpu *vcpu)
{
    bt_park_vectors(&vcpu->cpu);
    x86_init(&vcpu->cpu);
    start_over(vcpu);
}

static void vcpu_get_state(struct vcpu *vcpu, struct x86_cpu *state)
{
    bt_park_vectors(&vcpu->cpu);
    *state = vcpu->cpu;
}

static int vcpu_set_state(struct vcpu *vcpu, const struct x86_cpu *state, struct vd_error *err)
{
    (void)err;
    vcpu->vectors_parked = 1;
    vcpu->cpu = *state;
    vcpu->cpu.platform = vcpu->config.platform;
    vcpu->cpu.cpuid = vcpu->config.cpuid;
    vcpu->cpu.mmu = &vcpu->mmu;
    attach(vcpu);
    start_over(vcpu);
    return 0;
}

const struct engine_ops engine_bt = {
    .name = "bt",
    .vcpu_create = vcpu_create,
    .vcpu_destroy = vcpu_destroy,
    .vcpu_run = vcpu_run,
    .vcpu_kick = vcpu_kick,
    .vcpu_interrupt = vcpu_interrupt,
    .vcpu_nmi = vcpu_nmi,
    .vcpu_reset = vcpu_reset,
    .vcpu_init = vcpu_init,
    .vcpu_get_state = vcpu_get_state,
    .vcpu_set_state = vcpu_set_state,
    .vcpu_stats = bt_print_stats,
};
