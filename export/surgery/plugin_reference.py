"""A file with TensorRT's plugins as its own reference: ONNX Runtime between them, numpy for them.

The nodes run as the file has them, unfolded; each plugin as `plugin_behaviour` has it from its
documentation. So the canonical graph is compared with something that surgery had no part in.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from ...core import InputError, require
from .graph import Node, outer_names
from .onnx_file import load_onnx
from .picture_input import PictureInput, picture_input
from .plugin_behaviour import behave
from .plugin_graph import PluginDetector
from .plugin_shapes import KNOWN, kind
from .runnable import runnable

__all__ = ["PluginReference"]

_ERRORS_ONLY = 3


class PluginReference:
    """Runs a file of plugins on `uint8 [B, H, W, 3]` pictures of its own size."""

    pasted = False

    def __init__(self, path: Path, found: PluginDetector) -> None:
        """Remember what to run; the file is loaded when it is first needed."""
        self._path, self._found = path, found
        self._parts: list[_Part] = []
        self._taken: PictureInput | None = None

    def describe(self) -> dict[str, str]:
        """Say what runs: for reports."""
        version = require("onnxruntime", "run the original ONNX").__version__
        return {"backend": "onnxruntime, plugins in numpy", "version": version, "precision": "fp32"}

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the canonical graph's outputs for `images`, masks unpasted."""
        rows = [self._one(image) for image in images]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    def _one(self, image: np.ndarray) -> dict[str, np.ndarray]:
        how, last = self._found.preprocessing, self._found.last
        x = image.transpose(2, 0, 1).astype(np.float32) / 255 * how.white
        x = x[::-1] if how.bgr else x
        if how.outside:
            x = x * how.scale[:, None, None] + how.shift[:, None, None]
        values = self._values(x)
        if kind(last) == "TRTBatchedNMS":
            dets, labels = (values[name] for name in last.outputs[:2])
            boxes, scores, count = dets[..., :4], dets[..., 4], (labels >= 0).sum(1)
        else:
            count, boxes, scores, labels = (values[name] for name in last.outputs[:4])
        real = np.arange(scores.shape[1]) < count.reshape(-1, 1)
        labels = (labels.astype(np.int32) + 1 - self._found.first_label) * real
        height, width = how.size
        if self._found.normalised:
            boxes = boxes * np.array([width, height, width, height], np.float32)
        found = {"boxes": boxes, "scores": scores, "labels": labels.astype(np.int32)}
        if self._found.masks is not None:
            found["masks"] = values[self._found.masks]
        return {**found, "count": count.reshape(-1).astype(np.int32)}

    def _values(self, picture: np.ndarray) -> dict[str, np.ndarray]:
        if not self._parts:
            model = runnable(load_onnx(self._path), self._path)
            self._taken = picture_input(model)
            self._parts = _parts(model, self._found)
        assert self._taken is not None
        values: dict[str, np.ndarray] = {"": self._taken.fed(picture)}
        for part in self._parts:
            part.run(values, self._path)
        return values


class _Part:
    """Nodes up to a plugin, and that; or up to the outputs."""

    def __init__(self, model: onnx.ModelProto, plugin: Node | None, wanted: Sequence[str]) -> None:
        self._model, self._plugin, self._wanted = model, plugin, list(wanted)
        self._session: Any = None

    def run(self, values: dict[str, np.ndarray], path: Path) -> None:
        """Add to `values`, by the file's own names, what this part makes."""
        picture = self._model.graph.input[0].name
        values.setdefault(picture, values[""])
        missing = [name for name in dict.fromkeys(self._wanted) if name not in values]
        if missing:
            if self._session is None:
                self._session = _session(self._model, missing, values, path)
            feeds = {i.name: values[i.name] for i in self._session.get_inputs()}
            values.update(zip(missing, self._session.run(missing, feeds), strict=True))
        if self._plugin is not None:
            made = behave(self._plugin, [values[name] for name in self._plugin.inputs])
            values.update(zip(self._plugin.outputs, made, strict=False))


def _parts(model: onnx.ModelProto, found: PluginDetector) -> list[_Part]:
    """Return the plugins as the file has them, each with what comes before, and the rest."""
    parts = []
    for proto in model.graph.node:
        if proto.op_type in KNOWN:
            attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
            node = Node(proto.op_type, tuple(proto.input), tuple(proto.output), attributes)
            parts.append(_Part(model, node, proto.input))
    return [*parts, _Part(model, None, [o.name for o in model.graph.output])]


def _session(
    model: onnx.ModelProto, wanted: Sequence[str], values: dict[str, np.ndarray], path: Path
) -> Any:
    """Open the nodes that make `wanted` out of what is known already."""
    runtime = require("onnxruntime", "compare the canonical graph with the original ONNX")
    makers = {name: node for node in model.graph.node for name in node.output}
    used: dict[int, onnx.NodeProto] = {}
    read: set[str] = set()
    waiting = list(wanted)
    while waiting:
        name = waiting.pop()
        if name in read:
            continue
        read.add(name)
        node = makers.get(name)
        if node is None or name in values or id(node) in used:
            continue
        used[id(node)] = node
        bodies = {a.name: a.g for a in node.attribute if a.HasField("g")}
        waiting += [*node.input, *outer_names(Node(node.op_type, (), (), bodies))]
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(values[n].dtype), None)
        for n in sorted(read)
        if n in values and n and n not in {o for node in used.values() for o in node.output}
    ]
    graph = helper.make_graph(
        [node for node in model.graph.node if id(node) in used], "part", inputs,
        [onnx.ValueInfoProto(name=name) for name in wanted],
        [t for t in model.graph.initializer if t.name in read],
    )  # fmt: skip
    part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    options = runtime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    try:
        return runtime.InferenceSession(
            part.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's own errors share no narrower base
        raise InputError(
            f"ONNX Runtime does not load the nodes between the plugins of {path} "
            f"({' '.join(str(error).split())}): export the model anew."
        ) from error
