/*
 * Segment, system and gate descriptors in guest memory (SDM vol. 3, 3.4.5, 5.8.3, 7.2) and
 * the loading of segment registers from descriptors.
 * Private to engine/bt/transfer/.
 *
 * Accesses are supervisor accesses and take a TLB hit inline: system calls and page faults of the
 * guest go through here.
 */
#ifndef VD_ENGINE_BT_DESCRIPTOR_H
#define VD_ENGINE_BT_DESCRIPTOR_H

#include "base/bytes.h"
#include "cpu/cpu.h"
#include "memory/mmu.h"

enum { /* type field of system descriptors (SDM vol. 3, table 3-2) */
       TYPE_TSS16 = 1,
       TYPE_LDT = 2,
       TYPE_TSS16_BUSY = 3,
       TYPE_CALL_GATE16 = 4,
       TYPE_TASK_GATE = 5,
       TYPE_INT_GATE16 = 6,
       TYPE_TRAP_GATE16 = 7,
       TYPE_TSS32 = 9, /* and the 64-bit TSS */
       TYPE_TSS32_BUSY = 11,
       TYPE_CALL_GATE32 = 12, /* and the 64-bit call gate */
       TYPE_INT_GATE32 = 14,
       TYPE_TRAP_GATE32 = 15,
       TYPE_BUSY = 2,  /* the bit that makes an available TSS busy */
       TYPE_TSS_32 = 8 /* the bit that makes a 16-bit TSS or gate a 32-bit one */
};

struct descriptor {
    uint64_t low;
    uint64_t high;    /* second half of a system descriptor in long mode, else 0 */
    uint64_t address; /* linear address of the descriptor, 0: made up */
    uint16_t selector;
};

/*
 * What the alignment check demands of a far pointer whose offset has opsize bytes (SDM vol. 3,
 * table 6-7); of m16:64, which the table does not know, as much as of m16:32.
 */
static inline unsigned far_pointer_alignment(unsigned opsize)
{
    return opsize == 2 ? 2 : 4;
}

/* --- fields --- */
static inline uint32_t descriptor_attr(const struct descriptor *d) /* X86_AR_* */
{
    return (uint32_t)(d->low >> 40) & 0xf0ff;
}
static inline uint64_t descriptor_base(const struct descriptor *d)
{
    return ((d->low >> 16) & 0xffffff) | ((d->low >> 56) << 24);
}
static inline uint32_t descriptor_limit(const struct descriptor *d) /* in bytes, inclusive */
{
    uint32_t limit = (uint32_t)(d->low & 0xffff) | ((uint32_t)(d->low >> 32) & 0xf0000);

    return d->low & (1ull << 55) ? (limit << 12) | 0xfff : limit;
}
static inline unsigned descriptor_type(const struct descriptor *d)
{
    return (unsigned)(d->low >> 40) & X86_AR_TYPE;
}
static inline unsigned descriptor_dpl(const struct descriptor *d)
{
    return (unsigned)(d->low >> 45) & 3;
}
static inline bool descriptor_present(const struct descriptor *d)
{
    return (d->low >> 47) & 1;
}
static inline bool descriptor_is_system(const struct descriptor *d)
{
    return !((d->low >> 44) & 1);
}
static inline bool descriptor_is_code(const struct descriptor *d)
{
    return (descriptor_attr(d) & (X86_AR_S | X86_AR_CODE)) == (X86_AR_S | X86_AR_CODE);
}
static inline bool descriptor_is_conforming(const struct descriptor *d) /* of a code segment */
{
    return (descriptor_attr(d) & X86_AR_EC) != 0;
}
static inline bool descriptor_is_writable_data(const struct descriptor *d)
{
    return (descriptor_attr(d) & (X86_AR_S | X86_AR_CODE | X86_AR_WR)) == (X86_AR_S | X86_AR_WR);
}
static inline bool descriptor_is_readable(const struct descriptor *d) /* data or readable code */
{
    uint32_t attr = descriptor_attr(d);

    return (attr & X86_AR_S) && (!(attr & X86_AR_CODE) || (attr & X86_AR_WR));
}
/* L and D of a code segment: exactly the pair that means 64-bit code. */
static inline bool descriptor_is_code64(const struct descriptor *d)
{
    return (descriptor_attr(d) & (X86_AR_L | X86_AR_DB)) == X86_AR_L;
}
static inline bool descriptor_is_l_and_d(const struct descriptor *d)
{
    return (descriptor_attr(d) & (X86_AR_L | X86_AR_DB)) == (X86_AR_L | X86_AR_DB);
}

static inline uint32_t selector_error(uint16_t selector)
{
    return selector & 0xfffcu;
}
static inline bool selector_null(uint16_t selector)
{
    return (selector & 0xfffc) == 0;
}

/* --- system memory --- */
/* Where a linear address of a system table lies: only long mode (not just 64-bit code) has 64 bits.
 */
