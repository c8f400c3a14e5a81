/*
 * Debug exceptions seen by a kernel and its user programs: which of them come, in which order, with
 * which pc and DR6, when single step, the shadows of MOV SS and STI, breakpoints, INT1, INT3 and
 * instructions that a hypervisor would emulate meet (SDM vol. 3, 6.8.3, 17.2 and 17.3).
 */
#include "machine64.h"

enum {
    FIXED = 0xffff0ff0,
    BS = FIXED | 1 << 14,
    BD = FIXED | 1 << 13,
    MAX = 16,
};

struct step {
    uint64_t rip, dr6, rflags;
    uint16_t cs;
};

static struct step steps[MAX];
static unsigned count;
static uint64_t watched[2], breakpoint_rip, stack_selector = KERNEL_DATA;
static volatile uint64_t start __asm__("step_start"); /* written by the programs */

static void on_debug(struct frame *frame)
{
    if (count < MAX)
        steps[count] = (struct step){frame->rip, read_dr6(), frame->rflags, (uint16_t)frame->cs};
    count++;
    if ((read_dr6() & 15) && !(frame->rflags & TF))
        frame->rflags |= RF;
    if (count >= MAX) {
        frame->rflags &= ~(uint64_t)TF;
        write_dr7(0x400);
    }
}

static void on_breakpoint(struct frame *frame)
{
    breakpoint_rip = frame->rip;
}

static void clear(void)
{
    count = 0;
    write_dr6(FIXED);
}

/* Expects steps at distances from start, with DR6 as given for the first and BS for the rest. */
static void expect_steps(const char *name, unsigned number, const uint8_t *distances,
                         uint64_t first)
{
    check(count == number, name, count);
    for (unsigned i = 0; i < number && i < MAX; i++) {
        check(steps[i].rip == start + distances[i], name, steps[i].rip - start);
        check(steps[i].dr6 == (i ? BS : first), name, steps[i].dr6);
    }
}
#define EXPECT_STEPS(first, ...)                                                                   \
    expect_steps(__func__, sizeof((uint8_t[]){__VA_ARGS__}), (uint8_t[]){__VA_ARGS__}, first)

#define TF_ON  "pushfq\n orl $0x100, (%%rsp)\n popfq\n"
#define TF_OFF "pushfq\n andl $~0x100, (%%rsp)\n popfq\n"
#define START  "movq $1f, step_start\n"

/* What every program ends with: PUSHFQ (1 byte), ANDL (7 bytes), POPFQ (1 byte). */
static void step_plain(void)
{
    __asm__ volatile(START TF_ON "nop\n 1:" TF_OFF : : : "memory");
}

static void step_emulated(void)
{
    __asm__ volatile(START TF_ON "1: xorl %%eax, %%eax\n cpuid\n movl $0x3fd, %%edx\n inb %%dx, "
                                 "%%al\n outb %%al, $0x80\n" TF_OFF
                     :
                     :
                     : "rax", "rbx", "rcx", "rdx", "memory");
}

static void step_behind_sti(void)
{
    __asm__ volatile("cli\n" START TF_ON "sti\n 1: nop\n" TF_OFF "cli" : : : "memory");
}

static void step_behind_mov_ss(void)
{
    __asm__ volatile(START "movl %%ss, %%eax\n" TF_ON "movl %%eax, %%ss\n nop\n 1:" TF_OFF
                     :
                     :
                     : "rax", "memory");
}

static void step_int1(void)
{
    __asm__ volatile(START "movl %%ss, %%eax\n" TF_ON
                           "movl %%eax, %%ss\n .byte 0xf1\n 1: .byte 0xf1\n" TF_OFF
                     :
                     :
                     : "rax", "memory");
}

static void step_guarded_dr6(void)
{
    write_dr7(0x2400);
    __asm__ volatile(START "movl %%ss, %%eax\n movl $0xffff0ff0, %%edx\n" TF_ON
                           "movl %%eax, %%ss\n 1: movq %%rdx, %%dr6\n" TF_OFF
                     :
                     :
                     : "rax", "rdx", "memory");
}

static void step_halt(void)
{
    /* The trap ends the halt; nothing else would. */
    __asm__ volatile(START TF_ON "1: hlt\n" TF_OFF : : : "memory");
}

static void step_pop_mem_and_strings(void)
{
    static uint64_t cell;
    __asm__ volatile(START "leaq %0, %%rdi\n movl $2, %%ecx\n pushq $77\n" TF_ON
                           "1: popq (%%rdi)\n rep stosb\n" TF_OFF
                     : "+m"(cell)
                     :
                     : "rcx", "rdi", "memory");
}

