"""The command line from model to report, on a detector small enough for every run."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

import maskrt
import maskrt.core
from maskrt.benching import bench_schema
from maskrt.cli import main
from maskrt.core import Bundle
from maskrt.runtime.check.schema import report_schema
from maskrt.runtime.sources import Video
from maskrt.spread_calibration import calibrate_on_cluster

pytest.importorskip("torch")
pytestmark = pytest.mark.torch


def _run(*words: Any) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, photos: list[np.ndarray]) -> Path:
    """A folder with weights, pictures, and a compiled INT8 bundle."""
    import torch

    from ..export.detectors import enliven, tiny_mask_rcnn

    folder = tmp_path_factory.mktemp("cli")
    torch.manual_seed(0)
    model = enliven(tiny_mask_rcnn(), photos)
    torch.save(model.state_dict(), folder / "tiny.pth")
    (folder / "pictures").mkdir()
    for index, photo in enumerate(photos):
        Image.fromarray(photo).save(folder / "pictures" / f"{index}.png")
    assert (
        _run("compile", "tests.export.detectors:tiny_mask_rcnn", "-o", folder / "tiny.maskrt",
             "--weights", folder / "tiny.pth", "--input-size", 128, 160,
             "--calibration", folder / "pictures", "--precision", "int8")
        == 0
    )  # fmt: skip
    _annotate(folder)
    return folder


def _annotate(folder: Path) -> None:
    """Write the FP32 model's own findings as annotations: its AP is then 100."""
    from maskrt.checking import canonical_session

    files = sorted((folder / "pictures").iterdir())
    images, annotations = [], []
    with canonical_session(Bundle.open(folder / "tiny.maskrt")) as session:
        for number, file in enumerate(files, 1):
            found = session.predict(file)
            height, width = found.image_size
            images.append({"id": number, "file_name": file.name, "height": height, "width": width})
            for entry in found.to_coco(number):
                _, _, w, h = entry["bbox"]
                entry |= {"id": len(annotations) + 1, "iscrowd": 0, "area": w * h}
                annotations.append(entry)
    categories = [{"id": i, "name": str(i)} for i in range(1, 5)]
    data = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(data))


def _check(work: Path, *words: Any) -> int:
    return _run(
        "check", work / "tiny.maskrt", "--images", work / "pictures",
        "--annotations", work / "annotations.json", *words,
    )  # fmt: skip


