#include "guest_side.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

enum { /* physical addresses */
       RAM_BYTES = 4 << 20,
       PHYS_CODE = 0x100000,
       PHYS_DATA = 0x110000,
       PHYS_STACK = 0x120000,
       PHYS_SYSTEM = 0x200000, /* 2 MiB, for the supervisor only */
};
#define MMIO_BASE 0xd0000000ull /* the same RAM as at PHYS_DATA, as device registers */

enum { /* offsets in the system area */
       SYS_PML4 = 0x0,
       SYS_PDPT = 0x1000,
       SYS_PD = 0x2000,
       SYS_PT_CODE = 0x3000,
       SYS_PT_DATA = 0x4000,
       SYS_PT_STACK = 0x5000,
       SYS_PDPT_HIGH = 0x6000,
       SYS_PD_HIGH = 0x7000,
       SYS_PAE_PDPT = 0x8000,
       SYS_PAE_PD = 0x9000,
       SYS_IDT = 0xa000,
       SYS_GDT = 0xb000,
       SYS_TSS = 0xc000,
       SYS_LDT = 0xd000,
       SYS_STUBS = 0xe000, /* 16 bytes for each vector */
       SYS_STACK = 0x10000,
       SYSTEM_BYTES = 0x200000,
};
#define SYSTEM64 0xffff800000000000ull
#define SYSTEM32 0xffe00000ull

enum { SEL_CODE0 = 0x8, SEL_DATA0 = 0x10, SEL_CODE3 = 0x33, SEL_DATA3 = 0x2b };
enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40, PTE_PS = 0x80 };
#define PTE_NX       (1ull << 63)
#define PTE_RESERVED (1ull << 51)

struct guest_side {
    struct address_space *as;
    struct vcpu *vcpu;
    unsigned mode;
    bool wide; /* in long mode: 64-bit code, or compatibility mode */
    uint8_t *ram;
    struct x86_cpu initial, state;
    struct vd_error error;
    uint16_t old_start; /* of the last test's code */
    bool code_written;  /* by that test, anywhere */
    uint8_t template[MEMORY_BYTES];
};

/* --- platform: nothing is there --- */

static bool no_interrupt(void *ctx)
{
    (void)ctx;
    return false;
}

static int no_vector(void *ctx)
{
    (void)ctx;
    return -1;
}

static uint64_t read_port(void *ctx, uint16_t port, unsigned size)
{
    (void)ctx, (void)port, (void)size;
    return UINT64_MAX;
}

static void write_port(void *ctx, uint16_t port, uint64_t value, unsigned size)
{
    (void)ctx, (void)port, (void)value, (void)size;
}

static uint64_t read_tsc(void *ctx)
{
    (void)ctx;
    return 0;
}

static void ferr(void *ctx, bool level)
{
    (void)ctx, (void)level;
}

/* --- data and stack as device registers --- */

static uint64_t mmio_read(void *ctx, uint64_t offset, unsigned size)
{
    struct guest_side *g = ctx;
    uint64_t value = 0;
    memcpy(&value, g->ram + PHYS_DATA + offset, size);
    return value;
}

static void mmio_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct guest_side *g = ctx;
    memcpy(g->ram + PHYS_DATA + offset, &value, size);
}

/* --- tables --- */

static uint8_t *system_at(struct guest_side *g, uint32_t offset)
{
    return g->ram + PHYS_SYSTEM + offset;
}

static void put64(struct guest_side *g, uint32_t table, unsigned index, uint64_t value)
{
    memcpy(system_at(g, table) + 8 * index, &value, sizeof(value));
}

static uint64_t system_base(const struct guest_side *g)
{
    return g->wide ? SYSTEM64 : SYSTEM32;
}

