/* What is on the card before we are: parts of the files that are loaded next, in memory that the agent has filled while
 * this process was restored. Each is copied from there and given back, so the worker ends with memory of its own alone. */
#define _GNU_SOURCE
#include "device_memory.h"

/* 256 MiB each: agent/gpu/prefetch.py cuts files alike. Tests make both smaller. */
#ifndef PART_UNITS
#define PART_UNITS 128
#endif
enum { MOST_PARTS = 2048 };

struct part {
    struct segment memory; /* not mapped: it was given back */
    uint32_t units, wanted; /* wanted: how many of those are not copied yet */
};
static struct part parts[COPIERS][MOST_PARTS];
static uint32_t rows; /* parts of each file that there may be */

static struct part *part_of(uint32_t place, uint32_t *unit) {
    *unit = (place - 1) / COPIERS;
    if (!place || *unit / PART_UNITS >= MOST_PARTS) return NULL;
    struct part *part = &parts[(place - 1) % COPIERS][*unit / PART_UNITS];
    *unit %= PART_UNITS;
    return *unit < part->units ? part : NULL;
}

void take_part(uint32_t file, uint64_t first, uint64_t units, int descriptor) {
    uint64_t row = first / PART_UNITS;
    if (file >= COPIERS || first % PART_UNITS || row >= MOST_PARTS || !units || units > PART_UNITS) return;
    struct part *part = &parts[file][row];
    if (part->units) return;
    part->memory = (struct segment){.size = units * UNIT, .device = device_of_file(file)};
    if (part->memory.device < 0) return;
    if (import_segment(&part->memory, descriptor)) return; /* its bytes are in the file too */
    part->units = part->wanted = (uint32_t)units;
    if (row >= rows) rows = (uint32_t)row + 1;
}

int has_parts(void) { return rows > 0; }

address place_on_card(uint32_t place, uint32_t *most) {
    uint32_t unit;
    const struct part *part = part_of(place, &unit);
    if (!part || !part->memory.present) return 0;
    *most = part->units - unit;
    return part->memory.at + unit * UNIT;
}

int was_on_card(uint32_t place) {
    uint32_t unit;
    return part_of(place, &unit) != NULL;
}

void note_copied(uint32_t place, uint32_t units) {
    uint32_t unit;
    struct part *part = part_of(place, &unit);
    if (part) part->wanted -= units < part->wanted ? units : part->wanted;
}

void drop_copied_parts(void) {
    for (int file = 0; file < COPIERS; file++)
        for (uint32_t i = 0; i < rows; i++)
            if (parts[file][i].memory.present && !parts[file][i].wanted) drop_segment(&parts[file][i].memory);
}

int drop_parts(void) {
    int dropped = 0;
    for (int file = 0; file < COPIERS; file++)
        for (uint32_t i = 0; i < rows; i++) {
            if (parts[file][i].memory.present) drop_segment(&parts[file][i].memory), dropped = 1;
            parts[file][i].units = 0;
        }
    rows = 0;
    return dropped;
}
