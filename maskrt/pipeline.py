"""The whole pipeline: each stage reads the bundle and adds to it.

    export → calibrate → build → load / check

`compile` does the first three in one go, and either leaves a complete bundle or nothing. This file
is where `export`, `calib` and `runtime` meet: none of them imports another.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from . import calib
from .checking import prove, refuse_blind_engine, run_check
from .core import (
    Bundle,
    CheckFailedError,
    InputSpec,
    Precision,
    Progress,
    Target,
    UsageError,
    require,
    silent,
)
from .core.bundle import MODEL, RECIPE, check_destination
from .runtime import Session, letterbox_batches, list_images, open_session
from .runtime.build import build_engine, check_buildable, is_buildable, prepare
from .runtime.check import CocoDataset
from .runtime.check.evaluate import budget_sentence
from .runtime.cuda_device import can_run

if TYPE_CHECKING:
    from torch import nn

    from .export import Export
    from .runtime.check import Report

__all__ = ["build", "calibrate", "check", "compile", "export_bundle", "load"]

Pictures = Path | str | Sequence[Path | str | np.ndarray]


def compile(
    model: "str | Path | nn.Module",
    output: Path | str,
    *,
    weights: Path | str | None = None,
    num_classes: int | None = None,
    input_size: tuple[int, int] = (512, 512),
    batch: int = 1,
    calibration: Pictures | None = None,
    precision: Precision | str = Precision.FP32,
    targets: Sequence[Target | str] = ("cpu",),
    max_ap_drop: float | None = None,
    images: Path | str | None = None,
    annotations: Path | str | None = None,
    class_names: Sequence[str] | None = None,
    progress: Progress = silent,
) -> Bundle:
    """Compile a PyTorch model to a bundle with an engine for each target.

    Args:
        model: `"torchvision:NAME"`, `"maskrt:NAME"`, `"package.module:factory"` or a module.
        output: the bundle's folder; an older bundle there is replaced when all is done.
        weights: `.safetensors` or `.pth`; without them the model keeps the builder's own.
        num_classes: background included; None takes it from the weights.
        input_size: `(height, width)` in pixels.
        batch: pictures a call.
        calibration: folder of pictures, or a list of files or arrays; INT8 needs it.
        precision: `"fp32"`, `"fp16"` or `"int8"`.
        targets: names as in `maskrt targets`.
        max_ap_drop: largest loss of box or mask AP (0 to 100) against FP32 that is accepted, by
            every target that this machine can run; the others are built and not measured.
        images: folder of the pictures in `annotations`, to measure that loss on.
        annotations: COCO instances JSON.
        class_names: one a label, background included, if the weights do not tell.
        progress: told what goes on.

    Raises:
        UsageError, InputError: an argument, a picture or the weights cannot be used.
        UnsupportedModelError, UnsupportedTargetError: the model or target is beyond this version.
        PrecisionError: an engine does not compute in what was asked for, or finds nothing where
            the FP32 graph finds instances.
        CheckFailedError: `max_ap_drop` was missed; no bundle is left.
    """
    wanted = Precision.parse(precision)
    places = _parse_targets(targets)
    _check_size(input_size)
    check_destination(Path(output))
    pictures = _calibration_pictures(calibration, wanted)
    _check_budget_arguments(max_ap_drop, images, annotations, places)
    exported = _export(model, weights, num_classes, input_size, batch, class_names, progress)
    with Bundle.create(output, exported.manifest) as bundle:
        _write_export(bundle, exported, pictures, progress)
        _write_recipe(bundle, exported.model, wanted, pictures, progress)
        for target in places:
            _write_engine(bundle, Path(output).name, target, wanted, progress)
            if can_run(target) and is_buildable(target) and pictures is not None:
                refuse_blind_engine(bundle, target, wanted, pictures)
        if max_ap_drop is not None:
            for target in filter(can_run, places):
                _hold_to_budget(bundle, target, images, annotations, max_ap_drop, progress)
    return Bundle.open(output)


def export_bundle(
    model: "str | Path | nn.Module",
    output: Path | str,
    *,
    weights: Path | str | None = None,
    num_classes: int | None = None,
    input_size: tuple[int, int] = (512, 512),
    batch: int = 1,
    class_names: Sequence[str] | None = None,
    progress: Progress = silent,
) -> Bundle:
    """Export a PyTorch model to a bundle without engines; see `compile`."""
    check_destination(Path(output))
    exported = _export(model, weights, num_classes, input_size, batch, class_names, progress)
    with Bundle.create(output, exported.manifest) as bundle:
        _write_export(bundle, exported, None, progress)
        _write_recipe(bundle, exported.model, Precision.FP32, None, progress)
    return Bundle.open(output)


def calibrate(
    bundle: Bundle | Path | str,
    calibration: Pictures,
    *,
    precision: Precision | str = Precision.INT8,
    method: str = calib.DEFAULT_METHOD,
    progress: Progress = silent,
) -> Bundle:
    """Measure activations on `calibration` pictures and write the bundle's recipe.

    One pass gives the scales of every method; `method` says whose are used. Engines that the bundle
    already has were built by the old recipe, and are removed.
    """
    opened = Bundle.open(bundle)
    wanted = Precision.parse(precision)
    pictures = _calibration_pictures(calibration, wanted)
    model = _read_model(opened)
    with opened.edit() as staged:
        staged.remove("engines/")
        staged.remove("report/")
        _write_recipe(staged, model, wanted, pictures, progress, method)
    return opened


def build(
    bundle: Bundle | Path | str,
    target: Target | str,
    *,
    precision: Precision | str | None = None,
    progress: Progress = silent,
) -> Bundle:
    """Build one engine into the bundle; for a device that this machine is not, prepare it.

    Args:
        bundle: holds the canonical graph and a recipe.
        target: a name as in `maskrt targets`.
        precision: None is the bundle's own; another one is kept beside it.
        progress: told what goes on.
    """
    opened = Bundle.open(bundle)
    (place,) = _parse_targets([target])
    wanted = opened.manifest.precision if precision is None else Precision.parse(precision)
    with opened.edit() as staged:
        staged.remove("report/")
        _write_engine(staged, opened.path.name, place, wanted, progress)
    return opened


def load(
    bundle: Bundle | Path | str,
    target: Target | str | None = None,
    *,
    precision: Precision | str | None = None,
) -> Session:
    """Open an engine of a bundle; `target=None` is the best that this machine can run."""
    return open_session(bundle, target, precision)


def check(
    bundle: Bundle | Path | str,
    *,
    images: Path | str,
    annotations: Path | str,
    target: Target | str | None = None,
    precision: Precision | str | None = None,
    max_ap_drop: float | None = None,
    weights: Path | str | None = None,
    progress: Progress = silent,
) -> "Report":
    """Measure COCO AP of an engine, and what it lost against the FP32 reference.

    Args:
        bundle: the bundle.
        images: folder of the annotated pictures.
        annotations: COCO instances JSON.
        target: None is the best that this machine can run.
        precision: None is the bundle's own.
        max_ap_drop: budget; the report says whether it was met (`report.passed`).
        weights: the PyTorch weights that the bundle was compiled from: the reference is then the
            PyTorch model itself, otherwise the bundle's canonical FP32 graph.
        progress: told what goes on.

    Returns:
        The report; it is also written to the bundle's `report/`.
    """
    return run_check(
        Bundle.open(bundle),
        images=images,
        annotations=annotations,
        target=target,
        precision=precision,
        max_ap_drop=max_ap_drop,
        weights=weights,
        progress=progress,
    )


def _parse_targets(targets: Sequence[Target | str]) -> list[Target]:
    if isinstance(targets, str | Target):
        raise UsageError(f"targets is {targets!r}, and must be a list such as ['cpu'].")
    if not targets:
        raise UsageError("targets is empty: name at least one, such as cpu.")
    parsed = [Target.parse(name) for name in dict.fromkeys(targets)]
    for target in parsed:
        check_buildable(target)
    return parsed


def _check_size(input_size: tuple[int, int]) -> None:
    if not isinstance(input_size, tuple | list) or len(input_size) != 2:
        raise UsageError(f"input_size is {input_size!r}, and must be (height, width) in pixels.")


def _check_budget_arguments(
    max_ap_drop: float | None,
    images: Path | str | None,
    annotations: Path | str | None,
    targets: Sequence[Target],
) -> None:
    """Refuse a budget that could not be measured in the end, before any work is done."""
    if max_ap_drop is None:
        if images is not None or annotations is not None:
            raise UsageError("images and annotations measure max_ap_drop: give that, too.")
        return
    if images is None or annotations is None:
        raise UsageError("max_ap_drop needs images and annotations to measure AP on: give both.")
    if not any(can_run(target) for target in targets):
        names = ", ".join(target.name for target in targets)
        raise UsageError(
            f"max_ap_drop cannot be measured: this machine can run none of the targets ({names}); "
            "add the target cpu or leave the budget out."
        )
    if not max_ap_drop >= 0:
        raise UsageError(f"max_ap_drop is {max_ap_drop:g}, and must be 0 or more points of AP.")
    require("pycocotools", "measure AP for max_ap_drop")
    CocoDataset.load(images, annotations)


def _calibration_pictures(
    calibration: Pictures | None, precision: Precision
) -> list[Path | str | np.ndarray] | None:
    """Return the calibration pictures, refusing INT8 without any before anything is done."""
    if calibration is None:
        if precision is Precision.INT8:
            raise UsageError(
                "precision int8 needs calibration pictures: give their folder as calibration."
            )
        return None
    if isinstance(calibration, Path | str):
        return list(list_images(calibration))
    pictures = list(calibration)
    if not pictures:
        raise UsageError("calibration is empty: give at least one picture.")
    return pictures


def _export(
    model: "str | Path | nn.Module",
    weights: Path | str | None,
    num_classes: int | None,
    input_size: tuple[int, int],
    batch: int,
    class_names: Sequence[str] | None,
    progress: Progress,
) -> "Export":
    from .export import export_model

    require("onnxruntime", "compare the exported graph with PyTorch")
    progress("export", 0, 1)
    exported = export_model(
        str(model) if isinstance(model, Path) else model,
        weights=weights,
        num_classes=num_classes,
        input_size=input_size,
        batch=batch,
        class_names=class_names,
    )
    progress("export", 1, 1)
    return exported


def _write_export(
    bundle: Bundle, exported: "Export", pictures: Iterable[Any] | None, progress: Progress
) -> None:
    bundle.write(MODEL, exported.model.SerializeToString())
    fidelity = prove(exported, pictures, progress=progress)
    bundle.update(fidelity=fidelity)


def _write_recipe(
    bundle: Bundle,
    model: onnx.ModelProto,
    precision: Precision,
    pictures: list[Any] | None,
    progress: Progress,
    method: str = calib.DEFAULT_METHOD,
) -> None:
    statistics = None
    if pictures is not None and precision is not Precision.FP32:
        batches = _batches(pictures, bundle.manifest.input, progress)
        statistics = calib.collect_statistics(model, batches)
    recipe = calib.make_recipe(model, precision, statistics, method=method)
    bundle.write(RECIPE, recipe.to_json())
    bundle.update(precision=precision)


def _batches(pictures: list[Any], spec: InputSpec, progress: Progress) -> Iterator[np.ndarray]:
    done = 0
    progress("calibrate", 0, len(pictures))
    for canvases, real in letterbox_batches(pictures, spec):
        yield canvases[:real]
        done += real
        progress("calibrate", done, len(pictures))


def _write_engine(
    bundle: Bundle, name: str, target: Target, precision: Precision, progress: Progress
) -> None:
    """Render the recipe, build the engine, and write it with what it really is.

    What only the target's own device can build is prepared for it instead.
    """
    stage = f"build {target.name} {precision}"
    progress(stage, 0, 1)
    model = _read_model(bundle)
    recipe = calib.Recipe.from_json(bundle.read_json(RECIPE))
    if precision is not recipe.precision:
        recipe = recipe.with_precision(precision)
    style = calib.Style.ORT if target.backend == "onnxruntime" else calib.Style.TENSORRT
    started = time.perf_counter()
    rendered = calib.render(model, recipe, style)
    folder = bundle.engine_folder(target, precision)
    if not is_buildable(target):
        prepared = prepare(rendered, target, precision, bundle_name=name, progress=progress)
        bundle.remove(folder + "/")
        for file, data in prepared.files.items():
            bundle.write(f"{folder}/{file}", data)
        bundle.write(f"{folder}/prepared.json", prepared.info)
        progress(stage, 1, 1)
        return
    engine = build_engine(rendered, target, precision)
    bundle.remove(folder + "/")
    for file, data in engine.files.items():
        bundle.write(f"{folder}/{file}", data)
    info = {**engine.info, "total_seconds": round(time.perf_counter() - started, 2)}
    bundle.write(f"{folder}/engine.json", info)
    progress(stage, 1, 1)


def _hold_to_budget(
    bundle: Bundle,
    target: Target,
    images: Path | str | None,
    annotations: Path | str | None,
    budget: float,
    progress: Progress,
) -> None:
    """Raise `CheckFailedError` if the engine misses the budget, before the bundle appears."""
    assert images is not None  # checked before the work began
    assert annotations is not None
    report = run_check(
        bundle,
        images=images,
        annotations=annotations,
        target=target,
        max_ap_drop=budget,
        progress=progress,
    )
    if not report.passed:
        raise CheckFailedError(f"{budget_sentence(report)} No bundle was written.")


def _read_model(bundle: Bundle) -> onnx.ModelProto:
    return onnx.load_model_from_string(bundle.read(MODEL))
