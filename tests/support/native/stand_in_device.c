/* Replaces libcuda.so.1 inside a worker on machines without a card: device memory that is allocated, mapped and copied by
 * the driver's rules, and calls that wait while the process is locked.
 *
 * Device memory that is mapped is a file in memory, which a dump takes along, as the driver would move it into the
 * process. The state letter is that of stand_in_libcuda.c; behind it is a P while devices look into each other's memory.
 * The file FULL has the bytes that a process may have mapped or created; empty: none. UNMAPS says which of the next calls
 * of cuMemUnmap fails. There are as many devices as STAND_IN_DEVICES says, else DEVICES. A stream is the device that it is of, plus one.
 *
 * What a device may look into is the driver's: memory that is mapped, what was named for it; other memory, its own and
 * that of devices it has peer access to. Copies go from any device to any, but for memory that is mapped, which only a
 * copy that names both contexts takes there. Memory that a process exports or imports makes it a P too, as long as it has
 * a handle or a mapping of it. So does memory of the host that is created; it is on the device HOST.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef DEVICES
#define DEVICES 1
#endif

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, NOT_FOUND = 500 };
enum { ALREADY_ENABLED = 704, NOT_ENABLED = 705, ILLEGAL_ADDRESS = 700, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901 };
enum { READ_ONLY = 8 }; /* of memory that is registered */
enum { MOST = 4096, PER_THREAD = 2, MOST_DEVICES = 16, HOST = MOST_DEVICES, ON_DEVICE = 1, ON_HOST = 3 };
static const char MARK[] = "STAND_IN_CUDA=";
static const char FULL[] = "/var/tmp/device-memory-full";
static const char UNMAPS[] = "/var/tmp/device-memory-unmaps";
static const size_t PAGE = 2u << 20;

static volatile char running = 'R', *state = &running;
static int contexts[MOST_DEVICES]; /* the address of each is the context of its device */
static __thread int *current;
static int card; /* its device 0, when it started: the driver does not renew that at a restore */
static int devices = DEVICES;
static unsigned peers[MOST_DEVICES]; /* of each device, those that it has peer access to */

struct properties {
    int type, handle_types, location_type, device;
    char rest[16];
};
struct access {
    int location_type, device, flags;
};
struct memory {
    int file, device, handles, mappings, shared;
    size_t size;
};
static struct memory memories[MOST];
static _Atomic int created;
static struct {
    uint64_t at;
    size_t size;
} reservations[MOST];
static struct {
    uint64_t at;
    size_t size; /* 0: free */
    int mapped, plain, device, memory;
    unsigned access; /* of memory that is mapped: the devices that it is there for */
} ranges[MOST];
static pthread_mutex_t table = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(int argc, char **argv, char **environment) {
    (void)argc, (void)argv;
    for (; *environment; environment++)
        if (strncmp(*environment, MARK, sizeof MARK - 1) == 0) state = *environment + sizeof MARK - 1;
    const char *number = getenv("STAND_IN_DEVICES");
    if (number) devices = atoi(number);
}

static int is_full(size_t wanted) {
    FILE *file = fopen(FULL, "r");
    unsigned long long most = 0;
    if (!file) return 0;
    if (fscanf(file, "%llu", &most) != 1) most = 0;
    fclose(file);
    for (int i = 0; i < created; i++) wanted += memories[i].size;
    return wanted > most;
}

static unsigned active; /* devices that have a context */

static void enter(void) {
    while (*state == 'L' || *state == 'C') usleep(1000);
}

static int of_context(const void *which) { return (int)((const int *)which - contexts); }
static int is_device(int number) { return number >= 0 && number < devices; }
static int of_stream(const void *stream) { return stream ? (int)(intptr_t)stream - 1 : of_context(current); }

/* The first of the node's cards that it sees, which is its device 0; 0 if it sees none. */
static int first_card(void) {
    char path[32];
    for (int i = 0; i < MOST_DEVICES; i++) {
        snprintf(path, sizeof path, "/dev/nvidia%d", i);
        if (access(path, F_OK) == 0) return i;
    }
    return 0;
}

