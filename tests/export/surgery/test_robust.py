"""What does not change a graph's meaning does not change what surgery makes of it, to the byte."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.version_converter
import pytest
from onnx import helper, numpy_helper

from maskrt.export.surgery import export_onnx

from .foreign import equals_original, export_old

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


def rename(model: onnx.ModelProto, luck: random.Random) -> onnx.ModelProto:
    """Give every tensor and node, inputs and outputs included, a name that means nothing."""
    names: dict[str, str] = {}

    def of(name: str) -> str:
        return name and names.setdefault(name, f"t{luck.getrandbits(60):x}")

    def inside(graph: onnx.GraphProto) -> None:
        for value in (*graph.input, *graph.output, *graph.initializer):
            value.name = of(value.name)
        del graph.value_info[:]
        for node in graph.node:
            node.name = f"n{luck.getrandbits(60):x}"
            node.input[:] = [of(name) for name in node.input]
            node.output[:] = [of(name) for name in node.output]
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    inside(attribute.g)

    inside(model.graph)
    return model


def reorder(model: onnx.ModelProto, luck: random.Random) -> onnx.ModelProto:
    """Put the nodes into a random order in which each still comes after what it reads."""
    nodes = list(model.graph.node)
    made = {name: i for i, node in enumerate(nodes) for name in node.output}
    left = [{made[n] for n in _read(node) if n in made} for node in nodes]
    readers: list[list[int]] = [[] for _ in nodes]
    for index, needed in enumerate(left):
        for other in needed:
            readers[other].append(index)
    ready = [index for index, needed in enumerate(left) if not needed]
    order = []
    while ready:
        index = ready.pop(luck.randrange(len(ready)))
        order.append(index)
        for reader in readers[index]:
            left[reader].discard(index)
            if not left[reader]:
                ready.append(reader)
    assert len(order) == len(nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes[index] for index in order)
    return model


def _read(node: onnx.NodeProto) -> set[str]:
    names = set(node.input)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            names |= {name for inner in attribute.g.node for name in _read(inner)}
            names |= {output.name for output in attribute.g.output}
    return names


def insert_identities(model: onnx.ModelProto, luck: random.Random) -> onnx.ModelProto:
    """Let one in ten of the inputs go through an Identity."""
    nodes = []
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name and luck.random() < 0.1:
                fresh = f"identity{luck.getrandbits(60):x}"
                nodes.append(helper.make_node("Identity", [name], [fresh]))
                node.input[place] = fresh
        nodes.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    return model


def exchange_constants(model: onnx.ModelProto, luck: random.Random) -> onnx.ModelProto:
    """Turn half of the Constant nodes into initializers, and half of those into nodes."""
    nodes, initializers = [], []
    for tensor in model.graph.initializer:
        if luck.random() < 0.5:
            nodes.append(helper.make_node("Constant", [], [tensor.name], value=tensor))
        else:
            initializers.append(onnx.TensorProto.FromString(tensor.SerializeToString()))
    for node in model.graph.node:
        value = node.attribute[0] if node.op_type == "Constant" else None
        if value is not None and value.HasField("t") and luck.random() < 0.5:
            initializers.append(
                numpy_helper.from_array(numpy_helper.to_array(value.t), node.output[0])
            )
        else:
            nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del model.graph.node[:]
    del model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(initializers)
    return model


CHANGES = (rename, reorder, insert_identities, exchange_constants)


def _rewritten(model: onnx.ModelProto, folder: Path) -> bytes:
    onnx.checker.check_model(model)
    onnx.save(model, folder / "changed.onnx")
    return export_onnx(folder / "changed.onnx").model.SerializeToString()


@pytest.fixture(scope="module")
def expected(small: Path) -> bytes:
    """What surgery makes of the unchanged graph."""
    return export_onnx(small).model.SerializeToString()


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_alone(
    change: Callable[[onnx.ModelProto, random.Random], onnx.ModelProto],
    graph: onnx.ModelProto, expected: bytes, tmp_path: Path,
) -> None:  # fmt: skip
    before = graph.SerializeToString()
    changed = change(graph, random.Random(0))
    assert changed.SerializeToString() != before
    assert _rewritten(changed, tmp_path) == expected


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 20))]
)
def test_all_changes_at_once(
    seed: int, graph: onnx.ModelProto, expected: bytes, tmp_path: Path
) -> None:
    luck = random.Random(seed)
    for change in luck.sample(CHANGES, len(CHANGES)):
        graph = change(graph, luck)
    assert _rewritten(graph, tmp_path) == expected


def test_a_change_of_meaning_shows(graph: onnx.ModelProto, expected: bytes, tmp_path: Path) -> None:
    """The comparison to the byte would see another threshold."""
    for node in graph.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.t.dims == []:
                value = numpy_helper.to_array(attribute.t)
                if value.dtype == np.float32 and value == np.float32(0.1):
                    attribute.t.CopyFrom(numpy_helper.from_array(np.float32(0.2)))
    assert _rewritten(graph, tmp_path) != expected


@pytest.mark.parametrize("opset", [16, 18, 19, 21, 22])
def test_converted_opsets(
    opset: int, graph: onnx.ModelProto, expected: bytes, tmp_path: Path
) -> None:
    try:
        converted = onnx.version_converter.convert_version(graph, opset)
    except RuntimeError as error:
        pytest.skip(f"onnx does not convert it: {error}")
    assert _rewritten(converted, tmp_path) == expected


@pytest.mark.parametrize("opset", [pytest.param(v, marks=pytest.mark.slow) for v in range(11, 21)])
def test_exported_opsets(opset: int, photos: list[np.ndarray], tmp_path: Path) -> None:
    import torch

    from ..detectors import tiny_mask_rcnn

    torch.manual_seed(0)
    model = tiny_mask_rcnn(2, min_size=64, max_size=64)
    path = export_old(model, photos, (64, 64), tmp_path / "m.onnx", opset_version=opset)
    equals_original(path, photos)


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["onnxsim", "onnxslim"])
def test_simplified(
    tool: str, small: Path, expected: bytes, tmp_path: Path, photos: list[np.ndarray]
) -> None:
    module = pytest.importorskip(tool)
    model = onnx.load(small)
    simplified = module.simplify(model)[0] if tool == "onnxsim" else module.slim(model)
    assert len(simplified.graph.node) < len(onnx.load(small).graph.node) / 2
    assert _rewritten(simplified, tmp_path) == expected


def test_optimised_by_onnxruntime(small: Path, tmp_path: Path, photos: list[np.ndarray]) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "basic.onnx")
    onnxruntime.InferenceSession(str(small), options, providers=["CPUExecutionProvider"])
    equals_original(tmp_path / "basic.onnx", photos)
