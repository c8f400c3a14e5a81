/*
 * MODES 32 64. Code in places that change by themselves or where memory is not plain: page tables,
 * descriptors, task states and stack frames that are executed, memory that devices write, memory of
 * a device, shadow RAM behind the PAM registers, memory above 1 MiB with A20 off.
 *
 * Everywhere a constant that is loaded into EBP has to be the one in memory.
 */
#include "paging.h"

enum {
    BUILD_AT = 0x50000, /* short programs */
    TARGET_AT = 0x51400,
    TABLE_AT = 0x53000, /* a page table */
    STACK_AT = 0x610eb, /* its low byte is that of JMP rel8 */
    SCRATCH_AT = 0x540, /* where EAX points when zeros run as ADD [EAX], AL */
    WINDOW = 0x40000000,
    WINDOW_SIZE = 0x200000,
    DEVICE = WINDOW + 0x200000, /* the test device's memory, next to plain memory */
    DEVICE_MEMORY = 0xff000000,
    ROUNDS = 60
};

static uint32_t at, random_state, cases; /* at: where the next byte of code goes */

static uint32_t random32(void)
{
    random_state = random_state * 1664525 + 1013904223;
    return random_state ^ random_state >> 15;
}

static volatile uint8_t *bytes_at(uintptr_t address)
{
    return (volatile uint8_t *)address;
}

static volatile uint32_t *word_at(uintptr_t address)
{
    return (volatile uint32_t *)address;
}

static void emit(unsigned count, uint64_t code) /* lowest byte first */
{
    for (; count; count--, code >>= 8)
        *bytes_at(at++) = (uint8_t)code;
}

static void emit_relative(unsigned opcode, uint32_t to) /* JMP or CALL */
{
    emit(1, opcode);
    emit(4, to - (at + 4));
}

/* MOV EBP, constant; UD2. The address of the constant. */
static uint32_t emit_target(uint32_t constant)
{
    emit(1, 0xbd);
    emit(4, constant);
    emit(2, 0x0b0f);
    return at - 6;
}

static void run_registers(struct guest_call *call, uint32_t constant, unsigned line)
{
    guest_enter(call);
    if (SEEN.vector != VECTOR_UD)
        guest_fail(line, SEEN.vector);
    if ((uint32_t)call->bp != *word_at(constant)) {
        print("%x in memory\n", *word_at(constant));
        guest_fail(line, (uint32_t)call->bp);
    }
    cases++;
}

/* From code up to #UD. */
static void run_(uint32_t code, uint32_t constant, unsigned line)
{
    struct guest_call call = {.code = code, .ax = SCRATCH_AT};
    run_registers(&call, constant, line);
}
#define RUN(code, constant) run_((code), (constant), __LINE__)

/* --- mappings --- */

static __attribute__((aligned(PAGE))) uintptr_t directory[PAGE / sizeof(uintptr_t)],
    table[PAGE / sizeof(uintptr_t)], table2[PAGE / sizeof(uintptr_t)];
enum { ENTRIES = PAGE / sizeof(uintptr_t) };
#ifndef __x86_64__
static __attribute__((aligned(PAGE))) uint32_t identity[ENTRIES];
#endif

static volatile uintptr_t *entry_of(uint32_t linear)
{
    uint32_t n = (linear - WINDOW) / PAGE;
    return n < ENTRIES ? &table[n] : &table2[n - ENTRIES];
}

/* The window: physical memory from 0; at DEVICE the device's. */
static void make_mappings(void)
{
#ifdef __x86_64__
    directory[0] = (uintptr_t)table | PT_ALL;
    directory[1] = (uintptr_t)table2 | PT_ALL;
    *(volatile uintptr_t *)0x11008 = (uintptr_t)directory | PT_ALL; /* the second GiB */
#else
    directory[0] = (uintptr_t)identity | PT_ALL;
    directory[WINDOW >> 22] = (uintptr_t)table | PT_ALL;
    for (unsigned i = 0; i < ENTRIES; i++)
        identity[i] = i * PAGE | PT_ALL;
#endif
    for (uint32_t offset = 0; offset < WINDOW_SIZE; offset += PAGE)
        *entry_of(WINDOW + offset) = offset | PT_ALL;
    for (uint32_t offset = 0; offset < 16 * PAGE; offset += PAGE)
        *entry_of(DEVICE + offset) = (uintptr_t)(DEVICE_MEMORY + offset) | PT_ALL;
#ifndef __x86_64__
    write_cr3((uintptr_t)directory);
    write_cr0(read_cr0() | CR0_PG | CR0_WP);
#else
    flush();
#endif
}

