"""Every body of PasteMasks against torchvision's paste and detectron2's, and the runtime's."""

import math
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from maskrt.core import Precision, Target, UnsupportedModelError
from maskrt.plugins import attach_functions
from maskrt.runtime import paste_masks as runtime_paste
from maskrt.runtime.build import build_engine

from .bodies import every_body, one_node_model

torch = pytest.importorskip("torch")
from torchvision.models.detection.roi_heads import paste_masks_in_image  # noqa: E402

from maskrt.plugins.paste_masks.reference import pack_bits, paste_masks  # noqa: E402

pytestmark = pytest.mark.torch

ATTRIBUTES: dict[str, Any] = {"height": 70, "width": 101, "threshold": 0.5, "packed": 0}


def _blobs(batch: int, count: int, side: int = 28, seed: int = 0) -> np.ndarray:
    """Smooth probabilities that cross 0.5 along a closed curve, with some noise."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    cy, cx = generator.uniform(0.3 * side, 0.7 * side, (2, batch, count, 1, 1))
    radius = generator.uniform(0.1 * side, 0.7 * side, (batch, count, 1, 1))
    distance = np.hypot(y - cy, x - cx) + generator.normal(0, 0.7, (batch, count, side, side))
    return (1 / (1 + np.exp(distance - radius))).astype(np.float32)


def _boxes(batch: int, count: int, seed: int = 1) -> np.ndarray:
    generator = np.random.default_rng(seed)
    start = generator.uniform(-20, 80, (batch, count, 2))
    sides = generator.uniform(0, 1, (batch, count, 2)) ** 2 * 120
    return np.concatenate([start, start + sides], -1).astype(np.float32)


def _torchvision(masks: np.ndarray, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Torchvision's float masks `[B, N, height, width]`.

    It fails on some boxes that lie outside the picture altogether, so those are left empty here.
    """
    pasted = np.zeros((*boxes.shape[:2], height, width), np.float32)
    reach = np.float32((masks.shape[-1] + 2) / masks.shape[-1])
    for place in np.ndindex(boxes.shape[:2]):
        x0, y0, x1, y1 = boxes[place]
        half = np.array([x1 - x0, y1 - y0]) / 2 * reach
        centre = np.array([x1 + x0, y1 + y0]) / 2
        beyond = (centre + half <= -1) | (centre - half >= (width, height))
        if not beyond.any():
            mask, box = torch.from_numpy(masks[place]), torch.from_numpy(boxes[place])
            pasted[place] = paste_masks_in_image(mask[None, None], box[None], (height, width))
    return pasted


def _detectron2(masks: np.ndarray, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return detectron2's float masks `[B, N, height, width]`: PyTorch samples its grid."""
    side = masks.shape[-1]
    x0, y0, x1, y1 = (torch.from_numpy(boxes).reshape(-1, 4)[:, i, None] for i in range(4))
    y = (torch.arange(height).float() + 0.5 - y0) / (y1 - y0) * 2 - 1
    x = (torch.arange(width).float() + 0.5 - x0) / (x1 - x0) * 2 - 1
    shape = (len(x0), height, width)
    grid = torch.stack([x[:, None].expand(shape), y[:, :, None].expand(shape)], 3)
    flat = torch.from_numpy(masks).reshape(-1, 1, side, side)
    pasted = torch.nn.functional.grid_sample(flat, grid, align_corners=False)
    return pasted.reshape(*boxes.shape[:2], height, width).numpy()


INDEPENDENT = {"torchvision": _torchvision, "detectron2": _detectron2}


def _pixels(masks: np.ndarray, attributes: dict[str, Any]) -> np.ndarray:
    """Unpack the output by NumPy's own bits: 0 and 1, `[B, N, height, width]`."""
    if not attributes["packed"]:
        return masks
    bits = np.unpackbits(masks.astype("<i4").view(np.uint8), axis=-1, bitorder="little")
    assert not bits[..., attributes["width"] :].any()
    return bits[..., : attributes["width"]]


def _model(inputs: dict[str, np.ndarray], attributes: dict[str, Any]) -> onnx.ModelProto:
    kind = TensorProto.INT32 if attributes["packed"] else TensorProto.UINT8
    single = {name: value.astype(np.float32) for name, value in inputs.items()}
    model = one_node_model("PasteMasks", single, {"masks": kind}, **attributes)
    if inputs["probabilities"].dtype == np.float16:
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    return model


def _check(masks: np.ndarray, boxes: np.ndarray, attributes: dict[str, Any]) -> np.ndarray:
    """Compare all bodies bit by bit with the definition; return its pixels."""
    inputs = {"probabilities": masks, "boxes": boxes}
    expected = paste_masks(torch.from_numpy(masks), torch.from_numpy(boxes), **attributes).numpy()
    for name, (found,) in every_body(_model(inputs, attributes), inputs):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected, err_msg=name)
    return _pixels(expected, attributes)


