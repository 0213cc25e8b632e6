"""``python3 -m artifact verify BASE ID VERSION``: says what an artifact in storage is, after reading all of it.

What the controller's adoption Job runs. The answer is one line of JSON in the container's termination message:
``{version, digest, size, createdAt, source}`` of a whole artifact, ``{error, message}`` if it is not one. Nothing else
is reported: who may do what is never read from an artifact.
"""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from artifact.beneath import open_agent_mount
from artifact.errors import ArtifactError
from artifact.manifest import MANIFEST
from artifact.read import open_artifact
from artifact.read import verify as verify_files
from contract.api.states import AgentReason
from contract.api.times import format_time
from contract.config.storage import BadIdError

USAGE: Final = "usage: python3 -m artifact verify BASE ID VERSION"
TERMINATION_LOG: Final = Path("/dev/termination-log")
ARGUMENTS: Final = 3


def verify(base: str, checkpoint_id: str, version: str) -> dict[str, Any]:
    """Describe what is at ``<base>/<id>/versions/<version>``; every file is read and compared with the manifest.

    Raises:
        ArtifactError: it is missing, partial, changed, or of another id or format.
        BadIdError: *checkpoint_id* or *version* cannot be part of a path.
    """
    root = open_agent_mount(base)
    try:
        found = open_artifact(root, checkpoint_id, version, None)
    finally:
        os.close(root)
    try:
        if found.manifest.version != version:
            raise ArtifactError(AgentReason.MANIFEST_UNREADABLE, f"{MANIFEST} is not that of version {version}")
        verify_files(found)
        manifest = found.open(MANIFEST)
        try:
            about = os.fstat(manifest)
        finally:
            os.close(manifest)
        made = format_time(datetime.fromtimestamp(about.st_mtime, UTC))
        return {
            "version": version,
            "digest": found.digest,
            "size": found.size + about.st_size,
            "createdAt": made,
            "source": found.manifest.source.document(),
        }
    finally:
        found.close()


def main(arguments: list[str], message: Path = TERMINATION_LOG) -> int:
    """Return exit code 0 if the artifact is whole, 1 if it is not, 2 for wrong usage."""
    if len(arguments) != ARGUMENTS:
        sys.stderr.write(f"{USAGE}\n")
        return 2
    answer: dict[str, Any]
    try:
        answer = verify(*arguments)
    except ArtifactError as error:
        answer = {"error": error.code, "message": str(error)}
    except (BadIdError, OSError) as error:
        answer = {"error": AgentReason.ARTIFACT_UNREADABLE, "message": str(error)}
    text = json.dumps(answer)
    sys.stdout.write(f"{text}\n")
    message.write_text(text)
    return 1 if "error" in answer else 0
