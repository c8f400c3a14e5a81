/*
 * Writes ACPI Machine Language (ACPI specification 3.0b, chapter 17).
 *
 * AML is prefix notation, so a caller writes an expression in order: aml_op(AML_STORE), source,
 * target. Objects with a package length (scopes, devices, methods, packages, ...) are opened with
 * *_begin and closed with aml_end:
 *
 *     aml_device_begin(aml, "RTC_");
 *     aml_name(aml, "_HID");
 *     aml_eisa_id(aml, "PNP0B00");
 *     aml_end(aml);
 *
 * Names are one or more segments of 1..4 characters, "\\" first for an absolute path and dots in
 * between; short segments are padded with '_'.
 */
#ifndef VD_MACHINE_AML_H
#define VD_MACHINE_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { AML_DEPTH_MAX = 16 };

struct aml {
    uint8_t *data; /* from malloc */
    size_t size, capacity;
    size_t open[AML_DEPTH_MAX]; /* where the package lengths go */
    unsigned depth;
    bool failed; /* no memory: everything after is ignored */
};

enum aml_op { /* those that take their operands behind them */
              AML_STORE = 0x70,
              AML_AND = 0x7b,
              AML_OR = 0x7d,
              AML_CREATE_DWORD_FIELD = 0x8a,
              AML_LNOT = 0x92,
              AML_LEQUAL = 0x93,
              AML_LLESS = 0x95,
              AML_RETURN = 0xa4,
};
enum { AML_LOCAL0 = 0x60, AML_ARG0 = 0x68, AML_NULL_NAME = 0x00 }; /* single-byte operands */
enum aml_region { AML_SYSTEM_MEMORY, AML_SYSTEM_IO, AML_PCI_CONFIG };
enum { AML_SERIALIZED = 8 }; /* method flags, with the argument count in bits 2..0 */

void aml_init(struct aml *aml);
void aml_free(struct aml *aml);

void aml_end(struct aml *aml);
void aml_scope_begin(struct aml *aml, const char *name);
void aml_device_begin(struct aml *aml, const char *name);
void aml_method_begin(struct aml *aml, const char *name, unsigned flags);
void aml_package_begin(struct aml *aml, unsigned count); /* at most 255 elements */
void aml_if_begin(struct aml *aml);                      /* the predicate follows */
/* A field of byte-wide accesses; fields follow as aml_field_unit. */
void aml_field_begin(struct aml *aml, const char *region);
void aml_field_unit(struct aml *aml, const char *name, unsigned bits);

void aml_name(struct aml *aml, const char *name); /* Name(name, what follows) */
void aml_path(struct aml *aml, const char *name); /* a reference */
void aml_op(struct aml *aml, unsigned op);        /* enum aml_op, or a single-byte operand */
void aml_integer(struct aml *aml, uint64_t value);
void aml_string(struct aml *aml, const char *text);
void aml_eisa_id(struct aml *aml, const char *id); /* "PNP0A03" */
void aml_buffer(struct aml *aml, const void *data, size_t size);
void aml_op_region(struct aml *aml, const char *name, enum aml_region space, uint64_t offset,
                   uint64_t length);
/* Processor object without a register block. */
void aml_processor(struct aml *aml, const char *name, uint8_t id);

/* --- resource templates (chapter 6.4), built on the side, then written as a buffer --- */

struct aml_resources {
    uint8_t bytes[256];
    size_t size;
};

void aml_res_io(struct aml_resources *res, uint16_t port, uint8_t count);
void aml_res_irq(struct aml_resources *res, unsigned irq); /* edge, high, exclusive */
void aml_res_dma(struct aml_resources *res, unsigned channel);
/* Extended interrupts: level, active high, shared; up to 4. */
void aml_res_interrupts(struct aml_resources *res, const uint8_t *irqs, unsigned count);
/* Ranges that a bridge passes on: [min, max]. */
void aml_res_bus_range(struct aml_resources *res, uint16_t min, uint16_t max);
void aml_res_io_range(struct aml_resources *res, uint16_t min, uint16_t max);
void aml_res_memory_range(struct aml_resources *res, uint32_t min, uint32_t max);
/* Writes the template with its end tag. */
void aml_resources(struct aml *aml, struct aml_resources *res);

#endif
