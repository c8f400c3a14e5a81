#include "engine/bt/transfer/frame.h"

#include "engine/bt/ops.h"

enum { TSS_IO_BASE = 102, TSS64_RSP0 = 4, TSS64_IST1 = 36 };

struct frame_stack frame_current(const struct x86_cpu *cpu)
{
    unsigned bits = x86_stack_bits(cpu);
    struct frame_stack stack = {
        .seg = &cpu->seg[X86_SS],
        .mask = bytes_mask(bits / 8),
        .flat64 = bits == 64,
        .user = cpu->cpl == 3,
    };

    stack.sp = cpu->gpr[X86_RSP] & stack.mask;
    return stack;
}

struct frame_stack frame_inner(const struct x86_segment *seg, uint64_t sp, unsigned cpl,
                               bool code64)
{
    struct frame_stack stack = {
        .seg = seg,
        .mask = bytes_mask(code64                  ? 8
                           : seg->attr & X86_AR_DB ? 4
                                                   : 2),
        .flat64 = code64,
        .user = cpl == 3,
        .error = code64 ? 0 : selector_error(seg->selector),
    };

    stack.sp = sp & stack.mask;
    return stack;
}

/* [offset, offset + size) lies in the stack segment. */
static bool frame_fits(const struct frame_stack *stack, uint64_t offset, unsigned size)
{
    const struct x86_segment *seg = stack->seg;
    uint64_t last = offset + size - 1;

    if (stack->flat64)
        return mmu_canonical(offset) && mmu_canonical(last);
    if (seg->attr & X86_AR_UNUSABLE)
        return false;
    if ((seg->attr & (X86_AR_CODE | X86_AR_EC)) == X86_AR_EC)
        return offset > seg->limit && last <= (seg->attr & X86_AR_DB ? 0xffffffff : 0xffff);
    return last <= seg->limit;
}

static uint64_t frame_linear(const struct frame_stack *stack, uint64_t offset)
{
    return stack->flat64 ? offset : (uint32_t)(stack->seg->base + offset);
}

/* The frame's bytes lie in one piece: they do not wrap around the stack segment. */
static bool frame_contiguous(const struct frame_stack *stack, uint64_t low, unsigned total)
{
    return low + total - 1 >= low && low + total - 1 <= stack->mask;
}

static int frame_overflow(struct x86_cpu *cpu, const struct frame_stack *stack)
{
    return x86_raise_error(cpu, X86_SS_FAULT, stack->error);
}

/* The frame's items all have the alignment of the first. */
static int frame_check_alignment(struct x86_cpu *cpu, const struct frame_stack *stack,
                                 uint64_t offset, unsigned size)
{
    return stack->user ? mmu_check_alignment(cpu, frame_linear(stack, offset), size) : 0;
}

/* Every item on its own, in the order of pushing, all checked before the first is written. */
static int frame_push_each(struct x86_cpu *cpu, const struct frame_stack *stack,
                           const uint64_t *items, unsigned count, unsigned size)
{
    unsigned access = MMU_WRITE | (stack->user ? MMU_USER : 0);
    uint64_t sp = stack->sp;

    for (unsigned i = 0; i < count; i++) {
        sp = (sp - size) & stack->mask;
        if (!frame_fits(stack, sp, size))
            return frame_overflow(cpu, stack);
        if (frame_check_alignment(cpu, stack, sp, size) < 0)
            return -1;
        if (memory_probe(cpu, frame_linear(stack, sp), size, access) < 0)
            return -1;
    }
    sp = stack->sp;
    for (unsigned i = 0; i < count; i++) {
        uint64_t item = items[i];

        sp = (sp - size) & stack->mask;
        if (memory_write(cpu, frame_linear(stack, sp), &item, size, access) < 0)
            return -1;
    }
    return 0;
}

static void frame_store(uint8_t *bytes, const uint64_t *items, unsigned count, unsigned size)
{
    for (unsigned i = 0; i < count; i++)
        bytes_store(bytes + (count - 1 - i) * size, size, items[i]);
}

int frame_push(struct x86_cpu *cpu, struct frame_stack *stack, const uint64_t *items,
               unsigned count, unsigned size)
{
    unsigned total = count * size;
    uint64_t low = (stack->sp - total) & stack->mask;
    uint8_t *host = NULL;

    if (frame_contiguous(stack, low, total) && frame_fits(stack, low, total)) {
        if (frame_check_alignment(cpu, stack, low, size) < 0)
            return -1;
        host = tlb_hit(cpu, frame_linear(stack, low), total, stack->user, true);
    }
    if (__builtin_expect(host != NULL, 1))
        frame_store(host, items, count, size);
    else if (frame_push_each(cpu, stack, items, count, size) < 0)
        return -1;
    stack->sp = low;
    return 0;
}

int frame_pop(struct x86_cpu *cpu, struct frame_stack *stack, uint64_t *items, unsigned count,
              unsigned size)
{
    unsigned total = count * size;
    uint8_t bytes[FRAME_MAX_ITEMS * 8];
    const uint8_t *source = bytes;
    uint64_t sp = stack->sp;

    if (frame_contiguous(stack, sp, total)) {
        uint64_t linear = frame_linear(stack, sp);
        const uint8_t *host = tlb_hit(cpu, linear, total, stack->user, false);

        if (!frame_fits(stack, sp, total))
            return frame_overflow(cpu, stack);
        if (frame_check_alignment(cpu, stack, sp, size) < 0)
            return -1;
        if (__builtin_expect(host != NULL, 1))
            source = host;
        else if (memory_read(cpu, linear, bytes, total, stack->user ? MMU_USER : 0) < 0)
            return -1;
        for (unsigned i = 0; i < count; i++)
            items[i] = bytes_load(source + i * size, size);
        stack->sp = (sp + total) & stack->mask;
        return 0;
    }
    for (unsigned i = 0; i < count; i++) {
        items[i] = 0;
        if (!frame_fits(stack, sp, size))
            return frame_overflow(cpu, stack);
        if (frame_check_alignment(cpu, stack, sp, size) < 0)
            return -1;
        if (memory_read(cpu, frame_linear(stack, sp), &items[i], size, stack->user ? MMU_USER : 0) <
            0)
            return -1;
        sp = (sp + size) & stack->mask;
    }
    stack->sp = sp;
    return 0;
}

