"""System V shared memory, semaphores and message queues: kept, or refused by name."""

from contract.api.states import AgentReason

CALLS = """
libc.shmat.restype, libc.shmat.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
libc.shmdt.argtypes = (ctypes.c_void_p,)
CREATE, READ_ONLY, NO_WAIT, UNDO = 0o1600, 0o10000, 0o4000, 0x1000
def attached(number, flags=0):
    at = libc.shmat(number, None, flags)
    assert at != ctypes.c_void_p(-1).value, ctypes.get_errno()
    return at
def rows(kind):
    with open('/proc/sysvipc/' + kind) as file:
        head, *lines = file.read().splitlines()
    return [dict(zip(head.split(), map(int, line.split()))) for line in lines]
def operate(number, *operations):
    packed = b''.join(struct.pack('=Hhh', *each) for each in operations)
    return libc.semop(number, packed, ctypes.c_size_t(len(operations)))
def send(number, kind, text, flags=0):
    return libc.msgsnd(number, struct.pack('q', kind) + text, ctypes.c_size_t(len(text)), flags)
def receive(number, kind=0, flags=0):
    room = ctypes.create_string_buffer(8192)
    size = must(libc.msgrcv(number, room, ctypes.c_size_t(8000), ctypes.c_long(kind), flags))
    return struct.unpack('q', room.raw[:8])[0], room.raw[8:8 + size]
def without_times(kind):
    known = {'atime', 'dtime', 'ctime', 'otime', 'stime', 'rtime', 'cpid', 'lpid', 'lspid', 'lrpid', 'rss', 'swap'}
    return [{name: value for name, value in row.items() if name not in known} for row in rows(kind)]
"""
_KEPT = {
    "memory-of-two-processes": (
        """
i = must(libc.shmget(0x1234, 20000, CREATE))
a = attached(i)
ctypes.memmove(a + 12000, b'written', 7)
ready, go = os.pipe(), os.pipe()
def child():
    ctypes.memmove(a, b'by the child', 12)
    os.write(ready[1], b'.')
    os.read(go[0], 1)
    assert ctypes.string_at(a + 16000, 5) == b'again'
    ctypes.memmove(a + 4096, b'answer', 6)
k = in_child(child)
os.read(ready[0], 1)
before = without_times('shm')
""",
        """
assert without_times('shm') == before and before[0]['nattch'] == 2, (before, without_times('shm'))
assert ctypes.string_at(a, 12) == b'by the child' and ctypes.string_at(a + 12000, 7) == b'written'
ctypes.memmove(a + 16000, b'again', 5)
os.write(go[1], b'.')
assert succeeds(k) and ctypes.string_at(a + 4096, 6) == b'answer'
assert must(libc.shmget(0x1234, 20000, 0o600)) == i
""",
    ),
    "memory-attached-to-read": (
        """
i = must(libc.shmget(0, 8192, CREATE))
a, r = attached(i), attached(i, READ_ONLY)
ctypes.memmove(a, b'first', 5)
def writes_there():
    ctypes.memset(ctypes.c_void_p(r), 1, 1)
def may_not_be_written(at):
    return libc.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(4096), 3) == -1
assert may_not_be_written(r)
""",
        """
assert ctypes.string_at(r, 5) == b'first' and may_not_be_written(r)
ctypes.memmove(a, b'later', 5)
assert ctypes.string_at(r, 5) == b'later'
assert os.waitstatus_to_exitcode(os.waitpid(in_child(writes_there), 0)[1]) == -11
""",
    ),
    "memory-of-several-protections": (
        """
i = must(libc.shmget(0, 5 * 4096, CREATE))
a = attached(i)
ctypes.memset(ctypes.c_void_p(a), 7, 5 * 4096)
must(libc.mprotect(ctypes.c_void_p(a + 4096), ctypes.c_size_t(4096), 1))
must(libc.mprotect(ctypes.c_void_p(a + 3 * 4096), ctypes.c_size_t(4096), 0))
must(libc.madvise(ctypes.c_void_p(a), ctypes.c_size_t(4096), 10))
must(libc.mlock(ctypes.c_void_p(a + 4096), ctypes.c_size_t(4096)))
def layout():
    lines = open('/proc/self/smaps').read().splitlines()
    at = [n for n, line in enumerate(lines) if '/SYSV' in line]
    flags = [next(line for line in lines[n:] if line.startswith('VmFlags')) for n in at]
    return [lines[n].split()[:3] for n in at], [set(line.split()) & {'dc', 'lo', 'wr', 'rd'} for line in flags]
before = layout()
""",
        """
assert layout() == before, (before, layout())
assert ctypes.string_at(a + 4 * 4096, 4) == b'\\7' * 4
""",
    ),
    "memory-that-is-removed-already": (
        """
i = must(libc.shmget(0x77, 4096, CREATE))
a = attached(i)
ctypes.memmove(a, b'still here', 10)
must(libc.shmctl(i, 0, None))
k = in_child(lambda: signal.sigwait([signal.SIGUSR1]))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
""",
        """
(row,) = rows('shm')
assert row['shmid'] == i and row['perms'] == 1600 and row['key'] == 0 and row['nattch'] == 2, row
assert ctypes.string_at(a, 10) == b'still here'
os.kill(k, signal.SIGKILL)
os.waitpid(k, 0)
must(libc.shmdt(a))
assert rows('shm') == []
""",
    ),
    "memory-that-nobody-has-attached": (
        """
i, j = must(libc.shmget(0x51, 3 << 20, CREATE)), must(libc.shmget(0x52, 100, CREATE))
a = attached(i)
ctypes.memset(ctypes.c_void_p(a + (2 << 20)), 9, 5000)
must(libc.shmdt(a))
before = without_times('shm')
""",
        """
assert without_times('shm') == before and [row['size'] for row in before] == [3 << 20, 100]
a = attached(i)
assert ctypes.string_at(a + (2 << 20), 5001) == b'\\t' * 5000 + b'\\0'
assert next(row['rss'] for row in rows('shm')) == 8192
""",
    ),
    "memory-that-another-user-made": (
        """
done, go = os.pipe(), os.pipe()
def another():
    os.setgid(44); os.setuid(33)
    i = must(libc.shmget(0x99, 4096, CREATE))
    at = attached(i)
    ctypes.memmove(at, b'of 33', 5)
    os.write(done[1], b'.')
    os.read(go[0], 1)
    assert ctypes.string_at(at, 5) == b'of 33'
k = in_child(another)
os.read(done[0], 1)
before = without_times('shm')
""",
        """
assert without_times('shm') == before, (before, without_times('shm'))
assert (before[0]['cuid'], before[0]['cgid'], before[0]['uid']) == (33, 44, 33)
os.write(go[1], b'.')
assert succeeds(k)
""",
    ),
    "memory-of-a-parent-with-more-rights": (
        """
i = must(libc.shmget(0x98, 4096, CREATE))
a = attached(i)
ctypes.memmove(a, b'inherited', 9)
done, go = os.pipe(), os.pipe()
def less():
    os.setgid(44); os.setuid(33)
    os.write(done[1], b'.')
    os.read(go[0], 1)
    assert ctypes.string_at(a, 9) == b'inherited' and libc.shmat(i, None, 0) == ctypes.c_void_p(-1).value
k = in_child(less)
os.read(done[0], 1)
before = without_times('shm')
""",
        """
assert without_times('shm') == before
os.write(go[1], b'.')
assert succeeds(k)
""",
    ),
    "semaphores-with-their-values": (
        """
s = must(libc.semget(0x1234, 3, CREATE))
must(libc.semctl(s, 0, 17, (ctypes.c_ushort * 3)(5, 0, 32767)))
t = must(libc.semget(0, 1, CREATE))
operate(t, (0, 1, 0))
before = without_times('sem')
""",
        """
assert without_times('sem') == before
assert [must(libc.semctl(s, n, 12)) for n in range(3)] == [5, 0, 32767] and must(libc.semctl(t, 0, 12)) == 1
assert [bool(row['otime']) for row in rows('sem')] == [False, True]
assert must(libc.semget(0x1234, 3, 0o600)) == s and operate(s, (0, -5, NO_WAIT)) == 0
""",
    ),
    "a-process-that-waits-for-a-semaphore": (
        """
s = must(libc.semget(0x1234, 1, CREATE))
def waits():
    assert operate(s, (0, -1, 0)) == 0, ctypes.get_errno()
k = in_child(waits)
while must(libc.semctl(s, 0, 14)) < 1:
    time.sleep(0.001)
""",
        """
while must(libc.semctl(s, 0, 14)) < 1:
    time.sleep(0.001)
operate(s, (0, 1, 0))
assert succeeds(k)
""",
    ),
    "semaphores-that-are-busy": (
        """
s = must(libc.semget(0x1234, 2, CREATE))
threading.Thread(target=threading.Event().wait, daemon=True).start()
def busy():
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    while operate(s, (0, 1, 0)) == 0 and operate(s, (0, -1, 0)) == 0 and must(libc.semctl(s, 1, 12)) == 0:
        pass
k = in_child(busy)
while must(libc.semctl(s, 0, 11)) != k:
    time.sleep(0.001)
""",
        """
while must(libc.semctl(s, 0, 11)) != k:
    time.sleep(0.001)
must(libc.semctl(s, 1, 16, 1))
assert succeeds(k)
""",
    ),
    "semaphores-that-were-given-back": (
        """
s = must(libc.semget(0x1234, 20, CREATE))
threading.Thread(target=threading.Event().wait, daemon=True).start()
for n in range(20):
    operate(s, (n, 3, UNDO)); operate(s, (n, -3, UNDO))
""",
        "assert [must(libc.semctl(s, n, 12)) for n in range(20)] == [0] * 20",
    ),
    "queue-with-messages-of-several-types": (
        """
q = must(libc.msgget(0x1234, CREATE))
for kind, text in ((3, b'three'), (1, b''), (3, b'again'), (1 << 40, b'x' * 8000)):
    must(send(q, kind, text))
e = must(libc.msgget(0, CREATE))
before = without_times('msg')
""",
        """
assert without_times('msg') == before
assert receive(q, 3) == (3, b'three') and receive(q) == (1, b'') and receive(q) == (3, b'again')
assert receive(q) == (1 << 40, b'x' * 8000)
must(send(e, 1, b'y' * 5))
assert receive(e) == (1, b'yyyyy')
""",
    ),
    "queue-that-holds-more-than-it-may": (
        """
q = must(libc.msgget(0x1234, CREATE))
room = ctypes.create_string_buffer(256)
def capacity():
    must(libc.msgctl(q, 2, room))
    return struct.unpack_from('=Q', room, 88)[0]
must(send(q, 1, b'm' * 8000)); must(send(q, 2, b'n' * 8000))
must(libc.msgctl(q, 2, room))
struct.pack_into('=Q', room, 88, 5000)
must(libc.msgctl(q, 1, room))
""",
        """
assert capacity() == 5000 and send(q, 1, b'z', NO_WAIT) == -1
assert [receive(q)[0] for _ in range(2)] == [1, 2]
""",
    ),
    "a-process-that-waits-for-a-message": (
        """
q = must(libc.msgget(0x1234, CREATE))
def waits():
    assert receive(q, 7) == (7, b'hello')
k = in_child(waits)
def is_waiting():
    return open(f'/proc/{k}/syscall').read().startswith('70 ')
while not is_waiting():
    time.sleep(0.001)
""",
        """
must(send(q, 7, b'hello'))
assert succeeds(k)
""",
    ),
    "ids-that-are-not-the-first": (
        """
removed = [must(libc.semget(0, 1, CREATE)) for _ in range(5)]
for number in removed[:4]:
    must(libc.semctl(number, 0, 0))
again = [must(libc.semget(0x40 + n, 1, CREATE)) for n in range(2)]
before = without_times('sem')
""",
        "assert without_times('sem') == before and len(before) == 3 and before[-1]['semid'] > 4, before",
    ),
}
KEPT_SYSTEM_V = {f"system-v-{name}": (CALLS + before, after) for name, (before, after) in _KEPT.items()}

