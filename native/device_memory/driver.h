/* The part of the CUDA driver's interface that we use, as cuda.h has it; looked up by name, since nothing links to it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef int result; /* CUresult */
typedef uint64_t address; /* CUdeviceptr */
typedef uint64_t handle;  /* CUmemGenericAllocationHandle */
typedef void *context;
typedef void *stream;
typedef void *event;

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, INVALID_CONTEXT = 201,
       PEERS_NOT_ENABLED = 705, CONTEXT_DESTROYED = 709, NO_PEER_ACCESS = 217, CAPTURE_UNSUPPORTED = 900 };

/* CU_MEM_LOCATION_TYPE_DEVICE, CU_MEM_ALLOCATION_TYPE_PINNED, CU_MEM_ACCESS_FLAGS_PROT_READWRITE and so on. */
enum { LOCATION_DEVICE = 1, LOCATION_HOST = 2, LOCATION_HOST_NUMA = 3, LOCATION_HOST_NUMA_CURRENT = 4 };
enum { ALLOCATION_PINNED = 1, ACCESS_NONE = 0, ACCESS_READ_WRITE = 3, GRANULARITY_RECOMMENDED = 1 };
enum { ATTRIBUTE_VIRTUAL_MEMORY = 102, ATTRIBUTE_EXPORTS_DESCRIPTORS = 103, ATTRIBUTE_RDMA_WITH_VIRTUAL_MEMORY = 110 };
enum { POINTER_CONTEXT = 1, POINTER_MEMORY_TYPE = 2, POINTER_DEVICE = 9, ON_DEVICE = 2 };
enum { STREAM_NON_BLOCKING = 1, EVENT_DISABLE_TIMING = 2, HANDLE_IS_DESCRIPTOR = 1, HANDLE_IS_FABRIC = 8 };
enum { NOT_RECORDING = 0 }; /* CU_STREAM_CAPTURE_STATUS_NONE */

struct location {
    int type, id;
};
struct properties {
    int type, handle_types;
    struct location location;
    void *unused;
    struct {
        unsigned char compression, rdma;
        unsigned short usage;
        unsigned char reserved[4];
    } flags;
};
struct access {
    struct location location;
    int flags;
};

/* CUipcMemHandle */
struct shared {
    unsigned char bytes[64];
};

/* Return type of each is `result`. Those of the first two lists are wrapped, those of the last two must be there. */
#define WRAPPED_FUNCTIONS(F) \
    F(cuMemAlloc_v2, (address *, size_t)) \
    F(cuMemFree_v2, (address)) \
    F(cuMemFreeAsync, (address, stream)) \
    F(cuMemFreeAsync_ptsz, (address, stream)) \
    F(cuIpcGetMemHandle, (struct shared *, address)) \
    F(cuIpcOpenMemHandle_v2, (address *, struct shared, unsigned)) \
    F(cuIpcCloseMemHandle, (address)) \
    F(cuMemRetainAllocationHandle, (handle *, void *)) \
    F(cuMulticastBindMem, (handle, size_t, handle, size_t, size_t, uint64_t)) \
    F(cuMulticastBindAddr, (handle, size_t, address, size_t, uint64_t)) \
    F(cuMemcpy, (address, address, size_t)) \
    F(cuMemcpy_ptds, (address, address, size_t)) \
    F(cuMemcpyAsync, (address, address, size_t, stream)) \
    F(cuMemcpyAsync_ptsz, (address, address, size_t, stream)) \
    F(cuMemcpyDtoD_v2, (address, address, size_t)) \
    F(cuMemcpyDtoD_v2_ptds, (address, address, size_t)) \
    F(cuMemcpyDtoDAsync_v2, (address, address, size_t, stream)) \
    F(cuMemcpyDtoDAsync_v2_ptsz, (address, address, size_t, stream)) \
    F(cuCtxEnablePeerAccess, (context, unsigned)) \
    F(cuCtxDisablePeerAccess, (context)) \
    F(cuStreamBeginCapture_v2, (stream, int)) \
    F(cuStreamBeginCapture_v2_ptsz, (stream, int)) \
    F(cuStreamEndCapture, (stream, void *)) \
    F(cuStreamEndCapture_ptsz, (stream, void *)) \
    F(cuCtxDestroy_v2, (context)) \
    F(cuDevicePrimaryCtxReset_v2, (int)) \
    F(cuGetProcAddress, (const char *, void **, int, uint64_t)) \
    F(cuGetProcAddress_v2, (const char *, void **, int, uint64_t, int *))

