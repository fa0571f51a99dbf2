"""Compiles a kernel file with its macros and the shim: a library, or a program with a sanitizer."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Literal

from ....core import MissingDependencyError, cache_folder
from ....core.ownership import only_ours
from ...launch import LaunchPlan

__all__ = ["Sanitizer", "build", "host_compiler"]

Sanitizer = Literal["address,undefined", "thread"]

_HERE = Path(__file__).parent
_COMMON = _HERE.parent.parent / "cuda"
# No contraction of a * b + c, as NVRTC is told: comparisons decide as on the device.
_FLAGS = (
    "-std=c++17", "-ffp-contract=off", "-fno-strict-aliasing", "-U_FORTIFY_SOURCE",
    "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-unused-function",
    "-Wno-unused-const-variable", "-Wno-unused-but-set-variable", "-Wno-attributes",
)  # fmt: skip


@lru_cache
def host_compiler() -> str:
    """Return the C++ compiler's path.

    Raises:
        MissingDependencyError: there is none.
    """
    for name in (os.environ.get("CXX", ""), "g++"):
        if name and (path := shutil.which(name)):
            return path
    raise MissingDependencyError(
        "g++ is needed to run kernels on the CPU and was not found: install it with your system's "
        "package manager, or name a C++ compiler in the variable CXX."
    )


def build(plan: LaunchPlan, sanitizer: Sanitizer | None = None) -> Path:
    """Compile the kernels of `plan`, or find them compiled.

    Returns:
        A shared library; with `sanitizer`, a program.
    """
    arguments = [*_FLAGS, "-DMASKRT_HOST"]
    entries = dict.fromkeys(stage.entry for stage in plan.stages)
    arguments += [f"-DENTRIES={' '.join(f'X({name})' for name in entries)}"]
    arguments += [f"-D{name}={value}" for name, value in plan.defines.items()]
    if sanitizer:
        arguments += ["-O1", "-g", "-DMASKRT_PROGRAM", f"-fsanitize={sanitizer}"]
        arguments += ["-fno-sanitize-recover=all"] if "address" in sanitizer else []
        arguments += ["-DMASKRT_PLAIN_SHARED"] if "address" in sanitizer else []
        # Pages of its own, far from the rest, let shared memory be mapped anew for each block.
        if sanitizer == "thread":
            arguments += ["-Wl,--section-start=maskrt_shared=0x10000000"]
    else:
        arguments += ["-O2", "-fPIC", "-shared"]
    target = _folder() / _key(plan.source, arguments)
    if not (target.exists() and only_ours(target)):  # it is loaded as code
        _compile([*arguments, f'-DKERNEL="{plan.source}"'], target)
    return target


def _compile(arguments: list[str], target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = Path(scratch) / target.name
        command = [host_compiler(), *arguments, f"-I{_HERE}", f"-I{_COMMON}"]
        done = subprocess.run(
            [*command, str(_HERE / "run.cpp"), "-o", str(made)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"a kernel does not compile on the host:\n{done.stderr}")
        made.chmod(0o755)  # whatever the umask: what others may write is compiled anew
        made.replace(target)


def _key(source: Path, arguments: list[str]) -> str:
    digest = hashlib.sha256()
    for path in (source, *sorted(_COMMON.glob("*.cuh")), *sorted(_HERE.glob("*.[hc]*"))):
        digest.update(path.read_bytes())
    digest.update("\0".join([host_compiler(), *arguments]).encode())
    return digest.hexdigest()[:32]


@lru_cache
def _folder() -> Path:
    folder = cache_folder() / "host"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
