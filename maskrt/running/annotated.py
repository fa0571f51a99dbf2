"""Results under the numbers of the user's own annotations, so that COCO's tools can score them."""

from pathlib import Path, PurePosixPath
from typing import Any

from ..checking.category_numbers import numbered
from ..core import InputError
from ..core.bundle import Manifest
from ..runtime.check import CocoDataset

__all__ = ["AnnotatedIds"]


class AnnotatedIds:
    """The image ids, file names and category ids of an annotation file.

    Attributes:
        categories: COCO's, as they stand there.
    """

    def __init__(self, manifest: Manifest, annotations: Path | str) -> None:
        """Read the file, and match its categories with the model's labels (`numbered`).

        Raises:
            InputError: it is no COCO instances file, or its categories are none of the model's.
        """
        read = CocoDataset.read(annotations)
        ours = numbered(manifest, read)
        ours.check_labels(manifest.class_names)
        self.categories = [{"id": number, "name": name} for number, name in read.categories.items()]
        self._category = dict(zip(ours.categories, read.categories, strict=True))
        self._source = read.source
        self._ids: dict[str, list[tuple[PurePosixPath, int]]] = {}
        for image in read.images:
            named = PurePosixPath(image.path.as_posix())
            self._ids.setdefault(named.name, []).append((named, image.id))

    def of(self, picture: Path) -> tuple[int, str]:
        """Return the image id and file name of a picture.

        An entry is the picture's if its `file_name` is how the picture's path ends, or if no other
        entry's last part is the picture's name.

        Raises:
            InputError: none or several may be meant.
        """
        named = self._ids.get(picture.name, [])
        path = picture.absolute().parts
        ending = [pair for pair in named if path[-len(pair[0].parts) :] == pair[0].parts]
        found = max(ending, key=lambda pair: len(pair[0].parts)) if ending else None
        if found is None and len(named) == 1:
            found = named[0]
        if found is None:
            what = "several of that name" if named else "no picture of that name"
            raise InputError(
                f"{picture} has no image_id: {self._source} has {what}. Leave the picture out, or "
                "name the annotations that it belongs to."
            )
        return found[1], str(found[0])

    def renumbered(self, entry: dict[str, Any]) -> dict[str, Any] | None:
        """Return a COCO result with the file's category id; None if it has no such category."""
        category = self._category.get(entry["category_id"])
        return None if category is None else {**entry, "category_id": category}
