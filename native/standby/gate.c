/* snapshot-standby --gate: the startup probe of a container of which something passes before its worker may serve, and of
 * one that waits for its restore for as long as it takes.
 *
 * A worker that must answer a canary first is awake and listens while the agent asks it, and any restored socket is
 * connected to before its worker is awake. So kubelet asks here: the gate is shut until standby has its verdict or the
 * container has started cold, and asks the worker from then on. It waits for that moment for as long as kubelet would
 * wait with its next look.
 *
 * A cold start in a control directory that cannot be written leaves no file there; it shows by what standby has become.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "standby.h"

/* Milliseconds. */
enum { WAIT = 1000 };

/* Whether the container's first process is another program by now. It has the name of ours until it starts the command. */
static int is_another_program(void) {
    char first[LINE], own[LINE];
    return slurp(AT_FDCWD, "/proc/1/comm", first, sizeof first) > 0 &&
           slurp(AT_FDCWD, "/proc/self/comm", own, sizeof own) > 0 && strcmp(first, own) != 0;
}

int opened(const char *path, const char *file) {
    int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0 && faccessat(dir, file ? file : "restore-complete", F_OK, AT_SYMLINK_NOFOLLOW) == 0) return 1;
    return !file && is_another_program();
}

static int decided(const char *path) {
    char content[LINE];
    int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (is_another_program()) return 1;
    if (dir < 0 || slurp(dir, "restore-complete", content, sizeof content) < 0) return 0;
    return strncmp(content, "cold-start", 10) == 0 || slurp(dir, "standby-verdict", content, sizeof content) > 0;
}

/* This pod's own address: the one that it would send from. Nothing is sent. */
static socklen_t own_address(struct sockaddr_storage *found) {
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(9)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
    inet_pton(AF_INET, "192.0.2.1", &v4.sin_addr); /* documentation's own, RFC 5737 and 3849: routed as any other */
    inet_pton(AF_INET6, "2001:db8::1", &v6.sin6_addr);
    const struct sockaddr *there[] = {(struct sockaddr *)&v4, (struct sockaddr *)&v6};
    const socklen_t sizes[] = {sizeof v4, sizeof v6};
    for (int i = 0; i < 2; i++) {
        socklen_t size = sizeof *found;
        int s = socket(there[i]->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        int ok = s >= 0 && connect(s, there[i], sizes[i]) == 0 && getsockname(s, (struct sockaddr *)found, &size) == 0;
        if (s >= 0) close(s);
        if (ok) return size;
    }
    inet_pton(AF_INET, "127.0.0.1", &v4.sin_addr);
    memcpy(found, &v4, sizeof v4);
    return sizeof v4;
}

/* A connected socket, -1 if nothing listens there. */
static int reach(const char *host, const char *port) {
    struct sockaddr_storage to = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&to;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&to;
    socklen_t size = sizeof *v4;
    if (!*host) size = own_address(&to);
    else if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) to.ss_family = AF_INET;
    else if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) to.ss_family = AF_INET6, size = sizeof *v6;
    else return -1;
    (to.ss_family == AF_INET ? &v4->sin_port : &v6->sin6_port)[0] = htons((unsigned short)atoi(port));
    int s = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return s >= 0 && connect(s, (struct sockaddr *)&to, size) == 0 ? s : -1;
}

/* Sends a whole request, and says whether the answer's status is one that kubelet takes for success. */
static int answers(int s, const char *request) {
    char line[64] = {0};
    size_t have = 0;
    int status = 0;
    if (send(s, request, strlen(request), MSG_NOSIGNAL) != (ssize_t)strlen(request)) return 0;
    for (ssize_t n; have < 12 && (n = read(s, line + have, sizeof line - 1 - have)) > 0;) have += (size_t)n;
    return sscanf(line, "HTTP/1.%*1d %3d", &status) == 1 && status >= 200 && status < 400;
}

/* --gate DIR SECONDS [tcp HOST PORT | http HOST PORT REQUEST | exec COMMAND [ARG...]]; an empty HOST is this pod. */
int gate(int count, char **words) {
    if (count < 2) return 1;
    for (long long end = now_ms() + WAIT; !decided(words[0]); usleep(1000 * POLL))
        if (now_ms() >= end) return 1;
    alarm((unsigned)atoi(words[1])); /* which ends us, and so fails the probe */
    if (count == 2) return 0;
    if (count > 3 && strcmp(words[2], "exec") == 0) {
        alarm(0); /* kubelet ends what it started */
        execvp(words[3], words + 3);
        return 1;
    }
    if (count < 5) return 1;
    int s = reach(words[3], words[4]);
    if (s < 0 || strcmp(words[2], "http") != 0) return s < 0;
    return count != 6 || !answers(s, words[5]);
}
