/*
 * Which CPUID feature an encoding belongs to, by the manuals: written down a second time, so that a
 * mistake in the decoder's table shows.
 */
#ifndef VD_TESTS_INSN_NEEDS_H
#define VD_TESTS_INSN_NEEDS_H

#include "cpu/cpuid.h"
#include "encodings.h"

/*
 * FEAT_BASE: every processor since the 80386 has it; FEAT_NEVER: no model. VEX forms of AES and the
 * like name AES: what they need of AVX is in XCR0.
 */
enum x86_feature needs_of(const struct encoding *e, unsigned mode);

/* Calls the host system, or depends on its descriptors: not to be run natively. */
bool needs_guest(const struct encoding *e, unsigned mode);

#endif
