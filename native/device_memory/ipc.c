/* CUDA IPC (cuIpcGetMemHandle) for allocations that are ours: the driver has no such handle for memory that is mapped. The
 * handle that the worker passes to another process names a socket of ours instead, and that process gets a descriptor of
 * the memory there. vLLM's own all-reduce shares its buffers so, and NCCL if it is not to map memory by itself.
 *
 * It serves processes of the same user in the same pid namespace that show the secret of the handle: the names of sockets
 * are there for all of a network to read, and two workers of one artifact have the same secret. At a capture the socket is
 * closed: a dump could not take a conversation along.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "device_memory.h"

enum { MOST_MS = 1000, ANSWER_SECONDS = 10, RETRY_US = 10000, MOST_TRIES = 200, MOST_OPENINGS = 4096 };
static const char MAGIC[8] = "snapipc";

struct name {
    char magic[8];
    unsigned char token[16], secret[16]; /* of the process: its socket's name, and what it must be shown */
    uint32_t segment, serial;
};

static unsigned char token[16], secret[16];
static _Atomic(uint32_t) is_wanted, is_open;
static int listener = -1, served = -1;
static pthread_mutex_t ends = PTHREAD_MUTEX_INITIALIZER; /* has both stay what they are */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int started;

static socklen_t socket_name(struct sockaddr_un *name, const unsigned char *of) {
    char namespace[64] = "";
    *name = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (readlink("/proc/self/ns/pid", namespace, sizeof namespace - 1) < 0) namespace[0] = 0;
    int length = snprintf(name->sun_path + 1, sizeof name->sun_path - 1, "snapshot-share/%.40s/", namespace);
    for (int i = 0; i < 16; i++) length += snprintf(name->sun_path + 1 + length, 3, "%02x", of[i]);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

/* One in another pid namespace has no number here. */
static int may_share(int connection) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    return getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid > 0 &&
           (peer.uid == geteuid() || peer.uid == 0);
}

static void note(int *end, int descriptor) {
    pthread_mutex_lock(&ends);
    *end = descriptor;
    pthread_mutex_unlock(&ends);
}

static void close_end(int *end) {
    pthread_mutex_lock(&ends);
    close(*end);
    *end = -1;
    pthread_mutex_unlock(&ends);
}

/* ------------------------------------------------------------------------------------------------------------ sharing */

static struct message share(uint32_t number, uint64_t serial, int *descriptor) {
    struct message answer = {.what = FAILED};
    enter_driver();
    wait_for_segments();
    const int is_it = number < MOST_SEGMENTS && segments[number].serial == serial;
    if (is_it && !export_again(number, descriptor).failed) answer = (struct message){.what = DONE, .a = segments[number].size};
    leave_segments();
    leave_driver();
    return answer;
}

static void serve_one(int connection) {
    note(&served, connection);
    const struct timeval patience = {ANSWER_SECONDS, 0};
    struct message asked;
    int none, descriptor = -1;
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (may_share(connection) && receive_message(connection, &asked, &none, 1)) {
        if (memcmp(asked.text, secret, sizeof secret) == 0) {
            struct message answer = share(asked.number, asked.a, &descriptor);
            send_with(connection, &answer, descriptor);
        }
        if (none >= 0) close(none);
    }
    if (descriptor >= 0) close(descriptor);
    close_end(&served);
}

static int make_listener(void) {
    struct sockaddr_un name;
    socklen_t size = socket_name(&name, token);
    int made = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (made >= 0 && bind(made, (struct sockaddr *)&name, size) == 0 && listen(made, 64) == 0) return made;
    if (made >= 0) close(made);
    return -1;
}

