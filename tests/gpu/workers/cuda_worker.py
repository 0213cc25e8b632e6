"""A CUDA process that does one thing for each line that it reads, and answers with one JSON line.

``python cuda_worker.py KIND MIB``: ``torch`` holds MIB of device memory, ``init`` has only called cuInit, ``nvml`` only
nvmlInit, ``plain`` neither.
"""

import ctypes
import json
import sys


def main(kind: str, mebibytes: int) -> None:
    """Serve until standard input ends."""
    step = {"torch": _torch, "init": _init, "nvml": _nvml, "plain": lambda _: lambda _: None}[kind](mebibytes)
    _say({"ready": True})
    for line in sys.stdin:
        _say({"value": step(line.strip())})


def _say(answer: object) -> None:
    sys.stdout.write(f"{json.dumps(answer)}\n")
    sys.stdout.flush()


def _torch(mebibytes: int):
    import torch  # noqa: PLC0415 - only this kind needs it

    torch.manual_seed(7)
    data = torch.randn(mebibytes << 18, device="cuda")
    weights = torch.randn(1024, 1024, device="cuda")
    graph, state = torch.cuda.CUDAGraph(), torch.ones(1024, 1024, device="cuda")
    (weights @ state).sum().item()  # the library's own memory, before the graph is captured
    with torch.cuda.graph(graph):
        state.copy_(torch.tanh(weights @ state))

    def step(what: str):
        if what == "busy":
            torch.cuda._sleep(6_000_000_000)
            return None
        graph.replay()
        torch.cuda.synchronize()
        return [state.double().sum().item(), data.view(torch.int32).sum(dtype=torch.int64).item()]

    return step


def _init(_: int):
    cuda = ctypes.CDLL("libcuda.so.1")
    return lambda _: cuda.cuInit(0)


def _nvml(_: int):
    nvml = ctypes.CDLL("libnvidia-ml.so.1")
    nvml.nvmlInit_v2()
    count = ctypes.c_uint()
    return lambda _: (nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)), count.value)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
