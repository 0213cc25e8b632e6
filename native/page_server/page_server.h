/* What the parts of the page server share. Addresses, offsets and lengths are in bytes and multiples of PAGE. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t u64;

enum { PAGE = 4096, NO_FD = -1 };

/* --------------------------------------------------------------------------------------------------------- report.c */

/* One line to the agent. */
void report(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Says why and ends the server: a process that still misses pages is then killed by standby, or by the agent. */
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Microseconds since some moment. */
u64 now_us(void);

/* ---------------------------------------------------------------------------------------------------------- table.c */

/* Where the content of some addresses is in the pages file. */
struct extent {
    u64 start, length, offset;
};

/* Faults that go on where what was put in for one of the last ones ended. */
struct stream {
    u64 end, window;
};
enum { STREAMS = 8 }; /* threads that read at once, and what they allocate meanwhile */

struct process {
    int pid;  /* as numbered in the container; of one that was forked since, its parent's */
    int uffd; /* NO_FD until criu has sent it */
    const char *pages;
    u64 size; /* of `pages` */
    struct extent *extents; /* by start, without overlap */
    size_t count, room;
    _Atomic unsigned char *done; /* a bit for each page of `pages` that this process has, or had */
    struct extent *urgent; /* what a child must not find missing: see images.c */
    size_t urgent_count;
    pthread_rwlock_t lock; /* held for writing while events are read, for reading while pages are put in */
    atomic_int reader_waits; /* musl's lock prefers readers; threads that fill wait for this to be 0 */
    atomic_int ended;
    struct stream streams[STREAMS];
    unsigned newest;
    struct process *next;
};

/* The first of all processes; the list only grows. */
struct process *processes(void);
struct process *process_of(int pid);
struct process *new_process(int pid);

/* A copy of the table and of what is done, for a child of that process. */
struct process *forked(const struct process *parent, int uffd);

void add_extent(struct process *process, struct extent extent);
void sort_extents(struct process *process);

/* The number of the first extent that ends beyond an address; `count` if none does. */
size_t first_beyond(const struct process *process, u64 address);

/* The extent that holds an address, NULL if none does. */
const struct extent *find_extent(const struct process *process, u64 address);

/* Forgets what is stored from `start` to `end`, or moves it to `target` if that is not 0. */
void cut(struct process *process, u64 start, u64 end, u64 target);

int is_done(const struct process *process, u64 offset);
void set_done(struct process *process, u64 offset, u64 length);

/* --------------------------------------------------------------------------------------------------------- images.c */

/* Reads what the images of a directory say of memory that criu leaves to us. */
void load_images(int directory);

/* ----------------------------------------------------------------------------------------------------------- fill.c */

enum outcome { PUT, AGAIN, ENDED };

struct counters {
    atomic_ullong bytes, faults, zeros, absent, events;
};
extern struct counters counters;
extern atomic_ullong last_fault; /* by ``now_us`` */

/* Puts pages of one extent in; called with the lock held for reading. AGAIN: an event must be read first. */
enum outcome put(struct process *process, u64 address, u64 offset, u64 length);

struct piece {
    struct process *process;
    u64 start, offset, length;
};

struct queue {
    struct piece *pieces;
    size_t count, room;
    atomic_size_t next;
    u64 behind_until;
    atomic_int behind; /* threads at work until then */
};

/* Adds what of an extent is missing, in pieces. */
void enqueue(struct queue *queue, struct process *process, struct extent extent);

/* What must be there before any process runs. */
void fill_urgent(int threads);

/* What is listed, before all others; returns the bytes of it. */
u64 fill_hot(struct queue *queue, int threads);

/* Everything, by that many threads; returns when no process misses anything. */
void fill_all(int threads);

/* ---------------------------------------------------------------------------------------------------------- serve.c */

/* Starts the thread that answers a process's faults and follows its mappings. */
void serve(struct process *process);

/* ------------------------------------------------------------------------------------------------------------ hot.c */

/* Lists the pages that are to be filled first; none of a list that does not fit the images. */
void load_hot(int file, struct queue *queue);

/* Makes ready to record; called before any other thread is there. */
void record_begin(int file);

int is_recording(void);

/* Notes what was put in because a process waited for a part of it. */
void record(const struct process *process, u64 offset, u64 length);

void record_fork(void);

/* Waits for the agent, but not for long, and writes what was recorded. */
void record_until_asked(int file);

/* ---------------------------------------------------------------------------------------------------------- guard.c */

/* Standby holds every descriptor too: while it does, our end lets no fault be answered with zeros. */
void guard_open(int socket);
void guard_add(int uffd);

/* Asks whether standby has all of them; from then on it kills the worker if we end early. */
int guard_begin(void);

/* Every page is in: standby lets go. */
void guard_end(void);
