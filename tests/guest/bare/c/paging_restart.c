/*
 * MODES 32 64. Instructions whose operand lies on two pages, one of which faults: nothing may have
 * changed, and when the page is there and the instruction starts again, registers, flags and memory
 * are as if there had been no fault.
 */
#include "paging.h"

/* Which registers point to the operand, and what else an instruction needs. */
enum {
    BX = 1,
    SI = 2,
    DI = 4,
    POPS = 8,
    PUSHES = 16,
    BP = 32,
    STEPS = 64,    /* may have done a part when it faults */
    ALIGNED = 128, /* its operand is at a multiple of 16 */
    CODE = 256,    /* the operand is the address of UD2 */
    FRAME = 512,   /* a frame for IRET, a far pointer from its third word on */
    NEEDS_AVX2 = 1024,
    LIMITS = 2048, /* of BOUND */
    INDEX = 4096,  /* in AL */
    LOADS = 8192   /* may have changed registers when it faults */
};

struct row {
    const char *name;
    uint16_t use, size;
    uint8_t code[14];
};
#define ROW(name, use, size, ...)                                                                  \
    {                                                                                              \
        name, use, size,                                                                           \
        {                                                                                          \
            __VA_ARGS__, 0x0f, 0x0b                                                                \
        }                                                                                          \
    }
#ifdef __x86_64__
enum { WORD = 8 };
#else
enum { WORD = 4 };
#endif

