#include "matrix.h"

enum {
    DEBUGCON = 0x402,
    PROBE_SPACING = 32,
    PAGE_FLAGS = 7,
    CR0_PG_WP = 0x80010000,
    PAGE_TABLES = 0x10000, /* as common.S has them in 64-bit mode */
    PAGE_TABLE = MODE == 64 ? PAGE_TABLES + 0x3000 : PAGE_TABLES + 0x1000
};

struct table_register {
    uint16_t limit;
    uintptr_t base;
} __attribute__((packed));

static struct {
    const char *group, *name;
    uint32_t number[4];
    uint32_t cases;
    unsigned probes; /* bytes of code placed */
} matrix;

void visit_enter(void);
_Noreturn void report_failure(void);
extern const uint8_t visit_stubs[];

/* --- output --- */

void print_char(char c)
{
    out8(DEBUGCON, (uint8_t)c);
}

void matrix_case(const char *name, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    const uint32_t number[] = {a, b, c, d};

    matrix.name = name;
    for (unsigned i = 0; i < 4; i++)
        matrix.number[i] = number[i];
    matrix.cases++;
}

void check(const char *what, uintptr_t got, uintptr_t wanted)
{
    if (got == wanted)
        return;
    print("FAIL %s, %s %x %x %x %x: %s is %llx, not %llx\n", matrix.group, matrix.name,
          matrix.number[0], matrix.number[1], matrix.number[2], matrix.number[3], what,
          (unsigned long long)got, (unsigned long long)wanted);
    report_failure();
}

void matrix_end(void)
{
    print("%s: %u cases\n", matrix.group, matrix.cases);
}

/* --- tables --- */

uint64_t descriptor_make(uint32_t base, uint32_t limit, unsigned type, unsigned dpl, bool present,
                         unsigned flags)
{
    uint32_t high = (base & 0xff000000) | (flags << 20) | (limit & 0xf0000) |
                    ((uint32_t)present << 15) | (dpl << 13) | (type << 8) | ((base >> 16) & 0xff);

    return (uint64_t)high << 32 | (base << 16) | (limit & 0xffff);
}

uint64_t gate_make(unsigned selector, uintptr_t offset, unsigned type, unsigned dpl, bool present,
                   unsigned parameters)
{
    uint32_t high = (uint32_t)(offset & 0xffff0000) | ((uint32_t)present << 15) | (dpl << 13) |
                    (type << 8) | parameters;

    return (uint64_t)high << 32 | (selector << 16) | (uint32_t)(offset & 0xffff);
}

uint64_t *descriptor_slot(unsigned selector)
{
    return (uint64_t *)(uintptr_t)((selector & 4 ? LDT_AT : GDT_AT) + (selector & 0xfff8));
}

void idt_set(unsigned vector, uint64_t gate)
{
    uint64_t *slot = (uint64_t *)(uintptr_t)(IDT_AT + vector * 2 * sizeof(uintptr_t));

    slot[0] = gate;
    if (MODE == 64)
        slot[1] = 0;
}

void idt_restore(unsigned vector, unsigned dpl)
{
    idt_set(vector,
            gate_make(KERNEL_CODE, (uintptr_t)visit_stubs + vector * 16, SYS_INT, dpl, true, 0));
}

uintptr_t landing(unsigned n)
{
    return (uintptr_t)visit_stubs + (LANDING + n) * 16;
}

void page_set(uintptr_t address, unsigned bits)
{
    uintptr_t *entry = (uintptr_t *)(PAGE_TABLE + (address >> 12) * sizeof(uintptr_t));

    *(volatile uintptr_t *)entry = (address & ~(uintptr_t)0xfff) | bits;
    invlpg(address);
}

uintptr_t stack_top(unsigned level)
{
    return STACKS_AT + 0x1000 * (level + 1);
}

static volatile uint32_t *tss_field(unsigned offset)
{
    return (volatile uint32_t *)(uintptr_t)(TSS_AT + offset);
}

void tss_set_stack(unsigned level, unsigned ss, uintptr_t sp)
{
    *tss_field(4 + 8 * level) = (uint32_t)sp;
    *tss_field(8 + 8 * level) = MODE == 64 ? (uint32_t)((uint64_t)sp >> 32) : ss;
}

void tss_load(unsigned type, uint32_t limit)
{
    descriptor_slot(TEST_TSS)[0] = descriptor_make(TSS_AT, limit, type, 0, true, 0);
    descriptor_slot(TEST_TSS)[1] = 0;
    __asm__ volatile("ltr %w0" : : "r"(TEST_TSS) : "memory");
}