int cuInit(unsigned flags) { return flags ? INVALID_VALUE : (card = first_card(), SUCCESS); }
int cuDeviceGetCount(int *count) { return *count = devices, SUCCESS; }
int cuDeviceGetAttribute(int *value, int which, int device) {
    return *value = which == 102 || which == 103, is_device(device) ? SUCCESS : INVALID_DEVICE;
}
int cuDeviceGetP2PAttribute(int *value, int which, int device, int other) {
    return *value = which == 3, is_device(device) && is_device(other) && device != other ? SUCCESS : INVALID_DEVICE;
}
int cuDeviceGetUuid_v2(unsigned char *uuid, int device) {
    return memset(uuid, 0xab + device, 16), is_device(device) ? SUCCESS : INVALID_DEVICE;
}
int cuDevicePrimaryCtxRetain(void **made, int device) {
    active |= 1u << device;
    return *made = &contexts[device], is_device(device) ? SUCCESS : INVALID_DEVICE;
}
int cuCtxCreate_v2(void **made, unsigned flags, int device) {
    (void)flags;
    if (!is_device(device)) return INVALID_DEVICE;
    active |= 1u << device;
    return *made = current = &contexts[device], SUCCESS;
}
int cuCtxDestroy_v2(void *ended) { return is_device(of_context(ended)) ? SUCCESS : INVALID_VALUE; }
int cuDevicePrimaryCtxReset_v2(int device) { return is_device(device) ? SUCCESS : INVALID_DEVICE; }
int cuCtxGetCurrent(void **found) { return *found = current, SUCCESS; }
int cuCtxSetCurrent(void *wanted) { return current = wanted, SUCCESS; }
int cuCtxGetDevice(int *device) { return current ? (*device = of_context(current), SUCCESS) : INVALID_VALUE; }
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *is_active) {
    return *flags = 0, *is_active = active >> device & 1, is_device(device) ? SUCCESS : INVALID_DEVICE;
}
int cuDevicePrimaryCtxRelease_v2(int device) { return is_device(device) ? SUCCESS : INVALID_DEVICE; }

/* A kernel that writes a byte, and has not ended before its context is waited for. */
static struct {
    void *in;
    uint64_t at;
    unsigned char value;
} unfinished;

int cuStandInLater(uint64_t at, unsigned char value) {
    return unfinished.in = current, unfinished.at = at, unfinished.value = value, SUCCESS;
}
static int recording; /* 0: no stream is, 1: one is captured into a graph, 2: that was spoiled */
int cuStreamBeginCapture_v2(void *stream, int mode) { return enter(), (void)stream, (void)mode, recording = 1, SUCCESS; }
int cuStreamIsCapturing(void *stream, int *status) { return enter(), (void)stream, *status = recording, SUCCESS; }
int cuStreamEndCapture(void *stream, void **graph) {
    const int is_whole = recording == 1;
    return enter(), (void)stream, recording = 0, *graph = NULL, is_whole ? SUCCESS : CAPTURE_INVALIDATED;
}
int cuCtxSynchronize(void) {
    enter();
    if (recording) return recording = 2, CAPTURE_UNSUPPORTED;
    if (unfinished.in && unfinished.in == current)
        *(unsigned char *)(uintptr_t)unfinished.at = unfinished.value, unfinished.in = NULL;
    return SUCCESS;
}
int cuStreamCreate(void **made, unsigned flags) {
    return enter(), (void)flags, *made = (void *)(intptr_t)(of_context(current) + 1), SUCCESS;
}
int cuStreamDestroy_v2(void *stream) { return (void)stream, SUCCESS; }
int cuStreamSynchronize(void *stream) { return enter(), (void)stream, SUCCESS; }
int cuEventCreate(void **made, unsigned flags) { return (void)flags, *made = (void *)1, SUCCESS; }
int cuEventDestroy_v2(void *event) { return (void)event, SUCCESS; }
int cuEventRecord(void *event, void *stream) { return (void)event, (void)stream, SUCCESS; }
int cuEventSynchronize(void *event) { return (void)event, SUCCESS; }
int cuMemHostRegister_v2(void *at, size_t size, unsigned flags) {
    for (size_t done = 0; done < size; done += 4096) { /* its pages are there from now on */
        volatile char *page = (volatile char *)at + done;
        if (flags & READ_ONLY) (void)*page;
        else *page = 0;
    }
    return SUCCESS;
}
int cuMemHostUnregister(void *at) { return (void)at, SUCCESS; }
struct shared {
    char bytes[64];
};
int cuIpcGetMemHandle(struct shared *shared, uint64_t at) { return (void)shared, (void)at, INVALID_VALUE; }
int cuIpcOpenMemHandle_v2(uint64_t *at, struct shared shared, unsigned flags) {
    return (void)at, (void)shared, (void)flags, INVALID_VALUE;
}
int cuIpcCloseMemHandle(uint64_t at) { return (void)at, INVALID_VALUE; }

