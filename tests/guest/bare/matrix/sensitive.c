/* MODES 32 64. IOPL and CPL: CLI, STI, PUSHF, I/O instructions, CR4.PVI, privileged instructions.
 */
#include "matrix.h"

enum {
    CR4_PVI = 2,
    IO_BASE = 0x68,
    TSS_LIMIT = IO_BASE + 0x2000, /* one byte of ones behind the last port's */
    KNOWN = 0x4ed5 | FLAG_AC | FLAG_ID | FLAG_VIF | FLAG_VIP,
    PORT = 0x300 /* nothing is there */
};

/* --- CLI, STI --- */

static void run_interrupt_flag(unsigned bits, bool sti, unsigned place, unsigned i)
{
    unsigned cpl = i & 3, iopl = i >> 2 & 3;
    bool pvi = i >> 4 & 1, is_virtual = cpl == 3 && pvi, faults;
    uintptr_t flags = 2 | iopl << 12 | (i >> 5 & 1 ? FLAG_IF : 0) | (i >> 6 & 1 ? FLAG_VIF : 0) |
                      (i >> 7 & 1 ? FLAG_VIP : 0);
    uintptr_t flag = cpl <= iopl ? FLAG_IF : FLAG_VIF;
    struct visit_state in = probe_state(bits, cpl, place);
    struct visit_end end;

    matrix_case(sti ? "STI" : "CLI", bits << 4 | cpl, (uint32_t)flags, pvi, 0);
    in.flags = flags;
    cr4_set(CR4_PVI, pvi);
    visit(&in, &end);
    faults = cpl > iopl && (!is_virtual || (sti && (flags & FLAG_VIP)));
    if (is_virtual && iopl < 3 && (flags & FLAG_VIF) && (flags & FLAG_VIP))
        faults = true; /* at the beginning of any instruction */
    if (faults) {
        expect_fault(&in, &end, GP, 0);
        return;
    }
    expect_done(&end);
    check("flags", end.flags, sti ? flags | flag : flags & ~flag);
}

static void run_interrupt_flags(unsigned bits)
{
    static const uint8_t cli = 0xfa, sti = 0xfb;
    unsigned cli_place = probe_place(&cli, 1), sti_place = probe_place(&sti, 1);

    for (unsigned i = 0; i < 256; i++) {
        run_interrupt_flag(bits, false, cli_place, i);
        run_interrupt_flag(bits, true, sti_place, i);
    }
    cr4_set(CR4_PVI, false);
}

/* --- PUSHF --- */

static void run_pushf(unsigned bits, unsigned size)
{
    uint8_t bytes[] = {0x66, 0x9c};
    unsigned prefix = bits == 16 ? size != 2 : size == 2;
    unsigned place = probe_place(bytes + 1 - prefix, 1 + prefix);
    struct visit_state in;
    struct visit_end end;

    for (unsigned i = 0; i < 2 * 16 * 22; i++) {
        unsigned cpl = i & 3, iopl = i >> 2 & 3;
        uintptr_t flags = (1u << (i >> 5) & KNOWN) | iopl << 12 | 2;

        matrix_case("PUSHF", bits << 4 | size, cpl, (uint32_t)flags, i >> 4 & 1);
        cr4_set(CR4_PVI, i >> 4 & 1); /* has no effect on it */
        in = probe_state(bits, cpl, place);
        in.flags = flags;
        visit(&in, &end);
        expect_done(&end);
        check("stack pointer", end.sp, in.sp - size);
        check("image", load(in.sp - size, size), size == 2 ? flags & 0xffff : flags);
        check("flags", end.flags, flags);
    }
    cr4_set(CR4_PVI, false);
}

/* --- I/O --- */

struct io {
    const char *name;
    uint8_t opcode; /* of the byte form; the next one is the wider form */
    bool immediate;
};

static const struct io ios[] = {{"IN DX", 0xec, false},  {"OUT DX", 0xee, false},
                                {"INS", 0x6c, false},    {"OUTS", 0x6e, false},
                                {"IN imm8", 0xe4, true}, {"OUT imm8", 0xe6, true}};

