/* Statistics and traces of the translating engine. */
#include "engine/bt/bt.h"

#include <inttypes.h>

static const char *const exit_names[] = {
    [BT_EXIT_LINK] = "link",
    [BT_EXIT_LOOKUP] = "lookup",
    [BT_EXIT_EVENT] = "event",
    [BT_EXIT_DONE] = "single",
    [BT_EXIT_CALLOUT] = "callout",
    [BT_EXIT_HALT] = "halt",
    [BT_EXIT_GUEST_FAULT] = "fault",
    [BT_EXIT_SLOW] = "slow",
    [BT_EXIT_HOST_FAULT] = "host_fault",
};

struct row {
    const char *name;
    uint64_t value;
};

static void print_row(FILE *out, int json, const char *group, const char *name, uint64_t value)
{
    if (json)
        fprintf(out, ", \"%s%s%s\": %" PRIu64, group, *group ? "." : "", name, value);
    else
        fprintf(out, "%-12s %-44s %15" PRIu64 "\n", group, name, value);
}

void bt_print_stats(struct vcpu *vcpu, FILE *out, int json)
{
    const struct bt_stats *s = &vcpu->stats;
    const struct block_cache_stats *c = &vcpu->cache.stats;
    const struct mmu_stats *m = &vcpu->mmu.stats;
    const struct row rows[] = {
        {"blocks translated", c->blocks},
        {"guest bytes in", c->guest_bytes},
        {"host bytes out", c->host_bytes},
        {"guest instructions", s->prescan_insns},
        {"exits linked", c->links},
        {"exits unlinked", c->unlinks},
        {"blocks invalidated", c->invalidations},
        {"cache resets", c->resets},
        {"writes to code", s->code_writes},
        {"writes beside code", s->writes_beside_code},
        {"entries", s->enters},
        {"jump cache misses", s->jump_misses},
        {"blocks executed (counted)", vcpu->block_count},
        {"chained (counted)", vcpu->block_count > s->enters ? vcpu->block_count - s->enters : 0},
        {"return hits (counted)", vcpu->return_hits},
        {"return misses", vcpu->return_misses},
        {"TLB misses", s->tlb_misses},
        {"TLB victim hits", s->tlb_victim_hits},
        {"TLB fills", m->fills},
        {"page walks", m->walks},
        {"TLB flushes", m->flushes},
        {"guest page faults", m->page_faults},
        {"address changes", s->address_changes},
        {"interrupts", s->interrupts},
        {"slow steps", s->slow_steps},
        {"bounces", s->bounces},
        {"single steps", s->single_steps},
    };
    if (json)
        fprintf(out, "{\"engine\": \"bt\"");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        print_row(out, json, "", rows[i].name, rows[i].value);
    for (unsigned i = 1; i < sizeof(exit_names) / sizeof(exit_names[0]); i++)
        print_row(out, json, "exit", exit_names[i], s->exits[i]);
    for (unsigned i = 0; i < OP_COUNT; i++) {
        if (s->callouts[i])
            print_row(out, json, "callout", op_name((enum insn_op)i), s->callouts[i]);
    }
    for (unsigned i = 0; i < 32; i++) {
        char name[16];
        snprintf(name, sizeof(name), "vector %u", i);
        if (s->faults[i])
            print_row(out, json, "fault", name, s->faults[i]);
    }
    if (json)
        fprintf(out, "}\n");
}

void bt_trace_exit(struct vcpu *vcpu, enum bt_exit reason)
{
    bt_park_vectors(&vcpu->cpu);
    fprintf(stderr, "exit %s at %04x:%016" PRIx64 "\n", exit_names[reason],
            vcpu->cpu.seg[X86_CS].selector, vcpu->cpu.rip);
}

void bt_trace_block(const struct vcpu *vcpu, const struct prescan_block *const *blocks,
                    unsigned count, const struct xlate_result *result)
{
    uint64_t ip = blocks[0]->ip;
    uint32_t insns = 0, bytes = 0;
    for (unsigned b = 0; b < count; b++) {
        insns += blocks[b]->count;
        bytes += blocks[b]->bytes;
    }
    fprintf(stderr, "block %04x:%016" PRIx64 " %u insns, %u bytes -> %u bytes at +%#x\n",
            vcpu->cpu.seg[X86_CS].selector, ip, insns, bytes, result->size,
            vcpu->cache.blocks[vcpu->cache.block_count - 1].host_offset);
    for (unsigned b = 0; b < count; b++) {
        const struct insn *insn = vcpu->region.insns + blocks[b]->first;
        for (unsigned i = 0; i < blocks[b]->count; i++, insn++) {
            char text[128];
            fprintf(stderr, "  %016" PRIx64 "  %s\n", ip,
                    insn_format(text, sizeof(text), insn->bytes, insn->len, ip, insn->mode));
            ip += insn->len;
        }
    }
}
