/* Looks for keys in a window of what was saved, and compares from there on in both directions, byte for byte. */
#include <string.h>

#include "weight_matcher.h"

enum { FIRST_STEP = 4 << 10, STEP = 64 << 10, MOST_ALIKE = 4 };

/* Little at first: a key may be where nothing that follows is the same. */
static size_t step_after(size_t same, size_t most) {
    const size_t step = same < STEP ? FIRST_STEP : STEP;
    return most - same < step ? most - same : step;
}

enum { BLOCK = 4096 };

/* The C library's own compares byte by byte: this takes a tenth of the time. */
static int is_same(const char *a, const char *b) {
    uint64_t differs = 0;
    for (size_t i = 0; i < BLOCK; i += sizeof differs) {
        uint64_t left, right;
        memcpy(&left, a + i, sizeof left);
        memcpy(&right, b + i, sizeof right);
        differs |= left ^ right;
    }
    return !differs;
}

/* How many bytes are the same from the first on, or from the last backwards. */
static size_t same_forwards(const char *a, const char *b, size_t size) {
    size_t same = 0;
    while (same + BLOCK <= size && is_same(a + same, b + same)) same += BLOCK;
    while (same < size && a[same] == b[same]) same++;
    return same;
}

static size_t same_backwards(const char *a, const char *b, size_t size) {
    size_t left = size;
    while (left >= BLOCK && is_same(a + left - BLOCK, b + left - BLOCK)) left -= BLOCK;
    while (left && a[left - 1] == b[left - 1]) left--;
    return size - left;
}

/* How many of `most` bytes of a window from `from` on are in a source from `at` on. */
static size_t after(const char *from, const struct file *source, uint64_t at, size_t most, char *other) {
    size_t same = 0;
    if (most > source->size - at) most = source->size - at;
    while (same < most) {
        const size_t part = step_after(same, most);
        if (read_at(source, other, part, at + same)) return same;
        const size_t equal = same_forwards(from + same, other, part);
        same += equal;
        if (equal < part) return same;
    }
    return same;
}

/* How many of `most` bytes before `to` are in a source before `at`. */
static size_t before(const char *to, const struct file *source, uint64_t at, size_t most, char *other) {
    size_t same = 0;
    if (most > at) most = (size_t)at;
    while (same < most) {
        const size_t part = step_after(same, most);
        if (read_at(source, other, part, at - same - part)) return same;
        const size_t equal = same_backwards(to - same - part, other, part);
        same += equal;
        if (equal < part) return same;
    }
    return same;
}

/* The longest range around a place that may have a key; `taken`: what is before it is in a range already. */
static struct range longest(const char *window, size_t size, size_t place, size_t taken, const struct key *key, uint64_t hash,
                            char *other) {
    struct range best = {0};
    for (int tried = 0; key && tried < MOST_ALIKE; key = next_key(key, hash), tried++) {
        const struct file *source = &sources[key->source];
        if (key->at > source->size) continue;
        const size_t behind = after(window + place, source, key->at, size - place, other);
        const size_t ahead = behind ? before(window + place, source, key->at, place - taken, other) : 0;
        if (ahead + behind > best.length)
            best = (struct range){.source = key->source, .at = place - ahead, .length = ahead + behind, .offset = key->at - ahead};
        if (best.length == size - taken) break; /* no other has more */
    }
    return best;
}

int match_window(uint32_t number, uint64_t at, size_t size, char *buffer, struct range *found) {
    char *window = buffer, *other = buffer + WINDOW;
    int count = 0;
    size_t taken = 0;
    if (read_at(&saved[number], window, size, at)) give_up("what was saved cannot be read");
    for (size_t place = 0; place + KEY <= size && count < (int)MOST_FOUND;) {
        uint64_t hash;
        const struct key *key = first_key(window + place, &hash);
        struct range range = {0};
        if (key) range = longest(window, size, place, taken, key, hash, other);
        if (range.length < SHORTEST) {
            place += ALIGNMENT;
            continue;
        }
        taken = range.at + range.length;
        place = (taken + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        range.saved = number;
        range.at += at;
        found[count++] = range;
    }
    return count;
}
