/*
 * The child maps the test's memory at its linear addresses, writes it through a second mapping, and
 * lets native_enter.S do the rest. Outside 64-bit mode code, data and stack have descriptors in the
 * child's LDT, and a far jump leads there and back. Whatever signal a test raises ends it; the
 * signal frame holds its registers.
 */
#include "native.h"

#include <asm/ldt.h>
#include <errno.h>
#include <immintrin.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "native_layout.h"
#include "native_memory.h"

struct native_context {
    struct insn_state state; /* in and out */
    union {
        uint64_t address;
        struct {
            uint32_t offset;
            uint16_t selector;
        } __attribute__((packed)) far;
    } target;
    uint64_t unused;
    uint64_t tail, host_rsp, host_fs;
    uint32_t host_ss, host_mxcsr;
    uint32_t mode;
    uint16_t selector[6];
    uint8_t stack[128];
    /* C only */
    volatile bool running; /* between native_enter and its end */
    volatile uint8_t outcome, vector;
    volatile uint64_t error, cr2;
    volatile uint64_t tests; /* counts, for the watchdog */
    volatile uint64_t seen;  /* tests at the last tick */
};

#define CHECK_OFFSET(number, field)                                                                \
    _Static_assert(offsetof(struct native_context, field) == (number), #field)
CHECK_OFFSET(NC_XSAVE, state.xsave);
CHECK_OFFSET(NC_GPR, state.gpr);
CHECK_OFFSET(NC_RFLAGS, state.rflags);
CHECK_OFFSET(NC_FS_BASE, state.fs_base);
CHECK_OFFSET(NC_GS_BASE, state.gs_base);
CHECK_OFFSET(NC_TARGET, target);
CHECK_OFFSET(NC_TAIL, tail);
CHECK_OFFSET(NC_HOST_RSP, host_rsp);
CHECK_OFFSET(NC_HOST_FS, host_fs);
CHECK_OFFSET(NC_HOST_SS, host_ss);
CHECK_OFFSET(NC_HOST_MXCSR, host_mxcsr);
CHECK_OFFSET(NC_MODE, mode);
CHECK_OFFSET(NC_SEL_ES, selector);
CHECK_OFFSET(NC_STACK, stack);
_Static_assert(NC_STACK_END == NC_STACK + 128, "size of the stack");

/* The assembler and the signal handler, which get no argument, find it by name; child only. */
extern struct native_context native_context;
struct native_context native_context __attribute__((aligned(64)));
void native_enter(void);
extern const uint8_t native_leave[], native_abort[];

enum { XSTATE_BV = 512, XMM_AT = 160, YMM_AT = 576, SMALL_STACK = 64 * 1024 };

/* Components in their initial state need not be in an image: fill them in. */
static void normalize(uint8_t *xsave)
{
    uint64_t present;
    memcpy(&present, xsave + XSTATE_BV, sizeof(present));
    if (!(present & 1)) {
        memset(xsave, 0, 24);
        memset(xsave + 32, 0, 128);
        xsave[0] = 0x7f;
        xsave[1] = 0x03;
    }
    if (!(present & 2))
        memset(xsave + XMM_AT, 0, 256);
    if (!(present & 4))
        memset(xsave + YMM_AT, 0, 256);
    present = 7;
    memset(xsave + XSTATE_BV, 0, 64);
    memcpy(xsave + XSTATE_BV, &present, sizeof(present));
}

__attribute__((noinline)) static void save_signal_state(ucontext_t *uc)
{
    static const uint8_t order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                      REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                      REG_R12, REG_R13, REG_R14, REG_R15};
    struct insn_state *out = &native_context.state;
    const greg_t *regs = uc->uc_mcontext.gregs;
    for (unsigned i = 0; i < 16; i++)
        out->gpr[i] = (uint64_t)regs[order[i]];
    out->rip = (uint64_t)regs[REG_RIP];
    out->rflags = (uint64_t)regs[REG_EFL];
    memcpy(out->xsave, uc->uc_mcontext.fpregs, XSAVE_BYTES);
}

/*
 * The FS base is the test's here: nothing may use thread-local storage before it is the host's.
 */
