"""What the one-stage families share: the eager model, its graph, and the reference.

A family of this kind is two modules on the same layers:

    OneStage       `heads(maps)`: layers alone, the same while training, in the reference, and in
                   the graph; `detect(heads, index, canvas, size)`: one picture's detections as the
                   paper has them, with steps that depend on the data. This is the reference.
    OneStageGraph  `detect(heads, corner)`: the same detections in static shapes. This is traced.

The two `detect`s share no code, so that comparing them proves something.

Pictures are normalised, then padded with zeros on the right and below: first to the canvas, which
the largest picture of a batch has or could have, then to a multiple of 32 (of another number if a
family's `step` says so). Boxes are clipped to the picture where the original clips them. Masks lie
over the canvas as the model's `mask_frame` says: a quarter of it, rounded up, or YOLACT's
prototypes; what they have beside the picture is not seen. Labels count from 1: 0 is the background,
which no head of these families predicts unless it says so.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ...core import InputSpec
from ...core.masks import MaskFrame, MaskPaste
from .checkpoints import Layout, classes_told, renamed
from .layers import ConvNorm
from .letterboxed import Letterboxed
from .normalisation import maps_of, normalisation_of

__all__ = [
    "Detections",
    "OneStage",
    "OneStageFamily",
    "OneStageGraph",
    "OneStageReference",
    "quarter",
]

_STEP = 32  # the stride of the coarsest map that a backbone makes of the picture itself


class Detections(NamedTuple):
    """What is found in one picture, best score first.

    Attributes:
        boxes: float `[N, 4]`, xyxy in pixels of the input.
        scores: float `[N]`.
        labels: int64 `[N]`, 1 for the first class.
        masks: probabilities `[N, h, w]`; `mask_frame` says where.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor


