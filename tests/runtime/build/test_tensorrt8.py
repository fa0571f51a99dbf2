"""What trtexec of TensorRT 8 is handed: a graph that its parser knows, and types of layers."""

import json
import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from maskrt.core import Precision, Target, UnsupportedTargetError
from maskrt.plugins import lower
from maskrt.plugins.builtin import FLOAT32_PREFIX
from maskrt.runtime.build import BuildOptions, WeakTypes, tensorrt8_dla
from maskrt.runtime.build.opset17 import convert_to_opset_17
from maskrt.runtime.build.segments import check_segments
from maskrt.runtime.build.tensorrt8 import (
    constraints,
    lower_to_tensorrt8,
    packs_of,
    trtexec_files,
)

from ...plugins.tensorrt8 import run_lowered

XAVIER, ORIN = Target.parse("xavier"), Target.parse("orin-nx")
NMS = {"iou_threshold": 0.5, "score_threshold": 0.1, "max_outputs": 5, "class_agnostic": 0}
CACHE = "TRT-8502-EntropyCalibration2\nf.relu: 3c8954be\n"
TYPES = WeakTypes(
    {"f": Precision.INT8, "g": Precision.INT8}, frozenset({"f.relu"}), {"5.1": CACHE},
    frozenset({"f"}), {"head": "a DLA has no Gemm"}, 1,
)  # fmt: skip