__attribute__((no_sanitize("address", "undefined"))) static void
on_signal(int number, siginfo_t *info, void *context)
{
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() & ~0x40000ull); /* AC */
    struct native_context *nc = &native_context;
    ucontext_t *uc = context;
    uint64_t fs = _readfsbase_u64(), gs = _readgsbase_u64();
    (void)info;
    if (!nc->running) {
        if (number == SIGALRM)
            return;
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    if (number == SIGALRM && nc->seen != nc->tests) {
        nc->seen = nc->tests;
        return;
    }
    nc->running = false;
    _writefsbase_u64(nc->host_fs);
    nc->state.fs_base = fs;
    nc->state.gs_base = gs;
    nc->outcome = number == SIGALRM ? OUTCOME_TIMEOUT : OUTCOME_EXCEPTION;
    nc->vector = (uint8_t)uc->uc_mcontext.gregs[REG_TRAPNO];
    nc->error = (uint64_t)uc->uc_mcontext.gregs[REG_ERR];
    nc->cr2 = (uint64_t)uc->uc_mcontext.gregs[REG_CR2];
    save_signal_state(uc);
    __asm__ volatile("jmp native_abort");
    __builtin_unreachable();
}

/* --- set-up of the child --- */

/*
 * 64-bit code within reach of the tests that goes on to native_leave. Alignment may be checked on
 * the way.
 */
