"""A CUDA process without PyTorch that holds one kind of the driver's state, behind HTTP; ``kinds_worker.py KIND``.

Each GET is one step: everything that the kind holds is one more than before. The answer is a list of numbers, each of
which must be the number of the step. The process counts steps in its own memory.
"""

import ctypes
import mmap
import site
import sys
from collections.abc import Callable, Iterator
from ctypes import byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from pathlib import Path

from serving import serve

NUMBERS = 1 << 20
"""Of four bytes, in each buffer."""
SIZE = NUMBERS * 4
SIDE = 1024
SOURCE = rb"""
extern "C" {
__device__ int counter;
__constant__ int one;
__device__ int *kept;
__global__ void add(int *numbers, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) numbers[i] += 1;
}
__global__ void bump(int *seen) { counter += one; seen[0] = counter; }
__global__ void grow(int *seen) {
    if (!kept) {
        kept = (int *)malloc(1 << 20);
        for (int i = 0; i < 1 << 18; i++) kept[i] = 0;
    }
    for (int i = 0; i < 1 << 18; i++) kept[i] += 1;
    seen[0] = kept[(1 << 18) - 1];
}
__global__ void draw(cudaSurfaceObject_t surface, int side, int *seen) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y;
    if (x >= side || y >= side) return;
    int value;
    surf2Dread(&value, surface, x * 4, y);
    surf2Dwrite(value + 1, surface, x * 4, y);
    if (x == side - 1 && y == side - 1) seen[0] = value + 1;
}
__global__ void look(cudaTextureObject_t texture, int side, int *seen) {
    seen[0] = tex2D<int>(texture, side - 1, side - 1);
}
}
"""

driver = ctypes.CDLL("libcuda.so.1")


class DriverError(Exception):
    """A call that the driver refused."""


def cu(name: str, *arguments: object) -> None:
    """Call the driver.

    Raises:
        DriverError: it did not do it.
    """
    code = getattr(driver, name)(*arguments)
    if code:
        text = c_char_p()
        driver.cuGetErrorName(code, byref(text))
        raise DriverError(f"{name}: {(text.value or b'?').decode()}")


class Numbers:
    """A buffer, all of whose numbers are what was added to it; ``seen`` returns the one number that they all are."""

    def __init__(self, device: int, host: ctypes.Array | None = None) -> None:
        self.device = c_ulonglong(device)
        self.host = host

    def add(self, stream: c_void_p | None = None) -> None:
        launch("add", self.device, c_int(NUMBERS), blocks=NUMBERS // 256, stream=stream)

    def seen(self) -> int:
        if self.host is None:
            numbers = (c_int * NUMBERS)()
            cu("cuMemcpyDtoH_v2", numbers, self.device, c_size_t(SIZE))
        else:
            cu("cuCtxSynchronize")
            numbers = self.host
        (number,) = set(memoryview(numbers).cast("B").cast("i"))
        return number


def compiled() -> bytes:
    """Compile the kernels by NVRTC, which PyTorch brings."""
    folders = [Path(folder) for folder in site.getsitepackages()]
    library = next(path for folder in folders for path in sorted(folder.glob("nvidia/**/libnvrtc.so.*")))
    nvrtc = ctypes.CDLL(str(library))
    program, size = c_void_p(), c_size_t()
    nvrtc.nvrtcCreateProgram(byref(program), SOURCE, b"kinds.cu", 0, None, None)
    failed = nvrtc.nvrtcCompileProgram(program, 1, (c_char_p * 1)(b"-arch=sm_90"))
    if failed:
        nvrtc.nvrtcGetProgramLogSize(program, byref(size))
        log = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, log)
        raise DriverError(log.value.decode())
    nvrtc.nvrtcGetCUBINSize(program, byref(size))
    code = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetCUBIN(program, code)
    return code.raw


functions: dict[str, c_void_p] = {}
code = b""


def load() -> c_void_p:
    """Load the kernels into the current context."""
    global code  # noqa: PLW0603 - compiled once for all contexts
    code = code or compiled()
    module = c_void_p()
    cu("cuModuleLoadData", byref(module), code)
    for name in ("add", "bump", "grow", "draw", "look"):
        functions[name] = c_void_p()
        cu("cuModuleGetFunction", byref(functions[name]), module, name.encode())
    one, size = c_ulonglong(), c_size_t()
    cu("cuModuleGetGlobal_v2", byref(one), byref(size), module, b"one")
    cu("cuMemcpyHtoD_v2", one, byref(c_int(1)), c_size_t(4))
    return module


