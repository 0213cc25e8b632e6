/* Device memory that is ours to take out, and give back: the worker's larger allocations, which we make of an address range
 * and memory that is mapped there, and what it maps by itself (mapped.c). The addresses outlive a checkpoint, so that
 * pointers, CUDA graphs and captured kernels stay true, and the memory can be given back for it. */
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

void wait_for_segments(void) { pthread_mutex_lock(&table); }

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

int add_segment(const struct segment *segment) {
    static uint32_t serials;
    int i = 0;
    while (i < segment_count && segments[i].used) i++;
    if (i == MOST_SEGMENTS) return -1;
    segments[i] = *segment;
    segments[i].serial = ++serials;
    if (i == segment_count) segment_count++;
    return i;
}

static int remember(const struct segment *segment) {
    pthread_mutex_lock(&table);
    int number = add_segment(segment);
    pthread_mutex_unlock(&table);
    return number;
}

/* ----------------------------------------------------------------------------------------------------- come and go */

uint32_t units_of(const struct segment *segment) {
    const int moves = segment->used && !segment->fixed && segment->origin != IMPORTED;
    return moves ? (uint32_t)(segment->size / UNIT) : 0;
}

static result set_access(const struct segment *segment) {
    struct access list[MOST_DEVICES];
    return driver()->cuMemSetAccess(segment->at, segment->size, list, access_to(segment->device, list));
}

static result map_at(const struct segment *segment) {
    result error = driver()->cuMemMap(segment->at, segment->size, 0, segment->memory, 0);
    if (!error && (error = set_access(segment))) driver()->cuMemUnmap(segment->at, segment->size);
    return error;
}

/* Maps memory that is there, or lets go of it. */
static result map_memory(struct segment *segment) {
    result error = segment->origin == ALLOCATED ? map_at(segment) : SUCCESS;
    if (!error && (error = map_again(segment)) && segment->origin == ALLOCATED)
        driver()->cuMemUnmap(segment->at, segment->size);
    if (error) driver()->cuMemRelease(segment->memory);
    segment->present = !error;
    return error;
}

/* A handle for a fabric of several hosts may have been asked for, and this machine may be in none. */
static result create(struct segment *segment) {
    struct properties properties = segment->properties;
    result error = driver()->cuMemCreate(&segment->memory, segment->size, &properties, 0);
    if (!error || error == OUT_OF_MEMORY || !(properties.handle_types & HANDLE_IS_FABRIC)) return error;
    properties.handle_types &= ~HANDLE_IS_FABRIC;
    return driver()->cuMemCreate(&segment->memory, segment->size, &properties, 0);
}

result map_segment(struct segment *segment) {
    result error = create(segment);
    return error ? error : map_memory(segment);
}

result import_memory(struct segment *segment, int descriptor) {
    void *const shared = (void *)(intptr_t)descriptor;
    result error = driver()->cuMemImportFromShareableHandle(&segment->memory, shared, HANDLE_IS_DESCRIPTOR);
    return error ? error : map_memory(segment);
}

result make_segment(struct segment *segment) {
    const struct driver *cuda = driver();
    result error = cuda->cuMemAddressReserve(&segment->at, segment->size, 0, 0, 0);
    if (!error && (error = map_segment(segment))) cuda->cuMemAddressFree(segment->at, segment->size);
    return error;
}

void drop_segment(struct segment *segment) {
    unmap_segment(segment);
    driver()->cuMemAddressFree(segment->at, segment->size);
}

result unmap_segment(struct segment *segment) {
    result error = unmap_all_of(segment);
    if (!error && segment->origin == ALLOCATED) error = driver()->cuMemUnmap(segment->at, segment->size);
    if (error) return error;
    segment->present = 0;
    return driver()->cuMemRelease(segment->memory);
}

/* ----------------------------------------------------------------------------------------------- the worker's calls */

/* A device that was given access since the memory was mapped, and before it was in the table, lacks it. */
static result catch_up(const struct segment *segment, uint32_t changes) {
    pthread_mutex_lock(&table);
    result error = changes == peer_changes ? SUCCESS : set_access(segment);
    pthread_mutex_unlock(&table);
    return error;
}

static result give_up(struct segment *made) {
    drop_segment(made);
    return OUT_OF_MEMORY;
}

result allocate(address *at, size_t size, int discardable) {
    const struct driver *cuda = driver();
    size_t granularity;
    uint32_t changes;
    int number;
    struct segment made = {.used = 1, .discardable = discardable};
    made.device = is_to_be_ours(cuda, &granularity, &changes);
    if (made.device < 0) return NOT_INITIALIZED;
    made.properties = devices[made.device].properties;
    made.size = (size + granularity - 1) / granularity * granularity;
    if (made.size < size || make_segment(&made)) return OUT_OF_MEMORY;
    if ((number = remember(&made)) < 0) return give_up(&made);
    if (catch_up(&made, changes)) {
        pthread_mutex_lock(&table);
        segments[number].used = 0;
        pthread_mutex_unlock(&table);
        return give_up(&made);
    }
    *at = made.at;
    return SUCCESS;
}

static int holds(const struct segment *segment, address at) {
    return segment->used && segment->origin == ALLOCATED && at >= segment->at && at < segment->at + segment->size;
}

int segment_around(address at) {
    for (int i = 0; i < segment_count; i++)
        if (holds(&segments[i], at)) return i;
    return -1;
}

/* Finds the allocation that an address is in, and its context; 0 if there is none. */
static int find(address at, struct segment *found, context *owner) {
    if (!segment_count) return 0; /* before the first there is nothing to hold still, nor a child that knows of us */
    pthread_mutex_lock(&table);
    int number = segment_around(at);
    if (number >= 0) *found = segments[number], *owner = devices[found->device].owner;
    pthread_mutex_unlock(&table);
    return number >= 0;
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

/* Takes the allocation at an address out of the table; 0 if there is none. What the worker has a handle to, or has mapped
 * elsewhere too, stays as memory that it made by itself, and is kept like that. */
static int forget(address at, struct segment *found) {
    int number = 0;
    pthread_mutex_lock(&table);
    while (number < segment_count && !(holds(&segments[number], at) && segments[number].at == at)) number++;
    int known = number < segment_count;
    if (known) {
        *found = segments[number];
        const int stays = found->references || found->first_mapping;
        if (stays) segments[number].origin = CREATED, segments[number].at = 0, segments[number].discardable = 0;
        else segments[number].used = 0;
    }
    pthread_mutex_unlock(&table);
    return known;
}

/* Gives back what was taken out of the table: its addresses, and its memory if nothing else is left of it. */
static result free_forgotten(const struct segment *found) {
    const struct driver *cuda = driver();
    result error = found->present ? cuda->cuMemUnmap(found->at, found->size) : SUCCESS;
    if (!error && found->present && !found->references && !found->first_mapping) error = cuda->cuMemRelease(found->memory);
    return error ? error : cuda->cuMemAddressFree(found->at, found->size);
}

result release_at(address at) {
    struct segment found;
    context owner;
    if (!find(at, &found, &owner)) return -1;
    result error = await_context(driver(), owner);
    if (error) return error;
    return forget(at, &found) ? free_forgotten(&found) : -1;
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
    await_context(driver(), devices[device].owner);
    for (int i = 0; i < segment_count; i++) {
        struct segment found;
        if (!segments[i].used || segments[i].origin != ALLOCATED || segments[i].device != device) continue;
        if (forget(segments[i].at, &found)) free_forgotten(&found);
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
