"""What a worker is refused for, what criu says nothing of, and what a restored worker has lost."""

import platform

from contract.api.states import AgentReason

REFUSED = {
    "vsock": (
        """
s = socket.socket(40, socket.SOCK_STREAM)
""",
        AgentReason.UNSUPPORTED_SOCKET,
    ),
    "mptcp": (
        """
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
""",
        AgentReason.UNSUPPORTED_SOCKET,
    ),
    "performance-counter": (
        """
a = struct.pack('IIQQQQQ', 1, 120, 0, 0, 0, 0, 1).ljust(120, b'\\0')
p = must(libc.syscall(298, a, 0, -1, -1, 0))
""",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
    ),
    "userfaultfd": (
        """
u = must(libc.syscall(323, 1))
""",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
    ),
    "bpf-map": (
        """
b = must(libc.syscall(321, 0, struct.pack('IIII', 2, 4, 4, 1).ljust(72, b'\\0'), 72))
""",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
    ),
    "memfd-of-huge-pages": (
        """
m = os.memfd_create('x', os.MFD_HUGETLB)
""",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
    ),
    "device": (
        """
k = os.open('/dev/kvm', os.O_RDWR)
""",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
    ),
    "packet-pipe": (
        """
r, w = os.pipe2(os.O_DIRECT)
""",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
    ),
    "semaphore": (
        """
e = os.eventfd(3, os.EFD_SEMAPHORE)
""",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
    ),
    "timer-that-wakes-the-machine": (
        """
t = must(libc.timerfd_create(9, 0))
""",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
    ),
    "pidfd-of-standby": (
        """
p = os.pidfd_open(1)
""",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
    ),
    "pidfd-of-a-thread": (
        """
t = threading.Thread(target=time.sleep, args=(9999,), daemon=True)
t.start()
p = must(libc.syscall(434, t.native_id, 0o200))
""",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
    ),
    "listener-of-seccomp": (
        """
must(libc.prctl(38, 1, 0, 0, 0))
code = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7fff0000))
n = must(libc.syscall(317, 1, 8, struct.pack('HxxxxxxP', 1, ctypes.addressof(code))))
""",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
    ),
    "path-of-a-socket": (
        """
s = socket.socket(socket.AF_UNIX)
s.bind('/tmp/by-path')
p = os.open('/tmp/by-path', os.O_PATH)
""",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
    ),
    "path-of-a-fifo": (
        """
os.mkfifo('/tmp/by-path')
p = os.open('/tmp/by-path', os.O_PATH)
""",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
    ),
    "secret-memory-that-is-not-mapped": (
        """
u = must(libc.syscall(447, 0))
""",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
    ),
    "trigger-of-pressure": (
        """
p = os.open('/proc/pressure/memory', os.O_RDWR | os.O_NONBLOCK)
os.write(p, b'some 150000 2000000\\0')
""",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
    ),
    "fanotify-on-files-of-the-image": (
        """
n = must(libc.fanotify_init(0, 0))
must(libc.fanotify_mark(n, 1, ctypes.c_ulonglong(8), -100, b'/usr'))
""",
        AgentReason.INOTIFY_OVERLAY,
    ),
    "multicast-group": (
        """
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('', 5007))
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton('224.1.1.1') + socket.inet_aton('127.0.0.1'))
""",
        AgentReason.UNSUPPORTED_SOCKET,
    ),
    "multicast-group-of-version-6": (
        """
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(('::', 5007))
group = socket.inet_pton(socket.AF_INET6, 'ff15::7')
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group + struct.pack('I', 1))
""",
        AgentReason.UNSUPPORTED_SOCKET,
    ),
    "sent-before-it-was-accepted": (
        """
l = socket.socket(socket.AF_UNIX)
l.bind('\\0queue')
l.listen()
c = socket.socket(socket.AF_UNIX)
c.connect('\\0queue')
c.send(b'x')
""",
        AgentReason.UNSUPPORTED_SOCKET,
    ),
    "unread-netlink": (
        """
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
s.bind((0, 0))
s.send(struct.pack('IHHII', 20, 18, 0x301, 1, 0) + bytes(4))
""",
        AgentReason.UNSUPPORTED_SOCKET,
    ),
    "traced-child": (
        """
k = in_child(lambda: time.sleep(9999))
must(libc.ptrace(0x4206, k, None, None))
""",
        AgentReason.TRACED,
    ),
    "secret-memory": (
        """
u = must(libc.syscall(447, 0))
os.ftruncate(u, 4096)
m = mmap.mmap(u, 4096)
""",
        AgentReason.UNSUPPORTED_MEMORY,
    ),
    "program-from-a-memfd": (
        """
m = os.memfd_create('x')
os.write(m, open('/usr/bin/sleep', 'rb').read())
pid = os.fork()
if pid == 0:
    os.execve(m, ['sleep', '3600'], {})
time.sleep(0.3)
""",
        AgentReason.UNSUPPORTED_MEMORY,
    ),
    "sealed-and-mapped": (
        """
m = os.memfd_create('x', os.MFD_ALLOW_SEALING)
os.write(m, b'hello')
fcntl.fcntl(m, 1033, 0xe)
v = mmap.mmap(m, 5, prot=mmap.PROT_READ)
""",
        AgentReason.UNSUPPORTED_MEMORY,
    ),
    "system-v-memory": (
        """
i = must(libc.shmget(0x1234, 4096, 0o1600))
""",
        AgentReason.SYSV_IPC,
    ),
    "system-v-semaphore": (
        """
i = must(libc.semget(0x1234, 1, 0o1600))
""",
        AgentReason.SYSV_IPC,
    ),
    "system-v-queue": (
        """
i = must(libc.msgget(0x1234, 0o1600))
""",
        AgentReason.SYSV_IPC,
    ),
}

