"""Choose the namespace of what is made from a manifest: the command line and the manifest must agree."""

from __future__ import annotations

from dataclasses import replace

from kube.api import Object
from snapshotctl.live.reach import Reach
from snapshotctl.offline.objects import namespace_of


def placed(reach: Reach, manifest: Object) -> Reach:
    """Reach the namespace that the manifest or ``-n`` names; without either, that of the context.

    Raises:
        UserError: they name different ones.
    """
    return replace(reach, namespace=namespace_of(manifest, reach.namespace, "") or None)
