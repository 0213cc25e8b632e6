/* page-server: gives a restored worker its memory while it runs already.
 *
 * criu restore --lazy-pages maps private anonymous memory empty and hands over a userfaultfd of each process. Faults are
 * answered first, from the images; threads put in everything else. Then all descriptors are closed, and what is left is
 * ordinary memory: no file and no process of ours. docs/page-server.md has the protocol and what is done when it fails.
 *
 * page-server LISTENER IMAGES GUARD REPORT THREADS HOT RECORD: numbers of descriptors that the agent hands over (-1:
 * none of GUARD, HOT or RECORD), and the number of threads.
 */
#define _GNU_SOURCE
#include "page_server.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ALL_RESTORED = 0x52535446 }; /* criu's LAZY_PAGES_RESTORE_FINISHED */

extern int report_fd;

/* What the images hold is another's: they are opened with the one right that this may take, and nothing else. */
static void keep_rights(unsigned kept) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct rights[2] = {{.effective = kept, .permitted = kept}, {0}};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || syscall(SYS_capset, &header, rights) != 0)
        fail("the page server cannot drop its rights: %m");
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

/* Each process that the worker forks takes a descriptor. */
static void raise_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* criu would find out only once it restores, and the restore would fail. */
static void check_kernel(void) {
    struct uffdio_api api = {.api = UFFD_API,
                             .features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
                                         UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP};
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    if (fd < 0 || ioctl(fd, UFFDIO_API, &api) != 0)
        fail("this kernel's userfaultfd cannot be used, or does not report what a process does to its memory: %m");
    close(fd);
}

static int receive_fd(int from) {
    char byte;
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.space};
    int fd = NO_FD;
    if (recvmsg(from, &message, MSG_CMSG_CLOEXEC) <= 0) return NO_FD;
    struct cmsghdr *first = CMSG_FIRSTHDR(&message);
    if (first && first->cmsg_type == SCM_RIGHTS) memcpy(&fd, CMSG_DATA(first), sizeof fd);
    return fd;
}

/* Takes every process from criu; returns when it has restored all of them. */
static void take_processes(int listener) {
    int criu = accept4(listener, NULL, NULL, SOCK_CLOEXEC), pid;
    if (criu < 0) fail("criu did not connect: %m");
    close(listener);
    for (;;) {
        if (recv(criu, &pid, sizeof pid, MSG_WAITALL) != sizeof pid) fail("criu ended before it had restored everything");
        if (pid == ALL_RESTORED) break;
        if (pid < 0) continue; /* a zombie: it has no memory */
        struct process *process = process_of(pid);
        if (process->uffd != NO_FD) fail("criu names process %d twice", pid);
        process->uffd = receive_fd(criu);
        if (process->uffd == NO_FD) fail("criu sent no descriptor for process %d", pid);
        guard_add(process->uffd);
        serve(process);
    }
    close(criu);
}

int main(int argc, char **argv) {
    if (argc != 8) return 2;
    int listener = atoi(argv[1]), images = atoi(argv[2]), threads = atoi(argv[5]);
    int hot = atoi(argv[6]), recorded = atoi(argv[7]);
    struct queue first = {0};
    report_fd = atoi(argv[4]);
    /* Until criu is done this is the agent's; then it must survive the agent, as the worker does. */
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    signal(SIGPIPE, SIG_IGN);
    if (sysconf(_SC_PAGESIZE) != PAGE) fail("pages of %ld bytes are not known here", sysconf(_SC_PAGESIZE));
    check_kernel();
    guard_open(atoi(argv[3]));
    raise_limit();
    keep_rights(1u << CAP_DAC_READ_SEARCH);
    load_images(images);
    keep_rights(0);
    load_hot(hot, &first);
    record_begin(recorded);
    report("ready");
    take_processes(listener);
    prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
    u64 since = now_us();
    fill_urgent(threads);
    int guarded = guard_begin();
    report(guarded ? "guarded" : "unguarded");
    if (guarded) record_until_asked(recorded);
    u64 hot_bytes = fill_hot(&first, threads), hot_us = now_us() - since;
    fill_all(threads);
    guard_end();
    report("filled %llu bytes, %llu faults, %llu zeros, %llu absent, %llu events, %llu hot, %llu hot-us, %llu us",
           (unsigned long long)counters.bytes, (unsigned long long)counters.faults, (unsigned long long)counters.zeros,
           (unsigned long long)counters.absent, (unsigned long long)counters.events, (unsigned long long)hot_bytes,
           (unsigned long long)hot_us, (unsigned long long)(now_us() - since));
    _exit(0);
}
