"""``snapshotctl restore``: create a pod from a manifest so that it restores from a checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from snapshotctl.commands.options import manifests_of
from snapshotctl.live.cluster import EXIT_COLD, Reach, Session, UserError, fail, on_cluster, reach_options
from snapshotctl.live.complete_names import complete_pod


@click.command()
@click.option("--manifest", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--pod", shell_complete=complete_pod, help="Not served: pods that exist are never changed.")
@click.option("--checkpoint-id", metavar="ID", required=True, help="Id of the artifact.")
@click.option("--containers", help="Comma-separated. Without: the manifest's targets, main, or the only one.")
@reach_options()
def command(reach: Reach, manifest: Path | None, pod: str | None, checkpoint_id: str, containers: str | None) -> None:
    """Create the pod of a Pod manifest so that it restores from the checkpoint of this id, and return.

    Prints lines of key=value; how the restore goes is told by `snapshotctl why POD`, Events and the worker's log.

    Exit status: 0 it restores, 1 it was not created, 2 the manifest cannot be read, 3 created, but it starts cold.
    """
    if pod is not None:
        fail(
            f"pod {pod} exists, and pods that exist are never changed; delete it and create it anew with --manifest, "
            "or opt its owner's template in"
        )
    if manifest is None:
        raise click.UsageError("--manifest FILE is needed")
    objects, name = manifests_of(manifest), str(manifest)
    facts = on_cluster(reach, lambda session: _create(session, objects, name, checkpoint_id, containers))
    click.echo("".join(f"{key}={value}\n" for key, value in facts.items()), nl=False)
    if facts["admission"] not in ("restore-shaped", "held"):
        click.echo(f"error: it starts cold; `snapshotctl why {facts['name']}` says what to do", err=True)
        sys.exit(EXIT_COLD)


async def _create(
    session: Session, objects: list[dict[str, Any]], manifest: str, checkpoint_id: str, containers: str | None
) -> dict[str, str]:
    from contract.api import keys  # noqa: PLC0415 - --help imports nothing
    from kube.resources import PODS  # noqa: PLC0415 - as above
    from snapshotctl.offline.manual import pod_of, restore_body, targets_of  # noqa: PLC0415 - as above

    wanted = pod_of(objects, manifest)
    targets = targets_of(wanted, containers)
    body = restore_body(wanted, await _checkpoint_of(session, checkpoint_id), targets, session.namespace)
    made = await session.kube.create(PODS, body, session.namespace)
    return {
        "status": "submitted",
        "namespace": session.namespace,
        "name": str(made["metadata"]["name"]),
        "checkpoint_id": checkpoint_id,
        "containers": ",".join(targets),
        "admission": (made["metadata"].get("annotations") or {}).get(keys.ANN_ADMISSION, "webhook-unreachable"),
    }


async def _checkpoint_of(session: Session, checkpoint_id: str) -> str:
    """Name of the DynamoCheckpoint with this id."""
    from contract.api import keys  # noqa: PLC0415 - --help imports nothing
    from kube.resources import CHECKPOINTS  # noqa: PLC0415 - as above

    label = f"{keys.LABEL_CHECKPOINT_ID}={checkpoint_id}"
    found = (await session.kube.list(CHECKPOINTS, session.namespace, labels=label)).items
    if not found:
        raise UserError(
            f"no DynamoCheckpoint of namespace {session.namespace} has the id {checkpoint_id}; `snapshotctl get` "
            "lists them"
        )
    return str(found[0]["metadata"]["name"])
