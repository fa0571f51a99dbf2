"""torchvision's two-stage detectors (Faster R-CNN, Mask R-CNN) as a graph of static shapes.

The model's own submodules are kept (backbone, RPN head, box and mask heads); what torchvision does
between them with data-dependent shapes is written anew with fixed numbers of candidates, proposals
and detections, step by step as in torchvision 0.29, so that the detections are the same:

    images → normalise, zeros beside each picture and to a multiple of 32 → backbone
    → per level: the best `pre_nms_top_n` anchors, decoded, clipped to the picture → NMS per level
    → proposals
    → RoIAlign → box head → the best candidates over all classes, decoded → NMS per class
    → RoIAlign → mask head → the mask of each detection's own class

Two steps differ in form only. Detections are cut to the best `MAX_CANDIDATES` before NMS:
torchvision has no such bound, and what lies beyond is reached only if NMS leaves fewer than
`detections_per_img` of them. The last mask layer, a 1x1 convolution to all classes of which one is
used, is a product with that class's weights, taken before the transposed convolution in front of it
puts its pixels in their places.
"""

import math
import operator
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.keypoint_rcnn import KeypointRCNN
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import MultiScaleRoIAlign

from ...core import InputSpec, UnsupportedModelError, UsageError
from ...core.masks import MaskFrame, MaskPaste
from ...plugins.symbolic import batched_nms, multilevel_roialign
from . import detectron2_rcnn as detectron2
from .family import Reference
from .fixed_size import at_fixed_size, transform_of
from .letterboxed import Letterboxed, clip_boxes
from .normalisation import ModelNormalisation, maps_of, normalisation_of
from .own_class_masks import own_class_logits, simplify_upscale

__all__ = ["FAMILY", "TwoStage", "TwoStageFamily"]

FAMILY = "torchvision_two_stage"
MAX_CANDIDATES = 3840  # the most that every TensorRT sorts at once
_STEPS = {  # parts whose code is written anew here, so a subclass's would be lost
    "rpn": RegionProposalNetwork,
    "rpn.box_coder": BoxCoder,
    "roi_heads": RoIHeads,
    "roi_heads.box_coder": BoxCoder,
}
_REJECTED = -1.0  # the score of a candidate that torchvision would have dropped
_SMALLEST_DETECTION = 1e-2  # pixels; torchvision's RoIHeads.postprocess_detections


