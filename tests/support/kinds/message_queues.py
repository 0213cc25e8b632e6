"""POSIX message queues: what is kept, and what is refused."""

from contract.api.states import AgentReason

QUEUES = """
rt = ctypes.CDLL('librt.so.1', use_errno=True)
class Attributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ('flags', 'most', 'size', 'held')] + [('rest', ctypes.c_long * 4)]
def made(name, most=10, size=8192, mode=0o600, flags=os.O_RDWR):
    return must(rt.mq_open(name, os.O_CREAT | os.O_EXCL | flags, mode, ctypes.byref(Attributes(0, most, size))))
def about(queue):
    found = Attributes()
    must(rt.mq_getattr(queue, ctypes.byref(found)))
    return found.flags, found.most, found.size, found.held
def put(queue, text, priority=0):
    must(rt.mq_send(queue, text, ctypes.c_size_t(len(text)), priority))
def got(queue):
    text, priority = ctypes.create_string_buffer(about(queue)[2]), ctypes.c_uint()
    length = must(rt.mq_receive(queue, text, ctypes.c_size_t(len(text)), ctypes.byref(priority)))
    return text.raw[:length], priority.value
"""
_KEPT = {
    "with-messages": (
        """
q = made(b'/jobs', 4, 128)
os.fchown(q, 7, 8)
os.fchmod(q, 0o1640)
put(q, b'first', 1)
put(q, b'urgent', 9)
put(q, b'', 1)
put(q, bytes(128), 0)
""",
        """
assert about(q) == (0, 4, 128, 4)
found = os.fstat(q)
assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o1640, 7, 8)
assert [got(q) for _ in range(4)] == [(b'urgent', 9), (b'first', 1), (b'', 1), (bytes(128), 0)]
again = must(rt.mq_open(b'/jobs', os.O_RDWR))
put(again, b'more')
assert got(q) == (b'more', 0)
""",
    ),
    "that-is-not-open": (
        """
rt.mq_close(made(b'/jobs'))
q = made(b'/others')
put(q, b'kept')
rt.mq_close(q)
""",
        """
assert about(must(rt.mq_open(b'/jobs', os.O_RDWR)))[3] == 0
assert got(must(rt.mq_open(b'/others', os.O_RDWR))) == (b'kept', 0)
""",
    ),
    "open-in-several-ways": (
        """
q = made(b'/jobs', flags=os.O_WRONLY)
r = must(rt.mq_open(b'/jobs', os.O_RDONLY | os.O_NONBLOCK))
copy = os.dup(q)
poll = select.epoll()
poll.register(r, select.EPOLLIN)
signal.signal(signal.SIGUSR1, lambda *_: os._exit(rt.mq_send(q, b'child', ctypes.c_size_t(5), 0)))
k = os.fork()
if k == 0:
    time.sleep(9999)
""",
        """
assert [about(each)[0] & os.O_NONBLOCK for each in (q, copy, r)] == [0, 0, os.O_NONBLOCK]
assert poll.poll(0) == []
put(copy, b'x', 3)
assert poll.poll(0) == [(r, select.EPOLLIN)] and got(r) == (b'x', 3)
try:
    got(r)
    raise AssertionError('it waited')
except OSError as error:
    assert error.errno == errno.EAGAIN
os.kill(k, signal.SIGUSR1)
assert succeeds(k) and got(r) == (b'child', 0)
try:
    put(r, b'x')
    raise AssertionError('it was opened for reading')
except OSError as error:
    assert error.errno == errno.EBADF
must(rt.mq_notify(r, None))
""",
    ),
    "that-a-thread-waits-for": (
        """
q, found = made(b'/jobs'), []
waiting = threading.Thread(target=lambda: found.append(got(q)), daemon=True)
waiting.start()
time.sleep(0.3)
""",
        """
put(q, b'late', 2)
waiting.join(5)
assert found == [(b'late', 2)]
""",
    ),
}
_REFUSED = {
    "that-was-removed": """
q = made(b'/jobs')
must(rt.mq_unlink(b'/jobs'))
""",
    "that-was-removed-and-another-that-is-named-as-it-shows": """
q = made(b'/jobs')
must(rt.mq_unlink(b'/jobs'))
other = made(b'/jobs (deleted)')
""",
    "with-a-signal-for-a-process": """
q = made(b'/jobs')
must(rt.mq_notify(q, struct.pack('Pii', 0, signal.SIGUSR1, 0) + bytes(64)))
""",
    "with-a-name-that-is-no-text": "rt.mq_close(made(b'/\\xff'))",
    "in-a-socket-in-flight": """
a, b = socket.socketpair()
socket.send_fds(a, [b'x'], [made(b'/jobs')])
""",
}
KEPT_QUEUES = {f"queue-{name}": (QUEUES + before, after) for name, (before, after) in _KEPT.items()}
REFUSED_QUEUES = {f"queue-{name}": (QUEUES + before, AgentReason.MESSAGE_QUEUE) for name, before in _REFUSED.items()}
REFUSED_QUEUES["queue-open-as-a-path"] = (
    f"{QUEUES}q = made(b'/jobs')\np = os.open(f'/proc/self/fd/{{q}}', os.O_PATH)",
    AgentReason.UNSUPPORTED_DESCRIPTOR,
)
