/* The worker's larger allocations, made of an address range and memory that is mapped there: the range outlives a
 * checkpoint, so that pointers, CUDA graphs and captured kernels stay true, and the memory can be given back for it. */
#define _GNU_SOURCE
#include <pthread.h>
#include <time.h>

#include "device_memory.h"

struct segment segments[MOST_SEGMENTS];
int segment_count;
static pthread_mutex_t table = PTHREAD_MUTEX_INITIALIZER;

void renew_table_in_child(void) { table = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER; }

int take_segments(int ms) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += ms / 1000;
    end.tv_nsec += ms % 1000 * 1000000L;
    if (end.tv_nsec >= 1000000000L) end.tv_sec++, end.tv_nsec -= 1000000000L;
    return pthread_mutex_timedlock(&table, &end) == 0;
}

void leave_segments(void) { pthread_mutex_unlock(&table); }

/* The device that an allocation in the current context is to be ours on, -1 if it is the driver's; and what counts for
 * memory there. */
static int is_to_be_ours(const struct driver *cuda, size_t *granularity, uint32_t *changes) {
    if (!cuda) return -1;
    pthread_mutex_lock(&table);
    int number = device_to_allocate_on(cuda);
    if (number >= 0) *granularity = devices[number].granularity;
    *changes = peer_changes;
    pthread_mutex_unlock(&table);
    return number;
}

static int remember(const struct segment *segment) {
    pthread_mutex_lock(&table);
    int i = 0;
    while (i < segment_count && segments[i].used) i++;
    int fits = i < MOST_SEGMENTS;
    if (fits) segments[i] = *segment;
    if (fits && i == segment_count) segment_count++;
    pthread_mutex_unlock(&table);
    return fits ? 0 : -1;
}

static result set_access(const struct segment *segment) {
    struct access list[MOST_DEVICES];
    return driver()->cuMemSetAccess(segment->at, segment->size, list, access_to(segment->device, list));
}

/* Maps memory that is there, or lets go of it. */
static result map_memory(struct segment *segment) {
    const struct driver *cuda = driver();
    result error = cuda->cuMemMap(segment->at, segment->size, 0, segment->memory, 0);
    if (!error) {
        segment->mapped = 1;
        error = set_access(segment);
    }
    if (error && segment->mapped) unmap_segment(segment);
    else if (error) cuda->cuMemRelease(segment->memory);
    return error;
}

result map_segment(struct segment *segment) {
    const struct properties *properties = &devices[segment->device].properties;
    result error = driver()->cuMemCreate(&segment->memory, segment->size, properties, 0);
    return error ? error : map_memory(segment);
}

/* What is on another device is none of this segment's: what names a card may name another after a restore. */
static int is_elsewhere(const struct segment *segment) {
    struct properties found;
    return driver()->cuMemGetAllocationPropertiesFromHandle(&found, segment->memory) == SUCCESS &&
           found.location.id != segment->device;
}

result import_segment(struct segment *segment, int descriptor) {
    const struct driver *cuda = driver();
    result error = cuda->cuMemAddressReserve(&segment->at, segment->size, 0, 0, 0);
    if (error) return error;
    error = cuda->cuMemImportFromShareableHandle(&segment->memory, (void *)(intptr_t)descriptor, HANDLE_IS_DESCRIPTOR);
    if (!error && is_elsewhere(segment)) {
        cuda->cuMemRelease(segment->memory);
        error = NOT_INITIALIZED;
    } else if (!error) {
        error = map_memory(segment);
    }
    if (error) cuda->cuMemAddressFree(segment->at, segment->size);
    return error;
}

void drop_segment(struct segment *segment) {
    unmap_segment(segment);
    driver()->cuMemAddressFree(segment->at, segment->size);
}

result unmap_segment(struct segment *segment) {
    const struct driver *cuda = driver();
    result unmapped = cuda->cuMemUnmap(segment->at, segment->size);
    if (unmapped) return unmapped;
    segment->mapped = 0;
    return cuda->cuMemRelease(segment->memory);
}

/* Takes the segment at an address out of the table; 0 if there is none. */
static int forget(address at, struct segment *found) {
    int known = 0;
    pthread_mutex_lock(&table);
    for (int i = 0; i < segment_count && !known; i++) {
        if (!segments[i].used || segments[i].at != at) continue;
        *found = segments[i];
        segments[i].used = 0;
        known = 1;
    }
    pthread_mutex_unlock(&table);
    return known;
}