static void make_page_tables(struct guest_side *g)
{
    const uint64_t user = PTE_P | PTE_W | PTE_U;
    put64(g, SYS_PML4, 0, (PHYS_SYSTEM + SYS_PDPT) | user);
    put64(g, SYS_PML4, LINEAR_HIGH >> 39 & 511, (PHYS_SYSTEM + SYS_PDPT) | user);
    put64(g, SYS_PML4, SYSTEM64 >> 39 & 511, (PHYS_SYSTEM + SYS_PDPT_HIGH) | PTE_P | PTE_W);
    put64(g, SYS_PDPT, 0, (PHYS_SYSTEM + SYS_PD) | user);
    put64(g, SYS_PDPT_HIGH, 0, (PHYS_SYSTEM + SYS_PD_HIGH) | PTE_P | PTE_W);
    put64(g, SYS_PD_HIGH, 0, PHYS_SYSTEM | PTE_PS | PTE_P | PTE_W);
    put64(g, SYS_PAE_PDPT, 0, (PHYS_SYSTEM + SYS_PD) | PTE_P);
    put64(g, SYS_PAE_PDPT, 3, (PHYS_SYSTEM + SYS_PAE_PD) | PTE_P);
    put64(g, SYS_PAE_PD, 511, PHYS_SYSTEM | PTE_PS | PTE_P | PTE_W);
    put64(g, SYS_PD, LINEAR_CODE >> 21, (PHYS_SYSTEM + SYS_PT_CODE) | user);
    put64(g, SYS_PD, LINEAR_DATA >> 21, (PHYS_SYSTEM + SYS_PT_DATA) | user);
    put64(g, SYS_PD, LINEAR_STACK >> 21, (PHYS_SYSTEM + SYS_PT_STACK) | user);
}

struct page_place {
    uint64_t phys;
    uint32_t table; /* offset in the system area, of the page table */
    unsigned index; /* of the entry */
};

static struct page_place place_of(unsigned number)
{
    if (number >= FIRST_CODE_PAGE) {
        unsigned n = number - FIRST_CODE_PAGE;
        return (struct page_place){PHYS_CODE + (uint64_t)n * PAGE, SYS_PT_CODE, n};
    }
    if (number >= DATA_PAGES) {
        unsigned n = number - DATA_PAGES;
        return (struct page_place){PHYS_STACK + (uint64_t)n * PAGE, SYS_PT_STACK, n};
    }
    return (struct page_place){PHYS_DATA + (uint64_t)number * PAGE, SYS_PT_DATA, number};
}

/* A page table entry without its address. */
static uint64_t entry_rights(unsigned number, enum page_rights rights)
{
    uint64_t entry = PTE_P | PTE_U;
    if (page_writable(number, rights))
        entry |= PTE_W;
    if (number < FIRST_CODE_PAGE || rights == RIGHTS_READ)
        entry |= PTE_NX;
    if (rights == RIGHTS_ABSENT)
        entry &= ~(uint64_t)PTE_P;
    if (rights == RIGHTS_SUPERVISOR)
        entry = (entry & ~(uint64_t)PTE_U) | PTE_W;
    if (rights == RIGHTS_RESERVED)
        entry |= PTE_W | PTE_RESERVED;
    return entry;
}

/* Chooses what is behind the pages, and who may use them, as the test wants it. */
static void set_pages(struct guest_side *g, const struct insn_case *c)
{
    uint8_t *flags = as_page_flags(g->as);
    for (unsigned i = 0; i < ALL_PAGES; i++) {
        struct page_place place = place_of(i);
        enum guest_page kind = i < MEMORY_PAGES ? c->behind[i] : GUEST_PAGE_RAM;
        uint64_t phys = place.phys;
        if (kind == GUEST_PAGE_MMIO)
            phys = MMIO_BASE + (phys - PHYS_DATA);
        else if (kind == GUEST_PAGE_TRACED)
            flags[phys / PAGE] |= RAM_PAGE_CODE;
        else if (i < MEMORY_PAGES)
            flags[phys / PAGE] &= (uint8_t)~RAM_PAGE_CODE;
        put64(g, place.table, place.index, phys | entry_rights(i, c->rights[i]));
    }
}

static void read_accessed(struct guest_side *g, struct insn_result *r)
{
    r->accessed = r->dirty = 0;
    for (unsigned i = 0; i < ALL_PAGES; i++) {
        struct page_place place = place_of(i);
        uint64_t entry;
        memcpy(&entry, system_at(g, place.table) + 8 * place.index, sizeof(entry));
        r->accessed |= (uint16_t)((entry & PTE_A ? 1u : 0) << i);
        r->dirty |= (uint16_t)((entry & PTE_D ? 1u : 0) << i);
    }
}

