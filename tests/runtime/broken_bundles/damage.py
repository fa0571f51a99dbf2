"""A bundle of one convolution, ways to damage it, and what holds where damage is refused."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import maskrt
from maskrt.core import MaskrtError

__all__ = [
    "ENGINE", "INFO", "OUTPUTS", "SIZE", "Break", "build", "canonical",
    "change_manifest", "forge", "forge_json", "refused", "state", "use",
]  # fmt: skip

SIZE = 32
ENGINE = "engines/cpu/engine.onnx"
INFO = "engines/cpu/engine.json"
OUTPUTS = {"boxes": (1, 1, 4), "scores": (1, 1), "labels": (1, 1), "count": (1,)}
Break = Callable[[Path], None]


def canonical(seed: int = 0) -> onnx.ModelProto:
    """A graph of the canonical interface, with one convolution."""
    weights = np.random.default_rng(seed).normal(size=(16, 3, 3, 3)).astype(np.float32)
    constants = {
        "w": weights,
        "boxes_": np.array([[[1, 2, 20, 30]]], np.float32),
        "labels_": np.ones((1, 1), np.int32),
        "count_": np.ones(1, np.int32),
        "axes": np.array([1, 2, 3], np.int64),
        "last": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "w"], ["features"], "conv"),
        helper.make_node("ReduceMean", ["features", "axes"], ["mean"], "reduce", keepdims=0),
        helper.make_node("Sigmoid", ["mean"], ["score"], "sigmoid"),
        helper.make_node("Unsqueeze", ["score", "last"], ["scores"], "unsqueeze"),
        *(helper.make_node("Identity", [f"{n}_"], [n], n) for n in ("boxes", "labels", "count")),
    ]
    kinds = {"labels": TensorProto.INT32, "count": TensorProto.INT32}
    graph = helper.make_graph(
        nodes,
        "canonical",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, (1, SIZE, SIZE, 3))],
        [
            helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), shape)
            for n, shape in OUTPUTS.items()
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)


def state(folder: Path) -> dict[str, Any]:
    """Everything below a folder: bytes of files, targets of links."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def use(path: Path) -> None:
    """Read everything that the pipeline reads: load and run, then build anew."""
    with maskrt.load(path, "cpu") as session:
        session.predict(np.zeros((SIZE, SIZE, 3), np.uint8))
    maskrt.build(path, "cpu", precision="fp16")


def build(path: Path) -> None:
    maskrt.build(path, "cpu")


def refused(path: Path, action: Callable[[Path], Any] = use) -> str:
    """Return the sentence of the error that `action` raises, having left all files as they were."""
    before = state(path.parent)
    with pytest.raises(MaskrtError) as caught:
        action(path)
    assert state(path.parent) == before
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert len(sentence) > 30
    return sentence


def change_manifest(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    file = path / "manifest.json"
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def forge(path: Path, relative: str, content: bytes) -> None:
    """Put `content` in place with a manifest that agrees."""
    (path / relative).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    change_manifest(path, lambda data: data["files"].update({relative: digest}))


def forge_json(path: Path, relative: str, change: Callable[[dict[str, Any]], Any]) -> None:
    data = json.loads((path / relative).read_text())
    changed = change(data)
    forge(path, relative, json.dumps(data if changed is None else changed).encode())


def _link_file(path: Path) -> None:
    (path / "model.onnx").rename(path.parent / "model.onnx")
    (path / "model.onnx").symlink_to(path.parent / "model.onnx")
