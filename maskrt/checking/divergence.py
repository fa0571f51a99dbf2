"""Divergence: how far each layer of a quantised graph or engine is from FP32.

For a layer with FP32 result x and quantised result y, over all elements of all pictures,

    SNR = 10 log10(sum x^2 / sum (x - y)^2)  dB

is measured twice. `snr_db` runs the quantised graph as it is: noise adds up from layer to layer,
and behind NMS the two graphs may look at different boxes. `own_snr_db` gives each layer its FP32
input (through the same Q and DQ), so it is that layer's own doing: it alone says who is to blame.
The layers are the recipe's; a rendering keeps the names of their tensors. FP32 and forced runs are
ONNX Runtime's; the free run is too, unless an engine with marked outputs stands in for it.

`range_used` is the largest input seen, as a share of what the layer's scale can express: 0.25 is a
scale four times too wide, and above 1 values are cut off.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from ..calib import Placement, Recipe, place
from ..core import Precision, require
from ..runtime.build.marked import element_types, mark_outputs

__all__ = ["TOLERANCE_DB", "Run", "layer_tensors", "measure_divergence"]

Run = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""`run(images)`: the tensors of one batch by name."""

TOLERANCE_DB = 15.0
_FEW_LEVELS = 0.4  # of a scale's range used: a good calibration leaves 0.6 to 2 on new pictures
_FORCED = "maskrt_forced_"
_WORST_CHANNELS = 3
_LEVELS = 127


class _Noise:
    """Signal and noise of one tensor, by channel."""

    def __init__(self) -> None:
        self.signal: np.ndarray | float = 0.0
        self.noise: np.ndarray | float = 0.0

    def add(self, expected: np.ndarray, found: np.ndarray) -> None:
        axes = tuple(axis for axis in range(expected.ndim) if axis != 1)
        gap = found.astype(np.float64) - expected
        self.signal = self.signal + np.square(expected, dtype=np.float64).sum(axes)
        self.noise = self.noise + np.square(gap).sum(axes)

    @property
    def snr_db(self) -> float:
        """Of all channels together; 200 where nothing differs, and -200 is the least."""
        signal, noise = float(np.sum(self.signal)), float(np.sum(self.noise))
        if noise == 0.0:
            return 200.0
        if not math.isfinite(noise) or signal == 0.0:
            return -200.0
        return float(np.clip(10 * math.log10(signal / noise), -200, 200))

    def worst_channels(self) -> list[int]:
        """The channels that make most of the noise."""
        noise = np.atleast_1d(self.noise)
        order = np.argsort(-noise, kind="stable")[:_WORST_CHANNELS]
        return [int(channel) for channel in order if noise[channel] > 0]


def measure_divergence(
    model: onnx.ModelProto,
    rendered: onnx.ModelProto,
    recipe: Recipe,
    batches: Iterable[np.ndarray],
    *,
    tolerance_db: float = TOLERANCE_DB,
    run: Run | None = None,
) -> dict[str, Any]:
    """Compare a rendered graph with the FP32 graph, layer by layer.

    Args:
        model: the canonical FP32 graph.
        rendered: the same at the recipe's precisions: by `calib.render`, or an engine's own graph.
        recipe: says what the layers are and compute in.
        batches: letterboxed pictures, uint8 `[B, H, W, 3]`.
        tolerance_db: a layer whose own SNR is lower has left the tolerance.
        run: an engine that hands out `layer_tensors`, for `snr_db`; None runs `rendered`.

    Returns:
        `pictures`, `tolerance_db`, `first` (the first layer that leaves it, in the graph's order,
        or None), `wide` (layers that use less than 0.4 of their scale's range) and `layers`, each
        with `name`, `precision`, `own_snr_db`, `snr_db`, `range_used` and `worst_channels`; a
        number is None where the rendering has no such tensor.
    """
    placement = place(model)
    names = layer_tensors(model, rendered)
    free, forced, largest = _run(model, rendered, names, batches, run)
    pictures = largest.pop("", 0.0)
    layers: list[dict[str, Any]] = []
    for layer in placement.layers:
        choice = recipe.layers[layer.name]
        own = forced.get(layer.result)
        layers.append(
            {
                "name": layer.name,
                "precision": choice.precision.value,
                "own_snr_db": None if own is None else own.snr_db,
                "snr_db": free[layer.result].snr_db if layer.result in free else None,
                "range_used": _range_used(recipe, layer.name, layer.data, placement, largest),
                "worst_channels": [] if own is None else own.worst_channels(),
            }
        )
    left = [x["name"] for x in layers if x["own_snr_db"] is not None
            and x["own_snr_db"] < tolerance_db]  # fmt: skip
    return {
        "pictures": int(pictures),
        "tolerance_db": tolerance_db,
        "first": left[0] if left else None,
        "wide": [
            x["name"]
            for x in layers
            if x["range_used"] is not None and x["range_used"] < _FEW_LEVELS
        ],
        "layers": layers,
    }


