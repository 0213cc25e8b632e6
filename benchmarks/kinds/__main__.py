"""Ten kinds of worker: how long their preflight, capture and restore take.

    python -m benchmarks.kinds --rounds 3

As root, on bare containers: no Kubernetes in the way. Each worker looks after its restore whether it has what it had
before; one that does not ends the benchmark. Seconds of a capture are the agent's own, its proof and the sums of all
files included; those of a restore run until the worker has looked. A preflight is CPU time, the best of five: what else
the machine does is no fault of it. The exit status is 1 if a preflight takes longer than it may.
"""

import asyncio
import statistics
import sys
import time
from dataclasses import dataclass

from agent.preflight.checks import findings
from agent.preflight.facts import read_tree
from benchmarks.report import Report, finish, parser
from cluster.progress import for_terminal
from contract.api import control_files
from linux.proc import descendants, namespace_mates
from tests.support.fixtures.bare_container import PYTHON, BareContainer, node_folder, wait_for
from tests.support.fixtures.engine import Node
from tests.support.fixtures.tools import unpack_tools

HEADER = ("kind", "preflight ms", "capture s", "slowest", "restore s", "slowest")
LOOKS = 5
WORKER = """
import hashlib, mmap, os, resource, select, signal, socket, sys, tempfile, threading, time
sys.path.insert(0, "/tools")
import snapshot_sdk
def child(act):
    pid = os.fork()
    if pid == 0:
        act()
        os._exit(0)
    return pid
{before}
print("warm", flush=True)
snapshot_sdk.quiesce()
{after}
print("kept", flush=True)
threading.Event().wait()
"""
PLAIN, LARGE = "plain", "1,000 threads, 10,000 descriptors"
MOST_MS = {PLAIN: 30.0, LARGE: 300.0}
KINDS = {
    PLAIN: ("token = os.urandom(16); kept = bytes(token)", "assert kept == token"),
    LARGE: (
        """
resource.setrlimit(resource.RLIMIT_NOFILE, (20_000, 20_000))
pairs = [socket.socketpair() for _ in range(5_000)]
threading.stack_size(65536)
for _ in range(1_000):
    threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()
""",
        """
for one, other in pairs:
    one.send(b"x")
assert all(other.recv(1) == b"x" for _, other in pairs) and threading.active_count() == 1_001
""",
    ),
    "40 processes, pipes": (
        """
pipes = [os.pipe() for _ in range(40)]
for r, w in pipes:
    child(lambda: (os.read(r, 1), time.sleep(1e6)))
""",
        """
for r, w in pipes:
    os.write(w, b"x")
while any(select.select([r for r, _ in pipes], [], [], 0)[0]):
    time.sleep(0.001)
""",
    ),
    "1 GiB of memory": (
        """
blocks = [os.urandom(1 << 20) for _ in range(1024)]
sum_of = hashlib.blake2b(b"".join(blocks[::64])).digest()
""",
        "assert sum_of == hashlib.blake2b(b''.join(blocks[::64])).digest()",
    ),
    "256 MiB of shared memory": (
        """
file = os.open("/dev/shm/segment", os.O_RDWR | os.O_CREAT)
os.ftruncate(file, 256 << 20)
segment = mmap.mmap(file, 256 << 20)
block = os.urandom(1 << 20)
for n in range(256):
    segment[n << 20 : (n + 1) << 20] = block
""",
        "assert all(segment[n << 20 : (n + 1) << 20] == block for n in range(256))",
    ),
    "200 connections within": (
        """
server = socket.create_server(("127.0.0.1", 9000), backlog=256)
pairs = []
for _ in range(200):
    client = socket.create_connection(("127.0.0.1", 9000))
    pairs.append((client, server.accept()[0]))
""",
        """
for one, other in pairs:
    one.send(b"x")
assert all(other.recv(1) == b"x" for _, other in pairs)
""",
    ),
    "10,000 mappings": (
        """
maps = [mmap.mmap(-1, 4096, prot=mmap.PROT_READ | (mmap.PROT_WRITE if n % 2 else 0)) for n in range(10_000)]
for one in maps[1::2]:
    one[:4] = b"page"
""",
        "assert all(one[:4] == b'page' for one in maps[1::2])",
    ),
    "2,000 changed files": (
        """
os.makedirs("/var/tmp/many")
for n in range(2_000):
    with open(f"/var/tmp/many/{n}", "w") as file:
        file.write(str(n) * 100)
""",
        "assert all(open(f'/var/tmp/many/{n}').read() == str(n) * 100 for n in range(2_000))",
    ),
    "256 MiB in an emptyDir": (
        """
block = os.urandom(1 << 20)
with open("/scratch/weights", "wb") as file:
    for _ in range(256):
        file.write(block)
""",
        """
with open("/scratch/weights", "rb") as file:
    assert all(file.read(1 << 20) == block for _ in range(256))
""",
    ),
    "epoll, timers, signals": (
        """
ends = [os.pipe() for _ in range(100)]
poll = select.epoll()
for r, _ in ends:
    poll.register(r, select.EPOLLIN)
came = []
signal.signal(signal.SIGALRM, lambda *_: came.append(1))
signal.setitimer(signal.ITIMER_REAL, 3600.0, 0.05)
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
""",
        """
for _, w in ends:
    os.write(w, b"x")
assert len(poll.poll(5)) == 100
before = len(came)
time.sleep(0.2)
assert len(came) > before
""",
    ),
}


