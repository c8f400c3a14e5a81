#include "rig.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

const uint64_t rig_exec = 0x7f0010000000;

enum { STUB_SPACING = 64, CELL_SIZE = 8 };

static uint64_t stub_address(unsigned number)
{
    return rig_exec - 0x100000 + number * STUB_SPACING;
}

static uint64_t cell_address(unsigned number)
{
    return rig_exec + 0x2000000 + number * CELL_SIZE;
}

bool rig_is_stub(const struct rig *rig, uint64_t address)
{
    (void)rig;
    uint64_t offset = address - stub_address(0);
    return offset < RIG_STUBS * STUB_SPACING && offset % STUB_SPACING == 0;
}

bool rig_is_cell(const struct rig *rig, uint64_t address)
{
    uint64_t offset = address - cell_address(0);
    return offset < (uint64_t)rig->cells_used * CELL_SIZE && offset % CELL_SIZE == 0;
}

static struct xlate_site *take_site(void *ctx)
{
    struct rig *rig = ctx;
    return rig->sites_used < rig->sites_max ? &rig->sites[rig->sites_used++] : NULL;
}

static uint64_t take_cell(void *ctx, unsigned exit_number)
{
    struct rig *rig = ctx;
    assert_in_range(exit_number, 0, XLATE_MAX_EXITS - 1);
    return rig->cells_used < rig->cells_max ? cell_address(rig->cells_used++) : 0;
}

/* Offsets of the size that an engine has behind struct x86_cpu. */
static void env_init(struct rig *rig)
{
    struct xlate_env *env = &rig->env;
    int32_t tlb = 0x10000, state = 0x2000;
    for (unsigned user = 0; user < 2; user++) {
        env->tlb_read_tag[user] = tlb + (int32_t)user * 0x8000;
        env->tlb_write_tag[user] = env->tlb_read_tag[user] + 8;
        env->tlb_host[user] = env->tlb_read_tag[user] + 16;
        env->stub_indirect[user] = stub_address(10 + user);
        env->stub_return_miss[user] = stub_address(12 + user);
        env->jump_ip[user] = 0x40000 + (int32_t)user * 0x4000;
        env->jump_host[user] = env->jump_ip[user] + 8;
    }
    env->jump_bits = 10;
    env->jump_entry_shift = 4;
    env->tlb_entry_shift = 5;
    env->tlb_bits = 10;
    env->flags_park = state;
    env->spill[0] = state + 8;
    env->spill[1] = state + 16;
    env->direction = state + 24;
    env->vectors_parked = state + 25;
    env->return_hits = state + 32;
    env->block_count = state + 40;
    env->bounce = state + 0x100;
    env->cpuid = &rig->cpuid;
    for (unsigned i = 0; i < 4; i++)
        env->stub_access[i >> 1][i & 1] = stub_address(0);
    env->stub_bounce = stub_address(1);
    env->stub_callout = stub_address(2);
    env->stub_vectors = stub_address(3);
    env->stub_link = stub_address(4);
    env->stub_event = stub_address(5);
    env->stub_done = stub_address(6);
    env->stub_missed_call = stub_address(7);
    env->stub_check_target[0] = stub_address(8);
    env->stub_check_target[1] = stub_address(9);
}

