"""What a run keeps of each picture and frame: COCO's rows, and files for other tools."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core import Instances, UsageError, suggestion
from .annotated import AnnotatedIds
from .mask_files import MaskFiles
from .tracks import NO_TRACK

__all__ = ["Kept", "labels_of"]


@dataclass
class Kept:
    """What was found so far.

    Attributes:
        min_score: instances below it are not drawn, and not in the files for other tools.
        files: writers for other tools.
        labels: the only ones that are kept; None keeps all.
        ids: numbers of the user's annotations; None keeps the model's labels.
        images: COCO's, one a picture or frame.
        annotations: COCO results.
        unknown: how many instances are of labels that no category of the annotations is; they are
            not in `annotations`.
    """

    min_score: float
    files: MaskFiles
    labels: frozenset[int] | None = None
    ids: AnnotatedIds | None = None
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    unknown: int = 0

    def chosen(self, found: Instances) -> Instances:
        """Return the instances whose labels are kept."""
        if self.labels is None:
            return found
        return found.select(np.flatnonzero(np.isin(found.labels, sorted(self.labels))))

    def add(
        self,
        found: Instances,
        name: str,
        image_id: int,
        file_name: str,
        picture: Path | None,
        track_ids: np.ndarray | None = None,
    ) -> None:
        """Keep what was found in one picture.

        Args:
            found: the instances, `chosen` already.
            name: of files for other tools, without an ending.
            image_id: COCO's.
            file_name: COCO's.
            picture: its file; None for a frame.
            track_ids: int `[N]`, the number of each instance's track; results that are on one have
                it as `track_id`.
        """
        height, width = found.image_size
        image = {"id": image_id, "file_name": file_name, "height": height, "width": width}
        self.images.append(image)
        results = found.to_coco(image_id)
        for entry, track in zip(results, () if track_ids is None else track_ids, strict=False):
            if track != NO_TRACK:
                entry["track_id"] = int(track)
        entries = results if self.ids is None else [self.ids.renumbered(one) for one in results]
        known = [entry for entry in entries if entry is not None]
        self.annotations += known
        self.unknown += len(entries) - len(known)
        sure = np.flatnonzero(found.scores >= self.min_score)
        self.files.add(name, image, picture, found.select(sure), [entries[i] for i in sure])


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
        elif not names:
            raise UsageError(f"the model has no class names, so class {word!r} is a number.")
        else:
            known = suggestion(word, (class_names or ())[1:])
            raise UsageError(f"the model has no class {word!r}: {known}")
    return frozenset(labels)
