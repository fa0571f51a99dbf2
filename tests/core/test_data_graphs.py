"""A graph of a bundle that names another file is refused, wherever in it the tensor lies."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import maskrt
from maskrt.calib.bundled import read_model
from maskrt.core import Bundle, BundleError, InputSpec, Manifest
from maskrt.core.data_graphs import check_data_alone


def _outside(location: str = "secret.bin") -> TensorProto:
    tensor = TensorProto(name="stolen", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def _constant(tensor: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["c"], value=tensor)


def _model(nodes: list[onnx.NodeProto], initializers: list[TensorProto]) -> onnx.ModelProto:
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    graph = helper.make_graph(nodes, "g", [], [y], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)


def _in_initializer() -> onnx.ModelProto:
    return _model([helper.make_node("Identity", ["stolen"], ["y"])], [_outside()])


def _in_attribute() -> onnx.ModelProto:
    return _model([_constant(_outside()), helper.make_node("Identity", ["c"], ["y"])], [])


def _in_branch() -> onnx.ModelProto:
    y = helper.make_tensor_value_info("c", TensorProto.FLOAT, [4])
    branch = helper.make_graph([_constant(_outside())], "b", [], [y])
    yes = numpy_helper.from_array(np.array(True), "yes")
    node = helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)
    return _model([node], [yes])


def _in_function() -> onnx.ModelProto:
    model = _model([helper.make_node("F", [], ["y"], domain="maskrt")], [])
    opset = [helper.make_opsetid("", 19)]
    model.functions.append(
        helper.make_function("maskrt", "F", [], ["c"], [_constant(_outside())], opset)
    )
    return model


def _in_sparse_initializer() -> onnx.ModelProto:
    model = _model([helper.make_node("Identity", ["stolen"], ["y"])], [])
    sparse = model.graph.sparse_initializer.add(dims=[8])
    sparse.values.CopyFrom(_outside())
    return model


@pytest.mark.parametrize(
    "make", [_in_initializer, _in_attribute, _in_branch, _in_function, _in_sparse_initializer]
)
def test_external_data_is_refused_by_the_bundle(
    make: Callable[[], onnx.ModelProto], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "b.maskrt"
    manifest = Manifest("test", InputSpec(64, 64), {"boxes": (1, 4, 4)})
    with Bundle.create(path, manifest) as bundle:
        bundle.write("model.onnx", make().SerializeToString())
        bundle.write("engines/cpu/engine.onnx", make().SerializeToString())
        bundle.write("engines/cpu/engine.json", {"target": "cpu"})
    for use in (lambda: maskrt.load(path, "cpu"), lambda: maskrt.build(path, "cpu"),
                lambda: read_model(Bundle.open(path))):  # fmt: skip
        with pytest.raises(BundleError, match="hold their weights themselves"):
            use()


def test_a_location_that_could_steer_the_terminal_is_written_out() -> None:
    raw = _model([], [_outside("a\x1b[2Jb")]).SerializeToString()
    with pytest.raises(BundleError) as error:
        check_data_alone(raw, Path("model.onnx"))
    assert "\x1b" not in str(error.value)
    assert "a\\\\x1b[2Jb" in str(error.value)


def test_a_graph_that_only_has_the_word_in_it_is_taken() -> None:
    inside = numpy_helper.from_array(np.zeros(4, np.float32), "location")
    raw = _model([helper.make_node("Identity", ["location"], ["y"])], [inside]).SerializeToString()
    check_data_alone(raw, Path("model.onnx"))
    check_data_alone(b"location, and no graph", Path("model.onnx"))
