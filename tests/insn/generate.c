#include "generate_private.h"

#include <Zydis/Zydis.h>
#include <string.h>

#include "cpu/cpu.h"

enum { TRIES = 60, MAX_LEN = 15 };

/* --- choosing a form --- */

static const struct form_mnemonic *choose_mnemonic(struct gen *g)
{
    /* ALU, integer, stack, branch, string, x87, vector, other, privileged */
    static const uint8_t weight[GROUP_COUNT] = {34, 13, 12, 10, 4, 8, 15, 3, 1};
    const struct form_table *t = g->g->forms;
    struct random *r = &g->r;
    if (random_percent(r, 12))
        return &t->mnemonics[random_below(r, t->group_first[GROUP_COUNT])];
    unsigned group;
    do {
        int dice = (int)random_below(r, 100);
        for (group = 0; dice >= weight[group]; group++)
            dice -= weight[group];
        if (g->strings && random_percent(r, 25))
            group = GROUP_STRING;
    } while (t->group_first[group] == t->group_first[group + 1] ||
             (group == GROUP_STRING && !g->strings && random_percent(r, 70)) ||
             (group == GROUP_PRIVILEGED && g->g->no_faults));
    unsigned count = t->group_first[group + 1] - t->group_first[group];
    return &t->mnemonics[t->group_first[group] + random_below(r, count)];
}

static const struct form_mnemonic *find_mnemonic(const struct gen *g, unsigned mnemonic)
{
    const struct form_table *t = g->g->forms;
    for (unsigned i = 0; i < t->group_first[GROUP_COUNT]; i++) {
        if (t->mnemonics[i].mnemonic == mnemonic)
            return &t->mnemonics[i];
    }
    return NULL;
}

/* --- encoding --- */

struct bytes {
    uint8_t b[40];
    unsigned size;
    unsigned memory; /* position of ModRM */
};

static void add(struct bytes *b, unsigned byte)
{
    b->b[b->size++] = (uint8_t)byte;
}

enum fixed_operand { FIXED_NONE = -1 };

/* Data area offset of the operand that instructions with demands on it get, FIXED_NONE: any. */
static int fixed_operand(struct gen *g, unsigned mnemonic)
{
    struct random *r = &g->r;
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64:
        return DATA_FXSAVE;
    case ZYDIS_MNEMONIC_FRSTOR:
    case ZYDIS_MNEMONIC_FLDENV:
        return g->c->mode == 16 ? DATA_FNSAVE16 : DATA_FNSAVE;
    case ZYDIS_MNEMONIC_LDMXCSR:
    case ZYDIS_MNEMONIC_VLDMXCSR:
        return DATA_MXCSR + 4 * (int)random_below(r, 16);
    case ZYDIS_MNEMONIC_FLDCW:
        return DATA_FCW + 2 * (int)random_below(r, 32);
    default:
        return FIXED_NONE;
    }
}

static bool saves_environment(unsigned mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64:
    case ZYDIS_MNEMONIC_XSAVE:
    case ZYDIS_MNEMONIC_XSAVE64:
    case ZYDIS_MNEMONIC_XSAVEC:
    case ZYDIS_MNEMONIC_XSAVEC64:
    case ZYDIS_MNEMONIC_XSAVEOPT:
    case ZYDIS_MNEMONIC_XSAVEOPT64:
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FNSTENV:
        return true;
    default:
        return false;
    }
}

static bool takes_component_mask(unsigned mnemonic)
{
    return saves_environment(mnemonic)
               ? mnemonic != ZYDIS_MNEMONIC_FXSAVE && mnemonic != ZYDIS_MNEMONIC_FXSAVE64 &&
                     mnemonic != ZYDIS_MNEMONIC_FNSAVE && mnemonic != ZYDIS_MNEMONIC_FNSTENV
               : mnemonic == ZYDIS_MNEMONIC_XRSTOR || mnemonic == ZYDIS_MNEMONIC_XRSTOR64;
}

