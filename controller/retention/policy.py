"""What may go from checkpoint storage: decided from what is there, never done here.

Four rules, each on what the ones before it leave:

- versions of one checkpoint beyond ``keepVersions``, the current one last;
- checkpoints unused for ``ttlAfterLastUse``: automatic ones, and those that say so themselves;
- automatic checkpoints of one workload beyond ``automaticPerWorkload``, the longest unused first;
- automatic checkpoints of a namespace beyond ``namespaceQuota`` bytes, the longest unused first.

Whatever the rules say, these stay: what a pod uses or names, what is being captured or taken over, the version that
a Ready checkpoint restores. What belongs to a graph deployment goes with that, or when its service has newer ones.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from contract.api import keys
from contract.api.checkpoint import annotations_of, artifact_version, captured_version, id_of, is_automatic, labels_of
from contract.api.states import Phase
from contract.api.times import parsed_time
from contract.config.quantities import quantity_bytes
from contract.config.storage import BadIdError
from contract.config.values import Values, duration_seconds
from kube.api import Object
from kube.store import key_of

SETTLE_SECONDS: Final = 10.0
"""How long a version has been superseded before it may go: pods that were admitted a moment before are seen by then."""
_ENDED: Final = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True)
class Rules:
    """What the chart's values say; a checkpoint's own ``spec.retention`` goes before."""

    keep_versions: int
    automatic_per_workload: int
    ttl: int | None
    """Seconds; None: for ever."""
    quota: int | None
    """Bytes; None: no bound."""


@dataclass(frozen=True)
class Use:
    """What pods use or name."""

    names: frozenset[tuple[str, str]] = frozenset()
    """Namespace and name of checkpoints."""
    ids: frozenset[tuple[str, str]] = frozenset()
    """Namespace and checkpoint id."""
    versions: frozenset[tuple[str, str, str]] = frozenset()
    """Namespace, checkpoint id and version of shaped pods."""

    def of(self, checkpoint: Object) -> bool:
        """Say whether any pod uses or names the checkpoint."""
        namespace, name = key_of(checkpoint)
        return (namespace, name) in self.names or (namespace, _id(checkpoint)) in self.ids


@dataclass(frozen=True)
class Removal:
    """One thing that goes."""

    checkpoint: Object
    why: str
    version: str = ""
    """The version; empty: the whole checkpoint."""


@dataclass(frozen=True)
class Verdict:
    """What goes, and which namespaces are over their quota all the same."""

    removals: tuple[Removal, ...]
    over: Mapping[str, str] = field(default_factory=dict)
    """By namespace, in words."""
    settles_in: float = math.inf
    """Seconds until a version goes whose successor is too young now; infinite if there is none."""


def rules_from(values: Values) -> Rules:
    """Return the installation's rules."""
    said = values.retention
    return Rules(
        keep_versions=said.keep_versions,
        automatic_per_workload=said.automatic_per_workload,
        ttl=duration_seconds(said.ttl_after_last_use) if said.ttl_after_last_use else None,
        quota=quantity_bytes(said.namespace_quota) if said.namespace_quota else None,
    )


def use_of(pods: Iterable[Object]) -> Use:
    """Return what the pods that have not ended use; one that is terminating may still read its artifact."""
    names, ids, versions = set(), set(), set()
    for pod in pods:
        if (pod.get("status") or {}).get("phase") in _ENDED:
            continue
        namespace, notes = key_of(pod)[0], annotations_of(pod)
        names |= {(namespace, notes[key]) for key in _NAMING if notes.get(key)}
        checkpoint_id = labels_of(pod).get(keys.LABEL_CHECKPOINT_ID)
        if checkpoint_id:
            version = notes.get(keys.ANN_ARTIFACT_VERSION, "").strip() or keys.DEFAULT_ARTIFACT_VERSION
            ids.add((namespace, checkpoint_id))
            versions.add((namespace, checkpoint_id, version))
    return Use(frozenset(names), frozenset(ids), frozenset(versions))


