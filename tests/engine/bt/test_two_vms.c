/*
 * Virtual machines side by side in one process, kicks from other threads, and a running guest moved
 * between virtual CPUs by value.
 */
#include "tables.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- a guest that faults all the time --- */

/*
 * Each pass: #DE, #UD, #PF, #XM and a misaligned SSE operand, each repaired by its handler, which
 * adds a number of its own to EBX; and a recursion that is deeper than the engine's stack of return
 * addresses. EDI: passes.
 */
extern const uint8_t faults_de[], faults_ud[], faults_pf[], faults_gp[], faults_xm[];
GUEST_CODE(faults, 32,
           "1: xor %ecx, %ecx\n mov $100, %eax\n cltd\n div %ecx\n add %eax, %ebx\n ud2\n"
           "movl $0, 0x202000\n invlpg 0x400000\n mov %edi, 0x400010\n add 0x400010, %ebx\n"
           "xor %ecx, %ecx\n movl $0x1f80, 0x100000\n andl $~0x200, 0x100000\n ldmxcsr 0x100000\n"
           "mov $1, %eax\n cvtsi2ss %eax, %xmm1\n cvtsi2ss %ecx, %xmm2\n divss %xmm2, %xmm1\n"
           "mov $0x100031, %esi\n movaps (%esi), %xmm3\n movd %xmm3, %eax\n add %eax, %ebx\n"
           "imul $3, %ebx\n mov %edi, %eax\n and $63, %eax\n jnz 2f\n mov $30000, %eax\n call 3f\n"
           "2: dec %edi\n jnz 1b\n hlt\n"
           "3: inc %ebx\n dec %eax\n jz 4f\n call 3b\n add $2, %ebx\n 4: ret\n"
           "faults_de: add $7, %ebx\n mov $5, %ecx\n iret\n"
           "faults_ud: add $11, %ebx\n addl $2, (%esp)\n iret\n"
           "faults_pf: add $13, %ebx\n movl $0x300007, 0x202000\n add $4, %esp\n iret\n"
           "faults_gp: add $17, %ebx\n dec %esi\n add $4, %esp\n iret\n"
           "faults_xm: add $19, %ebx\n movl $0x1f80, 0x100000\n ldmxcsr 0x100000\n iret");

static void create_faults(struct guest *g)
{
    guest_create(g, 32);
    guest_make_tables(g, 32);
    for (uint32_t i = 0; i < 1024; i++)
        guest_write32(g, 0x201000 + 4 * i, i << 12 | 7);
    guest_write32(g, 0x200000, 0x201000 | 7);
    guest_write32(g, 0x200004, 0x202000 | 7);
    guest_write32(g, DATA + 0x30, 12345);
    g->state.cr3 = 0x200000;
    g->state.cr0 |= X86_CR0_PG;
    GUEST_GATE(g, 32, X86_DE, faults, faults_de);
    GUEST_GATE(g, 32, X86_UD, faults, faults_ud);
    GUEST_GATE(g, 32, X86_PF, faults, faults_pf);
    GUEST_GATE(g, 32, X86_GP, faults, faults_gp);
    GUEST_GATE(g, 32, X86_XM, faults, faults_xm);
    guest_place(g, faults, faults_end);
    g->state.gpr[X86_RSP] = 0xa0000;
    g->state.gpr[X86_RBX] = 0;
    g->state.gpr[X86_RDI] = 400;
}

/* What the program computes (its arithmetic done here). */
static uint32_t faults_result(void)
{
    uint32_t ebx = 0;
    for (uint32_t edi = 400; edi; edi--) {
        ebx += 7 + 20 + 11 + 13 + edi + 19 + 17 + 12345;
        ebx *= 3;
        if (edi % 64 == 0)
            ebx += 30000 + 2 * 29999;
    }
    return ebx;
}

/* --- a guest that writes its own code, in long mode --- */

