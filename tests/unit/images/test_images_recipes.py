"""What the images consist of, with an engine and without."""

import ast
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from images import __main__ as program
from images import dockerfile, native, recipes, wheels
from images.archive import Image
from images.errors import ImageError
from images.layers import Layer

PROJECT = Path(__file__).parents[3]
DOCKERFILES = sorted((PROJECT / "images").glob("*.Dockerfile"))


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the compiler by one that writes a mark."""
    monkeypatch.setattr(native, "compile_static", lambda _, target: target.write_text("standby"))
    monkeypatch.setattr(native, "compile_device_memory", lambda _, target: target.parent.mkdir())


@pytest.mark.parametrize(
    ("runtime", "entrypoint", "cmd"),
    [
        pytest.param({"Entrypoint": ["a", "b c"], "Cmd": ["d"]}, ["a", "b c"], ["d"], id="both"),
        pytest.param({"Entrypoint": None, "Cmd": ["d"]}, [], ["d"], id="cmd-only"),
        pytest.param({"Entrypoint": ["a"]}, ["a"], [], id="entrypoint-only"),
    ],
)
def test_placeholders_record_what_the_base_runs(
    runtime: dict[str, object], entrypoint: list[str], cmd: list[str]
) -> None:
    asked: list[tuple[list[str] | None, list[str] | None]] = []

    def records(*words: list[str] | None) -> Layer:
        asked.append((words[0], words[1]))
        return Layer(Path("x"), "sha256:2")

    image = recipes.placeholder(Image({"config": runtime, "rootfs": {"diff_ids": ["sha256:1"]}}, ()), records)

    assert [(entrypoint, cmd)] == asked
    assert runtime == image.runtime


@pytest.mark.usefixtures("uncompiled")
def test_records_end_every_argument_with_a_nul(tmp_path: Path) -> None:
    native.tool_folder(Path("native"), tmp_path, ["python3", "", "-c ü"], [])

    folder = tmp_path / "opt/dynamo-snapshot"
    assert b"python3\0\0-c \xc3\xbc\0" == (folder / "entrypoint").read_bytes()
    assert b"" == (folder / "cmd").read_bytes()
    assert "standby" == (folder / "bin/snapshot-standby").read_text()


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize(
    ("words", "recorded"),
    [
        pytest.param([], {"bin", "lib"}, id="agent-has-no-record"),
        pytest.param(["null", '["x"]'], {"bin", "lib", "cmd", "entrypoint"}, id="placeholder"),
    ],
)
def test_docker_builds_the_same_tool_folder(tmp_path: Path, words: list[str], recorded: set[str]) -> None:
    dockerfile.main(["tools", str(tmp_path), *words])

    assert recorded == {path.name for path in (tmp_path / "opt/dynamo-snapshot").iterdir()}


def test_the_tools_image_runs_its_own_program_as_nobody() -> None:
    """As pods with restricted security contexts demand: the user is a number, and not root's."""

    class Folder:
        def tools(self) -> Layer:
            return Layer(Path("x"), "sha256:1")

    image = recipes.RECIPES["tools"].build(Folder(), PROJECT)  # type: ignore[arg-type]
    text = (PROJECT / "images" / "tools.Dockerfile").read_text()

    assert [Layer(Path("x"), "sha256:1")] == list(image.layers)
    assert f'ENTRYPOINT ["{image.runtime["Entrypoint"][0]}"]' in text
    assert f"USER {image.runtime['User']}" in text


def test_the_agents_image_has_the_tools_too() -> None:
    """Pods get them from there where the chart's values name no other image."""

    class Steps:
        def __getattr__(self, name: str) -> Callable[..., Layer]:
            return lambda *_, **__: Layer(Path(name), f"sha256:{name}")

    image = recipes.RECIPES["agent"].build(Steps(), PROJECT)  # type: ignore[arg-type]

    assert Layer(Path("tools"), "sha256:tools") in image.layers
    assert "images.dockerfile tools /out" in (PROJECT / "images" / "agent.Dockerfile").read_text()


