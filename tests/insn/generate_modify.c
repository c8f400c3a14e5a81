/*
 * Tests that change their own code: stores into bytes of instructions of the test, before, behind
 * or in the storing one. What an instruction becomes is of the same length and kind, touches no
 * other flags, and is no instruction that the host could not be compared with: a store to any byte
 * with any value would soon call the host's system.
 */
#include "generate_private.h"

#include <Zydis/Zydis.h>
#include <string.h>

#include "cpu/cpu.h"

enum { TRIES = 24 };

void begin_modifying(struct gen *g)
{
    struct insn_case *c = g->c;
    if (g->g->no_faults || g->code_limited || !random_percent(&g->r, 8))
        return;
    c->self_modifying = true;
    for (unsigned i = 0; i < CODE_PAGES; i++)
        c->rights[FIRST_CODE_PAGE + i] = RIGHTS_WRITE;
    if (c->mode != 64)
        c->segment[X86_FS] = SEGI_CODE_ALIAS;
}

/* MOV or ADD [code], imm; what and where comes with modify_code. */
void emit_store_to_code(struct gen *g)
{
    static const uint8_t kind_size[] = {1, 1, 2, 4, 4, 1};
    struct random *r = &g->r;
    unsigned mode = g->c->mode, n = 0;
    uint8_t b[15] = {0};
    struct code_store *s = &g->store[g->store_count];
    if (g->store_count == CODE_STORES)
        return;
    unsigned kind = random_below(r, sizeof(kind_size));
    s->insn = g->c->count;
    s->size = kind_size[kind];
    s->adds = kind == 5;
    if (s->adds && random_percent(r, 50))
        b[n++] = 0xf0;
    if (mode != 64)
        b[n++] = 0x64;
    if (s->size == (mode == 16 ? 4 : 2))
        b[n++] = 0x66;
    b[n++] = s->adds ? 0x80 : s->size == 1 ? 0xc6 : 0xc7;
    b[n++] = mode == 16 ? 6 : 5;
    s->address_at = (uint16_t)(g->c->code_size + n);
    n += mode == 16 ? 2 : 4;
    s->value_at = (uint16_t)(g->c->code_size + n);
    n += s->size;
    append_insn(g, s->adds ? ZYDIS_MNEMONIC_ADD : ZYDIS_MNEMONIC_MOV, b, n);
    g->store_count++;
}

/* --- what to store --- */

static bool decode_at(const struct gen *g, const uint8_t *code, unsigned i, struct insn *insn)
{
    unsigned at = g->c->offset[i];
    return insn_decode(insn, code + at, CASE_CODE - at, g->c->mode) == INSN_OK &&
           at + insn->len == g->c->offset[i + 1];
}

/* Loops count, and instructions that go together do as intended. */
static bool may_change(const struct gen *g, unsigned i)
{
    if ((g->c->glued >> i & 1) || (g->c->glued >> (i + 1) & 1) || (g->changed >> i & 1))
        return false;
    for (unsigned k = 0; k < g->loop_count; k++) {
        if (i == g->loops[k].head || i == g->loops[k].end)
            return false;
    }
    for (unsigned k = 0; k < g->store_count; k++) {
        if (i == g->store[k].insn)
            return false;
    }
    return true;
}

/* May an instruction become the other one, without anything that the generator avoids? */
static bool alike(const struct gen *g, const struct insn *a, const struct insn *b)
{
    const char *reason;
    int group = form_group(b, g->g->model, &reason);
    unsigned never = 1u << X86_RSP | (g->loop_count ? 1u << X86_RCX : 0);
    return a->class != INSN_CONTROL && group >= 0 && group < GROUP_PRIVILEGED &&
           group == form_group(a, g->g->model, &reason) && a->kind == b->kind &&
           a->class == b->class && a->op == b->op && a->fpu_state == b->fpu_state &&
           a->flags_read == b->flags_read && a->flags_written == b->flags_written &&
           a->flags_maybe == b->flags_maybe &&
           !(b->gpr_written & ~(unsigned)a->gpr_written & never) &&
           a->mem.rip_relative == b->mem.rip_relative && !is_state_mnemonic(a->mnemonic) &&
           !is_state_mnemonic(b->mnemonic);
}

static unsigned undefined_flags(const struct gen *g, const uint8_t *code, unsigned i)
{
    unsigned at = g->c->offset[i];
    return form_undefined_flags(code + at, CASE_CODE - at, g->c->mode);
}

