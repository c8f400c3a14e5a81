#include "fixture.h"

enum { AX_TO_DS = 0xd8, AX_TO_SS = 0xd0, AX_TO_ES = 0xc0, AX_TO_FS = 0xe0, AX_TO_GS = 0xe8 };

static const struct {
    enum x86_segreg seg;
    uint8_t modrm; /* MOV seg, AX */
} data_registers[] = {
    {X86_DS, AX_TO_DS}, {X86_ES, AX_TO_ES}, {X86_FS, AX_TO_FS}, {X86_GS, AX_TO_GS}};

static void test_real_mode(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    cpu->gpr[X86_RAX] = 0x1234;
    assert_int_equal(RUN(m, 0x8e, AX_TO_DS), OP_NEXT);
    assert_int_equal(cpu->seg[X86_DS].selector, 0x1234);
    assert_int_equal(cpu->seg[X86_DS].base, 0x12340);
    assert_int_equal(cpu->seg[X86_DS].limit, 0xffff);
    assert_int_equal(cpu->shadow, 0);
    assert_int_equal(RUN(m, 0x8e, AX_TO_SS), OP_NEXT);
    assert_int_equal(cpu->shadow, X86_SHADOW_MOV_SS);
    assert_int_equal(cpu->seg[X86_SS].base, 0x12340);
}

/* "Unreal mode": a limit of 4 GiB from protected mode stays. */
static void test_unreal_mode(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    cpu->seg[X86_DS].limit = 0xffffffff;
    cpu->seg[X86_DS].attr |= X86_AR_G;
    cpu->gpr[X86_RAX] = 0x10;
    assert_int_equal(RUN(m, 0x8e, AX_TO_DS), OP_NEXT);
    assert_int_equal(cpu->seg[X86_DS].limit, 0xffffffff);
    assert_int_equal(cpu->seg[X86_DS].read_end, 1ull << 32);
    assert_int_equal(cpu->seg[X86_DS].base, 0x100);
}

static void test_data_registers(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    for (unsigned i = 0; i < 4; i++) {
        uint8_t modrm = data_registers[i].modrm;
        struct x86_segment *seg = &cpu->seg[data_registers[i].seg];

        cpu->gpr[X86_RAX] = SEL_DATA3 & ~3;
        assert_int_equal(RUN(m, 0x8e, modrm), OP_NEXT);
        assert_int_equal(seg->selector, SEL_DATA3 & ~3);
        assert_int_equal(seg->limit, 0xffffffff);
        assert_int_equal(seg->attr & 0xff, 0xf3); /* accessed */
        assert_int_equal(get(m, AT_GDT + (SEL_DATA3 & ~3) + 5, 1), 0xf3);

        cpu->gpr[X86_RAX] = SEL_BEYOND;
        FAULTS(m, X86_GP, SEL_BEYOND, 0x8e, modrm);
        cpu->gpr[X86_RAX] = SEL_FREE + 8; /* descriptor of zeros: a system type */
        FAULTS(m, X86_GP, SEL_FREE + 8, 0x8e, modrm);
        cpu->gpr[X86_RAX] = SEL_TSS;
        FAULTS(m, X86_GP, SEL_TSS, 0x8e, modrm);
        cpu->gpr[X86_RAX] = SEL_XONLY;
        FAULTS(m, X86_GP, SEL_XONLY, 0x8e, modrm);
        cpu->gpr[X86_RAX] = SEL_DATA0 | 3; /* RPL > DPL */
        FAULTS(m, X86_GP, SEL_DATA0, 0x8e, modrm);
        cpu->gpr[X86_RAX] = SEL_DATA_NP;
        FAULTS(m, X86_NP, SEL_DATA_NP, 0x8e, modrm);
        cpu->gpr[X86_RAX] = 0x0c; /* no LDT */
        FAULTS(m, X86_GP, 0x0c, 0x8e, modrm);
        cpu->gpr[X86_RAX] = SEL_CODE0; /* readable code is data too */
        assert_int_equal(RUN(m, 0x8e, modrm), OP_NEXT);
        assert_int_equal(seg->write_end, 0);
        cpu->gpr[X86_RAX] = SEL_RODATA;
        assert_int_equal(RUN(m, 0x8e, modrm), OP_NEXT);
        assert_int_equal(seg->write_end, 0);
        cpu->gpr[X86_RAX] = 3; /* null with RPL 3 */
        assert_int_equal(RUN(m, 0x8e, modrm), OP_NEXT);
        assert_true(seg->attr & X86_AR_UNUSABLE);
        assert_int_equal(seg->selector, 3);
        assert_int_equal(seg->read_end, 0);
    }
    enter_user(m);
    for (unsigned i = 0; i < 4; i++) {
        uint8_t modrm = data_registers[i].modrm;

        cpu->gpr[X86_RAX] = SEL_DATA0; /* CPL > DPL */
        FAULTS(m, X86_GP, SEL_DATA0, 0x8e, modrm);
        cpu->gpr[X86_RAX] = SEL_CONF0; /* conforming code may be read from everywhere */
        assert_int_equal(RUN(m, 0x8e, modrm), OP_NEXT);
    }
}