static void put_gate(struct guest_side *g, unsigned vector)
{
    uint64_t target = system_base(g) + SYS_STUBS + 16 * vector;
    bool user = vector == 3 || vector == 4 || vector == VECTOR_END;
    uint64_t low = (target & 0xffff) | (uint64_t)SEL_CODE0 << 16 | 0x8e00ull << 32 |
                   (user ? 0x6000ull << 32 : 0) | (target >> 16 & 0xffff) << 48;
    if (g->wide) {
        put64(g, SYS_IDT, 2 * vector, low);
        put64(g, SYS_IDT, 2 * vector + 1, target >> 32);
    } else {
        put64(g, SYS_IDT, vector, low);
    }
    *system_at(g, SYS_STUBS + 16 * vector) = 0xf4; /* hlt */
}

static uint64_t descriptor(const struct segment_row *row)
{
    bool pages = row->limit > 0xfffff;
    uint64_t limit = pages ? row->limit >> 12 : row->limit;
    uint64_t type = row->code ? 0xb : 0x1 | (row->expand_down ? 4u : 0) | (row->read_only ? 0 : 2u);
    uint64_t high = (row->base >> 16 & 0xff) | (0xf0 | type) << 8 | (limit & 0xf0000) |
                    (row->big ? 1u << 22 : 0) | (pages ? 1u << 23 : 0) | (row->base & 0xff000000);
    return high << 32 | (row->base & 0xffff) << 16 | (limit & 0xffff);
}

static void make_tables(struct guest_side *g)
{
    make_page_tables(g);
    for (unsigned vector = 0; vector < 256; vector++)
        put_gate(g, vector);
    put64(g, SYS_GDT, SEL_CODE0 / 8, g->wide ? 0x00af9b000000ffff : 0x00cf9b000000ffff);
    put64(g, SYS_GDT, SEL_DATA0 / 8, 0x00cf93000000ffff);
    for (unsigned i = 1; i < SEGI_COUNT; i++)
        put64(g, SYS_LDT, i, descriptor(&segment_rows[i]));
    uint64_t stack = system_base(g) + SYS_STACK + PAGE;
    uint32_t ss = SEL_DATA0;
    memcpy(system_at(g, SYS_TSS + 4), &stack, g->wide ? 8 : 4);
    if (!g->wide)
        memcpy(system_at(g, SYS_TSS + 8), &ss, 4);
    memset(system_at(g, SYS_TSS + 0x66), 0xff, 2); /* no I/O permission bitmap */
}

/* --- processor state --- */

static void load_segment(struct x86_segment *seg, uint16_t selector, uint64_t base, uint32_t limit,
                         uint32_t attr)
{
    *seg = (struct x86_segment){.base = base, .limit = limit, .attr = attr, .selector = selector};
    segment_update_bounds(seg);
}

static void load_row(struct x86_segment *seg, unsigned index)
{
    const struct segment_row *row = &segment_rows[index];
    uint32_t attr = X86_AR_P | 3u << X86_AR_DPL_SHIFT | X86_AR_S | X86_AR_A;
    attr |= row->code        ? (uint32_t)(X86_AR_CODE | X86_AR_WR)
            : row->read_only ? 0u
                             : (uint32_t)X86_AR_WR;
    attr |= row->expand_down ? (uint32_t)X86_AR_EC : 0;
    attr |= row->big ? (uint32_t)X86_AR_DB : 0;
    attr |= row->limit > 0xfffff ? (uint32_t)X86_AR_G : 0;
    load_segment(seg, segment_selector(index), row->base, row->limit, attr);
}

static void make_state(struct guest_side *g)
{
    struct x86_cpu *cpu = &g->initial;
    uint64_t base = system_base(g);
    bool wide = g->wide;
    cpu->cr0 =
        X86_CR0_PE | X86_CR0_MP | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_AM | X86_CR0_PG;
    cpu->cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE |
               X86_CR4_FSGSBASE | X86_CR4_DE;
    cpu->xcr0 = 7;
    cpu->efer = X86_EFER_NXE | X86_EFER_SCE;
    if (wide)
        cpu->efer |= X86_EFER_LME | X86_EFER_LMA;
    cpu->cr3 = PHYS_SYSTEM + (wide ? (unsigned)SYS_PML4 : (unsigned)SYS_PAE_PDPT);
    for (unsigned i = 0; i < 4; i++)
        memcpy(&cpu->pdpte[i], system_at(g, SYS_PAE_PDPT) + 8 * i, 8);
    cpu->cpl = 3;
    cpu->idtr = (struct x86_table){.base = base + SYS_IDT, .limit = 0xfff};
    cpu->gdtr = (struct x86_table){.base = base + SYS_GDT, .limit = 0x3f};
    load_segment(&cpu->seg[X86_TR], 0x28, base + SYS_TSS, 0x67, X86_AR_P | 0xb);
    load_segment(&cpu->seg[X86_LDTR], 0x20, base + SYS_LDT, 8 * SEGI_COUNT - 1, X86_AR_P | 0x2);
    if (g->mode == 64) {
        uint32_t user = X86_AR_P | 3u << X86_AR_DPL_SHIFT | X86_AR_S | X86_AR_A | X86_AR_WR;
        for (unsigned i = 0; i < 6; i++)
            load_segment(&cpu->seg[i], i == X86_SS ? SEL_DATA3 : 0, 0, UINT32_MAX,
                         user | X86_AR_DB | X86_AR_G);
        load_segment(&cpu->seg[X86_CS], SEL_CODE3, 0, UINT32_MAX,
                     user | X86_AR_CODE | X86_AR_L | X86_AR_G);
    }
}