static bool restores_state(unsigned mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64:
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
    case ZYDIS_MNEMONIC_FRSTOR:
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FNINIT:
    case ZYDIS_MNEMONIC_VZEROALL:
    case ZYDIS_MNEMONIC_VZEROUPPER:
        return true;
    default:
        return false;
    }
}

bool is_state_mnemonic(unsigned mnemonic)
{
    return saves_environment(mnemonic) || restores_state(mnemonic) ||
           takes_component_mask(mnemonic);
}

struct prefixes {
    bool opsize, addrsize, segment;
};

static void add_prefixes(struct gen *g, struct bytes *b, const struct form *f, unsigned group,
                         bool fixed, struct prefixes *p)
{
    static const uint8_t segments[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x64, 0x65};
    struct random *r = &g->r;
    bool memory = (f->has_modrm && f->memory) || group == GROUP_STRING || group == GROUP_ALU;
    bool branch = group == GROUP_BRANCH;
    memset(p, 0, sizeof(*p));
    p->segment = !fixed && memory && random_percent(r, 7);
    if (p->segment)
        add(b, segments[random_below(r, 8)]);
    p->addrsize = !fixed && (memory || branch) && random_percent(r, g->c->mode == 16 ? 25 : 6);
    if (p->addrsize)
        add(b, 0x67);
    if (f->encoding != ENC_LEGACY)
        return;
    /* 66 on near branches in 64-bit mode: Intel ignores it, AMD does not. */
    if (!f->mandatory && !(branch && g->c->mode == 64))
        p->opsize = random_percent(r, branch ? 2 : g->c->mode == 16 ? 30 : 15);
    if (p->opsize)
        add(b, 0x66);
    if (group == GROUP_STRING && random_percent(r, 65))
        add(b, random_percent(r, 50) ? 0xf3 : 0xf2);
    if (f->has_modrm && f->memory && f->map < 2 && !f->mandatory && random_percent(r, 10))
        add(b, 0xf0);
}

static void add_vex(struct gen *g, struct bytes *b, const struct form *f, bool memory,
                    const struct memory_choice *m, bool vvvv_unused)
{
    static const uint8_t pp[256] = {[0x66] = 1, [0xf3] = 2, [0xf2] = 3};
    bool wide = g->c->mode == 64;
    uint64_t raw = random_u64(&g->r);
    bool rex_r = wide && (raw & 1);
    bool rex_x = memory && m->rex_x, rex_b = memory ? m->rex_b : wide && (raw & 2);
    unsigned vvvv = vvvv_unused ? 15 : wide ? raw >> 8 & 15 : 8 | (raw >> 8 & 7);
    unsigned last = vvvv << 3 | (unsigned)f->vex_l << 2 | pp[f->mandatory];
    if (f->map == 1 && !f->vex_w && !rex_x && !rex_b && (raw & 4)) {
        add(b, 0xc5);
        add(b, (rex_r ? 0 : 0x80) | last);
        return;
    }
    add(b, 0xc4);
    add(b, (rex_r ? 0 : 0x80) | (rex_x ? 0 : 0x40u) | (rex_b ? 0 : 0x20u) | f->map);
    add(b, (unsigned)f->vex_w << 7 | last);
}

static void add_opcode(struct gen *g, struct bytes *b, const struct form *f, bool memory,
                       const struct memory_choice *m)
{
    struct random *r = &g->r;
    if (f->mandatory)
        add(b, f->mandatory);
    if (g->c->mode == 64) {
        unsigned rex = random_percent(r, 40) ? 0x40 | (random_below(r, 16) & 0xc) : 0;
        if (!memory && rex)
            rex |= random_below(r, 2);
        if (memory && (m->rex_b || m->rex_x))
            rex |= 0x40 | (m->rex_b ? 1u : 0) | (m->rex_x ? 2u : 0);
        if (rex)
            add(b, rex);
    }
    if (f->map)
        add(b, 0x0f);
    if (f->map >= 2)
        add(b, f->map == 2 ? 0x38 : 0x3a);
    add(b, f->opcode);
}

