/*
 * Stack windows: one TLB check for all stack accesses of a run of instructions. Half of all memory
 * operands are on the stack, and their distances from RSP are known: the window covers [RSP + low,
 * RSP + high), R8 holds host minus guest address, and the accesses in it are plain [R11 + R8 +
 * displacement].
 *
 * A window that straddles a page, or a page that may not be accessed directly, is no fault by
 * itself: execution goes on in a variant of the block that checks every access on its own.
 */
#include "translator/xlate_internal.h"

enum { WINDOW_BYTES = 1024, WINDOW_MAX = 4 };

struct window {
    int low, high; /* bytes relative to RSP at the start */
    int shift;     /* RSP now minus RSP at the start */
    unsigned accesses;
    bool write;
};

/* ADD/SUB RSP, imm and LEA RSP, [RSP + disp]: the shift; 0 if it is something else. */
static int constant_shift(const struct xlate *x, const struct insn *insn)
{
    bool full = insn->opsize * 8 == x->mode->stack_bits;
    if (!full || insn->map != 0 || insn->encoding != ENC_LEGACY || !insn->has_modrm)
        return 0;
    if (insn->opcode == 0x8d) {
        bool shift = insn->reg == X86_RSP && insn->mem.base == X86_RSP &&
                     insn->mem.index == GPR_NONE && insn->addrsize == insn->opsize;
        bool near = insn->mem.disp <= WINDOW_BYTES && insn->mem.disp >= -WINDOW_BYTES;
        return shift && near ? (int)insn->mem.disp : 0;
    }
    bool alu = (insn->opcode == 0x81 || insn->opcode == 0x83) && !insn->mem.present &&
               insn->rm == X86_RSP && insn->imm <= WINDOW_BYTES && insn->imm >= -WINDOW_BYTES;
    unsigned operation = insn->modrm >> 3 & 7;
    if (!alu || (operation != 0 && operation != 5))
        return 0;
    return operation == 0 ? (int)insn->imm : -(int)insn->imm;
}

/* Widens the window; false if it would become too large. */
static bool window_add(struct window *w, int offset, unsigned size, bool write)
{
    int low = w->shift + offset < w->low ? w->shift + offset : w->low;
    int high = w->shift + offset + (int)size > w->high ? w->shift + offset + (int)size : w->high;
    if (w->accesses == 0) {
        low = w->shift + offset;
        high = low + (int)size;
    }
    if (high - low > WINDOW_BYTES)
        return false;
    w->low = low;
    w->high = high;
    w->write |= write;
    w->accesses++;
    return true;
}

static bool stack_operand(const struct xlate *x, const struct insn *insn)
{
    return insn->mem.present && insn->mem.access && insn->mem.base == X86_RSP &&
           insn->mem.index == GPR_NONE && insn->mem.seg == X86_SS &&
           insn->addrsize * 8 == x->mode->stack_bits && insn->mem.disp < WINDOW_BYTES &&
           insn->mem.disp > -WINDOW_BYTES;
}

/* Extends the window over one instruction; false: it ends before it. *last: it ends behind it. */
static bool window_step(const struct xlate *x, struct window *w, const struct insn *insn,
                        bool *last)
{
    int size = (int)insn->opsize;
    if (insn->mem.present && insn->mem.base == X86_RSP && !stack_operand(x, insn) &&
        insn->mem.access)
        return insn->kind == KIND_COPY && !(insn->gpr_written & 1u << X86_RSP);
    bool operand = stack_operand(x, insn);
    int disp = (int)insn->mem.disp;
    switch ((enum insn_kind)insn->kind) {
    case KIND_COPY:
        if (operand && insn_is_bit_string(insn))
            return false;
        if (operand && !window_add(w, disp, insn->mem.size, insn->mem.access & MEM_WRITE))
            return false;
        if (insn->gpr_written & 1u << X86_RSP) {
            int shift = constant_shift(x, insn);
            w->shift += shift;
            *last = shift == 0;
        }
        return true;
    case KIND_NOP:
    case KIND_JCC:
    case KIND_JMP_REL:
    case KIND_LOOP:
    case KIND_CLI:
        return true;
    case KIND_PUSH:
        if ((operand && !window_add(w, disp, insn->mem.size, false)) ||
            !window_add(w, -size, (unsigned)size, true))
            return false;
        w->shift -= size;
        return true;
    case KIND_POP:
        if (!window_add(w, 0, (unsigned)size, false) ||
            (operand && !window_add(w, disp + size, insn->mem.size, true)))
            return false;
        w->shift += size;
        *last = !insn->mem.present && (insn->gpr_written & 1u << X86_RSP) &&
                ((insn->gpr_fields & FIELD_OPC) ? (insn->opcode & 7) == X86_RSP && !(insn->rex & 1)
                                                : insn->rm == X86_RSP);
        return true;
    case KIND_CALL_IND:
    case KIND_JMP_IND:
        if (operand && !window_add(w, disp, insn->mem.size, false))
            return false;
        *last = true;
        return insn->kind == KIND_JMP_IND || window_add(w, -size, (unsigned)size, true);
    case KIND_CALL_REL:
        *last = true;
        return window_add(w, -size, (unsigned)size, true);
    case KIND_RET:
        *last = true;
        return window_add(w, 0, (unsigned)size, false);
    case KIND_LEAVE:
    case KIND_STRING:
    case KIND_XLAT:
    case KIND_STI:
    case KIND_CALLOUT:
        break;
    }
    return false;
}

