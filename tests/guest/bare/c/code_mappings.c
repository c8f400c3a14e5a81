/*
 * MODES 32 64. Code pages whose translation changes at random: other frames, rights, large pages,
 * two address spaces, writes through every view in between (SDM vol. 3, 4.10 and 11.6). After
 * INVLPG or a load of CR3 what runs is what the tables and memory say.
 */
#include "paging.h"

enum {
    FRAME_AT = 0x54000, /* also the offset in the window, so that a large page maps the same */
    FRAMES = 6,
    VIEWS = 3, /* consecutive linear pages, the last one only for what the others lead to */
    WINDOW = 0x40000000 + FRAME_AT,
    STUBS_AT = 0x50000,
    STORE_AND_RETURN = 0x52000,
    MAP_AND_RETURN = 0x52010,
    SPEED_AT = 0x5c000,
    SPACES = 2,
    STEPS = 30000,
    SPEED_ROUNDS = 100000
};

enum place { FIRST, MIDDLE, LATE, LOOP, CALLS_ON, JUMPS_ON, RUNS_ON, CALLS_OUT, PLACES };
enum {
    AT_FIRST = 2,
    AT_MIDDLE = 0x100,
    AT_FUNCTION = 0x180,
    AT_LOOP = 0x200,
    AT_CALL = 0x300,
    AT_JUMP = 0x320,
    AT_OUT = 0x340,
    AT_DATA = 0x400,
    AT_LATE = 0x7f0,
    AT_END = 0xff0,
    AT_CROSSING = 0xffd
};
static const uint16_t place_at[PLACES] = {AT_FIRST, AT_MIDDLE, AT_LATE, AT_LOOP,
                                          AT_CALL,  AT_JUMP,   AT_END,  AT_OUT};

enum way { DIRECT, JUMP, CALL, JUMP_INDIRECT, RETURN, STORE_AND_JUMP, MAP_AND_JUMP, WAYS };

static __attribute__((aligned(PAGE))) uintptr_t directory[SPACES][PAGE / sizeof(uintptr_t)],
    table[SPACES][PAGE / sizeof(uintptr_t)];
#ifdef __x86_64__
static __attribute__((aligned(PAGE))) uintptr_t top[PAGE / 8], middle[PAGE / 8];
#else
static __attribute__((aligned(PAGE))) uint32_t identity[PAGE / 4];
#endif

static struct {
    uint8_t frame[SPACES][VIEWS];
    bool writable[SPACES][VIEWS], large[SPACES];
    bool global[VIEWS]; /* the same in both spaces */
    unsigned space;
} model;

static uint32_t at, random_state, cases;

static uint32_t random32(void)
{
    random_state = random_state * 1664525 + 1013904223;
    return random_state ^ random_state >> 15;
}

static uint32_t below(uint32_t n)
{
    return (random32() >> 4) % n;
}

static void emit(unsigned count, uint64_t code) /* lowest byte first */
{
    for (; count; count--, code >>= 8)
        *(volatile uint8_t *)(uintptr_t)at++ = (uint8_t)code;
}

static void emit_relative(unsigned opcode, uint32_t to)
{
    emit(1, opcode);
    emit(4, to - (at + 4));
}

/* --- frames --- */

static uint32_t frame_address(unsigned frame)
{
    return FRAME_AT + frame * PAGE;
}

/* Two bytes that are instructions, and the end of one that begins on the page before. */
static uint16_t random_start(void)
{
    static const uint8_t simple[] = {0x90, 0xf8, 0xf9, 0xf5, 0xfc, 0x98};
    return (uint16_t)(simple[below(6)] | simple[below(6)] << 8);
}

