"""``snapshotctl checkpoint``: capture the worker of a pod manifest, without writing a DynamoCheckpoint."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from snapshotctl.commands.options import manifests_of
from snapshotctl.live.cluster import EXIT_FAILED, Reach, Session, UserError, on_cluster, reach_options

if TYPE_CHECKING:
    from snapshotctl.live.waiting import Ended


@click.command()
@click.option("--manifest", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path), required=True)
@click.option("--container", help="The container to capture. Without: the manifest's target, main, or the only one.")
@click.option("--checkpoint-id", metavar="ID", help="Id of the artifact. Without: a new one.")
@click.option(
    "--ready-signal",
    type=click.Choice(["File", "Probe"]),
    default="File",
    show_default=True,
    help="The moment of capture: the worker writes ready-for-snapshot, or its own probes pass.",
)
@click.option("--timeout", type=click.FloatRange(min=1), default=3600.0, show_default=True, help="Seconds to wait.")
@reach_options()
def command(
    reach: Reach, manifest: Path, container: str | None, checkpoint_id: str | None, ready_signal: str, timeout: float
) -> None:
    """Capture the worker of a Pod manifest that uses a placeholder image, and wait until it is done.

    Makes a DynamoCheckpoint named after the id. Prints lines of key=value; progress goes to standard error.

    Exit status: 0 captured, 1 it was not, 2 the manifest cannot be read.
    """
    pod = Wanted(manifests_of(manifest), str(manifest), container, ready_signal)
    done = on_cluster(reach, lambda session: _capture(session, pod, checkpoint_id, timeout))
    click.echo("".join(f"{key}={value}\n" for key, value in done.facts.items()), nl=False)
    if not done.ok:
        click.echo(f"error: {done.message}", err=True)
        sys.exit(EXIT_FAILED)


class Wanted(NamedTuple):
    """What is to be captured, and when."""

    objects: list[dict[str, Any]]
    manifest: str
    """Where they are from."""
    container: str | None
    ready_signal: str


async def _capture(session: Session, wanted: Wanted, checkpoint_id: str | None, seconds: float) -> Ended:
    from kube.errors import AlreadyExistsError  # noqa: PLC0415 - --help imports nothing
    from kube.resources import CHECKPOINTS  # noqa: PLC0415 - as above
    from snapshotctl.live.waiting import until_captured  # noqa: PLC0415 - as above
    from snapshotctl.offline.manual import ID_PREFIX, checkpoint_body, pod_of, targets_of  # noqa: PLC0415 - as above

    pod = pod_of(wanted.objects, wanted.manifest)
    targets = targets_of(pod, wanted.container)
    if len(targets) != 1:
        raise UserError(f"one container is captured, found {', '.join(targets)}; choose with --container")
    name = checkpoint_id or ID_PREFIX + secrets.token_hex(6)
    body = checkpoint_body(pod, targets[0], name, session.namespace, wanted.ready_signal)
    try:
        made = await session.kube.create(CHECKPOINTS, body, session.namespace)
    except AlreadyExistsError as error:
        raise UserError(f"DynamoCheckpoint {name} exists; choose another --checkpoint-id") from error
    return await until_captured(session.kube, made, seconds, lambda words: click.echo(words, err=True))
