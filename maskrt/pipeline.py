"""The whole pipeline: each stage reads the bundle and adds to it.

    export → calibrate → build → load / check

`compile` does the first three in one go, and either leaves a complete bundle or nothing. What was
asked is checked first, and is one thing from then on (`compiling/request.py`,
`precision/request.py`); what the stages do is in `compiling/stages.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import calib
from .calib.bundled import read_model
from .checking.conversion import refuse_blind_engine
from .compiling.request import (
    CompileRequest,
    EngineRequest,
    HeadRequest,
    ModelRequest,
    parse_targets,
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
from .core import Bundle, Placing, Precision, Progress, Resampling, Target, UsageError, silent
from .core.bundle import check_destination
from .core.masks import MaskPaste
from .precision.request import Judged, Pictures, RecipeRequest
from .runtime import Session, open_session
from .runtime.build import BuildOptions
from .runtime.possible import check_can_exist, is_measurable
from .runtime.trust import Trust

if TYPE_CHECKING:
    from torch import nn


__all__ = ["build", "calibrate", "compile", "export_bundle", "load"]


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
    keep: Mapping[str, Precision | str] | None = None,
    keep_outputs: bool = False,
    max_ap_drop: float | None = None,
    max_ap75_drop: float | None = None,
    max_class_drop: float | None = None,
    images: Path | str | None = None,
    annotations: Path | str | None = None,
    class_names: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    channel_order: str | None = None,
    paste: MaskPaste | str | None = None,
    outputs: str | None = None,
    score_threshold: float | None = None,
    iou_threshold: float | None = None,
    class_agnostic: bool | None = None,
    max_detections: int | None = None,
    mask_crop: str | None = None,
    placing: Placing | str | None = None,
    resampling: Resampling | str | None = None,
    fill: Sequence[int] | None = None,
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
        keep: layer name, or pattern such as `"rpn.*"` → `"fp16"` or `"fp32"`, which those layers
            have wherever something narrower is asked for, in the search too.
        keep_outputs: keep the layers in FP32 that make scores, boxes and masks.
        max_ap_drop: largest loss of box or mask AP (0 to 100) against FP32 that is accepted, by
            every target that this machine can run; the others are built and not measured. For INT8
            and mixed precision the fastest recipe inside it is searched.
        max_ap75_drop: the same of AP75, beside `max_ap_drop`: engines are held to it when they are
            built, and the search is not led by it.
        max_class_drop: the same of the AP of each class.
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
        outputs: what the outputs of an ONNX file of one pass (YOLO, DETR) are, if that is not
            recognised: `"yolo-seg=PREDICTIONS,PROTOTYPES"`, `"detr-seg=BOXES,SCORES,MASKS"`.
        score_threshold: of such a file, as the next seven; instances score more. None is what its
            family's own program takes (docs/surgery.md).
        iou_threshold: a box that overlaps a better one more is left out.
        class_agnostic: whether boxes of other classes suppress, too.
        max_detections: instances a picture.
        mask_crop: where masks end with their boxes: `"picture"`, `"prototypes"` or `"none"`.
        placing: where a picture lies on the input: `"top_left"`, `"centre"` or `"squash"`.
        resampling: how it is resized: `"antialiased"` or `"bilinear"`.
        fill: the colour beside a letterboxed picture, RGB of 0 to 255.
        progress: told what goes on.

    Raises:
        UsageError, InputError: an argument, a picture or the weights cannot be used.
        UnsupportedModelError, UnsupportedTargetError: the model or target is beyond this version.
        PrecisionError: an engine does not compute in what was asked for, or finds nothing where
            the FP32 graph finds instances.
        CheckFailedError: `max_ap_drop` was missed; no bundle is left.
    """
    check_destination(Path(output))
    recipe = RecipeRequest.of(
        precision, calibration, method, bias_correction=bias_correction, equalise=equalise,
        keep=keep, keep_outputs=keep_outputs,
    )  # fmt: skip
    places = parse_targets(targets, recipe.precision)
    asked = CompileRequest(
        ModelRequest(
            model, weights, num_classes, input_size, batch, class_names, mean, std, channel_order,
            None if paste is None else MaskPaste.parse(paste),
            HeadRequest(
                outputs, score_threshold, iou_threshold, class_agnostic, max_detections, mask_crop,
                placing, resampling, fill,
            ),
        ),
        recipe,
        places,
        Judged.of(
            recipe, places, images, annotations, max_ap_drop, max_ap75_drop, max_class_drop
        ),
    )  # fmt: skip
    if asked.judged is None:
        _refuse_idle(images, annotations, "max_ap_drop: give that, too")
    return _compile(asked, Path(output), progress)


