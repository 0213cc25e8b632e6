"""What a container's root without any capability tries while the agent works on it.

Each is a Python program that runs in the container, ``SECRET`` the path of a file of the node that it has no way to.
A door is tried before the agent comes, or goes on while it works.
"""

from typing import Final, NamedTuple


class Door(NamedTuple):
    """One attempt."""

    program: str
    goes_on: bool = False
    """It races with the agent, and does not end by itself."""
    harms_itself: bool = False
    """It may keep standby's or its worker's files from them: these wait for nothing then, and no other container."""


_CONTROL = """
import os
names = ["snapshot-complete", "restore-complete", "restore-context.json", "standby-verdict", "standby-dirty"]
paths = ["/snapshot-control/" + name for name in names]
"""
_RACE = """
import itertools, os
def swap(path, *makers):
    for number in itertools.count():
        try:
            makers[number % len(makers)](path + ".new")
            os.rename(path + ".new", path)
        except OSError:
            try: os.unlink(path + ".new")
            except OSError: pass
def regular(path):
    with open(path, "w") as file: file.write("mine")
def link(path): os.symlink(SECRET, path)
def fifo(path): os.mkfifo(path)
"""

BOTH: Final = {
    "control-links": Door(_CONTROL + "for path in paths[1:]: os.symlink(SECRET, path)"),
    "control-fifos": Door(_CONTROL + "for path in paths[2:]: os.mkfifo(path)"),
    "control-folders": Door(_CONTROL + "for path in paths[2:4]: os.makedirs(path + '/full')"),
    "control-devices": Door(_CONTROL + "import stat\nfor path in paths[2:]: os.mknod(path, stat.S_IFCHR | 0o666, 0)"),
    "control-crowd": Door("for n in range(5000): open(f'/snapshot-control/{n}', 'w').close()"),
    "control-race": Door(
        _RACE + "swap('/snapshot-control/standby-verdict', link, fifo, regular)", True, harms_itself=True
    ),
    "claim-link": Door("import os; p = '/snapshot-control/standby-claim'; os.unlink(p); os.symlink(SECRET, p)"),
    "claim-fifo": Door("import os; p = '/snapshot-control/standby-claim'; os.unlink(p); os.mkfifo(p)"),
    "claim-huge": Door("import os; os.truncate('/snapshot-control/standby-claim', 1 << 42)"),
    "claim-hard-link": Door(
        "import os; os.link('/snapshot-control/standby-claim', '/snapshot-control/restore-context.json')"
    ),
    "claim-race": Door(_RACE + "swap('/snapshot-control/standby-claim', link, fifo, regular)", True, harms_itself=True),
    "proc-of-the-agents": Door(
        """
import os
while True:
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        for way in ("root", "cwd", *(f"fd/{n}" for n in range(64))):
            for name in (SECRET, os.path.basename(SECRET)):
                try: text = open(f"/proc/{pid}/{way}/{name}").read()
                except OSError: continue
                open("/scratch/gained", "w").write(text)
        for name in ("environ", "maps", "mem"):
            try: is_criu = os.readlink(f"/proc/{pid}/exe").endswith("ld.so")
            except OSError: continue
            if is_criu: open("/scratch/gained", "w").write(f"may look into {pid}")
""",
        goes_on=True,
    ),
    "kills-criu": Door(
        """
import os, signal
while True:
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if open(f"/proc/{pid}/comm").read() == "criu\\n": os.kill(int(pid), signal.SIGKILL)
        except OSError: pass
""",
        goes_on=True,
    ),
    "traces-all": Door(
        """
import ctypes, os
trace = ctypes.CDLL(None, use_errno=True).ptrace
while True:
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try: mine = open(f"/proc/{pid}/comm").read() != "criu\\n"
        except OSError: continue
        if not mine and trace(0x4206, int(pid), 0, 0) == 0: open("/scratch/gained", "w").write(f"traces {pid}")
""",
        goes_on=True,
    ),
    "own-namespaces": Door(
        """
import ctypes, time
libc = ctypes.CDLL(None)
if libc.unshare(0x10000000 | 0x20000) == 0:
    libc.mount(b"none", b"/", None, 0x44000, None); libc.mount(SECRET.encode(), b"/scratch", None, 4096, None)
    libc.mount(b"tmpfs", b"/proc", b"tmpfs", 0, None)
time.sleep(600)
""",
        goes_on=True,
    ),
}
"""Tried on captures and on restores."""

