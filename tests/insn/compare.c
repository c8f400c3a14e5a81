#include "compare.h"

#include <Zydis/Zydis.h>
#include <string.h>

#include "access.h"
#include "cpu/cpu.h"
#include "decoder/insn.h"
#include "forms.h"
#include "memory/mmu.h"

#define HOST_USER_END 0x7ffffffff000ull

enum {
    ARITH = X86_ARITH_FLAGS,
    FX_FSW = 2,
    FX_FOP = 6,
    FX_FIP = 8,
    FX_FDP = 16,
    FSW_ES = 0x80,
    FX_MXCSR = 24,
    FX_ST = 32,
    FX_XMM = 160,
    YMM = 576
};

unsigned case_insn_at(const struct insn_case *c, uint64_t rip)
{
    unsigned i = 0;
    while (i + 1 < c->count && c->in.rip + c->offset[i + 1] <= rip)
        i++;
    return i;
}

static bool decode(const struct insn_case *c, unsigned i, struct insn *insn)
{
    return insn_decode(insn, c->code + c->offset[i], CASE_CODE - c->offset[i], c->mode) == INSN_OK;
}

/*
 * Arithmetic flags whose value at a fault in instruction i is certain. Those that are replaced
 * before anybody reads them may be stale: a translated block does not keep dead flags.
 */
static unsigned live_flags(const struct insn_case *c, unsigned i)
{
    unsigned live = 0, dead = 0;
    struct insn insn;
    for (; i < c->count && decode(c, i, &insn); i++) {
        live |= insn.flags_read & ~dead;
        if (insn.kind == KIND_CALLOUT)
            return (live | ~dead) & ARITH;
        if (insn.class == INSN_CONTROL)
            return live & ARITH;
        dead |= insn.flags_written;
    }
    return (live | ~dead) & ARITH;
}

/* Flags that some instruction of the test leaves undefined. */
static unsigned undefined_flags(const struct insn_case *c)
{
    unsigned undefined = 0;
    for (unsigned i = 0; i < c->count; i++)
        undefined |= form_undefined_flags(c->code + c->offset[i],
                                          CASE_CODE - (unsigned)c->offset[i], c->mode);
    return undefined;
}

/* Images are not read in ascending order. */
static bool any_fault_address(const struct insn_case *c, unsigned i)
{
    struct insn insn;
    return decode(c, i, &insn) && insn.kind == KIND_CALLOUT &&
           (insn.op == OP_FLDENV || insn.op == OP_FRSTOR || insn.op == OP_FXRSTOR ||
            insn.op == OP_XRSTOR);
}

/*
 * Operands of 80 bits that wrap at the end of a segment: the host checks and accesses the first 64
 * bits before it looks at the others.
 */
static bool in_two_parts(const struct insn_case *c, const struct insn_result *native,
                         const struct insn_result *guest)
{
    struct insn insn;
    return native->vector == X86_PF && (guest->vector == X86_GP || guest->vector == X86_SS_FAULT) &&
           decode(c, case_insn_at(c, native->out.rip), &insn) && insn.fpu_state == FPU_X87 &&
           insn.mem.size == 10;
}

/* UD0 and UD1: whether the operand behind their opcode is fetched differs among processors. */
static bool undefined_opcode(const struct insn_case *c, const struct insn_result *native)
{
    struct insn insn;
    return native->vector == X86_UD && decode(c, case_insn_at(c, native->out.rip), &insn) &&
           insn.op == OP_UD;
}

bool compare_knows_accesses(const struct insn_case *c, const struct insn_result *native)
{
    return native->outcome == OUTCOME_END ||
           (native->outcome == OUTCOME_EXCEPTION && !undefined_opcode(c, native) &&
            !any_fault_address(c, case_insn_at(c, native->out.rip)));
}

static unsigned compare_gprs(const struct insn_case *c, const struct insn_state *a,
                             const struct insn_state *b)
{
    uint64_t mask = c->mode == 64 ? UINT64_MAX : UINT32_MAX;
    for (unsigned i = 0; i < (c->mode == 64 ? 16u : 8u); i++) {
        if ((a->gpr[i] ^ b->gpr[i]) & mask)
            return DIFF_GPR;
    }
    return 0;
}