GUEST_CODE(writes, 64,
           "6: mov $0x100000, %r10d\n fninit\n fld1\n fldz\n vpxor %ymm9, %ymm9, %ymm9\n"
           "mov $1, %eax\n vmovd %eax, %xmm8\n vpbroadcastd %xmm8, %ymm8\n std\n"
           "1: mov %edi, 2f - 6b + 0x10001\n 2: mov $0, %eax\n add %rax, %rbx\n adc $0, %rbx\n"
           "lea 3f - 6b + 0x10000, %r9d\n mov %dil, 1(%r9)\n call *%r9\n imul $7, %rbx\n"
           "add %rax, %rbx\n movb $0xc3, 4f - 6b + 0x10000\n call 4f\n"
           "movb $0x90, 4f - 6b + 0x10000\n call 4f\n"
           "fadd %st(1)\n vpaddd %ymm8, %ymm9, %ymm9\n dec %rdi\n jnz 1b\n"
           "vextracti128 $1, %ymm9, %xmm9\n vmovd %xmm9, %ecx\n fistpl (%r10)\n add (%r10), %ecx\n"
           "pushf\n pop %rdx\n hlt\n .balign 64\n 3: mov $0, %al\n ret\n .balign 64\n"
           "4: nop\n inc %rbx\n ret");

static void create_writes(struct guest *g)
{
    guest_create(g, 64);
    guest_place(g, writes, writes_end);
    g->state.gpr[X86_RBX] = 0;
    g->state.gpr[X86_RDI] = 3000;
}

static uint64_t writes_result(void)
{
    uint64_t rbx = 0;
    for (uint64_t rdi = 3000; rdi; rdi--) {
        rbx += rdi; /* no carry: ADC adds nothing until it overflows */
        rbx = (rbx < rdi) + rbx;
        rbx = rbx * 7 + rdi; /* AL replaces the low byte of RDI by itself */
        rbx++;
    }
    return rbx;
}

struct machine {
    void (*create)(struct guest *g);
    uint64_t result;
    struct guest g;
    enum vcpu_exit exit;
    volatile unsigned kicks;
    volatile bool done;
    volatile unsigned at; /* of two between which a guest moves: where it is */
};

static void *run_machine(void *arg)
{
    struct machine *machine = arg;
    struct vd_error err;
    machine->exit = guest_run(&machine->g);
    while (machine->exit == VCPU_EXIT_KICK) {
        machine->kicks++;
        machine->exit = engine_bt.vcpu_run(machine->g.vcpu, &err);
    }
    engine_bt.vcpu_get_state(machine->g.vcpu, &machine->g.state);
    machine->done = true;
    return NULL;
}

static void check_machine(const struct machine *machine)
{
    const uint64_t *r = machine->g.state.gpr;
    assert_int_equal(machine->exit, VCPU_EXIT_HALT);
    assert_true(r[X86_RBX] == machine->result);
    if (machine->create == create_writes) {
        assert_int_equal(r[X86_RCX], 6000);                      /* AVX and x87 count passes */
        assert_int_equal(r[X86_RDX] & X86_DF_FLAG, X86_DF_FLAG); /* set at the start */
    }
}

static void run_together(struct machine *machines, unsigned count, bool kick)
{
    pthread_t threads[4];
    unsigned seed = 1;
    for (unsigned i = 0; i < count; i++) {
        machines[i].done = false;
        machines[i].create(&machines[i].g);
    }
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_machine, &machines[i]), 0);
    for (unsigned left = kick ? count : 0; left;) {
        left = 0;
        for (unsigned i = 0; i < count; i++) {
            left += !machines[i].done;
            engine_bt.vcpu_kick(machines[i].g.vcpu);
        }
        usleep((useconds_t)rand_r(&seed) % 100);
    }
    for (unsigned i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        check_machine(&machines[i]);
        guest_destroy(&machines[i].g);
    }
}

static void machines_init(struct machine *machines)
{
    memset(machines, 0, 4 * sizeof(*machines));
    for (unsigned i = 0; i < 4; i++) {
        machines[i].create = i % 2 ? create_writes : create_faults;
        machines[i].result = i % 2 ? writes_result() : faults_result();
    }
}

static void test_alone(void **state)
{
    (void)state;
    struct machine machines[4];
    machines_init(machines);
    run_together(machines, 1, false);
    run_together(machines + 1, 1, false);
}

static void test_side_by_side(void **state)
{
    (void)state;
    struct machine machines[4];
    machines_init(machines);
    for (unsigned round = 0; round < 6; round++)
        run_together(machines, round < 4 ? 2 : 4, false);
}