void ldt_load(uint32_t limit)
{
    *descriptor_slot(TEST_LDT) = descriptor_make(LDT_AT, limit, SYS_LDT, 0, true, 0);
    __asm__ volatile("lldt %w0" : : "r"(TEST_LDT) : "memory");
}

void cr4_set(uintptr_t bits, bool on)
{
    uintptr_t cr4 = read_cr4();

    write_cr4(on ? cr4 | bits : cr4 & ~bits);
}

void store(uintptr_t at, unsigned size, uintptr_t value)
{
    if (size == 1)
        *(volatile uint8_t *)at = (uint8_t)value;
    else if (size == 2)
        *(volatile uint16_t *)at = (uint16_t)value;
    else if (size == 4)
        *(volatile uint32_t *)at = (uint32_t)value;
    else
        *(volatile uint64_t *)at = value;
}

uintptr_t load(uintptr_t at, unsigned size)
{
    if (size == 2)
        return *(volatile uint16_t *)at;
    return size == 4 ? *(volatile uint32_t *)at : (uintptr_t) * (volatile uint64_t *)at;
}

static void paging_begin(void)
{
    uint32_t *directory = (uint32_t *)PAGE_TABLES;

    if (MODE == 64)
        return;
    for (unsigned i = 0; i < 1024; i++) {
        directory[i] = 0;
        page_set(i << 12, PAGE_FLAGS);
    }
    directory[0] = PAGE_TABLE | PAGE_FLAGS;
    __asm__ volatile("mov %0, %%cr3\n mov %%cr0, %%eax\n or %1, %%eax\n mov %%eax, %%cr0"
                     :
                     : "r"(directory), "i"(CR0_PG_WP)
                     : "eax", "memory");
}

static void gdt_begin(void)
{
    struct table_register gdtr;
    const uint64_t *old;
    uint64_t *gdt = (uint64_t *)GDT_AT;

    __asm__ volatile("sgdt %0" : "=m"(gdtr));
    old = (const uint64_t *)gdtr.base;
    for (unsigned i = 0; i <= GDT_LIMIT / 8; i++)
        gdt[i] = i <= gdtr.limit / 8u ? old[i] : 0;
    for (unsigned level = 0; level < 4; level++) {
        unsigned at = 0x20 * level;

        *descriptor_slot(LEVEL_CODE32 + at) =
            descriptor_make(0, 0xfffff, TYPE_CODE | A_BIT, level, true, FLAGS_32);
        *descriptor_slot(LEVEL_DATA + at) =
            descriptor_make(0, 0xfffff, TYPE_DATA | A_BIT, level, true, FLAGS_32);
        *descriptor_slot(LEVEL_CODE16 + at) =
            descriptor_make(CODE_AT, 0xffff, TYPE_CODE | A_BIT, level, true, 0);
        *descriptor_slot(LEVEL_CODE64 + at) =
            descriptor_make(0, 0xfffff, TYPE_CODE | A_BIT, level, true, FLAGS_CODE64);
    }
    gdtr = (struct table_register){GDT_LIMIT, GDT_AT};
    __asm__ volatile("lgdt %0" : : "m"(gdtr));
    ldt_load(LDT_LIMIT);
}

void matrix_begin(const char *group)
{
    struct table_register idtr = {256 * 2 * sizeof(uintptr_t) - 1, IDT_AT};
    uint8_t *tss = (uint8_t *)TSS_AT;

    matrix.group = group;
    matrix.cases = 0;
    out8(0x21, 0xff); /* no interrupt of a device, whatever IF is */
    out8(0xa1, 0xff);
    paging_begin();
    gdt_begin();
    for (unsigned vector = 0; vector < 256; vector++)
        idt_restore(vector, vector == VECTOR_DONE ? 3 : 0);
    __asm__ volatile("lidt %0" : : "m"(idtr));
    for (unsigned i = 0; i < 0x3000; i++)
        tss[i] = 0;
    for (unsigned level = 0; level < 3; level++)
        tss_set_stack(level, (LEVEL_DATA + 0x20 * level) | level, stack_top(level));
    *(uint16_t *)(tss + 102) = 0xffff;
    tss_load(SYS_TSS, 103);
    store(LOW_CODE, 2, 0xcd | VECTOR_DONE << 8);
}

/* --- visits --- */

