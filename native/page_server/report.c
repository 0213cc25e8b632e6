/* Lines to the agent, and the end with a reason. */
#define _GNU_SOURCE
#include "page_server.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 512, EXIT_FAILED = 1 };

int report_fd = NO_FD;

static void write_line(const char *word, const char *format, va_list arguments) {
    char line[LINE];
    int n = snprintf(line, sizeof line - 1, "%s", word);
    n += vsnprintf(line + n, sizeof line - 1 - (size_t)n, format, arguments);
    if (n > (int)sizeof line - 2) n = (int)sizeof line - 2;
    line[n++] = '\n';
    /* An agent that has ended reads no more, and that is no reason to stop. */
    if (write(report_fd, line, (size_t)n) < 0) return;
}

void report(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_line("", format, arguments);
    va_end(arguments);
}

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_line("failed ", format, arguments);
    va_end(arguments);
    _exit(EXIT_FAILED);
}

u64 now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000 + (u64)t.tv_nsec / 1000;
}
