"""Smaller things that a restored worker has as before: what makes each, and what shows it."""

_TIMERS = """
signal.pthread_sigmask(signal.SIG_BLOCK, [40])
def timer(clock):
    made = ctypes.c_void_p()
    must(libc.timer_create(clock, struct.pack('Qiii', 7, 40, 0, 0).ljust(64, b'\\0'), ctypes.byref(made)))
    return made
def arm(timer, seconds, flags=0):
    parts = int(seconds), int(seconds % 1 * 1e9)
    must(libc.timer_settime(timer, flags, struct.pack('4q', 0, 0, *parts), None))
def compute(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
"""
_MUTEXES = """
memory = mmap.mmap(-1, 4096)
base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
def mutex(offset, robust, protocol):
    attributes, made = ctypes.create_string_buffer(64), ctypes.c_void_p(base + offset)
    libc.pthread_mutexattr_init(attributes)
    libc.pthread_mutexattr_setpshared(attributes, 1)
    libc.pthread_mutexattr_setrobust(attributes, robust)
    libc.pthread_mutexattr_setprotocol(attributes, protocol)
    assert libc.pthread_mutex_init(made, attributes) == 0
    return made
lock, unlock = libc.pthread_mutex_lock, libc.pthread_mutex_unlock
"""

KEPT_DETAILS = {
    "guard-pages": (
        """
m = must(libc.mmap(None, ctypes.c_size_t(1 << 16), 3, 0x22, -1, ctypes.c_long(0)))
ctypes.memset(m, 1, 1 << 16)
has_guards = libc.madvise(ctypes.c_void_p(m), ctypes.c_size_t(4096), 102) == 0
def ends_by():
    return os.waitstatus_to_exitcode(os.waitpid(in_child(lambda: ctypes.string_at(m, 1)), 0)[1])
""",
        """
assert ends_by() == (-11 if has_guards else 0) and ctypes.string_at(m + 4096, 1) == b'\\1'
""",
    ),
    "file-cut-off-below-its-mapping": (
        """
f = os.open('/tmp/cut', os.O_RDWR | os.O_CREAT)
os.write(f, b'x' * 65536)
shared, own = mmap.mmap(f, 65536), mmap.mmap(f, 65536, access=mmap.ACCESS_COPY)
own[:4] = b'mine'
os.truncate('/tmp/cut', 4096)
""",
        """
assert shared[:4096] == b'x' * 4096 and own[:5] == b'minex'
os.truncate('/tmp/cut', 65536)
assert shared[40000:40004] == bytes(4)
""",
    ),
    "file-replaced-while-it-is-mapped": (
        """
open('/tmp/model', 'w').write('old')
with open('/tmp/model', 'rb') as f:
    m = mmap.mmap(f.fileno(), 0, prot=1)
open('/tmp/model.new', 'w').write('new')
os.rename('/tmp/model.new', '/tmp/model')
""",
        """
assert m[:] == b'old' and open('/tmp/model').read() == 'new'
""",
    ),
    "content-of-memory-without-rights": (
        """
m = must(libc.mmap(None, ctypes.c_size_t(4096), 3, 0x22, -1, ctypes.c_long(0)))
ctypes.memset(m, 5, 4096)
must(libc.mprotect(ctypes.c_void_p(m), ctypes.c_size_t(4096), 0))
""",
        """
must(libc.mprotect(ctypes.c_void_p(m), ctypes.c_size_t(4096), 1))
assert ctypes.string_at(m, 4096) == b'\\5' * 4096
""",
    ),
    "barriers-between-processors": (
        """
for command in (16, 64, 4):
    must(libc.syscall(324, command, 0, 0))
""",
        """
for command in (8, 32, 2):
    must(libc.syscall(324, command, 0, 0))
""",
    ),
    "alternate-stack-of-a-thread": (
        """
class Stack(ctypes.Structure):
    _fields_ = [('pointer', ctypes.c_void_p), ('flags', ctypes.c_int), ('size', ctypes.c_size_t)]
gate, same = threading.Event(), []
def run():
    memory = ctypes.create_string_buffer(65536)
    own, now = Stack(ctypes.addressof(memory), 0, 65536), Stack()
    must(libc.sigaltstack(ctypes.byref(own), None))
    gate.wait()
    must(libc.sigaltstack(None, ctypes.byref(now)))
    same.append((now.pointer, now.size) == (own.pointer, own.size))
t = threading.Thread(target=run)
t.start()
time.sleep(0.1)
""",
        """
gate.set()
t.join(5)
assert same == [True]
""",
    ),
    "real-time-signals-with-values": (
        """
signal.pthread_sigmask(signal.SIG_BLOCK, [40])
s = must(libc.signalfd(-1, (ctypes.c_ulong * 16)(1 << 39), 0))
for value in (1, 2, 3):
    must(libc.sigqueue(os.getpid(), 40, ctypes.c_void_p(value)))
""",
        """
assert [1, 2, 3] == [struct.unpack_from('i', os.read(s, 128), 44)[0] for _ in range(3)]
""",
    ),
    "timers-of-processor-time": (
        _TIMERS
        + """
of_process, of_thread = timer(2), timer(3)
arm(of_process, 0.8)
arm(of_thread, 0.8)
compute(0.3)
""",
        """
compute(0.7)
assert signal.sigtimedwait([40], 1) and signal.sigtimedwait([40], 1)
""",
    ),
    "timer-of-processor-time-of-another-thread": (
        _TIMERS
        + """
gate = threading.Event()
def run():
    gate.wait()
    compute(1)
t = threading.Thread(target=run)
t.start()
clock = ctypes.c_int()
libc.pthread_getcpuclockid(ctypes.c_void_p(t.ident), ctypes.byref(clock))
arm(timer(clock.value), 0.5)
""",
        """
gate.set()
assert signal.sigtimedwait([40], 5)
t.join()
""",
    ),
    "expiry-of-a-timer-that-waits": (
        _TIMERS
        + """
arm(timer(1), 0.1)
time.sleep(0.3)
""",
        """
assert signal.sigtimedwait([40], 0)
""",
    ),
    "mutexes-between-processes": (
        _MUTEXES
        + """
robust, inheriting, left = mutex(0, 1, 0), mutex(128, 0, 1), mutex(256, 1, 0)
r, w = os.pipe()
def hold():
    lock(robust), lock(inheriting)
    os.read(r, 1)
    unlock(inheriting)
    time.sleep(3600)
holder = in_child(hold)
assert succeeds(in_child(lambda: (lock(left), os._exit(0))))
time.sleep(0.2)
got = {}
threads = [
    threading.Thread(target=lambda: got.__setitem__('inheriting', lock(inheriting))),
    threading.Thread(target=lambda: got.__setitem__('robust', lock(robust))),
]
[t.start() for t in threads]
time.sleep(0.2)
assert not got
""",
        """
assert not got and lock(left) == errno.EOWNERDEAD
os.write(w, b'x')
threads[0].join(5)
assert got == {'inheriting': 0}
os.kill(holder, 9)
threads[1].join(5)
assert got['robust'] == errno.EOWNERDEAD
""",
    ),
    "descriptors-shared-with-a-child": (
        """
(r, w), (r2, w2) = os.pipe(), os.pipe()
k = must(libc.syscall(56, ctypes.c_ulong(0x400 | signal.SIGCHLD), 0, 0, 0, 0))
if k == 0:
    os.read(r, 1)
    os.write(w2, bytes([os.open('/etc/hostname', os.O_RDONLY)]))
    time.sleep(3600)
""",
        """
os.write(w, b'x')
assert os.readlink(f'/proc/self/fd/{os.read(r2, 1)[0]}') == '/etc/hostname'
os.kill(k, 9)
""",
    ),
    "group-whose-leader-ended": (
        """
must(libc.prctl(36, 1, 0, 0, 0))
def lead():
    os.setpgid(0, 0)
    if os.fork() == 0:
        time.sleep(3600)
    os._exit(0)
group = in_child(lead)
os.waitpid(group, 0)
""",
        """
os.killpg(group, 9)
assert os.waitstatus_to_exitcode(os.wait()[1]) == -9
""",
    ),
    "many-groups": (
        """
r, w = os.pipe()
def act():
    os.setgroups(range(100000, 100580))
    os.read(r, 1)
    assert os.getgroups() == list(range(100000, 100580))
k = in_child(act)
time.sleep(0.3)
""",
        """
os.write(w, b'x')
assert succeeds(k)
""",
    ),
    "limits-below-what-is-used": (
        """
os.dup2(0, 900)
resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50))
m = mmap.mmap(-1, 1 << 16)
b = (ctypes.c_char * 1).from_buffer(m)
must(libc.mlock(ctypes.c_void_p(ctypes.addressof(b)), 1 << 16))
for limit in (resource.RLIMIT_MEMLOCK, resource.RLIMIT_SIGPENDING, resource.RLIMIT_FSIZE):
    resource.setrlimit(limit, (4096, 4096))
""",
        """
assert os.fstat(900) and int(status('VmLck')) >= 64
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (50, 50)
""",
    ),
    "signals-for-descriptors": (
        """
signal.pthread_sigmask(signal.SIG_BLOCK, [40])
(a, b), (r, w) = socket.socketpair(), os.pipe()
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.bind(('127.0.0.1', 0))
for each in (b.fileno(), r, u.fileno()):
    fcntl.fcntl(each, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(each, 10, 40)
    fcntl.fcntl(each, fcntl.F_SETFL, fcntl.fcntl(each, fcntl.F_GETFL) | os.O_ASYNC)
""",
        """
for send in (lambda: a.send(b'x'), lambda: os.write(w, b'x'), lambda: u.sendto(b'x', u.getsockname())):
    send()
    assert signal.sigtimedwait([40], 5)
""",
    ),
    "locks-of-open-files-and-who-waits-for-locks": (
        """
f, g = (os.open('/tmp/locked', os.O_RDWR | os.O_CREAT) for _ in range(2))
of_file = struct.pack('hhqqi', fcntl.F_WRLCK, 0, 0, 10, 0).ljust(32, b'\\0')
fcntl.fcntl(f, 37, of_file)
h = os.open('/tmp/other', os.O_RDWR | os.O_CREAT)
fcntl.flock(h, fcntl.LOCK_EX)
k = in_child(lambda: fcntl.flock(os.open('/tmp/other', os.O_RDWR), fcntl.LOCK_EX))
time.sleep(0.2)
""",
        """
fcntl.fcntl(f, 37, of_file)
try:
    fcntl.fcntl(g, 37, of_file)
    assert 0
except BlockingIOError:
    pass
assert os.waitpid(k, os.WNOHANG) == (0, 0)
fcntl.flock(h, fcntl.LOCK_UN)
assert succeeds(k)
""",
    ),
    "other-name-of-a-deleted-file": (
        """
opened = {}
for folder in ('/tmp', '/dev/shm', '/scratch'):
    opened[folder] = os.open(f'{folder}/one', os.O_RDWR | os.O_CREAT)
    os.link(f'{folder}/one', f'{folder}/other')
    os.unlink(f'{folder}/one')
""",
        """
for folder, each in opened.items():
    os.write(each, b'through')
    assert open(f'{folder}/other').read() == 'through' and not os.path.exists(f'{folder}/one')
""",
    ),
    "ends-of-pipes": (
        """
os.mkfifo('/tmp/fifo')
f = os.open('/tmp/fifo', os.O_RDONLY | os.O_NONBLOCK)
with open('/tmp/fifo', 'wb', buffering=0) as g:
    g.write(b'data')
(r, w), (r2, w2) = os.pipe(), os.pipe()
os.close(r)
again = os.open(f'/proc/self/fd/{r2}', os.O_RDONLY)
os.close(r2)
""",
        """
assert os.read(f, 9) == b'data' and os.read(f, 9) == b''
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
try:
    os.write(w, b'x')
    assert 0
except BrokenPipeError:
    pass
os.write(w2, b'x')
assert os.read(again, 9) == b'x'
""",
    ),
    "epoll-of-what-has-another-number-now": (
        """
a, b = socket.socketpair()
inner, outer = select.epoll(), select.epoll()
number = b.fileno()
inner.register(number, select.EPOLLIN | select.EPOLLEXCLUSIVE)
outer.register(inner.fileno(), select.EPOLLIN)
c = os.dup(number)
b.close()
os.dup2(os.open('/dev/null', os.O_RDONLY), number)
""",
        """
a.send(b'x')
assert outer.poll(5) == [(inner.fileno(), select.EPOLLIN)] and inner.poll(5) == [(number, select.EPOLLIN)]
""",
    ),
    "messages-of-a-peer-that-has-closed": (
        """
read = []
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
    a, b = socket.socketpair(socket.AF_UNIX, kind)
    a.send(b'one')
    a.send(b'two')
    a.close()
    read.append(b)
""",
        """
stream, datagrams, packets = read
assert stream.recv(9) == b'onetwo' and stream.recv(9) == b''
assert [each.recv(9) for each in (datagrams, datagrams, packets, packets)] == [b'one', b'two'] * 2
""",
    ),
    "connection-of-which-one-end-is-shut": (
        """
l = socket.create_server(('127.0.0.1', 0))
c = socket.create_connection(l.getsockname())
s, _ = l.accept()
c.send(b'asked')
c.shutdown(socket.SHUT_WR)
""",
        """
assert s.recv(9) == b'asked' and s.recv(9) == b''
s.send(b'answered')
assert c.recv(9) == b'answered'
""",
    ),
    "length-of-a-queue-of-connections": (
        """
l = socket.socket(socket.AF_UNIX)
l.bind('/tmp/listener')
l.listen(3)
""",
        """
made = []
try:
    for _ in range(9):
        made.append(socket.socket(socket.AF_UNIX))
        made[-1].setblocking(False)
        made[-1].connect('/tmp/listener')
    assert 0
except BlockingIOError:
    assert len(made) == 5
""",
    ),
    "what-waits-in-a-raw-terminal": (
        """
import pty, termios, tty
master, slave = pty.openpty()
tty.setraw(slave)
fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack('4H', 33, 99, 1, 2))
os.write(master, b'down')
os.write(slave, b'up')
""",
        """
assert os.read(slave, 9) == b'down' and os.read(master, 9) == b'up'
assert fcntl.ioctl(slave, termios.TIOCGWINSZ, bytes(8)) == struct.pack('4H', 33, 99, 1, 2)
""",
    ),
    "worker-processes-of-python": (
        """
import concurrent.futures, multiprocessing, multiprocessing.shared_memory
context = multiprocessing.get_context('forkserver')
pool = concurrent.futures.ProcessPoolExecutor(2, mp_context=context)
assert list(pool.map(abs, [-1, -2])) == [1, 2]
block = multiprocessing.shared_memory.SharedMemory(create=True, size=4096)
block.buf[:3] = b'abc'
""",
        """
assert list(pool.map(abs, [-3, -4])) == [3, 4] and bytes(block.buf[:3]) == b'abc'
pool.shutdown()
block.unlink()
""",
    ),
    "no-page-of-the-kernels": (
        """
r, w = os.pipe()
byte = ctypes.create_string_buffer(1)
def act():
    with open('/proc/self/maps') as maps:
        pages = [line.split()[0].split('-') for line in maps if '[v' in line and 'vsyscall' not in line]
    for start, end in pages:
        libc.munmap(ctypes.c_void_p(int(start, 16)), ctypes.c_size_t(int(end, 16) - int(start, 16)))
    libc.read(r, byte, 1)
    libc._exit(0)
k = in_child(act)
time.sleep(0.2)
""",
        """
os.write(w, b'x')
assert succeeds(k)
""",
    ),
}
