"""A small network at every precision, written by hand: what a renderer would make of it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

SIZE, WIDTH, CLASSES = 32, 32, 10
LAYERS = ("body.first", "body.second", "head.up", "head.fc")


@dataclass
class Sketch:
    """Collects nodes and constants of one network.

    Attributes:
        precision: `"fp32"`, `"fp16"` or `"int8"` for every layer that is not in `wide`.
        wide: layers left in FP32.
        half_pair: layers whose weights are quantised and whose data is not.
        results: also quantise the results of layers, as ONNX Runtime needs it.
        scale_shape: shape of the activations' scales; anything but () is a mistake.
    """

    precision: str = "fp32"
    wide: Collection[str] = ()
    half_pair: Collection[str] = ()
    results: bool = False
    scale_shape: tuple[int, ...] = ()
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def op(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [output], output, **attributes))
        return output

    def constant(self, array: np.ndarray, name: str) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def chosen(self, layer: str) -> str:
        return "fp32" if layer in self.wide else self.precision

    def quantised(self, data: str, signed: bool) -> str:
        """Q/DQ around an activation; written once for each tensor."""
        name = f"{data}.dq"
        if all(name not in node.output for node in self.nodes):
            scale = self.constant(np.full(self.scale_shape, 0.02, np.float32), f"{data}.scale")
            zero = self.constant(np.zeros((), np.int8 if signed else np.uint8), f"{data}.zero")
            self.op("QuantizeLinear", [data, scale, zero], f"{data}.q")
            self.op("DequantizeLinear", [f"{data}.q", scale, zero], name)
        return name

    def data_of(self, layer: str, data: str) -> str:
        if self.chosen(layer) == "fp16":
            return self.op("Cast", [data], f"{layer}.data", to=TensorProto.FLOAT16)
        if self.chosen(layer) == "int8" and layer not in self.half_pair:
            return self.quantised(data, signed=not self.results or data == "scaled")
        return data

    def weights_of(self, layer: str, shape: tuple[int, ...], axis: int) -> str:
        weight = (self.random.standard_normal(shape) * 0.1).astype(np.float32)
        if self.chosen(layer) != "int8":
            kind = np.float16 if self.chosen(layer) == "fp16" else np.float32
            return self.constant(weight.astype(kind), f"{layer}.weight")
        others = tuple(k for k in range(weight.ndim) if k != axis)
        scale = np.abs(weight).max(others, keepdims=True) / 127
        self.constant(np.rint(weight / scale).astype(np.int8), f"{layer}.weight")
        self.constant(scale.reshape(-1).astype(np.float32), f"{layer}.weight.scale")
        self.constant(np.zeros(scale.size, np.int8), f"{layer}.weight.zero")
        inputs = [f"{layer}.weight{role}" for role in ("", ".scale", ".zero")]
        return self.op("DequantizeLinear", inputs, f"{layer}.weight.dq", axis=axis)

    def layer(self, name: str, op_type: str, data: str, shape: tuple[int, ...], **more: Any) -> str:
        axis, outputs = (1, shape[1]) if op_type == "ConvTranspose" else (0, shape[0])
        half = self.chosen(name) == "fp16"
        bias = np.linspace(-0.1, 0.1, outputs).astype(np.float16 if half else np.float32)
        inputs = [self.data_of(name, data), self.weights_of(name, shape, axis)]
        inputs.append(self.constant(bias, f"{name}.bias"))
        made = helper.make_node(op_type, inputs, [f"{name}.out"], name, **more)
        self.nodes.append(made)
        result = made.output[0]
        return self.op("Cast", [result], f"{name}.float", to=TensorProto.FLOAT) if half else result

    def relu(self, data: str) -> str:
        result = self.op("Relu", [data], f"{data}.relu")
        return self.quantised(result, signed=False) if self.results else result

    def model(self) -> onnx.ModelProto:
        start = self.op("Cast", ["images"], "float", to=TensorProto.FLOAT)
        start = self.op("Transpose", [start], "planes", perm=[0, 3, 1, 2])
        start = self.op("Mul", [start, self.constant(np.float32(1 / 255), "unit")], "scaled")
        window = {"pads": [1] * 4, "kernel_shape": [3, 3]}
        x = self.layer("body.first", "Conv", start, (WIDTH, 3, 3, 3), strides=[2, 2], **window)
        x = self.relu(x)
        x = self.relu(self.layer("body.second", "Conv", x, (WIDTH, WIDTH, 3, 3), **window))
        x = self.layer("head.up", "ConvTranspose", x, (WIDTH, WIDTH, 2, 2), strides=[2, 2])
        x = self.op("GlobalAveragePool", [self.relu(x)], "pooled")
        x = self.op("Flatten", [x], "row")
        x = self.layer("head.fc", "Gemm", x, (CLASSES, WIDTH), transB=1)
        x = self.quantised(x, signed=True) if self.results else x
        self.op("Identity", [x], "logits")
        return self._model()

    def _model(self) -> onnx.ModelProto:
        info = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            "small",
            [info("images", TensorProto.UINT8, [1, SIZE, SIZE, 3])],
            [info("logits", TensorProto.FLOAT, [1, CLASSES])],
            self.constants,
        )
        opset = [helper.make_opsetid("", 19)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=10)
        onnx.checker.check_model(model)
        return model


@pytest.fixture
def small_network() -> Callable[..., onnx.ModelProto]:
    """Return a function that builds the network; its arguments are the fields of `Sketch`."""
    return lambda *args, **fields: Sketch(*args, **fields).model()


@pytest.fixture
def picture() -> np.ndarray:
    """Return one input of the small network."""
    return np.random.default_rng(1).integers(0, 256, (1, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture
def run() -> Callable[[onnx.ModelProto, dict[str, np.ndarray]], list[np.ndarray]]:
    """Return a function that runs a model as it stands, without optimisation."""
    onnxruntime = pytest.importorskip("onnxruntime")

    def run_as_it_stands(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        options = onnxruntime.SessionOptions()
        off = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = off
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return session.run(None, feeds)

    return run_as_it_stands