static void test_ss(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    cpu->gpr[X86_RAX] = SEL_DATA16;
    assert_int_equal(RUN(m, 0x8e, AX_TO_SS), OP_NEXT);
    assert_int_equal(x86_stack_bits(cpu), 16);
    assert_int_equal(cpu->shadow, X86_SHADOW_MOV_SS);
    assert_true(cpu->dirty & X86_DIRTY_MODE);
    cpu->shadow = 0;
    cpu->gpr[X86_RAX] = 0;
    FAULTS(m, X86_GP, 0, 0x8e, AX_TO_SS);
    cpu->gpr[X86_RAX] = SEL_BEYOND;
    FAULTS(m, X86_GP, SEL_BEYOND, 0x8e, AX_TO_SS);
    cpu->gpr[X86_RAX] = SEL_DATA0 | 1; /* RPL != CPL */
    FAULTS(m, X86_GP, SEL_DATA0, 0x8e, AX_TO_SS);
    cpu->gpr[X86_RAX] = SEL_DATA3 & ~3; /* DPL != CPL */
    FAULTS(m, X86_GP, SEL_DATA3 & ~3, 0x8e, AX_TO_SS);
    cpu->gpr[X86_RAX] = SEL_RODATA;
    FAULTS(m, X86_GP, SEL_RODATA, 0x8e, AX_TO_SS);
    cpu->gpr[X86_RAX] = SEL_CODE0;
    FAULTS(m, X86_GP, SEL_CODE0, 0x8e, AX_TO_SS);
    cpu->gpr[X86_RAX] = SEL_DATA_NP;
    FAULTS(m, X86_SS_FAULT, SEL_DATA_NP, 0x8e, AX_TO_SS);
    cpu->gpr[X86_RAX] = SEL_DOWN;
    assert_int_equal(RUN(m, 0x8e, AX_TO_SS), OP_NEXT);
}

static void test_dirty_only_when_needed(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    cpu->gpr[X86_RAX] = SEL_DATA0;
    assert_int_equal(RUN(m, 0x8e, AX_TO_DS), OP_NEXT);
    assert_int_equal(cpu->dirty, 0);
    cpu->gpr[X86_RAX] = SEL_DATA16;
    assert_int_equal(RUN(m, 0x8e, AX_TO_FS), OP_NEXT); /* FS is not in the key */
    assert_int_equal(cpu->dirty, 0);
    assert_int_equal(RUN(m, 0x8e, AX_TO_DS), OP_NEXT);
    assert_int_equal(cpu->dirty, X86_DIRTY_MODE);
}

static void test_ldt(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    put(m, AT_LDT + 8, 8, make_descriptor(0x12345678, 0x10, ACC_DATA, FLAG_D));
    cpu->gpr[X86_RAX] = SEL_LDT;
    assert_int_equal(RUN(m, 0x0f, 0x00, 0xd0), OP_NEXT); /* LLDT AX */
    assert_int_equal(cpu->seg[X86_LDTR].base, AT_LDT);
    cpu->gpr[X86_RAX] = 0x0c;
    assert_int_equal(RUN(m, 0x8e, AX_TO_DS), OP_NEXT);
    assert_int_equal(cpu->seg[X86_DS].base, 0x12345678);
    assert_int_equal(cpu->seg[X86_DS].limit, 0x10);
    put(m, AT_LDT + 0x20, 8, make_descriptor(0, 0x10, ACC_DATA, FLAG_D));
    cpu->gpr[X86_RAX] = 0x24; /* beyond the LDT's 20H bytes */
    FAULTS(m, X86_GP, 0x24, 0x8e, AX_TO_DS);
}

