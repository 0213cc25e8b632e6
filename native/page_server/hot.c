/* The hot set: what a worker touched from its restore to its first answers, recorded once and filled first from then on.
 *
 * It is a hint. It says in which order pages are put in, never which, nor what is in them. One that does not fit the
 * images is not used at all.
 */
#define _GNU_SOURCE
#include "page_server.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* One MiB of ranges: 4 GiB if no two of them touch each other. */
enum { MOST_RANGES = 65536 };
/* Seconds: a worker that touches much until it answers must not wait for each page of it until its probe has failed. */
enum { RECORD_SECONDS = 10 };
/* And what is missing must be filled before standby has as many descriptors as it can hold. */
enum { MOST_FORKS = 100 };

/* `artifact/hot_set.py` writes and reads the same, with a header and a sum. */
struct range {
    uint32_t pid, pages;
    u64 offset; /* of the pages file, in bytes */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct range *ranges;
static size_t count;
static atomic_int records, forks;

/* ----------------------------------------------------------------------------------------------------------- written */

void record_begin(int file) {
    sigset_t asked;
    if (file == NO_FD) return;
    ranges = calloc(MOST_RANGES, sizeof *ranges);
    if (!ranges) return;
    sigemptyset(&asked);
    sigaddset(&asked, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &asked, NULL); /* in all threads: each has its mask from here */
    records = 1;
}

int is_recording(void) { return records; }

void record(const struct process *process, u64 offset, u64 length) {
    if (!records) return;
    pthread_mutex_lock(&lock);
    struct range *last = count ? &ranges[count - 1] : NULL;
    uint32_t pid = (uint32_t)process->pid;
    if (last && last->pid == pid && last->offset + (u64)last->pages * PAGE == offset) last->pages += length / PAGE;
    else if (count < MOST_RANGES) ranges[count++] = (struct range){pid, (uint32_t)(length / PAGE), offset};
    pthread_mutex_unlock(&lock);
}

void record_fork(void) {
    if (records && ++forks == MOST_FORKS) kill(getpid(), SIGUSR1);
}

void record_until_asked(int file) {
    sigset_t asked;
    struct timespec patience = {.tv_sec = RECORD_SECONDS};
    if (!records) return;
    sigemptyset(&asked);
    sigaddset(&asked, SIGUSR1);
    sigtimedwait(&asked, NULL, &patience);
    records = 0;
    pthread_mutex_lock(&lock); /* the last one who recorded has left */
    size_t size = count * sizeof *ranges;
    pthread_mutex_unlock(&lock);
    if (write(file, ranges, size) != (ssize_t)size) size = 0;
    report("recorded %zu", size);
}

/* -------------------------------------------------------------------------------------------------------------- read */

static struct process *of_pid(uint32_t pid) {
    for (struct process *p = processes(); p; p = p->next)
        if ((uint32_t)p->pid == pid) return p;
    return NULL;
}

/* The number of the extent that holds an offset, by the order that criu writes them in; `count` if none does. */
static size_t holding(const struct process *process, u64 offset) {
    size_t low = 0, high = process->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct extent *extent = &process->extents[middle];
        if (extent->offset + extent->length <= offset) low = middle + 1;
        else high = middle;
    }
    return low < process->count && process->extents[low].offset <= offset ? low : process->count;
}

/* Lists a range, which may be of several extents; 0 if it is not of what criu leaves to us. */
static int list(struct queue *queue, struct range range) {
    struct process *process = of_pid(range.pid);
    u64 offset = range.offset, left = (u64)range.pages * PAGE;
    if (!process || !left || offset % PAGE || offset > process->size || left > process->size - offset) return 0;
    while (left) {
        size_t at = holding(process, offset);
        if (at == process->count) return 0;
        const struct extent *extent = &process->extents[at];
        u64 into = offset - extent->offset, length = extent->length - into < left ? extent->length - into : left;
        enqueue(queue, process, (struct extent){extent->start + into, length, offset});
        offset += length, left -= length;
    }
    return 1;
}

void load_hot(int file, struct queue *queue) {
    struct stat status;
    if (file == NO_FD || fstat(file, &status) != 0) return;
    size_t size = (size_t)status.st_size, found = size / sizeof(struct range), i = 0;
    struct range *read_in = found && found <= MOST_RANGES ? malloc(size) : NULL;
    u64 left = 0; /* pages: no more than there are, however often one is named */
    for (struct process *p = processes(); p; p = p->next) left += p->size / PAGE;
    if (read_in && pread(file, read_in, size, 0) == (ssize_t)size)
        for (; i < found && read_in[i].pages <= left && list(queue, read_in[i]); i++) left -= read_in[i].pages;
    free(read_in);
    if (i == found) return;
    queue->count = 0;
    report("unusable range %zu of %zu is not of these images", i, found);
}
