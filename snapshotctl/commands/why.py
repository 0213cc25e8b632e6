"""``snapshotctl why``: why a pod was restored or started cold, or what would become of one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from snapshotctl.commands.options import manifests_of, objects_of, values_of
from snapshotctl.live.cluster import EXIT_COLD, Reach, Session, UserError, fail, on_cluster, reach_options
from snapshotctl.live.complete_names import complete_pod

if TYPE_CHECKING:
    from snapshotctl.explain.answers import Answer
    from snapshotctl.explain.release import Release

_FILE = click.Path(dir_okay=False, allow_dash=True, path_type=Path)


@click.command()
@click.argument("pod", required=False, metavar="[POD|KIND/NAME]", shell_complete=complete_pod)
@click.option("-f", "--filename", type=_FILE, help="Any workload's manifest, or - for standard input.")
@click.option("--values", type=_FILE, help="The chart's values. Without: those of the release that serves the pod.")
@click.option("--objects", type=_FILE, help="With -f: DynamoCheckpoints and claims, in place of a cluster's.")
@click.option("-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True)
@reach_options()
def command(
    reach: Reach, pod: str | None, filename: Path | None, values: Path | None, objects: Path | None, output: str
) -> None:
    """Tell why POD starts as it does, or with -f what would become of the pods of a manifest.

    Asks the webhook's own decision with the cluster's checkpoints and, with podMount, volume claims, and adds what
    happened to the pod since.
    Every code is explained in docs/reasons.md.

    Exit status: 0 restores, 1 it cannot be told, 2 the input cannot be read, 3 starts cold (with -f: one of them does).
    """
    if (pod is None) == (filename is None):
        raise click.UsageError("name a pod, or a manifest with -f FILE")
    if objects is not None and filename is None:
        raise click.UsageError("--objects goes with -f FILE")
    answers, notes = (
        _offline(filename, objects, values, reach) if filename and objects else _live(reach, pod, filename, values)
    )
    from snapshotctl.explain.answers import Outcome  # noqa: PLC0415 - --help imports nothing
    from snapshotctl.view.answer_text import as_text, rendered  # noqa: PLC0415 - as above

    click.echo(as_text(answers, notes) if output == "text" else rendered(answers, notes, output), nl=False)
    if any(answer.outcome in (Outcome.COLD, Outcome.REFUSED) for answer in answers):
        sys.exit(EXIT_COLD)


def _offline(filename: Path, objects: Path, values: Path | None, reach: Reach) -> tuple[list[Answer], tuple[str, ...]]:
    import asyncio  # noqa: PLC0415 - --help imports nothing

    from snapshotctl.explain.explainer import Explainer, about_manifests  # noqa: PLC0415 - as above
    from snapshotctl.explain.release import Release  # noqa: PLC0415 - as above
    from snapshotctl.offline.objects import DEFAULT_NAMESPACE, claims_in, is_checkpoint  # noqa: PLC0415 - as above

    release, found = Release(values_of(values)), objects_of(objects)
    claims = claims_in(found)(release.values.storage.pvc.name)
    oracle = Explainer(None, release, filter(is_checkpoint, found), claims)
    try:
        return asyncio.run(about_manifests(oracle, manifests_of(filename), reach.namespace, DEFAULT_NAMESPACE)), ()
    except UserError as error:
        fail(str(error))


def _live(
    reach: Reach, pod: str | None, filename: Path | None, values: Path | None
) -> tuple[list[Answer], tuple[str, ...]]:
    given = values_of(values) if values else None
    manifests = manifests_of(filename) if filename else []

    async def work(session: Session) -> tuple[list[Answer], tuple[str, ...]]:
        from snapshotctl.explain.explainer import Explainer, about_manifests, about_pod, about_workload  # noqa: PLC0415 - as above
        from snapshotctl.explain.release import Release, find_release  # noqa: PLC0415 - as above

        kube, where = session.kube, session.namespace
        if given is not None:
            release: Release = Release(given)
        else:
            release = await find_release(kube, _namespace(manifests, where))
        oracle = Explainer(kube, release)
        if manifests:
            return await about_manifests(oracle, manifests, reach.namespace, where), release.notes
        kind, _, name = (pod or "").rpartition("/")
        if kind.lower() in ("", "pod", "pods", "po"):
            return [await about_pod(kube, oracle, name, where)], release.notes
        return await about_workload(kube, oracle, kind, name, where), release.notes

    return on_cluster(reach, work)


def _namespace(manifests: list[dict[str, object]], usual: str) -> str:
    """The namespace whose release is asked: that of the first manifest that says one."""
    spoken = (str((obj.get("metadata") or {}).get("namespace") or "") for obj in manifests)  # type: ignore[attr-defined]
    return next(filter(None, spoken), usual)
