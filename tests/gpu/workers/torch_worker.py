"""A PyTorch worker behind HTTP: a model's step by a CUDA graph, its memory, and what the driver must bring back.

``python torch_worker.py MIB [FLAG...]``: MIB of device memory besides. Flags: ``pinned`` (page-locked host memory),
``child`` (a second CUDA process), ``idle`` (a child that is no CUDA process), ``two`` (as much again on a second card),
``peer`` (4 MiB there, that kernels and copies reach through peer access in each step), ``busy`` (a kernel that runs for
seconds when the worker says that it is ready), ``cache`` (as much memory again, all zeros), ``kv`` (as much again that
snapshots need not keep, written by a graph of its own), ``kv=MIB`` (so much of that, of which answers say what the
graph wrote alone), ``launching`` (a thread that launches kernels all the time), ``forked`` (a child by
fork, once the GPU is in use).
Each GET is one step; the answer holds what depends on all steps before it. ``snapshot_sdk`` says when it is ready.
"""

import json
import os
import signal
import subprocess
import sys
import threading

PART = 1 << 28
"""Numbers of a gibibyte."""


def main(mebibytes: int, flags: frozenset[str]) -> None:
    """Serve on port 8000, or for lines of standard input if there is no container around it."""
    step = build(mebibytes, flags)
    if "lines" in flags:
        for _ in sys.stdin:
            sys.stdout.write(json.dumps(step()) + "\n")
            sys.stdout.flush()
        return
    from serving import serve  # noqa: PLC0415 - only in a container

    serve(step)


def build(mebibytes: int, flags: frozenset[str]):
    """Return the function that makes one step."""
    import torch  # noqa: PLC0415 - takes seconds

    torch.manual_seed(7)
    data = torch.randn(mebibytes << 18, device="cuda")
    weights = torch.randn(1024, 1024, device="cuda")
    state = torch.ones(1024, 1024, device="cuda")
    (weights @ state).sum().item()  # the library's own memory, before the graph is captured
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        state.copy_(torch.tanh(weights @ state))
    second = "two" in flags or "peer" in flags
    pinned = torch.arange(1 << 20, pin_memory=True) if "pinned" in flags else None
    other = torch.randn(mebibytes << 18 if "two" in flags else 1 << 20, device="cuda:1") if second else None
    cache = torch.zeros(mebibytes << 18, device="cuda") if "cache" in flags else None
    kv = discardable(mebibytes << 18) if "kv" in flags else None
    if cached := next((int(flag.removeprefix("kv=")) for flag in flags if flag.startswith("kv=")), 0):
        kv = discardable(cached << 18, looks=False)
    launches = launching() if "launching" in flags else None
    children = [child(flag) for flag in ("child", "idle") if flag in flags]
    peer = reaching(data, other) if "peer" in flags else None
    if "forked" in flags and os.fork() == 0:
        signal.pause()
    if "busy" in flags:
        torch.cuda._sleep(60_000_000_000)
    for process in children:
        ask(process)  # the first answer takes as long as its start
    fused = torch.compile(lambda x: torch.tanh(x).sum(dim=1) * 2 + 1) if "compiled" in flags else None
    if fused is not None:
        fused(state)  # compiled now: the worker that is captured is warm

    def step():
        graph.replay()
        torch.cuda.synchronize()
        more = [] if fused is None else [fused(state).double().sum().item()]
        seen = [state.double().sum().item(), total(data)]
        seen += [] if pinned is None else [pinned.to("cuda", non_blocking=True).sum().item(), pinned.is_pinned()]
        seen += [] if cache is None else [cache.sum().item(), cache.numel()]
        seen += [] if kv is None else [kv()]
        seen += [] if launches is None else [launches()]
        seen += [] if peer is None else [peer()]
        seen += [] if other is None else [total(other)]
        return [*seen, *more, *(ask(process) for process in children)]

    return step


def total(data) -> int:
    """Return a sum of bit patterns, part by part: at once it would take twice the memory, which stays with PyTorch."""
    import torch  # noqa: PLC0415 - takes seconds

    return sum(part.view(torch.int32).sum(dtype=torch.int64).item() for part in data.split(PART))


def count(data) -> int:
    """Return how many numbers are not zero, part by part too."""
    return sum(int(part.count_nonzero().item()) for part in data.split(PART))


def discardable(numbers: int, *, looks: bool = True):
    """Return what says what is in a cache that snapshots need not keep, and in tensors that were made beside it.

    The answer: its address; how many of its numbers are not zero, and how many after a graph has written the first 1024
    of it; the sums of tensors that are to be kept: one made within, one made after.
    """
    import torch  # noqa: PLC0415 - takes seconds

    import snapshot_sdk.torch  # noqa: PLC0415 - only in a container

    with snapshot_sdk.torch.kv_cache():
        cache = torch.full((numbers,), 3.0, device="cuda")
        with snapshot_sdk.torch.weights():
            within = torch.full((1 << 22,), 1.0, device="cuda")
    after = torch.full((1024,), 1.0, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        cache[:1024].fill_(2.0)

    def step():
        found = [cache.data_ptr(), count(cache)] if looks else []
        graph.replay()
        return [*found, count(cache if looks else cache[:1024]), within.sum().item(), after.sum().item()]

    return step


def reaching(data, other):
    """Return what a step does from card to card: copies both ways, and a kernel that reads the other card's memory."""
    part = data[: other.numel()]

    def step():
        other.copy_(part)
        other[::2].copy_(part[1::2])  # strided: no copy of the driver's, a kernel
        part.copy_(other)
        return part.double().sum().item()

    step()
    return step


def launching():
    """Start a thread that adds one to a number on the card all the time; return what says if it ever went wrong."""
    import torch  # noqa: PLC0415 - takes seconds

    number, expected, failures = torch.zeros(1, dtype=torch.int64, device="cuda"), [0], []
    lock = threading.Lock()

    def run():
        try:
            with torch.cuda.stream(torch.cuda.Stream()):
                while True:
                    with lock:
                        number.add_(1)
                        expected[0] += 1
                    torch.cuda.current_stream().synchronize()
        except RuntimeError as error:
            failures.append(str(error))

    threading.Thread(target=run, daemon=True).start()

    def tell():
        with lock:
            torch.cuda.synchronize()
            return [number.item() == expected[0], failures]

    return tell


def child(kind: str) -> subprocess.Popen[str]:
    """Start another process of the tree: a CUDA process of its own, or one that only answers."""
    argv = [sys.executable, __file__, "64", "lines"] if kind == "child" else ["cat"]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(process: subprocess.Popen[str]) -> str:
    """Return one answer of a child."""
    process.stdin.write("1\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


if __name__ == "__main__":
    os.environ.setdefault("USER", "worker")  # torch asks for a name, and the container's user may have none
    main(int(sys.argv[1]), frozenset(sys.argv[2:]))
