"""YOLACT and CondInst set up as mmdetection's, against its steps, to the picture's pixels."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from maskrt.core import InputSpec  # noqa: E402
from maskrt.export.families.backbones import resnet_fpn  # noqa: E402
from maskrt.export.families.condinst import CondInst  # noqa: E402
from maskrt.export.families.one_stage import frozen, padded  # noqa: E402
from maskrt.export.families.registry import family_of, translate  # noqa: E402
from maskrt.export.families.yolact import Anchors, Yolact  # noqa: E402
from maskrt.export.families.yolact_pyramid import yolact_resnet  # noqa: E402
from maskrt.runtime.letterbox import placement  # noqa: E402
from maskrt.runtime.postprocess import instances_of  # noqa: E402

from . import mmdetection_steps  # noqa: E402
from .lively import batch_of, enliven_condinst, enliven_yolact  # noqa: E402

pytestmark = pytest.mark.torch

_NEAR = 1e-4  # probabilities nearer to a half than float32 in the network
_MARKERS = {"yolact": "bbox_head.conv_coeff.weight", "condinst": "bbox_head.controller.weight"}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _as_mmdetections(model: Any, family: str) -> Any:
    """Set `model` up as a checkpoint of mmdetection does; none of its own parameters is there."""
    translate(model, {_MARKERS[family]: torch.zeros(1)})
    return model


def _found(model: Any, photo: np.ndarray, size: tuple[int, int]) -> tuple[Any, Any]:
    """Return what the eager model and its graph find, in the pixels of the canvas itself."""
    family, spec = family_of(model), InputSpec(*size)
    canvas = np.stack([photo])
    with torch.no_grad():
        values = family.graph(model, spec)(torch.from_numpy(canvas))
    graph = dict(zip(("boxes", "scores", "labels", "masks", "count"), values, strict=True))
    results = (family.reference(model, spec).run(canvas), {n: v.numpy() for n, v in graph.items()})
    place = placement(*size, spec)
    frame = family.mask_frame(model)
    eager, static = (instances_of(one, 0, place, mask_frame=frame) for one in results)
    return eager, static


def _same(found: Any, expected: list[mmdetection_steps.Instance]) -> None:
    assert len(expected) >= 10
    assert found.labels.tolist() == [one.label + 1 for one in expected]
    np.testing.assert_allclose(found.scores, [one.score for one in expected], atol=1e-4)
    np.testing.assert_allclose(found.boxes, [one.box for one in expected], atol=1e-2)
    probabilities = np.stack([one.probabilities for one in expected])
    clear = np.abs(probabilities - 0.5) > _NEAR
    inside = found.masks & clear
    assert np.array_equal(inside, (probabilities > 0.5) & clear)
    assert sum(mask.any() for mask in inside) >= 5


def _photo(photos: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    return np.ascontiguousarray(photos[0][60 : 60 + size[0], 150 : 150 + size[1]])


@pytest.mark.parametrize(
    ("size", "limit"),
    [((110, 170), 1000), ((96, 128), 40)],  # 28 x 44 prototypes; some of a level go
)
def test_yolact(photos: list[np.ndarray], size: tuple[int, int], limit: int) -> None:
    model = Yolact(yolact_resnet(18, 16), 4, channels=16, prototypes=8, max_detections=20)
    model = _as_mmdetections(model, "yolact")
    model.inference = replace(model.inference, level_candidates=limit)
    photo = _photo(photos, size)
    enliven_yolact(model, [photo], size)
    with torch.no_grad():
        model.logits.bias[:: model.num_classes] -= 2.0  # more of a level than `limit`
        heads = frozen(model).heads(model.backbone(batch_of([photo], size, model)))
    levels = [
        (
            _background_last(level.logits[0], 4),
            level.codes[0].numpy(),
            level.coefficients[0].numpy(),
        )
        for level in heads.levels
    ]
    expected = mmdetection_steps.yolact(
        levels, heads.prototypes[0].numpy(), size, nms_pre=limit, most=20,
        scales=(24, 48, 96, 192, 384), strides=[550 / n for n in (69, 35, 18, 9, 5)],
    )  # fmt: skip
    for found in _found(model, photo, size):
        _same(found, expected)


def _background_last(logits: Any, classes: int) -> np.ndarray:
    rows = logits.unflatten(0, (-1, classes))
    return torch.cat([rows[:, 1:], rows[:, :1]], 1).flatten(0, 1).numpy()


@pytest.mark.parametrize("limit", [1000, 15])
def test_condinst(photos: list[np.ndarray], limit: int) -> None:
    size = (96, 160)
    backbone = resnet_fpn(18, channels=32, first=3)
    model = CondInst(backbone, 4, channels=32, convs=1, mask_channels=16, max_detections=20)
    model = _as_mmdetections(model, "condinst")
    model.inference = replace(model.inference, candidates=limit)
    photo = _photo(photos, size)
    enliven_condinst(model, [photo], size)
    with torch.no_grad():
        heads = frozen(model).heads(model.backbone(padded(batch_of([photo], size, model))))
    levels = [
        tuple(v[0].numpy() for v in (one.logits, one.distances, one.centerness, parameters))
        for one, parameters in zip(heads.levels, heads.parameters, strict=True)
    ]
    expected = mmdetection_steps.condinst(
        levels, heads.features[0].numpy(), size, strides=(8, 16, 32, 64, 128), nms_pre=limit,
        most=20,
    )  # fmt: skip
    for found in _found(model, photo, size):
        _same(found, expected)


def test_anchors_of_mmdetection_keep_their_strides_and_given_ones_stay() -> None:
    backbone = yolact_resnet(18, 16)
    theirs = _as_mmdetections(Yolact(backbone, 4, channels=16), "yolact")
    places = theirs.anchors.boxes([(2, 3), *[(1, 1)] * 4], (512, 768))
    assert places[3].tolist() == pytest.approx(  # the second place across, ratio 1/2
        [550 / 69 * 1.5, 550 / 69 * 0.5, 24 * 2**0.5, 24 / 2**0.5]
    )
    own = Yolact(backbone, 4, channels=16, anchors=Anchors(scales=(16, 32, 64, 128, 256)))
    assert _as_mmdetections(own, "yolact").anchors.strides is None
    moved = Yolact(backbone, 4, channels=16, anchors=Anchors(strides=(8, 16, 32, 64, 128)))
    assert _as_mmdetections(moved, "yolact").anchors.strides == (8, 16, 32, 64, 128)
