/* The control directory: the claim that an agent may take, its verdict, and what we write for others there.
 *
 * The lock on the claim file is the arbiter: the kernel gives it to one, and takes it back when its holder dies.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "standby.h"

/* Milliseconds. */
enum { ALLOWED_BY_DEFAULT = 7200 * 1000, ALLOWED_MARGIN = 10000 };

static const char *const STALE[] = {
    "ready-for-snapshot", "snapshot-complete", "restore-complete", "restore-context.json",
    "standby-verdict",    "standby-claim",     "standby-dirty",    "image-entrypoint",
    "image-cmd",          "standby-pages",    "standby-frozen",    "standby-devices",
    "standby-parked",    "standby-commands", "standby-started",
    "standby-mounts",    "standby-gave-up",
};

/* There is exactly one container, hence one of these. */
static int directory = -1;
static int claim = -1;
static int watch = -1;
static char nonce[33];

int control_directory(void) { return directory; }

int has_claim(void) { return claim >= 0; }

int has_control_file(const char *name) { return faccessat(directory, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0; }

/* Writes a control file so that no reader ever sees half of it. */
void publish(const char *name, const char *content) {
    char temporary[64];
    snprintf(temporary, sizeof temporary, ".%s.standby", name);
    unlinkat(directory, temporary, 0);
    int fd = openat(directory, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) return;
    fchmod(fd, 0644); /* the probe may run as another user, whatever the umask */
    size_t length = strlen(content);
    int whole = write(fd, content, length) == (ssize_t)length;
    close(fd);
    if (!whole || renameat(directory, temporary, directory, name) != 0)
        say("snapshot-standby: cannot write %s: %s", name, strerror(errno));
}

static int make_nonce(void) {
    unsigned char raw[16];
    if (getrandom(raw, sizeof raw, 0) != (ssize_t)sizeof raw) return -1;
    for (size_t i = 0; i < sizeof raw; i++) snprintf(nonce + 2 * i, 3, "%02x", raw[i]);
    return 0;
}

/* Says when this container started, by the file's own time, and how the node's clock is set against its uptime: if it was
 * set back since, the times of other files are no measure. */
static void note_start(void) {
    struct timespec real, up;
    char line[40];
    clock_gettime(CLOCK_BOOTTIME, &up);
    clock_gettime(CLOCK_REALTIME, &real);
    const long long ahead = (real.tv_sec - up.tv_sec) * 1000000000LL + (real.tv_nsec - up.tv_nsec);
    snprintf(line, sizeof line, "%lld\n", ahead);
    publish("standby-started", line);
}

/* Names each mount by its number and device, as mountinfo does: one that is not among them was made by the worker, and
 * is not there in another container. Without the file it is not known. */
static void note_mounts(void) {
    static char table[65536];
    char line[4000];
    size_t length = 0;
    const ssize_t have = slurp(AT_FDCWD, "/proc/self/mountinfo", table, sizeof table);
    if (have <= 0 || (size_t)have == sizeof table - 1) return;
    for (const char *at = table; at && *at; at = strchr(at, '\n')) {
        unsigned id, major, minor;
        at += *at == '\n';
        if (sscanf(at, "%u %*u %u:%u", &id, &major, &minor) != 3) continue;
        length += (size_t)snprintf(line + length, sizeof line - length, "%u:%u:%u\n", id, major, minor);
        if (length >= sizeof line) return;
    }
    publish("standby-mounts", line);
}

/* Clears what a former container left and makes the claim file. Returns NULL, or what failed. */
const char *make_claim(void) {
    static char failure[PATH_MAX + 128];
    const char *path = env_or("DYN_SNAPSHOT_CONTROL_DIR", env_or("SNAPSHOT_CONTROL_DIR", "/snapshot-control"));
    directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) {
        snprintf(failure, sizeof failure, "control directory %s: %s", path, strerror(errno));
        return failure;
    }
    for (size_t i = 0; i < sizeof STALE / sizeof *STALE; i++) unlinkat(directory, STALE[i], 0);
    note_start();
    note_mounts();
    claim = openat(directory, "standby-claim", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    char line[40];
    if (claim < 0 || make_nonce() != 0) goto failed;
    fchmod(claim, 0644);
    int length = snprintf(line, sizeof line, "%s\n", nonce);
    if (write(claim, line, (size_t)length) == length) return NULL;
failed:
    snprintf(failure, sizeof failure, "claim file in %s: %s", path, strerror(errno));
    return failure;
}

/* A rename into the directory is how each of its files appears. Without a watch (the user has too many) looks remain. */
void watch_control_files(void) {
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", directory);
    watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (watch >= 0 && inotify_add_watch(watch, path, IN_MOVED_TO | IN_ONLYDIR) < 0) forget_control_files();
}

void await_change(int ms) {
    char events[4096];
    struct pollfd looked = {watch, POLLIN, 0};
    if (watch < 0) {
        beat(ms);
        return;
    }
    if (poll(&looked, 1, ms) > 0 && read(watch, events, sizeof events) < 0) forget_control_files();
    beat(0);
}

void forget_control_files(void) {
    if (watch >= 0) close(watch);
    watch = -1;
}

int claimed(void) {
    if (flock(claim, LOCK_SH | LOCK_NB) != 0) return 1;
    flock(claim, LOCK_UN);
    return 0;
}

int take_lock(void) { return flock(claim, LOCK_EX | LOCK_NB) == 0; }

/* The second line of the claim file: seconds that a holder allows itself, 0 if none has started. */
long allowed_seconds(void) {
    char text[128];
    ssize_t n = pread(claim, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    const char *second = strchr(text, '\n');
    long seconds = second ? strtol(second + 1, NULL, 10) : 0;
    return seconds > 0 && seconds < 1000000 ? seconds : 0;
}

/* When a claim that began at `since` has had its time; an agent with much to do allows itself seconds only later. */
long long end_of_claim(long long since) {
    static long known;
    static long long began;
    long seconds = allowed_seconds();
    if (seconds != known) began = now_ms();
    known = seconds;
    if (!seconds) return since + ALLOWED_BY_DEFAULT + ALLOWED_MARGIN;
    return (began > since ? began : since) + seconds * 1000LL + ALLOWED_MARGIN;
}

/* Reads a verdict on this very start of the container; one with another nonce does not count. */
int read_verdict(struct verdict *verdict) {
    char line[LINE], quoted[33];
    int rest = 0;
    ssize_t n = slurp(directory, "standby-verdict", line, sizeof line);
    if (n <= 0 || !strchr(line, '\n')) return 0;
    *strchr(line, '\n') = 0;
    if (sscanf(line, "%15s %32s %n", verdict->word, quoted, &rest) < 2 || strcmp(quoted, nonce) != 0) return 0;
    snprintf(verdict->rest, sizeof verdict->rest, "%s", rest ? line + rest : "");
    return 1;
}

/* An agent that parks this very start of the container leaves "<nonce> <pid> <digest>". */
pid_t parked_worker(void) {
    char line[LINE], quoted[33];
    int pid = 0;
    if (slurp(directory, "standby-parked", line, sizeof line) <= 0) return 0;
    return sscanf(line, "%32s %d", quoted, &pid) == 2 && strcmp(quoted, nonce) == 0 && pid > 1 ? pid : 0;
}

/* Splits "clean|dirty reason..." in place; returns 1 if it is dirty. */
int split_failure(struct verdict *verdict, const char **reason) {
    char *space = strchr(verdict->rest, ' ');
    if (space) *space = 0;
    *reason = space ? space + 1 : "the agent gave no reason";
    return strcmp(verdict->rest, "clean") != 0;
}

/* The id in the context that the agent wrote for the worker, else what the environment says: a placeholder's says none. */
const char *restored_id(char *into) {
    char text[LINE];
    const char *field = NULL;
    if (slurp(directory, "restore-context.json", text, sizeof text) > 0) field = strstr(text, "\"checkpointId\"");
    if (field && sscanf(field, "\"checkpointId\": \"%127[a-zA-Z0-9._-]\"", into) == 1) return into;
    return env_or("DYN_SNAPSHOT_CHECKPOINT_ID", "(unnamed)");
}
