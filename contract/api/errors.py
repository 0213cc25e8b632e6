"""The error that every part of a capture or restore raises: a code of a closed list, and a sentence."""


class SnapshotError(Exception):
    """A capture or restore did not succeed."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        """Closed list, kebab case: goes to reports and metrics."""
        super().__init__(message)