static bool window_possible(const struct xlate *x)
{
    const struct xlate_mode *mode = x->mode;
    return !mode->single && !mode->bounce && !mode->no_windows && mode->stack_bits != 16 &&
           x->windows < WINDOW_MAX && (mode->bits == 64 || (mode->flat & 1u << X86_SS));
}

/* Simulates from the current instruction; returns the first instruction behind the window. */
static unsigned find_window(const struct xlate *x, struct window *w, unsigned *first_access)
{
    unsigned end = x->number;
    bool last = false;
    *first_access = x->count;
    while (end < x->count && !last) {
        struct window next = *w;
        bool is_last = end + 1 == x->count;
        const struct insn *insn = x->list[end];
        if (insn_needs_callout(x, insn, is_last) || !window_step(x, &next, insn, &last))
            break;
        if (next.accesses && !w->accesses)
            *first_access = end;
        *w = next;
        end++;
    }
    return end;
}

/*
 * A window opens at its first access; or earlier, at the last instruction in front of which flags
 * are still dead, if they are live at the access (function ends: ADD RSP, POP, RET).
 */
static bool worth_opening(const struct xlate *x, const struct window *w, unsigned first_access)
{
    if (!w->accesses)
        return false;
    if (first_access == x->number)
        return w->accesses > 1;
    return !x->live_now && x->live[x->number + 1] && x->live[first_access];
}

void window_open(struct xlate *x)
{
    if (!window_possible(x))
        return;
    struct window w = {.low = 0};
    unsigned first_access;
    unsigned end = find_window(x, &w, &first_access);
    if (!worth_opening(x, &w, first_access))
        return;
    struct emit *e = &x->e;
    flags_clobber(x);
    emit_lea(e, x->mode->stack_bits == 64 ? W64 : W32, H_R10, H_R11, H_NONE, 0, w.low);
    unsigned size = (unsigned)(w.high - w.low);
    emit_tlb_lookup(x, COLD_WINDOW, size, w.write, false)->value |= ACCESS_WINDOW;
    emit_lea(e, W64, H_R8, H_R10, H_NONE, 0, -w.low);
    emit_reg_reg(e, W64, 0x2b, H_R8, H_R11);
    x->window_end = end;
    x->windows++;
}

bool window_covers(struct xlate *x, unsigned base, unsigned index, int displacement)
{
    const struct insn *insn = x->insn;
    if (!window_active(x) || base != X86_RSP || index != GPR_NONE)
        return false;
    if (insn->mem.present && insn->mem.base == X86_RSP && !stack_operand(x, insn))
        return false;
    set_operand(x, H_R11, H_R8, displacement);
    return true;
}

void emit_cold_window(struct xlate *x, const struct cold *cold)
{
    struct emit *e = &x->e;
    unsigned size = cold->value & ACCESS_SIZE_MASK;
    emit_reg_gs_index(e, W64, 0x03, H_R10, H_R9, cold->tag); /* linear address again */
    emit_mov(e, W32, H_R9, H_R10);
    emit_alu_imm32(e, W32, 4, H_R9, 4095);
    emit_alu_imm32(e, W32, 7, H_R9, 4096 - size);
    uint32_t straddles = emit_jcc_later(e, CC_A);
    emit_call_access(x, cold);
    emit_alu_imm32(e, W64, 7, H_R10, ACCESS_NO_WINDOW);
    emit_patch(e, emit_jcc_later(e, CC_NE), cold->back);
    emit_patch(e, straddles, e->pos);
    if (x->parked)
        flags_unpark(x, false);
    emit_exit_variant(x);
}
