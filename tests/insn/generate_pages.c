/* What is behind the test's pages, who may use them, and pointers to where that matters. */
#include "generate_private.h"

#include <string.h>

enum { NO_PAGE = ALL_PAGES };

uint64_t data_pointer(struct gen *g)
{
    struct random *r = &g->r;
    unsigned dice = random_below(r, 100);
    uint64_t at;
    if (g->limited < DATA_PAGES && random_percent(r, 45)) /* across the edges of a special page */
        at = (g->limited + random_below(r, 2)) * (uint64_t)PAGE + 16 - random_below(r, 64);
    else if (dice < 55) /* well inside */
        at = random_below(r, DATA_WRITABLE / 64) * 64;
    else if (dice < 75) /* before a page's end */
        at = (1 + random_below(r, DATA_PAGES - 2)) * PAGE - random_below(r, 48);
    else if (dice < 92 || g->g->no_faults)
        at = random_below(r, DATA_WRITABLE);
    else if (dice < 96) /* read-only */
        at = DATA_WRITABLE + random_below(r, PAGE);
    else /* before a hole */
        at = random_percent(r, 50) ? DATA_BYTES - random_below(r, 40) : random_below(r, 16);
    return LINEAR_DATA + at + high_half(g);
}

uint64_t stack_pointer(struct gen *g)
{
    struct random *r = &g->r;
    uint64_t at = PAGE / 2 + random_below(r, PAGE / 8) * 8;
    unsigned dice = random_below(r, 100);
    if (g->limited >= DATA_PAGES && g->limited < MEMORY_PAGES && dice < 50)
        at = PAGE + 48 - random_below(r, 24) * 4;
    else if (dice < 15)
        at = PAGE - 64 + random_below(r, 128);
    else if (dice < 20)
        at += random_below(r, 8);
    else if (dice < 23 && !g->g->no_faults)
        at = random_below(r, 64);
    else if (dice < 26 && !g->g->no_faults)
        at = STACK_BYTES - random_below(r, 64);
    return LINEAR_STACK + at + high_half(g);
}

uint64_t high_half(struct gen *g)
{
    return g->c->mode == 64 && random_percent(&g->r, 40) ? LINEAR_HIGH : 0;
}

static void choose_rights(struct gen *g)
{
    static const uint8_t data[] = {RIGHTS_READ, RIGHTS_READ, RIGHTS_ABSENT, RIGHTS_SUPERVISOR,
                                   RIGHTS_RESERVED};
    static const uint8_t code[] = {RIGHTS_READ, RIGHTS_READ, RIGHTS_ABSENT, RIGHTS_SUPERVISOR,
                                   RIGHTS_RESERVED};
    struct random *r = &g->r;
    unsigned dice = random_below(r, 100);
    g->limited = NO_PAGE;
    if (g->g->no_faults || dice >= 42)
        return;
    if (dice < 30) {
        g->limited = random_below(r, MEMORY_PAGES);
        g->c->rights[g->limited] = data[random_below(r, sizeof(data))];
    }
    if (dice < 5)
        g->c->rights[random_below(r, MEMORY_PAGES)] = data[random_below(r, sizeof(data))];
    if (dice >= 30 || dice < 3) {
        g->c->rights[FIRST_CODE_PAGE + 1] = code[random_below(r, sizeof(code))];
        g->code_limited = true;
    }
}

void choose_pages(struct gen *g)
{
    struct insn_case *c = g->c;
    choose_rights(g);
    c->compatibility = c->mode != 64 && random_percent(&g->r, 30);
    if (g->g->plain_memory || random_percent(&g->r, 60))
        return;
    for (unsigned i = 0; i < MEMORY_PAGES; i++) {
        if (i < DATA_PAGES || random_percent(&g->r, 40))
            c->behind[i] = (uint8_t)random_below(&g->r, 3);
    }
}

void choose_code_start(struct gen *g)
{
    struct insn_case *c = g->c;
    c->code_start = (uint16_t)random_below(&g->r, CODE_BYTES - CASE_CODE - END_BYTES);
    if (g->code_limited)
        c->code_start = (uint16_t)(PAGE - 1 - random_below(&g->r, 90));
    else if (random_percent(&g->r, 25))
        c->code_start = (uint16_t)(PAGE - random_below(&g->r, 48));
}