static void test_descriptor_page_faults(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    enable_paging32(m);
    enter_user(m);
    put(m, AT_PT32 + 4, 4, 0x1000 | 3); /* the GDT is for the supervisor: no matter */
    mmu_flush_all(cpu);
    cpu->gpr[X86_RAX] = SEL_DATA3;
    assert_int_equal(RUN(m, 0x8e, AX_TO_DS), OP_NEXT);
    /* Read-only, WP set: the accessed bit cannot be written. */
    put(m, AT_PT32 + 4, 4, 0x1000 | 1);
    set_gdt(m, SEL_DATA3, make_descriptor(0, 0xfffff, ACC_DATA | ACC_DPL3, FLAG_G | FLAG_D));
    cpu->cr0 |= X86_CR0_WP;
    mmu_flush_all(cpu);
    FAULTS(m, X86_PF, 3, 0x8e, AX_TO_DS);
    assert_int_equal(cpu->fault.cr2, AT_GDT + (SEL_DATA3 & ~7) + 5);
    unmap_page(m, AT_GDT);
    FAULTS(m, X86_PF, 0, 0x8e, AX_TO_DS);
    assert_int_equal(cpu->fault.cr2, AT_GDT + (SEL_DATA3 & ~7));
}

static void test_push_pop(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    assert_int_equal(RUN(m, 0x06), OP_NEXT); /* PUSH ES */
    assert_int_equal(cpu->gpr[X86_RSP], STACK0 - 4);
    assert_int_equal(get(m, STACK0 - 4, 4), SEL_DATA0);
    assert_int_equal(RUN(m, 0x66, 0x0f, 0xa0), OP_NEXT); /* PUSH FS, 16 bits */
    assert_int_equal(cpu->gpr[X86_RSP], STACK0 - 6);
    put(m, STACK0 - 6, 2, SEL_DATA_NP);
    FAULTS(m, X86_NP, SEL_DATA_NP, 0x66, 0x1f); /* POP DS */
    put(m, STACK0 - 6, 2, SEL_RODATA);
    assert_int_equal(RUN(m, 0x66, 0x1f), OP_NEXT);
    assert_int_equal(cpu->seg[X86_DS].selector, SEL_RODATA);
    assert_int_equal(cpu->gpr[X86_RSP], STACK0 - 4);
    cpu->gpr[X86_RSP] = 0x12349000 - 4; /* upper half must survive */
    force_segment(m, X86_SS, SEL_DATA16);
    put(m, 0x8ffc, 4, SEL_DATA0);
    assert_int_equal(RUN(m, 0x17), OP_NEXT); /* POP SS */
    assert_int_equal(cpu->gpr[X86_RSP], 0x12349000);
    assert_int_equal(cpu->seg[X86_SS].selector, SEL_DATA0);
    assert_int_equal(cpu->shadow, X86_SHADOW_MOV_SS);
    cpu->gpr[X86_RSP] = 0x12348ffe;
    force_segment(m, X86_SS, SEL_DATA16);
    cpu->seg[X86_SS].limit = 0x8fff;
    segment_update_bounds(&cpu->seg[X86_SS]);
    FAULTS(m, X86_SS_FAULT, 0, 0x1f); /* four bytes, two of them beyond the limit */
}

static void test_far_pointers(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    put(m, AT_DATA, 4, 0x11223344);
    put(m, AT_DATA + 4, 2, SEL_RODATA);
    cpu->gpr[X86_RBX] = AT_DATA;
    assert_int_equal(RUN(m, 0xc5, 0x0b), OP_NEXT); /* LDS ECX, [EBX] */
    assert_int_equal(cpu->gpr[X86_RCX], 0x11223344);
    assert_int_equal(cpu->seg[X86_DS].selector, SEL_RODATA);
    assert_int_equal(RUN(m, 0x0f, 0xb4, 0x13), OP_NEXT); /* LFS EDX, [EBX] */
    assert_int_equal(cpu->seg[X86_FS].selector, SEL_RODATA);
    FAULTS(m, X86_GP, SEL_RODATA, 0x0f, 0xb2, 0x13); /* LSS */
    put(m, AT_DATA + 4, 2, SEL_DATA0);
    assert_int_equal(RUN(m, 0x0f, 0xb2, 0x23), OP_NEXT); /* LSS ESP */
    assert_int_equal(cpu->gpr[X86_RSP], 0x11223344);
    assert_int_equal(cpu->shadow, 0);
    put(m, AT_DATA + 2, 2, SEL_DATA3);
    assert_int_equal(RUN(m, 0x66, 0xc4, 0x03), OP_NEXT); /* LES AX: 16 bits */
    assert_int_equal(cpu->seg[X86_ES].selector, SEL_DATA3);
    assert_int_equal(cpu->gpr[X86_RAX], 0x3344);
}

