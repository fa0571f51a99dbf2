"""MultilevelRoIAlign's kernel, run on the host as a device would run it."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torchvision.ops import roi_align  # noqa: E402

from maskrt.plugins.multilevel_roialign.reference import (  # noqa: E402
    assign_levels,
    multilevel_roialign,
)

from .host import run_every_way, run_on_host, run_sanitized  # noqa: E402

pytestmark = pytest.mark.torch

BASE: dict[str, Any] = {
    "output_height": 3,
    "output_width": 4,
    "sampling_ratio": 2,
    "aligned": 0,
    "mode": "avg",
    "spatial_scales": [0.25, 0.125, 0.0625],
    "canonical_scale": 20.0,
    "canonical_level": 3,
    "level_epsilon": 1e-6,
    "min_level": 2,
    "feature_scale": 1.0,
}
VARIANTS: list[dict[str, Any]] = [
    {},
    {"aligned": 1, "sampling_ratio": 1},
    {"sampling_ratio": 0},
    {"sampling_ratio": 0, "aligned": 1, "spatial_scales": [0.5]},
    {"mode": "max", "sampling_ratio": 3},
    {"mode": "max", "sampling_ratio": 0, "aligned": 1},
    {"output_height": 7, "output_width": 7, "spatial_scales": [1.0]},
    {"output_height": 1, "output_width": 1, "spatial_scales": [0.5, 0.25, 0.2, 0.1, 0.05, 0.02]},
]
CASES = 300  # a variant; eight variants


def _draw(
    generator: np.random.Generator, levels: int, dtype: str = "float32"
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Boxes of every kind, and feature maps of any size and number of channels."""
    batch, count = generator.integers(1, 3), generator.integers(0, 7)
    channels = int(generator.integers(1, 10))
    start = generator.uniform(-40, 100, (batch, count, 2))
    boxes = np.concatenate([start, start + generator.exponential(30, start.shape)], -1)
    kind = generator.integers(0, 12, (batch, count))
    boxes[kind == 0, 2:] = boxes[kind == 0, :2]  # without area
    boxes[kind == 1, 2] -= 200  # of negative width
    boxes[kind == 2] += 5000  # far outside
    boxes[kind == 3, 3] = np.nan
    boxes[kind == 4, 0] = -np.inf
    boxes[kind == 5, 2:] = 1e12
    boxes[kind == 6] = np.round(boxes[kind == 6])
    features = []
    for _ in range(levels):
        shape = (batch, channels, *generator.integers(1, 14, 2))
        if dtype == "int8":
            features.append(generator.integers(-128, 128, shape).astype(np.int8))
        else:
            features.append(generator.normal(size=shape).astype(dtype))
    return boxes.astype(np.float32), features


def _expected(boxes: np.ndarray, features: list[np.ndarray], a: dict[str, Any]) -> np.ndarray:
    """torchvision's roi_align on each box's level; the reference where torchvision has none."""
    maps = [torch.from_numpy(f.astype(np.float32) * a["feature_scale"]) for f in features]
    if a["mode"] == "max":
        unit = {**a, "feature_scale": 1.0}
        return multilevel_roialign(torch.from_numpy(boxes), maps, **unit).numpy()
    usable = np.abs(boxes).sum(-1) <= 1e9
    if a["aligned"] and a["sampling_ratio"] == 0:  # torchvision fails on them; they have no samples
        usable &= (boxes[..., 2:] >= boxes[..., :2]).all(-1)
    safe = torch.from_numpy(np.where(usable[..., None], boxes, np.float32(0)))
    options = ("canonical_scale", "canonical_level", "level_epsilon", "min_level")
    level = assign_levels(safe, levels=len(maps), **{k: a[k] for k in options})
    size = (a["output_height"], a["output_width"])
    result = torch.zeros(*boxes.shape[:2], maps[0].shape[1], *size)
    for index, (feature, scale) in enumerate(zip(maps, a["spatial_scales"], strict=True)):
        here = (level == index).nonzero()
        rois = torch.cat([here[:, :1].float(), safe[here[:, 0], here[:, 1]]], 1)
        pooled = roi_align(feature, rois, size, scale, a["sampling_ratio"], bool(a["aligned"]))
        result[here[:, 0], here[:, 1]] = pooled
    return np.where(usable[..., None, None, None], result.numpy(), 0)


