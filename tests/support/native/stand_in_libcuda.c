/* Replaces libcuda.so.1 and libnvidia-ml.so.1 on machines without a card: their rules, for real processes.
 *
 * A process is taken for a CUDA process if its environment block holds STAND_IN_CUDA=<state>[ <what a test arranges>].
 * The state is one letter in that process's own memory, so it travels with a dump as the driver's does: R running,
 * L locked, C checkpointed, S checkpointed after a restore that failed. Arranged, as text behind it: `busy` (calls in
 * flight never end), `oom` (a restore finds no memory), `slow=0500` (milliseconds that checkpoint and restore take),
 * `fails=0801` (what a restore answers), `mib=0064` (device memory; `mib1=0064`: of the second device), `of=7;` (the group). A P behind the letter is of
 * stand_in_device.c. Like the driver, it asks the process itself: a stopped one answers nothing but its restore thread,
 * while a call goes on, asking for the state waits, and what has started is done even if its caller ends.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, OPERATING_SYSTEM = 304,
       ILLEGAL_STATE = 401, NOT_READY = 600, UNSUPPORTED = 801, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, NO_DEVICE = 100 };
enum { ROOM = 65536 };
static const char MARK[] = "STAND_IN_CUDA=";
#define TOTAL (1ull << 36)
#ifndef DEVICES
#define DEVICES 1
#endif
/* Which GPU takes the place of which. */
struct pair {
    unsigned char from[16], to[16];
};
struct restore {
    const struct pair *pairs;
    unsigned count;
};

/* One CUDA process while a call on it goes on: others on the same one wait. */
struct call {
    int lock, memory;
    off_t at;
    char text[128];
};

static void milliseconds(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* The addresses of the environment block: fields 50 and 51 of /proc/PID/stat. */
static int environment(int pid, unsigned long *start, unsigned long *end) {
    char path[64], line[2048] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file) return -1;
    if (!fgets(line, sizeof line, file)) line[0] = 0;
    fclose(file);
    char *after = strrchr(line, ')');
    if (!after) return -1;
    char *rest;
    strtok_r(after + 2, " ", &rest);
    for (int field = 3; field < 50; field++)
        if (!(after = strtok_r(NULL, " ", &rest))) return -1;
    *start = strtoul(after, NULL, 10);
    after = strtok_r(NULL, " ", &rest);
    *end = after ? strtoul(after, NULL, 10) : 0;
    return *start && *end > *start ? 0 : -1;
}

static int is_stopped(int pid) {
    char path[64], line[512] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    if (!fgets(line, sizeof line, file)) line[0] = 0;
    fclose(file);
    char *after = strrchr(line, ')');
    return after && (after[2] == 'T' || after[2] == 't');
}

/* Ends a call on a process that has this state from now on; 0: the one that it had. The process may have ended. */
static int leave(struct call *call, char state) {
    int is_gone = state && pwrite(call->memory, &state, 1, call->at) != 1;
    close(call->memory);
    if (call->lock >= 0) {
        flock(call->lock, LOCK_UN); /* processes that were forked meanwhile have it too */
        close(call->lock);
    }
    return is_gone ? OPERATING_SYSTEM : SUCCESS;
}

/* Finds the mark; -1 if it is no CUDA process. */
static int look(int pid, struct call *call) {
    unsigned long start, end;
    char path[64], *block = malloc(ROOM);
    call->lock = -1;
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    call->memory = block && environment(pid, &start, &end) == 0 ? open(path, O_RDWR | O_CLOEXEC) : -1;
    ssize_t size = -1;
    if (call->memory >= 0)
        size = pread(call->memory, block, end - start < ROOM ? end - start : ROOM - 1, (off_t)start);
    char *found = size > 0 ? memmem(block, size, MARK, sizeof MARK - 1) : NULL;
    if (found) {
        found += sizeof MARK - 1;
        call->at = (off_t)start + (found - block);
        snprintf(call->text, sizeof call->text, "%.*s", (int)(block + size - found), found);
    } else if (call->memory >= 0) {
        close(call->memory);
    }
    free(block);
    return found ? 0 : -1;
}

/* As look, and waits for other calls on the process. */
static int enter(int pid, struct call *call) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/environ", pid);
    int lock = open(path, O_RDONLY | O_CLOEXEC);
    if (lock < 0) return -1;
    flock(lock, LOCK_EX);
    if (look(pid, call)) return close(lock), -1;
    call->lock = lock;
    return 0;
}

static int refusal(int pid) { return kill(pid, 0) == 0 ? NOT_INITIALIZED : OPERATING_SYSTEM; }

static void until_it_runs(int pid) {
    while (is_stopped(pid)) milliseconds(5);
}

static long number(const struct call *call, const char *name) {
    const char *found = strstr(call->text, name);
    return found ? strtol(found + strlen(name), NULL, 10) : 0;
}

