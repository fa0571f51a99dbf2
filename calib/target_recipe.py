"""The recipe that a target's engine is rendered from, which need not be the bundle's own.

* A layer that the target has no INT8 kernel for has the recipe's wider precision
  (`int8_kernels.py`).
* TensorRT-RTX has INT8 where its own kernels gain by it, and FP16 for the rest
  (`tensorrt_rtx.py`).

It lies beside the engine where it differs, and the engine is verified against it.
"""

from collections.abc import Sequence
from typing import Any

import onnx

from ..core import Precision, Target, counted
from .cost import machine_of
from .int8_kernels import hold_to_int8_kernels, without_int8_kernel
from .recipe import Recipe
from .tensorrt_rtx import suit_tensorrt_rtx

__all__ = ["hold_to_targets", "own_info", "recipe_for"]

_NAMES_SHOWN = 4


def recipe_for(model: onnx.ModelProto, recipe: Recipe, target: Target) -> Recipe:
    """Return what an engine for `target` is rendered from; `recipe` itself where that is it.

    Args:
        model: the canonical FP32 graph.
        recipe: the bundle's, at the engine's precision.
        target: where the engine is to run.
    """
    held = hold_to_int8_kernels(model, recipe, target.backend)
    if target.backend != "tensorrt_rtx" or not held.narrow_layers():
        return held
    return suit_tensorrt_rtx(model, held, machine_of(target))


def hold_to_targets(model: onnx.ModelProto, recipe: Recipe, targets: Sequence[Target]) -> Recipe:
    """Return `recipe` without INT8 in the layers that none of `targets` has a kernel for."""
    lacking = [without_int8_kernel(model, target.backend) for target in targets]
    for name in recipe.narrow_layers():
        if lacking and all(name in found for found in lacking):
            recipe = recipe.widen([name], lacking[0][name])
    return recipe


def own_info(info: dict[str, Any], asked: Recipe, own: Recipe, target: Target) -> dict[str, Any]:
    """Return what an engine says of its precision that was rendered from a recipe of its own.

    Args:
        info: what its builder says.
        asked: the bundle's recipe at the engine's precision.
        own: what it was rendered from.
        target: where it is to run.
    """
    wide = (Precision.FP16.value, Precision.FP32.value)
    notes = [_gains(own, target)] if target.backend == "tensorrt_rtx" else []
    notes += _lacks(asked, own)
    if info["note"] and (target.backend != "tensorrt_rtx" or info["layers"]["unknown"]):
        notes.append(info["note"])
    return {
        "precision": asked.precision.value,
        "wider": [
            name
            for name, got in info["layer_precisions"].items()
            if asked.precision is Precision.INT8 and got in wide
        ],
        "note": " ".join(notes),
    }


def _gains(own: Recipe, target: Target) -> str:
    return (
        f"INT8 gains time in {len(own.narrow_layers())} of {len(own.layers)} layers here and the "
        f"others are FP16, by a model of {machine_of(target).name}."
    )


def _lacks(asked: Recipe, own: Recipe) -> list[str]:
    """Return a sentence for each reason why layers could not be INT8, with their names."""
    by_reason: dict[str, list[str]] = {}
    for name in asked.narrow_layers():
        choice = own.layers[name]
        if "no INT8 kernel" in choice.reason:
            by_reason.setdefault(choice.reason, []).append(name)
    return [
        f"{counted(len(names), 'layer')} stay{'s' if len(names) == 1 else ''} wider, since "
        f"{reason}: {_listed(names)}."
        for reason, names in by_reason.items()
    ]


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
