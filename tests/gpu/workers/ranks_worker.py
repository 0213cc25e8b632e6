"""Two ranks of torch.distributed over NCCL, one on each card, behind HTTP: each GET is an all-reduce of both.

``python ranks_worker.py [rejoin] [own]``: rank 0, which serves and starts the other. NCCL's own environment variables
say how the two talk: NCCL_P2P_DISABLE=1 for host memory, nothing for peer-to-peer memory. ``rejoin``: both leave the
process group for the snapshot, and make it again. ``own``: CUDA_VISIBLE_DEVICES shows each rank its own card alone.
"""

import os
import subprocess
import sys
import tempfile

WORDS = {"rejoin", "own"}


def main(rank: int, store: str, flags: set[str]) -> None:
    """Serve as rank 0; as rank 1 make a step for each line of standard input."""
    rejoin = "rejoin" in flags
    if "own" in flags:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(rank)
    if rank == 0:
        store = f"{tempfile.mkdtemp()}/store"
        argv = [sys.executable, __file__, "1", store, *flags]
        other = subprocess.Popen(argv, stdin=subprocess.PIPE, text=True)
    step = join(rank, store)

    def quiesce() -> None:
        import snapshot_sdk.torch  # noqa: PLC0415 - only in a container

        snapshot_sdk.torch.quiesce(join=lambda: enter(rank, f"{store}-again"))

    if rank == 1:
        if rejoin:
            quiesce()
        for _ in sys.stdin:
            step()
        return

    def both() -> float:
        other.stdin.write("step\n")
        other.stdin.flush()
        return step()

    from serving import serve  # noqa: PLC0415 - only rank 0 serves

    serve(both, *([quiesce] if rejoin else []))


def join(rank: int, store: str):
    """Join the process group; return the function that makes one step."""
    import torch  # noqa: PLC0415 - takes seconds
    import torch.distributed as dist  # noqa: PLC0415

    torch.cuda.set_device(rank % torch.cuda.device_count())
    enter(rank, store)
    state = torch.full((1 << 20,), float(rank + 1), device="cuda")
    dist.all_reduce(state)
    torch.cuda.synchronize()

    def step() -> float:
        state.mul_(0.5).add_(rank)
        dist.all_reduce(state)
        torch.cuda.synchronize()
        return state.double().sum().item()

    return step


def enter(rank: int, store: str) -> None:
    """Make the process group, through a file that none has used."""
    import torch.distributed as dist  # noqa: PLC0415 - takes seconds

    dist.init_process_group("nccl", init_method=f"file://{store}", rank=rank, world_size=2)


if __name__ == "__main__":
    os.environ.setdefault("USER", "worker")
    words = [word for word in sys.argv[1:] if word not in WORDS]
    main(int(words[0]) if words else 0, words[1] if words else "", WORDS & set(sys.argv))
