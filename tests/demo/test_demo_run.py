"""The demo keeps its promises: on 200 held-out scenes, and in what it prints and leaves behind."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrt.cli import main
from maskrt.core import Bundle, Precision
from maskrt.demo.run import Row, run_demo

pytestmark = [pytest.mark.slow, pytest.mark.torch, pytest.mark.rtx]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, dict[str, Row], list[Path]]:
    folder = tmp_path_factory.mktemp("demo")
    bundle, rows, drawn = run_demo(folder / "demo.maskrt", pictures=200)
    return bundle, {row.name: row for row in rows}, drawn


def _mask_ap(row: Row) -> float:
    assert row.metrics is not None
    return float(row.metrics["mask"]["AP"])


def test_model_is_good_enough_for_ap_to_mean_something(
    demo: tuple[Bundle, dict[str, Row], list[Path]],
) -> None:
    assert _mask_ap(demo[1]["PyTorch FP32"]) >= 55.0


def test_what_each_step_costs(demo: tuple[Bundle, dict[str, Row], list[Path]]) -> None:
    rows = demo[1]
    fp32 = _mask_ap(rows["PyTorch FP32"])
    assert abs(_mask_ap(rows["cpu canonical FP32"]) - fp32) <= 0.05
    assert abs(_mask_ap(rows["cpu FP16"]) - fp32) <= 0.2
    assert fp32 - _mask_ap(rows["cpu INT8"]) <= 1.0


def test_canonical_graph_finds_the_same_instances(
    demo: tuple[Bundle, dict[str, Row], list[Path]],
) -> None:
    assert demo[0].manifest.fidelity["violations"] == []
    assert demo[0].manifest.fidelity["instances"] > 0


def test_engines_are_what_was_asked_for(
    demo: tuple[Bundle, dict[str, Row], list[Path]],
) -> None:
    rows = demo[1]
    assert rows["rtx FP32"].layers["fp32"] == rows["rtx FP16"].layers["fp16"]
    layers = rows["cpu INT8"].layers
    assert layers["int8"] / sum(layers.values()) >= 0.95
    layers = rows["rtx INT8"].layers  # INT8 where it gains time there, FP16 for the rest
    assert layers["int8"] > 0
    assert layers["fp32"] == layers["unknown"] == 0
    assert demo[0].manifest.precision is Precision.INT8
    assert len(demo[0].engines()) == 6


def test_pictures_are_drawn(demo: tuple[Bundle, dict[str, Row], list[Path]]) -> None:
    drawn = [np.asarray(Image.open(file)) for file in demo[2]]
    assert len(drawn) == 6
    assert all(picture.shape == (320, 320, 3) for picture in drawn)


def test_command_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--pictures", "4", "-o", str(tmp_path / "d.maskrt")])
    assert not ended.value.code
    shown = capsys.readouterr().out
    for words in ("PyTorch FP32", "cpu INT8", "rtx FP16", "mask AP", "4 held-out scenes"):
        assert words in shown
