/* Ranges of saved files that are not stored: they are in files that the model came from, which the agent has opened.
 * agent/gpu/ranges.py has the same table, and makes sure that it is right; what is wrong here is refused as well. */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <unistd.h>

#include "device_memory.h"

enum { MOST_RANGES = 1 << 20, MOST_SOURCES = 224 };

/* One row of the table. */
struct range {
    uint32_t file, source;
    uint64_t at, length, offset;
};

static int sources[MOST_SOURCES];
static uint32_t source_count, range_count;
static struct range *ranges;
static uint64_t *before; /* bytes of all ranges before each, of the same file */
static uint32_t first_of[COPIERS + 1];

/* Takes descriptors; they are ours from here on. -1: there is no room for them. */
int add_sources(int *files, int count) {
    int refused = 0;
    for (int i = 0; i < count && files[i] >= 0; files[i++] = -1) {
        if (source_count < MOST_SOURCES) sources[source_count++] = files[i];
        else refused = close(files[i]) | 1;
    }
    return refused ? -1 : 0;
}

void forget_ranges(void) {
    while (source_count) close(sources[--source_count]);
    if (ranges) munmap(ranges, range_count * sizeof *ranges);
    if (before) munmap(before, range_count * sizeof *before);
    ranges = NULL;
    before = NULL;
    range_count = 0;
}

static void *room_for(size_t size) {
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static int read_all(int file, char *into, size_t size, uint64_t at) {
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(file, into + done, size - done, (off_t)(at + done));
        if (n <= 0) return -1;
        done += (size_t)n;
    }
    return 0;
}

/* Notes where each file's ranges begin; -1: they are not in order. */
static int sort_out(void) {
    uint32_t file = 0;
    for (uint32_t i = 0; i < range_count; i++) {
        const struct range *range = &ranges[i], *last = i ? &ranges[i - 1] : NULL;
        if (range->file >= COPIERS || range->source >= source_count || range->file < file || !range->length) return -1;
        const int is_first = !last || last->file != range->file;
        if (!is_first && (range->at < last->at || range->at - last->at < last->length)) return -1;
        before[i] = is_first ? 0 : before[i - 1] + last->length;
        while (file < range->file) first_of[++file] = i;
    }
    while (file < COPIERS) first_of[++file] = range_count;
    return 0;
}

int take_ranges(int table, uint64_t count) {
    if (ranges || !count || count > MOST_RANGES) return -1;
    range_count = (uint32_t)count;
    ranges = room_for(range_count * sizeof *ranges);
    before = room_for(range_count * sizeof *before);
    first_of[0] = 0;
    return !ranges || !before || read_all(table, (char *)ranges, range_count * sizeof *ranges, 0) || sort_out() ? -1 : 0;
}

/* The last range of a file that begins no further on than a place; first_of[file] - 1: there is none. */
static uint32_t range_at(uint32_t file, uint64_t at) {
    uint32_t low = first_of[file], high = first_of[file + 1];
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (ranges[middle].at <= at) low = middle + 1;
        else high = middle;
    }
    return low - 1;
}

/* What is at a place of a whole file, and how much of it is there on end. */
static size_t piece_at(uint32_t file, int stored, uint64_t at, size_t most, int *from, uint64_t *offset) {
    const uint32_t number = range_at(file, at), next = number + 1; /* unsigned: -1 and 1 are 0 */
    const int any = next > first_of[file];
    if (any && at - ranges[number].at < ranges[number].length) {
        *from = sources[ranges[number].source];
        *offset = ranges[number].offset + (at - ranges[number].at);
        const uint64_t left = ranges[number].length - (at - ranges[number].at);
        return left < most ? left : most;
    }
    *from = stored;
    *offset = at - (any ? before[number] + ranges[number].length : 0);
    return next < first_of[file + 1] && ranges[next].at - at < most ? ranges[next].at - at : most;
}

int read_saved(const int *files, uint32_t file, char *into, size_t size, uint64_t at) {
    if (!ranges) return read_all(files[file], into, size, at);
    for (size_t done = 0; done < size;) {
        int from;
        uint64_t offset;
        const size_t part = piece_at(file, files[file], at + done, size - done, &from, &offset);
        if (read_all(from, into + done, part, offset)) return -1;
        done += part;
    }
    return 0;
}
