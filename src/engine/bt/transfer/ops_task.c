/*
 * Hardware task switches. Everything that can fault in the old task is probed before the first
 * write; from the load of TR on, faults are the new task's. Segment registers that are not yet
 * verified then hold their selectors but are unusable.
 */
#include "engine/bt/transfer/task.h"

#include "engine/bt/transfer/event.h"
#include "engine/bt/transfer/frame.h"

enum {
    TSS_LINK = 0,
    TSS32_CR3 = 0x1c,
    TSS32_EIP = 0x20, /* EIP, EFLAGS, 8 registers, 6 selectors: what is saved */
    TSS32_LDT = 0x60,
    TSS32_TRAP = 0x64,
    TSS32_SIZE = 0x68,
    TSS16_IP = 0x0e, /* IP, FLAGS, 8 registers, 4 selectors */
    TSS16_LDT = 0x2a,
    TSS16_SIZE = 0x2c,
    TSS32_SAVED = TSS32_LDT - TSS32_EIP,
    TSS16_SAVED = TSS16_LDT - TSS16_IP,
    DR6_BT = 1 << 15,
    DR7_LOCAL = 0x155, /* L0-L3 and LE */
};

struct task_image {
    uint32_t cr3, eip, eflags, gpr[8];
    uint16_t selector[6], ldt;
    bool trap;
};

int task_read_tss(struct x86_cpu *cpu, uint16_t selector, enum task_reason reason,
                  struct descriptor *tss)
{
    enum x86_vector vector = reason == TASK_IRET ? X86_TS : X86_GP;
    unsigned busy = reason == TASK_IRET ? TYPE_BUSY : 0;
    unsigned type;

    if (selector_null(selector) || (selector & 4))
        return x86_raise_error(cpu, vector, selector_error(selector));
    if (descriptor_read(cpu, selector, vector, tss) < 0)
        return -1;
    type = descriptor_type(tss);
    if (!descriptor_is_system(tss) || (type & ~(unsigned)TYPE_TSS_32) != (TYPE_TSS16 | busy))
        return x86_raise_error(cpu, vector, selector_error(selector));
    if (!descriptor_present(tss))
        return x86_raise_error(cpu, X86_NP, selector_error(selector));
    return 0;
}

static bool is_nested(const struct task_switch *request)
{
    return request->reason == TASK_CALL || request->reason == TASK_EVENT;
}

/* Writes registers into the old TSS, which was probed. */
static int save_state(struct x86_cpu *cpu, const struct task_switch *request)
{
    const struct x86_segment *tr = &cpu->seg[X86_TR];
    unsigned size = tr->attr & TYPE_TSS_32 ? 4 : 2;
    unsigned selectors = size == 4 ? 6 : 4;
    uint8_t bytes[TSS32_SAVED], *p = bytes;
    uint32_t flags = request->rflags;

    if (request->reason == TASK_IRET)
        flags &= ~(uint32_t)X86_NT;
    bytes_store(p, size, request->return_rip);
    bytes_store(p + size, size, flags);
    p += 2 * size;
    for (unsigned i = 0; i < 8; i++, p += size)
        bytes_store(p, size, cpu->gpr[i]);
    for (unsigned i = 0; i < selectors; i++, p += size)
        bytes_store(p, size, cpu->seg[i].selector);
    return memory_write(cpu, system_wrap(cpu, tr->base + (size == 4 ? TSS32_EIP : TSS16_IP)), bytes,
                        size == 4 ? TSS32_SAVED : TSS16_SAVED, MMU_WRITE);
}

static int read_image(struct x86_cpu *cpu, const struct descriptor *tss, struct task_image *image)
{
    unsigned size = descriptor_type(tss) & TYPE_TSS_32 ? 4 : 2;
    unsigned selectors = size == 4 ? 6 : 4;
    uint8_t bytes[TSS32_SIZE];
    const uint8_t *p = bytes + (size == 4 ? TSS32_EIP : TSS16_IP);

    if (memory_read(cpu, descriptor_base(tss), bytes, size == 4 ? TSS32_SIZE : TSS16_SIZE,
                    MMU_READ) < 0)
        return -1;
    image->eip = (uint32_t)bytes_load(p, size);
    image->eflags = (uint32_t)bytes_load(p + size, size);
    p += 2 * size;
    for (unsigned i = 0; i < 8; i++, p += size)
        image->gpr[i] = (uint32_t)bytes_load(p, size);
    image->selector[X86_FS] = image->selector[X86_GS] = 0;
    for (unsigned i = 0; i < selectors; i++, p += size)
        image->selector[i] = (uint16_t)bytes_load(p, 2);
    image->ldt = (uint16_t)bytes_load(p, 2);
    image->cr3 = size == 4 ? (uint32_t)bytes_load(bytes + TSS32_CR3, 4) : 0;
    image->trap = size == 4 && (bytes[TSS32_TRAP] & 1);
    return 0;
}

