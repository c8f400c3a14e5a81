/*
 * Alignment checks (SDM vol. 3, 6.15, "Interrupt 17"): which instructions raise #AC at which
 * addresses, on every kind of page, and when they do not. What the host CPU lets programs execute
 * is compared with it by insn-diff; the rows here say it in numbers.
 */
#include "tables.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

enum {
    STUBS = 0x3e0000, /* 16 bytes for each vector */
    VECTOR_END = 0x30,
    PAGE = 4096,
    BORDER = DATA + PAGE, /* operands lie around it */
    SPAN = 16,            /* from BORDER - SPAN to BORDER + SPAN */
    MMIO = 0xd0000000,
    MMIO_64 = 0x400000, /* where 64-bit code sees it */
    RETURN = 16,        /* offset of code that near and far returns find on the stack */
    WARM = 0x100,       /* offset of code that fills the TLB */
};

enum flag {
    ON_STACK = 1, /* the operand is at the stack pointer */
    FRAME = 2,    /* it holds what returns pop */
};

/*
 * id, code size, alignment that is checked (1: none), alignment that is demanded with #GP(0),
 * flags, one instruction whose operand is at RSI, RDI, RBX and RBP.
 */
#define ROWS(X)                                                                                    \
    X(mov1, 64, 1, 1, 0, "movb (%rsi), %al")                                                       \
    X(mov2, 64, 2, 1, 0, "movw (%rsi), %ax")                                                       \
    X(mov4, 64, 4, 1, 0, "movl (%rsi), %eax")                                                      \
    X(mov8, 64, 8, 1, 0, "movq (%rsi), %rax")                                                      \
    X(store8, 64, 8, 1, 0, "movq %rax, (%rsi)")                                                    \
    X(extended, 64, 8, 1, 0, "movq %r9, (%rsi)")                                                   \
    X(high_byte, 64, 1, 1, 0, "movb %ah, (%rsi)")                                                  \
    X(three_extended, 64, 4, 1, 0, "shrxl %r9d, (%rsi), %r10d")                                    \
    X(rmw4, 64, 4, 1, 0, "addl %eax, (%rsi)")                                                      \
    X(locked8, 64, 8, 1, 0, "lock incq (%rsi)")                                                    \
    X(xchg4, 64, 4, 1, 0, "xchgl %eax, (%rsi)")                                                    \
    X(bit_string2, 64, 2, 1, 0, "btw %ax, (%rsi)")                                                 \
    X(bit_string4, 64, 4, 1, 0, "btsl %eax, (%rsi)")                                               \
    X(cmpxchg8b, 64, 8, 1, 0, "cmpxchg8b (%rsi)")                                                  \
    X(cmpxchg16b, 64, 1, 16, 0, "cmpxchg16b (%rsi)")                                               \
    X(xlat, 64, 1, 1, 0, "xlat")                                                                   \
    X(prefetch, 64, 1, 1, 0, "prefetcht0 (%rsi)")                                                  \
    X(push_m, 64, 8, 1, 0, "pushq (%rsi)")                                                         \
    X(pop_m, 64, 8, 1, 0, "popq (%rsi)")                                                           \
    X(call_m, 64, 8, 1, FRAME, "call *(%rsi)")                                                     \
    X(jmp_m, 64, 8, 1, FRAME, "jmp *(%rsi)")                                                       \
    X(push8, 64, 8, 1, ON_STACK, "pushq %rax")                                                     \
    X(push_imm, 64, 8, 1, ON_STACK, "pushq $1")                                                    \
    X(push2, 64, 2, 1, ON_STACK, "pushw %ax")                                                      \
    X(pop8, 64, 8, 1, ON_STACK, "popq %rax")                                                       \
    X(push_fs, 64, 8, 1, ON_STACK, "pushq %fs")                                                    \
    X(pop_fs, 64, 8, 1, ON_STACK, "popq %fs")                                                      \
    X(pushf, 64, 8, 1, ON_STACK, "pushfq")                                                         \
    X(popf, 64, 8, 1, ON_STACK, "popfq")                                                           \
    X(call, 64, 8, 1, ON_STACK, "call 1f\n 1:")                                                    \
    X(ret, 64, 8, 1, ON_STACK | FRAME, "ret")                                                      \
    X(iretq, 64, 8, 1, ON_STACK | FRAME, "iretq")                                                  \
    X(enter, 64, 8, 1, ON_STACK, "enter $0, $0")                                                   \
    X(leave, 64, 8, 1, 0, "leave")                                                                 \
    X(movs8, 64, 8, 1, 0, "movsq")                                                                 \
    X(rep_movs4, 64, 4, 1, 0, "rep movsl")                                                         \
    X(rep_stos2, 64, 2, 1, 0, "rep stosw")                                                         \
    X(lods4, 64, 4, 1, 0, "lodsl")                                                                 \
    X(scas2, 64, 2, 1, 0, "repne scasw")                                                           \
    X(cmps4, 64, 4, 1, 0, "cmpsl")                                                                 \
    X(movaps, 64, 1, 16, 0, "movaps (%rsi), %xmm0")                                                \
    X(paddd, 64, 1, 16, 0, "paddd (%rsi), %xmm0")                                                  \
    X(movups, 64, 16, 1, 0, "movups (%rsi), %xmm0")                                                \
    X(movdqu, 64, 16, 1, 0, "movdqu %xmm0, (%rsi)")                                                \
    X(lddqu, 64, 16, 1, 0, "lddqu (%rsi), %xmm0")                                                  \
    X(pcmpistri, 64, 16, 1, 0, "pcmpistri $0, (%rsi), %xmm0")                                      \
    X(vmovdqu16, 64, 16, 1, 0, "vmovdqu (%rsi), %xmm0")                                            \
    X(vmovdqu32, 64, 16, 1, 0, "vmovdqu (%rsi), %ymm0")                                            \
    X(vpaddd32, 64, 16, 1, 0, "vpaddd (%rsi), %ymm0, %ymm0")                                       \
    X(vmovdqa32, 64, 1, 32, 0, "vmovdqa (%rsi), %ymm0")                                            \
    X(movss, 64, 4, 1, 0, "movss (%rsi), %xmm0")                                                   \
    X(movsd, 64, 8, 1, 0, "movsd %xmm0, (%rsi)")                                                   \
    X(movhps, 64, 8, 1, 0, "movhps (%rsi), %xmm0")                                                 \
    X(pmovzx, 64, 4, 1, 0, "pmovzxbd (%rsi), %xmm0")                                               \
    X(pextrw, 64, 2, 1, 0, "pextrw $0, %xmm0, (%rsi)")                                             \
    X(movq_mmx, 64, 8, 1, 0, "movq (%rsi), %mm0")                                                  \
    X(stmxcsr, 64, 4, 1, 0, "stmxcsr (%rsi)")                                                      \
    X(maskmovdqu, 64, 8, 1, 0, "maskmovdqu %xmm0, %xmm1")                                          \
    X(vmaskmov, 64, 1, 1, 0, "vmaskmovps %xmm0, %xmm0, (%rsi)")                                    \
    X(gather, 64, 1, 1, 0, "vpgatherdd %xmm2, (%rsi, %xmm1, 4), %xmm0")                            \
    X(fld4, 64, 4, 1, 0, "flds (%rsi)")                                                            \
    X(fld8, 64, 8, 1, 0, "fldl (%rsi)")                                                            \
    X(fld10, 64, 8, 1, 0, "fldt (%rsi)")                                                           \
    X(fstp10, 64, 8, 1, 0, "fstpt (%rsi)")                                                         \
    X(fbld, 64, 8, 1, 0, "fbld (%rsi)")                                                            \
    X(fild2, 64, 2, 1, 0, "filds (%rsi)")                                                          \
    X(fistp8, 64, 8, 1, 0, "fistpll (%rsi)")                                                       \
    X(fnstcw, 64, 2, 1, 0, "fnstcw (%rsi)")                                                        \
    X(fnstsw, 64, 2, 1, 0, "fnstsw (%rsi)")                                                        \
    X(fnstenv, 64, 4, 1, 0, "fnstenv (%rsi)")                                                      \
    X(fnstenv16, 64, 2, 1, 0, "data16 fnstenv (%rsi)")                                             \
    X(fldenv, 64, 4, 1, 0, "fldenv (%rsi)")                                                        \
    X(fnsave, 64, 4, 1, 0, "fnsave (%rsi)")                                                        \
    X(frstor16, 64, 2, 1, 0, "data16 frstor (%rsi)")                                               \
    X(fxsave, 64, 4, 16, 0, "fxsave (%rsi)")                                                       \
    X(fxrstor, 64, 4, 16, 0, "fxrstor (%rsi)")                                                     \
    X(xsave, 64, 1, 64, 0, "xsave (%rsi)")                                                         \
    X(mov_fs, 64, 2, 1, 0, "movw (%rsi), %fs")                                                     \
    X(mov_from_fs, 64, 2, 1, 0, "movw %fs, (%rsi)")                                                \
    X(lfs6, 64, 4, 1, 0, "lfsl (%rsi), %eax")                                                      \
    X(lar, 64, 2, 1, 0, "lar (%rsi), %eax")                                                        \
    X(verr, 64, 2, 1, 0, "verr (%rsi)")                                                            \
    X(sgdt, 64, 4, 1, 0, "sgdt (%rsi)")                                                            \
    X(sldt, 64, 2, 1, 0, "sldt (%rsi)")                                                            \
    X(smsw, 64, 2, 1, 0, "smsw (%rsi)")                                                            \
    X(mov4_32, 32, 4, 1, 0, "movl (%esi), %eax")                                                   \
    X(pusha, 32, 4, 1, ON_STACK, "pushal")                                                         \
    X(popa2, 32, 2, 1, ON_STACK, "popaw")                                                          \
    X(call_32, 32, 4, 1, ON_STACK, "call 1f\n 1:")                                                 \
    X(ret_32, 32, 4, 1, ON_STACK | FRAME, "ret")                                                   \
    X(lret, 32, 4, 1, ON_STACK | FRAME, "lretl")                                                   \
    X(iret, 32, 4, 1, ON_STACK | FRAME, "iretl")                                                   \
    X(bound4, 32, 4, 1, 0, ".byte 0x62, 0x06" /* BOUND EAX, [ESI]; clang knows no BOUND */)        \
    X(bound2, 32, 2, 1, 0, ".byte 0x66, 0x62, 0x06")                                               \
    X(les6, 32, 4, 1, 0, "lesl (%esi), %eax")                                                      \
    X(les4, 32, 2, 1, 0, "lesw (%esi), %ax")                                                       \
    X(jmp_far, 32, 4, 1, FRAME, "ljmpl *(%esi)")                                                   \
    X(call_far, 32, 4, 1, FRAME, "lcalll *(%esi)")                                                 \
    X(push_es, 32, 4, 1, ON_STACK, "pushl %es")                                                    \
    X(arpl, 32, 2, 1, 0, "arpl %ax, (%esi)")                                                       \
    X(enter2, 32, 2, 1, ON_STACK, ".byte 0x66, 0xc8, 0, 0, 1" /* ENTER 0, 1 */)                    \
    X(movdqu_32, 32, 16, 1, 0, "movdqu (%esi), %xmm0")                                             \
    X(mov4_16, 16, 4, 1, 0, "movl (%esi), %eax")                                                   \
    X(mov2_16, 16, 2, 1, 0, "movw (%esi), %ax")                                                    \
    X(push_16, 16, 2, 1, ON_STACK, "pushw %ax")                                                    \
    X(pushl_16, 16, 4, 1, ON_STACK, "pushl %eax")                                                  \
    X(popa_16, 16, 2, 1, ON_STACK, "popaw")                                                        \
    X(fnsave_16, 16, 2, 1, 0, "fnsave (%esi)")