/* --- code in the memory of a device --- */

static void device_one(uint32_t code, uint32_t constant, unsigned line)
{
    uint32_t direct = at = BUILD_AT;
    emit_relative(0xe9, code);
    uint32_t called = at;
    emit_relative(0xe8, code);
    uint32_t indirect = at;
    emit(1, 0xb9); /* MOV ECX, code; JMP ECX */
    emit(4, code);
    emit(2, 0xe1ff);
    uint32_t changes = at; /* MOV [constant], EBX; JMP code */
    emit(1, 0xb9);
    emit(4, constant);
    emit(2, 0x1989);
    emit_relative(0xe9, code);
    for (unsigned round = 0; round < ROUNDS; round++) {
        *word_at(constant) = random32();
        run_(direct, constant, line);
        *bytes_at(constant + round % 4) = (uint8_t)random32();
        run_(called, constant, line);
        *word_at(constant) = random32();
        run_(indirect, constant, line);
        *bytes_at(constant + 3) = (uint8_t)random32();
        run_(code, constant, line);
        struct guest_call call = {.code = changes, .bx = random32()};
        run_registers(&call, constant, line);
    }
}

/* Also across the border between plain memory and the device's, on either side of it. */
static void test_device_memory(void)
{
    at = DEVICE + 0x100;
    uint32_t constant = emit_target(0);
    device_one(DEVICE + 0x100, constant, __LINE__);

    at = DEVICE + 0x200; /* several instructions and a loop */
    emit(5, 0x00000003b9);
    uint32_t loop = at;
    emit(3, 0x90ed31); /* XOR EBP, EBP; NOP */
    emit(1, 0xbd);
    constant = at;
    emit(4, 0);
    emit(2, 0xe983); /* SUB ECX, 1 */
    emit(1, 1);
    emit(2, 0x75 | (loop - (at + 2)) << 8);
    emit(2, 0x0b0f);
    device_one(DEVICE + 0x200, constant, __LINE__);

    at = DEVICE + 0x300; /* changes its own next instruction */
    emit(1, 0xb9);
    constant = at + 4 + 2 + 1;
    emit(4, constant);
    emit(2, 0x1989);
    emit_target(0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct guest_call call = {.code = DEVICE + 0x300, .bx = random32()};
        run_registers(&call, constant, __LINE__);
    }

    for (unsigned first = 1; first <= 5; first++) {
        at = DEVICE - first; /* from plain memory into the device's */
        constant = emit_target(0);
        device_one(DEVICE - first, constant, __LINE__);
        *entry_of(DEVICE + PAGE) = 0x54000 | PT_ALL; /* and back */
        invlpg(DEVICE + PAGE);
        at = DEVICE + PAGE - first;
        constant = emit_target(0);
        device_one(DEVICE + PAGE - first, constant, __LINE__);
        *entry_of(DEVICE + PAGE) = (uintptr_t)(DEVICE_MEMORY + PAGE) | PT_ALL;
        invlpg(DEVICE + PAGE);
    }
}

/* An instruction that begins in the last bytes of memory and ends where nothing is. */
static void test_end_of_memory(void)
{
    enum { END = 64 << 20, LAST = DEVICE + 2 * PAGE };
    *entry_of(LAST) = (END - PAGE) | PT_ALL;
    *entry_of(LAST + PAGE) = END | PT_ALL;
    flush();
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned first = 1; first <= 5; first++) {
            at = LAST + PAGE - 5;
            emit(5, 0x9090909090);
            at = LAST + PAGE - first;
            emit_target(random32()); /* what lies behind is not there */
            run_(LAST + PAGE - first, LAST + PAGE - first + 1, __LINE__);
            EXPECT_THAT(SEEN.ip == LAST + PAGE - first + 5, SEEN.ip);
        }
    }
}

