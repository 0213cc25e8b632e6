/* Streams that the worker captures into a CUDA graph just now. To wait for its kernels would spoil what it captures, and
 * the driver says of no stream but one that it is given whether it does; so they are noted.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "device_memory.h"

/* A worker captures one at a time, or a few. Those beyond, and a thread's own default stream, are not noted: waiting then
 * fails, and what was captured is lost. */
enum { MOST_STREAMS = 256 };

static stream noted[MOST_STREAMS];
static int noted_count;
static pthread_mutex_t list = PTHREAD_MUTEX_INITIALIZER;

void renew_recording_in_child(void) { list = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER; }

void note_recording(stream on) {
    pthread_mutex_lock(&list);
    if (on && noted_count < MOST_STREAMS) noted[noted_count++] = on;
    pthread_mutex_unlock(&list);
}

void forget_recording(stream on) {
    pthread_mutex_lock(&list);
    for (int i = 0; i < noted_count; i++)
        if (noted[i] == on) noted[i--] = noted[--noted_count];
    pthread_mutex_unlock(&list);
}

int is_recording(void) {
    int any = 0;
    pthread_mutex_lock(&list);
    for (int i = 0; i < noted_count && !any; i++) {
        int status = NOT_RECORDING;
        any = driver()->cuStreamIsCapturing(noted[i], &status) == SUCCESS && status != NOT_RECORDING;
    }
    pthread_mutex_unlock(&list);
    return any;
}
