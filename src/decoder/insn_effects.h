/* What an instruction reads and writes. Private to src/decoder/. */
#ifndef VD_DECODER_INSN_EFFECTS_H
#define VD_DECODER_INSN_EFFECTS_H

#include <Zydis/Zydis.h>

#include "decoder/insn.h"

/* Register numbers of the machine encoding; -1: not a general register. */
int gpr_number(ZydisRegister reg);

/*
 * Fills gpr_fields, gpr_read, gpr_written and the flag sets. The layout fields, kind and mem of
 * insn are already there.
 */
void insn_fill_effects(struct insn *insn, const ZydisDecodedInstruction *zydis,
                       const ZydisDecodedOperand *operands);

#endif