RESET_SYSTEM_V = {
    "system-v-last-users": (
        CALLS
        + """
s, i = must(libc.semget(0x1234, 1, CREATE)), must(libc.shmget(0x1234, 4096, CREATE))
operate(s, (0, 1, 0))
was = rows('sem')[0]['otime']
assert must(libc.semctl(s, 0, 11)) == os.getpid() == rows('shm')[0]['cpid']
def waits():
    assert libc.semtimedop(s, struct.pack('=Hhh', 0, -5, 0), ctypes.c_size_t(1), struct.pack('qq', 3600, 0)) == -1
    assert ctypes.get_errno() == errno.EINTR
k = in_child(waits)
while must(libc.semctl(s, 0, 14)) < 1:
    time.sleep(0.001)
""",
        """
assert must(libc.semctl(s, 0, 11)) == 0 == rows('shm')[0]['cpid'] and rows('sem')[0]['otime'] >= was
assert succeeds(k)
""",
    ),
}
_REFUSED = {
    "semaphore-that-is-given-back-at-the-end": """
s = must(libc.semget(0x1234, 9, CREATE))
must(libc.semctl(s, 8, 16, 1))
operate(s, (8, -1, UNDO))
""",
    "semaphore-that-is-taken-back-from-a-thread": """
s = must(libc.semget(0x1234, 1, CREATE))
threading.Thread(target=threading.Event().wait, daemon=True).start()
operate(s, (0, 1, UNDO))
""",
    "memory-that-is-locked": """
i = must(libc.shmget(0x1234, 4096, CREATE))
must(libc.shmctl(i, 11, None))
""",
    "memory-that-ends-with-its-last-user": """
with open('/proc/sys/kernel/shm_rmid_forced', 'w') as file:
    file.write('1')
i = must(libc.shmget(0x1234, 4096, CREATE))
a = attached(i)
""",
    "memory-of-which-a-part-is-attached": """
i = must(libc.shmget(0x1234, 3 * 4096, CREATE))
a = attached(i)
must(libc.munmap(ctypes.c_void_p(a + 4096), ctypes.c_size_t(4096)))
""",
}
REFUSED_SYSTEM_V = {f"system-v-{name}": (CALLS + before, AgentReason.SYSV_IPC) for name, before in _REFUSED.items()}
