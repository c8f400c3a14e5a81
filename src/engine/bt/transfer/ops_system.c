/*
 * Descriptor inspection (LAR, LSL, VERR, VERW, ARPL) and the table registers (LGDT ... STR), SDM
 * vol. 2 and vol. 3, 2.4 and 5.10.
 */
#include "engine/bt/transfer/descriptor.h"
#include "engine/bt/transfer/transfer.h"

static void set_zf(struct x86_cpu *cpu, bool on)
{
    cpu->aflags = on ? cpu->aflags | X86_ZF : cpu->aflags & ~(uint32_t)X86_ZF;
}

/* --- descriptor inspection --- */

static bool privilege_allows(const struct x86_cpu *cpu, const struct descriptor *d)
{
    if (descriptor_is_code(d) && descriptor_is_conforming(d))
        return true;
    return cpu->cpl <= descriptor_dpl(d) && (d->selector & 3u) <= descriptor_dpl(d);
}

/* 1: the operand selects d, and the privilege level may see it; 0: it does not; -1: cpu->fault. */
static int inspect(struct x86_cpu *cpu, const struct insn *insn, struct descriptor *d)
{
    uint64_t selector;

    if (!x86_protected_mode(cpu))
        return x86_raise(cpu, X86_UD);
    if (op_read_rm(cpu, insn, 2, &selector) < 0)
        return -1;
    d->selector = (uint16_t)selector;
    d->high = 0;
    if (selector_null(d->selector) || !descriptor_locate(cpu, d->selector, 8, &d->address))
        return 0;
    if (system_read(cpu, d->address, 8, &d->low) < 0)
        return -1;
    return privilege_allows(cpu, d);
}

/* Bit per system descriptor type that LAR and LSL accept, outside and in long mode. */
enum {
    LAR_TYPES = 1 << TYPE_TSS16 | 1 << TYPE_LDT | 1 << TYPE_TSS16_BUSY | 1 << TYPE_CALL_GATE16 |
                1 << TYPE_TASK_GATE | 1 << TYPE_TSS32 | 1 << TYPE_TSS32_BUSY |
                1 << TYPE_CALL_GATE32,
    LAR_TYPES64 = 1 << TYPE_LDT | 1 << TYPE_TSS32 | 1 << TYPE_TSS32_BUSY | 1 << TYPE_CALL_GATE32,
    LSL_TYPES = 1 << TYPE_TSS16 | 1 << TYPE_LDT | 1 << TYPE_TSS16_BUSY | 1 << TYPE_TSS32 |
                1 << TYPE_TSS32_BUSY,
    LSL_TYPES64 = 1 << TYPE_LDT | 1 << TYPE_TSS32 | 1 << TYPE_TSS32_BUSY,
};

static bool type_allowed(const struct x86_cpu *cpu, const struct descriptor *d, unsigned legacy,
                         unsigned in_long)
{
    unsigned types = x86_long_mode(cpu) ? in_long : legacy;

    return !descriptor_is_system(d) || ((types >> descriptor_type(d)) & 1);
}

static enum op_result inspect_to_register(struct x86_cpu *cpu, const struct insn *insn, bool limit)
{
    struct descriptor d;
    int visible = inspect(cpu, insn, &d);
    bool valid;

    if (visible < 0)
        return OP_FAULT;
    valid = visible && (limit ? type_allowed(cpu, &d, LSL_TYPES, LSL_TYPES64)
                              : type_allowed(cpu, &d, LAR_TYPES, LAR_TYPES64));
    if (valid)
        op_set_gpr(cpu, insn, insn->reg, insn->opsize,
                   limit ? descriptor_limit(&d) : (d.low >> 32) & 0xffff00);
    set_zf(cpu, valid);
    return OP_NEXT;
}

enum op_result op_lar(struct x86_cpu *cpu, const struct insn *insn)
{
    return inspect_to_register(cpu, insn, false);
}

enum op_result op_lsl(struct x86_cpu *cpu, const struct insn *insn)
{
    return inspect_to_register(cpu, insn, true);
}

static enum op_result verify(struct x86_cpu *cpu, const struct insn *insn, bool write)
{
    struct descriptor d;
    int visible = inspect(cpu, insn, &d);

