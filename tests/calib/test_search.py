"""The search: its answer is inside the budget and cheapest of what was tried; it can be resumed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrt.calib import LayerChoice, Recipe, TensorScale
from maskrt.calib.search import Score, digest, pareto, search
from maskrt.core import Precision

LAYERS = [f"layer{i}" for i in range(12)]
UNITS = [(name,) for name in LAYERS]


def _recipe(methods: Sequence[str] = ("minmax",)) -> Recipe:
    scale = TensorScale(-1.0, 1.0, dict.fromkeys(methods, 0.1))
    layers = {name: LayerChoice(Precision.INT8) for name in LAYERS}
    return Recipe("graph", Precision.INT8, layers, {"x": scale}, method=methods[0])


def _judge(loss: dict[str, float], seen: list[Recipe]) -> Any:
    """A model whose AP loss is the sum of its INT8 layers' losses; FP32 costs 4, INT8 costs 1."""

    def score(recipe: Recipe) -> Score:
        seen.append(recipe)
        narrow = recipe.narrow_layers()
        return Score(sum(loss[n] for n in narrow), 4 * len(LAYERS) - 3 * len(narrow))

    return score


def _found(loss: dict[str, float], budget: float, order: list[Any], **options: Any) -> Any:
    seen: list[Recipe] = []
    outcome = search(_recipe(), budget, _judge(loss, seen), lambda _: order, **options)
    return outcome, seen


def test_int8_that_is_inside_is_taken_at_once() -> None:
    outcome, seen = _found(dict.fromkeys(LAYERS, 0.0), 0.1, UNITS)
    assert len(seen) == 1
    assert outcome.best.recipe.narrow_layers() == LAYERS


def test_one_bad_layer_alone_is_widened_even_if_it_is_ranked_low() -> None:
    loss = {**dict.fromkeys(LAYERS, 0.01), "layer4": 5.0}
    outcome, _ = _found(loss, 0.2, UNITS)  # ranked fifth of twelve
    assert [n for n in LAYERS if n not in outcome.best.recipe.narrow_layers()] == ["layer4"]
    assert "search" in outcome.best.recipe.layers["layer4"].reason
    assert outcome.best.score.drop <= 0.2


def test_a_budget_that_nothing_meets_has_no_answer() -> None:
    seen: list[Recipe] = []
    outcome = search(
        _recipe(), 0.1, lambda r: seen.append(r) or Score(9.0, 1.0), lambda _: UNITS
    )  # fmt: skip
    assert outcome.best is None
    assert seen[-1].narrow_layers() == []


def test_another_method_is_tried_before_a_layer_is_given_up() -> None:
    def score(recipe: Recipe) -> Score:
        return Score(0.05 if recipe.method == "entropy" else 1.0, 1.0)

    ranked: list[Recipe] = []
    outcome = search(
        _recipe(["minmax", "percentile", "entropy"]), 0.1, score,
        lambda r: ranked.append(r) or UNITS
    )  # fmt: skip
    assert outcome.best.recipe.method == "entropy"
    assert outcome.best.recipe.narrow_layers() == LAYERS
    assert ranked == []


def test_a_stopped_search_goes_on_without_scoring_anything_twice() -> None:
    loss = {name: 0.1 * i for i, name in enumerate(LAYERS)}
    order = list(reversed(UNITS))
    whole, seen = _found(loss, 0.35, order)
    journal: dict[str, Score] = {}
    calls: list[Recipe] = []
    judge = _judge(loss, calls)

    def remembering(recipe: Recipe) -> Score:
        key = digest(recipe)
        if key not in journal:
            if len(calls) == 3:
                raise KeyboardInterrupt
            journal[key] = judge(recipe)
        return journal[key]

    with pytest.raises(KeyboardInterrupt):
        search(_recipe(), 0.35, remembering, lambda _: order)
    judge = _judge(loss, rest := [])
    calls.clear()
    resumed = search(_recipe(), 0.35, remembering, lambda _: order)
    assert len(journal) == len(seen) == len({tuple(r.narrow_layers()) for r in seen})
    assert len(rest) == len(seen) - 3
    assert resumed.best == whole.best


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.floats(-0.2, 2.0), min_size=12, max_size=12),
    st.floats(0.0, 3.0),
    st.permutations(UNITS),
)
def test_the_answer_is_inside_the_budget_and_the_cheapest_tried(
    losses: list[float], budget: float, order: list[Any]
) -> None:
    outcome, seen = _found(dict(zip(LAYERS, losses, strict=True)), budget, order, least=0)
    assert outcome.best is not None  # everything wide loses nothing
    assert outcome.best.score.drop <= budget
    assert len(seen) <= 1 + 8 + 24
    assert [trial.recipe for trial in outcome.trials] == seen  # what is said to be tried, was
    inside = [t.score.cost for t in outcome.trials if t.score.drop <= budget]
    assert outcome.best.score.cost == min(inside)


def test_pareto_keeps_what_nothing_beats() -> None:
    class _Trial:
        def __init__(self, drop: float, cost: float) -> None:
            self.score = Score(drop, cost)

    points = np.random.default_rng(0).integers(0, 9, (40, 2))
    trials = [_Trial(float(d), float(c)) for d, c in points]
    front = pareto(trials)  # type: ignore[arg-type]
    for trial in trials:
        beaten = any(
            (o.score.drop <= trial.score.drop and o.score.cost <= trial.score.cost)
            and (o.score.drop, o.score.cost) != (trial.score.drop, trial.score.cost)
            for o in trials
        )
        on_front = any(o.score == trial.score for o in front)
        assert on_front is not beaten


def test_an_answer_has_as_many_int8_layers_as_asked() -> None:
    loss = dict.fromkeys(LAYERS, 1.0)
    free, _ = _found(loss, 2.5, UNITS)
    held, _ = _found(loss, 2.5, UNITS, least=6)
    assert len(free.best.recipe.narrow_layers()) == 2
    assert held.best is None
    assert held.trials == free.trials
