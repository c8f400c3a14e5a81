#include "access.h"
#include "compare.h"

#include <string.h>

#include "cpu/cpu.h"

enum { ERROR_WRITE = 2 };

bool access_claim_make(struct access_claim *claim, const struct insn_case *c,
                       const struct insn_result *native, const struct insn_result *guest)
{
    if (!compare_knows_accesses(c, native) || guest->outcome > OUTCOME_EXCEPTION)
        return false;
    *claim = (struct access_claim){.c = *c,
                                   .accessed = guest->accessed,
                                   .dirty = guest->dirty,
                                   .outcome = native->outcome,
                                   .vector = native->vector,
                                   .rip = native->out.rip,
                                   .error = native->error,
                                   .cr2 = native->cr2};
    return true;
}

static enum page_rights without_writes(unsigned number)
{
    return number >= FIRST_CODE_PAGE ? RIGHTS_USUAL : RIGHTS_READ;
}

/* No page has more rights than the guest's bits say were used. */
static void take_unused_rights(const struct access_claim *claim, struct insn_case *c)
{
    for (unsigned i = 0; i < ALL_PAGES; i++) {
        if (!(claim->accessed >> i & 1))
            c->rights[i] = c->rights[i] < RIGHTS_ABSENT ? RIGHTS_ABSENT : c->rights[i];
        else if (!(claim->dirty >> i & 1) && page_writable(i, c->rights[i]))
            c->rights[i] = (uint8_t)without_writes(i);
    }
}

unsigned access_tests(const struct access_claim *claim, struct insn_case *cases)
{
    unsigned count = 0;
    struct insn_case c = claim->c;
    c.exact_end = true; /* the guest's end marker has two bytes */
    cases[count] = c;
    take_unused_rights(claim, &cases[count++]);
    for (unsigned i = 0; i < ALL_PAGES; i++) {
        if (claim->accessed >> i & 1) {
            cases[count] = c;
            cases[count++].rights[i] = RIGHTS_ABSENT;
        }
        if (claim->dirty >> i & 1) {
            cases[count] = c;
            cases[count++].rights[i] = (uint8_t)without_writes(i);
        }
    }
    return count;
}

unsigned access_test_count(const struct access_claim *claim)
{
    return 1u + (unsigned)__builtin_popcount(claim->accessed) +
           (unsigned)__builtin_popcount(claim->dirty);
}

static bool ends_as_before(const struct access_claim *claim, const struct insn_result *r)
{
    bool faults = r->outcome == OUTCOME_EXCEPTION && r->vector == X86_PF;
    bool faulted = claim->outcome == OUTCOME_EXCEPTION && claim->vector == X86_PF;
    /* An instruction that faults may or may not have accessed its other pages before. */
    if (faults && faulted && r->out.rip == claim->rip)
        return true;
    return r->outcome == claim->outcome && r->vector == claim->vector && r->out.rip == claim->rip &&
           (!faults || (r->error == claim->error && r->cr2 == claim->cr2));
}

static bool faults_on(const struct insn_result *r, unsigned page, bool write)
{
    return r->outcome == OUTCOME_EXCEPTION && r->vector == X86_PF &&
           page_number(r->cr2) == (int)page && (!write || (r->error & ERROR_WRITE));
}

bool access_holds(const struct access_claim *claim, const struct insn_result *results)
{
    unsigned n = 0;
    bool holds = ends_as_before(claim, &results[n++]);
    for (unsigned i = 0; i < ALL_PAGES; i++) {
        if (claim->accessed >> i & 1)
            holds &= faults_on(&results[n++], i, false);
        if (claim->dirty >> i & 1)
            holds &= faults_on(&results[n++], i, true);
    }
    return holds;
}

bool access_bits_possible(const struct insn_case *c, const struct insn_result *native,
                          const struct insn_result *guest, const uint8_t *template)
{
    if (guest->dirty & ~guest->accessed)
        return false;
    for (unsigned i = 0; i < ALL_PAGES; i++) {
        bool accessed = guest->accessed >> i & 1, dirty = guest->dirty >> i & 1;
        if (accessed && c->rights[i] >= RIGHTS_ABSENT)
            return false;
        if (dirty && !page_writable(i, c->rights[i]))
            return false;
        if (!dirty && i < MEMORY_PAGES &&
            memcmp(native->memory + i * PAGE, template + i * PAGE, PAGE))
            return false;
    }
    return true;
}
