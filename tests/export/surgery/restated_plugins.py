"""Detectors of TensorRT's plugins, as NVIDIA's detectron2 sample rewrites them, restated.

Published as `samples/python/detectron2/create_onnx.py` in NVIDIA/TensorRT: one EfficientNMS_TRT
decodes and suppresses all anchors, PyramidROIAlign_TRT pools boxes that are parts of the picture,
another EfficientNMS_TRT decodes the classes' boxes from those, and a Gather takes each one's mask.
`AbsoluteStyle` is the same in pixels, with ROIAlign_TRT and BatchedNMS_TRT.
"""

from typing import Any

import torch
from torch import Tensor, nn

from .restated_layers import Layers

__all__ = ["AbsoluteStyle", "PluginStyle"]

_CENTRE_SIZE = [[0.5, 0, -1, 0], [0, 0.5, 0, -1], [0.5, 0, 1, 0], [0, 0.5, 0, 1]]


class _Plugin(torch.autograd.Function):
    """A node of a plugin; run in PyTorch it gives zeros of the right shapes."""

    @staticmethod
    def forward(ctx: Any, name: str, attributes: dict, shapes: list, *inputs: Tensor) -> Any:
        made = tuple(torch.zeros(shape, dtype=kind) for shape, kind in shapes)
        return made if len(made) > 1 else made[0]

    @staticmethod
    def symbolic(g: Any, name: str, attributes: dict, shapes: list, *inputs: Any) -> Any:
        made = g.op(f"TRT::{name}", *inputs, outputs=len(shapes), **attributes)
        for value, (shape, dtype) in zip(made if len(shapes) > 1 else [made], shapes, strict=True):
            value.setType(inputs[0].type().with_sizes(list(shape)).with_dtype(dtype))
        return made


def _nms(name: str, attributes: dict, most: int, *inputs: Tensor) -> tuple[Tensor, ...]:
    label = torch.int32 if name == "EfficientNMS_TRT" else torch.float32
    shapes = [((1, 1), torch.int32), ((1, most, 4), torch.float32), ((1, most), torch.float32),
              ((1, most), label)]  # fmt: skip
    return _Plugin.apply(name, attributes, shapes, *inputs)