static void make_frame(unsigned frame)
{
    static const uint16_t targets[] = {AT_FIRST, AT_MIDDLE, AT_LATE};
    uint32_t page = frame_address(frame);
    for (uint32_t a = page; a < page + PAGE; a += 4)
        *(volatile uint32_t *)(uintptr_t)a = 0x90909090;
    at = page;
    emit(2, random_start());
    for (unsigned i = 0; i < 3; i++) { /* MOV EBP, constant; UD2 */
        at = page + targets[i];
        emit(1, 0xbd);
        emit(4, random32());
        emit(2, 0x0b0f);
    }
    at = page + AT_FUNCTION;
    emit(1, 0xbd);
    emit(4, random32());
    emit(1, 0xc3);
    at = page + AT_LOOP; /* MOV ECX, 3; MOV EBP, constant; SUB ECX, 1; JNZ; UD2 */
    emit(5, 0x3b9);
    emit(1, 0xbd);
    emit(4, random32());
    emit(5, 0xf67501e983);
    emit(2, 0x0b0f);
    at = page + AT_CALL;
    emit_relative(0xe8, page + PAGE + AT_FUNCTION);
    emit(2, 0x0b0f);
    at = page + AT_JUMP;
    emit_relative(0xe9, page + PAGE + AT_MIDDLE);
    at = page + AT_OUT; /* CALL EAX, and the target where that returns */
    emit(2, 0xd0ff);
    emit(1, 0xbd);
    emit(4, random32());
    emit(2, 0x0b0f);
    if (frame & 1) {
        at = page + AT_CROSSING;
        emit(3, 0xb8 | random32() << 8); /* MOV EAX, constant, of which two bytes follow */
    }
}

/* --- what should happen --- */

static unsigned frame_of(unsigned view)
{
    return model.large[model.space] ? view : model.frame[model.space][view];
}

static uint32_t read32(uint32_t address)
{
    return *(volatile uint32_t *)(uintptr_t)address;
}

/* Where the constant is that EBP gets. */
static uint32_t constant_of(unsigned view, enum place place)
{
    switch (place) {
    case FIRST:
    case MIDDLE:
    case LATE:
        return frame_address(frame_of(view)) + place_at[place] + 1;
    case LOOP:
        return frame_address(frame_of(view)) + AT_LOOP + 6;
    case CALLS_ON:
        return frame_address(frame_of(view + 1)) + AT_FUNCTION + 1;
    case JUMPS_ON:
        return frame_address(frame_of(view + 1)) + AT_MIDDLE + 1;
    case CALLS_OUT:
        return frame_address(frame_of(view)) + AT_OUT + 3;
    default:
        return frame_address(frame_of(view + 1)) + AT_FIRST + 1;
    }
}

/* --- changes --- */

static uintptr_t root(unsigned space)
{
#ifdef __x86_64__
    return space ? (uintptr_t)top : 0x10000;
#else
    return (uintptr_t)directory[space];
#endif
}

static volatile uintptr_t *large_entry(unsigned space)
{
    return &directory[space][MODE == 64 ? 0 : 0x40000000 >> 22];
}

static volatile uintptr_t *small_entry(unsigned space, unsigned view)
{
    return &table[space][FRAME_AT / PAGE + view];
}

static uintptr_t small_value(unsigned frame, bool writable)
{
    return frame_address(frame) | PT_P | PT_U | (writable ? PT_W : 0) | below(4) * PT_A;
}

static void set_view(unsigned space, unsigned view);

/* What the processor knows about a global page survives MOV CR3. */
static void leave_global(unsigned view)
{
    if (!model.global[view])
        return;
    model.global[view] = false;
    for (unsigned space = 0; space < SPACES; space++)
        set_view(space, view);
    invlpg(WINDOW + view * PAGE);
}

static void make_global(unsigned view)
{
    if (model.large[0] || model.large[1])
        return;
    leave_global(view);
    set_view(0, view);
    model.frame[1][view] = model.frame[0][view];
    model.writable[1][view] = model.writable[0][view];
    model.global[view] = true;
    for (unsigned space = 0; space < SPACES; space++)
        *small_entry(space, view) =
            small_value(model.frame[0][view], model.writable[0][view]) | PT_G;
    invlpg(WINDOW + view * PAGE);
}

static void set_view(unsigned space, unsigned view)
{
    leave_global(view);
    model.frame[space][view] = (uint8_t)below(FRAMES);
    model.writable[space][view] = below(4) != 0;
    *small_entry(space, view) = small_value(model.frame[space][view], model.writable[space][view]);
}

static void set_large(unsigned space, bool large)
{
    for (unsigned view = 0; view < VIEWS; view++)
        leave_global(view);
    model.large[space] = large;
    *large_entry(space) = (large ? PT_PS : (uintptr_t)table[space]) | PT_ALL;
}

static void write_somewhere(uint32_t address)
{
    switch (below(3)) {
    case 0:
        *(volatile uint8_t *)(uintptr_t)(address + below(4)) = (uint8_t)random32();
        break;
    case 1:
        *(volatile uint16_t *)(uintptr_t)(address + below(3)) = (uint16_t)random32();
        break;
    default:
        *(volatile uint32_t *)(uintptr_t)address = random32();
    }
}

