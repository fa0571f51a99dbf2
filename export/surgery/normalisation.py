"""Normalisation outside of the graph, as mmdeploy's `pipeline.json` beside the ONNX file says it.

mmdeploy exports a graph that reads a normalised picture, and writes with `--dump-info` what its
runtime does before: among `pipeline.tasks[].transforms[]` a step `Normalize` with `mean` and `std`
of pictures from 0 to 255, and `to_rgb`, false where the network takes blue, green, red.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core import InputError

__all__ = ["NAME", "Normalisation", "normalisation_beside"]

NAME = "pipeline.json"


@dataclass(frozen=True)
class Normalisation:
    """`(picture - mean) / std`, of pictures from 0 to 255, a number for each of three channels."""

    mean: np.ndarray
    std: np.ndarray
    bgr: bool


def normalisation_beside(path: Path) -> Normalisation | None:
    """Return what the file beside `path` says, or None if there is none.

    Raises:
        InputError: it is damaged, or has no such step.
    """
    file = path.parent / NAME
    if not file.is_file():
        return None
    try:
        steps = list(_steps(json.loads(file.read_text(encoding="utf-8"))))
        (step,) = steps
        mean, std = (np.array(step[key], np.float64) for key in ("mean", "std"))
        if mean.shape != (3,) or std.shape != (3,) or not (std > 0).all():
            raise ValueError
        return Normalisation(mean, std, not step.get("to_rgb", True))
    except (ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{file} does not say how pictures are normalised: it needs one step of the type "
            "Normalize with three numbers each as mean and std, of pictures from 0 to 255."
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
