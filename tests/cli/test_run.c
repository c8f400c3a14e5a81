/* "vedette run" with tiny machines: exit codes, signals, pipes and terminals. */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>

#include <cmocka.h>

#include "api/test_bios.h"
#include "support/scratch.h"

enum { BUSY_TICKS = 5 };

static struct scratch scratch;

struct program {
    pid_t pid;
    int in, out, err; /* our ends of the pipes; -1: closed */
    char out_text[8192], err_text[8192];
};

static void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* Words are separated by single blanks. */
static void exec_program(const struct bios *bios, const char *options)
{
    char path[SCRATCH_PATH], words[512],
        *argv[32] = {VEDETTE_PROGRAM, "run", "--bios", path, "--vgabios", "none", "-m", "16"};
    size_t count = 8;
    if (bios_write(bios, scratch.dir, path, sizeof(path)))
        _exit(126);
    snprintf(words, sizeof(words), "%s", options);
    for (char *word = strtok(words, " "); word && count < 31; word = strtok(NULL, " "))
        argv[count++] = word;
    signal(SIGSEGV, SIG_DFL); /* the test framework catches these */
    signal(SIGILL, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    signal(SIGFPE, SIG_DFL);
    execv(VEDETTE_PROGRAM, argv);
    _exit(127);
}

static void start(struct program *program, const struct bios *bios, const char *options)
{
    int in[2], out[2], err[2];
    memset(program, 0, sizeof(*program));
    assert_int_equal(pipe(in) | pipe(out) | pipe(err), 0);
    fflush(NULL);
    program->pid = fork();
    assert_true(program->pid >= 0);
    if (program->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(err[1], 2);
        close(in[1]);
        close(out[0]);
        close(err[0]);
        exec_program(bios, options);
    }
    close(in[0]);
    close(out[1]);
    close(err[1]);
    program->in = in[1];
    program->out = out[0];
    program->err = err[0];
}

static void drain(int fd, char *text, size_t size)
{
    size_t used = 0;
    ssize_t count;
    while (used < size - 1 && (count = read(fd, text + used, size - 1 - used)) > 0)
        used += (size_t)count;
    text[used] = 0;
    close(fd);
}

/* Exit code, or minus the signal; gives up after 20 s. */
static int wait_program(struct program *program)
{
    int status = 0;
    for (int i = 0; i < 2000; i++) {
        if (waitpid(program->pid, &status, WNOHANG) == program->pid) {
            drain(program->out, program->out_text, sizeof(program->out_text));
            drain(program->err, program->err_text, sizeof(program->err_text));
            close(program->in);
            return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
        }
        sleep_ms(10);
    }
    kill(program->pid, SIGKILL);
    waitpid(program->pid, &status, 0);
    fail_msg("the program did not end");
    return -1;
}

static void expect(const struct bios *bios, const char *options, int code, const char *out,
                   const char *err)
{
    struct program program;
    start(&program, bios, options);
    int got = wait_program(&program);
    if (got != code || !strstr(program.out_text, out) || !strstr(program.err_text, err) ||
        (!*err && *program.err_text))
        fail_msg("%s %s: code %d, stdout '%s', stderr '%s'", bios->name, options, got,
                 program.out_text, program.err_text);
}

static void test_exit_codes(void **state)
{
    (void)state;
    expect(&bios_debug_exit, "--isa-debug-exit --serial none", 0x2b, "", "");
    expect(&bios_debug_exit, "--isa-debug-exit=0xf2 --serial none", 0x2b, "", "");
    expect(&bios_debug_exit, "--isa-debug-exit=244 --serial none", 0x2b, "", "");
    expect(&bios_debug_exit, "-device isa-debug-exit,iobase=0xf4,iosize=0x04 -serial none", 0x2b,
           "", "");
    expect(&bios_debug_exit, "-device pc-testdev -device isa-debug-exit,iobase=0xf4 -serial none",
           0x2b, "", "");
    expect(&bios_debug_exit, "--isa-debug-exit --test-device --serial none", 0x2b, "", "");
    expect(&bios_debug_exit, "--isa-debug-exit=0xe4 --time-limit 0.2 --serial none", 124, "",
           "time limit"); /* where the test device would be */
    expect(&bios_debug_exit, "-device isa-debug-exit --time-limit 0.2 -serial none", 124, "",
           "time limit");
    expect(&bios_debug_exit, "--time-limit 0.2 --serial none", 124, "", "time limit");
    expect(&bios_power_off, "--serial none", 0, "", "");
    expect(&bios_triple_fault, "--serial none", 3, "", "vedette: triple fault at f000:");
    expect(&bios_reset, "--no-reboot --display none", 0, "", "");
    expect(&bios_halt, "--time-limit 0.2 --serial none", 124, "", "time limit");
    expect(&bios_reset, "--time-limit 0.3 --serial none", 124, "", "time limit");
    expect(&bios_power_off, "--stats --serial none", 0, "", "\n");
    expect(&bios_power_off, "--stats=json --serial none", 0, "", "{");
}

static void test_serial_pipes(void **state)
{
    (void)state;
    struct program program;
    char options[512], path[SCRATCH_PATH], text[16];
    scratch_path(&scratch, "debug", path);
    expect(&bios_serial, "--isa-debug-exit -nographic", 1, "ok", "");
    expect(&bios_serial, "--isa-debug-exit -serial stdio -display none", 1, "ok", "");
    snprintf(options, sizeof(options), "--isa-debug-exit --serial stdio --debugcon file:%s", path);
    expect(&bios_early, options, 1, "ok", "");
    int fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, text, sizeof(text)), 1);
    assert_int_equal(text[0], 'd');
    close(fd);
    snprintf(options, sizeof(options),
             "--isa-debug-exit --serial none --debugcon file:%s --debugcon-port 0x190", path);
    expect(&bios_progress, options, 1, "", "");
    fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, text, sizeof(text)), 2);
    assert_memory_equal(text, "\x0e\xff", 2);
    close(fd);
    expect(&bios_progress, "--isa-debug-exit --serial none --post-codes stdio", 1,
           "190 0e\n190 ff\n", "");
    start(&program, &bios_echo, "--isa-debug-exit --serial stdio");
    assert_int_equal(write(program.in, "Hello World\x01!", 13), 13);
    assert_int_equal(wait_program(&program), 7);
    /* bit 5 flipped: a blank becomes NUL; Ctrl-A is data in a pipe */
    assert_memory_equal(program.out_text, "hELLO\0wORLD\x21", 13);
}

