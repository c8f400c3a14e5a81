#include <string.h>

#include "session.h"

struct reducer {
    struct session *s;
    unsigned slot;
    struct insn_case *best;
    unsigned differences; /* must stay the same, and so must the native outcome */
    uint8_t outcome, vector;
};

static bool differs(const struct reducer *r, const struct insn_case *c)
{
    const struct insn_result *native;
    unsigned differences = session_run(r->s, r->slot, c, &native);
    return native && differences == r->differences && native->outcome == r->outcome &&
           native->vector == r->vector;
}

static void keep_if_differs(const struct reducer *r, const struct insn_case *c)
{
    if (differs(r, c))
        *r->best = *c;
}

/* Replaces instructions by NOPs of the same size, so that targets stay where they are. */
static void drop_instructions(const struct reducer *r)
{
    for (unsigned i = r->best->count; i-- > 0;) {
        struct insn_case c = *r->best;
        bool needed = c.glued >> (i + 1) & 1 && c.code[c.offset[i + 1]] != 0x90;
        if (needed)
            continue;
        memset(c.code + c.offset[i], 0x90, c.offset[i + 1] - (unsigned)c.offset[i]);
        keep_if_differs(r, &c);
    }
}

/* Cuts the NOPs at the end. */
static void drop_tail(const struct reducer *r)
{
    struct insn_case c = *r->best;
    while (c.count > 1 && c.code[c.offset[c.count - 1]] == 0x90)
        c.count--;
    c.code_size = c.offset[c.count];
    keep_if_differs(r, &c);
}

static void simplify_state(const struct reducer *r)
{
    for (unsigned i = 0; i < 16; i++) {
        struct insn_case c = *r->best;
        if (!c.in.gpr[i])
            continue;
        c.in.gpr[i] = 0;
        keep_if_differs(r, &c);
    }
    struct insn_case c = *r->best;
    c.in.rflags = 0x202;
    keep_if_differs(r, &c);
    c = *r->best;
    if (!c.save_offset) /* XSAVE may or may not notice that a component is initial */
        memset(c.in.xsave, 0, 576);
    c.in.xsave[0] = 0x7f;
    c.in.xsave[1] = 0x03;
    c.in.xsave[24] = 0x80;
    c.in.xsave[25] = 0x1f;
    c.in.xsave[512] = 7;
    keep_if_differs(r, &c);
    c = *r->best;
    memset(c.behind, GUEST_PAGE_RAM, sizeof(c.behind));
    keep_if_differs(r, &c);
    c = *r->best;
    c.compatibility = false;
    keep_if_differs(r, &c);
    for (unsigned i = 0; i < ALL_PAGES; i++) {
        c = *r->best;
        if (c.rights[i] == RIGHTS_USUAL)
            continue;
        c.rights[i] = RIGHTS_USUAL;
        keep_if_differs(r, &c);
    }
}

void minimise_case(struct session *s, unsigned slot, struct insn_case *c)
{
    struct reducer r = {.s = s, .slot = slot, .best = c};
    const struct insn_result *native;
    r.differences = session_run(s, slot, c, &native);
    if (!native || !r.differences)
        return;
    r.outcome = native->outcome;
    r.vector = native->vector;
    drop_instructions(&r);
    drop_tail(&r);
    drop_instructions(&r);
    simplify_state(&r);
}