static unsigned io_place(const struct io *io, unsigned bits, unsigned size, uint8_t port)
{
    uint8_t bytes[4];
    unsigned count = 0;

    if (size > 1 && (bits == 16) != (size == 2))
        bytes[count++] = 0x66;
    if (bits == 16)
        bytes[count++] = 0x67; /* ESI and EDI */
    bytes[count++] = (uint8_t)(io->opcode + (size > 1));
    if (io->immediate)
        bytes[count++] = port;
    return probe_place(bytes, count);
}

static void bitmap_fill(uint8_t value)
{
    for (unsigned i = 0; i < 0x2000; i++)
        *(volatile uint8_t *)(uintptr_t)(TSS_AT + IO_BASE + i) = value;
    *(volatile uint8_t *)(uintptr_t)(TSS_AT + IO_BASE + 0x2000) = 0xff;
}

static void bitmap_set(unsigned port, bool deny)
{
    volatile uint8_t *byte = (volatile uint8_t *)(uintptr_t)(TSS_AT + IO_BASE + port / 8);

    *byte = (uint8_t)(deny ? *byte | 1u << port % 8 : *byte & ~(1u << port % 8));
}

static void run_io(unsigned bits, unsigned place, unsigned cpl, unsigned iopl, unsigned port,
                   bool denied)
{
    struct visit_state in = probe_state(bits, cpl, place);
    struct visit_end end;

    in.flags |= iopl << 12;
    in.dx = port;
    in.si = in.di = DATA_AT;
    visit(&in, &end);
    if (cpl > iopl && denied)
        expect_fault(&in, &end, GP, 0);
    else
        expect_done(&end);
}

/* One port denied, or all but one: each access that covers it, and those beside it. */
static void run_bitmap(const struct io *io, unsigned bits, unsigned size)
{
    unsigned base = io->immediate ? 0xd0 : PORT;

    for (unsigned port = base; port < base + 8; port++) {
        unsigned place = io_place(io, bits, size, (uint8_t)port);

        for (unsigned other = base; other < base + 12; other++) {
            bool covered = other >= port && other < port + size;

            for (unsigned cpl = 0; cpl < 4; cpl++) {
                matrix_case(io->name, bits << 4 | size, cpl, port, other);
                bitmap_set(other, true);
                run_io(bits, place, cpl, cpl ? cpl - 1 : 0, port, covered);
                run_io(bits, place, cpl, cpl, port, covered);
                bitmap_set(other, false);
            }
        }
    }
}

/* Two bytes of the bitmap are read, and both must lie within the TSS. */
static void run_bitmap_limits(const struct io *io, unsigned bits, unsigned size)
{
    unsigned place = io_place(io, bits, size, 0);

    for (unsigned byte = PORT / 8; byte < PORT / 8 + 3; byte++) {
        for (unsigned limit = IO_BASE + PORT / 8 - 1; limit < IO_BASE + PORT / 8 + 5; limit++) {
            matrix_case("end of the I/O bitmap", bits << 4 | size, byte, limit, 0);
            tss_load(SYS_TSS, limit);
            run_io(bits, place, 3, 0, byte * 8 + 7 - size, limit < IO_BASE + byte + 1);
        }
    }
    matrix_case("no I/O bitmap", bits, size, 0, 0);
    tss_load(SYS_TSS, 101);
    run_io(bits, place, 3, 0, 0, true);
    if (MODE == 32) {
        tss_load(SYS_TSS16, TSS_LIMIT);
        store(TSS_AT + 2, 2, 0xb000);
        store(TSS_AT + 4, 2, KERNEL_DATA);
        matrix_case("16-bit TSS", bits, size, 0, 0);
        run_io(bits, place, 3, 0, PORT, true);
        run_io(bits, place, 3, 3, PORT, true);
        tss_set_stack(0, LEVEL_DATA, stack_top(0));
    }
    tss_load(SYS_TSS, TSS_LIMIT);
    /* The last ports of all. */
    matrix_case("last ports", bits, size, 0, 0);
    run_io(bits, place, 3, 0, 0x10000 - size, false);
    bitmap_set(0xffff, true);
    run_io(bits, place, 3, 0, 0x10000 - size, true);
    bitmap_set(0xffff, false);
}

