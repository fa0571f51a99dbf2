"""`maskrt compile` and `maskrt inspect` on an ONNX file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrt.cli import main
from maskrt.core import Bundle

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


def _run(*words: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return int(left.value.code or 0)


@pytest.fixture(scope="module")
def pictures(photos: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for index, photo in enumerate(photos):
        Image.fromarray(photo).save(folder / f"{index}.png")
    return folder


def test_compile_to_int8(
    small: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = _run(
        "compile", small, "-o", tmp_path / "small.maskrt", "--precision", "int8",
        "--calibration", pictures,
    )  # fmt: skip
    assert status == 0
    assert "against the original ONNX" in capsys.readouterr().out
    bundle = Bundle.open(tmp_path / "small.maskrt")
    assert bundle.manifest.input.shape == (1, 64, 96, 3)
    assert bundle.manifest.fidelity["violations"] == []
    assert bundle.manifest.fidelity["instances"] >= 10
    assert bundle.manifest.source["onnx"]["file"] == small.name
    rules = {entry["rule"] for entry in bundle.manifest.source["surgery"]}
    assert rules == {"preprocessing", "pyramid", "proposals", "detections", "masks"}
    layers = bundle.read_json("engines/cpu/engine.json")["layers"]
    assert layers["int8"] > 0


@pytest.mark.rtx
@pytest.mark.slow
def test_compile_to_rtx(small: Path, tmp_path: Path) -> None:
    assert _run("compile", small, "-o", tmp_path / "small.maskrt", "--target", "rtx") == 0
    layers = Bundle.open(tmp_path / "small.maskrt").read_json("engines/rtx/engine.json")["layers"]
    assert {name for name, count in layers.items() if count} == {"fp32"}


def test_inspect(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("inspect", small) == 0
    out = capsys.readouterr().out
    assert "proposals: 3 levels" in out
    assert "TopK '" in out
    assert "rewrites it whole" in out


def test_inspect_says_what_declined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnx
    import onnx.parser

    text = '<ir_version: 8, opset_import: ["" : 17]>\ng (float[3] x) => (float[3] y) {y = Relu (x)}'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "relu.onnx")
    assert _run("inspect", tmp_path / "relu.onnx") == 0
    out = capsys.readouterr().out
    assert "the graph has no RoiAlign" in out
    assert "the rule preprocessing declined: the input has the shape [3]" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--weights", "w.pth"], "leave weights out"),
        (["--num-classes", "4"], "leave --num-classes out"),
        (["--input-size", "128", "128"], "exported for pictures of 64 x 96"),
    ],
)
def test_words_that_a_file_does_not_take(
    words: list[str], sentence: str, small: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert _run("compile", small, "-o", tmp_path / "x.maskrt", *words) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "x.maskrt").exists()
