"""Conversion against the model that it came from, and an engine against that it finds nothing.

`prove` runs the PyTorch model and the canonical graph on the same letterboxed pictures and pairs
their instances one by one: what conversion costs is known before any precision is lowered.
What an engine loses in COCO AP is measured by `accuracy.py`.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..core import (
    Bundle,
    InputSpec,
    Instances,
    Precision,
    PrecisionError,
    Progress,
    Target,
    silent,
)
from ..runtime import Session, open_session, placed_batches
from ..runtime.backends.cpu import CpuBackend
from ..runtime.check import (
    combine,
    compare,
    few_instances,
    violations,
)
from ..runtime.pictures import readable
from .borderline import sentences, shaken, thresholds_of, undecided
from .references import ReferenceBackend, bare_session, canonical_session

if TYPE_CHECKING:
    import onnx

    from ..export import Export, Reference
    from ..export.surgery import OnnxExport

__all__ = ["prove", "refuse_blind_engine"]

_PROOF_PICTURES = 4
_DIRECTIONS = (1e-6, -1e-6)  # parts by which weights are moved to see what rounding decides
# (canvases, sizes of the pictures on them) → instances of each canvas
_Predict: TypeAlias = Callable[[list[np.ndarray], list[tuple[int, int]]], list[Instances]]


class _ToldBackend(ReferenceBackend):
    """A PyTorch model that is told how large the pictures on its next canvases are."""

    def __init__(self, reference: "Reference") -> None:
        super().__init__(reference)
        self._torch = reference
        self.sizes: Sequence[tuple[int, int]] = ()

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return self._torch.run(images, self.sizes)


def prove(
    exported: "Export | OnnxExport",
    pictures: Sequence[Any] | None = None,
    *,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Compare the canonical graph with the model that it came from, instance by instance.

    Args:
        exported: what the export stage made.
        pictures: the first few of these are used; None or too few are filled up with drawn noise.
        progress: told what goes on.

    Returns:
        For the manifest: pictures, instances, the worst pair's agreement, `violations`, one
        sentence for each limit that was missed (an empty list is agreement), `borderline`, one for
        each threshold that instances lie on, which are left out (`borderline.py`), and `warnings`,
        one sentence if too few instances were compared to prove anything.
    """
    spec = exported.manifest.input
    given = list(readable(pictures or (), _PROOF_PICTURES))
    shown = given or [_noise(spec, seed) for seed in range(2)]
    matches = []
    progress("prove", 0, len(shown))
    with _Doubter(exported) as doubter:
        name, reference = _original(exported)
        for canvases, places in placed_batches(shown, spec):
            sizes = [place.canvas_size for place in places]
            sizes += sizes[-1:] * (spec.batch - len(sizes))
            theirs, mine = reference(list(canvases), sizes), doubter.predict(list(canvases))
            real = slice(len(places))  # the others fill the batch
            decided = doubter.decided(list(canvases)[real], theirs[real], mine[real])
            matches += [compare(*pair) for pair in decided]
            progress("prove", len(matches), len(shown))
    match = combine(matches)
    few = few_instances(match.pairs)
    return {
        "compared": f"canonical ONNX in ONNX Runtime with {name}, {_kind(given)}",
        "pictures": len(shown),
        "instances": match.pairs,
        "worst_box_iou": match.box_iou,
        "worst_score_difference": match.score_difference,
        "worst_mask_iou": match.mask_iou,
        "violations": violations(match),
        "borderline": sentences(doubter.reasons),
        "warnings": [few] if few is not None else [],
    }


