"""What detectron2's GeneralizedRCNN computes between its layers, as its exporter writes it.

Read node by node from files that detectron2 (02b5c4e) wrote by its deployment export: traced by
`TracingAdapter`, without postprocessing, opset 11, 16, 17 and 21, with a pyramid and without (C4).
Lengths are tensors under tracing, so padding, anchors, splits by the number of boxes and the
picture's corner are all computed in the graph. It differs from torchvision: pictures from 0 to 255,
the background is the last class and has no box codes, objectness stays a logit, RoIAlign is aligned
and adaptive, boxes are clipped to what is not padding, masks are not pasted.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, roi_align

__all__ = ["Detectron2Style"]

_LIMIT = math.log(1000 / 16)


class Detectron2Style(nn.Module):
    """The layers of a torchvision Mask R-CNN, put together as detectron2 does."""

    def __init__(
        self, model: Any, size: tuple[int, int], *, masks: bool = True, ratio: int = 0,
        least: float = 0.0, bgr: bool = False, aligned: bool = True, one_mask: bool = False,
        postprocess: bool = False,
    ) -> None:  # fmt: skip
        """Take over the layers of `model`; its class 0 becomes the last one.

        Args:
            model: a torchvision Mask R-CNN, made to detect something; with one map for its heads
                it is detectron2's C4, whose box head is `res5` and a mean.
            size: of the picture.
            masks: whether there is a mask branch.
            ratio: `POOLER_SAMPLING_RATIO`.
            least: `MIN_SIZE` of a proposal.
            bgr: `INPUT.FORMAT`.
            aligned: `POOLER_TYPE`, ROIAlignV2 or the ROIAlign of Detectron 1.
            one_mask: `CLS_AGNOSTIC_MASK`.
            postprocess: whether empty boxes are dropped at the end, as its postprocessing does.
        """
        super().__init__()
        self.backbone, self.head = model.backbone, model.rpn.head
        self.box_head, self.heads = model.roi_heads.box_head, model.roi_heads
        self.ratio, self.least, self.aligned = ratio, least, aligned
        predictor = model.roi_heads.box_predictor
        self.classes = predictor.cls_score.out_features - 1
        self.score = _rows(predictor.cls_score, [*range(1, self.classes + 1), 0])
        self.codes = _rows(predictor.bbox_pred, list(range(4, 4 * self.classes + 4)))
        self.rpn, self.names = model.rpn, model.roi_heads.box_roi_pool.featmap_names
        self.bins = model.roi_heads.box_roi_pool.output_size[0]
        self.mask_bins = model.roi_heads.mask_roi_pool.output_size[0] if masks else 0
        order = [2, 1, 0] if bgr else [0, 1, 2]
        mean, std = model.transform.image_mean, model.transform.image_std
        self.register_buffer("mean", 255 * torch.tensor(mean)[order].view(3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std)[order].view(3, 1, 1))
        self.one_mask, self.postprocess = one_mask, postprocess
        self.mask_logits = _mask_rows(model, 1 if one_mask else self.classes) if masks else None
        self._measure(size)
        if bgr:
            stem = next(m for m in self.backbone.modules() if isinstance(m, nn.Conv2d))
            stem.weight.data = stem.weight.data.flip(1)

    def _measure(self, size: tuple[int, int]) -> None:
        """Take the strides of the maps and the anchors of their first cells."""
        height, width = (math.ceil(side / 32) * 32 for side in size)
        picture = torch.zeros(1, 3, height, width)
        maps = _named(self.backbone(picture))
        self.strides = [height // m.shape[-2] for m in maps.values()]
        self.pooled_strides = [height // maps[name].shape[-2] for name in self.names]
        self.divisor = max(self.strides) if len(self.strides) > 1 else 0
        kind, place = picture.dtype, picture.device
        self.rpn.anchor_generator.set_cell_anchors(kind, place)
        self.cells = list(self.rpn.anchor_generator.cell_anchors)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return boxes, classes, masks, scores and the picture's size, of `image [3, H, W]`."""
        size = _vector(image.shape[-2:])
        maps = _named(self.backbone(self._padded((image - self.mean) / self.std, size)))
        proposals = self._proposals(list(maps.values()), size)
        features = [maps[name] for name in self.names]
        hidden = self.box_head(self._pool(features, [proposals], self.bins))
        logits, codes = self.score(hidden), self.codes(hidden)
        boxes = _decode(codes.float(), proposals.float(), (10.0, 10.0, 5.0, 5.0))
        (boxes,) = boxes.split([proposals.shape[0]])
        (scores,) = logits.softmax(-1).split([proposals.shape[0]])
        boxes, scores, classes = self._inference(boxes, scores, size)
        if self.postprocess:
            real = (boxes[:, 2] - boxes[:, 0] > 0) & (boxes[:, 3] - boxes[:, 1] > 0)
            return boxes[real], classes[real], scores[real], size
        if self.mask_logits is None:
            return boxes, classes, scores, size
        masks = self._masks(self._pool(features, [boxes], self.mask_bins), boxes, classes)
        return boxes, classes, masks, scores, size

    def _padded(self, image: Tensor, size: Tensor) -> Tensor:
        """Return a batch of one, its sides multiples of the last stride."""
        most = torch.stack([size]).max(0).values
        if self.divisor:
            most = (most + (self.divisor - 1)).div(self.divisor, rounding_mode="floor")
            most = most * self.divisor
        right, below = most[-1] - image.shape[-1], most[-2] - image.shape[-2]
        return nn.functional.pad(image, [0, right, 0, below], value=0.0).unsqueeze_(0)

    def _anchors(self, maps: list[Tensor]) -> list[Tensor]:
        found = []
        for stride, cell, features in zip(self.strides, self.cells, maps, strict=True):
            rows, columns = features.shape[-2:]
            x = torch.arange(0.0, columns * stride, step=stride, dtype=torch.float32)
            y = torch.arange(0.0, rows * stride, step=stride, dtype=torch.float32)
            y, x = (part.reshape(-1) for part in torch.meshgrid(y, x, indexing="ij"))
            places = torch.stack((x, y, x, y), dim=1)
            found.append((places.view(-1, 1, 4) + cell.view(1, -1, 4)).reshape(-1, 4))
        return found

    def _proposals(self, maps: list[Tensor], size: Tensor) -> Tensor:
        anchors = self._anchors(maps)
        logits, codes = self.head(maps)
        flat = [score.permute(0, 2, 3, 1).flatten(1) for score in logits]
        moved = [_by_anchor(code) for code in codes]
        decoded = [_decoded_anchors(a, code) for a, code in zip(anchors, moved, strict=True)]
        found_boxes, found_scores, found_levels = [], [], []
        picture = torch.arange(1)
        for number, (boxes, scores) in enumerate(zip(decoded, flat, strict=True)):
            most = _at_most(scores.shape[1], self.rpn._pre_nms_top_n["testing"])
            best, place = scores.topk(most, dim=1)
            found_boxes.append(boxes[picture[:, None], place])
            found_scores.append(best)
            found_levels.append(torch.full((most,), number, dtype=torch.int64))
        boxes, scores = torch.cat(found_boxes, 1)[0], torch.cat(found_scores, 1)[0]
        levels = torch.cat(found_levels)
        boxes = _clip(boxes, size)
        wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        real = (wide > self.least) & (high > self.least)
        boxes, scores, levels = boxes[real], scores[real], levels[real]
        kept = batched_nms(boxes.float(), scores, levels, self.rpn.nms_thresh)
        return boxes[kept[: self.rpn._post_nms_top_n["testing"]]]

    def _pool(self, maps: list[Tensor], lists: list[Tensor], bins: int) -> Tensor:
        boxes = torch.cat(lists, 0)
        counts = _vector([part.shape[0] for part in lists])
        rois = _with_pictures(boxes, counts)
        if len(maps) == 1:
            return self._pooled(maps[0], rois, bins, self.pooled_strides[0])
        first = round(math.log2(self.pooled_strides[0]))
        sides = torch.sqrt(torch.cat([(b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in lists]))
        level = torch.floor(4 + torch.log2(sides / 224 + 1e-8))
        level = level.clamp(first, first + len(maps) - 1).to(torch.int64) - first
        output = _zeros(rois, maps[0].shape[1], bins)
        for index, features in enumerate(maps):
            rows = (level == index).nonzero().unbind(1)[0]
            stride = self.pooled_strides[index]
            output.index_put_((rows,), self._pooled(features, rois[rows], bins, stride))
        return output

    def _pooled(self, features: Tensor, rois: Tensor, bins: int, stride: int) -> Tensor:
        rois = rois.to(features.dtype)
        return roi_align(features, rois, bins, 1 / stride, self.ratio, aligned=self.aligned)

    def _inference(
        self, boxes: Tensor, scores: Tensor, size: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        scores = scores[:, :-1]
        own = boxes.shape[1] // 4
        boxes = _clip(boxes.reshape(-1, 4), size).view(-1, own, 4)
        good = scores > self.heads.score_thresh
        places = good.nonzero()
        boxes, scores = boxes[good], scores[good]
        kept = batched_nms(boxes.float(), scores, places[:, 1], self.heads.nms_thresh)
        kept = kept[: self.heads.detections_per_img]
        return boxes[kept], scores[kept], places[kept][:, 1]

    def _masks(self, pooled: Tensor, boxes: Tensor, classes: Tensor) -> Tensor:
        assert self.mask_logits is not None
        predictor = self.heads.mask_predictor
        hidden = predictor.relu(predictor.conv5_mask(self.heads.mask_head(pooled)))
        logits = self.mask_logits(hidden)
        if self.one_mask:
            masks = logits.sigmoid()
        else:
            masks = logits[torch.arange(logits.shape[0]), classes][:, None].sigmoid()
        (masks,) = masks.split([boxes.shape[0]], dim=0)
        return masks


def _named(maps: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
    return {"0": maps} if isinstance(maps, Tensor) else maps


def _vector(sides: Any) -> Tensor:
    """Return the lengths `sides`, which are tensors under tracing, as one tensor."""
    return torch.stack([torch.as_tensor(side) for side in sides])


def _at_most(length: Any, limit: int) -> Any:
    return length.clamp(max=limit) if isinstance(length, Tensor) else min(length, limit)


@torch.jit.script_if_tracing
def _with_pictures(boxes: Tensor, counts: Tensor) -> Tensor:
    """Return RoIs `[N, 5]`: the number of each box's picture, and the box."""
    numbers = torch.repeat_interleave(
        torch.arange(len(counts), dtype=boxes.dtype, device=boxes.device), counts
    )
    return torch.cat([numbers[:, None], boxes], 1)


@torch.jit.script_if_tracing
def _zeros(rois: Tensor, channels: int, bins: int) -> Tensor:
    return torch.zeros((rois.shape[0], channels, bins, bins), dtype=rois.dtype)


def _rows(layer: nn.Linear, order: list[int]) -> nn.Linear:
    chosen = nn.Linear(layer.in_features, len(order))
    chosen.weight.data, chosen.bias.data = layer.weight.data[order], layer.bias.data[order]
    return chosen


def _mask_rows(model: Any, count: int) -> nn.Conv2d:
    last = model.roi_heads.mask_predictor[-1]
    chosen = nn.Conv2d(last.in_channels, count, 1)
    chosen.weight.data = last.weight.data[1 : count + 1]
    chosen.bias.data = last.bias.data[1 : count + 1]
    return chosen


def _by_anchor(code: Tensor) -> Tensor:
    """Return `[1, H W A, 4]` of `code [1, 4 A, H, W]`."""
    split = code.view(code.shape[0], -1, 4, code.shape[-2], code.shape[-1])
    return split.permute(0, 3, 4, 1, 2).flatten(1, -2)


def _decoded_anchors(anchors: Tensor, code: Tensor) -> Tensor:
    pictures, last = code.shape[0], anchors.shape[1]
    wide = anchors.unsqueeze(0).expand(pictures, -1, -1).reshape(-1, last)
    boxes = _decode(code.reshape(-1, last).float(), wide.float(), (1.0,) * 4)
    return boxes.view(pictures, -1, last)


def _decode(codes: Tensor, boxes: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Return `[N, 4 K]` of `codes [N, 4 K]` and `boxes [N, 4]`."""
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    middle_x, middle_y = boxes[:, 0] + 0.5 * wide, boxes[:, 1] + 0.5 * high
    dx, dy, dw, dh = (codes[:, i::4] / weights[i] for i in range(4))
    dw, dh = dw.clamp(max=_LIMIT), dh.clamp(max=_LIMIT)
    x, y = dx * wide[:, None] + middle_x[:, None], dy * high[:, None] + middle_y[:, None]
    w, h = dw.exp() * wide[:, None], dh.exp() * high[:, None]
    corners = (x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h)
    return torch.stack(corners, -1).reshape(codes.shape)


def _clip(boxes: Tensor, size: Tensor) -> Tensor:
    height, width = size
    x0, y0, x1, y1 = (boxes[:, i] for i in range(4))
    return torch.stack((
        x0.clamp(min=0, max=width), y0.clamp(min=0, max=height),
        x1.clamp(min=0, max=width), y1.clamp(min=0, max=height),
    ), -1)  # fmt: skip