static inline uint64_t system_wrap(const struct x86_cpu *cpu, uint64_t linear)
{
    return x86_long_mode(cpu) ? linear : (uint32_t)linear;
}
/* Host address for size bytes at linear, NULL: not a TLB hit. user: 1 checks as CPL 3. */
static inline uint8_t *tlb_hit(const struct x86_cpu *cpu, uint64_t linear, unsigned size,
                               unsigned user, bool write)
{
    const struct tlb_entry *entry = &cpu->mmu->tlb[user][(linear >> 12) & TLB_MASK];
    uint64_t offset = linear - (write ? entry->write_tag : entry->read_tag);

    if (__builtin_expect(offset > 4096 - size, 0))
        return NULL;
    return (uint8_t *)(uintptr_t)(entry->host + offset); // NOLINT
}

/* 1..256 bytes through the MMU; wraps at 4 GiB outside long mode. 0, or -1 with cpu->fault. */
int memory_read(struct x86_cpu *cpu, uint64_t linear, void *buffer, unsigned size, unsigned access);
int memory_write(struct x86_cpu *cpu, uint64_t linear, const void *buffer, unsigned size,
                 unsigned access);
int memory_probe(struct x86_cpu *cpu, uint64_t linear, unsigned size, unsigned access);

/* Supervisor read of 2, 4 or 8 bytes of a system table. */
static inline int system_read(struct x86_cpu *cpu, uint64_t linear, unsigned size, uint64_t *value)
{
    uint64_t at = system_wrap(cpu, linear);
    const uint8_t *host = tlb_hit(cpu, at, size, 0, false);

    *value = 0;
    if (__builtin_expect(host != NULL, 1)) {
        *value = bytes_load(host, size);
        return 0;
    }
    return memory_read(cpu, at, value, size, MMU_READ);
}

/* --- descriptors --- */
/*
 * Finds where selector's descriptor of size bytes (8 or 16) lies; false: outside the table's limit
 * or no LDT. The selector must not be null.
 */
bool descriptor_locate(const struct x86_cpu *cpu, uint16_t selector, unsigned size,
                       uint64_t *address);
/* Reads 8 bytes; outside the table: vector(selector). 0, or -1 with cpu->fault. */
int descriptor_read(struct x86_cpu *cpu, uint16_t selector, enum x86_vector vector,
                    struct descriptor *d);
/*
 * In long mode adds the second half of a system descriptor: outside the table, or its type field
 * not zero: vector(selector). Else a no-op.
 */
int descriptor_read_high(struct x86_cpu *cpu, enum x86_vector vector, struct descriptor *d);
/* Sets the accessed bit in memory if it is clear there. 0, or -1 with cpu->fault. */
int descriptor_set_accessed(struct x86_cpu *cpu, const struct descriptor *d);
/* Writes the type field of a system descriptor in memory (busy bit). */
int descriptor_write_type(struct x86_cpu *cpu, const struct descriptor *d, unsigned type);

/* --- segment registers --- */
/* Fills seg from a checked descriptor, accessed bit set; selector as given. */
void segment_fill(struct x86_segment *seg, const struct descriptor *d, uint16_t selector);
/* A null selector: unusable, base 0. */
void segment_fill_null(struct x86_segment *seg, uint16_t selector);
/*
 * Checks and loads DS, ES, FS or GS in protected mode; a null selector is loaded as such.
 * vector(selector), or #NP(selector) when not present; accessed bit set in memory. 0, or -1 with
 * cpu->fault.
 */
int segment_load_data(struct x86_cpu *cpu, enum x86_segreg seg, uint16_t selector,
                      enum x86_vector vector);
/* As virtual-8086 mode has all six: 64 KiB, writable, DPL 3. */
void segment_fill_vm86(struct x86_segment *seg, uint16_t selector);
/* Real mode: only selector and base change; type and DPL become those of writable data. */
void segment_fill_real(struct x86_segment *seg, uint16_t selector);
/* Whichever of the two the mode asks for. */
void segment_fill_8086(struct x86_cpu *cpu, enum x86_segreg seg, uint16_t selector);
/* A 4 GiB segment as SYSCALL and SYSENTER make them; attr without S, P, A and G. */
void segment_fill_flat(struct x86_segment *seg, uint16_t selector, uint32_t attr);
/* CS: as segment_fill; in 64-bit mode base is 0. RPL of the selector becomes cpl; sets cpl. */
void segment_fill_code(struct x86_cpu *cpu, const struct descriptor *d, unsigned cpl);
/*
 * A return to an outer level takes away data segments that cpl may not see (SDM vol. 3, 5.8.6), and
 * null selectors become 0 whatever their RPL (vol. 2, IRET and RET); bases of FS and GS stay.
 */
void segments_hide_inner(struct x86_cpu *cpu, unsigned cpl);

/* rip must lie in the code segment d (canonical for 64-bit code): 0, or -1 with #GP(0). */
int code_check_rip(struct x86_cpu *cpu, const struct descriptor *d, uint64_t rip);
/* The same for a CS that is loaded without a descriptor (real and virtual-8086 mode). */
int code_check_rip_real(struct x86_cpu *cpu, uint64_t rip);

/* --- mode --- */
/* What the translator's mode key depends on and transfers may change, as one number. */
uint32_t mode_fingerprint(const struct x86_cpu *cpu);
/* Marks the mode dirty if the fingerprint is no longer before. */
static inline void mode_note_change(struct x86_cpu *cpu, uint32_t before)
{
    if (mode_fingerprint(cpu) != before)
        cpu->dirty |= X86_DIRTY_MODE;
}

#endif
