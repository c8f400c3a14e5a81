/* MODES 32 64. Memory accesses at the ends of segments of every type, and what types forbid. */
#include "matrix.h"

enum { PLACE = DATA_AT + 0x800, AL_VALUE = 0x5a };

enum use { READ, WRITE, MODIFY };

static const struct access {
    const char *name;
    uint8_t bytes[3], count, size;
    bool prefix; /* needs 66h in 16-bit code where others need it in 32-bit code */
    enum use use;
} accesses[] = {
    {"MOV AL, [EBX]", {0x8a, 0x03}, 2, 1, false, READ},
    {"MOV [EBX], AL", {0x88, 0x03}, 2, 1, false, WRITE},
    {"MOVZX EAX, word [EBX]", {0x0f, 0xb7, 0x03}, 3, 2, false, READ},
    {"MOV [EBX], ES", {0x8c, 0x03}, 2, 2, false, WRITE},
    {"MOV EAX, [EBX]", {0x8b, 0x03}, 2, 4, true, READ},
    {"MOV [EBX], EAX", {0x89, 0x03}, 2, 4, true, WRITE},
    {"ADD [EBX], EAX", {0x01, 0x03}, 2, 4, true, MODIFY},
    {"XCHG [EBX], AL", {0x86, 0x03}, 2, 1, false, MODIFY},
    {"CMPXCHG8B [EBX]", {0x0f, 0xc7, 0x0b}, 3, 8, false, MODIFY},
    {"TEST dword [EBX], EAX", {0x85, 0x03}, 2, 4, true, READ},
};

static const struct {
    const char *name;
    uint8_t prefix;
    unsigned index; /* of struct visit_state */
    bool stack;
} registers[] = {{"ES", 0x26, IN_ES, false},
                 {"DS", 0x3e, IN_DS, false},
                 {"FS", 0x64, IN_FS, false},
                 {"GS", 0x65, IN_GS, false},
                 {"SS", 0x36, IN_SS, true}};

struct segment {
    unsigned type;
    uint32_t limit; /* 20 bits */
    bool granular, big;
};

static uint32_t limit_in_bytes(const struct segment *s)
{
    return s->granular ? s->limit << 12 | 0xfff : s->limit;
}

static bool expands_down(const struct segment *s)
{
    return (s->type & (CODE_BIT | CONFORMING_BIT)) == CONFORMING_BIT;
}

static bool inside(const struct segment *s, uint32_t offset, unsigned size)
{
    uint64_t last = (uint64_t)offset + size - 1;

    if (expands_down(s))
        return offset > limit_in_bytes(s) && last <= (s->big ? 0xffffffff : 0xffff);
    return last <= limit_in_bytes(s);
}

static bool permitted(const struct segment *s, enum use use)
{
    return use == READ ? is_readable(s->type) : is_writable_data(s->type);
}

static unsigned access_place(const struct access *access, unsigned bits, unsigned reg)
{
    uint8_t bytes[8];
    unsigned count = 0;

    if (bits == 16)
        bytes[count++] = 0x67;
    if (bits == 16 && access->prefix)
        bytes[count++] = 0x66;
    bytes[count++] = registers[reg].prefix;
    for (unsigned i = 0; i < access->count; i++)
        bytes[count++] = access->bytes[i];
    return probe_place(bytes, count);
}

/* The byte at offset middle of the segment is at PLACE. */
static void run_access(const struct access *access, unsigned bits, unsigned reg, unsigned place,
                       const struct segment *s, uint32_t middle, uint32_t offset)
{
    struct visit_state in = probe_state(bits, 3, place);
    uintptr_t at = PLACE + (uintptr_t)(int32_t)(offset - middle);
    struct visit_end end;
    bool works;

    matrix_case(access->name, bits << 8 | registers[reg].prefix, s->type,
                limit_in_bytes(s) | (uint32_t)s->big << 31, offset);
    *descriptor_slot(TESTED) =
        descriptor_make(PLACE - middle, s->limit, s->type, 3, true, s->granular << 3 | s->big << 2);
    ((uintptr_t *)&in)[registers[reg].index] = TESTED | 3;
    if (registers[reg].stack && !s->big)
        in.sp &= 0xffff; /* IRET loads no more with such an SS */
    in.bx = offset;
    in.ax = AL_VALUE;
    store(at, 4, 0x01020304);
    store(at + 4, 4, 0x05060708);
    visit(&in, &end);
    works = permitted(s, access->use) && inside(s, offset, access->size);
    if (!works) {
        expect_fault(&in, &end, registers[reg].stack ? SS_FAULT : GP, 0);
        check("memory", load(at, 4), 0x01020304);
        return;
    }
    expect_done(&end);
    if (access->use == WRITE && access->size == 4)
        check("memory", load(at, 4), AL_VALUE);
    if (access->use == MODIFY && access->size == 4)
        check("memory", load(at, 4), 0x01020304 + AL_VALUE);
    if (access->use == READ && access->size == 1)
        check("AX", end.regs.ax & 0xff, 4);
}

