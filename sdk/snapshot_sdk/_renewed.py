"""What the SDK renews by itself in a restored process: random generators, and the environment of the new container."""

from __future__ import annotations

import os
import sys
from typing import Any

OURS = ("DYN_SNAPSHOT_", "DYN_CHECKPOINT_", "SNAPSHOT_CONTROL_DIR")
"""Variables about snapshots: those of the capture stay."""
_FIRST_PROCESS = "/proc/1/environ"


def reseed_random(place: bytes) -> None:
    """Let Python's own generator go another way than in other replicas."""
    _of("random", lambda random: random.seed(place + random.getrandbits(256).to_bytes(32, "big")))


def reseed_openssl(_: bytes) -> None:
    """Mix fresh bytes into the OpenSSL that Python's ``ssl`` uses; its generators of all threads follow."""
    _of("_ssl", lambda ssl: ssl.RAND_add(os.urandom(48), 48.0))


def reseed_numpy(place: bytes) -> None:
    """Let numpy's global generator go another way; those of ``default_rng()`` are the worker's."""
    _of("numpy.random", lambda random: random.seed(_numbers(place + random.bytes(32), 32, 8)))


def reseed_torch(place: bytes) -> None:
    """Let torch's default generators, of the processor and of each device, go another way."""

    def reseed(torch: Any) -> None:  # noqa: ANN401 - no stubs without torch
        torch.manual_seed(*_numbers(place + str(torch.initial_seed()).encode(), 63, 1))

    _of("torch", reseed)


SECRET = (reseed_openssl,)
REPEATABLE = (reseed_random, reseed_numpy, reseed_torch)
"""Each is called with what no other restored container has.

Of the repeatable ones the new seed comes from that and from what the generator held: processes of one container that
drew the same numbers before still do, as the ranks of a worker must that sample the same tokens.
"""


def _numbers(seed: bytes, bits: int, count: int) -> list[int]:
    from random import Random  # noqa: PLC0415 - numpy and torch have loaded it

    drawn = Random(seed)  # noqa: S311 - it seeds generators that are no secret
    return [drawn.getrandbits(bits) for _ in range(count)]


def _of(name: str, call: Any) -> None:  # noqa: ANN401 - modules have no type in common
    """Call with a module, if the worker has imported it: nothing is imported for this."""
    module = sys.modules.get(name)
    if module is not None:
        call(module)


def container_environment() -> dict[str, str]:
    """Return the environment that kubelet gave this container: that of its first process; empty if it is not ours."""
    try:
        with open(_FIRST_PROCESS, "rb") as file:  # noqa: PTH123 - pathlib costs more than the rest of this module
            entries = os.fsdecode(file.read()).split("\0")
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def renew_environment(before: dict[str, str]) -> None:
    """Let ``os.environ`` follow the new container, in variables that the worker has not changed itself.

    Those that the new container lacks stay: a worker may depend on them.
    """
    for name, value in container_environment().items():
        known = before.get(name)
        if value != known and os.environ.get(name) == known and not name.startswith(OURS):
            os.environ[name] = value
