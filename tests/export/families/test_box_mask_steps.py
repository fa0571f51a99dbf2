"""Fast NMS, the dynamic mask head and the anchors against their definitions, element by element."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
from torch import Tensor  # noqa: E402

from maskrt.export.families.condinst import CondInst, aligned_bilinear, split_parameters  # noqa: E402
from maskrt.export.families.fast_nms import fast_nms, pairwise_iou  # noqa: E402
from maskrt.export.families.yolact import Anchors, decode  # noqa: E402

pytestmark = pytest.mark.torch


def _iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


def _brute_force(
    boxes: Tensor, scores: Tensor, limit: float, least: float, candidates: int, cross: bool
) -> list[tuple[float, int, int]]:
    """Fast NMS of one picture by its definition: (score, index, class), best first."""
    rows = scores.tolist()
    if cross:
        best = [max(range(len(row)), key=row.__getitem__) for row in rows]
        groups = [[(rows[n][c], n, c) for n, c in enumerate(best)]]
    else:
        groups = [[(row[c], n, c) for n, row in enumerate(rows)] for c in range(len(rows[0]))]
    kept = []
    for group in groups:
        order = sorted((one for one in group if one[0] > least), reverse=True)[:candidates]
        for place, one in enumerate(order):
            better = (boxes[other[1]].tolist() for other in order[:place])
            if all(_iou(box, boxes[one[1]].tolist()) <= limit for box in better):
                kept.append(one)
    return sorted(kept, reverse=True)


@given(
    seed=st.integers(0, 10_000), number=st.integers(1, 30), classes=st.integers(1, 4),
    candidates=st.integers(1, 40), cross=st.booleans(),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_fast_nms(seed: int, number: int, classes: int, candidates: int, cross: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 40, (2, number, 2), generator=generator).float()
    boxes = torch.cat([corner, corner + torch.randint(1, 30, corner.shape, generator=generator)], 2)
    scores = torch.rand(2, number, classes, generator=generator)
    found, top, labels, count = fast_nms(
        boxes, scores, iou_threshold=0.3, score_threshold=0.4, candidates=candidates,
        detections=10, cross_class=cross,
    )  # fmt: skip
    for b in range(2):
        expected = _brute_force(boxes[b], scores[b], 0.3, 0.4, candidates, cross)[:10]
        assert int(count[b]) == len(expected)
        real = zip(top[b].tolist(), found[b].tolist(), labels[b].tolist(), strict=True)
        assert list(real)[: len(expected)] == expected
        assert (top[b, len(expected) :] < 0).all()


def test_fast_nms_lets_a_suppressed_box_suppress() -> None:
    """Where greedy NMS keeps the last of a chain A-B-C, Fast NMS drops it."""
    boxes = torch.tensor([[[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]]])
    scores = torch.tensor([[[0.9], [0.8], [0.7]]])
    *_, count = fast_nms(
        boxes, scores, iou_threshold=0.3, score_threshold=0.1, candidates=3, detections=3
    )
    assert int(count[0]) == 1


def test_iou_of_empty_boxes_is_zero() -> None:
    assert pairwise_iou(torch.zeros(1, 2, 4)).tolist() == [[[0, 0], [0, 0]]]


def test_dynamic_head_is_the_network_that_its_parameters_say() -> None:
    torch.manual_seed(0)
    features, parameters = torch.randn(8, 3, 4), torch.randn(2, 169)
    points, sizes = torch.tensor([[12.0, 4.0], [28.0, 20.0]]), torch.tensor([64.0, 128.0])
    found = CondInst.masks(features, parameters, points, sizes)
    assert found.shape == (2, 6, 8)
    for n, (row, column) in itertools.product(range(2), itertools.product(range(3), range(4))):
        pixel = (8 * column + 4, 8 * row + 4)
        x = [(float(points[n, axis]) - pixel[axis]) / float(sizes[n]) for axis in (0, 1)]
        x += features[:, row, column].tolist()
        place, bias = 0, 80 + 64 + 8
        for last, rows in ((False, 8), (False, 8), (True, 1)):
            weights = parameters[n, place : place + rows * len(x)].reshape(rows, len(x)).tolist()
            offsets = parameters[n, bias : bias + rows].tolist()
            place, bias = place + rows * len(x), bias + rows
            products = [
                sum(w * value for w, value in zip(line, x, strict=True)) + offset
                for line, offset in zip(weights, offsets, strict=True)
            ]
            x = products if last else [max(0.0, value) for value in products]
        # source pixel i is at target pixel 2 i + 1
        assert float(found[n, 2 * row + 1, 2 * column + 1]) == pytest.approx(x[0], abs=1e-3)


def test_parameters_are_weights_then_biases() -> None:
    (w1, b1), (w2, b2), (w3, b3) = split_parameters(torch.arange(169.0))
    assert [t.shape for t in (w1, w2, w3)] == [(8, 10), (8, 8), (1, 8)]
    assert (w1[0, 0], w2[0, 0], w3[0, 0]) == (0, 80, 144)
    assert (b1[0], b2[0], b3[0]) == (152, 160, 168)


def test_aligned_bilinear_keeps_pixel_centres() -> None:
    ramp = torch.arange(5.0).expand(1, 1, 5, 5) * 8 + 4  # the x of each pixel at stride 8
    x = aligned_bilinear(ramp, 2)[0, 0, 0]
    torch.testing.assert_close(x[1:9], torch.arange(1, 9) * 4.0)


def test_anchors_divide_the_picture_evenly() -> None:
    anchors = Anchors(scales=(10, 20), ratios=(1.0, 4.0)).boxes([(2, 3), (1, 1)], (50, 90))
    assert anchors.shape == ((6 + 1) * 2, 4)
    assert anchors[0].tolist() == pytest.approx([15, 12.5, 10, 10])
    assert anchors[1].tolist() == pytest.approx([15, 12.5, 5, 20])
    assert anchors[2 * 2 * 2].tolist() == pytest.approx([45, 37.5, 10, 10])
    assert anchors[-2].tolist() == pytest.approx([45, 25, 20, 20])


def test_codes_are_decoded_as_ssd_does() -> None:
    box = decode(torch.tensor([1.0, -2.0, 1.0, 0.0]), torch.tensor([50.0, 40.0, 20.0, 10.0]))
    width = 20 * math.exp(0.2)
    expected = [52 - width / 2, 38 - 5, 52 + width / 2, 38 + 5]
    assert box.tolist() == pytest.approx(expected)