@pytest.mark.parametrize("change", VARIANTS, ids=str)
def test_drawn_cases_equal_torchvision(change: dict[str, Any]) -> None:
    a = {**BASE, **change}
    generator = np.random.default_rng(7)
    for case in range(CASES):
        boxes, features = _draw(generator, len(a["spatial_scales"]))
        (found,) = run_on_host("MultilevelRoIAlign", a, [boxes, *features])
        # coordinates of up to 5000 feature pixels leave 3e-4 of a pixel to float32
        np.testing.assert_allclose(
            found, _expected(boxes, features, a), atol=1e-4, rtol=1e-5, err_msg=f"case {case}"
        )


@pytest.mark.parametrize(("dtype", "scale"), [("float16", 1.0), ("int8", 0.02)])
@pytest.mark.parametrize("change", [{}, {"sampling_ratio": 0}, {"mode": "max"}], ids=str)
def test_narrow_features(dtype: str, scale: float, change: dict[str, Any]) -> None:
    a = {**BASE, **change, "feature_scale": scale}
    generator = np.random.default_rng(11)
    for case in range(100):
        boxes, features = _draw(generator, 3, dtype)
        (found,) = run_on_host("MultilevelRoIAlign", a, [boxes, *features])
        assert found.dtype == (np.float16 if dtype == "float16" else np.float32)
        # FP16: the result is rounded once, to half a step of 2**-10
        np.testing.assert_allclose(
            found.astype(np.float32), _expected(boxes, features, a), err_msg=f"case {case}",
            atol=2e-3 if dtype == "float16" else 1e-4, rtol=1e-3 if dtype == "float16" else 1e-5,
        )  # fmt: skip


def test_coordinates_stay_float32_beside_float16_features() -> None:
    """At 5000 pixels FP16 would move a box by 4: the result would be another part of the map."""
    feature = np.zeros((1, 1, 1, 6000), np.float16)
    feature[..., 4999] = 1
    boxes = np.array([[[4998.75, 0, 5000.75, 1]]], np.float32)
    a = {**BASE, "spatial_scales": [1.0], "output_height": 1, "output_width": 1}
    (found,) = run_on_host("MultilevelRoIAlign", a, [boxes, feature])
    expected = _expected(boxes, [feature], a)
    assert expected[0, 0, 0, 0, 0] > 0.3
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_no_boxes() -> None:
    features = [np.ones((2, 3, 4, 4), np.float32)] * 3
    (found,) = run_on_host("MultilevelRoIAlign", BASE, [np.zeros((2, 0, 4), np.float32), *features])
    assert found.shape == (2, 0, 3, 3, 4)


@pytest.mark.parametrize("change", VARIANTS[:5], ids=str)
def test_order_of_threads_and_blocks_is_irrelevant(change: dict[str, Any]) -> None:
    a = {**BASE, **change}
    generator = np.random.default_rng(3)
    for _ in range(10):
        boxes, features = _draw(generator, len(a["spatial_scales"]))
        run_every_way("MultilevelRoIAlign", a, [boxes, *features])


@pytest.mark.slow
@pytest.mark.parametrize("change", [{}, {"sampling_ratio": 0}], ids=str)
def test_sanitizers_find_nothing(change: dict[str, Any]) -> None:
    a = {**BASE, **change}
    generator = np.random.default_rng(5)
    for _ in range(3):
        boxes, features = _draw(generator, 3)
        (found,) = run_sanitized("MultilevelRoIAlign", a, [boxes, *features])
        np.testing.assert_allclose(found, _expected(boxes, features, a), atol=1e-4, rtol=1e-5)
