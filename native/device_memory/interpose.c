/* Comes between the worker and the CUDA driver where it allocates device memory.
 *
 * Every way to a function of the driver leads through one of three doors: the names that we export (programs linked to
 * libcuda), dlsym (cudart, PyTorch, Python's ctypes) and cuGetProcAddress (cudart, for everything else). What leads to
 * any other function of the driver by the last two goes through the gate alone; what a program links to, and functions of
 * the driver's own tables (cuGetExportTable), are not kept out. A process that never loads the driver is not touched.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "device_memory.h"

#ifndef __x86_64__
#error "dlsym's own jump is written for x86_64"
#endif

enum { LEGACY_ADDRESSES_END = 3020 }; /* CUDA 3.2 is the first whose addresses have 64 bits */

HIDDEN void *(*real_dlsym)(void *, const char *);
static void *driver_library;

static void find_dlsym(void) {
    static const char *const versions[] = {"GLIBC_2.34", "GLIBC_2.2.5"};
    for (unsigned i = 0; !real_dlsym && i < sizeof versions / sizeof *versions; i++)
        real_dlsym = dlvsym(RTLD_NEXT, "dlsym", versions[i]);
}

const struct driver *driver(void) {
    static struct driver found;
    static _Atomic(int) state; /* 0: not looked for, 1: found */
    if (atomic_load_explicit(&state, memory_order_acquire)) return &found;
    void *library = driver_library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    find_dlsym();
    if (!library || !real_dlsym) return NULL;
    struct driver all;
    int missing = 0;
#define FIND(name, arguments) \
    all.name = real_dlsym(library, #name); \
    missing |= !all.name;
    USED_FUNCTIONS(FIND)
    WRAPPED_AND_USED_FUNCTIONS(FIND)
    if (missing) return NULL;
    WRAPPED_FUNCTIONS(FIND)
#undef FIND
    found = all; /* by every thread that comes here meanwhile: the same */
    atomic_store_explicit(&state, 1, memory_order_release);
    return &found;
}

#define REAL(name) (driver() && driver()->name ? driver()->name : NULL)

/* ------------------------------------------------------------------------------------------------ what we do instead */

result allocate_any(address *at, size_t size, int discardable) {
    const result done = size >= UNIT ? allocate(at, size, discardable) : OUT_OF_MEMORY;
    if (!done) return SUCCESS;
    return REAL(cuMemAlloc_v2) ? driver()->cuMemAlloc_v2(at, size) : NOT_INITIALIZED;
}

result free_any(address at) {
    const result done = release_at(at);
    if (done >= 0) return done;
    return REAL(cuMemFree_v2) ? driver()->cuMemFree_v2(at) : NOT_INITIALIZED;
}

EXPORTED result cuMemAlloc_v2(address *at, size_t size) {
    enter_driver();
    result done = allocate_any(at, size, 0);
    leave_driver();
    return done;
}

EXPORTED result cuMemFree_v2(address at) {
    enter_driver();
    result done = free_any(at);
    leave_driver();
    return done;
}

static result free_after(stream after, address at, result (*real)(address, stream)) {
    enter_driver();
    int ours = is_ours(at);
    result done = ours ? driver()->cuStreamSynchronize(after) : real ? real(at, after) : NOT_INITIALIZED;
    if (ours && !done) done = release_at(at);
    leave_driver();
    return done;
}

EXPORTED result cuMemFreeAsync(address at, stream after) { return free_after(after, at, REAL(cuMemFreeAsync)); }

EXPORTED result cuMemFreeAsync_ptsz(address at, stream after) {
    return free_after(after, at, REAL(cuMemFreeAsync_ptsz));
}

EXPORTED result cuIpcGetMemHandle(struct shared *shared, address at) {
    result done = name_for_others(shared, at);
    if (done < 0) done = REAL(cuIpcGetMemHandle) ? driver()->cuIpcGetMemHandle(shared, at) : NOT_INITIALIZED;
    return done;
}

EXPORTED result cuIpcOpenMemHandle_v2(address *at, struct shared shared, unsigned flags) {
    result done = open_of_others(at, &shared);
    if (done < 0) done = REAL(cuIpcOpenMemHandle_v2) ? driver()->cuIpcOpenMemHandle_v2(at, shared, flags) : NOT_INITIALIZED;
    return done;
}

EXPORTED result cuIpcCloseMemHandle(address at) {
    enter_driver();
    result done = close_of_others(at);
    if (done < 0) done = REAL(cuIpcCloseMemHandle) ? driver()->cuIpcCloseMemHandle(at) : NOT_INITIALIZED;
    leave_driver();
    return done;
}

EXPORTED result cuCtxEnablePeerAccess(context to, unsigned flags) {
    result done = REAL(cuCtxEnablePeerAccess) ? SUCCESS : NOT_INITIALIZED;
    enter_driver();
    if (!done) done = driver()->cuCtxEnablePeerAccess(to, flags);
    if (!done && (done = look_into(to))) driver()->cuCtxDisablePeerAccess(to);
    leave_driver();
    return done;
}

EXPORTED result cuCtxDisablePeerAccess(context to) {
    result done = REAL(cuCtxDisablePeerAccess) ? SUCCESS : NOT_INITIALIZED;
    enter_driver();
    if (!done) done = driver()->cuCtxDisablePeerAccess(to);
    if (!done) look_away(to);
    leave_driver();
    return done;
}

/* ------------------------------------------------------------------------------------- what the worker maps by itself */

#define PASSED(name, parameters, act) \
    EXPORTED result name parameters { \
        if (!driver()) return NOT_INITIALIZED; \
        enter_driver(); \
        result done = act; \
        leave_driver(); \
        return done; \
    }

static result create(handle *made, size_t size, const struct properties *wanted, uint64_t flags) {
    result done = driver()->cuMemCreate(made, size, wanted, flags);
    if (!done) adopt_created(made, size, wanted, flags);
    return done;
}

static result import(handle *made, void *shared, int type) {
    result done = driver()->cuMemImportFromShareableHandle(made, shared, type);
    if (!done) adopt_imported(made, type);
    return done;
}

static result retain(handle *found, void *at) {
    if (retain_at((address)(uintptr_t)at, found) == 0) return SUCCESS;
    return REAL(cuMemRetainAllocationHandle) ? driver()->cuMemRetainAllocationHandle(found, at) : NOT_INITIALIZED;
}

static result bind(handle multicast, size_t at, handle memory, size_t offset, size_t size, uint64_t flags) {
    if (!REAL(cuMulticastBindMem)) return NOT_INITIALIZED;
    fix_handle(memory);
    return driver()->cuMulticastBindMem(multicast, at, real_handle(memory), offset, size, flags);
}

static result bind_at(handle multicast, size_t at, address memory, size_t size, uint64_t flags) {
    if (!REAL(cuMulticastBindAddr)) return NOT_INITIALIZED;
    fix_range(memory, size);
    return driver()->cuMulticastBindAddr(multicast, at, memory, size, flags);
}

PASSED(cuMemCreate, (handle *made, size_t size, const struct properties *wanted, uint64_t flags),
       create(made, size, wanted, flags))
PASSED(cuMemRelease, (handle given), release_handle(given))
PASSED(cuMemRetainAllocationHandle, (handle *found, void *at), retain(found, at))
PASSED(cuMemExportToShareableHandle, (void *shared, handle given, int type, uint64_t flags),
       export_handle(shared, given, type, flags))
PASSED(cuMemImportFromShareableHandle, (handle *made, void *shared, int type), import(made, shared, type))
PASSED(cuMemGetAllocationPropertiesFromHandle, (struct properties *found, handle given),
       driver()->cuMemGetAllocationPropertiesFromHandle(found, real_handle(given)))
PASSED(cuMemMap, (address at, size_t size, size_t offset, handle given, uint64_t flags),
       map_handle(at, size, offset, given, flags))
PASSED(cuMemUnmap, (address at, size_t size), unmap_range(at, size))
PASSED(cuMemSetAccess, (address at, size_t size, const struct access *list, size_t count),
       set_access_to_range(at, size, list, count))
PASSED(cuMulticastBindMem, (handle multicast, size_t at, handle memory, size_t offset, size_t size, uint64_t flags),
       bind(multicast, at, memory, offset, size, flags))
PASSED(cuMulticastBindAddr, (handle multicast, size_t at, address memory, size_t size, uint64_t flags),
       bind_at(multicast, at, memory, size, flags))

/* -------------------------------------------------------------------------------------------------------------- graphs */

static result begin_recording(stream on, int mode, result (*real)(stream, int)) {
    result done = real ? real(on, mode) : NOT_INITIALIZED;
    if (!done) note_recording(on);
    return done;
}

/* One that failed meanwhile is ended too. */
static result end_recording(stream on, void *graph, result (*real)(stream, void *)) {
    forget_recording(on);
    return real ? real(on, graph) : NOT_INITIALIZED;
}

static result destroy(stream ended) {
    forget_recording(ended);
    return driver()->cuStreamDestroy_v2(ended);
}

PASSED(cuStreamBeginCapture_v2, (stream on, int mode), begin_recording(on, mode, driver()->cuStreamBeginCapture_v2))
PASSED(cuStreamBeginCapture_v2_ptsz, (stream on, int mode),
       begin_recording(on, mode, driver()->cuStreamBeginCapture_v2_ptsz))
PASSED(cuStreamEndCapture, (stream on, void *graph), end_recording(on, graph, driver()->cuStreamEndCapture))
PASSED(cuStreamEndCapture_ptsz, (stream on, void *graph), end_recording(on, graph, driver()->cuStreamEndCapture_ptsz))
PASSED(cuStreamDestroy_v2, (stream ended), destroy(ended))

/* -------------------------------------------------------------------------------------------------------------- copies */

/* From one device's memory to another's: where the two have no peer access, the driver does that for memory of its own
 * by each of its copies, and for memory that is mapped by those alone that name both contexts. They are as good where it
 * has. */
static int is_across(address to, address from, context *into, context *out_of) {
    static int count; /* the same, whichever thread asks first */
    enter_driver();
    if (!driver() || (!count && driver()->cuDeviceGetCount(&count))) count = 0;
    int across = count > 1 && (is_ours(to) || is_ours(from));
    if (across) *into = context_at(to), *out_of = context_at(from);
    leave_driver();
    return across && *into && *out_of && *into != *out_of;
}

#define COPY(name, by_peers) \
    EXPORTED result name(address to, address from, size_t size) { \
        context into, out_of; \
        if (is_across(to, from, &into, &out_of)) return driver()->by_peers(to, into, from, out_of, size); \
        return REAL(name) ? driver()->name(to, from, size) : NOT_INITIALIZED; \
    }
#define COPY_ASYNC(name, by_peers) \
    EXPORTED result name(address to, address from, size_t size, stream on) { \
        context into, out_of; \
        if (is_across(to, from, &into, &out_of)) return driver()->by_peers(to, into, from, out_of, size, on); \
        return REAL(name) ? driver()->name(to, from, size, on) : NOT_INITIALIZED; \
    }

COPY(cuMemcpy, cuMemcpyPeer)
COPY(cuMemcpy_ptds, cuMemcpyPeer_ptds)
COPY(cuMemcpyDtoD_v2, cuMemcpyPeer)
COPY(cuMemcpyDtoD_v2_ptds, cuMemcpyPeer_ptds)
COPY_ASYNC(cuMemcpyAsync, cuMemcpyPeerAsync)
COPY_ASYNC(cuMemcpyAsync_ptsz, cuMemcpyPeerAsync_ptsz)
COPY_ASYNC(cuMemcpyDtoDAsync_v2, cuMemcpyPeerAsync)
COPY_ASYNC(cuMemcpyDtoDAsync_v2_ptsz, cuMemcpyPeerAsync_ptsz)

EXPORTED result cuCtxDestroy_v2(context ended) {
    enter_driver();
    forget_context(ended);
    result done = REAL(cuCtxDestroy_v2) ? driver()->cuCtxDestroy_v2(ended) : NOT_INITIALIZED;
    leave_driver();
    return done;
}

EXPORTED result cuDevicePrimaryCtxReset_v2(int device) {
    enter_driver();
    context primary = driver() ? primary_of(device) : NULL;
    if (primary) forget_context(primary);
    result done = REAL(cuDevicePrimaryCtxReset_v2) ? driver()->cuDevicePrimaryCtxReset_v2(device) : NOT_INITIALIZED;
    leave_driver();
    return done;
}

/* ------------------------------------------------------------------------------------------------------- three doors */

EXPORTED result cuGetProcAddress(const char *symbol, void **function, int version, uint64_t flags);
EXPORTED result cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status);

