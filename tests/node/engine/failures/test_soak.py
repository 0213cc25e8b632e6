"""The soak of a release, sized to less than a minute on two cores of its own: the very code of ``benchmarks.soak``."""

import os

import pytest

from benchmarks import soak
from benchmarks.support.report import percentile

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

RESTORES, AT_ONCE = 100, 4


async def test_a_hundred_restores(node, figure):
    soak.unpack_worker(node.folder / "tools/demo")
    seen = await soak.soak(node, RESTORES, AT_ONCE)
    assert RESTORES == len(seen)
    figure(
        ", ".join(
            f"{share:.0%} within {percentile([s.seconds for s in seen], share):.1f} s" for share in (0.5, 0.9, 0.99)
        )
    )
    assert soak.held(seen), [each for each in seen if each.outcome != soak.RESTORED]