def _agree(pixels: np.ndarray, values: np.ndarray, threshold: float = 0.5) -> None:
    """Pixels equal `values > threshold` wherever a few ulp cannot decide.

    A source coordinate is known to about 4e-6 (an ulp of 30), and PyTorch contracts products and
    sums where the CPU can.
    """
    clear = np.abs(values - threshold) > 1e-5
    np.testing.assert_array_equal(pixels[clear], (values > threshold)[clear])
    assert clear.mean() > 0.999


@pytest.mark.parametrize("paste", INDEPENDENT)
@pytest.mark.parametrize("packed", [0, 1])
@pytest.mark.parametrize("side", [28, 14, 7, 1])
def test_every_body_equals_the_library(side: int, packed: int, paste: str) -> None:
    masks, boxes = _blobs(2, 12, side), _boxes(2, 12)
    attributes = {**ATTRIBUTES, "packed": packed, "paste": paste}
    pixels = _check(masks, boxes, attributes)
    assert 0 < pixels.mean() < 0.5
    _agree(pixels, INDEPENDENT[paste](masks, boxes, 70, 101))


def test_a_node_that_does_not_say_pastes_as_torchvision() -> None:
    masks, boxes = _blobs(1, 6), _boxes(1, 6)
    silent = _check(masks, boxes, ATTRIBUTES)
    said = {paste: _check(masks, boxes, {**ATTRIBUTES, "paste": paste}) for paste in INDEPENDENT}
    np.testing.assert_array_equal(silent, said["torchvision"])
    assert (silent != said["detectron2"]).any()


@pytest.mark.parametrize("paste", INDEPENDENT)
@pytest.mark.parametrize("size", [(1, 1), (5, 31), (33, 32), (9, 33), (3, 300)])
def test_pictures_of_any_size(size: tuple[int, int], paste: str) -> None:
    masks, boxes = _blobs(1, 8), _boxes(1, 8) / 3
    for packed in (0, 1):
        attributes = {**ATTRIBUTES, "height": size[0], "width": size[1], "packed": packed}
        pixels = _check(masks, boxes, {**attributes, "paste": paste})
        _agree(pixels, INDEPENDENT[paste](masks, boxes, *size))


@pytest.mark.parametrize("paste", INDEPENDENT)
def test_equals_the_runtime_even_for_huge_boxes(paste: str) -> None:
    masks, boxes = _blobs(1, 8), _boxes(1, 8)
    boxes[0, :3] = [[-7e6, -7e6, 7e6, 7e6], [-3e5, 10, 2e5, 40], [0, 0, 1e6, 1e6]]
    pixels = _check(masks, boxes, {**ATTRIBUTES, "paste": paste})
    expected = runtime_paste(masks[0], boxes[0], (70, 101), paste=paste)
    assert expected[:2].any(axis=(1, 2)).all()
    assert (pixels[0] != expected).mean() < 1e-4  # its products are BLAS's, rounded as it likes