static void change(void)
{
    unsigned view = below(VIEWS), space = model.space;
    uint32_t constant = constant_of(below(VIEWS - 1), (enum place)below(PLACES));
    switch (below(13)) {
    case 0:
    case 1:
        set_view(space, view);
        invlpg(WINDOW + view * PAGE);
        break;
    case 2:
        for (unsigned i = 0; i < VIEWS; i++)
            set_view(space, i);
        flush();
        break;
    case 3: /* of the other address space: the next load of CR3 forgets what was there */
        set_view(!space, view);
        break;
    case 4:
    case 5:
        model.space = !space;
        write_cr3(root(model.space));
        break;
    case 6:
        set_large(space, !model.large[space]);
        flush();
        break;
    case 7:
        set_view(space, view);
        write_cr4(read_cr4() ^ CR4_PGE); /* drops all translations (SDM vol. 3, 4.10.4.1) */
        break;
    case 8:
        make_global(view);
        break;
    case 9:
        write_somewhere(constant);
        break;
    case 10: /* through the window */
        view = below(VIEWS);
        if (model.large[space] || model.writable[space][view])
            write_somewhere(WINDOW + view * PAGE + place_at[below(3)] + 1);
        break;
    default: /* data on a page of code, the start of the page */
        for (unsigned i = below(20); i; i--)
            write_somewhere(frame_address(below(FRAMES)) + AT_DATA + 4 * below(32));
        *(volatile uint16_t *)(uintptr_t)frame_address(below(FRAMES)) = random_start();
    }
}

/* --- runs --- */

/* Code that goes to a place in the window, one for each way. */
static uint32_t stub_of(unsigned view, enum place place, enum way way)
{
    uint32_t to = WINDOW + view * PAGE + place_at[place];
    uint32_t stub = STUBS_AT + ((view * PLACES + place) * WAYS + way) * 16;
    if (way == DIRECT)
        return to;
    at = stub;
    switch (way) {
    case CALL:
        emit_relative(0xe8, to);
        break;
    case JUMP_INDIRECT:
        emit(1, 0xb9); /* MOV ECX, to; JMP ECX */
        emit(4, to);
        emit(2, 0xe1ff);
        break;
    case RETURN:
        emit(1, 0x68); /* PUSH to; RET */
        emit(4, to);
        emit(1, 0xc3);
        break;
    case STORE_AND_JUMP:
        emit(2, 0x1e89); /* MOV [ESI], EBX */
        emit_relative(0xe9, to);
        break;
    case MAP_AND_JUMP:
        emit(2, 0x1e89);
        emit(3, 0x3f010f); /* INVLPG [EDI] */
        emit_relative(0xe9, to);
        break;
    default:
        emit_relative(0xe9, to);
    }
    return stub;
}

static void make_stubs(void)
{
    at = STORE_AND_RETURN;
    emit(3, 0xc31e89); /* MOV [ESI], EBX; RET */
    at = MAP_AND_RETURN;
    emit(6, 0xc33f010f1e89); /* MOV [ESI], EBX; INVLPG [EDI]; RET */
    for (unsigned view = 0; view < VIEWS - 1; view++)
        for (unsigned place = 0; place < PLACES; place++)
            for (unsigned way = JUMP; way < WAYS; way++)
                stub_of(view, (enum place)place, (enum way)way);
}

