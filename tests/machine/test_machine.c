/*
 * The board and its life cycle, with a fake engine: the "processor" is a C function that makes port
 * and memory accesses as a guest would.
 */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
// clang-format on

#include "machine/machine.h"
#include "support/scratch.h"

enum { MIB = 1 << 20, BIOS_SIZE = 256 * 1024 };

struct vcpu {
    struct engine_config config;
    atomic_int kicked, interrupts, nmis, resets, inits;
    int phase;
};

/* cmocka's own checks work on the test's thread only; the guest runs on another. */
static atomic_int guest_failures;
static void guest_check(bool wanted_equal, uint64_t got, uint64_t other, int line)
{
    if ((got == other) == wanted_equal)
        return;
    guest_failures++;
    print_error("line %d: %#llx against %#llx\n", line, (unsigned long long)got,
                (unsigned long long)other);
}
#define GUEST_EQUAL(a, b)  guest_check(true, (uint64_t)(a), (uint64_t)(b), __LINE__)
#define GUEST_DIFFER(a, b) guest_check(false, (uint64_t)(a), (uint64_t)(b), __LINE__)

/* What the guest does at each entry; called with the number of entries so far. */
typedef enum vcpu_exit guest_fn(struct vcpu *vcpu, int phase);
static guest_fn *guest;
static struct vcpu *the_vcpu;

static int fake_create(struct vcpu **vcpu, const struct engine_config *config, struct vd_error *err)
{
    (void)err;
    *vcpu = the_vcpu = calloc(1, sizeof(**vcpu));
    (*vcpu)->config = *config;
    return 0;
}
static void fake_destroy(struct vcpu *vcpu)
{
    free(vcpu);
}
static enum vcpu_exit fake_run(struct vcpu *vcpu, struct vd_error *err)
{
    enum vcpu_exit exit = guest(vcpu, vcpu->phase++);
    if (exit == VCPU_EXIT_ERROR)
        error_set(err, "the engine broke");
    return exit;
}
static void fake_kick(struct vcpu *vcpu)
{
    vcpu->kicked++;
}
static void fake_interrupt(struct vcpu *vcpu)
{
    vcpu->interrupts++;
}
static void fake_nmi(struct vcpu *vcpu)
{
    vcpu->nmis++;
}
static void fake_reset(struct vcpu *vcpu)
{
    vcpu->resets++;
}
static void fake_init(struct vcpu *vcpu)
{
    vcpu->inits++;
}
static void fake_get_state(struct vcpu *vcpu, struct x86_cpu *state)
{
    (void)vcpu;
    state->seg[X86_CS].selector = 0xf000;
    state->seg[X86_CS].base = 0xf0000;
    state->rip = 0x1234;
}
static void fake_stats(struct vcpu *vcpu, FILE *out, int json)
{
    (void)vcpu;
    fputs(json ? "{}" : "none\n", out);
}
static const struct engine_ops fake_engine = {.name = "fake",
                                              .vcpu_create = fake_create,
                                              .vcpu_destroy = fake_destroy,
                                              .vcpu_run = fake_run,
                                              .vcpu_kick = fake_kick,
                                              .vcpu_interrupt = fake_interrupt,
                                              .vcpu_nmi = fake_nmi,
                                              .vcpu_reset = fake_reset,
                                              .vcpu_init = fake_init,
                                              .vcpu_get_state = fake_get_state,
                                              .vcpu_stats = fake_stats};

struct rig {
    struct scratch scratch;
    char bios[SCRATCH_PATH];
    struct machine_config config;
    struct machine *machine;
    struct vd_error err;
};

static void write_image(const char *path, size_t size)
{
    uint8_t *image = malloc(size + 1);
    for (size_t i = 0; i < size; i++)
        image[i] = (uint8_t)((size - i) * 31 + (size - i) / 256); /* counted from the end */
    scratch_write(path, image, size);
    free(image);
}

static uint8_t image_byte(size_t from_end)
{
    return (uint8_t)(from_end * 31 + from_end / 256);
}

