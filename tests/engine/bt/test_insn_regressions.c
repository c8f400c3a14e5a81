/* One test for every bug that insn-diff found; each says what went wrong. */
#include "guest.h"

#include <string.h>

enum { GDT = 0x3e0000, IDT = 0x3e1000, STUBS = 0x3e2000, NOWHERE = 0x800000, VECTORS = 32 };

static void put64(struct guest *g, uint32_t at, uint64_t value)
{
    memcpy(g->ram + at, &value, sizeof(value));
}

/* Every exception ends in a HLT of its own, on the stack of the code that raised it. */
static void install_idt(struct guest *g, unsigned bits)
{
    put64(g, GDT + 8, bits == 64 ? 0x00af9b000000ffff : 0x00cf9b000000ffff);
    put64(g, GDT + 16, 0x00cf93000000ffff);
    for (uint32_t v = 0; v < VECTORS; v++) {
        uint64_t target = STUBS + 16 * v;
        uint64_t gate = (target & 0xffff) | 8 << 16 | 0x8e00ull << 32 | (target >> 16) << 48;
        put64(g, IDT + v * (bits == 64 ? 16 : 8), gate);
        g->ram[target] = 0xf4;
    }
    g->state.gdtr = (struct x86_table){.base = GDT, .limit = 23};
    g->state.idtr = (struct x86_table){.base = IDT, .limit = 16 * VECTORS - 1};
}

static void create(struct guest *g, unsigned bits)
{
    guest_create(g, bits);
    install_idt(g, bits);
}

/* Vector of the exception that ended the program, -1: it ended by itself. */
static int exception(const struct guest *g)
{
    uint64_t offset = g->state.rip - STUBS;
    return offset < 16 * VECTORS ? (int)(offset / 16) : -1;
}

static uint32_t dword(const struct guest *g, uint32_t at)
{
    uint32_t value;
    memcpy(&value, g->ram + at, sizeof(value));
    return value;
}

/* DF went back to its old value when an access missed the TLB while arithmetic flags were dead. */
GUEST_CODE(direction_at_miss, 32,
           "mov $0x100800, %esi\n mov $0x180800, %edi\n movl $0x1234, (%esi)\n"
           "mov $0x200ffe, %ebx\n std\n mov (%ebx), %eax\n xor %ecx, %ecx\n movsl\n cld\n hlt");

static void direction_survives_slow_access(void **state)
{
    (void)state;
    struct guest g;
    create(&g, 32);
    guest_exec(&g, direction_at_miss);
    assert_int_equal(g.state.gpr[X86_RSI], 0x1007fc);
    assert_int_equal(g.state.gpr[X86_RDI], 0x1807fc);
    guest_destroy(&g);
}

/* FNSAVE cleared the data registers; FNINIT only marks them empty. */
GUEST_CODE(fnsave_keeps, 64, "fninit\n fld1\n fnsave 0x100000\n fxsave 0x100200\n hlt");

static void fnsave_keeps_registers(void **state)
{
    (void)state;
    struct guest g;
    create(&g, 64);
    guest_exec(&g, fnsave_keeps);
    assert_int_equal(dword(&g, 0x100200), 0x37f);
    assert_int_equal(dword(&g, 0x100204), 0);
    assert_int_equal(dword(&g, 0x100200 + 32 + 7 * 16 + 4), 0x80000000); /* was in R7 */
    assert_int_equal(dword(&g, 0x100200 + 32 + 7 * 16 + 8), 0x3fff);
    guest_destroy(&g);
}

/* 66 with REX.W selected the 16-bit format of the x87 environment. */
GUEST_CODE(environment_format, 64, "fninit\n .byte 0x66, 0x48\n fnstenv 0x100000\n hlt");

static void rex_w_cancels_66_for_environment(void **state)
{
    (void)state;
    struct guest g;
    create(&g, 64);
    guest_exec(&g, environment_format);
    assert_int_equal(dword(&g, 0x100008), 0xffffffff); /* tag word of the 32-bit format */
    guest_destroy(&g);
}

/* FXRSTOR kept bits of the control word that do not exist, and what ES and B were in memory. */
GUEST_CODE(fxrstor_settles, 64,
           "fxsave 0x100000\n movw $0xffff, 0x100000\n movw $0x8080, 0x100002\n"
           "fxrstor 0x100000\n fxsave 0x100200\n hlt");