_THREAD = """
up, gate = threading.Event(), threading.Event()
def run():
    {act}
    up.set()
    gate.wait()
t = threading.Thread(target=run, daemon=True)
t.start()
assert up.wait(5)
"""
REFUSED |= {
    f"thread-with-{what}-of-its-own": (_THREAD.replace("{act}", act), AgentReason.THREAD_APART)
    for what, act in {
        "descriptors": "must(libc.unshare(0x400))",
        "a-folder": "must(libc.unshare(0x200))",
        "a-network": "must(libc.unshare(0x40000000))",
        "a-host-name": "must(libc.unshare(0x4000000))",
    }.items()
}

_PROGRAMS = """
kept = []
def program(*parts):
    code = mmap.mmap(-1, 4096, prot=7)
    code.write(b''.join(parts))
    kept.append(code)
    return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
child_pauses = bytes.fromhex('85c07401c3' 'b8220000000f05ebf7')
"""
"""Of x86-64: a child that shares the stack with its parent can run nothing else."""

if platform.machine() == "x86_64":
    REFUSED |= {
        "vfork-that-lasts": (
            f"""{_PROGRAMS}
start = program(bytes.fromhex('b83a0000000f05'), child_pauses)
threading.Thread(target=start, daemon=True).start()
time.sleep(0.3)
""",
            AgentReason.UNSUPPORTED_MEMORY,
        ),
        "memory-of-the-parent": (
            f"""{_PROGRAMS}
stack = mmap.mmap(-1, 1 << 16)
top = struct.pack('Q', ctypes.addressof(ctypes.c_char.from_buffer(stack)) + (1 << 15))
start = program(
    bytes.fromhex('bf11010000' '48be'), top, bytes.fromhex('31d24d31d24d31c0' 'b8380000000f05'), child_pauses
)
assert start() > 0
""",
            AgentReason.UNSUPPORTED_MEMORY,
        ),
    }

LOST_WITHOUT_THE_CHECK = {
    "semaphore",
    "trigger-of-pressure",
    "thread-with-descriptors-of-its-own",
    "thread-with-a-folder-of-its-own",
    "thread-with-a-network-of-its-own",
    "thread-with-a-host-name-of-its-own",
    "system-v-memory",
    "system-v-semaphore",
    "system-v-queue",
    "multicast-group",
    "multicast-group-of-version-6",
}
"""criu says nothing of them: no process holds the first, and it does not ask for the others."""

