/* Standby as the second holder of every descriptor.
 *
 * When the last one is closed the kernel answers every fault with zeros. A worker whose server was killed would go on
 * with holes in its memory; with standby as a holder it stops at the next one, until standby kills it.
 */
#define _GNU_SOURCE
#include "page_server.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { MOST = 1000 };  /* what standby holds; a worker that forks without end is ended */
enum { PATIENCE = 3 }; /* seconds: standby looks every 10 ms until it has a verdict, then every 50 ms */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int guard = NO_FD, counted_on;
static uint32_t sent;

static int send_word(char word, int fd) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec part = {&word, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd != NO_FD) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control.space;
        control.header.cmsg_len = CMSG_LEN(sizeof fd);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    }
    return sendmsg(guard, &message, MSG_NOSIGNAL) == 1;
}

static void lose(void) {
    if (counted_on) fail("standby does not hold the memory of one process more (it holds %u)", sent);
    close(guard); /* it drops what it has: nothing runs yet */
    guard = NO_FD;
}

void guard_open(int socket) {
    struct timeval patience = {.tv_sec = PATIENCE};
    guard = socket;
    if (guard == NO_FD) return;
    setsockopt(guard, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    setsockopt(guard, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
}

void guard_add(int uffd) {
    pthread_mutex_lock(&lock);
    if (guard != NO_FD && sent < MOST && send_word('P', uffd)) sent++;
    else if (guard != NO_FD) lose();
    pthread_mutex_unlock(&lock);
}

int guard_begin(void) {
    uint32_t holds = 0;
    pthread_mutex_lock(&lock);
    if (guard != NO_FD) {
        counted_on = send_word('B', NO_FD) && recv(guard, &holds, sizeof holds, 0) == sizeof holds && holds == sent;
        if (!counted_on) lose();
    }
    pthread_mutex_unlock(&lock);
    return counted_on;
}

void guard_end(void) {
    uint32_t holds;
    pthread_mutex_lock(&lock);
    /* Its answer says that it has let go. We hold ours until then, so that no fault waits at a descriptor that is not read. */
    if (guard != NO_FD && send_word('E', NO_FD) && recv(guard, &holds, sizeof holds, 0) < 0) holds = 0;
    pthread_mutex_unlock(&lock);
}