static void fxrstor_settles_x87_state(void **state)
{
    (void)state;
    struct guest g;
    create(&g, 64);
    guest_exec(&g, fxrstor_settles);
    assert_int_equal(dword(&g, 0x100200), 0x1f7f);
    guest_destroy(&g);
}

/* The page fault was reported, not the misalignment. */
GUEST_CODE(misaligned_unmapped, 64, "movaps 0x800008, %xmm0\n hlt");
GUEST_CODE(aligned_unmapped, 64, "movaps 0x800010, %xmm0\n hlt");
GUEST_CODE(unaligned_unmapped, 64, "movups 0x800008, %xmm0\n hlt");

static void misalignment_before_page_fault(void **state)
{
    (void)state;
    struct guest g;
    create(&g, 64);
    guest_exec(&g, misaligned_unmapped);
    assert_int_equal(exception(&g), X86_GP);
    guest_exec(&g, aligned_unmapped);
    assert_int_equal(exception(&g), X86_PF);
    guest_exec(&g, unaligned_unmapped);
    assert_int_equal(exception(&g), X86_PF);
    guest_destroy(&g);
}

/* The operand's page fault was reported, not the exception of the division before. */
#define DIVIDE_BY_ZERO                                                                             \
    "fninit\n movw $0x340, 0x100000\n fldcw 0x100000\n fld1\n fldz\n fdivrp %st, %st(1)\n"
GUEST_CODE(pending_store, 64, DIVIDE_BY_ZERO "fistpll 0x800000\n hlt");
GUEST_CODE(pending_mmx, 64, DIVIDE_BY_ZERO "paddb 0x800000, %mm0\n hlt");
GUEST_CODE(pending_maskmov, 64, DIVIDE_BY_ZERO "mov $0x800000, %edi\n maskmovq %mm0, %mm1\n hlt");
GUEST_CODE(pending_fldenv, 64, DIVIDE_BY_ZERO "fldenv 0x100000\n hlt");
GUEST_CODE(pending_fnstcw, 64, DIVIDE_BY_ZERO "fnstcw 0x800000\n hlt");

static void pending_exception_before_page_fault(void **state)
{
    (void)state;
    struct guest g;
    create(&g, 64);
    g.state.cr0 |= X86_CR0_NE;
    const struct x86_cpu initial = g.state;
    guest_exec(&g, pending_store);
    assert_int_equal(exception(&g), X86_MF);
    g.state = initial;
    guest_exec(&g, pending_mmx);
    assert_int_equal(exception(&g), X86_MF);
    g.state = initial;
    guest_exec(&g, pending_maskmov);
    assert_int_equal(exception(&g), X86_MF);
    g.state = initial;
    guest_exec(&g, pending_fldenv);
    assert_int_equal(exception(&g), X86_MF);
    g.state = initial;
    guest_exec(&g, pending_fnstcw); /* does not wait */
    assert_int_equal(exception(&g), X86_PF);
    guest_destroy(&g);
}

/* A store that crosses pages wrote the bounce buffer even if the exception was not masked. */
GUEST_CODE(failed_store, 64,
           "fninit\n movw $0x37e, 0x100000\n fldcw 0x100000\n fldl 0x100008\n"
           "fistl 0x100ffe\n fnstsw %ax\n hlt");

static void failed_x87_store_leaves_memory(void **state)
{
    (void)state;
    struct guest g;
    create(&g, 64);
    put64(&g, 0x100008, 0x7fe0000000000000);
    put64(&g, 0x100ffc, 0x1122334455667788);
    guest_exec(&g, failed_store);
    assert_int_equal(g.state.gpr[X86_RAX] & 0x81, 0x81);
    assert_int_equal(dword(&g, 0x100ffc), 0x55667788);
    assert_int_equal(dword(&g, 0x101000), 0x11223344);
    guest_destroy(&g);
}

/* Bit 7 of the immediate named XMM8-15, which only exist in 64-bit mode. */
GUEST_CODE(blend32, 32,
           "vpcmpeqd %xmm1, %xmm1, %xmm1\n vpxor %xmm2, %xmm2, %xmm2\n"
           ".byte 0xc4, 0xe3, 0x69, 0x4a, 0xd9, 0x90\n" /* vblendvps xmm3, xmm2, xmm1, 9 */
           "vmovd %xmm3, %eax\n hlt");

