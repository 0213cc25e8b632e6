"""Build container images without a container engine.

Usage: ``python -m images build all -o DIR``, ``python -m images placeholder --base ARCHIVE --name REF -o FILE``.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from images import archive, recipes, wheels
from images.cache import Cache, default_root
from images.errors import ImageError
from images.recipes import EXAMPLES, RECIPES
from images.steps import Say, Steps

PROJECT = Path(__file__).parent.parent
_DEBIAN_STEPS = ("python", "shell", "criu", "musl")


@click.group(help="Build container images without a container engine.")
def main() -> None:
    """Build the images."""


@main.command()
@click.argument("name", type=click.Choice([*RECIPES, *EXAMPLES, "all"]))
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder.")
@click.option("--refresh", is_flag=True, help="Fetch Debian's packages again.")
def build(name: str, output: Path, *, refresh: bool) -> None:
    """Build one image, or all that an installation and the demo need, as archives in a folder."""
    cache = Cache(default_root())
    if refresh:
        for step in _DEBIAN_STEPS:
            cache.forget(step)
    for wanted in RECIPES if name == "all" else [name]:
        recipe = (RECIPES | EXAMPLES)[wanted]
        target = output / recipe.archive
        with _reported(recipe.reference, target) as say:
            built = recipe.build(Steps(PROJECT, cache, say), PROJECT)
            say("writing the archive")
            archive.write(built, recipe.reference, target)


@main.command()
@click.option("--base", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True, help="Archive.")
@click.option("--name", required=True, help="Reference of the placeholder image.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Archive to write."
)
def placeholder(base: Path, name: str, output: Path) -> None:
    """Make a placeholder image from the archive of any image."""
    with _reported(name, output) as say, tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        say(f"reading {base.name}")
        image = archive.read(base, Path(scratch))
        steps = Steps(PROJECT, Cache(default_root()), say)
        archive.write(recipes.placeholder(image, steps.records), name, output)


@main.command()
def lock() -> None:
    """Write the lock files of all images' wheels again."""
    for name, extras in recipes.EXTRAS.items():
        _write(recipes.lock_file(PROJECT, name), wheels.resolve(wheels.extras(PROJECT / "pyproject.toml", extras)))
    worker = recipes.lock_file(PROJECT, "worker")
    direct = worker.with_suffix(".txt").read_text().split()
    _write(worker, wheels.resolve(direct, deps=False))


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    click.echo(path.relative_to(PROJECT))


@contextmanager
def _reported(what: str, target: Path) -> Iterator[Say]:
    """Show the current step while it lasts, and one line when all is done."""
    began = time.monotonic()
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what)

        def say(text: str) -> None:
            progress.update(task, description=f"{what}: {text}")
            if not console.is_terminal:
                console.print(f"{what}: {text}")

        yield say
    size = target.stat().st_size / 1e6
    click.echo(f"{what}  {size:.1f} MB  {time.monotonic() - began:.1f} s  {target}")


if __name__ == "__main__":
    try:
        main()
    except ImageError as e:
        sys.exit(f"error: {e}")