int cuMulticastBindAddr(uint64_t multicast, size_t at, uint64_t memory, size_t size, uint64_t flags) {
    return (void)multicast, (void)at, (void)memory, (void)size, (void)flags, SUCCESS;
}

int cuMemGetAllocationGranularity(size_t *size, const void *properties, int which) {
    return (void)properties, (void)which, *size = PAGE, SUCCESS;
}

/* ------------------------------------------------------------------------------------------------------------ memory */

static int free_place(const size_t *first_size, size_t stride) {
    int i = 0;
    while (i < MOST && *(const size_t *)((const char *)first_size + (size_t)i * stride)) i++;
    return i < MOST ? i : -1;
}

#define FREE_PLACE(list) free_place(&list[0].size, sizeof list[0])

/* Notes a range; -1: there is no room. */
static int add_range(uint64_t at, size_t size) {
    pthread_mutex_lock(&table);
    int i = FREE_PLACE(ranges);
    if (i >= 0) memset(&ranges[i], 0, sizeof ranges[i]), ranges[i].at = at, ranges[i].size = size;
    pthread_mutex_unlock(&table);
    return i;
}

int cuMemAddressReserve(uint64_t *at, size_t size, size_t alignment, uint64_t wanted, uint64_t flags) {
    (void)alignment, (void)wanted, (void)flags;
    enter();
    if (!size || size % PAGE) return INVALID_VALUE;
    char *found = mmap(NULL, size + PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (found == MAP_FAILED) return OUT_OF_MEMORY;
    char *aligned = (char *)(((uintptr_t)found + PAGE - 1) / PAGE * PAGE);
    if (aligned > found) munmap(found, (size_t)(aligned - found));
    munmap(aligned + size, (size_t)(found + size + PAGE - aligned - size));
    pthread_mutex_lock(&table);
    int number = FREE_PLACE(reservations);
    if (number >= 0) reservations[number].at = *at = (uint64_t)(uintptr_t)aligned, reservations[number].size = size;
    pthread_mutex_unlock(&table);
    return number < 0 ? OUT_OF_MEMORY : SUCCESS;
}

static int range_at(uint64_t at) {
    for (int i = 0; i < MOST; i++)
        if (ranges[i].size && ranges[i].at == at) return i;
    return -1;
}

/* The next range of those that are wholly within some addresses. */
static int next_within(int from, uint64_t at, size_t size) {
    for (int i = from; i < MOST; i++)
        if (ranges[i].mapped && ranges[i].at >= at && ranges[i].at + ranges[i].size <= at + size) return i;
    return -1;
}

static int overlaps(uint64_t at, size_t size) {
    for (int i = 0; i < MOST; i++)
        if (ranges[i].mapped && ranges[i].at < at + size && at < ranges[i].at + ranges[i].size) return 1;
    return 0;
}

int cuMemAddressFree(uint64_t at, size_t size) {
    int i = 0;
    while (i < MOST && !(reservations[i].size == size && reservations[i].at == at)) i++;
    if (i == MOST || overlaps(at, size)) return INVALID_VALUE;
    reservations[i].size = 0;
    return munmap((void *)(uintptr_t)at, size) ? INVALID_VALUE : SUCCESS;
}

static void note_sharing(void);

int cuMemCreate(uint64_t *handle, size_t size, const struct properties *properties, uint64_t flags) {
    (void)flags;
    enter();
    const int device = properties->location_type == ON_HOST ? HOST : properties->device;
    if (device != HOST && !is_device(device)) return INVALID_DEVICE;
    if (size % PAGE || created == MOST) return INVALID_VALUE;
    if (device != HOST && is_full(size)) return OUT_OF_MEMORY;
    char name[16];
    snprintf(name, sizeof name, "device%d", device == HOST ? HOST : first_card() + device);
    int file = memfd_create(name, MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, (off_t)size)) return OUT_OF_MEMORY;
    int number = atomic_fetch_add(&created, 1);
    memories[number] = (struct memory){.file = file, .device = device, .handles = 1, .size = size};
    note_sharing();
    return *handle = (uint64_t)number + 1, SUCCESS;
}