/* --- page tables that are executed --- */

/*
 * Entry 8 of a page table is the constant: the top byte of entry 7 is MOV EBP, entry 9 ends in UD2.
 * It maps a page through which data is read and written, and in turn the table itself.
 */
static void table_one(bool itself, unsigned round)
{
    enum { ENTRY = 8 };
    uintptr_t *entries = (uintptr_t *)TABLE_AT;
    uint32_t linear = WINDOW + 0x800000 + ENTRY * PAGE;
    volatile uintptr_t *slot = &directory[MODE == 64 ? 4 : (WINDOW >> 22) + 2];
    uint32_t code = TABLE_AT + ENTRY * sizeof(uintptr_t) - 1, constant = code + 1;
    *slot = TABLE_AT | PT_ALL;
    entries[ENTRY - 1] = (uintptr_t)0xbd << (8 * sizeof(uintptr_t) - 8);
    entries[ENTRY + 1] = 0x0b0f9090;
    entries[ENTRY] = (itself ? (uintptr_t)TABLE_AT : 0x55000u + round % 4 * PAGE) | PT_ALL;
    invlpg(linear);
    at = BUILD_AT + 0x400;
    if (itself) {
        RUN(linear + (code & (PAGE - 1)), constant);
        EXPECT_THAT(*word_at(constant) & PT_A, *word_at(constant));
        return;
    }
    /* MOV CL, [linear] or MOV [linear], CL; JMP code */
    emit(1, 0xbb);
    emit(4, linear);
    bool write = round & 1;
    emit(2, write ? 0x0b88 : 0x0b8a);
    emit_relative(0xe9, code);
    if (round & 2)
        RUN(code, constant);
    RUN(BUILD_AT + 0x400, constant);
    EXPECT_THAT((*word_at(constant) & 0xff) == (PT_ALL | PT_A | (write ? PT_D : 0)),
                *word_at(constant));
    RUN(code, constant);
}

static void test_page_tables(void)
{
    for (unsigned round = 0; round < 4 * ROUNDS; round++) {
        table_one(false, round);
        table_one(true, round);
    }
}

/* --- descriptors that are executed --- */

static uintptr_t gdt_base(void)
{
    struct {
        uint16_t limit;
        uintptr_t base;
    } __attribute__((packed)) gdtr;
    __asm__ volatile("sgdt %0" : "=m"(gdtr));
    return gdtr.base;
}

/* Bytes 4 to 7 are the constant: byte 3 is MOV EBP. Loading it sets the accessed or the busy bit.
 */
static void descriptor_one(unsigned selector, uint64_t descriptor, uint32_t load)
{
    uint64_t *gdt = (uint64_t *)gdt_base();
    uint32_t code = (uint32_t)(uintptr_t)&gdt[selector / 8] + 3, constant = code + 1;
    uint64_t before = descriptor | 0xbd000000;
    *(volatile uint64_t *)&gdt[selector / 8] = before;
    RUN(code, constant);
    uint32_t start = at = BUILD_AT + 0x500;
    emit(1, 0xb9);
    emit(4, selector);
    emit(3, load);
    emit_relative(0xe9, code);
    RUN(start, constant);
    EXPECT_THAT(*word_at(constant) != before >> 32, *word_at(constant));
    *(volatile uint64_t *)&gdt[selector / 8] = before; /* clear again */
    RUN(code, constant);
    RUN(start, constant);
}

