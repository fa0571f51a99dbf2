"""What mmdeploy makes of mmdetection's two-stage detectors for ONNX Runtime, between their layers.

Restated from files that mmdeploy 1.3.1 wrote of mmdet 3.3.0, read node by node, at opset 11, 16 and
17, for a static shape and one picture. It differs from torchvision: the picture comes normalised,
anchors and deltas are gathered before they are decoded, one NonMaxSuppression takes all levels,
another one all classes with its own score threshold, a row of zeros pads what they keep, each
proposal keeps the box of its best class alone, rows of zeros stand before the RoIs so that no level
is empty, and below opset 16 RoiAlign is aligned by moving its boxes.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import nms, roi_align

from .restated_layers import Layers

__all__ = ["MMDeployStyle", "squeezed"]

_LIMIT = float(np.abs(np.log(16 / 1000)))
_PRE_TOP_K = 5000


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
        limit = g.op("Constant", value_t=torch.tensor(most))
        thresholds = [
            g.op("Constant", value_t=torch.tensor([value], dtype=torch.float))
            for value in (iou, score)
        ]
        return g.op("NonMaxSuppression", boxes, scores, limit, *thresholds)


class _Squeeze(torch.autograd.Function):
    """A plain Squeeze, whatever the exporter knows of the shape: mmdeploy has its own symbolic."""

    @staticmethod
    def forward(ctx: Any, data: Tensor, dim: int) -> Tensor:
        return data.squeeze(dim)

    @staticmethod
    def symbolic(g: Any, data: Any, dim: int) -> Any:
        if g.opset < 13:
            return g.op("Squeeze", data, axes_i=[dim])
        return g.op("Squeeze", data, g.op("Constant", value_t=torch.tensor([dim])))


def squeezed(data: Tensor, dim: int) -> Tensor:
    """Return `data` without the axis `dim`."""
    return _Squeeze.apply(data, dim)


class _RoIAlign(torch.autograd.Function):
    """RoIAlign of `rois [N, 5]`, as mmdeploy writes it at each opset."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, rois: Tensor, bins: int, scale: float, ratio: int, aligned: bool
    ) -> Any:
        return roi_align(features, rois, bins, scale, ratio, aligned)

    @staticmethod
    def symbolic(
        g: Any, features: Any, rois: Any, bins: int, scale: float, ratio: int, aligned: bool
    ) -> Any:
        def columns(*numbers: int) -> Any:
            return g.op("Gather", rois, g.op("Constant", value_t=torch.tensor(numbers)), axis_i=1)

        if g.opset < 13:
            number = g.op("Squeeze", columns(0), axes_i=[1])
        else:
            number = g.op("Squeeze", columns(0), g.op("Constant", value_t=torch.tensor([1])))
        number = g.op("Cast", number, to_i=7)
        boxes = columns(1, 2, 3, 4)
        if g.opset < 16 and aligned:
            half = torch.tensor([-0.5 / scale], dtype=torch.float)
            boxes = g.op("Add", boxes, g.op("Constant", value_t=half))
        attributes = {
            "output_height_i": bins, "output_width_i": bins, "spatial_scale_f": scale,
            "sampling_ratio_i": ratio, "mode_s": "avg",
        }  # fmt: skip
        if g.opset >= 16:
            mode = "half_pixel" if aligned else "output_half_pixel"
            attributes["coordinate_transformation_mode_s"] = mode
        return g.op("RoiAlign", features, boxes, number, **attributes)