/* Until the program holds the signal back for its watching thread; before, the signal would end it.
 */
static void wait_until_watched(pid_t pid, int number)
{
    char path[64], line[256];
    unsigned long long blocked = 0;
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    for (int i = 0; i < 2000 && !(blocked >> (number - 1) & 1); i++) {
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        while (fgets(line, sizeof(line), file))
            sscanf(line, "SigBlk: %llx", &blocked);
        fclose(file);
        sleep_ms(10);
    }
    if (!(blocked >> (number - 1) & 1)) {
        kill(pid, SIGKILL);
        fail_msg("signal %d is not watched", number);
    }
}

static void test_signals(void **state)
{
    (void)state;
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < 3; i++) {
        struct program program;
        start(&program, i ? &bios_spin : &bios_halt, "--serial none");
        wait_until_watched(program.pid, numbers[i]);
        kill(program.pid, numbers[i]);
        assert_int_equal(wait_program(&program), 0);
        assert_string_equal(program.err_text, "");
    }
}

static void test_screenshot(void **state)
{
    (void)state;
    char options[512], path[SCRATCH_PATH];
    uint8_t magic[8];
    scratch_path(&scratch, "screen.png", path);
    snprintf(options, sizeof(options), "--serial none --screenshot %s", path);
    expect(&bios_power_off, options, 0, "", "");
    int fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, magic, 8), 8);
    assert_memory_equal(magic, "\x89PNG\r\n\x1a\n", 8);
    close(fd);
}

