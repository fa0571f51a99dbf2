"""What `compile` was asked: checked once, where it is made, and passed on whole."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core import InputSpec, Placing, Precision, Resampling, Target, UsageError
from ..core.masks import MaskPaste
from ..export.asked import check_model, check_num_classes, existing_weights
from ..precision.request import Judged, RecipeRequest
from ..runtime.build import BuildOptions, check_buildable

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "DEFAULT_SIZE",
    "CompileRequest",
    "EngineRequest",
    "HeadRequest",
    "ModelRequest",
    "parse_targets",
]

DEFAULT_SIZE = (512, 512)
"""Height and width that a PyTorch model is compiled for if none are given."""


@dataclass(frozen=True)
class HeadRequest:
    """What is said of an ONNX file of one pass (YOLO, DETR); None is its family's own.

    Attributes:
        outputs: what its outputs are, if that is not recognised.
        score_threshold, iou_threshold, class_agnostic, max_detections: which instances are kept.
        mask_crop: where masks end with their boxes.
        placing, resampling, fill: how a picture comes onto the input.
    """

    outputs: str | None = None
    score_threshold: float | None = None
    iou_threshold: float | None = None
    class_agnostic: bool | None = None
    max_detections: int | None = None
    mask_crop: str | None = None
    placing: Placing | str | None = None
    resampling: Resampling | str | None = None
    fill: Sequence[int] | None = None

    @property
    def said(self) -> dict[str, Any]:
        """What is not None, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class ModelRequest:
    """Which model, and what its graph takes in.

    Attributes:
        model: a name, the path of an ONNX file, or a module; see `maskrt.compile` for this and all
            that follows.
        weights: of a PyTorch model.
        num_classes: background included.
        input_size: `(height, width)` in pixels; None is the default, or an ONNX file's own.
        batch: pictures a call.
        class_names: one a label, background included.
        mean, std, channel_order: how pictures are normalised before an ONNX file.
        paste: how masks over boxes come into the picture; None is the model's own way.
        head: what is known or wanted of the outputs of an ONNX file of one pass.

    Raises:
        UsageError: a part cannot be, or says nothing of this kind of model.
        InputError: the weights are not there.
    """

    model: "str | Path | nn.Module"
    weights: Path | str | None = None
    num_classes: int | None = None
    input_size: tuple[int, int] | None = None
    batch: int = 1
    class_names: Sequence[str] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    channel_order: str | None = None
    paste: MaskPaste | None = None
    head: HeadRequest = field(default_factory=HeadRequest)

    def __post_init__(self) -> None:
        """Check what the parts say of each other."""
        size = self.input_size
        if size is not None and (not isinstance(size, tuple | list) or len(size) != 2):
            raise UsageError(f"input_size is {size!r}, and must be (height, width) in pixels.")
        InputSpec(*(size or DEFAULT_SIZE), self.batch)  # said before anything is loaded
        if self.is_onnx:
            for name in ("weights", "num_classes"):
                if getattr(self, name) is not None:
                    raise UsageError(
                        f"{self.model} holds its own weights and classes: leave {name} out."
                    )
        elif self.normalisation:
            given = " and ".join(f"{name}=" for name in self.normalisation)
            raise UsageError(
                f"{given} says how pictures are normalised for an ONNX file, and a PyTorch model "
                "says that itself: leave it out."
            )
        elif self.head.said:
            raise UsageError(
                f"{' and '.join(self.head.said)} is for an ONNX file of one pass, as YOLO and DETR "
                "are, and a PyTorch model has its own: leave it out."
            )
        else:
            self._check_pytorch()

    def _check_pytorch(self) -> None:
        """Refuse what can be told to be wrong before torch is imported."""
        model = str(self.model) if isinstance(self.model, Path) else self.model
        check_model(model)
        check_num_classes(self.num_classes, model)
        if self.weights is not None:
            existing_weights(self.weights)

    @property
    def is_onnx(self) -> bool:
        """Whether the model is an ONNX file and not a PyTorch model."""
        return isinstance(self.model, str | Path) and str(self.model).endswith(".onnx")

    @property
    def normalisation(self) -> dict[str, Any]:
        """Those of `mean`, `std` and `channel_order` that were given, by name."""
        said = {"mean": self.mean, "std": self.std, "channel_order": self.channel_order}
        return {name: value for name, value in said.items() if value is not None}


@dataclass(frozen=True)
class CompileRequest:
    """What a bundle is to be made of, and to hold.

    Attributes:
        model: which one.
        recipe: at which precision, found how.
        targets: what engines are built for, each once.
        judged: what recipes and engines are judged by; None for nothing.
    """

    model: ModelRequest
    recipe: RecipeRequest
    targets: tuple[Target, ...]
    judged: Judged | None = None


@dataclass(frozen=True)
class EngineRequest:
    """Which engine is built into a bundle.

    Attributes:
        target: where it runs.
        precision: of its layers.
        bundle_name: the bundle's folder, which instructions for a device name.
        options: how it is built.
    """

    target: Target
    precision: Precision
    bundle_name: str
    options: BuildOptions = field(default_factory=BuildOptions)


def parse_targets(
    targets: Sequence[Target | str], precision: Precision = Precision.FP32
) -> tuple[Target, ...]:
    """Return the targets, each once, refusing what no machine could build at `precision`."""
    if isinstance(targets, str | Target):
        raise UsageError(f"targets is {targets!r}, and must be a list such as ['cpu'].")
    if not targets:
        raise UsageError("targets is empty: name at least one, such as cpu.")
    parsed = tuple({place.name: place for place in map(Target.parse, targets)}.values())
    for target in parsed:
        check_buildable(target)
        target.check_computes(precision)
    return parsed
