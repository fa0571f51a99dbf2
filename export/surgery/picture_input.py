"""The picture as a file takes it: which numbers, and whether channels come first or last.

    float, half, double    normalised before the file or in it
    integers               from 0 to 255, normalised in the file: nothing else fits into them
    [3, H, W], [1, 3, H, W], [H, W, 3], [1, H, W, 3]

Rules read channels first. A file that takes them last gets a Transpose in front, whose inverse is
mostly the file's own first node; the original is fed as it is written.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from ...core import UnsupportedModelError

__all__ = ["PictureInput", "channels_first", "picture_input"]

_CHANNELS = 3
_LAST = {3: [1, 2, 0], 4: [0, 2, 3, 1]}  # from channels first to channels last


@dataclass(frozen=True)
class PictureInput:
    """What one file takes.

    Attributes:
        name: of the input.
        dtype: of its numbers.
        rank: 3, or 4 with a batch.
        channels_last: whether it is `[…, H, W, 3]`.
    """

    name: str
    dtype: np.dtype
    rank: int
    channels_last: bool

    @property
    def is_integer(self) -> bool:
        """Whether it takes whole numbers, which go from 0 to 255."""
        return self.dtype.kind in "iu"

    def fed(self, picture: np.ndarray) -> np.ndarray:
        """Return `picture [3, H, W]`, in the file's range of numbers, as the file takes it."""
        x = np.round(picture) if self.is_integer else picture
        x = x[None] if self.rank == len(_LAST) + 2 else x
        x = x.transpose(_LAST[self.rank]) if self.channels_last else x
        return np.ascontiguousarray(x, self.dtype)


def picture_input(model: onnx.ModelProto) -> PictureInput | None:
    """Return the one input of `model` that may be a picture; None if there is none, or several.

    Raises:
        UnsupportedModelError: its numbers are of a type that no picture has.
    """
    held = {tensor.name for tensor in model.graph.initializer}
    found = [i for i in model.graph.input if i.name not in held]
    sides = [] if len(found) != 1 else _sides(found[0])
    if len(sides) not in _LAST:
        return None
    kind = found[0].type.tensor_type.elem_type
    known = kind != onnx.TensorProto.UNDEFINED
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind) if known else bool)
    if dtype.kind not in "fiu":
        raise UnsupportedModelError(
            f"the input {found[0].name!r} is of the type {onnx.TensorProto.DataType.Name(kind)}, "
            "and a picture of floats or integers is taken: export it with a float or uint8 input."
        )
    last = sides[-1] == _CHANNELS and sides[-3] != _CHANNELS
    return PictureInput(found[0].name, dtype, len(sides), last)


def channels_first(model: onnx.ModelProto, taken: PictureInput) -> onnx.ModelProto:
    """Return `model` with channels first in its picture; a copy if they come last."""
    if not taken.channels_last:
        return model
    turned = onnx.ModelProto()
    turned.CopyFrom(model)
    (info,) = [i for i in turned.graph.input if i.name == taken.name]
    perm = _LAST[taken.rank]
    name = f"{taken.name}.channels_first"
    turned.graph.node.insert(0, helper.make_node("Transpose", [name], [taken.name], perm=perm))
    info.name = name
    dims = [onnx.TensorShapeProto.Dimension.FromString(d.SerializeToString())
            for d in info.type.tensor_type.shape.dim]  # fmt: skip
    for place, source in enumerate(perm):
        info.type.tensor_type.shape.dim[source].CopyFrom(dims[place])
    return turned


def _sides(info: onnx.ValueInfoProto) -> list[int | None]:
    return [d.dim_value if d.HasField("dim_value") else None
            for d in info.type.tensor_type.shape.dim]  # fmt: skip
