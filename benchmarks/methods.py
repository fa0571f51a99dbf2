"""AP of the demo model at INT8 with the scales of each calibration method, and at FP32 and FP16.

    python benchmarks/methods.py [--calibration 64] [--scenes 200] [--improved minmax mse]

One calibration pass over training scenes serves all methods; AP is on held-out scenes, on the CPU.
For the methods after `--improved`, also with equalisation, bias correction and both. FP8 no CPU
computes: its graph is run with Q and DQ as they are written, which rounds to float8 as a GPU does.
"""

import argparse

import numpy as np
from held_out import AsWritten, demo_and_scenes, training_scenes

import maskrt
from maskrt import calib
from maskrt.calib.bundled import read_model
from maskrt.checking.references import evaluate_session
from maskrt.core import Precision, silent
from maskrt.core.bundle import RECIPE
from maskrt.precision.improvement import improvements
from maskrt.precision.request import BIAS_CORRECTION, EQUALISATION, RecipeRequest
from maskrt.runtime import Session
from maskrt.runtime.check import CocoDataset


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calibration", type=int, default=64)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--improved", nargs="*", choices=calib.METHODS, default=["mse"])
    options = parser.parse_args()
    with demo_and_scenes(options.scenes) as (bundle, dataset):
        pictures = training_scenes(options.calibration)
        print("| | box AP | mask AP |\n|---|---|---|")
        for precision in (Precision.FP32, Precision.FP16):
            _print_row(str(precision).upper(), bundle, dataset, precision)
        for method in calib.METHODS:
            maskrt.calibrate(bundle, pictures, method=method)
            _print_row(f"INT8, {method}", bundle, dataset, Precision.INT8)
        maskrt.calibrate(bundle, pictures, precision=Precision.FP8)
        _print_fp8(bundle, dataset)
        for method in options.improved:
            maskrt.calibrate(bundle, pictures, method=method)
            for names, recipe in _improvements(bundle, pictures).items():
                with bundle.edit() as staged:
                    staged.write(RECIPE, recipe.to_json())
                name = f"INT8, {method}, {' and '.join(names)}"
                _print_row(name, bundle, dataset, Precision.INT8)


def _print_fp8(bundle: maskrt.Bundle, dataset: CocoDataset) -> None:
    recipe = calib.Recipe.from_json(bundle.read_json(RECIPE))
    rendered = calib.render(read_model(bundle), recipe, calib.Style.TENSORRT)
    manifest = bundle.manifest
    backend = AsWritten(rendered)  # with rewrites, 1.31 computes something else from float8
    with Session(backend, manifest.input, class_names=manifest.class_names) as session:
        found = evaluate_session(session, dataset, "fp8", silent)
    box, mask = (found.metrics[kind]["AP"] for kind in ("box", "mask"))
    print(f"| FP8, {recipe.method}, simulated | {box:.2f} | {mask:.2f} |", flush=True)


def _improvements(
    bundle: maskrt.Bundle, pictures: list[np.ndarray]
) -> dict[tuple[str, ...], calib.Recipe]:
    recipe = calib.Recipe.from_json(bundle.read_json(RECIPE))
    both = (EQUALISATION, BIAS_CORRECTION)
    asked = RecipeRequest(Precision.INT8, tuple(pictures), improvements=both)
    return improvements(bundle, read_model(bundle), recipe, asked, silent)


def _print_row(
    name: str, bundle: maskrt.Bundle, dataset: CocoDataset, precision: Precision
) -> None:
    maskrt.build(bundle, "cpu", precision=precision)
    with maskrt.load(bundle, "cpu", precision=precision) as session:
        found = evaluate_session(session, dataset, name, silent)
    box, mask = (np.round(found.metrics[kind]["AP"], 2) for kind in ("box", "mask"))
    print(f"| {name} | {box:.2f} | {mask:.2f} |", flush=True)


if __name__ == "__main__":
    main()
