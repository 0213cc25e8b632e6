"""Finds device memory that is in the files of a model, byte for byte, and takes it out of the artifact.

That is done when the worker has ended or goes on. What cannot be found, or not in time, is stored; only what storage
refuses while files are made shorter fails the capture.
"""

import logging
import os
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

from agent.container.files.model_files import ModelFile, find_model_files, volumes_of
from agent.errors import ContainerError
from agent.gpu.ranges import MOST_RANGES, MOST_SOURCES, Range, Ranges, RangesError, gaps, pack_ranges
from agent.gpu.weight_matcher import MatchError, find_ranges
from artifact.digest import sum_of_others
from artifact.manifest import DEVICE_MEMORY
from artifact.parts.gpu import DeviceMemory, ModelWeights
from artifact.publish import Staging
from artifact.verified import VerifiedFiles, identity_of
from contract.api.states import AgentReason
from linux.proc import Mount, Status

logger = logging.getLogger(__name__)
FIND_SECONDS: Final = 600.0
"""How long all of it takes at most, unless the last file that is read is very large, or storage very slow."""
LOOK_SECONDS: Final = 30.0
"""How long files may be looked for, in all volumes."""
COMPARE_SECONDS: Final = 300.0
"""How long what was saved may be compared with them, and files be read whole: 60 GiB at 200 MB/s. What is not done
then is stored."""
_BLOCK: Final = 4 << 20


@dataclass(frozen=True)
class Referred:
    """What of one process's device memory is elsewhere."""

    ranges: Sequence[Range]
    """Of its files; their sources are numbered as those of all processes are."""
    sizes: Sequence[int]
    """Bytes of each file that are in no artifact."""


@dataclass(frozen=True)
class Found:
    """What of a worker's device memory is in files of models."""

    weights: Sequence[ModelWeights]
    by_process: Mapping[int, Referred]
    """By host pid; those that have nothing there are left out."""

    @property
    def bytes(self) -> int:
        """Bytes of all of them."""
        return sum(sum(referred.sizes) for referred in self.by_process.values())


NOTHING: Final = Found((), {})


@dataclass(frozen=True)
class Finder:
    """Looks for device memory in the volumes of a container."""

    program: Path
    init_pid: int
    user: Status
    mounts: Sequence[Mount]
    empty_dirs: Collection[str]
    verified: VerifiedFiles | None
    proc: Path

    def find(self, files: Mapping[int, Sequence[int]]) -> Found:
        """Return what of saved files is in files of models too; nothing if that cannot be known.

        Args:
            files: host pid -> descriptors.
        """
        points = volumes_of(self.mounts, self.empty_dirs)
        try:
            with ExitStack() as during:
                models = find_model_files(self.init_pid, self.user, points, during, LOOK_SECONDS, self.proc)
                return self._compare(files, models) if models else NOTHING
        except (OSError, MatchError, RangesError) as error:
            logger.warning("device memory is not compared with the files of models: %s", error)
            return NOTHING

    def _compare(self, files: Mapping[int, Sequence[int]], models: Sequence[ModelFile]) -> Found:
        since = time.monotonic()
        before = [identity_of(model.descriptor, "") for model in models]
        saved = [descriptor for of in files.values() for descriptor in of]
        ranges = find_ranges(self.program, saved, models, COMPARE_SECONDS)
        sizes = [os.fstat(one).st_size for one in saved]
        refuse_wrong(ranges, sizes, [model.size for model in models])
        described = {}
        for number in most_used(ranges):
            said = _described(models[number], self.verified)
            if identity_of(models[number].descriptor, "") == before[number]:
                described[number] = said
            if time.monotonic() > since + COMPARE_SECONDS:
                break
        found = Found(list(described.values()), by_process(files, ranges, list(described)))
        facts = {"bytes": found.bytes, "compared": sum(sizes), "files": len(described)}
        logger.info("device memory is in files of models", extra=facts | {"seconds": time.monotonic() - since})
        return found


