/* The conversation with the agent: it listens on an abstract name in our network namespace that is of our process alone,
 * and we connect. docs/device-memory.md has the protocol. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "device_memory.h"

enum { LOOK_AT_TABLE = 1000 };

static int released; /* between RELEASE and LOAD nothing of the worker may run */

int connect_agent(void) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct ucred peer = {.pid = -1};
    socklen_t size = sizeof peer;
    char namespace[64] = "";
    /* Two containers of a pod share the network, and may have the same process ids. */
    if (readlink("/proc/self/ns/pid", namespace, sizeof namespace - 1) <= 0) return -1;
    int length = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "snapshot-device-memory/%s/%d", namespace, getpid());
    int connection = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (connection < 0) return -1;
    socklen_t whole = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
    /* No process of this container: one outside of it has no number here. */
    if (connect(connection, (struct sockaddr *)&name, whole) == 0 &&
        getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid == 0 && peer.uid == 0)
        return connection;
    close(connection);
    return -1;
}

int send_with(int connection, const struct message *message, int descriptor) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec part = {(void *)message, sizeof *message};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    if (descriptor >= 0) {
        header.msg_control = &control;
        header.msg_controllen = sizeof control.space;
        control.header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), &descriptor, sizeof descriptor);
    }
    return sendmsg(connection, &header, MSG_NOSIGNAL) == sizeof *message ? 0 : -1;
}

int send_message(int connection, const struct message *message) { return send_with(connection, message, -1); }

int receive_message(int connection, struct message *message, int *descriptors, int most) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(COPIERS * sizeof(int))];
    } control;
    struct iovec part = {message, sizeof *message};
    struct msghdr header = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_LEN((size_t)most * sizeof(int))};
    for (int i = 0; i < most; i++) descriptors[i] = -1; /* the kernel closes what is more */
    ssize_t received;
    do received = recvmsg(connection, &header, MSG_CMSG_CLOEXEC);
    while (received < 0 && errno == EINTR); /* a call of the worker's may be interrupted by a signal, or a capture */
    struct cmsghdr *first = received < 0 ? NULL : CMSG_FIRSTHDR(&header);
    if (first && first->cmsg_type == SCM_RIGHTS) memcpy(descriptors, CMSG_DATA(first), first->cmsg_len - CMSG_LEN(0));
    if (received == sizeof *message) return 1;
    for (int i = 0; i < most; i++)
        if (descriptors[i] >= 0) close(descriptors[i]);
    for (int i = 0; i < most; i++) descriptors[i] = -1;
    return 0;
}

static struct message answer(const struct outcome *outcome) {
    struct message message = {.what = outcome->failed ? FAILED : DONE};
    message.number = (uint32_t)(outcome->failed ? (uint64_t)outcome->error : outcome->discarded);
    message.a = outcome->stored * UNIT;
    message.b = outcome->units * UNIT;
    if (outcome->failed) snprintf(message.text, sizeof message.text, "%s", outcome->failed);
    return message;
}

static struct message look(void) {
    struct message message = {.what = DONE, .number = VERSION};
    for (int i = 0; i < segment_count; i++) {
        if (!segments[i].used || segments[i].fixed) continue;
        message.a += segments[i].is_on_host ? units_of(&segments[i]) * UNIT : 0;
        message.b += units_of(&segments[i]) * UNIT;
    }
    return message;
}

/* All of them, even if one fails: load maps those that are not mapped. */
static struct message release(void) {
    struct outcome outcome = {0};
    for (int i = 0; i < segment_count; i++) {
        if (!segments[i].used || !segments[i].present || segments[i].fixed) continue;
        result error = unmap_segment(&segments[i]);
        if (error && !outcome.failed) outcome = (struct outcome){.error = error, .failed = "release device memory"};
    }
    note_instances();
    result error = part_peers();
    if (error && !outcome.failed) outcome = (struct outcome){.error = error, .failed = "end its devices' peer access"};
    return answer(&outcome);
}

static struct message close_for_agent(void) {
    struct outcome outcome = {0};
    const struct outcome busy = {.error = CAPTURE_UNSUPPORTED, .failed = "be saved while it captures a CUDA graph"};
    close_shop();
    if (close_gate()) outcome.failed = "keep its threads from the driver: one of them allocates memory";
    else if (is_recording()) outcome = busy;
    else close_shop(); /* one of them may have opened it since */
    return answer(&outcome);
}

static void let_in(void) {
    released = 0;
    open_gate();
    open_shop();
}

static struct message shares(void) {
    struct message message = {.what = DONE};
    count_shared(&message.a, &message.b);
    return message;
}