static void run_ends(const struct access *access, unsigned bits, unsigned reg, unsigned place,
                     const struct segment *s)
{
    uint32_t ends[] = {limit_in_bytes(s), 0xffff};

    for (unsigned e = 0; e < (expands_down(s) && !s->big ? 2 : 1); e++) {
        for (int distance = -9; distance <= 9; distance++) {
            uint32_t offset = ends[e] + (uint32_t)distance;

            /* Offsets that wrap at 4 GiB are another matter. */
            if (offset > 0xfffffff0 || (distance < 0 && ends[e] < 9) || offset < ends[e] - 9)
                continue;
            run_access(access, bits, reg, place, s, ends[e], offset);
        }
    }
}

static void run_limits(unsigned bits)
{
    static const uint32_t limits[] = {0, 1, 0x10, 0xff, 0xffe, 0xffff, 0x10000, 0xffffe};
    static const uint8_t types[] = {0x11, 0x13, 0x15, 0x17, 0x1b, 0x1f};

    for (unsigned a = 0; a < sizeof(accesses) / sizeof(accesses[0]); a++) {
        for (unsigned reg = 0; reg < 5; reg++) {
            unsigned place = access_place(&accesses[a], bits, reg);

            for (unsigned i = 0; i < 6 * 8 * 4; i++) {
                struct segment s = {types[i / 32], limits[i & 7], i >> 3 & 1, i >> 4 & 1};

                if (!registers[reg].stack || is_writable_data(s.type))
                    run_ends(&accesses[a], bits, reg, place, &s);
            }
        }
    }
}

/* Through a null selector nothing is reached, through CS what its type allows. */
static void run_null_and_code(unsigned bits)
{
    for (unsigned a = 0; a < sizeof(accesses) / sizeof(accesses[0]); a++) {
        struct visit_state in;
        struct visit_end end;

        for (unsigned i = 0; i < 4; i++) {
            matrix_case("null selector", bits, a, i, 0);
            in = probe_state(bits, 3, access_place(&accesses[a], bits, i));
            ((uintptr_t *)&in)[registers[i].index] = 0;
            in.bx = PLACE;
            visit(&in, &end);
            expect_fault(&in, &end, GP, 0);
        }
        for (unsigned i = 0; i < 8 * 4; i++) {
            unsigned type = S_BIT | CODE_BIT | i >> 2, cpl = i & 3;
            uint8_t bytes[6] = {0x2e, 0x67};
            unsigned at = bits == 16 ? 2 : 1;

            for (unsigned k = 0; k < accesses[a].count; k++)
                bytes[at + k] = accesses[a].bytes[k];
            matrix_case("access through CS", bits, a, type, cpl);
            in = probe_state(bits, cpl, probe_place(bytes, at + accesses[a].count));
            *descriptor_slot(TESTED) = descriptor_make(bits == 16 ? CODE_AT : 0, 0xfffff, type, cpl,
                                                       true, bits == 16 ? 8 : FLAGS_32);
            in.cs = TESTED | cpl;
            in.bx = bits == 16 ? (uint32_t)(PLACE - CODE_AT) : PLACE;
            visit(&in, &end);
            if (accesses[a].use == READ && is_readable(type))
                expect_done(&end);
            else
                expect_fault(&in, &end, GP, 0);
        }
    }
}

/* ARPL raises the destination's RPL to the source's, in registers and memory. */
static void run_arpl(unsigned bits)
{
    const uint8_t registers_form[] = {0x63, 0xc8}; /* AX, CX */
    const uint8_t memory_form[] = {bits == 16 ? 0x67 : 0x3e, 0x63, 0x0b};
    unsigned in_register = probe_place(registers_form, 2);
    unsigned in_memory = probe_place(memory_form, 3);

    for (unsigned i = 0; i < 2 * 16 * 4; i++) {
        unsigned to = i & 3, from = i >> 2 & 3, cpl = i >> 4 & 3;
        struct visit_state in = probe_state(bits, cpl, i >> 6 ? in_memory : in_register);
        uintptr_t wanted = 0x1230 | (to < from ? from : to);
        struct visit_end end;

        matrix_case("ARPL", bits, to, from, i >> 6);
        in.ax = 0x0a0a1230 | to;
        in.cx = 0x0c0c4560 | from;
        in.bx = DATA_AT;
        in.flags |= i & 1 ? FLAG_ZF | FLAG_CF : 0;
        store(DATA_AT, 4, 0x0b0b1230 | to);
        visit(&in, &end);
        expect_done(&end);
        check("ZF", (end.flags & FLAG_ZF) != 0, to < from);
        check("other flags", (end.flags ^ in.flags) & ~(uintptr_t)FLAG_ZF, 0);
        check("AX", end.regs.ax, i >> 6 ? in.ax : 0x0a0a0000 | wanted);
        check("memory", load(DATA_AT, 4), i >> 6 ? 0x0b0b0000 | wanted : 0x0b0b1230 | to);
    }
}

void matrix_main(void)
{
    matrix_begin("accesses and segment limits");
    for (unsigned bits = 16; bits <= 32; bits *= 2) {
        run_limits(bits);
        run_null_and_code(bits);
        run_arpl(bits);
    }
    matrix_end();
}
