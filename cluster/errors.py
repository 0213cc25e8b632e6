"""Everything that can go wrong here, in one tree.

ClusterError
├── HostError       the machine lacks something; the message says how to install it
├── CommandError    a program failed; carries the end of what it said
├── BuildError      a program could not be built or fetched
├── StartError      a component did not come up; names its log
└── StateError      the request does not fit what is running
"""

from __future__ import annotations

from collections.abc import Sequence


class ClusterError(Exception):
    """Base of all errors that the user is meant to read."""


class HostError(ClusterError):
    """The machine lacks something."""


class CommandError(ClusterError):
    """A program ended with an error."""

    def __init__(self, argv: Sequence[str], code: int, output: str) -> None:
        """Keep the end of the program's output, which holds its reason."""
        self.code = code
        self.output = output
        tail = "\n".join(output.strip().splitlines()[-15:])
        super().__init__(f"`{' '.join(argv[:8])}` ended with {code}:\n{tail}")


class BuildError(ClusterError):
    """A program could not be built or fetched."""


class StartError(ClusterError):
    """A component did not come up."""


class StateError(ClusterError):
    """The request does not fit what is running."""
