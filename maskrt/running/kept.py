"""What a run keeps of each picture and frame: COCO's rows, and files for other tools."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core import Instances, UsageError, suggestion
from .annotated import AnnotatedIds
from .mask_files import MaskFiles

__all__ = ["Kept", "labels_of"]


@dataclass
class Kept:
    """What was found so far.

    Attributes:
        min_score: instances below it are not drawn, and not in the files for other tools.
        files: writers for other tools.
        labels: the only ones that are kept; None keeps all.
        ids: numbers of the user's annotations; None numbers pictures from 1.
        images: COCO's, one a picture or frame.
        annotations: COCO results.
    """

    min_score: float
    files: MaskFiles
    labels: frozenset[int] | None = None
    ids: AnnotatedIds | None = None
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def chosen(self, found: Instances) -> Instances:
        """Return the instances whose labels are kept."""
        if self.labels is None:
            return found
        return found.select(np.flatnonzero(np.isin(found.labels, sorted(self.labels))))

    def add(
        self, found: Instances, name: str, file_name: str, picture: Path | None, image_id: int
    ) -> list[dict[str, Any]]:
        """Keep what was found in one picture, and return its COCO results.

        Args:
            found: the instances, `chosen` already.
            name: of files for other tools, without an ending.
            file_name: COCO's; the annotations' own stands in its place.
            picture: its file; None for a frame.
            image_id: of a picture that the user's annotations do not number.
        """
        number = image_id
        if self.ids is not None and picture is not None:
            number, file_name = self.ids.of(picture)
        height, width = found.image_size
        image = {"id": number, "file_name": file_name, "height": height, "width": width}
        self.images.append(image)
        self.files.add(name, image, picture, found.above(self.min_score))
        entries = found.to_coco(number)
        if self.ids is not None:
            entries = self.ids.renumbered(entries)
        self.annotations += entries
        return entries


def labels_of(
    classes: Sequence[str | int] | None, class_names: Sequence[str] | None
) -> frozenset[int] | None:
    """Return the labels that names or numbers mean; None for None.

    Raises:
        UsageError: the model has no class of that name or number.
    """
    if classes is None:
        return None
    names = [name.casefold() for name in class_names or ()]
    labels = set()
    for given in classes:
        word = str(given).strip()
        if word.casefold() in names[1:]:
            labels.add(names.index(word.casefold(), 1))
        elif word.isdecimal() and int(word) > 0 and (not names or int(word) < len(names)):
            labels.add(int(word))
        else:
            if not names:
                raise UsageError(f"the model has no class names, so class {word!r} is a number.")
            known = suggestion(word, (class_names or ())[1:])
            raise UsageError(f"the model has no class {word!r}: {known}")
    return frozenset(labels)
