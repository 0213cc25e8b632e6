/* The numbers by which the kernel's part of the driver knows devices ("device instances"), for a process that was restored
 * onto others.
 *
 * A process notes the number of each device when it initialises the driver, and a restore onto another card does not renew
 * it (580.159.04). By it the driver's library finds whose memory a descriptor is: in such a process it then knows none
 * (CUDA_ERROR_INVALID_DEVICE), or takes it for that of the wrong card, and copies at a third of the speed. So where the
 * library asks the kernel what a descriptor is of, we put in the number that it knows.
 *
 * Which that is we learn before the first capture, and which it is now after each restore: by memory of the device's own
 * that the process imports again, and for devices that it has no memory on, by that of others which it has imported.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "device_memory.h"

/* NVOS54_PARAMETERS and NV0000_CTRL_OS_UNIX_GET_EXPORT_OBJECT_INFO_PARAMS of NVIDIA's open kernel modules. */
struct control {
    uint32_t client, object, command, flags;
    void *parameters;
    uint32_t size, status;
};
struct exported {
    int32_t descriptor;
    uint32_t device, instance;
    uint16_t most;
    uint8_t notes[64];
};
enum { GET_EXPORT_OBJECT_INFO = 0x3d08, NO_DEVICE = 0xffff };
static const unsigned long RM_CONTROL = 0xc020462a; /* _IOWR('F', 0x2a, struct control) */

/* All that follow: plus one, 0: none. By which number the driver's library knows each device that we have memory on. */
static uint32_t known[MOST_DEVICES];
/* Devices that have another number now than the one that the library knows. */
static struct {
    uint32_t known, now;
} renewed[MOST_DEVICES * 2];
static uint32_t renewed_count;
static int renews; /* the driver renews its numbers by itself */
/* Of the descriptor that this thread asks about next: where its number goes, as the kernel says it; which it must be. */
static __thread uint32_t *learned, expected;
static __thread uint32_t given; /* what the library got for the last */
static int (*next)(int, unsigned long, ...);

void find_ioctl(void) { next = (int (*)(int, unsigned long, ...))real_dlsym(RTLD_NEXT, "ioctl"); }

static void renew(uint32_t from, uint32_t to) {
    uint32_t i = 0;
    while (i < renewed_count && renewed[i].known != from) i++;
    if (from == to || i == sizeof renewed / sizeof *renewed) return;
    renewed[i].known = from, renewed[i].now = to;
    if (i == renewed_count) renewed_count++;
}

static uint32_t known_by_library(uint32_t number) {
    uint32_t otherwise = number;
    for (uint32_t i = 0; i < renewed_count; i++) {
        if (renewed[i].now == number) return renewed[i].known;
        if (renewed[i].known == number) otherwise = NO_DEVICE; /* this one is where that was, and not known */
    }
    return otherwise;
}

static void correct(const struct control *control) {
    struct exported *exported = control->parameters;
    if (control->command != GET_EXPORT_OBJECT_INFO || control->size != sizeof *exported || control->status || !exported) return;
    const uint32_t number = exported->device + 1;
    given = learned ? number : expected ? expected : known_by_library(number);
    if (learned) *learned = number;
    else if (expected) renew(expected, number);
    exported->device = given - 1;
}

/* The driver's library calls it by name, as every other does. */
EXPORTED int ioctl(int descriptor, unsigned long request, ...) {
    va_list list;
    va_start(list, request);
    void *const argument = va_arg(list, void *);
    va_end(list);
    const int answer = next ? next(descriptor, request, argument) : (int)syscall(SYS_ioctl, descriptor, request, argument);
    if (request == RM_CONTROL && argument) correct(argument);
    return answer;
}

/* Returns the kernel's number of a device, plus one, and whether the library takes that for the device; 0: not found out. */
static uint32_t look_at(int device, int *is_known) {
    const struct driver *cuda = driver();
    struct properties found = {.location.id = -1};
    handle made, imported;
    uint32_t number = 0;
    int descriptor = -1;
    *is_known = 0;
    if (cuda->cuMemCreate(&made, devices[device].granularity, &devices[device].properties, 0)) return 0;
    if (!cuda->cuMemExportToShareableHandle(&descriptor, made, HANDLE_IS_DESCRIPTOR, 0)) {
        learned = &number;
        if (!cuda->cuMemImportFromShareableHandle(&imported, (void *)(intptr_t)descriptor, HANDLE_IS_DESCRIPTOR)) {
            *is_known = !cuda->cuMemGetAllocationPropertiesFromHandle(&found, imported) && found.location.id == device;
            cuda->cuMemRelease(imported);
        }
        learned = NULL;
        close(descriptor);
    }
    cuda->cuMemRelease(made);
    return number;
}

void note_instances(void) {
    for (int i = 0, is_known; i < MOST_DEVICES; i++) {
        if (!devices[i].owner || known[i]) continue;
        const uint32_t number = look_at(i, &is_known);
        if (is_known) known[i] = number;
    }
}

void renew_instances(void) {
    renewed_count = 0;
    for (int i = 0, is_known; i < MOST_DEVICES; i++) {
        if (!devices[i].owner || !known[i]) continue;
        const uint32_t number = look_at(i, &is_known);
        if (is_known && number != known[i]) renews = 1, known[i] = number;
        if (!is_known && number) renew(known[i], number);
    }
}

uint32_t imported_instance(void) { return given; }

void expect_instance(uint32_t instance) { expected = renews ? 0 : instance; }
