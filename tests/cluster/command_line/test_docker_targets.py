"""The guides' image targets, up to the container engine: what it is asked to do (no engine runs here)."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
RUNTIME = "registry.example.com/dynamo/vllm-runtime:1.0.0"
PLACEHOLDER = "registry.example.com/dynamo/vllm-placeholder:1.0.0"
AGENT = "registry.example.com/dynamo/snapshot-agent:1.0.0"
FORK = ("CRIU_REPO=https://git.example.com/criu.git", "CRIU_REF=branch-or-sha")


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """In the engine's place: notes each call, one line of arguments."""
    program = tmp_path / "engine"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    program.chmod(0o755)
    return program


def calls(engine: Path, directory: str, *arguments: str) -> list[str]:
    """What the engine is told by ``make ARGUMENTS`` in a folder of the checkout."""
    argv = ["make", "-C", str(ROOT / directory), f"DOCKER={engine}", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert 0 == done.returncode, done.stderr
    return (engine.parent / "calls").read_text().splitlines()


@pytest.mark.parametrize(
    "directory", [pytest.param(".", id="top"), pytest.param("deploy/snapshot", id="as the guides")]
)
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(
            ("docker-build-placeholder", f"PLACEHOLDER_BASE_IMG={RUNTIME}", f"PLACEHOLDER_IMG={PLACEHOLDER}"),
            ("placeholder.Dockerfile", f"-t {PLACEHOLDER}", f"--build-arg PLACEHOLDER_BASE_IMG={RUNTIME}"),
            id="build the placeholder",
        ),
        pytest.param(
            ("docker-build-placeholder", f"PLACEHOLDER_BASE_IMG={RUNTIME}", f"PLACEHOLDER_IMG={PLACEHOLDER}", *FORK),
            (f"-t {PLACEHOLDER}",),
            id="placeholder with a CRIU fork",
        ),
        pytest.param(
            ("docker-push-placeholder", f"PLACEHOLDER_IMG={PLACEHOLDER}"), (f"push {PLACEHOLDER}",), id="push it"
        ),
        pytest.param(
            ("docker-build-agent", f"IMG={AGENT}", *FORK),
            ("agent.Dockerfile", f"-t {AGENT}", *(f"--build-arg {each}" for each in FORK)),
            id="agent with a CRIU fork",
        ),
        pytest.param(("docker-build-agent", f"IMG={AGENT}"), ("agent.Dockerfile", f"-t {AGENT}"), id="agent"),
        pytest.param(("docker-push-agent", f"IMG={AGENT}"), (f"push {AGENT}",), id="push the agent"),
    ],
)
def test_the_engine_is_asked(engine: Path, directory: str, arguments: tuple[str, ...], expected: tuple[str, ...]):
    last = calls(engine, directory, *arguments)[-1]

    assert [] == [word for word in expected if word not in last]


def test_a_missing_name_says_which(engine: Path):
    argv = ["make", "-C", str(ROOT), f"DOCKER={engine}", "docker-build-placeholder"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)

    assert 0 != done.returncode
    assert "PLACEHOLDER_BASE_IMG is not set; name the runtime image of the workers" in done.stderr
