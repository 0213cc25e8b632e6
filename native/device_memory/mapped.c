/* What the worker maps by itself (cuMemCreate, cuMemMap): PyTorch's expandable segments, vLLM's sleep mode, NCCL's buffers,
 * symmetric memory. It is given numbers of ours in place of the driver's handles, which are others after a restore and may
 * then mean other memory; and what is mapped where, for whom, is noted, to be mapped alike again.
 *
 * Memory of the host that is made in this way is treated alike: the driver checkpoints it, and cannot restore it.
 *
 * What we cannot make again (sparse, bound to a multicast object) keeps the driver's handles: it stays with the driver, and
 * in the image.
 */
#define _GNU_SOURCE
#include "device_memory.h"

/* No handle of the driver's: those are small numbers, or addresses. */
#define OURS ((handle)0x5eed << 48)
enum { MOST_MAPPINGS = MOST_SEGMENTS, NO_HANDLE = 0 };

struct mapping mappings[MOST_MAPPINGS];
static int mapping_count; /* no used one is behind it */

/* ---------------------------------------------------------------------------------------------------------- handles */

static handle handle_of(int segment) { return OURS | (handle)segment; }

static int is_ours_by_name(handle given) { return given >> 48 == OURS >> 48; }

/* The segment that a handle of ours means; -1 if it is the driver's, or means none any more. */
static int segment_of(handle given) {
    const handle number = given ^ OURS;
    return number < (handle)segment_count && segments[number].used && segments[number].references ? (int)number : -1;
}

handle real_handle(handle given) {
    wait_for_segments();
    const int number = segment_of(given);
    const handle found = number < 0 ? given : segments[number].memory;
    leave_segments();
    return number < 0 && is_ours_by_name(given) ? NO_HANDLE : found; /* the driver knows it as wrong */
}

/* Takes a segment out of the table of which nothing is left; 1 if so, and then its memory is to be released. */
static int is_over(int number, handle *memory) {
    struct segment *segment = &segments[number];
    if (segment->references || segment->first_mapping || segment->origin == ALLOCATED) return 0;
    segment->used = 0;
    *memory = segment->memory;
    return segment->present;
}

static int is_on_host(struct location where) {
    return where.type >= LOCATION_HOST && where.type <= LOCATION_HOST_NUMA_CURRENT;
}

static int can_be_kept(struct location where) { return where.type == LOCATION_DEVICE || is_on_host(where); }

static int can_be_made_again(const struct properties *wanted, size_t size, uint64_t flags) {
    return !flags && size && size % UNIT == 0 && wanted->type == ALLOCATION_PINNED &&
           can_be_kept(wanted->location) && !wanted->flags.usage &&
           !(wanted->handle_types & ~(HANDLE_IS_DESCRIPTOR | HANDLE_IS_FABRIC));
}

/* Notes memory, and gives the worker a number in place of its handle, if it is to be ours. */
static void adopt(handle *made, const struct segment *wanted) {
    struct segment segment = *wanted;
    wait_for_segments();
    segment.is_on_host = is_on_host(segment.properties.location);
    segment.device = segment.is_on_host ? device_for_host(driver())
                                        : device_of_memory(driver(), segment.properties.location.id);
    segment.memory = *made;
    segment.used = segment.present = segment.references = 1;
    /* Imported memory may be on a device that this process does not see. */
    const int can_be_ours = segment.origin == IMPORTED ? start_threads() == 0 : segment.device >= 0;
    const int number = can_be_ours ? add_segment(&segment) : -1;
    if (number >= 0) *made = handle_of(number);
    leave_segments();
}

void adopt_created(handle *made, size_t size, const struct properties *wanted, uint64_t flags) {
    if (!can_be_made_again(wanted, size, flags)) return;
    const struct segment segment = {.origin = CREATED, .size = size, .properties = *wanted};
    adopt(made, &segment);
}

void adopt_imported(handle *made, int type) {
    struct segment segment = {.origin = IMPORTED, .instance = imported_instance()};
    if (type != HANDLE_IS_DESCRIPTOR) return;
    if (driver()->cuMemGetAllocationPropertiesFromHandle(&segment.properties, *made)) return;
    if (can_be_kept(segment.properties.location)) adopt(made, &segment);
}

int retain_at(address at, handle *found) {
    wait_for_segments();
    int number = segment_around(at);
    for (int i = 0; i < mapping_count && number < 0; i++)
        if (mappings[i].used && at >= mappings[i].at && at - mappings[i].at < mappings[i].size) number = mappings[i].segment;
    if (number >= 0) segments[number].references++, *found = handle_of(number);
    leave_segments();
    return number >= 0 ? 0 : -1;
}

