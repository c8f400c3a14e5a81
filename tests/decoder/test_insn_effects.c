/*
 * Flag and register sets against the CPU: every register form of every general-purpose instruction
 * runs natively with random input. What the decoder calls unwritten must stay, and what it calls
 * unread must not influence the result.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <Zydis/Zydis.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "cpu/cpuid.h"
#include "decoder/insn.h"

struct regs {
    uint64_t gpr[16]; /* RSP is not loaded */
    uint64_t flags;
};

/*
 * int template(struct regs *): loads the registers, runs the 16-byte slot, stores them. A fault in
 * the slot continues at effects_fault, which returns 1 instead of 0.
 */
int effects_template(struct regs *regs);
extern char effects_slot[], effects_fault[], effects_end[];
__asm__(".text\n"
        "effects_template:\n"
        "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "push %rdi\n"
        "push 128(%rdi); popfq\n"
        "mov 0(%rdi), %rax; mov 8(%rdi), %rcx; mov 16(%rdi), %rdx; mov 24(%rdi), %rbx\n"
        "mov 40(%rdi), %rbp; mov 48(%rdi), %rsi\n"
        "mov 64(%rdi), %r8; mov 72(%rdi), %r9; mov 80(%rdi), %r10; mov 88(%rdi), %r11\n"
        "mov 96(%rdi), %r12; mov 104(%rdi), %r13; mov 112(%rdi), %r14; mov 120(%rdi), %r15\n"
        "mov 56(%rdi), %rdi\n"
        "effects_slot:\n"
        ".fill 16, 1, 0x90\n"
        "xchg %rdi, (%rsp)\n"
        "mov %rax, 0(%rdi); mov %rcx, 8(%rdi); mov %rdx, 16(%rdi); mov %rbx, 24(%rdi)\n"
        "mov %rbp, 40(%rdi); mov %rsi, 48(%rdi)\n"
        "mov %r8, 64(%rdi); mov %r9, 72(%rdi); mov %r10, 80(%rdi); mov %r11, 88(%rdi)\n"
        "mov %r12, 96(%rdi); mov %r13, 104(%rdi); mov %r14, 112(%rdi); mov %r15, 120(%rdi)\n"
        "pop 56(%rdi)\n"
        "pushfq; pop 128(%rdi)\n"
        "cld\n"
        "xor %eax, %eax\n"
        "1: pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        "ret\n"
        "effects_fault:\n"
        "cld; pop %rdi; mov $1, %eax; jmp 1b\n"
        "effects_end:\n");

struct bench {
    uint8_t *code; /* private writable copy of the template */
    unsigned seed;
    unsigned long checked, skipped, failures;
};

enum { FLAGS = 0xcd5 };

static void on_fault(int signal, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    uintptr_t code = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP] & ~(uintptr_t)0xfff;

    (void)signal;
    (void)info;
    /* the copy starts at a page, and the stack is that of the slot */
    uc->uc_mcontext.gregs[REG_RIP] =
        (greg_t)(code + (uintptr_t)(effects_fault - (char *)effects_template));
    uc->uc_mcontext.gregs[REG_EFL] &= ~0x400ll;
}

static int run(struct bench *bench, const struct regs *in, struct regs *out)
{
    int (*code)(struct regs *);
    memcpy(&code, &bench->code, sizeof(code));
    *out = *in;
    return code(out);
}

static uint64_t random64(struct bench *bench)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < 5; i++)
        value = value << 15 ^ (uint64_t)rand_r(&bench->seed);
    switch (rand_r(&bench->seed) % 6) { /* values on which flags differ */
    case 0:
        return value & 0xff;
    case 1:
        return value | 0xffffffff00000000ull;
    case 2:
        return (uint64_t)(int64_t)(int8_t)value;
    default:
        return value;
    }
}

