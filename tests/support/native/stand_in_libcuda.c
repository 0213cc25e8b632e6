/* Replaces libcuda.so.1 on machines without a card: the checkpoint calls, with the driver's own rules for real processes.
 *
 * Its folder holds `state/PID` for each process that is taken for a CUDA process (R running, L locked, C checkpointed),
 * and what tests arrange for it: `PID.busy` (calls in flight never end), `PID.oom` (the next restore finds no memory),
 * `PID.slow` (milliseconds that checkpoint and restore take). Like the driver, it asks the process itself: a stopped one
 * answers nothing but its restore thread, and while a call goes on, asking for the state waits.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, OPERATING_SYSTEM = 304,
       ILLEGAL_STATE = 401, NOT_READY = 600 };

static char folder[3000];

__attribute__((constructor)) static void locate(void) {
    Dl_info info;
    if (!dladdr((void *)locate, &info)) abort();
    snprintf(folder, sizeof folder, "%s", info.dli_fname);
    *strrchr(folder, '/') = 0;
    strcat(folder, "/state");
}

static void path_of(int pid, const char *suffix, char *path) { snprintf(path, 4096, "%s/%d%s", folder, pid, suffix); }

static int exists(int pid, const char *suffix) {
    char path[4096];
    path_of(pid, suffix, path);
    return access(path, F_OK) == 0;
}

static void milliseconds(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* The process's state file, locked for as long as a call on it goes on; -1 where it is no CUDA process. */
static int enter(int pid, char *state) {
    char path[4096];
    path_of(pid, "", path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return -1;
    flock(fd, LOCK_EX);
    if (pread(fd, state, 1, 0) != 1) abort();
    return fd;
}

static int leave(int fd, char state, int result) {
    if (state && pwrite(fd, &state, 1, 0) != 1) abort();
    close(fd);
    return result;
}

static int refusal(int pid) { return kill(pid, 0) == 0 ? NOT_INITIALIZED : OPERATING_SYSTEM; }

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

static void until_it_runs(int pid) {
    while (is_stopped(pid)) milliseconds(5);
}

static void take_time(int pid) {
    char path[4096], text[16] = "";
    path_of(pid, ".slow", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    if (read(fd, text, sizeof text - 1) > 0) milliseconds(atol(text));
    close(fd);
}

int cuInit(unsigned flags) { return flags ? INVALID_VALUE : SUCCESS; }
int cuDeviceGetCount(int *count) { return *count = 1, SUCCESS; }
int cuDeviceGet(int *device, int ordinal) { return *device = ordinal, ordinal ? INVALID_VALUE : SUCCESS; }
int cuDeviceGetUuid_v2(unsigned char *uuid, int device) { return memset(uuid, 0xab, 16), device ? INVALID_VALUE : SUCCESS; }

int cuGetErrorName(int error, const char **name) {
    switch (error) {
    case INVALID_VALUE: *name = "CUDA_ERROR_INVALID_VALUE"; return SUCCESS;
    case OUT_OF_MEMORY: *name = "CUDA_ERROR_OUT_OF_MEMORY"; return SUCCESS;
    case NOT_INITIALIZED: *name = "CUDA_ERROR_NOT_INITIALIZED"; return SUCCESS;
    case OPERATING_SYSTEM: *name = "CUDA_ERROR_OPERATING_SYSTEM"; return SUCCESS;
    case ILLEGAL_STATE: *name = "CUDA_ERROR_ILLEGAL_STATE"; return SUCCESS;
    case NOT_READY: *name = "CUDA_ERROR_NOT_READY"; return SUCCESS;
    default: return INVALID_VALUE;
    }
}

int cuCheckpointProcessGetRestoreThreadId(int pid, int *tid) {
    if (!exists(pid, "") || kill(pid, 0)) return refusal(pid);
    *tid = pid;
    return SUCCESS;
}

int cuCheckpointProcessGetState(int pid, int *state) {
    char now;
    until_it_runs(pid);
    int fd = enter(pid, &now);
    if (fd < 0) return refusal(pid);
    *state = now == 'R' ? 0 : now == 'L' ? 1 : 2;
    return leave(fd, 0, SUCCESS);
}

int cuCheckpointProcessLock(int pid, unsigned *arguments) {
    char now;
    until_it_runs(pid);
    int fd = enter(pid, &now);
    if (fd < 0) return refusal(pid);
    if (now != 'R') return leave(fd, 0, ILLEGAL_STATE);
    if (!exists(pid, ".busy")) return leave(fd, 'L', SUCCESS);
    milliseconds(arguments[0]);
    return leave(fd, 0, NOT_READY);
}

int cuCheckpointProcessCheckpoint(int pid, void *arguments) {
    char now;
    (void)arguments;
    int fd = enter(pid, &now);
    if (fd < 0) return refusal(pid);
    if (now != 'L') return leave(fd, 0, ILLEGAL_STATE);
    take_time(pid);
    return leave(fd, 'C', SUCCESS);
}

int cuCheckpointProcessRestore(int pid, void *arguments) {
    char now, path[4096], spent[4096];
    (void)arguments;
    until_it_runs(pid);
    int fd = enter(pid, &now);
    if (fd < 0) return refusal(pid);
    if (now != 'C') return leave(fd, 0, ILLEGAL_STATE);
    if (exists(pid, ".spent")) return leave(fd, 0, OPERATING_SYSTEM);
    path_of(pid, ".oom", path);
    path_of(pid, ".spent", spent);
    if (rename(path, spent) == 0) return leave(fd, 0, OUT_OF_MEMORY);
    take_time(pid);
    return leave(fd, 'L', SUCCESS);
}

int cuCheckpointProcessUnlock(int pid, void *arguments) {
    char now;
    (void)arguments;
    int fd = enter(pid, &now);
    if (fd < 0) return refusal(pid);
    return leave(fd, now == 'L' ? 'R' : 0, now == 'L' ? SUCCESS : ILLEGAL_STATE);
}
