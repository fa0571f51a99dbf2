"""Pictures on which rounding decides nothing, for models with random weights.

Two programs that compute the same model round differently, and so does one program on two CPUs: by
about one part in ten million a layer. Of random weights some proposal, score, overlap or side
always lies that near to a threshold, and then an instance is there in one program and absent in the
other, through no fault of either.

The rule: a picture is *steady* for a graph if the graph finds the same instances, inside the limits
of the proof, when the weights of its layers are moved by one part in a million, ten times what
rounding does, in one drawn direction and in the opposite one: what lies on a threshold falls to
either side of it. Tests with random weights compare on steady pictures alone, and there every
instance has to agree. The graph only chooses: what it finds is still held against the original, so
a graph that is wrong is wrong on steady pictures, too.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import onnx

from maskrt.checking.borderline import shaken
from maskrt.core import Manifest
from maskrt.runtime import Session
from maskrt.runtime.backends.cpu import CpuBackend
from maskrt.runtime.check import compare, violations

__all__ = ["canonical", "only_steady", "steady_pictures"]

_PART = 1e-6


def steady_pictures(
    model: onnx.ModelProto, manifest: Manifest, photos: Sequence[np.ndarray], number: int = 3
) -> list[np.ndarray]:
    """Return the first `number` of `photos`, then of their flips and shifts, that are steady.

    Raises:
        AssertionError: fewer are, so the weights say nothing about the programs.
    """
    found = list(islice(only_steady(model, manifest, _candidates(photos)), number))
    assert len(found) == number, f"{len(found)} pictures are steady, and {number} are wanted"
    return found


def only_steady(
    model: onnx.ModelProto, manifest: Manifest, pictures: Iterable[np.ndarray]
) -> Iterator[np.ndarray]:
    """Yield those of `pictures` that are steady for `model`; see the module's text."""
    graphs = [model, shaken(model, _PART), shaken(model, -_PART)]
    plain, *moved = (canonical(graph, manifest) for graph in graphs)
    given = iter(pictures)
    while batch := list(islice(given, manifest.input.batch)):
        found = plain.predict(batch)
        for session in moved:  # the second sees only what the first left
            others = session.predict(batch) if batch else []
            pairs = list(zip(batch, found, others, strict=True))
            kept = [(b, f) for b, f, other in pairs if not violations(compare(f, other))]
            batch, found = [b for b, _ in kept], [f for _, f in kept]
        yield from batch


def _candidates(photos: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the pictures themselves, mirrored, upside down, and moved around."""
    yield from photos
    for axis in (1, 0):
        yield from (np.ascontiguousarray(np.flip(photo, axis)) for photo in photos)
    for part in (2, 3, 5, 7, 11):
        for axis in (1, 0):
            yield from (np.roll(photo, photo.shape[axis] // part, axis) for photo in photos)


def canonical(model: onnx.ModelProto, manifest: Manifest) -> Session:
    """Open `model` in ONNX Runtime."""
    return Session(
        CpuBackend(model.SerializeToString()),
        manifest.input,
        class_names=manifest.class_names,
        mask_frame=manifest.mask_frame,
    )