#define ROW_CODE(id, bits, ...) ROW_CODE_(id, bits, __VA_ARGS__)
#define ROW_CODE_(id, bits, alignment, demanded, flags, text)                                      \
    GUEST_CODE(row_##id, bits, text "\n int $0x30\n .org row_" #id " + 16\n int $0x30");
ROWS(ROW_CODE)

struct row {
    const char *name;
    const uint8_t *code, *end;
    unsigned bits, alignment, demanded, flags;
};

#define ROW(id, bits, alignment, demanded, flags, text)                                            \
    {#id, row_##id, row_##id##_end, bits, alignment, demanded, flags},
static const struct row rows[] = {ROWS(ROW)};

enum page {
    PAGE_RAM,  /* reached through a TLB miss */
    PAGE_WARM, /* reached directly: the host does the check */
    PAGE_TRACED,
    PAGE_DEVICE,
    PAGE_KINDS
};

/* Brings both pages of the operand, at RDX, into the TLB and goes on to the row's code. */
GUEST_CODE(warm_64, 64,
           "addl $0, (%rdx)\n addl $0, 4096(%rdx)\n .byte 0xe9\n .long warm_64 - 0x100 - (. + 4)");
GUEST_CODE(warm_32, 32,
           "addl $0, (%edx)\n addl $0, 4096(%edx)\n .byte 0xe9\n .long warm_32 - 0x100 - (. + 4)");
GUEST_CODE(warm_16, 16,
           "addl $0, (%edx)\n addl $0, 4096(%edx)\n .byte 0xe9\n .word warm_16 - 0x100 - (. + 2)");

/* --- the machine --- */

static uint64_t device_read(void *ctx, uint64_t offset, unsigned size)
{
    struct guest *g = ctx;
    uint64_t value = 0;
    memcpy(&value, g->ram + DATA + offset, size);
    return value;
}

static void device_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct guest *g = ctx;
    memcpy(g->ram + DATA + offset, &value, size);
}

static void create(struct guest *g, unsigned bits)
{
    static const struct io_ops device = {device_read, device_write, 1, 8};
    struct vd_error err;
    unsigned table_bits = bits == 64 ? 64 : 32;
    guest_create(g, table_bits);
    guest_make_tables(g, table_bits);
    for (unsigned vector = 0; vector <= VECTOR_END; vector++) {
        guest_set_gate(g, table_bits, vector, STUBS + 16 * vector, vector == VECTOR_END ? 3 : 0);
        g->ram[STUBS + 16 * vector] = 0xf4;
    }
    g->state.cr0 |= X86_CR0_AM;
    assert_non_null(as_map_mmio(g->as, MMIO, 4 * PAGE, &device, g, "data", &err));
    if (bits == 64) /* the third 2 MiB page of the address space */
        guest_write64(g, 0x202000 + 16, MMIO | 0x87);
}

static uint64_t data_base(unsigned bits, enum page page)
{
    return page != PAGE_DEVICE ? DATA : bits == 64 ? MMIO_64 : MMIO;
}

/* The operand's neighbourhood: zeros, or what RET, RETF and IRET pop. */
static void fill(struct guest *g, const struct row *row, unsigned offset)
{
    unsigned word = row->bits == 64 ? 8 : 4;
    const uint64_t frame[] = {CODE + RETURN, USER_CS, 0x202, DATA, USER_DS};
    memset(g->ram + BORDER - 64, 0, 1024);
    if (row->flags & FRAME) {
        for (unsigned i = 0; i < 5; i++)
            memcpy(g->ram + DATA + offset + i * word, &frame[i], word);
    }
}

static void set_level(struct guest *g, unsigned bits, unsigned cpl)
{
    guest_enter_user(g, bits == 64 ? 64 : 32);
    g->state.cpl = (uint8_t)cpl;
    for (unsigned i = 0; i < 6; i++) {
        struct x86_segment *seg = &g->state.seg[i];
        seg->attr = (seg->attr & ~(uint32_t)X86_AR_DPL) | cpl << X86_AR_DPL_SHIFT;
        if (cpl != 3)
            seg->selector = (uint16_t)((i == X86_CS ? KERNEL_CS : KERNEL_DS) | cpl);
    }
    if (bits == 16) {
        g->state.seg[X86_CS].attr &= ~(uint32_t)X86_AR_DB;
        g->state.seg[X86_CS].base = CODE;
        segment_update_bounds(&g->state.seg[X86_CS]);
        g->state.rip = 0;
    }
}

static void set_registers(struct guest *g, const struct row *row, uint64_t base, unsigned offset)
{
    const uint64_t at = base + offset;
    static const uint8_t pointers[] = {X86_RSI, X86_RDI, X86_RBX, X86_RBP};
    for (unsigned i = 0; i < 16; i++)
        g->state.gpr[i] = row->bits == 64 || i < 8 ? 0x1000u * i : 0;
    g->state.gpr[X86_RAX] = 0;
    g->state.gpr[X86_RCX] = 2;
    g->state.gpr[X86_RDX] = base;
    for (unsigned i = 0; i < sizeof(pointers); i++)
        g->state.gpr[pointers[i]] = at;
    g->state.gpr[X86_RSP] = row->flags & ON_STACK ? at : STACK;
    /* Vector registers 0 and 2, which are masks, hold ones, the rest is in its initial state. */
    enum { MXCSR = 24, XMM = 160, XSTATE_BV = 512, SSE = 2 };
    memset(g->state.xsave, 0, sizeof(g->state.xsave));
    g->state.xsave[MXCSR] = 0x80;
    g->state.xsave[MXCSR + 1] = 0x1f;
    memset(g->state.xsave + XMM, 0xff, 16);
    memset(g->state.xsave + XMM + 32, 0xff, 16);
    g->state.xsave[XSTATE_BV] = SSE;
}

/* Prepares one instruction whose operand is offset behind the start of the data. */
static void prepare(struct guest *g, const struct row *row, enum page page, unsigned cpl,
                    unsigned offset, uint64_t flags)
{
    fill(g, row, offset);
    guest_place(g, row->code, row->end);
    set_level(g, row->bits, cpl);
    set_registers(g, row, data_base(row->bits, page), offset);
    x86_set_rflags(&g->state, 0x202 | flags);
    uint8_t *page_flags = as_page_flags(g->as);
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *f = &page_flags[DATA / PAGE + i];
        *f = (uint8_t)(page == PAGE_TRACED ? *f | RAM_PAGE_CODE : *f & ~RAM_PAGE_CODE);
    }
}

