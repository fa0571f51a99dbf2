"""Runs a build in a child process, and turns how it ended into a plan or one sentence."""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from ...core import Target, UnsupportedTargetError

__all__ = ["Built", "build_in_child"]

_WORKER = [sys.executable, "-m", "maskrt.runtime.build.worker_main"]
_NAMES = {"tensorrt_rtx": "TensorRT-RTX", "tensorrt": "TensorRT"}


@dataclass(frozen=True)
class Built:
    """What the child left: the plan, and its report."""

    plan: bytes
    report: dict[str, Any]


def build_in_child(model: onnx.ModelProto, target: Target, request: dict[str, Any]) -> Built:
    """Build `model` in a process of its own.

    Args:
        model: as TensorRT is to parse it.
        target: named in errors.
        request: `package`, `form`, and where they matter `sms` and `workspace`; see
            `worker_main.py`.

    Raises:
        UnsupportedTargetError: TensorRT does not take the graph, or failed on it.
    """
    name_of = _NAMES[request["package"]]
    complete = {"sms": (), "workspace": 0, **request}
    with tempfile.TemporaryDirectory(prefix="maskrt-build-") as name:
        folder = Path(name)
        onnx.save(model, folder / "model.onnx")
        (folder / "request.json").write_text(json.dumps(complete), encoding="utf-8")
        command = [*_WORKER, str(folder)]
        child = subprocess.run(command, capture_output=True, check=False, cwd=folder)
        if not (folder / "report.json").exists():
            raise UnsupportedTargetError(_crash(child, target, name_of))
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        if child.returncode != 0 or not (folder / "engine.trt").exists():
            raise UnsupportedTargetError(_failure(report["errors"], target, name_of))
        return Built((folder / "engine.trt").read_bytes(), report)


def _crash(child: subprocess.CompletedProcess[bytes], target: Target, builder: str) -> str:
    output = (child.stderr or child.stdout).decode("utf-8", "replace").split("\n")
    last = next((line.strip() for line in reversed(output) if line.strip()), "it said nothing")
    return (
        f"{builder} ended with status {child.returncode} while building for target "
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
    return (
        f"{builder} cannot build the graph for target {target.name} ({reason}): change the "
        "operator that it names, or build another target."
    )
