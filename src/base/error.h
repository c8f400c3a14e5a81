/*
 * Host failures: returned up the stack as -1 with a text in struct vd_error.
 *
 * Three kinds of error are never mixed: our own bug is an assert, a host failure is a vd_error, a
 * guest fault is data (struct x86_fault).
 */
#ifndef VD_BASE_ERROR_H
#define VD_BASE_ERROR_H

#include <stddef.h>

struct vd_error {
    char text[512]; /* one line, no newline, names the file and the reason */
};

/* Formats the text (err may be NULL) and returns -1, so callers write "return error_set(...)". */
int error_set(struct vd_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
