/*
 * Host signals raised by translated code become guest exceptions. The handler only notes what
 * happened and makes the thread continue in the fault stub; everything else is done by the
 * dispatcher.
 */
#include "engine/bt/bt.h"

#include "engine/bt/ops/xstate.h"

#include <errno.h>
#include <immintrin.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

enum { SIGNAL_COUNT = 5 };
static const int handled_signals[SIGNAL_COUNT] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};

/*
 * Whom signals belong to that are not ours: handlers are the process's, and those before us may
 * have to put a terminal in order or write a report.
 */
static struct {
    pthread_mutex_t lock; /* for installing; handlers only read */
    struct sigaction actions[SIGNAL_COUNT];
} previous = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Not raised by translated code: our own bug, or somebody used kill. */
static void pass_on(int signal_number, siginfo_t *info, void *context)
{
    size_t slot = 0;
    while (handled_signals[slot] != signal_number)
        slot++;
    const struct sigaction *action = &previous.actions[slot];
    if (action->sa_flags & SA_SIGINFO) {
        action->sa_sigaction(signal_number, info, context);
    } else if (action->sa_handler == SIG_IGN && info->si_code <= 0) {
        return;
    } else if (action->sa_handler == SIG_IGN || action->sa_handler == SIG_DFL) {
        signal(signal_number, SIG_DFL);
        raise(signal_number); /* taken when this handler returns, with a usable core */
    } else {
        action->sa_handler(signal_number);
    }
}

/* The return-pair stack ran into its guard page: start over with an empty one. */
static bool stack_overflow(struct vcpu *vcpu, const siginfo_t *info, greg_t *regs)
{
    uint64_t address = (uint64_t)(uintptr_t)info->si_addr;
    if (address - (uint64_t)(uintptr_t)vcpu->stack >= BT_GUARD_SIZE)
        return false;
    uint64_t rsp = (uint64_t)regs[REG_RSP], top = vcpu->stack_top;
    if (rsp % 16 != 0) { /* in the middle of a pair: keep its first half */
        top -= 8;
        *(uint64_t *)(uintptr_t)top = *(const uint64_t *)(uintptr_t)rsp;
    }
    regs[REG_RSP] = (greg_t)top;
    return true;
}

/*
 * A handler that interrupted translated code inherits EFLAGS.AC, and none expects that: it goes on
 * without. When it returns, AC is what it was.
 */
static bool misaligned_handler(int signal_number, const siginfo_t *info, greg_t *regs)
{
    if (signal_number != SIGBUS || info->si_code != BUS_ADRALN || !(regs[REG_EFL] & X86_AC_FLAG))
        return false;
    regs[REG_EFL] &= ~(greg_t)X86_AC_FLAG;
    return true;
}

__attribute__((noinline)) static void handle_signal(int signal_number, siginfo_t *info,
                                                    void *context)
{
    ucontext_t *uc = context;
    greg_t *regs = uc->uc_mcontext.gregs;
    struct vcpu *vcpu = (struct vcpu *)(uintptr_t)_readgsbase_u64();
    const void *pc = (const void *)(uintptr_t)regs[REG_RIP];
    /* Codes up to 0 are kill's and its relatives': no instruction did that. */
    if (info->si_code <= 0 || !vcpu || !code_memory_contains(&vcpu->cache.memory, pc)) {
        if (!misaligned_handler(signal_number, info, regs))
            pass_on(signal_number, info, context);
        return;
    }
    if (signal_number == SIGSEGV && stack_overflow(vcpu, info, regs))
        return;
    vcpu->host_fault = (struct host_fault){
        .signal = signal_number,
        .code = info->si_code,
        .trap = (uint64_t)regs[REG_TRAPNO],
        .error = (uint64_t)regs[REG_ERR],
        .host_pc = (uint64_t)regs[REG_RIP],
        .address = (uint64_t)(uintptr_t)info->si_addr,
    };
    regs[REG_RIP] = (greg_t)vcpu->stub_fault;
}

static void on_signal(int signal_number, siginfo_t *info, void *context)
{
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() & ~(uint64_t)X86_AC_FLAG);
    handle_signal(signal_number, info, context);
}

static int install(size_t slot, const struct sigaction *action)
{
    struct sigaction old;
    if (sigaction(handled_signals[slot], NULL, &old) < 0)
        return -1;
    if ((old.sa_flags & SA_SIGINFO) && old.sa_sigaction == on_signal)
        return 0;
    previous.actions[slot] = old;
    return sigaction(handled_signals[slot], action, NULL);
}

int bt_signals_install(struct vd_error *err)
{
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    int rc = 0;
    pthread_mutex_lock(&previous.lock);
    for (size_t i = 0; i < SIGNAL_COUNT && rc == 0; i++)
        rc = install(i, &action);
    pthread_mutex_unlock(&previous.lock);
    return rc < 0 ? error_set(err, "cannot install signal handlers: %s", strerror(errno)) : 0;
}

int bt_host_fault(struct vcpu *vcpu)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    const struct host_fault *fault = &vcpu->host_fault;
    bt_park_vectors(cpu);
    if (!bt_locate(vcpu, fault->host_pc)) {
        snprintf(vcpu->host_error, sizeof(vcpu->host_error),
                 "internal error: signal %d in a stub at %#llx, address %#llx", fault->signal,
                 (unsigned long long)fault->host_pc, (unsigned long long)fault->address);
        return -1;
    }
    switch (fault->trap) {
    case X86_DE:
        x86_raise(cpu, X86_DE);
        return 0;
    case X86_UD:
        x86_raise(cpu, X86_UD);
        return 0;
    case X86_GP: /* a misaligned vector operand, or a bad MXCSR */
        x86_raise_error(cpu, X86_GP, 0);
        return 0;
    case X86_MF:
        return x87_error(cpu) == OP_RETRY;
    case X86_AC:
        x86_raise_error(cpu, X86_AC, 0);
        return 0;
    case X86_XM:
        x86_raise(cpu, cpu->cr4 & X86_CR4_OSXMMEXCPT ? X86_XM : X86_UD);
        return 0;
    default:
        snprintf(vcpu->host_error, sizeof(vcpu->host_error),
                 "internal error: signal %d (trap %llu, error %#llx, address %#llx) at host %#llx, "
                 "guest %04x:%#llx",
                 fault->signal, (unsigned long long)fault->trap, (unsigned long long)fault->error,
                 (unsigned long long)fault->address, (unsigned long long)fault->host_pc,
                 cpu->seg[X86_CS].selector, (unsigned long long)cpu->rip);
        return -1;
    }
}
