#include "fixture.h"

#include <stdlib.h>
#include <string.h>

#include "memory/mmu.h"

enum { CODE_ATTR = 0x9b, DATA_ATTR = 0x93 };

/* The engine's part: only counts here. */
void bt_park_vectors(struct x86_cpu *cpu)
{
    struct guest *g = (struct guest *)((char *)cpu - offsetof(struct guest, cpu));

    g->parked++;
}

void bt_park_x87_pointers(struct x86_cpu *cpu)
{
    bt_park_vectors(cpu);
}

/* --- the board --- */

static void log_port(struct guest *g, uint16_t port, unsigned size, bool write, uint64_t value)
{
    assert_true(g->parked > 0);
    if (g->port_count < PORT_LOG) {
        g->ports[g->port_count].port = port;
        g->ports[g->port_count].size = (uint8_t)size;
        g->ports[g->port_count].write = write;
        g->ports[g->port_count].value = value;
    }
    g->port_count++;
    if (g->request_exit_after && g->port_count == g->request_exit_after)
        g->cpu.exit_async = 1;
}

static uint64_t pio_read(void *ctx, uint16_t port, unsigned size)
{
    struct guest *g = ctx;
    uint64_t value = g->port_value++;

    log_port(g, port, size, false, value);
    return value;
}

static void pio_write(void *ctx, uint16_t port, uint64_t value, unsigned size)
{
    log_port(ctx, port, size, true, value);
}

static uint64_t apic_base_read(void *ctx)
{
    return ((struct guest *)ctx)->apic_base;
}

static int apic_base_write(void *ctx, uint64_t value)
{
    if (value & 0xff)
        return -1;
    ((struct guest *)ctx)->apic_base = value;
    return 0;
}

static uint64_t tpr_read(void *ctx)
{
    return ((struct guest *)ctx)->tpr;
}

static void tpr_write(void *ctx, uint64_t value)
{
    ((struct guest *)ctx)->tpr = value;
}

static uint64_t tsc_read(void *ctx)
{
    return ((struct guest *)ctx)->tsc;
}

static int tsc_deadline(void *ctx, bool write, uint64_t *value)
{
    struct guest *g = ctx;

    if (write)
        g->deadline = *value;
    else
        *value = g->deadline;
    return 0;
}

/* --- set-up --- */

static struct guest *guest_create(void)
{
    struct guest *g = calloc(1, sizeof(*g));
    struct vd_error err;

    assert_non_null(g);
    g->mmu = calloc(1, sizeof(*g->mmu));
    assert_non_null(g->mmu);
    assert_int_equal(as_create(&g->as, 4 << 20, 0xc0000000, &err), 0);
    if (cpuid_model_init(&g->cpu.cpuid, "max", &err) < 0)
        fail_msg("%s", err.text);
    g->cpu.mmu = g->mmu;
    g->cpu.platform = (struct x86_platform){
        .ctx = g,
        .pio_read = pio_read,
        .pio_write = pio_write,
        .apic_base_read = apic_base_read,
        .apic_base_write = apic_base_write,
        .tpr_read = tpr_read,
        .tpr_write = tpr_write,
        .tsc_read = tsc_read,
        .tsc_deadline = tsc_deadline,
    };
    g->apic_base = 0xfee00900;
    mmu_init(g->mmu, g->as);
    x86_reset(&g->cpu);
    g->cpu.gpr[X86_RSP] = AT_STACK;
    g->cpu.rip = 0x7000;
    g->cpu.dirty = 0;
    return g;
}

static void set_segment(struct x86_cpu *cpu, enum x86_segreg seg, uint16_t selector, uint32_t attr,
                        uint32_t limit)
{
    struct x86_segment *s = &cpu->seg[seg];

    s->selector = selector;
    s->base = 0;
    s->limit = limit;
    s->attr = attr;
    segment_update_bounds(s);
}

void flat_segments(struct guest *g, unsigned bits, unsigned cpl)
{
    uint32_t code = CODE_ATTR | (uint32_t)X86_AR_G | (bits == 64 ? X86_AR_L : X86_AR_DB);
    uint32_t dpl = cpl << X86_AR_DPL_SHIFT;

    g->cpu.cpl = (uint8_t)cpl;
    for (unsigned seg = X86_ES; seg <= X86_GS; seg++) {
        uint32_t attr = seg == X86_CS ? code : DATA_ATTR | (uint32_t)X86_AR_G | X86_AR_DB;

        set_segment(&g->cpu, (enum x86_segreg)seg, (uint16_t)((seg == X86_CS ? 8u : 16u) | cpl),
                    attr | dpl, 0xffffffff);
    }
    set_segment(&g->cpu, X86_TR, 0x60, 0x8b, 0xffff);
    g->cpu.seg[X86_TR].base = AT_TSS;
    put(g, AT_TSS + 102, 2, 0xffff); /* no I/O permission map */
}

int setup_real(void **state)
{
    struct guest *g = guest_create();

    segment_load_real(&g->cpu.seg[X86_CS], 0);
    g->cpu.gpr[X86_RSP] = 0xff00;
    *state = g;
    return 0;
}