static void map_trampoline(uint64_t address)
{
    uint8_t *p = mmap((void *)(uintptr_t)address, PAGE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (p == MAP_FAILED)
        _exit(1);
    uint64_t target = (uint64_t)(uintptr_t)native_leave;
    memcpy(p, "\xff\x25\2\0\0\0", 6); /* jmp [rip+2] */
    memcpy(p + 8, &target, 8);
    mprotect(p, PAGE, PROT_EXEC);
}

static void load_ldt(void)
{
    for (unsigned i = 1; i < SEGI_COUNT; i++) {
        const struct segment_row *row = &segment_rows[i];
        struct user_desc desc;
        bool pages = row->limit > 0xfffff;
        memset(&desc, 0, sizeof(desc));
        desc.entry_number = i;
        desc.base_addr = (unsigned)row->base;
        desc.limit = pages ? row->limit >> 12 : row->limit;
        desc.limit_in_pages = pages;
        desc.seg_32bit = row->big;
        desc.contents = row->code ? 2 : row->expand_down ? 1 : 0;
        desc.read_exec_only = row->read_only;
        desc.useable = 1;
        if (syscall(SYS_modify_ldt, 0x11, &desc, sizeof(desc)) != 0) {
            perror("insn-diff: modify_ldt");
            _exit(1);
        }
    }
}

static void install_handlers(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGALRM};
    stack_t stack = {.ss_sp = mmap(NULL, SMALL_STACK, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                     .ss_size = SMALL_STACK};
    sigaltstack(&stack, NULL);
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        sigaction(signals[i], &action, NULL);
    struct itimerval timer = {.it_interval = {.tv_usec = 100000}, .it_value = {.tv_usec = 100000}};
    setitimer(ITIMER_REAL, &timer, NULL);
}

/* --- one test --- */

/* Jumps to native_leave, in every mode without touching a register or flag. */
static void write_end(uint8_t *p, uint32_t linear, unsigned mode, bool exact)
{
    if (exact) {
        p[0] = 0xcd;
        p[1] = VECTOR_END;
        return;
    }
    uint32_t target = LINEAR_TRAMPOLINE;
    uint16_t selector = 0x33;
    if (mode == 64) { /* the upper copy has a trampoline of its own, at the same distance */
        target -= linear + 5;
        *p = 0xe9;
        memcpy(p + 1, &target, 4);
        return;
    }
    if (mode == 16)
        *p++ = 0x66;
    *p++ = 0xea; /* jmp far ptr16:32 */
    memcpy(p, &target, 4);
    memcpy(p + 4, &selector, 2);
}

static void run_test(const struct insn_case *c, struct insn_result *r, struct native_memory *m,
                     const uint8_t *template)
{
    struct native_context *nc = &native_context;
    uint8_t *memory = m->alias;
    native_memory_protect(m, c);
    memcpy(memory + CODE_BYTES, template, MEMORY_BYTES);
    memset(memory, 0xcc, CODE_BYTES);
    memcpy(memory + c->code_start, c->code, c->code_size);
    unsigned end = c->code_start + c->code_size;
    write_end(memory + end, (uint32_t)LINEAR_CODE + end, c->mode, c->exact_end);
    nc->state = c->in;
    nc->mode = c->mode;
    if (c->mode == 64) {
        nc->target.address = c->in.rip;
    } else {
        for (unsigned i = 0; i < 6; i++)
            nc->selector[i] = segment_selector(c->segment[i]);
        nc->target.far.offset = (uint32_t)c->in.rip;
        nc->target.far.selector = segment_selector(c->segment[1]);
    }
    nc->outcome = OUTCOME_END;
    nc->vector = 0;
    nc->error = nc->cr2 = 0;
    nc->tests++;
    nc->running = true;
    native_enter();
    nc->running = false;
    if (c->exact_end && nc->outcome == OUTCOME_EXCEPTION && nc->vector == 13 &&
        nc->error == 8 * VECTOR_END + 2) {
        nc->outcome = OUTCOME_END;
        nc->state.rflags &= ~0x10000ull; /* RF, of the fault */
    }
    if (nc->outcome == OUTCOME_END)
        nc->state.rip = c->in.rip + c->code_size;
    normalize(nc->state.xsave);
    r->out = nc->state;
    r->outcome = nc->outcome;
    r->vector = nc->vector;
    r->error = nc->error;
    r->cr2 = nc->cr2;
    memcpy(r->memory, memory + CODE_BYTES, MEMORY_BYTES);
    memcpy(r->code, memory + c->code_start, c->code_size);
}

/* --- both processes --- */

struct request {
    uint8_t slot;
    bool replay;
    uint32_t count;
    uint64_t seed;
};

struct native {
    pid_t child;
    int request, reply;  /* pipes */
    struct batch *batch; /* NATIVE_SLOTS */
    native_generate_fn *generate;
    void *ctx;
    bool done[NATIVE_SLOTS];
};

static void child_main(struct native *n, int requests, int replies)
{
    uint8_t template[MEMORY_BYTES];
    struct request request;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    memory_template(template);
    struct native_memory memory;
    native_memory_map(&memory);
    map_trampoline(LINEAR_TRAMPOLINE);
    map_trampoline(LINEAR_HIGH + LINEAR_TRAMPOLINE);
    load_ldt();
    native_context.host_mxcsr = 0x1f80;
    install_handlers();
    for (;;) {
        ssize_t got = read(requests, &request, sizeof(request));
        if (got < 0 && errno == EINTR)
            continue;
        if (got != sizeof(request))
            _exit(0);
        struct batch *batch = &n->batch[request.slot];
        for (uint32_t i = 0; i < request.count; i++) {
            batch->current = i;
            if (!request.replay)
                n->generate(n->ctx, &batch->cases[i], request.seed + i);
            run_test(&batch->cases[i], &batch->results[i], &memory, template);
        }
        if (write(replies, &request.slot, 1) != 1)
            _exit(0);
    }
}

static int start_child(struct native *n)
{
    int to[2], from[2];
    if (pipe(to) < 0 || pipe(from) < 0)
        return -1;
    fflush(NULL);
    n->child = fork();
    if (n->child < 0)
        return -1;
    if (n->child == 0) {
        close(to[1]);
        close(from[0]);
        child_main(n, to[0], from[1]);
    }
    close(to[0]);
    close(from[1]);
    n->request = to[1];
    n->reply = from[0];
    return 0;
}

static void end_child(struct native *n)
{
    close(n->request);
    close(n->reply);
    kill(n->child, SIGKILL);
    waitpid(n->child, NULL, 0);
}

struct native *native_start(native_generate_fn *generate, void *ctx)
{
    struct native *n = calloc(1, sizeof(*n));
    if (!n)
        return NULL;
    signal(SIGPIPE, SIG_IGN);
    n->generate = generate;
    n->ctx = ctx;
    n->batch = mmap(NULL, NATIVE_SLOTS * sizeof(*n->batch), PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (n->batch == MAP_FAILED || start_child(n) < 0) {
        free(n);
        return NULL;
    }
    return n;
}

void native_stop(struct native *n)
{
    end_child(n);
    munmap(n->batch, NATIVE_SLOTS * sizeof(*n->batch));
    free(n);
}

static void submit(struct native *n, const struct request *request)
{
    n->done[request->slot] = false;
    if (write(n->request, request, sizeof(*request)) != sizeof(*request))
        return; /* native_wait will see that the child is gone */
}

void native_submit(struct native *n, unsigned slot, uint64_t seed, unsigned count)
{
    struct request request = {.slot = (uint8_t)slot, .count = count, .seed = seed};
    submit(n, &request);
}

void native_replay(struct native *n, unsigned slot, unsigned count)
{
    struct request request = {.slot = (uint8_t)slot, .replay = true, .count = count};
    submit(n, &request);
}

struct batch *native_wait(struct native *n, unsigned slot)
{
    while (!n->done[slot]) {
        uint8_t finished;
        ssize_t got = read(n->reply, &finished, 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got != 1 || finished >= NATIVE_SLOTS) {
            end_child(n);
            if (start_child(n) < 0)
                perror("insn-diff: cannot start the native side again");
            return NULL;
        }
        n->done[finished] = true;
    }
    return &n->batch[slot];
}

struct batch *native_batch(struct native *n, unsigned slot)
{
    return &n->batch[slot];
}