static const struct row rows[] = {
    ROW("MOV r, m", BX, 4, 0x8b, 0x03),
    ROW("MOV m, r", BX, 4, 0x89, 0x03),
    ROW("MOV m16, r", BX, 2, 0x66, 0x89, 0x03),
    ROW("MOVZX", BX, 2, 0x0f, 0xb7, 0x03),
    ROW("ADD m, r", BX, 4, 0x01, 0x0b),
    ROW("ADC r, m", BX, 4, 0x13, 0x03),
    ROW("SBB m, imm", BX, 4, 0x81, 0x1b, 1, 2, 3, 4),
    ROW("CMP m, r", BX, 4, 0x39, 0x0b),
    ROW("NEG", BX, 4, 0xf7, 0x1b),
    ROW("LOCK INC", BX, 4, 0xf0, 0xff, 0x03),
    ROW("XCHG", BX, 4, 0x87, 0x03),
    ROW("XADD", BX, 4, 0x0f, 0xc1, 0x03),
    ROW("LOCK CMPXCHG", BX, 4, 0xf0, 0x0f, 0xb1, 0x0b),
    ROW("CMPXCHG8B", BX, 8, 0x0f, 0xc7, 0x0b),
    ROW("BTS m, r", BX, 4, 0x0f, 0xab, 0x0b),
    ROW("SHL m, CL", BX, 4, 0xd3, 0x23),
    ROW("RCR m, 3", BX, 4, 0xc1, 0x1b, 3),
    ROW("SHLD", BX, 4, 0x0f, 0xa5, 0x13),
    ROW("MUL", BX, 4, 0xf7, 0x23),
    ROW("IMUL r, m, imm", BX, 4, 0x69, 0x0b, 7, 0, 0, 0),
    ROW("BSF", BX, 4, 0x0f, 0xbc, 0x0b),
    ROW("CMOVNE", BX, 4, 0x0f, 0x45, 0x0b),
    ROW("SGDT", BX, 2 + WORD, 0x0f, 0x01, 0x03),
    ROW("SIDT", BX, 2 + WORD, 0x0f, 0x01, 0x0b),
    ROW("SLDT", BX, 2, 0x0f, 0x00, 0x03),
    ROW("SMSW", BX, 2, 0x0f, 0x01, 0x23),
    ROW("LAR", BX, 2, 0x0f, 0x02, 0x0b),
    ROW("MOV m, ES", BX, 2, 0x8c, 0x03),
    ROW("MOVS", SI, 4, 0xa5),
    ROW("MOVS", DI, 4, 0xa5),
    ROW("STOS", DI, 4, 0xab),
    ROW("LODS", SI, 4, 0xad),
    ROW("SCAS", DI, 4, 0xaf),
    ROW("CMPS", DI, 4, 0xa7),
    ROW("REP MOVSB", SI | STEPS, 21, 0xf3, 0xa4),
    ROW("REP MOVSB", DI | STEPS, 21, 0xf3, 0xa4),
    ROW("REP MOVSD", DI | STEPS, 84, 0xf3, 0xa5),
    ROW("REP STOSW", DI | STEPS, 42, 0x66, 0xf3, 0xab),
    ROW("REPNE SCASB", DI | STEPS, 21, 0xf2, 0xae),
    ROW("REPE CMPSD", SI | STEPS, 84, 0xf3, 0xa7),
    ROW("PUSH r", PUSHES, WORD, 0x51),
    ROW("PUSH imm", PUSHES, WORD, 0x6a, 0xfe),
    ROW("PUSH m", PUSHES, WORD, 0xff, 0x36),
    ROW("PUSH m", BX, WORD, 0xff, 0x33),
    ROW("PUSH FS", PUSHES, WORD, 0x0f, 0xa0),
    ROW("PUSHF", PUSHES, WORD, 0x9c),
    ROW("PUSH r16", PUSHES, 2, 0x66, 0x51),
    ROW("POP r", POPS, WORD, 0x59),
    ROW("POP m", POPS, WORD, 0x8f, 0x06),
    ROW("POP m", BX, WORD, 0x8f, 0x03),
    ROW("CALL", PUSHES, WORD, 0xe8, 2, 0, 0, 0, 0x0f, 0x0b),
    ROW("CALL m", BX | CODE, WORD, 0xff, 0x13),
    ROW("JMP m", BX | CODE, WORD, 0xff, 0x23),
    ROW("RET", POPS | CODE, WORD, 0xc3),
    ROW("RET 8", POPS | CODE, WORD, 0xc2, 8, 0),
#ifdef __x86_64__
    ROW("IRETQ", POPS | FRAME, 40, 0x48, 0xcf),
    ROW("MOV r64, m", BX, 8, 0x48, 0x8b, 0x03),
    ROW("XADD r64", BX, 8, 0x48, 0x0f, 0xc1, 0x03),
    ROW("CMPXCHG16B", BX | ALIGNED, 16, 0x48, 0x0f, 0xc7, 0x0b),
#else
    ROW("IRET", POPS | FRAME, 12, 0xcf),
    ROW("PUSHA", PUSHES | STEPS, 32, 0x60),
    ROW("POPA", POPS | LOADS, 32, 0x61),
    ROW("BOUND", BX | LIMITS, 8, 0x62, 0x33),
    ROW("LES", BX | FRAME, 6, 0xc4, 0x0b),
    ROW("PUSH ES", PUSHES, 4, 0x06),
#endif
    ROW("LFS", BX | FRAME, 6, 0x0f, 0xb4, 0x0b),
    ROW("LEAVE", BP, WORD, 0xc9),
    ROW("ENTER 0, 0", PUSHES, WORD, 0xc8, 0, 0, 0),
    ROW("XLAT", BX | INDEX, 1, 0xd7),
    ROW("FLD m64", BX, 8, 0xdd, 0x03),
    ROW("FLD m80", BX, 10, 0xdb, 0x2b),
    ROW("FST m64", BX, 8, 0xdd, 0x13),
    ROW("FSTP m80", BX, 10, 0xdb, 0x3b),
    ROW("FISTTP m64", BX, 8, 0xdd, 0x0b),
    ROW("FBLD", BX, 10, 0xdf, 0x23),
    ROW("FBSTP", BX, 10, 0xdf, 0x33),
    ROW("FICOMP", BX, 4, 0xda, 0x1b),
    ROW("FNSTCW", BX, 2, 0xd9, 0x3b),
    ROW("FLDCW", BX, 2, 0xd9, 0x2b),
    ROW("FNSTSW", BX, 2, 0xdd, 0x3b),
    ROW("FNSTENV", BX, 28, 0xd9, 0x33),
    ROW("FNSAVE", BX, 108, 0xdd, 0x33),
    ROW("FNSAVE 16", BX, 94, 0x66, 0xdd, 0x33),
    ROW("FXSAVE", BX | ALIGNED, 512, 0x0f, 0xae, 0x03),
    ROW("STMXCSR", BX, 4, 0x0f, 0xae, 0x1b),
    ROW("MOVQ mm", BX, 8, 0x0f, 0x6f, 0x03),
    ROW("MOVQ m, mm", BX, 8, 0x0f, 0x7f, 0x03),
    ROW("PADDW mm", BX, 8, 0x0f, 0xfd, 0x03),
    ROW("MASKMOVQ", DI | LOADS, 8, 0x0f, 0xf7, 0xc1),
    ROW("MASKMOVDQU", DI, 16, 0x66, 0x0f, 0xf7, 0xc1),
    ROW("MOVUPS", BX, 16, 0x0f, 0x10, 0x03),
    ROW("MOVUPS to m", BX, 16, 0x0f, 0x11, 0x03),
    ROW("MOVHPS", BX, 8, 0x0f, 0x16, 0x03),
    ROW("MOVSD to m", BX, 8, 0xf2, 0x0f, 0x11, 0x03),
    ROW("CVTSI2SD", BX, 4, 0xf2, 0x0f, 0x2a, 0x03),
    ROW("CVTTSD2SI", BX, 8, 0xf2, 0x0f, 0x2c, 0x0b),
    ROW("PINSRW", BX, 2, 0x66, 0x0f, 0xc4, 0x03, 5),
    ROW("VMOVUPS ymm", BX | NEEDS_AVX2, 32, 0xc5, 0xfc, 0x10, 0x03),
    ROW("VMOVUPS m, ymm", BX | NEEDS_AVX2, 32, 0xc5, 0xfc, 0x11, 0x03),
    ROW("VADDPS ymm", BX | NEEDS_AVX2, 32, 0xc5, 0xf4, 0x58, 0x03),
    ROW("VPMASKMOVD", BX | NEEDS_AVX2, 32, 0xc4, 0xe2, 0x75, 0x8c, 0x13),
    ROW("VPMASKMOVD to m", BX | NEEDS_AVX2, 32, 0xc4, 0xe2, 0x75, 0x8e, 0x13),
    ROW("VEXTRACTI128", BX | NEEDS_AVX2, 16, 0xc4, 0xe3, 0x7d, 0x39, 0x03, 1),
};
enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

