#include "native_memory.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void *map_at(uint64_t address, size_t size, int protection, int fd, off_t offset)
{
    void *p = mmap((void *)(uintptr_t)address, size, protection,
                   MAP_SHARED | MAP_POPULATE | (address ? MAP_FIXED_NOREPLACE : 0), fd, offset);
    if (p == MAP_FAILED) {
        perror("insn-diff: mmap");
        _exit(1);
    }
    return p;
}

void native_memory_map(struct native_memory *m)
{
    int fd = memfd_create("insn", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, CODE_BYTES + MEMORY_BYTES) < 0)
        _exit(1);
    for (uint64_t high = 0; high <= LINEAR_HIGH; high += LINEAR_HIGH) {
        map_at(high + LINEAR_CODE, CODE_BYTES, PROT_READ | PROT_EXEC, fd, 0);
        map_at(high + LINEAR_DATA, DATA_WRITABLE, PROT_READ | PROT_WRITE, fd, CODE_BYTES);
        map_at(high + LINEAR_DATA + DATA_WRITABLE, PAGE, PROT_READ, fd, CODE_BYTES + DATA_WRITABLE);
        map_at(high + LINEAR_STACK, STACK_BYTES, PROT_READ | PROT_WRITE, fd,
               CODE_BYTES + DATA_BYTES);
    }
    m->alias = map_at(0, CODE_BYTES + MEMORY_BYTES, PROT_READ | PROT_WRITE, fd, 0);
    memset(m->rights, RIGHTS_USUAL, sizeof(m->rights));
    close(fd);
    mlockall(MCL_CURRENT); /* a page fault of the host's own would show as an exception */
}

static uint64_t page_linear(unsigned number)
{
    if (number >= FIRST_CODE_PAGE)
        return LINEAR_CODE + (number - FIRST_CODE_PAGE) * (uint64_t)PAGE;
    if (number >= DATA_PAGES)
        return LINEAR_STACK + (number - DATA_PAGES) * (uint64_t)PAGE;
    return LINEAR_DATA + number * (uint64_t)PAGE;
}

static int protection(unsigned number, enum page_rights rights)
{
    if (rights >= RIGHTS_ABSENT)
        return PROT_NONE;
    bool exec = number >= FIRST_CODE_PAGE && rights != RIGHTS_READ;
    return PROT_READ | (page_writable(number, rights) ? PROT_WRITE : 0) | (exec ? PROT_EXEC : 0);
}

void native_memory_protect(struct native_memory *m, const struct insn_case *c)
{
    if (!memcmp(m->rights, c->rights, sizeof(m->rights)))
        return;
    for (unsigned i = 0; i < ALL_PAGES; i++) {
        int wanted = protection(i, c->rights[i]);
        if (wanted == protection(i, m->rights[i]))
            continue;
        for (uint64_t high = 0; high <= LINEAR_HIGH; high += LINEAR_HIGH) {
            if (mprotect((void *)(uintptr_t)(high + page_linear(i)), PAGE, wanted) < 0) {
                perror("insn-diff: mprotect");
                _exit(1);
            }
        }
    }
    memcpy(m->rights, c->rights, sizeof(m->rights));
}