/* Picks a byte of instruction i and gives it another value in code. Its offset, -1: failed. */
static int change_byte(struct gen *g, uint8_t *code, unsigned i)
{
    struct insn before, after;
    if (!may_change(g, i) || !decode_at(g, code, i, &before))
        return -1;
    unsigned size = before.len;
    for (unsigned tries = 0; tries < TRIES; tries++) {
        unsigned at = g->c->offset[i] + random_below(&g->r, size);
        uint8_t old = code[at];
        code[at] = random_percent(&g->r, 50) ? old ^ (uint8_t)(1u << random_below(&g->r, 8))
                                             : (uint8_t)random_u64(&g->r);
        if (code[at] != old && decode_at(g, code, i, &after) && alike(g, &before, &after) &&
            !(undefined_flags(g, code, i) & ~undefined_flags(g, g->c->code, i)))
            return (int)at;
        code[at] = old;
    }
    return -1;
}

static void put_address(struct gen *g, const struct code_store *s, unsigned at)
{
    struct insn_case *c = g->c;
    uint64_t value =
        c->mode == 64 ? at - (uint64_t)c->offset[s->insn + 1] : (uint64_t)c->code_start + at;
    memcpy(c->code + s->address_at, &value, c->mode == 16 ? 2 : 4);
}

/* Which flags it replaces depends on the immediate. */
static bool shifts(const struct insn *insn)
{
    return (insn->map == 0 && (insn->opcode & 0xfe) == 0xc0) ||
           (insn->map == 1 && (insn->opcode == 0xa4 || insn->opcode == 0xac));
}

/* ADD: to an immediate, so that it may happen any number of times; even to its own. */
static bool modify_by_adding(struct gen *g, const struct code_store *s, unsigned i)
{
    struct insn insn;
    uint8_t addend = (uint8_t)random_u64(&g->r);
    bool itself = i == s->insn;
    if ((!itself && !may_change(g, i)) || !decode_at(g, g->c->code, i, &insn) || !insn.imm_size ||
        insn.class == INSN_CONTROL || insn.kind == KIND_CALLOUT || insn.map == 3 ||
        insn.encoding != ENC_LEGACY || insn.fpu_state || shifts(&insn))
        return false;
    put_address(g, s, g->c->offset[i] + insn.imm_off + random_below(&g->r, insn.imm_size));
    g->c->code[s->value_at] = addend;
    g->changed |= 1u << i;
    return true;
}

/*
 * A branch forwards gets another target: the next instruction, or the end. Flags that were dead
 * may be live there.
 */
static bool modify_branch(struct gen *g, const struct code_store *s, unsigned i)
{
    struct insn_case *c = g->c;
    struct insn insn;
    if (!g->g->exact_flags || !may_change(g, i) || !decode_at(g, c->code, i, &insn) ||
        (insn.kind != KIND_JCC && insn.kind != KIND_JMP_REL && insn.kind != KIND_CALL_REL) ||
        insn.imm_size != s->size)
        return false;
    uint32_t distance = 0;
    if (random_percent(&g->r, 60))
        distance = c->code_size - (uint32_t)c->offset[i + 1];
    if (s->size == 1 && distance > 127)
        return false;
    put_address(g, s, c->offset[i] + (unsigned)insn.imm_off);
    memcpy(c->code + s->value_at, &distance, s->size);
    g->changed |= 1u << i;
    return true;
}

static bool modify_by_moving(struct gen *g, const struct code_store *s, unsigned i)
{
    struct insn_case *c = g->c;
    uint8_t code[CASE_CODE];
    memcpy(code, c->code, sizeof(code));
    int at = change_byte(g, code, i);
    if (at < 0)
        return false;
    unsigned first = (unsigned)at - random_below(&g->r, s->size);
    unsigned own = c->offset[s->insn], own_end = c->offset[s->insn + 1];
    bool overlaps = first < own_end && first + s->size > own;
    for (unsigned k = 0; k < g->store_count; k++) /* what they hold is not known yet */
        overlaps |= first < c->offset[g->store[k].insn + 1] &&
                    first + s->size > c->offset[g->store[k].insn];
    if (first > (unsigned)at || first + s->size > c->code_size || overlaps)
        return false;
    put_address(g, s, first);
    memcpy(c->code + s->value_at, code + first, s->size);
    g->changed |= 1u << i;
    return true;
}

void modify_code(struct gen *g)
{
    struct insn_case *c = g->c;
    for (unsigned k = 0; k < g->store_count; k++) {
        const struct code_store *s = &g->store[k];
        bool done = false;
        for (unsigned tries = 0; tries < TRIES && !done; tries++) {
            unsigned i = random_percent(&g->r, 60) ? s->insn + random_below(&g->r, 4)
                                                   : random_below(&g->r, c->count);
            if (i < c->count)
                done = s->adds ? modify_by_adding(g, s, i)
                               : modify_branch(g, s, i) || modify_by_moving(g, s, i);
        }
        if (!done) { /* behind the end marker of the guest, which nobody executes */
            put_address(g, s, c->code_size + (unsigned)END_BYTES - 1);
            g->c->code[s->value_at] = 0x5a;
        }
    }
}
