"""What a worker wrote in its image and its emptyDirs is in the new container as it was, or the capture is refused."""

import fcntl
import os
import shutil
import struct
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent.executor.engine import NodeEngine
from contract.api import control_files
from contract.api.reports import ReportPhase
from contract.api.states import AgentReason
from linux.descriptors import descriptors
from tests.node.engine.test_capture_restore import FailingAfter
from tests.support.fixtures.bare_container import BareContainer, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

READY = """
with open(os.environ["DYN_SNAPSHOT_CONTROL_DIR"] + "/ready-for-snapshot", "w") as file:
    file.write("done\\n")
time.sleep(1e6)
"""
GIB = 1 << 30
SPARSE = """
import os, struct, time
os.makedirs("/var/kept/empty")
with open("/var/kept/sparse", "wb") as g:
    g.truncate(3 << 30); g.seek(2 << 30); g.write(b"middle")
with open("/var/kept/all-hole", "wb") as g:
    g.truncate(1 << 30)
os.link("/var/kept/sparse", "/var/kept/hard")
os.symlink("/etc/passwd", "/var/kept/link")
open("/var/kept/na\\udcffme \\n", "w").write("odd")
os.chmod("/var/kept/empty", 0o1711)
open("/var/kept/.wh.looks-like-a-whiteout", "w").close()
open("/var/kept/of-others", "w").close()
os.chown("/var/kept/of-others", 1234, 4321)
os.chmod("/var/kept/of-others", 0o604)
os.mkfifo("/var/kept/pipe", 0o620)
def acl(path, kind, user):
    entries = [(1, 7, 0xffffffff), (2, 4, user), (4, 5, 0xffffffff), (16, 5, 0xffffffff), (32, 0, 0xffffffff)]
    packed = b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(path, "system.posix_acl_" + kind, struct.pack("<I", 2) + packed)
acl("/var/kept/of-others", "access", 77)
acl("/var/kept", "default", 78)
os.setxattr("/var/kept/sparse", "user.origin", b"\\x00\\xff=\\n bytes")
os.setxattr("/var/kept/empty", "user.folder", b"yes")
os.setxattr("/var/kept/of-others", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
os.utime("/var/kept/link", (1, 1), follow_symlinks=False)
os.utime("/var/kept/of-others", ns=(0, 1_600_000_000_123_456_789))
os.utime("/var/kept", ns=(0, 1_500_000_000_000_000_001))
"""


def start(node, body, *, capture=True, **options) -> BareContainer:
    command = ["--", sys.executable, "-c", body + READY if capture else "raise SystemExit(9)"]
    container = node.start_as(BareContainer, *(["--capture"] if capture else []), *command, **options)
    if capture:
        wait_for((container.control / control_files.READY_FOR_SNAPSHOT).exists, f"ready file; {container.text()}")
    return container


def picture(container: BareContainer, folder: str) -> dict[str, tuple]:
    """Each file below a folder: type, mode, owner, times, links, size, content, attributes; blocks apart."""
    top = Path(f"/proc/{container.init()}/root{folder}")
    return {str(path.relative_to(top)): described(path) for path in (top, *top.rglob("*"))}


def described(path: Path) -> tuple:
    found = path.lstat()
    kept = [n for n in os.listxattr(path, follow_symlinks=False) if n.startswith(("user.", "system."))]
    attributes = {name: os.getxattr(path, name, follow_symlinks=False) for name in kept}
    is_small = path.is_file() and not path.is_symlink() and found.st_size < 1000
    size = found.st_size if not path.is_dir() else 0
    content = path.read_bytes() if is_small else b""
    links = found.st_nlink if not path.is_dir() else 0
    return found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns, links, size, content, attributes


