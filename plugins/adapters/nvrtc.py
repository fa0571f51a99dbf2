"""NVRTC: CUDA's run-time compiler, from a kernel file and its macros to PTX or a cubin.

A device has NVRTC where it has CUDA, so what is compiled there fits its driver; it also works on a
machine without a GPU. It is called through ctypes: neither a CUDA binding nor headers are needed.

Source: NVRTC documentation, https://docs.nvidia.com/cuda/nvrtc/.
"""

import ctypes
import glob
import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from ...core import MissingDependencyError, UnsupportedTargetError
from ..launch import LaunchPlan

__all__ = ["Compiled", "Usage", "compile_plan", "compile_source", "supported_sms"]

_HEADERS = Path(__file__).parent.parent / "cuda"
# No contraction of a * b + c: comparisons then decide as they do in the reference.
_OPTIONS = ("--std=c++17", "--fmad=false")


@dataclass(frozen=True)
class Usage:
    """What one kernel needs: registers a thread, spilled bytes a thread, shared bytes a block."""

    registers: int
    spilled: int
    shared: int


@dataclass(frozen=True)
class Compiled:
    """Compiled kernels.

    Attributes:
        code: PTX text (without its final NUL) or a cubin.
        usage: by kernel name; empty for PTX, whose registers the driver assigns.
    """

    code: bytes
    usage: Mapping[str, Usage]


def compile_plan(plan: LaunchPlan, sm: int, form: Literal["ptx", "cubin"] = "ptx") -> Compiled:
    """Compile the kernels of `plan` for compute capability `sm` (75, 87, …).

    Raises:
        MissingDependencyError: no NVRTC on this machine.
        UnsupportedTargetError: this NVRTC does not know the compute capability.
    """
    return compile_source(plan.source, tuple(sorted(plan.defines.items())), sm, form)


@lru_cache(maxsize=256)
def compile_source(
    source: Path, defines: tuple[tuple[str, str], ...], sm: int, form: Literal["ptx", "cubin"]
) -> Compiled:
    """Compile a kernel file; a warning is an error.

    Raises:
        MissingDependencyError, UnsupportedTargetError: as `compile_plan`.
        RuntimeError: the source does not compile, with NVRTC's words.
    """
    if sm not in supported_sms():
        known = ", ".join(str(s) for s in supported_sms())
        raise UnsupportedTargetError(
            f"the NVRTC on this machine does not compile for SM {sm}, it knows {known}: install a "
            "CUDA toolkit that does."
        )
    library = _library()
    virtual = "compute" if form == "ptx" else "sm"
    options = [*_OPTIONS, f"--gpu-architecture={virtual}_{sm}", "--ptxas-options=--verbose"]
    options += [f"--define-macro={name}={value}" for name, value in defines]
    program = _create(library, source)
    try:
        failed = library.nvrtcCompileProgram(
            program, len(options), _strings([o.encode() for o in options])
        )
        log = _read(library, "nvrtcGetProgramLog", program).rstrip(b"\0").decode()
        if failed or re.search(r"\bwarning\b", log):
            raise RuntimeError(f"{source.name} does not compile cleanly for SM {sm}:\n{log}")
        code = _read(library, "nvrtcGetPTX" if form == "ptx" else "nvrtcGetCUBIN", program)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))
    return Compiled(code.rstrip(b"\0") if form == "ptx" else code, _usage(log))


@lru_cache
def supported_sms() -> tuple[int, ...]:
    """Return the compute capabilities that this machine's NVRTC compiles for, rising.

    Raises:
        MissingDependencyError: no NVRTC on this machine.
    """
    library, count = _library(), ctypes.c_int()
    _check(library, library.nvrtcGetNumSupportedArchs(ctypes.byref(count)))
    found = (ctypes.c_int * count.value)()
    _check(library, library.nvrtcGetSupportedArchs(found))
    return tuple(found)


def _create(library: Any, source: Path) -> ctypes.c_void_p:
    headers = sorted(_HEADERS.glob("*.cuh"))
    program = ctypes.c_void_p()
    status = library.nvrtcCreateProgram(
        ctypes.byref(program), source.read_bytes(), source.name.encode(), len(headers),
        _strings([h.read_bytes() for h in headers]), _strings([h.name.encode() for h in headers]),
    )  # fmt: skip
    _check(library, status)
    return program


def _usage(log: str) -> dict[str, Usage]:
    """Read what ptxas reports for each kernel."""
    found = {}
    for block in re.split(r"Compiling entry function ", log)[1:]:
        name = re.match(r"'(\w+)'", block)
        registers = re.search(r"Used (\d+) registers", block)
        if not name or not registers:
            raise RuntimeError(f"ptxas reports in words that are not understood:\n{log}")
        spills = [int(n) for n in re.findall(r"(\d+) bytes spill", block)]
        shared = re.search(r"(\d+) bytes smem", block)
        found[name[1]] = Usage(int(registers[1]), sum(spills), int(shared[1]) if shared else 0)
    return found


def _strings(values: list[bytes]) -> Any:
    return (ctypes.c_char_p * len(values))(*values)


def _read(library: Any, function: str, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _check(library, getattr(library, f"{function}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(library, getattr(library, function)(program, buffer))
    return buffer.raw


def _check(library: Any, status: int) -> None:
    if status:
        raise RuntimeError(f"NVRTC failed: {library.nvrtcGetErrorString(status).decode()}.")


@lru_cache
def _library() -> Any:
    for name in _candidates():
        try:
            _open_builtins(Path(name))
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        return library
    raise MissingDependencyError(
        "NVRTC is needed to compile CUDA kernels and was not found: install the CUDA toolkit "
        "(JetPack has it), or run `pip install nvidia-cuda-nvrtc`."
    )


def _open_builtins(library: Path) -> None:
    """Open what NVRTC opens by its bare name when it compiles, from beside NVRTC.

    The library in the wheel 13.0.88 has no RUNPATH, so it finds them only where they are open.
    """
    if library.is_file():
        for builtins in sorted(library.parent.glob("libnvrtc-builtins.so.*")):
            ctypes.CDLL(str(builtins))


def _candidates() -> list[str]:
    """Return where NVRTC may be: the loader's own path, the toolkit, then NVIDIA's wheels."""
    roots = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    folders = [f"{root}/lib64" for root in roots if root]
    spec = importlib.util.find_spec("nvidia")
    for place in (
        spec.submodule_search_locations if spec and spec.submodule_search_locations else ()
    ):
        folders += sorted(glob.glob(f"{place}/cu*/lib"), reverse=True)
        folders += glob.glob(f"{place}/cuda_nvrtc/lib")
    names = ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so")
    return [*(f"{f}/{n}" for f in folders for n in names), *names]
