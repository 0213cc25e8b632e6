/* Runs a command that the agent sends, as a kubelet's exec probe would: in this container, with no right but its own.
 *
 * What is forked from here has the namespaces, cgroups, user, capabilities, seccomp filter and confinement of the
 * container by itself, and gives none of its own away: it has no others. A helper runs it and has its orphans; when the
 * command has ended, or the agent hangs up, the helper ends all that is left of it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "standby.h"

enum { MAX_REQUEST = 65536, MAX_WORDS = 1024, NONE = -1 };
enum { PEER = 3, FIRST_UNKNOWN }; /* the helper's descriptors */
enum { END_WINDOW = 2000, LOOK = 5 };  /* milliseconds */

static int listener = NONE;
static int streams[2]; /* of the helper: where its command writes output and errors */
static char **started_with; /* the environment before we changed it */

static char **copied(char **list) {
    size_t count = 0;
    while (list[count]) count++;
    char **copy = malloc((count + 1) * sizeof *copy);
    return copy ? memcpy(copy, list, (count + 1) * sizeof *copy) : list;
}

void open_commands(void) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    started_with = copied(environ);
    snprintf(name.sun_path, sizeof name.sun_path, "/proc/self/fd/%d/standby-commands", control_directory());
    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener == NONE || bind(listener, (struct sockaddr *)&name, sizeof name) != 0 || listen(listener, 4) != 0) {
        close(listener);
        listener = NONE;
    }
}

/* One message: words that each end in NUL, with the descriptors for output and errors. Returns 0 if it is anything else. */
static int receive(char *request, char **words) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(2 * sizeof(int))];
    } control;
    struct iovec part = {request, MAX_REQUEST};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.space};
    ssize_t size = recvmsg(PEER, &message, MSG_CMSG_CLOEXEC);
    const struct cmsghdr *first = CMSG_FIRSTHDR(&message);
    if (size <= 0 || message.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || request[size - 1] != 0) return 0;
    if (!first || first->cmsg_type != SCM_RIGHTS || first->cmsg_len != CMSG_LEN(2 * sizeof(int))) return 0;
    memcpy(streams, CMSG_DATA(first), sizeof streams);
    int count = 0;
    for (char *word = request; word < request + size && count < MAX_WORDS; word += strlen(word) + 1) words[count++] = word;
    words[count] = NULL;
    return count > 0 && count < MAX_WORDS;
}

static void answer(const char *word, int number) {
    char line[32];
    snprintf(line, sizeof line, "%s %d", word, number);
    if (send(PEER, line, strlen(line), MSG_NOSIGNAL) < 0) return; /* the agent sees the end of the connection */
}

/* Returns the command's pid; -1 with errno if it cannot be executed. */
static pid_t run(char **words) {
    int failed[2], error = 0;
    if (pipe2(failed, O_CLOEXEC) != 0) return -1;
    pid_t pid = fork();
    if (pid == 0) {
        int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (dup2(nothing, STDIN_FILENO) < 0 || dup2(streams[0], STDOUT_FILENO) < 0) _exit(1);
        if (dup2(streams[1], STDERR_FILENO) < 0) _exit(1);
        environ = started_with;
        use_original_signals();
        execvp(words[0], words);
        error = errno;
        if (write(failed[1], &error, sizeof error) < 0) _exit(1);
        _exit(1);
    }
    close(failed[1]);
    if (pid > 0 && read(failed[0], &error, sizeof error) <= 0) error = 0;
    close(failed[0]);
    if (error) waitpid(pid, NULL, 0);
    errno = error ? error : errno;
    return error ? -1 : pid;
}

/* Children of ours, orphans of the command among them. Returns their number. */
static int kill_children(void) {
    char list[LINE], path[64];
    int killed = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
    if (slurp(AT_FDCWD, path, list, sizeof list) < 0) return 0;
    char *end = list;
    for (long pid; (pid = strtol(end, &end, 10)) > 0; killed++) kill((pid_t)pid, SIGKILL);
    return killed;
}

/* Ends all that is left of the command; 0 if something of it stays. */
static int end_all(void) {
    for (long long end = now_ms() + END_WINDOW; now_ms() < end;) {
        int killed = kill_children();
        while (waitpid(-1, NULL, WNOHANG) > 0) continue;
        if (!killed && waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD) return 1;
        usleep(1000);
    }
    return 0;
}

static int has_hung_up(int ms) {
    struct pollfd peer = {PEER, POLLIN | POLLRDHUP, 0};
    return poll(&peer, 1, ms) > 0;
}

static void help(int peer) {
    static char request[MAX_REQUEST];
    static char *words[MAX_WORDS];
    int status = 0;
    /* What standby holds must end with standby: the claim, and a worker's memory. */
    if (dup2(peer, PEER) < 0 || syscall(SYS_close_range, FIRST_UNKNOWN, ~0U, 0) != 0) _exit(1);
    fcntl(PEER, F_SETFD, FD_CLOEXEC);
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    if (!receive(request, words)) _exit(1);
    pid_t pid = run(words);
    int error = errno;
    close(streams[0]);
    close(streams[1]);
    if (pid < 0) {
        answer("refused", error);
        _exit(0);
    }
    while (waitpid(pid, &status, WNOHANG) == 0)
        if (has_hung_up(LOOK)) break;
    if (!end_all()) answer("left", 0);
    else if (WIFSIGNALED(status)) answer("killed", WTERMSIG(status));
    else answer("exited", WEXITSTATUS(status));
    _exit(0);
}

void serve_commands(void) {
    int peer = listener == NONE ? NONE : accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (peer == NONE) return;
    /* As pid 1 of the container we could be asked by all of it, and would only do what it can do itself. */
    if (is_from_outside(peer) && fork() == 0) help(peer);
    close(peer);
}