async def test_files_of_the_image_are_as_they_were(node, figure):
    """Holes, links, odd names, modes, owners, times, attributes and access lists; but no capability of a program."""
    source = start(node, SPARSE)
    before = picture(source, "/var/kept")
    outcome = await node.capture(source, "as-they-were")
    assert outcome.ok, outcome.message
    target = start(node, "", capture=False)
    begun = time.monotonic()
    restored = await node.restore(target, "as-they-were", outcome.manifest_digest)
    figure(f"3 GiB sparse file: captured in {sum(outcome.seconds.values()):.2f} s, {outcome.size >> 20} MiB; "
           f"restored in {time.monotonic() - begun:.2f} s")  # fmt: skip
    assert restored.ok, restored.message
    assert before == picture(target, "/var/kept")
    root = Path(f"/proc/{target.init()}/root/var/kept")
    assert (root / "sparse").stat().st_blocks * 512 < 1 << 20
    assert (root / "all-hole").stat().st_blocks * 512 < 1 << 20
    assert (root / "sparse").stat().st_ino == (root / "hard").stat().st_ino
    with (root / "sparse").open("rb") as file:
        file.seek(2 * GIB)
        assert b"middle\0" == file.read(7)
    assert "security.capability" not in os.listxattr(root / "of-others")


LINK_REPLACED = """
import os, time
os.unlink("/etc/mtab")
os.makedirs("/etc/mtab")
open("/etc/mtab/x", "w").close()
"""


async def test_a_folder_in_the_place_of_a_link_of_the_image(node):
    source = start(node, LINK_REPLACED)
    outcome = await node.capture(source, "link-replaced")
    assert outcome.ok, outcome.message
    target = start(node, "", capture=False)
    restored = await node.restore(target, "link-replaced", outcome.manifest_digest)
    assert restored.ok, restored.message
    assert "x\n" == target.run("ls /etc/mtab").stdout


CLOSED = """
import os, time
os.makedirs("/scratch/models/deep")
open("/scratch/models/deep/model.txt", "w").write("prepared")
open("/scratch/credentials", "w").write("of the captured pod")
open("/scratch/state", "w").write("of the captured pod")
open("/dev/shm/closed", "w").write("prepared")
journal = open("/scratch/journal", "r+" if os.path.exists("/scratch/journal") else "w+")
journal.write("by the worker"); journal.flush()
"""


async def test_closed_files_of_an_empty_dir_travel(node):
    """What the new pod has already is newer and stays; but for what the worker holds open for writing."""
    source = start(node, CLOSED)
    outcome = await node.capture(source, "closed")
    assert outcome.ok, outcome.message
    target = start(node, "", capture=False)
    scratch = target.volumes / "scratch"
    (scratch / "models").mkdir(mode=0o705)
    for name in ("credentials", "journal", "of-the-sidecar", "state"):
        (scratch / name).write_text("of the new pod")
    (scratch / "state").unlink()
    (scratch / "state").mkdir()
    restored = await node.restore(target, "closed", outcome.manifest_digest)
    assert restored.ok, restored.message
    assert "prepared" == (scratch / "models/deep/model.txt").read_text()
    assert "of the new pod" == (scratch / "credentials").read_text()
    assert "of the new pod" == (scratch / "of-the-sidecar").read_text()
    assert "by the worker" == (scratch / "journal").read_text()
    assert (scratch / "state").is_dir()
    assert 0o705 == (scratch / "models").stat().st_mode & 0o777
    assert "prepared" == target.run("cat /dev/shm/closed").stdout


CACHED = """
import mmap, os, time
hub = "/scratch/hub/models--a--b/blobs"
os.makedirs(hub)
for name in ("closed", "mapped"):
    open(f"{hub}/{name}", "w").write(name)
open("/scratch/token", "w").write("secret")
os.makedirs("/var/tmp/torch/hub/checkpoints")
open("/var/tmp/torch/hub/checkpoints/x.pth", "w").write("weights")
file = open(f"{hub}/mapped", "rb")
mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
file.close()
"""


