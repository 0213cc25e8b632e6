"""Packs the kit: vLLM's wheels with device code of one architecture, and what `make gpu-kit` made."""

import shutil
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.fixtures.tools import PROJECT, install
from tests.support.vllm_kit.fat_binary import keep

LOCK: Final = PROJECT / "requirements-vllm.lock"
PYTHON: Final = "3.12"
ARCHITECTURE: Final = 90
"""H100 and H200."""
LARGEST: Final = 58_000_000
"""Bytes: 64 MiB travel to a GPU machine at once, the repository's own files among them."""


@dataclass(frozen=True)
class Kept:
    """What stays of an extension's device code: PTX too, kernels of these names only."""

    ptx: bool = False
    kernels: str = ""


TRIMMED: Final = {
    "_C.abi3.so": Kept(ptx=True),
    "_C_stable_libtorch.abi3.so": Kept(ptx=True),
    # PTX here is that of quantised experts, which the test's dense model does not use.
    "_moe_C.abi3.so": Kept(),
    # bf16 with heads of 128, and the kernels that serve every type.
    "vllm_flash_attn/_vllm_fa3_C.abi3.so": Kept(
        kernels="ELi128ENS_10bfloat16_tEfNS_4arch4Sm90|FlashAttnFwdCombine|prepare_varlen_num_blocks"
    ),
}
"""Without the first of them vLLM does not start at all."""
WHOLE: Final = ("cumem_allocator.abi3.so", "spinloop.abi3.so")
UNUSED: Final = ("vllm/vllm-rs", "vllm/third_party/deep_gemm", "pycountry/locales", "mistral_common/data", "bin")


def pack(gpu_kit: Path, kit: Path) -> dict[str, int]:
    """Make the kit's folder; return the size of each piece, in bytes.

    Raises:
        ValueError: the kit is too large, or vLLM's wheel does not hold what is expected.
    """
    shutil.rmtree(kit, ignore_errors=True)
    kit.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        site, extensions = Path(scratch, "site"), Path(scratch, "extensions")
        install(LOCK, site, PYTHON)
        trim(site / "vllm", extensions / "vllm")
        for name in UNUSED:
            remove(site / name)
        pieces = {"site": site, "extensions": extensions, "gpu-kit": gpu_kit}
        # The compressor runs outside of Python's lock.
        with ThreadPoolExecutor() as pool:
            list(pool.map(archive, pieces.values(), (kit / f"{name}.tar.xz" for name in pieces)))
    sizes = {path.name: path.stat().st_size for path in sorted(kit.iterdir())}
    if sum(sizes.values()) > LARGEST:
        raise ValueError(f"the kit is too large: {sizes} are more than {LARGEST} bytes")
    return sizes


def trim(package: Path, target: Path) -> None:
    """Move vLLM's extensions out of its package, with the device code that is wanted; remove the others."""
    for name, kept in TRIMMED.items():
        data = bytearray(_read(package / name))
        if not keep(data, ARCHITECTURE, ptx=kept.ptx, kernels=kept.kernels):
            raise ValueError(f"{name} holds no code for sm_{ARCHITECTURE}: is requirements-vllm.lock of another vLLM?")
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(data)
    for name in WHOLE:
        (target / name).write_bytes(_read(package / name))
    for extension in package.rglob("*.so"):
        extension.unlink()


def remove(path: Path) -> None:
    """Remove a file or a folder that is expected to be there.

    Raises:
        ValueError: it is not.
    """
    if path.is_dir():
        shutil.rmtree(path)
    elif path.is_file():
        path.unlink()
    else:
        raise ValueError(f"{path.name} is not in the wheels: is requirements-vllm.lock of another vLLM?")


def archive(folder: Path, target: Path) -> None:
    """Compress a folder, each file as root's."""
    with tarfile.open(target, "w:xz", preset=9) as tar:
        tar.add(folder, ".", filter=_of_root)


def _of_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = "root"
    member.mode |= 0o444 | (0o111 if member.isdir() else 0)
    return member


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise ValueError(f"vLLM's wheel has no {path.name}: is requirements-vllm.lock of another vLLM?")
    return path.read_bytes()
