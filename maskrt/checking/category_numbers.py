"""Labels and COCO's categories: numbered alike, matched by name, said in a file, or refused.

Models of COCO by other projects (YOLO, SOLO's and YOLACT's authors, AdelaiDet, mmdetection,
detectron2) have labels 1 to 80, and COCO's annotations have categories 1 to 90, with gaps. AP would
compare one class's detections with another's annotations: near 0, and of FP32, too, so that no drop
shows it. A file that names its classes, as a YOLO's does, says which category each label is.

Only categories that an annotation uses count: exports list others (`_background_`, a 0 of
Roboflow's, `-1 __ignore__`, VisDrone's regions to ignore, which are crowds alone), which nothing is
measured of. Where such a one is no label, or the label of one that is used, it is left out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..core import InputError
from ..core.bundle import Manifest
from ..core.words import quoted
from ..runtime.check import CocoDataset

__all__ = ["BY_FILE", "BY_NAME", "NO_NAMES_AP", "doubt", "numbered"]

BY_NAME = (
    "The data set's categories are numbered otherwise than the model's labels, and were matched by "
    "name."
)
BY_FILE = "The data set's categories were matched with the model's labels as the file says."
NO_NAMES_AP = 1.0
"""Points of AP; below it the FP32 reference of a model without class names is doubted."""
_REMEDY = "number the categories as the model was trained, or say which is which in categories=."


def numbered(manifest: Manifest, dataset: CocoDataset) -> CocoDataset:
    """Return the data set with the model's labels for category ids.

    The data set's own file decides (`CocoDataset.chosen`). Without one, where the name of each
    category that is used is, but for its case, that of one label, the names decide. Otherwise the
    ids stay, and what they mean is checked: here for a model without class names, and where
    pictures are evaluated for one with names (`CocoDataset.check_labels`).

    Raises:
        InputError: a model without class names has no label of a used category's number, or the
            file names what is not there.
    """
    names, labels = manifest.class_names, manifest.source.get("labels")
    if dataset.chosen is not None:
        return _renumbered(dataset, _by_file(names, labels, dataset), BY_FILE)
    if names is not None:
        label = _by_name(names, dataset)
        return dataset if label is None else _renumbered(dataset, label, BY_NAME)
    if labels is None:
        return dataset
    for category in sorted(dataset.used):
        if not 0 < category <= labels:
            raise InputError(
                f"{dataset.source} has category {category} "
                f"({quoted(dataset.categories[category])}), and the model's labels are 1 to "
                f"{labels}: {_REMEDY}"
            )
    return dataset


def doubt(
    manifest: Manifest, dataset: CocoDataset, reference: Mapping[str, Mapping[str, Any]]
) -> str:
    """Say where AP is undefined, or ask where its being near 0 may come of the numbering alone.

    Returns:
        A sentence or a question; empty where there is nothing to say.

    Args:
        manifest: of the bundle.
        dataset: as it was evaluated.
        reference: AP of the FP32 reference, 0 to 100, by kind.
    """
    if all(entry.get("iscrowd") for entry in dataset.annotations):
        return (
            f"AP is undefined: every annotation of {dataset.source} is a crowd (iscrowd 1), and "
            "none counts as an object; annotate objects one by one."
        )
    ap = reference.get("box", {}).get("AP")
    if manifest.class_names is not None or dataset.chosen is not None:
        return ""
    if ap is None or ap >= NO_NAMES_AP:
        return ""
    shown = ", ".join(f"{n} {quoted(dataset.categories[n])}" for n in sorted(dataset.used)[:4])
    return (
        f"Are the model's labels numbered as the data set's categories ({shown})? The model has no "
        f"class names, and FP32 itself has a box AP of {ap:.2f}: compile with class_names=, or say "
        "which category is which label in categories=."
    )


def _by_name(class_names: Sequence[str], dataset: CocoDataset) -> dict[int, int] | None:
    """Return category → label if each used one is one label; label 0 is the background."""
    known = [name.casefold() for name in class_names]
    wanted = {n: name.casefold() for n, name in dataset.categories.items()}
    counted = sorted(dataset.used or wanted)
    names = [wanted[category] for category in counted]
    if len(set(names)) != len(names) or any(known[1:].count(name) != 1 for name in names):
        return None
    label = {category: known.index(wanted[category], 1) for category in counted}
    for category, name in wanted.items():  # unused, and yet a label: its name is for the report
        place = known.index(name, 1) if known[1:].count(name) == 1 else 0
        if place and category not in label and place not in label.values():
            label[category] = place
    same = all(category == number for category, number in label.items())
    return None if same and label.keys() == wanted.keys() else label


def _by_file(
    names: Sequence[str] | None, labels: int | None, dataset: CocoDataset
) -> dict[int, int]:
    """Return category → label as the file says; what it does not name keeps its number."""
    most = len(names) - 1 if names is not None else labels
    by_name = {name: n for n, name in dataset.categories.items()}
    label = {n: n for n in sorted(dataset.used)}
    for said, meant in (dataset.chosen or {}).items():
        category = by_name.get(said, int(said) if re.fullmatch(r"-?\d{1,18}", said) else None)
        if category not in dataset.categories:
            raise InputError(
                f"categories= names {quoted(said)}, which is no category of {dataset.source}: give "
                "the names or ids that it lists."
            )
        label[category] = _label(names, said, meant)
    for category, number in label.items():
        if number < 1 or (most is not None and number > most):
            raise InputError(
                f"category {category} ({quoted(dataset.categories[category])}) of {dataset.source} "
                f"would be label {number}, and the model's labels are 1 to {most or '...'}: say in "
                "categories= which label it is."
            )
    return label


def _label(names: Sequence[str] | None, said: str, meant: str | int) -> int:
    if isinstance(meant, int):
        return meant
    known = [] if names is None else [name.casefold() for name in names]
    if meant.casefold() not in known[1:]:
        raise InputError(
            f"categories= says that {quoted(said)} is {quoted(meant)}, which is no class of the "
            "model: give a name that maskrt inspect shows, or a label's number."
        )
    return known.index(meant.casefold(), 1)


def _renumbered(dataset: CocoDataset, label: Mapping[int, int], how: str) -> CocoDataset:
    """Give the categories in `label` their labels for ids, and leave out the others, unused."""
    if all(category == number for category, number in label.items()) and how is BY_NAME:
        how = ""  # only unused ones were left out
    names: dict[int, str] = {}
    for category, number in label.items():  # several may be one label: the first names it
        names.setdefault(number, dataset.categories[category])
    return replace(
        dataset,
        categories=names,
        annotations=tuple(
            {**entry, "category_id": label[entry["category_id"]]}
            for entry in dataset.annotations
            if entry["category_id"] in label  # else it is a crowd that is compared with nothing
        ),
        numbering=how,
    )
