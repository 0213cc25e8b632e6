"""What processes and their memory are, as before: what makes it so, and what shows it."""

KEPT = {
    "pending-signal": (
        """
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
os.kill(os.getpid(), signal.SIGUSR1)
""",
        """
assert signal.SIGUSR1 in signal.sigpending()
""",
    ),
    "posix-semaphore": (
        """
import multiprocessing
s = multiprocessing.get_context('fork').Semaphore(3)
s.acquire()
""",
        """
assert s.acquire(block=False) and s.acquire(block=False) and not s.acquire(block=False)
""",
    ),
    "unlinked-program": (
        """
import shutil
shutil.copy('/usr/bin/sleep', '/tmp/program')
pid = os.fork()
if pid == 0:
    os.execv('/tmp/program', ['program', '3600'])
time.sleep(0.3)
os.unlink('/tmp/program')
""",
        """
os.kill(pid, 15)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -15
""",
    ),
    "folder-whose-name-looks-deleted": (
        """
os.makedirs('/tmp/here (deleted)')
os.chdir('/tmp/here (deleted)')
d = os.open('.', os.O_RDONLY)
""",
        """
assert os.getcwd() == '/tmp/here (deleted)' and os.path.samestat(os.fstat(d), os.stat('.'))
""",
    ),
    "unlinked-folder": (
        """
os.makedirs('/tmp/going')
os.chdir('/tmp/going')
os.rmdir('/tmp/going')
""",
        """
assert 'deleted' in os.readlink('/proc/self/cwd')
""",
    ),
    "parent-death-signal": (
        """
must(libc.prctl(1, 15, 0, 0, 0))
pid = in_child(lambda: (must(libc.prctl(1, 9, 0, 0, 0)), time.sleep(3600)))
time.sleep(0.2)
""",
        """
assert os.waitpid(pid, os.WNOHANG) == (0, 0)
""",
    ),
    "another-user": (
        """
r, w = os.pipe()
def act():
    os.setgroups([5, 6])
    os.setgid(7)
    os.setuid(8)
    os.read(r, 1)
    assert (os.getuid(), os.getgid(), os.getgroups()) == (8, 7, [5, 6])
pid = in_child(act)
time.sleep(0.2)
""",
        """
os.write(w, b'x')
assert succeeds(pid)
""",
    ),
    "another-root": (
        """
r, w = os.pipe()
os.makedirs('/tmp/jail')
def act():
    os.chroot('/tmp/jail')
    os.chdir('/')
    os.read(r, 1)
    assert os.listdir('/') == []
pid = in_child(act)
time.sleep(0.2)
""",
        """
os.write(w, b'x')
assert succeeds(pid)
""",
    ),
    "shared-anonymous-memory": (
        """
m = mmap.mmap(-1, 1 << 20)
m[:5] = b'hello'
r, w = os.pipe()
pid = in_child(lambda: (os.read(r, 1), m.__setitem__(slice(0, 5), b'child')))
""",
        """
assert m[:5] == b'hello'
os.write(w, b'x')
assert succeeds(pid) and m[:5] == b'child'
""",
    ),
    "unlinked-with-the-longest-name": (
        """
f = open('/tmp/' + 237 * 'n', 'w+')
f.write('hello')
f.flush()
os.unlink(f.name)
""",
        """
f.seek(0)
assert f.read() == 'hello'
""",
    ),
    "unlinked-and-mapped": (
        """
f = open('/tmp/mapped', 'w+b')
f.write(b'hello' * 1000)
f.flush()
m = mmap.mmap(f.fileno(), 5000)
f.close()
os.unlink('/tmp/mapped')
m[:5] = b'HELLO'
""",
        """
assert m[:10] == b'HELLOhello'
""",
    ),
    "orphan-of-a-session-whose-leader-ended": (
        """
def daemonize():
    os.setsid()
    if os.fork() == 0:
        time.sleep(3600)
    os._exit(0)
leader = in_child(daemonize)
os.waitpid(leader, 0)
def orphans():
    with open(f'/proc/self/task/{os.getpid()}/children') as file:
        return [int(word) for word in file.read().split()]
(orphan,) = orphans()
""",
        """
assert orphans() == [orphan] and os.getsid(orphan) == leader
os.kill(orphan, 9)
assert os.waitpid(orphan, 0) == (orphan, 9)
""",
    ),
    "zombie": (
        """
pid = in_child(lambda: os._exit(7))
time.sleep(0.3)
""",
        """
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
""",
    ),
    "session-and-group": (
        """
r, w = os.pipe()
def apart():
    os.setsid()
    os.read(r, 1)
    os._exit(0 if os.getsid(0) == os.getpid() else 1)
pid = in_child(apart)
time.sleep(0.2)
""",
        """
os.write(w, b'x')
assert succeeds(pid)
""",
    ),
    "rlimits": (
        """
resource.setrlimit(resource.RLIMIT_NOFILE, (500, 600))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
""",
        """
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (500, 600) and resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
""",
    ),
    "nice": (
        """
os.nice(5)
""",
        """
assert os.nice(0) == 5
""",
    ),
    "scheduling": (
        """
os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
os.sched_setaffinity(0, {0})
""",
        """
assert os.sched_getscheduler(0) == os.SCHED_BATCH
""",
    ),
    "no-new-privileges": (
        """
must(libc.prctl(38, 1, 0, 0, 0))
""",
        """
assert status('NoNewPrivs') == '1'
""",
    ),
    "own-seccomp-filter": (
        """
must(libc.prctl(38, 1, 0, 0, 0))
code = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7fff0000))
must(libc.prctl(22, 2, struct.pack('HxxxxxxP', 1, ctypes.addressof(code)), 0, 0))
had = status('Seccomp')
""",
        """
assert status('Seccomp') == had == '2'
""",
    ),
    "capabilities-given-up": (
        """
must(libc.prctl(24, 21, 0, 0, 0))
had = status('CapBnd')
""",
        """
assert status('CapBnd') == had
""",
    ),
    "names": (
        """
must(libc.prctl(15, b'renamed', 0, 0, 0))
""",
        """
assert open('/proc/self/comm').read() == 'renamed\\n'
""",
    ),
    "subreaper": (
        """
must(libc.prctl(36, 1, 0, 0, 0))
""",
        """
v = ctypes.c_int()
must(libc.prctl(37, ctypes.byref(v), 0, 0, 0))
assert v.value == 1
""",
    ),
    "not-dumpable": (
        """
must(libc.prctl(4, 0, 0, 0, 0))
""",
        """
assert must(libc.prctl(3, 0, 0, 0, 0)) == 0
""",
    ),
    "umask-and-folder": (
        """
os.umask(0o27)
os.makedirs('/tmp/here', exist_ok=True)
os.chdir('/tmp/here')
""",
        """
assert os.umask(0) == 0o27 and os.getcwd() == '/tmp/here'
""",
    ),
    "signal-handlers": (
        """
hits = []
signal.signal(signal.SIGUSR2, lambda *_: hits.append(1))
signal.signal(signal.SIGHUP, signal.SIG_IGN)
""",
        """
os.kill(os.getpid(), signal.SIGHUP)
os.kill(os.getpid(), signal.SIGUSR2)
time.sleep(0.1)
assert hits == [1]
""",
    ),
    "settings-of-threads": (
        """
SET, GET = (251, 252) if os.uname().machine == 'x86_64' else (30, 31)
def own(cpu, level, slack):
    os.sched_setaffinity(0, {cpu})
    must(libc.syscall(SET, 1, 0, (2 << 13) | level))
    must(libc.prctl(29, slack, 0, 0, 0))
def found():
    return os.sched_getaffinity(0), libc.syscall(GET, 1, 0) & 7, libc.prctl(30, 0, 0, 0, 0)
last = max(os.sched_getaffinity(0))
go, seen = threading.Event(), []
def run():
    own(last, 6, 654321)
    up.set()
    go.wait()
    seen.append(found())
up = threading.Event()
thread = threading.Thread(target=run, daemon=True)
thread.start()
assert up.wait(5)
own(0, 7, 123456)
k = in_child(lambda: time.sleep(9999))
""",
        """
go.set()
thread.join()
assert (found(), seen) == (({0}, 7, 123456), [({last}, 6, 654321)]), (found(), seen)
assert os.sched_getaffinity(k) == {0}
""",
    ),
    "locked-memory": (
        """
m = mmap.mmap(-1, 1 << 16)
b = (ctypes.c_char * 1).from_buffer(m)
must(libc.mlock(ctypes.c_void_p(ctypes.addressof(b)), 1 << 16))
""",
        """
assert int(status('VmLck')) >= 64
""",
    ),
    "memory-not-for-children": (
        """
m = mmap.mmap(-1, 1 << 16)
m.madvise(10)
m[0] = 7
""",
        """
assert m[0] == 7
""",
    ),
    "oom-score": (
        """
open('/proc/self/oom_score_adj', 'w').write('500')
""",
        """
assert open('/proc/self/oom_score_adj').read() == '500\\n'
""",
    ),
    "threads-with-names": (
        """
gate = threading.Event()
names = []
def run():
    libc.prctl(15, b'mine', 0, 0, 0)
    gate.wait()
    names.append(open('/proc/thread-self/comm').read())
all = [threading.Thread(target=run) for _ in range(20)]
[t.start() for t in all]
time.sleep(0.2)
""",
        """
gate.set()
[t.join(5) for t in all]
assert names == ['mine\\n'] * 20
""",
    ),
}
