/* The keys: the first bytes of each tensor, and of every 512 KiB further on in it. A range of device memory that is in a
 * tensor and is no shorter than that has one of them, wherever the tensor begins and whatever is before it. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "weight_matcher.h"

static struct key *keys;
static uint32_t key_count, buckets; /* buckets: a power of two */
static uint32_t *table;             /* number + 1 of the first key in each place; 0: none */
static uint64_t *seen;              /* a bit for each of 16 times as many places: nearly all bytes are no key */
static _Atomic(uint32_t) next_to_read;
enum { AT_ONCE = 256, FINER = 16 };

static inline uint64_t hash_of(const char *at) {
    uint64_t words[KEY / sizeof(uint64_t)];
    memcpy(words, at, sizeof words);
    uint64_t hash = words[0] * 0x9e3779b97f4a7c15u ^ words[1] * 0xc2b2ae3d27d4eb4fu;
    hash ^= words[2] * 0x165667b19e3779f9u ^ words[3] * 0x27d4eb2f165667c5u;
    hash ^= hash >> 29;
    hash *= 0xbf58476d1ce4e5b9u;
    return hash ^ hash >> 32;
}

/* The same bytes all over, as a tensor of ones has: they would be found at every place of it. */
static int is_plain(const char *at) { return !memcmp(at, at + 8, KEY - 8); }

void add_keys(uint32_t source, uint64_t from, uint64_t length) {
    if (!keys && !(keys = malloc(MOST_KEYS * sizeof *keys))) give_up("no memory");
    for (uint64_t done = 0; length >= KEY && done <= length - KEY && key_count < MOST_KEYS; done += SHORTEST)
        keys[key_count++] = (struct key){.at = from + done, .source = source};
}

/* 0 as a hash: this is no key. */
static int read_some(unsigned thread) {
    (void)thread;
    const uint32_t first = atomic_fetch_add(&next_to_read, AT_ONCE);
    for (uint32_t i = first; i < first + AT_ONCE && i < key_count; i++) {
        char bytes[KEY];
        if (read_at(&sources[keys[i].source], bytes, KEY, keys[i].at) == 0 && !is_plain(bytes)) keys[i].hash = hash_of(bytes);
    }
    return first < key_count;
}

void read_keys(unsigned threads) {
    in_threads(threads, read_some);
    for (buckets = 1; buckets < 2 * key_count;) buckets *= 2;
    table = calloc(buckets, sizeof *table);
    seen = calloc((size_t)buckets * FINER / 64 + 1, sizeof *seen);
    if (!table || !seen) give_up("no memory");
    for (uint32_t i = key_count; i-- > 0;) { /* backwards: the first of several that are alike is found first */
        if (!keys[i].hash) continue;
        uint32_t *place = &table[keys[i].hash & (buckets - 1)];
        const uint64_t bit = keys[i].hash & ((uint64_t)buckets * FINER - 1);
        keys[i].next = *place;
        *place = i + 1;
        seen[bit / 64] |= 1ull << bit % 64;
    }
}

static const struct key *same_from(uint32_t number, uint64_t hash) {
    while (number && keys[number - 1].hash != hash) number = keys[number - 1].next;
    return number ? &keys[number - 1] : NULL;
}

const struct key *first_key(const char *at, uint64_t *hash) {
    *hash = hash_of(at);
    const uint64_t bit = *hash & ((uint64_t)buckets * FINER - 1);
    return seen[bit / 64] >> bit % 64 & 1 ? same_from(table[*hash & (buckets - 1)], *hash) : NULL;
}

const struct key *next_key(const struct key *key, uint64_t hash) { return same_from(key->next, hash); }
