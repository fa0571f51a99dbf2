"""A graph of a bundle that names another file, or code, is refused, wherever in it that is."""

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


def test_names_that_are_no_text_are_told() -> None:
    location = _in_initializer().SerializeToString().replace(b"secret.bin", b"s\xffcret.bin")
    with pytest.raises(BundleError, match="in another file"):
        check_data_alone(location, Path("model.onnx"))
    for name in ("SomeOp", "com.domain"):
        node = _model([_node("com.domain", "SomeOp")], []).SerializeToString()
        damaged = node.replace(name.encode(), b"\xff" + name[1:].encode())
        with pytest.raises(BundleError, match="data alone"):
            check_data_alone(damaged, Path("model.onnx"))


def test_a_graph_that_only_has_the_word_in_it_is_taken() -> None:
    inside = numpy_helper.from_array(np.zeros(4, np.float32), "location")
    raw = _model([helper.make_node("Identity", ["location"], ["y"])], [inside]).SerializeToString()
    check_data_alone(raw, Path("model.onnx"))
    check_data_alone(b"location, and no graph", Path("model.onnx"))


def _node(domain: str, op_type: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op_type, ["x"], ["y"], domain=domain, **attributes)


def _in_graph(node: onnx.NodeProto) -> onnx.ModelProto:
    return _model([node], [])


def _under_a_branch(node: onnx.NodeProto) -> onnx.ModelProto:
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    branch = helper.make_graph([node], "b", [], [y])
    yes = numpy_helper.from_array(np.array(True), "yes")
    return _model([helper.make_node("If", ["yes"], ["y"], then_branch=branch,
                                    else_branch=branch)], [yes])  # fmt: skip


def _under_a_function(node: onnx.NodeProto) -> onnx.ModelProto:
    model = _model([helper.make_node("F", [], ["y"], domain="maskrt")], [])
    opset = [helper.make_opsetid("", 19)]
    model.functions.append(helper.make_function("maskrt", "F", [], ["y"], [node], opset))
    return model


CODE = {
    "an engine of another provider": _node(
        "com.microsoft", "EPContext", embed_mode=1, ep_cache_context=b"\x7fELF"
    ),
    "the path of one": _node(
        "com.microsoft", "EPContext", embed_mode=0, ep_cache_context="../engine.so"
    ),
    "the same under another domain": _node("ai.onnx.ml", "EPContext"),
    "Python": _node("com.microsoft", "PythonOp", func_name="os.system"),
    "a library of custom operators": _node("com.example", "Anything"),
    "PyTorch's operators": _node("org.pytorch.aten", "ATen"),
}


@pytest.mark.parametrize("place", [_in_graph, _under_a_branch, _under_a_function])
@pytest.mark.parametrize("kind", CODE)
def test_a_graph_that_names_code_is_refused_by_the_bundle(
    kind: str, place: Callable[[onnx.NodeProto], onnx.ModelProto], tmp_path: Path
) -> None:
    path = tmp_path / "b.maskrt"
    with Bundle.create(path, Manifest("test", InputSpec(64, 64), {"boxes": (1, 4, 4)})) as bundle:
        bundle.write("model.onnx", place(CODE[kind]).SerializeToString())
        bundle.write("engines/cpu/engine.onnx", place(CODE[kind]).SerializeToString())
        bundle.write("engines/cpu/engine.json", {"target": "cpu"})
    for use in (lambda: maskrt.load(path, "cpu"), lambda: maskrt.build(path, "cpu"),
                lambda: maskrt.load(path, "cpu", trust=True)):  # fmt: skip
        with pytest.raises(BundleError, match="graphs are data alone"):
            use()


def test_settings_for_the_runtime_in_a_model_are_refused() -> None:
    model = _model([helper.make_node("Identity", ["x"], ["y"])], [])
    helper.set_model_props(model, {"ort_config": '{"session_options": {}}'})
    with pytest.raises(BundleError, match="ort_config"):
        check_data_alone(model.SerializeToString(), Path("model.onnx"))


def test_what_is_data_is_taken() -> None:
    function = _under_a_function(_node("", "Identity"))
    function.functions[0].domain = function.graph.node[0].domain = "pkg.anybody"
    for model in (
        function,
        _in_graph(_node("com.microsoft", "Gelu")),
        _in_graph(_node("ai.onnx.ml", "Scaler")),
        _in_graph(_node("ai.onnx", "Relu")),
        _in_graph(_node("maskrt", "BatchedNMS")),
    ):
        check_data_alone(model.SerializeToString(), Path("model.onnx"))


def test_onnx_runtimes_other_format_is_not_read(tmp_path: Path) -> None:
    """It would be taken by its first bytes, whatever the file is called, and has no such check."""
    runtime = pytest.importorskip("onnxruntime")
    from maskrt.runtime.backends.cpu import CpuBackend

    model = _model([helper.make_node("Relu", ["x"], ["y"])], [])
    model.graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [4]))
    options = runtime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "m.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    raw = (tmp_path / "m.ort").read_bytes()
    runtime.InferenceSession(raw, providers=["CPUExecutionProvider"])  # by itself it reads that
    with pytest.raises(BundleError, match="does not load"):
        CpuBackend(raw)
