"""Device code of one architecture is what is left of a CUDA extension for the vLLM kit."""

import struct

import pytest

from tests.support.vllm_kit.fat_binary import MACHINE_CODE, PTX, fat_binaries, keep


def entry(kind: int, architecture: int, code: bytes) -> bytes:
    return struct.pack("<HHIQIIII32x", kind, 0x101, 64, len(code), 0, 0, 0, architecture) + code


def fat_binary(*entries: bytes) -> bytes:
    body = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def a_file(*binaries: bytes) -> bytearray:
    """Other data between the fat binaries, and four bytes that only look like the start of one."""
    return bytearray(b"ELF".join([b"", struct.pack("<I", 0xBA55ED50), *binaries, b"end"]))


OLD = entry(MACHINE_CODE, 80, b"code of sm_80")
OWN = entry(MACHINE_CODE, 90, b"code of sm_90")
PTX_80, PTX_90, PTX_100 = (entry(PTX, number, b"ptx for %d" % number) for number in (80, 90, 100))


def zeroed(data: bytes, *codes: bytes) -> bytes:
    for code in codes:
        data = data.replace(code, bytes(len(code)))
    return data


@pytest.mark.parametrize(
    ("entries", "options", "left"),
    [
        pytest.param((OLD, OWN), {"ptx": True}, [b"code of sm_90"], id="machine-code-of-its-own"),
        pytest.param((OWN, PTX_90), {"ptx": True}, [b"code of sm_90"], id="no-ptx-beside-machine-code"),
        pytest.param((OLD, PTX_80, PTX_90, PTX_100), {"ptx": True}, [b"ptx for 90"], id="newest-ptx-that-fits"),
        pytest.param((OLD, PTX_90), {"ptx": False}, [], id="no-ptx"),
        pytest.param((OWN, OLD), {"ptx": True, "kernels": "sm_9.|other"}, [b"code of sm_90"], id="a-wanted-kernel"),
        pytest.param((OWN, OLD), {"ptx": True, "kernels": "other"}, [], id="no-wanted-kernel"),
    ],
)
def test_what_is_left(entries, options, left):
    data = a_file(fat_binary(*entries), fat_binary(*entries))
    others = {b"code of sm_80", b"code of sm_90", b"ptx for 80", b"ptx for 90", b"ptx for 100"} - set(left)
    expected = zeroed(bytes(data), *others)

    assert 2 * sum(map(len, left)) == keep(data, 90, **options)
    assert expected == data


def test_a_file_without_device_code_stays_as_it_is():
    data = a_file()
    assert 0 == keep(data, 90, ptx=True)
    assert a_file() == data


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(fat_binary(OWN)[:-1], id="fat-binary-longer-than-the-file"),
        pytest.param(fat_binary(OWN[:-1]), id="code-longer-than-the-fat-binary"),
        pytest.param(fat_binary(OWN, OLD[:20]), id="header-longer-than-the-fat-binary"),
        pytest.param(fat_binary(struct.pack("<HHIQ48x", 2, 0, 0, 0)), id="entry-without-a-header"),
        pytest.param(fat_binary()[:12], id="header-cut-off"),
    ],
)
def test_what_is_cut_off_is_refused(data):
    with pytest.raises(ValueError, match=r"at byte \d+ is"):
        list(fat_binaries(data))