NOTHING = [
    (np.nan, 0, 20, 20), (0, 0, np.nan, 20), (0, -np.inf, 20, 20), (0, 0, 20, np.inf),
    (-3e38, 0, 3e38, 20), (0, 0, 1e7, 1e7), (-9e6, 5, -8.9e6, 20), (1e20, 1e20, 2e20, 2e20),
    (-30, 5, -10, 20), (150, 5, 190, 20), (5, 90, 20, 130), (40, 40, 20, 20), (20, 5, 10, 30),
]  # fmt: skip
NO_EXTENT = [
    (5, 5, 5, 20), (5, 5, 20, 5), (5.5, 3, 5.5, 9), (3, 3, 3, 3), (0, 0, 1e-38, 9),
    (0, 0, 9, 1e-42),
]  # fmt: skip


@pytest.mark.parametrize(
    ("paste", "nothing"), [("torchvision", NOTHING), ("detectron2", [*NOTHING, *NO_EXTENT])]
)
@pytest.mark.parametrize("packed", [0, 1])
def test_boxes_that_are_no_boxes_paste_nothing(
    packed: int, paste: str, nothing: list[tuple[float, ...]]
) -> None:
    boxes = np.array([nothing], np.float32)
    masks = np.ones((1, len(nothing), 28, 28), np.float32)
    assert not _check(masks, boxes, {**ATTRIBUTES, "packed": packed, "paste": paste}).any()


@pytest.mark.parametrize("paste", INDEPENDENT)
def test_numbers_that_are_none_spoil_only_the_pixels_that_see_them(paste: str) -> None:
    masks, boxes = _blobs(1, 4), np.array([[[4, 4, 60, 60]] * 4], np.float32)
    attributes = {**ATTRIBUTES, "paste": paste}
    whole = _check(masks, boxes, attributes)
    masks[0, 0, 14, 14], masks[0, 1, 3, :], masks[0, 2] = np.nan, np.inf, np.nan
    spoilt = _check(masks, boxes, attributes)
    np.testing.assert_array_equal(spoilt[0, 3], whole[0, 3])
    assert not spoilt[0, 2].any()
    differs = np.argwhere(spoilt[0, 0] != whole[0, 0])
    assert 0 < len(differs) < 40
    # (14 + 1 of the ring + 1/2) · 60/30 - 2 + 4 of the box
    assert np.abs(differs - 33).max() <= 3


def test_half_probabilities() -> None:
    masks, boxes = _blobs(2, 6).astype(np.float16), _boxes(2, 6)
    pixels = _check(masks, boxes, {**ATTRIBUTES, "packed": 1})
    _agree(pixels, _torchvision(masks.astype(np.float32), boxes, 70, 101))


def test_bits_are_in_their_places() -> None:
    attributes = {**ATTRIBUTES, "width": 40, "height": 1, "packed": 1}
    masks, box = np.ones((1, 1, 28, 28), np.float32), [[[-500, -500, 500, 500]]]
    inputs = {"probabilities": masks, "boxes": np.array(box, np.float32)}
    for name, (found,) in every_body(_model(inputs, attributes), inputs):
        np.testing.assert_array_equal(found[0, 0, 0], [-1, 255], err_msg=name)
    one = torch.zeros(1, 40, dtype=torch.uint8)
    for x, word in ((0, [1, 0]), (31, [-(2**31), 0]), (32, [0, 1])):
        assert pack_bits(one.index_fill(1, torch.tensor([x]), 1)).tolist() == [word]