/* A device that was given access since the memory was mapped, and before it was in the table, lacks it. */
static result catch_up(const struct segment *segment, uint32_t changes) {
    pthread_mutex_lock(&table);
    result error = changes == peer_changes ? SUCCESS : set_access(segment);
    pthread_mutex_unlock(&table);
    return error;
}

static result give_up(struct segment *made) {
    if (made->mapped) unmap_segment(made);
    driver()->cuMemAddressFree(made->at, made->size);
    return OUT_OF_MEMORY;
}

result allocate(address *at, size_t size) {
    const struct driver *cuda = driver();
    size_t granularity;
    uint32_t changes;
    struct segment made = {.used = 1, .device = is_to_be_ours(cuda, &granularity, &changes)};
    if (made.device < 0) return NOT_INITIALIZED;
    made.size = (size + granularity - 1) / granularity * granularity;
    if (made.size < size || cuda->cuMemAddressReserve(&made.at, made.size, 0, 0, 0)) return OUT_OF_MEMORY;
    if (map_segment(&made) || remember(&made)) return give_up(&made);
    if (catch_up(&made, changes)) return forget(made.at, &made), give_up(&made);
    *at = made.at;
    return SUCCESS;
}

/* Finds the segment that an address is in, and its context; 0 if there is none. */
static int find(address at, struct segment *found, context *owner) {
    int known = 0;
    if (!segment_count) return 0; /* before the first there is nothing to hold still, nor a child that knows of us */
    pthread_mutex_lock(&table);
    for (int i = 0; i < segment_count && !known; i++) {
        known = segments[i].used && at >= segments[i].at && at < segments[i].at + segments[i].size;
        if (known) *found = segments[i], *owner = devices[found->device].owner;
    }
    pthread_mutex_unlock(&table);
    return known;
}

int is_ours(address at) {
    struct segment found;
    context owner;
    return find(at, &found, &owner);
}

context context_at(address at) {
    const struct driver *cuda = driver();
    struct segment found;
    context owner = NULL;
    int type = 0;
    if (find(at, &found, &owner)) return owner;
    if (cuda->cuPointerGetAttribute(&type, POINTER_MEMORY_TYPE, at) || type != ON_DEVICE) return NULL;
    if (!cuda->cuPointerGetAttribute(&owner, POINTER_CONTEXT, at) && owner) return owner;
    int number = -1; /* memory of a pool, or that the worker has mapped: of no context */
    if (cuda->cuPointerGetAttribute(&number, POINTER_DEVICE, at) || number < 0 || number >= MOST_DEVICES) return NULL;
    return devices[number].owner;
}

/* As the driver's own does: what was launched before may still use the memory, whichever context is current now. */
static result await_context(const struct driver *cuda, context owner) {
    context current = NULL;
    cuda->cuCtxGetCurrent(&current);
    if (current != owner) cuda->cuCtxSetCurrent(owner);
    result error = cuda->cuCtxSynchronize();
    if (current != owner) cuda->cuCtxSetCurrent(current);
    return error;
}

result release_at(address at) {
    struct segment found;
    context owner;
    if (!find(at, &found, &owner)) return -1;
    result error = await_context(driver(), owner);
    if (error) return error;
    if (!forget(at, &found)) return -1;
    error = unmap_segment(&found);
    return error ? error : driver()->cuMemAddressFree(found.at, found.size);
}

result look_into(context to) {
    pthread_mutex_lock(&table);
    result error = note_peer(to);
    pthread_mutex_unlock(&table);
    return error;
}

void look_away(context to) {
    pthread_mutex_lock(&table);
    forget_peer(to);
    pthread_mutex_unlock(&table);
}

static void free_all_of(int device) {
    const struct driver *cuda = driver();
    await_context(cuda, devices[device].owner);
    for (int i = 0; i < segment_count; i++) {
        struct segment found;
        if (!segments[i].used || segments[i].device != device || !forget(segments[i].at, &found)) continue;
        if (found.mapped) unmap_segment(&found);
        cuda->cuMemAddressFree(found.at, found.size);
    }
}

/* The driver frees a context's allocations with it; ours it does not know. */
void forget_context(context ended) {
    if (!driver()) return;
    for (int i = 0; i < MOST_DEVICES; i++)
        if (ended && devices[i].owner == ended) free_all_of(i);
    pthread_mutex_lock(&table);
    forget_owner(ended);
    pthread_mutex_unlock(&table);
}