class _Doubter:
    """The canonical graph, and copies of it with moved weights where it disagrees.

    Attributes:
        reasons: what each instance lies on that was left out so far.
    """

    def __init__(self, exported: "Export | OnnxExport") -> None:
        self._model, self._manifest = exported.model, exported.manifest
        self._opened = contextlib.ExitStack()
        self._plain = self._open(exported.model)
        self._moved: list[Session] = []
        self.reasons: list[str] = []

    def __enter__(self) -> "_Doubter":
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    def predict(self, canvases: list[np.ndarray]) -> list[Instances]:
        """Return what the canonical graph finds."""
        return self._plain.predict(canvases)

    def decided(
        self, canvases: list[np.ndarray], theirs: list[Instances], mine: list[Instances]
    ) -> list[tuple[Instances, Instances]]:
        """Return each canvas's two sides without the instances that rounding decides."""
        pairs = list(zip(theirs, mine, strict=True))
        if not any(violations(compare(*pair)) for pair in pairs):
            return pairs
        self._moved = self._moved or [self._open(shaken(self._model, p)) for p in _DIRECTIONS]
        moved = zip(*(session.predict(canvases) for session in self._moved), strict=True)
        thresholds, kept = thresholds_of(self._model), []
        for (first, second), others in zip(pairs, moved, strict=True):
            found = undecided(first, second, others, thresholds)
            self.reasons += found.reasons
            kept.append((first.select(~found.reference), second.select(~found.candidate)))
        return kept

    def _open(self, model: "onnx.ModelProto") -> Session:
        session = bare_session(CpuBackend(model.SerializeToString()), self._manifest)
        return self._opened.enter_context(session)


def _original(exported: "Export | OnnxExport") -> tuple[str, _Predict]:
    """Return what the canonical graph is compared with, and its name.

    A PyTorch model is told how large the pictures are, and need not read it from the canvas. An
    ONNX file takes the canvas for the picture.
    """
    from ..export.surgery import OnnxReference, PluginReference, PublishedReference

    given = exported.reference
    if isinstance(given, PublishedReference):
        return given.name, lambda canvases, _: given.predict(canvases)
    if isinstance(given, OnnxReference) and given.pasted:
        return "the original ONNX", lambda canvases, _: given.predict(canvases)
    if isinstance(given, OnnxReference | PluginReference):
        alike = bare_session(ReferenceBackend(given), exported.manifest)
        name = "the original ONNX, masks pasted alike"
        return name, lambda canvases, _: alike.predict(canvases)
    backend = _ToldBackend(given)
    session = bare_session(backend, exported.manifest)

    def predict(canvases: list[np.ndarray], sizes: list[tuple[int, int]]) -> list[Instances]:
        backend.sizes = sizes
        return session.predict(canvases)

    return "PyTorch FP32", predict


def refuse_blind_engine(
    bundle: Bundle, target: Target, precision: Precision, pictures: Sequence[Any]
) -> None:
    """Raise `PrecisionError` if an engine finds nothing where the FP32 graph finds instances."""
    shown = list(readable(pictures, _PROOF_PICTURES))
    with canonical_session(bundle) as canonical:
        expected = sum(len(instances) for instances in canonical.predict(shown))
    with open_session(bundle, target, precision) as session:
        found = sum(len(instances) for instances in session.predict(shown))
    if expected and not found:
        raise PrecisionError(
            f"the {precision} engine for {target.name} finds nothing in {len(shown)} calibration "
            f"pictures where the FP32 graph finds {expected} instances: its numbers overflow or "
            "its calibration does not fit; build it at another precision."
        )


def _kind(given: list[Any]) -> str:
    return "on calibration pictures" if given else "on drawn noise, as no pictures were given"


def _noise(spec: InputSpec, seed: int) -> np.ndarray:
    """Draw a picture of smooth blobs over fine grain, uint8 `[H, W, 3]`."""
    generator = np.random.default_rng(seed)
    coarse = generator.uniform(0, 255, (spec.height // 32 + 2, spec.width // 32 + 2, 3))
    smooth = coarse.repeat(32, 0).repeat(32, 1)[: spec.height, : spec.width]
    grain = generator.normal(0, 20, smooth.shape)
    return np.clip(smooth + grain, 0, 255).astype(np.uint8)