/* Limits, and that all memory the switch touches in the old address space is there. */
static int probe_switch(struct x86_cpu *cpu, const struct descriptor *tss,
                        const struct task_switch *request, uint64_t old_descriptor)
{
    const struct x86_segment *tr = &cpu->seg[X86_TR];
    bool old32 = (tr->attr & TYPE_TSS_32) != 0, new32 = (descriptor_type(tss) & TYPE_TSS_32) != 0;
    unsigned saved_at = old32 ? TSS32_EIP : TSS16_IP, saved = old32 ? TSS32_SAVED : TSS16_SAVED;
    uint64_t base = descriptor_base(tss);

    if (descriptor_limit(tss) < (new32 ? TSS32_SIZE : TSS16_SIZE) - 1u)
        return x86_raise_error(cpu, X86_TS, selector_error(tss->selector));
    if ((tr->attr & X86_AR_UNUSABLE) || tr->limit < saved_at + saved - 1)
        return x86_raise_error(cpu, X86_TS, selector_error(tr->selector));
    if (memory_probe(cpu, system_wrap(cpu, tr->base + saved_at), saved, MMU_WRITE) < 0 ||
        memory_probe(cpu, base, new32 ? TSS32_SIZE : TSS16_SIZE, MMU_READ) < 0)
        return -1;
    if (is_nested(request))
        return memory_probe(cpu, base + TSS_LINK, 2, MMU_WRITE) < 0 ||
                       memory_probe(cpu, tss->address, 8, MMU_WRITE) < 0
                   ? -1
                   : 0;
    if (memory_probe(cpu, tss->address, 8, MMU_WRITE) < 0)
        return -1;
    return old_descriptor ? memory_probe(cpu, old_descriptor, 8, MMU_WRITE) : 0;
}

/* Busy bits of both descriptors and the back link (SDM vol. 3, table 7-2). */
static int update_links(struct x86_cpu *cpu, const struct descriptor *tss,
                        const struct task_switch *request, uint64_t old_descriptor)
{
    struct descriptor old = {.address = old_descriptor};

    if (!is_nested(request) && old_descriptor) {
        if (system_read(cpu, old.address, 8, &old.low) < 0)
            return -1;
        if (descriptor_write_type(cpu, &old, descriptor_type(&old) & ~(unsigned)TYPE_BUSY) < 0)
            return -1;
    }
    if (is_nested(request)) {
        uint16_t link = cpu->seg[X86_TR].selector;

        if (memory_write(cpu, descriptor_base(tss) + TSS_LINK, &link, 2, MMU_WRITE) < 0)
            return -1;
    }
    if (request->reason == TASK_IRET)
        return 0;
    return descriptor_write_type(cpu, tss, descriptor_type(tss) | TYPE_BUSY);
}

/* --- behind the commit point --- */

static int load_ldt(struct x86_cpu *cpu, uint16_t selector)
{
    uint32_t error = selector_error(selector);
    struct descriptor d;

    if (selector_null(selector))
        return 0;
    if (selector & 4)
        return x86_raise_error(cpu, X86_TS, error);
    if (descriptor_read(cpu, selector, X86_TS, &d) < 0)
        return -1;
    if (!descriptor_is_system(&d) || descriptor_type(&d) != TYPE_LDT || !descriptor_present(&d))
        return x86_raise_error(cpu, X86_TS, error);
    segment_fill(&cpu->seg[X86_LDTR], &d, selector);
    return 0;
}

static int load_code(struct x86_cpu *cpu, uint16_t selector)
{
    uint32_t error = selector_error(selector);
    unsigned rpl = selector & 3;
    struct descriptor d;

    if (selector_null(selector))
        return x86_raise_error(cpu, X86_TS, 0);
    if (descriptor_read(cpu, selector, X86_TS, &d) < 0)
        return -1;
    if (!descriptor_is_code(&d) ||
        (descriptor_is_conforming(&d) ? descriptor_dpl(&d) > rpl : descriptor_dpl(&d) != rpl))
        return x86_raise_error(cpu, X86_TS, error);
    if (!descriptor_present(&d))
        return x86_raise_error(cpu, X86_NP, error);
    if (descriptor_set_accessed(cpu, &d) < 0)
        return -1;
    segment_fill(&cpu->seg[X86_CS], &d, selector);
    return 0;
}

