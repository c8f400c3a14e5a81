/*
 * The x87's pointers to its last instruction and operand. The host keeps them of what translated
 * code executes, at no cost; here they become the guest's, when somebody may look at them.
 *
 * FIP in the code cache leads to the guest's instruction through the map for precise faults; the
 * instruction itself gives FOP and the segment. FDP is the operand's host address, which the soft
 * TLB knows, or an offset in the bounce buffer. Pointers that the guest loads, and those found
 * once, are held in cpu->x87_pointers, and the host gets XS_HELD instead: no guest value is ever
 * mistaken for a host address, and none of the host's gets out, since what is not found reads as 0.
 *
 * XSAVE gives them while an exception is pending; processors of AMD give zeros otherwise. FNSTENV,
 * FNSAVE ask the host for them, too, but what is parked meanwhile, for an interrupt or a device,
 * has lost them.
 */
#include "engine/bt/bt.h"

#include "engine/bt/ops/xstate.h"

enum { MAX_INSN_BYTES = 15 };

struct host_pointers {
    uint64_t fip, fdp;
    uint64_t fdp_mask; /* bits of FDP that are known */
};

/* Bytes of the block's code from an ip on. */
static unsigned read_code(const struct vcpu *vcpu, const struct code_block *block, uint64_t ip,
                          uint8_t *bytes)
{
    uint64_t at = ip - block->key.ip, start = 0;
    unsigned count = 0;
    for (unsigned i = 0; i < block->range_count && start < block->guest_bytes; i++) {
        const struct block_range *range = &block->range[i];
        const uint8_t *host = as_page_host(vcpu->mmu.as, range->page) + range->offset;
        for (; at < start + range->size && count < MAX_INSN_BYTES; at++)
            bytes[count++] = host[at - start];
        start += range->size;
    }
    return count;
}

static bool decode(const struct vcpu *vcpu, const struct code_place *place, uint64_t ip,
                   struct insn *insn)
{
    uint8_t bytes[MAX_INSN_BYTES];
    unsigned count = read_code(vcpu, place->block, ip, bytes);
    return count && insn_decode(insn, bytes, count, place->bits) == INSN_OK;
}

/* An x87 instruction with a memory operand, but a control instruction (SDM vol. 1, 8.1.8). */
static bool moves_data_pointer(const struct insn *insn)
{
    unsigned extension = insn->modrm >> 3 & 7;
    if (insn->map != 0 || insn->encoding != ENC_LEGACY || (insn->opcode & 0xf8) != 0xd8 ||
        !insn->mem.present)
        return false;
    bool control = (insn->opcode == 0xd9 && extension >= 4) ||
                   (insn->opcode == 0xdd && (extension == 4 || extension >= 6));
    return !control;
}

/* Offset of the operand as far as registers are what they were then. */
static uint64_t expected_offset(struct x86_cpu *cpu, const struct insn *insn, uint64_t ip)
{
    uint64_t rip = cpu->rip;
    cpu->rip = ip;
    uint64_t offset = op_offset(cpu, insn);
    cpu->rip = rip;
    return offset;
}

/*
 * The last operand in memory is that of the instruction itself, or of one before it in the block.
 * Behind an operand of another block, whose segment is not known, DS is as good as any.
 */
static void find_operand(struct vcpu *vcpu, const struct code_place *place,
                         const struct host_pointers *host)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    struct x87_pointers *p = &cpu->x87_pointers;
    struct insn insn;
    unsigned seg = X86_DS, address_size = place->bits / 8;
    uint64_t hint = 0, linear;
    for (uint64_t at = place->block->key.ip; at <= place->ip && decode(vcpu, place, at, &insn);
         at += insn.len) {
        if (!moves_data_pointer(&insn))
            continue;
        seg = insn.mem.seg;
        address_size = insn.addrsize;
        hint = expected_offset(cpu, &insn, at);
    }
    p->fdp = 0;
    p->fds = 0;
    bool stack_switched = seg == X86_SS && place->cpl != cpu->cpl;
    bool flat = place->flat >> seg & 1 || (place->bits == 64 && seg < X86_FS);
    if (stack_switched && !flat)
        return;
    uint64_t wrap = place->bits == 64 ? UINT64_MAX : UINT32_MAX;
    uint64_t base = flat ? 0 : seg == X86_CS ? place->base : cpu->seg[seg].base;
    unsigned access = place->cpl == 3 ? (unsigned)MMU_USER : 0;
    if (!mmu_find_host(cpu, host->fdp, host->fdp_mask, access, (base + hint) & wrap, &linear))
        return;
    uint64_t offset = (linear - base) & wrap;
    if (address_size == 2 && offset > 0xffff) /* the segment register was loaded since */
        return;
    p->fdp = offset;
    p->fds = stack_switched ? 0 : seg == X86_CS ? place->selector : cpu->seg[seg].selector;
}

