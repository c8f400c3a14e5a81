/* base/bytes.h against libc, at every size and alignment that has its own path. */
#include "fixture.h"

#include "base/bytes.h"

static void test_copy(void **state)
{
    (void)state;
    struct random r = random_new("bytes");
    uint8_t from[512], to[512], expected[512];
    for (unsigned size = 0; size <= 300; size++) {
        for (unsigned shift = 0; shift < 9; shift++) {
            for (unsigned i = 0; i < sizeof(from); i++) {
                from[i] = (uint8_t)random_next(&r);
                to[i] = expected[i] = (uint8_t)random_next(&r);
            }
            memcpy(expected + shift, from + 8 - shift, size);
            bytes_copy(to + shift, from + 8 - shift, size);
            assert_memory_equal(to, expected, sizeof(to));
            memset(expected + shift, 0xa5, size);
            bytes_fill(to + shift, 0xa5, size);
            assert_memory_equal(to, expected, sizeof(to));
            memset(expected + shift, 0, size);
            bytes_zero(to + shift, size);
            assert_memory_equal(to, expected, sizeof(to));
        }
    }
}

static void test_equal(void **state)
{
    (void)state;
    uint8_t a[64], b[64];
    for (unsigned i = 0; i < sizeof(a); i++)
        a[i] = b[i] = (uint8_t)(i * 7);
    for (unsigned size = 0; size < 64; size++) {
        assert_true(bytes_equal(a, b, size));
        for (unsigned i = 0; i < 64; i++) {
            b[i] ^= 0x80;
            assert_int_equal(bytes_equal(a, b, size), i >= size);
            b[i] ^= 0x80;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_copy), cmocka_unit_test(test_equal)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
