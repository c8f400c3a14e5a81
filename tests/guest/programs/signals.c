/*
 * Processor faults as a program sees them: for each, the signal, si_code, si_addr, the program
 * counter in the saved context and a register that was set just before must be exactly what the
 * bare processor and Linux give. The handler repairs the cause or skips the instruction.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <ucontext.h>
#include <unistd.h>
#include <x86intrin.h>

#ifdef __x86_64__
enum { PC = REG_RIP, MARK = REG_RBX };
#define MARK_REGISTER    "ebx"
#define STACK_POINTER    "rsp"
#define WIDE_ACCUMULATOR "rax"
#else
enum { PC = REG_EIP, MARK = REG_ESI };
#define MARK_REGISTER    "esi"
#define STACK_POINTER    "esp"
#define WIDE_ACCUMULATOR "eax"
#endif

/* Written by the handler, read by main: signal handlers have no other channel. */
static volatile struct {
    int number, code, trap;
    uintptr_t address, pc;
    uint32_t mark;
    uint32_t error;
} seen;
static sigjmp_buf back;
#define ALIGNMENT_CHECK 0x40000u

static void on_fault(int number, siginfo_t *info, void *context)
{
    const ucontext_t *uc = context;

    __writeeflags(__readeflags() & ~ALIGNMENT_CHECK); /* the handler inherits it */
    seen.number = number;
    seen.code = info->si_code;
    seen.address = (uintptr_t)info->si_addr;
    seen.pc = (uintptr_t)uc->uc_mcontext.gregs[PC];
    seen.mark = (uint32_t)uc->uc_mcontext.gregs[MARK];
    seen.trap = (int)uc->uc_mcontext.gregs[REG_TRAPNO];
    seen.error = (uint32_t)uc->uc_mcontext.gregs[REG_ERR];
    siglongjmp(back, 1);
}

enum { ANY = -1 };

struct wanted {
    int number, code, trap;
    int error;         /* ANY: not compared */
    uintptr_t address; /* compared when has_address */
    int has_address;
    uint32_t mark;
};

static int failures;

static void compare(const char *name, const struct wanted *w, uintptr_t pc)
{
    int good = seen.number == w->number && seen.code == w->code && seen.trap == w->trap &&
               (w->error == ANY || seen.error == (uint32_t)w->error) &&
               (!w->has_address || seen.address == w->address) && (!pc || seen.pc == pc) &&
               seen.mark == w->mark;

    printf("signals %s %s\n", name, good ? "ok" : "FAILED");
    if (!good) {
        printf("  signal %d code %d trap %d error %x address %lx pc %lx mark %x\n", seen.number,
               seen.code, seen.trap, seen.error, (unsigned long)seen.address,
               (unsigned long)seen.pc, seen.mark);
        printf("  wanted %d code %d trap %d error %x address %lx pc %lx mark %x\n", w->number,
               w->code, w->trap, (unsigned)w->error, (unsigned long)w->address, (unsigned long)pc,
               w->mark);
        failures++;
    }
}

