"""``python -m controller.farewell``: lets every DynamoCheckpoint go when the system is uninstalled.

Whoever deleted one afterwards, or its namespace, would wait for ever: our finalizer on it is taken off by the
controller alone, and that is gone.  The chart runs this once, after everything else was removed.  Artifacts stay.
"""

import logging
import sys
from typing import Final

from contract import keys
from daemon import logs
from daemon.settings import read_settings
from daemon.tasks import main
from kube.client import connect
from kube.errors import ConflictError, NotFoundError
from kube.resources import CHECKPOINTS
from kube.seam import Kube, Object

ATTEMPTS: Final = 5
"""Lost races for one object; nobody else writes to it all the time."""

log = logging.getLogger(__name__)


async def release_all(kube: Kube, namespace: str | None) -> int:
    """Take our finalizer off the checkpoints of *namespace* (None: of all); answers how many had it.

    Raises:
        KubeError: a call failed.
    """
    try:
        found = (await kube.list(CHECKPOINTS, namespace)).items
    except NotFoundError:
        return 0  # the CRD is gone, and all checkpoints with it
    held = [each for each in found if keys.FINALIZER in _finalizers(each)]
    for each in held:
        await _release(kube, each)
    return len(held)


async def _release(kube: Kube, checkpoint: Object) -> None:
    metadata = checkpoint["metadata"]
    for _ in range(ATTEMPTS):
        others = [each for each in _finalizers(checkpoint) if each != keys.FINALIZER]
        change = {"finalizers": others, "resourceVersion": checkpoint["metadata"]["resourceVersion"]}
        try:
            await kube.patch(CHECKPOINTS, metadata["name"], {"metadata": change}, metadata["namespace"])
        except ConflictError:
            checkpoint = await kube.get(CHECKPOINTS, metadata["name"], metadata["namespace"])
        except NotFoundError:
            return
        else:
            log.info("let go", extra={"namespace": metadata["namespace"], "checkpoint": metadata["name"]})
            return
    raise ConflictError(409, "Conflict", f"{metadata['namespace']}/{metadata['name']} changes all the time; try again")


def _finalizers(checkpoint: Object) -> list[str]:
    return checkpoint["metadata"].get("finalizers") or []


async def _process() -> None:
    settings = read_settings()
    logs.configure(settings.log_level)
    async with await connect(user_agent="dynamo-snapshot/farewell") as kube:
        count = await release_all(kube, settings.watched_namespace)
    log.info("%d checkpoints let go; their artifacts stay", count)


if __name__ == "__main__":
    sys.exit(main(_process))