static unsigned half(const uint8_t *p)
{
    return p[0] | (unsigned)p[1] << 8;
}

static uint64_t segment_base(const struct insn_case *c, unsigned seg)
{
    if (c->mode != 64)
        return segment_rows[c->segment[seg]].base;
    return seg == X86_FS ? c->in.fs_base : seg == X86_GS ? c->in.gs_base : 0;
}

/* The same byte in DS, where the segment of an operand is not known. */
static bool same_byte(const struct insn_case *c, uint64_t a, uint64_t b)
{
    bool found = false;
    for (unsigned seg = X86_ES; seg <= X86_GS; seg++) {
        uint64_t byte = (segment_base(c, seg) + a) ^ (segment_base(c, X86_DS) + b);
        found |= (byte & (c->mode == 64 ? LINEAR_HIGH - 1 : UINT32_MAX)) == 0;
    }
    return found;
}

/* The other of the two addresses of a byte: registers no longer tell which one was used. */
static bool is_alias(const struct insn_case *c, const struct insn *insn, uint64_t a, uint64_t b)
{
    uint64_t base = segment_base(c, insn->mem.seg);
    return c->mode == 64 && c->count > 1 && ((base + a) ^ (base + b)) == LINEAR_HIGH;
}

static bool unmasks(const struct insn_case *c)
{
    bool found = false;
    for (unsigned i = 0; i < c->count; i++)
        found |= c->mnemonic[i] == ZYDIS_MNEMONIC_FLDCW;
    return found;
}

/*
 * Pointers to the last x87 instruction, which processors store always, or while an exception is
 * pending. What the guest may not know is 0: all of them where the exception was unmasked later
 * than it happened; that to the operand, when other accesses took its place in the TLB and
 * registers have changed, or when it was on a stack that INT left. It may be an alias when
 * registers have changed.
 */
static bool same_pointers(const struct insn_case *c, const struct insn_state *a,
                          const struct insn_state *b)
{
    static const uint8_t none[FX_MXCSR - FX_FOP];
    const uint8_t *mine = b->xsave + FX_FOP;
    uint64_t fip, fdp[2];
    struct insn insn;
    if (!(half(a->xsave + FX_FSW) & FSW_ES) || !memcmp(a->xsave + FX_FOP, mine, sizeof(none)))
        return true;
    if (!memcmp(mine, none, sizeof(none)))
        return unmasks(c);
    memcpy(&fip, a->xsave + FX_FIP, 8);
    memcpy(&fdp[0], a->xsave + FX_FDP, 8);
    memcpy(&fdp[1], b->xsave + FX_FDP, 8);
    if (memcmp(a->xsave + FX_FOP, mine, FX_FDP - FX_FOP) || !decode(c, case_insn_at(c, fip), &insn))
        return false;
    if (fdp[1] == 0)
        return c->count > 1 || insn.mem.seg == X86_SS;
    return insn.mem.present ? is_alias(c, &insn, fdp[0], fdp[1]) : same_byte(c, fdp[0], fdp[1]);
}

static unsigned compare_vectors(const struct insn_case *c, const struct insn_state *a,
                                const struct insn_state *b)
{
    unsigned differences = 0, registers = c->mode == 64 ? 16 : 8;
    if (memcmp(a->xsave, b->xsave, 5) || !same_pointers(c, a, b))
        differences |= DIFF_X87;
    for (unsigned i = 0; i < 8; i++) {
        if (memcmp(a->xsave + FX_ST + 16 * i, b->xsave + FX_ST + 16 * i, 10))
            differences |= DIFF_X87;
    }
    if (memcmp(a->xsave + FX_MXCSR, b->xsave + FX_MXCSR, 4))
        differences |= DIFF_MXCSR;
    if (memcmp(a->xsave + FX_XMM, b->xsave + FX_XMM, 16 * registers) ||
        memcmp(a->xsave + YMM, b->xsave + YMM, 16 * registers))
        differences |= DIFF_VECTOR;
    return differences;
}