/* One random encoding of the form, with bytes behind it that serve as immediate. */
static void encode_form(struct gen *g, const struct form *f, unsigned group, struct bytes *b,
                        struct memory_choice *m, bool vvvv_unused)
{
    struct random *r = &g->r;
    struct prefixes p;
    bool memory = f->has_modrm && f->memory;
    bool save = saves_environment(f->mnemonic);
    int fixed = save ? (int)DATA_SAVE : fixed_operand(g, f->mnemonic);
    if (!save && random_percent(r, 10))
        fixed = FIXED_NONE;
    b->size = 0;
    m->size = 0;
    m->rip_disp = 0;
    m->rex_b = m->rex_x = false;
    add_prefixes(g, b, f, group, fixed != FIXED_NONE, &p);
    unsigned addrsize = g->c->mode == 64 ? 8 : g->c->mode / 8u;
    if (p.addrsize)
        addrsize = addrsize == 4 ? 2 : 4;
    unsigned reg = f->reg;
    if (memory && fixed != FIXED_NONE)
        absolute_memory(g, m, reg, (unsigned)fixed + (random_percent(r, 4) ? 4u : 0));
    else if (memory)
        choose_memory(g, m, reg, addrsize, f->vsib,
                      random_percent(r, group == GROUP_VECTOR ? 70 : 30), p.segment);
    if (f->encoding == ENC_VEX)
        add_vex(g, b, f, memory, m, vvvv_unused);
    else
        add_opcode(g, b, f, memory, m);
    if (f->encoding == ENC_VEX)
        add(b, f->opcode);
    b->memory = b->size;
    if (memory) {
        memcpy(b->b + b->size, m->bytes, m->size);
        b->size += m->size;
    } else if (f->has_modrm) {
        add(b, 0xc0u | reg << 3 | (f->fixed_rm ? f->rm : random_below(r, 8)));
    }
    uint64_t imm =
        random_percent(r, 50) ? random_u64(r) : (uint64_t)((int64_t)random_below(r, 64) - 32);
    memcpy(b->b + b->size, &imm, sizeof(imm));
    b->size += 8;
}

/* --- accepting an instruction --- */

static bool is_relative_branch(const struct insn *insn)
{
    return insn->kind == KIND_CALL_REL || insn->kind == KIND_JMP_REL || insn->kind == KIND_JCC ||
           insn->kind == KIND_LOOP;
}

static void add_fixup(struct gen *g, unsigned at, unsigned size, bool relative)
{
    struct fixup *f = &g->fixup[g->fixup_count++];
    *f = (struct fixup){.at = (uint16_t)at,
                        .size = (uint8_t)size,
                        .insn = g->c->count,
                        .target = (uint8_t)(g->c->count + 1 + random_below(&g->r, 3)),
                        .relative = relative};
}

void append_insn(struct gen *g, unsigned mnemonic, const uint8_t *bytes, unsigned size)
{
    struct insn_case *c = g->c;
    memcpy(c->code + c->code_size, bytes, size);
    c->mnemonic[c->count] = (uint16_t)mnemonic;
    c->offset[c->count++] = c->code_size;
    c->code_size = (uint16_t)(c->code_size + size);
    c->offset[c->count] = c->code_size;
}

static bool room(const struct gen *g, unsigned insns)
{
    return g->c->count + insns < CASE_INSNS && g->c->code_size + insns * MAX_LEN < CASE_CODE &&
           g->fixup_count + 2 < FIXUPS;
}