static void test_descriptors(void)
{
    uint64_t *gdt = (uint64_t *)gdt_base();
    uint64_t behind = 0x0b0f90909090;
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t low = (uint64_t)(round & 0xf) << 56 | 0xffff;
        gdt[0xa0 / 8] = behind;
        descriptor_one(0x98, 0x00cf920000000000 | low, 0xe18e90); /* MOV FS, CX */
        descriptor_one(0x98, 0x00cf9a0000000000 | low, 0xe98e90); /* GS, readable code */
        gdt[0x90 / 8] = MODE == 64 ? 0 : behind;
        gdt[0x98 / 8] = behind;
        descriptor_one(0x88, 0x0000890000000067 | (round & 0xfULL) << 32, 0xd9000f); /* LTR CX */
        gdt[0x48 / 8] &= ~(2ULL << 40);
        __asm__ volatile("mov %0, %%fs\n mov %0, %%gs\n ltr %w1" : : "r"(0x10), "r"(0x48));
    }
}

/* --- one piece of code in several segments --- */

/* The same 16-bit code at the same address with another base and another IP each time. */
static void test_segment_bases(void)
{
    static struct {
        uint32_t offset;
        uint16_t selector;
    } __attribute__((packed)) far_pointer;
    enum { SEGMENT = 0x98, CODE = TARGET_AT + 0x600 };
    volatile uint64_t *gdt = (volatile uint64_t *)gdt_base();
    uint32_t entry = at = BUILD_AT + 0x1300;
    emit(MODE == 64 ? 3 : 2, MODE == 64 ? 0x252cff : 0x2dff); /* JMP FAR far_pointer */
    emit(4, (uintptr_t)&far_pointer);
    at = CODE;
    emit(4, 0x1e896667); /* MOV [ESI], EBX */
    emit(2, 0xbd66);
    uint32_t constant = at;
    emit(4, 0);
    emit(2, 0x0b0f);
    for (unsigned round = 0; round < 8 * ROUNDS; round++) {
        uint32_t offset = random32() % 5 * 0x1000 + 0x20 * (round & 1), base = CODE - offset;
        gdt[SEGMENT / 8] = 0x00009b000000ffff | (uint64_t)(base & 0xffffff) << 16;
        far_pointer.selector = SEGMENT;
        far_pointer.offset = offset;
        struct guest_call call = {.code = entry, .bx = random32(), .si = constant};
        run_registers(&call, constant, __LINE__);
        EXPECT_THAT((uint32_t)call.bp == (uint32_t)call.bx, call.bp);
        far_pointer.offset = offset + 4; /* as it is */
        *bytes_at(constant + round % 4) = (uint8_t)random32();
        run_registers(&call, constant, __LINE__);
    }
}

/* --- what devices write --- */

static void test_device_writes(void)
{
    static struct {
        uint32_t control, length, high, low; /* big endian */
    } transfer;
    uint32_t code = at = TARGET_AT, constant = emit_target(0), again = TARGET_AT + 0x40;
    at = again;
    emit_relative(0xe9, code);
    transfer.low = __builtin_bswap32(constant);
    uint32_t dma = at = BUILD_AT + 0x600; /* OUT DX, EAX right before the target */
    emit(1, 0xef);
    emit_relative(0xe9, code);
    uint32_t ins = at = code - 1; /* INSB */
    emit(1, 0x6c);
    uint32_t rep_ins = BUILD_AT + 0x700;
    for (unsigned round = 0; round < 4 * ROUNDS; round++) {
        *word_at(constant) = random32();
        RUN(again, constant);
        transfer.control = __builtin_bswap32(10); /* select item 0, read */
        transfer.length = __builtin_bswap32(1 + round % 4);
        struct guest_call call = {
            .code = dma, .ax = __builtin_bswap32((uint32_t)(uintptr_t)&transfer), .dx = 0x518};
        run_registers(&call, constant, __LINE__);
        EXPECT_THAT(*bytes_at(constant) == 'Q', *bytes_at(constant));
        RUN(again, constant);

        uint8_t value = (uint8_t)random32();
        out8(0x84, value); /* a page register without a channel keeps it */
        call = (struct guest_call){.code = ins, .dx = 0x84, .di = constant + round % 4};
        run_registers(&call, constant, __LINE__);
        EXPECT_THAT(*bytes_at(constant + round % 4) == value, value);
        at = rep_ins;
        emit(2, 0x6cf3);
        emit_relative(0xe9, code);
        call = (struct guest_call){.code = rep_ins, .dx = 0x84, .cx = 4, .di = constant};
        run_registers(&call, constant, __LINE__);
        EXPECT_THAT(*word_at(constant) == value * 0x01010101u, *word_at(constant));
    }
}