result release_handle(handle given) {
    handle memory = given;
    wait_for_segments();
    const int number = segment_of(given);
    if (number >= 0) segments[number].references--;
    const int ends = number < 0 || is_over(number, &memory);
    leave_segments();
    if (number < 0 && is_ours_by_name(given)) return INVALID_VALUE;
    return ends ? driver()->cuMemRelease(memory) : SUCCESS;
}

result export_handle(void *shared, handle given, int type, uint64_t flags) {
    result error = driver()->cuMemExportToShareableHandle(shared, real_handle(given), type, flags);
    wait_for_segments();
    const int number = error ? -1 : segment_of(given);
    if (number >= 0 && type == HANDLE_IS_DESCRIPTOR) segments[number].exported = 1;
    else if (number >= 0) segments[number].fixed = 1; /* a process on another host may have it, and could get no other */
    leave_segments();
    return error;
}

void fix_handle(handle given) {
    wait_for_segments();
    const int number = segment_of(given);
    if (number >= 0) segments[number].fixed = 1;
    leave_segments();
}

static int overlap(address a, size_t size_of_a, address b, size_t size_of_b) { return a < b + size_of_b && b < a + size_of_a; }

void fix_range(address at, size_t size) {
    wait_for_segments();
    for (int i = 0; i < segment_count; i++)
        if (segments[i].used && segments[i].origin == ALLOCATED && overlap(at, size, segments[i].at, segments[i].size))
            segments[i].fixed = 1;
    for (int i = 0; i < mapping_count; i++)
        if (mappings[i].used && overlap(at, size, mappings[i].at, mappings[i].size)) segments[mappings[i].segment].fixed = 1;
    leave_segments();
}

/* --------------------------------------------------------------------------------------------------------- mappings */

static int add_mapping(const struct mapping *wanted) {
    int i = 0;
    while (i < mapping_count && mappings[i].used) i++;
    if (i == MOST_MAPPINGS) return -1;
    struct segment *segment = &segments[wanted->segment];
    mappings[i] = *wanted;
    mappings[i].used = 1;
    mappings[i].next = segment->first_mapping;
    segment->first_mapping = i + 1;
    if (i == mapping_count) mapping_count++;
    return 0;
}

static void drop_mapping(struct mapping *mapping) {
    const int number = (int)(mapping - mappings) + 1;
    int *link = &segments[mapping->segment].first_mapping;
    while (*link != number) link = &mappings[*link - 1].next;
    *link = mapping->next;
    mapping->used = 0;
}

result map_handle(address at, size_t size, size_t offset, handle given, uint64_t flags) {
    result error = driver()->cuMemMap(at, size, offset, real_handle(given), flags);
    if (error) return error;
    wait_for_segments();
    const int number = segment_of(given);
    if (number >= 0 && !segments[number].size) segments[number].size = size; /* of imported memory nothing else says it */
    if (number >= 0 && add_mapping(&(struct mapping){.at = at, .size = size, .offset = offset, .segment = number, .on = 1}))
        error = OUT_OF_MEMORY;
    leave_segments();
    if (error) driver()->cuMemUnmap(at, size);
    return error;
}

/* Forgets one mapping in a range; 0 if there is none. `ends`: the memory is to be released. */
static int forget_one(address at, size_t size, handle *memory, int *ends) {
    *ends = 0;
    for (int i = 0; i < mapping_count; i++) {
        if (!mappings[i].used || mappings[i].at < at || mappings[i].at - at >= size) continue;
        const int number = mappings[i].segment;
        drop_mapping(&mappings[i]);
        *ends = is_over(number, memory);
        return 1;
    }
    return 0;
}

result unmap_range(address at, size_t size) {
    result error = driver()->cuMemUnmap(at, size);
    handle memory;
    for (int more = !error, ends; more;) {
        wait_for_segments();
        more = forget_one(at, size, &memory, &ends);
        leave_segments();
        if (ends) driver()->cuMemRelease(memory);
    }
    return error;
}

static void note_access(struct mapping *mapping, const struct access *list, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const struct location where = list[i].location;
        const int known = where.type == LOCATION_DEVICE && where.id >= 0 && where.id < MOST_DEVICES;
        if (known) mapping->access[where.id] = (unsigned char)list[i].flags;
        else if (is_on_host(where)) mapping->on_host = list[i];
        else segments[mapping->segment].fixed = 1;
    }
}

result set_access_to_range(address at, size_t size, const struct access *list, size_t count) {
    result error = driver()->cuMemSetAccess(at, size, list, count);
    wait_for_segments();
    for (int i = 0; i < mapping_count && !error; i++)
        if (mappings[i].used && mappings[i].at >= at && mappings[i].at - at < size) note_access(&mappings[i], list, count);
    leave_segments();
    return error;
}

