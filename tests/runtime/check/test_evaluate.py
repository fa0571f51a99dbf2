"""A predict function over a data set: right pixels, right metrics, right errors."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from maskrt.core import InputError, InputSpec, Instances
from maskrt.runtime import NullBackend, Session
from maskrt.runtime.check import METRICS, CocoDataset, evaluate

pytest.importorskip("pycocotools")

Truth = Callable[..., Instances]


def perfect(truth: Truth, **how: object) -> Callable[[list[np.ndarray]], list[Instances]]:
    """Return a predict function that knows the pictures by their shade (ten times the id)."""
    return lambda images: [truth(int(image[0, 0, 0]) // 10, **how) for image in images]


@pytest.mark.parametrize("batch", [1, 3, 10])
def test_perfect_model(dataset: CocoDataset, truth: Truth, batch: int) -> None:
    calls: list[tuple[int, int]] = []
    done = evaluate(
        perfect(truth),
        dataset,
        batch=batch,
        progress=lambda *at: calls.append(at),
        class_names=("background", "disc", "square"),
    )
    assert done.images == 4
    everything = pytest.approx(dict.fromkeys(METRICS, 100.0))
    assert done.metrics["box"] == everything
    assert done.metrics["mask"] == everything
    assert done.metrics["boundary"] == pytest.approx({**dict.fromkeys(METRICS, 100.0), "F": 100.0})
    assert done.detections == 5
    assert calls[-1] == (4, 4)
    assert len(calls) == -(-4 // batch)
    assert set(done.latency_ms) == {"p50", "mean"}
    assert done.pictures == []


def test_a_session_that_finds_nothing(dataset: CocoDataset) -> None:
    outputs = {"boxes": (2, 4, 4), "scores": (2, 4), "labels": (2, 4), "count": (2,)}
    outputs["masks"] = (2, 4, 28, 28)
    with Session(NullBackend(outputs), InputSpec(64, 64, batch=2)) as session:
        done = evaluate(session.predict, dataset, batch=2)
    assert done.metrics["mask"]["AP"] == 0.0
    assert done.metrics["box"]["AP"] == 0.0
    assert done.detections == 0


def test_box_only_model_has_no_mask_metrics(dataset: CocoDataset, truth: Truth) -> None:
    assert set(evaluate(perfect(truth, masks=False), dataset).metrics) == {"box"}


def test_box_only_annotations_have_no_mask_metrics(dataset: CocoDataset, truth: Truth) -> None:
    bare = replace(
        dataset, annotations=tuple({**a, "segmentation": None} for a in dataset.annotations)
    )
    assert set(evaluate(perfect(truth), bare).metrics) == {"box"}


def test_a_model_that_is_wrong_scores_low(dataset: CocoDataset, truth: Truth) -> None:
    done = evaluate(perfect(truth, shift=30.0), dataset)
    assert done.metrics["box"]["AP"] == 0.0


def test_latency_is_a_picture_after_one_warm_up(
    dataset: CocoDataset, truth: Truth, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, sizes = [0.0], []

    def predict(images: list[np.ndarray]) -> list[Instances]:
        sizes.append(len(images))
        now[0] += 0.5 if len(sizes) == 1 else 0.03
        return perfect(truth)(images)

    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    done = evaluate(predict, dataset, batch=3)
    assert sizes == [3, 3, 1]
    assert done.latency_ms["p50"] == pytest.approx((10 + 30) / 2)
    assert done.latency_ms["mean"] == pytest.approx((10 + 30) / 2)


def test_latency_covers_pasting(dataset: CocoDataset, truth: Truth) -> None:
    pasted = []

    def lazily(planes: np.ndarray) -> np.ndarray:
        pasted.append(1)
        return planes

    def predict(images: list[np.ndarray]) -> list[Instances]:
        found = perfect(truth)(images)
        for instances in found:
            instances.masks_source = partial(lazily, instances.masks_source)
        return found

    evaluate(predict, dataset)
    assert len(pasted) == 4  # once a picture; the warm-up's are never asked for


def test_pictures_are_drawn(dataset: CocoDataset, truth: Truth) -> None:
    done = evaluate(perfect(truth), dataset, pictures=2)
    assert [name for name, _ in done.pictures] == ["8.png", "12.png"]
    assert all(image.shape == (120, 120, 3) for _, image in done.pictures)
    assert done.pictures[0][1].std() > 0
    assert len(evaluate(perfect(truth), dataset, pictures=99).pictures) == 4


def test_labels_that_are_no_categories(dataset: CocoDataset, truth: Truth) -> None:
    def shifted(images: list[np.ndarray]) -> list[Instances]:
        found = perfect(truth)(images)
        for instances in found:
            instances.labels += 10
        return found

    with pytest.raises(InputError, match=r"labels \(11, 12\) are none of the categories.*\(1, 2\)"):
        evaluate(shifted, dataset)
    with pytest.raises(InputError, match="category 1 'disc'"):
        evaluate(perfect(truth), dataset, class_names=("", "square", "disc"))


def test_pictures_of_another_size_than_annotated(folder: Path, truth: Truth) -> None:
    data = json.loads((folder / "val.json").read_text())
    data["images"][2]["height"] = 240
    (folder / "other.json").write_text(json.dumps(data))
    dataset = CocoDataset.load(folder / "pictures", folder / "other.json")
    with pytest.raises(InputError, match=r"9\.png has 120 x 120 .*other\.json says 240 x 120"):
        evaluate(perfect(truth), dataset)


def test_a_damaged_picture_is_named(folder: Path, dataset: CocoDataset, truth: Truth) -> None:
    (folder / "pictures" / "12.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"12\.png is empty"):
        evaluate(perfect(truth), dataset)
