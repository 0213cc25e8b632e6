"""What a worker is refused for, what criu says nothing of, and what a restored worker has lost."""

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

LOST_WITHOUT_THE_CHECK = {"system-v-memory", "system-v-semaphore", "system-v-queue"}
"""criu says nothing of them, as no process holds them."""

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
}