static int setup(void **state)
{
    static struct rig rig;
    memset(&rig, 0, sizeof(rig));
    if (scratch_open(&rig.scratch) < 0)
        return -1;
    scratch_path(&rig.scratch, "bios", rig.bios);
    write_image(rig.bios, BIOS_SIZE);
    rig.config = (struct machine_config){
        .ram_size = 64 * MIB, .firmware = rig.bios, .vga_bios = "none", .engine = &fake_engine};
    *state = &rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    int failed = guest_failures;
    guest_failures = 0;
    machine_destroy(rig->machine);
    return scratch_close(&rig->scratch) < 0 || failed ? -1 : 0;
}

static void create(struct rig *rig)
{
    if (machine_create(&rig->machine, &rig->config, &rig->err) < 0)
        fail_msg("%s", rig->err.text);
}

static uint64_t in(struct vcpu *vcpu, uint16_t port, unsigned size)
{
    return vcpu->config.platform.pio_read(vcpu->config.platform.ctx, port, size);
}
static void out(struct vcpu *vcpu, uint16_t port, uint64_t value, unsigned size)
{
    vcpu->config.platform.pio_write(vcpu->config.platform.ctx, port, value, size);
}
static uint32_t config_read(struct vcpu *vcpu, unsigned slot, unsigned function, unsigned reg,
                            unsigned size)
{
    out(vcpu, 0xcf8, 0x80000000u | slot << 11 | function << 8 | (reg & 0xfc), 4);
    return (uint32_t)in(vcpu, (uint16_t)(0xcfc + (reg & 3)), size);
}
static void config_write(struct vcpu *vcpu, unsigned slot, unsigned function, unsigned reg,
                         uint32_t value, unsigned size)
{
    out(vcpu, 0xcf8, 0x80000000u | slot << 11 | function << 8 | (reg & 0xfc), 4);
    out(vcpu, (uint16_t)(0xcfc + (reg & 3)), value, size);
}
static uint8_t cmos(struct vcpu *vcpu, uint8_t index)
{
    out(vcpu, 0x70, index, 1);
    return (uint8_t)in(vcpu, 0x71, 1);
}
static uint32_t rd32(struct rig *rig, uint64_t gpa)
{
    uint32_t value;
    as_read(machine_address_space(rig->machine), gpa, &value, 4);
    return value;
}
static void wr32(struct vcpu *vcpu, uint64_t gpa, uint32_t value)
{
    as_write(vcpu->config.as, gpa, &value, 4);
}

/* --- construction --- */

static void test_bios_mapping(void **state)
{
    struct rig *rig = *state;
    static const size_t sizes[] = {64 * 1024, 128 * 1024, 256 * 1024, 2048 * 1024, 100001};
    for (size_t n = 0; n < sizeof(sizes) / sizeof(sizes[0]); n++) {
        size_t low = sizes[n] < 128 * 1024 ? sizes[n] : 128 * 1024;
        write_image(rig->bios, sizes[n]);
        create(rig);
        struct address_space *as = machine_address_space(rig->machine);
        uint8_t byte;
        for (size_t from_end = 1; from_end <= sizes[n]; from_end += 997) {
            as_read(as, 0x100000000ull - from_end, &byte, 1);
            assert_int_equal(byte, image_byte(from_end));
        }
        for (size_t from_end = 1; from_end <= low; from_end += 997) {
            as_read(as, 0x100000 - from_end, &byte, 1);
            assert_int_equal(byte, image_byte(from_end));
        }
        machine_destroy(rig->machine);
        rig->machine = NULL;
    }
}

static void refuse(struct rig *rig, const char *reason)
{
    rig->err.text[0] = 0;
    assert_int_equal(machine_create(&rig->machine, &rig->config, &rig->err), -1);
    if (!strstr(rig->err.text, reason))
        fail_msg("'%s' does not say '%s'", rig->err.text, reason);
    assert_null(strchr(rig->err.text, '\n'));
}