/* Offsets in an image; the data pointer and what follows end it. */
struct image_layout {
    unsigned fsw, first, fip, fcs, fdp, fds, end, width;
};

static struct image_layout image_layout(const struct insn_case *c)
{
    static const struct image_layout fxsave = {2, 6, 8, 12, 16, 20, 24, 4},
                                     env32 = {4, 12, 12, 16, 20, 24, 28, 4},
                                     env16 = {2, 6, 6, 8, 10, 12, 14, 2};
    if (c->save_size >= 512)
        return fxsave;
    return c->save_size == 14 || c->save_size == 94 ? env16 : env32;
}

/*
 * A byte of the pointers in a stored image that need not agree, by the rules of same_pointers(). In
 * addition FNSTENV and FNSAVE may store 0 while no exception is pending; and in 64-bit mode the
 * selectors are the systems'.
 */
static bool unknown_byte(const struct insn_case *c, const uint8_t *native, const uint8_t *guest,
                         unsigned offset)
{
    struct image_layout at = image_layout(c);
    if (!c->save_offset || offset < c->save_offset + at.first || offset >= c->save_offset + at.end)
        return false;
    const uint8_t *image = native + c->save_offset;
    bool data = offset - c->save_offset >= at.fdp, quiet = !(half(image + at.fsw) & FSW_ES);
    unsigned selector = data ? at.fds : at.fcs, pointer = data ? at.fdp : at.fip;
    if (c->mode == 64 && offset - c->save_offset - selector < at.width)
        return true;
    uint64_t fip = 0, found = 0;
    struct insn insn;
    memcpy(&fip, image + at.fip, at.width);
    memcpy(&found, guest + c->save_offset + pointer, at.width);
    if (!found && (unmasks(c) || (quiet && c->save_size < 512)))
        return true;
    fip |= c->in.rip >> (8 * at.width) << (8 * at.width);
    if (!data || !decode(c, case_insn_at(c, fip), &insn))
        return false;
    return !insn.mem.present || (!found && (c->count > 1 || insn.mem.seg == X86_SS));
}

static unsigned compare_memory(const struct insn_case *c, const uint8_t *a, const uint8_t *b)
{
    if (!memcmp(a, b, MEMORY_BYTES))
        return 0;
    for (unsigned i = 0; i < MEMORY_BYTES; i++) {
        if (a[i] != b[i] && !unknown_byte(c, a, b, i))
            return DIFF_MEMORY;
    }
    return 0;
}

/* Error code bits that a page fault has in the guest only: natively the page is absent. */
static uint64_t more_error(const struct insn_case *c, uint64_t linear)
{
    enum { PRESENT = 1, RESERVED = 8 };
    int page = page_number(linear);
    if (page < 0 || c->rights[page] <= RIGHTS_ABSENT)
        return 0;
    return c->rights[page] == RIGHTS_RESERVED ? PRESENT | RESERVED : PRESENT;
}

static unsigned compare_exception(const struct insn_case *c, const struct insn_result *native,
                                  const struct insn_result *guest,
                                  const struct compare_rules *rules)
{
    if (native->vector != guest->vector)
        return DIFF_OUTCOME;
    uint64_t error = native->error ^ guest->error;
    if (native->vector == X86_PF) {
        if (native->cr2 != guest->cr2)
            return DIFF_ERROR;
        error ^= more_error(c, native->cr2);
        /* The host system hides whether addresses of its own are mapped. */
        if (native->cr2 >= HOST_USER_END ||
            (rules->guest_only && rules->guest_only(rules->ctx, guest->cr2)))
            error &= ~1ull;
    }
    return error ? DIFF_ERROR : 0;
}

static bool gathers(const struct insn_case *c, uint64_t rip)
{
    struct insn insn;
    return decode(c, case_insn_at(c, rip), &insn) && insn.op == OP_GATHER;
}

