"""Small graphs to quantise, and ways to run them and to look at what ONNX Runtime makes of them."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from maskrt.calib import Recipe, Statistics, collect_statistics, make_recipe
from maskrt.core import Precision

SIZE = 64
FLOAT, UINT8 = TensorProto.FLOAT, TensorProto.UINT8


class GraphBuilder:
    """Writes nodes one after another; each method returns the tensor that it made."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def constant(self, value: np.ndarray, name: str | None = None) -> str:
        name = name or f"c{len(self.constants)}"
        self.constants[name] = value
        return name

    def op(self, op_type: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        output = f"t{len(self.nodes)}"
        label = name or f"{op_type}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=label, **attributes))
        return output

    def weight(self, *shape: int) -> str:
        fan_in = int(np.prod(shape[1:]))
        value = self.random.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
        return self.constant(value)

    def bias(self, size: int) -> str:
        return self.constant(self.random.normal(0, 0.2, size).astype(np.float32))

    def conv(self, data: str, inputs: int, outputs: int, kernel: int = 3, **attributes: Any) -> str:
        weights = (self.weight(outputs, inputs, kernel, kernel), self.bias(outputs))
        return self.op("Conv", data, *weights, pads=[kernel // 2] * 4, **attributes)

    def relu(self, data: str) -> str:
        return self.op("Relu", data)

    def model(self, outputs: list[str], batch: int = 1) -> onnx.ModelProto:
        """Return the model, with every tensor's shape in `value_info`."""
        images = helper.make_tensor_value_info("images", UINT8, [batch, SIZE, SIZE, 3])
        graph = helper.make_graph(
            self.nodes,
            "test",
            [images],
            [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", 19), helper.make_opsetid("maskrt", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        return shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def stem(g: GraphBuilder) -> str:
    """Normalise the pictures and bring them to 16 channels at stride 4, as a detector does."""
    pixels = g.op("Transpose", g.op("Cast", "images", to=FLOAT), perm=[0, 3, 1, 2])
    scaled = g.op("Mul", pixels, g.constant(np.float32([0.017]).reshape(1, 1, 1, 1)))
    shifted = g.op("Add", scaled, g.constant(np.full((1, 3, 1, 1), -2, np.float32)))
    first = g.relu(g.conv(shifted, 3, 16, strides=[2, 2], name="first"))
    return g.op("MaxPool", first, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])


def block(g: GraphBuilder, data: str, inputs: int, outputs: int, stride: int = 1) -> str:
    """A residual block; its skip branch is a convolution where the shape changes."""
    main = g.relu(g.conv(data, inputs, outputs, strides=[stride, stride]))
    main = g.conv(main, outputs, outputs)
    skip = data
    if stride != 1 or inputs != outputs:
        skip = g.conv(data, inputs, outputs, kernel=1, strides=[stride, stride])
    return g.relu(g.op("Add", main, skip))


def detector(batch: int = 1, seed: int = 0) -> onnx.ModelProto:
    """A detector in small: stem, residual stages, FPN, an RPN with shared weights, both heads.

    The finer FPN level is an output of the graph and an input of the RPN, as in Mask R-CNN.
    Outputs: the level, RPN logits of both levels, class probabilities, mask probabilities.
    """
    g = GraphBuilder(seed)
    fine = block(g, block(g, stem(g), 16, 16), 16, 32)
    coarse = block(g, fine, 32, 32, stride=2)
    top = g.conv(coarse, 32, 24, kernel=1)
    scales = g.constant(np.float32([1, 1, 2, 2]))
    upsampled = g.op("Resize", top, "", scales, mode="nearest", nearest_mode="floor",
                     coordinate_transformation_mode="asymmetric")  # fmt: skip
    merged = g.op("Add", g.conv(fine, 32, 24, kernel=1), upsampled)
    levels = [g.conv(merged, 24, 24), g.conv(top, 24, 24)]
    shared = (g.weight(24, 24, 3, 3), g.bias(24), g.weight(3, 24, 1, 1), g.bias(3))
    logits = []
    for level in levels:
        hidden = g.relu(g.op("Conv", level, *shared[:2], pads=[1, 1, 1, 1]))
        logits.append(g.op("Conv", hidden, *shared[2:]))
    pooled = g.op("AveragePool", levels[0], kernel_shape=[4, 4], strides=[4, 4])
    outputs = [levels[0], *logits, _box_head(g, pooled), _mask_head(g, pooled)]
    return g.model(outputs, batch)


def _box_head(g: GraphBuilder, pooled: str) -> str:
    flat = g.op("Flatten", pooled)
    weight = g.constant(g.random.normal(0, 0.02, (32, 24 * 16)).astype(np.float32))
    hidden = g.relu(g.op("Gemm", flat, weight, g.bias(32), transB=1))
    weight = g.constant(g.random.normal(0, 0.02, (32, 5)).astype(np.float32))
    return g.op("Softmax", g.op("Gemm", hidden, weight, g.bias(5)))


def _mask_head(g: GraphBuilder, pooled: str) -> str:
    """Deconvolution, then the product with the weights of one picked class per picture."""
    weight = g.constant(g.random.normal(0, 0.2, (24, 16, 2, 2)).astype(np.float32))
    wide = g.relu(g.op("ConvTranspose", pooled, weight, g.bias(16), strides=[2, 2]))
    pixels = g.op("Reshape", wide, g.constant(np.int64([0, 16, 64])))
    classes = g.op("Gather", g.weight(5, 16), g.constant(np.int64([3])))
    picked = g.op("Unsqueeze", classes, g.constant(np.int64([1])))
    return g.op("Sigmoid", g.op("MatMul", picked, pixels))


def pictures(count: int, seed: int = 0) -> np.ndarray:
    """Smooth random pictures, uint8 `[count, SIZE, SIZE, 3]`."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (count, 8, 8, 3))
    return np.kron(coarse, np.ones((1, SIZE // 8, SIZE // 8, 1))).astype(np.uint8)


def calibrated(model: onnx.ModelProto, count: int = 8) -> Statistics:
    return collect_statistics(model, (pictures(1, seed) for seed in range(count)))


def int8_recipe(model: onnx.ModelProto) -> Recipe:
    return make_recipe(model, Precision.INT8, calibrated(model))


def run(model: onnx.ModelProto, images: np.ndarray) -> list[np.ndarray]:
    return _session(model).run(None, {"images": images})


def optimised(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Return the graph that ONNX Runtime runs instead of `model`."""
    file = folder / "optimised.onnx"
    _session(model, str(file))
    return onnx.load(file)


def _session(model: onnx.ModelProto, optimised_file: str = "") -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.optimized_model_filepath = optimised_file
    providers = ["CPUExecutionProvider"]
    return ort.InferenceSession(model.SerializeToString(), options, providers=providers)


@cache
def quantises_fp16_exactly() -> bool:
    """Whether this ONNX Runtime computes QuantizeLinear of FP16 as ONNX says; up to 1.29 none does.

    There, what is between two steps is rounded to the wrong one now and then: 36 dB, and not 74.
    """
    x = np.random.default_rng(0).normal(0, 3, 2048).astype(np.float16)
    scale, zero = np.float16(0.07), np.int8(0)
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    faces = [helper.make_tensor_value_info(n, TensorProto.FLOAT16, [2048]) for n in ("images", "y")]
    held = [numpy_helper.from_array(np.asarray(v), n) for n, v in (("s", scale), ("z", zero))]
    graph = helper.make_graph(nodes, "q", faces[:1], faces[1:], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    steps = np.clip(np.rint(x.astype(np.float64) / np.float64(scale)), -128, 127)
    return snr_db(steps * np.float64(scale), run(model, x)[0]) > 60


def float_layers(model: onnx.ModelProto) -> list[str]:
    """Return the layers that an optimised graph still computes in float."""
    kinds = ("Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm")
    return [node.name for node in model.graph.node if node.op_type in kinds]


def snr_db(reference: np.ndarray, value: np.ndarray) -> float:
    """Signal-to-noise ratio of `value`, in decibels."""
    noise = np.mean((value.astype(np.float64) - reference) ** 2)
    return float(10 * np.log10(np.mean(reference.astype(np.float64) ** 2) / max(noise, 1e-30)))


def op_types(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def producer(model: onnx.ModelProto, tensor: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if tensor in node.output)


def initializer(model: onnx.ModelProto, name: str) -> np.ndarray:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    return numpy_helper.to_array(tensor)