/* What a checkpoint takes along and a restore refuses: memory of the host, or that another device or process looks into. */
static void note_sharing(void) {
    int shared = 0;
    for (int i = 0; i < MOST_DEVICES; i++) shared |= peers[i] != 0;
    for (int i = 0; i < MOST; i++) shared |= ranges[i].mapped && ranges[i].access & ~(1u << ranges[i].device);
    for (int i = 0; i < created; i++)
        shared |= (memories[i].shared || memories[i].device == HOST) && (memories[i].handles || memories[i].mappings);
    if (state != &running) state[1] = shared ? 'P' : ' ';
}

static struct memory *memory_of(uint64_t handle) {
    return handle && handle <= (uint64_t)created && memories[handle - 1].handles ? &memories[handle - 1] : NULL;
}

int cuMemExportToShareableHandle(int *descriptor, uint64_t handle, int type, uint64_t flags) {
    struct memory *memory = memory_of(handle);
    if (type != 1 || flags || !memory) return INVALID_VALUE;
    memory->shared = 1;
    note_sharing();
    return (*descriptor = dup(memory->file)) < 0 ? OUT_OF_MEMORY : SUCCESS;
}

/* The driver asks the kernel which card it is of, by a call that may be looked into; a file in memory knows no such call. */
static int as_the_kernel_says(int file, int number) {
    struct {
        int descriptor;
        unsigned device, instance;
        unsigned short most;
        unsigned char notes[64];
    } exported = {.descriptor = file, .device = (unsigned)number};
    struct {
        unsigned client, object, command, flags;
        void *parameters;
        unsigned size, status;
    } control = {.command = 0x3d08, .parameters = &exported, .size = sizeof exported};
    ioctl(file, 0xc020462a, &control);
    return (int)exported.device;
}

int cuMemImportFromShareableHandle(uint64_t *handle, void *descriptor, int type) {
    struct stat found;
    int file = type == 1 ? dup((int)(intptr_t)descriptor) : -1;
    if (file < 0 || fstat(file, &found) || created == MOST) return INVALID_VALUE;
    char link[32], name[64] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    if (readlink(link, name, sizeof name - 1) <= 0) return INVALID_VALUE;
    int device = atoi(name + strlen("/memfd:device"));
    if (device != HOST) device = as_the_kernel_says(file, device) - card;
    if (device != HOST && !is_device(device)) return close(file), INVALID_DEVICE;
    int number = atomic_fetch_add(&created, 1);
    memories[number] = (struct memory){file, device, 1, 0, 1, (size_t)found.st_size};
    note_sharing();
    return *handle = (uint64_t)number + 1, SUCCESS;
}

int cuMemGetAllocationPropertiesFromHandle(struct properties *found, uint64_t handle) {
    const struct memory *memory = memory_of(handle);
    if (!memory) return INVALID_VALUE;
    *found = (struct properties){.type = 1, .handle_types = 1, .location_type = ON_DEVICE, .device = memory->device};
    if (memory->device == HOST) found->location_type = ON_HOST, found->device = 0;
    return SUCCESS;
}

int cuMemRelease(uint64_t handle) {
    struct memory *memory = memory_of(handle);
    if (!memory) return INVALID_VALUE;
    if (--memory->handles) return SUCCESS;
    memory->size = 0;
    note_sharing();
    return close(memory->file) ? INVALID_VALUE : SUCCESS;
}

