/* The program as a user meets it: words in, exit code and one line of text out. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/scratch.h"

struct run {
    int code; /* exit code, or -signal */
    char out[65536], err[4096];
};

static void slurp(FILE *file, char *text, size_t size)
{
    rewind(file);
    size_t count = fread(text, 1, size - 1, file);
    text[count] = 0;
    fclose(file);
}

/* Runs the program with the words of line, which are separated by single blanks; '_' is a blank. */
static void run(struct run *result, const char *line)
{
    char words[1024], *argv[32] = {VEDETTE_PROGRAM};
    size_t count = 1;
    FILE *out = tmpfile(), *err = tmpfile();
    snprintf(words, sizeof(words), "%s", line);
    for (char *word = strtok(words, " "); word && count < 31; word = strtok(NULL, " ")) {
        for (char *c = word; *c; c++)
            if (*c == '_')
                *c = ' ';
        argv[count++] = word;
    }
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int null = open("/dev/null", O_RDONLY);
        dup2(null, 0);
        dup2(fileno(out), 1);
        dup2(fileno(err), 2);
        alarm(60);
        execv(VEDETTE_PROGRAM, argv);
        _exit(127);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    result->code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    slurp(out, result->out, sizeof(result->out));
    slurp(err, result->err, sizeof(result->err));
}

/* Fails with this code, and one line on stderr that contains both texts. */
static void expect_error(const char *line, int code, const char *text1, const char *text2)
{
    struct run result;
    run(&result, line);
    const char *newline = strchr(result.err, '\n');
    if (result.code != code || !newline || newline[1] || !strstr(result.err, text1) ||
        !strstr(result.err, text2) || strncmp(result.err, "vedette: ", 9) != 0 || result.out[0])
        fail_msg("'%s': code %d, stderr '%s', stdout '%s'", line, result.code, result.err,
                 result.out);
}

static struct scratch scratch;

static const char *make_file(const char *name, const void *bytes, size_t size)
{
    static char paths[8][SCRATCH_PATH];
    static unsigned next;
    char *path = paths[next++ % 8];
    scratch_path(&scratch, name, path);
    scratch_write(path, bytes, size);
    return path;
}

static const char *words(const char *format, ...) __attribute__((format(printf, 1, 2)));
static const char *words(const char *format, ...)
{
    static char lines[4][1024];
    static unsigned next;
    char *line = lines[next++ % 4];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(lines[0]), format, args);
    va_end(args);
    return line;
}

static void test_help(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "--help",      "help",    "help run",  "run --help",  "run -h",
        "scan --help", "version", "--version", "run --cpu ?", "run -engine help"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct run result;
        run(&result, lines[i]);
        if (result.code != 0 || !result.out[0] || result.err[0])
            fail_msg("'%s': code %d, stderr '%s'", lines[i], result.code, result.err);
    }
    struct run result;
    run(&result, "run --help");
    static const char *const options[] = {
        "-m SIZE",    "--kernel",         "--initrd",      "--append",    "--cpu",
        "--serial",   "--display",        "--screenshot",  "--engine",    "--bios",
        "--vgabios",  "--debugcon-port",  "--post-codes",  "--trace",     "--stats",
        "--log",      "--isa-debug-exit", "--exact-flags", "--no-reboot", "--time-limit",
        "--nographic"};
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        assert_non_null(strstr(result.out, options[i]));
    for (const char *line = result.out; *line;) { /* fits a terminal */
        size_t length = strcspn(line, "\n");
        assert_true(length <= 100);
        line += length + (line[length] == '\n');
    }
}

