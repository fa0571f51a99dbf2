"""Weights of other projects under a model's own names: tables of patterns, one a layout.

A layout is what one project calls the parameters of one model. It is known by a parameter that no
other has, and renames each parameter by the first pattern that fits the whole name. A name that
nothing fits, or whose new name the model does not have, stays as it is, and loading then lists it
as unknown: no parameter is dropped in silence.

    mmdetection 2 and 3   `mask_head.conv_cls`, `neck.lateral_convs.0.conv`, `backbone.conv1`
    WXinlong/SOLO         `bbox_head.solo_cate`, else mmdetection's
    AdelaiDet             `ins_head.cate_tower.0`, `backbone.bottom_up.res2.0.conv1.norm`
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = [
    "DETECTRON2_FPN",
    "MMDET_FPN",
    "Layout",
    "as_detectron2_reads",
    "classes_told",
    "renamed",
    "stride_in_first",
]

Rules = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]

# A ResNet under an FPN from P2 on. mmdetection's ResNet has torchvision's own names.
MMDET_FPN: Rules = (
    (r"backbone\.(conv1|bn1|layer\d)\.(.+)", r"backbone.body.\1.\2"),
    (r"neck\.lateral_convs\.(\d+)\.conv\.(.+)", r"backbone.fpn.inner_blocks.\1.0.\2"),
    (r"neck\.fpn_convs\.([0-3])\.conv\.(.+)", r"backbone.fpn.layer_blocks.\1.0.\2"),
)
# detectron2 counts residual stages and maps from 2, and keeps norms inside their convolutions.
_STAGES = (("2", "0", "1"), ("3", "1", "2"), ("4", "2", "3"), ("5", "3", "4"))
_BLOCK = r"backbone\.bottom_up\.res{0}\.(\d+)\."
DETECTRON2_FPN: Rules = (
    (r"backbone\.bottom_up\.stem\.conv1\.norm\.(.+)", r"backbone.body.bn1.\1"),
    (r"backbone\.bottom_up\.stem\.conv1\.(.+)", r"backbone.body.conv1.\1"),
    *(
        rule
        for two, zero, one in _STAGES
        for rule in (
            (_BLOCK.format(two) + r"conv(\d)\.norm\.(.+)", rf"backbone.body.layer{one}.\1.bn\2.\3"),
            (_BLOCK.format(two) + r"conv(\d)\.(.+)", rf"backbone.body.layer{one}.\1.conv\2.\3"),
            (
                _BLOCK.format(two) + r"shortcut\.norm\.(.+)",
                rf"backbone.body.layer{one}.\1.downsample.1.\2",
            ),
            (
                _BLOCK.format(two) + r"shortcut\.(.+)",
                rf"backbone.body.layer{one}.\1.downsample.0.\2",
            ),
            (rf"backbone\.fpn_lateral{two}\.(.+)", rf"backbone.fpn.inner_blocks.{zero}.0.\1"),
            (rf"backbone\.fpn_output{two}\.(.+)", rf"backbone.fpn.layer_blocks.{zero}.0.\1"),
        )
    ),
)


@dataclass(frozen=True)
class Layout:
    """The names that one project gives one model.

    Attributes:
        project: for messages.
        marker: a parameter that tells the layout.
        rules: (pattern of a whole name, replacement or a function of the match), the first that
            fits is taken.
        adapt: (model, renamed weights) → weights; for what renaming alone does not carry over.
        prepare: (model), before names are compared; for what changes its shape or arithmetic.
        left_out: pattern of what only their training or a constant of theirs needs.
        classes: the parameter whose rows are the classes, background not included; `marker` if
            not given.
    """

    project: str
    marker: str
    rules: Rules
    adapt: Callable[[Any, dict[str, Tensor]], dict[str, Tensor]] | None = None
    prepare: Callable[[Any], None] | None = None
    left_out: str = r"(?!)"
    classes: str = ""

    def rename(self, name: str) -> str:
        """Return the model's own name of a parameter, or `name` if no rule fits."""
        for pattern, replacement in self.rules:
            found = re.fullmatch(pattern, name)
            if found:
                return (
                    found.expand(replacement)
                    if isinstance(replacement, str)
                    else replacement(found)
                )
        return name


def renamed(
    model: Any, weights: Mapping[str, Tensor], layouts: Sequence[Layout]
) -> Mapping[str, Tensor]:
    """Return `weights` under the names of `model`; unchanged if they are of none of `layouts`."""
    for layout in layouts:
        if layout.marker in weights:
            if layout.prepare is not None:
                layout.prepare(model)
            own = model.state_dict().keys()
            kept = (name for name in weights if not re.fullmatch(layout.left_out, name))
            names = {name: layout.rename(name) for name in kept}
            found = {new if new in own else old: weights[old] for old, new in names.items()}
            return found if layout.adapt is None else layout.adapt(model, found)
    return weights


def classes_told(weights: Mapping[str, Tensor], layouts: Sequence[Layout]) -> int | None:
    """Return the number of classes, background included, if `weights` are of one of `layouts`."""
    told = (layout for layout in layouts if layout.marker in weights)
    heads = (weights.get(layout.classes or layout.marker) for layout in told)
    return next((int(head.shape[0]) + 1 for head in heads if head is not None), None)


def as_detectron2_reads(model: Any, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take over what detectron2's default configuration means beyond the parameters.

    - Its ResNet-50 and -101 (MSRA's) reduce resolution in the first convolution of a block, where
      torchvision's do in the second. The strides of `model` are moved.
    - Pictures are BGR from 0 to 255, less the mean, not divided. With the mean m and deviation s
      of `model`, `x - 255 m = 255 s · ((x / 255) - m) / s`, so the first convolution takes the
      factor 255 s, and its channels turn around. The mean is the same.
    """
    stride_in_first(model.backbone.body)
    name = "backbone.body.conv1.weight"
    if name in weights:
        first = weights[name]
        scale = first.new_tensor(model.image_std).reshape(1, 3, 1, 1) * 255
        weights = {**weights, name: first.flip(1) * scale}
    return weights


def stride_in_first(body: Any) -> None:
    """Move the stride of each stage's first bottleneck from its 3x3 to its first 1x1."""
    for stage in ("layer2", "layer3", "layer4"):
        block = body[stage][0]
        if hasattr(block, "conv3"):
            block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)
