/* The worker as our child: signals passed on, ends noticed, pids as they must be. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "standby.h"

enum { EXIT_NOT_EXECUTABLE = 126, EXIT_NOT_FOUND = 127, FIRST_WORKER_PID = 1000 };

static unsigned long long original_mask; /* the signal mask that we were started with: the worker gets it back */
static pid_t worker;                     /* 0 until there is one */
static int worker_status;                /* valid once it has ended */
static int has_ended;

/* Raw calls: the C libraries hide signals 32 to 34, which a worker may use like any other. */
static void set_mask(const unsigned long long *mask, unsigned long long *old) {
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, mask, old, 8);
}

/* Waits for a signal for at most `ms`; 0 if none came. `sent` distinguishes a signal that was sent to us from a child's end. */
static int next_signal(int ms, int *sent) {
    const unsigned long long all = ~0ULL;
    struct timespec timeout = {ms / 1000, (ms % 1000) * 1000000L};
    siginfo_t info;
    long number = syscall(SYS_rt_sigtimedwait, &all, &info, &timeout, 8);
    if (number <= 0) return 0;
    *sent = number != SIGCHLD || info.si_code <= 0;
    return (int)number;
}

static void reap(void) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid != worker) continue;
        has_ended = 1;
        worker_status = status;
    }
}

int worker_code(void) {
    return WIFSIGNALED(worker_status) ? 128 + WTERMSIG(worker_status) : WEXITSTATUS(worker_status);
}

/* One beat of every loop: forwards signals to the worker, or obeys those that end a container without one; reaps. */
void beat(int ms) {
    int sent = 0;
    int number = next_signal(ms, &sent);
    while (number) {
        if (sent && worker) {
            if (!has_ended) kill(worker, number);
        } else if (sent && (number == SIGTERM || number == SIGINT || number == SIGQUIT || number == SIGHUP)) {
            exit(128 + number);
        }
        reap(); /* before the next signal: a worker that has ended gets none */
        number = next_signal(0, &sent);
    }
    reap();
}

void hold_signals(void) {
    const unsigned long long all = ~0ULL;
    set_mask(&all, &original_mask);
}

void use_original_signals(void) { set_mask(&original_mask, NULL); }

void become(char **command) {
    use_original_signals();
    execvp(command[0], command);
    int code = errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
    say("snapshot-standby: cannot execute %s: %s", command[0], strerror(errno));
    _exit(code);
}

/* Pids below stay free for exec probes, so that the worker's are free when it is restored. */
static void raise_pids(void) {
    for (pid_t pid = 0; pid < FIRST_WORKER_PID;) {
        pid = vfork();
        if (pid == 0) _exit(0);
        if (pid < 0) return;
        waitpid(pid, NULL, 0);
    }
}

pid_t start_worker(char **command) {
    raise_pids();
    worker = fork();
    if (worker < 0) {
        say("snapshot-standby: cannot start the worker: %s", strerror(errno));
        exit(1);
    }
    if (worker != 0) return worker;
    setsid();
    /* Orphans come to the worker, as they would were it pid 1, and so stay in the tree that is captured. */
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    become(command);
}

void adopt_worker(pid_t pid) { worker = pid; }

int worker_ended(void) { return has_ended; }