    if (visible < 0)
        return OP_FAULT;
    set_zf(cpu, visible && (write ? descriptor_is_writable_data(&d) : descriptor_is_readable(&d)));
    return OP_NEXT;
}

enum op_result op_verr(struct x86_cpu *cpu, const struct insn *insn)
{
    return verify(cpu, insn, false);
}

enum op_result op_verw(struct x86_cpu *cpu, const struct insn *insn)
{
    return verify(cpu, insn, true);
}

enum op_result op_arpl(struct x86_cpu *cpu, const struct insn *insn)
{
    uint64_t selector, rpl = op_get_gpr(cpu, insn, insn->reg, 2) & 3;

    if (!x86_protected_mode(cpu))
        return op_raise(cpu, X86_UD);
    if (op_read_rm(cpu, insn, 2, &selector) < 0)
        return OP_FAULT;
    if ((selector & 3) < rpl) {
        if (op_write_rm(cpu, insn, 2, (selector & ~3ull) | rpl) < 0)
            return OP_FAULT;
        set_zf(cpu, true);
    } else {
        set_zf(cpu, false);
    }
    return OP_NEXT;
}

/* --- GDTR and IDTR --- */

enum { TABLE_ALIGNMENT = 4 }; /* of their image (SDM vol. 3, table 6-7) */

static enum op_result load_table(struct x86_cpu *cpu, const struct insn *insn,
                                 struct x86_table *table)
{
    unsigned base_size = x86_code64(cpu) ? 8 : 4;
    uint8_t image[10];
    uint64_t base;

    if (!insn->mem.present)
        return op_raise(cpu, X86_UD);
    if (cpu->cpl != 0)
        return op_raise_gp0(cpu);
    if (seg_read_parts(cpu, (enum x86_segreg)insn->mem.seg, op_offset(cpu, insn), image,
                       2 + base_size, TABLE_ALIGNMENT) < 0)
        return OP_FAULT;
    base = bytes_load(image + 2, base_size);
    if (base_size == 8 && !mmu_canonical(base))
        return op_raise_gp0(cpu);
    if (base_size == 4 && insn->opsize == 2)
        base &= 0xffffff;
    table->base = base;
    table->limit = (uint16_t)bytes_load(image, 2);
    return OP_NEXT;
}

enum op_result op_lgdt(struct x86_cpu *cpu, const struct insn *insn)
{
    return load_table(cpu, insn, &cpu->gdtr);
}

enum op_result op_lidt(struct x86_cpu *cpu, const struct insn *insn)
{
    return load_table(cpu, insn, &cpu->idtr);
}

/* SGDT, SIDT, SLDT, STR outside CPL 0 when the operating system forbids it (CR4.UMIP). */
static bool umip_forbids(const struct x86_cpu *cpu)
{
    return (cpu->cr4 & X86_CR4_UMIP) && cpu->cpl != 0;
}

static enum op_result store_table(struct x86_cpu *cpu, const struct insn *insn,
                                  const struct x86_table *table)
{
    unsigned base_size = x86_code64(cpu) ? 8 : 4;
    uint8_t image[10];

    if (!insn->mem.present)
        return op_raise(cpu, X86_UD);
    if (umip_forbids(cpu))
        return op_raise_gp0(cpu);
    bytes_store(image, 2, table->limit);
    bytes_store(image + 2, base_size, table->base);
    if (seg_write_parts(cpu, (enum x86_segreg)insn->mem.seg, op_offset(cpu, insn), image,
                        2 + base_size, TABLE_ALIGNMENT) < 0)
        return OP_FAULT;
    return OP_NEXT;
}

enum op_result op_sgdt(struct x86_cpu *cpu, const struct insn *insn)
{
    return store_table(cpu, insn, &cpu->gdtr);
}

enum op_result op_sidt(struct x86_cpu *cpu, const struct insn *insn)
{
    return store_table(cpu, insn, &cpu->idtr);
}

/* --- LDTR and TR --- */

