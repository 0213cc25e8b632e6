"""Two ranks of torch.distributed over NCCL, one on each card, behind HTTP: each GET is an all-reduce of both.

``python ranks_worker.py``: rank 0, which serves and starts the other. NCCL's own environment variables say how the two
talk: NCCL_P2P_DISABLE=1 for host memory, nothing for peer-to-peer memory.
"""

import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading


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
    serve(step, other)


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


def serve(step, other: subprocess.Popen) -> None:
    """Serve on port 8000, and say when both are ready."""
    sys.path.insert(0, "/tools")
    import snapshot_sdk  # noqa: PLC0415 - only in a container

    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with lock:
                other.stdin.write("step\n")
                other.stdin.flush()
                body = json.dumps(step()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write("warm\n")
    sys.stdout.flush()
    snapshot_sdk.quiesce()
    threading.Event().wait()


if __name__ == "__main__":
    os.environ.setdefault("USER", "worker")
    main(*((int(sys.argv[1]), sys.argv[2]) if len(sys.argv) > 1 else (0, "")))
