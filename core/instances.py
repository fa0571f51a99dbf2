"""Instances: what a detector says about one picture, in that picture's own pixels."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import rle
from .errors import InputError
from .interchange import labelme, supervision_detections
from .marks import Shown, colour_of, draw
from .masks import Crop, MaskSource, crops_of
from .outline import one_ring, polygons

__all__ = ["Instances"]


@dataclass
class Instances:
    """Detected instances, best score first.

    Attributes:
        boxes: float32 `[N, 4]`, xyxy, pixels of the picture.
        scores: float32 `[N]`, 0 to 1.
        labels: int64 `[N]`; the model's own class indices, 0 being background.
        image_size: `(height, width)` of the picture.
        class_names: name of each label, index 0 included, or None.
        masks_source: bool masks `[N, height, width]`, or what makes them on first use (a
            `MaskSource`, or a function), or None for a model without masks.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    image_size: tuple[int, int]
    class_names: Sequence[str] | None = None
    masks_source: np.ndarray | MaskSource | Callable[[], np.ndarray] | None = field(
        default=None, repr=False
    )
    _pasted: np.ndarray | None = field(default=None, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        """Return the number of instances."""
        return len(self.scores)

    def __getitem__(self, index: "int | slice | Sequence[int] | np.ndarray") -> "Instances":
        """Return the instance of that index, or those of a slice, a list or a bool array.

        One instance is `Instances` of length 1, so that it has masks, names and formats as well.

        Raises:
            IndexError: there is none of that index.
        """
        chosen = index if isinstance(index, int | slice) else np.asarray(index)
        return self.select(np.atleast_1d(np.arange(len(self))[chosen]))

    def __iter__(self) -> "Iterator[Instances]":
        """Yield each instance, `Instances` of length 1."""
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        """Return size, number, and the first instances, in a line."""
        height, width = self.image_size
        first = ", ".join(self._caption(index, None) for index in range(min(len(self), 3)))
        more = ", …" if len(self) > 3 else ""
        return (
            f"<maskrt.Instances: {len(self)} on {height} x {width}{first and ': ' + first}{more}>"
        )

    @property
    def masks(self) -> np.ndarray | None:
        """Bool masks `[N, height, width]`, pasted on first use; None for a box-only model.

        A byte a pixel and instance, 3.6 GB for 300 on 12 megapixels: `each_crop` makes one at a
        time, no larger than what it covers.
        """
        if self._pasted is None:
            source = self.masks_source
            self._pasted = source() if callable(source) else source
        return self._pasted

    @property
    def crops(self) -> list[Crop] | None:
        """The masks as crops, without pasting full-size ones; None for a box-only model."""
        if isinstance(self.masks_source, MaskSource):
            return self.masks_source.crops()
        masks = self.masks
        return None if masks is None else crops_of(masks)

    def each_crop(self, keep: np.ndarray | None = None) -> Iterator[Crop]:
        """Yield the masks as crops, each made when it is asked for; none for a box-only model.

        Args:
            keep: indices of the instances; None for all, in their order.
        """
        source = self.masks_source
        if source is None:
            return
        order = np.arange(len(self)) if keep is None else keep
        if isinstance(source, MaskSource):
            for index in order:
                yield from source.select(np.array([index])).crops()
            return
        masks = self.masks
        assert masks is not None
        for index in order:
            yield from crops_of(masks[index : index + 1])

    def polygons(self, tolerance: float = 0.0) -> list[list[np.ndarray]]:
        """Return the outlines of each mask, the largest first; none for a box-only model.

        Args:
            tolerance: pixels by which an outline may be wrong; 0 follows every pixel's edge.

        Returns:
            For each instance its rings, float32 `[K, 2]`, x and y; holes are filled.
        """
        if self.masks_source is None:
            return [[] for _ in self.scores]
        return [polygons(crop, tolerance) for crop in self.each_crop()]

    def select(self, keep: np.ndarray) -> "Instances":
        """Return the instances that the index or bool array `keep` names."""
        source = self.masks_source
        if isinstance(source, MaskSource):
            kept: np.ndarray | MaskSource | None = source.select(keep)
        else:
            kept = None if self.masks is None else self.masks[keep]
        return Instances(
            self.boxes[keep], self.scores[keep], self.labels[keep], self.image_size,
            self.class_names, kept,
        )  # fmt: skip

    def above(self, min_score: float) -> "Instances":
        """Return the instances of that score or more; 0 keeps all, whatever the engine scored."""
        if min_score <= 0:
            return self
        kept = self.scores >= min_score
        return self if kept.all() else self.select(np.flatnonzero(kept))

    def name_of(self, label: int) -> str:
        """Return the class name of `label`, or the number where no names are known."""
        if self.class_names is not None and 0 <= label < len(self.class_names):
            return self.class_names[label]
        return str(label)

    def _names(self) -> list[str]:
        return [self.name_of(int(label)) for label in self.labels]

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """Return COCO result entries: `bbox` is xywh, `segmentation` compressed RLE.

        Source: COCO results format, https://cocodataset.org/#format-results.
        """
        entries = []
        for index, mask in enumerate(self._rles()):
            x0, y0, x1, y1 = (float(v) for v in self.boxes[index])
            entry: dict[str, Any] = {
                "image_id": image_id,
                "category_id": int(self.labels[index]),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "score": float(self.scores[index]),
            }
            entries.append(entry if mask is None else {**entry, "segmentation": mask})
        return entries

    def _rles(self) -> Iterator[dict[str, Any] | None]:
        if self.masks_source is None:
            yield from (None for _ in range(len(self)))
        for crop in self.each_crop():
            yield rle.encode(crop, self.image_size)

    def to_labelme(
        self, image_path: str = "", *, tolerance: float = 1.0, exact: bool = False
    ) -> dict[str, Any]:
        """Return a LabelMe annotation: a polygon a part of a mask, or a rectangle without masks.

        Args:
            image_path: the picture's file, as LabelMe finds it from the annotation's.
            tolerance: pixels by which a polygon may be wrong; see `polygons`.
            exact: write each mask as it is, holes and all, as LabelMe's shape `mask`, whose points
                cannot be moved there.

        Source: `LabelFile.save` in labelme, labelme/label_file.py.
        """
        about = (self.boxes, self.scores, self._names())
        if self.masks_source is not None and exact:
            crops = list(self.each_crop())
            return labelme(*about, None, self.image_size, image_path, crops)
        rings = None if self.masks_source is None else self.polygons(tolerance)
        return labelme(*about, rings, self.image_size, image_path)

    def to_yolo(self, *, tolerance: float = 1.0) -> str:
        """Return the lines of a YOLO segmentation label file, one an instance with a mask.

        A line is the class (label 1 is 0, since YOLO has no background) and the outline's corners
        in shares of width and height. A mask of several parts is one outline, whose parts are
        joined by lines without an area. Scores have no place in it.

        Args:
            tolerance: pixels by which an outline may be wrong; see `polygons`.

        Source: https://docs.ultralytics.com/datasets/segment/.
        """
        height, width = self.image_size
        lines = []
        for label, rings in zip(self.labels, self.polygons(tolerance), strict=True):
            if rings:
                corners = one_ring(rings) / (width, height)
                numbers = " ".join(f"{value:.6f}" for value in corners.ravel())
                lines.append(f"{label - 1} {numbers}\n")
        return "".join(lines)

    def to_supervision(self) -> Any:
        """Return `supervision.Detections`, masks pasted.

        Raises:
            MissingDependencyError: supervision is not installed.
        """
        return supervision_detections(
            self.boxes, self.scores, self.labels, self._names(), self.masks
        )

    def draw(
        self, image: np.ndarray, *, min_score: float = 0.5, track_ids: np.ndarray | None = None
    ) -> np.ndarray:
        """Return a copy of `image` (uint8 HWC RGB) with masks, boxes and captions drawn.

        Colours go by class, letters and lines by the size of the picture (`marks.py`).

        Args:
            image: the picture, `image_size` large.
            min_score: instances below this score are left out.
            track_ids: int `[N]`, the number of each instance's track, 0 for none: it gives the
                colour in place of the class, and stands in the caption.

        Raises:
            InputError: the picture is another one, or no uint8 RGB.
        """
        canvas = np.asarray(image)
        if canvas.dtype != np.uint8 or canvas.shape != (*self.image_size, 3):
            raise InputError(
                f"instances of a picture of {list(self.image_size)} are drawn on its pixels, uint8 "
                f"{[*self.image_size, 3]} in RGB order, and not on {canvas.dtype} "
                f"{list(canvas.shape)}: maskrt.runtime.read_image gives those of a file."
            )
        chosen = np.flatnonzero(self.scores >= min_score)[::-1]
        numbers = self.labels if track_ids is None else track_ids
        shown = [
            Shown(self.boxes[i], self._caption(i, track_ids), colour_of(int(numbers[i])))
            for i in chosen
        ]
        return draw(canvas, shown, self.each_crop(chosen))

    def _caption(self, index: int, track_ids: np.ndarray | None) -> str:
        track = 0 if track_ids is None else int(track_ids[index])
        said = f"{self.name_of(int(self.labels[index]))} {self.scores[index]:.2f}"
        return f"#{track} {said}" if track else said
