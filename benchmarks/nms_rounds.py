"""How many rounds the NMS of real pictures takes to settle without plugins.

    python benchmarks/nms_rounds.py [--pictures 200] [--model maskrcnn_scenes ...]

Runs the trained models on held-out scenes in ONNX Runtime, takes what each BatchedNMS reads, and
counts in NumPy how often `keep = candidate and not any (S and keep)` has to be computed until
nothing changes, the round that finds so included. Models without a BatchedNMS are named: the NMS of
SOLO and SOLOv2 (MatrixNMS) and of YOLACT (Fast NMS) is one formula, and has no rounds.
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from maskrt.demo import weights_path
from maskrt.demo.run import SIZE
from maskrt.demo.scenes import scene
from maskrt.pipeline import export_bundle
from maskrt.stages import read_model

TRAINED = ["maskrcnn_scenes", "condinst_scenes", "solo_scenes", "solov2_scenes", "yolact_scenes"]


def main() -> None:
    """Count, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--model", nargs="+", default=TRAINED)
    options = parser.parse_args()
    for name in options.model:
        with tempfile.TemporaryDirectory() as folder:
            bundle = export_bundle(
                f"maskrt:{name}", Path(folder) / "m", weights=weights_path(name), input_size=SIZE
            )
            found = rounds(read_model(bundle), options.pictures)
        if not found:
            print(f"{name}: no BatchedNMS", flush=True)
        for node, counted in found.items():
            listed = ", ".join(f"{number} x {n}" for n, number in sorted(counted.items()))
            mean = sum(number * n for number, n in counted.items()) / counted.total()
            print(f"{name} {node}: rounds x pictures {listed}; mean {mean:.1f}", flush=True)


def rounds(model: onnx.ModelProto, pictures: int) -> dict[str, Counter[int]]:
    """Return node -> how many pictures took how many rounds."""
    nodes = [node for node in model.graph.node if node.op_type == "BatchedNMS"]
    if not nodes:
        return {}
    held = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    names = [name for node in nodes for name in node.input if name not in held]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: dict[str, Counter[int]] = {node.name: Counter() for node in nodes}
    for index in range(pictures):
        image = scene(index, split="val", size=SIZE).image
        seen = held | dict(zip(names, session.run(names, {"images": image[None]}), strict=True))
        for node in nodes:
            boxes, scores, labels = (seen[name][0] for name in node.input)
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            found[node.name][max(settling(boxes, scores, labels, attributes), default=0)] += 1
    return found


def settling(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, attributes: dict[str, Any]
) -> Iterator[int]:
    """Yield how many rounds each label takes."""
    candidates = np.flatnonzero(scores > attributes["score_threshold"])
    order = candidates[np.argsort(-scores[candidates], kind="stable")]
    groups = np.zeros_like(labels) if attributes["class_agnostic"] else labels
    for label in np.unique(groups[order]):
        suppresses = np.tril(overlaps(boxes[order][groups[order] == label]), -1)
        suppresses = suppresses > attributes["iou_threshold"]
        keep, number = np.ones(len(suppresses), bool), 0
        while True:
            number += 1
            kept = ~(suppresses & keep).any(1)
            if (kept == keep).all():
                break
            keep = kept
        yield number


def overlaps(boxes: np.ndarray) -> np.ndarray:
    """Return IoU `[K, K]`."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return shared / np.maximum(area[:, None] + area[None] - shared, 1e-9)


if __name__ == "__main__":
    main()
