#include "engine/bt/ops/ops_common.h"
#include "engine/bt/ops/ops_list.h"
#include "engine/bt/ops/string_walk.h"

enum { DR7_ENABLED = 0xff, PORT_BREAKPOINT = 2 };

/* Breakpoints on ports (SDM vol. 3, 17.2.4): R/W 10b, with CR4.DE. */
static unsigned port_breakpoints(const struct x86_cpu *cpu, uint16_t port, unsigned size)
{
    uint64_t dr7 = cpu->dr[7];
    unsigned hits = 0;

    if (!(dr7 & DR7_ENABLED) || !(cpu->cr4 & X86_CR4_DE))
        return 0;
    for (unsigned i = 0; i < 4; i++) {
        unsigned control = (unsigned)(dr7 >> (16 + 4 * i)) & 15, mask = control >> 2;
        uint64_t start = cpu->dr[i] & ~(uint64_t)mask;

        if ((dr7 >> (2 * i) & 3) && (control & 3) == PORT_BREAKPOINT && mask != 2 &&
            start < port + size && port <= start + mask)
            hits |= 1u << i;
    }
    return hits;
}

static uint64_t port_read(struct x86_cpu *cpu, uint16_t port, unsigned size)
{
    bt_park_vectors(cpu);
    cpu->mmu->debug_hits |= port_breakpoints(cpu, port, size);
    if (!cpu->platform.pio_read)
        return bytes_mask(size);
    return cpu->platform.pio_read(cpu->platform.ctx, port, size) & bytes_mask(size);
}

static void port_write(struct x86_cpu *cpu, uint16_t port, uint64_t value, unsigned size)
{
    bt_park_vectors(cpu);
    cpu->mmu->debug_hits |= port_breakpoints(cpu, port, size);
    if (cpu->platform.pio_write)
        cpu->platform.pio_write(cpu->platform.ctx, port, value & bytes_mask(size), size);
    if (cpu->ferr && cpu->platform.ignne && cpu->platform.ignne(cpu->platform.ctx)) {
        cpu->ignne = X86_IGNNE_ON;
        cpu->dirty |= X86_DIRTY_MODE; /* nothing that waits may follow in the block */
    }
}

/* E4-E7: immediate port, EC-EF: DX; odd opcodes move AX or EAX (never RAX). */
static unsigned io_size(const struct insn *insn)
{
    if (!(insn->opcode & 1))
        return 1;
    return insn->opsize == 2 ? 2 : 4;
}

static uint16_t io_port(const struct x86_cpu *cpu, const struct insn *insn)
{
    return insn->opcode & 8 ? (uint16_t)cpu->gpr[X86_RDX] : (uint8_t)insn->imm;
}

enum op_result op_in(struct x86_cpu *cpu, const struct insn *insn)
{
    unsigned size = io_size(insn);
    uint16_t port = io_port(cpu, insn);
    uint64_t value;

    if (io_check(cpu, port, size) < 0)
        return OP_FAULT;
    value = port_read(cpu, port, size);
    if (size == 4)
        op_set_gpr32(cpu, X86_RAX, (uint32_t)value);
    else
        cpu->gpr[X86_RAX] = (cpu->gpr[X86_RAX] & ~bytes_mask(size)) | value;
    return OP_NEXT;
}

enum op_result op_out(struct x86_cpu *cpu, const struct insn *insn)
{
    unsigned size = io_size(insn);
    uint16_t port = io_port(cpu, insn);

    if (io_check(cpu, port, size) < 0)
        return OP_FAULT;
    port_write(cpu, port, cpu->gpr[X86_RAX], size);
    return OP_NEXT;
}

/* The destination is checked before the port is read, because reading may change the device. */
static int input_element(const struct string_walk *walk, uint16_t port)
{
    uint64_t to = string_offset(walk, X86_RDI), value;
    uint8_t *host;
    int64_t reach = string_map(walk, X86_ES, to, true, 1, &host);

    if (reach < 0 || (reach == 0 && string_probe(walk, X86_ES, to, true) < 0))
        return -1;
    value = port_read(walk->cpu, port, walk->size);
    return seg_write(walk->cpu, X86_ES, to, &value, walk->size);
}

static int output_element(const struct string_walk *walk, uint16_t port)
{
    uint64_t value = 0;

    if (seg_read(walk->cpu, (enum x86_segreg)walk->source, string_offset(walk, X86_RSI), &value,
                 walk->size) < 0)
        return -1;
    port_write(walk->cpu, port, value, walk->size);
    return 0;
}

static enum op_result io_string(struct x86_cpu *cpu, const struct insn *insn, enum x86_gpr pointer,
                                int (*element)(const struct string_walk *walk, uint16_t port))
{
    uint16_t port = (uint16_t)cpu->gpr[X86_RDX];
    struct string_walk walk;
    enum op_result result = OP_JUMP;

    string_begin(&walk, cpu, insn);
    if (walk.size == 8) { /* REX.W has no effect on port accesses */
        walk.size = 4;
        walk.shift = 2;
    }
    if (io_check(cpu, port, walk.size) < 0)
        return OP_FAULT;
    while (result == OP_JUMP) {
        if (string_remaining(&walk) == 0)
            return OP_NEXT;
        if (element(&walk, port) < 0)
            return OP_FAULT;
        string_advance(&walk, pointer, 1);
        result = string_count(&walk, 1);
    }
    return result;
}

enum op_result op_ins(struct x86_cpu *cpu, const struct insn *insn)
{
    return io_string(cpu, insn, X86_RDI, input_element);
}

enum op_result op_outs(struct x86_cpu *cpu, const struct insn *insn)
{
    return io_string(cpu, insn, X86_RSI, output_element);
}
