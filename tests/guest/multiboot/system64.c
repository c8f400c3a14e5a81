/*
 * System registers, segments and far transfers of 64-bit mode, and features that CPUID does not
 * offer: their control bits cannot be set, their registers and instructions do not exist (SDM
 * vol. 2 and vol. 3, chapters 2, 3 and 5).
 */
#include "machine64.h"

#define CANONICAL_48 0xffffaaaaaaaaaaaaull
#define CANONICAL_57 0xffaaaaaaaaaaaaaaull
#define CANONICAL_NO 0xaaaaaaaaaaaaaaaaull

enum { EBX = 1, ECX, EDX };

static uint64_t try_cr4(uint64_t value)
{
    return TRY("movq %0, %%cr4", : "r"(value));
}

static void test_control_bits(void)
{
    static const struct {
        unsigned bit;
        uint32_t leaf;
        unsigned reg, feature;
    } rows[] = {
        {11, 7, ECX, 2},  {12, 7, ECX, 16}, {13, 1, ECX, 5}, {14, 1, ECX, 6},    {16, 7, EBX, 0},
        {17, 1, ECX, 17}, {18, 1, ECX, 26}, {20, 7, EBX, 7}, {21, 7, EBX, 20},   {22, 7, ECX, 3},
        {23, 7, ECX, 7},  {24, 7, ECX, 31}, {25, 7, EDX, 5}, {28, 0x1000, 0, 0},
    };
    uint64_t cr4 = read_cr4();
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bool has = cpuid_bit(rows[i].leaf, rows[i].reg, rows[i].feature) && rows[i].bit != 12;
        if (has && rows[i].bit == 20)
            continue; /* SMEP: every page here is the users', too */
        uint64_t vector = try_cr4(cr4 | 1ull << rows[i].bit);
        check(vector == (has ? (uint64_t)NO_FAULT : (uint64_t)GP), "CR4 bit", rows[i].bit);
        check(read_cr4() == (has ? cr4 | 1ull << rows[i].bit : cr4), "CR4", read_cr4());
        write_cr4(cr4);
    }
    for (unsigned bit = 32; bit < 64; bit++)
        check(try_cr4(cr4 | 1ull << bit) == GP, "CR4 bit", bit);
    CHECK(try_cr4(cr4 & ~0x20ull) == GP, seen.vector); /* PAE */
    uint64_t cr0 = read_cr0();
    CHECK(TRY("movq %0, %%cr0", : "r"(cr0 & ~0x80000000ull)) == GP, seen.vector); /* PG, L = 1 */
    CHECK(TRY("movq %0, %%cr0", : "r"((cr0 | 1 << 29) & ~(1ull << 30))) == GP, seen.vector);
    CHECK(TRY("movq %0, %%cr0", : "r"(cr0 | 1ull << 32)) == GP, seen.vector);
    CHECK(TRY("movq %0, %%cr0", : "r"(cr0 ^ 8)) == NO_FAULT && read_cr0() == (cr0 ^ 8), read_cr0());
    write_cr0(cr0);
}

extern const uint8_t *volatile code_at;
const uint8_t *volatile code_at;
static uint64_t try_code(const uint8_t *code, unsigned size)
{
    static uint8_t copy[32];
    for (unsigned i = 0; i < 32; i++)
        copy[i] = i < size ? code[i] : 0xc3;
    code_at = copy;
    return TRY("movq %%rsp, %%rbx\n xorl %%eax, %%eax\n xorl %%ecx, %%ecx\n xorl %%edx, %%edx\n"
               "call *code_at",
               :
               : "rax", "rbx", "rcx", "rdx", "memory");
}

