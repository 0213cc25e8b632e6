/* A worker that is restored needs every file that it has mapped, byte for byte, where it was. This library is another one
 * after each upgrade, so it leaves its own: each of its mappings is replaced by memory with the same content. */
#define _GNU_SOURCE
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device_memory.h"

enum { MOST_PARTS = 16 };

struct part {
    uintptr_t start, end;
    int protection;
};
struct own {
    struct part parts[MOST_PARTS];
    int count;
};

static int protection_of(const ElfW(Phdr) * header) {
    return (header->p_flags & PF_R ? PROT_READ : 0) | (header->p_flags & PF_W ? PROT_WRITE : 0) |
           (header->p_flags & PF_X ? PROT_EXEC : 0);
}

static int collect(struct dl_phdr_info *object, size_t size, void *into) {
    struct own *own = into;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), here = (uintptr_t)collect;
    int is_ours = 0;
    (void)size;
    own->count = 0;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &object->dlpi_phdr[i];
        if (header->p_type != PT_LOAD || own->count == MOST_PARTS) continue;
        uintptr_t start = object->dlpi_addr + header->p_vaddr, end = start + header->p_filesz;
        own->parts[own->count++] =
            (struct part){start & ~(page - 1), (end + page - 1) & ~(page - 1), protection_of(header)};
        is_ours |= start <= here && here < end;
    }
    return is_ours;
}

/* What the loader made read-only after it had filled it in stays writable: there is no secret in a jump table of ours. */
static void replace(const struct part *part) {
    size_t size = part->end - part->start;
    if (!size) return;
    void *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED) return;
    memcpy(copy, (void *)part->start, size);
    /* Where memory may not become code, the file stays: the restored worker then needs it. */
    if (mprotect(copy, size, part->protection) ||
        mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)part->start) == MAP_FAILED)
        munmap(copy, size);
}

void detach_from_file(void) {
    struct own own;
    if (!dl_iterate_phdr(collect, &own)) return;
    for (int i = 0; i < own.count; i++) replace(&own.parts[i]);
}
