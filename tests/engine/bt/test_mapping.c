/*
 * Code and changing address translation: however control reaches a page, it must find what the page
 * tables say after INVLPG, MOV CR3 and the like (SDM vol. 3, 4.10), and page faults must be
 * precise.
 */
#include "tables.h"

#include <string.h>

/*
 * 32-bit paging: everything below 4 MiB is identity-mapped by a page table that both address
 * spaces share; the 4 MiB from WINDOW on have a table each.
 */
enum {
    DIRECTORY = 0x200000,
    TABLE_LOW = 0x201000,
    TABLE_WINDOW = 0x202000,
    DIRECTORY_2 = 0x203000,
    TABLE_WINDOW_2 = 0x204000,
    WINDOW = 0x400000,
    FRAME_A = 0x300000,
    FRAME_B = 0x301000,
    ENTER = 0x12000,  /* routine that reaches the window in some way; returns EAX */
    CHANGE = 0x13000, /* routine that changes what is in the window */
    FAULT_HANDLER = 0x14000,
    PRESENT_WRITE_USER = 7,
    GLOBAL = 0x100,
};

static void make_paging(struct guest *g)
{
    for (uint32_t i = 0; i < 1024; i++)
        guest_write32(g, TABLE_LOW + 4 * i, i << 12 | PRESENT_WRITE_USER);
    guest_write32(g, DIRECTORY, TABLE_LOW | PRESENT_WRITE_USER);
    guest_write32(g, DIRECTORY + 4, TABLE_WINDOW | PRESENT_WRITE_USER);
    guest_write32(g, DIRECTORY_2, TABLE_LOW | PRESENT_WRITE_USER);
    guest_write32(g, DIRECTORY_2 + 4, TABLE_WINDOW_2 | PRESENT_WRITE_USER);
    g->state.cr3 = DIRECTORY;
    g->state.cr4 |= X86_CR4_PSE | X86_CR4_PGE;
    g->state.cr0 |= X86_CR0_PG | X86_CR0_WP;
}

#define PLACE(g, gpa, name) as_write((g)->as, gpa, name, (size_t)(name##_end - name))

/* --- every way in, every way to change --- */

GUEST_CODE(loop, 32,
           "mov $24, %ecx\n xor %ebx, %ebx\n"
           "1: push %ecx\n call .+0x2000-8\n imul $3, %ebx\n add %eax, %ebx\n call .+0x3000-18\n"
           "pop %ecx\n dec %ecx\n jnz 1b\n hlt");

GUEST_CODE(in_call, 32, "call .+0x3ee000\n ret");
GUEST_CODE(in_jump, 32, "jmp .+0x3ee000");
GUEST_CODE(in_branch, 32, "stc\n jc .+0x3edfff\n mov $99, %eax\n ret");
GUEST_CODE(in_call_indirect, 32, "mov $0x400000, %eax\n call *%eax\n ret");
GUEST_CODE(in_jump_indirect, 32, "mov $0x400000, %eax\n jmp *%eax");
GUEST_CODE(in_return, 32, "push $0x400000\n ret");
GUEST_CODE(in_fall, 32, "jmp .+0x3edff8");     /* to 3FFFF8 */
GUEST_CODE(in_crossing, 32, "jmp .+0x3edffd"); /* to 3FFFFD: MOV EAX with its end in the window */
GUEST_CODE(in_crossing_near, 32, "jmp .+0x3edfe0"); /* to 3FFFE0, and from there to 3FFFFD */
GUEST_CODE(in_far, 32, "push %cs\n push $0x400000\n lret");

/* Where in_crossing enters; AL is what the window's first byte says, shifted. */
GUEST_CODE(before_window, 32, "nop\n nop\n nop\n nop\n nop\n .byte 0xb8, 0, 0");

GUEST_CODE(change_invlpg, 32, "xorl $0x1000, 0x202000\n invlpg 0x400000\n ret");
GUEST_CODE(change_invlpg_end_of_page, 32, "xorl $0x1000, 0x202000\n invlpg 0x400fff\n ret");
GUEST_CODE(change_reload, 32, "xorl $0x1000, 0x202000\n mov %cr3, %eax\n mov %eax, %cr3\n ret");
GUEST_CODE(change_cr3, 32, "mov %cr3, %eax\n xor $0x3000, %eax\n mov %eax, %cr3\n ret");
GUEST_CODE(change_directory, 32, "xorl $0x6000, 0x200004\n invlpg 0x400000\n ret");
GUEST_CODE(change_pge, 32,
           "xorl $0x1000, 0x202000\n mov %cr4, %eax\n xor $0x80, %eax\n mov %eax, %cr4\n"
           "xor $0x80, %eax\n mov %eax, %cr4\n ret");
