"""Layers that a user keeps wide, whatever a recipe asks for.

A choice is a pattern of layer names and a precision: `backbone.*` at FP16. A layer that is kept has
that precision in every recipe of the same calibration that asks for a narrower one, in the search
too; a recipe that asks for a wider one is not touched. INT8 takes a choice back.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from difflib import get_close_matches
from fnmatch import fnmatchcase

import onnx

from ..core import Precision, UsageError
from .graph import GraphIndex
from .last_layers import last_layers
from .layers import find_layers
from .recipe import Recipe

__all__ = ["keep_layers", "keep_like", "parse_kept", "with_kept_outputs"]

_CHOICES = (Precision.FP32, Precision.FP16, Precision.INT8)


def parse_kept(choices: Mapping[str, Precision | str]) -> dict[str, Precision]:
    """Return `choices` with precisions in place of their names.

    Raises:
        UsageError: one is no precision that a layer can be kept at.
    """
    found = {pattern: Precision.parse(value) for pattern, value in choices.items()}
    for pattern, precision in found.items():
        if precision not in _CHOICES:
            raise UsageError(
                f"layers like {pattern!r} cannot be kept at {precision}: keep them at fp16 or "
                "fp32, or name int8 to take that back."
            )
    return found


def keep_layers(recipe: Recipe, choices: Mapping[str, Precision]) -> Recipe:
    """Return `recipe` with layers kept at a precision; of two patterns for a layer the later holds.

    Args:
        recipe: of any precision.
        choices: pattern of layer names, as a shell's (`*`, `?`, `[..]`), → FP16, FP32, or INT8,
            which gives a layer back what the recipe asks for.

    Raises:
        UsageError: no layer has such a name, or INT8 is given to a layer that refuses it.
    """
    wanted = Precision.INT8 if recipe.precision is Precision.MIXED else recipe.precision
    layers = dict(recipe.layers)
    for pattern, precision in choices.items():
        names = [name for name in layers if name == pattern or fnmatchcase(name, pattern)]
        if not names:
            raise UsageError(f"no layer is named {pattern!r}: {_instead(pattern, layers)}")
        for name in names:
            why = layers[name].refuses.get(precision)
            if precision is Precision.INT8 and name == pattern and why:
                raise UsageError(f"layer {name} cannot be int8 ({why}): leave it out.")
            kept = None if precision is Precision.INT8 else precision
            layers[name] = replace(layers[name], kept=kept).asked(wanted, recipe.rest)
    return replace(recipe, layers=layers)


def _instead(pattern: str, names: Collection[str]) -> str:
    close = get_close_matches(pattern, names, 1)
    return f"did you mean {close[0]}?" if close else "maskrt recipe lists a bundle's layers."


def with_kept_outputs(model: onnx.ModelProto, recipe: Recipe) -> Recipe:
    """Return `recipe` with the layers kept at FP32 that make scores, boxes and masks.

    They are the last ones on each way to an NMS or an output, and any that makes an output.
    """
    outputs = {value.name for value in model.graph.output}
    made = [layer for layer in find_layers(GraphIndex(model)) if layer.result in outputs]
    names = [layer.name for layer in (*last_layers(model), *made)]
    return keep_layers(recipe, dict.fromkeys(names, Precision.FP32))


def keep_like(recipe: Recipe, other: Recipe) -> Recipe:
    """Return `recipe` with the layers kept that are kept in `other`, a recipe of the same graph."""
    kept = {name: choice.kept for name, choice in other.layers.items() if choice.kept is not None}
    return keep_layers(recipe, kept)
