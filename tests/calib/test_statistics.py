"""Statistics merge exactly, in any order, and survive JSON."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskrt.calib import Range, Statistics
from maskrt.core import InputError

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
ranges = st.tuples(finite, finite).map(lambda ends: Range(min(ends), max(ends)))
parts = st.lists(st.tuples(ranges, ranges), min_size=1, max_size=6)


def _statistics(pair: tuple[Range, Range], pictures: int = 1, graph: str = "g") -> Statistics:
    return Statistics(graph, pictures, {"a": pair[0], "b": pair[1]})


def _merged(statistics: list[Statistics]) -> Statistics:
    whole = statistics[0]
    for part in statistics[1:]:
        whole = whole.merge(part)
    return whole


@given(parts, st.randoms(use_true_random=False))
def test_merging_does_not_depend_on_order(pairs: list, order: random.Random) -> None:
    statistics = [_statistics(pair) for pair in pairs]
    shuffled = list(statistics)
    order.shuffle(shuffled)
    assert _merged(shuffled) == _merged(statistics)


@given(parts)
def test_merging_halves_equals_the_whole(pairs: list) -> None:
    statistics = [_statistics(pair) for pair in pairs]
    whole = _merged(statistics)
    assert whole.tensors["a"].maximum == max(pair[0].maximum for pair in pairs)
    assert whole.tensors["b"].minimum == min(pair[1].minimum for pair in pairs)
    assert whole.pictures == len(pairs)
    if len(pairs) > 1:
        halves = _merged(statistics[:1]).merge(_merged(statistics[1:]))
        assert halves == whole


@given(ranges, ranges)
def test_json_gives_back_the_same_bits(first: Range, second: Range) -> None:
    statistics = _statistics((first, second), pictures=7)
    assert Statistics.from_json(json.loads(json.dumps(statistics.to_json()))) == statistics


def test_statistics_that_do_not_belong_together_are_refused() -> None:
    pair = (Range(0, 1), Range(-1, 1))
    own = _statistics(pair)
    with pytest.raises(InputError, match="graph other"):
        own.merge(_statistics(pair, graph="other"))
    with pytest.raises(InputError, match="tensor b is in one"):
        own.merge(Statistics("g", 1, {"a": pair[0]}))


@pytest.mark.parametrize(
    "ends", [[1.0, 0.0], [0.0, float("nan")], [float("-inf"), 0.0], [0.0], "01", [0, "1"], None]
)
def test_damaged_statistics_are_refused(ends: Any) -> None:
    data = _statistics((Range(0, 1), Range(0, 1))).to_json()
    data["tensors"]["a"] = ends
    with pytest.raises(InputError, match=r"tensor a are not a range|tensors\.a"):
        Statistics.from_json(data)


def test_another_format_version_is_refused() -> None:
    with pytest.raises(InputError, match="format version 99"):
        Statistics.from_json({"format_version": 99})