static void blend_register_outside_64_bit_mode(void **state)
{
    (void)state;
    struct guest g;
    create(&g, 32);
    guest_exec(&g, blend32); /* the mask is xmm1: all ones */
    assert_int_equal(g.state.gpr[X86_RAX], 0xffffffff);
    guest_destroy(&g);
}

/* VEX.W made the lengths of the strings 64 bits wide, so that negative ones looked large. */
GUEST_CODE(compare32, 32,
           "mov $-2, %eax\n mov $-2, %edx\n vpxor %xmm1, %xmm1, %xmm1\n"
           ".byte 0xc4, 0xe3, 0xf9, 0x60, 0xc9, 0x00\n" /* vpcmpestrm xmm1, xmm1, 0 with W */
           "vmovd %xmm0, %eax\n hlt");

static void string_lengths_outside_64_bit_mode(void **state)
{
    (void)state;
    struct guest g;
    create(&g, 32);
    guest_exec(&g, compare32); /* two bytes of each are valid */
    assert_int_equal(g.state.gpr[X86_RAX], 3);
    guest_destroy(&g);
}

/* An access beyond 4 GiB wrapped around although the segment ends there. */
GUEST_CODE(beyond_data, 32, "mov $0xfffffffe, %ebx\n mov (%ebx), %eax\n hlt");
GUEST_CODE(up_to_end, 32, "mov $0xfffffffc, %ebx\n mov (%ebx), %eax\n hlt");
GUEST_CODE(bound_at_end, 32, "mov $0xfffffffe, %ebx\n xor %eax, %eax\n bound %ax, (%ebx)\n hlt");

static void flat_segment_ends_at_4_gib(void **state)
{
    (void)state;
    struct guest g;
    create(&g, 32);
    guest_exec(&g, beyond_data);
    assert_int_equal(exception(&g), X86_GP);
    guest_exec(&g, up_to_end);
    assert_int_equal(exception(&g), -1);
    /* BOUND reads two items, neither of which crosses the end: FFFFh, and 5 at address 0. */
    put64(&g, 0, 5);
    guest_exec(&g, bound_at_end);
    assert_int_equal(exception(&g), -1);
    guest_destroy(&g);
}

/* A return to the address in the sentinel of the return stack was blamed on an older branch. */
GUEST_CODE(bad_return, 32,
           "0: mov $0x10000+2f-0b, %eax\n jmp *%eax\n nop\n 2: push $-1\n ret\n hlt");

static void invalid_return_faults_at_ret(void **state)
{
    (void)state;
    struct guest g;
    create(&g, 32);
    g.state.seg[X86_CS].limit = 0x3fffff;
    g.state.seg[X86_CS].attr &= ~(uint32_t)X86_AR_G;
    segment_update_bounds(&g.state.seg[X86_CS]);
    guest_exec(&g, bad_return);
    assert_int_equal(exception(&g), X86_GP);
    /* error code, EIP, CS, EFLAGS; the return address is still on the stack */
    uint32_t eip = dword(&g, (uint32_t)g.state.gpr[X86_RSP] + 4);
    assert_int_equal(g.ram[eip], 0xc3);
    assert_int_equal(dword(&g, (uint32_t)g.state.gpr[X86_RSP] + 16), 0xffffffff);
    guest_destroy(&g);
}

/* With TF set, the branch to an invalid target was complete and trapped. */
GUEST_CODE(stepped_return, 32, "push $-1\n pushf\n orl $0x100, (%esp)\n popf\n ret\n hlt");

static void single_stepped_branch_faults(void **state)
{
    (void)state;
    struct guest g;
    create(&g, 32);
    g.state.seg[X86_CS].limit = 0x3fffff;
    g.state.seg[X86_CS].attr &= ~(uint32_t)X86_AR_G;
    segment_update_bounds(&g.state.seg[X86_CS]);
    guest_exec(&g, stepped_return);
    /* POPF itself does not trap yet; RET faults, and its address is pushed. */
    assert_int_equal(exception(&g), X86_GP);
    assert_int_equal(g.ram[dword(&g, (uint32_t)g.state.gpr[X86_RSP] + 4)], 0xc3);
    guest_destroy(&g);
}