RESET = {
    "kernel-keyring": (
        """
k = must(libc.syscall(248, b'user', b'mine', b'secret', 6, -2))
""",
        """
assert libc.syscall(250, 6, k, 0, 0, 0) == -1 and ctypes.get_errno() == errno.ENOKEY
""",
    ),
    "landlock": (
        """
must(libc.prctl(38, 1, 0, 0, 0))
rules = must(libc.syscall(444, struct.pack('Q', 1 << 13), 8, 0))
must(libc.syscall(446, rules, 0))
os.close(rules)
try:
    os.link('/etc/hostname', '/tmp/link')
    assert 0
except OSError:
    pass
""",
        """
os.link('/etc/hostname', '/tmp/link')
""",
    ),
    "timer-slack": (
        """
must(libc.prctl(29, 123456, 0, 0, 0))
""",
        """
assert must(libc.prctl(30, 0, 0, 0, 0)) == 50000
""",
    ),
    "io-priority": (
        """
must(libc.syscall(251, 1, 0, (2 << 13) | 7))
""",
        """
assert libc.syscall(252, 1, 0) != (2 << 13) | 7
""",
    ),
    "affinity": ("os.sched_setaffinity(0, {0})", "assert os.sched_getaffinity(0) != {0} or os.cpu_count() == 1"),
    "memory-policy": (
        """
must(libc.syscall(238, 2, ctypes.byref(ctypes.c_ulong(1)), 64))
""",
        """
mode = ctypes.c_int(-1)
must(libc.syscall(239, ctypes.byref(mode), None, 0, None, 0))
assert mode.value == 0
""",
    ),
    "personality": ("must(libc.personality(0x0040000))", "assert libc.personality(0xffffffff) == 0"),
    "memory-to-come-is-locked": (
        """
must(libc.mlockall(2))
""",
        """
before = int(status('VmLck'))
m = mmap.mmap(-1, 1 << 22)
assert int(status('VmLck')) < before + 4096
""",
    ),
    "datagram-that-waits": (
        """
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('127.0.0.1', 0))
c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
c.sendto(b'x', s.getsockname())
""",
        """
assert not select.select([s], [], [], 0.2)[0]
c.sendto(b'y', s.getsockname())
assert s.recv(9) == b'y'
""",
    ),
    "inotify-events-that-wait": (
        """
os.mkdir('/dev/shm/watched')
i = must(libc.inotify_init1(0))
must(libc.inotify_add_watch(i, b'/dev/shm/watched', 0x100))
open('/dev/shm/watched/x', 'w').close()
""",
        """
assert not select.select([i], [], [], 0.2)[0]
open('/dev/shm/watched/y', 'w').close()
assert select.select([i], [], [], 5)[0]
""",
    ),
    "tcp-options": (
        """
s = socket.create_server(('127.0.0.1', 0))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 999)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 5)
""",
        """
assert s.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
assert s.getsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN) == 0
""",
    ),
    "program-of-reuseport": (
        """
s = []
for _ in range(2):
    s.append(socket.create_server(('127.0.0.1', 5055), reuse_port=True))
code = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 1))
s[0].setsockopt(socket.SOL_SOCKET, 51, struct.pack('HxxxxxxQ', 1, ctypes.addressof(code)))
""",
        """
c = [socket.create_connection(('127.0.0.1', 5055)) for _ in range(64)]
assert select.select([s[0]], [], [], 1)[0] and select.select([s[1]], [], [], 1)[0]
""",
    ),
    "urgent-data": (
        """
l = socket.create_server(('127.0.0.1', 0))
c = socket.create_connection(l.getsockname())
s, _ = l.accept()
c.send(b'ab')
c.send(b'!', socket.MSG_OOB)
time.sleep(0.1)
""",
        """
assert s.recv(2) == b'ab'
try:
    s.recv(1, socket.MSG_OOB)
    assert 0
except OSError:
    pass
""",
    ),
    "sender-of-a-datagram-that-waits": (
        """
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind('/tmp/to')
c = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
c.bind('/tmp/from')
c.sendto(b'one', '/tmp/to')
""",
        """
assert s.recvfrom(9) == (b'one', None)
c.sendto(b'two', '/tmp/to')
assert s.recvfrom(9) == (b'two', '/tmp/from')
""",
    ),
    "peek-offset": (
        """
a, b = socket.socketpair()
a.send(b'abcd')
b.setsockopt(socket.SOL_SOCKET, 42, 2)
""",
        """
assert b.getsockopt(socket.SOL_SOCKET, 42) == -1 and b.recv(9) == b'abcd'
""",
    ),
    "dnotify": (
        """
os.mkdir('/tmp/noticed')
f = os.open('/tmp/noticed', os.O_RDONLY)
came = []
signal.signal(signal.SIGIO, lambda *_: came.append(1))
fcntl.fcntl(f, fcntl.F_NOTIFY, fcntl.DN_CREATE | fcntl.DN_MULTISHOT)
""",
        """
open('/tmp/noticed/x', 'w').close()
time.sleep(0.2)
assert not came
""",
    ),
    "no-programs-in-written-memory": ("must(libc.prctl(65, 1, 0, 0, 0))", "assert libc.prctl(66, 0, 0, 0, 0) == 0"),
    "sealed-mapping": (
        """
m = must(libc.mmap(None, 4096, 3, 0x22, -1, 0))
must(libc.syscall(462, ctypes.c_void_p(m), ctypes.c_size_t(4096), 0))
""",
        """
must(libc.munmap(ctypes.c_void_p(m), 4096))
""",
    ),
    "name-for-a-file-without-one": (
        """
f = os.open('/tmp', os.O_TMPFILE | os.O_RDWR)
os.write(f, b'data')
""",
        """
assert os.pread(f, 9, 0) == b'data'
try:
    os.link(f'/proc/self/fd/{f}', '/tmp/named', follow_symlinks=True)
    assert 0
except OSError:
    pass
""",
    ),
}