/* On a terminal: raw while it runs, Ctrl-C is the guest's, Ctrl-A x quits with 0. */
static void test_terminal(void **state)
{
    (void)state;
    int master, status = -1;
    char text[512] = "";
    size_t used = 0;
    struct termios settings;
    fflush(NULL);
    pid_t pid = forkpty(&master, NULL, NULL, NULL);
    assert_true(pid >= 0);
    if (pid == 0)
        exec_program(&bios_echo, "--serial stdio");
    for (int i = 0; i < 500; i++) {
        assert_int_equal(tcgetattr(master, &settings), 0);
        if (!(settings.c_lflag & ICANON))
            break;
        sleep_ms(10);
    }
    assert_false(settings.c_lflag & (ICANON | ECHO | ISIG));
    assert_int_equal(write(master, "q\x03", 2), 2);
    for (int i = 0; i < 500 && !strchr(text, '#'); i++) { /* 03h xor 20h */
        struct pollfd pollfd = {.fd = master, .events = POLLIN};
        if (poll(&pollfd, 1, 10) > 0) {
            ssize_t count = read(master, text + used, sizeof(text) - 1 - used);
            used += count > 0 ? (size_t)count : 0;
            text[used] = 0;
        }
    }
    assert_string_equal(text, "Q#");
    assert_int_equal(write(master, "\x01x", 2), 2);
    for (int i = 0; i < 1000 && waitpid(pid, &status, WNOHANG) != pid; i++)
        sleep_ms(10);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(tcgetattr(master, &settings), 0);
    assert_true(settings.c_lflag & ICANON);
    close(master);
}

static void wait_for_raw_mode(int master, bool raw)
{
    struct termios settings;
    for (int i = 0; i < 500; i++) {
        assert_int_equal(tcgetattr(master, &settings), 0);
        if (!(settings.c_lflag & ICANON) == raw)
            break;
        sleep_ms(10);
    }
    assert_int_equal(!(settings.c_lflag & ICANON), raw);
    assert_int_equal(!(settings.c_lflag & ECHO), raw);
}

/* A thread besides the first that has run for a while: the virtual processor. 0: there is none. */
static pid_t busy_thread(pid_t pid)
{
    char path[64], line[512];
    pid_t thread = 0;
    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    DIR *directory = opendir(path);
    assert_non_null(directory);
    for (struct dirent *entry; (entry = readdir(directory));) {
        unsigned long ticks = 0;
        snprintf(path, sizeof(path), "/proc/%d/task/%.16s/stat", pid, entry->d_name);
        FILE *file = entry->d_name[0] == '.' ? NULL : fopen(path, "r");
        if (!file)
            continue;
        if (fgets(line, sizeof(line), file))
            sscanf(strrchr(line, ')'), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu", &ticks);
        fclose(file);
        if (ticks >= BUSY_TICKS && atoi(entry->d_name) != pid)
            thread = atoi(entry->d_name);
    }
    closedir(directory);
    return thread;
}

static void crash(const struct bios *bios, int number, bool in_guest_code)
{
    int master, status = -1;
    fflush(NULL);
    pid_t pid = forkpty(&master, NULL, NULL, NULL);
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        setenv("ASAN_OPTIONS", "handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0", 1);
        exec_program(bios, "--serial stdio");
    }
    wait_for_raw_mode(master, true);
    if (in_guest_code) {
        pid_t thread = 0;
        for (int i = 0; i < 2000 && !thread; i++) {
            sleep_ms(10);
            thread = busy_thread(pid);
        }
        assert_int_equal(syscall(SYS_tgkill, pid, thread, number), 0);
    } else {
        sleep_ms(30);
        kill(pid, number);
    }
    for (int i = 0; i < 1000 && waitpid(pid, &status, WNOHANG) != pid; i++)
        sleep_ms(10);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != number)
        fail_msg("%s, signal %d: status %#x", bios->name, number, status);
    wait_for_raw_mode(master, false);
    close(master);
}

static void test_crash_restores_the_terminal(void **state)
{
    (void)state;
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        crash(i % 2 ? &bios_spin : &bios_halt, numbers[i], false);
    crash(&bios_spin, SIGSEGV, true);
    crash(&bios_spin, SIGTRAP, true);
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
        cmocka_unit_test(test_exit_codes), cmocka_unit_test(test_serial_pipes),
        cmocka_unit_test(test_signals),    cmocka_unit_test(test_screenshot),
        cmocka_unit_test(test_terminal),   cmocka_unit_test(test_crash_restores_the_terminal),
    };
    return cmocka_run_group_tests(tests, open_scratch, close_scratch);
}
