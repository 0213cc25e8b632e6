"""Smaller things that a restored worker has lost: positions, names, ends and notices."""

RESET_DETAILS = {
    "expiries-of-timers-beyond-the-first": (
        """
t = must(libc.timerfd_create(1, 0))
must(libc.timerfd_settime(t, 0, struct.pack('4q', 0, 50_000_000, 0, 50_000_000), None))
signal.pthread_sigmask(signal.SIG_BLOCK, [40])
timer = ctypes.c_int()
must(libc.syscall(222, 1, struct.pack('Qiii', 0, 40, 0, 0).ljust(64, b'\\0'), ctypes.byref(timer)))
must(libc.syscall(223, timer.value, 0, struct.pack('4q', 0, 50_000_000, 0, 50_000_000), None))
time.sleep(1)
""",
        """
(expiries,) = struct.unpack('Q', os.read(t, 8))
overrun = ctypes.create_string_buffer(128)
must(libc.syscall(128, ctypes.byref(ctypes.c_ulong(1 << 39)), overrun, struct.pack('qq', 5, 0), 8))
assert expiries < 10 and struct.unpack_from('i', overrun, 20)[0] < 10
""",
    ),
    "terminal-of-what-a-shell-has-started": (
        """
import pty
r, w = os.pipe()
k, master = pty.fork()
if k == 0:
    started = os.fork()
    if started == 0:
        os.read(r, 1)
        try:
            os.open('/dev/tty', os.O_RDWR)
        except OSError as error:
            os._exit(error.errno)
        os._exit(0)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(started, 0)[1]))
time.sleep(0.3)
""",
        """
os.write(w, b'x')
assert os.waitstatus_to_exitcode(os.waitpid(k, 0)[1]) == errno.ENXIO
""",
    ),
    "speculation-that-is-forbidden": (
        """
had = libc.prctl(52, 0, 0, 0, 0)
forbids = libc.prctl(53, 0, 4, 0, 0) == 0
assert not forbids or libc.prctl(52, 0, 0, 0, 0) != had
""",
        """
assert libc.prctl(52, 0, 0, 0, 0) == had
""",
    ),
    "time-stamp-counter-that-is-forbidden": (
        """
r, w = os.pipe()
byte, mode = ctypes.create_string_buffer(1), ctypes.c_int()
def act():
    must(libc.prctl(26, 2, 0, 0, 0))
    libc.read(r, byte, 1)
    libc.prctl(25, ctypes.byref(mode), 0, 0, 0)
    libc._exit(mode.value)
k = in_child(act)
time.sleep(0.2)
""",
        """
os.write(w, b'x')
assert os.waitstatus_to_exitcode(os.waitpid(k, 0)[1]) == 1
""",
    ),
    "user-of-a-zombie": (
        """
k = in_child(lambda: os.setuid(8))
def user():
    return os.waitid(os.P_PID, k, os.WEXITED | os.WNOWAIT).si_uid
assert user() == 8
""",
        """
assert user() == 0
""",
    ),
    "credentials-that-were-not-asked-for": (
        """
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
a.send(b'x')
""",
        """
b.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
((_, _, credentials),) = b.recvmsg(9, 99)[1]
assert struct.unpack('iII', credentials) == (0, 65534, 65534)
""",
    ),
    "connection-that-both-ends-have-shut": (
        """
l = socket.create_server(('127.0.0.1', 0))
c = socket.create_connection(l.getsockname())
a, _ = l.accept()
c.send(b'bye')
c.shutdown(socket.SHUT_WR)
a.shutdown(socket.SHUT_WR)
""",
        """
assert a.recv(9) == b''
""",
    ),
    "connection-of-a-socket-to-itself": (
        """
s = socket.socket()
s.bind(('127.0.0.1', 0))
s.connect(s.getsockname())
s.send(b'x')
""",
        """
assert s.recv(9) == b''
""",
    ),
    "connection-that-is-being-made": (
        """
l = socket.socket()
l.bind(('127.0.0.1', 0))
l.listen(0)
made = [socket.socket() for _ in range(4)]
for each in made:
    each.setblocking(False)
    each.connect_ex(l.getsockname())
time.sleep(0.1)
""",
        """
poll = select.poll()
poll.register(made[-1], select.POLLOUT)
assert poll.poll(1000) == [(made[-1].fileno(), select.POLLOUT | select.POLLHUP)]
assert made[-1].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
""",
    ),
    "futex-with-a-limit": (
        """
word = ctypes.c_int(5)
ended = []
def wait():
    ctypes.set_errno(0)
    limit = struct.pack('qq', 1 << 40, 0)
    ended.extend([libc.syscall(202, ctypes.byref(word), 128 | 9, 5, limit, None, -1), ctypes.get_errno()])
t = threading.Thread(target=wait, daemon=True)
t.start()
time.sleep(0.2)
assert not ended
""",
        """
t.join(5)
assert ended == [-1, errno.EINTR], ended
""",
    ),
    "transfers-under-way": (
        """
def listened():
    l = socket.create_server(('127.0.0.1', 0))
    c = socket.create_connection(l.getsockname())
    return c, l.accept()[0]
pairs = [socket.socketpair(), listened()]
whole = bytes(1 << 24)
done = []
def run(call):
    done.append(call())
calls = [lambda a=a: a.send(whole) for a, _ in pairs]
for a, b in (socket.socketpair(), listened()):
    a.send(b'part')
    calls.append(lambda b=b: len(b.recv(len(whole), socket.MSG_WAITALL)))
    pairs.append((a, b))
threads = [threading.Thread(target=run, args=(call,), daemon=True) for call in calls]
[t.start() for t in threads]
time.sleep(0.3)
assert not done
""",
        """
[t.join(5) for t in threads]
assert len(done) == 4 and all(0 < each < len(whole) for each in done) and done.count(4) == 2, done
""",
    ),
    "position-in-a-folder": (
        """
os.mkdir('/dev/shm/many')
for n in range(3000):
    open(f'/dev/shm/many/{n}', 'w').close()
entries = os.scandir('/dev/shm/many')
seen = [next(entries).name for _ in range(1000)]
""",
        """
seen += [each.name for each in entries]
assert len(set(seen)) < 3000 and len(os.listdir('/dev/shm/many')) == 3000
""",
    ),
    "names-of-connections": (
        """
l = socket.socket(socket.AF_UNIX)
l.bind('\\0named')
l.listen()
c = socket.socket(socket.AF_UNIX)
c.connect('\\0named')
a, _ = l.accept()
assert c.getpeername() == a.getsockname() == b'\\0named'
""",
        """
assert c.getpeername() == a.getsockname() == '' and l.getsockname() == b'\\0named'
""",
    ),
    "process-at-the-other-end": (
        """
l = socket.socket(socket.AF_UNIX)
l.bind('\\0asked')
l.listen()
def ask():
    c = socket.socket(socket.AF_UNIX)
    c.connect('\\0asked')
    c.recv(1)
pid = in_child(ask)
a, _ = l.accept()
def peer():
    return struct.unpack('3i', a.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
assert peer() == pid
""",
        """
assert peer() == os.getpid()
""",
    ),
    "once-and-without-deleted-files": (
        """
os.mkdir('/dev/shm/watched')
nameless = open('/dev/shm/watched/nameless', 'w')
os.unlink(nameless.name)
once, named = (must(libc.inotify_init1(os.O_NONBLOCK)) for _ in range(2))
must(libc.inotify_add_watch(once, b'/dev/shm/watched', 0x100 | 0x80000000))
must(libc.inotify_add_watch(named, b'/dev/shm/watched', 0x2 | 0x04000000))
""",
        """
for name in ('one', 'two'):
    open(f'/dev/shm/watched/{name}', 'w').close()
events = os.read(once, 999)
assert b'one' in events and b'two' in events
nameless.write('x')
nameless.flush()
assert b'nameless' in os.read(named, 999)
""",
    ),
    "used-entry-of-epoll": (
        """
a, b = socket.socketpair()
e = select.epoll()
e.register(b, select.EPOLLIN | select.EPOLLONESHOT)
a.close()
assert e.poll(5) and not e.poll(0.1)
""",
        """
assert e.poll(5) == [(b.fileno(), select.EPOLLHUP)]
""",
    ),
    "unfinished-line-of-a-terminal": (
        """
import pty
master, slave = pty.openpty()
os.write(master, b'first ')
""",
        """
os.write(master, b'second\\n')
assert os.read(slave, 99) == b'second\\n'
""",
    ),
    "exclusive-terminal": (
        """
import pty, termios
master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCEXCL)
""",
        """
assert fcntl.ioctl(slave, 0x80045440, bytes(4)) == bytes(4)
""",
    ),
    "part-of-a-datagram": (
        """
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('127.0.0.1', 0))
c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
c.connect(s.getsockname())
c.send(b'first ', socket.MSG_MORE)
""",
        """
c.send(b'second')
assert s.recv(99) == b'second'
""",
    ),
    "name-of-a-renamed-unix-socket": (
        """
s = socket.socket(socket.AF_UNIX)
s.bind('/tmp/bound')
os.rename('/tmp/bound', '/tmp/renamed')
""",
        """
assert s.getsockname() == '/tmp/renamed'
""",
    ),
    "urgent-data-of-a-unix-socket": (
        """
a, b = socket.socketpair()
a.send(b'ab')
a.send(b'!', socket.MSG_OOB)
""",
        """
assert b.recv(9) == b'ab!'
try:
    b.recv(1, socket.MSG_OOB)
    assert 0
except OSError:
    pass
""",
    ),
    "bytes-that-a-descriptor-comes-with": (
        """
a, b = socket.socketpair()
a.send(b'before')
socket.send_fds(a, [b'fd'], [0])
""",
        """
data, received, _, _ = socket.recv_fds(b, 6, 4)
assert (data, len(received)) == (b'before', 1) and socket.recv_fds(b, 9, 4)[:2] == (b'fd', [])
""",
    ),
    "datagram-socket-whose-peer-was-closed": (
        """
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind('/tmp/log')
c = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
c.connect('/tmp/log')
s.close()
""",
        """
try:
    c.send(b'x')
    assert 0
except OSError as error:
    assert error.errno == errno.ENOTCONN
""",
    ),
    "signal-of-a-fifo": (
        """
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
os.mkfifo('/tmp/fifo')
f = os.open('/tmp/fifo', os.O_RDWR)
fcntl.fcntl(f, fcntl.F_SETOWN, os.getpid())
fcntl.fcntl(f, fcntl.F_SETFL, os.O_ASYNC)
os.write(f, b'x')
assert signal.sigtimedwait([signal.SIGIO], 5)
""",
        """
os.write(f, b'x')
assert signal.sigtimedwait([signal.SIGIO], 0.2) is None
""",
    ),
    "child-that-is-said-to-have-continued": (
        """
came = []
signal.signal(signal.SIGCHLD, lambda *_: came.append(1))
k = in_child(lambda: time.sleep(3600))
""",
        """
assert os.waitpid(k, os.WCONTINUED | os.WNOHANG) == (k, 0xffff) and came
""",
    ),
    "child-whose-stop-was-seen": (
        """
k = in_child(lambda: time.sleep(3600))
os.kill(k, signal.SIGSTOP)
assert os.waitpid(k, os.WUNTRACED)[0] == k and os.waitpid(k, os.WUNTRACED | os.WNOHANG) == (0, 0)
""",
        """
assert os.waitpid(k, os.WUNTRACED | os.WNOHANG)[0] == k
""",
    ),
    "slice-of-the-scheduler": (
        """
def slice():
    found = ctypes.create_string_buffer(56)
    must(libc.syscall(315, 0, found, 56, 0))
    return struct.unpack_from('IIQiIQQQ', found)[5]
must(libc.syscall(314, 0, struct.pack('IIQiIQQQ', 48, 0, 0, 0, 0, 5_000_000, 0, 0), 0))
if slice() != 5_000_000:
    slice = lambda: 0
""",
        """
assert slice() != 5_000_000
""",
    ),
    "huge-pages-but-for-advised-memory": (
        """
had = libc.prctl(41, 1, 2, 0, 0) == 0 and must(libc.prctl(42, 0, 0, 0, 0))
assert had in (False, 3)
""",
        """
assert had is False or must(libc.prctl(42, 0, 0, 0, 0)) == 1
""",
    ),
    "calls-that-are-dispatched": (
        """
r, w = os.pipe()
selector = ctypes.create_string_buffer(1)
def act():
    must(libc.prctl(59, 1, ctypes.c_ulong(0), ctypes.c_ulong(0), selector))
    os.read(r, 1)
    selector[0] = b'\\1'
    os.getppid()
k = in_child(act)
time.sleep(0.2)
""",
        """
os.write(w, b'x')
assert succeeds(k)
""",
    ),
    "local-descriptor-table": (
        """
entry = ctypes.create_string_buffer(8)
must(libc.syscall(154, 1, struct.pack('IIII', 0, 0x1000, 0xfffff, 0x51), 16))
assert libc.syscall(154, 0, entry, 8) == 8
""",
        """
assert libc.syscall(154, 0, entry, 8) == 0
""",
    ),
}
