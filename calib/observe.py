"""Collect activation ranges: one streaming pass of the pictures through ONNX Runtime.

Every observed tensor gets three reductions inside the graph, so a run returns three numbers a
tensor and no feature map: memory does not grow with the pictures. Minimum and maximum are the
range; the sum is there because it alone is NaN when any element is (ONNX Runtime's `ReduceMax` may
skip a NaN).

For histograms a run also returns every 17th element of a picture's share of each tensor. 17 is a
prime, so that no row or channel is always met at the same place; where it divides one of the
tensor's sizes, and columns would be left out, another prime is taken. A small tensor is returned as
it is. Minimum and maximum are of all elements.
"""

import ctypes
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..core import InputError, require
from .fingerprint import fingerprint
from .graph import GraphIndex
from .histogram import Histogram
from .placement import place
from .statistics import Range, Statistics

__all__ = ["Collector", "collect_statistics", "filled", "open_session", "without_filler"]

_REDUCTIONS = ("ReduceMin", "ReduceMax", "ReduceSum")
_STRIDES = (17, 19, 23, 29)
_SMALL = 2**16  # elements of a picture, of which every one is counted
_M_MMAP_THRESHOLD, _LARGE_BLOCK = -3, 4 << 20  # glibc, malloc.h
_OUTPUTS = len(_REDUCTIONS) + 1


