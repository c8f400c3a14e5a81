#include "codecache/code_memory.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int code_memory_init(struct code_memory *memory, size_t size, uint32_t cell_capacity,
                     struct vd_error *err)
{
    memset(memory, 0, sizeof(*memory));
    int fd = memfd_create("vedette-code", MFD_CLOEXEC);
    if (fd < 0)
        return error_set(err, "code cache: cannot create memory: %s", strerror(errno));
    int status = -1;
    size_t cell_bytes = ((size_t)cell_capacity * sizeof(uint64_t) + 4095) & ~(size_t)4095;
    /* One address range holds cells and code, so RIP-relative displacements always fit. */
    uint8_t *range = MAP_FAILED;
    void *writable = MAP_FAILED;
    if (ftruncate(fd, (off_t)size) < 0) {
        error_set(err, "code cache: cannot size memory: %s", strerror(errno));
        goto out;
    }
    range = mmap(NULL, cell_bytes + size, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    writable = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (range == MAP_FAILED || writable == MAP_FAILED ||
        mmap(range + cell_bytes, size, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd, 0) ==
            MAP_FAILED) {
        error_set(err, "code cache: cannot map %zu bytes: %s", size, strerror(errno));
        goto out;
    }
    memory->cells = (uint64_t *)(void *)range;
    memory->exec = range + cell_bytes;
    memory->write = writable;
    memory->size = size;
    memory->cell_capacity = cell_capacity;
    status = 0;
out:
    if (status < 0 && range != MAP_FAILED)
        munmap(range, cell_bytes + size);
    if (status < 0 && writable != MAP_FAILED)
        munmap(writable, size);
    close(fd);
    return status;
}

void code_memory_free(struct code_memory *memory)
{
    if (!memory->write)
        return;
    munmap(memory->write, memory->size);
    munmap(memory->cells, (size_t)(memory->exec - (uint8_t *)memory->cells) + memory->size);
    memset(memory, 0, sizeof(*memory));
}

size_t code_memory_reserve(struct code_memory *memory, size_t size)
{
    assert(memory->reserved == 0);
    if (memory->size - memory->used < size)
        return SIZE_MAX;
    memory->reserved = size;
    return memory->used;
}

void code_memory_commit(struct code_memory *memory, size_t size)
{
    assert(size <= memory->reserved);
    memory->used += (size + 15) & ~(size_t)15;
    if (memory->used > memory->size)
        memory->used = memory->size;
    memory->reserved = 0;
}

void code_memory_fix(struct code_memory *memory)
{
    memory->fixed = memory->used;
}

void code_memory_reset(struct code_memory *memory)
{
    assert(memory->reserved == 0);
    memory->used = memory->fixed;
    memory->cell_count = 0;
}

uint32_t code_memory_cell(struct code_memory *memory)
{
    return memory->cell_count < memory->cell_capacity ? memory->cell_count++ : UINT32_MAX;
}