async def test_a_cache_of_models_is_not_stored(node):
    """The new pod has its own, or the library downloads it; what is mapped must be there as it was."""
    source = start(node, CACHED, env={"HF_HOME": "/scratch", "TORCH_HOME": "/var/tmp/torch"})
    outcome = await node.capture(source, "cached")
    assert outcome.ok, outcome.message
    target = start(node, "", capture=False)
    restored = await node.restore(target, "cached", outcome.manifest_digest)
    assert restored.ok, restored.message
    assert ["mapped"] == [path.name for path in (target.volumes / "scratch/hub/models--a--b/blobs").iterdir()]
    assert "secret" == (target.volumes / "scratch/token").read_text()
    assert 0 != target.run("ls /var/tmp/torch/hub/checkpoints/x.pth").returncode


async def test_an_empty_dir_that_nobody_has_open(node):
    source = start(node, "import os, time\nopen('/scratch/model', 'w').write('prepared')\n")
    outcome = await node.capture(source, "nobody")
    assert outcome.ok, outcome.message
    target = start(node, "", capture=False)
    assert (await node.restore(target, "nobody", outcome.manifest_digest)).ok
    assert "prepared" == (target.volumes / "scratch/model").read_text()


HELD = "import os, time\nopen('/scratch/input', 'w').write('one')\ninput = open('/scratch/input')\n"


@pytest.mark.parametrize(
    ("reason", "now"),
    [
        pytest.param("", "one", id="same"),
        pytest.param("", None, id="absent"),
        pytest.param(AgentReason.VOLUME_FILE_CHANGED, "two", id="other-content"),
        pytest.param(AgentReason.VOLUME_FILE_CHANGED, "longer", id="other-size"),
    ],
)
async def test_a_file_that_the_worker_reads(node, reason, now, request):
    """It is what it was, or the worker starts cold: neither the new pod's file nor the worker's is overwritten."""
    name = f"read-{request.node.callspec.id}"
    outcome = await node.capture(start(node, HELD), name)
    assert outcome.ok, outcome.message
    target = start(node, "", capture=False)
    if now is not None:
        (target.volumes / "scratch/input").write_text(now)
    restored = await node.restore(target, name, outcome.manifest_digest)
    assert (not reason, reason) == (restored.ok, restored.reason), restored
    assert (now or "one") == (target.volumes / "scratch/input").read_text()
    if reason:
        assert ReportPhase.FILES not in restored.seconds
        assert "/scratch/input" in restored.message


TOPS = ("/", "/scratch", "/dev/shm")
DRESSED = f"""
import os, time
for point in {TOPS}:
    os.chown(point, 12, 34)
    os.chmod(point, 0o1710)
    os.setxattr(point, "user.purpose", b"mine")
"""


def tops(container: BareContainer) -> list[tuple]:
    """Mode, owner and attributes of the containers' mounts themselves."""
    described_tops = [described(Path(f"/proc/{container.init()}/root{point}")) for point in TOPS]
    return [(mode, uid, gid, attributes) for mode, uid, gid, *_, attributes in described_tops]


async def test_the_top_of_each_file_system_is_as_it_was(node):
    """A process in / would not be restored below another mode, and a closed emptyDir would be open again."""
    source = start(node, DRESSED)
    before = tops(source)
    outcome = await node.capture(source, "tops")
    assert outcome.ok, outcome.message
    target = start(node, "", capture=False)
    assert before != tops(target)
    restored = await node.restore(target, "tops", outcome.manifest_digest)
    assert restored.ok, restored.message
    assert before == tops(target)


async def test_a_failed_restore_leaves_the_tops_as_they_are(node):
    outcome = await node.capture(start(node, DRESSED), "tops-undone")
    assert outcome.ok, outcome.message
    target = start(node, "", capture=False)
    before = tops(target)
    node.engine = NodeEngine(replace(node.environment, criu=FailingAfter(node.environment.criu)))
    assert not (await node.restore(target, "tops-undone", outcome.manifest_digest)).ok
    assert before == tops(target)


