"""The error that every part of a capture or restore raises: a code of a closed list, and a sentence."""

from contract.api.states import AgentReason


class SnapshotError(Exception):
    """A capture or restore did not succeed."""

    def __init__(self, code: AgentReason, message: str) -> None:
        self.code = code
        """Closed list, kebab case; appears in reports and metrics."""
        super().__init__(message)
