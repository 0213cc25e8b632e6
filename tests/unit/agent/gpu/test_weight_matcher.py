"""The program that finds saved memory in other files: what it says is so, and it misses nothing that is large."""

import random
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.gpu.weight_matcher import SHORTEST, MatchError, find_ranges
from images.native import compile_static
from tests.support.pages import ROOT

KIB = 1 << 10
MIB = 1 << 20
UNIT = 2 * MIB


@dataclass(frozen=True)
class Source:
    descriptor: int
    size: int
    tensors: list[tuple[int, int]]


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("matcher") / "weight-matcher"
    compile_static(sorted((ROOT / "native/weight_matcher").glob("*.c")), made, "-O2")
    return made


@pytest.fixture
def descriptor(tmp_path):
    with ExitStack() as opened:

        def make(content: bytes) -> int:
            file = opened.enter_context((tmp_path / str(random.random())).open("wb+"))
            file.write(content)
            file.flush()
            return file.fileno()

        yield make


@pytest.fixture
def found(program, descriptor):
    """Look for saved files in models; each model is one tensor behind eight bytes. Checks what is said."""

    def find(saved: list[bytes], models: list[bytes]) -> list[tuple[int, int, int, int, int]]:
        files = [b"somewhat" + model for model in models]
        sources = [Source(descriptor(each), len(each), [(8, len(each) - 8)]) for each in files]
        ranges = find_ranges(program, [descriptor(each) for each in saved], sources, 60.0)
        assert ranges == sorted(ranges, key=lambda each: (each.file, each.at))
        for each in ranges:
            there = files[each.source][each.offset : each.offset + each.length]
            assert saved[each.file][each.at : each.at + each.length] == there
            assert each.length >= SHORTEST
        return [(each.file, each.at, each.length, each.source, each.offset - 8) for each in ranges]

    return find


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


MODEL = noise(9 * MIB)


@pytest.mark.parametrize(
    ("saved", "expected"),
    [
        pytest.param(MODEL[: 4 * MIB], [(0, 0, 4 * MIB, 0, 0)], id="the-beginning"),
        pytest.param(MODEL[3 * MIB : 7 * MIB], [(0, 0, 4 * MIB, 0, 3 * MIB)], id="the-middle"),
        pytest.param(noise(256, 1) + MODEL[: UNIT - 256], [(0, 256, UNIT - 256, 0, 0)], id="a-little-further-on"),
        pytest.param(
            noise(MIB, 1) + MODEL[MIB + 640 : MIB + 640 + SHORTEST] + noise(MIB - SHORTEST, 2),
            [(0, MIB, SHORTEST, 0, MIB + 640)],
            id="the-shortest",
        ),
        pytest.param(noise(UNIT - 400 * KIB, 1) + MODEL[: 400 * KIB], [], id="too-short"),
        pytest.param(noise(UNIT, 1), [], id="another"),
        pytest.param(bytes(UNIT), [], id="zeros"),
        pytest.param(b"", [], id="nothing"),
        pytest.param(
            MODEL[5 * MIB : 6 * MIB] + MODEL[MIB : 2 * MIB],
            [(0, 0, MIB, 0, 5 * MIB), (0, MIB, MIB, 0, MIB)],
            id="joined-in-another-order",
        ),
    ],
)
def test_ranges_of_a_model_are_found(found, saved, expected):
    assert expected == found([saved], [MODEL])


def test_pieces_of_a_tensor_are_found_in_all_files(found):
    pieces = [MODEL[at : at + UNIT] for at in range(0, 8 * MIB, UNIT)]
    expected = [(0, 0, UNIT, 0, 0), (0, UNIT, UNIT, 0, 2 * UNIT), (1, 0, UNIT, 0, UNIT), (1, UNIT, UNIT, 0, 3 * UNIT)]
    assert expected == found([pieces[0] + pieces[2], pieces[1] + pieces[3]], [MODEL])


def test_of_several_models_the_one_is_named_that_has_it(found):
    other = noise(3 * MIB, 9)
    assert [(0, 0, UNIT, 1, MIB)] == found([other[MIB:]], [MODEL, other])


def test_of_models_that_are_alike_the_first_is_named(found):
    assert [(0, 0, UNIT, 0, MIB)] == found([MODEL[MIB : MIB + UNIT]], [MODEL, MODEL])


def test_bytes_that_are_the_same_all_over_are_not_looked_for_at_every_place(found):
    assert [] == found([b"\x01" * UNIT], [b"\x01" * UNIT])


def test_a_model_that_became_shorter_has_less(program, descriptor):
    sources = [Source(descriptor(MODEL[:MIB]), len(MODEL), [(0, len(MODEL))])]
    (only,) = find_ranges(program, [descriptor(MODEL[:UNIT])], sources, 60.0)
    assert (0, 0, MIB) == (only.at, only.offset, only.length // (64 * KIB) * (64 * KIB))


@pytest.mark.parametrize(
    "name", [pytest.param("false", id="fails"), pytest.param("none-of-this-name", id="is-missing")]
)
def test_a_program_that_fails_says_nothing(descriptor, name):
    with pytest.raises(MatchError):
        find_ranges(Path("/bin") / name, [descriptor(b"x")], [], 60.0)


def test_a_program_that_takes_too_long_is_ended(descriptor, tmp_path):
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    with pytest.raises(MatchError, match="timed out"):
        find_ranges(slow, [descriptor(b"x")], [], 0.1)
