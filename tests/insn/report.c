/* Text about one test. */
#include <stdio.h>
#include <string.h>

#include "compare.h"
#include "decoder/insn.h"

static const char *const gpr_names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

typedef unsigned long long ull;

static void print_code(const struct insn_case *c)
{
    char text[128];
    for (unsigned i = 0; i < c->count; i++) {
        unsigned size = c->offset[i + 1] - (unsigned)c->offset[i];
        const uint8_t *bytes = c->code + c->offset[i];
        uint64_t ip = c->in.rip + c->offset[i];
        unsigned nops = 0;
        while (nops < size && bytes[nops] == 0x90)
            nops++;
        if (nops == size)
            continue;
        printf("  %12llx  ", (ull)ip);
        for (unsigned b = 0; b < size; b++)
            printf("%02x", bytes[b]);
        printf("%*s %s\n", 2 * (15 - (int)size), "",
               insn_format(text, sizeof(text), bytes, size, ip, c->mode));
    }
    printf("  %12llx  end\n", (ull)(c->in.rip + c->code_size));
}

static void print_pages(const struct insn_case *c)
{
    static const char *const behind[] = {"ram", "traced", "mmio"};
    static const char *const rights[RIGHTS_COUNT] = {"",        ":read",       ":write",
                                                     ":absent", ":supervisor", ":reserved"};
    printf("  guest pages:");
    for (unsigned i = 0; i < ALL_PAGES; i++) {
        printf("%s", i == DATA_PAGES ? ", stack:" : i == FIRST_CODE_PAGE ? ", code:" : "");
        printf(" %s%s", i < MEMORY_PAGES ? behind[c->behind[i]] : "x", rights[c->rights[i]]);
    }
    printf("%s\n", c->compatibility ? ", compatibility mode" : "");
}

static void print_initial(const struct insn_case *c)
{
    static const char *const segments[6] = {"es", "cs", "ss", "ds", "fs", "gs"};
    for (unsigned i = 0; i < (c->mode == 64 ? 16u : 8u); i++)
        printf("  %s %llx", gpr_names[i], (ull)c->in.gpr[i]);
    printf("  rflags %llx\n", (ull)c->in.rflags);
    if (c->mode == 64) {
        printf("  fs base %llx, gs base %llx\n", (ull)c->in.fs_base, (ull)c->in.gs_base);
    } else {
        for (unsigned i = 0; i < 6; i++) {
            const struct segment_row *row = &segment_rows[c->segment[i]];
            printf("  %s %llx/%x%s%s%s", segments[i], (ull)row->base, row->limit,
                   row->big ? "" : " 16-bit", row->expand_down ? " down" : "",
                   row->read_only ? " read-only" : "");
        }
        printf("\n");
    }
    print_pages(c);
}

static void print_outcome(const char *who, const struct insn_result *r)
{
    static const char *const names[] = {"end", "exception", "timeout", "lost"};
    printf("  %-7s %s", who, names[r->outcome]);
    if (r->outcome == OUTCOME_EXCEPTION)
        printf(" %u error %llx cr2 %llx", r->vector, (ull)r->error, (ull)r->cr2);
    printf(" rip %llx rflags %llx\n", (ull)r->out.rip, (ull)r->out.rflags);
}

static void print_value(const char *name, uint64_t in, uint64_t native, uint64_t guest)
{
    if (native != guest)
        printf("  %-8s native %016llx  guest %016llx  (was %016llx)\n", name, (ull)native,
               (ull)guest, (ull)in);
}

static void print_bytes(const char *name, unsigned at, const uint8_t *native, const uint8_t *guest,
                        unsigned size)
{
    unsigned lines = 0;
    for (unsigned i = 0; i < size; i += 8) {
        uint64_t a = 0, b = 0;
        unsigned count = size - i < 8 ? size - i : 8;
        memcpy(&a, native + i, count);
        memcpy(&b, guest + i, count);
        if (a != b && lines++ < 12)
            printf("  %s+%x native %016llx  guest %016llx\n", name, at + i, (ull)a, (ull)b);
    }
}

void report_case(const struct insn_case *c, const struct insn_result *native,
                 const struct insn_result *guest, unsigned differences)
{
    printf("seed %llu, %u-bit code, differences %#x\n", (ull)c->seed, c->mode, differences);
    print_code(c);
    print_initial(c);
    print_outcome("native", native);
    print_outcome("guest", guest);
    if (native->outcome != guest->outcome || guest->outcome > OUTCOME_EXCEPTION)
        return;
    for (unsigned i = 0; i < (c->mode == 64 ? 16u : 8u); i++)
        print_value(gpr_names[i], c->in.gpr[i], native->out.gpr[i], guest->out.gpr[i]);
    print_value("fs base", c->in.fs_base, native->out.fs_base, guest->out.fs_base);
    print_value("gs base", c->in.gs_base, native->out.gs_base, guest->out.gs_base);
    if (differences & (DIFF_X87 | DIFF_MXCSR | DIFF_VECTOR)) {
        print_bytes("xsave", 0, native->out.xsave, guest->out.xsave, 512);
        print_bytes("xsave", 576, native->out.xsave + 576, guest->out.xsave + 576, 256);
    }
    if (differences & DIFF_ACCESSED)
        printf("  guest pages (data, stack, code from bit 0 on) accessed %03x, dirty %03x\n",
               guest->accessed, guest->dirty);
    if (differences & DIFF_CODE)
        print_bytes("code", 0, native->code, guest->code, c->code_size);
    if (differences & DIFF_MEMORY) {
        print_bytes("data", 0, native->memory, guest->memory, DATA_BYTES);
        print_bytes("stack", 0, native->memory + DATA_BYTES, guest->memory + DATA_BYTES,
                    STACK_BYTES);
    }
}
