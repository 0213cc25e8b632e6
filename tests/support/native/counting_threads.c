/* Threads that count, each in a cell of a shared file of its own: `counting_threads FILE THREADS`. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct cell {
    long tid;
    volatile long count;
};

static void *counting(void *argument) {
    struct cell *cell = argument;
    cell->tid = syscall(SYS_gettid);
    for (;;) {
        cell->count++;
        usleep(500);
    }
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    int threads = atoi(arguments[2]);
    int fd = open(arguments[1], O_RDWR);
    struct cell *cells = mmap(0, threads * sizeof *cells, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (cells == MAP_FAILED) return 1;
    for (int i = 1; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, 0, counting, cells + i)) return 1;
    }
    counting(cells);
}