static void test_absent_instructions(void)
{
    static const struct {
        const char *name;
        uint8_t size, code[10];
        uint32_t leaf;
        unsigned reg, feature;
    } rows[] = {
        {"INVPCID", 5, {0x66, 0x0f, 0x38, 0x82, 0x0b}, 7, EBX, 10},
        {"CLAC", 3, {0x0f, 0x01, 0xca}, 7, EBX, 20},
        {"STAC", 3, {0x0f, 0x01, 0xcb}, 7, EBX, 20},
        {"RDPKRU", 3, {0x0f, 0x01, 0xee}, 7, ECX, 4},
        {"WRPKRU", 3, {0x0f, 0x01, 0xef}, 7, ECX, 4},
        {"VMCALL", 3, {0x0f, 0x01, 0xc1}, 1, ECX, 5},
        {"VMMCALL", 3, {0x0f, 0x01, 0xd9}, 0x80000001, ECX, 2},
        {"VMXOFF", 3, {0x0f, 0x01, 0xc4}, 1, ECX, 5},
        {"MONITOR", 3, {0x0f, 0x01, 0xc8}, 1, ECX, 3},
        {"MWAIT", 3, {0x0f, 0x01, 0xc9}, 1, ECX, 3},
        {"RDPRU", 3, {0x0f, 0x01, 0xfd}, 0x80000008, EBX, 4},
        {"XEND", 3, {0x0f, 0x01, 0xd5}, 7, EBX, 11},
        {"XTEST", 3, {0x0f, 0x01, 0xd6}, 7, EBX, 11},
        {"PCOMMIT", 4, {0x66, 0x0f, 0xae, 0xf8}, 7, EBX, 22},
        {"TPAUSE", 4, {0x66, 0x0f, 0xae, 0xf1}, 7, ECX, 5},
        {"UMONITOR", 4, {0xf3, 0x0f, 0xae, 0xf3}, 7, ECX, 5},
        {"INCSSPQ", 5, {0xf3, 0x48, 0x0f, 0xae, 0xe8}, 7, ECX, 7},
        {"CLWB", 4, {0x66, 0x0f, 0xae, 0x33}, 7, EBX, 24},
        {"CLFLUSHOPT", 4, {0x66, 0x0f, 0xae, 0x3b}, 7, EBX, 23},
        {"CLFLUSH", 3, {0x0f, 0xae, 0x3b}, 1, EDX, 19},
        {"SFENCE", 3, {0x0f, 0xae, 0xf8}, 1, EDX, 25},
        {"LFENCE", 3, {0x0f, 0xae, 0xe8}, 1, EDX, 26},
        {"MFENCE", 3, {0x0f, 0xae, 0xf0}, 1, EDX, 26},
        {"RDPID", 4, {0xf3, 0x0f, 0xc7, 0xf8}, 7, ECX, 22},
        {"RDFSBASE", 5, {0xf3, 0x48, 0x0f, 0xae, 0xc0}, 7, EBX, 0},
        {"RDSEED", 3, {0x0f, 0xc7, 0xf8}, 7, EBX, 18},
        {"RDRAND", 3, {0x0f, 0xc7, 0xf0}, 1, ECX, 30},
        {"RDTSCP", 3, {0x0f, 0x01, 0xf9}, 0x80000001, EDX, 27},
        {"SERIALIZE", 3, {0x0f, 0x01, 0xe8}, 7, EDX, 14},
        {"CLDEMOTE (a NOP)", 3, {0x0f, 0x1c, 0x03}, 0, 0, 0},
        {"RDSSPQ (a NOP)", 5, {0xf3, 0x48, 0x0f, 0x1e, 0xc8}, 0, 0, 0},
        {"ENDBR64 (a NOP)", 4, {0xf3, 0x0f, 0x1e, 0xfa}, 0, 0, 0},
        {"PREFETCHW (a NOP)", 3, {0x0f, 0x0d, 0x0b}, 0, 0, 0},
    };
    write_cr4(read_cr4() | (cpuid_bit(7, EBX, 0) ? 1 << 16 : 0)); /* FSGSBASE */
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bool has = !rows[i].leaf || cpuid_bit(rows[i].leaf, rows[i].reg, rows[i].feature);
        uint64_t vector = try_code(rows[i].code, rows[i].size);
        check(vector == (has ? (uint64_t)NO_FAULT : (uint64_t)UD), rows[i].name, vector);
    }
    /* LEA, MOVBE, LDS, BOUND, MOV CS with registers or not at all. */
    static const uint8_t undefined[][6] = {
        {0x8d, 0xc0},             /* LEA of a register */
        {0x0f, 0x38, 0xf0, 0xc0}, /* MOVBE or CRC32 without F2 of a register */
        {0x8e, 0xc8},             /* MOV CS */
        {0x0f, 0xb2, 0xc0},       /* LSS of a register */
        {0x0f, 0xc7, 0xc8},       /* CMPXCHG8B of a register */
        {0x0f, 0x01, 0xc0},       /* SGDT: ENCLV */
        {0xff, 0xd8},
        {0xff, 0xe8}, /* far CALL and JMP of a register */
        {0xff, 0xf8},
        {0xfe, 0xd0}, /* no such operations */
        {0x8f, 0xc8},
        {0xc6, 0xc8, 1}, /* XOP without its bits, MOV with /1 */
        {0xf0, 0x90},
        {0xf0, 0x03, 3},    /* LOCK that is not allowed */
        {0x0f, 0x20, 0xc8}, /* CR1 */
        {0x0f, 0x22, 0xe8}, /* CR5 */
        {0x0f, 0x0b},
        {0x0f, 0xb9, 0xc0},
        {0x0f, 0xff, 0xc0},
        {0x06},
        {0x27},
        {0x60},
        {0x9a},
        {0xce},
        {0xd4, 10},
        {0xd6},
        {0xea},
        {0x82, 0xc0, 1},
    };
    for (unsigned i = 0; i < sizeof(undefined) / sizeof(undefined[0]); i++)
        check(try_code(undefined[i], 6) == UD, "undefined instruction", i);
}

