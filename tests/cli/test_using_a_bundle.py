"""A compiled bundle in use: run on pictures and a film, timed, packaged, built for a GPU."""

import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import maskrt
from maskrt.core import Bundle
from maskrt.running.bench import bench_schema
from maskrt.runtime.sources import Video

from .command_line import MODEL, run

pytest.importorskip("torch")
pytestmark = pytest.mark.torch


def test_run_draws_and_writes_coco(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("run", work / "tiny.maskrt", work / "pictures", "-o", work / "out") == 0
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
    assert run("run", work / "tiny.maskrt", work / "clip.avi", "-o", work / "film",
               "--min-score", 0.2, "--max-frames", 5) == 0  # fmt: skip
    assert "in 5 pictures and frames" in capsys.readouterr().out
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


def test_printed_commands_follow_a_copied_bundle(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(work / "tiny.maskrt", tmp_path / "one.maskrt")
    with Bundle.open(tmp_path / "one.maskrt").edit() as staged:
        staged.write("engines/orin-nx/prepared.json", {
            "bundle": "one.maskrt", "precision": "int8", "segments": [], "note": "",
            "build_memory_mib": 1,
            "commands": {"build": "~/maskrt/bin/maskrt build one.maskrt --target orin-nx --here"},
        })  # fmt: skip
    shutil.move(tmp_path / "one.maskrt", tmp_path / "so lo.maskrt")
    assert run("inspect", tmp_path / "so lo.maskrt") == 0
    there = "~/maskrt/bin/maskrt build 'so lo.maskrt' --target orin-nx --here"
    assert f"  there     {there}\n" in capsys.readouterr().out


def test_bench(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"--json": work / "bench.json", "--plot": work / "bench.svg"}
    assert (
        run("bench", work / "tiny.maskrt", "--runs", 3, "--images", work / "pictures",
            "--weights", work / "tiny.pth", *MODEL,
            *(word for pair in files.items() for word in pair))
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


def test_package_for_deepstream_or_triton(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("package", work / "tiny.maskrt") == 2
    assert "one of the two" in capsys.readouterr().err
    assert run("package", work / "tiny.maskrt", "--triton", work / "models") == 0
    assert (work / "models" / "tiny" / "config.pbtxt").exists()
    assert run("package", work / "tiny.maskrt", "--deepstream", work / "ds") == 1
    assert "--class-names" in capsys.readouterr().err


@pytest.mark.rtx
def test_rtx_engine_is_built_and_cannot_run_here(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("build", work / "tiny.maskrt", "--target", "rtx-89", "--precision", "fp16") == 0
    info = Bundle.open(work / "tiny.maskrt").read_json("engines/rtx-89@fp16/engine.json")
    assert info["layers"]["fp16"] > 0
    assert info["layers"]["fp32"] == 0
    capsys.readouterr()
    status = run("run", work / "tiny.maskrt", work / "pictures", "--target", "rtx-89",
                 "--precision", "fp16", "-o", work / "never")  # fmt: skip
    if not info["runs_here"]:
        assert status == 1
        assert "needs an NVIDIA GPU" in capsys.readouterr().err
        assert not (work / "never").exists()


def test_a_session_says_what_it_is(work: Path) -> None:
    with maskrt.load(work / "tiny.maskrt", "cpu") as session:
        assert repr(session) == "<maskrt.Session on cpu int8, 1 x 128 x 160>"
