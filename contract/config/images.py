"""Image references of the chart, moved to the registry that the installation names. Pure."""

from typing import Final

_LOCAL: Final = "localhost"


def in_registry(image: str, registry: str) -> str:
    """Return *image* with *registry* in place of the host in its name; unchanged if *registry* is empty.

    A host is a first part with a dot, a port, or ``localhost``, as container runtimes distinguish it from a folder:
    ``busybox:1.36`` has none and goes to ``<registry>/busybox:1.36``.
    """
    if not registry:
        return image
    first, slash, rest = image.partition("/")
    has_host = bool(slash) and (first == _LOCAL or "." in first or ":" in first)
    return f"{registry.rstrip('/')}/{rest if has_host else image}"