/* The trap of EFLAGS.TF came between two iterations of the string instruction there. */
static bool repeats(const struct insn_case *c, uint64_t rip)
{
    struct insn insn;
    return decode(c, case_insn_at(c, rip), &insn) && insn.kind == KIND_STRING &&
           (insn.prefixes & (PREFIX_REP | PREFIX_REPNE));
}

/* An offset from FS or GS that is not canonical itself, though the linear address is. */
static bool odd_offset(const struct insn_case *c, const struct insn_result *native,
                       const struct insn_result *guest)
{
    struct insn insn;
    if (c->mode != 64 || native->vector != X86_GP || guest->vector != X86_PF ||
        !decode(c, case_insn_at(c, native->out.rip), &insn) || insn.mem.seg < X86_FS)
        return false;
    uint64_t base = insn.mem.seg == X86_FS ? c->in.fs_base : c->in.gs_base;
    return !mmu_canonical(guest->cr2 - base);
}

/* Ended inside an instruction: a wild jump found one that is not comparable there (INT1, RETF,
 * ...). */
static bool between_instructions(const struct insn_case *c, const struct insn_result *native)
{
    uint64_t at = native->out.rip - c->in.rip;
    return native->outcome == OUTCOME_EXCEPTION && at < c->code_size &&
           at != c->offset[case_insn_at(c, native->out.rip)];
}

unsigned compare_results(const struct insn_case *c, const struct insn_result *native,
                         const struct insn_result *guest, const struct compare_rules *rules)
{
    if (native->outcome == OUTCOME_TIMEOUT && guest->outcome == OUTCOME_TIMEOUT)
        return 0;
    if (between_instructions(c, native))
        return 0;
    if (native->vector == X86_DB && native->out.rip - c->in.rip > c->code_size)
        return 0; /* single-stepped into what ends the test */
    if (native->vector == X86_DB && guest->vector == X86_PF && gathers(c, native->out.rip))
        return 0; /* the trap of EFLAGS.TF may come between two elements */
    if (undefined_opcode(c, native) && guest->vector == X86_PF)
        return native->out.rip == guest->out.rip ? 0 : DIFF_OUTCOME;
    if (native->outcome != guest->outcome)
        return DIFF_OUTCOME;
    const struct insn_state *a = &native->out, *b = &guest->out;
    unsigned differences = 0;
    uint64_t ip_mask = c->mode == 64 ? UINT64_MAX : UINT32_MAX, flag_mask = ~0ull;
    if (native->outcome == OUTCOME_EXCEPTION) {
        if (!any_fault_address(c, case_insn_at(c, a->rip)) && !odd_offset(c, native, guest) &&
            !in_two_parts(c, native, guest))
            differences |= compare_exception(c, native, guest, rules);
        unsigned at = case_insn_at(c, a->rip);
        bool boundary = a->rip == c->in.rip + c->offset[at]; /* a wild jump may lead in between */
        unsigned certain = rules->exact_flags  ? (unsigned)ARITH
                           : c->self_modifying ? 0
                                               : live_flags(c, at);
        flag_mask = ~(uint64_t)ARITH | (boundary ? certain : 0);
        if (native->vector == X86_DB && repeats(c, a->rip))
            flag_mask &= ~(uint64_t)X86_RF;
    }
    if ((a->rip ^ b->rip) & ip_mask)
        differences |= DIFF_RIP;
    uint64_t flags = (a->rflags ^ b->rflags) & flag_mask;
    uint64_t tolerated = rules->undefined_flags ? 0 : undefined_flags(c);
    if (flags)
        differences |= flags & ~tolerated ? DIFF_FLAGS : DIFF_UNDEFINED;
    differences |= compare_gprs(c, a, b) | compare_vectors(c, a, b);
    if (c->mode == 64 && (a->fs_base != b->fs_base || a->gs_base != b->gs_base))
        differences |= DIFF_BASE;
    if (c->self_modifying && memcmp(native->code, guest->code, c->code_size))
        differences |= DIFF_CODE;
    if (!access_bits_possible(c, native, guest, rules->template))
        differences |= DIFF_ACCESSED;
    return differences | compare_memory(c, native->memory, guest->memory);
}
