"""The precisions that a user can ask for, in TensorRT's words."""

import enum

from .errors import UsageError

__all__ = ["LAYER_PRECISIONS", "Precision"]


class Precision(str, enum.Enum):
    """What the heavy layers of an engine compute in; coordinates are FP32 in all of them.

    `MIXED` is said of a model alone: INT8 where a budget of accuracy allows it, FP16 elsewhere. A
    layer has one of the others. `BF16` and `FP8` (E4M3) are for GPUs alone, and not for all: see
    `Target.check_computes`.
    """

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    FP8 = "fp8"
    MIXED = "mixed"

    @property
    def is_quantised(self) -> bool:
        """Whether it has scales, and so needs calibration pictures."""
        return self in (Precision.INT8, Precision.FP8, Precision.MIXED)

    @property
    def bits(self) -> int:
        """How wide a number is; of `MIXED` the narrowest."""
        return {"fp32": 32, "fp16": 16, "bf16": 16}.get(self.value, 8)

    def __str__(self) -> str:
        """Return the value as it stands on the command line and in file names."""
        return self.value

    @classmethod
    def parse(cls, value: "Precision | str") -> "Precision":
        """Return the precision named `value`, or raise `UsageError`."""
        try:
            return cls(str(value).lower())
        except ValueError:
            known = ", ".join(p.value for p in cls)
            raise UsageError(f"precision {value!r} is not one of {known}.") from None


LAYER_PRECISIONS = (Precision.FP32, Precision.FP16, Precision.INT8)
"""What a layer can compute in on every target."""