GUEST_CODE(change_pg, 32,
           "xorl $0x1000, 0x202000\n mov %cr0, %eax\n btr $31, %eax\n mov %eax, %cr0\n"
           "bts $31, %eax\n mov %eax, %cr0\n ret");
GUEST_CODE(
    change_task, 32, /* two switches, the second without a change of its own */
    "mov $0x203000, %eax\n mov %eax, %cr3\n xorl $0x1000, 0x202000\n xorl $0x1000, 0x204000\n"
    "mov $0x200000, %eax\n mov %eax, %cr3\n ret");

GUEST_CODE(frame_a, 32, "mov $1, %eax\n ret");
GUEST_CODE(frame_b, 32, "mov $2, %eax\n ret");
GUEST_CODE(crossing_a, 32, ".byte 1, 0\n shr $16, %eax\n ret");
GUEST_CODE(crossing_b, 32, ".byte 2, 0\n shr $16, %eax\n ret");

struct code {
    const char *name;
    const uint8_t *start, *end;
};
#define CODE_OF(name)                                                                              \
    {                                                                                              \
#name, name, name##_end                                                                    \
    }

static void place_code(struct guest *g, uint64_t gpa, const struct code *code)
{
    as_write(g->as, gpa, code->start, (size_t)(code->end - code->start));
}

static void mapping_run(const struct code *enter, const struct code *change, uint32_t global)
{
    struct guest g;
    bool crossing = enter->start == in_crossing || enter->start == in_crossing_near;
    guest_create(&g, 32);
    guest_make_tables(&g, 32);
    make_paging(&g);
    guest_write32(&g, TABLE_WINDOW, FRAME_A | PRESENT_WRITE_USER | global);
    guest_write32(&g, TABLE_WINDOW_2, FRAME_B | PRESENT_WRITE_USER | global);
    const struct code a = CODE_OF(frame_a), b = CODE_OF(frame_b);
    const struct code cross_a = CODE_OF(crossing_a), cross_b = CODE_OF(crossing_b);
    place_code(&g, FRAME_A, crossing ? &cross_a : &a);
    place_code(&g, FRAME_B, crossing ? &cross_b : &b);
    PLACE(&g, WINDOW - 8, before_window);
    if (!crossing)
        memset(g.ram + WINDOW - 8, 0x90, 8);
    as_write(g.as, WINDOW - 0x20, "\xeb\x1b", 2);
    place_code(&g, ENTER, enter);
    place_code(&g, CHANGE, change);
    guest_place(&g, loop, loop_end);
    enum vcpu_exit exit = guest_run(&g);
    uint32_t expected = 0;
    for (unsigned i = 0; i < 24; i++)
        expected = expected * 3 + 1 + i % 2;
    if (exit != VCPU_EXIT_HALT || g.state.gpr[X86_RBX] != expected)
        fail_msg("%s, %s%s: exit %u, %#x instead of %#x", enter->name, change->name,
                 global ? ", global" : "", exit, (uint32_t)g.state.gpr[X86_RBX], expected);
    guest_destroy(&g);
}

static const struct code entries[] = {
    CODE_OF(in_call),          CODE_OF(in_jump),          CODE_OF(in_branch),
    CODE_OF(in_call_indirect), CODE_OF(in_jump_indirect), CODE_OF(in_return),
    CODE_OF(in_fall),          CODE_OF(in_crossing),      CODE_OF(in_far),
    CODE_OF(in_crossing_near),
};
enum { ENTRIES = sizeof(entries) / sizeof(entries[0]) };

static void test_changes(void **state)
{
    (void)state;
    static const struct code changes[] = {
        CODE_OF(change_invlpg),    CODE_OF(change_invlpg_end_of_page),
        CODE_OF(change_reload),    CODE_OF(change_cr3),
        CODE_OF(change_directory), CODE_OF(change_pge),
        CODE_OF(change_pg),        CODE_OF(change_task),
    };
    for (unsigned i = 0; i < ENTRIES; i++) {
        for (unsigned k = 0; k < sizeof(changes) / sizeof(changes[0]); k++)
            mapping_run(&entries[i], &changes[k], 0);
    }
}

