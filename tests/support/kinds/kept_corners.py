"""Corners of what is kept: threads with rights of their own, handlers under way, advice about memory, odd names."""

_IN_THREAD = """
class Apart(threading.Thread):
    def __init__(self, act, found):
        super().__init__(daemon=True)
        self.act, self.found, self.up, self.gate, self.same = act, found, threading.Event(), threading.Event(), None
        self.start()
        assert self.up.wait(5)
    def run(self):
        self.act()
        had = self.found()
        self.up.set()
        self.gate.wait()
        self.same = had == self.found() or (had, self.found())
    def is_same(self):
        self.gate.set()
        self.join(5)
        return self.same
"""
_RIGHTS = (
    _IN_THREAD
    + """
def rights():
    names = ('Uid', 'Gid', 'Groups', 'CapInh', 'CapPrm', 'CapEff', 'NoNewPrivs', 'Seccomp')
    with open(f'/proc/self/task/{threading.get_native_id()}/status') as file:
        return [line for line in file if line.split(':')[0] in names]
code = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7fff0000))
def filtered():
    must(libc.prctl(38, 1, 0, 0, 0))
    must(libc.prctl(22, 2, struct.pack('HxxxxxxP', 1, ctypes.addressof(code)), 0, 0))
acts = {
    'user': lambda: must(libc.syscall(117, 0, 8, 0)),
    'user of files': lambda: libc.syscall(122, 9),
    'groups': lambda: must(libc.syscall(116, 2, (ctypes.c_uint * 2)(5, 6))),
    'capabilities': lambda: must(
        libc.capset(struct.pack('Ii', 0x20080522, 0), struct.pack('6I', 511, 511, 0, 0, 0, 0))
    ),
    'filter': filtered,
}
threads = {name: Apart(act, rights) for name, act in acts.items()}
own = rights()
"""
)
_ACTION = """
class Action(ctypes.Structure):
    _fields_ = [
        ('call', ctypes.c_void_p), ('mask', ctypes.c_ulong * 16), ('flags', ctypes.c_int), ('back', ctypes.c_void_p)
    ]
def handle(number, act, flags=0):
    called = ctypes.CFUNCTYPE(None, ctypes.c_int)(act)
    must(libc.sigaction(number, ctypes.byref(Action(ctypes.cast(called, ctypes.c_void_p), flags=flags)), None))
    return called
def is_blocked(number):
    return number in signal.pthread_sigmask(signal.SIG_BLOCK, [])
"""


def _polls(call: str) -> tuple[str, str]:
    """Wait in poll(2) without a limit, by that call, in a child that blocks all signals."""
    before = f"""
r, w = os.pipe()
asked = struct.pack('iHH', r, select.POLLIN, 0)
def act():
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    assert {call} == 1
k = in_child(act)
time.sleep(0.2)
"""
    after = """
time.sleep(0.3)
os.write(w, b'x')
assert succeeds(k)
"""
    return before, after