int cuMemRetainAllocationHandle(uint64_t *handle, void *at) {
    for (int i = 0; i < MOST; i++) {
        if (!ranges[i].mapped || (uintptr_t)at - ranges[i].at >= ranges[i].size) continue;
        if (!memories[ranges[i].memory].handles) return INVALID_VALUE; /* the real driver could */
        memories[ranges[i].memory].handles++;
        return *handle = (uint64_t)ranges[i].memory + 1, SUCCESS;
    }
    return INVALID_VALUE;
}

static int is_reserved(uint64_t at, size_t size) {
    for (int i = 0; i < MOST; i++)
        if (reservations[i].size && at >= reservations[i].at && at + size <= reservations[i].at + reservations[i].size) return 1;
    return 0;
}

int cuMemMap(uint64_t at, size_t size, size_t offset, uint64_t handle, uint64_t flags) {
    (void)flags;
    enter();
    struct memory *memory = memory_of(handle);
    if (!memory || offset || memory->size != size || !is_reserved(at, size) || overlaps(at, size)) return INVALID_VALUE;
    void *target = (void *)(uintptr_t)at;
    if (mmap(target, size, PROT_NONE, MAP_SHARED | MAP_FIXED, memory->file, 0) != target) return INVALID_VALUE;
    int i = add_range(at, size);
    if (i < 0) return OUT_OF_MEMORY;
    ranges[i].device = memory->device;
    ranges[i].memory = (int)(handle - 1);
    memory->mappings++;
    return ranges[i].mapped = 1, SUCCESS;
}

int cuMemSetAccess(uint64_t at, size_t size, const struct access *access, size_t count) {
    if (next_within(0, at, size) < 0) return INVALID_VALUE;
    for (int i = 0; (i = next_within(i, at, size)) >= 0; i++)
        for (size_t k = 0; k < count; k++) {
            const int by = access[k].location_type == ON_DEVICE ? access[k].device : HOST;
            if (by != HOST && !is_device(by)) return INVALID_DEVICE;
            if (access[k].flags) ranges[i].access |= 1u << by;
            else ranges[i].access &= ~(1u << by);
        }
    note_sharing();
    return mprotect((void *)(uintptr_t)at, size, PROT_READ | PROT_WRITE) ? INVALID_VALUE : SUCCESS;
}

static int is_last_unmap(void) {
    FILE *file = fopen(UNMAPS, "r+");
    int left = 0;
    if (!file) return 0;
    if (fscanf(file, "%d", &left) == 1) rewind(file), fprintf(file, "%d ", left - 1);
    fclose(file);
    return left == 1;
}

int cuMemUnmap(uint64_t at, size_t size) {
    enter();
    if (is_last_unmap()) return INVALID_VALUE;
    if (next_within(0, at, size) < 0) return INVALID_VALUE;
    for (int i = 0; (i = next_within(i, at, size)) >= 0; i++) {
        void *target = (void *)(uintptr_t)ranges[i].at;
        int kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
        if (mmap(target, ranges[i].size, PROT_NONE, kind, -1, 0) != target) return INVALID_VALUE;
        memories[ranges[i].memory].mappings--;
        ranges[i].mapped = 0;
        ranges[i].size = 0;
    }
    return note_sharing(), SUCCESS;
}

int cuMemAlloc_v2(uint64_t *at, size_t size) {
    enter();
    void *made = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int number = made == MAP_FAILED ? -1 : add_range((uint64_t)(uintptr_t)made, size);
    if (number < 0) return OUT_OF_MEMORY;
    *at = ranges[number].at;
    ranges[number].plain = 1;
    ranges[number].device = of_context(current);
    return SUCCESS;
}

int cuMemFree_v2(uint64_t at) {
    enter();
    int i = range_at(at);
    if (i < 0 || !ranges[i].plain) return INVALID_VALUE;
    size_t size = ranges[i].size;
    ranges[i].size = 0;
    return munmap((void *)(uintptr_t)at, size) ? INVALID_VALUE : SUCCESS;
}

int cuMemFreeAsync(uint64_t at, void *stream) { return (void)stream, cuMemFree_v2(at); }
int cuMemFreeAsync_ptsz(uint64_t at, void *stream) { return (void)stream, cuMemFree_v2(at); }

