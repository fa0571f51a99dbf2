"""A small bundle that the tests open and change."""

from pathlib import Path

from maskrt.core import Bundle, InputSpec, Manifest, Precision

MANIFEST = Manifest(
    family="torchvision_two_stage",
    input=InputSpec(320, 256, 2, (1, 2, 3)),
    outputs={"boxes": (2, 50, 4), "count": (2,)},
    class_names=("background", "ball"),
    precision=Precision.INT8,
    source={"model": "maskrt:x", "weights": None},
    fidelity={"pictures": 3},
)


def make(path: Path) -> Bundle:
    """Write a bundle with a graph and two engines at `path`."""
    with Bundle.create(path, MANIFEST) as bundle:
        bundle.write("model.onnx", b"graph")
        bundle.write("engines/cpu/engine.onnx", b"engine")
        bundle.write("engines/cpu/engine.json", {"bytes": 6})
        bundle.write("engines/rtx@fp16/engine.json", {"bytes": 7})
    return Bundle.open(path)
