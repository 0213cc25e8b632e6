"""Two PyTorch processes with symmetric memory, on a card each or on one, behind HTTP: each GET changes and reads both.

``python symmetric_worker.py``: rank 0, which serves and starts the other. They share by descriptors, as NCCL does.
"""

import json
import os
import subprocess
import sys
import tempfile

NUMBERS = 1 << 22
"""Of 4 bytes, in each buffer."""


def main(rank: int, store: str) -> None:
    """Serve as rank 0; as rank 1 make a step for each line of standard input."""
    if rank == 0:
        store = f"{tempfile.mkdtemp()}/store"
        argv, pipe = [sys.executable, __file__, "1", store], subprocess.PIPE
        other = subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True)
    step = join(rank, store)
    if rank == 1:
        for _ in sys.stdin:
            sys.stdout.write(json.dumps(step()) + "\n")
            sys.stdout.flush()
        return

    def both() -> list[object]:
        mine = step()
        other.stdin.write("step\n")
        other.stdin.flush()
        return [mine, json.loads(other.stdout.readline())]

    from serving import serve  # noqa: PLC0415 - only rank 0 serves

    both()
    serve(both)


def join(rank: int, store: str):
    """Share a buffer with the other rank; return what makes one step."""
    import torch  # noqa: PLC0415 - takes seconds
    import torch.distributed as dist  # noqa: PLC0415
    import torch.distributed._symmetric_memory as symmetric  # noqa: PLC0415

    torch.cuda.set_device(rank % torch.cuda.device_count())
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    own = symmetric.empty(NUMBERS, dtype=torch.float32, device=torch.device("cuda", torch.cuda.current_device()))
    shared = symmetric.rendezvous(own, dist.group.WORLD.group_name)
    theirs = shared.get_buffer(1 - rank, own.shape, own.dtype)
    own.copy_(torch.arange(NUMBERS, device="cuda") % 1000 + rank)
    torch.cuda.synchronize()
    dist.barrier()

    def step() -> list[float]:
        """Add the other's numbers to the own ones, and mark one of the other's."""
        own.mul_(0.5).add_(theirs)
        theirs[rank].add_(1)
        torch.cuda.synchronize()
        return [own.double().sum().item(), theirs.double().sum().item()]

    return step


if __name__ == "__main__":
    os.environ.setdefault("USER", "worker")
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0, sys.argv[2] if len(sys.argv) > 2 else "")
