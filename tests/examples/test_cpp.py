"""The C++ program, compiled with sanitizers and run on a TensorRT that is played by two headers.

Its canvas and what it prints are compared with a session whose engine gives the same outputs.
NVIDIA's own headers compile it where they are (`MASKRT_TENSORRT_INCLUDE`, `MASKRT_CUDA_INCLUDE`).
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrt.core import InputSpec
from maskrt.runtime import Session
from maskrt.runtime.backends.null import NullBackend

from .painted import ROOT

SOURCE = ROOT / "examples" / "cpp" / "detect.cpp"
SPEC = InputSpec(60, 96, batch=2, pad_value=(7, 8, 9))
SLOTS = 5
SHAPES = {"images": SPEC.shape, "boxes": (2, SLOTS, 4), "scores": (2, SLOTS), "labels": (2, SLOTS),
          "masks": (2, SLOTS, 28, 28), "count": (2,)}  # fmt: skip
KINDS = {"images": 5, "labels": 3, "count": 3}
FLAGS = ("-std=c++17", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off")
PICTURES = [(60, 96), (200, 150), (41, 500), (7, 3), (33, 64), (121, 190)]  # height, width
pytestmark = pytest.mark.slow  # the sanitizers' compilation
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


class Given(NullBackend):
    """Gives the same outputs whatever the picture, and keeps the canvases."""

    def __init__(self, outputs: dict[str, np.ndarray]) -> None:
        super().__init__({})
        self.outputs, self.canvases = outputs, np.zeros(0)

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.canvases = images.copy()
        return self.outputs


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled without a warning, with sanitizers."""
    made = tmp_path_factory.mktemp("cpp") / "detect"
    subprocess.run(
        ["g++", *FLAGS, "-O1", "-g", "-fsanitize=address,undefined",
         "-fno-sanitize-recover=all", f"-I{Path(__file__).parent / 'tensorrt'}",
         "-o", str(made), str(SOURCE)],
        check=True,
    )  # fmt: skip
    return made


def _outputs() -> dict[str, np.ndarray]:
    """Five rows of which four are real: one beside the canvas, one on the filling alone."""
    rng = np.random.default_rng(5)
    boxes = np.array([[3.5, 2.25, 40.75, 33], [-8, -5, 20.5, 70], [50, 10.5, 110, 58],
                      [94, 58, 96, 60], [1, 1, 9, 9]], np.float32)  # fmt: skip
    coarse = rng.random((SLOTS, 7, 7)).astype(np.float32)
    masks = coarse.repeat(4, axis=1).repeat(4, axis=2)
    found = {
        "boxes": boxes, "scores": np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32),
        "labels": np.array([1, 2, 3, 1, 2], np.int32), "masks": masks,
        "count": np.array(4, np.int32),
    }  # fmt: skip
    return {name: np.stack([value, value]) for name, value in found.items()}


def _plan(folder: Path, outputs: dict[str, np.ndarray]) -> Path:
    lines = ["plan"]
    for name in ("images", *outputs):
        if name in outputs:
            outputs[name].tofile(folder / name)
        dims = SHAPES[name]
        words = (name, KINDS.get(name, 0), len(dims), *dims, folder / name)
        lines.append(" ".join(map(str, words)))
    (folder / "engine.trt").write_text("\n".join(lines))
    return folder / "engine.trt"


def _picture(folder: Path, size: tuple[int, int]) -> tuple[Path, np.ndarray]:
    image = np.random.default_rng(size).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(image).save(folder / "a.ppm")
    return folder / "a.ppm", image


def _run(program: Path, *words: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(program), *map(str, words)], capture_output=True, text=True, check=False
    )


@needs_compiler
@pytest.mark.parametrize("size", PICTURES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("with_masks", [True, False])
def test_it_prints_what_a_session_finds(
    program: Path, tmp_path: Path, size: tuple[int, int], with_masks: bool
) -> None:
    outputs = _outputs()
    if not with_masks:
        del outputs["masks"]
    plan, (file, image) = _plan(tmp_path, outputs), _picture(tmp_path, size)
    done = _run(program, plan, file, 0.55, *SPEC.pad_value)
    assert (done.returncode, done.stderr) == (0, "")
    backend = Given(outputs)
    with Session(backend, SPEC) as session:
        found = session.predict(image, min_score=0.55)
    canvas = np.fromfile(tmp_path / "images", np.uint8).reshape(SPEC.shape)
    np.testing.assert_array_equal(canvas, backend.canvases)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len(rows) == len(found) >= 2
    assert [int(row[0]) for row in rows] == found.labels.tolist()
    np.testing.assert_allclose([float(row[1]) for row in rows], found.scores, atol=1e-6)
    boxes = np.array([row[2:6] for row in rows], float)
    np.testing.assert_allclose(boxes, found.boxes, atol=6e-4)  # three decimals
    if not with_masks:
        assert {len(row) for row in rows} == {6}
        return
    assert found.masks is not None
    pixels = found.masks.sum(axis=(1, 2))
    # A pixel within an ulp of a half may fall to either side.
    np.testing.assert_allclose([int(row[6]) for row in rows], pixels, atol=2)
    assert pixels.max() > 2 or size == (7, 3)


@needs_compiler
def test_what_is_wrong_is_one_sentence_and_nothing_is_left(program: Path, tmp_path: Path) -> None:
    plan, (file, _) = _plan(tmp_path, _outputs()), _picture(tmp_path, (30, 40))
    (tmp_path / "other.trt").write_bytes(b"ptrt")
    (tmp_path / "cut.ppm").write_bytes(file.read_bytes()[:-1])
    (tmp_path / "text.ppm").write_text("P3 1 1 255 0 0 0")
    (tmp_path / "huge.ppm").write_bytes(b"P6 2000000000 2000000000 255\n")
    (tmp_path / "lacking.trt").write_text(re.sub("scores.*", "", plan.read_text()))
    for words, said in (
        ((tmp_path / "none.trt", file), "none.trt cannot be read"),
        ((tmp_path / "other.trt", file), "build it again here"),
        ((tmp_path / "lacking.trt", file), 'no tensor "scores"'),
        ((plan, tmp_path / "none.ppm"), "none.ppm cannot be read"),
        ((plan, tmp_path / "cut.ppm"), "damaged"),
        ((plan, tmp_path / "text.ppm"), "no binary PPM"),
        ((plan, tmp_path / "huge.ppm"), "damaged"),
    ):
        done = _run(program, *words)
        assert (done.returncode, done.stdout) == (1, ""), done.stderr
        assert said in done.stderr
        assert "stand-in" not in done.stderr
    assert _run(program, plan).returncode == 2


@needs_compiler
def test_headers_of_nvidia_compile_it() -> None:
    headers = [
        os.environ.get("MASKRT_TENSORRT_INCLUDE", "/usr/include/x86_64-linux-gnu"),
        os.environ.get("MASKRT_CUDA_INCLUDE", "/usr/local/cuda/include"),
    ]
    for folder, name in zip(headers, ("NvInfer.h", "cuda_runtime_api.h"), strict=True):
        if not (Path(folder) / name).is_file():
            pytest.skip(f"no {name}: name its folder in the variable")
    subprocess.run(
        ["g++", *FLAGS, "-fsyntax-only", *(word for f in headers for word in ("-isystem", f)),
         str(SOURCE)],
        check=True,
    )  # fmt: skip