/* Compiled with NODES it wants the control node that the driver's own library opens first, in the caller's /dev. */
static int lacks_nodes(void) {
#ifdef NODES
    struct stat found;
    return stat("/dev/nvidiactl", &found) || !S_ISCHR(found.st_mode) || found.st_rdev != makedev(195, 255);
#else
    return 0;
#endif
}

/* Ends a call that takes its time. A process of its own does it, so that it is done even if this one ends. */
static int leave_slowly(struct call *call, char state) {
    long slow = number(call, "slow=");
    pid_t other = slow ? fork() : -1;
    if (other < 0) return leave(call, state);
    if (!other) {
        for (int fd = 0; fd < 3; fd++) close(fd); /* who reads there sees the caller's end */
        milliseconds(slow);
        _exit(leave(call, state) != SUCCESS);
    }
    int status = 0;
    while (waitpid(other, &status, 0) < 0 && errno == EINTR) continue;
    leave(call, 0);
    return status ? OPERATING_SYSTEM : SUCCESS;
}

int cuInit(unsigned flags) { return flags ? INVALID_VALUE : lacks_nodes() ? NO_DEVICE : SUCCESS; }
int cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }

int cuGetErrorName(int error, const char **name) {
    switch (error) {
    case INVALID_VALUE: *name = "CUDA_ERROR_INVALID_VALUE"; return SUCCESS;
    case NO_DEVICE: *name = "CUDA_ERROR_NO_DEVICE"; return SUCCESS;
    case OUT_OF_MEMORY: *name = "CUDA_ERROR_OUT_OF_MEMORY"; return SUCCESS;
    case NOT_INITIALIZED: *name = "CUDA_ERROR_NOT_INITIALIZED"; return SUCCESS;
    case OPERATING_SYSTEM: *name = "CUDA_ERROR_OPERATING_SYSTEM"; return SUCCESS;
    case ILLEGAL_STATE: *name = "CUDA_ERROR_ILLEGAL_STATE"; return SUCCESS;
    case UNSUPPORTED: *name = "CUDA_ERROR_NOT_SUPPORTED"; return SUCCESS;
    case NOT_READY: *name = "CUDA_ERROR_NOT_READY"; return SUCCESS;
    default: return INVALID_VALUE;
    }
}

int cuCheckpointProcessGetRestoreThreadId(int pid, int *tid) {
    struct call call;
    if (look(pid, &call)) return refusal(pid);
    leave(&call, 0);
    *tid = pid;
    return SUCCESS;
}

int cuCheckpointProcessGetState(int pid, int *state) {
    struct call call;
    until_it_runs(pid);
    if (enter(pid, &call)) return refusal(pid);
    *state = call.text[0] == 'R' ? 0 : call.text[0] == 'L' ? 1 : 2;
    leave(&call, 0);
    return SUCCESS;
}

int cuCheckpointProcessLock(int pid, unsigned *arguments) {
    struct call call;
    until_it_runs(pid);
    if (enter(pid, &call)) return refusal(pid);
    if (call.text[0] != 'R') return leave(&call, 0), ILLEGAL_STATE;
    if (!strstr(call.text, "busy")) return leave(&call, 'L');
    milliseconds(arguments[0]);
    return leave(&call, 0), NOT_READY;
}

int cuCheckpointProcessCheckpoint(int pid, void *arguments) {
    struct call call;
    (void)arguments;
    if (enter(pid, &call)) return refusal(pid);
    if (call.text[0] != 'L') return leave(&call, 0), ILLEGAL_STATE;
    return leave_slowly(&call, 'C');
}

/* A process sees the GPUs whose nodes its container has. */
static int sees(int pid, int device) {
    char path[64];
    struct stat found;
    snprintf(path, sizeof path, "/proc/%d/root/dev/nvidia%d", pid, device);
    return stat(path, &found) == 0 && S_ISCHR(found.st_mode) && found.st_rdev == makedev(195, device);
}

/* Its number by a UUID, of which all bytes are one; -1 if there is none. */
static int device_of(const unsigned char *uuid) {
    for (int at = 1; at < 16; at++)
        if (uuid[at] != uuid[0]) return -1;
    return uuid[0] >= 0xab && uuid[0] < 0xab + DEVICES ? uuid[0] - 0xab : -1;
}

/* Pairs name all GPUs that the process sees, each once, or none. */
static int are_wrong(int pid, const struct restore *arguments) {
    unsigned seen = 0, from = 0, to = 0, all = 0;
    if (!arguments || !arguments->count) return 0;
    for (int device = 0; device < DEVICES; device++)
        if (sees(pid, device)) seen++, all |= 1u << device;
    for (unsigned at = 0; at < arguments->count; at++) {
        int then = device_of(arguments->pairs[at].from), now = device_of(arguments->pairs[at].to);
        if (then < 0 || now < 0 || from & 1u << then || to & 1u << now) return 1;
        from |= 1u << then, to |= 1u << now;
    }
    return arguments->count != seen || to != all;
}