def test_detectron2_includes_the_threshold() -> None:
    masks, boxes = np.full((1, 2, 28, 28), 0.5, np.float32), np.full((1, 2, 4), 8, np.float32)
    masks[0, 1], boxes[..., 2:] = np.nextafter(np.float32(0.5), np.float32(0)), 36
    pixels = _check(masks, boxes, {**ATTRIBUTES, "paste": "detectron2"})[0]
    assert pixels[0, 9:35, 9:35].all()
    assert not pixels[1].any()
    pixels = _check(masks, boxes, {**ATTRIBUTES, "paste": "detectron2", "threshold": 0.0})[0]
    np.testing.assert_array_equal(pixels[0], pixels[1])
    assert not pixels[:, 40:].any()


def test_threshold_is_exclusive_and_adjustable() -> None:
    masks, boxes = np.full((1, 1, 28, 28), 0.25, np.float32), np.array([[[8, 8, 36, 36]]])
    boxes = boxes.astype(np.float32)
    assert not _check(masks, boxes, ATTRIBUTES).any()
    assert not _check(masks, boxes, {**ATTRIBUTES, "threshold": 0.25}).any()
    assert _check(masks, boxes, {**ATTRIBUTES, "threshold": 0.2})[0, 0, 10:34, 10:34].all()
    assert _check(masks, boxes, {**ATTRIBUTES, "threshold": 0.0}).any()


box = st.tuples(*[st.floats(-60, 140, width=32)] * 2, *[st.floats(-2, 150, width=32)] * 2)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(box, min_size=3, max_size=3), st.sampled_from([0, 1]), st.integers(0, 99),
    st.sampled_from([*INDEPENDENT]),
)  # fmt: skip
def test_drawn_boxes(drawn: list[tuple[float, ...]], packed: int, seed: int, paste: str) -> None:
    boxes = np.array([[(x, y, x + w, y + h) for x, y, w, h in drawn]], np.float32)
    masks = _blobs(1, 3, seed=seed)
    attributes = {**ATTRIBUTES, "packed": packed, "paste": paste}
    pixels, values = _check(masks, boxes, attributes), INDEPENDENT[paste](masks, boxes, 70, 101)
    if paste == "detectron2":  # of a box without an extent or inside out, PyTorch samples a mirror
        values[~(boxes[..., 2:] > boxes[..., :2]).all(-1)] = 0
    clear = np.abs(values - 0.5) > 1e-5
    np.testing.assert_array_equal(pixels[clear], (values > 0.5)[clear])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"height": 0}, "height"),
        ({"width": 40_000}, "width"),
        ({"threshold": -0.1}, "threshold"),
        ({"threshold": math.nan}, "threshold"),
        ({"packed": 2}, "packed"),
        ({"paste": "mmdetection"}, "paste"),
    ],
)
def test_illegal_attributes_are_refused(change: dict[str, Any], words: str) -> None:
    inputs = {"probabilities": _blobs(1, 2), "boxes": _boxes(1, 2)}
    model = _model(inputs, {**ATTRIBUTES, "packed": 0})
    kept = [a for a in model.graph.node[0].attribute if a.name not in change]
    changed = [onnx.helper.make_attribute(*item) for item in change.items()]
    del model.graph.node[0].attribute[:]
    model.graph.node[0].attribute.extend([*kept, *changed])
    with pytest.raises(UnsupportedModelError, match=words):
        attach_functions(model)


@pytest.mark.rtx
@pytest.mark.parametrize("paste", INDEPENDENT)
@pytest.mark.parametrize("packed", [0, 1])
def test_tensorrt_rtx_builds_it(packed: int, paste: str) -> None:
    inputs = {"probabilities": _blobs(2, 20), "boxes": _boxes(2, 20)}
    model = _model(inputs, {**ATTRIBUTES, "packed": packed, "paste": paste})
    shape = model.graph.output[0].type.tensor_type.shape
    for extent in (2, 20, 70, 4 if packed else 101):
        shape.dim.add().dim_value = extent
    engine = build_engine(model, Target.parse("rtx-89"), Precision.FP32)
    assert engine.files["engine.trt"]
    # No picture of floats in memory: the interpolation, and if packed the packing, are fused.
    assert engine.info["kernels"]["other"] <= 3
