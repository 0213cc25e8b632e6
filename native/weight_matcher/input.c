/* What is to be done, one thing a line: `saved DESCRIPTOR SIZE`, `source DESCRIPTOR SIZE`, and of the source
 * that came last `tensor FROM LENGTH`. The agent has checked the numbers; a file may have become shorter since. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "weight_matcher.h"

struct file *saved, *sources;
uint32_t saved_count, source_count;

void give_up(const char *why) {
    fprintf(stderr, "%s\n", why);
    _exit(1);
}

int read_at(const struct file *file, void *into, size_t size, uint64_t at) {
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(file->descriptor, (char *)into + done, size - done, (off_t)(at + done));
        if (n <= 0) return -1;
        done += (size_t)n;
    }
    return 0;
}

static void add_file(struct file **files, uint32_t *count, uint64_t descriptor, uint64_t size) {
    if (*count == MOST_FILES) give_up("too many files");
    if (!*files && !(*files = calloc(MOST_FILES, sizeof **files))) give_up("no memory");
    (*files)[(*count)++] = (struct file){(int)descriptor, size};
}

void read_input(void (*span)(uint32_t source, uint64_t from, uint64_t length)) {
    char line[128], what[16];
    uint64_t first, second;
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "%15s %" SCNu64 " %" SCNu64, what, &first, &second) != 3) give_up("a line is not understood");
        if (!strcmp(what, "saved")) add_file(&saved, &saved_count, first, second);
        else if (!strcmp(what, "source")) add_file(&sources, &source_count, first, second);
        else if (!strcmp(what, "tensor") && source_count) span(source_count - 1, first, second);
        else give_up("a line is not understood");
    }
}