int cuCheckpointProcessRestore(int pid, const struct restore *arguments) {
    struct call call;
    until_it_runs(pid);
    if (enter(pid, &call)) return refusal(pid);
    if (call.text[0] == 'S') return leave(&call, 0), OPERATING_SYSTEM;
    if (call.text[0] != 'C') return leave(&call, 0), ILLEGAL_STATE;
    long fails = number(&call, "fails=");
    if (fails) return leave(&call, 'S'), (int)fails;
    if (strstr(call.text, "oom")) return leave(&call, 'S'), OUT_OF_MEMORY;
    if (call.text[1] == 'P' || are_wrong(pid, arguments)) return leave(&call, 'S'), INVALID_VALUE;
    return leave_slowly(&call, 'L');
}

int cuCheckpointProcessUnlock(int pid, void *arguments) {
    struct call call;
    (void)arguments;
    if (enter(pid, &call)) return refusal(pid);
    int locked = call.text[0] == 'L';
    leave(&call, locked ? 'R' : 0);
    return locked ? SUCCESS : ILLEGAL_STATE;
}

/* NVML: its devices hold what running CUDA processes of the same group hold. A device is its number, plus one. */

#ifndef GROUP
#define GROUP ""
#endif
#ifndef VERSION
#define VERSION "580.0.1"
#endif

struct process {
    unsigned pid;
    unsigned long long used;
    unsigned gpu_instance, compute_instance;
};
struct memory {
    unsigned long long total, free, used;
};

static int is_device(void *device) { return device && (intptr_t)device <= DEVICES; }

static unsigned holders(void *device, struct process *found, unsigned room) {
    unsigned count = 0;
    const char *named = (intptr_t)device == 1 ? "mib=" : "mib1=";
    DIR *table = opendir("/proc");
    for (struct dirent *entry; table && (entry = readdir(table));) {
        struct call call;
        int pid = atoi(entry->d_name);
        if (pid <= 0 || look(pid, &call)) continue;
        int holds = (call.text[0] == 'R' || call.text[0] == 'L') && strstr(call.text, GROUP);
        long mib = holds ? number(&call, named) : 0;
        leave(&call, 0);
        if (!mib) continue;
        if (count < room) found[count] = (struct process){pid, (unsigned long long)mib << 20, 0, 0};
        count++;
    }
    if (table) closedir(table);
    return count;
}

int nvmlInit_v2(void) { return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; } /* which the container toolkit calls */
const char *nvmlErrorString(int error) { return error ? "an error of the stand-in" : "Success"; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { return snprintf(text, size, VERSION), SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *count) { return *count = DEVICES, SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    return *device = (void *)(intptr_t)(index + 1), is_device(*device) ? SUCCESS : INVALID_VALUE;
}
int nvmlDeviceGetMinorNumber(void *device, unsigned *minor) {
    return *minor = (unsigned)(intptr_t)device - 1, is_device(device) ? SUCCESS : INVALID_VALUE;
}

int nvmlDeviceGetName(void *device, char *text, unsigned size) {
    return snprintf(text, size, "Stand-in GPU"), device ? SUCCESS : INVALID_VALUE;
}

int nvmlDeviceGetUUID(void *device, char *text, unsigned size) {
    unsigned b = 0xab + (unsigned)(intptr_t)device - 1; /* of each byte */
    unsigned two = b << 8 | b, four = two << 16 | two;
    snprintf(text, size, "GPU-%x-%x-%x-%x-%x%x", four, two, two, two, four, two);
    return is_device(device) ? SUCCESS : INVALID_VALUE;
}

int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) {
#ifdef MIG
    *current = *pending = 1;
    return is_device(device) ? SUCCESS : INVALID_VALUE;
#else
    (void)device, (void)current, (void)pending;
    return NOT_SUPPORTED; /* as of most cards */
#endif
}

int nvmlDeviceGetComputeMode(void *device, unsigned *mode) {
#ifdef EXCLUSIVE
    *mode = 3; /* NVML_COMPUTEMODE_EXCLUSIVE_PROCESS */
#else
    *mode = 0;
#endif
    return is_device(device) ? SUCCESS : INVALID_VALUE;
}

int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory) {
    struct process found[64];
    unsigned count = holders(device, found, 64);
    *memory = (struct memory){TOTAL, TOTAL, 0};
    for (unsigned number = 0; number < count && number < 64; number++) memory->used += found[number].used;
    memory->free -= memory->used;
    return device ? SUCCESS : INVALID_VALUE;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, struct process *found) {
    unsigned room = *count;
    *count = holders(device, found, room);
    return !device ? INVALID_VALUE : *count > room ? INSUFFICIENT_SIZE : SUCCESS;
}
