/* The worker's larger allocations, made of an address range and memory that is mapped there: the range outlives a
 * checkpoint, so that pointers, CUDA graphs and captured kernels stay true, and the memory can be given back for it. */
#define _GNU_SOURCE
#include <pthread.h>
#include <time.h>

#include "device_memory.h"

struct segment segments[MOST_SEGMENTS];
int segment_count;
static pthread_mutex_t table = PTHREAD_MUTEX_INITIALIZER;
static context owner; /* allocations in other contexts are left to the driver */
static struct properties properties;
static size_t granularity; /* 0: nothing has been converted yet */
static int stands_back;

int take_segments(int ms) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += ms / 1000;
    end.tv_nsec += ms % 1000 * 1000000L;
    if (end.tv_nsec >= 1000000000L) end.tv_sec++, end.tv_nsec -= 1000000000L;
    return pthread_mutex_timedlock(&table, &end) == 0;
}

void leave_segments(void) { pthread_mutex_unlock(&table); }

context segment_context(void) { return owner; }

/* One device, and one that can map memory: with several, memory would have to be mapped for each that may look at it. */
static int describe_device(const struct driver *cuda) {
    int count = 0, device = 0, maps = 0, rdma = 0;
    if (cuda->cuDeviceGetCount(&count) || count != 1 || cuda->cuCtxGetDevice(&device)) return -1;
    if (cuda->cuDeviceGetAttribute(&maps, ATTRIBUTE_VIRTUAL_MEMORY, device) || !maps) return -1;
    cuda->cuDeviceGetAttribute(&rdma, ATTRIBUTE_RDMA_WITH_VIRTUAL_MEMORY, device);
    properties = (struct properties){.type = ALLOCATION_PINNED, .location = {LOCATION_DEVICE, device}};
    properties.flags.rdma = rdma != 0;
    size_t pages = 0;
    if (cuda->cuMemGetAllocationGranularity(&pages, &properties, GRANULARITY_RECOMMENDED) || !pages) return -1;
    granularity = pages < UNIT ? UNIT : pages;
    return granularity % UNIT ? -1 : 0;
}

/* Whether an allocation in the current context is to be ours; the first decides which context that is. */
static int is_to_be_ours(const struct driver *cuda) {
    context current = NULL;
    if (!cuda || cuda->cuCtxGetCurrent(&current) || !current) return 0;
    pthread_mutex_lock(&table);
    if (!owner && !stands_back) {
        stands_back = describe_device(cuda) != 0 || start_threads() != 0;
        if (!stands_back) owner = current;
    }
    int ours = owner == current;
    pthread_mutex_unlock(&table);
    return ours;
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

/* Maps memory that is there, or lets go of it. */
static result map_memory(struct segment *segment) {
    const struct driver *cuda = driver();
    const struct access access = {properties.location, ACCESS_READ_WRITE};
    result error = cuda->cuMemMap(segment->at, segment->size, 0, segment->memory, 0);
    if (!error) {
        segment->mapped = 1;
        error = cuda->cuMemSetAccess(segment->at, segment->size, &access, 1);
    }
    if (error && segment->mapped) unmap_segment(segment);
    else if (error) cuda->cuMemRelease(segment->memory);
    return error;
}

result map_segment(struct segment *segment) {
    result error = driver()->cuMemCreate(&segment->memory, segment->size, &properties, 0);
    return error ? error : map_memory(segment);
}

result import_segment(struct segment *segment, int descriptor) {
    const struct driver *cuda = driver();
    result error = cuda->cuMemAddressReserve(&segment->at, segment->size, 0, 0, 0);
    if (error) return error;
    error = cuda->cuMemImportFromShareableHandle(&segment->memory, (void *)(intptr_t)descriptor, HANDLE_IS_DESCRIPTOR);
    if (!error) error = map_memory(segment);
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

result allocate(address *at, size_t size) {
    const struct driver *cuda = driver();
    if (!is_to_be_ours(cuda)) return NOT_INITIALIZED;
    struct segment made = {.size = (size + granularity - 1) / granularity * granularity, .used = 1};
    if (made.size < size || cuda->cuMemAddressReserve(&made.at, made.size, 0, 0, 0)) return OUT_OF_MEMORY;
    if (map_segment(&made)) {
        cuda->cuMemAddressFree(made.at, made.size);
        return OUT_OF_MEMORY;
    }
    if (remember(&made)) {
        unmap_segment(&made);
        cuda->cuMemAddressFree(made.at, made.size);
        return OUT_OF_MEMORY;
    }
    *at = made.at;
    return SUCCESS;
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

int is_ours(address at) {
    int known = 0;
    pthread_mutex_lock(&table);
    for (int i = 0; i < segment_count && !known; i++)
        known = segments[i].used && at >= segments[i].at && at < segments[i].at + segments[i].size;
    pthread_mutex_unlock(&table);
    return known;
}

/* As the driver's own does: what was launched before may still use the memory, whichever context is current now. */
static result await_owner(const struct driver *cuda) {
    context current = NULL;
    cuda->cuCtxGetCurrent(&current);
    if (current != owner) cuda->cuCtxSetCurrent(owner);
    result error = cuda->cuCtxSynchronize();
    if (current != owner) cuda->cuCtxSetCurrent(current);
    return error;
}

result release_at(address at) {
    struct segment found;
    if (!is_ours(at)) return -1;
    result error = await_owner(driver());
    if (error) return error;
    if (!forget(at, &found)) return -1;
    error = unmap_segment(&found);
    return error ? error : driver()->cuMemAddressFree(found.at, found.size);
}

/* The driver frees a context's allocations with it; ours it does not know. NULL: whichever it is. */
void forget_context(context ended) {
    const struct driver *cuda = driver();
    if (!cuda || !owner || (ended && ended != owner)) return;
    await_owner(cuda);
    for (int i = 0; i < segment_count; i++) {
        struct segment found;
        if (!segments[i].used || !forget(segments[i].at, &found)) continue;
        if (found.mapped) unmap_segment(&found);
        cuda->cuMemAddressFree(found.at, found.size);
    }
    pthread_mutex_lock(&table);
    owner = NULL; /* the next context that allocates */
    pthread_mutex_unlock(&table);
}
