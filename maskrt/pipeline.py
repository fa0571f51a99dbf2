"""The whole pipeline: each stage reads the bundle and adds to it.

    export → calibrate → build → load / check

`compile` does the first three in one go, and either leaves a complete bundle or nothing. What the
stages do is in `stages`, what they refuse beforehand in `arguments`.
"""

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import calib
from .calib.bundled import read_model
from .checking import accuracy
from .checking.conversion import refuse_blind_engine
from .checking.foretold import run_as
from .checking.runs import Run, run_here
from .compiling.arguments import (
    Pictures,
    calibrated_precision,
    calibration_pictures,
    check_budget_arguments,
    check_improvements,
    check_method,
    check_size,
    given_normalisation,
    improvements_of,
    parse_targets,
    refuse_beside_as_target,
)
from .compiling.stages import (
    fit_recipe_to_budget,
    hold_to_budget,
    improve_recipe,
    make_export,
    remove_stale,
    write_engine,
    write_export,
    write_recipe,
)
from .core import Bundle, Precision, Progress, Target, silent
from .core.bundle import check_destination
from .core.masks import MaskPaste
from .runtime import Session, open_session
from .runtime.build import BuildOptions
from .runtime.check import CocoDataset
from .runtime.possible import check_can_exist, is_measurable

if TYPE_CHECKING:
    from torch import nn

    from .runtime.check import Report

__all__ = ["build", "calibrate", "check", "compile", "export_bundle", "load"]


def compile(
    model: "str | Path | nn.Module",
    output: Path | str,
    *,
    weights: Path | str | None = None,
    num_classes: int | None = None,
    input_size: tuple[int, int] | None = None,
    batch: int = 1,
    calibration: Pictures | None = None,
    precision: Precision | str = Precision.FP32,
    targets: Sequence[Target | str] = ("cpu",),
    method: str = calib.DEFAULT_METHOD,
    bias_correction: bool = False,
    equalise: bool = False,
    max_ap_drop: float | None = None,
    images: Path | str | None = None,
    annotations: Path | str | None = None,
    class_names: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    channel_order: str | None = None,
    paste: MaskPaste | str | None = None,
    progress: Progress = silent,
) -> Bundle:
    """Compile a PyTorch model to a bundle with an engine for each target.

    Args:
        model: `"torchvision:NAME"`, `"maskrt:NAME"`, `"package.module:factory"`, the path of an
            ONNX file, or a module.
        output: the bundle's folder; an older bundle there is replaced when all is done.
        weights: `.safetensors`, a training checkpoint of PyTorch or a `.pkl` of arrays, of which
            nothing is run; without them the model keeps the builder's own.
        num_classes: background included; None takes it from the weights.
        input_size: `(height, width)` in pixels; None is 512 x 512, or an ONNX file's own size.
        batch: pictures a call.
        calibration: folder of pictures, or a list of files or arrays; INT8 needs it.
        precision: `"fp32"`, `"fp16"`, `"int8"`, or `"mixed"`: INT8 where `max_ap_drop` allows it,
            FP16 elsewhere; for GPUs that have them also `"bf16"` and `"fp8"`.
        targets: names as in `maskrt targets`.
        method: calibration method whose scales are used, one of `maskrt.calib.METHODS`.
        bias_correction: take what INT8 adds to each layer's result on average off its bias, if that
            raises AP on `images`.
        equalise: bring the channels between two layers to one size for INT8, likewise.
        max_ap_drop: largest loss of box or mask AP (0 to 100) against FP32 that is accepted, by
            every target that this machine can run; the others are built and not measured. For INT8
            and mixed precision the fastest recipe inside it is searched.
        images: folder of the pictures in `annotations`, to measure that loss on.
        annotations: COCO instances JSON.
        class_names: one a label, background included, if the weights do not tell.
        mean: how pictures from 0 to 255 are normalised before an ONNX file that does not do so
            itself, a number a channel in the network's order; None takes mmdeploy's
            `pipeline.json` beside it.
        std: the same.
        channel_order: `"rgb"` or `"bgr"`, what an ONNX file takes, if neither it nor that file
            says so.
        paste: how masks over boxes come into the picture, `"torchvision"` or `"detectron2"`; None
            is the model's own way, which of an ONNX file its structure tells.
        progress: told what goes on.

    Raises:
        UsageError, InputError: an argument, a picture or the weights cannot be used.
        UnsupportedModelError, UnsupportedTargetError: the model or target is beyond this version.
        PrecisionError: an engine does not compute in what was asked for, or finds nothing where
            the FP32 graph finds instances.
        CheckFailedError: `max_ap_drop` was missed; no bundle is left.
    """
    wanted = Precision.parse(precision)
    places = parse_targets(targets, wanted)
    check_size(input_size)
    check_method(method)
    check_destination(Path(output))
    rule = None if paste is None else MaskPaste.parse(paste)
    pictures = calibration_pictures(calibration, wanted)
    improvements = improvements_of(bias_correction, equalise)
    dataset = check_budget_arguments(max_ap_drop, images, annotations, places, wanted, improvements)
    exported = make_export(
        model, weights, num_classes, input_size, batch, class_names, progress,
        given_normalisation(mean, std, channel_order), paste=rule,
    )  # fmt: skip
    with Bundle.create(output, exported.manifest) as bundle:
        write_export(bundle, exported, pictures, progress)
        observed = None if wanted is Precision.FP32 else pictures
        write_recipe(bundle, exported.model, wanted, observed, progress, method)
        if dataset is not None and improvements:
            improve_recipe(bundle, places, dataset, pictures, improvements, progress)
        searched = wanted in (Precision.INT8, Precision.MIXED)
        if dataset is not None and max_ap_drop is not None and searched:
            fit_recipe_to_budget(bundle, places, dataset, pictures, max_ap_drop, progress)
        for target in places:
            write_engine(bundle, Path(output).name, target, wanted, progress)
            if is_measurable(target) and pictures is not None:
                refuse_blind_engine(bundle, target, wanted, pictures)
        if dataset is not None and max_ap_drop is not None:
            for target in filter(is_measurable, places):
                hold_to_budget(bundle, target, dataset, max_ap_drop, progress)
    return Bundle.open(output)


