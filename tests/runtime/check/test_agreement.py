"""Instances are matched, missed, invented or relabelled, each by hand; stored ones come back."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from maskrt.core import InputError, Instances
from maskrt.runtime.check import (
    Agreement,
    CocoDataset,
    CocoEvaluator,
    Recorder,
    StoredResults,
    evaluate_stored,
    results_key,
)

pytest.importorskip("pycocotools")

Truth = Callable[..., Instances]
BOXES = np.array([[0, 0, 20, 20], [30, 0, 50, 20], [0, 30, 20, 50], [60, 60, 100, 100]], np.float32)


def instances(boxes: np.ndarray, labels: list[int], scores: list[float]) -> Instances:
    masks = np.zeros((len(boxes), 120, 120), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.astype(int), strict=True):
        mask[y0:y1, x0:x1] = True
    return Instances(
        boxes, np.array(scores, np.float32), np.array(labels, np.int64), (120, 120),
        masks_source=masks,
    )  # fmt: skip


def test_each_fate() -> None:
    reference = instances(BOXES, [1, 2, 1, 2], [0.9, 0.8, 0.7, 0.6])
    moved = BOXES.copy()
    moved[0, :] += (5, 0, 5, 0)  # IoU 15/25
    found = instances(
        np.vstack([moved[:3], [[80, 0, 110, 30]]]), [1, 1, 1, 2], [0.8, 0.8, 0.7, 0.3]
    )
    agreement = Agreement()
    agreement.add(reference, found)
    summary = agreement.summary(("background", "cat", "dog"))
    assert (summary["matched"], summary["missed"], summary["invented"]) == (2, 1, 1)
    assert summary["label_changed"] == 1
    assert summary["changed_labels"] == [{"reference": "dog", "engine": "cat", "count": 1}]
    assert summary["confident"] == {"score": 0.5, "missed": 1, "invented": 0}
    assert summary["box_iou"]["min"] == pytest.approx(0.6)
    assert summary["mask_iou"]["min"] == pytest.approx(0.6)
    assert summary["box_iou"]["mean"] == pytest.approx(0.8)
    assert summary["score_difference"]["max"] == pytest.approx(0.1)
    assert sum(summary["box_iou"]["histogram"]["counts"]) == 2
    assert summary["score_shift"]["min"] == pytest.approx(-0.1)  # engine minus reference
    assert summary["score_shift"]["max"] == pytest.approx(0.0)
    assert summary["box_shift"]["max"] == pytest.approx(5.0)
    assert sum(summary["score_shift"]["histogram"]["counts"]) == 2
    assert summary["by_label"] == {
        "cat": {"matched": 2, "missed": 0, "invented": 0, "label_changed": 0},
        "dog": {"matched": 0, "missed": 1, "invented": 1, "label_changed": 1},
    }
    assert summary["swapped_labels"] == []


def test_swapped_classes_are_named() -> None:
    agreement = Agreement()
    reference = instances(BOXES, [1, 2, 3, 1], [0.9] * 4)
    agreement.add(reference, instances(BOXES, [2, 1, 3, 2], [0.9] * 4))
    summary = agreement.summary(("background", "cat", "dog", "cow"))
    assert summary["swapped_labels"] == [["cat", "dog"]]
    assert (summary["matched"], summary["label_changed"]) == (1, 3)


def test_faint_second_labels_do_not_hide_a_swap() -> None:
    """The reference has a faint dog on each cat and a faint cat on each dog, as detectors do."""
    boxes = np.vstack([BOXES[:2], BOXES[:2]])
    reference = instances(boxes, [1, 2, 2, 1], [0.9, 0.9, 0.1, 0.1])
    agreement = Agreement()
    agreement.add(reference, instances(boxes, [2, 1, 1, 2], [0.9, 0.9, 0.1, 0.1]))
    summary = agreement.summary()
    assert summary["swapped_labels"] == [["1", "2"]]
    assert summary["label_changed"] == 4
    assert summary["missed"] == summary["invented"] == 0


def test_nothing_found_and_identical() -> None:
    none = instances(np.zeros((0, 4), np.float32), [], [])
    every = instances(BOXES, [1, 2, 1, 2], [0.9] * 4)
    agreement = Agreement()
    assert agreement.add(none, none).disagreement == 0
    assert agreement.add(every, every).disagreement == 0
    assert agreement.add(every, none).disagreement == pytest.approx(3.6)
    summary = agreement.summary()
    assert (summary["matched"], summary["missed"], summary["invented"]) == (4, 4, 0)
    alone = Agreement()
    alone.add(none, none)
    assert alone.summary()["box_iou"] is None


@pytest.mark.parametrize("masks", [True, False])
def test_stored_results_come_back(dataset: CocoDataset, truth: Truth, masks: bool) -> None:
    recorder = Recorder()
    for image in reversed(dataset.images):
        recorder.add(image.id, truth(image.id, shift=1.0, masks=masks))
    stored = recorder.finish("PyTorch FP32", "some key")
    back = StoredResults.from_bytes(stored.to_bytes())
    assert (back.name, back.key) == ("PyTorch FP32", "some key")
    live = CocoEvaluator(dataset, ("box", "mask", "boundary") if masks else ("box",))
    for image in dataset.images:
        expected, found = truth(image.id, shift=1.0, masks=masks), back.of(image.id)
        live.add(image.id, expected.to_coco(image.id))
        np.testing.assert_array_equal(found.boxes, expected.boxes)
        np.testing.assert_array_equal(found.scores, expected.scores)
        np.testing.assert_array_equal(found.labels, expected.labels)
        assert found.image_size == expected.image_size
        assert (found.masks is None) == (not masks)
        if masks:
            np.testing.assert_array_equal(found.masks, expected.masks)
    assert evaluate_stored(back, dataset).metrics() == live.metrics()
    with pytest.raises(InputError, match="no picture 8888"):
        back.of(8888)


def test_damaged_stored_results_are_refused(dataset: CocoDataset, truth: Truth) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        StoredResults.from_bytes(b"nonsense")
    recorder = Recorder()
    recorder.add(7, truth(7))
    data = recorder.finish("x", "y").to_bytes()
    with pytest.raises(InputError, match="cannot be read"):
        StoredResults.from_bytes(data[: len(data) // 2])


def test_the_key_is_of_the_graph_and_the_pictures(dataset: CocoDataset) -> None:
    key = results_key(dataset, "abc")
    assert results_key(replace(dataset, images=dataset.images[::-1]), "abc") == key
    assert results_key(replace(dataset, images=dataset.images[1:]), "abc") != key
    assert results_key(dataset, "abd") != key