/* Runs the instructions given as text with the mark register set; label 77 is the faulting one. */
#define PROVOKE(name, want, setup, instruction, ...)                                               \
    do {                                                                                           \
        uintptr_t pc_ = 0;                                                                         \
        if (sigsetjmp(back, 1) == 0) {                                                             \
            extern char at_##name[] __asm__("at_" #name);                                          \
            pc_ = (uintptr_t)at_##name;                                                            \
            __asm__ volatile("mov %0, %%" MARK_REGISTER "\n\t" setup "\n\t.globl at_" #name        \
                             "\nat_" #name ": " instruction                                        \
                             :                                                                     \
                             : "i"(0x1234abcd), ##__VA_ARGS__                                      \
                             : "eax", "ecx", "edx", MARK_REGISTER, "memory", "cc");                \
            printf("signals " #name " FAILED: no signal\n");                                       \
            failures++;                                                                            \
        } else {                                                                                   \
            extern char at_##name[] __asm__("at_" #name);                                          \
            pc_ = (uintptr_t)at_##name;                                                            \
            compare(#name, &(struct wanted)want, pc_);                                             \
        }                                                                                          \
    } while (0)
#define WANT(...)                                                                                  \
    {                                                                                              \
        __VA_ARGS__, .mark = 0x1234abcd                                                            \
    }

static uint8_t *pages; /* [0] read-only, [1] no access, [2] read-write, [3] unmapped */

static void memory_faults(void)
{
    uintptr_t read_only = (uintptr_t)pages, none = read_only + 4096, ok = read_only + 8192;

    PROVOKE(read_null, WANT(SIGSEGV, SEGV_MAPERR, 14, 4, 16, 1), "mov $16, %%eax",
            "movl (%%eax), %%ecx");
    PROVOKE(write_null, WANT(SIGSEGV, SEGV_MAPERR, 14, 6, 20, 1), "mov $20, %%eax",
            "movl %%ecx, (%%eax)");
    PROVOKE(write_read_only, WANT(SIGSEGV, SEGV_ACCERR, 14, 7, read_only + 8, 1), "", "incl 8(%1)",
            "r"(read_only));
    PROVOKE(read_none, WANT(SIGSEGV, SEGV_ACCERR, 14, ANY, none + 1, 1), "", "movzbl 1(%1), %%eax",
            "r"(none));
    /* The address is that of the first byte that cannot be reached. */
    PROVOKE(cross_page, WANT(SIGSEGV, SEGV_MAPERR, 14, 6, ok + 4096, 1), "", "movl %%ecx, 4094(%1)",
            "r"(ok));
    PROVOKE(vector_cross, WANT(SIGSEGV, SEGV_MAPERR, 14, 4, ok + 4096, 1), "",
            "movdqu 4090(%1), %%xmm0", "r"(ok));
    PROVOKE(push_none, WANT(SIGSEGV, SEGV_ACCERR, 14, ANY, 0, 0), "xchg %1, %%" STACK_POINTER,
            "push %%" WIDE_ACCUMULATOR, "r"(none + 64));
}

/*
 * Execute-disable needs the processor's NX, and a kernel that uses it: Linux 6.1 for i386 loses the
 * bit of user pages, even with PAE, where it passes a page's protection through a 32-bit variable.
 */
static int has_execute_disable(void)
{
    struct utsname name;
    char line[4096];
    int offered = 0;
    FILE *file = fopen("/proc/cpuinfo", "r");

    while (file && fgets(line, sizeof(line), file))
        offered |= strncmp(line, "flags", 5) == 0 && strstr(line, " nx ") != NULL;
    if (file)
        fclose(file);
    uname(&name);
    return offered && strcmp(name.machine, "x86_64") == 0;
}

static void execute_faults(void)
{
    uintptr_t ok = (uintptr_t)pages + 8192;

    pages[8192] = 0xc3; /* ret: harmless where nothing forbids it */
    if (sigsetjmp(back, 1) == 0) {
        __asm__ volatile("mov %0, %%" MARK_REGISTER "\n\tcall *%1"
                         :
                         : "i"(0x1234abcd), "r"(ok)
                         : MARK_REGISTER, "memory");
        printf("signals execute_data %s\n", has_execute_disable() ? "FAILED: it ran" : "ok");
        failures += has_execute_disable();
    } else {
        compare("execute_data", &(struct wanted){SIGSEGV, SEGV_ACCERR, 14, ANY, ok, 1, 0x1234abcd},
                ok);
    }
    if (sigsetjmp(back, 1) == 0) {
        __asm__ volatile("mov %0, %%" MARK_REGISTER "\n\tjmp *%1"
                         :
                         : "i"(0x1234abcd), "r"(ok + 4096)
                         : MARK_REGISTER, "memory");
    }
    compare("execute_unmapped",
            &(struct wanted){SIGSEGV, SEGV_MAPERR, 14, ANY, ok + 4096, 1, 0x1234abcd}, ok + 4096);
}

static void arithmetic_faults(void)
{
    PROVOKE(divide_zero, WANT(SIGFPE, FPE_INTDIV, 0, 0),
            "xor %%ecx, %%ecx; xor %%edx, %%edx; mov $5, %%eax", "divl %%ecx");
    PROVOKE(divide_overflow, WANT(SIGFPE, FPE_INTDIV, 0, 0),
            "mov $-1, %%ecx; mov $0x80000000, %%eax; cltd", "idivl %%ecx");
    PROVOKE(divide_memory, WANT(SIGFPE, FPE_INTDIV, 0, 0), "xor %%edx, %%edx; mov $5, %%eax",
            "divl 16(%1)", "r"(pages + 8192));
    /* x87 reports at the next waiting instruction. */
    PROVOKE(x87_divide, WANT(SIGFPE, FPE_FLTDIV, 16, 0), "fninit; fldcw 12(%1); fld1; fldz; fdivrp",
            "fwait", "r"(pages + 8192));
    __asm__ volatile("fninit");
    PROVOKE(sse_divide, WANT(SIGFPE, FPE_FLTDIV, 19, 0),
            "ldmxcsr 24(%1); mov $1, %%eax; cvtsi2sd %%eax, %%xmm0; xorpd %%xmm1, %%xmm1",
            "divsd %%xmm1, %%xmm0", "r"(pages + 8192));
    __asm__ volatile("ldmxcsr 28(%0)" : : "r"(pages + 8192));
}

static void instruction_faults(void)
{
    PROVOKE(undefined, WANT(SIGILL, ILL_ILLOPN, 6, 0), "", "ud2");
    PROVOKE(lock_register, WANT(SIGILL, ILL_ILLOPN, 6, 0), "", ".byte 0xf0, 0x90");
    PROVOKE(privileged_hlt, WANT(SIGSEGV, SI_KERNEL, 13, 0), "", "hlt");
    PROVOKE(privileged_cr, WANT(SIGSEGV, SI_KERNEL, 13, 0), "", ".byte 0x0f, 0x22, 0xd8");
    PROVOKE(privileged_msr, WANT(SIGSEGV, SI_KERNEL, 13, 0), "mov $0x10, %%ecx", "rdmsr");
    PROVOKE(port, WANT(SIGSEGV, SI_KERNEL, 13, 0), "mov $0x80, %%edx", "inb %%dx, %%al");
    PROVOKE(interrupt_gate, WANT(SIGSEGV, SI_KERNEL, 13, 0x20 * 8 + 2), "", "int $0x20");
    PROVOKE(bad_selector, WANT(SIGSEGV, SI_KERNEL, 13, 0x7ffc), "mov $0x7fff, %%eax",
            "mov %%eax, %%fs");
    PROVOKE(misaligned_sse, WANT(SIGSEGV, SI_KERNEL, 13, 0), "", "movaps 8(%1), %%xmm0",
            "r"(pages + 8192 + 256));
}

/* EFLAGS.AC; Linux sets CR0.AM. */
static void alignment_faults(void)
{
    const char *aligned = (const char *)pages + 8192 + 256;

#define CHECKS_ON "pushf\n\torl $0x40000, (%%" STACK_POINTER ")\n\tpopf\n\tmovl (%1), %%ecx"
    PROVOKE(misaligned_load, WANT(SIGBUS, BUS_ADRALN, 17, 0), CHECKS_ON, "movl 2(%1), %%ecx",
            "r"(aligned));
    PROVOKE(misaligned_store, WANT(SIGBUS, BUS_ADRALN, 17, 0), CHECKS_ON, "movw %%cx, 4093(%1)",
            "r"(aligned - 256));
    PROVOKE(misaligned_x87, WANT(SIGBUS, BUS_ADRALN, 17, 0), CHECKS_ON, "fldl 4(%1)", "r"(aligned));
#undef CHECKS_ON
}

/* Traps: the saved program counter is that of the following instruction. */
static void traps(void)
{
    const struct wanted breakpoint = {SIGTRAP, SI_KERNEL, 3, 0, 0, 0, 0x1234abcd};
    const struct wanted step = {SIGTRAP, TRAP_TRACE, 1, 0, 0, 0, 0x1234abcd};
    extern char after_int3[], after_nop[];

    if (sigsetjmp(back, 1) == 0)
        __asm__ volatile("mov %0, %%" MARK_REGISTER "\n\tint3\n.globl after_int3\nafter_int3: nop"
                         :
                         : "i"(0x1234abcd)
                         : MARK_REGISTER);
    compare("breakpoint", &breakpoint, (uintptr_t)after_int3);
    if (sigsetjmp(back, 1) == 0)
        __asm__ volatile("mov %0, %%" MARK_REGISTER "\n\t"
                         "pushf\n\torl $0x100, (%%" STACK_POINTER ")\n\tpopf\n\t"
                         "nop\n.globl after_nop\nafter_nop: nop"
                         :
                         : "i"(0x1234abcd)
                         : MARK_REGISTER, "memory", "cc");
    compare("single_step", &step, (uintptr_t)after_nop);
}

/* A string store that meets an unmapped page half way leaves its registers at the fault. */
static void partial_string(void)
{
    uint8_t *to = pages + 8192 + 4000;
    uintptr_t length = 200;

    memset(pages + 8192 + 4000, 0, 96);
    if (sigsetjmp(back, 1) == 0) {
        __asm__ volatile("rep stosb" : "+D"(to), "+c"(length) : "a"(0x7e) : "memory");
    }
    int good = seen.number == SIGSEGV && seen.address == (uintptr_t)pages + 12288 &&
               pages[8192 + 4095] == 0x7e && pages[8192 + 4000] == 0x7e;

    printf("signals partial_string %s\n", good ? "ok" : "FAILED");
    failures += !good;
}

int main(void)
{
    static const int numbers[] = {SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGBUS};
    static uint8_t stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction action = {.sa_sigaction = on_fault,
                               .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};

    setvbuf(stdout, NULL, _IOLBF, 0);
    sigaltstack(&alternate, NULL);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        sigaction(numbers[i], &action, NULL);
#ifdef __x86_64__
    /* Below 4 GiB, so that 32-bit address registers reach it. */
    pages = mmap((void *)0x40000000, 16384, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
#else
    pages = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
#endif
    memcpy(pages + 8192 + 12, &(uint32_t){0x037b}, 4); /* x87: divide-by-zero unmasked */
    memcpy(pages + 8192 + 24, &(uint32_t){0x1d80}, 4); /* SSE: divide-by-zero unmasked */
    memcpy(pages + 8192 + 28, &(uint32_t){0x1f80}, 4);
    pages[0] = pages[4096] = 1;
    mprotect(pages, 4096, PROT_READ);
    mprotect(pages + 4096, 4096, PROT_NONE);
    munmap(pages + 12288, 4096);
    memory_faults();
    execute_faults();
    arithmetic_faults();
    instruction_faults();
    alignment_faults();
    traps();
    partial_string();
    printf("signals %d failures\n", failures);
    return failures != 0;
}