static void complain(struct bench *bench, const struct insn *insn, const char *what, unsigned which)
{
    char text[96];

    if (bench->failures++ < 40)
        fprintf(stderr, "%s: %s (%#x)\n",
                insn_format(text, sizeof(text), insn->bytes, insn->len, 0, 64), what, which);
}

/* Flags that the manual leaves undefined: a CPU may keep or compute them as it likes. */
static unsigned undefined_flags(const struct insn *insn)
{
    ZydisDecoder decoder;
    ZydisDecodedInstruction zydis;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    unsigned undefined = 0;

    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, insn->bytes, insn->len, &zydis, operands)) &&
        zydis.cpu_flags)
        undefined = zydis.cpu_flags->undefined;
    switch (zydis.mnemonic) { /* "OF is undefined for counts other than 1" (SDM vol. 2) */
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
        undefined |= 1u << 11;
        break;
    default:
        break;
    }
    return undefined;
}

/* Same input but for registers and flags that the decoder calls unread. */
static void check_unread(struct bench *bench, const struct insn *insn, const struct regs *in,
                         const struct regs *out)
{
    unsigned written = insn->flags_written & ~undefined_flags(insn);
    struct regs other = *in, result;

    for (unsigned r = 0; r < 16; r++)
        if (r != 4 && !(insn->gpr_read & 1u << r))
            other.gpr[r] = random64(bench);
    other.flags ^= (unsigned)rand_r(&bench->seed) & FLAGS & ~(unsigned)insn->flags_read;
    if (run(bench, &other, &result) != 0) {
        complain(bench, insn, "unread input decides about a fault", 0);
        return;
    }
    for (unsigned r = 0; r < 16; r++)
        if (r != 4 && (insn->gpr_written & 1u << r) && result.gpr[r] != out->gpr[r])
            complain(bench, insn, "unread input changes register", r);
    if ((result.flags ^ out->flags) & written)
        complain(bench, insn, "unread input changes flags",
                 (unsigned)(result.flags ^ out->flags) & written);
}

/* Compares of x87 and SSE: OF, SF and AF become 0 if they are said to be written (SDM vol. 2). */
static void check_compare(struct bench *bench, const struct insn *insn, const struct regs *out)
{
    enum { OF_SF_AF = 0x890 };

    if (insn->fpu_state == FPU_X87 && (insn->flags_written & 1) &&
        (out->flags & insn->flags_written & OF_SF_AF))
        complain(bench, insn, "does not clear", (unsigned)out->flags & OF_SF_AF);
}

static void check_insn(struct bench *bench, const struct insn *insn)
{
    uint8_t *slot = bench->code + (effects_slot - (char *)effects_template);
    int ran = 0;

    memset(slot, 0x90, 16);
    memcpy(slot, insn->bytes, insn->len);
    for (unsigned trial = 0; trial < 40; trial++) {
        struct regs in, out;
        for (unsigned r = 0; r < 16; r++)
            in.gpr[r] = random64(bench);
        if (trial & 1) /* so that a division may succeed */
            in.gpr[2] = 0;
        in.flags = ((unsigned)rand_r(&bench->seed) & FLAGS) | 2;
        if (run(bench, &in, &out) != 0)
            continue;
        ran = 1;
        for (unsigned r = 0; r < 16; r++)
            if (r != 4 && !(insn->gpr_written & 1u << r) && in.gpr[r] != out.gpr[r])
                complain(bench, insn, "writes register", r);
        unsigned changed = (unsigned)(in.flags ^ out.flags) & FLAGS;
        if (changed & ~(unsigned)(insn->flags_written | insn->flags_maybe))
            complain(bench, insn, "writes flags",
                     changed & ~(unsigned)(insn->flags_written | insn->flags_maybe));
        check_compare(bench, insn, &out);
        /* Vector registers are input that this test does not control. */
        if (insn->feature != FEAT_RDRAND && insn->feature != FEAT_RDSEED &&
            insn->fpu_state == FPU_NONE)
            check_unread(bench, insn, &in, &out);
    }
    if (ran)
        bench->checked++;
    else
        bench->skipped++; /* not on this CPU, or it always faults */
}

