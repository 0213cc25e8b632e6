"""What standby does besides: it installs the tools, and answers our probes."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.api import control_files

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces")


class TestInstall:
    """The tool folder into a pod's emptyDir, as an init container of any user does it."""

    @pytest.fixture
    def tools(self, standby: Path) -> Iterator[Path]:
        """The folder that standby lies in, with something else beside it."""
        folder = standby.parents[1]
        (folder / "record").write_text("python3\0")
        (folder / "record").chmod(0o600)
        yield folder
        (folder / "record").unlink()

    def install(self, standby: Path, target: Path, *, user: int = 1000) -> subprocess.CompletedProcess:
        as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        return subprocess.run(
            [*as_user, "sh", "-c", 'umask 077; exec "$@"', "sh", standby, "--install", target],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    @pytest.fixture
    def target(self, room: Path) -> Path:
        """A volume that everybody may write, as an emptyDir is."""
        folder = Path(tempfile.mkdtemp(dir=room))
        folder.chmod(0o777)
        return folder

    @pytest.mark.parametrize("times", [pytest.param(1, id="once"), pytest.param(2, id="again")])
    def test_everybody_may_read_and_run_what_is_installed(self, standby, tools, target, times):
        """Whatever the umask; nothing but the tools is left."""
        (tools / "record").chmod(0o644)
        done = [self.install(standby, target).returncode for _ in range(times)]

        assert [0] * times == done
        assert ["bin", "bin/snapshot-standby", "record"] == sorted(
            str(p.relative_to(target)) for p in target.rglob("*")
        )
        modes = [(target / name).stat().st_mode & 0o777 for name in ("bin", "bin/snapshot-standby", "record")]
        assert [0o755, 0o555, 0o444] == modes
        assert standby.read_bytes() == (target / "bin/snapshot-standby").read_bytes()

    def test_the_installed_program_installs_itself_further(self, standby, target, room):
        self.install(standby, target, user=0)
        second = Path(tempfile.mkdtemp(dir=room))
        second.chmod(0o777)

        assert 0 == self.install(target / "bin/snapshot-standby", second).returncode
        assert (second / "bin/snapshot-standby").exists()

    @pytest.mark.parametrize(
        ("prepare", "words"),
        [
            pytest.param(lambda folder: folder.rmdir(), "cannot open", id="no such folder"),
            pytest.param(lambda folder: folder.chmod(0o755), "cannot make bin", id="not writable"),
        ],
    )
    def test_what_cannot_be_installed_is_said(self, standby, tools, target, prepare, words):
        (tools / "record").chmod(0o644)
        prepare(target)
        done = self.install(standby, target)

        assert 1 == done.returncode
        assert words in done.stderr or "cannot write record" in done.stderr

    @pytest.mark.usefixtures("tools")
    def test_a_tool_that_its_user_cannot_read_is_said(self, standby, target):
        done = self.install(standby, target)

        assert 1 == done.returncode
        assert "cannot read record" in done.stderr

    def test_a_program_outside_of_a_tool_folder_says_so(self, standby, target, room):
        alone = shutil.copy(standby, room / "alone")

        assert "--install copies the folder" in self.install(alone, target).stderr


@pytest.mark.parametrize(
    ("prepare", "file", "code"),
    [
        pytest.param(lambda folder: (folder / control_files.RESTORE_COMPLETE).touch(), [], 0, id="open"),
        pytest.param(lambda _: None, [], 1, id="closed"),
        pytest.param(lambda folder: folder.rmdir(), [], 1, id="no folder"),
        pytest.param(
            lambda folder: (folder / control_files.READY_FOR_SNAPSHOT).touch(),
            [control_files.READY_FOR_SNAPSHOT],
            0,
            id="ready",
        ),
        pytest.param(
            lambda folder: (folder / control_files.RESTORE_COMPLETE).touch(),
            [control_files.READY_FOR_SNAPSHOT],
            1,
            id="not ready",
        ),
    ],
)
def test_the_probes_of_ours_need_no_other_program(standby, tmp_path, prepare, file, code):
    folder = tmp_path / "control"
    folder.mkdir()
    prepare(folder)

    waiting = ["unshare", "--pid", "--fork", "--mount-proc"]  # the first process is standby yet: this one
    assert code == subprocess.run([*waiting, standby, "--opened", folder, *file], check=False).returncode
