"""Thresholds of the calibration methods, against their definitions written out value by value."""

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from maskrt.calib import METHODS, Histogram
from maskrt.calib.histogram import BINS, bin_edges, bin_of
from maskrt.calib.methods import entropy_threshold, squared_error, thresholds

LARGEST_FLOAT = float(np.finfo(np.float32).max)
generator = np.random.default_rng(0)
SAMPLES = {
    "half normal": np.abs(generator.normal(size=20000)),
    "after a ReLU": np.maximum(generator.normal(size=20000), 0),
    "long tail": generator.exponential(size=20000) ** 3,
    "outlier": np.append(generator.uniform(0, 1, 20000), 400.0),
    "uniform": generator.uniform(0, 5, 20000),
    "two lumps": np.append(generator.normal(1, 0.1, 9000), generator.normal(30, 1, 9000)),
    "millions": generator.uniform(0, 4e6, 20000),
    "all of float32": generator.uniform(0, LARGEST_FLOAT, 20000),
}


def _histogram(values: np.ndarray) -> Histogram:
    histogram = Histogram()
    histogram.add(values.astype(np.float32))
    return histogram


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values.astype(np.float32)).max())


@given(st.floats(min_value=2.0**-11, max_value=LARGEST_FLOAT, width=32))
@example(LARGEST_FLOAT)
def test_a_value_lies_in_its_bin(value: float) -> None:
    place = int(bin_of(np.float32([value]))[0])
    low, high = bin_edges()[place : place + 2]
    assert low <= value < high
    assert (high - low) / low <= 2**-10


def test_extremes_fall_into_the_outer_bins() -> None:
    values = np.float32([0.0, 1e-30, -1e-30, LARGEST_FLOAT, -LARGEST_FLOAT])
    np.testing.assert_array_equal(bin_of(values), [0, 0, 0, BINS - 1, BINS - 1])


finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(st.lists(finite, max_size=40), st.integers(0, 40))
def test_two_halves_merged_are_the_whole(values: list[float], cut: int) -> None:
    array = np.float32(values)
    merged = _histogram(array[cut:]).merge(_histogram(array[:cut]))
    assert merged == _histogram(array)
    assert Histogram.from_json(json.loads(json.dumps(merged.to_json()))) == merged


def test_memory_is_what_usual_magnitudes_need() -> None:
    """Only a tensor that holds a huge value pays for its bins."""
    usual, huge = _histogram(np.float32([2.0**20 * 0.99])), _histogram(np.float32([1e30]))
    assert usual.counts.nbytes == 32 * 1024 * 8  # 32 exponents, 10 bits of the mantissa
    assert usual.counts.nbytes < huge.counts.nbytes <= 8 * BINS
    both = usual.merge(huge)
    assert both == huge.merge(usual) == _histogram(np.float32([1e30, 2.0**20 * 0.99]))
    assert both != huge
    assert usual != _histogram(np.zeros(1))


@pytest.mark.parametrize("power", [14, 17, 40, 120])
@pytest.mark.parametrize("name", ["half normal", "long tail", "uniform", "two lumps"])
def test_a_power_of_two_changes_a_threshold_by_itself(name: str, power: int) -> None:
    """Exactly, wherever on the histogram the values lie; those in the first bin aside."""
    small = 2.0 ** (6 - np.ceil(np.log2(_largest(SAMPLES[name]))))
    values = np.maximum(np.abs(SAMPLES[name]) * small, 2.0**-11)
    usual = thresholds(_histogram(values), _largest(values))
    scaled = values * 2.0**power
    found = thresholds(_histogram(scaled), _largest(scaled))
    assert found == {method: threshold * 2.0**power for method, threshold in usual.items()}


@pytest.mark.parametrize("name", SAMPLES)
def test_percentile(name: str) -> None:
    values = SAMPLES[name]
    found = thresholds(_histogram(values), _largest(values))["percentile"]
    assert (np.abs(values) <= found).mean() >= 0.9999
    assert (np.abs(values) <= found * (1 - 2e-3)).mean() < 0.9999 or found == _largest(values)


def _error(values: np.ndarray, threshold: float) -> float:
    """Quantise every value for real, and add up what is lost."""
    step = threshold / 127
    return float(((np.clip(np.rint(values / step), -127, 127) * step - values) ** 2).sum())


@pytest.mark.parametrize("name", SAMPLES)
def test_squared_error_is_what_quantising_loses(name: str) -> None:
    values = SAMPLES[name]
    candidates = _largest(values) * np.array([0.2, 0.5, 0.8, 1.0])
    found = squared_error(_histogram(values), candidates)
    expected = [_error(values, t) for t in candidates]
    np.testing.assert_allclose(found, expected, rtol=0.1)


@pytest.mark.parametrize("name", SAMPLES)
def test_mse_finds_the_least_error(name: str) -> None:
    values = SAMPLES[name]
    found = thresholds(_histogram(values), _largest(values))["mse"]
    tried = _largest(values) * np.linspace(1 / 16, 1, 200)
    assert _error(values, found) <= 1.1 * min(_error(values, t) for t in tried)


def _entropy_by_loops(counts: list[float], largest: float) -> float:
    """TensorRT's procedure, one bin after another."""
    counts = [counts[1], *counts[1:]]
    total, best, chosen = sum(counts), np.inf, len(counts)
    for i in range(128, len(counts) + 1):
        p = [*counts[:i]]
        p[-1] += sum(counts[i:])
        q = [0.0] * i
        for level in range(128):
            inside = range(level * i // 128, (level + 1) * i // 128)
            filled = [k for k in inside if counts[k] > 0]
            for k in filled:
                q[k] = sum(counts[j] for j in inside) / len(filled)
        mass = sum(q)
        divergence = 0.0
        for a, b in zip(p, q, strict=True):
            if a > 0:
                divergence += np.inf if b == 0 else a / total * np.log((a / total) / (b / mass))
        if divergence < best - 1e-12:
            best, chosen = divergence, i
    return (chosen + 0.5) * largest / len(counts)


@pytest.mark.parametrize("name", SAMPLES)
def test_entropy_is_tensorrts_procedure(name: str) -> None:
    values = SAMPLES[name]
    counts, _ = np.histogram(values, 400, (0, values.max()))
    found = entropy_threshold(counts, float(values.max()))
    expected = _entropy_by_loops(counts.astype(float).tolist(), float(values.max()))
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.filterwarnings("error")
def test_entropy_keeps_a_range_of_which_it_saw_the_first_bin_alone() -> None:
    seen = _histogram(np.full(1000, 0.01))
    assert thresholds(seen, 1000.0)["entropy"] == 1000.0


def test_entropy_with_no_more_bins_than_levels_keeps_everything() -> None:
    assert entropy_threshold(np.ones(128), 3.0) == 3.0


@pytest.mark.parametrize("name", SAMPLES)
def test_best_is_one_of_them_and_leaves_the_least_error(name: str) -> None:
    values = SAMPLES[name]
    found = thresholds(_histogram(values), _largest(values))
    assert set(found) == set(METHODS)
    others = [found[m] for m in METHODS if m != "best"]
    assert found["best"] in others
    assert _error(values, found["best"]) <= 1.01 * min(_error(values, t) for t in others)
    assert all(0 < t <= _largest(values) for t in others)


def test_a_dead_tensor_keeps_its_range() -> None:
    assert thresholds(_histogram(np.zeros(100)), 0.0) == dict.fromkeys(METHODS, 0.0)
