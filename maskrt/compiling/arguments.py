"""What `compile` and its stages refuse before any work is done."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..calib import METHODS
from ..core import Precision, Target, UsageError, require
from ..runtime import list_images
from ..runtime.build import check_buildable
from ..runtime.check import CocoDataset
from ..runtime.possible import is_measurable

__all__ = [
    "Pictures",
    "calibrated_precision",
    "calibration_pictures",
    "check_budget_arguments",
    "check_improvements",
    "check_method",
    "check_size",
    "given_normalisation",
    "improvements_of",
    "parse_targets",
    "refuse_beside_as_target",
]

Pictures = Path | str | Sequence[Path | str | np.ndarray]


def parse_targets(
    targets: Sequence[Target | str], precision: Precision = Precision.FP32
) -> list[Target]:
    """Return the targets, each once, refusing what no machine could build at `precision`."""
    if isinstance(targets, str | Target):
        raise UsageError(f"targets is {targets!r}, and must be a list such as ['cpu'].")
    if not targets:
        raise UsageError("targets is empty: name at least one, such as cpu.")
    parsed = list({place.name: place for place in map(Target.parse, targets)}.values())
    for target in parsed:
        check_buildable(target)
        target.check_computes(precision)
    return parsed


def check_size(input_size: tuple[int, int] | None) -> None:
    """Raise `UsageError` unless `input_size` is a pair, or None for the default."""
    if input_size is None:
        return
    if not isinstance(input_size, tuple | list) or len(input_size) != 2:
        raise UsageError(f"input_size is {input_size!r}, and must be (height, width) in pixels.")


def given_normalisation(
    mean: Sequence[float] | None, std: Sequence[float] | None, channel_order: str | None
) -> dict[str, object]:
    """Return those of the three that say something, by name."""
    said = {"mean": mean, "std": std, "channel_order": channel_order}
    return {name: value for name, value in said.items() if value is not None}


def calibrated_precision(precision: Precision | str, method: str) -> Precision:
    """Return the precision of a recipe that calibration alone makes, with the scales of `method`.

    Raises:
        UsageError: it takes a search, or the method is unknown.
    """
    wanted = Precision.parse(precision)
    if wanted is Precision.MIXED:
        raise UsageError(
            "a mixed recipe is found by a search: use maskrt compile --precision mixed "
            "--max-ap-drop, or calibrate for int8."
        )
    check_method(method)
    return wanted


def check_method(method: str) -> None:
    """Raise `UsageError` unless `method` is a calibration method."""
    if method not in METHODS:
        raise UsageError(f"method {method!r} is not one of {', '.join(METHODS)}.")


def check_budget_arguments(
    max_ap_drop: float | None,
    images: Path | str | None,
    annotations: Path | str | None,
    targets: Sequence[Target],
    precision: Precision = Precision.FP32,
    improvements: Sequence[str] = (),
) -> CocoDataset | None:
    """Return what AP is measured on, if a budget or an improvement asks for that.

    A budget that could not be measured in the end is refused before any work is done.
    """
    asked = (
        check_improvements(improvements, images, annotations, precision) if improvements else None
    )
    if max_ap_drop is None:
        if precision is Precision.MIXED:
            raise UsageError(
                "precision mixed is INT8 where a budget of AP allows it: give max_ap_drop, with "
                "images and annotations to measure it on."
            )
        if not improvements and (images is not None or annotations is not None):
            raise UsageError("images and annotations measure max_ap_drop: give that, too.")
        return asked
    if images is None or annotations is None:
        raise UsageError("max_ap_drop needs images and annotations to measure AP on: give both.")
    if not any(map(is_measurable, targets)):
        names = ", ".join(target.name for target in targets)
        on_cpu = precision not in (Precision.BF16, Precision.FP8)
        raise UsageError(
            "max_ap_drop cannot be measured: this machine can build and run none of the targets "
            f"({names}); {'add the target cpu or ' if on_cpu else ''}leave the budget out."
        )
    if not max_ap_drop >= 0:
        raise UsageError(f"max_ap_drop is {max_ap_drop:g}, and must be 0 or more points of AP.")
    require("pycocotools", "measure AP for max_ap_drop")
    return CocoDataset.load(images, annotations) if asked is None else asked


def improvements_of(bias_correction: bool, equalise: bool) -> list[str]:
    """Return the improvements that two switches ask for."""
    from ..precision.improvement import BIAS_CORRECTION, EQUALISATION

    asked = {EQUALISATION: equalise, BIAS_CORRECTION: bias_correction}
    return [name for name, wanted in asked.items() if wanted]


def check_improvements(
    improvements: Sequence[str],
    images: Path | str | None,
    annotations: Path | str | None,
    precision: Precision,
) -> CocoDataset | None:
    """Return what AP is measured on, if any improvement is asked for.

    One that nothing could be gained by, or whose gain could not be measured, is refused.
    """
    if not improvements:
        if images is not None or annotations is not None:
            raise UsageError(
                "images and annotations measure bias_correction and equalise: ask for one of them."
            )
        return None
    names = " and ".join(improvements)
    if precision not in (Precision.INT8, Precision.MIXED):
        raise UsageError(f"{names} is for INT8, and precision is {precision}: leave it out.")
    if images is None or annotations is None:
        raise UsageError(
            f"{names} is kept only where it raises AP: give images and annotations to measure it."
        )
    require("pycocotools", f"measure AP for {names}")
    return CocoDataset.load(images, annotations)


def calibration_pictures(
    calibration: Pictures | None, precision: Precision
) -> list[Path | str | np.ndarray] | None:
    """Return the calibration pictures, refusing INT8 without any before anything is done."""
    if calibration is None:
        if precision.is_quantised:
            raise UsageError(
                f"precision {precision} needs calibration pictures: give their folder as "
                "calibration."
            )
        return None
    if isinstance(calibration, Path | str):
        return list(list_images(calibration))
    pictures = list(calibration)
    if not pictures:
        raise UsageError("calibration is empty: give at least one picture.")
    return pictures


def refuse_beside_as_target(**given: object) -> None:
    """Raise `UsageError` for what says nothing of a check `as_target`."""
    for name, value in given.items():
        if value:
            raise UsageError(
                f"an evaluation as another target runs no engine, so {name} says nothing of it: "
                "leave out one of the two."
            )
