/* A trap for loaders, C libraries and criu inside a container: a process that loads it leaves a line in /sprung, the
 * capabilities that it was loaded with. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

__attribute__((constructor)) static void sprung(void) {
    char status[4096] = "";
    int proc = open("/proc/self/status", O_RDONLY);
    long length = proc < 0 ? 0 : read(proc, status, sizeof status - 1);
    const char *line = length > 0 ? strstr(status, "CapEff:") : "CapEff:\tunknown\n";
    int mark = open("/sprung", O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (proc >= 0) close(proc);
    if (mark < 0 || !line) return;
    if (write(mark, line, strcspn(line, "\n") + 1) < 0) _exit(99);
    close(mark);
}
