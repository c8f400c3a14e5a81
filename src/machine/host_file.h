/* Reading host files: one-line errors that name the file, no mapping that could fault later. */
#ifndef VD_MACHINE_HOST_FILE_H
#define VD_MACHINE_HOST_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct host_file {
    int fd; /* -1: closed */
    uint64_t size;
    char *path;
};

/* Opens a regular file for reading; what says what it is for, in errors ("kernel"). -1. */
int host_file_open(struct host_file *file, const char *path, const char *what,
                   struct vd_error *err);
/* Exactly size bytes at offset. -1: the file cannot be read or became shorter. */
int host_file_read(const struct host_file *file, uint64_t offset, void *buffer, size_t size,
                   struct vd_error *err);
void host_file_close(struct host_file *file);
/* The whole file in memory from malloc. -1: unreadable, empty, or larger than max bytes. */
int host_file_load(const char *path, const char *what, size_t max, uint8_t **data, size_t *size,
                   struct vd_error *err);

#endif