void rig_create(struct rig *rig)
{
    memset(rig, 0, sizeof(*rig));
    for (unsigned feature = 0; feature < FEAT_COUNT; feature++) {
        if (feature != FEAT_NEVER) /* the same code whatever the host offers */
            rig->cpuid.features[feature / 64] |= 1ull << (feature % 64);
    }
    env_init(rig);
    /* Above 4 GiB in every build: the address is an operand of the code. */
    rig->sites = mmap(NULL, RIG_SITES * sizeof(*rig->sites), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(rig->sites != MAP_FAILED);
    rig->host = calloc(RIG_HOST_INSNS, sizeof(*rig->host));
    assert_non_null(rig->host);
    rig->sites_max = RIG_SITES;
    rig->cells_max = RIG_CELLS;
    rig->alloc =
        (struct xlate_alloc){.ctx = rig, .site = take_site, .first_exit = 1000, .cell = take_cell};
    ZydisDecoderInit(&rig->decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
}

void rig_destroy(struct rig *rig)
{
    munmap(rig->sites, RIG_SITES * sizeof(*rig->sites));
    free(rig->host);
    prescan_region_free(&rig->region);
}

static void mode_init(struct xlate_mode *mode, enum rig_mode which)
{
    enum { ALL_FLAT = 0x3f };
    *mode = (struct xlate_mode){.fpu = XLATE_OSFXSR | XLATE_AVX | XLATE_VEX};
    switch (which) {
    case R16:
        mode->bits = mode->stack_bits = 16;
        mode->iopl_ok = true;
        break;
    case P16:
        mode->bits = 16;
        mode->stack_bits = 32;
        mode->flat = ALL_FLAT & ~(1u << X86_FS | 1u << X86_GS);
        break;
    case F32:
        mode->bits = mode->stack_bits = 32;
        mode->flat = ALL_FLAT & ~(1u << X86_FS | 1u << X86_GS);
        mode->cpl = 3;
        break;
    case S32:
        mode->bits = mode->stack_bits = 32;
        mode->iopl_ok = true;
        break;
    case K64:
    case L64:
        mode->bits = mode->stack_bits = 64;
        mode->cpl = which == L64 ? 3 : 0;
        mode->iopl_ok = which == K64;
        break;
    }
}

static size_t fetch(void *ctx, uint64_t ip, uint8_t *buffer, size_t size)
{
    const struct rig *rig = ctx;
    uint64_t offset = ip - rig->ip;
    if (offset >= rig->code_size)
        return 0;
    size_t count = rig->code_size - (size_t)offset;
    if (count > size)
        count = size;
    memcpy(buffer, rig->code + offset, count);
    return count;
}

void rig_scan(struct rig *rig, enum rig_mode mode, const uint8_t *code, size_t size,
              bool flags_live)
{
    mode_init(&rig->mode, mode);
    rig->code = code;
    rig->code_size = size;
    rig->ip = rig->mode.bits == 64 ? 0x555555554400 : rig->mode.bits == 32 ? 0x8048400 : 0x400;
    struct prescan_params params = {.fetch = fetch,
                                    .fetch_ctx = rig,
                                    .bits = rig->mode.bits,
                                    .entry = rig->ip,
                                    .low = rig->ip & ~0xfffull,
                                    .high = (rig->ip & ~0xfffull) + 0x1000,
                                    .max_blocks = 1,
                                    .max_block_insns = 32,
                                    .max_insns = 32};
    assert_int_equal(prescan_run(&rig->region, &params), 0);
    rig->region.blocks[0].flags_live_out = flags_live ? X86_ARITH_FLAGS : 0;
}

int rig_translate(struct rig *rig, uint32_t size)
{
    struct xlate_input input = {.region = &rig->region,
                                .blocks = {&rig->region.blocks[0]},
                                .block_count = 1,
                                .mode = &rig->mode,
                                .env = &rig->env,
                                .alloc = &rig->alloc,
                                .bounce_offset = 16,
                                .cs_limit = rig->mode.bits == 16 ? 0xffff : UINT32_MAX};
    rig->sites_used = rig->cells_used = 0;
    return xlate_block(&rig->result, &input, rig->buffer, size, rig_exec);
}

void rig_decode(struct rig *rig)
{
    uint32_t offset = 0;
    rig->host_count = 0;
    while (offset < rig->result.size) {
        struct rig_insn *host = &rig->host[rig->host_count];
        host->offset = offset;
        if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&rig->decoder, rig->buffer + offset,
                                                 rig->result.size - offset, &host->insn,
                                                 host->operands)))
            fail_msg("no host instruction at offset %u", offset);
        offset += host->insn.length;
        rig->host_count++;
        assert_true(rig->host_count < RIG_HOST_INSNS);
    }
    assert_int_equal(offset, rig->result.size);
}

int rig_at(const struct rig *rig, uint32_t offset)
{
    for (unsigned i = 0; i < rig->host_count; i++) {
        if (rig->host[i].offset == offset)
            return (int)i;
    }
    return -1;
}

void rig_hot_path(const struct rig *rig, unsigned *insns, unsigned *bytes)
{
    int first = rig_at(rig, rig->result.body);
    assert_true(first >= 0);
    *insns = *bytes = 0;
    for (unsigned i = (unsigned)first; i < rig->host_count; i++) {
        ZydisMnemonic mnemonic = rig->host[i].insn.mnemonic;
        *insns += 1;
        *bytes += rig->host[i].insn.length;
        if (mnemonic == ZYDIS_MNEMONIC_JMP || mnemonic == ZYDIS_MNEMONIC_RET)
            return;
    }
}

void rig_print(const struct rig *rig)
{
    ZydisFormatter formatter;
    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    for (unsigned i = 0; i < rig->host_count; i++) {
        const struct rig_insn *host = &rig->host[i];
        char text[128];
        ZydisFormatterFormatInstruction(&formatter, &host->insn, host->operands,
                                        host->insn.operand_count_visible, text, sizeof(text),
                                        rig_exec + host->offset, NULL);
        for (unsigned m = 0; m < rig->result.map_count; m++) {
            if (rig->result.map[m].host == host->offset)
                fprintf(stderr, "  ip+%u%s\n", rig->result.map[m].ip & XLATE_IP,
                        rig->result.map[m].ip & XLATE_PARKED ? " (parked)" : "");
        }
        fprintf(stderr, "    %4u  %s\n", host->offset, text);
    }
}
