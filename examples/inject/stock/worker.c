/* A worker of somebody else's: it knows nothing of snapshots, takes a while to start, then serves HTTP on port 8000.
 *
 * The token that it answers is made at its start and kept in memory only, so it tells one process from another.
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

static char token[33];

static void make_token(void) {
    unsigned char raw[16];
    if (getrandom(raw, sizeof raw, 0) != sizeof raw) exit(1);
    for (size_t i = 0; i < sizeof raw; i++) snprintf(token + 2 * i, 3, "%02x", raw[i]);
}

static int listener(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(8000)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 64) != 0) {
        perror("port 8000");
        exit(1);
    }
    return fd;
}

static void answer(int client) {
    char request[4096], body[128], reply[512];
    if (read(client, request, sizeof request) <= 0) return;
    snprintf(body, sizeof body, "{\"token\": \"%s\", \"pid\": %d}\n", token, getpid());
    int n = snprintf(reply, sizeof reply, "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                     strlen(body), body);
    if (write(client, reply, (size_t)n) < 0) return;
}

int main(int argc, char **argv) {
    const char *seconds = getenv("WARM_UP_SECONDS");
    signal(SIGPIPE, SIG_IGN);
    make_token();
    sleep(seconds ? (unsigned)atoi(seconds) : 0);
    printf("warm as %s, token %s\n", argc > 1 ? argv[1] : "a worker", token);
    fflush(stdout);
    for (int fd = listener();;) {
        int client = accept(fd, NULL, NULL);
        if (client < 0) continue;
        answer(client);
        close(client);
    }
}