KEPT_CORNERS = {
    "rights-of-single-threads": (
        _RIGHTS,
        """
assert {name: True for name in acts} == {name: each.is_same() for name, each in threads.items()}
assert own == rights()
""",
    ),
    "scheduling-of-single-threads": (
        _IN_THREAD
        + """
def found():
    return os.sched_getscheduler(0), os.sched_getparam(0).sched_priority, os.getpriority(0, threading.get_native_id())
threads = [
    Apart(lambda: os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 7), found),
    Apart(lambda: os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(5)), found),
    Apart(lambda: os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0)), found),
]
""",
        """
assert [True] * 3 == [each.is_same() for each in threads]
""",
    ),
    "signal-mask-of-a-wait": (
        _ACTION
        + """
log, ids = [], []
signal.pthread_sigmask(signal.SIG_BLOCK, [10])
handler = handle(10, log.append)
def run():
    ids.append(threading.get_native_id())
    libc.sigsuspend((ctypes.c_ulong * 16)())
    log.append(is_blocked(10))
t = threading.Thread(target=run, daemon=True)
t.start()
time.sleep(0.3)
""",
        """
assert log == []
libc.syscall(234, os.getpid(), ids[0], 10)
t.join(5)
assert log == [10, True]
""",
    ),
    "handler-under-way-on-a-stack-of-its-own": (
        _ACTION
        + """
class Stack(ctypes.Structure):
    _fields_ = [('pointer', ctypes.c_void_p), ('flags', ctypes.c_int), ('size', ctypes.c_size_t)]
def is_on_it():
    now = Stack()
    must(libc.sigaltstack(None, ctypes.byref(now)))
    return now.flags
r, w = os.pipe()
up, log = threading.Event(), []
def act(_):
    up.set()
    os.read(r, 1)
    log.append((is_on_it(), is_blocked(10)))
handler = handle(10, act, 0x08000000)
def run():
    memory = ctypes.create_string_buffer(1 << 20)
    must(libc.sigaltstack(ctypes.byref(Stack(ctypes.addressof(memory), 0, 1 << 20)), None))
    libc.syscall(234, os.getpid(), threading.get_native_id(), 10)
    log.append((is_on_it(), is_blocked(10)))
t = threading.Thread(target=run, daemon=True)
t.start()
assert up.wait(5)
""",
        """
os.write(w, b'x')
t.join(5)
assert log == [(1, True), (0, False)]
""",
    ),
    "advice-about-children": (
        """
def mapped(advice):
    m = must(libc.mmap(None, ctypes.c_size_t(1 << 16), 3, 0x22, -1, ctypes.c_long(0)))
    ctypes.memset(m, 7, 1 << 16)
    must(libc.madvise(ctypes.c_void_p(m), ctypes.c_size_t(1 << 16), advice))
    return m
none, wiped = mapped(10), mapped(18)
""",
        """
assert ctypes.string_at(none, 1) == ctypes.string_at(wiped, 1) == b'\\7'
assert succeeds(in_child(lambda: os._exit(0 if ctypes.string_at(wiped, 1) == b'\\0' else 1)))
assert os.waitstatus_to_exitcode(os.waitpid(in_child(lambda: ctypes.string_at(none, 1)), 0)[1]) == -11
""",
    ),
    "restartable-sequences": (
        """
at = ctypes.c_ssize_t.in_dll(libc, '__rseq_offset').value
libc.pthread_self.restype = ctypes.c_ulong
def processor():
    return ctypes.c_uint.from_address(libc.pthread_self() + at + 4).value
""",
        """
for each in os.sched_getaffinity(0):
    os.sched_setaffinity(0, {each})
    time.sleep(0.01)
    assert processor() == each
""",
    ),
    "strict-seccomp": (
        """
r, w = os.pipe()
byte = ctypes.create_string_buffer(1)
def act():
    must(libc.prctl(22, 1))
    libc.read(r, byte, 1)
    libc.syscall(60, 5)
k = in_child(act)
time.sleep(0.2)
""",
        """
with open(f'/proc/{k}/status') as file:
    assert 'Seccomp:\\t1\\n' in file
os.write(w, b'x')
assert os.waitstatus_to_exitcode(os.waitpid(k, 0)[1]) == 5
""",
    ),
    "program-of-32-bits": (
        """
code = bytes.fromhex('b81d000000cd80ebf7')
header = b'\\x7fELF\\1\\1\\1' + bytes(9)
header += struct.pack('<HHIIIIIHHHHHH', 2, 3, 1, 0x8048054, 52, 0, 0, 52, 32, 1, 0, 0, 0)
header += struct.pack('<8I', 1, 0, 0x8048000, 0x8048000, 84 + len(code), 84 + len(code), 5, 4096)
with open('/tmp/program', 'wb') as file:
    file.write(header + code)
os.chmod('/tmp/program', 0o755)
k = os.fork()
if k == 0:
    os.execv('/tmp/program', ['program'])
time.sleep(0.2)
assert os.waitpid(k, os.WNOHANG) == (0, 0)
""",
        """
assert os.waitpid(k, os.WNOHANG) == (0, 0)
os.kill(k, 15)
assert os.waitpid(k, 0) == (k, 15)
""",
    ),
    "odd-names": (
        """
names = [b'file (deleted)', b'two\\nlines', b'back\\\\slash', b'\\xff\\xfe', b'tab\\t', b'%s%n']
opened = {}
for name in [folder + name for folder in (b'/tmp/', b'/dev/shm/', b'/scratch/') for name in names]:
    f = os.open(name, os.O_RDWR | os.O_CREAT)
    os.write(f, name)
    opened[name] = f, mmap.mmap(f, len(name))
listener = socket.socket(socket.AF_UNIX)
listener.bind(b'/tmp/socket\\n\\xff')
listener.listen()
must(libc.prctl(15, b'\\xff) S 1 (', 0, 0, 0))
k = in_child(lambda: time.sleep(9999))
""",
        """
for name, (f, m) in opened.items():
    assert name == m[:] == os.pread(f, 99, 0) == open(name, 'rb').read()
socket.socket(socket.AF_UNIX).connect(b'/tmp/socket\\n\\xff')
""",
    ),
    "terminal-of-a-shell-with-a-job-in-front": (
        """
import pty
k, master = pty.fork()
if k == 0:
    job = os.fork()
    if job == 0:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored in what a shell without terminal starts beside itself
        time.sleep(9999)
    time.sleep(0.1)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, job)
    os.waitpid(job, 0)
    os._exit(7)
time.sleep(0.5)
had = os.tcgetpgrp(master)
""",
        """
assert os.tcgetpgrp(master) == had
os.write(master, b'\\3')
assert os.waitstatus_to_exitcode(os.waitpid(k, 0)[1]) == 7
""",
    ),
    "poll-of-a-process": _polls("libc.poll(asked, 1, -1)"),
    "poll-by-an-instruction-of-many-calls": _polls(
        "libc.syscall(ctypes.c_long(7), asked, ctypes.c_long(1), ctypes.c_long(-1))"
    ),
    "waits-without-a-limit": (
        """
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
def wait(name, call):
    ctypes.set_errno(0)
    ended[name] = call(), ctypes.get_errno()
buffer = ctypes.create_string_buffer(256)
word = ctypes.c_int(5)
context = ctypes.c_ulong(0)
must(libc.syscall(206, 8, ctypes.byref(context)))
r, w = os.pipe()
pollers = [select.epoll() for _ in range(2)]
[each.register(r, select.EPOLLIN) for each in pollers]
asked = struct.pack('iHH', r, select.POLLIN, 0)
waits = {
    'epoll': lambda: libc.epoll_wait(pollers[0].fileno(), buffer, 1, -1),
    'epoll_pwait': lambda: libc.epoll_pwait(pollers[1].fileno(), buffer, 1, -1, b'\\xff' * 128),
    'poll': lambda: libc.poll(asked, 1, -1),
    'select': lambda: libc.select(r + 1, (1 << r).to_bytes(128, 'little'), None, None, None),
    'sigwaitinfo': lambda: libc.sigwaitinfo((1 << signal.SIGUSR1 - 1).to_bytes(128, 'little'), None),
    'io_getevents': lambda: libc.syscall(208, context, ctypes.c_long(1), ctypes.c_long(1), buffer, None),
    'futex': lambda: libc.syscall(202, ctypes.byref(word), 128, 5, None, None, 0),
}
ended = {}
threads = {name: threading.Thread(target=wait, args=(name, call), daemon=True) for name, call in waits.items()}
[t.start() for t in threads.values()]
time.sleep(0.2)
assert not ended
""",
        """
time.sleep(0.3)
assert not ended, ended
os.write(w, b'x')
os.kill(os.getpid(), signal.SIGUSR1)
answers = {'epoll': 1, 'epoll_pwait': 1, 'poll': 1, 'select': 1, 'sigwaitinfo': int(signal.SIGUSR1)}
[threads[name].join(5) for name in answers]
assert ended == {name: (answer, 0) for name, answer in answers.items()}, ended
""",
    ),
}
