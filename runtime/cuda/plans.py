"""Launch plans of a frame: Preprocess, PasteMasks, and the small kernels between them."""

from pathlib import Path

from ...core import InputSpec
from ...core.masks import MaskPaste
from ...plugins import OPERATORS
from ...plugins.launch import LaunchPlan, Stage, Tensor, ceil_div

__all__ = ["interleave", "paste", "preprocess", "to_picture"]

_SOURCE = Path(__file__).with_name("kernel.cu")
_THREADS = 256
_DEFINES = {"THREADS": str(_THREADS)}


def preprocess(spec: InputSpec, height: int, width: int) -> LaunchPlan:
    """Letterbox a picture: uint8 `[h, w, 3]` → float32 `[1, 3, H, W]` of whole numbers."""
    attributes = {
        "height": spec.height, "width": spec.width, "half": 0, "mean": (0.0,) * 3,
        "std": (1.0,) * 3, "pad_value": tuple(float(v) for v in spec.pad_value),
    }  # fmt: skip
    return OPERATORS["Preprocess"].launch(attributes, [Tensor((height, width, 3), "uint8")])


def interleave(spec: InputSpec) -> LaunchPlan:
    """Return float32 `[1, 3, H, W]` → uint8 `[H, W, 3]`."""
    pixels = spec.height * spec.width
    tensors = {
        "tensor": Tensor((1, 3, spec.height, spec.width), "float32"),
        "images": Tensor((spec.height, spec.width, 3), "uint8"),
    }
    grid = (ceil_div(pixels, _THREADS), 1, 1)
    stage = Stage("interleave", ("tensor",), (pixels,), ("images",), grid, _THREADS)
    return LaunchPlan(_SOURCE, _DEFINES, ("tensor",), ("images",), tensors, (stage,))


def to_picture(count: int, image_size: tuple[int, int], canvas_size: tuple[int, int]) -> LaunchPlan:
    """Return boxes `[count, 4]` of the canvas → of the picture, not clipped."""
    tensors = {name: Tensor((count, 4), "float32") for name in ("boxes", "mapped")}
    grid = (ceil_div(count, _THREADS), 1, 1)
    extras = (count, *image_size, *canvas_size)
    stage = Stage("to_picture", ("boxes",), extras, ("mapped",), grid, _THREADS)
    return LaunchPlan(_SOURCE, _DEFINES, ("boxes",), ("mapped",), tensors, (stage,))


def paste(count: int, side: int, height: int, width: int, rule: MaskPaste) -> LaunchPlan:
    """Return masks `[1, count, side, side]` and boxes → packed words, 32 pixels each."""
    attributes = {
        "height": height, "width": width, "threshold": 0.5, "packed": 1, "paste": rule.value,
    }  # fmt: skip
    inputs = [Tensor((1, count, side, side), "float32"), Tensor((1, count, 4), "float32")]
    return OPERATORS["PasteMasks"].launch(attributes, inputs)
