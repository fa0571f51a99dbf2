"""What mmdeploy makes of mmdetection's Mask R-CNN for ONNX Runtime, between its layers, restated.

Published in `mmdeploy/codebase/mmdet/models` (`dense_heads/rpn_head.py`, `roi_heads/*.py`) and
`mmdeploy/mmcv/ops/nms.py`, for static shapes and one picture. It differs from torchvision: the
picture comes normalised, anchors and deltas are gathered before they are decoded, one
NonMaxSuppression takes all levels, another one all classes with their own score threshold, a row of
zeros pads what they keep, each proposal keeps the box of its best class alone, and rows of zeros
stand before the RoIs so that no level is empty.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import nms, roi_align

from .restated_detectron2 import Detectron2Style

__all__ = ["MMDeployStyle"]

_LIMIT = math.log(1000 / 16)


class _NonMaxSuppression(torch.autograd.Function):
    """ONNX's operator on `boxes [1, N, 4]` and `scores [1, K, N]`."""

    @staticmethod
    def forward(
        ctx: Any, boxes: Tensor, scores: Tensor, most: int, iou: float, score: float
    ) -> Any:
        rows = []
        for label, own in enumerate(scores[0]):
            real = (own > score).nonzero()[:, 0]
            kept = real[nms(boxes[0][real], own[real], iou)][:most]
            rows.append(torch.stack([kept * 0, kept * 0 + label, kept], 1))
        return torch.cat(rows)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, most: int, iou: float, score: float) -> Any:
        values = [
            g.op("Constant", value_t=torch.tensor([value], dtype=kind))
            for value, kind in ((most, torch.long), (iou, torch.float), (score, torch.float))
        ]
        return g.op("NonMaxSuppression", boxes, scores, *values)


