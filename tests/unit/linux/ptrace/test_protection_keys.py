"""What of a process has protection keys; tests/node/engine/state/test_protection_keys.py has real ones."""

import pytest

from linux.ptrace.protection_keys import KeyRange, parse_ranges

ENTRY = """{range} {protection}p 00000000 00:00 0 {name}
Size:                  8 kB
Rss:                   8 kB
{key}VmFlags: rd wr mr mw me ac sd
"""


def entry(key: int | None, protection: str = "rw-", start: int = 0x7F0000000000, name: str = "") -> str:
    line = "" if key is None else f"ProtectionKey:         {key}\n"
    return ENTRY.format(range=f"{start:x}-{start + 0x2000:x}", protection=protection, key=line, name=name)


@pytest.mark.parametrize(
    ("smaps", "expected"),
    [
        pytest.param(entry(3), [KeyRange(0x7F0000000000, 0x7F0000002000, 3, "rw-")], id="under-one"),
        pytest.param(entry(0), [], id="under-none"),
        pytest.param(entry(None), [], id="a-kernel-without-keys"),
        pytest.param(entry(1, "--x"), [], id="the-kernels-own"),
        pytest.param(
            entry(0) + entry(15, "r-x", 0x1000, "/a b/ProtectionKey: 7") + entry(0),
            [KeyRange(0x1000, 0x3000, 15, "r-x")],
            id="among-others",
        ),
        pytest.param("", [], id="nothing"),
    ],
)
def test_memory_under_keys(smaps, expected):
    assert expected == list(parse_ranges(smaps.splitlines(keepends=True)))
