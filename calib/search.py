"""The search for the fastest recipe inside a budget of accuracy.

Narrow is fast, so the search starts at INT8 everywhere and gives way where it must:

1. INT8 in every layer that takes it, with the scales of each calibration method in turn.
2. Of the best method, the layers are ranked by what widening one is worth: the noise that its
   quantisation leaves at the outputs, for each second that INT8 saves there. The first 1, 2, 4, 8,
   ... units of that ranking are widened until the budget is met; bisection then finds the fewest.
3. Halves of the widened units, then quarters, down to single ones, are tried in INT8 again, and
   stay so if the budget still holds: noise ranks layers well and not perfectly.

Every answer was scored itself: nothing relies on accuracy being monotone. What scoring means is the
caller's (`score`), and so is memory beyond this search: `digest` tells recipes apart.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..core import Progress, silent
from .methods import METHODS
from .recipe import Recipe

__all__ = ["Outcome", "Score", "Trial", "digest", "pareto", "search"]

Unit = tuple[str, ...]
_MOST_RETURNS = 24
_REASON = "widened by the search: INT8 here cost more AP than the budget allows"


@dataclass(frozen=True)
class Score:
    """What a recipe does.

    Attributes:
        drop: AP lost against FP32 in points, the larger of box and mask.
        cost: what is to be small: modelled milliseconds of the layers, see `cost`. It has no noise,
            which a latency measured while other programs run has.
        latency_ms: measured, median a picture, where the target can run here; else 0.
    """

    drop: float
    cost: float
    latency_ms: float = 0.0


@dataclass(frozen=True)
class Trial:
    """A recipe that was scored."""

    recipe: Recipe
    score: Score

    def to_json(self) -> dict[str, Any]:
        """Return what a reader compares: method, layers kept wide, drop and cost."""
        return {
            "method": self.recipe.method,
            "int8_layers": len(self.recipe.narrow_layers()),
            "layers": len(self.recipe.layers),
            **asdict(self.score),
        }


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Attributes:
        trials: all that were scored, each once, in order.
        inside: the different recipes that answer what was asked, the cheapest first.
        noise: unit → the noise-to-signal ratio that its quantisation alone leaves at the outputs,
            see `sensitivity`; empty where no layer had to be given up.
    """

    trials: tuple[Trial, ...]
    inside: tuple[Trial, ...]
    noise: Mapping[Unit, float] = field(default_factory=dict)

    @property
    def best(self) -> Trial | None:
        """The cheapest answer; None if there is none."""
        return self.inside[0] if self.inside else None


@dataclass
class _Search:
    """The state of one search."""

    score: Callable[[Recipe], Score]
    budget: float
    progress: Progress
    known: dict[str, Score] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)

    def passes(self, recipe: Recipe) -> bool:
        """Score `recipe`, unless that was done, and say whether it is inside the budget."""
        key = digest(recipe)
        if key not in self.known:
            self.known[key] = self.score(recipe)
            self.trials.append(Trial(recipe, self.known[key]))
        done = len(self.trials)
        self.progress("search", done, max(_EXPECTED_TRIALS, done + 1))
        return self.known[key].drop <= self.budget


_EXPECTED_TRIALS = len(METHODS) + 2 * 6 + _MOST_RETURNS // 2


def search(
    recipe: Recipe,
    budget: float,
    score: Callable[[Recipe], Score],
    rank: Callable[[Recipe], Sequence[Unit]],
    *,
    least: int = 1,
    progress: Progress = silent,
) -> Outcome:
    """Find the cheapest recipe that loses at most `budget` points of AP.

    Args:
        recipe: INT8 or mixed, calibrated.
        budget: in points of AP, 0 to 100.
        score: measures a recipe; the expensive part, never asked twice for the same one.
        rank: a recipe's units, those first that are to be widened first; asked at most once.
        least: how many layers an answer has in INT8 at least.
        progress: told of each trial.
    """
    progress("search", 0, _EXPECTED_TRIALS)
    state = _Search(score, budget, progress)
    methods = [recipe.method, *(m for m in _methods(recipe) if m != recipe.method)]
    if not any(state.passes(recipe.with_method(method)) for method in methods):
        best = min(state.trials, key=lambda trial: trial.score.drop).recipe
        order = list(rank(best))
        fewest = _fewest(state, best, order)
        if fewest is not None:
            _give_back(state, best, order[:fewest])
    progress("search", len(state.trials), len(state.trials))
    found = {
        digest(trial.recipe): trial
        for trial in state.trials
        if trial.score.drop <= budget and len(trial.recipe.narrow_layers()) >= least
    }
    return Outcome(tuple(state.trials), tuple(sorted(found.values(), key=_cheapest)))


def pareto(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that no other beats in both drop and cost, the cheapest first."""
    front: list[Trial] = []
    for trial in sorted(trials, key=lambda t: (t.score.cost, t.score.drop)):
        if not front or trial.score.drop < front[-1].score.drop:
            front.append(trial)
    return front


def _fewest(state: _Search, recipe: Recipe, order: list[Unit]) -> int | None:
    """Return the fewest first units of `order` whose widening meets the budget, or None."""
    low, high = 0, 1
    while not state.passes(_widened(recipe, order[:high])):
        if high >= len(order):
            return None
        low, high = high, min(2 * high, len(order))
    while high - low > 1:
        middle = (low + high) // 2
        if state.passes(_widened(recipe, order[:middle])):
            high = middle
        else:
            low = middle
    return high


def _give_back(state: _Search, recipe: Recipe, wide: list[Unit]) -> None:
    """Try widened units in INT8 again: halves of them, then quarters, and so on.

    Args:
        state: the search.
        recipe: INT8 everywhere.
        wide: widened units that meet the budget, the most worthwhile first.
    """
    kept, size, tries = list(wide), max(len(wide) // 2, 1), 0
    while size and len(kept) > 1:
        end = len(kept)
        while end > 0 and tries < _MOST_RETURNS:
            fewer = kept[: max(end - size, 0)] + kept[end:]
            tries += 1
            if fewer and state.passes(_widened(recipe, fewer)):
                kept = fewer
            end -= size
        size //= 2


def _widened(recipe: Recipe, wide: Sequence[Unit]) -> Recipe:
    return recipe.widen([name for unit in wide for name in unit], _REASON)


def _methods(recipe: Recipe) -> list[str]:
    known = [set(tensor.scales) for tensor in recipe.tensors.values()]
    return [m for m in METHODS if all(m in scales for scales in known)]


def _cheapest(trial: Trial) -> tuple[float, float]:
    return trial.score.cost, trial.score.drop


def digest(recipe: Recipe) -> str:
    """Return what makes two recipes the same engine: scales, and a precision a layer."""
    data = recipe.to_json()
    layers = [(name, layer["precision"]) for name, layer in data["layers"].items()]
    facts: list[Any] = [recipe.graph, recipe.rest.value, recipe.method, layers, data["tensors"]]
    facts += [data.get(name) for name in ("factors", "corrections")]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