/* Runs until a vector; returns it. */
static unsigned run(struct guest *g)
{
    assert_int_equal(guest_run(g), VCPU_EXIT_HALT);
    uint64_t stub = g->state.rip - STUBS;
    assert_in_range(stub, 0, 16 * VECTOR_END + 1);
    return (unsigned)(stub / 16);
}

static void start_warm(struct guest *g, const struct row *row)
{
    const uint8_t *code = row->bits == 64 ? warm_64 : row->bits == 32 ? warm_32 : warm_16;
    const uint8_t *end = row->bits == 64   ? warm_64_end
                         : row->bits == 32 ? warm_32_end
                                           : warm_16_end;
    as_write(g->as, CODE + WARM, code, (size_t)(end - code));
    g->state.rip += WARM;
}

/* The fault left everything as it was and names the instruction. */
static void check_precise(struct guest *g, const struct row *row, const struct x86_cpu *before)
{
    unsigned word = row->bits == 64 ? 8 : 4;
    uint64_t frame[5];
    for (unsigned i = 0; i < 5; i++) {
        uint64_t at = g->state.gpr[X86_RSP] + i * word;
        frame[i] = word == 8 ? guest_read64(g, at) : guest_read32(g, at);
    }
    assert_int_equal(frame[0], 0); /* error code */
    assert_int_equal(frame[1], before->rip);
    assert_true(frame[3] & X86_AC_FLAG);
    assert_int_equal(frame[4], before->gpr[X86_RSP]);
    for (unsigned i = 0; i < 16; i++) {
        if (i != X86_RSP)
            assert_int_equal(g->state.gpr[i], before->gpr[i]);
    }
    assert_int_equal(g->state.cpl, 0);
}