/* ----------------------------------------------------------------------------------------------------- come and go */

static struct mapping *first_of(const struct segment *segment) {
    return segment->first_mapping ? &mappings[segment->first_mapping - 1] : NULL;
}

static struct mapping *next_of(const struct mapping *mapping) { return mapping->next ? &mappings[mapping->next - 1] : NULL; }

static result map_one(struct mapping *mapping, handle memory) {
    struct access list[MOST_DEVICES + 1];
    size_t count = 0;
    for (int i = 0; i < MOST_DEVICES; i++)
        if (mapping->access[i]) list[count++] = (struct access){{LOCATION_DEVICE, i}, mapping->access[i]};
    if (mapping->on_host.flags) list[count++] = mapping->on_host;
    result error = driver()->cuMemMap(mapping->at, mapping->size, mapping->offset, memory, 0);
    if (!error && count) error = driver()->cuMemSetAccess(mapping->at, mapping->size, list, count);
    mapping->on = !error;
    return error;
}

result unmap_all_of(struct segment *segment) {
    result error = SUCCESS;
    for (struct mapping *each = first_of(segment); each && !error; each = next_of(each)) {
        if (each->on) error = driver()->cuMemUnmap(each->at, each->size);
        each->on = error != SUCCESS;
    }
    return error;
}

result map_again(struct segment *segment) {
    result error = SUCCESS;
    for (struct mapping *each = first_of(segment); each && !error; each = next_of(each))
        if (!each->on) error = map_one(each, segment->memory);
    if (error) unmap_all_of(segment);
    return error;
}

/* Where memory is copied from or to by its own device: a mapping of the worker's, else one that we add meanwhile. */
result reach_segment(struct segment *segment) {
    if (segment->origin == ALLOCATED) return SUCCESS;
    for (const struct mapping *each = first_of(segment); each; each = next_of(each)) {
        if (each->offset || each->size != segment->size || each->access[segment->device] != ACCESS_READ_WRITE) continue;
        segment->at = each->at;
        return SUCCESS;
    }
    struct mapping window = {.size = segment->size, .segment = (int)(segment - segments), .is_window = 1};
    window.access[segment->device] = ACCESS_READ_WRITE;
    result error = driver()->cuMemAddressReserve(&window.at, window.size, 0, 0, 0);
    if (error) return error;
    if (add_mapping(&window)) error = OUT_OF_MEMORY;
    else if (segment->present && (error = map_one(first_of(segment), segment->memory))) drop_mapping(first_of(segment));
    if (error) driver()->cuMemAddressFree(window.at, window.size);
    else segment->at = window.at;
    return error;
}

void leave_reached(struct segment *segment) {
    if (segment->origin == ALLOCATED) return;
    segment->at = 0;
    for (struct mapping *each = first_of(segment), *next; each; each = next) {
        next = next_of(each);
        if (!each->is_window) continue;
        if (each->on) driver()->cuMemUnmap(each->at, each->size);
        driver()->cuMemAddressFree(each->at, each->size);
        drop_mapping(each);
    }
}

const struct mapping *mapping_that_sees(const struct segment *segment, int *device) {
    for (const struct mapping *each = first_of(segment); each; each = next_of(each))
        for (*device = 0; *device < MOST_DEVICES; ++*device)
            if (each->on && !each->offset && each->access[*device] && context_on(*device)) return each;
    return NULL;
}

/* --------------------------------------------------------------------------------------------------------- CUDA IPC */

int add_opened(address at, size_t size, handle memory, const struct properties *properties, const struct access *list,
               size_t count) {
    if (list[0].location.id >= MOST_DEVICES || start_threads()) return -1;
    const struct segment segment = {.used = 1, .present = 1, .origin = IMPORTED, .size = size, .memory = memory,
                                    .device = -1, .properties = *properties, .instance = imported_instance()};
    struct mapping mapping = {.at = at, .size = size, .segment = add_segment(&segment), .on = 1, .is_opened = 1};
    if (mapping.segment < 0) return -1;
    int added = add_mapping(&mapping);
    if (added == 0) note_access(first_of(&segments[mapping.segment]), list, count);
    if (added < 0) segments[mapping.segment].used = 0;
    return added;
}

int drop_opened(address at, size_t *size, handle *memory) {
    *memory = NO_HANDLE;
    for (int i = 0; i < mapping_count; i++) {
        if (!mappings[i].used || !mappings[i].is_opened || mappings[i].at != at) continue;
        const int number = mappings[i].segment;
        *size = segments[number].size;
        drop_mapping(&mappings[i]);
        is_over(number, memory);
        return 0;
    }
    return -1;
}
