"""What full TensorRT is asked for, and what its inspector's report means; no TensorRT is here."""

import json

import pytest

from maskrt.core import Precision, Target, UnsupportedTargetError
from maskrt.runtime.build import check_buildable, is_buildable
from maskrt.runtime.build.capabilities import capabilities_of, parse_version
from maskrt.runtime.build.inspected import inspected_layers, inspected_precisions
from maskrt.runtime.build.prepare import workspace_mib


@pytest.mark.parametrize(
    ("version", "form", "typed", "dla"),
    [
        ("8.5.2", "builtin", False, True),
        ("8.6.2", "builtin", False, True),
        ("10.0.1", "plugins", True, True),
        ("10.3.0", "plugins", True, True),
        ("10.8.0.43", "plugins", True, False),
        ("10.9.0", "aot", True, False),
        ("10.16.1.11", "aot", True, False),
        ("11.4.0.106", "aot", True, False),
        ("11.4.1", "aot", True, True),
    ],
)
def test_capabilities_by_version(version: str, form: str, typed: bool, dla: bool) -> None:
    can = capabilities_of("tensorrt", version)
    assert (can.form, can.strongly_typed, can.dla) == (form, typed, dla)
    assert can.builder_flags is not typed


@pytest.mark.parametrize(
    ("feature", "package", "able", "unable"),
    [
        ("builder_flags", "tensorrt", ["8.5.2", "8.6.2"], ["10.0.1", "11.4.0"]),
        ("progress_monitor", "tensorrt", ["10.0.1", "11.0"], ["8.5.2", "8.6.2"]),
        ("version_compatible", "tensorrt", ["8.6.1", "10.16.1"], ["8.5.3"]),
        ("hardware_compatible", "tensorrt", ["8.6.1", "11.3"], ["8.5.3"]),
        ("strip_weights", "tensorrt", ["10.0.0", "11.4"], ["8.6.2"]),
        ("dla", "tensorrt", ["8.5.2", "10.7.0", "11.4.1"], ["10.8.0", "11.0", "11.4.0"]),
        ("dla_int8", "tensorrt", ["8.5.2", "11.4.1"], ["10.3.0", "10.7.0", "11.4.0"]),
        ("timing_cache", "tensorrt", ["8.5.2", "11.4"], []),
        ("uint8_input", "tensorrt", ["8.5.2", "11.4"], []),
        ("workspace", "tensorrt", ["8.5.2", "11.4"], []),
        ("progress_monitor", "tensorrt_rtx", ["1.7.1"], []),
        ("workspace", "tensorrt_rtx", ["1.7.1"], []),
        ("timing_cache", "tensorrt_rtx", [], ["1.7.1"]),
        ("dla", "tensorrt_rtx", [], ["1.7.1"]),
        ("strip_weights", "tensorrt_rtx", [], ["1.7.1"]),
        ("version_compatible", "tensorrt_rtx", [], ["1.7.1"]),
        ("workspace", "onnxruntime", [], ["1.31.1"]),
        ("progress_monitor", "onnxruntime", [], ["1.31.1"]),
    ],
)
def test_features_by_version(
    feature: str, package: str, able: list[str], unable: list[str]
) -> None:
    assert [v for v in able if not getattr(capabilities_of(package, v), feature)] == []
    assert [v for v in unable if getattr(capabilities_of(package, v), feature)] == []


def test_tensorrt_rtx_takes_no_plugins() -> None:
    assert capabilities_of("tensorrt_rtx", "1.7.1").form == "pluginless"


def test_too_old_is_refused() -> None:
    with pytest.raises(UnsupportedTargetError, match=r"8\.4"):
        capabilities_of("tensorrt", "8.4.1")


def test_versions_compare_as_numbers() -> None:
    assert parse_version("10.16.1.11") > parse_version("10.9.0")
    assert parse_version("11.4.0.106") < (11, 4, 1) <= parse_version("11.4.1.2")
    assert parse_version("11.4") == (11, 4, 0)