static bool acceptable(struct gen *g, const struct insn *insn, const struct form *f)
{
    const char *reason;
    struct random *r = &g->r;
    if (insn->mnemonic != f->mnemonic)
        return false;
    if (insn->flags_read & g->undefined)
        return false; /* they may differ, and everything that follows from them */
    bool goes_back = g->returns || insn->kind == KIND_CALL_REL || insn->kind == KIND_CALL_IND ||
                     insn->kind == KIND_RET || insn->kind == KIND_JMP_IND;
    unsigned read = g->read_ever | insn->flags_read, undefined = g->undefined_ever | f->undefined;
    if (goes_back && !g->g->reads_undefined && (read & undefined))
        return false; /* the same, once control flow has gone back */
    int group = form_group(insn, g->g->model, &reason);
    if (group < 0 || group == GROUP_EXCLUDED)
        return false;
    uint16_t written = insn->gpr_written & g->keep;
    if (insn->class == INSN_CONTROL || group == GROUP_STACK || insn->kind == KIND_STRING)
        written &= (uint16_t) ~(1u << X86_RSP | 1u << X86_RSI | 1u << X86_RDI);
    if (written && (random_percent(r, 92) || (g->loop && (written & 1u << X86_RCX))))
        return false;
    return true;
}

static void patch_rip_relative(const struct gen *g, const struct insn *insn, uint8_t *bytes,
                               unsigned modrm, const struct memory_choice *m)
{
    if (!m->rip_disp)
        return;
    uint64_t linear = LINEAR_CODE + g->c->code_start + g->c->code_size +
                      (g->c->high ? LINEAR_HIGH : 0) + insn->len;
    uint32_t disp = (uint32_t)(m->target - linear);
    memcpy(bytes + modrm + 1, &disp, 4);
}

/* --- sequences that random bytes would never make --- */

static bool emit_mov_imm(struct gen *g, unsigned reg, uint32_t value)
{
    uint8_t b[8];
    unsigned n = 0;
    if (g->c->mode == 16)
        b[n++] = 0x66;
    b[n++] = (uint8_t)(0xb8 | reg);
    memcpy(b + n, &value, 4);
    append_insn(g, ZYDIS_MNEMONIC_MOV, b, n + 4);
    return true;
}

/* For POPF: an image that seldom traps or checks alignment. */
static void emit_push_flags(struct gen *g)
{
    uint32_t image = (uint32_t)random_u64(&g->r) & 0x0020ced5;
    uint8_t b[6];
    unsigned n = 0;
    if (random_percent(&g->r, 10))
        image |= X86_TF; /* traps behind the instruction that follows POPF */
    if (random_percent(&g->r, 10))
        image |= X86_AC_FLAG;
    if (g->c->mode == 16)
        b[n++] = 0x66;
    b[n++] = 0x68;
    memcpy(b + n, &image, 4);
    append_insn(g, ZYDIS_MNEMONIC_PUSH, b, n + 4);
}