_NAMING: Final = (keys.ANN_CHECKPOINT, keys.ANN_CHECKPOINT_NAME, keys.ANN_RESTORE_FROM)


def decide(
    checkpoints: Iterable[Object], use: Use, now: datetime, rules: Rules, seen: Mapping[str, datetime]
) -> Verdict:
    """Return what goes now.

    Args:
        checkpoints: all that are there.
        use: what pods use.
        now: the time.
        rules: the installation's.
        seen: by uid, when a checkpoint was last seen in use by the caller; finer than ``status.lastUsedAt``.
    """
    everything = list(checkpoints)
    settled = [each for each in everything if _settled(each)]
    old = [(_settles_in(each, now), removal) for each in settled for removal in _old_versions(each, use, rules)]
    versions = [removal for wait, removal in old if wait <= 0]
    free = [each for each in settled if not use.of(each)]
    recency = _recency(seen)
    gone = _expired(free, now, rules, recency)
    gone |= _superseded([each for each in settled if _uid(each) not in gone], free, rules, recency)
    over, more = _over_quota(everything, free, gone, versions, rules, recency)
    whole = gone | more
    removals = [Removal(each, whole[_uid(each)]) for each in settled if _uid(each) in whole]
    settles_in = min((wait for wait, _ in old if wait > 0), default=math.inf)
    return Verdict((*removals, *(each for each in versions if _uid(each.checkpoint) not in whole)), over, settles_in)


def versions_of(checkpoint: Object) -> tuple[Object, ...]:
    """Return the artifacts that its status knows."""
    return tuple((checkpoint.get("status") or {}).get("versions") or ())


Recency = Callable[[Object], datetime]


def _settled(checkpoint: Object) -> bool:
    """Say whether nothing of it is being made, taken over or removed."""
    status, metadata = checkpoint.get("status") or {}, checkpoint["metadata"]
    if status.get("phase") not in (Phase.READY, Phase.FAILED) or metadata.get("deletionTimestamp"):
        return False
    if keys.ANN_ADOPT in annotations_of(checkpoint) or not id_of(checkpoint):
        return False
    return _current(checkpoint) == _wish(checkpoint)


def _settles_in(checkpoint: Object, now: datetime) -> float:
    """Return the seconds until the newest version is old enough for others to go; infinite if its age is not known."""
    newest = max((parsed_time(each.get("createdAt")) for each in versions_of(checkpoint)), key=_sortable, default=None)
    return math.inf if newest is None else SETTLE_SECONDS - (now - newest).total_seconds()


def _old_versions(checkpoint: Object, use: Use, rules: Rules) -> Iterable[Removal]:
    there, keep = versions_of(checkpoint), int(_own(checkpoint).get("keepVersions") or rules.keep_versions)
    if len(there) <= keep:
        return
    current = _current(checkpoint)
    # What is restored now counts as the newest, also where an earlier version was taken back.
    order = sorted(there, key=lambda each: each["version"] == current)
    namespace, checkpoint_id = key_of(checkpoint)[0], _id(checkpoint)
    for entry in order[:-keep]:
        version = str(entry["version"])
        if version != current and (namespace, checkpoint_id, version) not in use.versions:
            yield Removal(checkpoint, f"version {version} is beyond keepVersions {keep}", version)


def _expired(free: Iterable[Object], now: datetime, rules: Rules, recency: Recency) -> dict[str, str]:
    found = {}
    for each in free:
        own = _own(each).get("ttlAfterLastUse")
        usual = rules.ttl if is_automatic(each) and not _of_graph(each) else None
        ttl = duration_seconds(own) if own else usual
        if ttl is not None and (now - recency(each)).total_seconds() >= ttl:
            found[_uid(each)] = f"it was not used for {own or f'{ttl} s'}"
    return found


