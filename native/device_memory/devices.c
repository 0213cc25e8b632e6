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
    int maps = 0, rdma = 0;
    if (cuda->cuDeviceGetAttribute(&maps, ATTRIBUTE_VIRTUAL_MEMORY, number) || !maps) return -1;
    cuda->cuDeviceGetAttribute(&rdma, ATTRIBUTE_RDMA_WITH_VIRTUAL_MEMORY, number);
    device->properties = (struct properties){.type = ALLOCATION_PINNED, .location = {LOCATION_DEVICE, number}};
    device->properties.flags.rdma = rdma != 0;
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

result enter_device(int number) {
    for (int i = 0; number < 0 && i < MOST_DEVICES; i++)
        if (devices[i].owner) number = i;
    return number < 0 ? NOT_INITIALIZED : driver()->cuCtxSetCurrent(devices[number].owner);
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
        if (segments[i].used && segments[i].mapped && segments[i].device == of)
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

/* Takes pairs out of the table that one of `ended` (a context, or if it is NULL any of device `number`) is in. */
static void drop_peers(context ended, int number) {
    int left = 0;
    for (int i = 0; i < peer_count; i++) {
        const struct peer *each = &peers[i];
        int is_over = ended ? each->from == ended || each->to == ended : each->by == number || each->of == number;
        if (!is_over) peers[left++] = *each;
    }
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

result part_peers(void) {
    const struct driver *cuda = driver();
    result first = SUCCESS;
    for (int i = 0; i < peer_count; i++) {
        if (!peers[i].on) continue;
        result error = cuda->cuCtxSetCurrent(peers[i].from);
        if (!error) error = cuda->cuCtxDisablePeerAccess(peers[i].to);
        if (!error) peers[i].on = 0;
        else if (!first) first = error;
    }
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

/* ------------------------------------------------------------------------------------------------------------- ends */

void forget_device(context ended, int number) {
    drop_peers(ended, number);
    for (int i = 0; i < MOST_DEVICES; i++)
        if (ended ? devices[i].owner == ended : i == number) devices[i].owner = NULL; /* the next that allocates */
}
