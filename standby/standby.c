/* snapshot-standby: the first process of every container that is captured or restored.
 *
 * It waits for the node agent's verdict, and then either adopts the restored worker or becomes the original command.
 * The protocol, and the reason for each step, stands in docs/standby-protocol.md; the words in contract/control.py.
 * Linux only. No threads, no allocation beyond argv and /proc lines, no privilege.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "standby.h"

enum { EXIT_RESTART_ME = 75, EXIT_REQUIRED = 78, EXIT_NOT_EXECUTABLE = 126, EXIT_NOT_FOUND = 127 };
enum { FIRST_WORKER_PID = 1000, LINE = 4096, MAX_PROCESSES = 4096, MAX_ARGUMENTS = 4096 };

/* Milliseconds. */
enum {
    POLL = 10,
    CLAIM_WINDOW = 5000,
    LOST_CLAIM_WINDOW = 10000,
    ALLOWED_BY_DEFAULT = 7200 * 1000,
    ALLOWED_MARGIN = 10000,
    LOOK_AT_ALLOWANCE = 500,
    FOREIGN_WINDOW = 2000,
    IMAGE_WINDOW = 60000,
};

static const char *const STALE[] = {
    "ready-for-snapshot", "snapshot-complete", "restore-complete", "restore-context.json",
    "standby-verdict",    "standby-claim",     "standby-dirty",    "image-entrypoint",
    "image-cmd",
};

struct verdict {
    char word[16];
    char rest[LINE];
};

/* What one run needs to know; there is exactly one container, hence one of these. */
static struct {
    int dir;   /* control directory, -1 without one */
    int claim; /* the claim file, whose flock is the arbiter */
    char nonce[33];
    unsigned long long mask; /* signal mask that we were started with: the worker gets it back */
    pid_t worker;            /* 0 until there is one */
    int worker_status;       /* valid once worker_ended */
    int worker_ended;
} self = {.dir = -1, .claim = -1};

/* ------------------------------------------------------------------------------------------------ small helpers */

void say(const char *format, ...) {
    char line[LINE + 256];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (n < 0) return;
    if (n > (int)sizeof line - 2) n = (int)sizeof line - 2;
    line[n++] = '\n';
    /* One write, so that the line is never cut by the worker's output. */
    if (write(STDERR_FILENO, line, (size_t)n) < 0) return;
}

static long long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static const char *env_or(const char *name, const char *fallback) {
    const char *value = getenv(name);
    return value && *value ? value : fallback;
}

static int policy_is(const char *name, const char *value) { return strcmp(env_or(name, ""), value) == 0; }

/* Reads a whole small file; returns its length, -1 where it cannot be read. The text is always ended by NUL. */
static ssize_t slurp(int dir, const char *name, char *into, size_t size) {
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return -1;
    size_t have = 0;
    ssize_t n;
    while (have < size - 1 && (n = read(fd, into + have, size - 1 - have)) > 0) have += (size_t)n;
    close(fd);
    into[have] = 0;
    return (ssize_t)have;
}

/* Writes a control file so that nobody ever reads half of it. */
static void publish(const char *name, const char *content) {
    char temporary[64];
    snprintf(temporary, sizeof temporary, ".%s.standby", name);
    unlinkat(self.dir, temporary, 0);
    int fd = openat(self.dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) return;
    fchmod(fd, 0644); /* the probe may run as another user, whatever the umask */
    size_t length = strlen(content);
    int whole = write(fd, content, length) == (ssize_t)length;
    close(fd);
    if (!whole || renameat(self.dir, temporary, self.dir, name) != 0)
        say("snapshot-standby: cannot write %s: %s", name, strerror(errno));
}

/* ------------------------------------------------------------------------------------------- signals and children */

/* Raw calls: the C libraries hide signals 32 to 34, which a worker may use like any other. */
static void set_mask(const unsigned long long *mask, unsigned long long *old) {
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, mask, old, 8);
}

