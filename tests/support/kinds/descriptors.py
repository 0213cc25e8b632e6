"""Open files of all kinds that a restored worker has as before: what makes one, and what shows that it works."""

KEPT = {
    "pipe": (
        """
r, w = os.pipe()
os.write(w, b'x' * 5000)
""",
        """
assert os.read(r, 9999) == b'x' * 5000
""",
    ),
    "pipe-size": (
        """
r, w = os.pipe()
fcntl.fcntl(w, 1031, 1 << 17)
""",
        """
assert fcntl.fcntl(w, 1032) == 1 << 17
""",
    ),
    "flags-of-descriptors": (
        """
r, w = os.pipe()
os.set_blocking(r, False)
os.set_inheritable(w, True)
""",
        """
assert not os.get_blocking(r) and os.get_inheritable(w) and not os.get_inheritable(r)
""",
    ),
    "eventfd": (
        """
e = os.eventfd(7)
""",
        """
assert os.eventfd_read(e) == 7
""",
    ),
    "epoll": (
        """
r, w = os.pipe()
e = select.epoll()
e.register(r, select.EPOLLIN)
""",
        """
os.write(w, b'x')
assert e.poll(5) == [(r, select.EPOLLIN)]
""",
    ),
    "signalfd": (
        """
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
mask = (ctypes.c_ulong * 16)(1 << (signal.SIGUSR1 - 1))
s = must(libc.signalfd(-1, mask, 0))
""",
        """
os.kill(os.getpid(), signal.SIGUSR1)
assert struct.unpack_from('I', os.read(s, 128))[0] == signal.SIGUSR1
""",
    ),
    "fifo": (
        """
os.mkfifo('/tmp/fifo')
f = os.open('/tmp/fifo', os.O_RDWR)
os.write(f, b'hello')
""",
        """
assert os.read(f, 9) == b'hello'
""",
    ),
    "fifo-of-two-names": (
        """
os.mkfifo('/tmp/one')
f = os.open('/tmp/one', os.O_RDWR)
os.link('/tmp/one', '/tmp/other')
""",
        """
os.write(os.open('/tmp/other', os.O_WRONLY | os.O_NONBLOCK), b'hello')
assert select.select([f], [], [], 5)[0] and os.read(f, 9) == b'hello'
""",
    ),
    "flock": (
        """
f = open('/tmp/locked', 'w')
fcntl.flock(f, fcntl.LOCK_EX)
""",
        """
try:
    fcntl.flock(open('/tmp/locked'), fcntl.LOCK_SH | fcntl.LOCK_NB)
    assert 0
except BlockingIOError:
    pass
""",
    ),
    "record-lock": (
        """
f = open('/tmp/locked', 'w')
fcntl.lockf(f, fcntl.LOCK_EX, 10, 5)
""",
        """
def other():
    try:
        fcntl.lockf(open('/tmp/locked', 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 7)
        os._exit(1)
    except BlockingIOError:
        pass
assert succeeds(in_child(other))
""",
    ),
    "record-lock-of-another-process-than-the-one-that-maps": (
        """
f = open('/tmp/locked', 'w+b')
f.truncate(4096)
r, w = os.pipe()
def maps():
    m = mmap.mmap(os.open('/tmp/locked', os.O_RDWR), 4096)
    os.read(r, 1)
k = in_child(maps)
g = os.open('/tmp/locked', os.O_RDWR)
fcntl.lockf(f, fcntl.LOCK_EX, 1)
time.sleep(0.2)
""",
        """
def other():
    try:
        fcntl.lockf(open('/tmp/locked', 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
        os._exit(1)
    except BlockingIOError:
        pass
assert succeeds(in_child(other))
os.write(w, b'x')
assert succeeds(k)
""",
    ),
    "eventfds-of-semaphores-and-large-counts": (
        """
e = os.eventfd(3, os.EFD_SEMAPHORE)
n = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)
large = os.eventfd(0)
os.eventfd_write(large, (1 << 40) + 5)
copy, plain = os.dup(e), os.eventfd(7)
poll = select.epoll()
poll.register(e, select.EPOLLIN)
poll.register(n, select.EPOLLIN)
at = os.pipe()
def child():
    assert os.eventfd_read(e) == 1
    os.write(at[1], b'x')
    time.sleep(9999)
signal.signal(signal.SIGUSR1, lambda *_: os._exit(os.eventfd_read(e) - 1))
k = os.fork()
if k == 0:
    child()
assert os.read(at[0], 1) == b'x'
""",
        """
assert [os.eventfd_read(copy)] == [1]
assert poll.poll(0) == [(e, select.EPOLLIN)], 'it still holds one'
os.kill(k, signal.SIGUSR1)
assert succeeds(k)
assert poll.poll(0) == [], 'the child has taken it: one counter for both'
try:
    os.eventfd_read(n)
    raise AssertionError('it blocked')
except BlockingIOError:
    pass
os.eventfd_write(n, 2)
assert poll.poll(0) == [(n, select.EPOLLIN)] and [os.eventfd_read(n), os.eventfd_read(n)] == [1, 1]
assert os.eventfd_read(large) == (1 << 40) + 5 and os.eventfd_read(plain) == 7
assert not fcntl.fcntl(e, fcntl.F_GETFL) & os.O_NONBLOCK
""",
    ),
    "memfd": (
        """
m = os.memfd_create('x')
os.write(m, b'hello')
v = mmap.mmap(m, 5)
v[:1] = b'H'
""",
        """
assert v[:] == b'Hello' and os.pread(m, 9, 0) == b'Hello'
""",
    ),
    "programs-from-memfds": (
        """
def running(name, closes, seals=0):
    m = os.memfd_create(name, os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC * closes)
    os.write(m, open('/usr/bin/cat', 'rb').read())
    os.fchown(m, 7, 8)
    os.fchmod(m, 0o510)
    if seals:
        fcntl.fcntl(m, 1033, seals)
    (theirs, to), (out, back) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(theirs, 0)
        os.dup2(back, 1)
        os.execve(m, ['cat'], dict(os.environ))
    for each in (m, theirs, back):
        os.close(each)
    os.write(to, b'before')
    assert os.read(out, 9) == b'before'
    return pid, to, out, name, seals
def about(pid):
    with open(f'/proc/{pid}/exe', 'rb') as program:
        found = os.fstat(program.fileno())
        rights = oct(found.st_mode), found.st_uid, found.st_gid
        return os.readlink(f'/proc/{pid}/exe'), program.read(), fcntl.fcntl(program.fileno(), 1034), rights
programs = [running('cat', 1), running('a name', 0), running('cat', 1), running('sealed', 1, 0xf)]
whole = open('/usr/bin/cat', 'rb').read()
""",
        """
for pid, to, out, name, seals in programs:
    os.write(to, b'after')
    assert os.read(out, 9) == b'after', name
    rights = '0o100510', 7, 8
    assert about(pid) == (f'/memfd:{name} (deleted)', whole, seals, rights), (name, about(pid)[::2], about(pid)[3])
""",
    ),
    "program-from-a-memfd-that-none-may-run-any-more": (
        """
m = os.memfd_create('sleep')
os.write(m, open('/usr/bin/sleep', 'rb').read())
k = os.fork()
if k == 0:
    os.execve(m, ['sleep', '600'], dict(os.environ))
while 'memfd' not in os.readlink(f'/proc/{k}/exe'):
    time.sleep(0.01)
os.fchmod(m, 0o640)
""",
        """
assert os.stat(f'/proc/{k}/exe').st_mode & 0o7777 == 0o740 and os.fstat(m).st_mode & 0o7777 == 0o640
""",
    ),
    "program-in-a-file-that-is-named-as-memfds-are": (
        """
with open('/memfd:cat', 'wb') as file:
    file.write(open('/usr/bin/cat', 'rb').read())
os.chmod('/memfd:cat', 0o755)
(theirs, to), (out, back) = os.pipe(), os.pipe()
k = os.fork()
if k == 0:
    os.dup2(theirs, 0)
    os.dup2(back, 1)
    os.execv('/memfd:cat', ['cat'])
os.write(to, b'before')
assert os.read(out, 9) == b'before'
""",
        """
os.write(to, b'after')
assert os.read(out, 9) == b'after' and os.readlink(f'/proc/{k}/exe') == '/memfd:cat'
""",
    ),
    "memfd-sealed-against-resizing": (
        """
m = os.memfd_create('x', os.MFD_ALLOW_SEALING)
os.write(m, b'hello')
fcntl.fcntl(m, 1033, 6)
v = mmap.mmap(m, 5)
""",
        """
assert v[:] == b'hello' and fcntl.fcntl(m, 1034) == 6
""",
    ),
    "memfd-sealed-against-writing": (
        """
m = os.memfd_create('x', os.MFD_ALLOW_SEALING)
os.write(m, b'hello')
fcntl.fcntl(m, 1033, 0xf)
""",
        """
assert os.pread(m, 9, 0) == b'hello' and fcntl.fcntl(m, 1034) == 0xf
""",
    ),
    "file-without-a-name": (
        """
f = os.open('/tmp', os.O_TMPFILE | os.O_RDWR)
os.write(f, b'hello')
""",
        """
assert os.pread(f, 9, 0) == b'hello'
""",
    ),
    "lease": (
        """
f = open('/tmp/leased', 'w')
f.write('x' * 9000), f.flush()
fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)
""",
        """
assert fcntl.fcntl(f, fcntl.F_GETLEASE) == fcntl.F_WRLCK
""",
    ),
    "unlinked-file": (
        """
f = open('/tmp/unlinked', 'w+b')
f.write(b'hello')
f.flush()
os.unlink('/tmp/unlinked')
""",
        """
f.seek(0)
assert f.read() == b'hello' and not os.path.exists('/tmp/unlinked')
""",
    ),
    "file-position-shared-with-a-child": (
        """
f = os.open('/tmp/shared', os.O_RDWR | os.O_CREAT)
os.write(f, b'0123456789')
os.lseek(f, 4, 0)
r, w = os.pipe()
pid = in_child(lambda: (os.read(r, 1), os.lseek(f, 2, 1)))
""",
        """
os.write(w, b'x')
assert succeeds(pid) and os.lseek(f, 0, 1) == 6
""",
    ),
    "directory-and-path-descriptors": (
        """
d = os.open('/tmp', os.O_RDONLY | os.O_DIRECTORY)
p = os.open('/etc/hostname', os.O_PATH)
""",
        """
assert os.path.isdir('/tmp/') and os.stat(d).st_ino == os.stat('/tmp').st_ino and os.fstat(p)
""",
    ),
    "devices": (
        """
n = os.open('/dev/null', os.O_RDWR)
z = os.open('/dev/zero', os.O_RDONLY)
u = os.open('/dev/urandom', os.O_RDONLY)
""",
        """
os.write(n, b'x')
assert os.read(z, 4) == bytes(4) and len(os.read(u, 4)) == 4
""",
    ),
    "proc-files": (
        """
p = open('/proc/self/stat')
p.read()
q = open('/proc/meminfo')
""",
        """
p.seek(0)
assert p.read() and q.read()
""",
    ),
    "pidfd-of-a-process-that-has-ended": (
        """
pid = in_child(lambda: os._exit(0))
p = os.pidfd_open(pid)
assert succeeds(pid)
""",
        """
assert select.select([p], [], [], 0)[0]
""",
    ),
    "fanotify": (
        """
n = must(libc.fanotify_init(2, 0))
must(libc.fanotify_mark(n, 1, ctypes.c_ulonglong(0x8 | 0x08000000), -100, b'/dev/shm'))
""",
        """
open('/dev/shm/new', 'w').close()
assert select.select([n], [], [], 5)[0] and os.read(n, 999)
""",
    ),
    "pidfd": (
        """
r, w = os.pipe()
pid = in_child(lambda: os.read(r, 1))
p = os.pidfd_open(pid)
""",
        """
os.write(w, b'x')
assert select.select([p], [], [], 5)[0] and succeeds(pid)
""",
    ),
}