def launch(name: str, *arguments: object, blocks: int = 1, rows: int = 1, stream: c_void_p | None = None) -> None:
    """Launch a kernel."""
    pointers = (c_void_p * len(arguments))(*(ctypes.cast(byref(each), c_void_p) for each in arguments))
    threads = 256 if blocks > 1 else 1
    cu("cuLaunchKernel", functions[name], blocks, rows, 1, threads, 1, 1, 0, stream, pointers, None)


def allocated() -> Numbers:
    """Return plain device memory, all zeros."""
    at = c_ulonglong()
    cu("cuMemAlloc_v2", byref(at), c_size_t(SIZE))
    cu("cuMemsetD32_v2", at, 0, c_size_t(NUMBERS))
    return Numbers(at.value)


def stream_of() -> c_void_p:
    """Return a new stream."""
    stream = c_void_p()
    cu("cuStreamCreate", byref(stream), 1)
    return stream


def plain() -> Iterator[list[int]]:
    """Device memory, and variables and constants of a module."""
    numbers, seen = allocated(), allocated()
    while True:
        numbers.add()
        launch("bump", seen.device)
        yield [numbers.seen(), first_of(seen)]


def first_of(numbers: Numbers) -> int:
    found = c_int()
    cu("cuMemcpyDtoH_v2", byref(found), numbers.device, c_size_t(4))
    return found.value


def managed() -> Iterator[list[int]]:
    """Managed memory: one buffer that the card touched last, and one that the CPU did."""
    on_card, on_host = (_managed() for _ in range(2))
    while True:
        for numbers in (on_card, on_host):
            numbers.add()
        cu("cuCtxSynchronize")
        yield [on_card.host[0], on_host.seen()]


def _managed() -> Numbers:
    at = c_ulonglong()
    cu("cuMemAllocManaged", byref(at), c_size_t(SIZE), 1)
    ctypes.memset(at.value, 0, SIZE)
    return Numbers(at.value, (c_int * NUMBERS).from_address(at.value))


def registered() -> Iterator[list[int]]:
    """Memory of the process that it has registered, and registers anew in each step after the fourth."""
    memory = mmap.mmap(-1, SIZE)
    host = (c_int * NUMBERS).from_buffer(memory)
    at = c_ulonglong()
    cu("cuMemHostRegister_v2", host, c_size_t(SIZE), 2)
    step = 0
    while True:
        step += 1
        if step > 4:
            cu("cuMemHostUnregister", host)
            cu("cuMemHostRegister_v2", host, c_size_t(SIZE), 2)
        cu("cuMemHostGetDevicePointer_v2", byref(at), host, 0)
        numbers = Numbers(at.value, host)
        numbers.add()
        yield [numbers.seen()]


def mapped() -> Iterator[list[int]]:
    """Page-locked memory of the driver that the card reaches."""
    at, device = c_void_p(), c_ulonglong()
    cu("cuMemHostAlloc", byref(at), c_size_t(SIZE), 2)
    ctypes.memset(at.value, 0, SIZE)
    cu("cuMemHostGetDevicePointer_v2", byref(device), at, 0)
    numbers = Numbers(device.value, (c_int * NUMBERS).from_address(at.value))
    while True:
        numbers.add()
        yield [numbers.seen()]


def pool() -> Iterator[list[int]]:
    """Memory of a stream-ordered pool; each step allocates and frees some besides."""
    stream, at, other = stream_of(), c_ulonglong(), c_ulonglong()
    cu("cuMemAllocAsync", byref(at), c_size_t(SIZE), stream)
    cu("cuMemsetD32Async", at, 0, c_size_t(NUMBERS), stream)
    numbers = Numbers(at.value)
    while True:
        cu("cuMemAllocAsync", byref(other), c_size_t(SIZE), stream)
        numbers.add(stream)
        cu("cuMemFreeAsync", other, stream)
        cu("cuStreamSynchronize", stream)
        yield [numbers.seen()]


