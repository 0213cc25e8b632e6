/* What is on the card before we are: parts of the files that are loaded next, in memory that the agent has filled while
 * this process was restored. Each is copied to where it belongs as it comes, while the next ones are still on their way
 * and the agent fills its memory again; the worker ends with memory of its own alone. */
#define _GNU_SOURCE
#include <string.h>

#include "device_memory.h"

/* 256 MiB each: agent/gpu/ahead/prefetch.py cuts files alike. A test makes both smaller. */
#ifndef PART_UNITS
#define PART_UNITS 128
#endif
enum { MOST_PARTS = 2048, MOST_BUFFERS = 1024 };

/* How many units of each part are copied: none, or all that are wanted of it. */
static uint32_t copied[COPIERS][MOST_PARTS];
static struct segment buffers[MOST_DEVICES][MOST_BUFFERS]; /* each device's are numbered by themselves */
static int any;

static struct segment *import_buffer(const struct buffer *in, int device) {
    if (in->number >= MOST_BUFFERS || in->units > PART_UNITS || device < 0) return NULL;
    struct segment *buffer = &buffers[device][in->number];
    if (buffer->present) return buffer->size == in->units * UNIT ? buffer : NULL;
    *buffer = (struct segment){.size = in->units * UNIT, .device = device};
    return import_segment(buffer, in->descriptor) ? NULL : buffer;
}

/* A part that cannot be had is in the file too. */
int take_part(uint32_t file, uint64_t first, uint64_t units, const struct buffer *in) {
    const uint64_t row = first / PART_UNITS;
    if (file >= COPIERS || first % PART_UNITS || row >= MOST_PARTS || !units || units > in->units) return 0;
    const struct segment *buffer = copied[file][row] ? NULL : import_buffer(in, device_of_file(file));
    if (!buffer) return 0;
    any = 1;
    if (copy_part(&(struct ahead){buffer->at, buffer->device, file, (uint32_t)first, (uint32_t)units}) == 0)
        copied[file][row] = (uint32_t)units;
    return copied[file][row] > 0;
}

int has_parts(void) { return any; }

int is_copied(uint32_t place) {
    const uint32_t unit = (place - 1) / COPIERS, row = unit / PART_UNITS;
    return place && row < MOST_PARTS && unit % PART_UNITS < copied[(place - 1) % COPIERS][row];
}

void drop_buffers(void) {
    for (int device = 0; device < MOST_DEVICES && any; device++)
        for (int i = 0; i < MOST_BUFFERS; i++)
            if (buffers[device][i].present) drop_segment(&buffers[device][i]);
}

void forget_parts(void) {
    drop_buffers();
    if (any) memset(copied, 0, sizeof copied);
    any = 0;
}