static void test_usage_errors(void **state)
{
    (void)state;
    static char zeros[65536];
    const char *bios = make_file("bios", zeros, sizeof(zeros));
    expect_error("", 1, "no command", "vedette help");
    expect_error("run", 1, "--kernel", "--bios");
    expect_error("run -m 64M --serial none", 1, "--kernel", "--bios");
    expect_error("rnu", 1, "'rnu'", "'run'");
    expect_error("fly", 1, "'fly'", "vedette help");
    expect_error("--kernel x", 1, "--kernel", "vedette run");
    expect_error("run --kernal x", 1, "'--kernal'", "'--kernel'");
    expect_error("run -kernal x", 1, "'-kernal'", "'--kernel'");
    expect_error("run --no-rebot", 1, "'--no-rebot'", "'--no-reboot'");
    expect_error("run --kernel", 1, "'--kernel'", "needs a value");
    expect_error("run --no-reboot=1", 1, "--no-reboot", "no value");
    expect_error("run stray", 1, "'stray'", "unexpected");
    expect_error("run -m 12Q", 1, "'12Q'", "memory size");
    expect_error("run -m 0 --bios /dev/null", 1, "memory", "0");
    expect_error("run -m 1025K", 1, "memory", "1");
    expect_error("run -m 999999T", 1, "memory", "999999");
    expect_error("run --cpu pentium33", 1, "'pentium33'", "'pentium3'");
    expect_error("run --cpu abacus", 1, "'abacus'", "known");
    expect_error("run --engine warp", 1, "'warp'", "bt");
    expect_error("run --display hologram", 1, "'hologram'", "text");
    expect_error("run --trace blocks,exit", 1, "'exit'", "'exits'");
    expect_error("run --trace ,", 1, "''", "blocks");
    expect_error("run --log loud", 1, "'loud'", "debug");
    expect_error("run --stats=xml", 1, "'xml'", "json");
    expect_error("run --time-limit soon", 1, "'soon'", "time limit");
    expect_error("run --time-limit -1", 1, "'-1'", "time limit");
    expect_error(words("run --bios %s --serial telegraph", bios), 1, "'telegraph'", "stdio");
    expect_error("run --serial none --serial none --serial none", 1, "serial", "2");
    expect_error(words("run --bios %s --serial stdio --debugcon stdio", bios), 1, "stdio", "once");
    expect_error("run --debugcon-port 0x10000", 1, "'0x10000'", "port");
    expect_error("run --debugcon-port 0", 1, "'0'", "port");
    expect_error(words("run --bios %s --debugcon none --debugcon-port 0x3f8", bios), 2, "3f8",
                 "serial");
    expect_error("run --isa-debug-exit=front", 1, "'front'", "port");
    expect_error("run --isa-debug-exit=0", 1, "'0'", "port");
    expect_error("run --isa-debug-exit=0x10000", 1, "'0x10000'", "port");
    expect_error(words("run --bios %s --isa-debug-exit=0x3f8", bios), 2, "3f8", "serial");
    expect_error("run -device isa-debug-exi", 1, "'isa-debug-exi'", "'isa-debug-exit'");
    expect_error("run -device isa-debug-exit,iobas=1", 1, "'iobas'", "'iobase'");
    expect_error("run -device pc-testdev,size=1", 1, "'pc-testdev'", "'size=1'");
    expect_error("run -device isa-debug-exit,iobase", 1, "''", "port");
    expect_error("run -device isa-debug-exit,iosize=8", 1, "'8'", "size");
    expect_error("run -device isa-debug-exit,iobase=", 1, "''", "port");
    expect_error(words("run --bios %s -m 1T", bios), 1, "1048576 MiB", "address bits");
    expect_error(words("run --bios %s -m 4G --cpu 486", bios), 1, "4096 MiB", "32 address bits");
    expect_error("run --append x", 1, "--append", "--kernel");
    expect_error("run --initrd x", 1, "--initrd", "--kernel");
    expect_error(words("run --bios %s --screenshot /nonexistent/x.png", bios), 1,
                 "/nonexistent/x.png", "No such file");
    expect_error(words("run --bios %s --screenshot /tmp", bios), 1, "/tmp", "directory");
}

static void test_bad_files(void **state)
{
    (void)state;
    static char zeros[70000];
    const char *empty = make_file("empty", "", 0);
    const char *junk = make_file("junk", zeros, sizeof(zeros));
    const char *tiny = make_file("tiny", "MZ", 2);
    static const char *const options[] = {"kernel", "bios", "vgabios"};
    for (size_t i = 0; i < 3; i++) {
        expect_error(words("run --bios %s --%s /nonexistent/file", junk, options[i]), 2,
                     "/nonexistent/file", "No such file");
        expect_error(words("run --bios %s --%s %s", junk, options[i], scratch.dir), 2, scratch.dir,
                     "not a regular file");
        expect_error(words("run --bios %s --%s %s", junk, options[i], empty), 2, empty, "empty");
    }
    expect_error(words("run --kernel %s", junk), 2, junk,
                 "neither a Linux bzImage nor a multiboot");
    const char *elf = make_file("elf", "\177ELF\1\1\1\0\0\0\0\0\0\0\0\0", 16);
    expect_error(words("run --kernel %s", elf), 2, elf, "an ELF file without a multiboot header");
    expect_error("run --kernel= --serial none", 2, "kernel", "file name is empty");
    const char *multiboot = make_file("multiboot", "\x02\xb0\xad\x1b\0\0\0\0\0\0\0\0", 12);
    expect_error(words("run --kernel %s", multiboot), 2, multiboot, "wrong checksum");
    expect_error(words("run --kernel %s", tiny), 2, tiny, "kernel");
    expect_error(words("run --bios %s --serial file:/nonexistent/log", junk), 2, "/nonexistent/log",
                 "No such file");
    expect_error(words("run --bios %s --serial file:%s", junk, scratch.dir), 2, scratch.dir,
                 "directory");
    if (geteuid() != 0) {
        const char *locked = make_file("locked", zeros, 100);
        chmod(locked, 0);
        expect_error(words("run --kernel %s", locked), 2, locked, "Permission denied");
    }
}

static void test_scan_errors(void **state)
{
    (void)state;
    const char *empty = make_file("empty", "", 0);
    expect_error("scan", 1, "scan", "file");
    expect_error("scan a b", 1, "'b'", "one");
    expect_error("scan --bits 12 x", 1, "12", "64");
    expect_error("scan --base zero x", 1, "'zero'", "--base");
    expect_error("scan --jsno x", 1, "'--jsno'", "'--json'");
    expect_error("scan /nonexistent/file", 2, "/nonexistent/file", "No such file");
    expect_error(words("scan %s", scratch.dir), 2, scratch.dir, "");
    expect_error(words("scan %s", empty), 2, empty, "");
}

static void test_scan_raw(void **state)
{
    (void)state;
    struct run result;
    const char *path = make_file("raw", "\xb8\x34\x12\xcd\x10\xf4\xeb\xfd", 8);
    run(&result, words("scan %s --bits 16 --base 0x7c00", path));
    assert_int_equal(result.code, 0);
    assert_non_null(strstr(result.out, "7c00"));
    run(&result, words("scan %s --bits 16 --json", path));
    assert_int_equal(result.code, 0);
    assert_int_equal(result.out[0], '{');
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
        cmocka_unit_test(test_help),      cmocka_unit_test(test_usage_errors),
        cmocka_unit_test(test_bad_files), cmocka_unit_test(test_scan_errors),
        cmocka_unit_test(test_scan_raw),
    };
    return cmocka_run_group_tests(tests, open_scratch, close_scratch);
}
