/* The public interface, with machines that run a few instructions. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "support/scratch.h"
#include "test_bios.h"
#include "vedette/vedette.h"

static struct scratch scratch;
static char bios_path[SCRATCH_PATH];

static void use_bios(struct vd_config *config, const struct bios *bios)
{
    vd_config_init(config);
    config->ram_size = 16 << 20;
    config->vgabios = "none";
    config->debug_exit_port = VD_DEBUG_EXIT_PORT;
    assert_int_equal(bios_write(bios, scratch.dir, bios_path, sizeof(bios_path)), 0);
    config->firmware = bios_path;
}

static struct vd_vm *create(const struct vd_config *config)
{
    struct vd_error_text error = {""};
    struct vd_vm *vm = NULL;
    if (vd_vm_create(&vm, config, &error) != VD_OK)
        fail_msg("%s", error.text);
    return vm;
}

static struct vd_outcome run(struct vd_vm *vm)
{
    struct vd_error_text error = {""};
    struct vd_outcome outcome;
    if (vd_vm_run(vm, &outcome, &error) != VD_OK)
        fail_msg("%s", error.text);
    return outcome;
}

static void test_outcomes(void **state)
{
    (void)state;
    static const struct {
        const struct bios *bios;
        enum vd_outcome_kind kind;
        uint32_t value;
    } cases[] = {
        {&bios_debug_exit, VD_DEBUG_EXIT, 0x2b},
        {&bios_power_off, VD_POWERED_OFF, 0},
        {&bios_triple_fault, VD_TRIPLE_FAULT, 0},
        {&bios_reset, VD_REBOOT, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct vd_config config;
        use_bios(&config, cases[i].bios);
        config.no_reboot = 1;
        struct vd_vm *vm = create(&config);
        for (int again = 0; again < 2; again++) {
            struct vd_outcome outcome = run(vm);
            if (outcome.kind != cases[i].kind || outcome.value != cases[i].value)
                fail_msg("%s: kind %d value %u", cases[i].bios->name, outcome.kind, outcome.value);
            if (outcome.kind == VD_TRIPLE_FAULT)
                assert_non_null(strstr(outcome.text, "f000"));
            vd_vm_reset(vm); /* and once more from the start */
        }
        vd_vm_destroy(vm);
    }
}

static void *stop_later(void *arg)
{
    struct timespec time = {0, 50000000};
    nanosleep(&time, NULL);
    vd_vm_stop(arg);
    return NULL;
}

static void test_stop(void **state)
{
    (void)state;
    static const struct bios *const bioses[] = {&bios_halt, &bios_spin};
    for (size_t i = 0; i < 2; i++) {
        struct vd_config config;
        pthread_t thread;
        use_bios(&config, bioses[i]);
        struct vd_vm *vm = create(&config);
        vd_vm_stop(vm); /* before the run: it ends at once */
        assert_int_equal(run(vm).kind, VD_STOPPED);
        pthread_create(&thread, NULL, stop_later, vm);
        assert_int_equal(run(vm).kind, VD_STOPPED);
        pthread_join(thread, NULL);
        vd_vm_destroy(vm);
    }
}

static void test_serial_to_file(void **state)
{
    (void)state;
    struct vd_config config;
    char spec[300], text[16];
    use_bios(&config, &bios_serial);
    snprintf(spec, sizeof(spec), "file:%s/com1", scratch.dir);
    config.serial[0] = spec;
    struct vd_vm *vm = create(&config);
    assert_int_equal(run(vm).kind, VD_DEBUG_EXIT);
    vd_vm_destroy(vm);
    int fd = open(spec + 5, O_RDONLY);
    assert_int_equal(read(fd, text, sizeof(text)), 2);
    assert_memory_equal(text, "ok", 2);
    close(fd);
}

static void *run_one(void *arg)
{
    const struct vd_config *config = arg;
    struct vd_vm *vm;
    struct vd_outcome outcome;
    uintptr_t good = 0;
    for (int i = 0; i < 5; i++) {
        if (vd_vm_create(&vm, config, NULL) != VD_OK)
            return NULL;
        good += vd_vm_run(vm, &outcome, NULL) == VD_OK && outcome.kind == VD_DEBUG_EXIT &&
                outcome.value == 0x2b;
        vd_vm_destroy(vm);
    }
    return (void *)good;
}

static void test_two_machines_at_once(void **state)
{
    (void)state;
    struct vd_config config;
    pthread_t threads[2];
    use_bios(&config, &bios_debug_exit);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_one, &config), 0);
    for (int i = 0; i < 2; i++) {
        void *good;
        pthread_join(threads[i], &good);
        assert_int_equal((uintptr_t)good, 5);
    }
}

static void expect_create_error(const struct vd_config *config, enum vd_result result,
                                const char *text)
{
    struct vd_error_text error = {""};
    struct vd_vm *vm = (struct vd_vm *)&error; /* must stay as it is */
    assert_int_equal(vd_vm_create(&vm, config, &error), result);
    assert_ptr_equal(vm, &error);
    if (!strstr(error.text, text) || strchr(error.text, '\n'))
        fail_msg("'%s' does not say '%s'", error.text, text);
}