/* PUSH target, then RET, JMP [SP] or CALL [SP]; or MOV reg, target and a branch through reg. */
static void emit_indirect(struct gen *g)
{
    struct random *r = &g->r;
    unsigned mode = g->c->mode, size = mode == 16 ? 2 : 4;
    uint8_t b[16];
    unsigned n = 0;
    if (!room(g, 3) || g->loop || (g->read_ever & g->undefined_ever))
        return;
    g->returns = true;
    bool push = random_percent(r, 60) && !g->c->high && mode != 16;
    unsigned reg = random_below(r, mode == 64 ? 16 : 8);
    if (!push && (g->keep & 1u << reg))
        return;
    if (push) {
        b[n++] = 0x68;
    } else {
        if (mode == 64)
            b[n++] = (uint8_t)(0x48 | reg >> 3), size = 8;
        b[n++] = (uint8_t)(0xb8 | (reg & 7));
    }
    memset(b + n, 0, 8);
    add_fixup(g, g->c->code_size + n, size, false);
    g->fixup[g->fixup_count - 1].target++;
    if (random_percent(r, 6) && !g->g->no_faults) { /* into data, which is not executable */
        uint64_t target = segment_offset(g, X86_CS, data_pointer(g));
        memcpy(b + n, &target, size);
        g->fixup_count--;
    }
    append_insn(g, push ? ZYDIS_MNEMONIC_PUSH : ZYDIS_MNEMONIC_MOV, b, n + size);
    n = 0;
    unsigned digit = random_percent(r, 50) ? 2 : 4; /* CALL, JMP */
    if (push && random_percent(r, 50)) {
        b[n++] = random_percent(r, 70) ? 0xc3 : 0xc2;
        if (b[0] == 0xc2) {
            b[n++] = (uint8_t)random_below(r, 32);
            b[n++] = 0;
        }
    } else if (push) { /* FF /digit [SP] */
        b[n++] = 0xff;
        b[n++] = (uint8_t)(digit << 3 | 4);
        b[n++] = 0x24;
    } else {
        if (reg >= 8)
            b[n++] = 0x41;
        b[n++] = 0xff;
        b[n++] = (uint8_t)(0xc0 | digit << 3 | (reg & 7));
    }
    g->branched = true;
    g->c->glued |= 1u << g->c->count;
    append_insn(g,
                b[0] == 0xc3 || b[0] == 0xc2 ? ZYDIS_MNEMONIC_RET
                : digit == 2                 ? ZYDIS_MNEMONIC_CALL
                                             : ZYDIS_MNEMONIC_JMP,
                b, n);
}

/* MOV rCX, few: the head of a loop whose end is due in some instructions. */
static void begin_loop(struct gen *g)
{
    if (g->loop || g->returns || !room(g, 5) || (g->read_ever & g->undefined_ever))
        return;
    emit_mov_imm(g, X86_RCX, 1 + random_below(&g->r, 6));
    g->returns = true; /* as far as undefined flags are concerned */
    g->loop = g->c->count;
    g->loop_end = g->loop + 1 + random_below(&g->r, 4);
    g->keep |= 1u << X86_RCX;
}

/* LOOP to the head; or DEC rCX, JNZ. */
static void end_loop(struct gen *g)
{
    struct insn_case *c = g->c;
    bool wide = c->mode == 64;
    if (random_percent(&g->r, 50) && !(g->undefined_ever & 0x40)) {
        append_insn(g, ZYDIS_MNEMONIC_DEC, (const uint8_t *)(wide ? "\x48\xff\xc9" : "\xff\xc9"),
                    wide ? 3 : 2);
        g->read_ever |= 0x40;
        c->glued |= 1u << c->count;
        append_insn(g, ZYDIS_MNEMONIC_JNZ, (const uint8_t *)"\x75\0", 2);
    } else {
        append_insn(g, ZYDIS_MNEMONIC_LOOP, (const uint8_t *)"\xe2\0", 2);
    }
    int distance = c->offset[g->loop] - c->code_size;
    c->code[c->code_size - 1] = (uint8_t)(distance < -128 ? 0 : distance);
    g->branched = true;
    g->loops[g->loop_count].head = (uint8_t)(g->loop - 1);
    g->loops[g->loop_count++].end = (uint8_t)(c->count - 1);
    g->loop = g->loop_end = 0;
}

static void prepare_operands(struct gen *g, const struct form *f)
{
    struct random *r = &g->r;
    if (!room(g, 2))
        return;
    if (takes_component_mask(f->mnemonic)) /* the host has more components than the guest */
        emit_mov_imm(g, X86_RAX, random_below(r, 8) | (uint32_t)(random_u64(r) & 0xffffff00));
    else if ((f->mnemonic == ZYDIS_MNEMONIC_DIV || f->mnemonic == ZYDIS_MNEMONIC_IDIV) &&
             random_percent(r, 60))
        emit_mov_imm(g, X86_RDX, random_below(r, 16));
    else if (f->mnemonic == ZYDIS_MNEMONIC_POPF || f->mnemonic == ZYDIS_MNEMONIC_POPFD ||
             f->mnemonic == ZYDIS_MNEMONIC_POPFQ)
        emit_push_flags(g);
}

