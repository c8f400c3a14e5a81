#include "machine/aml.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    OP_ZERO = 0x00,
    OP_ONE = 0x01,
    OP_NAME = 0x08,
    OP_BYTE = 0x0a,
    OP_WORD = 0x0b,
    OP_DWORD = 0x0c,
    OP_STRING = 0x0d,
    OP_QWORD = 0x0e,
    OP_SCOPE = 0x10,
    OP_BUFFER = 0x11,
    OP_PACKAGE = 0x12,
    OP_METHOD = 0x14,
    OP_DUAL_NAME = 0x2e,
    OP_MULTI_NAME = 0x2f,
    OP_EXT = 0x5b,
    OP_EXT_REGION = 0x80,
    OP_EXT_FIELD = 0x81,
    OP_EXT_DEVICE = 0x82,
    OP_EXT_PROCESSOR = 0x83,
    OP_IF = 0xa0,
};
enum { FIELD_BYTE_ACCESS = 1 };
enum { PKG_LENGTH_MAX = 4 }; /* bytes of an encoded package length */

void aml_init(struct aml *aml)
{
    memset(aml, 0, sizeof(*aml));
}

void aml_free(struct aml *aml)
{
    free(aml->data);
    memset(aml, 0, sizeof(*aml));
}

static bool reserve(struct aml *aml, size_t more)
{
    if (aml->failed)
        return false;
    if (aml->size + more <= aml->capacity)
        return true;
    size_t capacity = (aml->size + more) * 2;
    uint8_t *data = realloc(aml->data, capacity);
    if (!data) {
        aml->failed = true;
        return false;
    }
    aml->data = data;
    aml->capacity = capacity;
    return true;
}

static void put(struct aml *aml, const void *bytes, size_t size)
{
    if (size && reserve(aml, size)) {
        memcpy(aml->data + aml->size, bytes, size);
        aml->size += size;
    }
}

static void put8(struct aml *aml, unsigned value)
{
    uint8_t byte = (uint8_t)value;
    put(aml, &byte, 1);
}

static void put_little(struct aml *aml, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        put8(aml, (unsigned)(value >> (8 * i)) & 0xff);
}

/* --- package lengths (17.2.4) --- */

static void begin(struct aml *aml)
{
    assert(aml->depth < AML_DEPTH_MAX);
    aml->open[aml->depth++] = aml->size;
}

void aml_end(struct aml *aml)
{
    assert(aml->depth);
    size_t start = aml->open[--aml->depth];
    if (!reserve(aml, PKG_LENGTH_MAX))
        return;
    size_t body = aml->size - start;
    /* The length counts its own bytes: one byte up to 63, then 4 bits and 8 more a byte. */
    unsigned bytes = 1;
    while (body + bytes > (bytes == 1 ? 0x3fu : (1u << (8 * bytes - 4)) - 1))
        bytes++;
    size_t length = body + bytes;
    memmove(aml->data + start + bytes, aml->data + start, body);
    uint8_t *at = aml->data + start;
    if (bytes == 1) {
        at[0] = (uint8_t)length;
    } else {
        at[0] = (uint8_t)((bytes - 1) << 6 | (length & 15));
        for (unsigned i = 1; i < bytes; i++)
            at[i] = (uint8_t)(length >> (8 * i - 4));
    }
    aml->size += bytes;
}

/* --- names (17.2.2) --- */

static size_t segment_length(const char *name)
{
    size_t length = strcspn(name, ".");
    assert(length >= 1 && length <= 4);
    return length;
}

void aml_path(struct aml *aml, const char *name)
{
    if (*name == '\\') {
        put8(aml, '\\');
        name++;
    }
    unsigned count = 1;
    for (const char *c = name; *c; c++)
        count += *c == '.';
    if (*name == 0) {
        put8(aml, AML_NULL_NAME);
        return;
    }
    if (count == 2) {
        put8(aml, OP_DUAL_NAME);
    } else if (count > 2) {
        put8(aml, OP_MULTI_NAME);
        put8(aml, count);
    }
    for (;;) {
        size_t length = segment_length(name);
        put(aml, name, length);
        put(aml, "____", 4 - length);
        name += length;
        if (!*name)
            break;
        name++; /* the dot */
    }
}

void aml_name(struct aml *aml, const char *name)
{
    put8(aml, OP_NAME);
    aml_path(aml, name);
}

/* --- objects --- */

void aml_scope_begin(struct aml *aml, const char *name)
{
    put8(aml, OP_SCOPE);
    begin(aml);
    aml_path(aml, name);
}

void aml_device_begin(struct aml *aml, const char *name)
{
    put8(aml, OP_EXT);
    put8(aml, OP_EXT_DEVICE);
    begin(aml);
    aml_path(aml, name);
}

void aml_method_begin(struct aml *aml, const char *name, unsigned flags)
{
    put8(aml, OP_METHOD);
    begin(aml);
    aml_path(aml, name);
    put8(aml, flags);
}

void aml_package_begin(struct aml *aml, unsigned count)
{
    assert(count <= 255);
    put8(aml, OP_PACKAGE);
    begin(aml);
    put8(aml, count);
}

void aml_if_begin(struct aml *aml)
{
    put8(aml, OP_IF);
    begin(aml);
}

void aml_field_begin(struct aml *aml, const char *region)
{
    put8(aml, OP_EXT);
    put8(aml, OP_EXT_FIELD);
    begin(aml);
    aml_path(aml, region);
    put8(aml, FIELD_BYTE_ACCESS);
}

void aml_field_unit(struct aml *aml, const char *name, unsigned bits)
{
    assert(bits < 64); /* a package length of one byte */
    aml_path(aml, name);
    put8(aml, bits);
}

