"""Checkpoints of other projects: their parameters under our names.

A format is told by a key that only its checkpoints have. Its rules are regular expressions for
whole names, tried in order; a name that none fits is kept, so that loading reports it as unknown.
What only training uses, or is a constant, is named and left out. Nothing else is dropped, and
nothing is guessed: `load_weights` then compares every name and shape.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

__all__ = ["DETECTRON_BODY", "MMDET_BODY", "Format", "stride_in_first", "swap_red_and_blue"]

_NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"

DETECTRON_BODY = (
    (r"backbone\.bottom_up\.stem\.conv1\.weight", r"backbone.body.conv1.weight"),
    (rf"backbone\.bottom_up\.stem\.conv1\.norm\.{_NORM}", r"backbone.body.bn1.\1"),
    (
        r"backbone\.bottom_up\.res([2-5])\.(\d+)\.conv(\d)\.weight",
        lambda m: f"backbone.body.layer{int(m[1]) - 1}.{m[2]}.conv{m[3]}.weight",
    ),
    (
        rf"backbone\.bottom_up\.res([2-5])\.(\d+)\.conv(\d)\.norm\.{_NORM}",
        lambda m: f"backbone.body.layer{int(m[1]) - 1}.{m[2]}.bn{m[3]}.{m[4]}",
    ),
    (
        r"backbone\.bottom_up\.res([2-5])\.(\d+)\.shortcut\.weight",
        lambda m: f"backbone.body.layer{int(m[1]) - 1}.{m[2]}.downsample.0.weight",
    ),
    (
        rf"backbone\.bottom_up\.res([2-5])\.(\d+)\.shortcut\.norm\.{_NORM}",
        lambda m: f"backbone.body.layer{int(m[1]) - 1}.{m[2]}.downsample.1.{m[3]}",
    ),
)
"""detectron2's ResNet to torchvision's."""

MMDET_BODY = (
    (r"backbone\.((?:conv1|bn1|layer[1-4])\..+)", r"backbone.body.\1"),
    (r"neck\.lateral_convs\.(\d)\.conv\.(.+)", r"backbone.fpn.inner_blocks.\1.0.\2"),
    (r"neck\.fpn_convs\.([0-2])\.conv\.(.+)", r"backbone.fpn.layer_blocks.\1.0.\2"),
)
"""mmdetection's ResNet and P3 to P5 to torchvision's."""


@dataclass(frozen=True)
class Format:
    """How a project names its parameters.

    Attributes:
        project: whose.
        marker: a name that all its checkpoints have, and no others.
        rules: (regular expression, replacement) for whole names.
        left_out: regular expression for names that inference does not need.
    """

    project: str
    marker: str
    rules: Sequence[tuple[str, object]]
    left_out: str = r"(?!)"

    def matches(self, weights: Mapping[str, Tensor]) -> bool:
        """Whether `weights` are in this format."""
        return self.marker in weights

    def rename(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return `weights` under our names."""
        kept = {name: v for name, v in weights.items() if not re.fullmatch(self.left_out, name)}
        return {self._renamed(name): value for name, value in kept.items()}

    def _renamed(self, name: str) -> str:
        for pattern, replacement in self.rules:
            renamed, number = re.subn(rf"\A(?:{pattern})\Z", replacement, name)  # type: ignore[call-overload]
            if number:
                return str(renamed)
        return name


def swap_red_and_blue(weight: Tensor) -> Tensor:
    """Return the first convolution's weight for RGB pictures, given that for BGR, or inversely."""
    return weight.flip(1)


def stride_in_first(body: nn.Module) -> None:
    """Move the stride of each bottleneck from its 3x3 to its first 1x1 convolution.

    So it is in detectron2's models of ResNet-50 and -101; torchvision has it in the 3x3. No
    parameter tells them apart.
    """
    for module in body.modules():
        convs = [getattr(module, f"conv{i}", None) for i in (1, 2, 3)]
        if all(isinstance(conv, nn.Conv2d) for conv in convs):
            first, second, _ = convs
            if second.stride != (1, 1):  # type: ignore[union-attr]
                first.stride, second.stride = second.stride, first.stride  # type: ignore[union-attr]
