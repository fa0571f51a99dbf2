"""Pictures as users have them: none, one, black, broken, too many broken; and runs that are killed.

Each is one sentence, and the recipe that the bundle had stays as it was.
"""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import maskrt
from maskrt.calib import Collector, Histogram, Range, Statistics, collect_statistics, place
from maskrt.calib.stored import read_statistics, write_statistics
from maskrt.cli import main
from maskrt.cluster.calibration import calibrate_on_cluster
from maskrt.core import Bundle, InputError, InputSpec, Manifest, MaskrtError, UsageError
from maskrt.precision.observation import Observed, observe, settled

from ..calib.graphs import SIZE, GraphBuilder, detector, pictures, stem

pytest.importorskip("onnxruntime")
SPEC = InputSpec(SIZE, SIZE)


def _write_bundle(path: Path, model: onnx.ModelProto) -> Path:
    outputs = {value.name: (1,) for value in model.graph.output}
    with Bundle.create(path, Manifest("test", SPEC, outputs)) as bundle:
        bundle.write("model.onnx", model.SerializeToString())
    return path


def _write_pictures(folder: Path, count: int) -> list[Path]:
    folder.mkdir(exist_ok=True)
    files = [folder / f"{index:03}.png" for index in range(count)]
    for index, file in enumerate(files):
        Image.fromarray(pictures(1, seed=index)[0]).save(file)
    return files


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrating")
    _write_pictures(folder / "good", 3)
    maskrt.calibrate(_write_bundle(folder / "b.maskrt", detector()), folder / "good")
    return folder


def _recipe(folder: Path) -> bytes:
    return (folder / "b.maskrt" / "recipe.json").read_bytes()


