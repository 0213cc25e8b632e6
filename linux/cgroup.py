"""Control groups, v1 and v2: which files a process of a container is listed in."""

from pathlib import Path, PurePosixPath


def cgroup_files(cgroups: str, root: Path) -> list[str]:
    """Return the ``cgroup.procs`` files of a process's cgroups: of each v1 controller, and of the v2 leaf if any."""
    files = []
    for line in cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        if path == "/" and not controllers:
            continue  # an unused v2 tree beside v1
        # A private cgroup namespace shows paths relative to itself; from ours they begin above its root.
        clean = PurePosixPath("/", *(part for part in path.split("/") if part != "..")).relative_to("/")
        files += [str(base / clean / "cgroup.procs") for base in _cgroup_mount(root, controllers)]
    return files


def _cgroup_mount(root: Path, controllers: str) -> list[Path]:
    if not controllers:
        return [root / "unified" if (root / "unified").is_dir() else root]
    named = root / controllers.removeprefix("name=")
    return [named] if named.is_dir() else [root / c for c in controllers.split(",") if (root / c).is_dir()][:1]