def _superseded(left: Iterable[Object], free: Iterable[Object], rules: Rules, recency: Recency) -> dict[str, str]:
    """Keep the most recent of each workload: so many that are Ready, and so many that failed."""
    groups: dict[tuple[str, str, str], list[Object]] = defaultdict(list)
    for each in left:
        workload = annotations_of(each).get(keys.ANN_WORKLOAD, "")
        if is_automatic(each) and workload:
            groups[key_of(each)[0], workload, str(each["status"]["phase"])].append(each)
    unused = {_uid(each) for each in free}
    limit = rules.automatic_per_workload
    found: dict[str, str] = {}
    for (_, workload, _), members in groups.items():
        members.sort(key=recency, reverse=True)
        words = f"{workload} has {limit} newer ones"
        found |= {_uid(each): words for each in members[limit:] if _uid(each) in unused}
    return found


def _over_quota(
    everything: Iterable[Object],
    free: Iterable[Object],
    gone: Mapping[str, str],
    versions: Iterable[Removal],
    rules: Rules,
    recency: Recency,
) -> tuple[dict[str, str], dict[str, str]]:
    """Namespaces that stay over their quota, and what else goes."""
    if rules.quota is None:
        return {}, {}
    leaving = {(_uid(each.checkpoint), each.version) for each in versions}
    sizes: dict[str, int] = defaultdict(int)
    for each in everything:
        sizes[key_of(each)[0]] += _bytes(each, leaving) if _uid(each) not in gone else 0
    found: dict[str, str] = {}
    for each in sorted(free, key=recency):
        namespace, mine = key_of(each)[0], _bytes(each, leaving)
        if sizes[namespace] <= rules.quota or _uid(each) in gone or not mine:
            continue
        if is_automatic(each) and not _of_graph(each):
            found[_uid(each)] = f"the artifacts of {namespace} exceed the quota of {rules.quota} bytes"
            sizes[namespace] -= mine
    over = {
        namespace: f"artifacts of {size} bytes, allowed are {rules.quota}, and nothing more may be removed"
        for namespace, size in sizes.items()
        if size > rules.quota
    }
    return over, found


def _recency(seen: Mapping[str, datetime]) -> Recency:
    def moment(checkpoint: Object) -> datetime:
        status = checkpoint.get("status") or {}
        texts = (checkpoint["metadata"].get("creationTimestamp"), status.get("createdAt"), status.get("lastUsedAt"))
        times = [*map(parsed_time, texts), seen.get(_uid(checkpoint))]
        return max((each for each in times if each is not None), default=_BEGINNING)

    return moment


_BEGINNING: Final = datetime.fromisoformat("1970-01-01T00:00:00Z")


def _sortable(moment: datetime | None) -> datetime:
    return moment or _BEGINNING


def _own(checkpoint: Object) -> Mapping[str, str]:
    return (checkpoint.get("spec") or {}).get("retention") or {}


def _uid(checkpoint: Object) -> str:
    return str(checkpoint["metadata"].get("uid") or key_of(checkpoint))


def _of_graph(checkpoint: Object) -> bool:
    """Say whether a graph deployment that is there would make it again at once."""
    return bool(labels_of(checkpoint).get(keys.LABEL_GRAPH))


def _bytes(checkpoint: Object, leaving: Collection[tuple[str, str]]) -> int:
    """Return what the checkpoint holds in storage once the versions that are *leaving* are removed."""
    uid = _uid(checkpoint)
    there = [each for each in versions_of(checkpoint) if (uid, str(each["version"])) not in leaving]
    known = bool(versions_of(checkpoint))
    sizes = [each.get("size") for each in there] if known else [(checkpoint.get("status") or {}).get("size")]
    return sum(int(size or 0) for size in sizes)


def _id(checkpoint: Object) -> str:
    """Return the id as the controller noted it; that of a settled checkpoint was checked."""
    return str((checkpoint.get("status") or {}).get("checkpointID") or "")


def _current(checkpoint: Object) -> str:
    try:
        return captured_version(checkpoint, _id(checkpoint))
    except BadIdError:
        return ""


def _wish(checkpoint: Object) -> str:
    try:
        return artifact_version(checkpoint)
    except BadIdError:
        return ""
