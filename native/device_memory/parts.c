/* What is on the card before we are: parts of the files that are loaded next, which the agent has read there while this
 * process was restored. It copies them into buffers of ours, and we copy each to where it belongs while the next ones are
 * still on their way.
 *
 * The buffers are ours, and not the agent's: to a process that was restored onto a card that it had not seen before, the
 * driver (580) gives no memory of others (CUDA_ERROR_INVALID_DEVICE), while others may have what that process makes. */
#define _GNU_SOURCE
#include <string.h>

#include "device_memory.h"

/* 256 MiB each: agent/gpu/ahead/prefetch.py cuts files alike. A test makes both smaller. */
#ifndef PART_UNITS
#define PART_UNITS 128
#endif
enum { MOST_PARTS = 2048, MOST_BUFFERS = 16 };

/* How many units of each part are copied: none, or all that are wanted of it. */
static uint32_t copied[COPIERS][MOST_PARTS];
static struct segment buffers[MOST_DEVICES][MOST_BUFFERS]; /* each device's are numbered by themselves */
static int any;

static struct outcome without_buffer(result error) {
    return (struct outcome){.error = error, .failed = "make room for what is on the card"};
}

struct outcome make_buffer(uint32_t number, uint64_t units, uint32_t file, int *descriptor) {
    const int device = device_of_file(file);
    if (number >= MOST_BUFFERS || !units || units > PART_UNITS || device < 0) return without_buffer(INVALID_VALUE);
    struct segment *buffer = &buffers[device][number];
    if (buffer->present) return without_buffer(INVALID_VALUE);
    *buffer = (struct segment){.size = units * UNIT, .device = device, .properties = devices[device].properties};
    result error = enter_device(device);
    if (error || (error = make_segment(buffer))) return without_buffer(error);
    error = driver()->cuMemExportToShareableHandle(descriptor, buffer->memory, HANDLE_IS_DESCRIPTOR, 0);
    if (!error) return (struct outcome){0};
    drop_segment(buffer);
    return without_buffer(error);
}

/* A part that cannot be had is in the file too. */
int take_part(uint32_t file, uint64_t first, uint64_t units, uint32_t buffer) {
    const uint64_t row = first / PART_UNITS;
    const int device = device_of_file(file);
    if (row >= MOST_PARTS || first % PART_UNITS || device < 0 || buffer >= MOST_BUFFERS || copied[file][row]) return 0;
    const struct segment *in = &buffers[device][buffer];
    if (!in->present || !units || units * UNIT > in->size) return 0;
    any = 1;
    if (copy_part(&(struct ahead){in->at, device, file, (uint32_t)first, (uint32_t)units}) == 0)
        copied[file][row] = (uint32_t)units;
    return copied[file][row] > 0;
}

int has_parts(void) { return any; }

int is_copied(uint32_t place) {
    const uint32_t unit = (place - 1) / COPIERS, row = unit / PART_UNITS;
    return place && row < MOST_PARTS && unit % PART_UNITS < copied[(place - 1) % COPIERS][row];
}

void drop_buffers(void) {
    for (int device = 0; device < MOST_DEVICES; device++)
        for (int i = 0; i < MOST_BUFFERS; i++)
            if (buffers[device][i].present) drop_segment(&buffers[device][i]);
}

void forget_parts(void) {
    drop_buffers();
    if (any) memset(copied, 0, sizeof copied);
    any = 0;
}
