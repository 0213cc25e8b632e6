"""What a worker is refused for, and what of it criu says nothing of."""

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
    "epoll-of-another-process-s-file": (
        """
a, b = socket.socketpair()
e = select.epoll()
e.register(a.fileno(), select.EPOLLIN)
if os.fork() == 0:
    e.close()
    time.sleep(9999)
a.close()
""",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
    ),
    "epoll-of-another-process-s-eventfd": (
        """
a = os.eventfd(0)
e = select.epoll()
e.register(a, select.EPOLLIN)
if os.fork() == 0:
    e.close()
    time.sleep(9999)
os.close(a)
assert a == os.eventfd(0)
""",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
    ),
    "unread-with-credentials": (
        """
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
b.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
a.send(b'x')
""",
        AgentReason.UNSUPPORTED_SOCKET,
    ),
    "unread-with-its-time": (
        """
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
b.setsockopt(socket.SOL_SOCKET, 29, 1)
a.send(b'x')
""",
        AgentReason.UNSUPPORTED_SOCKET,
    ),
    "packet-pipe": (
        """
r, w = os.pipe2(os.O_DIRECT)
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
    "path-of-a-memfd": (
        """
m = os.memfd_create('x')
p = os.open(f'/proc/self/fd/{m}', os.O_PATH)
""",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
    ),
    "path-of-an-eventfd": (
        """
e = os.eventfd(3)
p = os.open(f'/proc/self/fd/{e}', os.O_PATH)
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
    "program-from-a-memfd-with-a-name-that-is-no-text": (
        """
m = os.memfd_create(b'\\xff')
os.write(m, open('/usr/bin/sleep', 'rb').read())
k = os.fork()
if k == 0:
    os.execve(m, ['sleep', '600'], dict(os.environ))
while 'memfd' not in os.readlink(f'/proc/{k}/exe'):
    time.sleep(0.01)
""",
        AgentReason.UNSUPPORTED_MEMORY,
    ),
    "secret-memory-that-is-not-mapped": (
        """
u = must(libc.syscall(447, 0))
""",
        AgentReason.UNSUPPORTED_MEMORY,
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
    "mounted-inside": (
        """
os.makedirs('/mnt/inside', exist_ok=True)
must(libc.mount(b'none', b'/mnt/inside', b'tmpfs', 0, None))
open('/mnt/inside/file', 'w').close()
""",
        AgentReason.MOUNTED_INSIDE,
    ),
    "supervisor-that-knows-services-by-inode": (
        """
k = in_child(lambda: (must(libc.prctl(15, b'runsvdir', 0, 0, 0)), time.sleep(9999)))
time.sleep(0.2)
""",
        AgentReason.UNSUPPORTED_PROCESS,
    ),
    "script-that-stops-with-its-child": (
        """
import subprocess
k = subprocess.Popen(['script', '-qefc', 'sleep 9999', '/tmp/typescript'], stdin=subprocess.DEVNULL)
time.sleep(0.5)
""",
        AgentReason.UNSUPPORTED_PROCESS,
    ),
    "renamed-unix-socket-of-a-relative-name": (
        """
s = socket.socket(socket.AF_UNIX)
os.chdir('/tmp')
s.bind('bound')
s.listen()
os.rename('/tmp/bound', '/tmp/renamed')
""",
        AgentReason.UNSUPPORTED_SOCKET,
    ),
    "renamed-unix-socket-of-another-root": (
        """
r, w = os.pipe()
os.makedirs('/tmp/jail')
def act():
    os.chroot('/tmp/jail')
    s = socket.socket(socket.AF_UNIX)
    s.bind('/bound')
    s.listen()
    os.rename('/bound', '/renamed')
    os.write(w, b'x')
    time.sleep(9999)
k = in_child(act)
os.read(r, 1)
""",
        AgentReason.UNSUPPORTED_SOCKET,
    ),
    "unix-socket-linked-to-its-name-out-of-a-removed-folder": (
        """
s = socket.socket(socket.AF_UNIX)
os.mkdir('/tmp/made')
s.bind('/tmp/made/bound')
os.link('/tmp/made/bound', '/tmp/bound')
os.unlink('/tmp/made/bound')
os.rmdir('/tmp/made')
""",
        AgentReason.UNSUPPORTED_SOCKET,
    ),
    "renamed-unix-socket-of-a-name-that-looks-deleted": (
        """
s = socket.socket(socket.AF_UNIX)
s.bind('/tmp/bound')
s.listen()
os.rename('/tmp/bound', '/tmp/renamed (deleted)')
""",
        AgentReason.UNSUPPORTED_SOCKET,
    ),
    "connection-in-flight": (
        """
a, b = socket.socketpair()
l = socket.create_server(('127.0.0.1', 0))
c = socket.create_connection(l.getsockname())
s, _ = l.accept()
socket.send_fds(a, [b'fd'], [s.fileno()])
s.close()
""",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
    ),
    "timer-in-flight": (
        """
a, b = socket.socketpair()
t = must(libc.timerfd_create(1, 0))
socket.send_fds(a, [b'fd'], [t])
os.close(t)
""",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
    ),
    "semaphore-in-a-socket-in-flight": (
        """
a, b = socket.socketpair()
c, d = socket.socketpair()
e = os.eventfd(3, os.EFD_SEMAPHORE)
socket.send_fds(c, [b'inner'], [e])
socket.send_fds(a, [b'outer'], [d.fileno()])
os.close(e)
d.close()
""",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
    ),
    "more-in-flight-than-can-be-seen": (
        """
a, b = socket.socketpair()
socket.send_fds(a, [b'fd'], [0])
socket.send_fds(a, [b'fd'], [0])
""",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
    ),
    "terminal-whose-other-end-was-closed": (
        """
import pty
k, master = pty.fork()
if k == 0:
    os._exit(0)
os.waitpid(k, 0)
""",
        AgentReason.PSEUDO_TERMINAL,
    ),
    "corked-udp": (
        """
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_UDP, 1, 1)
""",
        AgentReason.UNSUPPORTED_SOCKET,
    ),
    "closed-before-it-was-accepted": (
        """
l = socket.socket(socket.AF_UNIX)
l.bind('/tmp/queue')
l.listen()
c = socket.socket(socket.AF_UNIX)
c.connect('/tmp/queue')
c.close()
""",
        AgentReason.UNSUPPORTED_SOCKET,
    ),
    "deleted-file-of-a-long-name": (
        """
f = open('/tmp/' + 250 * 'n', 'w')
os.unlink(f.name)
""",
        AgentReason.UNLINKED_FOLDER,
    ),
    "mapped-and-deleted-file-of-a-long-name": (
        """
name = '/dev/shm/' + 250 * 'n'
f = open(name, 'w+b')
f.truncate(4096)
m = mmap.mmap(f.fileno(), 4096)
f.close()
os.unlink(name)
""",
        AgentReason.UNLINKED_FOLDER,
    ),
    "deleted-folder-whose-parent-is-deleted-too": (
        """
os.makedirs('/tmp/above/here')
os.chdir('/tmp/above/here')
os.rmdir('/tmp/above/here')
os.rmdir('/tmp/above')
""",
        AgentReason.UNLINKED_FOLDER,
    ),
    "deleted-folder-that-was-made-again": (
        """
os.mkdir('/tmp/here')
d = os.open('/tmp/here', os.O_RDONLY)
os.rmdir('/tmp/here')
os.mkdir('/tmp/here')
""",
        AgentReason.UNLINKED_FOLDER,
    ),
    "deleted-folder-of-the-image": (
        """
import shutil
os.chdir('/usr/share/doc')
shutil.rmtree('/usr/share/doc')
""",
        AgentReason.UNLINKED_FOLDER,
    ),
    "deleted-file-below-what-is-a-file-now": (
        """
os.mkdir('/tmp/was')
f = open('/tmp/was/file', 'w+')
os.unlink('/tmp/was/file')
os.rmdir('/tmp/was')
open('/tmp/was', 'w').close()
""",
        AgentReason.UNLINKED_FOLDER,
    ),
    "unix-socket-of-two-names": (
        """
s = socket.socket(socket.AF_UNIX)
s.bind('/tmp/bound')
s.listen()
os.link('/tmp/bound', '/tmp/public')
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
    "sealed-and-mapped": (
        """
m = os.memfd_create('x', os.MFD_ALLOW_SEALING)
os.write(m, b'hello')
fcntl.fcntl(m, 1033, 0xe)
v = mmap.mmap(m, 5, prot=mmap.PROT_READ)
""",
        AgentReason.UNSUPPORTED_MEMORY,
    ),
}

SANDBOX = """
def confine():
    must(libc.prctl(38, 1, 0, 0, 0))
    rules = must(libc.syscall(444, struct.pack('Q', 1 << 13), 8, 0))
    must(libc.syscall(446, rules, 0))
    os.close(rules)
"""
REFUSED |= {
    "process-without-the-page-of-the-kernel": (
        """
with open('/proc/self/maps') as lines:
    page = next(line.split()[0] for line in lines if line.endswith('[vdso]\\n'))
start, end = (int(word, 16) for word in page.split('-'))
k = in_child(lambda: (must(libc.munmap(ctypes.c_void_p(start), end - start)), libc.pause()))
time.sleep(0.3)
""",
        AgentReason.UNSUPPORTED_MEMORY,
    ),
    "process-that-may-not-run-the-page-of-the-kernel": (
        """
with open('/proc/self/maps') as lines:
    page = next(line.split()[0] for line in lines if line.endswith('[vdso]\\n'))
start, end = (int(word, 16) for word in page.split('-'))
k = in_child(lambda: (must(libc.mprotect(ctypes.c_void_p(start), end - start, 1)), libc.pause()))
time.sleep(0.3)
""",
        AgentReason.UNSUPPORTED_MEMORY,
    ),
    "no-programs-in-written-memory-nor-page-of-the-kernels": (
        """
def act():
    must(libc.prctl(65, 1, 0, 0, 0))
    with open('/proc/self/maps') as maps:
        pages = [line.split()[0].split('-') for line in maps if '[v' in line and 'vsyscall' not in line]
    for start, end in pages:
        libc.munmap(ctypes.c_void_p(int(start, 16)), ctypes.c_size_t(int(end, 16) - int(start, 16)))
    libc.pause()
k = in_child(act)
time.sleep(0.3)
""",
        AgentReason.CONFINEMENT_LOST,
    ),
    "no-programs-in-written-memory": ("must(libc.prctl(65, 1, 0, 0, 0))", AgentReason.CONFINEMENT_LOST),
    "no-programs-in-written-memory-of-a-child": (
        "k = in_child(lambda: (must(libc.prctl(65, 3, 0, 0, 0)), time.sleep(9999)))\ntime.sleep(0.3)",
        AgentReason.CONFINEMENT_LOST,
    ),
    "landlock": (f"{SANDBOX}confine()", AgentReason.CONFINEMENT_LOST),
    "landlock-of-a-child": (
        f"{SANDBOX}k = in_child(lambda: (confine(), time.sleep(9999)))\ntime.sleep(0.3)",
        AgentReason.CONFINEMENT_LOST,
    ),
}
_OPEN_TREE = """
must(libc.syscall(428, -100, b'/opt', 0x80001))
"""
_UNMOUNTED = """
os.makedirs('/mnt/gone', exist_ok=True)
must(libc.mount(b'none', b'/mnt/gone', b'tmpfs', 0, None))
f = open('/mnt/gone/file', 'w')
must(libc.umount2(b'/mnt/gone', 2))
"""
_OF_A_THREAD = """
up = threading.Event()
def run():
    up.set()
    time.sleep(9999)
t = threading.Thread(target=run, daemon=True)
t.start()
assert up.wait(5)
f = open(f'/proc/self/task/{t.native_id}/status')
"""
_DECIDES = """
open('/dev/shm/guarded', 'w').close()
n = must(libc.fanotify_init(4, 0))
must(libc.fanotify_mark(n, 1, ctypes.c_ulonglong(0x10000), -100, b'/dev/shm/guarded'))
"""
_OWNED = """
up = threading.Event()
def run():
    ids.append(threading.get_native_id())
    up.set()
    time.sleep(9999)
ids = []
threading.Thread(target=run, daemon=True).start()
assert up.wait(5)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
a, b = socket.socketpair()
r, w = os.pipe()
owned = {owned}
fcntl.fcntl(owned, 15, struct.pack('ii', 0, ids[0]))
fcntl.fcntl(owned, fcntl.F_SETFL, os.O_ASYNC)
"""
_PROGRAM_AS_FILTER = """
code = ctypes.create_string_buffer(struct.pack('BBhiBBhi', 0xB7, 0, 0, 0, 0x95, 0, 0, 0))
name = ctypes.create_string_buffer(b'GPL')
wanted = struct.pack('IIQQ', 1, 2, ctypes.addressof(code), ctypes.addressof(name)).ljust(128, b'\\0')
program = must(libc.syscall(321, 5, ctypes.create_string_buffer(wanted), 128))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 50, program)
os.close(program)
"""
_BOUND = """
s = socket.socket(socket.AF_UNIX)
os.chdir('/tmp')
s.bind('{name}')
os.chdir('/')
s.listen()
"""
REFUSED |= {
    "folder-of-a-mount-that-has-no-place": (_OPEN_TREE, AgentReason.UNSUPPORTED_DESCRIPTOR),
    "file-of-what-was-unmounted": (_UNMOUNTED, AgentReason.UNSUPPORTED_DESCRIPTOR),
    "inotify-on-files-of-the-kernel": (
        """
i = must(libc.inotify_init1(0))
must(libc.inotify_add_watch(i, b'/proc/sys', 0x2))
""",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
    ),
    "inotify-on-terminals": (
        """
i = must(libc.inotify_init1(0))
must(libc.inotify_add_watch(i, b'/dev/pts', 0x100))
""",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
    ),
    "file-of-a-thread": (_OF_A_THREAD, AgentReason.UNSUPPORTED_DESCRIPTOR),
    "fanotify-that-decides": (_DECIDES, AgentReason.UNSUPPORTED_DESCRIPTOR),
    "socket-that-signals-a-thread": (_OWNED.replace("{owned}", "b.fileno()"), AgentReason.UNSUPPORTED_DESCRIPTOR),
    "pipe-that-signals-a-thread": (_OWNED.replace("{owned}", "r"), AgentReason.UNSUPPORTED_DESCRIPTOR),
    "socket-that-a-program-filters": (_PROGRAM_AS_FILTER, AgentReason.UNSUPPORTED_SOCKET),
    "netlink-group-above-32": (
        """
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
s.setsockopt(270, 1, 35)
""",
        AgentReason.UNSUPPORTED_SOCKET,
    ),
    "unix-socket-of-a-name-through-the-folder-above": (
        _BOUND.replace("{name}", "../tmp/./bound"),
        AgentReason.UNSUPPORTED_SOCKET,
    ),
    "unix-socket-whose-name-looks-deleted": (
        _BOUND.replace("{name}", "bound (deleted)"),
        AgentReason.UNSUPPORTED_SOCKET,
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

_CLONE = """
if must(libc.syscall(220 if os.uname().machine == 'aarch64' else 56, ctypes.c_ulong({flags}), 0, 0, 0, 0)) == 0:
    time.sleep(9999)
"""
REFUSED |= {
    "folder-shared-with-a-child": (
        _CLONE.replace("{flags}", "0x200 | signal.SIGCHLD"),
        AgentReason.UNSUPPORTED_PROCESS,
    ),
    "child-that-sends-another-signal": (_CLONE.replace("{flags}", "signal.SIGUSR1"), AgentReason.UNSUPPORTED_PROCESS),
    "many-groups": (
        """
k = in_child(lambda: (os.setgroups(range(100000, 100590)), time.sleep(9999)))
time.sleep(0.3)
""",
        AgentReason.UNSUPPORTED_PROCESS,
    ),
    "no-descriptors-left": (
        """
def take_all():
    resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
    for _ in range(60 - len(os.listdir('/proc/self/fd')) + 1):
        os.dup(0)
    time.sleep(9999)
k = in_child(take_all)
time.sleep(0.3)
""",
        AgentReason.UNSUPPORTED_PROCESS,
    ),
}

REFUSED |= {
    "no-mappings-left": (
        """
def take_all():
    most = int(open('/proc/sys/vm/max_map_count').read()) - len(open('/proc/self/maps').readlines())
    m = must(libc.mmap(None, ctypes.c_size_t(most * 4096), 1, 0x22, -1, ctypes.c_long(0)))
    for page in range(1, most, 2):
        if libc.mprotect(ctypes.c_void_p(m + page * 4096), ctypes.c_size_t(4096), 0):
            break
    os.write(w, b'x')
    time.sleep(9999)
r, w = os.pipe()
k = in_child(take_all)
os.read(r, 1)
""",
        AgentReason.UNSUPPORTED_PROCESS,
    ),
    "no-addresses-left": (
        """
def take_all():
    mapped = int(status('VmSize')) << 10
    resource.setrlimit(resource.RLIMIT_AS, (mapped, mapped))
    time.sleep(9999)
k = in_child(take_all)
time.sleep(0.3)
""",
        AgentReason.UNSUPPORTED_PROCESS,
    ),
}

SET_SCHEDULING = {"x86_64": 314, "aarch64": 274}
REFUSED["deadline-of-a-thread"] = (
    f"""
def run():
    # SCHED_DEADLINE: 10 ms of each 100.
    wanted = struct.pack("IIQiIQQQ", 48, 6, 0, 0, 0, 10_000_000, 100_000_000, 100_000_000)
    must(libc.syscall({SET_SCHEDULING[platform.machine()]}, 0, wanted, 0))
    up.set()
    time.sleep(9999)
up = threading.Event()
threading.Thread(target=run, daemon=True).start()
assert up.wait(5)
""",
    AgentReason.UNSUPPORTED_SCHEDULING,
)

EXIT = {"x86_64": 60, "aarch64": 93}
REFUSED["first-thread-ended"] = (
    f"""
def run():
    threading.Thread(target=time.sleep, args=(9999,)).start()
    libc.syscall({EXIT[platform.machine()]}, 0)
k = in_child(run)
time.sleep(0.3)
""",
    AgentReason.THREAD_APART,
)

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
    "program-from-a-memfd-with-a-name-that-is-no-text",
    "no-programs-in-written-memory",
    "no-programs-in-written-memory-nor-page-of-the-kernels",
    "no-programs-in-written-memory-of-a-child",
    "landlock",
    "landlock-of-a-child",
    "fanotify-that-decides",
    "unix-socket-whose-name-looks-deleted",
    "child-that-sends-another-signal",
    "terminal-whose-other-end-was-closed",
    "connection-in-flight",
    "semaphore-in-a-socket-in-flight",
    "more-in-flight-than-can-be-seen",
    "deleted-folder-whose-parent-is-deleted-too",
    "deleted-folder-that-was-made-again",
    "trigger-of-pressure",
    "mounted-inside",
    "script-that-stops-with-its-child",
    "supervisor-that-knows-services-by-inode",
    "renamed-unix-socket-of-a-relative-name",
    "renamed-unix-socket-of-another-root",
    "renamed-unix-socket-of-a-name-that-looks-deleted",
    "unix-socket-linked-to-its-name-out-of-a-removed-folder",
    "unix-socket-of-two-names",
    "thread-with-descriptors-of-its-own",
    "thread-with-a-folder-of-its-own",
    "thread-with-a-network-of-its-own",
    "thread-with-a-host-name-of-its-own",
    "multicast-group",
    "multicast-group-of-version-6",
}
"""criu says nothing of them: no process holds the first, and it does not ask for the others."""
