/* The second holder of a restored worker's memory; native/page_server/guard.c is the first.
 *
 * A page server gives the worker its memory while it runs already. When the last descriptor of that memory is closed the
 * kernel answers with zeros where pages are missing. So we hold each of them until all pages are in, and if the server
 * ends before that, the worker ends with it.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "standby.h"

enum { MAX_HELD = 1000, NONE = -1 };

static int listener = NONE, server = NONE;
static int held[MAX_HELD];
static uint32_t count;
static int guards; /* the server counts on us */
static int failed; /* we cannot hold what it sends since then: no descriptor is free */

void open_pages(void) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    snprintf(name.sun_path, sizeof name.sun_path, "/proc/self/fd/%d/standby-pages", control_directory());
    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener == NONE || bind(listener, (struct sockaddr *)&name, sizeof name) != 0 || listen(listener, 1) != 0) {
        close(listener);
        listener = NONE; /* all pages are then in before the worker runs */
    }
}

/* The agent's server lives outside our pid namespace, so it has no number here; a process of the container has one. */
int is_from_outside(int peer) {
    struct ucred who;
    socklen_t size = sizeof who;
    return getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 && who.pid == 0;
}

static void take(const struct msghdr *message) {
    const struct cmsghdr *first = CMSG_FIRSTHDR(message);
    int fd = NONE;
    if (first && first->cmsg_type == SCM_RIGHTS) memcpy(&fd, CMSG_DATA(first), sizeof fd);
    if (fd != NONE && count < MAX_HELD) {
        held[count++] = fd;
        return;
    }
    if (fd != NONE) close(fd);
    failed = guards;
}

static void let_go(void) {
    for (uint32_t i = 0; i < count; i++) close(held[i]);
    count = 0;
    guards = failed = 0;
}

/* Returns 0 when nothing is left to read, or the server has ended. */
static int read_word(void) {
    char word = 0;
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {&word, 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.space};
    ssize_t n = recvmsg(server, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0) return 0;
    if (n == 0) {
        close(server);
        server = NONE;
        return 0;
    }
    if (word == 'P') take(&message);
    if (word == 'E') let_go();
    if (word == 'B') guards = 1;
    if (word != 'P' && send(server, &count, sizeof count, MSG_NOSIGNAL) < 0) guards = 0;
    return 1;
}

int guards_pages(void) { return guards; }

int pages_are_lost(void) {
    if (server == NONE && listener != NONE) {
        server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (server != NONE && !is_from_outside(server)) {
            close(server);
            server = NONE;
        }
    }
    if (server == NONE) return 0;
    while (read_word()) continue;
    if (server != NONE && !failed) return 0;
    int lost = guards;
    if (lost) {
        kill(-1, SIGKILL); /* before the last descriptor is closed: none of them runs on with zeros */
        publish("standby-pages-lost", "copy\n");
    }
    let_go();
    return lost;
}