/* A prefix that most instructions ignore, or that says what another one has said already. */
static unsigned idle_prefix(struct gen *g, const struct insn *insn)
{
    static const uint8_t prefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x67, 0xf2, 0xf3, 0x66};
    unsigned choices = sizeof(prefixes);
    if (insn->kind == KIND_LOOP)
        choices -= 3; /* AMD: REPE and REPNE replace the condition of LOOPE and LOOPNE */
    else if (insn->class == INSN_CONTROL)
        choices -= 1; /* see add_prefixes */
    if (g->c->mode == 64 && random_percent(&g->r, 30))
        return 0x40 | random_below(&g->r, 16);
    return prefixes[random_below(&g->r, choices)];
}

/* Puts prefixes in front, up to 15 bytes in all, if the instruction stays what it is. */
static void add_idle_prefixes(struct gen *g, struct bytes *b, struct insn *insn,
                              const struct form *f)
{
    struct bytes longer = *b;
    struct insn decoded;
    unsigned room = MAX_LEN - insn->len;
    if (!room)
        return;
    unsigned count = random_percent(&g->r, 25) ? room : 1 + random_below(&g->r, room);
    for (unsigned i = 0; i < count; i++)
        longer.b[i] = (uint8_t)idle_prefix(g, insn);
    memcpy(longer.b + count, b->b, insn->len);
    longer.size = MAX_LEN;
    longer.memory += count;
    if (insn_decode(&decoded, longer.b, MAX_LEN, g->c->mode) != INSN_OK ||
        decoded.len != insn->len + count || !acceptable(g, &decoded, f) ||
        decoded.mem.rip_relative != insn->mem.rip_relative)
        return;
    *b = longer;
    *insn = decoded;
}

/* More than 15 bytes: #GP. */
static void emit_too_long(struct gen *g)
{
    const struct insn alu = {.class = INSN_IDENTITY};
    uint8_t b[MAX_LEN + 1];
    if (!room(g, 2))
        return;
    for (unsigned i = 0; i < MAX_LEN; i++)
        b[i] = (uint8_t)idle_prefix(g, &alu);
    b[MAX_LEN] = (uint8_t)random_below(&g->r, 0x40) & 0xfb; /* ALU, or a prefix */
    append_insn(g, ZYDIS_MNEMONIC_INVALID, b, sizeof(b));
}

static bool emit_form(struct gen *g, const struct form_mnemonic *entry)
{
    const struct form *f = &g->g->forms->forms[entry->first + random_below(&g->r, entry->count)];
    struct bytes b;
    struct memory_choice m;
    struct insn insn;
    bool save = saves_environment(f->mnemonic);
    /* Processors may or may not notice that a component became initial. */
    bool xrstor = takes_component_mask(f->mnemonic) && !save;
    if (xrstor && g->c->count) /* the image must still be as it was: the host has more components */
        return false;
    if (save && g->restored && takes_component_mask(f->mnemonic))
        return false;
    for (unsigned tries = 0; tries < 6; tries++) {
        encode_form(g, f, entry->group, &b, &m, tries & 1);
        if (insn_decode(&insn, b.b, b.size < MAX_LEN ? b.size : MAX_LEN, g->c->mode) != INSN_OK ||
            !acceptable(g, &insn, f) || (insn.mem.rip_relative && !m.rip_disp))
            continue;
        if (random_percent(&g->r, 4) && !save && !xrstor)
            add_idle_prefixes(g, &b, &insn, f);
        unsigned before = g->c->count;
        prepare_operands(g, f);
        if (takes_component_mask(f->mnemonic) && !room(g, 1))
            return false;
        patch_rip_relative(g, &insn, b.b, b.memory, &m);
        if (is_relative_branch(&insn))
            add_fixup(g, g->c->code_size + insn.imm_off, insn.imm_size, true);
        if (save) {
            g->c->save_offset = (uint16_t)m.data_offset;
            g->c->save_size = insn.mem.size ? insn.mem.size : 512;
        }
        if (g->c->count > before)
            g->c->glued |= 1u << g->c->count;
        append_insn(g, insn.mnemonic, b.b, insn.len);
        g->branched |= insn.class == INSN_CONTROL;
        g->returns |= insn.class == INSN_CONTROL && !is_relative_branch(&insn);
        g->returns |= insn.kind == KIND_CALL_REL;
        g->read_ever |= insn.flags_read;
        unsigned undefined = g->g->reads_undefined ? 0 : f->undefined;
        g->undefined_ever |= undefined;
        g->restored |= restores_state(insn.mnemonic);
        if (save)
            g->wanted = g->c->count; /* nothing shall read the pointers that were stored */
        if (!g->branched)
            g->undefined &= ~(unsigned)insn.flags_written;
        g->undefined |= undefined;
        return true;
    }
    return false;
}