static void check(struct guest *g, const struct row *row, enum page page, unsigned offset)
{
    prepare(g, row, page, 3, offset, X86_AC_FLAG);
    struct x86_cpu before = g->state;
    if (page == PAGE_WARM)
        start_warm(g, row);
    unsigned vector = run(g), expected = 0;
    if (offset % row->alignment)
        expected = X86_AC;
    else if (offset % row->demanded)
        expected = X86_GP;
    if (expected ? vector != expected : vector == X86_AC || vector == X86_GP)
        fail_msg("%s, page kind %u, offset %#x: vector %u, not %u", row->name, page, offset, vector,
                 expected);
    if (vector == X86_AC)
        check_precise(g, row, &before);
}

static void check_rows(unsigned bits)
{
    struct guest g;
    create(&g, bits);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].bits != bits)
            continue;
        for (unsigned page = 0; page < PAGE_KINDS; page++) {
            for (unsigned offset = PAGE - SPAN; offset <= PAGE + SPAN; offset++)
                check(&g, &rows[i], (enum page)page, offset);
        }
    }
    guest_destroy(&g);
}

static void misaligned_operands_in_64_bit_code(void **state)
{
    (void)state;
    check_rows(64);
}

static void misaligned_operands_in_32_bit_code(void **state)
{
    (void)state;
    check_rows(32);
}

