#include "tables.h"

uint32_t guest_read32(struct guest *g, uint64_t gpa)
{
    uint32_t value;
    as_read(g->as, gpa, &value, sizeof(value));
    return value;
}

void guest_write32(struct guest *g, uint64_t gpa, uint32_t value)
{
    as_write(g->as, gpa, &value, sizeof(value));
}

uint64_t guest_read64(struct guest *g, uint64_t gpa)
{
    uint64_t value;
    as_read(g->as, gpa, &value, sizeof(value));
    return value;
}

void guest_write64(struct guest *g, uint64_t gpa, uint64_t value)
{
    as_write(g->as, gpa, &value, sizeof(value));
}

static uint64_t flat_descriptor(uint32_t type_and_flags)
{
    return 0x000000000000ffff | (uint64_t)(type_and_flags & 0xff) << 40 |
           (uint64_t)(type_and_flags >> 8 & 0xf0) << 48 | 0xfull << 48;
}

void guest_make_tables(struct guest *g, unsigned bits)
{
    if (bits == 16)
        return;
    uint32_t code = bits == 64 ? 0xa000 : 0xc000, data = 0xc000;
    guest_write64(g, GDT + KERNEL_CS, flat_descriptor(code | 0x9b));
    guest_write64(g, GDT + KERNEL_DS, flat_descriptor(data | 0x93));
    guest_write64(g, GDT + (USER_CS & ~3), flat_descriptor(code | 0xfb));
    guest_write64(g, GDT + (USER_DS & ~3), flat_descriptor(data | 0xf3));
    guest_write64(g, GDT + TSS_SELECTOR, 0x00008b0000000067 | (uint64_t)TSS << 16);
    g->state.gdtr = (struct x86_table){.base = GDT, .limit = 0x3f};
    g->state.idtr = (struct x86_table){.base = IDT, .limit = bits == 64 ? 0xfff : 0x7ff};
    if (bits == 64) {
        guest_write64(g, TSS + 4, KERNEL_STACK);
    } else {
        guest_write32(g, TSS + 4, KERNEL_STACK);
        guest_write32(g, TSS + 8, KERNEL_DS);
    }
    g->state.seg[X86_TR] =
        (struct x86_segment){.selector = TSS_SELECTOR, .base = TSS, .limit = 0x67, .attr = 0x8b};
}

void guest_set_gate(struct guest *g, unsigned bits, unsigned vector, uint64_t ip, unsigned dpl)
{
    if (bits == 16) {
        guest_write32(g, vector * 4, (uint32_t)(CODE >> 4) << 16 | (uint16_t)ip);
        return;
    }
    uint64_t gate = (ip & 0xffff) | (uint64_t)KERNEL_CS << 16 | (0x8eull | dpl << 5) << 40 |
                    (ip >> 16 & 0xffff) << 48;
    if (bits == 64) {
        guest_write64(g, IDT + vector * 16, gate);
        guest_write64(g, IDT + vector * 16 + 8, ip >> 32);
    } else {
        guest_write64(g, IDT + vector * 8, gate);
    }
}

void guest_enter_user(struct guest *g, unsigned bits)
{
    uint32_t code = 0xfb | X86_AR_G | (bits == 64 ? (uint32_t)X86_AR_L : (uint32_t)X86_AR_DB);
    for (unsigned i = 0; i < 6; i++) {
        struct x86_segment *seg = &g->state.seg[i];
        *seg = (struct x86_segment){.selector = i == X86_CS ? USER_CS : USER_DS,
                                    .attr = i == X86_CS ? code : 0xf3 | X86_AR_DB | X86_AR_G,
                                    .limit = UINT32_MAX};
        segment_update_bounds(seg);
    }
    g->state.cpl = 3;
}