/* Waits for a signal for at most `ms`; 0 where none came. `sent` tells a signal that somebody sent from a child's end. */
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
        if (pid != self.worker) continue;
        self.worker_ended = 1;
        self.worker_status = status;
    }
}

static int worker_code(void) {
    return WIFSIGNALED(self.worker_status) ? 128 + WTERMSIG(self.worker_status) : WEXITSTATUS(self.worker_status);
}

/* One beat of every loop: forwards signals to the worker, or obeys those that end a container without one; reaps. */
static void beat(int ms) {
    int sent = 0;
    int number = next_signal(ms, &sent);
    while (number) {
        if (sent && self.worker) {
            if (!self.worker_ended) kill(self.worker, number);
        } else if (sent && (number == SIGTERM || number == SIGINT || number == SIGQUIT || number == SIGHUP)) {
            exit(128 + number);
        }
        reap(); /* before the next signal: a worker that has ended gets none */
        number = next_signal(0, &sent);
    }
    reap();
}

static void back_to_original_signals(void) { set_mask(&self.mask, NULL); }

/* ------------------------------------------------------------------------------------------------ claim and verdict */

static int make_nonce(void) {
    unsigned char raw[16];
    if (getrandom(raw, sizeof raw, 0) != (ssize_t)sizeof raw) return -1;
    for (size_t i = 0; i < sizeof raw; i++) snprintf(self.nonce + 2 * i, 3, "%02x", raw[i]);
    return 0;
}