static struct message want(uint32_t from) {
    const int number = next_awaited(from);
    if (number < 0) return (struct message){.what = DONE, .text = "nothing"};
    const struct segment *segment = &segments[number];
    return (struct message){
        .what = DONE, .number = (uint32_t)number, .a = segment->owner.process, .b = segment->owner.segment};
}

static struct message lend_next(const struct message *asked, int *shared) {
    const int number = next_lent(asked->number, asked->a);
    if (number < 0) return (struct message){.what = DONE, .text = "nothing"};
    const struct outcome outcome = lend(number, shared);
    if (outcome.failed) return answer(&outcome);
    const struct segment *segment = &segments[number];
    return (struct message){.what = DONE, .number = (uint32_t)number, .a = segment->loaded - 1, .b = segment->size};
}

static struct message give_places(int file) {
    struct message message = {.what = DONE};
    const struct outcome outcome = write_places(file, &message.a);
    return outcome.failed ? answer(&outcome) : message;
}

static struct outcome be_quiet(void) {
    result error = await_kernels();
    return (struct outcome){.error = error, .failed = error ? "wait for the worker's kernels" : NULL};
}

/* What is asked for, with the table taken. `shared`: a descriptor that goes with the answer. */
static struct message answer_to(const struct message *asked, const int *files, int *shared) {
    struct outcome outcome = {.failed = "do what is not known to it"};
    switch (asked->what) {
    case LOOK: return look();
    case SHARES: return shares();
    case RELEASE: return released = 1, release();
    case WANT: return want(asked->number);
    case LEND: return lend_next(asked, shared);
    case PLACES: return give_places(files[0]);
    case QUIET: outcome = be_quiet(); break;
    case TAG: outcome = tag_exported(asked->a); break;
    case UNTAG: outcome = untag_exported(); break;
    case MATCH: outcome = match_imported(asked->a); break;
    case SAVE: outcome = save_segments(asked->number == 1); break;
    case LOAD: outcome = load_segments(files); break;
    case EXPORT: outcome = export_again(asked->number, shared); break;
    case IMPORT: outcome = import_again(asked->number, files[0]); break;
    case BUFFER:
        if (released) outcome = make_buffer(asked->number, asked->a, (uint32_t)asked->b, shared);
        break;
    default: break;
    }
    const int is_whole = (asked->what == LOAD || asked->what == IMPORT) && !outcome.failed && next_awaited(0) < 0;
    if (is_whole) let_in();
    return answer(&outcome);
}

static struct message act_on(const struct message *asked, const int *files, int *shared) {
    if (asked->what == CLOSE) return close_for_agent(); /* waits for threads that may want the table */
    /* A thread that is held may have the table: it is then as it was, and so is the worker. */
    if (!take_segments(LOOK_AT_TABLE)) {
        const struct outcome outcome = {.failed = "look at its allocations: the worker is in the middle of one"};
        return answer(&outcome);
    }
    if (asked->what != LOOK) enter_device(-1);
    const struct message message = answer_to(asked, files, shared);
    leave_segments();
    return message;
}

/* What the load that follows reads. */
static struct message accept_ranges(const struct message *asked, int *files) {
    struct outcome outcome = {0};
    const int taken = asked->what == SOURCES ? add_sources(files, COPIERS) : take_ranges(files[0], asked->a);
    if (taken) outcome.failed = "take the files that its memory is in";
    return answer(&outcome);
}

/* Only while device memory is out: it is then the agent alone that has something to do here. */
static struct message accept_part(const struct message *part) {
    struct message message = {.what = DONE};
    if (!released || !take_segments(LOOK_AT_TABLE)) return message;
    message.a = (uint64_t)take_part(part->number, part->a, (uint32_t)part->b, (uint32_t)(part->b >> 32));
    leave_segments();
    return message;
}

void serve(void) {
    struct message asked;
    int connection = connect_agent(), files[COPIERS];
    if (connection < 0) return;
    while (receive_message(connection, &asked, files, COPIERS) && asked.what != END) {
        struct message message = {0};
        int shared = -1;
        if (asked.what == PART) message = accept_part(&asked);
        else if (asked.what == SOURCES || asked.what == RANGES) message = accept_ranges(&asked, files);
        else if (asked.what != OLD_PART) message = act_on(&asked, files, &shared);
        for (int i = 0; i < COPIERS; i++)
            if (files[i] >= 0) close(files[i]);
        const int failed = message.what && send_with(connection, &message, shared);
        if (shared >= 0) close(shared);
        if (failed) break;
    }
    forget_ranges();
    give_up_load(); /* there is none, unless the agent has ended */
    /* As with this. What others see of ours must be true, or not be. */
    if (untag_exported().failed) kill(getpid(), SIGKILL);
    if (!released) let_in();
    close(connection);
}
