"""A bundle with an engine for a GPU, and a machine on which one would be opened."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from maskrt.core import Bundle, InputSpec, Manifest, Precision
from maskrt.runtime import NullBackend
from maskrt.runtime.backends import loader

__all__ = ["ENGINE", "MANIFEST", "PLAN", "make", "pretend_gpu"]

PLAN = b"a plan of TensorRT-RTX"
ENGINE: dict[str, Any] = {
    "target": "rtx", "backend": "tensorrt_rtx", "backend_version": "1.7.1", "precision": "fp16",
    "layers": {"fp16": 1}, "wider": [], "bytes": len(PLAN), "build_seconds": 1.0,
    "form": "pluginless", "sms": [80, 89],
}  # fmt: skip
MANIFEST = Manifest(
    "test", InputSpec(64, 64),
    {"boxes": (1, 4, 4), "scores": (1, 4), "labels": (1, 4), "masks": (1, 4, 28, 28),
     "count": (1,)},
    class_names=("background", "disc"), precision=Precision.FP16,
)  # fmt: skip


def make(path: Path, plan: bytes = PLAN, **changed: Any) -> Bundle:
    """Write a bundle with an engine for `rtx`; `changed` is of its `engine.json`."""
    with Bundle.create(path, MANIFEST) as bundle:
        bundle.write("model.onnx", b"graph")
        bundle.write("engines/rtx/engine.trt", plan)
        bundle.write("engines/rtx/engine.json", {**ENGINE, **changed})
    return Bundle.open(path)


def pretend_gpu(
    monkeypatch: pytest.MonkeyPatch, manifest: Manifest = MANIFEST
) -> list[tuple[bytes, dict[str, Any]]]:
    """Give the machine a GPU and TensorRT-RTX; what would be deserialised, and how, is listed."""
    opened: list[tuple[bytes, dict[str, Any]]] = []

    def open_plan(plan: bytes, **how: Any) -> NullBackend:
        opened.append((plan, how))
        return NullBackend(manifest.outputs)

    installed = SimpleNamespace(__version__="1.7.1")
    monkeypatch.setattr(loader, "compute_capabilities", lambda: (89,))
    monkeypatch.setattr(loader, "gpu_names", lambda: ("a GPU",))
    monkeypatch.setattr(loader, "require", lambda name, purpose: installed)
    monkeypatch.setattr(loader, "TensorRTBackend", open_plan)
    return opened