static void test_side_by_side_kicked(void **state)
{
    (void)state;
    struct machine machines[4];
    machines_init(machines);
    for (unsigned round = 0; round < 4; round++)
        run_together(machines, 2, true);
    assert_true(machines[0].kicks > 10);
    assert_true(machines[1].kicks > 10);
}

/* --- kicks --- */

/* Ways to go round in circles without end. */
GUEST_CODE(circle_jump, 32, "1: jmp 1b");
GUEST_CODE(circle_branch, 32, "stc\n 1: jc 1b");
GUEST_CODE(circle_loop, 32, "1: mov $2, %ecx\n loop 1b\n jmp 1b");
GUEST_CODE(circle_indirect, 32, "mov $1f - circle_indirect + 0x10000, %eax\n 1: jmp *%eax");
GUEST_CODE(circle_return, 32, "1: push $1b - circle_return + 0x10000\n ret");
GUEST_CODE(circle_call, 32, "1: pop %eax\n call 1b");
GUEST_CODE(circle_calls, 32, "1: call 2f\n jmp 1b\n 2: ret");
GUEST_CODE(circle_pages, 32, "1: jmp circle_pages + 0x1000\n .org circle_pages + 0x1000\n jmp 1b");
GUEST_CODE(circle_forward, 32,
           "1: call 2f\n 2: add $4, %esp\n call 3f\n 3: add $4, %esp\n jmp *%eax");
GUEST_CODE(circle_memory, 32, "1: incl 0x100000\n push %eax\n pop %eax\n jmp 1b");
GUEST_CODE(circle_step, 32, "pushf\n orl $0x100, (%esp)\n popf\n 1: jmp 1b");
GUEST_CODE(circle_callout, 32, "1: cpuid\n jmp 1b");
GUEST_CODE(circle_string, 32, "1: mov $0x100000, %edi\n mov $0x10000, %ecx\n rep stosb\n jmp 1b");

static void *kick_soon(void *arg)
{
    usleep(2000);
    engine_bt.vcpu_kick(arg);
    return NULL;
}

struct watchdog {
    pthread_t thread;
    struct vcpu *vcpu;
    volatile bool done;
};

static void *kick_until_done(void *arg)
{
    struct watchdog *watchdog = arg;
    while (!watchdog->done) {
        usleep(2000);
        engine_bt.vcpu_kick(watchdog->vcpu);
    }
    return NULL;
}

extern const uint8_t step_handler[];
GUEST_CODE(step_return, 32, "step_handler: iret");

static void test_kick_circles(void **state)
{
    (void)state;
#define CIRCLE(name)                                                                               \
    {                                                                                              \
        name, name##_end                                                                           \
    }
    static const uint8_t *const circles[][2] = {
        CIRCLE(circle_jump),     CIRCLE(circle_branch), CIRCLE(circle_loop),
        CIRCLE(circle_indirect), CIRCLE(circle_return), CIRCLE(circle_call),
        CIRCLE(circle_calls),    CIRCLE(circle_pages),  CIRCLE(circle_memory),
        CIRCLE(circle_callout),  CIRCLE(circle_string), CIRCLE(circle_step),
        CIRCLE(circle_forward),
    };
#undef CIRCLE
    for (unsigned i = 0; i < sizeof(circles) / sizeof(circles[0]); i++) {
        struct guest g;
        struct vd_error err;
        pthread_t thread;
        guest_create(&g, 32);
        guest_make_tables(&g, 32);
        as_write(g.as, 0x14000, step_return, (size_t)(step_return_end - step_return));
        guest_set_gate(&g, 32, X86_DB, 0x14000, 0);
        guest_place(&g, circles[i][0], circles[i][1]);
        g.state.gpr[X86_RAX] = CODE;
        assert_int_equal(pthread_create(&thread, NULL, kick_soon, g.vcpu), 0);
        assert_int_equal(guest_run(&g), VCPU_EXIT_KICK);
        pthread_join(thread, NULL);
        for (unsigned k = 0; k < 3; k++) {
            assert_int_equal(pthread_create(&thread, NULL, kick_soon, g.vcpu), 0);
            assert_int_equal(engine_bt.vcpu_run(g.vcpu, &err), VCPU_EXIT_KICK);
            pthread_join(thread, NULL);
        }
        guest_destroy(&g);
    }
}