enum { AROUND = 640, WINDOW = 2 * AROUND, IMAGE = 832 }; /* bytes about the boundary */
struct world {                                           /* what can be seen after an exception */
    struct guest_call call;
    uint32_t flags, sp, end;
    uint8_t memory[WINDOW], spare[256];
    __attribute__((aligned(64))) uint8_t vectors[IMAGE];
};

static const uint8_t ud2[] = {0x0f, 0x0b};
static struct world start, before, after, wanted;
static __attribute__((aligned(16))) uint8_t spare[256]; /* the other operand */
static __attribute__((aligned(64))) uint8_t registers[1024];
static uint32_t cases;
static bool has_avx2;

static void copy(void *to, const void *from, unsigned size)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
}

static bool equal(const void *a, const void *b, unsigned size)
{
    bool same;
    __asm__ volatile("cmp %1, %1; repe cmpsb; sete %0"
                     : "=q"(same), "+c"(size), "+S"(a), "+D"(b)
                     :
                     : "memory", "cc");
    return same;
}

static void save_vectors(uint8_t *image)
{
    for (unsigned i = 512; i < 576; i++)
        registers[i] = 0;
    if (has_avx2)
        __asm__ volatile("xsave (%0)" : : "r"(registers), "a"(7), "d"(0) : "memory");
    else
        __asm__ volatile("fxsave (%0)" : : "r"(registers) : "memory");
    copy(image, registers, IMAGE);
    for (unsigned i = 512; i < 576; i++) /* which components are initial may vary */
        image[i] = 0;
}

static void load_vectors(const uint8_t *image)
{
    copy(registers, image, IMAGE);
    registers[512] = 7;
    if (has_avx2)
        __asm__ volatile("xrstor (%0)" : : "r"(registers), "a"(7), "d"(0) : "memory");
    else
        __asm__ volatile("fxrstor (%0)" : : "r"(registers) : "memory");
}