/* Global translations outlive MOV CR3 but neither INVLPG nor a change of CR4.PGE or CR0.PG. */
static void test_global_changes(void **state)
{
    (void)state;
    static const struct code changes[] = {
        CODE_OF(change_invlpg),
        CODE_OF(change_directory),
        CODE_OF(change_pge),
        CODE_OF(change_pg),
    };
    for (unsigned i = 0; i < ENTRIES; i++) {
        for (unsigned k = 0; k < sizeof(changes) / sizeof(changes[0]); k++)
            mapping_run(&entries[i], &changes[k], GLOBAL);
    }
}

/* A page that was global and is no longer: INVLPG once, from then on MOV CR3 must do. */
GUEST_CODE(
    change_global_once, 32,
    "cmpl $0, 0x100000\n jne 1f\n incl 0x100000\n xorl $0x1100, 0x202000\n"
    "invlpg 0x400000\n ret\n1: xorl $0x1000, 0x202000\n mov %cr3, %eax\n mov %eax, %cr3\n ret");

static void test_no_longer_global(void **state)
{
    (void)state;
    static const struct code change = CODE_OF(change_global_once);
    for (unsigned i = 0; i < ENTRIES; i++)
        mapping_run(&entries[i], &change, GLOBAL);
}

/* --- the same return address in two address spaces --- */

/* Calls five times, so that all is linked; the routine behind CHANGE works in the last one. */
#define CALLER(name, value)                                                                        \
    GUEST_CODE(name, 32,                                                                           \
               "mov $5, %ecx\n 1: call " #name " - 0x3ed000\n mov $" #value                        \
               ", %ebx\n dec %ecx\n jnz 1b\n hlt")
CALLER(caller_a, 1);
CALLER(caller_b, 2);
GUEST_CODE(last_time, 32, "cmp $1, %ecx\n je .+0xfd\n ret");
GUEST_CODE(start_in_window, 32, "mov $0x400000, %eax\n jmp *%eax");

static void test_return_elsewhere(void **state)
{
    (void)state;
    static const struct code changes[] = {CODE_OF(change_cr3), CODE_OF(change_reload),
                                          CODE_OF(change_invlpg), CODE_OF(change_directory)};
    for (unsigned i = 0; i < 4; i++) {
        struct guest g;
        guest_create(&g, 32);
        guest_make_tables(&g, 32);
        make_paging(&g);
        guest_write32(&g, TABLE_WINDOW, FRAME_A | PRESENT_WRITE_USER);
        guest_write32(&g, TABLE_WINDOW_2, FRAME_B | PRESENT_WRITE_USER);
        PLACE(&g, FRAME_A, caller_a);
        PLACE(&g, FRAME_B, caller_b);
        PLACE(&g, CHANGE, last_time);
        place_code(&g, CHANGE + 0x100, &changes[i]);
        guest_place(&g, start_in_window, start_in_window_end);
        assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
        if (g.state.gpr[X86_RBX] != 2)
            fail_msg("%s: returned to the old mapping", changes[i].name);
        guest_destroy(&g);
    }
}

/* --- permissions --- */

/* The handler counts, notes CR2, error code and EIP, and returns from the routine with EAX = 7. */
GUEST_CODE(skip_fault, 32,
           "push %eax\n mov %cr2, %eax\n mov %eax, 0x100010\n mov 4(%esp), %eax\n"
           "mov %eax, 0x100014\n mov 8(%esp), %eax\n mov %eax, 0x100018\n incl 0x10001c\n"
           "mov 20(%esp), %eax\n push (%eax)\n pop 8(%esp)\n addl $4, 20(%esp)\n pop %eax\n"
           "add $4, %esp\n mov $7, %eax\n iret");
GUEST_CODE(toggle_user, 32, "xorl $4, 0x202000\n invlpg 0x400000\n iret");
GUEST_CODE(user_loop, 32,
           "mov $24, %ecx\n xor %ebx, %ebx\n"
           "1: push %ecx\n call .+0x2000-8\n imul $3, %ebx\n add %eax, %ebx\n int $0x42\n"
           "pop %ecx\n dec %ecx\n jnz 1b\n int $0x41");
GUEST_CODE(stop, 32, "cli\n hlt\n jmp .-1");