def collect_statistics(
    model: onnx.ModelProto,
    batches: Iterable[np.ndarray],
    *,
    tensors: Sequence[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Statistics:
    """Run `batches` through `model` and return the range of each observed tensor.

    Args:
        model: the canonical FP32 graph; nodes of domain `maskrt` run as their local functions.
        batches: letterboxed RGB pictures, uint8 `[b, H, W, 3]`; `b` is the graph's batch or less.
        tensors: names to observe; None observes all that a rendering may quantise.
        progress: called after each batch with the number of pictures seen so far.

    Raises:
        InputError: no picture, a batch of another shape or type, a NaN or infinite activation, or a
            tensor that the graph does not have.
    """
    collector = Collector(model, tensors=tensors)
    for batch in batches:
        collector.add(batch)
        if progress is not None:
            progress(collector.statistics.pictures)
    if collector.statistics.pictures == 0:
        raise InputError("there is no picture to calibrate with: name a folder that holds some.")
    return collector.statistics


class Collector:
    """A pass under way: batches go in, and the statistics of all so far can be had at any time."""

    def __init__(
        self,
        model: onnx.ModelProto,
        *,
        tensors: Sequence[str] | None = None,
        start: Statistics | None = None,
    ) -> None:
        """Open `model`.

        Args:
            model, tensors: as `collect_statistics` takes them.
            start: of earlier batches of the same model, to go on from.

        Raises:
            InputError: a tensor that the graph does not have, or `start` is of another pass.
        """
        self._names = list(place(model).tensors if tensors is None else tensors)
        _check_names(model, self._names)
        self._graph = fingerprint(model)
        self._pictures = 0
        self._ranges: dict[str, Range] = {}
        self._histograms = {name: Histogram() for name in self._names}
        if start is not None:
            self._go_on(start)
        self._session = open_session(_with_reductions(model, self._names))
        self._input = self._session.get_inputs()[0]

    def _go_on(self, start: Statistics) -> None:
        names = set(self._names)
        known = start.tensors.keys() == start.histograms.keys() == names
        if start.graph != self._graph or not known:
            raise InputError("the statistics to go on from are of another pass: begin anew.")
        self._pictures, self._ranges = start.pictures, dict(start.tensors)
        for name, histogram in start.histograms.items():
            self._histograms[name] = self._histograms[name].merge(histogram)

    @property
    def statistics(self) -> Statistics:
        """Of all batches so far; of no tensor before the first."""
        return Statistics(self._graph, self._pictures, dict(self._ranges), self._histograms)

    def add(self, batch: np.ndarray) -> None:
        """Run one batch, uint8 `[b, H, W, 3]`.

        Raises:
            InputError: its shape or type is another, or an activation is NaN or infinite.
        """
        feed = filled(batch, self._input.shape)
        found = self._session.run(None, {self._input.name: feed})
        for name, seen in zip(self._names, _ranges(self._names, found), strict=True):
            self._ranges[name] = seen.union(self._ranges.get(name, seen))
        for index, name in enumerate(self._names):
            sample = found[_OUTPUTS * index + len(_REDUCTIONS)]
            self._histograms[name].add(without_filler(sample, len(batch), len(feed)))
        self._pictures += len(batch)


def _check_names(model: onnx.ModelProto, names: Sequence[str]) -> None:
    known = {name for node in model.graph.node for name in node.output}
    known |= {value.name for value in model.graph.input}
    for name in names:
        if name not in known:
            raise InputError(
                f"tensor {name} is not in the model's graph, so it cannot be observed."
            )


def _with_reductions(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Return a copy whose only outputs are the reductions and samples of `names`, in order."""
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    del observed.graph.output[:]
    graph = GraphIndex(model)
    batch = (graph.shape(model.graph.input[0].name) or (1,))[0]
    for index, name in enumerate(names):
        for op_type in _REDUCTIONS:
            output = f"maskrt_observed_{index}_{op_type}"
            node = helper.make_node(op_type, [name], [output], output, keepdims=0)
            observed.graph.node.append(node)
            info = helper.make_tensor_value_info(output, TensorProto.FLOAT, [])
            observed.graph.output.append(info)
        _add_sample(
            observed.graph, name, f"maskrt_observed_{index}_sample", graph.shape(name), batch
        )
    return observed


def _add_sample(
    graph: onnx.GraphProto, name: str, output: str, shape: tuple[int, ...], batch: int
) -> None:
    """Append a sample of `name`, each row of which is of one picture, regions and all.

    A tensor whose first size is no multiple of the batch has a row for each of that size.
    """
    divided = batch == 1 or (bool(shape) and shape[0] % batch == 0)
    stride = _stride(shape, batch)
    values = {"rows": [batch if divided else 0, -1], "start": [0], "axis": [1], "step": [stride],
              "stop": [np.iinfo(np.int64).max]}  # fmt: skip
    for key, value in values.items():
        constant = numpy_helper.from_array(np.array(value, np.int64), f"{output}_{key}")
        graph.initializer.append(constant)
    wide = f"{output}_pictures"
    inputs = [wide, *(f"{output}_{key}" for key in ("start", "stop", "axis", "step"))]
    graph.node.append(helper.make_node("Reshape", [name, f"{output}_rows"], [wide], wide))
    graph.node.append(helper.make_node("Slice", inputs, [output], output))
    graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, [None, None]))


def _stride(shape: tuple[int, ...], batch: int) -> int:
    if shape and math.prod(shape) <= _SMALL * batch:
        return 1
    return next((p for p in _STRIDES if all(size % p for size in shape)), _STRIDES[0])


def open_session(model: onnx.ModelProto) -> Any:
    """Open `model` so that a tensor is freed once it is reduced, and Q/DQ round as written.

    A memory pattern plans one block for all tensors at once, the default order reduces them late,
    and the arena keeps what a picture with many proposals once needed: together they cost over 1 GB
    more for Mask R-CNN R50-FPN at 512x512, and save no time.
    """
    ort = require("onnxruntime", "collect calibration statistics")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.enable_mem_pattern = False
    options.enable_cpu_mem_arena = False
    _give_back_large_blocks()
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _give_back_large_blocks() -> None:
    """Have glibc return each freed feature map to the system, for the rest of the process.

    By default its threshold for that grows with what is freed, and the holes between maps of
    different pictures add up: 0.4 GB for the model above. It costs a tenth of the time.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "gnu_get_libc_version"):
            libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)


def filled(batch: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return `batch` with its last picture repeated up to the graph's static batch.

    A repeated picture changes neither minimum nor maximum, and `without_filler` counts it once.
    """
    rest = tuple(shape[1:])
    if batch.dtype != np.uint8 or batch.shape[1:] != rest or not 0 < len(batch) <= shape[0]:
        raise InputError(
            f"a calibration batch is {batch.dtype}{list(batch.shape)}, and the model takes "
            f"uint8{list(shape)}: letterbox the pictures to the model's input size."
        )
    return np.concatenate([batch, np.repeat(batch[-1:], shape[0] - len(batch), axis=0)])


def without_filler(sample: np.ndarray, pictures: int, batch: int) -> np.ndarray:
    """Return the rows of the first `pictures` of `batch`, which have as many each."""
    return sample[: len(sample) * pictures // batch] if len(sample) % batch == 0 else sample


def _ranges(names: Sequence[str], found: Sequence[np.ndarray]) -> Iterator[Range]:
    for index, name in enumerate(names):
        low, high, total = (
            float(value) for value in found[_OUTPUTS * index : _OUTPUTS * index + 3]
        )
        if math.isnan(total) or not (math.isfinite(low) and math.isfinite(high)):
            raise InputError(
                f"tensor {name} has a NaN or infinite value on a calibration picture: check the "
                "model's weights, it cannot be quantised."
            )
        yield Range(low, high)
