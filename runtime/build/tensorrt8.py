"""TensorRT 8.5 and 8.6 (JetPack 5 and 6.0): a folder that `trtexec` alone makes an engine of.

maskrt does not run there (JetPack 5 has Python 3.8), and TensorRT 8 has neither Python plugins nor
strong typing. So the graph is lowered to the plugins that TensorRT brings along, and the types that
its builder is free to choose are fixed by `trtexec`'s own options:

| file | content |
|---|---|
| `model.onnx` | opset 17, FP32, built-in plugins |
| `calibration-<stamp>.cache` | the recipe's scales, for INT8 |
| `layers.json` | each constrained layer: its precision and output types |
| `dla.json` | for a target with a DLA: which layers it takes, and why not the others |
| `build-jetpack-<version>.sh` | the `trtexec` line |
| `build.py`, `build.json` | with `--dla N`, in the place of `trtexec`: `tensorrt8_dla.py` |

`--precisionConstraints=obey` makes a constraint that cannot be met an error, not an FP32 layer:

* a layer of the recipe has its precision, except that a Gemm or MatMul of INT8 is asked for in
  FP16, because TensorRT 8 has implicit INT8 for convolutions and deconvolutions alone;
* nodes between such layers (Relu, Add, MaxPool, Resize, …) are free;
* everything else is FP32 with FP32 results: box decoding, softmax, and all of `maskrt.float32/`.

With `--dla N` the script runs `build.py`, which puts the layers of `dla.json` there and keeps the
rest on the GPU: left to itself, TensorRT gives the DLA each small node that it can take, box
decoding among it, and runs out of loadables. `trtexec` cannot be told (`tensorrt8_dla.py`).

Tested without a device: the graph's operators against what the two parsers import, its results with
emulated plugins, its segments by TensorRT-RTX. No device has built it yet.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from ...core import Precision, Target, UnsupportedTargetError
from ...core.jetpack import TRTEXEC, JetPack
from ...plugins.builtin import PLUGIN_DOMAIN
from .long_topk import split_long_topk
from .lowered import lower_for
from .opset17 import convert_to_opset_17
from .options import BuildOptions, trtexec_flags
from .uint8_input import cast_uint8_inputs

__all__ = [
    "FOLDER", "WeakTypes", "constraints", "lower_to_tensorrt8", "packs_of", "trtexec_files",
]  # fmt: skip

FOLDER = "tensorrt8"
_LONGEST_ARGUMENT = 128 * 1024 - 1  # of a command line, in Linux
_MOST_LOADABLES = 16  # a DLA core holds no more at once
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
_TYPE_NAMES: dict[int, str] = {
    TensorProto.FLOAT: "fp32",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int32",
}
_UNCONSTRAINED = ("Cast", "Constant", "Shape", "ConstantOfShape")
_NO_IMPLICIT_INT8 = ("Gemm", "MatMul")


@dataclass(frozen=True)
class WeakTypes:
    """What a weakly typed builder has to be told of the recipe; nodes go by their first output.

    Attributes:
        precisions: of the layers in INT8 and FP16.
        free: nodes between them.
        caches: calibration cache for each JetPack with TensorRT 8, by its version; none if no layer
            is INT8.
        dla: nodes that a DLA takes.
        dla_leaves: layer that it does not take -> why.
        dla_loadables: how many islands the nodes are.
    """

    precisions: Mapping[str, Precision]
    free: frozenset[str]
    caches: Mapping[str, str]
    dla: frozenset[str] = frozenset()
    dla_leaves: Mapping[str, str] = field(default_factory=dict)
    dla_loadables: int = 0


def lower_to_tensorrt8(model: onnx.ModelProto, target: Target) -> onnx.ModelProto:
    """Return the canonical FP32 graph as TensorRT 8's parser takes it.

    Raises:
        UnsupportedTargetError: an operator, or a size, that TensorRT 8 does not have.
    """
    lowered = lower_for(target, model, "builtin").model
    cast_uint8_inputs(lowered)
    split_long_topk(lowered)
    convert_to_opset_17(lowered, target)
    _name_for_trtexec(lowered)
    return _with_types(lowered)


def constraints(model: onnx.ModelProto, types: WeakTypes) -> dict[str, dict[str, str]]:
    """Return layer → `{"precision": ..., "output": ...}`, as `trtexec` spells them."""
    kinds = _element_types(model)
    found = {}
    for node in model.graph.node:
        wanted = types.precisions.get(node.output[0])
        if wanted is Precision.INT8 and node.op_type in _NO_IMPLICIT_INT8:
            wanted = Precision.FP16
        if wanted is not None and wanted is not Precision.FP32:
            found[node.name] = {"precision": wanted.value}
        elif node.output[0] not in types.free and node.op_type not in _UNCONSTRAINED:
            fixed = _fixed(node, kinds)
            if fixed:
                found[node.name] = fixed
    return found


def trtexec_files(
    model: onnx.ModelProto,
    types: WeakTypes,
    target: Target,
    precision: Precision,
    options: BuildOptions,
    workspace_mib: int,
    packs: Sequence[JetPack],
) -> dict[str, bytes]:
    """Return the files of the folder, by their names in it.

    Args:
        model: from `lower_to_tensorrt8`.
        types: what the recipe says.
        target: the device.
        precision: of the engine.
        options: what the user asked for.
        workspace_mib: the builder's scratch memory.
        packs: the JetPack releases to write a script for.

    Raises:
        UnsupportedTargetError: the graph has more layers than a command line can name.
    """
    fixed = {} if precision is Precision.FP32 else constraints(model, types)
    files = {"model.onnx": model.SerializeToString()}
    if fixed:
        files["layers.json"] = json.dumps(fixed, indent=1).encode()
    taken = [node.name for node in model.graph.node if node.output[0] in types.dla]
    if target.dla_cores and fixed:
        files["dla.json"] = json.dumps(_accelerated(taken, types), indent=1).encode()
    if options.dla is not None:
        _check_accelerated(taken, types, target)
        files |= _dla_files(options, workspace_mib)
    for pack in packs:
        words = ["--onnx=model.onnx", "--saveEngine=engine.trt.part", "--noTF32"]
        if precision is not Precision.FP32:
            words += _type_words(fixed, target)
        cache = ""
        if pack.version in types.caches:
            stamp = types.caches[pack.version].partition("-")[2].partition("-")[0]
            cache = f"calibration-{stamp}.cache"
            files[cache] = types.caches[pack.version].encode()
            words += ["--int8", f"--calib={cache}"]
        line = " ".join(words) + trtexec_flags(options, workspace_mib)
        script = _script(pack, line) if options.dla is None else _dla_script(pack, cache)
        files[f"build-jetpack-{pack.version}.sh"] = script.encode()
    return files


def packs_of(target: Target) -> list[JetPack]:
    """Return the JetPack releases of a target that bring TensorRT 8."""
    return [pack for pack in target.jetpacks if pack.tensorrt < (10, 0)]


def _accelerated(taken: list[str], types: WeakTypes) -> dict[str, Any]:
    return {
        "takes": taken,
        "leaves": dict(types.dla_leaves),
        "loadables": types.dla_loadables,
        "most_loadables": _MOST_LOADABLES,
    }


def _dla_files(options: BuildOptions, workspace_mib: int) -> dict[str, bytes]:
    settings = {
        "dla": options.dla,
        "workspace_mib": workspace_mib,
        "version_compatible": options.version_compatible,
        "timing_cache": "" if options.timing_cache is None else options.timing_cache.name,
    }
    return {
        "build.py": Path(__file__).with_name("tensorrt8_dla.py").read_bytes(),
        "build.json": json.dumps(settings, indent=1).encode(),
    }


def _check_accelerated(taken: list[str], types: WeakTypes, target: Target) -> None:
    """Refuse what a DLA cannot run.

    Raises:
        UnsupportedTargetError: the DLA takes no layer, or its nodes are too many islands.
    """
    if not taken:
        raise UnsupportedTargetError(
            f"the DLA of target {target.name} takes none of the graph's layers: leave --dla out."
        )
    if types.dla_loadables > _MOST_LOADABLES:
        raise UnsupportedTargetError(
            f"the layers that the DLA of target {target.name} takes are {types.dla_loadables} "
            f"separate parts, and a core holds {_MOST_LOADABLES}: leave --dla out."
        )


def _type_words(fixed: dict[str, dict[str, str]], target: Target) -> list[str]:
    precisions = ",".join(f"{name}:{f['precision']}" for name, f in fixed.items())
    outputs = ",".join(f"{name}:{f['output']}" for name, f in fixed.items() if "output" in f)
    words = [
        "--fp16", "--precisionConstraints=obey", f"'--layerPrecisions={precisions}'",
        f"'--layerOutputTypes={outputs}'",
    ]  # fmt: skip
    if max(map(len, words)) > _LONGEST_ARGUMENT:
        raise UnsupportedTargetError(
            f"the graph for target {target.name} has {len(fixed)} layers to name, more than fit in "
            "a command line: choose a JetPack with TensorRT 10, or --precision fp32."
        )
    return words


def _dla_script(pack: JetPack, cache: str) -> str:
    return f"""#!/bin/sh