static void test_user_pages(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ENTRIES; i++) {
        if (entries[i].start == in_crossing || entries[i].start == in_crossing_near ||
            entries[i].start == in_fall)
            continue; /* the fault comes from another instruction */
        struct guest g;
        guest_create(&g, 32);
        guest_make_tables(&g, 32);
        make_paging(&g);
        guest_write32(&g, TABLE_WINDOW, FRAME_A | PRESENT_WRITE_USER);
        PLACE(&g, FRAME_A, frame_a);
        place_code(&g, ENTER, &entries[i]);
        PLACE(&g, FAULT_HANDLER, skip_fault);
        PLACE(&g, FAULT_HANDLER + 0x100, toggle_user);
        PLACE(&g, FAULT_HANDLER + 0x200, stop);
        guest_set_gate(&g, 32, X86_PF, FAULT_HANDLER, 0);
        guest_set_gate(&g, 32, 0x42, FAULT_HANDLER + 0x100, 3);
        guest_set_gate(&g, 32, 0x41, FAULT_HANDLER + 0x200, 3);
        guest_place(&g, user_loop, user_loop_end);
        guest_enter_user(&g, 32);
        enum vcpu_exit exit = guest_run(&g);
        uint32_t expected = 0;
        for (unsigned k = 0; k < 24; k++)
            expected = expected * 3 + (k % 2 ? 7 : 1);
        if (exit != VCPU_EXIT_HALT || g.state.gpr[X86_RBX] != expected)
            fail_msg("%s: exit %u, %#x instead of %#x", entries[i].name, exit,
                     (uint32_t)g.state.gpr[X86_RBX], expected);
        assert_int_equal(guest_read32(&g, DATA + 0x10), WINDOW);
        assert_int_equal(guest_read32(&g, DATA + 0x14), 5); /* present, user */
        assert_int_equal(guest_read32(&g, DATA + 0x18), WINDOW);
        assert_int_equal(guest_read32(&g, DATA + 0x1c), 12);
        guest_destroy(&g);
    }
}

/* --- long mode: NX and 2 MiB pages --- */

enum { PDPT64 = 0x201000, PD64 = 0x202000, PT64 = 0x203000 };

/* NX on the page of the callee, at random intervals; EBX counts faults, ESI calls that worked. */
extern const uint8_t nx64_fault[];
GUEST_CODE(nx64, 64,
           "mov $40, %ecx\n xor %ebx, %ebx\n xor %esi, %esi\n"
           "1: mov $0x400000, %eax\n test $1, %cl\n jz 2f\n call *%rax\n jmp 3f\n"
           "2: call .+0x400000-0x10000-(2b-nx64)\n 3: test $6, %cl\n jnz 4f\n"
           "btcq $63, 0x203000\n invlpg 0x400000\n 4: dec %ecx\n jnz 1b\n hlt\n"
           "nx64_fault: inc %ebx\n mov %cr2, %rdx\n mov (%rsp), %edi\n mov %rdi, 0x100000\n"
           "mov %rdx, 0x100008\n add $8, %rsp\n mov 24(%rsp), %rdx\n mov (%rdx), %rdx\n"
           "mov %rdx, (%rsp)\n addq $8, 24(%rsp)\n iretq");
GUEST_CODE(nx64_callee, 64, "inc %esi\n ret");

static void test_no_execute(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 64);
    guest_make_tables(&g, 64);
    guest_write64(&g, PD64 + 16, PT64 | PRESENT_WRITE_USER);
    guest_write64(&g, PT64, FRAME_A | PRESENT_WRITE_USER);
    PLACE(&g, FRAME_A, nx64_callee);
    GUEST_GATE(&g, 64, X86_PF, nx64, nx64_fault);
    guest_place(&g, nx64, nx64_end);
    g.state.efer |= X86_EFER_NXE;
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    unsigned faults = 0, works = 0;
    bool nx = false;
    for (unsigned c = 40; c; c--) {
        *(nx ? &faults : &works) += 1;
        if (!(c & 6))
            nx = !nx;
    }
    assert_int_equal(g.state.gpr[X86_RSI], works);
    assert_int_equal(g.state.gpr[X86_RBX], faults);
    assert_int_equal(guest_read64(&g, DATA), 0x11); /* present, instruction fetch */
    assert_int_equal(guest_read64(&g, DATA + 8), WINDOW);
    guest_destroy(&g);
}

/*
 * The 2 MiB page at 4 MiB shows physical 0 or 2 MiB; the code is 1.5 MiB into it, INVLPG names its
 * first or last byte.
 */
