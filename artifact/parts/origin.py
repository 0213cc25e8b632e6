"""Of a manifest: where and in which container the worker was captured."""

from typing import Annotated

from pydantic import Field

from artifact.parts.base import Part
from contract.nodes.node_facts import NodeFacts


class Machine(Part):
    """The node that the worker was captured on."""

    kernel: str
    architecture: str
    cpu_flags: list[str]
    criu: str
    """Version."""
    cpu_model: str = ""
    """Empty in artifacts of earlier releases."""

    @property
    def facts(self) -> NodeFacts:
        """The same, to be compared with another node."""
        return NodeFacts(
            architecture=self.architecture,
            kernel=self.kernel,
            criu=self.criu,
            cpu_flags=frozenset(self.cpu_flags),
            cpu_model=self.cpu_model,
        )


class Container(Part):
    """The container that the worker was captured in, and the rights that it had."""

    name: str
    image: str
    uid: int
    gid: int
    groups: list[int]
    capabilities: Annotated[str, Field(pattern=r"^[0-9a-f]{1,16}$")]
    """The bounding set, hexadecimal as in /proc."""
    no_new_privileges: bool
    seccomp: int
    """Mode as in /proc: 0 none, 1 strict, 2 filter."""
    image_id: str = ""
    """As the runtime knows it: ``name@sha256:...``; empty in artifacts of earlier releases."""
    cpu_limit: Annotated[float, Field(gt=0)] | None = None
    """CPUs; None without a limit."""

    @property
    def bounding_set(self) -> int:
        """Capabilities as a bit mask."""
        return int(self.capabilities, 16)