# Builds engine.trt on JetPack {pack.version} with the Python of TensorRT {pack.tensorrt_version}.
set -e
cd "$(dirname "$0")"
python3 build.py {cache}
"""


def _script(pack: JetPack, line: str) -> str:
    return f"""#!/bin/sh
# Builds engine.trt on JetPack {pack.version} with the trtexec of TensorRT {pack.tensorrt_version}.
set -e
cd "$(dirname "$0")"
trtexec=${{TRTEXEC:-{TRTEXEC}}}
"$trtexec" {line} "$@"
mv engine.trt.part engine.trt
"""


def _fixed(node: onnx.NodeProto, kinds: dict[str, int]) -> dict[str, str]:
    """Return what keeps a node in FP32; nothing if it touches no floating point."""
    outputs = [kinds.get(name, 0) for name in node.output if name]
    if not any(kinds.get(name, 0) in _FLOATS for name in (*node.input, *node.output)):
        return {}
    fixed = {"precision": "fp32"}
    if any(kind in _FLOATS for kind in outputs) and all(kind in _TYPE_NAMES for kind in outputs):
        fixed["output"] = "+".join(_TYPE_NAMES[kind] for kind in outputs)
    return fixed


def _name_for_trtexec(model: onnx.ModelProto) -> None:
    """Give each node a name of its own in which nothing means anything to trtexec or a shell."""
    taken: set[str] = set()
    for node in model.graph.node:
        plain = re.sub(r"[^\w./-]", "_", node.name)
        name, count = plain, 1
        while name in taken:
            name, count = f"{plain}_{count}", count + 1
        taken.add(name)
        node.name = name


def _element_types(model: onnx.ModelProto) -> dict[str, int]:
    graph = model.graph
    infos = (*graph.value_info, *graph.input, *graph.output)
    kinds = {info.name: info.type.tensor_type.elem_type for info in infos}
    return kinds | {tensor.name: tensor.data_type for tensor in graph.initializer}


def _with_types(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` with the type of every tensor, those of the plugins' outputs included."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    shapes = {
        info.name: [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        for info in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
    }
    stated = {info.name for info in model.graph.value_info}
    for node in model.graph.node:
        if node.domain == PLUGIN_DOMAIN and node.output[0] not in stated:
            kind, shape = _plugin_output(node, shapes)
            made = helper.make_tensor_value_info(node.output[0], kind, shape)
            model.graph.value_info.append(made)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def _plugin_output(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> tuple[int, list[int]]:
    """Return type and shape of what one of TensorRT 8's plugins makes."""
    given: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "EfficientNMS_ONNX_TRT":
        batch = shapes[node.input[0]][0]
        return TensorProto.INT32, [batch * given["max_output_boxes_per_class"], 3]
    channels, count = shapes[node.input[0]][1], shapes[node.input[1]][0]
    size = [given["output_height"], given["output_width"]]
    return TensorProto.FLOAT, [count, channels, *size]
