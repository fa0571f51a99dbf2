"""Which of ONNX Runtime's INT8 kernels compute the right integers on this CPU, and how fast.

Without instructions for dot products of bytes (VNNI, dotprod) the kernels for uint8 data and int8
weights add two products in 16 bits, and saturate: 255 · 127 + 255 · 127 becomes 32767. Those for
uint8 weights widen to 16 bits first and are exact everywhere, but on a CPU with those instructions
the symmetric kernels for int8 weights are the faster ones. The two forms hold the same integers:

    int8, zero point 0        w
    uint8, zero point 128     w + 128, the same byte with its highest bit flipped

So `engine.onnx` has the second form, whoever reads it and wherever, and `CpuBackend` loads the
first where that is exact: on some CPUs always, on the others for weights whose pairs fit into 16
bits (`core/paired_products.py`), as `calib/render/_paired.py` makes them. Which is exact is no
matter of flags: each kind of kernel is run on the worst case and compared with the integers.

Source: MLAS, `qlinearconv.cc` (int8 weights alone are packed for the symmetric kernels)
https://github.com/microsoft/onnxruntime, onnxruntime/core/providers/cpu/quantization
"""

import functools
import time
from typing import Any, NoReturn

import numpy as np

from ..core import UnsupportedTargetError, require
from ..core.paired_products import LARGEST_PAIR, product_rows
from .byte_weights import WEIGHT_FORMS, ZERO_POINTS, weights_of

__all__ = ["WEIGHT_FORMS", "exact_forms", "measured_gain", "stored_form", "with_suited_weights"]

PAIRED = "int8 in pairs"
_LARGEST = 127
_KERNELS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    # name: shape of the data, of the weights, attributes
    "Conv 3x3": ((1, 32, 6, 6), (32, 32, 3, 3), {}),
    "Conv 1x1": ((1, 64, 4, 4), (32, 64, 1, 1), {}),
    "Conv grouped": ((1, 64, 6, 6), (64, 32, 3, 3), {"group": 2}),
    "Conv depthwise": ((1, 32, 6, 6), (32, 1, 3, 3), {"group": 32}),
    "Gemm": ((4, 64), (32, 64), {"transB": 1}),
    "MatMul": ((4, 64), (64, 32), {}),
}
_TIMED = (((1, 128, 28, 28), (128, 128, 3, 3)), ((1, 256, 28, 28), (256, 256, 1, 1)))
_ROUNDS, _IN_A_ROW = 5, 4


@functools.cache
def exact_forms() -> tuple[str, ...]:
    """Return the forms that every kernel of ONNX Runtime computes exactly here, the fastest first.

    `"int8"`; `"int8 in pairs"`, for weights that fit into 16 bits in pairs alone; `"uint8"`.
    """
    return tuple(form for form in ("int8", PAIRED, "uint8") if not inexact_kernels(form))


def inexact_kernels(form: str) -> list[str]:
    """Return the kinds of kernels that do not compute the right integers with weights of a form.

    All data is 255, or 0; an output channel has all weights 127, or all -127, or random signs, or
    the largest pairs that fit.
    """
    generator = np.random.default_rng(0)
    wrong = []
    for zero_point in (0, 128):
        worst = _worst_pairs if form == PAIRED else _worst_case
        cases = {name: worst(generator, name) for name in _KERNELS}
        step, model = _probe(cases, form.split()[0], zero_point)
        session = _open(model)
        feeds = {f"{name}.data": data for name, (data, _) in cases.items()}
        for (name, (data, weight)), found in zip(
            cases.items(), session.run(None, feeds), strict=True
        ):
            sums = _products(name, data.astype(np.int64) - zero_point, weight.astype(np.int64))
            levels = np.clip(np.rint(sums / step[name]) + zero_point, 0, 255)
            if np.abs(levels - found).max() > 1:  # one level is a tie that rounds the other way
                wrong.append(name)
    return sorted(set(wrong))


@functools.cache
def measured_gain() -> tuple[float, float]:
    """Return FP32's time by INT8's of a 3x3 and of a 1x1 convolution, on one thread of this CPU.

    The least processor time of a few rounds in turns, of four convolutions one behind the other;
    weights in the form that engines have here.
    """
    gains = []
    for data, weight in _TIMED:
        form = _forms_here()[0].split()[0]
        sessions = [_open(model) for model in _timed_models(data, weight, form)]
        feed = {"data": np.full(data, 0.5, np.float32)}
        taken = [[_seconds(session, feed) for session in sessions] for _ in range(_ROUNDS)]
        fp32, int8 = np.min(taken, axis=0)
        gains.append(float(fp32 / int8))
    return gains[0], gains[1]


