"""Better INT8, where it is better: equalisation and bias correction are kept if AP says so.

What was asked for is tried alone and together. Each candidate is scored like a recipe of the
search (`search.py`): rendered for the CPU, built, run over the annotated pictures, and compared
with FP32. The one that loses least of box and mask AP, whichever is worse, is kept; at a tie the
one with fewer changes. So the recipe never gets worse on those pictures, and nothing is kept
unmeasured.

Equalisation moves ranges, so its candidate is calibrated anew on the equalised graph. The mean
errors of bias correction are measured on the first pictures of the calibration.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from .. import calib
from ..calib.bias_correction import measure_bias
from ..calib.equalisation import find_factors
from ..core import Bundle, Progress
from ..runtime import letterbox_batches
from ..runtime.pictures import readable
from .observation import forget, observe, settled
from .request import BIAS_CORRECTION, EQUALISATION, Judged, RecipeRequest
from .search import SCORED_PICTURES, Judge

__all__ = ["improve", "improvements"]

_PICTURES = 64


def improve(
    bundle: Bundle,
    model: onnx.ModelProto,
    recipe: calib.Recipe,
    asked: RecipeRequest,
    judged: Judged,
    progress: Progress,
) -> calib.Recipe:
    """Return the best of `recipe` and its improvements, with what was measured in `calibration`.

    Args:
        bundle: for its input and class names.
        model: the canonical FP32 graph.
        recipe: INT8 or mixed, calibrated.
        asked: which improvements are tried, and pictures for calibration.
        judged: an even share of its pictures is run where there are more than 500; the grid of the
            candidates is its targets'.
        progress: told what goes on.
    """
    judge = Judge(bundle, model, replace(judged.share(SCORED_PICTURES), budget=None))
    candidates = {(): recipe, **improvements(bundle, model, recipe, asked, progress)}
    drops: dict[tuple[str, ...], float] = {}
    for names, candidate in candidates.items():
        progress("improve", len(drops), len(candidates))
        drops[names] = judge.score(candidate).drop
    progress("improve", len(drops), len(candidates))
    best = min(drops, key=lambda names: (drops[names], len(names)))
    found = {
        "kept": list(best),
        "ap_drop": {" and ".join(names) or "neither": drop for names, drop in drops.items()},
    }
    chosen = candidates[best]
    return replace(chosen, calibration={**chosen.calibration, "improvements": found})


def improvements(
    bundle: Bundle,
    model: onnx.ModelProto,
    recipe: calib.Recipe,
    asked: RecipeRequest,
    progress: Progress,
) -> dict[tuple[str, ...], calib.Recipe]:
    """Return what was asked for, alone and together → recipe."""

    pictures = asked.pictures or ()

    def batches() -> Iterator[np.ndarray]:
        shown = letterbox_batches(readable(pictures, _PICTURES), bundle.manifest.input)
        return (canvases[:real] for canvases, real in shown)

    found: dict[tuple[str, ...], calib.Recipe] = {}
    if EQUALISATION in asked.improvements:
        factors = find_factors(model, batches())
        if factors:
            found[(EQUALISATION,)] = _equalised(bundle, model, recipe, factors, pictures, progress)
    if BIAS_CORRECTION in asked.improvements:
        for names, before in {(): recipe, **found}.items():
            both = (*names, BIAS_CORRECTION)
            found[both] = _corrected(model, before, batches)
    return found


def _equalised(
    bundle: Bundle,
    model: onnx.ModelProto,
    recipe: calib.Recipe,
    factors: dict[str, tuple[float, ...]],
    pictures: Sequence[Any],
    progress: Progress,
) -> calib.Recipe:
    """Calibrate the equalised graph; the recipe is for the original one, and keeps its facts."""
    graph, spec = calib.equalise(model, factors), bundle.manifest.input
    statistics, _ = settled(observe(graph, pictures, spec, progress), len(pictures))
    made = calib.make_recipe(graph, recipe.precision, statistics, method=recipe.method)
    forget(graph, pictures, spec)
    return replace(
        calib.keep_like(made, recipe), graph=recipe.graph, factors=factors,
        calibration=recipe.calibration, rest=recipe.rest, original=recipe.facts,
    )  # fmt: skip


def _corrected(
    model: onnx.ModelProto, recipe: calib.Recipe, batches: Callable[[], Iterator[np.ndarray]]
) -> calib.Recipe:
    found = measure_bias(calib.equalised(model, recipe), recipe, batches())
    return replace(recipe, corrections=found)
