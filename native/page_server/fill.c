/* Puts pages in: one by one for those who wait for them, and all of them by threads of our own. */
#define _GNU_SOURCE
#include "page_server.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif

/* Bytes: long enough that a lock for each costs nothing, short enough that who waits for the lock does not wait long. */
enum { PIECE = 512 << 10, SMALL_PIECE = 64 << 10 };
/* Microseconds. */
enum { PAUSE = 50, MEMORY_PATIENCE = 5000000 };
/* For so long, in microseconds, the threads work behind all others: criu has something left to do, the agent looks at
 * what it made, and then the worker gives its first answer. On a node with few cores each of them waited for one. */
enum { BEHIND = 1000000, BEHIND_NICE = 10 };
/* A fault keeps two cores at work, that of the worker and that of our answer, and faults come in runs: for so many
 * microseconds after one, as many of our threads fill nothing. */
enum { WAY = 2000, GIVING_WAY = 2 };

struct counters counters;
atomic_ullong last_fault;

static void wake(struct process *process, u64 address) {
    struct uffdio_range range = {address, PAGE};
    ioctl(process->uffd, UFFDIO_WAKE, &range);
}

static u64 missing(const struct process *process, u64 offset, u64 limit) {
    u64 length = 0;
    while (length < limit && !is_done(process, offset + length)) length += PAGE;
    return length;
}

static atomic_ullong full_since; /* 0 unless the last page did not fit into the pod's memory */

/* Another process of the pod may give some back; but not for ever. */
static enum outcome without_memory(void) {
    u64 since = atomic_load(&full_since), now = now_us();
    if (!since) atomic_store(&full_since, now);
    else if (now - since > MEMORY_PATIENCE) fail("the pod's memory limit is reached while its memory is restored");
    return AGAIN;
}

/* Moves past what one call to the kernel did; `tried` is how much it was asked for, and is cut down to what may work.
 *
 * `missed` is set if the kernel found no mapping for a single page. That can be because the page was moved since the
 * call began, by an event that is not read yet; the same call then answers EAGAIN. Only a second miss means that there
 * is none: events are not read while the lock is held. */
static enum outcome step(struct process *process, u64 address, u64 *tried, u64 *put_in, int *missed) {
    switch (errno) {
    case EEXIST:
        wake(process, address);
        *put_in = PAGE;
        return PUT;
    case EAGAIN: return AGAIN;
    case ENOMEM: return without_memory();
    case ESRCH: process->ended = 1; return ENDED;
    case ENOENT:
        /* A mapping ends in between, where the worker changed a part of it; or it is not there in this process. */
        if (*tried > PAGE) {
            *tried = *tried / 2 / PAGE * PAGE;
            return PUT;
        }
        if (!*missed) {
            *missed = 1;
            return PUT;
        }
        counters.absent++;
        wake(process, address);
        *put_in = PAGE;
        return PUT;
    default: fail("page %llx cannot be restored: %m", (unsigned long long)address);
    }
}

enum outcome put(struct process *process, u64 address, u64 offset, u64 length) {
    u64 most = length;
    int missed = 0;
    while (length) {
        u64 wanted = missing(process, offset, length < most ? length : most), did = 0;
        if (!wanted) {
            address += PAGE, offset += PAGE, length -= PAGE;
            continue;
        }
        struct uffdio_copy copy = {.dst = address, .src = (u64)(uintptr_t)process->pages + offset, .len = wanted};
        enum outcome outcome = PUT;
        if (ioctl(process->uffd, UFFDIO_COPY, &copy) == 0) did = wanted;
        else if (copy.copy > 0) did = (u64)copy.copy;
        if (did) {
            counters.bytes += did;
            if (full_since) full_since = 0;
        } else outcome = step(process, address, &wanted, &did, &missed);
        if (outcome != PUT) return outcome;
        most = did ? length : wanted;
        if (did) missed = 0;
        set_done(process, offset, did);
        address += did, offset += did, length -= did;
    }
    return PUT;
}

static void give_way(u64 until) {
    for (u64 now; (now = now_us()) < until && now < last_fault + WAY;) usleep(WAY / 2);
}

/* Puts a piece in, wherever it is by now; what was moved meanwhile is found by the next pass. Until some moment, which
 * may be 0, it gives way to faults. */
static void fill_piece(const struct piece *piece, u64 gives_way_until) {
    struct process *process = piece->process;
    u64 done = 0;
    /* From storage, before any lock: the kernel would read it page by page. */
    madvise((void *)((uintptr_t)process->pages + piece->offset), piece->length, MADV_POPULATE_READ);
    while (done < piece->length && !process->ended) {
        give_way(gives_way_until);
        while (process->reader_waits) usleep(1);
        pthread_rwlock_rdlock(&process->lock);
        const struct extent *extent = find_extent(process, piece->start + done);
        u64 into = extent ? piece->start + done - extent->start : 0;
        u64 length = extent ? extent->length - into : 0;
        if (length > piece->length - done) length = piece->length - done;
        if (gives_way_until && length > SMALL_PIECE) length = SMALL_PIECE;
        int moved = !extent || extent->offset + into != piece->offset + done;
        enum outcome outcome = moved ? ENDED : put(process, piece->start + done, piece->offset + done, length);
        pthread_rwlock_unlock(&process->lock);
        if (outcome == ENDED) return;
        if (outcome == PUT) done += length;
        else usleep(PAUSE);
    }
}