def stored_form(engine: bytes) -> str | None:
    """Return the form of an engine's 8-bit weights, `"int8 and uint8"` for both; None without."""
    if not _has_weights(engine):
        return None
    return " and ".join(sorted({weight.form for weight in weights_of(_parsed(engine))})) or None


def with_suited_weights(engine: bytes) -> bytes:
    """Return an engine with its weights in the form that is exact here, and fast.

    An engine without 8-bit weights is returned as it is. The integers are the same.

    Raises:
        UnsupportedTargetError: ONNX Runtime computes neither form exactly on this CPU.
    """
    if not _has_weights(engine):
        return engine
    forms = _forms_here()
    model = _parsed(engine)
    flipped = []
    for weight in weights_of(model):
        wanted = "uint8"
        if forms[0] == "int8" or (PAIRED in forms and weight.fits_in_pairs()):
            wanted = "int8"
        if weight.form != wanted:
            weight.flip(wanted)
            flipped.append(weight)
    if any(weight.form == "uint8" for weight in weights_of(model)) and "uint8" not in forms:
        _refuse()
    return model.SerializeToString() if flipped else engine


def _forms_here() -> tuple[str, ...]:
    forms = exact_forms()
    if not forms:
        _refuse()
    return forms


def _refuse() -> NoReturn:
    version = require("onnxruntime", "run engines for target cpu").__version__
    kernels = ", ".join(inexact_kernels(WEIGHT_FORMS[-1]))
    raise UnsupportedTargetError(
        f"ONNX Runtime {version} computes INT8 inexactly on this CPU ({kernels}), so its INT8 "
        "engines would not give what was checked: build target cpu at --precision fp32."
    )


def _has_weights(engine: bytes) -> bool:
    return b"DequantizeLinear" in engine


def _parsed(engine: bytes) -> Any:
    import onnx

    return onnx.load_model_from_string(engine)


