"""What a recipe is asked to be, and what recipes are judged by: checked once, where they are made.

Both are frozen and travel whole, so a stage takes one of them and the staged bundle.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from ..calib import DEFAULT_METHOD, METHODS, Recipe, keep_layers, parse_kept, with_kept_outputs
from ..core import Precision, Target, UsageError, require
from ..runtime import list_images
from ..runtime.check import CocoDataset
from ..runtime.possible import is_measurable

__all__ = ["BIAS_CORRECTION", "EQUALISATION", "Judged", "Pictures", "RecipeRequest"]

Pictures = Path | str | Sequence[Path | str | np.ndarray]
EQUALISATION, BIAS_CORRECTION = "equalisation", "bias correction"


@dataclass(frozen=True)
class RecipeRequest:
    """Which precision, found on which pictures.

    Attributes:
        precision: of the layers; INT8 and mixed need pictures.
        pictures: files or arrays to calibrate on; None for a recipe without ranges.
        method: whose scales are used, one of `maskrt.calib.METHODS`.
        improvements: of `EQUALISATION` and `BIAS_CORRECTION`, those to try on INT8.
        kept: patterns of layer names → what those layers are kept at.
        keep_outputs: keep the layers in FP32 that make scores, boxes and masks.

    Raises:
        UsageError: the method is unknown, pictures or INT8 are missing for what is asked, or layers
            cannot be kept so.
    """

    precision: Precision = Precision.FP32
    pictures: tuple[Path | str | np.ndarray, ...] | None = None
    method: str = DEFAULT_METHOD
    improvements: tuple[str, ...] = ()
    kept: Mapping[str, Precision] = field(default_factory=dict)
    keep_outputs: bool = False

    def __post_init__(self) -> None:
        """Check what the parts say of each other."""
        if self.method not in METHODS:
            raise UsageError(f"method {self.method!r} is not one of {', '.join(METHODS)}.")
        if self.pictures is None and self.precision.is_quantised:
            raise UsageError(
                f"precision {self.precision} needs calibration pictures: give their folder as "
                "calibration=."
            )
        if self.pictures == ():
            raise UsageError("calibration is empty: give at least one picture.")
        if self.improvements and self.precision not in (Precision.INT8, Precision.MIXED):
            raise UsageError(
                f"{self.improved_by} is for INT8, and precision is {self.precision}: leave it out."
            )

    @classmethod
    def of(
        cls,
        precision: Precision | str,
        calibration: Pictures | None,
        method: str = DEFAULT_METHOD,
        *,
        bias_correction: bool = False,
        equalise: bool = False,
        keep: Mapping[str, Precision | str] | None = None,
        keep_outputs: bool = False,
    ) -> "RecipeRequest":
        """Make a request of the arguments that `maskrt.compile` and `calibrate` take."""
        asked = {EQUALISATION: equalise, BIAS_CORRECTION: bias_correction}
        return cls(
            Precision.parse(precision),
            _listed(calibration),
            method,
            tuple(name for name, wanted in asked.items() if wanted),
            parse_kept(keep or {}),
            keep_outputs,
        )

    @property
    def improved_by(self) -> str:
        """The improvements as a sentence names them."""
        return " and ".join(self.improvements)

    @property
    def is_searched(self) -> bool:
        """Whether a budget of AP decides which layers are INT8."""
        return self.precision in (Precision.INT8, Precision.MIXED)

    def keep(self, model: onnx.ModelProto, recipe: Recipe) -> Recipe:
        """Return `recipe`, of `model`, with the layers kept that are to be.

        Raises:
            UsageError: the model has no layer of such a name.
        """
        recipe = with_kept_outputs(model, recipe) if self.keep_outputs else recipe
        return keep_layers(recipe, self.kept)

    def check_found_by_calibration(self) -> None:
        """Raise `UsageError` for what takes a search, and not calibration alone."""
        if self.precision is Precision.MIXED:
            raise UsageError(
                "a mixed recipe is found by a search: use maskrt compile --precision mixed "
                "--max-ap-drop, or calibrate for int8."
            )


def _listed(calibration: Pictures | None) -> tuple[Path | str | np.ndarray, ...] | None:
    if calibration is None:
        return None
    if isinstance(calibration, Path | str):
        return tuple(list_images(calibration))
    return tuple(calibration)


@dataclass(frozen=True)
class Judged:
    """What recipes and engines are judged by.

    Attributes:
        dataset: annotated pictures, which AP is measured on.
        targets: what engines are wanted for.
        budget: the largest loss of box or mask AP that is accepted, 0 to 100; None for any.
        ap75_budget: the same of AP75, which finished engines are held to beside it.
        class_budget: the same of the AP of each class.
    """

    dataset: CocoDataset
    targets: tuple[Target, ...]
    budget: float | None = None
    ap75_budget: float | None = None
    class_budget: float | None = None

    @classmethod
    def of(
        cls,
        recipe: RecipeRequest,
        targets: Sequence[Target],
        images: Path | str | None,
        annotations: Path | str | None,
        max_ap_drop: float | None = None,
        max_ap75_drop: float | None = None,
        max_class_drop: float | None = None,
    ) -> "Judged | None":
        """Return what to judge by, if a budget or an improvement asks for that.

        Raises:
            UsageError: the budget or an improvement could not be measured in the end.
        """
        for name, value in (("max_ap75_drop", max_ap75_drop), ("max_class_drop", max_class_drop)):
            if value is None:
                continue
            _check_points(name, value)
            if max_ap_drop is None:
                raise UsageError(f"{name} is held beside max_ap_drop: give that, too.")
        if max_ap_drop is None and recipe.precision is Precision.MIXED:
            raise UsageError(
                "precision mixed is INT8 where a budget of AP allows it: give max_ap_drop, with "
                "images and annotations to measure it on."
            )
        if max_ap_drop is None and not recipe.improvements:
            return None
        if images is None or annotations is None:
            raise UsageError(
                "max_ap_drop needs images and annotations to measure AP on: give both."
                if max_ap_drop is not None
                else f"{recipe.improved_by} is kept only where it raises AP: give images and "
                "annotations to measure it."
            )
        if max_ap_drop is not None:
            _check_budget(max_ap_drop, recipe.precision, targets)
        require("pycocotools", f"measure AP for {recipe.improved_by or 'max_ap_drop'}")
        dataset = CocoDataset.load(images, annotations)
        return cls(dataset, tuple(targets), max_ap_drop, max_ap75_drop, max_class_drop)

    @property
    def measurable(self) -> tuple[Target, ...]:
        """The targets whose engines this machine builds and runs."""
        return tuple(filter(is_measurable, self.targets))

    def share(self, pictures: int) -> "Judged":
        """Return the same on an even share of at most so many pictures."""
        return dataclasses.replace(self, dataset=self.dataset.share(pictures))


def _check_budget(max_ap_drop: float, precision: Precision, targets: Sequence[Target]) -> None:
    if not any(map(is_measurable, targets)):
        names = ", ".join(target.name for target in targets)
        on_cpu = precision not in (Precision.BF16, Precision.FP8)
        raise UsageError(
            "max_ap_drop cannot be measured: this machine can build and run none of the targets "
            f"({names}); {'add the target cpu or ' if on_cpu else ''}leave the budget out."
        )
    _check_points("max_ap_drop", max_ap_drop)


def _check_points(name: str, value: float) -> None:
    if not value >= 0:
        raise UsageError(f"{name} is {value:g}, and must be 0 or more points of AP.")