static void test_bad_configurations(void **state)
{
    struct rig *rig = *state;
    struct machine_config good = rig->config;
    rig->config.firmware = "/nonexistent/bios";
    refuse(rig, "/nonexistent/bios");
    rig->config.firmware = rig->scratch.dir;
    refuse(rig, "not a regular file");
    rig->config = good;
    write_image(rig->bios, 65535);
    refuse(rig, "less than 64 KiB");
    write_image(rig->bios, 2 * MIB + 1);
    refuse(rig, "2097153 bytes");
    write_image(rig->bios, 0);
    refuse(rig, "empty");
    write_image(rig->bios, BIOS_SIZE);
    rig->config.vga_bios = rig->bios;
    refuse(rig, "not an expansion ROM");
    rig->config = good;
    rig->config.ram_size = 0;
    refuse(rig, "memory");
    rig->config.ram_size = MIB + 4096;
    refuse(rig, "memory");
    rig->config = good;
    rig->config.cpu_model = "8086";
    refuse(rig, "8086");
    rig->config = good;
    rig->config.initrd = "x";
    refuse(rig, "needs a kernel");
    rig->config = good;
    rig->config.kernel = rig->bios;
    refuse(rig, "neither a Linux bzImage nor a multiboot kernel");
    rig->config = good;
    rig->config.cpu_model = "486"; /* 32 address bits */
    rig->config.ram_size = 4096ull * MIB;
    refuse(rig, "32 address bits");
}

/* --- the board --- */

static enum vcpu_exit guest_checks_board(struct vcpu *vcpu, int phase)
{
    (void)phase;
    static const struct {
        unsigned slot, function;
        uint32_t id;
    } functions[] = {
        {0, 0, 0x12378086}, {1, 0, 0x70008086}, {1, 3, 0x71138086}, {2, 0, 0x11111234}};
    for (size_t i = 0; i < 4; i++)
        GUEST_EQUAL(config_read(vcpu, functions[i].slot, functions[i].function, 0, 4),
                    functions[i].id);
    GUEST_EQUAL(config_read(vcpu, 0, 0, 0x2c, 4), 0x11001af4);
    /* CMOS: 640 KiB, 63 MiB, 48 MiB above 16 MiB, one processor */
    GUEST_EQUAL(cmos(vcpu, 0x15) | cmos(vcpu, 0x16) << 8, 640);
    GUEST_EQUAL(cmos(vcpu, 0x30) | cmos(vcpu, 0x31) << 8, 63 * 1024);
    GUEST_EQUAL(cmos(vcpu, 0x34) | cmos(vcpu, 0x35) << 8, 48 * 16);
    GUEST_EQUAL(cmos(vcpu, 0x5b) | cmos(vcpu, 0x5c) | cmos(vcpu, 0x5d), 0);
    GUEST_EQUAL(cmos(vcpu, 0x5f), 0);
    unsigned sum = 0;
    for (uint8_t i = 0x10; i < 0x2e; i++)
        sum += cmos(vcpu, i);
    GUEST_EQUAL(cmos(vcpu, 0x2e) << 8 | cmos(vcpu, 0x2f), sum);
    /* fw_cfg */
    out(vcpu, 0x510, 0, 2);
    GUEST_EQUAL(in(vcpu, 0x511, 1), 'Q');
    out(vcpu, 0x510, 0x8002, 2);
    GUEST_EQUAL(in(vcpu, 0x511, 1), 1);
    /* the rest answers */
    GUEST_EQUAL(in(vcpu, 0x21, 1), 0xff);         /* 8259 masked after reset */
    GUEST_EQUAL(in(vcpu, 0x3fd, 1) & 0x60, 0x60); /* COM1 transmitter empty */
    GUEST_EQUAL(in(vcpu, 0x2fd, 1) & 0x60, 0x60);
    GUEST_EQUAL(in(vcpu, 0x402, 1), 0xff); /* no debug console */
    GUEST_EQUAL(in(vcpu, 0xcf9, 1), 0);
    uint32_t value;
    as_read(vcpu->config.as, 0xfee00030, &value, 4);
    GUEST_EQUAL(value, 0x00050014);
    wr32(vcpu, 0xfec00000, 1);
    as_read(vcpu->config.as, 0xfec00010, &value, 4);
    GUEST_EQUAL(value, 0x00170020);
    GUEST_EQUAL(as_a20(vcpu->config.as), true);
    out(vcpu, 0x92, 2, 1);
    out(vcpu, 0x92, 0, 1);
    GUEST_EQUAL(as_a20(vcpu->config.as), false);
    out(vcpu, 0x92, 2, 1);
    GUEST_EQUAL(as_a20(vcpu->config.as), true);
    /* off */
    config_write(vcpu, 1, 3, 0x40, 0x601, 4);
    config_write(vcpu, 1, 3, 0x80, 1, 1);
    out(vcpu, 0x604, 0x2000, 2);
    return VCPU_EXIT_KICK;
}