/* Clears what a former container left and makes the claim file. Returns NULL, or what failed. */
static const char *make_claim(void) {
    static char failure[PATH_MAX + 128];
    const char *path = env_or("DYN_SNAPSHOT_CONTROL_DIR", env_or("SNAPSHOT_CONTROL_DIR", "/snapshot-control"));
    self.dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (self.dir < 0) {
        snprintf(failure, sizeof failure, "control directory %s: %s", path, strerror(errno));
        return failure;
    }
    for (size_t i = 0; i < sizeof STALE / sizeof *STALE; i++) unlinkat(self.dir, STALE[i], 0);
    self.claim = openat(self.dir, "standby-claim", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    char line[40];
    if (self.claim < 0 || make_nonce() != 0) goto failed;
    fchmod(self.claim, 0644);
    int length = snprintf(line, sizeof line, "%s\n", self.nonce);
    if (write(self.claim, line, (size_t)length) == length) return NULL;
failed:
    snprintf(failure, sizeof failure, "claim file in %s: %s", path, strerror(errno));
    return failure;
}

static int claimed(void) {
    if (flock(self.claim, LOCK_SH | LOCK_NB) != 0) return 1;
    flock(self.claim, LOCK_UN);
    return 0;
}

static int take_lock(void) { return flock(self.claim, LOCK_EX | LOCK_NB) == 0; }

/* Takes the lock unless a holder keeps it for longer than `ms`. */
static void take_lock_within(int ms) {
    for (long long end = now_ms() + ms; !take_lock() && now_ms() < end;) beat(POLL);
}

/* The second line of the claim file: seconds that a holder allows itself, 0 where none has begun. */
static long allowed_seconds(void) {
    char text[128];
    ssize_t n = pread(self.claim, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    const char *second = strchr(text, '\n');
    long seconds = second ? strtol(second + 1, NULL, 10) : 0;
    return seconds > 0 && seconds < 1000000 ? seconds : 0;
}

/* When a claim that began at `since` has had its time; an agent with much to do allows itself seconds only later. */
static long long end_of_claim(long long since) {
    static long known;
    static long long began;
    long seconds = allowed_seconds();
    if (seconds != known) began = now_ms();
    known = seconds;
    if (!seconds) return since + ALLOWED_BY_DEFAULT + ALLOWED_MARGIN;
    return (began > since ? began : since) + seconds * 1000LL + ALLOWED_MARGIN;
}

/* Reads a verdict on this very start of the container; one with another nonce does not count. */
static int read_verdict(struct verdict *verdict) {
    char line[LINE], nonce[33];
    int rest = 0;
    ssize_t n = slurp(self.dir, "standby-verdict", line, sizeof line);
    if (n <= 0 || !strchr(line, '\n')) return 0;
    *strchr(line, '\n') = 0;
    if (sscanf(line, "%15s %32s %n", verdict->word, nonce, &rest) < 2 || strcmp(nonce, self.nonce) != 0) return 0;
    snprintf(verdict->rest, sizeof verdict->rest, "%s", rest ? line + rest : "");
    return 1;
}

/* Splits "clean|dirty reason..." in place; returns 1 where it is dirty. */
static int split_failure(struct verdict *verdict, const char **reason) {
    char *space = strchr(verdict->rest, ' ');
    if (space) *space = 0;
    *reason = space ? space + 1 : "the agent gave no reason";
    return strcmp(verdict->rest, "clean") != 0;
}

/* --------------------------------------------------------------------------------------------- foreign processes */

struct process {
    pid_t pid, parent;
    unsigned long long start; /* clock ticks: tells a process from a later one with its pid */
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

/* An exec probe enters from outside (parent 0). One that came after we took the lock is nobody's leftover,
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

/* Waits until nothing but probes is left beside us, with force where that is needed. */
static int alone(void) {
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

/* ------------------------------------------------------------------------------------------------------ cold start */

static int is_ours(const char *entry) {
    return strncmp(entry, "DYN_SNAPSHOT_", 13) == 0 || strncmp(entry, "DYN_CHECKPOINT_", 15) == 0 ||
           strncmp(entry, "SNAPSHOT_CONTROL_DIR=", 21) == 0;
}

/* A worker that still saw these would take itself for a checkpoint source and wait for ever. */
static void clean_environment(void) {
    char **kept = environ;
    for (char **entry = environ; *entry; entry++)
        if (!is_ours(*entry)) *kept++ = *entry;
    *kept = NULL;
}

static void become(char **command) {
    back_to_original_signals();
    execvp(command[0], command);
    int code = errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
    say("snapshot-standby: cannot execute %s: %s", command[0], strerror(errno));
    _exit(code);
}

static void cold_start(char **command, const char *reason, int dirty) {
    if (policy_is("DYN_SNAPSHOT_POLICY", "Require")) {
        say("SNAPSHOT_REQUIRED: refusing to start cold (policy Require): %s", reason);
        exit(EXIT_REQUIRED);
    }
    const char *note = "";
    if (self.claim >= 0) {
        take_lock_within(FOREIGN_WINDOW); /* from here on no agent touches this container */
        if (getpid() == 1 && !alone()) {
            say("SNAPSHOT_RESTART: processes of a restore are left that cannot be ended: %s", reason);
            exit(EXIT_RESTART_ME);
        }
        dirty = dirty || faccessat(self.dir, "standby-dirty", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    }
    if (dirty && !policy_is("DYN_SNAPSHOT_RESTART_POLICY", "Never")) {
        say("SNAPSHOT_RESTART: files of a restore are left, the container needs a fresh start: %s", reason);
        exit(EXIT_RESTART_ME);
    }
    if (dirty) note = " (files of the restore are left: restartPolicy Never allows no fresh start)";
    if (self.claim >= 0) publish("restore-complete", "cold-start\n");
    say("SNAPSHOT_COLD_START: Falling back to cold start: %s%s", reason, note);
    clean_environment();
    become(command);
}

/* ---------------------------------------------------------------------------------------------------- restore mode */

static void adopt(pid_t worker) {
    say("SNAPSHOT_RESTORED: container restored from checkpoint %s", env_or("DYN_SNAPSHOT_CHECKPOINT_ID", "(unnamed)"));
    publish("restore-complete", "done\n");
    self.worker = worker;
    if (getpid() == 1)
        kill(-1, SIGCONT); /* the whole restored tree: criu leaves every process of it stopped */
    else
        kill(worker, SIGCONT);
    while (!self.worker_ended) {
        beat(1000);
        if (kill(worker, 0) != 0 && errno == ESRCH && !self.worker_ended) {
            say("SNAPSHOT_RESTART: the restored worker (pid %d) is not there", worker);
            exit(EXIT_RESTART_ME);
        }
    }
    exit(worker_code());
}

static void obey(struct verdict *verdict, char **command) {
    if (strcmp(verdict->word, "restored") == 0 && atoi(verdict->rest) > 1) adopt(atoi(verdict->rest));
    const char *reason = "the agent's verdict cannot be understood";
    int dirty = strcmp(verdict->word, "failed") == 0 ? split_failure(verdict, &reason) : 1;
    cold_start(command, reason, dirty);
}

/* Looks for a verdict until `end`; obeys it, which does not return. */
static void await_verdict(char **command, long long end, int until_lost) {
    static struct verdict verdict;
    while (now_ms() < end) {
        int held = !until_lost || claimed(); /* before the verdict is read: the holder writes, then lets go */
        if (read_verdict(&verdict)) obey(&verdict, command);
        if (!held) return;
        beat(POLL);
    }
}

static void restore_mode(char **command) {
    const char *failure = make_claim();
    if (failure) cold_start(command, failure, 0);
    if (getpid() != 1) cold_start(command, "standby is not the container's first process (shareProcessNamespace)", 0);
    await_verdict(command, now_ms() + CLAIM_WINDOW, 0);
    if (!allowed_seconds() && take_lock()) cold_start(command, "no agent claimed this container within 5 s", 0);
    long long claimed_at = now_ms();
    for (;;) {
        while (claimed()) {
            long long end = end_of_claim(claimed_at);
            if (now_ms() >= end) cold_start(command, "restore timed out", 0);
            await_verdict(command, now_ms() + LOOK_AT_ALLOWANCE, 1);
        }
        for (long long lost = now_ms(); !claimed() && now_ms() - lost < LOST_CLAIM_WINDOW;)
            await_verdict(command, now_ms() + POLL, 0);
        if (take_lock()) cold_start(command, "the agent died", 0);
        claimed_at = now_ms();
    }
}

/* ------------------------------------------------------------------------------------------- what an image would run */

/* Arguments each ended by NUL, appended to `argv` from `count` on; returns the new count, -1 without the file. */
static int append_record(const char *path, char *text, size_t size, char **argv, int count) {
    int dir = *path == '/' ? AT_FDCWD : self.dir;
    ssize_t n = slurp(dir, path, text, size);
    for (ssize_t i = 0; i < n && count < MAX_ARGUMENTS - 1; i += (ssize_t)strlen(text + i) + 1) argv[count++] = text + i;
    return n < 0 ? -1 : count;
}

/* The command line of two records, or of the first and `arguments`; NULL where they are not there. */
static char **image_command(const char *entrypoint, const char *cmd, char **arguments) {
    static char *argv[MAX_ARGUMENTS], first[65536], second[65536];
    int count = append_record(entrypoint, first, sizeof first, argv, 0);
    if (count < 0) return NULL;
    if (!*arguments) count = append_record(cmd, second, sizeof second, argv, count);
    for (; count >= 0 && *arguments && count < MAX_ARGUMENTS - 1; arguments++) argv[count++] = *arguments;
    return count > 0 ? argv : NULL;
}

/* What the agent tells of an image that has no record. */
static char **told_command(char **arguments) {
    for (long long end = now_ms() + IMAGE_WINDOW; now_ms() < end; beat(POLL)) {
        if (faccessat(self.dir, "image-entrypoint", F_OK, AT_SYMLINK_NOFOLLOW) != 0) continue;
        char **command = image_command("image-entrypoint", "image-cmd", arguments);
        if (command) return command;
        say("SNAPSHOT_CAPTURE_FAILED: the image has neither entrypoint nor cmd; give the pod a command");
        exit(EXIT_REQUIRED);
    }
    say("SNAPSHOT_CAPTURE_FAILED: the image records no entrypoint, and no agent told it within 60 s; "
        "see the log of this node's snapshot-agent, or give the pod a command");
    exit(EXIT_REQUIRED);
}

/* ---------------------------------------------------------------------------------------------------- capture mode */

/* Pids below stay free for exec probes, so that the worker's are free where it is restored. */
static void raise_pids(void) {
    for (pid_t pid = 0; pid < FIRST_WORKER_PID;) {
        pid = vfork();
        if (pid == 0) _exit(0);
        if (pid < 0) return;
        waitpid(pid, NULL, 0);
    }
}

static void start_worker(char **command) {
    raise_pids();
    self.worker = fork();
    if (self.worker < 0) {
        say("snapshot-standby: cannot start the worker: %s", strerror(errno));
        exit(1);
    }
    if (self.worker != 0) return;
    setsid();
    /* Orphans come to the worker, as they would were it pid 1, and so stay in the tree that is captured. */
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    become(command);
}

static void capture_mode(char **command, char **arguments) {
    static struct verdict verdict;
    const char *failure = make_claim();
    if (!failure && getpid() != 1) failure = "standby is not the container's first process (shareProcessNamespace)";
    if (failure) {
        say("SNAPSHOT_CAPTURE_FAILED: %s", failure);
        exit(1);
    }
    start_worker(command ? command : told_command(arguments));
    for (;;) {
        beat(5 * POLL);
        int ended = self.worker_ended; /* read before the lock: an agent locks only while the worker lives */
        int held = claimed();
        if (read_verdict(&verdict)) break;
        if (ended && !held) exit(allowed_seconds() ? 1 : worker_code());
    }
    if (strcmp(verdict.word, "captured") == 0) exit(0);
    split_failure(&verdict, &failure);
    say("SNAPSHOT_CAPTURE_FAILED: %s", failure);
    exit(1); /* which ends the worker: we are pid 1 */
}

/* ---------------------------------------------------------------------------------------------------- command line */

static void usage(void) {
    say("usage: snapshot-standby [--capture] [--image-entrypoint] -- [COMMAND [ARG...]]\n"
        "       snapshot-standby --install DIR | --opened DIR [FILE]");
    exit(EXIT_REQUIRED);
}

static int opened(const char *path, const char *file) {
    int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return dir >= 0 && faccessat(dir, file ? file : "restore-complete", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int main(int argc, char **argv) {
    int capture = 0, from_image = 0, i = 1;
    if (argc == 3 && strcmp(argv[1], "--install") == 0) return install_tools(argv[2]);
    if ((argc == 3 || argc == 4) && strcmp(argv[1], "--opened") == 0) return !opened(argv[2], argv[3]);
    for (; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--capture") == 0) capture = 1;
        else if (strcmp(argv[i], "--image-entrypoint") == 0) from_image = 1;
        else usage();
    }
    if (i == argc || (!from_image && i + 1 == argc)) usage();
    char **arguments = argv + i + 1, **command = arguments;
    if (from_image) command = image_command("/opt/dynamo-snapshot/entrypoint", "/opt/dynamo-snapshot/cmd", arguments);
    if (!command && !capture) {
        say("snapshot-standby: the image records no entrypoint; build it with `make docker-build-placeholder`, "
            "or give the pod a command");
        exit(EXIT_REQUIRED);
    }
    const unsigned long long all = ~0ULL;
    set_mask(&all, &self.mask);
    if (capture) capture_mode(command, arguments);
    restore_mode(command);
}
