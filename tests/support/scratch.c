// clang-format off
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
// clang-format on

#include "support/scratch.h"

enum { OPEN_DIRECTORIES = 8 };

int scratch_open(struct scratch *scratch)
{
    const char *parent = getenv("TMPDIR");
    int length = snprintf(scratch->dir, sizeof(scratch->dir), "%s/vedette-test-XXXXXX",
                          parent ? parent : "/tmp");
    if (length < 0 || (size_t)length >= sizeof(scratch->dir))
        return -1;
    return mkdtemp(scratch->dir) ? 0 : -1;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status;
    (void)type;
    (void)place;
    return remove(path);
}

int scratch_close(struct scratch *scratch)
{
    return nftw(scratch->dir, remove_entry, OPEN_DIRECTORIES, FTW_DEPTH | FTW_PHYS);
}

void scratch_path(const struct scratch *scratch, const char *name, char path[SCRATCH_PATH])
{
    int length = snprintf(path, SCRATCH_PATH, "%s/%s", scratch->dir, name);
    assert_in_range(length, 1, SCRATCH_PATH - 1);
}

void scratch_write(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}