unsigned probe_place(const uint8_t *bytes, unsigned count)
{
    uint8_t *code = (uint8_t *)(uintptr_t)(CODE_AT + matrix.probes);
    unsigned place = matrix.probes;

    check("length of a probe", count + 2 <= PROBE_SPACING, 1);
    check("room for a probe", place < 0x10000, 1);
    for (unsigned i = 0; i < count; i++)
        code[i] = bytes[i];
    code[count] = 0xcd;
    code[count + 1] = VECTOR_DONE;
    matrix.probes += PROBE_SPACING;
    return place;
}

struct visit_state probe_state(unsigned bits, unsigned cpl, unsigned probe)
{
    static const uint16_t code[] = {LEVEL_CODE16, LEVEL_CODE32, LEVEL_CODE64};
    uintptr_t data = (LEVEL_DATA + 0x60) | 3;

    return (struct visit_state){
        .ip = bits == 16 ? probe : CODE_AT + probe,
        .cs = (code[bits / 32] + 0x20 * cpl) | cpl,
        .flags = 2,
        .sp = STACKS_AT + 0x1000 * (cpl + 5) - 0x100,
        .ss = (LEVEL_DATA + 0x20 * cpl) | cpl,
        .ds = data,
        .es = data,
        .fs = data,
        .gs = data,
        .ax = 0x0a0a0a0a,
        .cx = 0x0c0c0c0c,
        .dx = 0x0d0d0d0d,
        .bx = 0x0b0b0b0b,
        .bp = 0x05050505,
        .si = 0x06060606,
        .di = 0x07070707,
        .r11 = 0x11111111,
    };
}

static bool has_error_code(unsigned vector)
{
    return vector == DF || (vector >= TS && vector <= PF) || vector == 17;
}

/* Takes apart the frame of a 32- or 64-bit gate. */
static void read_frame(struct visit_end *end)
{
    const uintptr_t *frame = end->frame = (uintptr_t *)end->regs.sp;

    end->error = 0;
    if (has_error_code(end->vector))
        end->error = (uint32_t)*frame++;
    end->ip = *frame++;
    end->cs = *frame++ & 0xffff;
    end->flags = *frame++;
    if (MODE == 64 || (end->cs & 3) || (end->flags & FLAG_VM)) {
        end->sp = frame[0];
        end->ss = frame[1] & 0xffff;
    } else {
        end->sp = (uintptr_t)frame;
        end->ss = end->regs.ss;
    }
}

void visit(const struct visit_state *in, struct visit_end *end)
{
    *(struct visit_state *)VISIT_IN = *in;
    *(struct visit_state *)VISIT_OUT = (struct visit_state){0};
    __asm__ volatile("" : : : "memory");
    visit_enter();
    __asm__ volatile("" : : : "memory");
    end->regs = *(const struct visit_state *)VISIT_OUT;
    end->vector = (unsigned)end->regs.ip;
    read_frame(end);
}

void expect_fault(const struct visit_state *in, const struct visit_end *end, unsigned vector,
                  uint32_t error)
{
    check("vector", end->vector, vector);
    check("error code", end->error, error);
    check("pc", end->ip, in->ip);
    check("CS", end->cs, in->cs);
    check("flags", end->flags, in->flags | FLAG_RF);
    check("stack pointer", end->sp, in->sp);
    check("SS", end->ss, in->ss);
    check("DS", end->regs.ds, in->ds);
    check("ES", end->regs.es, in->es);
    check("FS", end->regs.fs, in->fs);
    check("GS", end->regs.gs, in->gs);
    check("AX", end->regs.ax, in->ax);
    check("CX", end->regs.cx, in->cx);
    check("DX", end->regs.dx, in->dx);
    check("BX", end->regs.bx, in->bx);
}

void expect_done(const struct visit_end *end)
{
    check("vector", end->vector, VECTOR_DONE);
}

/* --- rules --- */

bool is_code(unsigned type)
{
    return (type & (S_BIT | CODE_BIT)) == (S_BIT | CODE_BIT);
}

bool is_conforming(unsigned type)
{
    return is_code(type) && (type & CONFORMING_BIT);
}

bool is_readable(unsigned type)
{
    return (type & S_BIT) && (!(type & CODE_BIT) || (type & RW_BIT));
}

bool is_writable_data(unsigned type)
{
    return (type & (S_BIT | CODE_BIT | RW_BIT)) == (S_BIT | RW_BIT);
}
