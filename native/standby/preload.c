/* The library that keeps device memory outside the image, loaded into a worker that asks for a GPU. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "standby.h"

/* It is made for glibc, which the driver needs too; another loader would end every program on it. */
static const char LOADER[] = "/lib64/ld-linux-x86-64.so.2";
/* Libraries that replace the driver's allocator by their own: two of them would undo each other's work. */
static const char *const OTHERS[] = {"memory_saver"};

void preload_device_memory(void) {
    static char entry[2 * LINE];
    const char *library = env_or("DYN_SNAPSHOT_DEVICE_MEMORY", "");
    const char *preloaded = env_or("LD_PRELOAD", "");
    if (!*library || access(library, R_OK) != 0 || access(LOADER, F_OK) != 0) return;
    for (unsigned i = 0; i < sizeof OTHERS / sizeof *OTHERS; i++)
        if (strstr(preloaded, OTHERS[i])) return;
    /* Last, so that every other one has the names that it wants. */
    int size = snprintf(entry, sizeof entry, "LD_PRELOAD=%s%s%s", preloaded, *preloaded ? ":" : "", library);
    if (size < (int)sizeof entry) putenv(entry);
}
