/* Device memory whose content need not outlive the worker's capture, such as a KV cache: the worker allocates it by these
 * instead of the driver's functions. Of a worker that ends with its capture it is not saved, and all zeros in those that
 * are restored; one that goes on keeps it.
 *
 * It is an allocation like others in all else. Where this library makes none (small ones, other contexts) the driver's own
 * takes its place, which is saved: the worker asks for less to be kept, and never depends on it.
 */
#define _GNU_SOURCE
#include "device_memory.h"

/* PyTorch calls from any thread, and the driver allocates in the context that is current there. Returns the one to go back
 * to; NULL: none was current, or the right one is. */
static context enter_primary(int number) {
    context current = NULL;
    int of_current = -1;
    driver()->cuCtxGetCurrent(&current);
    if (current && driver()->cuCtxGetDevice(&of_current) == SUCCESS && of_current == number) return NULL;
    const context primary = primary_of(number);
    if (primary) driver()->cuCtxSetCurrent(primary);
    return current;
}

static void go_back(context before) {
    if (before) driver()->cuCtxSetCurrent(before);
}

void *snapshot_allocate_discardable(ssize_t size, int device, stream on) {
    (void)on; /* all of ours waits for nothing */
    address at = 0;
    if (size <= 0 || !driver()) return NULL;
    enter_driver();
    const context before = enter_primary(device);
    const result error = allocate_any(&at, (size_t)size, 1);
    go_back(before);
    leave_driver();
    return error ? NULL : (void *)(uintptr_t)at;
}

void snapshot_free_discardable(void *at, ssize_t size, int device, stream on) {
    (void)size, (void)on; /* freeing waits for the whole context */
    if (!at || !driver()) return;
    enter_driver();
    const context before = enter_primary(device);
    free_any((address)(uintptr_t)at);
    go_back(before);
    leave_driver();
}