#define LARGE_CODE(name, invalidate)                                                               \
    GUEST_CODE(name, 64,                                                                           \
               "mov $24, %ecx\n xor %ebx, %ebx\n"                                                  \
               "1: call .+0x580000-0x10000-(1b-" #name ")\n imul $3, %ebx\n add %eax, %ebx\n"      \
               "mov $0x580000, %eax\n call *%rax\n imul $3, %ebx\n add %eax, %ebx\n"               \
               "xorq $0x200000, 0x202010\n" invalidate "\n dec %ecx\n jnz 1b\n hlt")
LARGE_CODE(large_first, "invlpg 0x400000");
LARGE_CODE(large_last, "invlpg 0x5fffff");
LARGE_CODE(large_same, "invlpg 0x580000");
LARGE_CODE(large_reload, "mov %cr3, %rax\n mov %rax, %cr3");

static void test_large_pages(void **state)
{
    (void)state;
    static const struct code codes[] = {CODE_OF(large_first), CODE_OF(large_last),
                                        CODE_OF(large_same), CODE_OF(large_reload)};
    for (unsigned i = 0; i < 8; i++) {
        const struct code *code = &codes[i % 4];
        if (i == 7)
            break; /* a global page and MOV CR3 */
        struct guest g;
        guest_create(&g, 64);
        guest_write64(&g, PD64 + 16, 0x87 | (i >= 4 ? (uint64_t)GLOBAL : 0));
        g.state.cr4 |= X86_CR4_PGE;
        place_code(&g, 0x180000, &(struct code)CODE_OF(frame_a));
        place_code(&g, 0x380000, &(struct code)CODE_OF(frame_b));
        guest_place(&g, code->start, code->end);
        enum vcpu_exit exit = guest_run(&g);
        uint32_t expected = 0;
        for (unsigned k = 0; k < 48; k++)
            expected = expected * 3 + 1 + k / 2 % 2;
        if (exit != VCPU_EXIT_HALT || g.state.gpr[X86_RBX] != expected)
            fail_msg("%s: exit %u, %#x instead of %#x", code->name, exit,
                     (uint32_t)g.state.gpr[X86_RBX], expected);
        guest_destroy(&g);
    }
}

/* --- A20 --- */

/* Without paging: 3 MiB is 2 MiB while the gate is shut. Port 2 moves it. */
GUEST_CODE(a20, 32,
           "mov $24, %ecx\n xor %ebx, %ebx\n"
           "1: call .+0x2f0000-7\n imul $3, %ebx\n add %eax, %ebx\n mov %cl, %al\n out %al, $2\n"
           "dec %ecx\n jnz 1b\n hlt");

static void move_a20(struct guest *g, uint16_t port, uint64_t value)
{
    if (port == 2)
        as_set_a20(g->as, value & 1);
}

static void test_a20(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 32);
    g.on_port = move_a20;
    PLACE(&g, 0x200000, frame_a);
    PLACE(&g, 0x300000, frame_b);
    guest_place(&g, a20, a20_end);
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    uint32_t expected = 0;
    for (unsigned i = 0; i < 24; i++)
        expected = expected * 3 + 2 - i % 2;
    assert_int_equal(g.state.gpr[X86_RBX], expected);
    guest_destroy(&g);
}

/* --- 16-bit branches in 32-bit code --- */

/* CALL rel16 at 10000 goes to 2000, pushes 0004, and that is where RET goes. */
GUEST_CODE(call16, 32, ".byte 0x66, 0xe8, 0xfc, 0x1f\n mov $9, %ebx\n hlt");
GUEST_CODE(ret16, 32, "mov (%esp), %cx\n .byte 0x66, 0xc3");
GUEST_CODE(after16, 32, "mov $5, %ebx\n hlt");

static void test_call16(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 32);
    PLACE(&g, 0x2000, ret16);
    PLACE(&g, 4, after16);
    guest_place(&g, call16, call16_end);
    g.state.gpr[X86_RCX] = 0;
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    assert_int_equal(g.state.gpr[X86_RCX], 4);
    assert_int_equal(g.state.gpr[X86_RBX], 5);
    assert_int_equal(g.state.gpr[X86_RSP], STACK);
    guest_destroy(&g);
}

/* --- page faults in the middle of a block --- */