class MMDeployStyle(nn.Module):
    """The layers of a torchvision Mask R-CNN, put together as mmdeploy exports mmdetection's."""

    def __init__(
        self, model: Any, size: tuple[int, int], *, masks: bool = True, ratio: int = 0,
        finest: int = 56, rpn_score: float = 0.05, per_class: int = 200, aligned: bool = True,
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
            aligned: of RoIAlign.
        """
        super().__init__()
        self.layers, self.size, self.ratio = Layers(model, size, masks=masks), size, ratio
        self.finest, self.aligned = finest, aligned
        self.rpn, self.heads, self.classes = model.rpn, model.roi_heads, self.layers.classes
        self.rpn_score, self.per_class = rpn_score, per_class

    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        """Return dets `[1, D, 5]`, labels `[1, D]` and masks `[1, D, h, w]`."""
        maps = self.layers.backbone(picture)
        dets = self._proposals(list(maps.values()))
        features = [maps[name] for name in self.layers.names]
        number = torch.arange(dets.shape[0]).float().view(-1, 1, 1)
        number = number.expand(dets.size(0), dets.size(1), 1)  # before dets are cut to boxes
        rois = torch.cat([number, dets[..., :4]], -1)
        batch, count = rois.shape[0], rois.shape[1]
        rois = rois.view(-1, 5)
        hidden = self.layers.box_head(self._pool(features, rois, self.layers.bins))
        logits, codes = self.layers.score(hidden), self.layers.codes(hidden)
        rois = rois.reshape(batch, count, rois.size(-1))
        logits = logits.reshape(batch, count, logits.size(-1))
        codes = codes.reshape(batch, count, codes.size(-1))
        dets, labels = self._inference(rois, logits, codes)
        if self.layers.mask_logits is None:
            return dets, labels
        return dets, labels, self._masks(features, dets, labels)

    def _masks(self, features: list[Tensor], dets: Tensor, labels: Tensor) -> Tensor:
        boxes = dets[..., :4]
        number = torch.arange(boxes.size(0)).float().view(-1, 1, 1)
        number = number + boxes.new_zeros((boxes.size(0), boxes.size(1))).unsqueeze(-1)
        rois = torch.cat([number, boxes], -1).view(-1, 5)
        pooled = self._pool(features, rois, self.layers.mask_bins)
        masks = self.layers.mask_head(pooled).sigmoid()
        masks = masks[torch.arange(masks.shape[0]), labels.view(-1)][:, None]
        return masks.reshape(dets.size(0), boxes.shape[1], masks.shape[-2], masks.shape[-1])

    def _proposals(self, maps: list[Tensor]) -> Tensor:
        scores, deltas, priors = [], [], []
        for score, code, anchors in zip(*self.layers.head(maps), self.layers.anchors, strict=True):
            score = score.permute(0, 2, 3, 1).reshape(1, -1).sigmoid().reshape(1, -1, 1)
            code = code.permute(0, 2, 3, 1).reshape(1, -1, 4)
            chosen = self._top(score, code, anchors.unsqueeze(0))
            for found, part in zip((scores, deltas, priors), chosen, strict=True):
                found.append(part)
        boxes = _decoded(torch.cat(priors, 1), torch.cat(deltas, 1), (1.0,) * 4, self.size)
        most = self.rpn._post_nms_top_n["testing"]
        dets, _ = self._multiclass(
            boxes, torch.cat(scores, 1), most, self.rpn.nms_thresh, self.rpn_score, most
        )
        return dets

    def _top(self, score: Tensor, code: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the best scores of a level, and their deltas and anchors."""
        most = min(self.rpn._pre_nms_top_n["testing"], score.shape[1])
        _, place = squeezed(score, 2).topk(most)
        picture = torch.arange(1).unsqueeze(-1)
        return score[picture, place], code[picture, place], anchors[place.new_zeros((1, 1)), place]

    def _pool(self, maps: list[Tensor], rois: Tensor, bins: int) -> Tensor:
        count = len(maps)
        output = maps[0].new_zeros(rois.shape[0], maps[0].shape[1], bins, bins)
        if count == 1:
            return self._aligned(maps[0], rois, bins)
        side = torch.sqrt((rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2]))
        level = torch.floor(torch.log2(side / self.finest + 1e-6)).clamp(0, count - 1).long()
        output = torch.cat((output.new_zeros(2 * count, *output.shape[-3:]), output))
        rois = torch.cat((rois.new_zeros(2 * count, 5), rois))
        every = torch.linspace(0, count - 1, count, dtype=level.dtype)
        level = torch.cat((every, every, level))
        for index, features in enumerate(maps):
            rows = squeezed((level == index).nonzero(as_tuple=False), 1)
            output[rows] = self._aligned(features, rois[rows], bins)
        return output[2 * count :]

    def _aligned(self, features: Tensor, rois: Tensor, bins: int) -> Tensor:
        scale = features.shape[-1] / self.size[1]
        return _RoIAlign.apply(features, rois, bins, float(scale), self.ratio, self.aligned)

    def _inference(self, rois: Tensor, logits: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        scores = logits.softmax(-1)
        boxes = _decoded(rois[..., 1:], codes, (10.0, 10.0, 5.0, 5.0), self.size)
        scores = scores[..., : self.classes]
        best = scores.reshape(-1, self.classes).argmax(1, keepdim=True)
        boxes = boxes.reshape(-1, self.classes, 4)
        row = torch.arange(boxes.shape[0]).unsqueeze(-1)
        boxes = boxes[row, best].reshape(1, -1, 4)
        return self._multiclass(
            boxes, scores, self.per_class, self.heads.nms_thresh, self.heads.score_thresh,
            self.heads.detections_per_img,
        )  # fmt: skip

    def _multiclass(
        self, boxes: Tensor, scores: Tensor, per_class: int, iou: float, score: float, keep: int
    ) -> tuple[Tensor, Tensor]:
        """Return dets `[1, D, 5]` and labels `[1, D]`, a row of zeros last, of `[1, N, K]`."""
        best, _ = scores.max(-1)
        _, order = _topk(squeezed(best, 0), _PRE_TOP_K, 0)
        boxes, scores = boxes[:, order, :], scores[:, order, :]
        scores = scores.permute(0, 2, 1)
        found = _NonMaxSuppression.apply(boxes, scores, per_class, iou, score)
        labels, rows = found[:, 1], found[:, 2]
        dets = torch.cat([boxes[:, rows, ...], scores[:, labels, rows].unsqueeze(2)], dim=2)
        labels = labels.unsqueeze(0)
        dets = torch.cat((dets, dets.new_zeros((1, 1, 5))), 1)
        labels = torch.cat((labels, labels.new_zeros((1, 1))), 1)
        _, order = _topk(dets[:, :, -1], keep, 1)
        order = squeezed(order, 0)
        return dets[:, order, ...], labels[:, order, ...]


def _decoded(
    boxes: Tensor, codes: Tensor, weights: tuple[float, ...], size: tuple[int, int]
) -> Tensor:
    """Return `[1, N, 4 K]`, clipped, of `boxes [1, N, 4]` and `codes [1, N, 4 K]`."""
    means, stds = (
        codes.new_tensor((0.0,) * 4).view(1, -1),
        codes.new_tensor([1 / w for w in weights]),
    )
    each = codes.view((*codes.shape[:-1], -1, 4)) * stds.view(1, -1) + means
    move, grow = each[..., :2], each[..., 2:]
    low, high = boxes[..., :2].unsqueeze(2), boxes[..., 2:].unsqueeze(2)
    middle, sides = (low + high) * 0.5, high - low
    moved = sides * move
    half = sides * grow.clamp(min=-_LIMIT, max=_LIMIT).exp() * 0.5
    middle = middle + moved
    low, high = middle - half, middle + half
    height, width = size
    corners = [low[..., 0].clamp(0, width), low[..., 1].clamp(0, height),
               high[..., 0].clamp(0, width), high[..., 1].clamp(0, height)]  # fmt: skip
    return torch.stack(corners, dim=-1).view(codes.size())


def _topk(data: Tensor, count: int, dim: int) -> Any:
    """Take the best `count`, or all if there are fewer, as mmdeploy's rewriter of `topk` does."""
    size = data.shape[dim]
    wanted = torch.tensor(count)
    if isinstance(size, Tensor):
        size = wanted.new_zeros(()) + size
    if torch.onnx.is_in_onnx_export() or count >= int(size):
        wanted = torch.where(wanted < size, wanted, size)
    return data.topk(wanted if torch.onnx.is_in_onnx_export() else int(wanted), dim=dim)