def _model(candidates: int = 9, kept: int = 5) -> onnx.ModelProto:
    """Conv, Relu, Gemm → scores; BatchedNMS of them; the smallest of what is kept."""
    info, constant = helper.make_tensor_value_info, numpy_helper.from_array
    random = np.random.default_rng(0)
    weights = [
        constant(random.standard_normal((4, 1, 3, 3)).astype(np.float32), "w"),
        constant(random.standard_normal((candidates, 64)).astype(np.float32), "v"),
        constant(np.array([1, 64], np.int64), "row"),
        constant(np.array([1], np.int64), "axes"),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["f"], "back:bone,0", pads=[1] * 4),
        helper.make_node("Relu", ["f"], ["f.relu"], "act"),
        helper.make_node("MaxPool", ["f.relu"], ["p"], "pool", kernel_shape=[2, 2],
                         strides=[2, 2]),
        helper.make_node("Reshape", ["p", "row"], ["r"], "flat"),
        helper.make_node("Gemm", ["r", "v"], ["g"], "head", transB=1),
        helper.make_node("Sigmoid", ["g"], ["scores"], "prob"),
        helper.make_node("BatchedNMS", ["boxes", "scores", "labels"], ["b", "s", "l", "i", "n"],
                         "nms", domain="maskrt", **{**NMS, "max_outputs": kept}),
        helper.make_node("ReduceMin", ["s", "axes"], ["out"], "least", keepdims=0),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g",
        [info("x", TensorProto.FLOAT, [1, 1, 8, 8]),
         info("boxes", TensorProto.FLOAT, [1, candidates, 4]),
         info("labels", TensorProto.INT32, [1, candidates])],
        [info("out", TensorProto.FLOAT, [1]), info("n", TensorProto.INT32, [1])], weights,
        value_info=[info("scores", TensorProto.FLOAT, [1, candidates]),
                    info("s", TensorProto.FLOAT, [1, kept])],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("maskrt", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _files(
    precision: Precision, target: Target = XAVIER, types: WeakTypes = TYPES, **options: object
) -> dict[str, str]:
    lowered = lower_to_tensorrt8(_model(), target)
    types = types if precision is Precision.INT8 else WeakTypes({}, frozenset(), {})
    asked = BuildOptions(**options)  # type: ignore[arg-type]
    made = trtexec_files(lowered, types, target, precision, asked, 64, packs_of(target))
    return {name: data.decode() for name, data in made.items() if name != "model.onnx"}


def _words(script: str) -> list[str]:
    """Return the arguments that a shell would give trtexec."""
    (line,) = (line for line in script.splitlines() if line.startswith('"$trtexec"'))
    return shlex.split(line)


def test_the_graph_is_one_of_opset_17_and_built_in_plugins() -> None:
    lowered = lower_to_tensorrt8(_model(), XAVIER)
    versions = {entry.domain: entry.version for entry in lowered.opset_import}
    assert versions == {"": 17, "trt.plugins": 1}
    assert lowered.ir_version == 8
    assert not lowered.functions
    names = [node.name for node in lowered.graph.node]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[\w./-]+", name) for name in names)
    plain = onnx.ModelProto()
    plain.CopyFrom(lowered)
    kept = [node for node in plain.graph.node if node.domain == ""]
    for node in kept:  # every standard node is legal in opset 17
        onnx.checker.check_node(node, _context())


def _context() -> onnx.checker.C.CheckerContext:
    context = onnx.checker.C.CheckerContext()
    context.ir_version, context.opset_imports = 8, {"": 17}
    return context


def test_each_layer_has_its_type_and_the_rest_is_fp32() -> None:
    found = constraints(lower_to_tensorrt8(_model(), XAVIER), TYPES)
    assert found["back_bone_0"] == {"precision": "int8"}
    assert found["head"] == {"precision": "fp16"}  # no implicit INT8 for matrix products
    assert "act" not in found  # between layers: free
    assert found["prob"] == {"precision": "fp32", "output": "fp32"}
    held = {name: fixed for name, fixed in found.items() if name.startswith(FLOAT32_PREFIX)}
    assert len(held) > 20
    assert {fixed["precision"] for fixed in held.values()} == {"fp32"}
    topk = [fixed for name, fixed in held.items() if "TopK" in name]
    assert [fixed["output"] for fixed in topk] == ["fp32+int32"]
    plugins = [fixed for name, fixed in held.items() if "EfficientNMS" in name]
    assert plugins == [{"precision": "fp32"}]  # its output is of whole numbers


def test_the_line_for_int8() -> None:
    files = _files(Precision.INT8)
    assert set(files) == {
        "layers.json", "calibration-8502.cache", "dla.json", "build-jetpack-5.1.sh"
    }  # fmt: skip
    assert files["calibration-8502.cache"] == CACHE
    program, *words = _words(files["build-jetpack-5.1.sh"])
    assert program == "$trtexec"
    options = dict(word.removeprefix("--").partition("=")[::2] for word in words[:-1])
    assert words[-1] == "$@"
    assert {"int8", "fp16", "noTF32"} <= set(options)
    assert options["calib"] == "calibration-8502.cache"
    assert options["onnx"] == "model.onnx"
    assert options["precisionConstraints"] == "obey"
    assert options["memPoolSize"] == "workspace:64"
    precisions = dict(pair.split(":") for pair in options["layerPrecisions"].split(","))
    outputs = dict(pair.split(":") for pair in options["layerOutputTypes"].split(","))
    assert precisions["back_bone_0"] == "int8"
    assert precisions["prob"] == outputs["prob"] == "fp32"
    assert set(outputs) <= set(precisions)
    assert "back_bone_0" not in outputs


def test_the_line_for_fp32_leaves_nothing_to_choose() -> None:
    files = _files(Precision.FP32)
    assert set(files) == {"build-jetpack-5.1.sh"}
    words = _words(files["build-jetpack-5.1.sh"])
    assert not [w for w in words if w.startswith(("--fp16", "--int8", "--layer", "--calib"))]


def test_a_dla_and_each_jetpack() -> None:
    """No word of trtexec: it has none for 8.5, and those of 8.6 would be obeyed by no layer."""
    files = _files(Precision.INT8, ORIN, dla=0, gpu_fallback=True)
    last = {name: files[f"build-jetpack-{name}.sh"].splitlines()[-1] for name in ("5.1", "6.0")}
    assert last["5.1"] == "python3 build.py calibration-8502.cache"
    assert last["6.0"].split()[:2] == ["python3", "build.py"]
    assert not [text for text in files.values() if "$trtexec" in text]


def test_a_dla_gets_the_nodes_that_it_takes_and_the_gpu_the_rest() -> None:
    types = replace(TYPES, dla=frozenset({"f", "f.relu"}))
    files = _files(Precision.INT8, ORIN, types, dla=0, gpu_fallback=True)
    names = [n.name for n in lower_to_tensorrt8(_model(), ORIN).graph.node
             if n.output[0] in types.dla]  # fmt: skip
    assert len(names) == 2
    assert {*names} == {"back_bone_0", "act"}
    assert json.loads(files["dla.json"]) == {
        "takes": names, "leaves": {"head": "a DLA has no Gemm"}, "loadables": 1,
        "most_loadables": 16,
    }  # fmt: skip
    plain = _files(Precision.INT8, ORIN, types)  # said, and not asked for
    assert plain["dla.json"] == files["dla.json"]
    assert not {"build.py", "build.json"} & set(plain)
    assert files["build.py"] == Path(tensorrt8_dla.__file__).read_text(encoding="utf-8")
    assert json.loads(files["build.json"]) == {
        "dla": 0, "workspace_mib": 64, "version_compatible": False, "timing_cache": "",
    }  # fmt: skip
    assert "dla.json" not in _files(Precision.INT8, Target.parse("orin-nano"), types)
    for broken, reason in (
        (replace(types, dla=frozenset()), "takes none of the graph's layers"),
        (replace(types, dla_loadables=17), "17 separate parts, and a core holds 16"),
    ):
        with pytest.raises(UnsupportedTargetError, match=reason):
            _files(Precision.INT8, ORIN, broken, dla=0, gpu_fallback=True)


def test_the_script_leaves_no_half_written_engine(tmp_path) -> None:
    script = tmp_path / "build.sh"
    script.write_text(_files(Precision.INT8)["build-jetpack-5.1.sh"])
    fake = tmp_path / "trtexec"
    for status in (1, 0):
        fake.write_text(
            f'#!/bin/sh\necho "$@" > seen\necho plan > engine.trt.part\nexit {status}\n'
        )
        fake.chmod(0o755)
        done = subprocess.run(
            ["sh", str(script), "--verbose"], env={"TRTEXEC": str(fake), "PATH": "/usr/bin:/bin"},
            check=False, cwd="/",
        )  # fmt: skip
        assert done.returncode == status
        assert (tmp_path / "engine.trt").exists() is (status == 0)
        assert (tmp_path / "seen").read_text().rstrip().endswith("--verbose")


@pytest.mark.parametrize(
    ("size", "reason"),
    [({"candidates": 4000, "kept": 3841}, r"TensorRT 8's TopK at most 3840: export with"),
     ({"candidates": 5001}, "EfficientNMS looks at the best 5000")],
)  # fmt: skip
def test_sizes_beyond_tensorrt_8_are_refused(size: dict[str, int], reason: str) -> None:
    with pytest.raises(UnsupportedTargetError, match=reason):
        lower_to_tensorrt8(_model(**size), XAVIER)


def test_an_operator_that_opset_17_lacks_is_named() -> None:
    model = _model()
    node = helper.make_node("BitwiseNot", ["labels"], ["z"], "flip")
    model.graph.node.append(node)
    with pytest.raises(UnsupportedTargetError, match=r"'flip' \(BitwiseNot\).*xavier"):
        convert_to_opset_17(model, XAVIER)


def test_an_attribute_that_opset_17_lacks_is_named() -> None:
    model = _model()
    more = {"mode": "linear", "antialias": 1}
    model.graph.node.append(helper.make_node("Resize", ["x", "", "k"], ["z"], "half", **more))
    with pytest.raises(UnsupportedTargetError, match=r"'half' .* antialias"):
        convert_to_opset_17(model, XAVIER)


def test_conversion_keeps_the_numbers() -> None:
    runtime = pytest.importorskip("onnxruntime")
    info = helper.make_tensor_value_info
    sizes = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "k")
    axes = numpy_helper.from_array(np.array([2, 3], np.int64), "axes")
    nodes = [
        helper.make_node("Resize", ["x", "", "k"], ["big"], mode="nearest", antialias=0,
                         keep_aspect_ratio_policy="stretch"),
        helper.make_node("ReduceMax", ["big", "axes"], ["m"], keepdims=0,
                         noop_with_empty_axes=0),
        helper.make_node("ReduceMin", ["m"], ["least"], keepdims=0),
        helper.make_node("Sub", ["m", "least"], ["y"]),
    ]  # fmt: skip
    graph = helper.make_graph(nodes, "g", [info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
                              [info("y", TensorProto.FLOAT, [1, 3])], [sizes, axes])  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    feed = {"x": np.random.default_rng(0).standard_normal((1, 3, 4, 4)).astype(np.float32)}
    results = []
    for step in range(2):
        if step:
            convert_to_opset_17(model, XAVIER)
        session = runtime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        results.append(session.run(None, feed)[0])
    np.testing.assert_array_equal(results[0], results[1])


def test_the_graph_still_computes_the_model() -> None:
    runtime = pytest.importorskip("onnxruntime")
    random, model = np.random.default_rng(3), _model(candidates=40)
    corner = random.uniform(0, 40, (1, 40, 2))
    boxes = np.concatenate([corner, corner + random.uniform(5, 30, (1, 40, 2))], 2)
    feeds = {
        "x": random.standard_normal((1, 1, 8, 8)).astype(np.float32),
        "boxes": boxes.astype(np.float32),
        "labels": random.integers(1, 3, (1, 40)).astype(np.int32),
    }
    session = runtime.InferenceSession(
        lower(model, "function").SerializeToString(), providers=["CPUExecutionProvider"]
    )
    expected = session.run(None, feeds)
    assert expected[1] == [5]
    found = run_lowered(lower_to_tensorrt8(model, XAVIER), feeds)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)  # sums in another order


@pytest.mark.rtx
def test_all_but_the_plugins_goes_through_a_real_parser() -> None:
    reports = check_segments(lower_to_tensorrt8(_model(), XAVIER), XAVIER)
    assert sum(report.nodes for report in reports) > 40
