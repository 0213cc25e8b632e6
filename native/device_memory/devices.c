/* The devices that the worker allocates on by us, each in one context, and which of them look into another's memory.
 *
 * Memory that is mapped is there for the devices that it was mapped for alone, while memory of the driver's own is there
 * for each that was given peer access. So that is noted here, and what is mapped is mapped for those devices too.
 */
#define _GNU_SOURCE
#include <stdio.h>

#include "device_memory.h"

enum { MOST_PEERS = MOST_DEVICES * MOST_DEVICES };

/* `from`, a context on device `by`, looks into the memory of context `to`, on device `of`. */
struct peer {
    context from, to;
    int by, of, on;
};

struct device devices[MOST_DEVICES];
static struct peer peers[MOST_PEERS];
static int peer_count;
uint32_t peer_changes;

/* One that can map memory, in a granularity that goes with ours. */
static int describe(const struct driver *cuda, int number, struct device *device) {
    int maps = 0, rdma = 0, exports = 0;
    if (cuda->cuDeviceGetAttribute(&maps, ATTRIBUTE_VIRTUAL_MEMORY, number) || !maps) return -1;
    cuda->cuDeviceGetAttribute(&rdma, ATTRIBUTE_RDMA_WITH_VIRTUAL_MEMORY, number);
    cuda->cuDeviceGetAttribute(&exports, ATTRIBUTE_EXPORTS_DESCRIPTORS, number);
    device->properties = (struct properties){.type = ALLOCATION_PINNED, .location = {LOCATION_DEVICE, number}};
    device->properties.flags.rdma = rdma != 0;
    device->properties.handle_types = exports ? HANDLE_IS_DESCRIPTOR : 0; /* for what CUDA IPC is asked for later */
    size_t pages = 0;
    if (cuda->cuMemGetAllocationGranularity(&pages, &device->properties, GRANULARITY_RECOMMENDED) || !pages) return -1;
    device->granularity = pages < UNIT ? UNIT : pages;
    return device->granularity % UNIT ? -1 : 0;
}

int device_to_allocate_on(const struct driver *cuda) {
    context current = NULL;
    int number = 0;
    if (cuda->cuCtxGetCurrent(&current) || !current || cuda->cuCtxGetDevice(&number)) return -1;
    if (number < 0 || number >= MOST_DEVICES) return -1;
    struct device *device = &devices[number];
    if (!device->owner && !device->stands_back) {
        device->stands_back = describe(cuda, number, device) != 0 || start_threads() != 0;
        if (!device->stands_back) device->owner = current;
    }
    return device->owner == current ? number : -1;
}

int device_of_memory(const struct driver *cuda, int number) {
    context current = NULL;
    int of_current = -1;
    if (number < 0 || number >= MOST_DEVICES) return -1;
    if (cuda->cuCtxGetCurrent(&current) || !current || cuda->cuCtxGetDevice(&of_current)) of_current = -1;
    if (of_current == number && device_to_allocate_on(cuda) >= 0) return number;
    struct device *device = &devices[number];
    context primary = device->owner || device->stands_back ? NULL : primary_of(number);
    if (primary) device->stands_back = describe(cuda, number, device) != 0 || start_threads() != 0;
    if (primary && !device->stands_back) device->owner = primary;
    return device->owner ? number : -1;
}

int device_for_host(const struct driver *cuda) {
    int number = -1;
    if (cuda->cuCtxGetDevice(&number) == SUCCESS && device_of_memory(cuda, number) >= 0) return number;
    for (number = 0; number < MOST_DEVICES && device_of_memory(cuda, number) < 0;) number++;
    return number < MOST_DEVICES ? number : -1;
}

context context_on(int number) {
    return number < 0 || number >= MOST_DEVICES ? NULL : devices[number].owner ? devices[number].owner : primary_of(number);
}

result enter_device(int number) {
    for (int i = 0; number < 0 && i < MOST_DEVICES; i++)
        if (devices[i].owner) number = i;
    const context found = context_on(number);
    return found ? driver()->cuCtxSetCurrent(found) : NOT_INITIALIZED;
}

void name_device(int number, char *name) {
    unsigned char uuid[16];
    name[0] = 0;
    if (number < 0 || driver()->cuDeviceGetUuid_v2(uuid, number)) return;
    for (int i = 0; i < 16; i++) snprintf(name + 2 * i, 3, "%02x", uuid[i]);
}

/* ------------------------------------------------------------------------------------------------------ peer access */

static int is_seen(int of, int by) {
    for (int i = 0; i < peer_count; i++)
        if (peers[i].of == of && peers[i].by == by) return 1;
    return 0;
}

size_t access_to(int number, struct access *list) {
    size_t count = 0;
    for (int by = 0; by < MOST_DEVICES; by++)
        if (by == number || is_seen(number, by)) list[count++] = (struct access){{LOCATION_DEVICE, by}, ACCESS_READ_WRITE};
    return count;
}