/* A kick before the run ends that run at once, whatever happens to the state in between. */
GUEST_CODE(circle_count, 32, "1: inc %ebx\n jmp 1b");

static void test_kick_is_not_lost(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct guest g;
        struct vd_error err;
        struct watchdog watchdog = {.done = false}; /* ends the run if the kick was lost */
        guest_create(&g, 32);
        guest_place(&g, circle_count, circle_count_end);
        g.state.gpr[X86_RBX] = 0;
        engine_bt.vcpu_set_state(g.vcpu, &g.state, &err);
        engine_bt.vcpu_kick(g.vcpu);
        if (i == 2) {
            engine_bt.vcpu_reset(g.vcpu);
            engine_bt.vcpu_kick(g.vcpu);
        }
        if (i >= 1)
            engine_bt.vcpu_set_state(g.vcpu, &g.state, &err);
        watchdog.vcpu = g.vcpu;
        assert_int_equal(pthread_create(&watchdog.thread, NULL, kick_until_done, &watchdog), 0);
        assert_int_equal(engine_bt.vcpu_run(g.vcpu, &err), VCPU_EXIT_KICK);
        engine_bt.vcpu_get_state(g.vcpu, &g.state);
        assert_int_equal(g.state.gpr[X86_RBX], 0);
        assert_int_equal(engine_bt.vcpu_run(g.vcpu, &err), VCPU_EXIT_KICK);
        watchdog.done = true;
        pthread_join(watchdog.thread, NULL);
        guest_destroy(&g);
    }
}

/* --- moving --- */

static void copy_ram(struct guest *to, struct guest *from)
{
    as_write(to->as, 0, from->ram, 0xa0000);
    as_write(to->as, 0x100000, from->ram + 0x100000, GUEST_RAM - 0x100000);
}

static void *kick_often(void *arg)
{
    struct machine *machine = arg;
    unsigned seed = 3;
    while (!machine->done) {
        engine_bt.vcpu_kick(machine[machine->at].g.vcpu);
        usleep((useconds_t)rand_r(&seed) % 1000);
    }
    return NULL;
}

/* Two machines of equal make; the computation changes between them at every kick. Returns the
 * number of changes. */
static unsigned move_between(void (*create)(struct guest *g), uint64_t result)
{
    struct machine m[2];
    struct vd_error err;
    memset(m, 0, sizeof(m));
    for (unsigned i = 0; i < 2; i++) {
        create(&m[i].g);
        m[i].create = create;
        m[i].result = result;
    }
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, kick_often, m), 0);
    unsigned at = 0, moves = 0;
    struct x86_cpu cpu = m[0].g.state;
    for (;;) {
        assert_int_equal(engine_bt.vcpu_set_state(m[at].g.vcpu, &cpu, &err), 0);
        m[at].exit = engine_bt.vcpu_run(m[at].g.vcpu, &err);
        engine_bt.vcpu_get_state(m[at].g.vcpu, &cpu);
        if (m[at].exit != VCPU_EXIT_KICK)
            break;
        copy_ram(&m[!at].g, &m[at].g);
        at = !at;
        m[0].at = at;
        moves++;
    }
    m[0].done = true;
    pthread_join(thread, NULL);
    m[at].g.state = cpu;
    print_message("%u moves\n", moves);
    check_machine(&m[at]);
    guest_destroy(&m[0].g);
    guest_destroy(&m[1].g);
    return moves;
}

/* As often as the kicking thread needs to get processor time in between. */
static void move_some(void (*create)(struct guest *g), uint64_t result)
{
    while (move_between(create, result) < 3)
        ;
}

static void test_move(void **state)
{
    (void)state;
    move_some(create_faults, faults_result());
    move_some(create_writes, writes_result());
}

/* Another virtual CPU on the memory of a guest. */
static struct vcpu *second_vcpu(struct guest *g)
{
    struct vd_error err;
    struct vcpu *vcpu = NULL;
    struct engine_config config = {.as = g->as, .platform = g->state.platform};
    config.platform.ctx = g;
    config.cpuid = g->state.cpuid;
    assert_int_equal(engine_bt.vcpu_create(&vcpu, &config, &err), 0);
    return vcpu;
}

