"""A model's weights onto a GPU: by the process that a restore reads them with, beside loaders of safetensors files.

    python -m benchmarks.gpu.weights --layers 32 --rounds 4 --cold

On a machine with a card and PyTorch, as root for ``--cold``; a loader that is not installed is left out, and said.
All load the same files, made here: the tensors of a Llama of 8 B parameters, random bits, four shards. Each arm is a
process of its own; the clock runs from the call until all tensors are on the card, in memory of that process. Every
tensor of every load is summed there, and all sums must be equal.

The first load of an arm includes what it sets up; its page cache is warm. Ours has its resident process running, as on
a node, and registers the page cache after the first load.
"""

import ctypes
import gc
import hashlib
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from agent.gpu.ahead.prefetch import BUFFERS, Prefetch, plan_parts
from agent.gpu.ahead.resident import ResidentPrefetcher
from agent.gpu.driver import LIBRARY
from benchmarks.support.report import Report, finish, parser

if TYPE_CHECKING:
    from torch import Tensor

HEADER = ("loader", "first load GB/s", "later loads GB/s, median", "fastest", "slowest")
SHARDS = 4
HIDDEN, INNER, KEYS, VOCABULARY = 4096, 14336, 1024, 128256
OURS, COLD, MAKE = "ours", "cold", "make"
LOADERS = {
    OURS: "agent",
    "safetensors": "safetensors",
    "fastsafetensors": "fastsafetensors",
    "runai-model-streamer": "runai_model_streamer",
    "instanttensor": "instanttensor",
}
"""Name -> module that must be there."""
REGISTER_SECONDS = 30.0
ARM_SECONDS = 90.0
"""One that takes longer is left out."""
COLD_SECONDS = 300.0
"""From storage, which may be slow."""
LOOKS = 300
"""For parts: a restore waits a second for the first, and then reads by itself; here nothing else reads."""
BLOCK = 4 << 20
READERS = 16
"""Of each loader that takes a number, as of ours."""


def main() -> None:
    """Make the files, run the arms in turn, report."""
    if len(sys.argv) > 2 and sys.argv[1] == "--arm":
        print(json.dumps(_loads(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))))
        return
    made = parser("loads of one model's weights onto a GPU, by ours and by others")
    made.add_argument("--layers", type=int, default=32, choices=range(1, 129), metavar="1..128", help="of the model")
    made.add_argument("--rounds", type=int, default=4, choices=range(2, 21), metavar="2..20", help="loads of each arm")
    made.add_argument("--cold", action="store_true", help="ours from storage too, with nothing of it in page cache")
    made.add_argument("--folder", type=Path, help="where the files are made; default: a temporary one")
    arguments = made.parse_args()
    options = f"--layers {arguments.layers} --rounds {arguments.rounds}{' --cold' if arguments.cold else ''}"
    report = Report("weights", f"python -m benchmarks.gpu.weights {options}", HEADER)
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        _call("--arm", MAKE, folder, arguments.layers)
        print(f"made {len(_shards(folder))} files", file=sys.stderr, flush=True)
        _measure(report, folder, arguments.rounds, cold=arguments.cold)
    finally:
        shutil.rmtree(folder)
    finish(report, arguments)


def _measure(report: Report, folder: Path, rounds: int, *, cold: bool) -> None:
    size = sum(path.stat().st_size for path in _shards(folder))
    report.data["bytes"] = size
    later: dict[str, float] = {}
    sums = set()
    for name, module in LOADERS.items():
        if importlib.util.find_spec(module) is None:
            report.conclusions.append(f"{name} is not installed")
            continue
        try:
            found = _call("--arm", name, folder, rounds)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            report.conclusions.append(f"{name} did not load: {error}")
            continue
        sums.add(found["sums"])
        speeds = [size / seconds / 1e9 for seconds in found["seconds"]]
        report.data[name] = [round(speed, 2) for speed in speeds]
        print(f"{name}: {report.data[name]} GB/s", file=sys.stderr, flush=True)
        later[name] = statistics.median(speeds[1:])
        report.rows.append((name, speeds[0], later[name], max(speeds[1:]), min(speeds[1:])))
    if len(sums) != 1:
        sys.exit("the loaders do not agree about the tensors")
    best = max((name for name in later if name != OURS), key=later.__getitem__)
    report.conclusions.append(f"{later[OURS] / later[best]:.1f} times as fast as the best of the others, {best}")
    report.conclusions.append("every tensor of every load is the same")
    if cold:
        _measure_cold(report, folder, size)


