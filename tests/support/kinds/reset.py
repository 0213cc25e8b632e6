"""What a restored worker has lost, and can see that it has."""

RESET = {
    "kernel-keyring": (
        """
k = must(libc.syscall(248, b'user', b'mine', b'secret', 6, -2))
""",
        """
assert libc.syscall(250, 6, k, 0, 0, 0) == -1 and ctypes.get_errno() == errno.ENOKEY
""",
    ),
    # A sandbox of one thread, or of a process that has become another user, cannot be seen.
    "landlock-of-one-thread": (
        """
ready, gate, ended = threading.Event(), threading.Event(), []
def run():
    must(libc.prctl(38, 1, 0, 0, 0))
    rules = must(libc.syscall(444, struct.pack('Q', 1 << 13), 8, 0))
    must(libc.syscall(446, rules, 0))
    os.close(rules)
    ready.set()
    gate.wait()
    os.link('/etc/hostname', '/tmp/link')
    ended.append(1)
t = threading.Thread(target=run)
t.start()
assert ready.wait(5)
""",
        """
gate.set()
t.join(5)
assert ended
""",
    ),
    "io-priority-in-real-time": (
        """
must(libc.syscall(251, 1, 0, (1 << 13) | 7))
""",
        """
assert libc.syscall(252, 1, 0) != (1 << 13) | 7
""",
    ),
    # It looks as if the peer had sent nothing and ended the stream.
    "unread-of-a-closed-peer-that-has-more-to-send": (
        """
listener = socket.create_server(('127.0.0.1', 0))
c = socket.create_connection(listener.getsockname())
s, _ = listener.accept()
c.setblocking(False)
try:
    while True:
        c.send(b'x' * 65536)
except BlockingIOError:
    pass
c.close()
assert s.recv(1000, socket.MSG_PEEK)
""",
        """
assert s.recv(1000) == b''
""",
    ),
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
    "ways-of-memory-and-errors": (
        """
must(libc.prctl(67, 1, 0, 0, 0))
must(libc.prctl(33, 1, 1, 0, 0))
open('/proc/self/coredump_filter', 'w').write('0x7f')
""",
        """
assert must(libc.prctl(68, 0, 0, 0, 0)) == 0 and must(libc.prctl(34, 0, 0, 0, 0)) == 2
assert open('/proc/self/coredump_filter').read() == '00000033\\n'
""",
    ),
    "memory-that-is-locked-when-it-is-touched": (
        """
m = mmap.mmap(-1, 1 << 22)
def resident():
    return int(status('VmRSS'))
address = ctypes.addressof((ctypes.c_char * 1).from_buffer(m))
must(libc.mlock2(ctypes.c_void_p(address), ctypes.c_size_t(1 << 22), 1))
def flags():
    with open('/proc/self/smaps') as file:
        lines = iter(file.read().splitlines())
    for line in lines:
        if line.startswith(f'{address:x}-'):
            return next(line for line in lines if line.startswith('VmFlags')).split()
assert 'lf' in flags()
""",
        """
assert 'lo' in flags() and 'lf' not in flags()
""",
    ),
    "time-and-faults-counted": (
        """
def used():
    return time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_utime
while time.process_time() < 0.5:
    pass
had = used()
""",
        """
assert all(now < before for now, before in zip(used(), had))
""",
    ),
    "waits-with-a-limit": (
        """
def wait(name, call):
    ctypes.set_errno(0)
    ended[name] = call(), ctypes.get_errno()
poller = select.epoll()
pair = socket.socketpair()
pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack('ll', 600, 0))
limit = struct.pack('qq', 600, 0)
waits = {
    'nanosleep': lambda: libc.nanosleep(limit, None),
    'poll': lambda: libc.poll(None, 0, 600_000),
    'epoll': lambda: libc.epoll_wait(poller.fileno(), ctypes.create_string_buffer(99), 1, 600_000),
    'recv': lambda: libc.recv(pair[0].fileno(), ctypes.create_string_buffer(9), 9, 0),
    'sigtimedwait': lambda: libc.sigtimedwait(bytes(128), None, limit),
}
ended = {}
threads = [threading.Thread(target=wait, args=each, daemon=True) for each in waits.items()]
[t.start() for t in threads]
time.sleep(0.2)
""",
        """
[t.join(5) for t in threads]
assert ended == dict.fromkeys(waits, (-1, errno.EINTR)), ended
""",
    ),
    "poll-by-io-submit": (
        """
context = ctypes.c_ulong(0)
must(libc.syscall(206, 8, ctypes.byref(context)))
r, w = os.pipe()
poll = ctypes.create_string_buffer(struct.pack('QIIHhIQQqQII', 1, 0, 0, 5, 0, r, 1, 0, 0, 0, 0, 0))
assert must(libc.syscall(209, context, ctypes.c_long(1), (ctypes.c_void_p * 1)(ctypes.addressof(poll)))) == 1
""",
        """
os.write(w, b'x')
events, limit = ctypes.create_string_buffer(256), struct.pack('qq', 0, 200_000_000)
assert libc.syscall(208, context, ctypes.c_long(1), ctypes.c_long(1), events, limit) == 0
""",
    ),
    "user-at-the-other-end": (
        """
l = socket.socket(socket.AF_UNIX)
l.bind('/tmp/asked')
l.listen()
os.chmod('/tmp/asked', 0o777)
def ask():
    os.setuid(8)
    c = socket.socket(socket.AF_UNIX)
    c.connect('/tmp/asked')
    c.recv(1)
pid = in_child(ask)
a, _ = l.accept()
def peer():
    return struct.unpack('3i', a.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
assert peer() == (pid, 8, 0)
""",
        """
assert peer() == (os.getpid(), 0, 0)
a.send(b'x')
assert succeeds(pid)
""",
    ),
    "options-of-sockets": (
        """
options = {
    'SO_TIMESTAMP': (1, 29, 1), 'IP_RECVERR': (0, 11, 1), 'IP_MTU_DISCOVER': (0, 10, 3),
    'UDP_SEGMENT': (17, 103, 1200), 'UDP_GRO': (17, 104, 1),
}
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('127.0.0.1', 0))
for each in options.values():
    s.setsockopt(*each)
""",
        """
assert [] == [name for name, (level, number, value) in options.items() if s.getsockopt(level, number) == value]
""",
    ),
    "error-of-a-socket": (
        """
l = socket.create_server(('127.0.0.1', 0))
c = socket.create_connection(l.getsockname())
a, _ = l.accept()
a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
a.close()
time.sleep(0.1)
""",
        """
assert c.recv(9) == b''
""",
    ),
    "udp-that-was-shut-for-reading": (
        """
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('127.0.0.1', 0))
s.connect(s.getsockname())
s.shutdown(socket.SHUT_RD)
assert s.recv(9) == b''
""",
        """
s.send(b'x')
assert s.recv(9) == b'x'
""",
    ),
    "thread-that-started-a-child": (
        """
gate, ended = threading.Event(), []
def run():
    k = in_child(lambda: time.sleep(3600))
    gate.wait()
    try:
        os.waitpid(k, os.WNOHANG | 0x20000000)
    except ChildProcessError:
        ended.append(k)
t = threading.Thread(target=run)
t.start()
""",
        """
gate.set()
t.join(5)
os.kill(*ended, 9)
assert [os.waitpid(-1, 0)[0]] == ended
""",
    ),
    "write-to-a-full-pipe": (
        """
r, w = os.pipe()
written = []
t = threading.Thread(target=lambda: written.append(os.write(w, bytes(1 << 18))), daemon=True)
t.start()
time.sleep(0.2)
""",
        """
t.join(5)
assert written and 0 < written[0] < 1 << 18
""",
    ),
    "inodes": (
        """
f = open('/tmp/data', 'w')
had = os.fstat(f.fileno()).st_ino
""",
        """
assert os.stat('/tmp/data').st_ino == os.fstat(f.fileno()).st_ino != had
""",
    ),
    "access-list-of-a-bound-socket": (
        """
name = 'system.posix_acl_access'
s = socket.socket(socket.AF_UNIX)
s.bind('/tmp/listed')
entries = [(1, 7, 0xffffffff), (2, 4, 77), (4, 5, 0xffffffff), (16, 5, 0xffffffff), (32, 0, 0xffffffff)]
os.setxattr('/tmp/listed', name, struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *each) for each in entries))
f = open('/tmp/gone', 'w')
os.setxattr('/tmp/gone', 'user.mine', b'x')
os.unlink('/tmp/gone')
""",
        """
assert name not in os.listxattr('/tmp/listed') and not os.listxattr(f.fileno())
""",
    ),
    "attributes-of-files": (
        """
f = os.open('/tmp/not-dumped', os.O_RDONLY | os.O_CREAT)
def attributes():
    return struct.unpack('l', fcntl.ioctl(f, 0x80086601, bytes(8)))[0]
fcntl.ioctl(f, 0x40086602, struct.pack('l', 0x40))
assert attributes() & 0x40
os.setxattr('/tmp/not-dumped', 'trusted.mine', b'x')
""",
        """
assert not attributes() & 0x40 and not os.listxattr('/tmp/not-dumped')
""",
    ),
    "empty-datagram": (
        """
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
a.send(b'')
a.send(b'x')
""",
        """
assert not select.select([b], [], [], 0.2)[0]
""",
    ),
    "nodes-and-sockets-of-nobody": (
        """
import stat
os.mknod('/opt/node', stat.S_IFCHR | 0o666, os.makedev(1, 3))
s = socket.socket(socket.AF_UNIX)
s.bind('/opt/socket')
s.close()
""",
        """
assert not os.path.exists('/opt/node') and not os.path.exists('/opt/socket')
""",
    ),
    "set-up-of-the-pod": (
        """
open('/proc/sys/net/core/somaxconn', 'w').write('777')
socket.sethostname('mine')
""",
        """
assert open('/proc/sys/net/core/somaxconn').read() != '777\\n' and socket.gethostname() != 'mine'
""",
    ),
    "former-content-of-a-mapped-file-of-the-image": (
        """
f = open('/etc/services', 'rb')
m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
had = m[:9]
open('/etc/services', 'r+b').write(b'# changed')
assert m[:9] == had != b'# changed'
""",
        """
assert m[:9] == b'# changed'
""",
    ),
}