def export_bundle(
    model: "str | Path | nn.Module",
    output: Path | str,
    *,
    weights: Path | str | None = None,
    num_classes: int | None = None,
    input_size: tuple[int, int] | None = None,
    batch: int = 1,
    class_names: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    channel_order: str | None = None,
    paste: MaskPaste | str | None = None,
    progress: Progress = silent,
) -> Bundle:
    """Export a PyTorch model to a bundle without engines; see `compile`."""
    check_destination(Path(output))
    rule = None if paste is None else MaskPaste.parse(paste)
    exported = make_export(
        model, weights, num_classes, input_size, batch, class_names, progress,
        given_normalisation(mean, std, channel_order), paste=rule,
    )  # fmt: skip
    with Bundle.create(output, exported.manifest) as bundle:
        write_export(bundle, exported, None, progress)
        write_recipe(bundle, exported.model, Precision.FP32, None, progress)
    return Bundle.open(output)


def calibrate(
    bundle: Bundle | Path | str,
    calibration: Pictures,
    *,
    precision: Precision | str = Precision.INT8,
    method: str = calib.DEFAULT_METHOD,
    bias_correction: bool = False,
    equalise: bool = False,
    images: Path | str | None = None,
    annotations: Path | str | None = None,
    progress: Progress = silent,
) -> Bundle:
    """Measure activations on `calibration` pictures and write the bundle's recipe.

    One pass gives the scales of every method; `method` says whose are used. Engines that the bundle
    already has were built by the old recipe, and are removed. A pass that was stopped goes on where
    it was. `bias_correction` and `equalise` are as in `compile`, measured for the target `cpu`.
    """
    opened = Bundle.open(bundle)
    wanted = calibrated_precision(precision, method)
    pictures = calibration_pictures(calibration, wanted)
    improvements = improvements_of(bias_correction, equalise)
    dataset = check_improvements(improvements, images, annotations, wanted)
    model = read_model(opened)
    with opened.edit() as staged:
        remove_stale(staged)
        write_recipe(staged, model, wanted, pictures, progress, method)
        if dataset is not None:
            cpu = parse_targets(["cpu"])
            improve_recipe(staged, cpu, dataset, pictures, improvements, progress)
    return opened


