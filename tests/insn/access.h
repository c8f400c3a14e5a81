/*
 * Accessed and dirty bits of the guest's page tables, judged by the host CPU, which shows its own
 * to nobody: run again natively, a test must end as before where pages that the guest says were not
 * accessed are absent, and those that it says were not written are read-only; and where a single
 * page that was accessed (written) is absent (read-only), it must fault there.
 */
#ifndef VD_TESTS_INSN_ACCESS_H
#define VD_TESTS_INSN_ACCESS_H

#include "insn_case.h"

enum { ACCESS_TESTS_MAX = 1 + 2 * ALL_PAGES }; /* for one claim */

struct access_claim { /* of the guest, and how the test ended natively */
    struct insn_case c;
    uint16_t accessed, dirty;
    uint8_t outcome, vector;
    uint64_t rip, error, cr2;
};

/* False: nothing can be said about this test. */
bool access_claim_make(struct access_claim *claim, const struct insn_case *c,
                       const struct insn_result *native, const struct insn_result *guest);
/* Writes the tests that verify a claim, and returns how many. cases: room for ACCESS_TESTS_MAX. */
unsigned access_tests(const struct access_claim *claim, struct insn_case *cases);
unsigned access_test_count(const struct access_claim *claim);
/* results: of the tests that access_tests made. */
bool access_holds(const struct access_claim *claim, const struct insn_result *results);

/* What needs no further test: bits where no access is possible, or missing where bytes changed. */
bool access_bits_possible(const struct insn_case *c, const struct insn_result *native,
                          const struct insn_result *guest, const uint8_t *template);

#endif