static void add_piece(struct queue *queue, struct piece piece) {
    if (queue->count == queue->room) {
        queue->room = queue->room * 2 + 1024;
        queue->pieces = realloc(queue->pieces, queue->room * sizeof *queue->pieces);
        if (!queue->pieces) fail("no memory for the list of pages");
    }
    queue->pieces[queue->count++] = piece;
}

void enqueue(struct queue *queue, struct process *process, struct extent extent) {
    for (u64 at = 0; at < extent.length;) {
        u64 length = missing(process, extent.offset + at, extent.length - at < PIECE ? extent.length - at : PIECE);
        if (length) add_piece(queue, (struct piece){process, extent.start + at, extent.offset + at, length});
        at += length ? length : PAGE;
    }
}

static int by_length(const void *a, const void *b) {
    u64 x = ((const struct extent *)a)->length, y = ((const struct extent *)b)->length;
    return x > y ? -1 : x < y;
}

/* The longest extents first: what a worker waits for page by page is then in while it asks for single ones. */
static void list_missing(struct queue *queue) {
    queue->count = 0;
    queue->next = 0;
    queue->behind = 0;
    for (struct process *p = processes(); p; p = p->next) {
        if (p->ended || p->uffd == NO_FD) continue;
        pthread_rwlock_rdlock(&p->lock);
        struct extent *extents = malloc((p->count + 1) * sizeof *extents);
        if (!extents) fail("no memory for the list of pages");
        size_t count = p->count;
        memcpy(extents, p->extents, count * sizeof *extents);
        pthread_rwlock_unlock(&p->lock);
        qsort(extents, count, sizeof *extents, by_length);
        for (size_t i = 0; i < count; i++) enqueue(queue, p, extents[i]);
        free(extents);
    }
}

static void *work(void *argument) {
    struct queue *queue = argument;
    for (size_t i; (i = atomic_fetch_add(&queue->next, 1)) < queue->count;) fill_piece(&queue->pieces[i], 0);
    return NULL;
}

/* A thread cannot come forward again without a right that this has given up, so others go on from here. */
static void *work_behind(void *argument) {
    struct queue *queue = argument;
    u64 gives_way_until = atomic_fetch_add(&queue->behind, 1) < GIVING_WAY ? queue->behind_until : 0;
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), BEHIND_NICE);
    while (now_us() < queue->behind_until) {
        size_t i = atomic_fetch_add(&queue->next, 1);
        if (i >= queue->count) break;
        fill_piece(&queue->pieces[i], gives_way_until);
    }
    return NULL;
}

static void run_queue(struct queue *queue, int threads, void *(*act)(void *)) {
    pthread_t started[64];
    int count = 0;
    for (; count < threads && count < 64; count++)
        if (pthread_create(&started[count], NULL, act, queue) != 0) break;
    if (!count) work(queue);
    for (int i = 0; i < count; i++) pthread_join(started[i], NULL);
}

u64 fill_hot(struct queue *queue, int threads) {
    u64 bytes = 0;
    size_t kept = 0;
    for (size_t i = 0; i < queue->count; i++)
        if (queue->pieces[i].process->uffd != NO_FD) queue->pieces[kept++] = queue->pieces[i];
    queue->count = kept;
    for (size_t i = 0; i < kept; i++) bytes += queue->pieces[i].length;
    if (kept) run_queue(queue, threads, work);
    free(queue->pieces);
    return bytes;
}

void fill_all(int threads) {
    static struct queue queue;
    const struct process *newest;
    queue.behind_until = now_us() + BEHIND;
    do {
        newest = processes();
        list_missing(&queue);
        run_queue(&queue, threads, work_behind);
        run_queue(&queue, threads, work);
        /* A process that was forked meanwhile may miss what its parent was given since. */
    } while (queue.count || newest != processes());
}

void fill_urgent(int threads) {
    struct queue queue = {0};
    for (struct process *p = processes(); p; p = p->next) {
        pthread_rwlock_rdlock(&p->lock);
        for (size_t u = 0; p->uffd != NO_FD && u < p->urgent_count; u++) {
            u64 start = p->urgent[u].start, end = start + p->urgent[u].length;
            for (size_t i = first_beyond(p, start); i < p->count && p->extents[i].start < end; i++) {
                struct extent e = p->extents[i];
                u64 low = e.start > start ? e.start : start, stop = e.start + e.length, high = stop < end ? stop : end;
                enqueue(&queue, p, (struct extent){low, high - low, e.offset + low - e.start});
            }
        }
        pthread_rwlock_unlock(&p->lock);
    }
    run_queue(&queue, threads, work);
    free(queue.pieces);
}
