"""A COCO data set: pictures, categories and annotations, all checked when it is read.

A model's labels are COCO category ids as they stand (torchvision's convention; 0 is background), so
nothing is renumbered between predictions and annotations. Annotations themselves are numbered anew
from 1: pycocotools takes one with id 0 for never found.

Source: https://cocodataset.org/#format-data.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from ...core import InputError
from ...core.bundle_checks import storing
from ...core.typed_files import plain_json
from ...core.words import quoted

__all__ = ["CocoDataset", "CocoImage"]

_Entry = TypeVar("_Entry")
_BEYOND = 1 << 63
_SHOWN = 300  # letters of a path
_FARTHEST = 1e9  # pixels; what is farther away would overflow in areas


@dataclass(frozen=True)
class CocoImage:
    """One picture of a data set.

    Attributes:
        id: COCO's `image_id`.
        path: the file, which exists.
        size: `(height, width)` that the annotations were made in.
    """

    id: int
    path: Path
    size: tuple[int, int]


@dataclass(frozen=True)
class CocoDataset:
    """An annotated set of pictures.

    Attributes:
        source: the annotation file.
        images: the pictures, in the file's order.
        categories: category id → name.
        annotations: COCO annotation entries, numbered anew from 1.
        chosen: category's name or id → class name or label of the model, as the user said.
        numbering: how categories became the model's labels, a sentence; empty if as they stand.
    """

    source: Path
    images: tuple[CocoImage, ...]
    categories: dict[int, str]
    annotations: tuple[dict[str, Any], ...]
    chosen: Mapping[str, str | int] | None = None
    numbering: str = ""

    @classmethod
    def load(
        cls,
        images: Path | str,
        annotations: Path | str,
        categories: Path | str | None = None,
    ) -> "CocoDataset":
        """Read an annotation file, and see that every picture it names is there.

        Args:
            images: folder that `file_name` is relative to.
            annotations: COCO instances JSON.
            categories: JSON object: a category's name or id → a class name or a label's number of
                the model.

        Raises:
            InputError: no file, no JSON, not COCO instances, no annotations, or a missing picture.
        """
        dataset = cls.read(annotations, images, categories)
        _check_content(dataset)
        _check_files(dataset, Path(images))
        return dataset

    @classmethod
    def read(
        cls,
        annotations: Path | str,
        images: Path | str = "",
        categories: Path | str | None = None,
    ) -> "CocoDataset":
        """Read an annotation file as `load` does, whatever pictures are there, or none.

        Raises:
            InputError: no file, no JSON, or not COCO instances.
        """
        source, folder = Path(annotations), Path(images)
        data = _read_json(source)
        pictures = _entries(source, data, "images", lambda entry, _: _image(entry, folder))
        listed = _entries(source, data, "categories", _category)
        entries = _entries(source, data, "annotations", _annotation)
        chosen = None if categories is None else _read_chosen(Path(categories))
        return cls(source, pictures, dict(listed), entries, chosen)

    def share(self, most: int) -> "CocoDataset":
        """Return the data set with at most `most` of its pictures, evenly spread."""
        if len(self.images) <= most:
            return self
        images = tuple(self.images[i * len(self.images) // most] for i in range(most))
        kept = {image.id for image in images}
        annotations = tuple(a for a in self.annotations if a["image_id"] in kept)
        return replace(self, images=images, annotations=annotations)

    @property
    def used(self) -> set[int]:
        """The categories of the annotations that count.

        A crowd counts only beside objects of its category: with a category of its own, as the
        ignored regions of VisDrone have it, nothing is compared.
        """
        objects = [entry for entry in self.annotations if not entry.get("iscrowd")]
        return {entry["category_id"] for entry in objects or self.annotations}

    @property
    def has_masks(self) -> bool:
        """Whether any annotation has a segmentation: without one there is no mask AP."""
        return any(entry.get("segmentation") for entry in self.annotations)

    def check_labels(self, class_names: Sequence[str] | None) -> None:
        """See that the model's labels mean what the category ids mean.

        Categories without an annotation are not looked at. An id is refused if the model has no
        such label, or if the category's name stands at another label of the model (ids
        shifted or shuffled). A name that the model does not know at all is taken for another
        spelling.

        Args:
            class_names: name of each label, index 0 (background) included; None cannot be checked.

        Raises:
            InputError: they do not.
        """
        if class_names is None:
            return
        known = [name.casefold() for name in class_names]
        used = self.used
        for category, name in self.categories.items():
            if category not in used:
                continue
            if not 0 < category < len(known):
                raise InputError(
                    f"{self.source} has category {category} ({quoted(name)}), and the model's "
                    f"labels are 1 to {len(known) - 1}: {_NUMBER_THEM}"
                )
            wanted = name.casefold()
            if known[category] != wanted and wanted in known:
                raise InputError(
                    f"{self.source} calls category {category} {quoted(name)}, which is the "
                    f"model's label {known.index(wanted)} (its label {category} is "
                    f"{quoted(class_names[category])}): {_NUMBER_THEM}"
                )


def _read_json(source: Path) -> Any:
    if not source.is_file():
        what = "is a folder" if source.is_dir() else "does not exist"
        raise InputError(f"{source} {what}: name the COCO annotation file.")
    try:
        with storing(f"read {source}"):
            return plain_json(source.read_bytes(), finite=False)
    except ValueError as error:  # of the JSON, or of the UTF-8
        raise InputError(
            f"{source} is not valid JSON ({error}): name the COCO annotation file, or make it "
            "again."
        ) from error


_NUMBER_THEM = (
    "number the categories as the model was trained, or say which is which in categories=."
)


def _read_chosen(source: Path) -> dict[str, str | int]:
    """Read which label of the model each category is."""
    chosen = _read_json(source)
    fits = isinstance(chosen, dict) and all(
        isinstance(value, str | int) and not isinstance(value, bool) for value in chosen.values()
    )
    if not fits:
        raise InputError(
            f"{source} does not say which label each category is: write a JSON object such as "
            '{"car": "automobile", "7": 3}, names or ids of the annotations to names or labels of '
            "the model."
        )
    return dict(chosen)


_NEEDED = {
    "images": "an id, a file_name (or coco_url), a height and a width, whole numbers of 64 bits",
    "categories": "an id, a whole number of 64 bits, and a name",
    "annotations": "an image_id, a category_id and a bbox of four finite numbers",
}


def _entries(
    source: Path, data: Any, name: str, read: Callable[[dict[str, Any], int], _Entry]
) -> tuple[_Entry, ...]:
    """Read each entry of a list; an error names the one that cannot be read."""
    listed = data.get(name) if isinstance(data, dict) else None
    if not isinstance(listed, list):
        raise InputError(
            f"{source} has no list {name}: name a COCO instances file, which has images, "
            "annotations and categories, as on https://cocodataset.org/#format-data."
        )
    found = []
    for place, entry in enumerate(listed):
        try:
            found.append(read(entry, place + 1))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            known = isinstance(entry, dict) and "id" in entry
            shown = f" (id {quoted(entry['id'])})" if known else ""
            raise InputError(
                f"entry {place} of {name}{shown} in {source} cannot be read: it needs "
                f"{_NEEDED[name]}; mend the entry or make the file again."
            ) from error
    return tuple(found)


def _whole(value: Any) -> int:
    """Return a whole number of 64 bits, which some programs write as 7.0 or "7"."""
    number = int(value)
    if not -_BEYOND <= number < _BEYOND or (isinstance(value, float) and number != value):
        raise ValueError("no whole number of 64 bits")
    return number


def _category(entry: dict[str, Any], _number: int) -> tuple[int, str]:
    return _whole(entry["id"]), str(entry["name"])


def _image(entry: dict[str, Any], folder: Path) -> CocoImage:
    size = (_whole(entry["height"]), _whole(entry["width"]))
    name = entry.get("file_name")
    path = _by_address(entry["coco_url"], folder) if name is None else folder / name
    if min(size) < 1 or name == "" or "\0" in str(path):
        raise ValueError("no size, or no name")
    return CocoImage(_whole(entry["id"]), path, size)


def _by_address(address: str, folder: Path) -> Path:
    """Return the file of a picture that has no name but COCO's address, as those of LVIS.

    LVIS takes pictures of several of COCO's folders, which the address names.
    """
    above, _, name = address.rpartition("/")
    if not name:
        raise ValueError("no name")
    inside = folder / above.rpartition("/")[2] / name
    return inside if _is_there(inside) else folder / name


def _annotation(entry: dict[str, Any], number: int) -> dict[str, Any]:
    """Return what AP needs of an annotation; `area` and `iscrowd` may be absent."""
    x, y, width, height = (float(value) for value in entry["bbox"])
    area = float(entry.get("area", width * height))
    if not all(abs(value) <= _FARTHEST for value in (x, y, width, height, math.sqrt(abs(area)))):
        raise ValueError("the box or area is not finite, or of no picture")
    return {
        "id": number,
        "image_id": _whole(entry["image_id"]),
        "category_id": _whole(entry["category_id"]),
        "bbox": [x, y, width, height],
        "area": area,
        "iscrowd": _whole(entry.get("iscrowd", 0)),
        "segmentation": entry.get("segmentation"),
    }


def _check_content(dataset: CocoDataset) -> None:
    source = dataset.source
    if not dataset.annotations:
        raise InputError(f"{source} has no annotations, so there is no AP: name an annotated set.")
    pictures = {image.id for image in dataset.images}
    if len(pictures) != len(dataset.images):
        raise InputError(f"{source} gives two pictures the same id: number them apart.")
    for entry in dataset.annotations:
        if entry["image_id"] not in pictures:
            raise InputError(
                f"{source} annotates picture {entry['image_id']}, which is not among its images: "
                "make the file again."
            )
        if entry["category_id"] not in dataset.categories:
            raise InputError(
                f"{source} uses category {entry['category_id']}, which is not among its "
                "categories: make the file again."
            )


def _is_there(path: Path) -> bool:
    """Whether a file is there; one whose name no file system can hold is not."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a lone surrogate
        return False


def _check_files(dataset: CocoDataset, folder: Path) -> None:
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {what}: name the folder of the pictures of {dataset.source}.")
    missing = [image.path for image in dataset.images if not _is_there(image.path)]
    if missing:
        raise InputError(
            f"{len(missing)} of the {len(dataset.images)} pictures of {dataset.source} are "
            f"missing, the first is {str(missing[0])[:_SHOWN]}: name the folder that holds them."
        )
