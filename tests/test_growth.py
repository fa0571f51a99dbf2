"""The benchmark of growth: slopes of known data, points to scale, and an engine that is another."""

import importlib
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def growth() -> ModuleType:
    return importlib.import_module("benchmarks.growth")


@pytest.mark.parametrize("power", [-1.0, 0.0, 0.5, 2.0])
def test_a_power_has_its_exponent_as_slope(growth: ModuleType, power: float) -> None:
    values = [3, 6, 12, 24, 48]
    assert growth.slope(values, [7 * v**power for v in values]) == pytest.approx(power, abs=1e-9)


def test_a_slope_is_of_the_nearest_line(growth: ModuleType) -> None:
    # logs are 0, 1, 2 and 0, 1, 3: ((-1)(-4/3) + 1(5/3)) / 2 is 1.5
    assert growth.slope([1, 2, 4], [1, 2, 8]) == pytest.approx(1.5)
    assert growth.slope([1, 2, 4, 8, 16], [9, 5, 1, 2, 8], last=3) == pytest.approx(1.5)
    assert growth.slope([1, 2, 4, 8, 16], [9, 5, 1, 2, 8]) < 0


def test_each_factor_is_varied_alone_by_twos(growth: ModuleType) -> None:
    asked = growth.all_asked(list(growth.VALUES))
    assert len(asked) == len({tuple(one.values()) for one in asked})
    for one in asked:
        assert sum(one[key] != growth.BASE[key] for key in one) <= 1
    for factor, values in growth.VALUES.items():
        assert len(values) >= 5
        assert all(b == 2 * a for a, b in pairwise(values))
        assert growth.BASE[factor] in values


def test_a_call_is_in_the_rows_of_its_factors_alone(growth: ModuleType) -> None:
    engines = [growth.Engine(one, None, [], [one["batch"] / 100 + 1e-3, 9.0], [0.001, 0.0])
               for one in growth.all_asked(["batch", "classes"])]  # fmt: skip
    found = growth.growth("batch", engines)
    assert found["values"] == [1, 2, 4, 8, 16]
    assert found["processor_ms"] == pytest.approx([12, 22, 42, 82, 162])  # the cheapest call
    assert found["masks_ms"] == [1] * 5
    assert growth.growth("classes", engines)["slope"] == 0


def drawn(growth: ModuleType, costs: dict[str, list[float]]) -> ElementTree.Element:
    rows = [
        {"factor": factor, "values": growth.VALUES[factor], "processor_ms": row,
         "slope": 1.25, "slope_of_last": 0.5}
        for factor, row in costs.items()
    ]  # fmt: skip
    return ElementTree.fromstring(growth.plot(rows))


def points(svg: ElementTree.Element, factor: str) -> np.ndarray:
    return np.array(
        [[float(dot.attrib["cx"]), float(dot.attrib["cy"])]
         for dot in svg.iter(f"{SVG}circle") if dot.attrib["data-factor"] == factor]
    )  # fmt: skip


def test_points_are_to_scale(growth: ModuleType) -> None:
    flat, linear, square = (
        [64.0] * 5,
        [16.0 * 2**n for n in range(5)],
        [4.0**n for n in range(1, 6)],
    )
    svg = drawn(growth, {"batch": linear, "resolution": square, "classes": flat})
    steps = {name: np.diff(points(svg, name), axis=0)
             for name in ("batch", "resolution", "classes")}  # fmt: skip
    octave = steps["batch"][0]
    assert octave[0] > 20
    assert octave[1] < -5  # up is less
    for name, slope in (("batch", 1), ("resolution", 2), ("classes", 0)):
        expected = np.tile([octave[0], slope * octave[1]], (4, 1))
        np.testing.assert_allclose(steps[name], expected, atol=0.02)  # two digits are written
    ticks = {
        node.text: float(node.attrib["y"]) for node in svg.iter(f"{SVG}text")
        if node.attrib.get("text-anchor") == "end" and float(node.attrib["x"]) < growth.CELL[0]
    }  # fmt: skip
    at_64 = points(svg, "batch")[2, 1]
    assert ticks["64"] - 4 == pytest.approx(at_64, abs=0.1)  # of its letters' middle


def test_all_of_it_is_inside_and_says_its_slopes(growth: ModuleType) -> None:
    svg = drawn(growth, {factor: [30.0, 31, 90, 400, 1999] for factor in growth.VALUES})
    _, _, width, height = (float(v) for v in svg.attrib["viewBox"].split())
    dots = np.concatenate([points(svg, factor) for factor in growth.VALUES])
    assert dots.shape == (25, 2)
    assert (dots > 0).all()
    assert (dots < [width, height]).all()
    assert len({dot.attrib["fill"] for dot in svg.iter(f"{SVG}circle")}) == 5
    texts = [node.text or "" for node in svg.iter(f"{SVG}text")]
    assert texts.count("slope 1.25, last 3: 0.50") == 5


def test_an_engine_that_is_another_is_refused(
    growth: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = SimpleNamespace(read=lambda _name: b"")
    monkeypatch.setattr(growth.maskrt, "compile", lambda *_a, **_k: bundle, raising=False)
    for name in ("sized", "pictures_of", "open_session"):
        monkeypatch.setattr(growth, name, lambda *_a, **_k: [])
    found: dict[str, Any] = dict(growth.BASE)
    monkeypatch.setattr(growth, "read_off", lambda *_a: found)
    growth.opened(dict(growth.BASE), tmp_path)
    found["detections"] = 31
    with pytest.raises(SystemExit, match=r"'detections': \(31, 32\)"):
        growth.opened(dict(growth.BASE), tmp_path)