static void test_board_and_power_off(void **state)
{
    struct rig *rig = *state;
    struct machine_result result;
    guest = guest_checks_board;
    create(rig);
    assert_int_equal(machine_run(rig->machine, &result, &rig->err), 0);
    assert_int_equal(result.end, MACHINE_POWERED_OFF);
}

static enum vcpu_exit guest_exits(struct vcpu *vcpu, int phase)
{
    (void)phase;
    out(vcpu, 0xf4, 0x10, 1);
    return VCPU_EXIT_KICK;
}

static void test_large_memory_and_debug_exit(void **state)
{
    struct rig *rig = *state;
    struct machine_result result;
    guest = guest_exits;
    rig->config.ram_size = 5120ull * MIB;
    rig->config.debug_exit_port = 0xf4;
    create(rig);
    assert_int_equal(machine_run(rig->machine, &result, &rig->err), 0);
    assert_int_equal(result.end, MACHINE_DEBUG_EXIT);
    assert_int_equal(result.value, 0x21);
    /* 3 GiB below the hole, 2 GiB above 4 GiB */
    wr32(the_vcpu, 0xbffffffc, 0x11111111);
    wr32(the_vcpu, 0x17ffffffcull, 0x22222222);
    wr32(the_vcpu, 0xc0000000, 0x33333333);
    assert_int_equal(rd32(rig, 0xbffffffc), 0x11111111);
    assert_int_equal(rd32(rig, 0x17ffffffcull), 0x22222222);
    assert_int_equal(rd32(rig, 0xc0000000), 0xffffffff);
    assert_int_equal(rd32(rig, 0x180000000ull), 0xffffffff);
    assert_int_equal(cmos(the_vcpu, 0x5c), 0x80); /* 2 GiB in 64 KiB units: 8000h */
}

/* --- resets --- */

static enum vcpu_exit guest_resets(struct vcpu *vcpu, int phase)
{
    switch (phase) {
    case 0:
        wr32(vcpu, 0x1000, 0xcafe);
        config_write(vcpu, 0, 0, 0x59, 0x30, 1);
        wr32(vcpu, 0xf0000, 0x12345678);
        out(vcpu, 0x92, 2, 1);
        out(vcpu, 0x92, 0, 1);
        GUEST_EQUAL(as_a20(vcpu->config.as), false);
        out(vcpu, 0xcf9, 0x06, 1);
        return VCPU_EXIT_KICK;
    case 1: {
        uint32_t value;
        GUEST_EQUAL(vcpu->resets, 1);
        GUEST_EQUAL(as_a20(vcpu->config.as), true);
        as_read(vcpu->config.as, 0x1000, &value, 4);
        GUEST_EQUAL(value, 0xcafe); /* RAM survives */
        as_read(vcpu->config.as, 0xf0000, &value, 4);
        GUEST_DIFFER(value, 0x12345678); /* the BIOS is back */
        GUEST_EQUAL(config_read(vcpu, 0, 0, 0x59, 1), 0);
        config_write(vcpu, 1, 0, 0x60, 0x0b, 1);
        out(vcpu, 0x64, 0xfe, 1); /* keyboard controller: processor only */
        return VCPU_EXIT_KICK;
    }
    default:
        GUEST_EQUAL(vcpu->resets, 1);
        GUEST_EQUAL(vcpu->inits, 1);
        GUEST_EQUAL(config_read(vcpu, 1, 0, 0x60, 1), 0x0b); /* devices keep their state */
        return VCPU_EXIT_SHUTDOWN;
    }
}