static int wanted(const struct insn *insn)
{
    return insn->class == INSN_IDENTITY && !insn->mem.present &&
           !((insn->gpr_read | insn->gpr_written) & 1u << 4);
}

static void try_bytes(struct bench *bench, const uint8_t *bytes)
{
    struct insn insn;

    if (insn_decode(&insn, bytes, 16, 64) == INSN_OK && wanted(&insn))
        check_insn(bench, &insn);
}

static void sweep_legacy(struct bench *bench)
{
    static const uint8_t prefixes[4] = {0, 0x66, 0xf2, 0xf3};
    static const uint8_t imms[] = {0, 1, 5, 9, 17, 32, 0x85};

    for (unsigned p = 0; p < 4; p++)
        for (unsigned rex = 0; rex < 3; rex++)
            for (unsigned map = 0; map < 3; map++)
                for (unsigned op = 0; op < 256; op++)
                    for (unsigned modrm = 0xc0; modrm < 0x100; modrm += 1 + (modrm & 1) * 5)
                        for (unsigned m = 0; m < sizeof(imms); m++) {
                            uint8_t bytes[16] = {0};
                            size_t n = 0;
                            if (prefixes[p])
                                bytes[n++] = prefixes[p];
                            if (rex)
                                bytes[n++] = rex == 1 ? 0x48 : 0x4d;
                            if (map)
                                bytes[n++] = 0x0f;
                            if (map == 2)
                                bytes[n++] = 0x38;
                            bytes[n++] = (uint8_t)op;
                            bytes[n++] = (uint8_t)modrm;
                            bytes[n] = imms[m];
                            try_bytes(bench, bytes);
                            int immediate =
                                map == 0 ? (op >= 0xc0 && op <= 0xc1)
                                         : map == 1 && (op == 0xa4 || op == 0xac || op == 0xba);
                            if (!immediate)
                                break;
                        }
}

static void sweep_vex(struct bench *bench)
{
    for (unsigned map = 1; map < 4; map++)
        for (unsigned wpp = 0; wpp < 8; wpp++)
            for (unsigned op = 0; op < 256; op++)
                for (unsigned modrm = 0xc0; modrm < 0x100; modrm += 9) {
                    uint8_t bytes[16] = {0xc4};
                    bytes[1] = (uint8_t)(0xe0 | map);
                    bytes[2] = (uint8_t)((wpp & 4) << 5 | 0x70 | (wpp & 3)); /* vvvv: ECX */
                    bytes[3] = (uint8_t)op;
                    bytes[4] = (uint8_t)modrm;
                    bytes[5] = 7;
                    try_bytes(bench, bytes);
                }
}

static void test_effects(void **state)
{
    struct bench bench = {.seed = 1234567};
    const char *from_env = getenv("VEDETTE_SEED");
    size_t size = (size_t)(effects_end - (char *)effects_template);
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO}, old[3];
    static const int signals[3] = {SIGFPE, SIGILL, SIGSEGV};

    (void)state;
    if (from_env)
        bench.seed = (unsigned)strtoul(from_env, NULL, 0);
    print_message("seed %u\n", bench.seed);
    bench.code =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(bench.code, MAP_FAILED);
    memcpy(bench.code, (const void *)effects_template, size);
    for (unsigned i = 0; i < 3; i++)
        sigaction(signals[i], &action, &old[i]);
    sweep_legacy(&bench);
    sweep_vex(&bench);
    __asm__ volatile("fninit"); /* MMX instructions left the x87 stack full */
    for (unsigned i = 0; i < 3; i++)
        sigaction(signals[i], &old[i], NULL);
    munmap(bench.code, 4096);
    print_message("%lu encodings run, %lu not on this CPU\n", bench.checked, bench.skipped);
    assert_true(bench.checked > 3000);
    assert_int_equal(bench.failures, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_effects)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
