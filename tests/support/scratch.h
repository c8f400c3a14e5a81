/* A test's own directory for files, which goes with everything in it, also after a failure. */
#ifndef VD_TESTS_SUPPORT_SCRATCH_H
#define VD_TESTS_SUPPORT_SCRATCH_H

#include <stddef.h>

enum { SCRATCH_PATH = 256 };

struct scratch {
    char dir[SCRATCH_PATH / 2];
};

/* A new directory in $TMPDIR, or in /tmp. 0, or -1 as fixtures return it. */
int scratch_open(struct scratch *scratch);
int scratch_close(struct scratch *scratch);
/* The path of a file, whether there is one or not. */
void scratch_path(const struct scratch *scratch, const char *name, char path[SCRATCH_PATH]);
/* Makes or replaces the file at path; what fails, fails the test. */
void scratch_write(const char *path, const void *bytes, size_t size);

#endif