#define WRAPPED_AND_USED_FUNCTIONS(F) \
    F(cuStreamDestroy_v2, (stream)) \
    F(cuMemCreate, (handle *, size_t, const struct properties *, uint64_t)) \
    F(cuMemRelease, (handle)) \
    F(cuMemExportToShareableHandle, (void *, handle, int, uint64_t)) \
    F(cuMemImportFromShareableHandle, (handle *, void *, int)) \
    F(cuMemGetAllocationPropertiesFromHandle, (struct properties *, handle)) \
    F(cuMemMap, (address, size_t, size_t, handle, uint64_t)) \
    F(cuMemUnmap, (address, size_t)) \
    F(cuMemSetAccess, (address, size_t, const struct access *, size_t))

#define USED_FUNCTIONS(F) \
    F(cuCtxGetCurrent, (context *)) \
    F(cuCtxSetCurrent, (context)) \
    F(cuCtxGetDevice, (int *)) \
    F(cuCtxSynchronize, (void)) \
    F(cuDeviceGetCount, (int *)) \
    F(cuDevicePrimaryCtxGetState, (int, unsigned *, int *)) \
    F(cuDevicePrimaryCtxRetain, (context *, int)) \
    F(cuDevicePrimaryCtxRelease_v2, (int)) \
    F(cuDeviceGetAttribute, (int *, int, int)) \
    F(cuDeviceGetUuid_v2, (unsigned char *, int)) \
    F(cuMemGetAllocationGranularity, (size_t *, const struct properties *, int)) \
    F(cuMemAddressReserve, (address *, size_t, size_t, address, uint64_t)) \
    F(cuMemAddressFree, (address, size_t)) \
    F(cuMemHostRegister_v2, (void *, size_t, unsigned)) \
    F(cuMemHostUnregister, (void *)) \
    F(cuStreamCreate, (stream *, unsigned)) \
    F(cuStreamIsCapturing, (stream, int *)) \
    F(cuStreamSynchronize, (stream)) \
    F(cuEventCreate, (event *, unsigned)) \
    F(cuEventDestroy_v2, (event)) \
    F(cuEventRecord, (event, stream)) \
    F(cuEventSynchronize, (event)) \
    F(cuMemcpyHtoDAsync_v2, (address, const void *, size_t, stream)) \
    F(cuMemcpyDtoHAsync_v2, (void *, address, size_t, stream)) \
    F(cuMemcpyPeer, (address, context, address, context, size_t)) \
    F(cuMemcpyPeer_ptds, (address, context, address, context, size_t)) \
    F(cuMemcpyPeerAsync, (address, context, address, context, size_t, stream)) \
    F(cuMemcpyPeerAsync_ptsz, (address, context, address, context, size_t, stream)) \
    F(cuPointerGetAttribute, (void *, int, address)) \
    F(cuMemsetD8Async, (address, unsigned char, size_t, stream))

struct driver {
#define POINTER(name, arguments) result(*name) arguments;
    WRAPPED_FUNCTIONS(POINTER) WRAPPED_AND_USED_FUNCTIONS(POINTER) USED_FUNCTIONS(POINTER)
#undef POINTER
};

/* The real driver, NULL if this process has not loaded it, or it is too old. */
const struct driver *driver(void);
