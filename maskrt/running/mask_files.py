"""What is found, written for other tools: label maps, COCO, YOLO, LabelMe, CSV.

| format | files, in the output folder | masks are |
|---|---|---|
| `png` | `masks/NAME.png`, 16 bit | exact: pixels are their instance's number, the best on top |
| `coco` | `annotations.json`, a data set | exact: RLE |
| `yolo` | `labels/NAME.txt`, `data.yaml` with the names | one outline, to a pixel, holes filled |
| `labelme` | `labelme/NAME.json` | outlines, to a pixel, holes filled |
| `labelme-mask` | `labelme-mask/NAME.json` | exact: LabelMe's shape `mask` |
| `csv` | `instances.csv` | their number of pixels; of a film, each one's track, too |

NAME is that of the drawn picture; a film's frames are `NAME-000000` and on. An instance's number is
its line, from 1, in the picture's part of `instances.csv`.
"""

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core import Instances, UsageError, require
from ..core.whole_file import whole_file, write_text

__all__ = ["FORMATS", "MaskFiles", "check_formats"]

FORMATS = ("png", "coco", "yolo", "labelme", "labelme-mask", "csv")
_COLUMNS = ("file_name", "image_id", "instance", "label", "name", "score", "x0", "y0", "x1", "y1",
            "mask_pixels", "track_id")  # fmt: skip
_TABLES = {"coco": "annotations.json", "csv": "instances.csv", "yolo": "data.yaml"}
_MOST_IN_A_MAP = 65535


def check_formats(formats: Sequence[str]) -> tuple[str, ...]:
    """Return the formats, each once.

    Raises:
        UsageError: one is not known.
    """
    for name in formats:
        if name not in FORMATS:
            raise UsageError(f"masks are written as {', '.join(FORMATS)}, and not as {name!r}.")
    return tuple(dict.fromkeys(formats))


class MaskFiles:
    """Writers of the formats that were asked for, beside each other."""

    def __init__(self, folder: Path, formats: Sequence[str]) -> None:
        """Write into `folder`; files appear with each picture, tables with `close`."""
        self._folder, self._formats = folder, formats
        self._rows: list[tuple[Any, ...]] = []
        self._annotations: list[dict[str, Any]] = []

    @staticmethod
    def tables(formats: Sequence[str]) -> list[str]:
        """Return the names of the files that `close` writes."""
        return [_TABLES[form] for form in formats if form in _TABLES]

    def add(
        self,
        name: str,
        image: dict[str, Any],
        picture: Path | None,
        found: Instances,
        entries: Sequence[dict[str, Any] | None],
    ) -> None:
        """Write what was found in one picture.

        Args:
            name: of its files, without an ending.
            image: COCO's entry of the picture.
            picture: its file; None for a film's frame.
            found: the instances to write.
            entries: their COCO results; None where the user's annotations have no such category.
        """
        areas = _areas(found) if {"coco", "csv"} & set(self._formats) else []
        for form in self._formats:
            if form == "png":
                self._write_map(name, found)
            elif form == "coco":
                self._annotate(entries, areas)
            elif form == "yolo":
                self._write("labels", f"{name}.txt", found.to_yolo())
            elif form in ("labelme", "labelme-mask"):
                there = name if picture is None else _from(self._folder / form, picture)
                made = found.to_labelme(there, exact=form == "labelme-mask")
                self._write(form, f"{name}.json", json.dumps(made, indent=2) + "\n")
            else:
                self._tabulate(image, found, areas, entries)

    def close(
        self,
        images: Sequence[dict[str, Any]],
        categories: Sequence[dict[str, Any]],
        class_names: Sequence[str] | None,
    ) -> None:
        """Write the tables: COCO's data set, CSV, and YOLO's names.

        Args:
            images: COCO's.
            categories: COCO's, as the entries are numbered.
            class_names: of the model's labels, background included, as YOLO's lines are numbered.
        """
        if "coco" in self._formats:
            known = categories or _numbered(self._annotations)
            whole = {"images": images, "annotations": self._annotations, "categories": known}
            write_text(self._folder / _TABLES["coco"], json.dumps(whole) + "\n")
        if "csv" in self._formats:
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *self._rows])
            write_text(self._folder / _TABLES["csv"], text.getvalue())
        if "yolo" in self._formats and class_names:
            names = [f"  {n}: {json.dumps(name)}" for n, name in enumerate(class_names[1:])]
            write_text(self._folder / _TABLES["yolo"], "\n".join(["names:", *names]) + "\n")

    def _write(self, folder: str, name: str, text: str) -> None:
        write_text(self._folder / folder / name, text)

    def _write_map(self, name: str, found: Instances) -> None:
        image = require("PIL.Image", "write masks")
        numbers = np.zeros(found.image_size, np.uint16)
        order = np.arange(min(len(found), _MOST_IN_A_MAP))[::-1]
        for index, (top, left, inside) in zip(order, found.each_crop(order), strict=False):
            part = numbers[top : top + inside.shape[0], left : left + inside.shape[1]]
            part[inside] = index + 1
        with whole_file(self._folder / "masks" / f"{name}.png") as written:
            image.fromarray(numbers).save(written)

    def _annotate(self, entries: Sequence[dict[str, Any] | None], areas: Sequence[float]) -> None:
        for entry, area in zip(entries, areas, strict=True):
            if entry is not None:
                number = len(self._annotations) + 1
                self._annotations.append({"id": number, **entry, "area": area, "iscrowd": 0})

    def _tabulate(
        self,
        image: dict[str, Any],
        found: Instances,
        areas: Sequence[float],
        entries: Sequence[dict[str, Any] | None],
    ) -> None:
        for index, (area, entry) in enumerate(zip(areas, entries, strict=True)):
            label = int(found.labels[index])
            box = (f"{value:.2f}" for value in found.boxes[index])
            score = f"{found.scores[index]:.6f}"
            self._rows.append(
                (image["file_name"], image["id"], index + 1, label, found.name_of(label), score,
                 *box, "" if found.masks_source is None else area,
                 (entry or {}).get("track_id", ""))
            )  # fmt: skip


def _areas(found: Instances) -> list[float]:
    """Return each mask's pixels, or each box's area where there are no masks."""
    if found.masks_source is not None:
        return [int(crop.inside.sum()) for crop in found.each_crop()]
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    return [float(area) for area in sides.prod(axis=1)]


def _numbered(annotations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return categories named by their number, for a model without class names."""
    labels = sorted({entry["category_id"] for entry in annotations})
    return [{"id": label, "name": str(label)} for label in labels]


def _from(folder: Path, picture: Path) -> str:
    """Return the picture's path as a file in `folder` names it."""
    try:
        return Path(os.path.relpath(picture, folder)).as_posix()
    except ValueError:  # another drive
        return str(picture.absolute())
