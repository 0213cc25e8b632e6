/* What the parts of the program share. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Of a saved file, what one thread looks at at a time: memory that lay side by side on the device goes no further. */
#define WINDOW ((size_t)2 << 20)
/* Bytes of the shortest range that counts. Between two keys of a tensor is as much, so that each such range has a key. */
#define SHORTEST ((size_t)512 << 10)
/* Where a key may begin in device memory: allocators give out multiples of 256 bytes, engines join rows of as much. */
enum { ALIGNMENT = 64, KEY = 32 };
enum { MOST_FILES = 65536, MOST_KEYS = 1 << 21, MOST_THREADS = 64, MOST_FOUND = WINDOW / SHORTEST };

struct file {
    int descriptor;
    uint64_t size;
};

/* Of a saved file, what is in another file too. */
struct range {
    uint32_t saved, source;
    uint64_t at, length, offset;
};

/* ---------------------------------------------------------------------------------------------------------- input.c */

extern struct file *saved, *sources;
extern uint32_t saved_count, source_count;

/* Reads what is to be done from standard input, and has `span` called with each range of a source that has a tensor.
 * Ends the program if it is not understood. */
void read_input(void (*span)(uint32_t source, uint64_t from, uint64_t length));
void give_up(const char *why);
/* Reads all of it; 0 if it could be read. */
int read_at(const struct file *file, void *into, size_t size, uint64_t at);

/* ---------------------------------------------------------------------------------------------------------- index.c */

/* One place of a source. */
struct key {
    uint64_t hash, at;
    uint32_t source, next; /* next: of those in the same place of the table, its number + 1; 0: none */
};

/* Notes where the keys of a tensor are; `read_keys` reads them, by several threads, and makes the table. */
void add_keys(uint32_t source, uint64_t from, uint64_t length);
void read_keys(unsigned threads);
/* The first key that may be at some bytes, and the next; NULL: none. */
const struct key *first_key(const char *at, uint64_t *hash);
const struct key *next_key(const struct key *key, uint64_t hash);

/* ---------------------------------------------------------------------------------------------------------- match.c */

/* Writes what of a window is elsewhere too, and returns how many ranges; `buffer` has room for a window, twice. */
int match_window(uint32_t number, uint64_t at, size_t size, char *buffer, struct range *found);

/* -------------------------------------------------------------------------------------------------------- threads.c */

/* Has several threads call `act` until it returns 0, each with a number of its own from 0. */
void in_threads(unsigned threads, int (*act)(unsigned thread));
