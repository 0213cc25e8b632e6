/* A worker without MPTCP: CRIU knows no socket of it, and programs of Go listen by it unasked. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "standby.h"

/* From Go 1.24 on, wherever the kernel has it. What the owner says of it stays, and so does a program's own choice. */
void prefer_plain_tcp(void) {
    static char entry[4 * LINE];
    const char *set = env_or("GODEBUG", "");
    if (strstr(set, "multipathtcp=")) return;
    int size = snprintf(entry, sizeof entry, "GODEBUG=%s%smultipathtcp=0", set, *set ? "," : "");
    if (size < (int)sizeof entry) putenv(entry);
}
