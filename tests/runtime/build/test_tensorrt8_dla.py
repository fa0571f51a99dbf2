"""The script that builds for a DLA with TensorRT 8: what it asks of the builder's interface.

TensorRT 8 is played by classes of its interface (`tensorrt.Builder` and what it makes, 8.5), whose
network has a layer for each node of the graph, as its parser names them.
"""

import ast
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from onnx import helper

from maskrt.runtime.build import tensorrt8_dla

SOURCE = Path(tensorrt8_dla.__file__).read_text(encoding="utf-8")
LAYERS = {
    "conv": {"precision": "int8"}, "relu": {}, "topk": {"precision": "fp32", "output": "fp32+int32"}
}  # fmt: skip


class Config:
    """`IBuilderConfig`: what is set is noted."""

    def __init__(self, refuses: tuple[str, ...]) -> None:
        self.flags, self.devices, self.pools = {"TF32"}, {}, {}
        self._refuses = refuses

    def set_flag(self, flag: str) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: str) -> None:
        self.flags.discard(flag)

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        self.pools[pool] = size

    def can_run_on_DLA(self, layer: Any) -> bool:  # noqa: N802
        return layer.name not in self._refuses

    def set_device_type(self, layer: Any, kind: str) -> None:
        self.devices[layer.name] = kind

    def create_timing_cache(self, known: bytes) -> Any:
        return SimpleNamespace(serialize=lambda: known + b"+timed")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> None:
        assert ignore_mismatch is False


class Layer:
    """`ILayer`."""

    def __init__(self, name: str) -> None:
        self.name, self.precision, self.outputs = name, None, {}

    def set_output_type(self, index: int, kind: str) -> None:
        self.outputs[index] = kind


class Logger:
    """`trt.Logger`."""

    WARNING = 2

    def __init__(self, severity: int) -> None:
        pass


class TensorRT8:
    """The module `tensorrt`; `plan` is what its builder makes."""

    float32, float16, int8, int32 = "float32", "float16", "int8", "int32"
    NetworkDefinitionCreationFlag = SimpleNamespace(EXPLICIT_BATCH=0)
    MemoryPoolType = SimpleNamespace(WORKSPACE="WORKSPACE")
    DeviceType = SimpleNamespace(GPU="GPU", DLA="DLA")
    IInt8EntropyCalibrator2 = object
    Logger = Logger

    def __init__(self, plan: bytes | None = b"plan", refuses: tuple[str, ...] = ()) -> None:
        names = ("TF32", "FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS", "GPU_FALLBACK",
                 "PREFER_PRECISION_CONSTRAINTS", "VERSION_COMPATIBLE")  # fmt: skip
        self.BuilderFlag = SimpleNamespace(**{name: name for name in names})
        self.config, self.layers, self._plan = Config(refuses), [], plan

    def init_libnvinfer_plugins(self, logger: Any, namespace: str) -> None:
        self.plugins = namespace

    def Builder(self, logger: Any) -> Any:  # noqa: N802
        return SimpleNamespace(
            create_network=self._network, create_builder_config=lambda: self.config,
            build_serialized_network=lambda network, config: self._plan,
        )  # fmt: skip

    def _network(self, flags: int) -> Any:
        assert flags == 1
        return self

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def get_layer(self, index: int) -> Layer:
        return self.layers[index]

    def OnnxParser(self, network: Any, logger: Any) -> Any:  # noqa: N802
        def parse(path: str) -> bool:
            self.layers = [Layer(node.name) for node in onnx.load(path).graph.node]
            return "bad" not in {layer.name for layer in self.layers}

        return SimpleNamespace(
            parse_from_file=parse, num_errors=1, get_error=lambda index: "an operator"
        )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    _save("conv", "relu", "topk")
    settings = {"dla": 1, "workspace_mib": 7, "version_compatible": False, "timing_cache": ""}
    files = {"layers.json": LAYERS, "dla.json": {"takes": ["conv", "relu"]}, "build.json": settings}
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "calibration-8502.cache").write_bytes(b"TRT-8502-EntropyCalibration2\n")
    return tmp_path


def _save(*names: str) -> None:
    nodes = [helper.make_node("Relu", [f"x{i}"], [f"x{i + 1}"], n) for i, n in enumerate(names)]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [], [])), "model.onnx")


def test_it_needs_no_more_than_jetpack_5s_python() -> None:
    tree = ast.parse(SOURCE, feature_version=(3, 8))
    found = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {a.name for n in found if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in found if isinstance(n, ast.ImportFrom)}
    assert names == {"__future__", "json", "os", "sys", "typing", "tensorrt"}


def test_the_gpu_is_the_default_and_the_chosen_layers_go_to_the_dla(folder: Path) -> None:
    trt = TensorRT8()
    assert tensorrt8_dla.main(trt, ["calibration-8502.cache"]) == 0
    config = trt.config
    assert (config.default_device_type, config.DLA_core) == ("GPU", 1)
    assert config.devices == {"conv": "DLA", "relu": "DLA"}
    assert config.flags == {"FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS", "GPU_FALLBACK"}
    assert config.pools == {"WORKSPACE": 7 << 20}
    assert {layer.name: layer.precision for layer in trt.layers} == {
        "conv": "int8", "relu": None, "topk": "float32"
    }  # fmt: skip
    assert trt.layers[2].outputs == {0: "float32", 1: "int32"}
    calibrator = config.int8_calibrator
    assert calibrator.read_calibration_cache() == b"TRT-8502-EntropyCalibration2\n"
    assert calibrator.get_batch(["images"]) is None
    assert (folder / "engine.trt").read_bytes() == b"plan"
    assert trt.plugins == ""


def test_fp16_has_no_calibrator_and_timings_are_kept(folder: Path) -> None:
    settings = json.loads((folder / "build.json").read_text())
    settings.update(timing_cache="times.cache", version_compatible=True)
    (folder / "build.json").write_text(json.dumps(settings))
    (folder / "times.cache").write_bytes(b"old")
    trt = TensorRT8()
    assert tensorrt8_dla.main(trt, []) == 0
    assert "INT8" not in trt.config.flags
    assert "VERSION_COMPATIBLE" in trt.config.flags
    assert not hasattr(trt.config, "int8_calibrator")
    assert (folder / "times.cache").read_bytes() == b"old+timed"


def test_layers_that_this_dla_does_not_take_stay_on_the_gpu(folder: Path, capsys: Any) -> None:
    trt = TensorRT8(refuses=("relu",))
    assert tensorrt8_dla.main(trt, []) == 0
    assert trt.config.devices == {"conv": "DLA"}
    assert "relu" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("trt", "nodes", "words"),
    [
        (TensorRT8(refuses=("conv", "relu")), ("conv", "relu"), "takes no layer of dla.json"),
        (TensorRT8(), ("other",), "takes no layer of dla.json"),
        (TensorRT8(plan=None), ("conv",), "built no engine"),
        (TensorRT8(), ("bad",), "does not take model.onnx: an operator"),
    ],
)
def test_what_fails_is_one_sentence(
    folder: Path, capsys: Any, trt: Any, nodes: tuple[str, ...], words: str
) -> None:
    _save(*nodes)
    assert tensorrt8_dla.main(trt, []) == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not (folder / "engine.trt").exists()
