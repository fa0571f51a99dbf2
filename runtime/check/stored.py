"""Stored results: what a model found on a data set, compact, in memory or in a file.

A workstation writes the reference's results into the bundle, and a device without PyTorch or ONNX
Runtime checks its engine against them. They belong to one data set and one canonical graph, and say
which (`key`).

File format: a NumPy `.npz` without pickles: the fields of `StoredResults`, and `meta`, UTF-8 JSON
with `format_version`, `name` and `key`. A file may come from anywhere, so what is read back is
proven first, each mask's runs included.
"""

import hashlib
import io
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np

from ...core import InputError, Instances
from ...core.masks import Crop, crops_of
from ...core.rle import mask_of
from ...core.rle_text import MOST_PIXELS, read_runs
from ...core.typed import fault
from ...core.typed_arrays import Declared, read_archive
from ...core.typed_files import plain_json
from .coco import CocoDataset
from .evaluator import CocoEvaluator

__all__ = ["Recorder", "StoredResults", "evaluate_stored", "results_key"]

FORMAT_VERSION = 1
_MOST_LABELS = 1 << 31
_ARRAYS = {
    "image_ids": Declared("int64", (None,)), "sizes": Declared("int32", (None, 2)),
    "starts": Declared("int64", (None,)), "boxes": Declared("float32", (None, 4)),
    "scores": Declared("float32", (None,)), "labels": Declared("int64", (None,)),
    "runs": Declared("uint8", (None,)), "run_starts": Declared("int64", (None,)),
}  # fmt: skip


