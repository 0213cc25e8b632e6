/* snapshot-standby: the first process of every container that is captured or restored.
 *
 * It waits for the node agent's verdict, and then either adopts the restored worker or becomes the original command.
 * The protocol, and the reason for each step, is in docs/standby-protocol.md; the words in contract/api/control_files.py.
 * Linux only. No threads, no allocation beyond argv and /proc lines, no privilege.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "standby.h"

enum { EXIT_RESTART_ME = 75 };

/* Milliseconds. */
enum { CLAIM_WINDOW = 5000, LOST_CLAIM_WINDOW = 10000, LOOK_AT_ALLOWANCE = 500, LOOK_FOR_NOTE = 500, LOOK_AT_PAGES = 50 };
enum { WAIT_POLL = 50 }; /* of a container that may wait for days; the restore itself is polled faster */
enum { DEVICES_WINDOW = 30000, FIRST_WAIT = 1000 };

/* ------------------------------------------------------------------------------------------------------- cold start */

/* Takes the lock unless a holder keeps it for longer than `ms`. */
static void take_lock_within(int ms) {
    for (long long end = now_ms() + ms; !take_lock() && now_ms() < end;) beat(POLL);
}

static int is_ours(const char *entry) {
    return strncmp(entry, "DYN_SNAPSHOT_", 13) == 0 || strncmp(entry, "DYN_CHECKPOINT_", 15) == 0 ||
           strncmp(entry, "SNAPSHOT_CONTROL_DIR=", 21) == 0;
}

static int names_directory(const char *entry) {
    return strncmp(entry, "DYN_SNAPSHOT_CONTROL_DIR=", 25) == 0 || strncmp(entry, "SNAPSHOT_CONTROL_DIR=", 21) == 0;
}

/* A worker that still saw these would take itself for a checkpoint source and wait for ever. */
static void clean_environment(int keeps_directory) {
    char **kept = environ;
    for (char **entry = environ; *entry; entry++)
        if (!is_ours(*entry) || (keeps_directory && names_directory(*entry))) *kept++ = *entry;
    *kept = NULL;
}

static void cold_start(char **command, const char *reason, int dirty) {
    if (policy_is("DYN_SNAPSHOT_POLICY", "Require")) {
        say("SNAPSHOT_REQUIRED: refusing to start cold (policy Require): %s", reason);
        exit(EXIT_REQUIRED);
    }
    const char *note = "";
    if (has_claim()) {
        take_lock_within(FOREIGN_WINDOW); /* from here on no agent touches this container */
        if (getpid() == 1 && !alone()) {
            say("SNAPSHOT_RESTART: processes of a restore are left that cannot be ended: %s", reason);
            exit(EXIT_RESTART_ME);
        }
        dirty = dirty || has_control_file("standby-dirty");
    }
    if (dirty && !policy_is("DYN_SNAPSHOT_RESTART_POLICY", "Never")) {
        say("SNAPSHOT_RESTART: files of a restore are left, the container needs a fresh start: %s", reason);
        exit(EXIT_RESTART_ME);
    }
    if (dirty) note = " (files of the restore are left: restartPolicy Never allows no fresh start)";
    if (has_claim()) publish("restore-complete", "cold-start\n");
    say("SNAPSHOT_COLD_START: Falling back to cold start: %s%s", reason, note);
    clean_environment(0);
    become(command);
}

/* ------------------------------------------------------------------------------------------- a worker that is captured */

/* An agent that captures a running worker leaves a note before it stops the tree, and takes it away when it has woken
 * it. A note that no agent holds the lock for is of one that died: whom it stopped, we wake. */
static void wake_whom_an_agent_left(void) {
    char stopped[LINE];
    if (slurp(control_directory(), "standby-frozen", stopped, sizeof stopped) < 0 || claimed()) return;
    unlinkat(control_directory(), "standby-frozen", 0);
    wake_all_but(stopped);
}

/* Whose devices a dead agent has taken, the next one gives them back. If the driver fails it, or no agent comes, the
 * worker would hang in its next call for ever. */
static void await_devices(void) {
    static long long since;
    char note[LINE];
    if (slurp(control_directory(), "standby-devices", note, sizeof note) < 0 || claimed()) {
        since = 0;
        return;
    }
    if (!since) since = now_ms();
    if (strcmp(note, "lost\n") != 0 && now_ms() - since < DEVICES_WINDOW) return;
    say("SNAPSHOT_RESTART: the worker's devices were not given back after a capture");
    exit(EXIT_RESTART_ME);
}

static void keep(pid_t child) {
    while (!worker_ended()) {
        beat(guards_pages() ? LOOK_AT_PAGES : LOOK_FOR_NOTE);
        wake_whom_an_agent_left();
        await_devices();
        if (pages_are_lost()) {
            say("SNAPSHOT_RESTART: the page server ended before it had restored all of the worker's memory");
            exit(EXIT_RESTART_ME);
        }
        if (kill(child, 0) != 0 && errno == ESRCH && !worker_ended()) {
            say("SNAPSHOT_RESTART: the worker (pid %d) is not there", child);
            exit(EXIT_RESTART_ME);
        }
    }
    exit(worker_code());
}