class _Style(nn.Module):
    def __init__(self, model: Any, size: tuple[int, int], most: int) -> None:
        super().__init__()
        self.layers, self.size, self.most = Layers(model, size), size, most
        self.heads, self.rpn = model.roi_heads, model.rpn
        self.detections = model.roi_heads.detections_per_img

    def _maps(self, picture: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Return the maps that are pooled, objectness `[1, N, 1]` and codes `[1, N, 4]`."""
        maps = self.layers.backbone((picture - self.layers.mean) / self.layers.std)
        logits, codes = self.layers.head(list(maps.values()))
        scores = [s.permute(0, 2, 3, 1).reshape(1, -1, 1) for s in logits]
        deltas = [d.permute(0, 2, 3, 1).reshape(1, -1, 4) for d in codes]
        return [maps[n] for n in self.layers.names], torch.cat(scores, 1), torch.cat(deltas, 1)

    def _masks(self, pooled: Tensor, labels: Tensor) -> Tensor:
        classes, logits = self.layers.classes, self.layers.mask_head(pooled)
        side = logits.shape[-1]
        starts = torch.arange(self.detections, dtype=torch.int32) * classes
        rows = labels.reshape(self.detections) + starts
        own = logits.reshape(self.detections * classes, side, side)[rows.long()]
        return own.sigmoid().reshape(1, self.detections, side, side)


class PluginStyle(_Style):
    """With four maps, boxes as parts of the picture."""

    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        """Return count, boxes, scores, classes and masks of `picture [1, 3, H, W]`."""
        maps, scores, deltas = self._maps(picture)
        height, width = self.size
        whole = torch.tensor([width, height, width, height], dtype=torch.float32)
        to_centres = torch.tensor(_CENTRE_SIZE)
        anchors = (torch.cat(self.layers.anchors) @ to_centres / whole)[None]
        first = _nms("EfficientNMS_TRT", self._suppression(0.01, self.rpn.nms_thresh, self.most, 1),
                     self.most, deltas, scores, anchors)  # fmt: skip
        pooled = self._pool(first[1], maps, self.layers.bins, self.most)
        hidden = self.layers.box_head(pooled.reshape(self.most, -1))
        own = self.layers.score(hidden).softmax(-1).reshape(1, self.most, -1)
        codes = self.layers.codes(hidden).reshape(1, self.most, -1, 4)
        codes = codes * torch.tensor([0.1, 0.1, 0.2, 0.2])
        second = _nms(
            "EfficientNMS_TRT",
            self._suppression(self.heads.score_thresh, self.heads.nms_thresh, self.detections, 0),
            self.detections, codes, own[..., : self.layers.classes], first[1] @ to_centres,
        )  # fmt: skip
        pooled = self._pool(second[1], maps, self.layers.mask_bins, self.detections)
        pooled = pooled.reshape(self.detections, -1, *pooled.shape[-2:])
        return *second, self._masks(pooled, second[3])

    def _suppression(self, score: float, iou: float, most: int, activation: int) -> dict:
        return {
            "plugin_version_s": "1", "background_class_i": -1, "max_output_boxes_i": most,
            "score_threshold_f": score, "iou_threshold_f": iou, "score_activation_i": activation,
            "box_coding_i": 1,
        }  # fmt: skip

    def _pool(self, boxes: Tensor, maps: list[Tensor], bins: int, count: int) -> Tensor:
        attributes = {
            "plugin_version_s": "1", "fpn_scale_i": 60, "pooled_size_i": bins,
            "image_size_i": list(self.size), "roi_coords_absolute_i": 0, "roi_coords_swap_i": 0,
            "roi_coords_transform_i": 2, "sampling_ratio_i": 0,
        }  # fmt: skip
        shape = (1, count, maps[0].shape[1], bins, bins)
        return _Plugin.apply("PyramidROIAlign_TRT", attributes, [(shape, torch.float32)],
                             boxes, *maps)  # fmt: skip


class AbsoluteStyle(_Style):
    """With one map, boxes in pixels, no masks; the proposals' boxes are the detections'."""

    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        """Return count, boxes, scores and classes of `picture [1, 3, H, W]`."""
        maps, scores, deltas = self._maps(picture)
        anchors = torch.cat(self.layers.anchors)[None]
        sides = anchors[..., 2:] - anchors[..., :2]
        boxes = anchors + torch.cat([deltas[..., :2] * sides] * 2, -1)
        first = _nms("EfficientNMS_TRT", {
            "max_output_boxes_i": self.most, "score_threshold_f": 0.02, "iou_threshold_f": 0.7,
            "score_activation_i": 1, "class_agnostic_i": 1,
        }, self.most, boxes, scores)  # fmt: skip
        rois = first[1].reshape(self.most, 4)
        features = maps[0]
        attributes = {
            "output_height_i": 5, "output_width_i": 5, "sampling_ratio_i": 2,
            "spatial_scale_f": features.shape[-1] / self.size[1], "mode_i": 1,
            "coordinate_transformation_mode_i": 0,
        }  # fmt: skip
        pooled = _Plugin.apply(
            "ROIAlign_TRT", attributes, [((self.most, features.shape[1], 5, 5), torch.float32)],
            features, rois, torch.zeros(self.most, dtype=torch.int32),
        )  # fmt: skip
        own = self.layers.score(self.layers.box_head(pooled)).softmax(-1)[None]
        return _nms("BatchedNMSDynamic_TRT", {
            "shareLocation_i": 1, "backgroundLabelId_i": -1, "numClasses_i": self.layers.classes,
            "topK_i": 40, "keepTopK_i": self.detections, "scoreThreshold_f": 0.1,
            "iouThreshold_f": 0.5, "isNormalized_i": 1, "clipBoxes_i": 0,
        }, self.detections, first[1].reshape(1, self.most, 1, 4),
            own[..., : self.layers.classes])  # fmt: skip
