#include "machine/host_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int host_file_open(struct host_file *file, const char *path, const char *what, struct vd_error *err)
{
    struct stat info;
    file->fd = -1;
    file->path = NULL;
    if (!*path)
        return error_set(err, "%s: the file name is empty", what);
    /* O_NONBLOCK: a FIFO must not hold us up before we know that it is none. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set(err, "%s %s: %s", what, path, strerror(errno));
    if (fstat(fd, &info) < 0) {
        error_set(err, "%s %s: %s", what, path, strerror(errno));
        close(fd);
        return -1;
    }
    if (!S_ISREG(info.st_mode)) {
        close(fd);
        return error_set(err, "%s %s: not a regular file", what, path);
    }
    file->path = strdup(path);
    if (!file->path) {
        close(fd);
        return error_set(err, "%s %s: no memory", what, path);
    }
    file->fd = fd;
    file->size = (uint64_t)info.st_size;
    return 0;
}

int host_file_read(const struct host_file *file, uint64_t offset, void *buffer, size_t size,
                   struct vd_error *err)
{
    uint8_t *at = buffer;
    while (size) {
        ssize_t got = pread(file->fd, at, size, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set(err, "%s: %s", file->path, strerror(errno));
        if (got == 0)
            return error_set(err, "%s: ends at byte %llu", file->path, (unsigned long long)offset);
        at += got;
        offset += (uint64_t)got;
        size -= (size_t)got;
    }
    return 0;
}

void host_file_close(struct host_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    free(file->path);
    file->fd = -1;
    file->path = NULL;
}

int host_file_load(const char *path, const char *what, size_t max, uint8_t **data, size_t *size,
                   struct vd_error *err)
{
    struct host_file file;
    int rc = -1;
    *data = NULL;
    if (host_file_open(&file, path, what, err) < 0)
        return -1;
    if (file.size == 0) {
        error_set(err, "%s %s: empty file", what, path);
    } else if (file.size > max) {
        error_set(err, "%s %s: %llu bytes, more than %zu", what, path,
                  (unsigned long long)file.size, max);
    } else if (!(*data = malloc((size_t)file.size))) {
        error_set(err, "%s %s: no memory", what, path);
    } else {
        *size = (size_t)file.size;
        rc = host_file_read(&file, 0, *data, *size, err);
    }
    host_file_close(&file);
    if (rc < 0) {
        free(*data);
        *data = NULL;
    }
    return rc;
}
