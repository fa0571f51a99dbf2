"""The original ONNX in ONNX Runtime as the reference: whole, as its exporter wrote it.

It gets the letterboxed input that the canonical graph gets, as the float picture that it asks for,
and answers in instances, its own pasted masks included, so nothing of ours stands in between.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...core import InputSpec, Instances, require
from .original import Original
from .two_stage import TwoStage

__all__ = ["OnnxReference"]

_MASK_THRESHOLD = 0.5


class OnnxReference:
    """Runs an ONNX file on `uint8 [H, W, 3]` pictures of its own size; see the module's text."""

    def __init__(self, path: Path, stages: TwoStage, spec: InputSpec) -> None:
        """Remember what to run; the file is loaded when it is first needed."""
        self._original = Original(path)
        self._stages = stages
        self._spec = spec

    def predict(self, images: Sequence[np.ndarray]) -> list[Instances]:
        """Return the instances of each picture, uint8 `[H, W, 3]` of exactly the input's size."""
        return [self._predict(image) for image in images]

    def describe(self) -> dict[str, str]:
        """Say what runs: for reports."""
        version = require("onnxruntime", "run the original ONNX").__version__
        return {"backend": "onnxruntime", "version": version, "precision": "fp32"}

    @property
    def pasted(self) -> bool:
        """Whether the file pastes its masks; if not, `run` gives what is left to paste."""
        masks = self._stages.masks
        return masks is None or masks.pasted

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the canonical graph's outputs for `images uint8 [B, H, W, 3]`, masks unpasted."""
        found = [self._found(image) for image in images]
        most = max((len(f["scores"]) for f in found), default=0)
        padded = {
            name: np.stack([
                np.pad(f[name], [(0, most - len(f[name])), *[(0, 0)] * (f[name].ndim - 1)])
                for f in found
            ])
            for name in found[0]
        }  # fmt: skip
        return {**padded, "count": np.array([len(f["scores"]) for f in found], np.int32)}

    def _predict(self, image: np.ndarray) -> Instances:
        found = self._found(image)
        masks = found.get("masks")
        return Instances(
            boxes=found["boxes"],
            scores=found["scores"],
            labels=found["labels"].astype(np.int64),
            image_size=(self._spec.height, self._spec.width),
            masks_source=None if masks is None else masks > _MASK_THRESHOLD,
        )

    def _found(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Return boxes, scores, labels from 1 on and masks `[N, h, w]` of one picture."""
        outputs, roles = self._run(image), self._stages.outputs
        shift = 1 - self._stages.detections.first_label
        boxes, scores = outputs[roles["boxes"]], outputs[roles["scores"]]
        if self._stages.detections.padded is not None:  # dets: boxes and scores side by side
            boxes, scores = boxes[..., :4], boxes[..., 4]
        found = {
            "boxes": boxes.reshape(-1, 4).astype(np.float32),
            "scores": scores.reshape(-1).astype(np.float32),
            "labels": outputs[roles["labels"]].reshape(-1).astype(np.int32) + shift,
        }
        if "masks" in roles:
            masks = outputs[roles["masks"]]
            found["masks"] = masks.reshape(-1, *masks.shape[-2:])
        if self._stages.detections.padded is not None:
            sides = found["boxes"][:, 2:] - found["boxes"][:, :2]
            real = (found["scores"] > 0) & (sides > 0).all(1)  # the session shows no empty box
            found = {name: value[real] for name, value in found.items()}
        return found

    def _run(self, image: np.ndarray) -> list[np.ndarray]:
        how = self._stages.preprocessing
        x = image.transpose(2, 0, 1).astype(np.float32) / 255 * how.white
        x = x[::-1] if how.bgr else x
        if how.outside:
            x = x * how.scale[:, None, None] + how.shift[:, None, None]
        return self._original.run(x)