/* Notes CR2, error code, EIP and ESP, counts, and maps the two pages at the window. */
GUEST_CODE(map_window, 32,
           "push %eax\n mov %cr2, %eax\n mov %eax, 0x100100\n mov 4(%esp), %eax\n"
           "mov %eax, 0x100104\n mov 8(%esp), %eax\n mov %eax, 0x100108\n mov 20(%esp), %eax\n"
           "mov %eax, 0x10010c\n incl 0x100110\n movl $0x300007, 0x202000\n"
           "movl $0x301007, 0x202004\n pop %eax\n add $4, %esp\n iret");

/*
 * EBX = ESI = EDI = 0x400000, ESP = 0x400008, EBP = 0x400ffe. M marks the instruction that faults.
 * Registers and flags around it must come out as without a fault.
 */
#define FAULT_CODES                                                                                \
    FAULT(load, "M mov 4(%ebx), %edx", 0x400004, 4)                                                \
    FAULT(store, "M mov %eax, 8(%ebx)", 0x400008, 6)                                               \
    FAULT(modify, "M add %eax, (%ebx)", 0x400000, 6)                                               \
    FAULT(carry, "stc\n M adc %eax, (%ebx)\n adc $0, %eax", 0x400000, 6)                           \
    FAULT(carry_load, "stc\n M mov (%ebx), %edx\n adc $0, %eax", 0x400000, 4)                      \
    FAULT(push, "M push %eax", 0x400004, 6)                                                        \
    FAULT(push_memory, "mov $0x100200, %esp\n M push (%ebx)", 0x400000, 4)                         \
    FAULT(pop, "M pop %edx", 0x400008, 4)                                                          \
    FAULT(pop_memory, "mov $0x100200, %esp\n M pop (%ebx)", 0x400000, 6)                           \
    FAULT(pop_esp_memory, "mov %ebx, %esp\n sub $4, %esp\n M pop 4(%esp)", 0x400004, 6)            \
    FAULT(window, "inc %eax\n M mov 4(%esp), %edx\n mov %edx, 8(%esp)\n push %eax", 0x40000c, 4)   \
    FAULT(call, "M call 1f\n hlt\n 1: inc %eax\n pop %edx", 0x400004, 6)                           \
    FAULT(call_memory, "movl $2f - 9b + 0x10000, 0x300000\n M call *(%ebx)\n hlt\n 2: pop %edx",   \
          0x400000, 4)                                                                             \
    FAULT(ret, "movl $3f - 9b + 0x10000, 0x300008\n M ret\n hlt\n 3: inc %eax", 0x400008, 4)       \
    FAULT(leave, "sub $0xff6, %ebp\n M leave", 0x400008, 4)                                        \
    FAULT(enter, "M enter $8, $0", 0x400004, 6)                                                    \
    FAULT(pusha, "M pusha\n add $32, %esp", 0x400004, 6)                                           \
    FAULT(crossing, "M mov (%ebp), %edx", 0x400ffe, 4)                                             \
    FAULT(exchange, "M xchg %eax, 4(%ebx)", 0x400004, 6)                                           \
    FAULT(compare, "M lock cmpxchg8b (%ebx)", 0x400000, 6)                                         \
    FAULT(bits, "mov $64, %edx\n M bts %edx, (%ebx)", 0x400008, 6)                                 \
    FAULT(string, "mov $2, %ecx\n cld\n M rep stosl", 0x400000, 6)                                 \
    FAULT(string_crossing, "mov $0x3ffff8, %edi\n mov $4, %ecx\n cld\n M rep stosl", 0x400000, 6)  \
    FAULT(compare_string, "mov $0x100000, %edi\n mov $2, %ecx\n M repe cmpsl", 0x400000, 4)        \
    FAULT(vector, "movd %eax, %xmm1\n M paddd (%ebx), %xmm1\n movd %xmm1, %edx", 0x400000, 4)      \
    FAULT(vector_store, "movd %eax, %xmm1\n M movups %xmm1, 0x10(%ebx)", 0x400010, 6)              \
    FAULT(x87, "fninit\n fld1\n M fistpl (%ebx)\n fstsw %ax", 0x400000, 6)                         \
    FAULT(high_byte, "M add %ah, 1(%ebx)\n mov 1(%ebx), %dh", 0x400001, 6)                         \
    FAULT(jump, "movl $4f - 9b + 0x10000, 0x300000\n M jmp *(%ebx)\n hlt\n 4: inc %eax", 0x400000, \
          4)

