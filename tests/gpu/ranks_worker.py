"""Two ranks of torch.distributed over NCCL, one on each card, behind HTTP: each GET is an all-reduce of both.

``python ranks_worker.py``: rank 0, which serves and starts the other. NCCL's own environment variables say how the two
talk: NCCL_P2P_DISABLE=1 for host memory, nothing for peer-to-peer memory.
"""

import os
import subprocess
import sys
import tempfile


def main(rank: int, store: str) -> None:
    """Serve as rank 0; as rank 1 make a step for each line of standard input."""
    if rank == 0:
        store = f"{tempfile.mkdtemp()}/store"
        other = subprocess.Popen([sys.executable, __file__, "1", store], stdin=subprocess.PIPE, text=True)
    step = join(rank, store)
    if rank == 1:
        for _ in sys.stdin:
            step()
        return

    def both() -> float:
        other.stdin.write("step\n")
        other.stdin.flush()
        return step()

    from serving import serve  # noqa: PLC0415 - only rank 0 serves

    serve(both)


def join(rank: int, store: str):
    """Join the process group; return the function that makes one step."""
    import torch  # noqa: PLC0415 - takes seconds
    import torch.distributed as dist  # noqa: PLC0415

    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", init_method=f"file://{store}", rank=rank, world_size=2)
    state = torch.full((1 << 20,), float(rank + 1), device="cuda")
    dist.all_reduce(state)
    torch.cuda.synchronize()

    def step() -> float:
        state.mul_(0.5).add_(rank)
        dist.all_reduce(state)
        torch.cuda.synchronize()
        return state.double().sum().item()

    return step


if __name__ == "__main__":
    os.environ.setdefault("USER", "worker")
    main(*((int(sys.argv[1]), sys.argv[2]) if len(sys.argv) > 1 else (0, "")))