class OneStage(nn.Module):
    """A one-stage detector; see the module's text.

    Attributes:
        backbone: pictures → an ordered mapping of maps.
        num_classes: background included.
        max_detections: in a picture.
        image_mean, image_std: RGB, of pictures from 0 to 1 (or to 255), and of its training.
        step: pictures are padded to a multiple of it.
        mask_frame: how masks lie over the picture.
        warning: what its checkpoint's project does otherwise and cannot be followed, a sentence.
    """

    image_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    image_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    step: int = _STEP
    mask_frame: MaskFrame = MaskFrame.CANVAS
    warning: str = ""

    def __init__(self, backbone: nn.Module, num_classes: int, max_detections: int = 100) -> None:
        """Keep what every family has."""
        super().__init__()
        self.backbone = backbone
        self.num_classes = num_classes
        self.max_detections = max_detections

    def heads(self, maps: Mapping[str, Tensor]) -> Any:
        """Return the raw outputs of the heads for the maps of a batch."""
        raise NotImplementedError

    def detect(
        self, heads: Any, index: int, canvas: tuple[int, int], size: tuple[int, int]
    ) -> Detections:
        """Return what `heads` found in one picture.

        Args:
            heads: of a batch.
            index: of the picture.
            canvas: `(height, width)` of the batch, before it was padded to a multiple of `step`.
            size: of the picture, at the top left of its canvas.
        """
        raise NotImplementedError

    def forward(self, images: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> Any:
        """Run on normalised pictures.

        Args:
            images: float `[B, 3, H, W]`, zero beside each picture.
            sizes: `(height, width)` of each picture; None for pictures that have no padding.

        Returns:
            What `heads` returns while training, else `Detections` of each picture.
        """
        canvas = (int(images.shape[2]), int(images.shape[3]))
        heads = self.heads(self.backbone(padded(images, self.step)))
        if self.training:
            return heads
        return [
            self.detect(heads, index, canvas, size)
            for index, size in enumerate(sizes or [canvas] * len(images))
        ]


class OneStageGraph(nn.Module):
    """`images uint8 [B, H, W, 3]` → boxes, scores, labels, masks, count."""

    def __init__(self, model: OneStage, spec: InputSpec) -> None:
        """Copy `model`, in float32 on the CPU, and work out what depends on the input size."""
        super().__init__()
        self.model: Any = frozen(model)
        for module in self.model.modules():
            if isinstance(module, ConvNorm):
                module.fold()
        self.spec = spec
        how = normalisation_of(model.image_mean, model.image_std)
        self.letterboxed = Letterboxed(spec, how.mean, how.std)
        with torch.no_grad():  # or it says which channels it takes
            maps_of(self.model.backbone, padded(torch.zeros(1, 3, *spec.shape[1:3]), model.step))

    @property
    def output_names(self) -> list[str]:
        """Names of what `forward` returns, in order."""
        return ["boxes", "scores", "labels", "masks", "count"]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Detect; shapes as in `Manifest.outputs`."""
        x, corner = self.letterboxed(images)
        heads = self.model.heads(self.model.backbone(padded(x, self.model.step)))
        return self.detect(heads, corner)

    def detect(self, heads: Any, corner: Tensor) -> tuple[Tensor, ...]:
        """Return boxes, scores, labels int32, masks and count int32 of a batch.

        Args:
            heads: of the batch.
            corner: `(w, h, w, h)` of each picture in pixels, float `[B, 1, 4]`.
        """
        raise NotImplementedError


class OneStageReference:
    """Runs `model` eagerly on `uint8 [B, H, W, 3]` batches.

    The letterbox is undone first: each picture is cut out of its canvas and normalised, and what is
    beside it is zero, as the originals batch pictures.
    """

    def __init__(self, model: OneStage, spec: InputSpec) -> None:
        """Copy `model`."""
        self._model = frozen(model)
        self._spec = spec

    def run(
        self, images: np.ndarray, sizes: Sequence[tuple[int, int]] | None = None
    ) -> dict[str, np.ndarray]:
        """Return `boxes`, `scores`, `labels`, `masks` and `count`, padded with zeros.

        Args:
            images: uint8 `[B, H, W, 3]`, letterboxed.
            sizes: `(height, width)` of the picture on each canvas; None reads it from the canvas.
        """
        seen = sizes or self._spec.picture_sizes(images)
        how = normalisation_of(self._model.image_mean, self._model.image_std)
        mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (how.mean, how.std))
        batch = torch.zeros(len(images), 3, self._spec.height, self._spec.width)
        for target, image, (height, width) in zip(batch, images, seen, strict=True):
            picture = torch.from_numpy(image[:height, :width]).permute(2, 0, 1).float() / 255
            target[:, :height, :width] = (picture - mean) / std
        with torch.no_grad():
            found: list[Detections] = self._model(batch, seen)
        length = self._model.max_detections
        outputs = {
            name: _stacked([getattr(one, name).numpy() for one in found], length)
            for name in Detections._fields
        }
        outputs["labels"] = outputs["labels"].astype(np.int32)
        outputs["count"] = np.array([len(one.scores) for one in found], np.int32)
        return outputs

    def describe(self) -> dict[str, str]:
        """Say what runs: for reports."""
        return {"backend": "pytorch", "version": torch.__version__, "precision": "fp32"}


@dataclass(frozen=True)
class OneStageFamily:
    """A `Family` of one-stage models: everything but the two classes is common.

    Attributes:
        name: as in the manifest.
        models: what to call its models in a sentence.
        model: class of its models.
        graph_of: class of their graphs.
        layouts: of their checkpoints: the known projects', then maskrt's own.
        count: the number of classes in weights of one of `layouts`, background included.
    """

    name: str
    models: str
    model: type[OneStage]
    graph_of: type[OneStageGraph]
    layouts: tuple[Layout, ...]
    count: Callable[[Mapping[str, Tensor], Sequence[Layout]], int | None] = classes_told

    def matches(self, model: nn.Module) -> bool:
        """Whether this family exports `model`."""
        return isinstance(model, self.model)

    def mask_paste(self, model: Any) -> MaskPaste:
        """Return any: masks over the canvas are not pasted."""
        return MaskPaste.TORCHVISION

    def pad_value(self, model: Any) -> tuple[int, int, int]:
        """Return the RGB filling of the letterbox: the mean of the model's normalisation."""
        return normalisation_of(model.image_mean, model.image_std).filling

    def mask_frame(self, model: Any) -> MaskFrame:
        """Return what the model's masks are spread over."""
        frame: MaskFrame = model.mask_frame
        return frame

    def num_classes(self, model: Any) -> int | None:
        """Return the number of classes, background included."""
        return int(model.num_classes)

    def classes_in(self, weights: Mapping[str, Tensor]) -> int | None:
        """Return the number of classes, background included; None for another family's weights."""
        return self.count(weights, self.layouts)

    def translate(self, model: Any, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return `weights` under the model's names, and set it up as their project does."""
        return renamed(model, weights, self.layouts)

    def graph(self, model: Any, spec: InputSpec) -> nn.Module:
        """Return the module that is traced."""
        return self.graph_of(model, spec).eval()

    def reference(self, model: Any, spec: InputSpec) -> OneStageReference:
        """Return the model's own eager code on a copy of it."""
        return OneStageReference(model, spec)


def frozen(model: OneStage) -> OneStage:
    """Return a float32 CPU copy of `model` in eval mode."""
    with torch.no_grad():
        return copy.deepcopy(model).cpu().float().eval().requires_grad_(False)


def padded(images: Tensor, step: int = _STEP) -> Tensor:
    """Return pictures with zeros on the right and below, to a multiple of `step`."""
    below, right = -images.shape[2] % step, -images.shape[3] % step
    return nn.functional.pad(images, (0, right, 0, below)) if below or right else images


def quarter(size: tuple[int, int]) -> tuple[int, int]:
    """Return `(ceil(H / 4), ceil(W / 4))`, the size of masks."""
    return -(-size[0] // 4), -(-size[1] // 4)


def _stacked(rows: list[np.ndarray], length: int) -> np.ndarray:
    """Return `[B, length, ...]`, each row filled up with zeros."""
    filled = np.zeros((len(rows), length, *rows[0].shape[1:]), rows[0].dtype)
    for target, source in zip(filled, rows, strict=True):
        target[: len(source)] = source
    return filled