/* --- frames that are executed --- */

/*
 * The return address that INT3 pushes is the constant. Behind it CS, flags and, in 64-bit mode, RSP
 * run as code, of which the latter jumps over itself and SS.
 */
static void frame_one(uint32_t entry)
{
    uint32_t frame = (STACK_AT & ~15u) - (MODE == 64 ? 40 : 12);
    uint32_t stack = MODE == 64 ? STACK_AT : STACK_AT & ~15u;
    struct guest_call call = {.code = entry, .si = stack};
    guest_enter(&call); /* MOV ESP, ESI; INT3 */
    EXPECT_THAT(SEEN.vector == 3, SEEN.vector);
    EXPECT_THAT(*word_at(frame) == entry + 3, *word_at(frame));
    at = frame - (MODE == 64 ? 2 : 1); /* the handler has pushed below */
    emit(MODE == 64 ? 2 : 1, MODE == 64 ? 0xbd48 : 0xbd);
    RUN(frame - (MODE == 64 ? 2 : 1), frame);
}

static void test_frames(void)
{
    for (unsigned round = 0; round < 2 * ROUNDS; round++) {
        uint32_t entry = at = BUILD_AT + 0x800 + round % 16 * 3;
        emit(3, 0xccf489);
        at = STACK_AT & ~15u;
        emit(6, 0x0b0f90909090);
        frame_one(entry);
    }
}

#ifdef __x86_64__
static void test_far_calls(void)
{
}

static void test_task_switches(void)
{
}

static void test_vm86(void)
{
}
#else
/* Exceptions of virtual-8086 mode arrive with null data segments: in front of the usual handler. */
__asm__(".pushsection .rodata\n vm86_exception: pushl %eax\n movw $0x3b, %ax\n movw %ax, %ds\n"
        "movw %ax, %es\n popl %eax\n jmp *usual_handler\n .popsection");
extern const uint8_t vm86_exception[];
uint32_t usual_handler;

static void set_handler(uint32_t handler)
{
    volatile uint16_t *gate = (volatile uint16_t *)(0x2000 + 8 * VECTOR_UD);
    usual_handler = gate[0] | (uint32_t)gate[3] << 16;
    gate[0] = (uint16_t)handler;
    gate[3] = (uint16_t)(handler >> 16);
}

/* Virtual-8086 mode, also through several segments; its writes and those from outside. */
static void test_vm86(void)
{
    enum { CODE = 0x9600, VM = 0x20002 };
    set_handler((uint32_t)vm86_exception);
    at = CODE;
    emit(4, 0x1e896667); /* MOV [ESI], EBX */
    emit(2, 0xbd66);
    uint32_t constant = at;
    emit(4, 0);
    emit(2, 0x0b0f);
    for (unsigned round = 0; round < 8 * ROUNDS; round++) {
        uint32_t segment = random32() % 4 * 0x140, skip = round & 2 ? 4 : 0;
        const uint32_t frame[] = {0, 0, 0, 0, 0, 0x7000, VM, segment, CODE + skip - segment * 16};
        uint32_t entry = at = BUILD_AT + 0x1400;
        for (unsigned i = 0; i < 9; i++) { /* GS FS DS ES SS ESP EFLAGS CS EIP */
            emit(1, 0x68);
            emit(4, frame[i]);
        }
        emit(1, 0xcf);
        if (round & 1)
            *bytes_at(constant + round % 4) = (uint8_t)random32();
        struct guest_call call = {.code = entry, .bx = random32(), .si = constant};
        run_registers(&call, constant, __LINE__);
        EXPECT_THAT(SEEN.flags & 0x20000, SEEN.flags);
        EXPECT_THAT(skip || (uint32_t)call.bp == (uint32_t)call.bx, call.bp);
    }
    set_handler(usual_handler);
}