static int load_segments(struct x86_cpu *cpu, const struct task_image *image)
{
    static const uint8_t data[] = {X86_DS, X86_ES, X86_FS, X86_GS};
    unsigned cpl = image->selector[X86_CS] & 3;

    if (load_ldt(cpu, image->ldt) < 0)
        return -1;
    if (x86_vm86(cpu)) {
        for (unsigned i = X86_ES; i <= X86_GS; i++)
            segment_fill_vm86(&cpu->seg[i], image->selector[i]);
        return 0;
    }
    if (load_code(cpu, image->selector[X86_CS]) < 0)
        return -1;
    if (tss_fill_ss(cpu, image->selector[X86_SS], cpl, &cpu->seg[X86_SS]) < 0)
        return -1;
    cpu->cpl = (uint8_t)cpl;
    for (unsigned i = 0; i < sizeof(data); i++) {
        if (segment_load_data(cpu, (enum x86_segreg)data[i], image->selector[data[i]], X86_TS) < 0)
            return -1;
    }
    return 0;
}

static int load_cr3(struct x86_cpu *cpu, uint32_t cr3)
{
    cpu->cr3 = cr3;
    cpu->dirty |= X86_DIRTY_ADDRESS;
    if ((cpu->cr4 & X86_CR4_PAE) && mmu_load_pdptes(cpu, cr3) < 0)
        return x86_raise_error(cpu, X86_GP, 0);
    mmu_flush_nonglobal(cpu);
    return 0;
}

static void load_registers(struct x86_cpu *cpu, const struct task_image *image, bool nested)
{
    cpu->cr0 |= X86_CR0_TS;
    cpu->dr[7] &= ~(uint64_t)DR7_LOCAL;
    cpu->rip = image->eip;
    for (unsigned i = 0; i < 8; i++)
        cpu->gpr[i] = image->gpr[i];
    x86_set_rflags(cpu, image->eflags | (nested ? (uint32_t)X86_NT : 0));
    /*
     * Until SS is verified the privilege level is the least one, so that the handler of a fault in
     * the rest of the switch gets a stack from the TSS.
     */
    cpu->cpl = 3;
    for (unsigned i = X86_ES; i <= X86_GS; i++)
        segment_fill_null(&cpu->seg[i], image->selector[i]);
    segment_fill_null(&cpu->seg[X86_LDTR], image->ldt);
}

static int push_error(struct x86_cpu *cpu, uint32_t error, unsigned size)
{
    struct frame_stack stack = frame_current(cpu);
    uint64_t item = error;

    if (frame_push(cpu, &stack, &item, 1, size) < 0)
        return -1;
    frame_commit(cpu, &stack);
    return 0;
}

static int load_task(struct x86_cpu *cpu, const struct descriptor *tss,
                     const struct task_image *image, const struct task_switch *request)
{
    bool is32 = (descriptor_type(tss) & TYPE_TSS_32) != 0;
    struct x86_segment *tr = &cpu->seg[X86_TR];

    segment_fill(tr, tss, tss->selector);
    tr->attr |= TYPE_BUSY;
    load_registers(cpu, image, is_nested(request));
    cpu->shadow = 0;
    if (is32 && (cpu->cr0 & X86_CR0_PG) && load_cr3(cpu, image->cr3) < 0)
        return -1;
    if (load_segments(cpu, image) < 0)
        return -1;
    if (request->has_error && push_error(cpu, request->error, is32 ? 4 : 2) < 0)
        return -1;
    if (cpu->rip > cpu->seg[X86_CS].limit)
        return x86_raise_error(cpu, X86_GP, 0);
    if (image->trap) {
        cpu->fault = (struct x86_fault){.vector = X86_DB, .dr6 = DR6_BT, .trap = true};
        return -1;
    }
    return event_check_virtual(cpu);
}

int task_switch(struct x86_cpu *cpu, const struct descriptor *tss,
                const struct task_switch *request)
{
    uint32_t before = mode_fingerprint(cpu);
    uint64_t old_descriptor = 0;
    struct task_image image;
    int result;

    if (!descriptor_locate(cpu, cpu->seg[X86_TR].selector & 0xfff8, 8, &old_descriptor))
        old_descriptor = 0; /* the GDT shrank: nothing to mark */
    if (probe_switch(cpu, tss, request, old_descriptor) < 0)
        return -1;
    if (save_state(cpu, request) < 0 || read_image(cpu, tss, &image) < 0)
        return -1;
    if (update_links(cpu, tss, request, old_descriptor) < 0)
        return -1;
    result = load_task(cpu, tss, &image, request);
    mode_note_change(cpu, before);
    return result;
}