def _layer(kind: str, datatype: str, *nodes: str) -> dict[str, object]:
    metadata = "\x1e".join(f"[ONNX Layer: {name}]" for name in nodes)
    return {
        "LayerType": kind,
        "Inputs": [{"Name": "x", "Format/Datatype": datatype}],
        "Metadata": metadata,
    }


def test_precisions_are_read_from_the_inspector() -> None:
    layers = [
        _layer("CaskConvolution", "Int8 NC/32HW32", "conv1", "relu1"),
        _layer("Reformat", "FP32 NCHW", "conv1"),  # bears the name, computes nothing
        _layer("CaskConvolution", "FP16 NHWC8", "conv2"),
        _layer("gemm", "FP16", "fc"),
        _layer("CaskGemmMatrixMultiply", "FP32", "fc"),  # a part of it is wider
        _layer("PointWiseV2", "FP32 NCHW", "conv1"),  # its bias and activation, not fused
        _layer("kgen", "FP32", "conv2", "fused"),  # what Myelin generates around products
        _layer("CaskPooling", "FP32 NCHW", "pooled"),
        "a line of another verbosity",
    ]
    names = ["conv1", "conv2", "fc", "fused", "pooled", "lost"]
    found = inspected_precisions(layers, names)  # type: ignore[arg-type]
    assert found == {
        "conv1": Precision.INT8,
        "conv2": Precision.FP16,
        "fc": Precision.FP32,
        **dict.fromkeys(["fused", "pooled", "lost"]),
    }


@pytest.mark.parametrize(
    "kind",
    ["CaskConvolution", "CaskGemmConvolution", "CaskDeconvolutionV2", "FusedConvActConvolution",
     "CaskFlattenConvolution", "gemm", "MatrixMultiply", "CaskGemmMatrixMultiply",
     "FullyConnected", "mat_mul"],
)  # fmt: skip
def test_every_kind_of_product_decides(kind: str) -> None:
    found = inspected_precisions([_layer(kind, "Half", "x")], ["x"])
    assert found == {"x": Precision.FP16}


@pytest.mark.parametrize("kind", ["Reformat", "kgen", "PointWiseV2", "ForeignNode", "Conversion"])
def test_nothing_else_does(kind: str) -> None:
    assert inspected_precisions([_layer(kind, "Half", "x")], ["x"]) == {"x": None}


@pytest.mark.parametrize("escaped", [True, False])
def test_control_characters_in_the_report(escaped: bool) -> None:
    """Some versions write 0x1e and 0x1f as they are, which is no JSON."""
    layer = _layer("CaskConvolution", "Int8", "conv1", "relu1")
    layer["Metadata"] = f"{layer['Metadata']}\x1f[ONNX Layer: a\x1e[ONNX Layer: conv2]"
    text = json.dumps({"Layers": [layer]})
    raw = text.replace("\\u001e", "\x1e").replace("\\u001f", "\x1f")
    assert raw != text
    found = inspected_precisions(inspected_layers(text if escaped else raw), ["conv1", "conv2"])
    assert found == {"conv1": Precision.INT8, "conv2": Precision.INT8}


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", "[]", "{}", '{"Layers": {}}', '{"Layers": 3}', "[" * 100_000,
     '{"Layers": [{"LayerType": "conv", "Metadata": "[ONNX Layer: x]", "Inputs": [7]}]}',
     '{"Layers": [{"LayerType": "conv", "Metadata": "[ONNX Layer: x]", "Inputs": {"a": 1}}]}'],
)  # fmt: skip
def test_a_report_of_another_form_tells_nothing(text: str) -> None:
    assert inspected_precisions(inspected_layers(text), ["x"]) == {"x": None}


@pytest.mark.parametrize("name", ["orin-nano", "orin-nx", "agx-orin", "thor", "xavier"])
def test_a_jetson_is_prepared_with_room_for_its_system(name: str) -> None:
    target = Target.parse(name)
    check_buildable(target)  # does not refuse
    assert not is_buildable(target)
    assert 512 <= workspace_mib(target) <= target.memory * 1024 // 4


def test_this_machines_gpu_is_refused_where_there_is_none() -> None:
    with pytest.raises(UnsupportedTargetError, match="this machine's GPU"):
        check_buildable(Target.parse("gpu"))
