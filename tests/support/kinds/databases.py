"""What must go on of a worker's databases, and of the record locks by which their openers know of each other."""

from contract.api.states import AgentReason

_LOCKS = """
def is_free(path, at, exclusive=True):
    def act():
        f = os.open(path, os.O_RDWR)
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            fcntl.lockf(f, kind | fcntl.LOCK_NB, 1, at)
        except BlockingIOError:
            os._exit(3)
    return os.waitstatus_to_exitcode(os.waitpid(in_child(act), 0)[1]) == 0
"""
_SQLITE = """
import sqlite3
def opened(path='/tmp/data', **options):
    return sqlite3.connect(path, isolation_level=None, timeout=0.1, check_same_thread=False, **options)
def is_busy(act):
    try:
        act()
    except sqlite3.OperationalError as error:
        assert 'locked' in str(error), error
        return True
def counts(connection):
    return connection.execute('select count(*) from t').fetchone()[0]
"""


def _database(mode: str, path: str = "/tmp/data") -> tuple[str, str]:
    """Hold open a database in that journal mode: one connection writes, one reads, one is idle."""
    before = f"""
{_SQLITE}
setup = opened({path!r})
assert setup.execute('pragma journal_mode={mode}').fetchone() == ({mode!r},)
setup.execute('create table t (x)')
setup.execute('insert into t values (0)')
reads, writes, idle = opened({path!r}), opened({path!r}), opened({path!r})
reads.execute('begin'), counts(reads)
writes.execute('begin immediate'), writes.execute('insert into t values (1)')
"""
    after = f"""
later = opened({path!r})
assert is_busy(lambda: later.execute('begin immediate')) and is_busy(lambda: idle.execute('begin immediate'))
def other():
    assert is_busy(lambda: opened({path!r}).execute('begin immediate'))
assert succeeds(in_child(other))
assert counts(reads) == 1
reads.execute('commit'), writes.execute('commit')
for each in (later, idle, reads, writes, setup):
    each.execute('insert into t values (2)')
def another():
    c = opened({path!r})
    c.execute('insert into t values (3)')
    assert counts(c) == 8
assert succeeds(in_child(another))
assert [counts(each) for each in (later, idle, reads, writes, setup)] == [8] * 5
assert setup.execute('pragma integrity_check').fetchone() == ('ok',)
for each in (later, idle, reads, writes, setup):
    each.close()
assert counts(opened({path!r})) == 8
"""
    return before, after


_LARGE = """
libc.mallopt(-3, 1 << 30)  # all of the heap is in one piece, which is filled while the worker runs
held = [os.urandom(1 << 20) for _ in range(100)]
"""
_WRITES = """
c.execute('insert into t values (1)')
assert counts(opened()) == 1
"""