/* As many arguments as a launch has, and more: the tests look whether all of them arrive. */
double cuStandInSum(int a, int b, int c, int d, int e, int f, int g, int h, double x, int i, double y, int k) {
    return a + 2 * b + 4 * c + 8 * d + 16 * e + 32 * f + 64 * g + 128 * h + 256 * i + 512 * k + x + 2 * y;
}

/* Whether an allocation is one that the driver itself made; the tests ask. */
int standInIsPlain(uint64_t at) {
    int i = range_at(at);
    return i >= 0 && ranges[i].plain;
}

/* ----------------------------------------------------------------------------------------------------------- devices */

static int around(uint64_t at) {
    for (int i = 0; i < MOST; i++)
        if (ranges[i].size && at >= ranges[i].at && at < ranges[i].at + ranges[i].size) return i;
    return -1;
}

int cuPointerGetAttribute(void *value, int which, uint64_t at) {
    int i = around(at);
    if (i < 0 || (which != 1 && which != 2)) return INVALID_VALUE;
    if (which == 2) *(int *)value = ranges[i].device == HOST ? 1 : 2;
    else *(void **)value = ranges[i].plain ? &contexts[ranges[i].device] : NULL;
    return SUCCESS;
}

static int change_peer(void *to, int on) {
    int by = of_context(current), of = of_context(to);
    if (!is_device(of) || of == by) return INVALID_DEVICE;
    if (on == (peers[by] >> of & 1)) return on ? ALREADY_ENABLED : NOT_ENABLED;
    peers[by] ^= 1u << of;
    return note_sharing(), SUCCESS;
}

int cuCtxEnablePeerAccess(void *to, unsigned flags) { return flags ? INVALID_VALUE : change_peer(to, 1); }
int cuCtxDisablePeerAccess(void *to) { return change_peer(to, 0); }

/* Whether a copy by a device may touch an address; -1: it is memory of the host. */
static int reaches(int device, uint64_t at) {
    int i = around(at);
    return i < 0 ? -1 : ranges[i].plain || (ranges[i].mapped && ranges[i].access >> device & 1);
}

/* Reads a byte as a kernel of the current context would. */
int cuStandInKernel(unsigned char *value, uint64_t at) {
    int i = around(at), device = of_context(current);
    enter();
    if (i < 0) return ILLEGAL_ADDRESS;
    int may = ranges[i].plain ? ranges[i].device == device || peers[device] >> ranges[i].device & 1 : reaches(device, at);
    return may ? (*value = *(unsigned char *)(uintptr_t)at, SUCCESS) : ILLEGAL_ADDRESS;
}

static int copy(uint64_t to, int into, uint64_t from, int out_of, size_t size) {
    enter();
    if (!reaches(into, to) || !reaches(out_of, from)) return INVALID_VALUE;
    return memcpy((void *)(uintptr_t)to, (void *)(uintptr_t)from, size), SUCCESS;
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, void *on) {
    return copy(to, of_stream(on), (uint64_t)(uintptr_t)from, of_stream(on), size);
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *on) {
    return copy((uint64_t)(uintptr_t)to, of_stream(on), from, of_stream(on), size);
}
int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t size) { return cuMemcpyHtoDAsync_v2(to, from, size, NULL); }
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t size) { return cuMemcpyDtoHAsync_v2(to, from, size, NULL); }
int cuMemsetD8Async(uint64_t to, unsigned char value, size_t size, void *on) {
    enter();
    if (reaches(of_stream(on), to) != 1) return INVALID_VALUE;
    return memset((void *)(uintptr_t)to, value, size), SUCCESS;
}

#define COPY(name) \
    int name(uint64_t to, uint64_t from, size_t size) { \
        return copy(to, of_stream(NULL), from, of_stream(NULL), size); \
    }
#define COPY_ASYNC(name) \
    int name(uint64_t to, uint64_t from, size_t size, void *on) { \
        return copy(to, of_stream(on), from, of_stream(on), size); \
    }
COPY(cuMemcpy)
COPY(cuMemcpy_ptds)
COPY(cuMemcpyDtoD_v2)
COPY(cuMemcpyDtoD_v2_ptds)
COPY_ASYNC(cuMemcpyAsync)
COPY_ASYNC(cuMemcpyAsync_ptsz)
COPY_ASYNC(cuMemcpyDtoDAsync_v2)
COPY_ASYNC(cuMemcpyDtoDAsync_v2_ptsz)