/* --- the whole test --- */

static void apply_fixups(struct gen *g)
{
    struct insn_case *c = g->c;
    for (unsigned i = 0; i < g->fixup_count; i++) {
        const struct fixup *f = &g->fixup[i];
        unsigned target = f->target < c->count ? f->target : c->count;
        for (unsigned k = 0; k < g->loop_count; k++) { /* none into a loop past its head */
            if (f->insn < g->loops[k].head && target > g->loops[k].head &&
                target <= g->loops[k].end)
                target = g->loops[k].head;
        }
        while (c->glued & 1u << target)
            target--;
        uint64_t value = c->in.rip + c->offset[target];
        if (f->relative) {
            int64_t distance = c->offset[target] - c->offset[f->insn + 1];
            if (f->size == 1 && distance > 127)
                distance = 0;
            value = (uint64_t)distance;
        }
        memcpy(c->code + f->at, &value, f->size);
    }
}

void generate_case(void *ctx, struct insn_case *c, uint64_t seed)
{
    struct gen g = {.r = {.state = seed}, .g = ctx, .c = c};
    g.r.state = random_u64(&g.r); /* seeds in a row shall not give the same numbers, shifted */
    memset(c, 0, sizeof(*c));
    c->seed = seed;
    c->mode = (uint8_t)g.g->forms->mode;
    generate_state(&g);
    g.wanted = random_percent(&g.r, 20) ? 1 : 2 + random_below(&g.r, 11);
    unsigned only_at = random_below(&g.r, g.wanted);
    for (unsigned tries = 0; tries < TRIES && c->count < g.wanted && room(&g, 1); tries++) {
        if (g.loop && c->count >= g.loop_end && room(&g, 2))
            end_loop(&g);
        unsigned dice = random_below(&g.r, 100);
        if (dice < 3)
            emit_indirect(&g);
        else if (dice < 5)
            begin_loop(&g);
        if (c->self_modifying && random_percent(&g.r, 25) && room(&g, 1))
            emit_store_to_code(&g);
        if (dice == 5 && random_percent(&g.r, 8) && !g.g->no_faults)
            emit_too_long(&g);
        if (dice < 5)
            continue;
        const struct form_mnemonic *entry = choose_mnemonic(&g);
        if (g.g->only && c->count >= only_at) {
            const struct form_mnemonic *only = find_mnemonic(&g, g.g->only);
            if (only)
                entry = only;
            if (only && emit_form(&g, entry))
                only_at = CASE_INSNS;
            continue;
        }
        emit_form(&g, entry);
    }
    if (g.loop && room(&g, 2))
        end_loop(&g);
    if (c->count == 0)
        append_insn(&g, ZYDIS_MNEMONIC_NOP, (const uint8_t *)"\x90", 1);
    apply_fixups(&g);
    modify_code(&g);
    /* The native end marker is longer than the guest's. */
    unsigned end = c->code_start + c->code_size;
    c->exact_end = g.code_limited && end < PAGE && end + END_BYTES > PAGE;
}
