"""What mmdeploy makes of mmdetection's two-stage detectors for TensorRT, between their layers.

Restated from files that mmdeploy 1.3.1 wrote of mmdet 3.3.0, read node by node. It is what it
writes for ONNX Runtime but for three operators of its own domain: each level's candidates are
padded by as many rows of zeros as are taken and chosen by GatherTopk, TRTBatchedNMS suppresses, and
MMCVMultiLevelRoiAlign pools. No operator is given a type, so labels count as int64 in the file and
are added to int64 without a Cast, though TensorRT has int32.
"""

from typing import Any

import torch
from torch import Tensor

from .restated_mmdeploy import MMDeployStyle, squeezed

__all__ = ["MMDeployPluginStyle"]


class _GatherTopk(torch.autograd.Function):
    """`data[0, place]` of `data [1, N, C]` and `place [1, K]`."""

    @staticmethod
    def forward(ctx: Any, data: Tensor, place: Tensor) -> Tensor:
        return data[torch.arange(data.size(0)).unsqueeze(-1), place, ...]

    @staticmethod
    def symbolic(g: Any, data: Any, place: Any) -> Any:
        return g.op("mmdeploy::GatherTopk", data, place, outputs=1)


class _TRTBatchedNMS(torch.autograd.Function):
    """A node alone: run in PyTorch it gives zeros of the right shapes."""

    @staticmethod
    def forward(
        ctx: Any, boxes: Tensor, scores: Tensor, iou: float, score: float, keep: int
    ) -> Any:
        count = min(scores.shape[1], keep)
        return torch.zeros(1, count, 5), torch.zeros(1, count, dtype=torch.int64)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, iou: float, score: float, keep: int) -> Any:
        classes = scores.type().sizes()[-1] if scores.type().sizes() else 0
        return g.op(
            "mmdeploy::TRTBatchedNMS", boxes, scores, num_classes_i=classes,
            background_label_id_i=-1, iou_threshold_f=iou, score_threshold_f=score, topk_i=5000,
            keep_topk_i=keep, is_normalized_i=False, clip_boxes_i=False, return_index_i=False,
            outputs=2,
        )  # fmt: skip


class _MultiLevelRoiAlign(torch.autograd.Function):
    """A node alone, as above."""

    @staticmethod
    def forward(
        ctx: Any, bins: int, ratio: int, finest: int, strides: list, aligned: bool, *inputs: Tensor
    ) -> Tensor:
        return torch.zeros(inputs[0].shape[0], inputs[1].shape[1], bins, bins)

    @staticmethod
    def symbolic(
        g: Any, bins: int, ratio: int, finest: int, strides: list, aligned: bool, *inputs: Any
    ) -> Any:
        return g.op(
            "mmdeploy::MMCVMultiLevelRoiAlign", *inputs, output_height_i=bins, output_width_i=bins,
            pool_mode_i=1, sampling_ratio_i=ratio, roi_scale_factor_f=1.0, finest_scale_i=finest,
            featmap_strides_f=strides, aligned_i=aligned,
        )  # fmt: skip


class MMDeployPluginStyle(MMDeployStyle):
    """The same with mmdeploy's plugins."""

    def _top(self, score: Tensor, code: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        most = self.rpn._pre_nms_top_n["testing"]
        score, code, anchors = (_padded(x, most) for x in (score, code, anchors))
        _, place = squeezed(score, 2).topk(most)
        chosen = []
        for data in (code, score):
            rows = _GatherTopk.apply(data, place).to(data.dtype)
            chosen.append(rows.reshape([*place.shape, *data.shape[2:]]))
        return chosen[1], chosen[0], anchors[place.new_zeros((1, 1)), place]

    def _multiclass(
        self, boxes: Tensor, scores: Tensor, per_class: int, iou: float, score: float, keep: int
    ) -> tuple[Tensor, Tensor]:
        boxes = boxes.unsqueeze(2)
        dets, labels = _TRTBatchedNMS.apply(boxes, scores, iou, score, min(per_class, keep))
        shape, own = dets.shape, labels.shape
        return (
            dets.reshape([boxes.size(0), *shape[1:]]), labels.reshape([boxes.size(0), *own[1:]])
        )  # fmt: skip

    def _pool(self, maps: list[Tensor], rois: Tensor, bins: int) -> Tensor:
        strides = [float(self.size[0] / int(m.shape[-2])) for m in maps]
        return _MultiLevelRoiAlign.apply(
            bins, self.ratio, self.finest, strides, self.aligned, rois, *maps
        )


def _padded(data: Tensor, count: int) -> Tensor:
    zeros = data.new_zeros([data.shape[0], count, data.shape[2]])
    return torch.cat([data, zeros], dim=1)
