/* What save and load go through, cut into pieces, and which copier works for which device. */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "device_memory.h"

/* The pieces of one device: they follow each other. */
struct lot {
    uint32_t count, end;
    _Atomic(uint32_t) next;
};

static struct piece *pieces;
static size_t room;
static uint32_t cut;
static struct lot lots[MOST_DEVICES];
static int devices_of_copiers[COPIERS]; /* -1: none */

static uint32_t units_to_cut(const struct segment *segment, int discards) {
    return discards && segment->discardable ? 0 : units_of(segment);
}

static int make_room(uint32_t *units) {
    size_t count = 1;
    *units = 0;
    for (int i = 0; i < segment_count; i++) {
        *units += units_of(&segments[i]);
        count += (units_of(&segments[i]) + PIECE_UNITS - 1) / PIECE_UNITS;
    }
    room = count * sizeof *pieces;
    pieces = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return pieces == MAP_FAILED ? -1 : 0;
}

static void cut_segment(const struct segment *segment, uint32_t first, uint32_t own) {
    for (uint32_t done = 0; done < own; done += PIECE_UNITS) {
        uint32_t part = own - done < PIECE_UNITS ? own - done : PIECE_UNITS;
        pieces[cut++] = (struct piece){segment->at + done * UNIT, part, first + done};
    }
}

/* Each device with memory gets a copier, and every other copier goes to the one that has most for each of its own. */
static void share_out_copiers(void) {
    uint64_t has[MOST_DEVICES] = {0};
    for (int number = 0; number < COPIERS; number++) {
        int most = -1;
        for (int device = 0; device < MOST_DEVICES; device++) {
            const uint64_t own = lots[device].count;
            if (own && (most < 0 || own * has[most] > lots[most].count * has[device])) most = device;
        }
        devices_of_copiers[number] = most;
        if (most >= 0) has[most]++;
    }
}

/* One device behind the other, each in the order of the table. A unit's number is the same at a save and at the load that
 * follows it, whatever of them was cut. */
int cut_segments(uint32_t *units, int discards) {
    if (make_room(units)) return -1;
    cut = 0;
    for (int device = 0; device < MOST_DEVICES; device++) {
        uint32_t first = 0, begin = cut;
        for (int i = 0; i < segment_count; first += units_of(&segments[i]), i++)
            if (segments[i].device == device) cut_segment(&segments[i], first, units_to_cut(&segments[i], discards));
        lots[device].count = cut - begin;
        lots[device].end = cut;
        lots[device].next = begin;
    }
    share_out_copiers();
    return 0;
}

void drop_pieces(void) { munmap(pieces, room); }

int has_pieces(int device) { return lots[device].count > 0; }

int device_of_copier(int number) { return devices_of_copiers[number]; }

const struct piece *next_piece_of(int device) {
    uint32_t number = atomic_fetch_add(&lots[device].next, 1);
    return number < lots[device].end ? &pieces[number] : NULL;
}