/* The worker as our child, so that it can be captured while it runs; there is nothing to wait for. */
static void serve_mode(char **command) {
    const char *failure = make_claim();
    if (!failure && getpid() != 1) failure = "standby is not the container's first process (shareProcessNamespace)";
    if (failure) {
        say("SNAPSHOT_COLD_START: the worker cannot be captured while it runs: %s", failure);
        clean_environment(0);
        become(command);
    }
    /* A worker of Dynamo sees the directory, takes the second file for a restore, and ends without the first. */
    publish("restore-context.json", "{\"env\": {}}\n");
    publish("restore-complete", "cold-start\n");
    preload_device_memory();
    prefer_capturable();
    clean_environment(1);
    keep(start_worker(command));
}

/* ----------------------------------------------------------------------------------------------------- restore mode */

/* The whole restored tree: criu leaves every process of it stopped. Some were so at the capture, and stay. */
static void wake(pid_t worker, const char *stopped) {
    if (getpid() != 1) kill(worker, SIGCONT);
    else wake_all_but(stopped);
}

/* Gives a woken worker up to a second to be back in the call that it waited in. It was restored in front of that call, so a
 * signal that came first would run its handler, and then the call would wait without end instead of failing with EINTR. */
static void await_first_wait(pid_t worker) {
    const struct timespec pause = {0, 1000000L};
    char path[32], stat[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)worker);
    for (long long end = now_ms() + FIRST_WAIT; now_ms() < end; nanosleep(&pause, NULL)) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) return;
        ssize_t size = read(fd, stat, sizeof stat - 1);
        close(fd);
        if (size <= 0) return;
        stat[size] = 0;
        const char *after = strrchr(stat, ')');
        if (!after || !strchr("TRt", after[2])) return;
    }
}

static void adopt(pid_t worker, const char *stopped) {
    char named[ID_SIZE];
    forget_control_files();
    say("SNAPSHOT_RESTORED: container restored from checkpoint %s", restored_id(named));
    publish("restore-complete", "done\n");
    adopt_worker(worker);
    wake(worker, stopped);
    await_first_wait(worker);
    keep(worker);
}

static void obey(struct verdict *verdict, char **command) {
    char *stopped;
    long worker = strtol(verdict->rest, &stopped, 10);
    if (strcmp(verdict->word, "restored") == 0 && worker > 1) adopt((pid_t)worker, stopped);
    const char *reason = "the agent's verdict cannot be understood";
    int dirty = strcmp(verdict->word, "failed") == 0 ? split_failure(verdict, &reason) : 1;
    cold_start(command, reason, dirty);
}

static int parks; /* whether a worker may be parked here */

static int is_parked(void) { return parks && parked_worker() && !claimed(); }

/* Looks for a verdict until `end`, or until a worker is parked; obeys it, which does not return. */
static void await_verdict(char **command, long long end, int until_lost) {
    static struct verdict verdict;
    while (now_ms() < end) {
        int held = !until_lost || claimed(); /* before the verdict is read: the holder writes, then lets go */
        pages_are_lost(); /* which the agent notices by itself: it has given no verdict yet */
        serve_commands();
        if (read_verdict(&verdict)) obey(&verdict, command);
        if (!held || is_parked()) return;
        await_change(POLL);
    }
}

/* A placeholder: its checkpoint is named when its owner likes, and until an agent has started nothing is lost by waiting. */
static void await_claim(char **command) {
    static struct verdict verdict;
    while (!claimed() && !allowed_seconds()) {
        if (read_verdict(&verdict)) obey(&verdict, command); /* of an agent that refused at once */
        beat(WAIT_POLL);
    }
}

/* A parked worker is restored and stopped, and no agent holds the claim: it is woken when its owner likes. */
static void stay_parked(char **command) {
    static struct verdict verdict;
    static int is_announced;
    char named[ID_SIZE];
    if (!is_announced)
        say("SNAPSHOT_PARKED: checkpoint %s is restored and stopped; it waits for `snapshotctl wake`", restored_id(named));
    is_announced = 1;
    for (pid_t worker; !claimed() && (worker = parked_worker());) {
        if (read_verdict(&verdict)) obey(&verdict, command);
        await_change(WAIT_POLL);
        if (kill(worker, 0) == 0 || errno != ESRCH || claimed()) continue;
        if (read_verdict(&verdict)) obey(&verdict, command); /* an agent has ended it */
        const char *reason = "the parked worker has ended: the pod's memory limit?";
        if (policy_is("DYN_SNAPSHOT_RESTART_POLICY", "Never")) cold_start(command, reason, 0);
        say("SNAPSHOT_RESTART: %s", reason); /* so that it is restored and parked again */
        exit(EXIT_RESTART_ME);
    }
}