def _measure_cold(report: Report, folder: Path, size: int) -> None:
    _drop_page_cache()
    begun = time.monotonic()
    _read_directly(_shards(folder))
    disk = size / (time.monotonic() - begun) / 1e9
    found = _call("--arm", COLD, folder, 1, seconds=COLD_SECONDS)
    cold = size / found["seconds"][0] / 1e9
    report.data["cold"] = {"disk, read past the page cache": round(disk, 2), OURS: round(cold, 2)}
    report.conclusions.append(f"from storage {cold:.2f} GB/s, {cold / disk:.2f} of what it gives by itself")


def _call(*arguments: object, seconds: float = ARM_SECONDS) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.gpu.weights", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=seconds)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _drop_page_cache() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def _read_directly(files: Sequence[Path]) -> None:
    """Read files past the page cache, by as many threads as ours reads with."""

    def read(path: Path, first: int) -> None:
        buffer = memoryview(bytearray(BLOCK + 4096))
        start = -ctypes.addressof(ctypes.c_char.from_buffer(buffer)) % 4096
        opened = os.open(path, os.O_RDONLY | os.O_DIRECT)
        for at in range(first * BLOCK, os.fstat(opened).st_size, BLOCK * READERS // SHARDS):
            os.preadv(opened, [buffer[start : start + BLOCK]], at)
        os.close(opened)

    with ThreadPoolExecutor(READERS) as threads:
        done = [threads.submit(read, path, first) for path in files for first in range(READERS // SHARDS)]
    for each in done:
        each.result()


# ------------------------------------------------------------------------------------------------- within a process


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _make(folder: Path, layers: int) -> None:
    """Write the model, with all of it in page cache."""
    import torch  # noqa: PLC0415 - the processes of the arms alone have it
    from safetensors.torch import save_file  # noqa: PLC0415

    torch.manual_seed(7)
    shapes = {f"layers.{n}.{name}": shape for n in range(layers) for name, shape in LAYER.items()}
    shapes |= {"embed": (VOCABULARY, HIDDEN), "head": (VOCABULARY, HIDDEN)}
    names = list(shapes)
    for shard in range(SHARDS):
        tensors = {
            name: torch.randint(-(1 << 15), 1 << 15, shapes[name], dtype=torch.int16, device="cuda")
            .view(torch.bfloat16)
            .cpu()
            for name in names[shard * len(names) // SHARDS : (shard + 1) * len(names) // SHARDS]
        }
        save_file(tensors, folder / f"model-{shard + 1}-of-{SHARDS}.safetensors")


LAYER = {
    "q": (HIDDEN, HIDDEN),
    "k": (KEYS, HIDDEN),
    "v": (KEYS, HIDDEN),
    "o": (HIDDEN, HIDDEN),
    "gate": (INNER, HIDDEN),
    "up": (INNER, HIDDEN),
    "down": (HIDDEN, INNER),
    "norm": (HIDDEN,),
    "second_norm": (HIDDEN,),
}


def _loads(arm: str, folder: Path, rounds: int) -> dict[str, Any]:
    """Load several times; return the seconds of each, and a hash of the tensors' sums."""
    import torch  # noqa: PLC0415 - as above

    torch.zeros(1 << 20, device="cuda").sum().item()  # the context, and the first kernel
    if arm == MAKE:
        _make(folder, rounds)
        return {}
    files = _shards(folder)
    if arm in ARMS:
        return _timed(ARMS[arm], files, rounds)
    if arm == COLD:
        _drop_page_cache()
    with _Ours() as ours:
        return _timed(ours.load, files, rounds, ours.await_registered)


def _timed(
    load: "Callable[[Sequence[Path]], dict[str, Tensor]]",
    files: Sequence[Path],
    rounds: int,
    after_first: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    import torch  # noqa: PLC0415 - as above

    seconds, sums = [], set()
    for number in range(rounds):
        if number == 1:
            after_first()
        torch.cuda.synchronize()
        begun = time.monotonic()
        tensors = load(files)
        torch.cuda.synchronize()
        seconds.append(time.monotonic() - begun)
        print(f"{seconds[-1]:.2f} s", file=sys.stderr, flush=True)
        sums.add(_sums(tensors))
        del tensors
        gc.collect()
    (equal,) = sums
    return {"seconds": seconds, "sums": equal}


def _sums(tensors: "dict[str, Tensor]") -> str:
    import torch  # noqa: PLC0415 - as above

    numbers = {name: tensor.view(torch.int16).sum(dtype=torch.int64).item() for name, tensor in tensors.items()}
    return hashlib.sha256(json.dumps(sorted(numbers.items())).encode()).hexdigest()


def _safetensors(files: Sequence[Path]) -> "dict[str, Tensor]":
    from safetensors.torch import load_file  # noqa: PLC0415 - may be missing, as the others

    return {name: tensor for path in files for name, tensor in load_file(path, device="cuda:0").items()}


def _fastsafetensors(files: Sequence[Path]) -> "dict[str, Tensor]":
    from fastsafetensors import SafeTensorsFileLoader  # noqa: PLC0415

    loader = SafeTensorsFileLoader(None, "cuda:0", nogds=True, max_threads=READERS, disable_cache=False)
    loader.add_filenames({0: [str(path) for path in files]})
    buffers = loader.copy_files_to_device()
    return {name: buffers.get_tensor(name) for name in buffers.key_to_rank_lidx}


def _runai(files: Sequence[Path]) -> "dict[str, Tensor]":
    from runai_model_streamer import SafetensorsStreamer  # noqa: PLC0415

    os.environ["RUNAI_STREAMER_CONCURRENCY"] = str(READERS)
    with SafetensorsStreamer() as streamer:
        streamer.stream_files([str(path) for path in files], device="cuda:0")
        return dict(streamer.get_tensors())


def _instanttensor(files: Sequence[Path]) -> "dict[str, Tensor]":
    from instanttensor import safe_open  # noqa: PLC0415

    with safe_open([str(path) for path in files], framework="pt", device=0) as opened:
        return dict(opened.tensors())


ARMS: "dict[str, Callable[[Sequence[Path]], dict[str, Tensor]]]" = {
    "safetensors": _safetensors,
    "fastsafetensors": _fastsafetensors,
    "runai-model-streamer": _runai,
    "instanttensor": _instanttensor,
}


class _Ours:
    """The agent's process, and the half of the preload library that takes what it fills."""

    def __enter__(self) -> Self:
        self._prefetcher = ResidentPrefetcher(budget=1 << 40)
        self._prefetcher.prepare()
        return self

    def __exit__(self, *_: object) -> None:
        self._prefetcher.close()

    def await_registered(self) -> None:
        """Wait until the page cache is registered."""
        end = time.monotonic() + REGISTER_SECONDS
        while not self._prefetcher.registered:
            if time.monotonic() > end:
                sys.exit("the page cache was not registered: less than an eighth of the memory would be left")
            time.sleep(0.01)

    def load(self, files: Sequence[Path]) -> "dict[str, Tensor]":
        """Have all files read into memory of this process; return its tensors."""
        import torch  # noqa: PLC0415 - as above

        opened = [os.open(path, os.O_RDONLY) for path in files]
        sizes = [os.fstat(file).st_size for file in opened]
        places = [torch.empty(size, dtype=torch.uint8, device="cuda") for size in sizes]
        uuid = str(torch.cuda.get_device_properties(0).uuid).replace("-", "")
        parts = plan_parts(sizes)
        order = self._prefetcher.start(uuid, opened, parts, 8 << 30, keeps=True)
        buffers = [_Buffer(max(part.size for part in parts)) for _ in range(BUFFERS)]
        try:
            left = sum(sizes)
            for _ in range(LOOKS):
                left -= sum(_copied(order, buffers, places))
                if not left:
                    break
            else:
                sys.exit(f"{left} bytes did not come")
        finally:
            order.close()
            for buffer in buffers:
                buffer.close()
        return {
            name: tensor
            for file, place in zip(opened, places, strict=True)
            for name, tensor in _tensors_of(file, place)
        }


def _copied(order: Prefetch, buffers: "Sequence[_Buffer]", places: "Sequence[Tensor]") -> Iterator[int]:
    """Copy what comes to where it belongs, and yield the bytes of each part."""
    for filled in order.filled([buffer.descriptor for buffer in buffers], COLD_SECONDS):
        part = filled.part
        buffers[filled.buffer].copy_to(places[part.file].data_ptr() + part.offset, part.size)
        order.done(filled, copied=True)
        yield part.size


def _tensors_of(file: int, place: "Tensor") -> "Iterator[tuple[str, Tensor]]":
    import torch  # noqa: PLC0415 - as above

    size = int.from_bytes(os.pread(file, 8, 0), "little")
    header = json.loads(os.pread(file, size, 8))
    os.close(file)
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = (8 + size + offset for offset in entry["data_offsets"])
            yield name, place[start:end].view(torch.bfloat16).view(entry["shape"])


class _Location(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("id", ctypes.c_int), ("flags", ctypes.c_int))


class _Properties(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("handle_types", ctypes.c_int),
        ("location", ctypes.c_int * 2),
        ("win32", ctypes.c_void_p),
        ("flags", ctypes.c_ubyte * 8),
    )


class _Buffer:
    """Memory that the agent's process may write to."""

    def __init__(self, size: int) -> None:
        self._cuda = ctypes.CDLL(LIBRARY)
        self._size = ctypes.c_size_t(size)
        self._memory, self._at = ctypes.c_uint64(), ctypes.c_uint64()
        none, descriptor = ctypes.c_uint64(0), ctypes.c_int(-1)
        properties = _Properties(1, 1, (1, 0))  # pinned, to be had by a descriptor, on the first device
        self._call("cuMemCreate", ctypes.byref(self._memory), self._size, ctypes.byref(properties), none)
        self._call("cuMemExportToShareableHandle", ctypes.byref(descriptor), self._memory, 1, none)
        self.descriptor = descriptor.value
        self._call("cuMemAddressReserve", ctypes.byref(self._at), self._size, ctypes.c_size_t(0), none, none)
        self._call("cuMemMap", self._at, self._size, ctypes.c_size_t(0), self._memory, none)
        access = _Location(1, 0, 3)  # CU_MEM_LOCATION_TYPE_DEVICE, for reading and writing
        self._call("cuMemSetAccess", self._at, self._size, ctypes.byref(access), ctypes.c_size_t(1))

    def copy_to(self, at: int, size: int) -> None:
        """Copy from its begin, and wait until that is done."""
        self._call("cuMemcpyDtoDAsync_v2", ctypes.c_uint64(at), self._at, ctypes.c_size_t(size), None)
        self._call("cuStreamSynchronize", None)

    def close(self) -> None:
        """Give it back."""
        os.close(self.descriptor)
        self._call("cuMemUnmap", self._at, self._size)
        self._call("cuMemRelease", self._memory)
        self._call("cuMemAddressFree", self._at, self._size)

    def _call(self, name: str, *arguments: object) -> None:
        if result := getattr(self._cuda, name)(*arguments):
            sys.exit(f"{name}: CUDA error {result}")


if __name__ == "__main__":
    main()
