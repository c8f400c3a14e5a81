/* Both sides of one code size, and running single tests on them. */
#ifndef VD_TESTS_INSN_SESSION_H
#define VD_TESTS_INSN_SESSION_H

#include "access.h"
#include "compare.h"
#include "generate.h"
#include "guest_side.h"
#include "native.h"

struct session {
    struct generator generator;
    struct form_table forms;
    struct native *native;
    struct guest_side *guests[2]; /* [1]: in long mode */
    struct guest_side *guest;     /* the one that ran last */
    struct compare_rules rules;
    struct insn_result guest_result, native_result;
    uint8_t template[MEMORY_BYTES];
};

/* -1: a side cannot be made. exact_flags: see struct engine_config. */
int session_start(struct session *s, unsigned mode, const struct cpuid_model *model,
                  bool exact_flags);
void session_stop(struct session *s);

/* Makes a guest give up that runs one test for too long. */
void session_watchdog(bool on);
/* Runs any guest on a test, watched. */
void session_run_guest(struct guest_side *guest, const struct insn_case *c, struct insn_result *r);

/* Runs the guest on a test whose native result is known. */
unsigned session_compare(struct session *s, const struct insn_case *c,
                         const struct insn_result *native);
/*
 * Runs a test on both sides, in a slot that is not in use, and verifies accessed and dirty bits. c
 * is not in the slot. *native: what came out, until the next call; NULL: the native side died.
 */
unsigned session_run(struct session *s, unsigned slot, const struct insn_case *c,
                     const struct insn_result **native);

/* In a slot that is not in use. The number of the first claim that does not hold, or count. */
unsigned session_verify_accesses(struct session *s, unsigned slot,
                                 const struct access_claim *claims, unsigned count);

/* Makes a test that differs as simple as it stays so, in place. */
void minimise_case(struct session *s, unsigned slot, struct insn_case *c);

#endif
