"""Labels and COCO's categories: numbered alike, matched by name, or refused.

Models of COCO by other projects (YOLO, SOLO's and YOLACT's authors, AdelaiDet, mmdetection,
detectron2) have labels 1 to 80, and COCO's annotations have categories 1 to 90, with gaps. AP would
compare one class's detections with another's annotations: near 0, and of FP32, too, so that no drop
shows it. A file that names its classes, as a YOLO's does, says which category each label is.
"""

from collections.abc import Sequence
from dataclasses import replace

from ..core import InputError
from ..core.bundle import Manifest
from ..runtime.check import CocoDataset

__all__ = ["BY_NAME", "numbered"]

BY_NAME = (
    "The data set's categories are numbered otherwise than the model's labels, and were matched by "
    "name."
)


def numbered(manifest: Manifest, dataset: CocoDataset) -> CocoDataset:
    """Return the data set with the model's labels for category ids.

    Where each category's name, but for its case, is that of one label, the names decide. Otherwise
    the ids stay, and what they mean is checked: here for a model without class names, and where
    pictures are evaluated for one with names (`CocoDataset.check_labels`).

    Raises:
        InputError: a model without class names has no label of a category's number.
    """
    labels = manifest.source.get("labels")
    if manifest.class_names is not None:
        return _by_name(manifest.class_names, dataset)
    if labels is None:
        return dataset
    for category, name in dataset.categories.items():
        if category > labels:
            raise InputError(
                f"{dataset.source} has category {category} ({name!r}), and the model's labels are "
                f"1 to {labels}: number the categories as the model was trained."
            )
    return dataset


def _by_name(class_names: Sequence[str], dataset: CocoDataset) -> CocoDataset:
    """Renumber the categories, if each is one label; label 0 is the background."""
    known = [name.casefold() for name in class_names]
    wanted = {category: name.casefold() for category, name in dataset.categories.items()}
    one_each = len(set(wanted.values())) == len(wanted)
    if not one_each or any(known[1:].count(name) != 1 for name in wanted.values()):
        return dataset
    label = {category: known.index(name, 1) for category, name in wanted.items()}
    if all(category == number for category, number in label.items()):
        return dataset
    return replace(
        dataset,
        categories={label[category]: name for category, name in dataset.categories.items()},
        annotations=tuple(
            {**entry, "category_id": label[entry["category_id"]]} for entry in dataset.annotations
        ),
    )