/*
 * The dirty flag was set for a store that did not happen: one behind a taken branch in a stack
 * window, and one whose misalignment is an exception.
 */
enum { DIRECTORY_ENTRY = 0x202008, ACCESSED = 0x20, DIRTY = 0x40 };
GUEST_CODE(skipped_push, 64,
           "mov $0x300000, %esp\n mov -8(%rsp), %rbx\n cmp %eax, %eax\n je 1f\n push %rax\n"
           "push %rax\n 1: hlt");
GUEST_CODE(skipped_pop, 64,
           "mov $0x300000, %esp\n cmp %eax, %eax\n je 1f\n pop %rax\n 1: mov $0xa0000, %esp\n"
           "hlt");
GUEST_CODE(misaligned_store, 64, "movaps %xmm0, 0x300008\n hlt");
GUEST_CODE(unaligned_store, 64, "movups %xmm0, 0x300008\n hlt");

static unsigned flags_after(const uint8_t *code, const uint8_t *end)
{
    struct guest g;
    create(&g, 64);
    guest_place(&g, code, end);
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    unsigned flags = dword(&g, DIRECTORY_ENTRY);
    guest_destroy(&g);
    return flags & (ACCESSED | DIRTY);
}

static void stores_that_do_not_happen_make_nothing_dirty(void **state)
{
    (void)state;
    assert_int_equal(flags_after(skipped_push, skipped_push_end), ACCESSED);
    assert_int_equal(flags_after(skipped_pop, skipped_pop_end), 0);
    /* the exception's descriptors are there, too */
    assert_int_equal(flags_after(misaligned_store, misaligned_store_end), ACCESSED);
    assert_int_equal(flags_after(unaligned_store, unaligned_store_end), ACCESSED | DIRTY);
}

/*
 * Flags that the manuals leave undefined were not the host's: some processors keep them, but what
 * they were before had been thrown away as dead.
 */
#define KEEPERS(insn)                                                                              \
    "mov $0x100000, %esi\n mov $77, %eax\n xor %edx, %edx\n pushq $0xad7\n popfq\n"                \
    "mov (%rsi), %ecx\n " insn "\n pushfq\n pop %rdi\n hlt"
GUEST_CODE(keeper_imul, 64, KEEPERS("imul %ecx, %eax"));
GUEST_CODE(keeper_mul, 64, KEEPERS("mul %ecx"));
GUEST_CODE(keeper_div, 64, KEEPERS("div %ecx"));
GUEST_CODE(keeper_bt, 64, KEEPERS("bt %ecx, %eax"));
GUEST_CODE(keeper_lzcnt, 64, KEEPERS("lzcnt %ecx, %eax"));

#define FLAGS_NATIVELY(insn)                                                                       \
    ({                                                                                             \
        uint64_t a = 77, c = 3, d = 0, flags = 0xad7;                                              \
        __asm__ volatile("push %3\n popfq\n " insn "\n pushfq\n pop %3"                            \
                         : "+a"(a), "+c"(c), "+d"(d), "+r"(flags)                                  \
                         :                                                                         \
                         : "cc", "memory");                                                        \
        flags &X86_ARITH_FLAGS;                                                                    \
    })

static void check_keeper(const uint8_t *code, const uint8_t *end, uint64_t flags)
{
    struct guest g;
    create(&g, 64);
    g.ram[0x100000] = 3;
    guest_place(&g, code, end);
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    assert_int_equal(g.state.gpr[X86_RDI] & X86_ARITH_FLAGS, flags);
    guest_destroy(&g);
}

static void undefined_flags_are_those_of_the_host(void **state)
{
    (void)state;
    check_keeper(keeper_imul, keeper_imul_end, FLAGS_NATIVELY("imul %%ecx, %%eax"));
    check_keeper(keeper_mul, keeper_mul_end, FLAGS_NATIVELY("mul %%ecx"));
    check_keeper(keeper_div, keeper_div_end, FLAGS_NATIVELY("div %%ecx"));
    check_keeper(keeper_bt, keeper_bt_end, FLAGS_NATIVELY("bt %%ecx, %%eax"));
    check_keeper(keeper_lzcnt, keeper_lzcnt_end, FLAGS_NATIVELY("lzcnt %%ecx, %%eax"));
}

