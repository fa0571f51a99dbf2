"""The canonical graph in ONNX Runtime finds what the eager torchvision model finds."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")
import torchvision  # noqa: E402
from torchvision.models.detection import FasterRCNN  # noqa: E402
from torchvision.models.detection.rpn import AnchorGenerator  # noqa: E402

from maskrt.checking.borderline import shaken  # noqa: E402
from maskrt.checking.conversion import prove  # noqa: E402
from maskrt.core.operator_names import operator_of  # noqa: E402
from maskrt.export import Export, export_model  # noqa: E402
from maskrt.runtime.check import few_instances  # noqa: E402

from .detectors import enliven, tiny_mask_rcnn, tiny_one_map  # noqa: E402
from .steady import canonical, only_steady, steady_pictures  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def _seed() -> None:
    """The builders draw weights: the same ones every time."""
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def lively(photos: list[np.ndarray]) -> Any:
    """A small Mask R-CNN that detects; a test that changes it takes a copy."""
    torch.manual_seed(0)
    return enliven(tiny_mask_rcnn(), photos)


@pytest.fixture(scope="module")
def small(lively: Any) -> Export:
    """Its export; a test that changes the graph takes a copy."""
    return export_model(copy.deepcopy(lively), input_size=(128, 128))


def _prove(model: Any, photos: list[np.ndarray], least: int, **options: Any) -> onnx.ModelProto:
    """Export, compare on photographs, and see that enough was found to mean something."""
    return _prove_export(export_model(enliven(model, photos), **options), photos, least)


def _prove_export(exported: Export, photos: list[np.ndarray], least: int) -> onnx.ModelProto:
    found = prove(exported, steady_pictures(exported.model, exported.manifest, photos))
    assert found["violations"] == [], found
    assert found["instances"] >= least, found
    return exported.model


@pytest.mark.parametrize(
    ("options", "size", "batch"),
    [
        ({"levels": 2, "num_classes": 3}, (100, 170), 2),  # not multiples of 32, not square
        ({"levels": 4, "box_detections_per_img": 7, "box_nms_thresh": 0.3}, (160, 96), 3),
        ({"rpn_post_nms_top_n_test": 20, "rpn_score_thresh": 0.4}, (128, 128), 1),
    ],
)
def test_custom_mask_rcnn(
    photos: list[np.ndarray], options: dict[str, Any], size: tuple[int, int], batch: int
) -> None:
    _check_nodes(_prove(tiny_mask_rcnn(**options), photos, 10, input_size=size, batch=batch))


def test_mask_rcnn(small: Export, photos: list[np.ndarray]) -> None:
    _check_nodes(_prove_export(small, photos, 10))


def _check_nodes(model: onnx.ModelProto) -> None:
    kinds = {operator_of(node.op_type) for node in model.graph.node if node.domain == "maskrt"}
    assert kinds == {"MultilevelRoIAlign", "BatchedNMS"}
    assert not {"NonZero", "NonMaxSuppression", "If", "Loop", "RoiAlign"} & {
        node.op_type for node in model.graph.node
    }


def test_one_feature_map_without_masks(photos: list[np.ndarray]) -> None:
    model = _prove(tiny_one_map(), photos, 10, input_size=(96, 128))
    assert [o.name for o in model.graph.output] == ["boxes", "scores", "labels", "count"]


def test_own_mask_predictor_takes_the_general_path(photos: list[np.ndarray]) -> None:
    own = torch.nn.Conv2d(12, 5, 1)
    model = tiny_mask_rcnn()
    model.roi_heads.mask_predictor = _Own(own)
    _prove(model, photos, 10, input_size=(128, 128))


class _Own(torch.nn.Module):
    def __init__(self, last: Any) -> None:
        super().__init__()
        self.mask_fcn_logits = last

    def forward(self, x: Any) -> Any:
        return self.mask_fcn_logits(x)


def test_picture_without_detections(lively: Any, photos: list[np.ndarray]) -> None:
    model = copy.deepcopy(lively)
    model.roi_heads.score_thresh = 1.0
    exported = export_model(model, input_size=(128, 128))
    found = prove(exported, photos)
    assert found["instances"] == 0
    assert found["violations"] == []
    assert found["warnings"] == [few_instances(0)]


def test_proof_rejects_another_model(small: Export, photos: list[np.ndarray]) -> None:
    """The checker can fail: one weight of the graph changed by a tenth is seen."""
    exported = replace(small, model=copy.deepcopy(small.model))
    for tensor in exported.model.graph.initializer:
        if tensor.name.endswith("cls_score.weight"):
            value = onnx.numpy_helper.to_array(tensor) * 1.1
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    assert prove(exported, photos)["violations"]


def test_a_picture_with_a_score_on_the_threshold_is_not_steady(
    lively: Any, small: Export, photos: list[np.ndarray]
) -> None:
    """Rounding decides whether the last instance is there, and the rule sees it."""
    (photo,) = steady_pictures(small.model, small.manifest, photos, 1)
    scores = canonical(small.model, small.manifest).predict(photo).scores
    model = copy.deepcopy(lively)
    model.roi_heads.score_thresh = float(scores[len(scores) // 2])
    on_the_edge = export_model(model, input_size=(128, 128))
    assert list(only_steady(small.model, small.manifest, [photo]))
    assert not list(only_steady(on_the_edge.model, on_the_edge.manifest, [photo]))


def test_shaking_moves_weights_by_what_it_says(small: Export) -> None:
    plain, moved = (
        {t.name: onnx.numpy_helper.to_array(t) for t in m.graph.initializer}
        for m in (small.model, shaken(small.model, 1e-6))
    )
    parts = [
        np.abs(moved[name] / value - 1)[value != 0]
        for name, value in plain.items()
        if not np.array_equal(moved[name], value)
    ]
    assert len(parts) > 10
    assert 3e-7 < np.mean(np.concatenate([p.ravel() for p in parts])) < 3e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "batch", "classes"),
    [
        ("maskrcnn_resnet50_fpn", (256, 320), 1, 91),
        ("maskrcnn_resnet50_fpn_v2", (256, 256), 1, 5),
        ("fasterrcnn_resnet50_fpn", (250, 333), 2, 21),
        ("fasterrcnn_resnet50_fpn_v2", (256, 256), 1, 91),
        ("fasterrcnn_mobilenet_v3_large_fpn", (320, 224), 1, 4),
        ("fasterrcnn_mobilenet_v3_large_320_fpn", (320, 320), 3, 91),
    ],
)
def test_torchvision_detector(
    photos: list[np.ndarray], name: str, size: tuple[int, int], batch: int, classes: int
) -> None:
    model = torchvision.models.get_model(
        name, weights=None, weights_backbone=None, num_classes=classes,
        min_size=min(size), max_size=max(size), rpn_pre_nms_top_n_test=60,
        rpn_post_nms_top_n_test=60, box_detections_per_img=12,  # of many, some lie on a threshold
    )  # fmt: skip
    _prove(model, photos, 10, input_size=size, batch=batch)


@pytest.mark.slow
def test_frozen_batch_norms_are_folded(photos: list[np.ndarray]) -> None:
    """A pretrained torchvision backbone has FrozenBatchNorm2d: no Mul or Add may stay by a Conv."""
    backbone = torchvision.models.detection.backbone_utils.resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, trainable_layers=5,
        norm_layer=torchvision.ops.FrozenBatchNorm2d,
    )  # fmt: skip
    for module in backbone.modules():
        if isinstance(module, torchvision.ops.FrozenBatchNorm2d):
            module.weight.uniform_(0.5, 1.5)
            module.bias.uniform_(-0.2, 0.2)
            module.running_mean.uniform_(-0.1, 0.1)
    sizes = tuple((s,) for s in (16, 32, 64, 128, 256))
    detector = FasterRCNN(
        backbone, 4, min_size=128, max_size=128,
        rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5),
        rpn_post_nms_top_n_test=100,
    )  # fmt: skip
    model = _prove(detector, photos, 10, input_size=(128, 128))
    producers = {o: n for n in model.graph.node for o in n.output}
    constants = {t.name for t in model.graph.initializer}
    left = [
        node.name
        for node in model.graph.node
        if node.op_type in ("Mul", "Add")
        and any(i in producers and producers[i].op_type == "Conv" for i in node.input)
        and any(i in constants for i in node.input)
    ]
    assert left == []
