"""The demo model and held-out scenes, for several benchmarks, and graphs that run as written."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from maskrt.core import Bundle
from maskrt.demo import weights_path
from maskrt.demo.run import MODEL, SIZE
from maskrt.demo.scenes import CLASS_NAMES, scene, write_coco
from maskrt.pipeline import export_bundle
from maskrt.runtime import Backend
from maskrt.runtime.check import CocoDataset


@contextmanager
def demo_and_scenes(pictures: int) -> Iterator[tuple[Bundle, CocoDataset]]:
    """Yield the demo model's canonical bundle and `pictures` annotated scenes, none of training."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        annotations = write_coco(folder / "scenes", pictures, split="val", size=SIZE)
        dataset = CocoDataset.load(annotations.parent / "images", annotations)
        bundle = export_bundle(
            MODEL, folder / "demo.maskrt", weights=weights_path(), input_size=SIZE,
            class_names=("background", *CLASS_NAMES),
        )  # fmt: skip
        yield bundle, dataset


def training_scenes(count: int) -> list[np.ndarray]:
    """Return pictures of the training split, for calibration."""
    return [scene(index, split="train", size=SIZE).image for index in range(count)]


class AsWritten(Backend):
    """ONNX Runtime that keeps to the graph: up to `level` of its rewrites, none by default."""

    def __init__(
        self,
        graph: onnx.ModelProto,
        level: Any = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    ) -> None:
        """Load `graph`."""
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        self._session = onnxruntime.InferenceSession(
            graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run a batch."""
        return dict(zip(self._outputs, self._session.run(None, {"images": images}), strict=True))

    def describe(self) -> dict[str, Any]:
        """Name the backend."""
        return {"backend": "onnxruntime"}

    def close(self) -> None:
        """Nothing is held that needs closing."""