static void misaligned_operands_in_16_bit_code(void **state)
{
    (void)state;
    check_rows(16);
}

/* CR0.AM, EFLAGS.AC and CPL 3: without one of them nothing is checked. */
static void no_checks_unless_all_conditions_hold(void **state)
{
    (void)state;
    static const unsigned modes[] = {64, 32, 16};
    for (unsigned m = 0; m < 3; m++) {
        struct guest g;
        create(&g, modes[m]);
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            if (rows[i].bits != modes[m])
                continue;
            for (unsigned cpl = 0; cpl < 3; cpl++) {
                prepare(&g, &rows[i], PAGE_RAM, cpl, PAGE - 3, X86_AC_FLAG);
                assert_int_not_equal(run(&g), X86_AC);
            }
            prepare(&g, &rows[i], PAGE_TRACED, 3, PAGE - 3, 0);
            assert_int_not_equal(run(&g), X86_AC);
            prepare(&g, &rows[i], PAGE_RAM, 3, PAGE - 3, X86_AC_FLAG);
            g.state.cr0 &= ~(uint64_t)X86_CR0_AM;
            assert_int_not_equal(run(&g), X86_AC);
            g.state.cr0 |= X86_CR0_AM;
        }
        guest_destroy(&g);
    }
}

/* --- single programs --- */