/* The return address of a far call is the constant; CS runs as OR [EAX], AL. */
static void test_far_calls(void)
{
    uint32_t frame = (STACK_AT & ~15u) - 8;
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint32_t entry = at = BUILD_AT + 0xe00 + round % 16 * 13;
        emit(2, 0xf489); /* MOV ESP, ESI */
        emit(1, 0x9a);   /* CALL 8:behind */
        emit(4, at + 6);
        emit(2, 0x08);
        emit(2, 0x0b0f);
        struct guest_call call = {.code = entry, .si = frame + 8};
        guest_enter(&call);
        EXPECT_THAT(SEEN.vector == VECTOR_UD && SEEN.ip == entry + 9, SEEN.ip);
        EXPECT_THAT(*word_at(frame) == entry + 9, *word_at(frame));
        *bytes_at(frame - 1) = 0xbd;
        RUN(frame - 1, frame);
    }
}

/* A task switch saves EAX, ECX and EDX as the code that the new task runs. */
static void test_task_switches(void)
{
    enum { OLD_TSS = 0x3800, NEW_TSS = 0x56000, SAVED = OLD_TSS + 43, TASK = 0x48, NEW = 0x88 };
    volatile uint64_t *gdt = (volatile uint64_t *)gdt_base();
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (uint32_t offset = 0; offset < 104; offset += 4)
            *word_at(NEW_TSS + offset) = 0;
        *word_at(NEW_TSS + 28) = read_cr3();
        *word_at(NEW_TSS + 32) = SAVED;
        *word_at(NEW_TSS + 36) = 2;
        *word_at(NEW_TSS + 56) = 0x5f000; /* ESP */
        *word_at(NEW_TSS + 72) = 0x3b;    /* ES, CS, SS, DS */
        *word_at(NEW_TSS + 76) = 0x08;
        *word_at(NEW_TSS + 80) = 0x10;
        *word_at(NEW_TSS + 84) = 0x3b;
        gdt[NEW / 8] = 0x0000890000000067 | (uint64_t)NEW_TSS << 16;
        uint32_t entry = at = BUILD_AT + 0xf00;
        emit(1, 0xea);
        emit(4, 0);
        emit(2, NEW);
        uint32_t value = random32();
        struct guest_call call = {
            .code = entry, .ax = 0xbd909090, .cx = value, .dx = 0x0b0f9090, .bp = ~value};
        run_registers(&call, SAVED + 1, __LINE__);
        EXPECT_THAT(call.bp == value, call.bp);
        gdt[TASK / 8] &= ~(2ULL << 40);
        __asm__ volatile("clts\n ltr %w0" : : "r"(TASK) : "memory");
        *bytes_at(SAVED + 1) = (uint8_t)random32();
        RUN(SAVED, SAVED + 1);
    }
}
#endif

/* --- single steps --- */

/* TF set, and one instruction at the address that is returned. */
static uint32_t emit_step(void)
{
    emit(1, 0x9c);
    emit(7, 0x00000100240c81); /* OR DWORD [ESP], 100h */
    emit(1, 0x9d);
    return at;
}

static void step(struct guest_call *call)
{
    guest_enter(call);
    EXPECT_THAT(SEEN.vector == VECTOR_DB, SEEN.vector);
    cases++;
}

