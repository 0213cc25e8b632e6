/* One thread for each process: it answers faults, and follows what the process does to its mappings.
 *
 * The kernel lets an unmapping, a move, or a fork go on as soon as its event is read, and lets pages be put in again. So
 * the lock is held for writing from before the read until the table says the same: a page that is put in between would
 * bring old content back where the process has thrown it away.
 */
#define _GNU_SOURCE
#include "page_server.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { MESSAGES = 64, WAITING = 4096, STACK = 256 << 10, AROUND = 64 << 10, MOST_AROUND = 1 << 20 };
/* Milliseconds. */
enum { LOOK_AGAIN = 1, IDLE = 200 };

/* Faults that could not be answered because an event came first. */
struct waiting {
    u64 addresses[WAITING];
    size_t count;
};

static enum outcome put_zeros(struct process *process, u64 address) {
    struct uffdio_zeropage zeros = {.range = {address, PAGE}};
    counters.zeros++;
    if (ioctl(process->uffd, UFFDIO_ZEROPAGE, &zeros) == 0) return PUT;
    if (errno == EAGAIN) return AGAIN;
    if (errno == ESRCH) process->ended = 1;
    ioctl(process->uffd, UFFDIO_WAKE, &zeros.range); /* it is there already, or its mapping is not */
    return PUT;
}

/* Says by its window how much is put in for a fault: twice as much as for another one if it goes on where that ended. */
static struct stream *stream_of(struct process *process, u64 address) {
    struct stream *stream = process->streams;
    while (stream < process->streams + STREAMS && stream->end != address) stream++;
    if (stream == process->streams + STREAMS || is_recording()) {
        stream = &process->streams[++process->newest % STREAMS];
        stream->window = AROUND / 2;
    }
    if (stream->window < MOST_AROUND) stream->window *= 2;
    return stream;
}

/* The page of a fault, and those around it that are likely to be wanted next. */
static enum outcome answer(struct process *process, u64 address) {
    enum outcome outcome;
    pthread_rwlock_rdlock(&process->lock);
    const struct extent *extent = find_extent(process, address);
    u64 offset = extent ? extent->offset + (address - extent->start) : 0;
    if (!extent || is_done(process, offset)) {
        /* Never in the image, or thrown away since: the kernel's own answer would be zeros too. */
        outcome = put_zeros(process, address);
    } else {
        struct stream *stream = stream_of(process, address);
        u64 low = address / AROUND * AROUND, high = low + stream->window;
        if (low < extent->start) low = extent->start;
        if (high > extent->start + extent->length) high = extent->start + extent->length;
        stream->end = high;
        /* Who reads in a row would wait for the rest at once, and say so. */
        outcome = put(process, address, offset, stream->window > AROUND ? high - address : PAGE);
        if (outcome == PUT) {
            u64 into = extent->offset + (low - extent->start);
            record(process, into, high - low);
            put(process, low, into, high - low);
        }
    }
    pthread_rwlock_unlock(&process->lock);
    return outcome;
}

static void answer_or_keep(struct process *process, struct waiting *waiting, u64 address) {
    if (answer(process, address) != AGAIN) return;
    if (waiting->count == WAITING) fail("more than %d faults wait", WAITING);
    waiting->addresses[waiting->count++] = address;
}

static void answer_waiting(struct process *process, struct waiting *waiting) {
    size_t count = waiting->count;
    waiting->count = 0;
    for (size_t i = 0; i < count; i++) answer_or_keep(process, waiting, waiting->addresses[i]);
}

static void follow(struct process *process, const struct uffd_msg *message) {
    counters.events++;
    switch (message->event) {
    case UFFD_EVENT_REMAP:
        cut(process, message->arg.remap.from, message->arg.remap.from + message->arg.remap.len, message->arg.remap.to);
        break;
    case UFFD_EVENT_REMOVE:
    case UFFD_EVENT_UNMAP: cut(process, message->arg.remove.start, message->arg.remove.end, 0); break;
    case UFFD_EVENT_FORK: {
        struct process *child = forked(process, (int)message->arg.fork.ufd);
        record_fork();
        guard_add(child->uffd);
        serve(child);
        break;
    }
    default: fail("the kernel reports what is not known: event %d", message->event);
    }
}

/* Returns the number of messages. */
static size_t read_messages(struct process *process, struct uffd_msg *messages) {
    process->reader_waits++;
    pthread_rwlock_wrlock(&process->lock);
    process->reader_waits--;
    ssize_t n = read(process->uffd, messages, MESSAGES * sizeof *messages);
    if (n < 0 && errno != EAGAIN && errno != EINTR) fail("events of process %d cannot be read: %m", process->pid);
    size_t count = n > 0 ? (size_t)n / sizeof *messages : 0;
    for (size_t i = 0; i < count; i++)
        if (messages[i].event != UFFD_EVENT_PAGEFAULT) follow(process, &messages[i]);
    pthread_rwlock_unlock(&process->lock);
    return count;
}

static void *run(void *argument) {
    struct process *process = argument;
    struct waiting waiting = {.count = 0};
    struct uffd_msg messages[MESSAGES];
    struct pollfd poll_fd = {.fd = process->uffd, .events = POLLIN};
    while (!process->ended) {
        answer_waiting(process, &waiting);
        if (poll(&poll_fd, 1, waiting.count ? LOOK_AGAIN : IDLE) <= 0) continue;
        if (poll_fd.revents & (POLLERR | POLLHUP)) break;
        size_t count = read_messages(process, messages);
        for (size_t i = 0; i < count; i++) {
            if (messages[i].event != UFFD_EVENT_PAGEFAULT) continue;
            counters.faults++;
            last_fault = now_us();
            answer_or_keep(process, &waiting, messages[i].arg.pagefault.address / PAGE * PAGE);
        }
    }
    return NULL;
}

void serve(struct process *process) {
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attributes, run, process) != 0) fail("no thread for process %d", process->pid);
    pthread_attr_destroy(&attributes);
}