static void test_bad_configurations(void **state)
{
    (void)state;
    struct vd_config config;
    use_bios(&config, &bios_halt);
    config.ram_size = 0;
    expect_create_error(&config, VD_ERROR_USAGE, "memory");
    config.ram_size = (16 << 20) + 4096;
    expect_create_error(&config, VD_ERROR_USAGE, "memory");
    config.ram_size = 1ull << 41;
    expect_create_error(&config, VD_ERROR_USAGE, "memory");
    config.ram_size = 4ull << 30;
    config.cpu = "486";
    expect_create_error(&config, VD_ERROR_USAGE, "32 address bits");
    use_bios(&config, &bios_halt);
    config.cpu = "abacus";
    expect_create_error(&config, VD_ERROR_USAGE, "abacus");
    use_bios(&config, &bios_halt);
    config.engine = "warp";
    expect_create_error(&config, VD_ERROR_USAGE, "warp");
    use_bios(&config, &bios_halt);
    config.display = "hologram";
    expect_create_error(&config, VD_ERROR_USAGE, "hologram");
    use_bios(&config, &bios_halt);
    config.serial[1] = "telegraph";
    expect_create_error(&config, VD_ERROR_USAGE, "telegraph");
    use_bios(&config, &bios_halt);
    config.serial[0] = config.debugcon = "stdio";
    expect_create_error(&config, VD_ERROR_USAGE, "once");
    use_bios(&config, &bios_halt);
    config.debug_exit_port = 0xfffd;
    expect_create_error(&config, VD_ERROR_USAGE, "fffd");
    config.debug_exit_port = 0x60; /* the keyboard controller's */
    expect_create_error(&config, VD_ERROR_HOST, "isa-debug-exit");
    use_bios(&config, &bios_halt);
    config.initrd = "x";
    expect_create_error(&config, VD_ERROR_USAGE, "needs a kernel");
    use_bios(&config, &bios_halt);
    config.firmware = "/nonexistent/bios";
    expect_create_error(&config, VD_ERROR_HOST, "/nonexistent/bios");
}

/* A wrong kernel is found before the serial port's file is emptied. */
static void test_errors_touch_nothing(void **state)
{
    (void)state;
    struct vd_config config;
    char spec[300], text[16];
    snprintf(spec, sizeof(spec), "file:%s/log", scratch.dir);
    int fd = open(spec + 5, O_RDWR | O_CREAT, 0644);
    assert_int_equal(write(fd, "precious", 8), 8);
    use_bios(&config, &bios_halt);
    config.serial[0] = spec;
    config.kernel = "/nonexistent/kernel";
    expect_create_error(&config, VD_ERROR_HOST, "/nonexistent/kernel");
    assert_int_equal(pread(fd, text, sizeof(text), 0), 8);
    close(fd);
}

static void test_names(void **state)
{
    (void)state;
    bool bt = false;
    assert_non_null(vd_cpu_model(0));
    assert_null(vd_cpu_model(1000));
    for (size_t i = 0; vd_engine(i); i++)
        bt |= strcmp(vd_engine(i), "bt") == 0;
    assert_true(bt);
}

static void test_stats_and_pictures(void **state)
{
    (void)state;
    struct vd_config config;
    struct vd_error_text error;
    char path[SCRATCH_PATH], *text = NULL;
    size_t size = 0;
    use_bios(&config, &bios_debug_exit);
    struct vd_vm *vm = create(&config);
    run(vm);
    FILE *out = open_memstream(&text, &size);
    vd_vm_stats(vm, out, 1);
    fclose(out);
    assert_true(size > 2 && text[0] == '{');
    free(text);
    scratch_path(&scratch, "screen.png", path);
    assert_int_equal(vd_vm_screenshot(vm, path, &error), VD_OK);
    assert_int_equal(vd_vm_screenshot(vm, "/nonexistent/x.png", &error), VD_ERROR_HOST);
    char screen[100];
    assert_int_equal(vd_vm_screen_text(vm, screen, sizeof(screen)), 0);
    vd_vm_destroy(vm);
    vd_vm_destroy(NULL);
}

/* The installed SeaBIOS with the VGA BIOS greets on the screen. */
static void test_firmware_text(void **state)
{
    (void)state;
    struct vd_config config;
    pthread_t thread;
    static char screen[16384];
    if (access("/usr/share/seabios/bios-256k.bin", R_OK) ||
        access("/usr/share/seabios/vgabios-stdvga.bin", R_OK))
        skip();
    vd_config_init(&config);
    config.ram_size = 32 << 20;
    struct vd_vm *vm = create(&config);
    for (int i = 0; i < 400 && !strstr(screen, "SeaBIOS"); i++) {
        pthread_create(&thread, NULL, stop_later, vm);
        assert_int_equal(run(vm).kind, VD_STOPPED);
        pthread_join(thread, NULL);
        vd_vm_screen_text(vm, screen, sizeof(screen));
    }
    assert_non_null(strstr(screen, "SeaBIOS"));
    vd_vm_destroy(vm);
}

static int open_scratch(void **state)
{
    (void)state;
    return scratch_open(&scratch);
}

static int close_scratch(void **state)
{
    (void)state;
    return scratch_close(&scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outcomes),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_serial_to_file),
        cmocka_unit_test(test_two_machines_at_once),
        cmocka_unit_test(test_bad_configurations),
        cmocka_unit_test(test_errors_touch_nothing),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_stats_and_pictures),
        cmocka_unit_test(test_firmware_text),
    };
    return cmocka_run_group_tests(tests, open_scratch, close_scratch);
}
