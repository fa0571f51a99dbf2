"""Normalisation outside of the graph: as its exporter noted it beside the file, or as it is given.

mmdeploy exports a graph that reads a normalised picture, and writes with `--dump-info` what its
runtime does before: among `pipeline.tasks[].transforms[]` a step `Normalize` with `mean` and `std`
of pictures from 0 to 255, and `to_rgb`, false where the network takes blue, green, red.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core import InputError, UsageError
from ...core.typed import fault
from ...core.typed_files import plain_json
from .declined import Declined

__all__ = [
    "NAME", "UNSAID", "Normalisation", "NormalisationUnknown", "normalisation_beside",
    "normalisation_of",
]  # fmt: skip

NAME = "pipeline.json"
_ORDERS = ("rgb", "bgr")


class NormalisationUnknown(Declined):
    """A graph takes normalised pictures, and nobody says how they are normalised."""


@dataclass(frozen=True)
class Normalisation:
    """`(picture - mean) / std`, of pictures from 0 to 255.

    Attributes:
        mean, std: a number for each of three channels, in the network's order; None if not known.
        bgr: whether the network takes blue, green, red; None if not known.
        source: who says so, as messages put it.
    """

    mean: np.ndarray | None
    std: np.ndarray | None
    bgr: bool | None
    source: str


UNSAID = Normalisation(None, None, None, "nobody")


def normalisation_of(
    path: Path,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    channel_order: str | None,
) -> Normalisation | None:
    """Return what is given, else what the file beside `path` says, else None.

    Args:
        path: the ONNX file.
        mean: three numbers of pictures from 0 to 255, in the network's order of channels.
        std: the same.
        channel_order: `"rgb"`, `"bgr"`, or None, which is rgb beside a mean.

    Raises:
        UsageError: the numbers cannot be right, or one of mean and std is missing.
        InputError: the file beside it is damaged.
    """
    if channel_order is not None and channel_order not in _ORDERS:
        raise UsageError(f"channel_order is {channel_order!r}, and must be rgb or bgr.")
    if (mean is None) != (std is None):
        raise UsageError("mean= and std= belong together: give both, or neither.")
    if mean is None or std is None:
        beside = normalisation_beside(path)
        if channel_order is None:
            return beside
        found = beside or UNSAID
        return Normalisation(found.mean, found.std, channel_order == "bgr", "the given order")
    numbers = _three("mean", mean), _three("std", std)
    if not (numbers[1] > 0).all():
        raise UsageError(f"std= is {list(std)}, and must be three numbers above 0.")
    if numbers[1].max() < 1:
        raise UsageError(
            f"mean= and std= are {list(mean)} and {list(std)}, of pictures from 0 to 1, and those "
            "of pictures from 0 to 255 are taken: give 255 times as much."
        )
    return Normalisation(*numbers, channel_order == "bgr", "the given mean and std")


def _three(name: str, values: Sequence[float]) -> np.ndarray:
    try:
        numbers = np.array(values, np.float64)
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    if numbers.shape != (3,) or not np.isfinite(numbers).all():
        raise UsageError(f"{name}= is {values!r}, and must be three numbers, one a channel.")
    return numbers


def normalisation_beside(path: Path) -> Normalisation | None:
    """Return what the file beside `path` says, or None if there is none.

    Raises:
        InputError: it is damaged, or has no such step.
    """
    file = path.parent / NAME
    if not file.is_file():
        return None
    try:
        found = plain_json(file.read_bytes())
        if (wrong := fault(found, Any)) is not None:  # too deep, for one
            raise ValueError(wrong)
        (step,) = _steps(found)
        mean, std = (np.array(step[key], np.float64) for key in ("mean", "std"))
        if mean.shape != (3,) or std.shape != (3,) or not (std > 0).all():
            raise ValueError
        return Normalisation(mean, std, not step.get("to_rgb", True), f"{NAME} beside the file")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file} does not say how pictures are normalised: it needs one step of the type "
            "Normalize with three numbers each as mean and std, of pictures from 0 to 255; mend "
            "it, or remove it and give mean=, std= and channel_order=."
        ) from error


def _steps(found: Any) -> Any:
    """Yield every step `Normalize` inside `found`."""
    if isinstance(found, dict):
        if found.get("type") == "Normalize" and "mean" in found:
            yield found
        else:
            for value in found.values():
                yield from _steps(value)
    elif isinstance(found, list):
        for value in found:
            yield from _steps(value)