def _worst_case(generator: np.random.Generator, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return data and int8 weights that saturate any 16-bit sum."""
    shape, of_weight, _ = _KERNELS[name]
    data = np.where(generator.random(shape) < 0.9, 255, 0).astype(np.uint8)
    signs = generator.choice(np.array([-1, 1]), of_weight)
    channels = signs.T if name == "MatMul" else signs
    channels[0::4], channels[1::4] = 1, -1
    return data, (signs * _LARGEST).astype(np.int8)


def _worst_pairs(generator: np.random.Generator, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return data and the largest int8 weights that fit in pairs."""
    data, weight = _worst_case(generator, name)
    if name == "Conv depthwise":
        return data, weight
    transposed = name == "Gemm"
    rows = product_rows(weight, name.split()[0], transposed=transposed).astype(np.int16)
    first = generator.choice(np.array([1, 64, 127]), rows[:, ::2].shape)
    same = generator.random(first.shape) < 0.8
    signs = np.sign(rows[:, ::2])
    pairs = np.stack([signs * first, signs * np.where(same, LARGEST_PAIR - first, -127)], axis=2)
    paired = pairs.reshape(rows.shape).astype(np.int8)
    if not name.startswith("Conv"):
        return data, paired if transposed else np.ascontiguousarray(paired.T)
    shape = (len(weight), *weight.shape[2:], weight.shape[1])
    return data, np.ascontiguousarray(np.moveaxis(paired.reshape(shape), -1, 1))


def _products(name: str, data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the sums of products of a kernel, in int64."""
    if name == "MatMul":
        return data @ weight
    if name == "Gemm":
        return data @ weight.T
    groups, taps = _KERNELS[name][2].get("group", 1), weight.shape[2:]
    windows = np.lib.stride_tricks.sliding_window_view(data, taps, axis=(2, 3))
    parts = zip(np.split(windows, groups, 1), np.split(weight, groups, 0), strict=True)
    return np.concatenate([np.einsum("nchwij,mcij->nmhw", x, w) for x, w in parts], axis=1)


def _probe(
    cases: dict[str, tuple[np.ndarray, np.ndarray]], form: str, zero_point: int
) -> tuple[dict[str, float], Any]:
    """Return one level of each kernel's result in products, and all kernels as one Q/DQ graph."""
    graph = _QdqGraph(form)
    step = {}
    for name, (data, weight) in cases.items():
        terms = weight.size // (weight.shape[1] if name == "MatMul" else weight.shape[0])
        step[name] = float(np.float32(255 * _LARGEST * terms / 127))
        read = [graph.quantised_input(f"{name}.data", data.shape, zero_point)]
        read.append(graph.weight(f"{name}.weight", weight, name))
        if name == "Gemm":
            read.append(graph.bias(f"{name}.bias", weight.shape[0]))
        result = graph.node(name.split()[0], read, f"{name}.float", **_KERNELS[name][2])
        graph.quantised_output(result, f"{name}.result", step[name], zero_point)
    return step, graph.model()


def _timed_models(data: tuple[int, ...], weight: tuple[int, ...], form: str) -> tuple[Any, Any]:
    """Return the convolutions in a row, in FP32 and with Q/DQ."""
    generator = np.random.default_rng(0)
    levels = generator.integers(-_LARGEST, _LARGEST + 1, weight).astype(np.int8)
    pads = [weight[2] // 2] * 4
    models = []
    for quantised in (False, True):
        graph = _QdqGraph(form)
        last = graph.float_input("data", data)
        for index in range(_IN_A_ROW):
            if quantised:
                last = graph.pair(last, f"data{index}", 1 / 255, 0)
                kernel = graph.weight(f"w{index}", levels, "Conv")
            else:
                kernel = graph.constant(f"w{index}", levels.astype(np.float32))
            last = graph.node("Conv", [last, kernel], f"conv{index}", pads=pads)
            last = graph.node("Relu", [last], f"relu{index}")
        if quantised:
            last = graph.pair(last, "end", 1 / 255, 0)
        graph.output(last)
        models.append(graph.model())
    return models[0], models[1]


class _QdqGraph:
    """A graph under construction, Q/DQ as engines for `cpu` have them."""

    def __init__(self, form: str) -> None:
        import onnx

        self._onnx = onnx
        self._form = form
        self._nodes: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, name: str, value: np.ndarray) -> str:
        self._constants.append(self._onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(
            self._onnx.helper.make_node(kind, inputs, [output], output, **attributes)
        )
        return output

    def quantised_input(self, name: str, shape: tuple[int, ...], zero_point: int) -> str:
        self._inputs.append(self._info(name, self._onnx.TensorProto.UINT8, shape))
        read = [name, *self._grid(name, 1.0, zero_point)]
        return self.node("DequantizeLinear", read, f"{name}.dequantized")

    def float_input(self, name: str, shape: tuple[int, ...]) -> str:
        self._inputs.append(self._info(name, self._onnx.TensorProto.FLOAT, shape))
        return name

    def quantised_output(self, tensor: str, name: str, step: float, zero_point: int) -> None:
        self.node("QuantizeLinear", [tensor, *self._grid(name, step, zero_point)], name)
        self._outputs.append(self._info(name, self._onnx.TensorProto.UINT8, None))

    def output(self, name: str) -> None:
        self._outputs.append(self._info(name, self._onnx.TensorProto.FLOAT, None))

    def pair(self, tensor: str, name: str, step: float, zero_point: int) -> str:
        grid = self._grid(name, step, zero_point)
        levels = self.node("QuantizeLinear", [tensor, *grid], f"{name}.levels")
        return self.node("DequantizeLinear", [levels, *grid], f"{name}.dequantized")

    def weight(self, name: str, levels: np.ndarray, kind: str) -> str:
        """Add int8 weights in the graph's form, one scale for each output channel."""
        axis = 1 if kind == "MatMul" else 0
        count, zero_point = levels.shape[axis], ZERO_POINTS[self._form]
        stored = (levels.astype(np.int16) + zero_point).astype(self._form)
        read = [
            self.constant(name, stored),
            self.constant(f"{name}.scale", np.ones(count, np.float32)),
            self.constant(f"{name}.zero_point", np.full(count, zero_point, self._form)),
        ]
        return self.node("DequantizeLinear", read, f"{name}.dequantized", axis=axis)

    def bias(self, name: str, count: int) -> str:
        read = [
            self.constant(name, np.zeros(count, np.int32)),
            self.constant(f"{name}.scale", np.ones(count, np.float32)),
        ]
        return self.node("DequantizeLinear", read, f"{name}.dequantized", axis=0)

    def model(self) -> Any:
        helper = self._onnx.helper
        graph = helper.make_graph(
            self._nodes, "probe", self._inputs, self._outputs, self._constants
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)

    def _grid(self, name: str, step: float, zero_point: int) -> list[str]:
        return [
            self.constant(f"{name}.step", np.float32(step)),
            self.constant(f"{name}.zero", np.uint8(zero_point)),
        ]

    def _info(self, name: str, kind: int, shape: tuple[int, ...] | None) -> Any:
        return self._onnx.helper.make_tensor_value_info(name, kind, shape)


def _open(model: Any) -> Any:
    runtime = require("onnxruntime", "find out which INT8 kernels are exact here")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # what is an error is raised as well
    options.intra_op_num_threads = 1
    providers = ["CPUExecutionProvider"]
    return runtime.InferenceSession(model.SerializeToString(), options, providers=providers)


def _seconds(session: Any, feed: dict[str, np.ndarray]) -> float:
    started = time.thread_time()
    session.run(None, feed)
    return time.thread_time() - started