/* VEX instructions on general registers ran in real-address and virtual-8086 mode. */
static const struct {
    uint8_t size, bytes[6];
} protected_only[] = {
    {5, {0xc4, 0xe2, 0x60, 0xf2, 0xc1}},       /* ANDN eax, ebx, ecx */
    {5, {0xc4, 0xe2, 0x78, 0xf3, 0xc9}},       /* BLSR eax, ecx */
    {6, {0xc4, 0xe3, 0x7b, 0xf0, 0xc1, 0x03}}, /* RORX eax, ecx, 3 */
    {4, {0xc5, 0xf8, 0x57, 0xc0}},             /* VXORPS xmm0, xmm0, xmm0 */
    {3, {0xc5, 0xf8, 0x77}},                   /* VZEROUPPER */
    {6, {0x62, 0xf1, 0x7c, 0x48, 0x57, 0xc0}}, /* VXORPS zmm0, zmm0, zmm0 */
    {3, {0x0f, 0x00, 0xc0}},                   /* SLDT ax */
    {3, {0x0f, 0x00, 0xe0}},                   /* VERR ax */
    {3, {0x0f, 0x02, 0xc0}},                   /* LAR ax, ax */
    {2, {0x63, 0xc0}},                         /* ARPL ax, ax */
};
enum { TASK_STATE = 0x3e8000, HANDLER_STACK = 0x3ea000, VM86_CODE = 0x10000 };

static void enter_vm86(struct guest *g)
{
    create(g, 32);
    put64(g, TASK_STATE + 4, 16ull << 32 | HANDLER_STACK);
    g->state.seg[X86_TR] = (struct x86_segment){
        .base = TASK_STATE, .limit = 0x67, .attr = X86_AR_P | 0xb, .selector = 0x18};
    g->state.cpl = 3;
    for (unsigned i = 0; i < 6; i++) {
        segment_load_real(&g->state.seg[i], VM86_CODE >> 4);
        g->state.seg[i].attr |= 3u << X86_AR_DPL_SHIFT;
    }
    g->state.rip = 0;
    g->state.gpr[X86_RSP] = 0x8000;
    x86_set_rflags(&g->state, X86_VM | 0x3202);
}

static void no_vex_in_8086_modes(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof(protected_only) / sizeof(protected_only[0]); i++) {
        const uint8_t *bytes = protected_only[i].bytes, *end = bytes + protected_only[i].size;
        struct guest g;
        guest_create(&g, 16);
        g.state.cr4 |= X86_CR4_OSFXSR | X86_CR4_OSXSAVE;
        g.state.xcr0 = 7;
        put64(&g, X86_UD * 4, 0x500);
        g.ram[0x500] = 0xf4;
        guest_place(&g, bytes, end);
        assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
        assert_int_equal(g.state.seg[X86_CS].base + g.state.rip, 0x501);
        guest_destroy(&g);

        enter_vm86(&g);
        memcpy(g.ram + VM86_CODE, bytes, protected_only[i].size);
        assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
        assert_int_equal(exception(&g), X86_UD);
        assert_int_equal(dword(&g, HANDLER_STACK - 36), 0); /* EIP */
        guest_destroy(&g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(direction_survives_slow_access),
        cmocka_unit_test(fnsave_keeps_registers),
        cmocka_unit_test(rex_w_cancels_66_for_environment),
        cmocka_unit_test(fxrstor_settles_x87_state),
        cmocka_unit_test(misalignment_before_page_fault),
        cmocka_unit_test(pending_exception_before_page_fault),
        cmocka_unit_test(failed_x87_store_leaves_memory),
        cmocka_unit_test(blend_register_outside_64_bit_mode),
        cmocka_unit_test(string_lengths_outside_64_bit_mode),
        cmocka_unit_test(flat_segment_ends_at_4_gib),
        cmocka_unit_test(invalid_return_faults_at_ret),
        cmocka_unit_test(single_stepped_branch_faults),
        cmocka_unit_test(stores_that_do_not_happen_make_nothing_dirty),
        cmocka_unit_test(undefined_flags_are_those_of_the_host),
        cmocka_unit_test(no_vex_in_8086_modes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