static void test_mov_from(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    cpu->gpr[X86_RAX] = 0xffffffff;
    assert_int_equal(RUN(m, 0x8c, 0xd8), OP_NEXT); /* MOV EAX, DS */
    assert_int_equal(cpu->gpr[X86_RAX], SEL_DATA0);
    cpu->gpr[X86_RAX] = 0xffffffff;
    assert_int_equal(RUN(m, 0x66, 0x8c, 0xd8), OP_NEXT);
    assert_int_equal(cpu->gpr[X86_RAX], 0xffff0000u | SEL_DATA0);
    put(m, AT_DATA, 4, 0xffffffff);
    cpu->gpr[X86_RBX] = AT_DATA;
    assert_int_equal(RUN(m, 0x8c, 0x0b), OP_NEXT); /* MOV [EBX], CS: always a word */
    assert_int_equal(get(m, AT_DATA, 4), 0xffff0000u | SEL_CODE0);
}

static void test_vm86(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    enter_vm86(m, 0);
    cpu->gpr[X86_RAX] = 0xfff8;
    assert_int_equal(RUN(m, 0x8e, AX_TO_ES), OP_NEXT);
    assert_int_equal(cpu->seg[X86_ES].base, 0xfff80);
    assert_int_equal(cpu->seg[X86_ES].attr, 0xf3);
}

static void test_long_null_ss(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    cpu->gpr[X86_RAX] = 0;
    assert_int_equal(RUN(m, 0x8e, AX_TO_SS), OP_NEXT);
    assert_true(cpu->seg[X86_SS].attr & X86_AR_UNUSABLE);
    cpu->gpr[X86_RAX] = 1; /* RPL != CPL */
    cpu->shadow = 0;
    FAULTS(m, X86_GP, 0, 0x8e, AX_TO_SS);
    assert_int_equal(cpu->dirty, 0); /* flatness does not count in 64-bit mode */
    enter_user(m);
    cpu->gpr[X86_RAX] = 3;
    FAULTS(m, X86_GP, 0, 0x8e, AX_TO_SS);
    force_segment(m, X86_CS, SEL_CODE3); /* compatibility mode */
    cpu->cpl = 0;
    cpu->gpr[X86_RAX] = 0;
    FAULTS(m, X86_GP, 0, 0x8e, AX_TO_SS);
}

static void test_long_fs_gs(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    set_gdt(m, SEL_FREE, make_descriptor(0x89abcdef, 0xfffff, ACC_DATA, FLAG_G));
    cpu->seg[X86_FS].base = 0xffff888012345678;
    cpu->gpr[X86_RAX] = SEL_FREE;
    assert_int_equal(RUN(m, 0x8e, AX_TO_FS), OP_NEXT);
    assert_int_equal(cpu->seg[X86_FS].base, 0x89abcdef);
    cpu->gpr[X86_RAX] = 0;
    assert_int_equal(RUN(m, 0x8e, AX_TO_FS), OP_NEXT);
    assert_int_equal(cpu->seg[X86_FS].base, 0);
    assert_int_equal(RUN(m, 0x0f, 0xa8), OP_NEXT); /* PUSH GS: 8 bytes */
    assert_int_equal(cpu->gpr[X86_RSP], STACK0 - 8);
    assert_int_equal(get(m, STACK0 - 8, 8), SEL_DATA0);
    cpu->gpr[X86_RSP] = 0x8000000000000000;
    FAULTS(m, X86_SS_FAULT, 0, 0x0f, 0xa1);
}

#define IN(mode, test) cmocka_unit_test_setup_teardown(test, setup_##mode, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN(real, test_real_mode),
        IN(real, test_unreal_mode),
        IN(protected, test_data_registers),
        IN(protected, test_ss),
        IN(protected, test_dirty_only_when_needed),
        IN(protected, test_ldt),
        IN(protected, test_descriptor_page_faults),
        IN(protected, test_push_pop),
        IN(protected, test_far_pointers),
        IN(protected, test_mov_from),
        IN(protected, test_vm86),
        IN(long, test_long_null_ss),
        IN(long, test_long_fs_gs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