def test_bundle_says_what_it_is(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("inspect", work / "tiny.maskrt") == 0
    shown = capsys.readouterr().out
    assert "weights tiny.pth" in shown
    assert "int8" in shown
    assert "2 maskrt::BatchedNMS" in shown


def test_check_measures_the_drop(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _check(work, "--json", work / "r.json", "--html", work / "r.html") == 0
    report = json.loads((work / "r.json").read_text())
    assert report["reference"]["mask"]["AP"] == pytest.approx(100, abs=0.1)
    assert report["drop"]["box"]["AP"] == pytest.approx(
        report["reference"]["box"]["AP"] - report["metrics"]["box"]["AP"]
    )
    assert "canonical FP32" in capsys.readouterr().out
    assert (work / "r.html").read_text().startswith("<!doctype html>")


def test_a_stored_reference_needs_nothing_to_run_it(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _check(work, "--store-reference", "--weights", work / "tiny.pth") == 0
    assert "PyTorch FP32" in capsys.readouterr().out

    def refuse(*_: object) -> None:
        raise AssertionError("the reference was run")

    monkeypatch.setattr("maskrt.accuracy.canonical_session", refuse)
    monkeypatch.setattr("maskrt.accuracy.pytorch_session", refuse)
    assert _check(work, "--junit", work / "r.xml", "--json", work / "r.json") == 0
    assert "PyTorch FP32 (stored)" in capsys.readouterr().out
    assert (work / "r.xml").read_text().count("<testcase") == 2
    report = json.loads((work / "r.json").read_text())
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(report, report_schema())
    assert report["agreement"]["matched"] > 0
    with Bundle.open(work / "tiny.maskrt").edit() as staged:
        staged.remove("reference/")


def test_explain_adds_up_and_is_printed(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _check(work, "--explain", "--json", work / "r.json") == 0
    shown = capsys.readouterr().out
    assert "letterboxing and resize" in shown
    assert "suspect" in shown
    report = json.loads((work / "r.json").read_text())
    pytest.importorskip("jsonschema").validate(report, report_schema())
    found = report["attribution"]
    assert found["start"] == "canonical FP32"
    for kind, whole in found["whole"].items():
        assert sum(part["lost"][kind] for part in found["parts"]) == pytest.approx(whole)
    stages = [part["stage"] for part in found["parts"]]
    assert (stages[0], stages[-2:]) == ("letterbox", ["engine", "paste"])
    assert {layer["name"] for layer in report["divergence"]["layers"]}


def test_missed_budget_exits_1(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _check(work, "--max-ap-drop", "0.0001") == 1
    assert "and the budget is 0.0001" in capsys.readouterr().err
    assert _check(work, "--max-ap-drop", "100") == 0


@pytest.mark.slow  # the search tries what it can
def test_missed_budget_leaves_no_bundle(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = _run(
        "compile", "tests.export.detectors:tiny_mask_rcnn", "-o", work / "strict.maskrt",
        "--weights", work / "tiny.pth", "--input-size", 128, 160, "--precision", "int8",
        "--calibration", work / "pictures", "--max-ap-drop", "0.0001",
        "--images", work / "pictures", "--annotations", work / "annotations.json",
    )  # fmt: skip
    assert status == 1
    assert "No bundle was written." in capsys.readouterr().err
    assert not (work / "strict.maskrt").exists()
    assert not [p for p in work.iterdir() if p.name.startswith(".strict")]


def test_improvements_are_kept_only_where_they_raise_ap(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = work / "improved.maskrt"
    shutil.copytree(work / "tiny.maskrt", copy)
    earlier = Bundle.open(copy).read_json("recipe.json")
    assert _run("calibrate", copy, "--calibration", work / "pictures", "--equalise",
                "--bias-correction", "--images", work / "pictures",
                "--annotations", work / "annotations.json") == 0  # fmt: skip
    recipe = Bundle.open(copy).read_json("recipe.json")
    found = recipe["calibration"]["improvements"]
    names = ["equalisation", "bias correction"]
    assert set(found["ap_drop"]) == {"neither", *names, " and ".join(names)}
    least = min(found["ap_drop"].values())
    assert found["ap_drop"][" and ".join(found["kept"]) or "neither"] == least
    assert ("factors" in recipe, "corrections" in recipe) == tuple(
        n in found["kept"] for n in names
    )
    if not found["kept"]:
        assert {**earlier, "calibration": recipe["calibration"]} == recipe
    shown = capsys.readouterr().out
    assert "improved  by" in shown
    assert f"{found['ap_drop']['neither']:.2f} with neither" in shown
    assert _run("build", copy, "--target", "cpu") == 0
    layers = Bundle.open(copy).read_json("engines/cpu/engine.json")["layers"]
    assert layers["int8"] > 20
    shutil.rmtree(copy)


def test_pytorch_itself_as_the_reference(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("build", work / "tiny.maskrt", "--target", "cpu", "--precision", "fp32") == 0
    assert _check(work, "--precision", "fp32", "--weights", work / "tiny.pth",
                  "--max-ap-drop", "0.05") == 0  # fmt: skip
    assert "PyTorch FP32" in capsys.readouterr().out
    other = work / "other.pth"
    other.write_bytes((work / "tiny.pth").read_bytes() + b" ")
    assert _check(work, "--weights", other) == 1
    assert "are not the file that the bundle was compiled from" in capsys.readouterr().err


def test_run_draws_and_writes_coco(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("run", work / "tiny.maskrt", work / "pictures", "-o", work / "out") == 0
    results = json.loads((work / "out" / "results.json").read_text())
    assert {"bbox", "score", "category_id", "segmentation"} <= set(results[0])
    assert len(json.loads((work / "out" / "images.json").read_text())["images"]) == 3
    assert sorted(p.name for p in (work / "out").glob("*.png")) == ["0.png", "1.png", "2.png"]
    assert "in 3 pictures" in capsys.readouterr().out


def test_run_on_a_video(
    work: Path, photos: list[np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    cv2 = pytest.importorskip("cv2")
    writer = cv2.VideoWriter(
        str(work / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 12.0, (240, 160)
    )
    for photo in photos * 2:
        writer.write(cv2.cvtColor(np.ascontiguousarray(photo[:160, :240]), cv2.COLOR_RGB2BGR))
    writer.release()
    assert _run("run", work / "tiny.maskrt", work / "clip.avi", "-o", work / "film",
                "--min-score", 0.2, "--max-frames", 5) == 0  # fmt: skip
    assert "in 5 pictures or frames" in capsys.readouterr().out
    results = json.loads((work / "film" / "results.json").read_text())
    drawn = list(Video(work / "film" / "clip.mp4"))
    assert len(drawn) == 5
    with maskrt.load(work / "tiny.maskrt", "cpu") as session:
        for number, (frame, shown) in enumerate(zip(Video(work / "clip.avi"), drawn, strict=False)):
            found = session.predict(frame)
            expected = found.to_coco(number + 1)
            assert [r for r in results if r["image_id"] == number + 1] == expected
            painted = found.draw(frame, min_score=0.2).astype(int)
            assert (found.scores >= 0.2).any()
            lossy = np.abs(shown.astype(int) - painted).mean()
            assert lossy < 0.5 * np.abs(frame.astype(int) - painted).mean()


def test_bench(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"--json": work / "bench.json", "--plot": work / "bench.svg"}
    assert (
        _run("bench", work / "tiny.maskrt", "--runs", 3, "--images", work / "pictures",
             "--weights", work / "tiny.pth", *(word for pair in files.items() for word in pair))
        == 0
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert "pictures/s" in printed
    assert "times the engine's median" in printed
    found = json.loads(files["--json"].read_text())
    jsonschema.validate(found, bench_schema())
    assert found["instances"] > 1
    assert found["pytorch"]["backend"]["backend"] == "pytorch"
    assert found["pytorch"]["instances"] == pytest.approx(found["instances"], rel=0.5)  # INT8
    assert "PyTorch total" in files["--plot"].read_text()


@pytest.mark.parametrize("words", [("bench",), ("run", "pictures", "-o", "never")])
def test_a_target_without_a_device_is_refused_in_a_sentence(
    work: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    verb, *rest = words
    paths = [word if word.startswith("-") else work / word for word in rest]
    assert _run(verb, work / "tiny.maskrt", *paths, "--on-device") == 2
    assert capsys.readouterr().err.strip().splitlines()[-1] == (
        "error: target cpu has no device to run frames on: leave out on_device."
    )
    assert not (work / "never").exists()
    with pytest.raises(maskrt.core.UsageError, match="has no device"):
        maskrt.load(work / "tiny.maskrt", on_device=True)


def test_package_for_deepstream_or_triton(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("package", work / "tiny.maskrt") == 2
    assert "one of the two" in capsys.readouterr().err
    assert _run("package", work / "tiny.maskrt", "--triton", work / "models") == 0
    assert (work / "models" / "tiny" / "config.pbtxt").exists()
    assert _run("package", work / "tiny.maskrt", "--deepstream", work / "ds") == 1
    assert "--class-names" in capsys.readouterr().err


@pytest.mark.rtx
def test_rtx_engine_is_built_and_cannot_run_here(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("build", work / "tiny.maskrt", "--target", "rtx-89", "--precision", "fp16") == 0
    info = Bundle.open(work / "tiny.maskrt").read_json("engines/rtx-89@fp16/engine.json")
    assert info["layers"]["fp16"] > 0
    assert info["layers"]["fp32"] == 0
    capsys.readouterr()
    status = _run("run", work / "tiny.maskrt", work / "pictures", "--target", "rtx-89",
                  "--precision", "fp16", "-o", work / "never")  # fmt: skip
    if not info["runs_here"]:
        assert status == 1
        assert "needs an NVIDIA GPU" in capsys.readouterr().err
        assert not (work / "never").exists()


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["compile", "torchvision:maskrcnn_resnet50", "-o", "{out}"], 2, "did you mean"),
        (["compile", "resnet", "-o", "{out}"], 2, "is not understood"),
        (["compile", "maskrt:nothing", "-o", "{out}"], 2, "maskrt has no model"),
        (["compile", "no.such.module:f", "-o", "{out}"], 2, "cannot be imported"),
        (["compile", "torchvision:retinanet_resnet50_fpn", "-o", "{out}"], 1, "RetinaNet"),
        (["compile", "model.onnx", "-o", "{out}"], 1, "does not exist"),
        (["compile", "{tiny}", "-o", "{out}", "--precision", "int8"], 2, "needs calibration"),
        (["compile", "{tiny}", "-o", "{out}", "--input-size", "16", "320"], 2, "32 to 8192"),
        (["compile", "{tiny}", "-o", "{out}", "--target", "gpu"], 1, "this machine's GPU"),
        (["compile", "{tiny}", "-o", "{out}", "--weights", "{empty}/w.pth"], 1, "do not exist"),
        (["compile", "{tiny}", "-o", "{out}", "--weights", "{damaged}"], 1, "cannot be read"),
        (["compile", "{tiny}", "-o", "{out}", "--weights", "{other}"], 1, "are not this model's"),
        (["compile", "{tiny}", "-o", "{out}", "--precision", "int8", "--calibration", "{empty}"],
         1, "no picture"),
        (["compile", "{tiny}", "-o", "{empty}"], 2, "is not a bundle"),
        (["compile", "{tiny}", "-o", "{out}", "--max-ap-drop", "1"], 2, "give both"),
        (["compile", "{tiny}", "-o", "{out}", "--precision", "bf16"], 1, "has no BF16"),
        (["compile", "{tiny}", "-o", "{out}", "--precision", "fp8", "--target", "rtx-89"],
         2, "precision fp8 needs calibration"),
        (["build", "{bundle}", "--target", "orin-nx", "--precision", "fp8"], 1, "FP8 needs SM 8.9"),
        (["compile", "{tiny}", "-o", "{out}", "--equalise"], 2, "equalisation is for INT8"),
        (["calibrate", "{bundle}", "--calibration", "{pictures}", "--equalise",
          "--bias-correction"], 2, "equalisation and bias correction is kept only where it raises"),
        (["calibrate", "{bundle}", "--calibration", "{pictures}", "--images", "{pictures}"],
         2, "ask for one of them"),
        (["run", "{out}", "x.jpg"], 1, "does not exist"),
        (["run", "{bundle}", "{empty}"], 1, "no picture"),
        (["run", "{bundle}", "absent.jpg"], 1, "absent.jpg"),
        (["run", "{bundle}", "x.jpg", "--precision", "fp16", "--target", "cpu"], 1, "maskrt build"),
        (["check", "{bundle}", "--images", "{empty}", "--annotations", "no.json"], 1, "no.json"),
        (["nonsense"], 2, "nonsense"),
    ],
)  # fmt: skip
def test_one_sentence_and_nothing_half_written(
    work: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    status: int,
    sentence: str,
) -> None:
    import torch

    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.pth").write_bytes((work / "tiny.pth").read_bytes()[:5000])
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "other.pth")
    places = {
        "out": tmp_path / "out.maskrt", "empty": tmp_path / "empty", "bundle": work / "tiny.maskrt",
        "damaged": tmp_path / "damaged.pth", "other": tmp_path / "other.pth",
        "tiny": "tests.export.detectors:tiny_mask_rcnn", "pictures": work / "pictures",
    }  # fmt: skip
    before = {p.name for p in tmp_path.iterdir()}
    assert _run(*(word.format(**places) for word in words)) == status
    shown = capsys.readouterr().err
    assert sentence in shown
    assert "Traceback" not in shown
    assert {p.name for p in tmp_path.iterdir()} == before


@pytest.mark.slow
@pytest.mark.parametrize("weights", [True, False])
def test_a_cluster_gives_the_same_numbers_though_a_worker_dies(
    work: Path, monkeypatch: pytest.MonkeyPatch, weights: bool
) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.undo()  # the workers are reached over local sockets
    monkeypatch.setattr("maskrt.spreading._SHARD", 1)
    how: dict[str, Any] = {
        "images": work / "pictures", "annotations": work / "annotations.json", "target": "cpu",
        "weights": work / "tiny.pth" if weights else None,
    }  # fmt: skip
    alone = maskrt.check(work / "tiny.maskrt", **how).to_json()
    killed = []
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, dashboard_address=None
    ) as cluster:

        def kill_one(stage: str, done: int, total: int) -> None:
            if stage == "check" and done == 0 and not killed:
                killed.append(cluster.workers[0].pid)
                os.kill(killed[0], signal.SIGKILL)

        address = cluster.scheduler_address
        spread = maskrt.check(
            work / "tiny.maskrt", **how, dask=address, progress=kill_one
        ).to_json()
        # The surviving workers calibrate: the same recipe, byte by byte.
        recipe = Bundle.open(work / "tiny.maskrt").read("recipe.json")
        copy = work / f"spread{weights}.maskrt"
        shutil.copytree(work / "tiny.maskrt", copy)
        calibrate_on_cluster(copy, work / "pictures", address)
        assert Bundle.open(copy).read("recipe.json") == recipe
        assert Bundle.open(copy).engines() == []
    assert killed
    for name in set(alone) - {"latency_ms"}:
        assert spread[name] == alone[name], name


def test_no_scheduler_is_one_sentence(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.undo()
    assert _check(work, "--dask", "nonsense://nowhere:1") == 1
    shown = capsys.readouterr().err
    assert "no Dask scheduler answers at nonsense://nowhere:1" in shown
