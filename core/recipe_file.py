"""What `recipe.json` says; `calib/recipe.py` tells what it means."""

from typing import Annotated, Literal, TypedDict

from .bounds import COUNT, FORMAT_VERSIONS
from .precision import Precision
from .typed import Within

__all__ = ["RecipeFile"]

Scale = Annotated[float, Within(1e-300, 1e300)]


class _Tensor(TypedDict):
    min: float
    max: float
    scales: dict[str, Scale]


class _MaybeKept(TypedDict, total=False):
    kept: Precision


class _Layer(_MaybeKept):
    precision: Precision
    reason: str
    refuses: dict[str, str]


class _Facts(TypedDict):
    tensors: dict[str, _Tensor]
    refuses: dict[str, dict[str, str]]


class _Others(TypedDict):
    precision: Precision
    reason: str
    nodes: list[str]


class _Improvements(TypedDict):
    kept: list[str]
    ap_drop: dict[str, float]


class _Calibration(TypedDict, total=False):
    pictures: Annotated[int, COUNT] | None
    skipped: list[str]
    improvements: _Improvements


class _Improved(TypedDict, total=False):
    weight_scales: Literal["channel", "tensor"]
    factors: dict[str, list[Scale]]
    corrections: dict[str, list[float]]
    original: _Facts
    others: dict[str, _Others]


class RecipeFile(_Improved):
    """`recipe.json`."""

    format_version: Annotated[int, FORMAT_VERSIONS]
    graph: str
    precision: Precision
    rest: Precision
    method: str
    calibration: _Calibration
    tensors: dict[str, _Tensor]
    layers: dict[str, _Layer]