static void test_steps(bool user)
{
    void (*run)(void (*)(void)) = user ? run_in_user : 0;
#define RUN(program)                                                                               \
    do {                                                                                           \
        clear();                                                                                   \
        if (run)                                                                                   \
            run(program);                                                                          \
        else                                                                                       \
            program();                                                                             \
    } while (0)
    RUN(step_plain);
    EXPECT_STEPS(BS, 0, 1, 8, 9);
    RUN(step_emulated);
    EXPECT_STEPS(BS, 2, 4, 9, 10, 12, 13, 20, 21);
    RUN(step_behind_sti);
    EXPECT_STEPS(BS, 0, 1, 2, 9, 10);
    RUN(step_behind_mov_ss);
    EXPECT_STEPS(BS, 0, 1, 8, 9);
    RUN(step_int1);
    check(count == 5 && steps[0].dr6 == FIXED && steps[1].dr6 == FIXED, "INT1 steps", count);
    check(steps[0].rip == start && steps[1].rip == start + 1, "INT1 pc", steps[1].rip - start);
    check(steps[2].rip == start + 2 && steps[2].dr6 == BS, "step behind INT1", steps[2].dr6);
    RUN(step_pop_mem_and_strings);
    EXPECT_STEPS(BS, 2, 2, 4, 5, 12, 13);
    for (unsigned i = 0; i < count && i < MAX; i++)
        check(steps[i].cs == (user ? USER_CODE : KERNEL_CODE), "CS of a step", steps[i].cs);
    if (user)
        return;
    RUN(step_guarded_dr6);
    EXPECT_STEPS(BD, 0, 3, 4, 11, 12);
    RUN(step_halt);
    EXPECT_STEPS(BS, 1, 2, 9, 10);
#undef RUN
}

__attribute__((noinline, noclone)) static void pass_here(void)
{
    write_dr7(0x402);
    __asm__ volatile(".globl here\nhere: nop");
    write_dr7(0x400);
}

__attribute__((noinline, noclone)) static void write_watched(void)
{
    write_dr7(0x00d00408); /* 4 bytes, write */
    __asm__ volatile("movq %%rax, %0\n .globl written\nwritten:" : "=m"(watched[0]) : "a"(42));
    write_dr7(0x400);
}

static void test_breakpoints(void)
{
    extern uint8_t here[];
    write_dr0((uint64_t)here);
    for (unsigned i = 0; i < 2; i++) {
        clear();
        write_dr6(i ? BS | 2 : FIXED); /* stale B1 goes, BS stays */
        pass_here();
        CHECK(count == 1, count);
        CHECK(steps[0].rip == (uint64_t)here, steps[0].rip);
        check(steps[0].dr6 == ((i ? BS : FIXED) | 1), "DR6 of a breakpoint", steps[0].dr6);
        check(!(steps[0].rflags & RF), "RF of a breakpoint", steps[0].rflags);
    }
    /* As if RF were set behind MOV SS. */
    extern uint8_t behind_ss[];
    write_dr0((uint64_t)behind_ss);
    clear();
    write_dr7(0x402);
    __asm__ volatile("movw %0, %%ss\n .globl behind_ss\nbehind_ss: nop" : : "m"(stack_selector));
    check(count == 0, "breakpoint behind MOV SS", count);
    clear();
    extern uint8_t behind_sti[];
    write_dr0((uint64_t)behind_sti);
    __asm__ volatile("cli\n sti\n .globl behind_sti\nbehind_sti: nop\n cli");
    check(count == 1, "breakpoint behind STI", count);
    write_dr7(0x400);
}

static void test_watchpoints(void)
{
    extern uint8_t written[];
    write_dr1((uint64_t)watched);
    for (unsigned i = 0; i < 2; i++) {
        clear();
        write_dr6(i ? BS : FIXED);
        write_watched();
        CHECK(count == 1, count);
        CHECK(steps[0].rip == (uint64_t)written, steps[0].rip);
        check(steps[0].dr6 == ((i ? BS : FIXED) | 2), "DR6 of a watchpoint", steps[0].dr6);
    }
    /* Ports, with CR4.DE. */
    write_cr4(read_cr4() | 8);
    write_dr1(0x80);
    clear();
    write_dr7(0x00200408);
    extern uint8_t behind_out[];
    __asm__ volatile("outb %%al, $0x80\n .globl behind_out\nbehind_out:" : : "a"(0));
    write_dr7(0x400);
    write_cr4(read_cr4() & ~8ull);
    check(count == 1 && steps[0].rip == (uint64_t)behind_out, "port watchpoint", count);
    check(steps[0].dr6 == (FIXED | 2), "DR6 of a port watchpoint", steps[0].dr6);
}

/* A watchpoint that MOV SS hits waits for the end of the next instruction, whatever that is. */
static void test_delayed_watchpoint(void)
{
    extern uint8_t behind_int1[], behind_int3[], entries[];
    write_dr1((uint64_t)&stack_selector);
    clear();
    write_dr7(0x00f00408);
    __asm__ volatile("movw %0, %%ss\n .byte 0x2e, 0x2e, 0xf1\n .globl behind_int1\nbehind_int1:"
                     :
                     : "m"(stack_selector));
    write_dr7(0x400);
    check(count == 1, "MOV SS watchpoint and INT1: one trap", count);
    check(steps[0].rip == (uint64_t)behind_int1, "its pc", steps[0].rip);
    check(steps[0].dr6 == (FIXED | 2), "its DR6", steps[0].dr6);

    clear();
    write_dr7(0x00f00408);
    __asm__ volatile("movw %0, %%ss\n int $1" : : "m"(stack_selector));
    write_dr7(0x400);
    check(count == 2, "MOV SS watchpoint and INT 1: both", count);
    check(steps[0].rip == (uint64_t)entries + 16, "the inner pc", steps[0].rip);

    clear();
    breakpoint_rip = 0;
    write_dr7(0x00f00408);
    __asm__ volatile(
        "movw %0, %%ss\n .byte 0x2e, 0x2e, 0x2e, 0xcc\n .globl behind_int3\nbehind_int3:"
        :
        : "m"(stack_selector));
    write_dr7(0x400);
    check(count == 1 && breakpoint_rip == (uint64_t)behind_int3, "and INT3: both", count);
    check(steps[0].rip == (uint64_t)entries + 3 * 16, "at the entry of #BP", steps[0].rip);
}