/* A bitmap whose page is not there: a page fault of the system. */
static void run_bitmap_page(unsigned bits)
{
    unsigned place = io_place(&ios[0], bits, 1, 0), port = 0x1000 * 8;
    struct visit_state in = probe_state(bits, 3, place);
    struct visit_end end;

    matrix_case("I/O bitmap in an absent page", bits, 0, 0, 0);
    in.dx = port;
    page_set(TSS_AT + 0x1000, 0);
    visit(&in, &end);
    page_set(TSS_AT + 0x1000, 7);
    expect_fault(&in, &end, PF, 0);
    check("CR2", read_cr2(), TSS_AT + IO_BASE + 0x1000);
}

/* --- privileged instructions --- */

static const struct {
    const char *name;
    uint8_t bytes[4], count;
    bool needs64;
} privileged[] = {
    {"HLT", {0xf4}, 1, false},
    {"CLTS", {0x0f, 0x06}, 2, false},
    {"INVD", {0x0f, 0x08}, 2, false},
    {"WBINVD", {0x0f, 0x09}, 2, false},
    {"LGDT", {0x0f, 0x01, 0x13}, 3, false},
    {"LIDT", {0x0f, 0x01, 0x1b}, 3, false},
    {"INVLPG", {0x0f, 0x01, 0x3b}, 3, false},
    {"LMSW", {0x0f, 0x01, 0xf0}, 3, false},
    {"LLDT", {0x0f, 0x00, 0xd0}, 3, false},
    {"LTR", {0x0f, 0x00, 0xd8}, 3, false},
    {"MOV to CR0", {0x0f, 0x22, 0xc0}, 3, false},
    {"MOV from CR0", {0x0f, 0x20, 0xc0}, 3, false},
    {"MOV from CR2", {0x0f, 0x20, 0xd0}, 3, false},
    {"MOV to CR3", {0x0f, 0x22, 0xd8}, 3, false},
    {"MOV from CR3", {0x0f, 0x20, 0xd8}, 3, false},
    {"MOV to CR4", {0x0f, 0x22, 0xe0}, 3, false},
    {"MOV from CR4", {0x0f, 0x20, 0xe0}, 3, false},
    {"MOV from DR0", {0x0f, 0x21, 0xc0}, 3, false},
    {"MOV to DR7", {0x0f, 0x23, 0xf8}, 3, false},
    {"RDMSR", {0x0f, 0x32}, 2, false},
    {"WRMSR", {0x0f, 0x30}, 2, false},
    {"SWAPGS", {0x0f, 0x01, 0xf8}, 3, true},
    {"SYSRETQ", {0x48, 0x0f, 0x07}, 3, true},
};

/* Whatever IOPL is. At level 0 they have tests of their own. */
static void run_privileged(unsigned bits)
{
    struct visit_state in;
    struct visit_end end;

    for (unsigned i = 0; i < sizeof(privileged) / sizeof(privileged[0]); i++) {
        unsigned place = probe_place(privileged[i].bytes, privileged[i].count);

        for (unsigned k = 0; k < 12 && (bits == 64 || !privileged[i].needs64); k++) {
            matrix_case(privileged[i].name, bits, k / 4 + 1, k & 3, 0);
            in = probe_state(bits, k / 4 + 1, place);
            in.flags |= (k & 3) << 12;
            in.bx = in.di = DATA_AT;
            visit(&in, &end);
            expect_fault(&in, &end, GP, 0);
        }
    }
}

void matrix_main(void)
{
    matrix_begin("sensitive and privileged instructions");
    store(TSS_AT + 102, 2, IO_BASE);
    bitmap_fill(0);
    tss_load(SYS_TSS, TSS_LIMIT);
    for (unsigned bits = 16; bits <= MODE; bits *= 2) {
        run_interrupt_flags(bits);
        for (unsigned size = 2; size <= bits / 8 || size == 4; size *= 2) {
            if (bits != 64 || size != 4)
                run_pushf(bits, size);
        }
        for (unsigned size = 1; size <= 4; size *= 2) {
            for (unsigned i = 0; i < sizeof(ios) / sizeof(ios[0]); i++)
                run_bitmap(&ios[i], bits, size);
            run_bitmap_limits(&ios[0], bits, size);
            run_bitmap_limits(&ios[2], bits, size);
        }
        run_bitmap_page(bits);
        run_privileged(bits);
    }
    matrix_end();
}