/* Two virtual CPUs that take turns on one memory, as two engines of one machine would. */
static void test_take_turns(void **state)
{
    (void)state;
    struct guest g;
    struct vd_error err;
    create_writes(&g);
    struct vcpu *vcpus[2] = {g.vcpu, second_vcpu(&g)};
    struct x86_cpu cpu = g.state;
    unsigned at = 0;
    enum vcpu_exit exit = VCPU_EXIT_KICK;
    for (unsigned turn = 0; exit == VCPU_EXIT_KICK; turn++, at = !at) {
        pthread_t thread;
        assert_int_equal(engine_bt.vcpu_set_state(vcpus[at], &cpu, &err), 0);
        assert_int_equal(pthread_create(&thread, NULL, kick_soon, vcpus[at]), 0);
        exit = engine_bt.vcpu_run(vcpus[at], &err);
        pthread_join(thread, NULL);
        engine_bt.vcpu_get_state(vcpus[at], &cpu);
    }
    assert_int_equal(exit, VCPU_EXIT_HALT);
    assert_true(cpu.gpr[X86_RBX] == writes_result());
    engine_bt.vcpu_destroy(vcpus[1]);
    guest_destroy(&g);
}

/* Each has a state of its own that nobody sets again, and one changes the other's code. */
GUEST_CODE(add_and_tell, 32, "1: add $3, %ebx\n out %al, $0\n jmp 1b");
GUEST_CODE(patch_add, 32, "movb $5, 0x10002\n hlt");

static void kick_itself(struct guest *g, uint16_t port, uint64_t value)
{
    (void)port, (void)value;
    engine_bt.vcpu_kick(g->vcpu);
}

static void test_take_turns_unset(void **state)
{
    (void)state;
    struct guest g;
    struct vd_error err;
    guest_create(&g, 32);
    guest_place(&g, add_and_tell, add_and_tell_end);
    as_write(g.as, 0x20000, patch_add, (size_t)(patch_add_end - patch_add));
    g.on_port = kick_itself;
    g.state.gpr[X86_RBX] = 0;
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICK);
    struct vcpu *other = second_vcpu(&g);
    struct x86_cpu cpu = g.state;
    cpu.rip = 0x20000;
    assert_int_equal(engine_bt.vcpu_set_state(other, &cpu, &err), 0);
    assert_int_equal(engine_bt.vcpu_run(other, &err), VCPU_EXIT_HALT);
    assert_int_equal(engine_bt.vcpu_run(g.vcpu, &err), VCPU_EXIT_KICK);
    engine_bt.vcpu_get_state(g.vcpu, &cpu);
    assert_int_equal(cpu.gpr[X86_RBX], 3 + 5);
    engine_bt.vcpu_destroy(other);
    guest_destroy(&g);
}

/* What a destroyed virtual CPU was told of is told to nobody. */
static void test_destroyed_is_told_nothing(void **state)
{
    (void)state;
    struct guest g;
    struct vd_error err;
    create_writes(&g);
    struct vcpu *other = second_vcpu(&g);
    g.state.gpr[X86_RDI] = 1;
    assert_int_equal(engine_bt.vcpu_set_state(other, &g.state, &err), 0);
    assert_int_equal(engine_bt.vcpu_run(other, &err), VCPU_EXIT_HALT);
    engine_bt.vcpu_destroy(other);
    as_write(g.as, 0x10000, writes, 1);
    as_set_a20(g.as, false);
    as_set_a20(g.as, true);
    as_write(g.as, 0x10000, writes, (size_t)(writes_end - writes));
    g.state.gpr[X86_RDI] = 3000;
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    assert_true(g.state.gpr[X86_RBX] == writes_result());
    guest_destroy(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_side_by_side),
        cmocka_unit_test(test_side_by_side_kicked),
        cmocka_unit_test(test_kick_circles),
        cmocka_unit_test(test_kick_is_not_lost),
        cmocka_unit_test(test_move),
        cmocka_unit_test(test_take_turns),
        cmocka_unit_test(test_take_turns_unset),
        cmocka_unit_test(test_destroyed_is_told_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