void aml_op_region(struct aml *aml, const char *name, enum aml_region space, uint64_t offset,
                   uint64_t length)
{
    put8(aml, OP_EXT);
    put8(aml, OP_EXT_REGION);
    aml_path(aml, name);
    put8(aml, space);
    aml_integer(aml, offset);
    aml_integer(aml, length);
}

void aml_processor(struct aml *aml, const char *name, uint8_t id)
{
    put8(aml, OP_EXT);
    put8(aml, OP_EXT_PROCESSOR);
    begin(aml);
    aml_path(aml, name);
    put8(aml, id);
    put_little(aml, 0, 4); /* P_BLK address */
    put8(aml, 0);          /* P_BLK length */
    aml_end(aml);
}

void aml_op(struct aml *aml, unsigned op)
{
    put8(aml, op);
}

void aml_integer(struct aml *aml, uint64_t value)
{
    if (value <= 1) {
        put8(aml, value ? OP_ONE : OP_ZERO);
        return;
    }
    unsigned size = value <= 0xff ? 1 : value <= 0xffff ? 2 : value <= 0xffffffff ? 4 : 8;
    put8(aml, size == 1 ? OP_BYTE : size == 2 ? OP_WORD : size == 4 ? OP_DWORD : OP_QWORD);
    put_little(aml, value, size);
}

void aml_string(struct aml *aml, const char *text)
{
    put8(aml, OP_STRING);
    put(aml, text, strlen(text) + 1);
}

static unsigned hex_digit(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* Three letters of 5 bits and four hexadecimal digits, big-endian, in an integer (19.2.3). */
void aml_eisa_id(struct aml *aml, const char *id)
{
    assert(strlen(id) == 7);
    uint32_t value = 0;
    for (unsigned i = 0; i < 3; i++)
        value = value << 5 | ((unsigned)(id[i] - '@') & 31);
    for (unsigned i = 3; i < 7; i++)
        value = value << 4 | hex_digit(id[i]);
    aml_integer(aml, __builtin_bswap32(value));
}

void aml_buffer(struct aml *aml, const void *data, size_t size)
{
    put8(aml, OP_BUFFER);
    begin(aml);
    aml_integer(aml, size);
    put(aml, data, size);
    aml_end(aml);
}

/* --- resource descriptors (6.4.2 small, 6.4.3 large) --- */

static void res_put(struct aml_resources *res, uint64_t value, unsigned size)
{
    assert(res->size + size <= sizeof(res->bytes));
    for (unsigned i = 0; i < size; i++)
        res->bytes[res->size++] = (uint8_t)(value >> (8 * i));
}

void aml_res_io(struct aml_resources *res, uint16_t port, uint8_t count)
{
    res_put(res, 0x47, 1);
    res_put(res, 1, 1); /* decodes 16 bits */
    res_put(res, port, 2);
    res_put(res, port, 2);
    res_put(res, 1, 1); /* alignment */
    res_put(res, count, 1);
}

void aml_res_irq(struct aml_resources *res, unsigned irq)
{
    res_put(res, 0x22, 1);
    res_put(res, 1u << irq, 2);
}

void aml_res_dma(struct aml_resources *res, unsigned channel)
{
    res_put(res, 0x2a, 1);
    res_put(res, 1u << channel, 1);
    res_put(res, 0, 1); /* 8-bit transfers, not a bus master, compatible timing */
}

void aml_res_interrupts(struct aml_resources *res, const uint8_t *irqs, unsigned count)
{
    res_put(res, 0x89, 1);
    res_put(res, 2 + 4 * count, 2);
    res_put(res, 0x09, 1); /* consumer, level, active high, shared */
    res_put(res, count, 1);
    for (unsigned i = 0; i < count; i++)
        res_put(res, irqs[i], 4);
}

enum { RANGE_MEMORY = 0, RANGE_IO = 1, RANGE_BUS = 2 };
enum { RANGE_FIXED = 0x0c }; /* producer, positive decode, minimum and maximum fixed */

void aml_res_bus_range(struct aml_resources *res, uint16_t min, uint16_t max)
{
    res_put(res, 0x88, 1);
    res_put(res, 13, 2);
    res_put(res, RANGE_BUS, 1);
    res_put(res, RANGE_FIXED, 1);
    res_put(res, 0, 1);
    res_put(res, 0, 2); /* granularity */
    res_put(res, min, 2);
    res_put(res, max, 2);
    res_put(res, 0, 2); /* translation */
    res_put(res, (uint64_t)max - min + 1, 2);
}

void aml_res_io_range(struct aml_resources *res, uint16_t min, uint16_t max)
{
    res_put(res, 0x88, 1);
    res_put(res, 13, 2);
    res_put(res, RANGE_IO, 1);
    res_put(res, RANGE_FIXED, 1);
    res_put(res, 3, 1); /* the entire range */
    res_put(res, 0, 2);
    res_put(res, min, 2);
    res_put(res, max, 2);
    res_put(res, 0, 2);
    res_put(res, (uint64_t)max - min + 1, 2);
}

void aml_res_memory_range(struct aml_resources *res, uint32_t min, uint32_t max)
{
    res_put(res, 0x87, 1);
    res_put(res, 23, 2);
    res_put(res, RANGE_MEMORY, 1);
    res_put(res, RANGE_FIXED, 1);
    res_put(res, 1, 1); /* read-write, not cacheable */
    res_put(res, 0, 4);
    res_put(res, min, 4);
    res_put(res, max, 4);
    res_put(res, 0, 4);
    res_put(res, (uint64_t)max - min + 1, 4);
}

void aml_resources(struct aml *aml, struct aml_resources *res)
{
    res_put(res, 0x79, 1); /* end tag */
    res_put(res, 0, 1);    /* checksum: 0 means valid */
    aml_buffer(aml, res->bytes, res->size);
}