struct guest_side *guest_side_create(unsigned mode, bool long_mode, const struct cpuid_model *model,
                                     bool exact_flags)
{
    struct guest_side *g = calloc(1, sizeof(*g));
    static const struct io_ops mmio = {mmio_read, mmio_write, 1, 8};
    if (!g || as_create(&g->as, RAM_BYTES, 0xc0000000, &g->error) < 0) {
        free(g);
        return NULL;
    }
    g->mode = mode;
    g->wide = long_mode;
    struct engine_config config = {
        .as = g->as,
        .cpuid = *model,
        .exact_flags = exact_flags,
        .trace = getenv("INSN_TRACE") ? TRACE_BLOCKS | TRACE_CALLOUTS | TRACE_INT : 0,
        .platform = {.ctx = g,
                     .intr_pending = no_interrupt,
                     .intr_ack = no_vector,
                     .pio_read = read_port,
                     .pio_write = write_port,
                     .tsc_read = read_tsc,
                     .ferr_set = ferr},
    };
    if (!as_map_mmio(g->as, MMIO_BASE, PHYS_STACK + STACK_BYTES - PHYS_DATA, &mmio, g, "data",
                     &g->error) ||
        engine_bt.vcpu_create(&g->vcpu, &config, &g->error) < 0) {
        fprintf(stderr, "insn-diff: %s\n", g->error.text);
        as_destroy(g->as);
        free(g);
        return NULL;
    }
    g->ram = as_lookup(g->as, 0).read;
    engine_bt.vcpu_get_state(g->vcpu, &g->initial);
    make_tables(g);
    make_state(g);
    memset(g->ram + PHYS_CODE, 0xcc, CODE_BYTES);
    memory_template(g->template);
    return g;
}

void guest_side_destroy(struct guest_side *g)
{
    engine_bt.vcpu_destroy(g->vcpu);
    as_destroy(g->as);
    free(g);
}

void guest_side_kick(struct guest_side *g)
{
    engine_bt.vcpu_kick(g->vcpu);
}

const char *guest_side_error(const struct guest_side *g)
{
    return g->error.text;
}

bool guest_side_owns(const struct guest_side *g, uint64_t linear)
{
    return linear - system_base(g) < SYSTEM_BYTES;
}

static void place_code(struct guest_side *g, const struct insn_case *c)
{
    uint8_t code[CASE_CODE + END_BYTES];
    static const uint8_t none[CODE_BYTES] = {[0 ... CODE_BYTES - 1] = 0xcc};
    memset(code, 0xcc, sizeof(code)); /* what the last test left */
    if (g->code_written)
        as_write(g->as, PHYS_CODE, none, CODE_BYTES);
    else
        as_write(g->as, PHYS_CODE + g->old_start, code, sizeof(code));
    g->code_written = c->self_modifying;
    g->old_start = c->code_start;
    memcpy(code, c->code, c->code_size);
    memset(code + c->code_size, 0xcc, END_BYTES);
    code[c->code_size] = 0xcd; /* int VECTOR_END */
    code[c->code_size + 1] = VECTOR_END;
    as_write(g->as, PHYS_CODE + c->code_start, code, c->code_size + 4u);
}