def _calibrate(folder: Path, calibration: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run `maskrt calibrate`; return what it says on its way out, which is one line."""
    with pytest.raises(SystemExit) as ended:
        main(["calibrate", str(folder / "b.maskrt"), "--calibration", str(calibration)])
    assert ended.value.code == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(
    ("count", "black", "broken", "sentence"),
    [
        (0, 0, 0, "holds no picture"),
        (1, 0, 0, "one picture is not enough to calibrate with"),
        (0, 3, 0, "all 3 calibration pictures are of one colour, such as black"),
        (2, 0, 1, "1 of 3 calibration pictures cannot be read, and at most 1% may be left out"),
        (0, 0, 2, "cannot be read"),
    ],
)
def test_bad_pictures_are_one_sentence_and_the_recipe_stays(
    template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    count: int, black: int, broken: int, sentence: str,
) -> None:  # fmt: skip
    before = _recipe(template)
    _write_pictures(tmp_path, count)
    for index in range(black):
        Image.new("RGB", (90, 60)).save(tmp_path / f"black{index}.png")
    for index in range(broken):
        (tmp_path / f"broken{index}.jpg").write_bytes(b"\xff\xd8\xff no picture")
    assert sentence in _calibrate(template, tmp_path, capsys)
    assert _recipe(template) == before


def _nothing_may_happen(stage: str, done: int, total: int) -> None:
    raise AssertionError(f"{stage} was begun")


def _compile(bundle: Path, pictures: Path, **options: Any) -> None:
    model = bundle / "model.onnx"
    out = bundle.parent / "out.maskrt"
    maskrt.compile(str(model), out, calibration=pictures, precision="int8", **options)


def _on_cluster(bundle: Path, pictures: Path, **options: Any) -> None:
    calibrate_on_cluster(bundle, pictures, "tcp://127.0.0.1:9", **options)


@pytest.mark.parametrize("verb", [_compile, maskrt.calibrate, _on_cluster])
def test_an_unknown_method_is_refused_before_anything_is_done(
    template: Path, verb: Callable[..., object]
) -> None:
    before = _recipe(template)
    said = "method 'guess' is not one of minmax, percentile, mse, entropy, best"
    with pytest.raises(UsageError, match=said):
        verb(template / "b.maskrt", template / "good", method="guess", progress=_nothing_may_happen)
    assert _recipe(template) == before


def test_fp32_is_calibrated_for_later_builds(template: Path, tmp_path: Path) -> None:
    made = maskrt.calibrate(
        _write_bundle(tmp_path / "b.maskrt", detector()), template / "good", precision="fp32"
    )
    found, known = made.read_json("recipe.json"), Bundle.open(template / "b.maskrt")
    assert {layer["precision"] for layer in found["layers"].values()} == {"fp32"}
    assert found["tensors"] == known.read_json("recipe.json")["tensors"]


@pytest.mark.parametrize("precision", ["mixed", maskrt.Precision.MIXED])
@pytest.mark.parametrize("verb", [maskrt.calibrate, _on_cluster])
def test_a_mixed_recipe_is_found_by_a_search_alone(
    template: Path, verb: Callable[..., object], precision: Any
) -> None:
    before = _recipe(template)
    with pytest.raises(UsageError, match="a mixed recipe is found by a search"):
        verb(
            template / "b.maskrt", template / "good", precision=precision,
            progress=_nothing_may_happen,
        )  # fmt: skip
    assert _recipe(template) == before


def test_one_black_picture_among_others_is_a_picture(tmp_path: Path) -> None:
    shown = [np.zeros((60, 90, 3), np.uint8), *pictures(2)]
    seen = observe(detector(), shown, SPEC)
    assert (seen.plain, settled(seen, 3)[0].pictures) == (1, 3)


def test_a_broken_picture_in_a_hundred_is_left_out_and_named(
    template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = _write_pictures(tmp_path / "pictures", 100)
    files[50].write_bytes(files[50].read_bytes()[:100])
    made = maskrt.calibrate(_write_bundle(tmp_path / "b.maskrt", detector()), tmp_path / "pictures")
    before = made.read_json("recipe.json")
    found = before["calibration"]
    assert found["pictures"] == 99
    assert len(found["skipped"]) == 1
    assert "050.png" in found["skipped"][0]
    with pytest.raises(SystemExit):
        main(["inspect", str(tmp_path / "b.maskrt")])
    shown = capsys.readouterr().out
    assert "99 for calibration, and 1 left out that cannot be read" in shown
    assert "050.png" in shown
    # Without the broken one, the ranges are the same.
    files[50].unlink()
    again = maskrt.calibrate(made, tmp_path / "pictures").read_json("recipe.json")
    assert again["calibration"] == {"pictures": 99}
    assert again["tensors"] == before["tensors"]


def test_a_nan_in_an_activation_names_the_tensor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    g = GraphBuilder()
    dim = g.op("Log", g.op("Sub", stem(g), g.constant(np.float32(0.5))))
    model = g.model([g.conv(dim, 16, 16)])
    path = _write_bundle(tmp_path / "b.maskrt", model)
    with Bundle.open(path).edit() as staged:
        staged.write("recipe.json", b"the earlier one")
    _write_pictures(tmp_path / "pictures", 2)
    said = _calibrate(tmp_path, tmp_path / "pictures", capsys)
    assert f"tensor {dim} has a NaN or infinite value" in said
    assert _recipe(tmp_path) == b"the earlier one"


def test_a_recipe_for_another_graph_is_refused(template: Path, tmp_path: Path) -> None:
    path = _write_bundle(tmp_path / "other.maskrt", detector(seed=1))
    with Bundle.open(path).edit() as staged:
        staged.write("recipe.json", _recipe(template))
    with pytest.raises(MaskrtError, match=r"the recipe is for graph .* calibrate this model"):
        maskrt.build(path, "cpu", precision="int8")
    assert (path / "recipe.json").read_bytes() == _recipe(template)
    assert Bundle.open(path).engines() == []


def test_stored_statistics_come_back_exactly() -> None:
    statistics = collect_statistics(detector(), [pictures(1)])
    stored = write_statistics(statistics)
    assert read_statistics(stored) == statistics
    for damaged in (stored[:-100], b"", b"PK\x03\x04", stored.replace(b"ranges", b"rangez")):
        with pytest.raises(InputError, match="cannot be read"):
            read_statistics(damaged)


def test_stored_statistics_hold_histograms_of_any_length() -> None:
    seen = {"usual": Histogram(), "huge": Histogram()}
    seen["usual"].add(np.float32([0.5, 3.0]))
    seen["huge"].add(np.float32([4e6, 1e30]))
    for histograms in (seen, {}):
        statistics = Statistics("g", 2, {"usual": Range(0, 3), "huge": Range(0, 1e30)}, histograms)
        assert read_statistics(write_statistics(statistics)) == statistics


def test_a_collector_goes_on_from_statistics_of_its_own_graph_only() -> None:
    model, shown = detector(), pictures(3)
    whole = collect_statistics(model, (picture[None] for picture in shown))
    first = collect_statistics(model, [shown[:1]])
    rest = Collector(model, start=first)
    for picture in shown[1:]:
        rest.add(picture[None])
    assert rest.statistics == whole
    assert first == collect_statistics(model, [shown[:1]])  # which is left alone
    with pytest.raises(InputError, match="of another pass"):
        Collector(detector(seed=1), start=first)


_KILLED = """
import os, signal, sys
import maskrt, maskrt.precision.observation
maskrt.precision.observation._EVERY_SECONDS = 0.0
def progress(stage, done, total):
    print(stage, done, flush=True)
    if done == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
maskrt.calibrate(sys.argv[1], sys.argv[2], progress=progress)
"""


def test_a_killed_run_goes_on_and_writes_the_same_recipe(tmp_path: Path) -> None:
    files = _write_pictures(tmp_path / "pictures", 6)
    path = _write_bundle(tmp_path / "b.maskrt", detector())
    undisturbed = maskrt.calibrate(path, tmp_path / "pictures").read("recipe.json")
    path.joinpath("recipe.json").read_bytes()
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("MASKRT_CACHE", None)

    def run(stop_at: int) -> tuple[int, list[int]]:
        words = [sys.executable, "-c", _KILLED, str(path), str(tmp_path / "pictures"), str(stop_at)]
        ended = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        lines = [line.split() for line in ended.stdout.splitlines()]
        return ended.returncode, [int(done) for stage, done in lines if stage == "calibrate"]

    assert run(4) == (-signal.SIGKILL, [0, 1, 2, 3, 4])
    assert (path / "recipe.json").read_bytes() == undisturbed
    (kept,) = (tmp_path / "cache" / "maskrt" / "calibration").iterdir()
    assert run(-1) == (0, [4, 5, 6])  # the first four are not run again
    assert (path / "recipe.json").read_bytes() == undisturbed
    assert not kept.exists()  # it is of no more use
    # A picture that changed makes it another pass.
    run(4)
    Image.fromarray(pictures(1, seed=77)[0]).save(files[0])
    os.utime(files[0], ns=(time.time_ns() + 10**9,) * 2)
    assert run(-1)[1] == [0, 1, 2, 3, 4, 5, 6]


def test_a_damaged_checkpoint_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MASKRT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("maskrt.precision.observation._EVERY_SECONDS", 0.0)
    files = _write_pictures(tmp_path / "pictures", 3)
    whole = observe(detector(), files, SPEC)
    (kept,) = (tmp_path / "cache" / "maskrt" / "calibration").iterdir()
    assert observe(detector(), files, SPEC) == whole  # all of it is in there
    good = kept.read_bytes()
    assert hashlib.sha256(good).digest() != hashlib.sha256(good[:-9]).digest()
    for damaged in (good[:-9], good.replace(b'"done": 3', b'"dune": 3'), b"", b"\n"):
        kept.write_bytes(damaged)
        assert observe(detector(), files, SPEC) == whole


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Have every checkpoint kept, and return their folder."""
    monkeypatch.setenv("MASKRT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("maskrt.precision.observation._EVERY_SECONDS", 0.0)
    return tmp_path / "cache" / "calibration"


def _began_at(model: onnx.ModelProto, files: list[Path]) -> tuple[int, Observed]:
    done: list[int] = []
    seen = observe(model, files, SPEC, lambda stage, now, total: done.append(now))
    return done[0], seen


@pytest.mark.parametrize("package", ["maskrt.precision.observation", "onnxruntime", "numpy"])
def test_a_checkpoint_of_another_version_is_not_gone_on_from(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    files = _write_pictures(tmp_path / "pictures", 2)
    _, whole = _began_at(detector(), files)
    assert _began_at(detector(), files) == (2, whole)
    monkeypatch.setattr(f"{package}.__version__", "99.0")
    assert _began_at(detector(), files) == (0, whole)
    assert len(list(kept.iterdir())) == 2


def test_a_placement_that_changed_begins_anew(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a new release's may: other tensors are observed then."""
    files, model = _write_pictures(tmp_path / "pictures", 2), detector()
    every = place(model).tensors
    _, before = _began_at(model, files)
    assert tuple(before.statistics.tensors) == every
    monkeypatch.setattr("maskrt.calib.placement._tensors", lambda layers, adds: every[:-1])
    start, after = _began_at(model, files)
    assert (start, tuple(after.statistics.tensors)) == (0, every[:-1])
    for name in every[:-1]:  # fusion differs with what is observed, so the last bits of a sum may
        amax = before.statistics.tensors[name].amax
        assert after.statistics.tensors[name].amax == pytest.approx(amax, rel=1e-5)


def test_a_checkpoint_that_does_not_fit_is_none(kept: Path, tmp_path: Path) -> None:
    files, model = _write_pictures(tmp_path / "pictures", 2), detector()
    _, whole = _began_at(model, files)
    (file,) = kept.iterdir()
    head, _, _ = file.read_bytes().partition(b"\n")
    own = whole.statistics
    fewer = dict(list(own.tensors.items())[:-1])
    for other in (
        replace(own, graph="another"),
        replace(own, tensors=fewer, histograms={n: own.histograms[n] for n in fewer}),
        replace(own, tensors={}, histograms={}, pictures=0),
        replace(own, histograms={}),
    ):
        file.write_bytes(head + b"\n" + write_statistics(other))
        assert _began_at(model, files) == (0, whole)
