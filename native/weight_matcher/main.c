/* `weight-matcher THREADS`: says which ranges of saved device memory are in other files too, byte for byte.
 *
 * Its input is described in input.c. Output: a line for each range, `SAVED SOURCE AT LENGTH OFFSET`, in the order of the
 * saved files, each counted from 0 in the order of the input. Ends with 1 and a line of errors if it cannot say. */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "weight_matcher.h"

static uint64_t window_count;
static uint64_t *first_window; /* of each saved file, and behind the last */
static struct range (*found)[MOST_FOUND];
static unsigned char *counts;
static _Atomic(uint64_t) next_window;
static char *buffers[MOST_THREADS];

static void cut(void) {
    first_window = calloc(saved_count + 1, sizeof *first_window);
    if (!first_window) give_up("no memory");
    for (uint32_t i = 0; i < saved_count; i++) first_window[i + 1] = first_window[i] + (saved[i].size + WINDOW - 1) / WINDOW;
    window_count = first_window[saved_count];
    found = calloc(window_count + 1, sizeof *found);
    counts = calloc(window_count + 1, sizeof *counts);
    if (!found || !counts) give_up("no memory");
}

static int match_next(unsigned thread) {
    const uint64_t number = atomic_fetch_add(&next_window, 1);
    if (number >= window_count) return 0;
    if (!buffers[thread] && !(buffers[thread] = malloc(2 * WINDOW))) give_up("no memory");
    uint32_t file = 0, above = saved_count;
    while (above - file > 1) {
        const uint32_t middle = file + (above - file) / 2;
        if (first_window[middle] <= number) file = middle;
        else above = middle;
    }
    const uint64_t at = (number - first_window[file]) * WINDOW, left = saved[file].size - at;
    counts[number] = (unsigned char)match_window(file, at, left < WINDOW ? left : WINDOW, buffers[thread], found[number]);
    return 1;
}

static int goes_on(const struct range *last, const struct range *next) {
    return last->length && last->saved == next->saved && last->source == next->source &&
           last->at + last->length == next->at && last->offset + last->length == next->offset;
}

static void print(const struct range *range) {
    if (range->length)
        printf("%" PRIu32 " %" PRIu32 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", range->saved, range->source, range->at,
               range->length, range->offset);
}

int main(int argc, char **argv) {
    const int threads = argc == 2 ? atoi(argv[1]) : 0;
    if (threads < 1 || threads > MOST_THREADS) give_up("how many threads?");
    read_input(add_keys);
    cut();
    read_keys((unsigned)threads);
    in_threads((unsigned)threads, match_next);
    struct range last = {0};
    for (uint64_t window = 0; window < window_count; window++)
        for (int i = 0; i < counts[window]; i++) {
            const struct range *range = &found[window][i];
            if (goes_on(&last, range)) {
                last.length += range->length;
                continue;
            }
            print(&last);
            last = *range;
        }
    print(&last);
    return fflush(stdout) ? 1 : 0;
}