static void prepare(struct guest_side *g, const struct insn_case *c)
{
    memcpy(g->ram + PHYS_DATA, g->template, DATA_BYTES);
    memcpy(g->ram + PHYS_STACK, g->template + DATA_BYTES, STACK_BYTES);
    set_pages(g, c);

    struct x86_cpu *cpu = &g->state;
    *cpu = g->initial;
    memcpy(cpu->gpr, c->in.gpr, sizeof(cpu->gpr));
    memcpy(cpu->xsave, c->in.xsave, XSAVE_BYTES);
    cpu->rip = c->in.rip;
    x86_set_rflags(cpu, c->in.rflags);
    if (g->mode == 64) {
        cpu->seg[X86_FS].base = c->in.fs_base;
        cpu->seg[X86_GS].base = c->in.gs_base;
        return;
    }
    for (unsigned i = 0; i < 6; i++)
        load_row(&cpu->seg[i], c->segment[i]);
}

static void read_frame(struct guest_side *g, struct insn_result *r)
{
    struct x86_cpu *cpu = &g->state;
    unsigned word = g->wide ? 8 : 4;
    const uint8_t *frame = system_at(g, (uint32_t)(cpu->gpr[X86_RSP] - system_base(g)));
    bool has_error = (cpu->gpr[X86_RSP] & 0xfff) == PAGE - 6 * word;
    uint64_t item[6] = {0};
    for (unsigned i = 0; i < 5u + has_error; i++)
        memcpy(&item[i + !has_error], frame + i * word, word);
    r->error = item[0];
    r->out.rip = item[1];
    r->out.rflags = item[3];
    memcpy(r->out.gpr, cpu->gpr, sizeof(r->out.gpr));
    r->out.gpr[X86_RSP] = item[4];
}

enum { FX_FOP = 6, FX_FIP = 8, FX_FDP = 16 };

static void collect(struct guest_side *g, struct insn_result *r)
{
    struct x86_cpu *cpu = &g->state;
    uint64_t stub = cpu->rip - 1 - system_base(g) - SYS_STUBS;
    engine_bt.vcpu_get_state(g->vcpu, cpu);
    stub = cpu->rip - 1 - system_base(g) - SYS_STUBS;
    if (cpu->cpl != 0 || stub % 16 || stub / 16 > 255) {
        snprintf(g->error.text, sizeof(g->error.text), "halted at %#llx",
                 (unsigned long long)cpu->rip);
        r->outcome = OUTCOME_LOST;
        return;
    }
    read_frame(g, r);
    r->vector = (uint8_t)(stub / 16);
    r->outcome = OUTCOME_EXCEPTION;
    if (r->vector == VECTOR_END) {
        r->outcome = OUTCOME_END;
        r->vector = 0;
        r->out.rip -= 2;
    }
    r->cr2 = r->vector == X86_PF ? cpu->cr2 : 0;
    r->out.fs_base = cpu->seg[X86_FS].base;
    r->out.gs_base = cpu->seg[X86_GS].base;
    memcpy(r->out.xsave, cpu->xsave, XSAVE_BYTES);
    memcpy(r->out.xsave + FX_FOP, &cpu->x87_pointers.fop, 2);
    memcpy(r->out.xsave + FX_FIP, &cpu->x87_pointers.fip, 8);
    memcpy(r->out.xsave + FX_FDP, &cpu->x87_pointers.fdp, 8);
    memcpy(r->memory, g->ram + PHYS_DATA, DATA_BYTES);
    memcpy(r->memory + DATA_BYTES, g->ram + PHYS_STACK, STACK_BYTES);
    memcpy(r->code, g->ram + PHYS_CODE + g->old_start, CASE_CODE);
    read_accessed(g, r);
}

static void run_once(struct guest_side *g, const struct insn_case *c, struct insn_result *r)
{
    prepare(g, c);
    engine_bt.vcpu_set_state(g->vcpu, &g->state, &g->error);
    switch (engine_bt.vcpu_run(g->vcpu, &g->error)) {
    case VCPU_EXIT_HALT:
        collect(g, r);
        return;
    case VCPU_EXIT_KICK:
        r->outcome = OUTCOME_TIMEOUT;
        return;
    case VCPU_EXIT_SHUTDOWN:
        snprintf(g->error.text, sizeof(g->error.text), "triple fault");
        break;
    case VCPU_EXIT_ERROR:
        break;
    }
    r->outcome = OUTCOME_LOST;
}

void guest_side_run(struct guest_side *g, const struct insn_case *c, struct insn_result *r)
{
    place_code(g, c);
    run_once(g, c, r);
    if (c->seed % 8 || r->outcome == OUTCOME_TIMEOUT)
        return;
    if (c->self_modifying)
        place_code(g, c);
    run_once(g, c, r); /* again, with translated blocks */
}
