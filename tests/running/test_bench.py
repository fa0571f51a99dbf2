"""Benches: what is timed, what is counted, the schema, the chart, and power."""

import json
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest
from PIL import Image

from maskrt.core import Bundle, InputError, InputSpec, Instances, Manifest, Target, UsageError
from maskrt.running import bench as bench_module
from maskrt.running.bench import Bench, bench, bench_schema
from maskrt.running.bench_chart import write_chart
from maskrt.runtime import NullBackend, Session

from ..runtime.test_power import ORIN_NX, plant

SPEC = InputSpec(64, 96, batch=2)
SHAPES: dict[str, tuple[int, ...]] = {
    "boxes": (2, 4, 4), "scores": (2, 4), "labels": (2, 4), "masks": (2, 4, 28, 28), "count": (2,)
}  # fmt: skip
NOTHING = Target("null", "null")
STAGE_MS = {"decode": 6.0, "engine": 20.0, "paste": 12.0}


class _Slow(NullBackend):
    """An engine that takes 20 ms and finds three things in each picture."""

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        time.sleep(STAGE_MS["engine"] / 1e3)
        outputs = super().run(images)
        outputs["count"][:] = 3
        outputs["boxes"][:, :3] = [4, 4, 20, 20]
        return outputs


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    with Bundle.create(tmp_path / "tiny.maskrt", Manifest("test", SPEC, SHAPES)):
        pass
    return Bundle.open(tmp_path / "tiny.maskrt")


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Sessions whose stages take known times of our clock; returns the files that were read."""
    read: list[Any] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)

    def load(picture: Any) -> np.ndarray:
        read.append(picture)
        time.sleep(STAGE_MS["decode"] / 2e3)  # of each of the two in a batch
        return np.asarray(Image.open(picture).convert("RGB"))

    def open_slow(*_: Any, **__: Any) -> Session:
        session = Session(_Slow(SHAPES), SPEC)
        session.describe = lambda: {  # type: ignore[method-assign]
            "backend": "slow", "version": "1", "target": "cpu", "precision": "fp32"
        }  # fmt: skip
        return session

    masks = Instances.masks

    def paste(self: Instances) -> Any:
        time.sleep(STAGE_MS["paste"] / 2e3)
        return masks.fget(self)  # type: ignore[attr-defined]

    monkeypatch.setattr("maskrt.runtime.session.load_picture", load)
    monkeypatch.setattr(Instances, "masks", property(paste))
    monkeypatch.setattr(bench_module, "open_session", open_slow)
    return read


def test_stages_are_told_apart_and_add_up(bundle: Bundle, slow: list[Any]) -> None:
    found = bench(bundle, target=NOTHING, runs=6)
    for stage, expected in STAGE_MS.items():
        assert found.stages_ms[stage]["p50"] == pytest.approx(expected)
    parts = sum(found.stages_ms[stage]["mean"] for stage in bench_module.STAGES[:-1])
    assert found.stages_ms["total"]["mean"] == pytest.approx(parts)
    assert len(found.samples_ms) == 6
    assert found.pictures_per_second == pytest.approx(2e3 / np.mean(found.samples_ms))
    assert found.instances == 3
    assert found.peak_bytes > 10_000_000
    assert found.device_bytes is None
    assert found.power is None
    assert len(slow) == 2 * (3 + 6)  # two a call, warm-up and timed


def test_your_own_pictures_are_used_in_full_batches(
    bundle: Bundle, slow: list[Any], tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in "abc":
        Image.new("RGB", (30, 20)).save(folder / f"{name}.png")
    bench(bundle, target=NOTHING, runs=2, images=folder)
    timed = [file.stem for file in slow[6:10]]
    assert timed == ["a", "b", "c", "a"]
    with pytest.raises(InputError, match="nothing"):
        bench(bundle, images=tmp_path / "nothing")
    slow.clear()
    with pytest.raises(InputError, match=r"absent\.pth do not exist"):
        bench(bundle, target=NOTHING, images=folder, weights="absent.pth")
    assert slow == []  # said before anything was timed


def test_energy_is_power_times_time(
    bundle: Bundle, slow: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path / "jetson", ORIN_NX)
    find = bench_module.find_rails
    monkeypatch.setattr(bench_module, "find_rails", lambda: find(tmp_path / "jetson"))
    monkeypatch.setattr(bench_module, "_IDLE_SECONDS", 0.1)
    found = bench(bundle, target=NOTHING, runs=5)
    assert found.power is not None
    assert found.power["watts"] == pytest.approx(10.16)
    assert found.power["idle_watts"] == pytest.approx(10.16)
    least = 10.16 * sum(found.samples_ms) / 1e3 / 10
    assert least <= found.power["joules_per_picture"] < least * 2
    assert found.power["joules_per_picture_above_idle"] == pytest.approx(0, abs=1e-9)
    jsonschema.validate(found.to_json(), bench_schema())


def test_idle_is_the_mean_of_before_and_after(
    bundle: Bundle, slow: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = plant(tmp_path / "jetson", ORIN_NX) / "sys/class/hwmon/hwmon1/curr1_input"
    find = bench_module.find_rails
    monkeypatch.setattr(bench_module, "find_rails", lambda: find(tmp_path / "jetson"))
    monkeypatch.setattr(bench_module, "_IDLE_SECONDS", 0.1)

    def tell(stage: str, done: int, total: int) -> None:
        if done == total:
            current.write_text("1000\n")  # it rests at half of what it drew before

    found = bench(bundle, target=NOTHING, runs=5, progress=tell)
    assert found.power is not None
    assert found.power["idle_watts"] == pytest.approx((10.16 + 5.08) / 2)
    assert found.power["joules_per_picture_above_idle"] > 0


def test_a_target_without_a_device_says_so(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="null has no device"):
        bench(bundle, target=NOTHING, on_device=True)


def _found(**changed: Any) -> Bench:
    row = {"p50": 10.0, "p90": 12.0, "p99": 13.0, "mean": 10.5}
    stages = dict.fromkeys(bench_module.STAGES, row)
    about = {"backend": "onnxruntime", "version": "1", "target": "cpu", "precision": "int8"}
    given: dict[str, Any] = {
        "target": "cpu", "precision": "int8", "batch": 1, "runs": 3, "backend": about,
        "stages_ms": stages, "samples_ms": [10.0, 12.0, 11.0], "pictures_per_second": 90.9,
        "stream_pictures_per_second": 99.0, "instances": 2.5, "peak_bytes": 10**8,
    }  # fmt: skip
    return Bench(**{**given, **changed})


def test_the_schema_takes_benches_and_nothing_else() -> None:
    schema = bench_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    row = {"p50": 100.0, "p90": 120.0, "p99": 130.0, "mean": 105.0}
    pytorch = {
        "runs": 3, "backend": _found().backend, "total_ms": row, "engine_total_ms": row,
        "speedup": 1.0, "instances": 2.5,
    }  # fmt: skip
    for made in (_found(), _found(pytorch=pytorch)):
        jsonschema.validate(json.loads(json.dumps(made.to_json())), schema)
    for wrong in ({"precision": "fp4"}, {"power": {}}, {"stages_ms": {}}, {"more": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**_found().to_json(), **wrong}, schema)


def test_an_svg_shows_every_stage_to_scale(tmp_path: Path) -> None:
    stages = {stage: {**_found().stages_ms[stage]} for stage in bench_module.STAGES}
    stages["engine"]["p50"] = 5.0
    write_chart(_found(stages_ms=stages, target="<&>"), tmp_path / "new" / "chart.svg")
    root = ElementTree.parse(tmp_path / "new" / "chart.svg").getroot()
    texts = [element.text for element in root if element.tag.endswith("text")]
    assert set(bench_module.STAGES) <= set(texts)
    assert "<&> int8, batch 1, 3 calls" in texts
    bars = [e for e in root if e.tag.endswith("rect") and e.get("height") == "16.0"]
    widths = [float(bar.get("width", "")) for bar in bars]
    assert widths[2] == pytest.approx(widths[0] / 2, abs=0.1)
    columns = [e for e in root if e.get("fill") == "#cccccc"]
    heights = [float(column.get("height", "")) for column in columns]
    assert heights == pytest.approx([100, 120, 110])


def test_a_png_is_the_same_chart(tmp_path: Path) -> None:
    write_chart(_found(), tmp_path / "chart.png")
    pixels = np.asarray(Image.open(tmp_path / "chart.png").convert("RGB"))
    assert pixels.shape == (800, 1440, 3)
    assert (pixels == (0x2F, 0x6F, 0xB0)).all(axis=2).sum() > 10_000  # the engine's bar
    assert (pixels.sum(axis=2) < 150).sum() > 500  # words


def test_other_charts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"end it in \.svg or \.png"):
        write_chart(_found(), tmp_path / "chart.gif")