@dataclass(frozen=True)
class StoredResults:
    """Instances of N pictures.

    Attributes:
        name: of the model that found them, such as `"PyTorch FP32"`.
        key: what they belong to, see `results_key`.
        image_ids: int64 `[N]`, ascending.
        sizes: int32 `[N, 2]`, height and width.
        starts: int64 `[N + 1]`: picture i has the instances `starts[i]` to `starts[i + 1]`.
        boxes: float32 `[M, 4]`, xyxy, pixels of the picture.
        scores: float32 `[M]`.
        labels: int64 `[M]`.
        runs: uint8, the masks' compressed RLE one after another; empty without masks.
        run_starts: int64 `[M + 1]`, or empty without masks.
    """

    name: str
    key: str
    image_ids: np.ndarray
    sizes: np.ndarray
    starts: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    runs: np.ndarray
    run_starts: np.ndarray

    def of(self, image_id: int, class_names: Sequence[str] | None = None) -> Instances:
        """Return the instances of one picture; masks are decoded when they are asked for.

        Raises:
            InputError: there are none for that picture.
        """
        at = int(np.searchsorted(self.image_ids, image_id))
        if at == len(self.image_ids) or self.image_ids[at] != image_id:
            raise InputError(
                f"the stored reference has no picture {image_id}: store it again for this data set."
            )
        own = slice(int(self.starts[at]), int(self.starts[at + 1]))
        size = (int(self.sizes[at, 0]), int(self.sizes[at, 1]))
        return Instances(
            self.boxes[own], self.scores[own], self.labels[own], size, class_names,
            self._masks(own, size) if len(self.run_starts) else None,
        )  # fmt: skip

    def _masks(self, own: slice, size: tuple[int, int]) -> "_StoredMasks":
        spans = zip(self.run_starts[own], self.run_starts[own.start + 1 : own.stop + 1],
                    strict=True)  # fmt: skip
        return _StoredMasks([self.runs[a:b].tobytes() for a, b in spans], size)

    def to_bytes(self) -> bytes:
        """Return the content of a file."""
        meta = {"format_version": FORMAT_VERSION, "name": self.name, "key": self.key}
        raw = np.frombuffer(json.dumps(meta).encode(), np.uint8)
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {name: getattr(self, name) for name in _ARRAYS}
        np.savez_compressed(buffer, meta=raw, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "StoredResults":
        """Return what `to_bytes` wrote.

        Raises:
            InputError: it is something else, or of another format version.
        """
        remedy = "store it again with maskrt check --store-reference"
        try:
            meta, arrays = _read(data)
            version = meta["format_version"]
            if version == FORMAT_VERSION:
                _check(**arrays)
        except ValueError as error:
            raise InputError(f"the stored reference cannot be read ({error}): {remedy}.") from error
        if version != FORMAT_VERSION:
            raise InputError(
                f"the stored reference has format version {version}, and this maskrt reads version "
                f"{FORMAT_VERSION}: {remedy}."
            )
        return cls(meta["name"], meta["key"], **arrays)


class _Meta(TypedDict):
    format_version: int
    name: str
    key: str


def _read(data: bytes) -> tuple[_Meta, dict[str, np.ndarray]]:
    """Return what an archive holds, of the declared types."""
    arrays = read_archive(data, {"meta": Declared("uint8", (None,)), **_ARRAYS})
    meta = plain_json(arrays.pop("meta").tobytes())
    if (wrong := fault(meta, _Meta)) is not None:
        raise ValueError(f"in its meta {wrong}")
    return meta, arrays


def _check(
    image_ids: np.ndarray, sizes: np.ndarray, starts: np.ndarray, boxes: np.ndarray,
    scores: np.ndarray, labels: np.ndarray, runs: np.ndarray, run_starts: np.ndarray,
) -> None:  # fmt: skip
    """Raise `ValueError` unless the arrays belong together, and every mask fills its picture."""
    pictures, instances = len(image_ids), len(boxes)
    if len(sizes) != pictures or (np.diff(image_ids) <= 0).any():
        raise ValueError("its pictures are not numbered upwards, with a size each")
    pixels = sizes.astype(np.int64).prod(axis=1)
    if (sizes < 1).any() or (pixels > MOST_PIXELS).any():
        raise ValueError("a picture has a size that no picture has")
    if not len(scores) == len(labels) == instances or not _are_starts(starts, pictures, instances):
        raise ValueError("its instances are not as many as it says")
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ValueError("a box or score is not finite")
    if (labels < 0).any() or (labels >= _MOST_LABELS).any():
        raise ValueError("a label is none")
    if not len(run_starts) and not len(runs):
        return
    if not _are_starts(run_starts, instances, len(runs)):
        raise ValueError("its masks are not as many as its instances")
    text, ends = runs.tobytes(), run_starts.tolist()
    texts = [text[a:b] for a, b in itertools.pairwise(ends)]
    if not all(some.valid.all() for some in read_runs(texts, np.repeat(pixels, np.diff(starts)))):
        raise ValueError("a mask does not fill its picture")


def _are_starts(starts: np.ndarray, parts: int, total: int) -> bool:
    """Whether `starts` divide `total` things into `parts`."""
    if len(starts) != parts + 1 or starts[0] != 0 or starts[-1] != total:
        return False
    return bool((np.diff(starts) >= 0).all())


@dataclass(frozen=True)
class _StoredMasks:
    """Compressed run lengths, decoded when they are asked for (a `MaskSource`)."""

    runs: list[bytes]
    size: tuple[int, int]

    def __call__(self) -> np.ndarray:
        """Return bool `[N, height, width]`."""
        masks = [self._decoded(run) for run in self.runs]
        return np.array(masks, bool).reshape(len(masks), *self.size)

    def crops(self) -> list[Crop]:
        """Return the N crops, one decoded at a time."""
        return [crop for run in self.runs for crop in crops_of(self._decoded(run)[None])]

    def select(self, keep: np.ndarray) -> "_StoredMasks":
        """Return the masks that the index or bool array `keep` names."""
        return _StoredMasks([self.runs[i] for i in np.arange(len(self.runs))[keep]], self.size)

    def _decoded(self, run: bytes) -> np.ndarray:
        (runs,) = read_runs([run], [self.size[0] * self.size[1]])
        return mask_of(runs.of(0), self.size)


@dataclass
class Recorder:
    """Takes in instances picture by picture, in any order."""

    _pictures: dict[int, tuple[Instances, list[bytes] | None]] = field(default_factory=dict)

    def add(self, image_id: int, instances: Instances) -> None:
        """Add one picture's instances; the full-size masks are not kept."""
        runs = None
        if instances.masks_source is not None:
            rles = (entry["segmentation"] for entry in instances.to_coco(image_id))
            runs = [rle["counts"].encode("ascii") for rle in rles]
        bare = Instances(instances.boxes, instances.scores, instances.labels, instances.image_size)
        self._pictures[image_id] = (bare, runs)

    def merge(self, other: "Recorder") -> None:
        """Take over what another recorder has."""
        self._pictures.update(other._pictures)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._pictures)

    def finish(self, name: str, key: str) -> StoredResults:
        """Return everything added."""
        ids = sorted(self._pictures)
        found = [self._pictures[i][0] for i in ids]
        runs = [run for i in ids for run in self._pictures[i][1] or ()]
        masks = all(self._pictures[i][1] is not None for i in ids)
        return StoredResults(
            name,
            key,
            np.array(ids, np.int64),
            np.array([f.image_size for f in found], np.int32).reshape(-1, 2),
            _starts([len(f) for f in found]),
            _joined([f.boxes for f in found], np.float32).reshape(-1, 4),
            _joined([f.scores for f in found], np.float32),
            _joined([f.labels for f in found], np.int64),
            np.frombuffer(b"".join(runs), np.uint8),
            _starts([len(run) for run in runs]) if masks else np.empty(0, np.int64),
        )


def results_key(dataset: CocoDataset, model_sha256: str) -> str:
    """Return what results belong to: the canonical graph, and the data set's pictures."""
    pictures = [[image.id, image.path.name, *image.size] for image in dataset.images]
    text = json.dumps([model_sha256, sorted(pictures)])
    return hashlib.sha256(text.encode()).hexdigest()


def evaluate_stored(stored: StoredResults, dataset: CocoDataset) -> CocoEvaluator:
    """Return what the stored results are worth on the data set that they belong to."""
    masks = bool(len(stored.run_starts)) and dataset.has_masks
    sizes = dict(zip(stored.image_ids.tolist(), stored.sizes.tolist(), strict=True))
    for image in dataset.images:
        if sizes.get(image.id, list(image.size)) != list(image.size):
            raise InputError(
                f"the stored reference has picture {image.id} in another size than "
                f"{dataset.source}: store it again with maskrt check --store-reference."
            )
    evaluator = CocoEvaluator(dataset, ("box", "mask", "boundary") if masks else ("box",))
    for image in dataset.images:
        evaluator.add(image.id, stored.of(image.id).to_coco(image.id))
    return evaluator


def _starts(lengths: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _joined(parts: list[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate(parts).astype(kind) if parts else np.empty(0, kind)
