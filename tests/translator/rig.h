/*
 * A translator without an engine: invented stub addresses and offsets, sites and cells from arrays,
 * and the host code taken apart by Zydis.
 */
#ifndef VD_TESTS_TRANSLATOR_RIG_H
#define VD_TESTS_TRANSLATOR_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <Zydis/Zydis.h>

#include "translator/xlate.h"

enum rig_mode {
    R16, /* real mode: nothing is flat */
    P16, /* 16-bit code on a 32-bit stack, flat data */
    F32, /* flat, CPL 3 */
    S32, /* segmented, CPL 0 */
    K64, /* CPL 0 */
    L64, /* CPL 3 */
};

enum { RIG_SITES = 64, RIG_CELLS = 16, RIG_STUBS = 16, RIG_HOST_INSNS = 8192 };

struct rig_insn { /* one host instruction */
    uint32_t offset;
    ZydisDecodedInstruction insn;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

struct rig {
    struct cpuid_model cpuid;
    struct xlate_env env;
    struct xlate_mode mode;
    struct xlate_alloc alloc;
    struct prescan_region region;
    const uint8_t *code; /* guest bytes */
    size_t code_size;
    uint64_t ip;
    struct xlate_site *sites;
    unsigned sites_used, sites_max, cells_used, cells_max;
    struct xlate_result result;
    uint8_t buffer[XLATE_MAX_CODE + 64];
    struct rig_insn *host; /* filled by rig_decode */
    unsigned host_count;
    ZydisDecoder decoder;
    const char *text; /* of the row being looked at */
};

void rig_create(struct rig *rig);
void rig_destroy(struct rig *rig);
/* Chooses the mode and prescans the code; flags_live: all arithmetic flags are live behind it. */
void rig_scan(struct rig *rig, enum rig_mode mode, const uint8_t *code, size_t size,
              bool flags_live);
/* Translates into buffer, of which size bytes may be used. What xlate_block returns. */
int rig_translate(struct rig *rig, uint32_t size);
/* Takes the code apart. Fails if a byte is not part of a valid 64-bit instruction. */
void rig_decode(struct rig *rig);
/* Index of the host instruction at an offset, -1: none starts there. */
int rig_at(const struct rig *rig, uint32_t offset);
bool rig_is_stub(const struct rig *rig, uint64_t address);
bool rig_is_cell(const struct rig *rig, uint64_t address);
/* Host instructions and bytes from the body to the first instruction that never falls through. */
void rig_hot_path(const struct rig *rig, unsigned *insns, unsigned *bytes);
void rig_print(const struct rig *rig);

extern const uint64_t rig_exec;

#endif
