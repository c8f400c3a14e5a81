/* AML encodings of the ACPI 3.0b specification, chapters 6.4 and 17.2, byte by byte. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
// clang-format on

#include "machine/aml.h"

static void check(struct aml *aml, const void *want, size_t size)
{
    assert_false(aml->failed);
    assert_int_equal(aml->depth, 0);
    assert_int_equal(aml->size, size);
    assert_memory_equal(aml->data, want, size);
    aml_free(aml);
}

static void test_integers(void **state)
{
    (void)state;
    struct aml aml;
    aml_init(&aml);
    aml_integer(&aml, 0);
    aml_integer(&aml, 1);
    aml_integer(&aml, 2);
    aml_integer(&aml, 0x1234);
    aml_integer(&aml, 0x12345678);
    aml_integer(&aml, 0x123456789a);
    check(&aml, "\x00\x01\x0a\x02\x0b\x34\x12\x0c\x78\x56\x34\x12\x0e\x9a\x78\x56\x34\x12\0\0\0",
          21);
}

static void test_names(void **state)
{
    (void)state;
    struct aml aml;
    aml_init(&aml);
    aml_path(&aml, "PCI0");
    aml_path(&aml, "\\_SB");
    aml_path(&aml, "ISA.COM1");
    aml_path(&aml, "\\_SB.PCI0.ISA");
    check(&aml, "PCI0\\_SB_\x2eISA_COM1\\\x2f\x03_SB_PCI0ISA_", 4 + 5 + 9 + 15);
}

static void test_eisa_id_and_string(void **state)
{
    (void)state;
    struct aml aml;
    aml_init(&aml);
    aml_name(&aml, "_HID");
    aml_eisa_id(&aml, "PNP0A03");
    aml_string(&aml, "ab");
    check(&aml,
          "\x08_HID\x0c\x41\xd0\x0a\x03\x0d"
          "ab\0",
          14);
}

/* The package length counts itself: 1 byte to 63, 2 bytes to 4095, 3 bytes beyond. */
static void test_package_lengths(void **state)
{
    (void)state;
    static const struct {
        size_t body; /* content of the buffer */
        uint8_t encoded[3];
        unsigned bytes;
    } cases[] = {
        {60, {63}, 1},                 /* length 1 + 2 (size) + 60 */
        {61, {0x41, 0x04}, 2},         /* 2 + 2 + 61 = 65 = 41h */
        {4090, {0x4f, 0xff}, 2},       /* 2 + 3 + 4090 = 4095 */
        {4091, {0x81, 0x00, 0x01}, 3}, /* 3 + 3 + 4091 = 4097 = 1001h */
    };
    static uint8_t zeros[5000];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct aml aml;
        aml_init(&aml);
        aml_buffer(&aml, zeros, cases[i].body);
        assert_int_equal(aml.data[0], 0x11);
        assert_memory_equal(aml.data + 1, cases[i].encoded, cases[i].bytes);
        size_t size_field = cases[i].body > 255 ? 3 : 2;
        assert_int_equal(aml.size, 1 + cases[i].bytes + size_field + cases[i].body);
        aml_free(&aml);
    }
}

static void test_nested_objects(void **state)
{
    (void)state;
    struct aml aml;
    aml_init(&aml);
    aml_scope_begin(&aml, "\\_SB");
    aml_device_begin(&aml, "DEV");
    aml_method_begin(&aml, "_STA", AML_SERIALIZED);
    aml_op(&aml, AML_RETURN);
    aml_integer(&aml, 15);
    aml_end(&aml);
    aml_end(&aml);
    aml_end(&aml);
    check(&aml,
          "\x10\x17\\_SB_"
          "\x5b\x82\x0f"
          "DEV_"
          "\x14\x09_STA\x08\xa4\x0a\x0f",
          24);
}

static void test_region_and_field(void **state)
{
    (void)state;
    struct aml aml;
    aml_init(&aml);
    aml_op_region(&aml, "PIRQ", AML_PCI_CONFIG, 0x60, 4);
    aml_field_begin(&aml, "PIRQ");
    aml_field_unit(&aml, "PRQA", 8);
    aml_end(&aml);
    aml_processor(&aml, "CP00", 0);
    check(&aml,
          "\x5b\x80PIRQ\x02\x0a\x60\x0a\x04"
          "\x5b\x81\x0bPIRQ\x01PRQA\x08"
          "\x5b\x83\x0b"
          "CP00\0\0\0\0\0\0",
          11 + 13 + 13);
}

static void test_package_and_if(void **state)
{
    (void)state;
    struct aml aml;
    aml_init(&aml);
    aml_package_begin(&aml, 2);
    aml_integer(&aml, 7);
    aml_path(&aml, "LNKA");
    aml_end(&aml);
    aml_if_begin(&aml);
    aml_op(&aml, AML_LLESS);
    aml_op(&aml, AML_ARG0);
    aml_op(&aml, AML_LOCAL0);
    aml_op(&aml, AML_STORE);
    aml_integer(&aml, 1);
    aml_op(&aml, AML_LOCAL0);
    aml_end(&aml);
    check(&aml,
          "\x12\x08\x02\x0a\x07LNKA"
          "\xa0\x07\x95\x68\x60\x70\x01\x60",
          17);
}

static void test_resources(void **state)
{
    (void)state;
    struct aml aml;
    struct aml_resources res = {.size = 0};
    static const uint8_t irqs[2] = {10, 11};
    aml_init(&aml);
    aml_res_io(&res, 0x3f8, 8);
    aml_res_irq(&res, 12);
    aml_res_dma(&res, 4);
    aml_res_interrupts(&res, irqs, 2);
    aml_res_bus_range(&res, 0, 255);
    aml_res_io_range(&res, 0xd00, 0xffff);
    aml_res_memory_range(&res, 0x80000000, 0xfebfffff);
    aml_resources(&aml, &res);
    static const uint8_t want[] = {
        0x11, 0x4b, 0x05, 0x0a, 0x57,                   /* buffer of 87 bytes */
        0x47, 0x01, 0xf8, 0x03, 0xf8, 0x03, 0x01, 0x08, /* IO */
        0x22, 0x00, 0x10,                               /* IRQNoFlags */
        0x2a, 0x10, 0x00,                               /* DMA */
        0x89, 0x0a, 0x00, 0x09, 0x02, 10,   0,    0,    0, 11,   0,    0,    0, /* Interrupt */
        0x88, 0x0d, 0x00, 0x02, 0x0c, 0x00, 0,    0,    0, 0,    0xff, 0,    0,    0,    0x00,
        0x01, 0x88, 0x0d, 0x00, 0x01, 0x0c, 0x03, 0,    0, 0x00, 0x0d, 0xff, 0xff, 0,    0,
        0x00, 0xf3, 0x87, 0x17, 0x00, 0x00, 0x0c, 0x01, 0, 0,    0,    0,    0,    0,    0,
        0x80, 0xff, 0xff, 0xbf, 0xfe, 0,    0,    0,    0, 0,    0,    0xc0, 0x7e, 0x79, 0x00,
    };
    assert_int_equal(sizeof(want) - 5, aml.data[4]);
    check(&aml, want, sizeof(want));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integers),           cmocka_unit_test(test_names),
        cmocka_unit_test(test_eisa_id_and_string), cmocka_unit_test(test_package_lengths),
        cmocka_unit_test(test_nested_objects),     cmocka_unit_test(test_region_and_field),
        cmocka_unit_test(test_package_and_if),     cmocka_unit_test(test_resources),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
