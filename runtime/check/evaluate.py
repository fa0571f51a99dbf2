"""A predict function over a data set: results, accuracy, latency; and the budget's verdict.

Pictures are read here, before the clock starts, so every model that is compared sees the same
pixels and no disk is in its latency. The clock covers what a user waits for: from pixels to
instances and masks, each made once and as large as what it covers. The first batch is run once more
beforehand, untimed, to warm up.

Each picture's instances are evaluated at once and then dropped: nothing that grows with the data
set is kept but a few bytes a detection (`records.py`).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...core import CheckFailedError, InputError, Instances
from ...core.masks import MaskSource
from ..images import read_image
from .average_precision import IouType, Metrics
from .coco import CocoDataset, CocoImage
from .evaluator import CocoEvaluator
from .losses import budget_sentence
from .report import Report, latency_percentiles

__all__ = [
    "Evaluation",
    "Predict",
    "Progress",
    "enforce",
    "evaluate",
    "predict_timed",
    "read_picture",
]

Predict = Callable[[list[np.ndarray]], list[Instances]]
Progress = Callable[[int, int], None]
Seen = Callable[[CocoImage, np.ndarray, Instances], None]


@dataclass(frozen=True)
class Evaluation:
    """What one model did on a data set.

    Attributes:
        images: how many pictures.
        detections: how many instances were found in all.
        metrics: `{"box": …}` and, where model and annotations have masks, `{"mask": …}` and
            `{"boundary": …}`.
        latency_ms: milliseconds a picture, see `latency_percentiles`.
        pictures: `(file name, uint8 [H, W, 3])` of a few pictures with the instances drawn.
        evaluator: holds what metrics by class and their confidence are made from.
    """

    images: int
    detections: int
    metrics: dict[str, Metrics]
    latency_ms: dict[str, float]
    pictures: list[tuple[str, np.ndarray]]
    evaluator: CocoEvaluator


def evaluate(
    predict: Predict,
    dataset: CocoDataset,
    *,
    batch: int = 1,
    progress: Progress | None = None,
    pictures: int = 0,
    class_names: Sequence[str] | None = None,
    seen: Seen | None = None,
) -> Evaluation:
    """Run `predict` over a data set and measure it.

    Args:
        predict: uint8 `[H, W, 3]` RGB pictures in, one `Instances` each out, in picture pixels.
        dataset: pictures and annotations.
        batch: pictures a call.
        progress: called with (pictures done, pictures in all) after each batch.
        pictures: how many to draw, spread evenly over the data set.
        class_names: name of each label of the model; None if not known.
        seen: called with each picture's entry, pixels and instances.

    Raises:
        InputError: an unreadable picture, or one whose size is not the annotations'; or labels that
            are not the data set's categories: by `CocoDataset.check_labels`, or, where no names are
            known, if not one label that was found is a category.
        MissingDependencyError: pycocotools is not installed.
    """
    dataset.check_labels(class_names)
    evaluator: CocoEvaluator | None = None
    labels: set[int] = set()
    latencies: list[float] = []
    drawn: list[tuple[str, np.ndarray]] = []
    wanted = _spread(len(dataset.images), pictures)
    for start, group, images in _batches(dataset, batch):
        if start == 0:
            predict(images)
        found, elapsed_ms = predict_timed(predict, images)
        latencies.append(elapsed_ms / len(group))
        evaluator = evaluator or CocoEvaluator(dataset, _kinds(dataset, found[0]))
        for index, (entry, image, instances) in enumerate(
            zip(group, images, found, strict=True), start
        ):
            evaluator.add(entry.id, instances.to_coco(entry.id))
            labels.update(instances.labels.tolist())
            if seen is not None:
                seen(entry, image, instances)
            if index in wanted:
                drawn.append((entry.path.name, instances.draw(image)))
        if progress is not None:
            progress(start + len(group), len(dataset.images))
    assert evaluator is not None  # a data set has pictures
    if class_names is None:
        _check_categories(labels, dataset)
    return Evaluation(
        len(dataset.images),
        evaluator.detections,
        evaluator.metrics(),
        latency_percentiles(latencies),
        drawn,
        evaluator,
    )


def enforce(report: Report, max_ap_drop: float | None = None) -> Report:
    """Hold a report against its budgets.

    Args:
        report: with a reference.
        max_ap_drop: how much box AP, and how much mask AP, may be lost, in points of 0 to 100, in
            the place of the report's own; None keeps that.

    Returns:
        The report with the budget in it.

    Raises:
        CheckFailedError: a budget is missed.
        UsageError: the report has no reference.
    """
    judged = report if max_ap_drop is None else replace(report, budget=max_ap_drop)
    if not judged.passed:
        raise CheckFailedError(budget_sentence(judged))
    return judged


def _batches(
    dataset: CocoDataset, batch: int
) -> Iterator[tuple[int, Sequence[CocoImage], list[np.ndarray]]]:
    for start in range(0, len(dataset.images), batch):
        group = dataset.images[start : start + batch]
        yield start, group, [read_picture(entry, dataset.source) for entry in group]


def read_picture(entry: CocoImage, source: Path | str) -> np.ndarray:
    """Return the pixels of a picture of the annotation file `source`, whose size must fit."""
    image = read_image(entry.path)
    if image.shape[:2] != entry.size:
        raise InputError(
            f"{entry.path} has {image.shape[0]} x {image.shape[1]} pixels (height x width) and "
            f"{source} says {entry.size[0]} x {entry.size[1]}: name the annotations of "
            "these files (a picture counts as a viewer shows it, turned by its EXIF orientation)."
        )
    return image


def predict_timed(predict: Predict, images: list[np.ndarray]) -> tuple[list[Instances], float]:
    """Return the instances, and the milliseconds that they and their masks took."""
    started = time.perf_counter()
    found = predict(images)
    for instances in found:
        _make_masks(instances)
    return found, (time.perf_counter() - started) * 1e3


def _make_masks(instances: Instances) -> None:
    """Make each mask once; crops one at a time where there are crops, as all may be gigabytes."""
    if isinstance(instances.masks_source, MaskSource):
        for _ in instances.each_crop():
            pass
    else:
        _ = instances.masks


def _kinds(dataset: CocoDataset, instances: Instances) -> tuple[IouType, ...]:
    """Return what can be measured: masks need them in the model and in the annotations."""
    if dataset.has_masks and instances.masks_source is not None:
        return ("box", "mask", "boundary")
    return ("box",)


def _check_categories(labels: set[int], dataset: CocoDataset) -> None:
    if labels and not labels & set(dataset.categories):
        raise InputError(
            f"the model's labels ({_listed(labels)}) are none of the categories of "
            f"{dataset.source} ({_listed(set(dataset.categories))}): number the categories as the "
            "model was trained."
        )


def _listed(numbers: set[int]) -> str:
    ordered = sorted(numbers)
    return ", ".join(map(str, ordered[:8])) + (", …" if len(ordered) > 8 else "")


def _spread(total: int, count: int) -> set[int]:
    """Return `count` indices of `0..total-1`, evenly spread."""
    count = min(count, total)
    return {(2 * i + 1) * total // (2 * count) for i in range(count)}