static void test_steps(void)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint32_t writer = at = BUILD_AT + 0x1000;
        emit_step();
        emit(2, 0x1e89); /* MOV [ESI], EBX */
        uint32_t target = at, constant = emit_step() + 1;
        emit_target(random32());
        struct guest_call call = {.code = target};
        step(&call);
        call = (struct guest_call){.code = writer, .bx = random32(), .si = constant};
        step(&call);
        EXPECT_THAT(*word_at(constant) == (uint32_t)call.bx, call.bx);
        call = (struct guest_call){.code = target};
        step(&call);
        EXPECT_THAT((uint32_t)call.bp == *word_at(constant), call.bp);

        /* REP STOSB over its own prefix: it is fetched again behind the step */
        writer = at = BUILD_AT + 0x1100 + round;
        uint32_t rep = emit_step();
        emit(4, 0x0b0faaf3);
        call = (struct guest_call){.code = writer, .ax = 0x90, .cx = 9, .di = rep};
        step(&call);
        EXPECT_THAT(SEEN.ip == rep && call.cx == 8 && call.di == rep + 1, SEEN.ip);
        call.code = rep;
        call.di = BUILD_AT + 0x1200;
        guest_enter(&call);
        EXPECT_THAT(SEEN.vector == VECTOR_UD && SEEN.ip == rep + 2, SEEN.ip);
        EXPECT_THAT(call.cx == 8 && call.di == BUILD_AT + 0x1201, call.cx);
    }
}

/* --- string instructions that overwrite themselves --- */

/* They are one instruction: it goes on as it was fetched (but for interrupts in its middle). */
static void test_strings(void)
{
    uint32_t code = TARGET_AT + 0x200, end = code + 0x80;
    for (unsigned form = 0; form < 8; form++) {
        bool down = form & 1, moves = form & 2, wide = form & 4;
        for (unsigned distance = 0; distance < 64; distance += 4) {
            unsigned size = wide ? 4 : 1, count = 100 / size;
            uint32_t first = code + 64 - distance - (down ? 0 : 32), last = first + 100 - size;
            for (uint32_t a = code - 64; a < end; a++)
                *bytes_at(a) = 0xf8;
            for (uint32_t a = 0; a < 100; a++)
                *bytes_at(TARGET_AT - 0x200 + a) = 0xf9;
            uint32_t start = at = code + 32;
            emit(2, (moves ? 0xa4f3 : 0xaaf3) | (wide ? 0x100 : 0));
            at = end + 0x40;
            emit_target(random32());
            for (uint32_t a = end; a < end + 0x40; a++)
                *bytes_at(a) = 0x90;
            at = BUILD_AT + 0x900;
            emit(1, down ? 0xfd : 0xfc);
            emit_relative(0xe9, start);
            struct guest_call call = {.code = BUILD_AT + 0x900,
                                      .ax = 0xf9f9f9f9,
                                      .cx = count,
                                      .si = TARGET_AT - 0x200 + (down ? 100 - size : 0),
                                      .di = down ? last : first};
            run_registers(&call, end + 0x41, __LINE__);
            EXPECT_THAT(call.cx == 0, call.cx);
            for (uint32_t a = first; a < first + 100; a++)
                EXPECT_THAT(*bytes_at(a) == 0xf9, a);
        }
    }
}

/* --- the chip set changes what is at an address --- */

static void write_pam(unsigned reg, uint8_t value)
{
    uint32_t address = 0x80000000 | (reg & 0xfc);
    __asm__ volatile("outl %0, %1" : : "a"(address), "Nd"((uint16_t)0xcf8));
    out8((uint16_t)(0xcfc + (reg & 3)), value);
}

/* D0000h: nothing, shadow RAM, or one of them for reads and the other for writes. */
static void test_shadow(void)
{
    enum { PAM3 = 0x5c, READ = 1, WRITE = 2 };
    const uint32_t place = 0xd0100, constant = place + 1;
    uint32_t direct = at = BUILD_AT + 0xa00;
    emit_relative(0xe9, place);
    for (unsigned round = 0; round < 4 * ROUNDS; round++) {
        uint32_t entry = round & 1 ? place : direct, value = random32();
        write_pam(PAM3, READ | WRITE);
        at = place;
        emit_target(value);
        run_(entry, constant, __LINE__);
        write_pam(PAM3, READ); /* writes go to the ROM that is not there */
        *word_at(constant) = ~value;
        EXPECT_THAT(*word_at(constant) == value, *word_at(constant));
        run_(entry, constant, __LINE__);
        write_pam(PAM3, WRITE); /* reads come from there: FFh, which is no instruction */
        *word_at(constant) = value + 1;
        struct guest_call call = {.code = entry};
        guest_enter(&call);
        EXPECT_THAT(SEEN.vector == VECTOR_UD && SEEN.ip == place, SEEN.ip);
        EXPECT_THAT(call.bp == 0, call.bp);
        write_pam(PAM3, READ);
        EXPECT_THAT(*word_at(constant) == value + 1, *word_at(constant));
        run_(entry, constant, __LINE__);
        write_pam(PAM3, 0);
        guest_enter(&call);
        EXPECT_THAT(SEEN.vector == VECTOR_UD && SEEN.ip == place, SEEN.ip);
        cases += 2;
    }
}