static result set_access(int of, int by, int flags) {
    const struct access access = {{LOCATION_DEVICE, by}, flags};
    result error = SUCCESS;
    for (int i = 0; i < segment_count && !error; i++)
        if (segments[i].used && segments[i].present && segments[i].origin == ALLOCATED && segments[i].device == of)
            error = driver()->cuMemSetAccess(segments[i].at, segments[i].size, &access, 1);
    return error;
}

static int device_of(const struct driver *cuda, context of) {
    context current = NULL;
    int number = -1;
    if (cuda->cuCtxGetCurrent(&current) || cuda->cuCtxSetCurrent(of)) return -1;
    if (cuda->cuCtxGetDevice(&number)) number = -1;
    cuda->cuCtxSetCurrent(current);
    return number;
}

/* Takes the pairs of a context out of the table. */
static void drop_peers(context ended) {
    int left = 0;
    for (int i = 0; i < peer_count; i++)
        if (peers[i].from != ended && peers[i].to != ended) peers[left++] = peers[i];
    if (left != peer_count) peer_changes++;
    peer_count = left;
}

result note_peer(context to) {
    const struct driver *cuda = driver();
    struct peer peer = {.to = to, .on = 1};
    if (cuda->cuCtxGetCurrent(&peer.from) || cuda->cuCtxGetDevice(&peer.by)) return NOT_INITIALIZED;
    peer.of = device_of(cuda, to);
    /* Those beyond have no memory of ours, and look into none: none of theirs is needed at a capture but by the driver. */
    if (peer.of < 0 || peer.of >= MOST_DEVICES || peer.by < 0 || peer.by >= MOST_DEVICES) return SUCCESS;
    if (peer_count == MOST_PEERS) return OUT_OF_MEMORY;
    result error = is_seen(peer.of, peer.by) ? SUCCESS : set_access(peer.of, peer.by, ACCESS_READ_WRITE);
    if (error) {
        set_access(peer.of, peer.by, ACCESS_NONE);
        return error;
    }
    peers[peer_count++] = peer;
    peer_changes++;
    return SUCCESS;
}

void forget_peer(context to) {
    context from = NULL;
    driver()->cuCtxGetCurrent(&from);
    for (int i = 0; i < peer_count; i++) {
        if (peers[i].from != from || peers[i].to != to) continue;
        const struct peer ended = peers[i];
        peers[i] = peers[--peer_count];
        peer_changes++;
        if (!is_seen(ended.of, ended.by)) set_access(ended.of, ended.by, ACCESS_NONE);
        return;
    }
}

/* A context may have ended in a way that we do not see, as a primary one does when it is released; its access with it. */
static int is_over(result error) {
    return error == PEERS_NOT_ENABLED || error == INVALID_CONTEXT || error == CONTEXT_DESTROYED;
}

result part_peers(void) {
    const struct driver *cuda = driver();
    result first = SUCCESS;
    int left = 0;
    for (int i = 0; i < peer_count; i++) {
        struct peer each = peers[i];
        result error = each.on ? cuda->cuCtxSetCurrent(each.from) : SUCCESS;
        if (each.on && !error) error = cuda->cuCtxDisablePeerAccess(each.to);
        if (is_over(error)) continue;
        if (!error) each.on = 0;
        else if (!first) first = error;
        peers[left++] = each;
    }
    peer_count = left;
    return first;
}

result join_peers(void) {
    const struct driver *cuda = driver();
    for (int i = 0; i < peer_count; i++) {
        if (peers[i].on) continue;
        result error = cuda->cuCtxSetCurrent(peers[i].from);
        if (!error) error = cuda->cuCtxEnablePeerAccess(peers[i].to, 0);
        if (error) return error;
        peers[i].on = 1;
    }
    return SUCCESS;
}

/* ---------------------------------------------------------------------------------------------------------- kernels */

static result await_kernels_of(context each) {
    result error = driver()->cuCtxSetCurrent(each);
    return error ? error : driver()->cuCtxSynchronize();
}

context primary_of(int number) {
    context found = NULL;
    unsigned flags;
    int is_active = 0;
    if (driver()->cuDevicePrimaryCtxGetState(number, &flags, &is_active) || !is_active) return NULL;
    if (driver()->cuDevicePrimaryCtxRetain(&found, number)) return NULL;
    driver()->cuDevicePrimaryCtxRelease_v2(number); /* the worker's own use keeps it */
    return found;
}

result await_kernels(void) {
    int count = 0;
    result error = driver()->cuDeviceGetCount(&count);
    for (int i = 0; i < count && !error; i++) {
        context owner = i < MOST_DEVICES ? devices[i].owner : NULL, primary = primary_of(i);
        if (owner) error = await_kernels_of(owner);
        if (!error && primary && primary != owner) error = await_kernels_of(primary);
    }
    for (int i = 0; i < peer_count && !error; i++) {
        error = await_kernels_of(peers[i].from);
        if (is_over(error)) error = SUCCESS;
    }
    return error;
}

/* ------------------------------------------------------------------------------------------------------------- ends */

void forget_owner(context ended) {
    drop_peers(ended);
    for (int i = 0; i < MOST_DEVICES; i++)
        if (devices[i].owner == ended) devices[i].owner = NULL; /* the next that allocates */
}
