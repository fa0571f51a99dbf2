"""What a bundle's `manifest.json` says, its file list apart."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from .input_spec import InputSpec
from .masks import MaskFrame, MaskPaste
from .precision import Precision

__all__ = ["VERSIONS", "Manifest"]

FORMAT_VERSION = 1
PASTE_VERSION = 2  # of a manifest whose `mask_paste` a reader must know; else 1 is written
PLACING_VERSION = 3  # likewise of `placing`, `resampling` or masks that end with their boxes
VERSIONS = (FORMAT_VERSION, PASTE_VERSION, PLACING_VERSION)


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says, its file list apart.

    Attributes:
        family: how the model works, such as `"torchvision_two_stage"`.
        input: shape of the graph's one input.
        outputs: name → shape of each output of the canonical graph.
        class_names: name of each label, index 0 (background) included, or None.
        precision: what an engine is built in unless a build says otherwise.
        source: where the model came from: the MODEL words, versions, settings.
        fidelity: how close the canonical graph was to the PyTorch model when it was exported.
        mask_frame: what `masks` is spread over; of no meaning without masks.
        mask_paste: how masks over boxes are pasted; of no meaning for others.
    """

    family: str
    input: InputSpec
    outputs: dict[str, tuple[int, ...]]
    class_names: tuple[str, ...] | None = None
    precision: Precision = Precision.FP32
    source: dict[str, Any] = field(default_factory=dict)
    fidelity: dict[str, Any] = field(default_factory=dict)
    mask_frame: MaskFrame = MaskFrame.BOX
    mask_paste: MaskPaste = MaskPaste.TORCHVISION

    @property
    def format_version(self) -> int:
        """The version to write: the least that knows everything this manifest says."""
        if not self.input.is_plain or self.mask_frame is MaskFrame.CANVAS_BOXED:
            return PLACING_VERSION
        return FORMAT_VERSION if self.mask_paste is MaskPaste.TORCHVISION else PASTE_VERSION

    @property
    def interface_digest(self) -> str:
        """SHA-256 of what an engine's numbers mean nothing without.

        That is input, outputs, class names, mask frame and mask paste: one bit of them changes
        results, and nothing else would tell.
        """
        told = self.to_json()
        names = ("input", "outputs", "class_names", "mask_frame", "mask_paste")
        text = json.dumps({name: told[name] for name in names}, sort_keys=True)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; `from_json` is its inverse."""
        return {
            "format_version": self.format_version,
            "family": self.family,
            "input": self.input.to_json(),
            "outputs": {name: list(shape) for name, shape in self.outputs.items()},
            "class_names": None if self.class_names is None else list(self.class_names),
            "precision": self.precision.value,
            "source": self.source,
            "fidelity": self.fidelity,
            "mask_frame": self.mask_frame.value,
            "mask_paste": self.mask_paste.value,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Manifest":
        """Return the manifest that `to_json` wrote."""
        names = data["class_names"]
        return cls(
            family=data["family"],
            input=InputSpec.from_json(data["input"]),
            outputs={name: tuple(shape) for name, shape in data["outputs"].items()},
            class_names=None if names is None else tuple(names),
            precision=Precision.parse(data["precision"]),
            source=data["source"],
            fidelity=data["fidelity"],
            mask_frame=MaskFrame(data.get("mask_frame", MaskFrame.BOX.value)),
            mask_paste=MaskPaste(data.get("mask_paste", MaskPaste.TORCHVISION.value)),
        )