static const struct row *find_row(const char *name)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (!strcmp(rows[i].name, name))
            return &rows[i];
    }
    fail_msg("no row %s", name);
    return NULL;
}

/* As on the host: #AC comes ahead of the page walk, #GP for the segment ahead of #AC. */
static void alignment_before_page_fault(void **state)
{
    (void)state;
    struct guest g;
    create(&g, 64);
    for (unsigned odd = 0; odd < 2; odd++) {
        prepare(&g, find_row("mov4"), PAGE_RAM, 3, PAGE, X86_AC_FLAG);
        g.state.gpr[X86_RSI] = 0x40000000 + odd;
        assert_int_equal(run(&g), odd ? X86_AC : X86_PF);
        prepare(&g, find_row("mov4"), PAGE_RAM, 3, PAGE, X86_AC_FLAG);
        g.state.gpr[X86_RSI] = 0x800000000000 + odd;
        assert_int_equal(run(&g), X86_GP);
    }
    guest_destroy(&g);
}

/* The check of the final stack pointer of ENTER is one of an operand. */
GUEST_CODE(enter_final, 32, "enter $2, $0\n int $0x30");

static void enter_checks_final_stack_pointer(void **state)
{
    (void)state;
    struct guest g;
    create(&g, 32);
    prepare(&g, find_row("mov4_32"), PAGE_RAM, 3, PAGE, X86_AC_FLAG);
    guest_place(&g, enter_final, enter_final_end);
    assert_int_equal(run(&g), X86_AC);
    guest_destroy(&g);
}

/* Loops, calls, callouts and x87 code between instructions that turn the checks on and off. */
extern const uint8_t toggled_fault[];
GUEST_CODE(toggled, 64,
           "mov $100, %ebx\n 1: movl 1(%rsi), %eax\n pushfq\n orl $0x40000, (%rsp)\n popfq\n"
           "movl 4(%rsi), %eax\n call 2f\n std\n lodsl\n cld\n add $4, %rsi\n pushfq\n"
           "andl $~0x40000, (%rsp)\n popfq\n movl 3(%rsi), %eax\n dec %ebx\n jnz 1b\n pushfq\n"
           "orl $0x40000, (%rsp)\n popfq\n toggled_fault: movl 3(%rsi), %eax\n int $0x30\n"
           "2: push %rax\n pop %rax\n fld1\n fstp %st\n ret");

static void popf_turns_checks_on_and_off(void **state)
{
    (void)state;
    struct guest g;
    create(&g, 64);
    prepare(&g, find_row("mov4"), PAGE_RAM, 3, 0, 0);
    guest_place(&g, toggled, toggled_end);
    assert_int_equal(run(&g), X86_AC);
    assert_int_equal(g.state.gpr[X86_RBX], 0);
    assert_int_equal(guest_read64(&g, g.state.gpr[X86_RSP] + 8),
                     CODE + (uint64_t)(toggled_fault - toggled));
    guest_destroy(&g);
}

/* Virtual-8086 mode is CPL 3. */
GUEST_CODE(in_vm86, 16, "movw (%si), %ax\n int $0x30");

