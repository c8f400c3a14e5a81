/* Option parsing, sizes and suggestions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/args.h"

enum { OPT_KERNEL = 1, OPT_MEMORY, OPT_QUIET, OPT_STATS };
static const struct option_spec specs[] = {
    {"kernel", "FILE", OPT_KERNEL, "G", "kernel"},
    {"m", "SIZE", OPT_MEMORY, NULL, "memory"},
    {"quiet", NULL, OPT_QUIET, NULL, "quiet"},
    {"stats", "=json", OPT_STATS, NULL, "statistics"},
    {NULL, NULL, 0, NULL, NULL},
};

static void test_forms(void **state)
{
    (void)state;
    char *argv[] = {"run",   "--kernel",     "a",    "-kernel",  "b",      "--kernel=c=d",
                    "-m",    "64",           "-m=1", "--quiet",  "word",   "--stats",
                    "other", "--stats=json", "-",    "--kernel", "--quiet"};
    static const struct {
        int id;
        const char *value;
    } expected[] = {
        {OPT_KERNEL, "a"},         {OPT_KERNEL, "b"},      {OPT_KERNEL, "c=d"},
        {OPT_MEMORY, "64"},        {OPT_MEMORY, "1"},      {OPT_QUIET, NULL},
        {ARGS_POSITIONAL, "word"}, {OPT_STATS, NULL},      {ARGS_POSITIONAL, "other"},
        {OPT_STATS, "json"},       {ARGS_POSITIONAL, "-"}, {OPT_KERNEL, "--quiet"},
    };
    struct args args;
    args_init(&args, sizeof(argv) / sizeof(argv[0]), argv, specs);
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        assert_int_equal(args_next(&args), expected[i].id);
        if (expected[i].value)
            assert_string_equal(args.value, expected[i].value);
        else
            assert_null(args.value);
    }
    assert_int_equal(args_next(&args), ARGS_END);
}

static void test_errors(void **state)
{
    (void)state;
    char *bad[] = {"--kernal", "--quiet=1", "--", "---", "-x", "--kernel"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char *argv[] = {"run", bad[i]};
        struct args args;
        args_init(&args, 2, argv, specs);
        assert_int_equal(args_next(&args), ARGS_ERROR);
    }
}

static void test_suggest(void **state)
{
    (void)state;
    static const char *const list[] = {"kernel", "initrd", "append", "serial", "no-reboot", NULL};
    assert_string_equal(suggest("kernal", list), "kernel");
    assert_string_equal(suggest("initrdd", list), "initrd");
    assert_string_equal(suggest("sreial", list), "serial");
    assert_string_equal(suggest("noreboot", list), "no-reboot");
    assert_string_equal(suggest("app", list), "append");
    assert_null(suggest("hologram", list));
    assert_null(suggest("", list));
    char longest[300];
    memset(longest, 'k', sizeof(longest));
    longest[sizeof(longest) - 1] = 0;
    assert_null(suggest(longest, list));
}

static void test_numbers(void **state)
{
    (void)state;
    uint64_t value;
    assert_true(parse_number("0", &value) && value == 0);
    assert_true(parse_number("0x7C00", &value) && value == 0x7c00);
    assert_true(parse_number("010", &value) && value == 10);
    assert_true(parse_number("18446744073709551615", &value) && value == UINT64_MAX);
    static const char *const bad[] = {"",   "-1", "+1", " 1",
                                      "1 ", "0x", "1x", "18446744073709551616"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(parse_number(bad[i], &value));
}

static void test_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"256", 256ull << 20}, {"256M", 256ull << 20},  {"1G", 1ull << 30},
                {"4096", 4ull << 30},  {"2048K", 2ull << 20},   {"1t", 1ull << 40},
                {"3GiB", 3ull << 30},  {"512mb", 512ull << 20}, {"0", 0}};
    static const char *const bad[] = {
        "", "M", "-1", "1X", "1MM", "1 G", "99999999999999999999", "1.5G", "99999999999T"};
    uint64_t bytes;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(parse_memory_size(good[i].text, &bytes));
        assert_int_equal(bytes, good[i].bytes);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(parse_memory_size(bad[i], &bytes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),   cmocka_unit_test(test_errors),
        cmocka_unit_test(test_suggest), cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
