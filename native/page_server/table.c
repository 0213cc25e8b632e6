/* Where the content of each page of a process is, and which of them it has. */
#define _GNU_SOURCE
#include "page_server.h"

#include <stdlib.h>
#include <string.h>

/* A worker that forks without end must not take the node's memory for our tables. */
enum { MAX_PROCESSES = 4096 };
static const size_t MAX_TABLES = (size_t)1 << 30;

static struct process *_Atomic first;
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_size_t table_bytes;
static int process_count;

static void *checked(void *memory) {
    if (!memory) fail("no memory for the tables of pages");
    return memory;
}

struct process *processes(void) { return atomic_load(&first); }

struct process *process_of(int pid) {
    for (struct process *p = processes(); p; p = p->next)
        if (p->pid == pid) return p;
    return new_process(pid);
}

static size_t done_bytes(const struct process *process) { return (process->size / PAGE + 7) / 8 + 1; }

static void charge(size_t bytes) {
    if (atomic_fetch_add(&table_bytes, bytes) + bytes > MAX_TABLES)
        fail("the worker's memory is in too many parts: their tables take more than %zu MiB", MAX_TABLES >> 20);
}

/* The last step in making a process: others see it from here on. */
static void enlist(struct process *process) {
    charge(process->room * sizeof(struct extent) + done_bytes(process));
    pthread_mutex_lock(&list_lock);
    if (++process_count > MAX_PROCESSES)
        fail("the worker forks too often while its memory is restored: %d processes", process_count);
    process->next = atomic_load(&first);
    atomic_store(&first, process);
    pthread_mutex_unlock(&list_lock);
}

static struct process *blank(int pid, int uffd) {
    struct process *made = checked(calloc(1, sizeof *made));
    pthread_rwlockattr_t attributes;
    made->pid = pid;
    made->uffd = uffd;
    pthread_rwlockattr_init(&attributes);
    pthread_rwlock_init(&made->lock, &attributes);
    return made;
}

struct process *new_process(int pid) {
    struct process *made = blank(pid, NO_FD);
    enlist(made);
    return made;
}

struct process *forked(const struct process *parent, int uffd) {
    struct process *made = blank(parent->pid, uffd);
    made->pages = parent->pages;
    made->size = parent->size;
    made->count = made->room = parent->count;
    made->extents = checked(malloc((parent->count + 1) * sizeof *made->extents));
    memcpy(made->extents, parent->extents, parent->count * sizeof *made->extents);
    if (parent->done) {
        made->done = checked(malloc(done_bytes(parent)));
        memcpy((void *)made->done, (const void *)parent->done, done_bytes(parent));
    }
    enlist(made);
    return made;
}

static void make_room(struct process *process, size_t more) {
    if (process->count + more <= process->room) return;
    size_t before = process->room;
    process->room = (process->count + more) * 2;
    charge((process->room - before) * sizeof *process->extents);
    process->extents = checked(realloc(process->extents, process->room * sizeof *process->extents));
}

void add_extent(struct process *process, struct extent extent) {
    make_room(process, 1);
    process->extents[process->count++] = extent;
}

static int by_start(const void *a, const void *b) {
    u64 x = ((const struct extent *)a)->start, y = ((const struct extent *)b)->start;
    return x < y ? -1 : x > y;
}

void sort_extents(struct process *process) {
    qsort(process->extents, process->count, sizeof *process->extents, by_start);
    process->done = checked(calloc(1, done_bytes(process)));
}

/* The number of extents that begin at or below an address. */
static size_t starting_up_to(const struct process *process, u64 address) {
    size_t low = 0, high = process->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (process->extents[middle].start <= address) low = middle + 1;
        else high = middle;
    }
    return low;
}

size_t first_beyond(const struct process *process, u64 address) {
    size_t n = starting_up_to(process, address);
    return n && process->extents[n - 1].start + process->extents[n - 1].length > address ? n - 1 : n;
}

const struct extent *find_extent(const struct process *process, u64 address) {
    size_t n = first_beyond(process, address);
    return n < process->count && process->extents[n].start <= address ? &process->extents[n] : NULL;
}

/* Puts extents between two others; they are in order and overlap none. */
static void insert(struct process *process, const struct extent *extents, size_t count) {
    if (!count) return;
    make_room(process, count);
    size_t at = starting_up_to(process, extents->start);
    struct extent *place = process->extents + at;
    memmove(place + count, place, (process->count - at) * sizeof *place);
    memcpy(place, extents, count * sizeof *place);
    process->count += count;
}

static int overlaps(const struct process *process, u64 start, u64 end) {
    size_t n = first_beyond(process, start);
    return n < process->count && process->extents[n].start < end;
}

void cut(struct process *process, u64 start, u64 end, u64 target) {
    size_t from = first_beyond(process, start), to;
    for (to = from; to < process->count && process->extents[to].start < end;) to++;
    if (from == to) return;
    size_t count = to - from;
    struct extent *taken = checked(malloc(count * sizeof *taken));
    memcpy(taken, process->extents + from, count * sizeof *taken);
    memmove(process->extents + from, process->extents + to, (process->count - to) * sizeof *taken);
    process->count -= count;
    struct extent *head = &taken[0], *tail = &taken[count - 1];
    struct extent before = {head->start, head->start < start ? start - head->start : 0, head->offset};
    u64 tail_end = tail->start + tail->length;
    struct extent after = {end, tail_end > end ? tail_end - end : 0, tail->offset + (end - tail->start)};
    if (after.length) tail->length -= after.length;
    if (before.length) {
        head->start += before.length;
        head->offset += before.length;
        head->length -= before.length;
        insert(process, &before, 1);
    }
    if (after.length) insert(process, &after, 1);
    for (size_t i = 0; i < count; i++) taken[i].start = target + (taken[i].start - start);
    /* Older kernels report a move that shrinks with the length of before: two pages would have one address. */
    if (target && overlaps(process, target, target + (end - start)))
        fail("memory was moved to where other memory is: %llx", (unsigned long long)target);
    if (target) insert(process, taken, count);
    free(taken);
}

int is_done(const struct process *process, u64 offset) {
    u64 page = offset / PAGE;
    return process->done[page / 8] >> (page % 8) & 1;
}

void set_done(struct process *process, u64 offset, u64 length) {
    for (u64 page = offset / PAGE; page < (offset + length) / PAGE; page++)
        atomic_fetch_or_explicit(&process->done[page / 8], (unsigned char)(1 << page % 8), memory_order_release);
}
