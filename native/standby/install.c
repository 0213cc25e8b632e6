/* snapshot-standby --install: the tool folder copied into a pod, by an init container of any user.
 *
 * Every file appears whole under its name, so a worker never starts half a program; a second run replaces them.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "standby.h"

enum { FOR_ALL = 0444, TO_EXECUTE = 0111, DIRECTORY = 0755, DEEPEST = 8 };

static const char PROGRAM[] = "/bin/snapshot-standby";

static int failed(const char *what, const char *name) {
    say("snapshot-standby: cannot %s %s: %s", what, name, strerror(errno));
    return -1;
}

static int copy_bytes(int from, int to) {
    char block[65536];
    ssize_t n;
    while ((n = read(from, block, sizeof block)) > 0)
        for (ssize_t done = 0, w; done < n; done += w)
            if ((w = write(to, block + done, (size_t)(n - done))) < 0) return -1;
    return (int)n;
}

/* Descriptors are left to the program's end, which is near. */
static int copy_file(int from_dir, int to_dir, const char *name, mode_t mode) {
    char temporary[NAME_MAX + 16];
    snprintf(temporary, sizeof temporary, ".%s.install", name);
    int from = openat(from_dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (from < 0) return failed("read", name);
    unlinkat(to_dir, temporary, 0);
    int to = openat(to_dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0 || copy_bytes(from, to) != 0) return failed("write", name);
    /* By descriptor, since a umask must not hide the tools from the worker's user. */
    if (fchmod(to, FOR_ALL | (mode & TO_EXECUTE ? TO_EXECUTE : 0)) != 0 || close(to) != 0) return failed("write", name);
    return renameat(to_dir, temporary, to_dir, name) == 0 ? 0 : failed("replace", name);
}

static int open_directory(int at, const char *name) { return openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC); }

static int copy_folder(int from, int to, int depth);

static int copy_below(int from, int to, const char *name, int depth) {
    if (mkdirat(to, name, DIRECTORY) != 0 && errno != EEXIST) return failed("make", name);
    int below = open_directory(to, name);
    if (below < 0) return failed("open", name);
    struct stat found;
    if (fstat(below, &found) == 0 && (found.st_mode & DIRECTORY) != DIRECTORY && fchmod(below, DIRECTORY) != 0)
        return failed("open to all", name);
    return copy_folder(open_directory(from, name), below, depth + 1);
}

static int copy_entry(int from, int to, const char *name, int depth) {
    struct stat found;
    if (fstatat(from, name, &found, AT_SYMLINK_NOFOLLOW) != 0) return failed("read", name);
    if (S_ISREG(found.st_mode)) return copy_file(from, to, name, found.st_mode);
    if (S_ISDIR(found.st_mode) && depth < DEEPEST) return copy_below(from, to, name, depth);
    return 0;
}

static int copy_folder(int from, int to, int depth) {
    DIR *entries = from < 0 ? NULL : fdopendir(from);
    if (!entries) return failed("read", "the tool folder");
    for (struct dirent *entry; (entry = readdir(entries));) {
        int dots = !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..");
        if (!dots && copy_entry(from, to, entry->d_name, depth) != 0) return -1;
    }
    return 0;
}

int install_tools(const char *target) {
    char folder[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", folder, sizeof folder - 1);
    size_t tail = sizeof PROGRAM - 1;
    folder[n > 0 ? n : 0] = 0;
    if (n <= (ssize_t)tail || strcmp(folder + n - tail, PROGRAM) != 0) {
        say("snapshot-standby: --install copies the folder that it is in as %s, but it is %s", PROGRAM + 1, folder);
        return 1;
    }
    folder[n - (ssize_t)tail] = 0;
    int to = open_directory(AT_FDCWD, target);
    if (to < 0) return -failed("open", target);
    return copy_folder(open_directory(AT_FDCWD, folder), to, 0) == 0 ? 0 : 1;
}