static void *shop(void *unused) {
    (void)unused;
    prctl(PR_SET_NAME, "snapshot-share");
    for (;;) {
        while (!atomic_load(&is_wanted)) syscall(SYS_futex, &is_wanted, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
        const int own = make_listener();
        note(&listener, own);
        atomic_store(&is_open, own >= 0);
        for (int connection; own >= 0 && atomic_load(&is_wanted) && (connection = accept4(own, NULL, NULL, SOCK_CLOEXEC)) >= 0;)
            serve_one(connection);
        if (own >= 0) close_end(&listener);
        atomic_store(&is_open, 0);
        if (atomic_load(&is_wanted)) usleep(RETRY_US);
    }
    return NULL;
}

static void start(void) {
    if (syscall(SYS_getrandom, token, sizeof token, 0) != sizeof token) return;
    if (syscall(SYS_getrandom, secret, sizeof secret, 0) != sizeof secret) return;
    started = start_thread(shop, 0) == 0;
}

/* A capture takes no time from those that wait. */
static void pause_for(unsigned us) {
    usleep(us);
    enter_driver();
    leave_driver();
}

static int await_open(void) {
    for (int ms = 0; ms < MOST_MS && !atomic_load(&is_open); ms++) pause_for(1000);
    return atomic_load(&is_open) ? 0 : -1;
}

void open_shop(void) {
    if (!started) return;
    atomic_store(&is_wanted, 1);
    syscall(SYS_futex, &is_wanted, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void close_shop(void) {
    if (!started) return;
    atomic_store(&is_wanted, 0);
    for (int ms = 0; ms < MOST_MS && atomic_load(&is_open); ms++) {
        pthread_mutex_lock(&ends);
        if (listener >= 0) shutdown(listener, SHUT_RDWR); /* ends the wait for a connection */
        if (served >= 0) shutdown(served, SHUT_RDWR);
        pthread_mutex_unlock(&ends);
        usleep(1000);
    }
}

/* It must not keep the name, nor be the other end of a conversation of its parent's. */
void renew_shop_in_child(void) {
    ends = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    if (listener >= 0) close(listener);
    if (served >= 0) close(served);
    listener = served = -1;
    is_wanted = is_open = 0;
    started = 0;
}

result name_for_others(struct shared *shared, address at) {
    struct name name = {.segment = 0};
    enter_driver();
    wait_for_segments();
    const int number = segment_around(at);
    const int can = number >= 0 && segments[number].properties.handle_types & HANDLE_IS_DESCRIPTOR;
    if (can) segments[number].exported = 1, name.segment = (uint32_t)number, name.serial = segments[number].serial;
    leave_segments();
    if (can) pthread_once(&once, start), open_shop();
    leave_driver();
    if (!can) return -1;
    if (!started || await_open()) return OUT_OF_MEMORY;
    memcpy(name.magic, MAGIC, sizeof MAGIC);
    memcpy(name.token, token, sizeof token);
    memcpy(name.secret, secret, sizeof secret);
    memset(shared, 0, sizeof *shared);
    memcpy(shared, &name, sizeof name);
    return SUCCESS;
}

/* ------------------------------------------------------------------------------------------------------------ opening */

enum answered { NO, YES, CLOSED };

static enum answered ask_once(const struct name *name, struct message *answer, int *descriptor) {
    const struct timeval patience = {ANSWER_SECONDS, 0};
    struct message asked = {.what = EXPORT, .number = name->segment, .a = name->serial};
    struct sockaddr_un at;
    memcpy(asked.text, name->secret, sizeof name->secret);
    socklen_t size = socket_name(&at, name->token);
    int connection = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    *descriptor = -1;
    if (connection < 0) return NO;
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    enum answered how = CLOSED;
    if (connect(connection, (struct sockaddr *)&at, size) == 0) {
        errno = 0;
        if (!may_share(connection)) how = NO;
        else if (send_message(connection, &asked) == 0 && receive_message(connection, answer, descriptor, 1))
            how = answer->what == DONE && *descriptor >= 0 ? YES : NO;
        else if (errno == EAGAIN) how = NO;
    }
    if (how != YES && *descriptor >= 0) close(*descriptor);
    close(connection);
    return how;
}

/* Its owner's socket is closed for a moment before and after a capture, while this process runs. */
static int ask(const struct name *name, struct message *answer, int *descriptor) {
    enum answered how = CLOSED;
    for (int i = 0; i < MOST_TRIES && how == CLOSED; i++) {
        if (i) pause_for(RETRY_US);
        how = ask_once(name, answer, descriptor);
    }
    return how == YES ? 0 : -1;
}

/* For the current device, and for the one that the memory is on if this process sees it: a copy from that one runs there,
 * as PyTorch's does, and the driver's own IPC lets it. Returns their number. */
static size_t let_see(address at, size_t size, int device, int home, struct access *list) {
    const struct driver *cuda = driver();
    int count = 0;
    cuda->cuDeviceGetCount(&count);
    list[0] = (struct access){{LOCATION_DEVICE, device}, ACCESS_READ_WRITE};
    list[1] = (struct access){{LOCATION_DEVICE, home}, ACCESS_READ_WRITE};
    if (home != device && home >= 0 && home < count && cuda->cuMemSetAccess(at, size, list, 2) == SUCCESS) return 2;
    return cuda->cuMemSetAccess(at, size, list, 1) == SUCCESS;
}

static result map_opened(address *at, size_t size, int descriptor) {
    const struct driver *cuda = driver();
    struct properties properties;
    handle memory;
    int device;
    result error = cuda->cuCtxGetDevice(&device);
    if (!error) error = cuda->cuMemImportFromShareableHandle(&memory, (void *)(intptr_t)descriptor, HANDLE_IS_DESCRIPTOR);
    if (error) return error;
    error = cuda->cuMemGetAllocationPropertiesFromHandle(&properties, memory);
    if (!error) error = cuda->cuMemAddressReserve(at, size, 0, 0, 0);
    if (error) return cuda->cuMemRelease(memory), error;
    error = cuda->cuMemMap(*at, size, 0, memory, 0);
    if (!error) {
        struct access list[2];
        const size_t count = let_see(*at, size, device, properties.location.id, list);
        wait_for_segments();
        if (!count) error = NO_PEER_ACCESS;
        else if (add_opened(*at, size, memory, &properties, list, count)) error = OUT_OF_MEMORY;
        leave_segments();
        if (error) cuda->cuMemUnmap(*at, size);
    }
    if (error) cuda->cuMemRelease(memory), cuda->cuMemAddressFree(*at, size);
    return error;
}

/* As the driver has it, a handle that is opened again on a device is the same address, until each opening is closed. Of
 * those that do not fit in here each has an address of its own. */
static struct opening {
    struct name name;
    address at; /* 0: free */
    uint32_t count;
    int device;
} openings[MOST_OPENINGS];

static struct opening *opening_at(address at) {
    struct opening *each = openings;
    while (each < openings + MOST_OPENINGS && each->at != at) each++;
    return each < openings + MOST_OPENINGS ? each : NULL;
}

static int open_again(const struct name *name, int device, address *at) {
    *at = 0;
    wait_for_segments();
    for (struct opening *each = openings; each < openings + MOST_OPENINGS && !*at; each++)
        if (each->at && each->device == device && memcmp(&each->name, name, sizeof *name) == 0) each->count++, *at = each->at;
    leave_segments();
    return *at != 0;
}

static void note_opening(const struct name *name, int device, address at) {
    wait_for_segments();
    struct opening *free = opening_at(0);
    if (free) *free = (struct opening){*name, at, 1, device};
    leave_segments();
}

result open_of_others(address *at, const struct shared *shared) {
    struct name name;
    struct message answer;
    int descriptor, device;
    memcpy(&name, shared, sizeof name);
    if (memcmp(name.magic, MAGIC, sizeof MAGIC)) return -1;
    if (started && memcmp(name.token, token, sizeof token) == 0) return INVALID_CONTEXT; /* as the driver: not in its own */
    if (!driver() || driver()->cuCtxGetDevice(&device)) return INVALID_CONTEXT;
    if (open_again(&name, device, at)) return SUCCESS;
    if (ask(&name, &answer, &descriptor)) return INVALID_VALUE;
    enter_driver();
    result error = map_opened(at, answer.a, descriptor);
    if (!error) note_opening(&name, device, *at);
    leave_driver();
    close(descriptor);
    return error;
}

result close_of_others(address at) {
    const struct driver *cuda = driver();
    size_t size;
    handle memory;
    wait_for_segments();
    struct opening *opening = at ? opening_at(at) : NULL;
    const int stays = opening && --opening->count > 0;
    if (opening && !stays) opening->at = 0;
    int found = stays ? 0 : drop_opened(at, &size, &memory);
    leave_segments();
    if (stays) return SUCCESS;
    if (found) return -1;
    result error = cuda->cuCtxSynchronize();
    if (!error) error = cuda->cuMemUnmap(at, size);
    if (!error && memory) error = cuda->cuMemRelease(memory);
    return error ? error : cuda->cuMemAddressFree(at, size);
}