def refuse_wrong(ranges: Sequence[Range], saved: Sequence[int], sources: Sequence[int]) -> None:
    """Refuse ranges that overlap, or go beyond a file: what is taken out of the artifact could not be put back; pure.

    Args:
        ranges: of all saved files.
        saved: bytes of those.
        sources: bytes of the files that the ranges are in.

    Raises:
        RangesError: they are wrong.
    """
    left = list(saved)
    for each in ranges:
        if each.file >= len(left):
            raise RangesError("a range is of no such file")
        left[each.file] -= each.length
    Ranges(ranges, left, sources)


def most_used(ranges: Sequence[Range]) -> list[int]:
    """Return the numbers of the sources with most bytes, at most as many as a process can be given; pure."""
    sizes: dict[int, int] = {}
    for each in ranges:
        sizes[each.source] = sizes.get(each.source, 0) + each.length
    return sorted(sorted(sizes, key=lambda number: -sizes[number])[:MOST_SOURCES])


def by_process(files: Mapping[int, Sequence[int]], ranges: Sequence[Range], kept: Sequence[int]) -> dict[int, Referred]:
    """Return the ranges of each process, by the numbers of its own files and of the sources that are kept; pure.

    Args:
        files: host pid -> one item for each of its files; ranges number those of all processes in that order.
        ranges: in the order of the files.
        kept: sources that are named, in the order of their new numbers.
    """
    numbers = {old: new for new, old in enumerate(kept)}
    found, first = {}, 0
    for pid, own in files.items():
        mine = [
            Range(each.file - first, each.at, each.length, numbers[each.source], each.offset)
            for each in ranges
            if first <= each.file < first + len(own) and each.source in numbers
        ][:MOST_RANGES]
        first += len(own)
        if mine:
            sizes = [sum(each.length for each in mine if each.file == number) for number in range(len(own))]
            found[pid] = Referred(mine, sizes)
    return found


def _described(model: ModelFile, verified: VerifiedFiles | None) -> ModelWeights:
    before, blake3 = identity_of(model.descriptor, ""), sum_of_others(model.descriptor)
    if verified is not None:
        verified.remember(before._replace(blake3=blake3), model.descriptor, blake3)
    return ModelWeights(point=model.point, name=model.name, size=model.size, blake3=blake3)


def refer(
    found: Found, files: Mapping[int, Sequence[int]], outside: Mapping[int, DeviceMemory], staged: Staging
) -> dict[int, DeviceMemory]:
    """Shorten files by what is elsewhere, and write tables of that; return what the manifest says of them then.

    Args:
        found: what is elsewhere.
        files: host pid -> descriptors of the files.
        outside: host pid -> what the manifest would say of whole files.
        staged: gets the tables.

    Raises:
        ContainerError: storage refuses.
    """
    try:
        return {pid: _referring(each, files[pid], outside[pid], staged) for pid, each in found.by_process.items()}
    except OSError as error:
        words = f"checkpoint storage: device memory cannot be moved together: {error.strerror}"
        raise ContainerError(AgentReason.STORAGE_UNWRITABLE, words) from error


def _referring(referred: Referred, files: Sequence[int], whole: DeviceMemory, staged: Staging) -> DeviceMemory:
    for number, ranges in groupby(referred.ranges, key=lambda each: each.file):
        _shorten(files[number], list(ranges))
    table = f"{DEVICE_MEMORY}{whole.process}-ranges.img"
    with os.fdopen(staged.file(table), "wb") as file:
        file.write(pack_ranges(referred.ranges))
    return whole.model_copy(update={"ranges": table, "referenced": list(referred.sizes)})


def _shorten(file: int, ranges: Sequence[Range]) -> None:
    """Move what is between ranges together: each byte goes towards the beginning, or stays."""
    end = 0
    for at, length in gaps(ranges, os.fstat(file).st_size):
        for done in range(0, length, _BLOCK):
            block = memoryview(os.pread(file, min(_BLOCK, length - done), at + done))
            while block:
                written = os.pwrite(file, block, end)
                block, end = block[written:], end + written
    os.ftruncate(file, end)