CAPTURES: Final = {
    "link-in-a-volume": Door(
        "import os; os.symlink(SECRET, '/scratch/link'); os.symlink('/proc/1/root', '/scratch/up')"
    ),
    "link-in-the-root": Door("import os; os.symlink(SECRET, '/var/tmp/link'); os.symlink('..', '/var/tmp/up')"),
    "link-in-memory": Door("import os; os.symlink(SECRET, '/dev/shm/link')"),
    "link-for-a-folder": Door("import os; os.symlink('/', '/scratch/etc')"),
    "fifos": Door("import os\nfor p in ('/scratch/f', '/var/tmp/f', '/dev/shm/f'): os.mkfifo(p)"),
    "devices": Door(
        "import os, stat\nfor p in ('/scratch/d', '/var/tmp/d', '/dev/shm/d'):\n"
        "  try: os.mknod(p, stat.S_IFCHR | 0o666, 0)\n  except OSError: pass"
    ),
    "sparse-volume": Door("import os; open('/scratch/big', 'w').close(); os.truncate('/scratch/big', 1 << 43)"),
    "sparse-root": Door("import os; open('/var/tmp/big', 'w').close(); os.truncate('/var/tmp/big', 1 << 43)"),
    "many-holes": Door("f = open('/scratch/holes', 'wb')\nfor n in range(3000):\n  f.seek(n << 30); f.write(b'x')"),
    "deep-folders": Door("import os\nos.chdir('/scratch')\nfor n in range(700): os.mkdir('d'); os.chdir('d')"),
    "odd-names": Door(
        "for name in (b'a\\nb', b'\\xff\\xfe', b'-rf', b'x' * 255, b'\\x1b[2J', b'.wh.x', b'a\\\\b', b' ', b'\"'):\n"
        "  open(b'/scratch/' + name, 'w').close(); open(b'/var/tmp/' + name, 'w').close()"
    ),
    "hard-links": Door(
        "import os; open('/scratch/a', 'w').close()\nfor n in range(2000): os.link('/scratch/a', f'/scratch/{n}')"
    ),
    "attributes": Door(
        "import os; open('/scratch/a', 'w').close()\n"
        "for n in range(40): os.setxattr('/scratch/a', f'user.{n}', b'x' * 60)\n"
        "for name in ('trusted.overlay.redirect', 'security.capability'):\n"
        "  try: os.setxattr('/scratch/a', name, b'x')\n  except OSError: pass"
    ),
    "programs-with-rights": Door("import os; open('/scratch/su', 'w').close(); os.chmod('/scratch/su', 0o6755)"),
    "sockets": Door(
        "import os, socket\nfor p in ('/scratch/s', '/var/tmp/s', '\\0criu', '\\0' + 'x' * 100):\n"
        "  s = socket.socket(socket.AF_UNIX); s.bind(p); s.listen(); os.set_inheritable(s.detach(), True)"
    ),
    "grows": Door(
        "f = open('/scratch/log', 'wb', buffering=0)\nwhile f.tell() < 1 << 27: f.write(bytes(4096))", goes_on=True
    ),
    "shrinks": Door(
        "import os\nf = os.open('/scratch/log', os.O_RDWR | os.O_CREAT)\nwhile True:\n"
        "  for size in (1 << 24, 0): os.truncate(f, size)",
        goes_on=True,
    ),
    "file-and-link": Door(_RACE + "swap('/scratch/x', regular, link, fifo)", goes_on=True),
    "file-and-link-in-the-root": Door(_RACE + "swap('/var/tmp/x', regular, link, fifo)", goes_on=True),
    "folder-and-link": Door(
        """
import os
os.makedirs("/scratch/real/inner")
open("/scratch/real/inner/" + os.path.basename(SECRET), "w").close()
while True:
    for step in (lambda: os.rename("/scratch/real", "/scratch/off"),
                 lambda: os.symlink(os.path.dirname(SECRET), "/scratch/real"),
                 lambda: os.unlink("/scratch/real"), lambda: os.rename("/scratch/off", "/scratch/real")):
        try: step()
        except OSError: pass
""",
        goes_on=True,
    ),
    "comes-and-goes": Door(
        "import os\nwhile True:\n  open('/scratch/t', 'w').close(); os.unlink('/scratch/t')\n"
        "  pid = os.fork()\n  if pid == 0: os._exit(0)\n  os.waitpid(pid, 0)",
        goes_on=True,
    ),
    "lies-about-itself": Door(
        "import ctypes, time\nctypes.CDLL(None).prctl(15, b'x) Z 0 \\nUid:\\t1', 0, 0, 0)\ntime.sleep(600)",
        goes_on=True,
    ),
}
"""Tried on captures."""

RESTORES: Final = {
    "links-where-files-come": Door(
        "import os\nfor p in ('/scratch/state', '/dev/shm/segment', '/var/tmp/worker.log', '/var/tmp/worker.sock'):\n"
        "  os.symlink(SECRET, p)"
    ),
    "fifos-where-files-come": Door(
        "import os\nfor p in ('/scratch/state', '/dev/shm/segment', '/var/tmp/worker.log'): os.mkfifo(p)"
    ),
    "folders-where-files-come": Door(
        "import os\nfor p in ('/scratch/state', '/dev/shm/segment', '/var/tmp/worker.log'): os.makedirs(p + '/full')"
    ),
    "deep-folders-where-files-come": Door(
        "import os\nos.mkdir('/scratch/state')\nos.chdir('/scratch/state')\n"
        "for n in range(700): os.mkdir('d'); os.chdir('d')"
    ),
    "a-link-for-the-folder": Door(
        "import os, shutil; shutil.rmtree('/var/tmp'); os.symlink(os.path.dirname(SECRET), '/var/tmp')"
    ),
    "folder-and-link": Door(
        """
import os, shutil
shutil.rmtree("/var/tmp")  # one of the image's could not be renamed
os.mkdir("/var/tmp")
while True:
    for step in (lambda: os.rename("/var/tmp", "/var/old"),
                 lambda: os.symlink(os.path.dirname(SECRET), "/var/tmp"),
                 lambda: os.unlink("/var/tmp"), lambda: os.rename("/var/old", "/var/tmp")):
        try: step()
        except OSError: pass
""",
        goes_on=True,
    ),
    "file-and-link": Door(_RACE + "swap('/scratch/state', link, fifo, regular)", goes_on=True),
    "takes-the-pids": Door(
        "import os, time\nwhile max(map(int, filter(str.isdecimal, os.listdir('/proc')))) < 1010:\n"
        "  if os.fork() == 0: time.sleep(600)\ntime.sleep(600)",
        goes_on=True,
    ),
    "full-memory": Door(
        "f = open('/dev/shm/fill', 'wb')\ntry:\n  while True: f.write(bytes(1 << 20))\nexcept OSError: pass"
    ),
}
"""Tried on restores."""