static void *wrapper_of(const char *symbol) {
#define WRAPPER(name, arguments) \
    if (strcmp(symbol, #name) == 0) return name;
    WRAPPED_FUNCTIONS(WRAPPER) WRAPPED_AND_USED_FUNCTIONS(WRAPPER)
#undef WRAPPER
    return NULL;
}

/* The driver is asked by a name without version; `real` is what it answered. */
static void *instead_of(const char *name, void *real, int version) {
    enum { FIRST_WITH_STATUS = 12000 };
    if (strcmp(name, "cuGetProcAddress") == 0)
        return version >= FIRST_WITH_STATUS ? (void *)cuGetProcAddress_v2 : (void *)cuGetProcAddress;
    if (version < LEGACY_ADDRESSES_END) return door_to(real);
#define SAME(wrapped, arguments) \
    if (driver() && driver()->wrapped && real == (void *)driver()->wrapped) return wrapped;
    WRAPPED_FUNCTIONS(SAME) WRAPPED_AND_USED_FUNCTIONS(SAME)
#undef SAME
    if (strncmp(name, "cuMemcpy", 8) == 0) return door_to(real); /* which of several it is, the name does not say */
    static const char *const suffixes[] = {"", "_v2"};
    for (unsigned i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        char symbol[64];
        snprintf(symbol, sizeof symbol, "%s%s", name, suffixes[i]);
        void *wrapper = wrapper_of(symbol);
        if (wrapper) return wrapper;
    }
    return door_to(real);
}

EXPORTED result cuGetProcAddress(const char *symbol, void **function, int version, uint64_t flags) {
    if (!REAL(cuGetProcAddress)) return NOT_INITIALIZED;
    result found = driver()->cuGetProcAddress(symbol, function, version, flags);
    if (found == SUCCESS && function && *function) *function = instead_of(symbol, *function, version);
    return found;
}

EXPORTED result cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status) {
    if (!REAL(cuGetProcAddress_v2)) return NOT_INITIALIZED;
    result found = driver()->cuGetProcAddress_v2(symbol, function, version, flags, status);
    if (found == SUCCESS && function && *function) *function = instead_of(symbol, *function, version);
    return found;
}

/* What dlsym returns in place of the driver's own; NULL: nothing, it is to look itself. */
__attribute__((used)) HIDDEN void *interposed(void *library, const char *symbol) {
    find_dlsym();
    if (!symbol || symbol[0] != 'c' || symbol[1] != 'u') return NULL;
    if (symbol[2] < 'A' || symbol[2] > 'Z' || !driver()) return NULL; /* cudaMalloc, cublasCreate and their like */
    void *found = real_dlsym(library, symbol);
    if (!found) return NULL;
    void *wrapper = wrapper_of(symbol);
    if (wrapper) return wrapper;
    return found == real_dlsym(driver_library, symbol) ? door_to(found) : NULL;
}

/* dlsym itself is left by a jump: RTLD_NEXT means "behind the caller", which it finds by its return address. */
__asm__(".text\n"
        ".globl dlsym\n"
        ".type dlsym, @function\n"
        "dlsym:\n"
        "    endbr64\n"
        "    push %rdi\n"
        "    push %rsi\n"
        "    sub $8, %rsp\n"
        "    call interposed\n"
        "    add $8, %rsp\n"
        "    pop %rsi\n"
        "    pop %rdi\n"
        "    test %rax, %rax\n"
        "    jz 1f\n"
        "    ret\n"
        "1:  jmp *real_dlsym(%rip)\n"
        ".size dlsym, . - dlsym\n");

__attribute__((constructor)) static void begin(void) {
    find_dlsym();
    if (real_dlsym) find_ioctl();
    detach_from_file();
}
