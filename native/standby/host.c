/* What standby asks of the kernel in passing: a log line, the clock, the environment, small files. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "standby.h"

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

long long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

const char *env_or(const char *name, const char *fallback) {
    const char *value = getenv(name);
    return value && *value ? value : fallback;
}

int policy_is(const char *name, const char *value) { return strcmp(env_or(name, ""), value) == 0; }

/* Reads a whole small file; returns its length, -1 if it cannot be read. The text is always ended by NUL. */
ssize_t slurp(int dir, const char *name, char *into, size_t size) {
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return -1;
    size_t have = 0;
    ssize_t n;
    while (have < size - 1 && (n = read(fd, into + have, size - 1 - have)) > 0) have += (size_t)n;
    close(fd);
    into[have] = 0;
    return (ssize_t)have;
}
