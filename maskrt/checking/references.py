"""Sessions of what engines are compared with, and running one over a data set.

The canonical FP32 graph runs in ONNX Runtime. The model that it came from runs behind the runtime's
contract of a backend, so pictures reach it and leave it as they do an engine.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import Bundle, Manifest, Progress, UsageError
from ..core.bundle import MODEL
from ..export.asked import check_reference
from ..runtime import Backend, Session
from ..runtime.backends.cpu import CpuBackend
from ..runtime.check import CocoDataset, Evaluation, evaluate
from ..runtime.check.evaluate import Seen

if TYPE_CHECKING:
    from ..export import Reference
    from ..export.surgery import OnnxReference, PluginReference

__all__ = [
    "ReferenceBackend",
    "bare_session",
    "canonical_session",
    "check_named",
    "evaluate_session",
    "pytorch_backend",
    "pytorch_session",
]


class ReferenceBackend(Backend):
    """The export stage's reference under the runtime's contract, which it may not import."""

    def __init__(self, reference: "Reference | OnnxReference | PluginReference") -> None:
        """Take what the export stage made."""
        self._reference = reference

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the canonical outputs for uint8 `[B, H, W, 3]`."""
        return self._reference.run(images)

    def describe(self) -> dict[str, Any]:
        """Say what runs: for reports."""
        return self._reference.describe()

    def close(self) -> None:
        """Nothing is held that needs closing."""


def canonical_session(bundle: Bundle) -> Session:
    """Open the canonical FP32 graph itself, in ONNX Runtime."""
    return bare_session(CpuBackend(bundle.read(MODEL)), bundle.manifest)


def pytorch_session(bundle: Bundle, weights: Path | str, model: str | None = None) -> Session:
    """Open the PyTorch model that the bundle was compiled from, in FP32; see `pytorch_backend`."""
    return bare_session(pytorch_backend(bundle, weights, model), bundle.manifest)


def pytorch_backend(bundle: Bundle, weights: Path | str, model: str | None = None) -> Backend:
    """Open the PyTorch model that the bundle was compiled from, as a backend.

    `model` is who it is in the user's own words, without which a bundle's are followed only as far
    as this program's own models (`export.load_reference`).
    """
    from ..export import load_reference

    return ReferenceBackend(load_reference(bundle.manifest, weights, model))


def check_named(bundle: Bundle, weights: Path | str | None, model: str | None) -> None:
    """Refuse what keeps the PyTorch model from being rebuilt, before torch is imported for it.

    Raises:
        UsageError: the model is named and its weights are not, or its words name nothing.
        InputError: the weights are not those that `bundle` was compiled from.
    """
    if model is not None and weights is None:
        raise UsageError(
            f"model is {model!r}, and says nothing without the weights that the bundle was "
            "compiled from: give these, too."
        )
    if weights is not None:
        check_reference(bundle.manifest, weights, model)


def bare_session(backend: Backend, manifest: Manifest, **stages: Any) -> Session:
    """Open a session on any backend that computes what `manifest` describes.

    Args:
        backend: closed with the session.
        manifest: of the bundle.
        **stages: `letterbox_with` and `paste_with` of `Session`.
    """
    return Session(
        backend,
        manifest.input,
        class_names=manifest.class_names,
        mask_frame=manifest.mask_frame,
        mask_paste=manifest.mask_paste,
        **stages,
    )


def evaluate_session(
    session: Session,
    dataset: CocoDataset,
    stage: str,
    progress: Progress,
    pictures: int = 0,
    *,
    seen: Seen | None = None,
) -> Evaluation:
    """Run `session` over `dataset`, reporting progress as `stage`; `pictures` are drawn."""
    return evaluate(
        session.predict,
        dataset,
        batch=session.spec.batch,
        progress=lambda done, total: progress(stage, done, total),
        pictures=pictures,
        class_names=session.class_names,
        seen=seen,
    )
