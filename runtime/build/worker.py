"""Runs a build in a child process, and turns how it ended into a plan or one sentence.

A build of the same inputs is taken from the cache instead, if this machine's record
(`runtime/trust/record.py`), in which every build is noted, says that it was built here. The child
has a session of its own, so a Ctrl-C reaches this process alone, which then ends the child and
removes what it was writing.
"""

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

import onnx

from ...core import MaskrtError, Precision, Target, UnsupportedTargetError
from ...core.bounds import ENGINE_BYTES, SECONDS
from ...core.typed_files import read_typed
from ...plugins.sources import operators_of, sources_digest
from ..cuda_device import compute_capabilities, gpu_names
from ..trust import record
from .cache import kept_folder, kept_json, key_of, open_cache
from .capabilities import BUILDER_NAMES
from .options import BuildOptions
from .worker_main import PROGRESS
from .worker_steps import HUNDRED

__all__ = ["Built", "Step", "build_in_child", "no_step"]

Step = Callable[[int, int], None]
"""`step(done, total)`: how far one build is."""

_WORKER = [sys.executable, "-m", "maskrt.runtime.build.worker_main"]
_STOPS = (signal.SIGINT, signal.SIGTERM)
_GRACE = 5.0  # seconds between asking the child to end and ending it


class _Written(TypedDict):
    """What the child reports, whatever came of the build; see `worker_main.py`."""

    version: str
    errors: list[dict[str, str]]
    messages: list[tuple[str, str]]
    network: dict[str, Precision]
    layers: list[Any]
    peak_memory_bytes: Annotated[int, ENGINE_BYTES]


class _Report(_Written):
    seconds: Annotated[float, SECONDS]
    user_allocation: bool