@dataclass(frozen=True)
class Round:
    """One worker, captured and restored."""

    preflight_ms: float
    capture: float
    restore: float


def main() -> None:
    """Measure every kind in turns, report."""
    made = parser("preflight, capture and restore of ten kinds of worker")
    made.add_argument("--rounds", type=int, default=3, choices=range(1, 51), metavar="1..50")
    arguments = made.parse_args()
    report = Report("kinds", f"python -m benchmarks.kinds --rounds {arguments.rounds}", HEADER)
    rounds: dict[str, list[Round]] = {kind: [] for kind in KINDS}
    total, done = arguments.rounds * len(KINDS), 0
    with node_folder() as folder, for_terminal().step("workers") as advance:
        node = Node(folder, unpack_tools(folder))
        for number in range(arguments.rounds):
            for place, kind in enumerate(KINDS):
                rounds[kind].append(asyncio.run(_measure(node, kind, f"kinds-{place}-{number}")))
                done += 1
                advance(done, total)
    late = _describe(report, rounds)
    finish(report, arguments)
    sys.exit(1 if late else 0)


async def _measure(node: Node, kind: str, checkpoint_id: str) -> Round:
    before, after = KINDS[kind]
    command = ("--", PYTHON, "-c", WORKER.replace("{before}", before).replace("{after}", after))
    try:
        source = node.start_as(BareContainer, "--capture", *command, shm="512m")
        wait_for((source.control / control_files.READY_FOR_SNAPSHOT).exists, f"{kind}; {source.text()}", 120)
        preflight_ms = min(_preflight(source) for _ in range(LOOKS)) * 1000
        captured = await node.capture(source, checkpoint_id)
        if not captured.ok:
            sys.exit(f"{kind}: {captured.message}")
        begun = time.monotonic()
        target = node.start_as(BareContainer, *command, shm="512m")
        restored = await node.restore(target, checkpoint_id, captured.manifest_digest)
        if not restored.ok:
            sys.exit(f"{kind}: {restored.message}")
        target.says("kept")
        return Round(preflight_ms, captured.seconds["total"], time.monotonic() - begun)
    finally:
        while node.containers:
            node.containers.pop().close()


def _preflight(source: BareContainer) -> float:
    init = source.init()
    begun = time.process_time()
    found = findings(read_tree(init, descendants(init, namespace_mates(init))))
    seconds = time.process_time() - begun
    if found:
        sys.exit(f"the preflight finds {found}")
    return seconds


def _describe(report: Report, rounds: dict[str, list[Round]]) -> list[str]:
    for kind, measured in rounds.items():
        looks, captures, restores = zip(*((r.preflight_ms, r.capture, r.restore) for r in measured), strict=True)
        times = (statistics.median(captures), max(captures), statistics.median(restores), max(restores))
        report.rows.append((kind, min(looks), *times))
        report.data[kind] = [
            {"preflight_ms": r.preflight_ms, "capture": r.capture, "restore": r.restore} for r in measured
        ]
    late = [kind for kind, most in MOST_MS.items() if min(r.preflight_ms for r in rounds[kind]) > most]
    report.conclusions.append(f"preflights within their bounds: {not late}; every worker had what it had before")
    return late


if __name__ == "__main__":
    main()