def _compile(asked: CompileRequest, output: Path, progress: Progress) -> Bundle:
    """Do one stage after the other."""
    recipe, judged = asked.recipe, asked.judged
    fp32 = recipe.precision is Precision.FP32
    observed = replace(recipe, pictures=None) if fp32 else recipe  # FP32 needs no ranges
    exported = make_export(asked.model, progress)
    with Bundle.create(output, exported.manifest) as bundle:
        write_export(bundle, exported, recipe.pictures, progress)
        write_recipe(bundle, exported.model, observed, progress)
        if judged is not None and recipe.improvements:
            improve_recipe(bundle, recipe, judged, progress)
        if judged is not None and judged.budget is not None and recipe.is_searched:
            fit_recipe_to_budget(bundle, recipe, judged, progress)
        for target in asked.targets:
            write_engine(bundle, EngineRequest(target, recipe.precision, output.name), progress)
            if is_measurable(target) and recipe.pictures is not None:
                refuse_blind_engine(bundle, target, recipe.precision, recipe.pictures)
        if judged is not None and judged.budget is not None:
            for target in judged.measurable:
                hold_to_budget(bundle, target, judged, progress)
    return Bundle.open(output)


def _refuse_idle(images: Path | str | None, annotations: Path | str | None, measured: str) -> None:
    """Raise `UsageError` for pictures to measure on, where nothing is to be measured."""
    if images is not None or annotations is not None:
        raise UsageError(f"images and annotations measure {measured}.")


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
    outputs: str | None = None,
    score_threshold: float | None = None,
    iou_threshold: float | None = None,
    class_agnostic: bool | None = None,
    max_detections: int | None = None,
    mask_crop: str | None = None,
    placing: Placing | str | None = None,
    resampling: Resampling | str | None = None,
    fill: Sequence[int] | None = None,
    progress: Progress = silent,
) -> Bundle:
    """Export a PyTorch model to a bundle without engines; see `compile`."""
    check_destination(Path(output))
    asked = ModelRequest(
        model, weights, num_classes, input_size, batch, class_names, mean, std, channel_order,
        None if paste is None else MaskPaste.parse(paste),
        HeadRequest(
            outputs, score_threshold, iou_threshold, class_agnostic, max_detections, mask_crop,
            placing, resampling, fill,
        ),
    )  # fmt: skip
    exported = make_export(asked, progress)
    with Bundle.create(output, exported.manifest) as bundle:
        write_export(bundle, exported, None, progress)
        write_recipe(bundle, exported.model, RecipeRequest(), progress)
    return Bundle.open(output)


def calibrate(
    bundle: Bundle | Path | str,
    calibration: Pictures,
    *,
    precision: Precision | str = Precision.INT8,
    method: str = calib.DEFAULT_METHOD,
    bias_correction: bool = False,
    equalise: bool = False,
    keep: Mapping[str, Precision | str] | None = None,
    keep_outputs: bool = False,
    images: Path | str | None = None,
    annotations: Path | str | None = None,
    progress: Progress = silent,
) -> Bundle:
    """Measure activations on `calibration` pictures and write the bundle's recipe.

    One pass gives the scales of every method; `method` says whose are used. Engines that the bundle
    already has were built by the old recipe, and are removed. A pass that was stopped goes on where
    it was. `bias_correction` and `equalise` are as in `compile`, measured for the target `cpu`, and
    so are `keep` and `keep_outputs`: what an earlier recipe kept has to be given again.
    """
    opened = Bundle.open(bundle)
    asked = RecipeRequest.of(
        precision, calibration, method, bias_correction=bias_correction, equalise=equalise,
        keep=keep, keep_outputs=keep_outputs,
    )  # fmt: skip
    asked.check_found_by_calibration()
    judged = Judged.of(asked, parse_targets(["cpu"]), images, annotations)
    if judged is None:
        _refuse_idle(images, annotations, "bias_correction and equalise: ask for one of them")
    model = read_model(opened)
    with opened.edit() as staged:
        remove_stale(staged)
        write_recipe(staged, model, asked, progress)
        if judged is not None:
            improve_recipe(staged, asked, judged, progress)
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
        asked = EngineRequest(place, wanted, opened.path.name, options or BuildOptions())
        write_engine(staged, asked, progress)
    return opened


def load(
    bundle: Bundle | Path | str,
    target: Target | str | None = None,
    *,
    precision: Precision | str | None = None,
    on_device: bool = False,
    trust: Trust = False,
) -> Session:
    """Open an engine of a bundle; `target=None` is the best that this machine can run.

    With `on_device`, pictures are letterboxed and masks pasted on the GPU, too; a target without
    a device is refused with a `UsageError`.

    An engine for a GPU is machine code. It is opened if this machine built it, or if the bundle is
    signed by a key that you trust; else it is refused with an `UntrustedError`. `trust=True` opens
    it all the same, `trust="vendor.pub"` trusts one more key in this call (`SECURITY.md`).
    """
    check_can_exist(bundle, target, precision)
    return open_session(bundle, target, precision, on_device=on_device, trust=trust)
