"""The interface to Kubernetes: six calls over plain dicts, implemented by ``kube.client`` and by unit tests' fakes."""

from collections.abc import AsyncGenerator, Callable
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from contract.api import objects
from kube.resources import Resource

Object = objects.Object
"""A Kubernetes object exactly as the API server sends it."""
Transform = Callable[[Object], Object]
"""What of an object is remembered; at least its metadata's namespace, name, uid and resourceVersion."""


class PatchKind(StrEnum):
    """How a patch body is read; the value is its content type."""

    MERGE = "application/merge-patch+json"
    JSON = "application/json-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


class Propagation(StrEnum):
    """What becomes of an object's dependents when it is deleted."""

    BACKGROUND = "Background"
    FOREGROUND = "Foreground"


class Listing(NamedTuple):
    """All objects of a collection at one moment, and the version to watch from."""

    items: tuple[Object, ...]
    resource_version: str


class WatchEvent(NamedTuple):
    """One line of a watch: ADDED, MODIFIED, DELETED, or BOOKMARK (whose object carries only a resourceVersion)."""

    type: str
    object: Object


class KubeClient(Protocol):
    """An API server; every method raises ``kube.errors.KubeError`` and nothing else of its own."""

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        keep: Transform | None = None,
    ) -> Listing:
        """Read a whole collection, page by page; *labels* and *fields* are selectors in kubectl's spelling.

        Items carry no ``kind`` and ``apiVersion`` on the wire: they are filled in. With *keep* no more than one page
        is ever whole in memory.
        """
        ...

    def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        labels: str = "",
        fields: str = "",
    ) -> AsyncGenerator[WatchEvent, None]:
        """Follow a collection from *resource_version* until the server ends the stream (some minutes).

        Raises:
            GoneError: *resource_version* is too old.
        """
        ...

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        """Read one object."""
        ...

    async def create(
        self, resource: Resource, body: Object, namespace: str | None = None, *, dry_run: bool = False
    ) -> Object:
        """Create *body*; with *dry_run* everything is checked and nothing stored."""
        ...

    async def patch(  # noqa: PLR0913 - the API's own knobs, all but three optional keywords
        self,
        resource: Resource,
        name: str,
        body: Any,  # noqa: ANN401 - a mapping for three kinds, a list of operations for JSON
        namespace: str | None = None,
        *,
        kind: PatchKind = PatchKind.MERGE,
        subresource: str = "",
        field_manager: str = "",
        force: bool = False,
        dry_run: bool = False,
    ) -> Object:
        """Change one object and return it.

        A merge patch that carries ``metadata.resourceVersion`` fails with ConflictError if the object has changed:
        the same guard as a PUT, without sending what is not ours. APPLY needs *field_manager*.
        """
        ...

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        propagation: Propagation = Propagation.BACKGROUND,
        uid: str = "",
        resource_version: str = "",
    ) -> None:
        """Delete one object; *uid* and *resource_version* are preconditions (ConflictError if they differ)."""
        ...
