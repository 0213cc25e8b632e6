#include <pthread.h>
#include <stdint.h>

#include "weight_matcher.h"

static int (*action)(unsigned);

static void *run(void *number) {
    while (action((unsigned)(uintptr_t)number)) {}
    return NULL;
}

void in_threads(unsigned threads, int (*act)(unsigned)) {
    pthread_t started[MOST_THREADS];
    unsigned count = 0;
    action = act;
    while (count < threads && pthread_create(&started[count], NULL, run, (void *)(uintptr_t)count) == 0) count++;
    if (!count) run(0);
    while (count) pthread_join(started[--count], NULL);
}
