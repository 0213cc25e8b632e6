/* Device memory that processes share by descriptors: NCCL between GPUs, symmetric memory, CUDA IPC (ipc.c).
 *
 * The driver checkpoints it, and refuses to restore it. So each process gives back what it has imported too, and imports
 * it again from its owner afterwards. Whose it is no handle says: while everything is held still, owners write a tag of
 * their own over the first bytes of what they have exported, and those that have imported read it there.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device_memory.h"

struct tag {
    uint64_t round;
    uint32_t process, segment;
};

/* What was there before the tags, by number of segment; NULL: no tags are there. */
static struct tag *originals;
static size_t room;

static struct outcome failure(result error, const char *what) { return (struct outcome){.error = error, .failed = what}; }

static int is_tagged(const struct segment *segment) {
    return segment->used && segment->exported && segment->present && !segment->fixed && segment->origin != IMPORTED;
}

static int is_awaited(const struct segment *segment) {
    return segment->used && segment->origin == IMPORTED;
}

void count_shared(uint64_t *exported, uint64_t *imported) {
    *exported = *imported = 0;
    for (int i = 0; i < segment_count; i++) *exported += is_tagged(&segments[i]), *imported += is_awaited(&segments[i]);
}

/* Copies a tag between host and device; through the device's own context. */
static result move_tag(int device, void *host, address at, int to_host) {
    const struct driver *cuda = driver();
    stream on;
    result error = enter_device(device);
    if (error || (error = cuda->cuStreamCreate(&on, STREAM_NON_BLOCKING))) return error;
    if (to_host) error = cuda->cuMemcpyDtoHAsync_v2(host, at, sizeof(struct tag), on);
    else error = cuda->cuMemcpyHtoDAsync_v2(at, host, sizeof(struct tag), on);
    result synchronized = cuda->cuStreamSynchronize(on);
    cuda->cuStreamDestroy_v2(on);
    return error ? error : synchronized;
}

static result tag(int number, uint64_t round) {
    struct segment *segment = &segments[number];
    struct tag mine = {round, (uint32_t)getpid(), (uint32_t)number};
    result error = reach_segment(segment);
    if (error) return error;
    error = move_tag(segment->device, &originals[number], segment->at, 1);
    if (!error) error = move_tag(segment->device, &mine, segment->at, 0);
    leave_reached(segment);
    return error;
}

struct outcome tag_exported(uint64_t round) {
    if (originals) return failure(NOT_INITIALIZED, "tag what it shares twice");
    room = ((size_t)segment_count + 1) * sizeof *originals;
    originals = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (originals == MAP_FAILED) return originals = NULL, failure(OUT_OF_MEMORY, "make room for what it has to note");
    for (int i = 0; i < segment_count; i++) {
        result error = is_tagged(&segments[i]) ? tag(i, round) : SUCCESS;
        if (!error) continue;
        untag_exported();
        return failure(error, "tag the device memory that it shares");
    }
    return (struct outcome){0};
}

static result untag(int number) {
    struct segment *segment = &segments[number];
    result error = reach_segment(segment);
    if (error) return error;
    struct tag found;
    error = move_tag(segment->device, &found, segment->at, 1);
    const int mine = !error && found.segment == (uint32_t)number && found.process == (uint32_t)getpid();
    if (mine) error = move_tag(segment->device, &originals[number], segment->at, 0);
    leave_reached(segment);
    return error;
}

struct outcome untag_exported(void) {
    struct outcome outcome = {0};
    for (int i = 0; originals && i < segment_count; i++) {
        result error = is_tagged(&segments[i]) ? untag(i) : SUCCESS;
        if (error && !outcome.failed) outcome = failure(error, "take the tags off the device memory that it shares");
    }
    if (originals) munmap(originals, room);
    originals = NULL;
    return outcome;
}

struct outcome match_imported(uint64_t round) {
    for (int i = 0; i < segment_count; i++) {
        if (!is_awaited(&segments[i])) continue;
        if (segments[i].fixed) return failure(SUCCESS, "give back memory that it has from another process");
        struct tag found = {0};
        int device;
        const struct mapping *mapping = mapping_that_sees(&segments[i], &device);
        if (!mapping) return failure(SUCCESS, "see memory that it has from another process");
        result error = move_tag(device, &found, mapping->at, 1);
        if (error) return failure(error, "read memory that it has from another process");
        if (found.round != round) return failure(SUCCESS, "find whose memory it has imported");
        segments[i].owner.process = found.process;
        segments[i].owner.segment = found.segment;
    }
    return (struct outcome){0};
}

int next_awaited(uint32_t from) {
    for (uint32_t i = from; i < (uint32_t)segment_count; i++)
        if (is_awaited(&segments[i]) && !segments[i].present) return (int)i;
    return -1;
}

struct outcome export_again(uint32_t number, int *descriptor) {
    if (number >= (uint32_t)segment_count || !is_tagged(&segments[number]))
        return failure(SUCCESS, "share memory that it does not have");
    result error = driver()->cuMemExportToShareableHandle(descriptor, segments[number].memory, HANDLE_IS_DESCRIPTOR, 0);
    return error ? failure(error, "share its memory again") : (struct outcome){0};
}

struct outcome import_again(uint32_t number, int descriptor) {
    if (number >= (uint32_t)segment_count || !is_awaited(&segments[number]) || segments[number].present || descriptor < 0)
        return failure(SUCCESS, "import what it does not wait for");
    expect_instance(segments[number].instance);
    result error = import_memory(&segments[number], descriptor);
    expect_instance(0);
    segments[number].instance = imported_instance();
    return error ? failure(error, "have another process's memory again") : (struct outcome){0};
}
