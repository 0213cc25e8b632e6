/* Our own threads: one that an agent wakes, and copiers that it puts to work. They are started in good time: where a
 * worker is held, a thread that has a lock of its C library may be held too, and another could not be made. */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "device_memory.h"

/* agent/gpu/device_memory.py finds them by these. */
static const char MAIN_NAME[] = "snapshot-device";
static const char COPIER_NAME[] = "snapshot-copier";
enum { STACK = 1 << 20, WAKE = SIGURG, FROM_OUTSIDE = 0 };

static _Atomic(uint32_t) round_number, left;
static void (*_Atomic work)(int);
static int started;
static _Atomic(int) named;

/* The agent knows our threads by name, and the worker may say that it is ready at any moment from now on. */
static void name_thread(const char *name) {
    prctl(PR_SET_NAME, name);
    /* Not on the one core that the worker may have chosen for the thread that made us. */
    unsigned long anywhere[16];
    memset(anywhere, 0xff, sizeof anywhere);
    syscall(SYS_sched_setaffinity, 0, sizeof anywhere, anywhere);
    atomic_fetch_add(&named, 1);
}

static void wait_while(_Atomic(uint32_t) *word, uint32_t value) {
    while (atomic_load(word) == value) syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake_all(_Atomic(uint32_t) *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1 << 30, NULL, NULL, 0); }

void run_copiers(void (*act)(int)) {
    work = act;
    atomic_store(&left, COPIERS);
    atomic_fetch_add(&round_number, 1);
    wake_all(&round_number);
    for (uint32_t running; (running = atomic_load(&left)) != 0;) wait_while(&left, running);
}

static void *copier(void *number) {
    name_thread(COPIER_NAME);
    for (uint32_t seen = 0;; seen++) {
        wait_while(&round_number, seen);
        work((int)(intptr_t)number);
        atomic_fetch_sub(&left, 1);
        wake_all(&left);
    }
    return NULL;
}

/* Waits for the agent's signal. All are blocked in this thread, so it is fetched here and nowhere else; one that was sent
 * from within the container is none of the agent's. */
static void *main_thread(void *unused) {
    const unsigned long long wake = 1ULL << (WAKE - 1);
    siginfo_t info;
    (void)unused;
    name_thread(MAIN_NAME);
    for (;;) {
        long number = syscall(SYS_rt_sigtimedwait, &wake, &info, NULL, 8);
        if (number == WAKE && info.si_code == SI_TKILL && info.si_pid == FROM_OUTSIDE) serve();
    }
    return NULL;
}

/* It has no threads of ours, and CUDA does not work in it: a call must fail as it would, and not wait. */
static void in_child(void) {
    started = -1;
    renew_table_in_child(); /* another thread may have held it when this one forked */
    renew_doors_in_child();
    renew_recording_in_child();
    renew_shop_in_child();
    open_gate();
}

/* A thread starts with its maker's mask: no handler of the worker may run on ours. */
int start_thread(void *(*run)(void *), intptr_t number) {
    pthread_attr_t attributes;
    pthread_t thread;
    unsigned long long all = ~0ULL, before;
    if (pthread_attr_init(&attributes)) return -1;
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, 8);
    int failed = pthread_create(&thread, &attributes, run, (void *)number);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, 8);
    pthread_attr_destroy(&attributes);
    return failed ? -1 : 0;
}

int start_threads(void) {
    if (started) return started > 0 ? 0 : -1;
    started = -1;
    if (pthread_atfork(NULL, NULL, in_child)) return -1;
    int failed = 0;
    for (int i = 0; i < COPIERS && !failed; i++) failed = start_thread(copier, i);
    if (!failed) failed = start_thread(main_thread, 0);
    while (!failed && atomic_load(&named) < COPIERS + 1) usleep(100);
    started = failed ? -1 : 1;
    return failed ? -1 : 0;
}
