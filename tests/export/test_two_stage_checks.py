"""What the family cannot export faithfully it refuses, and says which part."""

from collections import OrderedDict
from typing import Any

import pytest

torch = pytest.importorskip("torch")
import torchvision  # noqa: E402
from torch import nn  # noqa: E402
from torchvision.models.detection import FasterRCNN  # noqa: E402
from torchvision.models.detection._utils import BoxCoder  # noqa: E402
from torchvision.models.detection.roi_heads import RoIHeads  # noqa: E402
from torchvision.models.detection.rpn import RegionProposalNetwork  # noqa: E402

from maskrt.core import InputSpec, UnsupportedModelError, UsageError  # noqa: E402
from maskrt.export import export_model  # noqa: E402
from maskrt.export.families.torchvision_two_stage import TwoStage  # noqa: E402

from .detectors import tiny_mask_rcnn, tiny_one_map  # noqa: E402

pytestmark = pytest.mark.torch


class _OwnProposals(RegionProposalNetwork):
    pass


class _OwnHeads(RoIHeads):
    pass


class _OwnCoder(BoxCoder):
    pass


class _OwnForward(FasterRCNN):
    def forward(self, images: Any, targets: Any = None) -> Any:
        return super().forward(images, targets)


def _refused(model: Any, error: type[Exception], message: str) -> Exception:
    with pytest.raises(error, match=message) as caught:
        export_model(model, input_size=(64, 64))
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("rpn", _OwnProposals),
        ("roi_heads", _OwnHeads),
        ("rpn.box_coder", _OwnCoder),
        ("roi_heads.box_coder", _OwnCoder),
    ],
)
def test_subclassed_part(path: str, own: type) -> None:
    model: Any = tiny_one_map()
    part = model
    for name in path.split("."):
        part = getattr(part, name)
    part.__class__ = own
    _refused(model, UnsupportedModelError, rf"^{path} is a {own.__name__}, and only torchvision's")


def test_part_of_another_kind() -> None:
    model: Any = tiny_one_map()
    model.roi_heads = nn.Identity()
    _refused(model, UnsupportedModelError, "^roi_heads is a Identity")


def test_overridden_forward() -> None:
    model: Any = tiny_one_map()
    model.__class__ = _OwnForward
    _refused(model, UnsupportedModelError, r"^_OwnForward\.forward is not torchvision's")


@pytest.mark.parametrize(
    ("setting", "value"), [("score_thresh", float("nan")), ("detections_per_img", 0)]
)
def test_setting_that_detects_nothing_is_named(setting: str, value: float) -> None:
    model: Any = tiny_one_map()
    setattr(model.roi_heads, setting, value)
    error = _refused(model, UsageError, rf"^roi_heads\.{setting} is ")
    assert ("detections_per_img" in str(error)) is (setting == "detections_per_img")


class _DependsOnData(nn.Module):
    def forward(self, x: Any) -> Any:
        return x * 2 if x.sum() > 0 else x


def test_layer_that_cannot_be_exported_is_one_sentence() -> None:
    model: Any = tiny_one_map()
    heads = model.roi_heads
    heads.box_head = nn.Sequential(heads.box_head, _DependsOnData())
    error = _refused(model, UnsupportedModelError, r"^the model cannot be exported to ONNX \(\w+: ")
    assert isinstance(error.__cause__, RuntimeError)
    assert "\x1b" not in str(error)
    assert len(str(error)) < 400


def test_pictures_are_cast_before_they_are_transposed() -> None:
    graph = export_model(tiny_mask_rcnn(), input_size=(64, 64)).model.graph
    first = [node for node in graph.node if "images" in node.input]
    assert {node.op_type for node in first} == {"Cast"}
    cast = {node.output[0] for node in first}
    second = [node.op_type for node in graph.node if cast & set(node.input)]
    assert "Transpose" in second


def test_two_maps_of_one_stride_are_one_level() -> None:
    """Of MobileNet's two maps of stride 32, torchvision pools boxes of any size from the first."""
    model = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=4, min_size=1024, max_size=1024
    ).eval()
    stage = TwoStage(model, InputSpec(1024, 1024))
    torch.manual_seed(0)
    features = OrderedDict((name, torch.randn(1, 256, 32, 32)) for name in ("0", "1"))
    boxes = torch.tensor([[3.0, 5.0, 990.0, 1001.0], [10.0, 20.0, 60.0, 90.0]])
    pool = model.roi_heads.box_roi_pool
    with torch.no_grad():
        expected = pool(features, [boxes], [(1024, 1024)])
        found = stage._pool(pool, features, boxes[None])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
