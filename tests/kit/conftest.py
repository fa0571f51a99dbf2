"""A bundle whose graph finds the same in every picture, and so costs nothing to make and run."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from maskrt.compiling.stages import write_recipe
from maskrt.core import Bundle, InputSpec, Manifest, silent
from maskrt.core.bundle import MODEL
from maskrt.precision.request import RecipeRequest

SPEC = InputSpec(96, 128)
BOXES = np.array([[10, 12, 60, 80], [70, 20, 120, 90], [30, 5, 50, 30]], np.float32)


def constant_graph(boxes: np.ndarray = BOXES) -> onnx.ModelProto:
    """Return a canonical graph of constants."""
    found = {
        "boxes": boxes[None], "scores": np.float32([[0.9, 0.8, 0.6]]),
        "labels": np.int32([[1, 2, 1]]), "count": np.int32([3]),
        "masks": np.full((1, 3, 28, 28), 0.9, np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], "float", to=TensorProto.FLOAT),
        helper.make_node("ReduceMin", ["float"], ["least"], "least", keepdims=0),
        helper.make_node("Mul", ["least", "zero"], ["nothing"], "nothing"),
        helper.make_node("Cast", ["nothing"], ["none"], "none", to=TensorProto.INT32),
    ]
    for name, value in found.items():
        zero = "none" if value.dtype == np.int32 else "nothing"
        nodes.append(helper.make_node("Add", [f"{name}.known", zero], [name], name))
    known = [numpy_helper.from_array(value, f"{name}.known") for name, value in found.items()]
    known.append(numpy_helper.from_array(np.float32(0), "zero"))
    outputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in found.items()
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, SPEC.shape)
    graph = helper.make_graph(nodes, "constant", [images], outputs, known)
    opsets = [helper.make_opsetid("", 19)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    graph = constant_graph()
    outputs = {o.name: tuple(d.dim_value for d in o.type.tensor_type.shape.dim)
               for o in graph.graph.output}  # fmt: skip
    manifest = Manifest("test", SPEC, outputs, ("background", "disc", "square"))
    with Bundle.create(tmp_path / "shapes.maskrt", manifest) as made:
        made.write(MODEL, graph.SerializeToString())
        write_recipe(made, graph, RecipeRequest(), silent)
    return Bundle.open(tmp_path / "shapes.maskrt")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Four pictures, one of which cannot be read."""
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(4):
        picture = Image.fromarray(rng.integers(0, 255, (96, 128, 3), np.uint8))
        picture.save(folder / f"p{index}.png")
    (folder / "p1.png").write_bytes(b"no picture")
    return folder