def no_step(done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Built:
    """What the child left: the plan, and its report.

    Attributes:
        plan: the serialized engine.
        report: see `worker_main.py`.
        seconds: the build took, when it was really done.
        cached: it was done before, and this is what was kept.
    """

    plan: bytes
    report: dict[str, Any]
    seconds: float = 0.0
    cached: bool = False


def build_in_child(
    model: onnx.ModelProto,
    target: Target,
    request: dict[str, Any],
    *,
    version: str = "",
    options: BuildOptions | None = None,
    step: Step = no_step,
) -> Built:
    """Build `model` in a process of its own, unless the same was built before.

    Args:
        model: as TensorRT is to parse it.
        target: named in errors.
        request: `package`, `form`, and where they matter `sms` and `workspace`; see
            `worker_main.py`.
        version: of the package; without it nothing is cached.
        options: what the user asked for.
        step: told how far the build is.

    Raises:
        UnsupportedTargetError: TensorRT does not take the graph, or failed on it.
    """
    asked = options or BuildOptions()
    timing = _timing_cache(request["package"], version, asked)
    complete = {"sms": (), "workspace": 0, **request, **asked.to_json(), "timing_cache": timing}
    cache = open_cache(asked.cache) if version else None
    key = _key(model, complete, version) if cache is not None else ""
    known = cache.get(key) if cache is not None else None
    report = kept_json(known, "report.json", _Report)
    if known is not None and report is not None and _built_here(known.get("engine.trt")):
        return Built(known["engine.trt"], report, report["seconds"], cached=True)
    if cache is not None and known is not None:
        cache.drop(key)
    started = time.perf_counter()
    built = _build(model, target, complete, step)
    built.report["seconds"] = seconds = round(time.perf_counter() - started, 2)
    record.note(
        _digest(built.plan), target=target.name, builder=request["package"],
        version=str(built.report["version"]), version_compatible=asked.version_compatible,
    )  # fmt: skip
    step(HUNDRED, HUNDRED)
    if cache is not None:
        report = json.dumps(built.report).encode()
        cache.put(key, {"engine.trt": built.plan, "report.json": report})
    return Built(built.plan, built.report, seconds)


def _built_here(plan: bytes | None) -> bool:
    """Whether a kept engine may be used: its folder may be others' too, and it is machine code."""
    return plan is not None and record.known(_digest(plan)) is not None


def _digest(plan: bytes) -> str:
    return hashlib.sha256(plan).hexdigest()


def _key(model: onnx.ModelProto, request: dict[str, Any], version: str) -> str:
    """Return the key of a build; a full TensorRT's is for one kind of GPU and our kernels."""
    asked = {name: value for name, value in request.items() if name != "timing_cache"}
    names = [name.partition("_")[0] for name in operators_of(model)]  # AOT: one node a kernel
    here = [*gpu_names(), *compute_capabilities()] if request["package"] == "tensorrt" else []
    parts = {
        "request": asked, "version": version, "gpus": here,
        "kernels": sources_digest(set(names), request["form"]),
    }  # fmt: skip
    worker = Path(__file__).with_name("worker_main.py").read_bytes()
    described = json.dumps(parts, sort_keys=True, default=list).encode()
    return key_of((described, worker, model.SerializeToString(deterministic=True)))


def _timing_cache(package: str, version: str, options: BuildOptions) -> str:
    """Return the file of kernel timings for this device; empty where there is none to keep."""
    if options.timing_cache is not None:
        return str(options.timing_cache.resolve())
    folder = kept_folder() if options.cache and package == "tensorrt" else None
    if folder is None:
        return ""
    device = "-".join((package, version, *gpu_names()[:1]))
    return str(folder / "timing" / (re.sub(r"[^\w.-]+", "_", device) + ".cache"))


def _build(model: onnx.ModelProto, target: Target, request: dict[str, Any], step: Step) -> Built:
    name_of = BUILDER_NAMES[request["package"]]
    with tempfile.TemporaryDirectory(prefix="maskrt-build-") as name:
        folder = Path(name)
        onnx.save(model, folder / "model.onnx")
        told = {**request, "parent": os.getpid()}
        (folder / "request.json").write_text(json.dumps(told), encoding="utf-8")
        status, output = _run([*_WORKER, str(folder)], folder, step)
        try:
            report = read_typed(folder / "report.json", _Written, "build again")
        except MaskrtError as error:  # none, or half of one
            raise UnsupportedTargetError(_crash(status, output, target, name_of)) from error
        if status != 0 or not (folder / "engine.trt").exists():
            raise UnsupportedTargetError(_failure(report["errors"], target, name_of))
        return Built((folder / "engine.trt").read_bytes(), report)


def _run(command: list[str], folder: Path, step: Step) -> tuple[int, str]:
    """Run the child; return its exit status and what it said, its progress apart."""
    said = []
    child = None
    with (folder / "stderr").open("wb") as errors:
        try:
            with _stops_held():  # one that came while the child is made would leave it behind
                child = subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=errors, cwd=folder,
                    start_new_session=True,
                )  # fmt: skip
            assert child.stdout is not None
            for raw in child.stdout:
                line = raw.decode("utf-8", "replace").strip()
                if line.startswith(PROGRESS):
                    done, total = line.removeprefix(PROGRESS).split()
                    step(int(done), int(total))
                else:
                    said.append(line)
            status = child.wait()
        finally:
            if child is not None:
                _end(child)
    told = (folder / "stderr").read_bytes().decode("utf-8", "replace")
    return status, told if told.strip() else "\n".join(said)


@contextlib.contextmanager
def _stops_held() -> Iterator[None]:
    """Have the signals that stop a program wait until the block has ended.

    Python runs their handlers in its main thread alone, so no other thread needs this.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {n: signal.signal(n, lambda number, _: came.append(number)) for n in _STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    if came:
        signal.raise_signal(came[0])


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the child, if it has not ended; after a Ctrl-C it has not."""
    if child.stdout is not None:
        child.stdout.close()
    if child.poll() is not None:
        return
    child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(_GRACE)
        return
    child.kill()
    child.wait()


def _crash(status: int, output: str, target: Target, builder: str) -> str:
    lines = output.split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    return (
        f"{builder} ended with status {status} while building for target "
        f"{target.name} ({last}): build another target, or report the model."
    )


def _failure(errors: list[dict[str, str]], target: Target, builder: str) -> str:
    """Return the one sentence that the first error makes."""
    if not errors:
        return f"{builder} built no engine for target {target.name} and gave no reason."
    first = errors[0]
    reason = " ".join(first["text"].split()).rstrip(".")
    if first["operator"]:
        where = f"node {first['node']!r} ({first['operator']})"
        return (
            f"{builder} cannot take {where} for target {target.name} ({reason}): express it in "
            "other operators, or build another target."
        )
    remedy = first.get("remedy", "change the operator that it names, or build another target")
    return f"{builder} cannot build the graph for target {target.name} ({reason}): {remedy}."
