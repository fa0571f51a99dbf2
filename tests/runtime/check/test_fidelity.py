"""Two models' instances: equal ones agree, and every kind of difference is found and named."""

import numpy as np
import pytest

from maskrt.core import InputError, Instances
from maskrt.runtime.check import Limits, combine, compare, few_instances, violations
from maskrt.runtime.check.fidelity import box_iou

SIZE = (100, 120)


def instances(
    boxes: list[list[float]], scores: list[float], labels: list[int], *, masks: bool = True
) -> Instances:
    planes = np.zeros((len(boxes), *SIZE), bool)
    for plane, (x0, y0, x1, y1) in zip(planes, boxes, strict=True):
        plane[round(y0) : round(y1), round(x0) : round(x1)] = True
    return Instances(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(labels, np.int64),
        SIZE,
        masks_source=planes if masks else None,
    )


BOXES = [[10.0, 10.0, 60.0, 60.0], [50.0, 20.0, 110.0, 90.0], [12.0, 12.0, 61.0, 62.0]]
REFERENCE = instances(BOXES, [0.9, 0.8, 0.7], [1, 2, 2])


def test_equal_instances_agree() -> None:
    match = compare(REFERENCE, REFERENCE)
    assert (match.pairs, match.box_iou, match.score_difference, match.mask_iou) == (3, 1, 0, 1)
    assert violations(match) == []


def test_order_does_not_matter() -> None:
    shuffled = REFERENCE.select(np.array([2, 0, 1]))
    assert violations(compare(REFERENCE, shuffled)) == []


def test_a_moved_box_is_measured_and_refused() -> None:
    moved = instances([[10, 10, 60, 60.1], *BOXES[1:]], [0.9, 0.8, 0.7], [1, 2, 2])
    match = compare(REFERENCE, moved)
    assert match.box_iou == pytest.approx(50 / 50.1, rel=1e-5)
    assert violations(match) == ["The worst box IoU is 0.99800, below 0.999."]
    assert violations(match, Limits(box_iou=0.997)) == []


def test_another_score_is_measured_and_refused() -> None:
    other = instances(BOXES, [0.9, 0.8, 0.695], [1, 2, 2])
    match = compare(REFERENCE, other)
    assert match.score_difference == pytest.approx(0.005, abs=1e-6)
    assert violations(match) == ["The worst score difference is 0.00500, above 0.001."]


def test_another_mask_is_measured_and_refused() -> None:
    other = instances(BOXES, [0.9, 0.8, 0.7], [1, 2, 2])
    assert other.masks is not None
    other.masks[1, 20:30] = False
    match = compare(REFERENCE, other)
    assert match.mask_iou == pytest.approx(60 / 70)
    assert violations(match) == ["The worst mask IoU is 0.8571, below 0.99."]


def test_a_missing_instance_is_refused_on_its_side() -> None:
    fewer = REFERENCE.select(np.array([0, 2]))
    assert violations(compare(REFERENCE, fewer)) == [
        "Instances of the original model that are missing: 1, the best with score 0.8000."
    ]
    assert violations(compare(fewer, REFERENCE)) == [
        "Instances that the original model does not find: 1, the best with score 0.8000."
    ]


def test_another_label_is_no_partner() -> None:
    other = instances(BOXES, [0.9, 0.8, 0.7], [2, 2, 2])
    match = compare(REFERENCE, other)
    assert match.pairs == 2
    assert match.reference_only == match.candidate_only == pytest.approx((0.9,))
    assert len(violations(match)) == 2


def test_a_duplicate_finds_no_second_partner() -> None:
    doubled = instances([*BOXES, BOXES[0]], [0.9, 0.8, 0.7, 0.6], [1, 2, 2, 1])
    match = compare(REFERENCE, doubled)
    assert match.pairs == 3
    assert match.candidate_only == pytest.approx((0.6,))


def test_the_best_overlap_is_paired_first() -> None:
    """Two candidates fit the same reference: the worse-scored one fits exactly."""
    near = instances([[10, 10, 60, 63], [10, 10, 60, 60]], [0.9, 0.9], [1, 1])
    match = compare(instances([BOXES[0]], [0.9], [1]), near)
    assert (match.pairs, match.box_iou) == (1, 1.0)


def test_nothing_found_by_either() -> None:
    none = instances([], [], [])
    assert violations(compare(none, none)) == []
    assert len(violations(compare(none, REFERENCE))) == 1
    assert len(violations(compare(REFERENCE, none))) == 1


def test_a_comparison_of_few_says_so() -> None:
    assert few_instances(0) == (
        "No instance was compared, so nothing is proven: give pictures in which the model finds "
        "objects."
    )
    assert "Only 1 instance was compared" in str(few_instances(1))
    assert "Only 9 instances were compared, and fewer than 10 prove little" in str(few_instances(9))
    assert few_instances(10) is None


def test_box_only_models() -> None:
    boxes = instances(BOXES, [0.9, 0.8, 0.7], [1, 2, 2], masks=False)
    match = compare(boxes, boxes)
    assert match.mask_iou is None
    assert violations(match) == []
    with pytest.raises(InputError, match="one of the models has masks"):
        compare(REFERENCE, boxes)


def test_pictures_of_different_sizes_are_refused() -> None:
    other = Instances(REFERENCE.boxes, REFERENCE.scores, REFERENCE.labels, (50, 50))
    with pytest.raises(InputError, match=r"\(100, 120\) and one of \(50, 50\)"):
        compare(REFERENCE, other)


def test_scores_that_are_not_numbers_are_refused() -> None:
    other = instances(BOXES, [0.9, float("nan"), 0.7], [1, 2, 2])
    assert any("score" in sentence for sentence in violations(compare(REFERENCE, other)))


def test_empty_boxes_and_masks_are_equal_to_themselves() -> None:
    empty = instances([[5, 5, 5, 5]], [0.5], [1])
    assert violations(compare(empty, empty)) == []


def test_combine_keeps_the_worst_and_sums() -> None:
    good = compare(REFERENCE, REFERENCE)
    bad = compare(REFERENCE, instances(BOXES[:2], [0.9, 0.75], [1, 2]))
    both = combine([good, bad])
    assert both.pairs == 5
    assert both.score_difference == pytest.approx(0.05)
    assert both.reference_only == pytest.approx((0.7,))
    assert both.mask_iou == 1.0
    assert combine([]).mask_iou is None
    assert violations(combine([])) == []


@pytest.mark.torch
def test_box_iou_equals_torchvision() -> None:
    torch = pytest.importorskip("torch")
    ops = pytest.importorskip("torchvision.ops")
    rng = np.random.default_rng(0)
    corner, size = rng.uniform(0, 80, (2, 9, 2)), rng.uniform(1, 60, (2, 9, 2))
    first, second = np.concatenate([corner, corner + size], axis=2).astype(np.float32)
    expected = ops.box_iou(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    np.testing.assert_allclose(box_iou(first, second), expected, atol=1e-6)
