/* What an image would run by itself: from the record its build left, or as the agent read it from the runtime. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "standby.h"

enum { MAX_ARGUMENTS = 4096, IMAGE_WINDOW = 60000 };

/* Arguments each ended by NUL, appended to `argv` from `count` on; returns the new count, -1 without the file. */
static int append_record(const char *path, char *text, size_t size, char **argv, int count) {
    int dir = *path == '/' ? AT_FDCWD : control_directory();
    ssize_t n = slurp(dir, path, text, size);
    for (ssize_t i = 0; i < n && count < MAX_ARGUMENTS - 1; i += (ssize_t)strlen(text + i) + 1) argv[count++] = text + i;
    return n < 0 ? -1 : count;
}

/* The command line of two records, or of the first and `arguments`; NULL if they are not there. */
char **image_command(const char *entrypoint, const char *cmd, char **arguments) {
    static char *argv[MAX_ARGUMENTS], first[65536], second[65536];
    int count = append_record(entrypoint, first, sizeof first, argv, 0);
    if (count < 0) return NULL;
    if (!*arguments) count = append_record(cmd, second, sizeof second, argv, count);
    for (; count >= 0 && *arguments && count < MAX_ARGUMENTS - 1; arguments++) argv[count++] = *arguments;
    return count > 0 ? argv : NULL;
}

/* What the agent writes about an image that has no record. */
char **told_command(char **arguments) {
    for (long long end = now_ms() + IMAGE_WINDOW; now_ms() < end; beat(POLL)) {
        if (!has_control_file("image-entrypoint")) continue;
        char **command = image_command("image-entrypoint", "image-cmd", arguments);
        if (command) return command;
        say("SNAPSHOT_CAPTURE_FAILED: the image has neither entrypoint nor cmd; give the pod a command");
        exit(EXIT_REQUIRED);
    }
    say("SNAPSHOT_CAPTURE_FAILED: the image records no entrypoint, and no agent reported it within 60 s; "
        "see the log of this node's snapshot-agent, or give the pod a command");
    exit(EXIT_REQUIRED);
}