@pytest.mark.parametrize("name", ["agent", "control-plane", "tools"])
def test_every_image_has_its_targets(name: str) -> None:
    own, top = ((PROJECT / folder / "Makefile").read_text() for folder in ("deploy/snapshot", "."))

    for target in (f"docker-build-{name}", f"docker-push-{name}"):
        assert re.search(rf"^(?:docker-\S+ )*{target}[ :]", own, re.MULTILINE)
        assert re.search(rf"^(?:docker-\S+ )*{target}[ :]", top, re.MULTILINE)


def test_unknown_docker_steps_are_refused() -> None:
    with pytest.raises(ImageError, match="Usage"):
        dockerfile.main(["other"])


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in DOCKERFILES])
def test_all_that_dockerfiles_copy_exists(path: Path) -> None:
    text = path.read_text().replace("\\\n", " ")
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE))
    copied = re.findall(r"^COPY (?:--from=(\S+) )?(\S+) \S+$", text, re.MULTILINE)

    assert text.count("\nCOPY ") == len(copied)
    for stage, source in copied:
        assert stage in stages if stage else (PROJECT / source).exists(), source


def test_dockerfiles_hold_the_rooms_of_the_recipes() -> None:
    for name in ("control-plane", "agent"):
        text = (PROJECT / "images" / f"{name}.Dockerfile").read_text()
        final = text[text.rindex("\nFROM ") :] if "\nFROM " in text else text
        assert set(recipes.ROOMS[name]) == set(re.findall(r"^COPY (\w+) \1$", final, re.MULTILINE))


@pytest.mark.parametrize(("name", "extras"), [pytest.param(n, e, id=n) for n, e in recipes.EXTRAS.items()])
def test_lock_files_hold_what_the_extras_ask_for(name: str, extras: tuple[str, ...]) -> None:
    lines = recipes.lock_file(PROJECT, name).read_text().splitlines()[1:]
    pinned = dict(line.split()[0].split("==") for line in lines)
    versions = {canonicalize_name(package): version for package, version in pinned.items()}

    for text in wheels.extras(PROJECT / "pyproject.toml", extras):
        wanted = Requirement(text)
        assert wanted.specifier.contains(versions[canonicalize_name(wanted.name)]), text
    assert all("--hash=sha256:" in line for line in lines)


def test_the_worker_locks_what_it_asks_for() -> None:
    lock = recipes.lock_file(PROJECT, "worker")
    locked = {line.split("==")[0] for line in lock.read_text().splitlines()[1:]}

    assert set(lock.with_suffix(".txt").read_text().split()) == locked


def test_every_room_that_ships_is_in_an_image() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())

    shipped = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert shipped == {room for rooms in recipes.ROOMS.values() for room in rooms}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["build", "nothing", "-o", "x"], "'nothing' is not one of", id="unknown-image"),
        pytest.param(["build", "agent"], "Missing option '-o'", id="no-folder"),
        pytest.param(["placeholder", "--base", "gone.tar", "--name", "a", "-o", "b"], "does not exist", id="no-base"),
    ],
)
def test_wrong_words_on_the_command_line(words: list[str], message: str) -> None:
    result = CliRunner().invoke(program.main, words)

    assert 2 == result.exit_code
    assert message in result.output


def _imported(tree: ast.Module) -> set[str]:
    """First names of what a module imports whenever it is loaded: not what only type checkers or functions import."""
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("name", [pytest.param(name, id=name) for name in recipes.ROOMS])
def test_all_that_the_rooms_import_is_in_their_image(name: str) -> None:
    rooms = recipes.ROOMS[name]
    sources = [file for room in rooms for file in (PROJECT / room).rglob("*.py")]
    imported = {word for file in sources for word in _imported(ast.parse(file.read_text()))}
    lines = recipes.lock_file(PROJECT, name).read_text().splitlines()[1:]
    locked = {canonicalize_name(line.split("==")[0]) for line in lines}

    foreign = imported - set(rooms) - set(sys.stdlib_module_names)
    assert set() == {word for word in foreign if canonicalize_name({"yaml": "pyyaml"}.get(word, word)) not in locked}