static void test_resets_and_triple_fault(void **state)
{
    struct rig *rig = *state;
    struct machine_result result;
    guest = guest_resets;
    create(rig);
    assert_int_equal(machine_run(rig->machine, &result, &rig->err), 0);
    assert_int_equal(result.end, MACHINE_TRIPLE_FAULT);
    assert_non_null(strstr(result.text, "f000:1234"));
}

static enum vcpu_exit guest_reboots(struct vcpu *vcpu, int phase)
{
    (void)phase;
    if (vcpu->resets == 0)
        out(vcpu, 0xcf9, 0x06, 1);
    else
        return VCPU_EXIT_SHUTDOWN;
    return VCPU_EXIT_KICK;
}

/* SeaBIOS and others: reset, and a triple fault right behind it. */
static enum vcpu_exit guest_resets_twice(struct vcpu *vcpu, int phase)
{
    if (phase == 0) {
        out(vcpu, 0xcf9, 0x06, 1);
        return VCPU_EXIT_SHUTDOWN;
    }
    GUEST_EQUAL(vcpu->resets, 1);
    out(vcpu, 0xf4, 0, 1);
    return VCPU_EXIT_KICK;
}

static void test_reset_before_triple_fault(void **state)
{
    struct rig *rig = *state;
    struct machine_result result;
    guest = guest_resets_twice;
    rig->config.debug_exit_port = 0xf4;
    create(rig);
    assert_int_equal(machine_run(rig->machine, &result, &rig->err), 0);
    assert_int_equal(result.end, MACHINE_DEBUG_EXIT);
    machine_destroy(rig->machine);
    rig->machine = NULL;
    rig->config.no_reboot = true;
    create(rig);
    assert_int_equal(machine_run(rig->machine, &result, &rig->err), 0);
    assert_int_equal(result.end, MACHINE_REBOOT);
}

static void test_no_reboot(void **state)
{
    struct rig *rig = *state;
    struct machine_result result;
    guest = guest_reboots;
    rig->config.no_reboot = true;
    create(rig);
    assert_int_equal(machine_run(rig->machine, &result, &rig->err), 0);
    assert_int_equal(result.end, MACHINE_REBOOT);
    assert_int_equal(the_vcpu->resets, 0);
    machine_reset(rig->machine); /* the button works all the same */
    assert_int_equal(machine_run(rig->machine, &result, &rig->err), 0);
    assert_int_equal(result.end, MACHINE_TRIPLE_FAULT);
    assert_int_equal(the_vcpu->resets, 1);
}

static enum vcpu_exit guest_breaks(struct vcpu *vcpu, int phase)
{
    (void)vcpu;
    (void)phase;
    return VCPU_EXIT_ERROR;
}

static void test_host_failure(void **state)
{
    struct rig *rig = *state;
    struct machine_result result;
    guest = guest_breaks;
    create(rig);
    assert_int_equal(machine_run(rig->machine, &result, &rig->err), -1);
    assert_string_equal(rig->err.text, "the engine broke");
}

/* --- interrupts and time --- */

/* Sets up the 8259s, programs the PIT for 1000 Hz, halts, and counts acknowledged interrupts. */
static enum vcpu_exit guest_takes_timer_interrupts(struct vcpu *vcpu, int phase)
{
    const struct x86_platform *platform = &vcpu->config.platform;
    if (phase == 0) {
        static const uint8_t init[][2] = {{0x20, 0x11}, {0x21, 0x08}, {0x21, 0x04}, {0x21, 0x01},
                                          {0xa0, 0x11}, {0xa1, 0x70}, {0xa1, 0x02}, {0xa1, 0x01},
                                          {0x21, 0xfe}, {0xa1, 0xff}, {0x43, 0x34}};
        for (size_t i = 0; i < sizeof(init) / sizeof(init[0]); i++)
            out(vcpu, init[i][0], init[i][1], 1);
        out(vcpu, 0x40, 1193 & 0xff, 1);
        out(vcpu, 0x40, 1193 >> 8, 1);
    }
    if (phase > 100000)
        return VCPU_EXIT_ERROR;
    static int taken;
    if (phase == 0)
        taken = 0;
    while (platform->intr_pending(platform->ctx)) {
        GUEST_EQUAL(platform->intr_ack(platform->ctx), 0x08);
        out(vcpu, 0x20, 0x20, 1);
        taken++;
    }
    if (taken >= 20) {
        out(vcpu, 0xf4, 0, 1);
        return VCPU_EXIT_KICK;
    }
    return VCPU_EXIT_HALT;
}

