/* Lends device memory to the agent, which reads from it what another worker of the same artifact is to have: between two
 * cards that is several times as fast as from the host. The worker goes on meanwhile, and may have changed the memory
 * since it was loaded: the agent compares what it has read with sums of the files.
 */
#define _GNU_SOURCE
#include <unistd.h>

#include "device_memory.h"

static int is_lent(const struct segment *segment, uint64_t least) {
    return segment->used && segment->present && segment->loaded && !segment->fixed && !segment->is_on_host &&
           segment->origin != IMPORTED && segment->properties.handle_types & HANDLE_IS_DESCRIPTOR && segment->size >= least;
}

int next_lent(uint32_t from, uint64_t least) {
    for (uint32_t i = from; i < (uint32_t)segment_count; i++)
        if (is_lent(&segments[i], least)) return (int)i;
    return -1;
}

/* A thread that captures a CUDA graph may forbid all others of its process what could spoil it. */
struct outcome lend(int number, int *descriptor) {
    if (is_recording()) return (struct outcome){.error = CAPTURE_UNSUPPORTED, .failed = "lend memory while it captures a CUDA graph"};
    result error = driver()->cuMemExportToShareableHandle(descriptor, segments[number].memory, HANDLE_IS_DESCRIPTOR, 0);
    return (struct outcome){.error = error, .failed = error ? "lend its memory" : NULL};
}

struct outcome write_places(int file, uint64_t *units) {
    uint32_t count;
    const char *places = (const char *)saved_places(&count);
    const size_t size = count * sizeof(uint32_t);
    const struct outcome failure = {.error = OUT_OF_MEMORY, .failed = "write where its memory was saved"};
    if (file < 0) return failure;
    for (size_t done = 0; done < size;) {
        const ssize_t written = pwrite(file, places + done, size - done, (off_t)done);
        if (written <= 0) return failure;
        done += (size_t)written;
    }
    *units = count;
    return (struct outcome){0};
}