static enum op_result store_selector(struct x86_cpu *cpu, const struct insn *insn,
                                     enum x86_segreg seg)
{
    if (!x86_protected_mode(cpu))
        return op_raise(cpu, X86_UD);
    if (umip_forbids(cpu))
        return op_raise_gp0(cpu);
    if (op_write_rm(cpu, insn, insn->mem.present ? 2 : insn->opsize, cpu->seg[seg].selector) < 0)
        return OP_FAULT;
    return OP_NEXT;
}

enum op_result op_sldt(struct x86_cpu *cpu, const struct insn *insn)
{
    return store_selector(cpu, insn, X86_LDTR);
}

enum op_result op_str(struct x86_cpu *cpu, const struct insn *insn)
{
    return store_selector(cpu, insn, X86_TR);
}

/* Reads the operand of LLDT and LTR after their common checks. */
static int read_system_selector(struct x86_cpu *cpu, const struct insn *insn, uint16_t *selector)
{
    uint64_t value;

    *selector = 0;
    if (!x86_protected_mode(cpu))
        return x86_raise(cpu, X86_UD);
    if (cpu->cpl != 0)
        return x86_raise_error(cpu, X86_GP, 0);
    if (op_read_rm(cpu, insn, 2, &value) < 0)
        return -1;
    *selector = (uint16_t)value;
    if (!selector_null(*selector) && (*selector & 4))
        return x86_raise_error(cpu, X86_GP, selector_error(*selector));
    return 0;
}

/* Long mode: the base has 64 bits. */
static int widen_base(struct x86_cpu *cpu, struct descriptor *d, uint64_t *base)
{
    if (descriptor_read_high(cpu, X86_GP, d) < 0)
        return -1;
    *base = descriptor_base(d) | (d->high & 0xffffffff) << 32;
    if (x86_long_mode(cpu) && !mmu_canonical(*base))
        return x86_raise_error(cpu, X86_GP, selector_error(d->selector));
    return 0;
}

enum op_result op_lldt(struct x86_cpu *cpu, const struct insn *insn)
{
    struct descriptor d;
    uint16_t selector;
    uint64_t base;

    if (read_system_selector(cpu, insn, &selector) < 0)
        return OP_FAULT;
    if (selector_null(selector)) {
        segment_fill_null(&cpu->seg[X86_LDTR], selector);
        return OP_NEXT;
    }
    if (descriptor_read(cpu, selector, X86_GP, &d) < 0)
        return OP_FAULT;
    if (!descriptor_is_system(&d) || descriptor_type(&d) != TYPE_LDT)
        return op_raise_error(cpu, X86_GP, selector_error(selector));
    if (!descriptor_present(&d))
        return op_raise_error(cpu, X86_NP, selector_error(selector));
    if (widen_base(cpu, &d, &base) < 0)
        return OP_FAULT;
    segment_fill(&cpu->seg[X86_LDTR], &d, selector);
    cpu->seg[X86_LDTR].base = base;
    return OP_NEXT;
}

enum op_result op_ltr(struct x86_cpu *cpu, const struct insn *insn)
{
    struct descriptor d;
    uint16_t selector;
    uint64_t base;
    unsigned type;

    if (read_system_selector(cpu, insn, &selector) < 0)
        return OP_FAULT;
    if (selector_null(selector))
        return op_raise_gp0(cpu);
    if (descriptor_read(cpu, selector, X86_GP, &d) < 0)
        return OP_FAULT;
    type = descriptor_type(&d);
    if (!descriptor_is_system(&d) ||
        (type != TYPE_TSS32 && (type != TYPE_TSS16 || x86_long_mode(cpu))))
        return op_raise_error(cpu, X86_GP, selector_error(selector));
    if (!descriptor_present(&d))
        return op_raise_error(cpu, X86_NP, selector_error(selector));
    if (widen_base(cpu, &d, &base) < 0)
        return OP_FAULT;
    if (descriptor_write_type(cpu, &d, type | TYPE_BUSY) < 0)
        return OP_FAULT;
    segment_fill(&cpu->seg[X86_TR], &d, selector);
    cpu->seg[X86_TR].base = base;
    cpu->seg[X86_TR].attr |= TYPE_BUSY;
    return OP_NEXT;
}
