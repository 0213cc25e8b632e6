/* The processes beside us in the pid namespace: what a failed restore left, and what merely looks in. */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "standby.h"

enum { MAX_PROCESSES = 4096 };

struct process {
    pid_t pid, parent;
    unsigned long long start; /* clock ticks: distinguishes a process from a later one with its pid */
};

struct processes {
    int count;
    struct process list[MAX_PROCESSES];
};

/* False for what has ended: a zombie holds nothing. */
static int read_process(int proc, const char *name, struct process *process) {
    char path[64], stat[1024], state;
    int parent;
    snprintf(path, sizeof path, "%.16s/stat", name);
    if (slurp(proc, path, stat, sizeof stat) <= 0) return 0;
    const char *after = strrchr(stat, ')'); /* the command name may hold anything, brackets included */
    if (!after || sscanf(after + 1, " %c %d", &state, &parent) != 2 || state == 'Z' || state == 'X') return 0;
    const char *field = after + 1;
    for (int i = 0; field && i < 20; i++) field = strchr(field + 1, ' '); /* state is field 3, starttime 22 */
    *process = (struct process){atoi(name), parent, field ? strtoull(field, NULL, 10) : 0};
    return process->pid != getpid();
}

static void list_processes(struct processes *into) {
    into->count = 0;
    DIR *proc = opendir("/proc");
    if (!proc) return;
    for (struct dirent *entry; (entry = readdir(proc)) && into->count < MAX_PROCESSES;)
        if (isdigit((unsigned char)*entry->d_name) &&
            read_process(dirfd(proc), entry->d_name, &into->list[into->count]))
            into->count++;
    closedir(proc);
}

static const struct process *find(const struct processes *in, pid_t pid) {
    for (int i = 0; i < in->count; i++)
        if (in->list[i].pid == pid) return &in->list[i];
    return NULL;
}

/* An exec probe enters from outside (parent 0). One that came after we took the lock is no leftover,
 * and so is what it started. */
static int is_late_probe(const struct process *process, const struct processes *now, const struct processes *first) {
    for (int depth = 0; process && depth < MAX_PROCESSES; depth++) {
        const struct process *known = find(first, process->pid);
        if (known && known->start == process->start) return 0;
        if (process->parent == 0) return 1;
        process = find(now, process->parent);
    }
    return 0;
}

static int count_foreign(const struct processes *first, int deadly) {
    static struct processes now;
    int foreign = 0;
    list_processes(&now);
    for (int i = 0; i < now.count; i++) {
        if (is_late_probe(&now.list[i], &now, first)) continue;
        foreign++;
        if (deadly) kill(now.list[i].pid, SIGKILL);
    }
    return foreign;
}

static int is_listed(const char *list, long pid) {
    for (char *end; *list; list = end) {
        long number = strtol(list, &end, 10);
        if (end == list) return 0;
        if (number == pid) return 1;
    }
    return 0;
}

/* Of more processes than are listed, and without /proc. */
static void wake_in_any_order(const char *stopped) {
    DIR *proc = opendir("/proc");
    if (!proc) {
        kill(-1, SIGCONT); /* a worker that runs in part is worse */
        return;
    }
    for (struct dirent *entry; (entry = readdir(proc));) {
        long pid = atol(entry->d_name);
        if (pid > 0 && pid != getpid() && !is_listed(stopped, pid)) kill((pid_t)pid, SIGCONT);
    }
    closedir(proc);
}

/* From the last process to the first, as children mostly have higher ids: a parent that waits for them as a shell does,
 * and runs before them, takes them for stopped. Each is woken once: a program may have a handler for that. */
void wake_all_but(const char *stopped) {
    static struct processes all;
    list_processes(&all);
    if (all.count == 0 || all.count == MAX_PROCESSES) {
        wake_in_any_order(stopped);
        return;
    }
    for (int i = all.count; i-- > 0;)
        if (!is_listed(stopped, all.list[i].pid)) kill(all.list[i].pid, SIGCONT);
}

/* Waits until nothing but probes is left beside us, with force where that is needed. */
int alone(void) {
    static struct processes first;
    list_processes(&first);
    long long start = now_ms();
    for (;;) {
        long long waited = now_ms() - start;
        if (!count_foreign(&first, waited >= FOREIGN_WINDOW)) return 1;
        if (waited >= 2 * FOREIGN_WINDOW) return 0;
        beat(POLL);
    }
}