def build(
    bundle: Bundle | Path | str,
    target: Target | str,
    *,
    precision: Precision | str | None = None,
    options: BuildOptions | None = None,
    progress: Progress = silent,
) -> Bundle:
    """Build one engine into the bundle; for a device that this machine is not, prepare it.

    Args:
        bundle: holds the canonical graph and a recipe.
        target: a name as in `maskrt targets`.
        precision: None is the bundle's own; another one is kept beside it.
        options: how to build; None is what suits the target.
        progress: told what goes on.
    """
    opened = Bundle.open(bundle)
    wanted = opened.manifest.precision if precision is None else Precision.parse(precision)
    (place,) = parse_targets([target], wanted)
    with opened.edit() as staged:
        staged.remove("report/")
        write_engine(staged, opened.path.name, place, wanted, progress, options)
    return opened


def load(
    bundle: Bundle | Path | str,
    target: Target | str | None = None,
    *,
    precision: Precision | str | None = None,
    on_device: bool = False,
) -> Session:
    """Open an engine of a bundle; `target=None` is the best that this machine can run.

    With `on_device`, pictures are letterboxed and masks pasted on the GPU, too; a target without
    a device is refused with a `UsageError`.
    """
    check_can_exist(bundle, target, precision)
    return open_session(bundle, target, precision, on_device=on_device)


def check(
    bundle: Bundle | Path | str,
    *,
    images: Path | str,
    annotations: Path | str,
    target: Target | str | None = None,
    as_target: Target | str | None = None,
    precision: Precision | str | None = None,
    max_ap_drop: float | None = None,
    weights: Path | str | None = None,
    explain: bool = False,
    dask: str | None = None,
    progress: Progress = silent,
) -> "Report":
    """Measure COCO AP of an engine, and what it lost against the FP32 reference.

    Args:
        bundle: the bundle.
        images: folder of the annotated pictures.
        annotations: COCO instances JSON.
        target: None is the best that this machine can run.
        as_target: foretell what an engine for this target, such as `"rtx"`, will compute: its graph
            is evaluated exactly on this CPU, and compared with the engine for `cpu` as well
            (`report.foretold`). No engine need be there.
        precision: None is the bundle's own.
        max_ap_drop: budget; the report says whether it was met (`report.passed`).
        weights: the PyTorch weights that the bundle was compiled from: the reference is then the
            PyTorch model itself, otherwise the bundle's canonical FP32 graph.
        explain: find out where the AP was lost: by stage, and layer by layer. This runs the data
            set about ten times more.
        dask: address of a Dask scheduler whose workers run the pictures; they must see the same
            files. The numbers are the same.
        progress: told what goes on.

    Returns:
        The report; it is also written to the bundle's `report/`, and a warning says if it could
        not be.
    """
    measured = measure(
        bundle, images=images, annotations=annotations, target=target, as_target=as_target,
        precision=precision, max_ap_drop=max_ap_drop, weights=weights, explain=explain, dask=dask,
        progress=progress,
    )  # fmt: skip
    if measured.unsaved:
        warnings.warn(f"the report is not in the bundle: {measured.unsaved}", stacklevel=2)
    return measured.report


def measure(
    bundle: Bundle | Path | str,
    *,
    images: Path | str,
    annotations: Path | str,
    as_target: Target | str | None = None,
    dask: str | None = None,
    **asked: Any,
) -> accuracy.Measured:
    """Do what `check` does, and return the report with its page; `asked` is of `check`."""
    run: Run = run_here
    if as_target is not None:
        refuse_beside_as_target(target=asked.get("target"), explain=asked.get("explain"), dask=dask)
        run, asked["target"] = run_as, as_target
    elif dask is not None:
        from .cluster.check import run_on_cluster

        run = partial(run_on_cluster, address=dask)
    opened, dataset = Bundle.open(bundle), CocoDataset.load(images, annotations)
    return accuracy.measure(opened, dataset, run=run, **asked)