async def test_what_a_failed_restore_placed_is_removed_again(node):
    """The second of two restores into one pod fails: its emptyDir is as the pod had it."""
    outcome = await node.capture(start(node, CLOSED), "undone")
    assert outcome.ok, outcome.message
    target = start(node, "", capture=False)
    scratch = target.volumes / "scratch"
    (scratch / "credentials").write_text("of the new pod")
    (scratch / "journal").write_text("of the new pod")
    node.engine = NodeEngine(replace(node.environment, criu=FailingAfter(node.environment.criu)))
    restored = await node.restore(target, "undone", outcome.manifest_digest)
    assert not restored.ok
    assert ["credentials", "journal"] == sorted(path.name for path in scratch.iterdir())
    assert "of the new pod" == (scratch / "journal").read_text()


@pytest.mark.parametrize(
    ("reason", "body", "where"),
    [
        pytest.param(AgentReason.VOLUME_TOO_LARGE, "open('/scratch/big', 'wb').write(bytes(3 << 20))", "/scratch/big",
                     id="empty-dir"),
        pytest.param(AgentReason.ROOTFS_TOO_LARGE, "open('/root/big', 'wb').write(bytes(3 << 20))", "/root/big",
                     id="image"),
    ],
)  # fmt: skip
async def test_too_much_is_refused_with_numbers(node, reason, body, where):
    node.engine = NodeEngine(replace(node.environment, empty_dir_limit=1 << 20, rootfs_limit=2 << 20))
    source = start(node, f"import os, time\n{body}\n")
    outcome = await node.capture(source, f"too-much-{reason}")
    assert (False, reason) == (outcome.ok, outcome.reason), outcome
    assert ReportPhase.DUMP not in outcome.seconds
    assert where in outcome.message
    assert str(3 << 20) in outcome.message


UNLINKED = """
import mmap, os, time
held = open("{path}", "w+b")
held.write(bytes(3 << 20)); held.flush()
os.unlink("{path}")
"""
MAPPED = UNLINKED + "pages = mmap.mmap(held.fileno(), 0)\nheld.close()\n"
SPARSE_UNLINKED = UNLINKED.replace("held.write(bytes(3 << 20))", "held.truncate(3 << 30)")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(UNLINKED.format(path="/tmp/unlinked"), id="open"),
        pytest.param(MAPPED.format(path="/dev/shm/unlinked"), id="mapped"),
    ],
)
async def test_a_deleted_file_that_is_too_large(node, body):
    node.engine = NodeEngine(replace(node.environment, unlinked_limit=2 << 20))
    outcome = await node.capture(start(node, body), "unlinked")
    assert (False, AgentReason.UNLINKED_TOO_LARGE) == (outcome.ok, outcome.reason), outcome
    assert ReportPhase.DUMP not in outcome.seconds
    assert "unlinked (deleted) holds 3145728 bytes" in outcome.message


PROTECT = """
import fcntl, os, struct, time
open("{path}", "w").close()
file = os.open("{path}", os.O_RDONLY)
fcntl.ioctl(file, 0x40086602, struct.pack("l", {flag}))
os.close(file)
"""
NESTED = """
import os, time
os.chdir("{folder}")
for _ in range({count}):
    os.mkdir({name!r}); os.chdir({name!r})
os.chdir("/")
"""
LETTERS = "d" * 200


def unprotect(path: Path) -> None:
    if path.exists():
        with path.open() as file:
            fcntl.ioctl(file, 0x40086602, struct.pack("l", 0))