struct table_pointer {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

static void test_canonical_registers(void)
{
    static const uint64_t values[] = {CANONICAL_48, CANONICAL_57, CANONICAL_NO};
    static const uint32_t msrs[] = {0xc0000100, 0xc0000101, 0xc0000102, 0xc0000082,
                                    0xc0000083, 0x175,      0x176};
    for (unsigned i = 0; i < 3; i++) {
        uint64_t value = values[i], vector = i ? (uint64_t)GP : (uint64_t)NO_FAULT;
        for (unsigned j = 0; j < sizeof(msrs) / sizeof(msrs[0]); j++) {
            uint64_t old = rdmsr(msrs[j]);
            uint64_t got = TRY("wrmsr",
                               : "c"(msrs[j]), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
            check(got == vector, "WRMSR of an address", msrs[j]);
            check(rdmsr(msrs[j]) == (i ? old : value), "RDMSR of an address", msrs[j]);
            wrmsr(msrs[j], old);
        }
        struct table_pointer pointer = {0xffff, value}, old, now;
        __asm__ volatile("sidt %0" : "=m"(old));
        uint64_t got = TRY("lidt %1\n sidt %0\n lidt %2", "=m"(now) : "m"(pointer), "m"(old));
        CHECK(got == vector && (i || now.base == value), got);
        __asm__ volatile("sgdt %0" : "=m"(old));
        got = TRY("lgdt %1\n sgdt %0\n lgdt %2", "=m"(now) : "m"(pointer), "m"(old));
        CHECK(got == vector && (i || now.base == value), got);
        /* LDT and TSS bases, in descriptors of 16 bytes. */
        uint64_t low =
            0x0000820000000fffull | (value & 0xffffff) << 16 | (value >> 24 & 0xff) << 56;
        gdt[SPARE / 8] = low;
        gdt[SPARE / 8 + 1] = value >> 32;
        got = TRY("lldt %w0", : "r"(SPARE));
        CHECK(got == vector, got);
        gdt[SPARE / 8] = low ^ 0x00000b0000000000;
        got = TRY("ltr %w0", : "r"(SPARE));
        CHECK(got == vector, got);
        gdt[TASK / 8] &= ~(1ull << 41);
        CHECK(TRY("ltr %w0", : "r"(TASK)) == NO_FAULT, seen.vector);
        __asm__ volatile("lldt %w0" : : "r"(0));
    }
    gdt[SPARE / 8 + 1] = 1ull << 40; /* a type in the upper half */
    CHECK(TRY("lldt %w0", : "r"(SPARE)) == GP && seen.error == SPARE, seen.vector);
}

static void test_status_word(void)
{
    uint64_t cr0 = read_cr0(), rax, pattern = 0x1234567890abcdef;
    uint64_t cells[2] = {-1ull, -1ull};
    __asm__ volatile("smsww %w0" : "=a"(rax) : "0"(pattern));
    CHECK(rax == ((pattern & ~0xffffull) | (cr0 & 0xffff)), rax);
    __asm__ volatile("smswl %k0" : "=a"(rax) : "0"(pattern));
    CHECK(rax == (uint32_t)cr0, rax);
    __asm__ volatile("smswq %q0" : "=a"(rax) : "0"(pattern));
    CHECK(rax == cr0, rax);
    __asm__ volatile("smsw %0" : "=m"(cells[0]));
    CHECK(cells[0] == ((-1ull & ~0xffffull) | (cr0 & 0xffff)) && cells[1] == -1ull, cells[0]);
    __asm__ volatile("lmsw %w0" : : "r"((uint32_t)cr0 ^ 8));
    CHECK(read_cr0() == (cr0 ^ 8), read_cr0());
    uint16_t word = (uint16_t)((cr0 & ~1ull) ^ 4);
    __asm__ volatile("lmsw %0" : : "m"(word)); /* PE stays */
    CHECK(read_cr0() == (cr0 ^ 4), read_cr0());
    __asm__ volatile("lmsw %w0" : : "r"((uint32_t)cr0));
    CHECK(read_cr0() == cr0, read_cr0());
    uint16_t selector = TASK, found = 0;
    gdt[TASK / 8] &= ~(1ull << 41);
    __asm__ volatile("ltr %0" : : "m"(selector) : "memory");
    __asm__ volatile("str %0" : "=m"(found));
    CHECK(found == TASK && (gdt[TASK / 8] >> 41 & 1), found);
    CHECK(TRY("ltr %w0", : "r"(TASK)) == GP && seen.error == TASK, seen.error); /* busy */
}

static void test_far_transfers(void)
{
    struct {
        uint64_t offset;
        uint16_t selector;
    } __attribute__((packed)) wide = {0, KERNEL_CODE};
    struct {
        uint32_t offset;
        uint16_t selector;
    } __attribute__((packed)) narrow = {0, KERNEL_CODE};
    uint64_t mark;
    __asm__ volatile("movl $0, %k0\n movq $1f, %1\n rex.w ljmp *%1\n incl %k0\n 1:"
                     : "=&r"(mark), "+m"(wide));
    CHECK(mark == 0, mark);
    __asm__ volatile("movl $1f, %1\n ljmp *%1\n incl %k0\n 1:" : "+&r"(mark), "+m"(narrow));
    CHECK(mark == 0, mark);
    /* Calls with the three operand sizes and their returns. */
    extern uint8_t far_return64[], far_return32[];
    wide.offset = (uint64_t)far_return64;
    __asm__ volatile("movq %%rsp, %0\n rex.w lcall *%1\n subq %%rsp, %0" : "=&r"(mark) : "m"(wide));
    CHECK(mark == 0, mark);
    narrow.offset = (uint32_t)(uintptr_t)far_return32;
    __asm__ volatile("movq %%rsp, %0\n lcall *%1\n subq %%rsp, %0" : "=&r"(mark) : "m"(narrow));
    CHECK(mark == 0, mark);
    narrow.selector = ABSENT_CODE;
    CHECK(TRY("lcall *%0", : "m"(narrow)) == NP && seen.error == ABSENT_CODE, seen.error);
    narrow.selector = USER_CODE;
    CHECK(TRY("lcall *%0", : "m"(narrow)) == GP && seen.error == (USER_CODE & ~3), seen.error);
    narrow.selector = 0;
    CHECK(TRY("ljmp *%0", : "m"(narrow)) == GP && seen.error == 0, seen.error);
    wide.offset = CANONICAL_NO;
    CHECK(TRY("rex.w ljmp *%0", : "m"(wide)) == GP && seen.error == 0, seen.error);
}
__asm__("far_return64: lretq\nfar_return32: lretl");

/* Branches to addresses that are not canonical fault where they are; falling over the edge behind.
 */
static void test_canonical_branches(void)
{
    extern uint8_t at_jmp[], at_call[], at_ret[], at_iret[];
    static uint64_t stack[128], target = CANONICAL_NO;
    uint64_t *frame = stack + 100, rsp;
    CHECK(TRY(".globl at_jmp\nat_jmp: jmp *%0", : "m"(target)) == GP, seen.vector);
    CHECK(seen.rip == (uint64_t)at_jmp && seen.error == 0, seen.rip);
    TRY("movq %%rsp, %0\n .globl at_call\nat_call: call *%1", "=&r"(rsp) : "r"(CANONICAL_NO));
    CHECK(seen.vector == GP && seen.rip == (uint64_t)at_call, seen.vector);
    CHECK(seen.error == 0, seen.error);
    CHECK(seen.rsp == rsp, seen.rsp);
    frame[0] = CANONICAL_NO;
    frame[1] = KERNEL_CODE;
    frame[2] = 2;
    frame[3] = (uint64_t)frame;
    frame[4] = KERNEL_DATA;
    TRY("movq %0, %%rsp\n .globl at_ret\nat_ret: ret", : "r"(frame));
    CHECK(seen.vector == GP && seen.rip == (uint64_t)at_ret, seen.vector);
    CHECK(seen.rsp == (uint64_t)frame && seen.error == 0, seen.rsp);
    TRY("movq %0, %%rsp\n .globl at_iret\nat_iret: iretq", : "r"(frame));
    CHECK(seen.vector == GP && seen.rip == (uint64_t)at_iret, seen.vector);
    CHECK(seen.rsp == (uint64_t)frame && seen.error == 0, seen.rsp);
    CHECK(TRY("movq (%0), %%rax", : "r"(CANONICAL_NO) : "rax") == GP, seen.vector);
    CHECK(TRY("invlpg (%0)", : "r"(CANONICAL_NO)) == NO_FAULT, seen.vector);
    CHECK(TRY("movaps (%0), %%xmm0",
              : "r"((uint64_t)stack + 8 - (uint64_t)stack % 16)) == GP,
          seen.vector);
}

/* IRET to ring 3 takes a selector of ring 0 away, but not the base that WRMSR gave. */
static uint64_t found_behind_gs;
static uint16_t user_gs;
static void read_behind_gs(void)
{
    __asm__ volatile("movq %%gs:0x10, %0\n movw %%gs, %1" : "=r"(found_behind_gs), "=m"(user_gs));
}

static void test_hidden_segments(void)
{
    static uint64_t cells[3] = {0, 0, 0x123456789abcdef};
    uint16_t ss;
    __asm__ volatile("movw %w0, %%gs" : : "r"(KERNEL_DATA));
    wrmsr(0xc0000101, (uint64_t)cells);
    run_in_user(read_behind_gs);
    CHECK(found_behind_gs == cells[2], found_behind_gs);
    CHECK(user_gs == 0, user_gs);
    CHECK(rdmsr(0xc0000101) == (uint64_t)cells, rdmsr(0xc0000101));
    __asm__ volatile("movw %w1, %%ss\n movw %%ss, %0" : "=m"(ss) : "r"(0));
    CHECK(ss == 0, ss);
    CHECK(TRY("movw %w0, %%ss", : "r"(3)) == GP && seen.error == 0, seen.vector);
    __asm__ volatile("movw %w0, %%ss" : : "r"(KERNEL_DATA));
}

static uint64_t try_xgetbv(uint64_t rcx, uint64_t *value)
{
    uint32_t low = 0, high = 0;
    uint64_t vector = TRY("xgetbv", "+a"(low), "+d"(high) : "c"(rcx));
    *value = low | (uint64_t)high << 32;
    return vector;
}

static uint64_t try_xsetbv(uint64_t rcx, uint64_t value)
{
    return TRY("xsetbv", : "c"(rcx), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

static void test_extended_control(void)
{
    static const uint64_t refused[] = {0, 2, 4, 5, 1ull << 63 | 3};
    uint64_t value;
    write_cr4(read_cr4() & ~(1ull << 18));
    CHECK(!cpuid_bit(1, ECX, 27), 0);
    CHECK(try_xgetbv(0, &value) == UD, seen.vector);
    CHECK(try_xsetbv(0, 3) == UD, seen.vector);
    if (!cpuid_bit(1, ECX, 26))
        return;
    write_cr4(read_cr4() | 1ull << 18);
    CHECK(cpuid_bit(1, ECX, 27), 0);
    CHECK(try_xsetbv(0x1234500000000, 1) == NO_FAULT, seen.vector); /* ECX counts */
    CHECK(try_xgetbv(0x5432100000000, &value) == NO_FAULT && value == 1, value);
    CHECK(try_xsetbv(0, 3) == NO_FAULT, seen.vector);
    for (unsigned i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        check(try_xsetbv(0, refused[i]) == GP, "XCR0", refused[i]);
    for (unsigned i = 2; i < 32; i++) {
        check(try_xgetbv(i, &value) == GP && try_xgetbv(1ull << i, &value) == GP, "XGETBV", i);
        check(try_xsetbv(i, 3) == GP && try_xsetbv(1ull << i, 3) == GP, "XSETBV", i);
    }
    CHECK(try_xsetbv(1, 3) == GP, seen.vector);
}

void test_main(void)
{
    test_control_bits();
    test_absent_instructions();
    test_canonical_registers();
    test_status_word();
    test_far_transfers();
    test_canonical_branches();
    test_hidden_segments();
    test_extended_control();
}
