"""The ten kinds of worker: what each does before its snapshot, and how it looks afterwards whether all is there."""

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


def source_of(kind: str) -> str:
    """Return the program of a worker."""
    before, after = KINDS[kind]
    return WORKER.replace("{before}", before).replace("{after}", after)