class ArrayDescriptor(ctypes.Structure):
    """CUDA_ARRAY3D_DESCRIPTOR."""

    _fields_ = [
        ("width", c_size_t),
        ("height", c_size_t),
        ("depth", c_size_t),
        ("format", c_uint),
        ("channels", c_uint),
        ("flags", c_uint),
    ]


def array() -> Iterator[list[int]]:
    """A CUDA array, written through a surface and read through a texture."""
    described = ArrayDescriptor(SIDE, SIDE, 0, 10, 1, 2)  # SIGNED_INT32, CUDA_ARRAY3D_SURFACE_LDST
    made, surface, texture = c_void_p(), c_ulonglong(), c_ulonglong()
    cu("cuArray3DCreate_v2", byref(made), byref(described))
    resource = (ctypes.c_ubyte * 144)()
    c_void_p.from_buffer(resource, 8).value = made.value  # CUDA_RESOURCE_DESC of a CU_RESOURCE_TYPE_ARRAY
    cu("cuSurfObjectCreate", byref(surface), resource)
    sampled = (ctypes.c_ubyte * 104)()
    c_uint.from_buffer(sampled, 16).value = 1  # CUDA_TEXTURE_DESC: CU_TRSF_READ_AS_INTEGER
    cu("cuTexObjectCreate", byref(texture), resource, sampled, None)
    drawn, looked = allocated(), allocated()
    while True:
        launch("draw", surface, c_int(SIDE), drawn.device, blocks=SIDE // 256, rows=SIDE)
        launch("look", texture, c_int(SIDE), looked.device)
        yield [first_of(drawn), first_of(looked)]


def heap() -> Iterator[list[int]]:
    """Memory that a kernel has allocated."""
    seen = allocated()
    while True:
        launch("grow", seen.device)
        yield [first_of(seen)]


def contexts() -> Iterator[list[int]]:
    """Memory in a second context."""
    first, second = c_void_p(), c_void_p()
    cu("cuCtxGetCurrent", byref(first))
    ours = allocated()
    kernels = dict(functions)
    cu("cuCtxCreate_v2", byref(second), 0, 0)
    load()
    theirs, others = allocated(), dict(functions)
    while True:
        seen = []
        for context, of, numbers in ((first, kernels, ours), (second, others, theirs)):
            cu("cuCtxSetCurrent", context)
            functions.update(of)
            numbers.add()
            seen.append(numbers.seen())
        yield seen


def graph() -> Iterator[list[int]]:
    """A graph that allocates, uses and frees memory of its own, and adds to a buffer."""
    stream, captured, made, at = stream_of(), c_void_p(), c_void_p(), c_ulonglong()
    numbers, seen = allocated(), allocated()
    cu("cuStreamBeginCapture_v2", stream, 2)
    cu("cuMemAllocAsync", byref(at), c_size_t(SIZE), stream)
    cu("cuMemsetD32Async", at, 7, c_size_t(NUMBERS), stream)
    numbers.add(stream)
    cu("cuMemcpyDtoDAsync_v2", seen.device, numbers.device, c_size_t(4), stream)
    cu("cuMemFreeAsync", at, stream)
    cu("cuStreamEndCapture", stream, byref(captured))
    cu("cuGraphInstantiateWithFlags", byref(made), captured, c_ulonglong(0))
    while True:
        cu("cuGraphLaunch", made, stream)
        cu("cuStreamSynchronize", stream)
        yield [numbers.seen(), first_of(seen)]


def capturing() -> Iterator[list[int]]:
    """A stream whose capture into a graph is not over yet; it is in the sixth step."""
    stream, captured, made = stream_of(), c_void_p(), c_void_p()
    numbers, other = allocated(), allocated()
    cu("cuStreamBeginCapture_v2", stream, 2)
    numbers.add(stream)
    step = 0
    while True:
        step += 1
        other.add()
        if step == 6:
            cu("cuStreamEndCapture", stream, byref(captured))
            cu("cuGraphInstantiateWithFlags", byref(made), captured, c_ulonglong(0))
            for _ in range(6):
                cu("cuGraphLaunch", made, stream)
            cu("cuStreamSynchronize", stream)
            assert numbers.seen() == step
        yield [other.seen()]


def events() -> Iterator[list[int]]:
    """Events of before that still say their time, streams of two priorities, and a value that a stream waits for."""
    first, last, after = c_void_p(), c_void_p(), c_void_p()
    low, high = stream_of(), c_void_p()
    cu("cuStreamCreateWithPriority", byref(high), 1, -1)
    for each in (first, last, after):
        cu("cuEventCreate", byref(each), 1)
    numbers, flag = allocated(), allocated()
    cu("cuEventRecord", first, low)
    numbers.add(low)
    cu("cuEventRecord", last, low)
    step, elapsed = 0, set()
    while True:
        step += 1
        if step > 1:
            cu("cuEventRecord", after, high)
            cu("cuStreamWaitEvent", low, after, 0)
            numbers.add(low)
        cu("cuStreamWaitValue32_v2", low, flag.device, step, 0)
        cu("cuStreamWriteValue32_v2", high, flag.device, step, 0)
        cu("cuStreamSynchronize", low)
        milliseconds = c_float()
        cu("cuEventElapsedTime", byref(milliseconds), first, last)
        elapsed.add(milliseconds.value)
        yield [numbers.seen(), step * len(elapsed)]


def host_function() -> Iterator[list[int]]:
    """A function of the host that a stream calls."""
    called = []
    kind = ctypes.CFUNCTYPE(None, c_void_p)
    function = kind(lambda _: called.append(1))
    stream = stream_of()
    while True:
        cu("cuLaunchHostFunc", stream, function, None)
        cu("cuStreamSynchronize", stream)
        yield [len(called)]


class Properties(ctypes.Structure):
    """CUmemAllocationProp; a location is two of its numbers."""

    _fields_ = [
        ("type", c_int),
        ("handles", c_int),
        ("location", c_int),
        ("id", c_int),
        ("meta", c_void_p),
        ("flags", c_ulonglong),
    ]


class Access(ctypes.Structure):
    """CUmemAccessDesc."""

    _fields_ = [("location", c_int), ("id", c_int), ("flags", c_int)]


def host_pieces() -> Iterator[list[int]]:
    """Memory of the host that was made and mapped by the driver's calls for virtual memory."""
    properties = Properties(1, 0, 3, 0, None, 0)  # PINNED, HOST_NUMA
    size, handle, at = c_size_t(2 * SIZE), c_ulonglong(), c_ulonglong()
    cu("cuMemCreate", byref(handle), size, byref(properties), c_ulonglong(0))
    cu("cuMemAddressReserve", byref(at), size, c_size_t(0), c_ulonglong(0), c_ulonglong(0))
    cu("cuMemMap", at, size, c_size_t(0), handle, c_ulonglong(0))
    cu("cuMemSetAccess", at, size, (Access * 2)(Access(1, 0, 3), Access(3, 0, 3)), c_size_t(2))
    ctypes.memset(at.value, 0, size.value)
    numbers = Numbers(at.value, (c_int * NUMBERS).from_address(at.value))
    while True:
        numbers.add()
        yield [numbers.seen()]


def released() -> Iterator[list[int]]:
    """No context is left, and each step makes one."""
    step = 0
    cu("cuDevicePrimaryCtxReset_v2", 0)
    while True:
        step += 1
        context = c_void_p()
        cu("cuDevicePrimaryCtxRetain", byref(context), 0)
        cu("cuCtxSetCurrent", context)
        load()
        numbers = allocated()
        for _ in range(step):
            numbers.add()
        yield [numbers.seen()]
        cu("cuDevicePrimaryCtxRelease_v2", 0)


KINDS: dict[str, Callable[[], Iterator[list[int]]]] = {
    "plain": plain,
    "managed": managed,
    "registered": registered,
    "mapped": mapped,
    "pool": pool,
    "array": array,
    "heap": heap,
    "contexts": contexts,
    "graph": graph,
    "capturing": capturing,
    "events": events,
    "host-function": host_function,
    "host-pieces": host_pieces,
    "released": released,
}


def main(kind: str) -> None:
    """Serve."""
    cu("cuInit", 0)
    context = c_void_p()
    cu("cuDevicePrimaryCtxRetain", byref(context), 0)
    cu("cuCtxSetCurrent", context)
    load()
    steps = KINDS[kind]()
    done = 0

    def answer() -> list[int]:
        nonlocal done
        if kind != "released":
            cu("cuCtxSetCurrent", context)  # requests come on threads of their own
        done += 1
        return [done, *next(steps)]

    answer()
    serve(answer)


if __name__ == "__main__":
    main(sys.argv[1])
