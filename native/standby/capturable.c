/* What a worker is asked to do without, since it could not be captured with it. What the owner says of it stays. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "standby.h"

/* From 1.24 on programs of Go listen by it unasked, wherever the kernel has it. CRIU knows no socket of it. */
void prefer_capturable(void) {
    static char entry[4 * LINE];
    const char *set = env_or("GODEBUG", "");
    if (strstr(set, "multipathtcp=")) return;
    int size = snprintf(entry, sizeof entry, "GODEBUG=%s%smultipathtcp=0", set, *set ? "," : "");
    if (size < (int)sizeof entry) putenv(entry);
}
