"""Mask R-CNN on MobileNetV3 and on timm's backbones."""

import importlib.util
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from maskrt.checking.conversion import prove  # noqa: E402
from maskrt.core import MissingDependencyError, UnsupportedModelError, UsageError  # noqa: E402
from maskrt.export import export_model  # noqa: E402
from maskrt.export.families.timm_backbone import TimmFPN  # noqa: E402
from maskrt.export.source import load_source  # noqa: E402
from maskrt.export.zoo.maskrcnn import maskrcnn_mobilenet_v3, maskrcnn_timm  # noqa: E402

from ..detectors import enliven  # noqa: E402
from ..steady import steady_pictures  # noqa: E402

pytestmark = pytest.mark.torch
needs_timm = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="timm is not installed"
)


FEW: dict[str, Any] = {  # proposals and detections: the heads are what takes long
    "min_size": 160, "max_size": 160, "rpn_pre_nms_top_n_test": 60, "rpn_post_nms_top_n_test": 60,
    "box_detections_per_img": 12,
}  # fmt: skip


def _prove(model: Any, photos: list[np.ndarray], size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    exported = export_model(enliven(model, photos), input_size=size)
    found = prove(exported, steady_pictures(exported.model, exported.manifest, photos))
    assert found["violations"] == [], found
    assert found["instances"] >= 10, found


@pytest.mark.slow
def test_mobilenet_v3(photos: list[np.ndarray]) -> None:
    torch.manual_seed(0)
    model = maskrcnn_mobilenet_v3(5, **FEW)
    assert [m.shape[-1] for m in model.backbone(torch.zeros(1, 3, 64, 64)).values()] == [
        16, 8, 4, 2, 1,
    ]  # fmt: skip
    _prove(model, photos, (128, 160))


def test_resnet_101_has_its_name() -> None:
    with torch.device("meta"):
        model: Any = load_source("maskrt:maskrcnn_r101", num_classes=3).model
    assert len(model.backbone.body.layer3) == 23
    assert model.roi_heads.box_predictor.cls_score.out_features == 3


@needs_timm
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "resnet18", "regnetx_002", "mobilenetv3_large_100", "convnext_atto",
        "swin_tiny_patch4_window7_224",
    ],
)  # fmt: skip
def test_timm_backbone(photos: list[np.ndarray], name: str) -> None:
    torch.manual_seed(0)
    _prove(maskrcnn_timm(name, 4, **FEW), photos, (128, 160))


@needs_timm
def test_timm_backbone_by_name_has_its_own_colours() -> None:
    with torch.device("meta"):
        model: Any = load_source("maskrt:maskrcnn_timm_mobilenetv3_large_100", num_classes=4).model
    assert model.roi_heads.box_predictor.cls_score.out_features == 4
    assert model.transform.image_mean == pytest.approx([0.485, 0.456, 0.406])


@needs_timm
@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "mambaout_femto"])
def test_timm_backbone_with_channels_last_is_turned_round(name: str) -> None:
    """Swin also insists on pictures of 224 x 224 unless it is asked not to."""
    with torch.device("meta"):
        maps = TimmFPN(name, 32)(torch.zeros(2, 3, 96, 160))
    sides = [tuple(map_.shape) for map_ in maps.values()]
    assert sides == [(2, 32, 96 // s, 160 // s) for s in (4, 8, 16, 32)] + [(2, 32, 2, 3)]


@needs_timm
def test_unknown_timm_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"^timm has no model 'resnet18x': did you mean resnet18"):
        load_source("maskrt:maskrcnn_timm_resnet18x")


@needs_timm
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_tiny_patch16_224", "has maps of strides .* needs one each of"),
        ("efficientformer_l1", "does not take a picture of 64 x 96"),
    ],
)
def test_timm_model_that_is_no_pyramid_is_refused(name: str, message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message), torch.device("meta"):
        load_source(f"maskrt:maskrcnn_timm_{name}")


def test_missing_timm_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(MissingDependencyError, match="timm"):
        load_source("maskrt:maskrcnn_timm_resnet18")
