/*
 * The core of `vedette scan FILE`: what prescan finds in a program ahead of execution. Recognises
 * ELF (32 and 64 bits, executables, shared objects and relocatable files), bzImage, boot sectors
 * and flat binaries; follows direct control flow from every known entry.
 */
#ifndef VD_PRESCAN_SCAN_H
#define VD_PRESCAN_SCAN_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

enum scan_format { SCAN_AUTO, SCAN_FLAT, SCAN_ELF, SCAN_BZIMAGE };

struct scan_options {
    enum scan_format format; /* SCAN_AUTO: by contents; flat only if bits is given */
    unsigned bits;           /* flat: code size 16, 32 or 64; 0: 16 for a boot sector */
    bool has_base, has_entry;
    uint64_t base;    /* flat: address of the first byte; default 0, boot sector 7C00H */
    uint64_t entry;   /* an additional address to start from (flat: instead of the base) */
    bool json;        /* one JSON object instead of text */
    bool no_progress; /* never write a progress line to stderr */
};

/*
 * Scans the file and writes the report to out. Returns 0, or -1 with err (one line that names the
 * file and the reason); nothing was written then, unless out itself failed.
 */
int scan_file(const char *path, const struct scan_options *options, FILE *out,
              struct vd_error *err);

#endif
