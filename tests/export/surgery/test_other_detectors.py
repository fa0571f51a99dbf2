"""Detectors of other kinds, written by their exporters, are refused by the name that users know."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torchvision.models.detection import KeypointRCNN, RetinaNet  # noqa: E402
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead  # noqa: E402
from torchvision.models.detection.keypoint_rcnn import (  # noqa: E402
    KeypointRCNNHeads,
    KeypointRCNNPredictor,
)
from torchvision.models.detection.rpn import AnchorGenerator  # noqa: E402
from torchvision.ops import MultiScaleRoIAlign, roi_pool  # noqa: E402

from maskrt.core import UnsupportedModelError  # noqa: E402
from maskrt.export.surgery import export_onnx  # noqa: E402

from ..detectors import CHANNELS, TinyBackbone  # noqa: E402
from .foreign import lively_detector  # noqa: E402
from .restated_detectron2 import Detectron2Style  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
SIZE = (96, 128)


class _Cascade(Detectron2Style):
    """A first head moves the proposals, and they are pooled again for the next one."""

    def _proposals(self, maps: list[Any], size: Any) -> Any:
        boxes = super()._proposals(maps, size)
        hidden = self.box_head(self._pool(maps[: len(self.names)], [boxes], self.bins))
        return boxes + self.codes(hidden)[:, :4]


class _PointRend(Detectron2Style):
    """Its mask head samples the finest map at points of each box."""

    def _pool(self, maps: list[Any], lists: list[Any], bins: int) -> Any:
        if bins != self.mask_bins:
            return super()._pool(maps, lists, bins)
        (boxes,), steps = lists, torch.linspace(0, 1, bins)
        sides = boxes[:, None, 2:] - boxes[:, None, :2]
        places = boxes[:, None, :2] + steps[None, :, None] * sides
        x, y = places[..., 0], places[..., 1]
        grid = torch.stack([x[:, None].expand(-1, bins, -1), y[:, :, None].expand(-1, -1, bins)], 3)
        grid = (grid / torch.tensor(SIZE[::-1]) * 2 - 1).view(1, -1, bins, 2)
        found = torch.nn.functional.grid_sample(maps[0], grid, align_corners=False)
        return found[0].unflatten(1, (-1, bins)).transpose(0, 1)


class _RoIPool(Detectron2Style):
    def _pooled(self, features: Any, rois: Any, bins: int, stride: int) -> Any:
        return roi_pool(features, rois, bins, 1 / stride)


class _ProposalsAlone(Detectron2Style):
    def forward(self, image: Any) -> Any:
        size = torch.stack([torch.as_tensor(side) for side in image.shape[-2:]])
        return self._proposals(list(self.backbone(self._padded(image, size)).values()), size)


@pytest.mark.parametrize(
    ("style", "masks", "words"),
    [
        (_Cascade, False, r"RoiAlign .*Cascade R-CNN"),
        (_PointRend, True, r"GridSample .*PointRend.*MaskRCNNConvUpsampleHead"),
        (_RoIPool, False, r"MaxRoiPool .*ROIAlignV2"),
        (_ProposalsAlone, False, "a region proposal network alone"),
    ],
)
def test_of_detectron2(
    style: Callable[..., Any], masks: bool, words: str, photos: list[np.ndarray], tmp_path: Path
) -> None:
    model, shown = lively_detector(photos, SIZE)
    picture = torch.from_numpy(shown[0].copy()).permute(2, 0, 1).float()
    restated = style(model, SIZE, masks=masks).eval()
    path = tmp_path / "other.onnx"
    torch.onnx.export(restated, (picture,), str(path), dynamo=False, opset_version=17)
    with pytest.raises(UnsupportedModelError, match=words):
        export_onnx(path)


def _keypoint_rcnn(backbone: TinyBackbone, sizes: tuple[tuple[int], ...], **given: Any) -> Any:
    return KeypointRCNN(
        backbone, None, rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 3),
        box_roi_pool=MultiScaleRoIAlign(["0", "1"], 5, 2), box_head=TwoMLPHead(CHANNELS * 25, 16),
        box_predictor=FastRCNNPredictor(16, 2),
        keypoint_roi_pool=MultiScaleRoIAlign(["0", "1"], 10, 2),
        keypoint_head=KeypointRCNNHeads(CHANNELS, (12,)),
        keypoint_predictor=KeypointRCNNPredictor(12, 17),
        rpn_pre_nms_top_n_test=20, rpn_post_nms_top_n_test=10, **given,
    )  # fmt: skip


def _retinanet(backbone: TinyBackbone, sizes: tuple[tuple[int], ...], **given: Any) -> Any:
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 3)
    return RetinaNet(backbone, 3, anchor_generator=anchors, topk_candidates=20, **given)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_keypoint_rcnn, "a Keypoint R-CNN"),
        (_retinanet, "no RoiAlign.*one of a single stage, as RetinaNet"),
    ],
)
def test_of_torchvision(make: Callable[..., Any], words: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = TinyBackbone(2)
    model = make(backbone, ((16,), (32,), (64,)), min_size=SIZE[0], max_size=SIZE[1]).eval()
    path = tmp_path / "other.onnx"
    picture = torch.rand(3, *SIZE)
    torch.onnx.export(model, ([picture],), str(path), dynamo=False, opset_version=17)
    with pytest.raises(UnsupportedModelError, match=words):
        export_onnx(path)