class MMDeployStyle(nn.Module):
    """The layers of a torchvision Mask R-CNN, put together as mmdeploy exports mmdetection's."""

    def __init__(
        self, model: Any, size: tuple[int, int], *, masks: bool = True, ratio: int = 0,
        finest: int = 56, rpn_score: float = 0.05, per_class: int = 200,
    ) -> None:  # fmt: skip
        """Take over the layers of `model`; its class 0 becomes the last one.

        Args:
            model: a torchvision Mask R-CNN, made to detect something.
            size: of the picture.
            masks: whether there is a mask branch.
            ratio: samples a bin of RoIAlign, 0 for as many as fit.
            finest: `finest_scale`, the largest box of the first level.
            rpn_score: `score_threshold` of the suppression of proposals.
            per_class: `max_output_boxes_per_class`.
        """
        super().__init__()
        shared = Detectron2Style(model, size, masks=masks)
        self.layers, self.size, self.ratio, self.finest = shared, size, ratio, finest
        self.rpn, self.heads, self.classes = model.rpn, model.roi_heads, shared.classes
        self.rpn_score, self.per_class = rpn_score, per_class

    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        """Return dets `[1, D, 5]`, labels `[1, D]` and masks `[1, D, h, w]`."""
        maps = self.layers.backbone(picture)
        proposals = self._proposals(list(maps.values()))
        features = [maps[name] for name in self.layers.names]
        rois = _with_picture(proposals[..., :4])
        hidden = self.layers.box_head(self._pool(features, rois, self.layers.bins))
        count = proposals.shape[1]
        logits = self.layers.score(hidden).reshape(1, count, -1)
        codes = self.layers.codes(hidden).reshape(1, count, -1)
        dets, labels = self._inference(rois.reshape(1, count, 5), logits, codes)
        if self.layers.mask_logits is None:
            return dets, labels
        x = self._pool(features, _with_picture(dets[..., :4]), self.layers.mask_bins)
        predictor = self.heads.mask_predictor
        x = predictor.relu(predictor.conv5_mask(self.heads.mask_head(x)))
        masks = self.layers.mask_logits(x).sigmoid()
        masks = masks[torch.arange(masks.shape[0]), labels.reshape(-1)][:, None]
        return dets, labels, masks.reshape(1, dets.shape[1], *masks.shape[-2:])

    def _proposals(self, maps: list[Tensor]) -> Tensor:
        scores, deltas, priors = [], [], []
        for score, code, anchors in zip(*self.layers.head(maps), self.layers.anchors, strict=True):
            score = score.permute(0, 2, 3, 1).reshape(1, -1).sigmoid().reshape(1, -1, 1)
            code = code.permute(0, 2, 3, 1).reshape(1, -1, 4)
            most = min(self.rpn._pre_nms_top_n["testing"], score.shape[1])
            _, place = score.squeeze(2).topk(most)
            picture = torch.arange(1).unsqueeze(-1)
            scores.append(score[picture, place])
            deltas.append(code[picture, place])
            priors.append(anchors.unsqueeze(0)[place.new_zeros((1, 1)), place])
        boxes = _decode(torch.cat(priors, 1), torch.cat(deltas, 1), (1.0,) * 4, self.size)
        most = self.rpn._post_nms_top_n["testing"]
        dets, _ = _multiclass(
            boxes, torch.cat(scores, 1), most, self.rpn.nms_thresh, self.rpn_score, most
        )
        return dets

    def _pool(self, maps: list[Tensor], rois: Tensor, bins: int) -> Tensor:
        count = len(maps)
        output = maps[0].new_zeros(rois.shape[0], maps[0].shape[1], bins, bins)
        side = torch.sqrt((rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2]))
        level = torch.floor(torch.log2(side / self.finest + 1e-6)).clamp(0, count - 1).long()
        output = torch.cat((output.new_zeros(2 * count, *output.shape[-3:]), output))
        rois = torch.cat((rois.new_zeros(2 * count, 5), rois))
        every = torch.linspace(0, count - 1, count, dtype=level.dtype)
        level = torch.cat((every, every, level))
        for index, features in enumerate(maps):
            rows = (level == index).nonzero(as_tuple=False).squeeze(1)
            scale = features.shape[-1] / self.size[1]
            output[rows] = roi_align(features, rois[rows], bins, scale, self.ratio, aligned=True)
        return output[2 * count :]

    def _inference(self, rois: Tensor, logits: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        scores = logits.softmax(-1)[..., : self.classes]
        boxes = _decode(rois[..., 1:], codes, (10.0, 10.0, 5.0, 5.0), self.size)
        best = scores.reshape(-1, self.classes).argmax(1, keepdim=True)
        boxes = boxes.reshape(-1, self.classes, 4)
        row = torch.arange(boxes.shape[0]).unsqueeze(-1)
        boxes = boxes[row, best].reshape(1, -1, 4)
        return _multiclass(
            boxes, scores, self.per_class, self.heads.nms_thresh, self.heads.score_thresh,
            self.heads.detections_per_img,
        )  # fmt: skip


def _with_picture(boxes: Tensor) -> Tensor:
    """Return RoIs `[N, 5]` of `boxes [1, N, 4]`."""
    number = torch.arange(boxes.shape[0]).float().view(-1, 1, 1)
    number = number.expand(boxes.size(0), boxes.size(1), 1)
    return torch.cat([number, boxes], -1).view(-1, 5)


def _decode(
    boxes: Tensor, codes: Tensor, weights: tuple[float, ...], size: tuple[int, int]
) -> Tensor:
    """Return `[1, N, 4 K]`, clipped, of `boxes [1, N, 4]` and `codes [1, N, 4 K]`."""
    codes = codes * codes.new_tensor([1 / w for w in weights]).repeat(codes.shape[-1] // 4)
    dx, dy, dw, dh = (codes[..., i::4] for i in range(4))
    dw, dh = (d.clamp(-_LIMIT, _LIMIT) for d in (dw, dh))
    x0, y0, x1, y1 = (boxes[..., i] for i in range(4))
    middle_x, middle_y = ((a + b) * 0.5 for a, b in ((x0, x1), (y0, y1)))
    wide, high = (x1 - x0).unsqueeze(-1), (y1 - y0).unsqueeze(-1)
    w, h = wide.expand_as(dw) * dw.exp(), high.expand_as(dh) * dh.exp()
    x = middle_x.unsqueeze(-1).expand_as(dx) + wide.expand_as(dx) * dx
    y = middle_y.unsqueeze(-1).expand_as(dy) + high.expand_as(dy) * dy
    height, width = size
    corners = [(x - w * 0.5).clamp(0, width), (y - h * 0.5).clamp(0, height),
               (x + w * 0.5).clamp(0, width), (y + h * 0.5).clamp(0, height)]  # fmt: skip
    return torch.stack(corners, dim=-1).view(codes.size())


def _multiclass(
    boxes: Tensor, scores: Tensor, per_class: int, iou: float, score: float, keep: int
) -> tuple[Tensor, Tensor]:
    """Return dets `[1, D, 5]` and labels `[1, D]` of `scores [1, N, K]`, a row of zeros last."""
    best, _ = scores.max(-1)
    _, order = best.squeeze(0).topk(best.shape[1])
    boxes, scores = boxes[:, order], scores[:, order]
    scores = scores.permute(0, 2, 1)
    found = _NonMaxSuppression.apply(boxes, scores, per_class, iou, score)
    labels, rows = found[:, 1], found[:, 2]
    dets = torch.cat([boxes[:, rows], scores[:, labels, rows].unsqueeze(2)], dim=2)
    dets = torch.cat((dets, dets.new_zeros((1, 1, 5))), 1)
    labels = torch.cat((labels.unsqueeze(0), labels.new_zeros((1, 1))), 1)
    _, order = dets[:, :, -1].topk(_at_most(keep, dets), dim=1)
    order = order.squeeze(0)
    return dets[:, order], labels[:, order]


def _at_most(keep: int, dets: Tensor) -> Any:
    """Return `keep`, or how many rows there are: mmdeploy's rewriter of `topk` does so, too."""
    size = dets.shape[1]
    if torch.is_tensor(size):
        return torch.minimum(size, torch.tensor(keep))
    return min(keep, size)
