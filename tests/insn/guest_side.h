/*
 * The guest: a bare machine on the translating engine that runs one test after another at CPL 3.
 * Every exception, and INT 81h as the end marker, leads to a HLT of its own at CPL 0.
 */
#ifndef VD_TESTS_INSN_GUEST_SIDE_H
#define VD_TESTS_INSN_GUEST_SIDE_H

#include "cpu/cpuid.h"
#include "insn_case.h"

struct guest_side;

/*
 * NULL with a message on stderr: the machine cannot be made. mode: 16, 32 or 64; long_mode: the
 * first two as compatibility mode; exact_flags: see struct engine_config.
 */
struct guest_side *guest_side_create(unsigned mode, bool long_mode, const struct cpuid_model *model,
                                     bool exact_flags);
void guest_side_destroy(struct guest_side *guest);
void guest_side_run(struct guest_side *guest, const struct insn_case *c, struct insn_result *r);
/* Makes a test that runs too long give up; async-signal-safe. */
void guest_side_kick(struct guest_side *guest);
/* Text of the last OUTCOME_LOST. */
const char *guest_side_error(const struct guest_side *guest);

/* Linear addresses that are the machine's own, where the native side has nothing. */
bool guest_side_owns(const struct guest_side *guest, uint64_t linear);

#endif