static void run(void)
{
    unsigned view = below(VIEWS - 1), user = below(2), other = below(VIEWS), space = model.space;
    enum place place = (enum place)below(PLACES);
    enum way way = (enum way)below(place == CALLS_OUT ? (unsigned)STORE_AND_JUMP : (unsigned)WAYS);
    bool remaps = way == MAP_AND_JUMP || (place == CALLS_OUT && below(2));
    uint32_t stub = STUBS_AT + ((view * PLACES + place) * WAYS + way) * 16;
    struct guest_call call = {.code = stub, .ax = 0x600};
    if (way == DIRECT)
        call.code = WINDOW + view * PAGE + place_at[place];
    if (remaps) {
        bool writable = below(2);
        leave_global(other);
        user = 0;
        model.frame[space][other] = (uint8_t)below(FRAMES);
        model.writable[space][other] = writable;
        call.bx = small_value(model.frame[space][other], writable);
        call.si = (uintptr_t)small_entry(space, other);
        call.di = WINDOW + other * PAGE;
    }
    uint32_t constant = constant_of(view, place);
    if (place == CALLS_OUT)
        call.ax = remaps ? MAP_AND_RETURN : STORE_AND_RETURN;
    if (way == STORE_AND_JUMP || (place == CALLS_OUT && !remaps)) {
        call.si = constant;
        call.bx = random32();
    }
    call.user = user;
    guest_enter(&call);
    uint32_t wanted = read32(constant);
    if (SEEN.vector != VECTOR_UD || (uint32_t)call.bp != wanted) {
        print("%u view, place %u, way %u, case %u\n", view, place, way, cases);
    }
    EXPECT_THAT(SEEN.vector == VECTOR_UD, SEEN.vector);
    EXPECT_THAT((uint32_t)call.bp == wanted, call.bp);
    if (place == RUNS_ON && (frame_of(view) & 1)) { /* MOV EAX, half of it on either page */
        uint32_t low = read32(frame_address(frame_of(view)) + PAGE - 4) >> 16;
        uint32_t high = read32(frame_address(frame_of(view + 1))) << 16;
        uint32_t eax = (uint32_t)call.ax;
        EXPECT_THAT(eax == (high | low), eax);
    }
    cases++;
}

static void make_spaces(void)
{
#ifdef __x86_64__
    *(volatile uintptr_t *)0x11008 = (uintptr_t)directory[0] | PT_ALL; /* the second GiB */
    top[0] = (uintptr_t)middle | PT_ALL;
    middle[0] = *(volatile uintptr_t *)0x11000;
    middle[1] = (uintptr_t)directory[1] | PT_ALL;
#else
    for (unsigned i = 0; i < PAGE / 4; i++)
        identity[i] = i * PAGE | PT_ALL;
    for (unsigned space = 0; space < SPACES; space++)
        directory[space][0] = (uintptr_t)identity | PT_ALL;
    write_cr4(read_cr4() | CR4_PSE);
#endif
    for (unsigned space = 0; space < SPACES; space++) {
        for (unsigned view = 0; view < VIEWS; view++)
            set_view(space, view);
        set_large(space, false);
    }
    write_cr3(root(0));
    write_cr0(read_cr0() | CR0_PG | CR0_WP);
}

/* --- speed: printed, not judged --- */

static uint64_t read_tsc(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return low | (uint64_t)high << 32;
}

enum written { NEXT_INSTRUCTION, OTHER_PAGE, DATA_BESIDE };

/* A loop that stores its counter into what it runs then, or beside it. */
static void measure(const char *name, enum written written)
{
    uint32_t function = at = SPEED_AT + PAGE, target, loop;
    emit(5, 0xbd); /* MOV EBP, 0; RET */
    emit(1, 0xc3);
    loop = at = SPEED_AT;
    emit(2, 0x0e89); /* MOV [ESI], ECX */
    if (written == NEXT_INSTRUCTION) {
        target = at + 1;
        emit(5, 0xbd);
    } else {
        target = written == OTHER_PAGE ? function + 1 : loop + 0x80;
        emit_relative(0xe8, function);
    }
    emit(3, 0x01e983); /* SUB ECX, 1; JNZ */
    emit(2, 0x75 | (loop - (at + 2)) << 8);
    emit(2, 0x0b0f);
    struct guest_call call = {.code = loop, .cx = SPEED_ROUNDS, .si = target};
    uint64_t start = read_tsc();
    guest_enter(&call);
    uint64_t ticks = read_tsc() - start;
    EXPECT_THAT(call.cx == 0 && read32(target) == 1, call.cx);
    EXPECT_THAT(call.bp == (written != DATA_BESIDE), call.bp);
    print("%s: %u Mi ticks for 100000 rounds\n", name, (uint32_t)(ticks >> 20));
}

void guest_main(void)
{
    random_state = 20240609;
    for (unsigned frame = 0; frame < FRAMES; frame++)
        make_frame(frame);
    make_stubs();
    make_spaces();
    for (unsigned step = 0; step < STEPS; step++) {
        if (below(3) == 0)
            change();
        run();
    }
    print("%u cases\n", cases);
    measure("next instruction", NEXT_INSTRUCTION);
    measure("other page", OTHER_PAGE);
    measure("data beside code", DATA_BESIDE);
}