void frame_commit(struct x86_cpu *cpu, const struct frame_stack *stack)
{
    if (stack->mask == 0xffff)
        cpu->gpr[X86_RSP] = (cpu->gpr[X86_RSP] & ~0xffffull) | (stack->sp & 0xffff);
    else
        cpu->gpr[X86_RSP] = stack->sp & stack->mask;
}

/* --- task-state segment --- */

static int tss_fault(struct x86_cpu *cpu)
{
    return x86_raise_error(cpu, X86_TS, selector_error(cpu->seg[X86_TR].selector));
}

int tss_read_stack(struct x86_cpu *cpu, unsigned cpl, uint16_t *ss, uint64_t *sp)
{
    const struct x86_segment *tr = &cpu->seg[X86_TR];
    unsigned size = tr->attr & TYPE_TSS_32 ? 4 : 2;
    uint32_t offset = size + cpl * 2 * size;
    uint64_t selector;

    if ((tr->attr & X86_AR_UNUSABLE) || offset + size + 1 > tr->limit)
        return tss_fault(cpu);
    if (system_read(cpu, tr->base + offset, size, sp) < 0)
        return -1;
    if (system_read(cpu, tr->base + offset + size, 2, &selector) < 0)
        return -1;
    *ss = (uint16_t)selector;
    return 0;
}

int tss_read_rsp(struct x86_cpu *cpu, unsigned cpl, unsigned ist, uint64_t *rsp)
{
    const struct x86_segment *tr = &cpu->seg[X86_TR];
    uint32_t offset = ist ? TSS64_IST1 + (ist - 1) * 8 : TSS64_RSP0 + cpl * 8;

    if (__builtin_expect((tr->attr & X86_AR_UNUSABLE) || offset + 7 > tr->limit, 0))
        return tss_fault(cpu);
    if (system_read(cpu, tr->base + offset, 8, rsp) < 0)
        return -1;
    return mmu_canonical(*rsp) ? 0 : x86_raise_error(cpu, X86_SS_FAULT, 0);
}

int tss_fill_ss(struct x86_cpu *cpu, uint16_t selector, unsigned cpl, struct x86_segment *ss)
{
    struct descriptor d;

    if (selector_null(selector))
        return x86_raise_error(cpu, X86_TS, 0);
    if (descriptor_read(cpu, selector, X86_TS, &d) < 0)
        return -1;
    if ((selector & 3u) != cpl || descriptor_dpl(&d) != cpl || !descriptor_is_writable_data(&d))
        return x86_raise_error(cpu, X86_TS, selector_error(selector));
    if (!descriptor_present(&d))
        return x86_raise_error(cpu, X86_SS_FAULT, selector_error(selector));
    if (descriptor_set_accessed(cpu, &d) < 0)
        return -1;
    segment_fill(ss, &d, selector);
    return 0;
}

int tss_redirects_int(struct x86_cpu *cpu, uint8_t vector)
{
    const struct x86_segment *tr = &cpu->seg[X86_TR];
    uint64_t io_base, offset;
    uint8_t map = 0;

    if (tr->limit < TSS_IO_BASE + 1)
        return x86_raise_error(cpu, X86_GP, 0);
    if (system_read(cpu, tr->base + TSS_IO_BASE, 2, &io_base) < 0)
        return -1;
    offset = io_base - 32 + vector / 8;
    if (io_base < 32 || offset > tr->limit)
        return x86_raise_error(cpu, X86_GP, 0);
    if (memory_read(cpu, system_wrap(cpu, tr->base + offset), &map, 1, MMU_READ) < 0)
        return -1;
    return !((map >> (vector % 8)) & 1);
}

int io_check(struct x86_cpu *cpu, uint16_t port, unsigned size)
{
    const struct x86_segment *tr = &cpu->seg[X86_TR];
    unsigned mask = ((1u << size) - 1) << (port % 8);
    uint64_t io_base, bits, offset;

    if (x86_real_mode(cpu))
        return 0;
    if (!x86_vm86(cpu) && cpu->cpl <= (cpu->sflags & X86_IOPL) >> X86_IOPL_SHIFT)
        return 0;
    if ((tr->attr & X86_AR_UNUSABLE) || !(tr->attr & TYPE_TSS_32) || tr->limit < TSS_IO_BASE + 1)
        return x86_raise_error(cpu, X86_GP, 0);
    if (system_read(cpu, tr->base + TSS_IO_BASE, 2, &io_base) < 0)
        return -1;
    /* Two bytes are always read, so the map needs one byte of ones behind its last port. */
    offset = io_base + port / 8;
    if (offset + 1 > tr->limit)
        return x86_raise_error(cpu, X86_GP, 0);
    if (system_read(cpu, tr->base + offset, 2, &bits) < 0)
        return -1;
    return bits & mask ? x86_raise_error(cpu, X86_GP, 0) : 0;
}