KEPT_DATABASES: dict[str, tuple[str, str]] = {
    "database-of-a-large-process": (_LARGE + _database("wal")[0], _database("wal")[1]),
    "database-beside-guard-pages": (
        f"""
{_SQLITE}
m = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
m[:] = b'x' * (1 << 20)
at = ctypes.addressof(ctypes.c_char.from_buffer(m))
guarded = libc.madvise(ctypes.c_void_p(at), 8192, 102)  # MADV_GUARD_INSTALL, of Linux 6.13
c = opened()
c.execute('create table t (x)')
""",
        _WRITES,
    ),
    "database-with-its-numbers-at-a-low-address": (
        f"""
{_SQLITE}
c = opened()
c.execute('create table t (x)')
found = os.stat('/tmp/data')
libc.mmap.restype = ctypes.c_void_p
low = libc.mmap(ctypes.c_void_p(0x200000), 4096, 3, 0x100022, -1, ctypes.c_long(0))  # MAP_FIXED_NOREPLACE
known = (ctypes.c_uint64 * 2).from_address(low) if low == 0x200000 else (ctypes.c_uint64 * 2)()
known[:] = found.st_dev, found.st_ino
""",
        _WRITES + "assert known[:] == [found.st_dev, found.st_ino]",
    ),
    "database-of-which-a-descriptor-is-closed": (
        f"""
{_SQLITE}
a, c = opened(), opened()
a.execute('create table t (x)'), counts(c), a.close()
f = open('/etc/hostname')
""",
        _WRITES,
    ),
    **{f"database-{mode}": _database(mode) for mode in ("delete", "persist", "wal")},
    "database-in-memory-of-the-pod": _database("wal", "/dev/shm/data"),
    "database-of-several-processes": (
        f"""
{_SQLITE}
c = opened()
c.execute('pragma journal_mode=wal'), c.execute('create table t (x)')
asks, answers = os.pipe(), os.pipe()
def act():
    own = opened()
    counts(own)
    while os.read(asks[0], 1):
        own.execute('insert into t values (1)')
        os.write(answers[1], b'x')
pids = [in_child(act) for _ in range(3)]
time.sleep(0.3)
""",
        """
for n in range(30):
    os.write(asks[1], b'x')
    os.read(answers[0], 1)
    c.execute('insert into t values (2)')
assert counts(c) == 60
assert c.execute('pragma integrity_check').fetchone() == ('ok',)
""",
    ),
    "two-hundred-databases": (
        f"""
{_SQLITE}
all = [opened(f'/tmp/{{n}}') for n in range(200)]
for each in all:
    each.execute('pragma journal_mode=wal'), each.execute('create table t (x)')
""",
        """
for number, each in enumerate(all):
    each.execute('insert into t values (1)')
    assert counts(opened(f'/tmp/{number}')) == 1
""",
    ),
    "database-that-threads-open-and-close": (
        f"""
{_SQLITE}
times, errors = [0], []
opened().execute('create table t (x)')
def work():
    while not errors:
        try:
            c = sqlite3.connect('/tmp/data', isolation_level=None, timeout=20)
            c.execute('insert into t values (1)'), c.close()
            times[0] += 1
        except Exception as error:
            errors.append(error)
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.3)
""",
        """
before, end = times[0], time.monotonic() + 20
while times[0] < before + 8 and not errors and time.monotonic() < end:
    time.sleep(0.01)
assert times[0] >= before + 8 and not errors, (before, times, errors)
""",
    ),
    "database-that-is-read": (
        f"""
{_SQLITE}
c = opened()
c.execute('create table t (x)'), c.close()
c = opened('file:/tmp/data?mode=ro', uri=True)
c.execute('begin'), counts(c)
""",
        """
w = opened()
assert counts(w) == 0
assert is_busy(lambda: w.execute('insert into t values (1)'))
c.execute('commit')
w.execute('insert into t values (1)')
assert counts(c) == 1
""",
    ),
    "file-that-only-looks-like-a-database": (
        """
f = open('/tmp/data', 'w+b')
f.write(b'SQLite format 3\\0' + bytes(5000)), f.flush()
found = os.fstat(f.fileno())
known = [array.array('Q', [found.st_dev, found.st_ino]) for _ in range(20)]
""",
        """
assert all(each.tolist() == [found.st_dev, found.st_ino] for each in known)
""",
    ),
    "record-locks-of-a-mapped-file": (
        f"""
{_LOCKS}
f = open('/tmp/locked', 'w+b')
f.truncate(8192)
m = mmap.mmap(f.fileno(), 8192)
fcntl.lockf(f, fcntl.LOCK_EX, 10, 5), fcntl.lockf(f, fcntl.LOCK_SH, 1, 100), fcntl.lockf(f, fcntl.LOCK_EX, 0, 5000)
w = os.open('/tmp/locked', os.O_WRONLY)
""",
        """
free = {at: is_free('/tmp/locked', at) for at in (4, 5, 14, 15, 99, 100, 101, 4999, 5000, 1 << 40)}
assert [at for at in free if not free[at]] == [5, 14, 100, 5000, 1 << 40], free
assert is_free('/tmp/locked', 100, exclusive=False)
fcntl.lockf(f, fcntl.LOCK_UN, 10, 5)
assert is_free('/tmp/locked', 5)
""",
    ),
    "record-lock-of-a-mapped-file-of-a-large-process": (
        f"""
{_LOCKS}
{_LARGE}
f = open('/tmp/locked', 'w+b')
f.truncate(8192)
m = mmap.mmap(f.fileno(), 8192)
fcntl.lockf(f, fcntl.LOCK_EX, 10, 5)
""",
        """
assert [is_free('/tmp/locked', at) for at in (4, 5, 14, 15)] == [True, False, False, True]
""",
    ),
    "record-lock-of-a-file-that-another-process-maps-too": (
        f"""
{_LOCKS}
f = open('/dev/shm/locked', 'w+b')
f.truncate(4096)
m = mmap.mmap(f.fileno(), 4096)
fcntl.lockf(f, fcntl.LOCK_EX, 1, 0)
def act():
    g = open('/dev/shm/locked', 'r+b')
    fcntl.lockf(g, fcntl.LOCK_EX, 1, 1)
    signal.pause()
k = in_child(act)
time.sleep(0.2)
""",
        """
assert [is_free('/dev/shm/locked', at) for at in range(3)] == [False, False, True]
os.kill(k, 9), os.waitpid(k, 0)
assert [is_free('/dev/shm/locked', at) for at in range(3)] == [False, True, True]
""",
    ),
}
REFUSED_DATABASES: dict[str, tuple[str, AgentReason]] = {
    "memory-full-of-what-leads-to-an-inode": (
        f"""
{_SQLITE}
c = opened()
c.execute('create table t (x)')
found = os.stat('/tmp/data')
number = next(int(n) for n in os.listdir('/proc/self/fd') if os.path.realpath(f'/proc/self/fd/{{n}}') == '/tmp/data')
known = array.array('Q', [found.st_dev, found.st_ino])
leads = array.array('Q', [known.buffer_info()[0], number] * 100_000)
""",
        AgentReason.UNSUPPORTED_MEMORY,
    ),
    "memory-full-of-an-inode": (
        f"""
{_SQLITE}
c = opened()
c.execute('create table t (x)')
found = os.stat('/tmp/data')
known = array.array('Q', [found.st_dev, found.st_ino] * 100_000)
""",
        AgentReason.UNSUPPORTED_MEMORY,
    ),
}