int setup_protected(void **state)
{
    struct guest *g = guest_create();

    g->cpu.cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP;
    g->cpu.cr4 = X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;
    flat_segments(g, 32, 0);
    *state = g;
    return 0;
}

static void build_tables64(struct guest *g)
{
    enum { PWU = 7, LARGE = 0x80 };

    put(g, AT_PML4, 8, AT_PDPT | PWU);
    put(g, AT_PML4 + 8 * 511, 8, AT_PDPT | PWU); /* the top of the address space, too */
    put(g, AT_PDPT, 8, AT_PD64 | PWU);
    put(g, AT_PD64, 8, AT_PT64 | PWU);
    put(g, AT_PD64 + 8, 8, 0x200000 | PWU | LARGE);
    for (unsigned i = 0; i < 512; i++)
        put(g, AT_PT64 + 8 * i, 8, (uint64_t)i << 12 | PWU);
}

int setup_long(void **state)
{
    struct guest *g = guest_create();

    build_tables64(g);
    g->cpu.cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_PG;
    g->cpu.cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE;
    g->cpu.cr3 = AT_PML4;
    g->cpu.efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE | X86_EFER_NXE;
    g->cpu.xcr0 = 7;
    flat_segments(g, 64, 0);
    mmu_flush_all(&g->cpu);
    *state = g;
    return 0;
}

int teardown(void **state)
{
    struct guest *g = *state;

    as_destroy(g->as);
    free(g->mmu);
    free(g);
    return 0;
}

void enter_vm86(struct guest *g, unsigned iopl)
{
    for (unsigned seg = X86_ES; seg <= X86_GS; seg++) {
        set_segment(&g->cpu, (enum x86_segreg)seg, 0, DATA_ATTR | X86_AR_DPL, 0xffff);
        segment_load_real(&g->cpu.seg[seg], 0);
    }
    g->cpu.sflags |= X86_VM;
    g->cpu.cpl = 3;
    g->cpu.gpr[X86_RSP] = 0xff00;
    set_iopl(g, iopl);
}

void set_iopl(struct guest *g, unsigned iopl)
{
    g->cpu.sflags = (g->cpu.sflags & ~(uint32_t)X86_IOPL) | iopl << X86_IOPL_SHIFT;
}

void enable_paging32(struct guest *g)
{
    put(g, AT_PD32, 4, AT_PT32 | 7);
    for (uint32_t i = 0; i < 1024; i++)
        put(g, AT_PT32 + 4 * i, 4, i << 12 | 7);
    g->cpu.cr3 = AT_PD32;
    g->cpu.cr0 |= X86_CR0_PG;
    mmu_flush_all(&g->cpu);
}

static void change_page(struct guest *g, uint64_t linear, uint64_t clear)
{
    bool wide = x86_long_mode(&g->cpu);
    uint64_t at = (wide ? AT_PT64 : AT_PT32) + (linear >> 12) * (wide ? 8 : 4);

    put(g, at, wide ? 8 : 4, get(g, at, wide ? 8 : 4) & ~clear);
    mmu_flush_all(&g->cpu);
}

void unmap_page(struct guest *g, uint64_t linear)
{
    change_page(g, linear, 1);
}

void read_only_page(struct guest *g, uint64_t linear)
{
    change_page(g, linear, 2);
}

void set_feature(struct guest *g, enum x86_feature feature, bool on)
{
    uint64_t *word = &g->cpu.cpuid.features[feature / 64], bit = 1ull << (feature % 64);

    *word = on ? *word | bit : *word & ~bit;
}

void put(struct guest *g, uint64_t at, unsigned size, uint64_t value)
{
    as_write(g->as, at, &value, size);
}

uint64_t get(struct guest *g, uint64_t at, unsigned size)
{
    uint64_t value = 0;

    as_read(g->as, at, &value, size);
    return value;
}

/* --- execution --- */

enum op_result execute(struct guest *g, const uint8_t *bytes, size_t len)
{
    struct insn insn;
    enum op_result result;

    insn_decode(&insn, bytes, len, x86_code_bits(&g->cpu));
    if (insn.op == OP_NONE)
        fail_msg("not a callout: %02x %02x", bytes[0], len > 1 ? bytes[1] : 0);
    g->before = g->cpu;
    result = op_function((enum insn_op)insn.op)(&g->cpu, &insn);
    if (result == OP_NEXT)
        g->cpu.rip += insn.len;
    if (result == OP_FAULT && !g->may_progress) {
        struct x86_cpu after = g->cpu;

        after.fault = g->before.fault;
        assert_memory_equal(&after, &g->before, sizeof(after));
    }
    return result;
}

void expect_fault(const struct guest *g, enum op_result result, unsigned vector, int64_t error)
{
    assert_int_equal(result, OP_FAULT);
    assert_int_equal(g->cpu.fault.vector, vector);
    assert_int_equal(g->cpu.fault.has_error, error >= 0);
    if (error >= 0)
        assert_int_equal(g->cpu.fault.error, error);
}
