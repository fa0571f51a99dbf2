"""Several engines in turn: on the same pictures, none always first, the figures each its own."""

import json
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest
from PIL import Image

from maskrt.core import Bundle, InputError, InputSpec, Manifest, Precision, UsageError
from maskrt.running import bench_engines as module
from maskrt.running.bench import bench_schema
from maskrt.running.bench_chart import write_chart
from maskrt.running.bench_engines import Benches, bench_engines
from maskrt.runtime import NullBackend, Session

SPEC = InputSpec(64, 96)
SHAPES: dict[str, tuple[int, ...]] = {
    "boxes": (1, 4, 4), "scores": (1, 4), "labels": (1, 4), "masks": (1, 4, 28, 28), "count": (1,)
}  # fmt: skip
ENGINE_MS = {"int8": 10.0, "fp16": 40.0, "fp32": 30.0}
Call = tuple[str, str]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    manifest = Manifest("test", SPEC, SHAPES, precision=Precision.INT8)
    with Bundle.create(tmp_path / "tiny.maskrt", manifest) as made:
        for folder in ("cpu", "cpu@fp16", "cpu@fp32", "rtx"):
            made.write(f"engines/{folder}/engine.json", {})
    return Bundle.open(tmp_path / "tiny.maskrt")


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Engines that take known times of our clock; returns which was called on which picture."""
    calls: list[Call] = []
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def opened(_: Bundle, target: Any, precision: Precision, **__: Any) -> Session:
        class Timed(NullBackend):
            def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
                now[0] += ENGINE_MS[precision.value] / 1e3
                return super().run(images)

        session = Session(Timed(SHAPES), SPEC)
        session.describe = lambda: {  # type: ignore[method-assign]
            "backend": "timed", "version": "1", "target": target.name,
            "precision": precision.value,
        }  # fmt: skip
        predict = session.predict

        def noted(files: Any) -> Any:
            calls.append((precision.value, files[0].stem))
            return predict(files)

        session.predict = noted  # type: ignore[method-assign]
        return session

    monkeypatch.setattr(module, "open_session", opened)
    return calls


def _pictures(folder: Path, names: str) -> Path:
    folder.mkdir()
    for name in names:
        Image.new("RGB", (30, 20)).save(folder / f"{name}.png")
    return folder


def test_each_round_calls_all_on_one_picture_and_begins_with_the_next(
    bundle: Bundle, called: list[Call], tmp_path: Path
) -> None:
    images = _pictures(tmp_path / "pictures", "ab")
    found = bench_engines(bundle, ["cpu", "cpu@fp32"], runs=3, images=images)
    timed = called[2 * 3 :]  # after three untimed calls of each
    assert timed == [
        ("int8", "a"), ("fp32", "a"), ("fp32", "b"), ("int8", "b"), ("int8", "a"), ("fp32", "a"),
    ]  # fmt: skip
    assert found.names == ("cpu@int8", "cpu@fp32")
    assert [one.runs for one in found.engines] == [3, 3]


def test_the_figures_are_each_engines_own(bundle: Bundle, called: list[Call]) -> None:
    found = bench_engines(bundle, runs=2)
    medians = dict(
        zip(found.names, (e.stages_ms["total"]["p50"] for e in found.engines), strict=True)
    )
    assert medians == pytest.approx({f"cpu@{name}": ms for name, ms in ENGINE_MS.items()})
    times = dict(zip(found.names, map(found.times, found.engines), strict=True))
    assert times == pytest.approx({"cpu@int8": 1, "cpu@fp16": 4, "cpu@fp32": 3})
    streams = {e.precision: e.stream_pictures_per_second for e in found.engines}
    assert streams["int8"] == pytest.approx(100)
    for one in json.loads(json.dumps(found.to_json()))["engines"]:
        jsonschema.validate(one, bench_schema())


def test_none_is_every_engine_that_runs_here(bundle: Bundle, called: list[Call]) -> None:
    names = set(bench_engines(bundle, runs=1).names)  # that for rtx would need a GPU
    assert names == {"cpu@int8", "cpu@fp16", "cpu@fp32"}


@pytest.mark.parametrize(
    ("engines", "error", "said"),
    [
        ((), UsageError, "no engine is named"),
        (("cpu", "cpu@int8"), UsageError, "cpu is asked for twice"),
        (("cpu@int5",), UsageError, "int5"),
        (("gpus",), UsageError, "gpus"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(
    bundle: Bundle, called: list[Call], engines: tuple[str, ...], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        bench_engines(bundle, engines, runs=1)
    assert called == []


def test_a_bundle_without_an_engine_for_this_machine(bundle: Bundle, called: list[Call]) -> None:
    with bundle.edit() as staged:
        for folder in ("cpu", "cpu@fp16", "cpu@fp32"):
            staged.remove(f"engines/{folder}/")
    with pytest.raises(InputError, match=r"no engine that this machine can run \(it has rtx\)"):
        bench_engines(Bundle.open(bundle.path), runs=1)


def test_the_chart_has_a_bar_of_each_to_scale(
    bundle: Bundle, called: list[Call], tmp_path: Path
) -> None:
    found = bench_engines(bundle, ["cpu@int8", "cpu@fp16"], runs=1)
    write_chart(found, tmp_path / "chart.svg")
    root = ElementTree.parse(tmp_path / "chart.svg").getroot()
    texts = [element.text for element in root if element.tag.endswith("text")]
    assert {"cpu@int8", "cpu@fp16", "10.00 ms", "40.00 ms"} <= set(texts)
    bars = [float(e.get("width", "")) for e in root if e.get("fill") == "#8d9aa5"]
    assert bars[1] == pytest.approx(4 * bars[0], abs=0.2)
    write_chart(found, tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as picture:
        assert picture.size == (1440, 800)


def test_times_of_one_engine_alone_is_one(bundle: Bundle, called: list[Call]) -> None:
    found = bench_engines(bundle, ["cpu"], runs=1)
    assert found.times(found.engines[0]) == 1
    assert isinstance(found, Benches)
