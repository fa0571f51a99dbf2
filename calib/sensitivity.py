"""What quantising one layer alone costs at the outputs: noise-to-signal ratios, per layer.

    nsr(u) = sum over outputs y of  ||y - y_u||^2 / ||y||^2

where `y_u` is computed with only the layers of unit `u` in INT8, everything else in FP32. The
ratios of small errors add up, so they rank layers without running AP for each of them.

A detector is not continuous: noise reorders the proposals, and row 7 of one run is another box than
row 7 of the next. So the graph is cut where it chooses: whatever an NMS of domain `maskrt` puts out
is fed in from the FP32 run (teacher forcing), and the outputs are those of the last layers on each
way to a cut or to the end.

A *unit* is the layers that share one weight, as an RPN head on five pyramid levels: they can only
be quantised together.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import helper, shape_inference

from ..core import InputError, Precision, require
from .last_layers import cuts, last_layers
from .placement import Placement, place
from .recipe import Recipe
from .render import Style, render

__all__ = ["measure_sensitivity", "units"]

_TINY = 1e-30


def units(placement: Placement) -> tuple[tuple[str, ...], ...]:
    """Return the layers' names, those that share a weight together, in graph order."""
    sharing: dict[str, list[str]] = {}
    for layer in placement.layers:
        sharing.setdefault(layer.weight, []).append(layer.name)
    return tuple(tuple(names) for names in sharing.values())


def measure_sensitivity(
    model: onnx.ModelProto,
    recipe: Recipe,
    batches: Iterable[np.ndarray],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[tuple[str, ...], float]:
    """Return the noise-to-signal ratio that each unit's quantisation alone leaves at the outputs.

    Args:
        model: the canonical FP32 graph.
        recipe: an INT8 recipe of it; units without an INT8 layer are left out.
        batches: a few batches of letterboxed pictures, uint8 `[B, H, W, 3]`, held in memory.
        progress: told (units measured, units in all).

    Raises:
        InputError: no batch, or the recipe is for another graph.
    """
    recipe.check_fits(model)
    pictures = list(batches)
    if not pictures:
        raise InputError("there is no picture to measure sensitivity on: name at least one.")
    placement = place(model)
    narrow = set(recipe.narrow_layers())
    asked = [unit for unit in units(placement) if narrow.intersection(unit)]
    chosen, outputs = cuts(model), [layer.result for layer in last_layers(model)]
    feeds, expected = _teach(model, pictures, chosen, outputs)
    found = {}
    for index, unit in enumerate(asked):
        progress(index, len(asked))
        alone = recipe.widen([name for name in narrow if name not in unit], "not of this unit")
        rendered = render(model, _only(alone, unit), Style.TENSORRT)
        session = _open(_with_ends(rendered, chosen, outputs))
        found[unit] = _noise(session, feeds, expected, outputs)
    progress(len(asked), len(asked))
    return found


def _only(recipe: Recipe, unit: tuple[str, ...]) -> Recipe:
    """Return `recipe` with every layer outside `unit` in FP32, whatever the rest is."""
    layers = {
        name: choice.asked(Precision.INT8 if name in unit else Precision.FP32, Precision.FP32)
        for name, choice in recipe.layers.items()
    }
    return replace(recipe, precision=Precision.INT8, layers=layers, rest=Precision.FP32)


def _teach(
    model: onnx.ModelProto, pictures: list[np.ndarray], chosen: list[str], outputs: list[str]
) -> tuple[list[dict[str, np.ndarray]], list[list[np.ndarray]]]:
    """Run the FP32 graph: what is to be fed at the cuts, and what is to come out."""
    session = _open(_with_ends(model, [], [*chosen, *outputs]))
    name = session.get_inputs()[0].name
    feeds, expected = [], []
    for batch in pictures:
        found = session.run(None, {name: batch})
        feeds.append({name: batch, **dict(zip(chosen, found, strict=False))})
        expected.append(found[len(chosen) :])
    return feeds, expected


def _with_ends(model: onnx.ModelProto, inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    """Return a copy that reads `inputs` instead of computing them, and puts out `outputs`."""
    ended = onnx.ModelProto()
    ended.CopyFrom(model)
    types = _types(model)
    graph = ended.graph
    for node in graph.node:
        for position, name in enumerate(node.output):
            if name in inputs:
                node.output[position] = f"{name}.replaced"
    graph.input.extend(_info(name, types) for name in inputs)
    del graph.output[:]
    graph.output.extend(_info(name, types) for name in outputs)
    return ended


def _types(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    graph = model.graph
    known = {v.name: v for v in (*graph.input, *graph.output, *graph.value_info)}
    inferred = shape_inference.infer_shapes(model).graph
    return {**{v.name: v for v in inferred.value_info}, **known}


def _info(name: str, types: Mapping[str, onnx.ValueInfoProto]) -> onnx.ValueInfoProto:
    if name in types:
        return types[name]
    return helper.make_empty_tensor_value_info(name)


def _open(model: onnx.ModelProto) -> Any:
    """Open `model` so that Q/DQ round as written: fusing them would also quantise their results."""
    ort = require("onnxruntime", "measure the sensitivity of layers")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _noise(
    session: Any,
    feeds: list[dict[str, np.ndarray]],
    expected: list[list[np.ndarray]],
    outputs: list[str],
) -> float:
    noise = np.zeros(len(outputs))
    signal = np.zeros(len(outputs))
    taken = {value.name for value in session.get_inputs()}
    for feed, wanted in zip(feeds, expected, strict=True):
        found = session.run(outputs, {name: feed[name] for name in feed if name in taken})
        for index, (exact, near) in enumerate(zip(wanted, found, strict=True)):
            noise[index] += np.square(near.astype(np.float64) - exact).sum()
            signal[index] += np.square(exact.astype(np.float64)).sum()
    return float((noise / np.maximum(signal, _TINY)).sum())