/* An instruction that faults met nothing; a port breakpoint in a repeated OUTS ends an iteration.
 */
static void test_incomplete_instructions(void)
{
    extern uint8_t at_outs[];
    uint64_t from = (uint64_t)watched, ecx = 3;
    write_dr1(from);
    clear();
    write_dr7(0x00b00408); /* 8 bytes, read or write */
    CHECK(TRY("movsq", "+S"(from) : "D"(1ull << 40)) == PF && from == (uint64_t)watched, from);
    __asm__ volatile("cmpq $0, %0" : : "m"(watched[0]));
    write_dr7(0x400);
    check(count == 1, "the completed one only", count);

    write_cr4(read_cr4() | 8);
    write_dr1(0x80);
    clear();
    write_dr7(0x00200408);
    __asm__ volatile(".globl at_outs\nat_outs: rep outsb" : "+S"(from), "+c"(ecx) : "d"(0x80));
    write_dr7(0x400);
    write_cr4(read_cr4() & ~8ull);
    check(count == 3 && ecx == 0, "REP OUTS", count);
    check(steps[0].rip == (uint64_t)at_outs, "a trap within", steps[0].rip);
    check(steps[2].rip == (uint64_t)at_outs + 2, "a trap behind", steps[2].rip);
}

/* SYSCALL masks TF: the step after it does not come; SYSRET restores it: the step comes there. */
static void user_syscall(void)
{
    __asm__ volatile(START TF_ON "syscall\n 1: nop\n" TF_OFF : : : "rcx", "r11", "memory");
}

static void test_syscall(void)
{
    extern uint8_t system_call[];
    wrmsr(0xc0000081, (uint64_t)(USER_DATA - 8) << 48 | (uint64_t)KERNEL_CODE << 32);
    wrmsr(0xc0000082, (uint64_t)system_call);
    wrmsr(0xc0000084, 0x700);
    clear();
    run_in_user(user_syscall);
    EXPECT_STEPS(BS, 0, 1, 2, 9, 10);
    check(steps[0].cs == USER_CODE, "CS of the step behind SYSRET", steps[0].cs);
}
__asm__("system_call: sysretq");

static void test_faults_set_rf(void)
{
    CHECK(TRY("ud2") == UD && (seen.rflags & RF), seen.rflags);
    CHECK(TRY("movq %0, %%cr4", : "r"(0xffffffffull)) == GP && (seen.rflags & RF), seen.rflags);
    CHECK(TRY("movq (%0), %%rax",
              : "r"(1ull << 40)
              : "rax") == PF &&
              (seen.rflags & RF),
          seen.rflags);
    CHECK(TRY("divl %0", : "r"(0) : "rax", "rdx") == DE && (seen.rflags & RF), seen.rflags);
    CHECK(TRY("int $0x40") == 0x40 && !(seen.rflags & RF), seen.rflags);
}

static void test_aliases(void)
{
    write_dr6(FIXED | 1);
    uint64_t value;
    CHECK(TRY("movq %%db4, %0", "=r"(value)) == NO_FAULT && value == (FIXED | 1), value);
    write_cr4(read_cr4() | 8);
    CHECK(TRY("movq %%db4, %0", "=r"(value)) == UD, seen.vector);
    CHECK(TRY("movq %0, %%db5", : "r"(0x400ull)) == UD, seen.vector);
    write_cr4(read_cr4() & ~8ull);
    write_dr6(0);
    CHECK(read_dr6() == FIXED, read_dr6());
    CHECK(TRY("movq %0, %%db6", : "r"(1ull << 32)) == GP, seen.vector);
    /* The mod field is ignored. */
    write_dr0(0x12345);
    __asm__ volatile(".byte 0x0f, 0x21, 0x00" : "=a"(value));
    CHECK(value == 0x12345, value);
    __asm__ volatile(".byte 0x0f, 0x20, 0x40" : "=a"(value)); /* no displacement follows */
    CHECK(value == read_cr0(), value);
}

void test_main(void)
{
    test_faults_set_rf();
    handlers[DB] = on_debug;
    handlers[BP] = on_breakpoint;
    test_aliases();
    test_steps(false);
    test_steps(true);
    test_breakpoints();
    test_watchpoints();
    test_delayed_watchpoint();
    test_incomplete_instructions();
    test_syscall();
}