static void observe(struct world *w, const struct guest_call *call)
{
    save_vectors(w->vectors);
    w->call = *call;
    w->flags = SEEN.flags & 0xcd5;
    w->sp = SEEN.sp;
    w->end = SEEN.ip;
    copy(w->memory, frames + PAGE - AROUND, WINDOW);
    copy(w->spare, spare, sizeof(spare));
}

static void put_word(uint8_t *at, uintptr_t value)
{
    copy(at, &value, WORD);
}

/* x87 registers with small numbers, four of them in use; vectors with various signs. */
static void make_vectors(uint8_t *image)
{
    for (unsigned i = 0; i < IMAGE; i++)
        image[i] = 0;
    image[0] = 0x7f;
    image[1] = 0x03;
    image[3] = 4 << 3; /* TOP */
    image[4] = 0xf0;
    image[24] = 0x80;
    image[25] = 0x1f;
    for (unsigned i = 0; i < 4; i++) {
        image[32 + 16 * i + 7] = (uint8_t)(0x80 + i * 8);
        image[32 + 16 * i + 8] = (uint8_t)(i * 2);
        image[32 + 16 * i + 9] = 0x40;
    }
    for (unsigned i = 0; i < 16 * 8; i++) {
        image[160 + i] = (uint8_t)(0xc0 >> i % 5 * 2 | 0x80);
        image[576 + i] = (uint8_t)(i % 7 * 17 | 0x80);
    }
}

static void make_operand(const struct row *row, uint8_t *operand)
{
    enum { USER_CODE = WORD == 8 ? 0x43 : 0x33, USER_DATA = 0x3b, FLAGS = 0x8d7 };
    for (unsigned i = 0; i < WINDOW; i++)
        frames[PAGE - AROUND + i] = (uint8_t)(i % 9);
    for (unsigned i = 0; i < sizeof(spare); i++)
        spare[i] = (uint8_t)(i % 9);
    if (row->use & LIMITS) {
        put_word(operand, 0);
        put_word(operand + 4, 0x7fffffff);
    }
    if (row->use & CODE)
        put_word(operand, (uintptr_t)ud2);
    if (row->use & FRAME && row->use & POPS) {
        put_word(operand, (uintptr_t)ud2);
        put_word(operand + WORD, USER_CODE);
        put_word(operand + 2 * WORD, FLAGS);
        if (row->size > 3 * WORD) {
            put_word(operand + 3 * WORD, (uintptr_t)spare + 128);
            put_word(operand + 4 * WORD, USER_DATA);
        }
    } else if (row->use & FRAME) {
        operand[4] = USER_DATA;
        operand[5] = 0;
    }
}

/* Memory, and the registers with which the instruction starts. */
static void make_start(const struct row *row, uintptr_t boundary, unsigned part)
{
    uintptr_t at = boundary - part, other = (uintptr_t)spare + 128;
    struct guest_call *call = &start.call;
    make_operand(row, frames + PAGE - part);
    make_vectors(start.vectors);
    *call = (struct guest_call){
        (uint32_t)(uintptr_t)row->code, 1, 0x3b21, 21, 0x1234, other, other, other, other, other};
    if (row->use & BX)
        call->bx = at;
    if (row->use & SI)
        call->si = at;
    if (row->use & DI)
        call->di = at;
    if (row->use & BP)
        call->bp = at;
    if (row->use & POPS)
        call->sp = at;
    if (row->use & PUSHES)
        call->sp = at + row->size;
    if (row->use & INDEX)
        call->ax = 0;
    load_vectors(start.vectors);
}

__attribute__((noreturn)) static void complain(const struct row *row, unsigned part, unsigned spoil,
                                               const char *what, uint32_t value)
{
    print("%s, %u bytes of %u on the first page, spoiled %x: %s %x\n", row->name, part, row->size,
          spoil, what, value);
    guest_fail(__LINE__, value);
}