int cuMemcpyPeer(uint64_t to, void *into, uint64_t from, void *out_of, size_t size) {
    return copy(to, of_context(into), from, of_context(out_of), size);
}
int cuMemcpyPeer_ptds(uint64_t to, void *into, uint64_t from, void *out_of, size_t size) {
    return cuMemcpyPeer(to, into, from, out_of, size);
}
int cuMemcpyPeerAsync(uint64_t to, void *into, uint64_t from, void *out_of, size_t size, void *on) {
    return (void)on, cuMemcpyPeer(to, into, from, out_of, size);
}
int cuMemcpyPeerAsync_ptsz(uint64_t to, void *into, uint64_t from, void *out_of, size_t size, void *on) {
    return (void)on, cuMemcpyPeer(to, into, from, out_of, size);
}

/* ----------------------------------------------------------------------------------------------------------- kernels */

/* The one kernel that our own code has (agent/gpu/ahead/kernel.py): sums of units, two of each, added to what is there. */
static void add_unit_sums(uint32_t number, const uint32_t *units, const uint32_t *key, uint64_t *sums) {
    enum { WORDS = 1 << 19 };
    const uint32_t *words = units + (size_t)number * WORDS;
    for (uint32_t i = 0; i < WORDS; i += 2)
        for (uint32_t shift = 0; shift < 2; shift++) {
            const uint32_t one = words[i] + key[i + 4 * shift], other = words[i + 1] + key[i + 1 + 4 * shift];
            sums[2 * number + shift] += (uint64_t)one * other;
        }
}

int cuModuleLoadData(void **module, const char *code) {
    return *module = (void *)1, strstr(code, ".entry unit_sums(") ? SUCCESS : INVALID_VALUE;
}
int cuModuleGetFunction(void **kernel, void *module, const char *name) {
    return *kernel = module, strcmp(name, "unit_sums") ? NOT_FOUND : SUCCESS;
}
int cuLaunchKernel(void *kernel, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned b, unsigned c, unsigned shared,
                   void *on, void **arguments, void **extra) {
    uint64_t at[3];
    enter();
    if (!kernel || x * threads != 4096 || z != 1 || b != 1 || c != 1 || shared || extra) return INVALID_VALUE;
    for (int i = 0; i < 3; i++) {
        at[i] = *(uint64_t *)arguments[i];
        if (reaches(of_stream(on), at[i]) != 1) return ILLEGAL_ADDRESS;
    }
    for (unsigned number = 0; number < y; number++)
        add_unit_sums(number, (void *)(uintptr_t)at[0], (void *)(uintptr_t)at[1], (void *)(uintptr_t)at[2]);
    return SUCCESS;
}

/* ------------------------------------------------------------------------------------------------------------- doors */

int cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status) {
    static const struct {
        const char *name;
        void *function, *per_thread;
    } known[] = {
        {"cuMemAlloc", cuMemAlloc_v2, cuMemAlloc_v2},
        {"cuMemFree", cuMemFree_v2, cuMemFree_v2},
        {"cuMemFreeAsync", cuMemFreeAsync, cuMemFreeAsync_ptsz},
        {"cuMemcpyDtoD", cuMemcpyDtoD_v2, cuMemcpyDtoD_v2_ptds},
        {"cuMemcpyDtoDAsync", cuMemcpyDtoDAsync_v2, cuMemcpyDtoDAsync_v2_ptsz},
        {"cuMemcpy", cuMemcpy, cuMemcpy_ptds},
        {"cuMemcpyAsync", cuMemcpyAsync, cuMemcpyAsync_ptsz},
        {"cuGetProcAddress", cuGetProcAddress_v2, cuGetProcAddress_v2},
    };
    (void)version;
    *function = NULL;
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(symbol, known[i].name) == 0) *function = flags & PER_THREAD ? known[i].per_thread : known[i].function;
    if (status) *status = *function ? 0 : 1;
    return *function ? SUCCESS : NOT_FOUND;
}

int cuGetProcAddress(const char *symbol, void **function, int version, uint64_t flags) {
    return cuGetProcAddress_v2(symbol, function, version, flags, NULL);
}
