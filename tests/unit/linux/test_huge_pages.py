"""Huge pages that are left, as the kernel counts them."""

import pytest

from linux.huge_pages import free_huge_pages

MEMINFO = """MemTotal:       16000000 kB
HugePages_Total:      {total}
HugePages_Free:        {free}
HugePages_Rsvd:        {reserved}
HugePages_Surp:        {surplus}
Hugepagesize:       2048 kB
Hugetlb:           {all} kB
"""


@pytest.mark.parametrize(
    ("left", "fields", "overcommit"),
    [
        pytest.param(0, {}, 0, id="none"),
        pytest.param(3, {"total": 4, "free": 3, "all": 8192}, 0, id="free"),
        pytest.param(2, {"total": 4, "free": 3, "reserved": 1, "all": 8192}, 0, id="reserved"),
        pytest.param(6, {"total": 4, "free": 3, "surplus": 2, "all": 8192}, 5, id="overcommitted"),
        pytest.param(None, {"total": 4, "free": 3, "all": 8192 + (1 << 20)}, 0, id="of-several-sizes"),
    ],
)
def test_what_is_left(tmp_path, left, fields, overcommit):
    usual = {"total": 0, "free": 0, "reserved": 0, "surplus": 0, "all": 0}
    (tmp_path / "meminfo").write_text(MEMINFO.format(**usual | fields))
    (tmp_path / "sys/vm").mkdir(parents=True)
    (tmp_path / "sys/vm/nr_overcommit_hugepages").write_text(f"{overcommit}\n")
    assert (None if left is None else left << 21) == free_huge_pages(tmp_path)


def test_a_kernel_without_them(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal:       16000000 kB\n")
    assert 0 == free_huge_pages(tmp_path)