/* Registers, flags, stack pointer, memory, vectors: what differs, NULL if nothing. */
static const char *difference(const struct world *a, const struct world *b, bool partly)
{
    const struct guest_call *x = &a->call, *y = &b->call;
    if (!partly && (x->cx != y->cx || x->si != y->si || x->di != y->di || a->flags != b->flags))
        return "count, index or flags differ";
    if (x->ax != y->ax || x->dx != y->dx || x->bx != y->bx || x->bp != y->bp)
        return "a register differs";
    if (a->sp != b->sp)
        return "the stack pointer differs";
    if (!partly && !equal(a->memory, b->memory, WINDOW))
        return "memory differs";
    if (!partly && !equal(a->spare, b->spare, sizeof(a->spare)))
        return "the other operand differs";
    if (!equal(a->vectors, b->vectors, IMAGE))
        return "a vector register differs";
    return 0;
}

/* spoil: 1 the first page, 2 the second; 4: they are read-only instead of absent. */
static void run_case(const struct layout *layout, const struct row *row, unsigned part,
                     unsigned spoil)
{
    unsigned last = layout->levels - 1;
    uintptr_t boundary = layout_target(layout) + PAGE;
    make_start(row, boundary, part);
    for (unsigned n = 0; n < 2; n++) {
        if (spoil >> n & 1)
            entry_set(layout, last, n,
                      entry_get(layout, last, n) & ~(uint64_t)(spoil & 4 ? PT_W : PT_P));
    }
    flush();
    struct guest_call call = start.call;
    guest_enter(&call);
    cases++;
    observe(&after, &call);
    layout_map(layout);
    if (spoil && SEEN.vector == VECTOR_PF) {
        uintptr_t address = read_cr2();
        if (address < boundary - part || address >= boundary - part + row->size)
            complain(row, part, spoil, "CR2", (uint32_t)address);
        if (!(spoil & 1) && address != boundary && !(row->use & STEPS) && row->size < 20)
            complain(row, part, spoil, "CR2", (uint32_t)address);
        if (SEEN.ip != start.call.code)
            complain(row, part, spoil, "pc", SEEN.ip);
        const char *what = difference(&after, &before, row->use & STEPS);
        if (what && !(row->use & LOADS))
            complain(row, part, spoil, what, 0);
        guest_enter(&call);
        observe(&after, &call);
    }
    if (SEEN.vector != VECTOR_UD)
        complain(row, part, spoil, "exception", SEEN.vector);
    if (!spoil) {
        wanted = after;
        return;
    }
    const char *what = difference(&after, &wanted, false);
    if (!what && after.end != wanted.end)
        what = "pc at the end differs";
    if (what)
        complain(row, part, spoil, what, after.end);
}

/* What is seen at an exception of the instruction itself: the state at its start. */
static void observe_start(const struct row *row, uintptr_t boundary, unsigned part)
{
    make_start(row, boundary, part);
    struct guest_call call = start.call;
    call.code = (uint32_t)(uintptr_t)ud2;
    guest_enter(&call);
    call.code = start.call.code;
    observe(&before, &call);
}

static void run_row(const struct layout *layout, const struct row *row)
{
    unsigned step = row->use & ALIGNED ? 16 : row->size > 16 ? 7 : 1;
    uintptr_t boundary = layout_target(layout) + PAGE;
    for (unsigned part = 0; part <= row->size; part += step) {
        observe_start(row, boundary, part);
        for (unsigned spoil = 0; spoil < 8; spoil++) {
            if (spoil != 4)
                run_case(layout, row, part, spoil);
        }
    }
}

void guest_main(void)
{
    write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT);
    write_cr0((read_cr0() & ~(uintptr_t)(CR0_EM | CR0_TS)) | CR0_NE);
    has_avx2 = (cpuid(1, 0).ecx >> 28 & 1) && (cpuid(7, 0).ebx >> 5 & 1);
    if (has_avx2) {
        write_cr4(read_cr4() | CR4_OSXSAVE);
        __asm__ volatile("xsetbv" : : "a"(7), "d"(0), "c"(0));
    }
    for (unsigned i = 0; i < LAYOUTS; i++) {
        if (layouts[i].large)
            continue;
        layout_enter(&layouts[i], true);
        for (unsigned k = 0; k < ROWS; k++) {
            if (has_avx2 || !(rows[k].use & NEEDS_AVX2))
                run_row(&layouts[i], &rows[k]);
        }
        layout_map(&layouts[i]);
    }
    print("%u cases\n", cases);
}