/* The test's own image below 1 MiB: ROM, or a copy in RAM with another constant. */
__asm__(".pushsection .rodata\n image_target: mov $0x11111111, %ebp\n ud2\n .popsection");
extern const uint8_t image_target[];

static void test_image(void)
{
    enum { PAM0 = 0x59, ROM = 0x00, WRITE = 0x20, RAM = 0x10 };
    uint32_t place = (uint32_t)(uintptr_t)image_target;
    uint32_t direct = at = BUILD_AT + 0xb00;
    emit_relative(0xe9, place);
    write_pam(PAM0, WRITE);
    for (uint32_t a = 0xf0000; a < 0x100000; a += 4)
        *word_at(a) = *word_at(a);
    for (unsigned round = 0; round < 2 * ROUNDS; round++) {
        uint32_t entry = round & 1 ? place : direct, value = random32();
        write_pam(PAM0, WRITE);
        *word_at(place + 1) = value;
        EXPECT_THAT(*word_at(place + 1) == 0x11111111, value);
        run_(entry, place + 1, __LINE__);
        write_pam(PAM0, RAM);
        EXPECT_THAT(*word_at(place + 1) == value, value);
        run_(entry, place + 1, __LINE__);
        write_pam(PAM0, ROM);
        run_(entry, place + 1, __LINE__);
        write_pam(PAM0, RAM | WRITE);
        *word_at(place + 1) = ~value;
        run_(entry, place + 1, __LINE__);
        write_pam(PAM0, ROM);
    }
}

/* 150000h is 50000h when A20 is off. */
static void test_a20(void)
{
    enum { LOW = 0x5c000, HIGH = 0x15c000, ON = 2 };
    uint32_t direct = at = BUILD_AT + 0xc00;
    emit_relative(0xe9, HIGH);
    uint32_t both = at; /* through the port and on into the next instruction */
    emit(1, 0xee);
    emit_relative(0xe9, HIGH);
    uint8_t port = in8(0x92);
    at = LOW;
    emit_target(0);
    at = HIGH;
    emit_target(0);
    for (unsigned round = 0; round < 4 * ROUNDS; round++) {
        uint32_t entry = round & 1 ? HIGH : direct;
        out8(0x92, port | ON);
        *word_at(LOW + 1) = random32();
        *word_at(HIGH + 1) = random32();
        EXPECT_THAT(*word_at(LOW + 1) != *word_at(HIGH + 1), 0);
        run_(entry, HIGH + 1, __LINE__);
        out8(0x92, port & ~ON);
        run_(entry, LOW + 1, __LINE__);
        *word_at(HIGH + 1) = random32();
        run_(entry, LOW + 1, __LINE__);
        struct guest_call call = {.code = both, .ax = port | ON, .dx = 0x92};
        run_registers(&call, HIGH + 1, __LINE__);
        call = (struct guest_call){.code = both, .ax = (uint8_t)(port & ~ON), .dx = 0x92};
        run_registers(&call, LOW + 1, __LINE__);
    }
    out8(0x92, port | ON);
}

void guest_main(void)
{
    random_state = 20240608;
    make_mappings();
    test_device_memory();
    test_end_of_memory();
    test_page_tables();
    test_descriptors();
    test_segment_bases();
    test_vm86();
    test_device_writes();
    test_frames();
    test_far_calls();
    test_task_switches();
    test_steps();
    test_strings();
    test_shadow();
    test_image();
    test_a20();
    print("%u cases\n", cases);
}