static void find_data_pointer(struct vcpu *vcpu, const struct code_place *place,
                              const struct host_pointers *host)
{
    struct x87_pointers *p = &vcpu->cpu.x87_pointers;
    if (host->fdp == XS_HELD)
        return;
    if (host->fdp - offsetof(struct vcpu, bounce) < BOUNCE_SIZE) {
        p->fdp = vcpu->bounced.offset;
        p->fds = vcpu->bounced.selector;
        return;
    }
    find_operand(vcpu, place, host);
}

/* The guest's pointers for those of the host. */
static void hold(struct vcpu *vcpu, const struct host_pointers *host)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    struct x87_pointers *p = &cpu->x87_pointers;
    if (host->fip != XS_HELD) {
        struct code_place place;
        struct insn insn;
        if (bt_find_code(vcpu, host->fip, &place) && decode(vcpu, &place, place.ip, &insn)) {
            p->fip = place.ip;
            p->fcs = place.selector;
            p->fop = (uint16_t)((insn.opcode & 7) << 8 | insn.modrm);
            find_data_pointer(vcpu, &place, host);
        } else {
            *p = (struct x87_pointers){0};
        }
    }
    xstate_set_pointers(cpu, p);
}

void bt_hold_x87_pointers(struct vcpu *vcpu)
{
    const uint8_t *image = vcpu->cpu.xsave;
    struct host_pointers host = {
        .fip = xs_get64(image + XS_FIP), .fdp = xs_get64(image + XS_FDP), .fdp_mask = UINT64_MAX};
    hold(vcpu, &host);
}

/* What FNSTENV tells of the host's registers: the low halves. */
static struct host_pointers ask_host(const struct vcpu *vcpu)
{
    uint64_t base = (uint64_t)(uintptr_t)vcpu->cache.memory.exec;
    uint8_t env[28];
    /* FNSTENV masks all exceptions; none is pending, so FLDCW does not wait. */
    __asm__ volatile("fnstenv %0\n\tfldcw %0" : "=m"(env));
    uint32_t fip = xs_get32(env + 12);
    struct host_pointers host = {
        .fip = fip == XS_HELD ? fip : base + (uint32_t)(fip - (uint32_t)base),
        .fdp = xs_get32(env + 20),
        .fdp_mask = UINT32_MAX,
    };
    return host;
}

void bt_park_x87_pointers(struct x86_cpu *cpu)
{
    struct vcpu *vcpu = (struct vcpu *)cpu;
    bool ask = !vcpu->vectors_parked && !bt_x87_pending(vcpu);
    struct host_pointers host = {0};
    if (ask)
        host = ask_host(vcpu);
    bt_park_vectors(cpu);
    if (ask)
        hold(vcpu, &host);
    else if (xs_get64(cpu->xsave + XS_FIP) != XS_HELD)
        bt_hold_x87_pointers(vcpu);
}

void bt_forget_x87_pointers(struct vcpu *vcpu)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    bt_park_vectors(cpu);
    if (xs_get64(cpu->xsave + XS_FIP) != XS_HELD)
        xs_zero(cpu->xsave + XS_FIP, XS_MXCSR - XS_FIP);
}

void bt_x87_bounced(struct vcpu *vcpu, const struct insn *insn, uint64_t offset)
{
    if (!moves_data_pointer(insn))
        return;
    vcpu->bounced.offset = offset;
    vcpu->bounced.selector = vcpu->cpu.seg[insn->mem.seg].selector;
}