class TwoStageFamily:
    """torchvision's detectors as a `Family`."""

    name = FAMILY
    models = "torchvision's FasterRCNN and MaskRCNN"

    def matches(self, model: nn.Module) -> bool:
        """Whether this family exports `model`."""
        return isinstance(model, FasterRCNN) and not isinstance(model, KeypointRCNN)

    def mask_paste(self, model: Any) -> MaskPaste:
        """Return detectron2's way for masks that are pooled without a half pixel, as its are."""
        aligned = getattr(getattr(model.roi_heads, "mask_roi_pool", None), "aligned", False)
        return MaskPaste.DETECTRON2 if aligned else MaskPaste.TORCHVISION

    def pad_value(self, model: Any) -> tuple[int, int, int]:
        """Return the RGB filling of the letterbox: the mean of the model's normalisation."""
        return _normalisation(model).filling

    def mask_frame(self, _model: Any) -> MaskFrame:
        """Return what masks are spread over."""
        return MaskFrame.BOX

    def num_classes(self, model: Any) -> int | None:
        """Return the number of classes, background included; None for a predictor of one's own."""
        score = getattr(model.roi_heads.box_predictor, "cls_score", None)
        return None if score is None else int(score.out_features)

    def classes_in(self, weights: Mapping[str, Tensor]) -> int | None:
        """Return the number of classes, background included; None for another family's weights."""
        head = weights.get("roi_heads.box_predictor.cls_score.weight")
        return None if head is None else head.shape[0]

    def translate(self, model: nn.Module, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return `weights` as they are if their names are torchvision's; detectron2's renamed."""
        return (
            detectron2.translate(model, weights) if detectron2.is_detectron2(weights) else weights
        )

    def graph(self, model: nn.Module, spec: InputSpec) -> nn.Module:
        """Return the module that is traced."""
        return TwoStage(model, spec).eval()

    def reference(self, model: nn.Module, spec: InputSpec) -> Reference:
        """Return torchvision's own code on a copy of `model`."""
        from .torchvision_reference import PyTorchReference

        return PyTorchReference(model, spec)


def _by_name(features: Any) -> OrderedDict[str, Tensor]:
    """Return a backbone's maps as torchvision has them: a single one is called 0."""
    return OrderedDict([("0", features)]) if isinstance(features, Tensor) else features


def _normalisation(model: Any) -> ModelNormalisation:
    transform = transform_of(model)
    return normalisation_of(transform.image_mean, transform.image_std)


class TwoStage(nn.Module):
    """`images uint8 [B, H, W, 3]` → boxes, scores, labels, (masks,) count."""

    def __init__(self, model: nn.Module, spec: InputSpec) -> None:
        """Take over `model`'s layers and work out everything that only depends on the input size.

        Raises:
            UnsupportedModelError: a part was replaced by one whose meaning is not known.
            UsageError: a setting of the model keeps it from detecting anything.
        """
        super().__init__()
        _check_parts(model)
        self.model: Any = at_fixed_size(model, spec)
        self.spec = spec
        how = _normalisation(self.model)
        self.letterboxed = Letterboxed(spec, how.mean, how.std)
        self._probe()
        self.has_masks = self.model.roi_heads.has_mask()
        simplify_upscale(self.model.roi_heads.mask_predictor)

    @property
    def output_names(self) -> list[str]:
        """Names of what `forward` returns, in order."""
        masks = ["masks"] if self.has_masks else []
        return ["boxes", "scores", "labels", *masks, "count"]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Detect; shapes as in `Manifest.outputs`."""
        x, corner = self.letterboxed(images)
        features = self._features(self._padded(x))
        proposals, real = self._propose(features, corner)
        boxes, scores, labels, count = self._detect(features, proposals, real, corner)
        if not self.has_masks:
            return boxes, scores, labels, count
        return boxes, scores, labels, self._masks(features, boxes, labels, count), count

    def _padded(self, x: Tensor) -> Tensor:
        """Return `x` with zeros on the right and below, to a multiple of what torchvision asks."""
        step = self.model.transform.size_divisible
        padding = (0, -self.spec.width % step, 0, -self.spec.height % step)
        return nn.functional.pad(x, padding) if any(padding) else x

    def _features(self, x: Tensor) -> OrderedDict[str, Tensor]:
        return _by_name(self.model.backbone(x))

    def _probe(self) -> None:
        """Run once to learn anchors, pyramid scales and level mappings from torchvision itself."""
        size = (self.spec.height, self.spec.width)
        with torch.no_grad():
            x = self._padded(torch.zeros(1, 3, *size))
            features = _by_name(maps_of(self.model.backbone, x))
            levels = list(features.values())
            anchors = self.model.rpn.anchor_generator(ImageList(x, [size]), levels)[0]
            box = [torch.tensor([[0.0, 0.0, 8.0, 8.0]])]
            heads = self.model.roi_heads
            pools = [heads.box_roi_pool] + ([heads.mask_roi_pool] if heads.has_mask() else [])
            for pool in pools:
                pool(features, box, [size])
            objectness, _ = self.model.rpn.head(levels)
        counts = [o[0].numel() for o in objectness]
        if sum(counts) != len(anchors):
            raise UnsupportedModelError(
                f"the RPN head scores {sum(counts)} anchors and the anchor generator makes "
                f"{len(anchors)}: give both the same number of anchors per location and level."
            )
        for index, level in enumerate(anchors.split(counts)):
            self.register_buffer(f"anchors{index}", level.clone())

    def _propose(self, features: OrderedDict[str, Tensor], corner: Tensor) -> tuple[Tensor, Tensor]:
        """Return proposals `[B, P, 4]` and which of them are real, bool `[B, P]`."""
        rpn = self.model.rpn
        objectness, deltas = rpn.head(list(features.values()))
        boxes, scores, levels = [], [], []
        for index, (score, delta) in enumerate(zip(objectness, deltas, strict=True)):
            box, score = self._best_anchors(index, score, delta)
            boxes.append(clip_boxes(box, corner))
            scores.append(score)
            levels.append(torch.full(score.shape, index, dtype=torch.int32))
        box, score = torch.cat(boxes, 1), torch.cat(scores, 1)
        kept, _, _, _, count = batched_nms(
            box,
            self._reject_small(box, score, rpn.min_size, rpn.score_thresh),
            torch.cat(levels, 1),
            iou_threshold=float(rpn.nms_thresh),
            score_threshold=_REJECTED / 2,
            max_outputs=min(rpn.post_nms_top_n(), box.shape[1]),
            class_agnostic=0,
        )
        return kept, torch.arange(kept.shape[1]) < count[:, None]

    def _best_anchors(self, index: int, score: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best anchors of one level, decoded, and their scores."""
        rpn, batch = self.model.rpn, score.shape[0]
        anchors = getattr(self, f"anchors{index}")
        logits = score.permute(0, 2, 3, 1).reshape(batch, -1)
        height, width = score.shape[-2:]
        codes = delta.reshape(batch, -1, 4, height, width).permute(0, 3, 4, 1, 2)
        codes = codes.reshape(batch, -1, 4)
        best, place = logits.topk(min(rpn.pre_nms_top_n(), logits.shape[1]))
        codes = torch.gather(codes, 1, place[..., None].expand(-1, -1, 4))
        boxes = _decode(codes, anchors[place], rpn.box_coder)
        return boxes, torch.sigmoid(best)

    def _detect(
        self,
        features: OrderedDict[str, Tensor],
        proposals: Tensor,
        real: Tensor,
        corner: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Classify the proposals and suppress: boxes, scores, labels, count."""
        heads = self.model.roi_heads
        logits, codes = heads.box_predictor(
            heads.box_head(self._pool(heads.box_roi_pool, features, proposals))
        )
        batch, number = proposals.shape[:2]
        classes = logits.shape[1]
        scores = torch.softmax(logits, -1)[:, 1:].reshape(batch, number, classes - 1)
        scores = torch.where(real[..., None], scores, _REJECTED).reshape(batch, -1)
        best, place = scores.topk(min(MAX_CANDIDATES, scores.shape[1]))
        owner = torch.div(place, classes - 1, rounding_mode="floor")
        label = place - owner * (classes - 1) + 1
        codes = codes.reshape(batch, number * classes, 4)
        code = torch.gather(codes, 1, (owner * classes + label)[..., None].expand(-1, -1, 4))
        proposal = torch.gather(proposals, 1, owner[..., None].expand(-1, -1, 4))
        boxes = clip_boxes(_decode(code, proposal, heads.box_coder), corner)
        boxes, scores, labels, _, count = batched_nms(
            boxes,
            self._reject_small(boxes, best, _SMALLEST_DETECTION, _REJECTED),
            label.to(torch.int32),
            iou_threshold=float(heads.nms_thresh),
            score_threshold=float(heads.score_thresh),
            max_outputs=min(heads.detections_per_img, best.shape[1]),
            class_agnostic=0,
        )
        return boxes, scores, labels, count

    def _masks(
        self, features: OrderedDict[str, Tensor], boxes: Tensor, labels: Tensor, count: Tensor
    ) -> Tensor:
        """Return probabilities `[B, D, h, w]` of each detection's own class, zero where padded."""
        heads = self.model.roi_heads
        x = heads.mask_head(self._pool(heads.mask_roi_pool, features, boxes))
        label = labels.reshape(-1).to(torch.int64)
        logits = own_class_logits(heads.mask_predictor, x, label)
        masks = torch.sigmoid(logits).reshape(*labels.shape, *logits.shape[-2:])
        real = torch.arange(labels.shape[1]) < count[:, None]
        return masks * real[..., None, None]

    def _pool(self, pool: Any, features: OrderedDict[str, Tensor], boxes: Tensor) -> Tensor:
        """RoIAlign as `pool` does it: `[B·N, C, h, w]`."""
        levels = [f for name, f in features.items() if name in pool.featmap_names]
        height, width = _pair(pool.output_size)
        mapper = pool.map_levels
        # Maps of one stride share a level: of MobileNet's two of 1/32, boxes use the first.
        used = int(mapper.k_max) - int(mapper.k_min) + 1
        pooled = multilevel_roialign(
            boxes,
            levels[:used],
            output_height=height,
            output_width=width,
            sampling_ratio=max(pool.sampling_ratio, 0),
            aligned=int(getattr(pool, "aligned", False)),
            mode="avg",
            spatial_scales=tuple(float(s) for s in pool.scales[:used]),
            canonical_scale=float(mapper.s0),
            canonical_level=int(mapper.lvl0),
            level_epsilon=float(mapper.eps),
            min_level=int(mapper.k_min),
        )
        return pooled.flatten(0, 1)

    @staticmethod
    def _reject_small(boxes: Tensor, scores: Tensor, smallest: float, least: float) -> Tensor:
        """Return scores, `_REJECTED` where a side or the score is too small."""
        sides = boxes[..., 2:] - boxes[..., :2]
        usable = (sides.amin(-1) >= smallest) & (scores >= least)
        return torch.where(usable, scores, _REJECTED)


def _decode(codes: Tensor, boxes: Tensor, coder: Any) -> Tensor:
    """Apply `codes [..., 4]` to `boxes [..., 4]`, as torchvision's `BoxCoder.decode_single`."""
    if any(weight != 1 for weight in coder.weights):
        codes = codes / torch.tensor(coder.weights, dtype=codes.dtype)
    sides = boxes[..., 2:] - boxes[..., :2]
    centre = codes[..., :2] * sides + (boxes[..., :2] + 0.5 * sides)
    half = 0.5 * (torch.exp(codes[..., 2:].clamp(max=coder.bbox_xform_clip)) * sides)
    return torch.cat([centre - half, centre + half], -1)


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _check_parts(model: Any) -> None:
    """Refuse a detector in which a part with built-in meaning was replaced."""
    _check_steps(model)
    heads = model.roi_heads
    for name in ("box_roi_pool", *(["mask_roi_pool"] if heads.has_mask() else [])):
        pool = getattr(heads, name)
        if type(pool) not in (MultiScaleRoIAlign, detectron2.AlignedRoIAlign):
            raise UnsupportedModelError(
                f"roi_heads.{name} is a {type(pool).__name__}, and only torchvision's "
                "MultiScaleRoIAlign can become a MultilevelRoIAlign."
            )
    if heads.has_keypoint():
        raise UnsupportedModelError("the model has a keypoint head, which no output can hold.")
    if math.isnan(heads.score_thresh):
        raise UsageError("roi_heads.score_thresh is NaN, and must be a number from 0 to 1.")
    if heads.detections_per_img < 1:
        raise UsageError(
            f"roi_heads.detections_per_img is {heads.detections_per_img}, and must be at least 1."
        )


def _check_steps(model: Any) -> None:
    """Refuse other code than torchvision's in the steps that this family writes anew."""
    if getattr(model.forward, "__func__", None) is not GeneralizedRCNN.forward:
        raise UnsupportedModelError(
            f"{type(model).__name__}.forward is not torchvision's, and what it adds would be lost: "
            "give a model that keeps GeneralizedRCNN.forward."
        )
    for path, expected in _STEPS.items():
        part = operator.attrgetter(path)(model)
        if type(part) is not expected:
            raise UnsupportedModelError(
                f"{path} is a {type(part).__name__}, and only torchvision's own "
                f"{expected.__name__} is understood."
            )