__asm__(".macro M insn:vararg\n 772: \\insn\n .pushsection .rodata.marks\n .long 772b - 66b\n"
        ".popsection\n .endm\n");
#define FAULT(name, text, address, error)                                                          \
    extern const uint32_t fault_##name##_mark[];                                                   \
    GUEST_CODE(fault_##name, 32,                                                                   \
               "66:\n .pushsection .rodata.marks\nfault_" #name                                    \
               "_mark:\n .popsection\n 9: mov $0x12345678, %eax\n" text                            \
               "\n pushf\n pop %ecx\n hlt");
FAULT_CODES
#undef FAULT

static const struct {
    struct code code;
    const uint32_t *mark;
    uint32_t address, error;
} fault_cases[] = {
#define FAULT(name, text, address, error)                                                          \
    {{text, fault_##name, fault_##name##_end}, fault_##name##_mark, address, error},
    FAULT_CODES
#undef FAULT
};

static void fault_run(struct guest *g, unsigned i, bool mapped)
{
    guest_create(g, 32);
    guest_make_tables(g, 32);
    make_paging(g);
    if (mapped) {
        guest_write32(g, TABLE_WINDOW, FRAME_A | PRESENT_WRITE_USER);
        guest_write32(g, TABLE_WINDOW + 4, FRAME_B | PRESENT_WRITE_USER);
    }
    for (uint32_t k = 0; k < 0x2000; k += 4)
        guest_write32(g, FRAME_A + k, k * 0x01010101);
    PLACE(g, FAULT_HANDLER, map_window);
    guest_set_gate(g, 32, X86_PF, FAULT_HANDLER, 0);
    PLACE(g, FAULT_HANDLER + 0x200, stop);
    guest_set_gate(g, 32, X86_GP, FAULT_HANDLER + 0x200, 0); /* HLT at CPL 3 ends the program */
    guest_place(g, fault_cases[i].code.start, fault_cases[i].code.end);
    guest_enter_user(g, 32);
    g->state.gpr[X86_RBX] = g->state.gpr[X86_RSI] = g->state.gpr[X86_RDI] = WINDOW;
    g->state.gpr[X86_RSP] = WINDOW + 8;
    g->state.gpr[X86_RBP] = WINDOW + 0xffe;
    g->state.gpr[X86_RDX] = DATA;
    if (guest_run(g) != VCPU_EXIT_HALT)
        fail_msg("%s: ends at %#x", fault_cases[i].code.name, (uint32_t)g->state.rip);
}

static void test_precise_faults(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof(fault_cases) / sizeof(fault_cases[0]); i++) {
        const char *name = fault_cases[i].code.name;
        struct guest plain, faulting;
        fault_run(&plain, i, true);
        fault_run(&faulting, i, false);
        assert_int_equal(guest_read32(&plain, DATA + 0x110), 0);
        uint32_t cr2 = guest_read32(&faulting, DATA + 0x100);
        uint32_t error = guest_read32(&faulting, DATA + 0x104);
        uint32_t eip = guest_read32(&faulting, DATA + 0x108);
        if (guest_read32(&faulting, DATA + 0x110) != 1 || cr2 != fault_cases[i].address ||
            error != fault_cases[i].error || eip != CODE + fault_cases[i].mark[0])
            fail_msg("%s: %u faults, CR2 %#x error %u EIP %#x", name,
                     guest_read32(&faulting, DATA + 0x110), cr2, error, eip);
        for (unsigned r = 0; r < 8; r++) {
            if (r != X86_RSP && plain.state.gpr[r] != faulting.state.gpr[r])
                fail_msg("%s: register %u is %#x instead of %#x", name, r,
                         (uint32_t)faulting.state.gpr[r], (uint32_t)plain.state.gpr[r]);
        }
        assert_memory_equal(plain.ram + FRAME_A, faulting.ram + FRAME_A, 0x2000);
        assert_memory_equal(plain.ram + 0x3ff000, faulting.ram + 0x3ff000, 0x1000);
        guest_destroy(&plain);
        guest_destroy(&faulting);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes),          cmocka_unit_test(test_global_changes),
        cmocka_unit_test(test_no_longer_global), cmocka_unit_test(test_return_elsewhere),
        cmocka_unit_test(test_user_pages),       cmocka_unit_test(test_no_execute),
        cmocka_unit_test(test_large_pages),      cmocka_unit_test(test_a20),
        cmocka_unit_test(test_call16),           cmocka_unit_test(test_precise_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
