"""What detectron2's GeneralizedRCNN computes between its layers, restated.

Published in `detectron2/modeling`: `rcnn.py`, `proposal_generator/proposal_utils.py`, `poolers.py`,
`roi_heads/fast_rcnn.py`, `roi_heads/mask_head.py`, as traced for ONNX without postprocessing. It
differs from torchvision: pictures from 0 to 255, the background is the last class and has no box
codes, objectness stays a logit, RoIAlign is aligned and adaptive, masks are not pasted.
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
        least: float = 0.0, bgr: bool = False,
    ) -> None:  # fmt: skip
        """Take over the layers of `model`; its class 0 becomes the last one.

        Args:
            model: a torchvision Mask R-CNN, made to detect something.
            size: of the picture.
            masks: whether there is a mask branch.
            ratio: `POOLER_SAMPLING_RATIO`.
            least: `MIN_SIZE` of a proposal.
            bgr: `INPUT.FORMAT`.
        """
        super().__init__()
        self.backbone, self.head = model.backbone, model.rpn.head
        self.box_head, self.heads = model.roi_heads.box_head, model.roi_heads
        self.size, self.with_masks, self.ratio, self.least = size, masks, ratio, least
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
        self.mask_logits = _mask_rows(model) if masks else None
        self.anchors = _anchors(model, size)
        if bgr:
            stem = next(m for m in self.backbone.modules() if isinstance(m, nn.Conv2d))
            stem.weight.data = stem.weight.data.flip(1)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return boxes, classes, masks, scores and the picture's size, of `image [3, H, W]`."""
        maps = self.backbone(((image - self.mean) / self.std)[None])
        proposals = self._proposals(list(maps.values()))
        features = [maps[name] for name in self.names]
        pooled = self._pool(features, proposals, self.bins)
        hidden = self.box_head(pooled)
        boxes = _decode(self.codes(hidden), proposals, (10.0, 10.0, 5.0, 5.0))
        boxes, scores, classes = self._inference(boxes, self.score(hidden).softmax(-1))
        size = torch.tensor(self.size)
        if self.mask_logits is None:
            return boxes, classes, scores, size
        x = self._pool(features, boxes, self.mask_bins)
        predictor = self.heads.mask_predictor
        x = predictor.relu(predictor.conv5_mask(self.heads.mask_head(x)))
        logits = self.mask_logits(x)
        number = torch.arange(logits.shape[0])
        masks = logits[number, classes][:, None].sigmoid()
        return boxes, classes, masks, scores, size

    def _proposals(self, maps: list[Tensor]) -> Tensor:
        logits, codes = self.head(maps)
        found_boxes, found_scores, found_levels = [], [], []
        picture = torch.arange(1)
        for number, (score, code, anchors) in enumerate(
            zip(logits, codes, self.anchors, strict=True)
        ):
            score = score.permute(0, 2, 3, 1).flatten(1)
            code = code.view(1, -1, 4, *code.shape[-2:]).permute(0, 3, 4, 1, 2).flatten(1, -2)
            boxes = _decode(code.reshape(-1, 4), anchors, (1.0,) * 4).view(1, -1, 4)
            most = min(self.rpn._pre_nms_top_n["testing"], score.shape[1])
            best, place = score.topk(most, dim=1)
            found_boxes.append(boxes[picture[:, None], place])
            found_scores.append(best)
            found_levels.append(torch.full((most,), number, dtype=torch.int64))
        boxes, scores = torch.cat(found_boxes, 1)[0], torch.cat(found_scores, 1)[0]
        levels = torch.cat(found_levels)
        boxes = _clip(boxes, self.size)
        wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        real = (wide > self.least) & (high > self.least)
        boxes, scores, levels = boxes[real], scores[real], levels[real]
        kept = batched_nms(boxes.float(), scores, levels, self.rpn.nms_thresh)
        return boxes[kept[: self.rpn._post_nms_top_n["testing"]]]

    def _pool(self, maps: list[Tensor], boxes: Tensor, bins: int) -> Tensor:
        rois = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], 1)
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        level = torch.floor(4 + torch.log2(area.sqrt() / 224 + 2.220446049250313e-16))
        first = round(math.log2(self.size[0] / maps[0].shape[-2]))
        level = level.clamp(first, first + len(maps) - 1).to(torch.int64) - first
        output = rois.new_zeros(rois.shape[0], maps[0].shape[1], bins, bins)
        for index, features in enumerate(maps):
            rows = (level == index).nonzero(as_tuple=True)[0]
            scale = 0.5 ** (first + index)
            output[rows] = roi_align(features, rois[rows], bins, scale, self.ratio, aligned=True)
        return output

    def _inference(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scores = scores[:, :-1]
        boxes = _clip(boxes.reshape(-1, 4), self.size).view(-1, self.classes, 4)
        good = scores > self.heads.score_thresh
        places = good.nonzero()
        boxes, scores = boxes[good], scores[good]
        kept = batched_nms(boxes, scores, places[:, 1], self.heads.nms_thresh)
        kept = kept[: self.heads.detections_per_img]
        return boxes[kept], scores[kept], places[kept][:, 1]


def _rows(layer: nn.Linear, order: list[int]) -> nn.Linear:
    chosen = nn.Linear(layer.in_features, len(order))
    chosen.weight.data, chosen.bias.data = layer.weight.data[order], layer.bias.data[order]
    return chosen


def _mask_rows(model: Any) -> nn.Conv2d:
    last = model.roi_heads.mask_predictor[-1]
    chosen = nn.Conv2d(last.in_channels, last.out_channels - 1, 1)
    chosen.weight.data, chosen.bias.data = last.weight.data[1:], last.bias.data[1:]
    return chosen


def _anchors(model: Any, size: tuple[int, int]) -> list[Tensor]:
    from torchvision.models.detection.image_list import ImageList

    picture = torch.zeros(1, 3, *size)
    maps = list(model.backbone(picture).values())
    (anchors,) = model.rpn.anchor_generator(ImageList(picture, [size]), maps)
    each = model.rpn.anchor_generator.num_anchors_per_location()
    counts = [m.shape[-2] * m.shape[-1] * n for m, n in zip(maps, each, strict=True)]
    return [part.clone() for part in anchors.split(counts)]


def _decode(codes: Tensor, boxes: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Return `[N, 4 K]` of `codes [N, 4 K]` and `boxes [N, 4]`."""
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    middle_x, middle_y = boxes[:, 0] + 0.5 * wide, boxes[:, 1] + 0.5 * high
    dx, dy = codes[:, 0::4] / weights[0], codes[:, 1::4] / weights[1]
    dw, dh = (codes[:, i::4] / weights[i] for i in (2, 3))
    x, y = dx * wide[:, None] + middle_x[:, None], dy * high[:, None] + middle_y[:, None]
    w = dw.clamp(max=_LIMIT).exp() * wide[:, None]
    h = dh.clamp(max=_LIMIT).exp() * high[:, None]
    corners = (x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h)
    return torch.stack(corners, -1).reshape(codes.shape)


def _clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = size
    x0, y0, x1, y1 = boxes.unbind(-1)
    return torch.stack(
        (x0.clamp(0, width), y0.clamp(0, height), x1.clamp(0, width), y1.clamp(0, height)), -1
    )