/* The agent still holds the lock, and may be about to give its verdict. It looks for this file once it has: either it finds
 * it, or we find the verdict here. */
static void give_up(char **command) {
    static struct verdict verdict;
    static const char reason[] = "restore timed out";
    publish("standby-gave-up", reason);
    if (read_verdict(&verdict)) {
        unlinkat(control_directory(), "standby-gave-up", 0); /* which says that we obey */
        obey(&verdict, command);
    }
    cold_start(command, reason, 0);
}

static void restore_mode(char **command, int waits) {
    const char *failure = make_claim();
    if (failure) cold_start(command, failure, 0);
    watch_control_files();
    if (getpid() != 1) cold_start(command, "standby is not the container's first process (shareProcessNamespace)", 0);
    /* A container that kubelet does not start again could not survive the end of its page server. */
    if (!policy_is("DYN_SNAPSHOT_RESTART_POLICY", "Never")) open_pages();
    open_commands();
    if (waits) say("SNAPSHOT_WAITING: this container waits for `snapshotctl restore --pod`");
    else await_verdict(command, now_ms() + CLAIM_WINDOW, 0);
    if (!waits && !allowed_seconds() && take_lock())
        cold_start(command, "no agent claimed this container within 5 s", 0);
    long long claimed_at = now_ms();
    for (;;) {
        if (waits && !allowed_seconds()) {
            await_claim(command);
            claimed_at = now_ms();
        }
        if (is_parked()) {
            stay_parked(command);
            claimed_at = now_ms();
        }
        while (claimed()) {
            long long end = end_of_claim(claimed_at);
            if (now_ms() >= end) give_up(command);
            await_verdict(command, now_ms() + LOOK_AT_ALLOWANCE, 1);
        }
        if (waits && !allowed_seconds()) continue; /* the claim was lost before anything was touched */
        if (parks && parked_worker()) continue;
        for (long long lost = now_ms(); !claimed() && now_ms() - lost < LOST_CLAIM_WINDOW;)
            await_verdict(command, now_ms() + POLL, 0);
        if (take_lock()) cold_start(command, "the agent died", 0);
        claimed_at = now_ms();
    }
}

/* ----------------------------------------------------------------------------------------------------- capture mode */

static void capture_mode(char **command, char **arguments) {
    static struct verdict verdict;
    const char *failure = make_claim();
    if (!failure && getpid() != 1) failure = "standby is not the container's first process (shareProcessNamespace)";
    if (failure) {
        say("SNAPSHOT_CAPTURE_FAILED: %s", failure);
        exit(1);
    }
    open_commands();
    preload_device_memory();
    prefer_capturable();
    start_worker(command ? command : told_command(arguments));
    open_pages(); /* for the proof; that its memory is lost, the agent notices by itself */
    for (;;) {
        beat(5 * POLL);
        serve_commands();
        pages_are_lost();
        int ended = worker_ended(); /* read before the lock: an agent locks only while the worker lives */
        int held = claimed();
        if (read_verdict(&verdict)) break;
        if (ended && !held) exit(allowed_seconds() ? 1 : worker_code());
    }
    if (strcmp(verdict.word, "captured") == 0) exit(0);
    split_failure(&verdict, &failure);
    say("SNAPSHOT_CAPTURE_FAILED: %s", failure);
    exit(1); /* which ends the worker: we are pid 1 */
}

/* ----------------------------------------------------------------------------------------------------- command line */

static void usage(void) {
    say("usage: snapshot-standby [--capture | --serve | --wait | --park] [--image-entrypoint] -- [COMMAND [ARG...]]\n"
        "       snapshot-standby --install DIR | --opened DIR [FILE] | --gate DIR SECONDS [PROBE...]");
    exit(EXIT_REQUIRED);
}

int main(int argc, char **argv) {
    int capture = 0, serve = 0, waits = 0, from_image = 0, i = 1;
    if (argc == 3 && strcmp(argv[1], "--install") == 0) return install_tools(argv[2]);
    if ((argc == 3 || argc == 4) && strcmp(argv[1], "--opened") == 0) return !opened(argv[2], argv[3]);
    if (argc > 2 && strcmp(argv[1], "--gate") == 0) return gate(argc - 2, argv + 2);
    for (; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--capture") == 0) capture = 1;
        else if (strcmp(argv[i], "--serve") == 0) serve = 1;
        else if (strcmp(argv[i], "--wait") == 0) waits = 1;
        else if (strcmp(argv[i], "--park") == 0) parks = 1;
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
    hold_signals();
    if (capture) capture_mode(command, arguments);
    if (serve) serve_mode(command);
    restore_mode(command, waits);
}
