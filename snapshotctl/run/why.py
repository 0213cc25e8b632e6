"""Explain how pods start: a live one, those of a live workload, or those of manifests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import click

from kube.api import Object
from snapshotctl.errors import EXIT_COLD
from snapshotctl.explain.answers import Answer, Outcome
from snapshotctl.explain.explainer import Explainer, about_manifests, about_pod, about_workload
from snapshotctl.explain.release import Release, find_release
from snapshotctl.live.cluster import Session, on_cluster
from snapshotctl.live.reach import Reach
from snapshotctl.offline.files import manifests_of, objects_of, values_of
from snapshotctl.offline.objects import DEFAULT_NAMESPACE, claims_in
from snapshotctl.view.answer_text import as_text, rendered

Explained = tuple[list[Answer], Sequence[str]]
"""The answers, and what the reader must know about all of them."""


def explain_live(reach: Reach, name: str, values: Path | None, output: str) -> int:
    """Explain a pod, or the next pod of ``KIND/NAME``; return the exit status."""
    given = values_of(values) if values else None

    async def work(session: Session) -> Explained:
        kube, namespace = session.kube, session.namespace
        release = Release(given) if given is not None else await find_release(kube, namespace)
        explainer = Explainer(kube, release)
        kind, _, own = name.rpartition("/")
        if kind.lower() in ("", "pod", "pods", "po"):
            return [await about_pod(kube, explainer, own, namespace)], release.notes
        return await about_workload(kube, explainer, kind, own, namespace), release.notes

    return _print(*on_cluster(reach, work), output)


def explain_files(
    reach: Reach,
    filenames: Sequence[Path],
    objects: Path | None,
    values: Path | None,
    output: str,
    *,
    recursive: bool,
) -> int:
    """Explain the pods of manifests; return the exit status."""
    given = values_of(values) if values else None
    stored = objects_of(objects) if objects else None
    manifests = manifests_of(*filenames, recursive=recursive)
    if stored is not None:
        release = Release(given or values_of(None))
        claims = claims_in(stored)(release.values.storage.pvc.claim_name)
        explainer = Explainer(None, release, stored, claims)
        answers = asyncio.run(about_manifests(explainer, manifests, reach.namespace, DEFAULT_NAMESPACE))
        return _print(answers, (), output)

    async def work(session: Session) -> Explained:
        namespace = session.namespace
        release = (
            Release(given) if given is not None else await find_release(session.kube, _first(manifests, namespace))
        )
        answers = await about_manifests(Explainer(session.kube, release), manifests, reach.namespace, namespace)
        return answers, release.notes

    return _print(*on_cluster(reach, work), output)


def _first(manifests: Sequence[Object], usual: str) -> str:
    """Return the namespace whose release is asked: that of the first manifest that names one."""
    named = (str((obj.get("metadata") or {}).get("namespace") or "") for obj in manifests)
    return next(filter(None, named), usual)


def _print(answers: Sequence[Answer], notes: Sequence[str], output: str) -> int:
    click.echo(as_text(answers, notes) if output == "text" else rendered(answers, notes, output), nl=False)
    return EXIT_COLD if any(each.outcome in (Outcome.COLD, Outcome.REFUSED) for each in answers) else 0