static void test_timer_interrupts(void **state)
{
    struct rig *rig = *state;
    struct machine_result result;
    struct timespec start, end;
    guest = guest_takes_timer_interrupts;
    rig->config.debug_exit_port = 0xf4;
    create(rig);
    clock_gettime(CLOCK_MONOTONIC, &start);
    assert_int_equal(machine_run(rig->machine, &result, &rig->err), 0);
    clock_gettime(CLOCK_MONOTONIC, &end);
    assert_int_equal(result.end, MACHINE_DEBUG_EXIT);
    assert_int_equal(result.value, 1);
    double seconds =
        (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9;
    assert_true(seconds > 0.018);
    assert_true(seconds < 2);
}

static enum vcpu_exit guest_halts(struct vcpu *vcpu, int phase)
{
    (void)vcpu;
    (void)phase;
    return VCPU_EXIT_HALT;
}

static void *stop_later(void *machine)
{
    usleep(20000);
    machine_stop(machine);
    return NULL;
}

static void test_stop(void **state)
{
    struct rig *rig = *state;
    struct machine_result result;
    pthread_t thread;
    guest = guest_halts;
    create(rig);
    machine_stop(rig->machine); /* before the run: it ends at once */
    assert_int_equal(machine_run(rig->machine, &result, &rig->err), 0);
    assert_int_equal(result.end, MACHINE_STOPPED);
    assert_int_equal(the_vcpu->phase, 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&thread, NULL, stop_later, rig->machine), 0);
        assert_int_equal(machine_run(rig->machine, &result, &rig->err), 0);
        assert_int_equal(result.end, MACHINE_STOPPED);
        pthread_join(thread, NULL);
    }
    assert_true(the_vcpu->phase > 0);
}

/* The SCI of a pressed power button arrives at the I/O APIC. */
static enum vcpu_exit guest_waits_for_button(struct vcpu *vcpu, int phase)
{
    const struct x86_platform *platform = &vcpu->config.platform;
    if (phase == 0) {
        config_write(vcpu, 1, 3, 0x40, 0x601, 4);
        config_write(vcpu, 1, 3, 0x80, 1, 1);
        out(vcpu, 0xb2, 0xf1, 1);
        out(vcpu, 0x602, 0x100, 2);
        wr32(vcpu, 0xfee000f0, 0x1ff);
        wr32(vcpu, 0xfee00350, 0x10700);
        wr32(vcpu, 0xfec00000, 0x10 + 2 * 9);
        wr32(vcpu, 0xfec00010, 0x8059);
    }
    if (platform->intr_pending(platform->ctx)) {
        GUEST_EQUAL(platform->intr_ack(platform->ctx), 0x59);
        GUEST_EQUAL(in(vcpu, 0x600, 2), 0x100);
        out(vcpu, 0x604, 0x2001, 2);
        return VCPU_EXIT_KICK;
    }
    return VCPU_EXIT_HALT;
}

static void *press_button(void *machine)
{
    usleep(20000);
    machine_power_button(machine);
    return NULL;
}

static void test_power_button(void **state)
{
    struct rig *rig = *state;
    struct machine_result result;
    pthread_t thread;
    guest = guest_waits_for_button;
    create(rig);
    assert_int_equal(pthread_create(&thread, NULL, press_button, rig->machine), 0);
    assert_int_equal(machine_run(rig->machine, &result, &rig->err), 0);
    assert_int_equal(result.end, MACHINE_POWERED_OFF);
    pthread_join(thread, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bios_mapping, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_configurations, setup, teardown),
        cmocka_unit_test_setup_teardown(test_board_and_power_off, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_memory_and_debug_exit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_resets_and_triple_fault, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset_before_triple_fault, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_reboot, setup, teardown),
        cmocka_unit_test_setup_teardown(test_host_failure, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer_interrupts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_power_button, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
