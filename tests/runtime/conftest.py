"""Tiny engines and bundles: ONNX graphs of a dozen nodes that emit what a test asks for."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from maskrt.core import Bundle, InputSpec, Manifest, Precision

SLOTS = 4


def fixed_engine(
    spec: InputSpec,
    boxes: list[list[float]],
    labels: list[int],
    masks: np.ndarray | None = None,
) -> bytes:
    """Return an engine that finds the same boxes in every picture, at most `SLOTS`.

    The score of the first is the mean of the canvas (0 to 1), so that a test can tell pictures
    apart; the others follow 0.01 apart. There is no "masks" output without `masks` [N, h, w].
    """
    count, batch = len(boxes), spec.batch
    padded = np.zeros((batch, SLOTS, 4), np.float32)
    padded[:, :count] = np.array(boxes, np.float32).reshape(-1, 4)
    classes = np.zeros((batch, SLOTS), np.int32)
    classes[:, :count] = labels
    steps = -0.01 * np.arange(SLOTS, dtype=np.float32)[None]
    constants = {
        "boxes": padded,
        "labels": classes,
        "count": np.full(batch, count, np.int32),
        "steps": steps,
        "scale": np.float32(1 / 255),
        "axes": np.array([1, 2, 3], np.int64),
        "last": np.array([1], np.int64),
    }
    if masks is not None:
        full = np.zeros((batch, SLOTS, *masks.shape[1:]), np.float32)
        full[:, :count] = masks
        constants["masks"] = full
    outputs = ["boxes", "scores", "labels", *(["masks"] if masks is not None else []), "count"]
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "c_scale"], ["unit"]),
        helper.make_node("Unsqueeze", ["unit", "last"], ["column"]),
        helper.make_node("Add", ["column", "c_steps"], ["scores"]),
        *(helper.make_node("Identity", [f"c_{n}"], [n]) for n in outputs if n != "scores"),
    ]
    names = {name: name if name in ("axes", "last") else f"c_{name}" for name in constants}
    kinds = {"labels": TensorProto.INT32, "count": TensorProto.INT32}
    graph = helper.make_graph(
        nodes,
        "fixed",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, spec.shape)],
        [
            helper.make_tensor_value_info(
                name,
                kinds.get(name, TensorProto.FLOAT),
                constants[name].shape if name == "masks" else shape_of(name, batch),
            )
            for name in outputs
        ],
        [numpy_helper.from_array(np.asarray(v), names[k]) for k, v in constants.items()],
    )
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def shape_of(output: str, batch: int) -> tuple[int, ...]:
    tails = {"boxes": (SLOTS, 4), "masks": (SLOTS, 28, 28), "count": ()}
    return (batch, *tails.get(output, (SLOTS,)))


MakeBundle = Callable[..., Bundle]


@pytest.fixture
def make_bundle(tmp_path: Path) -> MakeBundle:
    """Return a function that writes a bundle: folder names under engines/ → files."""

    def make(
        engines: dict[str, dict[str, bytes]],
        spec: InputSpec | None = None,
        precision: Precision = Precision.FP32,
    ) -> Bundle:
        spec = spec or InputSpec(64, 64)
        outputs = ("boxes", "scores", "labels", "masks", "count")
        manifest = Manifest(
            family="test",
            input=spec,
            outputs={name: shape_of(name, spec.batch) for name in outputs},
            class_names=("background", "disc", "square"),
            precision=precision,
        )
        path = tmp_path / "tiny.maskrt"
        with Bundle.create(path, manifest) as bundle:
            for folder, files in engines.items():
                for name, content in files.items():
                    bundle.write(f"engines/{folder}/{name}", content)
                bundle.write(f"engines/{folder}/engine.json", json.dumps({"target": folder}))
        return Bundle.open(path)

    return make


@pytest.fixture
def make_engine() -> Callable[..., bytes]:
    """Return `fixed_engine`; tests cannot import it from a conftest."""
    return fixed_engine
