"""AP of the graphs that TensorRT-RTX gets, run by ONNX Runtime on the CPU.

    python benchmarks/rtx_accuracy.py [--pictures 200]

The trained demo model on held-out scenes: the canonical graph, the same without plugins as it is
rewritten for TensorRT-RTX, and that as rendered for `rtx` in FP16, in INT8 where it pays there, and
in INT8 in all layers with one scale a weight and with one a channel. ONNX Runtime executes the Q/DQ
and casts as they are written, so these are the roundings of the graph, not of a GPU's kernels.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace

import onnx
import onnxruntime
from held_out import AsWritten, demo_and_scenes, training_scenes

import maskrt
from maskrt import calib
from maskrt.calib.bundled import read_model
from maskrt.calib.cost import MACHINES
from maskrt.calib.recipe import PER_TENSOR
from maskrt.core import Precision, Target
from maskrt.core.bundle import RECIPE
from maskrt.plugins import lower
from maskrt.runtime import Session
from maskrt.runtime.build.half import make_rounding_explicit
from maskrt.runtime.build.half_features import narrow_roialign
from maskrt.runtime.build.lowered import lower_for
from maskrt.runtime.build.rtx_rewrites import spare_kernels
from maskrt.runtime.check import evaluate

CALIBRATION_SCENES = 64


def main() -> None:
    """Render, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=200)
    options = parser.parse_args()
    with demo_and_scenes(options.pictures) as (bundle, dataset):
        pictures = training_scenes(CALIBRATION_SCENES)
        bundle = maskrt.calibrate(bundle, pictures, precision="int8")
        recipe = calib.Recipe.from_json(bundle.read_json(RECIPE))
        manifest = bundle.manifest
        for what, graph in graphs(read_model(bundle), recipe):
            # FP16 nodes: casts around FP32 ones. Basic rewrites fuse no Q/DQ and drop no cast.
            make_rounding_explicit(graph)
            backend = AsWritten(graph, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC)
            with Session(backend, manifest.input, class_names=manifest.class_names) as session:
                found = evaluate(session.predict, dataset).metrics
            box, mask = (found[kind]["AP"] for kind in ("box", "mask"))
            print(f"| {what} | {box:.2f} | {mask:.2f} |", flush=True)


def graphs(model: onnx.ModelProto, recipe: calib.Recipe) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Yield name and graph, in standard operators."""
    yield "canonical FP32", lower(model, "function")
    yield "without plugins, FP32", as_built(model)
    wide = recipe.with_precision(Precision.INT8, rest=Precision.FP16)
    recipes = {
        "rtx FP16": recipe.with_precision(Precision.FP16),
        "rtx INT8, where it pays": calib.suit_tensorrt_rtx(model, recipe, MACHINES["gpu"]),
        "INT8 in all layers, a scale a weight": replace(wide, weight_scales=PER_TENSOR),
        "INT8 in all layers, a scale a channel": wide,
    }
    for name, chosen in recipes.items():
        rendered = calib.render(model, chosen, calib.Style.TENSORRT)
        count = len(chosen.narrow_layers())
        yield f"{name} ({count} INT8)" if count else name, as_built(rendered)


def as_built(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph that `rtx` builds, of which ONNX Runtime knows every operator."""
    lowered = lower_for(Target.parse("rtx"), model, "pluginless", first=narrow_roialign).model
    spare_kernels(lowered)
    return lowered


if __name__ == "__main__":
    main()