@pytest.mark.parametrize(
    ("reason", "body"),
    [
        pytest.param(AgentReason.IMMUTABLE_FILE, PROTECT.format(path="/opt/kept", flag=0x10), id="immutable"),
        pytest.param(AgentReason.IMMUTABLE_FILE, PROTECT.format(path="/opt/kept", flag=0x20), id="grows-alone"),
        pytest.param(AgentReason.IMMUTABLE_FILE, PROTECT.format(path="/scratch/kept", flag=0x10), id="in-an-empty-dir"),
        pytest.param(AgentReason.ROOTFS_TOO_LARGE, NESTED.format(folder="/opt", count=600, name="d"), id="deep"),
        pytest.param(AgentReason.ROOTFS_TOO_LARGE, NESTED.format(folder="/opt", count=21, name=LETTERS), id="long"),
        pytest.param(AgentReason.VOLUME_TOO_LARGE, NESTED.format(folder="/scratch", count=600, name="d"),
                     id="deep-in-an-empty-dir"),
    ],
)  # fmt: skip
async def test_what_cannot_travel_is_refused(node, reason, body):
    source = start(node, body)
    try:
        outcome = await node.capture(source, "cannot-travel")
    finally:
        unprotect(source.volumes / "scratch/kept")  # else it could not be removed; overlay notes such attributes alone
    assert (False, reason) == (outcome.ok, outcome.reason), outcome
    assert ReportPhase.DUMP not in outcome.seconds


async def test_a_deleted_file_counts_by_its_blocks(node):
    outcome = await node.capture(start(node, SPARSE_UNLINKED.format(path="/tmp/unlinked")), "unlinked-sparse")
    assert outcome.ok, outcome.message


THEN, NOW = "..2026_11_28_16_49_00.1234567890", "..2026_11_28_17_00_00.987"
SCRIPT = "import os, time\nscript = open('/data/start.sh')\nscript.read(2)\n"


def with_config(node, dated: str, body: str = "", **options) -> tuple[BareContainer, Path]:
    """Start a container with a volume of kubelet's at /data; return where kubelet has it, too."""
    made = Path(tempfile.mkdtemp(dir=node.folder))
    (made / dated).mkdir()
    (made / dated / "start.sh").write_text("of the ConfigMap")
    (made / "..data").symlink_to(dated)
    (made / "start.sh").symlink_to("..data/start.sh")
    container = start(node, body, env={"VOLUME": str(made)}, **options)
    container.init()
    place = container.volumes.parent / "kubernetes.io~configmap/scripts"
    place.parent.mkdir()
    made.rename(place)  # where it is mounted already, it stays so
    return container, place


def update(place: Path) -> None:
    """Replace the content as kubelet does."""
    shutil.copytree(place / THEN, place / NOW)
    (place / "..data_tmp").symlink_to(NOW)
    (place / "..data_tmp").rename(place / "..data")
    shutil.rmtree(place / THEN)


def entries(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()}


async def test_a_dated_folder_is_found_again(node):
    source, _ = with_config(node, THEN, SCRIPT)
    outcome = await node.capture(source, "dated")
    assert outcome.ok, outcome.message
    target, place = with_config(node, NOW, capture=False)
    restored = await node.restore(target, "dated", outcome.manifest_digest)
    assert restored.ok, restored.message
    (worker,) = target.children()
    assert f"/data/{NOW}/start.sh" in {descriptor.target for descriptor in descriptors(worker)}
    assert {NOW, "..data", "start.sh"} == entries(place)


async def test_its_link_is_removed_with_all_else(node):
    source, _ = with_config(node, THEN, SCRIPT)
    outcome = await node.capture(source, "dated-undone")
    assert outcome.ok, outcome.message
    target, place = with_config(node, NOW, capture=False)
    node.engine = NodeEngine(replace(node.environment, criu=FailingAfter(node.environment.criu)))
    restored = await node.restore(target, "dated-undone", outcome.manifest_digest)
    assert AgentReason.RESTORE_FAILED == restored.reason
    assert {NOW, "..data", "start.sh"} == entries(place)


async def test_a_replaced_file_is_refused(node):
    source, place = with_config(node, THEN, SCRIPT)
    update(place)
    outcome = await node.capture(source, "replaced")
    assert AgentReason.VOLUME_FILE_REPLACED == outcome.reason, outcome
    assert ReportPhase.DUMP not in outcome.seconds