def layer_tensors(model: onnx.ModelProto, rendered: onnx.ModelProto) -> list[str]:
    """Return the tensors that divergence compares: those of the layers that both graphs make."""
    made = {name for node in rendered.graph.node for name in node.output}
    return [name for name in place(model).tensors if name in made]


def _run(
    model: onnx.ModelProto,
    rendered: onnx.ModelProto,
    names: Sequence[str],
    batches: Iterable[np.ndarray],
    run: Run | None,
) -> tuple[dict[str, _Noise], dict[str, _Noise], dict[str, float]]:
    """Return the noise of the free run and of the forced run, and the largest FP32 values."""
    plain = _session(mark_outputs(model, names))
    quantised = _running(mark_outputs(rendered, names)) if run is None else run
    pinned = _session(_forced(rendered, names))
    free = {name: _Noise() for name in names}
    forced = {name: _Noise() for name in names}
    largest: dict[str, float] = dict.fromkeys(names, 0.0)
    largest[""] = 0.0
    halves = {value.name for value in pinned.get_inputs() if value.type == "tensor(float16)"}
    taken = {value.name for value in pinned.get_inputs()}
    for batch in batches:
        expected = dict(zip(names, plain.run(list(names), {"images": batch}), strict=True))
        feed = {_FORCED + name: value for name, value in expected.items()}
        feed["images"] = batch
        given = {k: v.astype(np.float16) if k in halves else v for k, v in feed.items()}
        own = pinned.run(list(names), {k: v for k, v in given.items() if k in taken})
        found = quantised(batch)
        for name, mine in zip(names, own, strict=True):
            forced[name].add(expected[name], mine)
            free[name].add(expected[name], found[name])
            largest[name] = max(largest[name], float(np.abs(expected[name]).max(initial=0.0)))
        largest[""] += len(batch)
    return free, forced, largest


def _running(model: onnx.ModelProto) -> Run:
    session = _session(model)
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {"images": images}), strict=True))


def _forced(rendered: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Return a copy in which every reader of a tensor of `names` reads an input in its place.

    Where the tensor is a dequantised one, the input goes through a Q and DQ of the same scale.
    """
    copy = mark_outputs(rendered, names)
    producers = {name: node for node in copy.graph.node for name in node.output}
    replaced, added, types = {}, [], element_types(rendered)
    for name in names:
        replaced[name] = source = _FORCED + name
        kind = types.get(name, TensorProto.FLOAT)
        copy.graph.input.append(helper.make_tensor_value_info(source, kind, None))
        dequantize = producers[name]
        quantize = producers.get(dequantize.input[0])
        if dequantize.op_type != "DequantizeLinear" or quantize is None:
            continue
        if quantize.op_type == "QuantizeLinear":
            levels, replaced[name] = f"{source}_levels", f"{source}_dequantized"
            added += [
                _again(quantize, [source, *quantize.input[1:]], levels),
                _again(dequantize, [levels, *dequantize.input[1:]], replaced[name]),
            ]
    for node in copy.graph.node:
        for index, name in enumerate(node.input):
            if name in replaced:
                node.input[index] = replaced[name]
    nodes = list(copy.graph.node)
    del copy.graph.node[:]
    copy.graph.node.extend([*added, *nodes])
    return copy


def _again(node: onnx.NodeProto, inputs: Sequence[str], output: str) -> onnx.NodeProto:
    """Return a copy of a node between other tensors."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    del copy.input[:], copy.output[:]
    copy.input.extend(inputs)
    copy.output.append(output)
    copy.name = f"{output}_node"
    return copy


def _range_used(
    recipe: Recipe, name: str, data: str, placement: Placement, largest: dict[str, float]
) -> float | None:
    quantised = recipe.layers[name].precision is Precision.INT8
    if not quantised or data not in recipe.tensors:
        return None
    seen = max(largest.get(member, 0.0) for member in placement.group(data))
    return seen / (_LEVELS * recipe.scale(data)) if seen else None


def _session(model: onnx.ModelProto) -> Any:
    ort = require("onnxruntime", "measure how layers diverge")
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what is an error is raised as well
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