static void virtual_8086_mode_is_checked(void **state)
{
    (void)state;
    struct guest g;
    create(&g, 32);
    for (unsigned offset = 0; offset < 4; offset++) {
        prepare(&g, find_row("mov4_32"), PAGE_RAM, 3, PAGE, X86_AC_FLAG | X86_VM | X86_IOPL);
        guest_place(&g, in_vm86, in_vm86_end);
        for (unsigned i = 0; i < 6; i++) {
            g.state.seg[i].limit = 0xffff;
            g.state.seg[i].attr = 0xf3;
            segment_load_real(&g.state.seg[i], (i == X86_CS ? CODE : STACK) >> 4);
        }
        g.state.rip = 0;
        g.state.gpr[X86_RSP] = 0x1000;
        g.state.gpr[X86_RSI] = offset;
        assert_int_equal(run(&g), offset % 2 ? X86_AC : VECTOR_END);
    }
    guest_destroy(&g);
}

/*
 * A handler of #AC at CPL 3 whose stack is misaligned, too: a processor raises #AC for ever. The
 * engine must not.
 */
static void *kick_later(void *ctx)
{
    struct guest *g = ctx;
    struct timespec pause = {.tv_nsec = 20000000};
    nanosleep(&pause, NULL);
    engine_bt.vcpu_kick(g->vcpu);
    return NULL;
}

static void endless_alignment_faults_can_be_interrupted(void **state)
{
    (void)state;
    struct guest g;
    pthread_t thread;
    create(&g, 32);
    guest_set_gate(&g, 32, X86_AC, STUBS, 3);
    as_write(g.as, IDT + X86_AC * 8 + 2, &(uint16_t){USER_CS}, 2);
    prepare(&g, find_row("mov4_32"), PAGE_RAM, 3, PAGE + 1, X86_AC_FLAG);
    g.state.gpr[X86_RSP] = STACK + 2;
    assert_int_equal(pthread_create(&thread, NULL, kick_later, &g), 0);
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICK);
    pthread_join(thread, NULL);
    assert_int_equal(g.state.rip, CODE);
    assert_int_equal(g.state.gpr[X86_RSP], STACK + 2);
    guest_destroy(&g);
}

/* A signal handler inherits the guest's EFLAGS.AC, and has misaligned accesses of its own. */
static struct {
    volatile uint32_t *flag; /* guest memory */
    volatile unsigned count;
} handler;

static void on_alarm(int number)
{
    static const struct {
        uint8_t byte;
        volatile uint32_t value;
    } __attribute__((packed)) odd = {1, 2};
    handler.count += odd.value;
    *handler.flag = handler.count >= 6;
    (void)number;
}

GUEST_CODE(waiting, 64, "1: cmpl $0, (%rsi)\n je 1b\n int $0x30");

static void signal_handlers_are_not_checked(void **state)
{
    (void)state;
    struct guest g;
    create(&g, 64);
    handler.flag = (volatile uint32_t *)(void *)(g.ram + DATA);
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_ONSTACK}, old;
    assert_int_equal(sigaction(SIGALRM, &action, &old), 0);
    struct itimerval timer = {.it_interval = {.tv_usec = 2000}, .it_value = {.tv_usec = 2000}};
    const struct itimerval off = {.it_value = {0}};
    prepare(&g, find_row("mov4"), PAGE_RAM, 3, 0, X86_AC_FLAG);
    guest_place(&g, waiting, waiting_end);
    assert_int_equal(setitimer(ITIMER_REAL, &timer, NULL), 0);
    assert_int_equal(run(&g), VECTOR_END);
    assert_int_equal(setitimer(ITIMER_REAL, &off, NULL), 0);
    sigaction(SIGALRM, &old, NULL);
    assert_true(handler.count >= 6);
    guest_destroy(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(misaligned_operands_in_64_bit_code),
        cmocka_unit_test(misaligned_operands_in_32_bit_code),
        cmocka_unit_test(misaligned_operands_in_16_bit_code),
        cmocka_unit_test(no_checks_unless_all_conditions_hold),
        cmocka_unit_test(alignment_before_page_fault),
        cmocka_unit_test(enter_checks_final_stack_pointer),
        cmocka_unit_test(popf_turns_checks_on_and_off),
        cmocka_unit_test(virtual_8086_mode_is_checked),
        cmocka_unit_test(endless_alignment_faults_can_be_interrupted),
        cmocka_unit_test(signal_handlers_are_not_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
