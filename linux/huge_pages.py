"""Huge pages (hugetlb) that a node has left."""

import re
from pathlib import Path
from typing import Final

from linux.proc import PROC

_FIELD: Final = re.compile(r"^(\w+): +(\d+)", re.MULTILINE)
_OVERCOMMIT: Final = "sys/vm/nr_overcommit_hugepages"


def free_huge_pages(proc: Path = PROC) -> int | None:
    """Return the bytes of huge pages that a process can still have; None if it is not known.

    It is not known of a node with pages of several sizes: what the kernel says is of one of them.
    """
    found = {name: int(value) for name, value in _FIELD.findall((proc / "meminfo").read_text())}
    if "Hugepagesize" not in found:
        return 0
    size = found["Hugepagesize"] << 10
    if found.get("Hugetlb", 0) << 10 != found["HugePages_Total"] * size:
        return None
    more = max(0, int((proc / _OVERCOMMIT).read_text()) - found["HugePages_Surp"])
    return (found["HugePages_Free"] - found["HugePages_Rsvd"] + more) * size
