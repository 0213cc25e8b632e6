"""``make setup`` makes the command ``snapshotctl``."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def test_setup_installs_the_command(tmp_path):
    """Into an environment that is there already; the command works from any folder, and takes nothing from it."""
    environment = tmp_path / "environment"
    (environment / "bin").mkdir(parents=True)
    python = environment / "bin/python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (environment / ".installed").touch()
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    subprocess.run([make, "-s", "-C", ROOT, "setup", f"VENV={environment}"], check=True, capture_output=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "click.py").write_text("raise SystemExit('taken from the current folder')")
    done = subprocess.run(
        [environment / "bin/snapshotctl", "--version"],
        cwd=elsewhere,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, "snapshotctl, version") == (done.returncode, done.stdout[:20]), done.stderr
